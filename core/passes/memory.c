#include "core/passes/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"

/* Something that needs bytes from step first to step last, both included. */
typedef struct item {
    uint64_t bytes;
    int first, last;
    int order;      /* breaks ties, so that the outcome is the same everywhere */
    int arena;      /* where it was placed */
    uint64_t offset;
} item;

typedef struct planner {
    gb_plan *plan;
    const gb_memory_limits *limits;
    int *first, *last; /* of each buffer; first > last: unused */
    int *home;         /* item of a buffer, -1: it keeps a buffer of its own */
    int *scratch;      /* item of a step's scratch area, -1: none */
    item *item;
    int n_items, n_arenas;
    item **placed; /* in order of offset */
    int n_placed;
    uint64_t *arena_bytes;
    int *number; /* new number of each buffer */
} planner;

static uint64_t align(uint64_t bytes)
{
    return (bytes + GB_MEMORY_ALIGNMENT - 1) / GB_MEMORY_ALIGNMENT * GB_MEMORY_ALIGNMENT;
}

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, "memory plan", NULL,
                   "the host has no memory for a memory plan");
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

/* Calls visit for each operand of a step; absent ones are left out. */
typedef void visit_operand(planner *p, int step, gb_operand *o);

static void each_operand(planner *p, int step, visit_operand *visit)
{
    gb_step *s = &p->plan->step[step];
    for (int k = 0; k < s->n_in; k++)
        if (s->in[k].buffer >= 0) visit(p, step, &s->in[k]);
    for (int k = 0; k < s->n_out; k++)
        if (s->out[k].buffer >= 0) visit(p, step, &s->out[k]);
    if (s->packed_bytes) visit(p, step, &s->packed);
}

static void each_port(planner *p, gb_plan_port *port, int n, int step, visit_operand *visit)
{
    for (int k = 0; k < n; k++)
        if (port[k].where.buffer >= 0) visit(p, step, &port[k].where);
}

/* --- questions to the device --- */

static gb_status too_large(const planner *p, const gb_step *s, const char *what, uint64_t bytes,
                           gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, s->path,
                   "use a smaller batch, or micro_batch, which gives the same result",
                   "layer '%s' needs %s of %.1f MiB, but a buffer of %s holds at most %.1f MiB",
                   s->path, what, mib(bytes), p->limits->device, mib(p->limits->max_buffer_bytes));
}

/* A tensor that no buffer can hold fails here, with its layer and size, before a kernel is asked. */
static gb_status check_operands(planner *p, const gb_step *s, gb_error *err)
{
    uint64_t limit = p->limits->max_buffer_bytes;
    for (int k = 0; limit && k < s->n_in + s->n_out; k++) {
        int b = k < s->n_in ? s->in[k].buffer : s->out[k - s->n_in].buffer;
        uint64_t bytes = b < 0 ? 0 : p->plan->buffer[b].bytes;
        if (bytes > limit) return too_large(p, s, "a tensor", bytes, err);
    }
    return GB_OK;
}

/* A buffer for what a backend makes of inputs that stay. */
static bool add_packed(planner *p, gb_step *s)
{
    gb_plan *plan = p->plan;
    gb_plan_buffer *grown = gb_arena_alloc(plan->memory, ((size_t)plan->n_buffers + 1) * sizeof *grown);
    if (!grown) return false;
    memcpy(grown, plan->buffer, (size_t)plan->n_buffers * sizeof *grown);
    plan->buffer = grown;
    grown[plan->n_buffers] = (gb_plan_buffer){.role = GB_BUF_KEPT,
                                               .bytes = s->packed_bytes};
    s->packed = (gb_operand){.buffer = plan->n_buffers++,
                             .storage = GB_S_F32,
                             .rank = 1,
                             .dim = {(int64_t)(s->packed_bytes / 4)},
                             .stride = {1}};
    return true;
}

static gb_status ask(planner *p, gb_query *query, void *device, gb_error *err)
{
    for (int i = 0; i < p->plan->n_steps; i++) {
        gb_step *s = &p->plan->step[i];
        gb_answer answer = {0};
        gb_status status = check_operands(p, s, err);
        if (status != GB_OK) return status;
        query(device, s, &answer);
        if (!answer.ok)
            return gb_fail(err, GB_UNSUPPORTED, s->path, "choose another device",
                           "%s cannot run the %s %s step of layer '%s': %s", p->limits->device,
                           s->phase ? s->phase : "", gb_step_kind_name(s->kind), s->path,
                           answer.reason);
        if (p->limits->max_buffer_bytes && answer.scratch_bytes > p->limits->max_buffer_bytes)
            return too_large(p, s, "scratch memory", answer.scratch_bytes, err);
        s->scratch_bytes = answer.scratch_bytes;
        s->scratch = (gb_operand){.buffer = -1};
        if (s->fixed) s->packed_bytes = answer.packed_bytes;
        if (s->packed_bytes && !add_packed(p, s)) return no_memory(err);
    }
    return GB_OK;
}

/* --- lifetimes --- */

static void see(planner *p, int step, gb_operand *o)
{
    if (step < p->first[o->buffer]) p->first[o->buffer] = step;
    if (step > p->last[o->buffer]) p->last[o->buffer] = step;
}

/* What the host reads after the last step outlives the run, and so is in no arena: another program
 * may have the same ones. */
static void keep(planner *p, int step, gb_operand *o)
{
    gb_plan_buffer *b = &p->plan->buffer[o->buffer];
    if (b->role == GB_BUF_TRANSIENT) b->role = GB_BUF_OUTPUT;
}

static void find_lifetimes(planner *p)
{
    gb_plan *plan = p->plan;
    each_port(p, plan->output, plan->n_outputs, plan->n_steps, keep);
    for (int b = 0; b < plan->n_buffers; b++) {
        p->first[b] = plan->n_steps;
        p->last[b] = -1;
    }
    for (int i = 0; i < plan->n_steps; i++) each_operand(p, i, see);
    each_port(p, plan->input, plan->n_inputs, -1, see); /* the host writes before the first step */
}

/* --- in place --- */

static bool same_window(const gb_operand *a, const gb_operand *b)
{
    if (a->offset != b->offset || a->storage != b->storage || a->rank != b->rank) return false;
    size_t size = (size_t)a->rank * sizeof a->dim[0];
    return memcmp(a->dim, b->dim, size) == 0 && memcmp(a->stride, b->stride, size) == 0;
}

/* May output o of step i take the place of input in? Only if that input ends here and every
 * operand of the step that reads its buffer reads the very elements that o replaces. */
static bool can_replace(const planner *p, int i, const gb_operand *o, const gb_operand *in)
{
    const gb_plan_buffer *buffer = p->plan->buffer;
    const gb_step *s = &p->plan->step[i];
    if (in->buffer < 0 || in->buffer == o->buffer) return false;
    if (p->home[in->buffer] < 0 || p->last[in->buffer] != i) return false;
    if (buffer[in->buffer].bytes != buffer[o->buffer].bytes || !same_window(in, o)) return false;
    for (int k = 0; k < s->n_in; k++)
        if (s->in[k].buffer == in->buffer && !same_window(&s->in[k], in)) return false;
    for (int k = 0; k < s->n_out; k++) /* no other output took the place already */
        if (s->out[k].buffer >= 0 && p->home[s->out[k].buffer] == p->home[in->buffer]) return false;
    return true;
}

static int add_item(planner *p, uint64_t bytes, int first, int last)
{
    p->item[p->n_items] = (item){.bytes = align(bytes ? bytes : 1),
                                 .first = first,
                                 .last = last,
                                 .order = p->n_items};
    return p->n_items++;
}

/* Gives the transient output o, born in step i, its item. */
static void place_output(planner *p, int i, gb_operand *o)
{
    const gb_step *s = &p->plan->step[i];
    int b = o->buffer;
    if (b < 0 || p->plan->buffer[b].role != GB_BUF_TRANSIENT || p->home[b] >= 0) return;
    for (int k = 0; s->kind == GB_STEP_POINTWISE && p->first[b] == i && k < s->n_in; k++)
        if (can_replace(p, i, o, &s->in[k])) {
            p->home[b] = p->home[s->in[k].buffer];
            p->item[p->home[b]].last = p->last[b];
            return;
        }
    p->home[b] = add_item(p, p->plan->buffer[b].bytes, p->first[b], p->last[b]);
}

static void place_read(planner *p, int i, gb_operand *o)
{
    if (p->plan->buffer[o->buffer].role == GB_BUF_TRANSIENT && p->home[o->buffer] < 0)
        p->home[o->buffer] = add_item(p, p->plan->buffer[o->buffer].bytes, p->first[o->buffer],
                                      p->last[o->buffer]);
}

/* One item for each chain of transient buffers that share a place, and for each scratch area. */
static void make_items(planner *p)
{
    gb_plan *plan = p->plan;
    for (int b = 0; b < plan->n_buffers; b++) p->home[b] = -1;
    each_port(p, plan->input, plan->n_inputs, -1, place_read);
    for (int i = 0; i < plan->n_steps; i++) {
        gb_step *s = &plan->step[i];
        for (int k = 0; k < s->n_out; k++) place_output(p, i, &s->out[k]);
        each_operand(p, i, place_read); /* reads of what nothing wrote */
        p->scratch[i] = s->scratch_bytes ? add_item(p, s->scratch_bytes, i, i) : -1;
    }
}

/* --- placing --- */

static int larger_first(const void *a, const void *b)
{
    const item *x = *(item *const *)a, *y = *(item *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->order - y->order;
}

/* The smallest gap that holds it between those of arena a that live at the same time; the end of
 * them where none does. False: it would pass the limit of a buffer. */
static bool best_gap(const planner *p, const item *it, int a, uint64_t *offset)
{
    uint64_t end = 0, best = UINT64_MAX;
    for (int i = 0; i < p->n_placed; i++) {
        const item *other = p->placed[i];
        if (other->arena != a || other->first > it->last || other->last < it->first) continue;
        if (other->offset > end && other->offset - end >= it->bytes && other->offset - end < best) {
            best = other->offset - end;
            *offset = end;
        }
        if (other->offset + other->bytes > end) end = other->offset + other->bytes;
    }
    if (best != UINT64_MAX) return true;
    *offset = end;
    uint64_t limit = p->limits->max_buffer_bytes;
    return !limit || (it->bytes <= limit && end <= limit - it->bytes);
}

static void place(planner *p, item *it)
{
    it->arena = 0;
    while (it->arena < p->n_arenas && !best_gap(p, it, it->arena, &it->offset)) it->arena++;
    if (it->arena == p->n_arenas) {
        it->offset = 0;
        p->arena_bytes[p->n_arenas++] = 0;
    }
    if (it->offset + it->bytes > p->arena_bytes[it->arena])
        p->arena_bytes[it->arena] = it->offset + it->bytes;
    int i = p->n_placed++;
    for (; i > 0 && p->placed[i - 1]->offset > it->offset; i--) p->placed[i] = p->placed[i - 1];
    p->placed[i] = it;
}

static gb_status place_all(planner *p, gb_error *err)
{
    item **sorted = malloc(((size_t)p->n_items + 1) * sizeof *sorted);
    if (!sorted) return no_memory(err);
    for (int i = 0; i < p->n_items; i++) sorted[i] = &p->item[i];
    qsort(sorted, (size_t)p->n_items, sizeof *sorted, larger_first);
    for (int i = 0; i < p->n_items; i++) place(p, sorted[i]);
    free(sorted);
    return GB_OK;
}

/* --- rewriting --- */

static void rewrite_operand(planner *p, int step, gb_operand *o)
{
    int home = p->home[o->buffer];
    if (home >= 0) o->offset += p->item[home].offset;
    o->buffer = p->number[o->buffer];
}

static gb_operand scratch_operand(const planner *p, const item *it)
{
    return (gb_operand){.buffer = p->plan->n_buffers - p->n_arenas + it->arena,
                        .offset = it->offset,
                        .storage = GB_S_F32,
                        .rank = 1,
                        .dim = {(int64_t)(it->bytes / 4)},
                        .stride = {1}};
}

/* Buffers that stay, in order, then arenas; number[] says where each went. */
static bool renumber(planner *p)
{
    gb_plan *plan = p->plan;
    size_t count = (size_t)(plan->n_buffers + p->n_arenas + 1);
    gb_plan_buffer *buffer = gb_arena_alloc(plan->memory, count * sizeof *buffer);
    if (!buffer) return false;
    int n = 0;
    for (int b = 0; b < plan->n_buffers; b++) {
        if (plan->buffer[b].role == GB_BUF_TRANSIENT) continue;
        p->number[b] = n;
        buffer[n++] = plan->buffer[b];
    }
    for (int b = 0; b < plan->n_buffers; b++)
        if (p->home[b] >= 0) p->number[b] = n + p->item[p->home[b]].arena;
    for (int a = 0; a < p->n_arenas; a++)
        buffer[n++] = (gb_plan_buffer){.role = GB_BUF_ARENA, .index = a,
                                       .bytes = p->arena_bytes[a]};
    plan->buffer = buffer;
    plan->n_buffers = n;
    return true;
}

static void rewrite(planner *p)
{
    gb_plan *plan = p->plan;
    for (int i = 0; i < plan->n_steps; i++) {
        each_operand(p, i, rewrite_operand);
        if (p->scratch[i] >= 0)
            plan->step[i].scratch = scratch_operand(p, &p->item[p->scratch[i]]);
    }
    each_port(p, plan->input, plan->n_inputs, -1, rewrite_operand);
    each_port(p, plan->output, plan->n_outputs, -1, rewrite_operand);
    each_port(p, plan->state, plan->n_states, -1, rewrite_operand);
    if (plan->scalars_buffer >= 0) plan->scalars_buffer = p->number[plan->scalars_buffer];
}

/* --- does it fit? --- */

static gb_status check_fit(planner *p, gb_error *err)
{
    gb_plan *plan = p->plan;
    const gb_memory_limits *limits = p->limits;
    plan->arena_bytes = plan->state_bytes = plan->other_bytes = 0;
    uint64_t largest = 0;
    for (int b = 0; b < plan->n_buffers; b++) {
        const gb_plan_buffer *buffer = &plan->buffer[b];
        uint64_t *sum = buffer->role == GB_BUF_ARENA   ? &plan->arena_bytes
                        : buffer->role == GB_BUF_STATE ? &plan->state_bytes
                                                       : &plan->other_bytes;
        *sum += buffer->bytes;
        if (buffer->bytes > largest) largest = buffer->bytes;
    }
    if (limits->max_buffer_bytes && largest > limits->max_buffer_bytes)
        return gb_fail(err, GB_OUT_OF_MEMORY, limits->device, "use a smaller batch or model",
                       "one tensor needs %.1f MiB, but a buffer of %s holds at most %.1f MiB",
                       mib(largest), limits->device, mib(limits->max_buffer_bytes));
    uint64_t need = plan->arena_bytes + plan->state_bytes + plan->other_bytes;
    if (limits->memory_bytes && need > limits->memory_bytes)
        return gb_fail(err, GB_OUT_OF_MEMORY, limits->device, "use a smaller batch or model",
                       "the plan needs %.1f MiB (%.1f for values, %.1f for state, %.1f for inputs "
                       "and constants), but %s has %.1f MiB",
                       mib(need), mib(plan->arena_bytes), mib(plan->state_bytes),
                       mib(plan->other_bytes), limits->device, mib(limits->memory_bytes));
    return GB_OK;
}

static bool make_planner(planner *p)
{
    size_t buffers = (size_t)p->plan->n_buffers + 1, steps = (size_t)p->plan->n_steps + 1;
    p->first = calloc(buffers, sizeof *p->first);
    p->last = calloc(buffers, sizeof *p->last);
    p->home = calloc(buffers, sizeof *p->home);
    p->number = calloc(buffers, sizeof *p->number);
    p->scratch = calloc(steps, sizeof *p->scratch);
    p->item = calloc(buffers + steps, sizeof *p->item);
    p->placed = calloc(buffers + steps, sizeof *p->placed);
    p->arena_bytes = calloc(buffers + steps, sizeof *p->arena_bytes);
    return p->first && p->last && p->home && p->number && p->scratch && p->item && p->placed &&
           p->arena_bytes;
}

static void free_planner(planner *p)
{
    free(p->first);
    free(p->last);
    free(p->home);
    free(p->number);
    free(p->scratch);
    free(p->item);
    free(p->placed);
    free(p->arena_bytes);
}

gb_status gb_plan_memory(gb_plan *plan, gb_query *query, void *device,
                         const gb_memory_limits *limits, gb_error *err)
{
    planner p = {.plan = plan, .limits = limits};
    gb_status status = ask(&p, query, device, err);
    if (status == GB_OK && !make_planner(&p)) status = no_memory(err);
    if (status == GB_OK) {
        find_lifetimes(&p);
        make_items(&p);
        status = place_all(&p, err);
    }
    if (status == GB_OK && !renumber(&p)) status = no_memory(err);
    if (status == GB_OK) {
        rewrite(&p);
        status = check_fit(&p, err);
    }
    free_planner(&p);
    return status;
}
