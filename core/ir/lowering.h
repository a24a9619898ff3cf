/* What the lowering of an operator is written with: windows of values, and steps. Implemented by
 * core/passes/lower.c. */
#ifndef GB_CORE_IR_LOWERING_H
#define GB_CORE_IR_LOWERING_H

#include "core/ir/ir.h"
#include "core/ir/plan.h"

/* The window where value v lies. Makes nothing dense. */
const gb_operand *gb_lower_operand(gb_lowering *l, gb_value v);
/* The same, as a dense window in the wanted memory order (axes from outermost to innermost; NULL:
 * row-major): a copy is made where it lies otherwise. */
gb_operand gb_lower_dense(gb_lowering *l, gb_value v, const int *order);
extern const int gb_channels_last[4]; /* N, H, W, C of an N, C, H, W value */
/* Gives value v a new dense storage in that order. Returns its window. */
gb_operand gb_lower_output(gb_lowering *l, gb_value v, const int *order);
/* v is a window of the storage of another value: no step. */
void gb_lower_alias(gb_lowering *l, gb_value v, const gb_operand *window);
/* The memory order of an operand (strides from large to small). */
void gb_operand_order(const gb_operand *o, int *order);
/* An empty step of node n, to be filled in; the operands that it names must be made before. */
gb_step *gb_lower_step(gb_lowering *l, const gb_node *n, gb_step_kind kind);
/* A copy of `from` to `to`, which have equal dims; a fill where from is NULL. */
void gb_lower_copy(gb_lowering *l, const gb_node *n, const gb_operand *from, const gb_operand *to,
                   double fill);
/* Puts the node's epilogue (compute) into step s, whose contraction inputs are in place; result:
 * what the epilogue gives, a window with the contraction's shape. */
void gb_lower_epilogue(gb_lowering *l, const gb_node *n, gb_step *s);
const gb_graph *gb_lower_graph(const gb_lowering *l);
void gb_lower_fail(gb_lowering *l, const gb_node *n, const char *format, ...) GB_PRINTF(3, 4);
/* Strides of shape `to` over the window `from` without a copy; false where that is not possible. */
bool gb_operand_reshape(const gb_operand *from, const gb_shape *to, gb_operand *out);

#endif
