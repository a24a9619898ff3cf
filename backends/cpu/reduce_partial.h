/* Reductions: what their two ways of running share.
 *
 * Rows: the reduced axes are innermost, [kept][reduced]; each row ends in one number. Columns: some
 * kept axes are innermost, or groups of them are, [kept 1][reduced][kept 2][reduced few]; tiles are
 * accumulated in lanes that repeat the columns. Work is cut by shape alone and partial results are combined in a fixed order, in
 * f64. */
#ifndef GB_BACKENDS_CPU_REDUCE_PARTIAL_H
#define GB_BACKENDS_CPU_REDUCE_PARTIAL_H

#include "backends/cpu/cpu.h"
#include "backends/cpu/tile.h"

#define GB_REDUCE_TASK 65536 /* elements */

/* A partial result: of n values, their sum, product, extreme or mean; m2 = the sum of squared
 * distances to the mean. Integers fit into a double. */
typedef struct gb_partial {
    double n, v, m2;
} gb_partial;

typedef struct gb_reduce {
    const gb_loops *loops;
    gb_tile_prog *prog;
    int n_red, n_in, n_out;
    gb_combine red[GB_MAX_STEP_OUT];
    bool integer[GB_MAX_STEP_OUT];
    double scale[GB_MAX_STEP_OUT];
    gb_walk out[GB_MAX_STEP_OUT]; /* over the kept axes in the order of the loops */
    gb_storage out_storage[GB_MAX_STEP_OUT];
    int64_t outer, length, inner; /* kept 1, reduced, columns (1: rows) */
    int64_t fold;                 /* neighbouring columns that give one result */
    int64_t splits, split_length; /* of the reduced axes */
    int64_t block, blocks;        /* of the columns */
    int64_t group;                /* of kept 1, in one task */
    gb_partial *partial;          /* [kept][splits][n_red], where there are splits */
    int64_t width;                /* columns: lanes of an accumulator, a multiple of the block */
    int n_lanes;                  /* columns: accumulators */
} gb_reduce;

typedef struct gb_reduce_run {
    const gb_reduce *r;
    const gb_cpu_workers *workers;
    gb_tile_env env;
    void *const *out;
} gb_reduce_run;

static inline int64_t gb_reduce_kept(const gb_reduce *r)
{
    return r->outer * (r->inner / r->fold);
}

void gb_reduce_rows_task(void *ctx, int64_t task, int worker);
void gb_reduce_columns_task(void *ctx, int64_t task, int worker);
size_t gb_reduce_rows_scratch(const gb_reduce *r);
size_t gb_reduce_columns_scratch(const gb_reduce *r);

gb_partial gb_partial_empty(const gb_reduce *r, int red);
void gb_partial_add(const gb_reduce *r, int red, gb_partial *to, const gb_partial *x);
/* Writes results of `n` kept places from `first` on; p[i * n_red + red]. space: n numbers. */
void gb_reduce_store(const gb_reduce_run *run, int64_t first, int64_t n, const gb_partial *p,
                     void *space);

#endif
