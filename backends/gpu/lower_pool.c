#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/window.h"

/* Begins a pool between an image and its pooled form. out is the one that is written. */
static void begin(gb_gk *k, gb_gpu_builder *b, const gb_operand *image, const gb_operand *pooled)
{
    gb_gk_begin(k, b);
    gb_gk_image(k, "i0", &b->step->in[0], GB_READ);
    gb_gk_image(k, "o0", &b->step->out[0], GB_WRITE);
    gb_gk_window(k, &b->step->u.conv);
    gb_gk_param(k, "CHANNELS", image->dim[1]);
    gb_gk_param(k, "IN_H", image->dim[2]);
    gb_gk_param(k, "IN_W", image->dim[3]);
    gb_gk_param(k, "HEIGHT", pooled->dim[2]);
    gb_gk_param(k, "WIDTH", pooled->dim[3]);
}

/* How far the elements reach that an average counts. */
static void counted(gb_gk *k)
{
    const gb_window *v = &k->b->step->u.conv;
    gb_gk_param(k, "BEFORE_H", v->count_pad ? v->pad[0] : 0);
    gb_gk_param(k, "BEFORE_W", v->count_pad ? v->pad[1] : 0);
    gb_gk_param(k, "AFTER_H", v->count_pad ? v->pad_end[0] : 0);
    gb_gk_param(k, "AFTER_W", v->count_pad ? v->pad_end[1] : 0);
}

bool gb_pool_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    return gb_rounds_fit(caps, step->u.conv.kernel[0] * (2 * step->u.conv.kernel[1] + 2));
}

/* The places of a window at which it can cover a pixel: every stride-th one where windows have no
 * gaps. Divisions are what a gradient's kernel spends its time on. */
static void define_windows(gb_gk *k)
{
    const gb_window *v = &k->b->step->u.conv;
    const bool dense = v->dilation[0] == 1 && v->dilation[1] == 1;
    gb_gk_define(k, "WINDOWS(k_, at_, pad_, kernel_, stride_)",
                 dense ? "int k_ = (at_ + pad_) %% stride_; k_ < kernel_; k_ += stride_"
                       : "int k_ = 0; k_ < kernel_; k_++");
    gb_gk_define(k, "APART(at_, stride_)", dense ? "false" : "at_ %% stride_ != 0");
}

static gb_status finish_pool(gb_gk *k, const char *name, const char *body)
{
    const gb_gpu_caps *caps = k->b->caps;
    const int64_t *d = k->b->step->out[0].dim;
    const bool wide = gb_gpu_wide_items(caps);
    const int lanes = wide ? 16 : 1;
    const int64_t local = wide ? 1 : gb_min(64, caps->max_local), blocks = gb_div_up(d[1], lanes);
    const int64_t units = d[0] * d[2] * d[3] * blocks;
    const int64_t block = gb_max(wide ? 64 : 1, gb_div_up(units, caps->max_groups[0] * local));
    if (units == 0) return gb_gk_drop(k), k->status;
    gb_gk_local(k, (uint32_t)local, 1, 1);
    gb_gk_define(k, "LANES", "%d", lanes);
    gb_gk_param(k, "UNITS", units);
    gb_gk_param(k, "BLOCK", block);
    gb_gk_param(k, "CHANNEL_BLOCKS", blocks);
    return gb_gk_finish(k, name, body,
                        (const int64_t[3]){gb_div_up(gb_div_up(units, block), local), 1, 1});
}

static void define_pixel(gb_gk *k, const gb_operand *x)
{
    const bool half = x->storage == GB_S_F16;
    gb_gk_define(k, "PIXEL(i_)", half ? "GB_UNROLLED_F16(BUF_i0, AT_i0 + (i_))" : "LD_i0(i_)");
}

gb_status gb_lower_maxpool(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    const bool index = s->n_out > 1 && s->out[1].buffer >= 0;
    gb_gk k;
    begin(&k, b, &s->in[0], &s->out[0]);
    counted(&k);
    define_pixel(&k, &b->step->in[0]);
    if (index) gb_gk_image(&k, "o1", &s->out[1], GB_WRITE);
    gb_gk_define(&k, "DECLARE", "float best[LANES]; int at[LANES];");
    gb_gk_define(&k, "INIT(l)", "best[l] = -GB_INF; at[l] = -1;");
    gb_gk_define(&k, "STEP(l)",
                 "float v = PIXEL(from + l), b = best[l]; "
                 "bool take = at[l] < 0 || (b == b && (v > b || v != v)); "
                 "best[l] = take ? v : b; at[l] = take ? place : at[l];");
    gb_gk_define(&k, "FINISH(l)", "ST_o0(PLACE_o0(n, first, h, w) + l, best[l]);%s",
                 index ? " ST_o1(PLACE_o1(n, first, h, w) + l, at[l]);" : "");
    return finish_pool(&k, "maxpool", gb_shader_pool);
}

gb_status gb_lower_avgpool(gb_gpu_builder *b)
{
    gb_gk k;
    begin(&k, b, &b->step->in[0], &b->step->out[0]);
    counted(&k);
    define_pixel(&k, &b->step->in[0]);
    gb_gk_define(&k, "DECLARE", "float sum[LANES];");
    gb_gk_define(&k, "INIT(l)", "sum[l] = 0.0f;");
    gb_gk_define(&k, "STEP(l)", "sum[l] += PIXEL(from + l);");
    gb_gk_define(&k, "FINISH(l)", "ST_o0(PLACE_o0(n, first, h, w) + l, sum[l] / counted);");
    return finish_pool(&k, "avgpool", gb_shader_pool);
}

gb_status gb_lower_maxpool_grad(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_gk k;
    begin(&k, b, &s->out[0], &s->in[0]);
    define_windows(&k);
    gb_gk_image(&k, "i1", &s->in[1], GB_READ);
    gb_gk_define(&k, "WINDOW(n, c, y, x)",
                 "int from = PLACE_i0(n, c, y, x), index = PLACE_i1(n, c, y, x);");
    gb_gk_define(&k, "SHARE(l)", "(LD_i1(index + l) == place ? LD_i0(from + l) : 0.0f)");
    return finish_pool(&k, "maxpool_grad", gb_shader_pool_grad);
}

gb_status gb_lower_avgpool_grad(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_gk k;
    begin(&k, b, &s->out[0], &s->in[0]);
    counted(&k);
    define_windows(&k);
    /* places of an axis' window that lie in [-before, limit) */
    gb_text_add(&k.defs,
                "int gb_counted(int first, int kernel_size, int dilation, int before, int limit)\n"
                "{\n    int n = 0;\n"
                "    for (int k = 0; k < kernel_size; k++) {\n"
                "        int at = first + k * dilation;\n"
                "        n += at >= -before && at < limit ? 1 : 0;\n    }\n    return n;\n}\n");
    gb_gk_define(
        &k, "WINDOW(n, c, y, x)",
        "int from = PLACE_i0(n, c, y, x); float counted = GB_FLOAT("
        "gb_counted(y * STRIDE_H - PAD_H, KERNEL_H, DILATION_H, BEFORE_H, IN_H + AFTER_H) * "
        "gb_counted(x * STRIDE_W - PAD_W, KERNEL_W, DILATION_W, BEFORE_W, IN_W + AFTER_W));");
    gb_gk_define(&k, "SHARE(l)", "LD_i0(from + l) / counted");
    return finish_pool(&k, "avgpool_grad", gb_shader_pool_grad);
}
