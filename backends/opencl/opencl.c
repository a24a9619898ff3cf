#include "backends/opencl/opencl.h"
#include "backends/versions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEVICES 32

/* --- errors --- */

const char *gb_cl_error_name(cl_int code)
{
    switch (code) {
    case CL_DEVICE_NOT_AVAILABLE:
        return "device not available";
    case CL_COMPILER_NOT_AVAILABLE:
        return "no compiler";
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
        return "memory allocation failed";
    case CL_OUT_OF_RESOURCES:
        return "out of resources";
    case CL_OUT_OF_HOST_MEMORY:
        return "out of host memory";
    case CL_BUILD_PROGRAM_FAILURE:
        return "build failure";
    case CL_INVALID_BUFFER_SIZE:
        return "invalid buffer size";
    case CL_INVALID_WORK_GROUP_SIZE:
        return "invalid work-group size";
    case CL_INVALID_KERNEL_ARGS:
        return "invalid kernel arguments";
    default:
        return "OpenCL error";
    }
}

gb_status gb_cl_fail(gb_backend_device *dev, gb_error *err, cl_int code, const char *doing)
{
    bool memory = code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_HOST_MEMORY ||
                  code == CL_INVALID_BUFFER_SIZE;
    if (memory)
        return gb_fail(err, GB_OUT_OF_MEMORY, "opencl", "use a smaller batch or model",
                       "%s: %s (%d)", doing, gb_cl_error_name(code), code);
    dev->lost = true;
    return gb_fail(err, GB_DEVICE, "opencl", "see whether the driver works with clinfo",
                   "%s: %s (%d)", doing, gb_cl_error_name(code), code);
}

/* --- devices --- */

/* All devices of all platforms, in the loader's order; returns how many. */
static int list_devices(cl_device_id *id, cl_platform_id *platform, int cap, int *platforms)
{
    cl_platform_id p[16];
    cl_uint n_platforms = 0;
    int n = 0;
    if (clGetPlatformIDs(16, p, &n_platforms)) n_platforms = 0;
    if (n_platforms > 16) n_platforms = 16;
    for (cl_uint i = 0; i < n_platforms && n < cap; i++) {
        cl_uint found = 0;
        if (clGetDeviceIDs(p[i], CL_DEVICE_TYPE_ALL, (cl_uint)(cap - n), id + n, &found)) continue;
        if (found > (cl_uint)(cap - n)) found = (cl_uint)(cap - n);
        for (cl_uint k = 0; k < found; k++) platform[n++] = p[i];
    }
    *platforms = (int)n_platforms;
    return n;
}

static void info_text(cl_device_id id, cl_device_info what, char *text, size_t size)
{
    char *all = NULL;
    size_t bytes = 0;
    text[0] = 0;
    if (clGetDeviceInfo(id, what, 0, NULL, &bytes) || !(all = calloc(bytes + 1, 1))) return;
    if (!clGetDeviceInfo(id, what, bytes, all, NULL)) snprintf(text, size, "%s", all);
    free(all);
}

static uint64_t info_number(cl_device_id id, cl_device_info what)
{
    uint64_t v = 0; /* little-endian: shorter values fill the low bytes */
    return clGetDeviceInfo(id, what, sizeof v, &v, NULL) ? 0 : v;
}

static bool has_extension(cl_device_id id, const char *name)
{
    char list[8192];
    info_text(id, CL_DEVICE_EXTENSIONS, list, sizeof list);
    return strstr(list, name) != NULL;
}

#ifndef CL_DEVICE_UUID_KHR
#define CL_DEVICE_UUID_KHR 0x106A
#endif

static void describe(cl_device_id id, cl_platform_id platform, int index, gb_device_info *d)
{
    *d = (gb_device_info){.kind = GB_DEVICE_DISCRETE};
    snprintf(d->id, sizeof d->id, "opencl:%d", index);
    snprintf(d->backend, sizeof d->backend, "opencl");
    info_text(id, CL_DEVICE_NAME, d->name, sizeof d->name);
    if (clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof d->driver, d->driver, NULL))
        snprintf(d->driver, sizeof d->driver, "OpenCL");
    info_text(id, CL_DRIVER_VERSION, d->version, sizeof d->version);
    if (info_number(id, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU)
        d->kind = GB_DEVICE_SOFTWARE;
    else if (info_number(id, CL_DEVICE_HOST_UNIFIED_MEMORY))
        d->kind = GB_DEVICE_INTEGRATED;
    d->memory_bytes = info_number(id, CL_DEVICE_GLOBAL_MEM_SIZE);
    d->max_buffer_bytes = info_number(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    d->cores = (int)info_number(id, CL_DEVICE_MAX_COMPUTE_UNITS);
    d->vector_width = (int)info_number(id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT);
    if (has_extension(id, "cl_khr_device_uuid"))
        clGetDeviceInfo(id, CL_DEVICE_UUID_KHR, sizeof d->uuid, d->uuid, NULL);
    d->usable = info_number(id, CL_DEVICE_AVAILABLE) &&
                info_number(id, CL_DEVICE_COMPILER_AVAILABLE) &&
                info_number(id, CL_DEVICE_ENDIAN_LITTLE);
    if (!d->usable)
        snprintf(d->reason, sizeof d->reason,
                 "the driver says that the device or its compiler is not available");
}

static void fill_caps(gb_backend_device *dev, const gb_backend_options *o)
{
    gb_gpu_caps *c = &dev->caps;
    size_t items[8] = {1, 1, 1};
    clGetDeviceInfo(dev->id, CL_DEVICE_MAX_WORK_ITEM_SIZES, sizeof items, items, NULL);
    *c = (gb_gpu_caps){
        .api = GB_GPU_OPENCL,
        .cpu_hosted = info_number(dev->id, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU,
        .vector_width = (int)info_number(dev->id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT),
        .compute_units = (int)info_number(dev->id, CL_DEVICE_MAX_COMPUTE_UNITS),
        .storage16 = true, /* vload_half and shorts are in the core language */
        .max_local = (uint32_t)info_number(dev->id, CL_DEVICE_MAX_WORK_GROUP_SIZE),
        .local_memory = (uint32_t)info_number(dev->id, CL_DEVICE_LOCAL_MEM_SIZE),
        .max_params = 640, /* of the 1024 bytes of arguments that every device takes */
        .max_binding = info_number(dev->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE),
        .variant = dev->variant,
        .apart = gb_gpu_launch_word(o, "apart"),
        .elsewhere = gb_cl_blast_wanted,
    };
    for (int d = 0; d < 3; d++) {
        c->max_local_dim[d] = (uint32_t)items[d];
        c->max_groups[d] = 1u << 20; /* the API has no limit; keep global sizes below 2^31 */
    }
    bool exact =
        info_number(dev->id, CL_DEVICE_SINGLE_FP_CONFIG) & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
    snprintf(dev->build_options, sizeof dev->build_options, "-w%s", /* PoCL prints warnings */
             exact ? " -cl-fp32-correctly-rounded-divide-sqrt" : "");
}

static gb_hash identify(const gb_backend_device *dev, cl_platform_id platform)
{
    gb_device_info d;
    char version[128] = "";
    gb_hash h = GB_HASH_INIT;
    describe(dev->id, platform, 0, &d);
    clGetPlatformInfo(platform, CL_PLATFORM_VERSION, sizeof version - 1, version, NULL);
    gb_hash_text(&h, d.name);
    gb_hash_text(&h, d.driver);
    gb_hash_text(&h, d.version);
    gb_hash_text(&h, version);
    gb_hash_text(&h, dev->build_options);
    return h;
}

static bool is_platform(cl_platform_id platform, const char *known)
{
    char name[128] = "";
    clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name - 1, name, NULL);
    return strcmp(name, known) == 0;
}

static void device_close(gb_backend_device *dev)
{
    if (!dev) return;
    if (dev->queue) clFinish(dev->queue);
    gb_cl_uploads_close(dev);
    for (int i = 0; i < dev->n_kernels; i++) {
        clReleaseProgram(dev->kernel[i].program);
        free(dev->kernel[i].source);
    }
    if (dev->timing) clReleaseCommandQueue(dev->timing);
    if (dev->queue) clReleaseCommandQueue(dev->queue);
    if (dev->blast_used) gb_cl_blast_forget();
    if (dev->context) clReleaseContext(dev->context);
    free(dev->recorder);
    free(dev->kernel);
    free(dev->cache_dir);
    free(dev->variant);
    free(dev);
}

static gb_status copy_options(gb_backend_device *dev, const gb_backend_options *o, gb_error *err)
{
    if (o && o->cache_dir && o->cache_dir[0]) dev->cache_dir = strdup(o->cache_dir);
    if (o && o->variant) dev->variant = strdup(o->variant);
    bool ok = (!(o && o->cache_dir && o->cache_dir[0]) || dev->cache_dir) &&
              (!(o && o->variant) || dev->variant);
    return ok ? GB_OK : gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a device");
}

/* All of a device that needs no context, which takes drivers a while. */
static gb_status device_make(const gb_backend_options *o, cl_device_id id, cl_platform_id platform,
                             gb_backend_device **out, gb_error *err)
{
    gb_backend_device *dev = calloc(1, sizeof *dev);
    *out = NULL;
    if (!dev) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a device");
    dev->id = id;
    gb_status s = copy_options(dev, o, err);
    if (s != GB_OK) {
        device_close(dev);
        return s;
    }
    fill_caps(dev, o);
    dev->identity = identify(dev, platform);
    dev->keeps_binaries = is_platform(platform, "Portable Computing Language");
    dev->builds_alone = dev->keeps_binaries || is_platform(platform, "Oclgrind");
    *out = dev;
    return GB_OK;
}

static gb_status make_context(gb_backend_device *dev, gb_error *err)
{
    cl_int code = CL_SUCCESS;
    dev->context = clCreateContext(NULL, 1, &dev->id, NULL, NULL, &code);
    if (!code) dev->queue = clCreateCommandQueue(dev->context, dev->id, 0, &code);
    if (code) return gb_cl_fail(dev, err, code, "opening the device");
    if (dev->keeps_binaries) gb_cl_pin_threads(dev); /* PoCL */
    return GB_OK;
}

/* What kernels may use beyond OpenCL C 1.2, as the driver says. */
static void claim(gb_backend_device *dev)
{
    dev->caps.shuffle = has_extension(dev->id, "cl_intel_subgroups") ||
                        (has_extension(dev->id, "cl_khr_subgroup_shuffle") &&
                         has_extension(dev->id, "cl_khr_subgroup_ballot"));
    dev->caps.half_math = has_extension(dev->id, "cl_khr_fp16");
}

/* Drivers on CPUs gain nothing by them, and Intel's keeps memory for every run of one: see
 * docs/decisions/0014-recorded-launches.md. */
static bool wants_recordings(const gb_backend_device *dev, const gb_backend_options *o)
{
    return !gb_gpu_launch_word(o, "enqueued") &&
           (!dev->caps.cpu_hosted || gb_gpu_launch_word(o, "recorded"));
}

/* Only where data has a way to go. */
static bool wants_uploads(const gb_backend_device *dev, const gb_backend_options *o)
{
    const bool far = !dev->caps.cpu_hosted && !info_number(dev->id, CL_DEVICE_HOST_UNIFIED_MEMORY);
    return !gb_gpu_launch_word(o, "behind") && (far || gb_gpu_launch_word(o, "beside"));
}

static gb_status open_plainly(const gb_backend_options *o, int index, gb_backend_device **out,
                              gb_error *err)
{
    cl_device_id id[MAX_DEVICES];
    cl_platform_id platform[MAX_DEVICES];
    int platforms, n = list_devices(id, platform, MAX_DEVICES, &platforms);
    *out = NULL;
    if (index < 0 || index >= n)
        return gb_fail(err, GB_NOT_FOUND, "opencl", "list them with: gimbal devices",
                       "there are %d OpenCL devices", n);
    gb_backend_device *dev;
    gb_status s = device_make(o, id[index], platform[index], &dev, err);
    if (s == GB_OK) s = make_context(dev, err);
    if (s == GB_OK && wants_recordings(dev, o)) gb_cl_recorder_open(dev, platform[index]);
    if (s == GB_OK && wants_uploads(dev, o)) gb_cl_uploads_open(dev);
    if (s == GB_OK)
        *out = dev;
    else
        device_close(dev);
    return s;
}

static gb_status open_as_said(const gb_backend_options *o, int index, gb_backend_device **out,
                              gb_error *err)
{
    gb_status s = open_plainly(o, index, out, err);
    if (s == GB_OK) claim(*out);
    return s;
}

static gb_status device_open(const gb_backend_options *o, int index, gb_backend_device **out,
                             gb_error *err)
{
    gb_status s = open_as_said(o, index, out, err);
    if (s == GB_OK)
        gb_gpu_probe_caps(&gb_opencl_backend, o, index, open_as_said, (*out)->identity,
                          &(*out)->caps);
    return s;
}

/* What the probe found, kept on disk: its kernels take a tenth of a second even where they exist. */
static gb_status probe(gb_backend_device *dev, uint32_t *dtypes, gb_error *err)
{
    gb_hash key = dev->identity;
    void *kept;
    size_t bytes;
    gb_hash_text(&key, gb_opencl_backend.kernels);
    if (gb_cache_load(dev->cache_dir, "probe", key, &kept, &bytes)) {
        bool good = bytes == sizeof *dtypes;
        if (good) memcpy(dtypes, kept, sizeof *dtypes);
        free(kept);
        if (good) return GB_OK;
    }
    gb_status s = make_context(dev, err);
    if (s == GB_OK) s = gb_gpu_probe(&gb_opencl_backend, dev, dtypes, err);
    if (s == GB_OK && dev->cache_dir)
        gb_cache_store(dev->cache_dir, "probe", key, dtypes, sizeof *dtypes);
    return s;
}

static gb_status enumerate(const gb_backend_options *o, gb_device_info *out, int cap, int *n,
                           char *reason, size_t reason_size)
{
    cl_device_id id[MAX_DEVICES];
    cl_platform_id platform[MAX_DEVICES];
    int platforms, found = list_devices(id, platform, MAX_DEVICES, &platforms);
    *n = found < cap ? found : cap;
    for (int i = 0; i < *n; i++) {
        describe(id[i], platform[i], i, &out[i]);
        gb_backend_device *dev = NULL;
        gb_error err = {0};
        if (out[i].usable && device_make(o, id[i], platform[i], &dev, &err) == GB_OK &&
            probe(dev, &out[i].dtypes, &err) == GB_OK) {
            device_close(dev);
            continue;
        }
        device_close(dev);
        out[i].usable = false;
        if (err.message[0]) snprintf(out[i].reason, sizeof out[i].reason, "%.190s", err.message);
    }
    if (*n == 0)
        snprintf(reason, reason_size, "%s",
                 platforms ? "the installed OpenCL drivers have no device"
                           : "no OpenCL driver is installed (Debian: pocl-opencl-icd)");
    return GB_OK;
}

/* --- buffers --- */

static gb_status buffer_create(gb_backend_device *dev, uint64_t bytes, gb_backend_buffer **buf,
                               gb_error *err)
{
    *buf = NULL;
    gb_backend_buffer *b = calloc(1, sizeof *b);
    if (!b) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a buffer");
    cl_int code;
    b->bytes = bytes;
    b->mem = clCreateBuffer(dev->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (code) {
        free(b);
        return gb_cl_fail(dev, err, code, "allocating a buffer");
    }
    *buf = b;
    return GB_OK;
}

static void buffer_destroy(gb_backend_device *dev, gb_backend_buffer *buf)
{
    (void)dev;
    if (!buf) return;
    clReleaseMemObject(buf->mem);
    free(buf);
}

static void CL_CALLBACK free_staging(cl_event event, cl_int status, void *data)
{
    (void)event;
    (void)status;
    free(data);
}

/* A copy of src lets the host go on while earlier work still runs. */
static cl_int write_staged(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                           uint64_t bytes, void *copy)
{
    cl_event event;
    cl_int code =
        clEnqueueWriteBuffer(dev->queue, buf->mem, CL_FALSE, offset, bytes, copy, 0, NULL, &event);
    if (code) {
        free(copy);
        return code;
    }
    if (clSetEventCallback(event, CL_COMPLETE, free_staging, copy)) {
        code = clWaitForEvents(1, &event);
        free(copy);
    }
    clReleaseEvent(event);
    return code;
}

static gb_status buffer_write(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                              uint64_t bytes, const void *src, gb_error *err)
{
    cl_int code = CL_SUCCESS;
    if (gb_cl_upload(dev, buf->mem, offset, bytes, src, &code))
        return code ? gb_cl_fail(dev, err, code, "writing to the device") : GB_OK;
    void *copy = bytes <= (16u << 20) ? malloc(bytes) : NULL;
    if (copy) {
        memcpy(copy, src, bytes);
        code = write_staged(dev, buf, offset, bytes, copy);
    } else {
        code =
            clEnqueueWriteBuffer(dev->queue, buf->mem, CL_TRUE, offset, bytes, src, 0, NULL, NULL);
    }
    return code ? gb_cl_fail(dev, err, code, "writing to the device") : GB_OK;
}

static gb_status buffer_read(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                             uint64_t bytes, void *dst, gb_error *err)
{
    cl_int code =
        clEnqueueReadBuffer(dev->queue, buf->mem, CL_TRUE, offset, bytes, dst, 0, NULL, NULL);
    return code ? gb_cl_fail(dev, err, code, "reading from the device") : GB_OK;
}

/* --- the rest of the table --- */

static void query(gb_backend_device *dev, const gb_step *step, gb_answer *answer)
{
    if (!gb_cl_blast_wanted(step)) {
        gb_gpu_query(&dev->caps, step, answer);
        return;
    }
    *answer = (gb_answer){.ok = gb_cl_blast_offer(step) != NULL};
    snprintf(answer->ok ? answer->variant : answer->reason, sizeof answer->variant, "%s",
             answer->ok ? step->variant : "CLBlast cannot do this product");
}

static int variants(gb_backend_device *dev, const gb_step *step, const char **name, int cap)
{
    int n = gb_gpu_variants(&dev->caps, step, name, cap);
    const char *blast = gb_cl_blast_offer(step);
    if (blast && n < cap) name[n++] = blast;
    return n;
}

static gb_status device_wait(gb_backend_device *dev, gb_error *err)
{
    cl_int code = clFinish(dev->queue);
    return code ? gb_cl_fail(dev, err, code, "waiting for the device") : GB_OK;
}

static bool device_lost(gb_backend_device *dev)
{
    return dev->lost;
}

const gb_backend gb_opencl_backend = {
    .name = "opencl",
    .kernels = gb_kernels_opencl,
    .enumerate = enumerate,
    .open = device_open,
    .close = device_close,
    .buffer_create = buffer_create,
    .buffer_destroy = buffer_destroy,
    .buffer_write = buffer_write,
    .buffer_read = buffer_read,
    .query = query,
    .variants = variants,
    .program_create = gb_cl_program_create,
    .program_destroy = gb_cl_program_destroy,
    .program_bind = gb_cl_program_bind,
    .program_renew = gb_cl_program_renew,
    .program_run = gb_cl_program_run,
    .program_time = gb_cl_program_time,
    .program_kernels = gb_cl_program_kernels,
    .wait = device_wait,
    .lost = device_lost,
    .peak = gb_cl_peak,
};
