/* Numbers that need no file: the same bits as formula.py. */
#ifndef GB_TESTS_GOLDEN_FORMULA_H
#define GB_TESTS_GOLDEN_FORMULA_H

#include <stdint.h>

static inline uint32_t golden_bits(uint32_t seed, uint32_t i)
{
    uint32_t h = i * 0x9e3779b1u + seed * 0x85ebca77u;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

/* Uniform in [-1, 1), a multiple of 2^-23. */
static inline float golden_u(uint32_t seed, uint32_t i)
{
    return (float)(golden_bits(seed, i) >> 8) * 0x1p-23f - 1.0f;
}

static inline int golden_label(uint32_t sample)
{
    return (int)(golden_bits(1000, sample) % 10);
}

/* Pixel (c, y, x) of an image with channels × height × width, see samples() in formula.py. */
static inline float golden_pixel(uint32_t sample, uint32_t channels, uint32_t height,
                                 uint32_t width, uint32_t c, uint32_t y, uint32_t x)
{
    uint32_t row = (uint32_t)golden_label(sample) * channels + c;
    float pattern = golden_u(1001, (row * (height / 4) + y / 4) * (width / 4) + x / 4);
    float noise = golden_u(1002, ((sample * channels + c) * height + y) * width + x);
    return 0.5f * (pattern + noise);
}

#endif
