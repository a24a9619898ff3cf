#include "tests/support/plans.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"

extern const gb_backend gb_reference_backend;

gb_test_plan *gb_test_plan_create(void)
{
    gb_test_plan *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->arena = gb_arena_create();
    assert_non_null(t->arena);
    t->plan = (gb_plan){.step = t->step, .buffer = t->buffer, .scalars_buffer = -1};
    t->seed = 1;
    return t;
}

void gb_test_plan_destroy(gb_test_plan *t)
{
    for (int i = 0; i < t->plan.n_buffers; i++) free(t->data[i]);
    gb_arena_destroy(t->arena);
    free(t);
}

gb_step *gb_test_step(gb_test_plan *t, gb_step_kind kind)
{
    gb_step *s = &t->step[t->plan.n_steps++];
    *s = (gb_step){.kind = kind, .path = "test", .phase = "forward", .scratch = {.buffer = -1}};
    return s;
}

static double uniform(gb_test_plan *t)
{
    t->seed = t->seed * 1664525u + 1013904223u;
    return (double)(t->seed >> 8) * 0x1p-24;
}

static double element(const unsigned char *data, gb_storage s, int64_t i)
{
    uint32_t word;
    uint16_t half;
    memcpy(&word, data + i * 4 * (s <= GB_S_I32), 4);
    memcpy(&half, data + i * 2 * (s > GB_S_I32), 2);
    return s == GB_S_F32   ? (double)gb_bits_f32(word)
           : s == GB_S_I32 ? (double)(int32_t)word
           : s == GB_S_F16 ? (double)gb_f16_to_f32(half)
                           : (double)gb_bf16_to_f32(half);
}

static void set_element(unsigned char *data, gb_storage s, int64_t i, double v)
{
    uint32_t word = s == GB_S_I32   ? (uint32_t)(int32_t)v
                    : s == GB_S_F32 ? gb_f32_bits((float)v)
                    : s == GB_S_F16 ? gb_f32_to_f16((float)v)
                                    : gb_f32_to_bf16((float)v);
    size_t size = gb_storage_size(s);
    memcpy(data + (size_t)i * size, &word, size);
}

int gb_test_buffer(gb_test_plan *t, gb_storage storage, int64_t n, double lo, double hi)
{
    int index = t->plan.n_buffers++;
    uint64_t bytes = ((uint64_t)n * gb_storage_size(storage) + 3) / 4 * 4;
    assert_true(index < GB_TEST_MAX_BUFFERS);
    t->buffer[index] = (gb_plan_buffer){.role = GB_BUF_STATE, .bytes = bytes};
    t->storage[index] = storage;
    t->data[index] = calloc(bytes + 4, 1);
    assert_non_null(t->data[index]);
    for (int64_t i = 0; i < n; i++)
        set_element(t->data[index], storage, i, lo + (hi - lo) * uniform(t));
    return index;
}

gb_operand gb_test_dense(gb_test_plan *t, gb_storage storage, double lo, double hi, int rank, ...)
{
    gb_operand o = {.storage = storage, .rank = rank};
    va_list args;
    int64_t n = 1;
    va_start(args, rank);
    for (int d = 0; d < rank; d++) o.dim[d] = va_arg(args, int);
    va_end(args);
    for (int d = rank - 1; d >= 0; d--) {
        o.stride[d] = n;
        n *= o.dim[d];
    }
    o.buffer = gb_test_buffer(t, storage, n + 6, lo, hi);
    o.offset = 3 * gb_storage_size(storage);
    return o;
}

gb_operand gb_test_image(gb_test_plan *t, double lo, double hi, int n, int c, int h, int w)
{
    gb_operand o = gb_test_dense(t, GB_S_F32, lo, hi, 4, n, h, w, c);
    return (gb_operand){.buffer = o.buffer, .offset = o.offset, .storage = GB_S_F32, .rank = 4,
                        .dim = {n, c, h, w}, .stride = {(int64_t)h * w * c, 1, (int64_t)w * c, c}};
}

float *gb_test_floats(gb_test_plan *t, const gb_operand *o)
{
    return (float *)(void *)(t->data[o->buffer] + o->offset);
}

int32_t *gb_test_ints(gb_test_plan *t, const gb_operand *o)
{
    return (int32_t *)(void *)(t->data[o->buffer] + o->offset);
}

gb_backend_device *gb_test_open(const gb_backend *backend, const char *variant)
{
    gb_backend_options options = {.variant = variant, .validate = true};
    gb_backend_device *dev = NULL;
    gb_error err = {0};
    return backend->open(&options, 0, &dev, &err) == GB_OK ? dev : NULL;
}

static void check(gb_status s, const gb_error *err, const char *name, const char *where)
{
    if (s != GB_OK) fail_msg("%s: %s: %s", name, where, err->message);
}

/* Gives every step the scratch that the device asks for, in a buffer of its own. */
static void plan_scratch(gb_test_plan *t, const gb_backend *be, gb_backend_device *dev,
                         const char *name)
{
    for (int i = 0; i < t->plan.n_steps; i++) {
        gb_answer answer;
        be->query(dev, &t->step[i], &answer);
        if (!answer.ok) fail_msg("%s: refused: %s", name, answer.reason);
        t->step[i].scratch = (gb_operand){.buffer = -1};
        t->step[i].scratch_bytes = answer.scratch_bytes;
        if (answer.scratch_bytes == 0) continue;
        t->step[i].scratch.buffer = t->plan.n_buffers++;
        assert_true(t->plan.n_buffers <= GB_TEST_MAX_BUFFERS);
        t->buffer[t->step[i].scratch.buffer] =
            (gb_plan_buffer){.role = GB_BUF_TRANSIENT, .bytes = answer.scratch_bytes};
    }
}

static void run(gb_test_plan *t, const gb_backend *be, gb_backend_device *dev, const char *name,
                unsigned char **result)
{
    gb_backend_buffer *buffer[GB_TEST_MAX_BUFFERS] = {0};
    gb_backend_program *prog = NULL;
    gb_error err = {0};
    int kept = t->plan.n_buffers;
    plan_scratch(t, be, dev, name);
    for (int i = 0; i < t->plan.n_buffers; i++) {
        check(be->buffer_create(dev, t->buffer[i].bytes, &buffer[i], &err), &err, name, "buffer");
        if (i < kept)
            check(be->buffer_write(dev, buffer[i], 0, t->buffer[i].bytes, t->data[i], &err), &err,
                  name, "write");
    }
    check(be->program_create(dev, &t->plan, &prog, &err), &err, name, "program");
    check(be->program_bind(prog, buffer, &err), &err, name, "bind");
    check(be->program_run(prog, &err), &err, name, "run");
    for (int i = 0; i < t->plan.n_buffers; i++) {
        if (i < kept) {
            result[i] = malloc(t->buffer[i].bytes);
            assert_non_null(result[i]);
            check(be->buffer_read(dev, buffer[i], 0, t->buffer[i].bytes, result[i], &err), &err,
                  name, "read");
        }
    }
    be->program_destroy(prog);
    for (int i = 0; i < t->plan.n_buffers; i++) be->buffer_destroy(dev, buffer[i]);
    t->plan.n_buffers = kept;
}

static bool close_to(double got, double want, double scale, double tolerance)
{
    if (isnan(want)) return isnan(got);
    if (isinf(want)) return got == want;
    return fabs(got - want) <= tolerance * (scale + fabs(want));
}

static void compare_buffer(const char *name, int index, gb_storage s, int64_t n,
                           const unsigned char *got, const unsigned char *want, double tolerance)
{
    double scale = 0;
    for (int64_t i = 0; i < n; i++) {
        double w = fabs(element(want, s, i));
        if (isfinite(w) && w > scale) scale = fmin(w, 1);
    }
    if (s == GB_S_I32) scale = tolerance = 0;
    for (int64_t i = 0; i < n; i++)
        if (!close_to(element(got, s, i), element(want, s, i), scale, tolerance))
            fail_msg("%s: buffer %d, element %lld of %lld: %.9g instead of %.9g", name, index,
                     (long long)i, (long long)n, element(got, s, i), element(want, s, i));
}

void gb_test_compare(gb_test_plan *t, const gb_backend *backend, gb_backend_device *dev,
                     const char *name, double tolerance)
{
    gb_backend_device *ref = gb_test_open(&gb_reference_backend, NULL);
    unsigned char *want[GB_TEST_MAX_BUFFERS] = {0}, *got[GB_TEST_MAX_BUFFERS] = {0};
    assert_non_null(ref);
    run(t, &gb_reference_backend, ref, name, want);
    run(t, backend, dev, name, got);
    for (int i = 0; i < t->plan.n_buffers; i++)
        compare_buffer(name, i, t->storage[i],
                       (int64_t)(t->buffer[i].bytes / gb_storage_size(t->storage[i])), got[i],
                       want[i], tolerance);
    for (int i = 0; i < t->plan.n_buffers; i++) {
        free(want[i]);
        free(got[i]);
    }
    gb_reference_backend.close(ref);
}
