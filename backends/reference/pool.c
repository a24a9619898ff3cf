/* Pools. Axis order is N, C, H, W. */
#include <math.h>

#include "backends/reference/reference.h"

/* The input pixel under element (kh, kw) of the window of output pixel (oh, ow). */
static int64_t row_of(const gb_window *v, int64_t oh, int64_t kh)
{
    return oh * v->stride[0] + kh * v->dilation[0] - v->pad[0];
}

static int64_t column_of(const gb_window *v, int64_t ow, int64_t kw)
{
    return ow * v->stride[1] + kw * v->dilation[1] - v->pad[1];
}

static bool inside(int64_t i, int64_t from, int64_t to)
{
    return i >= from && i < to;
}

gb_status gb_ref_maxpool(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    const gb_window *v = &s->u.conv;
    const gb_operand *x = &s->in[0], *y = &s->out[0];
    int64_t at[4] = {0}, n = gb_ref_count(y->dim, 4);
    for (int64_t i = 0; i < n; i++, gb_ref_next(at, y->dim, 4)) {
        double best = -INFINITY;
        int64_t index = -1;
        for (int64_t kh = 0; kh < v->kernel[0]; kh++)
            for (int64_t kw = 0; kw < v->kernel[1]; kw++) {
                int64_t h = row_of(v, at[2], kh), w = column_of(v, at[3], kw);
                if (!inside(h, 0, x->dim[2]) || !inside(w, 0, x->dim[3])) continue;
                double e = gb_ref_load(p, x, (int64_t[]){at[0], at[1], h, w});
                if (index >= 0 && (isnan(best) || !(e > best || isnan(e)))) continue;
                best = e;
                index = h * x->dim[3] + w;
            }
        gb_ref_store(p, y, at, best);
        if (s->n_out > 1 && s->out[1].buffer >= 0) gb_ref_store(p, &s->out[1], at, (double)index);
    }
    return GB_OK;
}

/* dx[n, c, h, w] sums over the windows that cover it, in order of (kh, kw). */
typedef double share(const gb_backend_program *p, const gb_step *s, const int64_t *out,
                     int64_t pixel);

static double sum_over_windows(const gb_backend_program *p, const gb_step *s, const int64_t *at,
                               share *take)
{
    const gb_window *v = &s->u.conv;
    const gb_operand *dy = &s->in[0], *dx = &s->out[0];
    double sum = 0;
    for (int64_t kh = 0; kh < v->kernel[0]; kh++)
        for (int64_t kw = 0; kw < v->kernel[1]; kw++) {
            int64_t h = at[2] - row_of(v, 0, kh), w = at[3] - column_of(v, 0, kw);
            if (h < 0 || w < 0 || h % v->stride[0] || w % v->stride[1]) continue;
            int64_t out[4] = {at[0], at[1], h / v->stride[0], w / v->stride[1]};
            if (out[2] < dy->dim[2] && out[3] < dy->dim[3])
                sum += take(p, s, out, at[2] * dx->dim[3] + at[3]);
        }
    return sum;
}

static void pool_grad(const gb_backend_program *p, const gb_step *s, share *take)
{
    const gb_operand *dx = &s->out[0];
    int64_t at[4] = {0}, n = gb_ref_count(dx->dim, 4);
    for (int64_t i = 0; i < n; i++, gb_ref_next(at, dx->dim, 4))
        gb_ref_store(p, dx, at, sum_over_windows(p, s, at, take));
}

static double max_share(const gb_backend_program *p, const gb_step *s, const int64_t *out,
                        int64_t pixel)
{
    return gb_ref_load(p, &s->in[1], out) == (double)pixel ? gb_ref_load(p, &s->in[0], out) : 0;
}

gb_status gb_ref_maxpool_grad(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    pool_grad(p, s, max_share);
    return GB_OK;
}

/* What an average divides by: the elements inside the input, or inside the padded input. */
static double divisor(const gb_window *v, const gb_operand *image, const int64_t *out)
{
    int64_t before_h = v->count_pad ? v->pad[0] : 0, after_h = v->count_pad ? v->pad_end[0] : 0;
    int64_t before_w = v->count_pad ? v->pad[1] : 0, after_w = v->count_pad ? v->pad_end[1] : 0;
    int64_t rows = 0, columns = 0;
    for (int64_t kh = 0; kh < v->kernel[0]; kh++)
        rows += inside(row_of(v, out[2], kh), -before_h, image->dim[2] + after_h);
    for (int64_t kw = 0; kw < v->kernel[1]; kw++)
        columns += inside(column_of(v, out[3], kw), -before_w, image->dim[3] + after_w);
    return (double)(rows * columns);
}

gb_status gb_ref_avgpool(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    const gb_window *v = &s->u.conv;
    const gb_operand *x = &s->in[0], *y = &s->out[0];
    int64_t at[4] = {0}, n = gb_ref_count(y->dim, 4);
    for (int64_t i = 0; i < n; i++, gb_ref_next(at, y->dim, 4)) {
        double sum = 0;
        for (int64_t kh = 0; kh < v->kernel[0]; kh++)
            for (int64_t kw = 0; kw < v->kernel[1]; kw++) {
                int64_t h = row_of(v, at[2], kh), w = column_of(v, at[3], kw);
                if (inside(h, 0, x->dim[2]) && inside(w, 0, x->dim[3]))
                    sum += gb_ref_load(p, x, (int64_t[]){at[0], at[1], h, w});
            }
        gb_ref_store(p, y, at, sum / divisor(v, x, at));
    }
    return GB_OK;
}

static double average_share(const gb_backend_program *p, const gb_step *s, const int64_t *out,
                            int64_t pixel)
{
    return gb_ref_load(p, &s->in[0], out) / divisor(&s->u.conv, &s->out[0], out);
}

gb_status gb_ref_avgpool_grad(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    pool_grad(p, s, average_share);
    return GB_OK;
}
