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

#endif
