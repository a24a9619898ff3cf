#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/window.h"

enum { VECTOR = 16 }; /* channels: GB_VEC_WIDTH */

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

static bool has_vectors(const gb_operand *o)
{
    return o->stride[1] == 1 && o->dim[1] >= VECTOR;
}

static bool walks_rows(const gb_gpu_caps *caps, const gb_step *step)
{
    if (!gb_gpu_wide_items(caps)) return false;
    for (int i = 0; i < step->n_in; i++)
        if (!has_vectors(&step->in[i])) return false;
    for (int i = 0; i < step->n_out; i++)
        if (step->out[i].buffer >= 0 && !has_vectors(&step->out[i])) return false;
    return true;
}

static bool applies(const gb_gpu_caps *caps, const gb_step *step, int rows)
{
    const gb_window *v = &step->u.conv;
    return rows ? walks_rows(caps, step)
                : gb_rounds_fit(caps, v->kernel[0] * (2 * v->kernel[1] + 2));
}

/* The windows that cover a pixel: from the first whose end reaches it, less those that have a gap
 * there. */
static void define_windows(gb_gk *k)
{
    const gb_window *v = &k->b->step->u.conv;
    gb_gk_define(k, "FIRST(at_, pad_, kernel_, stride_, dilation_)",
                 "(max(at_ + pad_ - (kernel_ - 1) * dilation_ + stride_ - 1, 0) / stride_)");
    gb_gk_define(k, "APART_H",
                 v->dilation[0] == 1 ? "false" : "(h + PAD_H - y * STRIDE_H) %% DILATION_H != 0");
    gb_gk_define(k, "APART_W",
                 v->dilation[1] == 1 ? "false" : "(w + PAD_W - x * STRIDE_W) %% DILATION_W != 0");
}

/* LOAD(i) and PUT_o0(i, v) of one channel, or of a vector of them. */
static void define_access(gb_gk *k, bool rows)
{
    const gb_storage from = k->b->step->in[0].storage, to = k->b->step->out[0].storage;
    if (!rows) {
        gb_gk_define(k, "LOAD(i_)", "LD_i0(i_)");
        gb_gk_define(k, "PUT_o0(i_, v_)", "ST_o0(i_, v_);");
        return;
    }
    gb_gk_define(k, "LOAD(i_)", "GB_VEC_LOAD%s(BUF_i0, AT_i0 + (i_))",
                 from == GB_S_F16    ? "_F16"
                 : from == GB_S_BF16 ? "_BF16"
                                     : "");
    gb_gk_define(k, "PUT_o0(i_, v_)",
                 to == GB_S_F32
                     ? "GB_VEC_PUT(v_, BUF_o0, AT_o0 + (i_));"
                     : "{ float one_[GB_VEC_WIDTH]; GB_VEC_PUT(v_, one_, 0); for (int l = 0; "
                       "l < GB_VEC_WIDTH; l++) ST_o0((i_) + l, one_[l]); }");
}

/* The launch: items that walk rows of out, or channels of its pixels. */
static gb_status finish_pool(gb_gk *k, const char *name, const char *body, bool rows)
{
    const gb_gpu_caps *caps = k->b->caps;
    const int64_t *d = k->b->step->out[0].dim;
    const bool wide = gb_gpu_wide_items(caps);
    const int64_t local = wide ? 1 : gb_min(64, caps->max_local);
    const int64_t units = d[0] * d[2] * (rows ? 1 : d[3] * d[1]);
    const int64_t some = rows ? gb_max(1, 1024 / gb_max(1, d[3] * d[1])) : wide ? 256 : 1;
    const int64_t block = gb_max(some, gb_div_up(units, caps->max_groups[0] * local));
    if (d[0] * d[1] * d[2] * d[3] == 0) return gb_gk_drop(k), k->status;
    gb_gk_local(k, (uint32_t)local, 1, 1);
    gb_gk_param(k, rows ? "ROWS" : "UNITS", units);
    gb_gk_param(k, "BLOCK", block);
    return gb_gk_finish(k, name, body,
                        (const int64_t[3]){gb_div_up(gb_div_up(units, block), local), 1, 1});
}

static gb_status maxpool(gb_gpu_builder *b, int rows)
{
    const gb_step *s = b->step;
    const bool index = s->n_out > 1 && s->out[1].buffer >= 0;
    gb_gk k;
    begin(&k, b, &s->in[0], &s->out[0]);
    counted(&k);
    define_access(&k, rows);
    if (index) gb_gk_image(&k, "o1", &s->out[1], GB_WRITE);
    if (rows) {
        gb_gk_define(&k, "INIT",
                     "GB_VEC best = GB_VEC_ZERO - GB_INF; GB_IVEC at = GB_IVEC_SPLAT(-1); "
                     "bool none = true;");
        gb_gk_define(&k, "STEP", /* the first one, then what is larger, or the first NaN */
                     "GB_VEC v = LOAD(from); "
                     "if (none) { best = v; at = GB_IVEC_SPLAT(place); none = false; } else { "
                     "GB_IVEC take = (best == best) & ~(v <= best); "
                     "best = GB_VEC_CHOOSE(take, v, best); "
                     "at = GB_IVEC_CHOOSE(take, GB_IVEC_SPLAT(place), at); }");
    } else {
        gb_gk_define(&k, "INIT", "float best = -GB_INF; int at = -1;");
        gb_gk_define(&k, "STEP",
                     "float v = LOAD(from); "
                     "bool take = at < 0 || (best == best && (v > best || v != v)); "
                     "best = take ? v : best; at = take ? place : at;");
    }
    gb_gk_define(&k, "FINISH", "PUT_o0(PLACE_o0(n, first, h, w), best) %s",
                 !index ? ""
                 : rows ? "GB_IVEC_PUT(at, BUF_o1, AT_o1 + PLACE_o1(n, first, h, w));"
                        : "ST_o1(PLACE_o1(n, first, h, w), at);");
    return finish_pool(&k, "maxpool", rows ? gb_shader_pool_rows : gb_shader_pool, rows);
}

static gb_status avgpool(gb_gpu_builder *b, int rows)
{
    gb_gk k;
    begin(&k, b, &b->step->in[0], &b->step->out[0]);
    counted(&k);
    define_access(&k, rows);
    gb_gk_define(&k, "INIT", rows ? "GB_VEC sum = GB_VEC_ZERO;" : "float sum = 0.0f;");
    gb_gk_define(&k, "STEP", "sum += LOAD(from);");
    gb_gk_define(&k, "FINISH", "PUT_o0(PLACE_o0(n, first, h, w), sum / counted)");
    return finish_pool(&k, "avgpool", rows ? gb_shader_pool_rows : gb_shader_pool, rows);
}

static gb_status maxpool_grad(gb_gpu_builder *b, int rows)
{
    const gb_step *s = b->step;
    gb_gk k;
    begin(&k, b, &s->out[0], &s->in[0]);
    define_windows(&k);
    define_access(&k, rows);
    gb_gk_image(&k, "i1", &s->in[1], GB_READ);
    gb_gk_define(&k, "WINDOW(n, c, y, x)",
                 "int from = PLACE_i0(n, c, y, x), index = PLACE_i1(n, c, y, x);");
    gb_gk_define(&k, "SHARE",
                 rows ? "GB_VEC_CHOOSE(GB_IVEC_LOAD(BUF_i1, AT_i1 + index) == place, LOAD(from), "
                        "GB_VEC_ZERO)"
                      : "(LD_i1(index) == place ? LOAD(from) : 0.0f)");
    return finish_pool(&k, "maxpool_grad", rows ? gb_shader_pool_grad_rows : gb_shader_pool_grad,
                       rows);
}

/* Does an average count all places of all windows? */
static bool counts_all(const gb_window *v, const int64_t *in, const int64_t *pooled)
{
    for (int i = 0; i < 2; i++) {
        int64_t last = (pooled[i] - 1) * v->stride[i] + (v->kernel[i] - 1) * v->dilation[i];
        int64_t before = v->count_pad ? v->pad[i] : 0, after = v->count_pad ? v->pad_end[i] : 0;
        if (v->pad[i] > before || last - v->pad[i] >= in[i] + after) return false;
    }
    return true;
}

static gb_status avgpool_grad(gb_gpu_builder *b, int rows)
{
    const gb_step *s = b->step;
    gb_gk k;
    begin(&k, b, &s->out[0], &s->in[0]);
    counted(&k);
    define_windows(&k);
    define_access(&k, rows);
    const char *count = "KERNEL_H * KERNEL_W";
    if (!counts_all(&s->u.conv, s->out[0].dim + 2, s->in[0].dim + 2)) {
        /* places of an axis' window that lie in [-before, limit) */
        gb_text_add(&k.defs, "int gb_counted(int first, int kernel_size, int dilation, int before, "
                             "int limit)\n"
                             "{\n    int n = 0;\n"
                             "    for (int k = 0; k < kernel_size; k++) {\n"
                             "        int at = first + k * dilation;\n"
                             "        n += at >= -before && at < limit ? 1 : 0;\n    }\n"
                             "    return n;\n}\n");
        count =
            "gb_counted(y * STRIDE_H - PAD_H, KERNEL_H, DILATION_H, BEFORE_H, IN_H + AFTER_H) "
            "* gb_counted(x * STRIDE_W - PAD_W, KERNEL_W, DILATION_W, BEFORE_W, IN_W + AFTER_W)";
    }
    gb_gk_define(&k, "WINDOW(n, c, y, x)",
                 "int from = PLACE_i0(n, c, y, x); float counted = GB_FLOAT(%s);", count);
    gb_gk_define(&k, "SHARE", "LOAD(from) / counted");
    return finish_pool(&k, "avgpool_grad", rows ? gb_shader_pool_grad_rows : gb_shader_pool_grad,
                       rows);
}

const gb_gpu_family gb_maxpools = {applies, NULL, NULL, maxpool};
const gb_gpu_family gb_avgpools = {applies, NULL, NULL, avgpool};
const gb_gpu_family gb_maxpool_grads = {applies, NULL, NULL, maxpool_grad};
const gb_gpu_family gb_avgpool_grads = {applies, NULL, NULL, avgpool_grad};
