/* Measured peaks. */
#include "backends/vulkan/program.h"

enum { RUNS = 5 };

/* The best time of each of the two steps; the first run warms up. */
static gb_status best_of(gb_backend_program *prog, gb_backend_buffer *const *buffer, double best[2],
                         gb_error *err)
{
    gb_status status = gb_vk_program_bind(prog, buffer, err);
    for (int i = 0; i < RUNS && !status; i++) {
        gb_span span[2];
        status = gb_vk_program_time(prog, span, err);
        for (int k = 0; k < 2 && !status && i > 0; k++)
            if (i == 1 || span[k].seconds < best[k]) best[k] = span[k].seconds;
    }
    return status;
}

gb_status gb_vk_peak(gb_backend_device *dev, gb_peak *peak, gb_error *err)
{
    gb_step step[2] = {0};
    const gb_plan plan = {.step = step, .n_steps = 2, .n_buffers = 2, .scalars_buffer = -1};
    gb_gpu_peak_work work;
    gb_gpu_program *gpu;
    gb_backend_program *prog = NULL;
    gb_backend_buffer *buffer[2] = {NULL, NULL};
    double best[2] = {0, 0};
    gb_status status = gb_gpu_peak_create(&dev->caps, &work, &gpu, err);
    if (!status) status = gb_vk_program_from(dev, gpu, &plan, &prog, err);
    for (int i = 0; i < 2 && !status; i++)
        status = gb_vk_buffer_create(dev, GB_VK_DEVICE, work.buffer_bytes, &buffer[i], err);
    if (!status) status = best_of(prog, buffer, best, err);
    if (!status && (best[0] <= 0 || best[1] <= 0))
        status =
            gb_fail(err, GB_DEVICE, dev->physical.info.name, NULL, "the driver reports no times");
    if (!status)
        *peak = (gb_peak){.gflops = work.flops / best[0] * 1e-9,
                          .gb_per_s = work.bytes / best[1] * 1e-9};
    gb_vk_program_destroy(prog);
    for (int i = 0; i < 2; i++) gb_vk_buffer_free(dev, buffer[i]);
    return status;
}
