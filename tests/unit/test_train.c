/* Trainers on a small made-up data set: micro-batches, threads, devices, losses that are not finite. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/train.h>

#include "tests/support/made_up.h"

#define MODEL \
    "model:\n  layers:\n    - conv: {out: 6, kernel: 3, padding: same}\n    - %s\n    - relu\n" \
    "    - maxpool: 2\n    - dropout: 0.25\n    - flatten\n    - linear: 4\n"

static gb_recipe *recipe(const char *norm, const char *rest)
{
    char text[1000];
    gb_recipe *r = NULL;
    gb_error err = {0};
    int n = snprintf(text, sizeof text, "data: {dataset: idx, path: .}\n" MODEL "batch: 32\nepochs: 1\n", norm);
    snprintf(text + n, sizeof text - (size_t)n, "%s", rest);
    if (gb_recipe_parse(text, "test", NULL, 0, &r, &err)) fail_msg("%s", err.message);
    return r;
}

/* Weights after `steps` steps; the caller frees. losses may be NULL. */
static gb_tensor train(const char *device, int threads, const gb_recipe *r, int steps, double *losses)
{
    gb_context_options co = {.threads = threads};
    gb_context *ctx = NULL;
    gb_device *dev = NULL;
    gb_trainer *t = NULL;
    gb_loader *loader = NULL;
    gb_dataset *data = gb_test_dataset(8, 64);
    gb_error err = {0};
    gb_loader_options lo = {.split = GB_TRAIN, .batch = r->batch, .shuffle = true, .seed = r->seed};
    const gb_batch *b;
    gb_step_result s;
    assert_int_equal(gb_context_create(&co, &ctx, &err), GB_OK);
    if (gb_device_open(ctx, device, &dev, &err)) fail_msg("%s", err.message);
    assert_int_equal(gb_trainer_create(dev, r, data, &t, &err), GB_OK);
    assert_int_equal(gb_loader_create(&loader, data, &lo, &err), GB_OK);
    for (int i = 0; i < steps; i++) {
        assert_int_equal(gb_loader_next(loader, &b, &err), GB_OK);
        if (gb_trainer_step(t, &b->images, b->labels, 0.05, &s, &err)) fail_msg("%s", err.message);
        if (losses) losses[i] = s.loss;
    }
    gb_tensor w;
    assert_int_equal(gb_store_get(gb_trainer_store(t), "layers.6.linear.weight", &w, &err), GB_OK);
    gb_loader_destroy(&loader);
    gb_trainer_destroy(&t);
    gb_dataset_destroy(&data);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return w;
}

static double difference(gb_tensor a, gb_tensor b)
{
    double d = 0;
    for (int64_t i = 0; i < gb_shape_count(&a.shape); i++) d = fmax(d, fabs(gb_tensor_get(&a, i) - gb_tensor_get(&b, i)));
    gb_tensor_free(&a);
    gb_tensor_free(&b);
    return d;
}

static void micro_batches_give_the_same_step(void **state)
{
    (void)state;
    const char *optimizers[] = {"optimizer: {sgd: {lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 1e-3}}\n",
                                "optimizer: {adamw: {lr: 0.01}}\nclip: {norm: 0.5}\n"};
    for (int k = 0; k < 2; k++) { /* dropout is on: masks must not depend on the cut */
        char cut[300];
        snprintf(cut, sizeof cut, "%smicro_batch: 8\n", optimizers[k]);
        gb_recipe *whole = recipe("gelu", optimizers[k]), *parts = recipe("gelu", cut);
        assert_true(difference(train("cpu", 0, whole, 4, NULL), train("cpu", 0, parts, 4, NULL)) < 2e-6);
        gb_recipe_destroy(&whole);
        gb_recipe_destroy(&parts);
    }
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    gb_recipe *r = recipe("batchnorm", "");
    gb_tensor one = train("cpu", 1, r, 3, NULL);
    for (int threads = 2; threads <= 5; threads += 3) {
        gb_tensor w = train("cpu", threads, r, 3, NULL);
        assert_memory_equal(one.data, w.data, gb_tensor_bytes(&one));
        gb_tensor_free(&w);
    }
    gb_tensor_free(&one);
    gb_recipe_destroy(&r);
}

static void the_cpu_follows_the_reference(void **state)
{
    (void)state;
    const char *rest[] = {"", "optimizer: {adam: {lr: 0.01, weight_decay: 1e-3}}\n", "optimizer: {rmsprop: {lr: 0.01, momentum: 0.5}}\n",
                          "loss: {cross_entropy: {label_smoothing: 0.1}}\nl1: 1e-3\nl2: 1e-3\nclip: {value: 0.01}\n",
                          "loss: mse\n", "loss: bce\n", "loss: l1\n"};
    for (size_t k = 0; k < sizeof rest / sizeof *rest; k++) {
        gb_recipe *r = recipe("batchnorm", rest[k]);
        double a[3], b[3];
        assert_true(difference(train("cpu", 0, r, 3, a), train("reference", 0, r, 3, b)) < 2e-4);
        for (int i = 0; i < 3; i++) assert_true(fabs(a[i] - b[i]) < 1e-4 * (1 + fabs(b[i])));
        gb_recipe_destroy(&r);
    }
}

static void a_loss_that_is_not_finite_stops_before_the_update(void **state)
{
    (void)state;
    gb_recipe *r = recipe("batchnorm", "");
    gb_context *ctx = NULL;
    gb_device *dev = NULL;
    gb_trainer *t = NULL;
    gb_dataset *data = gb_test_dataset(8, 64);
    gb_error err = {0};
    gb_tensor images, before, after;
    gb_shape s = gb_shape_of(4, 32, 1, 8, 8);
    int32_t labels[32] = {0};
    gb_step_result result;
    assert_int_equal(gb_context_create(NULL, &ctx, &err), GB_OK);
    assert_int_equal(gb_device_open(ctx, "cpu", &dev, &err), GB_OK);
    assert_int_equal(gb_trainer_create(dev, r, data, &t, &err), GB_OK);
    assert_int_equal(gb_trainer_prepare(t, 32, &err), GB_OK);
    assert_int_equal(gb_tensor_alloc(&images, GB_F32, &s, &err), GB_OK);
    const char *name = "layers.6.linear.weight";
    assert_int_equal(gb_store_get(gb_trainer_store(t), name, &before, &err), GB_OK);
    gb_tensor_set(&images, 5, NAN);
    assert_int_equal(gb_trainer_step(t, &images, labels, 0.1, &result, &err), GB_NOT_FINITE);
    assert_non_null(strstr(err.message, "input"));
    assert_int_equal(gb_store_get(gb_trainer_store(t), name, &after, &err), GB_OK);
    assert_memory_equal(before.data, after.data, gb_tensor_bytes(&before));
    gb_tensor_set(&images, 5, 0);
    gb_tensor bias;
    assert_int_equal(gb_store_get(gb_trainer_store(t), "layers.0.conv.bias", &bias, &err), GB_OK);
    gb_tensor_set(&bias, 0, 3e38);
    assert_int_equal(gb_store_set(gb_trainer_store(t), "layers.0.conv.bias", &bias, &err), GB_OK);
    assert_int_equal(gb_trainer_step(t, &images, labels, 0.1, &result, &err), GB_NOT_FINITE);
    assert_non_null(strstr(err.message, "layers.1.batchnorm"));
    gb_tensor_free(&bias);
    gb_tensor_free(&before);
    gb_tensor_free(&after);
    gb_tensor_free(&images);
    gb_trainer_destroy(&t);
    gb_dataset_destroy(&data);
    gb_recipe_destroy(&r);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
}

static void schedules(void **state)
{
    (void)state;
    const struct { const char *text; int64_t step; double want; } cases[] = {
        {"schedule: constant\n", 50, 1}, {"schedule: {cosine: {warmup: 0}}\n", 50, 0.5},
        {"schedule: {linear: {warmup: 0}}\n", 25, 0.75}, {"schedule: {step: {every: 2, gamma: 0.1}}\n", 45, 0.01},
        {"schedule: {exponential: {gamma: 0.5}}\n", 35, 0.125}, {"schedule: {cosine: {warmup_steps: 10}}\n", 4, 5.0 / 11}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char text[300];
        snprintf(text, sizeof text, "optimizer: {sgd: {lr: 1}}\n%s", cases[k].text);
        gb_recipe *r = recipe("relu", text);
        double lr = gb_learning_rate(r, cases[k].step, 100, 10);
        if (fabs(lr - cases[k].want) > 1e-9) fail_msg("%s: %g", cases[k].text, lr);
        gb_recipe_destroy(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(micro_batches_give_the_same_step), cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(the_cpu_follows_the_reference),
        cmocka_unit_test(a_loss_that_is_not_finite_stops_before_the_update), cmocka_unit_test(schedules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
