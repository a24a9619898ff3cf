#include <stdlib.h>
#include <string.h>

#include "backends/cpu/tile_impl.h"

/* What the arrays of a tile may take of L1. Half of it: arrays of 4 KiB each fall into the same
 * sets. */
#define L1_BYTES (16 * 1024)
#define MAX_PERIOD (2 * GB_TILE_MAX)
#define NO_VALUE UINT16_MAX

/* A node that becomes an instruction, and the nodes that it reads. */
typedef struct {
    const gb_loop *loop;
    uint16_t leaf[GB_LOOP_LEAVES];
    int n_leaves;
} choice;

typedef struct {
    const gb_tile_desc *desc;
    const gb_expr *expr;
    gb_tile_prog *prog;
    uint8_t *class; /* gb_tile_class */
    int *uses;
    bool *needed;
    choice *choice;
    uint16_t *value; /* of a node */
    uint16_t *full;  /* of a uniform node: filled into a tile */
    int64_t unit;    /* tiles are a multiple of it */
    int value_cap;
    bool failed;
} compiler;

static int64_t lcm(int64_t a, int64_t b)
{
    int64_t x = a, y = b;
    while (y) {
        int64_t r = x % y;
        x = y;
        y = r;
    }
    return a / x * b;
}

static bool accept_period(compiler *c, int64_t period)
{
    if (period <= 0 || period > MAX_PERIOD) return false;
    int64_t unit = lcm(c->unit, period);
    if (unit > MAX_PERIOD) return false;
    c->unit = unit;
    return true;
}

static gb_tile_class class_of_walk(compiler *c, const gb_walk *w)
{
    if (gb_walk_is_uniform(w)) return GB_UNIFORM;
    return accept_period(c, gb_walk_period(w)) ? GB_PERIODIC : GB_VARYING;
}

static gb_tile_class class_of_leaf(compiler *c, const gb_enode *n)
{
    if (n->prim == GB_P_INPUT && c->desc->in[(int)n->imm].block) return GB_VARYING;
    if (n->prim == GB_P_INPUT) return class_of_walk(c, &c->prog->in[(int)n->imm]);
    if (n->prim == GB_P_COORD) {
        gb_walk w;
        int64_t stride[GB_MAX_RANK] = {0};
        stride[(int)n->imm] = 1;
        gb_walk_init(&w, &c->desc->space, GB_S_I32, stride);
        return class_of_walk(c, &w);
    }
    return GB_UNIFORM;
}

static void classify(compiler *c)
{
    const gb_expr *e = c->expr;
    for (int i = 0; i < e->n_nodes; i++) {
        const gb_enode *n = &e->node[i];
        int arity = gb_prim_arity(n->prim);
        c->class[i] = arity ? GB_UNIFORM : class_of_leaf(c, n);
        for (int k = 0; k < arity; k++)
            if (c->class[n->arg[k]] > c -> class[i]) c->class[i] = c->class[n->arg[k]];
    }
}

/* An output counts double: it is never swallowed by a tree. */
static void count_uses(compiler *c)
{
    const gb_expr *e = c->expr;
    for (int k = 0; k < e->n_out; k++) {
        c->needed[e->out[k]] = true;
        c->uses[e->out[k]] += 2;
    }
    for (int i = e->n_nodes - 1; i >= 0; i--) {
        int arity = c->uses[i] ? gb_prim_arity(e->node[i].prim) : 0;
        for (int k = 0; k < arity; k++) c->uses[e->node[i].arg[k]]++;
    }
}

/* A node that several trees may compute, each for itself: that costs less than a pass over the
 * tile. */
static bool is_cheap(const compiler *c, int node)
{
    uint8_t prim = c->expr->node[node].prim;
    for (int k = 0; k < c->expr->n_out; k++)
        if (c->expr->out[k] == node) return false;
    return (prim == GB_P_ADD || prim == GB_P_SUB || prim == GB_P_MUL) && !c->needed[node];
}

static bool commutes(uint8_t prim)
{
    return prim == GB_P_ADD || prim == GB_P_MUL || prim == GB_P_IADD || prim == GB_P_IMUL;
}

/* Fits a tree's code to the nodes at `node`; code moves past what was fitted. */
static bool fit(const compiler *c, int root, const gb_loop *loop, const uint8_t **code, int node,
                choice *out)
{
    uint8_t want = *(*code)++;
    if (want & GB_LEAF) {
        int leaf = want - GB_LEAF;
        bool one = c->class[node] == GB_UNIFORM && c->class[root] != GB_UNIFORM;
        if ((loop->mode[leaf] == 's') != one) return false;
        if (leaf < out->n_leaves && out->leaf[leaf] != NO_VALUE) return out->leaf[leaf] == node;
        for (; out->n_leaves <= leaf; out->n_leaves++) out->leaf[out->n_leaves] = NO_VALUE;
        out->leaf[leaf] = (uint16_t)node;
        return true;
    }
    const gb_enode *n = &c->expr->node[node];
    if (n->prim != want) return false;
    if (node != root && c->class[node] != c->class[root]) return false;
    if (node != root && c->uses[node] != 1 && !is_cheap(c, node)) return false;
    const uint8_t *begin = *code;
    choice before = *out;
    bool ok = true;
    for (int k = 0; k < gb_prim_arity(want) && ok; k++)
        ok = fit(c, root, loop, code, n->arg[k], out);
    if (ok || !commutes(want)) return ok;
    *code = begin;
    *out = before;
    return fit(c, root, loop, code, n->arg[1], out) && fit(c, root, loop, code, n->arg[0], out);
}

/* The biggest tree that ends in this node; trees are sorted. Else its primitive over arrays. */
static void choose(compiler *c, int node)
{
    const gb_loops *t = c->desc->loops;
    const gb_loop *plain = NULL;
    for (int i = 0; i < t->n; i++) {
        const gb_loop *loop = &t->loop[i];
        choice found = {.loop = loop};
        const uint8_t *code = loop->code;
        if (code[0] != c->expr->node[node].prim) continue;
        if (loop->prims == 1 && !strchr(loop->mode, 's')) plain = loop;
        if (c->class[node] == GB_UNIFORM && loop->prims > 1) continue;
        if (!fit(c, node, loop, &code, node, &found)) continue;
        c->choice[node] = found;
        return;
    }
    choice *x = &c->choice[node];
    *x = (choice){.loop = plain, .n_leaves = gb_prim_arity(c->expr->node[node].prim)};
    for (int k = 0; k < x->n_leaves; k++) x->leaf[k] = c->expr->node[node].arg[k];
}

static void choose_all(compiler *c)
{
    for (int i = c->expr->n_nodes - 1; i >= 0; i--) {
        if (!c->needed[i] || gb_prim_arity(c->expr->node[i].prim) == 0) continue;
        choose(c, i);
        for (int k = 0; k < c->choice[i].n_leaves; k++) c->needed[c->choice[i].leaf[k]] = true;
    }
}

static void *grow(compiler *c, void *list, int n, size_t size)
{
    if (n & (n - 1)) return list; /* capacity is the next power of two */
    void *grown = realloc(list, (size_t)(n ? 2 * n : 1) * size);
    if (!grown) c->failed = true;
    return grown ? grown : list;
}

static uint16_t new_value(compiler *c, gb_place place, int index)
{
    gb_tile_prog *p = c->prog;
    p->value = grow(c, p->value, p->n_values, sizeof *p->value);
    if (c->failed) return 0;
    p->value[p->n_values] = (gb_value){place, index};
    return (uint16_t)p->n_values++;
}

static void emit(compiler *c, gb_code *code, const gb_instr *instr)
{
    code->instr = grow(c, code->instr, code->n, sizeof *code->instr);
    if (!c->failed) code->instr[code->n++] = *instr;
}

static gb_code *code_of(compiler *c, gb_tile_class k)
{
    gb_tile_prog *p = c->prog;
    return k == GB_UNIFORM ? &p->once_const : k == GB_PERIODIC ? &p->once_period : &p->each;
}

static uint16_t result_value(compiler *c, gb_tile_class k)
{
    gb_tile_prog *p = c->prog;
    if (k == GB_UNIFORM) return new_value(c, GB_AT_CONST, p->n_consts++);
    if (k == GB_PERIODIC) return new_value(c, GB_AT_PERIOD, p->n_periods++);
    return new_value(c, GB_AT_SLOT, -1);
}

static void emit_coord(compiler *c, int node)
{
    gb_tile_prog *p = c->prog;
    p->coord = grow(c, p->coord, p->n_coord, sizeof *p->coord);
    if (c->failed) return;
    int64_t stride[GB_MAX_RANK] = {0};
    stride[(int)c->expr->node[node].imm] = 1;
    gb_walk_init(&p->coord[p->n_coord], &c->desc->space, GB_S_I32, stride);
    gb_instr i = {.op = GB_TILE_COORD, .port = p->n_coord++, .value = {c->value[node]}};
    emit(c, code_of(c, c->class[node]), &i);
}

static void emit_leaf(compiler *c, int node)
{
    const gb_enode *n = &c->expr->node[node];
    gb_tile_class k = c->class[node];
    int port = (int)n->imm;
    if (n->prim == GB_P_INPUT && k == GB_VARYING &&
        (c->desc->in[port].block || gb_walk_is_dense(&c->prog->in[port]))) {
        c->value[node] = new_value(c, GB_AT_IN, port);
        return;
    }
    c->value[node] = result_value(c, k);
    if (n->prim == GB_P_COORD) {
        emit_coord(c, node);
        return;
    }
    gb_instr i = {.op = n->prim == GB_P_INPUT ? GB_TILE_LOAD : GB_TILE_SET,
                  .prim = n->prim,
                  .port = port,
                  .imm = n->imm,
                  .value = {c->value[node]}};
    emit(c, code_of(c, k), &i);
}

static uint16_t filled(compiler *c, int node)
{
    if (c->full[node] == NO_VALUE) {
        c->full[node] = result_value(c, GB_PERIODIC);
        gb_instr i = {.op = GB_TILE_LOOP,
                      .n_args = 1,
                      .fn = c->desc->loops->fill,
                      .value = {c->full[node], c->value[node]}};
        emit(c, &c->prog->once_period, &i);
    }
    return c->full[node];
}

/* Is the input of this port read after node, in the order in which instructions are emitted? */
static bool read_later(const compiler *c, int node, int port)
{
    const gb_expr *e = c->expr;
    for (int i = node + 1; i < e->n_nodes; i++) {
        if (!c->needed[i]) continue;
        for (int k = 0; k < c->choice[i].n_leaves; k++) {
            const gb_enode *leaf = &e->node[c->choice[i].leaf[k]];
            if (leaf->prim == GB_P_INPUT && (int)leaf->imm == port) return true;
        }
    }
    for (int k = 0; k < e->n_out; k++)
        if (e->node[e->out[k]].prim == GB_P_INPUT && (int)e->node[e->out[k]].imm == port)
            return true;
    return false;
}

static bool writes_directly(const compiler *c, int port)
{
    return c->desc->out[port].block || gb_walk_is_dense(&c->prog->out[port]);
}

/* The output into which a node can be computed, without a copy; -1: none. */
static int direct_output(const compiler *c, int node)
{
    const gb_tile_desc *d = c->desc;
    for (int k = 0; k < c->expr->n_out && !d->results; k++) {
        if (c->expr->out[k] != node || !writes_directly(c, k)) continue;
        bool clash = false;
        for (int j = 0; j < c->expr->n_in; j++)
            clash = clash || (d->out[k].place > 0 && d->in[j].place == d->out[k].place &&
                              read_later(c, node, j));
        if (!clash) return k;
    }
    return -1;
}

static void emit_node(compiler *c, int node)
{
    const choice *x = &c->choice[node];
    gb_tile_class k = c->class[node];
    gb_instr i = {.op = GB_TILE_LOOP,
                  .fn = x->loop->fn,
                  .n_args = x->n_leaves,
                  .imm = c->expr->node[node].imm};
    for (int a = 0; a < x->n_leaves; a++) {
        int leaf = x->leaf[a];
        if (c->value[leaf] == NO_VALUE) emit_leaf(c, leaf);
        bool fill = k != GB_UNIFORM && c->class[leaf] == GB_UNIFORM && x->loop->mode[a] == 'v';
        i.value[1 + a] = fill ? filled(c, leaf) : c->value[leaf];
    }
    int out = k == GB_VARYING ? direct_output(c, node) : -1;
    i.value[0] = out >= 0 ? new_value(c, GB_AT_OUT, out) : result_value(c, k);
    c->value[node] = i.value[0];
    emit(c, code_of(c, k), &i);
}

/* An input that is passed on, while another output overwrites it, is saved before any copy. */
static void save_input(compiler *c, int k)
{
    const gb_tile_desc *d = c->desc;
    int node = c->expr->out[k], port = (int)c->expr->node[node].imm;
    if (c->expr->node[node].prim != GB_P_INPUT || d->results) return;
    for (int m = 0; m < c->expr->n_out; m++) {
        if (m == k || d->out[m].place <= 0 || d->out[m].place != d->in[port].place) continue;
        c->value[node] = result_value(c, GB_VARYING);
        gb_instr i = {.op = GB_TILE_LOAD, .port = port, .value = {c->value[node]}};
        emit(c, &c->prog->each, &i);
        return;
    }
}

static void emit_output(compiler *c, int k)
{
    int node = c->expr->out[k];
    if (c->value[node] == NO_VALUE) emit_leaf(c, node);
    if (c->failed) return;
    uint16_t v = c->value[node];
    bool one = c->class[node] == GB_UNIFORM;
    const gb_value *at = &c->prog->value[v];
    if (c->desc->results) {
        c->prog->result[k] = one ? filled(c, node) : v;
    } else if (writes_directly(c, k)) {
        if (at->place == GB_AT_OUT && at->index == k) return;
        gb_instr i = {.op = GB_TILE_LOOP,
                      .n_args = 1,
                      .fn = one ? c->desc->loops->fill : c->desc->loops->copy,
                      .value = {new_value(c, GB_AT_OUT, k), v}};
        emit(c, &c->prog->each, &i);
    } else {
        gb_instr i = {
            .op = GB_TILE_STORE, .n_args = 1, .port = k, .value = {v, one ? filled(c, node) : v}};
        emit(c, &c->prog->each, &i);
    }
}

/* Gives values that live at the same time different slots. */
static void assign_slots(compiler *c)
{
    gb_tile_prog *p = c->prog;
    int *last = calloc((size_t)p->n_values + 1, sizeof *last);
    bool *used = calloc((size_t)p->each.n + 1, sizeof *used);
    if (!last || !used) c->failed = true;
    for (int i = 0; i < p->each.n && !c->failed; i++)
        for (int a = 1; a <= p->each.instr[i].n_args; a++) last[p->each.instr[i].value[a]] = i;
    for (int k = 0; k < p->n_out && !c->failed; k++) last[p->result[k]] = p->each.n;
    for (int i = 0; i < p->each.n && !c->failed; i++) {
        const gb_instr *instr = &p->each.instr[i];
        for (int a = 1; a <= instr->n_args; a++) {
            const gb_value *v = &p->value[instr->value[a]];
            if (v->place == GB_AT_SLOT && last[instr->value[a]] == i) used[v->index] = false;
        }
        gb_value *v = &p->value[instr->value[0]];
        if (v->place != GB_AT_SLOT || v->index >= 0) continue;
        v->index = 0;
        while (used[v->index]) v->index++;
        used[v->index] = true;
        if (v->index >= p->n_slots) p->n_slots = v->index + 1;
    }
    free(last);
    free(used);
}

/* Arrays of a tile's length that a tile reads and writes: they should stay in L1 together. */
static int64_t arrays_of_tile(const gb_tile_prog *p)
{
    int64_t arrays = p->n_slots;
    for (int v = 0; v < p->n_values; v++) {
        gb_place at = p->value[v].place;
        bool read = at == GB_AT_IN;
        for (int i = 0; i < p->each.n && !read; i++)
            for (int a = 1; a <= p->each.instr[i].n_args; a++)
                read |= at == GB_AT_PERIOD && p->each.instr[i].value[a] == v;
        arrays += read;
    }
    return arrays;
}

static void choose_tile(compiler *c)
{
    gb_tile_prog *p = c->prog;
    int64_t unit = lcm(c->unit, 16), arrays = arrays_of_tile(p);
    if (unit > GB_TILE_MAX) unit = c->unit; /* unaligned tiles rather than too big ones */
    int64_t want = L1_BYTES / 4 / (arrays ? arrays : 1);
    int64_t most = p->each.n + p->n_periods ? GB_TILE_MAX : 4 * GB_TILE_MAX; /* nothing computed */
    if (want > most) want = most;
    p->tile = want > unit ? want / unit * unit : unit;
}

static gb_status finish(compiler *c, gb_error *err)
{
    gb_tile_prog *p = c->prog;
    for (int i = 0; i < p->n_values && !c->failed; i++) {
        gb_place at = p->value[i].place;
        if (at == GB_AT_CONST || at == GB_AT_SLOT) continue;
        p->moving = grow(c, p->moving, p->n_moving, sizeof *p->moving);
        if (!c->failed) p->moving[p->n_moving++] = (uint16_t)i;
    }
    size_t bytes = ((size_t)p->n_periods * (size_t)p->tile + (size_t)p->n_consts) * 4;
    if (!c->failed) p->constants = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (c->failed || !p->constants)
        return gb_fail(err, GB_OUT_OF_MEMORY, NULL, "close other programs",
                       "no memory for the loops of a fused expression");
    return GB_OK;
}

static gb_status compile(compiler *c, gb_error *err)
{
    classify(c);
    count_uses(c);
    choose_all(c);
    for (int i = 0; i < c->expr->n_nodes && !c->failed; i++)
        if (c->needed[i] && c->choice[i].loop) emit_node(c, i);
    for (int k = 0; k < c->expr->n_out && !c->failed; k++) save_input(c, k);
    for (int k = 0; k < c->expr->n_out && !c->failed; k++) emit_output(c, k);
    if (!c->failed) assign_slots(c);
    if (!c->failed) choose_tile(c);
    return finish(c, err);
}

static gb_status no_memory(size_t nodes, gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, NULL, "close other programs",
                   "no memory to compile a fused expression of %zu nodes", nodes);
}

/* The arrays by node, in one allocation that the caller frees. */
static char *allocate(compiler *c)
{
    size_t n = (size_t)c->expr->n_nodes;
    char *memory = calloc(n + 1, sizeof(choice) + sizeof(int) + 2 * sizeof(uint16_t) + 2);
    if (!memory) return NULL;
    c->choice = (choice *)memory;
    c->uses = (int *)(c->choice + n);
    c->value = (uint16_t *)(c->uses + n);
    c->full = c->value + n;
    c->class = (uint8_t *)(c->full + n);
    c->needed = (bool *)(c->class + n);
    memset(c->value, 0xff, 2 * n * sizeof *c->value);
    return memory;
}

/* Compiles the expression that the rewriting gives. */
static gb_status rewrite_and_compile(compiler *c, gb_error *err)
{
    gb_expr better;
    char *memory = allocate(c);
    if (!memory) return no_memory((size_t)c->expr->n_nodes, err);
    accept_period(c, c->desc->multiple);
    classify(c);
    gb_status s = gb_tile_rewrite(c->expr, c->class, &better, err);
    free(memory);
    if (s) return s;
    c->expr = &better;
    memory = allocate(c);
    s = memory ? compile(c, err) : no_memory((size_t)better.n_nodes, err);
    free(memory);
    free((gb_enode *)better.node);
    return s;
}

gb_status gb_tile_compile(const gb_tile_desc *desc, gb_tile_prog **prog, gb_error *err)
{
    const gb_expr *e = desc->expr;
    gb_tile_prog *p = calloc(1, sizeof *p);
    if (!p) return no_memory((size_t)e->n_nodes, err);
    p->count = desc->space.count;
    p->n_out = desc->results ? e->n_out : 0;
    for (int k = 0; k < e->n_in; k++)
        gb_walk_init(&p->in[k], &desc->space, desc->in[k].storage, desc->in[k].stride);
    for (int k = 0; k < e->n_out && !desc->results; k++)
        gb_walk_init(&p->out[k], &desc->space, desc->out[k].storage, desc->out[k].stride);
    compiler c = {.desc = desc, .expr = e, .prog = p, .unit = 1};
    gb_status s = rewrite_and_compile(&c, err);
    if (s)
        gb_tile_free(p);
    else
        *prog = p;
    return s;
}

static gb_tile_port port_of(const gb_operand *o)
{
    gb_tile_port p = {.storage = o->storage};
    memcpy(p.stride, o->stride, sizeof p.stride);
    return p;
}

void gb_tile_bind_step(gb_tile_desc *d, const gb_step *step)
{
    for (int j = 0; j < step->n_in; j++) d->in[j] = port_of(&step->in[j]);
    for (int k = 0; k < step->n_out; k++) {
        const gb_operand *o = &step->out[k];
        d->out[k] = port_of(o);
        d->out[k].place = 1 + k;
        for (int j = 0; j < step->n_in; j++)
            if (step->in[j].buffer == o->buffer && step->in[j].offset == o->offset)
                d->in[j].place = 1 + k;
    }
}

void gb_tile_free(gb_tile_prog *p)
{
    if (!p) return;
    free(p->coord);
    free(p->value);
    free(p->once_const.instr);
    free(p->once_period.instr);
    free(p->each.instr);
    free(p->moving);
    free(p->constants);
    free(p);
}
