/* Composites and pointwise operators become core operators. */
#include <string.h>

#include "core/passes/passes.h"
#include "core/passes/rewrite.h"

/* Devices hold all integers in 32 bits: narrow types wrap around by hand. */
static gb_x wrap_integer(gb_xb *b, gb_x y, gb_dtype t)
{
    int bits = t == GB_I8 || t == GB_U8 ? 8 : t == GB_I16 || t == GB_U16 ? 16 : 0;
    if (!bits || gb_x_type(b, y) != 'i') return y;
    if (t == GB_U8 || t == GB_U16) return gb_x2(b, GB_P_AND, y, gb_x_iconst(b, (1 << bits) - 1));
    gb_x shift = gb_x_iconst(b, 32 - bits);
    return gb_x2(b, GB_P_SHR, gb_x2(b, GB_P_SHL, y, shift), shift);
}

/* The operand that the expression y passes on as it is, or GB_NONE: Identity, a Cast to the same type,
 * a product with 1. */
static gb_value passed_on(const gb_graph *g, const gb_xb *b, gb_x y, const gb_node *n)
{
    if (y < 0 || b->failed || b->node[y].prim != GB_P_INPUT) return GB_NONE;
    gb_value v = n->in[(int)b->node[y].imm];
    bool same = gb_dtype_at(g, v) == gb_dtype_at(g, n->out[0]) &&
                gb_shape_equal(gb_shape_ptr(g, v), gb_shape_ptr(g, n->out[0]));
    return same ? v : GB_NONE;
}

static gb_value expand_pointwise(gb_graph *g, const gb_node *n)
{
    gb_xb b = {0};
    gb_x x[GB_MAX_EXPR_INPUTS];
    for (int k = 0; k < n->n_in && k < GB_MAX_EXPR_INPUTS; k++)
        x[k] = n->in[k] ? gb_x_operand(&b, g, n->in, k) : -1;
    gb_dtype t = gb_dtype_at(g, n->out[0]);
    gb_x y = wrap_integer(&b, n->op->pointwise(&b, n, x), t);
    gb_value same = passed_on(g, &b, y, n);
    if (same) {
        gb_xb_free(&b);
        return same;
    }
    gb_shape space = *gb_shape_ptr(g, n->out[0]);
    return gb_pointwise(g, &b, y, n->in, n->n_in, t, &space);
}

/* One round; *changed tells whether another is needed (expansions may hold composites). */
static gb_graph *expand_once(const gb_graph *g, bool *changed, gb_error *err)
{
    gb_rewrite r;
    if (!gb_rewrite_begin(&r, g, err)) return NULL;
    for (int i = 0; i < g->n_nodes && !gb_graph_failed(r.to); i++) {
        const gb_node *n = &g->node[i];
        if (!r.live[i]) continue;
        int before = r.to->n_nodes;
        gb_rewrite_copy(&r, n);
        if (n->op->lower || gb_graph_failed(r.to) || r.to->n_nodes == before) continue;
        /* the copy stays behind without users; the next round drops it */
        gb_node copy = r.to->node[r.to->n_nodes - 1];
        gb_value out[GB_MAX_STEP_OUT] = {0};
        *changed = true;
        if (n->op->pointwise) out[0] = expand_pointwise(r.to, &copy);
        else n->op->expand(r.to, &copy, out);
        for (int k = 0; k < n->n_out && !gb_graph_failed(r.to); k++) {
            if (!out[k]) gb_node_fail(r.to, &copy, "ask for fewer outputs", "has no output %d", k);
            r.map[n->out[k]] = out[k];
            gb_rewrite_replace(&r, copy.out[k], out[k]);
        }
    }
    return gb_rewrite_end(&r, err);
}

gb_graph *gb_expand(const gb_graph *g, gb_error *err)
{
    bool changed = false;
    gb_graph *now = expand_once(g, &changed, err);
    while (now && changed) {
        changed = false;
        gb_graph *next = expand_once(now, &changed, err);
        gb_graph_destroy(&now);
        now = next;
    }
    return now;
}
