#include "tests/support/made_up.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

gb_dataset *gb_test_dataset(int side, int64_t count)
{
    gb_dataset *d = NULL;
    gb_data_options o = {0};
    const int64_t pixels = (int64_t)side * side;
    assert_int_equal(gb_dataset_create(&d, "made-up", 1, side, side, 4, NULL, NULL), GB_OK);
    for (int s = 0; s < GB_SPLIT_COUNT; s++) {
        if (s == GB_VALIDATION) continue;
        assert_int_equal(gb_dataset_allocate(d, s, count, NULL), GB_OK);
        for (int64_t i = 0; i < count; i++) {
            d->split[s].labels[i] = (int)(i % 4);
            for (int64_t p = 0; p < pixels; p++)
                d->split[s].images[i * pixels + p] =
                    (uint8_t)((i * 31 + p * 7 + (p / 16 == i % 4) * 120) % 256);
        }
    }
    assert_int_equal(gb_dataset_normalize(d, &o, NULL), GB_OK);
    return d;
}
