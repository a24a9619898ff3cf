/* A graph from an ONNX model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/io/onnx.h"

#define MAX_FILE ((size_t)2 << 30) /* protobuf's own limit */

static const char *text_of(const char *s)
{
    return s ? s : "";
}

static gb_status bad(gb_onnx_reader *r, const char *what, const char *name)
{
    return gb_fail(r->err, GB_FORMAT, r->file, "export the model again", "%s '%s'", what, name);
}

static gb_status no_memory(gb_onnx_reader *r)
{
    return gb_fail(r->err, GB_OUT_OF_MEMORY, r->file, "close other programs",
                   "no memory for the model");
}

static gb_status find_opset(gb_onnx_reader *r, const GbOnnx__Model *model)
{
    r->opset = -1;
    for (size_t i = 0; i < model->n_opset_import; i++) {
        const char *domain = text_of(model->opset_import[i]->domain);
        if (!*domain || strcmp(domain, "ai.onnx") == 0) r->opset = model->opset_import[i]->version;
    }
    if (r->opset >= 7) return GB_OK;
    return gb_fail(r->err, GB_UNSUPPORTED, r->file, "convert it with onnx.version_converter",
                   "operator set %lld of ONNX is too old: 7 is the first that gimbal reads",
                   (long long)r->opset);
}

/* One message names every operator that is missing. */
static gb_status check_operators(gb_onnx_reader *r)
{
    char missing[500] = "";
    size_t length = 0;
    for (size_t i = 0; i < r->model->n_node; i++) {
        const GbOnnx__Node *n = r->model->node[i];
        const char *op = text_of(n->op_type), *domain = text_of(n->domain);
        bool known = (!*domain || strcmp(domain, "ai.onnx") == 0) && gb_onnx_supports(op);
        char item[80];
        snprintf(item, sizeof item, " %s%s%s,", domain, *domain ? "." : "", op);
        if (known || strstr(missing, item) || length + strlen(item) >= sizeof missing) continue;
        memcpy(missing + length, item, strlen(item) + 1);
        length += strlen(item);
    }
    if (!length) return GB_OK;
    missing[length - 1] = 0;
    return gb_fail(r->err, GB_UNSUPPORTED, r->file, "docs/operators.md lists what gimbal has",
                   "operators that gimbal does not have:%s", missing);
}

static gb_status read_initializers(gb_onnx_reader *r)
{
    for (size_t i = 0; i < r->model->n_initializer; i++) {
        const GbOnnx__Tensor *t = r->model->initializer[i];
        gb_onnx_name *name = gb_onnx_define(r, text_of(t->name));
        if (!name) return GB_FORMAT;
        gb_status status = gb_onnx_tensor_decode(t, r->folder, r->file, &name->known, r->err);
        if (status) return status;
        name->weight = gb_dtype_is_float(name->known.dtype) && name->known.shape.rank > 0;
    }
    return GB_OK;
}

/* --- inputs --- */

static bool decides_shape(const gb_onnx_reader *r, const char *name)
{
    for (size_t i = 0; i < r->model->n_node; i++) {
        const GbOnnx__Node *n = r->model->node[i];
        for (size_t k = 0; k < n->n_input; k++)
            if (strcmp(text_of(n->input[k]), name) == 0 &&
                gb_onnx_needs_known(text_of(n->op_type), k))
                return true;
    }
    return false;
}

static gb_status copy_value(gb_onnx_reader *r, const gb_tensor *value, gb_onnx_name *name)
{
    gb_status status = gb_tensor_alloc(&name->known, value->dtype, &value->shape, r->err);
    if (!status && gb_tensor_bytes(value))
        memcpy(name->known.data, value->data, gb_tensor_bytes(value));
    return status;
}

static gb_status input_shape(gb_onnx_reader *r, const char *name, const GbOnnx__Shape *declared,
                             gb_shape *shape)
{
    if (declared->n_dim > GB_MAX_RANK)
        return bad(r, "more than 8 dimensions are declared for input", name);
    shape->rank = (int)declared->n_dim;
    for (int i = 0; i < shape->rank; i++) {
        const GbOnnx__Dimension *d = declared->dim[i];
        bool fixed = d->has_dim_value && d->dim_value >= 0;
        shape->dim[i] = fixed ? d->dim_value : r->options->batch > 0 ? r->options->batch : 1;
        if (!fixed && i > 0)
            return gb_fail(r->err, GB_UNSUPPORTED, r->file,
                           "export the model with fixed sizes, or run it with input files",
                           "dimension %d of input '%s' is not known", i, name);
    }
    return GB_OK;
}

static gb_status read_input(gb_onnx_reader *r, const GbOnnx__ValueInfo *info)
{
    const char *id = text_of(info->name);
    if (gb_onnx_find(r, id)) return GB_OK; /* an initializer with its declaration */
    gb_onnx_name *name = gb_onnx_define(r, id);
    if (!name) return GB_FORMAT;
    const gb_tensor *value = r->options->values ? gb_tensors_find(r->options->values, id) : NULL;
    const GbOnnx__TensorType *type = info->type ? info->type->tensor_type : NULL;
    gb_dtype dtype;
    gb_shape shape = {0};
    if (!type || !gb_onnx_dtype(type->elem_type, &dtype))
        return gb_fail(r->err, GB_UNSUPPORTED, r->file, "use tensors of numbers",
                       "input '%s' is no tensor of a type that gimbal has", id);
    if (value && value->dtype != dtype)
        return gb_fail(r->err, GB_INVALID, id, "convert the array", "input '%s' is %s, not %s", id,
                       gb_dtype_name(dtype), gb_dtype_name(value->dtype));
    if (value && decides_shape(r, id)) return copy_value(r, value, name);
    if (value) shape = value->shape;
    else if (!type->shape) return bad(r, "no shape is declared for input", id);
    gb_status status = value ? GB_OK : input_shape(r, id, type->shape, &shape);
    if (status) return status;
    name->value = gb_graph_input(r->graph, id, dtype, &shape);
    return gb_graph_check(r->graph, r->err);
}

/* --- nodes --- */

static gb_status read_attr(gb_onnx_call *call, const GbOnnx__Attribute *a, gb_attr *out)
{
    gb_onnx_reader *r = call->reader;
    static const int64_t no_ints[1];
    static const double no_floats[1];
    *out = (gb_attr){.name = text_of(a->name)};
    switch (a->type) {
    case 1: *out = GB_FLOAT(out->name, a->f); return GB_OK;
    case 2: *out = GB_INT(out->name, a->i); return GB_OK;
    case 3: {
        char *s = gb_arena_alloc(r->arena, a->s.len + 1);
        if (!s) return no_memory(r);
        if (a->s.len) memcpy(s, a->s.data, a->s.len);
        *out = GB_STRING(out->name, s);
        return GB_OK;
    }
    case 4: {
        gb_tensor t;
        if (!a->t) return gb_onnx_call_fail(call, GB_FORMAT, NULL, "attribute %s is empty", a->name);
        gb_status status = gb_onnx_tensor_decode(a->t, r->folder, r->file, &t, r->err);
        gb_onnx_name *known = status ? NULL : gb_onnx_known(r, &t);
        out->type = GB_ATTR_TENSOR;
        if (known) out->tensor = &known->known;
        return status ? status : known ? GB_OK : GB_OUT_OF_MEMORY;
    }
    case 6: {
        double *f = gb_arena_alloc(r->arena, (a->n_floats + 1) * sizeof *f);
        if (!f) return no_memory(r);
        for (size_t i = 0; i < a->n_floats; i++) f[i] = a->floats[i];
        out->type = GB_ATTR_FLOATS;
        out->floats = a->n_floats ? f : no_floats;
        out->n = a->n_floats;
        return GB_OK;
    }
    case 7: *out = GB_INTS(out->name, a->n_ints ? a->ints : no_ints, a->n_ints); return GB_OK;
    default:
        return gb_onnx_call_fail(call, GB_UNSUPPORTED, NULL,
                                 "attribute '%s' has type %d, which gimbal does not read", out->name,
                                 (int)a->type);
    }
}

static gb_status resolve(gb_onnx_call *call, const GbOnnx__Node *n)
{
    gb_onnx_reader *r = call->reader;
    if (n->n_input > GB_ONNX_MAX_IN || n->n_output > GB_ONNX_MAX_OUT || !n->n_output ||
        n->n_attribute > GB_ONNX_MAX_ATTR)
        return gb_onnx_call_fail(call, GB_FORMAT, NULL,
                                 "it has %zu inputs, %zu outputs and %zu attributes", n->n_input,
                                 n->n_output, n->n_attribute);
    for (size_t k = 0; k < n->n_input; k++) {
        const char *name = text_of(n->input[k]);
        call->in[k] = *name ? gb_onnx_find(r, name) : NULL;
        if (*name && !call->in[k])
            return gb_onnx_call_fail(call, GB_FORMAT, "export the model again",
                                     "input '%s' is defined nowhere before it", name);
    }
    call->n_in = n->n_input;
    while (call->n_in && !call->in[call->n_in - 1]) call->n_in--;
    call->n_out = n->n_output;
    while (call->n_out > 1 && !*text_of(n->output[call->n_out - 1])) call->n_out--;
    for (size_t i = 0; i < n->n_attribute; i++) {
        gb_status status = read_attr(call, n->attribute[i], &call->attr[call->n_attr++]);
        if (status) return status;
    }
    return GB_OK;
}

static gb_status add_node(gb_onnx_call *call)
{
    gb_onnx_reader *r = call->reader;
    gb_value in[GB_ONNX_MAX_IN];
    for (size_t k = 0; k < call->n_in; k++)
        in[k] = gb_onnx_value(r, call->in[k], gb_onnx_needs_known(call->op, k));
    gb_graph_add(r->graph, call->op, in, call->n_in, call->attr, call->n_attr, call->out,
                 call->n_out);
    return gb_graph_check(r->graph, r->err);
}

static gb_status read_node(gb_onnx_reader *r, size_t index)
{
    const GbOnnx__Node *n = r->model->node[index];
    char name[120];
    if (*text_of(n->name)) snprintf(name, sizeof name, "%s", n->name);
    else snprintf(name, sizeof name, "%s_%zu", text_of(n->op_type), index);
    gb_graph_path(r->graph, name);
    gb_onnx_call call = {.reader = r, .node = name, .op = text_of(n->op_type)};
    gb_status status = resolve(&call, n);
    if (!status) status = gb_onnx_fix(&call);
    if (!status && !call.done) status = gb_onnx_fold(&call);
    if (!status && !call.done) status = add_node(&call);
    for (size_t k = 0; !status && k < call.n_out; k++) {
        if (!*text_of(n->output[k])) continue;
        gb_onnx_name *out = gb_onnx_define(r, n->output[k]);
        if (!out) status = GB_FORMAT;
        else if (k == 0 && call.known.data) {
            out->known = call.known;
            call.known.data = NULL;
        } else out->value = call.out[k];
    }
    gb_tensor_free(&call.known);
    return status;
}

static gb_status read_outputs(gb_onnx_reader *r)
{
    for (size_t i = 0; i < r->model->n_output; i++) {
        const char *id = text_of(r->model->output[i]->name);
        gb_onnx_name *name = gb_onnx_find(r, id);
        if (!name) return bad(r, "nothing computes output", id);
        gb_graph_output(r->graph, id, gb_onnx_value(r, name, false));
    }
    if (!r->model->n_output) return bad(r, "there is no output in model", text_of(r->model->name));
    return gb_graph_check(r->graph, r->err);
}

static gb_status read_model(gb_onnx_reader *r, const GbOnnx__Model *model)
{
    gb_status status = find_opset(r, model);
    if (!status) status = check_operators(r);
    if (!status) status = read_initializers(r);
    for (size_t i = 0; !status && i < r->model->n_input; i++)
        status = read_input(r, r->model->input[i]);
    for (size_t i = 0; !status && i < r->model->n_node; i++) status = read_node(r, i);
    return status ? status : read_outputs(r);
}

static gb_status parse(const uint8_t *bytes, size_t length, const char *name, const char *folder,
                       const gb_onnx_options *options, gb_graph **graph, gb_error *err)
{
    static const gb_onnx_options defaults;
    gb_error local;
    *graph = NULL;
    GbOnnx__Model *model = gb_onnx__model__unpack(NULL, length, bytes);
    if (!model || !model->graph) {
        if (model) gb_onnx__model__free_unpacked(model, NULL);
        return gb_fail(err, GB_FORMAT, name, "check that the file is whole and is an ONNX model",
                       "not an ONNX model, or a damaged one");
    }
    gb_onnx_reader r = {.graph = gb_graph_create(), .err = err ? err : &local,
                        .arena = gb_arena_create(), .file = name, .folder = folder,
                        .model = model->graph, .options = options ? options : &defaults};
    gb_status status = r.graph && r.arena ? read_model(&r, model) : no_memory(&r);
    gb_device_close(&r.device);
    gb_context_destroy(&r.context);
    gb_onnx_free_names(&r);
    gb_arena_destroy(r.arena);
    gb_onnx__model__free_unpacked(model, NULL);
    if (status) gb_graph_destroy(&r.graph);
    *graph = r.graph;
    return status;
}

gb_status gb_onnx_parse(const uint8_t *bytes, size_t length, const char *name,
                        const gb_onnx_options *options, gb_graph **graph, gb_error *err)
{
    return parse(bytes, length, name, NULL, options, graph, err);
}

gb_status gb_onnx_read(const char *path, const gb_onnx_options *options, gb_graph **graph,
                       gb_error *err)
{
    uint8_t *bytes;
    size_t length;
    *graph = NULL;
    gb_status status = gb_read_file(path, MAX_FILE, &bytes, &length, err);
    if (status) return status;
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    status = folder ? parse(bytes, length, path, folder, options, graph, err)
                    : gb_fail(err, GB_OUT_OF_MEMORY, path, NULL, "no memory for a path");
    free(folder);
    free(bytes);
    return status;
}
