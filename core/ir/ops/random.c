/* Dropout. The mask is a pure function of seed, step, layer path, sample and element, so it is the
 * same on every backend, under any split of the batch, and after a resume. */
#include "core/ir/ops/ops.h"

static void infer_dropout(gb_graph *g, const gb_node *n)
{
    double ratio = gb_node_number(g, n, 1, gb_node_float(n, "ratio"));
    if (!(ratio >= 0 && ratio < 1)) gb_node_fail(g, n, "use a ratio in [0, 1)", "ratio is %g", ratio);
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), gb_shape_ptr(g, n->in[0]));
    gb_set_output(g, n, 1, GB_BOOL, gb_shape_ptr(g, n->in[0]));
}

static uint32_t stream_of(const char *path) /* FNV-1a */
{
    uint32_t h = 2166136261u;
    for (; *path; path++) h = (h ^ (unsigned char)*path) * 16777619u;
    return h;
}

static gb_value scale_mask(gb_graph *g, const gb_node *n, double ratio)
{
    gb_shape space = *gb_shape_ptr(g, n->in[0]);
    gb_value in[3] = {gb_graph_scalar(g, "sample", GB_I32), gb_graph_scalar(g, "step", GB_I32),
                      gb_graph_scalar(g, "seed", GB_I32)};
    if (gb_graph_failed(g)) return GB_NONE;
    gb_xb b = {0};
    gb_x element = gb_x_iconst(&b, 0), sample = gb_x_operand(&b, g, in, 0);
    if (space.rank) sample = gb_x2(&b, GB_P_IADD, sample, gb_x_coord(&b, 0));
    for (int i = 1; i < space.rank; i++) /* row-major within the sample, whatever the layout */
        element = gb_x2(&b, GB_P_IADD,
                        gb_x2(&b, GB_P_IMUL, element, gb_x_iconst(&b, (int32_t)space.dim[i])),
                        gb_x_coord(&b, i));
    gb_x u = gb_x_random(&b, element, sample, gb_x_operand(&b, g, in, 1), gb_x_operand(&b, g, in, 2),
                         stream_of(n->path));
    gb_x keep = gb_x2(&b, GB_P_LE, gb_x_const(&b, (float)ratio), u);
    gb_x y = gb_x3(&b, GB_P_SELECT, keep, gb_x_const(&b, 1 / (1 - ratio)), gb_x_const(&b, 0));
    return gb_pointwise(g, &b, y, in, 3, gb_dtype_at(g, n->in[0]), &space);
}

static void expand_dropout(gb_graph *g, const gb_node *n, gb_value *out)
{
    double ratio = gb_node_number(g, n, 1, gb_node_float(n, "ratio"));
    bool training = gb_node_number(g, n, 2, (double)gb_node_int(n, "training_mode")) != 0;
    gb_value x = n->in[0], zero = gb_graph_float(g, 0);
    if (!training || ratio == 0) {
        out[0] = gb_op1(g, "Identity", x);
        if (n->n_out > 1) out[1] = gb_op1(g, "Not", gb_op2(g, "Equal", gb_op2(g, "Mul", x, zero), gb_graph_float(g, 1)));
        return;
    }
    gb_value mask = scale_mask(g, n, ratio);
    out[0] = gb_op2(g, "Mul", x, mask);
    if (n->n_out > 1) out[1] = gb_op2(g, "Less", zero, mask);
}

const gb_op gb_ops_random[] = {
    {.name = "Dropout", .min_in = 1, .max_in = 3, .max_out = 2, .infer = infer_dropout,
     .expand = expand_dropout,
     .attr = {{.name = "ratio", .type = GB_ATTR_FLOAT, .number = 0.5},
              {.name = "training_mode", .type = GB_ATTR_INT},
              {.name = "seed", .type = GB_ATTR_INT}}},
    {0}};
