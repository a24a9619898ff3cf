/* Winograd's convolutions: 3 × 3 windows of stride 1 as FULL × FULL products of transformed tiles,
 * one matrix product for each place of a tile. F(2×2) is as accurate as the direct way; F(4×4),
 * which multiplies less still, is not, and waits for `math: fast`. Images go through in chunks, so
 * that what lies between the kernels stays in the caches. */
#include <stdio.h>
#include <string.h>

#include "backends/gpu/panel.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/window.h"

enum { TAPS = 3, MAX_FULL = 6 };

/* Interpolation at these points and at infinity. data is the transform of a tile of the image;
 * those of filters and results follow from the points and from the scale of each. */
typedef struct gb_tiling {
    int side; /* pixels of the result along one axis */
    int full; /* places of a transformed tile: side + TAPS - 1 */
    double point[MAX_FULL - 1], scale[MAX_FULL - 1];
    double data[MAX_FULL][MAX_FULL];
} gb_tiling;

static const gb_tiling f2 = {
    2, 4, {0, 1, -1}, {1, 0.5, 0.5}, {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}}};
static const gb_tiling f4 = {4,
                             6,
                             {0, 1, -1, 2, -2},
                             {1.0 / 4, -1.0 / 6, -1.0 / 6, 1.0 / 24, 1.0 / 24},
                             {{4, 0, -5, 0, 1, 0},
                              {0, -4, -4, 1, 1, 0},
                              {0, 4, -4, -1, 1, 0},
                              {0, -2, -1, 2, 1, 0},
                              {0, 2, -1, -2, 1, 0},
                              {0, 4, 0, -5, 0, 1}}};

typedef struct gb_matrix {
    int rows, columns;
    double v[MAX_FULL][MAX_FULL];
} gb_matrix;

static gb_matrix data_matrix(const gb_tiling *t)
{
    gb_matrix m = {.rows = t->full, .columns = t->full};
    memcpy(m.v, t->data, sizeof m.v);
    return m;
}

/* Transforms what is multiplied with the data: n taps of a filter, or n pixels of a gradient. */
static gb_matrix filter_matrix(const gb_tiling *t, int n)
{
    gb_matrix m = {.rows = t->full, .columns = n};
    for (int i = 0; i < t->full - 1; i++) {
        double power = t->scale[i];
        for (int j = 0; j < n; j++, power *= t->point[i]) m.v[i][j] = power;
    }
    m.v[t->full - 1][n - 1] = 1;
    return m;
}

/* Transforms products to n results. */
static gb_matrix result_matrix(const gb_tiling *t, int n)
{
    gb_matrix m = {.rows = n, .columns = t->full};
    for (int j = 0; j < t->full - 1; j++) {
        double power = 1;
        for (int i = 0; i < n; i++, power *= t->point[j]) m.v[i][j] = power;
    }
    m.v[n - 1][t->full - 1] = 1;
    return m;
}

/* --- the text of transforms --- */

static void add_sum(gb_text *t, const gb_matrix *m, int row, const char *element)
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

/* DOWN(j) makes column j of e = m · d, ACROSS(i) row i of e · mᵀ, given to PUT(place, value). */
static void define_transform(gb_gk *k, const gb_matrix *m)
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

/* --- the plan --- */

typedef struct gb_tiles {          /* of one image operand */
    int64_t height, width, places; /* tiles along the axes of an image; full² */
} gb_tiles;

typedef struct gb_winograd {
    const gb_tiling *t;
    gb_tiles tiles;
    int64_t images, chunk; /* all of them, and of one chunk */
    int64_t pad[2];
    gb_panel p;             /* the product of one chunk */
    int64_t pitch;          /* columns of whole panels */
    uint64_t b_at, c_at;    /* the second factor, where it is no filter, and the products in the
                               scratch; the first factor is at 0 */
    uint64_t bytes, packed; /* of the scratch; of transformed filters */
} gb_winograd;

static const gb_tiling *tiling_of(const gb_step *s)
{
    return s->fast ? &f4 : &f2;
}

/* As many images as have the given bytes of transformed tiles. */
static void choose_chunk(gb_winograd *w, int64_t channels)
{
    const int64_t bytes = w->tiles.places * w->tiles.height * w->tiles.width * channels * 4;
    const int64_t chunks = gb_div_up(w->images * bytes, INT64_C(8) << 20);
    w->chunk = gb_div_up(w->images, gb_max(1, gb_min(chunks, w->images)));
}

static void plan_tiles(gb_winograd *w, const gb_tiling *t, const int64_t *pixels)
{
    *w = (gb_winograd){.t = t, .images = pixels[0]};
    w->tiles = (gb_tiles){.height = gb_div_up(pixels[2], t->side),
                          .width = gb_div_up(pixels[3], t->side),
                          .places = (int64_t)t->full * t->full};
}

/* Strides from place to place of a, b and o0. */
static void plan_places(gb_winograd *w, int64_t a, int64_t b, int64_t c)
{
    w->p.batch = (gb_space){.rank = 1, .dim = {w->tiles.places}};
    gb_space_op(&w->p.batch, "a", &a);
    gb_space_op(&w->p.batch, "b", &b);
    gb_space_op(&w->p.batch, "o0", &c);
}

/* Forward and to the input: rows are tiles, k and columns channels. */
static void plan_pixels(gb_winograd *w, const gb_gpu_caps *caps, const gb_step *s)
{
    const bool forward = s->kind == GB_STEP_CONV;
    const int64_t k = s->in[0].dim[1], n = s->out[0].dim[1];
    plan_tiles(w, tiling_of(s), s->out[0].dim);
    choose_chunk(w, gb_max(k, n));
    for (int d = 0; d < 2; d++)
        w->pad[d] = forward ? s->u.conv.pad[d] : TAPS - 1 - s->u.conv.pad[d];
    const int64_t rows = w->chunk * w->tiles.height * w->tiles.width;
    w->p = (gb_panel){.m = {1, 1, rows},
                      .k = {1, 1, k},
                      .n = n,
                      .a_m = {0, 0, k},
                      .a_k = {0, 0, 1},
                      .shares = 1,
                      .share = 1};
    gb_panel_choose(&w->p, caps);
    w->pitch = gb_panel_count(&w->p) * gb_panel_width(&w->p);
    w->p.b_step = gb_panel_width(&w->p);
    w->p.b_panel = k * w->p.b_step;
    plan_places(w, rows * k, k * w->pitch, rows * w->pitch);
    w->packed = gb_align256((uint64_t)(w->tiles.places * k * w->pitch) * 4);
    w->b_at = w->c_at = gb_align256((uint64_t)(w->tiles.places * rows * k) * 4);
    w->bytes = w->c_at + gb_align256((uint64_t)(w->tiles.places * rows * w->pitch) * 4);
}

/* The filter's gradient: rows are the image's channels, columns the output's, k is tiles. */
static void plan_filter(gb_winograd *w, const gb_gpu_caps *caps, const gb_step *s)
{
    const int64_t m = s->in[0].dim[1], n = s->in[1].dim[1];
    plan_tiles(w, tiling_of(s), s->in[1].dim);
    choose_chunk(w, gb_max(m, n));
    for (int d = 0; d < 2; d++) w->pad[d] = s->u.conv.pad[d];
    const int64_t k = w->chunk * w->tiles.height * w->tiles.width;
    w->p = (gb_panel){.m = {1, 1, m},
                      .k = {1, 1, k},
                      .n = n,
                      .a_m = {0, 0, 1},
                      .a_k = {0, 0, m},
                      .shares = 1,
                      .share = 1};
    gb_panel_choose(&w->p, caps);
    w->pitch = gb_panel_count(&w->p) * gb_panel_width(&w->p);
    w->p.b_step = w->pitch;
    w->p.b_panel = gb_panel_width(&w->p);
    plan_places(w, k * m, k * w->pitch, m * w->pitch);
    w->b_at = gb_align256((uint64_t)(w->tiles.places * k * m) * 4);
    w->c_at = w->b_at + gb_align256((uint64_t)(w->tiles.places * k * w->pitch) * 4);
    w->bytes = w->c_at + gb_align256((uint64_t)(w->tiles.places * m * w->pitch) * 4);
}

static void plan_any(gb_winograd *w, const gb_gpu_caps *caps, const gb_step *s)
{
    (s->kind == GB_STEP_CONV_FILTER ? plan_filter : plan_pixels)(w, caps, s);
}

/* --- kernels --- */

/* Values are 16 channels; LOAD reads them from operand name. */
static void define_lanes(gb_gk *k, const char *name, gb_storage storage)
{
    const char *type = storage == GB_S_F16 ? "_F16" : storage == GB_S_BF16 ? "_BF16" : "";
    gb_gk_define(k, "VALUE", "GB_VEC");
    gb_gk_define(k, "ZERO", "GB_VEC_ZERO");
    gb_gk_define(k, "LANE", "0");
    gb_gk_define(k, "LANES", "GB_VEC_WIDTH");
    gb_gk_define(k, "WIDE", "GB_VEC_WIDTH");
    gb_gk_define(k, "LOAD(i_)", "GB_VEC_LOAD%s(BUF_%s, AT_%s + (i_))", type, name, name);
}

/* Images [first, first + count) of an operand to transformed tiles in the scratch. */
static gb_status lower_image(gb_gpu_builder *b, const gb_winograd *w, const gb_operand *x,
                             const gb_matrix *m, const int64_t pad[2], int64_t first, int64_t count,
                             uint64_t at, int64_t pitch)
{
    const int64_t rows = w->chunk * w->tiles.height * w->tiles.width;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_operand(&k, "x", x, GB_READ);
    gb_gk_scratch(&k, "t", at, w->tiles.places * rows * pitch, GB_S_F32, GB_WRITE);
    gb_gk_define(&k, "SIDE", "%d", m->columns);
    gb_gk_define(&k, "FULL", "%d", m->rows);
    gb_gk_param(&k, "STEP", w->t->side);
    gb_gk_param(&k, "TILES_H", w->tiles.height);
    gb_gk_param(&k, "TILES_W", w->tiles.width);
    gb_gk_param(&k, "PAD_H", pad[0]);
    gb_gk_param(&k, "PAD_W", pad[1]);
    gb_gk_param(&k, "HEIGHT", x->dim[2]);
    gb_gk_param(&k, "WIDTH", x->dim[3]);
    gb_gk_param(&k, "CHANNELS", x->dim[1]);
    gb_gk_param(&k, "FIRST_IMAGE", first);
    gb_gk_param(&k, "X_N", x->stride[0]);
    gb_gk_param(&k, "X_H", x->stride[2]);
    gb_gk_param(&k, "X_W", x->stride[3]);
    gb_gk_param(&k, "PITCH", pitch);
    gb_gk_param(&k, "PLACE", rows * pitch);
    define_lanes(&k, "x", x->storage);
    gb_gk_define(&k, "PUT(i_, v_)", "GB_VEC_PUT(v_, BUF_t, AT_t + (i_) * PLACE + to + c)");
    define_transform(&k, m);
    return gb_gk_finish(&k, "winograd.image", gb_shader_winograd_image,
                        (const int64_t[3]){count * w->tiles.height, 1, 1});
}

static gb_status lower_taps(gb_gpu_builder *b, const gb_winograd *w)
{
    const gb_operand *f = &b->step->in[1];
    const bool forward = b->step->kind == GB_STEP_CONV;
    const int64_t *s = f->stride, block = 8;
    const int64_t depth = w->p.k[2], panels = gb_panel_count(&w->p);
    gb_matrix m = filter_matrix(w->t, TAPS);
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_operand(&k, "w", f, GB_READ);
    gb_gk_packed(&k, "u", 0, w->tiles.places * depth * w->pitch, GB_WRITE);
    gb_gk_define(&k, "FULL", "%d", m.rows);
    gb_gk_define(&k, "PANEL", "%d", (int)gb_panel_width(&w->p));
    gb_gk_define(&k, "LANE", "0");
    gb_gk_define(&k, "LANES", "1");
    gb_gk_param(&k, "K_BLOCK", block);
    gb_gk_param(&k, "K", depth);
    gb_gk_param(&k, "N", w->p.n);
    gb_gk_param(&k, "W_FIRST", forward ? 0 : 2 * s[2] + 2 * s[3]);
    gb_gk_param(&k, "W_K", s[forward ? 1 : 0]);
    if (forward)
        gb_gk_param(&k, "W_N", s[0]);
    else
        gb_gk_define(&k, "W_N", "1");
    gb_gk_param(&k, "W_H", forward ? s[2] : -s[2]);
    gb_gk_param(&k, "W_W", forward ? s[3] : -s[3]);
    gb_gk_param(&k, "PLACE", depth * w->pitch);
    gb_gk_define(&k, "PUT(i_, v_)", "ST_u((i_) * PLACE + to, v_)");
    define_transform(&k, &m);
    return gb_gk_finish(&k, "winograd.filter", gb_shader_winograd_filter,
                        (const int64_t[3]){panels, gb_div_up(depth, block), 1});
}

/* count: rows of the product, or its k. */
static gb_status lower_product(gb_gpu_builder *b, const gb_winograd *w, int64_t count, bool add)
{
    gb_panel p = w->p;
    const bool filter = b->step->kind == GB_STEP_CONV_FILTER;
    *(filter ? &p.k[2] : &p.m[2]) = count;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_scratch(&k, "a", 0, (int64_t)(w->b_at / 4), GB_S_F32, GB_READ);
    if (filter)
        gb_gk_scratch(&k, "b", w->b_at, (int64_t)((w->c_at - w->b_at) / 4), GB_S_F32, GB_READ);
    else
        gb_gk_packed(&k, "b", 0, (int64_t)(w->packed / 4), GB_READ);
    gb_gk_scratch(&k, "o0", w->c_at, (int64_t)((w->bytes - w->c_at) / 4), GB_S_F32,
                  GB_READ | GB_WRITE);
    gb_panel_define(&k, &p);
    gb_panel_sums(&k, &p, add);
    return gb_panel_finish(&k, &p, "winograd.product");
}

static gb_status lower_result(gb_gpu_builder *b, const gb_winograd *w, int64_t first, int64_t count)
{
    const gb_operand *y = &b->step->out[0];
    const int64_t rows = w->chunk * w->tiles.height * w->tiles.width;
    gb_matrix m = result_matrix(w->t, w->t->side);
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_scratch(&k, "t", w->c_at, w->tiles.places * rows * w->pitch, GB_S_F32, GB_READ);
    gb_gk_define(&k, "SIDE", "%d", m.rows);
    gb_gk_define(&k, "FULL", "%d", m.columns);
    gb_gk_param(&k, "TILES_H", w->tiles.height);
    gb_gk_param(&k, "TILES_W", w->tiles.width);
    gb_gk_param(&k, "HEIGHT", y->dim[2]);
    gb_gk_param(&k, "WIDTH", y->dim[3]);
    gb_gk_param(&k, "CHANNELS", y->dim[1]);
    gb_gk_param(&k, "FIRST_IMAGE", first);
    gb_gk_param(&k, "PITCH", w->pitch);
    gb_gk_param(&k, "PLACE", rows * w->pitch);
    define_lanes(&k, "t", GB_S_F32);
    gb_gk_define(&k, "PUT(i_, v_)", "GB_VEC_PUT(v_, pixel, (i_) * WIDE)");
    define_transform(&k, &m);
    gb_gk_image_result(&k, b->step);
    return gb_gk_finish(&k, "winograd.result", gb_shader_winograd_result,
                        (const int64_t[3]){count * w->tiles.height, 1, 1});
}

static gb_status lower_join(gb_gpu_builder *b, const gb_winograd *w)
{
    const gb_operand *dw = &b->step->out[0];
    const int64_t c = w->p.m[2], block = 16;
    gb_matrix m = result_matrix(w->t, TAPS);
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_scratch(&k, "t", w->c_at, w->tiles.places * c * w->pitch, GB_S_F32, GB_READ);
    gb_gk_operand(&k, "o0", dw, GB_WRITE);
    gb_gk_define(&k, "FULL", "%d", m.columns);
    gb_gk_define(&k, "BLOCK", "%d", (int)block);
    gb_gk_param(&k, "CHANNELS", c);
    gb_gk_param(&k, "PITCH", w->pitch);
    gb_gk_param(&k, "PLACE", c * w->pitch);
    define_lanes(&k, "t", GB_S_F32);
    gb_gk_define(&k, "PUT(i_, v_)", "GB_VEC_PUT(v_, one, (i_) * WIDE)");
    define_transform(&k, &m);
    return gb_gk_finish(&k, "winograd.join", gb_shader_winograd_join,
                        (const int64_t[3]){gb_div_up(w->p.n, 16), gb_div_up(c, block), 1});
}

/* --- variants --- */

/* Where tiles cover much more than the image, or where transforms cost more than they save, the
 * direct way is better: measured on PoCL. */
bool gb_winograd_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_window *v = &step->u.conv;
    const bool filter = step->kind == GB_STEP_CONV_FILTER;
    const gb_operand *x = &step->in[0], *y = filter ? &step->in[1] : &step->out[0];
    if (!gb_gpu_wide_items(caps) || !gb_not_empty(x) || !gb_not_empty(y)) return false;
    for (int d = 0; d < 2; d++)
        if (v->kernel[d] != TAPS || v->stride[d] != 1 || v->dilation[d] != 1 || v->pad[d] >= TAPS)
            return false;
    gb_winograd w;
    plan_tiles(&w, tiling_of(step), y->dim);
    const int64_t side = w.t->side, covered = w.tiles.height * w.tiles.width * side * side;
    return v->groups == 1 && x->dim[1] % 16 == 0 && y->dim[1] % 16 == 0 && x->dim[1] >= 32 &&
           y->dim[1] >= 32 && 2 * covered <= 3 * y->dim[2] * y->dim[3];
}

uint64_t gb_winograd_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_winograd w;
    plan_any(&w, caps, step);
    return w.bytes;
}

uint64_t gb_winograd_packed(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_winograd w;
    plan_any(&w, caps, step);
    return w.packed;
}

gb_status gb_lower_winograd(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_winograd w;
    plan_pixels(&w, b->caps, s);
    const gb_matrix m = data_matrix(w.t);
    gb_status status = lower_taps(b, &w);
    for (int64_t first = 0; first < w.images && status == GB_OK; first += w.chunk) {
        const int64_t count = gb_min(w.chunk, w.images - first);
        status = lower_image(b, &w, &s->in[0], &m, w.pad, first, count, 0, s->in[0].dim[1]);
        if (status == GB_OK)
            status = lower_product(b, &w, count * w.tiles.height * w.tiles.width, false);
        if (status == GB_OK) status = lower_result(b, &w, first, count);
    }
    return status;
}

gb_status gb_lower_winograd_filter(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_winograd w;
    plan_filter(&w, b->caps, s);
    const gb_matrix data = data_matrix(w.t), gradient = filter_matrix(w.t, w.t->side);
    const int64_t none[2] = {0, 0};
    gb_status status = GB_OK;
    for (int64_t first = 0; first < w.images && status == GB_OK; first += w.chunk) {
        const int64_t count = gb_min(w.chunk, w.images - first);
        status = lower_image(b, &w, &s->in[0], &data, w.pad, first, count, 0, s->in[0].dim[1]);
        if (status == GB_OK)
            status = lower_image(b, &w, &s->in[1], &gradient, none, first, count, w.b_at, w.pitch);
        if (status == GB_OK)
            status = lower_product(b, &w, count * w.tiles.height * w.tiles.width, first > 0);
    }
    return status == GB_OK ? lower_join(b, &w) : status;
}
