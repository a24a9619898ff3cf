#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "tests/support/plan_case.h"

void gb_case_start(gb_case *c, gb_step_kind kind, const char *format, ...)
{
    *c = (gb_case){.arena = gb_arena_create(), .tolerance = 2e-6};
    assert_non_null(c->arena);
    int used = snprintf(c->name, sizeof c->name, "%s ", gb_step_kind_name(kind));
    va_list args;
    va_start(args, format);
    vsnprintf(c->name + used, sizeof c->name - (size_t)used, format, args);
    va_end(args);
    for (const char *p = c->name; *p; p++) c->seed = c->seed * 31 + (uint8_t)*p;
    c->step = (gb_step){.kind = kind, .path = "case", .phase = "forward", .scratch.buffer = -1};
    for (int k = 0; k < GB_MAX_STEP_OUT; k++) c->step.scale[k] = 1;
    c->plan.scalars_buffer = -1;
}

void gb_case_free(gb_case *c)
{
    gb_arena_destroy(c->arena);
    c->arena = NULL;
}

static void *need(const gb_case *c, size_t bytes)
{
    void *p = gb_arena_alloc(c->arena, bytes ? bytes : 1);
    assert_non_null(p);
    return p;
}

/* --- data --- */

static uint32_t draw(gb_case *c)
{
    c->seed = c->seed * 1664525u + 1013904223u;
    uint32_t x = c->seed ^ c->seed >> 15;
    return x * 2246822519u ^ x >> 13;
}

static double value(gb_case *c, gb_fill fill)
{
    static const double special[] = {NAN, INFINITY, -INFINITY, 0, -0.0, 1, -1, 3e38, -3e38,
                                     1e-20, 0.5, -1.5, 2.5, 87, -87, 1e9, -5e9};
    double u = draw(c) / 0x1p32;
    switch (fill) {
    case GB_FILL_UNIFORM: return 4 * u - 2;
    case GB_FILL_POSITIVE: return 0.1 + 2 * u;
    case GB_FILL_UNIT: return 1.8 * u - 0.9;
    case GB_FILL_SPECIAL: return special[draw(c) % (sizeof special / sizeof *special)];
    case GB_FILL_INTEGER: return floor(80 * u) - 40;
    case GB_FILL_BITS: return (int32_t)draw(c);
    case GB_FILL_SHIFT: return floor(32 * u);
    case GB_FILL_BOOL: return u < 0.5;
    default: return 0;
    }
}

static void encode(uint8_t *to, gb_storage s, double v)
{
    int32_t i = s == GB_S_I32 ? (int32_t)v : 0;
    float f = (float)v;
    uint16_t h = s == GB_S_F16 ? gb_f32_to_f16(f) : gb_f32_to_bf16(f);
    const void *from = s == GB_S_I32 ? (void *)&i : s == GB_S_F32 ? (void *)&f : (void *)&h;
    memcpy(to, from, gb_storage_size(s));
}

static double decode(const uint8_t *from, gb_storage s)
{
    int32_t i;
    float f;
    uint16_t h;
    memcpy(s == GB_S_I32 ? (void *)&i : s == GB_S_F32 ? (void *)&f : (void *)&h, from,
           gb_storage_size(s));
    return s == GB_S_I32   ? i
           : s == GB_S_F32 ? f
           : s == GB_S_F16 ? gb_f16_to_f32(h)
                           : gb_bf16_to_f32(h);
}

static int64_t count_of(const gb_operand *o)
{
    int64_t n = 1;
    for (int i = 0; i < o->rank; i++) n *= o->dim[i];
    return n;
}

/* Byte offset of element i in row-major order. */
static size_t place_of(const gb_operand *o, int64_t i)
{
    int64_t element = 0;
    for (int a = o->rank - 1; a >= 0; i /= o->dim[a], a--) element += i % o->dim[a] * o->stride[a];
    return (size_t)((int64_t)o->offset + element * (int64_t)gb_storage_size(o->storage));
}

static int add_buffer(gb_case *c, gb_buffer_role role, size_t bytes)
{
    int b = c->plan.n_buffers++;
    assert_true(b < GB_CASE_BUFFERS);
    c->buffer[b] = (gb_plan_buffer){.role = role, .index = b, .bytes = bytes};
    c->bytes[b] = need(c, bytes);
    memset(c->bytes[b], 0x5a, bytes);
    return b;
}

gb_operand gb_case_operand(gb_case *c, gb_storage storage, int rank, const int64_t *dim,
                           const int *order, gb_fill fill)
{
    gb_operand o = {.offset = GB_CASE_GUARD, .storage = storage, .rank = rank};
    int64_t n = 1;
    for (int i = rank - 1; i >= 0; i--) {
        int axis = order ? order[i] : i;
        o.dim[axis] = dim[axis];
        o.stride[axis] = n;
        n *= dim[axis];
    }
    size_t size = gb_storage_size(storage), bytes = ((size_t)n * size + 255) / 256 * 256;
    o.buffer = add_buffer(c, fill == GB_FILL_POISON ? GB_BUF_OUTPUT : GB_BUF_INPUT,
                          bytes + 2 * GB_CASE_GUARD);
    uint8_t *data = c->bytes[o.buffer] + GB_CASE_GUARD;
    for (int64_t i = 0; i < n; i++) {
        if (fill == GB_FILL_POISON) memset(data + (size_t)i * size, 0x7f, size);
        else encode(data + (size_t)i * size, storage, value(c, fill));
    }
    c->storages |= 1u << storage;
    return o;
}

gb_operand *gb_case_in(gb_case *c, gb_storage storage, int rank, const int64_t *dim,
                       const int *order, gb_fill fill)
{
    gb_operand *o = &c->step.in[c->step.n_in++];
    *o = gb_case_operand(c, storage, rank, dim, order, fill);
    return o;
}

gb_operand *gb_case_out(gb_case *c, gb_storage storage, int rank, const int64_t *dim,
                        const int *order)
{
    gb_operand *o = &c->step.out[c->step.n_out++];
    *o = gb_case_operand(c, storage, rank, dim, order, GB_FILL_POISON);
    return o;
}

void gb_case_fill_range(gb_case *c, const gb_operand *o, int64_t low, int64_t high)
{
    for (int64_t i = 0, n = count_of(o); i < n; i++)
        encode(c->bytes[o->buffer] + place_of(o, i), o->storage,
               (double)(low + draw(c) % (high - low)));
}

void gb_case_expr(gb_case *c, gb_xb *b, int n_in, const gb_x *out, int n_out)
{
    c->step.expr = gb_xb_finish(b, n_in, out, n_out, gb_arena_alloc_hook, c->arena);
    assert_non_null(c->step.expr);
    gb_xb_free(b);
}

void gb_case_scalars(gb_case *c, const char *types, const double *values)
{
    int n = (int)strlen(types), b = add_buffer(c, GB_BUF_SCALARS, (size_t)n * 4);
    const char **names = need(c, (size_t)n * sizeof *names);
    for (int i = 0; i < n; i++) {
        names[i] = "scalar";
        encode(c->bytes[b] + 4 * i, types[i] == 'i' ? GB_S_I32 : GB_S_F32, values[i]);
    }
    c->plan.n_scalars = n;
    c->plan.scalar = names;
    c->plan.scalar_type = gb_arena_string(c->arena, types);
    c->plan.scalars_buffer = b;
}

static double *values_in(const gb_case *c, const gb_operand *o, const uint8_t *bytes)
{
    int64_t n = count_of(o);
    double *v = need(c, (size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = decode(bytes + place_of(o, i), o->storage);
    return v;
}

double *gb_case_values(const gb_case *c, const gb_operand *o)
{
    return values_in(c, o, c->bytes[o->buffer]);
}

/* --- running --- */

static void ok(gb_status status, const gb_error *err, const gb_case *c)
{
    if (status != GB_OK) fail_msg("%s: %s: %s", c->name, gb_status_name(status), err->message);
}

typedef struct run_state {
    const gb_backend *b;
    gb_backend_device *dev;
    gb_backend_buffer *buffer[GB_CASE_BUFFERS];
    uint8_t *after[GB_CASE_BUFFERS];
} run_state;

static void run_once(const gb_case *c, const gb_plan *plan, run_state *r,
                     gb_backend_program *program)
{
    gb_error err;
    for (int i = 0; i < plan->n_buffers; i++)
        ok(r->b->buffer_write(r->dev, r->buffer[i], 0, plan->buffer[i].bytes, c->bytes[i], &err),
           &err, c);
    ok(r->b->program_run(program, &err), &err, c);
    ok(r->b->wait(r->dev, &err), &err, c);
    for (int i = 0; i < plan->n_buffers; i++)
        ok(r->b->buffer_read(r->dev, r->buffer[i], 0, plan->buffer[i].bytes, r->after[i], &err),
           &err, c);
}

/* Bytes outside of output windows must be what they were. */
static void check_untouched(const gb_case *c, const gb_plan *plan, uint8_t *const *after,
                            int scratch)
{
    for (int b = 0; b < plan->n_buffers; b++) {
        if (b == scratch) continue;
        uint8_t *free_to_change = need(c, plan->buffer[b].bytes);
        memset(free_to_change, 0, plan->buffer[b].bytes);
        for (int k = 0; k < c->step.n_out; k++) {
            const gb_operand *o = &c->step.out[k];
            for (int64_t i = 0; o->buffer == b && i < count_of(o); i++)
                memset(free_to_change + place_of(o, i), 1, gb_storage_size(o->storage));
        }
        for (uint64_t i = 0; i < plan->buffer[b].bytes; i++)
            if (!free_to_change[i] && after[b][i] != c->bytes[b][i])
                fail_msg("%s: byte %llu of buffer %d of %llu was overwritten", c->name,
                         (unsigned long long)i, b, (unsigned long long)plan->buffer[b].bytes);
    }
}

void gb_case_run(const gb_case *c, const gb_backend *b, gb_backend_device *dev, gb_outcome *outcome)
{
    gb_case copy = *c; /* the plan of this run, with scratch of this backend */
    gb_error err;
    gb_answer answer = {0};
    *outcome = (gb_outcome){0};
    b->query(dev, &copy.step, &answer);
    memcpy(outcome->reason, answer.reason, sizeof outcome->reason);
    memcpy(outcome->variant, answer.variant, sizeof outcome->variant);
    if ((outcome->rejected = !answer.ok)) return;
    if (answer.scratch_bytes)
        copy.step.scratch = (gb_operand){.buffer = add_buffer(&copy, GB_BUF_ARENA, answer.scratch_bytes),
                                         .rank = 1, .dim = {(int64_t)answer.scratch_bytes / 4},
                                         .stride = {1}};
    copy.step.scratch_bytes = answer.scratch_bytes;
    copy.plan.n_steps = 1;
    copy.plan.step = &copy.step;
    copy.plan.buffer = copy.buffer;
    run_state r = {.b = b, .dev = dev};
    for (int i = 0; i < copy.plan.n_buffers; i++) {
        r.after[i] = need(c, copy.buffer[i].bytes);
        ok(b->buffer_create(dev, copy.buffer[i].bytes, &r.buffer[i], &err), &err, c);
    }
    gb_backend_program *program;
    ok(b->program_create(dev, &copy.plan, &program, &err), &err, c);
    ok(b->program_bind(program, r.buffer, &err), &err, c);
    run_once(&copy, &copy.plan, &r, program);
    for (int k = 0; k < c->step.n_out; k++)
        if (c->step.out[k].buffer >= 0) {
            outcome->count[k] = count_of(&c->step.out[k]);
            outcome->out[k] = values_in(c, &c->step.out[k], r.after[c->step.out[k].buffer]);
        }
    check_untouched(&copy, &copy.plan, r.after, copy.step.scratch.buffer);
    run_once(&copy, &copy.plan, &r, program);
    for (int k = 0; k < c->step.n_out; k++)
        if (outcome->out[k])
            assert_memory_equal(outcome->out[k],
                                values_in(c, &c->step.out[k], r.after[c->step.out[k].buffer]),
                                (size_t)outcome->count[k] * sizeof(double));
    b->program_destroy(program);
    for (int i = 0; i < copy.plan.n_buffers; i++) b->buffer_destroy(dev, r.buffer[i]);
}

bool gb_case_tries(const gb_case *c, const char *variant)
{
    return !c->tries || strstr(c->tries, strchr(variant, '.') ? strchr(variant, '.') : variant);
}

void gb_case_compare(const gb_case *c, const gb_outcome *got, const gb_outcome *want)
{
    for (int k = 0; k < c->step.n_out; k++) {
        if (!want->out[k]) continue;
        gb_storage s = c->step.out[k].storage;
        double largest = 0, bound;
        for (int64_t i = 0; i < want->count[k]; i++)
            if (isfinite(want->out[k][i])) largest = fmax(largest, fabs(want->out[k][i]));
        bound = s == GB_S_I32 ? 0 : c->tolerance * fmax(largest, 1e-30);
        if (s == GB_S_F16) bound += largest * 0x1p-10;
        if (s == GB_S_BF16) bound += largest * 0x1p-7;
        for (int64_t i = 0; i < want->count[k]; i++) {
            double g = got->out[k][i], w = want->out[k][i];
            if (g == w || (isnan(g) && isnan(w)) || fabs(g - w) <= bound) continue;
            fail_msg("%s [%s]: output %d, element %lld of %lld is %.9g instead of %.9g", c->name,
                     got->variant, k, (long long)i, (long long)want->count[k], g, w);
        }
    }
}
