/* Convolutions one item an element: right everywhere. */
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

gb_status gb_lower_conv_item(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_gk k;
    int64_t groups[3];
    if (empty(&s->out[0])) return GB_OK;
    gb_gk_begin(&k, b);
    gb_gk_image(&k, "i0", &s->in[0], GB_READ);
    gb_gk_image(&k, "i1", &s->in[1], GB_READ);
    gb_gk_window(&k, &s->u.conv);
    gb_gk_param(&k, "IN_H", s->in[0].dim[2]);
    gb_gk_param(&k, "IN_W", s->in[0].dim[3]);
    gb_gk_param(&k, "GROUP_IN", s->in[1].dim[1]);
    gb_gk_param(&k, "GROUP_OUT", s->out[0].dim[1] / s->u.conv.groups);
    gb_gk_image_result(&k, s);
    pixel_grid(&k, &s->out[0], groups);
    return gb_gk_finish(&k, "conv.item", gb_shader_conv_item, groups);
}

gb_status gb_lower_conv_input_item(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_gk k;
    int64_t groups[3];
    if (empty(&s->out[0])) return GB_OK;
    gb_gk_begin(&k, b);
    gb_gk_image(&k, "i0", &s->in[0], GB_READ);
    gb_gk_image(&k, "i1", &s->in[1], GB_READ);
    gb_gk_window(&k, &s->u.conv);
    gb_gk_param(&k, "OUT_H", s->in[0].dim[2]);
    gb_gk_param(&k, "OUT_W", s->in[0].dim[3]);
    gb_gk_param(&k, "GROUP_IN", s->in[1].dim[1]);
    gb_gk_param(&k, "GROUP_OUT", s->in[0].dim[1] / s->u.conv.groups);
    gb_gk_image_result(&k, s);
    pixel_grid(&k, &s->out[0], groups);
    return gb_gk_finish(&k, "conv_input.item", gb_shader_conv_input_item, groups);
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
