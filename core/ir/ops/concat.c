/* Concat, Tile and Pad. */
#include <string.h>

#include "core/ir/ops/ops.h"

/* --- Concat --- */

static void infer_concat(gb_graph *g, const gb_node *n)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    int axis = gb_axis(g, n, gb_node_int(n, "axis"), s.rank);
    char a[160], b[160];
    for (int k = 1; k < n->n_in; k++) {
        gb_shape t = *gb_shape_ptr(g, n->in[k]), same = t;
        if (t.rank == s.rank) same.dim[axis] = s.dim[axis];
        if (!gb_shape_equal(&same, &s) || gb_dtype_at(g, n->in[k]) != gb_dtype_at(g, n->in[0])) {
            gb_node_fail(g, n, "all axes but the joined one must be equal", "shapes %s and %s do not fit",
                         gb_shape_text(&s, a, sizeof a), gb_shape_text(&t, b, sizeof b));
            return;
        }
        s.dim[axis] += t.dim[axis];
    }
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void concat_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    int axis = gb_axis(g, n, gb_node_int(n, "axis"), gb_shape_ptr(g, n->in[0])->rank);
    int64_t from = 0, at = axis;
    for (int k = 0; k < n->n_in && !gb_graph_failed(g); k++) {
        int64_t to = from + gb_shape_ptr(g, n->in[k])->dim[axis];
        din[k] = GB_OP(g, "Slice", GB_ARGS(dout[0]), GB_INTS("starts", &from, 1), GB_INTS("ends", &to, 1),
                       GB_INTS("axes", &at, 1));
        from = to;
    }
}

static void lower_concat(gb_lowering *l, const gb_node *n)
{
    int order[GB_MAX_RANK];
    int axis = (int)gb_node_int(n, "axis");
    gb_operand_order(gb_lower_operand(l, n->in[0]), order);
    gb_operand out = gb_lower_output(l, n->out[0], order), window = out;
    if (axis < 0) axis += out.rank;
    for (int k = 0; k < n->n_in; k++) {
        gb_operand in = *gb_lower_operand(l, n->in[k]);
        window.dim[axis] = in.dim[axis];
        gb_lower_copy(l, n, &in, &window, 0);
        window.offset += (uint64_t)(in.dim[axis] * out.stride[axis]) * gb_storage_size(out.storage);
    }
}

/* --- Tile: each repeated axis becomes [repeats, axis], expanded and joined again --- */

static bool read_repeats(gb_graph *g, const gb_node *n, int rank, int64_t *repeats)
{
    if (gb_node_ints(g, n, "repeats", 1, repeats, GB_MAX_RANK) == rank) return true;
    gb_node_fail(g, n, "give one number an axis", "repeats do not fit");
    return false;
}

static void infer_tile(gb_graph *g, const gb_node *n)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    int64_t repeats[GB_MAX_RANK];
    if (!read_repeats(g, n, s.rank, repeats)) return;
    for (int i = 0; i < s.rank; i++) {
        if (repeats[i] < 0) gb_node_fail(g, n, "repeat 0 times or more", "repeats are negative");
        s.dim[i] *= repeats[i];
    }
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void expand_tile(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_value v = n->in[0];
    int rank = gb_shape_ptr(g, v)->rank;
    int64_t repeats[GB_MAX_RANK];
    if (!read_repeats(g, n, rank, repeats)) return;
    if (rank == 0) v = gb_op1(g, "Identity", v);
    for (int axis = 0; axis < rank && !gb_graph_failed(g); axis++) { /* one at a time: ranks stay small */
        gb_shape s = *gb_shape_ptr(g, v), split = {.rank = 4, .dim = {1, 1, s.dim[axis], 1}}, wide;
        for (int i = 0; i < axis; i++) split.dim[0] *= s.dim[i];
        for (int i = axis + 1; i < rank; i++) split.dim[3] *= s.dim[i];
        wide = split;
        wide.dim[1] = repeats[axis];
        s.dim[axis] *= repeats[axis];
        if (repeats[axis] != 1)
            v = gb_reshape_to(g, gb_expand_to(g, gb_reshape_to(g, v, &split), &wide), &s);
    }
    out[0] = v == n->in[0] ? gb_op1(g, "Identity", v) : v;
}

/* --- Pad --- */

static bool read_pads(gb_graph *g, const gb_node *n, int rank, int64_t *begin, int64_t *end)
{
    int64_t pads[2 * GB_MAX_RANK], axes[GB_MAX_RANK];
    int count = gb_node_ints(g, n, "pads", 1, pads, 2 * GB_MAX_RANK);
    int n_axes = gb_node_ints(g, n, "axes", 3, axes, GB_MAX_RANK);
    if (n_axes < 0) n_axes = rank;
    for (int i = 0; i < rank; i++) begin[i] = end[i] = 0;
    if (count != 2 * n_axes || n_axes > rank) {
        gb_node_fail(g, n, "give all beginnings, then all ends", "pads do not fit");
        return false;
    }
    bool given = gb_node_attr(n, "axes") || (n->n_in > 3 && n->in[3]);
    for (int i = 0; i < n_axes; i++) {
        int axis = given ? gb_axis(g, n, axes[i], rank) : i;
        begin[axis] = pads[i];
        end[axis] = pads[n_axes + i];
    }
    return !gb_graph_failed(g);
}

static void infer_pad(gb_graph *g, const gb_node *n)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    int64_t begin[GB_MAX_RANK], end[GB_MAX_RANK];
    const char *mode = gb_node_string(n, "mode");
    bool constant = strcmp(mode, "constant") == 0, reflect = strcmp(mode, "reflect") == 0;
    if (!constant && !reflect && strcmp(mode, "edge") && strcmp(mode, "wrap"))
        gb_node_fail(g, n, "use constant, reflect, edge or wrap", "there is no mode %s", mode);
    if (!read_pads(g, n, s.rank, begin, end)) return;
    for (int i = 0; i < s.rank; i++) {
        bool grows = begin[i] > 0 || end[i] > 0;
        if (s.dim[i] + begin[i] + end[i] < 0 || -begin[i] > s.dim[i] || -end[i] > s.dim[i] ||
            (grows && !constant && s.dim[i] == 0))
            gb_node_fail(g, n, "pad by less", "axis %d of length %lld cannot be padded so", i,
                         (long long)s.dim[i]);
        s.dim[i] += begin[i] + end[i];
    }
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

/* Which element stands at position i of an axis of length d, outside of [0, d). */
static int64_t source(const char *mode, int64_t i, int64_t d)
{
    if (strcmp(mode, "edge") == 0) return i < 0 ? 0 : i >= d ? d - 1 : i;
    if (strcmp(mode, "wrap") == 0) return ((i % d) + d) % d;
    if (d == 1) return 0;
    int64_t period = 2 * (d - 1), k = ((i % period) + period) % period;
    return k < d ? k : period - k;
}

static gb_value pad_by_index(gb_graph *g, gb_value v, int axis, const char *mode, int64_t begin, int64_t end)
{
    gb_shape s = *gb_shape_ptr(g, v), is = {.rank = 1, .dim = {s.dim[axis] + begin + end}};
    gb_tensor t;
    if (gb_tensor_alloc(&t, GB_I64, &is, &g->error)) return GB_NONE;
    for (int64_t i = 0; i < is.dim[0]; i++)
        ((int64_t *)t.data)[i] = source(mode, i - begin, s.dim[axis]);
    gb_value index = gb_graph_constant(g, &t);
    gb_tensor_free(&t);
    return GB_OP(g, "Gather", GB_ARGS(v, index), GB_INT("axis", axis));
}

static void expand_pad(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_value v = n->in[0];
    gb_shape s = *gb_shape_ptr(g, v), target = *gb_shape_ptr(g, n->out[0]);
    int64_t begin[GB_MAX_RANK], end[GB_MAX_RANK], from[GB_MAX_RANK], to[GB_MAX_RANK], one[GB_MAX_RANK];
    const char *mode = gb_node_string(n, "mode");
    if (!read_pads(g, n, s.rank, begin, end)) return;
    size_t rank = (size_t)s.rank;
    if (strcmp(mode, "constant") != 0) {
        for (int i = 0; i < s.rank && !gb_graph_failed(g); i++)
            if (begin[i] || end[i]) v = pad_by_index(g, v, i, mode, begin[i], end[i]);
        out[0] = v == n->in[0] ? gb_op1(g, "Identity", v) : v;
        return;
    }
    for (size_t i = 0; i < rank; i++) { /* negative pads cut first */
        from[i] = begin[i] < 0 ? -begin[i] : 0;
        to[i] = s.dim[i] + (end[i] < 0 ? end[i] : 0);
        begin[i] = begin[i] < 0 ? 0 : begin[i];
        one[i] = 1;
    }
    v = GB_OP(g, "Slice", GB_ARGS(v), GB_INTS("starts", from, rank), GB_INTS("ends", to, rank));
    double value = gb_node_number(g, n, 2, gb_node_float(n, "value"));
    out[0] = GB_OP(g, "Place", GB_ARGS(v), GB_INTS("shape", target.dim, rank), GB_INTS("starts", begin, rank),
                   GB_INTS("steps", one, rank), GB_FLOAT("value", value));
}

#define INTS(key) {.name = key, .type = GB_ATTR_INTS}

const gb_op gb_ops_concat[] = {
    {.name = "Concat", .min_in = 1, .max_in = -1, .max_out = 1, .infer = infer_concat,
     .gradient = concat_gradient, .lower = lower_concat,
     .attr = {{.name = "axis", .type = GB_ATTR_INT, .required = true}}},
    {.name = "Tile", .min_in = 1, .max_in = 2, .max_out = 1, .infer = infer_tile, .expand = expand_tile,
     .attr = {INTS("repeats")}},
    {.name = "Pad", .min_in = 1, .max_in = 4, .max_out = 1, .infer = infer_pad, .expand = expand_pad,
     .attr = {INTS("pads"), INTS("axes"), {.name = "mode", .type = GB_ATTR_STRING, .string = "constant"},
              {.name = "value", .type = GB_ATTR_FLOAT}}},
    {0}};
