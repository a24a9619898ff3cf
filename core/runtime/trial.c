#include "core/runtime/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/half.h"

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, "tuning", "close other programs",
                   "no memory to try a step");
}

/* --- the step in buffers of its own --- */

typedef struct span { /* bytes of a buffer that an operand touches */
    int64_t low, high;
} span;

static span span_of(const gb_operand *o)
{
    int64_t size = (int64_t)gb_storage_size(o->storage), at = (int64_t)o->offset;
    span s = {at, at + size};
    for (int i = 0; i < o->rank; i++) {
        int64_t reach = (o->dim[i] - 1) * o->stride[i] * size;
        *(reach < 0 ? &s.low : &s.high) += reach;
    }
    return s;
}

static bool is_empty(const gb_operand *o)
{
    for (int i = 0; i < o->rank; i++)
        if (o->dim[i] == 0) return true;
    return false;
}

bool gb_trial_fits(const gb_step *s)
{
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i].buffer < 0 || s->in[i].storage == GB_S_I32 || is_empty(&s->in[i]))
            return false;
    for (int k = 0; k < s->n_out; k++) {
        if (s->out[k].buffer < 0 || is_empty(&s->out[k])) return false;
        for (int i = 0; i < s->n_in; i++)
            if (s->in[i].buffer == s->out[k].buffer) return false;
    }
    return true;
}

static gb_operand *operand(gb_step *s, int i)
{
    return i < s->n_in ? &s->in[i] : &s->out[i - s->n_in];
}

/* Gives every buffer that the step touches a new number, and cuts it to what is touched. */
static void renumber(gb_trial *t)
{
    gb_step *s = &t->step;
    int old[GB_TRIAL_BUFFERS], all = s->n_in + s->n_out;
    int64_t low[GB_TRIAL_BUFFERS], high[GB_TRIAL_BUFFERS];
    for (int i = 0; i < all; i++) {
        gb_operand *o = operand(s, i);
        span x = span_of(o);
        int b = 0;
        while (b < t->n && old[b] != o->buffer) b++;
        if (b == t->n) old[t->n++] = o->buffer, low[b] = x.low, high[b] = x.high;
        if (x.low < low[b]) low[b] = x.low;
        if (x.high > high[b]) high[b] = x.high;
        o->buffer = b;
    }
    for (int b = 0; b < t->n; b++) low[b] -= low[b] % 256;
    for (int i = 0; i < all; i++) {
        gb_operand *o = operand(s, i);
        o->offset -= (uint64_t)low[o->buffer];
        bool result = i >= s->n_in;
        t->buffer[o->buffer].role = result ? GB_BUF_OUTPUT : GB_BUF_INPUT;
        t->buffer[o->buffer].bytes = (uint64_t)(high[o->buffer] - low[o->buffer] + 3) / 4 * 4;
    }
}

static void add_scalars(gb_trial *t, const gb_plan *plan)
{
    t->plan.scalars_buffer = -1;
    if (!plan->n_scalars) return;
    t->plan.n_scalars = plan->n_scalars;
    t->plan.scalar = plan->scalar;
    t->plan.scalar_type = plan->scalar_type;
    t->plan.scalars_buffer = t->n;
    t->buffer[t->n++] =
        (gb_plan_buffer){.role = GB_BUF_SCALARS, .bytes = (uint64_t)plan->n_scalars * 4};
}

/* --- data --- */

static float next_random(uint32_t *x) /* in [-1, 1) */
{
    *x = *x * 1664525u + 1013904223u;
    return (float)(*x >> 8) * 0x1p-23f - 1;
}

static void fill_floats(uint8_t *to, uint64_t bytes, gb_storage storage, uint32_t seed)
{
    for (uint64_t at = 0; at + gb_storage_size(storage) <= bytes; at += gb_storage_size(storage)) {
        float v = next_random(&seed);
        uint16_t half = storage == GB_S_F16 ? gb_f32_to_f16(v) : gb_f32_to_bf16(v);
        memcpy(to + at, storage == GB_S_F32 ? (void *)&v : &half, gb_storage_size(storage));
    }
}

static void fill_scalars(const gb_trial *t, uint8_t *to)
{
    for (int i = 0; i < t->plan.n_scalars; i++) {
        int32_t one = 1;
        float value = 1;
        memcpy(to + 4 * i, t->plan.scalar_type[i] == 'i' ? (void *)&one : &value, 4);
    }
}

static gb_status make_data(gb_trial *t, gb_error *err)
{
    const gb_backend *b = t->dev->backend;
    for (int i = 0; i < t->n; i++) {
        uint64_t bytes = t->buffer[i].bytes;
        if (!(t->data[i] = malloc(bytes))) return no_memory(err);
        memset(t->data[i], 0xff, bytes); /* NaN, for results */
        for (int k = 0; k < t->step.n_in; k++)
            if (t->step.in[k].buffer == i)
                fill_floats(t->data[i], bytes, t->step.in[k].storage, (uint32_t)i + 1);
        if (t->buffer[i].role == GB_BUF_SCALARS) fill_scalars(t, t->data[i]);
        gb_status status = gb_device_alloc(t->dev, bytes, &t->memory[i], err);
        if (!status) status = b->buffer_write(t->dev->dev, t->memory[i], 0, bytes, t->data[i], err);
        if (status) return status;
    }
    return GB_OK;
}

gb_status gb_trial_make(gb_trial *t, gb_device *dev, const gb_plan *plan, const gb_step *step,
                        gb_error *err)
{
    *t = (gb_trial){.dev = dev, .step = *step};
    t->step.variant[0] = 0;
    t->step.scratch = (gb_operand){.buffer = -1};
    t->step.scratch_bytes = t->step.packed_bytes = 0;
    t->step.once = false;
    t->step.fixed = 0;
    renumber(t);
    add_scalars(t, plan);
    gb_status status = make_data(t, err);
    return status ? status : gb_trial_sample(t, err);
}

void gb_trial_free(gb_trial *t)
{
    for (int i = 0; i < t->n; i++) {
        gb_device_free(t->dev, t->buffer[i].bytes, t->memory[i]);
        free(t->data[i]);
        free(t->trusted[i]);
    }
    for (int w = 0; w < GB_TRIAL_SAMPLES; w++)
        for (int k = 0; k < GB_MAX_STEP_OUT; k++) free(t->want[w][k]);
    *t = (gb_trial){0};
}

/* --- programs --- */

static gb_status add_scratch(gb_trial_program *p, gb_error *err)
{
    gb_trial *t = p->trial;
    gb_answer answer = {0};
    t->dev->backend->query(t->dev->dev, &p->step, &answer);
    if (!answer.ok) return gb_fail(err, GB_UNSUPPORTED, p->step.variant, NULL, "%s", answer.reason);
    if (!answer.scratch_bytes) return GB_OK;
    uint64_t bytes = (answer.scratch_bytes + 255) / 256 * 256;
    p->step.scratch_bytes = answer.scratch_bytes;
    p->step.scratch =
        (gb_operand){.buffer = t->n, .rank = 1, .dim = {(int64_t)(bytes / 4)}, .stride = {1}};
    p->buffer[t->n] = (gb_plan_buffer){.role = GB_BUF_ARENA, .bytes = bytes};
    p->plan.n_buffers = t->n + 1;
    return gb_device_alloc(t->dev, bytes, &p->memory[t->n], err);
}

gb_status gb_trial_program_make(gb_trial *t, const char *variant, gb_trial_program *p,
                                gb_error *err)
{
    *p = (gb_trial_program){.trial = t, .plan = t->plan, .step = t->step};
    const gb_backend *b = t->dev->backend;
    strncpy(p->step.variant, variant, sizeof p->step.variant - 1);
    memcpy(p->buffer, t->buffer, sizeof p->buffer);
    memcpy(p->memory, t->memory, sizeof p->memory);
    p->plan.n_steps = 1;
    p->plan.step = &p->step;
    p->plan.buffer = p->buffer;
    p->plan.n_buffers = t->n;
    gb_status status = add_scratch(p, err);
    if (!status) status = b->program_create(t->dev->dev, &p->plan, &p->program, err);
    if (!status) status = b->program_bind(p->program, p->memory, err);
    return status;
}

void gb_trial_program_free(gb_trial_program *p)
{
    gb_trial *t = p->trial;
    if (!t) return;
    if (p->program) t->dev->backend->program_destroy(p->program);
    if (p->plan.n_buffers > t->n) gb_device_free(t->dev, p->buffer[t->n].bytes, p->memory[t->n]);
    *p = (gb_trial_program){0};
}

gb_status gb_trial_time(gb_trial_program *p, int n, double *seconds, gb_error *err)
{
    gb_device *d = p->trial->dev;
    gb_status status = GB_OK;
    double start = gb_clock();
    for (int i = 0; i < n && !status; i++) status = d->backend->program_run(p->program, err);
    if (!status) status = d->backend->wait(d->dev, err);
    *seconds = (gb_clock() - start) / n;
    return status;
}
