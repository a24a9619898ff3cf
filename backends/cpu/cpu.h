/* What the files of the CPU backend share: devices, and steps made ready to run. */
#ifndef GB_BACKENDS_CPU_CPU_H
#define GB_BACKENDS_CPU_CPU_H

#include "backends/backend.h"
#include "backends/cpu/kernels/contraction.h"
#include "backends/cpu/loops/loops.h"
#include "backends/cpu/pool.h"

struct gb_backend_device {
    gb_cpu cpu; /* pool and instruction set */
    const gb_loops *loops;
    char variant[48]; /* preferred implementations; "": none */
};

struct gb_backend_buffer {
    void *data; /* aligned to 64 bytes */
    uint64_t bytes;
};

/* Where a step's operands are; filled by program_bind. Absent ones are NULL. */
typedef struct gb_cpu_bound {
    void *in[GB_MAX_STEP_IN], *out[GB_MAX_STEP_OUT];
    void *scratch, *packed;
    const void *scalars;
} gb_cpu_bound;

/* Each worker's own memory, valid during one step. */
typedef struct gb_cpu_workers {
    gb_pool *pool;
    char *scratch;
    size_t stride;
    bool renew; /* what is made of fixed inputs must be made again */
} gb_cpu_workers;

static inline void *gb_worker_scratch(const gb_cpu_workers *w, int worker)
{
    return w->scratch + (size_t)worker * w->stride;
}

/* A step made ready: everything that depends on shapes alone is computed when it is made. */
typedef struct gb_cpu_step gb_cpu_step;
struct gb_cpu_step {
    void (*run)(const gb_cpu_step *s, const gb_cpu_workers *workers);
    void (*free)(void *state);
    void *state;
    size_t worker_bytes; /* of a worker's scratch */
    gb_cpu_bound at;
    const gb_step *step;
};

/* Fills run, free, state and worker_bytes; on failure nothing is kept. */
typedef gb_status (*gb_cpu_make)(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                                 gb_error *err);

gb_status gb_cpu_make_pointwise(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                                gb_error *err);
gb_status gb_cpu_make_reduce(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                             gb_error *err);
gb_status gb_cpu_make_arg_reduce(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                                 gb_error *err);
gb_status gb_cpu_make_contraction(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                                  gb_error *err);
gb_status gb_cpu_make_pool(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                           gb_error *err);
gb_status gb_cpu_make_gather(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                             gb_error *err);

/* The step on f32 instead of 16-bit floats, but for the operands whose bits are set in `known`
 * (outputs: from GB_MAX_STEP_IN on): bytes of scratch for the copies; 0: there were none. */
uint64_t gb_cpu_widen(const gb_step *step, uint64_t known, gb_step *wide);
/* A step with 16-bit floats, by loops that know f32 alone for operands that are not `known`. */
gb_status gb_cpu_make_widened(gb_backend_device *dev, const gb_step *step, uint64_t known,
                              gb_cpu_make make, gb_cpu_step *out, gb_error *err);

/* Why a contraction cannot run, or its implementation and scratch. */
void gb_cpu_query_contraction(gb_backend_device *dev, const gb_step *step, gb_answer *answer);
/* The operands that the implementation takes as 16-bit floats, as bits of gb_cpu_widen. */
uint64_t gb_cpu_contraction_halves(gb_backend_device *dev, const gb_step *step);
int gb_cpu_contraction_variants(gb_backend_device *dev, const gb_step *step, const char **name,
                                int cap);

extern const gb_backend gb_cpu_backend;

#endif
