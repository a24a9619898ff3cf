/* Is what an implementation computes right? A part of the results is compared with float64, and all
 * of them with those of the implementation that was right first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/graph.h>

#include "core/base/half.h"
#include "core/runtime/trial.h"

static const double SAMPLE_WORK = 2e8; /* multiply-adds that the reference may spend on a sample */

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, "tuning", "close other programs",
                   "no memory to check a step");
}

static double allowed(const gb_step *s)
{
    double table = gb_operator_tolerance(s->kind == GB_STEP_MATMUL ? "MatMul" : "Conv");
    gb_storage storage = s->out[0].storage;
    double rounding = storage == GB_S_F16 ? 0x1p-10 : storage == GB_S_BF16 ? 0x1p-7 : 0;
    return (s->fast ? 20 * table : table) + rounding; /* 20: see gb_math */
}

/* --- windows --- */

static int64_t count_of(const gb_operand *o)
{
    int64_t n = 1;
    for (int i = 0; i < o->rank; i++) n *= o->dim[i];
    return n;
}

static double element(const uint8_t *at, gb_storage storage)
{
    float f;
    int32_t i;
    uint16_t h;
    switch (storage) {
    case GB_S_F32:
        return memcpy(&f, at, 4), f;
    case GB_S_I32:
        return memcpy(&i, at, 4), i;
    case GB_S_F16:
        return memcpy(&h, at, 2), gb_f16_to_f32(h);
    default:
        return memcpy(&h, at, 2), gb_bf16_to_f32(h);
    }
}

/* The window's elements in row-major order; free() them. NULL: no memory. */
static double *gather(const gb_operand *o, const uint8_t *bytes)
{
    int64_t n = count_of(o), at[GB_MAX_RANK] = {0}, size = (int64_t)gb_storage_size(o->storage);
    double *value = malloc((size_t)n * sizeof *value);
    for (int64_t i = 0; value && i < n; i++) {
        int64_t place = 0;
        for (int d = 0; d < o->rank; d++) place += at[d] * o->stride[d];
        value[i] = element(bytes + (int64_t)o->offset + place * size, o->storage);
        for (int d = o->rank - 1; d >= 0 && ++at[d] == o->dim[d]; d--) at[d] = 0;
    }
    return value;
}

/* Keeps at most `most` places of an axis: the first ones, or the last. */
static void narrow(gb_operand *o, int axis, int64_t most, bool last)
{
    if (o->dim[axis] <= most) return;
    if (last)
        o->offset += (uint64_t)((o->dim[axis] - most) * o->stride[axis] *
                                (int64_t)gb_storage_size(o->storage));
    o->dim[axis] = most;
}

static void narrow_results(gb_step *s, int axis, int64_t most, bool last)
{
    for (int k = 0; k < s->n_out; k++) narrow(&s->out[k], axis, most, last);
    for (int i = 2; i < s->n_in; i++) narrow(&s->in[i], axis, most, last); /* of the epilogue */
}

static void narrow_matmul(gb_step *s, bool last)
{
    int r = s->out[0].rank;
    for (int i = 0; i < r - 2; i++) {
        narrow_results(s, i, 1, last);
        narrow(&s->in[0], i, 1, last);
        narrow(&s->in[1], i, 1, last);
    }
    narrow_results(s, r - 2, 16, last);
    narrow(&s->in[0], r - 2, 16, last);
    narrow_results(s, r - 1, 40, last);
    narrow(&s->in[1], r - 1, 40, last);
}

/* Axes: images are [N, C, H, W], filters [O, C, KH, KW]. Groups tie channels together. */
static void narrow_conv(gb_step *s, bool last)
{
    bool grouped = s->u.conv.groups > 1;
    if (s->kind == GB_STEP_CONV_FILTER) {
        if (grouped) return;
        narrow_results(s, 0, 3, last);
        narrow(&s->in[1], 1, 3, last);
        narrow_results(s, 1, 3, last);
        narrow(&s->in[0], 1, 3, last);
        return;
    }
    narrow_results(s, 0, 1, last);
    narrow(&s->in[0], 0, 1, last);
    if (grouped) return;
    narrow_results(s, 1, 8, last);
    narrow(&s->in[1], s->kind == GB_STEP_CONV ? 0 : 1, 8, last);
}

/* Multiply-adds of the step, or an upper bound. */
static double work(const gb_step *s)
{
    const gb_operand *a = &s->in[0],
                     *filter = s->kind == GB_STEP_CONV_FILTER ? &s->out[0] : &s->in[1];
    double results = (double)count_of(&s->out[0]);
    switch (s->kind) {
    case GB_STEP_MATMUL:
        return results * (double)a->dim[a->rank - 1];
    case GB_STEP_CONV:
    case GB_STEP_CONV_INPUT:
        return results * (double)count_of(filter);
    case GB_STEP_CONV_FILTER:
        return results * (double)count_of(&s->in[1]);
    default: {
        double n = results;
        for (int i = 0; i < s->rank; i++) n = i ? n * (double)s->dim[i] : (double)s->dim[i];
        return n * (s->expr ? s->expr->n_nodes : 9);
    }
    }
}

/* --- float64 --- */

typedef struct oracle { /* the reference, with the step of a sample on dense operands */
    const gb_backend *b;
    gb_backend_device *dev;
    gb_plan plan;
    gb_step step;
    gb_plan_buffer buffer[GB_TRIAL_BUFFERS];
    gb_backend_buffer *memory[GB_TRIAL_BUFFERS];
    gb_backend_program *program;
} oracle;

static void make_dense(oracle *o, gb_operand *x)
{
    int64_t n = 1;
    x->buffer = o->plan.n_buffers;
    x->offset = 0;
    x->storage = GB_S_F32; /* results stay unrounded */
    for (int i = x->rank - 1; i >= 0; i--) {
        x->stride[i] = n;
        n *= x->dim[i];
    }
    o->buffer[o->plan.n_buffers++] =
        (gb_plan_buffer){.role = GB_BUF_INPUT, .bytes = (uint64_t)n * 4};
}

static gb_status load(oracle *o, const gb_trial *t, const gb_step *sample, gb_error *err)
{
    gb_status status = GB_OK;
    for (int i = 0; i < o->plan.n_buffers && !status; i++)
        status = o->b->buffer_create(o->dev, o->buffer[i].bytes, &o->memory[i], err);
    for (int i = 0; i < sample->n_in && !status; i++) {
        double *value = gather(&sample->in[i], t->data[sample->in[i].buffer]);
        status = value ? o->b->write_f64(o->dev, o->memory[i], &o->step.in[i], value, err)
                       : no_memory(err);
        free(value);
    }
    if (!status && o->plan.scalars_buffer >= 0)
        status = o->b->buffer_write(o->dev, o->memory[o->plan.scalars_buffer], 0,
                                    (uint64_t)o->plan.n_scalars * 4,
                                    t->data[t->plan.scalars_buffer], err);
    return status;
}

static gb_status compute(oracle *o, double *want[GB_MAX_STEP_OUT], gb_error *err)
{
    gb_status status = o->b->program_create(o->dev, &o->plan, &o->program, err);
    if (!status) status = o->b->program_bind(o->program, o->memory, err);
    if (!status) status = o->b->program_run(o->program, err);
    for (int k = 0; k < o->step.n_out && !status; k++) {
        want[k] = malloc((size_t)count_of(&o->step.out[k]) * sizeof *want[k]);
        status = want[k] ? o->b->read_f64(o->dev, o->memory[o->step.out[k].buffer], &o->step.out[k],
                                          want[k], err)
                         : no_memory(err);
    }
    return status;
}

static gb_status ask_oracle(gb_trial *t, int w, gb_error *err)
{
    oracle o = {.plan = t->plan, .step = t->sample[w]};
    for (int i = 0; gb_backends[i]; i++)
        if (strcmp(gb_backends[i]->name, "reference") == 0) o.b = gb_backends[i];
    o.plan.n_steps = 1;
    o.plan.step = &o.step;
    o.plan.buffer = o.buffer;
    o.plan.n_buffers = 0;
    for (int i = 0; i < o.step.n_in; i++) make_dense(&o, &o.step.in[i]);
    for (int k = 0; k < o.step.n_out; k++) make_dense(&o, &o.step.out[k]);
    if (o.plan.scalars_buffer >= 0) {
        o.plan.scalars_buffer = o.plan.n_buffers;
        o.buffer[o.plan.n_buffers++] = t->buffer[t->plan.scalars_buffer];
    }
    gb_status status = o.b->open(&t->dev->ctx->options, 0, &o.dev, err);
    if (status) return status;
    status = load(&o, t, &t->sample[w], err);
    if (!status) status = compute(&o, t->want[w], err);
    if (o.program) o.b->program_destroy(o.program);
    for (int i = 0; i < o.plan.n_buffers; i++) o.b->buffer_destroy(o.dev, o.memory[i]);
    o.b->close(o.dev);
    return status;
}

gb_status gb_trial_sample(gb_trial *t, gb_error *err)
{
    gb_status status = GB_OK;
    for (int w = 0; w < GB_TRIAL_SAMPLES && !status; w++) {
        gb_step *s = &t->sample[w];
        *s = t->step;
        if (s->kind == GB_STEP_MATMUL)
            narrow_matmul(s, w == 1);
        else if (s->kind == GB_STEP_CONV || s->kind == GB_STEP_CONV_INPUT ||
                 s->kind == GB_STEP_CONV_FILTER)
            narrow_conv(s, w == 1);
        else if (w == 1)
            break; /* these are not cut */
        if (work(s) > SAMPLE_WORK) break;
        status = ask_oracle(t, w, err);
        t->n_samples += !status;
    }
    return status;
}

/* --- comparing --- */

static double excess(double got, double want, double bound)
{
    if (got == want || (isnan(got) && isnan(want))) return 0;
    double error = fabs(got - want) / bound;
    return isnan(error) ? INFINITY : error;
}

static double largest(const double *value, int64_t n)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(value[i])) top = fmax(top, fabs(value[i]));
    return fmax(top, 1e-30);
}

static gb_status compare_samples(const gb_trial *t, uint8_t *const *got, double *error,
                                 gb_error *err)
{
    for (int w = 0; w < t->n_samples; w++)
        for (int k = 0; k < t->step.n_out; k++) {
            const gb_operand *o = &t->sample[w].out[k];
            int64_t n = count_of(o);
            double *value = gather(o, got[o->buffer]);
            double bound = allowed(&t->step) * largest(t->want[w][k], n);
            if (!value) return no_memory(err);
            for (int64_t i = 0; i < n; i++)
                *error = fmax(*error, excess(value[i], t->want[w][k][i], bound));
            free(value);
        }
    return GB_OK;
}

/* Everywhere: between results the poison has to be what it was. */
static void compare_all(const gb_trial *t, uint8_t *const *got, double *error)
{
    for (int k = 0; k < t->step.n_out; k++) {
        const gb_operand *o = &t->step.out[k];
        const uint8_t *a = got[o->buffer], *b = t->trusted[o->buffer];
        uint64_t bytes = t->buffer[o->buffer].bytes, size = gb_storage_size(o->storage);
        double top = 1e-30;
        for (uint64_t at = 0; at < bytes; at += size) {
            double v = fabs(element(b + at, o->storage));
            if (isfinite(v) && v > top) top = v;
        }
        double bound = 2 * allowed(&t->step) * top; /* both may be off */
        for (uint64_t at = 0; at < bytes; at += size)
            *error = fmax(*error,
                          excess(element(a + at, o->storage), element(b + at, o->storage), bound));
    }
}

/* --- checking --- */

static gb_status poison(gb_trial_program *p, gb_error *err)
{
    gb_trial *t = p->trial;
    gb_device *d = t->dev;
    gb_status status = GB_OK;
    for (int i = 0; i < t->n && !status; i++)
        if (t->buffer[i].role == GB_BUF_OUTPUT)
            status = d->backend->buffer_write(d->dev, t->memory[i], 0, t->buffer[i].bytes,
                                              t->data[i], err);
    if (status || p->plan.n_buffers == t->n) return status;
    uint64_t bytes = p->buffer[t->n].bytes;
    uint8_t *nan = malloc(bytes);
    if (!nan) return no_memory(err);
    memset(nan, 0xff, bytes);
    status = d->backend->buffer_write(d->dev, p->memory[t->n], 0, bytes, nan, err);
    free(nan);
    return status;
}

static gb_status run_and_read(gb_trial_program *p, uint8_t **got, gb_error *err)
{
    gb_trial *t = p->trial;
    gb_device *d = t->dev;
    gb_status status = d->backend->program_run(p->program, err);
    for (int i = 0; i < t->n && !status; i++) {
        if (t->buffer[i].role != GB_BUF_OUTPUT) continue;
        if (!got[i] && !(got[i] = malloc(t->buffer[i].bytes))) return no_memory(err);
        status = d->backend->buffer_read(d->dev, t->memory[i], 0, t->buffer[i].bytes, got[i], err);
    }
    return status;
}

gb_status gb_trial_check(gb_trial_program *p, double *error, gb_error *err)
{
    gb_trial *t = p->trial;
    uint8_t *got[GB_TRIAL_BUFFERS] = {0}, *again[GB_TRIAL_BUFFERS] = {0};
    bool trusted = false;
    *error = 0;
    gb_status status = poison(p, err);
    if (!status) status = run_and_read(p, got, err);
    if (!status) status = run_and_read(p, again, err); /* on scratch that is in use */
    for (int i = 0; i < t->n && !status; i++) {
        if (got[i] && memcmp(got[i], again[i], t->buffer[i].bytes) != 0) *error = INFINITY;
        trusted |= t->trusted[i] != NULL;
    }
    if (!status) status = compare_samples(t, got, error, err);
    if (!status && trusted) compare_all(t, got, error);
    bool adopt = !status && !trusted && *error <= 1;
    for (int i = 0; i < t->n; i++) {
        if (adopt)
            t->trusted[i] = got[i];
        else
            free(got[i]);
        free(again[i]);
    }
    return status;
}
