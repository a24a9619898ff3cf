/* Whole networks: 20 training steps against PyTorch's (tests/golden/record_training.py).
 *
 * usage: test_training DEVICE FOLDER [PART...]: the runs whose name ("cnn_sgd_32") holds a part
 *
 * Tolerances follow from the record: PyTorch's float32 run beside its float64 run shows how far
 * rounding alone takes a run away. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/train.h>

#include "tests/golden/formula.h"

#define SLACK 20         /* times the distance of PyTorch's two runs … */
#define LOSS_FLOOR 1e-5  /* … and at least this, relative */
#define STATE_FLOOR 1e-5
/* The small CNN at batch 8 ends in one of two places, to three digits: within 3e-6 of the record (the
 * reference; cpu with `plain` kernels or, with AVX2, F(2x2)), or with one shift of a normalization
 * 2.30e-4 off (all other kernels of cpu, opencl and vulkan). Nothing lies between, so one maximum or
 * sign flips where two values are a rounding apart. */
#define FLIP_STATE_FLOOR 3e-4

static struct {
    gb_context *context;
    gb_device *device;
    json_t *record;
} suite;

/* The networks of record_training.py; layers carry the names that PyTorch gives them. */
static const struct {
    const char *net, *model;
} models[] = {
    {"mlp", "layers: [flatten, {linear: {out: 128, name: '1'}}, relu, {linear: {out: 64, name: '3'}}, "
            "relu, {linear: {out: 10, name: '5'}}]"},
    {"cnn", "layers: [{conv: {out: 8, kernel: 3, padding: 1, bias: false, name: '0'}}, "
            "{batchnorm: {name: '1'}}, relu, {maxpool: 2}, "
            "{conv: {out: 16, kernel: 3, padding: 1, bias: false, name: '4'}}, "
            "{batchnorm: {name: '5'}}, relu, {maxpool: 2}, flatten, {linear: {out: 10, name: '9'}}]"},
    {"resnet20", "resnet20: {}"},
};

static const char *string_at(json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static double number_at(json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static double item(json_t *array, size_t i)
{
    return json_number_value(json_array_get(array, i));
}

static void check(gb_status status, const gb_error *err)
{
    if (status) fail_msg("%s (%s): %s", err->message, err->input, err->hint);
}

/* The optimizer's options under the names that recipes give them. */
static void optimizer_text(json_t *run, char *text, size_t size)
{
    const char *name = string_at(run, "optimizer"), *key;
    json_t *options = json_object_get(json_object_get(suite.record, "optimizers"), name), *value;
    int n = snprintf(text, size, "{%.*s: {", (int)strcspn(name, "_"), name);
    const char *comma = "";
    json_object_foreach(options, key, value) {
        char number[80];
        if (json_is_boolean(value)) snprintf(number, sizeof number, "%s", json_is_true(value) ? "true" : "false");
        else snprintf(number, sizeof number, "%.9g", json_number_value(value));
        if (json_is_array(value))
            n += snprintf(text + n, size - (size_t)n, "%sbeta1: %.9g, beta2: %.9g", comma,
                          item(value, 0), item(value, 1));
        else n += snprintf(text + n, size - (size_t)n, "%s%s: %s", comma, key, number);
        comma = ", ";
    }
    snprintf(text + n, size - (size_t)n, "}}");
}

static gb_recipe *make_recipe(json_t *run)
{
    char optimizer[300], text[1600];
    const char *model = NULL;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strcmp(models[i].net, string_at(run, "net")) == 0) model = models[i].model;
    assert_non_null(model);
    optimizer_text(run, optimizer, sizeof optimizer);
    snprintf(text, sizeof text,
             "data: {dataset: fashion-mnist}\nmodel: {%s}\nloss: cross_entropy\noptimizer: %s\n"
             "schedule: constant\nbatch: %d\nepochs: 1\nseed: 1\n",
             model, optimizer, (int)number_at(run, "batch"));
    gb_recipe *recipe = NULL;
    gb_error err;
    check(gb_recipe_parse(text, "golden", NULL, 0, &recipe, &err), &err);
    return recipe;
}

static void set_weights(gb_trainer *t, json_t *net)
{
    json_t *p;
    size_t index;
    gb_error err;
    json_array_foreach(json_object_get(net, "parameters"), index, p) {
        json_t *dims = json_object_get(p, "shape"), *fill = json_object_get(p, "fill");
        gb_shape shape = {.rank = (int)json_array_size(dims)};
        for (int i = 0; i < shape.rank; i++) shape.dim[i] = (int64_t)item(dims, (size_t)i);
        gb_tensor w;
        check(gb_tensor_alloc(&w, GB_F32, &shape, &err), &err);
        float bound = (float)number_at(p, "bound"), *data = w.data;
        uint32_t seed = (uint32_t)number_at(p, "seed");
        for (int64_t i = 0; i < gb_shape_count(&shape); i++)
            data[i] = fill ? (float)json_number_value(fill) : golden_u(seed, (uint32_t)i) * bound;
        gb_status status = gb_store_set(gb_trainer_store(t), string_at(p, "name"), &w, &err);
        gb_tensor_free(&w);
        check(status, &err);
    }
}

static void fill_batch(gb_tensor *images, int32_t *labels, uint32_t first)
{
    const int64_t *d = images->shape.dim;
    float *pixel = images->data;
    for (int64_t n = 0; n < d[0]; n++) {
        labels[n] = golden_label(first + (uint32_t)n);
        for (int64_t c = 0; c < d[1]; c++)
            for (int64_t y = 0; y < d[2]; y++)
                for (int64_t x = 0; x < d[3]; x++)
                    *pixel++ = golden_pixel(first + (uint32_t)n, (uint32_t)d[1], (uint32_t)d[2],
                                            (uint32_t)d[3], (uint32_t)c, (uint32_t)y, (uint32_t)x);
    }
}

static void compare_losses(gb_trainer *t, json_t *run, gb_tensor *images, int32_t *labels)
{
    json_t *losses = json_object_get(run, "losses"), *single = json_object_get(run, "losses_f32");
    json_t *options = json_object_get(json_object_get(suite.record, "optimizers"),
                                      string_at(run, "optimizer"));
    double apart = 0;
    for (size_t step = 0; step < json_array_size(losses); step++) {
        gb_step_result result;
        gb_error err;
        fill_batch(images, labels, (uint32_t)(step * (size_t)images->shape.dim[0]));
        check(gb_trainer_step(t, images, labels, number_at(options, "lr"), &result, &err), &err);
        double want = item(losses, step), tolerance;
        apart = fmax(apart, fabs(want - item(single, step)));
        tolerance = LOSS_FLOOR * fmax(1, want) + SLACK * apart;
        if (!(fabs(result.loss - want) <= tolerance))
            fail_msg("step %zu: loss %.9g, PyTorch has %.9g; %.1e apart, %.1e allowed", step,
                     result.loss, want, fabs(result.loss - want), tolerance);
    }
}

static void compare_state(gb_trainer *t, const char *name, json_t *want, double tolerance)
{
    gb_tensor got;
    gb_error err;
    check(gb_store_get(gb_trainer_store(t), name, &got, &err), &err);
    double norm = 0, sum = 0, scale = fmax(number_at(want, "norm"), 0.01);
    int64_t n = gb_shape_count(&got.shape);
    for (int64_t i = 0; i < n; i++) {
        double v = gb_tensor_get(&got, i);
        norm += v * v;
        sum += v;
    }
    double worst = fmax(fabs(sqrt(norm) - number_at(want, "norm")) / scale,
                        fabs(sum - number_at(want, "sum")) / (scale * sqrt((double)n)));
    json_t *at = json_object_get(want, "at"), *values = json_object_get(want, "values");
    for (size_t k = 0; k < json_array_size(at); k++)
        worst = fmax(worst, fabs(gb_tensor_get(&got, (int64_t)item(at, k)) - item(values, k)) / scale);
    gb_tensor_free(&got);
    if (!(worst <= tolerance))
        fail_msg("%s differs by %.2e of its norm after the last step, %.2e allowed", name, worst,
                 tolerance);
}

static void compare_states(gb_trainer *t, json_t *run)
{
    bool flips = !strcmp(string_at(run, "net"), "cnn") && number_at(run, "batch") == 8;
    double least = flips ? FLIP_STATE_FLOOR : STATE_FLOOR;
    double tolerance = least + SLACK * number_at(json_object_get(run, "spread"), "state");
    const char *name;
    json_t *want;
    json_object_foreach(json_object_get(run, "final"), name, want)
        compare_state(t, name, want, tolerance);
}

static void one_run(void **state)
{
    json_t *run = *state;
    json_t *net = json_object_get(json_object_get(suite.record, "nets"), string_at(run, "net"));
    json_t *dims = json_object_get(net, "input");
    int size[3] = {(int)item(dims, 0), (int)item(dims, 1), (int)item(dims, 2)};
    int batch = (int)number_at(run, "batch");
    gb_recipe *recipe = make_recipe(run);
    gb_dataset *dataset = NULL;
    gb_trainer *trainer = NULL;
    gb_tensor images;
    gb_error err;
    gb_shape shape = gb_shape_of(4, batch, size[0], size[1], size[2]);
    check(gb_dataset_create(&dataset, "golden", size[0], size[1], size[2], 10, NULL, &err), &err);
    check(gb_trainer_create(suite.device, recipe, dataset, &trainer, &err), &err);
    check(gb_trainer_prepare(trainer, batch, &err), &err);
    check(gb_tensor_alloc(&images, GB_F32, &shape, &err), &err);
    int32_t *labels = calloc((size_t)batch, sizeof *labels);
    assert_non_null(labels);
    set_weights(trainer, net);
    compare_losses(trainer, run, &images, labels);
    compare_states(trainer, run);
    free(labels);
    gb_tensor_free(&images);
    gb_trainer_destroy(&trainer);
    gb_dataset_destroy(&dataset);
    gb_recipe_destroy(&recipe);
}

static bool wanted(const char *name, int argc, char **argv)
{
    bool any = argc <= 3;
    for (int i = 3; i < argc; i++) any |= strstr(name, argv[i]) != NULL;
    return any;
}

int main(int argc, char **argv)
{
    if (argc < 3) return 1;
    char path[1024], names[32][48];
    gb_error err;
    snprintf(path, sizeof path, "%s/training.json", argv[2]);
    suite.record = json_load_file(path, 0, NULL);
    gb_context_options options = {.cache_dir = ""};
    gb_status status = gb_context_create(&options, &suite.context, &err);
    if (!status) status = gb_device_open(suite.context, argv[1], &suite.device, &err);
    if (status || !suite.record) {
        fprintf(stderr, "%s: %s\n", argv[1], status ? err.message : path);
        return 1;
    }
    struct CMUnitTest tests[32] = {0};
    size_t n = 0, index;
    json_t *run;
    json_array_foreach(json_object_get(suite.record, "runs"), index, run) {
        snprintf(names[n], sizeof names[n], "%s_%s_%d", string_at(run, "net"),
                 string_at(run, "optimizer"), (int)number_at(run, "batch"));
        if (n == 32 || !wanted(names[n], argc, argv)) continue;
        tests[n] = (struct CMUnitTest){.name = names[n], .test_func = one_run, .initial_state = run};
        n++;
    }
    int failed = _cmocka_run_group_tests("training", tests, n, NULL, NULL);
    json_decref(suite.record);
    gb_device_close(&suite.device);
    gb_context_destroy(&suite.context);
    return failed || !n;
}
