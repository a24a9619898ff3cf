/* The OpenCL driver: devices, buffers, queues, programs. Version 1.2 of the API only. */
#ifndef GB_BACKENDS_OPENCL_H
#define GB_BACKENDS_OPENCL_H

#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_1_APIS
#include <CL/cl.h>

#include "backends/gpu/gpu.h"
#include "core/base/cache.h"

typedef struct gb_cl_kernel { /* shared by the device's programs */
    uint64_t hash;
    char *source;
    cl_program program; /* of several kernels; each of them holds it */
    char entry[24];
} gb_cl_kernel;

typedef struct gb_cl_uploads gb_cl_uploads;
typedef struct gb_cl_recorder gb_cl_recorder;
typedef struct _cl_command_buffer_khr *gb_cl_recording;

struct gb_backend_device {
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    cl_command_queue timing;  /* with profiling; made at the first program_time */
    gb_cl_recorder *recorder; /* NULL: launches are enqueued one by one */
    gb_cl_uploads *uploads;   /* NULL: they wait for the kernels before them */
    gb_gpu_caps caps;
    char *cache_dir, *variant;
    char build_options[64];
    gb_hash identity; /* device, driver and options: what a cached binary is good for */
    gb_cl_kernel *kernel;
    int n_kernels, cap_kernels;
    bool keeps_binaries; /* the driver has a cache of its own: see keep_binary */
    bool builds_alone;   /* no two programs at once */
    bool lost, blast_used;
};

struct gb_backend_buffer {
    cl_mem mem;
    uint64_t bytes;
};

const char *gb_cl_error_name(cl_int code);
/* Turns a failed call into an error; out of memory is told from the rest. */
gb_status gb_cl_fail(gb_backend_device *dev, gb_error *err, cl_int code, const char *doing);

/* built[i] for kernel[i]: from the device's list, the cache on disk, or its source. What built
 * points to is the device's. */
gb_status gb_cl_build(gb_backend_device *dev, const gb_gpu_kernel *kernel, int n,
                      gb_cl_kernel *built, gb_error *err);

/* Binds each thread of a driver on CPUs to a processor, where the driver can tell them apart. */
void gb_cl_pin_threads(gb_backend_device *dev);

gb_status gb_cl_program_create(gb_backend_device *dev, const gb_plan *plan,
                               gb_backend_program **prog, gb_error *err);
void gb_cl_program_destroy(gb_backend_program *prog);
gb_status gb_cl_program_bind(gb_backend_program *prog, gb_backend_buffer *const *buffers,
                             gb_error *err);
void gb_cl_program_renew(gb_backend_program *prog);
gb_status gb_cl_program_run(gb_backend_program *prog, gb_error *err);
gb_status gb_cl_program_time(gb_backend_program *prog, gb_span *span, gb_error *err);
int gb_cl_program_kernels(const gb_backend_program *prog);
int gb_cl_program_recorded(const gb_backend_program *prog); /* launches, as bound last */
gb_status gb_cl_peak(gb_backend_device *dev, gb_peak *peak, gb_error *err);

/* --- uploads beside kernels (upload.c) --- */
void gb_cl_uploads_open(gb_backend_device *dev); /* fills in dev->uploads where it can */
void gb_cl_uploads_close(gb_backend_device *dev);
/* Consumes src; ordered as the main queue is. False: it is for the main queue alone. */
bool gb_cl_upload(gb_backend_device *dev, cl_mem to, uint64_t offset, uint64_t bytes,
                  const void *src, cl_int *code);

/* --- launches recorded once (record.c) --- */
/* Fills in dev->recorder where the driver can, found out by a small recording. */
void gb_cl_recorder_open(gb_backend_device *dev, cl_platform_id platform);
gb_cl_recording gb_cl_record_begin(gb_backend_device *dev); /* NULL: it cannot be */
/* The kernel's arguments are those that it has now. False: the recording is good for nothing. */
bool gb_cl_record_launch(gb_backend_device *dev, gb_cl_recording r, cl_kernel kernel,
                         const size_t *global, const size_t *local);
bool gb_cl_record_end(gb_backend_device *dev, gb_cl_recording r);
cl_int gb_cl_recording_enqueue(gb_backend_device *dev, gb_cl_recording r);
void gb_cl_recording_free(gb_backend_device *dev, gb_cl_recording r); /* NULL is allowed */

/* --- products by CLBlast (blast.c, where this build has it) --- */
typedef struct gb_cl_blast {
    int step;
    bool row_major, transposed[2];
    size_t m, n, k, pitch[3], offset[3]; /* of a, b, c; counted in floats */
    int buffer[3];
    cl_mem mem[3]; /* as bound */
} gb_cl_blast;

#ifdef GB_HAVE_CLBLAST
bool gb_cl_blast_wanted(const gb_step *step);       /* by its variant */
const char *gb_cl_blast_offer(const gb_step *step); /* the variant's name; NULL: it cannot */
void gb_cl_blast_make(const gb_step *step, int index, gb_cl_blast *x);
cl_int gb_cl_blast_enqueue(const gb_cl_blast *x, cl_command_queue queue);
void gb_cl_blast_forget(void); /* at the end of a context */
#else
static inline bool gb_cl_blast_wanted(const gb_step *step)
{
    return false;
}
static inline const char *gb_cl_blast_offer(const gb_step *step)
{
    return NULL;
}
static inline void gb_cl_blast_make(const gb_step *step, int index, gb_cl_blast *x) {}
static inline cl_int gb_cl_blast_enqueue(const gb_cl_blast *x, cl_command_queue queue)
{
    return CL_SUCCESS;
}
static inline void gb_cl_blast_forget(void) {}
#endif

extern const gb_backend gb_opencl_backend;

#endif
