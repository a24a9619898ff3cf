/* One run of a case on a device. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/check/check.h"

void gb_check_values_free(gb_check_values *v)
{
    for (int k = 0; k < GB_CHECK_OUTPUTS; k++) gb_tensor_free(&v->output[k]);
    for (int k = 0; k < GB_CHECK_LEAVES; k++) gb_tensor_free(&v->state[k]);
}

/* The data with denormals as zeros, as some devices read them. */
static gb_status flushed_copy(const gb_tensor *from, gb_tensor *to, gb_error *err)
{
    gb_status status = gb_tensor_alloc(to, from->dtype, &from->shape, err);
    int64_t n = status == GB_OK ? gb_shape_count(&from->shape) : 0;
    for (int64_t i = 0; i < n; i++) {
        double v = gb_tensor_get(from, i);
        gb_tensor_set(to, i, fabs(v) < FLT_MIN ? copysign(0, v) : v);
    }
    return status;
}

static gb_status set_leaves(const gb_check_case *c, gb_store *store, gb_program *p, bool flush,
                            gb_error *err)
{
    gb_status status = GB_OK;
    for (int k = 0; k < c->n_leaves && status == GB_OK; k++) {
        const gb_check_leaf *leaf = &c->leaf[k];
        gb_tensor copy = {0};
        bool replace = flush && gb_dtype_is_float(leaf->data.dtype);
        if (replace) status = flushed_copy(&leaf->data, &copy, err);
        const gb_tensor *data = replace ? &copy : &leaf->data;
        if (status == GB_OK)
            status = leaf->state ? gb_store_set(store, leaf->name, data, err)
                                 : gb_program_set_input(p, leaf->name, data, err);
        gb_tensor_free(&copy);
    }
    return status;
}

static gb_status set_scalars(gb_program *p, gb_error *err)
{
    static const struct { const char *name; double value; } scalars[] = {
        {"seed", 7}, {"step", 3}, {"sample", 100}, {"lr", 0.125}, {"count", 0.25}};
    gb_status status = GB_OK;
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars && status == GB_OK; i++)
        status = gb_program_set_scalar(p, scalars[i].name, scalars[i].value, err);
    return status;
}

static gb_status read_values(const gb_check_case *c, gb_store *store, gb_program *p,
                             gb_check_values *v, gb_error *err)
{
    gb_status status = GB_OK;
    for (int k = 0; k < c->n_outputs && status == GB_OK; k++) {
        const gb_check_output *o = &c->output[k];
        gb_dtype dtype = gb_value_dtype(c->graph, o->value);
        status = gb_program_output(p, o->name, &v->output[k], err);
        if (status == GB_OK && v->output[k].dtype != dtype)
            return gb_fail(err, GB_INTERNAL, o->name, NULL, "%s has type %s, but came out as %s", o->name,
                           gb_dtype_name(dtype), gb_dtype_name(v->output[k].dtype));
        if (status != GB_OK || !gb_dtype_is_float(dtype)) continue;
        gb_tensor_free(&v->output[k]);
        status = gb_program_output_f64(p, o->name, &v->output[k], err);
    }
    for (int k = 0; k < c->n_leaves && status == GB_OK; k++)
        if (c->leaf[k].updated) status = gb_store_get(store, c->leaf[k].name, &v->state[k], err);
    return status;
}

gb_status gb_check_set_data(const gb_check_case *c, gb_store *store, gb_program *p, bool flush,
                            gb_error *err)
{
    gb_status status = set_scalars(p, err);
    return status == GB_OK ? set_leaves(c, store, p, flush, err) : status;
}

gb_status gb_check_run(const gb_check_case *c, gb_device *dev, const gb_program_options *options,
                       bool flush, gb_check_values *values, gb_error *err)
{
    gb_store *store = NULL;
    gb_program *p = NULL;
    *values = (gb_check_values){0};
    gb_status status = gb_store_create(dev, &store, err);
    if (status == GB_OK) status = gb_program_create(store, c->graph, options, &p, err);
    if (status == GB_OK) {
        values->kernels = gb_program_get_info(p)->kernels;
        status = gb_check_set_data(c, store, p, flush, err);
    }
    if (status == GB_OK) status = gb_program_run(p, err);
    if (status == GB_OK) status = read_values(c, store, p, values, err);
    if (status != GB_OK) gb_check_values_free(values);
    gb_program_destroy(&p);
    gb_store_destroy(&store);
    return status;
}
