/* `math: fast` reaches the kernels: the same convolution rounds differently, and stays close. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include <gimbal/program.h>

enum { CHANNELS = 64, SIDE = 12 };

static void ok(gb_status status, const gb_error *err)
{
    if (status != GB_OK) fail_msg("%s: %s (%s)", gb_status_name(status), err->message, err->input);
}

static void fill(gb_tensor *t, gb_shape shape, uint32_t seed)
{
    assert_int_equal(gb_tensor_alloc(t, GB_F32, &shape, NULL), GB_OK);
    for (int64_t i = 0; i < gb_shape_count(&shape); i++) {
        seed = seed * 1664525u + 1013904223u;
        gb_tensor_set(t, i, (seed >> 8) * 0x1p-23 - 1);
    }
}

static gb_tensor convolve(gb_store *store, gb_math math)
{
    gb_error err;
    gb_tensor x, w, y;
    gb_program *p = NULL;
    gb_graph *g = gb_graph_create();
    fill(&x, gb_shape_of(4, 4, CHANNELS, SIDE, SIDE), 1);
    fill(&w, gb_shape_of(4, CHANNELS, CHANNELS, 3, 3), 2);
    gb_value in[2] = {gb_graph_input(g, "x", GB_F32, &x.shape), gb_graph_constant(g, &w)};
    static const int64_t pads[4] = {1, 1, 1, 1};
    gb_graph_output(g, "y", GB_OP(g, "Conv", GB_ARGS(in[0], in[1]), GB_INTS("pads", pads, 4)));
    ok(gb_program_create(store, g, &(gb_program_options){.math = math}, &p, &err), &err);
    ok(gb_program_set_input(p, "x", &x, &err), &err);
    ok(gb_program_run(p, &err), &err);
    ok(gb_program_output(p, "y", &y, &err), &err);
    gb_program_destroy(&p);
    gb_graph_destroy(&g);
    gb_tensor_free(&x);
    gb_tensor_free(&w);
    return y;
}

static double max_difference(const gb_tensor *a, const gb_tensor *b)
{
    double most = 0;
    for (int64_t i = 0; i < gb_shape_count(&a->shape); i++)
        most = fmax(most, fabs(gb_tensor_get(a, i) - gb_tensor_get(b, i)));
    return most;
}

static double max_absolute(const gb_tensor *a)
{
    double most = 0;
    for (int64_t i = 0; i < gb_shape_count(&a->shape); i++)
        most = fmax(most, fabs(gb_tensor_get(a, i)));
    return most;
}

static void fast_rounds_more_and_stays_close(void **state)
{
    gb_context *ctx;
    gb_device *dev, *exact_dev;
    gb_store *store, *exact_store;
    gb_error err;
    ok(gb_context_create(NULL, &ctx, &err), &err);
    ok(gb_device_open(ctx, "cpu", &dev, &err), &err);
    ok(gb_device_open(ctx, "reference", &exact_dev, &err), &err);
    ok(gb_store_create(dev, &store, &err), &err);
    ok(gb_store_create(exact_dev, &exact_store, &err), &err);
    gb_tensor exact = convolve(store, GB_MATH_EXACT), fast = convolve(store, GB_MATH_FAST);
    gb_tensor again = convolve(store, GB_MATH_FAST), truth = convolve(exact_store, GB_MATH_FAST);
    assert_memory_equal(fast.data, again.data, gb_tensor_bytes(&fast));
    assert_true(memcmp(fast.data, exact.data, gb_tensor_bytes(&fast)) != 0);
    double largest = max_absolute(&truth);
    assert_true(max_difference(&exact, &truth) < 1e-6 * largest);
    assert_true(max_difference(&fast, &truth) < 1e-5 * largest);
    gb_tensor_free(&exact);
    gb_tensor_free(&fast);
    gb_tensor_free(&again);
    gb_tensor_free(&truth);
    gb_store_destroy(&store);
    gb_store_destroy(&exact_store);
    gb_device_close(&dev);
    gb_device_close(&exact_dev);
    gb_context_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fast_rounds_more_and_stays_close)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
