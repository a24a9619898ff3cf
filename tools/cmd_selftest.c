/* gimbal selftest: the operator suite on a device. */
#include "tools/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gimbal/selftest.h>

static const char *const verdicts[] = {[GB_VERDICT_PASSED] = "passed",
                                       [GB_VERDICT_FAILED] = "FAILED",
                                       [GB_VERDICT_REJECTED] = "REJECTED",
                                       [GB_VERDICT_SKIPPED] = "skipped"};

typedef struct watch {
    size_t n, done;
    int kernels;
    bool bar, quiet;
} watch;

static bool show(void *user, const gb_selftest_report *r)
{
    watch *w = user;
    w->done++;
    w->kernels += r->kernels;
    bool bad = r->verdict == GB_VERDICT_FAILED || r->verdict == GB_VERDICT_REJECTED;
    if (w->bar) fprintf(stderr, "\r\033[K");
    if (bad) fprintf(stderr, "%s %s\n    %s\n", verdicts[r->verdict], r->name, r->reason);
    if (w->bar) fprintf(stderr, "%zu of %zu  %.60s", w->done, w->n, r->name);
    return true;
}

static int list(const gb_selftest_options *o)
{
    char **names;
    size_t n;
    gb_error err;
    if (gb_selftest_names(o, &names, &n, &err)) return cli_fail(NULL, &err);
    for (size_t i = 0; i < n; i++) printf("%s\n", names[i]);
    gb_selftest_free_names(names, n);
    return CLI_DONE;
}

static json_t *document(const char *id, const gb_selftest_result *r, const watch *w)
{
    json_t *failures = json_array();
    for (size_t i = 0; i < r->n_failures; i++)
        json_array_append_new(failures, json_pack("{s:s, s:s, s:s}", "case", r->failures[i].name,
                                                  "reason", r->failures[i].reason, "verdict",
                                                  verdicts[r->failures[i].verdict]));
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:o}", "device", id, "passed", r->passed,
                     "failed", r->failed, "rejected", r->rejected, "skipped", r->skipped,
                     "kernels_built", w->kernels, "failures", failures);
}

static int run_suite(const cli_args *args, gb_device *dev, const gb_selftest_options *o)
{
    gb_error err = {0};
    gb_selftest_result r = {0};
    const char *id = gb_device_get_info(dev)->id;
    char **names;
    watch w = {.quiet = args->value[OPT_QUIET], .bar = isatty(STDERR_FILENO) && !args->value[OPT_QUIET]};
    gb_status status = gb_selftest_names(o, &names, &w.n, &err);
    if (status != GB_OK) return cli_fail(args, &err);
    gb_selftest_free_names(names, w.n);
    status = gb_selftest_run(dev, o, show, &w, &r, &err);
    if (w.bar) fprintf(stderr, "\r\033[K");
    int exit_status = r.failed + r.rejected ? CLI_FAILED : CLI_DONE;
    if (status != GB_OK) exit_status = cli_fail(args, &err);
    else if (cli_json(args)) cli_print_json(args, document(id, &r, &w));
    else
        printf("%s: %d passed, %d failed, %d rejected, %d skipped (%d kernels)\n", id, r.passed,
               r.failed, r.rejected, r.skipped, w.kernels);
    gb_selftest_free(&r);
    return exit_status;
}

static bool read_precision(const char *text, gb_precision *precision)
{
    *precision = GB_PRECISION_F32;
    for (; text && *precision <= GB_PRECISION_BF16; (*precision)++)
        if (strcmp(text, gb_dtype_name(gb_precision_dtype(*precision))) == 0) return true;
    return !text;
}

static int run(cli_args *args)
{
    gb_error err = {0};
    gb_context *ctx = NULL;
    gb_device *dev = NULL;
    int64_t seed = 0;
    gb_precision precision;
    if (!cli_int(args, OPT_SEED, 0, 0, &seed)) return CLI_USAGE;
    if (!read_precision(args->value[OPT_PRECISION], &precision)) {
        gb_fail(&err, GB_INVALID, args->value[OPT_PRECISION], "use f32, f16 or bf16", "there is no precision '%s'",
                args->value[OPT_PRECISION]);
        cli_fail(args, &err);
        return CLI_USAGE;
    }
    const gb_selftest_options o = {.precision = precision, .filter = args->value[OPT_FILTER],
                                   .quick = args->value[OPT_QUICK] != NULL,
                                   .seed = (uint64_t)seed};
    if (args->value[OPT_LIST]) return list(&o);
    int status = cli_open(args, &ctx, &dev, &err) ? cli_fail(args, &err) : run_suite(args, dev, &o);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return status;
}

static const cli_option options[] = {OPT_FILTER, OPT_LIST, OPT_QUICK, OPT_PRECISION, OPT_COUNT};
const cli_command cmd_selftest = {
    "selftest", "", "checks every operator on a device against the float64 reference", run, 0, 0, options};
