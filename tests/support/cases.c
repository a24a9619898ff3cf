/* The plan cases: every step kind in ordinary and odd shapes. */
#include "tests/support/plan_case.h"

#include <stdio.h>
#include <string.h>

#define DIMS(...) ((const int64_t[]){__VA_ARGS__})
#define ORDER(...) ((const int[]){__VA_ARGS__})

static const int channels_last[4] = {0, 2, 3, 1};

/* --- pointwise --- */

static void space(gb_case *c, int rank, const int64_t *dim)
{
    c->step.rank = rank;
    for (int i = 0; i < rank; i++) c->step.dim[i] = dim[i];
}

static gb_fill fill_for(gb_prim p, int k)
{
    switch (p) {
    case GB_P_POW: return k ? GB_FILL_UNIFORM : GB_FILL_POSITIVE;
    case GB_P_SQRT: case GB_P_LOG: case GB_P_LOG1P: return GB_FILL_POSITIVE;
    case GB_P_ASIN: case GB_P_ACOS: case GB_P_TAN: return GB_FILL_UNIT;
    case GB_P_IADD: case GB_P_ISUB: case GB_P_IMUL: case GB_P_RANDOM: case GB_P_AND: case GB_P_OR:
    case GB_P_XOR: return GB_FILL_BITS;
    case GB_P_SHL: case GB_P_SHR: return k ? GB_FILL_SHIFT : GB_FILL_BITS;
    case GB_P_SELECT: case GB_P_ISELECT: return k ? GB_FILL_UNIFORM : GB_FILL_BOOL;
    default: return GB_FILL_UNIFORM;
    }
}

static gb_x apply(gb_xb *b, gb_prim p, const gb_x *in)
{
    if (p == GB_P_RANDOM) return gb_x_random(b, in[0], in[1], in[2], in[3], 77);
    int arity = gb_prim_arity(p);
    return arity == 1   ? gb_x1(b, p, in[0])
           : arity == 2 ? gb_x2(b, p, in[0], in[1])
                        : gb_x3(b, p, in[0], in[1], in[2]);
}

/* One primitive on its own. */
static void primitive(gb_case *c, gb_prim p, bool special)
{
    gb_case_start(c, GB_STEP_POINTWISE, "%s%s", gb_prims[p].name, special ? " special" : "");
    const char *type = gb_prims[p].type;
    const int64_t *dim = DIMS(3, 67);
    gb_xb b = {0};
    gb_x in[4], y;
    for (int k = 0; k < gb_prim_arity(p); k++) {
        gb_fill fill = fill_for(p, k);
        bool integer = type[k] == 'i';
        if (integer && fill == GB_FILL_UNIFORM) fill = GB_FILL_INTEGER;
        gb_case_in(c, integer ? GB_S_I32 : GB_S_F32, 2, dim, NULL,
                   special && !integer ? GB_FILL_SPECIAL : fill);
        in[k] = gb_x_input(&b, k, integer ? 'i' : 'f');
    }
    y = apply(&b, p, in);
    gb_case_out(c, gb_prim_result(p) == 'i' ? GB_S_I32 : GB_S_F32, 2, dim, NULL);
    space(c, 2, dim);
    gb_case_expr(c, &b, gb_prim_arity(p), &y, 1);
    c->tolerance = p == GB_P_POW || p == GB_P_TAN ? 1e-5 : 2e-6;
}

/* y = a * b + c with operands made by the caller. */
static void fused(gb_case *c, int rank, const int64_t *dim)
{
    gb_xb b = {0};
    gb_x a = gb_x_input(&b, 0, 'f'), m = gb_x_input(&b, 1, 'f'), d = gb_x_input(&b, 2, 'f');
    gb_x y = gb_x2(&b, GB_P_ADD, gb_x2(&b, GB_P_MUL, a, m), d);
    space(c, rank, dim);
    gb_case_expr(c, &b, 3, &y, 1);
}

static void broadcast(gb_case *c)
{
    gb_case_start(c, GB_STEP_POINTWISE, "broadcast");
    const int64_t *dim = DIMS(5, 7, 33);
    gb_case_in(c, GB_S_F32, 3, dim, NULL, GB_FILL_UNIFORM);
    gb_operand *row = gb_case_in(c, GB_S_F32, 3, DIMS(1, 1, 33), NULL, GB_FILL_UNIFORM);
    gb_operand *column = gb_case_in(c, GB_S_F32, 3, DIMS(5, 1, 1), NULL, GB_FILL_UNIFORM);
    for (int i = 0; i < 3; i++) row->dim[i] = column->dim[i] = dim[i];
    row->stride[0] = row->stride[1] = column->stride[1] = column->stride[2] = 0;
    gb_case_out(c, GB_S_F32, 3, dim, NULL);
    fused(c, 3, dim);
}

static void transposed(gb_case *c)
{
    gb_case_start(c, GB_STEP_POINTWISE, "transposed and channels-last");
    const int64_t *dim = DIMS(2, 5, 6, 9);
    gb_case_in(c, GB_S_F32, 4, dim, NULL, GB_FILL_UNIFORM);
    gb_case_in(c, GB_S_F32, 4, dim, channels_last, GB_FILL_UNIFORM);
    gb_case_in(c, GB_S_F32, 4, dim, ORDER(3, 1, 0, 2), GB_FILL_UNIFORM);
    gb_case_out(c, GB_S_F32, 4, dim, channels_last);
    fused(c, 4, dim);
}

static void flipped(gb_case *c)
{
    gb_case_start(c, GB_STEP_POINTWISE, "slices with gaps and negative strides");
    const int64_t *dim = DIMS(4, 10);
    for (int k = 0; k < 3; k++) {
        gb_operand *o = gb_case_in(c, GB_S_F32, 2, DIMS(8, 30), NULL, GB_FILL_UNIFORM);
        o->dim[0] = 4, o->dim[1] = 10;
        o->stride[0] *= 2, o->stride[1] *= 3;
        o->offset += 4;
        if (k != 1) continue;
        o->offset += 4 * (3 * 60 + 9 * 3);
        o->stride[0] *= -1, o->stride[1] *= -1;
    }
    gb_operand *y = gb_case_out(c, GB_S_F32, 2, DIMS(4, 20), NULL);
    y->dim[1] = 10, y->offset += 4 * 5; /* the middle columns */
    fused(c, 2, dim);
}

static void in_place(gb_case *c)
{
    gb_case_start(c, GB_STEP_POINTWISE, "in place");
    const int64_t *dim = DIMS(1000);
    for (int k = 0; k < 3; k++) gb_case_in(c, GB_S_F32, 1, dim, NULL, GB_FILL_UNIFORM);
    c->step.out[c->step.n_out++] = c->step.in[2];
    fused(c, 1, dim);
}

static void sized(gb_case *c, int rank, const int64_t *dim, const char *what)
{
    gb_case_start(c, GB_STEP_POINTWISE, "%s", what);
    for (int k = 0; k < 3; k++) gb_case_in(c, GB_S_F32, rank, dim, NULL, GB_FILL_UNIFORM);
    gb_case_out(c, GB_S_F32, rank, dim, NULL);
    fused(c, rank, dim);
}

static void narrow(gb_case *c, gb_storage s)
{
    gb_case_start(c, GB_STEP_POINTWISE, s == GB_S_F16 ? "f16" : "bf16");
    const int64_t *dim = DIMS(3, 41);
    gb_case_in(c, s, 2, dim, NULL, GB_FILL_UNIFORM);
    gb_case_in(c, GB_S_F32, 2, dim, NULL, GB_FILL_UNIFORM);
    gb_case_in(c, s, 2, dim, NULL, GB_FILL_UNIFORM);
    gb_case_out(c, s, 2, dim, NULL);
    fused(c, 2, dim);
}

static void coordinates(gb_case *c)
{
    gb_case_start(c, GB_STEP_POINTWISE, "coordinates, scalars, several outputs");
    const int64_t *dim = DIMS(3, 4, 5);
    gb_case_in(c, GB_S_F32, 3, dim, NULL, GB_FILL_UNIFORM);
    gb_case_out(c, GB_S_F32, 3, dim, NULL);
    gb_case_out(c, GB_S_I32, 3, dim, ORDER(2, 0, 1));
    gb_case_out(c, GB_S_F32, 3, dim, NULL);
    gb_case_scalars(c, "fifi", (double[]){0.37, 19, -2.5, -7});
    gb_xb b = {0};
    gb_x x = gb_x_input(&b, 0, 'f'), f = gb_x_scalar(&b, 0, 'f'), i = gb_x_scalar(&b, 3, 'i');
    gb_x at = gb_x2(&b, GB_P_IADD, gb_x2(&b, GB_P_IMUL, gb_x_coord(&b, 0), gb_x_iconst(&b, 100)),
                    gb_x2(&b, GB_P_IMUL, gb_x_coord(&b, 2), gb_x_coord(&b, 1)));
    gb_x out[3] = {gb_x2(&b, GB_P_MUL, x, f), gb_x2(&b, GB_P_IADD, at, i),
                   gb_x2(&b, GB_P_ADD, gb_x1(&b, GB_P_I2F, gb_x_scalar(&b, 1, 'i')),
                         gb_x2(&b, GB_P_SUB, x, gb_x_scalar(&b, 2, 'f')))};
    space(c, 3, dim);
    gb_case_expr(c, &b, 1, out, 3);
}

static void copy(gb_case *c, gb_storage s)
{
    gb_case_start(c, GB_STEP_POINTWISE, "copy of %s to channels-last", s == GB_S_I32 ? "i32" : "f32");
    const int64_t *dim = DIMS(2, 3, 8, 8);
    gb_case_in(c, s, 4, dim, NULL, s == GB_S_I32 ? GB_FILL_BITS : GB_FILL_UNIFORM);
    gb_case_out(c, s, 4, dim, channels_last);
    gb_xb b = {0};
    gb_x y = gb_x_input(&b, 0, s == GB_S_I32 ? 'i' : 'f');
    space(c, 4, dim);
    gb_case_expr(c, &b, 1, &y, 1);
}

/* A fill: no inputs at all. */
static void constant(gb_case *c)
{
    gb_case_start(c, GB_STEP_POINTWISE, "constant");
    gb_case_out(c, GB_S_F32, 1, DIMS(77), NULL);
    gb_xb b = {0};
    gb_x y = gb_x_const(&b, -3.25);
    space(c, 1, DIMS(77));
    gb_case_expr(c, &b, 0, &y, 1);
}

/* Random chains: many live values at once, repeated use. Comparisons read inputs alone, so that
 * rounding cannot turn them. */
static void chain(gb_case *c, int number)
{
    static const gb_prim smooth[] = {GB_P_ADD, GB_P_SUB, GB_P_MUL, GB_P_MIN, GB_P_MAX,
                                     GB_P_NEG, GB_P_ABS, GB_P_TANH, GB_P_SIN, GB_P_ERF};
    enum { INPUTS = 6, NODES = 40 };
    gb_case_start(c, GB_STEP_POINTWISE, "chain %d", number);
    const int64_t *dim = DIMS(7, 45);
    gb_xb b = {0};
    gb_x node[INPUTS + NODES], out[4];
    for (int k = 0; k < INPUTS; k++) {
        gb_case_in(c, GB_S_F32, 2, dim, NULL, GB_FILL_UNIFORM);
        node[k] = gb_x_input(&b, k, 'f');
    }
    uint32_t seed = (uint32_t)number * 977 + 5;
    for (int n = INPUTS; n < INPUTS + NODES; n++) {
        uint32_t r[3];
        for (int k = 0; k < 3; k++) r[k] = (seed = seed * 1664525u + 1013904223u) >> 10;
        gb_x x = node[r[0] % (uint32_t)n], y = node[r[1] % (uint32_t)n];
        gb_prim p = smooth[r[2] % (sizeof smooth / sizeof *smooth)];
        if (n % 7 == 0)
            node[n] = gb_x3(&b, GB_P_SELECT, gb_x2(&b, GB_P_LT, node[r[2] % INPUTS], node[0]), x, y);
        else node[n] = gb_prim_arity(p) == 1 ? gb_x1(&b, p, x)
                                             : gb_x1(&b, GB_P_TANH, gb_x2(&b, p, x, y));
    }
    for (int k = 0; k < 4; k++) {
        out[k] = node[INPUTS + NODES - 1 - k];
        gb_case_out(c, GB_S_F32, 2, dim, NULL);
    }
    space(c, 2, dim);
    gb_case_expr(c, &b, INPUTS, out, 4);
    c->tolerance = 2e-5;
}

/* --- reductions --- */

typedef struct reduce_case {
    const char *name;
    int rank, kept;
    int64_t dim[5];
    int order[5]; /* of the input's memory, axes in the step's order (kept first) */
} reduce_case;

static const reduce_case reductions[] = {
    {"rows", 2, 1, {7, 100}, {0, 1}},
    {"columns", 2, 1, {100, 37}, {1, 0}},
    {"everything", 3, 0, {5, 60, 31}, {0, 1, 2}},
    {"nothing", 2, 2, {4, 5}, {0, 1}},
    {"channels of NHWC", 4, 1, {19, 3, 6, 7}, {1, 2, 3, 0}},
    {"many pixels of NHWC", 4, 1, {96, 2, 27, 41}, {1, 2, 3, 0}},
    {"many pixels of many channels", 4, 1, {256, 1, 27, 41}, {1, 2, 3, 0}},
    {"many pixels of few channels", 4, 1, {19, 3, 27, 41}, {1, 2, 3, 0}},
    {"image of NHWC", 4, 2, {3, 19, 6, 7}, {0, 2, 3, 1}},
    {"empty axis", 2, 1, {6, 0}, {0, 1}},
    {"empty result", 2, 1, {0, 6}, {0, 1}},
    {"one element", 1, 0, {1}, {0}},
    {"long", 1, 0, {20011}, {0}},
    {"many short", 2, 1, {3001, 3}, {0, 1}},
    {"five axes", 5, 2, {2, 3, 4, 5, 6}, {4, 0, 3, 1, 2}},
};

static void reduce(gb_case *c, const reduce_case *r, gb_combine how, bool integer)
{
    static const char *const names[] = {"sum", "prod", "max", "min", "moments"};
    gb_case_start(c, GB_STEP_REDUCE, "%s%s, %s", names[how], integer ? " i32" : "", r->name);
    gb_storage s = integer ? GB_S_I32 : GB_S_F32;
    gb_case_in(c, s, r->rank, r->dim, r->order,
               integer ? GB_FILL_INTEGER : how == GB_PROD ? GB_FILL_POSITIVE : GB_FILL_UNIFORM);
    gb_xb b = {0};
    gb_x y = gb_x_input(&b, 0, integer ? 'i' : 'f');
    space(c, r->rank, r->dim);
    gb_case_expr(c, &b, 1, &y, 1);
    c->step.n_kept = r->kept;
    c->step.n_red = 1;
    c->step.red[0] = how;
    if (how == GB_SUM && !integer) c->step.scale[0] = 0.125;
    for (int k = 0; k < (how == GB_MOMENTS ? 2 : 1); k++) gb_case_out(c, s, r->kept, r->dim, NULL);
    c->tolerance = how == GB_PROD ? 1e-4 : 5e-6;
}

/* Several results of a fused expression: a softmax-like and a batch-norm-like gradient. */
static void reduce_fused(gb_case *c, const reduce_case *r)
{
    gb_case_start(c, GB_STEP_REDUCE, "several of an expression, %s", r->name);
    gb_xb b = {0};
    gb_x x[2];
    for (int k = 0; k < 2; k++) {
        gb_case_in(c, GB_S_F32, r->rank, r->dim, r->order, GB_FILL_UNIFORM);
        x[k] = gb_x_input(&b, k, 'f');
    }
    gb_x y[3] = {gb_x2(&b, GB_P_MUL, x[0], x[1]), gb_x1(&b, GB_P_EXP, x[0]),
                 gb_x2(&b, GB_P_SUB, x[0], x[1])};
    space(c, r->rank, r->dim);
    gb_case_expr(c, &b, 2, y, 3);
    c->step.n_kept = r->kept;
    c->step.n_red = 3;
    c->step.red[0] = GB_SUM, c->step.red[1] = GB_SUM, c->step.red[2] = GB_MAX;
    c->step.scale[0] = 2, c->step.scale[1] = 0.01;
    for (int k = 0; k < 3; k++) gb_case_out(c, GB_S_F32, r->kept, r->dim, NULL);
    c->tolerance = 1e-4; /* the first sum cancels: its terms add up to 4,000 times its size */
}

static void reduce_special(gb_case *c, gb_combine how)
{
    gb_case_start(c, GB_STEP_REDUCE, "%s of NaN and infinity", how == GB_MAX ? "max" : "min");
    gb_case_in(c, GB_S_F32, 2, DIMS(40, 4), NULL, GB_FILL_SPECIAL);
    gb_xb b = {0};
    gb_x y = gb_x_input(&b, 0, 'f');
    space(c, 2, DIMS(40, 4));
    gb_case_expr(c, &b, 1, &y, 1);
    c->step.n_kept = c->step.n_red = 1;
    c->step.red[0] = how;
    gb_case_out(c, GB_S_F32, 1, DIMS(40), NULL);
}

static void argreduce(gb_case *c, int number)
{
    bool min = number & 1, last = number & 2, special = number & 4;
    gb_case_start(c, GB_STEP_ARGREDUCE, "%s, %s%s", min ? "min" : "max", last ? "last" : "first",
                  special ? ", NaN and infinity" : "");
    const int64_t *dim = DIMS(33, 2, 21);
    gb_operand *x = gb_case_in(c, special ? GB_S_F32 : GB_S_I32, 3, dim, ORDER(2, 0, 1),
                               special ? GB_FILL_SPECIAL : GB_FILL_INTEGER);
    if (!special) gb_case_fill_range(c, x, -5, 5); /* many equal */
    gb_case_out(c, GB_S_I32, 2, dim, NULL);
    space(c, 3, dim);
    c->step.n_kept = 2;
    c->step.u.arg.min = min;
    c->step.u.arg.last = last;
}

/* --- contractions --- */

/* bias (broadcast over all but the last axis or the channels) and max(0, …), added to the step */
static void epilogue(gb_case *c, int channel_axis)
{
    const gb_operand *y = &c->step.out[0];
    gb_operand *bias = gb_case_in(c, GB_S_F32, 1, &y->dim[channel_axis], NULL, GB_FILL_UNIFORM);
    bias->rank = y->rank;
    for (int i = 0; i < y->rank; i++) {
        bias->dim[i] = y->dim[i];
        bias->stride[i] = i == channel_axis;
    }
    gb_xb b = {0};
    gb_x v = gb_x2(&b, GB_P_MAX, gb_x2(&b, GB_P_ADD, gb_x_input(&b, 0, 'f'), gb_x_input(&b, 1, 'f')),
                   gb_x_const(&b, 0));
    gb_case_expr(c, &b, 2, &v, 1);
}

typedef struct matmul_case {
    int64_t batch, m, n, k;
    bool ta, tb, shared_b, bias;
    gb_storage storage; /* of the operands and the result, where matrix units are tried */
    const char *half;   /* operands and results in f16: what to try on them */
} matmul_case;

static const matmul_case matmuls[] = {
    {1, 1, 1, 1},          {1, 5, 7, 3},           {1, 64, 64, 64},        {1, 33, 65, 17},
    {1, 33, 65, 17, true}, {1, 33, 65, 17, false, true}, {1, 33, 65, 17, true, true},
    {1, 1, 130, 70},       {1, 130, 1, 70},        {1, 128, 10, 200, false, true, false, true},
    {1, 40, 48, 1},        {1, 4, 6, 0},           {1, 0, 6, 5},           {3, 17, 19, 23},
    {3, 17, 19, 23, true, true}, {4, 9, 16, 20, false, false, true}, {2, 31, 33, 35, false, true, false, true},
    {1, 100, 96, 300, false, false, false, true}, {1, 10, 300, 128, true},
    {2, 3, 70, 600, false, true, false, true}, {1, 90, 8, 700, true, false, false, true},
    {1, 1, 40, 2100},      {1, 1030, 40, 9}, /* B in panels even where it lies in rows */
    {2, 70, 136, 40, .bias = true, .storage = GB_S_F16}, {1, 33, 72, 500, true, .storage = GB_S_F16},
    {3, 9, 20, 16, false, true, true, .storage = GB_S_F16},
    {2, 40, 72, 48, .tb = true, .bias = true, .storage = GB_S_BF16},
    {1, 40, 72, 96, .half = ".half128 .packed64 .half_tall"},
    {2, 33, 65, 70, .ta = true, .tb = true, .bias = true, .half = ".half64 .packed_flat"},
};

/* 16-bit operands are loaded alike by all other variants; building each kernel takes time. */
static const char on_matrix_units[] = ".matrix128 .matrix64 .matrix32";

static void name_storage(gb_case *c, gb_storage s)
{
    const size_t n = strlen(c->name);
    if (s != GB_S_F32)
        snprintf(c->name + n, sizeof c->name - n, " %s", s == GB_S_F16 ? "f16" : "bf16");
}

/* Operands and results in f16, with leave to round on the way: see gb_math. Forms and sizes of tiles
 * meet in one text, and drivers take a second to build it: each of them is tried somewhere. */
static void in_halves(gb_case *c, const char *tries)
{
    c->step.fast = true;
    c->tolerance = 2e-4;
    c->tries = tries;
}

static void matmul(gb_case *c, const matmul_case *m)
{
    gb_storage s = m->half ? GB_S_F16 : m->storage;
    gb_case_start(c, GB_STEP_MATMUL, "%lldx%lldx%lldx%lld%s%s%s%s", (long long)m->batch,
                  (long long)m->m, (long long)m->n, (long long)m->k, m->ta ? " At" : "",
                  m->tb ? " Bt" : "", m->shared_b ? " shared B" : "", m->bias ? " bias relu" : "");
    name_storage(c, s);
    int rank = m->batch > 1 ? 3 : 2;
    const int64_t *a = DIMS(m->batch, m->m, m->k), *b = DIMS(m->batch, m->k, m->n),
                  *y = DIMS(m->batch, m->m, m->n);
    const int *swapped = rank == 3 ? ORDER(0, 2, 1) : ORDER(1, 0);
    int skip = 3 - rank;
    gb_case_in(c, s, rank, a + skip, m->ta ? swapped : NULL, GB_FILL_UNIFORM);
    gb_operand *ob = gb_case_in(c, s, rank, b + skip, m->tb ? swapped : NULL, GB_FILL_UNIFORM);
    if (m->shared_b) ob->stride[0] = 0;
    gb_case_out(c, s, rank, y + skip, NULL);
    if (m->bias) epilogue(c, rank - 1);
    c->tolerance = 1e-5;
    if (m->storage != GB_S_F32) c->tries = on_matrix_units;
    if (m->half) in_halves(c, m->half);
}

typedef struct conv_case {
    int64_t n, c, h, w, o, kh, kw, stride, pad, dilation, groups;
    bool bias, fast, half;
    gb_storage storage; /* of the operands and the result, where they are tried on matrix units */
} conv_case;

static const conv_case convs[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1},      {2, 3, 8, 8, 5, 3, 3, 1, 1, 1, 1, true},
    {2, 16, 9, 7, 16, 3, 3, 1, 1, 1, 1, true}, {1, 17, 6, 6, 19, 3, 3, 1, 0, 1, 1},
    {2, 16, 8, 8, 32, 3, 3, 2, 1, 1, 1, true}, {2, 16, 8, 8, 24, 1, 1, 2, 0, 1, 1},
    {1, 8, 8, 8, 8, 1, 1, 1, 0, 1, 1, true}, {2, 4, 11, 5, 6, 5, 3, 1, 2, 1, 1},
    {1, 6, 9, 9, 9, 3, 3, 1, 2, 2, 3},      {2, 8, 7, 7, 8, 3, 3, 1, 1, 1, 8, true},
    {2, 8, 7, 7, 16, 3, 3, 2, 1, 1, 8},     {3, 5, 1, 20, 4, 1, 3, 1, 1, 1, 1},
    {1, 3, 20, 20, 8, 7, 7, 2, 3, 1, 1, true}, {1, 2, 4, 4, 3, 3, 3, 3, 2, 2, 1},
    {2, 64, 6, 6, 64, 3, 3, 1, 1, 1, 1, true}, {0, 3, 4, 4, 2, 3, 3, 1, 1, 1, 1},
    {1, 32, 12, 12, 48, 3, 3, 1, 1, 1, 2},  {2, 1, 28, 28, 32, 3, 3, 1, 1, 1, 1, true},
    {1, 4, 3, 3, 4, 3, 3, 1, 0, 1, 1},      {1, 4, 8, 8, 4, 2, 2, 3, 0, 1, 1},
    {3, 32, 7, 9, 48, 3, 3, 1, 1, 1, 1, true}, {3, 48, 9, 11, 32, 3, 3, 1, 1, 1, 1, true, true},
    {2, 64, 8, 8, 32, 3, 3, 1, 0, 1, 1, false, true}, {5, 32, 6, 8, 64, 3, 3, 1, 2, 1, 1},
    /* more turns of Winograd's tiles than workers, than shares of sums; blocks that are not alike */
    {36, 16, 16, 16, 16, 3, 3, 1, 1, 1, 1, true, true},
    {2, 24, 9, 10, 40, 3, 3, 1, 1, 1, 1, true}, {1, 136, 8, 7, 137, 3, 3, 1, 1, 1, 1, true, true},
    {7, 32, 15, 16, 48, 3, 3, 1, 1, 1, 1, true}, {1, 144, 7, 8, 160, 3, 3, 1, 1, 1, 1},
    /* the same with stride 2, where places share filters */
    {5, 32, 15, 14, 48, 3, 3, 2, 1, 1, 1, true}, {3, 48, 16, 15, 40, 3, 3, 2, 1, 1, 1, true, true},
    {36, 16, 16, 16, 32, 3, 3, 2, 1, 1, 1, true, true}, {3, 32, 17, 18, 32, 3, 3, 2, 0, 1, 1, false, true},
    {1, 136, 15, 14, 137, 3, 3, 2, 1, 1, 1, true, true}, {2, 24, 16, 14, 32, 3, 3, 2, 2, 1, 1},
    /* images smaller than a tile of F(4x4), where that pays and where F(2x2) does */
    {9, 32, 3, 3, 48, 3, 3, 1, 1, 1, 1, true, true}, {20, 48, 2, 2, 32, 3, 3, 1, 1, 1, 1, true, true},
    {2, 32, 9, 10, 32, 3, 3, 1, 1, 1, 32, true}, {2, 16, 11, 9, 16, 5, 5, 2, 2, 1, 16, true},
    {1, 4, 12, 13, 4, 3, 2, 3, 1, 2, 4, true},
    {2, 16, 9, 7, 40, 3, 3, 2, 1, 1, 1, true, .storage = GB_S_F16},
    {1, 10, 7, 6, 14, 3, 2, 1, 2, 2, 2, true, .storage = GB_S_F16},
    {1, 12, 6, 7, 10, 2, 3, 1, 1, 1, 1, true, .storage = GB_S_BF16},
    {2, 24, 7, 6, 20, 3, 3, 1, 1, 1, 1, true, .half = true},
};

static int64_t conv_out(int64_t in, int64_t kernel, const conv_case *v)
{
    return (in + 2 * v->pad - (kernel - 1) * v->dilation - 1) / v->stride + 1;
}

static void conv(gb_case *c, const conv_case *v, gb_step_kind kind)
{
    gb_storage s = v->half ? GB_S_F16 : v->storage;
    gb_case_start(c, kind, "%lldx%lldx%lldx%lld to %lld, %lldx%lld s%lld p%lld d%lld g%lld%s",
                  (long long)v->n, (long long)v->c, (long long)v->h, (long long)v->w, (long long)v->o,
                  (long long)v->kh, (long long)v->kw, (long long)v->stride, (long long)v->pad,
                  (long long)v->dilation, (long long)v->groups,
                  v->bias && kind != GB_STEP_CONV_FILTER ? " bias" : "");
    name_storage(c, s);
    const int64_t *x = DIMS(v->n, v->c, v->h, v->w), *w = DIMS(v->o, v->c / v->groups, v->kh, v->kw);
    const int64_t *y = DIMS(v->n, v->o, conv_out(v->h, v->kh, v), conv_out(v->w, v->kw, v));
    const int64_t *in0 = kind == GB_STEP_CONV_INPUT ? y : x, *in1 = kind == GB_STEP_CONV_FILTER ? y : w;
    const int64_t *out = kind == GB_STEP_CONV ? y : kind == GB_STEP_CONV_INPUT ? x : w;
    gb_case_in(c, s, 4, in0, channels_last, GB_FILL_UNIFORM);
    gb_case_in(c, s, 4, in1, channels_last, GB_FILL_UNIFORM);
    gb_case_out(c, v->half && kind == GB_STEP_CONV_FILTER ? GB_S_F32 : s, 4, out, channels_last);
    c->step.u.conv = (gb_window){.kernel = {v->kh, v->kw}, .stride = {v->stride, v->stride},
                                 .dilation = {v->dilation, v->dilation}, .pad = {v->pad, v->pad},
                                 .pad_end = {v->pad, v->pad}, .groups = v->groups};
    if (v->bias && kind != GB_STEP_CONV_FILTER) epilogue(c, 1);
    c->step.fast = v->fast;
    c->tolerance = v->fast ? 1e-4 : 1e-5; /* F(4x4) is less accurate: see facts */
    if (v->storage != GB_S_F32) c->tries = on_matrix_units;
    if (v->half) in_halves(c, kind == GB_STEP_CONV ? ".half32 .packed128" : ".half_flat .packed32");
    if (kind == GB_STEP_CONV_FILTER && v->half) c->tolerance = 1e-5; /* f32: never packed */
}

/* --- pools --- */

typedef struct pool_case {
    int64_t n, c, h, w, kh, kw, stride, pad, dilation, end; /* end: padding at the end */
    bool count_pad, ceil;
} pool_case;

static const pool_case pools[] = {
    {2, 3, 8, 8, 2, 2, 2, 0, 1, 0},         {2, 16, 9, 7, 3, 3, 2, 1, 1, 1},
    {2, 5, 9, 7, 3, 3, 2, 1, 1, 1, true},   {1, 4, 7, 7, 2, 2, 2, 0, 1, 0, false, true},
    {1, 4, 7, 7, 3, 2, 2, 1, 1, 1, true, true}, {1, 17, 6, 6, 6, 6, 1, 0, 1, 0},
    {1, 3, 9, 9, 3, 3, 1, 1, 2, 2},         {0, 3, 4, 4, 2, 2, 2, 0, 1, 0},
    {2, 8, 1, 12, 1, 3, 3, 0, 1, 0},
};

static int64_t pool_out(int64_t in, int64_t kernel, const pool_case *v)
{
    int64_t room = in + v->pad + v->end - (kernel - 1) * v->dilation - 1;
    return (v->ceil ? room + v->stride - 1 : room) / v->stride + 1;
}

/* The forward index of each maximum: any element of its window that lies in the image. */
static void pool_indices(gb_case *c, const pool_case *v, gb_operand *index)
{
    gb_case_fill_range(c, index, 0, v->h * v->w);
}

static void pool(gb_case *c, const pool_case *v, gb_step_kind kind)
{
    gb_case_start(c, kind, "%lldx%lldx%lldx%lld, %lldx%lld s%lld p%lld-%lld d%lld%s%s",
                  (long long)v->n, (long long)v->c, (long long)v->h, (long long)v->w,
                  (long long)v->kh, (long long)v->kw, (long long)v->stride, (long long)v->pad,
                  (long long)v->end, (long long)v->dilation, v->count_pad ? " counts padding" : "",
                  v->ceil ? " ceil" : "");
    const int64_t *x = DIMS(v->n, v->c, v->h, v->w);
    const int64_t *y = DIMS(v->n, v->c, pool_out(v->h, v->kh, v), pool_out(v->w, v->kw, v));
    bool gradient = kind == GB_STEP_MAXPOOL_GRAD || kind == GB_STEP_AVGPOOL_GRAD;
    gb_case_in(c, GB_S_F32, 4, gradient ? y : x, channels_last, GB_FILL_UNIFORM);
    if (kind == GB_STEP_MAXPOOL_GRAD)
        pool_indices(c, v, gb_case_in(c, GB_S_I32, 4, y, channels_last, GB_FILL_INTEGER));
    gb_case_out(c, GB_S_F32, 4, gradient ? x : y, channels_last);
    if (kind == GB_STEP_MAXPOOL && !v->ceil) gb_case_out(c, GB_S_I32, 4, y, channels_last);
    c->step.u.conv = (gb_window){.kernel = {v->kh, v->kw}, .stride = {v->stride, v->stride},
                                 .dilation = {v->dilation, v->dilation}, .pad = {v->pad, v->pad},
                                 .pad_end = {v->end, v->end}, .groups = 1,
                                 .count_pad = v->count_pad};
}

static void pool_special(gb_case *c)
{
    pool_case v = {2, 3, 12, 12, 3, 3, 2, 1, 1, 1};
    pool(c, &v, GB_STEP_MAXPOOL);
    snprintf(c->name, sizeof c->name, "maxpool of NaN and infinity");
    gb_operand x = gb_case_operand(c, GB_S_F32, 4, c->step.in[0].dim, channels_last, GB_FILL_SPECIAL);
    c->step.in[0] = x;
}

/* --- gather --- */

static void gather(gb_case *c, int number, bool gradient)
{
    static const int64_t shapes[][4] = { /* outer, rows, inner, n */
        {1, 10, 8, 6}, {3, 7, 1, 20}, {1, 50, 64, 33}, {2, 5, 3, 0}, {1, 1, 1, 1}, {4, 9, 17, 11},
    };
    const int64_t *v = shapes[number % 6];
    bool integer = !gradient && number >= 6;
    gb_storage s = integer ? GB_S_I32 : GB_S_F32;
    gb_case_start(c, gradient ? GB_STEP_GATHER_GRAD : GB_STEP_GATHER, "%lldx%lldx%lld by %lld%s",
                  (long long)v[0], (long long)v[1], (long long)v[2], (long long)v[3],
                  integer ? " i32" : "");
    const int64_t *rows = DIMS(v[0], v[1], v[2]), *picked = DIMS(v[0], v[3], v[2]);
    gb_case_in(c, s, 3, gradient ? picked : rows, NULL, integer ? GB_FILL_BITS : GB_FILL_UNIFORM);
    gb_case_fill_range(c, gb_case_in(c, GB_S_I32, 1, DIMS(v[3]), NULL, GB_FILL_INTEGER), -v[1] - 1,
                       v[1] + 1);
    gb_case_out(c, s, 3, gradient ? rows : picked, NULL);
}

/* --- the list --- */

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static bool special_rules(gb_prim p)
{
    return (p >= GB_P_ADD && p <= GB_P_MAX) || (p >= GB_P_FLOOR && p <= GB_P_LOG) ||
           p == GB_P_TANH || p == GB_P_ERF || (p >= GB_P_LT && p <= GB_P_SELECT) || p == GB_P_F2I;
}

static bool make_pointwise(gb_case *c, int i)
{
    int prims = GB_PRIM_COUNT - GB_P_ADD;
    if (i < prims) return primitive(c, (gb_prim)(GB_P_ADD + i), false), true;
    i -= prims;
    for (int p = GB_P_ADD; p < GB_PRIM_COUNT; p++)
        if (special_rules((gb_prim)p) && i-- == 0) return primitive(c, (gb_prim)p, true), true;
    switch (i) {
    case 0: return broadcast(c), true;
    case 1: return transposed(c), true;
    case 2: return flipped(c), true;
    case 3: return in_place(c), true;
    case 4: return sized(c, 1, DIMS(0), "empty"), true;
    case 5: return sized(c, 0, NULL, "rank 0"), true;
    case 6: return sized(c, 8, DIMS(2, 1, 3, 2, 2, 1, 2, 5), "rank 8"), true;
    case 7: return sized(c, 1, DIMS(100003), "large"), true;
    case 8: return sized(c, 3, DIMS(4, 0, 5), "empty axis"), true;
    case 9: return narrow(c, GB_S_F16), true;
    case 10: return narrow(c, GB_S_BF16), true;
    case 11: return coordinates(c), true;
    case 12: return copy(c, GB_S_F32), true;
    case 13: return copy(c, GB_S_I32), true;
    case 14: return constant(c), true;
    default: return i < 27 ? chain(c, i - 15), true : false;
    }
}

static bool make_reduction(gb_case *c, int i)
{
    int n = COUNT(reductions);
    if (i < n * 5) {
        const reduce_case *r = &reductions[i / 5];
        gb_combine how = (gb_combine)(i % 5);
        return reduce(c, r, how, false), true;
    }
    i -= n * 5;
    if (i < n) return reduce_fused(c, &reductions[i]), true;
    i -= n;
    if (i < 4) return reduce(c, &reductions[i % 2], i < 2 ? GB_SUM : GB_MAX, true), true;
    i -= 4;
    if (i < 2) return reduce_special(c, i ? GB_MIN : GB_MAX), true;
    i -= 2;
    return i < 8 ? argreduce(c, i), true : false;
}

static bool make_contraction(gb_case *c, int i)
{
    if (i < COUNT(matmuls)) return matmul(c, &matmuls[i]), true;
    i -= COUNT(matmuls);
    if (i >= 3 * COUNT(convs)) return false;
    return conv(c, &convs[i / 3], (gb_step_kind)(GB_STEP_CONV + i % 3)), true;
}

static bool make_rest(gb_case *c, int i)
{
    if (i < 4 * COUNT(pools))
        return pool(c, &pools[i / 4], (gb_step_kind)(GB_STEP_MAXPOOL + i % 4)), true;
    i -= 4 * COUNT(pools);
    if (i == 0) return pool_special(c), true;
    i--;
    if (i < 12) return gather(c, i, false), true;
    i -= 12;
    return i < 6 ? gather(c, i, true), true : false;
}

bool gb_case_next(gb_case *c, int at[2])
{
    static bool (*const groups[])(gb_case *, int) = {make_pointwise, make_reduction,
                                                     make_contraction, make_rest};
    for (; at[0] < COUNT(groups); at[0]++, at[1] = 0)
        if (groups[at[0]](c, at[1]++)) return true;
    return false;
}
