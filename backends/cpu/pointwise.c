#include <stdlib.h>

#include "backends/cpu/cpu.h"
#include "backends/cpu/tile.h"

/* A task is worth the price of handing it to a thread: about 20 µs of loops. */
#define TASK_ELEMENTS 32768

typedef struct {
    gb_tile_prog *prog;
    int64_t count, grain;
} pointwise;

typedef struct {
    const pointwise *p;
    const gb_cpu_workers *workers;
    gb_tile_env env;
} pointwise_run;

static void task(void *ctx, int64_t number, int worker)
{
    const pointwise_run *r = ctx;
    int64_t start = number * r->p->grain, end = start + r->p->grain;
    gb_tile_run(r->p->prog, &r->env, start, end < r->p->count ? end : r->p->count,
                gb_worker_scratch(r->workers, worker), NULL, NULL);
}

static void run(const gb_cpu_step *s, const gb_cpu_workers *workers)
{
    const pointwise *p = s->state;
    pointwise_run r = {.p = p, .workers = workers};
    for (int k = 0; k < s->step->n_in; k++) r.env.in[k] = s->at.in[k];
    for (int k = 0; k < s->step->n_out; k++) r.env.out[k] = s->at.out[k];
    gb_tile_prepare(p->prog, &r.env, s->at.scalars, gb_worker_scratch(workers, 0));
    gb_pool_run(workers->pool, (p->count + p->grain - 1) / p->grain, task, &r);
}

static void free_state(void *state)
{
    gb_tile_free(((pointwise *)state)->prog);
    free(state);
}

gb_status gb_cpu_make_pointwise(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                                gb_error *err)
{
    gb_tile_desc d = {.loops = dev->loops, .expr = step->expr};
    gb_cpu_space_sort(&d.space, step->dim, step->out[0].stride, 0, step->rank);
    gb_cpu_space_count(&d.space);
    gb_tile_bind_step(&d, step);
    pointwise *p = calloc(1, sizeof *p);
    if (!p)
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "close other programs",
                       "no memory to prepare a step");
    gb_status s = gb_tile_compile(&d, &p->prog, err);
    if (s) {
        free(p);
        return s;
    }
    int64_t tile = gb_tile_size(p->prog);
    p->count = d.space.count;
    p->grain = (TASK_ELEMENTS + tile - 1) / tile * tile;
    *out = (gb_cpu_step){.run = run,
                         .free = free_state,
                         .state = p,
                         .step = step,
                         .worker_bytes = gb_tile_scratch_bytes(p->prog)};
    return GB_OK;
}
