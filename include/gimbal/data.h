/* Data sets of labelled images, and the loader that turns them into batches.
 *
 * A data set lives in host memory as bytes and may be read by any number of loaders at a time once
 * it is complete. Every random choice (validation split, shuffling, augmentation) is a function of
 * a seed, the epoch and the example's index, so it is the same on every machine and after a resume.
 */
#ifndef GIMBAL_DATA_H
#define GIMBAL_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gimbal/status.h>
#include <gimbal/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GB_MAX_CHANNELS 4

typedef enum gb_split { GB_TRAIN = 0, GB_VALIDATION, GB_TEST, GB_SPLIT_COUNT } gb_split;

/* "train", "validation", "test". Static storage. */
GB_API const char *gb_split_name(gb_split split);

/* The examples of a split. images holds count × channels × height × width bytes. */
typedef struct gb_examples {
    int64_t count; /* 0 where the data set has no such split */
    uint8_t *images;
    int32_t *labels; /* 0 … classes - 1 */
} gb_examples;

/* A pixel of channel c enters the network as (byte / 255 - mean[c]) / std[c]. */
typedef struct gb_dataset {
    char *name;
    int channels, height, width;
    int classes;
    char **labels; /* the names of the classes; numbers in text where nothing better is known */
    float mean[GB_MAX_CHANNELS], std[GB_MAX_CHANNELS];
    gb_examples split[GB_SPLIT_COUNT];
} gb_dataset;

typedef enum gb_normalize {
    GB_NORMALIZE_AUTO = 0, /* mean and standard deviation of each channel of the train split */
    GB_NORMALIZE_NONE,     /* byte / 255 */
    GB_NORMALIZE_GIVEN     /* the mean and std of the options */
} gb_normalize;

/* {0} with a dataset is a good start. */
typedef struct gb_data_options {
    const char *dataset; /* one of gb_dataset_kinds */
    const char *path;    /* NULL searches $GIMBAL_DATA and where Debian's packages install */
    double validation;   /* share of the train split that becomes the validation split */
    double test;         /* folder without test/: share that becomes the test split; 0 means 0.1 */
    uint64_t seed;       /* chooses what goes into these */
    int size;            /* folder: resize to size × size; 0: all images have the same size */
    int channels;        /* folder: 1 or 3; 0: 3 unless all images are grey */
    gb_normalize normalize;
    int normalize_channels; /* GIVEN: how many values mean and std hold: 1 (for all channels) or one
                               a channel */
    float mean[GB_MAX_CHANNELS], std[GB_MAX_CHANNELS];
} gb_data_options;

/* The values of gb_data_options.dataset: "fashion-mnist", "cifar10", "idx" (MNIST-like files
 * train-images-idx3-ubyte …, plain or .gz), "folder" (a sub-folder of images a class, maybe below
 * train/, validation/ and test/). NULL-terminated, static storage. */
GB_API const char *const *gb_dataset_kinds(void);

/* Reads a data set, splits and normalizes it. Errors: INVALID (options), NOT_FOUND (naming where it
 * looked), FORMAT (a damaged file), UNSUPPORTED, IO, OUT_OF_MEMORY. */
GB_API gb_status gb_dataset_open(gb_dataset **dataset, const gb_data_options *options,
                                 gb_error *err);
/* Frees everything and clears the pointer; NULL and cleared pointers are fine. No loader may use it
 * any more. */
GB_API void gb_dataset_destroy(gb_dataset **dataset);

/* A data set of which nothing but sizes and classes matters: where they are known (fashion-mnist,
 * cifar10), no file is read and there are no examples. Errors: as gb_dataset_open. */
GB_API gb_status gb_dataset_open_sizes(gb_dataset **dataset, const gb_data_options *options,
                                       gb_error *err);

/* A data set of one's own: create it, allocate each split and fill in images and labels, then
 * normalize (only then mean and std are set). labels may be NULL. Errors: INVALID, OUT_OF_MEMORY.
 */
GB_API gb_status gb_dataset_create(gb_dataset **dataset, const char *name, int channels, int height,
                                   int width, int classes, const char *const *labels,
                                   gb_error *err);
GB_API gb_status gb_dataset_allocate(gb_dataset *dataset, gb_split split, int64_t count,
                                     gb_error *err);
/* Moves a share of the train split to another, empty one; the rest keeps its order. */
GB_API gb_status gb_dataset_split_off(gb_dataset *dataset, gb_split to, double share, uint64_t seed,
                                      gb_error *err);
/* Sets mean and std as the options say. */
GB_API gb_status gb_dataset_normalize(gb_dataset *dataset, const gb_data_options *options,
                                      gb_error *err);

/* The description of a data set (name, sizes, names of classes, mean and std) as a JSON file, and a
 * data set without examples from one: what a trained model needs to know. Errors: IO, FORMAT,
 * NOT_FOUND, OUT_OF_MEMORY. */
GB_API gb_status gb_dataset_write_description(const gb_dataset *dataset, const char *path,
                                              gb_error *err);
GB_API gb_status gb_dataset_read_description(gb_dataset **dataset, const char *path, gb_error *err);

/* Normalizes one image that is no part of a data set: planes as from gb_image_to_planes, into
 * channels × pixels floats, or pixels × channels where channels_last. */
GB_API void gb_normalize_planes(const uint8_t *planes, int channels, int64_t pixels,
                                const float *mean, const float *std, bool channels_last,
                                float *out);

/* ---- batches -------------------------------------------------------------------------------- */

typedef enum gb_flip {
    GB_FLIP_NONE = 0,
    GB_FLIP_RANDOM,   /* left and right change places in half of the draws */
    GB_FLIP_ALTERNATE /* drawn once an example, then in turns from epoch to epoch */
} gb_flip;

/* Changes of the training images, drawn anew in each epoch; {0} changes nothing. */
typedef struct gb_augment {
    gb_flip flip;
    int padding;  /* shift by up to so many pixels both ways: a crop of the padded image */
    bool reflect; /* what is shifted in mirrors the image instead of being black */
    int cutout;   /* side of a square, somewhere, that becomes 0 after normalization */
} gb_augment;

typedef struct gb_loader_options {
    gb_split split;
    int64_t batch;
    bool shuffle;       /* a new order in each epoch */
    bool drop_last;     /* leave out the last batch of an epoch where it is short */
    bool channels_last; /* memory order: height, width, channel */
    gb_augment augment;
    uint64_t seed;
    int64_t epochs;      /* the first epoch that is not delivered any more; 0: without end */
    int64_t start_epoch; /* the first batch is this one: training resumes anywhere */
    int64_t start_batch;
} gb_loader_options;

/* A batch; all pointers stay valid until the loader's next call. */
typedef struct gb_batch {
    int64_t n;              /* examples; less than the batch size in a short last batch */
    gb_tensor images;       /* f32 [n, channels, height, width], or [n, height, width, channels] */
    const int32_t *labels;  /* n */
    const int64_t *samples; /* n: indices into the split */
    int64_t epoch, index;   /* both from 0; index counts the epoch's batches */
    int64_t position;       /* of the first example in the epoch's order */
    bool last;              /* the epoch's last batch */
} gb_batch;

/* Prepares batches ahead, on a thread of its own, without a pause between epochs. */
typedef struct gb_loader gb_loader;

/* The data set must outlive the loader. Errors: INVALID (an empty split, a batch size or
 * augmentation that does not fit), OUT_OF_MEMORY. */
GB_API gb_status gb_loader_create(gb_loader **loader, const gb_dataset *dataset,
                                  const gb_loader_options *options, gb_error *err);
/* Batches of an epoch. */
GB_API int64_t gb_loader_batches(const gb_loader *loader);
/* Waits for the next batch; *batch is NULL after the last one. An error on the loader's thread
 * (INVALID: a label that is no class) comes after the batches before it, and stays. */
GB_API gb_status gb_loader_next(gb_loader *loader, const gb_batch **batch, gb_error *err);
/* Stops the thread, frees everything and clears the pointer; NULL and cleared pointers are fine. */
GB_API void gb_loader_destroy(gb_loader **loader);

#ifdef __cplusplus
}
#endif
#endif
