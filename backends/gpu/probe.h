/* Running one step to see whether a device does it right. */
#ifndef GB_BACKENDS_GPU_PROBE_H
#define GB_BACKENDS_GPU_PROBE_H

#include "backends/backend.h"

/* Makes a program of the plan, runs it once and reads bytes of a buffer. */
gb_status gb_gpu_probe_run(const gb_backend *be, gb_backend_device *dev, const gb_plan *plan,
                           gb_backend_buffer *const *buffer, int result, uint64_t bytes, void *got,
                           gb_error *err);

#endif
