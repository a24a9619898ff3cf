/* The layer types: one row each, with their options. */
#include "core/nn/layer.h"

#include <math.h>

const char *const gb_init_names[] = {"default",        "kaiming_uniform",
                                     "kaiming_normal", "kaiming_normal_out",
                                     "xavier_uniform", "xavier_normal",
                                     "dirac",          "zeros",
                                     "whiten",         NULL};

static const char *const padding_words[] = {"same", "valid", NULL};
static const char *const gelu_words[] = {"none", "tanh", NULL};

enum { BIG = 1 << 28 };

#define AT(field) offsetof(gb_layer_options, field)
#define COUNT_OPTION(key, field, value)                                                            \
    {                                                                                              \
        .name = key, .type = GB_OPT_INT, .offset = AT(field), .initial = value, .min = 1,          \
        .max = BIG                                                                                 \
    }
#define NEEDED(key, field)                                                                         \
    {                                                                                              \
        .name = key, .type = GB_OPT_INT, .offset = AT(field), .min = 1, .max = BIG,                \
        .required = true                                                                           \
    }
#define INT_OPTION(key, field, value, low, high)                                                   \
    {                                                                                              \
        .name = key, .type = GB_OPT_INT, .offset = AT(field), .initial = value, .min = low,        \
        .max = high                                                                                \
    }
#define FLOAT_OPTION(key, field, value)                                                            \
    {                                                                                              \
        .name = key, .type = GB_OPT_FLOAT, .offset = AT(field), .initial = value                   \
    }
#define SHARE_OPTION(key, field, value)                                                            \
    {                                                                                              \
        .name = key, .type = GB_OPT_FLOAT, .offset = AT(field), .initial = value, .max = 1         \
    }
#define BOOL_OPTION(key, field, value)                                                             \
    {                                                                                              \
        .name = key, .type = GB_OPT_BOOL, .offset = AT(field), .initial = value                    \
    }
#define SIZES_OPTION(key, field, value, low)                                                       \
    {                                                                                              \
        .name = key, .type = GB_OPT_INTS, .offset = AT(field), .initial = value, .min = low,       \
        .max = BIG                                                                                 \
    }
#define PADDING_OPTION(value)                                                                      \
    {                                                                                              \
        .name = "padding", .type = GB_OPT_INTS, .offset = AT(padding), .initial = value, .min = 0, \
        .max = BIG, .choices = padding_words                                                       \
    }
#define EPS_OPTION(value)                                                                          \
    {                                                                                              \
        .name = "eps", .type = GB_OPT_FLOAT, .offset = AT(eps), .initial = value, .max = 1         \
    }
#define INIT_OPTION                                                                                \
    {                                                                                              \
        .name = "init", .type = GB_OPT_CHOICE, .offset = AT(init), .choices = gb_init_names        \
    }
#define TREE_OPTION(key, field, need)                                                              \
    {                                                                                              \
        .name = key, .type = GB_OPT_TREE, .offset = AT(field), .required = need                    \
    }
#define NAME_OPTION                                                                                \
    {                                                                                              \
        .name = "name", .type = GB_OPT_TEXT, .offset = AT(name)                                    \
    }

static const gb_option conv_options[] = {
    NEEDED("out", out),
    SIZES_OPTION("kernel", kernel, 1, 1),
    SIZES_OPTION("stride", stride, 1, 1),
    PADDING_OPTION(0),
    SIZES_OPTION("dilation", dilation, 1, 1),
    COUNT_OPTION("groups", groups, 1),
    BOOL_OPTION("bias", bias, true),
    BOOL_OPTION("train_weight", train_weight, true),
    INIT_OPTION,
    NAME_OPTION,
};
static const gb_option conv_transpose_options[] = {
    NEEDED("out", out),
    SIZES_OPTION("kernel", kernel, 1, 1),
    SIZES_OPTION("stride", stride, 1, 1),
    PADDING_OPTION(0),
    SIZES_OPTION("output_padding", output_padding, 0, 0),
    SIZES_OPTION("dilation", dilation, 1, 1),
    COUNT_OPTION("groups", groups, 1),
    BOOL_OPTION("bias", bias, true),
    INIT_OPTION,
    NAME_OPTION,
};
static const gb_option linear_options[] = {NEEDED("out", out), BOOL_OPTION("bias", bias, true),
                                           INIT_OPTION, NAME_OPTION};
static const gb_option embedding_options[] = {NEEDED("size", size), NEEDED("dim", dim),
                                              NAME_OPTION};
static const gb_option batchnorm_options[] = {
    EPS_OPTION(1e-5), SHARE_OPTION("momentum", momentum, 0.1),
    BOOL_OPTION("train_scale", train_scale, true), NAME_OPTION};
static const gb_option layernorm_options[] = {INT_OPTION("dims", dims, 1, 1, GB_MAX_RANK - 1),
                                              EPS_OPTION(1e-5), BOOL_OPTION("affine", affine, true),
                                              NAME_OPTION};
static const gb_option groupnorm_options[] = {NEEDED("groups", groups), EPS_OPTION(1e-5),
                                              BOOL_OPTION("affine", affine, true), NAME_OPTION};
static const gb_option instancenorm_options[] = {EPS_OPTION(1e-5),
                                                 BOOL_OPTION("affine", affine, true), NAME_OPTION};
static const gb_option maxpool_options[] = {SIZES_OPTION("kernel", kernel, 2, 1),
                                            SIZES_OPTION("stride", stride, -1, 1),
                                            PADDING_OPTION(0), NAME_OPTION};
static const gb_option avgpool_options[] = {
    SIZES_OPTION("kernel", kernel, 2, 1), SIZES_OPTION("stride", stride, -1, 1), PADDING_OPTION(0),
    BOOL_OPTION("count_padding", count_padding, true), NAME_OPTION};
static const gb_option name_options[] = {NAME_OPTION};

static const gb_option leaky_options[] = {FLOAT_OPTION("alpha", alpha, 0.01), NAME_OPTION};
static const gb_option alpha_options[] = {FLOAT_OPTION("alpha", alpha, 1), NAME_OPTION};
static const gb_option hard_sigmoid_options[] = {FLOAT_OPTION("alpha", alpha, 0.2),
                                                 FLOAT_OPTION("beta", beta, 0.5), NAME_OPTION};
static const gb_option clip_options[] = {FLOAT_OPTION("min", min, 0), FLOAT_OPTION("max", max, 6),
                                         NAME_OPTION};
static const gb_option gelu_options[] = {{.name = "approximate",
                                          .type = GB_OPT_CHOICE,
                                          .offset = AT(approximate),
                                          .choices = gelu_words},
                                         NAME_OPTION};
static const gb_option prelu_options[] = {FLOAT_OPTION("alpha", alpha, 0.25), NAME_OPTION};
static const gb_option softmax_options[] = {
    INT_OPTION("axis", axis, -1, -GB_MAX_RANK, GB_MAX_RANK - 1), NAME_OPTION};
static const gb_option scale_options[] = {
    {.name = "factor", .type = GB_OPT_FLOAT, .offset = AT(factor), .required = true}, NAME_OPTION};
static const gb_option dropout_options[] = {SHARE_OPTION("ratio", ratio, 0.5), NAME_OPTION};
static const gb_option reshape_options[] = {{.name = "shape",
                                             .type = GB_OPT_INTS,
                                             .offset = AT(shape),
                                             .min = -1,
                                             .max = BIG,
                                             .required = true},
                                            NAME_OPTION};
static const gb_option mean_options[] = {{.name = "axes",
                                          .type = GB_OPT_INTS,
                                          .offset = AT(axes),
                                          .min = -GB_MAX_RANK,
                                          .max = GB_MAX_RANK - 1,
                                          .required = true},
                                         BOOL_OPTION("keep_dims", keep_dims, false),
                                         NAME_OPTION};
static const gb_option block_options[] = {TREE_OPTION("layers", body, true),
                                          COUNT_OPTION("repeat", repeat, 1), NAME_OPTION};
static const gb_option residual_options[] = {TREE_OPTION("body", body, true),
                                             TREE_OPTION("shortcut", shortcut, false), NAME_OPTION};

#define OPTIONS(table) table, sizeof table / sizeof table[0]
#define POINTWISE(key, operator)                                                                   \
    {                                                                                              \
        key, gb_build_pointwise, OPTIONS(name_options), operator                                   \
    }

const gb_layer_type gb_layer_types[] = {
    {"conv", gb_build_conv, OPTIONS(conv_options), NULL},
    {"conv_transpose", gb_build_conv_transpose, OPTIONS(conv_transpose_options), NULL},
    {"linear", gb_build_linear, OPTIONS(linear_options), NULL},
    {"embedding", gb_build_embedding, OPTIONS(embedding_options), NULL},
    {"batchnorm", gb_build_batchnorm, OPTIONS(batchnorm_options), NULL},
    {"layernorm", gb_build_layernorm, OPTIONS(layernorm_options), NULL},
    {"groupnorm", gb_build_groupnorm, OPTIONS(groupnorm_options), NULL},
    {"instancenorm", gb_build_instancenorm, OPTIONS(instancenorm_options), NULL},
    {"maxpool", gb_build_pool, OPTIONS(maxpool_options), "MaxPool"},
    {"avgpool", gb_build_pool, OPTIONS(avgpool_options), "AveragePool"},
    {"global_avgpool", gb_build_global_pool, OPTIONS(name_options), "GlobalAveragePool"},
    {"global_maxpool", gb_build_global_pool, OPTIONS(name_options), "GlobalMaxPool"},
    {"dropout", gb_build_dropout, OPTIONS(dropout_options), NULL},
    {"flatten", gb_build_flatten, OPTIONS(name_options), NULL},
    {"reshape", gb_build_reshape, OPTIONS(reshape_options), NULL},
    {"mean", gb_build_mean, OPTIONS(mean_options), NULL},
    {"scale", gb_build_scale, OPTIONS(scale_options), NULL},
    {"softmax", gb_build_softmax, OPTIONS(softmax_options), "Softmax"},
    {"logsoftmax", gb_build_softmax, OPTIONS(softmax_options), "LogSoftmax"},
    {"residual", gb_build_residual, OPTIONS(residual_options), NULL},
    {"block", gb_build_block, OPTIONS(block_options), NULL},
    {"sequential", gb_build_block, OPTIONS(block_options), NULL},
    {"identity", gb_build_identity, OPTIONS(name_options), NULL},
    POINTWISE("relu", "Relu"),
    {"leakyrelu", gb_build_alpha, OPTIONS(leaky_options), "LeakyRelu"},
    {"elu", gb_build_alpha, OPTIONS(alpha_options), "Elu"},
    {"celu", gb_build_alpha, OPTIONS(alpha_options), "Celu"},
    {"thresholdedrelu", gb_build_alpha, OPTIONS(alpha_options), "ThresholdedRelu"},
    {"hardsigmoid", gb_build_alpha_beta, OPTIONS(hard_sigmoid_options), "HardSigmoid"},
    {"clip", gb_build_clip, OPTIONS(clip_options), "Clip"},
    {"gelu", gb_build_gelu, OPTIONS(gelu_options), "Gelu"},
    {"silu", gb_build_silu, OPTIONS(name_options), NULL},
    {"prelu", gb_build_prelu, OPTIONS(prelu_options), NULL},
    POINTWISE("selu", "Selu"),
    POINTWISE("sigmoid", "Sigmoid"),
    POINTWISE("hardswish", "HardSwish"),
    POINTWISE("tanh", "Tanh"),
    POINTWISE("softplus", "Softplus"),
    POINTWISE("softsign", "Softsign"),
    POINTWISE("mish", "Mish"),
    POINTWISE("exp", "Exp"),
    POINTWISE("log", "Log"),
    POINTWISE("sqrt", "Sqrt"),
    POINTWISE("reciprocal", "Reciprocal"),
    POINTWISE("erf", "Erf"),
    POINTWISE("abs", "Abs"),
    POINTWISE("neg", "Neg"),
    POINTWISE("sin", "Sin"),
    POINTWISE("cos", "Cos"),
};
const size_t gb_layer_type_count = sizeof gb_layer_types / sizeof gb_layer_types[0];

const char *gb_layer_known(int i)
{
    return i >= 0 && (size_t)i < gb_layer_type_count ? gb_layer_types[i].name : NULL;
}
