/* The words and options of recipes, for reading and writing alike. */
#ifndef GB_CORE_TRAIN_RECIPE_TABLES_H
#define GB_CORE_TRAIN_RECIPE_TABLES_H

#include <gimbal/recipe.h>
#include "core/base/options.h"

/* A choice with options of its own: "sgd", or "sgd: {lr: 0.1}". */
typedef struct gb_choice {
    const char *name;
    const gb_option *options;
    size_t n_options;
} gb_choice;

enum { GB_LOSSES = 4, GB_OPTIMIZERS = 4, GB_SCHEDULES = 6, GB_PRECISIONS = 3 };
extern const gb_choice gb_loss_choices[GB_LOSSES];
extern const gb_choice gb_optimizer_choices[GB_OPTIMIZERS];
extern const gb_choice gb_schedule_choices[GB_SCHEDULES];
extern const gb_choice gb_precision_choices[GB_PRECISIONS];

typedef struct gb_data_rows { /* data, with what is read further still as trees */
    char *dataset, *path;
    double validation, test;
    int64_t size, channels;
    const gb_yaml *normalize, *augment;
} gb_data_rows;
enum { GB_DATA_ROWS = 8 };
extern const gb_option gb_data_table[GB_DATA_ROWS];

/* Augmentations: the index in gb_augment_choices says which fields count. */
typedef struct gb_augment_rows {
    bool alternate, reflect;
    int64_t padding, size;
} gb_augment_rows;
enum { GB_FLIP, GB_CROP, GB_CUTOUT, GB_AUGMENTS };
extern const gb_choice gb_augment_choices[GB_AUGMENTS];

typedef struct gb_top_options { /* the recipe's keys */
    const gb_yaml *data, *model, *loss, *optimizer, *schedule, *clip, *memory, *precision;
    double l1, l2;
    int64_t batch, micro_batch, epochs, seed;
    int math;
} gb_top_options;
enum { GB_TOP_OPTIONS = 15 };
extern const gb_option gb_top_table[GB_TOP_OPTIONS];

typedef struct gb_clip_options {
    double norm, value;
} gb_clip_options;
enum { GB_CLIP_OPTIONS = 2 };
extern const gb_option gb_clip_table[GB_CLIP_OPTIONS];

typedef struct gb_memory_options {
    char *budget;
} gb_memory_options;
enum { GB_MEMORY_OPTIONS = 1 };
extern const gb_option gb_memory_table[GB_MEMORY_OPTIONS];

#endif
