/* Depthwise convolutions (one filter a channel): bound by memory, so vectors of channels and no
 * packing but of the filters, which are laid out [tap][channel]. Neighbouring pixels that read the
 * same taps share what is loaded of the filters. */
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/kernels/impl.h"
#include "backends/cpu/kernels/level.h"

enum { PARTS = 64, TAPS_AT_ONCE = 64, PIXELS = 4, BAND = 16, BANDS_WANTED = 16 };

/* Which position of the source a tap of the filter reads, for one position of the destination. */
typedef struct {
    int64_t tap, source;
} reach;

/* That along one axis: reaches first[i] .. first[i + 1] are those of destination i. */
typedef struct {
    int32_t *first, *alike; /* alike[i]: destinations from i on with equal taps, a step apart */
    reach *list;
} reaches;

typedef struct {
    const gb_contraction *problem;
    const gb_conv_dims *d;
    const gb_contraction_args *args;
    float *filters; /* [tap][channel]; backward to the weights: parts of it */
    int64_t taps, parts;
    reaches rows, cols;
    int64_t band; /* rows of a task: few where there are few, so that every thread has some */
    int64_t step; /* from a pixel's source to that of its neighbour, where these have equal taps */
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

/* --- forward, and backward to the data --- */

typedef struct {
    int64_t outs, ins, kernel, stride, dilation, pad;
} axis;

/* The source that tap k of destination `at` reads, or -1. */
static int64_t source_of(const axis *x, bool back, int64_t at, int64_t k)
{
    int64_t offset = k * x->dilation - x->pad;
    if (!back) {
        int64_t in = at * x->stride + offset;
        return in >= 0 && in < x->ins ? in : -1;
    }
    int64_t out = at - offset;
    return out >= 0 && out % x->stride == 0 && out / x->stride < x->outs ? out / x->stride : -1;
}

static void find_reaches(const axis *x, bool back, reaches *r)
{
    int32_t n = 0;
    for (int64_t at = 0; at < (back ? x->ins : x->outs); at++) {
        r->first[at] = n;
        for (int64_t i = 0; i < x->kernel; i++) { /* in the order of sources */
            int64_t k = back ? x->kernel - 1 - i : i, source = source_of(x, back, at, k);
            if (source >= 0) r->list[n++] = (reach){k, source};
        }
        r->first[at + 1] = n;
    }
}

/* The pixels that one pixel sums, with the filters they are multiplied by. */
typedef struct {
    const float *from[TAPS_AT_ONCE], *filter[TAPS_AT_ONCE], *ahead; /* to prefetch */
    int count;
} sources;

/* Have destinations x and x + 1 equal taps, and sources `step` apart? */
static bool are_alike(const reaches *r, int64_t x, int64_t step)
{
    const reach *a = &r->list[r->first[x]], *b = &r->list[r->first[x + 1]];
    int64_t n = b - a;
    for (int64_t k = 0; k < n; k++)
        if (a[k].tap != b[k].tap || b[k].source - a[k].source != step) return false;
    return r->first[x + 2] - r->first[x + 1] == n;
}

static void find_alike(reaches *r, int64_t count, int64_t step)
{
    for (int64_t x = count - 1; x >= 0; x--)
        r->alike[x] = x + 1 < count && are_alike(r, x, step) ? r->alike[x + 1] + 1 : 1;
}

#define SUM_PIXELS(pixels, vectors)                                                                \
    for (; c + vectors * LANES <= channels; c += vectors * LANES) {                                \
        vec acc[pixels][vectors];                                                                  \
        for (int p = 0; p < pixels; p++)                                                           \
            for (int v = 0; v < vectors; v++)                                                      \
                acc[p][v] = accumulate ? load(to + p * channels + c + v * LANES) : (vec){0};       \
        for (int p = 0; p < pixels; p++) __builtin_prefetch(s->ahead + offset + p * step + c);     \
        for (int t = 0; t < s->count; t++)                                                         \
            for (int v = 0; v < vectors; v++) {                                                    \
                vec f = load(s->filter[t] + c + v * LANES);                                        \
                for (int p = 0; p < pixels; p++)                                                   \
                    acc[p][v] += load(s->from[t] + offset + p * step + c + v * LANES) * f;         \
            }                                                                                      \
        for (int p = 0; p < pixels; p++)                                                           \
            for (int v = 0; v < vectors; v++) store(to + p * channels + c + v * LANES, acc[p][v]); \
    }

/* Sums of `pixels` neighbours, whose sources are `step` floats apart; the first's are `offset` from
 * those of s. */
static void sum_sources(const sources *s, int64_t offset, float *to, int64_t pixels, int64_t step,
                        int64_t channels, bool accumulate)
{
    int64_t c = 0;
    if (pixels == PIXELS) {
        SUM_PIXELS(PIXELS, 2)
        SUM_PIXELS(PIXELS, 1)
    } else {
        SUM_PIXELS(1, 4)
        SUM_PIXELS(1, 1)
    }
    for (; c < channels; c++)
        for (int64_t p = 0; p < pixels; p++) {
            float acc = accumulate ? to[p * channels + c] : 0;
            for (int t = 0; t < s->count; t++)
                acc += s->from[t][offset + p * step + c] * s->filter[t][c];
            to[p * channels + c] = acc;
        }
}

/* What the row below reads of pixels that this one does not: the processor does not foresee it. */
static const float *ahead_of(const job *j, const float *image, int64_t w, int64_t y, int64_t x)
{
    int64_t to_h = j->problem->kind == GB_CONV_DATA ? j->d->h : j->d->oh;
    int32_t below = j->rows.first[min_of(y + 2, to_h)], right = j->cols.first[x + 1];
    int64_t row = below ? j->rows.list[below - 1].source : 0;
    return image + (row * w + (right ? j->cols.list[right - 1].source : 0)) * j->d->c;
}

static void sum_run(const job *j, const sources *s, float *to, int64_t pixels, bool accumulate)
{
    const int64_t channels = j->d->c, step = j->step * channels;
    for (int64_t p = 0, n; p < pixels; p += n) {
        n = pixels - p >= PIXELS ? PIXELS : 1;
        sum_sources(s, p * step, to + p * channels, n, step, channels, accumulate);
    }
}

/* Pixels x .. x + pixels of one row of the destination, which are alike. */
static void do_pixels(const job *j, int64_t row, int64_t x, int64_t pixels, float *to)
{
    const gb_conv_dims *d = j->d;
    bool back = j->problem->kind == GB_CONV_DATA, more = j->problem->accumulate;
    int64_t to_h = back ? d->h : d->oh, h = back ? d->oh : d->h, w = back ? d->ow : d->w;
    const float *image = j->args->a + row / to_h * h * w * d->c;
    const int32_t *rows = &j->rows.first[row % to_h], *cols = &j->cols.first[x];
    sources s = {.ahead = ahead_of(j, image, w, row % to_h, x)};
    for (int32_t m = rows[0]; m < rows[1]; m++)
        for (int32_t k = cols[0]; k < cols[1]; k++) {
            const reach *ry = &j->rows.list[m], *rx = &j->cols.list[k];
            s.from[s.count] = image + (ry->source * w + rx->source) * d->c;
            s.filter[s.count++] = j->filters + (ry->tap * d->kw + rx->tap) * d->c;
            if (s.count < TAPS_AT_ONCE) continue;
            sum_run(j, &s, to, pixels, more);
            more = true;
            s.count = 0;
        }
    if (s.count || !more) sum_run(j, &s, to, pixels, more);
}

/* A band of rows of the destination: those that lie side by side read the same rows. */
static void do_band(void *ctx, int64_t band, int worker)
{
    const job *j = ctx;
    const gb_conv_dims *d = j->d;
    bool back = j->problem->kind == GB_CONV_DATA;
    int64_t w = back ? d->w : d->ow, rows = d->n * (back ? d->h : d->oh);
    for (int64_t row = band * j->band; row < min_of(rows, (band + 1) * j->band); row++) {
        float *to = j->args->c + row * w * d->c;
        for (int64_t x = 0, n; x < w; x += n) {
            n = j->cols.alike[x];
            do_pixels(j, row, x, n, to + x * d->c);
        }
        gb_epilogue_apply(&j->args->epilogue, to, row * w, w, 0, d->c, d->c);
    }
}

/* --- backward to the weights --- */

enum { TAPS_ABREAST = 4 };

/* sum[tap][c] += the products of `count` pixels, for taps whose x are tap_step floats apart. */
typedef struct {
    float *sum;
    const float *dy, *x;
    int64_t count, x_step, tap_step, channels;
    int64_t dy_ahead, x_ahead; /* to what is prefetched, from what is read */
} products;

#define ADD_PRODUCTS(taps, vectors)                                                                \
    for (; c + vectors * LANES <= q->channels; c += vectors * LANES) {                             \
        vec acc[taps][vectors];                                                                    \
        for (int t = 0; t < taps; t++)                                                             \
            for (int v = 0; v < vectors; v++)                                                      \
                acc[t][v] = load(q->sum + t * q->channels + c + v * LANES);                        \
        for (int64_t i = 0; i < q->count; i++) {                                                   \
            __builtin_prefetch(q->dy + i * q->channels + c + q->dy_ahead);                         \
            __builtin_prefetch(q->x + i * q->x_step + c + q->x_ahead);                             \
            for (int v = 0; v < vectors; v++) {                                                    \
                vec dy = load(q->dy + i * q->channels + c + v * LANES);                            \
                for (int t = 0; t < taps; t++)                                                     \
                    acc[t][v] +=                                                                   \
                        dy * load(q->x + i * q->x_step + t * q->tap_step + c + v * LANES);         \
            }                                                                                      \
        }                                                                                          \
        for (int t = 0; t < taps; t++)                                                             \
            for (int v = 0; v < vectors; v++)                                                      \
                store(q->sum + t * q->channels + c + v * LANES, acc[t][v]);                        \
    }

static void add_products(const products *q, int taps)
{
    int64_t c = 0;
    switch (taps) {
    case 4:
        ADD_PRODUCTS(4, 2)
        ADD_PRODUCTS(4, 1)
        break;
    case 3:
        ADD_PRODUCTS(3, 3)
        ADD_PRODUCTS(3, 1)
        break;
    case 2:
        ADD_PRODUCTS(2, 4)
        ADD_PRODUCTS(2, 1)
        break;
    default:
        ADD_PRODUCTS(1, 4)
        ADD_PRODUCTS(1, 1)
        break;
    }
    for (; c < q->channels; c++)
        for (int t = 0; t < taps; t++)
            for (int64_t i = 0; i < q->count; i++)
                q->sum[t * q->channels + c] +=
                    q->dy[i * q->channels + c] * q->x[i * q->x_step + t * q->tap_step + c];
}

static int64_t ceil_of(int64_t n, int64_t by)
{
    return n > 0 ? ceil_div(n, by) : 0;
}

/* The pixels of a row of dy that tap `kx` reads within the image: from .. until. */
static void span_of(const gb_conv_dims *d, int64_t kx, int64_t *from, int64_t *until)
{
    int64_t offset = kx * d->dilation_w - d->pad_left;
    *from = ceil_of(-offset, d->stride_w);
    *until = min_of(ceil_of(d->w - offset, d->stride_w), d->ow);
}

/* Taps kx .. kx + taps of one row of the filter: pixels that all of them read go together. */
static void add_taps(const gb_conv_dims *d, const float *dy, const float *x, int64_t kx, int taps,
                     float *sums)
{
    int64_t first = 0, end = d->ow, from[TAPS_ABREAST], until[TAPS_ABREAST];
    int64_t x_step = d->stride_w * d->c, tap_step = d->dilation_w * d->c;
    for (int t = 0; t < taps; t++) {
        span_of(d, kx + t, &from[t], &until[t]);
        if (from[t] > first) first = from[t];
        if (until[t] < end) end = until[t];
    }
    if (first > end) first = end = 0;
    const float *at = x + (kx * d->dilation_w - d->pad_left) * d->c; /* never read before x */
    products all = {
        sums, dy + first * d->c, at + first * x_step,      end - first, x_step, tap_step,
        d->c, d->ow * d->c,      d->stride_h * d->w * d->c};
    if (end > first) add_products(&all, taps);
    for (int t = 0; t < taps; t++) {
        int64_t edge[2][2] = {{from[t], min_of(first, until[t])},
                              {from[t] > end ? from[t] : end, until[t]}};
        for (int e = 0; e < 2; e++) {
            int64_t n = edge[e][1] - edge[e][0], i = edge[e][0];
            products one = {
                sums + t * d->c, dy + i * d->c, at + i * x_step + t * tap_step, n, x_step, 0, d->c};
            if (n > 0) add_products(&one, 1);
        }
    }
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
        for (int64_t ky = 0; ky < d->kh; ky++) {
            int64_t y = r % d->oh * d->stride_h + ky * d->dilation_h - d->pad_top;
            if (y < 0 || y >= d->h) continue;
            const float *dy = j->args->a + r * d->ow * d->c;
            const float *x = j->args->b + (r / d->oh * d->h + y) * d->w * d->c;
            for (int64_t kx = 0; kx < d->kw; kx += TAPS_ABREAST)
                add_taps(d, dy, x, kx, (int)min_of(TAPS_ABREAST, d->kw - kx),
                         sums + (ky * d->kw + kx) * d->c);
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

/* --- the plan --- */

static axis height_of(const gb_conv_dims *d)
{
    return (axis){d->oh, d->h, d->kh, d->stride_h, d->dilation_h, d->pad_top};
}

static axis width_of(const gb_conv_dims *d)
{
    return (axis){d->ow, d->w, d->kw, d->stride_w, d->dilation_w, d->pad_left};
}

static int64_t positions(const axis *x, bool back)
{
    return back ? x->ins : x->outs;
}

/* What is the same in every run, but for gradients of filters. */
typedef struct {
    reaches rows, cols;
} walks;

static size_t reach_bytes(const axis *x, bool back)
{
    size_t n = (size_t)positions(x, back);
    return n * (size_t)x->kernel * sizeof(reach) + (2 * n + 2) * sizeof(int32_t);
}

/* Fills r, which lies in memory. */
static void make_reaches(const axis *x, bool back, int64_t step, char *memory, reaches *r)
{
    int64_t n = positions(x, back);
    r->list = (reach *)memory;
    r->first = (int32_t *)(r->list + n * x->kernel);
    r->alike = r->first + n + 1;
    find_reaches(x, back, r);
    find_alike(r, n, step);
}

static int64_t step_of(const gb_contraction *problem)
{
    return problem->kind == GB_CONV_DATA ? 1 : problem->conv.stride_w;
}

static gb_status prepare(gb_contraction_plan *plan, gb_error *err)
{
    const gb_contraction *p = &plan->problem;
    const gb_conv_dims *d = &p->conv;
    const axis height = height_of(d), width = width_of(d);
    bool back = p->kind == GB_CONV_DATA, filters = p->kind == GB_CONV_WEIGHTS;
    plan->scratch_bytes =
        (size_t)(d->kh * d->kw * d->c * (filters ? parts_of(d) : 1)) * sizeof(float);
    if (filters) return GB_OK;
    size_t rows = round_up(reach_bytes(&height, back), sizeof(reach));
    walks *w = calloc(1, sizeof *w + rows + reach_bytes(&width, back));
    if (!w) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to plan a convolution");
    make_reaches(&height, back, step_of(p), (char *)(w + 1), &w->rows);
    make_reaches(&width, back, step_of(p), (char *)(w + 1) + rows, &w->cols);
    plan->state = w;
    return GB_OK;
}

static void release(gb_contraction_plan *plan)
{
    free(plan->state);
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
    const walks *w = plan->state;
    j.rows = w->rows;
    j.cols = w->cols;
    j.step = step_of(&plan->problem);
    for (int64_t c = 0; c < d->c; c++)
        for (int64_t t = 0; t < j.taps; t++) j.filters[t * d->c + c] = args->b[c * j.taps + t];
    int64_t rows = d->n * (plan->problem.kind == GB_CONV_DATA ? d->h : d->oh);
    j.band = rows < 2 * BANDS_WANTED ? 1 : min_of(rows / BANDS_WANTED, BAND);
    gb_pool_run(plan->cpu.pool, ceil_div(rows, j.band), do_band, &j);
}

const gb_contraction_impl LEVEL(gb_contraction_depthwise) = {
    .name = "depthwise", .can = can, .prepare = prepare, .release = release, .run = run};
