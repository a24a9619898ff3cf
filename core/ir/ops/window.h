/* Sliding windows: what convolutions and pools share. Everything is two-dimensional inside;
 * one-dimensional operators get a height of 1. */
#ifndef GB_CORE_IR_OPS_WINDOW_H
#define GB_CORE_IR_OPS_WINDOW_H

#include "core/ir/ir.h"

/* Reads kernel_shape (or kernel, from the filter), strides, dilations, pads, auto_pad, ceil_mode and
 * group; gives the window and the output's two spatial axes. Fails the graph where it does not fit. */
bool gb_window_read(gb_graph *g, const gb_node *n, const gb_shape *x, const int64_t *kernel,
                    gb_window *w, int64_t *size);
/* A window as attributes of core operators, and back. attr[6]. */
void gb_window_attrs(const gb_window *w, gb_attr *attr);
gb_window gb_window_from(gb_graph *g, const gb_node *n);
/* [N, C, L] as [N, C, 1, L]; other ranks as they are. */
gb_value gb_as_image(gb_graph *g, gb_value v);

#define GB_WINDOW_ATTRS 6
#define GB_WINDOW_SPECS \
    {.name = "kernel", .type = GB_ATTR_INTS}, {.name = "strides", .type = GB_ATTR_INTS}, \
    {.name = "dilations", .type = GB_ATTR_INTS}, {.name = "pads", .type = GB_ATTR_INTS}, \
    {.name = "group", .type = GB_ATTR_INT, .number = 1}, {.name = "count_pad", .type = GB_ATTR_INT}

#endif
