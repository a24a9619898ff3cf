/* Layers inside core/nn: what a description becomes, and how a layer type is declared. */
#ifndef GB_CORE_NN_LAYER_H
#define GB_CORE_NN_LAYER_H

#include <gimbal/nn.h>
#include "core/base/options.h"

typedef struct gb_layer gb_layer;

typedef struct gb_layers {
    gb_layer *items;
    size_t n;
} gb_layers;

typedef enum gb_init {
    GB_INIT_MODEL, /* what the model says; for a model: what PyTorch does by default */
    GB_INIT_KAIMING_UNIFORM,
    GB_INIT_KAIMING_NORMAL,
    GB_INIT_KAIMING_NORMAL_OUT,
    GB_INIT_XAVIER_UNIFORM,
    GB_INIT_XAVIER_NORMAL,
    GB_INIT_DIRAC,
    GB_INIT_ZEROS,
    GB_INIT_WHITEN /* computed from data before training */
} gb_init;
extern const char *const gb_init_names[];

/* The options of all layer types in one struct: each type reads and writes its own. */
typedef struct gb_layer_options {
    char *name;
    int64_t out, groups, size, dim, dims, repeat, axis;
    gb_ints kernel, stride, dilation, padding, output_padding, shape, axes;
    double eps, momentum, alpha, beta, min, max, ratio, factor;
    bool bias, affine, train_scale, train_weight, count_padding, keep_dims;
    int init, approximate;
    const gb_yaml *body, *shortcut; /* while reading only */
} gb_layer_options;

typedef struct gb_builder gb_builder;

typedef struct gb_layer_type {
    const char *name;
    gb_value (*build)(gb_builder *b, const gb_layer *l, gb_value x);
    const gb_option *options;
    size_t n_options;
    const char *op; /* the operator of a pointwise type */
} gb_layer_type;

extern const gb_layer_type gb_layer_types[];
extern const size_t gb_layer_type_count;

struct gb_layer {
    const gb_layer_type *type;
    gb_layer_options o;
    gb_layers body, shortcut;
    bool pad_shortcut; /* subsample and pad with zero channels */
};

/* The state of one gb_model_build. */
struct gb_builder {
    gb_graph *g;
    const gb_model_options *options;
    int init;       /* of the model */
    char path[200]; /* of the layer being built */
    char **paths;   /* of all layers so far: they must differ */
    size_t n_paths;
    gb_status status;
    gb_error *err;
};

/* Layer lists. */
gb_status gb_layers_read(const gb_yaml *list, const char *what, gb_layers *layers, gb_error *err);
void gb_layers_free(gb_layers *layers);
void gb_layers_write(FILE *f, const gb_layers *layers, int indent);
/* Builds a list under a path prefix; scope is put before the number of an unnamed layer. */
gb_value gb_layers_build(gb_builder *b, const gb_layers *layers, const char *prefix,
                         const char *scope, gb_value x);

/* For build functions: they return GB_NONE after a failure, which is kept in the builder. */
gb_value gb_builder_fail(gb_builder *b, const char *hint, const char *format, ...) GB_PRINTF(3, 4);
/* The state "<path>.<name>", filled by init. fan_in is what a bias's bound comes from. */
gb_value gb_builder_weight(gb_builder *b, const char *name, const gb_shape *shape, int init,
                           int64_t fan_in, int64_t fan_out, bool trainable);
gb_value gb_builder_filled(gb_builder *b, const char *name, const gb_shape *shape, double value,
                           bool trainable);
gb_value gb_builder_ints(gb_builder *b, const int64_t *values, int n); /* an I64 constant */

/* Fills t (F32): draws depend on (seed, name, element) only. */
void gb_init_fill(gb_tensor *t, const char *name, uint64_t seed, int init, int64_t fan_in,
                  int64_t fan_out);
void gb_init_normal(gb_tensor *t, const char *name, uint64_t seed, double deviation);
void gb_init_uniform(gb_tensor *t, const char *name, uint64_t seed, double bound);

/* Build functions by file. */
gb_value gb_build_conv(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_conv_transpose(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_pool(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_global_pool(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_linear(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_embedding(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_batchnorm(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_layernorm(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_groupnorm(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_instancenorm(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_pointwise(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_alpha(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_alpha_beta(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_clip(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_gelu(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_silu(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_prelu(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_softmax(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_identity(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_scale(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_dropout(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_flatten(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_reshape(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_mean(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_block(gb_builder *b, const gb_layer *l, gb_value x);
gb_value gb_build_residual(gb_builder *b, const gb_layer *l, gb_value x);

/* Known models: the layers of one as YAML text; free() it. NULL: no memory. */
typedef struct gb_named_options {
    int64_t classes, width;
    gb_ints hidden;
    double dropout;
} gb_named_options;

typedef struct gb_named_model {
    const char *name;
    void (*write)(FILE *f, const struct gb_named_model *model, const gb_named_options *o);
    const gb_option *options;
    size_t n_options;
    int blocks; /* a stage, of residual networks */
} gb_named_model;

extern const gb_named_model gb_named_models[];
extern const size_t gb_named_model_count;

struct gb_model {
    const gb_named_model *named; /* NULL: given as layers */
    gb_named_options named_options;
    int init;
    gb_layers layers;
    char whitening[160]; /* the state of the layer with init: whiten, or "" */
};

#endif
