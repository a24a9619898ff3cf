/* Timing calls, and the steps of whole models. */
#include "core/bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MIN_CALLS = 3, MAX_CALLS = 2000 };
static const double bench_seconds = 1.0;

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a benchmark");
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
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
    if (!grown) return no_memory(err);
    bench->rows = grown;
    qsort(seconds, (size_t)n, sizeof *seconds, by_value);
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
    if (!seconds) return no_memory(err);
    gb_status s = call(user, err); /* warm up */
    double start = now(), last = start;
    int n = 0;
    while (!s && n < MAX_CALLS && (n < MIN_CALLS || last - start < bench_seconds)) {
        s = call(user, err);
        double t = now();
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

/* --- models --- */

typedef struct model_job {
    gb_trainer *trainer;
    gb_tensor images;
    int32_t *labels;
    double lr;
} model_job;

static gb_status run_step(void *user, gb_error *err)
{
    model_job *j = user;
    gb_step_result result;
    return gb_trainer_step(j->trainer, &j->images, j->labels, j->lr, &result, err);
}

static gb_status run_forward(void *user, gb_error *err)
{
    model_job *j = user;
    gb_tensor outputs = {0};
    gb_status s = gb_trainer_predict(j->trainer, &j->images, &outputs, err);
    gb_tensor_free(&outputs);
    return s;
}

/* A data set without examples: the sizes are known, or are read. */
static gb_status open_sizes(const gb_recipe *recipe, gb_dataset **dataset, gb_error *err)
{
    static const struct {
        const char *name;
        int channels, side;
    } known[] = {{"fashion-mnist", 1, 28}, {"cifar10", 3, 32}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(recipe->data.dataset, known[i].name) == 0)
            return gb_dataset_create(dataset, known[i].name, known[i].channels, known[i].side,
                                     known[i].side, 10, NULL, err);
    return gb_dataset_open(dataset, &recipe->data, err);
}

static gb_status measure_model(model_job *j, const gb_recipe *recipe, gb_bench *bench,
                               gb_error *err)
{
    char name[120];
    double forward = 0, step = 0;
    gb_program *program;
    snprintf(name, sizeof name, "%s batch %lld", gb_model_name(recipe->model),
             (long long)recipe->batch);
    gb_status s = gb_trainer_prepare(j->trainer, recipe->batch, err);
    if (!s) s = run_step(j, err); /* sets the program's inputs */
    if (!s) s = gb_trainer_program(j->trainer, &program, err);
    if (!s) s = gb_bench_flops(program, "forward", &forward, err);
    if (!s) s = gb_bench_flops(program, NULL, &step, err);
    double parts = (double)(recipe->batch / recipe->micro_batch);
    if (!s) s = gb_bench_measure(bench, name, "forward", forward * parts, run_forward, j, err);
    if (!s) s = gb_bench_measure(bench, name, "step", step * parts, run_step, j, err);
    return s;
}

gb_status gb_bench_model(gb_device *dev, const gb_recipe *recipe, gb_bench *bench, gb_error *err)
{
    model_job j = {.lr = 1e-4}; /* small: weights stay finite however often a step is taken */
    gb_dataset *d = NULL;
    gb_status s = open_sizes(recipe, &d, err);
    if (s) return s;
    gb_shape shape = {4, {recipe->batch, d->channels, d->height, d->width}};
    j.labels = calloc((size_t)recipe->batch, sizeof *j.labels);
    for (int64_t i = 0; j.labels && i < recipe->batch; i++) j.labels[i] = (int32_t)(i % d->classes);
    s = j.labels ? gb_tensor_alloc(&j.images, GB_F32, &shape, err) : no_memory(err);
    if (!s) gb_bench_fill(&j.images);
    if (!s) s = gb_trainer_create(dev, recipe, d, &j.trainer, err);
    if (!s) s = measure_model(&j, recipe, bench, err);
    gb_trainer_destroy(&j.trainer);
    gb_dataset_destroy(&d);
    gb_tensor_free(&j.images);
    free(j.labels);
    return s;
}
