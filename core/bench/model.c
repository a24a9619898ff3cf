/* Training steps of whole models, on noise. */
#include "core/bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double rate = 1e-4; /* small: weights stay finite however often a step is taken */

gb_status gb_bench_step(void *job, gb_error *err)
{
    gb_bench_job *j = job;
    gb_step_result result;
    return gb_trainer_step(j->trainer, &j->images, j->labels, rate, &result, err);
}

gb_status gb_bench_steps(gb_bench_job *j, int n, gb_error *err)
{
    const gb_step_result *results;
    gb_status s = GB_OK;
    for (int i = 0; i < n && !s; i++)
        s = gb_trainer_enqueue(j->trainer, &j->images, j->labels, rate, err);
    return s ? s : gb_trainer_read(j->trainer, &results, &n, err);
}

gb_status gb_bench_forward(void *job, gb_error *err)
{
    gb_bench_job *j = job;
    gb_tensor outputs = {0};
    gb_status s = gb_trainer_predict(j->trainer, &j->images, &outputs, err);
    gb_tensor_free(&outputs);
    return s;
}

gb_status gb_bench_job_open(gb_device *dev, const gb_recipe *recipe, gb_bench_job *job,
                            gb_error *err)
{
    *job = (gb_bench_job){.recipe = recipe};
    gb_status s = gb_dataset_open_sizes(&job->dataset, &recipe->data, err);
    if (s) return s;
    const gb_dataset *d = job->dataset;
    gb_shape shape = {4, {recipe->batch, d->channels, d->height, d->width}};
    job->labels = calloc((size_t)recipe->batch, sizeof *job->labels);
    if (!job->labels) return gb_bench_no_memory(err);
    for (int64_t i = 0; i < recipe->batch; i++) job->labels[i] = (int32_t)(i % d->classes);
    s = gb_tensor_alloc(&job->images, GB_F32, &shape, err);
    if (s) return s;
    gb_bench_fill(&job->images);
    return gb_trainer_create(dev, recipe, d, &job->trainer, err);
}

void gb_bench_job_close(gb_bench_job *job)
{
    gb_trainer_destroy(&job->trainer);
    gb_dataset_destroy(&job->dataset);
    gb_tensor_free(&job->images);
    free(job->labels);
}

static gb_status measure(gb_bench_job *j, gb_bench *bench, gb_error *err)
{
    const gb_recipe *recipe = j->recipe;
    char name[120];
    double forward = 0, step = 0;
    gb_program *program;
    snprintf(name, sizeof name, "%s batch %lld", gb_model_name(recipe->model),
             (long long)recipe->batch);
    gb_status s = gb_trainer_prepare(j->trainer, recipe->batch, err);
    if (!s) s = gb_bench_step(j, err); /* sets the program's inputs */
    if (!s) s = gb_trainer_program(j->trainer, &program, err);
    if (!s) s = gb_bench_flops(program, "forward", &forward, err);
    if (!s) s = gb_bench_flops(program, NULL, &step, err);
    double parts = (double)(recipe->batch / recipe->micro_batch);
    if (!s) s = gb_bench_measure(bench, name, "forward", forward * parts, gb_bench_forward, j, err);
    if (!s && !bench->forward_only)
        s = gb_bench_measure(bench, name, "step", step * parts, gb_bench_step, j, err);
    return s;
}

gb_status gb_bench_model(gb_device *dev, const gb_recipe *recipe, gb_bench *bench, gb_error *err)
{
    gb_bench_job j;
    gb_status s = gb_bench_job_open(dev, recipe, &j, err);
    if (!s) s = measure(&j, bench, err);
    gb_bench_job_close(&j);
    return s;
}
