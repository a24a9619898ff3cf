/* Rows picked by index, and the sum of gradients back into them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/cpu.h"

#define TASK_ELEMENTS 32768
#define COLUMNS 64  /* of a task of the gradient: whole cache lines */
#define MIN_TASKS 4 /* of the gradient: rows are split where there are too few columns */

typedef struct {
    const gb_loops *loops;
    int64_t outer, n, rows, inner;
    int64_t picks_a_task;         /* forward */
    int64_t blocks, parts, range; /* backward: of columns, of rows, rows of a part */
} gather;

typedef struct {
    const gather *g;
    const gb_cpu_step *step;
} gather_run;

static int64_t row_at(const gather_run *r, int64_t i)
{
    const int32_t *index = r->step->at.in[1];
    int64_t row = index[i * r->step->step->in[1].stride[0]];
    if (row < 0) row += r->g->rows;
    return row >= 0 && row < r->g->rows ? row : -1;
}

static void copy_row(const gather_run *r, int64_t outer, int64_t i)
{
    const gb_operand *data = &r->step->step->in[0], *out = &r->step->step->out[0];
    int64_t row = row_at(r, i), from = data->stride[2], to = out->stride[2];
    int32_t *y = (int32_t *)r->step->at.out[0] + outer * out->stride[0] + i * out->stride[1];
    const int32_t *x =
        (const int32_t *)r->step->at.in[0] + outer * data->stride[0] + row * data->stride[1];
    const float nan = NAN;
    int32_t missing = 0;
    if (data->storage == GB_S_F32) memcpy(&missing, &nan, sizeof missing);
    if (row < 0)
        for (int64_t k = 0; k < r->g->inner; k++) y[k * to] = missing;
    else if (from == 1 && to == 1)
        memcpy(y, x, (size_t)r->g->inner * 4);
    else
        for (int64_t k = 0; k < r->g->inner; k++) y[k * to] = x[k * from];
}

static void pick_task(void *ctx, int64_t number, int worker)
{
    const gather_run *r = ctx;
    int64_t first = number * r->g->picks_a_task, end = first + r->g->picks_a_task;
    for (int64_t k = first; k < end && k < r->g->outer * r->g->n; k++)
        copy_row(r, k / r->g->n, k % r->g->n);
}

/* One task owns a block of columns and a range of rows, and sees all indices in order. */
static void sum_task(void *ctx, int64_t number, int worker)
{
    const gather_run *r = ctx;
    const gather *g = r->g;
    const gb_operand *dy = &r->step->step->in[0], *out = &r->step->step->out[0];
    int64_t part = number % g->parts, block = number / g->parts % g->blocks;
    int64_t outer = number / g->parts / g->blocks, column = block * COLUMNS;
    int64_t columns = column + COLUMNS < g->inner ? COLUMNS : g->inner - column;
    int64_t first = part * g->range, end = first + g->range < g->rows ? first + g->range : g->rows;
    float *d = (float *)r->step->at.out[0] + outer * out->stride[0] + column * out->stride[2];
    const float *x =
        (const float *)r->step->at.in[0] + outer * dy->stride[0] + column * dy->stride[2];
    for (int64_t row = first; row < end; row++)
        for (int64_t k = 0; k < columns; k++) d[row * out->stride[1] + k * out->stride[2]] = 0;
    for (int64_t i = 0; i < g->n; i++) {
        int64_t row = row_at(r, i);
        if (row < first || row >= end) continue;
        float *to = d + row * out->stride[1];
        const float *from = x + i * dy->stride[1];
        if (dy->stride[2] == 1 && out->stride[2] == 1)
            g->loops->add_scaled(from, 1, columns, to);
        else
            for (int64_t k = 0; k < columns; k++) to[k * out->stride[2]] += from[k * dy->stride[2]];
    }
}

static void run(const gb_cpu_step *s, const gb_cpu_workers *workers)
{
    const gather *g = s->state;
    gather_run r = {g, s};
    if (s->step->kind == GB_STEP_GATHER)
        gb_pool_run(workers->pool, (g->outer * g->n + g->picks_a_task - 1) / g->picks_a_task,
                    pick_task, &r);
    else
        gb_pool_run(workers->pool, g->outer * g->blocks * g->parts, sum_task, &r);
}

gb_status gb_cpu_make_gather(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                             gb_error *err)
{
    gather *g = calloc(1, sizeof *g);
    if (!g)
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "close other programs",
                       "no memory to prepare a step");
    bool forward = step->kind == GB_STEP_GATHER;
    const gb_operand *data = forward ? &step->in[0] : &step->out[0];
    *g = (gather){.loops = dev->loops,
                  .outer = data->dim[0],
                  .rows = data->dim[1],
                  .inner = data->dim[2],
                  .n = step->in[1].dim[0]};
    g->picks_a_task = 1 + TASK_ELEMENTS / (g->inner + 1);
    g->blocks = (g->inner + COLUMNS - 1) / COLUMNS;
    bool few = g->outer * g->blocks < MIN_TASKS && g->n * g->inner > TASK_ELEMENTS;
    g->parts = few && g->rows >= MIN_TASKS ? MIN_TASKS : 1;
    g->range = (g->rows + g->parts - 1) / g->parts;
    *out = (gb_cpu_step){.run = run, .free = free, .state = g, .step = step};
    return GB_OK;
}
