/* gimbal bench: speed of operators and models, beside the device's peaks. */
#include "tools/cli.h"
#include "tools/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <gimbal/bench.h>

static const char *const default_specs[] = {"MatMul 1024x1024x1024",
                                            "Conv 128x64x32x32 64x64x3x3 s1 p1",
                                            "Conv 128x16x32x32 16x16x3x3 s1 p1"};

static gb_status bench_model(const cli_args *args, gb_device *dev, gb_bench *bench, gb_error *err)
{
    gb_recipe *recipe;
    gb_status s =
        gb_recipe_read(args->value[OPT_MODEL], args->sets.items, args->sets.n, &recipe, err);
    if (!s) s = gb_bench_model(dev, recipe, bench, err);
    gb_recipe_destroy(&recipe);
    return s;
}

static gb_status measure(const cli_args *args, gb_device *dev, gb_bench *bench, gb_error *err)
{
    progress line = progress_start(args);
    progress_update(&line, 0, "peaks");
    gb_status s = gb_bench_start(dev, bench, err);
    const char *only = args->value[OPT_ONLY];
    bench->forward_only = only && strcmp(only, "forward") == 0;
    if (!s && args->value[OPT_OP]) {
        progress_update(&line, 0.3, args->value[OPT_OP]);
        s = gb_bench_operator(dev, args->value[OPT_OP], bench, err);
    }
    if (!s && args->value[OPT_MODEL]) {
        progress_update(&line, 0.6, args->value[OPT_MODEL]);
        s = bench_model(args, dev, bench, err);
    }
    size_t n = sizeof default_specs / sizeof default_specs[0];
    for (size_t i = 0; !s && i < n && !args->value[OPT_OP] && !args->value[OPT_MODEL]; i++) {
        progress_update(&line, (double)(i + 1) / (double)(n + 1), default_specs[i]);
        s = gb_bench_operator(dev, default_specs[i], bench, err);
    }
    progress_end(&line);
    return s;
}

static json_t *bench_json(const char *device, const gb_bench *b)
{
    json_t *rows = json_array();
    for (int i = 0; i < b->n; i++) {
        const gb_bench_row *r = &b->rows[i];
        json_array_append_new(rows,
                              json_pack("{s:s, s:s, s:{s:o, s:o}, s:o, s:o}", "name", r->name,
                                        "phase", r->phase, "ms", "min", cli_number(r->ms_min),
                                        "median", cli_number(r->ms_median), "gflops",
                                        cli_number(r->gflops), "of_peak", cli_number(r->of_peak)));
    }
    return json_pack("{s:s, s:{s:o, s:o}, s:o}", "device", device, "peak", "gflops",
                     cli_number(b->peak_gflops), "gb_per_s", cli_number(b->peak_gb_per_s),
                     "results", rows);
}

static void print_text(const char *device, const gb_bench *b)
{
    if (isfinite(b->peak_gflops))
        printf("%s: peak %.0f GFLOP/s, %.1f GB/s\n", device, b->peak_gflops, b->peak_gb_per_s);
    printf("%-44s %-8s %10s %10s %10s %8s\n", "", "phase", "min ms", "median ms", "GFLOP/s",
           "of peak");
    for (int i = 0; i < b->n; i++) {
        const gb_bench_row *r = &b->rows[i];
        printf("%-44s %-8s %10.3f %10.3f", r->name, r->phase, r->ms_min, r->ms_median);
        if (isfinite(r->gflops)) printf(" %10.1f", r->gflops);
        if (isfinite(r->of_peak)) printf(" %7.1f%%", 100 * r->of_peak);
        putchar('\n');
    }
}

static int run(cli_args *args)
{
    gb_error err = {0};
    gb_context *ctx;
    gb_device *dev;
    gb_bench bench = {0};
    if (args->value[OPT_ONLY] && strcmp(args->value[OPT_ONLY], "forward") != 0)
        return cli_usage_fail(args, "leave it out for forward and step",
                              "--only %s: bench knows only forward", args->value[OPT_ONLY]);
    if (cli_open(args, &ctx, &dev, &err)) return cli_fail(args, &err);
    const char *id = gb_device_get_info(dev)->id;
    int status = CLI_DONE;
    if (measure(args, dev, &bench, &err))
        status = cli_fail(args, &err);
    else if (cli_json(args))
        status = cli_print_json(args, bench_json(id, &bench));
    else
        print_text(id, &bench);
    gb_bench_free(&bench);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return status;
}

static const cli_option options[] = {OPT_OP, OPT_MODEL, OPT_ONLY, OPT_COUNT};
const cli_command cmd_bench = {
    "bench", "", "speed of operators and models beside the peaks", run, 0, 0, options};
