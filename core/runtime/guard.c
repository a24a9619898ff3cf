/* Guarded programs, for checks of a device: zones of a pattern around every buffer show writes out of
 * bounds, and poison in outputs and arenas shows elements that no step wrote. The pattern is a NaN in
 * every float type. */
#include <string.h>

#include "core/runtime/runtime.h"

#define ZONE UINT64_C(1024) /* a multiple of what devices want offsets aligned to */
#define PATTERN 0x7fff7fffu

/* Values that would share the arena get buffers, and with them zones, of their own. */
void gb_guard_apart(gb_plan *plan)
{
    for (int b = 0; b < plan->n_buffers; b++)
        if (plan->buffer[b].role == GB_BUF_TRANSIENT) plan->buffer[b].role = GB_BUF_OUTPUT;
}

static bool has_zones(const gb_plan *plan, int b)
{
    return b >= 0 && plan->buffer[b].role != GB_BUF_SCALARS; /* which is read from its start */
}

static void shift(const gb_plan *plan, gb_operand *o)
{
    if (has_zones(plan, o->buffer)) o->offset += ZONE;
}

static void shift_ports(const gb_plan *plan, gb_plan_port *port, int n)
{
    for (int k = 0; k < n; k++) shift(plan, &port[k].where);
}

void gb_guard_widen(gb_plan *plan)
{
    for (int i = 0; i < plan->n_steps; i++) {
        gb_step *s = &plan->step[i];
        for (int k = 0; k < s->n_in; k++) shift(plan, &s->in[k]);
        for (int k = 0; k < s->n_out; k++) shift(plan, &s->out[k]);
        if (s->scratch_bytes) shift(plan, &s->scratch);
        if (s->packed_bytes) shift(plan, &s->packed);
    }
    shift_ports(plan, plan->input, plan->n_inputs);
    shift_ports(plan, plan->output, plan->n_outputs);
    shift_ports(plan, plan->state, plan->n_states);
    for (int b = 0; b < plan->n_buffers; b++)
        if (has_zones(plan, b)) plan->buffer[b].bytes += 2 * ZONE;
}

uint64_t gb_guard_offset(const gb_plan *plan, int b, bool guarded)
{
    return guarded && has_zones(plan, b) ? ZONE : 0;
}

static void fill(void *p, uint64_t bytes)
{
    const uint32_t pattern = PATTERN;
    for (uint64_t i = 0; i < bytes; i++) ((uint8_t *)p)[i] = (uint8_t)(pattern >> 8 * (i % 4));
}

gb_status gb_guard_fill(gb_device *d, const gb_plan *plan, gb_backend_buffer *const *buffer,
                        gb_error *err)
{
    for (int b = 0; b < plan->n_buffers; b++) {
        if (!has_zones(plan, b)) continue;
        uint64_t bytes = plan->buffer[b].bytes;
        gb_buffer_role role = plan->buffer[b].role;
        bool whole = role == GB_BUF_OUTPUT || role == GB_BUF_ARENA;
        void *poison = gb_device_staging(d, whole ? bytes : ZONE, err);
        if (!poison) return GB_OUT_OF_MEMORY;
        fill(poison, whole ? bytes : ZONE);
        gb_status status = d->backend->buffer_write(d->dev, buffer[b], 0, whole ? bytes : ZONE, poison,
                                                    err);
        if (status == GB_OK && !whole)
            status = d->backend->buffer_write(d->dev, buffer[b], bytes - ZONE, ZONE, poison, err);
        if (status != GB_OK) return status;
    }
    return GB_OK;
}

static const char *name_of(const gb_plan *plan, int b)
{
    const struct { const gb_plan_port *port; int n; } lists[] = {{plan->input, plan->n_inputs},
                                                                 {plan->output, plan->n_outputs},
                                                                 {plan->state, plan->n_states}};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < lists[i].n; k++)
            if (lists[i].port[k].where.buffer == b) return lists[i].port[k].name;
    return plan->buffer[b].role == GB_BUF_ARENA ? "the arena"
           : plan->buffer[b].role == GB_BUF_CONSTANT ? "a constant"
                                                     : "a transient value";
}

static gb_status check_zone(gb_device *d, const gb_plan *plan, gb_backend_buffer *const *buffer, int b,
                            bool behind, gb_error *err)
{
    uint64_t bytes = plan->buffer[b].bytes, at = behind ? bytes - ZONE : 0;
    uint8_t want[4], *got = gb_device_staging(d, ZONE, err);
    if (!got) return GB_OUT_OF_MEMORY;
    gb_status status = d->backend->buffer_read(d->dev, buffer[b], at, ZONE, got, err);
    if (status != GB_OK) return status;
    fill(want, sizeof want);
    for (uint64_t i = 0; i < ZONE; i++)
        if (got[i] != want[i % 4])
            return gb_fail(err, GB_INTERNAL, name_of(plan, b), "report this",
                           "a step wrote out of bounds: byte %llu %s %s changed",
                           (unsigned long long)(behind ? i : ZONE - i), behind ? "behind" : "before",
                           name_of(plan, b));
    return GB_OK;
}

gb_status gb_guard_check(gb_device *d, const gb_plan *plan, gb_backend_buffer *const *buffer,
                         gb_error *err)
{
    gb_status status = GB_OK;
    for (int b = 0; b < plan->n_buffers && status == GB_OK; b++) {
        if (!has_zones(plan, b)) continue;
        status = check_zone(d, plan, buffer, b, false, err);
        if (status == GB_OK) status = check_zone(d, plan, buffer, b, true, err);
    }
    return status;
}
