/* Folding: what depends on constants alone is evaluated once, when a program is made.
 *
 * A value is folded where that changes no bit on any device: all floats on the way to it are exact
 * in f32, as they are wherever numbers are only moved, compared or counted. And where it takes no
 * more memory: the result is small, or no larger than the constants that it is made from. */
#include "core/passes/fold.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/passes/node_kind.h"
#include "core/passes/passes.h"
#include "core/passes/rewrite.h"

enum { MAX_ELEMENTS = 4096 };

typedef struct folding {
    const gb_graph *g;
    char *known;   /* by node: all its results are constant */
    gb_value *out; /* known values that others read, which become constants */
    int n_out;
    gb_tensor *value; /* theirs */
    bool *exact;      /* f32 holds it as it is */
} folding;

static bool is_constant(const folding *f, gb_value v)
{
    const gb_value_info *i = &f->g->value[v];
    return i->kind == GB_V_CONST || (i->kind == GB_V_NODE && f->known[i->node]);
}

static bool is_pure_expression(const gb_expr *e)
{
    return !gb_expr_uses(e, GB_P_SCALAR) && !gb_expr_uses(e, GB_P_ISCALAR) &&
           !gb_expr_uses(e, GB_P_RANDOM);
}

static bool is_known(const folding *f, const gb_node *n)
{
    static const char *const ops[] = {"Pointwise", "Reshape", "Transpose", "Expand",
                                      "Slice",     "Concat",  "Place",     "Take"};
    size_t k = 0;
    int64_t from = MAX_ELEMENTS, made = 0;
    while (k < sizeof ops / sizeof *ops && strcmp(ops[k], n->op->name) != 0) k++;
    if (k == sizeof ops / sizeof *ops) return false;
    if (n->compute && !is_pure_expression(n->compute->expr)) return false;
    for (int i = 0; i < n->n_in; i++) {
        if (!is_constant(f, n->in[i])) return false;
        int64_t count = gb_shape_count(gb_shape_ptr(f->g, n->in[i]));
        if (count > from) from = count;
    }
    for (int i = 0; i < n->n_out; i++) made += gb_shape_count(gb_shape_ptr(f->g, n->out[i]));
    return made <= from;
}

static bool want(folding *f, gb_value v)
{
    const gb_value_info *i = &f->g->value[v];
    if (i->kind != GB_V_NODE || !f->known[i->node]) return true;
    for (int k = 0; k < f->n_out; k++)
        if (f->out[k] == v) return true;
    gb_value *grown = realloc(f->out, ((size_t)f->n_out + 1) * sizeof *grown);
    if (!grown) return false;
    f->out = grown;
    f->out[f->n_out++] = v;
    return true;
}

static bool find_known(folding *f)
{
    const gb_graph *g = f->g;
    bool ok = true;
    for (int i = 0; i < g->n_nodes; i++) f->known[i] = is_known(f, &g->node[i]);
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; ok && !f->known[i] && k < g->node[i].n_in; k++)
            ok = want(f, g->node[i].in[k]);
    for (int i = 0; ok && i < g->n_outputs; i++) ok = want(f, g->output[i]);
    for (int i = 0; ok && i < g->n_states; i++) ok = want(f, g->value[g->state[i]].update);
    return ok;
}

/* --- evaluation --- */

static void copy_node(gb_graph *to, const gb_graph *g, const gb_node *n, gb_value *map)
{
    gb_value *in = calloc((size_t)n->n_in + 1, sizeof *in);
    if (!in) {
        gb_graph_fail(to, GB_OUT_OF_MEMORY, NULL, "no memory to fold constants");
        return;
    }
    for (int k = 0; k < n->n_in; k++) {
        gb_value v = n->in[k];
        if (!map[v]) map[v] = gb_graph_constant(to, &g->value[v].tensor);
        in[k] = map[v];
    }
    gb_node *copy =
        gb_graph_append(to, n->op, in, n->n_in, n->attr, n->n_attr, n->n_out, n->compute);
    free(in);
    for (int k = 0; copy && k < n->n_out; k++) {
        gb_set_output(to, copy, k, gb_dtype_at(g, n->out[k]), gb_shape_ptr(g, n->out[k]));
        map[n->out[k]] = copy->out[k];
    }
}

/* A graph of the known nodes alone. */
static gb_graph *known_part(const folding *f)
{
    const gb_graph *g = f->g;
    gb_graph *part = gb_graph_create();
    gb_value *map = calloc((size_t)g->n_values + 1, sizeof *map);
    for (int i = 0; part && map && i < g->n_nodes; i++)
        if (f->known[i]) copy_node(part, g, &g->node[i], map);
    for (int k = 0; part && map && k < f->n_out; k++) {
        char name[24];
        snprintf(name, sizeof name, "%d", k);
        gb_graph_output(part, name, map[f->out[k]]);
    }
    if (part && (!map || gb_graph_failed(part))) gb_graph_destroy(&part);
    free(map);
    return part;
}

/* False: what is known cannot be folded, which does no harm. */
static bool evaluate(folding *f)
{
    gb_plan *plan = NULL;
    gb_graph *part = known_part(f);
    bool ok = part && gb_make_plan(part, true, &plan, NULL) == GB_OK && gb_can_evaluate(plan);
    f->value = calloc((size_t)f->n_out + 1, sizeof *f->value);
    f->exact = calloc((size_t)f->n_out + 1, sizeof *f->exact);
    ok = ok && f->value && f->exact;
    for (int k = 0; ok && k < f->n_out; k++)
        ok = gb_tensor_alloc(&f->value[k], gb_dtype_at(f->g, f->out[k]),
                             gb_shape_ptr(f->g, f->out[k]), NULL) == GB_OK;
    ok = ok && gb_evaluate(plan, f->value, f->exact);
    if (plan) gb_plan_free(plan);
    return ok;
}

/* --- the new graph --- */

/* r.live for what is left: from the outputs back, no further than folded values. */
static void find_live(gb_rewrite *r)
{
    const gb_graph *g = r->from;
    memset(r->live, 0, (size_t)g->n_nodes);
    for (int i = 0; i < g->n_outputs; i++)
        if (!r->map[g->output[i]] && g->value[g->output[i]].node >= 0)
            r->live[g->value[g->output[i]].node] = 1;
    for (int i = 0; i < g->n_states; i++) {
        gb_value u = g->value[g->state[i]].update;
        if (u && !r->map[u] && g->value[u].node >= 0) r->live[g->value[u].node] = 1;
    }
    for (int i = g->n_nodes - 1; i >= 0; i--)
        for (int k = 0; r->live[i] && k < g->node[i].n_in; k++) {
            gb_value in = g->node[i].in[k];
            if (!r->map[in] && g->value[in].node >= 0) r->live[g->value[in].node] = 1;
        }
}

/* One number for all elements is part of what reads it, and needs no memory. */
static bool is_one_number(const gb_tensor *t, double *number)
{
    int64_t n = gb_shape_count(&t->shape);
    if (n == 0) return false;
    *number = gb_tensor_get(t, 0);
    for (int64_t i = 0; i < n; i++) {
        double v = gb_tensor_get(t, i);
        if (v != *number || (v == 0 && signbit(v))) return false;
    }
    return gb_dtype_is_float(t->dtype) || (*number >= INT32_MIN && *number <= INT32_MAX);
}

static gb_value folded(gb_graph *to, const gb_node *by, const gb_tensor *t)
{
    double number;
    if (!is_one_number(t, &number)) return gb_graph_constant(to, t);
    gb_xb b = {0};
    to->path = gb_arena_string(to->arena, by->path);
    to->phase = gb_arena_string(to->arena, by->phase);
    gb_x y =
        gb_dtype_is_float(t->dtype) ? gb_x_const(&b, number) : gb_x_iconst(&b, (int32_t)number);
    return gb_pointwise(to, &b, y, NULL, 0, t->dtype, &t->shape);
}

static gb_graph *rewrite(const folding *f, bool folds, gb_error *err)
{
    const gb_graph *g = f->g;
    gb_rewrite r;
    if (!gb_rewrite_begin(&r, g, err)) return NULL;
    for (int k = 0; folds && k < f->n_out; k++)
        if (f->exact[k])
            r.map[f->out[k]] = folded(r.to, &g->node[g->value[f->out[k]].node], &f->value[k]);
    find_live(&r);
    for (int i = 0; i < g->n_nodes && !gb_graph_failed(r.to); i++) {
        if (r.live[i]) gb_rewrite_copy(&r, &g->node[i]);
    }
    return gb_rewrite_end(&r, err);
}

gb_graph *gb_fold(const gb_graph *g, gb_error *err)
{
    folding f = {.g = g, .known = calloc((size_t)g->n_nodes + 1, 1)};
    gb_graph *result = NULL;
    if (f.known && find_known(&f)) {
        result = rewrite(&f, f.n_out > 0 && evaluate(&f), err);
    } else {
        gb_fail(err, GB_OUT_OF_MEMORY, NULL, "use a smaller model", "no memory to fold constants");
    }
    for (int k = 0; f.value && k < f.n_out; k++) gb_tensor_free(&f.value[k]);
    free(f.value);
    free(f.exact);
    free(f.out);
    free(f.known);
    return result;
}
