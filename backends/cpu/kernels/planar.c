/* Convolution backward to the weights for images of few channels (first layers): one plane a
 * channel, so that along a row of pixels each tap of each channel is contiguous. A tile has taps
 * for rows and output channels for columns; its k runs over pixels. What it collects is dw
 * transposed, [channel][tap][o]; the batch is cut into parts that are summed in order at the end.
 */
#include <string.h>

#include "backends/cpu/kernels/impl.h"
#include "backends/cpu/kernels/real.h"

enum { CHANNELS_MAX = 4, PARTS = 64, BAND_PIXELS = 2048, BAND_ROWS_MAX = 256 };

typedef struct {
    gb_conv_dims d;
    gb_real type; /* of dy and x */
    bool accumulate;
    int64_t taps, parts, band; /* band: rows of y at a time */
    int64_t rows, pitch;       /* of a plane of a band */
    int64_t part_floats, plane_floats, worker_floats;
} planar;

static planar planar_of(const gb_contraction *problem)
{
    const gb_conv_dims *d = &problem->conv;
    planar p = {.d = *d,
                .type = problem->a_type,
                .accumulate = problem->accumulate,
                .taps = d->c * d->kh * d->kw};
    p.parts = d->n < 1 ? 1 : min_of(d->n, PARTS);
    p.band = min_of(d->oh, min_of(ceil_div(BAND_PIXELS, d->ow > 0 ? d->ow : 1), BAND_ROWS_MAX));
    p.rows = (p.band - 1) * d->stride_h + (d->kh - 1) * d->dilation_h + 1;
    p.pitch = d->ow + (d->kw - 1) * d->dilation_w;
    p.part_floats = round_up(p.taps * d->o, 16);
    p.plane_floats = round_up(d->c * p.rows * p.pitch, 16);
    p.worker_floats = p.plane_floats;
    if (p.type != GB_REAL_F32) /* a band of dy and a row of x in f32 */
        p.worker_floats += round_up(p.band * d->ow * d->o, 16) + round_up(d->w * d->c, 16);
    return p;
}

typedef struct {
    const planar *p;
    const gb_contraction_args *args;
    float *parts, *planes;
} job;

/* wide: where a row of x is widened. */
static void copy_planes(const job *j, int64_t image, int64_t y0, float *to, float *wide)
{
    const planar *p = j->p;
    const gb_conv_dims *d = &p->d;
    int64_t x0 = -d->pad_left, from = x0 < 0 ? min_of(-x0, p->pitch) : 0;
    int64_t until = min_of(p->pitch, d->w - x0);
    for (int64_t r = 0; r < p->rows; r++, to += p->pitch) {
        bool inside = y0 + r >= 0 && y0 + r < d->h;
        int64_t at = ((image * d->h + y0 + r) * d->w) * d->c;
        const float *row = wide;
        if (inside && p->type != GB_REAL_F32) real_read(p->type, wide, j->args->b, at, d->w * d->c);
        if (inside && p->type == GB_REAL_F32) row = j->args->b + at;
        for (int64_t c = 0; c < d->c; c++) {
            float *plane = to + c * p->rows * p->pitch;
            memset(plane, 0, (size_t)p->pitch * sizeof *plane);
            for (int64_t x = from; inside && x < until; x++) plane[x] = row[(x0 + x) * d->c + c];
        }
    }
}

/* Adds rows y0 .. y0 + rows of dy of one image to a part. */
static void add_band(const planar *p, const float *planes, const float *dy, int64_t rows,
                     float *sum, bool accumulate)
{
    const gb_conv_dims *d = &p->d;
    int64_t offset[BAND_ROWS_MAX], tiles = ceil_div(p->taps, TILE_ROWS), kernel = d->kh * d->kw;
    for (int64_t r = 0; r < rows; r++) offset[r] = r * d->stride_h * p->pitch;
    for (int64_t col = 0; col < d->o; col += TILE_COLS)
        for (int64_t t = 0; t < tiles; t++) {
            int64_t first = p->taps * t / tiles, count = p->taps * (t + 1) / tiles - first;
            const float *a[TILE_ROWS];
            float *c[TILE_ROWS];
            for (int64_t i = 0; i < count; i++) {
                int64_t tap = (first + i) % kernel, plane = (first + i) / kernel;
                a[i] = planes + (plane * p->rows + tap / d->kw * d->dilation_h) * p->pitch +
                       tap % d->kw * d->dilation_w;
                c[i] = sum + (first + i) * d->o;
            }
            tile_out out = {c, col, (int)count, (int)min_of(TILE_COLS, d->o - col), accumulate};
            LEVEL(gb_tile_rows)(&out, a, offset, rows, d->ow, dy + col, d->o);
        }
}

static void do_part(void *ctx, int64_t part, int worker)
{
    const job *j = ctx;
    const planar *p = j->p;
    const gb_conv_dims *d = &p->d;
    float *planes = j->planes + worker * p->worker_floats, *sum = j->parts + part * p->part_floats;
    float *band = planes + p->plane_floats, *row = band + round_up(p->band * d->ow * d->o, 16);
    int64_t first = d->n * part / p->parts, last = d->n * (part + 1) / p->parts;
    bool any = false;
    for (int64_t i = first; i < last; i++)
        for (int64_t y = 0; y < d->oh; y += p->band) {
            int64_t rows = min_of(p->band, d->oh - y), at = (i * d->oh + y) * d->ow * d->o;
            copy_planes(j, i, y * d->stride_h - d->pad_top, planes, row);
            if (p->type != GB_REAL_F32)
                real_read(p->type, band, j->args->a, at, rows * d->ow * d->o);
            add_band(p, planes, p->type == GB_REAL_F32 ? j->args->a + at : band, rows, sum, any);
            any = true;
        }
    if (!any) memset(sum, 0, (size_t)p->part_floats * sizeof *sum);
}

static void sum_parts(void *ctx, int64_t o, int worker)
{
    const job *j = ctx;
    const planar *p = j->p;
    int64_t kernel = p->d.kh * p->d.kw;
    float *to = j->args->c + o * p->taps;
    for (int64_t i = 0; i < p->taps; i++) { /* to[tap][channel] */
        const float *from = j->parts + (i % p->d.c * kernel + i / p->d.c) * p->d.o + o;
        float sum = p->accumulate ? to[i] : 0;
        for (int64_t part = 0; part < p->parts; part++) sum += from[part * p->part_floats];
        to[i] = sum;
    }
    gb_epilogue_apply(&j->args->epilogue, to, o, 1, 0, p->taps, p->taps);
}

static bool can(const gb_cpu *cpu, const gb_contraction *problem)
{
    const gb_conv_dims *d = &problem->conv;
    return problem->kind == GB_CONV_WEIGHTS && d->groups == 1 && d->c <= CHANNELS_MAX &&
           d->stride_w == 1 && d->o % LANES == 0;
}

static gb_status prepare(gb_contraction_plan *plan, gb_error *err)
{
    planar p = planar_of(&plan->problem);
    int64_t floats = p.parts * p.part_floats + gb_pool_workers(plan->cpu.pool) * p.worker_floats;
    plan->scratch_bytes = (size_t)floats * sizeof(float);
    return GB_OK;
}

static void run(const gb_contraction_plan *plan, const gb_contraction_args *args)
{
    planar p = planar_of(&plan->problem);
    job j = {&p, args, args->scratch};
    j.planes = j.parts + p.parts * p.part_floats;
    gb_pool_run(plan->cpu.pool, p.parts, do_part, &j);
    gb_pool_run(plan->cpu.pool, p.d.o, sum_parts, &j);
}

const gb_contraction_impl LEVEL(gb_contraction_planar) = {
    .name = "planar", .small = GB_SMALL_FACTORS, .can = can, .prepare = prepare, .run = run};
