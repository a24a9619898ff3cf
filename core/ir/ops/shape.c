/* Operators that move no data: their results are windows of their inputs. */
#include <stdlib.h>
#include <string.h>

#include "core/ir/ops/ops.h"

/* --- Reshape and its relatives --- */

static void infer_reshape(gb_graph *g, const gb_node *n)
{
    const gb_shape *in = gb_shape_ptr(g, n->in[0]);
    int64_t dims[GB_MAX_RANK], total = gb_shape_count(in), known = 1;
    int count = gb_node_ints(g, n, "shape", 1, dims, GB_MAX_RANK), wild = -1;
    gb_shape s = {.rank = count < 0 ? 0 : count};
    for (int i = 0; i < s.rank; i++) {
        if (dims[i] == 0 && !gb_node_int(n, "allowzero")) dims[i] = i < in->rank ? in->dim[i] : 0;
        if (dims[i] == -1 && wild < 0) wild = i;
        else if (__builtin_mul_overflow(known, dims[i], &known)) total = -1;
        s.dim[i] = dims[i];
    }
    if (wild >= 0) s.dim[wild] = known > 0 ? total / known : 0;
    char a[160], b[160];
    for (int i = 0; i < s.rank; i++)
        if (s.dim[i] < 0) total = -1;
    if (gb_shape_count(&s) != total)
        gb_node_fail(g, n, "keep the number of elements", "cannot view shape %s as %s",
                     gb_shape_text(in, a, sizeof a), gb_shape_text(&s, b, sizeof b));
    else gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void reshape_back(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    din[0] = gb_reshape_to(g, dout[0], &s);
}

static void lower_reshape(gb_lowering *l, const gb_node *n)
{
    const gb_shape *to = gb_shape_ptr(gb_lower_graph(l), n->out[0]);
    gb_operand window;
    if (!gb_operand_reshape(gb_lower_operand(l, n->in[0]), to, &window)) {
        gb_operand dense = gb_lower_dense(l, n->in[0], NULL);
        gb_operand_reshape(&dense, to, &window);
    }
    gb_lower_alias(l, n->out[0], &window);
}

static void expand_reshape(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_shape s = *gb_shape_ptr(g, n->out[0]);
    gb_value v = gb_reshape_to(g, n->in[0], &s);
    out[0] = v == n->in[0] ? gb_op1(g, "Identity", v) : v;
}

static void infer_flatten(gb_graph *g, const gb_node *n)
{
    const gb_shape *in = gb_shape_ptr(g, n->in[0]);
    int64_t axis = gb_node_int(n, "axis");
    if (axis < 0) axis += in->rank;
    if (axis < 0 || axis > in->rank) {
        gb_node_fail(g, n, "give an axis of the input", "axis %lld does not fit", (long long)axis);
        return;
    }
    gb_shape s = {.rank = 2, .dim = {1, 1}};
    for (int i = 0; i < in->rank; i++) s.dim[i >= axis] *= in->dim[i];
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static uint32_t axes_mask(gb_graph *g, const gb_node *n, int rank, bool *given)
{
    int64_t axes[GB_MAX_RANK];
    int count = gb_node_ints(g, n, "axes", 1, axes, GB_MAX_RANK);
    uint32_t mask = 0;
    for (int i = 0; i < count; i++) mask |= 1u << gb_axis(g, n, axes[i], rank);
    *given = count >= 0;
    return mask;
}

static void infer_squeeze(gb_graph *g, const gb_node *n)
{
    const gb_shape *in = gb_shape_ptr(g, n->in[0]);
    bool given;
    uint32_t mask = axes_mask(g, n, in->rank, &given);
    gb_shape s = {0};
    for (int i = 0; i < in->rank; i++) {
        bool drop = given ? mask >> i & 1 : in->dim[i] == 1;
        if (drop && in->dim[i] != 1)
            gb_node_fail(g, n, "squeeze axes of length 1", "axis %d has length %lld", i,
                         (long long)in->dim[i]);
        if (!drop) s.dim[s.rank++] = in->dim[i];
    }
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void infer_unsqueeze(gb_graph *g, const gb_node *n)
{
    const gb_shape *in = gb_shape_ptr(g, n->in[0]);
    int64_t axes[GB_MAX_RANK];
    int count = gb_node_ints(g, n, "axes", 1, axes, GB_MAX_RANK);
    gb_shape s = {.rank = in->rank + (count < 0 ? 0 : count)};
    if (count < 0 || s.rank > GB_MAX_RANK) {
        gb_node_fail(g, n, "give axes; tensors have up to 8", "axes do not fit");
        return;
    }
    uint32_t mask = 0;
    for (int i = 0; i < count; i++) mask |= 1u << gb_axis(g, n, axes[i], s.rank);
    for (int i = 0, at = 0; i < s.rank; i++) {
        s.dim[i] = mask >> i & 1 ? 1 : at < in->rank ? in->dim[at] : 1;
        at += !(mask >> i & 1);
    }
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

/* --- Transpose --- */

static bool permutation(gb_graph *g, const gb_node *n, int rank, int64_t *perm)
{
    int count = gb_node_ints(g, n, "perm", -1, perm, GB_MAX_RANK);
    uint32_t seen = 0;
    if (count < 0)
        for (int i = 0; i < rank; i++) perm[i] = rank - 1 - i;
    for (int i = 0; i < rank && (count < 0 || count == rank); i++)
        if (perm[i] >= 0 && perm[i] < rank) seen |= 1u << perm[i];
    if (seen == (1u << rank) - 1) return true;
    gb_node_fail(g, n, "name each axis once", "perm is not a permutation of %d axes", rank);
    return false;
}

static void infer_transpose(gb_graph *g, const gb_node *n)
{
    const gb_shape *in = gb_shape_ptr(g, n->in[0]);
    int64_t perm[GB_MAX_RANK];
    if (!permutation(g, n, in->rank, perm)) return;
    gb_shape s = {.rank = in->rank};
    for (int i = 0; i < s.rank; i++) s.dim[i] = in->dim[perm[i]];
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void transpose_back(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    int rank = gb_shape_ptr(g, n->in[0])->rank;
    int64_t perm[GB_MAX_RANK], inverse[GB_MAX_RANK];
    if (!permutation(g, n, rank, perm)) return;
    for (int i = 0; i < rank; i++) inverse[perm[i]] = i;
    din[0] = GB_OP(g, "Transpose", GB_ARGS(dout[0]), GB_INTS("perm", inverse, (size_t)rank));
}

static void lower_transpose(gb_lowering *l, const gb_node *n)
{
    const gb_operand *in = gb_lower_operand(l, n->in[0]);
    int64_t perm[GB_MAX_RANK];
    if (!permutation((gb_graph *)gb_lower_graph(l), n, in->rank, perm)) return;
    gb_operand window = *in;
    for (int i = 0; i < in->rank; i++) {
        window.dim[i] = in->dim[perm[i]];
        window.stride[i] = in->stride[perm[i]];
    }
    gb_lower_alias(l, n->out[0], &window);
}

/* --- Expand --- */

static void infer_expand(gb_graph *g, const gb_node *n)
{
    gb_shape want = {0}, s;
    int count = gb_node_ints(g, n, "shape", 1, want.dim, GB_MAX_RANK);
    want.rank = count < 0 ? 0 : count;
    if (count < 0 || !gb_broadcast(gb_shape_ptr(g, n->in[0]), &want, &s))
        gb_node_fail(g, n, "axes must be equal or 1", "the shape does not broadcast");
    else gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void expand_back(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    din[0] = gb_sum_to(g, dout[0], &s);
}

static void lower_expand(gb_lowering *l, const gb_node *n)
{
    const gb_shape *to = gb_shape_ptr(gb_lower_graph(l), n->out[0]);
    const gb_operand *in = gb_lower_operand(l, n->in[0]);
    gb_operand window = *in;
    window.rank = to->rank;
    for (int i = 0; i < to->rank; i++) {
        int k = i - (to->rank - in->rank);
        window.dim[i] = to->dim[i];
        window.stride[i] = k >= 0 && in->dim[k] == to->dim[i] ? in->stride[k] : 0;
    }
    gb_lower_alias(l, n->out[0], &window);
}

/* --- Slice: starts, ends, axes, steps as inputs (or attributes, for expansions) --- */

typedef struct slice {
    int64_t start[GB_MAX_RANK], step[GB_MAX_RANK], dim[GB_MAX_RANK];
} slice;

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

static bool read_slice(gb_graph *g, const gb_node *n, const gb_shape *in, slice *s)
{
    int64_t starts[GB_MAX_RANK], ends[GB_MAX_RANK], axes[GB_MAX_RANK], steps[GB_MAX_RANK];
    int count = gb_node_ints(g, n, "starts", 1, starts, GB_MAX_RANK);
    int n_ends = gb_node_ints(g, n, "ends", 2, ends, GB_MAX_RANK);
    int n_axes = gb_node_ints(g, n, "axes", 3, axes, GB_MAX_RANK);
    int n_steps = gb_node_ints(g, n, "steps", 4, steps, GB_MAX_RANK);
    if (count < 0 || n_ends != count || (n_axes >= 0 && n_axes != count) ||
        (n_steps >= 0 && n_steps != count) || (n_axes < 0 && count > in->rank)) {
        gb_node_fail(g, n, "give starts, ends, axes and steps of one length", "bounds do not fit");
        return false;
    }
    for (int i = 0; i < in->rank; i++) {
        s->start[i] = 0;
        s->step[i] = 1;
        s->dim[i] = in->dim[i];
    }
    for (int i = 0; i < count; i++) {
        int axis = n_axes < 0 ? i : gb_axis(g, n, axes[i], in->rank);
        int64_t d = in->dim[axis], step = n_steps < 0 ? 1 : steps[i], from = starts[i], to = ends[i];
        if (step == 0) gb_node_fail(g, n, "use another step", "a step is 0");
        if (gb_graph_failed(g)) return false;
        /* huge bounds are common ("to the end"): clamp before adding */
        from = clamp(from, -d - 1, d);
        to = clamp(to, -d - 1, d);
        if (from < 0) from += d;
        if (to < 0) to += d;
        from = step > 0 ? clamp(from, 0, d) : clamp(from, -1, d - 1);
        to = step > 0 ? clamp(to, 0, d) : clamp(to, -1, d - 1);
        int64_t span = step > 0 ? to - from : from - to, stride = step > 0 ? step : -step;
        s->dim[axis] = span > 0 ? (span + stride - 1) / stride : 0;
        s->start[axis] = from < 0 ? 0 : from;
        s->step[axis] = step;
    }
    return !gb_graph_failed(g);
}

static void infer_slice(gb_graph *g, const gb_node *n)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    slice w = {0};
    if (!read_slice(g, n, gb_shape_ptr(g, n->in[0]), &w)) return;
    for (int i = 0; i < s.rank; i++) s.dim[i] = w.dim[i];
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void slice_back(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    const gb_shape in = *gb_shape_ptr(g, n->in[0]);
    slice w = {0};
    if (!read_slice(g, n, &in, &w)) return;
    size_t rank = (size_t)in.rank;
    din[0] = GB_OP(g, "Place", GB_ARGS(dout[0]), GB_INTS("shape", in.dim, rank),
                   GB_INTS("starts", w.start, rank), GB_INTS("steps", w.step, rank));
}

static gb_operand window_of(const gb_operand *o, const int64_t *start, const int64_t *step,
                            const int64_t *dim)
{
    gb_operand w = *o;
    int64_t at = 0;
    for (int i = 0; i < o->rank; i++) {
        if (dim[i]) at += start[i] * o->stride[i];
        w.dim[i] = dim[i];
        w.stride[i] = o->stride[i] * step[i];
    }
    bool empty = false;
    for (int i = 0; i < o->rank; i++) empty = empty || dim[i] == 0;
    if (!empty) w.offset = (uint64_t)((int64_t)o->offset + at * (int64_t)gb_storage_size(o->storage));
    return w;
}

static void lower_slice(gb_lowering *l, const gb_node *n)
{
    gb_graph *g = (gb_graph *)gb_lower_graph(l);
    slice w = {0};
    if (!read_slice(g, n, gb_shape_ptr(g, n->in[0]), &w)) return;
    gb_operand window = window_of(gb_lower_operand(l, n->in[0]), w.start, w.step, w.dim);
    gb_lower_alias(l, n->out[0], &window);
}

/* --- Place: the input in a larger tensor that is `value` elsewhere; Slice's mirror image --- */

static void infer_place(gb_graph *g, const gb_node *n)
{
    gb_shape s = {0};
    s.rank = gb_node_ints(g, n, "shape", -1, s.dim, GB_MAX_RANK);
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

static void place_back(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    const gb_shape in = *gb_shape_ptr(g, n->in[0]);
    int64_t start[GB_MAX_RANK], step[GB_MAX_RANK], end[GB_MAX_RANK];
    gb_node_ints(g, n, "starts", -1, start, GB_MAX_RANK);
    gb_node_ints(g, n, "steps", -1, step, GB_MAX_RANK);
    for (int i = 0; i < in.rank; i++) {
        end[i] = start[i] + in.dim[i] * step[i];
        if (end[i] < 0) end[i] = -(INT64_C(1) << 40); /* before the first element, not from the end */
    }
    size_t rank = (size_t)in.rank;
    din[0] = GB_OP(g, "Slice", GB_ARGS(dout[0]), GB_INTS("starts", start, rank),
                   GB_INTS("ends", end, rank), GB_INTS("steps", step, rank));
}

static void lower_place(gb_lowering *l, const gb_node *n)
{
    gb_graph *g = (gb_graph *)gb_lower_graph(l);
    int64_t start[GB_MAX_RANK], step[GB_MAX_RANK];
    gb_node_ints(g, n, "starts", -1, start, GB_MAX_RANK);
    gb_node_ints(g, n, "steps", -1, step, GB_MAX_RANK);
    int order[GB_MAX_RANK];
    gb_operand in = *gb_lower_operand(l, n->in[0]);
    gb_operand_order(&in, order);
    gb_operand out = gb_lower_output(l, n->out[0], order);
    gb_operand window = window_of(&out, start, step, in.dim);
    gb_lower_copy(l, n, NULL, &out, gb_node_float(n, "value"));
    gb_lower_copy(l, n, &in, &window, 0);
}

/* --- Split: several slices --- */

static void infer_split(gb_graph *g, const gb_node *n)
{
    gb_shape s = *gb_shape_ptr(g, n->in[0]);
    int axis = gb_axis(g, n, gb_node_int(n, "axis"), s.rank);
    int64_t parts[64], total = s.dim[axis], sum = 0;
    int count = gb_node_ints(g, n, "split", 1, parts, 64);
    if (count < 0) { /* equal parts, the last one smaller */
        int64_t each = (total + n->n_out - 1) / n->n_out;
        count = n->n_out < 64 ? n->n_out : 64;
        for (int i = 0; i < count; i++) parts[i] = i < count - 1 ? each : total - each * (count - 1);
    }
    for (int i = 0; i < count; i++) sum += parts[i] < 0 ? total + 1 : parts[i];
    if (count != n->n_out || sum != total) {
        gb_node_fail(g, n, "parts must sum to the axis", "%d parts of axis %d (%lld) do not fit",
                     count, axis, (long long)total);
        return;
    }
    for (int k = 0; k < count; k++) {
        s.dim[axis] = parts[k];
        gb_set_output(g, n, k, gb_dtype_at(g, n->in[0]), &s);
    }
}

static void expand_split(gb_graph *g, const gb_node *n, gb_value *out)
{
    int axis = gb_axis(g, n, gb_node_int(n, "axis"), gb_shape_ptr(g, n->in[0])->rank);
    int64_t from = 0, at = axis;
    for (int k = 0; k < n->n_out && !gb_graph_failed(g); k++) {
        int64_t to = from + gb_shape_ptr(g, n->out[k])->dim[axis];
        out[k] = GB_OP(g, "Slice", GB_ARGS(n->in[0]), GB_INTS("starts", &from, 1),
                       GB_INTS("ends", &to, 1), GB_INTS("axes", &at, 1));
        from = to;
    }
}

#define INTS(key) {.name = key, .type = GB_ATTR_INTS}

const gb_op gb_ops_shape[] = {
    {.name = "Reshape", .min_in = 1, .max_in = 2, .max_out = 1, .view = true, .infer = infer_reshape,
     .gradient = reshape_back, .lower = lower_reshape,
     .attr = {INTS("shape"), {.name = "allowzero", .type = GB_ATTR_INT}}},
    {.name = "Flatten", .min_in = 1, .max_in = 1, .max_out = 1, .infer = infer_flatten,
     .expand = expand_reshape, .attr = {{.name = "axis", .type = GB_ATTR_INT, .number = 1}}},
    {.name = "Squeeze", .min_in = 1, .max_in = 2, .max_out = 1, .infer = infer_squeeze,
     .expand = expand_reshape, .attr = {INTS("axes")}},
    {.name = "Unsqueeze", .min_in = 1, .max_in = 2, .max_out = 1, .infer = infer_unsqueeze,
     .expand = expand_reshape, .attr = {INTS("axes")}},
    {.name = "Transpose", .min_in = 1, .max_in = 1, .max_out = 1, .view = true, .infer = infer_transpose,
     .gradient = transpose_back, .lower = lower_transpose, .attr = {INTS("perm")}},
    {.name = "Expand", .min_in = 1, .max_in = 2, .max_out = 1, .view = true, .infer = infer_expand,
     .gradient = expand_back, .lower = lower_expand, .attr = {INTS("shape")}},
    {.name = "Slice", .min_in = 1, .max_in = 5, .max_out = 1, .view = true, .infer = infer_slice,
     .gradient = slice_back, .lower = lower_slice,
     .attr = {INTS("starts"), INTS("ends"), INTS("axes"), INTS("steps")}},
    {.name = "Place", .min_in = 1, .max_in = 1, .max_out = 1, .internal = true, .infer = infer_place,
     .gradient = place_back, .lower = lower_place,
     .attr = {INTS("shape"), INTS("starts"), INTS("steps"),
              {.name = "value", .type = GB_ATTR_FLOAT}}},
    {.name = "Split", .min_in = 1, .max_in = 2, .max_out = GB_MAX_STEP_OUT, .infer = infer_split,
     .expand = expand_split,
     .attr = {INTS("split"), {.name = "axis", .type = GB_ATTR_INT},
              {.name = "num_outputs", .type = GB_ATTR_INT}}},
    {0}};
