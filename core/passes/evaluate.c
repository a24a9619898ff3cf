/* Evaluates a plan of simple steps on the host, in float64: for constants. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/passes/fold.h"

typedef struct memory {
    const gb_plan *plan;
    double **value; /* by buffer, one for each element of 4 bytes */
    bool *rounded;  /* by buffer: not all of it is exact */
} memory;

static int64_t count(const int64_t *dim, int rank)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dim[i];
    return n;
}

static void next(int64_t *at, const int64_t *dim, int rank)
{
    for (int i = rank - 1; i >= 0; i--) {
        if (++at[i] < dim[i]) return;
        at[i] = 0;
    }
}

static double *cell(const memory *m, const gb_operand *o, const int64_t *at)
{
    int64_t offset = (int64_t)(o->offset / 4);
    for (int i = 0; i < o->rank; i++) offset += at[i] * o->stride[i];
    return &m->value[o->buffer][offset];
}

static void store(const memory *m, const gb_operand *o, const int64_t *at, double v)
{
    double kept = o->storage == GB_S_F32 ? (double)(float)v : v;
    if (!(kept == v || isnan(v))) m->rounded[o->buffer] = true;
    *cell(m, o, at) = kept;
}

/* What is made from rounded values is not exact either. */
static void pass_on(const memory *m, const gb_step *s)
{
    bool rounded = false;
    for (int k = 0; k < s->n_in; k++) rounded |= m->rounded[s->in[k].buffer];
    for (int k = 0; rounded && k < s->n_out; k++) m->rounded[s->out[k].buffer] = true;
}

static bool pointwise(const memory *m, const gb_step *s)
{
    double in[GB_MAX_STEP_IN], out[GB_MAX_STEP_OUT];
    double *scratch = malloc(((size_t)s->expr->n_nodes + 1) * sizeof *scratch);
    int64_t at[GB_MAX_RANK] = {0}, n = count(s->dim, s->rank);
    for (int64_t i = 0; scratch && i < n; i++, next(at, s->dim, s->rank)) {
        for (int k = 0; k < s->n_in; k++) in[k] = *cell(m, &s->in[k], at);
        gb_expr_eval(s->expr, in, at, NULL, scratch, out);
        for (int k = 0; k < s->n_out; k++) store(m, &s->out[k], at, out[k]);
    }
    free(scratch);
    return scratch != NULL;
}

/* GATHER: rows of [outer, rows, inner] by index. */
static bool gather(const memory *m, const gb_step *s)
{
    const gb_operand *data = &s->in[0], *out = &s->out[0];
    int64_t at[3] = {0}, n = count(out->dim, 3);
    for (int64_t i = 0; i < n; i++, next(at, out->dim, 3)) {
        int64_t row = (int64_t)*cell(m, &s->in[1], &at[1]);
        if (row < 0) row += data->dim[1];
        bool there = row >= 0 && row < data->dim[1];
        double missing = data->storage == GB_S_I32 ? 0 : NAN;
        store(m, out, at, there ? *cell(m, data, (int64_t[]){at[0], row, at[2]}) : missing);
    }
    return true;
}

bool gb_can_evaluate(const gb_plan *plan)
{
    for (int i = 0; i < plan->n_steps; i++) {
        gb_step_kind kind = plan->step[i].kind;
        if (kind != GB_STEP_POINTWISE && kind != GB_STEP_GATHER) return false;
    }
    return true;
}

static bool fill(memory *m)
{
    for (int b = 0; b < m->plan->n_buffers; b++) {
        const gb_plan_buffer *buffer = &m->plan->buffer[b];
        size_t n = (size_t)(buffer->bytes / 4);
        m->value[b] = calloc(n + 1, sizeof *m->value[b]);
        if (!m->value[b]) return false;
    }
    for (int i = 0; i < m->plan->n_steps; i++) /* constants are read as what they are stored as */
        for (int k = 0; k < m->plan->step[i].n_in; k++) {
            const gb_operand *o = &m->plan->step[i].in[k];
            const gb_plan_buffer *buffer = &m->plan->buffer[o->buffer];
            for (size_t j = 0; buffer->data && j < buffer->bytes / 4; j++) {
                int32_t word;
                float f;
                memcpy(&word, (const char *)buffer->data + 4 * j, 4);
                memcpy(&f, &word, 4);
                m->value[o->buffer][j] = o->storage == GB_S_F32 ? (double)f : (double)word;
            }
        }
    return true;
}

bool gb_evaluate(const gb_plan *plan, gb_tensor *out, bool *exact)
{
    memory m = {.plan = plan};
    m.value = calloc((size_t)plan->n_buffers + 1, sizeof *m.value);
    m.rounded = calloc((size_t)plan->n_buffers + 1, sizeof *m.rounded);
    bool ok = m.value && m.rounded && fill(&m);
    for (int i = 0; ok && i < plan->n_steps; pass_on(&m, &plan->step[i++]))
        ok = plan->step[i].kind == GB_STEP_GATHER ? gather(&m, &plan->step[i])
                                                  : pointwise(&m, &plan->step[i]);
    for (int o = 0; ok && o < plan->n_outputs; o++) {
        const gb_operand *from = &plan->output[o].where;
        exact[o] = !m.rounded[from->buffer];
        int64_t at[GB_MAX_RANK] = {0}, n = count(from->dim, from->rank);
        for (int64_t i = 0; i < n; i++, next(at, from->dim, from->rank))
            gb_tensor_set(&out[o], i, *cell(&m, from, at));
    }
    for (int b = 0; m.value && b < plan->n_buffers; b++) free(m.value[b]);
    free(m.value);
    free(m.rounded);
    return ok;
}
