#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "core/base/arena.h"
#include "core/ir/expr.h"

static double eval1(gb_arena *arena, gb_xb *b, gb_x y, const double *in)
{
    const gb_expr *e = gb_xb_finish(b, 2, &y, 1, gb_arena_alloc_hook, arena);
    assert_non_null(e);
    double value[GB_MAX_EXPR_NODES], out;
    gb_expr_eval(e, in, NULL, NULL, value, &out);
    return out;
}

/* Every float primitive's derivative against central differences. */
static void derivatives_match_differences(void **state)
{
    (void)state;
    gb_arena *arena = gb_arena_create();
    int checked = 0;
    for (int p = GB_P_ADD; p < GB_PRIM_COUNT; p++) {
        const char *type = gb_prims[p].type;
        int arity = gb_prim_arity(p);
        if (gb_prim_result(p) != 'f' || type[0] != 'f') continue;
        const double point[][2] = {{0.3, 0.7}, {0.8, -1.4}};
        for (int c = 0; c < 2; c++)
            for (int k = 0; k < arity; k++) {
                gb_xb b = {0};
                gb_x in[2] = {gb_x_input(&b, 0, 'f'), gb_x_input(&b, 1, 'f')};
                gb_x y = arity == 1 ? gb_x1(&b, p, in[0]) : gb_x2(&b, p, in[0], in[1]);
                gb_x d = gb_x_derive(&b, y, in[k], gb_x_const(&b, 2));
                double h = 1e-6, lo[2] = {point[c][0], point[c][1]}, hi[2] = {lo[0], lo[1]};
                lo[k] -= h;
                hi[k] += h;
                double slope = (eval1(arena, &b, y, hi) - eval1(arena, &b, y, lo)) / (2 * h);
                assert_true(fabs(eval1(arena, &b, d, point[c]) - 2 * slope) < 1e-6);
                gb_xb_free(&b);
                checked++;
            }
    }
    assert_true(checked > 50);
    gb_arena_destroy(arena);
}

static void builders_share_and_fold(void **state)
{
    (void)state;
    gb_xb b = {0};
    gb_x x = gb_x_input(&b, 0, 'f'), one = gb_x_const(&b, 1);
    assert_int_equal(gb_x2(&b, GB_P_MUL, x, one), x);
    gb_x s = gb_x2(&b, GB_P_ADD, x, one);
    assert_int_equal(gb_x2(&b, GB_P_ADD, x, one), s);
    gb_x k = gb_x2(&b, GB_P_ADD, one, one);
    assert_true(b.node[k].prim == GB_P_CONST && b.node[k].imm == 2);
    assert_int_equal(gb_x2(&b, GB_P_IADD, x, one), -1); /* mistyped: sticky */
    assert_int_equal(gb_x2(&b, GB_P_ADD, x, one), -1);
    gb_xb_free(&b);
}

/* -0 + 0 is 0, so that x + 0 is not x; x - 0 and x + -0 are. */
/* Small whole exponents become products that give what a power gives, special values included. */
static void whole_powers_are_products(void **state)
{
    (void)state;
    static const double x[] = {0, -0.0, 1.5, -2.25, INFINITY, -INFINITY, NAN};
    gb_arena *arena = gb_arena_create();
    for (int e = -1; e <= 4; e++) {
        gb_xb b = {0};
        gb_x y = gb_x2(&b, GB_P_POW, gb_x_input(&b, 0, 'f'), gb_x_const(&b, e));
        for (int i = 0; i < b.n; i++) assert_int_not_equal(b.node[i].prim, GB_P_POW);
        for (int i = 0; i < 7; i++) {
            double got = eval1(arena, &b, y, (double[2]){x[i], 0}), want = pow(x[i], e);
            assert_true(isnan(want) ? isnan(got) : got == want && !signbit(got) == !signbit(want));
        }
        gb_xb_free(&b);
    }
    gb_arena_destroy(arena);
}

static void zeros_keep_their_sign(void **state)
{
    (void)state;
    gb_xb b = {0};
    gb_x x = gb_x_input(&b, 0, 'f'), zero = gb_x_const(&b, 0), minus = gb_x_const(&b, -0.0);
    assert_int_equal(gb_x2(&b, GB_P_SUB, x, zero), x);
    assert_int_equal(gb_x2(&b, GB_P_ADD, x, minus), x);
    assert_int_equal(gb_x2(&b, GB_P_ADD, minus, x), x);
    assert_int_not_equal(gb_x2(&b, GB_P_SUB, x, minus), x);
    assert_int_not_equal(gb_x2(&b, GB_P_ADD, zero, x), x);
    gb_arena *arena = gb_arena_create();
    double in[2] = {-0.0, 0};
    assert_false(signbit(eval1(arena, &b, gb_x2(&b, GB_P_ADD, x, zero), in)));
    gb_arena_destroy(arena);
    gb_xb_free(&b);
}

static void integers_wrap(void **state)
{
    (void)state;
    gb_xb b = {0};
    gb_x big = gb_x_iconst(&b, INT32_MAX), r = gb_x2(&b, GB_P_IADD, big, gb_x_iconst(&b, 1));
    assert_true(b.node[r].imm == INT32_MIN);
    r = gb_x2(&b, GB_P_IMUL, big, big);
    assert_true(b.node[r].imm == 1);
    r = gb_x1(&b, GB_P_F2I, gb_x_const(&b, 1e30));
    assert_true(b.node[r].imm == INT32_MAX);
    r = gb_x2(&b, GB_P_IDIV, big, gb_x_iconst(&b, 0));
    assert_true(b.node[r].imm == 0);
    gb_xb_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivatives_match_differences), cmocka_unit_test(builders_share_and_fold),
        cmocka_unit_test(zeros_keep_their_sign), cmocka_unit_test(integers_wrap),
        cmocka_unit_test(whole_powers_are_products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
