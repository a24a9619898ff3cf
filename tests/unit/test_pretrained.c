/* Published ResNet-20 weights on real images: the golden logits, and the accuracy on the first
 * images of the test set. usage: test_pretrained [DEVICE [IMAGES]] */
#include <stdarg.h>
#include <setjmp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <gimbal/data.h>
#include <gimbal/io.h>
#include <gimbal/nn.h>
#include <gimbal/program.h>

#include "tests/support/support.h"

static const char *device_id = "reference";
static int64_t images = 2, batch = 2, right_of_all;

static gb_error err;

static void ok(gb_status status)
{
    if (status) fail_msg("%s: %s (%s)", err.input, err.message, err.hint);
}

static gb_graph *build(int64_t n)
{
    gb_model *model;
    gb_graph *g = gb_graph_create();
    gb_shape shape = {4, {n, 3, 32, 32}};
    gb_value y;
    ok(gb_model_parse("resnet20", "test", &model, &err));
    ok(gb_model_build(model, g, gb_graph_input(g, "x", GB_F32, &shape), NULL, &y, &err));
    gb_graph_output(g, "logits", y);
    gb_model_destroy(&model);
    return g;
}

static void load_weights(gb_store *store, const char *dir)
{
    gb_tensors weights;
    ok(gb_safetensors_read(&weights, gb_test_path(dir, "models/resnet20-12fca82f.safetensors"),
                           &err));
    for (size_t i = 0; i < weights.count; i++)
        ok(gb_store_set(store, weights.items[i].name, &weights.items[i].tensor, &err));
    gb_tensors_free(&weights);
}

static gb_loader *open_test_set(const char *dir, gb_dataset **data)
{
    gb_data_options options = {.dataset = "cifar10",
                               .path = gb_test_path(dir, "cifar-10-batches-bin"),
                               .normalize = GB_NORMALIZE_GIVEN,
                               .normalize_channels = 3,
                               .mean = {0.485f, 0.456f, 0.406f},
                               .std = {0.229f, 0.224f, 0.225f}};
    gb_loader_options order = {.split = GB_TEST, .batch = batch, .epochs = 1};
    gb_loader *loader;
    ok(gb_dataset_open(data, &options, &err));
    ok(gb_loader_create(&loader, *data, &order, &err));
    return loader;
}

static int64_t count_right(const gb_tensor *logits, const int32_t *labels)
{
    int64_t right = 0;
    for (int64_t i = 0; i < logits->shape.dim[0]; i++) {
        const float *row = (const float *)logits->data + i * 10;
        int best = 0;
        for (int k = 1; k < 10; k++) best = row[k] > row[best] ? k : best;
        right += best == labels[i];
    }
    return right;
}

static void test_golden_logits(void **state)
{
    static const double golden[] = {-5.30968, -0.49577, 0.87726,  23.73051, -4.10504,
                                    4.46373,  -0.23435, -5.41793, -3.71179, -9.88217};
    const char *dir = gb_test_data_dir();
    if (!dir) skip();
    gb_context *ctx;
    gb_device *dev;
    gb_store *store;
    gb_program *program;
    gb_dataset *data;
    ok(gb_context_create(NULL, &ctx, &err));
    ok(gb_device_open(ctx, device_id, &dev, &err));
    ok(gb_store_create(dev, &store, &err));
    load_weights(store, dir);
    gb_graph *g = build(batch);
    ok(gb_program_create(store, g, NULL, &program, &err));
    gb_loader *loader = open_test_set(dir, &data);
    int64_t right = 0;
    for (int64_t seen = 0; seen < images; seen += batch) {
        const gb_batch *b;
        gb_tensor logits;
        ok(gb_loader_next(loader, &b, &err));
        ok(gb_program_set_input(program, "x", &b->images, &err));
        ok(gb_program_run(program, &err));
        ok(gb_program_output(program, "logits", &logits, &err));
        for (int k = 0; seen == 0 && k < 10; k++)
            assert_true(fabs(((const float *)logits.data)[k] - golden[k]) < 1e-4);
        right += count_right(&logits, b->labels);
        gb_tensor_free(&logits);
    }
    printf("# %lld of %lld images right on %s\n", (long long)right, (long long)images, device_id);
    if (right_of_all) assert_true(llabs(right - right_of_all) <= 2);
    gb_loader_destroy(&loader);
    gb_dataset_destroy(&data);
    gb_program_destroy(&program);
    gb_graph_destroy(&g);
    gb_store_destroy(&store);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden_logits)};
    if (argc > 1) device_id = argv[1];
    if (argc > 2) {
        images = atoll(argv[2]);
        batch = images >= 100 ? 100 : images;
    }
    if (images == 10000) right_of_all = 9173; /* what an independent program finds */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
