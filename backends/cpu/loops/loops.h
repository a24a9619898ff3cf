/* Vector loops: one for each primitive and for some small trees of primitives, generated at build
 * time from the primitive table (gen_loops.c) and compiled for each instruction set. */
#ifndef GB_BACKENDS_CPU_LOOPS_H
#define GB_BACKENDS_CPU_LOOPS_H

#include <stdint.h>

#include "backends/cpu/cpuid.h"

#define GB_LOOP_LEAVES 8

/* p[0] is the result, p[1 …] the leaves: arrays of n elements of 4 bytes, or one element where the
 * loop's mode says 's'. The result may be one of the arrays. imm is that of the tree's root. */
typedef void (*gb_loop_fn)(int64_t n, void *const *p, double imm);

#define GB_LEAF 0x80

typedef struct gb_loop {
    gb_loop_fn fn;
    const uint8_t *code; /* the tree in prefix order: a gb_prim, or GB_LEAF + number of the leaf */
    const char *mode;    /* a letter a leaf: 'v' array, 's' one element */
    int prims;           /* primitives in the tree */
} gb_loop;

/* Accumulates n elements into lanes: element i goes into acc[(lane + i) % width]. */
typedef void (*gb_accumulate_fn)(const void *x, int64_t n, int64_t lane, int64_t width, void *acc);
enum { GB_ACC_SUM, GB_ACC_PROD, GB_ACC_MAX, GB_ACC_MIN, GB_ACC_COUNT };

typedef struct gb_window_rows { /* one output pixel of a pool: its taps, in (h, w) order */
    const float *const *tap;    /* rows of c channels */
    const int32_t *position;    /* h * W + w of each tap */
    int taps;
} gb_window_rows;

typedef struct gb_window_sums { /* one input pixel: rows of c channels of the windows over it */
    const float *const *dy;
    const int32_t *const *index; /* of each, for maxima */
    const float *scale;          /* for averages */
    int windows;
} gb_window_sums;

/* What is generated, and the loops written by hand (loops.c). */
typedef struct gb_loops {
    const gb_loop *loop; /* trees with more primitives come first */
    int n;
    gb_loop_fn copy, fill; /* p[0] = p[1]; fill takes one element */
    double (*sum)(const float *x, int64_t n);
    double (*square_sum)(const float *x, int64_t n, float shift); /* of (x - shift)^2 */
    float (*max)(const float *x, int64_t n); /* n > 0; a NaN wins, like gb_fmax */
    float (*min)(const float *x, int64_t n);
    gb_accumulate_fn accumulate[GB_ACC_COUNT], accumulate_int[GB_ACC_COUNT];
    /* sum and squares of x - shift, by lane */
    void (*accumulate_moments)(const float *x, int64_t n, int64_t lane, int64_t width,
                               const float *shift, float *sum, float *squares);
    void (*max_pool)(const gb_window_rows *w, int64_t c, float *y, int32_t *index);
    void (*average_pool)(const gb_window_rows *w, int64_t c, float divisor, float *y);
    /* One pixel of dx: the sum of dy over the windows that cover it, where index == position, or
     * times a scale. */
    void (*max_pool_grad)(const gb_window_sums *w, int32_t position, int64_t c, float *dx);
    void (*average_pool_grad)(const gb_window_sums *w, int64_t c, float *dx);
    /* For the peaks: rounds of multiply-adds (returns their number of flops), and y = a + s b. */
    double (*multiply_adds)(int64_t rounds, float *sink);
    void (*triad)(const float *a, const float *b, float s, int64_t n, float *y);
    void (*add_scaled)(const float *x, float scale, int64_t n, float *y); /* y += scale * x */
} gb_loops;

const gb_loops *gb_loops_for(gb_isa isa);

/* Conversions of n 16-bit floats, rounded to nearest even: equal on all instruction sets, but for
 * the bits of NaN. */
typedef struct gb_halves {
    void (*widen)(const uint16_t *x, int64_t n, float *y);
    void (*narrow)(const float *x, int64_t n, uint16_t *y);
} gb_halves;

const gb_halves *gb_halves_for(gb_isa isa); /* f16, bf16 */

#endif
