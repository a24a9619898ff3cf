/* Building kernels, and the cache of their binaries. */
#include "backends/opencl/opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct cache_header {
    char magic[8];
    uint64_t key, bytes, check;
} cache_header;

static const char magic[8] = "gbocl 1";

static void cache_path(const gb_backend_device *dev, uint64_t key, char *path, size_t size)
{
    snprintf(path, size, "%s/opencl-%016llx.bin", dev->cache_dir, (unsigned long long)key);
}

static unsigned char *read_cached(const gb_backend_device *dev, uint64_t key, size_t *bytes)
{
    char path[1024];
    cache_path(dev, key, path, sizeof path);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    cache_header h;
    struct stat st;
    unsigned char *data = NULL;
    if (fread(&h, sizeof h, 1, f) == 1 && memcmp(h.magic, magic, sizeof magic) == 0 &&
        h.key == key && fstat(fileno(f), &st) == 0 && st.st_size > (off_t)sizeof h &&
        h.bytes == (uint64_t)st.st_size - sizeof h)
        data = malloc(h.bytes);
    if (data && (fread(data, h.bytes, 1, f) != 1 || gb_gpu_hash(data, h.bytes, key) != h.check)) {
        free(data);
        data = NULL;
    }
    fclose(f);
    if (data) *bytes = h.bytes;
    return data;
}

/* The cache is a convenience: where it cannot be written, nothing is said. */
static void write_cached(const gb_backend_device *dev, uint64_t key, const unsigned char *data,
                         size_t bytes)
{
    char path[1024], temporary[1040];
    cache_path(dev, key, path, sizeof path);
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    mkdir(dev->cache_dir, 0700);
    int fd = mkstemp(temporary);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (!f) {
        if (fd >= 0) close(fd), unlink(temporary);
        return;
    }
    cache_header h = {.key = key, .bytes = bytes, .check = gb_gpu_hash(data, bytes, key)};
    memcpy(h.magic, magic, sizeof magic);
    bool ok = fwrite(&h, sizeof h, 1, f) == 1 && fwrite(data, bytes, 1, f) == 1 &&
              fflush(f) == 0 && fsync(fd) == 0;
    ok = fclose(f) == 0 && ok;
    if (!ok || rename(temporary, path) != 0) unlink(temporary);
}

static void keep_binary(const gb_backend_device *dev, uint64_t key, cl_program program)
{
    size_t bytes = 0;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) ||
        bytes == 0)
        return;
    unsigned char *data = malloc(bytes);
    if (data && !clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof data, &data, NULL))
        write_cached(dev, key, data, bytes);
    free(data);
}

static cl_program from_cache(gb_backend_device *dev, uint64_t key)
{
    size_t bytes = 0;
    unsigned char *data = dev->cache_dir ? read_cached(dev, key, &bytes) : NULL;
    if (!data) return NULL;
    cl_int loaded = CL_SUCCESS, code = CL_SUCCESS;
    cl_program program = clCreateProgramWithBinary(dev->context, 1, &dev->id, &bytes,
                                                   (const unsigned char **)&data, &loaded, &code);
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
    gb_status s = gb_fail(err, GB_DEVICE, k->name,
                          "the driver's compiler refused a kernel: try another driver version",
                          "kernel build failed (%s): %.600s", gb_cl_error_name(code),
                          log ? log : "");
    free(log);
    return s;
}

static gb_status from_source(gb_backend_device *dev, const gb_gpu_kernel *k, cl_program *program,
                             gb_error *err)
{
    cl_int code;
    cl_program p = clCreateProgramWithSource(dev->context, 1, (const char **)&k->source, NULL, &code);
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
    uint64_t key = gb_gpu_hash(k->source, strlen(k->source), dev->identity);
    *program = from_cache(dev, key);
    if (!*program) {
        gb_status s = from_source(dev, k, program, err);
        if (s != GB_OK) return s;
        if (dev->cache_dir) keep_binary(dev, key, *program);
    }
    gb_status s = remember(dev, k, *program, err);
    if (s != GB_OK) {
        clReleaseProgram(*program);
        *program = NULL;
    }
    return s;
}
