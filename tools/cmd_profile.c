/* gimbal profile: where the time of a training step goes. */
#include "tools/profile.h"
#include "tools/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *ms(double seconds)
{
    return cli_number(1e3 * seconds);
}

static json_t *maybe(const char *text)
{
    return text ? json_string(text) : json_null();
}

/* What groups and steps have in common. */
static json_t *speed_json(const gb_profile *p, const profile_group *g)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "share",
                     cli_number(g->seconds / p->device_seconds), "gflops",
                     cli_number(g->flops / g->seconds * 1e-9), "gb_per_s",
                     cli_number(g->bytes / g->seconds * 1e-9), "of_peak", cli_number(g->of_peak),
                     "bound", maybe(profile_bound(p, g)));
}

static json_t *group_json(const gb_profile *p, const profile_group *g, profile_key key)
{
    const gb_profile_row *r = g->first;
    json_t *o = speed_json(p, g);
    if (key == PROFILE_BY_LAYER)
        json_object_set_new(o, "path", json_stringn(r->path, (size_t)profile_layer(r)));
    if (key != PROFILE_BY_LAYER) json_object_set_new(o, "phase", json_string(r->phase));
    if (key == PROFILE_BY_KIND) {
        json_object_set_new(o, "kind", json_string(r->kind));
        json_object_set_new(o, "variant", json_string(r->variant));
    }
    if (key == PROFILE_BY_LAYER)
        for (int i = 0; i < PROFILE_PHASES; i++)
            json_object_set_new(o, profile_phase[i], ms(g->by_phase[i]));
    json_object_set_new(o, "ms", ms(g->seconds));
    json_object_set_new(o, "steps", json_integer(g->rows));
    return o;
}

static json_t *groups_json(const gb_profile *p, profile_key key)
{
    int n;
    profile_group *g = profile_groups(p, key, &n);
    json_t *list = g ? json_array() : NULL;
    for (int i = 0; i < n; i++) json_array_append_new(list, group_json(p, &g[i], key));
    free(g);
    return list;
}

/* In order of execution. */
static json_t *steps_json(const gb_profile *p)
{
    int n;
    profile_group *g = profile_groups(p, PROFILE_BY_ROW, &n);
    json_t *list = g ? json_array() : NULL;
    for (int i = 0; i < n; i++) json_array_append_new(list, json_null());
    for (int i = 0; i < n; i++) {
        const gb_profile_row *r = g[i].first;
        json_t *o = speed_json(p, &g[i]);
        json_object_update_missing_new(
            o, json_pack("{s:s, s:s, s:s, s:s, s:i, s:{s:o, s:o}, s:o, s:I}", "path", r->path,
                         "phase", r->phase, "kind", r->kind, "variant", r->variant, "count",
                         r->count, "ms", "min", ms(r->seconds_min), "median", ms(r->seconds),
                         "begin_ms", ms(p->spans[r - p->rows].begin - p->spans[0].begin),
                         "scratch_bytes", (json_int_t)r->scratch_bytes));
        json_array_set_new(list, (size_t)(r - p->rows), o);
    }
    free(g);
    return list;
}

json_t *profile_json(const gb_profile *p, const char *device)
{
    return json_pack("{s:s, s:s, s:I, s:i, s:{s:o, s:o}, s:{s:o, s:o, s:o, s:o, s:o, s:o}, s:o, "
                     "s:o, s:i, s:I, s:o, "
                     "s:o, s:o, s:o}",
                     "device", device, "model", p->model, "batch", (json_int_t)p->batch, "runs",
                     p->runs, "peak", "gflops", cli_number(p->peak_gflops), "gb_per_s",
                     cli_number(p->peak_gb_per_s), "ms", "step", ms(p->step_seconds), "run",
                     ms(p->run_seconds), "enqueue", ms(p->enqueue_seconds), "device",
                     ms(p->device_seconds), "gaps", ms(p->gap_seconds), "host", ms(p->host_seconds),
                     "host_share", cli_number(p->host_seconds / p->device_seconds), "made_seconds",
                     cli_number(p->made_seconds), "kernels", p->kernels, "memory_bytes",
                     (json_int_t)p->planned_bytes, "phases", groups_json(p, PROFILE_BY_PHASE),
                     "layers", groups_json(p, PROFILE_BY_LAYER), "kinds",
                     groups_json(p, PROFILE_BY_KIND), "steps", steps_json(p));
}

static gb_status profile(const cli_args *args, gb_device *dev, int64_t steps, gb_profile *p,
                         gb_error *err)
{
    gb_recipe *recipe;
    gb_status s = gb_recipe_read(args->files[0], args->sets.items, args->sets.n, &recipe, err);
    if (s) return s;
    progress line = progress_start(args);
    progress_update(&line, 0, gb_model_name(recipe->model));
    s = gb_profile_model(dev, recipe, steps, p, err);
    progress_end(&line);
    gb_recipe_destroy(&recipe);
    if (!s && args->value[OPT_TRACE])
        s = profile_trace(p, gb_device_get_info(dev)->id, args->value[OPT_TRACE], err);
    return s;
}

static int run(cli_args *args)
{
    gb_error err = {0};
    gb_context *ctx;
    gb_device *dev;
    gb_profile p = {0};
    int64_t steps, top;
    if (!cli_int(args, OPT_STEPS, 1, 0, &steps) || !cli_int(args, OPT_TOP, 1, 12, &top))
        return CLI_USAGE;
    if (cli_open(args, &ctx, &dev, &err)) return cli_fail(args, &err);
    const char *id = gb_device_get_info(dev)->id;
    int status = CLI_DONE;
    if (profile(args, dev, steps, &p, &err))
        status = cli_fail(args, &err);
    else if (cli_json(args))
        status = cli_print_json(args, profile_json(&p, id));
    else if (!profile_print(&p, id, top))
        status = cli_fail(args, &(gb_error){.status = GB_OUT_OF_MEMORY, .message = "no memory"});
    gb_profile_free(&p);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return status;
}

static const cli_option options[] = {OPT_STEPS, OPT_TOP, OPT_TRACE, OPT_COUNT};
const cli_command cmd_profile = {
    "profile", "RECIPE", "where the time of a training step goes", run, 1, 1, options};
