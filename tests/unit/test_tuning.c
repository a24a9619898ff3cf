/* Tuning files: what damaged ones do, merging, several writers; and names of steps. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gimbal/tune.h>

#include "core/runtime/tuning.h"
#include "tests/support/support.h"

static const char good[] =
    "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"cpu\", \"name\": \"some CPU\", \"kernels\": "
    "\"k1\", \"choices\": {\"conv a\": {\"variant\": \"direct\", \"ms\": 1.5, \"default_ms\": 3},"
    " \"conv b\": {\"variant\": \"winograd2\"}}}]}";

static gb_tuning parsed(const char *text)
{
    gb_tuning t;
    gb_error err;
    if (gb_tuning_parse(&t, text, strlen(text), "test", &err)) fail_msg("%s", err.message);
    return t;
}

static void a_file_comes_back_as_it_was_written(void **state)
{
    (void)state;
    gb_tuning t = parsed(good);
    assert_int_equal(t.n, 1);
    const gb_choice *c = gb_choices_find(&t.device[0].choices, "conv a");
    assert_string_equal(c->variant, "direct");
    assert_true(c->ms == 1.5 && c->default_ms == 3);
    char *text = gb_tuning_text(&t);
    gb_tuning u = parsed(text);
    char *again = gb_tuning_text(&u);
    assert_string_equal(text, again);
    free(text);
    free(again);
    gb_tuning_clear(&t);
    gb_tuning_clear(&u);
}

static void damage_is_an_error_and_never_half_a_file(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "[]", "{}", "null", "{\"gimbal_tuning\": 2, \"devices\": []}",
        "{\"gimbal_tuning\": 1, \"devices\": {}}", "{\"gimbal_tuning\": 1, \"devices\": [3]}",
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"cpu\"}]}",
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": 7, \"choices\": {}}]}",
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"a name that is far too long\", \"choices\": {}}]}",
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"c\\u0000u\", \"choices\": {}}]}",
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"c\\u001bu\", \"choices\": {}}]}",
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"cpu\", \"vector_width\": -1, \"choices\": {}}]}",
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"cpu\", \"choices\": {\"k\": 3}}]}",
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"cpu\", \"choices\": {\"k\": {\"variant\": \"\"}}}]}",
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"cpu\", \"choices\": {\"k\": {\"variant\": "
        "\"012345678901234567890123456789012345678901234567\"}}}]}",
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"cpu\", \"choices\": {\"k\": {\"variant\": \"a\", \"ms\": -1}}}]}",
    };
    gb_tuning t;
    gb_error err;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (gb_tuning_parse(&t, texts[i], strlen(texts[i]), "test", &err) != GB_FORMAT)
            fail_msg("accepted: %s", texts[i]);
        assert_int_equal(t.n, 0);
        assert_null(t.device);
    }
    for (size_t n = 0; n + 1 < sizeof good - 1; n++) /* every truncation */
        assert_int_equal(gb_tuning_parse(&t, good, n, "test", &err), GB_FORMAT);
}

static void a_key_that_is_too_long_is_refused(void **state)
{
    (void)state;
    char text[600], key[GB_CHOICE_KEY + 1];
    gb_tuning t;
    memset(key, 'k', GB_CHOICE_KEY);
    key[GB_CHOICE_KEY] = 0;
    for (int cut = 0; cut < 2; cut++) {
        key[GB_CHOICE_KEY - cut] = 0;
        snprintf(text, sizeof text, "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"cpu\", \"choices\": "
                 "{\"%s\": {\"variant\": \"a\"}}}]}", key);
        gb_status status = gb_tuning_parse(&t, text, strlen(text), "test", NULL);
        assert_int_equal(status, cut ? GB_OK : GB_FORMAT);
        gb_tuning_clear(&t);
    }
}

static void merging_replaces_equal_keys_and_keeps_the_rest(void **state)
{
    (void)state;
    gb_tuning t = parsed(good), more = parsed(
        "{\"gimbal_tuning\": 1, \"devices\": [{\"backend\": \"cpu\", \"name\": \"some CPU\", \"kernels\": "
        "\"k1\", \"choices\": {\"conv a\": {\"variant\": \"onednn\"}, \"conv c\": {\"variant\": \"x\"}}},"
        "{\"backend\": \"cpu\", \"name\": \"some CPU\", \"kernels\": \"k2\", \"choices\": {}}]}");
    assert_true(gb_tuning_merge(&t, &more));
    assert_int_equal(t.n, 2); /* other kernels: an entry of their own */
    assert_int_equal(t.device[0].choices.n, 3);
    assert_string_equal(gb_choices_find(&t.device[0].choices, "conv a")->variant, "onednn");
    assert_string_equal(gb_choices_find(&t.device[0].choices, "conv b")->variant, "winograd2");
    gb_tuning_clear(&more);
    more = (gb_tuning){.device = calloc(1, sizeof(gb_tuned)), .n = 1};
    for (int i = 0; i < GB_MAX_TUNED + 5; i++) {
        snprintf(more.device[0].backend, sizeof more.device[0].backend, "b%d", i);
        assert_true(gb_tuning_merge(&t, &more));
    }
    assert_int_equal(t.n, GB_MAX_TUNED); /* those written to longest ago are gone */
    assert_string_equal(t.device[t.n - 1].backend, more.device[0].backend);
    gb_tuning_clear(&more);
    gb_tuning_clear(&t);
}

static void a_list_does_not_grow_beyond_its_limit(void **state)
{
    (void)state;
    gb_choices c = {0};
    gb_choice x = {.variant = "v"};
    for (int i = 0; i < GB_MAX_CHOICES; i++) {
        snprintf(x.key, sizeof x.key, "%d", i * 7919 % GB_MAX_CHOICES);
        assert_true(gb_choices_put(&c, &x));
    }
    for (int i = 1; i < c.n; i++) assert_true(strcmp(c.item[i - 1].key, c.item[i].key) < 0);
    snprintf(x.key, sizeof x.key, "one more");
    assert_false(gb_choices_put(&c, &x));
    snprintf(x.key, sizeof x.key, "7");
    assert_true(gb_choices_put(&c, &x)); /* it is there already */
    gb_choices_clear(&c);
}

/* --- files --- */

enum { WRITERS = 4, KEYS = 12 };

static void write_keys(const char *path, int writer)
{
    gb_tuned device = {.backend = "cpu", .name = "one"};
    gb_tuning t = {.device = &device, .n = 1};
    for (int i = 0; i < KEYS; i++) {
        gb_choice c = {.variant = "v", .ms = writer + 1};
        snprintf(c.key, sizeof c.key, "writer %d key %d", writer, i);
        gb_choices_clear(&device.choices);
        if (!gb_choices_put(&device.choices, &c) || gb_tuning_update(path, &t, NULL)) _exit(1);
    }
    gb_choices_clear(&device.choices);
    _exit(0);
}

static void several_writers_lose_nothing(void **state)
{
    (void)state;
    char *dir = gb_test_make_dir();
    const char *path = gb_test_path(dir, "tuning.json");
    gb_tuning t;
    gb_error err;
    pid_t child[WRITERS];
    for (int w = 0; w < WRITERS; w++)
        if (!(child[w] = fork())) write_keys(path, w);
    int left = WRITERS, status;
    while (left) { /* whoever reads meanwhile sees whole files */
        if (waitpid(-1, &status, WNOHANG) > 0) {
            assert_int_equal(status, 0);
            left--;
        }
        gb_status s = gb_tuning_read(&t, path, &err);
        if (s && s != GB_NOT_FOUND) fail_msg("%s", err.message);
        gb_tuning_clear(&t);
    }
    assert_int_equal(gb_tuning_read(&t, path, &err), GB_OK);
    assert_int_equal(t.n, 1);
    assert_int_equal(t.device[0].choices.n, WRITERS * KEYS);
    gb_tuning_clear(&t);
    assert_int_equal(gb_test_count_files(dir), 2); /* and the lock */
    gb_test_remove_dir(dir);
}

static void a_damaged_file_is_replaced(void **state)
{
    (void)state;
    char *dir = gb_test_make_dir();
    const char *path = gb_test_path(dir, "tuning.json");
    gb_tuning t, more = parsed(good);
    gb_error err;
    gb_test_write(path, "garbage", 7);
    assert_int_equal(gb_tuning_read(&t, path, &err), GB_FORMAT);
    assert_int_equal(gb_tuning_update(path, &more, &err), GB_OK);
    assert_int_equal(gb_tuning_read(&t, path, &err), GB_OK);
    assert_int_equal(t.device[0].choices.n, 2);
    gb_tuning_clear(&t);
    gb_test_limit_files(16); /* a full disk: the file stays as it was */
    assert_int_not_equal(gb_tuning_update(path, &more, &err), GB_OK);
    gb_test_unlimit_files();
    assert_int_equal(gb_tuning_read(&t, path, &err), GB_OK);
    gb_tuning_clear(&t);
    gb_tuning_clear(&more);
    gb_test_remove_dir(dir);
}

static void a_device_opens_beside_any_tuning_file(void **state)
{
    (void)state;
    char *dir = gb_test_make_dir();
    gb_context *ctx;
    gb_device *dev;
    gb_error err;
    gb_context_options o = {.cache_dir = dir};
    for (int i = 0; i < 3; i++) {
        if (i == 1) gb_test_write(gb_test_path(dir, "tuning.json"), good, 50);
        if (i == 2) gb_test_write(gb_test_path(dir, "tuning.json"), good, sizeof good - 1);
        assert_int_equal(gb_context_create(&o, &ctx, &err), GB_OK);
        assert_int_equal(gb_device_open(ctx, "cpu", &dev, &err), GB_OK);
        assert_int_equal(gb_device_tuning_warning(dev)[0] != 0, i == 1);
        gb_device_close(&dev);
        gb_status imported = gb_tuning_import(ctx, gb_test_path(dir, "no file"), &err);
        assert_int_equal(imported, GB_NOT_FOUND);
        gb_context_destroy(&ctx);
    }
    gb_test_remove_dir(dir);
}

/* --- names of steps --- */

static gb_step product(int64_t m, int64_t n, int64_t k)
{
    return (gb_step){.kind = GB_STEP_MATMUL, .n_in = 2, .n_out = 1,
                     .in = {{.rank = 2, .dim = {m, k}, .stride = {k, 1}},
                            {.rank = 2, .dim = {k, n}, .stride = {n, 1}}},
                     .out = {{.rank = 2, .dim = {m, n}, .stride = {n, 1}}}};
}

static void near_shapes_share_a_bucket_and_no_exact_name(void **state)
{
    (void)state;
    gb_step a = product(120, 512, 1000), b = product(128, 512, 1024), c = product(129, 512, 1024);
    char x[GB_CHOICE_KEY], y[GB_CHOICE_KEY];
    gb_bucket_key(&a, x);
    gb_bucket_key(&b, y);
    assert_string_equal(x, y);
    assert_string_equal(x, "matmul f32*f32>f32 b1 m128 n512 k1024 rrr");
    gb_bucket_key(&c, y);
    assert_string_equal(y, "matmul f32*f32>f32 b1 m192 n512 k1024 rrr");
    gb_exact_key(&a, x);
    gb_exact_key(&b, y);
    assert_string_not_equal(x, y);
    b.in[1].stride[0] = 1024; /* padded rows */
    gb_exact_key(&b, x);
    assert_string_not_equal(x, y);
    b.fast = true;
    gb_bucket_key(&b, x);
    assert_non_null(strstr(x, "fast"));
}

static void shipped_defaults_are_whole_and_name_classes(void **state)
{
    (void)state;
    extern const char *const gb_backend_defaults[];
    for (int i = 0; gb_backend_defaults[i]; i++) {
        gb_tuning t = parsed(gb_backend_defaults[i]);
        assert_true(t.n > 0);
        for (int k = 0; k < t.n; k++) {
            assert_true(t.device[k].backend[0] && !t.device[k].kernels[0]);
            assert_true(t.device[k].choices.n > 0);
        }
        gb_tuning_clear(&t);
    }
}

static void a_class_fits_its_devices_alone(void **state)
{
    (void)state;
    gb_device_info info = {.backend = "cpu", .name = "x\x1b", .version = "avx512", .vector_width = 16};
    gb_tuned device, class = {.backend = "cpu", .version = "avx512", .kind = "cpu"};
    gb_tuned_name(&device, &info, "k1");
    assert_string_equal(device.name, "x?");
    assert_true(gb_tuned_fits(&class, &device));
    class.vector_width = 8;
    assert_false(gb_tuned_fits(&class, &device));
    class.vector_width = 0;
    strcpy(class.kernels, "k2"); /* measured with other sources */
    assert_false(gb_tuned_fits(&class, &device));
    strcpy(class.kernels, "k1");
    strcpy(device.version, "avx2");
    assert_false(gb_tuned_fits(&class, &device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_comes_back_as_it_was_written),
        cmocka_unit_test(damage_is_an_error_and_never_half_a_file),
        cmocka_unit_test(a_key_that_is_too_long_is_refused),
        cmocka_unit_test(merging_replaces_equal_keys_and_keeps_the_rest),
        cmocka_unit_test(a_list_does_not_grow_beyond_its_limit),
        cmocka_unit_test(several_writers_lose_nothing),
        cmocka_unit_test(a_damaged_file_is_replaced),
        cmocka_unit_test(a_device_opens_beside_any_tuning_file),
        cmocka_unit_test(near_shapes_share_a_bucket_and_no_exact_name),
        cmocka_unit_test(a_class_fits_its_devices_alone),
        cmocka_unit_test(shipped_defaults_are_whole_and_name_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
