/* Runs one plan step on the CPU backend (each instruction set, 1, 2 and 5 threads) and on the
 * float64 reference, and compares every word of every buffer: what lies outside of the outputs
 * must not change. */
#ifndef STEP_CHECK_H
#define STEP_CHECK_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "core/base/arena.h"

extern const gb_backend gb_cpu_backend, gb_reference_backend;

#define MAX_BUFFERS 20
#define PAD 8 /* words before and behind each window */

typedef struct {
    gb_step step;
    int n_buffers;
    uint32_t *data[MAX_BUFFERS]; /* initial contents */
    int64_t words[MAX_BUFFERS];
    char type[MAX_BUFFERS];
    gb_arena *arena;
    gb_xb xb;
    uint64_t seed;
    int n_scalars;
    double tolerance; /* relative to the largest value of the buffer */
} check;

static inline double random_unit(check *c)
{
    c->seed = c->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(c->seed >> 11) * 0x1p-53;
}

static inline void put_value(check *c, int buffer, int64_t i, double v)
{
    float f = (float)v;
    int32_t n = (int32_t)v;
    memcpy(&c->data[buffer][i], c->type[buffer] == 'f' ? (void *)&f : (void *)&n, 4);
}

/* A window with the given strides; the buffer holds just what it touches, and padding. Floats are
 * in [-2, 2), integers in [-9, 9]. */
static inline gb_operand window(check *c, char type, int rank, const int64_t *dim,
                                const int64_t *stride)
{
    gb_operand o = {
        .buffer = c->n_buffers++, .rank = rank, .storage = type == 'f' ? GB_S_F32 : GB_S_I32};
    int64_t low = 0, high = 0;
    for (int i = 0; i < rank; i++) {
        o.dim[i] = dim[i];
        o.stride[i] = stride[i];
        int64_t reach = dim[i] ? (dim[i] - 1) * stride[i] : 0;
        if (reach < 0)
            low -= reach;
        else
            high += reach;
    }
    o.offset = (uint64_t)(low + PAD) * 4;
    int b = o.buffer;
    c->words[b] = low + high + 1 + 2 * PAD;
    c->type[b] = type;
    c->data[b] = malloc((size_t)c->words[b] * 4);
    for (int64_t i = 0; i < c->words[b]; i++)
        put_value(c, b, i, type == 'f' ? 4 * random_unit(c) - 2 : floor(19 * random_unit(c)) - 9);
    return o;
}

/* Dense, with the axes in memory order `order` (outermost first); NULL: 0, 1, 2, … */
static inline gb_operand dense(check *c, char type, int rank, const int64_t *dim, const int *order)
{
    int64_t stride[GB_MAX_RANK], n = 1;
    for (int i = rank - 1; i >= 0; i--) {
        int axis = order ? order[i] : i;
        stride[axis] = n;
        n *= dim[axis] ? dim[axis] : 1;
    }
    return window(c, type, rank, dim, stride);
}

static inline void check_begin(check *c, gb_step_kind kind, int rank, const int64_t *dim)
{
    *c = (check){.seed = 42, .tolerance = 1e-6, .arena = gb_arena_create()};
    c->step = (gb_step){.kind = kind, .path = "test", .phase = "forward", .rank = rank};
    c->step.scratch.buffer = -1;
    for (int i = 0; i < GB_MAX_STEP_OUT; i++) c->step.scale[i] = 1;
    memcpy(c->step.dim, dim, (size_t)rank * sizeof *dim);
}

static inline void add_in(check *c, gb_operand o)
{
    c->step.in[c->step.n_in++] = o;
}

static inline void add_out(check *c, gb_operand o)
{
    c->step.out[c->step.n_out++] = o;
}

static inline void set_expr(check *c, int n_in, const gb_x *out, int n_out)
{
    c->step.expr = gb_xb_finish(&c->xb, n_in, out, n_out, gb_arena_alloc_hook, c->arena);
    assert_non_null(c->step.expr);
}

static inline void run_on(const check *c, const gb_backend *b, const gb_backend_options *o,
                          uint32_t **result)
{
    gb_backend_device *dev;
    gb_backend_program *prog;
    gb_backend_buffer *buffer[MAX_BUFFERS + 2];
    gb_error err = {0};
    gb_step step = c->step;
    gb_answer answer;
    gb_plan_buffer described[MAX_BUFFERS + 2] = {0};
    assert_int_equal(b->open(o, 0, &dev, &err), GB_OK);
    b->query(dev, &step, &answer);
    if (!answer.ok) fail_msg("%s refuses: %s", b->name, answer.reason);
    int n = c->n_buffers;
    for (int i = 0; i < n; i++) {
        uint64_t bytes = (uint64_t)c->words[i] * 4;
        assert_int_equal(b->buffer_create(dev, bytes, &buffer[i], &err), GB_OK);
        b->buffer_write(dev, buffer[i], 0, bytes, c->data[i], &err);
    }
    step.scratch_bytes = answer.scratch_bytes;
    step.scratch = (gb_operand){.buffer = n};
    assert_int_equal(b->buffer_create(dev, answer.scratch_bytes + 256, &buffer[n], &err), GB_OK);
    gb_plan plan = {.n_steps = 1,
                    .step = &step,
                    .n_buffers = n + 1,
                    .buffer = described,
                    .scalars_buffer = c->n_scalars ? 0 : -1,
                    .n_scalars = c->n_scalars,
                    .scalar_type = "fi"};
    if (b->program_create(dev, &plan, &prog, &err)) fail_msg("%s: %s", b->name, err.message);
    assert_int_equal(b->program_bind(prog, buffer, &err), GB_OK);
    assert_int_equal(b->program_run(prog, &err), GB_OK);
    for (int i = 0; i < n; i++) {
        uint64_t bytes = (uint64_t)c->words[i] * 4;
        result[i] = malloc(bytes);
        b->buffer_read(dev, buffer[i], 0, bytes, result[i], &err);
    }
    for (int i = 0; i <= n; i++) b->buffer_destroy(dev, buffer[i]);
    b->program_destroy(prog);
    b->close(dev);
}

static inline void compare(const check *c, const char *isa, uint32_t *const *got,
                           uint32_t *const *want)
{
    for (int b = 0; b < c->n_buffers; b++) {
        const float *x = (const float *)got[b], *y = (const float *)want[b];
        double largest = 1e-30;
        if (c->type[b] == 'i') assert_memory_equal(got[b], want[b], (size_t)c->words[b] * 4);
        if (c->type[b] == 'i') continue;
        for (int64_t i = 0; i < c->words[b]; i++)
            if (isfinite(y[i]) && fabsf(y[i]) > largest) largest = fabsf(y[i]);
        for (int64_t i = 0; i < c->words[b]; i++) {
            if (got[b][i] == want[b][i] || (isnan(x[i]) && isnan(y[i]))) continue;
            if (!(fabs((double)x[i] - y[i]) <= c->tolerance * largest))
                fail_msg("%s: buffer %d, word %lld of %lld: %.9g, reference %.9g", isa, b,
                         (long long)i, (long long)c->words[b], x[i], y[i]);
        }
    }
}

static inline void drop(const check *c, uint32_t **result)
{
    for (int i = 0; i < c->n_buffers; i++) free(result[i]);
}

/* The instruction sets that this machine has. */
static inline bool has_isa(const char *isa)
{
    gb_backend_options o = {.isa = isa};
    gb_device_info info;
    char reason[200];
    int n;
    gb_cpu_backend.enumerate(&o, &info, 1, &n, reason, sizeof reason);
    return n == 1;
}

static inline void check_end(check *c)
{
    static const char *const isas[] = {"scalar", "avx2", "avx512"};
    static const int threads[] = {1, 2, 5};
    uint32_t *want[MAX_BUFFERS], *first[MAX_BUFFERS], *got[MAX_BUFFERS];
    gb_backend_options o = {.threads = 1};
    run_on(c, &gb_reference_backend, &o, want);
    for (int k = 0; k < 3; k++) {
        if (!has_isa(isas[k])) continue;
        o.isa = isas[k];
        for (int t = 0; t < 3; t++) {
            o.threads = threads[t];
            run_on(c, &gb_cpu_backend, &o, t ? got : first);
            if (t == 0) compare(c, isas[k], first, want);
            for (int b = 0; t && b < c->n_buffers; b++)
                assert_memory_equal(got[b], first[b], (size_t)c->words[b] * 4);
            if (t) drop(c, got);
        }
        drop(c, first);
    }
    drop(c, want);
    for (int b = 0; b < c->n_buffers; b++) free(c->data[b]);
    gb_xb_free(&c->xb);
    gb_arena_destroy(c->arena);
}

#endif
