/* Timing calls. */
#include "core/bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

enum { MIN_CALLS = 3, MAX_CALLS = 2000 };
static const double bench_seconds = 1.0;

gb_status gb_bench_no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a benchmark");
}

int gb_bench_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

gb_status gb_bench_start(gb_device *dev, gb_bench *bench, gb_error *err)
{
    *bench = (gb_bench){.peak_gflops = NAN, .peak_gb_per_s = NAN};
    gb_status s = gb_device_peak(dev, &bench->peak_gflops, &bench->peak_gb_per_s, err);
    return s == GB_UNSUPPORTED ? GB_OK : s;
}

void gb_bench_free(gb_bench *bench)
{
    free(bench->rows);
    *bench = (gb_bench){0};
}

static gb_status add_row(gb_bench *bench, const char *name, const char *phase, double flops,
                         double *seconds, int n, gb_error *err)
{
    gb_bench_row *grown = realloc(bench->rows, (size_t)(bench->n + 1) * sizeof *grown);
    if (!grown) return gb_bench_no_memory(err);
    bench->rows = grown;
    qsort(seconds, (size_t)n, sizeof *seconds, gb_bench_by_value);
    gb_bench_row *row = &grown[bench->n++];
    *row = (gb_bench_row){.ms_min = seconds[0] * 1e3, .ms_median = seconds[n / 2] * 1e3};
    row->gflops = flops > 0 ? flops / seconds[0] * 1e-9 : NAN;
    row->of_peak = row->gflops / bench->peak_gflops;
    snprintf(row->name, sizeof row->name, "%s", name);
    snprintf(row->phase, sizeof row->phase, "%s", phase);
    return GB_OK;
}

gb_status gb_bench_measure(gb_bench *bench, const char *name, const char *phase, double flops,
                           gb_bench_call *call, void *user, gb_error *err)
{
    double *seconds = calloc(MAX_CALLS, sizeof *seconds);
    if (!seconds) return gb_bench_no_memory(err);
    gb_status s = call(user, err); /* warm up */
    double start = gb_clock(), last = start;
    int n = 0;
    while (!s && n < MAX_CALLS && (n < MIN_CALLS || last - start < bench_seconds)) {
        s = call(user, err);
        double t = gb_clock();
        seconds[n++] = t - last;
        last = t;
    }
    if (!s) s = add_row(bench, name, phase, flops, seconds, n, err);
    free(seconds);
    return s;
}

gb_status gb_bench_flops(gb_program *program, const char *phase, double *flops, gb_error *err)
{
    const gb_step_time *rows;
    int n;
    *flops = 0;
    gb_status s = gb_program_profile(program, &rows, &n, err);
    for (int i = 0; !s && i < n; i++)
        if (!phase || strcmp(rows[i].phase, phase) == 0) *flops += rows[i].flops;
    return s;
}

void gb_bench_fill(gb_tensor *t)
{
    uint32_t x = 12345;
    for (int64_t i = 0, n = gb_shape_count(&t->shape); i < n; i++) {
        x = x * 1664525u + 1013904223u;
        gb_tensor_set(t, i, (double)(x >> 8) * 0x1p-23 - 1);
    }
}
