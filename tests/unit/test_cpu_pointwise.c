/* Primitives and pointwise steps on the CPU against the float64 reference. */
#include "step_check.h"

#include <float.h>

#include "core/base/half.h"

/* --- primitives, by units in the last place --- */

static const double specials[] = {0.0,       -0.0,  1,     -1,     0.5,     -0.5,         2,
                                  -2,        3,     10,    -10,    88.5,    -87.3,        -103.9,
                                  89,        1e-8,  -1e-8, 1e-40,  -1e-40,  1e10,         -1e10,
                                  3e38,      -3e38, 1e-20, 0x1p31, -0x1p31, 2147483520.0, INFINITY,
                                  -INFINITY, NAN,   0.92,  3.94,   4.2,     0.7071};
static const double integers[] = {0, 1, -1, 2, -2, 7, -7, 31, 33, 2147483647.0, -2147483648.0};
#define N_SPECIAL ((int)(sizeof specials / sizeof *specials))
#define N_INTEGER ((int)(sizeof integers / sizeof *integers))
#define N 3000

static double allowed_ulps(gb_prim p)
{
    switch (p) {
    case GB_P_EXP:
    case GB_P_LOG:
    case GB_P_LOG1P:
    case GB_P_EXPM1:
    case GB_P_TANH:
    case GB_P_ERF:
        return 4;
    case GB_P_POW:
    case GB_P_SIN:
    case GB_P_COS:
    case GB_P_TAN:
    case GB_P_ASIN:
    case GB_P_ACOS:
    case GB_P_ATAN:
        return 2;
    default:
        return 0.5;
    }
}

static double ulps(float got, double want)
{
    float rounded = (float)want;
    if (isnan(got) || isnan(rounded)) return isnan(got) && isnan(rounded) ? 0 : INFINITY;
    if (isinf(got) || isinf(rounded)) return got == rounded ? 0 : INFINITY;
    int e;
    frexp(want, &e);
    return fabs(got - want) / ldexp(1, (e < -125 ? -125 : e) - 24);
}

/* Arguments: all pairs of special values, then random ones of many magnitudes. */
static double argument(check *c, char type, int k, int i)
{
    if (type == 'i') {
        int n = k ? i / N_INTEGER : i;
        return n < N_INTEGER * N_INTEGER ? integers[n % N_INTEGER]
                                         : floor(4e9 * random_unit(c)) - 2e9;
    }
    int n = k ? i / N_SPECIAL : i;
    if (n < N_SPECIAL * N_SPECIAL && i < N_SPECIAL * N_SPECIAL) return specials[n % N_SPECIAL];
    return (float)ldexp(2 * random_unit(c) - 1, (int)(16 * random_unit(c)) - 8);
}

/* bits of mask: which arguments are one element for all. */
static void check_primitive(gb_prim p, const char *isa, int mask)
{
    int arity = gb_prim_arity(p);
    check c;
    gb_x x[4], y;
    const int64_t dim[1] = {N}, one[1] = {0};
    check_begin(&c, GB_STEP_POINTWISE, 1, dim);
    for (int k = 0; k < arity; k++) {
        char type = gb_prims[p].type[k];
        bool scalar = mask >> k & 1;
        add_in(&c, scalar ? window(&c, type, 1, dim, one) : dense(&c, type, 1, dim, NULL));
        for (int i = 0; i < (scalar ? 1 : N); i++)
            put_value(&c, k, PAD + i, argument(&c, type, k, scalar ? 3 + mask : i));
        x[k] = gb_x_input(&c.xb, k, type);
    }
    add_out(&c, dense(&c, gb_prim_result(p), 1, dim, NULL));
    y = p == GB_P_RANDOM ? gb_x_random(&c.xb, x[0], x[1], x[2], x[3], 0xdeadbeef)
        : arity == 1     ? gb_x1(&c.xb, p, x[0])
        : arity == 2     ? gb_x2(&c.xb, p, x[0], x[1])
                         : gb_x3(&c.xb, p, x[0], x[1], x[2]);
    set_expr(&c, arity, &y, 1);
    uint32_t *got[MAX_BUFFERS];
    gb_backend_options o = {.threads = 1, .isa = isa};
    run_on(&c, &gb_cpu_backend, &o, got);
    for (int i = 0; i < N; i++) {
        double v[4];
        for (int k = 0; k < arity; k++) {
            uint32_t w = c.data[k][PAD + (mask >> k & 1 ? 0 : i)];
            v[k] = c.type[k] == 'f' ? (double)gb_bits_f32(w) : (double)(int32_t)w;
        }
        double want = gb_prims[p].eval(v, (double)0xdeadbeef);
        if (p == GB_P_EXP && want < FLT_MIN) want = 0; /* a denormal result is 0 */
        uint32_t w = got[arity][PAD + i];
        double error = gb_prim_result(p) == 'f'      ? ulps(gb_bits_f32(w), want)
                       : (int32_t)w == (int32_t)want ? 0
                                                     : INFINITY;
        if (!(error <= allowed_ulps(p)))
            fail_msg("%s %s mask %d (%.9g, %.9g): %.9g, not %.9g: %g ulp", isa, gb_prims[p].name,
                     mask, v[0], v[1], gb_prim_result(p) == 'f' ? gb_bits_f32(w) : (int32_t)w, want,
                     error);
    }
    drop(&c, got);
    for (int b = 0; b < c.n_buffers; b++) free(c.data[b]);
    gb_xb_free(&c.xb);
    gb_arena_destroy(c.arena);
}

static void primitives_are_accurate(void **state)
{
    (void)state;
    static const char *const isas[] = {"scalar", "avx2", "avx512"};
    for (int k = 0; k < 3; k++) {
        if (!has_isa(isas[k])) continue;
        for (int p = GB_P_ADD; p < GB_PRIM_COUNT; p++)
            for (int mask = 0; mask < 1 << gb_prim_arity(p); mask++)
                check_primitive(p, isas[k], mask);
    }
}

/* --- steps --- */

static gb_x op2(check *c, gb_prim p, gb_x a, gb_x b)
{
    return gb_x2(&c->xb, p, a, b);
}

/* (x - m) * s + b per channel, relu: NHWC images, dense, with a count that is no multiple of tiles.
 */
static void channels(int64_t n, int64_t ch, int64_t h, int64_t w)
{
    static const int last[4] = {0, 2, 3, 1};
    const int64_t dim[4] = {n, ch, h, w}, channel[4] = {0, 1, 0, 0};
    check c;
    check_begin(&c, GB_STEP_POINTWISE, 4, dim);
    add_in(&c, dense(&c, 'f', 4, dim, last));
    for (int k = 0; k < 3; k++) add_in(&c, window(&c, 'f', 4, dim, channel));
    add_out(&c, dense(&c, 'f', 4, dim, last));
    gb_x x = gb_x_input(&c.xb, 0, 'f'), m = gb_x_input(&c.xb, 1, 'f');
    gb_x v = gb_x_input(&c.xb, 2, 'f'), b = gb_x_input(&c.xb, 3, 'f');
    gb_x s = op2(&c, GB_P_DIV, gb_x_const(&c.xb, 1),
                 gb_x1(&c.xb, GB_P_SQRT,
                       op2(&c, GB_P_ADD, op2(&c, GB_P_MUL, v, v), gb_x_const(&c.xb, 1e-5))));
    gb_x y = op2(&c, GB_P_ADD, op2(&c, GB_P_MUL, op2(&c, GB_P_SUB, x, m), s), b);
    y = op2(&c, GB_P_MAX, y, gb_x_const(&c.xb, 0));
    set_expr(&c, 4, &y, 1);
    check_end(&c);
}

static void channels_broadcast(void **state)
{
    (void)state;
    channels(3, 5, 7, 9);
    channels(2, 64, 33, 17);
    channels(2, 1500, 3, 3);
    channels(1, 5000, 1, 3);
    channels(40, 10, 1, 1);
    channels(1, 1, 1, 1);
    channels(0, 4, 2, 2);
}

static gb_x relu(check *c, gb_x x)
{
    gb_x zero = gb_x_const(&c->xb, 0);
    return gb_x3(&c->xb, GB_P_SELECT, op2(c, GB_P_LT, x, zero), zero, x);
}

/* What is rewritten into fewer passes: relu of a residual block's end, and a normalization's
 * gradient; a NaN stays one; a value that is read twice stays as it is. */
static void rewritten_trees(void **state)
{
    (void)state;
    static const int last[4] = {0, 2, 3, 1};
    const int64_t dim[4] = {3, 24, 7, 11}, channel[4] = {0, 1, 0, 0};
    for (int kind = 0; kind < 4; kind++) {
        check c;
        check_begin(&c, GB_STEP_POINTWISE, 4, dim);
        gb_x x[7];
        for (int k = 0; k < 7; k++) {
            add_in(&c, k < 2 ? dense(&c, 'f', 4, dim, last) : window(&c, 'f', 4, dim, channel));
            x[k] = gb_x_input(&c.xb, k, 'f');
        }
        put_value(&c, 0, PAD + 77, NAN);
        gb_x h = op2(&c, GB_P_MUL, op2(&c, GB_P_SUB, x[0], x[2]), x[3]), out[2];
        if (kind == 0) {
            out[0] = op2(&c, GB_P_ADD, op2(&c, GB_P_MUL, h, x[4]), x[5]);
            out[0] = relu(&c, op2(&c, GB_P_ADD, out[0], x[1]));
        } else if (kind == 3) { /* gelu */
            gb_x e = gb_x1(&c.xb, GB_P_ERF, op2(&c, GB_P_MUL, x[0], gb_x_const(&c.xb, 0.7071068)));
            out[0] = op2(&c, GB_P_MUL, op2(&c, GB_P_MUL, gb_x_const(&c.xb, 0.5), x[0]),
                         op2(&c, GB_P_ADD, gb_x_const(&c.xb, 1), e));
        } else {
            gb_x q = op2(&c, GB_P_ADD, x[5], op2(&c, GB_P_MUL, h, x[6]));
            q = op2(&c, GB_P_MUL, op2(&c, GB_P_MUL, x[2], gb_x_const(&c.xb, 0.01)), q);
            q = op2(&c, GB_P_SUB, op2(&c, GB_P_MUL, x[1], x[4]), q);
            out[0] = op2(&c, GB_P_MUL, x[3], q);
        }
        out[1] = op2(&c, GB_P_SUB, h, x[1]);
        add_out(&c, dense(&c, 'f', 4, dim, last));
        if (kind == 2) add_out(&c, dense(&c, 'f', 4, dim, NULL));
        set_expr(&c, 7, out, kind == 2 ? 2 : 1);
        check_end(&c);
    }
}

/* value < limit ? limit : value, or the other way round. */
static gb_x limited(check *c, gb_x v, double limit, bool below)
{
    gb_x k = gb_x_const(&c->xb, limit);
    gb_x outside = below ? op2(c, GB_P_LT, v, k) : op2(c, GB_P_LT, k, v);
    return gb_x3(&c->xb, GB_P_SELECT, outside, k, v);
}

/* Limits on both sides in either order, and comparisons with what they leave: at the limits, at
 * equal limits, above each other, and for a NaN. */
static void limits_and_masks(void **state)
{
    (void)state;
    static const double limits[][3] = {{0, 6, 3},  {0, 6, 0}, {0, 6, 6},
                                       {-1, 1, 2}, {2, 2, 2}, {3, -3, 0}};
    const int64_t dim[1] = {1000};
    for (int kind = 0; kind < 24; kind++) {
        const double *l = limits[kind / 4];
        bool low_first = kind & 1;
        check c;
        check_begin(&c, GB_STEP_POINTWISE, 1, dim);
        add_in(&c, dense(&c, 'f', 1, dim, NULL));
        add_in(&c, dense(&c, 'f', 1, dim, NULL));
        for (int i = 0; i < 1000; i++)
            put_value(&c, 0, PAD + i, i == 77 ? NAN : (i % 31) * 0.5 - 6);
        gb_x v = gb_x_input(&c.xb, 0, 'f'), w = gb_x_input(&c.xb, 1, 'f');
        v = op2(&c, GB_P_ADD, op2(&c, GB_P_MUL, v, gb_x_const(&c.xb, 2)), gb_x_const(&c.xb, 1));
        gb_x once = limited(&c, v, l[!low_first], low_first);
        gb_x twice = limited(&c, once, l[low_first], !low_first), k = gb_x_const(&c.xb, l[2]);
        gb_x mask = op2(&c, kind & 2 ? GB_P_LT : GB_P_LE, twice, k);
        gb_x other = op2(&c, kind & 2 ? GB_P_LE : GB_P_LT, k, once);
        gb_x out[2] = {op2(&c, GB_P_MUL, w, twice),
                       gb_x3(&c.xb, GB_P_SELECT, mask, gb_x_const(&c.xb, 0),
                             gb_x3(&c.xb, GB_P_SELECT, other, gb_x_const(&c.xb, -1), w))};
        for (int i = 0; i < 2; i++) add_out(&c, dense(&c, 'f', 1, dim, NULL));
        set_expr(&c, 2, out, 2);
        check_end(&c);
    }
}

/* Statistics of groups: short runs that repeat over all pixels of an image. */
static void patterns_repeat(void **state)
{
    (void)state;
    const int64_t dims[][4] = {
        {3, 50, 8, 4}, {2, 300, 3, 5}, {5, 7, 64, 9}, {4, 1, 8, 4}, {2, 9, 2, 70}};
    for (int k = 0; k < 5; k++) {
        const int64_t *dim = dims[k], group[4] = {dim[2], 0, 1, 0}, mixed[4] = {0, dim[3], 0, 1};
        check c;
        check_begin(&c, GB_STEP_POINTWISE, 4, dim);
        add_in(&c, dense(&c, 'f', 4, dim, NULL));
        add_in(&c, window(&c, 'f', 4, dim, group));
        add_in(&c, window(&c, 'f', 4, dim, mixed));
        add_out(&c, dense(&c, 'f', 4, dim, NULL));
        gb_x y = op2(&c, GB_P_SUB, gb_x_input(&c.xb, 0, 'f'), gb_x_input(&c.xb, 1, 'f'));
        y = op2(&c, GB_P_MUL, y, gb_x_input(&c.xb, 2, 'f'));
        set_expr(&c, 3, &y, 1);
        check_end(&c);
    }
}

static void strides_of_all_kinds(void **state)
{
    (void)state;
    const int64_t dim[3] = {13, 37, 11};
    const int64_t in[][3] = {{1, 13, 481}, {-407, 11, 1}, {0, 1, 0}, {1, 0, 0},
                             {0, 0, -1},   {900, -24, 2}, {0, 0, 0}, {407, 11, 1}};
    for (int k = 0; k < 7; k++) {
        check c;
        check_begin(&c, GB_STEP_POINTWISE, 3, dim);
        add_in(&c, window(&c, 'f', 3, dim, in[k]));
        add_in(&c, window(&c, 'f', 3, dim, in[k + 1]));
        add_out(&c, window(&c, 'f', 3, dim, in[k % 2 ? 5 : 7]));
        add_out(&c, window(&c, 'i', 3, dim, in[0]));
        gb_x a = gb_x_input(&c.xb, 0, 'f'), b = gb_x_input(&c.xb, 1, 'f');
        gb_x at = op2(&c, GB_P_IADD, gb_x_coord(&c.xb, 2),
                      op2(&c, GB_P_IMUL, gb_x_coord(&c.xb, 0), gb_x_iconst(&c.xb, 1000)));
        gb_x out[2] = {op2(&c, GB_P_ADD, op2(&c, GB_P_MUL, a, b), gb_x1(&c.xb, GB_P_I2F, at)),
                       op2(&c, GB_P_ISUB, at, gb_x_coord(&c.xb, 1))};
        set_expr(&c, 2, out, 2);
        check_end(&c);
    }
}

/* Momentum: p and v in place, a rate from the step scalars; v's new value is used for p's. */
static void updates_in_place(void **state)
{
    (void)state;
    for (int exchange = 0; exchange < 2; exchange++) {
        const int64_t dim[1] = {70001}, two[1] = {2};
        check c;
        check_begin(&c, GB_STEP_POINTWISE, 1, dim);
        gb_operand scalars = dense(&c, 'f', 1, two, NULL);
        memmove(c.data[scalars.buffer], (float[2]){0.1f, 0}, 8);
        c.n_scalars = 2;
        c.data[0][1] = 3;
        gb_operand p = dense(&c, 'f', 1, dim, NULL), v = dense(&c, 'f', 1, dim, NULL);
        add_in(&c, p);
        add_in(&c, v);
        add_in(&c, dense(&c, 'f', 1, dim, NULL));
        add_out(&c, exchange ? p : v);
        add_out(&c, exchange ? v : p);
        gb_x x[3], rate = gb_x_scalar(&c.xb, 0, 'f');
        for (int k = 0; k < 3; k++) x[k] = gb_x_input(&c.xb, k, 'f');
        rate = op2(&c, GB_P_MUL, rate, gb_x1(&c.xb, GB_P_I2F, gb_x_scalar(&c.xb, 1, 'i')));
        gb_x m = op2(&c, GB_P_ADD, op2(&c, GB_P_MUL, x[1], gb_x_const(&c.xb, 0.9)), x[2]);
        gb_x q = op2(&c, GB_P_SUB, x[0], op2(&c, GB_P_MUL, rate, m));
        set_expr(&c, 3, exchange ? (gb_x[2]){x[1], x[0]} : (gb_x[2]){m, q}, 2);
        check_end(&c);
    }
}

/* Many live values, constants as results, one value for two outputs, an input passed on. */
static void outputs_of_all_kinds(void **state)
{
    (void)state;
    const int64_t dim[2] = {50, 41}, column[2] = {1, 0};
    check c;
    check_begin(&c, GB_STEP_POINTWISE, 2, dim);
    add_in(&c, dense(&c, 'f', 2, dim, NULL));
    add_in(&c, window(&c, 'f', 2, dim, column));
    for (int k = 0; k < 5; k++) add_out(&c, dense(&c, 'f', 2, dim, (int[2]){k == 3, k != 3}));
    gb_x a = gb_x_input(&c.xb, 0, 'f'), b = gb_x_input(&c.xb, 1, 'f'), live[12], sum;
    for (int k = 0; k < 12; k++)
        live[k] = op2(&c, GB_P_MUL, a, op2(&c, GB_P_ADD, b, gb_x_const(&c.xb, k)));
    sum = live[0];
    for (int k = 11; k > 0; k--) sum = op2(&c, GB_P_MIN, sum, live[k]);
    gb_x out[5] = {sum, sum, gb_x_const(&c.xb, 2.5), gb_x_const(&c.xb, -1), a};
    set_expr(&c, 2, out, 5);
    check_end(&c);
}

static void halves_are_converted(void **state)
{
    (void)state;
    const int64_t dim[1] = {1000};
    for (int s = GB_S_F16; s <= GB_S_BF16; s++) {
        check c;
        check_begin(&c, GB_STEP_POINTWISE, 1, dim);
        gb_operand x = dense(&c, 'i', 1, dim, NULL), y = dense(&c, 'i', 1, dim, NULL);
        x.storage = y.storage = (gb_storage)s;
        for (int64_t i = 0; i < c.words[0]; i++) c.data[0][i] = 0x3c003b00u + (uint32_t)i * 65537u;
        add_in(&c, x);
        add_out(&c, y);
        gb_x v = gb_x_input(&c.xb, 0, 'f');
        v = op2(&c, GB_P_ADD, v, gb_x_const(&c.xb, 1));
        set_expr(&c, 1, &v, 1);
        check_end(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(primitives_are_accurate), cmocka_unit_test(channels_broadcast),
        cmocka_unit_test(rewritten_trees),         cmocka_unit_test(strides_of_all_kinds),
        cmocka_unit_test(updates_in_place),        cmocka_unit_test(outputs_of_all_kinds),
        cmocka_unit_test(halves_are_converted),    cmocka_unit_test(limits_and_masks),
        cmocka_unit_test(patterns_repeat)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
