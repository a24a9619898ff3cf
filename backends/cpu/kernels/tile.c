/* The two register-tile kernels that all contractions come down to. */
#include <string.h>

#include "backends/cpu/kernels/level.h"

/* One copy for every number of rows and vectors, so that the accumulators stay in registers. */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

INLINE void write_row(float *c, const vec *acc, int vectors, int cols, bool accumulate)
{
    if (cols == vectors * LANES) {
        UNROLL for (int v = 0; v < vectors; v++)
        {
            float *p = c + v * LANES;
            store(p, accumulate ? load(p) + acc[v] : acc[v]);
        }
        return;
    }
    float wide[TILE_COLS] = {0};
    UNROLL for (int v = 0; v < vectors; v++) store(wide + v * LANES, acc[v]);
    for (int j = 0; j < cols; j++) c[j] = accumulate ? c[j] + wide[j] : wide[j];
}

/* Steps of k ahead of the one at hand whose part of B is asked for: B comes from a cache that takes
 * hundreds of cycles to answer, and what fetches ahead by itself begins anew with every panel. */
enum { ROWS_AHEAD = 256 / LANES, COLUMNS_AHEAD = 128 / LANES };

INLINE void ask_for(const float *b, int vectors)
{
    UNROLL for (int i = 0; i < vectors * LANES; i += 16) __builtin_prefetch(b + i, 0, 3);
}

INLINE void rows_kernel(const tile_out *out, const float *const *a, const int64_t *offset,
                        int64_t segments, int64_t run, const float *b, int64_t ldb, int rows,
                        int vectors)
{
    vec acc[TILE_ROWS][2] = {0};
    for (int64_t s = 0; s < segments; s++) {
        const float *p[TILE_ROWS];
        UNROLL for (int i = 0; i < rows; i++) p[i] = a[i] + offset[s];
#pragma GCC unroll 2
        for (int64_t k = 0; k < run; k++, b += ldb) {
            vec b0 = load(b), b1 = vectors > 1 ? load(b + LANES) : b0;
            ask_for(b + ROWS_AHEAD * ldb, vectors);
            UNROLL for (int i = 0; i < rows; i++)
            {
                float x = p[i][k];
                acc[i][0] += x * b0;
                if (vectors > 1) acc[i][1] += x * b1;
            }
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        write_row(out->c[i] + out->col, acc[i], vectors, out->cols, out->accumulate);
}

INLINE void columns_kernel(const tile_out *out, const float *a, const float *b,
                           const tile_steps *steps, int rows, int vectors)
{
    vec acc[TILE_ROWS][2] = {0};
    const int64_t a_step = steps->a[2], b_step = steps->b[2];
    for (int64_t i0 = 0; i0 < steps->count[0]; i0++)
        for (int64_t i1 = 0; i1 < steps->count[1]; i1++) {
            const float *pa = a + i0 * steps->a[0] + i1 * steps->a[1];
            const float *pb = b + i0 * steps->b[0] + i1 * steps->b[1];
#pragma GCC unroll 2
            for (int64_t k = 0; k < steps->count[2]; k++, pa += a_step, pb += b_step) {
                vec b0 = load(pb), b1 = vectors > 1 ? load(pb + LANES) : b0;
                ask_for(pb + COLUMNS_AHEAD * b_step, vectors);
                UNROLL for (int i = 0; i < rows; i++)
                {
                    float x = pa[i];
                    acc[i][0] += x * b0;
                    if (vectors > 1) acc[i][1] += x * b1;
                }
            }
        }
    UNROLL for (int i = 0; i < rows; i++)
        write_row(out->c[i] + out->col, acc[i], vectors, out->cols, out->accumulate);
}

#define FOR_ROWS_UP_TO_6(X) X(1) X(2) X(3) X(4) X(5) X(6)
#if defined(__AVX512F__)
#define FOR_ALL_ROWS(X) FOR_ROWS_UP_TO_6(X) X(7) X(8) X(9) X(10) X(11) X(12)
#else
#define FOR_ALL_ROWS(X) FOR_ROWS_UP_TO_6(X)
#endif

#define DEFINE_KERNELS(R)                                                                          \
    static void rows_##R##_1(const tile_out *out, const float *const *a, const int64_t *offset,    \
                             int64_t segments, int64_t run, const float *b, int64_t ldb)           \
    {                                                                                              \
        rows_kernel(out, a, offset, segments, run, b, ldb, R, 1);                                  \
    }                                                                                              \
    static void rows_##R##_2(const tile_out *out, const float *const *a, const int64_t *offset,    \
                             int64_t segments, int64_t run, const float *b, int64_t ldb)           \
    {                                                                                              \
        rows_kernel(out, a, offset, segments, run, b, ldb, R, 2);                                  \
    }                                                                                              \
    static void columns_##R##_1(const tile_out *out, const float *a, const float *b,               \
                                const tile_steps *steps)                                           \
    {                                                                                              \
        columns_kernel(out, a, b, steps, R, 1);                                                    \
    }                                                                                              \
    static void columns_##R##_2(const tile_out *out, const float *a, const float *b,               \
                                const tile_steps *steps)                                           \
    {                                                                                              \
        columns_kernel(out, a, b, steps, R, 2);                                                    \
    }
FOR_ALL_ROWS(DEFINE_KERNELS)

void LEVEL(gb_tile_rows)(const tile_out *out, const float *const *a, const int64_t *offset,
                         int64_t segments, int64_t run, const float *b, int64_t ldb)
{
    typedef void (*kernel)(const tile_out *, const float *const *, const int64_t *, int64_t,
                           int64_t, const float *, int64_t);
#define ENTRY(R) {rows_##R##_1, rows_##R##_2},
    static const kernel kernels[][2] = {FOR_ALL_ROWS(ENTRY)};
#undef ENTRY
    kernels[out->rows - 1][out->cols > LANES](out, a, offset, segments, run, b, ldb);
}

void LEVEL(gb_tile_columns)(const tile_out *out, const float *a, const float *b,
                            const tile_steps *steps)
{
    typedef void (*kernel)(const tile_out *, const float *, const float *, const tile_steps *);
#define ENTRY(R) {columns_##R##_1, columns_##R##_2},
    static const kernel kernels[][2] = {FOR_ALL_ROWS(ENTRY)};
#undef ENTRY
    kernels[out->rows - 1][out->cols > LANES](out, a, b, steps);
}
