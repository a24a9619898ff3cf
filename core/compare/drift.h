/* Layer-by-layer errors of devices against the reference. */
#ifndef GB_CORE_COMPARE_DRIFT_H
#define GB_CORE_COMPARE_DRIFT_H

#include <gimbal/compare.h>

/* Fills layers with names, operators, errors and tolerances. */
gb_status gb_compare_drift(gb_context *ctx, const gb_recipe *recipe, const gb_dataset *dataset,
                           gb_device *const *dev, const gb_compare_options *o, gb_comparison *c, gb_error *err);

#endif
