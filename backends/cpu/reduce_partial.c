/* Partial results: how they join, and how they are stored. */
#include "backends/cpu/reduce_partial.h"

#include <math.h>

gb_partial gb_partial_empty(const gb_reduce *r, int red)
{
    bool i = r->integer[red];
    switch (r->red[red]) {
    case GB_PROD:
        return (gb_partial){.v = 1};
    case GB_MAX:
        return (gb_partial){.v = i ? (double)INT32_MIN : -INFINITY};
    case GB_MIN:
        return (gb_partial){.v = i ? (double)INT32_MAX : INFINITY};
    default:
        return (gb_partial){0};
    }
}

/* Chan, Golub, LeVeque: means and squares of two sets make those of their union. */
static void add_moments(gb_partial *to, const gb_partial *x)
{
    if (x->n == 0) return;
    double n = to->n + x->n, d = x->v - to->v, share = x->n / n;
    if (to->n == 0) {
        *to = *x;
        return;
    }
    to->m2 += x->m2 + d * d * to->n * share;
    to->v += d * share;
    to->n = n;
}

static int32_t wrap(double v)
{
    return (int32_t)(uint32_t)(int64_t)v;
}

void gb_partial_add(const gb_reduce *r, int red, gb_partial *to, const gb_partial *x)
{
    double a = to->v, b = x->v;
    switch (r->red[red]) {
    case GB_SUM:
        to->v = r->integer[red] ? wrap(a + b) : a + b;
        break;
    case GB_PROD:
        to->v = r->integer[red] ? (int32_t)((uint32_t)wrap(a) * (uint32_t)wrap(b)) : a * b;
        break;
    case GB_MAX:
        to->v = a > b || isnan(a) ? a : b;
        break;
    case GB_MIN:
        to->v = a < b || isnan(a) ? a : b;
        break;
    case GB_MOMENTS:
        add_moments(to, x);
        return;
    }
    to->n += x->n;
}

static void put(gb_storage s, void *space, int64_t i, double v)
{
    if (s == GB_S_I32)
        ((int32_t *)space)[i] = wrap(v);
    else
        ((float *)space)[i] = (float)v;
}

void gb_reduce_store(const gb_reduce_run *run, int64_t first, int64_t n, const gb_partial *p,
                     void *space)
{
    const gb_reduce *r = run->r;
    for (int red = 0, k = 0; red < r->n_red; red++, k++) {
        bool moments = r->red[red] == GB_MOMENTS;
        for (int64_t i = 0; i < n; i++) {
            const gb_partial *x = &p[i * r->n_red + red];
            double v = moments ? (x->n ? x->v : NAN) : x->v * r->scale[red];
            put(r->out_storage[k], space, i, v);
        }
        gb_walk_store(&r->out[k], run->out[k], first, n, space);
        if (!moments) continue;
        for (int64_t i = 0; i < n; i++) {
            const gb_partial *x = &p[i * r->n_red + red];
            put(r->out_storage[k + 1], space, i, x->m2 / x->n);
        }
        k++;
        gb_walk_store(&r->out[k], run->out[k], first, n, space);
    }
}
