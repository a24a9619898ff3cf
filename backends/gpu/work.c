/* What launches cost, by estimate, and whose their time is. */
#include "backends/gpu/frame.h"

#define WORK_PER_BYTE 10 /* a byte moved, in operations */

/* A launch does its part of a step, which knows no better. */
void gb_gpu_estimate(gb_gpu_program *p, const gb_plan *plan)
{
    for (int i = 0, next; i < p->n_launches; i = next) {
        const gb_step *s = &plan->step[p->launch[i].step];
        for (next = i + 1; next < p->n_launches && p->launch[next].step == p->launch[i].step;)
            next++;
        for (int k = i; k < next; k++)
            p->launch[k].work = (s->flops + WORK_PER_BYTE * s->bytes) / (next - i);
    }
}

static void add_time(gb_span *to, double begin, double seconds)
{
    if (to->seconds <= 0) to->begin = begin;
    to->seconds += seconds;
}

static int64_t ticks(const int32_t *words)
{
    return (int64_t)((uint64_t)(uint32_t)words[1] << 32 | (uint32_t)words[0]);
}

typedef struct turn { /* of a joint launch: launches first … end - 1 */
    int first, end;
    double of;    /* the whole, by estimate */
    int64_t done; /* on the workers' clock */
} turn;

/* Whoever did the last ticket noted the time, in its launch's row; the others have that of earlier
 * runs. */
static turn turn_from(const gb_gpu_launch *l, const int32_t *params, int first)
{
    const int stride = params[GB_JOINT_STRIDE];
    const int32_t *row = params + GB_JOINT_ROWS + first * stride, before = row[GB_ROW_BEFORE];
    turn t = {.first = first, .end = first};
    for (; t.end < l->n_shares && row[GB_ROW_BEFORE] == before; t.end++, row += stride) {
        const int64_t at = ticks(row + GB_ROW_ENDED);
        t.of += l->share[t.end].of;
        if (at > t.done) t.done = at;
    }
    return t;
}

static int64_t end_of_turns(const gb_gpu_launch *l, const int32_t *params)
{
    turn t = {0};
    while (t.end < l->n_shares) t = turn_from(l, params, t.end);
    return t.done;
}

static void spread_turns(const gb_gpu_launch *l, const int32_t *params, gb_span time, gb_span *span)
{
    int64_t before = ticks(params + GB_JOINT_BEGUN);
    const double whole = (double)(end_of_turns(l, params) - before);
    double begin = time.begin;
    for (turn t = {0}; t.end < l->n_shares; before = t.done) {
        t = turn_from(l, params, t.end);
        const double seconds = (double)(t.done - before) / whole * time.seconds;
        for (int i = t.first; i < t.end; i++) {
            const double part = t.of > 0 ? l->share[i].of / t.of : 1.0 / (t.end - t.first);
            add_time(&span[l->share[i].step], begin, part * seconds);
            begin += part * seconds;
        }
    }
}

void gb_gpu_spread(const gb_gpu_launch *launch, const int32_t *params, gb_span time, gb_span *span)
{
    double begin = time.begin;
    if (params && ticks(params + GB_JOINT_BEGUN)) {
        spread_turns(launch, params, time, span);
        return;
    }
    if (!launch->n_shares) add_time(&span[launch->step], time.begin, time.seconds);
    for (int i = 0; i < launch->n_shares; i++) {
        const double seconds = launch->share[i].of * time.seconds;
        add_time(&span[launch->share[i].step], begin, seconds);
        begin += seconds;
    }
}
