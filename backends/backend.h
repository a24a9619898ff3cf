/* The one interface that a device must offer.
 *
 * The runtime validates every argument once, above this table; backends trust what they get. Slots
 * marked optional may be NULL. All functions of one device are called by one thread at a time. */
#ifndef GB_BACKEND_H
#define GB_BACKEND_H

#include <gimbal/device.h>

#include "core/ir/plan.h"

typedef struct gb_backend_device gb_backend_device;   /* each backend defines its own */
typedef struct gb_backend_buffer gb_backend_buffer;
typedef struct gb_backend_program gb_backend_program;

typedef struct gb_backend_options { /* from the context; strings may be NULL */
    int threads;              /* CPU: 0 = all cores */
    const char *cache_dir;    /* kernel binaries, tuning; NULL: no cache */
    const char *isa;          /* CPU: "scalar", "avx2", "avx512"; NULL: the best */
    const char *variant;      /* force implementations whose name contains it (tests); NULL */
    const char *launch;       /* how kernels are started, see gb_context_options; NULL */
    bool validate;            /* Vulkan validation layers on; their messages become errors */
    bool no_placing;          /* CPU: threads run wherever the system puts them */
} gb_backend_options;

typedef struct gb_peak { double gflops, gb_per_s; } gb_peak;

typedef struct gb_span { /* seconds: of work alone; begin: since the run began */
    double begin, seconds;
} gb_span;

typedef struct gb_backend {
    const char *name;
    bool diagnostic; /* reference and null: for checks, never chosen by "auto" */
    /* A name for the sources of what computes: it changes when they do, and choices made by
     * measurement end with it. NULL: there is nothing to choose from. */
    const char *kernels;
    /* Lists devices. Finding none is no failure: *n = 0 and reason says why in one line. The
     * runtime fills backend and same_as, and id where it is empty ("name:index"). */
    gb_status (*enumerate)(const gb_backend_options *o, gb_device_info *out, int cap, int *n,
                           char *reason, size_t reason_size);
    gb_status (*open)(const gb_backend_options *o, int index, gb_backend_device **dev,
                      gb_error *err);
    void (*close)(gb_backend_device *dev);

    /* Contents of a new buffer are undefined. bytes > 0. */
    gb_status (*buffer_create)(gb_backend_device *dev, uint64_t bytes, gb_backend_buffer **buf,
                               gb_error *err);
    void (*buffer_destroy)(gb_backend_device *dev, gb_backend_buffer *buf);
    /* Ordered after all work enqueued before. write may return before the copy is done but has
     * consumed src; read returns when dst is filled. */
    gb_status (*buffer_write)(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                              uint64_t bytes, const void *src, gb_error *err);
    gb_status (*buffer_read)(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                             uint64_t bytes, void *dst, gb_error *err);

    /* Can this step run, and what does it want? Cheap: no kernel is built. Where step->variant names
     * an implementation, the answer is about that one, and programs take that one. */
    void (*query)(gb_backend_device *dev, const gb_step *step, gb_answer *answer);
    /* The names of the implementations that can run the step and are worth measuring, in any order,
     * for step->variant: at most cap, static storage. Returns how many. Optional: there is never
     * more than one. */
    int (*variants)(gb_backend_device *dev, const gb_step *step, const char **name, int cap);

    /* Builds kernels (through caches) for a plan, which outlives the program. */
    gb_status (*program_create)(gb_backend_device *dev, const gb_plan *plan,
                                gb_backend_program **prog, gb_error *err);
    void (*program_destroy)(gb_backend_program *prog);
    /* buffers[i] stands for plan->buffer[i]. May be called again with other buffers. */
    gb_status (*program_bind)(gb_backend_program *prog, gb_backend_buffer *const *buffers,
                              gb_error *err);
    /* States may have changed since the last run: steps that run once must run again, see
     * gb_step.once. Every program begins like that. Optional: a backend may run all steps always. */
    void (*program_renew)(gb_backend_program *prog);
    /* Enqueues all steps in order; may return before they are done. */
    gb_status (*program_run)(gb_backend_program *prog, gb_error *err);
    /* Runs once and measures each step on the device's own clock, span[plan->n_steps]. */
    gb_status (*program_time)(gb_backend_program *prog, gb_span *span, gb_error *err);
    int (*program_kernels)(const gb_backend_program *prog); /* distinct kernels; optional */

    gb_status (*wait)(gb_backend_device *dev, gb_error *err);
    bool (*lost)(gb_backend_device *dev);
    /* Elements of a window in row-major order as doubles, unrounded; optional (the reference). */
    gb_status (*read_f64)(gb_backend_device *dev, gb_backend_buffer *buf, const gb_operand *where,
                          double *dst, gb_error *err);
    gb_status (*write_f64)(gb_backend_device *dev, gb_backend_buffer *buf, const gb_operand *where,
                           const double *src, gb_error *err);
    /* Measured arithmetic and memory peaks; optional. */
    gb_status (*peak)(gb_backend_device *dev, gb_peak *peak, gb_error *err);
} gb_backend;

/* Those that this build has, in order of preference, and the names of those left out of it; both
 * ended by NULL; backends/registry.c. */
extern const gb_backend *const gb_backends[];
extern const char *const gb_backends_left_out[];

/* Tuning files that ship with gimbal, as text; ended by NULL; backends/defaults. */
extern const char *const gb_backend_defaults[];

#endif
