/* Which vector instructions this processor has, asked at run time. */
#ifndef GB_BACKENDS_CPU_CPUID_H
#define GB_BACKENDS_CPU_CPUID_H

/* Levels for which loops are compiled, each a superset of the one before. */
typedef enum gb_isa {
    GB_ISA_BASELINE, /* what the compiler assumes: SSE2 on x86-64, NEON on ARM64 */
    GB_ISA_AVX2,     /* with FMA and F16C */
    GB_ISA_AVX512    /* F, BW, DQ, VL */
} gb_isa;

static inline gb_isa gb_isa_best(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("f16c"))
        return GB_ISA_BASELINE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return GB_ISA_AVX512;
    return GB_ISA_AVX2;
#else
    return GB_ISA_BASELINE;
#endif
}

static inline const char *gb_isa_name(gb_isa isa)
{
    return isa == GB_ISA_AVX512 ? "avx512" : isa == GB_ISA_AVX2 ? "avx2" : "baseline";
}

#endif
