/* Plans within a budget: what to recompute is chosen by an estimate, which a plan then puts right.
 */
#include "core/passes/memory.h"
#include "core/passes/passes.h"
#include "core/runtime/runtime.h"

enum { MAX_ROUNDS = 8 };

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static uint64_t total(const gb_program_info *i)
{
    return i->arena_bytes + i->state_bytes + i->other_bytes;
}

void gb_plan_options(gb_plan *plan, const gb_program_options *options)
{
    for (int i = 0; i < plan->n_steps; i++)
        plan->step[i].fast = options && options->math == GB_MATH_FAST;
}

typedef struct asked {
    gb_device *dev;
    gb_plan *plan;
} asked;

/* As a program does: the choice goes into the plan's step. */
static void choose(void *device, const gb_step *step, gb_answer *answer)
{
    asked *a = device;
    gb_choose(a->dev, &a->plan->step[step - a->plan->step], answer);
}

/* What the graph takes, lowered so. */
static gb_status measure(gb_device *dev, const gb_graph *g, const gb_program_options *options,
                         const gb_lower_options *lower, gb_program_info *info, gb_error *err)
{
    gb_plan *plan;
    gb_status status = gb_lower(g, lower, &plan, err);
    if (status != GB_OK) return status;
    gb_memory_limits limits = {.max_buffer_bytes = dev->info.max_buffer_bytes,
                               .device = dev->info.id};
    asked a = {dev, plan};
    gb_plan_options(plan, options);
    status = gb_plan_memory(plan, choose, &a, &limits, err);
    if (status == GB_OK)
        *info = (gb_program_info){.arena_bytes = plan->arena_bytes,
                                  .state_bytes = plan->state_bytes,
                                  .other_bytes = plan->other_bytes,
                                  .steps = plan->n_steps,
                                  .recomputed = plan->recomputed,
                                  .recomputed_bytes = plan->recomputed_bytes};
    gb_plan_free(plan);
    return status;
}

/* The estimate knows no scratch areas: it is asked for less until the plan has what was wanted. */
gb_status gb_fit_budget(gb_device *dev, const gb_graph *g, const gb_program_options *options,
                        gb_lower_options *lower, gb_program_info *info, gb_error *err)
{
    uint64_t budget = options ? options->memory_budget : 0, least = UINT64_MAX;
    gb_precision precision = options ? options->precision : GB_PRECISION_F32;
    *lower = (gb_lower_options){.no_fusion = options && options->no_fusion,
                                .lean = budget != 0,
                                .small = precision == GB_PRECISION_F16    ? GB_S_F16
                                         : precision == GB_PRECISION_BF16 ? GB_S_BF16
                                                                          : GB_S_F32,
                                .small_everywhere = options && options->small_everywhere};
    if (!budget && !info) return GB_OK;
    gb_program_info now = {0};
    for (int round = 0; round <= MAX_ROUNDS; round++) {
        gb_status status = measure(dev, g, options, lower, &now, err);
        if (info) *info = now;
        if (status != GB_OK || !budget || total(&now) <= budget) return status;
        if (total(&now) < least) least = total(&now);
        if (lower->budget == 1 || lower->no_fusion) break;
        uint64_t before = lower->budget ? lower->budget : now.arena_bytes;
        uint64_t excess = total(&now) - budget;
        lower->budget = excess < before && round + 1 < MAX_ROUNDS ? before - excess : 1;
    }
    return gb_fail(err, GB_OUT_OF_MEMORY, "memory budget", "use a smaller batch or model",
                   "the plan needs at least %.1f MiB, but the budget is %.1f MiB", mib(least),
                   mib(budget));
}

gb_status gb_program_plan(gb_device *dev, const gb_graph *graph, const gb_program_options *options,
                          gb_program_info *info, gb_error *err)
{
    gb_lower_options lower;
    if (!dev || !graph || !info)
        return gb_fail(err, GB_INVALID, "program", NULL, "an argument is NULL");
    gb_status status = gb_graph_check(graph, err);
    return status ? status : gb_fit_budget(dev, graph, options, &lower, info, err);
}
