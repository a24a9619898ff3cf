/* Random graphs as programs: neither fusion nor the memory plan nor a second program that shares the
 * arenas may change what they compute, and a device must agree with the float64 reference.
 *
 * usage: test_programs DEVICE [FIRST [COUNT]]. Prints TAP, one line a graph. */
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

#include "tests/support/random_graph.h"

typedef struct subject {
    gb_device *dev, *reference;
    uint32_t seed;
} subject;

static void ok(gb_status status, const gb_error *err)
{
    if (status != GB_OK)
        fail_msg("%s: %s (%s)", gb_status_name(status), err->message, err->input);
}

static void give(gb_program *p, const char *name, gb_shape shape)
{
    gb_error err = {0};
    gb_tensor t;
    ok(gb_tensor_alloc(&t, GB_F32, &shape, &err), &err);
    for (int64_t i = 0; i < gb_shape_count(&shape); i++)
        gb_tensor_set(&t, i, sin(1.3 * (double)i + shape.rank));
    ok(gb_program_set_input(p, name, &t, &err), &err);
    gb_tensor_free(&t);
}

static void run(gb_program *p)
{
    gb_error err = {0};
    for (int i = 0; i < 2; i++) /* the second run finds the arenas dirty */
        ok(gb_program_run(p, &err), &err);
}

/* A program that ran. */
static gb_program *start(gb_store *store, const gb_graph *g, bool no_fusion)
{
    gb_error err = {0};
    gb_program_options options = {.no_fusion = no_fusion};
    gb_program *p;
    ok(gb_program_create(store, g, &options, &p, &err), &err);
    give(p, "x", gb_shape_of(2, 4, 6));
    give(p, "image", gb_shape_of(4, 2, 3, 6, 6));
    run(p);
    return p;
}

static void compare(const gb_graph *g, gb_program *want, gb_program *got, double tolerance)
{
    gb_error err = {0};
    const char *name;
    for (size_t k = 0; gb_graph_output_at(g, k, &name) != GB_NONE; k++) {
        gb_tensor w, v;
        double largest = 1e-2;
        ok(gb_program_output_f64(want, name, &w, &err), &err);
        ok(gb_program_output_f64(got, name, &v, &err), &err);
        int64_t n = gb_shape_count(&w.shape);
        for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(gb_tensor_get(&w, i)));
        for (int64_t i = 0; i < n; i++) {
            double a = gb_tensor_get(&w, i), b = gb_tensor_get(&v, i);
            if (!(fabs(a - b) <= tolerance * largest) && !(isnan(a) && isnan(b)))
                fail_msg("%s[%lld] is %.9g instead of %.9g", name, (long long)i, b, a);
        }
        gb_tensor_free(&w);
        gb_tensor_free(&v);
    }
}

static void random_graph(void **state)
{
    const subject *s = *state;
    bool smooth = s->seed % 2, same = s->dev == s->reference;
    gb_error err = {0};
    gb_graph *g = gb_random_graph(s->seed, 6 + (int)(s->seed % 40), smooth);
    assert_non_null(g);
    ok(gb_graph_check(g, &err), &err);
    gb_store *oracle, *store;
    ok(gb_store_create(s->reference, &oracle, &err), &err);
    ok(gb_store_create(s->dev, &store, &err), &err);
    gb_program *want = start(oracle, g, true), *fused = start(store, g, false);
    compare(g, want, fused, same ? 1e-10 : 2e-4);
    gb_program *plain = start(store, g, true); /* the two share arenas, which grow */
    run(fused);
    compare(g, want, plain, same ? 1e-10 : 2e-4);
    compare(g, want, fused, same ? 1e-10 : 2e-4);
    gb_program_destroy(&want);
    gb_program_destroy(&fused);
    gb_program_destroy(&plain);
    gb_store_destroy(&oracle);
    gb_store_destroy(&store);
    gb_graph_destroy(&g);
}

int main(int argc, char **argv)
{
    enum { MAX_GRAPHS = 100000 };
    const char *id = argc > 1 ? argv[1] : "reference";
    int first = argc > 2 ? atoi(argv[2]) : 0, count = argc > 3 ? atoi(argv[3]) : 100;
    if (count < 0 || count > MAX_GRAPHS) count = MAX_GRAPHS;
    gb_context *ctx;
    gb_device *dev, *reference;
    gb_error err;
    gb_context_options options = {.isa = getenv("GB_ISA"), .variant = getenv("GB_VARIANT")};
    if (gb_context_create(&options, &ctx, &err) || gb_device_open(ctx, "reference", &reference, &err))
        return 1;
    if (strcmp(id, "reference") == 0) dev = reference;
    else if (gb_device_open(ctx, id, &dev, &err) != GB_OK) {
        printf("1..1\nok 1 - %s # skip %s\n", id, err.message);
        gb_device_close(&reference);
        gb_context_destroy(&ctx);
        return 0;
    }
    subject *subjects = calloc((size_t)count, sizeof *subjects);
    struct CMUnitTest *tests = calloc((size_t)count, sizeof *tests);
    char (*names)[48] = calloc((size_t)count, sizeof *names);
    if (!subjects || !tests || !names) return 1;
    for (int i = 0; i < count; i++) {
        subjects[i] = (subject){dev, reference, (uint32_t)(first + i)};
        snprintf(names[i], sizeof names[i], "%.20s graph %d", id, first + i);
        tests[i] = (struct CMUnitTest){.name = names[i], .test_func = random_graph,
                                       .initial_state = &subjects[i]};
    }
    cmocka_set_message_output(CM_OUTPUT_TAP);
    int failures = _cmocka_run_group_tests(id, tests, (size_t)count, NULL, NULL);
    free(subjects);
    free(tests);
    free(names);
    if (dev != reference) gb_device_close(&dev);
    gb_device_close(&reference);
    gb_context_destroy(&ctx);
    return failures != 0;
}
