/* The parts of products in panels: packing, halos, the launch. See panel.h. */
#include <stdio.h>

#include "backends/gpu/panel.h"
#include "backends/gpu/shaders.h"

enum { B_IN_L2 = 512 << 10, A_IN_L2 = 256 << 10 }; /* bytes */

int64_t gb_panel_width(const gb_panel *p)
{
    return p->vectors * 16;
}

int64_t gb_panel_count(const gb_panel *p)
{
    return gb_div_up(p->n, gb_panel_width(p));
}

int64_t gb_panel_k(const gb_panel *p)
{
    return p->k[0] * p->k[1] * p->k[2];
}

static int64_t rows_of(const gb_panel *p)
{
    return p->rows_of_a ? p->rows_of_a : p->m[0] * p->m[1] * p->m[2];
}

/* The best block follows the width of the vector unit: 32 registers of 16 floats, or 16 of 8. */
void gb_panel_choose(gb_panel *p, const gb_gpu_caps *caps)
{
    if (caps->vector_width < 16)
        p->rows = 6, p->vectors = 1;
    else if (p->n == 16 || p->n == 48)
        p->rows = 12, p->vectors = 1;
    else
        p->rows = 8, p->vectors = 2;
}

uint64_t gb_align256(uint64_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

uint64_t gb_float_bytes(int64_t count)
{
    return gb_align256((uint64_t)count * 4);
}

bool gb_not_empty(const gb_operand *o)
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

/* A stride that compilers should know takes no register, and makes loops vectors. */
static void stride(gb_gk *k, const char *name, int64_t v, int64_t known)
{
    if (v == known)
        gb_gk_define(k, name, "%d", (int)known);
    else
        gb_gk_param(k, name, v);
}

void gb_panel_rows(gb_gk *k, bool side_by_side)
{
    gb_gk_define(k, "A_ROW(r)", side_by_side ? "(row[0] + (r))" : "row[r]");
}

void gb_panel_define(gb_gk *k, const gb_panel *p)
{
    gb_gk_define(k, "ROWS", "%d", p->rows);
    gb_gk_define(k, "VECTORS", "%d", p->vectors);
    gb_gk_define(k, "PANEL", "%d", (int)gb_panel_width(p));
    gb_gk_param(k, "M", rows_of(p));
    gb_gk_param(k, "N", p->n);
    three(k, "M", p->m);
    three(k, "K", p->k);
    three(k, "A_M", p->a_m);
    gb_gk_param(k, "A_FIRST", p->a_first);
    gb_gk_param(k, "A_K0", p->a_k[0]);
    gb_gk_param(k, "A_K1", p->a_k[1]);
    stride(k, "A_K2", p->a_k[2], 1);
    gb_gk_param(k, "B_PANEL", p->b_panel);
    stride(k, "B_STEP", p->b_step, gb_panel_width(p));
    gb_panel_rows(k, p->a_m[2] == 1 && p->m[2] % p->rows == 0);
    gb_gk_param(k, "IN_ROWS", p->in_rows);
    gb_gk_define(k, "NEXT_ROW",
                 "{ m2++; if (m2 == M2) { m2 = 0; m1++; "
                 "if (m1 == M1) { m1 = 0; m0++; } } }");
    walk_batch(k, p->batch);
    gb_gk_param(k, "SHARES", p->shares);
    gb_gk_param(k, "SHARE", p->share);
}

/* Tiles of rows that take a panel one after another. Where B fits the second-level cache, one: A's
 * rows stay in L1. Else all of B comes from memory for each lot, whose rows of A should leave room
 * for a panel in L2. */
static int64_t lot_of(const gb_panel *p, int64_t tiles)
{
    const int64_t line = gb_panel_k(p) * 4;
    if (gb_panel_count(p) * gb_panel_width(p) * line <= B_IN_L2) return 1;
    const int64_t most = gb_max(8, gb_min(16, A_IN_L2 / (p->rows * line)));
    return gb_div_up(tiles, gb_div_up(tiles, most));
}

gb_status gb_panel_finish(gb_gk *k, const gb_panel *p, const char *name)
{
    const int64_t tiles = gb_div_up(rows_of(p), p->rows);
    const int64_t panels = gb_panel_count(p), batch = gb_space_count(&p->batch);
    const int64_t lot = lot_of(p, tiles);
    const int64_t groups[3] = {panels * lot, gb_div_up(tiles, lot), batch};
    gb_gk_param(k, "LOT", lot);
    return gb_gk_finish(k, name, gb_shader_panel, groups);
}

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

void gb_panel_bind_results(gb_gk *k, const gb_step *s)
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
void gb_panel_result(gb_gk *k, const gb_step *s, const gb_place *place)
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

void gb_panel_sums(gb_gk *k, const gb_panel *p)
{
    gb_gk_define(k, "SUMS", "1");
    gb_gk_param(k, "PITCH", gb_panel_count(p) * gb_panel_width(p));
}

/* --- packing --- */

static gb_status pack(gb_gk *k, const gb_operand *from, const gb_pack *at, int64_t width,
                      int64_t columns)
{
    const int64_t depth = at->k[0] * at->k[1] * at->k[2], block = gb_max(1, 8192 / width);
    const int64_t groups[3] = {gb_div_up(columns, width), gb_div_up(depth, block),
                               gb_space_count(&at->batch)};
    gb_gk_operand(k, "b", from, GB_READ);
    gb_gk_define(k, "PANEL", "%d", (int)width);
    gb_gk_param(k, "N", columns);
    gb_gk_param(k, "K_BLOCK", block);
    three(k, "K", at->k);
    gb_gk_param(k, "B_K0", at->stride[0]);
    gb_gk_param(k, "B_K1", at->stride[1]);
    stride(k, "B_K2", at->stride[2], 1);
    stride(k, "B_N", at->n, 1);
    gb_gk_param(k, "B_FIRST", at->offset);
    if (at->stride[2] == 1 && at->n != 1) {
        gb_gk_define(k, "ALONG_K", "1");
        if (from->storage == GB_S_F32) gb_gk_define(k, "SQUARES", "1");
    }
    walk_batch(k, at->batch);
    return gb_gk_finish(k, "panel.pack", gb_shader_panel_pack, groups);
}

gb_status gb_panel_pack(gb_gpu_builder *b, const gb_panel *p, const gb_pack *from, uint64_t offset,
                        uint64_t bytes)
{
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_packed(&k, "p", offset, (int64_t)(bytes / 4), GB_WRITE);
    return pack(&k, &b->step->in[1], from, gb_panel_width(p), p->n);
}

gb_status gb_panel_pack_rows(gb_gpu_builder *b, const gb_panel *p, const gb_pack *from,
                             uint64_t bytes)
{
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_scratch(&k, "p", 0, (int64_t)(bytes / 4), GB_S_F32, GB_WRITE);
    return pack(&k, &b->step->in[0], from, p->rows, rows_of(p));
}

gb_halo gb_halo_of(const gb_operand *image, const int64_t *out, const gb_window *v,
                   const int64_t stride[2], const int64_t pad[2], const int64_t up[2])
{
    gb_halo h = {.image = image, .pad = {pad[0], pad[1]}, .up = {up[0], up[1]}};
    h.height = (out[2] - 1) * stride[0] + v->dilation[0] * (v->kernel[0] - 1) + 1;
    h.width = (out[3] - 1) * stride[1] + v->dilation[1] * (v->kernel[1] - 1) + 1;
    h.copy = pad[0] || pad[1] || up[0] > 1 || up[1] > 1 || h.height > image->dim[2] ||
             h.width > image->dim[3] || image->storage != GB_S_F32;
    return h;
}

uint64_t gb_halo_bytes(const gb_halo *h)
{
    return h->copy ? gb_align256(
                         (uint64_t)(h->image->dim[0] * h->height * h->width * h->image->dim[1]) * 4)
                   : 0;
}

/* Strides of image, line and pixel as the window walks them. */
void gb_halo_strides(const gb_halo *h, int64_t s[3])
{
    const gb_operand *x = h->image;
    s[2] = x->dim[1];
    s[1] = (h->copy ? h->width : x->dim[3]) * s[2];
    s[0] = (h->copy ? h->height : x->dim[2]) * s[1];
}

gb_status gb_halo_copy(gb_gpu_builder *b, const gb_halo *h)
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

void gb_halo_bind(gb_gk *k, const char *name, const gb_halo *h)
{
    if (h->copy)
        gb_gk_scratch(k, name, 0, (int64_t)(gb_halo_bytes(h) / 4), GB_S_F32, GB_READ);
    else
        gb_gk_operand(k, name, h->image, GB_READ);
}
