/* Whether a device computed what the reference did. */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "core/check/check.h"

/* A gradient passes through several steps, each with an error of its own. */
#define GRADIENT_FACTOR 4

static double largest(const gb_tensor *t)
{
    double most = 0;
    for (int64_t i = 0, n = gb_shape_count(&t->shape); i < n; i++) {
        double v = fabs(gb_tensor_get(t, i));
        if (isfinite(v) && v > most) most = v;
    }
    return most;
}

/* NaN for NaN, infinity for infinity: overflow of f32 counts as infinity, denormals as zero. */
static bool same_special(double got, double want, double tolerance)
{
    if (isnan(got) || isnan(want)) return isnan(got) && isnan(want);
    if (fabs(want) > FLT_MAX) want = copysign(INFINITY, want);
    if (isinf(want) || isinf(got)) /* just below and just above the largest number are neighbours */
        return got == want || (got * want > 0 && fmin(fabs(got), fabs(want)) > 0.999 * FLT_MAX);
    return fabs(got - want) <= tolerance * fabs(want) + FLT_MIN;
}

static gb_status differs(const char *name, int64_t i, const gb_tensor *got, const gb_tensor *want,
                         double scale, double tolerance, gb_error *err)
{
    char text[160];
    return gb_fail(err, GB_INTERNAL, name, NULL,
                   "%s element %lld of %s: got %.9g, the reference gives %.9g (scale %.3g, "
                   "tolerance %.2g)",
                   name, (long long)i, gb_shape_text(&want->shape, text, sizeof text),
                   gb_tensor_get(got, i), gb_tensor_get(want, i), scale, tolerance);
}

static gb_status compare(const char *name, const gb_tensor *got, const gb_tensor *want,
                         const gb_tensor *flushed, double tolerance, double scale, bool special,
                         double *worst, gb_error *err)
{
    bool real = gb_dtype_is_float(want->dtype);
    double limit = tolerance * scale + FLT_MIN, most = 0;
    int64_t at = -1;
    for (int64_t i = 0, n = gb_shape_count(&want->shape); i < n; i++) {
        double g = gb_tensor_get(got, i), w = gb_tensor_get(want, i), error;
        if (special && real) {
            bool ok = same_special(g, w, 4 * tolerance) ||
                      (flushed && same_special(g, gb_tensor_get(flushed, i), 4 * tolerance));
            error = ok ? 0 : INFINITY;
        } else if (real && isfinite(w)) {
            error = fabs(g - w) / limit;
        } else {
            error = g == w || (isnan(g) && isnan(w)) ||
                            (special && flushed && g == gb_tensor_get(flushed, i))
                        ? 0
                        : INFINITY;
        }
        if (isnan(error)) error = INFINITY;
        if (error > most) {
            most = error;
            at = i;
        }
    }
    if (most > *worst) *worst = most;
    return most <= 1 ? GB_OK : differs(name, at, got, want, scale, tolerance, err);
}

static bool is_zero(const gb_tensor *t)
{
    int64_t n = gb_shape_count(&t->shape);
    if (n < (gb_dtype_is_float(t->dtype) ? 4 : 16)) return false; /* so few may well be */
    for (int64_t i = 0; i < n; i++)
        if (gb_tensor_get(t, i) != 0) return false; /* nor is NaN */
    return true;
}

/* A result that is zero everywhere proves little, and so do gradients that are so without exception. */
static gb_status distrust(const gb_check_case *c, const gb_check_values *want, gb_error *err)
{
    const char *name = NULL;
    int gradients = 0, zeros = 0;
    for (int k = 0; k < c->n_outputs; k++) {
        bool zero = !c->output[k].loss && is_zero(&want->output[k]);
        gradients += c->output[k].gradient;
        zeros += c->output[k].gradient && zero;
        if (zero && !c->output[k].gradient) name = c->output[k].name;
    }
    if (gradients && zeros == gradients) name = "every gradient";
    if (!name || c->empty) return GB_OK;
    return gb_fail(err, GB_INTERNAL, name, "change the data of the case",
                   "%s is zero everywhere on the reference: the case proves nothing", name);
}

/* What an output's errors are measured by: its largest element; one of few elements may happen to lie
 * near zero, so that it is measured by all outputs of its kind. */
static double scale_of(const gb_check_case *c, const gb_check_values *want, int k)
{
    const gb_tensor *own = &want->output[k];
    double most = gb_dtype_is_float(own->dtype) ? largest(own) : 0;
    if (gb_shape_count(&own->shape) >= 4) return most;
    for (int i = 0; i < c->n_outputs; i++)
        if (!c->output[i].loss && c->output[i].gradient == c->output[k].gradient &&
            gb_dtype_is_float(want->output[i].dtype))
            most = fmax(most, largest(&want->output[i]));
    return most;
}

gb_status gb_check_compare(const gb_check_case *c, const gb_check_values *got,
                           const gb_check_values *want, const gb_check_values *flushed,
                           double *worst, gb_error *err)
{
    gb_status status = distrust(c, want, err);
    for (int k = 0; k < c->n_outputs && status == GB_OK; k++) {
        const gb_check_output *o = &c->output[k];
        if (o->loss) continue; /* its terms may cancel: no scale to measure by */
        status = compare(o->name, &got->output[k], &want->output[k],
                         flushed ? &flushed->output[k] : NULL,
                         o->gradient ? GRADIENT_FACTOR * c->tolerance : o->tolerance,
                         scale_of(c, want, k), c->special, worst, err);
    }
    for (int k = 0; k < c->n_leaves && status == GB_OK; k++)
        if (c->leaf[k].updated)
            status = compare(c->leaf[k].name, &got->state[k], &want->state[k], NULL, c->tolerance,
                             largest(&want->state[k]), c->special, worst, err);
    return status;
}
