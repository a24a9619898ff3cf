#include <gimbal/train.h>

/* labels [N] as F32 [N, C]: 1 at the label, else 0. */
static gb_value one_hot(gb_graph *g, gb_value labels, int64_t n, int64_t classes)
{
    gb_shape column = {.rank = 1, .dim = {classes}};
    gb_tensor numbers;
    gb_error err = {0};
    if (gb_tensor_alloc(&numbers, GB_I32, &column, &err)) return GB_NONE;
    for (int64_t i = 0; i < classes; i++) gb_tensor_set(&numbers, i, (double)i);
    gb_value classes_row = gb_graph_constant(g, &numbers);
    gb_tensor_free(&numbers);
    int64_t shape[2] = {n, 1};
    gb_value rows = GB_OP(g, "Reshape", GB_ARGS(labels), GB_INTS("shape", shape, 2));
    gb_value equal = gb_op2(g, "Equal", rows, classes_row);
    return GB_OP(g, "Cast", GB_ARGS(equal), GB_INT("to", 1));
}

void gb_loss_build(gb_graph *g, const gb_loss *loss, gb_value y, gb_value labels, gb_value *each,
                   gb_value *hit)
{
    gb_shape shape = gb_value_shape(g, y);
    *each = *hit = GB_NONE;
    gb_graph_path(g, "loss");
    if (loss->kind == GB_LOSS_CROSS_ENTROPY) {
        *each = GB_OP(g, "SoftmaxCrossEntropyLoss", GB_ARGS(y, labels), GB_STRING("reduction", "none"),
                      GB_FLOAT("label_smoothing", loss->label_smoothing));
    } else {
        const char *op = loss->kind == GB_LOSS_MSE ? "MSELoss"
                         : loss->kind == GB_LOSS_L1 ? "L1Loss" : "BCEWithLogitsLoss";
        int64_t axis = 1;
        gb_value target = one_hot(g, labels, shape.dim[0], shape.dim[1]);
        gb_value terms = GB_OP(g, op, GB_ARGS(y, target), GB_STRING("reduction", "none"));
        *each = GB_OP(g, "ReduceMean", GB_ARGS(terms), GB_INTS("axes", &axis, 1), GB_INT("keepdims", 0));
    }
    gb_value best = GB_OP(g, "ArgMax", GB_ARGS(y), GB_INT("axis", 1), GB_INT("keepdims", 0));
    best = GB_OP(g, "Cast", GB_ARGS(best), GB_INT("to", 6));
    *hit = GB_OP(g, "Cast", GB_ARGS(gb_op2(g, "Equal", best, labels)), GB_INT("to", 1));
}
