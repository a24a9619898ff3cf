/* Passes over graphs, seen in the plans that they lead to. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/passes/passes.h"

enum { WIDTH = 64, ROWS = 256 };

static gb_plan *lower(gb_graph *g, const gb_lower_options *options)
{
    gb_error err = {0};
    gb_plan *plan = NULL;
    if (gb_lower(g, options, &plan, &err)) fail_msg("%s", err.message);
    return plan;
}

static gb_value matrix(gb_graph *g, const char *name, int64_t rows, int64_t columns)
{
    gb_shape s = gb_shape_of(2, rows, columns);
    return gb_graph_state(g, name, GB_F32, &s, true, NULL);
}

/* A chain of matrix products with ReLU, a sum as the loss, and plain gradient descent. */
static gb_graph *chain(int layers)
{
    gb_graph *g = gb_graph_create();
    gb_shape s = gb_shape_of(2, ROWS, WIDTH);
    gb_value y = gb_graph_input(g, "x", GB_F32, &s), w[32], d[32];
    for (int i = 0; i < layers; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", i);
        gb_graph_path(g, name);
        w[i] = matrix(g, name, WIDTH, WIDTH);
        y = gb_op1(g, "Relu", gb_op2(g, "MatMul", y, w[i]));
    }
    gb_value loss = GB_OP(g, "ReduceSum", GB_ARGS(y), GB_INT("keepdims", 0));
    gb_graph_output(g, "loss", loss);
    gb_graph_gradient(g, loss, w, (size_t)layers, d);
    gb_graph_phase(g, "update");
    for (int i = 0; i < layers; i++) gb_graph_update(g, w[i], gb_op2(g, "Sub", w[i], d[i]));
    assert_int_equal(gb_graph_check(g, NULL), GB_OK);
    return g;
}

/* The last step that writes the buffer, -1: none. */
static int writer(const gb_plan *p, int buffer)
{
    int at = -1;
    for (int i = 0; i < p->n_steps; i++)
        for (int k = 0; k < p->step[i].n_out; k++)
            if (p->step[i].out[k].buffer == buffer) at = i;
    return at;
}

static int last_reader(const gb_plan *p, int buffer)
{
    int at = -1;
    for (int i = 0; i < p->n_steps; i++)
        for (int k = 0; k < p->step[i].n_in; k++)
            if (p->step[i].in[k].buffer == buffer) at = i;
    return at;
}

static void updates_follow_their_gradients(void **state)
{
    gb_graph *g = chain(4);
    gb_plan *p = lower(g, NULL);
    for (int i = 1; i < 4; i++) { /* gradients come from the last layer on */
        int mine = p->state[i].where.buffer, before = p->state[i - 1].where.buffer;
        assert_true(writer(p, mine) < writer(p, before));
        assert_true(last_reader(p, mine) <= writer(p, mine)); /* the old value had been read */
    }
    gb_plan_free(p);
    gb_graph_destroy(&g);
}

/* b takes the value that a had: no order may lose it. */
static void exchanged_states_keep_their_values(void **state)
{
    gb_graph *g = gb_graph_create();
    gb_value a = matrix(g, "a", ROWS, WIDTH), b = matrix(g, "b", ROWS, WIDTH);
    gb_graph_update(g, a, gb_op2(g, "Add", a, b));
    gb_graph_update(g, b, gb_op2(g, "Mul", a, b));
    gb_plan *p = lower(g, NULL);
    int in_place = 0;
    for (int i = 0; i < 2; i++) {
        int buffer = p->state[i].where.buffer;
        in_place += last_reader(p, buffer) <= writer(p, buffer);
    }
    assert_int_equal(in_place, 2);
    gb_plan_free(p);
    gb_graph_destroy(&g);
}

/* Convolution, normalization and ReLU, `layers` times, and gradients of everything. With residual
 * what came in is added before every ReLU but the first. */
static gb_graph *convolutions(int layers, int64_t depth, bool residual)
{
    enum { SIZE = 16 };
    gb_graph *g = gb_graph_create();
    gb_shape s = gb_shape_of(4, 4, depth, SIZE, SIZE), channels = gb_shape_of(1, depth);
    gb_shape filter = gb_shape_of(4, depth, depth, 3, 3);
    gb_value y = gb_graph_input(g, "x", GB_F32, &s), last = GB_NONE, p[64], d[64];
    int64_t pads[4] = {1, 1, 1, 1};
    size_t n = 0;
    for (int i = 0; i < layers; i++) {
        char name[5][16];
        static const char *const kinds[5] = {"w", "scale", "bias", "mean", "var"};
        for (int k = 0; k < 5; k++) snprintf(name[k], sizeof name[k], "%s%d", kinds[k], i);
        gb_graph_path(g, name[0]);
        p[n++] = gb_graph_state(g, name[0], GB_F32, &filter, true, NULL);
        p[n++] = gb_graph_state(g, name[1], GB_F32, &channels, true, NULL);
        p[n++] = gb_graph_state(g, name[2], GB_F32, &channels, true, NULL);
        gb_value mean = gb_graph_state(g, name[3], GB_F32, &channels, false, NULL);
        gb_value var = gb_graph_state(g, name[4], GB_F32, &channels, false, NULL), out[3];
        y = GB_OP(g, "Conv", GB_ARGS(y, p[n - 3]), GB_INTS("pads", pads, 4));
        gb_attr training = GB_INT("training_mode", 1);
        gb_value in[5] = {y, p[n - 2], p[n - 1], mean, var};
        gb_graph_add(g, "BatchNormalization", in, 5, &training, 1, out, 3);
        gb_graph_update(g, mean, out[1]);
        gb_graph_update(g, var, out[2]);
        gb_value sum = residual && i ? gb_op2(g, "Add", out[0], last) : out[0];
        y = last = gb_op1(g, "Relu", sum);
    }
    gb_value loss = GB_OP(g, "ReduceSumSquare", GB_ARGS(y), GB_INT("keepdims", 0));
    gb_graph_output(g, "loss", loss);
    gb_graph_gradient(g, loss, p, n, d);
    for (size_t i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "d%zu", i);
        gb_graph_output(g, name, d[i]);
    }
    assert_int_equal(gb_graph_check(g, NULL), GB_OK);
    return g;
}

/* The most bytes of transient buffers that are alive at once. */
static uint64_t most_alive(const gb_plan *p)
{
    uint64_t most = 0;
    for (int i = 0; i < p->n_steps; i++) {
        uint64_t sum = 0;
        for (int b = 0; b < p->n_buffers; b++) {
            int first = p->n_steps, last = last_reader(p, b);
            for (int k = p->n_steps - 1; k >= 0; k--)
                for (int o = 0; o < p->step[k].n_out; o++)
                    if (p->step[k].out[o].buffer == b) first = k;
            if (p->buffer[b].role == GB_BUF_TRANSIENT && first <= i && last >= i)
                sum += p->buffer[b].bytes;
        }
        most = sum > most ? sum : most;
    }
    return most;
}

/* Of each layer the convolution's result is kept; the ReLU's is made again for the filter's
 * gradient alone: its mask is part of the steps that want it. */
static void activations_after_normalizations_are_made_again(void **state)
{
    gb_graph *g = convolutions(6, 8, false);
    gb_plan *p = lower(g, NULL);
    assert_int_equal(p->recomputed, 5); /* the last one's reader is the loss */
    assert_int_equal(p->recomputed_bytes, 5 * 4 * 8 * 16 * 16 * 4);
    int again = 0;
    for (int i = 0; i < p->n_steps; i++)
        again += strcmp(p->step[i].phase, "backward") == 0 &&
                 p->step[i].kind == GB_STEP_POINTWISE &&
                 p->step[i + 1].kind == GB_STEP_CONV_FILTER &&
                 p->step[i].out[0].buffer == p->step[i + 1].in[0].buffer;
    assert_int_equal(again, 5);
    gb_plan_free(p);
    gb_graph_destroy(&g);
}

/* A residual sum is not free to make again, as its two operands are read for it. Beside
 * convolutions of many channels it costs next to nothing, beside those of few too much. */
static void a_little_time_buys_memory(void **state)
{
    (void)state;
    static const int64_t depth[] = {8, 512};
    for (int i = 0; i < 2; i++) {
        gb_graph *g = convolutions(8, depth[i], true);
        gb_plan *p = lower(g, NULL);
        if (i == 0)
            assert_int_equal(p->recomputed, 1); /* the first ReLU */
        else
            assert_in_range(p->recomputed, 3, 7);
        assert_int_equal(p->recomputed_bytes, p->recomputed * 4 * depth[i] * 16 * 16 * 4);
        gb_plan_free(p);
        gb_graph_destroy(&g);
    }
}

/* The smaller the budget, the less is alive; what is left at last grows far slower than the depth.
 */
static void budgets_are_kept(void **state)
{
    gb_graph *g = convolutions(16, 8, false);
    gb_plan *p = lower(g, NULL);
    uint64_t all = most_alive(p);
    gb_plan_free(p);
    for (int percent = 80; percent >= 60; percent -= 10) {
        gb_lower_options options = {.budget = all * (uint64_t)percent / 100};
        p = lower(g, &options);
        assert_true(most_alive(p) <= options.budget);
        gb_plan_free(p);
    }
    gb_lower_options least = {.budget = 1};
    p = lower(g, &least);
    assert_true(most_alive(p) < all * 6 / 10);
    gb_plan_free(p);
    gb_graph_destroy(&g);
}

/* --- what does nothing --- */

static int steps_of(bool idle)
{
    gb_graph *g = gb_graph_create();
    gb_shape s = gb_shape_of(4, 2, 3, 8, 8), f = gb_shape_of(4, 5, 3, 3, 3);
    const int64_t kernel[2] = {2, 2};
    gb_value x = gb_graph_input(g, "x", GB_F32, &s);
    gb_value w = gb_graph_state(g, "w", GB_F32, &f, true, NULL);
    gb_value y = GB_OP(g, "MaxPool", GB_ARGS(x), GB_INTS("kernel_shape", kernel, 2));
    if (idle) {
        y = gb_op1(g, "Identity", y);
        y = GB_OP(g, "Cast", GB_ARGS(y), GB_INT("to", 1));
        y = GB_OP(g, "Dropout", GB_ARGS(y), GB_FLOAT("ratio", 0.5));
        y = gb_op2(g, "Mul", y, gb_graph_float(g, 1));
        y = gb_op2(g, "Div", y, gb_graph_float(g, 1));
        y = gb_op2(g, "Sub", y, gb_graph_float(g, 0));
    }
    y = gb_op2(g, "Conv", y, w);
    gb_graph_output(g, "y", idle ? gb_op1(g, "Identity", y) : y);
    if (idle) gb_graph_output(g, "x", gb_op1(g, "Identity", x));
    gb_plan *p = lower(g, NULL);
    int n = p->n_steps;
    gb_plan_free(p);
    gb_graph_destroy(&g);
    return n;
}

static void nodes_that_pass_on_make_no_steps(void **state)
{
    assert_int_equal(steps_of(true), steps_of(false) + 1); /* the copy of x to its own output */
}

/* --- folding --- */

static gb_value integers(gb_graph *g, const int64_t *v, int n)
{
    gb_tensor t = {.dtype = GB_I64, .shape = gb_shape_of(1, n), .data = (void *)v};
    return gb_graph_constant(g, &t);
}

static gb_value numbers(gb_graph *g, const float *v, int n)
{
    gb_tensor t = {.dtype = GB_F32, .shape = gb_shape_of(1, n), .data = (void *)v};
    return gb_graph_constant(g, &t);
}

static const gb_plan_buffer *constant_of(const gb_plan *p, uint64_t bytes)
{
    for (int b = 0; b < p->n_buffers; b++)
        if (p->buffer[b].role == GB_BUF_CONSTANT && p->buffer[b].bytes == bytes)
            return &p->buffer[b];
    return NULL;
}

/* Shapes that a model computes from shapes: concatenated, gathered, sliced, multiplied, compared.
 */
static void constant_parts_are_evaluated_once(void **state)
{
    gb_graph *g = gb_graph_create();
    int64_t a[3] = {2, 3, 4}, b[2] = {5, -1}, rows[4] = {4, 0, -2, 2}, start = 1, end = 4;
    gb_shape three = gb_shape_of(1, 3);
    gb_value all =
        GB_OP(g, "Concat", GB_ARGS(integers(g, a, 3), integers(g, b, 2)), GB_INT("axis", 0));
    gb_value some = gb_op2(g, "Gather", all, integers(g, rows, 4)); /* -1, 2, 5, 4 */
    gb_value cut =
        GB_OP(g, "Slice", GB_ARGS(some), GB_INTS("starts", &start, 1), GB_INTS("ends", &end, 1));
    gb_value twice = gb_op2(g, "Mul", cut, cut); /* 4, 25, 16 */
    gb_value x = gb_graph_input(g, "x", GB_F32, &three);
    gb_value real = GB_OP(g, "Cast", GB_ARGS(twice), GB_INT("to", 1));
    gb_graph_output(g, "y", gb_op2(g, "Mul", x, real));
    gb_plan *p = lower(g, NULL);
    assert_int_equal(p->n_steps, 1);
    const gb_plan_buffer *c = constant_of(p, 12);
    assert_non_null(c);
    assert_memory_equal(c->data, ((float[]){4, 25, 16}), 12);
    gb_plan_free(p);
    gb_graph_destroy(&g);
}

/* What would be rounded is left to the device, whose bits it would change; so is what would grow.
 */
static void only_exact_and_small_values_are_folded(void **state)
{
    gb_graph *g = gb_graph_create();
    float tenths[3] = {0.1f, 0.2f, 0.3f}, halves[3] = {0.5f, 1.5f, -2};
    int64_t many = 100000;
    gb_value rounded = gb_op2(g, "Mul", numbers(g, tenths, 3), numbers(g, halves, 3));
    gb_value exact = gb_op2(g, "Add", numbers(g, halves, 3), numbers(g, halves, 3));
    gb_value large = GB_OP(g, "Expand", GB_ARGS(gb_graph_float(g, 7)), GB_INTS("shape", &many, 1));
    rounded = gb_op2(g, "Mul", rounded, numbers(g, tenths, 3));
    gb_graph_output(g, "rounded", rounded);
    gb_graph_output(g, "exact", exact);
    gb_graph_output(g, "large", large);
    gb_plan *p = lower(g, NULL);
    assert_int_equal(p->n_steps, 3); /* the products, and copies to two outputs */
    int products = 0;
    for (int i = 0; i < p->n_steps; i++) products += gb_expr_uses(p->step[i].expr, GB_P_MUL);
    assert_int_equal(products, 1);
    assert_null(constant_of(p, 4 * (uint64_t)many));
    gb_plan_free(p);
    gb_graph_destroy(&g);
}

/* Integers have no infinities: the extremes of nothing are the ends of their types. */
static void extremes_of_nothing_are_those_of_the_type(void **state)
{
    static const struct {
        const char *op;
        gb_dtype type;
        int32_t want;
    } cases[] = {{"ReduceMax", GB_BOOL, 0},       {"ReduceMin", GB_BOOL, 1},
                 {"ReduceMax", GB_I8, -128},      {"ReduceMin", GB_I8, 127},
                 {"ReduceMax", GB_U8, 0},         {"ReduceMin", GB_U8, 255},
                 {"ReduceMax", GB_I32, INT32_MIN}};
    int64_t axis = 1;
    gb_shape s = gb_shape_of(3, 2, 0, 4);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gb_graph *g = gb_graph_create();
        gb_value x = gb_graph_input(g, "x", cases[i].type, &s);
        gb_graph_output(g, "y", GB_OP(g, cases[i].op, GB_ARGS(x), GB_INTS("axes", &axis, 1)));
        gb_plan *p = lower(g, NULL);
        assert_int_equal(p->n_steps, 1);
        assert_int_equal(p->step[0].expr->n_nodes, 1);
        assert_int_equal(p->step[0].expr->node[0].prim, GB_P_ICONST);
        assert_true(p->step[0].expr->node[0].imm == cases[i].want);
        gb_plan_free(p);
        gb_graph_destroy(&g);
    }
}

/* The backward run of ReLU and a pool masks what has a quarter of the elements, and does not want
 * the pool's operand again. second: ReLU's result is read by more than the pool. */
static void masks_move_before_a_pool(void **state)
{
    const gb_shape image = gb_shape_of(4, 2, 8, 16, 16);
    const int64_t two[2] = {2, 2};
    for (int second = 0; second < 2; second++) {
        gb_graph *g = gb_graph_create();
        gb_value w = gb_graph_state(g, "w", GB_F32, &image, true, NULL), d;
        gb_value r = gb_op1(g, "Relu", gb_op1(g, "Sin", w));
        gb_value y = GB_OP(g, "MaxPool", GB_ARGS(r), GB_INTS("kernel_shape", two, 2),
                           GB_INTS("strides", two, 2));
        gb_value loss =
            GB_OP(g, "ReduceSum", GB_ARGS(gb_op2(g, "Mul", y, y)), GB_INT("keepdims", 0));
        if (second)
            loss = gb_op2(g, "Add", loss, GB_OP(g, "ReduceSum", GB_ARGS(r), GB_INT("keepdims", 0)));
        gb_graph_output(g, "loss", loss);
        gb_graph_gradient(g, loss, &w, 1, &d);
        gb_graph_output(g, "d", d);
        gb_plan *p = lower(g, NULL);
        int pool = -1, after = 0;
        for (int i = 0; i < p->n_steps; i++) {
            if (p->step[i].kind == GB_STEP_MAXPOOL) pool = i;
        }
        assert_true(pool >= 0);
        int activation = p->step[pool].in[0].buffer;
        for (int i = pool + 1; i < p->n_steps; i++)
            for (int k = 0; k < p->step[i].n_in; k++)
                after +=
                    p->step[i].kind == GB_STEP_POINTWISE && p->step[i].in[k].buffer == activation;
        assert_int_equal(after > 0, second);
        gb_plan_free(p);
        gb_graph_destroy(&g);
    }
}

/* x * sigmoid(x) and its gradient: the readers of the sigmoid end up in two steps, which
 * compute it rather than read it. */
static void what_ends_in_one_step_counts_once(void **state)
{
    (void)state;
    gb_graph *g = gb_graph_create();
    gb_shape shape = gb_shape_of(2, ROWS, WIDTH);
    gb_value x = gb_graph_input(g, "x", GB_F32, &shape),
             dy = gb_graph_input(g, "dy", GB_F32, &shape);
    gb_value s = gb_op1(g, "Sigmoid", x), one = gb_graph_float(g, 1);
    gb_value slope = gb_op2(g, "Mul", s, gb_op2(g, "Sub", one, s));
    gb_graph_output(g, "y", gb_op2(g, "Mul", x, s));
    gb_graph_output(g, "dx",
                    gb_op2(g, "Add", gb_op2(g, "Mul", dy, s),
                           gb_op2(g, "Mul", gb_op2(g, "Mul", dy, x), slope)));
    gb_plan *p = lower(g, NULL);
    assert_int_equal(p->n_steps, 2);
    gb_plan_free(p);
    gb_graph_destroy(&g);
}

/* A channel's gate, as in squeeze and excitation: what two steps read of a convolution is finished
 * by it, not by both of them. */
static void two_readers_leave_the_epilogue_alone(void **state)
{
    (void)state;
    gb_graph *g = gb_graph_create();
    gb_shape image = gb_shape_of(4, 2, 8, 12, 12), filter = gb_shape_of(4, 8, 8, 3, 3);
    gb_value x = gb_graph_input(g, "x", GB_F32, &image);
    gb_value w = gb_graph_state(g, "w", GB_F32, &filter, true, NULL);
    gb_value y = gb_op1(g, "Sigmoid", gb_op2(g, "Conv", x, w));
    gb_value gate = gb_op1(g, "GlobalAveragePool", y);
    gb_graph_output(g, "z", gb_op2(g, "Mul", y, gate));
    gb_plan *p = lower(g, NULL);
    int exponentials = 0;
    for (int i = 0; i < p->n_steps; i++) {
        const gb_step *step = &p->step[i];
        bool has = step->expr && gb_expr_uses(step->expr, GB_P_EXP);
        exponentials += has;
        if (has) assert_int_equal(step->kind, GB_STEP_CONV);
    }
    assert_int_equal(exponentials, 1);
    gb_plan_free(p);
    gb_graph_destroy(&g);
}

/* A linear layer over sequences: one product of all rows forward, two backward, the bias within. */
static void a_batch_that_shares_a_matrix_is_one_product(void **state)
{
    (void)state;
    gb_graph *g = gb_graph_create();
    gb_shape shape = gb_shape_of(3, 6, 10, WIDTH), row = gb_shape_of(1, 32);
    gb_value x = gb_graph_input(g, "x", GB_F32, &shape), d[2];
    gb_value w = matrix(g, "w", WIDTH, 32), bias = gb_graph_state(g, "b", GB_F32, &row, true, NULL);
    gb_value y = gb_op2(g, "Add", gb_op2(g, "MatMul", x, w), bias);
    gb_value loss = GB_OP(g, "ReduceSumSquare", GB_ARGS(y), GB_INT("keepdims", 0));
    gb_graph_gradient(g, loss, (gb_value[]){x, w}, 2, d);
    gb_graph_output(g, "dx", d[0]);
    gb_graph_output(g, "dw", d[1]);
    gb_plan *p = lower(g, NULL);
    int products = 0, finished = 0;
    for (int i = 0; i < p->n_steps; i++) {
        if (p->step[i].kind != GB_STEP_MATMUL) continue;
        products++;
        finished += p->step[i].expr != NULL;
        assert_int_equal(p->step[i].out[0].rank, 2);
    }
    assert_int_equal(products, 3);
    assert_int_equal(finished, 1);
    gb_plan_free(p);
    gb_graph_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(updates_follow_their_gradients),
        cmocka_unit_test(exchanged_states_keep_their_values),
        cmocka_unit_test(activations_after_normalizations_are_made_again),
        cmocka_unit_test(a_little_time_buys_memory),
        cmocka_unit_test(budgets_are_kept),
        cmocka_unit_test(nodes_that_pass_on_make_no_steps),
        cmocka_unit_test(constant_parts_are_evaluated_once),
        cmocka_unit_test(only_exact_and_small_values_are_folded),
        cmocka_unit_test(extremes_of_nothing_are_those_of_the_type),
        cmocka_unit_test(masks_move_before_a_pool),
        cmocka_unit_test(what_ends_in_one_step_counts_once),
        cmocka_unit_test(two_readers_leave_the_epilogue_alone),
        cmocka_unit_test(a_batch_that_shares_a_matrix_is_one_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
