/* Conv and ConvTranspose over three core operators, which are each other's gradients:
 *     ConvForward(x, w) = y,  ConvInput(dy, w) = dx,  ConvFilter(x, dy) = dw. */
#include "core/ir/ops/ops.h"
#include "core/ir/ops/window.h"

static bool check_operands(gb_graph *g, const gb_node *n, int channel_axis)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]), *w = gb_shape_ptr(g, n->in[1]);
    int64_t groups = gb_node_int(n, "group");
    char a[160], b[160];
    bool fits = x->rank == w->rank && x->rank >= 3 && groups > 0 && x->dim[1] % groups == 0;
    if (fits && channel_axis == 1) fits = w->dim[1] == x->dim[1] / groups && w->dim[0] % groups == 0;
    if (fits && channel_axis == 0) fits = w->dim[0] == x->dim[1];
    if (fits && gb_dtype_at(g, n->in[0]) == gb_dtype_at(g, n->in[1])) return true;
    gb_node_fail(g, n, channel_axis ? "the filter is [out, in / group, kernel...], x [N, in, ...]"
                                    : "the filter is [in, out / group, kernel...], x [N, in, ...]",
                 "x of shape %s and filter of shape %s do not fit (group %lld)",
                 gb_shape_text(x, a, sizeof a), gb_shape_text(w, b, sizeof b), (long long)groups);
    return false;
}

static bool check_bias(gb_graph *g, const gb_node *n, int64_t channels)
{
    if (n->n_in < 3 || !n->in[2]) return true;
    const gb_shape *s = gb_shape_ptr(g, n->in[2]);
    if (s->rank == 1 && s->dim[0] == channels) return true;
    gb_node_fail(g, n, "give one element an output channel", "the bias does not fit");
    return false;
}

static gb_value add_bias(gb_graph *g, const gb_node *n, gb_value y)
{
    if (n->n_in < 3 || !n->in[2] || gb_graph_failed(g)) return y;
    gb_shape s = {.rank = gb_shape_ptr(g, y)->rank, .dim = {1, gb_shape_ptr(g, n->in[2])->dim[0], 1, 1, 1}};
    return gb_op2(g, "Add", y, gb_reshape_to(g, n->in[2], &s));
}

/* --- Conv --- */

static gb_value conv_forward(gb_graph *g, gb_value x, gb_value f, const gb_window *w)
{
    gb_attr attr[GB_WINDOW_ATTRS];
    gb_window_attrs(w, attr);
    return gb_op_list(g, "ConvForward", (gb_value[]){x, f}, 2, attr, GB_WINDOW_ATTRS);
}

static void infer_conv(gb_graph *g, const gb_node *n)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]), *w = gb_shape_ptr(g, n->in[1]);
    gb_windows window;
    if (!check_operands(g, n, 1) || !check_bias(g, n, w->dim[0]) ||
        !gb_windows_read(g, n, x, w->dim + 2, &window))
        return;
    gb_shape s = gb_windows_shape(&window, x, w->dim[0]);
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void expand_conv(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_shape y = *gb_shape_ptr(g, n->out[0]);
    gb_windows w;
    if (!gb_windows_read(g, n, gb_shape_ptr(g, n->in[0]), gb_shape_ptr(g, n->in[1])->dim + 2, &w)) return;
    gb_window plane = gb_windows_plane(&w);
    if (y.rank == 5) {
        gb_value v = conv_forward(g, gb_volume_unfold(g, n->in[0], &w), gb_volume_filter(g, n->in[1]), &plane);
        out[0] = gb_volume_of_layers(g, add_bias(g, n, v), y.dim[0]);
        return;
    }
    gb_value v = conv_forward(g, gb_as_image(g, n->in[0]), gb_as_image(g, n->in[1]), &plane);
    out[0] = gb_reshape_to(g, add_bias(g, n, v), &y);
}

/* --- ConvTranspose: the gradient of Conv with respect to its input --- */

/* The window of the convolution that this is the gradient of: from `in`, the result here, to `out`. */
static bool transpose_window(gb_graph *g, const gb_node *n, gb_windows *w)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]), *f = gb_shape_ptr(g, n->in[1]);
    int64_t shape[GB_SPATIAL_AXES], extra[GB_SPATIAL_AXES] = {0};
    int axes = x->rank - 2;
    gb_shape large = *x; /* so large that any window fits: only the window is wanted here */
    for (int i = 2; i < x->rank; i++) large.dim[i] = INT64_C(1) << 30;
    if (!gb_windows_read(g, n, &large, f->dim + 2, w)) return false;
    int given = gb_node_ints(g, n, "output_shape", -1, shape, GB_SPATIAL_AXES);
    int n_extra = gb_node_ints(g, n, "output_padding", -1, extra, GB_SPATIAL_AXES);
    if ((given >= 0 && given != axes) || (n_extra >= 0 && n_extra != axes)) {
        gb_node_fail(g, n, "give one number a spatial axis", "output_shape or output_padding does not fit");
        return false;
    }
    const char *automatic = gb_node_string(n, "auto_pad");
    bool same = automatic[0] == 'S', upper = same && automatic[5] == 'U';
    for (int k = 0; k < axes; k++) {
        int i = GB_SPATIAL_AXES - axes + k;
        gb_slide *s = &w->along[i];
        int64_t in = x->dim[2 + k], full = s->stride * (in - 1) + extra[k] + (s->kernel - 1) * s->dilation + 1;
        w->out[i] = in;
        if (given < 0 && !same) {
            w->in[i] = full - s->pad - s->pad_end;
        } else { /* pads follow from the wanted size */
            w->in[i] = given < 0 ? in * s->stride : shape[k];
            int64_t total = full - w->in[i] > 0 ? full - w->in[i] : 0;
            s->pad = upper ? total / 2 : total - total / 2;
            s->pad_end = total - s->pad;
        }
        if (w->in[i] < 1) {
            gb_node_fail(g, n, "use less padding", "the result would be empty");
            return false;
        }
    }
    return true;
}

static void infer_transpose(gb_graph *g, const gb_node *n)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]), *f = gb_shape_ptr(g, n->in[1]);
    gb_windows w;
    if (!check_operands(g, n, 0)) return;
    int64_t channels = f->dim[1] * gb_node_int(n, "group");
    if (!check_bias(g, n, channels) || !transpose_window(g, n, &w)) return;
    gb_shape s = {.rank = x->rank, .dim = {x->dim[0], channels}};
    for (int i = 2; i < s.rank; i++) s.dim[i] = w.in[GB_SPATIAL_AXES - s.rank + i];
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static gb_value conv_input(gb_graph *g, gb_value dy, gb_value f, const gb_window *w, const int64_t *size)
{
    gb_attr attr[GB_WINDOW_ATTRS + 1];
    gb_window_attrs(w, attr);
    attr[GB_WINDOW_ATTRS] = GB_INTS("size", size, 2);
    return gb_op_list(g, "ConvInput", (gb_value[]){dy, f}, 2, attr, GB_WINDOW_ATTRS + 1);
}

static void expand_transpose(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_shape y = *gb_shape_ptr(g, n->out[0]);
    gb_windows w;
    if (!transpose_window(g, n, &w)) return;
    gb_window plane = gb_windows_plane(&w);
    if (y.rank == 5) {
        gb_value layers = gb_volume_layers(g, n->in[0]), f = gb_volume_filter(g, n->in[1]);
        gb_value v = gb_volume_fold(g, conv_input(g, layers, f, &plane, w.in + 1), &w, y.dim[0]);
        out[0] = add_bias(g, n, v);
        return;
    }
    gb_value v = conv_input(g, gb_as_image(g, n->in[0]), gb_as_image(g, n->in[1]), &plane, w.in + 1);
    out[0] = gb_reshape_to(g, add_bias(g, n, v), &y);
}

/* --- the core --- */

static gb_value conv_filter(gb_graph *g, gb_value x, gb_value dy, const gb_window *w)
{
    gb_attr attr[GB_WINDOW_ATTRS];
    gb_window_attrs(w, attr);
    return gb_op_list(g, "ConvFilter", (gb_value[]){x, dy}, 2, attr, GB_WINDOW_ATTRS);
}

static void infer_forward(gb_graph *g, const gb_node *n)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]), *f = gb_shape_ptr(g, n->in[1]);
    gb_window w = gb_window_from(g, n);
    gb_shape s = {.rank = 4, .dim = {x->dim[0], f->dim[0]}};
    for (int i = 0; i < 2; i++) {
        int64_t reach = (w.kernel[i] - 1) * w.dilation[i] + 1;
        s.dim[2 + i] = (x->dim[2 + i] + w.pad[i] + w.pad_end[i] - reach) / w.stride[i] + 1;
    }
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void forward_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    gb_window w = gb_window_from(g, n);
    int64_t size[2] = {gb_shape_ptr(g, n->in[0])->dim[2], gb_shape_ptr(g, n->in[0])->dim[3]};
    din[1] = conv_filter(g, n->in[0], dout[0], &w); /* first: then x may go */
    din[0] = conv_input(g, dout[0], n->in[1], &w, size);
}

static void infer_input(gb_graph *g, const gb_node *n)
{
    const gb_shape *dy = gb_shape_ptr(g, n->in[0]), *f = gb_shape_ptr(g, n->in[1]);
    gb_shape s = {.rank = 4, .dim = {dy->dim[0], f->dim[1] * gb_node_int(n, "group")}};
    gb_node_ints(g, n, "size", -1, s.dim + 2, 2);
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void input_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    gb_window w = gb_window_from(g, n);
    din[0] = conv_forward(g, dout[0], n->in[1], &w);
    din[1] = conv_filter(g, dout[0], n->in[0], &w);
}

static void infer_filter(gb_graph *g, const gb_node *n)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]), *dy = gb_shape_ptr(g, n->in[1]);
    gb_window w = gb_window_from(g, n);
    gb_shape s = {.rank = 4, .dim = {dy->dim[1], x->dim[1] / w.groups, w.kernel[0], w.kernel[1]}};
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void filter_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    gb_window w = gb_window_from(g, n);
    int64_t size[2] = {gb_shape_ptr(g, n->in[0])->dim[2], gb_shape_ptr(g, n->in[0])->dim[3]};
    din[0] = conv_input(g, n->in[1], dout[0], &w, size);
    din[1] = conv_forward(g, n->in[0], dout[0], &w);
}

static void lower_conv(gb_lowering *l, const gb_node *n, gb_step_kind kind)
{
    gb_operand a = gb_lower_dense(l, n->in[0], gb_channels_last);
    gb_operand b = gb_lower_dense(l, n->in[1], gb_channels_last);
    gb_operand out = gb_lower_output(l, n->out[0], gb_channels_last);
    gb_step *s = gb_lower_step(l, n, kind);
    if (!s) return;
    s->u.conv = gb_window_from((gb_graph *)gb_lower_graph(l), n);
    s->n_in = 2;
    s->n_out = 1;
    s->in[0] = a;
    s->in[1] = b;
    s->out[0] = out;
    gb_lower_epilogue(l, n, s);
    const gb_operand *y = kind == GB_STEP_CONV ? &out : kind == GB_STEP_CONV_INPUT ? &a : &b;
    const gb_operand *f = kind == GB_STEP_CONV_FILTER ? &out : &b;
    s->flops = 2.0 * (double)(y->dim[0] * y->dim[1] * y->dim[2] * y->dim[3]) *
               (double)(f->dim[1] * f->dim[2] * f->dim[3]);
}

static void lower_forward(gb_lowering *l, const gb_node *n) { lower_conv(l, n, GB_STEP_CONV); }
static void lower_input(gb_lowering *l, const gb_node *n) { lower_conv(l, n, GB_STEP_CONV_INPUT); }
static void lower_filter(gb_lowering *l, const gb_node *n) { lower_conv(l, n, GB_STEP_CONV_FILTER); }

#define INTS(key) {.name = key, .type = GB_ATTR_INTS}
#define CONV_ATTRS \
    INTS("kernel_shape"), INTS("strides"), INTS("dilations"), INTS("pads"), \
        {.name = "group", .type = GB_ATTR_INT, .number = 1}, \
        {.name = "auto_pad", .type = GB_ATTR_STRING, .string = "NOTSET"}

const gb_op gb_ops_conv[] = {
    {.name = "Conv", .min_in = 2, .max_in = 3, .max_out = 1, .needs = GB_NEEDS_INPUT, .tolerance = 1e-5,
     .infer = infer_conv, .expand = expand_conv, .attr = {CONV_ATTRS}},
    {.name = "ConvTranspose", .min_in = 2, .max_in = 3, .max_out = 1, .needs = GB_NEEDS_INPUT,
     .tolerance = 1e-5, .infer = infer_transpose, .expand = expand_transpose,
     .attr = {CONV_ATTRS, INTS("output_shape"), INTS("output_padding")}},
    {.name = "ConvForward", .min_in = 2, .max_in = -1, .max_out = 1, .internal = true, .infer = infer_forward,
     .tolerance = 1e-5, .gradient = forward_gradient, .lower = lower_forward, .attr = {GB_WINDOW_SPECS}},
    {.name = "ConvInput", .min_in = 2, .max_in = -1, .max_out = 1, .internal = true, .infer = infer_input,
     .tolerance = 1e-5, .gradient = input_gradient, .lower = lower_input,
     .attr = {GB_WINDOW_SPECS, INTS("size")}},
    {.name = "ConvFilter", .min_in = 2, .max_in = 2, .max_out = 1, .internal = true, .infer = infer_filter,
     .tolerance = 1e-5, .gradient = filter_gradient, .lower = lower_filter, .attr = {GB_WINDOW_SPECS}},
    {0}};
