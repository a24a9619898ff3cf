/* Every contraction as plain loops over one row of c: correct for all parameters, fast for none.
 * What the tests compare the others with is written apart from this (in float64). */
#include "backends/cpu/kernels/impl.h"

typedef struct {
    const gb_contraction *problem;
    const gb_contraction_args *args;
} job;

static void gemm_row(const gb_gemm_dims *d, const gb_contraction_args *x, int64_t row, float *c)
{
    int64_t b = row / d->m, b0 = b / d->batch[1], b1 = b % d->batch[1];
    const float *a = x->a + b0 * d->a_batch[0] + b1 * d->a_batch[1] + row % d->m * d->a_row;
    const float *bm = x->b + b0 * d->b_batch[0] + b1 * d->b_batch[1];
    for (int64_t k = 0; k < d->k; k++)
        for (int64_t j = 0; j < d->n; j++)
            c[j] += a[k * d->a_col] * bm[k * d->b_row + j * d->b_col];
}

/* c[0 .. o) of one output pixel. */
static void forward_row(const gb_conv_dims *d, const gb_contraction_args *x, int64_t row, float *c)
{
    int64_t ox = row % d->ow, oy = row / d->ow % d->oh, n = row / (d->ow * d->oh);
    int64_t cg = d->c / d->groups, og = d->o / d->groups;
    for (int64_t fy = 0; fy < d->kh; fy++)
        for (int64_t fx = 0; fx < d->kw; fx++) {
            int64_t iy = oy * d->stride_h + fy * d->dilation_h - d->pad_top;
            int64_t ix = ox * d->stride_w + fx * d->dilation_w - d->pad_left;
            if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w) continue;
            const float *pixel = x->a + ((n * d->h + iy) * d->w + ix) * d->c;
            for (int64_t o = 0; o < d->o; o++)
                for (int64_t i = 0; i < cg; i++)
                    c[o] += pixel[o / og * cg + i] * x->b[((o * d->kh + fy) * d->kw + fx) * cg + i];
        }
}

/* The output position that reads input position `in` through tap `f`, or -1. */
static int64_t reader(int64_t in, int64_t f, int64_t stride, int64_t dilation, int64_t pad,
                      int64_t outs)
{
    int64_t at = in + pad - f * dilation;
    return at >= 0 && at % stride == 0 && at / stride < outs ? at / stride : -1;
}

/* c[0 .. c) of one input pixel. */
static void data_row(const gb_conv_dims *d, const gb_contraction_args *x, int64_t row, float *c)
{
    int64_t ix = row % d->w, iy = row / d->w % d->h, n = row / (d->w * d->h);
    int64_t cg = d->c / d->groups, og = d->o / d->groups;
    for (int64_t fy = 0; fy < d->kh; fy++)
        for (int64_t fx = 0; fx < d->kw; fx++) {
            int64_t oy = reader(iy, fy, d->stride_h, d->dilation_h, d->pad_top, d->oh);
            int64_t ox = reader(ix, fx, d->stride_w, d->dilation_w, d->pad_left, d->ow);
            if (oy < 0 || ox < 0) continue;
            const float *pixel = x->a + ((n * d->oh + oy) * d->ow + ox) * d->o;
            for (int64_t o = 0; o < d->o; o++)
                for (int64_t i = 0; i < cg; i++)
                    c[o / og * cg + i] += pixel[o] * x->b[((o * d->kh + fy) * d->kw + fx) * cg + i];
        }
}

/* c[0 .. kh * kw * c / groups) of one output channel. */
static void weights_row(const gb_conv_dims *d, const gb_contraction_args *x, int64_t row, float *c)
{
    int64_t cg = d->c / d->groups, group = row / (d->o / d->groups);
    for (int64_t p = 0; p < d->n * d->oh * d->ow; p++)
        for (int64_t tap = 0; tap < d->kh * d->kw; tap++) {
            int64_t ox = p % d->ow, oy = p / d->ow % d->oh, n = p / (d->ow * d->oh);
            int64_t iy = oy * d->stride_h + tap / d->kw * d->dilation_h - d->pad_top;
            int64_t ix = ox * d->stride_w + tap % d->kw * d->dilation_w - d->pad_left;
            if (iy < 0 || iy >= d->h || ix < 0 || ix >= d->w) continue;
            const float *pixel = x->b + ((n * d->h + iy) * d->w + ix) * d->c + group * cg;
            for (int64_t i = 0; i < cg; i++) c[tap * cg + i] += x->a[p * d->o + row] * pixel[i];
        }
}

static float *row_of_c(const gb_contraction *p, float *c, int64_t row, int64_t cols)
{
    if (p->kind != GB_GEMM) return c + row * cols;
    int64_t b = row / p->gemm.m;
    return c + b / p->gemm.batch[1] * p->gemm.c_batch[0] +
           b % p->gemm.batch[1] * p->gemm.c_batch[1] + row % p->gemm.m * p->gemm.c_row;
}

static void do_row(void *ctx, int64_t row, int worker)
{
    (void)worker;
    const job *j = ctx;
    const gb_contraction *p = j->problem;
    int64_t cols = gb_contraction_extent_of(p).cols;
    float *c = row_of_c(p, j->args->c, row, cols);
    if (!p->accumulate)
        for (int64_t i = 0; i < cols; i++) c[i] = 0;
    switch (p->kind) {
    case GB_GEMM:
        gemm_row(&p->gemm, j->args, row, c);
        break;
    case GB_CONV_FORWARD:
        forward_row(&p->conv, j->args, row, c);
        break;
    case GB_CONV_DATA:
        data_row(&p->conv, j->args, row, c);
        break;
    case GB_CONV_WEIGHTS:
        weights_row(&p->conv, j->args, row, c);
        break;
    }
    gb_epilogue_apply(&j->args->epilogue, c, row, 1, 0, cols, cols);
}

static bool can(const gb_cpu *cpu, const gb_contraction *problem)
{
    (void)cpu;
    (void)problem;
    return true;
}

static gb_status prepare(gb_contraction_plan *plan, gb_error *err)
{
    (void)err;
    plan->scratch_bytes = 0;
    return GB_OK;
}

static void run(const gb_contraction_plan *plan, const gb_contraction_args *args)
{
    job j = {&plan->problem, args};
    gb_pool_run(plan->cpu.pool, gb_contraction_extent_of(&plan->problem).rows, do_row, &j);
}

const gb_contraction_impl gb_contraction_plain = {
    .name = "plain", .can = can, .prepare = prepare, .run = run};
