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
    int64_t *over; /* gradients: by column of the image and of the kernel, output column or -1 */
    int64_t first_whole, last_whole; /* output columns whose windows lie in the image's columns */
    int64_t lines;                   /* rows of pixels of the step's output */
    int64_t lines_a_task;
    const gb_halves *in, *out; /* of 16-bit floats; NULL: f32 */
} pooling;

typedef struct {
    const pooling *p;
    const gb_cpu_step *step;
    const gb_cpu_workers *workers;
} pooling_run;

/* A line of dy that covers one of the image. */
typedef struct {
    int64_t oh;
    const float *dy;
    const int32_t *index; /* places of its maxima; NULL: averages */
} covering;

/* A worker's scratch. */
typedef struct {
    const float **tap;
    const int32_t **index;
    covering *line; /* one a row of the kernel */
    int32_t *position;
    float *scale;
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
    s.index = (const int32_t **)(s.tap + taps);
    s.line = (covering *)(s.index + taps);
    s.position = (int32_t *)(s.line + p->window.kernel[0]);
    s.scale = (float *)(s.position + taps);
    s.in = s.scale + taps;
    s.out = s.in + in;
    if (bytes)
        *bytes = taps * (sizeof *s.tap + sizeof *s.index + sizeof *s.position + sizeof *s.scale) +
                 (size_t)p->window.kernel[0] * sizeof *s.line + (in + out) * sizeof(float);
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

/* The output place of `outputs` whose tap k lies at i; -1: none. */
static int64_t output_over(const gb_window *v, int axis, int64_t i, int64_t k, int64_t outputs)
{
    int64_t o = i + v->pad[axis] - k * v->dilation[axis];
    if (o < 0 || o % v->stride[axis] || o / v->stride[axis] >= outputs) return -1;
    return o / v->stride[axis];
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

/* From a window whose columns all lie in the image to the next such one. */
static void next_window(const pooling *p, const space *s, int taps)
{
    for (int t = 0; t < taps; t++) {
        s->tap[t] += p->window.stride[1] * p->image.stride[3];
        s->position[t] += (int32_t)p->window.stride[1];
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
    gb_window_rows rows;
    for (int64_t ow = 0; ow < p->result.dim[3]; ow++) {
        if (ow > p->first_whole && ow <= p->last_whole)
            next_window(p, s, rows.taps);
        else
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

/* The rows of dy that line h of the image takes part in, and of the maxima's places. */
static int covering_lines(const pooling_run *r, int64_t n, int64_t h, const space *s)
{
    const pooling *p = r->p;
    const gb_window *v = &p->window;
    const int32_t *index = r->step->at.in[1];
    int lines = 0;
    for (int64_t kh = 0; kh < v->kernel[0]; kh++) {
        int64_t oh = output_over(v, 0, h, kh, p->result.dim[2]);
        if (oh < 0) continue;
        float *wide = s->in + lines * line_elements(&p->from);
        widen_line(r, n, oh, wide);
        s->line[lines] = (covering){.oh = oh, .dy = line_in(r, n, oh, wide)};
        if (index) s->line[lines].index = index + at(&r->step->step->in[1], n, oh, 0);
        lines++;
    }
    return lines;
}

/* The windows over pixel w of a line, in the order of their taps. */
static int covering_windows(const pooling *p, int64_t w, int lines, const space *s)
{
    const int64_t kernel = p->window.kernel[1], *over = p->over + w * kernel;
    int windows = 0;
    for (const covering *line = s->line; line < s->line + lines; line++)
        for (int64_t kw = 0; kw < kernel; kw++) {
            int64_t ow = over[kw];
            if (ow < 0) continue;
            s->tap[windows] = line->dy + ow * p->result.stride[3];
            if (line->index)
                s->index[windows++] = line->index + ow * p->result.stride[3];
            else
                s->scale[windows++] = 1 / (float)(p->inside[0][line->oh] * p->inside[1][ow]);
        }
    return windows;
}

/* Each pixel is the sum over the windows that cover it: no two tasks meet. */
static void backward_line(const pooling_run *r, int64_t n, int64_t h, const space *s)
{
    const pooling *p = r->p;
    float *dx = line_out(r, n, h, s);
    int lines = covering_lines(r, n, h, s);
    gb_window_sums sums = {.dy = s->tap, .index = s->index, .scale = s->scale};
    for (int64_t w = 0; w < p->image.dim[3]; w++) {
        float *to = dx + w * p->image.stride[3];
        sums.windows = covering_windows(p, w, lines, s);
        if (r->step->at.in[1])
            p->loops->max_pool_grad(&sums, (int32_t)(h * p->image.dim[3] + w), p->image.dim[1], to);
        else
            p->loops->average_pool_grad(&sums, p->image.dim[1], to);
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
    free(p->over);
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

static void find_whole(pooling *p)
{
    const gb_window *v = &p->window;
    p->first_whole = p->result.dim[3];
    p->last_whole = -1;
    for (int64_t o = 0; o < p->result.dim[3]; o++) {
        if (under(v, 1, o, 0) < 0 || under(v, 1, o, v->kernel[1] - 1) >= p->image.dim[3]) continue;
        if (p->last_whole < 0) p->first_whole = o;
        p->last_whole = o;
    }
}

static bool find_over(pooling *p)
{
    int64_t w = p->image.dim[3], kw = p->window.kernel[1];
    p->over = calloc((size_t)(w * kw) + 1, sizeof *p->over);
    for (int64_t i = 0; p->over && i < w * kw; i++)
        p->over[i] = output_over(&p->window, 1, i / kw, i % kw, p->result.dim[3]);
    return p->over != NULL;
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
    if (!p || !count_inside(p, 0) || !count_inside(p, 1) || (is_gradient(step) && !find_over(p))) {
        free_state(p);
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "close other programs",
                       "no memory to prepare a pool");
    }
    find_whole(p);
    const gb_operand *o = &step->out[0];
    p->lines = o->dim[1] > 0 && o->dim[3] > 0 ? o->dim[0] * o->dim[2] : 0;
    p->lines_a_task = 1 + TASK_ELEMENTS / (p->image.dim[1] * p->image.dim[3] + 1);
    size_t bytes;
    space_of(p, NULL, &bytes);
    *out = (gb_cpu_step){
        .run = run, .free = free_state, .state = p, .step = step, .worker_bytes = bytes};
    return GB_OK;
}
