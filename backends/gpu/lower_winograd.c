/* Winograd's convolutions: 3 × 3 windows of stride 1 as FULL × FULL products of transformed tiles,
 * one matrix product for each place of a tile. F(2×2) is as accurate as the direct way; F(4×4),
 * which multiplies less still, is not, and waits for `math: fast`. Images go through in chunks, so
 * that what lies between the kernels stays in the caches.
 *
 * The products are panels where items are wide. Elsewhere they are a matrix product like any other,
 * with places as its batch axis: whatever kernel the device wants for such a step runs it. Tiles
 * are its rows and channels lie side by side, as in images: transforms read and write whole lines,
 * and tiles in shared memory take either order. */
#include <stdio.h>
#include <string.h>

#include "backends/gpu/panel.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/value.h"
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
    bool wide;              /* items are: products by panels */
    gb_panel p;             /* the product of one chunk */
    int64_t pitch;          /* columns of whole panels */
    int64_t lanes;          /* else: items of a group, along the channels, … */
    uint64_t product_at;    /* … and the scratch of the product */
    uint64_t b_at, c_at;    /* the second factor, where it is no filter, and the products in the
                               scratch; the first factor is at 0 */
    uint64_t bytes, packed; /* of the scratch; of transformed filters */
} gb_winograd;

static const gb_tiling *tiling_of(const gb_step *s)
{
    return s->fast ? &f4 : &f2;
}

/* As many images as have the given bytes of transformed tiles. */
static void choose_chunk(gb_winograd *w, const gb_gpu_caps *caps, int64_t channels)
{
    int64_t limit = INT64_C(8) << (w->wide ? 20 : 22); /* of a CPU's caches, or of a large GPU's */
    if (!w->wide && caps->max_binding) limit = gb_min(limit, (int64_t)(caps->max_binding / 4));
    const int64_t bytes = w->tiles.places * w->tiles.height * w->tiles.width * channels * 4;
    const int64_t chunks = gb_div_up(w->images * bytes, limit);
    w->chunk = gb_div_up(w->images, gb_max(1, gb_min(chunks, w->images)));
}

static void plan_tiles(gb_winograd *w, const gb_gpu_caps *caps, const gb_tiling *t,
                       const int64_t *pixels)
{
    *w = (gb_winograd){.t = t, .images = pixels[0], .wide = gb_gpu_wide_items(caps)};
    w->tiles = (gb_tiles){.height = gb_div_up(pixels[2], t->side),
                          .width = gb_div_up(pixels[3], t->side),
                          .places = (int64_t)t->full * t->full};
}

/* Columns lie in whole panels, or as they are. */
static void plan_columns(gb_winograd *w, const gb_gpu_caps *caps, int64_t channels)
{
    gb_panel_choose(&w->p, caps);
    w->pitch = w->wide ? gb_panel_count(&w->p) * gb_panel_width(&w->p) : w->p.n;
    w->lanes = gb_min(channels <= 32 ? 32 : 64, caps->max_local);
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
    plan_tiles(w, caps, tiling_of(s), s->out[0].dim);
    choose_chunk(w, caps, gb_max(k, n));
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
    plan_columns(w, caps, gb_min(k, n));
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
    plan_tiles(w, caps, tiling_of(s), s->in[1].dim);
    choose_chunk(w, caps, gb_max(m, n));
    for (int d = 0; d < 2; d++) w->pad[d] = s->u.conv.pad[d];
    const int64_t k = w->chunk * w->tiles.height * w->tiles.width;
    w->p = (gb_panel){.m = {1, 1, m},
                      .k = {1, 1, k},
                      .n = n,
                      .a_m = {0, 0, 1},
                      .a_k = {0, 0, m},
                      .shares = 1,
                      .share = 1};
    plan_columns(w, caps, gb_min(m, n));
    w->p.b_step = w->pitch;
    w->p.b_panel = gb_panel_width(&w->p);
    plan_places(w, k * m, k * w->pitch, m * w->pitch);
    w->b_at = gb_align256((uint64_t)(w->tiles.places * k * m) * 4);
    w->c_at = w->b_at + gb_align256((uint64_t)(w->tiles.places * k * w->pitch) * 4);
    w->bytes = w->c_at + gb_align256((uint64_t)(w->tiles.places * m * w->pitch) * 4);
}

/* --- the product as a step of its own --- */

static const gb_enode sum_node[] = {{.prim = GB_P_INPUT, .type = 'f', .imm = 0},
                                    {.prim = GB_P_INPUT, .type = 'f', .imm = 1},
                                    {.prim = GB_P_ADD, .type = 'f', .arg = {0, 1}}};
static const gb_expr sum = {.node = sum_node, .n_nodes = 3, .n_in = 2, .n_out = 1, .out = {2}};

static gb_operand matrix(gb_operand memory, uint64_t at, const int64_t dim[3],
                         const int64_t stride[3])
{
    memory.storage = GB_S_F32;
    memory.offset += at;
    memory.rank = 3;
    memcpy(memory.dim, dim, 3 * sizeof *dim);
    memcpy(memory.stride, stride, 3 * sizeof *stride);
    return memory;
}

/* count: rows, or of the filter's gradient k; add: to what is there. packed_at: of transformed
 * filters in the scratch, where they do not stay. */
static gb_step product_step(const gb_winograd *w, const gb_step *s, int64_t count, bool add,
                            uint64_t packed_at)
{
    const gb_panel *p = &w->p;
    const bool filter = s->kind == GB_STEP_CONV_FILTER, packed = !filter && s->packed_bytes > 0;
    const int64_t places = w->tiles.places, n = p->n;
    const int64_t m = filter ? p->m[2] : count, k = filter ? count : p->k[2];
    const uint64_t b_at = packed ? 0 : filter ? w->b_at : packed_at;
    gb_step step = {.kind = GB_STEP_MATMUL,
                    .path = s->path,
                    .phase = s->phase,
                    .n_in = add ? 3 : 2,
                    .n_out = 1,
                    .expr = add ? &sum : NULL,
                    .once = s->once,
                    .scratch = s->scratch};
    step.in[0] = matrix(s->scratch, 0, (const int64_t[3]){places, m, k},
                        (const int64_t[3]){p->batch.stride[0][0], p->a_m[2], p->a_k[2]});
    step.in[1] = matrix(packed ? s->packed : s->scratch, b_at, (const int64_t[3]){places, k, n},
                        (const int64_t[3]){p->batch.stride[1][0], n, 1});
    step.out[0] = matrix(s->scratch, w->c_at, (const int64_t[3]){places, m, n},
                         (const int64_t[3]){p->batch.stride[2][0], n, 1});
    step.in[2] = step.out[0];
    step.scratch.offset += w->product_at;
    return step;
}

static uint64_t product_scratch(const gb_winograd *w, const gb_gpu_caps *caps, const gb_step *s,
                                int64_t images, const gb_gpu_variant **v)
{
    const gb_step p =
        product_step(w, s, images * w->tiles.height * w->tiles.width, w->chunk < w->images, 0);
    *v = gb_gpu_pick(caps, &p);
    return *v ? gb_gpu_scratch(caps, *v, &p) : 0;
}

/* The last chunk may be a small one. False: nothing runs the product. */
static bool plan_product(gb_winograd *w, const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_gpu_variant *v, *last;
    const int64_t rest = w->images % w->chunk;
    const uint64_t bytes = product_scratch(w, caps, s, w->chunk, &v);
    const uint64_t more = product_scratch(w, caps, s, rest ? rest : w->chunk, &last);
    w->product_at = w->bytes;
    w->bytes += gb_align256(more > bytes ? more : bytes);
    return v && last;
}

static bool plan_any(gb_winograd *w, const gb_gpu_caps *caps, const gb_step *s)
{
    (s->kind == GB_STEP_CONV_FILTER ? plan_filter : plan_pixels)(w, caps, s);
    return w->wide || plan_product(w, caps, s);
}

/* --- kernels --- */

/* LOAD reads a value from operand name: 16 channels, or one and its neighbours are other items'. */
static void define_lanes(gb_gk *k, const gb_winograd *w, const char *name, gb_storage storage)
{
    const gb_value_width width = w->wide ? GB_WIDE : GB_ONE;
    gb_value_define(k, width);
    gb_value_load(k, "LOAD", name, storage, false, width);
    gb_gk_define(k, "LANE", w->wide ? "0" : "GB_LOCAL(0)");
    gb_gk_define(k, "LANES", "%d", w->wide ? (int)width : (int)w->lanes);
    if (!w->wide) gb_gk_local(k, (uint32_t)w->lanes, 1, 1);
}

/* An item has a line of tiles, or a tile; how many groups a line has. */
static int64_t define_columns(gb_gk *k, const gb_winograd *w)
{
    const int64_t columns = w->wide ? w->tiles.width : 1;
    gb_gk_param(k, "COLUMNS", columns);
    return gb_div_up(w->tiles.width, columns);
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
    define_lanes(&k, w, "x", x->storage);
    const int64_t across = define_columns(&k, w);
    gb_gk_define(&k, "PUT(i_, v_)",
                 w->wide ? "GB_VEC_PUT(v_, BUF_t, AT_t + (i_) * PLACE + to + c)"
                         : "ST_t((i_) * PLACE + to + c, v_)");
    define_transform(&k, m);
    return gb_gk_finish(&k, "winograd.image", gb_shader_winograd_image,
                        (const int64_t[3]){count * w->tiles.height, across, 1});
}

static gb_status lower_taps(gb_gpu_builder *b, const gb_winograd *w)
{
    const gb_operand *f = &b->step->in[1];
    const bool forward = b->step->kind == GB_STEP_CONV;
    const int64_t *s = f->stride, block = 8;
    const int64_t depth = w->p.k[2];
    const int64_t groups = w->wide ? gb_panel_count(&w->p) : gb_div_up(w->p.n, w->lanes);
    gb_matrix m = filter_matrix(w->t, TAPS);
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_operand(&k, "w", f, GB_READ);
    gb_gk_packed(&k, "u", 0, w->tiles.places * depth * w->pitch, GB_WRITE);
    gb_gk_define(&k, "FULL", "%d", m.rows);
    if (w->wide) { /* an item has a panel, or a column */
        gb_gk_define(&k, "PANEL", "%d", (int)gb_panel_width(&w->p));
        gb_gk_define(&k, "PANEL_NUMBER", "GB_GROUP(0)");
        gb_gk_define(&k, "LANE", "0");
        gb_gk_define(&k, "LANES", "1");
    } else {
        gb_gk_local(&k, (uint32_t)w->lanes, 1, 1);
        gb_gk_param(&k, "PANEL", w->p.n);
        gb_gk_define(&k, "PANEL_NUMBER", "0");
        gb_gk_define(&k, "LANE", "GB_GLOBAL(0)");
        gb_gk_define(&k, "LANES", "PANEL");
    }
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
                        (const int64_t[3]){groups, gb_div_up(depth, block), 1});
}

static gb_status lower_matrices(gb_gpu_builder *b, const gb_winograd *w, int64_t count, bool add)
{
    const gb_step *s = b->step;
    const uint64_t packed_at = b->packed_at;
    const gb_step product = product_step(w, s, count, add, packed_at);
    b->step = &product;
    gb_status status = gb_gpu_lower(b, gb_gpu_pick(b->caps, &product));
    b->step = s;
    b->packed_at = packed_at;
    return status;
}

/* count: rows of the product, or its k. */
static gb_status lower_product(gb_gpu_builder *b, const gb_winograd *w, int64_t count, bool add)
{
    if (!w->wide) return lower_matrices(b, w, count, add);
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
    define_lanes(&k, w, "t", GB_S_F32);
    const int64_t across = define_columns(&k, w);
    gb_gk_define(&k, "PUT(i_, v_)", "SPREAD(v_, pixel, (i_) * WIDE)");
    define_transform(&k, &m);
    gb_gk_image_result(&k, b->step);
    return gb_gk_finish(&k, "winograd.result", gb_shader_winograd_result,
                        (const int64_t[3]){count * w->tiles.height, across, 1});
}

static gb_status lower_join(gb_gpu_builder *b, const gb_winograd *w)
{
    const gb_operand *dw = &b->step->out[0];
    const int64_t c = w->p.m[2], block = w->wide ? 16 : 8;
    gb_matrix m = result_matrix(w->t, TAPS);
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_scratch(&k, "t", w->c_at, w->tiles.places * c * w->pitch, GB_S_F32, GB_READ);
    gb_gk_operand(&k, "o0", dw, GB_WRITE);
    gb_gk_define(&k, "FULL", "%d", m.columns);
    gb_gk_define(&k, "BLOCK", "%d", (int)block);
    gb_gk_param(&k, "CHANNELS", c);
    gb_gk_param(&k, "OUTPUTS", w->p.n);
    gb_gk_param(&k, "PITCH", w->pitch);
    gb_gk_param(&k, "PLACE", c * w->pitch);
    define_lanes(&k, w, "t", GB_S_F32);
    gb_gk_define(&k, "PUT(i_, v_)", "SPREAD(v_, one, (i_) * WIDE)");
    define_transform(&k, &m);
    return gb_gk_finish(
        &k, "winograd.join", gb_shader_winograd_join,
        (const int64_t[3]){gb_div_up(w->p.n, w->wide ? 16 : w->lanes), gb_div_up(c, block), 1});
}

/* --- variants --- */

/* Where tiles cover much more than the image, or where transforms cost more than they save, the
 * direct way is better: measured on PoCL. */
bool gb_winograd_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_window *v = &step->u.conv;
    const bool filter = step->kind == GB_STEP_CONV_FILTER;
    const gb_operand *x = &step->in[0], *y = filter ? &step->in[1] : &step->out[0];
    if (!gb_not_empty(x) || !gb_not_empty(y)) return false;
    for (int d = 0; d < 2; d++)
        if (v->kernel[d] != TAPS || v->stride[d] != 1 || v->dilation[d] != 1 || v->pad[d] >= TAPS)
            return false;
    if (v->groups != 1 || x->dim[1] % 16 || y->dim[1] % 16 || x->dim[1] < 32 || y->dim[1] < 32)
        return false;
    gb_winograd w;
    plan_tiles(&w, caps, tiling_of(step), y->dim);
    const int64_t side = w.t->side, covered = w.tiles.height * w.tiles.width * side * side;
    if (2 * covered > 3 * y->dim[2] * y->dim[3]) return false;
    if (w.wide) return true;
    return plan_any(&w, caps, step) && (!caps->max_binding || w.bytes <= caps->max_binding) &&
           w.bytes / 4 <= INT32_MAX && w.tiles.width <= caps->max_groups[1] &&
           w.chunk * w.tiles.height <= caps->max_groups[0];
}

/* On a real GPU it saves multiplications and pays with memory. Of a pixel's 18 C K operations
 * F(2×2) does 8 C K, and moves 36 (C + K) bytes where the direct way moves 4 (C + K); F(4×4)
 * does 4.5 and moves 22. Tiles in shared memory do some ten operations in the time in which the
 * caches, which a chunk is cut for, move a byte: that pays from C K / (C + K) = 32, or 16, on. And
 * the work must be worth four launches instead of one. */
bool gb_winograd_wanted(const gb_gpu_caps *caps, const gb_step *step)
{
    if (caps->cpu_hosted) return gb_gpu_wide_items(caps);
    const bool filter = step->kind == GB_STEP_CONV_FILTER;
    const gb_operand *x = &step->in[0], *y = filter ? &step->in[1] : &step->out[0];
    const double c = (double)x->dim[1], k = (double)y->dim[1];
    const double pixels = (double)(y->dim[0] * y->dim[2] * y->dim[3]);
    return c * k / (c + k) >= (step->fast ? 16 : 32) && 18 * c * k * pixels >= 2e8;
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
