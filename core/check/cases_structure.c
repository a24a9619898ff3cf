/* Cases of shapes, gathers, reductions, normalizations, losses and dropout. */
#include <stdio.h>

#include "core/check/check.h"

static const char *const moves[] = {
    "* Reshape 2x3x4 i64{4,6}", "Reshape 2x3x4 shape=-1", "Reshape 2x3x4 shape=0,-1", "Reshape 2x3x4 i64{0,0,2,2}", "Reshape 0x3 shape=3,0 allowzero=1",
    "Reshape scalar shape=1,1", "Reshape 1x1 shape=", "Transpose 3x5; Reshape $ shape=15", "* Flatten 2x3x4", "Flatten 2x3x4 axis=0", "Flatten 2x3x4 axis=3",
    "Flatten 2x3x4 axis=-1", "* Squeeze 1x3x1x2", "Squeeze 1x3x1x2 i64{0}", "Squeeze 1x3x1x2 i64{-2}", "* Unsqueeze 3x2 i64{0,3}", "Unsqueeze 3x2 i64{-1}", "Unsqueeze scalar i64{0}",
    "* Transpose 3x5", "Transpose 2x3x4x5 perm=0,2,3,1", "Transpose 2x3x4 perm=2,0,1", "Transpose 33x65", "Transpose 0x3", "Transpose i32:3x4", "Transpose 2x3x2x3x2 perm=4,2,0,1,3",
    "Transpose 2x3x4; Add $ 4x3x2", "* Expand 3x1 i64{2,3,4}", "Expand scalar i64{2,3}", "Expand 3x1x5 i64{4,1}", "Expand 2x3 i64{2,1}", "Expand i32:1x3 i64{4,3}",
    "* Slice 7x9 i64{1,2} i64{6,8}", "Slice 7x9 i64{-5} i64{-1} i64{1}", "Slice 7x9 i64{0,8} i64{7,-100} i64{0,1} i64{2,-3}", "Slice 7x9 i64{5} i64{5} i64{0}",
    "Slice 7x9 i64{-1} i64{-9223372036854775807} i64{0} i64{-1}", "Slice 2x3x4x5 i64{1,1} i64{3,100} i64{1,3} i64{1,2}", "Slice i32:7x9 i64{1,2} i64{6,8}", "Slice 7x9 starts=1,2 ends=6,8 axes=0,1 steps=3,2",
    "* Split 7x4 i64{2,1,4} outputs=3", "Split 7x4 axis=0 outputs=2", "Split 3x6 axis=-1 outputs=3", "Split 4x6 i64{0,6} axis=1 outputs=2", "Split 2x6x3 axis=1 outputs=2; Add $0 $0.1",
    "* Concat 2x3 2x4 axis=1", "Concat 2x3 1x3 4x3 axis=0", "Concat 2x3 axis=0", "Concat 2x3x4 2x3x4 axis=-1", "Concat 2x0 2x3 axis=1", "Concat i32:2x3 i32:2x3 axis=0", "Concat 2x3x4x5 2x2x4x5 axis=1", "Concat 5 5 5 5 5 5 5 5 5 5 5 5 axis=0",
    "Concat 2x3 @0 axis=0", "* Tile 2x3 i64{2,3}", "Tile 2x3x4 repeats=1,2,1", "Tile 5 i64{3}", "Tile 2x3 i64{0,2}", "Tile 2x3 i64{1,1}", "Tile i32:2x3 i64{2,1}",
    "* Pad 3x4 i64{1,2,0,3}", "Pad 3x4 i64{1,2,0,3} f32(1.5)", "Pad 3x4 pads=-1,0,0,-2", "Pad 3x4 pads=1,-1,2,0 value=2", "Pad 3x4 pads=1,2,2,1 mode=reflect", "Pad 3x4 pads=1,2,2,1 mode=edge",
    "Pad 3x4 pads=2,5,1,3 mode=wrap", "Pad 2x3x4x5 pads=0,0,1,2,0,0,2,1 mode=reflect", "Pad 3x4 i64{1,2} _ i64{1}", "Pad i32:3x4 i64{1,2,0,3}", "Pad 5 pads=2,1 mode=edge", "Pad 2x3x4x5 pads=0,0,1,2,0,0,2,1",
    "* Gather 5x4 i64{3,0,-1,3}", "Gather 5x4 i64{1,1,2} axis=1", "Gather 2x5x3 i64{4,0} axis=1", "Gather 2x5x3 i64{2,1,0} axis=-1", "Gather 5x4 i64(2)", "* Gather 5x4 i64:2x3:0..5", "Gather 7x33 i32:9:-7..7", "Gather 5x4 i64{}",
    "Gather i32:5x4 i64{3,0}", "Gather 50x16 i32:4x8:0..50", "Gather 3x4 i64{0,0,0,0,0,0,0,0}", "Gather 9 i64:4:0..9", NULL};

static const char *const norms[] = {
    "* Softmax 5x7", "Softmax 2x3x4 axis=0", "Softmax 2x3x4 axis=1", "Softmax 2x3x4 axis=-1", "Softmax 3x130", "Softmax 4x5:-300..300; forward", "Softmax 3x1 axis=0", "Softmax 2x3x4x5 axis=1", "Softmax 16:special", "Softmax 0x3",
    "* LogSoftmax 5x7", "LogSoftmax 2x3x4 axis=0", "LogSoftmax 2x3x4 axis=1", "LogSoftmax 3x130", "LogSoftmax 4x5:-300..300",
    "* BatchNormalization 2x3x4x5 3 3 3 3:0.5..2", "BatchNormalization 4x3 3 3 3 3:0.5..2", "* BatchNormalization 2x3x4x5 3 3 3 3:0.5..2 training_mode=1", "BatchNormalization 2x3x4x5 3 3 3 3:0.5..2 training_mode=1 outputs=3; forward",
    "BatchNormalization 2x3x4x5 3 3 3 3:0.5..2 training_mode=1 unbiased=1 momentum=0.8 outputs=3; forward", "BatchNormalization 6x5 5 5 5 5:0.5..2 training_mode=1 epsilon=0.01", "BatchNormalization 4x17x3x3 17 17 17 17:0.5..2 training_mode=1",
    "BatchNormalization 2x3x9 3 3 3 3:0.5..2 training_mode=1", "BatchNormalization 8x16x12x12:9..11 16 16 16 16:0.5..2 training_mode=1", "BatchNormalization 2x3x2x3x2 3 3 3 3:0.5..2 training_mode=1",
    "* LayerNormalization 4x6 6 6", "LayerNormalization 4x6 6", "LayerNormalization 2x3x4 4 4 axis=-1", "LayerNormalization 2x3x4 3x4 3x4 axis=1", "LayerNormalization 2x3x4 2x3x4 2x3x4 axis=0", "LayerNormalization 3x130 130 130 epsilon=0.001",
    "LayerNormalization 17x64:9..11 64 64", "* GroupNormalization 2x6x3x4 6 6 num_groups=2", "GroupNormalization 2x6x3x4 3 3 num_groups=3", "GroupNormalization 2x6x9 6 6 num_groups=6", "GroupNormalization 2x6x3x4 6 6 num_groups=1 epsilon=0.01",
    "* InstanceNormalization 2x3x4x5 3 3", "InstanceNormalization 2x3x9 3 3", "InstanceNormalization 2x3x4x5:9..11 3 3 epsilon=0.01", NULL};

static const char *const losses[] = {
    "* SoftmaxCrossEntropyLoss 5x7 i64:5:0..7", "SoftmaxCrossEntropyLoss 5x7 i64:5:0..7 reduction=sum", "SoftmaxCrossEntropyLoss 5x7 i32:5:0..7 reduction=none", "SoftmaxCrossEntropyLoss 5x7 i64:5:0..7 label_smoothing=0.1",
    "SoftmaxCrossEntropyLoss 5x7 i64:5:0..7 7:0.5..2", "SoftmaxCrossEntropyLoss 5x3 i64:5:0..3 ignore_index=1", "SoftmaxCrossEntropyLoss 24x3 i64:24:0..3 3:0.5..2 ignore_index=1", "SoftmaxCrossEntropyLoss 24x3 i64:24:0..3 3:0.5..2 ignore_index=1 label_smoothing=0.2",
    "SoftmaxCrossEntropyLoss 2x3x4 i64:2x4:0..3", "SoftmaxCrossEntropyLoss 2x3x2x4 i64:2x2x4:0..3 reduction=none", "SoftmaxCrossEntropyLoss 5x7 i64:5:0..7 outputs=2", "SoftmaxCrossEntropyLoss 24x3 i64:24:0..3 reduction=none ignore_index=1",
    "SoftmaxCrossEntropyLoss 4x1000:-5..5 i64:4:0..1000", "* NegativeLogLikelihoodLoss 5x7:-3..0 i64:5:0..7", "NegativeLogLikelihoodLoss 5x7:-3..0 i64:5:0..7 7:0.5..2", "NegativeLogLikelihoodLoss 5x3:-3..0 i64:5:0..3 ignore_index=0", "NegativeLogLikelihoodLoss 2x3x4:-3..0 i64:2x4:0..3 reduction=sum",
    "* MSELoss 3x5 3x5", "MSELoss 3x5 3x5 reduction=sum", "MSELoss 3x5 3x5 reduction=none", "* L1Loss 3x5 3x5", "L1Loss 3x5 3x5 reduction=sum", "* BCEWithLogitsLoss 3x5:-5..5 3x5:0..1", "BCEWithLogitsLoss 3x5:-50..50 3x5:0..1 reduction=none",
    "* Dropout 4x50 f32(0.3) bool(1) outputs=2", "Dropout 4x50 ratio=0.75 training_mode=1 outputs=2", "Dropout 4x50 ratio=0.5", "Dropout 4x50 ratio=0.5 outputs=2", "Dropout 4x50 ratio=0 training_mode=1 outputs=2", "Dropout 2x3x4x5 ratio=0.4 training_mode=1 outputs=2",
    "AveragePool 2x3x4x5 kernel_shape=1,1; Dropout $ ratio=0.4 training_mode=1 outputs=2", NULL};

static const char *const extremes[] = {
    "* ArgMax 5x7", "ArgMax 5x7 axis=1", "ArgMax 5x7 axis=-1 keepdims=0", "ArgMax 2x3x4 axis=1", "ArgMax i32:8x5:0..2 axis=0", "ArgMax i32:8x5:0..2 axis=0 select_last_index=1", "ArgMax 16x16:special axis=1", "ArgMax 16x16:special2 axis=0",
    "ArgMax 2x3x4x5 axis=1 keepdims=0", "ArgMax 3x130 axis=1", "* ArgMin 5x7", "ArgMin 5x7 axis=1 keepdims=0", "ArgMin i32:8x5:0..2 axis=0 select_last_index=1", "ArgMin 16x16:special axis=1", "ArgMin 16x16:special2 axis=0",
    "ReduceMax 16x16:special axes=1", "ReduceMin 16x16:special axes=1", "ReduceMax 16x16:special2 axes=1", "ReduceMin 16x16:special2 axes=0", "ReduceSum 16x16:special2 axes=1", "ReduceLogSumExp 16x16:special2 axes=1",
    "ReduceMax i32:5x7 axes=1", "ReduceMin i32:5x7 axes=0", "ReduceSum i32:5x7 axes=1", "ReduceProd i32:5x4 axes=1", "ReduceSumSquare i32:5x7 axes=1", "ReduceMean i32:5x8 axes=1", "ReduceL1 i32:5x7 axes=1",
    "ReduceSum i64:5x7 axes=1", "ReduceMax i64:5x7 axes=1", "ReduceSum 3x4 i64{0}", "ReduceSum 3x4 i64{} noop_with_empty_axes=1", "ReduceSum 3x0 axes=1; Add $ 3x1", "ReduceProd 3x0 axes=1", "ReduceSum 3x1000 axes=1", "ReduceSum 1000x3 axes=0", "ReduceMean 70x70 axes=0,1", "ReduceMax 40x50 axes=1",
    "ReduceLogSumExp 4x5:-300..300 axes=1", "ReduceSumSquare 3x4 keepdims=0; Sqrt $", NULL};

/* Every subset of the axes, with and without keepdims. */
static void reductions(gb_check_list *l)
{
    static const struct { const char *op, *range; } ops[] = {
        {"ReduceSum", ""}, {"ReduceMean", ""}, {"ReduceMax", ""}, {"ReduceMin", ""}, {"ReduceProd", ":0.5..1.5"}, {"ReduceL1", ""},
        {"ReduceL2", ""}, {"ReduceSumSquare", ""}, {"ReduceLogSum", ":0.5..2"}, {"ReduceLogSumExp", ""}};
    static const char *const axes[] = {"", " axes=0", " axes=1", " axes=2", " axes=0,1", " axes=0,2", " axes=-1,1"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int k = 0; k < 7; k++)
            gb_check_add(l, k == 2, "%s 5x3x7%s%s keepdims=%d; %s 4x17x6%s%s keepdims=%d", ops[i].op, ops[i].range, axes[k], k % 2,
                         ops[i].op, ops[i].range, axes[k], 1 - k % 2);
}

void gb_check_structure(gb_check_list *l)
{
    gb_check_add_all(l, moves);
    reductions(l);
    gb_check_add_all(l, extremes);
    gb_check_add_all(l, norms);
    gb_check_add_all(l, losses);
}
