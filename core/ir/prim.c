#include "core/ir/prim.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/base/philox.h"

/* Integers travel as doubles, which hold all 32-bit values exactly. */
static int32_t wrap(double v)
{
    return (int32_t)(uint32_t)(int64_t)v;
}

#define F1(fn, e) static double fn(const double *x, double imm) { (void)imm; double a = x[0]; return e; }
#define F2(fn, e) static double fn(const double *x, double imm) { (void)imm; double a = x[0], b = x[1]; return e; }
#define I2(fn, e) static double fn(const double *x, double imm) { (void)imm; int64_t a = wrap(x[0]), b = wrap(x[1]); return wrap((double)(e)); }

F2(e_add, a + b) F2(e_sub, a - b) F2(e_mul, a * b) F2(e_div, a / b)
F1(e_neg, -a) F1(e_abs, fabs(a))
F2(e_min, isnan(a) ? a : isnan(b) ? b : a < b ? a : b)
F2(e_max, isnan(a) ? a : isnan(b) ? b : a > b ? a : b)
F2(e_pow, pow(a, b)) F2(e_fmod, fmod(a, b))
F1(e_floor, floor(a)) F1(e_ceil, ceil(a)) F1(e_rint, rint(a)) F1(e_trunc, trunc(a))
F1(e_sqrt, sqrt(a)) F1(e_exp, exp(a)) F1(e_log, log(a)) F1(e_log1p, log1p(a))
F1(e_expm1, expm1(a)) F1(e_sin, sin(a)) F1(e_cos, cos(a)) F1(e_tan, tan(a))
F1(e_asin, asin(a)) F1(e_acos, acos(a)) F1(e_atan, atan(a)) F1(e_tanh, tanh(a)) F1(e_erf, erf(a))
F2(e_lt, a < b) F2(e_le, a <= b) F2(e_eq, a == b) F2(e_ne, a != b)
I2(e_iadd, a + b) I2(e_isub, a - b) I2(e_idiv, b ? a / b : 0) I2(e_imod, b ? a % b : 0)
I2(e_imin, a < b ? a : b) I2(e_imax, a > b ? a : b)
I2(e_ilt, a < b) I2(e_ile, a <= b) I2(e_ieq, a == b)
I2(e_and, a & b) I2(e_or, a | b) I2(e_xor, a ^ b)
I2(e_shl, (int32_t)((uint32_t)a << (b & 31))) I2(e_shr, (int32_t)a >> (b & 31))

/* The product of two 32-bit integers can exceed what a double holds: wrap it as an integer. */
static double e_imul(const double *x, double imm)
{
    (void)imm;
    return (int32_t)((uint32_t)wrap(x[0]) * (uint32_t)wrap(x[1]));
}

static double e_select(const double *x, double imm)
{
    (void)imm;
    return x[0] != 0 ? x[1] : x[2];
}

static double e_i2f(const double *x, double imm)
{
    (void)imm;
    return x[0];
}

static double e_f2i(const double *x, double imm)
{
    (void)imm;
    double v = trunc(x[0]);
    return isnan(v) ? 0 : v < INT32_MIN ? INT32_MIN : v > INT32_MAX ? INT32_MAX : v;
}

static double e_random(const double *x, double imm)
{
    uint32_t counter[4] = {(uint32_t)wrap(x[0]), (uint32_t)wrap(x[1]), (uint32_t)wrap(x[2]), 0};
    uint32_t key[2] = {(uint32_t)wrap(x[3]), (uint32_t)imm}, word[4];
    gb_philox(counter, key, word);
    return (double)(word[0] >> 8) * 0x1p-24;
}

#define SAME(t) t, t, t

const gb_prim_info gb_prims[GB_PRIM_COUNT] = {
    [GB_P_INPUT] = {"input", ">?"},
    [GB_P_CONST] = {"const", ">f"},
    [GB_P_ICONST] = {"iconst", ">i"},
    [GB_P_COORD] = {"coord", ">i"},
    [GB_P_SCALAR] = {"scalar", ">f"},
    [GB_P_ISCALAR] = {"iscalar", ">i"},

    [GB_P_ADD] = {"add", "ff>f", SAME("($0 + $1)"), e_add},
    [GB_P_SUB] = {"sub", "ff>f", SAME("($0 - $1)"), e_sub},
    [GB_P_MUL] = {"mul", "ff>f", SAME("($0 * $1)"), e_mul},
    [GB_P_DIV] = {"div", "ff>f", SAME("($0 / $1)"), e_div},
    [GB_P_NEG] = {"neg", "f>f", SAME("(-$0)"), e_neg},
    [GB_P_ABS] = {"abs", "f>f", "gb_fabs($0)", "fabs($0)", "abs($0)", e_abs},
    [GB_P_MIN] = {"min", "ff>f", SAME("gb_fmin($0, $1)"), e_min},
    [GB_P_MAX] = {"max", "ff>f", SAME("gb_fmax($0, $1)"), e_max},
    [GB_P_POW] = {"pow", "ff>f", "gb_pow($0, $1)", "pow($0, $1)", "gb_pow($0, $1)", e_pow},
    [GB_P_FMOD] = {"fmod", "ff>f", "gb_fmod($0, $1)", "fmod($0, $1)", "gb_fmod($0, $1)", e_fmod},
    [GB_P_FLOOR] = {"floor", "f>f", "gb_floor($0)", "floor($0)", "floor($0)", e_floor},
    [GB_P_CEIL] = {"ceil", "f>f", "gb_ceil($0)", "ceil($0)", "ceil($0)", e_ceil},
    [GB_P_RINT] = {"rint", "f>f", "gb_rint($0)", "rint($0)", "roundEven($0)", e_rint},
    [GB_P_TRUNC] = {"trunc", "f>f", "gb_trunc($0)", "trunc($0)", "trunc($0)", e_trunc},
    [GB_P_SQRT] = {"sqrt", "f>f", "gb_sqrt($0)", "sqrt($0)", "sqrt($0)", e_sqrt},
    [GB_P_EXP] = {"exp", "f>f", SAME("gb_exp($0)"), e_exp},
    [GB_P_LOG] = {"log", "f>f", SAME("gb_log($0)"), e_log},
    [GB_P_LOG1P] = {"log1p", "f>f", SAME("gb_log1p($0)"), e_log1p},
    [GB_P_EXPM1] = {"expm1", "f>f", SAME("gb_expm1($0)"), e_expm1},
    [GB_P_SIN] = {"sin", "f>f", "gb_sin($0)", "sin($0)", "gb_sin($0)", e_sin},
    [GB_P_COS] = {"cos", "f>f", "gb_cos($0)", "cos($0)", "gb_cos($0)", e_cos},
    [GB_P_TAN] = {"tan", "f>f", "gb_tan($0)", "tan($0)", "gb_tan($0)", e_tan},
    [GB_P_ASIN] = {"asin", "f>f", "gb_asin($0)", "asin($0)", "gb_asin($0)", e_asin},
    [GB_P_ACOS] = {"acos", "f>f", "gb_acos($0)", "acos($0)", "gb_acos($0)", e_acos},
    [GB_P_ATAN] = {"atan", "f>f", "gb_atan($0)", "atan($0)", "gb_atan($0)", e_atan},
    [GB_P_TANH] = {"tanh", "f>f", SAME("gb_tanh($0)"), e_tanh},
    [GB_P_ERF] = {"erf", "f>f", SAME("gb_erf($0)"), e_erf},

    [GB_P_LT] = {"lt", "ff>i", "($0 < $1)", "(int)($0 < $1)", "int($0 < $1)", e_lt},
    [GB_P_LE] = {"le", "ff>i", "($0 <= $1)", "(int)($0 <= $1)", "int($0 <= $1)", e_le},
    [GB_P_EQ] = {"eq", "ff>i", "($0 == $1)", "(int)($0 == $1)", "int($0 == $1)", e_eq},
    [GB_P_NE] = {"ne", "ff>i", "($0 != $1)", "(int)($0 != $1)", "int(!($0 == $1))", e_ne},
    [GB_P_SELECT] = {"select", "iff>f", SAME("($0 != 0 ? $1 : $2)"), e_select},

    [GB_P_IADD] = {"iadd", "ii>i", "gb_iadd($0, $1)", "($0 + $1)", "($0 + $1)", e_iadd},
    [GB_P_ISUB] = {"isub", "ii>i", "gb_isub($0, $1)", "($0 - $1)", "($0 - $1)", e_isub},
    [GB_P_IMUL] = {"imul", "ii>i", "gb_imul($0, $1)", "($0 * $1)", "($0 * $1)", e_imul},
    [GB_P_IDIV] = {"idiv", "ii>i", SAME("gb_idiv($0, $1)"), e_idiv},
    [GB_P_IMOD] = {"imod", "ii>i", SAME("gb_imod($0, $1)"), e_imod},
    [GB_P_IMIN] = {"imin", "ii>i", SAME("($0 < $1 ? $0 : $1)"), e_imin},
    [GB_P_IMAX] = {"imax", "ii>i", SAME("($0 > $1 ? $0 : $1)"), e_imax},
    [GB_P_ILT] = {"ilt", "ii>i", "($0 < $1)", "(int)($0 < $1)", "int($0 < $1)", e_ilt},
    [GB_P_ILE] = {"ile", "ii>i", "($0 <= $1)", "(int)($0 <= $1)", "int($0 <= $1)", e_ile},
    [GB_P_IEQ] = {"ieq", "ii>i", "($0 == $1)", "(int)($0 == $1)", "int($0 == $1)", e_ieq},
    [GB_P_AND] = {"and", "ii>i", SAME("($0 & $1)"), e_and},
    [GB_P_OR] = {"or", "ii>i", SAME("($0 | $1)"), e_or},
    [GB_P_XOR] = {"xor", "ii>i", SAME("($0 ^ $1)"), e_xor},
    [GB_P_SHL] = {"shl", "ii>i", "gb_shl($0, $1)", "($0 << ($1 & 31))", "($0 << ($1 & 31))", e_shl},
    [GB_P_SHR] = {"shr", "ii>i", SAME("($0 >> ($1 & 31))"), e_shr},
    [GB_P_ISELECT] = {"iselect", "iii>i", SAME("($0 != 0 ? $1 : $2)"), e_select},
    [GB_P_I2F] = {"i2f", "i>f", "((float)$0)", "((float)$0)", "float($0)", e_i2f},
    [GB_P_F2I] = {"f2i", "f>i", SAME("gb_f2i($0)"), e_f2i},
    [GB_P_RANDOM] = {"random", "iiii>f", SAME("gb_random($0, $1, $2, $3, $4)"), e_random},
};

int gb_prim_arity(gb_prim p)
{
    return (int)(strchr(gb_prims[p].type, '>') - gb_prims[p].type);
}

char gb_prim_result(gb_prim p)
{
    return strchr(gb_prims[p].type, '>')[1];
}
