/* Reading a graph: node by node, and as text. */
#include <stdio.h>
#include <stdlib.h>

#include "core/ir/ir.h"

size_t gb_graph_value_count(const gb_graph *g)
{
    return (size_t)g->n_values;
}

const gb_tensor *gb_value_tensor(const gb_graph *g, gb_value v)
{
    return v < (gb_value)g->n_values && g->value[v].tensor.data ? &g->value[v].tensor : NULL;
}

gb_value gb_graph_input_at(const gb_graph *g, size_t i)
{
    return i < (size_t)g->n_inputs ? g->input[i] : GB_NONE;
}

gb_value gb_graph_state_at(const gb_graph *g, size_t i)
{
    return i < (size_t)g->n_states ? g->state[i] : GB_NONE;
}

gb_value gb_graph_output_at(const gb_graph *g, size_t i, const char **name)
{
    if (i >= (size_t)g->n_outputs) return GB_NONE;
    if (name) *name = g->output_name[i];
    return g->output[i];
}

size_t gb_graph_node_count(const gb_graph *g)
{
    return (size_t)g->n_nodes;
}

gb_node_view gb_graph_node(const gb_graph *g, size_t i)
{
    const gb_node *n = &g->node[i];
    return (gb_node_view){.op = n->op->name, .path = n->path, .in = n->in, .out = n->out,
                          .attrs = n->attr, .n_in = (size_t)n->n_in, .n_out = (size_t)n->n_out,
                          .n_attrs = (size_t)n->n_attr};
}

static void dump_value(FILE *f, const gb_graph *g, gb_value v)
{
    const gb_value_info *i = &g->value[v];
    char shape[160];
    if (!v) fprintf(f, "-");
    else if (*i->name) fprintf(f, "%%%u(%s)", v, i->name);
    else fprintf(f, "%%%u", v);
    if (v) fprintf(f, ":%s%s", gb_dtype_name(i->dtype), gb_shape_text(&i->shape, shape, sizeof shape));
}

static void dump_expr(FILE *f, const gb_expr *e)
{
    for (int i = 0; i < e->n_nodes; i++) {
        const gb_enode *n = &e->node[i];
        fprintf(f, "    .%d = %s", i, gb_prims[n->prim].name);
        for (int k = 0; k < gb_prim_arity(n->prim); k++) fprintf(f, " .%d", n->arg[k]);
        if (gb_prim_arity(n->prim) == 0 || n->prim == GB_P_RANDOM) fprintf(f, " %g", n->imm);
        for (int k = 0; k < e->n_out; k++)
            if (e->out[k] == i) fprintf(f, "  -> %d", k);
        fprintf(f, "\n");
    }
}

char *gb_graph_dump(const gb_graph *g)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    for (int i = 0; i < g->n_nodes; i++) {
        const gb_node *n = &g->node[i];
        for (int k = 0; k < n->n_out; k++) {
            if (k) fprintf(f, ", ");
            dump_value(f, g, n->out[k]);
        }
        fprintf(f, " = %s(", n->op->name);
        for (int k = 0; k < n->n_in; k++) {
            if (k) fprintf(f, ", ");
            dump_value(f, g, n->in[k]);
        }
        fprintf(f, ")  # %s %s\n", n->phase, n->path);
        if (n->compute) dump_expr(f, n->compute->expr);
    }
    for (int i = 0; i < g->n_states; i++)
        if (g->value[g->state[i]].update) {
            dump_value(f, g, g->state[i]);
            fprintf(f, " <- %%%u\n", g->value[g->state[i]].update);
        }
    for (int i = 0; i < g->n_outputs; i++) fprintf(f, "output %s = %%%u\n", g->output_name[i], g->output[i]);
    if (fclose(f) == 0) return text;
    free(text);
    return NULL;
}
