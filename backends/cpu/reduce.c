#include "backends/cpu/reduce_partial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- shape --- */

static const gb_operand *widest_input(const gb_step *s)
{
    const gb_operand *best = NULL;
    double most = 0;
    for (int k = 0; k < s->n_in; k++) {
        double n = 1;
        for (int i = 0; i < s->rank; i++) n *= s->in[k].stride[i] ? (double)s->dim[i] + 1 : 1;
        if (n > most) {
            most = n;
            best = &s->in[k];
        }
    }
    return best;
}

/* From which of the sorted axes on, and before `end`, all are kept ones, or reduced ones. */
static int stretch_before(const gb_step *s, const gb_cpu_space *sorted, int end, bool kept,
                          int64_t *count)
{
    int first = end;
    *count = 1;
    for (int i = end - 1; i >= 0; i--) {
        if (sorted->dim[i] == 1) continue;
        if ((sorted->axis[i] < s->n_kept) != kept) break;
        first = i;
        *count *= sorted->dim[i];
    }
    return first;
}

#define SHORT_ROW 128

/* Where the columns begin: the kept axes that are innermost; or those before a few reduced ones,
 * such as the groups of a normalization, if others are reduced farther out: each then becomes
 * `fold` columns. The end if there are none. */
static int columns_from(const gb_step *s, const gb_cpu_space *sorted, int64_t *fold)
{
    int64_t kept, reduced;
    int first = stretch_before(s, sorted, sorted->rank, true, &kept);
    *fold = 1;
    if (first < sorted->rank) return first;
    int rows = stretch_before(s, sorted, sorted->rank, false, &reduced);
    first = stretch_before(s, sorted, rows, true, &kept);
    if (reduced > SHORT_ROW || first == rows || kept * reduced > GB_TILE_MAX) return sorted->rank;
    for (int i = 0; i < first; i++)
        if (sorted->axis[i] >= s->n_kept && sorted->dim[i] > 1) *fold = reduced;
    return *fold > 1 ? first : sorted->rank;
}

static void append(gb_cpu_space *to, const gb_cpu_space *from, int i)
{
    to->axis[to->rank] = from->axis[i];
    to->dim[to->rank++] = from->dim[i];
}

/* Orders the loops, and fills the shape; kept: the kept axes alone, in the same order. */
static void order(const gb_step *s, gb_reduce *r, gb_cpu_space *space, gb_cpu_space *kept)
{
    static const int64_t none[GB_MAX_RANK];
    const gb_operand *by = widest_input(s);
    gb_cpu_space sorted = {0};
    gb_cpu_space_sort(&sorted, s->dim, by ? by->stride : none, 0, s->rank);
    r->length = r->inner = r->outer = r->fold = 1;
    for (int i = s->n_kept; i < s->rank; i++) r->length *= s->dim[i];
    int split = r->length ? columns_from(s, &sorted, &r->fold) : sorted.rank;
    r->length /= r->fold;
    *space = *kept = (gb_cpu_space){0};
    for (int i = 0; i < split; i++) {
        if (sorted.axis[i] >= s->n_kept) continue;
        append(space, &sorted, i);
        append(kept, &sorted, i);
        r->outer *= sorted.dim[i];
    }
    for (int i = 0; i < sorted.rank; i++)
        if (sorted.axis[i] >= s->n_kept && (i < split || sorted.dim[i] == 1))
            append(space, &sorted, i);
    for (int i = split; i < sorted.rank; i++) {
        if (sorted.axis[i] >= s->n_kept && sorted.dim[i] == 1) continue;
        append(space, &sorted, i);
        if (sorted.axis[i] < s->n_kept) append(kept, &sorted, i);
        r->inner *= sorted.dim[i];
    }
    gb_cpu_space_count(space);
    gb_cpu_space_count(kept);
}

static bool by_columns(const gb_reduce *r)
{
    return r->inner > 1;
}

/* Few columns are repeated until they fill whole vectors and a block of registers. */
static int64_t lanes_of(int64_t columns)
{
    int64_t width = columns;
    if (columns > GB_TILE_MAX / 16) return columns;
    while (width % 16) width += columns;
    int64_t unit = width;
    while (width < 64) width += unit;
    return width;
}

/* Cuts the work into tasks, by shape alone. */
static void partition(gb_reduce *r)
{
    r->block = r->inner > GB_TILE_MAX ? GB_TILE_MAX : r->inner;
    r->blocks = (r->inner + r->block - 1) / r->block;
    r->width = r->blocks > 1 ? r->block : lanes_of(r->block);
    int64_t rows = GB_REDUCE_TASK / r->block;
    r->splits = r->length > 2 * rows ? (r->length + rows - 1) / rows : 1;
    r->split_length = r->splits > 1 ? rows : r->length;
    r->group = 1;
    if (r->splits == 1 && r->blocks == 1) {
        r->group = GB_REDUCE_TASK / ((r->length + 1) * r->block);
        if (r->group > 4096 / r->block) r->group = 4096 / r->block;
        if (r->group < 1) r->group = 1;
    }
    for (int k = 0; k < r->n_red; k++) r->n_lanes += r->red[k] == GB_MOMENTS ? 3 : 1;
}

static int64_t tasks_of(const gb_reduce *r)
{
    return (r->outer + r->group - 1) / r->group * r->splits * r->blocks;
}

/* --- running --- */

/* Combines the splits of a stretch of kept places. */
#define COMBINE 256
static void combine_task(void *ctx, int64_t task, int worker)
{
    const gb_reduce_run *run = ctx;
    const gb_reduce *r = run->r;
    gb_partial sum[COMBINE];
    double space[COMBINE];
    int64_t step = COMBINE / r->n_red, kept = gb_reduce_kept(r), first = task * step;
    int64_t n = first + step < kept ? step : kept - first;
    for (int64_t i = 0; i < n; i++)
        for (int red = 0; red < r->n_red; red++) {
            gb_partial *to = &sum[i * r->n_red + red];
            *to = gb_partial_empty(r, red);
            for (int64_t s = 0; s < r->splits; s++)
                gb_partial_add(r, red, to,
                               &r->partial[((first + i) * r->splits + s) * r->n_red + red]);
        }
    gb_reduce_store(run, first, n, sum, space);
}

static void run(const gb_cpu_step *s, const gb_cpu_workers *workers)
{
    const gb_reduce *r = s->state;
    gb_reduce_run x = {.r = r, .workers = workers, .out = s->at.out};
    for (int k = 0; k < s->step->n_in; k++) x.env.in[k] = s->at.in[k];
    if (r->outer * r->inner == 0) return;
    gb_tile_prepare(r->prog, &x.env, s->at.scalars, gb_worker_scratch(workers, 0));
    gb_pool_run(workers->pool, tasks_of(r),
                by_columns(r) ? gb_reduce_columns_task : gb_reduce_rows_task, &x);
    int64_t step = COMBINE / r->n_red;
    if (r->splits > 1)
        gb_pool_run(workers->pool, (gb_reduce_kept(r) + step - 1) / step, combine_task, &x);
}

static void free_state(void *state)
{
    gb_reduce *r = state;
    gb_tile_free(r->prog);
    free(r->partial);
    free(r);
}

/* --- making --- */

static gb_status compile(gb_reduce *r, const gb_step *step, const gb_cpu_space *space,
                         gb_error *err)
{
    gb_tile_desc d = {.loops = r->loops, .expr = step->expr, .space = *space, .results = true};
    for (int k = 0; k < step->n_in; k++) {
        d.in[k].storage = step->in[k].storage;
        memcpy(d.in[k].stride, step->in[k].stride, sizeof d.in[k].stride);
    }
    if (by_columns(r)) d.multiple = r->inner > GB_TILE_MAX ? 0 : r->width;
    return gb_tile_compile(&d, &r->prog, err);
}

static gb_status allocate_partials(gb_reduce *r, gb_error *err)
{
    if (r->splits == 1) return GB_OK;
    size_t n = (size_t)(gb_reduce_kept(r) * r->splits) * (size_t)r->n_red;
    r->partial = malloc(n * sizeof *r->partial);
    if (r->partial) return GB_OK;
    return gb_fail(err, GB_OUT_OF_MEMORY, "reduction", "use a smaller batch",
                   "no memory for %zu partial results", n);
}

static void describe(gb_reduce *r, const gb_step *step, const gb_cpu_space *kept)
{
    r->n_red = step->n_red;
    r->n_in = step->n_in;
    r->n_out = step->n_out;
    for (int k = 0; k < step->n_red; k++) {
        r->red[k] = step->red[k];
        r->scale[k] = step->scale[k];
        r->integer[k] = step->expr->node[step->expr->out[k]].type == 'i';
    }
    for (int k = 0; k < step->n_out; k++) {
        r->out_storage[k] = step->out[k].storage;
        gb_walk_init(&r->out[k], kept, step->out[k].storage, step->out[k].stride);
    }
}

gb_status gb_cpu_make_reduce(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                             gb_error *err)
{
    gb_reduce *r = calloc(1, sizeof *r);
    if (!r)
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "close other programs",
                       "no memory to prepare a step");
    gb_cpu_space space, kept;
    r->loops = dev->loops;
    order(step, r, &space, &kept);
    describe(r, step, &kept);
    partition(r);
    gb_status s = compile(r, step, &space, err);
    if (!s) s = allocate_partials(r, err);
    if (s) {
        free_state(r);
        return s;
    }
    *out = (gb_cpu_step){.run = run, .free = free_state, .state = r, .step = step};
    out->worker_bytes = by_columns(r) ? gb_reduce_columns_scratch(r) : gb_reduce_rows_scratch(r);
    return GB_OK;
}
