/* What the files of core/data share. */
#ifndef GB_CORE_DATA_INTERNAL_H
#define GB_CORE_DATA_INTERNAL_H

#include <gimbal/data.h>

/* ---- random choices ---- */

/* What a draw is for: the last word of its Philox counter. */
typedef enum gb_draw { GB_DRAW_SHUFFLE = 1, GB_DRAW_AUGMENT, GB_DRAW_SPLIT } gb_draw;

/* Four random words for an item (an example, a block of a permutation) of an epoch. */
void gb_draw_words(uint64_t seed, gb_draw what, int64_t epoch, int64_t item, uint32_t words[4]);
/* A permutation of 0 … n - 1; n < 2^31. */
void gb_draw_permutation(uint64_t seed, gb_draw what, int64_t epoch, int64_t n, uint32_t *order);

/* ---- rendering ---- */

/* Turns an example's bytes into floats, changed as augment and the draw (seed, epoch, sample) say.
 */
typedef struct gb_renderer {
    int channels, height, width;
    bool channels_last;
    gb_augment augment;
    uint64_t seed;
    float table[GB_MAX_CHANNELS][256]; /* the normalized value of each byte */
    int *rows, *columns;               /* scratch: where an output pixel comes from, -1: black */
} gb_renderer;

gb_status gb_renderer_init(gb_renderer *r, const gb_dataset *dataset,
                           const gb_loader_options *options, gb_error *err);
void gb_renderer_free(gb_renderer *r);
void gb_render(gb_renderer *r, const uint8_t *pixels, int64_t epoch, int64_t sample, float *out);

/* ---- file formats: one function a kind of data set, and their parsers ---- */

gb_status gb_open_fashion_mnist(gb_dataset **ds, const gb_data_options *o, gb_error *err);
gb_status gb_open_idx(gb_dataset **ds, const gb_data_options *o, gb_error *err);
gb_status gb_open_cifar10(gb_dataset **ds, const gb_data_options *o, gb_error *err);
gb_status gb_open_folder(gb_dataset **ds, const gb_data_options *o, gb_error *err);

/* A view of an IDX file of bytes. */
typedef struct gb_idx {
    gb_shape shape;
    const uint8_t *data;
} gb_idx;
gb_status gb_idx_parse(gb_idx *idx, const uint8_t *bytes, size_t length, const char *name,
                       gb_error *err);

#define GB_CIFAR_PIXELS 3072
/* Takes count records of label and pixels apart. Errors: FORMAT. */
gb_status gb_cifar_parse(uint8_t *images, int32_t *labels, int64_t count, const uint8_t *bytes,
                         size_t length, const char *name, gb_error *err);

/* The first of the places for a data set that holds one of the files (NULL-terminated lists):
 * options->path, or else $GIMBAL_DATA and then fallback (may be NULL); each itself and with
 * folder (may be NULL) below it. *found is freed by the caller. Errors: NOT_FOUND with hint. */
gb_status gb_data_find(char **found, const gb_data_options *options, const char *folder,
                       const char *fallback, const char *const *files, const char *hint,
                       gb_error *err);

#endif
