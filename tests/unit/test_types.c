#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include <gimbal/types.h>

#include "core/base/half.h"

static void half_round_trips(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = gb_f16_to_f32((uint16_t)h);
        if (isnan(f)) assert_true(isnan(gb_f16_to_f32(gb_f32_to_f16(f))));
        else assert_int_equal(gb_f32_to_f16(f), h);
        f = gb_bf16_to_f32((uint16_t)h);
        if (!isnan(f)) assert_int_equal(gb_f32_to_bf16(f), h);
    }
    assert_int_equal(gb_f32_to_f16(65520.0f), 0x7c00); /* first value that rounds to infinity */
    assert_int_equal(gb_f32_to_f16(65519.0f), 0x7bff);
    assert_int_equal(gb_f32_to_f16(0x1p-25f), 0); /* a tie goes to even */
    assert_int_equal(gb_f32_to_f16(0x1.8p-25f), 1);
}

static void shapes_count_without_overflow(void **state)
{
    (void)state;
    gb_shape s = {.rank = 3, .dim = {INT64_C(1) << 40, INT64_C(1) << 40, 2}};
    assert_int_equal(gb_shape_count(&s), -1);
    s.dim[2] = 0;
    assert_int_equal(gb_shape_count(&s), 0);
    s = gb_shape_of(2, 3, 4);
    char text[32];
    assert_string_equal(gb_shape_text(&s, text, sizeof text), "[3, 4]");
}

static void integers_saturate(void **state)
{
    (void)state;
    gb_tensor t;
    gb_shape s = gb_shape_of(1, 2);
    assert_int_equal(gb_tensor_alloc(&t, GB_U8, &s, NULL), GB_OK);
    gb_tensor_set(&t, 0, 300);
    gb_tensor_set(&t, 1, NAN);
    assert_true(gb_tensor_get(&t, 0) == 255 && gb_tensor_get(&t, 1) == 0);
    gb_tensor_free(&t);
    gb_tensor_free(&t);
}

/* ONNX's "to the end" is the largest i64, which no double is. */
static void integers_are_read_exactly(void **state)
{
    (void)state;
    int64_t whole[4] = {INT64_MAX, INT64_MIN, INT64_MAX - 1, -1};
    double real[4] = {1e30, -1e30, NAN, -2.9};
    gb_tensor i = {.dtype = GB_I64, .shape = gb_shape_of(1, 4), .data = whole};
    gb_tensor d = {.dtype = GB_F64, .shape = gb_shape_of(1, 4), .data = real};
    const int64_t want[4] = {INT64_MAX, INT64_MIN, 0, -2};
    for (int k = 0; k < 4; k++) {
        assert_true(gb_tensor_get_int(&i, k) == whole[k]);
        assert_true(gb_tensor_get_int(&d, k) == want[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(half_round_trips),
                                       cmocka_unit_test(shapes_count_without_overflow),
                                       cmocka_unit_test(integers_saturate),
                                       cmocka_unit_test(integers_are_read_exactly)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
