/* Recompute: what the backward run reads of the forward run is computed again where that is cheaper
 * than keeping it.
 *
 * First, always: a reader that has all the large operands of a pointwise value computes the value
 * itself instead of reading it (the mask of a ReLU after a normalization: one stream of memory
 * less). What this saves pays for more: a value of which then only other kinds of steps are left as
 * late readers is dropped after the forward run and made again just before them. A hundredth of the
 * time is spent on further values where that saves a tenth of the memory.
 *
 * Then, within a budget: as long as the most that is alive at once is too much, the value that
 * costs the least time a byte is dropped; or everything between a few positions is (the checkpoints
 * of Chen et al. 2016), where that fits and costs less. Every value is pure: its copy has the same
 * bits, since it is the same step on the same operands. */
#include "core/passes/node_kind.h"

#include <stdlib.h>

#include "core/passes/passes.h"

enum { MAX_SEGMENTS = 24, MIN_BYTES = 16 << 10, SHARE = 32 };
/* Of a run's time, for copies that nobody asked for, which must save so many times more of the
 * memory. */
#define ALLOWANCE 0.01
#define WORTH 10

typedef struct choice {
    const gb_graph *g;
    gb_live live;
    int *late;     /* by root: nodes of the backward run that read it, or that its copy serves */
    char *fixed;   /* by root: an output, or a state's new value */
    char *dropped; /* by root */
    double cost;   /* of all copies, see cost_of */
} choice;

/* Time of a node, in bytes of memory traffic: a float operation is worth a
 * twenty-fifth of one (convolutions by Winograd's algorithm beside steps that wait for memory). */
static double cost_of(const gb_graph *g, const gb_node *n)
{
    double bytes = 0, flops = 0, out = (double)gb_shape_count(gb_shape_ptr(g, n->out[0]));
    if (n->op->view) return 0;
    for (int k = 0; k < n->n_in; k++)
        bytes += 4.0 * (double)gb_shape_count(gb_shape_ptr(g, n->in[k]));
    for (int k = 0; k < n->n_out; k++)
        bytes += 4.0 * (double)gb_shape_count(gb_shape_ptr(g, n->out[k]));
    if (gb_is_compute(n)) {
        double work = gb_expr_is_costly(n->compute->expr) ? 60 : 0.5 * n->compute->expr->n_nodes;
        flops = work * (double)gb_shape_count(&n->compute->space);
    } else if (strcmp(n->op->name, "Dot") == 0) {
        const gb_shape *a = gb_shape_ptr(g, n->in[0]);
        flops = 2 * out * (double)a->dim[a->rank - 1];
    } else if (strncmp(n->op->name, "Conv", 4) == 0) {
        const gb_shape *w = gb_shape_ptr(g, n->in[1]);
        flops = 2 * out * (double)(w->dim[1] * w->dim[2] * w->dim[3]);
    }
    return bytes + flops / 25;
}

static const gb_node *maker(const choice *c, gb_value root)
{
    int i = c->g->value[root].node;
    return i < 0 ? NULL : &c->g->node[i];
}

static bool may_drop(const choice *c, gb_value v)
{
    const gb_node *n = maker(c, v);
    return n && c->live.root[v] == v && !c->dropped[v] && !c->fixed[v] && !gb_is_late(n) &&
           c->live.bytes[v] >= MIN_BYTES;
}

/* Drops v, and those of its sources that would be kept for its copy alone. */
static void drop(choice *c, gb_value v)
{
    const gb_node *n = maker(c, v);
    c->dropped[v] = 1;
    c->cost += cost_of(c->g, n);
    for (int k = 0; k < n->n_in; k++) {
        gb_value in = c->live.root[n->in[k]];
        if (c->late[in]++ == 0 && may_drop(c, in)) drop(c, in);
    }
}

/* The cost of that, before it is done. */
static double price(const choice *c, gb_value v)
{
    const gb_node *n = maker(c, v);
    double sum = cost_of(c->g, n);
    for (int k = 0; k < n->n_in; k++) {
        gb_value in = c->live.root[n->in[k]];
        if (c->late[in] == 0 && may_drop(c, in)) sum += price(c, in);
    }
    return sum;
}

static bool begin(choice *c, const gb_graph *g)
{
    size_t values = (size_t)g->n_values + 1;
    c->g = g;
    c->late = calloc(values, sizeof *c->late);
    c->fixed = calloc(values, 1);
    c->dropped = calloc(values, 1);
    if (!gb_live_find(&c->live, g) || !c->late || !c->fixed || !c->dropped) return false;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i].n_in; k++)
            if (gb_is_late(&g->node[i]) && !g->node[i].op->view)
                c->late[c->live.root[g->node[i].in[k]]]++;
    for (int i = 0; i < g->n_outputs; i++) c->fixed[c->live.root[g->output[i]]] = 1;
    for (int i = 0; i < g->n_states; i++) c->fixed[c->live.root[g->value[g->state[i]].update]] = 1;
    return true;
}

static void end(choice *c)
{
    gb_live_free(&c->live);
    free(c->late);
    free(c->fixed);
    free(c->dropped);
}

/* The readers that compute v themselves pay for its copy: no more memory traffic than before. */
static bool is_free(const choice *c, gb_value v, int saved)
{
    const gb_node *n = maker(c, v);
    int streams = 1;
    if (!saved || !may_drop(c, v)) return false;
    for (int k = 0; k < n->n_in; k++) {
        gb_value in = c->live.root[n->in[k]];
        if (!gb_is_large(c->g, n->in[k], &n->compute->space)) continue;
        streams++;
        if (!c->late[in] || c->dropped[in]) return false;
    }
    return streams <= saved;
}

static void drop_free(choice *c, const int *saved)
{
    for (int v = 1; v < c->g->n_values; v++)
        if (c->late[v] && is_free(c, (gb_value)v, saved[v])) drop(c, (gb_value)v);
}

/* --- the graph that a choice makes --- */

typedef struct outcome {
    gb_graph *graph; /* NULL: nothing found */
    gb_value *where; /* by value of the old graph: its counterpart */
    gb_live live;    /* of the new graph */
    double cost;
    int values;
    uint64_t bytes; /* dropped */
} outcome;

static void forget(outcome *o)
{
    gb_graph_destroy(&o->graph);
    gb_live_free(&o->live);
    free(o->where);
    *o = (outcome){0};
}

static bool realize(const choice *c, outcome *o, gb_error *err)
{
    *o = (outcome){.cost = c->cost};
    o->where = calloc((size_t)c->g->n_values + 1, sizeof *o->where);
    if (!o->where)
        gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to compile the graph");
    else
        o->graph = gb_drop(c->g, &c->live, c->dropped, o->where, err);
    if (!o->graph || !gb_order(o->graph, err) || !gb_live_find(&o->live, o->graph)) {
        forget(o);
        return false;
    }
    for (int v = 1; v < c->g->n_values; v++) {
        o->values += c->dropped[v];
        if (c->dropped[v]) o->bytes += c->live.bytes[v];
    }
    return true;
}

/* Keeps the better of two in *best: the cheapest that fits, else the one that needs the least. */
static void keep_better(outcome *best, outcome *other, uint64_t budget)
{
    bool fits = other->live.peak <= budget;
    bool better = !best->graph || (best->live.peak <= budget ? fits && other->cost < best->cost
                                                             : other->live.peak < best->live.peak);
    if (better) {
        forget(best);
        *best = *other;
        *other = (outcome){0};
    } else {
        forget(other);
    }
}

/* --- choosing --- */

/* The value whose copy costs the least a byte, of those that o keeps over its peak; GB_NONE. */
static gb_value cheapest(const choice *c, const outcome *o)
{
    gb_value best = GB_NONE;
    double least = 0;
    for (int v = 1; v < c->g->n_values; v++) {
        if (!c->late[v] || !may_drop(c, (gb_value)v)) continue;
        gb_value now = o->where[v];
        if (o->live.first[now] >= o->live.peak_at || o->live.last[now] <= o->live.peak_at) continue;
        double rate = price(c, (gb_value)v) / (double)c->live.bytes[v];
        if (best && rate >= least) continue;
        best = (gb_value)v;
        least = rate;
    }
    return best;
}

/* Drops one after the other until it fits, or nothing is left over the peak. */
static bool drop_cheapest(choice *c, outcome *best, uint64_t budget, gb_error *err)
{
    outcome now = {0};
    bool more = true;
    if (!realize(c, &now, err)) return false;
    while (more && now.live.peak > budget) {
        uint64_t excess = now.live.peak - budget, some = now.live.peak / SHARE, dropped = 0;
        more = false;
        while (dropped < (excess < some ? excess : some)) { /* few at once: the peak moves */
            gb_value v = cheapest(c, &now);
            if (!v) break;
            drop(c, v);
            dropped += c->live.bytes[v];
            more = true;
        }
        if (!more) break;
        keep_better(best, &now, budget);
        if (!realize(c, &now, err)) return false;
    }
    keep_better(best, &now, budget);
    return true;
}

static double cost_of_all(const gb_graph *g)
{
    double whole = 0;
    for (int i = 0; i < g->n_nodes; i++) whole += cost_of(g, &g->node[i]);
    return whole;
}

/* The next large value to drop, where that still costs no more than it may; GB_NONE. */
static gb_value affordable(const choice *c, const outcome *now, double most)
{
    const gb_value v = cheapest(c, now);
    return v && c->live.bytes[v] >= now->live.peak / SHARE && c->cost + price(c, v) <= most
               ? v
               : GB_NONE;
}

/* Nothing was asked for, but a little time may buy much memory: goes on while it can be afforded,
 * and then back to where the peak was the least and worth it. */
static bool drop_affordable(choice *c, outcome *best, gb_error *err)
{
    const size_t values = (size_t)c->g->n_values + 1;
    const double whole = cost_of_all(c->g);
    outcome now = {0};
    char *dropped = malloc(values);
    double cost = c->cost;
    uint64_t first = 0, least = 0;
    bool ok = dropped != NULL, more = true;
    if (!ok) gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to compile the graph");
    while (more && ok && (ok = realize(c, &now, err))) {
        if (!first) first = now.live.peak;
        const double gain = (double)(first - now.live.peak) / (double)first;
        if (!least || (now.live.peak < least && gain >= WORTH * c->cost / whole)) {
            least = now.live.peak;
            cost = c->cost;
            memcpy(dropped, c->dropped, values);
        }
        const gb_value v = affordable(c, &now, ALLOWANCE * whole);
        forget(&now);
        more = v != GB_NONE;
        if (more) drop(c, v);
    }
    if (ok) memcpy(c->dropped, dropped, values);
    c->cost = cost;
    free(dropped);
    return ok && realize(c, best, err);
}

/* Drops all but what is alive at some positions of the forward run, `segments` apart. */
static void drop_segments(choice *c, const int *last_forward, int n, int segments)
{
    for (int v = 1; v < c->g->n_values; v++) {
        bool kept = false;
        if (!c->late[v] || !may_drop(c, (gb_value)v)) continue;
        for (int s = 1; s < segments; s++) {
            int at = (int)((int64_t)n * s / segments);
            kept |= c->live.first[v] < at && last_forward[v] >= at;
        }
        if (!kept) drop(c, (gb_value)v);
    }
}

static bool try_segments(const gb_graph *g, outcome *best, uint64_t budget, gb_error *err)
{
    int *last = calloc((size_t)g->n_values + 1, sizeof *last), n = 0;
    bool ok = last != NULL;
    for (int segments = 1; ok && segments <= MAX_SEGMENTS; segments++) {
        choice c = {0};
        outcome now = {0};
        ok = begin(&c, g);
        for (n = 0; ok && n < g->n_nodes && !gb_is_late(&g->node[n]); n++)
            for (int k = 0; k < g->node[n].n_in; k++) last[c.live.root[g->node[n].in[k]]] = n;
        if (ok) drop_segments(&c, last, n, segments);
        ok = ok && realize(&c, &now, err);
        if (ok) keep_better(best, &now, budget);
        end(&c);
    }
    free(last);
    return ok;
}

static bool choose(gb_graph *g, const int *saved, uint64_t budget, outcome *best, gb_error *err)
{
    choice c = {0};
    bool ok = begin(&c, g);
    if (!ok) gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to compile the graph");
    if (ok) drop_free(&c, saved);
    c.cost = 0; /* these cost nothing */
    if (ok && !budget)
        ok = drop_affordable(&c, best, err);
    else if (ok)
        ok = drop_cheapest(&c, best, budget, err);
    end(&c);
    if (ok && budget && (best->cost > 0 || best->live.peak > budget))
        ok = try_segments(g, best, budget, err);
    return ok;
}

gb_graph *gb_recompute(gb_graph *g, uint64_t budget, gb_recomputed *done, gb_error *err)
{
    outcome best = {0};
    int *saved = calloc((size_t)g->n_values + 1, sizeof *saved);
    if (!saved) {
        gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to compile the graph");
        return NULL;
    }
    gb_compute_in_readers(g, saved);
    gb_graph *result = NULL;
    if (choose(g, saved, budget, &best, err)) {
        *done = (gb_recomputed){.values = best.values, .bytes = best.bytes};
        result = best.graph;
        best.graph = NULL;
    }
    forget(&best);
    free(saved);
    return result;
}
