/* model.onnx: the inference graph with the trained weights. */
#include <stdlib.h>

#include <gimbal/onnx.h>

#include "core/train/run.h"
#include "core/train/trainer.h"

gb_status gb_run_export(gb_trainer *t, const char *dir, gb_error *err)
{
    const gb_dataset *d = t->dataset;
    int64_t batch = t->recipe->batch;
    gb_shape s = {.rank = 4, .dim = {batch, d->channels, d->height, d->width}};
    gb_model_options o = {.no_initial = true};
    gb_tensors states = {0};
    gb_value y;
    gb_graph *g = gb_graph_create();
    char *path = gb_path_join(dir, "model.onnx");
    gb_status status = g && path ? GB_OK : gb_fail(err, GB_OUT_OF_MEMORY, dir, NULL, "no memory for model.onnx");
    if (!status)
        status = gb_model_build(t->recipe->model, g, gb_graph_input(g, "input", GB_F32, &s), &o, &y, err);
    if (!status) {
        gb_graph_output(g, "output", y);
        status = gb_store_collect(t->store, &states, err);
    }
    if (!status) status = gb_onnx_write(g, &states, batch, path, err);
    gb_tensors_free(&states);
    gb_graph_destroy(&g);
    free(path);
    return status;
}
