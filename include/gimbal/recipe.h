/* Recipes: what to train, on what, how. A YAML file (docs/recipes.md), read and checked at once. */
#ifndef GIMBAL_RECIPE_H
#define GIMBAL_RECIPE_H

#include <gimbal/data.h>
#include <gimbal/nn.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gb_loss_kind {
    GB_LOSS_CROSS_ENTROPY,
    GB_LOSS_MSE,
    GB_LOSS_L1,
    GB_LOSS_BCE
} gb_loss_kind;
typedef struct gb_loss {
    gb_loss_kind kind;
    double label_smoothing; /* cross-entropy */
} gb_loss;

/* Defaults and meanings are those of torch.optim. */
typedef enum gb_optimizer_kind { GB_SGD, GB_ADAM, GB_ADAMW, GB_RMSPROP } gb_optimizer_kind;
typedef struct gb_optimizer {
    gb_optimizer_kind kind;
    double lr, weight_decay;
    double momentum; /* sgd, rmsprop */
    bool nesterov;   /* sgd */
    double beta1, beta2;
    double alpha; /* rmsprop */
    double eps;
    /* For the shifts of batch normalizations ("P.bias" where "P.running_mean" is): the factor on
     * lr; their weight decay is divided by it. */
    double norm_bias_lr;
} gb_optimizer;

/* The factor on the learning rate. Each begins with a linear warm-up from 0 over `warmup_steps`
 * steps, or the share `warmup` of all steps; one_cycle rises from `start` over that time. */
typedef enum gb_schedule_kind {
    GB_CONSTANT,
    GB_STEP,
    GB_COSINE,
    GB_LINEAR,
    GB_EXPONENTIAL,
    GB_ONE_CYCLE
} gb_schedule_kind;
typedef struct gb_schedule {
    gb_schedule_kind kind;
    double warmup;
    int64_t warmup_steps;
    double every; /* step: epochs between two drops by gamma */
    double gamma; /* step, exponential (an epoch) */
    double start; /* one_cycle: factor at step 0 */
    double end;   /* cosine, linear, one_cycle: factor after the last step */
    bool linear;  /* one_cycle: straight lines instead of half cosines */
} gb_schedule;

typedef struct gb_recipe {
    gb_data_options data; /* its seed is the recipe's; path is owned by the recipe */
    gb_augment augment;
    gb_model *model; /* owned by the recipe */
    gb_loss loss;
    gb_optimizer optimizer;
    gb_schedule schedule;
    double l1, l2;                /* added to the loss: l1 * sum |w| and l2 / 2 * sum w^2 */
    double clip_norm, clip_value; /* of gradients; 0: none */
    int64_t batch, micro_batch;   /* micro_batch divides batch; equal to it unless given */
    uint64_t memory_budget; /* of a step's plan, in bytes; 0: none */
    int64_t epochs;
    uint64_t seed;
    gb_precision precision;
    /* f16: the loss is multiplied by a scale before the backward run; it begins at loss_scale, halves
     * where a gradient is not finite, and doubles after growth_steps good steps. */
    double loss_scale;
    int64_t growth_steps;
    gb_math math;
} gb_recipe;

/* Reads a file, or, where no such file exists, the installed recipe of that name ("fashion-mnist").
 * sets: n overrides "optimizer.sgd.lr=0.05" (dotted path, list items by number, a YAML value).
 * Errors: NOT_FOUND, IO, FORMAT, INVALID (file:line:column and a suggestion), OUT_OF_MEMORY. */
GB_API gb_status gb_recipe_read(const char *path, const char *const *sets, size_t n,
                                gb_recipe **recipe, gb_error *err);
/* The same from text; name stands for the file in messages. */
GB_API gb_status gb_recipe_parse(const char *text, const char *name, const char *const *sets,
                                 size_t n, gb_recipe **recipe, gb_error *err);
GB_API void gb_recipe_destroy(gb_recipe **recipe);
/* The resolved recipe as YAML: reading it gives the same recipe. free() it; NULL: no memory. */
GB_API char *gb_recipe_text(const gb_recipe *recipe);
/* The same into a file. */
GB_API gb_status gb_recipe_write(const gb_recipe *recipe, const char *path, gb_error *err);
/* "sgd", "one_cycle", "cross_entropy": the words of recipes. */
GB_API const char *gb_optimizer_name(gb_optimizer_kind kind);
GB_API const char *gb_schedule_name(gb_schedule_kind kind);
GB_API const char *gb_loss_name(gb_loss_kind kind);

#ifdef __cplusplus
}
#endif
#endif
