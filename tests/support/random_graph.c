#include "tests/support/random_graph.h"

#include <math.h>
#include <stdio.h>

enum { MAX_VALUES = 96, MAX_ELEMENTS = 800 };

typedef struct generator {
    gb_graph *g;
    uint32_t seed;
    bool smooth;
    gb_value value[MAX_VALUES];
    int n, states;
} generator;

static uint32_t draw(generator *r, uint32_t n)
{
    r->seed = r->seed * 1664525u + 1013904223u;
    return (r->seed >> 9) % n;
}

static gb_value pick(generator *r)
{
    /* young values more often, so that graphs grow deep */
    int back = (int)draw(r, 2) ? (int)draw(r, 4) : (int)draw(r, (uint32_t)r->n);
    return r->value[back < r->n ? r->n - 1 - back : 0];
}

static gb_value state(generator *r, gb_shape shape)
{
    gb_tensor t;
    char name[16];
    snprintf(name, sizeof name, "w%d", r->states++);
    if (gb_tensor_alloc(&t, GB_F32, &shape, NULL) != GB_OK) return GB_NONE;
    for (int64_t i = 0; i < gb_shape_count(&shape); i++)
        gb_tensor_set(&t, i, sin(0.7 * (double)i + r->states) * 0.6);
    gb_value v = gb_graph_state(r->g, name, GB_F32, &shape, true, &t);
    gb_tensor_free(&t);
    return v;
}

static gb_value bounded(generator *r, gb_value v)
{
    return gb_op1(r->g, "Tanh", v);
}

/* --- the grammar: each makes a value from others, or GB_NONE where it does not apply --- */

static gb_value unary(generator *r)
{
    static const char *const smooth[] = {"Tanh", "Sigmoid", "Softplus", "Neg", "Sin", "Erf", "Mish"};
    static const char *const kinked[] = {"Relu", "Abs", "LeakyRelu", "HardSwish", "Elu", "HardSigmoid", "Selu"};
    gb_value x = pick(r);
    uint32_t k = draw(r, 7);
    return gb_op1(r->g, r->smooth || draw(r, 2) ? smooth[k] : kinked[k], x);
}

static bool broadcasts(gb_shape a, gb_shape b)
{
    int64_t count = 1;
    for (int i = 0; i < a.rank || i < b.rank; i++) {
        int64_t x = i < a.rank ? a.dim[a.rank - 1 - i] : 1, y = i < b.rank ? b.dim[b.rank - 1 - i] : 1;
        if (x != y && x != 1 && y != 1) return false;
        count *= x > y ? x : y;
    }
    return count <= MAX_ELEMENTS;
}

static gb_value binary(generator *r)
{
    static const char *const ops[] = {"Add", "Sub", "Mul", "Add", "Max", "Min"};
    for (int attempt = 0; attempt < 8; attempt++) {
        gb_value a = pick(r), b = pick(r);
        if (!broadcasts(gb_value_shape(r->g, a), gb_value_shape(r->g, b))) continue;
        return bounded(r, gb_op2(r->g, ops[draw(r, r->smooth ? 4 : 6)], a, b));
    }
    return GB_NONE;
}

static gb_value select_where(generator *r)
{
    gb_value a = pick(r);
    gb_value test = gb_op2(r->g, "Less", a, gb_graph_float(r->g, 0));
    return r->smooth ? GB_NONE : gb_op3(r->g, "Where", test, gb_op1(r->g, "Sin", a), a);
}

static gb_value reduce(generator *r)
{
    static const char *const ops[] = {"ReduceMean", "ReduceSum", "ReduceLogSumExp", "ReduceMax",
                                      "ReduceMin", "ReduceL1"};
    gb_value x = pick(r);
    int rank = gb_value_shape(r->g, x).rank;
    if (rank == 0) return GB_NONE;
    int64_t axes[GB_MAX_RANK];
    size_t n = 0;
    for (int i = 0; i < rank; i++)
        if (draw(r, 2)) axes[n++] = i;
    if (!n) axes[n++] = (int64_t)draw(r, (uint32_t)rank);
    const char *op = ops[draw(r, r->smooth ? 3 : 6)];
    return bounded(r, GB_OP(r->g, op, GB_ARGS(x), GB_INTS("axes", axes, n),
                            GB_INT("keepdims", draw(r, 2))));
}

static gb_value matmul(generator *r)
{
    gb_value x = pick(r);
    gb_shape s = gb_value_shape(r->g, x);
    if (s.rank < 2) return GB_NONE;
    int64_t depth = s.dim[s.rank - 1];
    gb_value w = state(r, gb_shape_of(2, (int)depth, 1 + (int)draw(r, 6)));
    gb_value y = gb_op2(r->g, "MatMul", x, w);
    return bounded(r, draw(r, 2) ? gb_op2(r->g, "Add", y, gb_graph_float(r->g, 0.25)) : y);
}

static gb_value transpose(generator *r)
{
    gb_value x = pick(r);
    int rank = gb_value_shape(r->g, x).rank;
    int64_t perm[GB_MAX_RANK];
    for (int i = 0; i < rank; i++) perm[i] = i;
    for (int i = rank - 1; i > 0; i--) {
        int j = (int)draw(r, (uint32_t)i + 1);
        int64_t t = perm[i];
        perm[i] = perm[j];
        perm[j] = t;
    }
    return rank ? GB_OP(r->g, "Transpose", GB_ARGS(x), GB_INTS("perm", perm, (size_t)rank)) : GB_NONE;
}

static gb_value constant_ints(generator *r, const int64_t *v, int n)
{
    gb_tensor t;
    gb_shape s = gb_shape_of(1, n);
    if (gb_tensor_alloc(&t, GB_I64, &s, NULL) != GB_OK) return GB_NONE;
    for (int i = 0; i < n; i++) gb_tensor_set(&t, i, (double)v[i]);
    gb_value c = gb_graph_constant(r->g, &t);
    gb_tensor_free(&t);
    return c;
}

static gb_value reshape(generator *r)
{
    gb_value x = pick(r);
    gb_shape s = gb_value_shape(r->g, x);
    if (s.rank < 2) return GB_NONE;
    int64_t dim[GB_MAX_RANK] = {0};
    int join = (int)draw(r, (uint32_t)s.rank - 1), n = 0; /* two axes become one */
    for (int i = 0; i < s.rank; i++) {
        if (i == join + 1) dim[n - 1] *= s.dim[i];
        else dim[n++] = s.dim[i];
    }
    return gb_op2(r->g, "Reshape", x, constant_ints(r, dim, n));
}

static gb_value slice(generator *r)
{
    gb_value x = pick(r);
    gb_shape s = gb_value_shape(r->g, x);
    if (s.rank == 0) return GB_NONE;
    int64_t axis = (int64_t)draw(r, (uint32_t)s.rank), start = 0, end = s.dim[axis], step = 1;
    switch (draw(r, 3)) {
    case 0: start = end / 2; break;
    case 1: step = 2; break;
    default: start = end - 1, end = -end - 1, step = -1; break;
    }
    gb_value in[] = {x, constant_ints(r, &start, 1), constant_ints(r, &end, 1),
                     constant_ints(r, &axis, 1), constant_ints(r, &step, 1)}, y;
    return gb_graph_add(r->g, "Slice", in, 5, NULL, 0, &y, 1) == GB_OK ? y : GB_NONE;
}

static gb_value concat(generator *r)
{
    gb_value x = pick(r);
    gb_shape s = gb_value_shape(r->g, x);
    if (s.rank == 0 || gb_shape_count(&s) > MAX_ELEMENTS / 2) return GB_NONE;
    gb_value y = gb_op1(r->g, "Sin", x);
    return GB_OP(r->g, "Concat", GB_ARGS(y, x), GB_INT("axis", draw(r, (uint32_t)s.rank)));
}

static gb_value softmax(generator *r)
{
    gb_value x = pick(r);
    int rank = gb_value_shape(r->g, x).rank;
    return rank ? GB_OP(r->g, "Softmax", GB_ARGS(x), GB_INT("axis", draw(r, (uint32_t)rank))) : GB_NONE;
}

static gb_value gather(generator *r)
{
    gb_value x = pick(r);
    gb_shape s = gb_value_shape(r->g, x);
    if (s.rank == 0) return GB_NONE;
    int64_t axis = (int64_t)draw(r, (uint32_t)s.rank), index[3];
    for (int i = 0; i < 3; i++) index[i] = (int64_t)draw(r, (uint32_t)s.dim[axis]) - (i == 2 ? s.dim[axis] : 0);
    if (gb_shape_count(&s) / s.dim[axis] * 3 > MAX_ELEMENTS) return GB_NONE;
    return GB_OP(r->g, "Gather", GB_ARGS(x, constant_ints(r, index, 3)), GB_INT("axis", axis));
}

static gb_value convolution(generator *r)
{
    gb_value x = pick(r), y;
    gb_shape s = gb_value_shape(r->g, x);
    if (s.rank != 4 || s.dim[2] < 2 || s.dim[3] < 2) return GB_NONE;
    int64_t pads[] = {1, 1, 1, 1}, two[] = {2, 2};
    switch (draw(r, r->smooth ? 3 : 4)) {
    case 0:
        y = GB_OP(r->g, "AveragePool", GB_ARGS(x), GB_INTS("kernel_shape", two, 2), GB_INTS("strides", two, 2));
        return y;
    case 3:
        y = GB_OP(r->g, "MaxPool", GB_ARGS(x), GB_INTS("kernel_shape", two, 2), GB_INTS("strides", two, 2));
        return y;
    default:
        y = GB_OP(r->g, "Conv", GB_ARGS(x, state(r, gb_shape_of(4, 3, (int)s.dim[1], 3, 3)),
                                        state(r, gb_shape_of(1, 3))), GB_INTS("pads", pads, 4));
        return bounded(r, y);
    }
}

static gb_value normalization(generator *r)
{
    gb_value x = pick(r);
    gb_shape s = gb_value_shape(r->g, x);
    if (s.rank < 2) return GB_NONE;
    gb_shape last = gb_shape_of(1, (int)s.dim[s.rank - 1]);
    return bounded(r, GB_OP(r->g, "LayerNormalization", GB_ARGS(x, state(r, last), state(r, last)),
                            GB_INT("axis", -1), GB_FLOAT("epsilon", 0.1)));
}

/* --- the whole --- */

static void step(generator *r)
{
    static gb_value (*const rules[])(generator *) = {
        unary, unary, binary, binary, reduce, matmul, transpose, reshape, slice, concat,
        softmax, gather, convolution, convolution, normalization, select_where};
    char path[24];
    snprintf(path, sizeof path, "layers.%d", r->n);
    gb_graph_path(r->g, path);
    gb_value v = rules[draw(r, sizeof rules / sizeof *rules)](r);
    gb_shape s = gb_value_shape(r->g, v);
    if (v == GB_NONE || gb_shape_count(&s) < 1 || gb_shape_count(&s) > MAX_ELEMENTS) return;
    if (r->n < MAX_VALUES) r->value[r->n++] = v;
}

/* The mean of every value's sum of squares, so that all of them matter. */
static void add_loss(generator *r)
{
    gb_value loss = gb_graph_float(r->g, 0), states[64], grads[64];
    for (int i = 2; i < r->n; i++)
        loss = gb_op2(r->g, "Add", loss,
                      GB_OP(r->g, "ReduceMean", GB_ARGS(gb_op2(r->g, "Mul", r->value[i], r->value[i])),
                            GB_INT("keepdims", 0)));
    gb_graph_output(r->g, "loss", loss);
    size_t n = gb_graph_trainable(r->g, states, 64);
    if (gb_graph_gradient(r->g, loss, states, n < 64 ? n : 64, grads) != GB_OK) return;
    for (size_t i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "g%zu", i);
        if (grads[i] != GB_NONE) gb_graph_output(r->g, name, grads[i]);
    }
}

gb_graph *gb_random_graph(uint32_t seed, int size, bool smooth)
{
    generator r = {.g = gb_graph_create(), .seed = seed * 2654435761u, .smooth = smooth};
    if (!r.g) return NULL;
    gb_shape x = gb_shape_of(2, 4, 6), image = gb_shape_of(4, 2, 3, 6, 6);
    r.value[r.n++] = gb_graph_input(r.g, "x", GB_F32, &x);
    r.value[r.n++] = gb_graph_input(r.g, "image", GB_F32, &image);
    for (int i = 0; i < size; i++) step(&r);
    for (int i = 2; i < r.n; i++) {
        char name[16];
        snprintf(name, sizeof name, "y%d", i);
        if (i + 1 == r.n || draw(&r, 4) == 0) gb_graph_output(r.g, name, r.value[i]);
    }
    if (smooth) add_loss(&r);
    return r.g;
}
