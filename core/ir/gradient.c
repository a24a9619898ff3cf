/* Gradients: a pass over the graph, backwards (reverse accumulation).
 *
 * An operator differentiates itself (gradient), or through its expression (pointwise), or through
 * its expansion, which is appended once more and differentiated in turn: compilation merges it with
 * the forward run's, since equal nodes are one. */
#include <stdlib.h>
#include <string.h>

#include "core/ir/ir.h"

typedef struct pass {
    gb_graph *g;
    gb_value *grad; /* by value; grows with the graph */
    char *needed;   /* by value: depends on a wanted one */
    int cap;
} pass;

static bool reserve(pass *p)
{
    int want = p->g->n_values;
    if (want <= p->cap) return true;
    want = want * 2 + 64;
    gb_value *grad = realloc(p->grad, (size_t)want * sizeof *grad);
    if (grad) p->grad = grad;
    char *needed = realloc(p->needed, (size_t)want);
    if (needed) p->needed = needed;
    if (!grad || !needed) {
        gb_graph_fail(p->g, GB_OUT_OF_MEMORY, "use a smaller model", "no memory for the gradient");
        return false;
    }
    memset(grad + p->cap, 0, (size_t)(want - p->cap) * sizeof *grad);
    memset(needed + p->cap, 0, (size_t)(want - p->cap));
    p->cap = want;
    return true;
}

static void accumulate(pass *p, gb_value v, gb_value d)
{
    if (!v || !d || gb_graph_failed(p->g)) return;
    gb_value sum = p->grad[v] ? gb_op2(p->g, "Add", p->grad[v], d) : d;
    if (reserve(p)) p->grad[v] = sum;
}

/* d in[k] of a pointwise operator, from its expression or its own rule. */
static gb_value pointwise_gradient(gb_graph *g, const gb_node *n, gb_value dout, int k)
{
    gb_value in[GB_MAX_EXPR_INPUTS], out = n->out[0];
    gb_x x[GB_MAX_EXPR_INPUTS];
    int y_slot = n->n_in, dy_slot = n->n_in + 1;
    gb_xb b = {0};
    if (n->n_in + 2 > GB_MAX_EXPR_INPUTS) return GB_NONE;
    memcpy(in, n->in, (size_t)n->n_in * sizeof *in);
    in[y_slot] = out;
    in[dy_slot] = dout;
    for (int i = 0; i < n->n_in; i++) x[i] = in[i] ? gb_x_operand(&b, g, in, i) : -1;
    gb_x dy = gb_x_operand(&b, g, in, dy_slot), d;
    if (n->op->pointwise_gradient)
        d = n->op->pointwise_gradient(&b, n, x, gb_x_operand(&b, g, in, y_slot), dy, k);
    else d = gb_x_derive(&b, n->op->pointwise(&b, n, x), x[k], dy);
    gb_value v = gb_pointwise(g, &b, d, in, n->n_in + 2, gb_dtype_at(g, n->in[k]),
                              gb_shape_ptr(g, out));
    return gb_sum_to(g, v, gb_shape_ptr(g, n->in[k]));
}

static void differentiate_range(pass *p, int first, int last);

static void through_expansion(pass *p, const gb_node *n)
{
    gb_graph *g = p->g;
    gb_value out[GB_MAX_STEP_OUT] = {0};
    int first = g->n_nodes;
    const char *phase = g->phase;
    g->phase = n->phase;
    n->op->expand(g, n, out);
    g->phase = phase;
    if (!reserve(p)) return;
    int last = g->n_nodes;
    for (int i = first; i < last; i++) /* what the expansion computes from needed values is needed */
        for (int k = 0; k < g->node[i].n_in; k++)
            if (p->needed[g->node[i].in[k]])
                for (int o = 0; o < g->node[i].n_out; o++) p->needed[g->node[i].out[o]] = 1;
    for (int k = 0; k < n->n_out; k++)
        if (out[k] && p->grad[n->out[k]] && p->needed[out[k]])
            accumulate(p, out[k], p->grad[n->out[k]]);
    differentiate_range(p, first, last);
}

static void differentiate(pass *p, int index)
{
    gb_graph *g = p->g;
    gb_node n = g->node[index]; /* a copy: the array may move */
    bool wanted = false, reached = false;
    for (int k = 0; k < n.n_in; k++) wanted |= p->needed[n.in[k]] != 0;
    for (int k = 0; k < n.n_out; k++) reached |= p->grad[n.out[k]] != GB_NONE;
    if (!wanted || !reached) return;
    const char *path = g->path;
    g->path = n.path;
    g->keeps_f32 = n.keeps_f32;
    if (n.op->not_differentiable) {
        gb_graph_fail(g, GB_UNSUPPORTED, "take the loss or the state off this path",
                      "%s: %s is not differentiable: it %s", n.path, n.op->name,
                      n.op->not_differentiable);
        return;
    }
    if (!n.op->gradient && !n.op->pointwise) {
        through_expansion(p, &n);
        g->path = path;
        g->keeps_f32 = false;
        return;
    }
    gb_value *din = calloc((size_t)n.n_in + 1, sizeof *din);
    gb_value *dout = calloc((size_t)n.n_out + 1, sizeof *dout);
    for (int k = 0; din && dout && k < n.n_out; k++) dout[k] = p->grad[n.out[k]];
    if (!din || !dout) gb_graph_fail(g, GB_OUT_OF_MEMORY, NULL, "no memory for the gradient");
    else if (n.op->gradient) n.op->gradient(g, &n, dout, din);
    else
        for (int k = 0; k < n.n_in && !gb_graph_failed(g); k++)
            if (p->needed[n.in[k]] && gb_dtype_is_float(gb_dtype_at(g, n.in[k])))
                din[k] = pointwise_gradient(g, &n, dout[0], k);
    g->keeps_f32 = false; /* sums of several gradients are nobody's own */
    if (reserve(p))
        for (int k = 0; k < n.n_in; k++)
            if (p->needed[n.in[k]]) accumulate(p, n.in[k], din[k]);
    free(din);
    free(dout);
    g->path = path;
}

static void differentiate_range(pass *p, int first, int last)
{
    for (int i = last - 1; i >= first && !gb_graph_failed(p->g); i--) differentiate(p, i);
}

gb_status gb_graph_gradient(gb_graph *g, gb_value loss, const gb_value *wrt, size_t n,
                            gb_value *grad)
{
    for (size_t i = 0; i < n; i++) grad[i] = GB_NONE;
    if (gb_graph_failed(g)) return g->error.status;
    if (!loss || gb_shape_count(gb_shape_ptr(g, loss)) != 1 ||
        !gb_dtype_is_float(gb_dtype_at(g, loss)))
        return gb_graph_fail(g, GB_INVALID, "reduce it to one float",
                             "the loss must have one element and a float type");
    pass p = {.g = g};
    const char *path = g->path, *phase = g->phase;
    int last = g->n_nodes;
    if (reserve(&p)) {
        for (size_t i = 0; i < n; i++) p.needed[wrt[i]] = 1;
        for (int i = 0; i < last; i++)
            for (int k = 0; k < g->node[i].n_in; k++)
                if (p.needed[g->node[i].in[k]])
                    for (int o = 0; o < g->node[i].n_out; o++) p.needed[g->node[i].out[o]] = 1;
        p.needed[GB_NONE] = 0;
        g->phase = "backward";
        g->path = "loss";
        gb_value one = gb_graph_float(g, 1);
        p.grad[loss] = gb_reshape_to(g, one, gb_shape_ptr(g, loss));
        if (reserve(&p)) differentiate_range(&p, 0, last);
        for (size_t i = 0; i < n && !gb_graph_failed(g); i++) grad[i] = p.grad[wrt[i]];
    }
    g->path = path;
    g->phase = phase;
    free(p.grad);
    free(p.needed);
    return g->error.status;
}
