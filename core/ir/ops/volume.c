/* Volumes through two-dimensional operators: what a window covers of the depth lies side by side as
 * channels of an image, one image for each place of the window along the depth. */
#include <string.h>

#include "core/ir/ops/ops.h"
#include "core/ir/ops/window.h"

static gb_value transpose(gb_graph *g, gb_value v, const int64_t *perm, size_t rank)
{
    return GB_OP(g, "Transpose", GB_ARGS(v), GB_INTS("perm", perm, rank));
}

/* Places start, start + step, ... of one axis. */
static gb_value every(gb_graph *g, gb_value v, int64_t axis, int64_t start, int64_t step, int64_t count)
{
    int64_t end = start + (count - 1) * step + 1;
    return GB_OP(g, "Slice", GB_ARGS(v), GB_INTS("starts", &start, 1), GB_INTS("ends", &end, 1),
                 GB_INTS("axes", &axis, 1), GB_INTS("steps", &step, 1));
}

/* v at those places of the depth of a volume that is `depth` deep and zero elsewhere. */
static gb_value place(gb_graph *g, gb_value v, int64_t start, int64_t step, int64_t depth)
{
    if (gb_graph_failed(g)) return GB_NONE;
    gb_shape s = *gb_shape_ptr(g, v);
    const int64_t starts[5] = {0, 0, start}, steps[5] = {1, 1, step, 1, 1};
    s.dim[2] = depth;
    return GB_OP(g, "Place", GB_ARGS(v), GB_INTS("shape", s.dim, 5), GB_INTS("starts", starts, 5),
                 GB_INTS("steps", steps, 5));
}

gb_value gb_volume_unfold(gb_graph *g, gb_value x, const gb_windows *w)
{
    static const int64_t channels_last[5] = {0, 2, 3, 4, 1}, channels_first[7] = {0, 1, 4, 5, 6, 2, 3};
    if (gb_graph_failed(g)) return GB_NONE;
    const gb_shape s = *gb_shape_ptr(g, x);
    const gb_slide *d = &w->along[0];
    int64_t n = s.dim[0], h = s.dim[3], width = s.dim[4], out = w->out[0], each = s.dim[1] / w->groups;
    gb_value *layer = gb_arena_alloc(g->arena, (size_t)d->kernel * sizeof *layer);
    if (!layer) {
        gb_graph_fail(g, GB_OUT_OF_MEMORY, "use a smaller model", "no memory for a graph");
        return GB_NONE;
    }
    if (d->pad || d->pad_end) x = place(g, x, d->pad, 1, s.dim[2] + d->pad + d->pad_end);
    for (int64_t k = 0; k < d->kernel; k++) {
        gb_value v = every(g, x, 2, k * d->dilation, d->stride, out);
        const gb_shape split = {.rank = 7, .dim = {n, out, h, width, w->groups, 1, each}};
        layer[k] = gb_reshape_to(g, transpose(g, v, channels_last, 5), &split);
    }
    const gb_attr axis = GB_INT("axis", 5);
    gb_value all = gb_op_list(g, "Concat", layer, (size_t)d->kernel, &axis, 1);
    const gb_shape image = {.rank = 4, .dim = {n * out, s.dim[1] * d->kernel, h, width}};
    return gb_reshape_to(g, transpose(g, all, channels_first, 7), &image);
}

gb_value gb_volume_filter(gb_graph *g, gb_value f)
{
    static const int64_t depth_first[5] = {0, 2, 1, 3, 4};
    if (gb_graph_failed(g)) return GB_NONE;
    const int64_t *d = gb_shape_ptr(g, f)->dim;
    const gb_shape s = {.rank = 4, .dim = {d[0], d[1] * d[2], d[3], d[4]}};
    return gb_reshape_to(g, transpose(g, f, depth_first, 5), &s);
}

gb_value gb_volume_fold(gb_graph *g, gb_value v, const gb_windows *w, int64_t n)
{
    static const int64_t depth_third[6] = {0, 2, 3, 1, 4, 5}; /* of [n, out, groups, each, h, w] */
    if (gb_graph_failed(g)) return GB_NONE;
    const gb_shape s = *gb_shape_ptr(g, v);
    const gb_slide *d = &w->along[0];
    int64_t out = w->out[0], each = s.dim[1] / d->kernel / w->groups, h = s.dim[2], width = s.dim[3];
    int64_t reach = (out - 1) * d->stride + (d->kernel - 1) * d->dilation + 1;
    int64_t depth = d->pad + w->in[0] > reach ? d->pad + w->in[0] : reach;
    const gb_shape split = {.rank = 7, .dim = {n, out, w->groups, d->kernel, each, h, width}};
    const gb_shape layer = {.rank = 6, .dim = {n, out, w->groups, each, h, width}};
    const gb_shape volume = {.rank = 5, .dim = {n, w->groups * each, out, h, width}};
    gb_value sum = GB_NONE;
    v = gb_reshape_to(g, v, &split);
    for (int64_t k = 0; k < d->kernel; k++) {
        gb_value one = gb_reshape_to(g, every(g, v, 3, k, 1, 1), &layer);
        one = gb_reshape_to(g, transpose(g, one, depth_third, 6), &volume);
        one = place(g, one, k * d->dilation, d->stride, depth);
        sum = sum ? gb_op2(g, "Add", sum, one) : one;
    }
    return every(g, sum, 2, d->pad, 1, w->in[0]);
}

gb_value gb_volume_layers(gb_graph *g, gb_value x)
{
    static const int64_t depth_second[5] = {0, 2, 1, 3, 4};
    if (gb_graph_failed(g)) return GB_NONE;
    const int64_t *d = gb_shape_ptr(g, x)->dim;
    const gb_shape s = {.rank = 4, .dim = {d[0] * d[2], d[1], d[3], d[4]}};
    return gb_reshape_to(g, transpose(g, x, depth_second, 5), &s);
}

gb_value gb_volume_of_layers(gb_graph *g, gb_value v, int64_t n)
{
    static const int64_t channels_second[5] = {0, 2, 1, 3, 4};
    if (gb_graph_failed(g)) return GB_NONE;
    const int64_t *d = gb_shape_ptr(g, v)->dim;
    const gb_shape s = {.rank = 5, .dim = {n, n ? d[0] / n : 0, d[1], d[2], d[3]}};
    return transpose(g, gb_reshape_to(g, v, &s), channels_second, 5);
}
