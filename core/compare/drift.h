/* Layer-by-layer errors of devices against the reference. */
#ifndef GB_CORE_COMPARE_DRIFT_H
#define GB_CORE_COMPARE_DRIFT_H

#include <gimbal/compare.h>

#define GB_COMPARE_INPUTS 16

typedef struct gb_compare_inputs { /* of one run; the tensors belong to the caller */
    int n;
    const char *name[GB_COMPARE_INPUTS];
    gb_tensor value[GB_COMPARE_INPUTS];
} gb_compare_inputs;

/* The same for the forward run of any graph, to which outputs are added. */
gb_status gb_compare_graph_drift(gb_context *ctx, gb_graph *graph, const gb_compare_inputs *inputs,
                                 gb_device *const *dev, const gb_compare_options *o, gb_comparison *c, gb_error *err);
/* Adds a profile's times to the layers of device number `device`. */
void gb_compare_add_times(gb_comparison *c, int device, const gb_step_time *rows, int n);
/* Finds the worst layer and the verdict. */
void gb_compare_judge(gb_comparison *c);

/* Fills layers with names, operators, errors and tolerances. */
gb_status gb_compare_drift(gb_context *ctx, const gb_recipe *recipe, const gb_dataset *dataset,
                           gb_device *const *dev, const gb_compare_options *o, gb_comparison *c, gb_error *err);

#endif
