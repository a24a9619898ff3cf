/* Convolutions and pools: window arithmetic, then one node. */
#include "core/nn/layer.h"

#include <string.h>

/* A window over the spatial axes, every option spread over all of them. */
typedef struct window {
    int n; /* spatial axes */
    int64_t kernel[GB_MAX_RANK], stride[GB_MAX_RANK], dilation[GB_MAX_RANK];
    int64_t pads[2 * GB_MAX_RANK]; /* begins, then ends */
} window;

static bool spread(gb_builder *b, const char *name, const gb_ints *from, int n, int64_t *to)
{
    if (from->n != 1 && from->n != n) {
        gb_builder_fail(b, NULL, "'%s' has %d numbers for %d axes", name, from->n, n);
        return false;
    }
    for (int i = 0; i < n; i++) to[i] = from->v[from->n == 1 ? 0 : i];
    return true;
}

/* Total padding so that out = ceil(in / stride), the odd one at the end. */
static void pad_same(window *w, const gb_shape *x)
{
    for (int i = 0; i < w->n; i++) {
        int64_t in = x->dim[i + 2], out = (in + w->stride[i] - 1) / w->stride[i];
        int64_t total = (out - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1 - in;
        if (total < 0) total = 0;
        w->pads[i] = total / 2;
        w->pads[w->n + i] = total - total / 2;
    }
}

static bool set_pads(gb_builder *b, const gb_ints *padding, const gb_shape *x, window *w)
{
    memset(w->pads, 0, sizeof w->pads);
    if (padding->n == -1) {
        pad_same(w, x);
        return true;
    }
    if (padding->n == -2) return true; /* valid */
    if (padding->n == 2 * w->n) {
        memcpy(w->pads, padding->v, sizeof(int64_t) * 2 * (size_t)w->n);
        return true;
    }
    if (!spread(b, "padding", padding, w->n, w->pads)) return false;
    memcpy(w->pads + w->n, w->pads, sizeof(int64_t) * (size_t)w->n);
    return true;
}

static bool read_window(gb_builder *b, const gb_layer *l, const gb_shape *x, window *w)
{
    static const gb_ints one = {.n = 1, .v = {1}};
    w->n = x->rank - 2;
    if (w->n < 1 || w->n > 2) {
        char text[96];
        gb_builder_fail(b, "it takes [N, C, H, W] or [N, C, L]; a reshape layer before it may help",
                        "the input has shape %s", gb_shape_text(x, text, sizeof text));
        return false;
    }
    const gb_ints *stride = l->o.stride.n ? &l->o.stride : &l->o.kernel; /* pools step by kernel */
    return spread(b, "kernel", &l->o.kernel, w->n, w->kernel) &&
           spread(b, "stride", stride, w->n, w->stride) &&
           spread(b, "dilation", l->o.dilation.n ? &l->o.dilation : &one, w->n, w->dilation) &&
           set_pads(b, &l->o.padding, x, w);
}

static bool window_fits(gb_builder *b, const window *w, const gb_shape *x)
{
    for (int i = 0; i < w->n; i++) {
        int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
        int64_t have = x->dim[i + 2] + w->pads[i] + w->pads[w->n + i];
        if (have >= reach) continue;
        char text[96];
        gb_builder_fail(b, "use a smaller kernel, more padding or fewer pools before it",
                        "a window of %lld does not fit into %lld padded pixels (input %s)",
                        (long long)reach, (long long)have, gb_shape_text(x, text, sizeof text));
        return false;
    }
    return true;
}

static gb_value bias_state(gb_builder *b, const gb_layer *l, int64_t fan_in)
{
    if (!l->o.bias) return GB_NONE;
    gb_shape shape = gb_shape_of(1, (int)l->o.out);
    int init = b->init == GB_INIT_MODEL ? GB_INIT_MODEL : GB_INIT_ZEROS;
    return gb_builder_weight(b, "bias", &shape, init, fan_in, fan_in, true);
}

static bool groups_fit(gb_builder *b, const gb_layer *l, int64_t channels)
{
    if (channels > 0 && channels % l->o.groups == 0 && l->o.out % l->o.groups == 0) return true;
    gb_builder_fail(b, "both numbers of channels must be multiples of groups",
                    "%lld groups do not divide %lld input and %lld output channels",
                    (long long)l->o.groups, (long long)channels, (long long)l->o.out);
    return false;
}

static int64_t product(const int64_t *v, int n)
{
    int64_t p = 1;
    for (int i = 0; i < n; i++) p *= v[i];
    return p;
}

gb_value gb_build_conv(gb_builder *b, const gb_layer *l, gb_value x)
{
    window w;
    gb_shape in = gb_value_shape(b->g, x);
    if (!read_window(b, l, &in, &w) || !window_fits(b, &w, &in) || !groups_fit(b, l, in.dim[1]))
        return GB_NONE;
    gb_shape shape = {.rank = in.rank, .dim = {l->o.out, in.dim[1] / l->o.groups}};
    memcpy(shape.dim + 2, w.kernel, sizeof(int64_t) * (size_t)w.n);
    int64_t taps = product(w.kernel, w.n), fan_in = shape.dim[1] * taps;
    gb_value weight = gb_builder_weight(b, "weight", &shape, l->o.init, fan_in,
                                        l->o.out / l->o.groups * taps, l->o.train_weight);
    gb_value args[] = {x, weight, bias_state(b, l, fan_in)};
    size_t n = (size_t)w.n;
    gb_attr attrs[] = {GB_INTS("kernel_shape", w.kernel, n), GB_INTS("strides", w.stride, n),
                       GB_INTS("pads", w.pads, 2 * n), GB_INTS("dilations", w.dilation, n),
                       GB_INT("group", l->o.groups)};
    return gb_op_list(b->g, "Conv", args, l->o.bias ? 3 : 2, attrs, 5);
}

gb_value gb_build_conv_transpose(gb_builder *b, const gb_layer *l, gb_value x)
{
    window w;
    int64_t extra[GB_MAX_RANK];
    gb_shape in = gb_value_shape(b->g, x);
    if (l->o.padding.n == -1)
        return gb_builder_fail(b, "give padding as a number", "'padding' cannot be 'same' here");
    if (!read_window(b, l, &in, &w) || !groups_fit(b, l, in.dim[1]) ||
        !spread(b, "output_padding", &l->o.output_padding, w.n, extra))
        return GB_NONE;
    gb_shape shape = {.rank = in.rank, .dim = {in.dim[1], l->o.out / l->o.groups}};
    memcpy(shape.dim + 2, w.kernel, sizeof(int64_t) * (size_t)w.n);
    /* PyTorch takes the second axis as fan-in here, too */
    int64_t taps = product(w.kernel, w.n), fan_in = shape.dim[1] * taps;
    gb_value weight =
        gb_builder_weight(b, "weight", &shape, l->o.init, fan_in, in.dim[1] * taps, true);
    gb_value args[] = {x, weight, bias_state(b, l, fan_in)};
    size_t n = (size_t)w.n;
    gb_attr attrs[] = {GB_INTS("kernel_shape", w.kernel, n), GB_INTS("strides", w.stride, n),
                       GB_INTS("pads", w.pads, 2 * n),       GB_INTS("dilations", w.dilation, n),
                       GB_INT("group", l->o.groups),         GB_INTS("output_padding", extra, n)};
    return gb_op_list(b->g, "ConvTranspose", args, l->o.bias ? 3 : 2, attrs, 6);
}

gb_value gb_build_pool(gb_builder *b, const gb_layer *l, gb_value x)
{
    window w;
    gb_shape in = gb_value_shape(b->g, x);
    if (!read_window(b, l, &in, &w) || !window_fits(b, &w, &in)) return GB_NONE;
    size_t n = (size_t)w.n;
    gb_attr attrs[] = {GB_INTS("kernel_shape", w.kernel, n), GB_INTS("strides", w.stride, n),
                       GB_INTS("pads", w.pads, 2 * n),
                       GB_INT("count_include_pad", l->o.count_padding)};
    bool average = strcmp(l->type->op, "AveragePool") == 0;
    return gb_op_list(b->g, l->type->op, &x, 1, attrs, average ? 4 : 3);
}

gb_value gb_build_global_pool(gb_builder *b, const gb_layer *l, gb_value x)
{
    gb_shape in = gb_value_shape(b->g, x);
    if (in.rank < 3) {
        char text[96];
        return gb_builder_fail(b, "it takes [N, C, H, W] or [N, C, L]", "the input has shape %s",
                               gb_shape_text(&in, text, sizeof text));
    }
    return gb_op1(b->g, l->type->op, x);
}
