/* The operator suite itself: it covers the table, and it finds what is wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/check/check.h"
#include "core/runtime/runtime.h"

static gb_context *ctx;
static gb_device *reference;

static int setup(void **state)
{
    gb_error err;
    if (gb_context_create(NULL, &ctx, &err)) return -1;
    return gb_device_open(ctx, "reference", &reference, &err) ? -1 : 0;
}

static int teardown(void **state)
{
    gb_device_close(&reference);
    gb_context_destroy(&ctx);
    return 0;
}

static bool is_alone(const char *text, const char *op)
{
    size_t n = strlen(op);
    return strncmp(text, op, n) == 0 && text[n] == ' ';
}

static void every_operator_has_cases(void **state)
{
    for (int quick = 0; quick < 2; quick++) {
        char **names;
        size_t n;
        const gb_op *op;
        const gb_selftest_options o = {.quick = quick};
        assert_int_equal(gb_selftest_names(&o, &names, &n, NULL), GB_OK);
        for (int i = 0; (op = gb_op_at(i)); i++) {
            bool found = op->internal;
            for (size_t k = 0; k < n && !found; k++) found = is_alone(names[k], op->name);
            if (!found) fail_msg("%s has no case%s", op->name, quick ? " in the quick subset" : "");
        }
        gb_selftest_free_names(names, n);
    }
}

static void every_case_can_be_read(void **state)
{
    char **names;
    size_t n;
    assert_int_equal(gb_selftest_names(NULL, &names, &n, NULL), GB_OK);
    for (size_t k = 0; k < n; k++) {
        gb_check_case *c = malloc(sizeof *c);
        gb_error err;
        if (gb_check_build(c, names[k], 0, true, &err)) fail_msg("%s: %s", names[k], err.message);
        gb_check_free(c);
        free(c);
    }
    gb_selftest_free_names(names, n);
}

static void bad_texts_are_refused_by_name(void **state)
{
    static const char *const texts[][2] = {
        {"Relu 3x", "3x"}, {"Relu 3x4:1..b", "3x4:1..b"}, {"Nothing 3", "Nothing"}, {"Relu $", "$"},
        {"Relu @2", "@2"}, {"Softmax 3x4 axi=1", "axi"}, {"Gather 3x4 i64{0", "i64{0"},
        {"update @0 $", "@0"}, {"Relu 3x4; Relu $7", "$7"}, {"Relu 3x4x", "3x4x"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        gb_error err = {0};
        assert_int_equal(gb_selftest_case(reference, texts[i][0], 0, NULL, NULL, &err), GB_INVALID);
        if (!strstr(err.message, texts[i][1])) fail_msg("%s: %s", texts[i][0], err.message);
    }
}

/* Runs text on the reference, spoils element i of output number k, and compares. */
static gb_status compare_spoiled(const char *text, int k, int64_t i, double value)
{
    gb_check_case *c = malloc(sizeof *c);
    gb_check_values want, got;
    gb_error err;
    double worst = 0;
    assert_int_equal(gb_check_build(c, text, 0, true, &err), GB_OK);
    assert_int_equal(gb_check_run(c, reference, NULL, false, &want, &err), GB_OK);
    assert_int_equal(gb_check_run(c, reference, NULL, false, &got, &err), GB_OK);
    if (i >= 0) gb_tensor_set(&got.output[k], i, gb_tensor_get(&got.output[k], i) + value);
    gb_status status = gb_check_compare(c, &got, &want, NULL, &worst, &err);
    gb_check_values_free(&want);
    gb_check_values_free(&got);
    gb_check_free(c);
    free(c);
    return status;
}

static void differences_are_found(void **state)
{
    const char *text = "Mul 3x4 3x4";
    assert_int_equal(compare_spoiled(text, 0, -1, 0), GB_OK);
    assert_int_equal(compare_spoiled(text, 0, 5, 1e-7), GB_OK);
    assert_int_equal(compare_spoiled(text, 0, 5, 1e-4), GB_INTERNAL);
    assert_int_equal(compare_spoiled(text, 0, 11, NAN), GB_INTERNAL);
    assert_int_equal(compare_spoiled(text, 1, 0, 1e-3), GB_INTERNAL);      /* a gradient */
    assert_int_equal(compare_spoiled("Add i32:3x4 i32:4", 0, 2, 1), GB_INTERNAL);
    assert_int_equal(compare_spoiled("Exp 16:special", 0, 3, -INFINITY), GB_INTERNAL);
    assert_int_equal(compare_spoiled("Sub 3x4 @0", 0, -1, 0), GB_INTERNAL); /* zero everywhere */
}

static bool keep_verdict(void *user, const gb_selftest_report *r)
{
    *(gb_verdict *)user = r->verdict;
    return true;
}

static void kinks_and_slopes(void **state)
{
    gb_verdict verdict = GB_VERDICT_FAILED;
    gb_error err;
    assert_int_equal(gb_selftest_case(reference, "Relu 3x4:0..0", 0, keep_verdict, &verdict, &err), GB_OK);
    assert_int_equal(verdict, GB_VERDICT_FAILED); /* zero everywhere: distrusted */
    assert_int_equal(gb_selftest_case(reference, "Relu 3x40", 0, keep_verdict, &verdict, &err), GB_OK);
    assert_int_equal(verdict, GB_VERDICT_PASSED);
}

/* A plan whose one step writes more elements than its output holds. */
static gb_plan *overrunning_plan(int64_t written)
{
    gb_arena *arena = gb_arena_create();
    gb_plan *plan = gb_arena_alloc(arena, sizeof *plan);
    gb_xb b = {0};
    gb_x one = gb_x_const(&b, 1);
    *plan = (gb_plan){.n_steps = 1, .n_buffers = 1, .n_outputs = 1, .scalars_buffer = -1, .memory = arena};
    plan->step = gb_arena_alloc(arena, sizeof *plan->step);
    plan->buffer = gb_arena_alloc(arena, sizeof *plan->buffer);
    plan->output = gb_arena_alloc(arena, sizeof *plan->output);
    plan->buffer[0] = (gb_plan_buffer){.role = GB_BUF_OUTPUT, .bytes = 32};
    gb_operand out = {.storage = GB_S_F32, .rank = 1, .dim = {written}, .stride = {1}};
    plan->step[0] = (gb_step){.kind = GB_STEP_POINTWISE, .path = "test", .phase = "forward", .n_out = 1,
                              .out = {out}, .rank = 1, .dim = {written}, .scratch = {.buffer = -1},
                              .expr = gb_xb_finish(&b, 0, &one, 1, gb_arena_alloc_hook, arena)};
    out.dim[0] = 8;
    plan->output[0] = (gb_plan_port){.name = "y", .dtype = GB_F32, .shape = {1, {8}}, .where = out};
    gb_xb_free(&b);
    return plan;
}

static gb_status run_plan(gb_plan *plan, gb_error *err)
{
    gb_store *store;
    gb_program *p;
    assert_int_equal(gb_store_create(reference, &store, err), GB_OK);
    const gb_program_options o = {.guard = GB_GUARD_PACKED};
    assert_int_equal(gb_program_from_plan(store, plan, NULL, &o, &p, err), GB_OK);
    gb_status status = gb_program_run(p, err);
    gb_program_destroy(&p);
    gb_store_destroy(&store);
    return status;
}

static void guards_see_writes_out_of_bounds(void **state)
{
    gb_error err = {0};
    assert_int_equal(run_plan(overrunning_plan(8), &err), GB_OK);
    assert_int_equal(run_plan(overrunning_plan(9), &err), GB_INTERNAL);
    assert_non_null(strstr(err.message, "behind y"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operator_has_cases), cmocka_unit_test(every_case_can_be_read),
        cmocka_unit_test(bad_texts_are_refused_by_name), cmocka_unit_test(differences_are_found),
        cmocka_unit_test(kinks_and_slopes), cmocka_unit_test(guards_see_writes_out_of_bounds)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
