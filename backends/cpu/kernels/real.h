/* Elements that lie in memory as f32 or as 16-bit floats, read and written as vectors of f32.
 *
 * The type is a constant wherever speed matters. A 16-bit operand is passed as a pointer to float
 * like any other, and only ever read and written through what is here. */
#ifndef GB_BACKENDS_CPU_KERNELS_REAL_H
#define GB_BACKENDS_CPU_KERNELS_REAL_H

#include <string.h>

#ifdef __F16C__
#include <immintrin.h>
#endif

#include "backends/cpu/kernels/contraction.h"
#include "backends/cpu/kernels/level.h"
#include "core/base/half.h"

#define REAL static inline __attribute__((always_inline))

typedef uint16_t half_vec __attribute__((vector_size(2 * LANES)));
typedef uint32_t bits_vec __attribute__((vector_size(4 * LANES)));

/* Element i of an operand. */
REAL int64_t real_bytes(gb_real type)
{
    return type == GB_REAL_F32 ? 4 : 2;
}

REAL const float *real_at(gb_real type, const float *p, int64_t i)
{
    return (const float *)((const char *)p + i * real_bytes(type));
}

REAL vec widen_f16(half_vec h)
{
#if defined(__AVX512F__)
    return (vec)_mm512_cvtph_ps((__m256i)h);
#elif defined(__F16C__)
    return (vec)_mm256_cvtph_ps((__m128i)h);
#else
    vec v;
    for (int i = 0; i < LANES; i++) v[i] = gb_f16_to_f32(h[i]);
    return v;
#endif
}

REAL half_vec narrow_f16(vec v)
{
#if defined(__AVX512F__)
    return (half_vec)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
    return (half_vec)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
#else
    half_vec h;
    for (int i = 0; i < LANES; i++) h[i] = gb_f32_to_f16(v[i]);
    return h;
#endif
}

/* gb_f32_to_bf16 of each lane. */
REAL half_vec narrow_bf16(vec v)
{
    bits_vec u = (bits_vec)v, rounded = u + 0x7fff + (u >> 16 & 1);
    bits_vec is_nan = (bits_vec)((u & 0x7fffffff) > 0x7f800000);
    u = ((u | 0x400000) & is_nan) | (rounded & ~is_nan);
    return __builtin_convertvector(u >> 16, half_vec);
}

/* Elements i .. i + LANES. */
REAL vec real_load(gb_real type, const float *p, int64_t i)
{
    if (type == GB_REAL_F32) return load(p + i);
    half_vec h;
    memcpy(&h, real_at(type, p, i), sizeof h);
    if (type == GB_REAL_F16) return widen_f16(h);
    return (vec)(__builtin_convertvector(h, bits_vec) << 16);
}

REAL void real_store(gb_real type, float *p, int64_t i, vec v)
{
    if (type == GB_REAL_F32) {
        store(p + i, v);
        return;
    }
    half_vec h = type == GB_REAL_F16 ? narrow_f16(v) : narrow_bf16(v);
    memcpy((float *)real_at(type, p, i), &h, sizeof h);
}

REAL void real_copy_in(gb_real type, float *to, const float *from, int64_t at, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) store(to + i, real_load(type, from, at + i));
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, real_at(type, from, at + i), sizeof h);
        to[i] = type == GB_REAL_F16 ? gb_f16_to_f32(h) : gb_bf16_to_f32(h);
    }
}

REAL void real_copy_out(gb_real type, float *to, int64_t at, const float *from, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) real_store(type, to, at + i, load(from + i));
    for (; i < n; i++) {
        uint16_t h = type == GB_REAL_F16 ? gb_f32_to_f16(from[i]) : gb_f32_to_bf16(from[i]);
        memcpy((float *)real_at(type, to, at + i), &h, sizeof h);
    }
}

/* to[0 .. n) = elements at .. at + n of `from`. */
static inline void real_read(gb_real type, float *to, const float *from, int64_t at, int64_t n)
{
    switch (type) {
    case GB_REAL_F32:
        memcpy(to, from + at, (size_t)n * sizeof *to);
        break;
    case GB_REAL_F16:
        real_copy_in(GB_REAL_F16, to, from, at, n);
        break;
    case GB_REAL_BF16:
        real_copy_in(GB_REAL_BF16, to, from, at, n);
        break;
    }
}

/* Elements at .. at + n of `to` = from[0 .. n), rounded to nearest even. */
static inline void real_write(gb_real type, float *to, int64_t at, const float *from, int64_t n)
{
    switch (type) {
    case GB_REAL_F32:
        memcpy(to + at, from, (size_t)n * sizeof *to);
        break;
    case GB_REAL_F16:
        real_copy_out(GB_REAL_F16, to, at, from, n);
        break;
    case GB_REAL_BF16:
        real_copy_out(GB_REAL_BF16, to, at, from, n);
        break;
    }
}

#endif
