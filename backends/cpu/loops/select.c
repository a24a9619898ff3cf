#include "backends/cpu/loops/loops.h"

extern const gb_loops gb_loops_baseline;
extern const gb_halves gb_halves_baseline[];
#ifdef __x86_64__
extern const gb_halves gb_halves_avx2[], gb_halves_avx512[];
extern const gb_loops gb_loops_avx2, gb_loops_avx512;
#endif

const gb_loops *gb_loops_for(gb_isa isa)
{
#ifdef __x86_64__
    if (isa == GB_ISA_AVX512) return &gb_loops_avx512;
    if (isa == GB_ISA_AVX2) return &gb_loops_avx2;
#endif
    (void)isa;
    return &gb_loops_baseline;
}

const gb_halves *gb_halves_for(gb_isa isa)
{
#ifdef __x86_64__
    if (isa == GB_ISA_AVX512) return gb_halves_avx512;
    if (isa == GB_ISA_AVX2) return gb_halves_avx2;
#endif
    (void)isa;
    return gb_halves_baseline;
}
