/* Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740): gradients that are too small
 * for f16 are carried times a scale, which follows what still fits. The scale and the number of
 * good steps since it changed are states of the store, so that a run resumes where it was. */
#include "core/train/trainer.h"

#define LARGEST_SCALE 16777216.0 /* 2^24 */

static gb_value number_state(gb_graph *g, const char *name, double initial)
{
    float f = (float)initial;
    gb_tensor t = {.dtype = GB_F32, .data = &f};
    gb_shape scalar = {0};
    return gb_graph_state(g, name, GB_F32, &scalar, false, &t);
}

gb_scaling gb_scaling_begin(gb_graph *g, const gb_recipe *r)
{
    gb_scaling s = {0};
    if (r->precision != GB_PRECISION_F16) return s;
    s.scale = number_state(g, "optimizer.loss_scale", r->loss_scale);
    s.good_steps = number_state(g, "optimizer.good_steps", 0);
    return s;
}

gb_value gb_scaling_loss(gb_graph *g, const gb_scaling *s, gb_value loss)
{
    return s->scale ? gb_op2(g, "Mul", loss, s->scale) : loss;
}

gb_value gb_is_finite(gb_graph *g, gb_value v) /* inf - inf and NaN - NaN are NaN */
{
    return gb_op2(g, "Equal", gb_op2(g, "Sub", v, v), gb_graph_float(g, 0));
}

static gb_value all_finite(gb_graph *g, const gb_value *grad, size_t n)
{
    gb_value total = gb_graph_float(g, 0);
    for (size_t i = 0; i < n; i++)
        if (grad[i])
            total = gb_op2(g, "Add", total,
                           GB_OP(g, "ReduceSum", GB_ARGS(gb_op2(g, "Sub", grad[i], grad[i])),
                                 GB_INT("keepdims", 0)));
    return gb_op2(g, "Equal", total, gb_graph_float(g, 0));
}

/* Twice the scale after enough good steps, half of it after a bad one; where usable is false the
 * loss itself was not finite, which no scale mends. */
static void update_scale(gb_graph *g, const gb_scaling *s, const gb_recipe *r, gb_value good,
                         gb_value usable)
{
    gb_value zero = gb_graph_float(g, 0), two = gb_graph_float(g, 2);
    gb_value steps = gb_op2(g, "Add", s->good_steps, gb_graph_float(g, 1));
    gb_value enough =
        gb_op2(g, "GreaterOrEqual", steps, gb_graph_float(g, (double)r->growth_steps));
    gb_value more =
        gb_op2(g, "Min", gb_op2(g, "Mul", s->scale, two), gb_graph_float(g, LARGEST_SCALE));
    gb_value less = gb_op2(g, "Max", gb_op2(g, "Div", s->scale, two), gb_graph_float(g, 1));
    gb_value scale = gb_op3(g, "Where", good, gb_op3(g, "Where", enough, more, s->scale), less);
    gb_value count = gb_op3(g, "Where", good, gb_op3(g, "Where", enough, zero, steps), zero);
    scale = gb_op3(g, "Where", usable, scale, s->scale);
    gb_graph_update(g, s->scale, scale);
    gb_graph_update(g, s->good_steps, gb_op3(g, "Where", usable, count, s->good_steps));
}

/* A gradient that does not fit at a scale of 1 will not fit in any later step either. */
static gb_value can_go_on(gb_graph *g, const gb_scaling *s, gb_value good, gb_value usable)
{
    gb_value room = gb_op2(g, "Greater", s->scale, gb_graph_float(g, 1));
    return gb_op2(g, "And", usable, gb_op2(g, "Or", good, room));
}

gb_value gb_scaling_end(gb_graph *g, gb_scaling *s, const gb_recipe *r, gb_value *grad, size_t n,
                        gb_value usable)
{
    s->going = usable;
    if (!s->scale) return usable;
    gb_graph_path(g, "loss_scale");
    gb_value good = all_finite(g, grad, n);
    gb_value inverse = gb_op2(g, "Div", gb_graph_float(g, 1), s->scale);
    for (size_t i = 0; i < n; i++)
        if (grad[i]) grad[i] = gb_op2(g, "Mul", grad[i], inverse);
    s->skipped = gb_op3(g, "Where", good, gb_graph_float(g, 0), gb_graph_float(g, 1));
    s->going = can_go_on(g, s, good, usable);
    update_scale(g, s, r, good, usable);
    return gb_op2(g, "And", usable, good);
}
