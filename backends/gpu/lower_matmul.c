#include <stdio.h>

#include "backends/gpu/block.h"
#include "backends/gpu/manifest.h"
#include "backends/gpu/matmul.h"
#include "backends/gpu/shaders.h"

void gb_matmul_space(const gb_step *s, gb_space *batch)
{
    *batch = (gb_space){.rank = s->out[0].rank - 2};
    for (int d = 0; d < batch->rank; d++) batch->dim[d] = s->out[0].dim[d], batch->axis[d] = d;
    for (int i = 0; i < s->n_in; i++) gb_space_add(batch, "i", i, &s->in[i], 0);
    gb_space_add(batch, "o", 0, &s->out[0], 0);
    gb_space_collapse(batch, s->n_in);
}

void gb_matmul_bind(gb_gk *k, const gb_step *s, bool with_output, gb_space *batch)
{
    char name[16];
    for (int i = 0; i < s->n_in; i++) {
        snprintf(name, sizeof name, "i%d", i);
        gb_gk_operand(k, name, &s->in[i], GB_READ);
    }
    if (with_output) gb_gk_operand(k, "o0", &s->out[0], GB_WRITE);
    gb_matmul_space(s, batch);
    gb_space_walk(k, batch, "BATCH", "");
}

int64_t gb_matmul_batches(const gb_step *s)
{
    int64_t n = 1;
    for (int d = 0; d < s->out[0].rank - 2; d++) n *= s->out[0].dim[d];
    return n;
}

/* The offset of an operand of out's shape at (row, column), as text; strides become parameters. */
static void place(gb_gk *k, const char *operand, const gb_operand *o, char *text, size_t size)
{
    char name[32];
    int64_t r = o->stride[o->rank - 2], c = o->stride[o->rank - 1];
    int n = snprintf(text, size, "at_%s", operand);
    snprintf(name, sizeof name, "ROW_%s", operand);
    if (r) {
        gb_gk_param(k, name, r);
        n += snprintf(text + n, size - (size_t)n, " + row * %s", name);
    }
    snprintf(name, sizeof name, "COLUMN_%s", operand);
    if (c == 1) {
        snprintf(text + n, size - (size_t)n, " + column");
    } else if (c) {
        gb_gk_param(k, name, c);
        snprintf(text + n, size - (size_t)n, " + column * %s", name);
    }
}

void gb_matmul_result(gb_gk *k, const gb_step *s)
{
    char at[96], load[GB_MAX_STEP_IN][112], name[16];
    const char *in[GB_MAX_STEP_IN] = {"acc"};
    for (int i = 2; i < s->n_in; i++) {
        snprintf(name, sizeof name, "i%d", i);
        place(k, name, &s->in[i], at, sizeof at);
        snprintf(load[i], sizeof load[i], "LD_i%d(%s)", i, at);
        in[i - 1] = load[i];
    }
    if (s->expr) gb_gk_expr(k, "EPILOGUE", s->expr, in, NULL);
    place(k, "o0", &s->out[0], at, sizeof at);
    if (s->expr)
        gb_gk_define(k, "RESULT", "EPILOGUE ST_o0(%s, r0);", at);
    else
        gb_gk_define(k, "RESULT", "ST_o0(%s, acc);", at);
}

void gb_matmul_sizes(gb_gk *k, const gb_step *s)
{
    const gb_operand *x = &s->in[0], *y = &s->in[1];
    int r = x->rank;
    gb_gk_param(k, "K", x->dim[r - 1]);
    gb_gk_param(k, "A_ROW", x->stride[r - 2]);
    gb_gk_param(k, "A_K", x->stride[r - 1]);
    gb_gk_param(k, "B_K", y->stride[r - 2]);
    gb_gk_param(k, "B_COLUMN", y->stride[r - 1]);
}

gb_status gb_lower_matmul_item(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    const gb_operand *out = &s->out[0];
    int r = out->rank;
    gb_space batch;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, 16, 4, 1);
    gb_matmul_bind(&k, s, true, &batch);
    const int64_t groups[3] = {gb_div_up(out->dim[r - 1], 16), gb_div_up(out->dim[r - 2], 4),
                               gb_space_count(&batch)};
    if (groups[0] * groups[1] * groups[2] == 0) return gb_gk_drop(&k), k.status;
    gb_gk_param(&k, "M", out->dim[r - 2]);
    gb_gk_param(&k, "N", out->dim[r - 1]);
    gb_matmul_sizes(&k, s);
    gb_matmul_result(&k, s);
    return gb_gk_finish(&k, "matmul.item", gb_shader_matmul_item, groups);
}

bool gb_matmul_item_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    return gb_rounds_fit(caps, step->in[0].dim[step->in[0].rank - 1]);
}

bool gb_matmul_block_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_operand *out = &step->out[0];
    return gb_matmul_item_applies(caps, step) &&
           gb_block_applies(caps, out->dim[out->rank - 2], out->dim[out->rank - 1]);
}

bool gb_matmul_lanes_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_operand *out = &step->out[0];
    return gb_matmul_item_applies(caps, step) &&
           gb_lanes_apply(caps, out->dim[out->rank - 2], out->dim[out->rank - 1]);
}

/* k is axis last of A and last - 1 of B, sides are the other way round. */
static gb_pairs pairs_of(const gb_gpu_caps *caps, const gb_operand *o, int k)
{
    int side = 2 * o->rank - 3 - k;
    return gb_block_pairs(caps, o, k)      ? GB_PAIRS_OF_K
           : gb_block_pairs(caps, o, side) ? GB_PAIRS_OF_SIDE
                                           : GB_SINGLE;
}

static gb_status lower_block(gb_gpu_builder *b, bool lanes)
{
    const gb_step *s = b->step;
    const gb_operand *out = &s->out[0];
    const int64_t m = out->dim[out->rank - 2], n = out->dim[out->rank - 1];
    gb_space batch;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_matmul_bind(&k, s, true, &batch);
    const int64_t batches = gb_space_count(&batch);
    gb_block block =
        lanes ? gb_block_lanes(b->caps, m, n, batches, pairs_of(b->caps, &s->in[0], out->rank - 1),
                               pairs_of(b->caps, &s->in[1], out->rank - 2))
              : gb_block_choose(b->caps, m, n, batches);
    if (block.groups[2] == 0) return gb_gk_drop(&k), k.status;
    gb_block_define(&k, &block, "RESULT");
    gb_matmul_sizes(&k, s);
    gb_matmul_result(&k, s);
    gb_gk_param(&k, "K_ROUNDS", s->in[0].dim[out->rank - 1] / block.k_step);
    gb_gk_param(&k, "A_STEP", s->in[0].stride[out->rank - 1] * block.k_step);
    gb_gk_param(&k, "B_STEP", s->in[1].stride[out->rank - 2] * block.k_step);
    gb_block_each(&k, &block, "PLACE_A", true, "int pa$ = at_i0 + ROW_AT($) * A_ROW;");
    gb_block_each(&k, &block, "PLACE_B", false, "int pb$ = at_i1 + COLUMN_AT($) * B_COLUMN;");
    gb_block_loads(&k, &block, true, (gb_block_load){.place = "pa$", .after = "pa$ += A_STEP;"});
    gb_block_loads(&k, &block, false, (gb_block_load){.place = "pb$", .after = "pb$ += B_STEP;"});
    return gb_gk_finish(&k, lanes ? "matmul.lanes" : "matmul.block", gb_shader_matmul_block,
                        block.groups);
}

gb_status gb_lower_matmul_block(gb_gpu_builder *b)
{
    return lower_block(b, false);
}

gb_status gb_lower_matmul_lanes(gb_gpu_builder *b)
{
    return lower_block(b, true);
}
