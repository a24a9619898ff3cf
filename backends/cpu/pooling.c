/* Max and average pools over channels-last images, and their gradients. */
#include <stdlib.h>

#include "backends/cpu/cpu.h"

#define TASK_ELEMENTS 32768

typedef struct {
    const gb_loops *loops;
    gb_window window;
    gb_operand image, result; /* of the forward pass: what is pooled, and what comes out */
    int64_t *inside[2];       /* AVGPOOL: by output row, by output column, elements that count */
    int64_t lines;            /* rows of pixels of the step's output */
    int64_t lines_a_task;
} pooling;

typedef struct {
    const pooling *p;
    const gb_cpu_step *step;
    const gb_cpu_workers *workers;
} pooling_run;

static int64_t at(const gb_operand *o, int64_t n, int64_t h, int64_t w)
{
    return n * o->stride[0] + h * o->stride[2] + w * o->stride[3];
}

/* Row or column of the image under tap k of output place o; axis 0 is height. */
static int64_t under(const gb_window *v, int axis, int64_t o, int64_t k)
{
    return o * v->stride[axis] + k * v->dilation[axis] - v->pad[axis];
}

static bool within(int64_t i, int64_t n)
{
    return i >= 0 && i < n;
}

/* The pixels under the window of (oh, ow) that lie in the image. */
static void collect(const pooling *p, const float *image, int64_t n, int64_t oh, int64_t ow,
                    gb_window_rows *rows, const float **tap, int32_t *position)
{
    const gb_window *v = &p->window;
    *rows = (gb_window_rows){.tap = tap, .position = position};
    for (int64_t kh = 0; kh < v->kernel[0]; kh++) {
        int64_t h = under(v, 0, oh, kh);
        if (!within(h, p->image.dim[2])) continue;
        for (int64_t kw = 0; kw < v->kernel[1]; kw++) {
            int64_t w = under(v, 1, ow, kw);
            if (!within(w, p->image.dim[3])) continue;
            tap[rows->taps] = image + at(&p->image, n, h, w);
            position[rows->taps++] = (int32_t)(h * p->image.dim[3] + w);
        }
    }
}

static void forward_line(const pooling_run *r, int64_t n, int64_t oh, void *scratch)
{
    const pooling *p = r->p;
    const float **tap = scratch;
    int32_t *position = (int32_t *)(tap + p->window.kernel[0] * p->window.kernel[1]);
    float *y = r->step->at.out[0];
    int32_t *index = r->step->at.out[1];
    bool average = r->step->step->kind == GB_STEP_AVGPOOL;
    for (int64_t ow = 0; ow < p->result.dim[3]; ow++) {
        gb_window_rows rows;
        collect(p, r->step->at.in[0], n, oh, ow, &rows, tap, position);
        float *to = y + at(&p->result, n, oh, ow);
        if (average)
            p->loops->average_pool(&rows, p->result.dim[1],
                                   (float)(p->inside[0][oh] * p->inside[1][ow]), to);
        else
            p->loops->max_pool(&rows, p->result.dim[1], to,
                               index ? index + at(&r->step->step->out[1], n, oh, ow) : NULL);
    }
}

/* Adds what one tap brings to a line of the image's gradient. */
static void backward_tap(const pooling_run *r, int64_t n, int64_t h, int64_t oh, int64_t kw)
{
    const pooling *p = r->p;
    const float *dy = r->step->at.in[0];
    const int32_t *index = r->step->at.in[1];
    int64_t c = p->image.dim[1];
    for (int64_t ow = 0; ow < p->result.dim[3]; ow++) {
        int64_t w = under(&p->window, 1, ow, kw);
        if (!within(w, p->image.dim[3])) continue;
        float *dx = (float *)r->step->at.out[0] + at(&p->image, n, h, w);
        const float *from = dy + at(&p->result, n, oh, ow);
        if (r->step->step->kind == GB_STEP_AVGPOOL_GRAD)
            p->loops->add_scaled(from, 1 / (float)(p->inside[0][oh] * p->inside[1][ow]), c, dx);
        else
            p->loops->max_pool_grad(from, index + at(&r->step->step->in[1], n, oh, ow),
                                    (int32_t)(h * p->image.dim[3] + w), c, dx);
    }
}

/* A sum over the windows that cover a line, in the order of their taps: no two tasks meet. */
static void backward_line(const pooling_run *r, int64_t n, int64_t h)
{
    const pooling *p = r->p;
    const gb_window *v = &p->window;
    for (int64_t w = 0; w < p->image.dim[3]; w++) {
        float *dx = (float *)r->step->at.out[0] + at(&p->image, n, h, w);
        for (int64_t c = 0; c < p->image.dim[1]; c++) dx[c] = 0;
    }
    for (int64_t kh = 0; kh < v->kernel[0]; kh++) {
        int64_t oh = h + v->pad[0] - kh * v->dilation[0];
        if (oh < 0 || oh % v->stride[0] || oh / v->stride[0] >= p->result.dim[2]) continue;
        for (int64_t kw = 0; kw < v->kernel[1]; kw++) backward_tap(r, n, h, oh / v->stride[0], kw);
    }
}

static bool is_gradient(const gb_step *s)
{
    return s->kind == GB_STEP_MAXPOOL_GRAD || s->kind == GB_STEP_AVGPOOL_GRAD;
}

static void task(void *ctx, int64_t number, int worker)
{
    const pooling_run *r = ctx;
    const gb_step *s = r->step->step;
    int64_t first = number * r->p->lines_a_task, end = first + r->p->lines_a_task;
    for (int64_t line = first; line < end && line < r->p->lines; line++) {
        int64_t n = line / s->out[0].dim[2], h = line % s->out[0].dim[2];
        if (is_gradient(s))
            backward_line(r, n, h);
        else
            forward_line(r, n, h, gb_worker_scratch(r->workers, worker));
    }
}

static void run(const gb_cpu_step *s, const gb_cpu_workers *workers)
{
    const pooling *p = s->state;
    pooling_run r = {p, s, workers};
    gb_pool_run(workers->pool, (p->lines + p->lines_a_task - 1) / p->lines_a_task, task, &r);
}

static void free_state(void *state)
{
    pooling *p = state;
    if (!p) return;
    free(p->inside[0]);
    free(p->inside[1]);
    free(p);
}

/* What averages divide by is a product of a part by row and a part by column. */
static bool count_inside(pooling *p, int axis)
{
    const gb_window *v = &p->window;
    int64_t before = v->count_pad ? v->pad[axis] : 0, after = v->count_pad ? v->pad_end[axis] : 0;
    int64_t size = p->image.dim[2 + axis];
    p->inside[axis] = calloc((size_t)p->result.dim[2 + axis] + 1, sizeof *p->inside[axis]);
    if (!p->inside[axis]) return false;
    for (int64_t o = 0; o < p->result.dim[2 + axis]; o++)
        for (int64_t k = 0; k < v->kernel[axis]; k++) {
            int64_t i = under(v, axis, o, k);
            p->inside[axis][o] += i >= -before && i < size + after;
        }
    return true;
}

gb_status gb_cpu_make_pool(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                           gb_error *err)
{
    pooling *p = calloc(1, sizeof *p);
    if (p) {
        bool back = is_gradient(step);
        p->loops = dev->loops;
        p->window = step->u.conv;
        p->image = back ? step->out[0] : step->in[0];
        p->result = back ? step->in[0] : step->out[0];
    }
    if (!p || !count_inside(p, 0) || !count_inside(p, 1)) {
        free_state(p);
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "close other programs",
                       "no memory to prepare a pool");
    }
    const gb_operand *o = &step->out[0];
    p->lines = o->dim[1] > 0 && o->dim[3] > 0 ? o->dim[0] * o->dim[2] : 0;
    p->lines_a_task = 1 + TASK_ELEMENTS / (p->image.dim[1] * p->image.dim[3] + 1);
    size_t taps = (size_t)(p->window.kernel[0] * p->window.kernel[1]);
    *out = (gb_cpu_step){.run = run,
                         .free = free_state,
                         .state = p,
                         .step = step,
                         .worker_bytes = taps * (sizeof(float *) + sizeof(int32_t))};
    return GB_OK;
}
