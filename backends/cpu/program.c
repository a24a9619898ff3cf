#include "backends/cpu/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct gb_backend_program {
    const gb_plan *plan;
    gb_cpu_workers workers;
    gb_cpu_step *step;
    int n_steps;
};

static const gb_cpu_make makers[GB_STEP_KINDS] = {
    [GB_STEP_POINTWISE] = gb_cpu_make_pointwise,     [GB_STEP_REDUCE] = gb_cpu_make_reduce,
    [GB_STEP_ARGREDUCE] = gb_cpu_make_arg_reduce,    [GB_STEP_MATMUL] = gb_cpu_make_contraction,
    [GB_STEP_CONV] = gb_cpu_make_contraction,        [GB_STEP_CONV_INPUT] = gb_cpu_make_contraction,
    [GB_STEP_CONV_FILTER] = gb_cpu_make_contraction, [GB_STEP_MAXPOOL] = gb_cpu_make_pool,
    [GB_STEP_MAXPOOL_GRAD] = gb_cpu_make_pool,       [GB_STEP_AVGPOOL] = gb_cpu_make_pool,
    [GB_STEP_AVGPOOL_GRAD] = gb_cpu_make_pool,       [GB_STEP_GATHER] = gb_cpu_make_gather,
    [GB_STEP_GATHER_GRAD] = gb_cpu_make_gather,
};

/* The operands that may be 16-bit floats, as bits of gb_cpu_widen; others are copied to f32. */
static uint64_t known_halves(gb_backend_device *dev, const gb_step *step)
{
    if (makers[step->kind] == gb_cpu_make_contraction) return gb_cpu_contraction_halves(dev, step);
    bool knows = step->kind == GB_STEP_POINTWISE || step->kind == GB_STEP_REDUCE ||
                 makers[step->kind] == gb_cpu_make_pool;
    return knows ? UINT64_MAX : 0;
}

void gb_cpu_query(gb_backend_device *dev, const gb_step *step, gb_answer *answer)
{
    gb_step wide;
    *answer = (gb_answer){.ok = true, .variant = "loops"};
    uint64_t copies = gb_cpu_widen(step, known_halves(dev, step), &wide);
    if (makers[step->kind] == gb_cpu_make_contraction)
        gb_cpu_query_contraction(dev, copies ? &wide : step, answer);
    answer->scratch_bytes += copies;
}

int gb_cpu_variants(gb_backend_device *dev, const gb_step *step, const char **name, int cap)
{
    if (makers[step->kind] != gb_cpu_make_contraction) return 0;
    return gb_cpu_contraction_variants(dev, step, name, cap);
}

static gb_status make_step(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                           gb_error *err)
{
    gb_step wide;
    uint64_t known = known_halves(dev, step);
    if (gb_cpu_widen(step, known, &wide))
        return gb_cpu_make_widened(dev, step, known, makers[step->kind], out, err);
    return makers[step->kind](dev, step, out, err);
}

void gb_cpu_program_destroy(gb_backend_program *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_steps; i++)
        if (p->step[i].free) p->step[i].free(p->step[i].state);
    free(p->step);
    free(p->workers.scratch);
    free(p);
}

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, "cpu", "close other programs", "no memory for a program");
}

static gb_status make_steps(gb_backend_device *dev, gb_backend_program *p, gb_error *err)
{
    for (int i = 0; i < p->plan->n_steps; i++) {
        const gb_step *step = &p->plan->step[i];
        gb_status s = make_step(dev, step, &p->step[i], err);
        if (s) return s;
        p->n_steps++;
        size_t bytes = (p->step[i].worker_bytes + 63) / 64 * 64;
        if (bytes > p->workers.stride) p->workers.stride = bytes;
    }
    size_t workers = (size_t)gb_pool_workers(p->workers.pool);
    if (p->workers.stride == 0) return GB_OK;
    p->workers.stride += 64; /* neighbours share no cache line that is prefetched in pairs */
    p->workers.scratch = aligned_alloc(64, workers * p->workers.stride);
    return p->workers.scratch ? GB_OK : no_memory(err);
}

gb_status gb_cpu_program_create(gb_backend_device *dev, const gb_plan *plan,
                                gb_backend_program **prog, gb_error *err)
{
    gb_backend_program *p = calloc(1, sizeof *p);
    *prog = NULL;
    if (!p) return no_memory(err);
    p->plan = plan;
    p->workers.pool = dev->cpu.pool;
    p->step = calloc((size_t)plan->n_steps + 1, sizeof *p->step);
    gb_status s = p->step ? make_steps(dev, p, err) : no_memory(err);
    if (s)
        gb_cpu_program_destroy(p);
    else
        *prog = p;
    return s;
}

static void *address(const gb_operand *o, gb_backend_buffer *const *buffers)
{
    return o->buffer < 0 ? NULL : (char *)buffers[o->buffer]->data + o->offset;
}

void gb_cpu_program_renew(gb_backend_program *p)
{
    p->workers.renew = true;
}

gb_status gb_cpu_program_bind(gb_backend_program *p, gb_backend_buffer *const *buffers,
                              gb_error *err)
{
    const void *scalars =
        p->plan->scalars_buffer < 0 ? NULL : buffers[p->plan->scalars_buffer]->data;
    for (int i = 0; i < p->n_steps; i++) {
        gb_cpu_bound *at = &p->step[i].at;
        const gb_step *s = &p->plan->step[i];
        for (int k = 0; k < s->n_in; k++) at->in[k] = address(&s->in[k], buffers);
        for (int k = 0; k < s->n_out; k++) at->out[k] = address(&s->out[k], buffers);
        at->scratch = s->scratch_bytes ? address(&s->scratch, buffers) : NULL;
        at->packed = s->packed_bytes ? address(&s->packed, buffers) : NULL;
        at->scalars = scalars;
    }
    gb_cpu_program_renew(p);
    return GB_OK;
}

static void run_step(const gb_backend_program *p, int i)
{
    gb_pool_settle(p->workers.pool);
    if (!p->plan->step[i].once || p->workers.renew) p->step[i].run(&p->step[i], &p->workers);
}

gb_status gb_cpu_program_run(gb_backend_program *p, gb_error *err)
{
    for (int i = 0; i < p->n_steps; i++) run_step(p, i);
    p->workers.renew = false;
    return GB_OK;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

gb_status gb_cpu_program_time(gb_backend_program *p, gb_span *span, gb_error *err)
{
    double run = now();
    for (int i = 0; i < p->n_steps; i++) {
        double start = now();
        run_step(p, i);
        span[i] = (gb_span){start - run, now() - start};
    }
    p->workers.renew = false;
    return GB_OK;
}

/* --- peaks --- */

#define PEAK_SECONDS 0.15 /* time enough for threads to get apart */
#define PEAK_ROUNDS 5000
#define PEAK_TASKS 64
#define TRIAD_ELEMENTS (INT64_C(1) << 23) /* three arrays of 32 MiB: beyond most caches */

typedef struct {
    const gb_loops *loops;
    float *a, *b, *y;
    double flops[PEAK_TASKS];
} peak_run;

static void flops_task(void *ctx, int64_t task, int worker)
{
    peak_run *r = ctx;
    float sink[16] = {0.999f, 1e-3f};
    r->flops[task] = r->loops->multiply_adds(PEAK_ROUNDS, sink);
}

static void triad_task(void *ctx, int64_t task, int worker)
{
    peak_run *r = ctx;
    int64_t n = TRIAD_ELEMENTS / PEAK_TASKS, at = task * n;
    r->loops->triad(r->a + at, r->b + at, 0.5f, n, r->y + at);
}

/* The shortest of several runs within the time. */
static double best_seconds(gb_pool *pool, gb_pool_fn fn, peak_run *r)
{
    double begin = now(), best = 1e9;
    do {
        gb_pool_settle(pool);
        double start = now();
        gb_pool_run(pool, PEAK_TASKS, fn, r);
        double seconds = now() - start;
        if (seconds < best) best = seconds;
    } while (now() - begin < PEAK_SECONDS);
    return best;
}

gb_status gb_cpu_peak(gb_backend_device *dev, gb_peak *peak, gb_error *err)
{
    peak_run r = {.loops = dev->loops};
    float *memory = aligned_alloc(64, 3 * TRIAD_ELEMENTS * sizeof(float));
    if (!memory)
        return gb_fail(err, GB_OUT_OF_MEMORY, "cpu", "close other programs",
                       "no memory to measure the CPU's peaks");
    for (int64_t i = 0; i < 3 * TRIAD_ELEMENTS; i++) memory[i] = (float)(i & 7);
    r.a = memory;
    r.b = r.a + TRIAD_ELEMENTS;
    r.y = r.b + TRIAD_ELEMENTS;
    double seconds = best_seconds(dev->cpu.pool, flops_task, &r), flops = 0;
    for (int i = 0; i < PEAK_TASKS; i++) flops += r.flops[i];
    peak->gflops = flops / seconds * 1e-9;
    seconds = best_seconds(dev->cpu.pool, triad_task, &r);
    peak->gb_per_s = 3.0 * sizeof(float) * (double)TRIAD_ELEMENTS / seconds * 1e-9;
    free(memory);
    return GB_OK;
}
