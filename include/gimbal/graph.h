/* Graphs: a model as data.
 *
 * A graph is a list of nodes in order of execution. Operators carry ONNX's names and semantics
 * (docs/operators.md lists them); their attributes carry ONNX's names. Shapes are fixed.
 *
 * Errors are sticky: the first failure is kept in the graph, later calls do nothing and return
 * GB_NONE, and gb_graph_check reports it. So building code needs no check at every line.
 * A graph belongs to one thread at a time. */
#ifndef GIMBAL_GRAPH_H
#define GIMBAL_GRAPH_H

#include <gimbal/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gb_graph gb_graph;
typedef uint32_t gb_value; /* a value of a graph */
#define GB_NONE 0u         /* no value: an absent optional input, or a failure */

/* An attribute of a node. Arrays and strings are copied. */
typedef enum gb_attr_type { GB_ATTR_INT, GB_ATTR_FLOAT, GB_ATTR_STRING, GB_ATTR_INTS,
                            GB_ATTR_FLOATS, GB_ATTR_TENSOR } gb_attr_type;
typedef struct gb_attr {
    const char *name;
    gb_attr_type type;
    int64_t i;
    double f;
    const char *s;
    const int64_t *ints;
    const double *floats;
    const gb_tensor *tensor;
    size_t n; /* length of ints or floats */
} gb_attr;

#define GB_INT(key, value) ((gb_attr){.name = (key), .type = GB_ATTR_INT, .i = (value)})
#define GB_FLOAT(key, value) ((gb_attr){.name = (key), .type = GB_ATTR_FLOAT, .f = (value)})
#define GB_STRING(key, value) ((gb_attr){.name = (key), .type = GB_ATTR_STRING, .s = (value)})
#define GB_INTS(key, array, count) \
    ((gb_attr){.name = (key), .type = GB_ATTR_INTS, .ints = (array), .n = (count)})

GB_API gb_graph *gb_graph_create(void); /* NULL: no memory */
GB_API void gb_graph_destroy(gb_graph **graph);
/* The first error since creation, or OK. */
GB_API gb_status gb_graph_check(const gb_graph *graph, gb_error *err);

/* --- leaves --- */
/* A value given anew for each run (gb_program_set_input). Names are unique among inputs. */
GB_API gb_value gb_graph_input(gb_graph *g, const char *name, gb_dtype dtype,
                               const gb_shape *shape);
/* A scalar (rank 0, F32 or I32) given anew for each run: learning rate, step number, 1/count. The
 * same name gives the same value. At most 64. */
GB_API gb_value gb_graph_scalar(gb_graph *g, const char *name, gb_dtype dtype);
/* Named state: it keeps its content between runs. trainable: gradients are wanted.
 * initial (copied; NULL: zero) is what a store starts with. */
GB_API gb_value gb_graph_state(gb_graph *g, const char *name, gb_dtype dtype,
                               const gb_shape *shape, bool trainable, const gb_tensor *initial);
/* The value that a state holds after a run. Same dtype and shape; once per state. */
GB_API void gb_graph_update(gb_graph *g, gb_value state, gb_value value);
/* From now on the updates made so far happen only where condition (BOOL, one element) is true. */
GB_API void gb_graph_guard(gb_graph *g, gb_value condition);
GB_API gb_value gb_graph_constant(gb_graph *g, const gb_tensor *value); /* copied */
GB_API gb_value gb_graph_float(gb_graph *g, double value);              /* an F32 scalar */

/* --- nodes --- */
/* Adds a node; out receives n_out values (GB_NONE where an optional output is not wanted is not
 * possible here: ask for as many as you use). in may hold GB_NONE for absent optional inputs. */
GB_API gb_status gb_graph_add(gb_graph *g, const char *op, const gb_value *in, size_t n_in,
                              const gb_attr *attrs, size_t n_attrs, gb_value *out, size_t n_out);
/* Shorthands for one output. */
GB_API gb_value gb_op1(gb_graph *g, const char *op, gb_value a);
GB_API gb_value gb_op2(gb_graph *g, const char *op, gb_value a, gb_value b);
GB_API gb_value gb_op3(gb_graph *g, const char *op, gb_value a, gb_value b, gb_value c);
/* The same with attributes: GB_OP(g, "Softmax", GB_ARGS(x), GB_INT("axis", 1)). */
#define GB_ARGS(...) ((const gb_value[]){__VA_ARGS__}), \
        sizeof((const gb_value[]){__VA_ARGS__}) / sizeof(gb_value)
#define GB_OP(g, op, args, ...) \
    gb_op_list(g, op, args, ((const gb_attr[]){__VA_ARGS__}), \
               sizeof((const gb_attr[]){__VA_ARGS__}) / sizeof(gb_attr))
GB_API gb_value gb_op_list(gb_graph *g, const char *op, const gb_value *in, size_t n_in,
                           const gb_attr *attrs, size_t n_attrs);

/* Nodes added from now on belong to this layer, named by a stable path ("layers.3.conv"), which
 * random streams, reports and error messages use. Copied. */
GB_API void gb_graph_path(gb_graph *g, const char *path);
/* And to this phase: "forward" (the default), "backward" or "update". Copied. */
GB_API void gb_graph_phase(gb_graph *g, const char *phase);
GB_API void gb_graph_output(gb_graph *g, const char *name, gb_value value);

/* --- gradients --- */
/* Appends the gradient of the scalar loss with respect to wrt[i] as grad[i] (GB_NONE where loss
 * does not depend on it). Errors: UNSUPPORTED, naming an operator on the way that is not
 * differentiable. */
GB_API gb_status gb_graph_gradient(gb_graph *g, gb_value loss, const gb_value *wrt, size_t n,
                                   gb_value *grad);
/* All trainable states, in order of creation: returns their number, writes up to cap of them. */
GB_API size_t gb_graph_trainable(const gb_graph *g, gb_value *states, size_t cap);

/* --- reading --- */
GB_API gb_dtype gb_value_dtype(const gb_graph *g, gb_value v);
GB_API gb_shape gb_value_shape(const gb_graph *g, gb_value v); /* rank -1 for GB_NONE */
GB_API const char *gb_value_name(const gb_graph *g, gb_value v); /* name or "" */
/* Values are numbered from 1 to this number less one. */
GB_API size_t gb_graph_value_count(const gb_graph *g);
/* What a constant holds, or what a state starts with (NULL: zero); NULL for other values. Owned by
 * the graph. */
GB_API const gb_tensor *gb_value_tensor(const gb_graph *g, gb_value v);
/* Inputs, states and outputs in order of creation, for i from 0; GB_NONE at the end. */
GB_API gb_value gb_graph_input_at(const gb_graph *g, size_t i);
GB_API gb_value gb_graph_state_at(const gb_graph *g, size_t i);
GB_API gb_value gb_graph_output_at(const gb_graph *g, size_t i, const char **name);
/* Nodes in order of execution. What a view points to is the graph's, until it changes. */
typedef struct gb_node_view {
    const char *op, *path;
    const gb_value *in, *out;
    const gb_attr *attrs;
    size_t n_in, n_out, n_attrs;
} gb_node_view;
GB_API size_t gb_graph_node_count(const gb_graph *g);
GB_API gb_node_view gb_graph_node(const gb_graph *g, size_t i); /* i is not checked */
/* A copy as text, one node a line, for people and tests; free() it. */
GB_API char *gb_graph_dump(const gb_graph *g);
/* The operators: name of number i, NULL at the end. */
GB_API const char *gb_operator_name(int i);
/* How far a device may be from float64, relative to the largest element; 0 for unknown operators. */
GB_API double gb_operator_tolerance(const char *op);

#ifdef __cplusplus
}
#endif
#endif
