/* Walking a layer list: paths, states, errors that name the layer, blocks and residuals. */
#include "core/nn/layer.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

gb_value gb_builder_fail(gb_builder *b, const char *hint, const char *format, ...)
{
    if (b->status) return GB_NONE;
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    b->status = gb_fail(b->err, GB_INVALID, b->path, hint, "layer '%s': %s", b->path, message);
    return GB_NONE;
}

static gb_value out_of_memory(gb_builder *b)
{
    b->status = gb_fail(b->err, GB_OUT_OF_MEMORY, b->path, NULL, "no memory to build the model");
    return GB_NONE;
}

/* Keeps the first failure of the graph, with the layer it happened in. */
static bool graph_failed(gb_builder *b)
{
    if (b->status) return true;
    gb_error error = {0};
    gb_status s = gb_graph_check(b->g, &error);
    if (!s) return false;
    b->status = gb_fail(b->err, s, error.input[0] ? error.input : b->path, error.hint,
                        "layer '%s': %s", b->path, error.message);
    return true;
}

/* --- states --- */

/* Room for the initial values of a state; *t stays empty where none are wanted. */
static bool initial_tensor(gb_builder *b, const gb_shape *shape, gb_tensor *t)
{
    *t = (gb_tensor){0};
    if (b->status || b->options->no_initial) return false;
    b->status = gb_tensor_alloc(t, GB_F32, shape, b->err);
    return !b->status;
}

static gb_value add_state(gb_builder *b, const char *name, const gb_shape *shape, bool trainable,
                          gb_tensor *initial)
{
    gb_value v = b->status ? GB_NONE
                           : gb_graph_state(b->g, name, GB_F32, shape, trainable,
                                            initial->data ? initial : NULL);
    gb_tensor_free(initial);
    return v;
}

gb_value gb_builder_weight(gb_builder *b, const char *name, const gb_shape *shape, int init,
                           int64_t fan_in, int64_t fan_out, bool trainable)
{
    char full[256];
    gb_tensor t;
    snprintf(full, sizeof full, "%s.%s", b->path, name);
    if (init == GB_INIT_MODEL) init = b->init;
    if (initial_tensor(b, shape, &t))
        gb_init_fill(&t, full, b->options->seed, init, fan_in, fan_out);
    return add_state(b, full, shape, trainable, &t);
}

gb_value gb_builder_filled(gb_builder *b, const char *name, const gb_shape *shape, double value,
                           bool trainable)
{
    char full[256];
    gb_tensor t;
    snprintf(full, sizeof full, "%s.%s", b->path, name);
    if (initial_tensor(b, shape, &t)) {
        float *data = t.data;
        for (int64_t i = 0, n = gb_shape_count(shape); i < n; i++) data[i] = (float)value;
    }
    return add_state(b, full, shape, trainable, &t);
}

gb_value gb_builder_ints(gb_builder *b, const int64_t *values, int n)
{
    gb_tensor t = {.dtype = GB_I64, .shape = gb_shape_of(1, n), .data = (void *)values};
    return gb_graph_constant(b->g, &t);
}

/* --- lists --- */

/* Notes a layer's path; two layers of one path would share their states. */
static bool claim_path(gb_builder *b)
{
    for (size_t i = 0; i < b->n_paths; i++) {
        if (strcmp(b->paths[i], b->path) != 0) continue;
        gb_builder_fail(b, "give each layer a name of its own", "the name is used twice");
        return false;
    }
    char **grown = realloc(b->paths, (b->n_paths + 1) * sizeof *grown);
    if (!grown) return out_of_memory(b), false;
    b->paths = grown;
    b->paths[b->n_paths] = strdup(b->path);
    if (!b->paths[b->n_paths]) return out_of_memory(b), false;
    b->n_paths++;
    return true;
}

static bool join_path(gb_builder *b, const char *prefix, const char *scope, const gb_layer *l,
                      size_t index)
{
    const char *dot = *prefix ? "." : "";
    int length;
    if (l->o.name)
        length = snprintf(b->path, sizeof b->path, "%s%s%s", prefix, dot, l->o.name);
    else
        length = snprintf(b->path, sizeof b->path, "%s%s%s%s%zu.%s", prefix, dot, scope,
                          *scope ? "." : "", index, l->type->name);
    if (length < (int)sizeof b->path) return true;
    gb_builder_fail(b, "use shorter names", "the path is longer than %zu characters",
                    sizeof b->path - 1);
    return false;
}

gb_value gb_layers_build(gb_builder *b, const gb_layers *layers, const char *prefix,
                         const char *scope, gb_value x)
{
    for (size_t i = 0; i < layers->n; i++) {
        const gb_layer *l = &layers->items[i];
        if (!join_path(b, prefix, scope, l, i) || !claim_path(b)) return GB_NONE;
        gb_graph_path(b->g, b->path);
        x = l->type->build(b, l, x);
        if (graph_failed(b)) return GB_NONE;
    }
    return x;
}

static gb_value build_list(gb_builder *b, const gb_layers *layers, const char *prefix,
                           const char *scope, gb_value x)
{
    x = gb_layers_build(b, layers, prefix, scope, x);
    if (b->status) return GB_NONE;
    snprintf(b->path, sizeof b->path, "%s", prefix); /* back in the enclosing layer */
    gb_graph_path(b->g, b->path);
    return x;
}

gb_value gb_build_block(gb_builder *b, const gb_layer *l, gb_value x)
{
    char path[sizeof b->path], inner[sizeof b->path];
    memcpy(path, b->path, sizeof path);
    for (int64_t i = 0; i < l->o.repeat && !b->status; i++) {
        if (l->o.repeat == 1)
            memcpy(inner, path, sizeof inner);
        else if (snprintf(inner, sizeof inner, "%s.%lld", path, (long long)i) >= (int)sizeof inner)
            return gb_builder_fail(b, "use shorter names", "the path is too long");
        x = build_list(b, &l->body, inner, "", x);
    }
    return x;
}

/* The shortcut of the first residual networks ("option A"): every s-th pixel, and zero channels
 * before and after. */
static gb_value pad_shortcut(gb_builder *b, gb_value x, const gb_shape *to)
{
    gb_shape from = gb_value_shape(b->g, x);
    if (from.rank != to->rank || from.rank < 3 || to->dim[1] < from.dim[1])
        return gb_builder_fail(b, "give the shortcut layers of its own",
                               "'pad' can only add channels to images");
    int64_t starts[GB_MAX_RANK], ends[GB_MAX_RANK], axes[GB_MAX_RANK], steps[GB_MAX_RANK];
    int n = from.rank - 2;
    for (int i = 0; i < n; i++) {
        int64_t in = from.dim[i + 2], out = to->dim[i + 2];
        starts[i] = 0;
        ends[i] = in;
        axes[i] = i + 2;
        steps[i] = out > 0 ? (in + out - 1) / out : 1;
        if ((in + steps[i] - 1) / steps[i] != out)
            return gb_builder_fail(b, "give the shortcut layers of its own",
                                   "'pad' cannot bring %lld pixels to %lld", (long long)in,
                                   (long long)out);
    }
    gb_value y = x;
    if (!gb_shape_equal(&(gb_shape){n, {steps[0], n > 1 ? steps[1] : 1, n > 2 ? steps[2] : 1}},
                        &(gb_shape){n, {1, 1, 1}})) {
        gb_value in[] = {x, gb_builder_ints(b, starts, n), gb_builder_ints(b, ends, n),
                         gb_builder_ints(b, axes, n), gb_builder_ints(b, steps, n)};
        y = gb_op_list(b->g, "Slice", in, 5, NULL, 0);
    }
    int64_t extra = to->dim[1] - from.dim[1], pads[2 * GB_MAX_RANK] = {0};
    pads[1] = extra / 2;
    pads[from.rank + 1] = extra - extra / 2;
    return extra ? gb_op2(b->g, "Pad", y, gb_builder_ints(b, pads, 2 * from.rank)) : y;
}

gb_value gb_build_residual(gb_builder *b, const gb_layer *l, gb_value x)
{
    char path[sizeof b->path];
    memcpy(path, b->path, sizeof path);
    gb_value y = build_list(b, &l->body, path, "body", x);
    if (b->status) return GB_NONE;
    gb_shape shape = gb_value_shape(b->g, y);
    gb_value shortcut = l->pad_shortcut ? pad_shortcut(b, x, &shape)
                                        : build_list(b, &l->shortcut, path, "shortcut", x);
    if (graph_failed(b)) return GB_NONE;
    gb_shape other = gb_value_shape(b->g, shortcut);
    if (!gb_shape_equal(&shape, &other)) {
        char t1[96], t2[96];
        return gb_builder_fail(b, "give the shortcut layers that bring it to the body's shape",
                               "the body makes %s but the shortcut %s",
                               gb_shape_text(&shape, t1, sizeof t1),
                               gb_shape_text(&other, t2, sizeof t2));
    }
    return gb_op2(b->g, "Add", y, shortcut);
}

/* --- models --- */

gb_status gb_model_build(const gb_model *model, gb_graph *graph, gb_value x,
                         const gb_model_options *options, gb_value *out, gb_error *err)
{
    static const gb_model_options defaults = {0};
    gb_builder b = {
        .g = graph, .options = options ? options : &defaults, .init = model->init, .err = err};
    *out = GB_NONE;
    gb_status s = gb_graph_check(graph, err);
    if (s) return s;
    if (x == GB_NONE) return gb_fail(err, GB_INVALID, "x", NULL, "the model has no input value");
    gb_value y = gb_layers_build(&b, &model->layers, "", "layers", x);
    gb_graph_path(graph, "");
    for (size_t i = 0; i < b.n_paths; i++) free(b.paths[i]);
    free(b.paths);
    if (b.status) return b.status;
    *out = y;
    return GB_OK;
}

int64_t gb_graph_parameters(const gb_graph *graph)
{
    size_t n = gb_graph_trainable(graph, NULL, 0);
    gb_value *states = calloc(n ? n : 1, sizeof *states);
    if (!states) return -1;
    gb_graph_trainable(graph, states, n);
    int64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        gb_shape shape = gb_value_shape(graph, states[i]);
        total += gb_shape_count(&shape);
    }
    free(states);
    return total;
}
