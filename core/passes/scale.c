/* Scales by channel after a convolution move into its filters, where these never change while the
 * program is alive but by other programs: y = (x * w) a + b becomes x * (w a) + b. So a
 * normalization by running statistics costs an inference nothing. What it computes from states
 * alone is done once, see fixed.c. */
#include <stdlib.h>
#include <string.h>

#include "core/passes/passes.h"
#include "core/passes/rewrite.h"

typedef struct scaling {
    const gb_graph *g;
    gb_rewrite r;
    char *fixed;  /* by value: a function of constants and states */
    int *readers; /* by value: nodes, and outputs */
    int *conv;    /* by node: the convolution of whose result it is an affine function, -1 */
    int *next;    /* by node of such a chain: the one that reads it, -1: the last */
    char *scales; /* by node: it, or one before it, multiplies */
} scaling;

/* --- an expression as a x + b, in one of its operands --- */

typedef struct affine {
    gb_x a, b;     /* negative: 0 */
    bool ok, unit; /* unit: a is the constant 1 */
} affine;

static gb_x binary(gb_xb *b, gb_prim p, gb_x x, gb_x y)
{
    if (p == GB_P_MUL && (x < 0 || y < 0)) return -1;
    if (x < 0) return p == GB_P_SUB && y >= 0 ? gb_x1(b, GB_P_NEG, y) : y;
    return y < 0 ? x : gb_x2(b, p, x, y);
}

static affine combine(gb_xb *b, const gb_enode *n, const affine *x, const affine *y)
{
    bool moves = x->a >= 0 || (y && y->a >= 0);
    affine z = {.a = -1, .b = -1, .ok = x->ok && (!y || y->ok)};
    if (!z.ok) return z;
    switch (n->prim) {
    case GB_P_ADD:
    case GB_P_SUB:
        z.a = binary(b, n->prim, x->a, y->a);
        z.b = binary(b, n->prim, x->b, y->b);
        z.unit = x->unit && y->a < 0;
        z.unit |= n->prim == GB_P_ADD && y->unit && x->a < 0;
        break;
    case GB_P_MUL:
        if (x->a >= 0 && y->a >= 0) z.ok = false;
        z.a = x->a >= 0 ? binary(b, GB_P_MUL, x->a, y->b) : binary(b, GB_P_MUL, y->a, x->b);
        z.b = binary(b, GB_P_MUL, x->b, y->b);
        break;
    case GB_P_DIV:
        if (y->a >= 0 || y->b < 0) z.ok = false;
        if (z.ok && x->a >= 0) z.a = gb_x2(b, GB_P_DIV, x->a, y->b);
        if (z.ok && x->b >= 0) z.b = gb_x2(b, GB_P_DIV, x->b, y->b);
        break;
    case GB_P_SQRT:
        z.ok = !moves && x->b >= 0;
        if (z.ok) z.b = gb_x1(b, GB_P_SQRT, x->b);
        break;
    default:
        z.ok = false;
    }
    return z;
}

/* operand: number of x among the inputs of the expression. */
static affine affine_of(gb_xb *b, const gb_expr *e, int operand)
{
    affine list[64], none = {.a = -1, .b = -1};
    if (e->n_nodes > 64) return none;
    for (int i = 0; i < e->n_nodes; i++) {
        const gb_enode *n = &e->node[i];
        int arity = gb_prim_arity(n->prim);
        affine *z = &list[i];
        *z = none;
        if (n->prim == GB_P_INPUT && n->type == 'f') {
            z->ok = true;
            z->unit = (int)n->imm == operand;
            if (z->unit)
                z->a = gb_x_const(b, 1);
            else
                z->b = gb_x_input(b, (int)n->imm, 'f');
        } else if (n->prim == GB_P_CONST) {
            z->ok = true;
            z->b = gb_x_const(b, n->imm);
        } else if (arity == 1 || arity == 2) {
            *z = combine(b, n, &list[n->arg[0]], arity == 2 ? &list[n->arg[1]] : NULL);
        }
    }
    affine y = list[e->out[0]];
    y.ok = y.ok && y.a >= 0 && !b->failed;
    return y;
}

/* --- chains --- */

static bool is_forward(const gb_node *n)
{
    return strcmp(n->op->name, "ConvForward") == 0;
}

/* One element, or one a channel of an image like `of`. */
static bool is_by_channel(const gb_shape *s, const gb_shape *of)
{
    int64_t count = gb_shape_count(s);
    int channel = s->rank - of->rank + 1; /* the axis that meets the channels */
    return count == 1 || (channel >= 0 && count == of->dim[1] && s->dim[channel] == count);
}

/* The operand of node n along which a chain may go on; -1. */
static int chain_operand(const scaling *s, const gb_node *n)
{
    const gb_graph *g = s->g;
    int at = -1;
    if (!n->compute || strcmp(n->op->name, "Pointwise") != 0 || n->n_out != 1) return -1;
    for (int k = 0; k < n->n_in; k++) {
        if (s->fixed[n->in[k]] && gb_dtype_at(g, n->in[k]) == GB_F32 &&
            is_by_channel(gb_shape_ptr(g, n->in[k]), &n->compute->space))
            continue;
        if (at >= 0) return -1;
        at = k;
    }
    if (at < 0) return -1;
    gb_value v = n->in[at];
    int p = g->value[v].node;
    bool can = p >= 0 && s->readers[v] == 1 && gb_dtype_at(g, v) == GB_F32 &&
               gb_shape_equal(gb_shape_ptr(g, v), &n->compute->space);
    return can ? at : -1;
}

static void find_chain(scaling *s, int index)
{
    const gb_node *n = &s->g->node[index];
    int at = chain_operand(s, n);
    s->conv[index] = s->next[index] = -1;
    if (is_forward(n) && n->n_in == 2 && !n->compute && s->fixed[n->in[1]] &&
        gb_dtype_at(s->g, n->in[1]) == GB_F32)
        s->conv[index] = index;
    if (at < 0) return;
    int p = s->g->value[n->in[at]].node;
    gb_xb b = {0};
    affine y = affine_of(&b, n->compute->expr, at);
    gb_xb_free(&b);
    if (s->conv[p] < 0 || !y.ok) return;
    s->conv[index] = s->conv[p];
    s->next[p] = index;
    s->scales[index] = s->scales[p] || !y.unit;
}

static bool find_chains(scaling *s)
{
    const gb_graph *g = s->g;
    bool found = false;
    for (int v = 1; v < g->n_values; v++)
        s->fixed[v] = g->value[v].kind == GB_V_STATE || g->value[v].kind == GB_V_CONST;
    for (int i = 0; i < g->n_nodes; i++) {
        const gb_node *n = &g->node[i];
        bool fixed = n->n_in > 0 && !is_forward(n) &&
                     !(n->compute && (gb_expr_uses(n->compute->expr, GB_P_SCALAR) ||
                                      gb_expr_uses(n->compute->expr, GB_P_ISCALAR)));
        for (int k = 0; k < n->n_in; k++) {
            fixed = fixed && (!n->in[k] || s->fixed[n->in[k]]);
            s->readers[n->in[k]]++;
        }
        for (int k = 0; k < n->n_out; k++) s->fixed[n->out[k]] = fixed;
    }
    for (int i = 0; i < g->n_outputs; i++) s->readers[g->output[i]]++;
    for (int i = 0; i < g->n_nodes; i++) {
        find_chain(s, i);
        found |= s->scales[i];
    }
    return found;
}

/* --- the new nodes --- */

/* What a chain has come to: one element a channel each, in the new graph; GB_NONE: 1 and 0. */
typedef struct factors {
    gb_value a, b;
} factors;

static factors follow(scaling *s, const gb_node *n, factors before)
{
    gb_graph *to = s->r.to;
    gb_value in[GB_MAX_EXPR_INPUTS + 2];
    int at = chain_operand(s, n), n_in = n->n_in;
    gb_shape channels = {.rank = n->compute->space.rank};
    for (int i = 0; i < channels.rank; i++) channels.dim[i] = i == 1 ? n->compute->space.dim[1] : 1;
    gb_xb b = {0};
    affine y = affine_of(&b, n->compute->expr, at);
    for (int k = 0; k < n->n_in; k++) in[k] = k == at ? GB_NONE : gb_rewrite_value(&s->r, n->in[k]);
    if (before.b) { /* a (a' x + b') + b */
        in[n_in] = before.b;
        y.b = binary(&b, GB_P_ADD, binary(&b, GB_P_MUL, y.a, gb_x_input(&b, n_in++, 'f')), y.b);
    }
    if (before.a) {
        in[n_in] = before.a;
        y.a = binary(&b, GB_P_MUL, y.a, gb_x_input(&b, n_in++, 'f'));
    }
    gb_x out[2] = {y.a, y.b < 0 ? gb_x_const(&b, 0) : y.b};
    gb_dtype type[2] = {GB_F32, GB_F32};
    gb_value made[2];
    in[at] = in[at == 0 && n_in > 1 ? 1 : 0]; /* not read: the chain's own operand */
    if (!in[at]) in[at] = gb_graph_float(to, 0);
    gb_pointwise_n(to, &b, out, 2, in, n_in, type, &channels, made);
    return (factors){made[0], made[1]};
}

static gb_value scaled_filters(scaling *s, const gb_node *conv, gb_value factor)
{
    gb_graph *to = s->r.to;
    gb_value in[2] = {gb_rewrite_value(&s->r, conv->in[1]), GB_NONE};
    if (gb_graph_failed(to)) return GB_NONE;
    gb_shape shape = *gb_shape_ptr(to, in[0]), by_filter = {.rank = shape.rank};
    for (int i = 0; i < shape.rank; i++) by_filter.dim[i] = i ? 1 : shape.dim[0];
    in[1] = gb_reshape_to(to, factor, &by_filter);
    gb_xb b = {0};
    gb_x y = gb_x2(&b, GB_P_MUL, gb_x_input(&b, 0, 'f'), gb_x_input(&b, 1, 'f'));
    return gb_graph_failed(to) ? GB_NONE : gb_pointwise(to, &b, y, in, 2, GB_F32, &shape);
}

/* The convolution with scaled filters, and what is added to it, in the place of chain end `last`.
 */
static void emit_chain(scaling *s, int last)
{
    gb_graph *to = s->r.to;
    int at = s->conv[last];
    const gb_node *conv = &s->g->node[at], *n = &s->g->node[last];
    to->path = gb_arena_string(to->arena, conv->path);
    to->phase = gb_arena_string(to->arena, conv->phase);
    factors f = {0};
    for (int i = s->next[at]; i >= 0; i = s->next[i])
        if (!gb_graph_failed(to)) f = follow(s, &s->g->node[i], f);
    gb_value in[2] = {gb_rewrite_value(&s->r, conv->in[0]), scaled_filters(s, conv, f.a)}, sum[2];
    if (gb_graph_failed(to)) return;
    gb_node *copy = gb_graph_append(to, conv->op, in, 2, conv->attr, conv->n_attr, 1, NULL);
    if (!copy) return;
    sum[0] = copy->out[0];
    sum[1] = f.b;
    gb_set_output(to, copy, 0, GB_F32, gb_shape_ptr(s->g, conv->out[0]));
    gb_xb b = {0};
    gb_x y = gb_x2(&b, GB_P_ADD, gb_x_input(&b, 0, 'f'), gb_x_input(&b, 1, 'f'));
    s->r.map[n->out[0]] = gb_pointwise(to, &b, y, sum, 2, GB_F32, &n->compute->space);
}

/* Does a chain that ends here, or goes on from here, scale? */
static int end_of(const scaling *s, int i)
{
    while (s->next[i] >= 0) i = s->next[i];
    return i;
}

static gb_graph *rewrite(scaling *s, gb_error *err)
{
    if (!gb_rewrite_begin(&s->r, s->g, err)) return NULL;
    for (int i = 0; i < s->g->n_nodes && !gb_graph_failed(s->r.to); i++) {
        int end = s->conv[i] >= 0 ? end_of(s, i) : -1;
        if (end < 0 || !s->scales[end])
            gb_rewrite_copy(&s->r, &s->g->node[i]);
        else if (end == i)
            emit_chain(s, i);
    }
    return gb_rewrite_end(&s->r, err);
}

static bool changes_states(const gb_graph *g)
{
    for (int i = 0; i < g->n_states; i++)
        if (g->value[g->state[i]].update) return true;
    return false;
}

gb_graph *gb_scale_filters(gb_graph *g, gb_error *err)
{
    if (changes_states(g)) return g;
    scaling s = {.g = g};
    size_t nodes = (size_t)g->n_nodes + 1, values = (size_t)g->n_values + 1;
    s.fixed = calloc(values, 1);
    s.readers = calloc(values, sizeof *s.readers);
    s.conv = calloc(nodes, sizeof *s.conv);
    s.next = calloc(nodes, sizeof *s.next);
    s.scales = calloc(nodes, 1);
    gb_graph *result = g;
    if (!s.fixed || !s.readers || !s.conv || !s.next || !s.scales) {
        gb_fail(err, GB_OUT_OF_MEMORY, NULL, "use a smaller model",
                "no memory to compile the graph");
        result = NULL;
    } else if (find_chains(&s)) {
        result = rewrite(&s, err);
    }
    if (result != g) gb_graph_destroy(&g);
    free(s.fixed);
    free(s.readers);
    free(s.conv);
    free(s.next);
    free(s.scales);
    return result;
}
