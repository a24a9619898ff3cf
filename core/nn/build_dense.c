/* Linear layers, normalizations, activations and rearrangements. */
#include "core/nn/layer.h"

static gb_value shape_fail(gb_builder *b, const gb_shape *in, const char *hint)
{
    char text[96];
    return gb_builder_fail(b, hint, "the input has shape %s", gb_shape_text(in, text, sizeof text));
}

gb_value gb_build_linear(gb_builder *b, const gb_layer *l, gb_value x)
{
    gb_shape in = gb_value_shape(b->g, x);
    if (in.rank < 2 || in.rank > 3)
        return shape_fail(b, &in, "it takes [N, F] or [N, T, F]: put 'flatten' before it");
    int64_t features = in.dim[in.rank - 1];
    gb_shape shape = {.rank = 2, .dim = {l->o.out, features}};
    gb_value weight = gb_builder_weight(b, "weight", &shape, l->o.init, features, l->o.out, true);
    gb_value bias = GB_NONE;
    if (l->o.bias) {
        gb_shape flat = {.rank = 1, .dim = {l->o.out}};
        int init = b->init == GB_INIT_MODEL ? GB_INIT_MODEL : GB_INIT_ZEROS;
        bias = gb_builder_weight(b, "bias", &flat, init, features, l->o.out, true);
    }
    if (in.rank == 2) {
        gb_value args[] = {x, weight, bias};
        return gb_op_list(b->g, "Gemm", args, l->o.bias ? 3 : 2, &GB_INT("transB", 1), 1);
    }
    const int64_t order[] = {1, 0};
    gb_value turned = GB_OP(b->g, "Transpose", GB_ARGS(weight), GB_INTS("perm", order, 2));
    gb_value y = gb_op2(b->g, "MatMul", x, turned);
    return l->o.bias ? gb_op2(b->g, "Add", y, bias) : y;
}

gb_value gb_build_embedding(gb_builder *b, const gb_layer *l, gb_value x)
{
    gb_dtype dtype = gb_value_dtype(b->g, x);
    if (dtype != GB_I32 && dtype != GB_I64)
        return gb_builder_fail(b, NULL, "the input must be whole numbers, not %s",
                               gb_dtype_name(dtype));
    gb_shape shape = {.rank = 2, .dim = {l->o.size, l->o.dim}};
    char name[256];
    gb_tensor t = {0};
    snprintf(name, sizeof name, "%s.weight", b->path);
    if (!b->options->no_initial) {
        b->status = gb_tensor_alloc(&t, GB_F32, &shape, b->err);
        if (b->status) return GB_NONE;
        gb_init_normal(&t, name, b->options->seed, 1);
    }
    gb_value weight = gb_graph_state(b->g, name, GB_F32, &shape, true, t.data ? &t : NULL);
    gb_tensor_free(&t);
    return GB_OP(b->g, "Gather", GB_ARGS(weight, x), GB_INT("axis", 0));
}

/* --- normalizations --- */

static bool channels_of(gb_builder *b, gb_value x, gb_shape *channels)
{
    gb_shape in = gb_value_shape(b->g, x);
    *channels = (gb_shape){.rank = 1, .dim = {in.dim[1]}};
    if (in.rank >= 2) return true;
    shape_fail(b, &in, "it takes [N, C, …]");
    return false;
}

/* Scale and shift: trained, or constants where affine is false. */
static void affine_pair(gb_builder *b, const gb_layer *l, const gb_shape *shape, gb_value pair[2])
{
    pair[0] = gb_builder_filled(b, "weight", shape, 1, l->o.affine);
    pair[1] = gb_builder_filled(b, "bias", shape, 0, l->o.affine);
}

gb_value gb_build_batchnorm(gb_builder *b, const gb_layer *l, gb_value x)
{
    gb_shape shape;
    if (!channels_of(b, x, &shape)) return GB_NONE;
    gb_value args[] = {x, gb_builder_filled(b, "weight", &shape, 1, l->o.train_scale),
                       gb_builder_filled(b, "bias", &shape, 0, true),
                       gb_builder_filled(b, "running_mean", &shape, 0, false),
                       gb_builder_filled(b, "running_var", &shape, 1, false)};
    /* ONNX's momentum is the share that stays, ours (as PyTorch's) the share that is new */
    gb_attr attrs[] = {GB_FLOAT("epsilon", l->o.eps), GB_FLOAT("momentum", 1 - l->o.momentum),
                       GB_INT("training_mode", b->options->training)};
    gb_value out[3] = {GB_NONE};
    if (b->status) return GB_NONE;
    gb_graph_add(b->g, "BatchNormalization", args, 5, attrs, 3, out, b->options->training ? 3 : 1);
    if (b->options->training) {
        gb_graph_update(b->g, args[3], out[1]);
        gb_graph_update(b->g, args[4], out[2]);
    }
    return out[0];
}

gb_value gb_build_layernorm(gb_builder *b, const gb_layer *l, gb_value x)
{
    gb_shape in = gb_value_shape(b->g, x);
    int dims = (int)l->o.dims, first = in.rank - dims;
    if (first < 1) return shape_fail(b, &in, "it must have more axes than 'dims'");
    gb_shape shape = {.rank = dims};
    for (int i = 0; i < dims; i++) shape.dim[i] = in.dim[first + i];
    gb_value pair[2];
    affine_pair(b, l, &shape, pair);
    return GB_OP(b->g, "LayerNormalization", GB_ARGS(x, pair[0], pair[1]), GB_INT("axis", -dims),
                 GB_FLOAT("epsilon", l->o.eps));
}

gb_value gb_build_groupnorm(gb_builder *b, const gb_layer *l, gb_value x)
{
    gb_shape shape;
    gb_value pair[2];
    if (!channels_of(b, x, &shape)) return GB_NONE;
    if (shape.dim[0] % l->o.groups)
        return gb_builder_fail(b, NULL, "%lld groups do not divide %lld channels",
                               (long long)l->o.groups, (long long)shape.dim[0]);
    affine_pair(b, l, &shape, pair);
    return GB_OP(b->g, "GroupNormalization", GB_ARGS(x, pair[0], pair[1]),
                 GB_INT("num_groups", l->o.groups), GB_FLOAT("epsilon", l->o.eps));
}

gb_value gb_build_instancenorm(gb_builder *b, const gb_layer *l, gb_value x)
{
    gb_shape shape;
    gb_value pair[2];
    if (!channels_of(b, x, &shape)) return GB_NONE;
    affine_pair(b, l, &shape, pair);
    return GB_OP(b->g, "InstanceNormalization", GB_ARGS(x, pair[0], pair[1]),
                 GB_FLOAT("epsilon", l->o.eps));
}

/* --- activations --- */

gb_value gb_build_pointwise(gb_builder *b, const gb_layer *l, gb_value x)
{
    return gb_op1(b->g, l->type->op, x);
}

gb_value gb_build_alpha(gb_builder *b, const gb_layer *l, gb_value x)
{
    return GB_OP(b->g, l->type->op, GB_ARGS(x), GB_FLOAT("alpha", l->o.alpha));
}

gb_value gb_build_alpha_beta(gb_builder *b, const gb_layer *l, gb_value x)
{
    return GB_OP(b->g, l->type->op, GB_ARGS(x), GB_FLOAT("alpha", l->o.alpha),
                 GB_FLOAT("beta", l->o.beta));
}

gb_value gb_build_clip(gb_builder *b, const gb_layer *l, gb_value x)
{
    if (l->o.min > l->o.max)
        return gb_builder_fail(b, NULL, "'min' %g is above 'max' %g", l->o.min, l->o.max);
    return gb_op3(b->g, "Clip", x, gb_graph_float(b->g, l->o.min), gb_graph_float(b->g, l->o.max));
}

gb_value gb_build_gelu(gb_builder *b, const gb_layer *l, gb_value x)
{
    return GB_OP(b->g, "Gelu", GB_ARGS(x),
                 GB_STRING("approximate", l->o.approximate ? "tanh" : "none"));
}

gb_value gb_build_silu(gb_builder *b, const gb_layer *l, gb_value x)
{
    return gb_op2(b->g, "Mul", x, gb_op1(b->g, "Sigmoid", x));
}

gb_value gb_build_prelu(gb_builder *b, const gb_layer *l, gb_value x)
{
    gb_shape one = gb_shape_of(1, 1);
    gb_value slope = gb_builder_filled(b, "weight", &one, l->o.alpha, true);
    return gb_op2(b->g, "PRelu", x, slope);
}

gb_value gb_build_softmax(gb_builder *b, const gb_layer *l, gb_value x)
{
    return GB_OP(b->g, l->type->op, GB_ARGS(x), GB_INT("axis", l->o.axis));
}

gb_value gb_build_identity(gb_builder *b, const gb_layer *l, gb_value x)
{
    return x;
}

gb_value gb_build_scale(gb_builder *b, const gb_layer *l, gb_value x)
{
    return gb_op2(b->g, "Mul", x, gb_graph_float(b->g, l->o.factor));
}

gb_value gb_build_dropout(gb_builder *b, const gb_layer *l, gb_value x)
{
    if (!b->options->training || l->o.ratio == 0) return x;
    return GB_OP(b->g, "Dropout", GB_ARGS(x), GB_FLOAT("ratio", l->o.ratio));
}

/* --- rearrangements --- */

gb_value gb_build_flatten(gb_builder *b, const gb_layer *l, gb_value x)
{
    return GB_OP(b->g, "Flatten", GB_ARGS(x), GB_INT("axis", 1));
}

gb_value gb_build_reshape(gb_builder *b, const gb_layer *l, gb_value x)
{
    const gb_ints *to = &l->o.shape;
    gb_shape in = gb_value_shape(b->g, x);
    int64_t dims[GB_MAX_RANK] = {0}, rest = 1, have = 1; /* a 0 keeps the batch axis */
    int unknown = 0;
    if (to->n > GB_MAX_RANK - 1 || in.rank < 1)
        return gb_builder_fail(b, NULL, "it takes at most %d axes", GB_MAX_RANK - 1);
    for (int i = 1; i < in.rank; i++) have *= in.dim[i];
    for (int i = 0; i < to->n; i++) {
        dims[i + 1] = to->v[i];
        if (to->v[i] == -1)
            unknown++;
        else
            rest *= to->v[i];
    }
    if (unknown > 1 || rest == 0 || have % rest || (!unknown && have != rest))
        return shape_fail(b, &in,
                          "the new shape must hold as many elements an example; one size "
                          "may be -1; the batch axis is not written");
    return gb_op2(b->g, "Reshape", x, gb_builder_ints(b, dims, to->n + 1));
}

gb_value gb_build_mean(gb_builder *b, const gb_layer *l, gb_value x)
{
    gb_value axes = gb_builder_ints(b, l->o.axes.v, l->o.axes.n);
    return GB_OP(b->g, "ReduceMean", GB_ARGS(x, axes), GB_INT("keepdims", l->o.keep_dims));
}
