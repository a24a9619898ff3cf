#include <string.h>

#include "backends/gpu/gpu.h"
#include "core/base/arena.h"
#include "core/base/half.h"

#define N 32

static const gb_dtype dtype_of[GB_S_COUNT] = {GB_F32, GB_I32, GB_F16, GB_BF16};

/* out = in + 1, both of the given storage: exact in all of them for small integers. */
static const gb_expr *increment(gb_arena *arena, gb_storage storage)
{
    gb_xb b = {0};
    bool integer = storage == GB_S_I32;
    gb_x x = gb_x_input(&b, 0, integer ? 'i' : 'f');
    gb_x y = integer ? gb_x2(&b, GB_P_IADD, x, gb_x_iconst(&b, 1))
                     : gb_x2(&b, GB_P_ADD, x, gb_x_const(&b, 1));
    gb_expr *e = gb_xb_finish(&b, 1, &y, 1, gb_arena_alloc_hook, arena);
    gb_xb_free(&b);
    return e;
}

static uint32_t encode(gb_storage s, int i)
{
    return s == GB_S_I32    ? (uint32_t)i
           : s == GB_S_F16  ? gb_f32_to_f16((float)i)
           : s == GB_S_BF16 ? gb_f32_to_bf16((float)i)
                            : gb_f32_bits((float)i);
}

static void fill(unsigned char *data, gb_storage s, int first)
{
    size_t size = gb_storage_size(s);
    for (int i = 0; i < N; i++) {
        uint32_t v = encode(s, first + i);
        memcpy(data + (size_t)i * size, &v, size); /* little-endian, as every device here */
    }
}

static gb_status run_once(const gb_backend *be, gb_backend_device *dev, const gb_plan *plan,
                          gb_backend_buffer *const *buffer, unsigned char *result, gb_error *err)
{
    gb_backend_program *prog = NULL;
    unsigned char data[N * 4];
    gb_storage storage = plan->step->in[0].storage;
    uint64_t bytes = N * gb_storage_size(storage);
    fill(data, storage, 0);
    gb_status s = be->program_create(dev, plan, &prog, err);
    if (s == GB_OK) s = be->program_bind(prog, buffer, err);
    if (s == GB_OK) s = be->buffer_write(dev, buffer[0], 0, bytes, data, err);
    if (s == GB_OK) s = be->program_run(prog, err);
    if (s == GB_OK) s = be->buffer_read(dev, buffer[1], 0, bytes, result, err);
    if (prog) be->program_destroy(prog);
    return s;
}

static gb_status probe_one(const gb_backend *be, gb_backend_device *dev, gb_storage storage,
                           gb_backend_buffer *const *buffer, bool *works, gb_error *err)
{
    gb_arena *arena = gb_arena_create();
    const gb_expr *expr = arena ? increment(arena, storage) : NULL;
    gb_operand o = {.storage = storage, .rank = 1, .dim = {N}, .stride = {1}};
    gb_step step = {.kind = GB_STEP_POINTWISE,
                    .path = "probe",
                    .phase = "forward",
                    .n_in = 1,
                    .n_out = 1,
                    .in = {o},
                    .out = {o},
                    .rank = 1,
                    .dim = {N},
                    .expr = expr,
                    .scratch = {.buffer = -1}};
    step.out[0].buffer = 1;
    gb_plan_buffer planned[2] = {{.role = GB_BUF_INPUT, .bytes = N * 4},
                                 {.role = GB_BUF_OUTPUT, .bytes = N * 4}};
    gb_plan plan = {
        .n_steps = 1, .n_buffers = 2, .step = &step, .buffer = planned, .scalars_buffer = -1};
    unsigned char got[N * 4] = {0}, want[N * 4] = {0};
    gb_status s = expr ? run_once(be, dev, &plan, buffer, got, err)
                       : gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a probe");
    fill(want, storage, 1);
    *works = s == GB_OK && memcmp(got, want, sizeof got) == 0;
    gb_arena_destroy(arena);
    return s;
}

gb_status gb_gpu_probe(const gb_backend *backend, gb_backend_device *dev, uint32_t *dtypes,
                       gb_error *err)
{
    gb_backend_buffer *buffer[2] = {NULL, NULL};
    gb_status s = backend->buffer_create(dev, N * 4, &buffer[0], err);
    if (s == GB_OK) s = backend->buffer_create(dev, N * 4, &buffer[1], err);
    *dtypes = 0;
    for (int k = 0; s == GB_OK && k < GB_S_COUNT; k++) {
        bool works = false;
        gb_status one = probe_one(backend, dev, (gb_storage)k, buffer, &works, err);
        if (works) *dtypes |= 1u << dtype_of[k];
        if (k == GB_S_F32) s = one; /* a device that cannot do this is of no use */
    }
    if (s == GB_OK && !(*dtypes & 1u << GB_F32))
        s = gb_fail(err, GB_DEVICE, NULL, NULL, "a first kernel gave wrong results");
    for (int i = 0; i < 2; i++)
        if (buffer[i]) backend->buffer_destroy(dev, buffer[i]);
    return s;
}
