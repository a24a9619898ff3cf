/* What launches cost, by estimate: which are small, whose time is whose, which run too long. */
#include "backends/gpu/gpu.h"

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

void gb_gpu_spread(const gb_gpu_launch *launch, gb_span time, gb_span *span)
{
    double begin = time.begin;
    if (!launch->n_shares) add_time(&span[launch->step], time.begin, time.seconds);
    for (int i = 0; i < launch->n_shares; i++) {
        const double seconds = launch->share[i].of * time.seconds;
        add_time(&span[launch->share[i].step], begin, seconds);
        begin += seconds;
    }
}
