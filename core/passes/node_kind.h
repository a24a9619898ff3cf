/* What recomputing asks of nodes. */
#ifndef GB_CORE_PASSES_NODE_KIND_H
#define GB_CORE_PASSES_NODE_KIND_H

#include <string.h>

#include "core/ir/ir.h"

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

#endif
