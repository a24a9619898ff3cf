/* Matrix products by tiles in shared memory, split along k where there are too few of them. */
#include "backends/gpu/manifest.h"
#include "backends/gpu/matmul.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/tile.h"

static gb_tile choose(int member, const gb_step *s)
{
    const gb_operand *out = &s->out[0];
    return gb_tile_choose(member, out->dim[out->rank - 2], out->dim[out->rank - 1],
                          gb_matmul_batches(s));
}

static int64_t rounds_of(const gb_tile *t, const gb_step *s)
{
    return gb_div_up(s->in[0].dim[s->in[0].rank - 1], t->bk);
}

/* Into how many shares k is cut, and the rounds of one: by the shape alone. */
static int64_t shares_of(const gb_gpu_caps *caps, const gb_tile *t, const gb_step *s,
                         int64_t *share)
{
    const int64_t rounds = rounds_of(t, s), groups = t->groups[0] * t->groups[1] * t->groups[2];
    int64_t want = gb_min(gb_div_up(64, gb_max(1, groups)), rounds / 16);
    if (caps->max_rounds)
        want = gb_max(want, gb_div_up(rounds * gb_tile_turns(t), caps->max_rounds));
    *share = gb_max(1, gb_div_up(rounds, gb_max(1, want)));
    return gb_max(1, gb_div_up(rounds, *share));
}

static bool applies(const gb_gpu_caps *caps, const gb_step *s, int member)
{
    const gb_tile t = choose(member, s);
    int64_t share;
    return gb_tile_applies(caps, s, member, t.m, t.n, s->in[0].dim[s->in[0].rank - 1]) &&
           t.groups[2] * shares_of(caps, &t, s, &share) <= caps->max_groups[2];
}

static bool fits(const gb_gpu_caps *caps, const gb_step *s, int member)
{
    const gb_tile t = choose(member, s);
    if (!gb_matmul_item_applies(caps, s)) return member == GB_TILE_32; /* it has to be split */
    return !caps->cpu_hosted && gb_tile_fits(caps, member, t.m, t.n, t.groups[2]);
}

static uint64_t scratch(const gb_gpu_caps *caps, const gb_step *s, int member)
{
    const gb_tile t = choose(member, s);
    int64_t share, shares = shares_of(caps, &t, s, &share);
    return shares == 1 ? 0 : (uint64_t)(t.groups[2] * shares * t.m * t.n) * 4;
}

gb_status gb_lower_split_join(gb_gpu_builder *b, int64_t shares)
{
    const gb_step *s = b->step;
    const gb_operand *out = &s->out[0];
    const int64_t m = out->dim[out->rank - 2], n = out->dim[out->rank - 1];
    const int64_t batches = gb_matmul_batches(s), local = gb_min(64, b->caps->max_local);
    const int64_t groups = gb_min(gb_div_up(m * n, local), gb_min(b->caps->max_groups[0], 65535));
    gb_space batch;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, (uint32_t)local, 1, 1);
    gb_matmul_bind(&k, s, true, &batch);
    gb_gk_scratch(&k, "part", 0, batches * shares * m * n, GB_S_F32, GB_READ);
    gb_gk_param(&k, "M", m);
    gb_gk_param(&k, "N", n);
    gb_gk_param(&k, "SHARES", shares);
    gb_gk_param(&k, "STEP", groups * local);
    gb_matmul_result(&k, s);
    return gb_gk_finish(&k, "split.join", gb_shader_split_join,
                        (const int64_t[3]){groups, batches, 1});
}

static gb_status lower(gb_gpu_builder *b, int member)
{
    const gb_step *s = b->step;
    gb_tile t = choose(member, s);
    const int last = s->out[0].rank - 1;
    int64_t share, shares = shares_of(b->caps, &t, s, &share);
    gb_space batch;
    gb_gk k;
    if (t.groups[2] == 0) return GB_OK;
    gb_gk_begin(&k, b);
    gb_matmul_bind(&k, s, shares == 1, &batch);
    gb_matmul_sizes(&k, s);
    gb_gk_param(&k, "SHARES", shares);
    gb_gk_param(&k, "SHARE", share);
    gb_gk_param(&k, "ROUNDS", rounds_of(&t, s));
    gb_gk_define(&k, "PREPARE(round_)", "int k0 = (round_) * BK;");
    gb_tile_operand(&t, &k, true, &s->in[0], last - 1, last, true);
    gb_tile_operand(&t, &k, false, &s->in[1], last, last - 1, true);
    if (shares > 1)
        gb_gk_scratch(&k, "part", 0, t.groups[2] * shares * t.m * t.n, GB_S_F32, GB_WRITE);
    else
        gb_matmul_result(&k, s);
    gb_tile_define(&k, &t,
                   shares > 1 ? "ST_part((GB_GROUP(2) * M + row) * N + column, acc);" : "RESULT");
    gb_tile_fetches(&k, &t, true,
                    (gb_tile_fetch){.setup = " int pa$ = at_i0 + row_$ * A_ROW;",
                                    .guard = "row_$ < M && k0 + k_$ < K",
                                    .place = "pa$ + (k0 + k_$) * A_K"});
    gb_tile_fetches(&k, &t, false,
                    (gb_tile_fetch){.setup = " int pb$ = at_i1 + column_$ * B_COLUMN;",
                                    .guard = "column_$ < N && k0 + k_$ < K",
                                    .place = "pb$ + (k0 + k_$) * B_K"});
    t.groups[2] *= shares;
    gb_status status = gb_gk_finish(&k, gb_tile_name(member), gb_shader_tile, t.groups);
    return status == GB_OK && shares > 1 ? gb_lower_split_join(b, shares) : status;
}

const gb_gpu_family gb_matmul_tiles = {applies, fits, scratch, lower};
