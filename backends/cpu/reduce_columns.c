#include <math.h>
#include <stdlib.h>

#include "backends/cpu/reduce_partial.h"

/* After so many elements, or rows of wide ones, lanes in f32 are added to sums in f64. */
#define FLUSH_ELEMENTS 32768
#define FLUSH_ROWS 32
#define PILOT 16 /* a sixteenth of the rows gives the shift that keeps squares small */

/* Columns [column, column + columns) of some rows of one outer place. Accumulators are arrays of
 * `width` lanes; those of MOMENTS are three: shift, sum, squares. */
typedef struct {
    const gb_reduce *r;
    const gb_tile_env *env;
    void *scratch;       /* of the tile program */
    float *lanes;        /* [n_lanes][width] */
    double *sum;         /* [n_lanes][block] */
    gb_partial *partial; /* [block][n_red] */
    int64_t column, columns;
} column_task;

static void clear_lanes(const column_task *t)
{
    const gb_reduce *r = t->r;
    float *lane = t->lanes;
    for (int red = 0; red < r->n_red; red++) {
        int clear = 1;
        if (r->red[red] == GB_MOMENTS) {
            lane += r->width; /* the shift stays */
            clear = 2;
        }
        double v = gb_partial_empty(r, red).v;
        for (int64_t i = 0; i < clear * r->width; i++)
            if (r->integer[red])
                ((int32_t *)lane)[i] = (int32_t)v;
            else
                lane[i] = (float)v;
        lane += clear * r->width;
    }
}

static void clear_sums(const column_task *t)
{
    double *sum = t->sum;
    for (int red = 0; red < t->r->n_red; red++) {
        int arrays = t->r->red[red] == GB_MOMENTS ? 3 : 1;
        double v = gb_partial_empty(t->r, red).v;
        for (int64_t i = 0; i < arrays * t->r->block; i++) sum[i] = v;
        sum += arrays * t->r->block;
    }
}

/* sum[c] += lane c, lane c + columns, … */
static void fold_sum(const column_task *t, const float *lane, double *sum)
{
    for (int64_t i = 0; i < t->r->width; i += t->r->block)
        for (int64_t c = 0; c < t->r->block; c++) sum[c] += lane[i + c];
}

static void fold_any(const column_task *t, int red, const float *lane, double *sum)
{
    for (int64_t i = 0; i < t->r->width; i++) {
        double *s = &sum[i % t->r->block];
        gb_partial to = {.v = *s}, x = {.v = lane[i]};
        if (t->r->integer[red]) x.v = ((const int32_t *)lane)[i];
        gb_partial_add(t->r, red, &to, &x);
        *s = to.v;
    }
}

static void flush(const column_task *t)
{
    const gb_reduce *r = t->r;
    const float *lane = t->lanes;
    double *sum = t->sum;
    for (int red = 0; red < r->n_red; red++) {
        bool moments = r->red[red] == GB_MOMENTS;
        for (int k = 0; moments && k < 2; k++) {
            lane += r->width;
            sum += r->block;
            fold_sum(t, lane, sum);
        }
        if (!moments && r->red[red] == GB_SUM && !r->integer[red])
            fold_sum(t, lane, sum);
        else if (!moments)
            fold_any(t, red, lane, sum);
        lane += r->width;
        sum += r->block;
    }
    clear_lanes(t);
}

/* A tile, which lies within the columns of one row or consists of whole rows. */
static void after(void *ctx, int64_t start, int64_t n, const void *const *result)
{
    static const int number[] = {[GB_SUM] = GB_ACC_SUM,
                                 [GB_PROD] = GB_ACC_PROD,
                                 [GB_MAX] = GB_ACC_MAX,
                                 [GB_MIN] = GB_ACC_MIN};
    const column_task *t = ctx;
    const gb_reduce *r = t->r;
    float *acc = t->lanes;
    int64_t w = r->width, lane = r->blocks > 1 ? start % r->inner - t->column : start % w;
    for (int red = 0; red < r->n_red; red++) {
        if (r->red[red] == GB_MOMENTS) {
            r->loops->accumulate_moments(result[red], n, lane, w, acc, acc + w, acc + 2 * w);
            acc += 3 * w;
            continue;
        }
        const gb_accumulate_fn *list =
            r->integer[red] ? r->loops->accumulate_int : r->loops->accumulate;
        list[number[r->red[red]]](result[red], n, lane, w, acc);
        acc += w;
    }
}

/* Accumulates rows [first, end) of one outer place into the sums. */
static void accumulate_rows(const column_task *t, int64_t outer, int64_t first, int64_t end)
{
    const gb_reduce *r = t->r;
    int64_t base = outer * r->length * r->inner + t->column;
    bool wide = r->blocks > 1;
    int64_t rows = wide ? 1 : (FLUSH_ELEMENTS + r->inner - 1) / r->inner;
    for (int64_t row = first; row < end; row += rows) {
        int64_t stop = row + rows < end ? row + rows : end, start = base + row * r->inner;
        gb_tile_run(r->prog, t->env, start, wide ? start + t->columns : base + stop * r->inner,
                    t->scratch, after, (void *)t);
        if (!wide || (row - first) % FLUSH_ROWS == FLUSH_ROWS - 1 || stop == end) flush(t);
    }
}

/* Sets the shifts to the columns' means over `rows` rows, which the sums hold (with shift 0).
 * If such a mean is far off, these rows alone make the variance so large that the squares of the
 * distances to it lose at most four bits. */
static void set_shifts(const column_task *t, int64_t rows)
{
    const gb_reduce *r = t->r;
    float *shift = t->lanes;
    const double *sum = t->sum;
    for (int red = 0; red < r->n_red; red++) {
        bool moments = r->red[red] == GB_MOMENTS;
        for (int64_t i = 0; moments && i < r->width; i++) {
            float mean = rows ? (float)(sum[r->block + i % r->block] / (double)rows) : 0;
            shift[i] = isfinite(mean) ? mean : 0;
        }
        shift += (moments ? 3 : 1) * r->width;
        sum += (moments ? 3 : 1) * r->block;
    }
}

static bool has_moments(const gb_reduce *r)
{
    for (int k = 0; k < r->n_red; k++)
        if (r->red[k] == GB_MOMENTS) return true;
    return false;
}

static gb_partial moments_partial(const double *sum, int64_t block, double shift, int64_t rows)
{
    double n = (double)rows, d = sum[block] / n, m2 = sum[2 * block] - d * sum[block];
    return (gb_partial){.n = n, .v = shift + d, .m2 = m2 < 0 ? 0 : m2};
}

/* Makes partial results of rows [first, end); stride is between results of out. */
static void reduce_rows(const column_task *t, int64_t outer, int64_t first, int64_t end,
                        gb_partial *out, int64_t stride)
{
    const gb_reduce *r = t->r;
    clear_lanes(t);
    clear_sums(t);
    if (has_moments(r)) {
        int64_t pilot = (end - first + PILOT - 1) / PILOT;
        set_shifts(t, 0);
        accumulate_rows(t, outer, first, first + pilot);
        set_shifts(t, pilot);
        clear_sums(t);
    }
    accumulate_rows(t, outer, first, end);
    const double *sum = t->sum;
    const float *lane = t->lanes;
    for (int red = 0; red < r->n_red; red++) {
        bool moments = r->red[red] == GB_MOMENTS;
        for (int64_t c = 0; c < t->columns; c++) {
            gb_partial *to = &out[c / r->fold * stride + red];
            gb_partial p = moments ? moments_partial(sum + c, r->block, lane[c], end - first)
                                   : (gb_partial){.n = (double)(end - first), .v = sum[c]};
            if (c % r->fold)
                gb_partial_add(r, red, to, &p);
            else
                *to = p;
        }
        sum += (moments ? 3 : 1) * r->block;
        lane += (moments ? 3 : 1) * r->width;
    }
}

static size_t round64(size_t n)
{
    return (n + 63) / 64 * 64;
}

static size_t lanes_bytes(const gb_reduce *r)
{
    return round64((size_t)r->n_lanes * (size_t)r->width * sizeof(float));
}

static size_t sums_bytes(const gb_reduce *r)
{
    return round64((size_t)r->n_lanes * (size_t)r->block * sizeof(double));
}

size_t gb_reduce_columns_scratch(const gb_reduce *r)
{
    size_t results = (size_t)(r->block * r->group) * ((size_t)r->n_red * sizeof(gb_partial) + 8);
    return round64(gb_tile_scratch_bytes(r->prog)) + lanes_bytes(r) + sums_bytes(r) +
           round64(results);
}

void gb_reduce_columns_task(void *ctx, int64_t task, int worker)
{
    const gb_reduce_run *run = ctx;
    const gb_reduce *r = run->r;
    char *p = gb_worker_scratch(run->workers, worker);
    column_task t = {.r = r, .env = &run->env, .scratch = p};
    t.lanes = (float *)(p += round64(gb_tile_scratch_bytes(r->prog)));
    t.sum = (double *)(p += lanes_bytes(r));
    t.partial = (gb_partial *)(p += sums_bytes(r));
    int64_t block = task % r->blocks, split = task / r->blocks % r->splits;
    int64_t outer = task / r->blocks / r->splits * r->group;
    int64_t places = outer + r->group < r->outer ? r->group : r->outer - outer;
    t.column = block * r->block;
    t.columns = t.column + r->block < r->inner ? r->block : r->inner - t.column;
    int64_t first = split * r->split_length, end = first + r->split_length;
    if (end > r->length) end = r->length;
    int64_t kept = (outer * r->inner + t.column) / r->fold, results = t.columns / r->fold;
    if (r->splits > 1) {
        reduce_rows(&t, outer, first, end, r->partial + (kept * r->splits + split) * r->n_red,
                    r->splits * r->n_red);
        return;
    }
    for (int64_t i = 0; i < places; i++)
        reduce_rows(&t, outer + i, first, end, t.partial + i * results * r->n_red, r->n_red);
    int64_t n = places * results;
    gb_reduce_store(run, kept, n, t.partial, t.partial + n * r->n_red);
}
