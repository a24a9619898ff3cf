#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"

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
    const int64_t *d = s->out[0].dim, count = d[0] * d[1] * d[2];
    const int64_t local = gb_min(64, b->caps->max_local);
    const int64_t groups[3] = {
        gb_min(gb_div_up(count, local), gb_min(b->caps->max_groups[0], 65535)), 1, 1};
    if (count == 0) return gb_gk_drop(&k), k.status;
    gb_gk_local(&k, (uint32_t)local, 1, 1);
    gb_gk_param(&k, "COUNT", count);
    gb_gk_param(&k, "STRIDE", groups[0] * local);
    return gb_gk_finish(&k, "gather.item", gb_shader_gather_item, groups);
}

#define INDEX_CHUNK 24576

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
    for (int64_t first = 0; status == GB_OK && (first == 0 || first < indices);
         first += INDEX_CHUNK) {
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
