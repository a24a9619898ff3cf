#include "core/passes/live.h"

#include <stdlib.h>
#include <string.h>

static uint64_t value_bytes(const gb_value_info *v)
{
    return (uint64_t)gb_shape_count(&v->shape) * gb_storage_size(v->storage);
}

static void find_storages(gb_live *l)
{
    const gb_graph *g = l->g;
    for (int v = 1; v < g->n_values; v++) {
        l->root[v] = (gb_value)v;
        l->first[v] = l->last[v] = -1;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const gb_node *n = &g->node[i];
        for (int k = 0; k < n->n_out; k++) {
            gb_value v = n->out[k];
            if (n->op->view) {
                l->root[v] = l->root[n->in[0]];
                continue;
            }
            l->bytes[v] = value_bytes(&g->value[v]);
            l->first[v] = l->last[v] = i;
        }
    }
    for (int i = 0; i < g->n_outputs; i++) l->bytes[l->root[g->output[i]]] = 0;
    for (int i = 0; i < g->n_states; i++) l->bytes[l->root[g->value[g->state[i]].update]] = 0;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; !g->node[i].op->view && k < g->node[i].n_in; k++)
            l->last[l->root[g->node[i].in[k]]] = i;
}

/* A pointwise result takes the place of an operand that ends there, once. */
static uint64_t bytes_in_place(const gb_live *l, int i)
{
    const gb_node *n = &l->g->node[i];
    if (strcmp(n->op->name, "Pointwise") != 0) return 0;
    for (int k = 0; k < n->n_in; k++) {
        gb_value in = l->root[n->in[k]];
        if (l->bytes[in] && l->bytes[in] == l->bytes[n->out[0]] && l->last[in] == i)
            return l->bytes[in];
    }
    return 0;
}

static void sum_up(gb_live *l)
{
    const gb_graph *g = l->g;
    uint64_t now = 0;
    l->peak = 0;
    l->peak_at = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const gb_node *n = &g->node[i];
        bool view = n->op->view;
        for (int k = 0; !view && k < n->n_out; k++) now += l->bytes[n->out[k]];
        l->sum[i] = now - bytes_in_place(l, i);
        if (l->sum[i] > l->peak) {
            l->peak = l->sum[i];
            l->peak_at = i;
        }
        for (int k = 0; !view && k < n->n_out; k++)
            if (l->last[n->out[k]] == i) now -= l->bytes[n->out[k]];
        for (int k = 0; !view && k < n->n_in; k++) {
            gb_value in = l->root[n->in[k]];
            bool again = false; /* an operand that is named twice ends once */
            for (int j = 0; j < k; j++) again |= l->root[n->in[j]] == in;
            if (!again && l->last[in] == i) now -= l->bytes[in];
        }
    }
}

bool gb_live_find(gb_live *l, const gb_graph *g)
{
    size_t values = (size_t)g->n_values + 1, nodes = (size_t)g->n_nodes + 1;
    *l = (gb_live){.g = g};
    l->root = calloc(values, sizeof *l->root);
    l->bytes = calloc(values, sizeof *l->bytes);
    l->first = calloc(values, sizeof *l->first);
    l->last = calloc(values, sizeof *l->last);
    l->sum = calloc(nodes, sizeof *l->sum);
    if (!l->root || !l->bytes || !l->first || !l->last || !l->sum) return false;
    find_storages(l);
    sum_up(l);
    return true;
}

void gb_live_free(gb_live *l)
{
    free(l->root);
    free(l->bytes);
    free(l->first);
    free(l->last);
    free(l->sum);
    *l = (gb_live){0};
}
