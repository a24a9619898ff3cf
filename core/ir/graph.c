#include "core/ir/ir.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Grows an array to hold one more; elements are zeroed. */
static bool grow(gb_graph *g, void **array, int n, int *cap, size_t size)
{
    if (n < *cap) return true;
    int want = *cap ? 2 * *cap : 16;
    void *p = realloc(*array, (size_t)want * size);
    if (!p) {
        gb_graph_fail(g, GB_OUT_OF_MEMORY, "use a smaller model", "no memory for the graph");
        return false;
    }
    memset((char *)p + (size_t)n * size, 0, (size_t)(want - n) * size);
    *array = p;
    *cap = want;
    return true;
}
#define GROW(g, array, n, cap) grow(g, (void **)&(array), n, &(cap), sizeof *(array))

gb_graph *gb_graph_create(void)
{
    gb_graph *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->arena = gb_arena_create();
    g->path = g->phase = "";
    if (!g->arena || !GROW(g, g->value, 0, g->cap_values)) {
        gb_graph_destroy(&g);
        return NULL;
    }
    g->n_values = 1;
    g->value[0] = (gb_value_info){.shape.rank = -1, .name = ""};
    g->phase = "forward";
    return g;
}

void gb_graph_destroy(gb_graph **graph)
{
    if (!graph || !*graph) return;
    gb_graph *g = *graph;
    gb_arena_destroy(g->arena);
    free(g->node);
    free(g->value);
    free(g->input);
    free(g->scalar);
    free(g->state);
    free(g->output);
    free(g->output_name);
    free(g);
    *graph = NULL;
}

gb_status gb_graph_check(const gb_graph *g, gb_error *err)
{
    if (err && gb_graph_failed(g)) *err = g->error;
    return g->error.status;
}

gb_status gb_graph_fail(gb_graph *g, gb_status status, const char *hint, const char *format, ...)
{
    if (gb_graph_failed(g)) return g->error.status;
    char text[sizeof g->error.message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return gb_fail(&g->error, status, g->path, hint, "%s", text);
}

void gb_node_fail(gb_graph *g, const gb_node *n, const char *hint, const char *format, ...)
{
    if (gb_graph_failed(g)) return;
    char text[sizeof g->error.message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *path = n->path ? n->path : g->path;
    gb_fail(&g->error, GB_INVALID, path, hint, "%s%s%s: %s", path, *path ? ": " : "", n->op->name,
            text);
}

static gb_value new_value(gb_graph *g, gb_value_kind kind, gb_dtype dtype, const gb_shape *shape,
                          const char *name)
{
    if (gb_graph_failed(g)) return GB_NONE;
    if (shape->rank < 0 || shape->rank > GB_MAX_RANK || gb_shape_count(shape) < 0 ||
        (unsigned)dtype >= GB_DTYPE_COUNT) {
        gb_graph_fail(g, GB_INVALID, "shapes have up to 8 dimensions, none of them negative",
                      "value %s has an impossible shape or type", name);
        return GB_NONE;
    }
    if (!GROW(g, g->value, g->n_values, g->cap_values)) return GB_NONE;
    char *copy = gb_arena_string(g->arena, name);
    if (!copy) {
        gb_graph_fail(g, GB_OUT_OF_MEMORY, NULL, "no memory for the graph");
        return GB_NONE;
    }
    g->value[g->n_values] =
        (gb_value_info){.kind = kind, .dtype = dtype, .shape = *shape, .name = copy, .node = -1};
    return (gb_value)g->n_values++;
}

static gb_value find_named(const gb_graph *g, const gb_value *list, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(g->value[list[i]].name, name) == 0) return list[i];
    return GB_NONE;
}

static gb_value add_leaf(gb_graph *g, gb_value v, gb_value **list, int *n, int *cap)
{
    if (!v || !grow(g, (void **)list, *n, cap, sizeof **list)) return GB_NONE;
    g->value[v].index = *n;
    (*list)[(*n)++] = v;
    return v;
}

gb_value gb_graph_input(gb_graph *g, const char *name, gb_dtype dtype, const gb_shape *shape)
{
    if (find_named(g, g->input, g->n_inputs, name)) {
        gb_graph_fail(g, GB_INVALID, "give each input a name of its own", "two inputs are called %s",
                      name);
        return GB_NONE;
    }
    return add_leaf(g, new_value(g, GB_V_INPUT, dtype, shape, name), &g->input, &g->n_inputs,
                    &g->cap_inputs);
}

gb_value gb_graph_scalar(gb_graph *g, const char *name, gb_dtype dtype)
{
    gb_value known = find_named(g, g->scalar, g->n_scalars, name);
    if (known) {
        if (g->value[known].dtype != dtype)
            gb_graph_fail(g, GB_INVALID, "use one type", "scalar %s is used with two types", name);
        return gb_graph_failed(g) ? GB_NONE : known;
    }
    if (dtype != GB_F32 && dtype != GB_I32)
        gb_graph_fail(g, GB_INVALID, "use F32 or I32", "scalar %s is %s", name,
                      gb_dtype_name(dtype));
    if (g->n_scalars == 64)
        gb_graph_fail(g, GB_INVALID, "use inputs", "more than 64 step scalars");
    gb_shape s = {0};
    return add_leaf(g, new_value(g, GB_V_SCALAR, dtype, &s, name), &g->scalar, &g->n_scalars,
                    &g->cap_scalars);
}

static bool copy_tensor(gb_graph *g, gb_value v, const gb_tensor *t)
{
    size_t bytes = gb_tensor_bytes(t);
    void *data = gb_arena_copy(g->arena, t->data, bytes);
    if (!data) {
        gb_graph_fail(g, GB_OUT_OF_MEMORY, "use a smaller model", "no memory for a constant of %zu bytes",
                      bytes);
        return false;
    }
    g->value[v].tensor = (gb_tensor){.dtype = t->dtype, .shape = t->shape, .data = data};
    return true;
}

gb_value gb_graph_state(gb_graph *g, const char *name, gb_dtype dtype, const gb_shape *shape,
                        bool trainable, const gb_tensor *initial)
{
    if (find_named(g, g->state, g->n_states, name))
        gb_graph_fail(g, GB_INVALID, "give each state a name of its own", "two states are called %s",
                      name);
    if (initial && (initial->dtype != dtype || !gb_shape_equal(&initial->shape, shape)))
        gb_graph_fail(g, GB_INVALID, "give it the state's shape and type",
                      "the initial value of %s does not fit", name);
    gb_value v = add_leaf(g, new_value(g, GB_V_STATE, dtype, shape, name), &g->state, &g->n_states,
                          &g->cap_states);
    if (!v || (initial && !copy_tensor(g, v, initial))) return GB_NONE;
    g->value[v].trainable = trainable;
    return v;
}

void gb_graph_update(gb_graph *g, gb_value state, gb_value value)
{
    if (gb_graph_failed(g)) return;
    gb_value_info *s = &g->value[state], *v = &g->value[value];
    if (!state || s->kind != GB_V_STATE || !value || s->update || s->dtype != v->dtype ||
        !gb_shape_equal(&s->shape, &v->shape)) {
        gb_graph_fail(g, GB_INVALID, "update a state once, with a value of its shape and type",
                      "the new value of state %s does not fit", s->name);
        return;
    }
    s->update = value;
}

gb_value gb_graph_constant(gb_graph *g, const gb_tensor *value)
{
    gb_value v = new_value(g, GB_V_CONST, value->dtype, &value->shape, "");
    return v && copy_tensor(g, v, value) ? v : GB_NONE;
}

gb_value gb_graph_float(gb_graph *g, double value)
{
    float f = (float)value;
    gb_tensor t = {.dtype = GB_F32, .data = &f};
    return gb_graph_constant(g, &t);
}

gb_value gb_constant_ints(gb_graph *g, const int64_t *v, int n)
{
    gb_tensor t = {.dtype = GB_I64, .shape = {.rank = 1, .dim = {n}}, .data = (void *)v};
    return gb_graph_constant(g, &t);
}

static void set_text(gb_graph *g, const char **field, const char *text)
{
    char *copy = gb_arena_string(g->arena, text);
    if (copy) *field = copy;
    else gb_graph_fail(g, GB_OUT_OF_MEMORY, NULL, "no memory for the graph");
}

void gb_graph_path(gb_graph *g, const char *path)
{
    set_text(g, &g->path, path);
}

void gb_graph_phase(gb_graph *g, const char *phase)
{
    set_text(g, &g->phase, phase);
}

void gb_graph_output(gb_graph *g, const char *name, gb_value value)
{
    if (gb_graph_failed(g)) return;
    int cap = g->cap_outputs;
    char *copy = gb_arena_string(g->arena, name);
    if (!value || !copy || !grow(g, (void **)&g->output_name, g->n_outputs, &cap, sizeof(char *)) ||
        !GROW(g, g->output, g->n_outputs, g->cap_outputs)) {
        gb_graph_fail(g, GB_INVALID, "give a value", "output %s has no value", name);
        return;
    }
    g->output_name[g->n_outputs] = copy;
    g->output[g->n_outputs++] = value;
}

static bool copy_attr(gb_graph *g, gb_attr *to, const gb_attr *from)
{
    *to = *from;
    to->name = gb_arena_string(g->arena, from->name);
    bool ok = to->name != NULL;
    if (from->type == GB_ATTR_STRING) ok = (to->s = gb_arena_string(g->arena, from->s)) && ok;
    if (from->type == GB_ATTR_INTS)
        ok = (to->ints = gb_arena_copy(g->arena, from->ints, from->n * sizeof *from->ints)) && ok;
    if (from->type == GB_ATTR_FLOATS)
        ok = (to->floats = gb_arena_copy(g->arena, from->floats, from->n * sizeof *from->floats)) &&
             ok;
    if (from->type == GB_ATTR_TENSOR && from->tensor) {
        gb_tensor *t = gb_arena_copy(g->arena, from->tensor, sizeof *t);
        if (t) t->data = gb_arena_copy(g->arena, from->tensor->data, gb_tensor_bytes(from->tensor));
        ok = t && t->data && ok;
        to->tensor = t;
    }
    return ok;
}

static void no_memory(gb_graph *g)
{
    gb_graph_fail(g, GB_OUT_OF_MEMORY, "use a smaller model", "no memory for the graph");
}

gb_node *gb_graph_append(gb_graph *g, const gb_op *op, const gb_value *in, int n_in,
                         const gb_attr *attr, int n_attr, int n_out, const gb_compute *compute)
{
    if (gb_graph_failed(g) || !GROW(g, g->node, g->n_nodes, g->cap_nodes)) return NULL;
    gb_node n = {.op = op, .n_in = n_in, .n_out = n_out, .n_attr = n_attr, .path = g->path,
                 .phase = g->phase, .keeps_f32 = g->keeps_f32 || op->keeps_f32};
    n.in = gb_arena_copy(g->arena, in, (size_t)n_in * sizeof *in);
    n.out = gb_arena_alloc(g->arena, (size_t)n_out * sizeof *n.out);
    n.attr = gb_arena_alloc(g->arena, (size_t)n_attr * sizeof *n.attr);
    n.compute = compute ? gb_arena_copy(g->arena, compute, sizeof *compute) : NULL;
    bool ok = n.in && n.out && n.attr && (n.compute || !compute);
    for (int i = 0; ok && i < n_attr; i++) ok = copy_attr(g, &n.attr[i], &attr[i]);
    gb_shape unknown = {0};
    for (int k = 0; ok && k < n_out; k++) {
        gb_value v = n.out[k] = new_value(g, GB_V_NODE, GB_F32, &unknown, "");
        ok = v != GB_NONE;
        g->value[v].node = g->n_nodes;
        g->value[v].index = k;
    }
    if (!ok) {
        no_memory(g);
        return NULL;
    }
    g->node[g->n_nodes] = n;
    return &g->node[g->n_nodes++];
}

void gb_set_output(gb_graph *g, const gb_node *n, int k, gb_dtype dtype, const gb_shape *shape)
{
    if (k >= n->n_out || gb_graph_failed(g)) return;
    if (gb_shape_count(shape) < 0) {
        gb_node_fail(g, n, "use smaller shapes", "the result would be too large");
        return;
    }
    g->value[n->out[k]].dtype = dtype;
    g->value[n->out[k]].shape = *shape;
}

gb_dtype gb_value_dtype(const gb_graph *g, gb_value v)
{
    return v < (gb_value)g->n_values ? g->value[v].dtype : GB_F32;
}

gb_shape gb_value_shape(const gb_graph *g, gb_value v)
{
    return g->value[v < (gb_value)g->n_values ? v : 0].shape;
}

const char *gb_value_name(const gb_graph *g, gb_value v)
{
    return g->value[v < (gb_value)g->n_values ? v : 0].name;
}

size_t gb_graph_trainable(const gb_graph *g, gb_value *states, size_t cap)
{
    size_t n = 0;
    for (int i = 0; i < g->n_states; i++)
        if (g->value[g->state[i]].trainable) {
            if (n < cap) states[n] = g->state[i];
            n++;
        }
    return n;
}
