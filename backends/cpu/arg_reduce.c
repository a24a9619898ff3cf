#include <stdlib.h>

#include "backends/cpu/cpu.h"
#include "backends/cpu/walk.h"

#define TASK_ELEMENTS 32768

typedef struct {
    gb_walk in, out; /* over the kept axes */
    int64_t kept, length, stride, rows_a_task;
} arg_reduce;

typedef struct {
    const arg_reduce *a;
    const gb_cpu_step *step;
} arg_run;

static int32_t scan_f32(const arg_reduce *a, const float *x, bool min, bool last)
{
    int64_t best = 0;
    float extreme = x[0];
    for (int64_t j = 1; j < a->length && (last || extreme == extreme); j++) {
        float v = x[j * a->stride];
        bool better = v != v || (min ? v < extreme : v > extreme);
        if (extreme != extreme) better = v != v; /* only for the last: another NaN */
        if (!better && !(last && v == extreme)) continue;
        best = j;
        extreme = v;
    }
    return (int32_t)best;
}

static int32_t scan_i32(const arg_reduce *a, const int32_t *x, bool min, bool last)
{
    int64_t best = 0;
    for (int64_t j = 1; j < a->length; j++) {
        int32_t v = x[j * a->stride], extreme = x[best * a->stride];
        if ((min ? v < extreme : v > extreme) || (last && v == extreme)) best = j;
    }
    return (int32_t)best;
}

static void task(void *ctx, int64_t number, int worker)
{
    const arg_run *r = ctx;
    const arg_reduce *a = r->a;
    const gb_step *s = r->step->step;
    int64_t first = number * a->rows_a_task, end = first + a->rows_a_task;
    for (int64_t i = first; i < end && i < a->kept; i++) {
        const void *x = (const int32_t *)r->step->at.in[0] + gb_walk_offset(&a->in, i);
        int32_t index = a->length == 0 ? 0
                        : s->in[0].storage == GB_S_F32
                            ? scan_f32(a, x, s->u.arg.min, s->u.arg.last)
                            : scan_i32(a, x, s->u.arg.min, s->u.arg.last);
        gb_walk_store(&a->out, r->step->at.out[0], i, 1, &index);
    }
}

static void run(const gb_cpu_step *s, const gb_cpu_workers *workers)
{
    const arg_reduce *a = s->state;
    arg_run r = {a, s};
    gb_pool_run(workers->pool, (a->kept + a->rows_a_task - 1) / a->rows_a_task, task, &r);
}

gb_status gb_cpu_make_arg_reduce(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                                 gb_error *err)
{
    arg_reduce *a = calloc(1, sizeof *a);
    if (!a)
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "close other programs",
                       "no memory to prepare a step");
    gb_cpu_space kept = {0};
    int axis = step->rank - 1;
    gb_cpu_space_sort(&kept, step->dim, step->in[0].stride, 0, axis);
    gb_cpu_space_count(&kept);
    gb_walk_init(&a->in, &kept, GB_S_I32, step->in[0].stride);
    gb_walk_init(&a->out, &kept, GB_S_I32, step->out[0].stride);
    a->kept = kept.count;
    a->length = step->dim[axis];
    a->stride = step->in[0].stride[axis];
    a->rows_a_task = 1 + TASK_ELEMENTS / (a->length + 1);
    *out = (gb_cpu_step){.run = run, .free = free, .state = a, .step = step};
    return GB_OK;
}
