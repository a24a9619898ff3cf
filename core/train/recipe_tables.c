#include "core/train/recipe_tables.h"

#include <math.h>

#define FLOAT(owner, key, field, value, low, high)                                                 \
    {                                                                                              \
        .name = key, .type = GB_OPT_FLOAT, .offset = offsetof(owner, field), .initial = value,     \
        .min = low, .max = high                                                                    \
    }
#define ABOVE(owner, key, field, value, low, high)                                                 \
    {                                                                                              \
        .name = key, .type = GB_OPT_FLOAT, .offset = offsetof(owner, field), .initial = value,     \
        .min = low, .max = high, .above = true                                                     \
    }
#define INT(owner, key, field, value, low, high)                                                   \
    {                                                                                              \
        .name = key, .type = GB_OPT_INT, .offset = offsetof(owner, field), .initial = value,       \
        .min = low, .max = high                                                                    \
    }
#define BOOL(owner, key, field)                                                                    \
    {                                                                                              \
        .name = key, .type = GB_OPT_BOOL, .offset = offsetof(owner, field)                         \
    }
#define TREE(owner, key, field, need)                                                              \
    {                                                                                              \
        .name = key, .type = GB_OPT_TREE, .offset = offsetof(owner, field), .required = need       \
    }
#define CHOICE(key, table)                                                                         \
    {                                                                                              \
        key, table, sizeof table / sizeof table[0]                                                 \
    }

/* --- losses --- */

static const gb_option cross_entropy[] = {
    FLOAT(gb_loss, "label_smoothing", label_smoothing, 0, 0, 1)};

const gb_choice gb_loss_choices[GB_LOSSES] = {
    [GB_LOSS_CROSS_ENTROPY] = CHOICE("cross_entropy", cross_entropy),
    [GB_LOSS_MSE] = {"mse", NULL, 0},
    [GB_LOSS_L1] = {"l1", NULL, 0},
    [GB_LOSS_BCE] = {"bce", NULL, 0},
};

/* --- optimizers --- */

#define LR(value) FLOAT(gb_optimizer, "lr", lr, value, 0, 1e6)
#define DECAY(value) FLOAT(gb_optimizer, "weight_decay", weight_decay, value, 0, 1e6)
#define EPS(value) FLOAT(gb_optimizer, "eps", eps, value, 0, 1)
#define NORM_BIAS_LR FLOAT(gb_optimizer, "norm_bias_lr", norm_bias_lr, 1, 0, 1e6)
#define SHARE(key, field, value) FLOAT(gb_optimizer, key, field, value, 0, 1)

static const gb_option sgd[] = {LR(0.01), SHARE("momentum", momentum, 0),
                                BOOL(gb_optimizer, "nesterov", nesterov), DECAY(0), NORM_BIAS_LR};
static const gb_option adam[] = {
    LR(1e-3),    SHARE("beta1", beta1, 0.9), SHARE("beta2", beta2, 0.999), EPS(1e-8), DECAY(0),
    NORM_BIAS_LR};
static const gb_option adamw[] = {
    LR(1e-3),    SHARE("beta1", beta1, 0.9), SHARE("beta2", beta2, 0.999), EPS(1e-8), DECAY(0.01),
    NORM_BIAS_LR};
static const gb_option rmsprop[] = {LR(0.01),  SHARE("alpha", alpha, 0.99),
                                    EPS(1e-8), SHARE("momentum", momentum, 0),
                                    DECAY(0),  NORM_BIAS_LR};

const gb_choice gb_optimizer_choices[GB_OPTIMIZERS] = {
    [GB_SGD] = CHOICE("sgd", sgd),
    [GB_ADAM] = CHOICE("adam", adam),
    [GB_ADAMW] = CHOICE("adamw", adamw),
    [GB_RMSPROP] = CHOICE("rmsprop", rmsprop),
};

/* --- schedules --- */

#define WARMUP(value) FLOAT(gb_schedule, "warmup", warmup, value, 0, 1)
#define WARMUP_STEPS INT(gb_schedule, "warmup_steps", warmup_steps, 0, 0, 1e12)
#define END(value) FLOAT(gb_schedule, "end", end, value, 0, 1)

static const gb_option constant[] = {WARMUP(0), WARMUP_STEPS};
static const gb_option step[] = {ABOVE(gb_schedule, "every", every, 30, 0, 1e9),
                                 ABOVE(gb_schedule, "gamma", gamma, 0.1, 0, 1), WARMUP(0),
                                 WARMUP_STEPS};
static const gb_option cosine[] = {WARMUP(0), WARMUP_STEPS, END(0)};
static const gb_option linear[] = {WARMUP(0), WARMUP_STEPS, END(0)};
static const gb_option exponential[] = {ABOVE(gb_schedule, "gamma", gamma, 0.95, 0, 1), WARMUP(0),
                                        WARMUP_STEPS};
static const gb_option one_cycle[] = {WARMUP(0.3), WARMUP_STEPS,
                                      FLOAT(gb_schedule, "start", start, 0.04, 0, 1), END(4e-6),
                                      BOOL(gb_schedule, "linear", linear)};

const gb_choice gb_schedule_choices[GB_SCHEDULES] = {
    [GB_CONSTANT] = CHOICE("constant", constant),
    [GB_STEP] = CHOICE("step", step),
    [GB_COSINE] = CHOICE("cosine", cosine),
    [GB_LINEAR] = CHOICE("linear", linear),
    [GB_EXPONENTIAL] = CHOICE("exponential", exponential),
    [GB_ONE_CYCLE] = CHOICE("one_cycle", one_cycle),
};

/* --- data --- */

static const gb_option flip[] = {BOOL(gb_augment_rows, "alternate", alternate)};
static const gb_option crop[] = {INT(gb_augment_rows, "padding", padding, 4, 1, 1024),
                                 BOOL(gb_augment_rows, "reflect", reflect)};
static const gb_option cutout[] = {INT(gb_augment_rows, "size", size, 8, 1, 4096)};

const gb_choice gb_augment_choices[GB_AUGMENTS] = {
    [GB_FLIP] = CHOICE("flip", flip),
    [GB_CROP] = CHOICE("crop", crop),
    [GB_CUTOUT] = CHOICE("cutout", cutout),
};

const gb_option gb_data_table[GB_DATA_ROWS] = {
    {.name = "dataset",
     .type = GB_OPT_TEXT,
     .offset = offsetof(gb_data_rows, dataset),
     .required = true},
    {.name = "path", .type = GB_OPT_TEXT, .offset = offsetof(gb_data_rows, path)},
    FLOAT(gb_data_rows, "validation", validation, 0, 0, 0.9),
    FLOAT(gb_data_rows, "test", test, 0, 0, 0.9),
    INT(gb_data_rows, "size", size, 0, 0, 8192),
    INT(gb_data_rows, "channels", channels, 0, 0, GB_MAX_CHANNELS),
    TREE(gb_data_rows, "normalize", normalize, false),
    TREE(gb_data_rows, "augment", augment, false),
};

/* --- the recipe --- */

static const gb_option f16[] = {
    FLOAT(gb_recipe, "loss_scale", loss_scale, 65536, 1, 16777216),
    INT(gb_recipe, "growth_steps", growth_steps, 2000, 1, 1e12)};

const gb_choice gb_precision_choices[GB_PRECISIONS] = {
    [GB_PRECISION_F32] = {"f32", NULL, 0},
    [GB_PRECISION_F16] = CHOICE("f16", f16),
    [GB_PRECISION_BF16] = {"bf16", NULL, 0},
};

static const char *const math_words[] = {"exact", "fast", NULL};

const gb_option gb_top_table[GB_TOP_OPTIONS] = {
    TREE(gb_top_options, "data", data, true),
    TREE(gb_top_options, "model", model, true),
    TREE(gb_top_options, "loss", loss, false),
    TREE(gb_top_options, "optimizer", optimizer, false),
    TREE(gb_top_options, "schedule", schedule, false),
    TREE(gb_top_options, "clip", clip, false),
    TREE(gb_top_options, "memory", memory, false),
    FLOAT(gb_top_options, "l1", l1, 0, 0, 1e6),
    FLOAT(gb_top_options, "l2", l2, 0, 0, 1e6),
    INT(gb_top_options, "batch", batch, 128, 1, 1 << 24),
    INT(gb_top_options, "micro_batch", micro_batch, 0, 0, 1 << 24),
    INT(gb_top_options, "epochs", epochs, 1, 0, 1e6),
    INT(gb_top_options, "seed", seed, 1, 0, INFINITY),
    TREE(gb_top_options, "precision", precision, false),
    {.name = "math",
     .type = GB_OPT_CHOICE,
     .offset = offsetof(gb_top_options, math),
     .choices = math_words},
};

const gb_option gb_clip_table[GB_CLIP_OPTIONS] = {
    FLOAT(gb_clip_options, "norm", norm, 0, 0, 1e12),
    FLOAT(gb_clip_options, "value", value, 0, 0, 1e12),
};

const gb_option gb_memory_table[GB_MEMORY_OPTIONS] = {
    {.name = "budget", .type = GB_OPT_TEXT, .offset = offsetof(gb_memory_options, budget)},
};

const char *gb_optimizer_name(gb_optimizer_kind kind)
{
    return gb_optimizer_choices[kind].name;
}

const char *gb_schedule_name(gb_schedule_kind kind)
{
    return gb_schedule_choices[kind].name;
}

const char *gb_loss_name(gb_loss_kind kind)
{
    return gb_loss_choices[kind].name;
}
