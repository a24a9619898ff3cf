/* Cases of pointwise operators, made from the operator table: shapes that broadcast, are odd, empty
 * or of size 1; special values; integer types. */
#include <stdio.h>
#include <string.h>

#include "core/check/check.h"

enum { OPERANDS = 3 };

/* What an operator wants instead of plain f32 operands: %s stands for the shape. */
typedef struct wish {
    const char *op, *operand[OPERANDS];
    const char *attrs;
} wish;

static const wish wishes[] = {
    {"Div", {"%s", "%s:0.5..2"}},
    {"Pow", {"%s:0.1..3", "%s:-2..2"}},
    {"Mod", {"%s:0..9", "%s:0.6..2"}, "fmod=1"},
    {"Reciprocal", {"%s:0.5..2"}},
    {"Sqrt", {"%s:0.1..4"}},
    {"Log", {"%s:0.1..4"}},
    {"Tan", {"%s:-1..1"}},
    {"Asin", {"%s:-0.9..0.9"}},
    {"Acos", {"%s:-0.9..0.9"}},
    {"Acosh", {"%s:1.1..4"}},
    {"Atanh", {"%s:-0.9..0.9"}},
    {"Round", {"%s:-9..9"}},
    {"Floor", {"%s:-9..9"}},
    {"Ceil", {"%s:-9..9"}},
    {"HardSigmoid", {"%s:-4..4"}},
    {"HardSwish", {"%s:-5..5"}},
    {"Clip", {"%s", "f32(-1)", "f32(0.5)"}},
    {"And", {"bool:%s", "bool:%s"}},
    {"Or", {"bool:%s", "bool:%s"}},
    {"Xor", {"bool:%s", "bool:%s"}},
    {"Not", {"bool:%s"}},
    {"BitwiseAnd", {"i32:%s", "i32:%s"}},
    {"BitwiseOr", {"i32:%s", "i32:%s"}},
    {"BitwiseXor", {"i32:%s", "i32:%s"}},
    {"BitwiseNot", {"i32:%s"}},
    {"Equal", {"i32:%s:0..3", "i32:%s:0..3"}},
    {"IsNaN", {"%s:special"}},
    {"IsInf", {"%s:special"}},
    {"Where", {"bool:%s", "%s", "%s"}},
    {"Cast", {"%s:-9..9"}, "to=6"},
};

static wish wish_of(const gb_op *op)
{
    wish w = {.op = op->name};
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
        if (strcmp(wishes[i].op, op->name) == 0) return wishes[i];
    int n = op->min_in > 1 ? op->min_in : op->max_in > OPERANDS - 1 ? OPERANDS : op->max_in;
    for (int k = 0; k < n; k++) w.operand[k] = "%s";
    return w;
}

/* Writes an operand with its shape: %s is the only thing that operands replace. */
static void write_operand(char *text, size_t size, const char *operand, const char *shape)
{
    const char *at = strstr(operand, "%s");
    size_t used = strlen(text);
    if (!at) snprintf(text + used, size - used, " %s", operand);
    else snprintf(text + used, size - used, " %.*s%s%s", (int)(at - operand), operand, shape, at + 2);
}

static void statement(char *text, size_t size, const wish *w, const char *const *shape)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used ? "; " : "", w->op);
    for (int k = 0; k < OPERANDS && w->operand[k]; k++)
        write_operand(text, size, w->operand[k], shape[k]);
    used = strlen(text);
    if (w->attrs) snprintf(text + used, size - used, " %s", w->attrs);
}

static const char *const spread[][OPERANDS] = {
    {"3x5x7", "3x5x7", "3x5x7"}, {"scalar", "scalar", "scalar"}, {"1", "1x1", "1"},
    {"0x3", "3", "1x3"},         {"4x5x6", "5x1", "6"},          {"7", "3x4x7", "4x1"},
    {"2x1x4", "1x3x1", "1x3x4"}, {"scalar", "2x3", "3"},         {"2x3x1x2x2", "3x1x2x1", "2x1x1x2x1"},
    {"33x65", "65", "33x1"},
};

static void shapes(gb_check_list *l, const wish *w)
{
    char text[1500] = "";
    int n = l->quick ? 1 : (int)(sizeof spread / sizeof *spread);
    for (int i = 0; i < n; i++) statement(text, sizeof text, w, spread[i]);
    gb_check_add(l, true, "%s", text);
}

/* NaN, infinities, zeros, denormals and overflow; of two operands every pair. */
static void specials(gb_check_list *l, const wish *w)
{
    bool quick = strcmp(w->op, "Relu") == 0 || strcmp(w->op, "Max") == 0;
    char text[300];
    if (w->operand[0][0] != '%' || strstr(w->op, "Is") == w->op) return;
    bool trigonometric = strcmp(w->op, "Sin") == 0 || strcmp(w->op, "Cos") == 0 || strcmp(w->op, "Tan") == 0;
    if (!w->operand[1]) snprintf(text, sizeof text, "%s 16:%s", w->op, trigonometric ? "tame" : "special");
    else if (w->operand[1][0] != '%') snprintf(text, sizeof text, "%s 16:special %s %s", w->op, w->operand[1], w->operand[2]);
    else snprintf(text, sizeof text, "%s 16x16:special 16x16:special2", w->op);
    gb_check_add(l, quick, "%s%s%s", text, w->attrs ? " " : "", w->attrs ? w->attrs : "");
}

/* Memory order: next to a pool images lie channels-last. */
static void neighbours(gb_check_list *l, const char *op)
{
    gb_check_add(l, strcmp(op, "Add") == 0,
                 "AveragePool 2x3x4x5 kernel_shape=1,1; %s $0 2x3x4x5; %s $0 3x1x1; %s 5 $0; %s $0 2x3x1x5",
                 op, op, op, op);
}

static const char *const others[] = {
    "* Add i32:3x5 i32:5", "Sub i32:3x5 i32:3x1", "Mul i32:16x16:special i32:16x16:special2",
    "Add i32:16x16:special i32:16x16:special2",
    "* Div i32:4x5 i32:4x5:1..5", "Div i32:4x5 i32:4x5:-5..0",
    "* Mod i32:4x5 i32:4x5:1..5", "Mod i32:4x5 i32:4x5:-5..0", "Mod i32:4x5 i32:4x5:1..5 fmod=1",
    "Neg i32:3x5", "Abs i32:3x5", "Sign i32:3x5", "Min i32:3x5 i32:5", "Max i32:3x5 i32:5 i32:3x1",
    "Sum i32:3x5 i32:5 i32:3x1", "Pow i32:3x5 i32:3x5:0..4", "Pow 3x5:0.1..2 i32:3x5:-3..4",
    "Relu i32:3x5", "Equal i64:3x5:0..3 i64:5:0..3", "Less i32:3x5:0..3 i32:5:0..3",
    "LessOrEqual i32:3x5:0..3 i32:5:0..3", "Greater i32:3x5:0..3 i32:5:0..3",
    "GreaterOrEqual i32:3x5:0..3 i32:5:0..3", "Equal bool:3x5 bool:5", "Equal 6x7:special 6x7:special",
    "Where bool:3x5 i32:5 i32:3x1", "Identity i32:3x5", "Identity bool:3x5", "Clip i32:3x5 i32(-3) i32(4)",
    "Add u8:4x5:200..256 u8:4x5:200..256", "Add i8:4x5:100..128 i8:5:100..128", "Mul i16:4x5:300..400 i16:5:100..300",
    "Sub u8:4x5:0..9 u8:4x5:100..200", "Add i64:3x5 i64:5", "BitwiseNot u8:3x5:0..256", "BitwiseAnd u8:3x5:0..256 u8:5:0..256",
    "BitwiseXor i32:16x16:special i32:16x16:special2",
    "* Gelu 3x5x7 approximate=tanh", "Gelu 16:special approximate=tanh", "LeakyRelu 3x5 alpha=0.3",
    "Elu 3x5 alpha=0.7", "Celu 3x5 alpha=1.7", "Selu 3x5 alpha=1.5 gamma=1.2", "ThresholdedRelu 3x5 alpha=0.3",
    "HardSigmoid 3x5 alpha=0.6 beta=0.3", "Shrink 3x5 lambd=0.7 bias=0.2", "Swish 3x5 alpha=1.7",
    "Clip 3x5 f32(0.1)", "Clip 3x5 _ f32(0.1)", "Clip 3x50 scalar:-1..0 scalar:0..1", "Clip i32:3x5 i32(4) i32(-3)",
    "IsInf 16:special detect_negative=0", "IsInf 16:special detect_positive=0", "Min 3x5", "Max 3x50 50 3x50 3x50 3x50 3x50 3x50 3x50",
    "Sum 3x5 3x5 3x5 3x5 3x5 3x5 3x5 3x5", "PRelu 2x3x4x5 3x1x1", "Sigmoid 3x50:-100..100", "Tanh 3x50:-50..50",
    "Softplus 3x50:-100..100", "Exp 3x50:-80..80", "Erf 3x50:-6..6", "Log 3x50:1e-30..1e30", "Sin 3x50:-100..100",
    "Cos 3x50:-100..100", "Gelu 3x50:-20..20", "Mish 3x50:-100..100", "Atan 3x50:-100..100", "Asinh 3x50:-1e6..1e6",
    "Pow 16x16:-3..3 f32(2)", "Pow 16x16:-3..3 f32(3)", "Pow 16x16:0..3 f32(0.5)",
    "Cast bool:3x5 to=1", "Cast i32:3x5 to=1", "Cast 3x5 to=9", "Cast i32:3x5 to=9", "Cast bool:3x5 to=6", "Cast 3x5:-300..300 to=5",
    "Cast 3x5:0..200 to=2", "Cast i32:3x5:0..300 to=2", "Cast i32:3x5:-300..300 to=3", "Cast i32:3x5:0..70000 to=4",
    "Cast i32:3x5:-70000..70000 to=5", "Cast 3x5:-300..300 to=7", "Cast 3x5:0..300 to=12", "Cast u8:3x5:0..256 to=1", "Cast i64:3x5 to=6",
    "Cast 3x5 to=10; Cast $ to=1", "Cast 3x5 to=16; Cast $ to=1", "Cast 3x5 to=11", "Cast f16:3x5 to=1", "Cast bf16:3x5 to=1",
    "Add f16:3x5 f16:5", "Mul bf16:3x5 bf16:5", NULL};

void gb_check_pointwise(gb_check_list *l)
{
    static const char *const layouts[] = {"Add", "Mul", "Max", "Less", NULL};
    const gb_op *op;
    for (int i = 0; (op = gb_op_at(i)); i++) {
        if (op->internal || !op->pointwise) continue;
        wish w = wish_of(op);
        shapes(l, &w);
        specials(l, &w);
        for (const char *const *name = layouts; *name; name++)
            if (strcmp(*name, op->name) == 0) neighbours(l, op->name);
    }
    gb_check_add_all(l, others);
}
