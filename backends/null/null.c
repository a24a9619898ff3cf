/* Null: a device of boundless memory that plans and never computes. For planning and fuzzing of
 * what lies above the backends, and the shortest walk through the interface. */
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"

struct gb_backend_device {
    uint64_t allocated;
};

struct gb_backend_buffer {
    uint64_t bytes;
};

struct gb_backend_program {
    const gb_plan *plan;
};

static gb_status enumerate(const gb_backend_options *o, gb_device_info *out, int cap, int *n,
                           char *reason, size_t reason_size)
{
    out[0] = (gb_device_info){.id = "null",
                              .name = "plans, never computes",
                              .driver = "gimbal",
                              .kind = GB_DEVICE_CPU,
                              .memory_bytes = UINT64_C(1) << 40,
                              .max_buffer_bytes = UINT64_C(1) << 40,
                              .dtypes = 1u << GB_F32 | 1u << GB_F16 | 1u << GB_BF16 |
                                        1u << GB_I32 | 1u << GB_BOOL,
                              .usable = true};
    *n = 1;
    return GB_OK;
}

static gb_status no_memory(gb_error *err, const char *what)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, "null", NULL, "no memory for a %s", what);
}

static gb_status device_open(const gb_backend_options *o, int index, gb_backend_device **dev,
                             gb_error *err)
{
    *dev = calloc(1, sizeof **dev);
    return *dev ? GB_OK : no_memory(err, "device");
}

static void device_close(gb_backend_device *dev)
{
    free(dev);
}

static gb_status buffer_create(gb_backend_device *dev, uint64_t bytes, gb_backend_buffer **buf,
                               gb_error *err)
{
    *buf = calloc(1, sizeof **buf);
    if (!*buf) return no_memory(err, "buffer");
    (*buf)->bytes = bytes;
    dev->allocated += bytes;
    return GB_OK;
}

static void buffer_destroy(gb_backend_device *dev, gb_backend_buffer *buf)
{
    if (!buf) return;
    dev->allocated -= buf->bytes;
    free(buf);
}

static gb_status buffer_write(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                              uint64_t bytes, const void *src, gb_error *err)
{
    return GB_OK;
}

static gb_status buffer_read(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                             uint64_t bytes, void *dst, gb_error *err)
{
    memset(dst, 0, bytes);
    return GB_OK;
}

static void query(gb_backend_device *dev, const gb_step *step, gb_answer *answer)
{
    *answer = (gb_answer){.ok = true, .variant = "null"};
}

static gb_status program_create(gb_backend_device *dev, const gb_plan *plan,
                                gb_backend_program **prog, gb_error *err)
{
    *prog = calloc(1, sizeof **prog);
    if (!*prog) return no_memory(err, "program");
    (*prog)->plan = plan;
    return GB_OK;
}

static void program_destroy(gb_backend_program *prog)
{
    free(prog);
}

static gb_status program_bind(gb_backend_program *prog, gb_backend_buffer *const *buffers,
                              gb_error *err)
{
    return GB_OK;
}

static gb_status program_run(gb_backend_program *prog, gb_error *err)
{
    return GB_OK;
}

static gb_status program_time(gb_backend_program *prog, gb_span *span, gb_error *err)
{
    for (int i = 0; i < prog->plan->n_steps; i++) span[i] = (gb_span){0};
    return GB_OK;
}

static gb_status device_wait(gb_backend_device *dev, gb_error *err)
{
    return GB_OK;
}

static bool device_lost(gb_backend_device *dev)
{
    return false;
}

const gb_backend gb_null_backend = {
    .name = "null",
    .diagnostic = true,
    .enumerate = enumerate,
    .open = device_open,
    .close = device_close,
    .buffer_create = buffer_create,
    .buffer_destroy = buffer_destroy,
    .buffer_write = buffer_write,
    .buffer_read = buffer_read,
    .query = query,
    .program_create = program_create,
    .program_destroy = program_destroy,
    .program_bind = program_bind,
    .program_run = program_run,
    .program_time = program_time,
    .wait = device_wait,
    .lost = device_lost,
};
