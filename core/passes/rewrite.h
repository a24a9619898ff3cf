/* Rewriting: a new graph from an old one, live nodes in order, equal nodes once. */
#ifndef GB_CORE_PASSES_REWRITE_H
#define GB_CORE_PASSES_REWRITE_H

#include "core/ir/ir.h"

typedef struct gb_rewrite {
    const gb_graph *from;
    gb_graph *to;
    gb_value *map;        /* by value of from: its counterpart, GB_NONE before it is made */
    char *live;           /* by node of from: an output or update depends on it */
    int *slot, n_slots;   /* hash table of nodes of to */
    gb_value *replaced;   /* by value of to: what stands for it, GB_NONE: itself */
    int n_replaced;
    bool apart;           /* equal nodes stay apart */
} gb_rewrite;

/* Sets up r with leaves copied; outputs and updates follow in gb_rewrite_end. */
bool gb_rewrite_begin(gb_rewrite *r, const gb_graph *from, gb_error *err);
/* Copies node n with mapped inputs, unless an equal one is there, and maps its outputs. */
void gb_rewrite_copy(gb_rewrite *r, const gb_node *n);
/* What stands for value v of the old graph; constants are copied when first asked for. */
gb_value gb_rewrite_value(gb_rewrite *r, gb_value v);
/* From now on `by` stands for value v of the new graph. */
void gb_rewrite_replace(gb_rewrite *r, gb_value v, gb_value by);
/* The new graph, or NULL with err filled. */
gb_graph *gb_rewrite_end(gb_rewrite *r, gb_error *err);

#endif
