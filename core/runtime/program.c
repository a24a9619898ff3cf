/* Programs: a plan with its buffers, ready to run on one device. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/passes/memory.h"
#include "core/runtime/runtime.h"

/* Has the program a buffer of its own here? */
static bool owns(const gb_program *p, int b)
{
    gb_buffer_role role = p->plan->buffer[b].role;
    return role != GB_BUF_STATE && (role != GB_BUF_ARENA || p->guarded);
}

void gb_program_destroy(gb_program **program)
{
    if (!program || !*program) return;
    gb_program *p = *program;
    if (p->prog) p->dev->backend->program_destroy(p->prog);
    gb_arenas_leave(p);
    for (int i = 0; p->buffer && i < p->plan->n_buffers; i++)
        if (owns(p, i))
            gb_device_free(p->dev, p->plan->buffer[i].bytes, p->buffer[i]);
    for (int i = 0; p->state && i < p->plan->n_states; i++)
        if (p->state[i]) p->state[i]->programs--;
    gb_plan_free(p->plan);
    free(p->buffer);
    free(p->state);
    free(p->input_set);
    free(p->scalar);
    free(p->row);
    free(p->span);
    free(p);
    *program = NULL;
}

/* --- making --- */

static void ask_device(void *device, const gb_step *step, gb_answer *answer)
{
    gb_device *d = device;
    d->backend->query(d->dev, step, answer);
}

/* The step is one of p's plan: the choice goes into it. */
static void choose(void *program, const gb_step *step, gb_answer *answer)
{
    gb_program *p = program;
    gb_choose(p->dev, &p->plan->step[step - p->plan->step], answer);
}

static gb_status plan_memory(gb_program *p, const gb_program_options *options, gb_error *err)
{
    gb_memory_limits limits = {.max_buffer_bytes = p->dev->info.max_buffer_bytes,
                               .memory_bytes = p->dev->info.memory_bytes,
                               .device = p->dev->info.id};
    if (options && options->memory_limit) limits.memory_bytes = options->memory_limit;
    p->guarded = options && options->guard != GB_GUARD_NONE;
    if (p->guarded && options->guard == GB_GUARD_APART) gb_guard_apart(p->plan);
    gb_status status = gb_plan_memory(p->plan, choose, p, &limits, err);
    if (status == GB_OK && p->guarded) gb_guard_widen(p->plan);
    return status;
}

static gb_status allocate(gb_program *p, gb_error *err)
{
    const gb_plan *plan = p->plan;
    p->buffer = calloc((size_t)plan->n_buffers + 1, sizeof *p->buffer);
    p->state = calloc((size_t)plan->n_states + 1, sizeof *p->state);
    p->input_set = calloc((size_t)plan->n_inputs + 1, sizeof *p->input_set);
    p->scalar = calloc((size_t)plan->n_scalars + 1, sizeof *p->scalar);
    p->row = calloc((size_t)plan->n_steps + 1, sizeof *p->row);
    p->span = calloc((size_t)plan->n_steps + 1, sizeof *p->span);
    if (p->buffer && p->state && p->input_set && p->scalar && p->row && p->span) return GB_OK;
    return gb_fail(err, GB_OUT_OF_MEMORY, "program", NULL, "the host has no memory for a program");
}

static gb_status bind_states(gb_program *p, const gb_tensor *const *initial, gb_error *err)
{
    for (int k = 0; k < p->plan->n_states; k++) {
        const gb_plan_port *port = &p->plan->state[k];
        gb_state *s = NULL;
        gb_status status = gb_store_adopt(p->store, port, p->plan->buffer[port->where.buffer].bytes,
                                          initial ? initial[k] : NULL, &s, err);
        if (status != GB_OK) return status;
        s->programs++;
        p->state[k] = s;
        p->buffer[port->where.buffer] = s->buf;
    }
    return GB_OK;
}

static gb_status write_constant(gb_program *p, int b, gb_error *err)
{
    uint64_t offset = gb_guard_offset(p->plan, b, p->guarded);
    const gb_plan_buffer *from = &p->plan->buffer[b];
    return p->dev->backend->buffer_write(p->dev->dev, p->buffer[b], offset, from->bytes - 2 * offset,
                                         from->data, err);
}

static gb_status make_buffers(gb_program *p, gb_error *err)
{
    for (int i = 0; i < p->plan->n_buffers; i++) {
        const gb_plan_buffer *b = &p->plan->buffer[i];
        if (!owns(p, i)) continue;
        gb_status status = gb_device_alloc(p->dev, b->bytes, &p->buffer[i], err);
        if (status == GB_OK && b->role == GB_BUF_CONSTANT && b->data && b->bytes)
            status = write_constant(p, i, err);
        if (status != GB_OK) return status;
    }
    return GB_OK;
}

static gb_status build(gb_program *p, gb_error *err)
{
    const gb_backend *b = p->dev->backend;
    gb_status status = b->program_create(p->dev->dev, p->plan, &p->prog, err);
    if (status == GB_OK) status = b->program_bind(p->prog, p->buffer, err);
    if (status != GB_OK) return status;
    p->info = (gb_program_info){.arena_bytes = p->plan->arena_bytes,
                                .state_bytes = p->plan->state_bytes,
                                .other_bytes = p->plan->other_bytes,
                                .steps = p->plan->n_steps,
                                .recomputed = p->plan->recomputed,
                                .recomputed_bytes = p->plan->recomputed_bytes,
                                .kernels = b->program_kernels ? b->program_kernels(p->prog) : 0};
    return GB_OK;
}

gb_status gb_program_from_plan(gb_store *store, gb_plan *plan, const gb_tensor *const *initial,
                               const gb_program_options *options, gb_program **program,
                               gb_error *err)
{
    *program = NULL;
    gb_program *p = calloc(1, sizeof *p);
    if (!p) {
        gb_plan_free(plan);
        return gb_fail(err, GB_OUT_OF_MEMORY, "program", NULL, "no memory for a program");
    }
    gb_plan_options(plan, options);
    *p = (gb_program){.store = store, .dev = store->dev, .plan = plan, .scalars_changed = true};
    p->writes_states = gb_plan_writes_states(plan);
    gb_status status = plan_memory(p, options, err);
    if (status == GB_OK) status = allocate(p, err);
    if (status == GB_OK) status = bind_states(p, initial, err);
    if (status == GB_OK) status = make_buffers(p, err);
    if (status == GB_OK && !p->guarded) status = gb_arenas_join(p, err);
    if (status == GB_OK) status = build(p, err);
    if (status != GB_OK) gb_program_destroy(&p);
    *program = p;
    return status;
}

const gb_program_info *gb_program_get_info(const gb_program *program)
{
    return program ? &program->info : NULL;
}

/* --- inputs --- */

static const gb_plan_port *find(const gb_plan_port *port, int n, const char *what,
                                const char *name, gb_error *err)
{
    char list[400];
    size_t used = (size_t)snprintf(list, sizeof list, "%ss here: ", what);
    for (int i = 0; i < n; i++) {
        if (strcmp(port[i].name, name) == 0) return &port[i];
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                                     port[i].name);
    }
    gb_fail(err, GB_NOT_FOUND, name, list, "the program has no %s '%s'", what, name);
    return NULL;
}

static gb_status null_argument(const char *name, gb_error *err)
{
    return gb_fail(err, GB_INVALID, name, NULL, "an argument is NULL");
}

gb_status gb_program_set_input(gb_program *program, const char *name, const gb_tensor *value,
                               gb_error *err)
{
    if (!program || !name || !value) return null_argument(name, err);
    const gb_plan *plan = program->plan;
    const gb_plan_port *port = find(plan->input, plan->n_inputs, "input", name, err);
    if (!port) return GB_NOT_FOUND;
    gb_status status = gb_check_tensor(value, port->dtype, &port->shape, "input", name, err);
    if (status == GB_OK && port->where.buffer >= 0) /* unread inputs have no place */
        status = gb_upload(program->dev, program->buffer[port->where.buffer], &port->where, value,
                           name, err);
    if (status == GB_OK) program->input_set[port - plan->input] = true;
    return status;
}

gb_status gb_program_set_scalar(gb_program *program, const char *name, double value, gb_error *err)
{
    if (!program || !name) return null_argument(name, err);
    const gb_plan *plan = program->plan;
    int slot = 0;
    while (slot < plan->n_scalars && strcmp(plan->scalar[slot], name) != 0) slot++;
    if (slot == plan->n_scalars) return GB_OK;
    uint32_t bits;
    float f = (float)value;
    memcpy(&bits, &f, 4);
    if (plan->scalar_type[slot] == 'i') {
        if (!(value >= INT32_MIN && value <= UINT32_MAX) || value != floor(value))
            return gb_fail(err, GB_INVALID, name, "give a whole number of 32 bits",
                           "scalar '%s' is an integer, but got %g", name, value);
        bits = (uint32_t)(int64_t)value;
    }
    program->scalars_changed |= bits != program->scalar[slot];
    program->scalar[slot] = bits;
    return GB_OK;
}

/* --- runs --- */

static gb_status prepare(gb_program *p, gb_error *err)
{
    const gb_plan *plan = p->plan;
    for (int k = 0; k < plan->n_inputs; k++)
        if (!p->input_set[k] && plan->input[k].where.buffer >= 0)
            return gb_fail(err, GB_INVALID, plan->input[k].name, "call gb_program_set_input",
                           "input '%s' was never set", plan->input[k].name);
    if (!p->scalars_changed || plan->scalars_buffer < 0) return GB_OK;
    gb_status status = p->dev->backend->buffer_write(p->dev->dev, p->buffer[plan->scalars_buffer],
                                                     0, (uint64_t)plan->n_scalars * 4, p->scalar,
                                                     err);
    p->scalars_changed = status != GB_OK;
    return status;
}

/* What a program computes once is done again after any state of its store has changed. */
static void follow_states(gb_program *p)
{
    const gb_backend *b = p->dev->backend;
    if (p->seen != p->store->version && b->program_renew) b->program_renew(p->prog);
    if (p->writes_states) p->store->version++;
    p->seen = p->store->version;
}

gb_status gb_program_run(gb_program *program, gb_error *err)
{
    if (!program) return null_argument("program", err);
    gb_device *d = program->dev;
    gb_status status = prepare(program, err);
    if (status == GB_OK && program->guarded)
        status = gb_guard_fill(d, program->plan, program->buffer, err);
    if (status == GB_OK) follow_states(program);
    if (status == GB_OK) status = d->backend->program_run(program->prog, err);
    if (status == GB_OK && program->guarded)
        status = gb_guard_check(d, program->plan, program->buffer, err);
    return status;
}

static gb_status output(gb_program *p, const char *name, bool wide, gb_tensor *value, gb_error *err)
{
    if (!p || !name || !value) return null_argument(name, err);
    *value = (gb_tensor){0};
    const gb_plan_port *port = find(p->plan->output, p->plan->n_outputs, "output", name, err);
    if (!port) return GB_NOT_FOUND;
    gb_status status = gb_tensor_alloc(value, wide ? GB_F64 : port->dtype, &port->shape, err);
    if (status == GB_OK)
        status = gb_download(p->dev, p->buffer[port->where.buffer], &port->where, value, err);
    if (status != GB_OK) gb_tensor_free(value);
    return status;
}

gb_status gb_program_output(gb_program *program, const char *name, gb_tensor *value, gb_error *err)
{
    return output(program, name, false, value, err);
}

gb_status gb_program_output_f64(gb_program *program, const char *name, gb_tensor *value,
                                gb_error *err)
{
    return output(program, name, true, value, err);
}

static void describe_step(gb_program *p, int i)
{
    const gb_step *s = &p->plan->step[i];
    gb_step_time *row = &p->row[i];
    gb_answer answer = {.ok = false};
    ask_device(p->dev, s, &answer);
    *row = (gb_step_time){.path = s->path,
                          .phase = s->phase,
                          .kind = gb_step_kind_name(s->kind),
                          .flops = s->flops,
                          .bytes = s->bytes,
                          .scratch_bytes = s->scratch_bytes};
    snprintf(row->variant, sizeof row->variant, "%s", answer.variant);
}

gb_status gb_program_profile(gb_program *program, const gb_step_time **rows, int *n, gb_error *err)
{
    if (!program || !rows || !n) return null_argument("program", err);
    gb_status status = prepare(program, err);
    if (status == GB_OK) follow_states(program);
    if (status == GB_OK)
        status = program->dev->backend->program_time(program->prog, program->span, err);
    if (status != GB_OK) return status;
    for (int i = 0; i < program->plan->n_steps; i++) {
        if (!program->row[i].kind) describe_step(program, i);
        program->row[i].begin = program->span[i].begin;
        program->row[i].seconds = program->span[i].seconds;
    }
    *rows = program->row;
    *n = program->plan->n_steps;
    return GB_OK;
}
