/* Contractions on the CPU: matrix products and convolutions with their gradients.
 *
 * All arithmetic is f32, on plain pointers; images are N,H,W,C in memory, filters O,KH,KW,C/groups.
 * A contraction is planned once (which implementation, how much scratch) and run many times; a
 * run allocates nothing and cannot fail. Results depend on the problem, the implementation and the
 * instruction level, never on the number of threads. */
#ifndef GB_BACKENDS_CPU_KERNELS_CONTRACTION_H
#define GB_BACKENDS_CPU_KERNELS_CONTRACTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gimbal/status.h>

#include "backends/cpu/cpuid.h"
#include "backends/cpu/pool.h"

/* Where contractions run. isa may be lowered below gb_isa_best() for tests. Plain data; the pool
 * must outlive the plans made with it. */
typedef struct gb_cpu {
    gb_pool *pool;
    gb_isa isa;
    bool fast_winograd; /* allow F(4x4): faster, 4 to 10 times larger rounding errors */
} gb_cpu;

/* C[b][i][j] = sum over k of A[b][i][k] * B[b][k][j]. Strides are in elements; the columns of C
 * are contiguous. Two batch levels (use 1 for what is not there); a stride of 0 broadcasts. */
typedef struct gb_gemm_dims {
    int64_t m, n, k;
    int64_t batch[2];
    int64_t a_row, a_col, a_batch[2];
    int64_t b_row, b_col, b_batch[2];
    int64_t c_row, c_batch[2];
} gb_gemm_dims;

/* x[n][h][w][c], y[n][oh][ow][o], weights[o][kh][kw][c / groups]. Padding at the bottom and at
 * the right follows from oh and ow. A 1-D convolution has h = oh = kh = 1. */
typedef struct gb_conv_dims {
    int64_t n, h, w, c;
    int64_t oh, ow, o;
    int64_t kh, kw, groups;
    int64_t stride_h, stride_w;
    int64_t dilation_h, dilation_w;
    int64_t pad_top, pad_left;
} gb_conv_dims;

/* What the elements of an operand are in memory. */
typedef enum gb_real { GB_REAL_F32, GB_REAL_F16, GB_REAL_BF16 } gb_real;

typedef enum gb_contraction_kind {
    GB_GEMM,         /* a = A,  b = B,       c = C */
    GB_CONV_FORWARD, /* a = x,  b = weights, c = y */
    GB_CONV_DATA,    /* a = dy, b = weights, c = dx */
    GB_CONV_WEIGHTS  /* a = dy, b = x,       c = dw */
} gb_contraction_kind;

typedef struct gb_contraction {
    gb_contraction_kind kind;
    bool b_stays;    /* over many runs: what is made of it costs nothing, see packed */
    bool accumulate; /* add to what c holds; else c is overwritten, whatever it holds */
    /* In a plan: what its implementation takes, which may be f32 instead of a 16-bit type. */
    gb_real a_type, b_type, c_type;
    union {
        gb_gemm_dims gemm;
        gb_conv_dims conv;
    };
} gb_contraction;

/* Called by a worker on every finished block of c while it is in cache; together the blocks cover
 * c exactly once. c points at the block's first element, its rows lie ldc apart: in the result, or
 * in scratch before it is rounded to 16 bits.
 * Row and column by kind: GEMM (b0 * batch[1] + b1) * m + i, j; forward: pixel of y, output
 * channel; data: pixel of x, input channel; weights: output channel, position in its filter. */
typedef void (*gb_epilogue_fn)(void *ctx, float *c, int64_t row0, int64_t rows, int64_t col0,
                               int64_t cols, int64_t ldc);

/* min(max(c, low), high); NaN stays NaN. ReLU: 0 and infinity. */
typedef struct gb_limits {
    float low, high;
} gb_limits;

/* What happens to finished blocks, in this order; all zero = nothing. */
typedef struct gb_epilogue {
    const float *bias;       /* one a column, or NULL */
    const gb_limits *limits; /* or NULL */
    gb_epilogue_fn fn; /* or NULL */
    void *ctx;
} gb_epilogue;

/* a, b and c are of the plan's types, cast. c overlaps neither a nor b. scratch is aligned to 64
 * bytes, of plan->scratch_bytes; its content does not matter before and means nothing after. */
typedef struct gb_contraction_args {
    const float *a, *b;
    float *c;
    gb_epilogue epilogue;
    void *scratch;
    /* Where b is packed, plan->packed_bytes aligned to 64; NULL: in scratch. ready: it holds what
     * an earlier run of the plan has made there of the same b. */
    float *packed;
    bool ready;
} gb_contraction_args;

typedef struct gb_contraction_impl gb_contraction_impl;

typedef struct gb_contraction_plan {
    gb_contraction problem;
    gb_cpu cpu;
    const gb_contraction_impl *impl;
    void *state;                        /* the implementation's own, or NULL */
    size_t scratch_bytes, packed_bytes; /* packed: 0 if b is used as it is */
} gb_contraction_plan;

/* Chooses an implementation (the first of the preferred order that can do the problem, or the one
 * called `name` if that is not NULL) and fills the plan. Dimensions must fit each other; any of
 * them may be 0. GB_NOT_FOUND: no implementation has that name; GB_UNSUPPORTED: the named one
 * cannot do this problem. */
gb_status gb_contraction_plan_make(const gb_cpu *cpu, const gb_contraction *problem,
                                   const char *name, gb_contraction_plan *plan, gb_error *err);

/* The name of implementation number index of those that can do the problem and are made for speed;
 * NULL past the end. */
const char *gb_contraction_candidate(const gb_cpu *cpu, const gb_contraction *problem,
                                     size_t index);

void gb_contraction_plan_free(gb_contraction_plan *plan);

/* Runs a plan. Several threads may run plans at a time, one plan too if each has its own scratch;
 * they share the pool. */
void gb_contraction_run(const gb_contraction_plan *plan, const gb_contraction_args *args);

/* The names of all implementations of this build, in no particular order; NULL past the end. */
const char *gb_contraction_impl_name(size_t index);

/* The name of the implementation that a plan uses. */
const char *gb_contraction_plan_name(const gb_contraction_plan *plan);

#endif
