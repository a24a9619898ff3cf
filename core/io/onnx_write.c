/* An ONNX model from a graph. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/io/onnx.h"

/* Operators of ONNX that gimbal has, by the first operator set that has them in the form that is
 * written here; all others are gimbal's own. */
static const struct {
    int since;
    const char *ops; /* between spaces */
} operators[] = {
    {17, " Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization"
         " Cast Ceil Celu Clip Concat Conv ConvTranspose Cos Cosh CumSum DepthToSpace Div Elu Equal"
         " Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool"
         " GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity InstanceNormalization"
         " IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max"
         " MaxPool Mean Min Mod Mul Neg Not OneHot Or PRelu Pad Pow Reciprocal ReduceSum Relu Reshape"
         " Resize Round ScatterElements ScatterND Selu Shrink Sigmoid Sign Sin Sinh Slice Softmax"
         " Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile"
         " TopK Transpose Trilu Unsqueeze Where Xor "},
    {18, " BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Mish ReduceL1 ReduceL2 ReduceLogSum"
         " ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare "},
    {20, " Gelu "},
    {21, " GroupNormalization "},
    {23, " RMSNormalization "},
    {24, " Swish "},
};

/* Attributes of gimbal's operators that are inputs in ONNX. */
static const struct {
    const char *op, *attr;
    size_t input;
} moved[] = {{"Reshape", "shape", 1},  {"Expand", "shape", 1},   {"Squeeze", "axes", 1},
             {"Unsqueeze", "axes", 1}, {"Slice", "starts", 1},   {"Slice", "ends", 2},
             {"Slice", "axes", 3},     {"Slice", "steps", 4},    {"Pad", "pads", 1},
             {"Pad", "value", 2},      {"Pad", "axes", 3},       {"Tile", "repeats", 1},
             {"Reduce", "axes", 1}};

#define MAX_IN 64

typedef struct writer {
    const gb_graph *g;
    const gb_tensors *states;
    const char *file;
    gb_error *err;
    gb_arena *arena;
    bool failed; /* out of memory */
    int64_t batch, opset;
    size_t n_nodes, n_values;
    bool *live;          /* by node */
    char **name;         /* by value; NULL: not written yet */
    GbOnnx__Model model;
    GbOnnx__Graph graph;
    GbOnnx__OperatorSet opset_import;
    size_t cap_initializer, n_extra;
} writer;

static void *take(writer *w, size_t bytes)
{
    void *p = gb_arena_alloc(w->arena, bytes);
    if (!p) w->failed = true;
    return p;
}

static char *copy(writer *w, const char *text)
{
    char *p = gb_arena_string(w->arena, text);
    if (!p) w->failed = true;
    return p;
}

static gb_status no_memory(writer *w)
{
    return gb_fail(w->err, GB_OUT_OF_MEMORY, w->file, "close other programs",
                   "no memory to write the model");
}

static int since(const char *op)
{
    char word[64];
    snprintf(word, sizeof word, " %s ", op);
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (strstr(operators[i].ops, word)) return operators[i].since;
    return 0;
}

/* --- what is needed --- */

static gb_status find_live(writer *w)
{
    bool *wanted = take(w, w->n_values);
    w->live = take(w, w->n_nodes + 1);
    if (w->failed) return no_memory(w);
    const char *name;
    gb_value v;
    for (size_t i = 0; (v = gb_graph_output_at(w->g, i, &name)); i++) wanted[v] = true;
    for (size_t i = w->n_nodes; i-- > 0;) {
        gb_node_view n = gb_graph_node(w->g, i);
        for (size_t k = 0; k < n.n_out; k++) w->live[i] |= wanted[n.out[k]];
        for (size_t k = 0; w->live[i] && k < n.n_in; k++) wanted[n.in[k]] = true;
        if (!w->live[i]) continue;
        int first = since(n.op);
        if (!first)
            return gb_fail(w->err, GB_UNSUPPORTED, n.path, "export the graph without loss and optimizer",
                           "operator %s of layer '%s' has no form in ONNX", n.op, n.path);
        if (first > w->opset) w->opset = first;
    }
    return GB_OK;
}

/* --- tensors and types --- */

static void fill_tensor(writer *w, GbOnnx__Tensor *out, const gb_tensor *t, const char *name)
{
    gb_onnx__tensor__init(out);
    out->n_dims = (size_t)t->shape.rank;
    out->dims = gb_arena_copy(w->arena, t->shape.dim, sizeof t->shape.dim);
    out->has_data_type = true;
    out->data_type = gb_onnx_type_number(t->dtype);
    out->name = copy(w, name);
    out->has_raw_data = true;
    out->raw_data = (ProtobufCBinaryData){.len = gb_tensor_bytes(t), .data = t->data};
    if (!out->dims) w->failed = true;
}

/* t's data must live until the model is written. */
static char *add_initializer(writer *w, const gb_tensor *t, const char *name)
{
    if (w->graph.n_initializer == w->cap_initializer) {
        size_t cap = w->cap_initializer ? 2 * w->cap_initializer : 64;
        GbOnnx__Tensor **list = take(w, cap * sizeof *list);
        if (!list) return NULL;
        if (w->graph.n_initializer)
            memcpy(list, w->graph.initializer, w->graph.n_initializer * sizeof *list);
        w->graph.initializer = list;
        w->cap_initializer = cap;
    }
    GbOnnx__Tensor *out = take(w, sizeof *out);
    if (!out) return NULL;
    fill_tensor(w, out, t, name);
    w->graph.initializer[w->graph.n_initializer++] = out;
    return out->name;
}

static char *add_constant(writer *w, gb_dtype dtype, int rank, const void *data, size_t n)
{
    char name[40];
    snprintf(name, sizeof name, "gimbal/constant:%zu", w->n_extra++);
    gb_tensor t = {.dtype = dtype, .shape = {.rank = rank, .dim = {(int64_t)n}},
                   .data = gb_arena_copy(w->arena, data, n * gb_dtype_size(dtype))};
    if (!t.data) w->failed = true;
    return w->failed ? NULL : add_initializer(w, &t, name);
}

static char *add_ints(writer *w, const int64_t *v, size_t n)
{
    return add_constant(w, GB_I64, 1, v, n);
}

static GbOnnx__ValueInfo *value_info(writer *w, gb_value v, const char *name)
{
    GbOnnx__ValueInfo *info = take(w, sizeof *info);
    GbOnnx__Type *type = take(w, sizeof *type);
    GbOnnx__TensorType *tensor = take(w, sizeof *tensor);
    GbOnnx__Shape *shape = take(w, sizeof *shape);
    gb_shape s = gb_value_shape(w->g, v);
    GbOnnx__Dimension *dim = take(w, (size_t)(s.rank + 1) * sizeof *dim);
    GbOnnx__Dimension **dims = take(w, (size_t)(s.rank + 1) * sizeof *dims);
    if (w->failed) return NULL;
    gb_onnx__value_info__init(info);
    gb_onnx__type__init(type);
    gb_onnx__tensor_type__init(tensor);
    gb_onnx__shape__init(shape);
    info->name = copy(w, name);
    info->type = type;
    type->tensor_type = tensor;
    tensor->has_elem_type = true;
    tensor->elem_type = gb_onnx_type_number(gb_value_dtype(w->g, v));
    tensor->shape = shape;
    shape->n_dim = (size_t)s.rank;
    shape->dim = dims;
    for (int i = 0; i < s.rank; i++) {
        dims[i] = &dim[i];
        gb_onnx__dimension__init(dims[i]);
        dim[i].has_dim_value = !(i == 0 && w->batch > 0 && s.dim[0] == w->batch);
        if (dim[i].has_dim_value) dim[i].dim_value = s.dim[i];
        else dim[i].dim_param = copy(w, "N");
    }
    return info;
}

/* --- names --- */

static gb_status name_leaves(writer *w)
{
    gb_value v;
    size_t n = 0;
    while (gb_graph_input_at(w->g, n)) n++;
    w->graph.input = take(w, (n + 1) * sizeof *w->graph.input);
    for (size_t i = 0; !w->failed && (v = gb_graph_input_at(w->g, i)); i++) {
        w->name[v] = copy(w, gb_value_name(w->g, v));
        w->graph.input[w->graph.n_input++] = value_info(w, v, gb_value_name(w->g, v));
    }
    return w->failed ? no_memory(w) : GB_OK;
}

static bool is_state(const gb_graph *g, gb_value v)
{
    gb_value s;
    for (size_t i = 0; (s = gb_graph_state_at(g, i)); i++)
        if (s == v) return true;
    return false;
}

/* The name of v; states and constants become initializers when they are first read. */
static gb_status name_of(writer *w, gb_value v, char **name)
{
    *name = v ? w->name[v] : copy(w, "");
    if (*name) return GB_OK;
    char label[40];
    const gb_tensor *t = gb_value_tensor(w->g, v);
    if (is_state(w->g, v)) {
        const char *id = gb_value_name(w->g, v);
        const gb_tensor *given = w->states ? gb_tensors_find(w->states, id) : NULL;
        gb_shape shape = gb_value_shape(w->g, v);
        if (given && (!gb_shape_equal(&given->shape, &shape) || given->dtype != gb_value_dtype(w->g, v)))
            return gb_fail(w->err, GB_INVALID, id, "give the states of this graph",
                           "the value of state '%s' does not fit its shape or type", id);
        gb_tensor zero = {.dtype = gb_value_dtype(w->g, v), .shape = shape};
        if (!given && !t) zero.data = take(w, gb_tensor_bytes(&zero));
        *name = w->failed ? NULL : add_initializer(w, given ? given : t ? t : &zero, id);
    } else if (t) {
        snprintf(label, sizeof label, "constant:%u", (unsigned)v);
        *name = add_initializer(w, t, label);
    } else {
        return gb_fail(w->err, GB_UNSUPPORTED, gb_value_name(w->g, v),
                       "export a graph without step scalars",
                       "ONNX has no step scalars, but the outputs need '%s'", gb_value_name(w->g, v));
    }
    w->name[v] = *name;
    return *name ? GB_OK : no_memory(w);
}

/* --- nodes --- */

static GbOnnx__Attribute *attribute(writer *w, const gb_attr *a)
{
    GbOnnx__Attribute *out = take(w, sizeof *out);
    if (!out) return NULL;
    gb_onnx__attribute__init(out);
    out->name = copy(w, a->name);
    out->has_type = true;
    switch (a->type) {
    case GB_ATTR_FLOAT:
        out->type = 1;
        out->has_f = true;
        out->f = (float)a->f;
        break;
    case GB_ATTR_INT:
        out->type = 2;
        out->has_i = true;
        out->i = a->i;
        break;
    case GB_ATTR_STRING:
        out->type = 3;
        out->has_s = true;
        out->s = (ProtobufCBinaryData){.len = strlen(a->s), .data = (uint8_t *)copy(w, a->s)};
        break;
    case GB_ATTR_TENSOR:
        out->type = 4;
        out->t = take(w, sizeof *out->t);
        if (out->t) fill_tensor(w, out->t, a->tensor, a->name);
        break;
    case GB_ATTR_FLOATS:
        out->type = 6;
        out->n_floats = a->n;
        out->floats = take(w, (a->n + 1) * sizeof(float));
        for (size_t i = 0; !w->failed && i < a->n; i++) out->floats[i] = (float)a->floats[i];
        break;
    case GB_ATTR_INTS:
        out->type = 7;
        out->n_ints = a->n;
        out->ints = gb_arena_copy(w->arena, a->ints, a->n * sizeof *a->ints);
        if (!out->ints) w->failed = true;
        break;
    }
    return out;
}

/* Says how gimbal trains, which ONNX does not. */
static bool is_own_attr(const char *op, const char *attr)
{
    return strcmp(op, "BatchNormalization") == 0 && strcmp(attr, "unbiased") == 0;
}

static size_t input_of_attr(const char *op, const char *attr)
{
    for (size_t i = 0; i < sizeof moved / sizeof *moved; i++) {
        bool same = strcmp(moved[i].op, op) == 0 ||
                    (strcmp(moved[i].op, "Reduce") == 0 && strncmp(op, "Reduce", 6) == 0);
        if (same && strcmp(moved[i].attr, attr) == 0) return moved[i].input;
    }
    return 0;
}

/* A target shape that follows the batch: 0 keeps the input's dimension, -1 is what remains. */
static void follow_batch(const writer *w, const gb_node_view *n, int64_t *shape, size_t count)
{
    gb_shape in = gb_value_shape(w->g, n->in[0]);
    bool open = false, kept = in.rank > 0 && in.dim[0] == w->batch;
    for (size_t i = 0; i < count; i++) open |= shape[i] == -1;
    if (w->batch <= 0 || count == 0 || shape[0] <= 0) return;
    if (strcmp(n->op, "Expand") == 0) {
        if (shape[0] == w->batch && kept && in.rank == (int)count) shape[0] = 1;
    } else if (shape[0] == w->batch && kept) shape[0] = 0;
    else if (shape[0] % w->batch == 0 && !open && (kept || shape[0] == w->batch)) shape[0] = -1;
}

/* Integers of input 1 of Reshape and Expand, given as attribute or constant. */
static gb_status shape_input(writer *w, const gb_node_view *n, char **name)
{
    const gb_attr *a = NULL;
    for (size_t i = 0; i < n->n_attrs; i++)
        if (strcmp(n->attrs[i].name, "shape") == 0) a = &n->attrs[i];
    const gb_tensor *t = n->n_in > 1 ? gb_value_tensor(w->g, n->in[1]) : NULL;
    int64_t shape[GB_MAX_RANK] = {0};
    size_t count = a ? a->n : t ? (size_t)gb_shape_count(&t->shape) : 0;
    if ((!a && !t) || count > GB_MAX_RANK)
        return gb_fail(w->err, GB_UNSUPPORTED, n->path, NULL, "the shape of %s is not constant", n->op);
    for (size_t i = 0; i < count; i++) shape[i] = a ? a->ints[i] : gb_tensor_get_int(t, (int64_t)i);
    follow_batch(w, n, shape, count);
    *name = add_ints(w, shape, count);
    return *name ? GB_OK : no_memory(w);
}

static gb_status node_inputs(writer *w, const gb_node_view *n, GbOnnx__Node *out)
{
    char **input = take(w, MAX_IN * sizeof *input);
    if (!input || n->n_in > MAX_IN - 8) return no_memory(w);
    out->input = input;
    out->n_input = n->n_in;
    bool shaped = strcmp(n->op, "Reshape") == 0 || strcmp(n->op, "Expand") == 0;
    for (size_t k = 0; k < n->n_in; k++) {
        gb_status status = shaped && k == 1 ? GB_OK : name_of(w, n->in[k], &input[k]);
        if (status) return status;
    }
    if (shaped) {
        out->n_input = 2;
        return shape_input(w, n, &input[1]);
    }
    for (size_t i = 0; i < n->n_attrs; i++) {
        const gb_attr *a = &n->attrs[i];
        size_t k = input_of_attr(n->op, a->name);
        if (!k) continue;
        while (out->n_input <= k) input[out->n_input++] = copy(w, "");
        float number = (float)a->f;
        input[k] = a->type == GB_ATTR_FLOAT ? add_constant(w, GB_F32, 0, &number, 1)
                                            : add_ints(w, a->ints, a->n);
    }
    if (strcmp(n->op, "Split") == 0) { /* said in full: what equal parts are has changed with time */
        int64_t parts[MAX_IN], axis = 0;
        for (size_t i = 0; i < n->n_attrs; i++)
            if (strcmp(n->attrs[i].name, "axis") == 0) axis = n->attrs[i].i;
        for (size_t k = 0; k < n->n_out && k < MAX_IN; k++) {
            gb_shape s = gb_value_shape(w->g, n->out[k]);
            parts[k] = s.dim[axis < 0 ? axis + s.rank : axis];
        }
        out->n_input = 2;
        input[1] = add_ints(w, parts, n->n_out);
    }
    return w->failed ? no_memory(w) : GB_OK;
}

static gb_status write_node(writer *w, size_t i)
{
    gb_node_view n = gb_graph_node(w->g, i);
    GbOnnx__Node *out = take(w, sizeof *out);
    if (!out) return no_memory(w);
    gb_onnx__node__init(out);
    char label[320];
    snprintf(label, sizeof label, "%s/%s:%zu", n.path, n.op, i);
    out->name = copy(w, label);
    out->op_type = copy(w, n.op);
    gb_status status = node_inputs(w, &n, out);
    if (status) return status;
    out->output = take(w, n.n_out * sizeof *out->output);
    for (size_t k = 0; !w->failed && k < n.n_out; k++) {
        snprintf(label, sizeof label, "%s/%s:%zu.%zu", n.path, n.op, i, k);
        w->name[n.out[k]] = out->output[out->n_output++] = copy(w, label);
    }
    out->attribute = take(w, (n.n_attrs + 1) * sizeof *out->attribute);
    for (size_t k = 0; !w->failed && k < n.n_attrs; k++) {
        bool split = strcmp(n.op, "Split") == 0 && strcmp(n.attrs[k].name, "axis") != 0;
        bool own = split || is_own_attr(n.op, n.attrs[k].name);
        if (!own && !input_of_attr(n.op, n.attrs[k].name))
            out->attribute[out->n_attribute++] = attribute(w, &n.attrs[k]);
    }
    if (w->failed) return no_memory(w);
    w->graph.node[w->graph.n_node++] = out;
    return GB_OK;
}

/* Outputs keep their names: an Identity each, so that any value may have any number of them. */
static gb_status write_outputs(writer *w, size_t count)
{
    w->graph.output = take(w, (count + 1) * sizeof *w->graph.output);
    for (size_t i = 0; !w->failed && i < count; i++) {
        const char *name;
        gb_value v = gb_graph_output_at(w->g, i, &name);
        GbOnnx__Node *node = take(w, sizeof *node);
        char **ends = take(w, 2 * sizeof *ends);
        if (w->failed) break;
        gb_status status = name_of(w, v, &ends[0]);
        if (status) return status;
        gb_onnx__node__init(node);
        ends[1] = copy(w, name);
        node->op_type = copy(w, "Identity");
        node->name = copy(w, name);
        node->n_input = node->n_output = 1;
        node->input = &ends[0];
        node->output = &ends[1];
        w->graph.node[w->graph.n_node++] = node;
        w->graph.output[w->graph.n_output++] = value_info(w, v, name);
    }
    return w->failed ? no_memory(w) : GB_OK;
}

static gb_status build(writer *w)
{
    size_t outputs = 0;
    const char *name;
    while (gb_graph_output_at(w->g, outputs, &name)) outputs++;
    w->opset = 17;
    w->name = take(w, w->n_values * sizeof *w->name);
    w->graph.node = take(w, (w->n_nodes + outputs + 1) * sizeof *w->graph.node);
    gb_status status = w->failed ? no_memory(w) : find_live(w);
    if (!status) status = name_leaves(w);
    for (size_t i = 0; !status && i < w->n_nodes; i++)
        if (w->live[i]) status = write_node(w, i);
    return status ? status : write_outputs(w, outputs);
}

static gb_status write_file(writer *w)
{
    GbOnnx__OperatorSet *sets[] = {&w->opset_import};
    gb_onnx__operator_set__init(&w->opset_import);
    w->opset_import.domain = "";
    w->opset_import.has_version = true;
    w->opset_import.version = w->opset;
    w->model.has_ir_version = true;
    w->model.ir_version = w->opset < 19 ? 8 : w->opset < 21 ? 9 : w->opset < 23 ? 10 : 11;
    w->model.producer_name = "gimbal";
    w->model.graph = &w->graph;
    w->model.n_opset_import = 1;
    w->model.opset_import = sets;
    w->graph.name = "gimbal";
    size_t size = gb_onnx__model__get_packed_size(&w->model);
    if (size > INT32_MAX)
        return gb_fail(w->err, GB_UNSUPPORTED, w->file, "use a smaller model",
                       "the model is over 2 GB, the most that an ONNX file can hold");
    uint8_t *bytes = malloc(size);
    if (!bytes) return no_memory(w);
    gb_onnx__model__pack(&w->model, bytes);
    gb_status status = gb_write_file(w->file, bytes, size, w->err);
    free(bytes);
    return status;
}

gb_status gb_onnx_write(const gb_graph *graph, const gb_tensors *states, int64_t batch,
                        const char *path, gb_error *err)
{
    gb_status status = gb_graph_check(graph, err);
    if (status) return status;
    writer w = {.g = graph, .states = states, .file = path, .err = err, .batch = batch,
                .arena = gb_arena_create(), .n_nodes = gb_graph_node_count(graph),
                .n_values = gb_graph_value_count(graph)};
    gb_onnx__model__init(&w.model);
    gb_onnx__graph__init(&w.graph);
    status = w.arena ? build(&w) : no_memory(&w);
    if (!status) status = write_file(&w);
    gb_arena_destroy(w.arena);
    return status;
}
