/* Scalar expressions: what a pointwise step computes for one element.
 *
 * An expression is a DAG of primitives in topological order (arguments have smaller indices). It is
 * immutable once finished. Builders hash-cons: equal sub-expressions are one node. */
#ifndef GB_CORE_IR_EXPR_H
#define GB_CORE_IR_EXPR_H

#include <stdbool.h>
#include <stddef.h>

#include "core/ir/prim.h"

#define GB_MAX_STEP_IN 10  /* operands that one step reads … */
#define GB_MAX_STEP_OUT 6  /* … and writes */
#define GB_MAX_EXPR_NODES 1000

typedef struct gb_enode {
    uint8_t prim; /* gb_prim */
    char type;    /* 'f' or 'i' */
    uint16_t arg[4];
    double imm;
} gb_enode;

typedef struct gb_expr {
    const gb_enode *node;
    int n_nodes;
    int n_in; /* operands that INPUT nodes may name */
    int n_out;
    uint16_t out[GB_MAX_STEP_OUT]; /* node indices of the results */
} gb_expr;

/* --- building --- */
typedef int gb_x; /* index of a node in a builder; negative: failed (sticky) */

typedef struct gb_xb { /* expression builder; zero-initialize, gb_xb_free at the end */
    gb_enode *node;
    int n, cap;
    bool failed; /* out of memory or too many nodes */
} gb_xb;

void gb_xb_free(gb_xb *b);
gb_x gb_x_input(gb_xb *b, int operand, char type);
gb_x gb_x_const(gb_xb *b, double v);
gb_x gb_x_iconst(gb_xb *b, int32_t v);
gb_x gb_x_coord(gb_xb *b, int axis);
gb_x gb_x_scalar(gb_xb *b, int slot, char type);
gb_x gb_x1(gb_xb *b, gb_prim p, gb_x a);
gb_x gb_x2(gb_xb *b, gb_prim p, gb_x a, gb_x c);
gb_x gb_x3(gb_xb *b, gb_prim p, gb_x a, gb_x c, gb_x d);
gb_x gb_x_random(gb_xb *b, gb_x element, gb_x sample, gb_x step, gb_x seed, uint32_t stream);
char gb_x_type(const gb_xb *b, gb_x x);
/* Copies e into b with its inputs replaced: in[k] for INPUT k, coord[axis] for COORD (NULL: kept).
 * out receives n_out nodes. */
void gb_x_inline(gb_xb *b, const gb_expr *e, const gb_x *in, const gb_x *coord, gb_x *out);
/* Appends to b the derivative of node y with respect to the leaf x (an INPUT node), times dy.
 * Returns a constant 0 node where y does not depend on x. */
gb_x gb_x_derive(gb_xb *b, gb_x y, gb_x x, gb_x dy);
/* Makes an immutable expression with dead nodes dropped. memory: allocator hook (an arena). */
gb_expr *gb_xb_finish(gb_xb *b, int n_in, const gb_x *out, int n_out,
                      void *(*alloc)(void *ctx, size_t bytes), void *ctx);

/* --- reading --- */
bool gb_expr_uses(const gb_expr *e, gb_prim p);
/* Time of computing it, in values read from memory: an exponential is worth two, on a CPU. */
int gb_expr_cost(const gb_expr *e);
#define GB_EXPR_DEAR 100 /* at most */
/* Does computing it take longer than reading a value from memory? */
bool gb_expr_is_costly(const gb_expr *e);
/* Float64 evaluation of one element. value: scratch of n_nodes doubles. */
void gb_expr_eval(const gb_expr *e, const double *in, const int64_t *coord, const double *scalars,
                  double *value, double *out);

#endif
