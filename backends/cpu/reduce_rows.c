#include <math.h>
#include <stdlib.h>

#include "backends/cpu/reduce_partial.h"

/* Rows are met one after the other; a tile may hold many rows, or a part of one. */
typedef struct {
    const gb_reduce *r;
    gb_partial *row; /* the row under way, n_red partials */
    int64_t length;
} rows_state;

static gb_partial of_floats(const gb_reduce *r, gb_combine how, const float *x, int64_t n)
{
    gb_partial p = {.n = (double)n};
    switch (how) {
    case GB_SUM:
        p.v = r->loops->sum(x, n);
        break;
    case GB_PROD:
        p.v = 1;
        for (int64_t i = 0; i < n; i++) p.v *= x[i];
        break;
    case GB_MAX:
        p.v = r->loops->max(x, n);
        break;
    case GB_MIN:
        p.v = r->loops->min(x, n);
        break;
    case GB_MOMENTS: {
        p.v = r->loops->sum(x, n) / (double)n;
        float shift = isfinite((float)p.v) ? (float)p.v : 0;
        double d = p.v - shift; /* what the rounded mean missed */
        p.m2 = r->loops->square_sum(x, n, shift) - d * d * (double)n;
        if (p.m2 < 0) p.m2 = 0;
        break;
    }
    }
    return p;
}

static gb_partial of_integers(gb_combine how, const int32_t *x, int64_t n)
{
    int32_t v = x[0];
    for (int64_t i = 1; i < n; i++) {
        if (how == GB_SUM)
            v = (int32_t)((uint32_t)v + (uint32_t)x[i]);
        else if (how == GB_PROD)
            v = (int32_t)((uint32_t)v * (uint32_t)x[i]);
        else if (how == GB_MAX ? x[i] > v : x[i] < v)
            v = x[i];
    }
    return (gb_partial){.n = (double)n, .v = v};
}

/* A tile: adds its pieces of rows to their partials. */
static void after(void *ctx, int64_t start, int64_t n, const void *const *result)
{
    rows_state *s = ctx;
    const gb_reduce *r = s->r;
    for (int64_t done = 0, piece; done < n; done += piece) {
        piece = s->length - start % s->length;
        if (piece > n - done) piece = n - done;
        for (int red = 0; red < r->n_red; red++) {
            const float *x = (const float *)result[red] + done;
            gb_partial p = r->integer[red] ? of_integers(r->red[red], (const int32_t *)x, piece)
                                           : of_floats(r, r->red[red], x, piece);
            gb_partial_add(r, red, &s->row[red], &p);
        }
        start += piece;
        if (start % s->length == 0) s->row += r->n_red;
    }
}

size_t gb_reduce_rows_scratch(const gb_reduce *r)
{
    return gb_tile_scratch_bytes(r->prog) +
           (size_t)r->group * ((size_t)r->n_red * sizeof(gb_partial) + 8) + 64;
}

void gb_reduce_rows_task(void *ctx, int64_t task, int worker)
{
    const gb_reduce_run *run = ctx;
    const gb_reduce *r = run->r;
    char *scratch = gb_worker_scratch(run->workers, worker);
    gb_partial *partial = (gb_partial *)(scratch + (gb_tile_scratch_bytes(r->prog) + 63) / 64 * 64);
    int64_t split = task % r->splits, first = task / r->splits * r->group;
    int64_t rows = first + r->group < r->outer ? r->group : r->outer - first;
    if (r->splits > 1) partial = &r->partial[(first * r->splits + split) * r->n_red];
    for (int64_t i = 0; i < rows * r->n_red; i++)
        partial[i] = gb_partial_empty(r, (int)(i % r->n_red));
    int64_t start = first * r->length + split * r->split_length;
    int64_t end = r->splits > 1 ? start + r->split_length : start + rows * r->length;
    if (r->splits > 1 && end > (first + 1) * r->length) end = (first + 1) * r->length;
    rows_state s = {.r = r, .row = partial, .length = r->length};
    if (start < end) gb_tile_run(r->prog, &run->env, start, end, scratch, after, &s);
    if (r->splits == 1) gb_reduce_store(run, first, rows, partial, partial + rows * r->n_red);
}
