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

#ifdef __cplusplus
}
#endif
#endif
