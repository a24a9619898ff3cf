/* ONNX files: written and read back, and what is damaged is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/onnx.h>

#include "tests/support/support.h"

/* A small network with most of what is written: states, constants, shapes, several outputs. */
static gb_graph *network(int64_t batch)
{
    gb_graph *g = gb_graph_create();
    gb_shape image = gb_shape_of(4, (int)batch, 2, 6, 6), filter = gb_shape_of(4, 3, 2, 3, 3);
    gb_shape matrix = gb_shape_of(2, 5, 12);
    gb_tensor w;
    assert_int_equal(gb_tensor_alloc(&w, GB_F32, &filter, NULL), GB_OK);
    for (int i = 0; i < 54; i++) gb_tensor_set(&w, i, i * 0.25 - 7);
    gb_value x = gb_graph_input(g, "x", GB_F32, &image);
    gb_graph_path(g, "layers.0.conv");
    gb_value conv = gb_graph_state(g, "conv.weight", GB_F32, &filter, true, &w);
    gb_value y = GB_OP(g, "Conv", GB_ARGS(x, conv),
                       GB_INTS("strides", ((int64_t[]){2, 2}), 2),
                       GB_INTS("pads", ((int64_t[]){1, 1, 0, 0}), 4));
    y = gb_op1(g, "Relu", y);
    y = GB_OP(g, "ReduceMean", GB_ARGS(y), GB_INTS("axes", ((int64_t[]){3}), 1), GB_INT("keepdims", 1));
    y = gb_op2(g, "Mul", y, gb_graph_float(g, 0.5));
    y = GB_OP(g, "Concat", GB_ARGS(y, y), GB_INT("axis", 1));
    y = GB_OP(g, "Slice", GB_ARGS(y), GB_INTS("starts", ((int64_t[]){0}), 1),
              GB_INTS("ends", ((int64_t[]){4}), 1), GB_INTS("axes", ((int64_t[]){1}), 1));
    y = GB_OP(g, "Reshape", GB_ARGS(y), GB_INTS("shape", ((int64_t[]){batch, 12}), 2));
    gb_value fc = gb_graph_state(g, "fc.weight", GB_F32, &matrix, true, NULL);
    gb_value z = GB_OP(g, "Gemm", GB_ARGS(y, fc), GB_INT("transB", 1));
    gb_graph_output(g, "logits", z);
    gb_graph_output(g, "features", y);
    gb_tensor_free(&w);
    gb_error err;
    if (gb_graph_check(g, &err)) fail_msg("%s", err.message);
    return g;
}

static gb_graph *read_back(const char *path, int64_t batch)
{
    gb_graph *g;
    gb_error err;
    gb_onnx_options options = {.batch = batch, .trainable = true};
    if (gb_onnx_read(path, &options, &g, &err)) fail_msg("%s (%s)", err.message, err.input);
    return g;
}

static void comes_back(void **state)
{
    char *dir = gb_test_make_dir();
    const char *path = gb_test_path(dir, "model.onnx"), *name;
    gb_graph *g = network(4);
    gb_error err;
    if (gb_onnx_write(g, NULL, 4, path, &err)) fail_msg("%s", err.message);
    gb_graph_destroy(&g);
    assert_int_equal(gb_test_count_files(dir), 1);
    g = read_back(path, 9); /* another batch: nothing in the file depends on it */
    gb_value x = gb_graph_input_at(g, 0), y = gb_graph_output_at(g, 0, &name);
    gb_shape in = gb_value_shape(g, x), out = gb_value_shape(g, y);
    gb_shape want = gb_shape_of(4, 9, 2, 6, 6), logits = gb_shape_of(2, 9, 5);
    assert_string_equal(gb_value_name(g, x), "x");
    assert_string_equal(name, "logits");
    assert_true(gb_shape_equal(&in, &want) && gb_shape_equal(&out, &logits));
    gb_value w = gb_graph_state_at(g, 0);
    assert_string_equal(gb_value_name(g, w), "conv.weight");
    const gb_tensor *t = gb_value_tensor(g, w);
    assert_true(t && gb_tensor_get(t, 53) == 53 * 0.25 - 7);
    gb_value trainable[4];
    assert_int_equal(gb_graph_trainable(g, trainable, 4), 2);
    gb_graph_destroy(&g);
    gb_test_remove_dir(dir);
}

static void given_states_are_written(void **state)
{
    char *dir = gb_test_make_dir();
    const char *path = gb_test_path(dir, "model.onnx");
    gb_tensors states = {0};
    gb_shape matrix = gb_shape_of(2, 5, 12), wrong = gb_shape_of(1, 3);
    gb_tensor *t;
    gb_error err;
    assert_int_equal(gb_tensors_create(&states, "fc.weight", GB_F32, &matrix, &t, NULL), GB_OK);
    gb_tensor_set(t, 7, 42);
    gb_graph *g = network(2);
    assert_int_equal(gb_onnx_write(g, &states, 0, path, &err), GB_OK);
    gb_tensors_free(&states);
    assert_int_equal(gb_tensors_create(&states, "fc.weight", GB_F32, &wrong, &t, NULL), GB_OK);
    assert_int_equal(gb_onnx_write(g, &states, 0, path, &err), GB_INVALID);
    gb_tensors_free(&states);
    gb_graph_destroy(&g);
    g = read_back(path, 5); /* batch 0 wrote fixed shapes */
    gb_shape in = gb_value_shape(g, gb_graph_input_at(g, 0));
    assert_int_equal(in.dim[0], 2);
    assert_true(gb_tensor_get(gb_value_tensor(g, gb_graph_state_at(g, 1)), 7) == 42);
    gb_graph_destroy(&g);
    gb_test_remove_dir(dir);
}

/* Whatever the bytes are: a graph or an error, never a crash (this runs under ASan too). */
static void damage_is_refused(void **state)
{
    char *dir = gb_test_make_dir();
    const char *path = gb_test_path(dir, "model.onnx");
    gb_graph *g = network(2);
    assert_int_equal(gb_onnx_write(g, NULL, 2, path, NULL), GB_OK);
    gb_graph_destroy(&g);
    uint8_t *bytes;
    size_t size;
    gb_error err;
    assert_int_equal(gb_read_file(path, 1 << 20, &bytes, &size, NULL), GB_OK);
    for (size_t n = 0; n < size; n += 7) {
        assert_int_not_equal(gb_onnx_parse(bytes, n, "cut.onnx", NULL, &g, &err), GB_OK);
        assert_null(g);
    }
    uint32_t random = 1;
    for (int i = 0; i < 3000; i++) {
        random = random * 1664525u + 1013904223u;
        size_t at = random / 256 % size;
        uint8_t old = bytes[at];
        bytes[at] ^= (uint8_t)(1 + random % 255);
        gb_onnx_parse(bytes, size, "damaged.onnx", NULL, &g, &err);
        gb_graph_destroy(&g);
        bytes[at] = old;
    }
    assert_int_equal(gb_onnx_parse(bytes, size, "whole.onnx", NULL, &g, &err), GB_OK);
    gb_graph_destroy(&g);
    free(bytes);
    gb_test_remove_dir(dir);
}

static void absent_files_and_nonsense(void **state)
{
    gb_graph *g;
    gb_error err;
    assert_int_equal(gb_onnx_read("/nowhere/model.onnx", NULL, &g, &err), GB_NOT_FOUND);
    assert_int_equal(gb_onnx_parse((const uint8_t *)"", 0, "empty.onnx", NULL, &g, &err), GB_FORMAT);
    assert_string_equal(err.input, "empty.onnx");
    assert_int_equal(gb_onnx_parse((const uint8_t *)"hello", 5, "x", NULL, &g, &err), GB_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back), cmocka_unit_test(given_states_are_written),
        cmocka_unit_test(damage_is_refused), cmocka_unit_test(absent_files_and_nonsense)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
