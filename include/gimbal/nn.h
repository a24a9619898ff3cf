/* Models: layers described by a short tree, built into graphs as often as needed.
 *
 * A description is YAML: the name of a known model ("resnet20", "{mlp: {hidden: [512, 512]}}"), or
 *     layers:
 *       - conv: {out: 32, kernel: 3, padding: same}
 *       - relu
 *       - flatten
 *       - linear: 10
 * docs/recipes.md lists the layers and models. Input sizes are inferred.
 * A model does not change after it is made; any number of threads may build from it. */
#ifndef GIMBAL_NN_H
#define GIMBAL_NN_H

#include <gimbal/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gb_model gb_model;

/* Reads a description; source names it in messages (a file name).
 * Errors: FORMAT, INVALID (with line and column and a suggestion), OUT_OF_MEMORY. */
GB_API gb_status gb_model_parse(const char *yaml, const char *source, gb_model **model,
                                gb_error *err);
GB_API void gb_model_destroy(gb_model **model);
/* The description with all options written out, as YAML that gb_model_parse takes; free() it.
 * indent: spaces before each line. NULL: no memory. */
GB_API char *gb_model_write(const gb_model *model, int indent);
/* "resnet20", or "layers" where it was given as layers. */
GB_API const char *gb_model_name(const gb_model *model);
/* The names of known models, for i from 0; NULL at the end. The same for layers. */
GB_API const char *gb_model_known(int i);
GB_API const char *gb_layer_known(int i);

typedef struct gb_model_options { /* zero-initialized: inference, seed 0 */
    bool training;   /* dropout acts, batch normalization uses and updates the batch's statistics */
    uint64_t seed;   /* of the initial weights */
    bool no_initial; /* leave states without initial values (a store has them already) */
} gb_model_options;

/* Adds the model's nodes to graph. x is [N, C, H, W], [N, C, L], [N, F] or what the first layer
 * takes; *out receives the last layer's value. Nodes carry the path of their layer
 * ("layers.3.conv"); states are named "<path>.weight", ".bias", ".running_mean", ".running_var".
 * Their initial values depend on (seed, name, element) alone. options may be NULL.
 * Errors: INVALID (a shape that does not fit, naming the layer), OUT_OF_MEMORY, and whatever the
 * graph reports. */
GB_API gb_status gb_model_build(const gb_model *model, gb_graph *graph, gb_value x,
                                const gb_model_options *options, gb_value *out, gb_error *err);

/* Elements of all trainable states of a graph. */
GB_API int64_t gb_graph_parameters(const gb_graph *graph);

/* Models that begin with a whitening convolution (airbench94) want its weights computed from
 * training images before the first step: gb_model_whitening says the name of that state (NULL:
 * the model has none), gb_model_whiten computes them.
 * images: F32 [N, C, H, W], normalized as in training; *weight is allocated.
 * Errors: INVALID, OUT_OF_MEMORY. */
GB_API const char *gb_model_whitening(const gb_model *model);
GB_API gb_status gb_model_whiten(const gb_model *model, const gb_tensor *images, gb_tensor *weight,
                                 gb_error *err);

struct gb_yaml; /* a node of a parsed document (core/base/yaml.h), for the recipe reader */
gb_status gb_model_from_yaml(const struct gb_yaml *node, gb_model **model, gb_error *err);

#ifdef __cplusplus
}
#endif
#endif
