/* The parts of the operator table: arrays that end with an empty row. */
#ifndef GB_CORE_IR_OPS_OPS_H
#define GB_CORE_IR_OPS_OPS_H

#include "core/ir/ir.h"
#include "core/ir/lowering.h"

extern const gb_op gb_ops_pointwise[];
extern const gb_op gb_ops_compute[]; /* Pointwise and Reduce, which passes make */
extern const gb_op gb_ops_reduce[];
extern const gb_op gb_ops_shape[];
extern const gb_op gb_ops_concat[];
extern const gb_op gb_ops_matmul[];
extern const gb_op gb_ops_conv[];
extern const gb_op gb_ops_pool[];
extern const gb_op gb_ops_norm[];
extern const gb_op gb_ops_loss[];
extern const gb_op gb_ops_random[];
extern const gb_op gb_ops_gather[];

#endif
