/* Steps on the GPU backends against the float64 reference, every element of every buffer. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/plans.h"

#ifdef GB_HAVE_OPENCL
extern const gb_backend gb_opencl_backend;
#endif
#ifdef GB_HAVE_VULKAN
extern const gb_backend gb_vulkan_backend;
#endif

typedef struct gb_target {
    const gb_backend *backend;
    gb_backend_device *dev;
} gb_target;

static gb_expr *finish(gb_test_plan *t, gb_xb *b, int n_in, const gb_x *out, int n_out)
{
    gb_expr *e = gb_xb_finish(b, n_in, out, n_out, gb_arena_alloc_hook, t->arena);
    gb_xb_free(b);
    assert_non_null(e);
    return e;
}

/* relu(a + b) and a * b, the second in place of a. */
static gb_expr *two_results(gb_test_plan *t)
{
    gb_xb b = {0};
    gb_x x = gb_x_input(&b, 0, 'f'), y = gb_x_input(&b, 1, 'f');
    gb_x s = gb_x2(&b, GB_P_ADD, x, y);
    gb_x out[2] = {gb_x2(&b, GB_P_MAX, s, gb_x_const(&b, 0)), gb_x2(&b, GB_P_MUL, x, y)};
    return finish(t, &b, 2, out, 2);
}

static void space_of(gb_step *s, const gb_operand *o)
{
    s->rank = o->rank;
    memcpy(s->dim, o->dim, sizeof s->dim);
}

static void transpose(gb_operand *o, int a, int b)
{
    int64_t dim = o->dim[a], stride = o->stride[a];
    o->dim[a] = o->dim[b], o->stride[a] = o->stride[b];
    o->dim[b] = dim, o->stride[b] = stride;
}

static void pointwise_layouts(void **state)
{
    gb_target *g = *state;
    for (int c = 0; c < 5; c++) {
        gb_test_plan *t = gb_test_plan_create();
        gb_step *s = gb_test_step(t, GB_STEP_POINTWISE);
        s->n_in = s->n_out = 2;
        s->in[0] = gb_test_dense(t, GB_S_F32, -2, 2, 3, 5, 7, 33);
        s->in[1] = gb_test_dense(t, GB_S_F32, -2, 2, 3, 5, 7, 33);
        s->out[0] = gb_test_dense(t, GB_S_F32, 0, 1, 3, 5, 7, 33);
        if (c == 1) s->in[1].stride[0] = s->in[1].stride[1] = 0;      /* a row for all */
        if (c == 2) s->in[1].stride[1] = s->in[1].stride[2] = 0;      /* a number for a plane */
        if (c == 3) s->out[0] = gb_test_dense(t, GB_S_F32, 0, 1, 3, 33, 7, 5), transpose(&s->out[0], 0, 2);
        if (c == 4) { /* backwards */
            s->in[1].offset += 32 * 4;
            s->in[1].stride[2] = -1;
        }
        s->out[1] = s->in[0];
        space_of(s, &s->in[0]);
        s->expr = two_results(t);
        char name[32];
        snprintf(name, sizeof name, "layout %d", c);
        gb_test_compare(t, g->backend, g->dev, name, 1e-7);
        gb_test_plan_destroy(t);
    }
}

/* Every primitive on ordinary and on odd values. */
static gb_x apply(gb_xb *b, gb_prim p, const gb_x *arg)
{
    int n = gb_prim_arity(p);
    return n == 1 ? gb_x1(b, p, arg[0]) : n == 2 ? gb_x2(b, p, arg[0], arg[1])
                                                 : gb_x3(b, p, arg[0], arg[1], arg[2]);
}

enum { N_VALUES = 400 };

/* Ordinary values, every other one an odd one; operand i repeats them at its own pace, so that two
 * operands meet in most combinations. */
static gb_operand values(gb_test_plan *t, int i, char type)
{
    static const float odd[20] = {0.0f, -0.0f, 1, -1, INFINITY, -INFINITY, NAN, 0.5f, -0.5f, 1.5f,
                                  2.5f, 1e-20f, -1e-4f, 30, -30, 88, -87, 3e9f, -3e9f, 1e-3f};
    static const int32_t odd_int[9] = {0, 1, -1, INT32_MAX, INT32_MIN, 7, -7, 31, 33};
    bool f = type == 'f';
    gb_operand o = gb_test_dense(t, f ? GB_S_F32 : GB_S_I32, f ? -3 : -9, f ? 3 : 9, 1, N_VALUES);
    for (int k = 0; k < N_VALUES; k++) {
        if ((k + i) % 2 == 0) continue;
        if (f) gb_test_floats(t, &o)[k] = odd[k / (i ? 20 : 1) % 20];
        else gb_test_ints(t, &o)[k] = odd_int[k / (i ? 9 : 1) % 9];
    }
    return o;
}

/* One step computes up to GB_MAX_STEP_OUT primitives of one signature, from the first on. */
static int primitives_alike(gb_target *g, int first)
{
    gb_test_plan *t = gb_test_plan_create();
    gb_step *s = gb_test_step(t, GB_STEP_POINTWISE);
    const char *type = gb_prims[first].type;
    gb_xb b = {0};
    gb_x arg[3], out[GB_MAX_STEP_OUT];
    int p = first;
    s->n_in = gb_prim_arity((gb_prim)first), s->rank = 1, s->dim[0] = N_VALUES;
    for (int i = 0; i < s->n_in; i++) {
        s->in[i] = values(t, i, type[i]);
        arg[i] = gb_x_input(&b, i, type[i]);
    }
    for (int k = 0; first >= GB_P_SIN && first <= GB_P_TAN && k < N_VALUES; k++) {
        float *x = gb_test_floats(t, &s->in[0]);
        if (fabsf(x[k]) > 100) x[k] = 3; /* range reduction of huge angles is not asked for */
    }
    for (; p < GB_PRIM_COUNT && strcmp(gb_prims[p].type, type) == 0 && s->n_out < GB_MAX_STEP_OUT &&
           (first < GB_P_SIN) == (p < GB_P_SIN) && (first <= GB_P_TAN) == (p <= GB_P_TAN);
         p++) {
        bool integer = gb_prim_result((gb_prim)p) == 'i';
        out[s->n_out] = apply(&b, (gb_prim)p, arg);
        s->out[s->n_out++] =
            gb_test_dense(t, integer ? GB_S_I32 : GB_S_F32, 0, 1, 1, N_VALUES);
    }
    s->expr = finish(t, &b, s->n_in, out, s->n_out);
    /* 16 units in the last place are what OpenCL allows pow */
    gb_test_compare(t, g->backend, g->dev, gb_prims[first].name, 2e-6);
    gb_test_plan_destroy(t);
    return p;
}

static void pointwise_primitives(void **state)
{
    for (int p = GB_P_ADD; p < GB_P_RANDOM;) p = primitives_alike(*state, p);
}

static void random_is_philox(void **state)
{
    gb_target *g = *state;
    gb_test_plan *t = gb_test_plan_create();
    gb_step *s = gb_test_step(t, GB_STEP_POINTWISE);
    gb_xb b = {0};
    t->plan.scalars_buffer = gb_test_buffer(t, GB_S_I32, 2, 5, 5);
    t->plan.n_scalars = 2;
    t->plan.scalar_type = "ii";
    s->n_out = 1;
    s->out[0] = gb_test_dense(t, GB_S_F32, 0, 1, 3, 4, 3, 50);
    space_of(s, &s->out[0]);
    gb_x element = gb_x2(&b, GB_P_IADD, gb_x2(&b, GB_P_IMUL, gb_x_coord(&b, 1), gb_x_iconst(&b, 50)),
                         gb_x_coord(&b, 2));
    gb_x y = gb_x_random(&b, element, gb_x_coord(&b, 0), gb_x_scalar(&b, 1, 'i'),
                         gb_x_scalar(&b, 0, 'i'), 0xdeadbeefu);
    s->expr = finish(t, &b, 0, &y, 1);
    gb_test_compare(t, g->backend, g->dev, "random", 0);
    gb_test_plan_destroy(t);
}

/* sum, max and moments of x * 2 over some axes, by rows and by columns, split and not. */
static void reductions(void **state)
{
    gb_target *g = *state;
    static const struct { int kept, dim[3]; bool swap; } shape[] = {
        {2, {3, 5, 37}, false}, {1, {6, 9, 70}, false}, {0, {4, 50, 1000}, false},
        {1, {21, 40, 30}, true}, {2, {2, 19, 300}, true}, {1, {5, 1, 1}, false}, {2, {40, 1, 10}, true}};
    for (int c = 0; c < 7; c++) {
        gb_test_plan *t = gb_test_plan_create();
        gb_step *s = gb_test_step(t, GB_STEP_REDUCE);
        const int *d = shape[c].dim;
        s->n_in = 1;
        s->in[0] = shape[c].swap ? gb_test_dense(t, GB_S_F32, 1, 3, 3, d[2], d[1], d[0])
                                 : gb_test_dense(t, GB_S_F32, 1, 3, 3, d[0], d[1], d[2]);
        if (shape[c].swap) transpose(&s->in[0], 0, 2);
        if (c == 1) gb_test_floats(t, &s->in[0])[100] = NAN;
        space_of(s, &s->in[0]);
        s->n_kept = shape[c].kept;
        s->n_red = 3;
        s->red[0] = GB_SUM, s->red[1] = GB_MAX, s->red[2] = GB_MOMENTS;
        s->scale[0] = 0.25, s->scale[1] = s->scale[2] = 1;
        s->n_out = 4;
        for (int i = 0; i < 4; i++)
            s->out[i] = gb_test_dense(t, GB_S_F32, 0, 1, s->n_kept, d[0], d[1]);
        gb_xb b = {0};
        gb_x x = gb_x_input(&b, 0, 'f');
        gb_x scaled = gb_x2(&b, GB_P_MUL, x, gb_x_const(&b, 2));
        gb_x indexed = gb_x2(&b, GB_P_ADD, x, gb_x1(&b, GB_P_I2F, gb_x_coord(&b, 1)));
        gb_x out[3] = {scaled, indexed, x};
        s->expr = finish(t, &b, 1, out, 3);
        char name[32];
        snprintf(name, sizeof name, "reduction %d", c);
        gb_test_compare(t, g->backend, g->dev, name, 2e-6);
        gb_test_plan_destroy(t);
    }
}

static void extremes_are_found(void **state)
{
    gb_target *g = *state;
    for (int c = 0; c < 8; c++) {
        gb_test_plan *t = gb_test_plan_create();
        gb_step *s = gb_test_step(t, GB_STEP_ARGREDUCE);
        s->n_in = s->n_out = 1;
        s->in[0] = gb_test_dense(t, c & 4 ? GB_S_I32 : GB_S_F32, -3, 3, 2, 70, 11);
        if (!(c & 4)) gb_test_floats(t, &s->in[0])[14] = gb_test_floats(t, &s->in[0])[16] = NAN;
        s->out[0] = gb_test_dense(t, GB_S_I32, 0, 1, 1, 70);
        space_of(s, &s->in[0]);
        s->n_kept = 1;
        s->u.arg.min = c & 1, s->u.arg.last = c & 2;
        gb_test_compare(t, g->backend, g->dev, "argreduce", 0);
        gb_test_plan_destroy(t);
    }
}

/* relu(acc + bias) */
static gb_expr *bias_relu(gb_test_plan *t)
{
    gb_xb b = {0};
    gb_x y = gb_x2(&b, GB_P_MAX, gb_x2(&b, GB_P_ADD, gb_x_input(&b, 0, 'f'), gb_x_input(&b, 1, 'f')),
                   gb_x_const(&b, 0));
    return finish(t, &b, 2, &y, 1);
}

static void products(void **state)
{
    gb_target *g = *state;
    static const int size[][4] = {{1, 5, 7, 3}, {1, 33, 70, 50}, {3, 17, 10, 129}, {1, 64, 64, 64},
                                  {2, 1, 40, 1}, {1, 128, 10, 300}};
    for (int c = 0; c < 24; c++) {
        const int *d = size[c / 4];
        gb_test_plan *t = gb_test_plan_create();
        gb_step *s = gb_test_step(t, GB_STEP_MATMUL);
        s->n_in = 2, s->n_out = 1;
        bool ta = c & 1, tb = c & 2;
        s->in[0] = ta ? gb_test_dense(t, GB_S_F32, -1, 1, 3, d[0], d[3], d[1])
                      : gb_test_dense(t, GB_S_F32, -1, 1, 3, d[0], d[1], d[3]);
        s->in[1] = tb ? gb_test_dense(t, GB_S_F32, -1, 1, 3, d[0], d[2], d[3])
                      : gb_test_dense(t, GB_S_F32, -1, 1, 3, d[0], d[3], d[2]);
        if (ta) transpose(&s->in[0], 1, 2);
        if (tb) transpose(&s->in[1], 1, 2);
        s->out[0] = gb_test_dense(t, GB_S_F32, 0, 1, 3, d[0], d[1], d[2]);
        if (c & 1) {
            s->in[2] = gb_test_dense(t, GB_S_F32, -1, 1, 1, d[2]);
            s->in[2] = (gb_operand){.buffer = s->in[2].buffer, .offset = s->in[2].offset, .rank = 3,
                                    .dim = {d[0], d[1], d[2]}, .stride = {0, 0, 1}};
            s->n_in = 3;
            s->expr = bias_relu(t);
        }
        char name[48];
        snprintf(name, sizeof name, "matmul %d,%d,%d,%d case %d", d[0], d[1], d[2], d[3], c % 4);
        gb_test_compare(t, g->backend, g->dev, name, 1e-6 + 4e-8 * d[3]); /* sums of d[3] products */
        gb_test_plan_destroy(t);
    }
}

/* Longer than lavapipe runs loops: the product must be split. */
static void long_products(void **state)
{
    gb_target *g = *state;
    gb_test_plan *t = gb_test_plan_create();
    gb_step *s = gb_test_step(t, GB_STEP_MATMUL);
    s->n_in = 3, s->n_out = 1;
    s->in[0] = gb_test_dense(t, GB_S_F32, 0, 1, 3, 1, 5, 70000);
    s->in[1] = gb_test_dense(t, GB_S_F32, 0, 1, 3, 1, 70000, 9);
    s->in[2] = gb_test_dense(t, GB_S_F32, 0, 1, 3, 1, 5, 9);
    s->out[0] = gb_test_dense(t, GB_S_F32, 0, 1, 3, 1, 5, 9);
    s->expr = bias_relu(t);
    gb_test_compare(t, g->backend, g->dev, "long product", 1e-4);
    gb_test_plan_destroy(t);
}

static int run_on(const gb_backend *backend, const char *variant)
{
    gb_target g = {backend, gb_test_open(backend, variant)};
    if (!g.dev) {
        printf("no %s device: skipped\n", backend->name);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(pointwise_layouts, &g),
        cmocka_unit_test_prestate(pointwise_primitives, &g),
        cmocka_unit_test_prestate(random_is_philox, &g),
        cmocka_unit_test_prestate(reductions, &g),
        cmocka_unit_test_prestate(extremes_are_found, &g),
        cmocka_unit_test_prestate(products, &g),
        cmocka_unit_test_prestate(long_products, &g),
    };
    int failed = cmocka_run_group_tests_name(backend->name, tests, NULL, NULL);
    backend->close(g.dev);
    return failed;
}

int main(int argc, char **argv)
{
    const char *variant = argc > 1 ? argv[1] : NULL;
    int failed = 0;
#ifdef GB_HAVE_OPENCL
    failed += run_on(&gb_opencl_backend, variant);
#endif
#ifdef GB_HAVE_VULKAN
    failed += run_on(&gb_vulkan_backend, variant);
#endif
    return failed;
}
