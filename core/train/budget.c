/* memory.budget: what is made again, and the micro-batch, so that a step's plan fits. */
#include <stdlib.h>
#include <string.h>

#include "core/train/trainer.h"

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static uint64_t total(const gb_program_info *i)
{
    return i->arena_bytes + i->state_bytes + i->other_bytes;
}

static gb_value find_state(const gb_graph *g, const char *name)
{
    gb_value v;
    for (size_t i = 0; (v = gb_graph_state_at(g, i)) != GB_NONE; i++)
        if (strcmp(gb_value_name(g, v), name) == 0) return v;
    return GB_NONE;
}

/* Of states that other programs have and this one has not. */
static uint64_t states_beside(const gb_graph *all, const gb_graph *mine)
{
    uint64_t bytes = 0;
    gb_value v;
    for (size_t i = 0; (v = gb_graph_state_at(all, i)) != GB_NONE; i++) {
        gb_shape s = gb_value_shape(all, v);
        if (!find_state(mine, gb_value_name(all, v)))
            bytes += (uint64_t)gb_shape_count(&s) * gb_dtype_size(gb_value_dtype(all, v));
    }
    return bytes;
}

/* What the programs beside that of a step need at the same time: inputs, outputs and constants of
 * evaluation and of the short last batch, and what the update of accumulated gradients has. */
static gb_status plan_beside(gb_trainer *t, const gb_graph *step, int64_t n, bool whole,
                             uint64_t *bytes, gb_error *err)
{
    const gb_program_options options = {.math = t->recipe->math,
                                        .precision = t->recipe->precision,
                                        .memory_budget =
                                            UINT64_MAX}; /* as the trainer makes them */
    gb_program_info info = {0};
    gb_graph *evaluation = gb_graph_create(), *update = gb_graph_create();
    gb_status status = evaluation && update ? gb_build_evaluation(t, evaluation, n, err)
                                            : gb_fail(err, GB_OUT_OF_MEMORY, "trainer", NULL,
                                                      "no memory for a graph");
    if (!status) status = gb_program_plan(t->dev, evaluation, &options, &info, err);
    *bytes = 2 * info.other_bytes;
    if (!status && !whole) {
        status = gb_build_update(t, update, step, err);
        if (!status) status = gb_program_plan(t->dev, update, &options, &info, err);
        *bytes += info.other_bytes + states_beside(update, step);
    }
    gb_graph_destroy(&evaluation);
    gb_graph_destroy(&update);
    return status;
}

/* OUT_OF_MEMORY: it does not fit; *least is what it then needs. */
static gb_status plan_parts(gb_trainer *t, int64_t n, bool whole, uint64_t *own, uint64_t *least,
                            gb_error *err)
{
    uint64_t budget = t->recipe->memory_budget, beside = 0;
    gb_program_options options = {.math = t->recipe->math, .precision = t->recipe->precision};
    gb_program_info info = {0};
    gb_graph *g = gb_graph_create();
    if (!g) return gb_fail(err, GB_OUT_OF_MEMORY, "trainer", NULL, "no memory for a graph");
    gb_status status = whole ? gb_build_step(t, g, n, err) : gb_build_accumulate(t, g, n, err);
    if (!status) status = plan_beside(t, g, n, whole, &beside, err);
    if (!status) {
        *own = options.memory_budget = beside < budget ? budget - beside : 1;
        status = gb_program_plan(t->dev, g, &options, &info, err);
        *least = total(&info) + beside;
    }
    gb_graph_destroy(&g);
    return status;
}

gb_status gb_trainer_cut(gb_trainer *t, int64_t n, gb_error *err)
{
    const gb_recipe *r = t->recipe;
    uint64_t need = 0;
    if (n < 1 || n > r->micro_batch || r->batch % n)
        return gb_fail(err, GB_FORMAT, "micro_batch", "resume with the recipe of the run",
                       "the run cut its batches into parts of %lld, which a batch of %lld in "
                       "micro-batches of %lld cannot be",
                       (long long)n, (long long)r->batch, (long long)r->micro_batch);
    if (r->memory_budget) {
        bool had_states = t->has_states;
        t->has_states = true; /* as in fit */
        gb_status status = plan_parts(t, n, n == r->batch, &t->program_budget, &need, err);
        t->has_states = had_states;
        if (status) t->program_budget = 0;
        if (status == GB_OUT_OF_MEMORY && need)
            return gb_fail(err, status, "memory.budget",
                           "raise it: other micro-batches would not give the same bits",
                           "the run goes on in micro-batches of %lld, which need at least %.1f MiB "
                           "here, but the budget is %.1f MiB",
                           (long long)n, mib(need), mib(r->memory_budget));
        if (status) return status;
    }
    t->micro_batch = n;
    return GB_OK;
}

gb_status gb_trainer_fit(gb_trainer *t, gb_error *err)
{
    const gb_recipe *r = t->recipe;
    if (!r->memory_budget || t->program_budget) return GB_OK;
    bool had_states = t->has_states;
    uint64_t least = UINT64_MAX;
    int64_t at = 0;
    gb_status status = GB_OUT_OF_MEMORY;
    t->has_states = true; /* no initial values are drawn for graphs that only are planned */
    for (int64_t n = r->micro_batch; n >= 1 && status == GB_OUT_OF_MEMORY; n--) {
        uint64_t need = UINT64_MAX;
        if (r->batch % n) continue;
        status = plan_parts(t, n, n == r->batch, &t->program_budget, &need, err);
        if (!status) t->micro_batch = n;
        if (need < least) {
            least = need;
            at = n;
        }
    }
    t->has_states = had_states;
    if (!status) return GB_OK;
    t->program_budget = 0;
    if (status != GB_OUT_OF_MEMORY || least == UINT64_MAX) return status;
    return gb_fail(err, GB_OUT_OF_MEMORY, "memory.budget", "raise it, or use a smaller model",
                   "training needs at least %.1f MiB (in micro-batches of %lld), but the budget is "
                   "%.1f MiB",
                   mib(least), (long long)at, mib(r->memory_budget));
}
