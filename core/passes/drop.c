/* Values that are dropped after the forward run, and made again from others for their late readers.
 */
#include <stdlib.h>

#include "core/passes/passes.h"
#include "core/passes/node_kind.h"
#include "core/passes/rewrite.h"

/* A copy is made where it is first wanted, once for the backward run and, if that is cheap, once
 * more for the copies that are made from it: these may come long before. */
typedef enum use { FOR_READERS, FOR_COPIES, USES } use;

typedef struct drops {
    const gb_graph *g;
    const gb_live *live;
    const char *dropped;  /* by root */
    gb_value *copy[USES]; /* by value: in the new graph */
    gb_rewrite r;
} drops;

static bool is_cheap(const gb_node *n)
{
    return n->op->view || (gb_is_pointwise(n) && !gb_expr_is_costly(n->compute->expr));
}

static gb_value want_copy(drops *d, gb_value v, use use);

/* Copies node n into the new graph, with copies of what is dropped among its inputs. */
static void emit_late(drops *d, const gb_node *n, use use)
{
    gb_value *kept = calloc((size_t)n->n_in + 1, 2 * sizeof *kept), *in = kept + n->n_in;
    if (!kept) {
        gb_graph_fail(d->r.to, GB_OUT_OF_MEMORY, NULL, "no memory to compile the graph");
        return;
    }
    for (int k = 0; k < n->n_in; k++) in[k] = want_copy(d, n->in[k], use);
    for (int k = 0; k < n->n_in; k++) {
        kept[k] = d->r.map[n->in[k]];
        if (in[k]) d->r.map[n->in[k]] = in[k];
    }
    gb_rewrite_copy(&d->r, n);
    for (int k = n->n_in - 1; k >= 0; k--)
        if (kept[k]) d->r.map[n->in[k]] = kept[k];
    free(kept);
}

/* GB_NONE: v is not dropped. */
static gb_value want_copy(drops *d, gb_value v, use use)
{
    if (!d->dropped[d->live->root[v]] || gb_graph_failed(d->r.to)) return GB_NONE;
    if (d->copy[use][v]) return d->copy[use][v];
    gb_node n = d->g->node[d->g->value[v].node];
    gb_value kept[GB_MAX_STEP_OUT];
    bool cheap = is_cheap(&n);
    n.phase = "backward";
    for (int k = 0; k < n.n_out; k++) kept[k] = d->r.map[n.out[k]];
    emit_late(d, &n, cheap ? use : FOR_COPIES);
    for (int k = 0; k < n.n_out; k++) {
        gb_value made = d->r.map[n.out[k]];
        d->r.map[n.out[k]] = kept[k];
        for (int u = 0; u < USES; u++)
            if (!cheap || u == (int)use) d->copy[u][n.out[k]] = made;
    }
    return d->copy[use][v];
}

gb_graph *gb_drop(const gb_graph *g, const gb_live *live, const char *dropped, gb_value *where,
                  gb_error *err)
{
    drops d = {.g = g, .live = live, .dropped = dropped};
    size_t values = (size_t)g->n_values + 1;
    for (int u = 0; u < USES; u++) d.copy[u] = calloc(values, sizeof *d.copy[u]);
    gb_graph *result = NULL;
    if (!d.copy[FOR_READERS] || !d.copy[FOR_COPIES]) {
        gb_fail(err, GB_OUT_OF_MEMORY, NULL, "use a smaller model",
                "no memory to compile the graph");
    } else if (gb_rewrite_begin(&d.r, g, err)) {
        d.r.apart = true;
        for (int i = 0; i < g->n_nodes && !gb_graph_failed(d.r.to); i++)
            if (gb_is_late(&g->node[i]))
                emit_late(&d, &g->node[i], FOR_READERS);
            else
                gb_rewrite_copy(&d.r, &g->node[i]);
        memcpy(where, d.r.map, (size_t)g->n_values * sizeof *where);
        result = gb_rewrite_end(&d.r, err);
    }
    for (int u = 0; u < USES; u++) free(d.copy[u]);
    return result;
}
