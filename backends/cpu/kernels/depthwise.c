/* Depthwise convolutions (one filter a channel): bound by memory, so vectors of channels and no
 * packing but of the filters, which are laid out [tap][channel]. */
#include <string.h>

#include "backends/cpu/kernels/impl.h"
#include "backends/cpu/kernels/level.h"

enum { PARTS = 64, TAPS_AT_ONCE = 64 };

typedef struct {
    const gb_contraction *problem;
    const gb_conv_dims *d;
    const gb_contraction_args *args;
    float *filters; /* [tap][channel]; backward to the weights: parts of it */
    int64_t taps, parts;
} job;

static bool can(const gb_cpu *cpu, const gb_contraction *problem)
{
    const gb_conv_dims *d = &problem->conv;
    return problem->kind != GB_GEMM && d->groups == d->c && d->c == d->o && d->c > 1;
}

static int64_t parts_of(const gb_conv_dims *d)
{
    int64_t rows = d->n * d->oh;
    return rows < 1 ? 1 : min_of(rows, PARTS);
}

/* The pixels that one pixel sums, with the filters they are multiplied by. */
typedef struct {
    const float *from[TAPS_AT_ONCE], *filter[TAPS_AT_ONCE];
    int count;
} sources;

/* The output position that reads input position `at` through a tap at `offset`, or -1. */
static int64_t reader(int64_t at, int64_t offset, int64_t stride, int64_t outs)
{
    int64_t x = at - offset;
    return x >= 0 && x % stride == 0 && x / stride < outs ? x / stride : -1;
}

/* Taps first .. first + TAPS_AT_ONCE of the pixel (y, x) of the destination. */
static void find_sources(const job *j, int64_t image, int64_t y, int64_t x, int64_t first,
                         sources *s)
{
    const gb_conv_dims *d = j->d;
    bool back = j->problem->kind == GB_CONV_DATA;
    int64_t h = back ? d->oh : d->h, w = back ? d->ow : d->w;
    s->count = 0;
    for (int64_t t = first; t < min_of(first + TAPS_AT_ONCE, j->taps); t++) {
        int64_t fy = t / d->kw * d->dilation_h - d->pad_top;
        int64_t fx = t % d->kw * d->dilation_w - d->pad_left;
        int64_t sy = back ? reader(y, fy, d->stride_h, d->oh) : y * d->stride_h + fy;
        int64_t sx = back ? reader(x, fx, d->stride_w, d->ow) : x * d->stride_w + fx;
        if (sy < 0 || sy >= h || sx < 0 || sx >= w) continue;
        s->from[s->count] = j->args->a + ((image * h + sy) * w + sx) * d->c;
        s->filter[s->count++] = j->filters + t * d->c;
    }
}

static void sum_sources(const sources *s, float *to, int64_t channels, bool accumulate)
{
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) {
        vec acc = {0};
        if (accumulate) acc = load(to + c);
        for (int t = 0; t < s->count; t++) acc += load(s->from[t] + c) * load(s->filter[t] + c);
        store(to + c, acc);
    }
    for (; c < channels; c++) {
        float acc = accumulate ? to[c] : 0;
        for (int t = 0; t < s->count; t++) acc += s->from[t][c] * s->filter[t][c];
        to[c] = acc;
    }
}

/* One row of the destination. */
static void do_row(void *ctx, int64_t row, int worker)
{
    const job *j = ctx;
    const gb_conv_dims *d = j->d;
    bool back = j->problem->kind == GB_CONV_DATA;
    int64_t h = back ? d->h : d->oh, w = back ? d->w : d->ow;
    float *to = j->args->c + row * w * d->c;
    for (int64_t x = 0; x < w; x++)
        for (int64_t first = 0; first < j->taps; first += TAPS_AT_ONCE) {
            sources s;
            find_sources(j, row / h, row % h, x, first, &s);
            sum_sources(&s, to + x * d->c, d->c, j->problem->accumulate || first > 0);
        }
    gb_epilogue_apply(&j->args->epilogue, to, row * w, w, 0, d->c, d->c);
}

/* sum[c] += the products of `count` pixels. */
static void add_products(float *sum, const float *dy, const float *x, int64_t count, int64_t x_step,
                         int64_t channels)
{
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) {
        vec acc = load(sum + c);
        for (int64_t i = 0; i < count; i++)
            acc += load(dy + i * channels + c) * load(x + i * x_step + c);
        store(sum + c, acc);
    }
    for (; c < channels; c++)
        for (int64_t i = 0; i < count; i++) sum[c] += dy[i * channels + c] * x[i * x_step + c];
}

static int64_t ceil_of(int64_t n, int64_t by)
{
    return n > 0 ? ceil_div(n, by) : 0;
}

/* A range of rows of dy. */
static void do_part(void *ctx, int64_t part, int worker)
{
    const job *j = ctx;
    const gb_conv_dims *d = j->d;
    float *sums = j->filters + part * j->taps * d->c;
    memset(sums, 0, (size_t)(j->taps * d->c) * sizeof *sums);
    int64_t rows = d->n * d->oh;
    for (int64_t r = rows * part / j->parts; r < rows * (part + 1) / j->parts; r++)
        for (int64_t t = 0; t < j->taps; t++) {
            int64_t fx = t % d->kw * d->dilation_w - d->pad_left;
            int64_t y = r % d->oh * d->stride_h + t / d->kw * d->dilation_h - d->pad_top;
            int64_t from = ceil_of(-fx, d->stride_w), until = ceil_of(d->w - fx, d->stride_w);
            until = min_of(until, d->ow);
            if (y < 0 || y >= d->h || until <= from) continue;
            const float *dy = j->args->a + (r * d->ow + from) * d->c;
            const float *x =
                j->args->b + ((r / d->oh * d->h + y) * d->w + from * d->stride_w + fx) * d->c;
            add_products(sums + t * d->c, dy, x, until - from, d->stride_w * d->c, d->c);
        }
}

static void sum_filter(void *ctx, int64_t c, int worker)
{
    const job *j = ctx;
    float *to = j->args->c + c * j->taps;
    for (int64_t t = 0; t < j->taps; t++) {
        float sum = 0;
        for (int64_t p = 0; p < j->parts; p++) sum += j->filters[(p * j->taps + t) * j->d->c + c];
        to[t] = j->problem->accumulate ? to[t] + sum : sum;
    }
    gb_epilogue_apply(&j->args->epilogue, to, c, 1, 0, j->taps, j->taps);
}

static gb_status prepare(gb_contraction_plan *plan, gb_error *err)
{
    const gb_conv_dims *d = &plan->problem.conv;
    int64_t floats = d->kh * d->kw * d->c;
    if (plan->problem.kind == GB_CONV_WEIGHTS) floats *= parts_of(d);
    plan->scratch_bytes = (size_t)floats * sizeof(float);
    return GB_OK;
}

static void run(const gb_contraction_plan *plan, const gb_contraction_args *args)
{
    const gb_conv_dims *d = &plan->problem.conv;
    job j = {&plan->problem, d, args, args->scratch, d->kh * d->kw, parts_of(d)};
    if (plan->problem.kind == GB_CONV_WEIGHTS) {
        gb_pool_run(plan->cpu.pool, j.parts, do_part, &j);
        gb_pool_run(plan->cpu.pool, d->c, sum_filter, &j);
        return;
    }
    for (int64_t c = 0; c < d->c; c++)
        for (int64_t t = 0; t < j.taps; t++) j.filters[t * d->c + c] = args->b[c * j.taps + t];
    bool back = plan->problem.kind == GB_CONV_DATA;
    gb_pool_run(plan->cpu.pool, d->n * (back ? d->h : d->oh), do_row, &j);
}

const gb_contraction_impl LEVEL(gb_contraction_depthwise) = {
    .name = "depthwise", .can = can, .prepare = prepare, .run = run};
