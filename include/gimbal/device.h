/* Contexts and devices.
 *
 * A context owns everything; two contexts in one process do not know of each other. A context may
 * be used by several threads; a device, its stores and its programs by one thread at a time. */
#ifndef GIMBAL_DEVICE_H
#define GIMBAL_DEVICE_H

#include <gimbal/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gb_device_kind {
    GB_DEVICE_CPU,        /* the CPU backend, and the reference */
    GB_DEVICE_INTEGRATED, /* a GPU that shares the host's memory */
    GB_DEVICE_DISCRETE,
    GB_DEVICE_SOFTWARE /* a GPU driver that runs on the CPU; never chosen by "auto" */
} gb_device_kind;

typedef struct gb_device_info {
    char id[32]; /* "cpu", "opencl:0", "vulkan:0", "reference", "null" */
    char backend[16];
    char name[128];
    char driver[128];
    char version[64];
    gb_device_kind kind;
    uint64_t memory_bytes;
    uint64_t max_buffer_bytes; /* largest single allocation that a kernel can reach */
    uint32_t dtypes;           /* bit 1u << gb_dtype: storage types that were run and work */
    bool usable;
    char reason[200];  /* why it is not usable */
    char same_as[32];  /* id of a device listed earlier that is the same hardware; or "" */
    uint8_t uuid[16];  /* of the hardware, zero if unknown */
    int cores;         /* compute units, 0 if unknown */
    int vector_width;  /* native float vector width, 0 if unknown */
} gb_device_info;

typedef struct gb_context gb_context;
typedef struct gb_device gb_device;

typedef struct gb_context_options { /* zero-initialized: the defaults */
    int threads;           /* threads of the CPU backend; 0: a thread a core that it may use */
    const char *cache_dir; /* kernel and tuning caches; NULL: $XDG_CACHE_HOME/gimbal; "": none */
    const char *isa;       /* CPU instruction set: "scalar", "avx2", "avx512"; NULL: the best */
    const char *variant;   /* prefer kernel variants whose name contains this; NULL: the default */
    /* How GPU backends start kernels, for tests and drivers in trouble; NULL: $GIMBAL_LAUNCH, else
     * the default. Results are the same. Words: "apart": each step its own, none joined. OpenCL:
     * "recorded" or "enqueued": launches go to the driver once, or one by one in each run; "beside"
     * or "behind": data goes up while kernels run, or after those before it. */
    const char *launch;
    bool validate;         /* Vulkan validation layers: a message fails the call */
    bool no_tuning;        /* take the defaults, whatever was tuned */
    /* Threads of the CPU backend stay wherever the system puts them. Else those that share a
     * processor are moved to one, of those that the process may use, that has been idle. */
    bool no_placing;
} gb_context_options;

/* options may be NULL. Errors: OUT_OF_MEMORY. Free with gb_context_destroy after all devices. */
GB_API gb_status gb_context_create(const gb_context_options *options, gb_context **ctx,
                                   gb_error *err);
GB_API void gb_context_destroy(gb_context **ctx);

/* All devices of all backends, enumerated at the first call. Owned by the context. */
GB_API gb_status gb_context_devices(gb_context *ctx, const gb_device_info **devices, int *n,
                                    gb_error *err);
/* Backends that have no device: name and one-line reason, for i from 0 while it returns true. */
GB_API bool gb_context_missing(gb_context *ctx, int i, const char **backend, const char **reason);

/* Opens "cpu", "opencl:N", "vulkan:N", "reference", "null" or "auto" (the fastest real device).
 * Errors: NOT_FOUND (the hint lists the devices there are), DEVICE. */
GB_API gb_status gb_device_open(gb_context *ctx, const char *id, gb_device **dev, gb_error *err);
GB_API void gb_device_close(gb_device **dev);
GB_API const gb_device_info *gb_device_get_info(const gb_device *dev);
/* Waits until all enqueued work is done. Errors: DEVICE. */
GB_API gb_status gb_device_wait(gb_device *dev, gb_error *err);
/* Measures the device's peaks of arithmetic and memory traffic, in a few tenths of a second.
 * Errors: UNSUPPORTED (the backend does not measure them), DEVICE. */
GB_API gb_status gb_device_peak(gb_device *dev, double *gflops, double *gb_per_s, gb_error *err);
/* Bytes of the buffers that stores and programs hold on the device, and the most there ever were.
 * Both may be NULL. */
GB_API void gb_device_memory(const gb_device *dev, uint64_t *now, uint64_t *peak);

#ifdef __cplusplus
}
#endif
#endif
