/* Every implementation of CPU contractions at every instruction level, every element against
 * float64 loops. Operands are small integers, so that direct sums and F(2x2) Winograd are exact and
 * must be equal, not close; only F(4x4) Winograd rounds. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/kernels/contraction.h"
#include "core/base/half.h"

#define GUARD 64
#define SENTINEL 12345.0f

typedef struct {
    int64_t n, h, w, c, o, kh, kw, groups, stride[2], dilation[2],
        pad[4]; /* top left bottom right */
} conv_case;

/* clang-format off */
static const conv_case convs[] = {
    {2, 7, 9, 5, 3, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {3, 8, 8, 16, 16, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {5, 4, 4, 64, 64, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {1, 14, 14, 33, 64, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {2, 10, 7, 17, 33, 3, 3, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}},
    {2, 9, 6, 32, 48, 3, 3, 1, {1, 1}, {1, 1}, {2, 0, 1, 3}},
    {9, 2, 2, 33, 17, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {2, 8, 8, 16, 32, 3, 3, 1, {2, 2}, {1, 1}, {1, 1, 1, 1}},
    {3, 9, 7, 33, 17, 3, 3, 1, {2, 2}, {1, 1}, {1, 1, 1, 1}},
    {2, 21, 18, 17, 32, 3, 3, 1, {2, 2}, {1, 1}, {1, 1, 1, 1}}, /* several tiles of stride 2 */
    {2, 13, 20, 32, 16, 3, 3, 1, {2, 2}, {1, 1}, {0, 0, 0, 0}},
    {1, 12, 11, 16, 33, 3, 3, 1, {2, 2}, {1, 1}, {3, 1, 0, 2}},
    {2, 9, 11, 5, 16, 3, 3, 1, {3, 2}, {1, 1}, {0, 1, 2, 1}},
    {1, 6, 6, 4, 5, 2, 2, 1, {3, 3}, {1, 1}, {0, 0, 0, 0}}, /* pixels that nothing reads */
    {2, 11, 12, 3, 8, 7, 7, 1, {2, 2}, {1, 1}, {3, 3, 3, 3}},
    {2, 12, 12, 1, 32, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {2, 12, 12, 3, 16, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {2, 8, 8, 3, 17, 2, 2, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}},
    {2, 9, 9, 8, 8, 3, 3, 1, {1, 1}, {2, 2}, {2, 2, 2, 2}},
    {2, 9, 10, 17, 16, 3, 2, 1, {1, 2}, {2, 3}, {2, 1, 0, 3}},
    {2, 5, 6, 16, 33, 1, 1, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}},
    {2, 6, 5, 33, 16, 1, 1, 1, {2, 2}, {1, 1}, {0, 0, 0, 0}},
    {2, 6, 5, 16, 17, 1, 1, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {2, 6, 5, 12, 18, 3, 3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {1, 7, 7, 64, 32, 3, 3, 2, {2, 2}, {1, 1}, {1, 1, 1, 1}},
    {2, 7, 8, 33, 33, 3, 3, 33, {1, 1}, {1, 1}, {1, 1, 1, 1}},
    {2, 7, 8, 17, 17, 5, 3, 17, {2, 1}, {1, 2}, {2, 2, 2, 2}},
    {2, 6, 6, 8, 24, 3, 3, 8, {1, 1}, {1, 1}, {1, 1, 1, 1}}, /* 3 outputs a channel */
    {3, 1, 23, 5, 16, 1, 5, 1, {1, 1}, {1, 1}, {0, 2, 0, 2}}, /* 1-D */
    {1, 1, 40, 16, 33, 1, 3, 1, {1, 2}, {1, 4}, {0, 4, 0, 4}},
    {1, 5, 5, 7, 9, 5, 5, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}}, /* one output pixel */
    {1, 3, 3, 2, 2, 3, 3, 1, {1, 1}, {1, 1}, {4, 4, 4, 4}}, /* outputs that see padding only */
    {1, 70, 40, 2, 16, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}}, /* more than one band of rows */
    {1, 30, 30, 256, 16, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}}, /* more than one chunk of tiles */
    {1, 9, 9, 150, 133, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}}, /* blocks that fill no vectors */
    {0, 8, 8, 16, 16, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}}, /* empty batch */
};

typedef struct {
    int64_t m, n, k, batch[2];
    int ta, tb, broadcast_b;
} gemm_case;

static const gemm_case gemms[] = {
    {1, 1, 1, {1, 1}, 0, 0, 0},   {7, 5, 3, {1, 1}, 0, 0, 0},    {17, 33, 64, {1, 1}, 0, 1, 0},
    {33, 17, 5, {1, 1}, 1, 0, 0}, {16, 64, 33, {1, 1}, 1, 1, 0}, {65, 47, 700, {1, 1}, 0, 0, 0},
    {128, 10, 65, {1, 1}, 0, 1, 0}, {10, 100, 128, {1, 1}, 1, 0, 0}, {1, 70, 90, {1, 1}, 0, 0, 0},
    {1, 70, 90, {1, 1}, 0, 1, 0}, {70, 1, 90, {1, 1}, 0, 0, 0},  {90, 1, 70, {1, 1}, 1, 0, 0},
    {13, 19, 16, {2, 3}, 0, 1, 0}, {5, 33, 17, {3, 2}, 0, 0, 1}, {3, 4, 0, {2, 1}, 0, 0, 0},
    {0, 4, 5, {1, 1}, 0, 0, 0},   {200, 130, 40, {1, 1}, 0, 0, 0}, {24, 33, 2100, {1, 1}, 1, 0, 0},
    {100, 520, 515, {1, 1}, 0, 1, 0}, /* panels packed by their tasks, k in two parts */
    {40, 70, 21, {4, 5}, 1, 0, 0}, {300, 33, 530, {1, 1}, 1, 1, 0}, {16, 640, 30, {1, 1}, 0, 1, 0},
    {1600, 300, 5, {1, 1}, 0, 0, 0}, /* finished a few panels at a time */
    {512, 70, 19, {1, 1}, 1, 0, 0},  /* rows of A side by side, that collide in a cache */
};
/* clang-format on */

static gb_contraction conv_problem(const conv_case *c, gb_contraction_kind kind)
{
    gb_conv_dims d = {.n = c->n,
                      .h = c->h,
                      .w = c->w,
                      .c = c->c,
                      .o = c->o,
                      .kh = c->kh,
                      .kw = c->kw,
                      .groups = c->groups,
                      .stride_h = c->stride[0],
                      .stride_w = c->stride[1],
                      .dilation_h = c->dilation[0],
                      .dilation_w = c->dilation[1],
                      .pad_top = c->pad[0],
                      .pad_left = c->pad[1]};
    d.oh = (c->h + c->pad[0] + c->pad[2] - c->dilation[0] * (c->kh - 1) - 1) / c->stride[0] + 1;
    d.ow = (c->w + c->pad[1] + c->pad[3] - c->dilation[1] * (c->kw - 1) - 1) / c->stride[1] + 1;
    return (gb_contraction){.kind = kind, .conv = d};
}

static gb_contraction gemm_problem(const gemm_case *c)
{
    gb_gemm_dims d = {.m = c->m, .n = c->n, .k = c->k, .batch = {c->batch[0], c->batch[1]}};
    d.a_row = c->ta ? 1 : c->k + 1;
    d.a_col = c->ta ? c->m + 2 : 1;
    d.b_row = c->tb ? 1 : c->n + 3;
    d.b_col = c->tb ? c->k + 1 : 1;
    d.c_row = c->n + 2; /* the gap must survive */
    d.a_batch[1] = (c->m + 2) * (c->k + 2);
    d.a_batch[0] = d.a_batch[1] * c->batch[1];
    d.b_batch[1] = (c->n + 3) * (c->k + 3);
    d.b_batch[0] = c->broadcast_b ? 0 : d.b_batch[1] * c->batch[1];
    d.c_batch[1] = d.c_row * c->m;
    d.c_batch[0] = d.c_batch[1] * c->batch[1];
    return (gb_contraction){.kind = GB_GEMM, .gemm = d};
}

typedef struct {
    size_t a, b, c; /* floats */
} sizes;

static sizes sizes_of(const gb_contraction *p)
{
    if (p->kind == GB_GEMM) {
        const gb_gemm_dims *d = &p->gemm;
        return (sizes){(size_t)(d->a_batch[1] * d->batch[0] * d->batch[1]),
                       (size_t)(d->b_batch[1] * d->batch[0] * d->batch[1]),
                       (size_t)(d->c_batch[1] * d->batch[0] * d->batch[1])};
    }
    const gb_conv_dims *d = &p->conv;
    size_t x = (size_t)(d->n * d->h * d->w * d->c), y = (size_t)(d->n * d->oh * d->ow * d->o);
    size_t w = (size_t)(d->o * d->kh * d->kw * (d->c / d->groups));
    if (p->kind == GB_CONV_FORWARD) return (sizes){x, w, y};
    if (p->kind == GB_CONV_DATA) return (sizes){y, w, x};
    return (sizes){y, x, w};
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static float *operand(size_t count, uint32_t seed, bool integers)
{
    float *p = malloc((count ? count : 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < count; i++)
        p[i] = integers ? (float)(next_random(&seed) % 9) - 4
                        : (float)next_random(&seed) / (1 << 23) - 1;
    return p;
}

static void gemm_oracle(const gb_gemm_dims *d, const float *a, const float *b, double *c)
{
    for (int64_t b0 = 0; b0 < d->batch[0]; b0++)
        for (int64_t b1 = 0; b1 < d->batch[1]; b1++)
            for (int64_t i = 0; i < d->m; i++)
                for (int64_t j = 0; j < d->n; j++) {
                    const float *pa = a + b0 * d->a_batch[0] + b1 * d->a_batch[1] + i * d->a_row;
                    const float *pb = b + b0 * d->b_batch[0] + b1 * d->b_batch[1] + j * d->b_col;
                    double *pc = c + b0 * d->c_batch[0] + b1 * d->c_batch[1] + i * d->c_row + j;
                    for (int64_t k = 0; k < d->k; k++)
                        *pc += (double)pa[k * d->a_col] * pb[k * d->b_row];
                }
}

/* All triples (y, x, w) that meet; each kind sums the product of two into the third. */
static void conv_oracle(const gb_contraction *p, const float *a, const float *b, double *c)
{
    const gb_conv_dims *d = &p->conv;
    int64_t cg = d->c / d->groups, og = d->o / d->groups, xi, yi, wi;
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t r = 0; r < d->oh * d->ow * d->kh * d->kw; r++) {
            int64_t fx = r % d->kw, fy = r / d->kw % d->kh, ox = r / (d->kw * d->kh) % d->ow;
            int64_t oy = r / (d->kw * d->kh * d->ow);
            int64_t iy = oy * d->stride_h + fy * d->dilation_h - d->pad_top;
            int64_t ix = ox * d->stride_w + fx * d->dilation_w - d->pad_left;
            if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w) continue;
            for (int64_t o = 0; o < d->o; o++)
                for (int64_t i = 0; i < cg; i++) {
                    xi = ((n * d->h + iy) * d->w + ix) * d->c + o / og * cg + i;
                    yi = ((n * d->oh + oy) * d->ow + ox) * d->o + o;
                    wi = ((o * d->kh + fy) * d->kw + fx) * cg + i;
                    if (p->kind == GB_CONV_FORWARD)
                        c[yi] += (double)a[xi] * b[wi];
                    else if (p->kind == GB_CONV_DATA)
                        c[xi] += (double)a[yi] * b[wi];
                    else
                        c[wi] += (double)a[yi] * b[xi];
                }
        }
}

/* What c should hold, kept as long as the problem stays the same. */
static const double *oracle(const gb_contraction *p, const float *a, const float *b, size_t count)
{
    static gb_contraction last;
    static double *want;
    if (want && !memcmp(&last, p, sizeof last)) return want;
    free(want);
    want = calloc(count + 1, sizeof *want);
    assert_non_null(want);
    if (p->kind == GB_GEMM)
        gemm_oracle(&p->gemm, a, b, want);
    else
        conv_oracle(p, a, b, want);
    last = *p;
    return want;
}

typedef struct {
    float *base, *c;
    size_t count;
} guarded;

static guarded guarded_make(size_t count, float fill)
{
    guarded g = {malloc((count + 2 * GUARD) * sizeof(float)), NULL, count};
    assert_non_null(g.base);
    g.c = g.base + GUARD;
    for (size_t i = 0; i < count + 2 * GUARD; i++)
        g.base[i] = i < GUARD || i >= count + GUARD ? SENTINEL : fill;
    return g;
}

static void guarded_check(const guarded *g)
{
    for (size_t i = 0; i < GUARD; i++) {
        assert_true(g->base[i] == SENTINEL);
        assert_true(g->c[g->count + i] == SENTINEL);
    }
}

/* Is element i of c a result, or a gap between rows? */
static bool is_result(const gb_contraction *p, size_t i)
{
    return p->kind != GB_GEMM || (int64_t)i % p->gemm.c_row < p->gemm.n;
}

static void run_plan(const gb_contraction_plan *plan, gb_contraction_args args)
{
    char *scratch = aligned_alloc(64, (plan->scratch_bytes + 127) / 64 * 64);
    assert_non_null(scratch);
    memset(scratch, 0xff, (plan->scratch_bytes + 127) / 64 * 64); /* NaN */
    args.scratch = scratch;
    gb_contraction_run(plan, &args);
    for (size_t i = plan->scratch_bytes; i < (plan->scratch_bytes + 127) / 64 * 64; i++)
        assert_int_equal((unsigned char)scratch[i], 0xff);
    free(scratch);
}

typedef struct {
    int64_t cols;
    float *c; /* of a conv: rows are contiguous */
} hook;

/* Doubles, so that an element visited twice or never shows. */
static void double_block(void *ctx, float *c, int64_t row0, int64_t rows, int64_t col0,
                         int64_t cols, int64_t ldc)
{
    hook *h = ctx;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            c[i * ldc + j] *= 2;
            if (h->c) assert_ptr_equal(c + i * ldc + j, h->c + (row0 + i) * h->cols + col0 + j);
        }
}

static int64_t columns(const gb_contraction *p)
{
    const gb_conv_dims *d = &p->conv;
    if (p->kind == GB_GEMM) return p->gemm.n;
    if (p->kind == GB_CONV_FORWARD) return d->o;
    return p->kind == GB_CONV_DATA ? d->c : d->kh * d->kw * (d->c / d->groups);
}

/* variant 0: plain; 1: accumulate; 2: bias, limits and a callback. */
static void check(const gb_cpu *cpu, gb_contraction p, const char *name, int variant)
{
    sizes s = sizes_of(&p);
    float *a = operand(s.a, 1, true), *b = operand(s.b, 2, true);
    float *bias = operand((size_t)columns(&p), 3, true);
    p.accumulate = false;
    const double *want = oracle(&p, a, b, s.c);
    p.accumulate = variant == 1;
    guarded out = guarded_make(s.c, variant == 1 ? 7.0f : NAN);
    hook h = {columns(&p), p.kind == GB_GEMM ? NULL : out.c};
    const gb_limits limits = {0, 1};
    gb_contraction_args args = {.a = a, .b = b, .c = out.c};
    if (variant == 2) args.epilogue = (gb_epilogue){bias, &limits, double_block, &h};
    gb_contraction_plan plan;
    gb_error err;
    assert_int_equal(gb_contraction_plan_make(cpu, &p, name, &plan, &err), GB_OK);
    run_plan(&plan, args);
    gb_contraction_plan_free(&plan);
    guarded_check(&out);
    double largest = 0;
    for (size_t i = 0; i < s.c; i++) largest = fmax(largest, fabs(want[i]));
    double tolerance = strcmp(name, "winograd4") ? 0 : 2e-5 * largest;
    for (size_t i = 0; i < s.c; i++) {
        if (!is_result(&p, i)) {
            assert_true(variant == 1 ? out.c[i] == 7.0f : isnan(out.c[i]));
            continue;
        }
        double w = want[i];
        if (variant == 1) w += 7;
        if (variant == 2) {
            w += bias[(int64_t)i % (p.kind == GB_GEMM ? p.gemm.c_row : h.cols)];
            w = 2 * fmin(fmax(w, 0), limits.high);
        }
        if (!(fabs(out.c[i] - w) <= tolerance))
            fail_msg("%s %s kind %d variant %d: element %zu is %g, not %g", name,
                     gb_isa_name(cpu->isa), (int)p.kind, variant, i, (double)out.c[i], w);
    }
    free(out.base);
    free(bias);
    free(a);
    free(b);
}

static float rounded(gb_real type, double v)
{
    float f = (float)v;
    return type == GB_REAL_F16    ? gb_f16_to_f32(gb_f32_to_f16(f))
           : type == GB_REAL_BF16 ? gb_bf16_to_f32(gb_f32_to_bf16(f))
                                  : f;
}

/* The values of x in another type, in as much memory. */
static float *as_type(gb_real type, const float *x, size_t count)
{
    float *p = malloc((count ? count : 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < count; i++) {
        uint16_t h = type == GB_REAL_F16 ? gb_f32_to_f16(x[i]) : gb_f32_to_bf16(x[i]);
        if (type == GB_REAL_F32)
            p[i] = x[i];
        else
            memcpy((char *)p + i * sizeof h, &h, sizeof h);
    }
    return p;
}

static float element_of(gb_real type, const float *p, size_t i)
{
    uint16_t h;
    if (type == GB_REAL_F32) return p[i];
    memcpy(&h, (const char *)p + i * sizeof h, sizeof h);
    return type == GB_REAL_F16 ? gb_f16_to_f32(h) : gb_bf16_to_f32(h);
}

/* 16-bit operands where the implementation takes them: exact sums, rounded once. */
static void check_small(const gb_cpu *cpu, gb_contraction p, gb_real type, const char *name,
                        bool epilogue)
{
    sizes s = sizes_of(&p);
    float *a = operand(s.a, 1, true), *b = operand(s.b, 2, true);
    float *bias = operand((size_t)columns(&p), 3, true);
    p.a_type = p.b_type = p.c_type = GB_REAL_F32;
    const double *want = oracle(&p, a, b, s.c);
    p.a_type = p.b_type = p.c_type = type;
    guarded out = guarded_make(s.c, NAN);
    hook h = {columns(&p), NULL};
    const gb_limits limits = {0, 1};
    gb_contraction_plan plan;
    assert_int_equal(gb_contraction_plan_make(cpu, &p, name, &plan, NULL), GB_OK);
    const gb_contraction *q = &plan.problem;
    float *ta = as_type(q->a_type, a, s.a), *tb = as_type(q->b_type, b, s.b);
    gb_contraction_args args = {.a = ta, .b = tb, .c = out.c};
    if (epilogue) args.epilogue = (gb_epilogue){bias, &limits, double_block, &h};
    run_plan(&plan, args);
    guarded_check(&out);
    double largest = 0;
    for (size_t i = 0; i < s.c; i++) largest = fmax(largest, fabs(want[i]));
    bool exact = strcmp(name, "winograd4") != 0;
    for (size_t i = 0; i < s.c; i++) {
        if (!is_result(&p, i)) continue;
        double w = want[i];
        if (epilogue) {
            w += bias[(int64_t)i % (p.kind == GB_GEMM ? p.gemm.c_row : h.cols)];
            w = 2 * fmin(fmax(w, 0), limits.high);
        }
        float got = element_of(q->c_type, out.c, i);
        double bound = exact ? 0 : 2e-5 * largest + (q->c_type ? 0x1p-8 * fabs(w) : 0);
        if (!(fabs(got - (exact ? rounded(q->c_type, w) : w)) <= bound))
            fail_msg("%s %s kind %d type %d: element %zu is %g, not %g", name,
                     gb_isa_name(cpu->isa), (int)p.kind, (int)type, i, (double)got, w);
    }
    gb_contraction_plan_free(&plan);
    free(out.base);
    free(bias);
    free(ta);
    free(tb);
    free(a);
    free(b);
}

static void check_types(const gb_cpu *cpu, gb_contraction p, const char *name)
{
    check_small(cpu, p, GB_REAL_F16, name, false);
    check_small(cpu, p, GB_REAL_BF16, name, true);
}

static bool can(const gb_cpu *cpu, const gb_contraction *p, const char *name)
{
    gb_contraction_plan plan;
    gb_status status = gb_contraction_plan_make(cpu, p, name, &plan, NULL);
    if (!status)
        gb_contraction_plan_free(&plan);
    else
        assert_int_equal(status, GB_UNSUPPORTED);
    return !status;
}

typedef void (*problem_fn)(const gb_cpu *, gb_contraction, const char *);

static void for_all_of(gb_cpu cpu, const gb_contraction *p, problem_fn fn)
{
    for (cpu.isa = GB_ISA_BASELINE; cpu.isa <= gb_isa_best(); cpu.isa++)
        for (size_t i = 0; gb_contraction_impl_name(i); i++) {
            const char *name = gb_contraction_impl_name(i);
            bool again = !strcmp(name, "plain") && cpu.isa != GB_ISA_BASELINE; /* one for all */
            if (!again && can(&cpu, p, name)) fn(&cpu, *p, name);
        }
}

/* Runs a function for every problem, level and implementation that go together. */
static void for_all(int threads, problem_fn fn)
{
    gb_cpu cpu = {.fast_winograd = true};
    assert_int_equal(gb_pool_create(threads, &cpu.pool, NULL), GB_OK);
    for (size_t c = 0; c < sizeof gemms / sizeof *gemms; c++) {
        gb_contraction p = gemm_problem(&gemms[c]);
        for_all_of(cpu, &p, fn);
    }
    for (size_t c = 0; c < 3 * sizeof convs / sizeof *convs; c++) {
        gb_contraction p = conv_problem(&convs[c / 3], GB_CONV_FORWARD + c % 3);
        for_all_of(cpu, &p, fn);
    }
    gb_pool_destroy(cpu.pool);
}

static void check_variants(const gb_cpu *cpu, gb_contraction p, const char *name)
{
    for (int variant = 0; variant < 3; variant++) {
        p.accumulate = variant == 1;
        if (can(cpu, &p, name)) check(cpu, p, name, variant);
    }
}

static void every_element_is_exact(void **state)
{
    (void)state;
    for_all(2, check_variants);
}

static void small_types_round_once(void **state)
{
    (void)state;
    for_all(2, check_types);
}

static float *run_with(gb_cpu cpu, int threads, const gb_contraction *p, const char *name)
{
    assert_int_equal(gb_pool_create(threads, &cpu.pool, NULL), GB_OK);
    sizes s = sizes_of(p);
    float *a = operand(s.a, 4, false), *b = operand(s.b, 5, false), *c = calloc(s.c + 1, sizeof *c);
    assert_non_null(c);
    gb_contraction_plan plan;
    assert_int_equal(gb_contraction_plan_make(&cpu, p, name, &plan, NULL), GB_OK);
    run_plan(&plan, (gb_contraction_args){.a = a, .b = b, .c = c});
    gb_contraction_plan_free(&plan);
    gb_pool_destroy(cpu.pool);
    free(a);
    free(b);
    return c;
}

static void check_threads(const gb_cpu *cpu, gb_contraction p, const char *name)
{
    float *one = run_with(*cpu, 1, &p, name);
    for (int threads = 2; threads <= 5; threads += 3) {
        float *many = run_with(*cpu, threads, &p, name);
        assert_memory_equal(one, many, sizes_of(&p).c * sizeof *one);
        free(many);
    }
    free(one);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    for_all(1, check_threads);
}

static void every_problem_has_an_implementation_and_names_are_checked(void **state)
{
    (void)state;
    gb_cpu cpu = {.isa = gb_isa_best()};
    assert_int_equal(gb_pool_create(1, &cpu.pool, NULL), GB_OK);
    for (size_t c = 0; c < 3 * sizeof convs / sizeof *convs; c++) {
        gb_contraction p = conv_problem(&convs[c / 3], GB_CONV_FORWARD + c % 3);
        assert_true(can(&cpu, &p, NULL));
    }
    gb_contraction p = gemm_problem(&gemms[0]);
    gb_contraction_plan plan;
    gb_error err;
    assert_int_equal(gb_contraction_plan_make(&cpu, &p, "no-such", &plan, &err), GB_NOT_FOUND);
    assert_string_equal(err.input, "no-such");
    gb_pool_destroy(cpu.pool);
}

typedef struct {
    gb_pool *pool;
    _Atomic int64_t count;
    _Atomic int busy[8];
} tally;

static void count_task(void *ctx, int64_t task, int worker)
{
    tally *t = ctx;
    assert_int_equal(t->busy[worker]++, 0); /* a worker does one task at a time */
    t->count += task + 1;
    t->busy[worker]--;
}

static void nested(void *ctx, int64_t task, int worker)
{
    tally *t = ctx;
    tally inner = {.pool = t->pool};
    gb_pool_run(t->pool, 10, count_task, &inner);
    t->count += inner.count;
}

static void pool_does_every_task_once(void **state)
{
    (void)state;
    tally t = {0};
    assert_int_equal(gb_pool_create(-1, &t.pool, NULL), GB_INVALID);
    assert_int_equal(gb_pool_create(4, &t.pool, NULL), GB_OK);
    assert_int_equal(gb_pool_workers(t.pool), 4);
    for (int i = 0; i < 3000; i++) gb_pool_run(t.pool, i % 50, count_task, &t);
    int64_t want = 0;
    for (int64_t i = 0; i < 3000; i++) want += (i % 50) * (i % 50 + 1) / 2;
    assert_int_equal(t.count, want);
    t.count = 0;
    gb_pool_run(t.pool, 100, nested, &t);
    assert_int_equal(t.count, 5500);
    gb_pool_destroy(t.pool);
    gb_pool_destroy(NULL);
}

/* Tiles that reach over a small image are taken as long as they save multiplications, F(4x4) where
 * it saves more than F(2x2). */
static void small_images_get_the_tiles_that_save(void **state)
{
    (void)state;
    static const struct {
        int64_t size;
        const char *name;
    } cases[] = {{1, "direct"},    {2, "winograd2"}, {3, "winograd4"}, {5, "winograd2"},
                 {6, "winograd2"}, {7, "winograd4"}, {16, "winograd4"}};
    gb_cpu cpu = {.fast_winograd = true, .isa = gb_isa_best()};
    assert_int_equal(gb_pool_create(1, &cpu.pool, NULL), GB_OK);
    for (size_t c = 0; c < 3 * sizeof cases / sizeof *cases; c++) {
        int64_t size = cases[c / 3].size;
        const conv_case shape = {256, size, size, 64, 64, 3, 3, 1, {1, 1}, {1, 1}, {1, 1, 1, 1}};
        gb_contraction p = conv_problem(&shape, GB_CONV_FORWARD + c % 3);
        gb_contraction_plan plan;
        assert_int_equal(gb_contraction_plan_make(&cpu, &p, NULL, &plan, NULL), GB_OK);
        assert_string_equal(gb_contraction_plan_name(&plan), cases[c / 3].name);
        gb_contraction_plan_free(&plan);
    }
    gb_pool_destroy(cpu.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_does_every_task_once), cmocka_unit_test(every_element_is_exact),
        cmocka_unit_test(small_images_get_the_tiles_that_save),
        cmocka_unit_test(small_types_round_once), cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(every_problem_has_an_implementation_and_names_are_checked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
