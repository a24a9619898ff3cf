/* Nodes whose inputs are known are computed at once, on the reference device: what a model computes
 * from shapes must be constant before the graph can be built. */
#include <string.h>

#include <gimbal/program.h>

#include "core/io/onnx.h"

#define MAX_ELEMENTS 4096 /* larger results are data, not shapes: they stay in the graph */

static bool foldable(const gb_onnx_call *call)
{
    int64_t elements = 0;
    for (size_t k = 0; k < call->n_in; k++) {
        if (!call->in[k]) continue;
        if (!call->in[k]->known.data || call->in[k]->weight) return false;
        elements += gb_shape_count(&call->in[k]->known.shape);
    }
    return call->n_in > 0 && call->n_out == 1 && elements <= MAX_ELEMENTS;
}

static gb_status build(const gb_onnx_call *call, gb_graph *g)
{
    gb_value in[GB_ONNX_MAX_IN], out;
    for (size_t k = 0; k < call->n_in; k++)
        in[k] = call->in[k] ? gb_graph_constant(g, &call->in[k]->known) : GB_NONE;
    gb_status status =
        gb_graph_add(g, call->op, in, call->n_in, call->attr, call->n_attr, &out, 1);
    if (status) return status;
    gb_shape shape = gb_value_shape(g, out);
    if (gb_shape_count(&shape) > MAX_ELEMENTS) return GB_UNSUPPORTED;
    gb_graph_output(g, "y", out);
    return gb_graph_check(g, NULL);
}

static gb_status run(gb_device *device, const gb_graph *g, gb_tensor *y)
{
    gb_store *store = NULL;
    gb_program *program = NULL;
    gb_status status = gb_store_create(device, &store, NULL);
    if (!status) status = gb_program_create(store, g, NULL, &program, NULL);
    if (!status) status = gb_program_run(program, NULL);
    if (!status) status = gb_program_output(program, "y", y, NULL);
    gb_program_destroy(&program);
    gb_store_destroy(&store);
    return status;
}

gb_status gb_onnx_fold(gb_onnx_call *call)
{
    gb_onnx_reader *r = call->reader;
    if (!foldable(call)) return GB_OK;
    if (!r->context) {
        gb_context_options options = {.threads = 1, .cache_dir = ""};
        gb_status status = gb_context_create(&options, &r->context, r->err);
        if (!status) status = gb_device_open(r->context, "reference", &r->device, r->err);
        if (status) return status;
    }
    gb_graph *g = gb_graph_create();
    if (!g) return gb_fail(r->err, GB_OUT_OF_MEMORY, r->file, NULL, "no memory for a graph");
    /* What cannot be computed here is added to the graph, which says what is wrong, if it is. */
    if (!build(call, g) && !run(r->device, g, &call->known)) call->done = true;
    gb_graph_destroy(&g);
    return GB_OK;
}
