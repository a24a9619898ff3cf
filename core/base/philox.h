/* Philox4x32-10, the counter-based random generator of Salmon et al. (SC 2011): every number is a
 * function of (key, counter), so draws are equal on every backend, in any order and after a
 * resume. Callers put what identifies a draw (seed, epoch, sample, element) into the two. */
#ifndef GB_CORE_BASE_PHILOX_H
#define GB_CORE_BASE_PHILOX_H

#include <stdint.h>

static inline void gb_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xd2511f53u * x0, b = (uint64_t)0xcd9e8d57u * x2;
        x0 = (uint32_t)(b >> 32) ^ x1 ^ k0;
        x2 = (uint32_t)(a >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)b;
        x3 = (uint32_t)a;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

/* Uniform in [0, 1), a multiple of 2^-24: exact in f32, so equal everywhere. */
static inline float gb_uniform(uint32_t x)
{
    return (float)(x >> 8) * 0x1p-24f;
}

/* Uniform in [0, n), without the bias of a remainder beyond n / 2^32. */
static inline uint32_t gb_uniform_below(uint32_t x, uint32_t n)
{
    return (uint32_t)((uint64_t)x * n >> 32);
}

#endif
