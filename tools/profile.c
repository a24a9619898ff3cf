#include "tools/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const profile_phase[PROFILE_PHASES] = {"forward", "backward", "optimizer"};

int profile_layer(const gb_profile_row *row)
{
    const char *dot = strrchr(row->path, '.');
    bool parameter = strcmp(row->phase, "optimizer") == 0 && dot;
    return parameter ? (int)(dot - row->path) : (int)strlen(row->path);
}

static bool same_layer(const gb_profile_row *a, const gb_profile_row *b)
{
    int n = profile_layer(a);
    return n == profile_layer(b) && memcmp(a->path, b->path, (size_t)n) == 0;
}

static bool together(const gb_profile_row *a, const gb_profile_row *b, profile_key key)
{
    switch (key) {
    case PROFILE_BY_PHASE:
        return strcmp(a->phase, b->phase) == 0;
    case PROFILE_BY_LAYER:
        return same_layer(a, b);
    case PROFILE_BY_KIND:
        return strcmp(a->phase, b->phase) == 0 && strcmp(a->kind, b->kind) == 0 &&
               strcmp(a->variant, b->variant) == 0;
    default:
        return a == b;
    }
}

static double bound_seconds(const gb_profile *p, double flops, double bytes)
{
    return fmax(flops / p->peak_gflops, bytes / p->peak_gb_per_s) * 1e-9;
}

const char *profile_bound(const gb_profile *p, const profile_group *g)
{
    double compute = g->flops / p->peak_gflops, memory = g->bytes / p->peak_gb_per_s;
    if (!isfinite(compute) || !isfinite(memory)) return NULL;
    return compute > memory ? "compute" : "memory";
}

/* of_peak holds the seconds at the peaks until all rows are in. */
static void add_row(const gb_profile *p, profile_group *g, const gb_profile_row *row)
{
    double seconds = row->count * row->seconds;
    g->rows++;
    g->seconds += seconds;
    g->flops += row->count * row->flops;
    g->bytes += row->count * row->bytes;
    g->of_peak += row->count * bound_seconds(p, row->flops, row->bytes);
    for (int i = 0; i < PROFILE_PHASES; i++)
        if (strcmp(row->phase, profile_phase[i]) == 0) g->by_phase[i] += seconds;
}

static int by_time(const void *a, const void *b)
{
    const profile_group *x = a, *y = b;
    if (x->seconds > y->seconds || x->seconds < y->seconds) return x->seconds < y->seconds ? 1 : -1;
    return x->first > y->first ? 1 : -1;
}

profile_group *profile_groups(const gb_profile *p, profile_key key, int *n)
{
    profile_group *groups = calloc((size_t)p->n + 1, sizeof *groups);
    *n = 0;
    if (!groups) return NULL;
    for (int i = 0; i < p->n; i++) {
        int k = 0;
        while (k < *n && !together(groups[k].first, &p->rows[i], key)) k++;
        if (k == *n) groups[(*n)++].first = &p->rows[i];
        add_row(p, &groups[k], &p->rows[i]);
    }
    for (int k = 0; k < *n; k++)
        groups[k].of_peak = groups[k].seconds > 0 ? groups[k].of_peak / groups[k].seconds : NAN;
    qsort(groups, (size_t)*n, sizeof *groups, by_time);
    return groups;
}
