/* Speed of a device: operators and whole training steps, beside its peaks measured in the same run.
 */
#ifndef GIMBAL_BENCH_H
#define GIMBAL_BENCH_H

#include <gimbal/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gb_bench_row {
    char name[160];
    char phase[8]; /* "forward", or "step": forward and backward, and of models the optimizer */
    double ms_min, ms_median;
    double gflops, of_peak; /* at ms_min; NaN: not known */
} gb_bench_row;

typedef struct gb_bench {
    double peak_gflops, peak_gb_per_s; /* NaN: the backend does not measure them */
    gb_bench_row *rows;
    int n;
    bool forward_only; /* settable after the start: no rows of steps */
} gb_bench;

/* Measures dev's peaks into an empty *bench; rows are added by the calls below, which each take
 * about a second. Free with gb_bench_free, also after a failure. Errors: DEVICE, OUT_OF_MEMORY. */
GB_API gb_status gb_bench_start(gb_device *dev, gb_bench *bench, gb_error *err);
GB_API void gb_bench_free(gb_bench *bench);

/* An operator on random data, from text: its name, the shapes of its inputs, and s2 p1 d1 k3 for
 * strides, padding, dilation, kernel:
 *     "MatMul 1024x1024x1024" (M x N x K), "Conv 128x64x32x32 64x64x3x3 s1 p1",
 *     "MaxPool 128x64x32x32 k2 s2", "Softmax 128x1000", "Add 4096x1024 1024"
 * Errors: INVALID (the text, or shapes that do not fit), and those of programs. */
GB_API gb_status gb_bench_operator(gb_device *dev, const char *spec, gb_bench *bench,
                                   gb_error *err);

/* Inference and a training step of a recipe at its batch size, on random images that lie in memory:
 * of the sizes of its data set, which need not be there for fashion-mnist and cifar10. */
GB_API gb_status gb_bench_model(gb_device *dev, const gb_recipe *recipe, gb_bench *bench,
                                gb_error *err);

/* --- where a training step's time goes --- */

typedef struct gb_profile_row { /* one step of a program */
    char path[120]; /* of the layer */
    char phase[16]; /* "forward", "backward", "optimizer" */
    char kind[20];
    char variant[48];            /* the implementation, in the backend's words */
    int count;                   /* how often a training step runs it: once for each micro-batch */
    double seconds, seconds_min; /* of one time: median and least over the runs */
    double flops, bytes;         /* bytes: that must move at least */
    uint64_t scratch_bytes;
} gb_profile_row;

typedef struct gb_profile_span { /* seconds; begin counts from the start of the profile */
    double begin, seconds;
} gb_profile_span;

typedef struct gb_profile_event { /* what the host did */
    const char *name;             /* static */
    gb_profile_span span;
} gb_profile_event;

typedef struct gb_profile {
    char model[64];
    int64_t batch;
    double peak_gflops, peak_gb_per_s; /* NaN: the backend does not measure them */
    double made_seconds;               /* to make the programs */
    int kernels;
    uint64_t planned_bytes;
    int runs;
    gb_profile_row *rows; /* in order of execution */
    int n;
    gb_profile_span *spans; /* row i of run r at [r * n + i], as the device's clock saw it */
    gb_profile_event *events;
    int n_events;
    /* Medians, seconds. step: a whole training step, of several in a row. run: one run of its
     * programs alone, of which enqueue is until the host is free again. device: in rows, times their
     * count. gap: of one run, between its rows. host: of a training step beside the rows of a run
     * moments before. */
    double step_seconds, run_seconds, enqueue_seconds, device_seconds, gap_seconds,
        host_seconds;
} gb_profile;

/* Trains recipe on noise (as gb_bench_model) for `steps` rounds (at most 100; 0: about two seconds), each
 * once with a clock around every row, once as ever and once in whole training steps. Free with
 * gb_profile_free, also after a failure. */
GB_API gb_status gb_profile_model(gb_device *dev, const gb_recipe *recipe, int64_t steps,
                                  gb_profile *profile, gb_error *err);
GB_API void gb_profile_free(gb_profile *profile);

#ifdef __cplusplus
}
#endif
#endif
