/* Convolutions one item an element, right everywhere, and by blocks of results in registers. */
#include "backends/gpu/block.h"
#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/window.h"

/* The grid over (channels, pixels) of one image operand. */
static void pixel_grid(gb_gk *k, const gb_operand *o, int64_t groups[3])
{
    const gb_gpu_caps *caps = k->b->caps;
    const int64_t pixels = o->dim[0] * o->dim[2] * o->dim[3];
    gb_gk_local(k, 16, 4, 1);
    groups[0] = gb_div_up(o->dim[1], 16);
    groups[1] = gb_min(gb_div_up(pixels, 4), gb_min(caps->max_groups[1], 65535));
    groups[2] = 1;
    gb_gk_param(k, "PIXELS", pixels);
    gb_gk_param(k, "PIXEL_STRIDE", groups[1] * 4);
    gb_gk_param(k, "CHANNELS", o->dim[1]);
    gb_gk_param(k, "WIDTH", o->dim[3]);
    gb_gk_param(k, "HEIGHT", o->dim[2]);
}

static bool empty(const gb_operand *o)
{
    for (int d = 0; d < o->rank; d++)
        if (o->dim[d] == 0) return true;
    return false;
}

/* Forward and to the input alike: an item makes one pixel of the result from in[0] and the filter.
 * y is whichever operand the convolution gives; height and width name the axes of in[0]. */
static gb_status lower_pixels(gb_gpu_builder *b, const char *name, const char *body,
                              const gb_operand *y, const char *height, const char *width)
{
    const gb_step *s = b->step;
    gb_gk k;
    int64_t groups[3];
    if (empty(&s->out[0])) return GB_OK;
    gb_gk_begin(&k, b);
    gb_gk_image(&k, "i0", &s->in[0], GB_READ);
    gb_gk_image(&k, "i1", &s->in[1], GB_READ);
    gb_gk_window(&k, &s->u.conv);
    gb_gk_param(&k, height, s->in[0].dim[2]);
    gb_gk_param(&k, width, s->in[0].dim[3]);
    gb_gk_param(&k, "GROUP_IN", s->in[1].dim[1]);
    gb_gk_param(&k, "GROUP_OUT", y->dim[1] / s->u.conv.groups);
    gb_gk_image_result(&k, s);
    pixel_grid(&k, &s->out[0], groups);
    return gb_gk_finish(&k, name, body, groups);
}

gb_status gb_lower_conv_item(gb_gpu_builder *b)
{
    return lower_pixels(b, "conv.item", gb_shader_conv_item, &b->step->out[0], "IN_H", "IN_W");
}

gb_status gb_lower_conv_input_item(gb_gpu_builder *b)
{
    return lower_pixels(b, "conv_input.item", gb_shader_conv_input_item, &b->step->in[0], "OUT_H",
                        "OUT_W");
}

/* --- the filter's gradient --- */

/* Rows of output that one item adds up: enough items for a GPU, and loops that stay short. */
static int64_t lines_of(const gb_step *s, int64_t *shares)
{
    const gb_operand *dy = &s->in[1], *dw = &s->out[0];
    int64_t lines = dy->dim[0] * dy->dim[2], width = gb_max(1, dy->dim[3]);
    int64_t count = gb_max(1, dw->dim[0] * dw->dim[1] * dw->dim[2] * dw->dim[3]);
    int64_t want = gb_max(gb_div_up(16384, count), gb_div_up(lines * width, 16384));
    int64_t each = gb_max(1, lines / gb_max(1, gb_min(want, lines)));
    *shares = gb_max(1, gb_div_up(lines, each));
    return each;
}

static int64_t filter_count(const gb_step *s)
{
    const int64_t *d = s->out[0].dim;
    return d[0] * d[1] * d[2] * d[3];
}

uint64_t gb_conv_filter_item_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    int64_t shares;
    (void)caps;
    lines_of(step, &shares);
    return (uint64_t)(shares * filter_count(step)) * 4;
}

gb_status gb_lower_sum_join(gb_gpu_builder *b, uint64_t offset, int64_t shares, int64_t count)
{
    const int64_t local = gb_min(64, b->caps->max_local);
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, (uint32_t)local, 1, 1);
    gb_gk_scratch(&k, "part", offset, shares * count, GB_S_F32, GB_READ);
    gb_gk_operand(&k, "o0", &b->step->out[0], GB_WRITE);
    gb_gk_param(&k, "COUNT", count);
    gb_gk_param(&k, "SHARES", shares);
    return gb_gk_finish(&k, "sum.join", gb_shader_sum_join,
                        (const int64_t[3]){gb_div_up(count, local), 1, 1});
}

gb_status gb_lower_conv_filter_item(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    const int64_t count = filter_count(s), local = gb_min(64, b->caps->max_local);
    int64_t shares, lines = lines_of(s, &shares);
    gb_gk k;
    if (count == 0) return GB_OK;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, (uint32_t)local, 1, 1);
    gb_gk_image(&k, "i0", &s->in[0], GB_READ);
    gb_gk_image(&k, "i1", &s->in[1], GB_READ);
    gb_gk_scratch(&k, "part", 0, shares * count, GB_S_F32, GB_WRITE);
    gb_gk_window(&k, &s->u.conv);
    gb_gk_param(&k, "IN_H", s->in[0].dim[2]);
    gb_gk_param(&k, "IN_W", s->in[0].dim[3]);
    gb_gk_param(&k, "OUT_H", s->in[1].dim[2]);
    gb_gk_param(&k, "OUT_W", s->in[1].dim[3]);
    gb_gk_param(&k, "GROUP_IN", s->out[0].dim[1]);
    gb_gk_param(&k, "GROUP_OUT", s->in[1].dim[1] / s->u.conv.groups);
    gb_gk_param(&k, "COUNT", count);
    gb_gk_param(&k, "LINES", lines);
    gb_gk_param(&k, "ALL_LINES", s->in[1].dim[0] * s->in[1].dim[2]);
    gb_status status = gb_gk_finish(&k, "conv_filter.item", gb_shader_conv_filter_item,
                                    (const int64_t[3]){gb_div_up(count, local), shares, 1});
    return status == GB_OK ? gb_lower_sum_join(b, 0, shares, count) : status;
}

/* --- blocks --- */

static int64_t pixels_of(const gb_operand *o)
{
    return o->dim[0] * o->dim[2] * o->dim[3];
}

bool gb_conv_item_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const int64_t *kernel = step->u.conv.kernel, *w = step->in[1].dim;
    const int64_t depth = step->kind == GB_STEP_CONV ? w[1] : w[0] / step->u.conv.groups;
    const int64_t pixels = gb_div_up(pixels_of(&step->out[0]), 4 * 65535);
    return gb_rounds_fit(caps, pixels * kernel[0] * kernel[1] * (depth + 2));
}

bool gb_conv_block_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    return step->u.conv.groups == 1 && gb_conv_item_applies(caps, step) &&
           gb_block_applies(caps, pixels_of(&step->out[0]), step->out[0].dim[1]);
}

bool gb_conv_lanes_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    return step->u.conv.groups == 1 && gb_conv_item_applies(caps, step) &&
           gb_lanes_apply(caps, pixels_of(&step->out[0]), step->out[0].dim[1]);
}

/* From where a row's pixel of the result reads in x … */
static const char place_forward[] = "int h$_ = h$ * STRIDE_H - PAD_H + kh * DILATION_H, w$_ = w$ * "
                                    "STRIDE_W - PAD_W + kw * DILATION_W; "
                                    "bool in$ = h$_ >= 0 && h$_ < IN_H && w$_ >= 0 && w$_ < IN_W; "
                                    "int pa$ = PLACE_i0(n$, 0, in$ ? h$_ : 0, in$ ? w$_ : 0);";
/* … and in dy. */
static const char place_input[] =
    "int h$_ = h$ + PAD_H - kh * DILATION_H, w$_ = w$ + PAD_W - kw * DILATION_W; "
    "bool in$ = h$_ >= 0 && w$_ >= 0 && h$_ % STRIDE_H == 0 && w$_ % STRIDE_W == 0 && "
    "h$_ / STRIDE_H < IN_H && w$_ / STRIDE_W < IN_W; "
    "int pa$ = PLACE_i0(n$, 0, in$ ? h$_ / STRIDE_H : 0, in$ ? w$_ / STRIDE_W : 0);";

/* k is in's channels; the filter's are its axis 1 forward, 0 backward, and the result's the other.
 */
static gb_block choose_conv_block(const gb_gpu_caps *caps, const gb_step *s, bool lanes)
{
    const gb_operand *out = &s->out[0], *w = &s->in[1];
    const bool forward = s->kind == GB_STEP_CONV;
    if (!lanes) return gb_block_choose(caps, pixels_of(out), out->dim[1], 1);
    gb_pairs a = gb_block_pairs(caps, &s->in[0], 1) ? GB_PAIRS_OF_K : GB_SINGLE;
    gb_pairs b = gb_block_pairs(caps, w, forward ? 1 : 0)   ? GB_PAIRS_OF_K
                 : gb_block_pairs(caps, w, forward ? 0 : 1) ? GB_PAIRS_OF_SIDE
                                                            : GB_SINGLE;
    return gb_block_lanes(caps, pixels_of(out), out->dim[1], 1, a, b);
}

static gb_status lower_conv_block(gb_gpu_builder *b, bool lanes)
{
    const gb_step *s = b->step;
    const gb_operand *out = &s->out[0], *in = &s->in[0], *w = &s->in[1];
    bool forward = s->kind == GB_STEP_CONV;
    gb_block block = choose_conv_block(b->caps, s, lanes);
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_image(&k, "i0", in, GB_READ);
    gb_gk_image(&k, "i1", w, GB_READ);
    gb_gk_window(&k, &s->u.conv);
    gb_gk_param(&k, "IN_H", in->dim[2]);
    gb_gk_param(&k, "IN_W", in->dim[3]);
    gb_gk_param(&k, "WIDTH", out->dim[3]);
    gb_gk_param(&k, "HEIGHT", out->dim[2]);
    gb_gk_param(&k, "K_ROUNDS", in->dim[1] / block.k_step);
    gb_gk_param(&k, "A_K", in->stride[1]);
    gb_gk_param(&k, "B_K", w->stride[forward ? 1 : 0]);
    gb_gk_param(&k, "A_STEP", in->stride[1] * block.k_step);
    gb_gk_param(&k, "B_STEP", w->stride[forward ? 1 : 0] * block.k_step);
    gb_gk_image_result(&k, s);
    gb_block_define(&k, &block,
                    "int w = row % WIDTH, q = row / WIDTH, h = q % HEIGHT; "
                    "RESULT(q / HEIGHT, column, h, w)");
    gb_block_each(&k, &block, "PIXEL", true,
                  "int q$ = ROW_AT($) / WIDTH, w$ = ROW_AT($) - q$ * WIDTH, n$ = q$ / HEIGHT, "
                  "h$ = q$ - n$ * HEIGHT;");
    gb_block_each(&k, &block, "COLUMN", false, "int o$ = COLUMN_AT($);");
    gb_block_each(&k, &block, "PLACE_A", true, forward ? place_forward : place_input);
    gb_block_each(&k, &block, "PLACE_B", false,
                  forward ? "int pb$ = PLACE_i1(o$, 0, kh, kw);"
                          : "int pb$ = PLACE_i1(0, o$, kh, kw);");
    gb_block_loads(&k, &block, true,
                   (gb_block_load){.place = "pa$", .guard = "in$", .after = "pa$ += A_STEP;"});
    gb_block_loads(&k, &block, false, (gb_block_load){.place = "pb$", .after = "pb$ += B_STEP;"});
    const char *name = lanes ? (forward ? "conv.lanes" : "conv_input.lanes")
                             : (forward ? "conv.block" : "conv_input.block");
    return gb_gk_finish(&k, name, gb_shader_conv_block, block.groups);
}

gb_status gb_lower_conv_block(gb_gpu_builder *b)
{
    return lower_conv_block(b, false);
}

gb_status gb_lower_conv_lanes(gb_gpu_builder *b)
{
    return lower_conv_block(b, true);
}

/* Of an item's loops: lavapipe ends them, without a word, after 65,535 rounds in all. */
#define MAX_ROUNDS 16384

/* Lines of the output's gradient that one item adds up, and how many such shares there are. */
static int64_t block_shares(const gb_gpu_caps *caps, const gb_step *s, int64_t *share)
{
    const gb_operand *dy = &s->in[1];
    int64_t lines = gb_max(1, dy->dim[0] * dy->dim[2]), count = gb_max(1, filter_count(s));
    int64_t want = gb_div_up(caps->cpu_hosted ? 1 << 15 : 1 << 19, count);
    want = gb_max(want, gb_div_up(lines * gb_max(1, dy->dim[3]), MAX_ROUNDS));
    *share = gb_max(1, lines / gb_max(1, gb_min(want, lines)));
    return gb_div_up(lines, *share);
}

bool gb_filter_block_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const int64_t *d = step->out[0].dim;
    return step->u.conv.groups == 1 && gb_block_applies(caps, d[1] * d[2] * d[3], d[0]);
}

bool gb_filter_lanes_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const int64_t *d = step->out[0].dim;
    return step->u.conv.groups == 1 && gb_lanes_apply(caps, d[1] * d[2] * d[3], d[0]);
}

uint64_t gb_filter_block_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    int64_t share;
    return (uint64_t)(block_shares(caps, step, &share) * filter_count(step)) * 4;
}

static gb_status lower_filter_block(gb_gpu_builder *b, bool lanes)
{
    const gb_step *s = b->step;
    const gb_operand *x = &s->in[0], *dy = &s->in[1], *dw = &s->out[0];
    int64_t share, shares = block_shares(b->caps, s, &share),
                   m = dw->dim[1] * dw->dim[2] * dw->dim[3];
    gb_pairs x_pairs = gb_block_pairs(b->caps, x, 1) ? GB_PAIRS_OF_SIDE : GB_SINGLE;
    gb_pairs dy_pairs = gb_block_pairs(b->caps, dy, 1) ? GB_PAIRS_OF_SIDE : GB_SINGLE;
    gb_block block = lanes ? gb_block_lanes(b->caps, m, dw->dim[0], shares, x_pairs, dy_pairs)
                           : gb_block_choose(b->caps, m, dw->dim[0], shares);
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_image(&k, "i0", x, GB_READ);
    gb_gk_image(&k, "i1", dy, GB_READ);
    gb_gk_scratch(&k, "part", 0, shares * m * dw->dim[0], GB_S_F32, GB_WRITE);
    gb_gk_window(&k, &s->u.conv);
    gb_gk_param(&k, "IN_H", x->dim[2]);
    gb_gk_param(&k, "IN_W", x->dim[3]);
    gb_gk_param(&k, "OUT_H", dy->dim[2]);
    gb_gk_param(&k, "OUT_W", dy->dim[3]);
    gb_gk_param(&k, "DEPTH", dw->dim[1]);
    gb_gk_param(&k, "SHARE", share);
    gb_gk_param(&k, "LINES_ALL", dy->dim[0] * dy->dim[2]);
    gb_gk_param(&k, "A_W", x->stride[3]);
    gb_gk_param(&k, "B_W", dy->stride[3]);
    gb_block_define(&k, &block, "ST_part((share * N + column) * M + row, acc);");
    gb_block_each(&k, &block, "TAP", true,
                  "int q$ = ROW_AT($) / DEPTH, c$ = ROW_AT($) - q$ * DEPTH, kh$ = q$ / KERNEL_W * "
                  "DILATION_H, "
                  "first$ = q$ % KERNEL_W * DILATION_W - PAD_W;");
    gb_block_each(&k, &block, "COLUMN", false, "int o$ = COLUMN_AT($);");
    gb_block_each(
        &k, &block, "PLACE_A", true,
        "int h$ = h * STRIDE_H - PAD_H + kh$, w$ = first$; bool in$ = h$ >= 0 && h$ < IN_H; "
        "int pa$ = PLACE_i0(n, c$, in$ ? h$ : 0, 0);");
    gb_block_each(&k, &block, "PLACE_B", false, "int pb$ = PLACE_i1(n, o$, h, 0);");
    gb_block_loads(&k, &block, true,
                   (gb_block_load){.before = "bool at$ = in$ && w$ >= 0 && w$ < IN_W;",
                                   .place = "pa$ + (at$ ? w$ : 0) * A_W",
                                   .guard = "at$",
                                   .after = "w$ += STRIDE_W;"});
    gb_block_loads(&k, &block, false, (gb_block_load){.place = "pb$", .after = "pb$ += B_W;"});
    gb_status status = gb_gk_finish(&k, lanes ? "conv_filter.lanes" : "conv_filter.block",
                                    gb_shader_conv_filter_block, block.groups);
    return status == GB_OK ? gb_lower_sum_join(b, 0, shares, filter_count(s)) : status;
}

gb_status gb_lower_filter_block(gb_gpu_builder *b)
{
    return lower_filter_block(b, false);
}

gb_status gb_lower_filter_lanes(gb_gpu_builder *b)
{
    return lower_filter_block(b, true);
}
