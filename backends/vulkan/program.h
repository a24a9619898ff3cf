/* A plan made ready: kernels, descriptor sets and one recorded command buffer. The functions are
 * the slots of gb_backend. */
#ifndef GB_BACKENDS_VULKAN_PROGRAM_H
#define GB_BACKENDS_VULKAN_PROGRAM_H

#include "backends/vulkan/vk.h"

gb_status gb_vk_program_create(gb_backend_device *dev, const gb_plan *plan,
                               gb_backend_program **prog, gb_error *err);
/* The same from launches that are there already, which it takes over (also when it fails); of plan
 * only the steps' costs and the counts are used. */
gb_status gb_vk_program_from(gb_backend_device *dev, gb_gpu_program *gpu, const gb_plan *plan,
                             gb_backend_program **prog, gb_error *err);
void gb_vk_program_destroy(gb_backend_program *prog);
gb_status gb_vk_program_bind(gb_backend_program *prog, gb_backend_buffer *const *buffers,
                             gb_error *err);
void gb_vk_program_renew(gb_backend_program *prog);
gb_status gb_vk_program_run(gb_backend_program *prog, gb_error *err);
gb_status gb_vk_program_time(gb_backend_program *prog, gb_span *span, gb_error *err);
int gb_vk_program_kernels(const gb_backend_program *prog);
gb_backend_device *gb_vk_program_device(const gb_backend_program *prog);

gb_status gb_vk_peak(gb_backend_device *dev, gb_peak *peak, gb_error *err); /* peak.c */

#endif
