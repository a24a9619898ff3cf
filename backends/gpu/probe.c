#include <stdlib.h>
#include <string.h>

#include "backends/gpu/gpu.h"
#include "backends/gpu/probe.h"
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

gb_status gb_gpu_probe_run(const gb_backend *be, gb_backend_device *dev, const gb_plan *plan,
                           gb_backend_buffer *const *buffer, int result, uint64_t bytes, void *got,
                           gb_error *err)
{
    gb_backend_program *prog = NULL;
    gb_status s = be->program_create(dev, plan, &prog, err);
    if (s == GB_OK) s = be->program_bind(prog, buffer, err);
    if (s == GB_OK) s = be->program_run(prog, err);
    if (s == GB_OK) s = be->buffer_read(dev, buffer[result], 0, bytes, got, err);
    if (prog) be->program_destroy(prog);
    return s;
}

/* The step for one storage type, from buffer 2 * i to the one behind it. */
static gb_step increment_step(gb_arena *arena, gb_storage storage, int i)
{
    gb_operand o = {.buffer = 2 * i, .storage = storage, .rank = 1, .dim = {N}, .stride = {1}};
    gb_step step = {.kind = GB_STEP_POINTWISE,
                    .path = "probe",
                    .phase = "forward",
                    .n_in = 1,
                    .n_out = 1,
                    .in = {o},
                    .out = {o},
                    .rank = 1,
                    .dim = {N},
                    .expr = increment(arena, storage),
                    .scratch = {.buffer = -1}};
    step.out[0].buffer = 2 * i + 1;
    return step;
}

static gb_status run_increments(const gb_backend *be, gb_backend_device *dev, const gb_plan *plan,
                                gb_backend_buffer *const *buffer, bool *work, gb_error *err)
{
    unsigned char data[N * 4] = {0};
    gb_status s = GB_OK;
    for (int i = 0; i < plan->n_steps && s == GB_OK; i++) {
        fill(data, plan->step[i].in[0].storage, 0);
        s = be->buffer_write(dev, buffer[2 * i], 0, N * 4, data, err);
    }
    if (s == GB_OK) s = gb_gpu_probe_run(be, dev, plan, buffer, 1, sizeof data, data, err);
    for (int i = 0; i < plan->n_steps && s == GB_OK; i++) {
        const gb_storage storage = plan->step[i].in[0].storage;
        const uint64_t bytes = N * gb_storage_size(storage);
        unsigned char got[N * 4] = {0}, want[N * 4] = {0};
        s = be->buffer_read(dev, buffer[2 * i + 1], 0, bytes, got, err);
        fill(want, storage, 1);
        work[i] = s == GB_OK && memcmp(got, want, sizeof got) == 0;
    }
    return s;
}

/* Of n storage types from `first` on: which work. They are one program. */
static gb_status probe_storage(const gb_backend *be, gb_backend_device *dev, int first, int n,
                               gb_backend_buffer *const *buffer, uint32_t *dtypes, gb_error *err)
{
    gb_step step[GB_S_COUNT];
    gb_plan_buffer planned[2 * GB_S_COUNT];
    bool work[GB_S_COUNT] = {false};
    gb_arena *arena = gb_arena_create();
    gb_plan plan = {
        .n_steps = n, .n_buffers = 2 * n, .step = step, .buffer = planned, .scalars_buffer = -1};
    gb_status s = GB_OK;
    for (int i = 0; i < n; i++) {
        planned[2 * i] = (gb_plan_buffer){.role = GB_BUF_INPUT, .bytes = N * 4};
        planned[2 * i + 1] = (gb_plan_buffer){.role = GB_BUF_OUTPUT, .bytes = N * 4};
        if (arena) step[i] = increment_step(arena, (gb_storage)(first + i), i);
        if (!arena || !step[i].expr)
            s = gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a probe");
    }
    if (s == GB_OK) s = run_increments(be, dev, &plan, buffer, work, err);
    for (int i = 0; i < n; i++)
        if (work[i]) *dtypes |= 1u << dtype_of[first + i];
    gb_arena_destroy(arena);
    return s;
}

/* All at once, since drivers take long for each kernel; where any of them fails, one by one. */
static gb_status probe_all(const gb_backend *be, gb_backend_device *dev,
                           gb_backend_buffer *const *buffer, uint32_t *dtypes, gb_error *err)
{
    uint32_t all = 0;
    for (int k = 0; k < GB_S_COUNT; k++) all |= 1u << dtype_of[k];
    *dtypes = 0;
    if (probe_storage(be, dev, 0, GB_S_COUNT, buffer, dtypes, err) == GB_OK && *dtypes == all)
        return GB_OK;
    *dtypes = 0;
    gb_status s = GB_OK;
    for (int k = 0; k < GB_S_COUNT && s == GB_OK; k++) {
        gb_status one = probe_storage(be, dev, k, 1, buffer, dtypes, err);
        if (k == GB_S_F32) s = one; /* a device that cannot do this is of no use */
    }
    return s;
}

gb_status gb_gpu_probe(const gb_backend *backend, gb_backend_device *dev, uint32_t *dtypes,
                       gb_error *err)
{
    gb_backend_buffer *buffer[2 * GB_S_COUNT] = {NULL};
    gb_status s = GB_OK;
    for (int i = 0; i < 2 * GB_S_COUNT && s == GB_OK; i++)
        s = backend->buffer_create(dev, N * 4, &buffer[i], err);
    if (s == GB_OK) s = probe_all(backend, dev, buffer, dtypes, err);
    if (s == GB_OK && !(*dtypes & 1u << GB_F32))
        s = gb_fail(err, GB_DEVICE, NULL, NULL, "a first kernel gave wrong results");
    for (int i = 0; i < 2 * GB_S_COUNT; i++)
        if (buffer[i]) backend->buffer_destroy(dev, buffer[i]);
    return s;
}

/* --- what is tried beyond storage: one step each, in small integers, so that results are exact ---
 */

enum { ROWS = 5, COLUMNS = 300, M = 33, K = 64, PRODUCTS = 40 };
#define TRIAL_BYTES 8192u

typedef struct trial {
    gb_step step;
    unsigned char in[2][TRIAL_BYTES], want[TRIAL_BYTES]; /* buffers 0 and 1, and 2 */
    uint64_t bytes;                                      /* of the results */
} trial;

static gb_operand matrix(int buffer, gb_storage storage, int64_t rows, int64_t columns)
{
    return (gb_operand){.buffer = buffer,
                        .storage = storage,
                        .rank = 2,
                        .dim = {rows, columns},
                        .stride = {columns, 1}};
}

static void put(unsigned char *data, gb_storage s, int64_t i, int v)
{
    uint32_t bits = encode(s, v);
    memcpy(data + (size_t)i * gb_storage_size(s), &bits, gb_storage_size(s));
}

/* The sum and the largest of rows, by shuffles. */
static bool make_reduction(trial *t, gb_arena *arena)
{
    gb_xb b = {0};
    gb_x x = gb_x_input(&b, 0, 'f'), both[2] = {x, x};
    gb_step *s = &t->step;
    *s = (gb_step){.kind = GB_STEP_REDUCE,
                   .variant = "reduce.subgroup",
                   .n_in = 1,
                   .n_out = 2,
                   .in = {matrix(0, GB_S_F32, ROWS, COLUMNS)},
                   .rank = 2,
                   .dim = {ROWS, COLUMNS},
                   .n_kept = 1,
                   .n_red = 2,
                   .red = {GB_SUM, GB_MAX},
                   .scale = {1, 1}};
    s->expr = gb_xb_finish(&b, 1, both, 2, gb_arena_alloc_hook, arena);
    gb_xb_free(&b);
    for (int r = 0; r < ROWS; r++) {
        int sum = 0, most = 0;
        for (int c = 0; c < COLUMNS; c++) {
            int v = (r * COLUMNS + c) * 7919 % 101;
            put(t->in[0], GB_S_F32, r * COLUMNS + c, v);
            sum += v;
            most = v > most ? v : most;
        }
        put(t->want, GB_S_F32, r, sum);
        put(t->want, GB_S_F32, ROWS + r, most);
    }
    for (int k = 0; k < 2; k++) {
        s->out[k] = (gb_operand){
            .buffer = 2, .offset = k * ROWS * 4u, .rank = 1, .dim = {ROWS}, .stride = {1}};
    }
    t->bytes = 2 * ROWS * 4;
    return s->expr != NULL;
}

/* A product in f16. */
static bool make_product(trial *t, gb_arena *arena)
{
    (void)arena;
    t->step = (gb_step){.kind = GB_STEP_MATMUL,
                        .variant = "matmul.packed32",
                        .n_in = 2,
                        .n_out = 1,
                        .in = {matrix(0, GB_S_F16, M, K), matrix(1, GB_S_F16, K, PRODUCTS)},
                        .out = {matrix(2, GB_S_F16, M, PRODUCTS)},
                        .fast = true};
    int a[M * K], b[K * PRODUCTS];
    for (int i = 0; i < M * K; i++) put(t->in[0], GB_S_F16, i, a[i] = i * 31 % 7 - 3);
    for (int i = 0; i < K * PRODUCTS; i++) put(t->in[1], GB_S_F16, i, b[i] = i * 17 % 11 - 5);
    for (int r = 0; r < M; r++)
        for (int c = 0; c < PRODUCTS; c++) {
            int sum = 0;
            for (int k = 0; k < K; k++) sum += a[r * K + k] * b[k * PRODUCTS + c];
            put(t->want, GB_S_F16, r * PRODUCTS + c, sum);
        }
    t->bytes = M * PRODUCTS * 2;
    return true;
}

static gb_status run_trial(const gb_backend *be, gb_backend_device *dev, trial *t,
                           unsigned char *got, gb_error *err)
{
    gb_plan_buffer planned[3] = {{.role = GB_BUF_INPUT, .bytes = TRIAL_BYTES},
                                 {.role = GB_BUF_INPUT, .bytes = TRIAL_BYTES},
                                 {.role = GB_BUF_OUTPUT, .bytes = TRIAL_BYTES}};
    gb_plan plan = {
        .n_steps = 1, .n_buffers = 3, .step = &t->step, .buffer = planned, .scalars_buffer = -1};
    gb_backend_buffer *buffer[3] = {NULL};
    gb_status s = GB_OK;
    for (int i = 0; i < 3 && !s; i++) s = be->buffer_create(dev, TRIAL_BYTES, &buffer[i], err);
    for (int i = 0; i < 2 && !s; i++)
        s = be->buffer_write(dev, buffer[i], 0, TRIAL_BYTES, t->in[i], err);
    if (!s) s = gb_gpu_probe_run(be, dev, &plan, buffer, 2, t->bytes, got, err);
    for (int i = 0; i < 3; i++)
        if (buffer[i]) be->buffer_destroy(dev, buffer[i]);
    return s;
}

/* False where the device does not do it, or is lost. */
static bool does(const gb_backend *be, gb_backend_device *dev, bool (*make)(trial *, gb_arena *))
{
    trial *t = calloc(1, sizeof *t);
    unsigned char *got = calloc(1, TRIAL_BYTES);
    gb_arena *arena = gb_arena_create();
    gb_error err;
    bool right = t && got && arena && !be->lost(dev) && make(t, arena);
    if (right) {
        t->step.path = "probe";
        t->step.phase = "forward";
        t->step.scratch.buffer = -1;
        right = run_trial(be, dev, t, got, &err) == GB_OK && memcmp(got, t->want, t->bytes) == 0;
    }
    gb_arena_destroy(arena);
    free(got);
    free(t);
    return right;
}

void gb_gpu_probe_caps(const gb_backend *backend, const gb_backend_options *o, int index,
                       gb_gpu_open *open, gb_hash key, gb_gpu_caps *caps)
{
    const gb_backend_options plain = {.cache_dir = o ? o->cache_dir : NULL};
    gb_backend_device *dev = NULL;
    bool said[2] = {caps->shuffle, caps->half_math}, works[2] = {false, false};
    void *kept;
    size_t bytes;
    gb_error err;
    caps->shuffle = caps->half_math = false;
    if ((!said[0] && !said[1]) || (caps->cpu_hosted && !caps->variant)) return;
    gb_hash_text(&key, backend->kernels);
    if (gb_cache_load(plain.cache_dir, "abilities", key, &kept, &bytes)) {
        if (bytes == sizeof works) memcpy(works, kept, sizeof works);
        free(kept);
    } else if (open(&plain, index, &dev, &err) == GB_OK) {
        works[0] = said[0] && does(backend, dev, make_reduction);
        works[1] = said[1] && does(backend, dev, make_product);
        backend->close(dev);
        gb_cache_store(plain.cache_dir, "abilities", key, works, sizeof works);
    }
    caps->shuffle = works[0];
    caps->half_math = works[1];
}
