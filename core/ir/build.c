/* Adding nodes: validation against the operator table, attributes, type and shape inference. */
#include <stdlib.h>
#include <string.h>

#include <gimbal/suggest.h>

#include "core/ir/ir.h"

/* --- attributes --- */

const gb_attr *gb_node_attr(const gb_node *n, const char *name)
{
    for (int i = 0; i < n->n_attr; i++)
        if (strcmp(n->attr[i].name, name) == 0) return &n->attr[i];
    return NULL;
}

static const gb_attr_spec *find_spec(const gb_op *op, const char *name)
{
    for (const gb_attr_spec *s = op->attr; s->name; s++)
        if (strcmp(s->name, name) == 0) return s;
    return NULL;
}

int64_t gb_node_int(const gb_node *n, const char *name)
{
    const gb_attr *a = gb_node_attr(n, name);
    const gb_attr_spec *s = find_spec(n->op, name);
    return a ? a->i : s ? (int64_t)s->number : 0;
}

double gb_node_float(const gb_node *n, const char *name)
{
    const gb_attr *a = gb_node_attr(n, name);
    const gb_attr_spec *s = find_spec(n->op, name);
    return a ? a->f : s ? s->number : 0;
}

const char *gb_node_string(const gb_node *n, const char *name)
{
    const gb_attr *a = gb_node_attr(n, name);
    const gb_attr_spec *s = find_spec(n->op, name);
    const char *text = a ? a->s : s ? s->string : NULL;
    return text ? text : "";
}

int gb_node_ints(gb_graph *g, const gb_node *n, const char *name, int k, int64_t *out, int cap)
{
    const gb_attr *a = name ? gb_node_attr(n, name) : NULL;
    if (a) {
        int count = a->n > (size_t)cap ? cap + 1 : (int)a->n;
        if (count > cap) gb_node_fail(g, n, "give fewer", "attribute %s has too many entries", name);
        else memcpy(out, a->ints, (size_t)count * sizeof *out);
        return count > cap ? 0 : count;
    }
    if (k < 0 || k >= n->n_in || !n->in[k]) return -1;
    const gb_value_info *v = &g->value[n->in[k]];
    int64_t count = gb_shape_count(&v->shape);
    if (v->kind != GB_V_CONST || count > cap) {
        gb_node_fail(g, n, "make it a constant; shapes are fixed in gimbal",
                     "input %d must be a constant of at most %d elements", k, cap);
        return 0;
    }
    for (int64_t i = 0; i < count; i++) out[i] = gb_tensor_get_int(&v->tensor, i);
    return (int)count;
}

double gb_node_number(gb_graph *g, const gb_node *n, int k, double fallback)
{
    if (k >= n->n_in || !n->in[k]) return fallback;
    const gb_value_info *v = &g->value[n->in[k]];
    if (v->kind != GB_V_CONST || gb_shape_count(&v->shape) != 1) {
        gb_node_fail(g, n, "make it a constant of one element", "input %d must be a constant number",
                     k);
        return fallback;
    }
    return gb_tensor_get(&v->tensor, 0);
}

/* --- shapes --- */

bool gb_broadcast(const gb_shape *a, const gb_shape *b, gb_shape *out)
{
    gb_shape s = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int i = 1; i <= s.rank; i++) {
        int64_t x = i <= a->rank ? a->dim[a->rank - i] : 1;
        int64_t y = i <= b->rank ? b->dim[b->rank - i] : 1;
        if (x != y && x != 1 && y != 1) return false;
        s.dim[s.rank - i] = x == 1 ? y : x;
    }
    *out = s;
    return true;
}

int gb_axis(gb_graph *g, const gb_node *n, int64_t axis, int rank)
{
    if (axis >= -rank && axis < rank) return (int)(axis < 0 ? axis + rank : axis);
    gb_node_fail(g, n, "count axes from 0, or from -1 at the end", "axis %lld is not in a rank of %d",
                 (long long)axis, rank);
    return 0;
}

/* --- inference of pointwise operators --- */

static bool type_fits(gb_type_rule rule, gb_dtype t)
{
    switch (rule) {
    case GB_T_FLOAT: return gb_dtype_is_float(t);
    case GB_T_INT: return !gb_dtype_is_float(t) && t != GB_BOOL;
    case GB_T_LOGIC: return t == GB_BOOL;
    default: return true;
    }
}

static void infer_pointwise(gb_graph *g, const gb_node *n)
{
    gb_shape s = {0};
    int first = n->op->types == GB_T_WHERE ? 1 : 0;
    gb_dtype t = n->n_in > first ? gb_dtype_at(g, n->in[first]) : GB_F32;
    for (int k = 0; k < n->n_in; k++) {
        if (!n->in[k]) continue;
        const gb_shape *in = gb_shape_ptr(g, n->in[k]);
        gb_dtype have = gb_dtype_at(g, n->in[k]);
        char a[160], b[160];
        if (!gb_broadcast(&s, in, &s)) {
            gb_node_fail(g, n, "shapes must be equal or 1, counted from the last axis",
                         "shapes %s and %s do not broadcast", gb_shape_text(&s, a, sizeof a),
                         gb_shape_text(in, b, sizeof b));
            return;
        }
        bool condition = k < first;
        if (condition ? have != GB_BOOL : have != t || !type_fits(n->op->types, have)) {
            gb_node_fail(g, n, "insert a Cast", "input %d has type %s, which does not fit", k,
                         gb_dtype_name(have));
            return;
        }
    }
    gb_set_output(g, n, 0, n->op->types == GB_T_TEST ? GB_BOOL : t, &s);
}

/* --- adding --- */

static bool check_attrs(gb_graph *g, const gb_op *op, const gb_attr *attrs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const gb_attr_spec *s = find_spec(op, attrs[i].name);
        if (!s) {
            const char *names[16] = {0};
            size_t count = 0;
            for (const gb_attr_spec *a = op->attr; a->name; a++) names[count++] = a->name;
            char hint[200];
            gb_graph_fail(g, GB_INVALID, gb_suggest_hint(attrs[i].name, names, count, hint, sizeof hint),
                          "%s: operator %s has no attribute %s", g->path, op->name, attrs[i].name);
            return false;
        }
        if (s->type != attrs[i].type) {
            gb_graph_fail(g, GB_INVALID, "see docs/operators.md",
                          "%s: attribute %s of %s has the wrong type", g->path, s->name, op->name);
            return false;
        }
    }
    for (const gb_attr_spec *s = op->attr; s->name; s++) {
        bool given = false;
        for (size_t i = 0; i < n; i++) given |= strcmp(attrs[i].name, s->name) == 0;
        if (s->required && !given) {
            gb_graph_fail(g, GB_INVALID, "give it", "%s: %s needs attribute %s", g->path, op->name,
                          s->name);
            return false;
        }
    }
    return true;
}

gb_status gb_graph_add(gb_graph *g, const char *name, const gb_value *in, size_t n_in,
                       const gb_attr *attrs, size_t n_attrs, gb_value *out, size_t n_out)
{
    for (size_t i = 0; i < n_out; i++) out[i] = GB_NONE;
    if (gb_graph_failed(g)) return g->error.status;
    const gb_op *op = gb_op_find(name);
    if (!op) return gb_graph_fail(g, GB_UNSUPPORTED, "docs/operators.md lists the operators",
                                  "%s: there is no operator %s", g->path, name);
    if (n_in < (size_t)op->min_in || (op->max_in >= 0 && n_in > (size_t)op->max_in))
        return gb_graph_fail(g, GB_INVALID, "see docs/operators.md", "%s: %s got %zu inputs", g->path,
                             name, n_in);
    if (n_out < 1 || (op->max_out >= 0 && n_out > (size_t)op->max_out))
        return gb_graph_fail(g, GB_INVALID, "see docs/operators.md", "%s: %s cannot have %zu outputs",
                             g->path, name, n_out);
    for (size_t i = 0; i < n_in; i++)
        if (in[i] >= (gb_value)g->n_values || (i < (size_t)op->min_in && !in[i]))
            return gb_graph_fail(g, GB_INVALID, "give a value of this graph",
                                 "%s: input %zu of %s is missing", g->path, i, name);
    if (!check_attrs(g, op, attrs, n_attrs)) return g->error.status;
    gb_node *n = gb_graph_append(g, op, in, (int)n_in, attrs, (int)n_attrs, (int)n_out, NULL);
    if (!n) return g->error.status;
    gb_node copy = *n; /* inference may add constants; nodes may move */
    if (op->infer) op->infer(g, &copy);
    else infer_pointwise(g, &copy);
    for (size_t i = 0; i < n_out && !gb_graph_failed(g); i++) out[i] = copy.out[i];
    return g->error.status;
}

gb_value gb_op_list(gb_graph *g, const char *op, const gb_value *in, size_t n_in,
                    const gb_attr *attrs, size_t n_attrs)
{
    gb_value out;
    gb_graph_add(g, op, in, n_in, attrs, n_attrs, &out, 1);
    return out;
}

gb_value gb_op1(gb_graph *g, const char *op, gb_value a)
{
    return gb_op_list(g, op, &a, 1, NULL, 0);
}

gb_value gb_op2(gb_graph *g, const char *op, gb_value a, gb_value b)
{
    return gb_op_list(g, op, (gb_value[]){a, b}, 2, NULL, 0);
}

gb_value gb_op3(gb_graph *g, const char *op, gb_value a, gb_value b, gb_value c)
{
    return gb_op_list(g, op, (gb_value[]){a, b, c}, 3, NULL, 0);
}

void gb_graph_guard(gb_graph *g, gb_value condition)
{
    for (int i = 0; i < g->n_states && !gb_graph_failed(g); i++) {
        gb_value state = g->state[i], now = g->value[state].update;
        if (!now) continue;
        gb_value kept = gb_op3(g, "Where", condition, now, state);
        if (kept) g->value[state].update = kept;
    }
}

/* --- computed nodes --- */

gb_x gb_x_operand(gb_xb *b, const gb_graph *g, const gb_value *in, int k)
{
    gb_dtype t = gb_dtype_at(g, in[k]);
    const gb_value_info *v = &g->value[in[k]];
    if (v->kind == GB_V_CONST && v->shape.rank <= 1 && gb_shape_count(&v->shape) == 1) {
        double number = gb_tensor_get(&v->tensor, 0);
        return gb_dtype_is_float(t) ? gb_x_const(b, number) : gb_x_iconst(b, (int32_t)number);
    }
    if (v->kind == GB_V_SCALAR)
        return gb_x_scalar(b, v->index, t == GB_F32 ? 'f' : 'i');
    return gb_x_input(b, k, gb_dtype_is_float(t) ? 'f' : 'i');
}

/* Ends an expression over in[n_in]: operands that it does not read are dropped from the list. */
static const gb_expr *finish(gb_graph *g, gb_xb *b, gb_value *in, int *n_in, const gb_x *y, int n_out)
{
    gb_expr *e =
        gb_graph_failed(g) ? NULL : gb_xb_finish(b, *n_in, y, n_out, gb_arena_alloc_hook, g->arena);
    gb_xb_free(b);
    if (!e) {
        gb_graph_fail(g, GB_INTERNAL, "report this", "%s: an expression could not be built", g->path);
        return NULL;
    }
    int map[GB_MAX_EXPR_INPUTS], used = 0;
    for (int k = 0; k < *n_in; k++) map[k] = -1;
    gb_enode *node = (gb_enode *)e->node;
    gb_value kept[GB_MAX_EXPR_INPUTS];
    for (int i = 0; i < e->n_nodes; i++) {
        if (node[i].prim != GB_P_INPUT) continue;
        int k = (int)node[i].imm;
        if (map[k] < 0) {
            kept[used] = in[k];
            map[k] = used++;
        }
        node[i].imm = map[k];
    }
    memcpy(in, kept, (size_t)used * sizeof *in);
    *n_in = e->n_in = used;
    return e;
}

/* A loop: n_in may be 0 and in NULL, which memcpy does not take. */
static bool copy_inputs(gb_graph *g, gb_value *to, const gb_value *in, int n_in)
{
    if (n_in <= GB_MAX_EXPR_INPUTS)
        for (int i = 0; i < n_in; i++) to[i] = in[i];
    else gb_graph_fail(g, GB_INVALID, "split the operator", "%s: too many operands", g->path);
    return !gb_graph_failed(g);
}

void gb_pointwise_n(gb_graph *g, gb_xb *b, const gb_x *y, int n_out, const gb_value *in, int n_in,
                    const gb_dtype *dtype, const gb_shape *space, gb_value *out)
{
    gb_value used[GB_MAX_EXPR_INPUTS];
    if (!copy_inputs(g, used, in, n_in)) gb_xb_free(b);
    gb_compute c = {.space = *space, .expr = finish(g, b, used, &n_in, y, n_out)};
    gb_node *n = gb_graph_append(g, gb_op_find("Pointwise"), used, n_in, NULL, 0, n_out, &c);
    for (int k = 0; k < n_out; k++) {
        out[k] = n ? n->out[k] : GB_NONE;
        if (n) gb_set_output(g, n, k, dtype[k], &c.space);
    }
}

gb_value gb_pointwise(gb_graph *g, gb_xb *b, gb_x y, const gb_value *in, int n_in, gb_dtype dtype,
                      const gb_shape *space)
{
    gb_value out;
    gb_pointwise_n(g, b, &y, 1, in, n_in, &dtype, space, &out);
    return out;
}

void gb_reduce_n(gb_graph *g, gb_xb *b, const gb_x *y, int n_red, const gb_value *in, int n_in,
                 const gb_compute *compute, gb_value *out)
{
    gb_dtype real = GB_F32, type[GB_MAX_STEP_OUT];
    for (int k = n_in - 1; k >= 0; k--)
        if (gb_dtype_is_float(gb_dtype_at(g, in[k]))) real = gb_dtype_at(g, in[k]);
    int n_out = 0;
    for (int k = 0; k < n_red; k++)
        for (int m = 0; m < (compute->red[k] == GB_MOMENTS ? 2 : 1); m++)
            type[n_out++] = gb_x_type(b, y[k]) == 'i' ? GB_I32 : real;
    gb_compute c = *compute;
    gb_value used[GB_MAX_EXPR_INPUTS];
    if (!copy_inputs(g, used, in, n_in)) gb_xb_free(b);
    c.expr = finish(g, b, used, &n_in, y, n_red);
    gb_shape s = {0};
    for (int i = 0; i < c.space.rank; i++) {
        if (!(c.mask >> i & 1)) s.dim[s.rank++] = c.space.dim[i];
        else if (c.keep) s.dim[s.rank++] = 1;
    }
    gb_node *n = gb_graph_append(g, gb_op_find("Reduce"), used, n_in, NULL, 0, n_out, &c);
    for (int k = 0; k < n_out; k++) {
        out[k] = n ? n->out[k] : GB_NONE;
        if (n) gb_set_output(g, n, k, type[k], &s);
    }
}

gb_value gb_reshape_to(gb_graph *g, gb_value v, const gb_shape *to)
{
    if (gb_graph_failed(g) || gb_shape_equal(gb_shape_ptr(g, v), to)) return v;
    const gb_shape shape = *to; /* as in gb_sum_to */
    gb_value in[2] = {v, gb_constant_ints(g, shape.dim, shape.rank)};
    return gb_op_list(g, "Reshape", in, 2, &GB_INT("allowzero", 1), 1);
}

gb_value gb_expand_to(gb_graph *g, gb_value v, const gb_shape *to)
{
    if (gb_graph_failed(g) || gb_shape_equal(gb_shape_ptr(g, v), to)) return v;
    const gb_shape shape = *to; /* as in gb_sum_to */
    return gb_op2(g, "Expand", v, gb_constant_ints(g, shape.dim, shape.rank));
}

gb_value gb_sum_to(gb_graph *g, gb_value v, const gb_shape *to)
{
    if (gb_graph_failed(g) || gb_shape_equal(gb_shape_ptr(g, v), to)) return v;
    const gb_shape shape = *to; /* which may lie among the values, that move as they grow */
    gb_compute c = {.space = *gb_shape_ptr(g, v), .red = {GB_SUM}, .scale = {1}};
    int lead = c.space.rank - to->rank;
    for (int i = 0; i < c.space.rank; i++)
        if (i < lead || (to->dim[i - lead] == 1 && c.space.dim[i] != 1)) c.mask |= 1u << i;
    gb_xb b = {0};
    gb_x x = gb_x_operand(&b, g, &v, 0);
    gb_value out;
    gb_reduce_n(g, &b, &x, 1, &v, 1, &c, &out);
    return gb_reshape_to(g, out, &shape);
}
