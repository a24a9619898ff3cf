/* Contractions whose items keep a block of results in registers: what their texts share.
 *
 * In the plain style an item loads all that it multiplies, and neighbouring items have neighbouring
 * columns. In the style of lanes, for Vulkan drivers on CPUs, a group is one subgroup: its lanes
 * have neighbouring columns, each loads the rows' values for some rows only, and they are passed on
 * by broadcasts: there a load costs far more than what is done with it. For the same reason two
 * neighbouring values are one load wherever memory allows. */
#ifndef GB_BACKENDS_GPU_BLOCK_H
#define GB_BACKENDS_GPU_BLOCK_H

#include "backends/gpu/kernel.h"

typedef enum gb_pairs {
    GB_SINGLE,
    GB_PAIRS_OF_K,   /* a load brings two k of a row (of A) or column (of B) */
    GB_PAIRS_OF_SIDE /* or one k of two rows or columns */
} gb_pairs;

typedef struct gb_block {
    int64_t m, n;      /* rows and columns of the result */
    int rows, columns; /* of it that one item computes; with lanes, rows are the subgroup's */
    int lanes;         /* of the subgroup; 0: plain */
    int k_step;        /* k of one round: 2 where pairs of k are loaded */
    gb_pairs a, b;
    int64_t groups[3]; /* of the grid; [2] is the caller's count of batches or shares */
} gb_block;

/* Is the result large enough, and the grid one that the device can run? */
bool gb_block_applies(const gb_gpu_caps *caps, int64_t m, int64_t n);
bool gb_lanes_apply(const gb_gpu_caps *caps, int64_t m, int64_t n);
gb_block gb_block_choose(const gb_gpu_caps *caps, int64_t m, int64_t n, int64_t batches);
/* The same by lanes; a and b say how operands can be loaded. */
gb_block gb_block_lanes(const gb_gpu_caps *caps, int64_t m, int64_t n, int64_t batches, gb_pairs a,
                        gb_pairs b);
/* Does the operand lie so that pairs along axis are whole in memory? */
bool gb_block_pairs(const gb_gpu_caps *caps, const gb_operand *o, int axis);
/* Defines what the bodies use: M, N, BLOCK, ROW_AT(i) and COLUMN_AT(i) of load i (cut to those
 * there are), CLEAR, MULTIPLY, and WRITE, which puts result, the text of a store of acc at (row,
 * column), for each of the block. */
void gb_block_define(gb_gk *k, const gb_block *b, const char *result);
/* Defines macro as text for each load of rows (or columns), with its number for every $. */
void gb_block_each(gb_gk *k, const gb_block *b, const char *macro, bool rows, const char *text);

typedef struct gb_block_load {          /* texts with $ for the number of the load */
    const char *before, *place, *after; /* statements around it, and its element */
    const char *guard;                  /* what is false counts as 0; NULL: all is there */
} gb_block_load;
/* Defines LOAD_A or LOAD_B: from operand i0 or i1, whose next k is A_K or B_K elements on. */
void gb_block_loads(gb_gk *k, const gb_block *b, bool rows, gb_block_load load);

#endif
