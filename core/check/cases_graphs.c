/* Cases of whole graphs: epilogues, mixed layouts, updates, and random chains of pointwise operators
 * that end in a reduction or not. */
#include <stdio.h>
#include <string.h>

#include "core/base/philox.h"
#include "core/check/check.h"

static const char *const graphs[] = {
    /* epilogues */
    "* Conv 2x3x6x6 8x3x3x3 8 pads=1,1,1,1; Relu $; Add $ 2x8x6x6; Relu $", "Conv 2x3x6x6 8x3x3x3 pads=1,1,1,1; Gelu $; Mul $ 8x1x1", "Conv 2x3x6x6 8x3x3x3 8; Sigmoid $; Mul $ $0",
    "* MatMul 9x17 17x20; Add $ 20; Relu $; Add $ 9x20", "Gemm 9x17 17x20 20; Tanh $; MatMul $ 20x5; Add $ 5", "MatMul 3x9x17 17x20; Add $ 3x1x20; Gelu $", "MatMul 5x6 6x7; Mul $ f32(2); Add $ 5x1",
    "Conv 1x4x5x5 8x4x1x1 8; Relu $0; Neg $0", "MatMul 6x7 7x6; Transpose $; Add $ 6x6", "Conv 2x3x8x8 8x3x3x3 pads=1,1,1,1; BatchNormalization $ 8 8 8 8:0.5..2; Relu $",
    "Conv 2x3x9x8 5x3x3x3; Relu $; MaxPool $ kernel_shape=3,3 strides=2,2 pads=1,1,1,1", /* masks move */
    "* Conv 2x3x8x8 8x3x3x3 pads=1,1,1,1; BatchNormalization $ 8 8 8 8:0.5..2 training_mode=1; Relu $; MaxPool $ kernel_shape=2,2 strides=2,2",
    "Conv 2x8x6x6 8x8x3x3 pads=1,1,1,1; BatchNormalization $ 8 8 8 8:0.5..2 training_mode=1; Relu $; Conv $ 8x8x3x3 pads=1,1,1,1; BatchNormalization $ 8 8 8 8:0.5..2 training_mode=1; Add $ @0; Relu $",
    "Conv 2x4x8x8 8x4x3x3 pads=1,1,1,1 strides=2,2; Conv @0 8x4x1x1 strides=2,2; Add $0 $1; Relu $",
    /* mixed layouts */
    "* Conv 2x3x6x6 4x3x3x3 4; Reshape $ shape=2,-1; MatMul $ 64x5", "Conv 2x3x6x6 4x3x3x3; Transpose $ perm=0,2,3,1; Reshape $ shape=32,4; Softmax $", "Conv 2x3x6x6 4x3x3x3; Slice $ i64{1} i64{3} i64{1}; Relu $",
    "Conv 2x3x6x6 4x3x3x3; Slice $ i64{3} i64{-100} i64{3} i64{-2}; Conv $ 5x4x2x2", "Conv 2x3x6x6 4x3x3x3; Split $ axis=1 outputs=2; Mul $1 $1.1", "Conv 2x3x5x5 4x3x3x3; Concat $ 2x2x3x3 axis=1; Conv $ 3x6x2x2",
    "Reshape 2x48 shape=2,3,4,4; Conv $ 4x3x3x3; Flatten $; Gemm $ 5x16 5 transB=1", "Conv 2x3x6x6 4x3x3x3; ReduceMean $ axes=2,3 keepdims=0; MatMul $ 4x3", "Conv 2x3x6x6 4x3x3x3; Gather $ i64{2,0} axis=1",
    "Conv 2x3x6x6 4x3x3x3; Pad $ pads=0,0,1,1,0,0,1,1 mode=reflect; MaxPool $ kernel_shape=2,2", "Conv 2x3x4x4 4x3x3x3 4; LayerNormalization $ 4x2x2 4x2x2 axis=1", "Conv 2x4x4x4 4x4x1x1; GroupNormalization $ 4 4 num_groups=2; Softmax $ axis=1",
    "Conv 2x3x6 4x3x3 4; Transpose $ perm=0,2,1; LayerNormalization $ 4 4", "Conv 2x3x6x6 4x3x3x3; ArgMax $ axis=1", "Transpose 2x5x6x3 perm=0,3,1,2; Conv $ 4x3x3x3", "Conv 2x3x6x6 4x3x3x3; Expand $ i64{2,4,4,4}; Add $ 2x4x4x4; ReduceMax $ axes=0,2",
    "Conv 2x4x5x5 4x4x3x3 pads=1,1,1,1; Transpose $ perm=0,1,3,2; Add $ $0", "Conv 1x4x4x4 6x4x1x1; Unsqueeze $ i64{0}; Squeeze $; Tile $ i64{2,1,1}",
    /* a value that many read, one that nothing needs, an input that is an output */
    "Identity 3x4; Add $ @0; Mul @0 @0; Sum $0 $1 $2", "Relu 3x4; Exp $0; Sin $0; Add $1 $2; ReduceSum $0 axes=1", "Identity 3x4; Identity $", "Reshape 3x4 shape=4,3; Transpose $; Identity $",
    /* pointwise into reductions, reductions into pointwise */
    "* Mul 5x33:0.1..2 5x33; ReduceSum $ axes=1; Sqrt @0", "Exp 5x33; ReduceSum $ axes=1; Div $0 $1", "Sub 7x5 5; Mul $ $; ReduceMean $ axes=0; Add $ f32(0.1); Sqrt $", "ReduceMax 6x9 axes=1; Sub @0 $; Exp $; ReduceSum $ axes=1; Log $",
    "Mul 4x8 8; ReduceSum $ axes=0 keepdims=0; ReduceSum $0 axes=1 keepdims=0; ReduceMax $0 axes=1",
    /* attention */
    "* MatMul 2x2x5x4 2x2x4x5; Mul $ f32(0.5); Softmax $; MatMul $ 2x2x5x4", "Reshape 2x5x8 shape=2,5,2,4; Transpose $ perm=0,2,1,3; Transpose $ perm=0,1,3,2; MatMul $1 $; Softmax $; MatMul $ $1; Transpose $ perm=0,2,1,3; Reshape $ shape=2,5,8",
    /* updates */
    "* Mul state:5x7 f32(0.9); Add $ 5x7; Mul $ &lr; Sub state:5x7 $; update @0 $1; update @2 $", "Add state:4x6 4x6; update @0 $; Mul @0 f32(2)", "Identity state:3x4; Identity state:3x4; update @0 @1; update @1 @0",
    "Mul state:33 f32(0.9); Mul 33 f32(0.1); Add $0 $1; Mul state:33:0..1 f32(0.999); Mul @1 @1; Mul $ f32(0.001); Add $3 $; Sqrt $; Add $ f32(1e-8); Div $2 $; Mul $ &lr; Sub state:33 $; update @0 $2; update @2 $6; update @3 $",
    "Conv state:1x3x5x5 state:4x3x3x3; Mul @1 f32(0.5); update @1 $; update @0 @0", "BatchNormalization 3x4x2x2 4 4 state:4 state:4:0.5..2 training_mode=1 outputs=3; update @3 $0.1; update @4 $0.2", NULL};

typedef struct dice {
    uint32_t state;
} dice;

static uint32_t roll(dice *d, uint32_t n)
{
    uint32_t out[4];
    gb_philox((const uint32_t[4]){d->state++, 99, 0, 0}, (const uint32_t[2]){1, 2}, out);
    return gb_uniform_below(out[0], n);
}

/* A random DAG over a few leaves: tame operators, so that values and slopes stay near 1. */
static void random_graph(gb_check_list *l, int number)
{
    static const char *const unary[] = {"Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Sin", "Softsign", "Gelu", "Softplus", "Elu"};
    static const char *const binary[] = {"Add", "Sub", "Mul", "Max", "Min"};
    static const char *const shape[] = {"4x5x6", "5x6", "6", "4x1x1", "1x5x1", "scalar"};
    static const char *const ends[] = {"", "; ReduceSum $ axes=2", "; ReduceMean $ axes=0,1 keepdims=0", "; ReduceMax $ axes=1", "; Softmax $", "; MatMul $ 6x7"};
    dice d = {(uint32_t)number * 1000};
    char text[1500];
    int n = 4 + (int)roll(&d, 9), leaves = 1;
    size_t used = (size_t)snprintf(text, sizeof text, "Tanh 4x5x6");
    for (int i = 1; i < n; i++) {
        char a[24], b[24];
        snprintf(a, sizeof a, "$%d", (int)(roll(&d, 3) ? (uint32_t)i - 1 : roll(&d, (uint32_t)i)));
        if (roll(&d, 2)) {
            used += (size_t)snprintf(text + used, sizeof text - used, "; %s %s", unary[roll(&d, 10)], a);
            continue;
        }
        if (leaves < 6 && roll(&d, 2)) snprintf(b, sizeof b, "%s", shape[leaves++]);
        else snprintf(b, sizeof b, "$%d", (int)roll(&d, (uint32_t)i));
        if (strcmp(a, b) == 0) snprintf(b, sizeof b, "6");
        used += (size_t)snprintf(text + used, sizeof text - used, "; %s %s %s", binary[roll(&d, 5)], a, b);
    }
    gb_check_add(l, number < 2, "%s%s", text, ends[roll(&d, 6)]);
}

void gb_check_graphs(gb_check_list *l)
{
    gb_check_add_all(l, graphs);
    for (int i = 0; i < 24; i++) random_graph(l, i);
}
