#include "core/ir/ops/window.h"

#include <stddef.h>
#include <string.h>

/* n entries (one or two) of an attribute as height and width; a single one is the width. */
static bool read_pair(gb_graph *g, const gb_node *n, const char *name, int axes, int64_t fallback,
                      int64_t lowest, int64_t *out)
{
    int64_t v[4];
    int count = gb_node_ints(g, n, name, -1, v, 4);
    out[0] = out[1] = axes == 1 ? 1 : fallback;
    if (axes == 1) out[1] = fallback;
    if (count < 0) return true;
    if (count != axes || v[0] < lowest || v[axes - 1] < lowest) {
        gb_node_fail(g, n, "give one positive number a spatial axis", "attribute %s does not fit", name);
        return false;
    }
    out[1] = v[axes - 1];
    if (axes == 2) out[0] = v[0];
    return true;
}

static bool read_pads(gb_graph *g, const gb_node *n, int axes, gb_window *w)
{
    int64_t v[4] = {0};
    int count = gb_node_ints(g, n, "pads", -1, v, 4);
    if (count >= 0 && count != 2 * axes) {
        gb_node_fail(g, n, "give all beginnings, then all ends", "attribute pads does not fit");
        return false;
    }
    for (int i = 0; i < axes; i++) {
        if (v[i] < 0 || v[axes + i] < 0) {
            gb_node_fail(g, n, "use Slice to cut", "pads are negative");
            return false;
        }
        w->pad[2 - axes + i] = v[i];
        w->pad_end[2 - axes + i] = v[axes + i];
    }
    return true;
}

/* The output's length along one axis; auto_pad sets the pads. */
static int64_t slide(const gb_node *n, gb_window *w, int i, int64_t in)
{
    const char *automatic = gb_node_string(n, "auto_pad");
    int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1, stride = w->stride[i];
    if (strncmp(automatic, "SAME", 4) == 0) {
        int64_t out = (in + stride - 1) / stride, total = (out - 1) * stride + reach - in;
        if (total < 0) total = 0;
        bool upper = strcmp(automatic, "SAME_UPPER") == 0;
        w->pad[i] = upper ? total / 2 : total - total / 2;
        w->pad_end[i] = total - w->pad[i];
        return out;
    }
    if (strcmp(automatic, "VALID") == 0) w->pad[i] = w->pad_end[i] = 0;
    int64_t room = in + w->pad[i] + w->pad_end[i] - reach;
    if (room < 0) return -1;
    int64_t out = room / stride + 1;
    if (gb_node_int(n, "ceil_mode") && room % stride) {
        out++;
        if ((out - 1) * stride >= in + w->pad[i]) out--; /* a window that begins in the end's padding */
    }
    return out;
}

bool gb_window_read(gb_graph *g, const gb_node *n, const gb_shape *x, const int64_t *kernel,
                    gb_window *w, int64_t *size)
{
    int axes = x->rank - 2;
    char text[160];
    *w = (gb_window){.groups = 1};
    if (axes != 1 && axes != 2) {
        gb_node_fail(g, n, "give [N, C, L] or [N, C, H, W]", "x has shape %s", gb_shape_text(x, text, sizeof text));
        return false;
    }
    if (kernel) {
        w->kernel[0] = axes == 2 ? kernel[0] : 1;
        w->kernel[1] = kernel[axes - 1];
    } else if (!read_pair(g, n, "kernel_shape", axes, 1, 1, w->kernel)) {
        return false;
    }
    if (!read_pair(g, n, "strides", axes, 1, 1, w->stride) ||
        !read_pair(g, n, "dilations", axes, 1, 1, w->dilation) || !read_pads(g, n, axes, w))
        return false;
    const gb_attr *group = gb_node_attr(n, "group");
    w->groups = group ? group->i : 1;
    w->count_pad = gb_node_int(n, "count_include_pad") != 0;
    for (int i = 0; i < 2; i++) {
        int64_t in = axes == 2 ? x->dim[2 + i] : i ? x->dim[2] : 1;
        if (i == 0 && axes == 1) {
            size[0] = 1;
            continue;
        }
        size[i] = slide(n, w, i, in);
        if (size[i] >= 0) continue;
        gb_node_fail(g, n, "use a smaller kernel, less dilation or more padding",
                     "a window of %lld does not fit into %lld (with padding)",
                     (long long)((w->kernel[i] - 1) * w->dilation[i] + 1), (long long)(in + w->pad[i] + w->pad_end[i]));
        return false;
    }
    return true;
}

_Static_assert(offsetof(gb_window, pad_end) == offsetof(gb_window, pad) + 2 * sizeof(int64_t),
               "pads are read as one array");

void gb_window_attrs(const gb_window *w, gb_attr *attr)
{
    attr[0] = GB_INTS("kernel", w->kernel, 2);
    attr[1] = GB_INTS("strides", w->stride, 2);
    attr[2] = GB_INTS("dilations", w->dilation, 2);
    attr[3] = GB_INTS("pads", w->pad, 4); /* and pad_end, which follows it */
    attr[4] = GB_INT("group", w->groups);
    attr[5] = GB_INT("count_pad", w->count_pad);
}

gb_window gb_window_from(gb_graph *g, const gb_node *n)
{
    gb_window w = {.groups = gb_node_int(n, "group"), .count_pad = gb_node_int(n, "count_pad") != 0};
    int64_t pads[4];
    gb_node_ints(g, n, "kernel", -1, w.kernel, 2);
    gb_node_ints(g, n, "strides", -1, w.stride, 2);
    gb_node_ints(g, n, "dilations", -1, w.dilation, 2);
    gb_node_ints(g, n, "pads", -1, pads, 4);
    for (int i = 0; i < 2; i++) {
        w.pad[i] = pads[i];
        w.pad_end[i] = pads[2 + i];
    }
    return w;
}

gb_value gb_as_image(gb_graph *g, gb_value v)
{
    if (gb_graph_failed(g) || gb_shape_ptr(g, v)->rank != 3) return v;
    const gb_shape *s = gb_shape_ptr(g, v);
    gb_shape image = {.rank = 4, .dim = {s->dim[0], s->dim[1], 1, s->dim[2]}};
    return gb_reshape_to(g, v, &image);
}
