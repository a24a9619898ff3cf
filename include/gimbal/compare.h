/* Comparing devices on one model: do they compute the same, how fast, in how much memory?
 *
 * Drift is measured layer by layer against the float64 reference: the output of every layer, and the
 * gradients of its output and of its parameters, for one batch with the recipe's initial weights.
 *     error = max |device - reference| / max(max |reference|, 1e-6 · the largest of its kind)
 * where a layer's parameters count as one (a bias before a normalization has no gradient of its own).
 * A layer agrees where its error is at most the operator's tolerance (gb_operator_tolerance) times
 * the number of layers that the value has passed: depth forward, and all layers plus the way back for
 * gradients. With precision f16 or bf16 the reference computes in float64 too, but rounds what it
 * stores as the devices do, so that a mask decided by a rounded value is no drift; since a value may
 * round to either neighbour, 2^-9 or 2^-6 is added to the operator's tolerance. Loss curves and times come from real training steps with the fused program. */
#ifndef GIMBAL_COMPARE_H
#define GIMBAL_COMPARE_H

#include <gimbal/train.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GB_COMPARE_MAX 16 /* devices in one comparison */

typedef struct gb_compare_options { /* zero-initialized: the defaults */
    int64_t steps;   /* training steps of each device; 0: 10 */
    int64_t examples; /* of the batch that drift is measured on; 0: at most 8 */
    void (*progress)(void *user, const char *device, const char *what);
    void *user;
} gb_compare_options;

typedef struct gb_compare_layer {
    char *name;
    char *op; /* the operators of the layer, "Conv" or "Relu" */
    double forward[GB_COMPARE_MAX], backward[GB_COMPARE_MAX]; /* errors; NaN: has none */
    double forward_tolerance, backward_tolerance;
    double ms[GB_COMPARE_MAX]; /* of a training step, all phases */
} gb_compare_layer;

typedef struct gb_comparison {
    int n_devices, n_layers;
    int64_t steps;
    gb_device_info device[GB_COMPARE_MAX];
    gb_compare_layer *layer;
    double *loss[GB_COMPARE_MAX]; /* steps each */
    double step_ms[GB_COMPARE_MAX];
    uint64_t planned_bytes[GB_COMPARE_MAX];
    int64_t part; /* first step at which losses differ by more than 1e-3 of their size; -1: none */
    bool agree;
    int worst_layer, worst_device; /* the largest error relative to its tolerance; -1: none */
    double worst_error, worst_tolerance;
    bool worst_backward;
} gb_comparison;

/* ids: n device ids. Errors: those of training. Free with gb_comparison_free. */
GB_API gb_status gb_compare(gb_context *ctx, const gb_recipe *recipe, const char *const *ids, int n,
                            const gb_compare_options *options, gb_comparison *result, gb_error *err);
/* The same for an ONNX model: the forward run alone, on made-up inputs of `examples` rows; there are no
 * losses (steps is 0), and step_ms is the time of an inference. */
GB_API gb_status gb_compare_model(gb_context *ctx, const char *path, const char *const *ids, int n,
                                  const gb_compare_options *options, gb_comparison *result, gb_error *err);
GB_API void gb_comparison_free(gb_comparison *c);

/* A self-contained page with tables and charts. */
GB_API gb_status gb_comparison_html(const gb_comparison *c, const gb_recipe *recipe, const char *path,
                                    gb_error *err);

#ifdef __cplusplus
}
#endif
#endif
