/* What the lowerings of images (convolutions, pools) share. */
#ifndef GB_BACKENDS_GPU_WINDOW_H
#define GB_BACKENDS_GPU_WINDOW_H

#include "backends/gpu/kernel.h"

/* Binds operand o (rank 4) as name and defines PLACE_name(n, c, h, w), its element offset. */
void gb_gk_image(gb_gk *k, const char *name, const gb_operand *o, gb_gk_access access);
/* KERNEL_H, STRIDE_H, DILATION_H, PAD_H and the same of W. */
void gb_gk_window(gb_gk *k, const gb_window *v);
/* Binds the epilogue's operands and the output, and defines RESULT(n, c, h, w): the epilogue of
 * acc and its store. */
void gb_gk_image_result(gb_gk *k, const gb_step *s);

#endif
