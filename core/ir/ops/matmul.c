/* MatMul and Gemm over Dot: [batch…, M, K] · [batch…, K, N], batch axes broadcast. */
#include <string.h>

#include "core/ir/ops/ops.h"

static void infer_matmul(gb_graph *g, const gb_node *n)
{
    const gb_shape *a = gb_shape_ptr(g, n->in[0]), *b = gb_shape_ptr(g, n->in[1]);
    char ta[160], tb[160];
    gb_shape ba = *a, bb = *b, s;
    int64_t ka = a->rank ? a->dim[a->rank - 1] : -1;
    int64_t kb = b->rank ? b->dim[b->rank > 1 ? b->rank - 2 : 0] : -1;
    ba.rank = a->rank > 2 ? a->rank - 2 : 0;
    bb.rank = b->rank > 2 ? b->rank - 2 : 0;
    if (ka < 0 || kb < 0 || ka != kb || !gb_broadcast(&ba, &bb, &s) || s.rank + 2 > GB_MAX_RANK ||
        gb_dtype_at(g, n->in[0]) != gb_dtype_at(g, n->in[1])) {
        gb_node_fail(g, n, "the inner axes must be equal, outer ones equal or 1, types the same",
                     "shapes %s and %s cannot be multiplied", gb_shape_text(a, ta, sizeof ta),
                     gb_shape_text(b, tb, sizeof tb));
        return;
    }
    if (a->rank > 1) s.dim[s.rank++] = a->dim[a->rank - 2];
    if (b->rank > 1) s.dim[s.rank++] = b->dim[b->rank - 1];
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static gb_value with_rank(gb_graph *g, gb_value v, int rank)
{
    gb_shape s = *gb_shape_ptr(g, v), to = {.rank = rank};
    for (int i = 0; i < rank; i++)
        to.dim[i] = i < rank - s.rank ? 1 : s.dim[i - (rank - s.rank)];
    return gb_reshape_to(g, v, &to);
}

static gb_value dot(gb_graph *g, gb_value a, gb_value b)
{
    if (gb_graph_failed(g)) return GB_NONE;
    int ra = gb_shape_ptr(g, a)->rank, rb = gb_shape_ptr(g, b)->rank, rank = ra > rb ? ra : rb;
    return gb_op2(g, "Dot", with_rank(g, a, rank), with_rank(g, b, rank));
}

static void expand_matmul(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_value a = n->in[0], b = n->in[1];
    gb_shape sa = *gb_shape_ptr(g, a), sb = *gb_shape_ptr(g, b), s = *gb_shape_ptr(g, n->out[0]);
    if (sa.rank == 1) {
        gb_shape row = {.rank = 2, .dim = {1, sa.dim[0]}};
        a = gb_reshape_to(g, a, &row);
    }
    if (sb.rank == 1) {
        gb_shape column = {.rank = 2, .dim = {sb.dim[0], 1}};
        b = gb_reshape_to(g, b, &column);
    }
    out[0] = gb_reshape_to(g, dot(g, a, b), &s);
}

static void infer_gemm(gb_graph *g, const gb_node *n)
{
    const gb_shape *a = gb_shape_ptr(g, n->in[0]), *b = gb_shape_ptr(g, n->in[1]);
    int ta = gb_node_int(n, "transA") != 0, tb = gb_node_int(n, "transB") != 0;
    char text_a[160], text_b[160];
    if (a->rank != 2 || b->rank != 2 || a->dim[1 - ta] != b->dim[tb] ||
        gb_dtype_at(g, n->in[0]) != gb_dtype_at(g, n->in[1])) {
        gb_node_fail(g, n, "both must be matrices with an equal inner axis and one type",
                     "shapes %s and %s cannot be multiplied", gb_shape_text(a, text_a, sizeof text_a),
                     gb_shape_text(b, text_b, sizeof text_b));
        return;
    }
    gb_shape s = {.rank = 2, .dim = {a->dim[ta], b->dim[1 - tb]}}, with_c;
    if (n->n_in > 2 && n->in[2] &&
        (!gb_broadcast(&s, gb_shape_ptr(g, n->in[2]), &with_c) || !gb_shape_equal(&s, &with_c))) {
        gb_node_fail(g, n, "give C the result's shape, a row, a column or a number",
                     "C has shape %s", gb_shape_text(gb_shape_ptr(g, n->in[2]), text_a, sizeof text_a));
        return;
    }
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static gb_value scaled(gb_graph *g, gb_value v, double by)
{
    return by == 1 ? v : gb_op2(g, "Mul", v, gb_graph_float(g, by));
}

static void expand_gemm(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_value a = n->in[0], b = n->in[1];
    if (gb_node_int(n, "transA")) a = gb_op1(g, "Transpose", a);
    if (gb_node_int(n, "transB")) b = gb_op1(g, "Transpose", b);
    out[0] = scaled(g, gb_op2(g, "Dot", a, b), gb_node_float(n, "alpha"));
    if (n->n_in > 2 && n->in[2])
        out[0] = gb_op2(g, "Add", out[0], scaled(g, n->in[2], gb_node_float(n, "beta")));
}

/* --- Dot --- */

static void infer_dot(gb_graph *g, const gb_node *n)
{
    infer_matmul(g, n);
}

static gb_value swap_last(gb_graph *g, gb_value v)
{
    int64_t perm[GB_MAX_RANK];
    int rank = gb_graph_failed(g) ? 2 : gb_shape_ptr(g, v)->rank;
    for (int i = 0; i < rank; i++) perm[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
    return GB_OP(g, "Transpose", GB_ARGS(v), GB_INTS("perm", perm, (size_t)rank));
}

static bool is_transposed(const gb_graph *g, gb_value v)
{
    int node = g->value[v].node;
    return node >= 0 && strcmp(g->node[node].op->name, "Transpose") == 0;
}

/* x·y. The gradient of an operand that is a transposed view is made the other way round, (yᵀ·xᵀ)ᵀ,
 * so that what lies behind the view gets a dense one: a weight's, as its optimizer wants it. */
static gb_value dot_like(gb_graph *g, gb_value operand, gb_value x, gb_value y)
{
    gb_shape s = *gb_shape_ptr(g, operand);
    gb_value v = is_transposed(g, operand) ? swap_last(g, gb_op2(g, "Dot", swap_last(g, y), swap_last(g, x)))
                                           : gb_op2(g, "Dot", x, y);
    return gb_sum_to(g, v, &s);
}

/* [batch…, rows, columns] as one matrix of all rows. */
static gb_value flat_rows(gb_graph *g, gb_value v)
{
    if (gb_graph_failed(g)) return v;
    const gb_shape *s = gb_shape_ptr(g, v);
    int64_t columns = s->dim[s->rank - 1];
    gb_shape to = {.rank = 2, .dim = {1, columns}};
    for (int i = 0; i < s->rank - 1; i++) to.dim[0] *= s->dim[i];
    return gb_reshape_to(g, v, &to);
}

/* Does the whole batch of n's product share the right operand, and each have its own left one? */
static bool shares_right(const gb_graph *g, const gb_node *n)
{
    const gb_shape *a = gb_shape_ptr(g, n->in[0]), *b = gb_shape_ptr(g, n->in[1]),
                   *y = gb_shape_ptr(g, n->out[0]);
    for (int i = 0; i < y->rank - 2; i++)
        if (b->dim[i] != 1 || a->dim[i] != y->dim[i]) return false;
    return true;
}

static void dot_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    gb_value a = n->in[0], dy = dout[0];
    din[0] = dot_like(g, a, dy, swap_last(g, n->in[1]));
    if (gb_shape_ptr(g, a)->rank > 2 && shares_right(g, n)) { /* one product, not a sum of many */
        gb_shape s = *gb_shape_ptr(g, n->in[1]);
        a = flat_rows(g, a);
        dy = flat_rows(g, dy);
        din[1] = is_transposed(g, n->in[1]) ? gb_op2(g, "Dot", swap_last(g, dy), a)
                                            : gb_op2(g, "Dot", swap_last(g, a), dy);
        if (is_transposed(g, n->in[1])) din[1] = swap_last(g, din[1]);
        din[1] = gb_reshape_to(g, din[1], &s);
        return;
    }
    din[1] = dot_like(g, n->in[1], swap_last(g, a), dy);
}

/* Can an operand's axes i and i + 1 be one? */
static bool joins(const gb_operand *o, int i)
{
    return o->dim[i] == 1 || o->dim[i + 1] == 1 || o->stride[i] == o->stride[i + 1] * o->dim[i + 1];
}

static void join_axes(gb_operand *o, int i)
{
    int64_t stride = o->dim[i + 1] == 1 ? o->stride[i] : o->stride[i + 1];
    o->dim[i] *= o->dim[i + 1];
    o->stride[i] = stride;
    for (int k = i + 1; k + 1 < o->rank; k++) {
        o->dim[k] = o->dim[k + 1];
        o->stride[k] = o->stride[k + 1];
    }
    o->rank--;
}

/* A batch that shares its right operand is more rows of one product. */
static void batch_to_rows(gb_step *s)
{
    for (int i = s->out[0].rank - 3; i >= 0; i--) {
        gb_operand *b = &s->in[1];
        if (b->stride[i] != 0 && b->dim[i] != 1) return;
        bool fits = joins(&s->out[0], i);
        for (int k = 0; k < s->n_in; k++) fits = fits && (k == 1 || joins(&s->in[k], i));
        if (!fits) return;
        join_axes(&s->out[0], i);
        for (int k = 0; k < s->n_in; k++)
            if (k != 1) join_axes(&s->in[k], i);
        b->dim[i] = b->dim[i + 1];
        b->stride[i] = b->stride[i + 1];
        b->dim[i + 1] = b->dim[i + 2];
        b->stride[i + 1] = b->stride[i + 2];
        b->rank--;
    }
}

static void lower_dot(gb_lowering *l, const gb_node *n)
{
    gb_operand a = *gb_lower_operand(l, n->in[0]), b = *gb_lower_operand(l, n->in[1]);
    gb_operand out = gb_lower_output(l, n->out[0], NULL);
    for (int i = 0; i < out.rank - 2; i++) { /* broadcast batch axes */
        a.stride[i] = a.dim[i] == out.dim[i] ? a.stride[i] : 0;
        b.stride[i] = b.dim[i] == out.dim[i] ? b.stride[i] : 0;
        a.dim[i] = b.dim[i] = out.dim[i];
    }
    gb_step *s = gb_lower_step(l, n, GB_STEP_MATMUL);
    if (!s) return;
    s->n_in = 2;
    s->n_out = 1;
    s->in[0] = a;
    s->in[1] = b;
    s->out[0] = out;
    gb_lower_epilogue(l, n, s);
    batch_to_rows(s);
    s->flops = 2.0 * (double)a.dim[a.rank - 1];
    for (int i = 0; i < out.rank; i++) s->flops *= (double)out.dim[i];
}

#define NUMBER(key, t, value) {.name = key, .type = t, .number = value}

const gb_op gb_ops_matmul[] = {
    {.name = "MatMul", .min_in = 2, .max_in = 2, .max_out = 1, .needs = GB_NEEDS_INPUT,
     .infer = infer_matmul, .expand = expand_matmul, .tolerance = 1e-5},
    {.name = "Gemm", .min_in = 2, .max_in = 3, .max_out = 1, .needs = GB_NEEDS_INPUT,
     .infer = infer_gemm, .expand = expand_gemm, .tolerance = 1e-5,
     .attr = {NUMBER("alpha", GB_ATTR_FLOAT, 1), NUMBER("beta", GB_ATTR_FLOAT, 1),
              NUMBER("transA", GB_ATTR_INT, 0), NUMBER("transB", GB_ATTR_INT, 0)}},
    {.name = "Dot", .min_in = 2, .max_in = -1, .max_out = 1, .internal = true,
     .needs = GB_NEEDS_INPUT, .infer = infer_dot, .gradient = dot_gradient, .lower = lower_dot,
     .tolerance = 1e-5},
    {0}};
