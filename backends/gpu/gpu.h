/* From plan steps to kernels, once for OpenCL and Vulkan.
 *
 * gb_gpu_program_create turns a plan into kernels (source text) and launches (what to bind, the
 * parameters, the grid). A driver compiles, binds and enqueues; it never looks into a step. */
#ifndef GB_BACKENDS_GPU_H
#define GB_BACKENDS_GPU_H

#include "backends/backend.h"
#include "core/base/cache.h"

typedef enum gb_gpu_api {
    GB_GPU_OPENCL,
    GB_GPU_VULKAN,
    GB_GPU_HOST /* C, for tests: shaders/prelude.c.h */
} gb_gpu_api;

/* Matrix units for one type of operands: products of m × k and k × n matrices with f32 sums. */
typedef struct gb_gpu_units {
    int m, n, k;    /* 0: there are none */
    uint32_t works; /* kernels that gave right results: bits of gb_matrix_bit */
} gb_gpu_units;

typedef struct gb_gpu_matrix {
    uint32_t subgroup; /* the size of those that multiply */
    gb_gpu_units f16, bf16;
} gb_gpu_matrix;

/* What the choice and the text of kernels depend on. Filled by the driver, constant afterwards. */
typedef struct gb_gpu_caps {
    gb_gpu_api api;
    bool cpu_hosted;    /* the driver runs on a CPU: packed kernels, no shared memory */
    int vector_width;   /* native width in floats of a CPU-hosted device (4, 8, 16) */
    int compute_units;  /* 0: unknown */
    int subgroup;       /* 0: unknown */
    bool storage16;     /* 16-bit loads and stores work in kernels */
    bool int64;         /* 64-bit integers do */
    bool broadcast;     /* subgroupBroadcast does (Vulkan) */
    bool shuffle;       /* lanes of a subgroup can read each other's values, as … */
    bool half_math;     /* … arithmetic in f16 works: gb_gpu_probe_caps */
    int max_rounds;     /* of all loops of an item together: lavapipe ends them, without a word,
                           after 65,535; 0: any */
    uint32_t max_local; /* items of a work-group */
    uint32_t max_local_dim[3];
    uint32_t max_groups[3]; /* work-groups of a launch, by dimension */
    uint32_t local_memory;  /* bytes of shared memory of a work-group */
    uint32_t max_params;    /* bytes of parameters that go by value: push constants or arguments */
    uint32_t max_bindings;  /* storage buffers of one kernel */
    uint32_t binding_align; /* offsets of bindings are multiples of it; 0: whole buffers are bound
                               and kernels add the offset (OpenCL) */
    uint64_t max_binding;   /* bytes that one binding can reach */
    gb_gpu_matrix matrix;   /* matrix units (Vulkan) */
    const char *variant;    /* prefer variants whose name contains it; NULL */
    bool apart;             /* launches are not joined */
    /* Steps that the driver runs by itself, without launches of ours; NULL: none. */
    bool (*elsewhere)(const gb_step *step);
} gb_gpu_caps;

#define GB_GPU_MAX_BINDINGS 20
#define GB_GPU_MAX_CONSTANTS 16

/* One kernel: its text is complete (OpenCL C 1.2 or GLSL 4.50 for Vulkan 1.1) and its entry point
 * is "gb_kernel" in OpenCL and "main" in GLSL. Arguments in OpenCL: n_bindings buffers, then the
 * parameters: a struct of n_params ints by value, or one more buffer where params_buffer is set.
 * In GLSL: set 0, binding k for the k-th buffer, push constants at offset 0, or binding n_bindings
 * for the buffer of parameters. */
typedef struct gb_gpu_kernel {
    const char *name; /* body and variant: "pointwise.rows"; for reports */
    const char *source;
    size_t shared;     /* characters at its beginning that other kernels have too: a prelude */
    uint64_t hash;     /* of source */
    uint32_t local[3]; /* work-group size; the text has it too */
    int n_bindings, n_params;
    bool params_buffer;
    bool writes_params; /* counters in that buffer, which it leaves as they were, and times */
    const char *part;   /* the same as a function, for joint launches; NULL: it cannot, or
                           should not, be one */
    /* Compiled offline (shaders/spirv), for texts that compilers here do not know; NULL: source is
     * compiled. Constant k has constant_id k; it runs in whole subgroups of that size. */
    const uint32_t *spirv;
    size_t spirv_words;
    int n_constants;
    int32_t constant[GB_GPU_MAX_CONSTANTS];
    uint32_t subgroup;
} gb_gpu_kernel;

/* The bytes of a plan's buffer that a launch touches: what hazards are derived from. */
typedef struct gb_gpu_binding {
    int buffer;             /* index into plan->buffer */
    uint64_t offset, bytes; /* the exact range; bind from gb_gpu_bind_offset */
    bool read, write;
} gb_gpu_binding;

/* What a step has of a launch that does the work of several. */
typedef struct gb_gpu_share {
    int step;
    double of; /* the launch: an estimate; those of a launch add up to 1 */
} gb_gpu_share;

typedef struct gb_gpu_launch {
    int step;                      /* index into plan->step; launches are in step order, those that
                                      run once before the others */
    int n_shares;                  /* 0: it is the step's alone, else step is the first's */
    const gb_gpu_share *share;
    int kernel;                    /* index into gb_gpu_program.kernel */
    const gb_gpu_binding *binding; /* kernel->n_bindings */
    const int32_t *params;         /* kernel->n_params words (floats as their bits) */
    uint32_t groups[3];            /* all at least 1 */
    double work; /* what it does, by estimate, in operations; a byte moved counts for several */
    bool once;   /* its results stay until the program is renewed */
} gb_gpu_launch;

typedef struct gb_gpu_program {
    int n_kernels, n_launches;
    int n_once;            /* the first ones: they run when the program begins or is renewed */
    gb_gpu_kernel *kernel; /* distinct texts */
    gb_gpu_launch *launch;
    void *memory; /* owns everything */
} gb_gpu_program;

/* Is the word among gb_backend_options.launch? */
bool gb_gpu_launch_word(const gb_backend_options *o, const char *word);

/* Where a binding starts: its offset cut to the alignment of bindings (0 for whole buffers). The
 * kernels' parameters assume exactly this. */
static inline uint64_t gb_gpu_bind_offset(const gb_gpu_caps *caps, const gb_gpu_binding *b)
{
    return caps->binding_align ? b->offset - b->offset % caps->binding_align : 0;
}

/* Backend slots query and variants: all of them that does not need a device. */
void gb_gpu_query(const gb_gpu_caps *caps, const gb_step *step, gb_answer *answer);
int gb_gpu_variants(const gb_gpu_caps *caps, const gb_step *step, const char **name, int cap);
/* Errors: UNSUPPORTED (names the step), OUT_OF_MEMORY. The program does not refer to the plan. */
gb_status gb_gpu_program_create(const gb_gpu_caps *caps, const gb_plan *plan,
                                gb_gpu_program **program, gb_error *err);
void gb_gpu_program_destroy(gb_gpu_program **program);
/* Fills in the work of launches, none of them joint, by the steps' costs. */
void gb_gpu_estimate(gb_gpu_program *program, const gb_plan *plan);
/* Adds the time of a launch to the steps that it is of: as its workers noted it in params, where
 * the kernel writes these (as they are after the run; else NULL), or by estimate. */
void gb_gpu_spread(const gb_gpu_launch *launch, const int32_t *params, gb_span time, gb_span *span);

typedef gb_status gb_gpu_open(const gb_backend_options *o, int index, gb_backend_device **dev,
                              gb_error *err);

/* Which storage types a device really runs, as bits of gb_dtype: a small kernel that reads and
 * writes each of them. Uses nothing but the backend's own table. */
gb_status gb_gpu_probe(const gb_backend *backend, gb_backend_device *dev, uint32_t *dtypes,
                       gb_error *err);

/* Runs each kernel for matrix units on small steps, through the backend's own table, and leaves the
 * bits of those in `works` whose results were right. *matrix is of the device's caps. */
void gb_gpu_probe_matrix(const gb_backend *backend, gb_backend_device *dev, gb_gpu_matrix *matrix);

/* Clears what the driver says it can, and is set in caps, but gets wrong when it runs: shuffle and
 * half_math. They are tried on a device of their own, opened by `open` with what the driver says,
 * for it may be lost; key is the driver's, for the cache. Variants that need them are for real GPUs:
 * where the driver runs on a CPU they are tried only for a variant that is forced. */
void gb_gpu_probe_caps(const gb_backend *backend, const gb_backend_options *o, int index,
                       gb_gpu_open *open, gb_hash key, gb_gpu_caps *caps);

/* A program of two steps over two buffers of buffer_bytes: step 0 does flops operations from
 * registers, step 1 moves bytes. For the backend slot peak: run it and divide. */
typedef struct gb_gpu_peak_work {
    uint64_t buffer_bytes;
    double flops, bytes;
} gb_gpu_peak_work;
gb_status gb_gpu_peak_create(const gb_gpu_caps *caps, gb_gpu_peak_work *work,
                             gb_gpu_program **program, gb_error *err);

uint64_t gb_gpu_hash(const void *data, size_t bytes,
                     uint64_t seed); /* seed 0, or a hash to go on */

#endif
