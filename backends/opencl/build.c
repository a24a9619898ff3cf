/* Building kernels, and the cache of their binaries.
 *
 * The kernels that a program is the first to need are built together: the driver reads what they
 * have in common once, and a warm start looks up one binary instead of fifty. A kernel's text is
 * made to stand alone, so its names are given a suffix here and its macros end with it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/gpu/frame.h"
#include "backends/opencl/opencl.h"

enum { MAX_BATCHES = 8 };

typedef struct gb_cl_batch { /* kernels that become one program */
    gb_backend_device *dev;
    const gb_gpu_kernel *const *kernel;
    int n;
    cl_program program;
    gb_status status;
    gb_error err;
    pthread_t thread;
    bool threaded;
} gb_cl_batch;

/* --- the text of several kernels --- */

static void entry_name(char *name, size_t size, int index)
{
    snprintf(name, size, "gb_kernel_%d", index);
}

static void batch_text(gb_text *t, const gb_cl_batch *b)
{
    static const char *const own[] = {"gb_kernel", "gb_params", "gb_counted"};
    const gb_gpu_kernel *most = b->kernel[0]; /* what kernels share, the longest has */
    for (int i = 1; i < b->n; i++)
        if (b->kernel[i]->shared > most->shared) most = b->kernel[i];
    gb_text_add(t, "%.*s", (int)most->shared, most->source);
    for (int i = 0; i < b->n; i++) {
        const char *source = b->kernel[i]->source + b->kernel[i]->shared;
        for (int k = 0; k < 3; k++) gb_text_add(t, "#define %s %s_%d\n", own[k], own[k], i);
        gb_text_add(t, "%s", source);
        for (int k = 0; k < 3; k++) gb_text_add(t, "#undef %s\n", own[k]);
        gb_text_undefine(t, source);
    }
}

/* --- binaries --- */

static gb_hash binary_key(const gb_backend_device *dev, const char *text)
{
    gb_hash key = dev->identity;
    gb_hash_text(&key, text);
    return key;
}

/* Not where the driver remembers kernels by itself: PoCL does, and compiles a kernel once more, for
 * any work-group size, when it is asked for the binary. */
static void keep_binary(const gb_backend_device *dev, gb_hash key, cl_program program)
{
    size_t bytes = 0;
    if (!dev->cache_dir || dev->keeps_binaries) return;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) ||
        bytes == 0)
        return;
    unsigned char *data = malloc(bytes);
    if (data && !clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof data, &data, NULL))
        gb_cache_store(dev->cache_dir, "opencl", key, data, bytes);
    free(data);
}

/* NULL where the cache has no binary that the driver takes. */
static cl_program from_cache(gb_backend_device *dev, gb_hash key)
{
    void *data;
    size_t bytes;
    if (!gb_cache_load(dev->cache_dir, "opencl", key, &data, &bytes)) return NULL;
    cl_int loaded = CL_SUCCESS, code = CL_SUCCESS;
    const unsigned char *binary = data;
    cl_program program =
        clCreateProgramWithBinary(dev->context, 1, &dev->id, &bytes, &binary, &loaded, &code);
    free(data);
    if (!program) return NULL;
    if (code || loaded || clBuildProgram(program, 1, &dev->id, dev->build_options, NULL, NULL)) {
        clReleaseProgram(program);
        return NULL;
    }
    return program;
}

/* --- building --- */

static gb_status build_failed(gb_backend_device *dev, const char *name, cl_program program,
                              cl_int code, gb_error *err)
{
    char *log = NULL;
    size_t bytes = 0;
    if (!clGetProgramBuildInfo(program, dev->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes))
        log = calloc(bytes + 1, 1);
    if (log) clGetProgramBuildInfo(program, dev->id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL);
    gb_status s = gb_fail(
        err, GB_DEVICE, name, "the driver's compiler refused a kernel: try another driver version",
        "kernel build failed (%s): %.600s", gb_cl_error_name(code), log ? log : "");
    free(log);
    return s;
}

static gb_status from_source(gb_backend_device *dev, const char *name, const char *text,
                             cl_program *program, gb_error *err)
{
    cl_int code;
    cl_program p = clCreateProgramWithSource(dev->context, 1, &text, NULL, &code);
    if (!p) return gb_cl_fail(dev, err, code, "creating a program");
    code = clBuildProgram(p, 1, &dev->id, dev->build_options, NULL, NULL);
    if (code) {
        gb_status s = build_failed(dev, name, p, code, err);
        clReleaseProgram(p);
        return s;
    }
    *program = p;
    return GB_OK;
}

static void *build_batch(void *argument)
{
    gb_cl_batch *b = argument;
    gb_text text = {0};
    batch_text(&text, b);
    if (text.failed) {
        b->status = gb_fail(&b->err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a kernel's text");
    } else {
        gb_hash key = binary_key(b->dev, text.data);
        b->program = from_cache(b->dev, key);
        if (!b->program) {
            b->status = from_source(b->dev, b->kernel[0]->name, text.data, &b->program, &b->err);
            if (b->status == GB_OK) keep_binary(b->dev, key, b->program);
        }
    }
    gb_text_free(&text);
    return NULL;
}

/* --- the device's list --- */

static const gb_cl_kernel *known(const gb_backend_device *dev, const gb_gpu_kernel *k)
{
    for (int i = 0; i < dev->n_kernels; i++)
        if (dev->kernel[i].hash == k->hash && strcmp(dev->kernel[i].source, k->source) == 0)
            return &dev->kernel[i];
    return NULL;
}

static gb_status remember(gb_backend_device *dev, const gb_gpu_kernel *k, cl_program program,
                          int index, gb_error *err)
{
    if (dev->n_kernels == dev->cap_kernels) {
        int cap = dev->cap_kernels ? dev->cap_kernels * 2 : 64;
        gb_cl_kernel *more = realloc(dev->kernel, (size_t)cap * sizeof *more);
        if (!more) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a kernel");
        dev->kernel = more;
        dev->cap_kernels = cap;
    }
    gb_cl_kernel one = {.hash = k->hash, .source = strdup(k->source), .program = program};
    if (!one.source) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a kernel");
    entry_name(one.entry, sizeof one.entry, index);
    clRetainProgram(program);
    dev->kernel[dev->n_kernels++] = one;
    return GB_OK;
}

static gb_status take_batch(gb_cl_batch *b, gb_error *err)
{
    gb_status s = b->status;
    if (s != GB_OK && err) *err = b->err;
    for (int i = 0; i < b->n && s == GB_OK; i++)
        s = remember(b->dev, b->kernel[i], b->program, i, err);
    if (b->program) clReleaseProgram(b->program);
    return s;
}

/* PoCL compiles under one lock, and reads what kernels share again for each program: one batch.
 * Other drivers get a thread for each batch. */
static gb_status build_all(gb_backend_device *dev, const gb_gpu_kernel *const *kernel, int n,
                           gb_error *err)
{
    gb_cl_batch batch[MAX_BATCHES];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int batches = dev->builds_alone || cores < 1 ? 1
                  : cores < MAX_BATCHES            ? (int)cores
                                                   : MAX_BATCHES;
    if (batches > n) batches = n;
    for (int i = 0, first = 0; i < batches; i++) {
        int next = (int)((int64_t)n * (i + 1) / batches);
        batch[i] = (gb_cl_batch){.dev = dev, .kernel = kernel + first, .n = next - first};
        first = next;
        batch[i].threaded =
            i + 1 < batches && pthread_create(&batch[i].thread, NULL, build_batch, &batch[i]) == 0;
        if (!batch[i].threaded) build_batch(&batch[i]);
    }
    gb_status s = GB_OK;
    for (int i = 0; i < batches; i++) {
        if (batch[i].threaded) pthread_join(batch[i].thread, NULL);
        gb_status one = take_batch(&batch[i], s == GB_OK ? err : NULL);
        if (s == GB_OK) s = one;
    }
    return s;
}

gb_status gb_cl_build(gb_backend_device *dev, const gb_gpu_kernel *kernel, int n,
                      gb_cl_kernel *built, gb_error *err)
{
    const gb_gpu_kernel **fresh = calloc((size_t)n + 1, sizeof *fresh);
    if (!fresh) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for kernels");
    int missing = 0;
    for (int i = 0; i < n; i++)
        if (!known(dev, &kernel[i])) fresh[missing++] = &kernel[i];
    gb_status s = missing ? build_all(dev, fresh, missing, err) : GB_OK;
    /* One by one where they do not go together, and to name the one that the driver refuses. */
    if (s == GB_DEVICE && missing > 1 && !dev->lost) {
        s = GB_OK;
        for (int i = 0; i < missing && s == GB_OK; i++)
            if (!known(dev, fresh[i])) s = build_all(dev, &fresh[i], 1, err);
    }
    for (int i = 0; i < n && s == GB_OK; i++) built[i] = *known(dev, &kernel[i]);
    free(fresh);
    return s;
}
