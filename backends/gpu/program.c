#include <stdio.h>
#include <string.h>

#include "backends/gpu/manifest.h"

uint64_t gb_gpu_hash(const void *data, size_t bytes, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h = seed ? seed : UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

bool gb_gpu_launch_word(const gb_backend_options *o, const char *word)
{
    return o && o->launch && strstr(o->launch, word);
}

static uint64_t span(const gb_operand *o)
{
    uint64_t n = 1;
    for (int d = 0; d < o->rank; d++) {
        int64_t s = o->stride[d] < 0 ? -o->stride[d] : o->stride[d];
        n += o->dim[d] > 0 ? (uint64_t)(o->dim[d] - 1) * (uint64_t)s : 0;
    }
    return n * gb_storage_size(o->storage);
}

/* Why the device cannot reach or read the operand; NULL: it can. */
static const char *refuse(const gb_gpu_caps *caps, const gb_operand *o)
{
    if (o->buffer < 0) return NULL;
    if (o->storage >= GB_S_F16 && !caps->storage16)
        return "the device's kernels cannot read 16-bit values";
    if (caps->max_binding && span(o) > caps->max_binding)
        return "an operand is larger than the device's kernels can reach";
    if (span(o) / gb_storage_size(o->storage) > INT32_MAX)
        return "an operand has more than 2^31 elements";
    return NULL;
}

void gb_gpu_query(const gb_gpu_caps *caps, const gb_step *step, gb_answer *answer)
{
    *answer = (gb_answer){0};
    const char *why = NULL;
    for (int i = 0; i < step->n_in && !why; i++) why = refuse(caps, &step->in[i]);
    for (int i = 0; i < step->n_out && !why; i++) why = refuse(caps, &step->out[i]);
    const gb_gpu_variant *v = why ? NULL : gb_gpu_pick(caps, step);
    if (!why && !v)
        why = step->variant[0] ? "no such kernel for this step" : "no kernel for this kind of step";
    if (why) {
        snprintf(answer->reason, sizeof answer->reason, "%s", why);
        return;
    }
    const uint64_t packed = gb_gpu_packed(caps, v, step);
    const bool stays = step->fixed >> 1 & 1;
    answer->ok = true;
    answer->packed_bytes = stays ? packed : 0;
    answer->scratch_bytes =
        (gb_gpu_scratch(caps, v, step) + 255) / 256 * 256 + (stays ? 0 : packed);
    snprintf(answer->variant, sizeof answer->variant, "%s", v->name);
}

static gb_status lower_step(gb_gpu_builder *b)
{
    gb_answer answer;
    gb_gpu_query(b->caps, b->step, &answer);
    if (!answer.ok)
        return gb_fail(b->err, GB_UNSUPPORTED, b->step->path, NULL, "%s step: %s",
                       gb_step_kind_name(b->step->kind), answer.reason);
    return gb_gpu_lower(b, gb_gpu_pick(b->caps, b->step));
}

/* Launches that run once go first, so that a run can begin behind them. Where a driver runs steps
 * by itself between launches, order is all that it has to go by: then all launches run always. */
static bool once_first(gb_gpu_builder *b)
{
    gb_gpu_program *p = b->program;
    for (int i = 0; b->caps->elsewhere && i < b->plan->n_steps; i++)
        if (b->caps->elsewhere(&b->plan->step[i])) return true;
    gb_gpu_launch *launch = gb_arena_alloc(b->arena, sizeof *launch * (size_t)(p->n_launches + 1));
    if (!launch) return false;
    int n = 0;
    for (int once = 1; once >= 0; once--) {
        for (int i = 0; i < p->n_launches; i++)
            if (p->launch[i].once == once) launch[n++] = p->launch[i];
        if (once) p->n_once = n;
    }
    p->launch = launch;
    return true;
}

gb_status gb_gpu_program_create(const gb_gpu_caps *caps, const gb_plan *plan,
                                gb_gpu_program **program, gb_error *err)
{
    *program = NULL;
    gb_arena *arena = gb_arena_create();
    gb_gpu_program *p = arena ? gb_arena_alloc(arena, sizeof *p) : NULL;
    if (!p) {
        gb_arena_destroy(arena);
        return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a program");
    }
    p->memory = arena;
    gb_gpu_builder b = {.caps = caps, .plan = plan, .arena = arena, .program = p, .err = err};
    gb_status s = GB_OK;
    for (int i = 0; i < plan->n_steps && s == GB_OK; i++) {
        b.step = &plan->step[i];
        b.step_index = i;
        if (caps->elsewhere && caps->elsewhere(b.step)) continue;
        s = lower_step(&b);
    }
    if (s == GB_OK) gb_gpu_estimate(p, plan);
    if (s == GB_OK && !once_first(&b))
        s = gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a program");
    if (s == GB_OK && !caps->apart) s = gb_gpu_join(&b);
    if (s == GB_OK)
        *program = p;
    else
        gb_gpu_program_destroy(&p);
    return s;
}

void gb_gpu_program_destroy(gb_gpu_program **program)
{
    if (*program) gb_arena_destroy((*program)->memory);
    *program = NULL;
}
