/* Trained models at work: evaluation on a test set, predictions for images.
 *
 * A classifier belongs to one thread at a time. */
#ifndef GIMBAL_CLASSIFIER_H
#define GIMBAL_CLASSIFIER_H

#include <gimbal/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gb_classifier gb_classifier;

/* Opens a run folder, an ONNX model ([N, C, H, W] in, [N, classes] out) or weights in safetensors.
 * What a run folder says (data, normalization, names of classes) also holds for files in it or in
 * its checkpoints; sets (as for gb_recipe_read) override or give it: weights alone need model and
 * data, an ONNX model alone needs data for evaluation.
 * examples: the data set itself is opened, for evaluation; else its description is enough.
 * dev must outlive the classifier. Errors: NOT_FOUND, INVALID, and those of reading. */
GB_API gb_status gb_classifier_open(gb_device *dev, const char *path, const char *const *sets,
                                    size_t n, bool examples, gb_classifier **classifier,
                                    gb_error *err);
/* Frees everything and clears the pointer; NULL and cleared pointers are fine. */
GB_API void gb_classifier_close(gb_classifier **classifier);

/* Mean loss and accuracy on the test split. Errors: INVALID (opened without examples). */
GB_API gb_status gb_classifier_evaluate(gb_classifier *c, gb_eval_result *result, gb_error *err);

typedef struct gb_class_score {
    int index;
    const char *label; /* the classifier's */
    double probability;
} gb_class_score;

/* Reads an image file, brings it to the model's size and channels, and fills at most cap scores,
 * best first; *n receives their number. Errors: those of gb_image_read, DEVICE. */
GB_API gb_status gb_classifier_predict(gb_classifier *c, const char *file, gb_class_score *scores,
                                       int cap, int *n, gb_error *err);

#ifdef __cplusplus
}
#endif
#endif
