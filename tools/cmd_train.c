/* gimbal train: a recipe becomes a run folder. */
#include "tools/cmd_tune.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <gimbal/train.h>

static volatile sig_atomic_t interrupted;

/* The first signal asks the run to save and stop; a second one ends the process at once. */
static void on_signal(int number)
{
    interrupted = 1;
    signal(number, SIG_DFL);
}

static void watch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

typedef struct train_watch {
    progress line;
    double first_start, first_end; /* of the first step, seconds since the process began; NaN */
} train_watch;

/* Seconds since the kernel started this process, which is before main(); NaN: not known. */
static double process_seconds(void)
{
    char text[1024];
    unsigned long long ticks;
    struct timespec now;
    FILE *f = fopen("/proc/self/stat", "r");
    if (!f) return NAN;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    const char *rest = strrchr(text, ')'); /* the name before it may hold anything */
    if (!rest || sscanf(rest + 1,
                        " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                        "%*s %llu",
                        &ticks) != 1)
        return NAN;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec -
           (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static bool on_step(void *user, const gb_progress *p)
{
    train_watch *watch = user;
    progress *line = &watch->line;
    if (isnan(watch->first_end)) {
        watch->first_end = process_seconds();
        watch->first_start = watch->first_end - 1e-3 * p->step_ms;
    }
    if (p->epoch_end) {
        progress_line(line,
                      "epoch %lld/%lld: loss %.4f, accuracy %.2f %%; test loss %.4f, accuracy "
                      "%.2f %%; %.1f s",
                      (long long)p->epoch + 1, (long long)p->epochs, p->loss, 100 * p->accuracy,
                      p->test_loss, 100 * p->test_accuracy, p->seconds);
    } else {
        char text[120];
        snprintf(text, sizeof text, "step %lld/%lld  loss %.4f  accuracy %.1f %%  %.1f ms",
                 (long long)p->step, (long long)p->steps, p->loss, 100 * p->accuracy, p->step_ms);
        progress_update(line, p->steps ? (double)p->step / (double)p->steps : 0, text);
    }
    return !interrupted;
}

static void on_planned(void *user, const gb_train_result *r)
{
    progress *line = &((train_watch *)user)->line;
    char budget[40] = "", parts[60] = "", again[80] = "";
    const double mib = 1 << 20;
    if (r->budget_bytes)
        snprintf(budget, sizeof budget, " of %.1f MiB", (double)r->budget_bytes / mib);
    if (r->micro_batch)
        snprintf(parts, sizeof parts, ", %lld examples at once", (long long)r->micro_batch);
    if (r->recomputed)
        snprintf(again, sizeof again, ", %d values (%.1f MiB) computed twice instead of kept",
                 r->recomputed, (double)r->recomputed_bytes / mib);
    progress_line(line, "memory: %.1f MiB%s planned on %s%s%s", (double)r->planned_bytes / mib,
                  budget, r->device, parts, again);
    if (r->split_statistics)
        progress_line(
            line,
            "micro-batches: statistics of batch normalizations are those of %lld examples each",
            (long long)r->micro_batch);
}

static json_t *result_json(const gb_train_result *r, const train_watch *watch)
{
    json_t *first = json_pack("{s:o, s:o}", "start", cli_number(watch->first_start), "end",
                              cli_number(watch->first_end));
    json_t *train = json_pack("{s:o, s:o}", "loss", cli_number(r->train_loss), "accuracy",
                              cli_number(r->train_accuracy));
    json_t *test = r->test.examples ? json_pack("{s:o, s:o, s:I}", "loss", cli_number(r->test.loss),
                                                "accuracy", cli_number(r->test.accuracy),
                                                "examples", (json_int_t)r->test.examples)
                                    : json_null();
    json_t *ms = json_pack("{s:o, s:o}", "min", cli_number(r->step_ms_min), "median",
                           cli_number(r->step_ms_median));
    json_t *memory =
        json_pack("{s:I, s:I, s:o, s:I, s:i, s:I}", "planned_bytes", (json_int_t)r->planned_bytes,
                  "peak_bytes", (json_int_t)r->peak_bytes, "budget_bytes",
                  r->budget_bytes ? json_integer((json_int_t)r->budget_bytes) : json_null(),
                  "micro_batch", (json_int_t)r->micro_batch, "recomputed", r->recomputed,
                  "recomputed_bytes", (json_int_t)r->recomputed_bytes);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:i, s:o}", "out", r->out,
                     "device", r->device, "parameters", (json_int_t)r->parameters, "epochs",
                     (json_int_t)r->epochs, "steps", (json_int_t)r->steps, "train", train, "test",
                     test, "seconds", cli_number(r->seconds), "step_ms", ms, "memory", memory,
                     "kernels_built", r->kernels, "first_step_seconds", first);
}

static void print_text(const gb_train_result *r)
{
    printf("%lld parameters, %lld steps in %.1f s on %s (%.1f ms a step)\n",
           (long long)r->parameters, (long long)r->steps, r->seconds, r->device, r->step_ms_median);
    printf("train: loss %.4f, accuracy %.2f %%\n", r->train_loss, 100 * r->train_accuracy);
    if (r->test.examples)
        printf("test:  loss %.4f, accuracy %.2f %% of %lld\n", r->test.loss, 100 * r->test.accuracy,
               (long long)r->test.examples);
    printf("memory: %.1f MiB planned on the device\n", (double)r->planned_bytes / (1 << 20));
    printf("the run is in %s\n", r->out);
}

static gb_status read_recipe(const cli_args *args, gb_recipe **recipe, gb_error *err)
{
    const cli_list *sets = &args->sets;
    if (args->value[OPT_RESUME])
        return gb_run_recipe(args->value[OPT_RESUME], sets->items, sets->n, recipe, err);
    return gb_recipe_read(args->files[0], sets->items, sets->n, recipe, err);
}

/* A run goes on where it ran, for the same bits, unless --device says otherwise. */
static gb_status open_device(const cli_args *args, progress *line, gb_context **ctx,
                             gb_device **dev, gb_error *err)
{
    const char *run = args->value[OPT_RESUME];
    char id[32];
    if (!run) return cli_open(args, ctx, dev, err);
    gb_status s = gb_run_device(run, id, sizeof id, err);
    if (!s) s = cli_open_by_default(args, id, ctx, dev, err);
    if (!s && strcmp(gb_device_get_info(*dev)->id, id) != 0)
        progress_line(line, "the run was on %s: on %s its numbers round differently", id,
                      gb_device_get_info(*dev)->id);
    return s;
}

/* --tune: before anything of the run is made. */
static gb_status tune_first(const cli_args *args, gb_device *dev, const gb_recipe *recipe,
                            progress *line, gb_error *err)
{
    gb_tuner *tuner = NULL;
    const gb_tune_result *result;
    if (!args->value[OPT_TUNE]) return GB_OK;
    gb_status s = gb_tuner_create(dev, &tuner, err);
    if (!s) s = gb_tuner_add_recipe(tuner, recipe, err);
    if (!s) s = cli_tune(tuner, false, line, &result, err);
    if (!s) progress_line(line, "tuned %d kinds of steps in %.1f s", result->n, result->seconds);
    gb_tuner_destroy(&tuner);
    return s;
}

static int train(const cli_args *args, const gb_recipe *recipe, int64_t steps)
{
    gb_error err = {0};
    gb_context *ctx;
    gb_device *dev;
    train_watch watch = {.line = progress_start(args), .first_start = NAN, .first_end = NAN};
    if (open_device(args, &watch.line, &ctx, &dev, &err)) return cli_fail(args, &err);
    gb_train_options options = {.out = args->value[OPT_OUT],
                                .resume = args->value[OPT_RESUME],
                                .steps = steps,
                                .progress = on_step,
                                .planned = on_planned,
                                .user = &watch};
    gb_train_result result = {0};
    cli_warn_tuning(args, dev);
    gb_status s = tune_first(args, dev, recipe, &watch.line, &err);
    watch_signals();
    if (!s) s = gb_train(dev, recipe, &options, &result, &err);
    progress_end(&watch.line);
    int status = CLI_DONE;
    if (s)
        status = cli_fail(args, &err);
    else if (cli_json(args))
        status = cli_print_json(args, result_json(&result, &watch));
    else
        print_text(&result);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return status;
}

static int run(cli_args *args)
{
    gb_error err = {0};
    gb_recipe *recipe;
    int64_t steps;
    if (args->n_files == 0 && !args->value[OPT_RESUME])
        return cli_usage_fail(args, NULL, "RECIPE is missing; usage: gimbal train RECIPE");
    if (args->value[OPT_TUNE] && args->value[OPT_RESUME])
        return cli_usage_fail(args, "leave out --tune",
                              "a run that goes on keeps the kernels that it began with");
    if (!cli_int(args, OPT_STEPS, 1, 0, &steps)) return CLI_USAGE;
    if (read_recipe(args, &recipe, &err)) return cli_fail(args, &err);
    int status = train(args, recipe, steps);
    gb_recipe_destroy(&recipe);
    return status;
}

static const cli_option options[] = {OPT_RESUME, OPT_STEPS, OPT_TUNE, OPT_COUNT};
const cli_command cmd_train = {"train", "RECIPE", "trains a model and fills a run folder", run, 0,
                               1,       options};
