/* Operators of ONNX, from operator set 7 on, brought to the newest form of each: what were attributes
 * once become inputs, attributes that say nothing here go, a few operators become others. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/io/onnx.h"

gb_status gb_onnx_call_fail(const gb_onnx_call *call, gb_status status, const char *hint,
                            const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return gb_fail(call->reader->err, status, call->reader->file, hint, "node '%s' (%s): %s",
                   call->node, call->op, text);
}

/* --- attributes --- */

static gb_attr *find_attr(gb_onnx_call *call, const char *name)
{
    for (size_t i = 0; i < call->n_attr; i++)
        if (strcmp(call->attr[i].name, name) == 0) return &call->attr[i];
    return NULL;
}

static int64_t int_attr(gb_onnx_call *call, const char *name, int64_t fallback)
{
    const gb_attr *a = find_attr(call, name);
    return a && a->type == GB_ATTR_INT ? a->i : fallback;
}

static void drop_attr(gb_onnx_call *call, const char *name)
{
    gb_attr *a = find_attr(call, name);
    if (a) *a = call->attr[--call->n_attr];
}

static void set_int(gb_onnx_call *call, const char *name, int64_t value)
{
    drop_attr(call, name);
    if (call->n_attr < GB_ONNX_MAX_ATTR) call->attr[call->n_attr++] = GB_INT(name, value);
}

static gb_status set_input(gb_onnx_call *call, size_t k, gb_onnx_name *name)
{
    if (!name) return call->reader->err ? call->reader->err->status : GB_OUT_OF_MEMORY;
    if (k >= GB_ONNX_MAX_IN) return gb_onnx_call_fail(call, GB_FORMAT, NULL, "too many inputs");
    while (call->n_in <= k) call->in[call->n_in++] = NULL;
    call->in[k] = name;
    return GB_OK;
}

/* Attribute name (integers, or a number) becomes input k, unless that is there. */
static gb_status attr_to_input(gb_onnx_call *call, const char *name, size_t k)
{
    const gb_attr *a = find_attr(call, name);
    if (!a) return GB_OK;
    gb_attr attr = *a;
    drop_attr(call, name);
    if (k < call->n_in && call->in[k]) return GB_OK;
    if (attr.type == GB_ATTR_INTS)
        return set_input(call, k, gb_onnx_known_ints(call->reader, attr.ints, attr.n));
    gb_tensor t;
    gb_shape shape = {.rank = attr.type == GB_ATTR_FLOATS ? 1 : 0, .dim = {(int64_t)attr.n}};
    if (attr.type == GB_ATTR_STRING || attr.type == GB_ATTR_TENSOR)
        return gb_onnx_call_fail(call, GB_FORMAT, NULL, "attribute %s has the wrong type", name);
    gb_status status = gb_tensor_alloc(&t, attr.type == GB_ATTR_INT ? GB_I64 : GB_F32, &shape,
                                       call->reader->err);
    if (status) return status;
    if (attr.type == GB_ATTR_INT) gb_tensor_set(&t, 0, (double)attr.i);
    else if (attr.type == GB_ATTR_FLOAT) gb_tensor_set(&t, 0, attr.f);
    for (size_t i = 0; attr.type == GB_ATTR_FLOATS && i < attr.n; i++)
        gb_tensor_set(&t, (int64_t)i, attr.floats[i]);
    return set_input(call, k, gb_onnx_known(call->reader, &t));
}

/* --- results that are known here --- */

static gb_status alloc_known(gb_onnx_call *call, gb_dtype dtype, const gb_shape *shape)
{
    call->done = true;
    return gb_tensor_alloc(&call->known, dtype, shape, call->reader->err);
}

static gb_status known_ints(gb_onnx_call *call, const int64_t *values, size_t n, int rank)
{
    gb_shape shape = {.rank = rank, .dim = {(int64_t)n}};
    gb_status status = alloc_known(call, GB_I64, &shape);
    if (!status && n) memcpy(call->known.data, values, n * sizeof *values);
    return status;
}

static gb_status copy_known(gb_onnx_call *call, const gb_tensor *t)
{
    gb_status status = alloc_known(call, t->dtype, &t->shape);
    if (!status) memcpy(call->known.data, t->data, gb_tensor_bytes(t));
    return status;
}

static gb_status fix_constant(gb_onnx_call *call)
{
    for (size_t i = 0; i < call->n_attr; i++) {
        const gb_attr *a = &call->attr[i];
        if (a->type == GB_ATTR_TENSOR) return copy_known(call, a->tensor);
        if (a->type == GB_ATTR_STRING) break;
        bool whole = a->type == GB_ATTR_INT || a->type == GB_ATTR_INTS;
        bool list = a->type == GB_ATTR_INTS || a->type == GB_ATTR_FLOATS;
        gb_shape shape = {.rank = list, .dim = {(int64_t)a->n}};
        gb_status status = alloc_known(call, whole ? GB_I64 : GB_F32, &shape);
        for (size_t k = 0; !status && k < (list ? a->n : 1); k++)
            if (whole) ((int64_t *)call->known.data)[k] = list ? a->ints[k] : a->i;
            else ((float *)call->known.data)[k] = (float)(list ? a->floats[k] : a->f);
        return status;
    }
    return gb_onnx_call_fail(call, GB_UNSUPPORTED, "use numbers", "the constant is no tensor");
}

static const gb_tensor *known_input(const gb_onnx_call *call, size_t k)
{
    return k < call->n_in && call->in[k] && call->in[k]->known.data ? &call->in[k]->known : NULL;
}

static gb_status not_known(const gb_onnx_call *call, size_t k)
{
    return gb_onnx_call_fail(call, GB_UNSUPPORTED,
                             "shapes are fixed in gimbal: give it as a constant or, with run, as an "
                             "input file",
                             "input %zu must be known", k);
}

static gb_status fix_constant_of_shape(gb_onnx_call *call)
{
    const gb_tensor *dims = known_input(call, 0);
    if (!dims) return not_known(call, 0);
    gb_shape shape = {.rank = (int)gb_shape_count(&dims->shape)};
    if (gb_shape_count(&dims->shape) > GB_MAX_RANK)
        return gb_onnx_call_fail(call, GB_UNSUPPORTED, NULL, "more than 8 dimensions");
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = gb_tensor_get_int(dims, i);
    const gb_attr *a = find_attr(call, "value");
    const gb_tensor *value = a && a->type == GB_ATTR_TENSOR ? a->tensor : NULL;
    if (value && gb_shape_count(&value->shape) != 1)
        return gb_onnx_call_fail(call, GB_FORMAT, NULL, "value must have one element");
    gb_status status = alloc_known(call, value ? value->dtype : GB_F32, &shape);
    size_t size = value ? gb_dtype_size(value->dtype) : 0;
    for (int64_t i = 0, n = gb_shape_count(&shape); !status && value && i < n; i++)
        memcpy((char *)call->known.data + (size_t)i * size, value->data, size);
    return status;
}

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

static gb_status fix_shape(gb_onnx_call *call)
{
    if (call->n_in != 1 || !call->in[0]) return gb_onnx_call_fail(call, GB_FORMAT, NULL, "no input");
    gb_shape s = gb_onnx_shape_of(call->reader, call->in[0]);
    if (strcmp(call->op, "Size") == 0) {
        int64_t count = gb_shape_count(&s);
        return known_ints(call, &count, 1, 0);
    }
    int64_t start = int_attr(call, "start", 0), end = int_attr(call, "end", s.rank);
    start = clamp(start < 0 ? start + s.rank : start, 0, s.rank);
    end = clamp(end < 0 ? end + s.rank : end, start, s.rank);
    return known_ints(call, s.dim + start, (size_t)(end - start), 1);
}

static gb_status fix_range(gb_onnx_call *call)
{
    for (size_t k = 0; k < 3; k++)
        if (!known_input(call, k)) return not_known(call, k);
    double start = gb_tensor_get(known_input(call, 0), 0), limit = gb_tensor_get(known_input(call, 1), 0);
    double delta = gb_tensor_get(known_input(call, 2), 0), n = (limit - start) / delta;
    if (!(delta != 0 && n < 1e9)) return gb_onnx_call_fail(call, GB_FORMAT, NULL, "endless range");
    gb_shape shape = {.rank = 1, .dim = {n > 0 ? (int64_t)n + (n > (double)(int64_t)n) : 0}};
    gb_status status = alloc_known(call, known_input(call, 0)->dtype, &shape);
    for (int64_t i = 0; !status && i < shape.dim[0]; i++)
        gb_tensor_set(&call->known, i, start + (double)i * delta);
    return status;
}

/* The value of input k in the graph. */
static gb_value value_in(gb_onnx_call *call, size_t k)
{
    return gb_onnx_value(call->reader, call->in[k], false);
}

static gb_value ints_value(gb_onnx_call *call, const int64_t *v, size_t n)
{
    gb_onnx_name *name = gb_onnx_known_ints(call->reader, v, n);
    return name ? gb_onnx_value(call->reader, name, true) : GB_NONE;
}

static gb_status finish(gb_onnx_call *call, gb_value out)
{
    call->out[0] = out;
    call->done = true;
    return gb_graph_check(call->reader->graph, call->reader->err);
}

/* --- operators that changed --- */

static gb_status fix_axes(gb_onnx_call *call) /* Squeeze, Unsqueeze, Reduce… */
{
    return attr_to_input(call, "axes", 1);
}

static gb_status fix_slice(gb_onnx_call *call)
{
    gb_status status = attr_to_input(call, "starts", 1);
    if (!status) status = attr_to_input(call, "ends", 2);
    return status ? status : attr_to_input(call, "axes", 3);
}

static gb_status fix_pad(gb_onnx_call *call)
{
    gb_status status = attr_to_input(call, "pads", 1);
    return status ? status : attr_to_input(call, "value", 2);
}

static gb_status fix_clip(gb_onnx_call *call)
{
    gb_status status = attr_to_input(call, "min", 1);
    return status ? status : attr_to_input(call, "max", 2);
}

static gb_status fix_split(gb_onnx_call *call)
{
    drop_attr(call, "num_outputs"); /* their number is known */
    return attr_to_input(call, "split", 1);
}

static gb_status fix_dropout(gb_onnx_call *call)
{
    const gb_tensor *ratio = known_input(call, 1), *training = known_input(call, 2);
    bool trains = call->n_in > 2 && call->in[2] && (!training || gb_tensor_get(training, 0) != 0);
    if (trains && !(ratio && gb_tensor_get(ratio, 0) == 0))
        return gb_onnx_call_fail(call, GB_UNSUPPORTED, "export the model for inference",
                                 "dropout in training mode draws other numbers than gimbal's");
    if (call->n_in < 1 || !call->in[0]) return gb_onnx_call_fail(call, GB_FORMAT, NULL, "no input");
    gb_graph *g = call->reader->graph;
    gb_value x = gb_onnx_value(call->reader, call->in[0], false);
    if (call->n_out > 1) { /* the mask: all is kept */
        gb_tensor mask;
        gb_shape shape = gb_value_shape(g, x);
        gb_status status = gb_tensor_alloc(&mask, GB_BOOL, &shape, call->reader->err);
        if (status) return status;
        memset(mask.data, 1, gb_tensor_bytes(&mask));
        call->out[1] = gb_graph_constant(g, &mask);
        gb_tensor_free(&mask);
    }
    return finish(call, gb_op1(g, "Identity", x));
}

static gb_status fix_batch_norm(gb_onnx_call *call)
{
    bool training = int_attr(call, "training_mode", 0) != 0;
    if (call->n_out > (training ? 3u : 1u))
        return gb_onnx_call_fail(call, GB_UNSUPPORTED, "export the model for inference",
                                 "more outputs than inference has");
    drop_attr(call, "spatial");
    return GB_OK;
}

static gb_status fix_cast_like(gb_onnx_call *call)
{
    if (call->n_in != 2 || !call->in[1]) return gb_onnx_call_fail(call, GB_FORMAT, NULL, "no type");
    set_int(call, "to", gb_onnx_type_number(gb_onnx_dtype_of(call->reader, call->in[1])));
    call->op = "Cast";
    call->n_in = 1;
    return GB_OK;
}

/* Before operator set 13, softmax saw a matrix: axes from `axis` (default 1) on are one. */
static gb_status fix_softmax(gb_onnx_call *call)
{
    if (call->reader->opset >= 13 || call->n_in != 1 || !call->in[0]) return GB_OK;
    gb_shape s = gb_onnx_shape_of(call->reader, call->in[0]);
    int64_t axis = int_attr(call, "axis", 1);
    if (axis < 0) axis += s.rank;
    if (axis == s.rank - 1) {
        set_int(call, "axis", -1);
        return GB_OK;
    }
    gb_graph *g = call->reader->graph;
    gb_value flat = GB_OP(g, "Flatten", GB_ARGS(value_in(call, 0)), GB_INT("axis", axis));
    gb_value y = GB_OP(g, call->op, GB_ARGS(flat), GB_INT("axis", -1));
    return finish(call, gb_op2(g, "Reshape", y, ints_value(call, s.dim, (size_t)s.rank)));
}

/* Before operator set 21, scale and bias had one element a group. */
static gb_status fix_group_norm(gb_onnx_call *call)
{
    drop_attr(call, "stash_type");
    int64_t groups = int_attr(call, "num_groups", 0);
    gb_shape s = gb_onnx_shape_of(call->reader, call->in[0]);
    if (call->reader->opset >= 21 || call->n_in != 3 || groups < 1 || s.rank < 2) return GB_OK;
    gb_graph *g = call->reader->graph;
    gb_value in[3] = {value_in(call, 0)};
    for (size_t k = 1; k < 3; k++) {
        gb_value column = gb_op2(g, "Reshape", value_in(call, k),
                                 ints_value(call, (int64_t[]){groups, 1}, 2));
        gb_value wide = gb_op2(g, "Expand", column,
                               ints_value(call, (int64_t[]){groups, s.dim[1] / groups}, 2));
        in[k] = gb_op2(g, "Reshape", wide, ints_value(call, (int64_t[]){-1}, 1));
    }
    return finish(call, gb_op_list(g, call->op, in, 3, call->attr, call->n_attr));
}

static gb_status fix_upsample(gb_onnx_call *call)
{
    gb_status status = attr_to_input(call, "scales", 1);
    if (status || call->n_in < 2) return status;
    call->in[2] = call->in[1]; /* Resize has a region of interest in between */
    call->in[1] = NULL;
    call->n_in = 3;
    call->op = "Resize";
    if (call->n_attr + 2 > GB_ONNX_MAX_ATTR) return GB_OK;
    call->attr[call->n_attr++] = GB_STRING("coordinate_transformation_mode", "asymmetric");
    call->attr[call->n_attr++] = GB_STRING("nearest_mode", "floor");
    return GB_OK;
}

typedef struct fix_row {
    const char *op; /* a trailing * matches any rest */
    gb_status (*fix)(gb_onnx_call *call);
    uint32_t known; /* bit k: input k must be known */
    bool own;       /* done here altogether, or renamed: no operator of gimbal's needs that name */
} fix_row;

static const fix_row fixes[] = {
    {"Constant", fix_constant, 0, true},
    {"ConstantOfShape", fix_constant_of_shape, 1, true},
    {"Shape", fix_shape, 0, true},
    {"Size", fix_shape, 0, true},
    {"Range", fix_range, 7, true},
    {"Dropout", fix_dropout, 6, true},
    {"CastLike", fix_cast_like, 0, true},
    {"Upsample", fix_upsample, 2, false},
    {"Squeeze", fix_axes, 2, false},
    {"Unsqueeze", fix_axes, 2, false},
    {"Reduce*", fix_axes, 2, false},
    {"Slice", fix_slice, 30, false},
    {"Pad", fix_pad, 14, false},
    {"Clip", fix_clip, 0, false},
    {"Split", fix_split, 2, false},
    {"BatchNormalization", fix_batch_norm, 0, false},
    {"Softmax", fix_softmax, 0, false},
    {"LogSoftmax", fix_softmax, 0, false},
    {"GroupNormalization", fix_group_norm, 0, false},
    {"Reshape", NULL, 2, false},
    {"Expand", NULL, 2, false},
    {"Tile", NULL, 2, false},
    {"Resize", NULL, 14, false},
    {"TopK", NULL, 2, false},
    {"OneHot", NULL, 2, false},
    {"CumSum", NULL, 2, false},
    {"Trilu", NULL, 2, false},
};

static const fix_row *find_fix(const char *op)
{
    for (size_t i = 0; i < sizeof fixes / sizeof *fixes; i++) {
        size_t n = strlen(fixes[i].op);
        bool open = fixes[i].op[n - 1] == '*';
        if (open ? strncmp(op, fixes[i].op, n - 1) == 0 : strcmp(op, fixes[i].op) == 0)
            return &fixes[i];
    }
    return NULL;
}

bool gb_onnx_supports(const char *op)
{
    const fix_row *row = find_fix(op);
    if (row && row->own) return true;
    for (int i = 0; gb_operator_name(i); i++)
        if (strcmp(gb_operator_name(i), op) == 0) return true;
    return row && strcmp(op, "Upsample") == 0 && gb_onnx_supports("Resize");
}

bool gb_onnx_needs_known(const char *op, size_t k)
{
    const fix_row *row = find_fix(op);
    return row && k < 32 && (row->known >> k & 1);
}

/* Attributes that say nothing when they have this value. */
static void drop_empty(gb_onnx_call *call)
{
    static const struct {
        const char *name, *text;
        int64_t number;
    } empty[] = {{"auto_pad", "NOTSET", 0}, {"storage_order", NULL, 0}, {"stash_type", NULL, 1},
                 {"allowzero", NULL, 0}};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        const gb_attr *a = find_attr(call, empty[i].name);
        if (a && (empty[i].text ? a->type == GB_ATTR_STRING && strcmp(a->s, empty[i].text) == 0
                                : a->type == GB_ATTR_INT && a->i == empty[i].number))
            drop_attr(call, empty[i].name);
    }
}

gb_status gb_onnx_fix(gb_onnx_call *call)
{
    drop_empty(call);
    const fix_row *row = find_fix(call->op);
    for (size_t k = 0; row && k < call->n_in; k++)
        if ((row->known >> k & 1) && call->in[k] && !call->in[k]->known.data)
            return not_known(call, k);
    return row && row->fix ? row->fix(call) : GB_OK;
}
