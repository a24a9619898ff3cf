/* Mixed precision: which values lie in memory as 16-bit floats.
 *
 * Arithmetic is f32 everywhere; what is small is what one step writes and another reads. A value is
 * small unless
 *   - it is an input, a state, an output or has one element,
 *   - it is a sum or statistic (Reduce), or belongs to the update of states,
 *   - nothing but the update reads it: gradients of parameters go there as they were summed up,
 *   - it lies within an operator that keeps f32 (a loss, a softmax, a normalization): made by one
 * and read, element by element, by such alone. Contractions read small operands only: parameters
 * and whatever else is f32 get one copy, made anew each run, which all contractions share. */
#include <stdlib.h>
#include <string.h>

#include "core/passes/passes.h"
#include "core/passes/rewrite.h"

typedef struct pass {
    const gb_graph *g;
    gb_storage small;
    bool everywhere; /* for checks: all operators read small operands, and outputs may be small */
    gb_value *root;  /* by value: what it is a view of, in the end; itself */
    char *f32;       /* by root: stays f32 */
    char *wanted;    /* by root: an operator that runs small reads it */
    char *read;      /* by root: something besides the update of states reads it */
    gb_value *copy;  /* by value: its small copy in the new graph */
    gb_rewrite r;
} pass;

static bool is_contraction(const gb_node *n)
{
    return strcmp(n->op->name, "Dot") == 0 || strcmp(n->op->name, "ConvForward") == 0 ||
           strcmp(n->op->name, "ConvInput") == 0 || strcmp(n->op->name, "ConvFilter") == 0;
}

/* Operands that are multiplied; further ones are the epilogue's. */
static bool is_factor(const gb_node *n, int k)
{
    return k < 2 && is_contraction(n);
}

/* Does the node no more than to find the new values of states? */
static bool is_update(const pass *p, const gb_node *n, const char *updates)
{
    if (strcmp(n->phase, "update") == 0) return true;
    for (int k = 0; k < n->n_out; k++)
        if (!updates[p->root[n->out[k]]]) return false;
    return true;
}

/* Is operand k as large as what the node computes, and not a row or number spread over it? */
static bool spans(const pass *p, const gb_node *n, int k)
{
    if (!n->compute || is_factor(n, k)) return true;
    return gb_shape_count(gb_shape_ptr(p->g, n->in[k])) == gb_shape_count(&n->compute->space);
}

static void read_operands(pass *p, const gb_node *n, bool update)
{
    for (int k = 0; k < n->n_in; k++) {
        gb_value root = p->root[n->in[k]];
        if (n->op->view && k == 0) continue; /* its readers count */
        if (!update) p->read[root] = 1;
        if (!update && (is_factor(n, k) || (!n->keeps_f32 && spans(p, n, k)))) p->wanted[root] = 1;
    }
}

/* What must be f32 by itself, whoever reads it. */
static void keep(pass *p, char *updates)
{
    const gb_graph *g = p->g;
    for (int i = 0; i < g->n_states; i++) {
        gb_value u = g->value[g->state[i]].update;
        if (u) p->f32[p->root[u]] = updates[p->root[u]] = 1;
    }
    for (int i = 0; i < g->n_outputs && !p->everywhere; i++) p->f32[p->root[g->output[i]]] = 1;
    for (int v = 1; v < g->n_values; v++) {
        const gb_value_info *info = &g->value[v];
        const gb_node *n = info->node >= 0 ? &g->node[info->node] : NULL;
        if (!n || gb_shape_count(&info->shape) == 1 || strcmp(n->phase, "update") == 0 ||
            strcmp(n->op->name, "Reduce") == 0)
            p->f32[v] = 1;
    }
}

static void decide(pass *p, char *updates)
{
    const gb_graph *g = p->g;
    for (int v = 1; v < g->n_values; v++) {
        int node = g->value[v].node;
        bool view = node >= 0 && g->node[node].op->view;
        p->root[v] = view ? p->root[g->node[node].in[0]] : (gb_value)v;
    }
    keep(p, updates);
    for (int i = 0; i < g->n_nodes; i++)
        read_operands(p, &g->node[i], is_update(p, &g->node[i], updates));
    for (int v = 1; v < g->n_values; v++) {
        int node = g->value[v].node;
        if (node < 0 || p->root[v] != (gb_value)v) continue;
        bool within = g->node[node].keeps_f32 && !p->wanted[v];
        if (within || !p->read[v]) p->f32[v] = 1;
    }
}

static bool is_small(const pass *p, gb_value v)
{
    return gb_dtype_is_float(gb_dtype_at(p->g, v)) && !p->f32[p->root[v]];
}

/* --- the new graph --- */

static gb_value convert(pass *p, gb_value v)
{
    gb_graph *to = p->r.to;
    gb_xb b = {0};
    gb_x x = gb_x_input(&b, 0, 'f');
    gb_shape space = *gb_shape_ptr(p->g, v);
    gb_value from = gb_rewrite_value(&p->r, v);
    gb_value out = gb_pointwise(to, &b, x, &from, 1, gb_dtype_at(p->g, v), &space);
    if (!gb_graph_failed(to)) to->value[out].storage = p->small;
    return out;
}

/* The same view of the small copy of what it is a view of. */
static gb_value view_again(pass *p, const gb_node *n, gb_value source)
{
    gb_graph *to = p->r.to;
    gb_value in[GB_MAX_STEP_IN] = {source};
    for (int k = 1; k < n->n_in && k < GB_MAX_STEP_IN; k++)
        in[k] = gb_rewrite_value(&p->r, n->in[k]);
    gb_node *copy = gb_graph_append(to, n->op, in, n->n_in, n->attr, n->n_attr, 1, NULL);
    if (!copy) return GB_NONE;
    gb_value out = copy->out[0];
    gb_set_output(to, copy, 0, gb_dtype_at(p->g, n->out[0]), gb_shape_ptr(p->g, n->out[0]));
    if (!gb_graph_failed(to)) to->value[out].storage = p->small;
    return out;
}

static gb_value small_copy(pass *p, gb_value v)
{
    if (is_small(p, v)) return gb_rewrite_value(&p->r, v);
    if (p->copy[v]) return p->copy[v];
    int node = p->g->value[v].node;
    const gb_node *n = node >= 0 && p->g->node[node].op->view ? &p->g->node[node] : NULL;
    p->copy[v] = n ? view_again(p, n, small_copy(p, n->in[0])) : convert(p, v);
    return p->copy[v];
}

/* Has operand k of the node to be small? */
static bool takes_small(const pass *p, const gb_node *n, int k)
{
    gb_value v = n->in[k];
    if (!v || !gb_dtype_is_float(gb_dtype_at(p->g, v))) return false;
    if (is_factor(n, k)) return true;
    return p->everywhere && !n->op->view && strcmp(n->phase, "update") != 0 &&
           gb_shape_count(gb_shape_ptr(p->g, v)) > 1;
}

/* Copies the node; for that time small copies stand for the operands that have to be small. */
static void emit(pass *p, const gb_node *n)
{
    gb_rewrite *r = &p->r;
    gb_graph *to = r->to;
    gb_value was[GB_MAX_STEP_IN] = {0}, small[GB_MAX_STEP_IN] = {0};
    int most = n->n_in < GB_MAX_STEP_IN ? n->n_in : GB_MAX_STEP_IN;
    to->path = gb_arena_string(to->arena, n->path);
    to->phase = gb_arena_string(to->arena, n->phase);
    to->keeps_f32 = false;
    for (int k = 0; k < most; k++)
        if (takes_small(p, n, k)) small[k] = small_copy(p, n->in[k]);
    for (int k = 0; k < most; k++) was[k] = r->map[n->in[k]];
    for (int k = 0; k < most; k++)
        if (small[k]) r->map[n->in[k]] = small[k];
    int before = to->n_nodes;
    gb_rewrite_copy(r, n);
    for (int k = 0; k < most; k++)
        if (small[k]) r->map[n->in[k]] = was[k];
    if (gb_graph_failed(to) || to->n_nodes == before) return;
    for (int k = 0; k < n->n_out; k++)
        if (is_small(p, n->out[k])) to->value[r->map[n->out[k]]].storage = p->small;
}

gb_graph *gb_mix_precision(const gb_graph *g, gb_storage small, bool everywhere, gb_error *err)
{
    size_t n = (size_t)g->n_values + 1;
    pass p = {.g = g, .small = small, .everywhere = everywhere};
    gb_graph *result = NULL;
    p.root = calloc(n, sizeof *p.root);
    p.copy = calloc(n, sizeof *p.copy);
    p.f32 = calloc(n, 1);
    p.wanted = calloc(n, 1);
    p.read = calloc(n, 1);
    char *updates = calloc(n, 1);
    if (!p.root || !p.copy || !p.f32 || !p.wanted || !p.read || !updates) {
        gb_fail(err, GB_OUT_OF_MEMORY, NULL, "use a smaller model",
                "no memory to compile the graph");
    } else if (gb_rewrite_begin(&p.r, g, err)) {
        decide(&p, updates);
        for (int i = 0; i < g->n_nodes && !gb_graph_failed(p.r.to); i++)
            if (p.r.live[i]) emit(&p, &g->node[i]);
        result = gb_rewrite_end(&p.r, err);
    }
    free(p.root);
    free(p.copy);
    free(p.f32);
    free(p.wanted);
    free(p.read);
    free(updates);
    return result;
}
