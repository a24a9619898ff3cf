/* gimbal compare: one model on several devices. */
#include "tools/cli.h"
#include "tools/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <gimbal/compare.h>

typedef struct devices {
    char *text; /* of --devices, cut at its commas */
    const char *ids[GB_COMPARE_MAX];
    int n;
} devices;

static gb_status add_device(devices *d, const char *id, gb_error *err)
{
    if (d->n == GB_COMPARE_MAX)
        return gb_fail(err, GB_INVALID, "--devices", NULL, "more than %d devices", GB_COMPARE_MAX);
    for (int i = 0; i < d->n; i++)
        if (strcmp(d->ids[i], id) == 0)
            return gb_fail(err, GB_INVALID, "--devices", NULL, "'%s' is named twice", id);
    d->ids[d->n++] = id;
    return GB_OK;
}

/* Those of --devices, or all that are usable and real. */
static gb_status choose(const cli_args *args, gb_context *ctx, devices *d, gb_error *err)
{
    const gb_device_info *info;
    int n;
    gb_status s = GB_OK;
    if (args->value[OPT_DEVICES]) {
        d->text = strdup(args->value[OPT_DEVICES]);
        if (!d->text) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory");
        char *rest = d->text;
        for (char *id; !s && (id = strsep(&rest, ","));)
            if (*id) s = add_device(d, id, err);
    } else {
        s = gb_context_devices(ctx, &info, &n, err);
        for (int i = 0; !s && i < n; i++)
            if (info[i].usable && strcmp(info[i].id, "null") && strcmp(info[i].id, "reference"))
                s = add_device(d, info[i].id, err);
    }
    if (!s && d->n == 0)
        s = gb_fail(err, GB_NOT_FOUND, "--devices", NULL, "there is no device to compare");
    return s;
}

/* --- output --- */

typedef double value_of(const gb_comparison *c, const gb_compare_layer *l, int device);

static double forward_of(const gb_comparison *c, const gb_compare_layer *l, int i)
{
    return l->forward[i];
}

static double backward_of(const gb_comparison *c, const gb_compare_layer *l, int i)
{
    return l->backward[i];
}

static double ms_of(const gb_comparison *c, const gb_compare_layer *l, int i)
{
    return l->ms[i];
}

static double step_ms_of(const gb_comparison *c, const gb_compare_layer *l, int i)
{
    return c->step_ms[i];
}

static double memory_of(const gb_comparison *c, const gb_compare_layer *l, int i)
{
    return (double)c->planned_bytes[i];
}

/* {ID: value, …} */
static json_t *by_device(const gb_comparison *c, const gb_compare_layer *l, value_of *value)
{
    json_t *map = json_object();
    for (int i = 0; i < c->n_devices; i++) {
        double v = value(c, l, i);
        json_object_set_new(map, c->device[i].id,
                            value == memory_of ? json_integer((json_int_t)v) : cli_number(v));
    }
    return map;
}

static json_t *layers_json(const gb_comparison *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n_layers; i++) {
        const gb_compare_layer *l = &c->layer[i];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "name", l->name, "op", l->op,
                            "forward", by_device(c, l, forward_of), "backward",
                            by_device(c, l, backward_of), "ms", by_device(c, l, ms_of),
                            "forward_tolerance", cli_number(l->forward_tolerance),
                            "backward_tolerance", cli_number(l->backward_tolerance)));
    }
    return list;
}

static json_t *worst_json(const gb_comparison *c)
{
    if (c->worst_layer < 0 || c->worst_device < 0) return json_null();
    return json_pack("{s:s, s:s, s:s, s:o, s:o}", "layer", c->layer[c->worst_layer].name, "device",
                     c->device[c->worst_device].id, "phase",
                     c->worst_backward ? "backward" : "forward", "error",
                     cli_number(c->worst_error), "tolerance", cli_number(c->worst_tolerance));
}

static json_t *comparison_json(const gb_comparison *c)
{
    json_t *ids = json_array(), *losses = json_object();
    for (int i = 0; i < c->n_devices; i++) {
        json_t *curve = json_array();
        for (int64_t k = 0; k < c->steps; k++)
            json_array_append_new(curve, cli_number(c->loss[i][k]));
        json_array_append_new(ids, json_string(c->device[i].id));
        json_object_set_new(losses, c->device[i].id, curve);
    }
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o}", "reference", "float64",
                     "devices", ids, "layers", layers_json(c), "loss", losses, "step_ms",
                     by_device(c, NULL, step_ms_of), "memory_bytes", by_device(c, NULL, memory_of),
                     "part", c->part < 0 ? json_null() : json_integer(c->part), "verdict",
                     c->agree ? "agree" : "drift", "worst", worst_json(c));
}

static void print_cell(double v, double tolerance)
{
    if (isnan(v))
        printf(" %10s ", "-");
    else
        printf(" %10.1e%c", v, v > tolerance ? '!' : ' ');
}

static void print_rows(const gb_comparison *c, const char *title, bool backward)
{
    printf("\n%-36s", title);
    for (int i = 0; i < c->n_devices; i++) printf(" %-11s", c->device[i].id);
    putchar('\n');
    for (int k = 0; k < c->n_layers; k++) {
        const gb_compare_layer *l = &c->layer[k];
        printf("%-36.36s", l->name);
        for (int i = 0; i < c->n_devices; i++)
            print_cell(backward ? l->backward[i] : l->forward[i],
                       backward ? l->backward_tolerance : l->forward_tolerance);
        putchar('\n');
    }
}

static void print_text(const gb_comparison *c)
{
    print_rows(c, "error of outputs", false);
    print_rows(c, "error of gradients", true);
    printf("\n%-36s", "device");
    for (int i = 0; i < c->n_devices; i++) printf(" %-11s", c->device[i].id);
    printf("\n%-36s", "step, ms");
    for (int i = 0; i < c->n_devices; i++) printf(" %10.2f ", c->step_ms[i]);
    printf("\n%-36s", "planned memory, MiB");
    for (int i = 0; i < c->n_devices; i++)
        printf(" %10.1f ", (double)c->planned_bytes[i] / (1 << 20));
    printf("\n%-36s", "loss after the last step");
    for (int i = 0; i < c->n_devices; i++)
        printf(" %10.5f ", c->steps ? c->loss[i][c->steps - 1] : NAN);
    if (c->part >= 0) printf("\nlosses part at step %lld", (long long)c->part + 1);
    printf("\n\n%s", c->agree ? "agree" : "drift");
    if (c->worst_layer >= 0 && c->worst_device >= 0)
        printf("; the worst is layer %s on %s, %s: %.1e of %.1e allowed",
               c->layer[c->worst_layer].name, c->device[c->worst_device].id,
               c->worst_backward ? "backward" : "forward", c->worst_error, c->worst_tolerance);
    putchar('\n');
}

/* --- the command --- */

static void on_progress(void *user, const char *device, const char *what)
{
    progress *line = user;
    char text[160];
    snprintf(text, sizeof text, "%s: %s", device, what);
    line->drawn = 0; /* each of these few is shown */
    progress_update(line, 0, text);
}

static gb_status read_recipe(const cli_args *args, gb_recipe **recipe, gb_error *err)
{
    struct stat st;
    bool folder = stat(args->files[0], &st) == 0 && S_ISDIR(st.st_mode);
    return folder ? gb_run_recipe(args->files[0], args->sets.items, args->sets.n, recipe, err)
                  : gb_recipe_read(args->files[0], args->sets.items, args->sets.n, recipe, err);
}

static bool is_onnx(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".onnx") == 0;
}

static gb_status compare(const cli_args *args, int64_t steps, gb_comparison *c, gb_error *err)
{
    gb_recipe *recipe = NULL;
    gb_context *ctx = NULL;
    bool onnx = is_onnx(args->files[0]);
    devices d = {0};
    progress line = progress_start(args);
    gb_compare_options options = {.steps = steps, .progress = on_progress, .user = &line};
    gb_status s = GB_OK;
    if (!onnx) s = read_recipe(args, &recipe, err);
    else if (args->value[OPT_HTML])
        s = gb_fail(err, GB_UNSUPPORTED, "--html", "leave it out, or compare the model's recipe",
                    "there is no page for an ONNX model");
    if (!s) s = cli_context(args, &ctx, err);
    if (!s) s = choose(args, ctx, &d, err);
    if (!s && onnx) s = gb_compare_model(ctx, args->files[0], d.ids, d.n, &options, c, err);
    else if (!s) s = gb_compare(ctx, recipe, d.ids, d.n, &options, c, err);
    if (!s && args->value[OPT_HTML])
        s = gb_comparison_html(c, recipe, args->value[OPT_HTML], err);
    progress_end(&line);
    free(d.text);
    gb_context_destroy(&ctx);
    gb_recipe_destroy(&recipe);
    return s;
}

static int run(cli_args *args)
{
    gb_error err = {0};
    gb_comparison c = {0};
    int64_t steps;
    if (!cli_int(args, OPT_STEPS, 1, 0, &steps)) return CLI_USAGE;
    int status = CLI_DONE;
    if (compare(args, steps, &c, &err))
        status = cli_fail(args, &err);
    else if (cli_json(args))
        status = cli_print_json(args, comparison_json(&c));
    else
        print_text(&c);
    gb_comparison_free(&c);
    return status;
}

static const cli_option options[] = {OPT_DEVICES, OPT_STEPS, OPT_HTML, OPT_COUNT};
const cli_command cmd_compare = {
    "compare", "RECIPE", "drift, speed and memory of several devices", run, 1, 1, options};
