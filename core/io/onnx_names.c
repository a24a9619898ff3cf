/* Names of an ONNX model and what they stand for. */
#include <stdlib.h>
#include <string.h>

#include "core/io/onnx.h"

static size_t slot_of(const gb_onnx_name *names, size_t cap, const char *name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *c = name; *c; c++) h = (h ^ (uint8_t)*c) * 0x100000001b3u;
    size_t i = (size_t)(h ^ h >> 32) & (cap - 1);
    while (names[i].name && strcmp(names[i].name, name) != 0) i = (i + 1) & (cap - 1);
    return i;
}

gb_onnx_name *gb_onnx_find(gb_onnx_reader *r, const char *name)
{
    if (!r->cap_names) return NULL;
    gb_onnx_name *n = &r->names[slot_of(r->names, r->cap_names, name)];
    return n->name ? n : NULL;
}

static bool grow(gb_onnx_reader *r)
{
    size_t cap = r->cap_names ? 2 * r->cap_names : 256;
    gb_onnx_name *names = calloc(cap, sizeof *names);
    if (!names) return false;
    for (size_t i = 0; i < r->cap_names; i++)
        if (r->names[i].name) names[slot_of(names, cap, r->names[i].name)] = r->names[i];
    free(r->names);
    r->names = names;
    r->cap_names = cap;
    return true;
}

gb_onnx_name *gb_onnx_define(gb_onnx_reader *r, const char *name)
{
    if (2 * r->n_names >= r->cap_names && !grow(r)) {
        gb_fail(r->err, GB_OUT_OF_MEMORY, r->file, NULL, "no memory for the model's names");
        return NULL;
    }
    gb_onnx_name *n = &r->names[slot_of(r->names, r->cap_names, name)];
    if (n->name || !*name) {
        gb_fail(r->err, GB_FORMAT, r->file, "export the model again", "'%s' is defined %s", name,
                *name ? "twice" : "without a name");
        return NULL;
    }
    n->name = name;
    r->n_names++;
    return n;
}

void gb_onnx_free_names(gb_onnx_reader *r)
{
    for (size_t i = 0; i < r->cap_names; i++) gb_tensor_free(&r->names[i].known);
    free(r->names);
}

gb_onnx_name *gb_onnx_known(gb_onnx_reader *r, gb_tensor *tensor)
{
    gb_onnx_name *n = gb_arena_alloc(r->arena, sizeof *n);
    void *data = n ? gb_arena_copy(r->arena, tensor->data, gb_tensor_bytes(tensor)) : NULL;
    if (data) {
        n->known = *tensor;
        n->known.data = data;
    } else {
        gb_fail(r->err, GB_OUT_OF_MEMORY, r->file, NULL, "no memory for a constant");
    }
    gb_tensor_free(tensor);
    return data ? n : NULL;
}

gb_onnx_name *gb_onnx_known_ints(gb_onnx_reader *r, const int64_t *values, size_t n)
{
    gb_tensor t;
    gb_shape shape = {.rank = 1, .dim = {(int64_t)n}};
    if (gb_tensor_alloc(&t, GB_I64, &shape, r->err)) return NULL;
    if (n) memcpy(t.data, values, n * sizeof *values);
    return gb_onnx_known(r, &t);
}

gb_value gb_onnx_value(gb_onnx_reader *r, gb_onnx_name *name, bool constant)
{
    if (!name) return GB_NONE;
    if (constant && name->known.data) return gb_graph_constant(r->graph, &name->known);
    if (!name->value && name->weight)
        name->value = gb_graph_state(r->graph, name->name, name->known.dtype, &name->known.shape,
                                     r->options->trainable, &name->known);
    else if (!name->value) name->value = gb_graph_constant(r->graph, &name->known);
    return name->value;
}

gb_dtype gb_onnx_dtype_of(const gb_onnx_reader *r, const gb_onnx_name *name)
{
    return name->known.data ? name->known.dtype : gb_value_dtype(r->graph, name->value);
}

gb_shape gb_onnx_shape_of(const gb_onnx_reader *r, const gb_onnx_name *name)
{
    return name->known.data ? name->known.shape : gb_value_shape(r->graph, name->value);
}
