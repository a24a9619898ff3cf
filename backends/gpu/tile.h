/* Contractions by tiles in shared memory, for real GPUs: a group computes bm × bn results; it
 * fetches the next bk rows of both operands into registers while it multiplies those that lie in
 * one of two buffers. What is fetched, and where results go, are texts of the lowering.
 *
 * Operands that are stored as f16 can stay so in shared memory, which halves what is kept and moved
 * there, and are multiplied in f32. Packed, two columns are multiplied by one instruction in f16:
 * sums of a few k, which are then added to f32. Products beyond 65504 overflow and small ones lose
 * bits, so that this is for gb_step.fast and results that are f16 themselves:
 * docs/decisions/0016-packed-f16.md. */
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

typedef enum gb_tile_form {
    GB_TILE_FLOATS,
    GB_TILE_HALVES, /* f16 in shared memory */
    GB_TILE_PACKED, /* and in arithmetic */
    GB_TILE_FORMS
} gb_tile_form;

/* A member of the families: a form and a size. */
#define GB_TILE(form, size) ((form) * (int)GB_TILE_SIZES + (size))

typedef struct gb_tile_side { /* A or B */
    bool along_side; /* neighbours in memory are rows of A, columns of B; else they are k */
    int width;       /* elements of one load: 1, or 4 neighbours */
    int loads;       /* of an item and round */
} gb_tile_side;

typedef struct gb_tile {
    gb_tile_form form;
    int64_t m, n;
    int bm, bn, bk, tm, tn; /* tm × tn results an item */
    int chain;              /* products in a row that are summed without another sum */
    int items;
    gb_tile_side a, b;
    int64_t groups[3];
} gb_tile;

/* Can the device run it, is it for such operands, and do its groups cover m × n? k: products that
 * one result adds up. */
bool gb_tile_applies(const gb_gpu_caps *caps, const gb_step *s, int member, int64_t m, int64_t n,
                     int64_t k);
/* Is it the size for such a result? Exactly one is. */
bool gb_tile_fits(const gb_gpu_caps *caps, int member, int64_t m, int64_t n, int64_t batches);
const char *gb_tile_name(int member);
gb_tile gb_tile_choose(int member, int64_t m, int64_t n, int64_t batches);
/* Turns that an item's loops take in one round of BK rows of k. */
int gb_tile_turns(const gb_tile *t);
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
