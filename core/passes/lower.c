/* Lowering: values get storage and a memory order, nodes become steps.
 *
 * Windows (views) cost nothing: a value is a strided window of a storage, and only what needs dense
 * memory gets a copy. Images are channels-last wherever a convolution or pool touches them; what is
 * computed from them inherits the order. Every storage is a plan buffer; memory.c packs them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/passes/passes.h"

const int gb_channels_last[4] = {0, 2, 3, 1};

struct gb_lowering {
    const gb_graph *g;
    gb_plan *plan;
    gb_arena *arena;
    gb_operand *where; /* by value */
    char *placed;      /* by value */
    bool images;       /* the graph has convolutions or pools */
    int cap_steps, cap_buffers;
    gb_error error;
};

const gb_graph *gb_lower_graph(const gb_lowering *l)
{
    return l->g;
}

void gb_lower_fail(gb_lowering *l, const gb_node *n, const char *format, ...)
{
    if (l->error.status) return;
    char text[500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    gb_fail(&l->error, GB_UNSUPPORTED, n ? n->path : "", "simplify the layer", "%s: %s: %s",
            n ? n->path : "graph", n ? n->op->name : "", text);
}

static void no_memory(gb_lowering *l)
{
    gb_fail(&l->error, GB_OUT_OF_MEMORY, "", "use a smaller model",
            "no memory to compile the graph");
}

static gb_storage storage_of(const gb_lowering *l, gb_value v)
{
    const gb_value_info *info = &l->g->value[v];
    return gb_dtype_is_float(info->dtype) ? info->storage : GB_S_I32;
}

/* --- buffers and windows --- */

static int add_buffer(gb_lowering *l, gb_buffer_role role, int index, uint64_t bytes)
{
    gb_plan *p = l->plan;
    if (p->n_buffers == l->cap_buffers) {
        int cap = l->cap_buffers ? 2 * l->cap_buffers : 64;
        gb_plan_buffer *grown = gb_arena_alloc(l->arena, (size_t)cap * sizeof *grown);
        if (!grown) {
            no_memory(l);
            return 0;
        }
        if (p->n_buffers) memcpy(grown, p->buffer, (size_t)p->n_buffers * sizeof *grown);
        p->buffer = grown;
        l->cap_buffers = cap;
    }
    p->buffer[p->n_buffers] =
        (gb_plan_buffer){.role = role, .index = index, .bytes = bytes ? bytes : 4};
    return p->n_buffers++;
}

static gb_operand dense(const gb_shape *s, gb_storage storage, int buffer, const int *order)
{
    gb_operand o = {.buffer = buffer, .storage = storage, .rank = s->rank};
    int64_t stride = 1;
    for (int i = s->rank - 1; i >= 0; i--) {
        int axis = order ? order[i] : i;
        o.dim[axis] = s->dim[axis];
        o.stride[axis] = stride;
        stride *= s->dim[axis] ? s->dim[axis] : 1;
    }
    return o;
}

static gb_operand new_storage(gb_lowering *l, gb_value v, const int *order, gb_buffer_role role,
                              int index)
{
    const gb_shape *s = gb_shape_ptr(l->g, v);
    gb_storage storage = storage_of(l, v);
    uint64_t bytes = (uint64_t)gb_shape_count(s) * gb_storage_size(storage);
    return dense(s, storage, add_buffer(l, role, index, bytes), order);
}

static void place(gb_lowering *l, gb_value v, const gb_operand *o)
{
    l->where[v] = *o;
    l->placed[v] = 1;
}

gb_operand gb_lower_output(gb_lowering *l, gb_value v, const int *order)
{
    gb_operand o = new_storage(l, v, order, GB_BUF_TRANSIENT, 0);
    place(l, v, &o);
    return o;
}

void gb_lower_alias(gb_lowering *l, gb_value v, const gb_operand *window)
{
    place(l, v, window);
}

static void place_constant(gb_lowering *l, gb_value v)
{
    const gb_value_info *c = &l->g->value[v];
    gb_operand o = new_storage(l, v, NULL, GB_BUF_CONSTANT, 0);
    int64_t n = gb_shape_count(&c->shape);
    int32_t *data = gb_arena_alloc(l->arena, (size_t)(n ? n : 1) * 4);
    if (!data) {
        no_memory(l);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        double x = gb_tensor_get(&c->tensor, i);
        float f = (float)x;
        if (o.storage == GB_S_F32)
            memcpy(&data[i], &f, 4);
        else
            data[i] = x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : (int32_t)x;
    }
    l->plan->buffer[o.buffer].data = data;
    place(l, v, &o);
}

const gb_operand *gb_lower_operand(gb_lowering *l, gb_value v)
{
    if (!l->placed[v] && l->g->value[v].kind == GB_V_CONST) place_constant(l, v);
    if (!l->placed[v] && l->g->value[v].kind == GB_V_SCALAR) { /* read as an operand, not by slot */
        gb_shape s = {0};
        gb_operand o = dense(&s, storage_of(l, v), l->plan->scalars_buffer, NULL);
        o.offset = (uint64_t)l->g->value[v].index * 4;
        place(l, v, &o);
    }
    return &l->where[v];
}

void gb_operand_order(const gb_operand *o, int *order)
{
    for (int i = 0; i < o->rank; i++) order[i] = i;
    /* insertion sort, stable; axes of length 1 stay with the axis before them */
    for (int i = 1; i < o->rank; i++)
        for (int k = i; k > 0; k--) {
            int64_t a = llabs(o->stride[order[k - 1]]), b = llabs(o->stride[order[k]]);
            bool one = o->dim[order[k]] == 1 || o->dim[order[k - 1]] == 1;
            if (one ? !(o->dim[order[k]] != 1 && a < b) : a >= b) break;
            int t = order[k];
            order[k] = order[k - 1];
            order[k - 1] = t;
        }
}

static bool is_dense(const gb_operand *o, const int *order)
{
    int64_t stride = 1;
    for (int i = o->rank - 1; i >= 0; i--) {
        int axis = order ? order[i] : i;
        if (o->dim[axis] != 1 && o->stride[axis] != stride) return false;
        stride *= o->dim[axis];
    }
    return true;
}

/* Length-1 axes may have any stride; kernels rely on the dense ones. */
static gb_operand tidy(const gb_operand *o, const int *order)
{
    gb_shape s = {.rank = o->rank};
    memcpy(s.dim, o->dim, sizeof s.dim);
    gb_operand r = dense(&s, o->storage, o->buffer, order);
    r.offset = o->offset;
    return r;
}

bool gb_operand_reshape(const gb_operand *from, const gb_shape *to, gb_operand *out)
{
    gb_operand r = *from;
    r.rank = to->rank;
    if (gb_shape_count(to) == 0) { /* nothing is there: any strides do */
        *out = dense(to, from->storage, from->buffer, NULL);
        out->offset = from->offset;
        return true;
    }
    int i = 0, j = 0;
    while (i < from->rank || j < to->rank) {
        /* the shortest groups of axes with equal products */
        int i0 = i, j0 = j;
        int64_t a = i < from->rank ? from->dim[i++] : 1, b = j < to->rank ? to->dim[j++] : 1;
        while (a != b) {
            if (a < b && i < from->rank)
                a *= from->dim[i++];
            else if (j < to->rank)
                b *= to->dim[j++];
            else
                return false;
        }
        int64_t stride = 0;
        bool first = true;
        for (int k = i - 1; k >= i0; k--) { /* the group must be one run */
            if (from->dim[k] == 1) continue;
            if (!first && from->stride[k] != stride) return false;
            if (first) r.stride[GB_MAX_RANK - 1] = from->stride[k];
            stride = from->stride[k] * from->dim[k];
            first = false;
        }
        int64_t unit = first ? 0 : r.stride[GB_MAX_RANK - 1];
        for (int k = j - 1; k >= j0; k--) {
            r.dim[k] = to->dim[k];
            r.stride[k] = unit;
            unit *= to->dim[k];
        }
    }
    *out = r;
    return true;
}

/* --- steps --- */

static gb_step *add_step(gb_lowering *l, const gb_node *n, gb_step_kind kind)
{
    gb_plan *p = l->plan;
    if (l->error.status) return NULL;
    if (p->n_steps == l->cap_steps) {
        int cap = l->cap_steps ? 2 * l->cap_steps : 64;
        gb_step *grown = gb_arena_alloc(l->arena, (size_t)cap * sizeof *grown);
        if (!grown) {
            no_memory(l);
            return NULL;
        }
        if (p->n_steps) memcpy(grown, p->step, (size_t)p->n_steps * sizeof *grown);
        p->step = grown;
        l->cap_steps = cap;
    }
    gb_step *s = &p->step[p->n_steps++];
    memset(s, 0, sizeof *s);
    s->kind = kind;
    s->path = n->path;
    s->phase = n->phase;
    s->scratch.buffer = -1;
    return s;
}

gb_step *gb_lower_step(gb_lowering *l, const gb_node *n, gb_step_kind kind)
{
    if (n->n_in > GB_MAX_STEP_IN) gb_lower_fail(l, n, "has too many operands");
    return add_step(l, n, kind);
}

static const gb_expr *copy_expr(gb_lowering *l, gb_storage storage, bool fill, double value)
{
    gb_xb b = {0};
    char type = storage == GB_S_I32 ? 'i' : 'f';
    gb_x y = !fill         ? gb_x_input(&b, 0, type)
             : type == 'f' ? gb_x_const(&b, value)
                           : gb_x_iconst(&b, (int32_t)value);
    const gb_expr *e = gb_xb_finish(&b, fill ? 0 : 1, &y, 1, gb_arena_alloc_hook, l->arena);
    gb_xb_free(&b);
    if (!e) no_memory(l);
    return e;
}

void gb_lower_copy(gb_lowering *l, const gb_node *n, const gb_operand *from, const gb_operand *to,
                   double fill)
{
    gb_step *s = add_step(l, n, GB_STEP_POINTWISE); /* one of n's operands, however many it has */
    if (!s) return;
    s->expr = copy_expr(l, to->storage, !from, fill);
    s->rank = to->rank;
    memcpy(s->dim, to->dim, sizeof s->dim);
    s->n_out = 1;
    s->out[0] = *to;
    if (!from) return;
    s->n_in = 1;
    s->in[0] = *from;
}

/* The node that copies and fills are attributed to when they belong to no layer. */
static const gb_node copy_node = {.op = NULL, .path = "copy", .phase = "forward"};

gb_operand gb_lower_dense(gb_lowering *l, gb_value v, const int *order)
{
    gb_operand o = *gb_lower_operand(l, v);
    if (is_dense(&o, order)) return tidy(&o, order);
    gb_operand copy = new_storage(l, v, order, GB_BUF_TRANSIENT, 0);
    const gb_graph *g = l->g;
    const gb_node *by = g->value[v].node >= 0 ? &g->node[g->value[v].node] : &copy_node;
    gb_lower_copy(l, by, &o, &copy, 0);
    l->where[v] = copy; /* later readers take the dense one */
    return copy;
}

void gb_lower_epilogue(gb_lowering *l, const gb_node *n, gb_step *s)
{
    if (!n->compute) return;
    s->expr = n->compute->expr;
    for (int k = s->n_in; k < n->n_in; k++) {
        gb_operand o = *gb_lower_operand(l, n->in[k]), r = o;
        r.rank = s->out[0].rank;
        for (int i = 0; i < r.rank; i++) {
            int own = i - (r.rank - o.rank);
            bool spans = own >= 0 && o.dim[own] != 1;
            r.dim[i] = s->out[0].dim[i];
            r.stride[i] = spans ? o.stride[own] : 0;
        }
        s->in[s->n_in++] = r;
    }
}

static void count_bytes(gb_step *s)
{
    s->bytes = 0;
    for (int k = 0; k < s->n_in + s->n_out; k++) {
        const gb_operand *o = k < s->n_in ? &s->in[k] : &s->out[k - s->n_in];
        double n = o->buffer < 0 ? 0 : (double)gb_storage_size(o->storage);
        for (int i = 0; i < o->rank; i++)
            if (o->stride[i]) n *= (double)o->dim[i];
        s->bytes += n;
    }
    if (s->flops || !s->expr) return;
    s->flops = s->expr->n_nodes;
    for (int i = 0; i < s->rank; i++) s->flops *= (double)s->dim[i];
}

/* --- leaves, outputs, state --- */

static gb_plan_port port(const gb_lowering *l, const char *name, gb_value v)
{
    return (gb_plan_port){.name = name,
                          .dtype = gb_dtype_at(l->g, v),
                          .shape = *gb_shape_ptr(l->g, v),
                          .where = l->where[v]};
}

/* A state lies the same way in every program: rank 4 is an image or a filter. */
static void place_leaves(gb_lowering *l)
{
    const gb_graph *g = l->g;
    gb_plan *p = l->plan;
    p->n_inputs = g->n_inputs;
    p->n_states = g->n_states;
    p->n_outputs = g->n_outputs;
    p->n_scalars = g->n_scalars;
    p->input = gb_arena_alloc(l->arena, (size_t)g->n_inputs * sizeof *p->input);
    p->state = gb_arena_alloc(l->arena, (size_t)g->n_states * sizeof *p->state);
    p->output = gb_arena_alloc(l->arena, (size_t)g->n_outputs * sizeof *p->output);
    p->scalar = gb_arena_alloc(l->arena, (size_t)g->n_scalars * sizeof *p->scalar);
    char *types = gb_arena_alloc(l->arena, (size_t)g->n_scalars + 1);
    if (!p->input || !p->state || !p->output || !p->scalar || !types) {
        no_memory(l);
        return;
    }
    p->scalar_type = types;
    p->scalars_buffer =
        g->n_scalars ? add_buffer(l, GB_BUF_SCALARS, 0, (uint64_t)g->n_scalars * 4) : -1;
    for (int i = 0; i < g->n_scalars; i++) {
        p->scalar[i] = g->value[g->scalar[i]].name;
        types[i] = g->value[g->scalar[i]].dtype == GB_F32 ? 'f' : 'i';
    }
    for (int i = 0; i < g->n_inputs; i++) {
        gb_value v = g->input[i];
        bool image = l->images && gb_shape_ptr(g, v)->rank == 4;
        gb_operand o = new_storage(l, v, image ? gb_channels_last : NULL, GB_BUF_INPUT, i);
        place(l, v, &o);
        p->input[i] = port(l, g->value[v].name, v);
    }
    for (int i = 0; i < g->n_states; i++) {
        gb_value v = g->state[i];
        bool filter = gb_shape_ptr(g, v)->rank == 4;
        gb_operand o = new_storage(l, v, filter ? gb_channels_last : NULL, GB_BUF_STATE, i);
        place(l, v, &o);
        p->state[i] = port(l, g->value[v].name, v);
    }
}

static bool same_window(const gb_operand *a, const gb_operand *b)
{
    if (a->buffer != b->buffer || a->offset != b->offset || a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i] || (a->dim[i] != 1 && a->stride[i] != b->stride[i]))
            return false;
    return true;
}

/* Every use of buffer `from` in the plan becomes buffer `to`. */
static void redirect(gb_lowering *l, int from, int to)
{
    gb_plan *p = l->plan;
    for (int i = 0; i < p->n_steps; i++)
        for (int k = 0; k < p->step[i].n_in + p->step[i].n_out; k++) {
            gb_step *s = &p->step[i];
            gb_operand *o = k < s->n_in ? &s->in[k] : &s->out[k - s->n_in];
            if (o->buffer == from) o->buffer = to;
        }
    for (int v = 0; v < l->g->n_values; v++)
        if (l->placed[v] && l->where[v].buffer == from) l->where[v].buffer = to;
    for (int i = 0; i < p->n_outputs; i++)
        if (p->output[i].where.buffer == from) p->output[i].where.buffer = to;
    p->buffer[from].bytes = 0; /* unused now */
}

/* May the step that makes `now` write straight into the state's buffer? Only if the old value is
 * not read later, nor by that step itself unless element by element. */
static bool can_update_in_place(const gb_lowering *l, const gb_operand *now,
                                const gb_operand *state)
{
    const gb_plan *p = l->plan;
    if (p->buffer[now->buffer].role != GB_BUF_TRANSIENT || now->offset != 0) return false;
    gb_operand would = *now;
    would.buffer = state->buffer;
    if (!same_window(&would, state)) return false;
    int writer = -1;
    for (int i = 0; i < p->n_steps; i++) {
        const gb_step *s = &p->step[i];
        for (int k = 0; k < s->n_out; k++) {
            if (s->out[k].buffer == state->buffer) return false; /* of another state's update */
            if (s->out[k].buffer != now->buffer) continue;
            if (writer >= 0) return false;
            writer = i;
        }
    }
    if (writer < 0) return false;
    for (int i = writer; i < p->n_steps; i++) {
        const gb_step *s = &p->step[i];
        for (int k = 0; k < s->n_in; k++) {
            if (s->in[k].buffer != state->buffer) continue;
            bool aligned =
                i == writer && s->kind == GB_STEP_POINTWISE && same_window(&s->in[k], state);
            if (!aligned) return false;
        }
    }
    return true;
}

/* Old values that other updates still read are saved by the order: first all copies to temporaries,
 * then in-place ones have been redirected already. */
static void place_updates(gb_lowering *l)
{
    const gb_graph *g = l->g;
    const gb_node node = {.path = "update", .phase = "update"};
    int n_copies = 0;
    int *copied = gb_arena_alloc(l->arena, (size_t)g->n_states * sizeof *copied);
    if (!copied) {
        no_memory(l);
        return;
    }
    for (int i = 0; i < g->n_states; i++) {
        gb_value u = g->value[g->state[i]].update;
        if (!u || u == g->state[i]) continue;
        gb_operand now = *gb_lower_operand(l, u), state = l->where[g->state[i]];
        if (can_update_in_place(l, &now, &state))
            redirect(l, now.buffer, state.buffer);
        else
            copied[n_copies++] = i;
    }
    for (int k = 0; k < n_copies; k++) { /* a state that is another's new value: save it first */
        gb_value state = g->state[copied[k]], u = g->value[state].update;
        gb_operand now = *gb_lower_operand(l, u);
        if (l->plan->buffer[now.buffer].role == GB_BUF_STATE) {
            gb_operand saved = new_storage(l, u, NULL, GB_BUF_TRANSIENT, 0);
            gb_lower_copy(l, &node, &now, &saved, 0);
            l->where[u] = saved;
        }
    }
    for (int k = 0; k < n_copies; k++) {
        gb_value state = g->state[copied[k]];
        gb_lower_copy(l, &node, gb_lower_operand(l, g->value[state].update),
                      &l->plan->state[copied[k]].where, 0);
    }
}

static void place_outputs(gb_lowering *l)
{
    const gb_graph *g = l->g;
    for (int i = 0; i < g->n_outputs && !l->error.status; i++) {
        gb_value v = g->output[i];
        gb_operand o = *gb_lower_operand(l, v);
        if (l->plan->buffer[o.buffer].role == GB_BUF_TRANSIENT) {
            l->plan->buffer[o.buffer].role = GB_BUF_OUTPUT;
            l->plan->buffer[o.buffer].index = i;
        } else if (l->plan->buffer[o.buffer].role != GB_BUF_OUTPUT) {
            gb_operand out = new_storage(l, v, NULL, GB_BUF_OUTPUT, i);
            gb_lower_copy(l, &copy_node, &o, &out, 0);
            o = out;
        }
        l->plan->output[i] = port(l, g->output_name[i], v);
        l->plan->output[i].where = o;
    }
}

/* --- the whole --- */

static bool has_images(const gb_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (strncmp(g->node[i].op->name, "Conv", 4) == 0 || strstr(g->node[i].op->name, "Pool"))
            return true;
    return false;
}

/* The plan lives in the graph's arena, where its expressions and names are already. */
gb_status gb_make_plan(gb_graph *g, bool lean, gb_plan **plan, gb_error *err)
{
    gb_lowering l = {.g = g, .arena = g->arena, .images = has_images(g)};
    l.plan = gb_arena_alloc(l.arena, sizeof *l.plan);
    l.where = calloc((size_t)g->n_values, sizeof *l.where);
    l.placed = calloc((size_t)g->n_values, 1);
    if (!l.plan || !l.where || !l.placed) no_memory(&l);
    if (!l.error.status) place_leaves(&l);
    for (int i = 0; i < g->n_nodes && !l.error.status && !gb_graph_failed(g); i++)
        g->node[i].op->lower(&l, &g->node[i]);
    if (!l.error.status) place_outputs(&l);
    if (!l.error.status) place_updates(&l);
    for (int i = 0; !l.error.status && i < l.plan->n_steps; i++) count_bytes(&l.plan->step[i]);
    if (!l.error.status && !lean && !gb_find_fixed(l.plan)) no_memory(&l);
    free(l.where);
    free(l.placed);
    gb_status status = l.error.status ? l.error.status : g->error.status;
    if (status) {
        if (err) *err = l.error.status ? l.error : g->error;
    } else {
        l.plan->memory = l.arena;
        *plan = l.plan;
        g->arena = NULL;
    }
    gb_graph_destroy(&g);
    return status;
}
