/* Comparing devices on an ONNX model: its forward run on inputs made up here. */
#include <math.h>
#include <stdlib.h>

#include <gimbal/onnx.h>

#include "core/compare/drift.h"

/* Floats between -1 and 1, without a pattern that a layer could cancel; integers 0, which is an index of
 * any table. */
static gb_status make_inputs(const gb_graph *g, gb_compare_inputs *in, gb_error *err)
{
    gb_value v;
    gb_status status = GB_OK;
    for (size_t i = 0; !status && (v = gb_graph_input_at(g, i)) != GB_NONE; i++) {
        gb_shape s = gb_value_shape(g, v);
        if (in->n == GB_COMPARE_INPUTS)
            return gb_fail(err, GB_UNSUPPORTED, "model", NULL, "the model has more than %d inputs", GB_COMPARE_INPUTS);
        in->name[in->n] = gb_value_name(g, v);
        status = gb_tensor_alloc(&in->value[in->n], gb_value_dtype(g, v), &s, err);
        for (int64_t k = 0; !status && gb_dtype_is_float(gb_value_dtype(g, v)) && k < gb_shape_count(&s); k++)
            gb_tensor_set(&in->value[in->n], k, sin(1.7 * (double)k + (double)i) * cos(0.013 * (double)k));
        in->n += !status;
    }
    return status;
}

static gb_status time_device(gb_device *dev, const gb_graph *g, const gb_compare_inputs *in, gb_comparison *c,
                             int k, gb_error *err)
{
    gb_store *store = NULL;
    gb_program *p = NULL;
    const gb_step_time *rows;
    int n = 0;
    gb_status status = gb_store_create(dev, &store, err);
    if (!status) status = gb_program_create(store, g, NULL, &p, err);
    for (int i = 0; i < in->n && !status; i++) status = gb_program_set_input(p, in->name[i], &in->value[i], err);
    if (!status) status = gb_program_run(p, err); /* what is done once does not count */
    if (!status) status = gb_program_profile(p, &rows, &n, err);
    for (int i = 0; i < n && !status; i++) c->step_ms[k] += rows[i].seconds * 1e3;
    if (!status) {
        const gb_program_info *info = gb_program_get_info(p);
        c->planned_bytes[k] = info->arena_bytes + info->state_bytes + info->other_bytes;
        gb_compare_add_times(c, k, rows, n);
    }
    gb_program_destroy(&p);
    gb_store_destroy(&store);
    return status;
}

/* Both graphs are read from the file: drift is taken with every layer as an output, times without. */
static gb_status compare(gb_context *ctx, const char *path, gb_device *const *dev, const gb_compare_options *o,
                         gb_comparison *c, gb_error *err)
{
    gb_onnx_options onnx = {.batch = o->examples > 0 ? o->examples : 8};
    gb_graph *watched = NULL, *plain = NULL;
    gb_compare_inputs in = {0};
    gb_status status = gb_onnx_read(path, &onnx, &watched, err);
    if (!status) status = gb_onnx_read(path, &onnx, &plain, err);
    if (!status) status = make_inputs(plain, &in, err);
    if (!status) status = gb_compare_graph_drift(ctx, watched, &in, dev, o, c, err);
    for (int k = 0; k < c->n_devices && !status; k++) status = time_device(dev[k], plain, &in, c, k, err);
    for (int i = 0; i < in.n; i++) gb_tensor_free(&in.value[i]);
    gb_graph_destroy(&watched);
    gb_graph_destroy(&plain);
    return status;
}

gb_status gb_compare_model(gb_context *ctx, const char *path, const char *const *ids, int n,
                           const gb_compare_options *options, gb_comparison *c, gb_error *err)
{
    gb_compare_options none = {0};
    gb_device *dev[GB_COMPARE_MAX] = {0};
    *c = (gb_comparison){.n_devices = n};
    if (n < 1 || n > GB_COMPARE_MAX)
        return gb_fail(err, GB_INVALID, "--devices", "name 1 to 16 devices", "%d devices cannot be compared", n);
    gb_status status = GB_OK;
    for (int k = 0; k < n && !status; k++) {
        status = gb_device_open(ctx, ids[k], &dev[k], err);
        if (!status) c->device[k] = *gb_device_get_info(dev[k]);
    }
    if (!status) status = compare(ctx, path, dev, options ? options : &none, c, err);
    if (!status) gb_compare_judge(c);
    for (int k = 0; k < n; k++) gb_device_close(&dev[k]);
    if (status) gb_comparison_free(c);
    return status;
}
