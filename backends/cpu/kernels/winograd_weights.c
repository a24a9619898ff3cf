/* Winograd convolution F(m x m, 3 x 3) backward to the weights. The sum over tiles happens between
 * transformed operands, so dw is transformed back only once. A chunk of tiles at a time: all
 * threads transform, then all multiply. */
#include <string.h>

#include "backends/cpu/kernels/winograd.h"

enum { TILES_MIN = 128, ROWS = 48, DEPTH = 128 };
#define CHUNK_BYTES (2 << 20) /* of transformed operands: they pass through the shared cache */

typedef struct {
    gb_conv_dims d;
    bool accumulate;
    int m, positions;
    int64_t tiles_h, tiles_w;
    int64_t chunk, chunks;      /* rows of tiles of all images */
    int64_t ldx, ldy;           /* from tile to tile: transformed x and dy */
    int64_t stride_x, stride_y; /* from position to position */
    int64_t stride_w, blocks;   /* dw from position to position; blocks of output channels */
    int64_t zeros;
} plan;

static plan plan_of(const gb_contraction *problem, int m)
{
    const gb_conv_dims *d = &problem->conv;
    plan p = {.d = *d, .accumulate = problem->accumulate, .m = m, .positions = (m + 2) * (m + 2)};
    p.tiles_h = ceil_div(d->oh, m), p.tiles_w = ceil_div(d->ow, m);
    p.ldx = d->c + WINOGRAD_PAD, p.ldy = d->o + WINOGRAD_PAD;
    int64_t rows = d->n * p.tiles_h, tiles = CHUNK_BYTES / (4 * p.positions * (p.ldx + p.ldy));
    if (tiles < TILES_MIN) tiles = TILES_MIN;
    p.chunk = p.tiles_w ? ceil_div(tiles, p.tiles_w) : 1;
    p.chunks = ceil_div(rows, p.chunk);
    if (p.chunks) p.chunk = ceil_div(rows, p.chunks);
    p.stride_x = p.chunk * p.tiles_w * p.ldx + WINOGRAD_PAD;
    p.stride_y = p.chunk * p.tiles_w * p.ldy + WINOGRAD_PAD;
    p.stride_w = d->o * d->c;
    p.blocks = ceil_div(d->o, ROWS);
    p.zeros = round_up(d->c > d->o ? d->c : d->o, 16);
    return p;
}

typedef struct {
    const plan *p;
    const gb_contraction_args *args;
    float *x, *dy, *dw, *zeros;
    int64_t row0, rows; /* of the chunk */
} job;

WINOGRAD void transform_row(const job *j, int m, int64_t task)
{
    const plan *p = j->p;
    const gb_conv_dims *d = &p->d;
    int64_t row = j->row0 + task, image = row / p->tiles_h, ty = row % p->tiles_h * m;
    winograd_image x = {j->args->b + image * d->h * d->w * d->c, j->zeros, d->h, d->w, d->c};
    winograd_image dy = {j->args->a + image * d->oh * d->ow * d->o, j->zeros, d->oh, d->ow, d->o};
    for (int64_t i = 0; i < p->tiles_w; i++) {
        int64_t tile = task * p->tiles_w + i;
        winograd_square_at(winograd_input_1d, m, m + 2, &x, ty - d->pad_top, i * m - d->pad_left,
                           j->x + tile * p->ldx, p->stride_x);
        winograd_square_at(winograd_output_gradient_1d, m, m, &dy, ty, i * m, j->dy + tile * p->ldy,
                           p->stride_y);
    }
}

static void transform_row_2(void *ctx, int64_t task, int worker)
{
    transform_row(ctx, 2, task);
}

static void transform_row_4(void *ctx, int64_t task, int worker)
{
    transform_row(ctx, 4, task);
}

/* A block of output channels at one position. */
static void multiply(void *ctx, int64_t task, int worker)
{
    const job *j = ctx;
    const plan *p = j->p;
    int64_t position = task / p->blocks, block = task % p->blocks, tiles = j->rows * p->tiles_w;
    int64_t o0 = p->d.o * block / p->blocks, o1 = p->d.o * (block + 1) / p->blocks;
    const float *x = j->x + position * p->stride_x, *dy = j->dy + position * p->stride_y;
    float *dw = j->dw + position * p->stride_w;
    int64_t strips = ceil_div(o1 - o0, TILE_ROWS), k0 = 0;
    do { /* once at least: an empty sum is zero */
        tile_steps steps = {{1, 1, min_of(DEPTH, tiles - k0)}, {0, 0, p->ldy}, {0, 0, p->ldx}};
        for (int64_t col = 0; col < p->d.c; col += TILE_COLS)
            for (int64_t s = 0; s < strips; s++) {
                int64_t o = o0 + (o1 - o0) * s / strips, until = o0 + (o1 - o0) * (s + 1) / strips;
                float *c[TILE_ROWS];
                for (int64_t i = o; i < until; i++) c[i - o] = dw + i * p->d.c;
                tile_out out = {c, col, (int)(until - o), (int)min_of(TILE_COLS, p->d.c - col),
                                j->row0 > 0 || k0 > 0};
                LEVEL(gb_tile_columns)(&out, dy + k0 * p->ldy + o, x + k0 * p->ldx + col, &steps);
            }
        k0 += DEPTH;
    } while (k0 < tiles);
}

/* One output channel's filter. */
WINOGRAD void transform_back(const job *j, int m, int64_t o)
{
    const plan *p = j->p;
    const int a = m + 2;
    int64_t c = p->d.c, filter = 9 * c;
    float *to = j->args->c + o * filter;
    for (int64_t i = 0; i < c; i += LANES) {
        vec g[WINOGRAD_POSITIONS];
#pragma GCC unroll 36
        for (int k = 0; k < a * a; k++) g[k] = load(j->dw + k * p->stride_w + o * c + i);
        winograd_2d(winograd_filter_gradient_1d, m, a, 3, g);
        for (int k = 0; k < 9; k++) {
            float *at = to + k * c + i;
            vec v = g[k / 3 * a + k % 3];
            store(at, p->accumulate ? load(at) + v : v);
        }
    }
    gb_epilogue_apply(&j->args->epilogue, to, o, 1, 0, filter, filter);
}

static void transform_back_2(void *ctx, int64_t task, int worker)
{
    transform_back(ctx, 2, task);
}

static void transform_back_4(void *ctx, int64_t task, int worker)
{
    transform_back(ctx, 4, task);
}

static gb_status prepare_for(gb_contraction_plan *plan_made, int m)
{
    plan p = plan_of(&plan_made->problem, m);
    plan_made->scratch_bytes =
        sizeof(float) * (size_t)(p.positions * (p.stride_x + p.stride_y + p.stride_w) + p.zeros);
    return GB_OK;
}

static void run_for(const gb_contraction_plan *plan_made, const gb_contraction_args *args, int m)
{
    plan p = plan_of(&plan_made->problem, m);
    gb_pool *pool = plan_made->cpu.pool;
    job j = {&p, args, args->scratch};
    j.dy = j.x + p.positions * p.stride_x;
    j.dw = j.dy + p.positions * p.stride_y;
    j.zeros = j.dw + p.positions * p.stride_w;
    memset(j.zeros, 0, (size_t)p.zeros * sizeof(float));
    int64_t rows = p.d.n * p.tiles_h;
    do { /* once at least: an empty sum is zero */
        j.rows = min_of(p.chunk, rows - j.row0);
        gb_pool_run(pool, j.rows, m == 2 ? transform_row_2 : transform_row_4, &j);
        gb_pool_run(pool, p.positions * p.blocks, multiply, &j);
        j.row0 += p.chunk;
    } while (j.row0 < rows);
    gb_pool_run(pool, p.d.o, m == 2 ? transform_back_2 : transform_back_4, &j);
}

static bool can_2(const gb_cpu *cpu, const gb_contraction *p)
{
    return p->kind == GB_CONV_WEIGHTS && winograd_fits(p);
}

static bool can_4(const gb_cpu *cpu, const gb_contraction *p)
{
    return cpu->fast_winograd && can_2(cpu, p);
}

static bool wins(const gb_contraction *p)
{
    return min_of(p->conv.c, p->conv.o) >= 32;
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

const gb_contraction_impl LEVEL(gb_contraction_winograd2_weights) = {
    .name = "winograd2", .can = can_2, .wins = wins, .prepare = prepare_2, .run = run_2};
const gb_contraction_impl LEVEL(gb_contraction_winograd4_weights) = {
    .name = "winograd4", .can = can_4, .wins = wins, .prepare = prepare_4, .run = run_4};
