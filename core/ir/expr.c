#include "core/ir/expr.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void gb_xb_free(gb_xb *b)
{
    free(b->node);
    *b = (gb_xb){0};
}

static bool same_node(const gb_enode *a, const gb_enode *b)
{
    return a->prim == b->prim && a->type == b->type && memcmp(a->arg, b->arg, sizeof a->arg) == 0 &&
           memcmp(&a->imm, &b->imm, sizeof a->imm) == 0;
}

static gb_x append(gb_xb *b, gb_enode n)
{
    if (b->failed) return -1;
    for (int i = b->n - 1; i >= 0; i--)
        if (same_node(&b->node[i], &n)) return i;
    if (b->n == b->cap) {
        int cap = b->cap ? 2 * b->cap : 32;
        gb_enode *grown =
            b->n < 16 * GB_MAX_EXPR_NODES ? realloc(b->node, (size_t)cap * sizeof *grown) : NULL;
        if (!grown) {
            b->failed = true;
            return -1;
        }
        b->node = grown;
        b->cap = cap;
    }
    b->node[b->n] = n;
    return b->n++;
}

gb_x gb_x_input(gb_xb *b, int operand, char type)
{
    return append(b, (gb_enode){.prim = GB_P_INPUT, .type = type, .imm = operand});
}

gb_x gb_x_const(gb_xb *b, double v)
{
    return append(b, (gb_enode){.prim = GB_P_CONST, .type = 'f', .imm = v});
}

gb_x gb_x_iconst(gb_xb *b, int32_t v)
{
    return append(b, (gb_enode){.prim = GB_P_ICONST, .type = 'i', .imm = v});
}

gb_x gb_x_coord(gb_xb *b, int axis)
{
    return append(b, (gb_enode){.prim = GB_P_COORD, .type = 'i', .imm = axis});
}

gb_x gb_x_scalar(gb_xb *b, int slot, char type)
{
    return append(
        b, (gb_enode){.prim = type == 'f' ? GB_P_SCALAR : GB_P_ISCALAR, .type = type, .imm = slot});
}

static bool is_const(const gb_xb *b, gb_x x, double v)
{
    return b->node[x].prim == GB_P_CONST && b->node[x].imm == v &&
           !signbit(b->node[x].imm) == !signbit(v);
}

/* Identities that hold for every float, NaN, infinity and -0 included (x * 0 and x + 0 do not). */
static gb_x simplify(const gb_xb *b, gb_prim p, const gb_x *arg)
{
    switch (p) {
    case GB_P_MUL:
        if (is_const(b, arg[0], 1)) return arg[1];
        if (is_const(b, arg[1], 1)) return arg[0];
        return -1;
    case GB_P_DIV:
        return is_const(b, arg[1], 1) ? arg[0] : -1;
    case GB_P_ADD:
        if (is_const(b, arg[0], -0.0)) return arg[1];
        if (is_const(b, arg[1], -0.0)) return arg[0];
        return -1;
    case GB_P_SUB:
        return is_const(b, arg[1], 0) ? arg[0] : -1;
    case GB_P_SELECT:
    case GB_P_ISELECT:
        return arg[1] == arg[2] ? arg[1] : -1;
    default:
        return -1;
    }
}

/* x to a small whole power as products, which are a hundred times faster than a power; -1. */
static gb_x whole_power(gb_xb *b, gb_x x, gb_x exponent)
{
    const gb_enode *e = &b->node[exponent];
    if (e->prim != GB_P_CONST) return -1;
    if (e->imm == 0) return gb_x_const(b, 1); /* of a NaN too */
    if (e->imm == 1) return x;
    if (e->imm == -1) return gb_x2(b, GB_P_DIV, gb_x_const(b, 1), x);
    if (e->imm != 2 && e->imm != 3 && e->imm != 4) return -1;
    int factors = (int)e->imm; /* e moves as nodes are appended */
    gb_x square = gb_x2(b, GB_P_MUL, x, x);
    return factors == 2 ? square : gb_x2(b, GB_P_MUL, square, factors == 3 ? x : square);
}

static gb_x apply(gb_xb *b, gb_prim p, const gb_x *arg, double imm)
{
    const char *type = gb_prims[p].type;
    int arity = gb_prim_arity(p);
    gb_enode n = {.prim = (uint8_t)p, .type = gb_prim_result(p), .imm = imm};
    for (int i = 0; i < arity; i++) {
        if (b->failed || arg[i] < 0 || b->node[arg[i]].type != type[i]) {
            b->failed = true; /* a mistyped expression is a bug of its author: found by any test */
            return -1;
        }
        n.arg[i] = (uint16_t)arg[i];
    }
    gb_x known = p == GB_P_POW ? whole_power(b, arg[0], arg[1]) : simplify(b, p, arg);
    if (known >= 0) return known;
    bool constant = arity > 0;
    double v[4];
    for (int i = 0; i < arity; i++) {
        const gb_enode *a = &b->node[arg[i]];
        constant = constant && (a->prim == GB_P_CONST || a->prim == GB_P_ICONST);
        v[i] = a->imm;
    }
    if (constant) {
        double r = gb_prims[p].eval(v, imm);
        return n.type == 'f' ? gb_x_const(b, r) : gb_x_iconst(b, (int32_t)r);
    }
    return append(b, n);
}

gb_x gb_x1(gb_xb *b, gb_prim p, gb_x a)
{
    return apply(b, p, (gb_x[4]){a}, 0);
}

gb_x gb_x2(gb_xb *b, gb_prim p, gb_x a, gb_x c)
{
    return apply(b, p, (gb_x[4]){a, c}, 0);
}

gb_x gb_x3(gb_xb *b, gb_prim p, gb_x a, gb_x c, gb_x d)
{
    return apply(b, p, (gb_x[4]){a, c, d}, 0);
}

gb_x gb_x_random(gb_xb *b, gb_x element, gb_x sample, gb_x step, gb_x seed, uint32_t stream)
{
    return apply(b, GB_P_RANDOM, (gb_x[4]){element, sample, step, seed}, stream);
}

char gb_x_type(const gb_xb *b, gb_x x)
{
    return x < 0 || b->failed ? '?' : b->node[x].type;
}

void gb_x_inline(gb_xb *b, const gb_expr *e, const gb_x *in, const gb_x *coord, gb_x *out)
{
    gb_x *map = malloc((size_t)(e->n_nodes ? e->n_nodes : 1) * sizeof *map);
    if (!map) b->failed = true;
    for (int i = 0; i < e->n_nodes && !b->failed; i++) {
        const gb_enode *n = &e->node[i];
        gb_x arg[4] = {0};
        int arity = gb_prim_arity(n->prim);
        for (int k = 0; k < arity; k++) arg[k] = map[n->arg[k]];
        if (n->prim == GB_P_INPUT && in)
            map[i] = in[(int)n->imm];
        else if (n->prim == GB_P_COORD && coord)
            map[i] = coord[(int)n->imm];
        else
            map[i] = arity ? apply(b, n->prim, arg, n->imm) : append(b, *n);
    }
    for (int k = 0; k < e->n_out; k++) out[k] = b->failed ? -1 : map[e->out[k]];
    free(map);
}

gb_expr *gb_xb_finish(gb_xb *b, int n_in, const gb_x *out, int n_out,
                      void *(*alloc)(void *ctx, size_t bytes), void *ctx)
{
    for (int k = 0; k < n_out; k++)
        if (out[k] < 0) b->failed = true;
    if (b->failed || n_out > GB_MAX_STEP_OUT) return NULL;
    uint16_t *map = calloc((size_t)b->n + 1, sizeof *map); /* 0: dead, else new index + 1 */
    if (!map) return NULL;
    for (int k = 0; k < n_out; k++) map[out[k]] = 1;
    for (int i = b->n - 1; i >= 0; i--)
        for (int k = 0; map[i] && k < gb_prim_arity(b->node[i].prim); k++)
            map[b->node[i].arg[k]] = 1;
    int live = 0;
    for (int i = 0; i < b->n; i++)
        if (map[i]) map[i] = (uint16_t)++live;
    gb_expr *e = live <= GB_MAX_EXPR_NODES ? alloc(ctx, sizeof *e) : NULL;
    gb_enode *node = e ? alloc(ctx, (size_t)live * sizeof *node) : NULL;
    for (int i = 0; node && i < b->n; i++) {
        if (!map[i]) continue;
        gb_enode n = b->node[i];
        for (int k = 0; k < gb_prim_arity(n.prim); k++) n.arg[k] = (uint16_t)(map[n.arg[k]] - 1);
        node[map[i] - 1] = n;
    }
    if (node) {
        *e = (gb_expr){.node = node, .n_nodes = live, .n_in = n_in, .n_out = n_out};
        for (int k = 0; k < n_out; k++) e->out[k] = (uint16_t)(map[out[k]] - 1);
    }
    free(map);
    return node ? e : NULL;
}

bool gb_expr_uses(const gb_expr *e, gb_prim p)
{
    for (int i = 0; i < e->n_nodes; i++)
        if (e->node[i].prim == p) return true;
    return false;
}

void gb_expr_eval(const gb_expr *e, const double *in, const int64_t *coord, const double *scalars,
                  double *value, double *out)
{
    for (int i = 0; i < e->n_nodes; i++) {
        const gb_enode *n = &e->node[i];
        double arg[4];
        switch (n->prim) {
        case GB_P_INPUT:
            value[i] = in[(int)n->imm];
            continue;
        case GB_P_CONST:
        case GB_P_ICONST:
            value[i] = n->imm;
            continue;
        case GB_P_COORD:
            value[i] = (double)coord[(int)n->imm];
            continue;
        case GB_P_SCALAR:
        case GB_P_ISCALAR:
            value[i] = scalars[(int)n->imm];
            continue;
        default:
            break;
        }
        for (int k = 0; k < gb_prim_arity(n->prim); k++) arg[k] = value[n->arg[k]];
        value[i] = gb_prims[n->prim].eval(arg, n->imm);
    }
    for (int k = 0; k < e->n_out; k++) out[k] = value[e->out[k]];
}

int gb_expr_cost(const gb_expr *e)
{
    static const gb_prim polynomials[] = {GB_P_EXP, GB_P_LOG,   GB_P_TANH,
                                          GB_P_ERF, GB_P_LOG1P, GB_P_EXPM1},
                         slow[] = {GB_P_POW,  GB_P_SIN,  GB_P_COS,  GB_P_TAN,
                                   GB_P_ASIN, GB_P_ACOS, GB_P_ATAN, GB_P_RANDOM};
    int cost = e->n_nodes > 60 ? GB_EXPR_DEAR : 0;
    for (int i = 0; i < e->n_nodes; i++) {
        for (size_t k = 0; k < sizeof polynomials / sizeof *polynomials; k++)
            if (e->node[i].prim == polynomials[k]) cost += 2;
        for (size_t k = 0; k < sizeof slow / sizeof *slow; k++)
            if (e->node[i].prim == slow[k]) cost = GB_EXPR_DEAR;
    }
    return cost < GB_EXPR_DEAR ? cost : GB_EXPR_DEAR;
}

bool gb_expr_is_costly(const gb_expr *e)
{
    return gb_expr_cost(e) > 0;
}
