/* Tuning files: JSON that people may read, merge and ship.
 *
 *     {"gimbal_tuning": 1, "devices": [{"backend": "cpu", "name": "…", "driver": "…", "version":
 * "…", "kernels": "…", "choices": {KEY: {"variant": "…", "ms": 1.5, "default_ms": 2.0}}}]}
 *
 * Whatever such a file holds, it can cost speed at most: a choice is a name that the device takes
 * or does not know. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <gimbal/file.h>

#include "core/runtime/tuning.h"

enum { VERSION = 1, FILE_LIMIT = 16 << 20, LOCK_TRIES = 250, LOCK_WAIT_MS = 20 };

/* --- reading --- */

/* Letters, digits, signs and spaces that fit size; anything else is no name of ours. */
static bool copy_text(const json_t *from, char *to, size_t size)
{
    const char *text = json_string_value(from);
    if (!from) return true; /* left out: any */
    if (!text || json_string_length(from) >= size || strlen(text) != json_string_length(from))
        return false;
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127) return false;
    strcpy(to, text);
    return true;
}

static bool copy_ms(const json_t *from, double *ms)
{
    *ms = from ? json_number_value(from) : 0;
    return (!from || json_is_number(from)) && isfinite(*ms) && *ms >= 0;
}

static bool read_choice(const char *key, const json_t *from, gb_choices *c)
{
    gb_choice choice = {0};
    const json_t *variant = json_object_get(from, "variant");
    if (strlen(key) >= sizeof choice.key || !json_is_string(variant)) return false;
    strcpy(choice.key, key);
    return copy_text(variant, choice.variant, sizeof choice.variant) && choice.variant[0] &&
           copy_ms(json_object_get(from, "ms"), &choice.ms) &&
           copy_ms(json_object_get(from, "default_ms"), &choice.default_ms) &&
           gb_choices_put(c, &choice);
}

static bool read_device(const json_t *from, gb_tuned *d)
{
    const struct {
        const char *key;
        char *to;
        size_t size;
    } texts[] = {
        {"backend", d->backend, sizeof d->backend}, {"name", d->name, sizeof d->name},
        {"driver", d->driver, sizeof d->driver},    {"version", d->version, sizeof d->version},
        {"kernels", d->kernels, sizeof d->kernels}, {"kind", d->kind, sizeof d->kind}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!copy_text(json_object_get(from, texts[i].key), texts[i].to, texts[i].size))
            return false;
    const json_t *width = json_object_get(from, "vector_width");
    json_int_t lanes = json_integer_value(width);
    if ((width && !json_is_integer(width)) || lanes < 0 || lanes > 1024 || !d->backend[0])
        return false;
    d->vector_width = (int)lanes;
    const char *key;
    json_t *choice, *choices = json_object_get(from, "choices");
    if (!json_is_object(choices)) return false;
    json_object_foreach(choices, key,
                        choice) if (!read_choice(key, choice, &d->choices)) return false;
    return true;
}

static bool read_all(gb_tuning *t, const json_t *root)
{
    const json_t *devices = json_object_get(root, "devices"), *device;
    size_t i;
    if (json_integer_value(json_object_get(root, "gimbal_tuning")) != VERSION ||
        !json_is_array(devices) || json_array_size(devices) > GB_MAX_TUNED)
        return false;
    t->device = calloc(json_array_size(devices) + 1, sizeof *t->device);
    if (!t->device) return false;
    json_array_foreach(devices, i,
                       device) if (!read_device(device, &t->device[t->n++])) return false;
    return true;
}

gb_status gb_tuning_parse(gb_tuning *t, const char *text, size_t size, const char *source,
                          gb_error *err)
{
    json_error_t bad = {.text = "it is no tuning file of this version"};
    *t = (gb_tuning){0};
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &bad);
    bool good = root && read_all(t, root);
    json_decref(root);
    if (good) return GB_OK;
    gb_tuning_clear(t);
    return gb_fail(err, GB_FORMAT, source, "delete it; gimbal tune makes it anew",
                   "the tuning file is damaged: %s",
                   root ? "it is no tuning file of this version" : bad.text);
}

gb_status gb_tuning_read(gb_tuning *t, const char *path, gb_error *err)
{
    uint8_t *text;
    size_t size;
    *t = (gb_tuning){0};
    gb_status status = gb_read_file(path, FILE_LIMIT, &text, &size, err);
    if (status) return status;
    status = gb_tuning_parse(t, (char *)text, size, path, err);
    free(text);
    return status;
}

void gb_tuning_clear(gb_tuning *t)
{
    for (int i = 0; i < t->n; i++) gb_choices_clear(&t->device[i].choices);
    free(t->device);
    *t = (gb_tuning){0};
}

/* --- writing --- */

static void set_text(json_t *to, const char *key, const char *text)
{
    if (text[0]) json_object_set_new(to, key, json_string(text));
}

static json_t *device_json(const gb_tuned *d)
{
    json_t *device = json_object(), *choices = json_object();
    set_text(device, "backend", d->backend);
    set_text(device, "name", d->name);
    set_text(device, "driver", d->driver);
    set_text(device, "version", d->version);
    set_text(device, "kernels", d->kernels);
    set_text(device, "kind", d->kind);
    if (d->vector_width) json_object_set_new(device, "vector_width", json_integer(d->vector_width));
    for (int i = 0; i < d->choices.n; i++) {
        const gb_choice *c = &d->choices.item[i];
        json_t *choice = json_pack("{s:s}", "variant", c->variant);
        if (c->ms > 0) json_object_set_new(choice, "ms", json_real(c->ms));
        if (c->default_ms > 0) json_object_set_new(choice, "default_ms", json_real(c->default_ms));
        json_object_set_new(choices, c->key, choice);
    }
    json_object_set_new(device, "choices", choices);
    return device;
}

char *gb_tuning_text(const gb_tuning *t)
{
    json_t *devices = json_array();
    for (int i = 0; i < t->n; i++) json_array_append_new(devices, device_json(&t->device[i]));
    json_t *root = json_pack("{s:i, s:o}", "gimbal_tuning", VERSION, "devices", devices);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(root);
    return text;
}

/* --- merging --- */

static bool same_device(const gb_tuned *a, const gb_tuned *b)
{
    return strcmp(a->backend, b->backend) == 0 && strcmp(a->name, b->name) == 0 &&
           strcmp(a->driver, b->driver) == 0 && strcmp(a->version, b->version) == 0 &&
           strcmp(a->kernels, b->kernels) == 0 && strcmp(a->kind, b->kind) == 0 &&
           a->vector_width == b->vector_width;
}

/* The device's entry, moved to or made at the end of the list. NULL: no memory. */
static gb_tuned *entry_for(gb_tuning *t, const gb_tuned *like)
{
    gb_tuned entry = *like;
    int i = 0;
    entry.choices = (gb_choices){0};
    while (i < t->n && !same_device(&t->device[i], like)) i++;
    if (i == t->n && t->n < GB_MAX_TUNED) {
        gb_tuned *grown = realloc(t->device, (size_t)(t->n + 1) * sizeof *grown);
        if (!grown) return NULL;
        t->device = grown;
        t->device[t->n++] = entry;
        return &t->device[t->n - 1];
    }
    if (i == t->n) { /* the one that was written to longest ago makes room */
        i = 0;
        gb_choices_clear(&t->device[0].choices);
    } else {
        entry = t->device[i];
    }
    memmove(&t->device[i], &t->device[i + 1], (size_t)(t->n - 1 - i) * sizeof *t->device);
    t->device[t->n - 1] = entry;
    return &t->device[t->n - 1];
}

bool gb_tuning_merge(gb_tuning *t, const gb_tuning *from)
{
    for (int i = 0; i < from->n; i++) {
        gb_tuned *to = entry_for(t, &from->device[i]);
        const gb_choices *more = &from->device[i].choices;
        if (!to) return false;
        for (int k = 0; k < more->n; k++)
            if (!gb_choices_put(&to->choices, &more->item[k]) && to->choices.n < GB_MAX_CHOICES)
                return false;
    }
    return true;
}

/* An open file that holds the lock; -1: none could be had, and the merge goes on without. */
static int take_lock(const char *path)
{
    char *name = NULL;
    if (asprintf(&name, "%s.lock", path) < 0) return -1;
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    free(name);
    for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        if (i == LOCK_TRIES || (errno != EWOULDBLOCK && errno != EINTR)) {
            close(fd);
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = LOCK_WAIT_MS * 1000000L}, NULL);
    }
    return fd;
}

gb_status gb_tuning_update(const char *path, const gb_tuning *more, gb_error *err)
{
    gb_tuning all;
    int lock = take_lock(path);
    gb_tuning_read(&all, path, NULL); /* none, or a damaged one: a new one */
    char *text = gb_tuning_merge(&all, more) ? gb_tuning_text(&all) : NULL;
    gb_status status = text ? gb_write_file(path, text, strlen(text), err)
                            : gb_fail(err, GB_OUT_OF_MEMORY, path, NULL, "no memory for tuning");
    free(text);
    gb_tuning_clear(&all);
    if (lock >= 0) close(lock);
    return status;
}

/* --- devices --- */

static const char *kind_name(gb_device_kind kind)
{
    static const char *const names[] = {"cpu", "integrated", "discrete", "software"};
    return (unsigned)kind < sizeof names / sizeof *names ? names[kind] : "";
}

/* Names come from drivers: what JSON or a terminal would trip over becomes a question mark. */
static void set_name(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from[0] ? from : "?");
    for (char *c = to; *c; c++)
        if (*c < ' ' || *c > '~') *c = '?';
}

void gb_tuned_name(gb_tuned *t, const gb_device_info *info, const char *kernels)
{
    *t = (gb_tuned){.vector_width = info->vector_width};
    set_name(t->backend, sizeof t->backend, info->backend);
    set_name(t->name, sizeof t->name, info->name);
    set_name(t->driver, sizeof t->driver, info->driver);
    set_name(t->version, sizeof t->version, info->version);
    set_name(t->kernels, sizeof t->kernels, kernels);
    set_name(t->kind, sizeof t->kind, kind_name(info->kind));
}

static bool any_or(const char *wanted, const char *text)
{
    return !wanted[0] || strcmp(wanted, text) == 0;
}

bool gb_tuned_fits(const gb_tuned *t, const gb_tuned *device)
{
    return any_or(t->backend, device->backend) && any_or(t->name, device->name) &&
           any_or(t->driver, device->driver) && any_or(t->version, device->version) &&
           any_or(t->kernels, device->kernels) && any_or(t->kind, device->kind) &&
           (!t->vector_width || t->vector_width == device->vector_width);
}
