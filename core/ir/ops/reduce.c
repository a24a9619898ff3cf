/* Reductions of ONNX, expanded into Reduce; ArgMax and ArgMin. */
#include <math.h>
#include <string.h>

#include "core/ir/ops/ops.h"

static uint32_t reduced_axes(gb_graph *g, const gb_node *n, int rank)
{
    int64_t axes[GB_MAX_RANK];
    int count = gb_node_ints(g, n, "axes", 1, axes, GB_MAX_RANK);
    if (count <= 0) return gb_node_int(n, "noop_with_empty_axes") ? 0 : (1u << rank) - 1;
    uint32_t mask = 0;
    for (int i = 0; i < count; i++) mask |= 1u << gb_axis(g, n, axes[i], rank);
    return mask;
}

static gb_shape reduced_shape(const gb_shape *in, uint32_t mask, bool keep)
{
    gb_shape s = {0};
    for (int i = 0; i < in->rank; i++) {
        if (!(mask >> i & 1)) s.dim[s.rank++] = in->dim[i];
        else if (keep) s.dim[s.rank++] = 1;
    }
    return s;
}

static void infer_reduce(gb_graph *g, const gb_node *n)
{
    const gb_shape *in = gb_shape_ptr(g, n->in[0]);
    gb_shape s = reduced_shape(in, reduced_axes(g, n, in->rank), gb_node_int(n, "keepdims") != 0);
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

/* A prologue, a combiner, an epilogue: every reduction of ONNX but log-sum-exp. */
typedef struct recipe {
    const char *name;
    gb_combine red;
    bool mean;
    gb_prim before, after; /* GB_P_INPUT: none; MUL: square */
} recipe;

static const recipe recipes[] = {
    {"ReduceSum", GB_SUM}, {"ReduceMean", GB_SUM, .mean = true}, {"ReduceMax", GB_MAX},
    {"ReduceMin", GB_MIN}, {"ReduceProd", GB_PROD}, {"ReduceL1", GB_SUM, .before = GB_P_ABS},
    {"ReduceL2", GB_SUM, .before = GB_P_MUL, .after = GB_P_SQRT},
    {"ReduceSumSquare", GB_SUM, .before = GB_P_MUL}, {"ReduceLogSum", GB_SUM, .after = GB_P_LOG},
};

/* p: INPUT leaves the value as it is. */
static gb_value unary(gb_graph *g, gb_prim p, gb_value v, gb_dtype dtype)
{
    if (gb_graph_failed(g)) return GB_NONE;
    gb_xb b = {0};
    gb_x y = gb_x_operand(&b, g, &v, 0);
    gb_shape space = *gb_shape_ptr(g, v);
    if (p != GB_P_INPUT) y = gb_x1(&b, p, y);
    return gb_pointwise(g, &b, y, &v, 1, dtype, &space);
}

/* The extreme of nothing, for a type without infinities: the other end of its range. */
static gb_value empty_extreme(gb_graph *g, const gb_node *n, bool max)
{
    static const struct {
        gb_dtype type;
        int32_t low, high;
    } ranges[] = {{GB_BOOL, 0, 1},          {GB_U8, 0, UINT8_MAX},   {GB_I8, INT8_MIN, INT8_MAX},
                  {GB_U16, 0, UINT16_MAX},  {GB_I16, INT16_MIN, INT16_MAX},
                  {GB_U32, 0, INT32_MAX},   {GB_U64, 0, INT32_MAX}};
    gb_dtype t = gb_dtype_at(g, n->out[0]);
    int32_t value = max ? INT32_MIN : INT32_MAX; /* devices hold integers in 32 bits */
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (ranges[i].type == t) value = max ? ranges[i].low : ranges[i].high;
    gb_xb b = {0};
    gb_shape space = *gb_shape_ptr(g, n->out[0]);
    return gb_pointwise(g, &b, gb_x_iconst(&b, value), NULL, 0, t, &space);
}

static void expand_reduce(gb_graph *g, const gb_node *n, gb_value *out)
{
    const recipe *r = recipes;
    while (strcmp(r->name, n->op->name) != 0) r++;
    gb_value x = n->in[0];
    gb_compute c = {.space = *gb_shape_ptr(g, x), .keep = gb_node_int(n, "keepdims") != 0,
                    .red = {r->red}, .scale = {1}};
    c.mask = reduced_axes(g, n, c.space.rank);
    double count = 1;
    for (int i = 0; i < c.space.rank; i++)
        if (c.mask >> i & 1) count *= (double)c.space.dim[i];
    if (count == 0 && (r->red == GB_MAX || r->red == GB_MIN) && !gb_dtype_is_float(gb_dtype_at(g, x))) {
        out[0] = empty_extreme(g, n, r->red == GB_MAX);
        return;
    }
    gb_xb b = {0};
    gb_x e = gb_x_operand(&b, g, &x, 0);
    bool whole = gb_x_type(&b, e) == 'i';
    if (whole && (r->mean || r->before == GB_P_ABS || r->after)) e = gb_x1(&b, GB_P_I2F, e);
    bool real = gb_x_type(&b, e) == 'f';
    if (r->before == GB_P_ABS) e = gb_x1(&b, GB_P_ABS, e);
    if (r->before == GB_P_MUL) e = gb_x2(&b, real ? GB_P_MUL : GB_P_IMUL, e, e);
    if (r->mean) c.scale[0] = 1 / count;
    gb_reduce_n(g, &b, &e, 1, &x, 1, &c, &out[0]);
    gb_dtype type = gb_dtype_at(g, n->out[0]);
    if (r->after) out[0] = unary(g, r->after, out[0], real ? GB_F32 : type);
    if (whole && (real || type != GB_I32)) out[0] = unary(g, real ? GB_P_F2I : GB_P_INPUT, out[0], type);
}

/* log(sum(exp(x - max))) + max: never overflows. */
static void expand_logsumexp(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_value x = n->in[0];
    gb_compute c = {.space = *gb_shape_ptr(g, x), .keep = true, .red = {GB_MAX}, .scale = {1}};
    c.mask = reduced_axes(g, n, c.space.rank);
    gb_shape shape = *gb_shape_ptr(g, n->out[0]);
    gb_dtype t = gb_dtype_at(g, x);
    gb_xb b = {0};
    gb_value v[2] = {x};
    gb_x e = gb_x_operand(&b, g, v, 0);
    gb_reduce_n(g, &b, &e, 1, v, 1, &c, &v[1]);
    if (gb_graph_failed(g)) return;
    gb_shape kept = *gb_shape_ptr(g, v[1]);
    /* a maximum of ±infinity would give inf - inf: shift by 0 there, as numpy does */
    gb_x m = gb_x_operand(&b, g, v, 1);
    gb_x finite = gb_x2(&b, GB_P_LT, gb_x1(&b, GB_P_ABS, m), gb_x_const(&b, INFINITY));
    gb_x shift = gb_x3(&b, GB_P_SELECT, finite, m, gb_x_const(&b, 0));
    v[1] = gb_pointwise(g, &b, shift, v, 2, t, &kept);
    e = gb_x1(&b, GB_P_EXP, gb_x2(&b, GB_P_SUB, gb_x_operand(&b, g, v, 0), gb_x_operand(&b, g, v, 1)));
    c.red[0] = GB_SUM;
    gb_value w[2] = {GB_NONE, v[1]};
    gb_reduce_n(g, &b, &e, 1, v, 2, &c, &w[0]);
    if (gb_graph_failed(g)) return;
    gb_x y = gb_x2(&b, GB_P_ADD, gb_x1(&b, GB_P_LOG, gb_x_operand(&b, g, w, 0)), gb_x_operand(&b, g, w, 1));
    out[0] = gb_reshape_to(g, gb_pointwise(g, &b, y, w, 2, t, &kept), &shape);
}

/* The softmax: the shift by the maximum cancels, so its own gradient is not needed. */
static void logsumexp_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    gb_value x = n->in[0];
    const gb_shape space = *gb_shape_ptr(g, x);
    gb_shape keep = reduced_shape(&space, reduced_axes(g, n, space.rank), true);
    gb_value in[3] = {x, gb_reshape_to(g, n->out[0], &keep), gb_reshape_to(g, dout[0], &keep)};
    if (gb_graph_failed(g)) return;
    gb_xb b = {0};
    gb_x e = gb_x1(&b, GB_P_EXP, gb_x2(&b, GB_P_SUB, gb_x_operand(&b, g, in, 0), gb_x_operand(&b, g, in, 1)));
    gb_x d = gb_x2(&b, GB_P_MUL, gb_x_operand(&b, g, in, 2), e);
    din[0] = gb_pointwise(g, &b, d, in, 3, gb_dtype_at(g, x), &space);
}

/* --- ArgMax, ArgMin --- */

static void infer_arg(gb_graph *g, const gb_node *n)
{
    const gb_shape *in = gb_shape_ptr(g, n->in[0]);
    int axis = gb_axis(g, n, gb_node_int(n, "axis"), in->rank);
    if (gb_graph_failed(g)) return;
    if (in->dim[axis] == 0) gb_node_fail(g, n, "reduce over an axis with elements", "the axis is empty");
    gb_shape s = reduced_shape(in, 1u << axis, gb_node_int(n, "keepdims") != 0);
    gb_set_output(g, n, 0, GB_I64, &s);
}

static void lower_arg(gb_lowering *l, const gb_node *n)
{
    const gb_operand *in = gb_lower_operand(l, n->in[0]);
    int rank = in->rank, axis = (int)gb_node_int(n, "axis");
    if (axis < 0) axis += rank;
    gb_operand x = *in, out = gb_lower_output(l, n->out[0], NULL);
    gb_step *s = gb_lower_step(l, n, GB_STEP_ARGREDUCE);
    if (!s) return;
    bool keep = gb_node_int(n, "keepdims") != 0;
    s->rank = rank;
    s->n_kept = rank - 1;
    s->n_in = s->n_out = 1;
    s->in[0] = x;
    s->out[0] = out;
    s->out[0].rank = rank - 1;
    for (int i = 0, at = 0; i < rank; i++) {
        int to = i == axis ? rank - 1 : at;
        s->dim[to] = s->in[0].dim[to] = x.dim[i];
        s->in[0].stride[to] = x.stride[i];
        if (i == axis) continue;
        s->out[0].dim[to] = x.dim[i];
        s->out[0].stride[to] = out.stride[keep ? i : at];
        at++;
    }
    s->u.arg.min = strcmp(n->op->name, "ArgMin") == 0;
    s->u.arg.last = gb_node_int(n, "select_last_index") != 0;
}

#define REDUCTION(op, tol) \
    {.name = op, .keeps_f32 = true, .min_in = 1, .max_in = 2, .max_out = 1, .infer = infer_reduce, \
     .expand = expand_reduce, .tolerance = tol, .attr = {REDUCE_ATTRS}}
#define REDUCE_ATTRS {.name = "axes", .type = GB_ATTR_INTS}, \
        {.name = "keepdims", .type = GB_ATTR_INT, .number = 1}, \
        {.name = "noop_with_empty_axes", .type = GB_ATTR_INT}
#define ARG(op) \
    {.name = op, .min_in = 1, .max_in = 1, .max_out = 1, .infer = infer_arg, .lower = lower_arg, \
     .not_differentiable = "gives indices", \
     .attr = {{.name = "axis", .type = GB_ATTR_INT}, \
              {.name = "keepdims", .type = GB_ATTR_INT, .number = 1}, \
              {.name = "select_last_index", .type = GB_ATTR_INT}}}

const gb_op gb_ops_reduce[] = {
    REDUCTION("ReduceSum", 0), REDUCTION("ReduceMean", 0), REDUCTION("ReduceMax", 0),
    REDUCTION("ReduceMin", 0), REDUCTION("ReduceProd", 1e-5), REDUCTION("ReduceL1", 0),
    REDUCTION("ReduceL2", 0), REDUCTION("ReduceSumSquare", 0), REDUCTION("ReduceLogSum", 0),
    {.name = "ReduceLogSumExp", .keeps_f32 = true, .min_in = 1, .max_in = 2, .max_out = 1, .types = GB_T_FLOAT,
     .needs = GB_NEEDS_OUTPUT, .infer = infer_reduce, .expand = expand_logsumexp,
     .gradient = logsumexp_gradient, .attr = {REDUCE_ATTRS}},
    ARG("ArgMax"), ARG("ArgMin"),
    {0}};
