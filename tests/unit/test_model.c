#include <stdarg.h>
#include <setjmp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <gimbal/io.h>
#include <gimbal/nn.h>
#include "core/nn/layer.h"

#include "tests/support/support.h"

static gb_model *parse(const char *yaml)
{
    gb_model *m;
    gb_error err = {0};
    if (gb_model_parse(yaml, "m.yaml", &m, &err))
        fail_msg("%s: %s (%s)", err.input, err.message, err.hint);
    return m;
}

/* A graph of the model for one input shape; *y receives its output. */
static gb_graph *build(const char *yaml, gb_shape in, bool training, gb_value *y)
{
    gb_model *m = parse(yaml);
    gb_graph *g = gb_graph_create();
    gb_error err = {0};
    gb_value x = gb_graph_input(g, "x", GB_F32, &in);
    gb_model_options o = {.training = training, .seed = 1};
    if (gb_model_build(m, g, x, &o, y, &err))
        fail_msg("%s: %s (%s)", err.input, err.message, err.hint);
    gb_model_destroy(&m);
    return g;
}

typedef struct shape_case {
    const char *model;
    gb_shape in, out;
    int64_t parameters;
} shape_case;

static const gb_shape image = {4, {2, 3, 32, 32}}, grey = {4, {2, 1, 28, 28}}, ten = {2, {2, 10}};

static void test_named_models(void **state)
{
    const shape_case cases[] = {
        {"resnet20", image, ten, 269722},
        {"resnet32", image, ten, 464154},
        {"resnet44", image, ten, 658586},
        {"resnet56", image, ten, 853018},
        {"resnet18", image, ten, 11173962},
        {"resnet18: {classes: 100, width: 16}", image, {2, {2, 100}}, 0},
        {"airbench94", image, ten, 0},
        {"mlp: {hidden: [512, 512]}", grey, ten, 669706},
        {"cnn: {dropout: 0.1}", grey, ten, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gb_value y;
        gb_graph *g = build(cases[i].model, cases[i].in, i % 2, &y);
        gb_shape out = gb_value_shape(g, y);
        assert_true(gb_shape_equal(&out, &cases[i].out));
        if (cases[i].parameters) assert_int_equal(gb_graph_parameters(g), cases[i].parameters);
        gb_graph_destroy(&g);
    }
}

static void test_layer_shapes(void **state)
{
    const shape_case cases[] = {
        {"layers: [{conv: {out: 4, kernel: 3}}]", image, {4, {2, 4, 30, 30}}, 112},
        {"layers: [{conv: {out: 4, kernel: 3, padding: same, bias: false}}]",
         image,
         {4, {2, 4, 32, 32}},
         108},
        {"layers: [{conv: {out: 4, kernel: [3, 5], stride: 2, padding: [1, 2]}}]",
         image,
         {4, {2, 4, 16, 16}},
         184},
        {"layers: [{conv: {out: 4, kernel: 3, stride: 2, padding: same}}]",
         image,
         {4, {2, 4, 16, 16}},
         112},
        {"layers: [{conv: {out: 6, kernel: 3, groups: 3, dilation: 2}}]",
         image,
         {4, {2, 6, 28, 28}},
         60},
        {"layers: [{conv: {out: 4, kernel: 2, padding: [0, 0, 1, 1]}}]",
         image,
         {4, {2, 4, 32, 32}},
         52},
        {"layers: [{conv: {out: 4, kernel: 3}}]", {3, {2, 3, 10}}, {3, {2, 4, 8}}, 40},
        {"layers: [{conv_transpose: {out: 4, kernel: 2, stride: 2}}]",
         image,
         {4, {2, 4, 64, 64}},
         52},
        {"layers: [maxpool]", image, {4, {2, 3, 16, 16}}, 0},
        {"layers: [{maxpool: {kernel: 3, stride: 2, padding: 1}}]", image, {4, {2, 3, 16, 16}}, 0},
        {"layers: [{avgpool: 4}]", image, {4, {2, 3, 8, 8}}, 0},
        {"layers: [global_avgpool, flatten]", image, {2, {2, 3}}, 0},
        {"layers: [global_maxpool]", image, {4, {2, 3, 1, 1}}, 0},
        {"layers: [batchnorm, {dropout: 0.3}]", image, image, 6},
        {"layers: [{groupnorm: 3}, instancenorm, layernorm]", image, image, 6 + 6 + 64},
        {"layers: [{reshape: [3, -1]}]", image, {3, {2, 3, 1024}}, 0},
        {"layers: [{linear: 7}]", {3, {2, 5, 4}}, {3, {2, 5, 7}}, 35},
        {"layers: [{linear: {out: 7, bias: false}}]", {2, {2, 4}}, {2, {2, 7}}, 28},
        {"layers: [{mean: [2, 3]}]", image, {2, {2, 3}}, 0},
        {"layers: [{scale: 2}, {leakyrelu: 0.1}, gelu, silu, hardswish, prelu, {clip: {max: 3}}]",
         image, image, 1},
        {"layers: [{residual: {body: [{conv: {out: 8, kernel: 3, stride: 2, padding: 1}}], "
         "shortcut: pad}}]",
         image,
         {4, {2, 8, 16, 16}},
         224},
        {"layers: [{block: {layers: [{conv: {out: 3}}, relu], repeat: 3}}, softmax]", image, image,
         36},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gb_value y;
        gb_graph *g = build(cases[i].model, cases[i].in, true, &y);
        gb_shape out = gb_value_shape(g, y);
        if (!gb_shape_equal(&out, &cases[i].out)) {
            char text[96];
            fail_msg("%s: %s", cases[i].model, gb_shape_text(&out, text, sizeof text));
        }
        assert_int_equal(gb_graph_parameters(g), cases[i].parameters);
        gb_graph_destroy(&g);
    }
}

static void test_shapes_that_do_not_fit(void **state)
{
    static const struct {
        const char *model, *input, *message;
    } cases[] = {
        {"layers: [relu, {linear: 10}]", "layers.1.linear", "has shape [2, 3, 32, 32]"},
        {"layers: [{conv: {out: 4, kernel: 33}}]", "layers.0.conv", "33 does not fit into 32"},
        {"layers: [{conv: {out: 4, groups: 2}}]", "layers.0.conv", "2 groups do not divide 3"},
        {"layers: [flatten, {conv: {out: 4, name: second}}]", "second", "has shape [2, 3072]"},
        {"layers: [{conv: {out: 4, kernel: [3, 3, 3]}}]", "layers.0.conv", "3 numbers for 2 axes"},
        {"layers: [{reshape: [5, -1]}]", "layers.0.reshape", "has shape"},
        {"layers: [{residual: {body: [{conv: {out: 4}}]}}]", "layers.0.residual",
         "the body makes [2, 4, 32, 32] but the shortcut [2, 3, 32, 32]"},
        {"layers: [{conv: {out: 4, name: a}}, {conv: {out: 4, name: a}}]", "a", "used twice"},
        {"layers: [{embedding: {size: 10, dim: 4}}]", "layers.0.embedding", "whole numbers"},
        {"layers: [{mean: 7}]", "layers.0.mean", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gb_model *m = parse(cases[i].model);
        gb_graph *g = gb_graph_create();
        gb_error err = {0};
        gb_value y, x = gb_graph_input(g, "x", GB_F32, &image);
        assert_int_equal(gb_model_build(m, g, x, NULL, &y, &err), GB_INVALID);
        assert_int_equal(y, GB_NONE);
        if (!strstr(err.input, cases[i].input) || !strstr(err.message, cases[i].message))
            fail_msg("%s: %s", err.input, err.message);
        gb_model_destroy(&m);
        gb_graph_destroy(&g);
    }
}

/* The published weights load by name: every state of our graph is in the file, and the reverse. */
static void test_published_names(void **state)
{
    const char *shared = gb_test_shared_dir();
    if (!shared) skip();
    char path[500];
    snprintf(path, sizeof path, "%s/data/models/resnet_cifar10/resnet20-12fca82f.safetensors",
             shared);
    gb_tensors file;
    gb_error err = {0};
    if (gb_safetensors_read(&file, path, &err)) fail_msg("%s: %s", err.input, err.message);
    gb_value y;
    gb_graph *g = build("resnet20", image, false, &y);
    size_t states = 0;
    for (gb_value v; (v = gb_graph_state_at(g, states)) != GB_NONE; states++) {
        const gb_tensor *t = gb_tensors_find(&file, gb_value_name(g, v));
        gb_shape shape = gb_value_shape(g, v);
        if (!t || !gb_shape_equal(&t->shape, &shape)) fail_msg("%s differs", gb_value_name(g, v));
    }
    assert_int_equal(states, file.count);
    gb_tensors_free(&file);
    gb_graph_destroy(&g);
}

static void stats(const gb_tensor *t, double *mean, double *deviation, double *low, double *high)
{
    int64_t n = gb_shape_count(&t->shape);
    const float *x = t->data;
    double sum = 0, squares = 0;
    *low = *high = x[0];
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
        *low = fmin(*low, x[i]);
        *high = fmax(*high, x[i]);
    }
    *mean = sum / (double)n;
    *deviation = sqrt(squares / (double)n - *mean * *mean);
}

static void test_initial_weights(void **state)
{
    gb_shape shape = {2, {200, 300}};
    gb_tensor a, b;
    gb_error err;
    double mean, deviation, low, high, bound = 1 / sqrt(300.0);
    assert_int_equal(gb_tensor_alloc(&a, GB_F32, &shape, &err), GB_OK);
    assert_int_equal(gb_tensor_alloc(&b, GB_F32, &shape, &err), GB_OK);
    gb_init_fill(&a, "fc.weight", 1, GB_INIT_MODEL, 300, 200);
    stats(&a, &mean, &deviation, &low, &high);
    assert_true(fabs(mean) < 0.02 * bound && fabs(deviation / bound - 1 / sqrt(3.0)) < 0.01);
    assert_true(low >= -bound && low < -0.999 * bound && high <= bound && high > 0.999 * bound);
    gb_init_fill(&b, "fc.weight", 1, GB_INIT_MODEL, 300, 200);
    assert_memory_equal(a.data, b.data, gb_tensor_bytes(&a));
    gb_init_fill(&b, "fc.weight", 2, GB_INIT_MODEL, 300, 200);
    assert_memory_not_equal(a.data, b.data, 64);
    gb_init_fill(&b, "fd.weight", 1, GB_INIT_MODEL, 300, 200);
    assert_memory_not_equal(a.data, b.data, 64);
    gb_init_fill(&a, "fc.weight", 1, GB_INIT_KAIMING_NORMAL, 300, 200);
    stats(&a, &mean, &deviation, &low, &high);
    assert_true(fabs(mean) < 0.001 && fabs(deviation / sqrt(2 / 300.0) - 1) < 0.01);
    assert_true(high > 3.5 * deviation && high < 6 * deviation);
    gb_init_fill(&a, "fc.weight", 1, GB_INIT_XAVIER_NORMAL, 300, 200);
    stats(&a, &mean, &deviation, &low, &high);
    assert_true(fabs(deviation / sqrt(2 / 500.0) - 1) < 0.01);
    /* fixed for all time: runs of other versions can be repeated */
    gb_init_uniform(&a, "fc.weight", 1, 1);
    const float *x = a.data;
    assert_true(x[0] == 0x1.993068p-2f && x[5] == -0x1.6f6fbcp-1f);
    gb_tensor_free(&a);
    gb_tensor_free(&b);
}

static void test_dirac(void **state)
{
    gb_shape shape = {4, {3, 2, 3, 3}};
    gb_tensor t;
    gb_error err;
    assert_int_equal(gb_tensor_alloc(&t, GB_F32, &shape, &err), GB_OK);
    gb_init_fill(&t, "c.weight", 1, GB_INIT_DIRAC, 18, 27);
    const float *x = t.data;
    for (int i = 0; i < 36; i++) assert_true(x[i] == (i == 4 || i == 18 + 9 + 4));
    assert_true(x[36] != 0);
    gb_tensor_free(&t);
}

/* Whitened patches are uncorrelated and have variance one, but for eps. */
static void test_whitening(void **state)
{
    enum { N = 6, C = 2, H = 9, W = 9, K = 8 };
    gb_model *m = parse("layers: [{conv: {out: 16, kernel: 2, init: whiten}}]");
    assert_string_equal(gb_model_whitening(m), "layers.0.conv.weight");
    gb_shape shape = {4, {N, C, H, W}};
    gb_tensor images, w;
    gb_error err;
    assert_int_equal(gb_tensor_alloc(&images, GB_F32, &shape, &err), GB_OK);
    gb_init_normal(&images, "images", 3, 10);
    float *x = images.data;
    for (int i = 1; i < N * C * H * W; i++) x[i] += 0.7f * x[i - 1];
    assert_int_equal(gb_model_whiten(m, &images, &w, &err), GB_OK);
    const float *f = w.data;
    double cov[K][K] = {{0}};
    int count = 0;
    for (int n = 0; n < N; n++)
        for (int y = 0; y < H - 1; y++)
            for (int z = 0; z < W - 1; z++, count++) {
                double out[K] = {0};
                for (int k = 0; k < K; k++)
                    for (int j = 0; j < K; j++)
                        out[k] += (double)f[k * K + j] *
                                  x[((n * C + j / 4) * H + y + j / 2 % 2) * W + z + j % 2];
                for (int k = 0; k < K; k++)
                    for (int j = 0; j < K; j++) cov[k][j] += out[k] * out[j];
            }
    for (int k = 0; k < K; k++)
        for (int j = 0; j < K; j++) assert_true(fabs(cov[k][j] / count - (k == j)) < 1e-3);
    for (int i = 0; i < K * K; i++) assert_true(f[K * K + i] == -f[i]); /* and negated */
    gb_tensor_free(&images);
    gb_tensor_free(&w);
    gb_model_destroy(&m);
}

static void test_written_models_read_again(void **state)
{
    const char *models[] = {
        "resnet20", "mlp: {hidden: [3, 4]}", "airbench94",
        "layers:\n- conv: {out: 3, kernel: 3, padding: same}\n- residual:\n    body: [relu, "
        "{linear:"
        " 3}]\n    shortcut: [identity]\n- block: {repeat: 2, name: b, layers: [gelu, {block: "
        "{layers: [tanh]}}]}\n- residual: {body: [relu], shortcut: pad}\n"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        gb_model *m = parse(models[i]);
        char *once = gb_model_write(m, 0);
        gb_model_destroy(&m);
        m = parse(once);
        char *twice = gb_model_write(m, 0);
        assert_string_equal(once, twice);
        gb_model_destroy(&m);
        free(once);
        free(twice);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_named_models),
        cmocka_unit_test(test_layer_shapes),
        cmocka_unit_test(test_shapes_that_do_not_fit),
        cmocka_unit_test(test_published_names),
        cmocka_unit_test(test_initial_weights),
        cmocka_unit_test(test_dirac),
        cmocka_unit_test(test_whitening),
        cmocka_unit_test(test_written_models_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
