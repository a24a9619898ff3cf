/* The trainer from inside. */
#ifndef GB_CORE_TRAIN_TRAINER_H
#define GB_CORE_TRAIN_TRAINER_H

#include <gimbal/train.h>

/* The programs for one number of examples, made when first wanted. */
typedef struct gb_step_programs {
    int64_t n;
    gb_program *step, *accumulate, *evaluate;
} gb_step_programs;

/* Columns of the ring, each of so many rows. */
enum { GB_RING_LOSS, GB_RING_HITS, GB_RING_SCALE, GB_RING_SKIPPED, GB_RING_COLUMNS };
enum { GB_RING_ROWS = 256 };

/* What the host knows of steps that it has not read (ring.c). */
typedef struct gb_ring {
    int rows;                        /* filled since it was read last */
    int64_t examples[GB_RING_ROWS];  /* of the run that filled the row */
    bool ends[GB_RING_ROWS];         /* with this row a step ends */
    double loss, hits;               /* of rows read, of a step that has not ended */
    int64_t seen;
    gb_step_result *result; /* of steps read, in order */
    int n_results, cap_results;
    bool failed; /* t->steps is the step that did, … */
    gb_step_result failure; /* … with these figures */
} gb_ring;

struct gb_trainer {
    gb_device *dev;
    gb_store *store;
    const gb_recipe *recipe;
    const gb_dataset *dataset;
    gb_step_programs *sizes;
    size_t n_sizes;
    gb_program *update; /* of accumulated gradients */
    bool has_states;    /* the store holds the model's states: no initial values are drawn again */
    gb_ring ring;
    int64_t steps, parameters; /* steps enqueued; once one is known to have failed, those before it */
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
    gb_value skipped;           /* from gb_scaling_end: F32, 1 where the gradients do not fit, … */
    gb_value going;             /* … and BOOL, whether training can go on */
} gb_scaling;

gb_scaling gb_scaling_begin(gb_graph *g, const gb_recipe *r);
/* What to differentiate instead of the loss. */
gb_value gb_scaling_loss(gb_graph *g, const gb_scaling *s, gb_value loss);
/* Takes the scale off the gradients and updates it; usable (BOOL): the loss is finite, and no step
 * before has failed. Returns whether to apply the gradients. */
gb_value gb_scaling_end(gb_graph *g, gb_scaling *s, const gb_recipe *r, gb_value *grad, size_t n,
                        gb_value usable);
gb_value gb_is_finite(gb_graph *g, gb_value v); /* of one float */

/* --- figures of steps that are read late (ring.c) --- */
bool gb_ring_owns(const char *state); /* no part of a checkpoint */
gb_value gb_ring_stopped(gb_graph *g); /* the guard, a state: 1 once a step failed */
/* BOOL: none has. Every update of a state hangs on it. */
gb_value gb_ring_going(gb_graph *g, gb_value stopped);
/* Where going is false, the guard is set until gb_ring_restart. */
void gb_ring_stop(gb_graph *g, gb_value stopped, gb_value going);
/* F32 numbers by column, or GB_NONE, into the row that the scalar "metrics_row" tells. */
void gb_ring_write(gb_graph *g, const gb_recipe *r, const gb_value *column);
/* Gives p, which is about to run on so many examples, a row; reads the ring where it is full. */
gb_status gb_ring_begin_row(gb_trainer *t, gb_program *p, int64_t examples, gb_error *err);
gb_status gb_ring_same_row(gb_trainer *t, gb_program *p, gb_error *err); /* p writes to the last row too */
void gb_ring_end_step(gb_trainer *t);                                    /* the last row ends it */
/* Waits for all rows and turns them into results. Errors: DEVICE; not of a step that failed. */
gb_status gb_ring_drain(gb_trainer *t, gb_error *err);
void gb_ring_forget(gb_trainer *t); /* what was not read */
gb_status gb_ring_restart(gb_trainer *t, gb_error *err); /* takes the guard back, too */
/* NOT_FINITE: what the step that failed last died of. */
gb_status gb_ring_fail(const gb_trainer *t, gb_error *err);

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

const char *gb_not_finite_hint(const gb_recipe *r);

#endif
