/* Pointwise operators: each is an expression over its inputs' elements. */
#include <math.h>
#include <string.h>

#include "core/ir/ops/ops.h"

#define X1(p, a) gb_x1(b, GB_P_##p, a)
#define X2(p, a, c) gb_x2(b, GB_P_##p, a, c)
#define X3(p, a, c, d) gb_x3(b, GB_P_##p, a, c, d)
#define K(v) gb_x_const(b, v)
#define OP(name) static gb_x name(gb_xb *b, const gb_node *n, const gb_x *x)
#define GRAD(name) \
    static gb_x name(gb_xb *b, const gb_node *n, const gb_x *x, gb_x y, gb_x dy, int k)
#define ATTR(name) K(gb_node_float(n, name))
#define PI 3.14159265358979323846

/* The float or the integer primitive, by the type of the first argument. */
static gb_x arith(gb_xb *b, gb_prim real, gb_prim whole, gb_x a, gb_x c)
{
    return gb_x2(b, gb_x_type(b, a) == 'i' ? whole : real, a, c);
}

static gb_x zero_like(gb_xb *b, gb_x a)
{
    return gb_x_type(b, a) == 'i' ? gb_x_iconst(b, 0) : K(0);
}

static gb_x choose(gb_xb *b, gb_x condition, gb_x yes, gb_x no)
{
    return gb_x3(b, gb_x_type(b, yes) == 'i' ? GB_P_ISELECT : GB_P_SELECT, condition, yes, no);
}

static gb_x less(gb_xb *b, gb_x a, gb_x c)
{
    return arith(b, GB_P_LT, GB_P_ILT, a, c);
}

/* --- arithmetic --- */
OP(add) { return arith(b, GB_P_ADD, GB_P_IADD, x[0], x[1]); }
OP(sub) { return arith(b, GB_P_SUB, GB_P_ISUB, x[0], x[1]); }
OP(mul) { return arith(b, GB_P_MUL, GB_P_IMUL, x[0], x[1]); }
OP(divide) { return arith(b, GB_P_DIV, GB_P_IDIV, x[0], x[1]); }
OP(neg) { return gb_x_type(b, x[0]) == 'i' ? X2(ISUB, gb_x_iconst(b, 0), x[0]) : X1(NEG, x[0]); }

OP(absolute)
{
    if (gb_x_type(b, x[0]) == 'f') return X1(ABS, x[0]);
    gb_x zero = gb_x_iconst(b, 0);
    return choose(b, less(b, x[0], zero), X2(ISUB, zero, x[0]), x[0]);
}

OP(sign)
{
    bool real = gb_x_type(b, x[0]) == 'f';
    gb_x zero = zero_like(b, x[0]), one = real ? K(1) : gb_x_iconst(b, 1);
    gb_x minus = real ? K(-1) : gb_x_iconst(b, -1);
    /* the last x[0] is 0 or NaN, which stays */
    return choose(b, less(b, x[0], zero), minus, choose(b, less(b, zero, x[0]), one, x[0]));
}

static gb_x fold(gb_xb *b, const gb_node *n, const gb_x *x, gb_prim real, gb_prim whole)
{
    gb_x y = x[0];
    for (int k = 1; k < n->n_in; k++) y = arith(b, real, whole, y, x[k]);
    return y;
}

OP(minimum) { return fold(b, n, x, GB_P_MIN, GB_P_IMIN); }
OP(maximum) { return fold(b, n, x, GB_P_MAX, GB_P_IMAX); }
OP(sum) { return fold(b, n, x, GB_P_ADD, GB_P_IADD); }
OP(mean) { return X2(MUL, fold(b, n, x, GB_P_ADD, GB_P_IADD), K(1.0 / n->n_in)); }

static gb_x to_float(gb_xb *b, gb_x a)
{
    return gb_x_type(b, a) == 'i' ? X1(I2F, a) : a;
}

OP(power)
{
    gb_x y = X2(POW, to_float(b, x[0]), to_float(b, x[1]));
    return gb_x_type(b, x[0]) == 'i' ? X1(F2I, X1(RINT, y)) : y;
}

static void infer_power(gb_graph *g, const gb_node *n)
{
    gb_shape s;
    if (!gb_broadcast(gb_shape_ptr(g, n->in[0]), gb_shape_ptr(g, n->in[1]), &s))
        gb_node_fail(g, n, "shapes must be equal or 1", "shapes do not broadcast");
    else gb_set_output(g, n, 0, gb_dtype_at(g, n->in[0]), &s);
}

OP(modulo)
{
    gb_x r = arith(b, GB_P_FMOD, GB_P_IMOD, x[0], x[1]), zero = zero_like(b, r);
    if (gb_node_int(n, "fmod")) return r;
    /* Python's: the sign of the divisor */
    gb_x differs = X2(XOR, less(b, r, zero), less(b, x[1], zero));
    gb_x is_zero = arith(b, GB_P_EQ, GB_P_IEQ, r, zero);
    gb_x other = X2(AND, differs, X2(IEQ, is_zero, gb_x_iconst(b, 0)));
    return choose(b, other, arith(b, GB_P_ADD, GB_P_IADD, r, x[1]), r);
}

OP(reciprocal) { return X2(DIV, K(1), x[0]); }
OP(square_root) { return X1(SQRT, x[0]); }
GRAD(square_root_grad) { return X2(DIV, X2(MUL, K(0.5), dy), y); }
OP(exponential) { return X1(EXP, x[0]); }
GRAD(exponential_grad) { return X2(MUL, dy, y); }
OP(logarithm) { return X1(LOG, x[0]); }
OP(error_function) { return X1(ERF, x[0]); }
OP(floor_) { return X1(FLOOR, x[0]); }
OP(ceil_) { return X1(CEIL, x[0]); }
OP(round_) { return X1(RINT, x[0]); }
OP(sine) { return X1(SIN, x[0]); }
OP(cosine) { return X1(COS, x[0]); }
OP(tangent) { return X1(TAN, x[0]); }
OP(arcsine) { return X1(ASIN, x[0]); }
OP(arccosine) { return X1(ACOS, x[0]); }
OP(arctangent) { return X1(ATAN, x[0]); }
/* 0.5 exp(x) as (0.5 exp(x/2)) exp(x/2), which does not overflow before the result does */
static gb_x half_exp(gb_xb *b, gb_x x)
{
    gb_x h = X1(EXP, X2(MUL, K(0.5), x));
    return X2(MUL, X2(MUL, K(0.5), h), h);
}

static gb_x cosh_of(gb_xb *b, gb_x x) { return X2(ADD, half_exp(b, x), half_exp(b, X1(NEG, x))); }

OP(hyperbolic_sine) /* near 0, where the difference would cancel: (m + m / (m + 1)) / 2, m = exp(x) - 1 */
{
    gb_x m = X1(EXPM1, x[0]), near = X2(MUL, K(0.5), X2(ADD, m, X2(DIV, m, X2(ADD, m, K(1)))));
    gb_x far = X2(SUB, half_exp(b, x[0]), half_exp(b, X1(NEG, x[0])));
    return choose(b, less(b, X1(ABS, x[0]), K(1)), near, far);
}
GRAD(hyperbolic_sine_grad) { return X2(MUL, dy, cosh_of(b, x[0])); }
OP(hyperbolic_cosine) { return cosh_of(b, x[0]); }
GRAD(hyperbolic_cosine_grad) { return X2(MUL, dy, X2(SUB, half_exp(b, x[0]), half_exp(b, X1(NEG, x[0])))); }
OP(area_tangent) { return X2(MUL, K(0.5), X1(LOG1P, X2(DIV, X2(MUL, K(2), x[0]), X2(SUB, K(1), x[0])))); }
/* log(2a), for a so large that a² + 1 is a² (and would overflow): what inverse hyperbolics become */
static gb_x unless_huge(gb_xb *b, gb_x a, gb_x y)
{
    return choose(b, less(b, K(1e9), a), X2(ADD, X1(LOG, a), K(0.69314718055994531)), y);
}

static gb_x area_root(gb_xb *b, gb_x x) /* sqrt(x² - 1): NaN below 1, on the negative side too */
{
    return X2(MUL, X1(SQRT, X2(SUB, x, K(1))), X1(SQRT, X2(ADD, x, K(1))));
}

OP(area_cosine) { return unless_huge(b, x[0], X1(LOG, X2(ADD, x[0], area_root(b, x[0])))); }
GRAD(area_cosine_grad) { return X2(DIV, dy, area_root(b, x[0])); }

OP(area_sine) /* sign(x) log1p(|x| + x²/(1 + sqrt(1 + x²))): exact for small x */
{
    gb_x a = X1(ABS, x[0]), q = X2(MUL, x[0], x[0]);
    gb_x root = X1(SQRT, X2(ADD, q, K(1)));
    gb_x y = unless_huge(b, a, X1(LOG1P, X2(ADD, a, X2(DIV, q, X2(ADD, root, K(1))))));
    return choose(b, less(b, x[0], K(0)), X1(NEG, y), y);
}
GRAD(area_sine_grad) { return X2(DIV, dy, X1(SQRT, X2(ADD, X2(MUL, x[0], x[0]), K(1)))); }

/* --- activations --- */
OP(relu) { return choose(b, less(b, x[0], zero_like(b, x[0])), zero_like(b, x[0]), x[0]); }
GRAD(relu_grad) { return choose(b, X2(LE, y, K(0)), K(0), dy); } /* reads y, which is kept anyway */

OP(leaky_relu) { return choose(b, less(b, x[0], K(0)), X2(MUL, ATTR("alpha"), x[0]), x[0]); }
OP(parametric_relu) { return choose(b, less(b, x[0], K(0)), X2(MUL, x[1], x[0]), x[0]); }
OP(thresholded_relu) { return choose(b, less(b, ATTR("alpha"), x[0]), x[0], K(0)); }

/* exp(x) - 1 for x <= 0 only: the other branch of a select would bring 0 · inf into gradients */
static gb_x negative_expm1(gb_xb *b, gb_x x)
{
    return X1(EXPM1, choose(b, less(b, x, K(0)), x, K(0)));
}

OP(elu) { return choose(b, less(b, x[0], K(0)), X2(MUL, ATTR("alpha"), negative_expm1(b, x[0])), x[0]); }

OP(selu)
{
    gb_x low = X2(MUL, ATTR("alpha"), negative_expm1(b, x[0]));
    return X2(MUL, ATTR("gamma"), choose(b, less(b, x[0], K(0)), low, x[0]));
}

OP(celu)
{
    gb_x a = ATTR("alpha");
    return choose(b, less(b, x[0], K(0)), X2(MUL, a, negative_expm1(b, X2(DIV, x[0], a))), x[0]);
}

static gb_x logistic(gb_xb *b, gb_x x)
{
    return X2(DIV, K(1), X2(ADD, K(1), X1(EXP, X1(NEG, x))));
}

OP(sigmoid) { return logistic(b, x[0]); }
GRAD(sigmoid_grad) { return X2(MUL, dy, X2(MUL, y, X2(SUB, K(1), y))); }
OP(tanh_) { return X1(TANH, x[0]); }
GRAD(tanh_grad) { return X2(MUL, dy, X2(SUB, K(1), X2(MUL, y, y))); }

static gb_x clamp(gb_xb *b, gb_x x, gb_x low, gb_x high)
{
    gb_x y = high < 0 ? x : choose(b, less(b, high, x), high, x);
    return low < 0 ? y : choose(b, less(b, y, low), low, y);
}

OP(clip) /* a limit that lies above the other: the upper one wins, as in ONNX */
{
    gb_x low = n->n_in > 1 ? x[1] : -1, high = n->n_in > 2 ? x[2] : -1;
    gb_x y = low < 0 ? x[0] : choose(b, less(b, x[0], low), low, x[0]);
    return high < 0 ? y : choose(b, less(b, high, y), high, y);
}

OP(hard_sigmoid) { return clamp(b, X2(ADD, X2(MUL, ATTR("alpha"), x[0]), ATTR("beta")), K(0), K(1)); }

OP(hard_swish)
{
    return X2(MUL, x[0], clamp(b, X2(ADD, X2(MUL, x[0], K(1.0 / 6)), K(0.5)), K(0), K(1)));
}

static gb_x softplus_of(gb_xb *b, gb_x x) /* max(x, 0) + log1p(exp(-|x|)) */
{
    return X2(ADD, X2(MAX, x, K(0)), X1(LOG1P, X1(EXP, X1(NEG, X1(ABS, x)))));
}

OP(softplus) { return softplus_of(b, x[0]); }
GRAD(softplus_grad) { return X2(MUL, dy, logistic(b, x[0])); }
OP(softsign) { return X2(DIV, x[0], X2(ADD, K(1), X1(ABS, x[0]))); }
/* 1 - tanh(softplus(x)) = 2 / (w² + 2w + 2) with w = exp(x), cut where tanh is 1 anyway */
static gb_x mish_rest(gb_xb *b, gb_x x, gb_x *tanh_)
{
    gb_x w = X1(EXP, X2(MIN, x, K(20))), p = X2(MUL, w, X2(ADD, w, K(2))), q = X2(ADD, p, K(2));
    *tanh_ = X2(DIV, p, q);
    return X2(DIV, K(2), q);
}

OP(mish)
{
    gb_x t;
    mish_rest(b, x[0], &t);
    return X2(MUL, x[0], t);
}

GRAD(mish_grad) /* t + x (1 - t²) sigmoid(x), t = tanh(softplus(x)) */
{
    gb_x t, rest = mish_rest(b, x[0], &t), slope = X2(MUL, X2(MUL, rest, X2(ADD, K(1), t)), logistic(b, x[0]));
    return X2(MUL, dy, X2(ADD, t, X2(MUL, X2(MIN, x[0], K(20)), slope)));
}

OP(swish) { return X2(MUL, x[0], logistic(b, X2(MUL, ATTR("alpha"), x[0]))); }

/* x times the share of a normal distribution below x, or its approximation by a logistic one (which is
 * what 0.5 (1 + tanh(u)) is) of 2u, u = sqrt(2/pi) (x + 0.044715 x³). */
static gb_x gelu_share(gb_xb *b, const gb_node *n, gb_x x)
{
    if (strcmp(gb_node_string(n, "approximate"), "tanh") != 0)
        return X2(MUL, K(0.5), X2(ADD, K(1), X1(ERF, X2(MUL, x, K(sqrt(0.5))))));
    gb_x cube = X2(MUL, x, X2(MUL, x, x));
    return logistic(b, X2(MUL, K(2 * sqrt(2 / PI)), X2(ADD, x, X2(MUL, K(0.044715), cube))));
}

OP(gelu) { return X2(MUL, x[0], gelu_share(b, n, x[0])); }

GRAD(gelu_grad) /* share + x share' */
{
    gb_x share = gelu_share(b, n, x[0]), q = X2(MUL, x[0], x[0]), density;
    if (strcmp(gb_node_string(n, "approximate"), "tanh") == 0) {
        gb_x inner = X2(MUL, K(2 * sqrt(2 / PI)), X2(ADD, K(1), X2(MUL, K(3 * 0.044715), q)));
        density = X2(MUL, X2(MUL, share, X2(SUB, K(1), share)), inner);
    } else {
        density = X2(MUL, K(1 / sqrt(2 * PI)), X1(EXP, X2(MUL, K(-0.5), q)));
    }
    return X2(MUL, dy, X2(ADD, share, X2(MUL, x[0], density)));
}

OP(shrink)
{
    gb_x lambd = ATTR("lambd"), bias = ATTR("bias");
    return choose(b, less(b, x[0], X1(NEG, lambd)), X2(ADD, x[0], bias),
                  choose(b, less(b, lambd, x[0]), X2(SUB, x[0], bias), K(0)));
}

/* --- comparison, logic, choice --- */
OP(equal) { return arith(b, GB_P_EQ, GB_P_IEQ, x[0], x[1]); }
OP(less_) { return less(b, x[0], x[1]); }
OP(less_equal) { return arith(b, GB_P_LE, GB_P_ILE, x[0], x[1]); }
OP(greater) { return less(b, x[1], x[0]); }
OP(greater_equal) { return arith(b, GB_P_LE, GB_P_ILE, x[1], x[0]); }
OP(and_) { return X2(AND, x[0], x[1]); }
OP(or_) { return X2(OR, x[0], x[1]); }
OP(xor_) { return X2(XOR, x[0], x[1]); }
OP(not_) { return X2(IEQ, x[0], gb_x_iconst(b, 0)); }
OP(bit_not) { return X2(XOR, x[0], gb_x_iconst(b, -1)); }
OP(where) { return choose(b, x[0], x[1], x[2]); }
OP(is_nan) { return X2(NE, x[0], x[0]); }

OP(is_inf)
{
    gb_x high = X2(EQ, x[0], K(INFINITY)), low = X2(EQ, x[0], K(-INFINITY));
    gb_x zero = gb_x_iconst(b, 0);
    return X2(OR, gb_node_int(n, "detect_positive") ? high : zero,
              gb_node_int(n, "detect_negative") ? low : zero);
}

OP(identity) { return x[0]; }

/* --- Cast: ONNX's numbers of types --- */
static const struct { int onnx; gb_dtype dtype; } onnx_types[] = {
    {1, GB_F32}, {2, GB_U8}, {3, GB_I8}, {4, GB_U16}, {5, GB_I16}, {6, GB_I32}, {7, GB_I64},
    {9, GB_BOOL}, {10, GB_F16}, {11, GB_F64}, {12, GB_U32}, {13, GB_U64}, {16, GB_BF16}};

static void infer_cast(gb_graph *g, const gb_node *n)
{
    int64_t to = gb_node_int(n, "to");
    for (size_t i = 0; i < sizeof onnx_types / sizeof *onnx_types; i++)
        if (onnx_types[i].onnx == to) {
            gb_set_output(g, n, 0, onnx_types[i].dtype, gb_shape_ptr(g, n->in[0]));
            return;
        }
    gb_node_fail(g, n, "use a type of docs/operators.md", "there is no data type %lld",
                 (long long)to);
}

OP(cast)
{
    int64_t to = gb_node_int(n, "to");
    bool real = to == 1 || to == 10 || to == 11 || to == 16, from_int = gb_x_type(b, x[0]) == 'i';
    if (to == 9) {
        if (from_int) return X2(IEQ, X2(IEQ, x[0], gb_x_iconst(b, 0)), gb_x_iconst(b, 0));
        return X2(NE, x[0], K(0));
    }
    if (real) return from_int ? X1(I2F, x[0]) : x[0];
    return from_int ? x[0] : X1(F2I, x[0]);
}

static const char step_like[] = "is piecewise constant";
static const char boolean[] = "gives booleans";
#define UNARY(op, fn) .name = op, .min_in = 1, .max_in = 1, .max_out = 1, .pointwise = fn
#define BINARY(op, fn) .name = op, .min_in = 2, .max_in = 2, .max_out = 1, .pointwise = fn
#define FLOAT_ATTR(key, value) {.name = key, .type = GB_ATTR_FLOAT, .number = value}
#define INT_ATTR(key, value) {.name = key, .type = GB_ATTR_INT, .number = value}

const gb_op gb_ops_pointwise[] = {
    {BINARY("Add", add)},
    {BINARY("Sub", sub)},
    {BINARY("Mul", mul), .needs = GB_NEEDS_INPUT},
    {BINARY("Div", divide), .needs = GB_NEEDS_INPUT},
    {BINARY("Pow", power), .needs = GB_NEEDS_INPUT, .types = GB_T_CUSTOM, .infer = infer_power,
     .tolerance = 1e-5},
    {BINARY("Mod", modulo), .needs = GB_NEEDS_INPUT, .attr = {INT_ATTR("fmod", 0)}},
    {.name = "Min", .min_in = 1, .max_in = 8, .max_out = 1, .pointwise = minimum, .needs = GB_NEEDS_INPUT},
    {.name = "Max", .min_in = 1, .max_in = 8, .max_out = 1, .pointwise = maximum, .needs = GB_NEEDS_INPUT},
    {.name = "Sum", .min_in = 1, .max_in = 8, .max_out = 1, .pointwise = sum},
    {.name = "Mean", .min_in = 1, .max_in = 8, .max_out = 1, .pointwise = mean, .types = GB_T_FLOAT},
    {UNARY("Neg", neg)},
    {UNARY("Abs", absolute), .needs = GB_NEEDS_INPUT},
    {UNARY("Sign", sign), .not_differentiable = step_like},
    {UNARY("Floor", floor_), .types = GB_T_FLOAT, .not_differentiable = step_like},
    {UNARY("Ceil", ceil_), .types = GB_T_FLOAT, .not_differentiable = step_like},
    {UNARY("Round", round_), .types = GB_T_FLOAT, .not_differentiable = step_like},
    {UNARY("Reciprocal", reciprocal), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("Sqrt", square_root), .types = GB_T_FLOAT, .needs = GB_NEEDS_OUTPUT,
     .pointwise_gradient = square_root_grad},
    {UNARY("Exp", exponential), .types = GB_T_FLOAT, .needs = GB_NEEDS_OUTPUT,
     .pointwise_gradient = exponential_grad},
    {UNARY("Log", logarithm), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("Erf", error_function), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("Sin", sine), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("Cos", cosine), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("Tan", tangent), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT, .tolerance = 1e-5},
    {UNARY("Asin", arcsine), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("Acos", arccosine), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("Atan", arctangent), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("Sinh", hyperbolic_sine), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT,
     .pointwise_gradient = hyperbolic_sine_grad},
    {UNARY("Cosh", hyperbolic_cosine), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT,
     .pointwise_gradient = hyperbolic_cosine_grad},
    {UNARY("Asinh", area_sine), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT,
     .pointwise_gradient = area_sine_grad},
    {UNARY("Acosh", area_cosine), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT, .tolerance = 1e-5,
     .pointwise_gradient = area_cosine_grad},
    {UNARY("Atanh", area_tangent), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT, .tolerance = 1e-5},

    {UNARY("Relu", relu), .needs = GB_NEEDS_OUTPUT, .pointwise_gradient = relu_grad},
    {UNARY("LeakyRelu", leaky_relu), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT,
     .attr = {FLOAT_ATTR("alpha", 0.01)}},
    {BINARY("PRelu", parametric_relu), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("ThresholdedRelu", thresholded_relu), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT,
     .attr = {FLOAT_ATTR("alpha", 1)}},
    {UNARY("Elu", elu), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT, .attr = {FLOAT_ATTR("alpha", 1)}},
    {UNARY("Selu", selu), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT,
     .attr = {FLOAT_ATTR("alpha", 1.67326319217681884765625),
              FLOAT_ATTR("gamma", 1.05070102214813232421875)}},
    {UNARY("Celu", celu), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT, .attr = {FLOAT_ATTR("alpha", 1)}},
    {UNARY("Sigmoid", sigmoid), .types = GB_T_FLOAT, .needs = GB_NEEDS_OUTPUT,
     .pointwise_gradient = sigmoid_grad},
    {UNARY("Tanh", tanh_), .types = GB_T_FLOAT, .needs = GB_NEEDS_OUTPUT, .pointwise_gradient = tanh_grad},
    {UNARY("HardSigmoid", hard_sigmoid), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT,
     .attr = {FLOAT_ATTR("alpha", 0.2), FLOAT_ATTR("beta", 0.5)}},
    {UNARY("HardSwish", hard_swish), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("Softplus", softplus), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT,
     .pointwise_gradient = softplus_grad},
    {UNARY("Softsign", softsign), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT},
    {UNARY("Mish", mish), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT, .pointwise_gradient = mish_grad},
    {UNARY("Swish", swish), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT, .attr = {FLOAT_ATTR("alpha", 1)}},
    {UNARY("Gelu", gelu), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT, .pointwise_gradient = gelu_grad,
     .attr = {{.name = "approximate", .type = GB_ATTR_STRING, .string = "none"}}},
    {UNARY("Shrink", shrink), .types = GB_T_FLOAT, .needs = GB_NEEDS_INPUT,
     .attr = {FLOAT_ATTR("lambd", 0.5), FLOAT_ATTR("bias", 0)}},
    {.name = "Clip", .min_in = 1, .max_in = 3, .max_out = 1, .pointwise = clip, .needs = GB_NEEDS_INPUT},

    {BINARY("Equal", equal), .types = GB_T_TEST, .not_differentiable = boolean},
    {BINARY("Less", less_), .types = GB_T_TEST, .not_differentiable = boolean},
    {BINARY("LessOrEqual", less_equal), .types = GB_T_TEST, .not_differentiable = boolean},
    {BINARY("Greater", greater), .types = GB_T_TEST, .not_differentiable = boolean},
    {BINARY("GreaterOrEqual", greater_equal), .types = GB_T_TEST, .not_differentiable = boolean},
    {BINARY("And", and_), .types = GB_T_LOGIC, .not_differentiable = boolean},
    {BINARY("Or", or_), .types = GB_T_LOGIC, .not_differentiable = boolean},
    {BINARY("Xor", xor_), .types = GB_T_LOGIC, .not_differentiable = boolean},
    {UNARY("Not", not_), .types = GB_T_LOGIC, .not_differentiable = boolean},
    {BINARY("BitwiseAnd", and_), .types = GB_T_INT, .not_differentiable = step_like},
    {BINARY("BitwiseOr", or_), .types = GB_T_INT, .not_differentiable = step_like},
    {BINARY("BitwiseXor", xor_), .types = GB_T_INT, .not_differentiable = step_like},
    {UNARY("BitwiseNot", bit_not), .types = GB_T_INT, .not_differentiable = step_like},
    {UNARY("IsNaN", is_nan), .types = GB_T_TEST, .not_differentiable = boolean},
    {UNARY("IsInf", is_inf), .types = GB_T_TEST, .not_differentiable = boolean,
     .attr = {INT_ATTR("detect_negative", 1), INT_ATTR("detect_positive", 1)}},
    {.name = "Where", .min_in = 3, .max_in = 3, .max_out = 1, .pointwise = where, .types = GB_T_WHERE,
     .needs = GB_NEEDS_INPUT},
    {UNARY("Identity", identity)},
    {UNARY("Cast", cast), .types = GB_T_CUSTOM, .infer = infer_cast,
     .attr = {{.name = "to", .type = GB_ATTR_INT, .required = true},
              INT_ATTR("saturate", 1)}},
    {0}};
