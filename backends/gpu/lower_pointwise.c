#include <stdio.h>
#include <string.h>

#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/space.h"

/* Text of operand accesses: "LD_i0(at_i0 + i)". */
typedef struct gb_accesses {
    char load[GB_MAX_STEP_IN][64];
    const char *in[GB_MAX_STEP_IN];
    char coord_text[GB_MAX_RANK][16];
    const char *coord[GB_MAX_RANK];
} gb_accesses;

static void element(gb_gk *k, const gb_space *s, int op, int64_t step, char *text, size_t size)
{
    const char *name = s->name[op];
    if (step == 0) {
        snprintf(text, size, "at_%s", name);
    } else if (step == 1) {
        snprintf(text, size, "at_%s + i", name);
    } else {
        char param[24];
        snprintf(param, sizeof param, "STEP_%s", name);
        gb_gk_param(k, param, step);
        snprintf(text, size, "at_%s + i * STEP_%s", name, name);
    }
}

static void bind_operands(gb_gk *k, const gb_step *step)
{
    char name[16];
    for (int i = 0; i < step->n_in; i++) {
        snprintf(name, sizeof name, "i%d", i);
        gb_gk_operand(k, name, &step->in[i], GB_READ);
    }
    for (int i = 0; i < step->n_out; i++) {
        snprintf(name, sizeof name, "o%d", i);
        gb_gk_operand(k, name, &step->out[i], GB_WRITE);
    }
}

/* The input that output i overwrites element by element, -1: none. Its offsets are taken, so that
 * compilers see that loads and stores meet at equal elements. */
static int in_place_of(const gb_step *step, int i)
{
    const gb_operand *o = &step->out[i];
    for (int k = 0; k < step->n_in; k++) {
        const gb_operand *in = &step->in[k];
        if (in->buffer == o->buffer && in->offset == o->offset && in->storage == o->storage &&
            memcmp(in->stride, o->stride, (size_t)o->rank * sizeof *o->stride) == 0)
            return k;
    }
    return -1;
}

/* Defines OFFSETS(row), EXPR and STORE; gives the number of rows and the width of one. */
static void describe(gb_gk *k, const gb_step *step, int64_t *rows, int64_t *width)
{
    gb_space s = {.rank = step->rank};
    for (int d = 0; d < step->rank; d++) s.dim[d] = step->dim[d], s.axis[d] = d;
    for (int i = 0; i < step->n_in; i++) gb_space_add(&s, "i", i, &step->in[i], 0);
    for (int i = 0; i < step->n_out; i++) gb_space_add(&s, "o", i, &step->out[i], 0);
    gb_space_fix(&s, step->expr);
    gb_space_collapse(&s, step->n_in);
    int64_t inner[GB_SPACE_OPS];
    int inner_axis;
    *width = gb_space_pop(&s, inner, &inner_axis);
    *rows = gb_space_count(&s);
    for (int op = 0; op < s.n_ops && *width == 1; op++)
        inner[op] = 1; /* as the text of long rows */

    bind_operands(k, step);
    gb_space_walk(k, &s, "OFFSETS", "");
    gb_accesses a;
    for (int axis = 0; axis < step->rank; axis++) {
        gb_space_coord(a.coord_text[axis], axis, &s, NULL, inner_axis);
        a.coord[axis] = a.coord_text[axis];
    }
    char at[GB_MAX_STEP_IN][40];
    for (int i = 0; i < step->n_in; i++) {
        element(k, &s, i, inner[i], at[i], sizeof at[i]);
        snprintf(a.load[i], sizeof a.load[i], "LD_i%d(%.39s)", i, at[i]);
        a.in[i] = a.load[i];
    }
    char out[GB_MAX_STEP_OUT][40];
    for (int i = 0; i < step->n_out; i++) {
        int from = in_place_of(step, i), op = step->n_in + i;
        if (from < 0) element(k, &s, op, inner[op], out[i], sizeof out[i]);
        else memcpy(out[i], at[from], sizeof out[i]);
    }
    gb_gk_expr(k, "EXPR", step->expr, a.in, a.coord);
    gb_text_add(&k->defs, "#define STORE");
    for (int i = 0; i < step->n_out; i++) gb_text_add(&k->defs, " ST_o%d(%s, r%d);", i, out[i], i);
    gb_text_add(&k->defs, "\n");
}

#define CHUNK 16384

gb_status gb_lower_pointwise_rows(gb_gpu_builder *b)
{
    gb_gk k;
    int64_t rows, width;
    gb_gk_begin(&k, b);
    describe(&k, b->step, &rows, &width);
    if (rows == 0 || width == 0) return gb_gk_drop(&k), k.status;
    int64_t chunk = gb_max(CHUNK, gb_div_up(width, b->caps->max_groups[0]));
    int64_t block = gb_max(1, gb_max(CHUNK / width, gb_div_up(rows, b->caps->max_groups[1])));
    gb_gk_param(&k, "ROWS", rows);
    gb_gk_param(&k, "ROW_BLOCK", block);
    gb_gk_param(&k, "WIDTH", width);
    gb_gk_param(&k, "CHUNK", chunk);
    const int64_t groups[3] = {gb_div_up(width, chunk), gb_div_up(rows, block), 1};
    return gb_gk_finish(&k, "pointwise.rows", gb_shader_pointwise_rows, groups);
}

gb_status gb_lower_pointwise_flat(gb_gpu_builder *b)
{
    gb_gk k;
    int64_t rows, width;
    gb_gk_begin(&k, b);
    describe(&k, b->step, &rows, &width);
    if (rows == 0 || width == 0) return gb_gk_drop(&k), k.status;
    const int64_t local = gb_min(256, b->caps->max_local);
    const int64_t groups[3] = {
        gb_min(gb_div_up(rows * width, local), gb_min(b->caps->max_groups[0], 16384)), 1, 1};
    gb_gk_local(&k, (uint32_t)local, 1, 1);
    gb_gk_param(&k, "COUNT", rows * width);
    gb_gk_param(&k, "STRIDE", groups[0] * local);
    /* a division costs more than the element where integers are slow */
    gb_gk_define(&k, "ROW_OF(e_)", rows == 1 ? "0" : "(e_) / WIDTH");
    if (rows == 1) gb_gk_define(&k, "WIDTH", "0");
    else gb_gk_param(&k, "WIDTH", width);
    return gb_gk_finish(&k, "pointwise.flat", gb_shader_pointwise_flat, groups);
}
