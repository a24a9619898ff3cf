#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/device.h>

static void lists_and_opens_every_device(void **state)
{
    (void)state;
    gb_context *ctx;
    gb_error err;
    assert_int_equal(gb_context_create(NULL, &ctx, &err), GB_OK);
    const gb_device_info *d;
    int n, found = 0;
    assert_int_equal(gb_context_devices(ctx, &d, &n, &err), GB_OK);
    for (int i = 0; i < n; i++) {
        found += strcmp(d[i].id, "reference") == 0 || strcmp(d[i].id, "null") == 0;
        assert_true(d[i].usable || d[i].reason[0]);
        for (int j = 0; j < i; j++) assert_string_not_equal(d[i].id, d[j].id);
        gb_device *dev;
        gb_status status = gb_device_open(ctx, d[i].id, &dev, &err);
        assert_int_equal(status, d[i].usable ? GB_OK : GB_DEVICE);
        if (status == GB_OK) assert_string_equal(gb_device_get_info(dev)->id, d[i].id);
        if (status == GB_OK) assert_int_equal(gb_device_wait(dev, &err), GB_OK);
        gb_device_close(&dev);
    }
    assert_int_equal(found, 2);
    gb_context_destroy(&ctx);
    gb_context_destroy(&ctx);
}

static void absent_device_lists_those_there_are(void **state)
{
    (void)state;
    gb_context *ctx;
    gb_error err;
    gb_device *dev;
    assert_int_equal(gb_context_create(NULL, &ctx, &err), GB_OK);
    assert_int_equal(gb_device_open(ctx, "vulkan:77", &dev, &err), GB_NOT_FOUND);
    assert_null(dev);
    assert_string_equal(err.input, "vulkan:77");
    assert_non_null(strstr(err.hint, "reference"));
    gb_context_destroy(&ctx);
}

static void auto_takes_no_software_device(void **state)
{
    (void)state;
    gb_context *ctx;
    gb_error err;
    gb_device *dev;
    assert_int_equal(gb_context_create(NULL, &ctx, &err), GB_OK);
    gb_status status = gb_device_open(ctx, "auto", &dev, &err);
    if (status == GB_OK) {
        const gb_device_info *info = gb_device_get_info(dev);
        assert_int_not_equal(info->kind, GB_DEVICE_SOFTWARE);
        assert_string_not_equal(info->backend, "reference");
        assert_string_not_equal(info->backend, "null");
        gb_device_close(&dev);
    } else {
        assert_int_equal(status, GB_NOT_FOUND);
    }
    gb_context_destroy(&ctx);
}

/* How many threads of this process run on one processor alone. */
static int bound_threads(void)
{
    int n = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *e; (e = readdir(tasks));) {
        cpu_set_t set;
        const int id = atoi(e->d_name);
        n += id > 0 && sched_getaffinity(id, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1;
    }
    closedir(tasks);
    return n;
}

/* PoCL's threads share a processor by chance otherwise, and half the speed is gone. */
static void threads_of_pocl_have_a_processor_each(void **state)
{
    (void)state;
    gb_context *ctx;
    gb_error err;
    gb_device *dev = NULL;
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_int_equal(gb_context_create(NULL, &ctx, &err), GB_OK);
    if (gb_device_open(ctx, "opencl:0", &dev, &err) == GB_OK && CPU_COUNT(&set) > 1 &&
        strcmp(gb_device_get_info(dev)->driver, "Portable Computing Language") == 0)
        assert_int_equal(bound_threads(), gb_device_get_info(dev)->cores);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lists_and_opens_every_device),
                                       cmocka_unit_test(absent_device_lists_those_there_are),
                                       cmocka_unit_test(auto_takes_no_software_device),
                                       cmocka_unit_test(threads_of_pocl_have_a_processor_each)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
