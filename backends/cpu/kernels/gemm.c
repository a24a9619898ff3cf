/* Matrix products. B is packed into panels of TILE_COLS columns: before all else where many tasks
 * read a panel, else by the task that uses it. A is read in place where its layout suits a tile
 * kernel, else packed block by block. Thin products, where packing would cost more than the work,
 * are dot products along k. */
#include <string.h>

#include "backends/cpu/kernels/impl.h"
#include "backends/cpu/kernels/transpose.h"

enum {
    TASKS_WANTED = 32,
    BLOCK_TILES = 8,   /* rows of a task, in tiles */
    BLOCK_DEPTH = 512, /* most k that is summed in registers at a time: a panel streams from L2 */
    PACK_DEPTH = 256,  /* k of a task that packs */
    PART_DEPTH = 1024, /* least k of a part */
    THIN = 4,          /* up to so many rows or columns are dot products */
    BLOCK_FLOATS = 65536, /* of A in a task that packs its own panels: a part of L2 */
    PANELS_WANTED = 16,   /* for such tasks to be enough */
    FINISHED_COLS = 128   /* of a block that an epilogue takes at a time: long rows, in L1 or L2 */
};

enum { BLOCK_ROWS = BLOCK_TILES * TILE_ROWS };

typedef struct {
    gb_gemm_dims d;
    gb_real type, c_type; /* of a and b; of c */
    bool accumulate, thin, a_in_place, b_in_place, b_by_task;
    int64_t batches, panels;
    int64_t row_blocks, column_blocks, parts;
    int64_t b_batches, b_floats; /* packed for all: how many matrices, floats of each */
    int64_t a_ld;                /* of A's copy: its rows, or its columns, do not collide */
    int64_t block_ld; /* of c before it is rounded to 16 bits, where a task collects it */
    int64_t parts_floats, panel_floats, block_floats, worker_floats;
} gemm;

/* Lines that far apart fall into few sets of the L1 cache and push each other out: one of each row
 * that a tile has, or of each k, of which there are many more. */
static bool collides(const gb_gemm_dims *d)
{
    return d->a_col == 1 ? d->a_row % 1024 == 0 : d->a_col % 512 == 0;
}

/* A panel that one or two tasks read is packed by them: it stays in their own cache. */
static void plan_blocks(gemm *g, bool b_stays)
{
    const gb_gemm_dims *d = &g->d;
    int64_t depth = min_of(d->k, BLOCK_DEPTH), rows = BLOCK_ROWS;
    if (!b_stays && g->batches * g->panels >= PANELS_WANTED && depth)
        rows = min_of(BLOCK_FLOATS / depth, 8 * BLOCK_ROWS);
    if (rows < d->m) rows = BLOCK_ROWS;
    g->row_blocks = ceil_div(d->m, rows);
    g->b_by_task = !b_stays && !g->thin && g->row_blocks <= 2;
}

static void plan_layouts(gemm *g)
{
    const gb_gemm_dims *d = &g->d;
    if (g->thin) {
        g->b_in_place = d->b_row == 1;
        g->b_floats = d->n * round_up(d->k, 16);
    } else {
        g->b_in_place =
            g->type == GB_REAL_F32 && d->b_col == 1 && d->m <= TILE_ROWS && d->n % LANES == 0;
        g->b_floats = g->panels * TILE_COLS * d->k;
    }
    if (g->b_in_place) g->b_by_task = false;
    g->b_batches = g->b_in_place || g->b_by_task
                       ? 0
                       : (d->b_batch[0] ? d->batch[0] : 1) * (d->b_batch[1] ? d->batch[1] : 1);
    int64_t depth = min_of(d->k, BLOCK_DEPTH);
    g->a_in_place = g->type == GB_REAL_F32 && (d->a_col == 1 || d->a_row == 1) &&
                    !(d->n > TILE_COLS && collides(d));
    int64_t rows = ceil_div(d->m, g->row_blocks);
    g->a_ld = round_up(d->a_col == 1 ? depth : rows, 16) + 16;
    if (g->b_by_task) g->panel_floats = depth * TILE_COLS;
    g->worker_floats =
        g->panel_floats + (g->a_in_place ? 0 : g->a_ld * (d->a_col == 1 ? rows : depth));
    g->worker_floats = round_up(g->worker_floats, 16);
}

/* Where c is not f32, sums lie here first: a row of parts, a tile, or, where k is summed piece by
 * piece, all that a task makes. */
static void plan_rounding(gemm *g)
{
    int64_t panels = ceil_div(g->panels, g->column_blocks);
    if (g->c_type == GB_REAL_F32) return;
    g->block_ld = g->d.k <= BLOCK_DEPTH ? TILE_COLS : panels * TILE_COLS + 16; /* no collisions */
    int64_t rows = g->d.k <= BLOCK_DEPTH ? TILE_ROWS : ceil_div(g->d.m, g->row_blocks);
    g->block_floats = round_up(g->parts > 1 ? g->d.n : rows * g->block_ld, 16);
    g->worker_floats += g->block_floats;
}

static gemm gemm_of(const gb_contraction *problem)
{
    const gb_gemm_dims *d = &problem->gemm;
    gemm g = {.d = *d,
              .type = problem->a_type,
              .c_type = problem->c_type,
              .accumulate = problem->accumulate,
              .parts = 1};
    bool wide = g.type == GB_REAL_F32 && g.c_type == GB_REAL_F32;
    g.batches = d->batch[0] * d->batch[1];
    g.panels = ceil_div(d->n, TILE_COLS);
    g.thin = wide && d->a_col == 1 && ((d->m <= THIN && d->b_row == 1) || d->n <= THIN);
    plan_blocks(&g, problem->b_stays);
    plan_layouts(&g);
    int64_t tasks = g.batches * g.row_blocks;
    g.column_blocks = tasks >= TASKS_WANTED ? 1 : min_of(g.panels, TASKS_WANTED / tasks);
    tasks *= g.column_blocks;
    if (!g.thin && tasks < TASKS_WANTED)
        g.parts = min_of(TASKS_WANTED / tasks, ceil_div(d->k, PART_DEPTH));
    if (g.parts < 1) g.parts = 1;
    if (g.parts > 1) g.parts_floats = round_up(g.parts * g.batches * d->m * d->n, 16);
    plan_rounding(&g);
    return g;
}

typedef struct {
    const gemm *g;
    const gb_contraction_args *args;
    float *b, *parts, *workers;
} job;

static int64_t at_batch(const gb_gemm_dims *d, const int64_t stride[2], int64_t batch)
{
    return batch / d->batch[1] * stride[0] + batch % d->batch[1] * stride[1];
}

/* Which packed B a batch uses. */
static int64_t packed_index(const gb_gemm_dims *d, int64_t batch)
{
    int64_t i0 = d->b_batch[0] ? batch / d->batch[1] : 0;
    int64_t i1 = d->b_batch[1] ? batch % d->batch[1] : 0;
    return d->b_batch[1] ? i0 * d->batch[1] + i1 : i0;
}

/* The batch whose B is packed at an index. */
static int64_t batch_of_packed(const gb_gemm_dims *d, int64_t index)
{
    return d->b_batch[1] ? index : index * d->batch[1];
}

/* to[k * ld + i] = element at + i * row + k * col of `from`. Where columns are contiguous, rows are
 * at most TILE_COLS. */
static void pack(gb_real type, float *to, int64_t ld, const float *from, int64_t at, int64_t row,
                 int64_t col, int64_t rows, int64_t depth)
{
    if (col == 1 && row != 1) {
        transpose_real(type, to, ld, from, at, row, rows, depth);
        return;
    }
    for (int64_t k = 0; k < depth; k++) {
        if (row == 1 && rows == TILE_COLS)
            real_read(type, to + k * ld, from, at + k * col, TILE_COLS);
        else if (row == 1)
            real_read(type, to + k * ld, from, at + k * col, rows);
        else
            for (int64_t i = 0; i < rows; i++)
                real_read(type, to + k * ld + i, from, at + i * row + k * col, 1);
    }
}

/* A panel's rows [k0, k0 + depth) of k, side by side at `to`. */
static void pack_part(const job *j, int64_t batch, int64_t panel, int64_t k0, int64_t depth,
                      float *to)
{
    const gb_gemm_dims *d = &j->g->d;
    int64_t n0 = panel * TILE_COLS, cols = min_of(TILE_COLS, d->n - n0);
    int64_t at = at_batch(d, d->b_batch, batch) + k0 * d->b_row + n0 * d->b_col;
    if (depth == 0) return; /* nor is there memory for it */
    if (cols < TILE_COLS) memset(to, 0, (size_t)(depth * TILE_COLS) * sizeof *to);
    pack(j->g->type, to, TILE_COLS, j->args->b, at, d->b_col, d->b_row, cols, depth);
}

static void pack_panel(void *ctx, int64_t task, int worker)
{
    (void)worker;
    const job *j = ctx;
    const gemm *g = j->g;
    int64_t chunks = ceil_div(g->d.k, PACK_DEPTH), k0 = task % chunks * PACK_DEPTH;
    int64_t panel = task / chunks % g->panels, index = task / chunks / g->panels;
    pack_part(j, batch_of_packed(&g->d, index), panel, k0, min_of(PACK_DEPTH, g->d.k - k0),
              j->b + index * g->b_floats + (panel * g->d.k + k0) * TILE_COLS);
}

/* Where c is collected: the result, a part of it that is summed later, or what is rounded then.
 * Element (row0, col0) of c lies at c. */
typedef struct {
    float *c;
    int64_t ld, row0, col0;
    bool accumulate, last, by_tile; /* by_tile: each begins at c */
} sink;

static float *sink_at(const sink *s, int64_t row, int64_t col)
{
    return s->c + (row - s->row0) * s->ld + col - s->col0;
}

static void finish(const job *j, const sink *s, int64_t batch, int64_t row0, int64_t rows,
                   int64_t col0, int64_t cols)
{
    const gb_gemm_dims *d = &j->g->d;
    float *c = sink_at(s, row0, col0);
    gb_epilogue_apply(&j->args->epilogue, c, batch * d->m + row0, rows, col0, cols, s->ld);
    if (j->g->c_type == GB_REAL_F32) return;
    int64_t at = at_batch(d, d->c_batch, batch) + row0 * d->c_row + col0;
    for (int64_t i = 0; i < rows; i++)
        real_write(j->g->c_type, j->args->c, at + i * d->c_row, c + i * s->ld, cols);
}

typedef struct {
    int64_t batch, part;
    int64_t row0, row1, panel0, panel1;
    int64_t k0, depth;
    const float *a; /* element (row0, k0), in place or copied */
    int64_t a_row, a_col;
    const float *b; /* rows of k from k0 on, of the panel at hand */
    int64_t ldb;
    float *own; /* this worker's memory: for a panel, a block of c, a copy of a */
} block;

static void find_b(const job *j, block *k, int64_t panel)
{
    const gemm *g = j->g;
    const gb_gemm_dims *d = &g->d;
    k->ldb = g->b_in_place ? d->b_row : TILE_COLS;
    if (g->b_in_place) {
        k->b =
            j->args->b + at_batch(d, d->b_batch, k->batch) + k->k0 * d->b_row + panel * TILE_COLS;
    } else if (g->b_by_task) {
        pack_part(j, k->batch, panel, k->k0, k->depth, k->own);
        k->b = k->own;
    } else {
        k->b = j->b + packed_index(d, k->batch) * g->b_floats + (panel * d->k + k->k0) * TILE_COLS;
    }
}

static void do_tile(const block *k, const tile_out *out, int64_t row)
{
    static const int64_t no_offset = 0;
    const float *a = k->a + (row - k->row0) * k->a_row;
    for (int i = 0; i < out->rows; i++) /* c comes while the sums are made */
        for (int v = 0; v < out->cols; v += 16) __builtin_prefetch(out->c[i] + out->col + v, 1);
    if (k->a_col == 1) {
        const float *rows[TILE_ROWS];
        for (int i = 0; i < out->rows; i++) rows[i] = a + i * k->a_row;
        LEVEL(gb_tile_rows)(out, rows, &no_offset, 1, k->depth, k->b, k->ldb);
        return;
    }
    tile_steps steps = {{1, 1, k->depth}, {0, 0, k->a_col}, {0, 0, k->ldb}};
    LEVEL(gb_tile_columns)(out, a, k->b, &steps);
}

static void do_block(const job *j, block *k, sink *s)
{
    int64_t count = k->row1 - k->row0, tiles = ceil_div(count, TILE_ROWS), n = j->g->d.n;
    int64_t done = k->panel0 * TILE_COLS; /* columns that are finished */
    for (int64_t panel = k->panel0; panel < k->panel1; panel++) {
        int64_t col = panel * TILE_COLS, cols = min_of(TILE_COLS, n - col);
        find_b(j, k, panel);
        for (int64_t t = 0; t < tiles; t++) {
            int64_t row = k->row0 + count * t / tiles;
            int64_t rows = k->row0 + count * (t + 1) / tiles - row;
            float *c[TILE_ROWS];
            if (s->by_tile) s->row0 = row, s->col0 = col;
            for (int64_t i = 0; i < rows; i++) c[i] = sink_at(s, row + i, col);
            tile_out out = {c, 0, (int)rows, (int)cols, s->accumulate};
            do_tile(k, &out, row);
            if (s->last && s->by_tile) finish(j, s, k->batch, row, rows, col, cols);
        }
        bool wide = col + cols - done >= FINISHED_COLS || panel + 1 == k->panel1;
        if (!wide || !s->last || s->by_tile) continue;
        finish(j, s, k->batch, k->row0, count, done, col + cols - done);
        done = col + cols;
    }
}

static void find_a(const job *j, block *k)
{
    const gb_gemm_dims *d = &j->g->d;
    gb_real type = j->g->type;
    int64_t rows = k->row1 - k->row0, ld = j->g->a_ld;
    int64_t at = at_batch(d, d->a_batch, k->batch) + k->row0 * d->a_row + k->k0 * d->a_col;
    float *copy = k->own + j->g->panel_floats + j->g->block_floats;
    if (j->g->a_in_place) {
        k->a = j->args->a + at;
        k->a_row = d->a_row;
        k->a_col = d->a_col;
        return;
    }
    if (d->a_col == 1) {
        for (int64_t i = 0; i < rows; i++)
            real_read(type, copy + i * ld, j->args->a, at + i * d->a_row, k->depth);
        k->a_row = ld;
        k->a_col = 1;
    } else {
        pack(type, copy, ld, j->args->a, at, d->a_row, d->a_col, rows, k->depth);
        k->a_row = 1;
        k->a_col = ld;
    }
    k->a = copy;
}

/* The next of the fewest parts of about one size. */
static int64_t even_part(int64_t depth)
{
    int64_t parts = ceil_div(depth, BLOCK_DEPTH);
    return parts > 1 ? ceil_div(depth, parts) : depth;
}

static void do_task(void *ctx, int64_t task, int worker)
{
    const job *j = ctx;
    const gemm *g = j->g;
    const gb_gemm_dims *d = &g->d;
    int64_t cb = task % g->column_blocks, rb = task / g->column_blocks % g->row_blocks;
    int64_t rest = task / (g->column_blocks * g->row_blocks);
    block k = {.part = rest % g->parts, .batch = rest / g->parts};
    k.own = j->workers + worker * g->worker_floats;
    k.row0 = d->m * rb / g->row_blocks;
    k.row1 = d->m * (rb + 1) / g->row_blocks;
    k.panel0 = g->panels * cb / g->column_blocks;
    k.panel1 = g->panels * (cb + 1) / g->column_blocks;
    sink s = {j->args->c + at_batch(d, d->c_batch, k.batch), d->c_row, .accumulate = g->accumulate};
    if (g->parts > 1)
        s = (sink){j->parts + (k.part * g->batches + k.batch) * d->m * d->n, d->n};
    else if (g->c_type != GB_REAL_F32)
        s = (sink){k.own + g->panel_floats, g->block_ld, k.row0, k.panel0 * TILE_COLS,
                   .by_tile = d->k <= BLOCK_DEPTH};
    int64_t until = d->k * (k.part + 1) / g->parts;
    k.k0 = d->k * k.part / g->parts;
    do { /* once at least: an empty sum is zero */
        k.depth = even_part(until - k.k0);
        s.last = g->parts == 1 && k.k0 + k.depth == until;
        find_a(j, &k);
        do_block(j, &k, &s);
        s.accumulate = true;
        k.k0 += k.depth;
    } while (k.k0 < until);
}

static void sum_row(void *ctx, int64_t task, int worker)
{
    const job *j = ctx;
    const gb_gemm_dims *d = &j->g->d;
    int64_t batch = task / d->m, row = task % d->m, size = j->g->batches * d->m * d->n;
    float *c = j->g->c_type == GB_REAL_F32
                   ? j->args->c + at_batch(d, d->c_batch, batch) + row * d->c_row
                   : j->workers + worker * j->g->worker_floats;
    const float *from = j->parts + task * d->n;
    for (int64_t i = 0; i < d->n; i++) c[i] = (j->g->accumulate ? c[i] : 0) + from[i];
    for (int64_t p = 1; p < j->g->parts; p++) {
        from += size;
        for (int64_t i = 0; i < d->n; i++) c[i] += from[i];
    }
    finish(j, &(sink){c, d->c_row, row}, batch, row, 1, 0, d->n);
}

/* ---- thin products ---- */

static void pack_rows_of_k(void *ctx, int64_t task, int worker)
{
    (void)worker;
    const job *j = ctx;
    const gb_gemm_dims *d = &j->g->d;
    int64_t index = task / d->n, n = task % d->n;
    const float *b = j->args->b + at_batch(d, d->b_batch, batch_of_packed(d, index)) + n * d->b_col;
    float *to = j->b + index * j->g->b_floats + n * round_up(d->k, 16);
    for (int64_t k = 0; k < d->k; k++) to[k] = b[k * d->b_row];
}

static float dot(const float *a, const float *b, int64_t k)
{
    vec acc[4] = {0};
    int64_t i = 0;
    for (; i + 4 * LANES <= k; i += 4 * LANES)
        for (int v = 0; v < 4; v++) acc[v] += load(a + i + v * LANES) * load(b + i + v * LANES);
    acc[0] += acc[1] + acc[2] + acc[3];
    float sum = 0;
    for (int v = 0; v < LANES; v++) sum += acc[0][v];
    for (; i < k; i++) sum += a[i] * b[i];
    return sum;
}

enum { THIN_ROWS = 64 }; /* elements of c in the long direction of a task */

static void do_thin(void *ctx, int64_t task, int worker)
{
    (void)worker;
    const job *j = ctx;
    const gemm *g = j->g;
    const gb_gemm_dims *d = &g->d;
    bool tall = d->m >= d->n;
    int64_t blocks = ceil_div(tall ? d->m : d->n, THIN_ROWS), batch = task / blocks;
    int64_t from = task % blocks * THIN_ROWS, until = from + THIN_ROWS;
    int64_t i0 = tall ? from : 0, i1 = tall ? min_of(until, d->m) : d->m;
    int64_t j0 = tall ? 0 : from, j1 = tall ? d->n : min_of(until, d->n);
    const float *a = j->args->a + at_batch(d, d->a_batch, batch);
    const float *b = g->b_in_place ? j->args->b + at_batch(d, d->b_batch, batch)
                                   : j->b + packed_index(d, batch) * g->b_floats;
    int64_t ldb = g->b_in_place ? d->b_col : round_up(d->k, 16);
    float *c = j->args->c + at_batch(d, d->c_batch, batch);
    for (int64_t i = i0; i < i1; i++)
        for (int64_t n = j0; n < j1; n++) {
            float sum = dot(a + i * d->a_row, b + n * ldb, d->k), *to = c + i * d->c_row + n;
            *to = g->accumulate ? *to + sum : sum;
        }
    finish(j, &(sink){c, d->c_row}, batch, i0, i1 - i0, j0, j1 - j0);
}

static bool can(const gb_cpu *cpu, const gb_contraction *problem)
{
    (void)cpu;
    return problem->kind == GB_GEMM;
}

static gb_status prepare(gb_contraction_plan *plan, gb_error *err)
{
    (void)err;
    gemm g = gemm_of(&plan->problem);
    int64_t floats = round_up(g.b_batches * g.b_floats, 16) + g.parts_floats +
                     gb_pool_workers(plan->cpu.pool) * g.worker_floats;
    plan->scratch_bytes = (size_t)floats * sizeof(float);
    plan->packed_bytes = (size_t)(g.b_batches * g.b_floats) * sizeof(float);
    return GB_OK;
}

static void run(const gb_contraction_plan *plan, const gb_contraction_args *args)
{
    gemm g = gemm_of(&plan->problem);
    gb_pool *pool = plan->cpu.pool;
    job j = {&g, args, args->scratch, NULL, NULL};
    j.parts = j.b + round_up(g.b_batches * g.b_floats, 16);
    j.workers = j.parts + g.parts_floats;
    if (args->packed) j.b = args->packed;
    if (g.thin) {
        if (!args->ready) gb_pool_run(pool, g.b_batches * g.d.n, pack_rows_of_k, &j);
        int64_t length = g.d.m >= g.d.n ? g.d.m : g.d.n;
        gb_pool_run(pool, g.batches * ceil_div(length, THIN_ROWS), do_thin, &j);
        return;
    }
    if (!args->ready && g.b_batches)
        gb_pool_run(pool, g.b_batches * g.panels * ceil_div(g.d.k, PACK_DEPTH), pack_panel, &j);
    gb_pool_run(pool, g.batches * g.parts * g.row_blocks * g.column_blocks, do_task, &j);
    if (g.parts > 1) gb_pool_run(pool, g.batches * g.d.m, sum_row, &j);
}

const gb_contraction_impl LEVEL(gb_contraction_gemm) = {.name = "direct",
                                                        .small = GB_SMALL_FACTORS | GB_SMALL_RESULT,
                                                        .can = can,
                                                        .prepare = prepare,
                                                        .run = run};
