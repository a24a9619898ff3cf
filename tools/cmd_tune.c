/* gimbal tune: the fastest kernels for a recipe's steps, kept for all later programs. */
#include "tools/cmd_tune.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>

/* What is tuned without a recipe: the installed ones whose steps take seconds at most. */
static const char *const standard[] = {"fashion-mnist-mlp", "fashion-mnist", "cifar10-resnet20",
                                       "cifar10-resnet18"};
enum { STANDARD = sizeof standard / sizeof *standard };

static volatile sig_atomic_t interrupted;

/* The first signal asks to stop and keep what was found; a second one ends the process. */
static void on_signal(int number)
{
    interrupted = 1;
    signal(number, SIG_DFL);
}

static bool on_candidate(void *user, double done, const char *text)
{
    progress_update(user, done, text);
    return !interrupted;
}

gb_status cli_tune(gb_tuner *tuner, bool again, progress *line, const gb_tune_result **result,
                   gb_error *err)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old[2];
    gb_tune_options options = {.again = again, .progress = on_candidate, .user = line};
    sigaction(SIGINT, &action, &old[0]);
    sigaction(SIGTERM, &action, &old[1]);
    gb_status s = gb_tuner_run(tuner, &options, result, err);
    sigaction(SIGINT, &old[0], NULL);
    sigaction(SIGTERM, &old[1], NULL);
    return s;
}

void cli_warn_tuning(const cli_args *args, const gb_device *dev)
{
    const char *warning = gb_device_tuning_warning(dev);
    if (warning[0] && !args->value[OPT_QUIET]) fprintf(stderr, "gimbal: %s\n", warning);
}

/* --- output --- */

static const char *const verdicts[] = {[GB_TUNE_RIGHT] = "ok",
                                       [GB_TUNE_WRONG] = "wrong",
                                       [GB_TUNE_FAILED] = "failed",
                                       [GB_TUNE_SLOW] = "slow"};

static json_t *candidate_json(const gb_tune_candidate *c)
{
    json_t *j =
        json_pack("{s:s, s:s, s:o, s:o}", "variant", c->variant, "verdict", verdicts[c->verdict],
                  "ms", cli_number(c->ms), "error", cli_number(c->error));
    if (j && c->reason[0]) json_object_set_new(j, "reason", json_string(c->reason));
    return j;
}

static json_t *name_or_null(const gb_tune_row *r, int i)
{
    return i >= 0 ? json_string(r->candidate[i].variant) : json_null();
}

static json_t *result_json(const char *device, const gb_tune_result *result)
{
    json_t *steps = json_array();
    for (int i = 0; i < result->n; i++) {
        const gb_tune_row *r = &result->row[i];
        json_t *candidates = json_array();
        for (int k = 0; k < r->n; k++)
            json_array_append_new(candidates, candidate_json(&r->candidate[k]));
        json_array_append_new(
            steps, json_pack("{s:s, s:s, s:i, s:b, s:o, s:o, s:o, s:o}", "step", r->step, "layer",
                             r->path, "count", r->count, "known", (int)r->known, "default",
                             name_or_null(r, r->initial), "winner", name_or_null(r, r->winner),
                             "gain", cli_number(r->gain), "candidates", candidates));
    }
    return json_pack("{s:s, s:s, s:f, s:o}", "device", device, "file", result->file, "seconds",
                     result->seconds, "steps", steps);
}

/* "winograd2 1.234": the time of a candidate, or why it has none. */
static void print_candidate(const gb_tune_row *r, int i)
{
    const gb_tune_candidate *c = &r->candidate[i];
    printf("  %s%s ", i == r->winner ? "*" : "", c->variant);
    if (c->verdict == GB_TUNE_RIGHT && isfinite(c->ms))
        printf("%.3f", c->ms);
    else
        printf("(%s)", verdicts[c->verdict]);
}

static void print_text(const char *device, const gb_tune_result *result)
{
    int measured = 0, changed = 0;
    for (int i = 0; i < result->n; i++) {
        const gb_tune_row *r = &result->row[i];
        measured += !r->known;
        changed += !r->known && r->winner >= 0 && r->winner != r->initial;
        printf("%-74s %3dx ", r->step, r->count);
        if (isfinite(r->gain))
            printf("%5.2fx", r->gain);
        else
            printf("     -");
        for (int k = 0; k < r->n; k++) print_candidate(r, k);
        printf("%s\n", r->known ? "  (known)" : "");
    }
    printf("%s: %d kinds of steps, %d measured, %d of them changed, %.1f s\n", device, result->n,
           measured, changed, result->seconds);
    if (result->file[0]) printf("kept in %s\n", result->file);
}

/* --- running --- */

static gb_status add_recipe(const cli_args *args, gb_tuner *tuner, const char *name, gb_error *err)
{
    gb_recipe *recipe;
    gb_status s = gb_recipe_read(name, args->sets.items, args->sets.n, &recipe, err);
    if (s) return s;
    s = gb_tuner_add_recipe(tuner, recipe, err);
    gb_recipe_destroy(&recipe);
    return s;
}

static int tune(const cli_args *args, gb_device *dev)
{
    gb_error err = {0};
    gb_tuner *tuner = NULL;
    const gb_tune_result *result = NULL;
    const char *id = gb_device_get_info(dev)->id;
    cli_warn_tuning(args, dev);
    progress line = progress_start(args);
    gb_status s = gb_tuner_create(dev, &tuner, &err);
    int n = args->n_files ? args->n_files : STANDARD;
    for (int i = 0; i < n && !s; i++)
        s = add_recipe(args, tuner, args->n_files ? args->files[i] : standard[i], &err);
    if (!s) s = cli_tune(tuner, args->value[OPT_AGAIN] != NULL, &line, &result, &err);
    progress_end(&line);
    if (result && !cli_json(args)) print_text(id, result);
    int status = CLI_DONE;
    if (s)
        status = cli_fail(args, &err);
    else if (cli_json(args))
        status = cli_print_json(args, result_json(id, result));
    gb_tuner_destroy(&tuner);
    return status;
}

/* --merge and --export work on files alone. */
static int move_files(const cli_args *args, gb_context *ctx)
{
    gb_error err = {0};
    gb_status s = GB_OK;
    for (int i = 0; args->value[OPT_MERGE] && i < args->n_files && !s; i++)
        s = gb_tuning_import(ctx, args->files[i], &err);
    if (!s && args->value[OPT_EXPORT]) s = gb_tuning_export(ctx, args->value[OPT_EXPORT], &err);
    if (s) return cli_fail(args, &err);
    if (!cli_json(args)) return CLI_DONE;
    return cli_print_json(args, json_pack("{s:i, s:s?}", "merged",
                                          args->value[OPT_MERGE] ? args->n_files : 0, "exported",
                                          args->value[OPT_EXPORT]));
}

static int run(cli_args *args)
{
    gb_error err = {0};
    gb_context *ctx;
    gb_device *dev;
    bool files = args->value[OPT_MERGE] || args->value[OPT_EXPORT];
    if (args->value[OPT_MERGE] && !args->n_files)
        return cli_usage_fail(args, NULL, "FILE is missing; usage: gimbal tune --merge FILE...");
    if (args->value[OPT_EXPORT] && !args->value[OPT_MERGE] && args->n_files)
        return cli_usage_fail(args, NULL, "--export takes no recipe");
    if (files ? cli_context(args, &ctx, &err) : cli_open(args, &ctx, &dev, &err))
        return cli_fail(args, &err);
    int status = files ? move_files(args, ctx) : tune(args, dev);
    if (!files) gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return status;
}

static const cli_option options[] = {OPT_AGAIN, OPT_MERGE, OPT_EXPORT, OPT_COUNT};
const cli_command cmd_tune = {
    "tune", "[RECIPE...]", "finds the fastest kernels for a device and keeps them", run, 0,
    -1,     options};
