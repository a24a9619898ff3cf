/* Convolutions of groups of few channels, depthwise ones above all: they read and write much for
 * what they compute, so an item has neighbouring channels (loads and stores are whole lines of
 * memory) and a few pixels of a line, which share what they read. */
#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/value.h"
#include "backends/gpu/window.h"

enum { PIXELS = 4, ITEMS = 128, MOST_SPAN = 32, MOST_TAPS = 49 };

/* Along a line: pixels of an item are step apart, so that dilated taps meet on pixels of the image
 * that are dilation apart; from pixel to pixel taps go on by stride of these. */
typedef struct gb_strip {
    int64_t stride, step, span; /* span: pixels of the image that an item reads */
    int64_t count;              /* strips of a line */
} gb_strip;

static gb_strip strip_of(int64_t stride, int64_t dilation, int64_t taps, int64_t width)
{
    int64_t a = stride, b = dilation;
    while (b) {
        int64_t rest = a % b;
        a = b, b = rest;
    }
    gb_strip s = {.stride = stride / a, .step = dilation / a};
    s.span = (PIXELS - 1) * s.stride + taps;
    s.count = gb_div_up(width, PIXELS * s.step) * s.step;
    return s;
}

typedef struct gb_depthwise {
    bool forward;
    int64_t depth, n; /* channels of a group, of the image and of the result */
    gb_strip strip;
    gb_value_width width;
    int64_t lanes, rows; /* of a work-group */
    int64_t block;       /* strips, or lines, of an item */
    int64_t shares;      /* the filter's gradient: groups along the lines */
} gb_depthwise;

/* Items of a group: neighbours have neighbouring channels. */
static void choose_group(gb_depthwise *d, const gb_gpu_caps *caps, int64_t channels)
{
    const int64_t items = d->width == GB_WIDE ? 1 : gb_min(ITEMS, caps->max_local);
    d->lanes = 1;
    while (d->lanes < gb_min(32, items) && d->lanes * d->width < channels) d->lanes *= 2;
    d->rows = items / d->lanes;
}

static gb_value_width width_of(const gb_gpu_caps *caps, const gb_step *s)
{
    const int64_t channels = s->in[0].dim[1];
    return s->u.conv.groups == channels && s->in[1].dim[s->kind == GB_STEP_CONV_FILTER] == channels
               ? gb_value_choose(caps, channels)
               : GB_ONE;
}

/* --- forward and to the input --- */

static gb_depthwise plan_pixels(const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_window *v = &s->u.conv;
    const int64_t *out = s->out[0].dim;
    gb_depthwise d = {.forward = s->kind == GB_STEP_CONV,
                      .depth = s->in[0].dim[1] / v->groups,
                      .n = out[1] / v->groups,
                      .width = width_of(caps, s)};
    d.strip = strip_of(d.forward ? v->stride[1] : 1, v->dilation[1], v->kernel[1], out[3]);
    choose_group(&d, caps, out[1]);
    const int64_t strips = d.strip.count * out[0] * out[2], columns = gb_div_up(out[1], d.width);
    const int64_t most = gb_min(caps->max_groups[1], 65535);
    d.block = gb_div_up(strips, d.rows * most);
    if (d.width == GB_WIDE) /* enough for one item, and enough items */
        d.block = gb_max(d.block, gb_min(256, strips * columns / 64));
    return d;
}

static int64_t rounds_of(const gb_depthwise *d, const gb_window *v)
{
    const int64_t line = d->strip.span + v->kernel[1] * (PIXELS + 1);
    return d->block *
           (1 + v->kernel[0] * (1 + d->depth * (1 + line)) + PIXELS * (2 + 2 * d->width));
}

bool gb_depthwise_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    for (int i = 0; i < 4; i++)
        if (!step->in[0].dim[i] || !step->in[1].dim[i] || !step->out[0].dim[i]) return false;
    if (step->u.conv.groups == 1) return false;
    const gb_depthwise d = plan_pixels(caps, step);
    return d.strip.span <= MOST_SPAN && gb_rounds_fit(caps, rounds_of(&d, &step->u.conv));
}

/* Larger groups are products of matrices that fill tiles. */
bool gb_depthwise_wanted(const gb_gpu_caps *caps, const gb_step *step)
{
    const bool filter = step->kind == GB_STEP_CONV_FILTER;
    const int64_t groups = step->u.conv.groups, depth = step->in[0].dim[1] / groups;
    const int64_t n = (filter ? step->in[1].dim[1] : step->out[0].dim[1]) / groups;
    return gb_gpu_wide_items(caps) ? n == 1 : depth < 8 || n < 8;
}

uint64_t gb_depthwise_packed(const gb_gpu_caps *caps, const gb_step *step)
{
    const int64_t *w = step->in[1].dim;
    (void)caps;
    return (uint64_t)(w[0] * w[1] * w[2] * w[3]) * 4;
}

static void define_channels(gb_gk *k, const gb_depthwise *d)
{
    if (d->depth == 1)
        gb_gk_define(k, "DEPTH", "1");
    else
        gb_gk_param(k, "DEPTH", d->depth);
    if (d->n == 1)
        gb_gk_define(k, "GROUP_OUT", "1");
    else
        gb_gk_param(k, "GROUP_OUT", d->n);
    gb_gk_define(k, "IMAGE_CHANNEL(c_, j_)", "((c_) / GROUP_OUT * DEPTH + (j_))");
}

static void define_strips(gb_gk *k, const gb_depthwise *d, int64_t taps)
{
    gb_value_define(k, d->width);
    gb_gk_define(k, "PIXELS", "%d", PIXELS);
    gb_gk_define(k, "KERNEL_W", "%d", (int)taps);
    gb_gk_define(k, "STRIDE_X", "%d", (int)d->strip.stride);
    gb_gk_define(k, "SPAN", "%d", (int)d->strip.span);
    gb_gk_define(k, "STEP", "%d", (int)d->strip.step);
    gb_gk_param(k, "STRIPS", d->strip.count);
    gb_gk_local(k, (uint32_t)d->lanes, (uint32_t)d->rows, 1);
}

/* The filter as the other kernel reads it. */
static gb_status lower_taps(gb_gpu_builder *b, const gb_depthwise *d)
{
    const gb_step *s = b->step;
    const int64_t *w = s->in[1].dim, count = w[0] * w[1] * w[2] * w[3];
    const int64_t local = gb_min(64, b->caps->max_local);
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, (uint32_t)local, 1, 1);
    gb_gk_image(&k, "i1", &s->in[1], GB_READ);
    gb_gk_packed(&k, "taps", 0, count, GB_WRITE);
    gb_gk_param(&k, "COUNT", count);
    gb_gk_param(&k, "CHANNELS", s->out[0].dim[1]);
    gb_gk_param(&k, "KERNEL_H", w[2]);
    gb_gk_param(&k, "KERNEL_W", w[3]);
    define_channels(&k, d);
    if (d->forward)
        gb_gk_define(&k, "PLACE_TAP", "PLACE_i1(c, j, kh, kw)");
    else
        gb_gk_define(&k, "PLACE_TAP",
                     "PLACE_i1(c / GROUP_OUT * DEPTH + j, c %% GROUP_OUT, KERNEL_H - 1 - kh, "
                     "KERNEL_W - 1 - kw)");
    return gb_gk_finish(&k, "depthwise.taps", gb_shader_depthwise_taps,
                        (const int64_t[3]){gb_div_up(count, local), 1, 1});
}

gb_status gb_lower_depthwise(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    const gb_window *v = &s->u.conv;
    const gb_operand *x = &s->in[0], *out = &s->out[0];
    const gb_depthwise d = plan_pixels(b->caps, s);
    const int64_t strips = d.strip.count * out->dim[0] * out->dim[2];
    const int64_t *w = s->in[1].dim;
    gb_gk k;
    gb_status status = lower_taps(b, &d);
    if (status != GB_OK) return status;
    gb_gk_begin(&k, b);
    define_strips(&k, &d, v->kernel[1]);
    gb_gk_image(&k, "i0", x, GB_READ);
    gb_gk_packed(&k, "taps", 0, w[0] * w[1] * w[2] * w[3], GB_READ);
    gb_gk_image_result(&k, s);
    gb_value_load(&k, "LOAD_IMAGE", "i0", x->storage, gb_fours(x, 1, GB_S_F32), d.width);
    gb_value_load(&k, "LOAD_TAP", "taps", GB_S_F32, true, d.width);
    gb_value_store(&k, "STORE", "o0", out->storage, gb_fours(out, 1, GB_S_F32), d.width);
    gb_gk_define(&k, "FINISH(n_, c_, h_, w_)",
                 s->expr ? "EPILOGUE(n_, c_, h_, w_) result[l] = r0;" : "result[l] = acc;");
    define_channels(&k, &d);
    gb_gk_param(&k, "CHANNELS", out->dim[1]);
    gb_gk_param(&k, "HEIGHT", out->dim[2]);
    gb_gk_param(&k, "WIDTH", out->dim[3]);
    gb_gk_param(&k, "IN_H", x->dim[2]);
    gb_gk_param(&k, "IN_W", x->dim[3]);
    gb_gk_param(&k, "KERNEL_H", v->kernel[0]);
    gb_gk_param(&k, "STRIDE_H", d.forward ? v->stride[0] : 1);
    gb_gk_param(&k, "STRIDE_W", d.forward ? v->stride[1] : 1);
    gb_gk_param(&k, "DILATION_H", v->dilation[0]);
    gb_gk_param(&k, "DILATION_W", v->dilation[1]);
    gb_gk_param(&k, "UP_H", d.forward ? 1 : v->stride[0]);
    gb_gk_define(&k, "UP_W", "%d", d.forward ? 1 : (int)v->stride[1]);
    gb_gk_param(&k, "PAD_H", d.forward ? v->pad[0] : v->dilation[0] * (w[2] - 1) - v->pad[0]);
    gb_gk_param(&k, "PAD_W", d.forward ? v->pad[1] : v->dilation[1] * (w[3] - 1) - v->pad[1]);
    gb_gk_param(&k, "BLOCK", d.block);
    gb_gk_param(&k, "ALL_STRIPS", strips);
    return gb_gk_finish(&k, d.forward ? "conv.depthwise" : "conv_input.depthwise",
                        gb_shader_depthwise,
                        (const int64_t[3]){gb_div_up(out->dim[1], d.lanes * d.width),
                                           gb_div_up(strips, d.block * d.rows), 1});
}

/* --- the filter's gradient --- */

static gb_depthwise plan_filter(const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_window *v = &s->u.conv;
    const gb_operand *dy = &s->in[1];
    gb_depthwise d = {.depth = s->in[0].dim[1] / v->groups,
                      .n = dy->dim[1] / v->groups,
                      .width = width_of(caps, s)};
    if (d.width == GB_FOUR && v->kernel[0] * v->kernel[1] > 9) d.width = GB_ONE; /* registers */
    d.strip = strip_of(v->stride[1], v->dilation[1], v->kernel[1], dy->dim[3]);
    choose_group(&d, caps, dy->dim[1]);
    /* Enough items for a large GPU, or for the processors of a host; sums that are joined later
     * stay few. */
    const int64_t lines = dy->dim[0] * dy->dim[2];
    const int64_t columns = gb_div_up(dy->dim[1], d.width) * d.depth;
    const int64_t want = d.width == GB_WIDE ? gb_div_up(64, columns)
                                            : gb_min(gb_div_up(1 << 17, columns), 256 * d.rows);
    d.block = gb_max(1, lines / gb_max(1, want));
    d.shares = gb_div_up(lines, d.block * d.rows);
    return d;
}

bool gb_depthwise_filter_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_window *v = &step->u.conv;
    for (int i = 0; i < 4; i++)
        if (!step->in[0].dim[i] || !step->in[1].dim[i] || !step->out[0].dim[i]) return false;
    if (v->groups == 1 || v->kernel[0] * v->kernel[1] > MOST_TAPS) return false;
    const gb_depthwise d = plan_filter(caps, step);
    const int64_t taps = v->kernel[0] * v->kernel[1];
    const int64_t strip =
        2 + PIXELS + v->kernel[0] * (1 + d.strip.span + v->kernel[1] * (PIXELS + 1));
    return d.strip.span <= MOST_SPAN && gb_rounds_fit(caps, d.block * (1 + d.strip.count * strip) +
                                                                taps * d.width * (d.rows + 4));
}

uint64_t gb_depthwise_filter_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    const int64_t *w = step->out[0].dim;
    return (uint64_t)(plan_filter(caps, step).shares * w[0] * w[1] * w[2] * w[3]) * 4;
}

gb_status gb_lower_depthwise_filter(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    const gb_window *v = &s->u.conv;
    const gb_operand *x = &s->in[0], *dy = &s->in[1];
    const int64_t *w = s->out[0].dim, count = w[0] * w[1] * w[2] * w[3];
    const gb_depthwise d = plan_filter(b->caps, s);
    gb_gk k;
    gb_gk_begin(&k, b);
    define_strips(&k, &d, v->kernel[1]);
    gb_gk_define(&k, "KERNEL_H", "%d", (int)v->kernel[0]);
    gb_gk_image(&k, "i0", x, GB_READ);
    gb_gk_image(&k, "i1", dy, GB_READ);
    gb_gk_scratch(&k, "part", 0, d.shares * count, GB_S_F32, GB_WRITE);
    gb_value_load(&k, "LOAD_IMAGE", "i0", x->storage, gb_fours(x, 1, GB_S_F32), d.width);
    gb_value_load(&k, "LOAD_GRADIENT", "i1", dy->storage, gb_fours(dy, 1, GB_S_F32), d.width);
    define_channels(&k, &d);
    gb_gk_param(&k, "CHANNELS", dy->dim[1]);
    gb_gk_param(&k, "OUT_H", dy->dim[2]);
    gb_gk_param(&k, "OUT_W", dy->dim[3]);
    gb_gk_param(&k, "IN_H", x->dim[2]);
    gb_gk_param(&k, "IN_W", x->dim[3]);
    gb_gk_param(&k, "STRIDE_H", v->stride[0]);
    gb_gk_param(&k, "STRIDE_W", v->stride[1]);
    gb_gk_param(&k, "DILATION_H", v->dilation[0]);
    gb_gk_param(&k, "DILATION_W", v->dilation[1]);
    gb_gk_param(&k, "PAD_H", v->pad[0]);
    gb_gk_param(&k, "PAD_W", v->pad[1]);
    gb_gk_param(&k, "SHARE", d.block);
    gb_gk_param(&k, "ALL_LINES", dy->dim[0] * dy->dim[2]);
    if (d.rows > 1) {
        gb_gk_define(&k, "ROWS", "%d", (int)d.rows);
        gb_gk_define(&k, "LANES", "%d", (int)d.lanes);
        gb_gk_shared(&k, "float", "s_sum", (int)(d.rows * d.lanes * d.width));
    }
    gb_status status = gb_gk_finish(
        &k, "conv_filter.depthwise", gb_shader_depthwise_filter,
        (const int64_t[3]){gb_div_up(dy->dim[1], d.lanes * d.width), d.shares, d.depth});
    return status == GB_OK ? gb_lower_sum_join(b, 0, d.shares, count) : status;
}
