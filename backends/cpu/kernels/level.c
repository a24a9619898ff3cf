/* The implementations of one instruction level, in order of preference. */
#include "backends/cpu/kernels/impl.h"
#include "backends/cpu/kernels/level.h"

extern const gb_contraction_impl LEVEL(gb_contraction_sweep);

const gb_contraction_impl *const LEVEL(gb_contraction_impls)[] = {
    &LEVEL(gb_contraction_sweep), &gb_contraction_plain, NULL};
