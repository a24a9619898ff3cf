/* Graphs through the public headers: made, compiled, run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/program.h>

typedef struct fixture {
    gb_context *ctx;
    gb_device *dev;
    gb_store *store;
} fixture;

static int open_reference(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    gb_error err;
    *state = f;
    if (!f || gb_context_create(NULL, &f->ctx, &err) || gb_device_open(f->ctx, "reference", &f->dev, &err))
        return -1;
    return gb_store_create(f->dev, &f->store, &err);
}

static int close_all(void **state)
{
    fixture *f = *state;
    gb_store_destroy(&f->store);
    gb_device_close(&f->dev);
    gb_context_destroy(&f->ctx);
    free(f);
    return 0;
}

static void ok(gb_status status, const gb_error *err)
{
    if (status != GB_OK) fail_msg("%s: %s (%s)", gb_status_name(status), err->message, err->input);
}

static gb_tensor tensor(gb_dtype dtype, gb_shape shape)
{
    gb_tensor t;
    assert_int_equal(gb_tensor_alloc(&t, dtype, &shape, NULL), GB_OK);
    return t;
}

static gb_tensor pattern(gb_dtype dtype, gb_shape shape, uint32_t seed)
{
    gb_tensor t = tensor(dtype, shape);
    for (int64_t i = 0; i < gb_shape_count(&shape); i++) {
        seed = seed * 1664525u + 1013904223u;
        gb_tensor_set(&t, i, gb_dtype_is_float(dtype) ? (seed >> 8) * 0x1p-23 - 1 : seed >> 24);
    }
    return t;
}

static double scalar_output(gb_program *p, const char *name)
{
    gb_tensor t;
    gb_error err;
    ok(gb_program_output_f64(p, name, &t, &err), &err);
    double v = gb_tensor_get(&t, 0);
    gb_tensor_free(&t);
    return v;
}

/* loss = mean of (relu(x W1 + b1) W2 - y)^2, with its gradients and a step of SGD. */
static gb_graph *mlp(bool train)
{
    gb_graph *g = gb_graph_create();
    assert_non_null(g);
    gb_shape sx = gb_shape_of(2, 8, 5), sy = gb_shape_of(2, 8, 3), s1 = gb_shape_of(2, 5, 16),
             sb = gb_shape_of(1, 16), s2 = gb_shape_of(2, 16, 3);
    gb_tensor w1 = pattern(GB_F32, s1, 1), w2 = pattern(GB_F32, s2, 2);
    gb_value x = gb_graph_input(g, "x", GB_F32, &sx), y = gb_graph_input(g, "y", GB_F32, &sy);
    gb_value w[3] = {gb_graph_state(g, "w1", GB_F32, &s1, true, &w1),
                     gb_graph_state(g, "b1", GB_F32, &sb, true, NULL),
                     gb_graph_state(g, "w2", GB_F32, &s2, true, &w2)};
    gb_tensor_free(&w1);
    gb_tensor_free(&w2);
    gb_graph_path(g, "layers.0");
    gb_value h = gb_op1(g, "Relu", gb_op2(g, "Add", gb_op2(g, "MatMul", x, w[0]), w[1]));
    gb_graph_path(g, "layers.1");
    gb_value d = gb_op2(g, "Sub", gb_op2(g, "MatMul", h, w[2]), y);
    gb_value loss = GB_OP(g, "ReduceMean", GB_ARGS(gb_op2(g, "Mul", d, d)), GB_INT("keepdims", 0));
    gb_graph_output(g, "loss", loss);
    if (!train) return g;
    gb_value lr = gb_graph_scalar(g, "lr", GB_F32), grad[3];
    gb_error err;
    gb_graph_gradient(g, loss, w, 3, grad);
    ok(gb_graph_check(g, &err), &err);
    for (int k = 0; k < 3; k++)
        gb_graph_update(g, w[k], gb_op2(g, "Sub", w[k], gb_op2(g, "Mul", lr, grad[k])));
    gb_graph_output(g, "grad_w1", grad[0]);
    return g;
}

static gb_program *compile(fixture *f, gb_graph *g)
{
    gb_program *p;
    gb_error err;
    ok(gb_program_create(f->store, g, NULL, &p, &err), &err);
    gb_graph_destroy(&g);
    return p;
}

static void give(gb_program *p)
{
    gb_error err;
    gb_tensor x = pattern(GB_F32, gb_shape_of(2, 8, 5), 3), y = pattern(GB_F32, gb_shape_of(2, 8, 3), 4);
    ok(gb_program_set_input(p, "x", &x, &err), &err);
    ok(gb_program_set_input(p, "y", &y, &err), &err);
    gb_tensor_free(&x);
    gb_tensor_free(&y);
}

static void an_mlp_learns(void **state)
{
    gb_error err;
    gb_program *p = compile(*state, mlp(true));
    double first = 0, last = 0;
    give(p);
    ok(gb_program_set_scalar(p, "lr", 0.1, &err), &err);
    for (int i = 0; i < 200; i++) {
        ok(gb_program_run(p, &err), &err);
        last = scalar_output(p, "loss");
        if (i == 0) first = last;
    }
    assert_true(first > 0.1 && last < first / 10);
    gb_program_destroy(&p);
}

static void gradients_match_differences(void **state)
{
    fixture *f = *state;
    gb_error err;
    gb_program *train = compile(f, mlp(true)), *eval = compile(f, mlp(false));
    gb_tensor grad, w, wide = tensor(GB_F64, gb_shape_of(2, 5, 16));
    give(train);
    give(eval);
    ok(gb_program_set_scalar(train, "lr", 0, &err), &err);
    ok(gb_program_run(train, &err), &err);
    ok(gb_program_output_f64(train, "grad_w1", &grad, &err), &err);
    ok(gb_store_get(f->store, "w1", &w, &err), &err);
    for (int i = 0; i < 80; i++) gb_tensor_set(&wide, i, gb_tensor_get(&w, i));
    for (int i = 0; i < 80; i += 7) {
        double loss[2], h = 1e-6, at = gb_tensor_get(&w, i);
        for (int k = 0; k < 2; k++) {
            gb_tensor_set(&wide, i, at + (k ? h : -h));
            ok(gb_store_set(f->store, "w1", &wide, &err), &err);
            ok(gb_program_run(eval, &err), &err);
            loss[k] = scalar_output(eval, "loss");
        }
        gb_tensor_set(&wide, i, at);
        double difference = (loss[1] - loss[0]) / (2 * h);
        assert_true(fabs(difference - gb_tensor_get(&grad, i)) < 1e-8);
    }
    gb_tensor_free(&grad);
    gb_tensor_free(&w);
    gb_tensor_free(&wide);
    gb_program_destroy(&train);
    gb_program_destroy(&eval);
}

static void wrong_arguments_are_named(void **state)
{
    fixture *f = *state;
    gb_error err;
    gb_program *p = compile(f, mlp(true)), *none;
    gb_tensor wrong = tensor(GB_F32, gb_shape_of(2, 8, 4)), integers = tensor(GB_I32, gb_shape_of(2, 8, 5));
    gb_tensor out;
    assert_int_equal(gb_program_run(p, &err), GB_INVALID);
    assert_string_equal(err.input, "x");
    assert_int_equal(gb_program_set_input(p, "x", &wrong, &err), GB_INVALID);
    assert_non_null(strstr(err.message, "[8, 5]"));
    assert_non_null(strstr(err.message, "[8, 4]"));
    assert_int_equal(gb_program_set_input(p, "x", &integers, &err), GB_INVALID);
    assert_non_null(strstr(err.message, "i32"));
    assert_int_equal(gb_program_set_input(p, "z", &wrong, &err), GB_NOT_FOUND);
    assert_non_null(strstr(err.hint, "x, y"));
    assert_int_equal(gb_program_output(p, "z", &out, &err), GB_NOT_FOUND);
    assert_int_equal(gb_program_set_scalar(p, "unknown", 1, &err), GB_OK);
    assert_int_equal(gb_store_get(f->store, "z", &out, &err), GB_NOT_FOUND);
    assert_int_equal(gb_program_create(f->store, NULL, NULL, &none, &err), GB_INVALID);
    gb_program_options tight = {.memory_limit = 1000};
    gb_graph *g = mlp(false);
    assert_int_equal(gb_program_create(f->store, g, &tight, &none, &err), GB_OUT_OF_MEMORY);
    assert_null(none);
    gb_graph_destroy(&g);
    gb_program_destroy(&p);
    gb_tensor_free(&wrong);
    gb_tensor_free(&integers);
}

/* Image and integer inputs come back as they went, whatever their order in memory. */
static void values_survive_the_way_through_the_device(void **state)
{
    fixture *f = *state;
    static const gb_dtype types[] = {GB_F32, GB_F64, GB_F16, GB_BF16, GB_I8, GB_U8, GB_I16, GB_U16,
                                     GB_I32, GB_U32, GB_I64, GB_BOOL};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        gb_error err;
        gb_shape shape = gb_shape_of(4, 2, 3, 4, 5);
        gb_graph *g = gb_graph_create();
        gb_value x = gb_graph_input(g, "x", types[i], &shape);
        gb_graph_output(g, "same", x);
        gb_graph_output(g, "turned", GB_OP(g, "Transpose", GB_ARGS(x),
                                           GB_INTS("perm", ((const int64_t[]){0, 2, 3, 1}), 4)));
        gb_program *p = compile(f, g);
        gb_tensor in = pattern(types[i], shape, 9), same, turned;
        ok(gb_program_set_input(p, "x", &in, &err), &err);
        ok(gb_program_run(p, &err), &err);
        ok(gb_program_output(p, "same", &same, &err), &err);
        ok(gb_program_output(p, "turned", &turned, &err), &err);
        assert_int_equal(same.dtype, types[i]);
        for (int k = 0; k < 120; k++) {
            int w = k % 5, h = k / 5 % 4, c = k / 20 % 3, n = k / 60;
            double want = gb_tensor_get(&in, k);
            assert_true(gb_tensor_get(&same, k) == want);
            assert_true(gb_tensor_get(&turned, ((n * 4 + h) * 5 + w) * 3 + c) == want);
        }
        gb_tensor_free(&in);
        gb_tensor_free(&same);
        gb_tensor_free(&turned);
        gb_program_destroy(&p);
    }
}

static void integers_beyond_32_bits_are_refused(void **state)
{
    fixture *f = *state;
    gb_error err;
    gb_shape shape = gb_shape_of(1, 2);
    gb_graph *g = gb_graph_create();
    gb_graph_output(g, "y", gb_op1(g, "Neg", gb_graph_input(g, "x", GB_I64, &shape)));
    gb_program *p = compile(f, g);
    gb_tensor x = tensor(GB_I64, shape);
    gb_tensor_set(&x, 1, 5e9);
    assert_int_equal(gb_program_set_input(p, "x", &x, &err), GB_INVALID);
    assert_string_equal(err.input, "x");
    gb_tensor_free(&x);
    gb_program_destroy(&p);
}

static void states_are_shared_by_name_and_checked(void **state)
{
    fixture *f = *state;
    gb_error err;
    gb_tensor w = pattern(GB_F32, gb_shape_of(2, 5, 16), 7), back, wrong = tensor(GB_F32, gb_shape_of(1, 3));
    ok(gb_store_set(f->store, "w1", &w, &err), &err); /* before any program */
    gb_program *p = compile(f, mlp(true));
    ok(gb_store_get(f->store, "w1", &back, &err), &err);
    assert_memory_equal(w.data, back.data, gb_tensor_bytes(&w));
    assert_int_equal(gb_store_set(f->store, "w1", &wrong, &err), GB_INVALID);
    assert_string_equal(gb_store_name(f->store, 0), "w1");
    assert_null(gb_store_name(f->store, 3));
    gb_program_destroy(&p);
    gb_tensor_free(&w);
    gb_tensor_free(&back);
    gb_tensor_free(&wrong);
}

static gb_graph *convolution(bool filter_as_rows)
{
    gb_graph *g = gb_graph_create();
    assert_non_null(g);
    gb_shape sx = gb_shape_of(4, 2, 3, 6, 6), sw = gb_shape_of(4, 4, 3, 3, 3), rows = gb_shape_of(2, 27, 4);
    gb_value w = gb_graph_state(g, "w", GB_F32, &sw, true, NULL);
    if (!filter_as_rows) {
        gb_graph_output(g, "y", gb_op2(g, "Conv", gb_graph_input(g, "x", GB_F32, &sx), w));
        return g;
    }
    gb_value flat = GB_OP(g, "Flatten", GB_ARGS(w), GB_INT("axis", 1)); /* wants w row-major */
    gb_graph_output(g, "y", gb_op2(g, "MatMul", flat, gb_graph_input(g, "x", GB_F32, &rows)));
    return g;
}

/* A state lies as the programs want it, and its values move along. */
static void states_move_to_the_order_that_programs_want(void **state)
{
    fixture *f = *state;
    gb_error err;
    gb_shape shape = gb_shape_of(4, 4, 3, 3, 3);
    gb_tensor w = tensor(GB_F32, shape), wide = tensor(GB_F64, shape), back;
    for (int i = 0; i < 108; i++) gb_tensor_set(&wide, i, 1.0 / (i + 3));
    ok(gb_store_set(f->store, "w", &w, &err), &err); /* row-major, before any program */
    ok(gb_store_set(f->store, "w", &wide, &err), &err);
    for (int round = 0; round < 3; round++) {
        gb_program *p = compile(f, convolution(round == 1));
        ok(gb_store_get(f->store, "w", &back, &err), &err);
        for (int i = 0; i < 108; i++) assert_true(gb_tensor_get(&back, i) == (float)(1.0 / (i + 3)));
        gb_tensor_free(&back);
        gb_program_destroy(&p);
    }
    gb_tensor_free(&w);
    gb_tensor_free(&wide);
}

/* Programs of one store need the arenas of the largest alone. */
static void arenas_are_shared(void **state)
{
    fixture *f = *state;
    uint64_t one, two, none;
    gb_program *train = compile(f, mlp(true));
    gb_device_memory(f->dev, &one, NULL);
    gb_program *eval = compile(f, mlp(false));
    gb_device_memory(f->dev, &two, NULL);
    assert_true(gb_program_get_info(eval)->arena_bytes > 0);
    assert_int_equal(two - one, 3 * 256); /* x, y and loss, in buffers of the least size */
    gb_program_destroy(&train);
    gb_program_destroy(&eval);
    gb_device_memory(f->dev, &none, NULL);
    assert_true(none < one); /* states stay */
}

/* A small network of images with one step of SGD. */
static gb_graph *network(void)
{
    gb_graph *g = gb_graph_create();
    assert_non_null(g);
    gb_shape sx = gb_shape_of(4, 20, 3, 17, 17), s1 = gb_shape_of(4, 24, 3, 3, 3), sb = gb_shape_of(1, 24),
             s2 = gb_shape_of(2, 24 * 64, 37);
    gb_tensor w1 = pattern(GB_F32, s1, 1), w2 = pattern(GB_F32, s2, 2);
    gb_value w[3] = {gb_graph_state(g, "w1", GB_F32, &s1, true, &w1),
                     gb_graph_state(g, "b1", GB_F32, &sb, true, NULL),
                     gb_graph_state(g, "w2", GB_F32, &s2, true, &w2)}, grad[3];
    gb_tensor_free(&w1);
    gb_tensor_free(&w2);
    const int64_t two[] = {2, 2}, pads[] = {1, 1, 1, 1};
    gb_value y = GB_OP(g, "Conv", GB_ARGS(gb_graph_input(g, "x", GB_F32, &sx), w[0], w[1]),
                       GB_INTS("pads", pads, 4));
    y = GB_OP(g, "MaxPool", GB_ARGS(gb_op1(g, "Relu", y)), GB_INTS("kernel_shape", two, 2),
              GB_INTS("strides", two, 2));
    y = gb_op1(g, "Tanh", gb_op2(g, "MatMul", gb_op1(g, "Flatten", y), w[2]));
    gb_value loss = GB_OP(g, "ReduceMean", GB_ARGS(gb_op2(g, "Mul", y, y)), GB_INT("keepdims", 0));
    gb_graph_gradient(g, loss, w, 3, grad);
    for (int k = 0; k < 3; k++)
        gb_graph_update(g, w[k], gb_op2(g, "Sub", w[k], gb_op2(g, "Mul", grad[k], gb_graph_float(g, 0.1))));
    return g;
}

/* The states after three steps, one after another. */
static void train_on(int threads, const char *id, gb_tensor after[3])
{
    gb_error err;
    gb_context_options options = {.threads = threads};
    fixture f;
    ok(gb_context_create(&options, &f.ctx, &err), &err);
    if (gb_device_open(f.ctx, id, &f.dev, &err) != GB_OK) {
        gb_context_destroy(&f.ctx);
        skip(); /* left out of this build */
    }
    ok(gb_store_create(f.dev, &f.store, &err), &err);
    gb_program *p = compile(&f, network());
    gb_tensor x = pattern(GB_F32, gb_shape_of(4, 20, 3, 17, 17), 3);
    ok(gb_program_set_input(p, "x", &x, &err), &err);
    for (int i = 0; i < 3; i++) ok(gb_program_run(p, &err), &err);
    for (int k = 0; k < 3; k++)
        ok(gb_store_get(f.store, gb_store_name(f.store, k), &after[k], &err), &err);
    gb_tensor_free(&x);
    gb_program_destroy(&p);
    gb_store_destroy(&f.store);
    gb_device_close(&f.dev);
    gb_context_destroy(&f.ctx);
}

static void bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    static const int threads[] = {2, 5, 1};
    gb_tensor first[3], other[3];
    train_on(1, "cpu", first);
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        train_on(threads[i], "cpu", other);
        for (int k = 0; k < 3; k++) {
            assert_memory_equal(first[k].data, other[k].data, gb_tensor_bytes(&first[k]));
            gb_tensor_free(&other[k]);
        }
    }
    for (int k = 0; k < 3; k++) gb_tensor_free(&first[k]);
}

static void profile_names_layers_and_memory_is_counted(void **state)
{
    fixture *f = *state;
    gb_error err;
    uint64_t now, peak;
    gb_program *p = compile(f, mlp(true));
    const gb_step_time *rows;
    int n, matmuls = 0;
    give(p);
    ok(gb_program_profile(p, &rows, &n, &err), &err);
    assert_int_equal(n, gb_program_get_info(p)->steps);
    for (int i = 0; i < n; i++) {
        assert_non_null(rows[i].path);
        matmuls += strcmp(rows[i].kind, "matmul") == 0 && strncmp(rows[i].path, "layers.", 7) == 0;
        assert_true(rows[i].seconds >= 0 && rows[i].variant[0]);
        assert_true(i == 0 || rows[i].begin >= rows[i - 1].begin + rows[i - 1].seconds);
    }
    assert_true(matmuls >= 5 - 1); /* two forward, three backward less the input's */
    gb_device_memory(f->dev, &now, &peak);
    assert_true(now > 0 && peak >= now);
    gb_program_destroy(&p);
    gb_store_destroy(&f->store);
    gb_device_memory(f->dev, &now, &peak);
    assert_int_equal(now, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_reference, close_all)
    const struct CMUnitTest tests[] = {
        TEST(an_mlp_learns),
        TEST(gradients_match_differences),
        TEST(wrong_arguments_are_named),
        TEST(values_survive_the_way_through_the_device),
        TEST(integers_beyond_32_bits_are_refused),
        TEST(states_are_shared_by_name_and_checked),
        TEST(states_move_to_the_order_that_programs_want),
        TEST(arenas_are_shared),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        TEST(profile_names_layers_and_memory_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
