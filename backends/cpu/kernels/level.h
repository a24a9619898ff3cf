/* For sources that are compiled once for each instruction level: the vector type, the size of a
 * register tile, and the suffix that keeps the copies apart. */
#ifndef GB_BACKENDS_CPU_KERNELS_LEVEL_H
#define GB_BACKENDS_CPU_KERNELS_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__AVX512F__)
#define LEVEL(name) name##_avx512
enum { LANES = 16, TILE_ROWS = 12 };
#elif defined(__AVX2__)
#define LEVEL(name) name##_avx2
enum { LANES = 8, TILE_ROWS = 6 };
#else
#define LEVEL(name) name##_baseline
enum { LANES = 4, TILE_ROWS = 6 };
#endif

/* A tile of c is up to TILE_ROWS rows of up to TILE_COLS columns: two vectors a row fill the
 * register file with accumulators. */
enum { TILE_COLS = 2 * LANES };

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float vec_at __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline vec load(const float *p)
{
    return *(const vec_at *)p;
}

static inline void store(float *p, vec v)
{
    *(vec_at *)p = v;
}

static inline int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static inline int64_t ceil_div(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

static inline int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Where a tile goes: row i at c[i] + col, `cols` columns. A tile narrower than its vectors is
 * written without touching what follows. */
typedef struct tile_out {
    float *const *c;
    int64_t col;
    int rows, cols;
    bool accumulate;
} tile_out;

/* b: the rows of the right operand, ldb apart, padded to a multiple of LANES columns. */

/* Sums over `segments` runs of k; in each, row i of the left operand is contiguous, `run` floats
 * at a[i] + offset[s]. */
void LEVEL(gb_tile_rows)(const tile_out *out, const float *const *a, const int64_t *offset,
                         int64_t segments, int64_t run, const float *b, int64_t ldb);

/* Sums over three nested counts of k; the left operand has its rows side by side at a, and the
 * strides (in floats) say how far a and b move with each count, innermost last. */
typedef struct tile_steps {
    int64_t count[3], a[3], b[3];
} tile_steps;

void LEVEL(gb_tile_columns)(const tile_out *out, const float *a, const float *b,
                            const tile_steps *steps);

#endif
