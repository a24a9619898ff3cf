/* Steps on 16-bit floats whose loops know f32 alone: operands are widened into dense f32 copies
 * before, and results narrowed after. */
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/cpu.h"
#include "backends/cpu/walk.h"

#define TASK_ELEMENTS 32768
#define OPERANDS (GB_MAX_STEP_IN + GB_MAX_STEP_OUT)

typedef struct {
    gb_step step; /* the same on f32 */
    gb_cpu_step inner;
    /* inputs, then outputs from GB_MAX_STEP_IN on */
    bool half[OPERANDS];
    uint64_t at[OPERANDS]; /* of its copy in the scratch area */
    gb_walk walk[OPERANDS];
    int64_t count[OPERANDS];
    uint64_t bytes; /* of all copies: the inner step's scratch lies behind them */
} widened;

typedef struct {
    const widened *w;
    int operand;
    void *memory;
    float *copy;
} conversion;

static bool is_half(const gb_operand *o)
{
    return o->buffer >= 0 && gb_storage_size(o->storage) == 2;
}

/* Makes a half operand a dense f32 one with its axes in the same order, and the way to it. */
static void widen_operand(gb_operand *o, gb_walk *walk, int64_t *count)
{
    gb_cpu_space space = {0};
    int64_t dim[GB_MAX_RANK];
    for (int i = 0; i < o->rank; i++) dim[i] = o->stride[i] ? o->dim[i] : 1;
    gb_cpu_space_sort(&space, dim, o->stride, 0, o->rank);
    gb_cpu_space_count(&space);
    gb_walk_init(walk, &space, o->storage, o->stride);
    *count = space.count;
    int64_t n = 1;
    for (int i = space.rank - 1; i >= 0; i--) {
        int axis = space.axis[i];
        if (o->stride[axis]) o->stride[axis] = n;
        n *= space.dim[i];
    }
    o->storage = GB_S_F32;
}

static void find_copies(const gb_step *step, uint64_t known, widened *w)
{
    w->step = *step;
    for (int k = 0; k < OPERANDS; k++) {
        int i = k < GB_MAX_STEP_IN ? k : k - GB_MAX_STEP_IN;
        gb_operand *o = k < GB_MAX_STEP_IN ? &w->step.in[i] : &w->step.out[i];
        int count = k < GB_MAX_STEP_IN ? step->n_in : step->n_out;
        w->half[k] = i < count && is_half(o) && !(known >> k & 1);
        if (!w->half[k]) continue;
        widen_operand(o, &w->walk[k], &w->count[k]);
        w->at[k] = w->bytes;
        w->bytes += ((uint64_t)w->count[k] * sizeof(float) + 255) / 256 * 256;
    }
}

uint64_t gb_cpu_widen(const gb_step *step, uint64_t known, gb_step *wide)
{
    widened w = {.bytes = 0};
    find_copies(step, known, &w);
    *wide = w.step;
    return w.bytes;
}

static void load_task(void *ctx, int64_t task, int worker)
{
    const conversion *c = ctx;
    int64_t start = task * TASK_ELEMENTS, n = c->w->count[c->operand] - start;
    gb_walk_load(&c->w->walk[c->operand], c->memory, start, n < TASK_ELEMENTS ? n : TASK_ELEMENTS,
                 c->copy + start);
}

static void store_task(void *ctx, int64_t task, int worker)
{
    const conversion *c = ctx;
    int64_t start = task * TASK_ELEMENTS, n = c->w->count[c->operand] - start;
    gb_walk_store(&c->w->walk[c->operand], c->memory, start, n < TASK_ELEMENTS ? n : TASK_ELEMENTS,
                  c->copy + start);
}

static void convert(const widened *w, gb_pool *pool, int operand, void *memory, float *copy,
                    gb_pool_fn fn)
{
    conversion c = {w, operand, memory, copy};
    gb_pool_run(pool, (w->count[operand] + TASK_ELEMENTS - 1) / TASK_ELEMENTS, fn, &c);
}

static void run(const gb_cpu_step *s, const gb_cpu_workers *workers)
{
    const widened *w = s->state;
    gb_cpu_step inner = w->inner;
    char *scratch = s->at.scratch;
    inner.at = s->at;
    inner.at.scratch = scratch + w->bytes;
    for (int k = 0; k < OPERANDS; k++) {
        if (!w->half[k]) continue;
        float *copy = (float *)(scratch + w->at[k]);
        if (k < GB_MAX_STEP_IN) {
            convert(w, workers->pool, k, s->at.in[k], copy, load_task);
            inner.at.in[k] = copy;
        } else {
            inner.at.out[k - GB_MAX_STEP_IN] = copy;
        }
    }
    inner.run(&inner, workers);
    for (int k = GB_MAX_STEP_IN; k < OPERANDS; k++)
        if (w->half[k])
            convert(w, workers->pool, k, s->at.out[k - GB_MAX_STEP_IN],
                    (float *)(scratch + w->at[k]), store_task);
}

static void free_state(void *state)
{
    widened *w = state;
    if (w->inner.free) w->inner.free(w->inner.state);
    free(w);
}

gb_status gb_cpu_make_widened(gb_backend_device *dev, const gb_step *step, uint64_t known,
                              gb_cpu_make make, gb_cpu_step *out, gb_error *err)
{
    widened *w = calloc(1, sizeof *w);
    if (!w)
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "close other programs",
                       "no memory to prepare a step");
    find_copies(step, known, w);
    gb_status s = make(dev, &w->step, &w->inner, err);
    if (s) {
        free_state(w);
        return s;
    }
    *out = (gb_cpu_step){.run = run,
                         .free = free_state,
                         .state = w,
                         .step = step,
                         .worker_bytes = w->inner.worker_bytes};
    return GB_OK;
}
