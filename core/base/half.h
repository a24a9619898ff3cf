/* Conversions of 16-bit floats (IEEE 754 binary16, and bfloat16), rounded to nearest even. */
#ifndef GB_CORE_BASE_HALF_H
#define GB_CORE_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t gb_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float gb_bits_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline float gb_bf16_to_f32(uint16_t h)
{
    return gb_bits_f32((uint32_t)h << 16);
}

static inline uint16_t gb_f32_to_bf16(float f)
{
    uint32_t u = gb_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40); /* keep NaN quiet */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static inline float gb_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31, m = h & 0x3ffu;
    if (e == 31) return gb_bits_f32(sign | 0x7f800000u | m << 13);
    if (e) return gb_bits_f32(sign | (e + 112) << 23 | m << 13);
    float f = (float)m * 0x1p-24f; /* subnormal or zero: exact */
    return gb_bits_f32(gb_f32_bits(f) | sign);
}

static inline uint16_t gb_f32_to_f16(float f)
{
    uint32_t u = gb_f32_bits(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to infinity */
    if (a < 0x38800000u) { /* subnormal: adding 0.5 lets the hardware round */
        float r = gb_bits_f32(a) + 0.5f;
        return (uint16_t)(sign | (gb_f32_bits(r) - 0x3f000000u));
    }
    return (uint16_t)(sign | (((a + 0xfffu + (a >> 13 & 1)) >> 13) - (112u << 10)));
}

#endif
