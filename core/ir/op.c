/* The operator table, put together from core/ir/ops/. */
#include <string.h>

#include "core/ir/ops/ops.h"

static const gb_op *const parts[] = {
    gb_ops_pointwise, gb_ops_reduce, gb_ops_shape, gb_ops_concat, gb_ops_matmul,  gb_ops_conv,
    gb_ops_pool,      gb_ops_norm,   gb_ops_loss,  gb_ops_random, gb_ops_gather, gb_ops_compute,
};
#define N_PARTS (int)(sizeof parts / sizeof *parts)

const gb_op *gb_op_at(int i)
{
    for (int p = 0; p < N_PARTS; p++)
        for (const gb_op *op = parts[p]; op->name; op++)
            if (i-- == 0) return op;
    return NULL;
}

const gb_op *gb_op_find(const char *name)
{
    for (int p = 0; p < N_PARTS; p++)
        for (const gb_op *op = parts[p]; op->name; op++)
            if (strcmp(op->name, name) == 0) return op;
    return NULL;
}

const char *gb_operator_name(int i)
{
    const gb_op *op = gb_op_at(i);
    return op ? op->name : NULL;
}

double gb_operator_tolerance(const char *name)
{
    const gb_op *op = gb_op_find(name);
    return !op ? 0 : op->tolerance ? op->tolerance : 2e-6;
}
