/* Drivers list matrix units that give wrong results, so each kernel has to pass a small step first.
 * All values are small integers, so that sums are exact in any order. */
#include <stdlib.h>
#include <string.h>

#include "backends/gpu/matrix.h"
#include "backends/gpu/probe.h"
#include "core/base/half.h"

enum { X, W, Y, TENSORS }; /* operands of y = x · w, each of which one kind computes */

typedef struct trial {
    gb_step step;
    gb_operand tensor[TENSORS];
    int64_t count[TENSORS];
    int result; /* of the three */
    float *value[TENSORS];
} trial;

/* A product with whole and with partial tiles; an image of 16 channels and one of 40. */
enum { M = 130, N = 136, K = 72, C = 16, O = 40, H = 9, WIDTH = 11, TAPS = 3 };

static gb_operand matrix(int64_t rows, int64_t columns)
{
    return (gb_operand){.rank = 2, .dim = {rows, columns}, .stride = {columns, 1}};
}

/* Dense, channels last. */
static gb_operand image(int64_t n, int64_t c, int64_t h, int64_t w)
{
    return (gb_operand){.rank = 4, .dim = {n, c, h, w}, .stride = {h * w * c, 1, w * c, c}};
}

static void describe(trial *t, gb_step_kind kind, gb_storage type)
{
    static const int roles[4][3] = {{X, W, Y}, {X, W, Y}, {Y, W, X}, {X, Y, W}};
    const int *role = roles[kind - GB_STEP_MATMUL];
    const bool matmul = kind == GB_STEP_MATMUL;
    t->tensor[X] = matmul ? matrix(M, K) : image(1, C, H, WIDTH);
    t->tensor[W] = matmul ? matrix(K, N) : image(O, C, TAPS, TAPS);
    t->tensor[Y] = matmul ? matrix(M, N) : image(1, O, H, WIDTH);
    t->result = role[2];
    for (int i = 0; i < TENSORS; i++) {
        gb_operand *o = &t->tensor[i];
        t->count[i] = 1;
        for (int d = 0; d < o->rank; d++) t->count[i] *= o->dim[d];
        o->buffer = i;
        o->storage = i == t->result ? GB_S_F32 : type;
    }
    t->step = (gb_step){.kind = kind,
                        .path = "probe",
                        .phase = "forward",
                        .n_in = 2,
                        .n_out = 1,
                        .in = {t->tensor[role[0]], t->tensor[role[1]]},
                        .out = {t->tensor[role[2]]},
                        .scratch = {.buffer = TENSORS}};
    t->step.u.conv = (gb_window){.kernel = {TAPS, TAPS},
                                 .stride = {1, 1},
                                 .dilation = {1, 1},
                                 .pad = {1, 1},
                                 .pad_end = {1, 1},
                                 .groups = 1};
}

/* One product of the sums: of elements x, w and y. */
static void add(trial *t, int64_t x, int64_t w, int64_t y)
{
    const int64_t at[TENSORS] = {x, w, y};
    float product = 1;
    for (int i = 0; i < TENSORS; i++)
        if (i != t->result) product *= t->value[i][at[i]];
    t->value[t->result][at[t->result]] += product;
}

static void add_pixel(trial *t, int64_t h, int64_t w, int64_t kh, int64_t kw)
{
    const int64_t y = h + kh - 1, x = w + kw - 1;
    if (y < 0 || y >= H || x < 0 || x >= WIDTH) return;
    for (int64_t o = 0; o < O; o++)
        for (int64_t c = 0; c < C; c++)
            add(t, (y * WIDTH + x) * C + c, ((o * TAPS + kh) * TAPS + kw) * C + c,
                (h * WIDTH + w) * O + o);
}

static void compute(trial *t)
{
    for (int i = 0; i < TENSORS; i++)
        for (int64_t e = 0; e < t->count[i] && i != t->result; e++)
            t->value[i][e] = (float)((e * 7 + e / 5 + i) % 7 - 3);
    if (t->step.kind == GB_STEP_MATMUL) {
        for (int64_t m = 0; m < M; m++)
            for (int64_t n = 0; n < N; n++)
                for (int64_t k = 0; k < K; k++) add(t, m * K + k, k * N + n, m * N + n);
        return;
    }
    for (int64_t p = 0; p < H * WIDTH; p++)
        for (int64_t tap = 0; tap < TAPS * TAPS; tap++)
            add_pixel(t, p / WIDTH, p % WIDTH, tap / TAPS, tap % TAPS);
}

static gb_status send(const gb_backend *be, gb_backend_device *dev, const trial *t, int i,
                      gb_backend_buffer *buffer)
{
    const uint64_t bytes = (uint64_t)t->count[i] * 2;
    const bool bf16 = t->tensor[i].storage == GB_S_BF16;
    uint16_t *half = malloc(bytes);
    if (!half) return GB_OUT_OF_MEMORY;
    for (int64_t e = 0; e < t->count[i]; e++)
        half[e] = (bf16 ? gb_f32_to_bf16 : gb_f32_to_f16)(t->value[i][e]);
    gb_status s = be->buffer_write(dev, buffer, 0, bytes, half, NULL);
    free(half);
    return s;
}

static gb_status run_step(const gb_backend *be, gb_backend_device *dev, trial *t, float *got)
{
    gb_plan_buffer planned[TENSORS + 1];
    gb_backend_buffer *buffer[TENSORS + 1] = {NULL};
    const uint64_t bytes = (uint64_t)t->count[t->result] * 4;
    gb_answer answer;
    gb_status s = GB_OK;
    be->query(dev, &t->step, &answer);
    if (!answer.ok) return GB_UNSUPPORTED;
    for (int i = 0; i <= TENSORS && s == GB_OK; i++) {
        const uint64_t size = i == TENSORS ? answer.scratch_bytes : (uint64_t)t->count[i] * 4;
        planned[i] = (gb_plan_buffer){.role = GB_BUF_TRANSIENT, .bytes = size};
        s = be->buffer_create(dev, size, &buffer[i], NULL);
        if (s == GB_OK && i < TENSORS && i != t->result) s = send(be, dev, t, i, buffer[i]);
    }
    const gb_plan plan = {.n_steps = 1,
                          .n_buffers = TENSORS + 1,
                          .step = &t->step,
                          .buffer = planned,
                          .scalars_buffer = -1};
    if (s == GB_OK) s = gb_gpu_probe_run(be, dev, &plan, buffer, t->result, bytes, got, NULL);
    for (int i = 0; i <= TENSORS; i++)
        if (buffer[i]) be->buffer_destroy(dev, buffer[i]);
    return s;
}

/* All sizes of one kind; the bits of those that were right. */
static uint32_t try_kind(const gb_backend *be, gb_backend_device *dev, gb_step_kind kind,
                         gb_storage type)
{
    trial t = {.result = 0};
    uint32_t works = 0;
    describe(&t, kind, type);
    const size_t bytes = (size_t)t.count[t.result] * 4;
    float *got = malloc(bytes);
    bool memory = got != NULL;
    for (int i = 0; i < TENSORS; i++) {
        t.value[i] = calloc((size_t)t.count[i], sizeof **t.value);
        memory = memory && t.value[i];
    }
    if (memory) compute(&t);
    for (int size = 0; size < GB_MATRIX_SIZES && memory; size++) {
        const char *name = gb_matrix_name(kind, (gb_matrix_size)size);
        memset(got, 0, bytes);
        strncpy(t.step.variant, name, sizeof t.step.variant - 1);
        if (run_step(be, dev, &t, got) == GB_OK && memcmp(got, t.value[t.result], bytes) == 0)
            works |= gb_matrix_bit(kind, (gb_matrix_size)size);
    }
    for (int i = 0; i < TENSORS; i++) free(t.value[i]);
    free(got);
    return works;
}

static void try_type(const gb_backend *be, gb_backend_device *dev, gb_storage type,
                     gb_gpu_units *units)
{
    uint32_t works = 0;
    if (!units->m) return;
    units->works = UINT32_MAX; /* so that they are chosen */
    for (int kind = GB_STEP_MATMUL; kind <= GB_STEP_CONV_FILTER; kind++)
        works |= try_kind(be, dev, (gb_step_kind)kind, type);
    units->works = works;
}

void gb_gpu_probe_matrix(const gb_backend *backend, gb_backend_device *dev, gb_gpu_matrix *matrix)
{
    try_type(backend, dev, GB_S_F16, &matrix->f16);
    try_type(backend, dev, GB_S_BF16, &matrix->bf16);
}
