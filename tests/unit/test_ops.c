/* The operator suite on a device, as TAP: one line a case; a rejected case is a failure.
 *
 * usage: test_ops DEVICE [quick]. Skips, with the reason, where there is no such device. With
 * GB_FILTER only the cases that contain it; with GB_RESULTS lines "operator device passed cases" are
 * appended to that file, for docs/operators.tsv. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/graph.h>
#include <gimbal/selftest.h>

enum { OPERATORS = 256 };

typedef struct results {
    int n, passed[OPERATORS], total[OPERATORS];
} results;

/* Credits the operator that a case begins with. */
static void credit(results *s, const gb_selftest_report *r, bool bad)
{
    const char *op;
    for (int i = 0; i < OPERATORS && (op = gb_operator_name(i)); i++) {
        size_t length = strlen(op);
        if (strncmp(r->name, op, length) != 0 || r->name[length] != ' ') continue;
        s->total[i]++;
        s->passed[i] += !bad;
    }
}

static void write_results(const results *s, const char *path, const char *id)
{
    const char *op;
    FILE *f = fopen(path, "a");
    for (int i = 0; f && i < OPERATORS && (op = gb_operator_name(i)); i++)
        if (s->total[i])
            fprintf(f, "%s %.*s %d %d\n", op, (int)strcspn(id, ":"), id, s->passed[i], s->total[i]);
    if (f) fclose(f);
}

static bool report(void *user, const gb_selftest_report *r)
{
    results *s = user;
    bool bad = r->verdict == GB_VERDICT_FAILED || r->verdict == GB_VERDICT_REJECTED;
    printf("%s %d - %s%s%s\n", bad ? "not ok" : "ok", ++s->n, r->name,
           r->verdict == GB_VERDICT_SKIPPED ? " # skip " : "",
           r->verdict == GB_VERDICT_SKIPPED ? r->reason : "");
    if (bad) printf("# %s\n", r->reason);
    fflush(stdout);
    credit(s, r, bad);
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
    static results seen;
    if (gb_context_create(&co, &ctx, &err)) {
        printf("Bail out! %s\n", err.message);
        return 1;
    }
    gb_status status = gb_device_open(ctx, id, &dev, &err);
    if (status == GB_NOT_FOUND) {
        fprintf(stderr, "SKIPPED: %s\n", err.message);
        printf("1..1\nok 1 - %s # skip %s\n", id, err.message);
    } else if (status == GB_OK) {
        status = gb_selftest_run(dev, &o, report, &seen, &r, &err);
        printf("1..%d\n", seen.n);
        if (getenv("GB_RESULTS")) write_results(&seen, getenv("GB_RESULTS"), id);
    }
    if (status != GB_OK && status != GB_NOT_FOUND) printf("Bail out! %s\n", err.message);
    bool good = (status == GB_OK || status == GB_NOT_FOUND) && r.failed + r.rejected == 0;
    gb_selftest_free(&r);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return good ? 0 : 1;
}
