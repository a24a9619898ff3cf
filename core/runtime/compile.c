/* From a graph to a program: lowering, and the values that states start with. */
#include <stdlib.h>
#include <string.h>

#include "core/passes/passes.h"
#include "core/runtime/runtime.h"

/* The graph's initial value of the state that a port names; NULL: zero. */
static const gb_tensor *initial_of(const gb_graph *graph, const char *name)
{
    for (int i = 0; i < graph->n_states; i++) {
        const gb_value_info *v = &graph->value[graph->state[i]];
        if (strcmp(v->name, name) == 0) return v->tensor.data ? &v->tensor : NULL;
    }
    return NULL;
}

/* Devices list the types that they were seen to read and write. */
static gb_status check_precision(const gb_device *dev, gb_precision precision, gb_error *err)
{
    const gb_device_info *info = gb_device_get_info(dev);
    gb_dtype t = gb_precision_dtype(precision);
    if (info->dtypes & 1u << t) return GB_OK;
    bool other = t == GB_F16 && info->dtypes & 1u << GB_BF16;
    return gb_fail(err, GB_UNSUPPORTED, info->id,
                   other ? "use precision bf16 or f32; `gimbal devices` lists the types of each device"
                         : "use precision f32; `gimbal devices` lists the types of each device",
                   "%s (%s) has no %s", info->id, info->name, gb_dtype_name(t));
}

gb_status gb_lower_for(gb_device *dev, const gb_graph *graph, const gb_program_options *options,
                       gb_plan **plan, gb_error *err)
{
    gb_lower_options lower;
    gb_status status = gb_graph_check(graph, err);
    if (status != GB_OK) return status;
    status = check_precision(dev, options ? options->precision : GB_PRECISION_F32, err);
    if (status == GB_OK) status = gb_fit_budget(dev, graph, options, &lower, NULL, err);
    if (status == GB_OK) status = gb_lower(graph, &lower, plan, err);
    if (status == GB_OK) gb_plan_options(*plan, options);
    return status;
}

gb_status gb_program_create(gb_store *store, const gb_graph *graph,
                            const gb_program_options *options, gb_program **program, gb_error *err)
{
    if (!store || !graph || !program)
        return gb_fail(err, GB_INVALID, "program", NULL, "an argument is NULL");
    *program = NULL;
    gb_plan *plan;
    gb_status status = gb_lower_for(store->dev, graph, options, &plan, err);
    if (status != GB_OK) return status;
    const gb_tensor **initial = calloc((size_t)plan->n_states + 1, sizeof *initial);
    if (!initial) {
        gb_plan_free(plan);
        return gb_fail(err, GB_OUT_OF_MEMORY, "program", NULL, "no memory for a program");
    }
    for (int k = 0; k < plan->n_states; k++) initial[k] = initial_of(graph, plan->state[k].name);
    status = gb_program_from_plan(store, plan, initial, options, program, err);
    free(initial);
    return status;
}
