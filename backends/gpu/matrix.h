/* Contractions on matrix units (shaders/matrix.gk): which steps they can run, and how. Both
 * operands are f16, or both are bf16. Sums go to scratch, and a join applies the step's expression:
 * the text of the kernel is compiled offline, so it knows neither shapes nor expressions. Where a
 * device has no matrix units the same kernel multiplies in loops, for checks. */
#ifndef GB_BACKENDS_GPU_MATRIX_H
#define GB_BACKENDS_GPU_MATRIX_H

#include "backends/gpu/manifest.h"

typedef enum gb_matrix_size {
    GB_MATRIX_128,
    GB_MATRIX_64,
    GB_MATRIX_32,
    GB_MATRIX_SIZES
} gb_matrix_size;

enum { GB_MATRIX_BK = 32 }; /* rows of k that a round multiplies */

/* One contraction as products of matrices; a side of the result that is images is its pixels. */
typedef struct gb_matrix_task {
    int64_t m, n, k; /* of one batch item or group; k of one place of a filter */
    int64_t batches, rounds;
    int64_t shares, share; /* sums that are added up, and the rounds of one */
    int64_t count;         /* sums of a share, in all batches */
} gb_matrix_task;

/* How a group's subgroups share its SIZE × SIZE sums. */
typedef struct gb_matrix_tile {
    int size, items;
    int tm, tn, tk, lanes; /* a subgroup's matrices */
    int across, wm, wn;    /* subgroups side by side; matrices of one, down and across */
    bool units;            /* else loops */
} gb_matrix_tile;

/* What gb_gpu_units.works has of a kernel. */
static inline uint32_t gb_matrix_bit(gb_step_kind kind, gb_matrix_size size)
{
    return 1u << ((int)(kind - GB_STEP_MATMUL) * GB_MATRIX_SIZES + (int)size);
}

gb_matrix_task gb_matrix_task_of(const gb_gpu_caps *caps, const gb_step *s, gb_matrix_size size);
/* False: the device's units for operands of that type, or its limits, do not allow that size. */
bool gb_matrix_tile_of(const gb_gpu_caps *caps, gb_step_kind kind, gb_storage type,
                       gb_matrix_size size, gb_matrix_tile *t);
const char *gb_matrix_name(gb_step_kind kind, gb_matrix_size size);

#endif
