/* Gather and its gradient over Take: rows of [outer, rows, inner] by index. */
#include "core/ir/ops/ops.h"

static void infer_gather(gb_graph *g, const gb_node *n)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]), *index = gb_shape_ptr(g, n->in[1]);
    int axis = gb_axis(g, n, gb_node_int(n, "axis"), x->rank);
    gb_shape s = {.rank = x->rank - 1 + index->rank};
    if (s.rank > GB_MAX_RANK || x->rank < 1 || gb_dtype_is_float(gb_dtype_at(g, n->in[1]))) {
        gb_node_fail(g, n, "give integer indices; tensors have up to 8 axes", "inputs do not fit");
        return;
    }
    int at = 0;
    for (int i = 0; i < axis; i++) s.dim[at++] = x->dim[i];
    for (int i = 0; i < index->rank; i++) s.dim[at++] = index->dim[i];
    for (int i = axis + 1; i < x->rank; i++) s.dim[at++] = x->dim[i];
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void expand_gather(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_shape x = *gb_shape_ptr(g, n->in[0]), s = *gb_shape_ptr(g, n->out[0]);
    int axis = gb_axis(g, n, gb_node_int(n, "axis"), x.rank);
    gb_shape rows = {.rank = 3, .dim = {1, x.dim[axis], 1}};
    for (int i = 0; i < axis; i++) rows.dim[0] *= x.dim[i];
    for (int i = axis + 1; i < x.rank; i++) rows.dim[2] *= x.dim[i];
    gb_shape flat = {.rank = 1, .dim = {gb_shape_count(gb_shape_ptr(g, n->in[1]))}};
    gb_value v = gb_op2(g, "Take", gb_reshape_to(g, n->in[0], &rows), gb_reshape_to(g, n->in[1], &flat));
    out[0] = gb_reshape_to(g, v, &s);
}

static void infer_take(gb_graph *g, const gb_node *n)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    s.dim[1] = gb_shape_ptr(g, n->in[1])->dim[0];
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void take_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    int64_t rows = gb_shape_ptr(g, n->in[0])->dim[1];
    din[0] = GB_OP(g, "TakeGrad", GB_ARGS(dout[0], n->in[1]), GB_INT("rows", rows));
}

static void infer_take_grad(gb_graph *g, const gb_node *n)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    s.dim[1] = gb_node_int(n, "rows");
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void take_grad_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    din[0] = gb_op2(g, "Take", dout[0], n->in[1]);
}

static void lower_two(gb_lowering *l, const gb_node *n, gb_step_kind kind)
{
    gb_operand a = gb_lower_dense(l, n->in[0], NULL), b = gb_lower_dense(l, n->in[1], NULL);
    gb_operand out = gb_lower_output(l, n->out[0], NULL);
    gb_step *s = gb_lower_step(l, n, kind);
    if (!s) return;
    s->n_in = 2;
    s->in[0] = a;
    s->in[1] = b;
    s->n_out = 1;
    s->out[0] = out;
}

static void lower_take(gb_lowering *l, const gb_node *n) { lower_two(l, n, GB_STEP_GATHER); }
static void lower_take_grad(gb_lowering *l, const gb_node *n) { lower_two(l, n, GB_STEP_GATHER_GRAD); }

const gb_op gb_ops_gather[] = {
    {.name = "Gather", .min_in = 2, .max_in = 2, .max_out = 1, .needs = GB_NEEDS_INPUT,
     .infer = infer_gather, .expand = expand_gather, .attr = {{.name = "axis", .type = GB_ATTR_INT}}},
    {.name = "Take", .min_in = 2, .max_in = 2, .max_out = 1, .internal = true, .infer = infer_take,
     .gradient = take_gradient, .lower = lower_take},
    {.name = "TakeGrad", .min_in = 2, .max_in = 2, .max_out = 1, .internal = true,
     .infer = infer_take_grad, .gradient = take_grad_gradient, .lower = lower_take_grad,
     .attr = {{.name = "rows", .type = GB_ATTR_INT}}},
    {0}};
