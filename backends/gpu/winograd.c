/* What Winograd's convolutions are made of, whatever runs their products. See winograd.h. */
#include "backends/gpu/winograd.h"

#include <stdio.h>
#include <string.h>

#include "backends/gpu/panel.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/value.h"
#include "backends/gpu/window.h"

static const gb_tiling unit2 = {
    .side = 2,
    .reads = 4,
    .step = 2,
    .full = 4,
    .filters = 4,
    .point = {0, 1, -1},
    .scale = {1, 0.5, 0.5},
    .data = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}},
};
static const gb_tiling unit4 = {
    .side = 4,
    .reads = 6,
    .step = 4,
    .full = 6,
    .filters = 6,
    .point = {0, 1, -1, 2, -2},
    .scale = {1.0 / 4, -1.0 / 6, -1.0 / 6, 1.0 / 24, 1.0 / 24},
    .data = {{4, 0, -5, 0, 1, 0},
             {0, -4, -4, 1, 1, 0},
             {0, 4, -4, -1, 1, 0},
             {0, -2, -1, 2, 1, 0},
             {0, 2, -1, -2, 1, 0},
             {0, 4, 0, -5, 0, 1}},
};

/* Stride 2: F(2, 2) at 0, 1 and infinity, F(4, 2) at 0, 1, -1, 2 and infinity, of the even pixels;
 * then the odd ones as they are. */
#define FILTER_2                                                                                   \
    {                                                                                              \
        {1, 0, 0}, {1, 0, 1}, {0, 0, 1},                                                           \
        {                                                                                          \
            0, 1, 0                                                                                \
        }                                                                                          \
    }
#define FILTER_4                                                                                   \
    {                                                                                              \
        {1.0 / 2, 0, 0}, {-1.0 / 2, 0, -1.0 / 2}, {-1.0 / 6, 0, 1.0 / 6}, {1.0 / 6, 0, 1.0 / 3},   \
            {0, 0, 1},                                                                             \
        {                                                                                          \
            0, 1, 0                                                                                \
        }                                                                                          \
    }
static const gb_tiling strided2 = {
    .side = 2,
    .reads = 5,
    .step = 4,
    .full = 5,
    .filters = 4,
    .data = {{1, 0, -1}, {0, 0, 1}, {0, 0, 1, 0, -1}, {0, 1}, {0, 0, 0, 1}},
    .filter = FILTER_2,
    .result = {{1, 1, 0, 1}, {0, 1, -1, 0, 1}},
};
static const gb_tiling strided4 = {
    .side = 4,
    .reads = 9,
    .step = 8,
    .full = 9,
    .filters = 6,
    .data = {{2, 0, -1, 0, -2, 0, 1},
             {0, 0, -2, 0, -1, 0, 1},
             {0, 0, 2, 0, -3, 0, 1},
             {0, 0, -1, 0, 0, 0, 1},
             {0, 0, 2, 0, -1, 0, -2, 0, 1},
             {0, 1},
             {0, 0, 0, 1},
             {0, 0, 0, 0, 0, 1},
             {0, 0, 0, 0, 0, 0, 0, 1}},
    .filter = FILTER_4,
    .result = {{1, 1, 1, 1, 0, 1},
               {0, 1, -1, 2, 0, 0, 1},
               {0, 1, 1, 4, 0, 0, 0, 1},
               {0, 1, -1, 8, 1, 0, 0, 0, 1}},
};
/* The gradient of the image: odd pixels are F(m, 2) of the result's gradient, even ones products
 * with tap 1. A tile begins with an even pixel of the image, whose padding is odd. */
static const gb_tiling spread2 = {
    .side = 4,
    .reads = 3,
    .step = 2,
    .full = 5,
    .filters = 4,
    .data = {{1, -1, 0}, {0, 1, 0}, {0, 1, -1}, {1, 0, 0}, {0, 1, 0}},
    .filter = FILTER_2,
    .result = {{0, 0, 0, 1}, {1, 1}, {0, 0, 0, 0, 1}, {0, 1, -1}},
};
static const gb_tiling spread4 = {
    .side = 8,
    .reads = 5,
    .step = 4,
    .full = 9,
    .filters = 6,
    .data = {{2, -1, -2, 1, 0},
             {0, -2, -1, 1, 0},
             {0, 2, -3, 1, 0},
             {0, -1, 0, 1, 0},
             {0, 2, -1, -2, 1},
             {1, 0, 0, 0, 0},
             {0, 1, 0, 0, 0},
             {0, 0, 1, 0, 0},
             {0, 0, 0, 1, 0}},
    .filter = FILTER_4,
    .result = {{0, 0, 0, 0, 0, 1},
               {1, 1, 1, 1},
               {0, 0, 0, 0, 0, 0, 1},
               {0, 1, -1, 2},
               {0, 0, 0, 0, 0, 0, 0, 1},
               {0, 1, 1, 4},
               {0, 0, 0, 0, 0, 0, 0, 0, 1},
               {0, 1, -1, 8, 1}},
};

static bool has_points(const gb_tiling *t)
{
    return t->full == t->filters;
}

static gb_transform transposed(const gb_transform *m)
{
    gb_transform r = {.rows = m->columns, .columns = m->rows};
    for (int i = 0; i < r.rows; i++)
        for (int j = 0; j < r.columns; j++) r.v[i][j] = m->v[j][i];
    return r;
}

/* Powers of the points times their scales, for n values from the left: what is multiplied with the
 * data. */
static gb_transform to_points(const gb_tiling *t, int n)
{
    gb_transform m = {.rows = t->full, .columns = n};
    for (int i = 0; i < t->full - 1; i++) {
        double power = t->scale[i];
        for (int j = 0; j < n; j++, power *= t->point[i]) m.v[i][j] = power;
    }
    m.v[t->full - 1][n - 1] = 1;
    return m;
}

static gb_transform from_points(const gb_tiling *t, int n)
{
    gb_transform m = {.rows = n, .columns = t->full};
    for (int j = 0; j < t->full - 1; j++) {
        double power = 1;
        for (int i = 0; i < n; i++, power *= t->point[j]) m.v[i][j] = power;
    }
    m.v[n - 1][t->full - 1] = 1;
    return m;
}

gb_transform gb_winograd_data(const gb_tiling *t)
{
    gb_transform m = {.rows = t->full, .columns = t->reads};
    memcpy(m.v, t->data, sizeof t->data);
    return m;
}

gb_transform gb_winograd_filter(const gb_tiling *t)
{
    gb_transform m = {.rows = t->filters, .columns = GB_WINOGRAD_TAPS};
    if (has_points(t)) return to_points(t, GB_WINOGRAD_TAPS);
    for (int i = 0; i < m.rows; i++) memcpy(m.v[i], t->filter[i], sizeof t->filter[i]);
    return m;
}

gb_transform gb_winograd_result(const gb_tiling *t)
{
    gb_transform m = {.rows = t->side, .columns = t->full};
    if (has_points(t)) return from_points(t, t->side);
    memcpy(m.v, t->result, sizeof t->result);
    return m;
}

gb_transform gb_winograd_gradient(const gb_tiling *t)
{
    const gb_transform m = gb_winograd_result(t);
    return has_points(t) ? to_points(t, t->side) : transposed(&m);
}

gb_transform gb_winograd_sums(const gb_tiling *t)
{
    const gb_transform m = gb_winograd_filter(t);
    return has_points(t) ? from_points(t, GB_WINOGRAD_TAPS) : transposed(&m);
}

/* --- the text of transforms --- */

static void add_sum(gb_text *t, const gb_transform *m, int row, const char *element)
{
    bool first = true;
    for (int k = 0; k < m->columns; k++) {
        const double c = m->v[row][k], size = c < 0 ? -c : c;
        if (c == 0) continue;
        gb_text_add(t, "%s", c < 0 ? " - " : first ? "" : " + ");
        if (size != 1) gb_text_add(t, "%.9ef * ", size);
        gb_text_add(t, element, k);
        first = false;
    }
}

void gb_winograd_define(gb_gk *k, const gb_transform *m)
{
    char element[48];
    gb_text *t = &k->defs;
    gb_text_add(t, "#define DOWN(j_)");
    snprintf(element, sizeof element, "d[%%d * %d + (j_)]", m->columns);
    for (int i = 0; i < m->rows; i++) {
        gb_text_add(t, " e[%d + (j_)] = ", i * m->columns);
        add_sum(t, m, i, element);
        gb_text_add(t, ";");
    }
    gb_text_add(t, "\n#define ACROSS(i_)");
    snprintf(element, sizeof element, "e[(i_) * %d + %%d]", m->columns);
    for (int i = 0; i < m->rows; i++) {
        gb_text_add(t, " PUT((i_) * %d + %d, ", m->rows, i);
        add_sum(t, m, i, element);
        gb_text_add(t, ");");
    }
    gb_text_add(t, "\n");
}

/* The image that is made, or whose gradient is read. */
static const gb_operand *result_of(const gb_step *s)
{
    return s->kind == GB_STEP_CONV_FILTER ? &s->in[1] : &s->out[0];
}

/* Multiplications for each image, and pair of channels. */
static int64_t work_of(const gb_tiling *t, const gb_operand *y)
{
    return (int64_t)t->full * t->full * gb_div_up(y->dim[2], t->side) *
           gb_div_up(y->dim[3], t->side);
}

/* Of a small image large tiles may cover so much more that they save nothing. */
const gb_tiling *gb_winograd_tiling(const gb_step *s)
{
    const int kind = s->u.conv.stride[0] == 1 ? 0 : s->kind == GB_STEP_CONV_INPUT ? 1 : 2;
    static const gb_tiling *const two[] = {&unit2, &spread2, &strided2};
    static const gb_tiling *const four[] = {&unit4, &spread4, &strided4};
    const gb_operand *y = result_of(s);
    return s->fast && work_of(four[kind], y) < work_of(two[kind], y) ? four[kind] : two[kind];
}

gb_tiles gb_winograd_tiles(const gb_step *s)
{
    const gb_operand *x = &s->in[0], *y = result_of(s);
    const gb_tiling *t = gb_winograd_tiling(s);
    gb_tiles w = {.t = t,
                  .images = y->dim[0],
                  .grid = {gb_div_up(y->dim[2], t->side), gb_div_up(y->dim[3], t->side)},
                  .places = (int64_t)t->full * t->full,
                  .filters = (int64_t)t->filters * t->filters,
                  .channels = {x->dim[1], y->dim[1]}};
    for (int d = 0; d < 2; d++) {
        const int64_t pad = s->u.conv.pad[d];
        w.pad[d] = s->kind != GB_STEP_CONV_INPUT ? pad
                   : s->u.conv.stride[d] == 1    ? GB_WINOGRAD_TAPS - 1 - pad
                                                 : -(pad / 2);
    }
    return w;
}

int64_t gb_winograd_count(const gb_tiles *w, int64_t images)
{
    return images * w->grid[0] * w->grid[1];
}

bool gb_winograd_suits(const gb_step *step, int64_t least, int64_t multiple)
{
    const gb_window *v = &step->u.conv;
    const gb_operand *x = &step->in[0], *y = result_of(step);
    if (!gb_not_empty(x) || !gb_not_empty(y)) return false;
    for (int d = 0; d < 2; d++) {
        if (v->kernel[d] != GB_WINOGRAD_TAPS || v->dilation[d] != 1 ||
            v->pad[d] >= GB_WINOGRAD_TAPS || v->stride[d] != v->stride[0] || v->stride[d] > 2)
            return false;
        if (v->stride[d] == 2 && step->kind == GB_STEP_CONV_INPUT && v->pad[d] != 1) return false;
    }
    if (v->groups != 1 || x->dim[1] % multiple || y->dim[1] % multiple || x->dim[1] < least ||
        y->dim[1] < least)
        return false;
    const gb_operand *made = step->kind == GB_STEP_CONV_INPUT ? x : y; /* by the convolution */
    const int64_t direct = GB_WINOGRAD_TAPS * GB_WINOGRAD_TAPS * made->dim[2] * made->dim[3];
    return 5 * work_of(gb_winograd_tiling(step), y) <= 4 * direct;
}

/* --- kernels that both ways have --- */

void gb_winograd_grid(gb_gk *k, const gb_tiles *w)
{
    gb_gk_param(k, "TILES_H", w->grid[0]);
    gb_gk_param(k, "TILES_W", w->grid[1]);
}

static void define_side(gb_gk *k, const gb_operand *image, int side, int full)
{
    gb_gk_param(k, "HEIGHT", image->dim[2]);
    gb_gk_param(k, "WIDTH", image->dim[3]);
    gb_gk_define(k, "SIDE", "%d", side);
    /* beyond the registers, unrolled text only takes compilers longer */
    gb_gk_define(k, "TILE_UNROLL", full > 6 ? "" : "GB_UNROLL");
    gb_gk_define(k, "FULL", "%d", full);
}

void gb_winograd_image(gb_gk *k, const gb_tiles *w, const gb_operand *x, const gb_transform *m,
                       const int64_t *pad)
{
    define_side(k, x, m->columns, m->rows);
    gb_gk_param(k, "STEP", pad ? w->t->step : w->t->side);
    gb_gk_param(k, "PAD_H", pad ? pad[0] : 0);
    gb_gk_param(k, "PAD_W", pad ? pad[1] : 0);
    gb_gk_param(k, "X_N", x->stride[0]);
    gb_gk_param(k, "X_H", x->stride[2]);
    gb_gk_param(k, "X_W", x->stride[3]);
    gb_winograd_define(k, m);
}

void gb_winograd_results(gb_gk *k, const gb_step *s, const gb_tiles *w)
{
    const gb_transform m = gb_winograd_result(w->t);
    define_side(k, &s->out[0], m.rows, m.columns);
    gb_gk_define(k, "PUT(i_, v_)", "SPREAD(v_, pixel, (i_) * WIDE)");
    gb_winograd_define(k, &m);
    gb_gk_image_result(k, s);
}

gb_status gb_winograd_taps(gb_gpu_builder *b, int64_t width, uint32_t lanes)
{
    const gb_step *step = b->step;
    const gb_operand *f = &step->in[1];
    const bool forward = step->kind == GB_STEP_CONV;
    const int64_t *s = f->stride, block = 8;
    const int64_t depth = step->in[0].dim[1], n = step->out[0].dim[1];
    const int64_t pitch = width ? gb_div_up(n, width) * width : n;
    const gb_tiling *t = gb_winograd_tiling(step);
    const gb_transform m = gb_winograd_filter(t);
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_operand(&k, "w", f, GB_READ);
    gb_gk_packed(&k, "u", 0, t->filters * t->filters * depth * pitch, GB_WRITE);
    gb_gk_define(&k, "FULL", "%d", m.rows);
    gb_value_define(&k, width ? GB_WIDE : GB_ONE);
    if (width) { /* an item has a panel, or a column */
        gb_gk_define(&k, "PANEL", "%d", (int)width);
        gb_gk_define(&k, "PANEL_NUMBER", "GB_GROUP(0)");
        gb_gk_define(&k, "LANE", "0");
        gb_gk_define(&k, "LANES", "WIDE");
    } else {
        gb_gk_local(&k, lanes, 1, 1);
        gb_gk_param(&k, "PANEL", n);
        gb_gk_define(&k, "PANEL_NUMBER", "0");
        gb_gk_define(&k, "LANE", "GB_GLOBAL(0)");
        gb_gk_define(&k, "LANES", "PANEL");
    }
    gb_gk_param(&k, "K_BLOCK", block);
    gb_gk_param(&k, "K", depth);
    gb_gk_param(&k, "N", n);
    gb_gk_param(&k, "W_FIRST", forward ? 0 : 2 * s[2] + 2 * s[3]);
    gb_gk_param(&k, "W_K", s[forward ? 1 : 0]);
    if (forward)
        gb_gk_param(&k, "W_N", s[0]);
    else
        gb_gk_define(&k, "W_N", "1");
    gb_gk_param(&k, "W_H", forward ? s[2] : -s[2]);
    gb_gk_param(&k, "W_W", forward ? s[3] : -s[3]);
    gb_gk_param(&k, "PLACE", depth * pitch);
    gb_gk_define(&k, "PUT(i_, v_)",
                 width ? "GB_VEC_PUT(v_, BUF_u, AT_u + (i_) * PLACE + to)"
                       : "ST_u((i_) * PLACE + to, v_)");
    gb_winograd_define(&k, &m);
    const int64_t groups = gb_div_up(n, width ? width : lanes);
    return gb_gk_finish(&k, "winograd.filter", gb_shader_winograd_filter,
                        (const int64_t[3]){groups, gb_div_up(depth, block), 1});
}

gb_status gb_winograd_join(gb_gpu_builder *b, const gb_winograd_shares *sums, uint32_t lanes)
{
    const bool wide = lanes == 1;
    const gb_value_width width = wide ? GB_WIDE : GB_ONE;
    const gb_tiling *t = gb_winograd_tiling(b->step);
    const gb_transform m = gb_winograd_sums(t);
    const int span = wide ? 64 : 1; /* memory is read in runs, or takes several times as long */
    const int64_t block = wide ? 16 : 8, place = sums->m * sums->pitch;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, lanes, 1, 1);
    gb_gk_scratch(&k, "t", sums->at, sums->shares * t->filters * t->filters * place, GB_S_F32,
                  GB_READ);
    gb_gk_operand(&k, "o0", &b->step->out[0], GB_WRITE);
    gb_gk_define(&k, "FULL", "%d", m.columns);
    gb_gk_define(&k, "BLOCK", "%d", (int)block);
    gb_gk_param(&k, "SHARES", sums->shares);
    gb_gk_param(&k, "CHANNELS", sums->m);
    gb_gk_param(&k, "OUTPUTS", sums->n);
    gb_gk_param(&k, "PITCH", sums->pitch);
    gb_gk_param(&k, "PLACE", place);
    gb_value_define(&k, width);
    gb_value_load(&k, "LOAD", "t", GB_S_F32, false, width);
    gb_gk_define(&k, "LANE", "GB_LOCAL(0)");
    gb_gk_define(&k, "LANES", "%d", (int)lanes);
    gb_gk_define(&k, "SPAN", "%d", span);
    gb_gk_define(&k, "PUT(i_, v_)", "SPREAD(v_, one, (i_) * WIDE)");
    gb_winograd_define(&k, &m);
    return gb_gk_finish(
        &k, "winograd.join", gb_shader_winograd_join,
        (const int64_t[3]){gb_div_up(sums->n, span * lanes), gb_div_up(sums->m, block), 1});
}
