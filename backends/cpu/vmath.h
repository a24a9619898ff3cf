/* Scalar functions that vectorize: the C prelude of the primitive table's spellings. Those of
 * shaders/vmath.gk are polynomials; the ones at the end call libm. */
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
/* One instruction where b, such as a constant, is known to be a number before the loop. An or of
 * both conditions becomes branches once calls are nested. */
GB_V float gb_fmin(float a, float b)
{
    float least = b < a ? b : a;
    return b != b ? b : least;
}
GB_V float gb_fmax(float a, float b)
{
    float most = b > a ? b : a;
    return b != b ? b : most;
}

GB_V float gb_copysign(float a, float b)
{
    return __builtin_copysignf(a, b);
}

#include "shaders/vmath.gk"

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
