/* Max and average pools over channels-last images, and their gradients. Lines of 16-bit floats are
 * widened into a worker's scratch, and rounded from there. */
#include <stdlib.h>

#include "backends/cpu/cpu.h"
#include "backends/cpu/walk.h"

#define TASK_ELEMENTS 32768

typedef struct {
    const gb_loops *loops;
    gb_window window;
    gb_operand image, result; /* of the forward pass: what is pooled, and what comes out */
    gb_operand from, to;      /* of this step */
    int64_t *inside[2];       /* AVGPOOL: by output row, by output column, elements that count */
    int64_t lines;            /* rows of pixels of the step's output */
    int64_t lines_a_task;
    const gb_halves *in, *out; /* of 16-bit floats; NULL: f32 */
} pooling;

typedef struct {
    const pooling *p;
    const gb_cpu_step *step;
    const gb_cpu_workers *workers;
} pooling_run;

/* A worker's scratch. */
typedef struct {
    const float **tap;
    int32_t *position;
    float *in, *out; /* lines in f32: one a row of the kernel; one */
} space;

static int64_t line_elements(const gb_operand *o)
{
    return o->dim[1] * o->dim[3];
}

/* Tells how many bytes it takes too. */
static space space_of(const pooling *p, void *scratch, size_t *bytes)
{
    size_t taps = (size_t)(p->window.kernel[0] * p->window.kernel[1]);
    size_t in = p->in ? (size_t)(p->window.kernel[0] * line_elements(&p->from)) : 0;
    size_t out = p->out ? (size_t)line_elements(&p->to) : 0;
    space s = {.tap = scratch};
    s.position = (int32_t *)(s.tap + taps);
    s.in = (float *)(s.position + taps);
    s.out = s.in + in;
    if (bytes) *bytes = taps * (sizeof *s.tap + sizeof *s.position) + (in + out) * sizeof(float);
    return s;
}

static int64_t at(const gb_operand *o, int64_t n, int64_t h, int64_t w)
{
    return n * o->stride[0] + h * o->stride[2] + w * o->stride[3];
}

/* Row h of image n of the step's input in f32; wide: where it was widened, if it had to be. */
static const float *line_in(const pooling_run *r, int64_t n, int64_t h, const float *wide)
{
    const float *in = r->step->at.in[0];
    return r->p->in ? wide : in + at(&r->p->from, n, h, 0);
}

static void widen_line(const pooling_run *r, int64_t n, int64_t h, float *wide)
{
    const pooling *p = r->p;
    const uint16_t *in = r->step->at.in[0];
    if (p->in) p->in->widen(in + at(&p->from, n, h, 0), line_elements(&p->from), wide);
}

/* Row h of image n of its output, or where it is made before it is rounded. */
static float *line_out(const pooling_run *r, int64_t n, int64_t h, const space *s)
{
    return r->p->out ? s->out : (float *)r->step->at.out[0] + at(&r->p->to, n, h, 0);
}

static void line_done(const pooling_run *r, int64_t n, int64_t h, const float *line)
{
    const pooling *p = r->p;
    if (!p->out) return;
    p->out->narrow(line, line_elements(&p->to),
                   (uint16_t *)r->step->at.out[0] + at(&p->to, n, h, 0));
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
static void collect(const pooling_run *r, int64_t n, int64_t oh, int64_t ow, const space *s,
                    gb_window_rows *rows)
{
    const pooling *p = r->p;
    const gb_window *v = &p->window;
    *rows = (gb_window_rows){.tap = s->tap, .position = s->position};
    for (int64_t kh = 0; kh < v->kernel[0]; kh++) {
        int64_t h = under(v, 0, oh, kh);
        if (!within(h, p->image.dim[2])) continue;
        const float *line = line_in(r, n, h, s->in + kh * line_elements(&p->image));
        for (int64_t kw = 0; kw < v->kernel[1]; kw++) {
            int64_t w = under(v, 1, ow, kw);
            if (!within(w, p->image.dim[3])) continue;
            s->tap[rows->taps] = line + w * p->image.stride[3];
            s->position[rows->taps++] = (int32_t)(h * p->image.dim[3] + w);
        }
    }
}

static void forward_line(const pooling_run *r, int64_t n, int64_t oh, const space *s)
{
    const pooling *p = r->p;
    int32_t *index = r->step->at.out[1];
    float *y = line_out(r, n, oh, s);
    bool average = r->step->step->kind == GB_STEP_AVGPOOL;
    for (int64_t kh = 0; kh < p->window.kernel[0]; kh++) {
        int64_t h = under(&p->window, 0, oh, kh);
        if (within(h, p->image.dim[2])) widen_line(r, n, h, s->in + kh * line_elements(&p->image));
    }
    for (int64_t ow = 0; ow < p->result.dim[3]; ow++) {
        gb_window_rows rows;
        collect(r, n, oh, ow, s, &rows);
        float *to = y + ow * p->result.stride[3];
        if (average)
            p->loops->average_pool(&rows, p->result.dim[1],
                                   (float)(p->inside[0][oh] * p->inside[1][ow]), to);
        else
            p->loops->max_pool(&rows, p->result.dim[1], to,
                               index ? index + at(&r->step->step->out[1], n, oh, ow) : NULL);
    }
    line_done(r, n, oh, y);
}

/* Adds what one tap brings to line h of the image's gradient: dx, from line oh of dy. */
static void backward_tap(const pooling_run *r, int64_t n, int64_t h, int64_t oh, int64_t kw,
                         const float *dy, float *dx)
{
    const pooling *p = r->p;
    const int32_t *index = r->step->at.in[1];
    int64_t c = p->image.dim[1];
    for (int64_t ow = 0; ow < p->result.dim[3]; ow++) {
        int64_t w = under(&p->window, 1, ow, kw);
        if (!within(w, p->image.dim[3])) continue;
        float *to = dx + w * p->image.stride[3];
        const float *from = dy + ow * p->result.stride[3];
        if (r->step->step->kind == GB_STEP_AVGPOOL_GRAD)
            p->loops->add_scaled(from, 1 / (float)(p->inside[0][oh] * p->inside[1][ow]), c, to);
        else
            p->loops->max_pool_grad(from, index + at(&r->step->step->in[1], n, oh, ow),
                                    (int32_t)(h * p->image.dim[3] + w), c, to);
    }
}

/* A sum over the windows that cover a line, in the order of their taps: no two tasks meet. */
static void backward_line(const pooling_run *r, int64_t n, int64_t h, const space *s)
{
    const pooling *p = r->p;
    const gb_window *v = &p->window;
    float *dx = line_out(r, n, h, s);
    for (int64_t i = 0; i < line_elements(&p->image); i++) dx[i] = 0;
    for (int64_t kh = 0; kh < v->kernel[0]; kh++) {
        int64_t oh = h + v->pad[0] - kh * v->dilation[0];
        if (oh < 0 || oh % v->stride[0] || oh / v->stride[0] >= p->result.dim[2]) continue;
        oh /= v->stride[0];
        widen_line(r, n, oh, s->in);
        const float *dy = line_in(r, n, oh, s->in);
        for (int64_t kw = 0; kw < v->kernel[1]; kw++) backward_tap(r, n, h, oh, kw, dy, dx);
    }
    line_done(r, n, h, dx);
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
    space own = space_of(r->p, gb_worker_scratch(r->workers, worker), NULL);
    for (int64_t line = first; line < end && line < r->p->lines; line++) {
        int64_t n = line / s->out[0].dim[2], h = line % s->out[0].dim[2];
        if (is_gradient(s))
            backward_line(r, n, h, &own);
        else
            forward_line(r, n, h, &own);
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
        p->from = step->in[0];
        p->to = step->out[0];
        p->in = gb_halves_of(p->from.storage);
        p->out = gb_halves_of(p->to.storage);
    }
    if (!p || !count_inside(p, 0) || !count_inside(p, 1)) {
        free_state(p);
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "close other programs",
                       "no memory to prepare a pool");
    }
    const gb_operand *o = &step->out[0];
    p->lines = o->dim[1] > 0 && o->dim[3] > 0 ? o->dim[0] * o->dim[2] : 0;
    p->lines_a_task = 1 + TASK_ELEMENTS / (p->image.dim[1] * p->image.dim[3] + 1);
    size_t bytes;
    space_of(p, NULL, &bytes);
    *out = (gb_cpu_step){
        .run = run, .free = free_state, .state = p, .step = step, .worker_bytes = bytes};
    return GB_OK;
}
