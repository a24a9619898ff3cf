/* The operator suite on a device, as TAP: one line a case; a rejected case is a failure.
 *
 * usage: test_ops DEVICE [quick]. Skips, with the reason, where there is no such device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/selftest.h>

static bool report(void *user, const gb_selftest_report *r)
{
    int *n = user;
    bool bad = r->verdict == GB_VERDICT_FAILED || r->verdict == GB_VERDICT_REJECTED;
    printf("%s %d - %s%s%s\n", bad ? "not ok" : "ok", ++*n, r->name,
           r->verdict == GB_VERDICT_SKIPPED ? " # skip " : "",
           r->verdict == GB_VERDICT_SKIPPED ? r->reason : "");
    if (bad) printf("# %s\n", r->reason);
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    const char *id = argc > 1 ? argv[1] : "cpu";
    const gb_context_options co = {.validate = strncmp(id, "vulkan", 6) == 0};
    const gb_selftest_options o = {.quick = argc > 2 && strcmp(argv[2], "quick") == 0,
                                   .filter = getenv("GB_FILTER")};
    gb_context *ctx;
    gb_device *dev;
    gb_error err;
    gb_selftest_result r = {0};
    int n = 0;
    if (gb_context_create(&co, &ctx, &err)) {
        printf("Bail out! %s\n", err.message);
        return 1;
    }
    gb_status status = gb_device_open(ctx, id, &dev, &err);
    if (status == GB_NOT_FOUND) {
        fprintf(stderr, "SKIPPED: %s\n", err.message);
        printf("1..1\nok 1 - %s # skip %s\n", id, err.message);
    } else if (status == GB_OK) {
        status = gb_selftest_run(dev, &o, report, &n, &r, &err);
        printf("1..%d\n", n);
    }
    if (status != GB_OK && status != GB_NOT_FOUND) printf("Bail out! %s\n", err.message);
    bool good = (status == GB_OK || status == GB_NOT_FOUND) && r.failed + r.rejected == 0;
    gb_selftest_free(&r);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return good ? 0 : 1;
}
