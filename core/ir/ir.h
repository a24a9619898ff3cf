/* The graph from inside: nodes, values, and the operator table.
 *
 * An operator is described once, in core/ir/ops/: a pointwise operator by an expression, a composite
 * one by its expansion into others, a core operator by its lowering to plan steps. The gradient,
 * loops, kernels, the reference, the dump, import, export, tests and documentation follow. */
#ifndef GB_CORE_IR_IR_H
#define GB_CORE_IR_IR_H

#include <gimbal/graph.h>

#include "core/base/arena.h"
#include "core/ir/expr.h"
#include "core/ir/plan.h"

typedef struct gb_op gb_op;

#define GB_MAX_EXPR_INPUTS 24 /* of one expression, before those that it does not read are dropped */

/* What Pointwise and Reduce nodes compute: expr over an iteration space, to which inputs broadcast
 * (numpy's rule). Reduce: the axes in mask are combined; output k is expr output k through red[k],
 * times scale[k]; MOMENTS has two outputs. keep: reduced axes stay as 1. */
typedef struct gb_compute {
    const gb_expr *expr;
    gb_shape space;
    uint32_t mask;
    bool keep;
    gb_combine red[GB_MAX_STEP_OUT];
    double scale[GB_MAX_STEP_OUT];
} gb_compute;

typedef struct gb_node {
    const gb_op *op;
    int n_in, n_out, n_attr;
    gb_value *in, *out;
    gb_attr *attr;
    const char *path, *phase;
    bool keeps_f32; /* it is, or comes from, an operator that does */
    const gb_compute *compute;  /* Pointwise and Reduce; contractions: the epilogue, see fuse.c */
} gb_node;

typedef enum gb_value_kind { GB_V_INPUT, GB_V_SCALAR, GB_V_STATE, GB_V_CONST, GB_V_NODE } gb_value_kind;

typedef struct gb_value_info {
    gb_value_kind kind;
    gb_dtype dtype;
    gb_shape shape;
    const char *name; /* never NULL */
    int index;        /* number among inputs, scalars or states; output number of a node */
    int node;         /* NODE: the producer */
    bool trainable;   /* STATE */
    gb_tensor tensor; /* CONST: the value; STATE: the initial value or data NULL; in the arena */
    gb_storage storage; /* of floats in memory; set by core/passes/precision.c, F32 before */
    gb_value update;  /* STATE: its value after a run, GB_NONE: unchanged */
} gb_value_info;

struct gb_graph {
    gb_arena *arena;
    gb_error error; /* the first failure */
    gb_node *node;
    gb_value_info *value; /* [0] is unused: GB_NONE */
    int n_nodes, cap_nodes, n_values, cap_values;
    gb_value *input, *scalar, *state, *output;
    const char **output_name;
    int n_inputs, n_scalars, n_states, n_outputs;
    int cap_inputs, cap_scalars, cap_states, cap_outputs;
    const char *path, *phase; /* of nodes added from now on */
    bool keeps_f32;           /* likewise */
};

/* --- the operator table --- */
typedef enum gb_type_rule {
    GB_T_SAME,  /* all inputs and the output have one type, any */
    GB_T_FLOAT, /* the same, floats only */
    GB_T_INT,   /* the same, integers only (no BOOL) */
    GB_T_LOGIC, /* BOOL in, BOOL out */
    GB_T_TEST,  /* like inputs of any type in, BOOL out */
    GB_T_WHERE, /* BOOL and two of one type */
    GB_T_CUSTOM /* the operator's infer decides */
} gb_type_rule;

typedef struct gb_attr_spec {
    const char *name;
    gb_attr_type type;
    double number;      /* default of INT and FLOAT */
    const char *string; /* default of STRING */
    bool required;
} gb_attr_spec;

/* What the gradient reads of the forward run. Fusion and memory follow the graph itself; this column
 * is for people and for the support table. */
typedef enum gb_needs { GB_NEEDS_NOTHING, GB_NEEDS_INPUT, GB_NEEDS_OUTPUT } gb_needs;

typedef struct gb_lowering gb_lowering; /* core/ir/lowering.h */

struct gb_op {
    const char *name;
    int min_in, max_in, max_out; /* max_in -1: any number */
    gb_type_rule types;
    gb_needs needs;
    /* Why there is no gradient ("is piecewise constant"); NULL: there is one. */
    const char *not_differentiable;
    /* Forward and gradient tolerance against float64, relative to the largest element. 0: 2e-6. */
    double tolerance;
    /* In mixed precision: what it computes within itself stays in f32 (statistics, sums, losses). */
    bool keeps_f32;
    bool view;     /* its result is a window of its first input, in the same memory */
    bool internal; /* made by passes, not for models; left out of the documentation */
    gb_attr_spec attr[10];

    /* pointwise: the value of one element. Its gradient is derived, or, where that would be unstable
     * or keep too much, given: d in[k], from the inputs x, the output y and dy. */
    gb_x (*pointwise)(gb_xb *b, const gb_node *n, const gb_x *x);
    gb_x (*pointwise_gradient)(gb_xb *b, const gb_node *n, const gb_x *x, gb_x y, gb_x dy, int k);

    /* structured: sets dtype and shape of each output with gb_set_output, or fails with
     * gb_graph_fail */
    void (*infer)(gb_graph *g, const gb_node *n);
    /* composite: builds the same from simpler operators. out[n->n_out] */
    void (*expand)(gb_graph *g, const gb_node *n, gb_value *out);
    /* din[k] = gradient of input k (GB_NONE: none), given dout[k] (GB_NONE: zero). NULL: through
     * expand. */
    void (*gradient)(gb_graph *g, const gb_node *n, const gb_value *dout, gb_value *din);
    /* core: emits plan steps */
    void (*lower)(gb_lowering *l, const gb_node *n);
};

const gb_op *gb_op_find(const char *name);
const gb_op *gb_op_at(int i); /* NULL at the end */

/* --- for operators and passes --- */
gb_status gb_graph_fail(gb_graph *g, gb_status status, const char *hint, const char *format, ...)
    GB_PRINTF(4, 5);
/* Fails with the node's path and operator in front. */
void gb_node_fail(gb_graph *g, const gb_node *n, const char *hint, const char *format, ...)
    GB_PRINTF(4, 5);
static inline bool gb_graph_failed(const gb_graph *g) { return g->error.status != GB_OK; }

static inline const gb_shape *gb_shape_ptr(const gb_graph *g, gb_value v) { return &g->value[v].shape; }
static inline gb_dtype gb_dtype_at(const gb_graph *g, gb_value v) { return g->value[v].dtype; }
void gb_set_output(gb_graph *g, const gb_node *n, int k, gb_dtype dtype, const gb_shape *shape);

const gb_attr *gb_node_attr(const gb_node *n, const char *name); /* NULL: not given */
int64_t gb_node_int(const gb_node *n, const char *name);         /* or its default */
double gb_node_float(const gb_node *n, const char *name);
const char *gb_node_string(const gb_node *n, const char *name);
/* Integers from attribute name or, where the node has it, from constant input k (-1: none).
 * Returns their number, -1 where neither is given. Fails the graph if input k is not constant. */
int gb_node_ints(gb_graph *g, const gb_node *n, const char *name, int k, int64_t *out, int cap);
/* A number from a constant input, or fallback where it is absent. */
double gb_node_number(gb_graph *g, const gb_node *n, int k, double fallback);

/* Broadcasts by numpy's rule; false where shapes do not fit. */
bool gb_broadcast(const gb_shape *a, const gb_shape *b, gb_shape *out);
/* axis from [-rank, rank) to [0, rank); fails the graph otherwise and returns 0. */
int gb_axis(gb_graph *g, const gb_node *n, int64_t axis, int rank);

/* A Pointwise node with one output; consumes and frees b. */
gb_value gb_pointwise(gb_graph *g, gb_xb *b, gb_x y, const gb_value *in, int n_in, gb_dtype dtype,
                      const gb_shape *space);
/* The general form: n_out outputs. */
void gb_pointwise_n(gb_graph *g, gb_xb *b, const gb_x *y, int n_out, const gb_value *in, int n_in,
                    const gb_dtype *dtype, const gb_shape *space, gb_value *out);
/* A Reduce node; consumes and frees b. c gives space, mask, keep, red, scale. dtype of output k: I32
 * for an integer expression, else that of the first float input. */
void gb_reduce_n(gb_graph *g, gb_xb *b, const gb_x *y, int n_red, const gb_value *in, int n_in,
                 const gb_compute *c, gb_value *out);
/* Sums v over axes so that it gets shape to, from which it was broadcast. */
gb_value gb_sum_to(gb_graph *g, gb_value v, const gb_shape *to);
/* v in shape `to` (Expand where it differs). */
gb_value gb_expand_to(gb_graph *g, gb_value v, const gb_shape *to);
gb_value gb_reshape_to(gb_graph *g, gb_value v, const gb_shape *to);
/* Leaf of the right type for input k of a node with these inputs. */
gb_x gb_x_operand(gb_xb *b, const gb_graph *g, const gb_value *in, int k);
/* The same node with all outputs, in another graph; in: mapped inputs. */
gb_node *gb_graph_append(gb_graph *g, const gb_op *op, const gb_value *in, int n_in,
                         const gb_attr *attr, int n_attr, int n_out, const gb_compute *compute);
gb_value gb_constant_ints(gb_graph *g, const int64_t *v, int n);

#endif
