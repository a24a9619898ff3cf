/* Parts of recompute.c. */
#ifndef GB_CORE_PASSES_RECOMPUTE_H
#define GB_CORE_PASSES_RECOMPUTE_H

#include <string.h>

#include "core/passes/live.h"

/* Of the backward run or an update. */
static inline bool gb_is_late(const gb_node *n)
{
    return strcmp(n->phase, "forward") != 0;
}

static inline bool gb_is_pointwise(const gb_node *n)
{
    return n->compute && strcmp(n->op->name, "Pointwise") == 0;
}

static inline bool gb_is_compute(const gb_node *n)
{
    return gb_is_pointwise(n) || (n->compute && strcmp(n->op->name, "Reduce") == 0);
}

/* Has v as many elements as the space: what costs memory traffic. */
static inline bool gb_is_large(const gb_graph *g, gb_value v, const gb_shape *space)
{
    return gb_shape_count(gb_shape_ptr(g, v)) == gb_shape_count(space);
}

/* Late readers of a pointwise value that have all its large operands compute it themselves. Adds
 * to saved, by value, how many do so now. */
void gb_compute_in_readers(gb_graph *g, int *saved);

/* A new graph in which late readers of the values whose root is dropped read copies, that are made
 * where they are first wanted. where: by value of g, its counterpart, not the copy. */
gb_graph *gb_drop(const gb_graph *g, const gb_live *live, const char *dropped, gb_value *where,
                  gb_error *err);

#endif
