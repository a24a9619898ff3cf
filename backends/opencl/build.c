/* Building kernels, and the cache of their binaries. */
#include "backends/opencl/opencl.h"

#include <stdlib.h>
#include <string.h>

static gb_hash binary_key(const gb_backend_device *dev, const gb_gpu_kernel *k)
{
    gb_hash key = dev->identity;
    gb_hash_text(&key, k->source);
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

static gb_status build_failed(gb_backend_device *dev, const gb_gpu_kernel *k, cl_program program,
                              cl_int code, gb_error *err)
{
    char *log = NULL;
    size_t bytes = 0;
    if (!clGetProgramBuildInfo(program, dev->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes))
        log = calloc(bytes + 1, 1);
    if (log) clGetProgramBuildInfo(program, dev->id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL);
    gb_status s =
        gb_fail(err, GB_DEVICE, k->name,
                "the driver's compiler refused a kernel: try another driver version",
                "kernel build failed (%s): %.600s", gb_cl_error_name(code), log ? log : "");
    free(log);
    return s;
}

static gb_status from_source(gb_backend_device *dev, const gb_gpu_kernel *k, cl_program *program,
                             gb_error *err)
{
    cl_int code;
    cl_program p =
        clCreateProgramWithSource(dev->context, 1, (const char **)&k->source, NULL, &code);
    if (!p) return gb_cl_fail(dev, err, code, "creating a program");
    code = clBuildProgram(p, 1, &dev->id, dev->build_options, NULL, NULL);
    if (code) {
        gb_status s = build_failed(dev, k, p, code, err);
        clReleaseProgram(p);
        return s;
    }
    *program = p;
    return GB_OK;
}

static gb_status remember(gb_backend_device *dev, const gb_gpu_kernel *k, cl_program program,
                          gb_error *err)
{
    if (dev->n_kernels == dev->cap_kernels) {
        int cap = dev->cap_kernels ? dev->cap_kernels * 2 : 32;
        gb_cl_kernel *more = realloc(dev->kernel, (size_t)cap * sizeof *more);
        if (!more) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a kernel");
        dev->kernel = more;
        dev->cap_kernels = cap;
    }
    char *source = strdup(k->source);
    if (!source) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a kernel");
    dev->kernel[dev->n_kernels++] =
        (gb_cl_kernel){.hash = k->hash, .source = source, .program = program};
    return GB_OK;
}

gb_status gb_cl_build(gb_backend_device *dev, const gb_gpu_kernel *k, cl_program *program,
                      gb_error *err)
{
    for (int i = 0; i < dev->n_kernels; i++) {
        if (dev->kernel[i].hash == k->hash && strcmp(dev->kernel[i].source, k->source) == 0) {
            *program = dev->kernel[i].program;
            return GB_OK;
        }
    }
    gb_hash key = binary_key(dev, k);
    *program = from_cache(dev, key);
    if (!*program) {
        gb_status s = from_source(dev, k, program, err);
        if (s != GB_OK) return s;
        keep_binary(dev, key, *program);
    }
    gb_status s = remember(dev, k, *program, err);
    if (s != GB_OK) {
        clReleaseProgram(*program);
        *program = NULL;
    }
    return s;
}
