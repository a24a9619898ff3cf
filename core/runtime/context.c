/* Contexts: copied options and the list of devices. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/runtime/runtime.h"

enum { MAX_PER_BACKEND = 32 };

/* --- options --- */

/* The user's cache directory; *dir stays NULL where there is none. */
static bool default_cache(char **dir)
{
    const char *base = getenv("XDG_CACHE_HOME"), *sub = "";
    if (!base || base[0] != '/') {
        base = getenv("HOME");
        sub = "/.cache";
    }
    if (!base || base[0] != '/') return true;
    return asprintf(dir, "%s%s/gimbal", base, sub) >= 0 || (*dir = NULL, false);
}

static bool copy_string(const char *from, const char **to)
{
    return !from || (*to = strdup(from)) != NULL;
}

static bool copy_options(const gb_context_options *from, gb_backend_options *to)
{
    *to = (gb_backend_options){.threads = from->threads,
                               .validate = from->validate,
                               .no_placing = from->no_placing};
    char *cache = NULL;
    if (!from->cache_dir && !default_cache(&cache)) return false;
    to->cache_dir = cache;
    if (from->cache_dir && *from->cache_dir && !copy_string(from->cache_dir, &to->cache_dir))
        return false;
    const char *launch = from->launch ? from->launch : getenv("GIMBAL_LAUNCH");
    return copy_string(from->isa, &to->isa) && copy_string(from->variant, &to->variant) &&
           copy_string(launch, &to->launch);
}

static void free_options(gb_backend_options *o)
{
    free((char *)o->cache_dir);
    free((char *)o->isa);
    free((char *)o->variant);
    free((char *)o->launch);
}

gb_status gb_context_create(const gb_context_options *options, gb_context **ctx, gb_error *err)
{
    static const gb_context_options defaults;
    if (!ctx) return gb_fail(err, GB_INVALID, "context", NULL, "no place to put the context");
    *ctx = NULL;
    if (options && options->threads < 0)
        return gb_fail(err, GB_INVALID, "threads", "use 0 for all cores",
                       "a context cannot have %d threads", options->threads);
    gb_context *c = calloc(1, sizeof *c);
    if (c && pthread_mutex_init(&c->lock, NULL)) {
        free(c);
        c = NULL;
    }
    if (c && options) c->no_tuning = options->no_tuning;
    if (!c || !copy_options(options ? options : &defaults, &c->options)) {
        gb_context_destroy(&c);
        return gb_fail(err, GB_OUT_OF_MEMORY, "context", NULL, "no memory for a context");
    }
    *ctx = c;
    return GB_OK;
}

void gb_context_destroy(gb_context **ctx)
{
    if (!ctx || !*ctx) return;
    gb_context *c = *ctx;
    free_options(&c->options);
    free(c->info);
    free(c->listed);
    free(c->missing);
    pthread_mutex_destroy(&c->lock);
    free(c);
    *ctx = NULL;
}

/* --- the list of devices --- */

static bool has_uuid(const gb_device_info *d)
{
    static const uint8_t zero[16];
    return memcmp(d->uuid, zero, sizeof zero) != 0;
}

static bool on_cpu(const gb_device_info *d)
{
    return d->kind == GB_DEVICE_CPU || d->kind == GB_DEVICE_SOFTWARE;
}

/* Drivers decorate names ("AMD Radeon RX 6800 (RADV NAVI21)"): one may contain the other. */
static bool similar_name(const char *a, const char *b)
{
    return *a && *b && (strcasestr(a, b) || strcasestr(b, a));
}

static bool similar_memory(uint64_t a, uint64_t b)
{
    uint64_t low = a < b ? a : b, high = a < b ? b : a;
    return high - low <= high / 8;
}

/* Two views of one piece of hardware? By UUID where both drivers tell it, else by its looks; a
 * driver never lists one device twice, so equal cards of one backend stay two. */
static bool same_hardware(const gb_device_info *a, const gb_device_info *b)
{
    if (on_cpu(a) || on_cpu(b)) return on_cpu(a) && on_cpu(b);
    if (has_uuid(a) && has_uuid(b)) return memcmp(a->uuid, b->uuid, sizeof a->uuid) == 0;
    return strcmp(a->backend, b->backend) != 0 && a->kind == b->kind &&
           similar_name(a->name, b->name) && similar_memory(a->memory_bytes, b->memory_bytes);
}

static void find_twins(gb_context *c)
{
    for (int i = 0; i < c->n; i++) {
        if (c->listed[i].backend->diagnostic) continue;
        for (int j = 0; j < i && !c->info[i].same_as[0]; j++)
            if (!c->listed[j].backend->diagnostic && !c->info[j].same_as[0] &&
                same_hardware(&c->info[j], &c->info[i]))
                memcpy(c->info[i].same_as, c->info[j].id, sizeof c->info[i].same_as);
    }
}

static void name_device(gb_device_info *d, const gb_backend *b, int index)
{
    snprintf(d->backend, sizeof d->backend, "%s", b->name);
    if (!d->id[0]) snprintf(d->id, sizeof d->id, "%.20s:%d", b->name, index);
}

static void list_backend(gb_context *c, const gb_backend *b)
{
    gb_device_info *first = c->info + c->n;
    gb_missing_backend *m = &c->missing[c->n_missing];
    int n = 0;
    *m = (gb_missing_backend){.backend = b->name};
    gb_status status = b->enumerate(&c->options, first, MAX_PER_BACKEND, &n, m->reason,
                                    sizeof m->reason);
    if (status != GB_OK || n <= 0) {
        if (!m->reason[0]) snprintf(m->reason, sizeof m->reason, "%s", gb_status_name(status));
        c->n_missing++;
        return;
    }
    for (int i = 0; i < n && i < MAX_PER_BACKEND; i++) {
        name_device(first + i, b, i);
        c->listed[c->n++] = (gb_listed){.backend = b, .index = i};
    }
}

static gb_status enumerate(gb_context *c, gb_error *err)
{
    size_t backends = 0, left_out = 0;
    while (gb_backends[backends]) backends++;
    while (gb_backends_left_out[left_out]) left_out++;
    c->info = calloc(backends * MAX_PER_BACKEND, sizeof *c->info);
    c->listed = calloc(backends * MAX_PER_BACKEND, sizeof *c->listed);
    c->missing = calloc(backends + left_out, sizeof *c->missing);
    if (!c->info || !c->listed || !c->missing) {
        free(c->info);
        free(c->listed);
        free(c->missing);
        c->info = NULL, c->listed = NULL, c->missing = NULL;
        return gb_fail(err, GB_OUT_OF_MEMORY, "devices", NULL, "no memory for the device list");
    }
    for (size_t i = 0; i < backends; i++) list_backend(c, gb_backends[i]);
    for (size_t i = 0; i < left_out; i++)
        c->missing[c->n_missing++] = (gb_missing_backend){.backend = gb_backends_left_out[i],
                                                          .reason = "left out of this build"};
    find_twins(c);
    c->enumerated = true;
    return GB_OK;
}

bool gb_context_find(gb_context *ctx, const char *id, gb_device_info *info, gb_listed *listed)
{
    gb_device_info found[MAX_PER_BACKEND];
    char reason[200];
    size_t length = strcspn(id, ":");
    for (int b = 0; gb_backends[b]; b++) {
        const char *name = gb_backends[b]->name;
        int n = 0;
        if (strlen(name) != length || strncmp(name, id, length) != 0) continue;
        memset(found, 0, sizeof found);
        if (gb_backends[b]->enumerate(&ctx->options, found, MAX_PER_BACKEND, &n, reason, sizeof reason))
            return false;
        for (int i = 0; i < n && i < MAX_PER_BACKEND; i++) {
            name_device(&found[i], gb_backends[b], i);
            if (strcmp(found[i].id, id) != 0) continue;
            *info = found[i];
            *listed = (gb_listed){.backend = gb_backends[b], .index = i};
            return true;
        }
    }
    return false;
}

gb_status gb_context_devices(gb_context *ctx, const gb_device_info **devices, int *n, gb_error *err)
{
    if (!ctx || !devices || !n)
        return gb_fail(err, GB_INVALID, "devices", NULL, "an argument is NULL");
    *devices = NULL;
    *n = 0;
    pthread_mutex_lock(&ctx->lock);
    gb_status status = ctx->enumerated ? GB_OK : enumerate(ctx, err);
    pthread_mutex_unlock(&ctx->lock);
    if (status != GB_OK) return status;
    *devices = ctx->info;
    *n = ctx->n;
    return GB_OK;
}

bool gb_context_missing(gb_context *ctx, int i, const char **backend, const char **reason)
{
    const gb_device_info *devices;
    int n;
    if (gb_context_devices(ctx, &devices, &n, NULL) != GB_OK || i < 0 || i >= ctx->n_missing)
        return false;
    if (backend) *backend = ctx->missing[i].backend;
    if (reason) *reason = ctx->missing[i].reason;
    return true;
}
