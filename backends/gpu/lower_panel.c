/* Contractions on drivers that run on CPUs: every one becomes C = A · B with A walked where it lies
 * (images get a halo first) and B in panels; see shaders/panel.gk. Measured on PoCL this reaches
 * what intrinsics reach; tiles in local memory reach a twentieth of it. */
#include <stdio.h>

#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/space.h"

typedef struct gb_panel {  /* one product; strides count elements */
    int64_t m[3], k[3], n; /* rows, k and columns; rows and k on three levels, the last fastest */
    int64_t a_m[3], a_k[3];
    int64_t b_panel, b_step; /* from panel to panel, from k to k */
    int64_t shares; /* k[0] is cut into shares of share each, one batch item a share; 1: none */
    int64_t share;
    int rows, vectors; /* of the register block */
    gb_space batch;
    bool columns_first; /* order of the grid: which of A and B stays in the caches */
} gb_panel;

static int64_t panel_width(const gb_panel *p)
{
    return p->vectors * 16;
}

static int64_t count_panels(const gb_panel *p)
{
    return gb_div_up(p->n, panel_width(p));
}

static int64_t count_k(const gb_panel *p)
{
    return p->k[0] * p->k[1] * p->k[2];
}

/* The best block follows the width of the vector unit: 32 registers of 16 floats, or 16 of 8. */
static void choose_block(gb_panel *p, const gb_gpu_caps *caps)
{
    if (caps->vector_width < 16)
        p->rows = 6, p->vectors = 1;
    else if (p->n == 16 || p->n == 48)
        p->rows = 12, p->vectors = 1;
    else
        p->rows = 8, p->vectors = 2;
}

static uint64_t align256(uint64_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static bool all_f32(const gb_step *s)
{
    return s->in[0].storage == GB_S_F32 && s->in[1].storage == GB_S_F32;
}

static bool not_empty(const gb_operand *o)
{
    for (int d = 0; d < o->rank; d++)
        if (o->dim[d] == 0) return false;
    return true;
}

/* --- the product's launch --- */

static void three(gb_gk *k, const char *prefix, const int64_t v[3])
{
    char name[16];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%d", prefix, i);
        gb_gk_param(k, name, v[i]);
    }
}

/* One batch of one item is walked as one of many would be: the texts stay equal. */
static void walk_batch(gb_gk *k, gb_space batch)
{
    gb_space_squeeze(&batch);
    if (batch.rank == 0) {
        batch.rank = batch.dim[0] = 1;
        for (int op = 0; op < batch.n_ops; op++) batch.stride[op][0] = 1;
    }
    gb_space_walk(k, &batch, "BATCH", "");
}

static void define_product(gb_gk *k, const gb_panel *p)
{
    gb_gk_define(k, "ROWS", "%d", p->rows);
    gb_gk_define(k, "VECTORS", "%d", p->vectors);
    gb_gk_define(k, "PANEL", "%d", (int)panel_width(p));
    gb_gk_param(k, "COLUMN_AXIS", p->columns_first ? 0 : 1);
    gb_gk_param(k, "M", p->m[0] * p->m[1] * p->m[2]);
    gb_gk_param(k, "N", p->n);
    three(k, "M", p->m);
    three(k, "K", p->k);
    three(k, "A_M", p->a_m);
    gb_gk_param(k, "A_K0", p->a_k[0]);
    gb_gk_param(k, "A_K1", p->a_k[1]);
    gb_gk_param(k, "A_K2", p->a_k[2]);
    gb_gk_param(k, "B_PANEL", p->b_panel);
    gb_gk_param(k, "B_STEP", p->b_step);
    gb_gk_define(k, "NEXT_ROW",
                 "{ m2++; if (m2 == M2) { m2 = 0; m1++; "
                 "if (m1 == M1) { m1 = 0; m0++; } } }");
    walk_batch(k, p->batch);
    gb_gk_param(k, "SHARES", p->shares);
    gb_gk_param(k, "SHARE", p->share);
}

static gb_status finish_product(gb_gk *k, const gb_panel *p, const char *name)
{
    const int64_t tiles = gb_div_up(p->m[0] * p->m[1] * p->m[2], p->rows);
    const int64_t panels = count_panels(p), batch = gb_space_count(&p->batch);
    const int64_t groups[3] = {p->columns_first ? panels : tiles, p->columns_first ? tiles : panels,
                               batch};
    return gb_gk_finish(k, name, gb_shader_panel, groups);
}

/* Where an operand of the result's shape lies: strides of the three row levels and of columns. */
typedef struct gb_place {
    int64_t m[3], n;
} gb_place;

static void define_place(gb_gk *k, gb_text *rows, const char *name, const gb_place *at, char *text,
                         size_t size)
{
    char param[32];
    gb_text_add(rows, " int p_%s = at_%s", name, name);
    for (int i = 0; i < 3 && (at->m[0] || at->m[1] || at->m[2]); i++) {
        snprintf(param, sizeof param, "M%d_%s", i, name);
        gb_gk_param(k, param, at->m[i]);
        gb_text_add(rows, " + m%d * %s", i, param);
    }
    gb_text_add(rows, ";");
    snprintf(param, sizeof param, "N_%s", name);
    if (at->n > 1) gb_gk_param(k, param, at->n);
    snprintf(text, size,
             at->n == 0   ? "p_%s"
             : at->n == 1 ? "p_%s + col"
                          : "p_%s + col * N_%s",
             name, name);
}

static void bind_results(gb_gk *k, const gb_step *s)
{
    char name[16];
    for (int i = 2; i < s->n_in; i++) {
        snprintf(name, sizeof name, "i%d", i);
        gb_gk_operand(k, name, &s->in[i], GB_READ);
    }
    gb_gk_operand(k, "o0", &s->out[0], GB_WRITE);
}

/* Defines PLACE_ROW, and RESULT: the epilogue of acc and its store. place has an entry for each of
 * the step's inputs (the first two unused) and then one for the output. */
static void define_result(gb_gk *k, const gb_step *s, const gb_place *place)
{
    char at[64], load[GB_MAX_STEP_IN][80], name[16];
    const char *in[GB_MAX_STEP_IN] = {"acc"};
    gb_text rows = {0};
    for (int i = 2; i < s->n_in; i++) {
        snprintf(name, sizeof name, "i%d", i);
        define_place(k, &rows, name, &place[i], at, sizeof at);
        snprintf(load[i], sizeof load[i], "LD_i%d(%s)", i, at);
        in[i - 1] = load[i];
    }
    define_place(k, &rows, "o0", &place[s->n_in], at, sizeof at);
    if (s->expr) gb_gk_expr(k, "EPILOGUE", s->expr, in, NULL);
    gb_gk_define(k, "PLACE_ROW", "%s", rows.data ? rows.data : "");
    if (s->expr)
        gb_gk_define(k, "RESULT", "EPILOGUE ST_o0(%s, r0);", at);
    else
        gb_gk_define(k, "RESULT", "ST_o0(%s, acc);", at);
    k->defs.failed = k->defs.failed || rows.failed;
    gb_text_free(&rows);
}

/* The same for the sums of a filter's gradient, [batch][m][columns of whole panels]. */
static void define_sums(gb_gk *k, const gb_panel *p)
{
    const int64_t pitch = count_panels(p) * panel_width(p);
    const gb_place place = {.m = {p->m[1] * p->m[2] * pitch, p->m[2] * pitch, pitch}, .n = 1};
    char at[64];
    gb_text rows = {0};
    define_place(k, &rows, "o0", &place, at, sizeof at);
    gb_gk_define(k, "PLACE_ROW", "%s", rows.data ? rows.data : "");
    gb_gk_define(k, "RESULT", "ST_o0(%s, acc);", at);
    k->defs.failed = k->defs.failed || rows.failed;
    gb_text_free(&rows);
}

/* --- packing --- */

typedef struct gb_pack { /* B before packing: p's k levels and columns, and an offset */
    int64_t offset, k[3], stride[3], n;
    gb_space batch; /* operands b and p */
} gb_pack;

/* Compilers make vectors of loops whose stride they know to be 1. */
static void stride(gb_gk *k, const char *name, int64_t v)
{
    if (v == 1)
        gb_gk_define(k, name, "1");
    else
        gb_gk_param(k, name, v);
}

static gb_status pack_panels(gb_gpu_builder *b, const gb_panel *p, const gb_pack *from,
                             gb_operand source, uint64_t offset, uint64_t bytes)
{
    gb_gk k;
    gb_gk_begin(&k, b);
    const int64_t block = gb_max(1, 8192 / panel_width(p)), batch = gb_space_count(&from->batch);
    const int64_t groups[3] = {count_panels(p), gb_div_up(count_k(p), block), batch};
    gb_gk_param(&k, "PANEL", panel_width(p));
    gb_gk_operand(&k, "b", &source, GB_READ);
    gb_gk_scratch(&k, "p", offset, (int64_t)(bytes / 4), GB_S_F32, GB_WRITE);
    gb_gk_param(&k, "N", p->n);
    gb_gk_param(&k, "K_BLOCK", block);
    three(&k, "K", from->k);
    gb_gk_param(&k, "B_K0", from->stride[0]);
    gb_gk_param(&k, "B_K1", from->stride[1]);
    stride(&k, "B_K2", from->stride[2]);
    stride(&k, "B_N", from->n);
    gb_gk_param(&k, "B_FIRST", from->offset);
    if (from->stride[2] == 1 && from->n != 1) gb_gk_define(&k, "ALONG_K", "1");
    walk_batch(&k, from->batch);
    return gb_gk_finish(&k, "panel.pack", gb_shader_panel_pack, groups);
}

/* An image as the window walks it: with its halo, spread where a strided gradient needs it. */
typedef struct gb_halo {
    const gb_operand *image;
    int64_t height, width, pad[2], up[2];
    bool copy; /* false: the image can be walked where it lies */
} gb_halo;

static gb_halo halo_of(const gb_operand *image, const int64_t *out, const gb_window *v,
                       const int64_t stride[2], const int64_t pad[2], const int64_t up[2])
{
    gb_halo h = {.image = image, .pad = {pad[0], pad[1]}, .up = {up[0], up[1]}};
    h.height = (out[2] - 1) * stride[0] + v->dilation[0] * (v->kernel[0] - 1) + 1;
    h.width = (out[3] - 1) * stride[1] + v->dilation[1] * (v->kernel[1] - 1) + 1;
    h.copy = pad[0] || pad[1] || up[0] > 1 || up[1] > 1 || h.height > image->dim[2] ||
             h.width > image->dim[3];
    return h;
}

static uint64_t halo_bytes(const gb_halo *h)
{
    return h->copy ? align256(
                         (uint64_t)(h->image->dim[0] * h->height * h->width * h->image->dim[1]) * 4)
                   : 0;
}

/* Strides of image, line and pixel as the window walks them. */
static void halo_strides(const gb_halo *h, int64_t s[3])
{
    const gb_operand *x = h->image;
    s[2] = x->dim[1];
    s[1] = (h->copy ? h->width : x->dim[3]) * s[2];
    s[0] = (h->copy ? h->height : x->dim[2]) * s[1];
}

static gb_status copy_halo(gb_gpu_builder *b, const gb_halo *h)
{
    const gb_operand *x = h->image;
    if (!h->copy) return GB_OK;
    gb_gk k;
    gb_gk_begin(&k, b);
    const int64_t lines = x->dim[0] * h->height, line = h->width * x->dim[1];
    const int64_t block = gb_max(1, 8192 / line);
    gb_gk_operand(&k, "x", x, GB_READ);
    gb_gk_scratch(&k, "p", 0, lines * line, GB_S_F32, GB_WRITE);
    gb_gk_param(&k, "LINES", lines);
    gb_gk_param(&k, "LINE_BLOCK", block);
    gb_gk_param(&k, "TO_H", h->height);
    gb_gk_param(&k, "TO_W", h->width);
    gb_gk_param(&k, "H", x->dim[2]);
    gb_gk_param(&k, "W", x->dim[3]);
    gb_gk_param(&k, "CHANNELS", x->dim[1]);
    gb_gk_param(&k, "FROM_N", x->dim[1] * x->dim[2] * x->dim[3]);
    gb_gk_param(&k, "FROM_H", x->dim[1] * x->dim[3]);
    gb_gk_param(&k, "PAD_H", h->pad[0]);
    gb_gk_param(&k, "PAD_W", h->pad[1]);
    gb_gk_param(&k, "UP_H", h->up[0]);
    gb_gk_param(&k, "UP_W", h->up[1]);
    return gb_gk_finish(&k, "image.pad", gb_shader_image_pad,
                        (const int64_t[3]){gb_div_up(lines, block), 1, 1});
}

static void bind_image(gb_gk *k, const char *name, const gb_halo *h)
{
    if (h->copy)
        gb_gk_scratch(k, name, 0, (int64_t)(halo_bytes(h) / 4), GB_S_F32, GB_READ);
    else
        gb_gk_operand(k, name, h->image, GB_READ);
}

/* --- matrices --- */

static bool shared_b(const gb_operand *y)
{
    for (int d = 0; d < y->rank - 2; d++)
        if (y->stride[d] != 0 && y->dim[d] > 1) return false;
    return true;
}

static void plan_matmul(gb_panel *p, const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_operand *x = &s->in[0], *y = &s->in[1], *out = &s->out[0];
    int r = out->rank;
    *p = (gb_panel){.m = {1, 1, out->dim[r - 2]},
                    .k = {1, 1, x->dim[r - 1]},
                    .n = out->dim[r - 1],
                    .shares = 1,
                    .share = 1};
    p->a_m[2] = x->stride[r - 2];
    p->a_k[2] = x->stride[r - 1];
    choose_block(p, caps);
    p->b_step = panel_width(p);
    p->b_panel = count_k(p) * p->b_step;
    int64_t b_bytes = count_panels(p) * p->b_panel * 4;
    p->columns_first = b_bytes <= (512 << 10);
    p->batch = (gb_space){.rank = r - 2};
    int64_t stride[GB_MAX_RANK], step = shared_b(y) ? 0 : count_panels(p) * p->b_panel;
    for (int d = r - 3; d >= 0; d--) {
        p->batch.dim[d] = out->dim[d], p->batch.axis[d] = d;
        stride[d] = step;
        step *= out->dim[d];
    }
    gb_space_op(&p->batch, "a", x->stride);
    gb_space_op(&p->batch, "b", stride);
    for (int i = 2; i < s->n_in; i++) gb_space_add(&p->batch, "i", i, &s->in[i], 0);
    gb_space_add(&p->batch, "o", 0, out, 0);
}

static uint64_t packed_bytes(const gb_panel *p, int64_t batch)
{
    return align256((uint64_t)(batch * count_panels(p) * count_k(p) * panel_width(p)) * 4);
}

static int64_t matmul_packs(const gb_panel *p, const gb_step *s)
{
    return shared_b(&s->in[1]) ? 1 : gb_space_count(&p->batch);
}

uint64_t gb_matmul_panel_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_panel p;
    plan_matmul(&p, caps, step);
    return packed_bytes(&p, matmul_packs(&p, step));
}

bool gb_matmul_panel_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    return gb_gpu_wide_items(caps) && all_f32(step) && not_empty(&step->in[0]) &&
           not_empty(&step->in[1]);
}

gb_status gb_lower_matmul_panel(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    const gb_operand *y = &s->in[1];
    int r = y->rank;
    gb_panel p;
    gb_gk k;
    plan_matmul(&p, b->caps, s);
    gb_pack pack = {.k = {1, 1, p.k[2]}, .stride = {0, 0, y->stride[r - 2]}, .n = y->stride[r - 1]};
    pack.batch = (gb_space){.rank = shared_b(y) ? 0 : p.batch.rank};
    for (int d = 0; d < pack.batch.rank; d++) pack.batch.dim[d] = p.batch.dim[d];
    gb_space_op(&pack.batch, "b", y->stride);
    gb_space_op(&pack.batch, "p", p.batch.stride[1]);
    const uint64_t bytes = packed_bytes(&p, matmul_packs(&p, s));
    gb_status status = pack_panels(b, &p, &pack, *y, 0, bytes);
    if (status != GB_OK) return status;

    gb_place place[GB_MAX_STEP_IN + 1];
    for (int i = 0; i <= s->n_in; i++) {
        const gb_operand *o = i < s->n_in ? &s->in[i] : &s->out[0];
        place[i] = (gb_place){.m = {0, 0, o->stride[r - 2]}, .n = o->stride[r - 1]};
    }
    gb_gk_begin(&k, b);
    gb_gk_operand(&k, "a", &s->in[0], GB_READ);
    gb_gk_scratch(&k, "b", 0, (int64_t)(bytes / 4), GB_S_F32, GB_READ);
    bind_results(&k, s);
    define_product(&k, &p);
    define_result(&k, s, place);
    return finish_product(&k, &p, "matmul.panel");
}

/* --- convolutions, forward and to the input --- */

typedef struct gb_conv_plan {
    gb_panel p;
    gb_pack pack;
    gb_halo halo;
} gb_conv_plan;

/* A window over an image of `depth` channels a group gives `n` channels a group. */
static void plan_window(gb_conv_plan *c, const gb_gpu_caps *caps, const gb_step *s, int64_t depth,
                        int64_t n, const int64_t stride[2])
{
    const gb_window *v = &s->u.conv;
    const gb_operand *out = &s->out[0];
    gb_panel *p = &c->p;
    int64_t walk[3];
    halo_strides(&c->halo, walk);
    *p = (gb_panel){.m = {out->dim[0], out->dim[2], out->dim[3]},
                    .k = {v->kernel[0], v->kernel[1], depth},
                    .n = n,
                    .a_m = {walk[0], walk[1] * stride[0], walk[2] * stride[1]},
                    .a_k = {walk[1] * v->dilation[0], walk[2] * v->dilation[1], 1},
                    .shares = 1,
                    .share = v->kernel[0],
                    .columns_first = true};
    for (int i = 0; i < 3; i++) c->pack.k[i] = p->k[i];
    if (v->dilation[1] == 1 && v->groups == 1) { /* the taps of a line are one run of memory */
        p->k[2] *= p->k[1];
        p->k[1] = 1;
    }
    choose_block(p, caps);
    p->b_step = panel_width(p);
    p->b_panel = count_k(p) * p->b_step;
    p->batch = c->pack.batch = (gb_space){.rank = 1, .dim = {v->groups}};
    int64_t packed = count_panels(p) * p->b_panel, channels = n * out->stride[1];
    gb_space_op(&p->batch, "a", &depth);
    gb_space_op(&p->batch, "b", &packed);
    for (int i = 2; i < s->n_in; i++) {
        int64_t extra = n * s->in[i].stride[1];
        char name[16];
        snprintf(name, sizeof name, "i%d", i);
        gb_space_op(&p->batch, name, &extra);
    }
    gb_space_op(&p->batch, "o0", &channels);
}

static void plan_conv(gb_conv_plan *c, const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_window *v = &s->u.conv;
    const gb_operand *w = &s->in[1];
    const int64_t n = s->out[0].dim[1] / v->groups, step = n * w->stride[0];
    c->halo = halo_of(&s->in[0], s->out[0].dim, v, v->stride, v->pad, (const int64_t[2]){1, 1});
    c->pack = (gb_pack){.stride = {w->stride[2], w->stride[3], w->stride[1]}, .n = w->stride[0]};
    plan_window(c, caps, s, w->dim[1], n, v->stride);
    gb_space_op(&c->pack.batch, "b", &step);
    gb_space_op(&c->pack.batch, "p", c->p.batch.stride[1]);
}

/* The same window over the output's gradient: spread by the stride, with the filter turned. */
static void plan_conv_input(gb_conv_plan *c, const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_window *v = &s->u.conv;
    const gb_operand *w = &s->in[1];
    const int64_t depth = s->in[0].dim[1] / v->groups, step = depth * w->stride[0];
    int64_t pad[2];
    for (int d = 0; d < 2; d++) pad[d] = v->dilation[d] * (v->kernel[d] - 1) - v->pad[d];
    c->halo = halo_of(&s->in[0], s->out[0].dim, v, (const int64_t[2]){1, 1}, pad, v->stride);
    c->pack =
        (gb_pack){.stride = {-w->stride[2], -w->stride[3], w->stride[0]},
                  .n = w->stride[1],
                  .offset = (v->kernel[0] - 1) * w->stride[2] + (v->kernel[1] - 1) * w->stride[3]};
    plan_window(c, caps, s, depth, w->dim[1], (const int64_t[2]){1, 1});
    gb_space_op(&c->pack.batch, "b", &step);
    gb_space_op(&c->pack.batch, "p", c->p.batch.stride[1]);
}

static void plan_either(gb_conv_plan *c, const gb_gpu_caps *caps, const gb_step *s)
{
    (s->kind == GB_STEP_CONV ? plan_conv : plan_conv_input)(c, caps, s);
}

bool gb_conv_panel_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_window *v = &step->u.conv;
    bool input = step->kind == GB_STEP_CONV_INPUT;
    for (int d = 0; d < 2; d++)
        if (input && v->dilation[d] * (v->kernel[d] - 1) < v->pad[d]) return false;
    return gb_gpu_wide_items(caps) && all_f32(step) && not_empty(&step->in[0]) &&
           not_empty(&step->in[1]) && not_empty(&step->out[0]) &&
           (v->groups == 1 || step->out[0].dim[1] / v->groups > 1);
}

uint64_t gb_conv_panel_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_conv_plan c;
    plan_either(&c, caps, step);
    return halo_bytes(&c.halo) + packed_bytes(&c.p, step->u.conv.groups);
}

gb_status gb_lower_conv_panel(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_conv_plan c;
    gb_gk k;
    plan_either(&c, b->caps, s);
    const uint64_t at = halo_bytes(&c.halo), bytes = packed_bytes(&c.p, s->u.conv.groups);
    gb_status status = copy_halo(b, &c.halo);
    if (status == GB_OK) status = pack_panels(b, &c.p, &c.pack, s->in[1], at, bytes);
    if (status != GB_OK) return status;

    gb_place place[GB_MAX_STEP_IN + 1];
    for (int i = 0; i <= s->n_in; i++) {
        const gb_operand *o = i < s->n_in ? &s->in[i] : &s->out[0];
        place[i] = (gb_place){.m = {o->stride[0], o->stride[2], o->stride[3]}, .n = o->stride[1]};
    }
    gb_gk_begin(&k, b);
    bind_image(&k, "a", &c.halo);
    gb_gk_scratch(&k, "b", at, (int64_t)(bytes / 4), GB_S_F32, GB_READ);
    bind_results(&k, s);
    define_product(&k, &c.p);
    define_result(&k, s, place);
    return finish_product(&k, &c.p, s->kind == GB_STEP_CONV ? "conv.panel" : "conv_input.panel");
}

/* --- the filter's gradient: rows are taps, k is pixels --- */

typedef struct gb_filter_plan {
    gb_panel p;
    gb_pack pack;
    gb_halo halo;
    bool packed;    /* dy has to be packed: its channels are no whole panels */
    uint64_t parts; /* bytes of the partial sums */
} gb_filter_plan;

/* Images of one share: what they bring in fits the second-level cache, partial sums stay small. */
static void choose_shares(gb_filter_plan *f, int64_t image_bytes, int64_t groups)
{
    gb_panel *p = &f->p;
    const int64_t m = p->m[0] * p->m[1] * p->m[2], sums = m * count_panels(p) * panel_width(p) * 4;
    const int64_t most = gb_max(1, gb_min(64, (16 << 20) / (sums * groups)));
    p->share = gb_max(1, (384 << 10) / image_bytes);
    p->share = gb_max(gb_min(p->share, p->k[0]), gb_div_up(p->k[0], most));
    p->shares = gb_div_up(p->k[0], p->share);
    f->parts = align256((uint64_t)(groups * p->shares * sums));
}

static void plan_filter(gb_filter_plan *f, const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_window *v = &s->u.conv;
    const gb_operand *dy = &s->in[1], *dw = &s->out[0];
    const int64_t depth = dw->dim[1], n = dy->dim[1] / v->groups, pixels = dy->dim[2] * dy->dim[3];
    int64_t walk[3];
    gb_panel *p = &f->p;
    f->halo = halo_of(&s->in[0], dy->dim, v, v->stride, v->pad, (const int64_t[2]){1, 1});
    halo_strides(&f->halo, walk);
    *p = (gb_panel){.m = {v->kernel[0], v->kernel[1], depth},
                    .k = {dy->dim[0], dy->dim[2], dy->dim[3]},
                    .n = n,
                    .a_m = {walk[1] * v->dilation[0], walk[2] * v->dilation[1], 1},
                    .a_k = {walk[0], walk[1] * v->stride[0], walk[2] * v->stride[1]},
                    .columns_first = true};
    choose_block(p, caps);
    f->packed = n % panel_width(p) != 0;
    p->b_step = f->packed ? panel_width(p) : dy->dim[1];
    p->b_panel = f->packed ? count_k(p) * panel_width(p) : panel_width(p);
    choose_shares(f, (walk[0] + pixels * dy->dim[1]) * 4, v->groups);
    const int64_t a[2] = {depth, p->share * walk[0]};
    const int64_t b[2] = {f->packed ? count_panels(p) * p->b_panel : n,
                          p->share * pixels * p->b_step};
    p->batch = (gb_space){.rank = 2, .dim = {v->groups, p->shares}};
    gb_space_op(&p->batch, "a", a);
    gb_space_op(&p->batch, "b", b);
    const int64_t sums = p->m[0] * p->m[1] * depth * count_panels(p) * panel_width(p);
    gb_space_op(&p->batch, "o0", (const int64_t[2]){p->shares * sums, sums});
    f->pack = (gb_pack){.k = {1, 1, count_k(p)}, .stride = {0, 0, dy->dim[1]}, .n = 1};
    f->pack.batch = (gb_space){.rank = 1, .dim = {v->groups}};
    gb_space_op(&f->pack.batch, "b", &n);
    gb_space_op(&f->pack.batch, "p", b);
}

uint64_t gb_filter_panel_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_filter_plan f;
    plan_filter(&f, caps, step);
    return halo_bytes(&f.halo) + f.parts + (f.packed ? packed_bytes(&f.p, step->u.conv.groups) : 0);
}

bool gb_filter_panel_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_window *v = &step->u.conv;
    return gb_gpu_wide_items(caps) && all_f32(step) && not_empty(&step->in[0]) &&
           not_empty(&step->in[1]) && not_empty(&step->out[0]) &&
           (v->groups == 1 || step->in[1].dim[1] / v->groups > 1);
}

static gb_status join_filter(gb_gpu_builder *b, const gb_filter_plan *f, uint64_t at)
{
    const gb_operand *dw = &b->step->out[0];
    const gb_panel *p = &f->p;
    const int64_t m = p->m[0] * p->m[1] * p->m[2], block = 16;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_scratch(&k, "part", at, (int64_t)(f->parts / 4), GB_S_F32, GB_READ);
    gb_gk_operand(&k, "o0", dw, GB_WRITE);
    gb_gk_define(&k, "BLOCK", "%d", (int)block);
    gb_gk_param(&k, "M", m);
    gb_gk_param(&k, "PITCH", count_panels(p) * panel_width(p));
    gb_gk_param(&k, "SHARES", p->shares);
    gb_gk_param(&k, "GROUP_OUT", p->n);
    return gb_gk_finish(&k, "filter.join", gb_shader_filter_join,
                        (const int64_t[3]){gb_div_up(p->n, block), gb_div_up(m, block),
                                          b->step->u.conv.groups});
}

gb_status gb_lower_filter_panel(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_filter_plan f;
    gb_gk k;
    plan_filter(&f, b->caps, s);
    const uint64_t parts_at = halo_bytes(&f.halo), pack_at = parts_at + f.parts;
    const uint64_t packed = f.packed ? packed_bytes(&f.p, s->u.conv.groups) : 0;
    gb_status status = copy_halo(b, &f.halo);
    if (status == GB_OK && f.packed)
        status = pack_panels(b, &f.p, &f.pack, s->in[1], pack_at, packed);
    if (status != GB_OK) return status;
    gb_gk_begin(&k, b);
    bind_image(&k, "a", &f.halo);
    if (f.packed)
        gb_gk_scratch(&k, "b", pack_at, (int64_t)(packed / 4), GB_S_F32, GB_READ);
    else
        gb_gk_operand(&k, "b", &s->in[1], GB_READ);
    gb_gk_scratch(&k, "o0", parts_at, (int64_t)(f.parts / 4), GB_S_F32, GB_WRITE);
    define_product(&k, &f.p);
    define_sums(&k, &f.p);
    status = finish_product(&k, &f.p, "conv_filter.panel");
    return status == GB_OK ? join_filter(b, &f, parts_at) : status;
}
