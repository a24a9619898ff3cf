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
    float *copy[OPERANDS]; /* inputs, then outputs from GB_MAX_STEP_IN on; NULL: as it is */
    gb_walk walk[OPERANDS];
    int64_t count[OPERANDS];
} widened;

typedef struct {
    const widened *w;
    int operand;
    void *memory;
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

bool gb_cpu_widen(const gb_step *step, gb_step *wide)
{
    gb_walk walk;
    int64_t count;
    bool any = false;
    *wide = *step;
    for (int k = 0; k < OPERANDS; k++) {
        gb_operand *o = k < GB_MAX_STEP_IN ? &wide->in[k] : &wide->out[k - GB_MAX_STEP_IN];
        if (k < GB_MAX_STEP_IN ? k >= step->n_in : k - GB_MAX_STEP_IN >= step->n_out) continue;
        if (!is_half(o)) continue;
        widen_operand(o, &walk, &count);
        any = true;
    }
    return any;
}

static void load_task(void *ctx, int64_t task, int worker)
{
    const conversion *c = ctx;
    int64_t start = task * TASK_ELEMENTS, n = c->w->count[c->operand] - start;
    gb_walk_load(&c->w->walk[c->operand], c->memory, start, n < TASK_ELEMENTS ? n : TASK_ELEMENTS,
                 c->w->copy[c->operand] + start);
}

static void store_task(void *ctx, int64_t task, int worker)
{
    const conversion *c = ctx;
    int64_t start = task * TASK_ELEMENTS, n = c->w->count[c->operand] - start;
    gb_walk_store(&c->w->walk[c->operand], c->memory, start, n < TASK_ELEMENTS ? n : TASK_ELEMENTS,
                  c->w->copy[c->operand] + start);
}

static void convert(const widened *w, gb_pool *pool, int operand, void *memory, gb_pool_fn fn)
{
    conversion c = {w, operand, memory};
    gb_pool_run(pool, (w->count[operand] + TASK_ELEMENTS - 1) / TASK_ELEMENTS, fn, &c);
}

static void run(const gb_cpu_step *s, const gb_cpu_workers *workers)
{
    const widened *w = s->state;
    gb_cpu_step inner = w->inner;
    inner.at = s->at;
    for (int k = 0; k < GB_MAX_STEP_IN; k++) {
        if (!w->copy[k]) continue;
        convert(w, workers->pool, k, s->at.in[k], load_task);
        inner.at.in[k] = w->copy[k];
    }
    for (int k = 0; k < GB_MAX_STEP_OUT; k++)
        if (w->copy[GB_MAX_STEP_IN + k]) inner.at.out[k] = w->copy[GB_MAX_STEP_IN + k];
    inner.run(&inner, workers);
    for (int k = 0; k < GB_MAX_STEP_OUT; k++)
        if (w->copy[GB_MAX_STEP_IN + k])
            convert(w, workers->pool, GB_MAX_STEP_IN + k, s->at.out[k], store_task);
}

static void free_state(void *state)
{
    widened *w = state;
    if (w->inner.free) w->inner.free(w->inner.state);
    for (int k = 0; k < OPERANDS; k++) free(w->copy[k]);
    free(w);
}

static bool allocate_copies(widened *w, const gb_step *step)
{
    for (int k = 0; k < OPERANDS; k++) {
        bool input = k < GB_MAX_STEP_IN;
        int i = input ? k : k - GB_MAX_STEP_IN;
        if (i >= (input ? step->n_in : step->n_out)) continue;
        gb_operand o = input ? step->in[i] : step->out[i];
        if (!is_half(&o)) continue;
        widen_operand(&o, &w->walk[k], &w->count[k]);
        size_t bytes = ((size_t)w->count[k] * sizeof(float) + 63) / 64 * 64;
        w->copy[k] = aligned_alloc(64, bytes ? bytes : 64);
        if (!w->copy[k]) return false;
    }
    return true;
}

gb_status gb_cpu_make_widened(gb_backend_device *dev, const gb_step *step, gb_cpu_make make,
                              gb_cpu_step *out, gb_error *err)
{
    widened *w = calloc(1, sizeof *w);
    if (!w || !allocate_copies(w, step)) {
        if (w) free_state(w);
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "use f32 or a smaller batch",
                       "no memory for f32 copies of 16-bit operands");
    }
    gb_cpu_widen(step, &w->step);
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
