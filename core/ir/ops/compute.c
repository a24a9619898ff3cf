/* Pointwise and Reduce: the two operators into which most others are expanded. */
#include <string.h>

#include "core/ir/ops/ops.h"

#define X2(p, a, c) gb_x2(b, GB_P_##p, a, c)
#define X3(p, a, c, d) gb_x3(b, GB_P_##p, a, c, d)
#define K(v) gb_x_const(b, v)

static bool wants_gradient(const gb_graph *g, const gb_node *n, int k)
{
    return gb_dtype_is_float(gb_dtype_at(g, n->in[k])) && g->value[n->in[k]].kind != GB_V_SCALAR;
}

/* An expression under construction with its operands. */
typedef struct draft {
    gb_xb b;
    gb_value in[GB_MAX_EXPR_INPUTS];
    int n_in;
} draft;

static gb_x draft_operand(draft *d, const gb_graph *g, gb_value v)
{
    int k = 0;
    while (k < d->n_in && d->in[k] != v) k++;
    if (k == GB_MAX_EXPR_INPUTS) {
        d->b.failed = true;
        return -1;
    }
    if (k == d->n_in) d->in[d->n_in++] = v;
    return gb_x_operand(&d->b, g, d->in, k);
}

/* Inlines the node's expression; x: the leaves of its inputs, y: its results. */
static void draft_node(draft *d, const gb_graph *g, const gb_node *n, gb_x *x, gb_x *y)
{
    for (int k = 0; k < n->n_in; k++) x[k] = draft_operand(d, g, n->in[k]);
    gb_x_inline(&d->b, n->compute->expr, x, NULL, y);
}

static gb_value draft_finish(draft *d, gb_graph *g, gb_x y, gb_value like, const gb_shape *space)
{
    gb_value v = gb_pointwise(g, &d->b, y, d->in, d->n_in, gb_dtype_at(g, like), space);
    return gb_sum_to(g, v, gb_shape_ptr(g, like));
}

static void pointwise_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    for (int k = 0; k < n->n_in; k++) {
        if (!wants_gradient(g, n, k)) continue;
        draft d = {0};
        gb_xb *b = &d.b;
        gb_x x[GB_MAX_EXPR_INPUTS], y[GB_MAX_STEP_OUT], sum = K(0);
        draft_node(&d, g, n, x, y);
        for (int o = 0; o < n->n_out; o++)
            if (dout[o] && gb_x_type(b, y[o]) == 'f')
                sum = X2(ADD, sum, gb_x_derive(b, y[o], x[k], draft_operand(&d, g, dout[o])));
        din[k] = draft_finish(&d, g, sum, n->in[k], &n->compute->space);
    }
}

/* --- Reduce --- */

static gb_shape kept_shape(const gb_compute *c)
{
    gb_shape s = c->space;
    for (int i = 0; i < s.rank; i++)
        if (c->mask >> i & 1) s.dim[i] = 1;
    return s;
}

static double reduced_count(const gb_compute *c)
{
    double count = 1;
    for (int i = 0; i < c->space.rank; i++)
        if (c->mask >> i & 1) count *= (double)c->space.dim[i];
    return count;
}

/* One value per result from a helper expression over the same space: e = f(expr output o, extra). */
static gb_value reduce_again(gb_graph *g, const gb_node *n, int o, gb_value extra, gb_combine red,
                             gb_x (*f)(gb_xb *b, gb_x e, gb_x extra))
{
    draft d = {0};
    gb_x x[GB_MAX_EXPR_INPUTS], y[GB_MAX_STEP_OUT];
    draft_node(&d, g, n, x, y);
    gb_x e = f(&d.b, y[o], extra ? draft_operand(&d, g, extra) : -1);
    gb_compute c = {.space = n->compute->space, .mask = n->compute->mask, .keep = true,
                    .red = {red}, .scale = {1}};
    gb_value out;
    gb_reduce_n(g, &d.b, &e, 1, d.in, d.n_in, &c, &out);
    return out;
}

static gb_x equals(gb_xb *b, gb_x e, gb_x extreme)
{
    return X3(SELECT, X2(EQ, e, extreme), K(1), K(0));
}

static gb_x is_zero(gb_xb *b, gb_x e, gb_x unused)
{
    return X3(SELECT, X2(EQ, e, K(0)), K(1), K(0));
}

static gb_x but_zero(gb_xb *b, gb_x e, gb_x unused)
{
    return X3(SELECT, X2(EQ, e, K(0)), K(1), e);
}

/* What flows back into expression output o, one case a combiner. value[] are the results and dout[]
 * their gradients with reduced axes kept. */
typedef struct back {
    gb_value result[2], dout[2];   /* MOMENTS: mean and variance */
    gb_value helper, helper2;      /* MAX, MIN: ties; PROD: zeros, product of the others */
} back;

static gb_x back_through(gb_graph *g, draft *d, const gb_compute *c, int o, const back *r, gb_x e)
{
    gb_xb *b = &d->b;
    gb_x dy = r->dout[0] ? draft_operand(d, g, r->dout[0]) : K(0);
    double count = reduced_count(c);
    switch (c->red[o]) {
    case GB_SUM: return X2(MUL, dy, K(c->scale[o]));
    case GB_MOMENTS: {
        gb_x sum = X2(MUL, dy, K(1 / count));
        if (!r->dout[1]) return sum;
        gb_x centred = X2(SUB, e, draft_operand(d, g, r->result[0]));
        gb_x dv = X2(MUL, draft_operand(d, g, r->dout[1]), K(2 / count));
        return X2(ADD, sum, X2(MUL, dv, centred));
    }
    case GB_MAX:
    case GB_MIN: { /* ties share, as in PyTorch's amax */
        gb_x hit = X2(EQ, e, draft_operand(d, g, r->result[0]));
        return X3(SELECT, hit, X2(DIV, dy, draft_operand(d, g, r->helper)), K(0));
    }
    case GB_PROD: { /* with one zero only that element has a gradient, with two none */
        gb_x zeros = draft_operand(d, g, r->helper), others = draft_operand(d, g, r->helper2);
        gb_x zero = X2(EQ, e, K(0)), one_zero = X2(EQ, zeros, K(1));
        gb_x at_zero = X3(SELECT, one_zero, others, K(0));
        gb_x at_other = X3(SELECT, X2(EQ, zeros, K(0)), X2(DIV, others, e), K(0));
        return X2(MUL, X2(MUL, dy, K(c->scale[o])), X3(SELECT, zero, at_zero, at_other));
    }
    }
    return -1;
}

static void reduce_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    const gb_compute *c = n->compute;
    gb_shape keep = kept_shape(c);
    back r[GB_MAX_STEP_OUT] = {0};
    for (int o = 0, v = 0; o < c->expr->n_out; o++)
        for (int m = 0; m < (c->red[o] == GB_MOMENTS ? 2 : 1); m++, v++) {
            r[o].result[m] = gb_reshape_to(g, n->out[v], &keep);
            if (dout[v]) r[o].dout[m] = gb_reshape_to(g, dout[v], &keep);
            if (c->red[o] == GB_MAX || c->red[o] == GB_MIN)
                r[o].helper = reduce_again(g, n, o, r[o].result[0], GB_SUM, equals);
            if (c->red[o] == GB_PROD) {
                r[o].helper = reduce_again(g, n, o, GB_NONE, GB_SUM, is_zero);
                r[o].helper2 = reduce_again(g, n, o, GB_NONE, GB_PROD, but_zero);
            }
        }
    for (int k = 0; k < n->n_in; k++) {
        if (!wants_gradient(g, n, k)) continue;
        draft d = {0};
        gb_x x[GB_MAX_EXPR_INPUTS], y[GB_MAX_STEP_OUT], sum = -1;
        draft_node(&d, g, n, x, y);
        for (int o = 0; o < c->expr->n_out; o++) {
            if ((!r[o].dout[0] && !r[o].dout[1]) || gb_x_type(&d.b, y[o]) != 'f') continue;
            gb_x de = back_through(g, &d, c, o, &r[o], y[o]);
            gb_x part = gb_x_derive(&d.b, y[o], x[k], de);
            sum = sum < 0 ? part : gb_x2(&d.b, GB_P_ADD, sum, part);
        }
        if (sum < 0) sum = gb_x_const(&d.b, 0);
        din[k] = draft_finish(&d, g, sum, n->in[k], &c->space);
    }
}

/* --- lowering --- */

/* Does this shape give each channel of an image one value for all pixels? */
static bool is_one_pixel(const gb_shape *s, const gb_shape *image)
{
    return image->rank == 4 && s->rank == 4 && s->dim[1] != 1 && s->dim[2] == 1 && s->dim[3] == 1 &&
           image->dim[2] * image->dim[3] > 1;
}

/* The memory order in which to iterate: that of the first operand that spans the whole space and
 * is not row-major, so that channels-last images stay channels-last; images that are made of one
 * pixel alone, such as the gradient of a global average, are channels-last. */
static void iteration_order(gb_lowering *l, const gb_node *n, int *order)
{
    const gb_shape *space = &n->compute->space;
    bool spans = false, pixel = false;
    for (int i = 0; i < space->rank; i++) order[i] = i;
    for (int k = 0; k < n->n_in; k++) {
        const gb_shape *own_shape = gb_shape_ptr(gb_lower_graph(l), n->in[k]);
        pixel = pixel || is_one_pixel(own_shape, space);
        if (!gb_shape_equal(own_shape, space)) continue;
        spans = true;
        int own[GB_MAX_RANK];
        gb_operand_order(gb_lower_operand(l, n->in[k]), own);
        bool row_major = true;
        for (int i = 0; i < space->rank; i++) row_major = row_major && own[i] == i;
        if (row_major) continue;
        for (int i = 0; i < space->rank; i++) order[i] = own[i];
        return;
    }
    if (pixel && !spans) memcpy(order, gb_channels_last, sizeof gb_channels_last);
}

/* A window seen in the iteration space: broadcast axes get stride 0. */
static gb_operand in_space(const gb_operand *o, const gb_shape *space)
{
    gb_operand r = *o;
    r.rank = space->rank;
    for (int i = 0; i < space->rank; i++) {
        int k = i - (space->rank - o->rank);
        bool own = k >= 0 && (o->dim[k] == space->dim[i]);
        r.dim[i] = space->dim[i];
        r.stride[i] = own && (o->dim[k] != 1) ? o->stride[k] : 0;
    }
    return r;
}

static void set_space(gb_step *s, const gb_shape *space)
{
    s->rank = space->rank;
    for (int i = 0; i < space->rank; i++) s->dim[i] = space->dim[i];
}

static void pointwise_lower(gb_lowering *l, const gb_node *n)
{
    int order[GB_MAX_RANK];
    iteration_order(l, n, order);
    gb_operand out[GB_MAX_STEP_OUT];
    for (int k = 0; k < n->n_out; k++) out[k] = gb_lower_output(l, n->out[k], order);
    gb_step *s = gb_lower_step(l, n, GB_STEP_POINTWISE);
    if (!s) return;
    set_space(s, &n->compute->space);
    s->expr = n->compute->expr;
    s->n_in = n->n_in;
    for (int k = 0; k < n->n_in; k++)
        s->in[k] = in_space(gb_lower_operand(l, n->in[k]), &n->compute->space);
    s->n_out = n->n_out;
    for (int k = 0; k < n->n_out; k++) s->out[k] = out[k];
}

/* Reduced axes go behind the kept ones, both in memory order; expressions with coordinates name
 * axes of the space, so these are renamed. */
static const gb_expr *permute_coords(gb_lowering *l, const gb_expr *e, const int *axis, int rank)
{
    if (!gb_expr_uses(e, GB_P_COORD)) return e;
    const gb_graph *g = gb_lower_graph(l);
    gb_expr *copy = gb_arena_copy(g->arena, e, sizeof *e);
    gb_enode *node = copy ? gb_arena_copy(g->arena, e->node, (size_t)e->n_nodes * sizeof *node) : NULL;
    if (!node) return NULL;
    for (int i = 0; i < e->n_nodes; i++) {
        if (node[i].prim != GB_P_COORD) continue;
        for (int k = 0; k < rank; k++)
            if (axis[k] == (int)e->node[i].imm) node[i].imm = k;
    }
    copy->node = node;
    return copy;
}

static gb_operand permuted(const gb_operand *o, const int *axis, int rank)
{
    gb_operand r = *o;
    r.rank = rank;
    for (int i = 0; i < rank; i++) {
        r.dim[i] = o->dim[axis[i]];
        r.stride[i] = o->stride[axis[i]];
    }
    return r;
}

static void reduce_lower(gb_lowering *l, const gb_node *n)
{
    const gb_compute *c = n->compute;
    int order[GB_MAX_RANK], axis[GB_MAX_RANK], n_kept = 0, rank = c->space.rank;
    iteration_order(l, n, order);
    for (int pass = 0, at = 0; pass < 2; pass++)
        for (int i = 0; i < rank; i++)
            if ((c->mask >> order[i] & 1) == (unsigned)pass) {
                axis[at++] = order[i];
                n_kept += !pass;
            }
    /* the output's axes: the kept ones in graph order, with 1s where reduced axes stay */
    int place[GB_MAX_RANK], out_rank = 0;
    for (int i = 0; i < rank; i++)
        place[i] = c->mask >> i & 1 ? (c->keep ? out_rank++ : -1) : out_rank++;
    int out_order[GB_MAX_RANK], used = 0;
    for (int i = 0; i < rank; i++)
        if (place[order[i]] >= 0) out_order[used++] = place[order[i]];
    gb_operand out[GB_MAX_STEP_OUT];
    for (int k = 0; k < n->n_out; k++) out[k] = gb_lower_output(l, n->out[k], out_order);
    gb_step *s = gb_lower_step(l, n, GB_STEP_REDUCE);
    if (!s) return;
    s->expr = permute_coords(l, c->expr, axis, rank);
    s->rank = rank;
    s->n_kept = n_kept;
    s->n_red = c->expr->n_out;
    for (int i = 0; i < rank; i++) s->dim[i] = c->space.dim[axis[i]];
    for (int k = 0; k < s->n_red; k++) {
        s->red[k] = c->red[k];
        s->scale[k] = c->scale[k];
    }
    s->n_in = n->n_in;
    for (int k = 0; k < n->n_in; k++) {
        gb_operand o = in_space(gb_lower_operand(l, n->in[k]), &c->space);
        s->in[k] = permuted(&o, axis, rank);
    }
    s->n_out = n->n_out;
    for (int k = 0; k < n->n_out; k++) {
        s->out[k] = out[k];
        s->out[k].rank = n_kept;
        for (int i = 0; i < n_kept; i++) {
            s->out[k].dim[i] = c->space.dim[axis[i]];
            s->out[k].stride[i] = out[k].stride[place[axis[i]]];
        }
    }
}

static void infer_nothing(gb_graph *g, const gb_node *n)
{
    gb_node_fail(g, n, "use ONNX operators", "is internal to passes");
}

const gb_op gb_ops_compute[] = {
    {.name = "Pointwise", .max_in = -1, .max_out = GB_MAX_STEP_OUT, .internal = true,
     .infer = infer_nothing, .gradient = pointwise_gradient, .lower = pointwise_lower},
    {.name = "Reduce", .keeps_f32 = true, .max_in = -1, .max_out = GB_MAX_STEP_OUT, .internal = true,
     .infer = infer_nothing, .gradient = reduce_gradient, .lower = reduce_lower},
    {0}};
