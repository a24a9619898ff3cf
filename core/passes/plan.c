#include "core/ir/plan.h"

#include "core/base/arena.h"

const char *gb_step_kind_name(gb_step_kind kind)
{
    static const char *const names[GB_STEP_KINDS] = {
        [GB_STEP_POINTWISE] = "pointwise",       [GB_STEP_REDUCE] = "reduce",
        [GB_STEP_ARGREDUCE] = "argreduce",       [GB_STEP_MATMUL] = "matmul",
        [GB_STEP_CONV] = "conv",                 [GB_STEP_CONV_INPUT] = "conv_input",
        [GB_STEP_CONV_FILTER] = "conv_filter",   [GB_STEP_MAXPOOL] = "maxpool",
        [GB_STEP_MAXPOOL_GRAD] = "maxpool_grad", [GB_STEP_AVGPOOL] = "avgpool",
        [GB_STEP_AVGPOOL_GRAD] = "avgpool_grad", [GB_STEP_GATHER] = "gather",
        [GB_STEP_GATHER_GRAD] = "gather_grad",
    };
    return (unsigned)kind < GB_STEP_KINDS ? names[kind] : "?";
}

void gb_plan_free(gb_plan *plan)
{
    if (plan) gb_arena_destroy(plan->memory);
}
