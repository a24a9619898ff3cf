/* Launches next to each other become one where that changes no result: a start costs drivers
 * microseconds, and where work-groups are few, cores wait for the next one.
 *
 * Side by side: none touches what another one writes. All work-groups run at the same time.
 * In a row: each is small or one work-group anyway. One work-item does them one after the other;
 * where work-items are lanes this would take barriers, so only drivers on CPUs do it. */
#include <string.h>

#include "backends/gpu/frame.h"
#include "backends/gpu/manifest.h"

enum { MAX_LAUNCHES = 96, MAX_PARTS = 24, MAX_BUFFERS = 48, MAX_WORDS = 12000, HEADER = 2 };

/* Longer ones do not feel the start, and would be built again for every company they are in. */
#define LONG_WORK 1e8
/* So little that a second core would come too late. */
#define SMALL_WORK 2e5

typedef struct gb_joint { /* launches first … first + n - 1 */
    gb_gpu_builder *b;
    int first, n;
    bool in_row;
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

/* How many work-groups (side by side) or work-items (in a row) the launch has along an axis. */
static int64_t extent(const gb_joint *j, int i, int axis)
{
    return (int64_t)launch_of(j, i)->groups[axis] * (j->in_row ? kernel_of(j, i)->local[axis] : 1);
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

static bool independent(const gb_joint *j, int last)
{
    const gb_gpu_launch *l = launch_of(j, last);
    for (int i = 0; i < last; i++)
        for (int a = 0; a < kernel_of(j, i)->n_bindings; a++)
            for (int b = 0; b < kernel_of(j, last)->n_bindings; b++)
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
    if (j->in_row) return units_of(j, i) == 1 || l->work <= SMALL_WORK;
    return memcmp(k->local, first->local, sizeof k->local) == 0 && l->work <= LONG_WORK &&
           independent(j, i);
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
    return GB_JOINT_HEAD + j->most_bindings + j->most_params;
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
    if (next.units > (j->in_row ? INT32_MAX : j->b->caps->max_groups[0]) ||
        HEADER + (next.n + 1) * row_words(&next) > MAX_WORDS)
        return false;
    *j = next;
    return true;
}

static gb_joint longest(gb_gpu_builder *b, int first, bool in_row)
{
    gb_joint j = {.b = b, .first = first, .in_row = in_row};
    while (take(&j)) continue;
    return j;
}

/* --- making --- */

static int32_t *make_params(const gb_joint *j)
{
    const int words = row_words(j);
    int32_t *p = gb_arena_alloc(j->b->arena, sizeof *p * (size_t)(HEADER + (j->n + 1) * words));
    if (!p) return NULL;
    int32_t *row = p + HEADER, unit = 0;
    p[0] = j->in_row ? (int32_t)j->units : 1;
    p[1] = (int32_t)j->units;
    for (int i = 0; i < j->n; i++, row += words) {
        const gb_gpu_launch *l = launch_of(j, i);
        const gb_gpu_kernel *k = kernel_of(j, i);
        row[0] = unit;
        row[1] = find_part(j, l->kernel);
        row[2] = (int32_t)extent(j, i, 0);
        row[3] = (int32_t)extent(j, i, 1);
        for (int a = 0; a < k->n_bindings; a++)
            row[GB_JOINT_HEAD + a] = find_buffer(j, l->binding[a].buffer);
        memcpy(row + GB_JOINT_HEAD + j->most_bindings, l->params,
               sizeof *row * (size_t)k->n_params);
        unit += (int32_t)units_of(j, i);
    }
    row[0] = unit; /* where the last one ends */
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
    gb_gpu_kernel kernel = {.name = j->in_row ? "joint.row" : "joint.side",
                            .shared = most->shared,
                            .local = {1, 1, 1},
                            .n_bindings = j->n_buffers,
                            .n_params = HEADER + (j->n + 1) * row_words(j),
                            .params_buffer = true};
    if (!j->in_row) memcpy(kernel.local, most->local, sizeof kernel.local);
    const gb_joint_text joint = {.part = part,
                                 .bindings = bindings,
                                 .params = params,
                                 .n_parts = j->n_parts,
                                 .n_buffers = j->n_buffers,
                                 .most_bindings = j->most_bindings,
                                 .most_params = j->most_params,
                                 .local = kernel.local,
                                 .in_row = j->in_row};
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
        .groups = {j->in_row ? 1 : (uint32_t)j->units, 1, 1}};
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
        gb_joint row = {.n = 0}, side = longest(b, i, false);
        if (gb_gpu_wide_items(b->caps)) row = longest(b, i, true);
        const gb_joint *j = row.n > side.n ? &row : &side;
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
