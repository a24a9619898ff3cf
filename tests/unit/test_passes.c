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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(updates_follow_their_gradients),
        cmocka_unit_test(exchanged_states_keep_their_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
