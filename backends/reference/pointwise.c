/* Steps that are made of an expression: pointwise, reductions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/reference/reference.h"

/* Evaluates the step's expression at one place of its iteration space. */
static void eval_at(const gb_backend_program *p, const gb_step *s, const int64_t *coord,
                    double *scratch, double *out)
{
    double in[GB_MAX_STEP_IN];
    for (int k = 0; k < s->n_in; k++) in[k] = gb_ref_load(p, &s->in[k], coord);
    gb_expr_eval(s->expr, in, coord, p->scalar, scratch, out);
}

gb_status gb_ref_pointwise(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    double out[GB_MAX_STEP_OUT], *scratch = gb_ref_alloc(s->expr->n_nodes, err);
    if (!scratch) return GB_OUT_OF_MEMORY;
    int64_t coord[GB_MAX_RANK] = {0}, n = gb_ref_count(s->dim, s->rank);
    for (int64_t i = 0; i < n; i++, gb_ref_next(coord, s->dim, s->rank)) {
        eval_at(p, s, coord, scratch, out);
        for (int k = 0; k < s->n_out; k++) gb_ref_store(p, &s->out[k], coord, out[k]);
    }
    free(scratch);
    return GB_OK;
}

/* --- reductions --- */

static double combine_float(gb_combine how, const double *v, int64_t n)
{
    double r = how == GB_SUM ? 0 : how == GB_PROD ? 1 : how == GB_MAX ? -INFINITY : INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (how == GB_SUM) r += v[i];
        else if (how == GB_PROD) r *= v[i];
        else if (isnan(v[i]) || isnan(r)) r = NAN;
        else if (how == GB_MAX ? v[i] > r : v[i] < r) r = v[i];
    }
    return r;
}

static double combine_integer(gb_combine how, const double *v, int64_t n)
{
    int32_t r = how == GB_SUM ? 0 : how == GB_PROD ? 1 : how == GB_MAX ? INT32_MIN : INT32_MAX;
    for (int64_t i = 0; i < n; i++) {
        int32_t x = (int32_t)v[i];
        if (how == GB_SUM) r = (int32_t)((uint32_t)r + (uint32_t)x);
        else if (how == GB_PROD) r = (int32_t)((uint32_t)r * (uint32_t)x);
        else if (how == GB_MAX ? x > r : x < r) r = x;
    }
    return r;
}

static void moments(const double *v, int64_t n, double *mean, double *variance)
{
    *mean = combine_float(GB_SUM, v, n) / (double)n;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (v[i] - *mean) * (v[i] - *mean);
    *variance = sum / (double)n;
}

/* Combines value[k][0 … n) and stores the results of one kept place. */
static void reduce_store(const gb_backend_program *p, const gb_step *s, const double *value,
                         int64_t n, const int64_t *kept)
{
    for (int k = 0, o = 0; k < s->n_red; k++, value += n) {
        if (s->red[k] == GB_MOMENTS) {
            double mean, variance;
            moments(value, n, &mean, &variance);
            gb_ref_store(p, &s->out[o++], kept, mean);
            gb_ref_store(p, &s->out[o++], kept, variance);
            continue;
        }
        bool integer = s->expr->node[s->expr->out[k]].type == 'i';
        double r = integer ? combine_integer(s->red[k], value, n)
                           : combine_float(s->red[k], value, n);
        gb_ref_store(p, &s->out[o++], kept, r * s->scale[k]);
    }
}

gb_status gb_ref_reduce(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    int n_reduced = s->rank - s->n_kept;
    int64_t kept = gb_ref_count(s->dim, s->n_kept);
    int64_t n = gb_ref_count(s->dim + s->n_kept, n_reduced);
    double out[GB_MAX_STEP_OUT];
    double *scratch = gb_ref_alloc(s->expr->n_nodes, err);
    double *value = scratch ? gb_ref_alloc(n * s->n_red, err) : NULL;
    int64_t coord[GB_MAX_RANK] = {0};
    for (int64_t i = 0; value && i < kept; i++, gb_ref_next(coord, s->dim, s->n_kept)) {
        for (int64_t j = 0; j < n; j++) {
            eval_at(p, s, coord, scratch, out);
            for (int k = 0; k < s->n_red; k++) value[k * n + j] = out[k];
            gb_ref_next(coord + s->n_kept, s->dim + s->n_kept, n_reduced);
        }
        reduce_store(p, s, value, n, coord);
    }
    gb_status status = value ? GB_OK : GB_OUT_OF_MEMORY;
    free(value);
    free(scratch);
    return status;
}

gb_status gb_ref_argreduce(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    int axis = s->rank - 1;
    int64_t coord[GB_MAX_RANK] = {0}, kept = gb_ref_count(s->dim, axis);
    for (int64_t i = 0; i < kept; i++, gb_ref_next(coord, s->dim, axis)) {
        int64_t best = 0;
        double extreme = 0;
        for (int64_t j = 0; j < s->dim[axis]; j++) {
            coord[axis] = j;
            double v = gb_ref_load(p, &s->in[0], coord);
            bool equal = v == extreme || (isnan(v) && isnan(extreme));
            bool better = !isnan(extreme) &&
                          (isnan(v) || (s->u.arg.min ? v < extreme : v > extreme));
            if (j && !better && !(equal && s->u.arg.last)) continue;
            best = j;
            extreme = v;
        }
        coord[axis] = 0;
        gb_ref_store(p, &s->out[0], coord, (double)best);
    }
    return GB_OK;
}
