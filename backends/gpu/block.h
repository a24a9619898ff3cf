/* Contractions whose items keep a block of results in registers: what their texts share. */
#ifndef GB_BACKENDS_GPU_BLOCK_H
#define GB_BACKENDS_GPU_BLOCK_H

#include "backends/gpu/kernel.h"

typedef struct gb_block {
    int64_t m, n;      /* rows and columns of the result */
    int rows, columns; /* of it that one item computes */
    int64_t groups[3]; /* of the grid; [2] is the caller's count of batches or shares */
} gb_block;

/* Is the result large enough, and the grid one that the device can run? */
bool gb_block_applies(const gb_gpu_caps *caps, int64_t m, int64_t n);
gb_block gb_block_choose(const gb_gpu_caps *caps, int64_t m, int64_t n, int64_t batches);
/* Defines what the bodies use: M, N, BLOCK, ROW_AT(i) and COLUMN_AT(i) of the block (cut to those
 * there are), CLEAR, MULTIPLY (of x0 … with y0 …), and WRITE, which puts result, the text of a
 * store of acc at (row, column), for each of the block. */
void gb_block_define(gb_gk *k, const gb_block *b, const char *result);
/* Defines macro as text for each of n rows or columns, with their number for every $. */
void gb_block_each(gb_gk *k, const char *macro, int n, const char *text);

#endif
