/* Fusion: pointwise nodes move into the pointwise nodes and reductions that read them, and into the
 * contractions that feed them.
 *
 * Every Pointwise or Reduce node gets a draft: its expression with the nodes inlined that may be.
 * Then what is still read is found from the outputs backwards, and that alone is emitted. A node
 * with several readers is computed again in each only where that costs no more than the memory that
 * keeping its value takes: training keeps what the gradient needs once. A value that
 * must be kept, but is read by one pointwise node alone, becomes a second output of that node: an
 * optimizer is one pass over parameter, gradient and moments. */
#include <stdlib.h>
#include <string.h>

#include "core/passes/passes.h"
#include "core/passes/rewrite.h"

typedef struct draft {
    const gb_expr *expr; /* NULL: not a compute node */
    gb_value leaf[GB_MAX_STEP_IN];
    int n_leaves;
    int contraction; /* node whose epilogue this becomes, -1: none */
    bool absorbed;   /* its reader computes it: a contraction, or a node joined */
    gb_value extra[GB_MAX_STEP_OUT]; /* values of joined nodes, further outputs of this one */
    int n_extra;
} draft;

typedef struct fusion {
    const gb_graph *g;
    draft *draft;       /* by node */
    int *readers;       /* by value: nodes that read it, those that end up in one node as one */
    char *kept;         /* by value: read by something that is no compute node, or an output */
    int *leaf_uses;     /* by value: emitted nodes that read it */
    gb_arena *arena;    /* of expressions */
} fusion;

static bool is_compute(const gb_node *n)
{
    return n->compute && (strcmp(n->op->name, "Pointwise") == 0 || strcmp(n->op->name, "Reduce") == 0);
}

static bool is_contraction(const gb_node *n)
{
    return !n->compute && (strcmp(n->op->name, "Dot") == 0 || strcmp(n->op->name, "ConvForward") == 0 ||
                           strcmp(n->op->name, "ConvInput") == 0);
}

/* Leaves as large as the space: what costs memory traffic. */
static int large_leaves(const gb_graph *g, const draft *d, const gb_shape *space)
{
    int n = 0;
    for (int k = 0; k < d->n_leaves; k++)
        n += gb_shape_count(gb_shape_ptr(g, d->leaf[k])) == gb_shape_count(space);
    return n;
}

/* Is a contraction's result all that node p reads much of, so that keeping p's value, which the
 * contraction then finishes, is free? */
static bool feeds_epilogue(const fusion *f, int p)
{
    const draft *d = &f->draft[p];
    const gb_shape *space = &f->g->node[p].compute->space;
    for (int k = 0; k < d->n_leaves; k++) {
        int from = f->g->value[d->leaf[k]].node;
        if (from >= 0 && is_contraction(&f->g->node[from]) && f->readers[d->leaf[k]] == 1 &&
            gb_shape_equal(gb_shape_ptr(f->g, d->leaf[k]), space))
            return large_leaves(f->g, d, space) == 1;
    }
    return false;
}

/* May value v, read by node n, be computed inside of n? */
static bool may_inline(const fusion *f, const gb_node *n, gb_value v)
{
    const gb_graph *g = f->g;
    int p = g->value[v].node;
    if (p < 0 || !f->draft[p].expr || f->kept[v]) return false;
    const gb_node *producer = &g->node[p];
    if (strcmp(producer->op->name, "Pointwise") != 0 || producer->n_out != 1 ||
        !gb_shape_equal(&producer->compute->space, &n->compute->space))
        return false;
    int reads = f->readers[v];
    if (reads == 1) return true;
    /* streams of memory: each reader reads the leaves, or one reads them, writes v, and all read v */
    int leaves = large_leaves(g, &f->draft[p], &n->compute->space);
    int inlined = reads * leaves + (reads - 1) * gb_expr_cost(f->draft[p].expr);
    return inlined <= (feeds_epilogue(f, p) ? reads - 1 : leaves + 1 + reads);
}

/* Operand list under construction: the position of v, appended if new; -1 where it is full. */
static int leaf_index(draft *d, gb_value v)
{
    for (int k = 0; k < d->n_leaves; k++)
        if (d->leaf[k] == v) return k;
    if (d->n_leaves == GB_MAX_STEP_IN) return -1;
    d->leaf[d->n_leaves] = v;
    return d->n_leaves++;
}

static bool build_draft(fusion *f, int index, const bool *inlined, draft *out)
{
    const gb_graph *g = f->g;
    const gb_node *n = &g->node[index];
    *out = (draft){.contraction = -1};
    gb_xb b = {0};
    gb_x in[GB_MAX_EXPR_INPUTS];
    bool fits = true;
    for (int k = 0; k < n->n_in && fits; k++) {
        const draft *d = inlined[k] ? &f->draft[g->value[n->in[k]].node] : NULL;
        gb_x leaf[GB_MAX_STEP_IN];
        int count = d ? d->n_leaves : 1;
        for (int j = 0; j < count && fits; j++) {
            gb_value v = d ? d->leaf[j] : n->in[k];
            int at = leaf_index(out, v);
            fits = at >= 0;
            if (fits) leaf[j] = gb_x_input(&b, at, gb_dtype_is_float(gb_dtype_at(g, v)) ? 'f' : 'i');
        }
        if (!fits) break;
        if (d) gb_x_inline(&b, d->expr, leaf, NULL, &in[k]);
        else in[k] = leaf[0];
    }
    gb_x y[GB_MAX_STEP_OUT];
    if (fits) {
        gb_x_inline(&b, n->compute->expr, in, NULL, y);
        out->expr = gb_xb_finish(&b, out->n_leaves, y, n->compute->expr->n_out, gb_arena_alloc_hook,
                                 f->arena);
    }
    gb_xb_free(&b);
    return out->expr != NULL;
}

/* Inlines as much as fits: all that may be, else one producer after the other is left out. */
static bool make_draft(fusion *f, int index)
{
    const gb_node *n = &f->g->node[index];
    bool inlined[GB_MAX_EXPR_INPUTS] = {0};
    for (int k = 0; k < n->n_in; k++) inlined[k] = may_inline(f, n, n->in[k]);
    for (int k = n->n_in; k >= 0; k--) {
        if (build_draft(f, index, inlined, &f->draft[index])) return true;
        if (k > 0) inlined[k - 1] = false;
    }
    return false;
}

/* Does node n give a state's new value from the old one? As a step of its own it writes over that,
 * which the epilogue of a contraction may not. */
static bool writes_over(const gb_graph *g, const gb_node *n, const draft *d)
{
    for (int k = 0; k < d->n_leaves; k++)
        if (g->value[d->leaf[k]].update == n->out[0]) return true;
    return false;
}

/* Can this contraction's result be finished by node n, which reads it? */
static bool takes_epilogue(const fusion *f, const gb_node *n, const draft *d, gb_value v)
{
    const gb_graph *g = f->g;
    int p = g->value[v].node;
    return p >= 0 && is_contraction(&g->node[p]) && !f->kept[v] && f->leaf_uses[v] == 1 &&
           strcmp(n->op->name, "Pointwise") == 0 && n->n_out == 1 &&
           gb_shape_equal(&n->compute->space, gb_shape_ptr(g, v)) && !gb_expr_uses(d->expr, GB_P_COORD) &&
           g->node[p].n_in + d->n_leaves - 1 <= GB_MAX_STEP_IN &&
           gb_dtype_is_float(gb_dtype_at(g, n->out[0])) && !writes_over(g, n, d);
}

static void find_kept(fusion *f)
{
    const gb_graph *g = f->g;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i].n_in; k++)
            if (!is_compute(&g->node[i])) f->kept[g->node[i].in[k]] = 1;
    for (int i = 0; i < g->n_outputs; i++) f->kept[g->output[i]] = 1;
    for (int i = 0; i < g->n_states; i++) f->kept[g->value[g->state[i]].update] = 1;
}

enum { NOBODY = -1, SEVERAL = -2 };

/* From the last node to the first: a pointwise node whose readers all end up in one node ends up
 * there as well. home: by node; of: by value, the home of all its readers. */
static void find_homes(const fusion *f, int *home, int *of)
{
    const gb_graph *g = f->g;
    for (int v = 0; v < g->n_values; v++) of[v] = NOBODY;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const gb_node *n = &g->node[i];
        int to = of[n->out[0]];
        bool moves = is_compute(n) && strcmp(n->op->name, "Pointwise") == 0 && n->n_out == 1 &&
                     !f->kept[n->out[0]] && to >= 0 && is_compute(&g->node[to]) &&
                     gb_shape_equal(&n->compute->space, &g->node[to].compute->space);
        home[i] = moves ? to : i;
        for (int k = 0; k < n->n_in; k++) {
            int *in = &of[n->in[k]];
            *in = *in == NOBODY || *in == home[i] ? home[i] : SEVERAL;
        }
    }
}

/* Nodes of one home after the other, each value is counted once for them. */
static bool count_readers(fusion *f)
{
    const gb_graph *g = f->g;
    size_t nodes = (size_t)g->n_nodes, values = (size_t)g->n_values;
    int *home = calloc(3 * nodes + values + 1, sizeof *home);
    int *head = home + nodes, *next = head + nodes, *of = next + nodes;
    if (!home) return false;
    find_kept(f);
    find_homes(f, home, of);
    for (int i = 0; i < g->n_nodes; i++) head[i] = NOBODY;
    for (int i = 0; i < g->n_nodes; i++) {
        next[i] = head[home[i]];
        head[home[i]] = i;
    }
    for (int v = 0; v < g->n_values; v++) of[v] = NOBODY;
    for (int h = 0; h < g->n_nodes; h++)
        for (int i = head[h]; i >= 0; i = next[i])
            for (int k = 0; k < g->node[i].n_in; k++) {
                gb_value v = g->node[i].in[k];
                f->readers[v] += of[v] != h;
                of[v] = h;
            }
    free(home);
    return true;
}

/* From the outputs backwards: which nodes must be emitted, and how often each value is read. */
static void find_needed(fusion *f, char *needed)
{
    const gb_graph *g = f->g;
    for (int i = 0; i < g->n_outputs; i++)
        if (g->value[g->output[i]].node >= 0) needed[g->value[g->output[i]].node] = 1;
    for (int i = 0; i < g->n_states; i++) {
        gb_value u = g->value[g->state[i]].update;
        if (u && g->value[u].node >= 0) needed[g->value[u].node] = 1;
    }
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        if (!needed[i]) continue;
        const draft *d = &f->draft[i];
        int count = d->expr ? d->n_leaves : g->node[i].n_in;
        const gb_value *in = d->expr ? d->leaf : g->node[i].in;
        for (int k = 0; k < count; k++) {
            f->leaf_uses[in[k]]++;
            if (g->value[in[k]].node >= 0) needed[g->value[in[k]].node] = 1;
        }
    }
}

/* --- joining --- */

/* Is value v read by pointwise node n alone, so that n can give it as well? */
static bool may_join(const fusion *f, const gb_node *n, const draft *d, gb_value v)
{
    const gb_graph *g = f->g;
    int p = g->value[v].node;
    if (p < 0 || !f->draft[p].expr || f->leaf_uses[v] != 1 || f->draft[p].contraction >= 0) return false;
    const gb_node *producer = &g->node[p];
    return strcmp(n->op->name, "Pointwise") == 0 && strcmp(producer->op->name, "Pointwise") == 0 &&
           producer->n_out == 1 && n->n_out == 1 &&
           d->n_extra + f->draft[p].n_extra + 2 <= GB_MAX_STEP_OUT &&
           gb_shape_equal(&producer->compute->space, &n->compute->space);
}

/* Makes producer p, whose value is leaf number k of d, part of d. False where that does not fit. */
static bool join(fusion *f, draft *d, int k, int p)
{
    const draft *from = &f->draft[p];
    draft out = {.contraction = -1};
    gb_xb b = {0};
    gb_x own[GB_MAX_STEP_IN], theirs[GB_MAX_STEP_IN], y[2 * GB_MAX_STEP_OUT], made[GB_MAX_STEP_OUT];
    gb_value joined = d->leaf[k];
    bool fits = true;
    for (int j = 0; j < from->n_leaves && fits; j++) {
        int at = leaf_index(&out, from->leaf[j]);
        fits = at >= 0;
        if (fits) theirs[j] = gb_x_input(&b, at, gb_dtype_is_float(gb_dtype_at(f->g, from->leaf[j])) ? 'f' : 'i');
    }
    if (fits) gb_x_inline(&b, from->expr, theirs, NULL, made);
    for (int j = 0; j < d->n_leaves && fits; j++) {
        int at = j == k ? 0 : leaf_index(&out, d->leaf[j]);
        fits = at >= 0;
        if (!fits) break;
        own[j] = j == k ? made[0]
                        : gb_x_input(&b, at, gb_dtype_is_float(gb_dtype_at(f->g, d->leaf[j])) ? 'f' : 'i');
    }
    if (fits) {
        gb_x_inline(&b, d->expr, own, NULL, y); /* n's value, then what it had joined before */
        int n = d->expr->n_out;
        for (int j = 0; j < from->expr->n_out; j++) y[n + j] = made[j];
        for (int j = 0; j < d->n_extra; j++) out.extra[out.n_extra++] = d->extra[j];
        out.extra[out.n_extra++] = joined;
        for (int j = 0; j < from->n_extra; j++) out.extra[out.n_extra++] = from->extra[j];
        out.expr = gb_xb_finish(&b, out.n_leaves, y, n + from->expr->n_out, gb_arena_alloc_hook, f->arena);
    }
    gb_xb_free(&b);
    if (!out.expr) return false;
    *d = out;
    return true;
}

static void join_kept(fusion *f, const char *needed)
{
    for (int i = 0; i < f->g->n_nodes; i++) {
        draft *d = &f->draft[i];
        if (!needed[i] || !d->expr || d->contraction >= 0) continue;
        for (int k = 0; k < d->n_leaves; k++) {
            int p = f->g->value[d->leaf[k]].node;
            if (!may_join(f, &f->g->node[i], d, d->leaf[k]) || !join(f, d, k, p)) continue;
            f->draft[p].absorbed = true;
            k = -1; /* the list of leaves is new */
        }
    }
}

static void choose_epilogues(fusion *f, const char *needed)
{
    for (int i = 0; i < f->g->n_nodes; i++) {
        draft *d = &f->draft[i];
        if (!needed[i] || !d->expr) continue;
        for (int k = 0; k < d->n_leaves && d->contraction < 0; k++)
            if (takes_epilogue(f, &f->g->node[i], d, d->leaf[k])) {
                d->contraction = f->g->value[d->leaf[k]].node;
                f->draft[d->contraction].absorbed = true;
            }
    }
}

static void emit_epilogue(fusion *f, gb_rewrite *r, const gb_node *n, const draft *d)
{
    const gb_node *c = &f->g->node[d->contraction];
    gb_value in[GB_MAX_STEP_IN];
    gb_x leaf[GB_MAX_STEP_IN], y;
    gb_xb b = {0};
    memcpy(in, c->in, (size_t)c->n_in * sizeof *in);
    int n_in = c->n_in, extra = 1;
    for (int k = 0; k < d->n_leaves; k++) {
        bool result = d->leaf[k] == c->out[0];
        char type = gb_dtype_is_float(gb_dtype_at(f->g, d->leaf[k])) ? 'f' : 'i';
        leaf[k] = gb_x_input(&b, result ? 0 : extra++, type);
        if (!result) in[n_in++] = d->leaf[k];
    }
    gb_x_inline(&b, d->expr, leaf, NULL, &y);
    gb_compute compute = {.space = n->compute->space};
    compute.expr = gb_xb_finish(&b, extra, &y, 1, gb_arena_alloc_hook, f->arena);
    gb_xb_free(&b);
    if (!compute.expr) {
        gb_graph_fail(r->to, GB_OUT_OF_MEMORY, NULL, "no memory to compile the graph");
        return;
    }
    gb_node fused = *c;
    fused.in = in;
    fused.n_in = n_in;
    fused.out = n->out;
    fused.compute = &compute;
    fused.keeps_f32 = n->keeps_f32; /* the result is n's */
    gb_rewrite_copy(r, &fused);
}

static void emit(fusion *f, gb_rewrite *r, int index)
{
    const gb_node *n = &f->g->node[index];
    draft *d = &f->draft[index];
    if (d->absorbed) return;
    if (!d->expr) {
        gb_rewrite_copy(r, n);
    } else if (d->contraction >= 0) {
        emit_epilogue(f, r, n, d);
    } else {
        gb_compute compute = *n->compute;
        compute.expr = d->expr;
        gb_node fused = *n;
        gb_value out[2 * GB_MAX_STEP_OUT];
        memcpy(out, n->out, (size_t)n->n_out * sizeof *out);
        memcpy(out + n->n_out, d->extra, (size_t)d->n_extra * sizeof *out);
        fused.in = d->leaf;
        fused.n_in = d->n_leaves;
        fused.out = out;
        fused.n_out = n->n_out + d->n_extra;
        fused.compute = &compute;
        gb_rewrite_copy(r, &fused);
    }
}

gb_graph *gb_fuse(const gb_graph *g, gb_error *err)
{
    fusion f = {.g = g, .arena = gb_arena_create()};
    size_t nodes = (size_t)g->n_nodes + 1, values = (size_t)g->n_values;
    f.draft = calloc(nodes, sizeof *f.draft);
    f.readers = calloc(values, sizeof *f.readers);
    f.leaf_uses = calloc(values, sizeof *f.leaf_uses);
    f.kept = calloc(values, 1);
    char *needed = calloc(nodes, 1);
    gb_graph *result = NULL;
    gb_rewrite r;
    bool ok = f.arena && f.draft && f.readers && f.leaf_uses && f.kept && needed;
    ok = ok && count_readers(&f);
    for (int i = 0; ok && i < g->n_nodes; i++) {
        f.draft[i].contraction = -1;
        if (is_compute(&g->node[i])) ok = make_draft(&f, i);
    }
    if (!ok) {
        gb_fail(err, GB_OUT_OF_MEMORY, NULL, "use a smaller model", "the graph could not be fused");
    } else {
        find_needed(&f, needed);
        choose_epilogues(&f, needed);
        join_kept(&f, needed);
        if (gb_rewrite_begin(&r, g, err)) {
            for (int i = 0; i < g->n_nodes && !gb_graph_failed(r.to); i++)
                if (needed[i]) emit(&f, &r, i);
            result = gb_rewrite_end(&r, err);
        }
    }
    gb_arena_destroy(f.arena);
    free(f.draft);
    free(f.readers);
    free(f.leaf_uses);
    free(f.kept);
    free(needed);
    return result;
}
