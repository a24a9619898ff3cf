/* Pools. Global ones are reductions; the others slide windows over [N, C, H, W], volumes over the
 * planes first and over what comes out along the depth then. */
#include <string.h>

#include "core/ir/ops/ops.h"
#include "core/ir/ops/window.h"

static void infer_pool(gb_graph *g, const gb_node *n)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    gb_windows w;
    if (gb_node_int(n, "storage_order")) gb_node_fail(g, n, "use storage_order 0", "column-major indices are not supported");
    if (!gb_windows_read(g, n, gb_shape_ptr(g, n->in[0]), NULL, &w)) return;
    if (s.rank == 5 && n->n_out > 1)
        gb_node_fail(g, n, "use the values alone", "there are no indices of volumes");
    s = gb_windows_shape(&w, &s, s.dim[1]);
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
    gb_set_output(g, n, 1, GB_I64, &s);
}

/* ONNX's Indices count through the whole tensor; steps give positions within a plane. */
static gb_value flat_index(gb_graph *g, gb_value plane, const gb_shape *x)
{
    gb_xb b = {0};
    if (gb_graph_failed(g)) return GB_NONE;
    gb_shape space = *gb_shape_ptr(g, plane);
    gb_x image = gb_x2(&b, GB_P_IADD,
                       gb_x2(&b, GB_P_IMUL, gb_x_coord(&b, 0), gb_x_iconst(&b, (int32_t)x->dim[1])),
                       gb_x_coord(&b, 1));
    gb_x y = gb_x2(&b, GB_P_IADD, gb_x_operand(&b, g, &plane, 0),
                   gb_x2(&b, GB_P_IMUL, image, gb_x_iconst(&b, (int32_t)(x->dim[2] * x->dim[3]))));
    return gb_pointwise(g, &b, y, &plane, 1, GB_I64, &space);
}

static void pool(gb_graph *g, const gb_node *n, gb_value x, gb_window w, const int64_t size[2], gb_value *v)
{
    gb_attr attr[GB_WINDOW_ATTRS + 1];
    gb_window_attrs(&w, attr);
    attr[GB_WINDOW_ATTRS] = GB_INTS("size", size, 2);
    bool max = strcmp(n->op->name, "MaxPool") == 0;
    gb_graph_add(g, max ? "MaxPoolIndexed" : "AveragePoolForward", &x, 1, attr, GB_WINDOW_ATTRS + 1, v,
                 max ? 2 : 1);
}

/* Depth and channels change the sides: each layer is pooled by itself, then each column of layers. */
static gb_value pool_volume(gb_graph *g, const gb_node *n, const gb_windows *w)
{
    const int64_t *x = gb_shape_ptr(g, n->in[0])->dim, pixels = w->out[1] * w->out[2];
    const gb_shape layers = {.rank = 4, .dim = {x[0], x[1] * x[2], x[3], x[4]}};
    const gb_shape columns = {.rank = 4, .dim = {x[0], x[1], x[2], pixels}};
    const int64_t size[2] = {w->out[0], pixels};
    gb_value v[2] = {gb_reshape_to(g, n->in[0], &layers)};
    pool(g, n, v[0], gb_windows_plane(w), w->out + 1, v);
    pool(g, n, gb_reshape_to(g, v[0], &columns), gb_windows_depth(w), size, v);
    return v[0];
}

static void expand_pool(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_shape y = *gb_shape_ptr(g, n->out[0]);
    gb_windows w;
    if (!gb_windows_read(g, n, gb_shape_ptr(g, n->in[0]), NULL, &w)) return;
    if (y.rank == 5) {
        out[0] = gb_reshape_to(g, pool_volume(g, n, &w), &y);
        return;
    }
    gb_value x = gb_as_image(g, n->in[0]), v[2];
    pool(g, n, x, gb_windows_plane(&w), w.out + 1, v);
    out[0] = gb_reshape_to(g, v[0], &y);
    if (n->n_out < 2 || gb_graph_failed(g)) return;
    gb_shape image = *gb_shape_ptr(g, x);
    out[1] = gb_reshape_to(g, flat_index(g, v[1], &image), &y);
}

/* --- the core: attribute size is the two spatial axes of the output --- */

static void infer_core(gb_graph *g, const gb_node *n)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    gb_node_ints(g, n, "size", -1, s.dim + 2, 2);
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
    gb_set_output(g, n, 1, GB_I32, &s);
}

static void pool_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din, const char *op)
{
    gb_window w = gb_window_from(g, n);
    int64_t size[2] = {gb_shape_ptr(g, n->in[0])->dim[2], gb_shape_ptr(g, n->in[0])->dim[3]};
    gb_attr attr[GB_WINDOW_ATTRS + 1];
    gb_window_attrs(&w, attr);
    attr[GB_WINDOW_ATTRS] = GB_INTS("size", size, 2);
    gb_value in[2] = {dout[0], n->n_out > 1 ? n->out[1] : GB_NONE};
    if (dout[0]) din[0] = gb_op_list(g, op, in, in[1] ? 2 : 1, attr, GB_WINDOW_ATTRS + 1);
}

static void max_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    pool_gradient(g, n, dout, din, "MaxPoolGrad");
}

static void average_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    pool_gradient(g, n, dout, din, "AveragePoolGrad");
}

static void average_second(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    pool_gradient(g, n, dout, din, "AveragePoolForward");
}

static void lower_pool(gb_lowering *l, const gb_node *n)
{
    static const struct { const char *name; gb_step_kind kind; } kinds[] = {
        {"MaxPoolIndexed", GB_STEP_MAXPOOL}, {"MaxPoolGrad", GB_STEP_MAXPOOL_GRAD},
        {"AveragePoolForward", GB_STEP_AVGPOOL}, {"AveragePoolGrad", GB_STEP_AVGPOOL_GRAD}};
    int k = 0;
    while (strcmp(kinds[k].name, n->op->name) != 0) k++;
    gb_operand in[2], out[2];
    for (int i = 0; i < n->n_in; i++) in[i] = gb_lower_dense(l, n->in[i], gb_channels_last);
    for (int i = 0; i < n->n_out; i++) out[i] = gb_lower_output(l, n->out[i], gb_channels_last);
    gb_step *s = gb_lower_step(l, n, kinds[k].kind);
    if (!s) return;
    s->u.conv = gb_window_from((gb_graph *)gb_lower_graph(l), n);
    s->n_in = n->n_in;
    s->n_out = n->n_out;
    for (int i = 0; i < n->n_in; i++) s->in[i] = in[i];
    for (int i = 0; i < n->n_out; i++) s->out[i] = out[i];
}

/* --- global pools --- */

static void infer_global(gb_graph *g, const gb_node *n)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    if (s.rank < 3) gb_node_fail(g, n, "give [N, C, ...]", "there is no spatial axis");
    for (int i = 2; i < s.rank; i++) s.dim[i] = 1;
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void expand_global(gb_graph *g, const gb_node *n, gb_value *out)
{
    bool max = strcmp(n->op->name, "GlobalMaxPool") == 0;
    int64_t axes[GB_MAX_RANK];
    int rank = gb_shape_ptr(g, n->in[0])->rank;
    for (int i = 2; i < rank; i++) axes[i - 2] = i;
    out[0] = GB_OP(g, max ? "ReduceMax" : "ReduceMean", GB_ARGS(n->in[0]),
                   GB_INTS("axes", axes, (size_t)rank - 2));
}

#define INTS(key) {.name = key, .type = GB_ATTR_INTS}
#define FLAG(key) {.name = key, .type = GB_ATTR_INT}
#define POOL_ATTRS \
    {.name = "kernel_shape", .type = GB_ATTR_INTS, .required = true}, INTS("strides"), INTS("dilations"), \
        INTS("pads"), FLAG("ceil_mode"), {.name = "auto_pad", .type = GB_ATTR_STRING, .string = "NOTSET"}
#define CORE(op, inputs, outputs) \
    .name = op, .min_in = inputs, .max_in = inputs, .max_out = outputs, .internal = true, \
    .infer = infer_core, .lower = lower_pool, .attr = {GB_WINDOW_SPECS, INTS("size")}

const gb_op gb_ops_pool[] = {
    {.name = "MaxPool", .min_in = 1, .max_in = 1, .max_out = 2, .needs = GB_NEEDS_OUTPUT, .infer = infer_pool,
     .expand = expand_pool, .attr = {POOL_ATTRS, FLAG("storage_order")}},
    {.name = "AveragePool", .min_in = 1, .max_in = 1, .max_out = 1, .infer = infer_pool,
     .expand = expand_pool, .attr = {POOL_ATTRS, FLAG("count_include_pad")}},
    {.name = "GlobalAveragePool", .min_in = 1, .max_in = 1, .max_out = 1, .infer = infer_global,
     .expand = expand_global},
    {.name = "GlobalMaxPool", .min_in = 1, .max_in = 1, .max_out = 1, .needs = GB_NEEDS_INPUT,
     .infer = infer_global, .expand = expand_global},
    {CORE("MaxPoolIndexed", 1, 2), .gradient = max_gradient},
    {CORE("MaxPoolGrad", 2, 1), .not_differentiable = "is a gradient of piecewise linear pieces already"},
    {CORE("AveragePoolForward", 1, 1), .gradient = average_gradient},
    {CORE("AveragePoolGrad", 1, 1), .gradient = average_second},
    {0}};
