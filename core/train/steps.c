/* The graphs of a step. Phases: accumulate (forward and backward), reduce (other devices join
 * here), update. Where a batch is one micro-batch, one graph holds them all. */
#include <stdio.h>
#include <string.h>

#include "core/train/trainer.h"

#define MAX_PARAMS 4096

static gb_value to_vector(gb_graph *g, gb_value v)
{
    int64_t one = 1;
    return GB_OP(g, "Reshape", GB_ARGS(v), GB_INTS("shape", &one, 1));
}

static gb_value sum_all(gb_graph *g, gb_value v)
{
    return GB_OP(g, "ReduceSum", GB_ARGS(v), GB_INT("keepdims", 0));
}

/* Model and loss for n examples. A mean loss is a sum times the step scalar "inverse_count", so
 * that micro-batches and short batches give the same numbers. */
static gb_status build_forward(gb_trainer *t, gb_graph *g, int64_t n, bool training, gb_value *y,
                               gb_value *loss, gb_value *hits, gb_error *err)
{
    const gb_dataset *d = t->dataset;
    gb_shape images = {.rank = 4, .dim = {n, d->channels, d->height, d->width}}, rows = {.rank = 1, .dim = {n}};
    gb_value x = gb_graph_input(g, "images", GB_F32, &images);
    gb_value labels = gb_graph_input(g, "labels", GB_I32, &rows), each, hit;
    gb_model_options o = {.training = training, .seed = t->recipe->seed, .no_initial = t->has_states};
    gb_status status = gb_model_build(t->recipe->model, g, x, &o, y, err);
    if (status) return status;
    gb_shape out = gb_value_shape(g, *y);
    if (out.rank != 2 || out.dim[1] < d->classes) {
        char text[160];
        return gb_fail(err, GB_INVALID, "model", "end with `linear: <number of classes>`",
                       "the model gives shape %s, but the data has %d classes",
                       gb_shape_text(&out, text, sizeof text), d->classes);
    }
    gb_loss_build(g, &t->recipe->loss, *y, labels, &each, &hit);
    *loss = gb_op2(g, "Mul", sum_all(g, each), gb_graph_scalar(g, "inverse_count", GB_F32));
    *hits = sum_all(g, hit);
    return gb_graph_check(g, err);
}

static void output_metrics(gb_graph *g, gb_value loss, gb_value hits)
{
    gb_value parts[2] = {to_vector(g, loss), to_vector(g, hits)};
    gb_graph_output(g, "metrics", GB_OP(g, "Concat", GB_ARGS(parts[0], parts[1]), GB_INT("axis", 0)));
}

static gb_status gradients(gb_graph *g, gb_value loss, gb_value *param, gb_value *grad, size_t *n,
                           gb_error *err)
{
    *n = gb_graph_trainable(g, param, MAX_PARAMS);
    if (*n > MAX_PARAMS)
        return gb_fail(err, GB_UNSUPPORTED, "model", "use fewer layers", "more than %d parameters", MAX_PARAMS);
    return gb_graph_gradient(g, loss, param, *n, grad) ? gb_graph_check(g, err) : GB_OK;
}

static gb_value gradient_state(gb_graph *g, const char *param, const gb_shape *s)
{
    char name[300];
    snprintf(name, sizeof name, "gradient.%s", param);
    return gb_graph_state(g, name, GB_F32, s, false, NULL);
}

gb_status gb_build_step(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err)
{
    gb_value y, loss, hits, param[MAX_PARAMS], grad[MAX_PARAMS];
    size_t count;
    gb_status status = build_forward(t, g, n, true, &y, &loss, &hits, err);
    gb_scaling scaling = gb_scaling_begin(g, t->recipe);
    if (!status) status = gradients(g, gb_scaling_loss(g, &scaling, loss), param, grad, &count, err);
    if (status) return status;
    gb_graph_phase(g, "update");
    gb_value stopped = gb_ring_stopped(g);
    gb_value usable = gb_op2(g, "And", gb_ring_going(g, stopped), gb_is_finite(g, loss));
    gb_graph_guard(g, usable); /* running statistics */
    gb_value apply = gb_scaling_end(g, &scaling, t->recipe, grad, count, usable);
    gb_ring_stop(g, stopped, scaling.going);
    gb_optimizer_build(g, t->recipe, param, grad, count, apply);
    gb_ring_write(g, t->recipe, (gb_value[]){loss, hits, scaling.scale, scaling.skipped});
    return gb_graph_check(g, err);
}

gb_status gb_build_accumulate(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err)
{
    gb_value y, loss, hits, param[MAX_PARAMS], grad[MAX_PARAMS];
    size_t count;
    gb_status status = build_forward(t, g, n, true, &y, &loss, &hits, err);
    gb_scaling scaling = gb_scaling_begin(g, t->recipe);
    if (!status) status = gradients(g, gb_scaling_loss(g, &scaling, loss), param, grad, &count, err);
    if (status) return status;
    gb_value stopped = gb_ring_stopped(g);
    gb_value usable = gb_op2(g, "And", gb_ring_going(g, stopped), gb_is_finite(g, loss));
    gb_graph_guard(g, usable); /* running statistics */
    gb_ring_stop(g, stopped, usable);
    for (size_t i = 0; i < count; i++) {
        if (!grad[i]) continue;
        gb_shape s = gb_value_shape(g, param[i]);
        gb_value sum = gradient_state(g, gb_value_name(g, param[i]), &s);
        gb_graph_update(g, sum, gb_op2(g, "Add", sum, grad[i]));
    }
    gb_ring_write(g, t->recipe, (gb_value[GB_RING_COLUMNS]){loss, hits});
    return gb_graph_check(g, err);
}

/* Applies what was accumulated, and clears it. like: an accumulation graph of this trainer. */
gb_status gb_build_update(gb_trainer *t, gb_graph *g, const gb_graph *like, gb_error *err)
{
    gb_value param[MAX_PARAMS], grad[MAX_PARAMS], v;
    size_t count = 0;
    gb_graph_phase(g, "update");
    for (size_t i = 0; (v = gb_graph_state_at(like, i)) != GB_NONE; i++) {
        const char *name = gb_value_name(like, v);
        gb_shape s = gb_value_shape(like, v);
        if (strncmp(name, "gradient.", 9) != 0) continue;
        param[count] = gb_graph_state(g, name + 9, GB_F32, &s, true, NULL);
        grad[count++] = gradient_state(g, name + 9, &s);
    }
    for (size_t i = 0; (v = gb_graph_state_at(like, i)) != GB_NONE; i++) { /* norm_bias_lr asks for them */
        const char *name = gb_value_name(like, v), *dot = strrchr(name, '.');
        gb_shape s = gb_value_shape(like, v);
        if (dot && strcmp(dot, ".running_mean") == 0) gb_graph_state(g, name, GB_F32, &s, false, NULL);
    }
    gb_scaling scaling = gb_scaling_begin(g, t->recipe);
    gb_value sum[MAX_PARAMS], stopped = gb_ring_stopped(g), going = gb_ring_going(g, stopped);
    memcpy(sum, grad, count * sizeof *sum);
    gb_value apply = gb_scaling_end(g, &scaling, t->recipe, grad, count, going);
    gb_optimizer_build(g, t->recipe, param, grad, count, apply);
    for (size_t i = 0; i < count; i++)
        gb_graph_update(g, sum[i], GB_OP(g, "Expand", GB_ARGS(gb_graph_float(g, 0)),
                                          GB_INTS("shape", gb_value_shape(g, sum[i]).dim,
                                                  (size_t)gb_value_shape(g, sum[i]).rank)));
    if (scaling.scale) {
        gb_ring_stop(g, stopped, scaling.going);
        gb_ring_write(g, t->recipe, (gb_value[]){GB_NONE, GB_NONE, scaling.scale, scaling.skipped});
    }
    return gb_graph_check(g, err);
}

gb_status gb_build_evaluation(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err)
{
    gb_value y, loss, hits;
    gb_status status = build_forward(t, g, n, false, &y, &loss, &hits, err);
    if (status) return status;
    output_metrics(g, loss, hits);
    gb_graph_output(g, "outputs", y);
    return gb_graph_check(g, err);
}

static bool has_output(const gb_graph *g, const char *name)
{
    const char *known;
    for (size_t i = 0; gb_graph_output_at(g, i, &known); i++)
        if (strcmp(known, name) == 0) return true;
    return false;
}

/* Training's forward run with the last value of every layer as an output named by its path. */
gb_status gb_build_layers(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err)
{
    gb_value y, loss, hits;
    gb_status status = build_forward(t, g, n, true, &y, &loss, &hits, err);
    if (!status) output_metrics(g, loss, hits);
    size_t nodes = gb_graph_node_count(g);
    for (size_t i = 0; !status && i < nodes; i++) {
        gb_node_view node = gb_graph_node(g, i);
        bool last = i + 1 == nodes || strcmp(gb_graph_node(g, i + 1).path, node.path) != 0;
        if (last && !has_output(g, node.path) && gb_dtype_is_float(gb_value_dtype(g, node.out[0])))
            gb_graph_output(g, node.path, node.out[0]);
    }
    return status ? status : gb_graph_check(g, err);
}
