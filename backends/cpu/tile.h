/* Fused expressions, interpreted over tiles that stay in L1.
 *
 * A tile is a linear range of the iteration space. An expression becomes a list of vector loops
 * over tiles; what does not change from tile to tile (constants, step scalars, per-channel vectors
 * and what is computed from them alone) is computed once a run. Compiled once, run many times by
 * many threads; a run allocates nothing. */
#ifndef GB_BACKENDS_CPU_TILE_H
#define GB_BACKENDS_CPU_TILE_H

#include <gimbal/status.h>

#include "backends/cpu/loops/loops.h"
#include "backends/cpu/walk.h"

#define GB_TILE_MAX 1024

typedef struct gb_tile_port {
    bool block; /* dense, and not there before the run: a block that a kernel has just made */
    gb_storage storage;
    int64_t stride[GB_MAX_RANK]; /* by the step's axes */
    int place;                   /* ports with equal, positive places are the same window */
} gb_tile_port;

typedef struct gb_tile_desc {
    const gb_loops *loops;
    const gb_expr *expr;
    gb_cpu_space space;
    gb_tile_port in[GB_MAX_STEP_IN], out[GB_MAX_STEP_OUT];
    bool results;     /* leave the outputs in tiles for `after`: out is not used */
    int64_t multiple; /* tiles are a multiple of this, unless it exceeds GB_TILE_MAX; 0: no wish */
} gb_tile_desc;

/* Ports for the operands of a step; which of them are one window is found by buffer and offset. */
void gb_tile_bind_step(gb_tile_desc *desc, const gb_step *step);

/* A node that is max(x, c) or min(x, c) of a constant c, or spells that as x < c ? c : x or the
 * other way round (a NaN stays one): GB_P_MAX or GB_P_MIN, x and c among the nodes. Else
 * GB_P_SELECT. */
gb_prim gb_tile_limit(const gb_enode *nodes, const gb_enode *n, int *x, int *c);

typedef struct gb_tile_prog gb_tile_prog;

gb_status gb_tile_compile(const gb_tile_desc *desc, gb_tile_prog **prog, gb_error *err);
void gb_tile_free(gb_tile_prog *prog);
int64_t gb_tile_size(const gb_tile_prog *prog);         /* elements */
size_t gb_tile_scratch_bytes(const gb_tile_prog *prog); /* a thread's */
int gb_tile_loops(const gb_tile_prog *prog);            /* vector loops a tile: its cost */

/* Pointers to element [0, 0, …] of each port. */
typedef struct gb_tile_env {
    const void *in[GB_MAX_STEP_IN];
    void *out[GB_MAX_STEP_OUT];
} gb_tile_env;

/* Once a run, by one thread: computes what is the same for all tiles. scalars may be NULL if the
 * expression has none. */
void gb_tile_prepare(gb_tile_prog *prog, const gb_tile_env *env, const void *scalars,
                     void *scratch);

/* result[k]: n elements of output k at `start`. */
typedef void (*gb_tile_after)(void *ctx, int64_t start, int64_t n, const void *const *result);

/* Computes [start, end). after and ctx only where the outputs are results. */
void gb_tile_run(const gb_tile_prog *prog, const gb_tile_env *env, int64_t start, int64_t end,
                 void *scratch, gb_tile_after after, void *ctx);

/* The same in two steps, for many short ranges: what a scratch needs once, and each range. */
void gb_tile_begin(const gb_tile_prog *prog, void *scratch);
void gb_tile_range(const gb_tile_prog *prog, const gb_tile_env *env, int64_t start, int64_t end,
                   void *scratch, gb_tile_after after, void *ctx);
#endif
