/* Stores and programs: state on a device, and a graph made ready to run there.
 *
 * A program is made from a graph for fixed shapes. Its named state lives in a store; programs of
 * one device that share a store share the state of equal name (training, evaluation, short last
 * batches). A run reads inputs, scalars and state, writes outputs and state. */
#ifndef GIMBAL_PROGRAM_H
#define GIMBAL_PROGRAM_H

#include <gimbal/device.h>
#include <gimbal/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gb_store gb_store;
typedef struct gb_program gb_program;

/* An empty store on dev, which must outlive it. */
GB_API gb_status gb_store_create(gb_device *dev, gb_store **store, gb_error *err);
GB_API void gb_store_destroy(gb_store **store);
/* Copies a host tensor to or from the state called name; set makes the state if it is not there (an
 * F64 tensor may be given for any float). get allocates *value. Errors: NOT_FOUND, INVALID (shape
 * or dtype differ), DEVICE. */
GB_API gb_status gb_store_set(gb_store *store, const char *name, const gb_tensor *value,
                              gb_error *err);
GB_API gb_status gb_store_get(gb_store *store, const char *name, gb_tensor *value, gb_error *err);
/* Names in order of creation, for i from 0; NULL at the end. */
GB_API const char *gb_store_name(const gb_store *store, int i);
/* Bytes of all its states on the device. */
GB_API uint64_t gb_store_bytes(const gb_store *store);

/* For checks of a device: runs fill outputs and arenas with NaN before, and afterwards look whether
 * anything was written out of bounds (INTERNAL then). Slow. */
typedef enum gb_guard {
    GB_GUARD_NONE,
    GB_GUARD_PACKED, /* zones around each buffer; transient values share arenas as ever */
    GB_GUARD_APART   /* transient values lie in buffers of their own */
} gb_guard;

typedef struct gb_program_options { /* zero-initialized: the defaults */
    bool no_fusion;          /* one step per operator: for drift measurements */
    uint64_t memory_limit;   /* fail with OUT_OF_MEMORY if the plan needs more; 0: the device's */
    gb_guard guard;
    gb_math math;
    gb_precision precision;
    bool small_everywhere;   /* with a small precision, for checks: inputs and outputs of all operators */
    /* What the plan may take in all, in bytes: values of the forward run are made again for the
     * backward run instead of kept, as many as it needs; the results have the same bits. Fails with
     * OUT_OF_MEMORY, telling the least, if that does not suffice. 0: no limit, and only what costs
     * no time is made again. */
    uint64_t memory_budget;
} gb_program_options;

typedef struct gb_program_info {
    uint64_t arena_bytes, state_bytes, other_bytes; /* planned; the peak is their sum */
    int steps;
    int kernels; /* distinct kernels built */
    int recomputed; /* values that are made again for the backward run, … */
    uint64_t recomputed_bytes;
} gb_program_info;

/* Compiles graph (not changed, not kept) for store's device; the store must outlive the program.
 * State that the store does not have yet is made, with the graph's initial value or zero. options
 * may be NULL. Errors: INVALID (the graph holds an error, or a state of the store differs),
 * UNSUPPORTED (a step that the device refuses, named with its layer, or a precision that it lacks),
 * OUT_OF_MEMORY. */
GB_API gb_status gb_program_create(gb_store *store, const gb_graph *graph,
                                   const gb_program_options *options, gb_program **program,
                                   gb_error *err);
/* What gb_program_create would plan, without making anything: info->kernels stays 0. Where it fails
 * with OUT_OF_MEMORY for the budget, info tells the least. */
GB_API gb_status gb_program_plan(gb_device *dev, const gb_graph *graph,
                                 const gb_program_options *options, gb_program_info *info,
                                 gb_error *err);
GB_API void gb_program_destroy(gb_program **program);
GB_API const gb_program_info *gb_program_get_info(const gb_program *program);

/* Copies value (the input's shape and dtype, row-major; an F64 tensor may be given for any float) to
 * the device. Errors: NOT_FOUND (the hint lists the inputs), INVALID, DEVICE. */
GB_API gb_status gb_program_set_input(gb_program *program, const char *name,
                                      const gb_tensor *value, gb_error *err);
/* Step scalars keep their value until set again. Integer scalars take whole numbers. Setting a scalar
 * that the program does not use is no error. */
GB_API gb_status gb_program_set_scalar(gb_program *program, const char *name, double value,
                                       gb_error *err);
/* Enqueues one run. Errors: INVALID (an input was never set), DEVICE. */
GB_API gb_status gb_program_run(gb_program *program, gb_error *err);
/* Waits for the runs before and copies output name into value, which it allocates. */
GB_API gb_status gb_program_output(gb_program *program, const char *name, gb_tensor *value,
                                   gb_error *err);
/* The same as an F64 tensor: on the reference the values as they were computed, unrounded. */
GB_API gb_status gb_program_output_f64(gb_program *program, const char *name, gb_tensor *value,
                                       gb_error *err);

/* One step of a run, as the device's clock saw it. */
typedef struct gb_step_time {
    const char *path, *phase, *kind; /* phase: "forward", "backward", "update" */
    double begin;                    /* seconds since the run began; rows are in order */
    double seconds, flops, bytes;    /* bytes: that must move at least */
    uint64_t scratch_bytes;
    char variant[48]; /* the implementation, in the backend's words */
} gb_step_time;
/* One run with a row per step, owned by the program until the next call. Errors: as of runs. */
GB_API gb_status gb_program_profile(gb_program *program, const gb_step_time **rows, int *n,
                                    gb_error *err);

#ifdef __cplusplus
}
#endif
#endif
