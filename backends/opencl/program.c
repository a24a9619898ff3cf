/* Programs: kernels with their arguments set once, enqueued many times or recorded. */
#include "backends/opencl/opencl.h"

#include <stdlib.h>

#include "core/base/clock.h"

typedef struct stretch { /* launches of each run with nothing of CLBlast's between them */
    int first, next;
    gb_cl_recording recording; /* NULL: they are enqueued one by one */
} stretch;

struct gb_backend_program {
    gb_backend_device *dev;
    gb_gpu_program *gpu;
    int n_steps;
    gb_cl_kernel *built; /* of gpu->kernel; what they hold is the device's */
    cl_kernel *launch;   /* of gpu->launch */
    cl_mem *params;      /* of launches whose parameters lie in a buffer; else NULL */
    gb_cl_blast *blast;  /* products by CLBlast, in order of their steps */
    int n_blasts;
    bool ready; /* what launches that run once make is there */
    stretch *stretch; /* n_blasts + 1: the products lie between them */
};

static void forget_recordings(gb_backend_program *p)
{
    for (int i = 0; p->stretch && i <= p->n_blasts; i++) {
        gb_cl_recording_free(p->dev, p->stretch[i].recording);
        p->stretch[i].recording = NULL;
    }
}

void gb_cl_program_destroy(gb_backend_program *prog)
{
    if (!prog) return;
    clFinish(prog->dev->queue);
    forget_recordings(prog);
    for (int i = 0; prog->gpu && i < prog->gpu->n_launches; i++) {
        if (prog->launch && prog->launch[i]) clReleaseKernel(prog->launch[i]);
        if (prog->params && prog->params[i]) clReleaseMemObject(prog->params[i]);
    }
    gb_gpu_program_destroy(&prog->gpu);
    free(prog->built);
    free(prog->launch);
    free(prog->params);
    free(prog->blast);
    free(prog->stretch);
    free(prog);
}

/* Parameters never change: by value, or in a buffer where they are too many. */
static gb_status set_params(gb_backend_program *p, int i, gb_error *err)
{
    const gb_gpu_launch *l = &p->gpu->launch[i];
    const gb_gpu_kernel *k = &p->gpu->kernel[l->kernel];
    size_t bytes = sizeof(int32_t) * (size_t)(k->n_params ? k->n_params : 1);
    cl_int code = CL_SUCCESS;
    if (k->params_buffer) {
        p->params[i] = clCreateBuffer(p->dev->context,
                                      CL_MEM_COPY_HOST_PTR |
                                          (k->writes_params ? CL_MEM_READ_WRITE : CL_MEM_READ_ONLY),
                                      bytes, (void *)l->params, &code);
        if (!code)
            code = clSetKernelArg(p->launch[i], (cl_uint)k->n_bindings, sizeof p->params[i],
                                  &p->params[i]);
    } else {
        code = clSetKernelArg(p->launch[i], (cl_uint)k->n_bindings, bytes, l->params);
    }
    return code ? gb_cl_fail(p->dev, err, code, "setting a kernel's parameters") : GB_OK;
}

static gb_status make_launches(gb_backend_program *p, gb_error *err)
{
    gb_status s = gb_cl_build(p->dev, p->gpu->kernel, p->gpu->n_kernels, p->built, err);
    for (int i = 0; i < p->gpu->n_launches && s == GB_OK; i++) {
        cl_int code;
        const gb_cl_kernel *k = &p->built[p->gpu->launch[i].kernel];
        p->launch[i] = clCreateKernel(k->program, k->entry, &code);
        s = code ? gb_cl_fail(p->dev, err, code, "creating a kernel") : set_params(p, i, err);
    }
    return s;
}

/* Takes gpu over, also where it fails. */
static gb_status from_kernels(gb_backend_device *dev, gb_gpu_program *gpu, int n_steps,
                              gb_backend_program **prog, gb_error *err)
{
    gb_backend_program *p = calloc(1, sizeof *p);
    if (!p) {
        gb_gpu_program_destroy(&gpu);
        return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a program");
    }
    *p = (gb_backend_program){.dev = dev, .gpu = gpu, .n_steps = n_steps};
    p->built = calloc((size_t)gpu->n_kernels + 1, sizeof *p->built);
    p->launch = calloc((size_t)gpu->n_launches + 1, sizeof *p->launch);
    p->params = calloc((size_t)gpu->n_launches + 1, sizeof *p->params);
    p->stretch = calloc(1, sizeof *p->stretch);
    if (p->stretch) *p->stretch = (stretch){.first = gpu->n_once, .next = gpu->n_launches};
    gb_status s = p->built && p->launch && p->params && p->stretch
                      ? make_launches(p, err)
                      : gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a program");
    if (s == GB_OK)
        *prog = p;
    else
        gb_cl_program_destroy(p);
    return s;
}

/* A product comes before the launches of later steps. */
static void part_launches(gb_backend_program *p)
{
    int next = p->gpu->n_once;
    for (int i = 0; i <= p->n_blasts; i++) {
        const int first = next;
        while (next < p->gpu->n_launches &&
               (i == p->n_blasts || p->gpu->launch[next].step <= p->blast[i].step))
            next++;
        p->stretch[i] = (stretch){.first = first, .next = next};
    }
}

static gb_status add_blasts(gb_backend_program *p, const gb_plan *plan, gb_error *err)
{
    int n = 0;
    for (int i = 0; i < plan->n_steps; i++) n += gb_cl_blast_wanted(&plan->step[i]);
    if (n == 0) return GB_OK;
    stretch *more = realloc(p->stretch, ((size_t)n + 1) * sizeof *more);
    if (more) p->stretch = more;
    p->blast = calloc((size_t)n, sizeof *p->blast);
    if (!p->blast || !more)
        return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a program");
    for (int i = 0; i < plan->n_steps; i++)
        if (gb_cl_blast_wanted(&plan->step[i]))
            gb_cl_blast_make(&plan->step[i], i, &p->blast[p->n_blasts++]);
    part_launches(p);
    p->dev->blast_used = true;
    return GB_OK;
}

gb_status gb_cl_program_create(gb_backend_device *dev, const gb_plan *plan,
                               gb_backend_program **prog, gb_error *err)
{
    gb_gpu_program *gpu;
    *prog = NULL;
    gb_status s = gb_gpu_program_create(&dev->caps, plan, &gpu, err);
    if (s == GB_OK) s = from_kernels(dev, gpu, plan->n_steps, prog, err);
    if (s == GB_OK && (s = add_blasts(*prog, plan, err)) != GB_OK) {
        gb_cl_program_destroy(*prog);
        *prog = NULL;
    }
    return s;
}

static void shape_of(const gb_backend_program *p, int i, size_t *global, size_t *local)
{
    const gb_gpu_launch *l = &p->gpu->launch[i];
    for (int d = 0; d < 3; d++) {
        local[d] = p->gpu->kernel[l->kernel].local[d];
        global[d] = (size_t)l->groups[d] * local[d];
    }
}

/* --- recording --- */

static bool record(gb_backend_program *p, stretch *s)
{
    size_t global[3], local[3];
    bool ok = (s->recording = gb_cl_record_begin(p->dev)) != NULL;
    for (int i = s->first; i < s->next && ok; i++) {
        shape_of(p, i, global, local);
        ok = gb_cl_record_launch(p->dev, s->recording, p->launch[i], global, local);
    }
    return ok && gb_cl_record_end(p->dev, s->recording);
}

/* Of what the kernels are bound to now. All or nothing: a driver that refuses one launch is not
 * asked for the next. */
static void record_all(gb_backend_program *p)
{
    bool ok = p->dev->recorder != NULL;
    for (int i = 0; i <= p->n_blasts && ok; i++)
        if (p->stretch[i].next > p->stretch[i].first) ok = record(p, &p->stretch[i]);
    if (!ok) forget_recordings(p);
}

gb_status gb_cl_program_bind(gb_backend_program *prog, gb_backend_buffer *const *buffers,
                             gb_error *err)
{
    forget_recordings(prog);
    for (int i = 0; i < prog->gpu->n_launches; i++) {
        const gb_gpu_launch *l = &prog->gpu->launch[i];
        for (int a = 0; a < prog->gpu->kernel[l->kernel].n_bindings; a++) {
            const gb_backend_buffer *b = buffers[l->binding[a].buffer];
            cl_int code = clSetKernelArg(prog->launch[i], (cl_uint)a, sizeof b->mem, &b->mem);
            if (code) return gb_cl_fail(prog->dev, err, code, "binding a buffer");
        }
    }
    prog->ready = false;
    for (int i = 0; i < prog->n_blasts; i++)
        for (int k = 0; k < 3; k++) prog->blast[i].mem[k] = buffers[prog->blast[i].buffer[k]]->mem;
    record_all(prog);
    return GB_OK;
}

int gb_cl_program_recorded(const gb_backend_program *prog)
{
    int n = 0;
    for (int i = 0; i <= prog->n_blasts; i++)
        if (prog->stretch[i].recording) n += prog->stretch[i].next - prog->stretch[i].first;
    return n;
}

/* --- running --- */

void gb_cl_program_renew(gb_backend_program *prog)
{
    prog->ready = false;
}

static int first_launch(const gb_backend_program *p)
{
    return p->ready ? p->gpu->n_once : 0;
}

static cl_int enqueue(gb_backend_program *p, int i, cl_command_queue queue, cl_event *event)
{
    size_t global[3], local[3];
    shape_of(p, i, global, local);
    return clEnqueueNDRangeKernel(queue, p->launch[i], 3, NULL, global, local, 0, NULL, event);
}

static cl_int enqueue_stretch(gb_backend_program *p, const stretch *s)
{
    cl_int code = CL_SUCCESS;
    if (s->recording) return gb_cl_recording_enqueue(p->dev, s->recording);
    for (int i = s->first; i < s->next && !code; i++) code = enqueue(p, i, p->dev->queue, NULL);
    return code;
}

gb_status gb_cl_program_run(gb_backend_program *prog, gb_error *err)
{
    cl_int code = CL_SUCCESS;
    for (int i = first_launch(prog); i < prog->gpu->n_once && !code; i++)
        code = enqueue(prog, i, prog->dev->queue, NULL);
    for (int i = 0; i <= prog->n_blasts && !code; i++) {
        code = enqueue_stretch(prog, &prog->stretch[i]);
        if (!code && i < prog->n_blasts)
            code = gb_cl_blast_enqueue(&prog->blast[i], prog->dev->queue);
    }
    if (!code) code = clFlush(prog->dev->queue);
    prog->ready = !code;
    return code ? gb_cl_fail(prog->dev, err, code, "starting a kernel") : GB_OK;
}

/* What launch i wrote to its parameters, to free; NULL: it writes none, or cannot be read. */
static int32_t *written_params(const gb_backend_program *p, int i)
{
    const gb_gpu_kernel *k = &p->gpu->kernel[p->gpu->launch[i].kernel];
    const size_t bytes = sizeof(int32_t) * (size_t)k->n_params;
    int32_t *words = k->writes_params ? malloc(bytes) : NULL;
    if (words && clEnqueueReadBuffer(p->dev->timing, p->params[i], CL_TRUE, 0, bytes, words, 0,
                                     NULL, NULL)) {
        free(words);
        words = NULL;
    }
    return words;
}

/* Adds the time of launch i to its steps; *origin is when the run's first kernel was enqueued (0:
 * this). */
static cl_int measure(const gb_backend_program *p, int i, cl_event event, cl_ulong *origin,
                      gb_span *span)
{
    static const cl_profiling_info what[] = {CL_PROFILING_COMMAND_QUEUED,
                                             CL_PROFILING_COMMAND_START, CL_PROFILING_COMMAND_END};
    cl_ulong t[3] = {0};
    cl_int code = CL_SUCCESS;
    for (int k = 0; k < 3 && !code; k++)
        code = clGetEventProfilingInfo(event, what[k], sizeof t[k], &t[k], NULL);
    if (code) return code;
    if (!*origin) *origin = t[0];
    const double begin = t[1] > *origin ? (double)(t[1] - *origin) * 1e-9 : 0;
    int32_t *params = written_params(p, i);
    gb_gpu_spread(&p->gpu->launch[i], params, (gb_span){begin, (double)(t[2] - t[1]) * 1e-9}, span);
    free(params);
    return code;
}

/* On the host's clock: CLBlast gives an event of its last kernel alone. */
static cl_int time_blasts(gb_backend_program *p, int before, int *next, gb_span *span)
{
    cl_int code = CL_SUCCESS;
    while (*next < p->n_blasts && p->blast[*next].step < before && !code) {
        code = clFinish(p->dev->timing);
        double start = gb_clock();
        const gb_cl_blast *x = &p->blast[(*next)++];
        if (!code) code = gb_cl_blast_enqueue(x, p->dev->queue);
        if (!code) code = clFinish(p->dev->queue);
        span[x->step].seconds = gb_clock() - start;
    }
    return code;
}

gb_status gb_cl_program_time(gb_backend_program *prog, gb_span *span, gb_error *err)
{
    gb_backend_device *dev = prog->dev;
    cl_ulong origin = 0;
    cl_int code = clFinish(dev->queue);
    if (!code && !dev->timing)
        dev->timing = clCreateCommandQueue(dev->context, dev->id, CL_QUEUE_PROFILING_ENABLE, &code);
    cl_event *event = calloc((size_t)prog->gpu->n_launches + 1, sizeof(cl_event));
    if (!event) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for events");
    for (int i = 0; i < prog->n_steps; i++) span[i] = (gb_span){0};
    int blast = 0;
    const int first = first_launch(prog);
    for (int i = first; i < prog->gpu->n_launches && !code; i++) {
        code = time_blasts(prog, prog->gpu->launch[i].step, &blast, span);
        if (!code) code = enqueue(prog, i, dev->timing, &event[i]);
    }
    if (!code) code = time_blasts(prog, prog->n_steps, &blast, span);
    if (!code) code = clFinish(dev->timing);
    for (int i = first; i < prog->gpu->n_launches && event[i]; i++) {
        if (!code) code = measure(prog, i, event[i], &origin, span);
        clReleaseEvent(event[i]);
    }
    free(event);
    prog->ready = !code;
    return code ? gb_cl_fail(dev, err, code, "timing a program") : GB_OK;
}

int gb_cl_program_kernels(const gb_backend_program *prog)
{
    return prog->gpu->n_kernels;
}

/* --- peaks --- */

enum { PEAK_RUNS = 5 };

static gb_status run_peak(gb_backend_program *prog, gb_backend_buffer *const *buffer,
                          double best[2], gb_error *err)
{
    gb_status s = gb_cl_program_bind(prog, buffer, err);
    for (int i = 0; i < PEAK_RUNS && s == GB_OK; i++) {
        gb_span span[2];
        s = gb_cl_program_time(prog, span, err);
        for (int k = 0; k < 2 && s == GB_OK && i > 0; k++) /* the first one warms up */
            if (i == 1 || span[k].seconds < best[k]) best[k] = span[k].seconds;
    }
    return s;
}

gb_status gb_cl_peak(gb_backend_device *dev, gb_peak *peak, gb_error *err)
{
    gb_gpu_peak_work work;
    gb_gpu_program *gpu;
    gb_backend_program *prog = NULL;
    gb_backend_buffer *buffer[2] = {NULL, NULL};
    double best[2] = {0, 0};
    gb_status s = gb_gpu_peak_create(&dev->caps, &work, &gpu, err);
    if (s == GB_OK) s = from_kernels(dev, gpu, 2, &prog, err);
    for (int i = 0; i < 2 && s == GB_OK; i++)
        s = gb_opencl_backend.buffer_create(dev, work.buffer_bytes, &buffer[i], err);
    if (s == GB_OK) s = run_peak(prog, buffer, best, err);
    if (s == GB_OK && (best[0] <= 0 || best[1] <= 0))
        s = gb_fail(err, GB_DEVICE, "opencl", NULL, "the driver reports no times");
    if (s == GB_OK)
        *peak = (gb_peak){.gflops = work.flops / best[0] * 1e-9,
                          .gb_per_s = work.bytes / best[1] * 1e-9};
    gb_cl_program_destroy(prog);
    for (int i = 0; i < 2; i++) gb_opencl_backend.buffer_destroy(dev, buffer[i]);
    return s;
}
