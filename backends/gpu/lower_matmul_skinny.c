/* Matrix products with at most eight rows or columns, for real GPUs. Such a product reads its large
 * operand once and does next to nothing with it, so what counts is that neighbouring items read
 * neighbouring memory and that there are enough of them: they lie along k where the large operand
 * does, else along its side, and k is cut into shares. */
#include "backends/gpu/manifest.h"
#include "backends/gpu/matmul.h"
#include "backends/gpu/shaders.h"

enum { MOST_ROWS = 8, ITEMS = 128 };

typedef struct gb_skinny {
    bool rows_are_few; /* else columns are */
    bool along_k;
    int64_t small, large, k, batches;
    int rows, columns;         /* of an item: rows cover the small side */
    int k_lanes, column_lanes; /* of a group */
    int64_t share, shares;     /* of k */
} gb_skinny;

static int64_t groups_of(const gb_skinny *p)
{
    return gb_div_up(p->large, (int64_t)p->columns * p->column_lanes);
}

/* By the shape alone: about a thousand groups, of at least eight k an item. */
static gb_skinny plan(const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_operand *out = &s->out[0], *a = &s->in[0], *b = &s->in[1];
    const int r = out->rank;
    const int64_t m = out->dim[r - 2], n = out->dim[r - 1];
    gb_skinny p = {.rows_are_few = m <= n,
                   .small = gb_min(m, n),
                   .large = gb_max(m, n),
                   .k = a->dim[r - 1],
                   .batches = gb_matmul_batches(s),
                   .rows = 1,
                   .columns = 4};
    p.along_k = (p.rows_are_few ? b->stride[r - 2] : a->stride[r - 1]) == 1;
    p.k_lanes = p.along_k ? 32 : 4;
    p.column_lanes = ITEMS / p.k_lanes;
    while (p.rows < p.small) p.rows *= 2;
    while (p.columns > 1 && groups_of(&p) * p.batches < 512) p.columns /= 2;
    const int64_t round = 2 + p.columns + (int64_t)p.rows * (2 + p.columns);
    int64_t want =
        gb_min(gb_div_up(1024, gb_max(1, groups_of(&p) * p.batches)), p.k / (8 * p.k_lanes));
    if (caps->max_rounds) /* half of them: the rest is for the join */
        want = gb_max(want, gb_div_up(2 * round * gb_div_up(p.k, p.k_lanes), caps->max_rounds));
    p.share = gb_max(1, gb_div_up(p.k, gb_max(1, want)));
    p.shares = gb_max(1, gb_div_up(p.k, p.share));
    return p;
}

bool gb_matmul_skinny_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_skinny p = plan(caps, step);
    return p.small > 0 && p.small <= MOST_ROWS && p.batches > 0 && caps->max_local >= ITEMS &&
           caps->max_local_dim[0] >= ITEMS &&
           caps->local_memory >= (uint32_t)(p.rows * p.columns * ITEMS * 4) &&
           groups_of(&p) <= caps->max_groups[0] && p.shares <= caps->max_groups[1] &&
           p.batches <= caps->max_groups[2];
}

/* Short sums are not worth a join. */
bool gb_matmul_skinny_wanted(const gb_gpu_caps *caps, const gb_step *step)
{
    return !caps->cpu_hosted && step->in[0].dim[step->in[0].rank - 1] >= 64;
}

uint64_t gb_matmul_skinny_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_skinny p = plan(caps, step);
    return p.shares == 1 ? 0 : (uint64_t)(p.batches * p.shares * p.small * p.large) * 4;
}

static void define_sides(gb_gk *k, const gb_skinny *p)
{
    const bool few = p->rows_are_few;
    gb_gk_define(k, "LD_SMALL(i_)", few ? "LD_i0(i_)" : "LD_i1(i_)");
    gb_gk_define(k, "LD_LARGE(i_)", few ? "LD_i1(i_)" : "LD_i0(i_)");
    gb_gk_define(k, "AT_SMALL", few ? "at_i0" : "at_i1");
    gb_gk_define(k, "AT_LARGE", few ? "at_i1" : "at_i0");
    gb_gk_define(k, "SMALL_SIDE", few ? "A_ROW" : "B_COLUMN");
    gb_gk_define(k, "LARGE_SIDE", few ? "B_COLUMN" : "A_ROW");
    gb_gk_define(k, "SMALL_K", few ? "A_K" : "B_K");
    gb_gk_define(k, "LARGE_K", few ? "B_K" : "A_K");
    gb_gk_define(k, "ROW", few ? "small" : "large");
    gb_gk_define(k, "COLUMN", few ? "large" : "small");
    gb_gk_define(k, "K_LANE", p->along_k ? "GB_LOCAL(0) %% %d" : "GB_LOCAL(0) / %d",
                 p->along_k ? p->k_lanes : p->column_lanes);
    gb_gk_define(k, "COLUMN_LANE", p->along_k ? "GB_LOCAL(0) / %d" : "GB_LOCAL(0) %% %d",
                 p->along_k ? p->k_lanes : p->column_lanes);
}

gb_status gb_lower_matmul_skinny(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    const gb_skinny p = plan(b->caps, s);
    gb_space batch;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, ITEMS, 1, 1);
    gb_gk_shared(&k, "float", "s_sum", p.rows * p.columns * ITEMS);
    gb_matmul_bind(&k, s, p.shares == 1, &batch);
    gb_matmul_sizes(&k, s);
    gb_gk_param(&k, "SMALL", p.small);
    gb_gk_param(&k, "LARGE", p.large);
    gb_gk_param(&k, "SHARE", p.share);
    gb_gk_define(&k, "ROWS", "%d", p.rows);
    gb_gk_define(&k, "COLUMNS", "%d", p.columns);
    gb_gk_define(&k, "K_LANES", "%d", p.k_lanes);
    gb_gk_define(&k, "COLUMN_LANES", "%d", p.column_lanes);
    define_sides(&k, &p);
    if (p.shares > 1) {
        gb_gk_scratch(&k, "part", 0, p.batches * p.shares * p.small * p.large, GB_S_F32, GB_WRITE);
        gb_gk_param(&k, "SHARES", p.shares);
        gb_gk_define(&k, "STORE",
                     "ST_part((GB_GROUP(2) * SHARES + GB_GROUP(1)) * SMALL * LARGE + %s, acc);",
                     p.rows_are_few ? "row * LARGE + column" : "row * SMALL + column");
    } else {
        gb_matmul_result(&k, s);
        gb_gk_define(&k, "STORE", "RESULT");
    }
    gb_status status = gb_gk_finish(&k, "matmul.skinny", gb_shader_matmul_skinny,
                                    (const int64_t[3]){groups_of(&p), p.shares, p.batches});
    return status == GB_OK && p.shares > 1 ? gb_lower_split_join(b, p.shares) : status;
}
