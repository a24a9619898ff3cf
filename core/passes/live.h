/* What of a graph is alive when: storages, their bytes, and the sum of them in the order of nodes.
 * An estimate (scratch and copies are not known yet) that passes before lowering decide by. */
#ifndef GB_CORE_PASSES_LIVE_H
#define GB_CORE_PASSES_LIVE_H

#include "core/ir/ir.h"

typedef struct gb_live {
    const gb_graph *g;
    gb_value *root;    /* by value: the one whose storage it is a window of, mostly itself */
    uint64_t *bytes;   /* by root: in an arena; 0 for leaves, outputs, and new values of states */
    int *first, *last; /* by root: the node that makes it, and the last that reads it */
    uint64_t *sum;     /* by node: bytes alive while it runs */
    uint64_t peak;
    int peak_at; /* the first node with that many */
} gb_live;

/* False: no memory. gb_live_free in any case. */
bool gb_live_find(gb_live *l, const gb_graph *g);
void gb_live_free(gb_live *l);

#endif
