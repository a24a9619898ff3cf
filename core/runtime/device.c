/* Devices: chosen by id, opened through their backend. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/runtime/runtime.h"

/* Real devices before slower ones; negative: never chosen. */
static int rank(const gb_context *c, int i)
{
    if (!c->info[i].usable || c->listed[i].backend->diagnostic) return -1;
    switch (c->info[i].kind) {
    case GB_DEVICE_DISCRETE: return 2;
    case GB_DEVICE_INTEGRATED: return 1;
    case GB_DEVICE_CPU: return 0;
    default: return -1;
    }
}

static int choose(const gb_context *c)
{
    int best = -1;
    for (int i = 0; i < c->n; i++) {
        int r = rank(c, i), b = best < 0 ? -1 : rank(c, best);
        if (r > b || (r >= 0 && r == b && c->info[i].memory_bytes > c->info[best].memory_bytes))
            best = i;
    }
    return best;
}

static int find(const gb_context *c, const char *id)
{
    if (strcmp(id, "auto") == 0) return choose(c);
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->info[i].id, id) == 0) return i;
    return -1;
}

static gb_status not_found(gb_context *c, const char *id, gb_error *err)
{
    char list[400] = "devices here: ";
    size_t used = strlen(list);
    for (int i = 0; i < c->n && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                                 c->info[i].id);
    size_t length = strcspn(id, ":");
    for (int i = 0; i < c->n_missing; i++)
        if (strlen(c->missing[i].backend) == length &&
            strncmp(c->missing[i].backend, id, length) == 0)
            return gb_fail(err, GB_NOT_FOUND, id, list, "there is no device '%s': %s", id,
                           c->missing[i].reason);
    return gb_fail(err, GB_NOT_FOUND, id, list, "there is no device '%s'", id);
}

/* The device called id: from its own backend where the name tells which, so that no other driver is
 * woken (they may be slow, or broken); else from the list of all. */
static gb_status look_up(gb_context *ctx, const char *id, gb_device_info *info, gb_listed *listed,
                         gb_error *err)
{
    const gb_device_info *all;
    int n;
    if (gb_context_find(ctx, id, info, listed)) return GB_OK;
    gb_status status = gb_context_devices(ctx, &all, &n, err);
    if (status != GB_OK) return status;
    int i = find(ctx, id);
    if (i < 0) return not_found(ctx, id, err);
    *info = all[i];
    *listed = ctx->listed[i];
    return GB_OK;
}

gb_status gb_device_open(gb_context *ctx, const char *id, gb_device **dev, gb_error *err)
{
    if (!ctx || !id || !dev) return gb_fail(err, GB_INVALID, id, NULL, "an argument is NULL");
    *dev = NULL;
    gb_device_info info;
    gb_listed listed;
    gb_status status = look_up(ctx, id, &info, &listed, err);
    if (status != GB_OK) return status;
    if (!info.usable)
        return gb_fail(err, GB_DEVICE, info.id, "choose another device (gimbal devices)",
                       "device %s (%s) cannot be used: %s", info.id, info.name, info.reason);
    gb_device *d = calloc(1, sizeof *d);
    if (!d) return gb_fail(err, GB_OUT_OF_MEMORY, info.id, NULL, "no memory for a device");
    *d = (gb_device){.ctx = ctx, .info = info, .backend = listed.backend};
    status = d->backend->open(&ctx->options, listed.index, &d->dev, err);
    if (status != GB_OK) {
        free(d);
        return status;
    }
    gb_choices_load(d);
    *dev = d;
    return GB_OK;
}

void gb_device_close(gb_device **dev)
{
    if (!dev || !*dev) return;
    (*dev)->backend->close((*dev)->dev);
    free((*dev)->staging);
    gb_choices_clear(&(*dev)->tuned.choices);
    gb_choices_clear(&(*dev)->taken);
    free(*dev);
    *dev = NULL;
}

const gb_device_info *gb_device_get_info(const gb_device *dev)
{
    return dev ? &dev->info : NULL;
}

gb_status gb_device_wait(gb_device *dev, gb_error *err)
{
    if (!dev) return gb_fail(err, GB_INVALID, "device", NULL, "there is no device to wait for");
    return dev->backend->wait(dev->dev, err);
}

void gb_device_memory(const gb_device *dev, uint64_t *now, uint64_t *peak)
{
    if (now) *now = dev ? dev->allocated : 0;
    if (peak) *peak = dev ? dev->peak : 0;
}

gb_status gb_device_peak(gb_device *dev, double *gflops, double *gb_per_s, gb_error *err)
{
    if (!dev->backend->peak)
        return gb_fail(err, GB_UNSUPPORTED, dev->info.id, NULL, "the %s backend measures no peaks",
                       dev->info.backend);
    gb_peak peak;
    gb_status status = dev->backend->peak(dev->dev, &peak, err);
    if (status) return status;
    *gflops = peak.gflops;
    *gb_per_s = peak.gb_per_s;
    return GB_OK;
}

/* --- buffers --- */

/* A size that every driver takes: no buffer is empty. */
static uint64_t real_size(uint64_t bytes)
{
    return bytes < 256 ? 256 : bytes;
}

gb_status gb_device_alloc(gb_device *d, uint64_t bytes, gb_backend_buffer **buf, gb_error *err)
{
    *buf = NULL;
    gb_status status = d->backend->buffer_create(d->dev, real_size(bytes), buf, err);
    if (status != GB_OK) return status;
    d->allocated += real_size(bytes);
    if (d->allocated > d->peak) d->peak = d->allocated;
    return GB_OK;
}

void gb_device_free(gb_device *d, uint64_t bytes, gb_backend_buffer *buf)
{
    if (!buf) return;
    d->backend->buffer_destroy(d->dev, buf);
    d->allocated -= real_size(bytes);
}

void *gb_device_staging(gb_device *d, uint64_t bytes, gb_error *err)
{
    if (bytes > d->staging_bytes || !d->staging) {
        size_t size = (size_t)((bytes + 4095) / 4096 * 4096);
        void *p = aligned_alloc(4096, size ? size : 4096);
        if (!p) {
            gb_fail(err, GB_OUT_OF_MEMORY, d->info.id, "use a smaller batch or model",
                    "the host has no memory for a copy of %llu bytes", (unsigned long long)bytes);
            return NULL;
        }
        free(d->staging);
        d->staging = p;
        d->staging_bytes = size;
    }
    return d->staging;
}
