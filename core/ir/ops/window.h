/* Sliding windows: what convolutions and pools share. The core is two-dimensional; one-dimensional
 * operators get a height of 1, and volumes become images (volume.c). */
#ifndef GB_CORE_IR_OPS_WINDOW_H
#define GB_CORE_IR_OPS_WINDOW_H

#include "core/ir/ir.h"

enum { GB_SPATIAL_AXES = 3 }; /* depth, height, width */

typedef struct gb_slide { /* along one axis */
    int64_t kernel, stride, dilation, pad, pad_end;
} gb_slide;

typedef struct gb_windows { /* axes that x lacks have length and kernel 1 */
    gb_slide along[GB_SPATIAL_AXES];
    int64_t in[GB_SPATIAL_AXES], out[GB_SPATIAL_AXES]; /* lengths */
    int64_t groups;
    bool count_pad;
} gb_windows;

/* Reads kernel_shape (or kernel, from the filter), strides, dilations, pads, auto_pad, ceil_mode and
 * group. Fails the graph where they do not fit. */
bool gb_windows_read(gb_graph *g, const gb_node *n, const gb_shape *x, const int64_t *kernel,
                     gb_windows *w);
gb_window gb_windows_plane(const gb_windows *w); /* over height and width */
gb_window gb_windows_depth(const gb_windows *w); /* over depth, as height */
/* Of the result: x's batch, the channels, and the axes that x has. */
gb_shape gb_windows_shape(const gb_windows *w, const gb_shape *x, int64_t channels);
/* A window as attributes of core operators, and back. attr[6]. */
void gb_window_attrs(const gb_window *w, gb_attr *attr);
gb_window gb_window_from(gb_graph *g, const gb_node *n);
/* [N, C, L] as [N, C, 1, L]; other ranks as they are. */
gb_value gb_as_image(gb_graph *g, gb_value v);

/* Volumes [N, C, D, H, W] as images: a window's layers of depth become channels. */
/* [N * out depth, groups * kernel depth * C / groups, H, W], to convolve with
 * [O, kernel depth * C / groups, KH, KW]. */
gb_value gb_volume_unfold(gb_graph *g, gb_value x, const gb_windows *w);
gb_value gb_volume_filter(gb_graph *g, gb_value f);
/* The sum of all layers where they came from: [N, C, in depth, H, W] of n volumes. */
gb_value gb_volume_fold(gb_graph *g, gb_value v, const gb_windows *w, int64_t n);
/* A volume as [N * D, C, H, W], and back. */
gb_value gb_volume_layers(gb_graph *g, gb_value x);
gb_value gb_volume_of_layers(gb_graph *g, gb_value v, int64_t n);

#define GB_WINDOW_ATTRS 6
#define GB_WINDOW_SPECS \
    {.name = "kernel", .type = GB_ATTR_INTS}, {.name = "strides", .type = GB_ATTR_INTS}, \
    {.name = "dilations", .type = GB_ATTR_INTS}, {.name = "pads", .type = GB_ATTR_INTS}, \
    {.name = "group", .type = GB_ATTR_INT, .number = 1}, {.name = "count_pad", .type = GB_ATTR_INT}

#endif
