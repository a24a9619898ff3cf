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
    uint64_t planned_bytes;
    int kernels;
};

gb_status gb_build_step(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err);
gb_status gb_build_accumulate(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err);
gb_status gb_build_update(gb_trainer *t, gb_graph *g, const gb_graph *like, gb_error *err);
gb_status gb_build_evaluation(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err);
gb_status gb_build_layers(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err);

/* The inference program for n examples: outputs "metrics" (sums) and "outputs". */
gb_status gb_trainer_evaluation(gb_trainer *t, int64_t n, gb_program **program, gb_error *err);

/* Fails with NOT_FINITE, naming what is not finite first: a state, or a layer's output. */
gb_status gb_diagnose(gb_trainer *t, const gb_tensor *images, const int32_t *labels, gb_error *err);

#endif
