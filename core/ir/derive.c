/* Derivatives of scalar expressions, by reverse accumulation over the DAG. */
#include <math.h>
#include <stdlib.h>

#include "core/ir/expr.h"

#define ADD(a, c) gb_x2(b, GB_P_ADD, a, c)
#define SUB(a, c) gb_x2(b, GB_P_SUB, a, c)
#define MUL(a, c) gb_x2(b, GB_P_MUL, a, c)
#define DIV(a, c) gb_x2(b, GB_P_DIV, a, c)
#define NEG(a) gb_x1(b, GB_P_NEG, a)
#define K(v) gb_x_const(b, v)

/* d node / d argument k, times dy. y is the node's own value: where a derivative can be had from
 * the result (exp, tanh, sqrt) the input need not be kept. */
static gb_x partial(gb_xb *b, gb_x y, int k, gb_x dy)
{
    gb_enode n = b->node[y];
    gb_x p = n.arg[0], q = n.arg[1], zero = K(0);
    switch ((gb_prim)n.prim) {
    case GB_P_ADD: return dy;
    case GB_P_SUB: return k ? NEG(dy) : dy;
    case GB_P_MUL: return MUL(dy, k ? p : q);
    case GB_P_DIV: return k ? NEG(DIV(MUL(dy, y), q)) : DIV(dy, q);
    case GB_P_NEG: return NEG(dy);
    case GB_P_ABS: /* 0 at 0, as PyTorch */
        return gb_x3(b, GB_P_SELECT, gb_x2(b, GB_P_LT, p, zero), NEG(dy),
                     gb_x3(b, GB_P_SELECT, gb_x2(b, GB_P_LT, zero, p), dy, zero));
    case GB_P_MIN:
    case GB_P_MAX: { /* a tie is shared in halves */
        gb_x lt = gb_x2(b, GB_P_LT, p, q), gt = gb_x2(b, GB_P_LT, q, p);
        gb_x mine = (n.prim == GB_P_MIN) == (k == 0) ? lt : gt, other = mine == lt ? gt : lt;
        return gb_x3(b, GB_P_SELECT, mine, dy,
                     gb_x3(b, GB_P_SELECT, other, zero, MUL(K(0.5), dy)));
    }
    case GB_P_POW:
        if (k == 0) { /* x^0 has derivative 0 even at x = 0 */
            gb_x d = MUL(dy, MUL(q, gb_x2(b, GB_P_POW, p, SUB(q, K(1)))));
            return gb_x3(b, GB_P_SELECT, gb_x2(b, GB_P_EQ, q, zero), zero, d);
        } else {
            gb_x d = MUL(dy, MUL(y, gb_x1(b, GB_P_LOG, p)));
            return gb_x3(b, GB_P_SELECT, gb_x2(b, GB_P_EQ, p, zero), zero, d);
        }
    case GB_P_FMOD: return k ? NEG(MUL(dy, gb_x1(b, GB_P_TRUNC, DIV(p, q)))) : dy;
    case GB_P_SQRT: return DIV(MUL(K(0.5), dy), y);
    case GB_P_EXP: return MUL(dy, y);
    case GB_P_LOG: return DIV(dy, p);
    case GB_P_LOG1P: return DIV(dy, ADD(p, K(1)));
    case GB_P_EXPM1: return MUL(dy, ADD(y, K(1)));
    case GB_P_SIN: return MUL(dy, gb_x1(b, GB_P_COS, p));
    case GB_P_COS: return NEG(MUL(dy, gb_x1(b, GB_P_SIN, p)));
    case GB_P_TAN: return MUL(dy, ADD(MUL(y, y), K(1)));
    case GB_P_ASIN: return DIV(dy, gb_x1(b, GB_P_SQRT, SUB(K(1), MUL(p, p))));
    case GB_P_ACOS: return NEG(DIV(dy, gb_x1(b, GB_P_SQRT, SUB(K(1), MUL(p, p)))));
    case GB_P_ATAN: return DIV(dy, ADD(MUL(p, p), K(1)));
    case GB_P_TANH: return MUL(dy, SUB(K(1), MUL(y, y)));
    case GB_P_ERF: /* 2/sqrt(pi) exp(-x²) */
        return MUL(dy, MUL(K(2 / sqrt(3.14159265358979323846)),
                           gb_x1(b, GB_P_EXP, NEG(MUL(p, p)))));
    case GB_P_SELECT:
        if (k == 0) return -1;
        return k == 1 ? gb_x3(b, GB_P_SELECT, p, dy, zero) : gb_x3(b, GB_P_SELECT, p, zero, dy);
    default: return -1; /* piecewise constant, or an integer */
    }
}

gb_x gb_x_derive(gb_xb *b, gb_x y, gb_x x, gb_x dy)
{
    if (b->failed || y < 0 || x < 0 || dy < 0) return -1;
    int top = (y > x ? y : x) + 1; /* partials are appended behind; only these take part */
    gb_x *grad = malloc((size_t)top * sizeof *grad);
    char *depends = calloc((size_t)top, 1); /* on x */
    if (!grad || !depends) b->failed = true;
    for (int i = 0; i < top && !b->failed; i++) {
        grad[i] = -1;
        depends[i] = i == x;
        for (int k = 0; k < gb_prim_arity(b->node[i].prim); k++)
            depends[i] |= depends[b->node[i].arg[k]];
    }
    if (!b->failed) grad[y] = dy;
    for (int i = y; i > x && !b->failed; i--) {
        if (grad[i] < 0 || !depends[i] || b->node[i].type != 'f') continue;
        for (int k = 0; k < gb_prim_arity(b->node[i].prim); k++) {
            int a = b->node[i].arg[k];
            if (!depends[a] || b->node[a].type != 'f') continue;
            gb_x d = partial(b, i, k, grad[i]);
            if (d >= 0) grad[a] = grad[a] < 0 ? d : ADD(grad[a], d);
        }
    }
    gb_x result = b->failed ? -1 : grad[x] < 0 ? K(0) : grad[x];
    free(grad);
    free(depends);
    return result;
}
