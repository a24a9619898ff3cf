#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/window.h"

/* The grid over all elements of out; false where there are none. */
static bool element_grid(gb_gk *k, const gb_operand *out, int64_t groups[3])
{
    const int64_t local = gb_min(64, k->b->caps->max_local);
    int64_t count = 1;
    for (int d = 0; d < out->rank; d++) count *= out->dim[d];
    groups[0] = gb_max(1, gb_min(gb_div_up(count, local), gb_min(k->b->caps->max_groups[0], 65535)));
    groups[1] = groups[2] = 1;
    gb_gk_local(k, (uint32_t)local, 1, 1);
    gb_gk_param(k, "COUNT", count);
    gb_gk_param(k, "STRIDE", groups[0] * local);
    return count > 0;
}

static void sizes(gb_gk *k, const gb_operand *image, const gb_operand *pooled)
{
    gb_gk_window(k, &k->b->step->u.conv);
    gb_gk_param(k, "CHANNELS", image->dim[1]);
    gb_gk_param(k, "IN_H", image->dim[2]);
    gb_gk_param(k, "IN_W", image->dim[3]);
    gb_gk_param(k, "HEIGHT", pooled->dim[2]);
    gb_gk_param(k, "WIDTH", pooled->dim[3]);
}

static gb_status finish(gb_gk *k, const char *name, const char *body)
{
    int64_t groups[3];
    if (element_grid(k, &k->b->step->out[0], groups)) return gb_gk_finish(k, name, body, groups);
    gb_gk_drop(k);
    return k->status;
}

gb_status gb_lower_maxpool(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_image(&k, "i0", &s->in[0], GB_READ);
    gb_gk_image(&k, "o0", &s->out[0], GB_WRITE);
    bool index = s->n_out > 1 && s->out[1].buffer >= 0;
    if (index) gb_gk_image(&k, "o1", &s->out[1], GB_WRITE);
    gb_gk_define(&k, "STORE_INDEX", "%s", index ? "ST_o1(PLACE_o1(n, c, h, w), index);" : "");
    sizes(&k, &s->in[0], &s->out[0]);
    return finish(&k, "maxpool.item", gb_shader_maxpool_item);
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

gb_status gb_lower_avgpool(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_image(&k, "i0", &s->in[0], GB_READ);
    gb_gk_image(&k, "o0", &s->out[0], GB_WRITE);
    sizes(&k, &s->in[0], &s->out[0]);
    counted(&k);
    return finish(&k, "avgpool.item", gb_shader_avgpool_item);
}

gb_status gb_lower_maxpool_grad(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_image(&k, "i0", &s->in[0], GB_READ);
    gb_gk_image(&k, "i1", &s->in[1], GB_READ);
    gb_gk_image(&k, "o0", &s->out[0], GB_WRITE);
    sizes(&k, &s->out[0], &s->in[0]);
    gb_gk_define(&k, "SHARE", "if (LD_i1(PLACE_i1(n, c, y, x)) == h * IN_W + w) "
                              "sum += LD_i0(PLACE_i0(n, c, y, x));");
    return finish(&k, "maxpool_grad.item", gb_shader_pool_grad_item);
}

gb_status gb_lower_avgpool_grad(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_image(&k, "i0", &s->in[0], GB_READ);
    gb_gk_image(&k, "o0", &s->out[0], GB_WRITE);
    sizes(&k, &s->out[0], &s->in[0]);
    counted(&k);
    /* places of an axis' window that lie in [-before, size + after) */
    gb_text_add(&k.defs,
                "int gb_counted(int first, int kernel_size, int dilation, int before, int limit) {\n"
                "    int n = 0;\n"
                "    for (int k = 0; k < kernel_size; k++) {\n"
                "        int at = first + k * dilation;\n"
                "        n += at >= -before && at < limit ? 1 : 0;\n    }\n    return n;\n}\n");
    gb_gk_define(&k, "SHARE",
                 "sum += LD_i0(PLACE_i0(n, c, y, x)) / GB_FLOAT("
                 "gb_counted(y * STRIDE_H - PAD_H, KERNEL_H, DILATION_H, BEFORE_H, IN_H + AFTER_H) * "
                 "gb_counted(x * STRIDE_W - PAD_W, KERNEL_W, DILATION_W, BEFORE_W, IN_W + AFTER_W));");
    return finish(&k, "avgpool_grad.item", gb_shader_pool_grad_item);
}

/* --- gather --- */

static void gather_strides(gb_gk *k, const gb_step *s)
{
    const int64_t *x = s->in[0].stride, *y = s->out[0].stride;
    gb_gk_param(k, "I_STEP", s->in[1].stride[0]);
    gb_gk_param(k, "X_OUTER", x[0]);
    gb_gk_param(k, "X_ROW", x[1]);
    gb_gk_param(k, "X_INNER", x[2]);
    gb_gk_param(k, "Y_OUTER", y[0]);
    gb_gk_param(k, "Y_ROW", y[1]);
    gb_gk_param(k, "Y_INNER", y[2]);
    gb_gk_param(k, "INNER", s->out[0].dim[2]);
}

gb_status gb_lower_gather(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    bool integer = s->in[0].storage == GB_S_I32;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_operand(&k, "i0", &s->in[0], GB_READ);
    gb_gk_operand(&k, "i1", &s->in[1], GB_READ);
    gb_gk_operand(&k, "o0", &s->out[0], GB_WRITE);
    gather_strides(&k, s);
    gb_gk_param(&k, "INDICES", s->in[1].dim[0]);
    gb_gk_param(&k, "ROWS", s->in[0].dim[1]);
    gb_gk_define(&k, "VALUE", "%s", integer ? "int" : "float");
    gb_gk_define(&k, "MISSING", "%s", integer ? "0" : "GB_NAN");
    return finish(&k, "gather.item", gb_shader_gather_item);
}

#define INDEX_CHUNK 32768

gb_status gb_lower_gather_grad(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    const int64_t *d = s->out[0].dim, columns = d[0] * d[2], indices = s->in[1].dim[0];
    const int64_t local = gb_min(16, b->caps->max_local);
    int64_t bands = gb_max(1, gb_min(d[1], 4096 / gb_max(1, columns)));
    const int64_t band = gb_div_up(gb_max(1, d[1]), gb_max(bands, gb_div_up(d[1], INDEX_CHUNK)));
    const int64_t groups[3] = {gb_div_up(columns, local), gb_div_up(d[1], band), 1};
    if (columns * d[1] == 0) return GB_OK;
    gb_status status = GB_OK;
    for (int64_t first = 0; status == GB_OK && (first == 0 || first < indices); first += INDEX_CHUNK) {
        gb_gk k;
        gb_gk_begin(&k, b);
        gb_gk_local(&k, (uint32_t)local, 1, 1);
        gb_gk_operand(&k, "i0", &s->in[0], GB_READ);
        gb_gk_operand(&k, "i1", &s->in[1], GB_READ);
        gb_gk_operand(&k, "o0", &s->out[0], GB_READ | GB_WRITE);
        gather_strides(&k, s);
        gb_gk_param(&k, "ROWS", d[1]);
        gb_gk_param(&k, "COLUMNS", columns);
        gb_gk_param(&k, "BAND", band);
        gb_gk_param(&k, "FIRST", first);
        gb_gk_param(&k, "LAST", gb_min(first + INDEX_CHUNK, indices));
        gb_gk_define(&k, "ZERO", "%s", s->out[0].storage == GB_S_I32 ? "0" : "0.0f");
        status = gb_gk_finish(&k, "gather_grad.item", gb_shader_gather_grad_item, groups);
    }
    return status;
}
