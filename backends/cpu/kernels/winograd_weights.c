/* Winograd convolution backward to the weights. The sum over tiles happens between
 * transformed operands, so dw is transformed back only once.
 *
 * A task is a part of the tiles for a block of output and of input channels. It transforms some
 * tiles and multiplies them at once, in its worker's own scratch: transformed tiles that another
 * core wrote cost two to three times as much where the cores do not share their last cache. */
#include <string.h>

#include "backends/cpu/kernels/winograd.h"

enum { CHANNELS = 128 /* of a block */, TILES_MIN = 64, TILES_MAX = 128, TASKS_WANTED = 16 };
#define PARTS_BYTES (24 << 20) /* of all transformed dw together */

typedef struct {
    gb_conv_dims d;
    gb_real type; /* of dy and x */
    bool accumulate;
    winograd_form form;
    int products, filters; /* of a tile */
    int64_t tiles_h, tiles_w, tiles;
    int64_t parts, o_blocks, c_blocks;
    int64_t run;                /* tiles at a time */
    int64_t ldx, ldy;           /* from tile to tile: transformed x and dy */
    int64_t stride_x, stride_y; /* from product to product */
    int64_t stride_w;           /* from filter to filter */
    int64_t ldw, part_floats, worker_floats, zeros;
} plan;

/* Channels up to block i of `blocks`, which are whole vectors but for the last. */
static int64_t block_start(int64_t channels, int64_t blocks, int64_t i)
{
    return min_of(channels, ceil_div(channels, LANES) * i / blocks * LANES);
}

static int64_t widest(int64_t channels, int64_t blocks)
{
    return ceil_div(ceil_div(channels, LANES), blocks) * LANES;
}

static plan plan_of(const gb_contraction *problem, int m)
{
    const gb_conv_dims *d = &problem->conv;
    winograd_form f = winograd_form_of(problem, m);
    plan p = {.d = *d,
              .type = problem->a_type,
              .accumulate = problem->accumulate,
              .form = f,
              .products = winograd_products(f) * winograd_products(f),
              .filters = winograd_filters(f) * winograd_filters(f)};
    p.tiles_h = ceil_div(d->oh, m), p.tiles_w = ceil_div(d->ow, m);
    p.tiles = d->n * p.tiles_h * p.tiles_w;
    p.o_blocks = ceil_div(d->o, CHANNELS), p.c_blocks = ceil_div(d->c, CHANNELS);
    p.ldx = winograd_pitch(widest(d->c, p.c_blocks));
    p.ldy = winograd_pitch(widest(d->o, p.o_blocks));
    /* As many as a block has channels: a run then reads and writes dw's part as seldom as x. */
    p.run = widest(d->c, p.c_blocks);
    p.run = p.run < TILES_MIN ? TILES_MIN : min_of(p.run, TILES_MAX);
    p.stride_x = p.run * p.ldx + WINOGRAD_PAD;
    p.stride_y = p.run * p.ldy + WINOGRAD_PAD;
    p.worker_floats = round_up(p.products * (p.stride_x + p.stride_y), 16);
    p.ldw = round_up(d->c, LANES);
    p.stride_w = d->o * p.ldw + WINOGRAD_PAD;
    p.part_floats = round_up(p.filters * p.stride_w, 16);
    int64_t blocks = p.o_blocks * p.c_blocks, fit = PARTS_BYTES / (p.part_floats * 4);
    for (p.parts = 1; p.parts * blocks < TASKS_WANTED && 2 * p.parts <= fit;) p.parts *= 2;
    p.parts = min_of(p.parts, ceil_div(p.tiles, TILES_MIN));
    if (p.parts < 1) p.parts = 1;
    p.zeros = round_up(d->c > d->o ? d->c : d->o, 16);
    return p;
}

typedef struct {
    const plan *p;
    const gb_contraction_args *args;
    float *parts, *zeros, *workers;
} job;

/* What a task works on: channels o0 .. o1 and c0 .. c1 of some tiles. */
typedef struct {
    int64_t o0, o1, c0, c1;
    float *x, *dy, *dw;
    winograd_ahead next_x, next_dy; /* of the tiles after those at hand */
    bool accumulate;
} unit;

/* Which row and column of tiles, and the images it belongs to. */
typedef struct {
    winograd_image x, dy;
    int64_t ty, tx;
} place;

WINOGRAD place place_of(const job *j, const unit *u, gb_real type, int64_t tile)
{
    const plan *p = j->p;
    const gb_conv_dims *d = &p->d;
    int64_t row = tile / p->tiles_w, image = row / p->tiles_h;
    const float *x = real_at(type, j->args->b, image * d->h * d->w * d->c + u->c0);
    const float *dy = real_at(type, j->args->a, image * d->oh * d->ow * d->o + u->o0);
    return (place){{type, x, j->zeros, d->h, d->w, u->c1 - u->c0, d->c},
                   {type, dy, j->zeros, d->oh, d->ow, u->o1 - u->o0, d->o},
                   row % p->tiles_h,
                   tile % p->tiles_w};
}

WINOGRAD void transform_tiles(const job *j, const unit *u, winograd_form f, gb_real type,
                              int64_t first, int64_t count)
{
    const int m = winograd_m(f), reads = winograd_reads(f), advance = winograd_advance(f);
    const plan *p = j->p;
    int64_t top = p->d.pad_top, left = p->d.pad_left;
    for (int64_t i = 0; i < count; i++) {
        place at = place_of(j, u, type, first + i);
        winograd_square_at(winograd_input_1d, f, reads, &at.x, at.ty * advance - top,
                           at.tx * advance - left, u->x + i * p->ldx, p->stride_x);
        winograd_square_at(winograd_output_gradient_1d, f, m, &at.dy, at.ty * m, at.tx * m,
                           u->dy + i * p->ldy, p->stride_y);
    }
}

WINOGRAD void transform(const job *j, const unit *u, winograd_form f, int64_t first, int64_t count)
{
    switch (j->p->type) {
    case GB_REAL_F32:
        transform_tiles(j, u, f, GB_REAL_F32, first, count);
        break;
    case GB_REAL_F16:
        transform_tiles(j, u, f, GB_REAL_F16, first, count);
        break;
    case GB_REAL_BF16:
        transform_tiles(j, u, f, GB_REAL_BF16, first, count);
        break;
    }
}

/* The sum over all products that have the filter of row i and column k of their square. */
static void multiply(const plan *p, unit *u, int i, int k, int64_t tiles)
{
    int64_t side = winograd_products(p->form), first = i * side + k;
    const float *x = u->x + first * p->stride_x, *dy = u->dy + first * p->stride_y;
    float *dw = u->dw + (i * winograd_filters(p->form) + k) * p->stride_w;
    int64_t rows = u->o1 - u->o0, width = round_up(u->c1 - u->c0, LANES);
    int64_t strips = ceil_div(rows, TILE_ROWS);
    tile_steps steps = {{winograd_sharing(p->form, i), winograd_sharing(p->form, k), tiles},
                        {side * p->stride_y, p->stride_y, p->ldy},
                        {side * p->stride_x, p->stride_x, p->ldx}};
    for (int64_t col = 0; col < width; col += TILE_COLS)
        for (int64_t s = 0; s < strips; s++) {
            int64_t o = rows * s / strips, until = rows * (s + 1) / strips;
            float *c[TILE_ROWS];
            for (int64_t r = o; r < until; r++) c[r - o] = dw + (u->o0 + r) * p->ldw + u->c0;
            tile_out out = {c, col, (int)(until - o), (int)min_of(TILE_COLS, width - col),
                            u->accumulate};
            winograd_bring(&u->next_x, false);
            winograd_bring(&u->next_dy, false);
            LEVEL(gb_tile_columns)(&out, dy + o, x + col, &steps);
        }
}

/* What the `count` tiles from `first` on will read. */
WINOGRAD void look_ahead(const job *j, unit *u, winograd_form f, int64_t first, int64_t count)
{
    const plan *p = j->p;
    const gb_conv_dims *d = &p->d;
    const int m = winograd_m(f), reads = winograd_reads(f), advance = winograd_advance(f);
    u->next_x = u->next_dy = (winograd_ahead){0};
    if (count <= 0) return;
    int64_t last = first + count - 1, image = p->tiles_w * p->tiles_h;
    int64_t images = last / image - first / image;
    int64_t calls =
        p->filters * ceil_div(u->o1 - u->o0, TILE_ROWS) * ceil_div(u->c1 - u->c0, TILE_COLS);
    place from = place_of(j, u, p->type, first), to = place_of(j, u, p->type, last);
    int64_t y0 = from.ty * advance - d->pad_top, y1 = to.ty * advance - d->pad_top + reads;
    u->next_x =
        winograd_rows_ahead(&from.x, y0 < 0 ? 0 : y0, images * d->h + min_of(y1, d->h), calls);
    u->next_dy = winograd_rows_ahead(&from.dy, from.ty * m,
                                     images * d->oh + min_of(to.ty * m + m, d->oh), calls);
}

WINOGRAD void do_task(const job *j, winograd_form f, int64_t task, int worker)
{
    const plan *p = j->p;
    int64_t ob = task % p->o_blocks, cb = task / p->o_blocks % p->c_blocks;
    int64_t part = task / (p->o_blocks * p->c_blocks);
    unit u = {.o0 = block_start(p->d.o, p->o_blocks, ob),
              .o1 = block_start(p->d.o, p->o_blocks, ob + 1),
              .c0 = block_start(p->d.c, p->c_blocks, cb),
              .c1 = block_start(p->d.c, p->c_blocks, cb + 1),
              .x = j->workers + worker * p->worker_floats,
              .dw = j->parts + part * p->part_floats};
    u.dy = u.x + p->products * p->stride_x;
    int64_t first = p->tiles * part / p->parts, last = p->tiles * (part + 1) / p->parts;
    do { /* once at least: an empty sum is zero */
        int64_t count = min_of(p->run, last - first);
        transform(j, &u, f, first, count);
        look_ahead(j, &u, f, first + count, min_of(p->run, last - first - count));
        for (int i = 0; i < winograd_filters(f); i++)
            for (int k = 0; k < winograd_filters(f); k++) multiply(p, &u, i, k, count);
        u.accumulate = true;
        first += count;
    } while (first < last);
}

/* The sum of all parts at the vector of channels c of output channel o, for every filter. */
WINOGRAD void sum_parts(const job *j, int filters, int64_t o, int64_t c, vec *g)
{
    const plan *p = j->p;
    const float *from = j->parts + o * p->ldw + c;
    for (int k = 0; k < filters; k++) g[k] = load(from + k * p->stride_w);
    for (int64_t part = 1; part < p->parts; part++) {
        from += p->part_floats;
        for (int k = 0; k < filters; k++) g[k] += load(from + k * p->stride_w);
    }
}

/* One output channel's filter. */
WINOGRAD void transform_back(const job *j, winograd_form f, int64_t o)
{
    const plan *p = j->p;
    const int a = winograd_filters(f);
    int64_t c = p->d.c, filter = 9 * c;
    float *to = j->args->c + o * filter;
    for (int64_t i = 0; i < c; i += LANES) {
        vec g[WINOGRAD_SQUARE];
        int64_t first = winograd_channel(i, c);
        sum_parts(j, a * a, o, first, g);
        winograd_2d(winograd_filter_gradient_1d, f, a, 3, a, g);
        for (int k = 0; k < 9; k++) {
            float *at = to + k * c + first;
            vec v = g[k / 3 * a + k % 3];
            store(at, p->accumulate ? load(at) + v : v);
        }
    }
    gb_epilogue_apply(&j->args->epilogue, to, o, 1, 0, filter, filter);
}

#define FOR_ALL_FORMS(X) X(WINOGRAD_2) X(WINOGRAD_4) X(WINOGRAD_2_STRIDED) X(WINOGRAD_4_STRIDED)

#define DEFINE_TASKS(FORM)                                                                         \
    static void task_##FORM(void *ctx, int64_t task, int worker)                                   \
    {                                                                                              \
        do_task(ctx, FORM, task, worker);                                                          \
    }                                                                                              \
    static void back_##FORM(void *ctx, int64_t o, int worker)                                      \
    {                                                                                              \
        transform_back(ctx, FORM, o);                                                              \
    }
FOR_ALL_FORMS(DEFINE_TASKS)

#define ENTRY(FORM) [FORM] = {task_##FORM, back_##FORM},
static const struct {
    gb_pool_fn task, back;
} tasks[WINOGRAD_FORMS] = {FOR_ALL_FORMS(ENTRY)};

static gb_status prepare_for(gb_contraction_plan *plan_made, int m)
{
    plan p = plan_of(&plan_made->problem, m);
    int64_t floats =
        p.parts * p.part_floats + p.zeros + gb_pool_workers(plan_made->cpu.pool) * p.worker_floats;
    plan_made->scratch_bytes = (size_t)floats * sizeof(float);
    return GB_OK;
}

static void run_for(const gb_contraction_plan *plan_made, const gb_contraction_args *args, int m)
{
    plan p = plan_of(&plan_made->problem, m);
    gb_pool *pool = plan_made->cpu.pool;
    job j = {&p, args, args->scratch, NULL, NULL};
    j.zeros = j.parts + p.parts * p.part_floats;
    j.workers = j.zeros + p.zeros;
    memset(j.zeros, 0, (size_t)p.zeros * sizeof(float));
    gb_pool_run(pool, p.parts * p.o_blocks * p.c_blocks, tasks[p.form].task, &j);
    gb_pool_run(pool, p.d.o, tasks[p.form].back, &j);
}

static bool can_2(const gb_cpu *cpu, const gb_contraction *p)
{
    return p->kind == GB_CONV_WEIGHTS && winograd_fits(p);
}

static bool can_4(const gb_cpu *cpu, const gb_contraction *p)
{
    return cpu->fast_winograd && can_2(cpu, p);
}

static bool wins_2(const gb_contraction *p)
{
    return winograd_pays(p, 2, 16);
}

static bool wins_4(const gb_contraction *p)
{
    return winograd_pays(p, 4, 16);
}

static gb_status prepare_2(gb_contraction_plan *plan_made, gb_error *err)
{
    return prepare_for(plan_made, 2);
}

static gb_status prepare_4(gb_contraction_plan *plan_made, gb_error *err)
{
    return prepare_for(plan_made, 4);
}

static void run_2(const gb_contraction_plan *plan_made, const gb_contraction_args *args)
{
    run_for(plan_made, args, 2);
}

static void run_4(const gb_contraction_plan *plan_made, const gb_contraction_args *args)
{
    run_for(plan_made, args, 4);
}

const gb_contraction_impl LEVEL(gb_contraction_winograd2_weights) = {.name = "winograd2",
                                                                     .small = GB_SMALL_FACTORS,
                                                                     .can = can_2,
                                                                     .wins = wins_2,
                                                                     .prepare = prepare_2,
                                                                     .run = run_2};
const gb_contraction_impl LEVEL(gb_contraction_winograd4_weights) = {.name = "winograd4",
                                                                     .small = GB_SMALL_FACTORS,
                                                                     .can = can_4,
                                                                     .wins = wins_4,
                                                                     .prepare = prepare_4,
                                                                     .run = run_4};
