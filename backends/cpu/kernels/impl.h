/* What an implementation of contractions offers to the list in contraction.c. */
#ifndef GB_BACKENDS_CPU_KERNELS_IMPL_H
#define GB_BACKENDS_CPU_KERNELS_IMPL_H

#include "backends/cpu/kernels/contraction.h"

/* Operands that an implementation takes as 16-bit floats too. */
enum { GB_SMALL_FACTORS = 1 /* a and b */, GB_SMALL_RESULT = 2 };

struct gb_contraction_impl {
    const char *name;
    unsigned small;
    bool (*can)(const gb_cpu *cpu, const gb_contraction *problem);
    /* Where it can, is it faster than those after it? NULL: always. */
    bool (*wins)(const gb_contraction *problem);
    /* Fills scratch_bytes, and state if it keeps one. */
    gb_status (*prepare)(gb_contraction_plan *plan, gb_error *err);
    void (*release)(gb_contraction_plan *plan); /* frees state; NULL if there is none */
    void (*run)(const gb_contraction_plan *plan, const gb_contraction_args *args);
};

/* Rows and columns of c as its epilogue counts them. */
typedef struct gb_contraction_extent {
    int64_t rows, cols;
} gb_contraction_extent;

static inline gb_contraction_extent gb_contraction_extent_of(const gb_contraction *p)
{
    const gb_conv_dims *d = &p->conv;
    switch (p->kind) {
    case GB_GEMM:
        return (gb_contraction_extent){p->gemm.batch[0] * p->gemm.batch[1] * p->gemm.m, p->gemm.n};
    case GB_CONV_FORWARD:
        return (gb_contraction_extent){d->n * d->oh * d->ow, d->o};
    case GB_CONV_DATA:
        return (gb_contraction_extent){d->n * d->h * d->w, d->c};
    case GB_CONV_WEIGHTS:
        break;
    }
    return (gb_contraction_extent){d->o, d->kh * d->kw * (d->c / d->groups)};
}

static inline float gb_limited(float x, float low, float high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* Applies an epilogue to one finished block. */
static inline void gb_epilogue_apply(const gb_epilogue *e, float *c, int64_t row0, int64_t rows,
                                     int64_t col0, int64_t cols, int64_t ldc)
{
    const float low = e->limits ? e->limits->low : 0, high = e->limits ? e->limits->high : 0;
    for (int64_t i = 0; (e->bias || e->limits) && i < rows; i++) {
        float *restrict r = c + i * ldc;
        const float *restrict bias = e->bias ? e->bias + col0 : NULL;
        if (e->bias && e->limits)
            for (int64_t j = 0; j < cols; j++) r[j] = gb_limited(r[j] + bias[j], low, high);
        else if (e->bias)
            for (int64_t j = 0; j < cols; j++) r[j] += bias[j];
        else
            for (int64_t j = 0; j < cols; j++) r[j] = gb_limited(r[j], low, high);
    }
    if (e->fn) e->fn(e->ctx, c, row0, rows, col0, cols, ldc);
}

extern const gb_contraction_impl gb_contraction_plain;
extern const gb_contraction_impl gb_contraction_onednn; /* where GB_WITH_ONEDNN is defined */

/* For each level, its implementations in order of preference; NULL at the end. */
extern const gb_contraction_impl *const gb_contraction_impls_baseline[];
extern const gb_contraction_impl *const gb_contraction_impls_avx2[];
extern const gb_contraction_impl *const gb_contraction_impls_avx512[];

#endif
