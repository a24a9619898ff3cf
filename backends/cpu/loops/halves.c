/* Conversions of runs of 16-bit floats, compiled once for each instruction set. */
#ifdef __F16C__
#include <immintrin.h>
#endif

#include "backends/cpu/loops/loops.h"
#include "core/base/half.h"

static void widen_f16(const uint16_t *restrict x, int64_t n, float *restrict y)
{
    int64_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(y + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(x + i))));
#endif
#ifdef __F16C__
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
#endif
    for (; i < n; i++) y[i] = gb_f16_to_f32(x[i]);
}

static void narrow_f16(const float *restrict x, int64_t n, uint16_t *restrict y)
{
    int64_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(y + i),
                            _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#endif
#ifdef __F16C__
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#endif
    for (; i < n; i++) y[i] = gb_f32_to_f16(x[i]);
}

static void widen_bf16(const uint16_t *restrict x, int64_t n, float *restrict y)
{
    for (int64_t i = 0; i < n; i++) y[i] = gb_bf16_to_f32(x[i]);
}

static void narrow_bf16(const float *restrict x, int64_t n, uint16_t *restrict y)
{
    for (int64_t i = 0; i < n; i++) { /* gb_f32_to_bf16 without a branch */
        uint32_t u = gb_f32_bits(x[i]), rounded = (u + 0x7fffu + (u >> 16 & 1)) >> 16;
        y[i] = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? u >> 16 | 0x40 : rounded);
    }
}

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

extern const gb_halves JOIN(gb_halves_, GB_ISA_NAME)[2];
const gb_halves JOIN(gb_halves_, GB_ISA_NAME)[2] = {{widen_f16, narrow_f16},
                                                    {widen_bf16, narrow_bf16}};
