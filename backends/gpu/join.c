/* Launches next to each other become one where that changes no result: a start costs drivers
 * microseconds, and where work-groups are few, cores wait for the next one.
 *
 * Side by side: none touches what another one writes. All work-groups run at the same time.
 * In turns: workers, one a core, take the launches' work-items in order, and wait for those of
 * earlier launches; see shaders/joint_turns.gk. Where work-items are lanes this would take
 * barriers, and where drivers start no worker before another one ends it would hang, so only
 * drivers on CPUs do it. */
#include <string.h>

#include "backends/gpu/frame.h"
#include "backends/gpu/manifest.h"

enum { MAX_LAUNCHES = 96, MAX_PARTS = 32, MAX_BUFFERS = 48, MAX_WORDS = 12000 };

/* Longer ones do not feel the start, and would be built again for every company they are in. */
#define LONG_WORK 1e8
#define LONG_TURNS 3e7 /* on average: where turns are short, starts take their tenth */
/* So little that a second core would come too late. */
#define SMALL_WORK 2e5
/* Of a ticket, at least: workers share the counters. */
#define TICKET_WORK 5e5
enum { TICKETS = 16 }; /* of a launch, for each core */

typedef struct gb_joint { /* launches first … first + n - 1 */
    gb_gpu_builder *b;
    int first, n;
    bool in_turns;
    int part[MAX_PARTS], n_parts; /* kernels */
    gb_gpu_binding buffer[MAX_BUFFERS];
    int n_buffers;
    int most_bindings, most_params;
    int64_t units;
    double work;
} gb_joint;

static const gb_gpu_launch *launch_of(const gb_joint *j, int i)
{
    return &j->b->program->launch[j->first + i];
}

static const gb_gpu_kernel *kernel_of(const gb_joint *j, int i)
{
    return &j->b->program->kernel[launch_of(j, i)->kernel];
}

/* How many work-groups (side by side) or work-items (in turns) the launch has along an axis. */
static int64_t extent(const gb_joint *j, int i, int axis)
{
    return (int64_t)launch_of(j, i)->groups[axis] *
           (j->in_turns ? kernel_of(j, i)->local[axis] : 1);
}

static int64_t units_of(const gb_joint *j, int i)
{
    return extent(j, i, 0) * extent(j, i, 1) * extent(j, i, 2);
}

static bool meet(const gb_gpu_binding *a, const gb_gpu_binding *b)
{
    return (a->write || b->write) && a->buffer == b->buffer && a->offset < b->offset + b->bytes &&
           b->offset < a->offset + a->bytes;
}

/* Is launch k of launches from `first` to before `end`? */
static bool independent(const gb_joint *j, int first, int end, int k)
{
    const gb_gpu_launch *l = launch_of(j, k);
    for (int i = first; i < end; i++)
        for (int a = 0; a < kernel_of(j, i)->n_bindings; a++)
            for (int b = 0; b < kernel_of(j, k)->n_bindings; b++)
                if (meet(&launch_of(j, i)->binding[a], &l->binding[b])) return false;
    return true;
}

/* Does the driver run something of its own between launches i - 1 and i? */
static bool interrupted(const gb_joint *j, int i)
{
    const gb_gpu_builder *b = j->b;
    for (int s = launch_of(j, i - 1)->step + 1; b->caps->elsewhere && s < launch_of(j, i)->step;
         s++)
        if (b->caps->elsewhere(&b->plan->step[s])) return true;
    return false;
}

static bool suits(const gb_joint *j, int i)
{
    const gb_gpu_launch *l = launch_of(j, i);
    const gb_gpu_kernel *k = kernel_of(j, i), *first = kernel_of(j, 0);
    if (!k->part || (i > 0 && interrupted(j, i))) return false;
    if (j->in_turns) return true;
    return memcmp(k->local, first->local, sizeof k->local) == 0 && l->work <= LONG_WORK &&
           independent(j, 0, i, i);
}

static int find_part(const gb_joint *j, int kernel)
{
    int k = 0;
    while (k < j->n_parts && j->part[k] != kernel) k++;
    return k;
}

static int find_buffer(const gb_joint *j, int buffer)
{
    int k = 0;
    while (k < j->n_buffers && j->buffer[k].buffer != buffer) k++;
    return k;
}

static bool add_buffer(gb_joint *j, const gb_gpu_binding *b)
{
    int k = find_buffer(j, b->buffer);
    if (k == MAX_BUFFERS) return false;
    gb_gpu_binding *to = &j->buffer[k];
    if (k == j->n_buffers) {
        j->n_buffers++;
        *to = *b;
        return true;
    }
    const uint64_t end = to->offset + to->bytes, other = b->offset + b->bytes;
    if (b->offset < to->offset) to->offset = b->offset;
    to->bytes = (other > end ? other : end) - to->offset;
    to->read = to->read || b->read;
    to->write = to->write || b->write;
    return true;
}

static int row_words(const gb_joint *j)
{
    return GB_ROW_HEAD + j->most_bindings + j->most_params;
}

static int words(const gb_joint *j)
{
    return GB_JOINT_ROWS + (j->n + 1) * row_words(j);
}

/* Takes the next launch in; where it cannot, j is as it was. */
static bool take(gb_joint *j)
{
    const gb_gpu_program *p = j->b->program;
    const int end = j->first < p->n_once ? p->n_once : p->n_launches;
    if (j->first + j->n == end || j->n == MAX_LAUNCHES || !suits(j, j->n)) return false;
    const gb_gpu_launch *l = launch_of(j, j->n);
    const gb_gpu_kernel *k = kernel_of(j, j->n);
    gb_joint next = *j;
    int part = find_part(&next, l->kernel);
    if (part == MAX_PARTS) return false;
    if (part == next.n_parts) next.part[next.n_parts++] = l->kernel;
    for (int i = 0; i < k->n_bindings; i++)
        if (!add_buffer(&next, &l->binding[i])) return false;
    if (k->n_bindings > next.most_bindings) next.most_bindings = k->n_bindings;
    if (k->n_params > next.most_params) next.most_params = k->n_params;
    next.units += units_of(j, j->n);
    next.work += l->work;
    next.n++;
    if (next.units > (j->in_turns ? INT32_MAX : j->b->caps->max_groups[0]) ||
        words(&next) > MAX_WORDS)
        return false;
    *j = next;
    return true;
}

static gb_joint longest(gb_gpu_builder *b, int first, bool in_turns)
{
    gb_joint j = {.b = b, .first = first, .in_turns = in_turns};
    while (take(&j)) continue;
    if (in_turns && j.work > LONG_TURNS * j.n) j.n = 0;
    return j;
}

/* --- making --- */

static bool is_small(const gb_joint *j, int i)
{
    return units_of(j, i) == 1 || launch_of(j, i)->work <= SMALL_WORK;
}

static int64_t units_of_ticket(const gb_joint *j, int i)
{
    if (!j->in_turns) return 1;
    const int64_t units = units_of(j, i), cores = gb_max(1, j->b->caps->compute_units);
    const int64_t tickets = gb_min((int64_t)(launch_of(j, i)->work / TICKET_WORK), cores * TICKETS);
    return is_small(j, i) ? units : gb_div_up(units, gb_max(tickets, cores * 4));
}

/* A launch that is independent of all that its turn has so far shares that turn. A small one that
 * waits for nothing but the ticket before its own goes on with that. Gives the number of tickets.
 */
static int32_t give_tickets(const gb_joint *j, int32_t *row, int stride)
{
    int32_t ticket = 0, before = 0;
    int turn = 0, chain = 0; /* their first launches */
    for (int i = 0; i < j->n; i++) {
        int32_t *r = row + i * stride;
        const int64_t chunk = units_of_ticket(j, i);
        const bool shares = independent(j, turn, i, i);
        const bool chained =
            !shares && is_small(j, i) && is_small(j, i - 1) && independent(j, turn, chain, i);
        if (!shares && !chained) turn = i, before = ticket;
        if (chained)
            r[GB_ROW_CHAIN - stride] = 1;
        else
            chain = i;
        r[GB_ROW_CHUNK] = (int32_t)chunk;
        r[GB_ROW_FIRST] = ticket;
        r[GB_ROW_BEFORE] = before;
        if (!chained) ticket += (int32_t)gb_div_up(units_of(j, i), chunk);
        for (int k = turn; k <= i; k++) row[k * stride + GB_ROW_AFTER] = ticket;
    }
    row[j->n * stride + GB_ROW_FIRST] = ticket; /* where the last one ends */
    return ticket;
}

static int32_t *make_params(const gb_joint *j)
{
    const int stride = row_words(j);
    int32_t *p = gb_arena_alloc(j->b->arena, sizeof *p * (size_t)words(j));
    if (!p) return NULL;
    int32_t *row = p + GB_JOINT_ROWS;
    for (int i = 0; i < j->n; i++, row += stride) {
        const gb_gpu_launch *l = launch_of(j, i);
        const gb_gpu_kernel *k = kernel_of(j, i);
        row[GB_ROW_PART] = find_part(j, l->kernel);
        row[GB_ROW_X] = (int32_t)extent(j, i, 0);
        row[GB_ROW_Y] = (int32_t)extent(j, i, 1);
        row[GB_ROW_UNITS] = (int32_t)units_of(j, i);
        for (int a = 0; a < k->n_bindings; a++)
            row[GB_ROW_HEAD + a] = find_buffer(j, l->binding[a].buffer);
        memcpy(row + GB_ROW_HEAD + j->most_bindings, l->params, sizeof *row * (size_t)k->n_params);
    }
    p[GB_JOINT_STRIDE] = stride;
    p[GB_JOINT_TICKETS] = give_tickets(j, p + GB_JOINT_ROWS, stride);
    return p;
}

static int add_kernel(const gb_joint *j)
{
    const gb_gpu_program *p = j->b->program;
    const char *part[MAX_PARTS];
    int bindings[MAX_PARTS], params[MAX_PARTS];
    const gb_gpu_kernel *most = &p->kernel[j->part[0]]; /* what kernels share, the longest has */
    for (int i = 0; i < j->n_parts; i++) {
        const gb_gpu_kernel *k = &p->kernel[j->part[i]];
        part[i] = k->part;
        bindings[i] = k->n_bindings;
        params[i] = k->n_params;
        if (k->shared > most->shared) most = k;
    }
    gb_gpu_kernel kernel = {.name = j->in_turns ? "joint.turns" : "joint.side",
                            .shared = most->shared,
                            .local = {1, 1, 1},
                            .n_bindings = j->n_buffers,
                            .n_params = words(j),
                            .params_buffer = true,
                            .writes_params = j->in_turns};
    if (!j->in_turns) memcpy(kernel.local, most->local, sizeof kernel.local);
    const gb_joint_text joint = {.part = part,
                                 .bindings = bindings,
                                 .params = params,
                                 .n_parts = j->n_parts,
                                 .n_buffers = j->n_buffers,
                                 .most_bindings = j->most_bindings,
                                 .most_params = j->most_params,
                                 .local = kernel.local,
                                 .in_turns = j->in_turns};
    gb_text text = {0};
    gb_text_add(&text, "%.*s", (int)most->shared, most->source);
    gb_gk_frame_joint(&joint, &text);
    int index = text.failed ? -1 : gb_gpu_add_kernel(j->b, &kernel, &text);
    gb_text_free(&text);
    return index;
}

static gb_gpu_share *make_shares(const gb_joint *j)
{
    gb_gpu_share *share = gb_arena_alloc(j->b->arena, sizeof *share * (size_t)j->n);
    for (int i = 0; share && i < j->n; i++) {
        const gb_gpu_launch *l = launch_of(j, i);
        share[i] = (gb_gpu_share){l->step, j->work > 0 ? l->work / j->work : 1.0 / j->n};
    }
    return share;
}

static uint32_t workers(const gb_joint *j)
{
    return (uint32_t)gb_max(1, j->b->caps->compute_units);
}

/* What the kernel's text depends on is the kinds of its launches, not their sizes or number: they
 * are a table. */
static bool make(const gb_joint *j, gb_gpu_launch *launch)
{
    *launch = (gb_gpu_launch){
        .step = launch_of(j, 0)->step,
        .n_shares = j->n,
        .share = make_shares(j),
        .work = j->work,
        .once = launch_of(j, 0)->once,
        .kernel = add_kernel(j),
        .binding = gb_arena_copy(j->b->arena, j->buffer, sizeof *j->buffer * (size_t)j->n_buffers),
        .params = make_params(j),
        .groups = {j->in_turns ? workers(j) : (uint32_t)j->units, 1, 1}};
    return launch->share && launch->kernel >= 0 && launch->binding && launch->params;
}

/* --- all launches --- */

/* Keeps the kernels that launches have, in their order. */
static bool drop_kernels(gb_gpu_builder *b)
{
    gb_gpu_program *p = b->program;
    int *number = gb_arena_alloc(b->arena, sizeof *number * (size_t)(p->n_kernels + 1));
    if (!number) return false;
    for (int i = 0; i < p->n_launches; i++) number[p->launch[i].kernel] = 1;
    int n = 0;
    for (int i = 0; i < p->n_kernels; i++) {
        if (!number[i]) continue;
        number[i] = n;
        p->kernel[n++] = p->kernel[i];
    }
    for (int i = 0; i < p->n_launches; i++) p->launch[i].kernel = number[p->launch[i].kernel];
    p->n_kernels = n;
    return true;
}

gb_status gb_gpu_join(gb_gpu_builder *b)
{
    gb_gpu_program *p = b->program;
    gb_gpu_launch *launch = gb_arena_alloc(b->arena, sizeof *launch * (size_t)(p->n_launches + 1));
    bool ok = launch != NULL;
    int n = 0, n_once = 0;
    for (int i = 0; ok && i < p->n_launches; n++) {
        if (i == p->n_once) n_once = n;
        gb_joint turns = {.n = 0}, side = longest(b, i, false);
        if (gb_gpu_wide_items(b->caps)) turns = longest(b, i, true);
        const gb_joint *j = turns.n > side.n ? &turns : &side;
        if (j->n > 1)
            ok = make(j, &launch[n]);
        else
            launch[n] = p->launch[i];
        i += j->n > 1 ? j->n : 1;
    }
    if (ok) {
        p->n_once = p->n_once == p->n_launches ? n : n_once;
        p->launch = launch;
        p->n_launches = n;
        ok = drop_kernels(b);
    }
    return ok ? GB_OK : gb_fail(b->err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a program");
}
