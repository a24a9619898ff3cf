/* What a program need not compute in each run: steps that read nothing but constants, states that
 * no step writes, and results of such steps. These get buffers that stay. */
#include <stdlib.h>

#include "core/passes/passes.h"

enum { SMALL = 64 << 10 }; /* bytes that may stay, even if they come from fewer */

bool gb_plan_writes_states(const gb_plan *plan)
{
    for (int i = 0; i < plan->n_steps; i++)
        for (int k = 0; k < plan->step[i].n_out; k++) {
            int b = plan->step[i].out[k].buffer;
            if (b >= 0 && plan->buffer[b].role == GB_BUF_STATE) return true;
        }
    return false;
}

static bool reads_scalars(const gb_step *s)
{
    return s->expr && (gb_expr_uses(s->expr, GB_P_SCALAR) || gb_expr_uses(s->expr, GB_P_ISCALAR));
}

/* Inputs that stay what they are, as bits. */
static uint32_t fixed_inputs(const gb_step *s, const char *varies)
{
    uint32_t bits = 0;
    for (int k = 0; k < s->n_in; k++)
        if (s->in[k].buffer < 0 || !varies[s->in[k].buffer]) bits |= 1u << k;
    return bits;
}

/* Would results that stay take much more memory than what they are made from? */
static bool grows(const gb_plan *plan, const gb_step *s)
{
    uint64_t in = SMALL, out = 0;
    for (int k = 0; k < s->n_in; k++)
        if (s->in[k].buffer >= 0) in += plan->buffer[s->in[k].buffer].bytes;
    for (int k = 0; k < s->n_out; k++)
        if (s->out[k].buffer >= 0) out += plan->buffer[s->out[k].buffer].bytes;
    return out > in;
}

static bool runs_once(const gb_plan *plan, const gb_step *s, const char *varies)
{
    if (fixed_inputs(s, varies) != (1u << s->n_in) - 1 || reads_scalars(s)) return false;
    return !grows(plan, s);
}

/* A buffer varies if any step that writes to it does. */
static bool spread(const gb_plan *plan, char *varies)
{
    bool changed = false;
    for (int i = 0; i < plan->n_steps; i++) {
        const gb_step *s = &plan->step[i];
        bool vary = !runs_once(plan, s, varies);
        for (int k = 0; k < s->n_out; k++)
            vary |= s->out[k].buffer >= 0 && varies[s->out[k].buffer];
        for (int k = 0; k < s->n_out && vary; k++) {
            if (s->out[k].buffer < 0 || varies[s->out[k].buffer]) continue;
            varies[s->out[k].buffer] = 1;
            changed = true;
        }
    }
    return changed;
}

bool gb_find_fixed(gb_plan *plan)
{
    if (gb_plan_writes_states(plan)) return true;
    char *varies = calloc((size_t)plan->n_buffers + 1, 1);
    if (!varies) return false;
    for (int b = 0; b < plan->n_buffers; b++) {
        gb_buffer_role role = plan->buffer[b].role;
        varies[b] = role != GB_BUF_CONSTANT && role != GB_BUF_STATE && role != GB_BUF_TRANSIENT;
    }
    while (spread(plan, varies)) {
    }
    for (int i = 0; i < plan->n_steps; i++) {
        gb_step *s = &plan->step[i];
        s->fixed = fixed_inputs(s, varies);
        s->once = s->n_out > 0;
        for (int k = 0; k < s->n_out; k++)
            s->once = s->once && s->out[k].buffer >= 0 && !varies[s->out[k].buffer];
        for (int k = 0; k < s->n_out && s->once; k++)
            plan->buffer[s->out[k].buffer].role = GB_BUF_KEPT;
    }
    free(varies);
    return true;
}
