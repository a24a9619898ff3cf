/* From a case's text to its graph. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check/check.h"

typedef struct parser {
    gb_check_case *c;
    uint64_t seed;
    uint32_t hash;  /* of the whole text */
    double operand; /* largest tolerance of this statement's operands */
    gb_error *err;
} parser;

static gb_status bad(parser *p, const char *token, const char *what)
{
    return gb_fail(p->err, GB_INVALID, token, "core/check/check.h says how cases are written",
                   "'%s' %s", token, what);
}

/* "i64" of "i64:2x3"; F32 where there is none. Returns what follows. */
static const char *read_dtype(const char *token, gb_dtype *dtype)
{
    *dtype = GB_F32;
    for (int t = 0; t < GB_DTYPE_COUNT; t++) {
        const char *name = gb_dtype_name((gb_dtype)t);
        size_t n = strlen(name);
        if (strncmp(token, name, n) != 0 || !strchr(":{(", token[n]) || !token[n]) continue;
        *dtype = (gb_dtype)t;
        return token + n + (token[n] == ':');
    }
    return token;
}

static const char *read_shape(const char *text, gb_shape *s)
{
    *s = (gb_shape){0};
    if (strncmp(text, "scalar", 6) == 0) return text + 6;
    char *end;
    do {
        if (s->rank == GB_MAX_RANK) return NULL;
        s->dim[s->rank++] = strtoll(text, &end, 10);
        if (end == text || s->dim[s->rank - 1] < 0) return NULL;
        text = end + (*end == 'x');
    } while (*end == 'x');
    return end;
}

static gb_status fill_leaf(parser *p, gb_check_leaf *leaf, int k, const char *fill, const char *token)
{
    gb_dtype t = leaf->data.dtype;
    double low = gb_dtype_is_float(t) ? -2 : t == GB_BOOL ? 0 : -9, high = -low;
    char *end;
    if (t == GB_BOOL) high = 2;
    if (t == GB_U8 || t == GB_U16 || t == GB_U32 || t == GB_U64) low = 0;
    bool tame = strcmp(fill, ":tame") == 0;
    if (tame || strncmp(fill, ":special", 8) == 0) {
        gb_check_special(&leaf->data, !tame && fill[8] == '2', !tame);
        p->c->special = true;
        return GB_OK;
    }
    if (*fill == ':') {
        const char *dots = strstr(fill, "..");
        if (!dots || dots - fill > 30) return bad(p, token, "wants a range such as -1..1");
        char first[32] = "";
        memcpy(first, fill + 1, (size_t)(dots - fill - 1)); /* "1..2": strtod would take the dot */
        low = strtod(first, &end);
        if (!*first || *end) return bad(p, token, "wants a range such as -1..1");
        high = strtod(dots + 2, &end);
        if (*end) return bad(p, token, "has something behind its range");
    } else if (*fill) {
        return bad(p, token, "is no operand");
    }
    gb_check_uniform(&leaf->data, p->seed, p->hash + (uint32_t)k, low, high);
    return GB_OK;
}

static gb_check_leaf *add_leaf(parser *p, gb_dtype t, const gb_shape *s, const char *token)
{
    gb_check_case *c = p->c;
    if (c->n_leaves == GB_CHECK_LEAVES) {
        bad(p, token, "is one operand too many");
        return NULL;
    }
    gb_check_leaf *leaf = &c->leaf[c->n_leaves];
    if (gb_tensor_alloc(&leaf->data, t, s, p->err)) return NULL;
    c->n_leaves++;
    c->dtypes |= 1u << t;
    c->empty |= gb_shape_count(s) == 0;
    return leaf;
}

static gb_value parse_leaf(parser *p, const char *token)
{
    bool state = strncmp(token, "state:", 6) == 0;
    gb_dtype dtype;
    gb_shape shape;
    const char *rest = read_shape(read_dtype(token + (state ? 6 : 0), &dtype), &shape);
    if (!rest) {
        bad(p, token, "is no operand");
        return GB_NONE;
    }
    int k = p->c->n_leaves;
    gb_check_leaf *leaf = add_leaf(p, dtype, &shape, token);
    if (!leaf || fill_leaf(p, leaf, k, rest, token)) return GB_NONE;
    leaf->state = state;
    snprintf(leaf->name, sizeof leaf->name, "x%d", k);
    gb_graph *g = p->c->graph;
    leaf->value = state ? gb_graph_state(g, leaf->name, dtype, &shape, false, &leaf->data)
                        : gb_graph_input(g, leaf->name, dtype, &shape);
    return leaf->value;
}

static gb_value parse_constant(parser *p, const char *token, const char *open)
{
    gb_dtype dtype;
    gb_shape shape = {.rank = *open == '{'};
    double number[64];
    const char *at = open + 1;
    read_dtype(token, &dtype);
    int n = 0;
    while (*at && *at != '}' && *at != ')' && n < 64) {
        char *end;
        number[n++] = strtod(at, &end);
        if (end == at) break;
        at = end + (*end == ',');
    }
    if ((*at != '}' && *at != ')') || (shape.rank == 0 && n != 1)) {
        bad(p, token, "is no constant");
        return GB_NONE;
    }
    shape.dim[0] = n;
    gb_tensor t;
    if (gb_tensor_alloc(&t, dtype, &shape, p->err)) return GB_NONE;
    for (int i = 0; i < n; i++) gb_tensor_set(&t, i, number[i]);
    gb_value v = gb_graph_constant(p->c->graph, &t);
    gb_tensor_free(&t);
    return v;
}

/* $, $1, $1.2 */
static gb_value parse_result(parser *p, const char *token)
{
    gb_check_case *c = p->c;
    char *end;
    long s = token[1] ? strtol(token + 1, &end, 10) : c->n_statements - 1, k = 0;
    if (token[1] && *end == '.') k = strtol(end + 1, &end, 10);
    if (s < 0 || s >= c->n_statements || k < 0 || k >= c->n_results[s]) {
        bad(p, token, "names no result");
        return GB_NONE;
    }
    c->read[s][k] = true;
    if (c->sum[s] > p->operand) p->operand = c->sum[s];
    return c->result[s][k];
}

static gb_status parse_operand(parser *p, const char *token, gb_value *v)
{
    gb_check_case *c = p->c;
    const char *open = strpbrk(token, "{(");
    *v = GB_NONE;
    if (strcmp(token, "_") == 0) return GB_OK;
    if (*token == '$') *v = parse_result(p, token);
    else if (*token == '&') *v = gb_graph_scalar(c->graph, token + 1, GB_F32);
    else if (open) *v = parse_constant(p, token, open);
    else if (*token != '@') *v = parse_leaf(p, token);
    else {
        long k = strtol(token + 1, NULL, 10);
        if (k < 0 || k >= c->n_leaves) return bad(p, token, "names no input");
        *v = c->leaf[k].value;
    }
    if (*v) return GB_OK;
    return gb_graph_check(c->graph, NULL) ? gb_graph_check(c->graph, p->err) : GB_INVALID;
}

/* --- attributes --- */

typedef struct attributes {
    gb_attr attr[12];
    int64_t ints[12][32];
    int n, outputs;
} attributes;

static gb_status parse_attribute(parser *p, const gb_op *op, char *token, attributes *a)
{
    char *value = strchr(token, '=');
    *value++ = 0;
    if (strcmp(token, "outputs") == 0) {
        a->outputs = atoi(value);
        return GB_OK;
    }
    const gb_attr_spec *spec = op->attr;
    while (spec->name && strcmp(spec->name, token) != 0) spec++;
    if (!spec->name || a->n == 12) return bad(p, token, "is no attribute of this operator");
    gb_attr *attr = &a->attr[a->n];
    int64_t *ints = a->ints[a->n++];
    *attr = (gb_attr){.name = spec->name, .type = spec->type, .s = value, .ints = ints};
    if (spec->type == GB_ATTR_INT) attr->i = strtoll(value, NULL, 10);
    if (spec->type == GB_ATTR_FLOAT) attr->f = strtod(value, NULL);
    if (spec->type == GB_ATTR_INTS)
        for (char *end; *value && attr->n < 32; value = end + (*end == ',')) {
            ints[attr->n++] = strtoll(value, &end, 10);
            if (end == value) return bad(p, token, "wants whole numbers");
        }
    return GB_OK;
}

/* --- statements --- */

static gb_status parse_update(parser *p, char *rest)
{
    char *save, *leaf = strtok_r(rest, " ", &save), *token = strtok_r(NULL, " ", &save);
    gb_value v;
    long k = leaf && *leaf == '@' ? strtol(leaf + 1, NULL, 10) : -1;
    if (!token || k < 0 || k >= p->c->n_leaves || !p->c->leaf[k].state)
        return bad(p, leaf ? leaf : "update", "wants a state and a value: update @0 $");
    gb_status status = parse_operand(p, token, &v);
    if (status != GB_OK) return status;
    p->c->leaf[k].updated = true;
    gb_graph_update(p->c->graph, p->c->leaf[k].value, v);
    return gb_graph_check(p->c->graph, p->err);
}

static gb_status parse_statement(parser *p, char *text)
{
    gb_check_case *c = p->c;
    char *save, *name = strtok_r(text, " ", &save);
    if (!name) return bad(p, "", "is no statement");
    if (strcmp(name, "update") == 0) return parse_update(p, save);
    if (strcmp(name, "forward") == 0) {
        c->forward = true;
        return GB_OK;
    }
    const gb_op *op = gb_op_find(name);
    if (!op) return bad(p, name, "is no operator");
    if (c->n_statements == GB_CHECK_STATEMENTS) return bad(p, name, "is one statement too many");
    attributes a = {.outputs = 1};
    p->operand = 0;
    gb_value in[GB_MAX_EXPR_INPUTS];
    size_t n_in = 0;
    for (char *token; (token = strtok_r(NULL, " ", &save));) {
        gb_status status = GB_OK;
        if (strchr(token, '=')) status = parse_attribute(p, op, token, &a);
        else if (n_in < GB_MAX_EXPR_INPUTS) status = parse_operand(p, token, &in[n_in++]);
        if (status != GB_OK) return status;
    }
    if (a.outputs < 1 || a.outputs > GB_MAX_STEP_OUT) return bad(p, name, "has too many outputs");
    int s = c->n_statements++;
    c->sum[s] = p->operand + (op->tolerance ? op->tolerance : 2e-6);
    if (c->sum[s] > c->tolerance) c->tolerance = c->sum[s];
    c->n_results[s] = a.outputs;
    gb_graph_add(c->graph, name, in, n_in, a.attr, (size_t)a.n, c->result[s], (size_t)a.outputs);
    return gb_graph_check(c->graph, p->err);
}

static gb_status add_output(parser *p, gb_value v, const char *format, int k)
{
    gb_check_case *c = p->c;
    if (c->n_outputs == GB_CHECK_OUTPUTS) return bad(p, "output", "is one too many");
    gb_check_output *o = &c->output[c->n_outputs++];
    *o = (gb_check_output){.value = v, .gradient = format[0] == 'd',
                           .loss = format[0] == 'l', .leaf = k};
    snprintf(o->name, sizeof o->name, format, k);
    gb_shape shape = gb_value_shape(c->graph, v);
    c->dtypes |= 1u << gb_value_dtype(c->graph, v);
    c->empty |= gb_shape_count(&shape) == 0;
    gb_graph_output(c->graph, o->name, v);
    return gb_graph_check(c->graph, p->err);
}

static gb_status add_outputs(parser *p)
{
    gb_check_case *c = p->c;
    int n = 0;
    gb_status status = GB_OK;
    for (int s = 0; s < c->n_statements; s++)
        for (int k = 0; k < c->n_results[s] && status == GB_OK; k++)
            if (!c->read[s][k]) {
                status = add_output(p, c->result[s][k], "y%d", n++);
                if (status == GB_OK) c->output[c->n_outputs - 1].tolerance = c->sum[s];
            }
    return status;
}

/* --- gradients --- */

/* Adds sum(y·r) of output k to *loss; r is a further input with random data. */
static gb_status project(parser *p, int k, gb_value *loss)
{
    gb_check_case *c = p->c;
    gb_graph *g = c->graph;
    gb_value y = c->output[k].value;
    gb_shape shape = gb_value_shape(g, y);
    int number = c->n_leaves;
    gb_check_leaf *r = add_leaf(p, GB_F32, &shape, "r");
    if (!r) return GB_OUT_OF_MEMORY;
    r->projection = true;
    snprintf(r->name, sizeof r->name, "r%d", k);
    gb_check_uniform(&r->data, p->seed, p->hash + (uint32_t)number, -1, 1);
    r->value = gb_graph_input(g, r->name, GB_F32, &shape);
    if (gb_value_dtype(g, y) != GB_F32) y = GB_OP(g, "Cast", GB_ARGS(y), GB_INT("to", 1));
    gb_value sum = GB_OP(g, "ReduceSum", GB_ARGS(gb_op2(g, "Mul", y, r->value)),
                         GB_INT("keepdims", 0));
    *loss = *loss ? gb_op2(g, "Add", *loss, sum) : sum;
    return gb_graph_check(g, p->err);
}

static gb_status add_gradients(parser *p, bool with_loss)
{
    gb_check_case *c = p->c;
    gb_value loss = GB_NONE, wrt[GB_CHECK_LEAVES], grad[GB_CHECK_LEAVES];
    int n_leaves = c->n_leaves, n_outputs = c->n_outputs, leaf[GB_CHECK_LEAVES];
    size_t n = 0;
    for (int k = 0; k < n_leaves; k++)
        if (gb_dtype_is_float(c->leaf[k].data.dtype)) {
            leaf[n] = k;
            wrt[n++] = c->leaf[k].value;
        }
    gb_status status = GB_OK;
    for (int k = 0; k < n_outputs && status == GB_OK && n; k++)
        if (gb_dtype_is_float(gb_value_dtype(c->graph, c->output[k].value)))
            status = project(p, k, &loss);
    if (status != GB_OK || !loss) return status;
    status = gb_graph_gradient(c->graph, loss, wrt, n, grad);
    if (status != GB_OK) return gb_graph_check(c->graph, p->err);
    for (size_t k = 0; k < n && status == GB_OK; k++) {
        if (!grad[k]) continue;
        status = add_output(p, grad[k], "d%d", leaf[k]);
        c->loss = true;
    }
    if (c->loss && with_loss && status == GB_OK) status = add_output(p, loss, "loss", 0);
    return status;
}

/* --- the whole --- */

static bool has_plateaus(const gb_check_case *c)
{
    for (size_t i = 0; i < gb_graph_node_count(c->graph); i++)
        if (gb_op_find(gb_graph_node(c->graph, i).op)->not_differentiable) return true;
    return false;
}

static gb_status build(gb_check_case *c, const char *text, uint64_t seed, bool gradients,
                       bool with_loss, gb_error *err)
{
    *c = (gb_check_case){.graph = gb_graph_create()};
    parser p = {.c = c, .seed = seed, .hash = 2166136261u, .err = err};
    for (const char *t = text; *t; t++) p.hash = (p.hash ^ (unsigned char)*t) * 16777619u;
    char *copy = strdup(text), *save;
    gb_status status = GB_OK;
    if (!c->graph || !copy) status = gb_fail(err, GB_OUT_OF_MEMORY, text, NULL, "no memory for a case");
    if (c->graph) gb_graph_path(c->graph, "case");
    for (char *s = copy ? strtok_r(copy, ";", &save) : NULL; s && status == GB_OK;
         s = strtok_r(NULL, ";", &save))
        status = parse_statement(&p, s);
    free(copy);
    if (status == GB_OK) status = add_outputs(&p);
    if (status == GB_OK && gradients && !c->special && !c->forward) status = add_gradients(&p, with_loss);
    return status;
}

gb_status gb_check_build(gb_check_case *c, const char *text, uint64_t seed, bool with_loss,
                         gb_error *err)
{
    gb_status status = build(c, text, seed, true, with_loss, err);
    if (status == GB_UNSUPPORTED && has_plateaus(c)) { /* the table says so: forward alone */
        gb_check_free(c);
        status = build(c, text, seed, false, false, err);
    }
    return status;
}

void gb_check_free(gb_check_case *c)
{
    gb_graph_destroy(&c->graph);
    for (int k = 0; k < c->n_leaves; k++) gb_tensor_free(&c->leaf[k].data);
}
