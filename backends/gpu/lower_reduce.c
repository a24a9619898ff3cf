#include <stdio.h>
#include <string.h>

#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/space.h"

typedef enum gb_sharing { /* who works on a result */
                          GB_BY_ITEM,
                          GB_BY_GROUP,   /* joined through shared memory */
                          GB_BY_SUBGROUP /* joined by shuffles */
} gb_sharing;

/* How a reduction is laid out on a device. Depends on shapes and the class of the device only, so
 * that results do not change with the number of cores. */
typedef struct gb_reduction {
    const gb_step *step;
    gb_space kept, reduced; /* without the inner dimension that lanes walk */
    gb_space all_kept;
    bool row; /* lanes walk a reduced dimension, else a kept one */
    gb_sharing sharing;
    int64_t inner[GB_SPACE_OPS];
    int inner_axis;
    int64_t width;             /* of the inner dimension */
    int lanes, local, abreast; /* abreast: rows that have sums of their own */
    int64_t units, block;  /* results (row) or blocks of LANES results, and how many an item does */
    int64_t rows, columns; /* reduced elements of a result: rows × columns */
    int64_t segments, segment_columns, row_block, column_block;
    int n_values; /* words of a partial result */
} gb_reduction;

/* Items that loop for long are cut: for parallelism, and because lavapipe ends every loop after
 * 65,535 rounds. */
#define MAX_ROUNDS 16384

enum {
    ITEMS = 64,       /* of a group */
    LANES_MOST = 128, /* of an item with vectors: long runs of memory, many sums that do not wait */
    SUMS_MOST = 64,   /* of an item whose rows are short: so many stay in registers */
    ROWS_FOR_MORE = 1024
};

static void split(gb_reduction *r, const gb_gpu_caps *caps)
{
    int64_t reduced = gb_max(1, r->rows * r->columns);
    int64_t target = r->local == 1 ? 64 : 16384, least = r->local == 1 ? 4096 : 64;
    if (r->sharing == GB_BY_GROUP) target = 512, least = 4096;
    if (r->sharing == GB_BY_SUBGROUP) target = 1024, least = 2048;
    int64_t want =
        gb_min(gb_div_up(target, gb_max(1, r->units)), reduced * (r->row ? 1 : r->lanes) / least);
    want = gb_max(1, gb_min(want, 256));
    if (r->local > 1) want = gb_max(want, gb_div_up(reduced, MAX_ROUNDS));
    r->row_block = gb_max(1, r->rows / want);
    int64_t row_segments = gb_max(1, gb_div_up(r->rows, r->row_block));
    r->column_block = gb_max(1, gb_div_up(r->columns, gb_div_up(want, row_segments)));
    if (r->column_block < r->columns) r->column_block = gb_div_up(r->column_block, 64) * 64;
    r->segment_columns = gb_max(1, gb_div_up(r->columns, r->column_block));
    r->segments = r->segment_columns * row_segments;
    r->block = r->segments > 1 || r->local > 1 ? 1 : gb_max(1, 4096 / reduced);
    r->block = gb_max(r->block, gb_div_up(r->units, (int64_t)caps->max_groups[0] * r->local));
    /* a result for each subgroup of a group, if they are as large as they are said to be */
    if (r->sharing == GB_BY_SUBGROUP)
        r->block = gb_max(gb_max(1, ITEMS / (caps->subgroup ? caps->subgroup : 32)),
                          gb_div_up(r->units, caps->max_groups[0]));
}

/* The operand in whose order memory is walked: the first that has the most elements of a sum. One
 * may be the same for a whole sum, as the maximum in a softmax is, or for some of its dimensions. */
static int widest_operand(const gb_space *reduced, int operands)
{
    int best = 0;
    int64_t most = 0;
    for (int i = 0; i < operands; i++) {
        int64_t n = 1;
        for (int d = 0; d < reduced->rank; d++) n *= reduced->stride[i][d] ? reduced->dim[d] : 1;
        if (n > most) best = i;
        most = gb_max(n, most);
    }
    return best;
}

static void plan_reduction(gb_reduction *r, const gb_gpu_caps *caps, const gb_step *s,
                           gb_sharing sharing)
{
    *r = (gb_reduction){.step = s,
                        .sharing = sharing,
                        .kept = {.rank = s->n_kept},
                        .reduced = {.rank = s->rank - s->n_kept}};
    for (int d = 0; d < s->rank; d++) {
        gb_space *to = d < s->n_kept ? &r->kept : &r->reduced;
        int at = d < s->n_kept ? d : d - s->n_kept;
        to->dim[at] = s->dim[d], to->axis[at] = d;
    }
    for (int i = 0; i < s->n_in; i++) {
        gb_space_add(&r->kept, "i", i, &s->in[i], 0);
        gb_space_add(&r->reduced, "i", i, &s->in[i], s->n_kept);
    }
    for (int i = 0; i < s->n_out; i++) gb_space_add(&r->kept, "o", i, &s->out[i], 0);
    if (s->expr) gb_space_fix(&r->kept, s->expr), gb_space_fix(&r->reduced, s->expr);
    gb_space_collapse(&r->kept, s->n_in);
    const int widest = widest_operand(&r->reduced, s->n_in);
    gb_space_collapse(&r->reduced, widest);
    r->all_kept = r->kept;
    int64_t along = r->reduced.rank ? r->reduced.stride[widest][r->reduced.rank - 1] : 0;
    r->row = r->kept.rank == 0 || along == 1 || along == -1;
    r->width = gb_space_pop(r->row ? &r->reduced : &r->kept, r->inner, &r->inner_axis);
    if (r->row) memset(r->inner + s->n_in, 0, sizeof(int64_t) * (size_t)s->n_out);
    bool wide = gb_gpu_wide_items(caps) && sharing == GB_BY_ITEM;
    r->rows = gb_space_count(&r->reduced);
    r->lanes = wide ? 16 : 1;
    while (wide && !r->row && r->rows >= ROWS_FOR_MORE && r->lanes < LANES_MOST &&
           r->width % (2 * r->lanes) == 0)
        r->lanes *= 2;
    r->abreast =
        wide && !r->row && r->rows >= ROWS_FOR_MORE ? (int)gb_max(1, SUMS_MOST / r->lanes) : 1;
    r->local = wide ? 1 : (int)gb_min(ITEMS, caps->max_local);
    int64_t outer = gb_space_count(&r->kept);
    r->units = r->row ? outer : outer * gb_div_up(r->width, r->lanes);
    r->columns = r->row ? r->width : 1;
    for (int j = 0; j < s->n_red; j++) r->n_values += s->red[j] == GB_MOMENTS ? 2 : 1;
    split(r, caps);
}

bool gb_reduce_group_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_reduction r;
    plan_reduction(&r, caps, step, GB_BY_GROUP);
    return r.row && caps->max_local >= ITEMS && r.units <= caps->max_groups[0] &&
           caps->local_memory >= ITEMS * 4u * (uint32_t)(r.n_values + 1);
}

bool gb_reduce_group_wanted(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_reduction r;
    plan_reduction(&r, caps, step, GB_BY_GROUP);
    return !caps->cpu_hosted && r.columns >= ITEMS;
}

bool gb_reduce_subgroup_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_reduction r;
    plan_reduction(&r, caps, step, GB_BY_SUBGROUP);
    return r.row && caps->shuffle && caps->max_local >= ITEMS;
}

bool gb_reduce_subgroup_wanted(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_reduction r;
    plan_reduction(&r, caps, step, GB_BY_SUBGROUP);
    return !caps->cpu_hosted && r.columns >= 32;
}

static uint64_t scratch(const gb_gpu_caps *caps, const gb_step *step, gb_sharing sharing)
{
    gb_reduction r;
    plan_reduction(&r, caps, step, sharing);
    if (r.segments == 1) return 0;
    return (uint64_t)(r.segments * r.n_values * gb_space_count(&r.all_kept)) * 4;
}

uint64_t gb_reduce_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    return scratch(caps, step, GB_BY_ITEM);
}

uint64_t gb_reduce_group_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    return scratch(caps, step, GB_BY_GROUP);
}

uint64_t gb_reduce_subgroup_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    return scratch(caps, step, GB_BY_SUBGROUP);
}

/* --- the text of combiners --- */

static bool is_int(const gb_step *s, int j)
{
    return s->expr->node[s->expr->out[j]].type == 'i';
}

static const char *initial(const gb_step *s, int j)
{
    static const char *const f[] = {"0.0f", "1.0f", "(-GB_INF)", "GB_INF", "0.0f"};
    static const char *const i[] = {"0", "1", "(-2147483647 - 1)", "2147483647", "0"};
    return (is_int(s, j) ? i : f)[s->red[j]];
}

static const char *combine(const gb_step *s, int j)
{
    static const char *const f[] = {"%s + %s", "%s * %s", "gb_fmax(%s, %s)", "gb_fmin(%s, %s)"};
    static const char *const i[] = {"%s + %s", "%s * %s", "max(%s, %s)", "min(%s, %s)"};
    return (is_int(s, j) ? i : f)[s->red[j]];
}

static void add_combine(gb_text *t, const gb_step *s, int j, const char *value)
{
    char acc[16];
    snprintf(acc, sizeof acc, "a%d[l_]", j);
    gb_text_add(t, " %s = ", acc);
    /* the formats come from the two tables above */
    char text[64];
    snprintf(text, sizeof text, combine(s, j), acc, value);
    gb_text_add(t, "%s;", text);
}

static void define_accumulators(gb_gk *k, const gb_reduction *r)
{
    const gb_step *s = r->step;
    gb_text *t = &k->defs;
    gb_text_add(t, "#define DECLARE");
    for (int j = 0; j < s->n_red; j++) {
        gb_text_add(t, " %s a%d[SUMS];", is_int(s, j) ? "int" : "float", j);
        if (s->red[j] == GB_MOMENTS) gb_text_add(t, " float m%d[SUMS];", j);
    }
    gb_text_add(t, "\n#define INIT(l_)");
    for (int j = 0; j < s->n_red; j++) {
        gb_text_add(t, " a%d[l_] = %s;", j, initial(s, j));
        if (s->red[j] == GB_MOMENTS) gb_text_add(t, " m%d[l_] = 0.0f;", j);
    }
    gb_text_add(t, "\n#define ADD(l_)");
    for (int j = 0; j < s->n_red; j++) {
        char value[16];
        snprintf(value, sizeof value, "r%d", j);
        if (s->red[j] == GB_MOMENTS)
            gb_text_add(t,
                        " GB_F d%d = r%d - a%d[l_]; a%d[l_] += d%d * inv;"
                        " m%d[l_] += d%d * (r%d - a%d[l_]);",
                        j, j, j, j, j, j, j, j, j);
        else
            add_combine(t, s, j, value);
    }
    gb_text_add(t, "\n");
}

/* MERGE joins the values x0 (and y0), which stand for more_ elements, into those of lane l_. */
static void define_merge(gb_gk *k, const gb_reduction *r)
{
    const gb_step *s = r->step;
    gb_text *t = &k->defs;
    gb_text_add(t, "#define FROM_LANE(l_)");
    for (int j = 0; j < s->n_red; j++) {
        gb_text_add(t, " %s x%d = a%d[l_];", is_int(s, j) ? "int" : "float", j, j);
        if (s->red[j] == GB_MOMENTS) gb_text_add(t, " float y%d = m%d[l_];", j, j);
    }
    gb_text_add(t, "\n#define MERGE(l_, n_, more_)");
    for (int j = 0; j < s->n_red; j++) {
        char value[16];
        snprintf(value, sizeof value, "x%d", j);
        if (s->red[j] == GB_MOMENTS)
            gb_text_add(t,
                        " if (more_ > 0.0f) { GB_F d%d = x%d - a%d[l_];"
                        " GB_F share%d = more_ / (n_ + more_); a%d[l_] += d%d * share%d;"
                        " m%d[l_] += y%d + d%d * d%d * (n_ * share%d); }",
                        j, j, j, j, j, j, j, j, j, j, j, j);
        else
            add_combine(t, s, j, value);
    }
    gb_text_add(t, "\n");
}

/* What items of a group tell each other. */
static void define_shared(gb_gk *k, const gb_step *s)
{
    gb_text save = {0}, load = {0};
    char name[16];
    gb_gk_shared(k, "float", "s_n", ITEMS);
    for (int j = 0; j < s->n_red; j++) {
        const char *type = is_int(s, j) ? "int" : "float";
        snprintf(name, sizeof name, "s_a%d", j);
        gb_gk_shared(k, type, name, ITEMS);
        gb_text_add(&save, " s_a%d[l_] = a%d[0];", j, j);
        gb_text_add(&load, " %s x%d = s_a%d[l_];", type, j, j);
        if (s->red[j] != GB_MOMENTS) continue;
        snprintf(name, sizeof name, "s_m%d", j);
        gb_gk_shared(k, type, name, ITEMS);
        gb_text_add(&save, " s_m%d[l_] = m%d[0];", j, j);
        gb_text_add(&load, " float y%d = s_m%d[l_];", j, j);
    }
    gb_gk_define(k, "SAVE(l_)", "%s", save.data ? save.data : "");
    gb_gk_define(k, "FROM_SAVED(l_)", "%s", load.data ? load.data : "");
    gb_gk_define(k, "ITEMS", "%d", ITEMS);
    k->defs.failed = k->defs.failed || save.failed || load.failed;
    gb_text_free(&save);
    gb_text_free(&load);
}

/* What another lane of the subgroup has. */
static void define_shuffles(gb_gk *k, const gb_step *s)
{
    gb_text *t = &k->defs;
    k->uses_shuffle = true;
    gb_text_add(t, "#define FROM_OTHER(lane_)");
    for (int j = 0; j < s->n_red; j++) {
        gb_text_add(t, " %s x%d = GB_SHUFFLE(a%d[0], lane_);", is_int(s, j) ? "int" : "float", j,
                    j);
        if (s->red[j] == GB_MOMENTS)
            gb_text_add(t, " float y%d = GB_SHUFFLE(m%d[0], lane_);", j, j);
    }
    gb_text_add(t, "\n");
}

static void define_result(gb_gk *k, const gb_reduction *r, const int64_t *inner)
{
    const gb_step *s = r->step;
    int out = 0;
    char at[48], name[24];
    gb_text write = {0};
    for (int j = 0; j < s->n_red; j++) {
        bool moments = s->red[j] == GB_MOMENTS;
        for (int half = 0; half < (moments ? 2 : 1); half++, out++) {
            int64_t step = inner ? inner[s->n_in + out] : 0;
            snprintf(name, sizeof name, "STEP_o%d", out);
            if (step) gb_gk_param(k, name, step);
            snprintf(at, sizeof at, step ? "at_o%d + i * STEP_o%d" : "at_o%d", out, out);
            if (moments)
                gb_text_add(&write,
                            half ? " ST_o%d(%s, m%d[l_] / n_);"
                                 : " ST_o%d(%s, n_ > 0.0f ? a%d[l_] : GB_NAN);",
                            out, at, j);
            else if (s->scale[j] == 1)
                gb_text_add(&write, " ST_o%d(%s, a%d[l_]);", out, at, j);
            else
                gb_text_add(&write, " ST_o%d(%s, a%d[l_] * SCALE%d);", out, at, j, j);
        }
        snprintf(name, sizeof name, "SCALE%d_", j);
        if (!moments && s->scale[j] != 1) {
            float scale = (float)s->scale[j];
            int32_t bits;
            memcpy(&bits, &scale, 4);
            gb_gk_param(k, name, bits);
            gb_text_add(&k->defs, "#define SCALE%d GB_FROM_BITS(SCALE%d_)\n", j, j);
        }
    }
    gb_text_add(&k->defs, "#define WRITE(l_, n_)%s\n", write.data ? write.data : "");
    k->defs.failed = k->defs.failed || write.failed;
    gb_text_free(&write);
}

/* Partial results: value v of segment g of result kept lies at (v * SEGMENTS + g) * KEPT + kept. */
static void define_partial_write(gb_gk *k, const gb_reduction *r)
{
    const gb_step *s = r->step;
    int v = 0;
    gb_text_add(&k->defs, "#define WRITE(l_, n_)");
    for (int j = 0; j < s->n_red; j++) {
        const char *format =
            is_int(s, j) ? " ST_part((%d * SEGMENTS + segment) * KEPT_COUNT + kept, %c%d[l_]);"
                         : " ST_part((%d * SEGMENTS + segment) * KEPT_COUNT + kept, "
                           "GB_BITS(%c%d[l_]));";
        gb_text_add(&k->defs, format, v++, 'a', j);
        if (s->red[j] == GB_MOMENTS) gb_text_add(&k->defs, format, v++, 'm', j);
    }
    gb_text_add(&k->defs, "\n");
}

static void define_partial_read(gb_gk *k, const gb_reduction *r)
{
    const gb_step *s = r->step;
    int v = 0;
    gb_text_add(&k->defs, "#define FROM_PART");
    for (int j = 0; j < s->n_red; j++) {
        const char *format =
            is_int(s, j) ? " int %c%d = LD_part((%d * SEGMENTS + segment) * KEPT_COUNT + kept);"
                         : " float %c%d = GB_FROM_BITS(LD_part((%d * SEGMENTS + segment) * "
                           "KEPT_COUNT + kept));";
        gb_text_add(&k->defs, format, 'x', j, v++);
        if (s->red[j] == GB_MOMENTS) gb_text_add(&k->defs, format, 'y', j, v++);
    }
    gb_text_add(&k->defs, "\n");
}

/* --- launches --- */

static void define_inputs(gb_gk *k, const gb_reduction *r)
{
    const gb_step *s = r->step;
    char load[GB_MAX_STEP_IN][80], coord_text[GB_MAX_RANK][16], name[24];
    const char *in[GB_MAX_STEP_IN], *coord[GB_MAX_RANK];
    for (int i = 0; i < s->n_in; i++) {
        snprintf(name, sizeof name, "i%d", i);
        gb_gk_operand(k, name, &s->in[i], GB_READ);
        snprintf(name, sizeof name, "STEP_i%d", i);
        if (r->inner[i] != 0 && r->inner[i] != 1) gb_gk_param(k, name, r->inner[i]);
        snprintf(load[i], sizeof load[i],
                 r->inner[i] == 0   ? "LD_i%d(at_i%d + r_at_i%d)"
                 : r->inner[i] == 1 ? "LD_i%d(at_i%d + r_at_i%d + i)"
                                    : "LD_i%d(at_i%d + r_at_i%d + i * STEP_i%d)",
                 i, i, i, i);
        in[i] = load[i];
    }
    for (int axis = 0; axis < s->rank; axis++) {
        gb_space_coord(coord_text[axis], axis, &r->kept, &r->reduced, r->inner_axis);
        coord[axis] = coord_text[axis];
    }
    gb_gk_expr(k, "EXPR", s->expr, in, coord);
}

static void bind_outputs(gb_gk *k, const gb_step *s)
{
    char name[16];
    for (int i = 0; i < s->n_out; i++) {
        snprintf(name, sizeof name, "o%d", i);
        gb_gk_operand(k, name, &s->out[i], GB_WRITE);
    }
}

static void common_params(gb_gk *k, const gb_reduction *r)
{
    int64_t kept = gb_space_count(&r->all_kept);
    gb_gk_param(k, "ROWS", r->rows);
    gb_gk_param(k, "ROW_BLOCK", r->row_block);
    gb_gk_param(k, "COLUMNS", r->columns);
    gb_gk_param(k, "COLUMN_BLOCK", r->column_block);
    gb_gk_param(k, "SEGMENT_COLUMNS", r->segment_columns);
    if (r->segments == 1) return;
    gb_gk_param(k, "SEGMENTS", r->segments);
    gb_gk_param(k, "KEPT_COUNT", kept);
    gb_gk_scratch(k, "part", 0, r->segments * r->n_values * kept, GB_S_I32, GB_READ | GB_WRITE);
}

static gb_status lower_join(gb_gpu_builder *b, const gb_reduction *r)
{
    gb_gk k;
    gb_gk_begin(&k, b);
    const int64_t kept = gb_space_count(&r->all_kept), local = gb_min(64, b->caps->max_local);
    gb_gk_local(&k, (uint32_t)local, 1, 1);
    gb_gk_define(&k, "LANES", "1");
    gb_gk_define(&k, "SUMS", "1");
    gb_gk_param(&k, "UNITS", kept);
    common_params(&k, r);
    bind_outputs(&k, r->step);
    gb_space outputs = r->all_kept; /* inputs are not walked here */
    outputs.n_ops = r->step->n_out;
    for (int i = 0; i < r->step->n_out; i++) {
        memcpy(outputs.stride[i], r->all_kept.stride[r->step->n_in + i], sizeof outputs.stride[i]);
        memcpy(outputs.name[i], r->all_kept.name[r->step->n_in + i], sizeof outputs.name[i]);
    }
    gb_space_walk(&k, &outputs, "KEPT", "");
    define_accumulators(&k, r);
    define_merge(&k, r);
    define_partial_read(&k, r);
    define_result(&k, r, NULL);
    return gb_gk_finish(&k, "reduce.join", gb_shader_reduce_join,
                        (const int64_t[3]){gb_div_up(kept, local), 1, 1});
}

static gb_status lower(gb_gpu_builder *b, gb_sharing sharing)
{
    gb_reduction r;
    gb_gk k;
    plan_reduction(&r, b->caps, b->step, sharing);
    if (r.units == 0) return GB_OK;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, (uint32_t)r.local, 1, 1);
    gb_gk_define(&k, "LANES", "%d", r.lanes);
    gb_gk_define(&k, "SUMS", "%d", r.lanes * r.abreast);
    gb_gk_param(&k, "UNITS", r.units);
    gb_gk_param(&k, "BLOCK", r.block);
    common_params(&k, &r);
    define_inputs(&k, &r);
    gb_space_walk(&k, &r.kept, "KEPT", "");
    gb_space_walk(&k, &r.reduced, "REDUCED", "r_");
    define_accumulators(&k, &r);
    if (sharing == GB_BY_GROUP) define_shared(&k, b->step);
    if (sharing == GB_BY_SUBGROUP) define_shuffles(&k, b->step);
    if (r.row || r.abreast > 1) define_merge(&k, &r);
    if (!r.row) {
        gb_gk_define(&k, "ABREAST", "%d", r.abreast);
        gb_gk_param(&k, "WIDTH", r.width);
        gb_gk_param(&k, "WIDTH_BLOCKS", gb_div_up(r.width, r.lanes));
    }
    if (r.segments > 1) {
        define_partial_write(&k, &r);
    } else {
        bind_outputs(&k, b->step);
        define_result(&k, &r, r.inner);
    }
    const int64_t items = sharing == GB_BY_ITEM ? r.local : 1;
    const int64_t groups[3] = {gb_div_up(gb_div_up(r.units, r.block), items), r.segments, 1};
    const char *name = "reduce.column", *body = gb_shader_reduce_column;
    if (r.row) name = "reduce.row", body = gb_shader_reduce_row;
    if (sharing == GB_BY_GROUP) name = "reduce.group", body = gb_shader_reduce_group;
    if (sharing == GB_BY_SUBGROUP) name = "reduce.subgroup", body = gb_shader_reduce_subgroup;
    gb_status s = gb_gk_finish(&k, name, body, groups);
    return s == GB_OK && r.segments > 1 ? lower_join(b, &r) : s;
}

gb_status gb_lower_reduce(gb_gpu_builder *b)
{
    return lower(b, GB_BY_ITEM);
}

gb_status gb_lower_reduce_group(gb_gpu_builder *b)
{
    return lower(b, GB_BY_GROUP);
}

gb_status gb_lower_reduce_subgroup(gb_gpu_builder *b)
{
    return lower(b, GB_BY_SUBGROUP);
}

/* --- the place of the extreme --- */

bool gb_argreduce_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    return gb_rounds_fit(caps, step->dim[step->rank - 1]);
}

gb_status gb_lower_argreduce(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_space kept = {.rank = s->n_kept};
    gb_gk k;
    for (int d = 0; d < s->n_kept; d++) kept.dim[d] = s->dim[d], kept.axis[d] = d;
    gb_space_add(&kept, "i", 0, &s->in[0], 0);
    gb_space_add(&kept, "o", 0, &s->out[0], 0);
    gb_space_collapse(&kept, 1);
    const int64_t units = gb_space_count(&kept), local = gb_min(64, b->caps->max_local);
    if (units == 0) return GB_OK;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, (uint32_t)local, 1, 1);
    gb_gk_operand(&k, "i0", &s->in[0], GB_READ);
    gb_gk_operand(&k, "o0", &s->out[0], GB_WRITE);
    gb_space_walk(&k, &kept, "KEPT", "");
    gb_gk_param(&k, "UNITS", units);
    gb_gk_param(&k, "COUNT", s->dim[s->n_kept]);
    gb_gk_param(&k, "STEP", s->in[0].stride[s->n_kept]);
    bool integer = s->in[0].storage == GB_S_I32;
    const char *less = s->u.arg.min ? (s->u.arg.last ? "<=" : "<") : (s->u.arg.last ? ">=" : ">");
    gb_gk_define(&k, "VALUE", integer ? "int" : "float");
    if (integer)
        gb_gk_define(&k, "BETTER(x, y)", "((x) %s (y))", less);
    else if (s->u.arg.last)
        gb_gk_define(&k, "BETTER(x, y)", "((x) != (x) || (x) %s (y))", less);
    else
        gb_gk_define(&k, "BETTER(x, y)", "((y) == (y) && ((x) != (x) || (x) %s (y)))", less);
    return gb_gk_finish(&k, "argreduce.item", gb_shader_argreduce_item,
                        (const int64_t[3]){gb_div_up(units, local), 1, 1});
}
