/* Measuring inside core/bench. */
#ifndef GB_CORE_BENCH_BENCH_H
#define GB_CORE_BENCH_BENCH_H

#include <gimbal/bench.h>

/* Something to be timed again and again. */
typedef gb_status gb_bench_call(void *user, gb_error *err);

/* Warms up, calls until about a second has passed, and adds a row. flops: of one call; 0: unknown.
 */
gb_status gb_bench_measure(gb_bench *bench, const char *name, const char *phase, double flops,
                           gb_bench_call *call, void *user, gb_error *err);
/* Floating-point operations of a program, of one phase (NULL: all); runs it once. */
gb_status gb_bench_flops(gb_program *program, const char *phase, double *flops, gb_error *err);
/* Numbers in [-1, 1), the same each time. */
void gb_bench_fill(gb_tensor *t);
/* For qsort: doubles, rising. */
int gb_bench_by_value(const void *a, const void *b);
gb_status gb_bench_no_memory(gb_error *err);

/* A model in training on noise of its data set's sizes. */
typedef struct gb_bench_job {
    const gb_recipe *recipe;
    gb_dataset *dataset;
    gb_trainer *trainer;
    gb_tensor images;
    int32_t *labels;
} gb_bench_job;

/* The data set need not be there for fashion-mnist and cifar10. Close it also after a failure. */
gb_status gb_bench_job_open(gb_device *dev, const gb_recipe *recipe, gb_bench_job *job,
                            gb_error *err);
void gb_bench_job_close(gb_bench_job *job);
/* A whole training step, and inference, as gb_bench_call. */
gb_status gb_bench_step(void *job, gb_error *err);
/* n steps in a row, their figures read behind the last, as in a run. */
gb_status gb_bench_steps(gb_bench_job *job, int n, gb_error *err);
gb_status gb_bench_forward(void *job, gb_error *err);

#endif
