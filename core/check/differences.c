/* Gradients against central differences of the loss, in float64 on the reference. */
#include <math.h>
#include <stdio.h>

#include "core/check/check.h"

#define STEP 1e-5
#define TOLERANCE 1e-6
#define ROUNDING 1e-10 /* of the loss: float64's, divided by the step */
enum { MOST_ELEMENTS = 24 }; /* of one input: spread over it where it has more */

typedef struct subject {
    const gb_check_case *c;
    gb_store *store;
    gb_program *p;
} subject;

static gb_status set(const subject *s, const gb_check_leaf *leaf, const gb_tensor *value, gb_error *err)
{
    return leaf->state ? gb_store_set(s->store, leaf->name, value, err)
                       : gb_program_set_input(s->p, leaf->name, value, err);
}

static gb_status loss_at(const subject *s, const gb_check_leaf *leaf, gb_tensor *value, int64_t i,
                         double x, double *loss, gb_error *err)
{
    gb_tensor t = {0};
    gb_tensor_set(value, i, x);
    gb_status status = set(s, leaf, value, err);
    if (status == GB_OK) status = gb_program_run(s->p, err);
    if (status == GB_OK) status = gb_program_output_f64(s->p, "loss", &t, err);
    if (status == GB_OK) *loss = gb_tensor_get(&t, 0);
    gb_tensor_free(&t);
    return status;
}

/* Is the gradient got of element i, at x, right? Where the loss has a kink it may be any slope between
 * those of both sides. */
static gb_status check_element(const subject *s, const gb_check_leaf *leaf, gb_tensor *value, int64_t i,
                               double got, double *worst, gb_error *err)
{
    double x = gb_tensor_get(value, i), loss[3] = {0};
    gb_status status = GB_OK;
    for (int k = 0; k < 3 && status == GB_OK; k++)
        status = loss_at(s, leaf, value, i, x + (k - 1) * STEP, &loss[k], err);
    gb_tensor_set(value, i, x);
    if (status != GB_OK) return status;
    double slope = (loss[2] - loss[0]) / (2 * STEP), left = (loss[1] - loss[0]) / STEP,
           right = (loss[2] - loss[1]) / STEP;
    double tolerance = TOLERANCE * (1 + fabs(slope)) + ROUNDING * fabs(loss[1]);
    double error = fabs(slope - got) / tolerance;
    bool kink = fabs(left - right) > 1000 * tolerance;
    if (kink && got > fmin(left, right) - 100 * tolerance && got < fmax(left, right) + 100 * tolerance)
        return GB_OK;
    if (error > *worst) *worst = error;
    if (error <= 1) return GB_OK;
    return gb_fail(err, GB_INTERNAL, leaf->name, NULL,
                   "gradient of %s, element %lld: %.9g, but differences give %.9g", leaf->name,
                   (long long)i, got, slope);
}

static gb_status check_leaf(const subject *s, const gb_check_output *o, double *worst, gb_error *err)
{
    const gb_check_leaf *leaf = &s->c->leaf[o->leaf];
    gb_tensor grad = {0}, value = {0};
    gb_status status = gb_program_run(s->p, err);
    if (status == GB_OK) status = gb_program_output_f64(s->p, o->name, &grad, err);
    if (status == GB_OK) status = gb_tensor_alloc(&value, GB_F64, &leaf->data.shape, err);
    int64_t n = status == GB_OK ? gb_shape_count(&value.shape) : 0;
    for (int64_t i = 0; i < n; i++) gb_tensor_set(&value, i, gb_tensor_get(&leaf->data, i));
    int64_t stride = (n + MOST_ELEMENTS - 1) / MOST_ELEMENTS;
    for (int64_t i = 0; i < n && status == GB_OK; i += stride)
        status = check_element(s, leaf, &value, i, gb_tensor_get(&grad, i), worst, err);
    if (status == GB_OK) status = set(s, leaf, &value, err);
    gb_tensor_free(&grad);
    gb_tensor_free(&value);
    return status;
}

static gb_status prepare(subject *s, gb_device *reference, gb_error *err)
{
    gb_status status = gb_store_create(reference, &s->store, err);
    if (status == GB_OK) status = gb_program_create(s->store, s->c->graph, NULL, &s->p, err);
    if (status == GB_OK) status = gb_check_set_data(s->c, s->store, s->p, false, err);
    return status;
}

gb_status gb_check_differences(const gb_check_case *c, gb_device *reference, double *worst,
                               gb_error *err)
{
    if (!c->loss) return GB_OK;
    for (int k = 0; k < c->n_leaves; k++)
        if (c->leaf[k].updated) return GB_OK; /* each run would begin from another state */
    subject s = {.c = c};
    gb_status status = prepare(&s, reference, err);
    for (int k = 0; k < c->n_outputs && status == GB_OK; k++)
        if (c->output[k].gradient) status = check_leaf(&s, &c->output[k], worst, err);
    gb_program_destroy(&s.p);
    gb_store_destroy(&s.store);
    return status;
}
