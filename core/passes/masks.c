/* Masks move through a maximum: what chooses elements of a pool's input by their value, as the
 * gradient of Relu does, may choose among the maxima instead, which are those elements. So
 *
 *   select(m(x), 0, MaxPoolGrad(dy, index))  becomes  MaxPoolGrad(select(m(y), 0, dy), index)
 *
 * with y, index = MaxPoolIndexed(x): bit for bit the same, on an array as small as y, and x need
 * not be kept for the backward run. */
#include <stdlib.h>
#include <string.h>

#include "core/passes/node_kind.h"
#include "core/passes/passes.h"
#include "core/passes/rewrite.h"

/* Of a node MaxPoolGrad that a mask reads. */
typedef struct masked {
    int pool, mask; /* nodes; mask 0: there is none */
    int dx, x;      /* the mask's operands that are them */
} masked;

static bool is_zero(const gb_enode *n)
{
    return n->prim == GB_P_CONST && n->imm == 0;
}

/* Is e = select(condition, dx, 0), or with its branches exchanged, where the condition is made of
 * x and numbers? */
static bool is_mask(const gb_expr *e, int dx, int x)
{
    const gb_enode *node = e->node, *choice = &node[e->out[0]];
    if (e->n_out != 1 || choice->prim != GB_P_SELECT) return false;
    int zero = is_zero(&node[choice->arg[1]]) ? 1 : 2;
    const gb_enode *passed = &node[choice->arg[3 - zero]];
    bool condition = &node[choice->arg[0]] != passed;
    if (!condition || !is_zero(&node[choice->arg[zero]])) return false;
    if (passed->prim != GB_P_INPUT || passed->imm != dx) return false;
    for (int i = 0; i < e->n_nodes; i++) {
        const gb_enode *n = &node[i];
        bool number = n->prim == GB_P_CONST || n->prim == GB_P_ICONST;
        bool operand = n->prim == GB_P_INPUT && (n->imm == x || n == passed);
        if (gb_prim_arity(n->prim) == 0 && !number && !operand) return false;
        for (int k = 0; k < gb_prim_arity(n->prim); k++)
            if (&node[n->arg[k]] == passed && n != choice) return false;
    }
    return true;
}

/* The pool whose gradient v is. -1: v is no such thing. */
static int pool_of(const gb_graph *g, gb_value v)
{
    int grad = v ? g->value[v].node : -1;
    if (grad < 0 || strcmp(g->node[grad].op->name, "MaxPoolGrad") != 0) return -1;
    int pool = g->value[g->node[grad].in[1]].node;
    return pool >= 0 && strcmp(g->node[pool].op->name, "MaxPoolIndexed") == 0 ? pool : -1;
}

/* Whether node n masks a pool's gradient, and how. */
static bool find_mask(const gb_graph *g, int index, masked *found)
{
    const gb_node *n = &g->node[index];
    if (!gb_is_pointwise(n) || n->n_out != 1) return false;
    for (int dx = 0; dx < n->n_in; dx++) {
        int pool = pool_of(g, n->in[dx]);
        for (int x = 0; pool >= 0 && x < n->n_in; x++) {
            gb_value v = n->in[x];
            if (v != g->node[pool].in[0] || !is_mask(n->compute->expr, dx, x)) continue;
            if (!gb_shape_equal(gb_shape_ptr(g, v), &n->compute->space)) continue;
            if (gb_dtype_at(g, n->out[0]) != gb_dtype_at(g, n->in[dx])) continue;
            *found = (masked){pool, index, dx, x};
            return true;
        }
    }
    return false;
}

static int readers(const gb_graph *g, gb_value v)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i].n_in; k++) n += g->node[i].in[k] == v;
    for (int i = 0; i < g->n_outputs; i++) n += g->output[i] == v;
    for (int i = 0; i < g->n_states; i++) n += g->value[g->state[i]].update == v;
    return n;
}

/* dy of the pool's gradient, masked by the maxima. */
static gb_value masked_dy(gb_rewrite *r, const masked *m, gb_value dy)
{
    const gb_graph *g = r->from;
    const gb_node *mask = &g->node[m->mask];
    const gb_value in[2] = {gb_rewrite_value(r, dy), gb_rewrite_value(r, g->node[m->pool].out[0])};
    gb_x x[GB_MAX_EXPR_INPUTS], y;
    gb_xb b = {0};
    if (gb_graph_failed(r->to)) return GB_NONE;
    gb_shape space = *gb_shape_ptr(r->to, in[0]);
    for (int k = 0; k < mask->n_in; k++) x[k] = gb_x_operand(&b, r->to, in, k == m->dx ? 0 : 1);
    gb_x_inline(&b, mask->compute->expr, x, NULL, &y);
    r->to->path = gb_arena_string(r->to->arena, mask->path);
    r->to->phase = gb_arena_string(r->to->arena, mask->phase);
    r->to->keeps_f32 = mask->keeps_f32;
    return gb_pointwise(r->to, &b, y, in, 2, gb_dtype_at(r->to, in[0]), &space);
}

static void move_mask(gb_rewrite *r, const gb_node *grad, const masked *m)
{
    gb_value masked = masked_dy(r, m, grad->in[0]), dy = r->map[grad->in[0]];
    if (gb_graph_failed(r->to)) return;
    r->map[grad->in[0]] = masked; /* for this reader alone */
    gb_rewrite_copy(r, grad);
    r->map[grad->in[0]] = dy;
    r->map[r->from->node[m->mask].out[0]] = r->map[grad->out[0]];
}

/* The mask of each MaxPoolGrad that has one. False: there is none. */
static bool find_masks(const gb_graph *g, masked *of)
{
    bool any = false;
    masked m;
    for (int i = 0; i < g->n_nodes; i++) {
        if (!find_mask(g, i, &m) || readers(g, g->node[i].in[m.dx]) != 1) continue;
        of[g->value[g->node[i].in[m.dx]].node] = m;
        any = true;
    }
    return any;
}

static gb_graph *rewrite(const gb_graph *g, const masked *of, gb_error *err)
{
    gb_rewrite r;
    if (!gb_rewrite_begin(&r, g, err)) return NULL;
    for (int i = 0; i < g->n_nodes && !gb_graph_failed(r.to); i++) {
        const gb_node *n = &g->node[i];
        bool moved = r.map[n->out[0]] != GB_NONE; /* a mask, whose gradient stands for it now */
        if (!r.live[i] || moved) continue;
        if (of[i].mask)
            move_mask(&r, n, &of[i]);
        else
            gb_rewrite_copy(&r, n);
    }
    return gb_rewrite_end(&r, err);
}

gb_graph *gb_move_masks(gb_graph *g, gb_error *err)
{
    masked *of = calloc((size_t)g->n_nodes + 1, sizeof *of); /* by node */
    gb_graph *result = g;
    if (!of) {
        gb_fail(err, GB_OUT_OF_MEMORY, NULL, "use a smaller model", "no memory to move masks");
        result = NULL;
    } else if (find_masks(g, of)) {
        result = rewrite(g, of, err);
    }
    if (result != g) gb_graph_destroy(&g);
    free(of);
    return result;
}
