/* What the lowerings of matrix products share. */
#ifndef GB_BACKENDS_GPU_MATMUL_H
#define GB_BACKENDS_GPU_MATMUL_H

#include "backends/gpu/space.h"

/* The space of batch axes of all operands, as few as possible. */
void gb_matmul_space(const gb_step *s, gb_space *batch);
/* Binds the operands as i0, i1, …, and o0 where with_output; batch is the space of batch axes,
 * which BATCH(index) walks. */
void gb_matmul_bind(gb_gk *k, const gb_step *s, bool with_output, gb_space *batch);
/* Defines K and the strides of A and B: A_ROW, A_K, B_K, B_COLUMN. */
void gb_matmul_sizes(gb_gk *k, const gb_step *s);
/* Defines RESULT: the epilogue on acc at (row, column), and its store. */
void gb_matmul_result(gb_gk *k, const gb_step *s);
int64_t gb_matmul_batches(const gb_step *s);

/* A product that was split along k: part[batch][share][row][column] becomes the result. */
gb_status gb_lower_split_join(gb_gpu_builder *b, int64_t shares);

#endif
