/* The backend's table. Every call ends with a look at what the validation layers said. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/versions.h"
#include "backends/vulkan/program.h"

extern const gb_backend gb_vulkan_backend;

static gb_status checked(gb_backend_device *dev, gb_status status, gb_error *err)
{
    return gb_vk_instance_check(&dev->instance, status, err);
}

static gb_hash identify(const gb_device_info *info)
{
    gb_hash key = GB_HASH_INIT;
    gb_hash_text(&key, info->name);
    gb_hash_text(&key, info->driver);
    gb_hash_text(&key, info->version);
    gb_hash_bytes(&key, info->uuid, sizeof info->uuid);
    return key;
}

static gb_status open_as_said(const gb_backend_options *o, int index, gb_backend_device **dev,
                              gb_error *err)
{
    gb_status status = gb_vk_device_open(o, index, dev, err);
    if (status) return status;
    const gb_vk_physical *p = &(*dev)->physical;
    (*dev)->caps.shuffle = p->subgroup_shuffle;
    (*dev)->caps.half_math = p->float16.shaderFloat16 && p->storage16.storageBuffer16BitAccess;
    return GB_OK;
}

static gb_status device_open(const gb_backend_options *o, int index, gb_backend_device **dev,
                             gb_error *err)
{
    gb_status status = open_as_said(o, index, dev, err);
    if (!status)
        gb_gpu_probe_caps(&gb_vulkan_backend, o, index, open_as_said,
                          identify(&(*dev)->physical.info), &(*dev)->caps);
    return status;
}

/* The storage types that kernels really handle. Finding out builds kernels, so it is remembered. */
static void probe(const gb_backend_options *o, int index, gb_device_info *info)
{
    gb_hash key = identify(info);
    void *known;
    size_t size;
    if (gb_cache_load(o->cache_dir, "vkprobe", key, &known, &size)) {
        if (size == sizeof info->dtypes) memcpy(&info->dtypes, known, size);
        free(known);
        if (size == sizeof info->dtypes) return;
    }
    gb_backend_options plain = {.cache_dir = o->cache_dir};
    gb_backend_device *dev = NULL;
    gb_error err = {0};
    gb_status status = gb_vk_device_open(&plain, index, &dev, &err);
    if (!status) status = gb_gpu_probe(&gb_vulkan_backend, dev, &info->dtypes, &err);
    if (!status) gb_cache_store(o->cache_dir, "vkprobe", key, &info->dtypes, sizeof info->dtypes);
    gb_vk_device_close(dev);
    info->usable = status == GB_OK;
    if (status) snprintf(info->reason, sizeof info->reason, "%.199s", err.message);
}

static gb_status enumerate(const gb_backend_options *o, gb_device_info *out, int cap, int *n,
                           char *reason, size_t reason_size)
{
    gb_vk_instance instance;
    gb_vk_physical *list = NULL;
    gb_error err = {0};
    *n = 0;
    gb_status status = gb_vk_instance_open(&instance, false, &err);
    if (status) {
        snprintf(reason, reason_size, "%s", err.message);
        return GB_OK;
    }
    int found;
    status = gb_vk_physical_list(&instance, &list, &found, &err);
    for (int i = 0; !status && i < found && i < cap; i++) {
        out[*n] = list[i].info;
        if (out[*n].usable) probe(o, i, &out[*n]);
        ++*n;
    }
    if (!*n)
        snprintf(reason, reason_size, "%s", status ? err.message : "no Vulkan driver is installed");
    free(list);
    gb_vk_instance_close(&instance);
    return GB_OK;
}

static gb_status buffer_create(gb_backend_device *dev, uint64_t bytes, gb_backend_buffer **buf,
                               gb_error *err)
{
    return checked(dev, gb_vk_buffer_create(dev, GB_VK_DEVICE, bytes, buf, err), err);
}

static void buffer_destroy(gb_backend_device *dev, gb_backend_buffer *buf)
{
    if (!buf) return;
    gb_vk_wait(dev, NULL); /* it may be in use */
    gb_vk_buffer_free(dev, buf);
}

static gb_status buffer_write(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                              uint64_t bytes, const void *src, gb_error *err)
{
    return checked(dev, gb_vk_write(dev, buf, offset, bytes, src, err), err);
}

static gb_status buffer_read(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                             uint64_t bytes, void *dst, gb_error *err)
{
    return checked(dev, gb_vk_read(dev, buf, offset, bytes, dst, err), err);
}

static void query(gb_backend_device *dev, const gb_step *step, gb_answer *answer)
{
    gb_gpu_query(&dev->caps, step, answer);
}

static int variants(gb_backend_device *dev, const gb_step *step, const char **name, int cap)
{
    return gb_gpu_variants(&dev->caps, step, name, cap);
}

static gb_status program_create(gb_backend_device *dev, const gb_plan *plan,
                                gb_backend_program **prog, gb_error *err)
{
    *prog = NULL;
    gb_status status = checked(dev, gb_vk_program_create(dev, plan, prog, err), err);
    if (status && *prog) { /* made, but a validation message came */
        gb_vk_program_destroy(*prog);
        *prog = NULL;
    }
    return status;
}

static gb_status program_bind(gb_backend_program *prog, gb_backend_buffer *const *buffers,
                              gb_error *err)
{
    return checked(gb_vk_program_device(prog), gb_vk_program_bind(prog, buffers, err), err);
}

static gb_status program_run(gb_backend_program *prog, gb_error *err)
{
    return checked(gb_vk_program_device(prog), gb_vk_program_run(prog, err), err);
}

static gb_status program_time(gb_backend_program *prog, gb_span *span, gb_error *err)
{
    return checked(gb_vk_program_device(prog), gb_vk_program_time(prog, span, err), err);
}

static gb_status wait(gb_backend_device *dev, gb_error *err)
{
    return checked(dev, gb_vk_wait(dev, err), err);
}

static gb_status peak(gb_backend_device *dev, gb_peak *peak, gb_error *err)
{
    return checked(dev, gb_vk_peak(dev, peak, err), err);
}

static bool lost(gb_backend_device *dev)
{
    return dev->lost;
}

const gb_backend gb_vulkan_backend = {.name = "vulkan",
                                      .kernels = gb_kernels_vulkan,
                                      .enumerate = enumerate,
                                      .open = device_open,
                                      .close = gb_vk_device_close,
                                      .buffer_create = buffer_create,
                                      .buffer_destroy = buffer_destroy,
                                      .buffer_write = buffer_write,
                                      .buffer_read = buffer_read,
                                      .query = query,
                                      .variants = variants,
                                      .program_create = program_create,
                                      .program_destroy = gb_vk_program_destroy,
                                      .program_bind = program_bind,
                                      .program_renew = gb_vk_program_renew,
                                      .program_run = program_run,
                                      .program_time = program_time,
                                      .program_kernels = gb_vk_program_kernels,
                                      .wait = wait,
                                      .lost = lost,
                                      .peak = peak};
