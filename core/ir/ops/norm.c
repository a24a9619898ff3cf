/* Softmax and normalizations, expanded into Reduce and Pointwise. */
#include <string.h>

#include "core/ir/ops/ops.h"

#define IN(k) gb_x_operand(&b, g, in, k)
#define ADD(a, c) gb_x2(&b, GB_P_ADD, a, c)
#define SUB(a, c) gb_x2(&b, GB_P_SUB, a, c)
#define MUL(a, c) gb_x2(&b, GB_P_MUL, a, c)
#define DIV(a, c) gb_x2(&b, GB_P_DIV, a, c)
#define K(v) gb_x_const(&b, v)

/* --- Softmax, LogSoftmax --- */

static void infer_axis(gb_graph *g, const gb_node *n)
{
    const gb_shape *in = gb_shape_ptr(g, n->in[0]);
    gb_axis(g, n, gb_node_int(n, "axis"), in->rank);
    if (!gb_dtype_is_float(gb_dtype_at(g, n->in[0]))) gb_node_fail(g, n, "insert a Cast", "the input is no float");
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), in);
}

static gb_compute along_axis(gb_graph *g, const gb_node *n)
{
    gb_compute c = {.space = *gb_shape_ptr(g, n->in[0]), .keep = true, .red = {GB_SUM}, .scale = {1}};
    c.mask = 1u << gb_axis(g, n, gb_node_int(n, "axis"), c.space.rank);
    return c;
}

/* m = max(x), s = sum(exp(x - m)), both with the axis kept. */
static void shifted_sum(gb_graph *g, const gb_node *n, gb_value *m, gb_value *s)
{
    gb_compute c = along_axis(g, n);
    gb_value in[2] = {n->in[0]};
    gb_xb b = {0};
    c.red[0] = GB_MAX;
    gb_x e = IN(0);
    gb_reduce_n(g, &b, &e, 1, in, 1, &c, &in[1]);
    *m = in[1];
    if (gb_graph_failed(g)) return;
    c.red[0] = GB_SUM;
    e = gb_x1(&b, GB_P_EXP, SUB(IN(0), IN(1)));
    gb_reduce_n(g, &b, &e, 1, in, 2, &c, s);
}

static void expand_softmax(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_value in[3] = {n->in[0]};
    gb_shape space = *gb_shape_ptr(g, n->in[0]);
    shifted_sum(g, n, &in[1], &in[2]);
    if (gb_graph_failed(g)) return;
    gb_xb b = {0};
    gb_x shifted = SUB(IN(0), IN(1)), y;
    if (strcmp(n->op->name, "Softmax") == 0) y = DIV(gb_x1(&b, GB_P_EXP, shifted), IN(2));
    else y = SUB(shifted, gb_x1(&b, GB_P_LOG, IN(2)));
    out[0] = gb_pointwise(g, &b, y, in, 3, gb_dtype_at(g, n->in[0]), &space);
}

/* Softmax: y (dy - sum(dy y)).  LogSoftmax: dy - exp(y) sum(dy). */
static void softmax_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    bool plain = strcmp(n->op->name, "Softmax") == 0;
    gb_compute c = along_axis(g, n);
    gb_value in[3] = {n->out[0], dout[0]};
    gb_xb b = {0};
    gb_x e = plain ? MUL(IN(0), IN(1)) : IN(1);
    gb_reduce_n(g, &b, &e, 1, in, 2, &c, &in[2]);
    if (gb_graph_failed(g)) return;
    gb_x d = plain ? MUL(IN(0), SUB(IN(1), IN(2))) : SUB(IN(1), MUL(gb_x1(&b, GB_P_EXP, IN(0)), IN(2)));
    din[0] = gb_pointwise(g, &b, d, in, 3, gb_dtype_at(g, n->in[0]), &c.space);
}

/* --- normalization: y = (x - mean) / sqrt(variance + epsilon) · scale + bias --- */

/* Statistics over the axes in mask, kept as 1. */
static void moments(gb_graph *g, gb_value x, uint32_t mask, gb_value *mean, gb_value *variance)
{
    gb_compute c = {.space = *gb_shape_ptr(g, x), .mask = mask, .keep = true, .red = {GB_MOMENTS}};
    gb_value in[1] = {x}, out[2];
    gb_xb b = {0};
    gb_x e = IN(0);
    gb_reduce_n(g, &b, &e, 1, in, 1, &c, out);
    *mean = out[0];
    *variance = out[1];
}

static gb_value inverse_deviation(gb_graph *g, gb_value variance, double epsilon)
{
    if (gb_graph_failed(g)) return GB_NONE;
    gb_value in[1] = {variance};
    gb_xb b = {0};
    gb_x y = DIV(K(1), gb_x1(&b, GB_P_SQRT, ADD(IN(0), K(epsilon))));
    gb_shape space = *gb_shape_ptr(g, variance);
    return gb_pointwise(g, &b, y, in, 1, gb_dtype_at(g, variance), &space);
}

/* scale and bias may be GB_NONE. */
static gb_value normalize(gb_graph *g, gb_value x, gb_value mean, gb_value inverse, gb_value scale,
                          gb_value bias)
{
    if (gb_graph_failed(g)) return GB_NONE;
    gb_value in[5] = {x, mean, inverse};
    int n_in = 3;
    gb_xb b = {0};
    gb_x y = MUL(SUB(IN(0), IN(1)), IN(2));
    if (scale) {
        in[n_in] = scale;
        y = MUL(y, IN(n_in));
        n_in++;
    }
    if (bias) {
        in[n_in] = bias;
        y = ADD(y, IN(n_in));
        n_in++;
    }
    gb_shape space = *gb_shape_ptr(g, x);
    return gb_pointwise(g, &b, y, in, n_in, gb_dtype_at(g, x), &space);
}

/* With h = (x - mean)·inverse and q = dy·scale:
 *     dx = inverse (q - E[q] - h E[q h]),  E over the normalized axes;
 *     dscale = sum(dy h), dbias = sum(dy) over the axes that scale lacks.
 * Both pairs of sums are taken in one pass each. Ioffe and Szegedy 2015. */
static void normalize_gradient(gb_graph *g, gb_value x, uint32_t mask, double epsilon, gb_value scale,
                               gb_value dy, gb_value *dx, gb_value *dscale, gb_value *dbias)
{
    gb_value mean, variance;
    moments(g, x, mask, &mean, &variance);
    gb_value in[8] = {x, mean, inverse_deviation(g, variance, epsilon), dy, scale};
    if (gb_graph_failed(g)) return;
    gb_shape space = *gb_shape_ptr(g, x);
    int n_in = scale ? 5 : 4;
    gb_compute c = {.space = space, .keep = true, .red = {GB_SUM, GB_SUM}, .scale = {1, 1}};
    gb_xb b = {0};
    gb_value sums[2];
    if (scale) {
        gb_shape s = *gb_shape_ptr(g, scale);
        for (int i = 0; i < space.rank; i++)
            if (i < space.rank - s.rank || s.dim[i - (space.rank - s.rank)] == 1) c.mask |= 1u << i;
        gb_x e[2] = {MUL(IN(3), MUL(SUB(IN(0), IN(1)), IN(2))), IN(3)};
        gb_reduce_n(g, &b, e, 2, in, n_in, &c, sums);
        *dscale = gb_sum_to(g, sums[0], &s);
        *dbias = gb_sum_to(g, sums[1], &s);
    }
    double count = 1;
    for (int i = 0; i < space.rank; i++)
        if (mask >> i & 1) count *= (double)space.dim[i];
    if (scale && c.mask == mask && !gb_graph_failed(g)) {
        /* batch normalization: scale is constant over the sums, which therefore are there already */
        in[5] = sums[1];
        in[6] = sums[0];
        gb_x k = MUL(IN(4), K(1 / count));
        gb_x h = MUL(SUB(IN(0), IN(1)), IN(2));
        gb_x inner = ADD(IN(5), MUL(h, IN(6)));
        gb_x d = MUL(IN(2), SUB(MUL(IN(3), IN(4)), MUL(k, inner)));
        *dx = gb_pointwise(g, &b, d, in, 7, gb_dtype_at(g, x), &space);
        return;
    }
    c.mask = mask;
    c.scale[0] = c.scale[1] = 1 / count;
    gb_x q = scale ? MUL(IN(3), IN(4)) : IN(3), h = MUL(SUB(IN(0), IN(1)), IN(2));
    gb_x e[2] = {q, MUL(q, h)};
    gb_reduce_n(g, &b, e, 2, in, n_in, &c, &in[5]);
    if (gb_graph_failed(g)) return;
    q = scale ? MUL(IN(3), IN(4)) : IN(3);
    h = MUL(SUB(IN(0), IN(1)), IN(2));
    gb_x d = MUL(IN(2), SUB(q, ADD(IN(5), MUL(h, IN(6)))));
    *dx = gb_pointwise(g, &b, d, in, 7, gb_dtype_at(g, x), &space);
}

/* v of length C as [1, C, 1, …]: along axis 1 of a tensor of that rank. */
static gb_value per_channel(gb_graph *g, gb_value v, int rank)
{
    if (gb_graph_failed(g) || !v) return GB_NONE;
    gb_shape s = {.rank = rank};
    for (int i = 0; i < rank; i++) s.dim[i] = 1;
    s.dim[rank > 1] = gb_shape_count(gb_shape_ptr(g, v));
    return gb_reshape_to(g, v, &s);
}

static uint32_t all_but_channels(int rank)
{
    return ((1u << rank) - 1) & ~2u;
}

/* --- BatchNormalization: x, scale, B, mean, var --- */

static void infer_batchnorm(gb_graph *g, const gb_node *n)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]);
    char text[160];
    for (int k = 1; k < 5; k++) {
        const gb_shape *s = gb_shape_ptr(g, n->in[k]);
        if (x->rank < 2 || s->rank != 1 || s->dim[0] != x->dim[1]) {
            gb_node_fail(g, n, "scale, bias, mean and variance have one element a channel",
                         "input %d does not fit x of shape %s", k, gb_shape_text(x, text, sizeof text));
            return;
        }
    }
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), x);
    for (int k = 1; k < n->n_out; k++)
        gb_set_output(g, n, k, gb_dtype_at(g, n->in[k + 2]), gb_shape_ptr(g, n->in[k + 2]));
    if (n->n_out > 1 && !gb_node_int(n, "training_mode"))
        gb_node_fail(g, n, "set training_mode", "running statistics come from training alone");
}

/* old·momentum + new·(1 - momentum), ONNX's convention; biased variance as ONNX has it, or, with
 * the attribute unbiased, PyTorch's correction n / (n - 1). */
static gb_value running(gb_graph *g, gb_value old, gb_value now, double momentum, double correction)
{
    gb_value in[2] = {old, now};
    if (gb_graph_failed(g)) return GB_NONE;
    gb_shape s = *gb_shape_ptr(g, old);
    in[1] = gb_reshape_to(g, now, &s);
    gb_xb b = {0};
    gb_x y = ADD(MUL(IN(0), K(momentum)), MUL(IN(1), K((1 - momentum) * correction)));
    return gb_pointwise(g, &b, y, in, 2, gb_dtype_at(g, old), &s);
}

static void expand_batchnorm(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_value x = n->in[0];
    gb_shape s = *gb_shape_ptr(g, x);
    double epsilon = gb_node_float(n, "epsilon"), momentum = gb_node_float(n, "momentum");
    gb_value mean, variance;
    if (gb_node_int(n, "training_mode")) {
        moments(g, x, all_but_channels(s.rank), &mean, &variance);
        double count = s.dim[1] ? (double)(gb_shape_count(&s) / s.dim[1]) : 0;
        double correction = gb_node_int(n, "unbiased") && count > 1 ? count / (count - 1) : 1;
        if (n->n_out > 1) out[1] = running(g, n->in[3], mean, momentum, 1);
        if (n->n_out > 2) out[2] = running(g, n->in[4], variance, momentum, correction);
    } else {
        mean = per_channel(g, n->in[3], s.rank);
        variance = per_channel(g, n->in[4], s.rank);
    }
    out[0] = normalize(g, x, mean, inverse_deviation(g, variance, epsilon),
                       per_channel(g, n->in[1], s.rank), per_channel(g, n->in[2], s.rank));
}

static void batchnorm_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    gb_value x = n->in[0];
    gb_shape sx = *gb_shape_ptr(g, x), sc = *gb_shape_ptr(g, n->in[1]);
    gb_value scale = per_channel(g, n->in[1], sx.rank), dscale = GB_NONE, dbias = GB_NONE;
    if (!dout[0]) return; /* running statistics carry no gradient */
    if (gb_node_int(n, "training_mode")) {
        normalize_gradient(g, x, all_but_channels(sx.rank), gb_node_float(n, "epsilon"), scale,
                           dout[0], &din[0], &dscale, &dbias);
        din[1] = gb_reshape_to(g, dscale, &sc);
        din[2] = gb_reshape_to(g, dbias, &sc);
        return;
    }
    gb_value inverse = inverse_deviation(g, per_channel(g, n->in[4], sx.rank), gb_node_float(n, "epsilon"));
    gb_value mean = per_channel(g, n->in[3], sx.rank), h = normalize(g, x, mean, inverse, GB_NONE, GB_NONE);
    if (gb_graph_failed(g)) return;
    gb_shape kept = *gb_shape_ptr(g, scale);
    din[0] = gb_op2(g, "Mul", dout[0], gb_op2(g, "Mul", scale, inverse));
    din[1] = gb_reshape_to(g, gb_sum_to(g, gb_op2(g, "Mul", dout[0], h), &kept), &sc);
    din[2] = gb_reshape_to(g, gb_sum_to(g, dout[0], &kept), &sc);
}

/* --- LayerNormalization: x, scale, bias; over the axes from `axis` on --- */

static uint32_t from_axis(gb_graph *g, const gb_node *n)
{
    int rank = gb_shape_ptr(g, n->in[0])->rank, axis = gb_axis(g, n, gb_node_int(n, "axis"), rank);
    return ((1u << rank) - 1) & ~((1u << axis) - 1);
}

static void infer_layernorm(gb_graph *g, const gb_node *n)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]);
    uint32_t mask = from_axis(g, n);
    gb_shape s, kept = *x;
    for (int k = 1; k < n->n_in; k++)
        if (n->in[k] && (!gb_broadcast(x, gb_shape_ptr(g, n->in[k]), &s) || !gb_shape_equal(x, &s)))
            gb_node_fail(g, n, "give it the shape of the normalized axes", "input %d does not fit", k);
    for (int i = 0; i < kept.rank; i++)
        if (mask >> i & 1) kept.dim[i] = 1;
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), x);
    for (int k = 1; k < n->n_out; k++) gb_set_output(g, n, k, gb_dtype_at(g, n->in[0]), &kept);
}

static void expand_layernorm(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_value mean, variance;
    moments(g, n->in[0], from_axis(g, n), &mean, &variance);
    gb_value inverse = inverse_deviation(g, variance, gb_node_float(n, "epsilon"));
    out[0] = normalize(g, n->in[0], mean, inverse, n->in[1], n->n_in > 2 ? n->in[2] : GB_NONE);
    if (n->n_out > 1) out[1] = mean;
    if (n->n_out > 2) out[2] = inverse;
}

static void layernorm_gradient(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    gb_value dbias = GB_NONE;
    if (!dout[0]) return;
    if ((n->n_out > 1 && dout[1]) || (n->n_out > 2 && dout[2])) {
        gb_node_fail(g, n, "use the first output alone", "mean and deviation carry no gradient");
        return;
    }
    normalize_gradient(g, n->in[0], from_axis(g, n), gb_node_float(n, "epsilon"), n->in[1], dout[0],
                       &din[0], &din[1], &dbias);
    if (n->n_in > 2 && n->in[2] && dbias) {
        gb_shape s = *gb_shape_ptr(g, n->in[2]);
        din[2] = gb_sum_to(g, dout[0], &s);
    }
}

/* --- GroupNormalization and InstanceNormalization, as reshape, normalize, scale --- */

static void infer_groupnorm(gb_graph *g, const gb_node *n)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]);
    bool group = strcmp(n->op->name, "GroupNormalization") == 0;
    int64_t groups = group ? gb_node_int(n, "num_groups") : 1;
    bool fits = x->rank >= 3 && groups > 0 && x->dim[1] % groups == 0 && x->rank < GB_MAX_RANK;
    for (int k = 1; k < 3; k++) { /* opset 18 has one scale a group, 21 one a channel */
        int64_t c = gb_shape_count(gb_shape_ptr(g, n->in[k]));
        fits = fits && (c == x->dim[1] || (group && c == groups));
    }
    if (!fits) gb_node_fail(g, n, "channels must be a multiple of num_groups; one scale a channel", "shapes do not fit");
    else gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), x);
}

static void expand_groupnorm(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_shape x = *gb_shape_ptr(g, n->in[0]), split = {.rank = x.rank + 1, .dim = {x.dim[0]}};
    bool group = strcmp(n->op->name, "GroupNormalization") == 0;
    split.dim[1] = group ? gb_node_int(n, "num_groups") : x.dim[1];
    split.dim[2] = split.dim[1] ? x.dim[1] / split.dim[1] : 0;
    for (int i = 2; i < x.rank; i++) split.dim[i + 1] = x.dim[i];
    gb_value v = gb_reshape_to(g, n->in[0], &split), affine[2];
    for (int k = 0; k < 2 && !gb_graph_failed(g); k++) {
        int64_t c = gb_shape_count(gb_shape_ptr(g, n->in[k + 1]));
        gb_shape s = {.rank = split.rank, .dim = {1, split.dim[1], c / (split.dim[1] ? split.dim[1] : 1)}};
        for (int i = 3; i < s.rank; i++) s.dim[i] = 1;
        affine[k] = gb_reshape_to(g, n->in[k + 1], &s);
    }
    if (gb_graph_failed(g)) return;
    /* one operator of its own, so that the gradient is the closed form */
    gb_attr attrs[] = {GB_FLOAT("epsilon", gb_node_float(n, "epsilon")),
                       GB_INT("mask", (int64_t)(((1u << split.rank) - 1) & ~3u))};
    gb_value y;
    gb_graph_add(g, "Normalize", (gb_value[]){v, affine[0], affine[1]}, 3, attrs, 2, &y, 1);
    out[0] = gb_reshape_to(g, y, &x);
}

static void infer_normalize(gb_graph *g, const gb_node *n)
{
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), gb_shape_ptr(g, n->in[0]));
}

static void expand_normalize(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_value mean, variance;
    moments(g, n->in[0], (uint32_t)gb_node_int(n, "mask"), &mean, &variance);
    out[0] = normalize(g, n->in[0], mean, inverse_deviation(g, variance, gb_node_float(n, "epsilon")),
                       n->in[1], n->in[2]);
}

static void normalize_back(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din)
{
    normalize_gradient(g, n->in[0], (uint32_t)gb_node_int(n, "mask"), gb_node_float(n, "epsilon"),
                       n->in[1], dout[0], &din[0], &din[1], &din[2]);
}

#define FLOAT_ATTR(key, value) {.name = key, .type = GB_ATTR_FLOAT, .number = value}
#define INT_ATTR(key, value) {.name = key, .type = GB_ATTR_INT, .number = value}

const gb_op gb_ops_norm[] = {
    {.name = "Softmax", .keeps_f32 = true, .min_in = 1, .max_in = 1, .max_out = 1, .needs = GB_NEEDS_OUTPUT,
     .infer = infer_axis, .expand = expand_softmax, .gradient = softmax_gradient,
     .attr = {INT_ATTR("axis", -1)}},
    {.name = "LogSoftmax", .keeps_f32 = true, .min_in = 1, .max_in = 1, .max_out = 1, .needs = GB_NEEDS_OUTPUT,
     .infer = infer_axis, .expand = expand_softmax, .gradient = softmax_gradient,
     .attr = {INT_ATTR("axis", -1)}},
    {.name = "BatchNormalization", .keeps_f32 = true, .min_in = 5, .max_in = 5, .max_out = 3, .needs = GB_NEEDS_INPUT,
     .infer = infer_batchnorm, .expand = expand_batchnorm, .gradient = batchnorm_gradient,
     .tolerance = 1e-5,
     .attr = {FLOAT_ATTR("epsilon", 1e-5), FLOAT_ATTR("momentum", 0.9), INT_ATTR("training_mode", 0),
              INT_ATTR("unbiased", 0)}},
    {.name = "LayerNormalization", .keeps_f32 = true, .min_in = 2, .max_in = 3, .max_out = 3, .needs = GB_NEEDS_INPUT,
     .infer = infer_layernorm, .expand = expand_layernorm, .gradient = layernorm_gradient,
     .tolerance = 1e-5,
     .attr = {INT_ATTR("axis", -1), FLOAT_ATTR("epsilon", 1e-5), INT_ATTR("stash_type", 1)}},
    {.name = "GroupNormalization", .keeps_f32 = true, .min_in = 3, .max_in = 3, .max_out = 1, .needs = GB_NEEDS_INPUT,
     .infer = infer_groupnorm, .expand = expand_groupnorm, .tolerance = 1e-5,
     .attr = {INT_ATTR("num_groups", 1), FLOAT_ATTR("epsilon", 1e-5), INT_ATTR("stash_type", 1)}},
    {.name = "InstanceNormalization", .keeps_f32 = true, .min_in = 3, .max_in = 3, .max_out = 1, .needs = GB_NEEDS_INPUT,
     .infer = infer_groupnorm, .expand = expand_groupnorm, .tolerance = 1e-5,
     .attr = {FLOAT_ATTR("epsilon", 1e-5)}},
    {.name = "Normalize", .keeps_f32 = true, .min_in = 3, .max_in = 3, .max_out = 1, .internal = true,
     .infer = infer_normalize, .expand = expand_normalize, .gradient = normalize_back,
     .attr = {FLOAT_ATTR("epsilon", 1e-5), INT_ATTR("mask", 0)}},
    {0}};
