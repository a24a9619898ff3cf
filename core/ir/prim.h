/* Scalar primitives: the smallest things that every backend can compute on one element.
 *
 * A primitive is one row of gb_prims (prim.c): its spelling in C, OpenCL C and GLSL and its float64
 * evaluation; its derivative is a case of gb_expr_gradient (derive.c). Values are either floats ('f')
 * or 32-bit integers ('i'; booleans are integers 0 and 1). A float is f32 on devices, f64 in the
 * reference; integers wrap around modulo 2^32 in both. */
#ifndef GB_CORE_IR_PRIM_H
#define GB_CORE_IR_PRIM_H

#include <stdint.h>

typedef enum gb_prim {
    /* leaves */
    GB_P_INPUT,   /* element of operand imm; type from the operand */
    GB_P_CONST,   /* float imm */
    GB_P_ICONST,  /* integer imm */
    GB_P_COORD,   /* integer: coordinate along axis imm of the step's iteration space */
    GB_P_SCALAR,  /* float: step scalar in slot imm */
    GB_P_ISCALAR, /* integer: step scalar in slot imm */
    /* float arithmetic */
    GB_P_ADD, GB_P_SUB, GB_P_MUL, GB_P_DIV, GB_P_NEG, GB_P_ABS,
    GB_P_MIN, GB_P_MAX, /* NaN if either operand is NaN */
    GB_P_POW, GB_P_FMOD,
    GB_P_FLOOR, GB_P_CEIL, GB_P_RINT, GB_P_TRUNC, /* RINT: to nearest, ties to even */
    GB_P_SQRT, GB_P_EXP, GB_P_LOG, GB_P_LOG1P, GB_P_EXPM1,
    GB_P_SIN, GB_P_COS, GB_P_TAN, GB_P_ASIN, GB_P_ACOS, GB_P_ATAN, GB_P_TANH, GB_P_ERF,
    /* comparisons of floats give an integer 0 or 1; with a NaN they are 0 (NE is 1) */
    GB_P_LT, GB_P_LE, GB_P_EQ, GB_P_NE,
    GB_P_SELECT, /* float: arg0 (integer) != 0 ? arg1 : arg2 */
    /* integers */
    GB_P_IADD, GB_P_ISUB, GB_P_IMUL, GB_P_IDIV, GB_P_IMOD, /* division cuts toward zero; by 0 is 0 */
    GB_P_IMIN, GB_P_IMAX, GB_P_ILT, GB_P_ILE, GB_P_IEQ,
    GB_P_AND, GB_P_OR, GB_P_XOR, GB_P_SHL, GB_P_SHR, /* bitwise; SHR is arithmetic */
    GB_P_ISELECT,
    GB_P_I2F, GB_P_F2I, /* F2I cuts toward zero, saturates, NaN is 0 */
    /* Uniform float in [0, 1): Philox4x32-10 with counter (arg0, arg1, arg2, 0) and key
     * (arg3, imm), first word, its upper 24 bits times 2^-24. imm: an unsigned 32-bit stream. */
    GB_P_RANDOM,
    GB_PRIM_COUNT
} gb_prim;

typedef struct gb_prim_info {
    const char *name;
    const char *type; /* argument types, then '>' and the result's: "ff>f", "iff>f" */
    /* Expression templates; $0…$3 stand for the arguments, which are atoms or parenthesized, $4
     * (RANDOM alone) for imm as an unsigned literal. NULL
     * where the leaf is rendered by the backend. Each may call the functions that the prelude of
     * its language defines (gb_…). */
    const char *c, *opencl, *glsl;
    double (*eval)(const double *arg, double imm); /* float64 reference; integers as doubles */
} gb_prim_info;

extern const gb_prim_info gb_prims[GB_PRIM_COUNT];

int gb_prim_arity(gb_prim p);
char gb_prim_result(gb_prim p); /* 'f' or 'i'; INPUT's is '?' */

#endif
