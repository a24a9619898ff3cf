/* Where a training step's time goes: each step of its programs, and what the host adds. */
#include "core/bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

enum { MIN_RUNS = 3, MAX_RUNS = 100, EVENTS_A_RUN = 4, MAX_BURST = 16 };
static const double profile_seconds = 2.0, burst_seconds = 0.03;

typedef struct profiler {
    gb_device *dev;
    gb_bench_job job;
    gb_program *program[2]; /* of a micro-batch, and the update after the last of them */
    int n_programs;
    double origin;
    gb_profile *p;
} profiler;

static void *grown(void *array, size_t count, size_t size, gb_error *err)
{
    void *result = realloc(array, count * size);
    if (!result) gb_bench_no_memory(err);
    return result;
}

/* Times from host to now, which it returns. */
static double add_event(profiler *x, const char *name, double from)
{
    double now = gb_clock();
    x->p->events[x->p->n_events++] = (gb_profile_event){name, {from - x->origin, now - from}};
    return now;
}

static gb_status reserve_run(gb_profile *p, gb_error *err)
{
    size_t runs = (size_t)p->runs + 1;
    void *events = grown(p->events, runs * EVENTS_A_RUN + 1, sizeof *p->events, err);
    if (events) p->events = events;
    void *spans = grown(p->spans, runs * (size_t)p->n + 1, sizeof *p->spans, err);
    if (spans) p->spans = spans;
    return events && spans ? GB_OK : GB_OUT_OF_MEMORY;
}

static void describe(gb_profile_row *row, const gb_step_time *from, int count)
{
    bool update = strcmp(from->phase, "update") == 0;
    *row = (gb_profile_row){.count = count,
                            .flops = from->flops,
                            .bytes = from->bytes,
                            .scratch_bytes = from->scratch_bytes};
    snprintf(row->path, sizeof row->path, "%s", from->path);
    snprintf(row->phase, sizeof row->phase, "%s", update ? "optimizer" : from->phase);
    snprintf(row->kind, sizeof row->kind, "%s", from->kind);
    snprintf(row->variant, sizeof row->variant, "%s", from->variant);
}

static gb_status make_rows(profiler *x, gb_error *err)
{
    const gb_recipe *recipe = x->job.recipe;
    int parts = (int)(recipe->batch / recipe->micro_batch);
    gb_status s = GB_OK;
    for (int k = 0; k < x->n_programs && !s; k++) {
        const gb_step_time *rows;
        int n;
        s = gb_program_profile(x->program[k], &rows, &n, err);
        if (s) break;
        void *more = grown(x->p->rows, (size_t)(x->p->n + n) + 1, sizeof *x->p->rows, err);
        if (!more) return GB_OUT_OF_MEMORY;
        x->p->rows = more;
        for (int i = 0; i < n; i++) describe(&x->p->rows[x->p->n++], &rows[i], k ? 1 : parts);
    }
    return s;
}

static gb_status make_programs(profiler *x, gb_error *err)
{
    gb_trainer *t = x->job.trainer;
    gb_status s = reserve_run(x->p, err);
    double start = gb_clock();
    if (!s) s = gb_trainer_prepare(t, x->job.recipe->batch, err);
    if (!s) s = gb_trainer_program(t, &x->program[0], err);
    if (s) return s;
    x->p->made_seconds = add_event(x, "make programs", start) - start;
    x->n_programs = 1;
    x->program[x->n_programs] = gb_trainer_update(t);
    if (x->program[x->n_programs]) x->n_programs++;
    x->p->kernels = gb_trainer_kernels(t);
    x->p->planned_bytes = gb_trainer_planned_bytes(t);
    return gb_bench_step(&x->job, err); /* sets inputs and scalars, warms up */
}

/* --- one run --- */

static gb_status profiled_run(profiler *x, double *gaps, gb_error *err)
{
    gb_profile_span *span = x->p->spans + (size_t)x->p->runs * (size_t)x->p->n;
    double start = gb_clock();
    *gaps = 0;
    for (int k = 0; k < x->n_programs; k++) {
        const gb_step_time *rows;
        int n;
        double run = gb_clock() - x->origin, end = 0;
        gb_status s = gb_program_profile(x->program[k], &rows, &n, err);
        if (s) return s;
        for (int i = 0; i < n; i++, span++) {
            *span = (gb_profile_span){run + rows[i].begin, rows[i].seconds};
            if (i > 0 && rows[i].begin > end) *gaps += rows[i].begin - end;
            end = rows[i].begin + rows[i].seconds;
        }
    }
    add_event(x, "run with clocks", start);
    return GB_OK;
}

static gb_status plain_run(profiler *x, double *enqueue, double *whole, gb_error *err)
{
    double start = gb_clock();
    gb_status s = GB_OK;
    for (int k = 0; k < x->n_programs && !s; k++) s = gb_program_run(x->program[k], err);
    if (s) return s;
    double middle = add_event(x, "enqueue", start);
    s = gb_device_wait(x->dev, err);
    *enqueue = middle - start;
    *whole = add_event(x, "wait", middle) - start;
    return s;
}

/* Short steps come in rows and are read at the end, as in training: the host prepares one while
 * another runs. */
static gb_status training_steps(profiler *x, double expected, double *seconds, gb_error *err)
{
    int n = expected < burst_seconds ? (int)(burst_seconds / expected) : 1;
    if (n > MAX_BURST) n = MAX_BURST;
    double start = gb_clock();
    gb_status s = gb_bench_steps(&x->job, n, err);
    *seconds = (add_event(x, n > 1 ? "training steps" : "training step", start) - start) / n;
    return s;
}

/* --- all runs --- */

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, gb_bench_by_value);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

static void summarize_rows(gb_profile *p)
{
    double seconds[MAX_RUNS];
    for (int i = 0; i < p->n; i++) {
        for (int r = 0; r < p->runs; r++) seconds[r] = p->spans[r * p->n + i].seconds;
        p->rows[i].seconds = median(seconds, p->runs);
        p->rows[i].seconds_min = seconds[0];
        p->device_seconds += p->rows[i].count * p->rows[i].seconds;
    }
}

/* Of the last run. */
static double device_seconds(const gb_profile *p)
{
    double sum = 0;
    for (int i = 0; i < p->n; i++) sum += p->rows[i].count * p->spans[p->runs * p->n + i].seconds;
    return sum;
}

static gb_status profile_runs(profiler *x, int64_t steps, gb_error *err)
{
    double step[MAX_RUNS], run[MAX_RUNS], enqueue[MAX_RUNS], gaps[MAX_RUNS], host[MAX_RUNS];
    double start = gb_clock();
    gb_profile *p = x->p;
    gb_status s = GB_OK;
    while (!s && p->runs < MAX_RUNS &&
           (steps ? p->runs < steps : p->runs < MIN_RUNS || gb_clock() - start < profile_seconds)) {
        int r = p->runs;
        s = reserve_run(p, err);
        if (!s) s = profiled_run(x, &gaps[r], err);
        if (!s) s = plain_run(x, &enqueue[r], &run[r], err);
        if (!s) s = training_steps(x, run[r], &step[r], err);
        host[r] = s ? 0 : step[r] - device_seconds(p); /* moments apart: as fast a machine for both */
        p->runs++;
    }
    if (s) return s;
    p->step_seconds = median(step, p->runs);
    p->run_seconds = median(run, p->runs);
    p->enqueue_seconds = median(enqueue, p->runs);
    p->gap_seconds = median(gaps, p->runs);
    p->host_seconds = fmax(median(host, p->runs), 0);
    summarize_rows(p);
    return GB_OK;
}

gb_status gb_profile_model(gb_device *dev, const gb_recipe *recipe, int64_t steps,
                           gb_profile *profile, gb_error *err)
{
    *profile = (gb_profile){.batch = recipe->batch, .peak_gflops = NAN, .peak_gb_per_s = NAN};
    snprintf(profile->model, sizeof profile->model, "%s", gb_model_name(recipe->model));
    profiler x = {.dev = dev, .p = profile, .origin = gb_clock()};
    gb_status s = gb_device_peak(dev, &profile->peak_gflops, &profile->peak_gb_per_s, err);
    if (s && s != GB_UNSUPPORTED) return s;
    x.origin = gb_clock();
    s = gb_bench_job_open(dev, recipe, &x.job, err);
    if (!s) s = make_programs(&x, err);
    if (!s) s = make_rows(&x, err);
    if (!s) s = profile_runs(&x, steps, err);
    gb_bench_job_close(&x.job);
    return s;
}

void gb_profile_free(gb_profile *profile)
{
    free(profile->rows);
    free(profile->spans);
    free(profile->events);
    *profile = (gb_profile){0};
}
