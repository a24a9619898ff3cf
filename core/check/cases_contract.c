/* Cases of products, convolutions and pools. */
#include <stdio.h>

#include "core/check/check.h"

static const char *const products[] = {
    "* MatMul 5x7 7x3", "MatMul 1x1 1x1", "MatMul 1x64 64x1", "MatMul 64x1 1x64", "MatMul 7 7", "MatMul 7 7x3", "MatMul 5x7 7",
    "MatMul 3x5x7 7x2", "MatMul 3x5x7 3x7x2", "MatMul 5x7 3x7x2", "MatMul 2x1x4x5 3x5x6", "MatMul 2x3x4x5 2x3x5x6", "MatMul 2x3x5 5",
    "MatMul 4 2x4x3", "MatMul 3x0 0x4", "MatMul 0x3 3x4", "MatMul 3x4 4x0", "* MatMul 65x130 130x67", "MatMul 64x64 64x64",
    "MatMul 128x33 33x129", "MatMul 16x300 300x17", "MatMul 1x500 500x130", "MatMul 130x500 500x1", "MatMul 2x600 600x3",
    "MatMul 33x65 65x97", "MatMul 3x40x13 3x13x150", "MatMul 200x520 520x300", "* Gemm 5x7 7x3 3", "Gemm 5x7 7x3", "Gemm 7x5 7x3 5x3 transA=1", "Gemm 5x7 3x7 3 transB=1",
    "Gemm 7x5 3x7 5x1 transA=1 transB=1", "Gemm 5x7 7x3 scalar alpha=0.5 beta=2", "Gemm 5x7 7x3 1x3 alpha=-1 beta=0.25",
    "Gemm 1x130 130x70 70", "Gemm 70x65 65x66 70x66", "Gemm 128x784 128x784 128 transB=1 alpha=0.1",
    "Transpose 7x5; MatMul $ 7x3", "Transpose 5x3x7 perm=1,0,2; MatMul $ 3x7x2", "Slice 9x11 i64{1,2} i64{8,9} i64{0,1} i64{1,1}; MatMul $ 7x4",
    "Slice 9x11 i64{8} i64{-100} i64{0} i64{-1}; MatMul $ 11x4", "Expand 1x7 i64{5,7}; MatMul $ 7x3", NULL};

static const char *const convolutions[] = {
    "* Conv 2x3x7x5 4x3x3x3 4 pads=1,1,1,1", "* Conv 2x32x7x6 48x32x3x3 48 pads=1,1,1,1", "Conv 1x1x5x5 1x1x3x3", "Conv 2x3x7 4x3x3 4 pads=1,1", "Conv 2x3x9 5x3x3 strides=2 dilations=2 pads=2,1",
    "Conv 2x4x6x6 6x2x3x3 6 group=2 pads=1,1,1,1", "* Conv 2x6x6x5 6x1x3x3 6 group=6 pads=1,1,1,1", "Conv 2x5x6x5 10x1x3x3 group=5 strides=2,1",
    "Conv 1x33x7x7 33x1x3x3 group=33 pads=1,1,1,1", "Conv 2x16x7x7 16x1x5x5 group=16 pads=2,2,2,2 strides=2,2",
    "Conv 1x3x9x8 4x3x3x3 dilations=2,2", "Conv 1x3x9x8 4x3x3x2 dilations=1,3 pads=0,1,2,3", "Conv 2x3x8x9 5x3x3x3 strides=2,3 pads=1,0,2,1",
    "Conv 2x3x7x6 4x3x3x3 auto_pad=SAME_UPPER strides=2,2", "Conv 2x3x7x6 4x3x2x2 auto_pad=SAME_LOWER", "Conv 2x3x7x6 4x3x3x3 auto_pad=VALID",
    "Conv 2x16x5x5 17x16x1x1 17", "Conv 2x5x6x6 33x5x1x1 strides=2,2", "Conv 1x17x6x6 16x17x3x3 16 pads=1,1,1,1", "Conv 1x33x5x6 5x33x3x3 pads=1,1,1,1",
    "Conv 2x3x8x8 8x3x5x5 8 pads=2,2,2,2", "Conv 1x3x16x16 16x3x7x7 strides=2,2 pads=3,3,3,3", "* Conv 2x16x8x8 16x16x3x3 pads=1,1,1,1",
    "Conv 1x16x9x10 32x16x3x3 strides=2,2 pads=1,1,1,1", "Conv 3x32x8x8 32x32x3x3 pads=1,1,1,1", "Conv 2x64x4x4 64x64x3x3 pads=1,1,1,1",
    "Conv 2x1x12x12 8x1x3x3 8", "Conv 2x16x4x4 40x16x1x1", "Conv 2x3x3x3 4x3x3x3", "Conv 2x3x1x1 4x3x1x1 4", "Conv 2x3x1x9 4x3x1x3 pads=0,1,0,1",
    "Conv 0x3x5x5 4x3x3x3 4", "Conv 2x4x5x5 4x4x2x2 4 pads=0,0,1,1", "Conv 2x3x6x6 4x3x6x6 4", "Conv 2x3x5x5 4x3x3x3 pads=3,3,3,3",
    "Conv 2x8x6x6 8x4x3x3 group=2 strides=2,2 dilations=2,2 pads=2,2,2,2", "Conv 1x20x5x5 40x5x3x3 group=4 pads=1,1,1,1",
    "* ConvTranspose 2x3x4x5 3x4x3x3 4", "ConvTranspose 2x3x4x5 3x4x3x3 strides=2,2", "ConvTranspose 2x3x4x5 3x4x3x3 4 strides=2,2 pads=1,1,1,1 output_padding=1,1",
    "* Conv 2x3x4x5x4 4x3x2x3x2 4 pads=1,1,0,0,1,1", "Conv 1x4x6x5x5 6x2x3x2x3 6 group=2 strides=2,1,2 dilations=1,2,1 pads=1,1,1,2,0,1", "Conv 2x2x3x4x4 3x2x1x1x1", "Conv 1x2x5x6x4 3x2x3x3x3 auto_pad=SAME_UPPER strides=2,2,2",
    "* ConvTranspose 2x3x3x2x4 3x4x2x3x2 4 strides=2,1,2 pads=0,1,0,1,0,1", "ConvTranspose 1x4x2x3x3 4x2x3x2x2 group=2 dilations=2,1,1 output_padding=1,0,0 strides=2,1,1",
    "ConvTranspose 2x4x4x5 4x3x2x2 group=2 strides=2,2", "ConvTranspose 2x3x5 3x4x3 4 strides=2 pads=1,0", "ConvTranspose 2x3x4x5 3x4x3x3 dilations=2,2 pads=0,1,2,1",
    "ConvTranspose 2x3x4x5 3x4x3x3 strides=2,3 output_shape=8,15", "ConvTranspose 2x3x4x5 3x4x3x3 strides=2,2 auto_pad=SAME_UPPER",
    "ConvTranspose 2x3x4x5 3x4x3x3 strides=2,2 auto_pad=SAME_LOWER", "ConvTranspose 1x17x3x3 17x16x4x4 16 strides=2,2 pads=1,1,1,1", NULL};

static const char *const pools[] = {
    "* MaxPool 2x3x6x7 kernel_shape=2,2 strides=2,2", "MaxPool 2x3x6x7 kernel_shape=3,2 strides=2,1 pads=1,0,1,1", "* MaxPool 2x3x6x7 kernel_shape=3,3 strides=2,2 outputs=2",
    "MaxPool 2x3x7x8 kernel_shape=3,3 strides=2,2 ceil_mode=1", "MaxPool 2x3x7x8 kernel_shape=2,2 dilations=2,3 pads=1,1,1,1 outputs=2", "MaxPool 2x3x9 kernel_shape=3 strides=2 pads=1,1 outputs=2",
    "MaxPool 2x3x7x6 kernel_shape=2,3 auto_pad=SAME_UPPER strides=2,2", "MaxPool 2x3x7x6 kernel_shape=2,3 auto_pad=SAME_LOWER strides=2,2 outputs=2", "MaxPool 1x17x5x5 kernel_shape=3,3 pads=1,1,1,1",
    "MaxPool 2x3x8x8:special kernel_shape=2,2 strides=2,2 outputs=2", "MaxPool 0x3x4x4 kernel_shape=2,2",
    "* MaxPool 2x3x5x6x4 kernel_shape=2,3,2 strides=2,1,2 pads=1,0,0,0,1,1", "MaxPool 1x2x5x6x7 kernel_shape=3,2,2 strides=2,2,2 ceil_mode=1", "MaxPool 2x2x4x4x4:special kernel_shape=2,2,2",
    "* AveragePool 2x3x5x6x4 kernel_shape=2,3,2 strides=2,1,2 pads=1,0,0,0,1,1", "AveragePool 1x2x5x6x7 kernel_shape=3,2,2 strides=2,2,2 pads=1,1,0,1,0,1 ceil_mode=1 count_include_pad=1", "AveragePool 1x2x5x6x7 kernel_shape=2,2,3 dilations=2,1,2 auto_pad=SAME_LOWER",
    "* AveragePool 2x3x6x7 kernel_shape=2,2 strides=2,2", "AveragePool 2x3x6x7 kernel_shape=3,2 strides=2,1 pads=1,0,1,1", "AveragePool 2x3x6x7 kernel_shape=3,2 strides=2,1 pads=1,0,1,1 count_include_pad=1",
    "AveragePool 2x3x7x8 kernel_shape=3,3 strides=2,2 ceil_mode=1", "AveragePool 2x3x7x8 kernel_shape=3,3 strides=2,2 pads=1,1,1,1 ceil_mode=1 count_include_pad=1",
    "AveragePool 2x3x7x8 kernel_shape=2,2 dilations=2,3 pads=1,1,1,1", "AveragePool 2x3x9 kernel_shape=3 strides=2 pads=1,1", "AveragePool 2x3x7x6 kernel_shape=2,3 auto_pad=SAME_UPPER strides=2,2",
    "AveragePool 2x3x7x6 kernel_shape=2,3 auto_pad=SAME_LOWER strides=2,2", "AveragePool 1x17x5x5 kernel_shape=5,5",
    "* GlobalAveragePool 2x3x5x7", "GlobalAveragePool 2x3x9", "GlobalAveragePool 1x17x3x2x2", "* GlobalMaxPool 2x3x5x7", "GlobalMaxPool 2x3x9", "GlobalMaxPool 1x33x4x4",
    "MaxPool 2x3x6x6 kernel_shape=2,2 strides=2,2; GlobalMaxPool $", "MaxPool 2x3x6x6 kernel_shape=2,2 strides=2,2; GlobalAveragePool $", NULL};

void gb_check_contract(gb_check_list *l)
{
    gb_check_add_all(l, products);
    gb_check_add_all(l, convolutions);
    gb_check_add_all(l, pools);
    /* around the edges of tiles */
    static const int edges[] = {1, 15, 16, 17, 31, 33, 64, 96, 127};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        gb_check_add(l, false, "MatMul %dx%d %dx%d", edges[i], edges[(i + 3) % 9], edges[(i + 3) % 9],
                     edges[(i + 5) % 9]);
    static const int channels[] = {1, 3, 5, 16, 17, 33};
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
        for (int kernel = 1; kernel <= 5; kernel += 2)
            gb_check_add(l, false, "Conv 1x%dx7x6 %dx%dx%dx%d %d pads=%d,%d,%d,%d", channels[i], channels[(i + 2) % 6],
                         channels[i], kernel, kernel, channels[(i + 2) % 6], kernel / 2, kernel / 2, kernel / 2, kernel / 2);
}
