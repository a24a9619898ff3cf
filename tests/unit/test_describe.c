#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <gimbal/data.h>

#include "tests/support/support.h"

static char *dir;

static void test_round_trip(void **state)
{
    const char *labels[] = {"cat \"x\"", "Hündchen", "3"};
    const char *path = gb_test_path(dir, "dataset.json");
    gb_dataset *d, *again;
    gb_error err = {0};
    assert_int_equal(gb_dataset_create(&d, "pets", 2, 5, 7, 3, labels, &err), GB_OK);
    d->mean[1] = 0.1f;
    d->std[0] = 1.0f / 3;
    d->std[1] = 2;
    assert_int_equal(gb_dataset_write_description(d, path, &err), GB_OK);
    assert_int_equal(gb_dataset_read_description(&again, path, &err), GB_OK);
    assert_string_equal(again->name, "pets");
    assert_int_equal(again->channels * 100 + again->height * 10 + again->width, 257);
    assert_int_equal(again->classes, 3);
    for (int i = 0; i < 3; i++) assert_string_equal(again->labels[i], labels[i]);
    for (int i = 0; i < 2; i++)
        assert_true(again->mean[i] == d->mean[i] && again->std[i] == d->std[i]);
    gb_dataset_destroy(&d);
    gb_dataset_destroy(&again);
}

static void test_damaged_files(void **state)
{
#define REST "\"channels\": 1, \"height\": 2, \"width\": 2, \"mean\": [0], \"std\": [1], "
    static const char *const texts[][2] = {
        {"{", "JSON"},
        {"[]", "'name'"},
        {"{\"name\": \"a\", \"labels\": [\"x\"]}", "'channels'"},
        {"{\"name\": \"a\", " REST "\"labels\": []}", "'labels'"},
        {"{\"name\": \"a\", " REST "\"labels\": [1]}", "'labels'"},
        {"{\"name\": \"a\", \"channels\": 1, \"height\": 2, \"width\": 99999999999, \"labels\": "
         "[\"x\"]}",
         "width"},
        {"{\"name\": \"a\", \"channels\": 1, \"height\": 2, \"width\": 2, \"mean\": [0], \"std\": "
         "[0], "
         "\"labels\": [\"x\"]}",
         "'std'"},
    };
    const char *path = gb_test_path(dir, "dataset.json");
    gb_dataset *d;
    gb_error err;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        gb_test_write(path, texts[i][0], strlen(texts[i][0]));
        assert_int_equal(gb_dataset_read_description(&d, path, &err), GB_FORMAT);
        assert_null(d);
        assert_non_null(strstr(err.message, texts[i][1]));
    }
    assert_int_equal(gb_dataset_read_description(&d, gb_test_path(dir, "none"), &err),
                     GB_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),
                                       cmocka_unit_test(test_damaged_files)};
    dir = gb_test_make_dir();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gb_test_remove_dir(dir);
    return failed;
}
