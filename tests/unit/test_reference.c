/* The reference against loops written here from the definitions in plan.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/plan_case.h"

extern const gb_backend gb_reference_backend;

static double *zeros(const gb_case *c, int64_t n)
{
    double *p = gb_arena_alloc(c->arena, (size_t)(n > 0 ? n : 1) * sizeof *p);
    assert_non_null(p);
    return p;
}

static int64_t volume(const gb_operand *o)
{
    int64_t n = 1;
    for (int i = 0; i < o->rank; i++) n *= o->dim[i];
    return n;
}

/* Index of [a, b, c, d] in a row-major array of o's dims. */
static int64_t at4(const gb_operand *o, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return ((a * o->dim[1] + b) * o->dim[2] + c) * o->dim[3] + d;
}

/* --- what each kind should give; NULL: not covered here --- */

static void expect_pointwise(const gb_case *c, double **out)
{
    const gb_step *s = &c->step;
    if (s->n_in != 3 || s->n_out != 1 || strstr(c->name, "where") || strstr(c->name, "elect")) return;
    double *a = gb_case_values(c, &s->in[0]), *b = gb_case_values(c, &s->in[1]);
    double *d = gb_case_values(c, &s->in[2]), *y = zeros(c, volume(&s->out[0]));
    for (int64_t i = 0; i < volume(&s->out[0]); i++) y[i] = a[i] * b[i] + d[i];
    out[0] = y;
}

static double combined(gb_combine how, const double *v, int64_t n)
{
    double sum = 0, product = 1, high = -INFINITY, low = INFINITY;
    bool nan = false;
    for (int64_t i = 0; i < n; i++) {
        sum += v[i];
        product *= v[i];
        nan |= isnan(v[i]);
        high = fmax(high, v[i]);
        low = fmin(low, v[i]);
    }
    if (nan) return NAN;
    return how == GB_SUM ? sum : how == GB_PROD ? product : how == GB_MAX ? high : low;
}

static void expect_reduce(const gb_case *c, double **out)
{
    const gb_step *s = &c->step;
    if (s->n_in != 1) return;
    int64_t kept = 1, n = 1;
    for (int i = 0; i < s->rank; i++) *(i < s->n_kept ? &kept : &n) *= s->dim[i];
    const double *v = gb_case_values(c, &s->in[0]);
    for (int k = 0; k < s->n_out; k++) out[k] = zeros(c, kept);
    for (int64_t i = 0; i < kept; i++, v += n) {
        if (s->red[0] != GB_MOMENTS) {
            out[0][i] = combined(s->red[0], v, n) * s->scale[0];
            continue;
        }
        double mean = combined(GB_SUM, v, n) / (double)n, squares = 0;
        for (int64_t j = 0; j < n; j++) squares += v[j] * v[j];
        out[0][i] = mean;
        out[1][i] = squares / (double)n - mean * mean;
    }
}

static void expect_argreduce(const gb_case *c, double **out)
{
    const gb_step *s = &c->step;
    int64_t n = s->dim[s->rank - 1], kept = volume(&s->out[0]);
    const double *v = gb_case_values(c, &s->in[0]);
    out[0] = zeros(c, kept);
    for (int64_t i = 0; i < kept; i++, v += n) {
        double extreme = s->u.arg.min ? -combined(GB_MAX, v, n) : combined(GB_MAX, v, n);
        if (s->u.arg.min) extreme = combined(GB_MIN, v, n);
        int64_t first = -1, last = -1;
        for (int64_t j = 0; j < n; j++)
            if (v[j] == extreme || (isnan(extreme) && isnan(v[j]))) {
                if (first < 0) first = j;
                last = j;
            }
        out[0][i] = (double)(s->u.arg.last ? last : first);
    }
}

/* max(0, y + bias) where the case has the epilogue of cases.c; bias follows the given axis. */
static void finish(const gb_case *c, double *y)
{
    const gb_step *s = &c->step;
    if (!s->expr) return;
    const double *bias = gb_case_values(c, &s->in[2]);
    for (int64_t i = 0; i < volume(&s->out[0]); i++) y[i] = fmax(0, y[i] + bias[i]);
}

static void expect_matmul(const gb_case *c, double **out)
{
    const gb_step *s = &c->step;
    int r = s->out[0].rank;
    int64_t m = s->out[0].dim[r - 2], n = s->out[0].dim[r - 1], depth = s->in[0].dim[r - 1];
    const double *a = gb_case_values(c, &s->in[0]), *b = gb_case_values(c, &s->in[1]);
    double *y = out[0] = zeros(c, volume(&s->out[0]));
    for (int64_t i = 0; i < volume(&s->out[0]); i++) {
        int64_t batch = i / (m * n), row = i / n % m, column = i % n;
        for (int64_t k = 0; k < depth; k++)
            y[i] += a[(batch * m + row) * depth + k] * b[(batch * depth + k) * n + column];
    }
    finish(c, y);
}

/* All three kinds sum over the pairs (output pixel, filter element) that meet inside the image. */
static void expect_conv(const gb_case *c, double **out)
{
    const gb_step *s = &c->step;
    const gb_window *v = &s->u.conv;
    bool forward = s->kind == GB_STEP_CONV, input = s->kind == GB_STEP_CONV_INPUT;
    const gb_operand *x = input ? &s->out[0] : &s->in[0];
    const gb_operand *y = forward ? &s->out[0] : input ? &s->in[0] : &s->in[1];
    const gb_operand *w = forward || input ? &s->in[1] : &s->out[0];
    double *result = out[0] = zeros(c, volume(&s->out[0]));
    double *xd = input ? result : gb_case_values(c, x);
    double *yd = forward ? result : gb_case_values(c, y);
    double *wd = forward || input ? gb_case_values(c, w) : result;
    int64_t group_out = w->dim[0] / v->groups, group_in = w->dim[1];
    for (int64_t n = 0; n < x->dim[0]; n++)
    for (int64_t o = 0; o < w->dim[0]; o++)
    for (int64_t oh = 0; oh < y->dim[2]; oh++)
    for (int64_t ow = 0; ow < y->dim[3]; ow++)
    for (int64_t i = 0; i < group_in; i++)
    for (int64_t kh = 0; kh < w->dim[2]; kh++)
    for (int64_t kw = 0; kw < w->dim[3]; kw++) {
        int64_t h = oh * v->stride[0] - v->pad[0] + kh * v->dilation[0];
        int64_t l = ow * v->stride[1] - v->pad[1] + kw * v->dilation[1];
        if (h < 0 || h >= x->dim[2] || l < 0 || l >= x->dim[3]) continue;
        double *px = &xd[at4(x, n, o / group_out * group_in + i, h, l)];
        double *py = &yd[at4(y, n, o, oh, ow)], *pw = &wd[at4(w, o, i, kh, kw)];
        if (forward) *py += *px * *pw;
        else if (input) *px += *py * *pw;
        else *pw += *px * *py;
    }
    finish(c, result);
}

/* Elements of a window along one axis: [*from, *to) in steps of the dilation, cut to the image. */
static bool pixel(const gb_window *v, int axis, int64_t o, int64_t k, int64_t size, int64_t *at)
{
    *at = o * v->stride[axis] - v->pad[axis] + k * v->dilation[axis];
    return *at >= 0 && *at < size;
}

static double average_of(const gb_window *v, const gb_operand *x, int64_t oh, int64_t ow)
{
    int n = 0;
    for (int64_t kh = 0; kh < v->kernel[0]; kh++)
        for (int64_t kw = 0; kw < v->kernel[1]; kw++) {
            int64_t h = oh * v->stride[0] + kh * v->dilation[0]; /* in the padded image */
            int64_t w = ow * v->stride[1] + kw * v->dilation[1];
            int64_t eh = h - v->pad[0], ew = w - v->pad[1];
            bool in_image = eh >= 0 && ew >= 0 && eh < x->dim[2] && ew < x->dim[3];
            bool in_padded = h < v->pad[0] + x->dim[2] + v->pad_end[0] &&
                             w < v->pad[1] + x->dim[3] + v->pad_end[1];
            n += v->count_pad ? in_padded : in_image;
        }
    return 1.0 / n;
}

static void expect_pool(const gb_case *c, double **out)
{
    const gb_step *s = &c->step;
    const gb_window *v = &s->u.conv;
    bool max = s->kind == GB_STEP_MAXPOOL, max_grad = s->kind == GB_STEP_MAXPOOL_GRAD;
    bool average = s->kind == GB_STEP_AVGPOOL, gradient = !max && !average;
    const gb_operand *x = gradient ? &s->out[0] : &s->in[0];
    const gb_operand *y = gradient ? &s->in[0] : &s->out[0];
    double *in = gb_case_values(c, &s->in[0]), *result = out[0] = zeros(c, volume(&s->out[0]));
    double *index = max_grad ? gb_case_values(c, &s->in[1]) : NULL;
    if (max && s->n_out > 1) index = out[1] = zeros(c, volume(y));
    for (int64_t n = 0; n < y->dim[0]; n++)
    for (int64_t ch = 0; ch < y->dim[1]; ch++)
    for (int64_t oh = 0; oh < y->dim[2]; oh++)
    for (int64_t ow = 0; ow < y->dim[3]; ow++) {
        int64_t o = at4(y, n, ch, oh, ow), best = -1, h, w;
        double share = max || max_grad ? 0 : average_of(v, x, oh, ow);
        for (int64_t kh = 0; kh < v->kernel[0]; kh++)
        for (int64_t kw = 0; kw < v->kernel[1]; kw++) {
            bool inside = pixel(v, 0, oh, kh, x->dim[2], &h);
            if (!pixel(v, 1, ow, kw, x->dim[3], &w) || !inside) continue;
            int64_t i = at4(x, n, ch, h, w), plane = at4(x, n, ch, 0, 0);
            if (average) result[o] += in[i] * share;
            if (max && (best < 0 || (!isnan(in[plane + best]) && !(in[i] <= in[plane + best]))))
                best = h * x->dim[3] + w;
            if (max_grad && index[o] == (double)(h * x->dim[3] + w)) result[i] += in[o];
            if (gradient && !max_grad) result[i] += in[o] * share;
        }
        if (max) result[o] = best < 0 ? -INFINITY : in[at4(x, n, ch, 0, 0) + best];
        if (max && index) index[o] = (double)best;
    }
}

static void expect_gather(const gb_case *c, double **out)
{
    const gb_step *s = &c->step;
    bool gradient = s->kind == GB_STEP_GATHER_GRAD;
    const gb_operand *data = gradient ? &s->out[0] : &s->in[0], *y = gradient ? &s->in[0] : &s->out[0];
    const double *in = gb_case_values(c, &s->in[0]), *index = gb_case_values(c, &s->in[1]);
    double *result = out[0] = zeros(c, volume(&s->out[0]));
    int64_t rows = data->dim[1], inner = data->dim[2], n = y->dim[1];
    for (int64_t i = 0; i < volume(y); i++) {
        int64_t outer = i / (n * inner), row = (int64_t)index[i / inner % n];
        row = row < 0 ? row + rows : row;
        bool valid = row >= 0 && row < rows;
        int64_t at = (outer * rows + row) * inner + i % inner;
        if (gradient && valid) result[at] += in[i];
        if (!gradient) result[i] = valid ? in[at] : data->storage == GB_S_I32 ? 0 : NAN;
    }
}

static void expected(const gb_case *c, double **out)
{
    switch (c->step.kind) {
    case GB_STEP_POINTWISE: expect_pointwise(c, out); break;
    case GB_STEP_REDUCE: expect_reduce(c, out); break;
    case GB_STEP_ARGREDUCE: expect_argreduce(c, out); break;
    case GB_STEP_MATMUL: expect_matmul(c, out); break;
    case GB_STEP_CONV: case GB_STEP_CONV_INPUT: case GB_STEP_CONV_FILTER: expect_conv(c, out); break;
    case GB_STEP_GATHER: case GB_STEP_GATHER_GRAD: expect_gather(c, out); break;
    default: expect_pool(c, out); break;
    }
}

static void every_step_kind_gives_what_its_definition_says(void **state)
{
    (void)state;
    gb_error err;
    gb_backend_device *dev;
    const gb_backend *b = &gb_reference_backend;
    assert_int_equal(b->open(NULL, 0, &dev, &err), GB_OK);
    int covered[GB_STEP_KINDS] = {0}, at[2] = {0};
    for (gb_case c; gb_case_next(&c, at); gb_case_free(&c)) {
        gb_outcome got, want = {0};
        gb_case_run(&c, b, dev, &got);
        assert_false(got.rejected);
        expected(&c, want.out);
        memcpy(want.count, got.count, sizeof want.count);
        covered[c.step.kind] += want.out[0] != NULL;
        gb_case_compare(&c, &got, &want);
    }
    for (int k = 0; k < GB_STEP_KINDS; k++) assert_true(covered[k] >= 6);
    b->close(dev);
}

/* The reference does not round to float between steps, nor when it is read. */
static void values_are_kept_unrounded(void **state)
{
    (void)state;
    gb_error err;
    gb_backend_device *dev;
    gb_backend_buffer *buf;
    const gb_backend *b = &gb_reference_backend;
    gb_operand where = {.offset = 8, .storage = GB_S_F32, .rank = 2, .dim = {2, 3}, .stride = {1, 2}};
    double v[6] = {1.0 / 3, 2.0 / 3, 1e-300, 1e300, -1.0 / 7, 3}, back[6];
    float rounded[6];
    assert_int_equal(b->open(NULL, 0, &dev, &err), GB_OK);
    assert_int_equal(b->buffer_create(dev, 64, &buf, &err), GB_OK);
    assert_int_equal(b->write_f64(dev, buf, &where, v, &err), GB_OK);
    assert_int_equal(b->read_f64(dev, buf, &where, back, &err), GB_OK);
    assert_memory_equal(v, back, sizeof v);
    assert_int_equal(b->buffer_read(dev, buf, 8, 24, rounded, &err), GB_OK);
    assert_true(rounded[0] == (float)v[0] && rounded[1] == (float)v[3]);
    b->buffer_destroy(dev, buf);
    b->close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_kind_gives_what_its_definition_says),
        cmocka_unit_test(values_are_kept_unrounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
