#include "core/passes/rewrite.h"

#include <stdlib.h>
#include <string.h>

/* --- equality of nodes --- */

static bool same_attr(const gb_attr *a, const gb_attr *b)
{
    if (strcmp(a->name, b->name) || a->type != b->type || a->n != b->n) return false;
    switch (a->type) {
    case GB_ATTR_INT: return a->i == b->i;
    case GB_ATTR_FLOAT: return memcmp(&a->f, &b->f, sizeof a->f) == 0;
    case GB_ATTR_STRING: return strcmp(a->s, b->s) == 0;
    case GB_ATTR_INTS: return memcmp(a->ints, b->ints, a->n * sizeof *a->ints) == 0;
    case GB_ATTR_FLOATS: return memcmp(a->floats, b->floats, a->n * sizeof *a->floats) == 0;
    default: return false;
    }
}

static bool same_compute(const gb_compute *a, const gb_compute *b)
{
    if (!a || !b) return a == b;
    const gb_expr *e = a->expr, *f = b->expr;
    if (!gb_shape_equal(&a->space, &b->space) || a->mask != b->mask || a->keep != b->keep ||
        e->n_nodes != f->n_nodes || e->n_in != f->n_in || e->n_out != f->n_out ||
        memcmp(e->out, f->out, (size_t)e->n_out * sizeof *e->out))
        return false;
    for (int k = 0; k < e->n_out; k++)
        if (a->red[k] != b->red[k] || a->scale[k] != b->scale[k]) return false;
    for (int i = 0; i < e->n_nodes; i++) {
        const gb_enode *x = &e->node[i], *y = &f->node[i];
        if (x->prim != y->prim || x->type != y->type || memcmp(x->arg, y->arg, sizeof x->arg) ||
            memcmp(&x->imm, &y->imm, sizeof x->imm))
            return false;
    }
    return true;
}

static bool same_node(const gb_graph *g, const gb_node *a, const gb_node *b)
{
    if (a->op != b->op || a->n_in != b->n_in || a->n_out != b->n_out || a->n_attr != b->n_attr ||
        memcmp(a->in, b->in, (size_t)a->n_in * sizeof *a->in) || !same_compute(a->compute, b->compute))
        return false;
    /* random streams are keyed by the layer's path */
    if (strcmp(a->op->name, "Dropout") == 0 && strcmp(a->path, b->path)) return false;
    for (int i = 0; i < a->n_attr; i++)
        if (!same_attr(&a->attr[i], &b->attr[i])) return false;
    (void)g;
    return true;
}

static unsigned hash_node(const gb_node *n)
{
    unsigned h = 2166136261u;
    for (const char *p = n->op->name; *p; p++) h = (h ^ (unsigned char)*p) * 16777619u;
    for (int i = 0; i < n->n_in; i++) h = (h ^ n->in[i]) * 16777619u;
    return h;
}

/* --- leaves --- */

static gb_value find_constant(const gb_graph *g, const gb_tensor *t)
{
    for (int v = 1; v < g->n_values; v++) {
        const gb_value_info *c = &g->value[v];
        if (c->kind == GB_V_CONST && c->dtype == t->dtype && gb_shape_equal(&c->shape, &t->shape) &&
            memcmp(c->tensor.data, t->data, gb_tensor_bytes(t)) == 0)
            return (gb_value)v;
    }
    return GB_NONE;
}

/* Initial values of states stay in the graph that a user built: who makes a program takes them there. */
static gb_value copy_leaf(gb_graph *to, const gb_value_info *v)
{
    switch (v->kind) {
    case GB_V_INPUT: return gb_graph_input(to, v->name, v->dtype, &v->shape);
    case GB_V_SCALAR: return gb_graph_scalar(to, v->name, v->dtype);
    case GB_V_STATE: return gb_graph_state(to, v->name, v->dtype, &v->shape, v->trainable, NULL);
    default: return GB_NONE;
    }
}

gb_value gb_rewrite_value(gb_rewrite *r, gb_value v)
{
    if (v && !r->map[v] && r->from->value[v].kind == GB_V_CONST) {
        const gb_tensor *t = &r->from->value[v].tensor;
        gb_value known = find_constant(r->to, t);
        r->map[v] = known ? known : gb_graph_constant(r->to, t);
    }
    return r->map[v];
}

static void mark_live(gb_rewrite *r)
{
    const gb_graph *g = r->from;
    for (int i = 0; i < g->n_outputs; i++)
        if (g->value[g->output[i]].node >= 0) r->live[g->value[g->output[i]].node] = 1;
    for (int i = 0; i < g->n_states; i++) {
        gb_value u = g->value[g->state[i]].update;
        if (u && g->value[u].node >= 0) r->live[g->value[u].node] = 1;
    }
    for (int i = g->n_nodes - 1; i >= 0; i--)
        for (int k = 0; r->live[i] && k < g->node[i].n_in; k++)
            if (g->value[g->node[i].in[k]].node >= 0) r->live[g->value[g->node[i].in[k]].node] = 1;
}

bool gb_rewrite_begin(gb_rewrite *r, const gb_graph *from, gb_error *err)
{
    *r = (gb_rewrite){.from = from, .to = gb_graph_create()};
    r->map = calloc((size_t)from->n_values, sizeof *r->map);
    r->live = calloc((size_t)from->n_nodes + 1, 1);
    if (gb_graph_failed(from)) gb_graph_check(from, err);
    if (!r->to || !r->map || !r->live || gb_graph_failed(from)) {
        if (!gb_graph_failed(from))
            gb_fail(err, GB_OUT_OF_MEMORY, NULL, "use a smaller model", "no memory to compile the graph");
        free(r->map);
        free(r->live);
        gb_graph_destroy(&r->to);
        return false;
    }
    /* in order of number, so that slots and indices stay */
    const gb_value *lists[] = {from->input, from->scalar, from->state};
    const int counts[] = {from->n_inputs, from->n_scalars, from->n_states};
    for (int l = 0; l < 3; l++)
        for (int i = 0; i < counts[l]; i++)
            r->map[lists[l][i]] = copy_leaf(r->to, &from->value[lists[l][i]]);
    mark_live(r);
    return true;
}

static bool grow_table(gb_rewrite *r)
{
    if (r->to->n_nodes * 2 < r->n_slots) return true;
    int n = r->n_slots ? r->n_slots * 2 : 256;
    int *slot = calloc((size_t)n, sizeof *slot);
    if (!slot) return false;
    for (int i = 0; i < r->n_slots; i++) {
        if (!r->slot[i]) continue;
        unsigned h = hash_node(&r->to->node[r->slot[i] - 1]);
        while (slot[h % (unsigned)n]) h++;
        slot[h % (unsigned)n] = r->slot[i];
    }
    free(r->slot);
    r->slot = slot;
    r->n_slots = n;
    return true;
}

void gb_rewrite_copy(gb_rewrite *r, const gb_node *n)
{
    gb_graph *to = r->to;
    gb_value *in = calloc((size_t)n->n_in + 1, sizeof *in);
    if (!in || !grow_table(r)) {
        gb_graph_fail(to, GB_OUT_OF_MEMORY, "use a smaller model", "no memory to compile the graph");
        free(in);
        return;
    }
    for (int k = 0; k < n->n_in; k++) in[k] = gb_rewrite_value(r, n->in[k]);
    gb_node probe = *n;
    probe.in = in;
    unsigned h = hash_node(&probe);
    for (; r->slot[h % (unsigned)r->n_slots] && !r->apart; h++) {
        const gb_node *known = &to->node[r->slot[h % (unsigned)r->n_slots] - 1];
        if (!same_node(to, known, &probe)) continue;
        for (int k = 0; k < n->n_out; k++) {
            gb_value v = known->out[k];
            bool other = v < (gb_value)r->n_replaced && r->replaced[v];
            r->map[n->out[k]] = other ? r->replaced[v] : v;
        }
        free(in);
        return;
    }
    to->path = gb_arena_string(to->arena, n->path);
    to->phase = gb_arena_string(to->arena, n->phase);
    to->keeps_f32 = n->keeps_f32;
    gb_node *copy = gb_graph_append(to, n->op, in, n->n_in, n->attr, n->n_attr, n->n_out, n->compute);
    free(in);
    if (!copy) return;
    if (copy->compute) { /* expressions live in their graph's arena */
        gb_compute *c = (gb_compute *)copy->compute;
        gb_expr *e = gb_arena_copy(to->arena, c->expr, sizeof *e);
        if (e) e->node = gb_arena_copy(to->arena, e->node, (size_t)e->n_nodes * sizeof *e->node);
        c->expr = e;
        if (!e || !e->node) {
            gb_graph_fail(to, GB_OUT_OF_MEMORY, NULL, "no memory to compile the graph");
            return;
        }
    }
    for (int k = 0; k < n->n_out; k++) {
        gb_value_info *to_info = &to->value[copy->out[k]];
        const gb_value_info *info = &r->from->value[n->out[k]];
        to_info->dtype = info->dtype;
        to_info->shape = info->shape;
        to_info->storage = info->storage;
        r->map[n->out[k]] = copy->out[k];
    }
    if (!r->apart) r->slot[h % (unsigned)r->n_slots] = to->n_nodes;
}

void gb_rewrite_replace(gb_rewrite *r, gb_value v, gb_value by)
{
    if (v >= (gb_value)r->n_replaced) {
        int n = 2 * (int)v + 64;
        gb_value *p = realloc(r->replaced, (size_t)n * sizeof *p);
        if (!p) {
            gb_graph_fail(r->to, GB_OUT_OF_MEMORY, NULL, "no memory to compile the graph");
            return;
        }
        memset(p + r->n_replaced, 0, (size_t)(n - r->n_replaced) * sizeof *p);
        r->replaced = p;
        r->n_replaced = n;
    }
    r->replaced[v] = by;
}

gb_graph *gb_rewrite_end(gb_rewrite *r, gb_error *err)
{
    const gb_graph *g = r->from;
    for (int i = 0; i < g->n_states && !gb_graph_failed(r->to); i++) {
        gb_value u = g->value[g->state[i]].update;
        if (u) gb_graph_update(r->to, r->map[g->state[i]], gb_rewrite_value(r, u));
    }
    for (int i = 0; i < g->n_outputs && !gb_graph_failed(r->to); i++)
        gb_graph_output(r->to, g->output_name[i], gb_rewrite_value(r, g->output[i]));
    free(r->map);
    free(r->live);
    free(r->slot);
    free(r->replaced);
    if (gb_graph_check(r->to, err) != GB_OK) gb_graph_destroy(&r->to);
    return r->to;
}
