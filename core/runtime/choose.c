/* Which implementation a step gets: what a run that goes on took before, else what was tuned, else
 * what ships for devices of its class, else the backend's own choice. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/file.h>
#include <gimbal/tune.h>

#include "core/runtime/runtime.h"

char *gb_tuning_path(const gb_context *ctx)
{
    return ctx->options.cache_dir ? gb_path_join(ctx->options.cache_dir, "tuning.json") : NULL;
}

/* --- loading --- */

static void take_fitting(gb_device *d, const gb_tuning *t)
{
    for (int i = 0; i < t->n; i++) {
        if (!gb_tuned_fits(&t->device[i], &d->tuned)) continue;
        const gb_choices *c = &t->device[i].choices;
        for (int k = 0; k < c->n; k++) gb_choices_put(&d->tuned.choices, &c->item[k]);
    }
}

static void take_text(gb_device *d, const char *text)
{
    gb_tuning t;
    gb_error err;
    if (gb_tuning_parse(&t, text, strlen(text), "shipped defaults", &err))
        snprintf(d->warning, sizeof d->warning, "%.200s", err.message);
    take_fitting(d, &t);
    gb_tuning_clear(&t);
}

static void take_file(gb_device *d)
{
    gb_tuning t;
    gb_error err;
    char *path = gb_tuning_path(d->ctx);
    if (!path) return;
    gb_status status = gb_tuning_read(&t, path, &err);
    if (status && status != GB_NOT_FOUND)
        snprintf(d->warning, sizeof d->warning, "%.100s is left aside: %.120s", path, err.message);
    take_fitting(d, &t);
    gb_tuning_clear(&t);
    free(path);
}

void gb_choices_load(gb_device *d)
{
    const char *kernels = d->backend->kernels;
    gb_tuned_name(&d->tuned, &d->info, kernels ? kernels : "");
    if (!d->backend->variants || d->ctx->no_tuning || d->ctx->options.variant) return;
    for (int i = 0; gb_backend_defaults[i]; i++) take_text(d, gb_backend_defaults[i]);
    take_file(d);
}

/* --- choosing --- */

static bool has_choice(gb_device *d, const gb_step *step)
{
    const char *name[2];
    return d->backend->variants && d->backend->variants(d->dev, step, name, 2) > 1;
}

static void set_variant(gb_step *step, const gb_choice *c)
{
    memcpy(step->variant, c->variant, sizeof step->variant);
}

void gb_choose(gb_device *d, gb_step *step, gb_answer *answer)
{
    gb_choice taken = {0};
    char bucket[GB_CHOICE_KEY];
    bool open = !step->variant[0] && !d->ctx->options.variant && has_choice(d, step);
    if (open) {
        gb_exact_key(step, taken.key);
        gb_bucket_key(step, bucket);
        const gb_choice *c = gb_choices_find(&d->taken, taken.key);
        if (!c) c = gb_choices_find(&d->tuned.choices, bucket);
        if (c) set_variant(step, c);
    }
    d->backend->query(d->dev, step, answer);
    if (open && step->variant[0] && !answer->ok) { /* of other kernels, or of a neighbour's shape */
        step->variant[0] = 0;
        d->backend->query(d->dev, step, answer);
    }
    if (!open || !answer->ok) return;
    memcpy(taken.variant, answer->variant, sizeof taken.variant);
    gb_choices_put(&d->taken, &taken);
}

/* --- what a run keeps --- */

const char *gb_device_tuning_warning(const gb_device *dev)
{
    return dev->warning;
}

static json_t *list_json(const gb_choices *c)
{
    json_t *list = json_object();
    for (int i = 0; i < c->n; i++)
        json_object_set_new(list, c->item[i].key, json_string(c->item[i].variant));
    return list;
}

gb_status gb_device_choices(const gb_device *dev, char **json, gb_error *err)
{
    const gb_tuned *t = &dev->tuned;
    json_t *all =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "backend", t->backend, "name", t->name,
                  "driver", t->driver, "version", t->version, "kernels", t->kernels, "taken",
                  list_json(&dev->taken), "tuned", list_json(&t->choices));
    *json = all ? json_dumps(all, JSON_INDENT(1)) : NULL;
    json_decref(all);
    if (*json) return GB_OK;
    return gb_fail(err, GB_OUT_OF_MEMORY, dev->info.id, NULL, "no memory to list choices");
}

static bool read_list(const json_t *list, gb_choices *c)
{
    const char *key;
    json_t *variant;
    if (!json_is_object(list)) return false;
    json_object_foreach((json_t *)list, key, variant)
    {
        gb_choice choice = {0};
        size_t length = json_string_length(variant);
        if (!json_is_string(variant) || !length || length >= sizeof choice.variant ||
            strlen(key) >= sizeof choice.key)
            return false;
        strcpy(choice.key, key);
        memcpy(choice.variant, json_string_value(variant), length);
        if (!gb_choices_put(c, &choice)) return false;
    }
    return true;
}

static bool same_text(const json_t *all, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(all, key));
    return value && strcmp(value, text) == 0;
}

gb_status gb_device_replay(gb_device *dev, const char *json, gb_error *err)
{
    gb_choices taken = {0}, tuned = {0};
    const gb_tuned *t = &dev->tuned;
    json_t *all = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    bool here = same_text(all, "backend", t->backend) && same_text(all, "name", t->name);
    bool good = all && read_list(json_object_get(all, "taken"), &taken) &&
                read_list(json_object_get(all, "tuned"), &tuned);
    json_decref(all);
    if (good && here && !dev->ctx->options.variant) { /* another device goes by its own choices */
        gb_choices_clear(&dev->taken);
        gb_choices_clear(&dev->tuned.choices);
        dev->taken = taken;
        dev->tuned.choices = tuned;
        return GB_OK;
    }
    gb_choices_clear(&taken);
    gb_choices_clear(&tuned);
    if (good) return GB_OK;
    return gb_fail(err, GB_FORMAT, "choices", "start the run anew",
                   "the list of the run's choices is damaged");
}
