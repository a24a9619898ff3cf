/* The trainer from inside. */
#ifndef GB_CORE_TRAIN_TRAINER_H
#define GB_CORE_TRAIN_TRAINER_H

#include <gimbal/train.h>

/* The programs for one number of examples, made when first wanted. */
typedef struct gb_step_programs {
    int64_t n;
    gb_program *step, *accumulate, *evaluate;
} gb_step_programs;

struct gb_trainer {
    gb_device *dev;
    gb_store *store;
    const gb_recipe *recipe;
    const gb_dataset *dataset;
    gb_step_programs *sizes;
    size_t n_sizes;
    gb_program *update; /* of accumulated gradients */
    bool has_states;    /* the store holds the model's states: no initial values are drawn again */
    int64_t steps, parameters;
    int64_t micro_batch;     /* the recipe's, or a part of it that the budget needs */
    uint64_t program_budget; /* of a training program, a part of the recipe's; 0: none, or not yet */
    uint64_t arena_bytes, other_bytes; /* the largest; the sum over all programs */
    int recomputed;
    uint64_t recomputed_bytes;
    int kernels;
};

/* Loss scaling as part of a graph (scale.c); of f16 alone, else scale is GB_NONE and nothing is added. */
typedef struct gb_scaling {
    gb_value scale, good_steps; /* states, F32 */
} gb_scaling;

gb_scaling gb_scaling_begin(gb_graph *g, const gb_recipe *r);
/* What to differentiate instead of the loss. */
gb_value gb_scaling_loss(gb_graph *g, const gb_scaling *s, gb_value loss);
/* Takes the scale off the gradients and updates it; usable (BOOL): the loss is finite. Returns whether
 * to apply the gradients. */
gb_value gb_scaling_end(gb_graph *g, const gb_scaling *s, const gb_recipe *r, gb_value *grad, size_t n,
                        gb_value usable);
/* After a run of a program with gb_scaling_end in it. Errors: NOT_FINITE (the scale cannot fall more). */
gb_status gb_scaling_read(const gb_recipe *r, gb_program *p, int64_t step, gb_step_result *result,
                          gb_error *err);
gb_value gb_is_finite(gb_graph *g, gb_value v); /* of one float */

/* Of all programs of a trainer. */
static inline gb_program_options gb_trainer_options(const gb_recipe *r)
{
    return (gb_program_options){.math = r->math, .precision = r->precision};
}

gb_status gb_build_step(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err);
gb_status gb_build_accumulate(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err);
gb_status gb_build_update(gb_trainer *t, gb_graph *g, const gb_graph *like, gb_error *err);
gb_status gb_build_evaluation(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err);
gb_status gb_build_layers(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err);

/* Chooses the micro-batch that fits the recipe's memory budget, once (budget.c). */
gb_status gb_trainer_fit(gb_trainer *t, gb_error *err);
/* Takes n, which a run began with, instead: before programs are made. Errors: FORMAT (n does not
 * divide the batch), OUT_OF_MEMORY (the budget holds less on this device). */
gb_status gb_trainer_cut(gb_trainer *t, int64_t n, gb_error *err);

/* The inference program for n examples: outputs "metrics" (sums) and "outputs". */
gb_status gb_trainer_evaluation(gb_trainer *t, int64_t n, gb_program **program, gb_error *err);

/* Fails with NOT_FINITE, naming what is not finite first: a state, or a layer's output. */
gb_status gb_diagnose(gb_trainer *t, const gb_tensor *images, const int32_t *labels, gb_error *err);

#endif
