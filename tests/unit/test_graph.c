/* Graphs end to end on the reference: shapes, gradients against finite differences, updates. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/program.h>

typedef struct fixture {
    gb_context *ctx;
    gb_device *dev;
} fixture;

static int setup(void **state)
{
    static fixture f;
    gb_error err = {0};
    assert_int_equal(gb_context_create(NULL, &f.ctx, &err), GB_OK);
    assert_int_equal(gb_device_open(f.ctx, "reference", &f.dev, &err), GB_OK);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    gb_device_close(&f->dev);
    gb_context_destroy(&f->ctx);
    return 0;
}

static void fill(gb_tensor *t, int seed)
{
    int64_t n = gb_shape_count(&t->shape);
    for (int64_t i = 0; i < n; i++) gb_tensor_set(t, i, sin(1.7 * (double)i + seed) * 0.8);
}

static gb_value state_of(gb_graph *g, const char *name, int seed, int rank, int a, int b, int c, int d)
{
    gb_shape s = {.rank = rank, .dim = {a, b, c, d}};
    gb_tensor t;
    assert_int_equal(gb_tensor_alloc(&t, GB_F64, &s, NULL), GB_OK);
    fill(&t, seed);
    gb_value v = gb_graph_state(g, name, GB_F64, &s, true, &t);
    gb_tensor_free(&t);
    return v;
}

/* Every element of every state's gradient against central differences of the loss. */
static void check_gradients(fixture *f, gb_graph *g, gb_value loss)
{
    gb_error err = {0};
    gb_value states[8], grads[8];
    size_t n = gb_graph_trainable(g, states, 8);
    gb_graph_gradient(g, loss, states, n, grads);
    gb_graph_output(g, "loss", loss);
    for (size_t k = 0; k < n; k++) {
        char name[16];
        snprintf(name, sizeof name, "grad%zu", k);
        gb_graph_output(g, name, grads[k]);
    }
    if (gb_graph_check(g, &err)) fail_msg("%s", err.message);
    for (int fused = 0; fused < 2; fused++) {
        gb_store *store = NULL;
        gb_program *p = NULL;
        gb_program_options o = {.no_fusion = !fused};
        assert_int_equal(gb_store_create(f->dev, &store, &err), GB_OK);
        if (gb_program_create(store, g, &o, &p, &err)) fail_msg("%s", err.message);
        gb_program_set_scalar(p, "seed", 7, NULL);
        for (size_t k = 0; k < n; k++) {
            char name[16];
            snprintf(name, sizeof name, "grad%zu", k);
            assert_int_equal(gb_program_run(p, &err), GB_OK);
            gb_tensor grad, value, loss_value;
            assert_int_equal(gb_program_output_f64(p, name, &grad, &err), GB_OK);
            assert_int_equal(gb_store_get(store, gb_value_name(g, states[k]), &value, &err), GB_OK);
            for (int64_t i = 0; i < gb_shape_count(&value.shape); i++) {
                double x = gb_tensor_get(&value, i), h = 1e-5, l[2];
                for (int s = 0; s < 2; s++) {
                    gb_tensor_set(&value, i, x + (s ? h : -h));
                    assert_int_equal(gb_store_set(store, gb_value_name(g, states[k]), &value, &err), GB_OK);
                    assert_int_equal(gb_program_run(p, &err), GB_OK);
                    assert_int_equal(gb_program_output_f64(p, "loss", &loss_value, &err), GB_OK);
                    l[s] = gb_tensor_get(&loss_value, 0);
                    gb_tensor_free(&loss_value);
                }
                gb_tensor_set(&value, i, x);
                double slope = (l[1] - l[0]) / (2 * h), got = gb_tensor_get(&grad, i);
                if (fabs(slope - got) > 1e-6 * (1 + fabs(slope)))
                    fail_msg("%s[%d]: %.9g, differences give %.9g (fused %d)", gb_value_name(g, states[k]), (int)i,
                             got, slope, fused);
            }
            assert_int_equal(gb_store_set(store, gb_value_name(g, states[k]), &value, &err), GB_OK);
            gb_tensor_free(&grad);
            gb_tensor_free(&value);
        }
        gb_program_destroy(&p);
        gb_store_destroy(&store);
    }
    gb_graph_destroy(&g);
}

static gb_value labels(gb_graph *g, int n, int classes)
{
    gb_shape s = gb_shape_of(1, n);
    gb_tensor t;
    assert_int_equal(gb_tensor_alloc(&t, GB_I32, &s, NULL), GB_OK);
    for (int i = 0; i < n; i++) gb_tensor_set(&t, i, (i * 7 + 1) % classes);
    gb_value v = gb_graph_constant(g, &t);
    gb_tensor_free(&t);
    return v;
}

static void mlp(void **state)
{
    gb_graph *g = gb_graph_create();
    gb_value x = state_of(g, "x", 1, 2, 3, 4, 0, 0), w = state_of(g, "w", 2, 2, 5, 4, 0, 0);
    gb_value b = state_of(g, "b", 3, 1, 5, 0, 0, 0), w2 = state_of(g, "w2", 4, 2, 5, 3, 0, 0);
    gb_value h = GB_OP(g, "Gemm", GB_ARGS(x, w, b), GB_INT("transB", 1));
    gb_value logits = gb_op2(g, "MatMul", gb_op1(g, "Tanh", h), w2);
    gb_value loss = GB_OP(g, "SoftmaxCrossEntropyLoss", GB_ARGS(logits, labels(g, 3, 3)),
                          GB_FLOAT("label_smoothing", 0.1));
    check_gradients(*state, g, loss);
}

static void convolution(void **state)
{
    gb_graph *g = gb_graph_create();
    gb_value x = state_of(g, "x", 1, 4, 2, 4, 5, 6), w = state_of(g, "w", 2, 4, 6, 2, 3, 3);
    gb_value b = state_of(g, "b", 3, 1, 6, 0, 0, 0), scale = state_of(g, "scale", 4, 1, 6, 0, 0, 0);
    gb_shape six = gb_shape_of(1, 6);
    gb_value mean = gb_graph_state(g, "mean", GB_F64, &six, false, NULL);
    gb_value var = gb_graph_state(g, "var", GB_F64, &six, false, NULL);
    const int64_t stride[] = {2, 1}, pads[] = {1, 0, 0, 1}, two[] = {2, 2};
    gb_value y = GB_OP(g, "Conv", GB_ARGS(x, w), GB_INTS("strides", stride, 2), GB_INTS("pads", pads, 4),
                       GB_INT("group", 2));
    gb_value bn[3], in[] = {y, scale, b, mean, var};
    gb_graph_add(g, "BatchNormalization", in, 5, &GB_INT("training_mode", 1), 1, bn, 3);
    gb_graph_update(g, mean, bn[1]);
    gb_graph_update(g, var, bn[2]);
    gb_value p = GB_OP(g, "MaxPool", GB_ARGS(gb_op1(g, "Sigmoid", bn[0])), GB_INTS("kernel_shape", two, 2));
    gb_value flat = gb_op1(g, "Flatten", p);
    check_gradients(*state, g, GB_OP(g, "ReduceL2", GB_ARGS(flat), GB_INT("keepdims", 0)));
}

static void normalizations(void **state)
{
    gb_graph *g = gb_graph_create();
    gb_value x = state_of(g, "x", 1, 3, 2, 4, 3, 0), s = state_of(g, "s", 2, 1, 4, 0, 0, 0);
    gb_value b = state_of(g, "b", 3, 1, 4, 0, 0, 0), ls = state_of(g, "ls", 5, 1, 3, 0, 0, 0);
    gb_value y = GB_OP(g, "GroupNormalization", GB_ARGS(x, s, b), GB_INT("num_groups", 2));
    y = gb_op3(g, "InstanceNormalization", y, s, b);
    y = gb_op3(g, "LayerNormalization", y, ls, ls);
    y = GB_OP(g, "Dropout", GB_ARGS(y), GB_FLOAT("ratio", 0.3), GB_INT("training_mode", 1));
    y = GB_OP(g, "Softmax", GB_ARGS(y), GB_INT("axis", 1));
    check_gradients(*state, g, GB_OP(g, "ReduceSumSquare", GB_ARGS(y), GB_INT("keepdims", 0)));
}

static void reductions_and_shapes(void **state)
{
    gb_graph *g = gb_graph_create();
    gb_value x = state_of(g, "x", 1, 3, 2, 3, 4, 0), e = state_of(g, "e", 2, 2, 5, 4, 0, 0);
    const int64_t axes[] = {0, 2}, perm[] = {2, 0, 1}, pads[] = {1, 0, 2, 0, 1, 0}, step[] = {-2}, from[] = {-1},
                  to[] = {-100}, axis[] = {2}, reps[] = {2, 1, 3}, index[] = {3, 0, 3, -1};
    gb_value total = GB_OP(g, "ReduceProd", GB_ARGS(x), GB_INTS("axes", axes, 2), GB_INT("keepdims", 0));
    gb_value t = GB_OP(g, "Transpose", GB_ARGS(x), GB_INTS("perm", perm, 3));
    t = GB_OP(g, "ReduceMax", GB_ARGS(t), GB_INTS("axes", axes, 1));
    gb_value padded = GB_OP(g, "Pad", GB_ARGS(x), GB_INTS("pads", pads, 6), GB_STRING("mode", "edge"));
    gb_value cut = GB_OP(g, "Slice", GB_ARGS(padded), GB_INTS("starts", from, 1), GB_INTS("ends", to, 1),
                         GB_INTS("axes", axis, 1), GB_INTS("steps", step, 1));
    gb_value tiled = GB_OP(g, "Tile", GB_ARGS(cut), GB_INTS("repeats", reps, 3));
    gb_shape four = gb_shape_of(1, 4);
    gb_tensor it = {.dtype = GB_I64, .shape = four, .data = (void *)index};
    gb_value rows = gb_op2(g, "Gather", e, gb_graph_constant(g, &it));
    gb_value joined = GB_OP(g, "Concat", GB_ARGS(rows, e), GB_INT("axis", 0));
    gb_value sums[] = {GB_OP(g, "ReduceSumSquare", GB_ARGS(total), GB_INT("keepdims", 0)),
                       GB_OP(g, "ReduceLogSumExp", GB_ARGS(t), GB_INT("keepdims", 0)),
                       GB_OP(g, "ReduceL1", GB_ARGS(tiled), GB_INT("keepdims", 0)),
                       GB_OP(g, "ReduceSumSquare", GB_ARGS(joined), GB_INT("keepdims", 0))};
    check_gradients(*state, g, gb_op_list(g, "Sum", sums, 4, NULL, 0));
}

static void updates_keep_old_values(void **state)
{
    fixture *f = *state;
    gb_graph *g = gb_graph_create();
    gb_error err = {0};
    gb_value a = state_of(g, "a", 1, 1, 4, 0, 0, 0), b = state_of(g, "b", 2, 1, 4, 0, 0, 0);
    gb_value c = state_of(g, "c", 3, 1, 4, 0, 0, 0);
    gb_graph_update(g, a, b); /* swapped */
    gb_graph_update(g, b, a);
    gb_graph_update(g, c, gb_op2(g, "Add", c, a));
    gb_store *store;
    gb_program *p;
    assert_int_equal(gb_store_create(f->dev, &store, &err), GB_OK);
    if (gb_program_create(store, g, NULL, &p, &err)) fail_msg("%s", err.message);
    assert_int_equal(gb_program_run(p, &err), GB_OK);
    const char *names[] = {"a", "b", "c"};
    for (int k = 0; k < 3; k++) {
        gb_tensor t;
        assert_int_equal(gb_store_get(store, names[k], &t, &err), GB_OK);
        for (int i = 0; i < 4; i++) {
            double va = sin(1.7 * i + 1) * .8, vb = sin(1.7 * i + 2) * .8, vc = sin(1.7 * i + 3) * .8;
            double want = k == 0 ? vb : k == 1 ? va : va + vc;
            assert_true(fabs(gb_tensor_get(&t, i) - want) < 1e-6);
        }
        gb_tensor_free(&t);
    }
    gb_program_destroy(&p);
    gb_store_destroy(&store);
    gb_graph_destroy(&g);
}

static void errors_are_sticky_and_name_the_layer(void **state)
{
    gb_graph *g = gb_graph_create();
    gb_error err = {0};
    gb_graph_path(g, "layers.3.linear");
    gb_value x = state_of(g, "x", 1, 2, 3, 4, 0, 0);
    gb_value y = gb_op1(g, "Relu", gb_op2(g, "MatMul", x, x));
    assert_int_equal(y, GB_NONE);
    assert_int_equal(gb_graph_check(g, &err), GB_INVALID);
    assert_non_null(strstr(err.message, "layers.3.linear"));
    assert_non_null(strstr(err.message, "[3, 4]"));
    gb_graph_destroy(&g);
    g = gb_graph_create();
    x = state_of(g, "x", 1, 2, 3, 4, 0, 0);
    GB_OP(g, "Softmax", GB_ARGS(x), GB_INT("axes", 1));
    gb_graph_check(g, &err);
    assert_non_null(strstr(err.hint, "axis"));
    gb_graph_destroy(&g);
    g = gb_graph_create();
    x = state_of(g, "x", 1, 2, 3, 4, 0, 0);
    gb_value loss = GB_OP(g, "ReduceSum", GB_ARGS(gb_op1(g, "Sign", x)), GB_INT("keepdims", 0)), dx;
    assert_int_equal(gb_graph_gradient(g, loss, &x, 1, &dx), GB_UNSUPPORTED);
    gb_graph_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mlp),           cmocka_unit_test(convolution),
        cmocka_unit_test(normalizations), cmocka_unit_test(reductions_and_shapes),
        cmocka_unit_test(updates_keep_old_values), cmocka_unit_test(errors_are_sticky_and_name_the_layer)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
