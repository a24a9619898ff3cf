/* Readers that compute an operand themselves, since they read all that it is made from. */
#include "core/passes/passes.h"
#include "core/passes/node_kind.h"

static bool reads(const gb_node *n, gb_value v)
{
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] == v) return true;
    return false;
}

/* Has n all that p, which made its operand v, reads much of? */
static bool has_sources(const gb_graph *g, const gb_node *n, gb_value v)
{
    if (g->value[v].node < 0 || !gb_is_compute(n)) return false;
    const gb_node *p = &g->node[g->value[v].node];
    if (!gb_is_pointwise(p) || p->n_out != 1 || gb_is_late(p) || !gb_is_late(n)) return false;
    if (!gb_shape_equal(&p->compute->space, &n->compute->space)) return false;
    if (!gb_is_large(g, v, &p->compute->space) || gb_expr_is_costly(p->compute->expr)) return false;
    int more = 0;
    for (int k = 0; k < p->n_in; k++) {
        if (reads(n, p->in[k])) continue;
        if (gb_is_large(g, p->in[k], &p->compute->space)) return false;
        more++;
    }
    return n->n_in - 1 + more <= GB_MAX_STEP_IN;
}

static gb_x operand(gb_xb *b, const gb_graph *g, gb_value *in, int *n_in, gb_value v)
{
    int k = 0;
    while (k < *n_in && in[k] != v) k++;
    if (k == *n_in) in[(*n_in)++] = v;
    return gb_x_operand(b, g, in, k);
}

/* Node n with the maker of its operand number `at` inside of it. False: it does not fit. */
static bool computes_itself(gb_graph *g, gb_node *n, int at)
{
    const gb_node *p = &g->node[g->value[n->in[at]].node];
    gb_value in[2 * GB_MAX_STEP_IN];
    gb_x mine[GB_MAX_STEP_IN], theirs[GB_MAX_STEP_IN], y[GB_MAX_STEP_OUT];
    int n_in = 0;
    gb_xb b = {0};
    for (int k = 0; k < n->n_in; k++)
        if (k != at) mine[k] = operand(&b, g, in, &n_in, n->in[k]);
    for (int k = 0; k < p->n_in; k++) theirs[k] = operand(&b, g, in, &n_in, p->in[k]);
    gb_x_inline(&b, p->compute->expr, theirs, NULL, &mine[at]);
    gb_x_inline(&b, n->compute->expr, mine, NULL, y);
    gb_compute c = *n->compute;
    c.expr = gb_xb_finish(&b, n_in, y, n->compute->expr->n_out, gb_arena_alloc_hook, g->arena);
    gb_xb_free(&b);
    const gb_compute *compute = gb_arena_copy(g->arena, &c, sizeof c);
    gb_value *list = gb_arena_copy(g->arena, in, (size_t)n_in * sizeof *in);
    if (!c.expr || !compute || !list) return false;
    n->compute = compute;
    n->in = list;
    n->n_in = n_in;
    return true;
}

void gb_compute_in_readers(gb_graph *g, int *saved)
{
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i].n_in; k++) {
            gb_value v = g->node[i].in[k];
            if (!has_sources(g, &g->node[i], v) || !computes_itself(g, &g->node[i], k)) continue;
            saved[v]++;
            k = -1; /* the operands are new */
        }
}
