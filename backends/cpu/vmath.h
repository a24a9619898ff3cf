/* Scalar functions that vectorize: the C prelude of the primitive table's spellings.
 *
 * Branch-free polynomials in f32, written so that a loop around them becomes vector code without
 * -ffast-math: NaN, infinities and denormals come out as IEEE says. Errors are below 3 ulp for exp,
 * log, log1p, expm1, tanh, erf; the functions at the end call libm. */
#ifndef GB_BACKENDS_CPU_VMATH_H
#define GB_BACKENDS_CPU_VMATH_H

#include <math.h>
#include <stdint.h>

#include "core/base/half.h"
#include "core/base/philox.h"

#define GB_V static inline __attribute__((always_inline, unused))

/* a * b + c, in one rounding where the instruction set has it. */
GB_V float gb_mad(float a, float b, float c)
{
#ifdef __FMA__
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* A union where half.h has memcpy: GCC vectorizes the one and not the other. */
GB_V int32_t gb_bits(float f)
{
    union {
        float f;
        int32_t i;
    } u = {.f = f};
    return u.i;
}

GB_V float gb_float(int32_t i)
{
    union {
        int32_t i;
        float f;
    } u = {.i = i};
    return u.f;
}

GB_V float gb_fabs(float a)
{
    return __builtin_fabsf(a);
}
GB_V float gb_sqrt(float a)
{
    return __builtin_sqrtf(a);
}
GB_V float gb_floor(float a)
{
    return __builtin_floorf(a);
}
GB_V float gb_ceil(float a)
{
    return __builtin_ceilf(a);
}
GB_V float gb_trunc(float a)
{
    return __builtin_truncf(a);
}
GB_V float gb_rint(float a)
{
    return __builtin_rintf(a);
}
GB_V float gb_fmin(float a, float b)
{
    return ((a < b) | (a != a)) ? a : b;
}
GB_V float gb_fmax(float a, float b)
{
    return ((a > b) | (a != a)) ? a : b;
}

/* x = n ln 2 + r with |r| <= ln 2 / 2: adding 1.5 * 2^23 rounds to nearest and leaves n in the low
 * bits, without a conversion that is undefined for NaN. */
typedef struct gb_split {
    int32_t n;
    float r;
} gb_split;

GB_V gb_split gb_split_ln2(float x)
{
    const float magic = 0x1.8p23f;
    float k = gb_mad(x, 0x1.715476p0f, magic), n = k - magic;
    float r = gb_mad(n, -0x1.62e4p-1f, x);
    return (gb_split){gb_bits(k) - gb_bits(magic), gb_mad(n, -0x1.7f7d1cp-20f, r)};
}

GB_V float gb_power_of_two(int32_t n)
{
    return gb_float((int32_t)((uint32_t)(n + 127) << 23));
}

GB_V float gb_exp(float x)
{
    float c = x > 89.0f ? 89.0f : x;
    c = c < -104.0f ? -104.0f : c;
    gb_split s = gb_split_ln2(c);
    float r = s.r, p = 0.001392618359f;
    p = gb_mad(p, r, 0.008363179053f);
    p = gb_mad(p, r, 0.04166655462f);
    p = gb_mad(p, r, 0.1666657699f);
    p = gb_mad(p, r, 0.5f);
    p = gb_mad(p * r, r, r) + 1.0f;
    int32_t half = s.n >> 1; /* two factors: 2^n alone would overflow or lose denormals */
    return x != x ? x : p * gb_power_of_two(half) * gb_power_of_two(s.n - half);
}

GB_V float gb_expm1(float x)
{
    float c = x > 89.0f ? 89.0f : x;
    c = c < -30.0f ? -30.0f : c;
    gb_split s = gb_split_ln2(c);
    float r = s.r, p = 0.0001989099082f;
    p = gb_mad(p, r, 0.001393365f);
    p = gb_mad(p, r, 0.008333310925f);
    p = gb_mad(p, r, 0.04166646493f);
    p = gb_mad(p, r, 0.1666666668f);
    p = gb_mad(p, r, 0.5000000013f);
    p = gb_mad(p * r, r, r);
    float half = gb_power_of_two((x != x ? 0 : s.n) - 1); /* 2^n may overflow before the result */
    float y = 2.0f * gb_mad(p, half, half - 0.5f);
    return x == 0 ? x : x != x ? x : y;
}

GB_V float gb_log(float x)
{
    int32_t small = x < 0x1p-126f;
    int32_t i = gb_bits(small ? x * 0x1p23f : x);
    int32_t e = (int32_t)((uint32_t)i - 0x3f3504f3u) >> 23; /* mantissa in [sqrt(1/2), sqrt(2)) */
    float f = gb_float((int32_t)((uint32_t)i - ((uint32_t)e << 23))) - 1.0f;
    float n = (float)(e - (small ? 23 : 0)), p = 0.06971611471f;
    p = gb_mad(p, f, -0.1147973385f);
    p = gb_mad(p, f, 0.1168541992f);
    p = gb_mad(p, f, -0.1242568733f);
    p = gb_mad(p, f, 0.1424905765f);
    p = gb_mad(p, f, -0.1666780232f);
    p = gb_mad(p, f, 0.2000071575f);
    p = gb_mad(p, f, -0.2499999696f);
    p = gb_mad(p, f, 0.3333333118f);
    float y = gb_mad(f * f, gb_mad(p, f, -0.5f), n * 0x1.7f7d1cp-20f) + f;
    y = gb_mad(n, 0x1.62e4p-1f, y);
    y = x == 0 ? -INFINITY : y;
    y = x < 0 ? NAN : y;
    return (x != x) | (x == INFINITY) ? x : y;
}

GB_V float gb_log1p(float x)
{
    float u = 1.0f + x, lost = (x - (u - 1.0f)) / u;
    float y = gb_log(u) + ((u > 0) & (u < INFINITY) ? lost : 0.0f);
    return u == 1.0f ? x : y;
}

GB_V float gb_tanh(float x)
{
    float a = __builtin_fabsf(x);
    float t = gb_expm1(2.0f * (a > 10.0f ? 10.0f : a));
    return x == 0 ? x : __builtin_copysignf(t / (t + 2.0f), x);
}

/* exp for -30 <= x <= 0: no clamps, no denormals. */
GB_V float gb_exp_small(float x)
{
    gb_split s = gb_split_ln2(x);
    float r = s.r, p = 0.001392618359f;
    p = gb_mad(p, r, 0.008363179053f);
    p = gb_mad(p, r, 0.04166655462f);
    p = gb_mad(p, r, 0.1666657699f);
    p = gb_mad(p, r, 0.5f);
    p = gb_mad(p * r, r, r) + 1.0f;
    return gb_float((int32_t)((uint32_t)gb_bits(p) + ((uint32_t)s.n << 23)));
}

/* Below 0.92 an odd polynomial, above it 1 - exp(polynomial), both fitted to log(erfc). A NaN goes
 * the first way. */
GB_V float gb_erf(float x)
{
    float a = __builtin_fabsf(x), s = x * x;
    float p = 8.399777795e-5f;
    p = gb_mad(p, s, -0.0008150050488f);
    p = gb_mad(p, s, 0.005201714569f);
    p = gb_mad(p, s, -0.02685969065f);
    p = gb_mad(p, s, 0.1128370117f);
    p = gb_mad(p, s, -0.3761263414f);
    p = gb_mad(p, s, 0.1283791667f);
    float near = gb_mad(p, x, x);
    float t = a < 3.95f ? a : 3.95f, q = 1.660596338e-6f;
    q = gb_mad(q, t, -4.649336271e-5f);
    q = gb_mad(q, t, 0.0006002250179f);
    q = gb_mad(q, t, -0.004774377459f);
    q = gb_mad(q, t, 0.02645941518f);
    q = gb_mad(q, t, -0.1101405594f);
    q = gb_mad(q, t, -0.6317695145f);
    q = gb_mad(q, t, -1.1302617834f);
    q = gb_mad(q, t, 0.000325905362f);
    float far = __builtin_copysignf(1.0f - gb_exp_small(q), x);
    return a > 0.92f ? far : near;
}

GB_V int32_t gb_iadd(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}
GB_V int32_t gb_isub(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a - (uint32_t)b);
}
GB_V int32_t gb_imul(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a * (uint32_t)b);
}
GB_V int32_t gb_shl(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a << (b & 31));
}

/* The quotient of two 32-bit integers in f64 never rounds up to the next integer. */
GB_V int32_t gb_idiv(int32_t a, int32_t b)
{
    int32_t safe = (b == 0) | (b == -1) ? 1 : b;
    int32_t q = (int32_t)((double)a / (double)safe);
    return b == 0 ? 0 : b == -1 ? gb_isub(0, a) : q;
}

GB_V int32_t gb_imod(int32_t a, int32_t b)
{
    int32_t r = gb_isub(a, gb_imul(gb_idiv(a, b), b));
    return b == 0 ? 0 : r;
}

GB_V int32_t gb_f2i(float a)
{
    float c = a > 0x1.fffffep30f ? 0x1.fffffep30f : a;
    c = c < -0x1p31f ? -0x1p31f : c;
    int32_t i = (int32_t)(a != a ? 0.0f : c);
    return a >= 0x1p31f ? INT32_MAX : i;
}

GB_V float gb_random(int32_t element, int32_t sample, int32_t step, int32_t seed, uint32_t stream)
{
    uint32_t counter[4] = {(uint32_t)element, (uint32_t)sample, (uint32_t)step, 0};
    uint32_t key[2] = {(uint32_t)seed, stream}, word[4];
    gb_philox(counter, key, word);
    return (float)(int32_t)(word[0] >> 8) * 0x1p-24f;
}

/* Not vectorized: rarely hot, and large arguments need care that libm takes. */
GB_V float gb_pow(float a, float b)
{
    return powf(a, b);
}
GB_V float gb_fmod(float a, float b)
{
    return fmodf(a, b);
}
GB_V float gb_sin(float a)
{
    return sinf(a);
}
GB_V float gb_cos(float a)
{
    return cosf(a);
}
GB_V float gb_tan(float a)
{
    return tanf(a);
}
GB_V float gb_asin(float a)
{
    return asinf(a);
}
GB_V float gb_acos(float a)
{
    return acosf(a);
}
GB_V float gb_atan(float a)
{
    return atanf(a);
}

#endif
