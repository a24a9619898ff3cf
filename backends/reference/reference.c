#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/reference/reference.h"

struct gb_backend_device {
    bool open; /* the reference has nothing to hold; a device is an identity */
};

static gb_ref_kind *const kinds[GB_STEP_KINDS] = {
    [GB_STEP_POINTWISE] = gb_ref_pointwise,     [GB_STEP_REDUCE] = gb_ref_reduce,
    [GB_STEP_ARGREDUCE] = gb_ref_argreduce,     [GB_STEP_MATMUL] = gb_ref_matmul,
    [GB_STEP_CONV] = gb_ref_conv,               [GB_STEP_CONV_INPUT] = gb_ref_conv_input,
    [GB_STEP_CONV_FILTER] = gb_ref_conv_filter, [GB_STEP_MAXPOOL] = gb_ref_maxpool,
    [GB_STEP_MAXPOOL_GRAD] = gb_ref_maxpool_grad, [GB_STEP_AVGPOOL] = gb_ref_avgpool,
    [GB_STEP_AVGPOOL_GRAD] = gb_ref_avgpool_grad, [GB_STEP_GATHER] = gb_ref_gather,
    [GB_STEP_GATHER_GRAD] = gb_ref_gather_grad,
};

static gb_status enumerate(const gb_backend_options *o, gb_device_info *out, int cap, int *n,
                           char *reason, size_t reason_size)
{
    uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    out[0] = (gb_device_info){.id = "reference",
                              .name = "float64 reference",
                              .driver = "gimbal",
                              .kind = GB_DEVICE_CPU,
                              .memory_bytes = ram / 9 * 2, /* 9 bytes keep 2 planned ones */
                              .max_buffer_bytes = ram / 9 * 2,
                              .dtypes = 1u << GB_F32 | 1u << GB_F64 | 1u << GB_F16 |
                                        1u << GB_BF16 | 1u << GB_I32 | 1u << GB_BOOL,
                              .usable = true,
                              .cores = 1,
                              .vector_width = 1};
    *n = 1;
    return GB_OK;
}

static gb_status device_open(const gb_backend_options *o, int index, gb_backend_device **dev,
                             gb_error *err)
{
    *dev = calloc(1, sizeof **dev);
    if (!*dev) return gb_fail(err, GB_OUT_OF_MEMORY, "reference", NULL, "no memory for a device");
    (*dev)->open = true;
    return GB_OK;
}

static void device_close(gb_backend_device *dev)
{
    free(dev);
}

static void query(gb_backend_device *dev, const gb_step *step, gb_answer *answer)
{
    *answer = (gb_answer){.ok = true, .variant = "float64"};
}

/* --- programs --- */

static void program_destroy(gb_backend_program *prog)
{
    if (!prog) return;
    free(prog->buffer);
    free(prog->scalar);
    free(prog);
}

static gb_status program_create(gb_backend_device *dev, const gb_plan *plan,
                                gb_backend_program **prog, gb_error *err)
{
    gb_backend_program *p = calloc(1, sizeof *p);
    *prog = NULL;
    if (p) {
        p->plan = plan;
        p->buffer = calloc((size_t)plan->n_buffers + 1, sizeof *p->buffer);
        p->scalar = calloc((size_t)plan->n_scalars + 1, sizeof *p->scalar);
    }
    if (!p || !p->buffer || !p->scalar) {
        program_destroy(p);
        return gb_fail(err, GB_OUT_OF_MEMORY, "reference", NULL, "no memory for a program");
    }
    *prog = p;
    return GB_OK;
}

static gb_status program_bind(gb_backend_program *prog, gb_backend_buffer *const *buffers,
                              gb_error *err)
{
    memcpy(prog->buffer, buffers, (size_t)prog->plan->n_buffers * sizeof *buffers);
    return GB_OK;
}

static void load_scalars(gb_backend_program *p)
{
    for (int64_t i = 0; i < p->plan->n_scalars; i++) {
        gb_operand slot = {.buffer = p->plan->scalars_buffer,
                           .storage = p->plan->scalar_type[i] == 'i' ? GB_S_I32 : GB_S_F32,
                           .rank = 1,
                           .dim = {p->plan->n_scalars},
                           .stride = {1}};
        p->scalar[i] = gb_ref_load(p, &slot, &i);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static gb_status program_time(gb_backend_program *prog, gb_span *span, gb_error *err)
{
    double run = now();
    load_scalars(prog);
    for (int i = 0; i < prog->plan->n_steps; i++) {
        const gb_step *s = &prog->plan->step[i];
        double start = now();
        gb_status status = kinds[s->kind](prog, s, err);
        if (status != GB_OK) return status;
        if (span) span[i] = (gb_span){start - run, now() - start};
    }
    return GB_OK;
}

static gb_status program_run(gb_backend_program *prog, gb_error *err)
{
    return program_time(prog, NULL, err);
}

static gb_status device_wait(gb_backend_device *dev, gb_error *err)
{
    return GB_OK;
}

static bool device_lost(gb_backend_device *dev)
{
    return false;
}

const gb_backend gb_reference_backend = {
    .name = "reference",
    .diagnostic = true,
    .enumerate = enumerate,
    .open = device_open,
    .close = device_close,
    .buffer_create = gb_ref_buffer_create,
    .buffer_destroy = gb_ref_buffer_destroy,
    .buffer_write = gb_ref_buffer_write,
    .buffer_read = gb_ref_buffer_read,
    .query = query,
    .program_create = program_create,
    .program_destroy = program_destroy,
    .program_bind = program_bind,
    .program_run = program_run,
    .program_time = program_time,
    .wait = device_wait,
    .lost = device_lost,
    .read_f64 = gb_ref_read_f64,
    .write_f64 = gb_ref_write_f64,
};
