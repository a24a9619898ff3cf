/* Contractions by tiles in shared memory, for real GPUs: a group computes bm × bn results; it
 * fetches the next bk rows of both operands into registers while it multiplies those that lie in
 * one of two buffers. What is fetched, and where results go, are texts of the lowering. */
#ifndef GB_BACKENDS_GPU_TILE_H
#define GB_BACKENDS_GPU_TILE_H

#include "backends/gpu/kernel.h"

typedef enum gb_tile_size {
    GB_TILE_128,
    GB_TILE_64,
    GB_TILE_32,
    GB_TILE_TALL, /* many rows, few columns */
    GB_TILE_FLAT, /* the other way round */
    GB_TILE_SIZES
} gb_tile_size;

typedef struct gb_tile_side { /* A or B */
    bool along_side; /* neighbours in memory are rows of A, columns of B; else they are k */
    int width;       /* elements of one load: 1, or 4 neighbours */
    int loads;       /* of an item and round */
} gb_tile_side;

typedef struct gb_tile {
    int64_t m, n;
    int bm, bn, bk, tm, tn; /* tm × tn results an item */
    int items;
    gb_tile_side a, b;
    int64_t groups[3];
} gb_tile;

/* Can the device run it, and do its groups cover m × n? */
bool gb_tile_applies(const gb_gpu_caps *caps, gb_tile_size size, int64_t m, int64_t n);
/* Is it the size for such a result? Exactly one is. */
bool gb_tile_fits(const gb_gpu_caps *caps, gb_tile_size size, int64_t m, int64_t n,
                  int64_t batches);
const char *gb_tile_name(gb_tile_size size);
gb_tile gb_tile_choose(gb_tile_size size, int64_t m, int64_t n, int64_t batches);
/* How operand o is fetched: side and k are its axes (-1: several); whole: neighbours along the side
 * may be fetched by fours (those along k always may). */
void gb_tile_operand(gb_tile *t, gb_gk *k, bool rows, const gb_operand *o, int side, int k_axis,
                     bool whole);

/* Statements and expressions for each load, with $ for its number. They may use row_$ and k_$ (A)
 * or column_$ and k_$ (B): its place in the result, and in the round's rows of k. */
typedef struct gb_tile_fetch {
    const char *setup; /* once */
    const char *each;  /* in each round, before */
    const char *guard; /* false: it counts as 0 */
    const char *place; /* the element */
} gb_tile_fetch;
void gb_tile_fetches(gb_gk *k, const gb_tile *t, bool rows, gb_tile_fetch fetch);
/* Everything else of shaders/tile.gk but PREPARE(round) and its first and last round: result is a
 * store of acc at (row, column). */
void gb_tile_define(gb_gk *k, const gb_tile *t, const char *result);

#endif
