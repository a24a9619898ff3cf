/* Known models, as the YAML of their layers. Names of states follow the PyTorch implementations
 * that weights are published for. */
#include "core/nn/layer.h"

#define AT(field) offsetof(gb_named_options, field)
#define CLASSES                                                                                    \
    {                                                                                              \
        .name = "classes", .type = GB_OPT_INT, .offset = AT(classes), .initial = 10, .min = 1,     \
        .max = 1 << 20                                                                             \
    }
#define WIDTH(value)                                                                               \
    {                                                                                              \
        .name = "width", .type = GB_OPT_INT, .offset = AT(width), .initial = value, .min = 2,      \
        .max = 8192                                                                                \
    }

static const gb_option mlp_options[] = {
    {.name = "hidden",
     .type = GB_OPT_INTS,
     .offset = AT(hidden),
     .initial = 512,
     .min = 1,
     .max = 1 << 20},
    CLASSES,
    {.name = "dropout", .type = GB_OPT_FLOAT, .offset = AT(dropout), .max = 1},
};
static const gb_option cnn_options[] = {
    CLASSES, WIDTH(32), {.name = "dropout", .type = GB_OPT_FLOAT, .offset = AT(dropout), .max = 1}};
static const gb_option resnet_options[] = {CLASSES, WIDTH(16)};
static const gb_option resnet18_options[] = {CLASSES, WIDTH(64)};
static const gb_option airbench_options[] = {CLASSES};

static void write_mlp(FILE *f, const gb_named_model *m, const gb_named_options *o)
{
    fputs("- flatten\n", f);
    for (int i = 0; i < o->hidden.n; i++) {
        fprintf(f, "- linear: {out: %lld, name: fc%d}\n- relu\n", (long long)o->hidden.v[i], i + 1);
        if (o->dropout > 0) fprintf(f, "- dropout: %g\n", o->dropout);
    }
    fprintf(f, "- linear: {out: %lld, name: fc%d}\n", (long long)o->classes, o->hidden.n + 1);
}

static void write_cnn(FILE *f, const gb_named_model *m, const gb_named_options *o)
{
    for (int i = 1; i <= 2; i++)
        fprintf(f,
                "- conv: {out: %lld, kernel: 3, padding: same, bias: false, name: conv%d}\n"
                "- batchnorm: {name: bn%d}\n- relu\n- maxpool: 2\n",
                (long long)o->width * i, i, i);
    fprintf(f, "- flatten\n- linear: {out: %lld, name: fc1}\n- relu\n", (long long)o->width * 4);
    if (o->dropout > 0) fprintf(f, "- dropout: %g\n", o->dropout);
    fprintf(f, "- linear: {out: %lld, name: fc2}\n", (long long)o->classes);
}

/* Two 3x3 convolutions with a shortcut. */
static void write_basic_block(FILE *f, int stage, int index, long long width, int stride,
                              const char *shortcut, const char *init)
{
    fprintf(f,
            "- residual:\n"
            "    name: layer%d.%d\n"
            "    body:\n"
            "      - conv: {out: %lld, kernel: 3, stride: %d, padding: 1, bias: false, init: %s, "
            "name: conv1}\n"
            "      - batchnorm: {name: bn1}\n"
            "      - relu: {name: relu1}\n"
            "      - conv: {out: %lld, kernel: 3, padding: 1, bias: false, init: %s, name: conv2}\n"
            "      - batchnorm: {name: bn2}\n"
            "    shortcut: %s\n"
            "- relu: {name: layer%d.%d.relu2}\n",
            stage, index, width, stride, init, width, init, shortcut, stage, index);
}

static void write_stem(FILE *f, long long width, const char *init)
{
    fprintf(f,
            "- conv: {out: %lld, kernel: 3, padding: 1, bias: false, init: %s, name: conv1}\n"
            "- batchnorm: {name: bn1}\n- relu: {name: relu}\n",
            width, init);
}

/* He et al.'s CIFAR networks with shortcuts that have no parameters, named as
 * akamaster/pytorch_resnet_cifar10 names them. */
static void write_resnet(FILE *f, const gb_named_model *m, const gb_named_options *o)
{
    const char *init = "kaiming_normal";
    write_stem(f, o->width, init);
    for (int stage = 1; stage <= 3; stage++) {
        for (int i = 0; i < m->blocks; i++) {
            bool down = stage > 1 && i == 0;
            write_basic_block(f, stage, i, (long long)o->width << (stage - 1), down ? 2 : 1,
                              down ? "pad" : "identity", init);
        }
    }
    fprintf(f,
            "- global_avgpool: {name: avgpool}\n- flatten: {name: flatten}\n"
            "- linear: {out: %lld, init: %s, name: linear}\n",
            (long long)o->classes, init);
}

/* ResNet-18 with a 3x3 stem for 32x32 images, named as torchvision names it. */
static void write_resnet18(FILE *f, const gb_named_model *m, const gb_named_options *o)
{
    const char *init = "kaiming_normal_out";
    write_stem(f, o->width, init);
    for (int stage = 1; stage <= 4; stage++) {
        long long width = (long long)o->width << (stage - 1);
        char down[240];
        snprintf(down, sizeof down,
                 "[{conv: {out: %lld, kernel: 1, stride: 2, bias: false, init: %s, name: "
                 "downsample.0}}, {batchnorm: {name: downsample.1}}]",
                 width, init);
        for (int i = 0; i < m->blocks; i++) {
            bool first = stage > 1 && i == 0;
            write_basic_block(f, stage, i, width, first ? 2 : 1, first ? down : "identity", init);
        }
    }
    fprintf(f,
            "- global_avgpool: {name: avgpool}\n- flatten: {name: flatten}\n"
            "- linear: {out: %lld, name: fc}\n",
            (long long)o->classes);
}

/* The network of Keller Jordan's airbench94 (94 % on CIFAR-10 in seconds on a GPU). */
static void write_airbench(FILE *f, const gb_named_model *m, const gb_named_options *o)
{
    static const int widths[] = {64, 256, 256};
    fputs("- conv: {out: 24, kernel: 2, train_weight: false, init: whiten, name: whiten}\n"
          "- gelu: {name: gelu}\n",
          f);
    for (int i = 0; i < 3; i++)
        fprintf(f,
                "- block:\n"
                "    name: block%d\n"
                "    layers:\n"
                "      - conv: {out: %d, kernel: 3, padding: same, bias: false, init: dirac, name: "
                "conv1}\n"
                "      - maxpool: {kernel: 2, name: pool}\n"
                "      - batchnorm: {eps: 1e-12, momentum: 0.4, train_scale: false, name: norm1}\n"
                "      - gelu: {name: gelu1}\n"
                "      - conv: {out: %d, kernel: 3, padding: same, bias: false, init: dirac, name: "
                "conv2}\n"
                "      - batchnorm: {eps: 1e-12, momentum: 0.4, train_scale: false, name: norm2}\n"
                "      - gelu: {name: gelu2}\n",
                i + 1, widths[i], widths[i]);
    fprintf(f,
            "- maxpool: {kernel: 3, name: pool}\n- flatten: {name: flatten}\n"
            "- linear: {out: %lld, bias: false, name: head}\n"
            "- scale: {factor: 0.1111111111111111, name: scale}\n",
            (long long)o->classes);
}

#define OPTIONS(table) table, sizeof table / sizeof table[0]

const gb_named_model gb_named_models[] = {
    {"mlp", write_mlp, OPTIONS(mlp_options), 0},
    {"cnn", write_cnn, OPTIONS(cnn_options), 0},
    {"resnet20", write_resnet, OPTIONS(resnet_options), 3},
    {"resnet32", write_resnet, OPTIONS(resnet_options), 5},
    {"resnet44", write_resnet, OPTIONS(resnet_options), 7},
    {"resnet56", write_resnet, OPTIONS(resnet_options), 9},
    {"resnet18", write_resnet18, OPTIONS(resnet18_options), 2},
    {"airbench94", write_airbench, OPTIONS(airbench_options), 0},
};
const size_t gb_named_model_count = sizeof gb_named_models / sizeof gb_named_models[0];
