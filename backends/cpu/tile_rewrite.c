/* Fewer passes over a tile: factors that are the same for all tiles are multiplied into each other,
 * so that a normalization by channel, or its gradient, becomes one tree of vector loops. */
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/tile_impl.h"

typedef struct {
    gb_enode *node;
    uint8_t *varies; /* gb_tile_class */
    int *uses;
    int n, cap, to_come; /* nodes that still need a place */
} list;

static int append(list *l, gb_enode n, int uses)
{
    uint8_t varies = GB_UNIFORM;
    for (int k = 0; k < gb_prim_arity(n.prim); k++)
        if (l->varies[n.arg[k]] > varies) varies = l->varies[n.arg[k]];
    l->node[l->n] = n;
    l->varies[l->n] = varies;
    l->uses[l->n] = uses;
    return l->n++;
}

static int binary(list *l, uint8_t prim, int a, int b)
{
    return append(l, (gb_enode){.prim = prim, .type = 'f', .arg = {(uint16_t)a, (uint16_t)b}}, 1);
}

/* The argument of a product that varies, if the other does not; -1. */
static int varying_factor(const list *l, int node)
{
    const gb_enode *n = &l->node[node];
    if (n->prim != GB_P_MUL) return -1;
    for (int k = 0; k < 2; k++)
        if (l->varies[n->arg[k]] == GB_VARYING && l->varies[n->arg[1 - k]] != GB_VARYING) return k;
    return -1;
}

/* Does a factor vanish into this node, without a multiplication more? Counts the nodes. */
static bool absorbs(const list *l, int node, int *size)
{
    const gb_enode *n = &l->node[node];
    *size += 2;
    if (l->varies[node] != GB_VARYING) return true;
    if (varying_factor(l, node) >= 0) return true;
    if (l->uses[node] != 1 || (n->prim != GB_P_ADD && n->prim != GB_P_SUB)) return false;
    return absorbs(l, n->arg[0], size) && absorbs(l, n->arg[1], size);
}

static int scaled(list *l, int node, int factor)
{
    const gb_enode n = l->node[node];
    if (l->varies[node] != GB_VARYING) return binary(l, GB_P_MUL, node, factor);
    if (n.prim == GB_P_MUL) {
        int k = varying_factor(l, node);
        return binary(l, GB_P_MUL, n.arg[k], binary(l, GB_P_MUL, n.arg[1 - k], factor));
    }
    int a = scaled(l, n.arg[0], factor);
    return binary(l, n.prim, a, scaled(l, n.arg[1], factor));
}

/* What a comparison needs to read of its operand number `side`: the mask of an activation that is
 * computed again. max(x, 0) <= 0 is x <= 0, and min(x, 6) < 0 is x < 0, a NaN included. */
static int without_limit(const gb_enode *nodes, const gb_enode *n, int side)
{
    int node = n->arg[side];
    const gb_enode *to = &nodes[n->arg[1 - side]], *limit = &nodes[node],
                   *at = &nodes[limit->arg[1]];
    if (n->prim != GB_P_LE && n->prim != GB_P_LT) return node;
    if (to->prim != GB_P_CONST || at->prim != GB_P_CONST) return node;
    bool equal = n->prim == (side ? GB_P_LT : GB_P_LE);
    if (limit->prim == GB_P_MAX && (at->imm < to->imm || (equal && at->imm == to->imm)))
        return limit->arg[0];
    return limit->prim == GB_P_MIN && at->imm > to->imm ? limit->arg[0] : node;
}

gb_prim gb_tile_limit(const gb_enode *nodes, const gb_enode *n, int *x, int *c)
{
    const gb_enode *less = &nodes[n->arg[0]];
    if (n->prim == GB_P_MAX || n->prim == GB_P_MIN) {
        int first = nodes[n->arg[1]].prim == GB_P_CONST ? 0 : 1;
        *x = n->arg[first];
        *c = n->arg[1 - first];
        return nodes[*c].prim == GB_P_CONST ? (gb_prim)n->prim : GB_P_SELECT;
    }
    *c = n->arg[1];
    *x = n->arg[2];
    if (n->prim != GB_P_SELECT || nodes[*c].prim != GB_P_CONST || less->prim != GB_P_LT)
        return GB_P_SELECT;
    for (int side = 0; side < 2; side++) {
        gb_enode whole = *less; /* as it was before the limits of x were left out */
        whole.arg[side] = n->arg[2];
        if (less->arg[1 - side] == *c && without_limit(nodes, &whole, side) == less->arg[side])
            return side ? GB_P_MIN : GB_P_MAX;
    }
    return GB_P_SELECT;
}

/* A choice that spells a limit. */
static gb_prim spelled_limit(const gb_enode *nodes, const gb_enode *n)
{
    int x, c;
    return n->prim == GB_P_SELECT ? gb_tile_limit(nodes, n, &x, &c) : GB_P_SELECT;
}

/* A copy of node with mapped arguments, or what takes its place. */
static int rewrite(list *l, gb_enode n, int uses)
{
    for (int side = 0; side < 2; side++) {
        int x = without_limit(l->node, &n, side);
        if (x != n.arg[side]) l->uses[x] += --l->uses[n.arg[side]] ? 1 : 0;
        n.arg[side] = (uint16_t)x;
    }
    gb_prim limit = spelled_limit(l->node, &n);
    if (limit != GB_P_SELECT)
        n = (gb_enode){.prim = (uint8_t)limit, .type = 'f', .arg = {n.arg[2], n.arg[1]}};
    int k = -1;
    if (n.prim == GB_P_MUL)
        for (int i = 0; i < 2; i++)
            if (l->varies[n.arg[i]] == GB_VARYING && l->varies[n.arg[1 - i]] == GB_PERIODIC) k = i;
    int size = 0;
    if (k < 0 || !absorbs(l, n.arg[k], &size) || l->n + size + l->to_come > l->cap)
        return append(l, n, uses);
    int y = scaled(l, n.arg[k], n.arg[1 - k]);
    l->uses[y] = uses;
    return y;
}

static void drop_comparisons(const gb_expr *e, int *uses)
{
    for (int i = 0; i < e->n_nodes; i++) {
        if (spelled_limit(e->node, &e->node[i]) != GB_P_SELECT && uses[e->node[i].arg[0]] == 1)
            uses[e->node[i].arg[2]]--; /* the comparison goes away with the select */
    }
}

gb_status gb_tile_rewrite(const gb_expr *e, const uint8_t *class, gb_expr *out, gb_error *err)
{
    int cap = 3 * e->n_nodes + 64, *map = calloc((size_t)e->n_nodes + 1, 2 * sizeof *map);
    list l = {.cap = cap};
    l.node = calloc((size_t)cap, sizeof *l.node);
    l.varies = calloc((size_t)cap, 1);
    l.uses = calloc((size_t)cap, sizeof *l.uses);
    bool ok = map && l.node && l.varies && l.uses;
    int *uses = map + e->n_nodes;
    for (int i = 0; i < e->n_nodes && ok; i++)
        for (int k = 0; k < gb_prim_arity(e->node[i].prim); k++) uses[e->node[i].arg[k]]++;
    for (int k = 0; k < e->n_out && ok; k++) uses[e->out[k]] += 2; /* stays as it is */
    if (ok) drop_comparisons(e, uses);
    for (int i = 0; i < e->n_nodes && ok; i++) {
        gb_enode n = e->node[i];
        int arity = gb_prim_arity(n.prim);
        for (int k = 0; k < arity; k++) n.arg[k] = (uint16_t)map[n.arg[k]];
        l.to_come = e->n_nodes - i;
        map[i] = arity ? rewrite(&l, n, uses[i]) : append(&l, n, uses[i]);
        if (!arity) l.varies[map[i]] = class[i];
    }
    *out = *e;
    for (int k = 0; k < e->n_out && ok; k++) out->out[k] = (uint16_t)map[e->out[k]];
    out->node = l.node;
    out->n_nodes = l.n;
    free(map);
    free(l.varies);
    free(l.uses);
    if (ok) return GB_OK;
    free(l.node);
    return gb_fail(err, GB_OUT_OF_MEMORY, NULL, "close other programs",
                   "no memory to compile a fused expression");
}
