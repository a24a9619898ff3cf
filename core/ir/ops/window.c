#include "core/ir/ops/window.h"

#include <stddef.h>
#include <string.h>

enum { AXES = GB_SPATIAL_AXES };

/* An attribute with a number a spatial axis; 1 along axes that x lacks, and everywhere by default. */
static bool read_numbers(gb_graph *g, const gb_node *n, const char *name, int axes, int64_t out[AXES])
{
    int64_t v[AXES + 1];
    int count = gb_node_ints(g, n, name, -1, v, AXES + 1);
    bool fits = count < 0 || count == axes;
    for (int i = 0; i < AXES; i++) {
        int given = i - (AXES - axes);
        out[i] = given >= 0 && count == axes ? v[given] : 1;
        fits = fits && out[i] >= 1;
    }
    if (!fits)
        gb_node_fail(g, n, "give one positive number a spatial axis", "attribute %s does not fit", name);
    return fits;
}

static bool read_pads(gb_graph *g, const gb_node *n, int axes, gb_windows *w)
{
    int64_t v[2 * AXES] = {0};
    int count = gb_node_ints(g, n, "pads", -1, v, 2 * AXES);
    if (count >= 0 && count != 2 * axes) {
        gb_node_fail(g, n, "give all beginnings, then all ends", "attribute pads does not fit");
        return false;
    }
    for (int i = 0; i < axes; i++) {
        if (v[i] < 0 || v[axes + i] < 0) {
            gb_node_fail(g, n, "use Slice to cut", "pads are negative");
            return false;
        }
        w->along[AXES - axes + i].pad = v[i];
        w->along[AXES - axes + i].pad_end = v[axes + i];
    }
    return true;
}

/* The output's length along one axis; auto_pad sets the pads. */
static int64_t slide(const gb_node *n, gb_slide *s, int64_t in)
{
    const char *automatic = gb_node_string(n, "auto_pad");
    int64_t reach = (s->kernel - 1) * s->dilation + 1, stride = s->stride;
    if (strncmp(automatic, "SAME", 4) == 0) {
        int64_t out = (in + stride - 1) / stride, total = (out - 1) * stride + reach - in;
        if (total < 0) total = 0;
        bool upper = strcmp(automatic, "SAME_UPPER") == 0;
        s->pad = upper ? total / 2 : total - total / 2;
        s->pad_end = total - s->pad;
        return out;
    }
    if (strcmp(automatic, "VALID") == 0) s->pad = s->pad_end = 0;
    int64_t room = in + s->pad + s->pad_end - reach;
    if (room < 0) return -1;
    int64_t out = room / stride + 1;
    if (gb_node_int(n, "ceil_mode") && room % stride) {
        out++;
        if ((out - 1) * stride >= in + s->pad) out--; /* a window that begins in the end's padding */
    }
    return out;
}

static bool read_attributes(gb_graph *g, const gb_node *n, int axes, const int64_t *kernel, gb_windows *w)
{
    int64_t v[3][AXES];
    if (!read_numbers(g, n, "strides", axes, v[1]) || !read_numbers(g, n, "dilations", axes, v[2]) ||
        !read_pads(g, n, axes, w) || (!kernel && !read_numbers(g, n, "kernel_shape", axes, v[0])))
        return false;
    for (int i = 0; i < AXES; i++) {
        int given = i - (AXES - axes);
        w->along[i].kernel = !kernel ? v[0][i] : given >= 0 ? kernel[given] : 1;
        w->along[i].stride = v[1][i];
        w->along[i].dilation = v[2][i];
    }
    return true;
}

bool gb_windows_read(gb_graph *g, const gb_node *n, const gb_shape *x, const int64_t *kernel,
                     gb_windows *w)
{
    int axes = x->rank - 2;
    char text[160];
    *w = (gb_windows){.groups = 1};
    if (axes < 1 || axes > AXES) {
        gb_node_fail(g, n, "give [N, C, L], [N, C, H, W] or [N, C, D, H, W]", "x has shape %s",
                     gb_shape_text(x, text, sizeof text));
        return false;
    }
    if (!read_attributes(g, n, axes, kernel, w)) return false;
    const gb_attr *group = gb_node_attr(n, "group");
    w->groups = group ? group->i : 1;
    w->count_pad = gb_node_int(n, "count_include_pad") != 0;
    for (int i = 0; i < AXES; i++) {
        int given = i - (AXES - axes);
        gb_slide *s = &w->along[i];
        w->in[i] = given >= 0 ? x->dim[2 + given] : 1;
        w->out[i] = given >= 0 ? slide(n, s, w->in[i]) : 1;
        if (w->out[i] >= 0) continue;
        gb_node_fail(g, n, "use a smaller kernel, less dilation or more padding",
                     "a window of %lld does not fit into %lld (with padding)",
                     (long long)((s->kernel - 1) * s->dilation + 1), (long long)(w->in[i] + s->pad + s->pad_end));
        return false;
    }
    return true;
}

gb_window gb_windows_plane(const gb_windows *w)
{
    gb_window p = {.groups = w->groups, .count_pad = w->count_pad};
    for (int i = 0; i < 2; i++) {
        const gb_slide *s = &w->along[AXES - 2 + i];
        p.kernel[i] = s->kernel;
        p.stride[i] = s->stride;
        p.dilation[i] = s->dilation;
        p.pad[i] = s->pad;
        p.pad_end[i] = s->pad_end;
    }
    return p;
}

gb_window gb_windows_depth(const gb_windows *w)
{
    const gb_slide *s = &w->along[AXES - 3];
    return (gb_window){.kernel = {s->kernel, 1},
                       .stride = {s->stride, 1},
                       .dilation = {s->dilation, 1},
                       .pad = {s->pad},
                       .pad_end = {s->pad_end},
                       .groups = 1,
                       .count_pad = w->count_pad};
}

gb_shape gb_windows_shape(const gb_windows *w, const gb_shape *x, int64_t channels)
{
    gb_shape s = {.rank = x->rank, .dim = {x->dim[0], channels}};
    for (int i = 2; i < s.rank; i++) s.dim[i] = w->out[AXES - s.rank + i];
    return s;
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
