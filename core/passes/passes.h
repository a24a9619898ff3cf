/* Passes: from a graph that a user built to a plan that a backend runs.
 *
 *   expand   composites and pointwise operators become core operators; equal nodes are shared,
 *            dead ones dropped
 *   fold     what is constant is evaluated
 *   scale    filters take over scales by channel, where no state changes
 *   masks    what masks the gradient of a maximum masks its operand
 *   fuse     pointwise chains join; into reductions as prologues, into contractions as epilogues
 *   precision values that may are marked to lie in memory as 16-bit floats
 *   recompute what is cheaper to compute again than to keep is dropped after the forward run
 *   order    what frees memory runs early
 *   lower    values get memory layouts, nodes become steps (gb_make_plan)
 *   fixed    finds steps that need not run each time
 *   memory   transient values are packed into arenas (memory.c) */
#ifndef GB_CORE_PASSES_PASSES_H
#define GB_CORE_PASSES_PASSES_H

#include "core/ir/ir.h"
#include "core/ir/lowering.h"
#include "core/ir/plan.h"
#include "core/passes/live.h"

/* Each makes a new graph; free it with gb_graph_destroy. NULL on failure. */
gb_graph *gb_expand(const gb_graph *g, gb_error *err);
gb_graph *gb_fold(const gb_graph *g, gb_error *err);
gb_graph *gb_fuse(const gb_graph *g, gb_error *err);
/* Marks values as small and has contractions (everywhere: all operators) read small operands. */
gb_graph *gb_mix_precision(const gb_graph *g, gb_storage small, bool everywhere, gb_error *err);
/* Takes the place of g, in which filters have taken over scales by channel, if it changes no state.
 */
gb_graph *gb_scale_filters(gb_graph *g, gb_error *err);
/* Takes the place of g, in which masks of gradients of MaxPool have moved before them. */
gb_graph *gb_move_masks(gb_graph *g, gb_error *err);
/* Finds what need not be computed in each run (gb_step.once). False: no memory. */
bool gb_find_fixed(gb_plan *plan);
/* Puts the nodes of g into another order. False on failure. */
bool gb_order(gb_graph *g, gb_error *err);

typedef struct gb_recomputed {
    int values; /* that are dropped after the forward run and made again */
    uint64_t bytes;
} gb_recomputed;
/* g is changed: readers may compute what they have read. budget: as much as transient values should
 * take at most, by estimate; more is dropped then as long as it helps. 0: what costs no time alone.
 * Orders the nodes too. */
gb_graph *gb_recompute(gb_graph *g, uint64_t budget, gb_recomputed *done, gb_error *err);

/* Parts of gb_recompute. Late readers of a pointwise value that have all its large operands compute
 * it themselves. Adds to saved, by value, how many do so now. */
void gb_compute_in_readers(gb_graph *g, int *saved);
/* A new graph in which late readers of the values whose root is dropped read copies, that are made
 * where they are first wanted. where: by value of g, its counterpart, not the copy. */
gb_graph *gb_drop(const gb_graph *g, const gb_live *live, const char *dropped, gb_value *where,
                  gb_error *err);

typedef struct gb_lower_options { /* zero-initialized: the defaults */
    bool no_fusion;               /* one step per core operator */
    bool lean;                    /* nothing is kept between runs to save work */
    uint64_t budget;              /* of transient values, see gb_recompute */
    gb_storage small;             /* F16, BF16: mixed precision; F32 (0): none */
    bool small_everywhere;
} gb_lower_options;

/* Lowers a graph of core operators, in the order of its nodes. Takes g. */
gb_status gb_make_plan(gb_graph *g, bool lean, gb_plan **plan, gb_error *err);

/* The whole way to a plan in which every storage is a buffer of its own. Free with gb_plan_free. */
gb_status gb_lower(const gb_graph *g, const gb_lower_options *options, gb_plan **plan,
                   gb_error *err);

#endif
