#include "core/compare/drift.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WATCHED 2000

/* A layer's last value, and the values whose gradients count as the layer's: it and the parameters
 * that the layer reads. */
typedef struct watch {
    gb_value value;
    int layer;
    bool forward; /* also an output of the forward run */
} watch;

typedef struct drift {
    gb_graph *g;
    watch watched[MAX_WATCHED];
    gb_value grad[MAX_WATCHED];
    int n_watched;
    const gb_compare_inputs *inputs;
    uint64_t seed;
    gb_precision precision; /* of all: the reference rounds what it stores as the devices do */
} drift;

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, "compare", NULL, "no memory for a comparison");
}

static int layer_of(gb_comparison *c, const char *path)
{
    for (int i = 0; i < c->n_layers; i++)
        if (strcmp(c->layer[i].name, path) == 0) return i;
    return -1;
}

static gb_status add_layer(gb_comparison *c, const gb_node_view *node, gb_error *err)
{
    gb_compare_layer *grown = realloc(c->layer, ((size_t)c->n_layers + 1) * sizeof *grown);
    if (!grown) return no_memory(err);
    c->layer = grown;
    gb_compare_layer *l = &grown[c->n_layers];
    *l = (gb_compare_layer){.name = strdup(node->path), .op = strdup(node->op)};
    for (int d = 0; d < GB_COMPARE_MAX; d++) l->forward[d] = l->backward[d] = NAN;
    c->n_layers++;
    return l->name && l->op ? GB_OK : no_memory(err);
}

static void watch_value(drift *d, gb_value v, int layer, bool forward)
{
    for (int i = 0; i < d->n_watched; i++)
        if (d->watched[i].value == v) return;
    if (d->n_watched < MAX_WATCHED) d->watched[d->n_watched++] = (watch){v, layer, forward};
}

/* Operators whose value stands for a layer: those that carry its tolerance. */
static bool is_main(const gb_node_view *node)
{
    return gb_operator_tolerance(node->op) > 0 && strcmp(node->op, "Reshape") && strcmp(node->op, "Constant");
}

static gb_status find_layers(drift *d, gb_comparison *c, size_t nodes, gb_error *err)
{
    gb_status status = GB_OK;
    for (size_t i = 0; i < nodes && !status; i++) {
        gb_node_view node = gb_graph_node(d->g, i);
        if (!is_main(&node) || !gb_dtype_is_float(gb_value_dtype(d->g, node.out[0]))) continue;
        if (layer_of(c, node.path) < 0) status = add_layer(c, &node, err);
    }
    for (int l = 0; l < c->n_layers && !status; l++)
        for (size_t i = nodes; i-- > 0;) { /* the last node of the layer */
            gb_node_view node = gb_graph_node(d->g, i);
            if (strcmp(node.path, c->layer[l].name) != 0 || !gb_dtype_is_float(gb_value_dtype(d->g, node.out[0])))
                continue;
            watch_value(d, node.out[0], l, true);
            break;
        }
    gb_value v;
    for (size_t s = 0; (v = gb_graph_state_at(d->g, s)) != GB_NONE && !status; s++) {
        char path[300];
        snprintf(path, sizeof path, "%s", gb_value_name(d->g, v));
        char *dot = strrchr(path, '.');
        if (dot) *dot = 0;
        int layer = layer_of(c, path);
        if (layer >= 0 && gb_dtype_is_float(gb_value_dtype(d->g, v))) watch_value(d, v, layer, false);
    }
    return status;
}

/* The training graph with every watched value and its gradient as outputs "f<i>" and "b<i>". */
static gb_status build(drift *d, const gb_recipe *r, gb_comparison *c, gb_error *err)
{
    const gb_tensor *images = &d->inputs->value[0], *rows = &d->inputs->value[1];
    gb_value x = gb_graph_input(d->g, "images", GB_F32, &images->shape), y, each, hit;
    gb_value labels = gb_graph_input(d->g, "labels", GB_I32, &rows->shape);
    gb_model_options o = {.training = true, .seed = r->seed};
    gb_status status = gb_model_build(r->model, d->g, x, &o, &y, err);
    if (status) return status;
    size_t nodes = gb_graph_node_count(d->g);
    gb_loss_build(d->g, &r->loss, y, labels, &each, &hit);
    gb_value loss = GB_OP(d->g, "ReduceMean", GB_ARGS(each), GB_INT("keepdims", 0));
    status = find_layers(d, c, nodes, err);
    gb_value wanted[MAX_WATCHED];
    for (int i = 0; i < d->n_watched; i++) wanted[i] = d->watched[i].value;
    if (!status && gb_graph_gradient(d->g, loss, wanted, (size_t)d->n_watched, d->grad)) status = gb_graph_check(d->g, err);
    for (int i = 0; i < d->n_watched && !status; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        if (d->watched[i].forward) gb_graph_output(d->g, name, d->watched[i].value);
        name[0] = 'b';
        if (d->grad[i]) gb_graph_output(d->g, name, d->grad[i]);
    }
    return status ? status : gb_graph_check(d->g, err);
}

/* All outputs of one run on a device, in float64. */
static gb_status observe(const drift *d, gb_device *dev, gb_precision precision, gb_tensor *forward,
                         gb_tensor *backward, gb_error *err)
{
    gb_store *store = NULL;
    gb_program *p = NULL;
    gb_status status = gb_store_create(dev, &store, err);
    const gb_program_options o = {.precision = precision};
    if (!status) status = gb_program_create(store, d->g, &o, &p, err);
    for (int i = 0; i < d->inputs->n && !status; i++)
        status = gb_program_set_input(p, d->inputs->name[i], &d->inputs->value[i], err);
    if (!status) status = gb_program_set_scalar(p, "seed", (double)(d->seed & 0x7fffffff), err);
    if (!status) status = gb_program_run(p, err);
    for (int i = 0; i < d->n_watched && !status; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        if (d->watched[i].forward) status = gb_program_output_f64(p, name, &forward[i], err);
        name[0] = 'b';
        if (d->grad[i] && !status) status = gb_program_output_f64(p, name, &backward[i], err);
    }
    gb_program_destroy(&p);
    gb_store_destroy(&store);
    return status;
}

static double largest(const gb_tensor *t)
{
    double m = 0;
    for (int64_t i = 0, n = t->data ? gb_shape_count(&t->shape) : 0; i < n; i++) m = fmax(m, fabs(gb_tensor_get(t, i)));
    return m;
}

/* The size that an error in watched value i is a share of. A layer's parameters count as one: the
 * gradient of a bias before a normalization is zero but for rounding. */
static double size_of(const drift *d, const gb_tensor *want, int i)
{
    double size = largest(&want[i]);
    for (int k = 0; k < d->n_watched && !d->watched[i].forward; k++)
        if (d->watched[k].layer == d->watched[i].layer && !d->watched[k].forward)
            size = fmax(size, largest(&want[k]));
    return size;
}

static double error_of(const gb_tensor *got, const gb_tensor *want, double size)
{
    double m = 0;
    for (int64_t i = 0, n = gb_shape_count(&want->shape); i < n; i++) {
        double d = fabs(gb_tensor_get(got, i) - gb_tensor_get(want, i));
        if (!(d <= m)) m = isnan(d) ? INFINITY : d;
    }
    return size > 0 ? m / size : m;
}

static void raise_to(double *e, double v)
{
    if (isnan(*e) || v > *e) *e = v;
}

static void judge(const drift *d, gb_comparison *c, int device, const gb_tensor *f, const gb_tensor *b,
                  const gb_tensor *rf, const gb_tensor *rb)
{
    double top_f = 0, top_b = 0;
    for (int i = 0; i < d->n_watched; i++) {
        top_f = fmax(top_f, largest(&rf[i]));
        top_b = fmax(top_b, largest(&rb[i]));
    }
    for (int i = 0; i < d->n_watched; i++) {
        gb_compare_layer *l = &c->layer[d->watched[i].layer];
        if (rf[i].data) raise_to(&l->forward[device], error_of(&f[i], &rf[i], fmax(largest(&rf[i]), 1e-6 * top_f)));
        if (rb[i].data) raise_to(&l->backward[device], error_of(&b[i], &rb[i], fmax(size_of(d, rb, i), 1e-6 * top_b)));
    }
}

static void set_tolerances(gb_comparison *c, gb_precision precision)
{
    /* rounding of what lies in memory: the distance between neighbours, twice */
    double rounding = precision == GB_PRECISION_F16    ? 0x1p-9
                      : precision == GB_PRECISION_BF16 ? 0x1p-6
                                                       : 0;
    double worst = 0;
    for (int i = 0; i < c->n_layers; i++) {
        gb_compare_layer *l = &c->layer[i];
        worst = fmax(worst, gb_operator_tolerance(l->op)); /* errors of earlier layers come along */
        l->forward_tolerance = (worst + rounding) * (i + 1);
    }
    for (int i = 0; i < c->n_layers; i++)
        c->layer[i].backward_tolerance = (worst + rounding) * (2 * c->n_layers - i);
}

static gb_status run_all(drift *d, gb_context *ctx, gb_device *const *dev, const gb_compare_options *o,
                         gb_comparison *c, gb_error *err)
{
    size_t n = (size_t)d->n_watched + 1;
    gb_tensor *t = calloc(4 * n, sizeof *t), *rf = t, *rb = t + n, *f = t + 2 * n, *b = t + 3 * n;
    gb_device *reference = NULL;
    if (!t) return no_memory(err);
    gb_status status = gb_device_open(ctx, "reference", &reference, err);
    if (o->progress) o->progress(o->user, "reference", "layers in float64");
    if (!status) status = observe(d, reference, d->precision, rf, rb, err);
    for (int k = 0; k < c->n_devices && !status; k++) {
        if (o->progress) o->progress(o->user, c->device[k].id, "layers");
        status = observe(d, dev[k], d->precision, f, b, err);
        if (!status) judge(d, c, k, f, b, rf, rb);
        for (size_t i = 0; i < 2 * n; i++) gb_tensor_free(&f[i]);
    }
    for (size_t i = 0; i < 4 * n; i++) gb_tensor_free(&t[i]);
    free(t);
    gb_device_close(&reference);
    return status;
}

gb_status gb_compare_drift(gb_context *ctx, const gb_recipe *recipe, const gb_dataset *dataset,
                           gb_device *const *dev, const gb_compare_options *o, gb_comparison *c, gb_error *err)
{
    int64_t n = o->examples > 0 ? o->examples : recipe->batch < 8 ? recipe->batch : 8;
    gb_loader_options lo = {.split = GB_TRAIN, .batch = n, .shuffle = true, .seed = recipe->seed};
    gb_loader *loader = NULL;
    const gb_batch *batch;
    gb_compare_inputs inputs = {.n = 2, .name = {"images", "labels"}};
    drift *d = calloc(1, sizeof *d);
    if (!d || !(d->g = gb_graph_create())) {
        free(d);
        return no_memory(err);
    }
    d->seed = recipe->seed;
    d->precision = recipe->precision;
    d->inputs = &inputs;
    gb_status status = gb_loader_create(&loader, dataset, &lo, err);
    if (!status) status = gb_loader_next(loader, &batch, err);
    if (!status) {
        inputs.value[0] = batch->images;
        inputs.value[1] = (gb_tensor){.dtype = GB_I32, .shape = {.rank = 1, .dim = {batch->n}},
                                      .data = (void *)batch->labels};
        status = build(d, recipe, c, err);
    }
    if (!status) status = run_all(d, ctx, dev, o, c, err);
    if (!status) set_tolerances(c, d->precision);
    gb_loader_destroy(&loader);
    gb_graph_destroy(&d->g);
    free(d);
    return status;
}

gb_status gb_compare_graph_drift(gb_context *ctx, gb_graph *graph, const gb_compare_inputs *inputs,
                                 gb_device *const *dev, const gb_compare_options *o, gb_comparison *c, gb_error *err)
{
    drift *d = calloc(1, sizeof *d);
    if (!d) return no_memory(err);
    d->g = graph;
    d->inputs = inputs;
    gb_status status = find_layers(d, c, gb_graph_node_count(graph), err);
    for (int i = 0; i < d->n_watched && !status; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        if (d->watched[i].forward) gb_graph_output(graph, name, d->watched[i].value);
    }
    if (!status) status = gb_graph_check(graph, err);
    if (!status) status = run_all(d, ctx, dev, o, c, err);
    if (!status) set_tolerances(c, d->precision);
    free(d);
    return status;
}
