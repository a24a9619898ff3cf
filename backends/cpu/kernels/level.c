/* The implementations of one instruction level, in order of preference. */
#include "backends/cpu/kernels/impl.h"
#include "backends/cpu/kernels/level.h"

extern const gb_contraction_impl LEVEL(gb_contraction_winograd4);
extern const gb_contraction_impl LEVEL(gb_contraction_winograd2);
extern const gb_contraction_impl LEVEL(gb_contraction_winograd4_weights);
extern const gb_contraction_impl LEVEL(gb_contraction_winograd2_weights);
extern const gb_contraction_impl LEVEL(gb_contraction_depthwise);
extern const gb_contraction_impl LEVEL(gb_contraction_planar);
extern const gb_contraction_impl LEVEL(gb_contraction_gemm);
extern const gb_contraction_impl LEVEL(gb_contraction_sweep);
extern const gb_contraction_impl LEVEL(gb_contraction_weights);

const gb_contraction_impl *const LEVEL(gb_contraction_impls)[] = {
    &LEVEL(gb_contraction_winograd4),
    &LEVEL(gb_contraction_winograd4_weights),
    &LEVEL(gb_contraction_winograd2),
    &LEVEL(gb_contraction_winograd2_weights),
    &LEVEL(gb_contraction_depthwise),
    &LEVEL(gb_contraction_planar),
    &LEVEL(gb_contraction_gemm),
    &LEVEL(gb_contraction_sweep),
    &LEVEL(gb_contraction_weights),
#ifdef GB_WITH_ONEDNN
    &gb_contraction_onednn,
#endif
    &gb_contraction_plain,
    NULL};
