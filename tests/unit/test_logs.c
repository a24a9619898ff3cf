#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <gimbal/io.h>

#include "core/io/events.h"
#include "tests/support/support.h"

static char *dir;

static int setup(void **state)
{
    (void)state;
    dir = gb_test_make_dir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gb_test_remove_dir(dir);
    return 0;
}

/* ---- metrics.jsonl ---- */

static void assert_text(const char *path, const char *text)
{
    uint8_t *data;
    size_t size;
    assert_int_equal(gb_read_file(path, 1 << 20, &data, &size, NULL), GB_OK);
    assert_string_equal((char *)data, text);
    free(data);
}

static void metrics_append_and_resume(void **state)
{
    (void)state;
    const char *path = gb_test_path(dir, "metrics.jsonl");
    gb_metrics *m;
    assert_int_equal(gb_metrics_open(&m, path, 0, NULL), GB_OK); /* resumed before a first line */
    gb_metrics_close(&m, NULL);
    assert_int_equal(gb_metrics_open(&m, path, -1, NULL), GB_OK);
    gb_metric v[] = {{"epoch", 1}, {"loss", 0.1}, {"lr", NAN}};
    for (int step = 1; step <= 3; step++)
        assert_int_equal(gb_metrics_append(m, step, v, 3, NULL), GB_OK);
#define LINE(n) "{\"step\": " n ", \"epoch\": 1, \"loss\": 0.1, \"lr\": null}\n"
    assert_text(path, LINE("1") LINE("2") LINE("3"));
    assert_int_equal(gb_metrics_close(&m, NULL), GB_OK);
    assert_int_equal(gb_metrics_open(&m, path, 2, NULL), GB_OK);
    assert_int_equal(gb_metrics_append(m, 3, v, 1, NULL), GB_OK);
    gb_metrics_close(&m, NULL);
    gb_metrics_close(&m, NULL);
    assert_text(path, LINE("1") LINE("2") "{\"step\": 3, \"epoch\": 1}\n");
}

static void metrics_drop_damaged_lines(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"step\": 2", "{\"step\": 2, \"lo}\n", "[2]\n", "\n", "{\"step\": \"2\"}\n",
        "\xff\n",       "{\"loss\": 2}\n"};
    const char *path = gb_test_path(dir, "metrics.jsonl");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"step\": 1}\n%s{\"step\": 1}\n", bad[i]);
        if (i == 0) snprintf(text, sizeof text, "{\"step\": 1}\n%s", bad[i]);
        gb_test_write(path, text, strlen(text));
        gb_metrics *m;
        assert_int_equal(gb_metrics_open(&m, path, 9, NULL), GB_OK);
        gb_metrics_close(&m, NULL);
        assert_text(path, "{\"step\": 1}\n");
    }
}

static void logs_report_a_full_disk(void **state)
{
    (void)state;
    gb_metrics *m;
    gb_events *e;
    gb_error err;
    gb_metric v = {"loss", 1};
    assert_int_equal(gb_metrics_open(&m, "/dev/full", -1, &err), GB_OK);
    assert_int_equal(gb_metrics_append(m, 1, &v, 1, &err), GB_IO);
    gb_metrics_close(&m, NULL);
    gb_test_limit_files(8);
    gb_status s = gb_events_open(&e, dir, -1, &err);
    gb_test_unlimit_files();
    assert_int_equal(s, GB_IO);
    assert_null(e);
    assert_int_equal(gb_metrics_open(&m, gb_test_path(dir, "no/m"), -1, &err), GB_NOT_FOUND);
    assert_int_equal(gb_events_open(&e, gb_test_path(dir, "no"), -1, &err), GB_NOT_FOUND);
    assert_int_equal(gb_events_open(&e, gb_test_path(dir, "no"), 3, &err), GB_NOT_FOUND);
}

/* ---- TensorBoard events ---- */

/* Written by TensorBoard's own RecordWriter: a version, then "loss" = 0.5 at steps 1 and 300. */
static const uint8_t recorded[] = {
    0x18, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa3, 0x7f, 0x4b, 0x22, 0x09, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0xf8, 0x3f, 0x1a, 0x0d, 0x62, 0x72, 0x61, 0x69, 0x6e, 0x2e, 0x45, 0x76, 0x65,
    0x6e, 0x74, 0x3a, 0x32, 0x2a, 0x28, 0x64, 0x6c, 0x1a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x12, 0x9b, 0xd8, 0x2d, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf8, 0x3f, 0x10, 0x01, 0x2a,
    0x0d, 0x0a, 0x0b, 0x0a, 0x04, 0x6c, 0x6f, 0x73, 0x73, 0x15, 0x00, 0x00, 0x00, 0x3f, 0x18, 0xa4,
    0x43, 0x3d, 0x1b, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x1a, 0x0d, 0x9e, 0x13, 0x09, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0xf8, 0x3f, 0x10, 0xac, 0x02, 0x2a, 0x0d, 0x0a, 0x0b, 0x0a, 0x04,
    0x6c, 0x6f, 0x73, 0x73, 0x15, 0x00, 0x00, 0x00, 0x3f, 0x69, 0xf9, 0x31, 0x5b,
};

static void events_of_tensorboard_are_understood(void **state)
{
    (void)state;
    size_t n = sizeof recorded;
    assert_int_equal(gb_events_keep(recorded, n, 300), n);
    assert_int_equal(gb_events_keep(recorded, n, INT64_MAX), n);
    size_t one = gb_events_keep(recorded, n, 299), none = gb_events_keep(recorded, n, 0);
    assert_true(none > 16 && none < one && one < n);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(gb_events_keep(recorded, cut, 300), cut < none  ? 0
                                                             : cut < one ? none
                                                                         : one);
    for (size_t i = 0; i < n; i++) { /* every byte is under a checksum */
        uint8_t copy[sizeof recorded];
        memcpy(copy, recorded, n);
        copy[i] ^= 4;
        assert_int_equal(gb_events_keep(copy, n, 300), i < none ? 0 : i < one ? none : one);
    }
}

/* The one file in the directory, read whole. */
static uint8_t *read_only_file(size_t *size)
{
    uint8_t *data = NULL;
    assert_int_equal(gb_test_count_files(dir), 1);
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, "events.out.tfevents.", 20) == 0)
            assert_int_equal(gb_read_file(gb_test_path(dir, e->d_name), 1 << 20, &data, size, NULL),
                             GB_OK);
    closedir(d);
    assert_non_null(data);
    return data;
}

/* All but the wall time must be what TensorBoard wrote. */
static void events_equal_tensorboards(void **state)
{
    (void)state;
    gb_events *e;
    assert_int_equal(gb_events_open(&e, dir, -1, NULL), GB_OK);
    assert_int_equal(gb_events_scalar(e, "loss", 1, 0.5f, NULL), GB_OK);
    assert_int_equal(gb_events_scalar(e, "loss", 300, 0.5f, NULL), GB_OK);
    assert_int_equal(gb_events_close(&e, NULL), GB_OK);
    size_t size, at = 0;
    uint8_t *data = read_only_file(&size);
    assert_int_equal(size, sizeof recorded);
    assert_int_equal(gb_events_keep(data, size, 300), size);
    while (at < size) {
        size_t n = data[at];
        assert_memory_equal(data + at, recorded + at, 13); /* length, its checksum, a key */
        assert_memory_equal(data + at + 21, recorded + at + 21, n - 9);
        at += n + 16;
    }
    free(data);
}

static void events_resume_after_a_step(void **state)
{
    (void)state;
    gb_events *e;
    size_t size, before;
    assert_int_equal(gb_events_open(&e, dir, 7, NULL), GB_OK); /* nothing there yet */
    for (int step = 1; step <= 10; step++)
        assert_int_equal(gb_events_scalar(e, "train/loss", step, (float)step, NULL), GB_OK);
    gb_events_close(&e, NULL);
    free(read_only_file(&before));
    assert_int_equal(gb_events_open(&e, dir, 4, NULL), GB_OK);
    for (int step = 5; step <= 10; step++)
        assert_int_equal(gb_events_scalar(e, "train/loss", step, (float)step, NULL), GB_OK);
    assert_int_equal(gb_events_scalar(e, "x", -1, 0, NULL), GB_INVALID);
    gb_events_close(&e, NULL);
    uint8_t *data = read_only_file(&size);
    assert_int_equal(size, before);
    assert_int_equal(gb_events_keep(data, size, 10), size);
    free(data);
    assert_int_equal(gb_events_open(&e, dir, -1, NULL), GB_OK); /* a new file in the same second */
    gb_events_close(&e, NULL);
    gb_events_close(&e, NULL);
    assert_int_equal(gb_test_count_files(dir), 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(metrics_append_and_resume), TEST(metrics_drop_damaged_lines),
        TEST(logs_report_a_full_disk),   TEST(events_of_tensorboard_are_understood),
        TEST(events_equal_tensorboards), TEST(events_resume_after_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
