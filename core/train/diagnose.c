/* Where a NaN or an infinity came from. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/train/trainer.h"

static bool all_finite(const gb_tensor *t)
{
    int64_t n = gb_dtype_is_float(t->dtype) ? gb_shape_count(&t->shape) : 0;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(gb_tensor_get(t, i))) return false;
    return true;
}

/* Copies all states to another store, so that a look does not change the run. *bad receives the
 * first state that is not finite. */
static gb_status copy_states(gb_trainer *t, gb_store *to, const char **bad, gb_error *err)
{
    const char *name;
    gb_status status = GB_OK;
    for (int i = 0; !status && (name = gb_store_name(t->store, i)); i++) {
        gb_tensor value = {0};
        if (gb_ring_owns(name)) continue; /* it holds the loss itself */
        status = gb_store_get(t->store, name, &value, err);
        if (!status && !*bad && !all_finite(&value)) *bad = name;
        if (!status) status = gb_store_set(to, name, &value, err);
        gb_tensor_free(&value);
    }
    return status;
}

static gb_status run_layers(gb_trainer *t, gb_store *store, gb_graph *g, const gb_tensor *images,
                            const int32_t *labels, char *layer, size_t size, gb_error *err)
{
    gb_program *p = NULL;
    gb_program_options o = {.no_fusion = true, .math = t->recipe->math, .precision = t->recipe->precision};
    gb_tensor rows = {.dtype = GB_I32, .shape = {.rank = 1, .dim = {images->shape.dim[0]}}, .data = (void *)labels};
    gb_status status = gb_program_create(store, g, &o, &p, err);
    if (!status) status = gb_program_set_input(p, "images", images, err);
    if (!status) status = gb_program_set_input(p, "labels", &rows, err);
    if (!status) status = gb_program_set_scalar(p, "inverse_count", 1.0 / (double)images->shape.dim[0], err);
    if (!status) status = gb_program_set_scalar(p, "seed", (double)(int32_t)(t->recipe->seed & 0x7fffffff), err);
    if (!status) status = gb_program_set_scalar(p, "step", (double)t->steps, err);
    if (!status) status = gb_program_run(p, err);
    const char *name;
    for (size_t i = 0; !status && !*layer && gb_graph_output_at(g, i, &name); i++) {
        gb_tensor value = {0};
        if (strcmp(name, "metrics") == 0) continue; /* sums over the batch, no layer */
        status = gb_program_output(p, name, &value, err);
        if (!status && !all_finite(&value)) snprintf(layer, size, "%s", name);
        gb_tensor_free(&value);
    }
    gb_program_destroy(&p);
    return status;
}

const char *gb_not_finite_hint(const gb_recipe *r)
{
    return r->precision == GB_PRECISION_F16
               ? "use precision bf16 or f32, lower the learning rate, warm up, or clip gradients"
               : "lower the learning rate, warm up, or clip gradients (clip: {norm: 1})";
}

gb_status gb_trainer_diagnose(gb_trainer *t, const gb_tensor *images, const int32_t *labels, gb_error *err)
{
    char layer[256] = "";
    const char *bad = NULL;
    gb_store *store = NULL;
    if (isfinite(t->ring.failure.loss)) return gb_ring_fail(t, err);
    gb_graph *g = gb_graph_create();
    gb_status status = gb_store_create(t->dev, &store, NULL);
    if (!status && g && !all_finite(images)) snprintf(layer, sizeof layer, "the input");
    if (!status && g) status = copy_states(t, store, &bad, NULL);
    if (!status && g && !bad && !*layer) status = gb_build_layers(t, g, images->shape.dim[0], NULL);
    if (!status && g && !bad && !*layer) run_layers(t, store, g, images, labels, layer, sizeof layer, NULL);
    gb_store_destroy(&store);
    gb_graph_destroy(&g);
    const char *hint = gb_not_finite_hint(t->recipe);
    long long step = (long long)t->steps;
    if (bad)
        return gb_fail(err, GB_NOT_FINITE, bad, hint, "the loss became NaN or infinite at step %lld: state %s "
                       "is not finite already", step, bad);
    if (*layer)
        return gb_fail(err, GB_NOT_FINITE, layer, hint, "the loss became NaN or infinite at step %lld: the first "
                       "layer with such a value is %s", step, layer);
    return gb_ring_fail(t, err);
}
