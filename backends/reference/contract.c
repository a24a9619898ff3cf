/* Contractions: matrix products and convolutions, on dense row-major copies of their operands. */
#include <stdlib.h>

#include "backends/reference/reference.h"

/* Writes a contraction's result through the epilogue, if there is one. */
static gb_status finish(const gb_backend_program *p, const gb_step *s, const double *result,
                        gb_error *err)
{
    const gb_operand *o = &s->out[0];
    if (!s->expr) {
        gb_ref_scatter(p, o, result);
        return GB_OK;
    }
    double in[GB_MAX_STEP_IN], out[GB_MAX_STEP_OUT], *scratch = gb_ref_alloc(s->expr->n_nodes, err);
    if (!scratch) return GB_OUT_OF_MEMORY;
    int64_t coord[GB_MAX_RANK] = {0}, n = gb_ref_count(o->dim, o->rank);
    for (int64_t i = 0; i < n; i++, gb_ref_next(coord, o->dim, o->rank)) {
        in[0] = result[i];
        for (int k = 2; k < s->n_in; k++) in[k - 1] = gb_ref_load(p, &s->in[k], coord);
        gb_expr_eval(s->expr, in, coord, p->scalar, scratch, out);
        for (int k = 0; k < s->n_out; k++) gb_ref_store(p, &s->out[k], coord, out[k]);
    }
    free(scratch);
    return GB_OK;
}

/* Loads both operands, computes, finishes: the frame of every contraction. */
typedef void contraction(const gb_step *s, const double *a, const double *b, double *result);

static gb_status contract(const gb_backend_program *p, const gb_step *s, contraction *compute,
                          gb_error *err)
{
    double *a = gb_ref_dense(p, &s->in[0], err);
    double *b = a ? gb_ref_dense(p, &s->in[1], err) : NULL;
    double *c = b ? gb_ref_alloc(gb_ref_count(s->out[0].dim, s->out[0].rank), err) : NULL;
    gb_status status = GB_OUT_OF_MEMORY;
    if (c) {
        compute(s, a, b, c);
        status = finish(p, s, c, err);
    }
    free(a);
    free(b);
    free(c);
    return status;
}

/* --- matrix product --- */

static void matmul(const gb_step *s, const double *a, const double *b, double *c)
{
    int r = s->out[0].rank;
    int64_t m = s->out[0].dim[r - 2], n = s->out[0].dim[r - 1], k = s->in[0].dim[r - 1];
    int64_t batch = gb_ref_count(s->out[0].dim, r - 2);
    for (int64_t t = 0; t < batch; t++, a += m * k, b += k * n, c += m * n)
        for (int64_t i = 0; i < m; i++)
            for (int64_t l = 0; l < k; l++)
                for (int64_t j = 0; j < n; j++) c[i * n + j] += a[i * k + l] * b[l * n + j];
}

gb_status gb_ref_matmul(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    return contract(p, s, matmul, err);
}

/* --- convolutions --- */

/* A convolution pairs each output pixel with the input pixels under its window. The three kinds
 * differ in which of (x, w, y) is summed into; each visits rows of the pairing:
 *     y[n, o, oh, :] , w[o, c, kh, kw] , x[n, group of o * C + c, ih, iw0 + stride * :]
 * for ow in [from, to), where the row lies inside the input. */
typedef struct conv_row {
    int64_t y, w, x;      /* indices of the first elements of the row */
    int64_t n, x_step;    /* pixels, and the input's step from one to the next */
} conv_row;

typedef void visit_row(const conv_row *r, double *y, double *w, double *x);

static void visit_output_rows(const gb_window *v, const gb_operand *x, const gb_operand *w,
                              const gb_operand *y, const int64_t at[5], conv_row r,
                              visit_row *visit, double *yd, double *wd, double *xd)
{
    int64_t n = at[0], o = at[1], c = at[2], kh = at[3], kw = at[4];
    int64_t height = x->dim[2], width = x->dim[3], in_group = w->dim[1];
    int64_t channel = o / (y->dim[1] / v->groups) * in_group + c;
    int64_t left = kw * v->dilation[1] - v->pad[1]; /* input column of output column 0 */
    int64_t from = left < 0 ? (-left + v->stride[1] - 1) / v->stride[1] : 0;
    int64_t to = left < width ? (width - left + v->stride[1] - 1) / v->stride[1] : 0;
    if (to > y->dim[3]) to = y->dim[3];
    r.n = to - from;
    r.x_step = v->stride[1];
    for (int64_t oh = 0; oh < y->dim[2] && r.n > 0; oh++) {
        int64_t ih = oh * v->stride[0] + kh * v->dilation[0] - v->pad[0];
        if (ih < 0 || ih >= height) continue;
        r.y = ((n * y->dim[1] + o) * y->dim[2] + oh) * y->dim[3] + from;
        r.x = ((n * x->dim[1] + channel) * height + ih) * width + left + from * v->stride[1];
        visit(&r, yd, wd, xd);
    }
}

static void visit_conv(const gb_window *v, const gb_operand *x, const gb_operand *w,
                       const gb_operand *y, visit_row *visit, double *yd, double *wd, double *xd)
{
    int64_t dim[5] = {y->dim[0], w->dim[0], w->dim[1], w->dim[2], w->dim[3]}, at[5] = {0};
    if (!gb_ref_count(dim, 5)) return;
    do {
        conv_row r = {.w = (((at[1] * dim[2]) + at[2]) * dim[3] + at[3]) * dim[4] + at[4]};
        visit_output_rows(v, x, w, y, at, r, visit, yd, wd, xd);
    } while (gb_ref_next(at, dim, 5));
}

static void add_to_y(const conv_row *r, double *y, double *w, double *x)
{
    for (int64_t i = 0; i < r->n; i++) y[r->y + i] += w[r->w] * x[r->x + i * r->x_step];
}

static void add_to_x(const conv_row *r, double *y, double *w, double *x)
{
    for (int64_t i = 0; i < r->n; i++) x[r->x + i * r->x_step] += w[r->w] * y[r->y + i];
}

static void add_to_w(const conv_row *r, double *y, double *w, double *x)
{
    for (int64_t i = 0; i < r->n; i++) w[r->w] += y[r->y + i] * x[r->x + i * r->x_step];
}

static void conv(const gb_step *s, const double *x, const double *w, double *y)
{
    visit_conv(&s->u.conv, &s->in[0], &s->in[1], &s->out[0], add_to_y, y, (double *)w, (double *)x);
}

static void conv_input(const gb_step *s, const double *dy, const double *w, double *dx)
{
    visit_conv(&s->u.conv, &s->out[0], &s->in[1], &s->in[0], add_to_x, (double *)dy, (double *)w,
               dx);
}

static void conv_filter(const gb_step *s, const double *x, const double *dy, double *dw)
{
    visit_conv(&s->u.conv, &s->in[0], &s->out[0], &s->in[1], add_to_w, (double *)dy, dw,
               (double *)x);
}

gb_status gb_ref_conv(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    return contract(p, s, conv, err);
}

gb_status gb_ref_conv_input(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    return contract(p, s, conv_input, err);
}

gb_status gb_ref_conv_filter(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    return contract(p, s, conv_filter, err);
}
