/* Programs of the CPU backend, and its measured peaks: entries of the backend's table. */
#ifndef GB_BACKENDS_CPU_PROGRAM_H
#define GB_BACKENDS_CPU_PROGRAM_H

#include "backends/cpu/cpu.h"

void gb_cpu_query(gb_backend_device *dev, const gb_step *step, gb_answer *answer);
int gb_cpu_variants(gb_backend_device *dev, const gb_step *step, const char **name, int cap);
gb_status gb_cpu_program_create(gb_backend_device *dev, const gb_plan *plan,
                                gb_backend_program **prog, gb_error *err);
void gb_cpu_program_destroy(gb_backend_program *prog);
gb_status gb_cpu_program_bind(gb_backend_program *prog, gb_backend_buffer *const *buffers,
                              gb_error *err);
void gb_cpu_program_renew(gb_backend_program *prog);
gb_status gb_cpu_program_run(gb_backend_program *prog, gb_error *err);
gb_status gb_cpu_program_time(gb_backend_program *prog, gb_span *span, gb_error *err);
gb_status gb_cpu_peak(gb_backend_device *dev, gb_peak *peak, gb_error *err);

#endif
