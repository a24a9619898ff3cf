/* The order of nodes: what frees at least as much memory as it takes runs as soon as it can, the
 * rest in the order in which it was built. So a filter's gradient comes before the other one that
 * needs the same operand, and a parameter's update when its gradient is there, if nobody reads the
 * old value any more. */
#include <stdlib.h>
#include <string.h>

#include "core/passes/live.h"
#include "core/passes/passes.h"

typedef struct edge {
    int node; /* that waits */
    int next; /* of the same node waited for, -1: none */
} edge;

typedef struct order {
    gb_graph *g;
    gb_live live;
    int *left;  /* by root: nodes that have yet to read it */
    int *waits; /* by node: how many nodes it waits for; -1: it ran */
    int *edges; /* by node: the first of those that wait for it */
    edge *edge;
    int n_edges, cap_edges;
    int *ready, n_ready; /* nodes that wait for nothing */
    int *sequence, n;
} order;

static bool add_edge(order *o, int from, int to)
{
    if (o->n_edges == o->cap_edges) {
        int cap = o->cap_edges ? 2 * o->cap_edges : 1024;
        edge *grown = realloc(o->edge, (size_t)cap * sizeof *grown);
        if (!grown) return false;
        o->edge = grown;
        o->cap_edges = cap;
    }
    o->edge[o->n_edges] = (edge){.node = to, .next = o->edges[from]};
    o->edges[from] = o->n_edges++;
    o->waits[to]++;
    return true;
}

/* The new value of a state is written over the old one: after those that were to read that. */
static bool add_overwrites(order *o)
{
    const gb_graph *g = o->g;
    int *writer = calloc((size_t)g->n_values, sizeof *writer);
    bool ok = writer != NULL;
    for (int i = 0; ok && i < g->n_states; i++) {
        gb_value u = g->value[g->state[i]].update;
        if (u) writer[g->state[i]] = g->value[u].node + 1;
    }
    for (int i = 0; ok && i < g->n_nodes; i++)
        for (int k = 0; ok && k < g->node[i].n_in; k++) {
            int w = writer[o->live.root[g->node[i].in[k]]] - 1;
            if (w > i) ok = add_edge(o, i, w);
        }
    free(writer);
    return ok;
}

static bool add_edges(order *o)
{
    const gb_graph *g = o->g;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i].n_in; k++) {
            int p = g->value[g->node[i].in[k]].node;
            if (p >= 0 && !add_edge(o, p, i)) return false;
        }
    return add_overwrites(o);
}

/* Calls for each storage that node i reads, once. */
static gb_value read_storage(const order *o, int i, int k)
{
    const gb_node *n = &o->g->node[i];
    gb_value in = o->live.root[n->in[k]];
    for (int j = 0; j < k; j++)
        if (o->live.root[n->in[j]] == in) return GB_NONE;
    return in;
}

static bool frees_enough(const order *o, int i)
{
    const gb_node *n = &o->g->node[i];
    uint64_t freed = 0, taken = 0;
    if (n->op->view) return true;
    for (int k = 0; k < n->n_in; k++) {
        gb_value in = read_storage(o, i, k);
        if (o->left[in] == 1) freed += o->live.bytes[in];
    }
    for (int k = 0; k < n->n_out; k++) taken += o->live.bytes[n->out[k]];
    return freed >= taken;
}

static void drop_ready(order *o, int i)
{
    int at = 0;
    while (at < o->n_ready && o->ready[at] != i) at++;
    if (at == o->n_ready) return;
    o->n_ready--;
    memmove(o->ready + at, o->ready + at + 1, (size_t)(o->n_ready - at) * sizeof *o->ready);
}

static void run(order *o, int i)
{
    const gb_node *n = &o->g->node[i];
    o->sequence[o->n++] = i;
    o->waits[i] = -1;
    drop_ready(o, i);
    for (int k = 0; !n->op->view && k < n->n_in; k++) {
        gb_value in = read_storage(o, i, k);
        if (in) o->left[in]--;
    }
    for (int e = o->edges[i]; e >= 0; e = o->edge[e].next)
        if (--o->waits[o->edge[e].node] == 0) o->ready[o->n_ready++] = o->edge[e].node;
}

/* Everything that waits for node i comes later in the graph, so node i is ready in its turn. */
static void find_sequence(order *o)
{
    const gb_graph *g = o->g;
    for (int i = 0; i < g->n_nodes; i++) {
        if (o->waits[i] < 0) continue;
        run(o, i);
        for (int k = 0; k < o->n_ready; k++) {
            if (!frees_enough(o, o->ready[k])) continue;
            run(o, o->ready[k]);
            k = -1;
        }
    }
}

static bool apply(order *o)
{
    gb_graph *g = o->g;
    if (g->n_nodes == 0) return true;
    gb_node *node = malloc((size_t)g->n_nodes * sizeof *node);
    if (!node) return false;
    memcpy(node, g->node, (size_t)g->n_nodes * sizeof *node);
    for (int i = 0; i < o->n; i++) {
        g->node[i] = node[o->sequence[i]];
        for (int k = 0; k < g->node[i].n_out; k++) g->value[g->node[i].out[k]].node = i;
    }
    free(node);
    return true;
}

static bool allocate(order *o)
{
    size_t nodes = (size_t)o->g->n_nodes + 1, values = (size_t)o->g->n_values + 1;
    o->left = calloc(values, sizeof *o->left);
    o->waits = calloc(nodes, sizeof *o->waits);
    o->edges = malloc(nodes * sizeof *o->edges);
    o->ready = calloc(nodes, sizeof *o->ready);
    o->sequence = calloc(nodes, sizeof *o->sequence);
    if (!o->left || !o->waits || !o->edges || !o->ready || !o->sequence) return false;
    for (size_t i = 0; i < nodes; i++) o->edges[i] = -1;
    for (int i = 0; i < o->g->n_nodes; i++)
        for (int k = 0; !o->g->node[i].op->view && k < o->g->node[i].n_in; k++) {
            gb_value in = read_storage(o, i, k);
            if (in) o->left[in]++;
        }
    return true;
}

bool gb_order(gb_graph *g, gb_error *err)
{
    order o = {.g = g};
    bool ok = gb_live_find(&o.live, g) && allocate(&o) && add_edges(&o);
    if (ok) find_sequence(&o);
    ok = ok && apply(&o);
    gb_live_free(&o.live);
    free(o.left);
    free(o.waits);
    free(o.edges);
    free(o.edge);
    free(o.ready);
    free(o.sequence);
    if (!ok)
        gb_fail(err, GB_OUT_OF_MEMORY, NULL, "use a smaller model", "no memory to order the graph");
    return ok;
}
