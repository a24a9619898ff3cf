/* Optimizers as graphs: each formula is written once, and fusion makes it one pass over memory. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <gimbal/train.h>

typedef struct update {
    gb_graph *g;
    const gb_optimizer *o;
    double factor, decay; /* of this parameter's learning rate; its weight decay */
    gb_value apply;       /* BOOL: false leaves everything as it was; GB_NONE: true */
} update;

static gb_value mul(gb_graph *g, gb_value a, gb_value b) { return gb_op2(g, "Mul", a, b); }
static gb_value add(gb_graph *g, gb_value a, gb_value b) { return gb_op2(g, "Add", a, b); }
static gb_value sub(gb_graph *g, gb_value a, gb_value b) { return gb_op2(g, "Sub", a, b); }
static gb_value scale(gb_graph *g, gb_value a, double k) { return k == 1 ? a : mul(g, a, gb_graph_float(g, k)); }

/* Sets the new value of a state, unless the step is skipped; returns what it then holds. */
static gb_value assign(update *u, gb_value state, gb_value value)
{
    if (u->apply) value = gb_op3(u->g, "Where", u->apply, value, state);
    gb_graph_update(u->g, state, value);
    return value;
}

static gb_value moment(update *u, const char *kind, gb_value param)
{
    char name[300];
    gb_shape s = gb_value_shape(u->g, param);
    snprintf(name, sizeof name, "optimizer.%s.%s", kind, gb_value_name(u->g, param));
    return gb_graph_state(u->g, name, GB_F32, &s, false, NULL);
}

static gb_value rate(update *u, const char *scalar)
{
    return scale(u->g, gb_graph_scalar(u->g, scalar, GB_F32), u->factor);
}

/* k·m + (1 - k)·x: an exponential moving average */
static gb_value average(gb_graph *g, gb_value m, gb_value x, double k)
{
    return add(g, scale(g, m, k), scale(g, x, 1 - k));
}

/* Sutskever et al. 2013, as torch.optim.SGD. */
static void sgd(update *u, gb_value p, gb_value d)
{
    gb_graph *g = u->g;
    if (u->o->momentum > 0) {
        gb_value m = moment(u, "momentum", p);
        gb_value now = assign(u, m, add(g, scale(g, m, u->o->momentum), d));
        d = u->o->nesterov ? add(g, d, scale(g, now, u->o->momentum)) : now;
    }
    assign(u, p, sub(g, p, mul(g, rate(u, "lr"), d)));
}

/* Kingma and Ba 2015; decoupled decay: Loshchilov and Hutter 2019. adam_lr is lr / (1 - beta1^t),
 * adam_scale is 1 / sqrt(1 - beta2^t). */
static void adam(update *u, gb_value p, gb_value d)
{
    gb_graph *g = u->g;
    gb_value m = moment(u, "mean", p), v = moment(u, "square", p);
    gb_value new_m = assign(u, m, average(g, m, d, u->o->beta1));
    gb_value new_v = assign(u, v, average(g, v, mul(g, d, d), u->o->beta2));
    gb_value deviation = mul(g, gb_op1(g, "Sqrt", new_v), gb_graph_scalar(g, "adam_scale", GB_F32));
    gb_value step = gb_op2(g, "Div", new_m, add(g, deviation, gb_graph_float(g, u->o->eps)));
    gb_value from = p;
    if (u->o->kind == GB_ADAMW && u->decay) from = sub(g, p, mul(g, scale(g, rate(u, "lr"), u->decay), p));
    assign(u, p, sub(g, from, mul(g, rate(u, "adam_lr"), step)));
}

/* Tieleman and Hinton 2012, as torch.optim.RMSprop. */
static void rmsprop(update *u, gb_value p, gb_value d)
{
    gb_graph *g = u->g;
    gb_value v = moment(u, "square", p);
    gb_value new_v = assign(u, v, average(g, v, mul(g, d, d), u->o->alpha));
    gb_value step = gb_op2(g, "Div", d, add(g, gb_op1(g, "Sqrt", new_v), gb_graph_float(g, u->o->eps)));
    if (u->o->momentum > 0) {
        gb_value m = moment(u, "momentum", p);
        step = assign(u, m, add(g, scale(g, m, u->o->momentum), step));
    }
    assign(u, p, sub(g, p, mul(g, rate(u, "lr"), step)));
}

/* "x.bias" where "x.running_mean" is: the shift of a batch normalization. */
static bool is_norm_bias(const gb_graph *g, gb_value param)
{
    const char *name = gb_value_name(g, param), *dot = strrchr(name, '.');
    if (!dot || strcmp(dot, ".bias") != 0) return false;
    char other[300];
    snprintf(other, sizeof other, "%.*s.running_mean", (int)(dot - name), name);
    gb_value v;
    for (size_t i = 0; (v = gb_graph_state_at(g, i)) != GB_NONE; i++)
        if (strcmp(gb_value_name(g, v), other) == 0) return true;
    return false;
}

static gb_value sum_of_squares(gb_graph *g, const gb_value *grad, size_t n)
{
    gb_value total = GB_NONE;
    for (size_t i = 0; i < n; i++) {
        if (!grad[i]) continue;
        gb_value s = GB_OP(g, "ReduceSumSquare", GB_ARGS(grad[i]), GB_INT("keepdims", 0));
        total = total ? add(g, total, s) : s;
    }
    return total;
}

/* min(1, clip / (norm + 1e-6)), torch.nn.utils.clip_grad_norm_ */
static gb_value clip_factor(gb_graph *g, const gb_value *grad, size_t n, double clip)
{
    gb_value squares = sum_of_squares(g, grad, n);
    if (!squares) return GB_NONE;
    gb_value norm = add(g, gb_op1(g, "Sqrt", squares), gb_graph_float(g, 1e-6));
    return gb_op2(g, "Min", gb_op2(g, "Div", gb_graph_float(g, clip), norm), gb_graph_float(g, 1));
}

void gb_optimizer_build(gb_graph *g, const gb_recipe *r, const gb_value *param, const gb_value *grad,
                        size_t n, gb_value apply)
{
    const gb_optimizer *o = &r->optimizer;
    gb_value factor = GB_NONE;
    gb_graph_path(g, "clip");
    if (r->clip_norm > 0) factor = clip_factor(g, grad, n, r->clip_norm);
    for (size_t i = 0; i < n; i++) {
        if (!grad[i]) continue;
        gb_graph_path(g, gb_value_name(g, param[i]));
        bool shift = o->norm_bias_lr > 0 && o->norm_bias_lr != 1 && is_norm_bias(g, param[i]);
        update u = {.g = g, .o = o, .apply = apply, .factor = shift ? o->norm_bias_lr : 1,
                    .decay = shift ? o->weight_decay / o->norm_bias_lr : o->weight_decay};
        gb_value d = grad[i], p = param[i];
        if (factor) d = mul(g, d, factor);
        if (r->clip_value > 0)
            d = gb_op3(g, "Clip", d, gb_graph_float(g, -r->clip_value), gb_graph_float(g, r->clip_value));
        if (r->l1 > 0) d = add(g, d, scale(g, gb_op1(g, "Sign", p), r->l1));
        double decay = (o->kind == GB_ADAMW ? 0 : u.decay) + r->l2;
        if (decay > 0) d = add(g, d, scale(g, p, decay));
        if (o->kind == GB_SGD) sgd(&u, p, d);
        else if (o->kind == GB_RMSPROP) rmsprop(&u, p, d);
        else adam(&u, p, d);
    }
}

gb_status gb_optimizer_scalars(gb_program *program, const gb_optimizer *o, double lr, int64_t step,
                               gb_error *err)
{
    double t = (double)step + 1;
    gb_status status = gb_program_set_scalar(program, "lr", lr, err);
    if (status || (o->kind != GB_ADAM && o->kind != GB_ADAMW)) return status;
    status = gb_program_set_scalar(program, "adam_lr", lr / (1 - pow(o->beta1, t)), err);
    if (status) return status;
    return gb_program_set_scalar(program, "adam_scale", 1 / sqrt(1 - pow(o->beta2, t)), err);
}
