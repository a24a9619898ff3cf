/* Losses, expanded into Reduce over an expression. */
#include <string.h>

#include "core/ir/ops/ops.h"

#define IN(k) gb_x_operand(&b, g, in, k)
#define MUL(a, c) gb_x2(&b, GB_P_MUL, a, c)
#define K(v) gb_x_const(&b, v)

static bool reduction_is(const gb_node *n, const char *kind)
{
    return strcmp(gb_node_string(n, "reduction"), kind) == 0;
}

static void set_loss(gb_graph *g, const gb_node *n, const gb_shape *each)
{
    gb_shape scalar = {0};
    bool none = reduction_is(n, "none");
    if (!none && !reduction_is(n, "sum") && !reduction_is(n, "mean"))
        gb_node_fail(g, n, "use none, sum or mean", "there is no reduction %s", gb_node_string(n, "reduction"));
    gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), none ? each : &scalar);
}

/* Sums all of v, or takes the mean. */
static gb_value reduce_all(gb_graph *g, gb_value v, bool mean)
{
    return gb_op_list(g, mean ? "ReduceMean" : "ReduceSum", &v, 1, &GB_INT("keepdims", 0), 1);
}

/* --- classification: scores [N, C, …], labels [N, …] --- */

static gb_shape without_classes(const gb_shape *s)
{
    gb_shape r = {.rank = s->rank - 1, .dim = {s->dim[0]}};
    for (int i = 2; i < s->rank; i++) r.dim[i - 1] = s->dim[i];
    return r;
}

static void infer_class_loss(gb_graph *g, const gb_node *n)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]), *t = gb_shape_ptr(g, n->in[1]);
    char a[160], c[160];
    gb_shape each = x->rank >= 2 ? without_classes(x) : (gb_shape){0};
    if (x->rank < 2 || !gb_shape_equal(&each, t) || gb_dtype_is_float(gb_dtype_at(g, n->in[1]))) {
        gb_node_fail(g, n, "give scores [N, C, ...] and integer labels [N, ...]",
                     "scores %s and labels %s do not fit", gb_shape_text(x, a, sizeof a),
                     gb_shape_text(t, c, sizeof c));
        return;
    }
    if (n->n_in > 2 && n->in[2] &&
        (gb_shape_ptr(g, n->in[2])->rank != 1 || gb_shape_ptr(g, n->in[2])->dim[0] != x->dim[1])) {
        gb_node_fail(g, n, "give one weight a class", "weights do not fit");
        return;
    }
    set_loss(g, n, &each);
    gb_set_output(g, n, 1, gb_dtype_at(g, n->in[0]), x);
}

/* Per label: the loss, and the weight by which a mean divides. With label smoothing s over C
 * classes (Szegedy 2016, as PyTorch has it): (1 - s) nll[label] + s/C · sum of all. */
static void expand_class_loss(gb_graph *g, const gb_node *n, gb_value *out)
{
    bool scores = strcmp(n->op->name, "SoftmaxCrossEntropyLoss") == 0;
    gb_shape space = *gb_shape_ptr(g, n->in[0]), label_shape = space;
    label_shape.dim[1] = 1;
    gb_value logp = scores ? GB_OP(g, "LogSoftmax", GB_ARGS(n->in[0]), GB_INT("axis", 1)) : n->in[0];
    gb_value in[3] = {logp, gb_reshape_to(g, n->in[1], &label_shape)};
    int n_in = 2;
    bool weighted = n->n_in > 2 && n->in[2];
    if (weighted) {
        gb_shape s = {.rank = space.rank};
        for (int i = 0; i < s.rank; i++) s.dim[i] = i == 1 ? space.dim[1] : 1;
        in[n_in++] = gb_reshape_to(g, n->in[2], &s);
    }
    if (gb_graph_failed(g)) return;
    double smoothing = gb_node_float(n, "label_smoothing");
    gb_xb b = {0};
    gb_x hit = gb_x2(&b, GB_P_IEQ, gb_x_coord(&b, 1), IN(1));
    gb_x one_hot = gb_x3(&b, GB_P_SELECT, hit, K(1), K(0));
    gb_x share = smoothing ? gb_x3(&b, GB_P_SELECT, hit, K(1 - smoothing + smoothing / (double)space.dim[1]),
                                   K(smoothing / (double)space.dim[1]))
                           : one_hot;
    gb_x w = weighted ? IN(2) : K(1);
    if (gb_node_attr(n, "ignore_index")) {
        gb_x skip = gb_x2(&b, GB_P_IEQ, IN(1), gb_x_iconst(&b, (int32_t)gb_node_int(n, "ignore_index")));
        w = gb_x3(&b, GB_P_SELECT, skip, K(0), w);
    }
    /* select, not a product: 0 · -inf of an impossible class would be NaN */
    gb_x term = gb_x3(&b, GB_P_SELECT, gb_x2(&b, GB_P_EQ, MUL(share, w), K(0)), K(0),
                      gb_x1(&b, GB_P_NEG, MUL(MUL(share, w), IN(0))));
    gb_x e[2] = {term, MUL(one_hot, w)};
    gb_compute c = {.space = space, .mask = 2, .red = {GB_SUM, GB_SUM}, .scale = {1, 1}};
    bool mean = reduction_is(n, "mean"), plain = !weighted && !gb_node_attr(n, "ignore_index");
    gb_value sums[2] = {0};
    gb_reduce_n(g, &b, e, mean && !plain ? 2 : 1, in, n_in, &c, sums);
    if (reduction_is(n, "none")) out[0] = sums[0];
    else if (!mean || plain) out[0] = reduce_all(g, sums[0], mean);
    else out[0] = gb_op2(g, "Div", reduce_all(g, sums[0], false), reduce_all(g, sums[1], false));
    if (n->n_out > 1) out[1] = logp;
}

/* --- regression and binary: prediction and target of one shape --- */

static void infer_pair_loss(gb_graph *g, const gb_node *n)
{
    const gb_shape *x = gb_shape_ptr(g, n->in[0]), *t = gb_shape_ptr(g, n->in[1]);
    char a[160], c[160];
    if (!gb_shape_equal(x, t) || gb_dtype_at(g, n->in[0]) != gb_dtype_at(g, n->in[1]))
        gb_node_fail(g, n, "give prediction and target one shape and type", "shapes %s and %s do not fit",
                     gb_shape_text(x, a, sizeof a), gb_shape_text(t, c, sizeof c));
    else set_loss(g, n, x);
}

static void expand_pair_loss(gb_graph *g, const gb_node *n, gb_value *out)
{
    gb_value in[2] = {n->in[0], n->in[1]};
    gb_shape space = *gb_shape_ptr(g, in[0]);
    gb_xb b = {0};
    gb_x x = IN(0), t = IN(1), d = gb_x2(&b, GB_P_SUB, x, t), e;
    if (strcmp(n->op->name, "MSELoss") == 0) e = MUL(d, d);
    else if (strcmp(n->op->name, "L1Loss") == 0) e = gb_x1(&b, GB_P_ABS, d);
    else { /* binary cross-entropy of logits: max(x, 0) - x t + log1p(exp(-|x|)) */
        gb_x tail = gb_x1(&b, GB_P_LOG1P, gb_x1(&b, GB_P_EXP, gb_x1(&b, GB_P_NEG, gb_x1(&b, GB_P_ABS, x))));
        e = gb_x2(&b, GB_P_ADD, gb_x2(&b, GB_P_SUB, gb_x2(&b, GB_P_MAX, x, K(0)), MUL(x, t)), tail);
    }
    gb_value v = gb_pointwise(g, &b, e, in, 2, gb_dtype_at(g, in[0]), &space);
    out[0] = reduction_is(n, "none") ? v : reduce_all(g, v, reduction_is(n, "mean"));
}

#define REDUCTION {.name = "reduction", .type = GB_ATTR_STRING, .string = "mean"}
#define CLASS_ATTRS \
    {REDUCTION, {.name = "ignore_index", .type = GB_ATTR_INT}, \
     {.name = "label_smoothing", .type = GB_ATTR_FLOAT}}
#define PAIR(op) \
    {.name = op, .keeps_f32 = true, .min_in = 2, .max_in = 2, .max_out = 1, .needs = GB_NEEDS_INPUT, \
     .infer = infer_pair_loss, .expand = expand_pair_loss, .attr = {REDUCTION}}

const gb_op gb_ops_loss[] = {
    {.name = "SoftmaxCrossEntropyLoss", .keeps_f32 = true, .min_in = 2, .max_in = 3, .max_out = 2,
     .needs = GB_NEEDS_OUTPUT, .tolerance = 1e-5, .infer = infer_class_loss, .expand = expand_class_loss,
     .attr = CLASS_ATTRS},
    {.name = "NegativeLogLikelihoodLoss", .keeps_f32 = true, .min_in = 2, .max_in = 3, .max_out = 1,
     .needs = GB_NEEDS_INPUT, .tolerance = 1e-5, .infer = infer_class_loss, .expand = expand_class_loss,
     .attr = CLASS_ATTRS},
    PAIR("MSELoss"), PAIR("L1Loss"), PAIR("BCEWithLogitsLoss"),
    {0}};
