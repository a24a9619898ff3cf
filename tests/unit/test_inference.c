/* Inference: normalizations vanish into filters, and what weights alone decide is computed again
 * when they change, and only then.
 *
 * usage: test_inference [DEVICE] */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <gimbal/program.h>

#include "core/passes/passes.h"

enum { N = 2, C = 16, SIDE = 8 };

static const char *device_id = "cpu";

static void ok(gb_status status, const gb_error *err)
{
    if (status != GB_OK) fail_msg("%s: %s (%s)", gb_status_name(status), err->message, err->input);
}

static gb_tensor filled(gb_shape shape, uint32_t seed, double low, double high)
{
    gb_tensor t;
    assert_int_equal(gb_tensor_alloc(&t, GB_F32, &shape, NULL), GB_OK);
    for (int64_t i = 0; i < gb_shape_count(&shape); i++) {
        seed = seed * 1664525u + 1013904223u;
        gb_tensor_set(&t, i, low + (high - low) * (seed >> 8) * 0x1p-24);
    }
    return t;
}

static gb_value state(gb_graph *g, const char *name, gb_shape shape, uint32_t seed, double low,
                      double high)
{
    gb_tensor t = filled(shape, seed, low, high);
    gb_value v = gb_graph_state(g, name, GB_F32, &shape, true, &t);
    gb_tensor_free(&t);
    return v;
}

/* A convolution with a bias and a normalization by running statistics. */
static gb_value layer(gb_graph *g, gb_value x, const char *name)
{
    static const int64_t pads[4] = {1, 1, 1, 1};
    char text[6][32];
    static const char *const part[6] = {"weight", "bias", "scale", "shift", "mean", "variance"};
    for (int i = 0; i < 6; i++) snprintf(text[i], sizeof text[i], "%s.%s", name, part[i]);
    gb_shape s = gb_shape_of(1, C);
    gb_graph_path(g, name);
    gb_value w = state(g, text[0], gb_shape_of(4, C, C, 3, 3), 1, -.2, .2);
    gb_value y =
        GB_OP(g, "Conv", GB_ARGS(x, w, state(g, text[1], s, 2, -1, 1)), GB_INTS("pads", pads, 4));
    return GB_OP(g, "BatchNormalization",
                 GB_ARGS(y, state(g, text[2], s, 3, -2, 2), state(g, text[3], s, 4, -1, 1),
                         state(g, text[4], s, 5, -1, 1), state(g, text[5], s, 6, .2, 3)));
}

/* A residual block. */
static gb_graph *model(void)
{
    gb_graph *g = gb_graph_create();
    gb_shape shape = gb_shape_of(4, N, C, SIDE, SIDE);
    gb_value x = gb_graph_input(g, "x", GB_F32, &shape);
    gb_value y = layer(g, gb_op1(g, "Relu", layer(g, x, "a")), "b");
    gb_graph_output(g, "y", gb_op1(g, "Relu", gb_op2(g, "Add", y, x)));
    return g;
}

static void filters_take_over_scales(void **unused)
{
    (void)unused;
    gb_graph *g = model();
    gb_plan *plan;
    gb_error err;
    ok(gb_lower(g, NULL, &plan, &err), &err);
    int each_run = 0;
    for (int i = 0; i < plan->n_steps; i++) {
        const gb_step *s = &plan->step[i];
        each_run += !s->once;
        if (s->once || s->kind != GB_STEP_CONV) continue;
        assert_true(s->fixed & 2); /* its filters */
        for (int k = 0; k < s->expr->n_nodes; k++)
            assert_int_not_equal(s->expr->node[k].prim, GB_P_MUL);
    }
    assert_int_equal(each_run, 2); /* two convolutions */
    gb_plan_free(plan);
    gb_graph_destroy(&g);
}

typedef struct subject {
    gb_device *dev;
    gb_store *store;
    gb_program *program;
} subject;

static void open(gb_context *ctx, const char *id, const gb_graph *g, bool no_fusion, subject *s)
{
    gb_error err;
    gb_tensor x = filled(gb_shape_of(4, N, C, SIDE, SIDE), 7, -1, 1);
    gb_program_options options = {.no_fusion = no_fusion};
    ok(gb_device_open(ctx, id, &s->dev, &err), &err);
    ok(gb_store_create(s->dev, &s->store, &err), &err);
    ok(gb_program_create(s->store, g, &options, &s->program, &err), &err);
    ok(gb_program_set_input(s->program, "x", &x, &err), &err);
    gb_tensor_free(&x);
}

static void set(subject *s, const char *name, const gb_tensor *value)
{
    gb_error err;
    ok(gb_store_set(s->store, name, value, &err), &err);
}

static void close(subject *s)
{
    gb_program_destroy(&s->program);
    gb_store_destroy(&s->store);
    gb_device_close(&s->dev);
}

static void same_output(subject *want, subject *got)
{
    gb_error err;
    gb_tensor w, y;
    double most = 0, largest = 0;
    for (int i = 0; i < 2; i++) { /* the second run takes what the first one kept */
        ok(gb_program_run(want->program, &err), &err);
        ok(gb_program_run(got->program, &err), &err);
        ok(gb_program_output(want->program, "y", &w, &err), &err);
        ok(gb_program_output(got->program, "y", &y, &err), &err);
        for (int64_t k = 0; k < gb_shape_count(&w.shape); k++) {
            largest = fmax(largest, fabs(gb_tensor_get(&w, k)));
            most = fmax(most, fabs(gb_tensor_get(&w, k) - gb_tensor_get(&y, k)));
        }
        gb_tensor_free(&w);
        gb_tensor_free(&y);
        assert_true(most <= 1e-5 * largest);
    }
}

/* Those that a run has: nothing has changed since the last one. */
static int timed_steps(subject *s)
{
    const gb_step_time *row;
    gb_error err;
    int n, timed = 0;
    ok(gb_program_profile(s->program, &row, &n, &err), &err);
    for (int i = 0; i < n; i++) timed += row[i].seconds > 0;
    return timed;
}

static void changed_weights_count(void **unused)
{
    (void)unused;
    gb_error err;
    gb_context *ctx;
    subject want, got;
    gb_graph *g = model();
    ok(gb_context_create(NULL, &ctx, &err), &err);
    open(ctx, "reference", g, true, &want);
    open(ctx, device_id, g, false, &got);
    same_output(&want, &got);
    gb_tensor w = filled(gb_shape_of(4, C, C, 3, 3), 8, -.2, .2),
              v = filled(gb_shape_of(1, C), 9, 1, 4);
    set(&want, "a.weight", &w);
    set(&got, "a.weight", &w);
    same_output(&want, &got);
    set(&want, "b.variance", &v);
    set(&got, "b.variance", &v);
    same_output(&want, &got);
    if (strncmp(device_id, "opencl", 6) == 0) assert_int_equal(timed_steps(&got), 2);
    gb_tensor_free(&w);
    gb_tensor_free(&v);
    close(&want);
    close(&got);
    gb_graph_destroy(&g);
    gb_context_destroy(&ctx);
}

int main(int argc, char **argv)
{
    if (argc > 1) device_id = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(filters_take_over_scales),
                                       cmocka_unit_test(changed_weights_count)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
