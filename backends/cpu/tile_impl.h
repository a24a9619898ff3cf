/* What tile_compile.c and tile_run.c share. */
#ifndef GB_BACKENDS_CPU_TILE_IMPL_H
#define GB_BACKENDS_CPU_TILE_IMPL_H

#include "backends/cpu/tile.h"

/* How a value changes from tile to tile: it is one element, a tile that repeats, or neither. */
typedef enum gb_tile_class { GB_UNIFORM, GB_PERIODIC, GB_VARYING } gb_tile_class;

/* Where a value lies: at a place that stays (constants, periodic tiles, slots), or moving with the
 * tile (dense operands). */
typedef enum gb_place {
    GB_AT_NONE,
    GB_AT_CONST,  /* one element, computed once a run */
    GB_AT_PERIOD, /* a tile, computed once a run */
    GB_AT_SLOT,
    GB_AT_IN, /* index: port */
    GB_AT_OUT
} gb_place;

typedef struct gb_value {
    gb_place place;
    int index;
} gb_value;

typedef enum gb_tile_op {
    GB_TILE_LOOP,  /* value[0] = fn(value[1], …) */
    GB_TILE_LOAD,  /* value[0] = the port's elements */
    GB_TILE_COORD, /* value[0] = coordinates; port counts in coord */
    GB_TILE_STORE, /* the port's elements = value[1] */
    GB_TILE_SET    /* value[0] = imm or a step scalar, by prim */
} gb_tile_op;

typedef struct gb_instr {
    gb_tile_op op;
    gb_prim prim;
    int n_args, port;
    uint16_t value[1 + GB_LOOP_LEAVES];
    gb_loop_fn fn;
    double imm;
} gb_instr;

typedef struct gb_code {
    gb_instr *instr;
    int n;
} gb_code;

struct gb_tile_prog {
    int64_t tile, count;
    int n_out; /* results; 0: outputs go to ports */
    gb_walk in[GB_MAX_STEP_IN], out[GB_MAX_STEP_OUT];
    gb_walk *coord;
    int n_coord;
    gb_value *value;
    int n_values, n_slots, n_consts, n_periods;
    gb_code once_const, once_period, each;
    uint16_t *moving; /* the values whose pointers change from tile to tile */
    int n_moving;
    uint16_t result[GB_MAX_STEP_OUT];
    char *constants; /* periods, then single elements */
};

/* Rewrites an expression into one that takes fewer passes; class: of its nodes. Free out->node. */
gb_status gb_tile_rewrite(const gb_expr *e, const uint8_t *class, gb_expr *out, gb_error *err);

#endif
