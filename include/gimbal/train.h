/* Training: from a recipe to a model, in a run folder that survives any interruption.
 *
 * gb_train does the whole job. A gb_trainer is the part without files: a model, its optimizer and
 * the programs of its steps on one device; loops of one's own are built on it.
 * A trainer belongs to one thread at a time. */
#ifndef GIMBAL_TRAIN_H
#define GIMBAL_TRAIN_H

#include <gimbal/program.h>
#include <gimbal/recipe.h>
#include <gimbal/tune.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- the parts of a step, as graphs --- */

/* Per-example losses and hits, of model output y ([N, C]) for labels (I32 [N]): *loss is F32 [N],
 * *hit F32 [N], 1 where the largest output is the label's. MSE, L1 and BCE compare with the one-hot
 * label and take the mean over the classes. */
GB_API void gb_loss_build(gb_graph *g, const gb_loss *loss, gb_value y, gb_value labels,
                          gb_value *each, gb_value *hit);

/* Adds the update of every param[i] by grad[i] (GB_NONE: left alone) to the graph. Moments are states
 * "optimizer.<kind>.<param>". Reads the scalars "lr" and, for Adam, "adam_lr", "adam_scale". clip_*
 * and l1, l2 are the recipe's (they act on gradients; the reported loss does not hold them). Where
 * apply (BOOL, one element; GB_NONE: true) is false, nothing changes. Formulas: torch.optim. */
GB_API void gb_optimizer_build(gb_graph *g, const gb_recipe *recipe, const gb_value *param,
                               const gb_value *grad, size_t n, gb_value apply);
/* Sets the scalars that gb_optimizer_build reads, for step number step (from 0). */
GB_API gb_status gb_optimizer_scalars(gb_program *program, const gb_optimizer *o, double lr,
                                      int64_t step, gb_error *err);

/* The learning rate of step number step (from 0) of `steps` in all; epoch_steps are those of one
 * epoch. */
GB_API double gb_learning_rate(const gb_recipe *recipe, int64_t step, int64_t steps,
                               int64_t epoch_steps);

/* --- a trainer --- */

typedef struct gb_trainer gb_trainer;

typedef struct gb_step_result {
    double loss;     /* mean over the batch */
    double accuracy; /* 0 to 1 */
    double loss_scale; /* that of this step, in f16; else 0 */
    bool skipped;      /* f16: a gradient was not finite, so that nothing changed but the scale */
} gb_step_result;

/* Builds nothing yet: programs are made for batch sizes as they come. dev, recipe and dataset must
 * outlive the trainer. dataset gives the image's shape and the number of classes. */
GB_API gb_status gb_trainer_create(gb_device *dev, const gb_recipe *recipe,
                                   const gb_dataset *dataset, gb_trainer **trainer, gb_error *err);
GB_API void gb_trainer_destroy(gb_trainer **trainer);
/* Makes the programs for this batch size, with all their kernels. */
GB_API gb_status gb_trainer_prepare(gb_trainer *t, int64_t batch, gb_error *err);
/* One optimizer step on n examples: images F32 [n, C, H, W] as a loader gives them, labels n.
 * Micro-batches are the recipe's. Errors: NOT_FINITE (the loss is NaN or infinite: the weights are
 * as before the step, and the message names the first layer that gives such a value). */
GB_API gb_status gb_trainer_step(gb_trainer *t, const gb_tensor *images, const int32_t *labels,
                                 double lr, gb_step_result *result, gb_error *err);
/* The same without waiting: enqueues the step, which may run while the next batch is prepared. images
 * and labels are free again on return. Errors: NOT_FINITE (a step before it failed, nothing is
 * enqueued: gb_trainer_read). */
GB_API gb_status gb_trainer_enqueue(gb_trainer *t, const gb_tensor *images, const int32_t *labels,
                                    double lr, gb_error *err);
/* Waits for all that was enqueued. *results: the *n steps since it was called last, oldest first; the
 * trainer's, until its next call. Errors: NOT_FINITE (a step's loss was not, or its gradients do not fit
 * f16: *results holds those before it, gb_trainer_steps is its number, and all states are as before it:
 * steps enqueued after it changed nothing; the trainer may go on from there), DEVICE. */
GB_API gb_status gb_trainer_read(gb_trainer *t, const gb_step_result **results, int *n,
                                 gb_error *err);
/* After NOT_FINITE: fails with it again, naming what is not finite first with the batch of that step:
 * a state, or a layer's output. */
GB_API gb_status gb_trainer_diagnose(gb_trainer *t, const gb_tensor *images, const int32_t *labels,
                                     gb_error *err);
/* Mean loss and accuracy over a split, in inference. */
typedef struct gb_eval_result {
    double loss, accuracy;
    int64_t examples;
    double seconds;
} gb_eval_result;
GB_API gb_status gb_trainer_evaluate(gb_trainer *t, gb_split split, gb_eval_result *result,
                                     gb_error *err);
/* The model's outputs [n, classes] for images [n, C, H, W]; *outputs is allocated. */
GB_API gb_status gb_trainer_predict(gb_trainer *t, const gb_tensor *images, gb_tensor *outputs,
                                    gb_error *err);
/* Parameters, moments and statistics on the device; the trainer's. */
GB_API gb_store *gb_trainer_store(gb_trainer *t);
/* The training program for the recipe's batch size (made if needed): for profiles and plans. */
GB_API gb_status gb_trainer_program(gb_trainer *t, gb_program **program, gb_error *err);
/* The program that ends a step of several micro-batches; NULL where there is none (yet). */
GB_API gb_program *gb_trainer_update(gb_trainer *t);
GB_API int64_t gb_trainer_parameters(const gb_trainer *t);
/* Optimizer steps taken, or enqueued; settable after loading a store. */
GB_API int64_t gb_trainer_steps(const gb_trainer *t);
GB_API void gb_trainer_set_steps(gb_trainer *t, int64_t steps);
/* The planned memory of all its programs: they share states and the largest arena. */
GB_API uint64_t gb_trainer_planned_bytes(const gb_trainer *t);
GB_API int gb_trainer_kernels(const gb_trainer *t);
/* Examples that go through the device at once: the recipe's, or, once programs are made, what its
 * memory budget needs. */
GB_API int64_t gb_trainer_micro_batch(const gb_trainer *t);
/* Values of the forward run that a step makes again instead of keeping; *bytes (may be NULL): theirs. */
GB_API int gb_trainer_recomputed(const gb_trainer *t, uint64_t *bytes);

/* Adds the steps of a recipe at its batch size, in training and in inference, to a tuner. Errors: those
 * of building its model and of gb_dataset_open_sizes. */
GB_API gb_status gb_tuner_add_recipe(gb_tuner *tuner, const gb_recipe *recipe, gb_error *err);

/* --- a run --- */

typedef struct gb_progress {
    int64_t step, steps, epoch, epochs; /* steps and epochs done, and of how many */
    double loss, accuracy;              /* means since the epoch began */
    double lr, seconds, step_ms; /* step_ms: mean of the steps that were read together */
    bool epoch_end;
    double test_loss, test_accuracy; /* at an epoch's end; NaN before */
} gb_progress;

struct gb_train_result;
typedef struct gb_train_options { /* zero-initialized: the defaults */
    const char *out;    /* the run folder; NULL: runs/<date>-<time> */
    const char *resume; /* a run folder to go on with; its recipe replaces the one given */
    int64_t steps;      /* stop after this many steps in all; 0: as the recipe's epochs say */
    int64_t checkpoint_seconds; /* between checkpoints within an epoch; 0: 60 */
    /* Called for each step, in order, once its figures were read: after the first step, then several
     * times a second for all steps since. false stops (after the steps that were enqueued meanwhile),
     * saves and returns INTERRUPTED. */
    bool (*progress)(void *user, const gb_progress *p);
    /* Called once before the first step: device, parameters, memory of *so_far are known. */
    void (*planned)(void *user, const struct gb_train_result *so_far);
    void *user;
} gb_train_options;

typedef struct gb_train_result {
    char out[1024];
    char device[32];
    int64_t parameters, epochs, steps;
    double train_loss, train_accuracy;
    gb_eval_result test;
    double seconds, step_ms_min, step_ms_median;
    uint64_t planned_bytes, peak_bytes; /* peak: resident memory of the process at its highest */
    uint64_t budget_bytes; /* the recipe's; 0: none */
    int64_t micro_batch;
    int recomputed; /* values made again for the backward run, … */
    uint64_t recomputed_bytes;
    bool split_statistics; /* micro-batches, and normalizations over each of them */
    int kernels;
} gb_train_result;

/* Trains recipe on dev and fills the run folder (docs/run-folder.md): model.onnx, recipe.yaml,
 * metrics.jsonl, events.out.tfevents.*, report.html, checkpoints/. With options.resume, goes on
 * bit-identically (same device and driver) where the last checkpoint was taken.
 * Errors: INTERRUPTED (saved), NOT_FINITE, OUT_OF_MEMORY (planned need beside what there is), and
 * those of reading and writing. *result is filled as far as the run came. */
GB_API gb_status gb_train(gb_device *dev, const gb_recipe *recipe, const gb_train_options *options,
                          gb_train_result *result, gb_error *err);

/* The recipe of a run folder, the device of its last checkpoint (as gb_device_open takes it; at most
 * 31 characters), and a trainer with that loaded. */
GB_API gb_status gb_run_recipe(const char *dir, const char *const *sets, size_t n,
                               gb_recipe **recipe, gb_error *err);
GB_API gb_status gb_run_device(const char *dir, char *id, size_t size, gb_error *err);
GB_API gb_status gb_run_load(gb_trainer *t, const char *dir, gb_error *err);
/* Loads parameters and statistics by name from a safetensors file; all of the model's must be there
 * (others are ignored). Errors: NOT_FOUND (naming the first that is missing), INVALID (a shape). */
GB_API gb_status gb_trainer_load_weights(gb_trainer *t, const char *path, gb_error *err);

#ifdef __cplusplus
}
#endif
#endif
