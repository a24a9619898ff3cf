/* Conversions of runs of 16-bit floats, compiled once for each instruction set. */
#ifdef __F16C__
#include <immintrin.h>
#endif

#include "backends/cpu/loops/loops.h"
#include "core/base/half.h"

/* A line of cache at a time. Callers go on where they ended: what comes next is asked for, as the
 * runs are too short for the processor to find out by itself. */
enum { LINE = 32, AHEAD = 1024 };

static inline void widen_f16_line(const uint16_t *restrict x, float *restrict y)
{
#if defined(__AVX512F__)
    for (int i = 0; i < LINE; i += 16)
        _mm512_storeu_ps(y + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(x + i))));
#elif defined(__F16C__)
    for (int i = 0; i < LINE; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
#else
    for (int i = 0; i < LINE; i++) y[i] = gb_f16_to_f32(x[i]);
#endif
}

static inline void narrow_f16_line(const float *restrict x, uint16_t *restrict y)
{
#if defined(__AVX512F__)
    for (int i = 0; i < LINE; i += 16)
        _mm256_storeu_si256((__m256i *)(y + i),
                            _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    for (int i = 0; i < LINE; i += 8)
        _mm_storeu_si128((__m128i *)(y + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < LINE; i++) y[i] = gb_f32_to_f16(x[i]);
#endif
}

static inline uint16_t to_bf16(float f) /* gb_f32_to_bf16 without a branch */
{
    uint32_t u = gb_f32_bits(f), rounded = (u + 0x7fffu + (u >> 16 & 1)) >> 16;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? u >> 16 | 0x40 : rounded);
}

static void widen_f16(const uint16_t *restrict x, int64_t n, float *restrict y)
{
    int64_t i = 0;
    for (; i + LINE <= n; i += LINE) {
        __builtin_prefetch(x + i + AHEAD);
        widen_f16_line(x + i, y + i);
    }
    for (; i < n; i++) y[i] = gb_f16_to_f32(x[i]);
}

static void narrow_f16(const float *restrict x, int64_t n, uint16_t *restrict y)
{
    int64_t i = 0;
    for (; i + LINE <= n; i += LINE) {
        __builtin_prefetch(y + i + AHEAD, 1);
        narrow_f16_line(x + i, y + i);
    }
    for (; i < n; i++) y[i] = gb_f32_to_f16(x[i]);
}

static void widen_bf16(const uint16_t *restrict x, int64_t n, float *restrict y)
{
    int64_t i = 0;
    for (; i + LINE <= n; i += LINE) {
        __builtin_prefetch(x + i + AHEAD);
        for (int64_t k = i; k < i + LINE; k++) y[k] = gb_bf16_to_f32(x[k]);
    }
    for (; i < n; i++) y[i] = gb_bf16_to_f32(x[i]);
}

static void narrow_bf16(const float *restrict x, int64_t n, uint16_t *restrict y)
{
    int64_t i = 0;
    for (; i + LINE <= n; i += LINE) {
        __builtin_prefetch(y + i + AHEAD, 1);
        for (int64_t k = i; k < i + LINE; k++) y[k] = to_bf16(x[k]);
    }
    for (; i < n; i++) y[i] = to_bf16(x[i]);
}

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

extern const gb_halves JOIN(gb_halves_, GB_ISA_NAME)[2];
const gb_halves JOIN(gb_halves_, GB_ISA_NAME)[2] = {{widen_f16, narrow_f16},
                                                    {widen_bf16, narrow_bf16}};
