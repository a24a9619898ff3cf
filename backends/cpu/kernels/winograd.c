/* Winograd convolution, forward and backward to the data (which is the same with the filters turned
 * round). A task transforms a block of tiles, multiplies filter by filter, and transforms back, all
 * within its own scratch. */
#include <string.h>

#include "backends/cpu/kernels/transpose.h"
#include "backends/cpu/kernels/winograd.h"

enum { TASKS_WANTED = 32, TASKS_MIN = 8, TILES_MAX = 192, DEPTH = 256 };
/* Tiles of a task, as measured: more where the filters do not fit the caches, as every task reads
 * them all; fewer where a tile has twice as many products. */
enum { TILES_MIN = 24, TILES_MIN_FAR = 512 / LANES, TILES_MIN_STRIDED = 12 };
/* One small image: better a few tasks of few tiles than cores without any. */
enum { TASKS_FEW = 4, TILES_FEW = 8 };
#define TASK_BYTES (768 << 10)
#define FILTERS_BYTES (4 << 20)

typedef struct {
    winograd_form form;
    int products, filters, makes; /* of a tile, of a tile, along a side of it */
    gb_real type, c_type;         /* of a and b; of c */
    bool backward, accumulate;
    int64_t n, h, w, c;              /* source */
    int64_t oh, ow, o, pad_y, pad_x; /* destination */
    int64_t tiles_h, tiles_w;        /* of an image */
    int64_t images, band;            /* of a task; band in rows of tiles */
    int64_t image_groups, bands, panels, column_blocks;
    int64_t ldv, ldm;           /* from tile to tile: transformed inputs, products */
    int64_t stride_v, stride_m; /* from product to product */
    int64_t panel_floats;       /* of a filter */
    int64_t tiles;              /* of a task, at most */
    int64_t zeros, pointer_floats, worker_floats;
    int64_t block_floats; /* of results before they are rounded */
} winograd;

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

static int square(int side)
{
    return side * side;
}

/* What a tile reads before its own pixels, along one axis. */
static int64_t pad_of(winograd_form f, bool back, int64_t pad)
{
    if (!back) return pad;
    return winograd_is_spread(f) ? -(pad / 2) : 2 - pad;
}

static winograd winograd_of(const gb_contraction *problem, int m)
{
    const gb_conv_dims *d = &problem->conv;
    bool back = problem->kind == GB_CONV_DATA;
    winograd_form f = winograd_form_of(problem, m);
    winograd p = {.form = f,
                  .products = square(winograd_products(f)),
                  .filters = square(winograd_filters(f)),
                  .makes = winograd_makes(f),
                  .type = problem->a_type,
                  .c_type = problem->c_type,
                  .backward = back,
                  .accumulate = problem->accumulate,
                  .n = d->n};
    p.h = back ? d->oh : d->h, p.w = back ? d->ow : d->w, p.c = back ? d->o : d->c;
    p.oh = back ? d->h : d->oh, p.ow = back ? d->w : d->ow, p.o = back ? d->c : d->o;
    p.pad_y = pad_of(f, back, d->pad_top), p.pad_x = pad_of(f, back, d->pad_left);
    p.tiles_h = ceil_div(p.oh, p.makes), p.tiles_w = ceil_div(p.ow, p.makes);
    p.ldv = winograd_pitch(p.c), p.ldm = winograd_pitch(p.o);
    int64_t image = p.tiles_h * p.tiles_w;
    int64_t fit = TASK_BYTES / (4 * p.products * (p.ldv + p.ldm));
    bool far = 4 * p.filters * p.c * p.o > FILTERS_BYTES;
    int64_t least = winograd_is_strided(f) ? TILES_MIN_STRIDED : far ? TILES_MIN_FAR : TILES_MIN;
    least = min_of(least, clamp(p.n * image / TASKS_FEW, TILES_FEW, TILES_MAX));
    int64_t tiles = clamp(min_of(fit, p.n * image / TASKS_WANTED), least, TILES_MAX);
    p.images = clamp(tiles / image, 1, p.n);
    p.image_groups = ceil_div(p.n, p.images);
    p.bands = p.images > 1 ? 1 : ceil_div(p.tiles_h, clamp(tiles / p.tiles_w, 1, p.tiles_h));
    p.band = ceil_div(p.tiles_h, p.bands);
    p.tiles = p.images * p.band * p.tiles_w;
    p.panels = ceil_div(p.o, TILE_COLS);
    /* Few tasks: each transforms its tiles for a block of the output channels alone, which holds a
     * whole panel at least. */
    int64_t most = p.o < TILE_COLS ? 1 : p.o / TILE_COLS;
    p.column_blocks = min_of(most, ceil_div(TASKS_MIN, p.image_groups * p.bands));
    p.panel_floats = p.c * TILE_COLS;
    p.stride_v = p.tiles * p.ldv + WINOGRAD_PAD;
    p.stride_m = p.tiles * p.ldm + WINOGRAD_PAD;
    p.zeros = round_up(p.c, 16);
    p.pointer_floats = round_up(4 * p.tiles, 16); /* two pointers each */
    if (p.c_type != GB_REAL_F32)
        p.block_floats = p.images * min_of(p.band * p.makes, p.oh) * p.ow * p.o;
    p.worker_floats = p.products * (p.stride_v + p.stride_m) + p.pointer_floats + p.block_floats;
    p.worker_floats = round_up(p.worker_floats, 16);
    return p;
}

typedef struct {
    const winograd *p;
    const gb_contraction_args *args;
    float *filters, *zeros, *workers;
    int64_t ahead; /* tasks until a worker's next */
} job;

/* ---- filters ---- */

/* The panels of one block of columns. */
typedef struct {
    int64_t from, to;
} panels;

static panels panels_of(const winograd *p, int64_t block)
{
    return (panels){p->panels * block / p->column_blocks,
                    p->panels * (block + 1) / p->column_blocks};
}

/* A filter's first panel of a block. A task reads a block from one end to the other, so that what
 * it asks for ahead is what comes next. */
static float *filter_at(const job *j, panels block, int filter)
{
    const winograd *p = j->p;
    return j->filters +
           (block.from * p->filters + filter * (block.to - block.from)) * p->panel_floats;
}

/* Nine taps of `count` k for one panel of columns: to[(k * 9 + tap) * TILE_COLS + column]. */
static void gather_filters(const job *j, int64_t panel, int64_t k0, int64_t count, float *to)
{
    const winograd *p = j->p;
    int64_t n0 = panel * TILE_COLS, cols = min_of(TILE_COLS, p->o - n0);
    if (p->backward) { /* filters[k = o][tap][n = c], turned round */
        for (int64_t k = 0; k < count; k++)
            for (int64_t t = 0; t < 9; t++)
                real_read(p->type, to + (k * 9 + t) * TILE_COLS, j->args->b,
                          ((k0 + k) * 9 + 8 - t) * p->o + n0, cols);
        return;
    }
    for (int64_t t = 0; t < 9; t++) /* filters[n = o][tap][k = c] */
        transpose_real(p->type, to + t * TILE_COLS, 9 * TILE_COLS, j->args->b,
                       (n0 * 9 + t) * p->c + k0, 9 * p->c, cols, count);
}

WINOGRAD void transform_filters(const job *j, winograd_form f, int64_t task)
{
    enum { STEP = 16 };
    const winograd *p = j->p;
    int64_t steps = ceil_div(p->c, STEP), panel = task / steps, k0 = task % steps * STEP;
    int64_t count = min_of(STEP, p->c - k0);
    const panels block = panels_of(p, ((panel + 1) * p->column_blocks - 1) / p->panels);
    const int64_t step = (block.to - block.from) * p->panel_floats; /* from filter to filter */
    float *first = filter_at(j, block, 0) + (panel - block.from) * p->panel_floats;
    const int a = winograd_filters(f);
    float taps[STEP * 9 * TILE_COLS] = {0};
    gather_filters(j, panel, k0, count, taps);
    for (int64_t k = 0; k < count; k++)
        for (int64_t n = 0; n < TILE_COLS; n += LANES) {
            vec g[WINOGRAD_SQUARE];
            for (int i = 0; i < 9; i++)
                g[i / 3 * a + i % 3] = load(taps + (k * 9 + i) * TILE_COLS + n);
            winograd_2d(winograd_filter_1d, f, 3, a, a, g);
            float *to = first + (k0 + k) * TILE_COLS + n;
            for (int i = 0; i < a * a; i++) store(to + i * step, g[i]);
        }
}

/* ---- tiles ---- */

/* A task's block of tiles. */
typedef struct {
    int64_t image0, images, row0, rows;
    panels panels;
    int64_t col0, cols, tiles;
    float *v, *products;
    const float **rows_from; /* by tile, of the first product */
    float **rows_to;
    winograd_ahead in, out;
    float *c; /* element c0 of the result, or of what is rounded to it */
    int64_t c0;
} unit;

WINOGRAD void store_outputs(const winograd *p, const vec *y, int pitch, float *to, int64_t rows,
                            int64_t cols)
{
#pragma GCC unroll 8
    for (int64_t i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int64_t k = 0; k < cols; k++) {
            float *c = to + (i * p->ow + k) * p->o;
            store(c, p->accumulate ? load(c) + y[i * pitch + k] : y[i * pitch + k]);
        }
}

/* The tile at (y0, x0) of the output. */
WINOGRAD void transform_output(const winograd *p, const unit *u, winograd_form f, const float *from,
                               float *image, int64_t y0, int64_t x0)
{
    const int a = winograd_products(f), makes = winograd_makes(f);
    int64_t rows = min_of(makes, p->oh - y0), cols = min_of(makes, p->ow - x0);
    float *to = image + (y0 * p->ow + x0) * p->o;
    for (int64_t k = 0; k < u->cols; k += LANES) {
        vec y[WINOGRAD_SQUARE];
        int64_t o = u->col0 + winograd_channel(k, u->cols);
        const float *product = from + o;
#pragma GCC unroll 81
        for (int i = 0; i < a * a; i++, product += p->stride_m) {
            if (i % 4 == 0) product = opaque(product);
            y[i] = load(product);
        }
        winograd_2d(winograd_output_1d, f, a, makes, a, y);
        if (rows == makes && cols == makes)
            store_outputs(p, y, a, to + o, makes, makes);
        else
            store_outputs(p, y, a, to + o, rows, cols);
    }
}

WINOGRAD void transform_inputs(const job *j, const unit *u, winograd_form f, gb_real type)
{
    const int reads = winograd_reads(f), advance = winograd_advance(f);
    const winograd *p = j->p;
    int64_t tile = 0, image = p->h * p->w * p->c;
    winograd_image source = {type, j->args->a, j->zeros, p->h, p->w, p->c, p->c};
    source.pixels = real_at(type, source.pixels, u->image0 * image);
    for (int64_t i = 0; i < u->images; i++, source.pixels = real_at(type, source.pixels, image))
        for (int64_t row = u->row0; row < u->row0 + u->rows; row++)
            for (int64_t x = 0; x < p->tiles_w; x++, tile++) {
                int64_t y0 = row * advance - p->pad_y;
                winograd_square_at(winograd_input_1d, f, reads, &source, y0, x * advance - p->pad_x,
                                   u->v + tile * p->ldv, p->stride_v);
            }
}

WINOGRAD void transform_input(const job *j, const unit *u, winograd_form f)
{
    switch (j->p->type) {
    case GB_REAL_F32:
        transform_inputs(j, u, f, GB_REAL_F32);
        break;
    case GB_REAL_F16:
        transform_inputs(j, u, f, GB_REAL_F16);
        break;
    case GB_REAL_BF16:
        transform_inputs(j, u, f, GB_REAL_BF16);
        break;
    }
}

/* One product of all tiles, from channel k0 on, for one panel of outputs. */
static void multiply_product(const winograd *p, unit *u, int64_t product, int64_t panel, int64_t k0,
                             const float *filter)
{
    int64_t strips = ceil_div(u->tiles, TILE_ROWS), col = panel * TILE_COLS, done = 0;
    int64_t cols = min_of(TILE_COLS, round_up(p->o - col, LANES));
    int64_t offset = product * p->stride_v + k0, depth = min_of(DEPTH, p->c - k0);
    tile_out out = {.col = col + product * p->stride_m, .cols = (int)cols, .accumulate = k0 > 0};
    for (int64_t s = 0; s < strips; s++, done += out.rows) {
        out.rows = (int)(u->tiles * (s + 1) / strips - done);
        out.c = u->rows_to + done;
        winograd_bring(&u->out, true);
        winograd_bring(&u->in, false);
        LEVEL(gb_tile_rows)(&out, u->rows_from + done, &offset, 1, depth, filter, TILE_COLS);
    }
}

/* All products with the filter of row i and column k of their square. */
static void multiply(const job *j, unit *u, int i, int k)
{
    const winograd *p = j->p;
    int side = winograd_products(p->form), filters = winograd_filters(p->form);
    int down = winograd_sharing(p->form, i), across = winograd_sharing(p->form, k);
    const float *filter = filter_at(j, u->panels, i * filters + k);
    for (int64_t k0 = 0; k0 < p->c; k0 += DEPTH)
        for (int64_t panel = u->panels.from; panel < u->panels.to; panel++)
            for (int n = 0; n < down * across; n++)
                multiply_product(p, u, (i + n / across) * side + k + n % across, panel, k0,
                                 filter + (panel - u->panels.from) * p->panel_floats +
                                     k0 * TILE_COLS);
}

WINOGRAD void transform_outputs(const job *j, const unit *u, winograd_form f)
{
    const int makes = winograd_makes(f);
    const winograd *p = j->p;
    int64_t tile = 0, image = p->oh * p->ow * p->o;
    float *to = u->c + u->image0 * image - u->c0;
    for (int64_t i = 0; i < u->images; i++, to += image)
        for (int64_t y = u->row0; y < u->row0 + u->rows; y++)
            for (int64_t x = 0; x < p->tiles_w; x++, tile++) {
                transform_output(p, u, f, u->products + tile * p->ldm, to, y * makes, x * makes);
            }
}

static void finish(const job *j, const unit *u)
{
    const winograd *p = j->p;
    int64_t y0 = u->row0 * p->makes, rows = min_of(u->rows * p->makes, p->oh - y0);
    int64_t row0 = (u->image0 * p->oh + y0) * p->ow; /* one image, or all rows of several */
    int64_t pixels = u->images * rows * p->ow, at = row0 * p->o + u->col0;
    float *c = u->c + at - u->c0;
    gb_epilogue_apply(&j->args->epilogue, c, row0, pixels, u->col0, u->cols, p->o);
    if (p->c_type == GB_REAL_F32) return;
    for (int64_t i = 0; i < pixels; i++)
        real_write(p->c_type, j->args->c, at + i * p->o, c + i * p->o, u->cols);
}

static unit unit_of(const winograd *p, int64_t task)
{
    int64_t block = task % p->column_blocks, part = task / p->column_blocks;
    unit u = {.image0 = part / p->bands * p->images,
              .row0 = part % p->bands * p->band,
              .panels = panels_of(p, block)};
    u.col0 = u.panels.from * TILE_COLS;
    u.cols = min_of(u.panels.to * TILE_COLS, p->o) - u.col0;
    u.images = min_of(p->images, p->n - u.image0);
    u.rows = min_of(p->band, p->tiles_h - u.row0);
    return u;
}

/* What the unit will write, and what the one will read that this worker probably does next. */
WINOGRAD void look_ahead(const job *j, unit *u, winograd_form f, int64_t next)
{
    const winograd *p = j->p;
    const int64_t tiles = p->products * (u->panels.to - u->panels.from) * ceil_div(p->c, DEPTH) *
                          ceil_div(u->tiles, TILE_ROWS);
    winograd_image c = {
        p->c_type, real_at(p->c_type, j->args->c, u->col0), NULL, p->oh, p->ow, u->cols, p->o};
    int64_t y0 = u->row0 * p->makes, y1 = min_of(y0 + u->rows * p->makes, p->oh);
    int64_t first = u->image0 * p->oh + y0, rows = u->images > 1 ? u->images * p->oh : y1 - y0;
    u->out = winograd_rows_ahead(&c, first, first + rows, tiles);
    unit n = unit_of(p, next);
    if (n.image0 >= p->n || n.rows <= 0) return;
    winograd_image a = {p->type, j->args->a, NULL, p->h, p->w, p->c, p->c};
    y0 = clamp(n.row0 * winograd_advance(f) - p->pad_y, 0, p->h);
    y1 = clamp((n.row0 + n.rows) * winograd_advance(f) + winograd_reads(f), 0, p->h);
    first = n.image0 * p->h + y0, rows = n.images > 1 ? n.images * p->h : y1 - y0;
    u->in = winograd_rows_ahead(&a, first, first + rows, tiles);
}

WINOGRAD void do_unit(const job *j, winograd_form f, int64_t task, int worker)
{
    const winograd *p = j->p;
    unit u = unit_of(p, task);
    if (u.rows <= 0) return;
    u.v = j->workers + worker * p->worker_floats;
    u.products = u.v + p->products * p->stride_v;
    u.rows_from = (const float **)(u.products + p->products * p->stride_m);
    u.rows_to = (float **)(u.rows_from + p->tiles);
    u.c = j->args->c;
    if (p->c_type != GB_REAL_F32) {
        u.c = (float *)u.rows_from + p->pointer_floats;
        u.c0 = (u.image0 * p->oh + u.row0 * p->makes) * p->ow * p->o;
    }
    u.tiles = u.images * u.rows * p->tiles_w;
    for (int64_t i = 0; i < u.tiles; i++) {
        u.rows_from[i] = u.v + i * p->ldv;
        u.rows_to[i] = u.products + i * p->ldm;
    }
    transform_input(j, &u, f);
    look_ahead(j, &u, f, task + j->ahead);
    for (int i = 0; i < winograd_filters(f); i++)
        for (int k = 0; k < winograd_filters(f); k++) multiply(j, &u, i, k);
    transform_outputs(j, &u, f);
    finish(j, &u);
}

/* ---- implementations ---- */

#define FOR_ALL_FORMS(X)                                                                           \
    X(WINOGRAD_2)                                                                                  \
    X(WINOGRAD_4)                                                                                  \
    X(WINOGRAD_2_STRIDED) X(WINOGRAD_4_STRIDED) X(WINOGRAD_2_SPREAD) X(WINOGRAD_4_SPREAD)

#define DEFINE_TASKS(FORM)                                                                         \
    static void filters_##FORM(void *ctx, int64_t task, int worker)                                \
    {                                                                                              \
        transform_filters(ctx, FORM, task);                                                        \
    }                                                                                              \
    static void unit_##FORM(void *ctx, int64_t task, int worker)                                   \
    {                                                                                              \
        do_unit(ctx, FORM, task, worker);                                                          \
    }
FOR_ALL_FORMS(DEFINE_TASKS)

#define ENTRY(FORM) [FORM] = {filters_##FORM, unit_##FORM},
static const struct {
    gb_pool_fn filters, unit;
} tasks[WINOGRAD_FORMS] = {FOR_ALL_FORMS(ENTRY)};

static gb_status prepare_for(gb_contraction_plan *plan, int m)
{
    winograd p = winograd_of(&plan->problem, m);
    int64_t floats = p.filters * p.panels * p.panel_floats + p.zeros +
                     gb_pool_workers(plan->cpu.pool) * p.worker_floats;
    plan->scratch_bytes = (size_t)floats * sizeof(float);
    plan->packed_bytes = (size_t)(p.filters * p.panels * p.panel_floats) * sizeof(float);
    return GB_OK;
}

static void run_for(const gb_contraction_plan *plan, const gb_contraction_args *args, int m)
{
    winograd p = winograd_of(&plan->problem, m);
    job j = {&p, args, args->scratch, NULL, NULL};
    j.ahead = gb_pool_workers(plan->cpu.pool);
    j.zeros = j.filters + p.filters * p.panels * p.panel_floats;
    j.workers = j.zeros + p.zeros;
    memset(j.zeros, 0, (size_t)p.zeros * sizeof(float));
    if (args->packed) j.filters = args->packed;
    if (!args->ready)
        gb_pool_run(plan->cpu.pool, p.panels * ceil_div(p.c, 16), tasks[p.form].filters, &j);
    gb_pool_run(plan->cpu.pool, p.image_groups * p.bands * p.column_blocks, tasks[p.form].unit, &j);
}

static bool can_2(const gb_cpu *cpu, const gb_contraction *p)
{
    return winograd_fits(p) && p->kind != GB_CONV_WEIGHTS;
}

static bool can_4(const gb_cpu *cpu, const gb_contraction *p)
{
    return cpu->fast_winograd && can_2(cpu, p);
}

static bool wins_2(const gb_contraction *p)
{
    return winograd_pays(p, 2, p->b_stays ? 16 : 32);
}

static bool wins_4(const gb_contraction *p)
{
    return winograd_pays(p, 4, 16);
}

static gb_status prepare_2(gb_contraction_plan *plan, gb_error *err)
{
    return prepare_for(plan, 2);
}

static gb_status prepare_4(gb_contraction_plan *plan, gb_error *err)
{
    return prepare_for(plan, 4);
}

static void run_2(const gb_contraction_plan *plan, const gb_contraction_args *args)
{
    run_for(plan, args, 2);
}

static void run_4(const gb_contraction_plan *plan, const gb_contraction_args *args)
{
    run_for(plan, args, 4);
}

const gb_contraction_impl LEVEL(gb_contraction_winograd2) = {.name = "winograd2",
                                                             .small = GB_SMALL_FACTORS |
                                                                      GB_SMALL_RESULT,
                                                             .can = can_2,
                                                             .wins = wins_2,
                                                             .prepare = prepare_2,
                                                             .run = run_2};
const gb_contraction_impl LEVEL(gb_contraction_winograd4) = {.name = "winograd4",
                                                             .small = GB_SMALL_FACTORS |
                                                                      GB_SMALL_RESULT,
                                                             .can = can_4,
                                                             .wins = wins_4,
                                                             .prepare = prepare_4,
                                                             .run = run_4};
