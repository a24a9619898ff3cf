/* Memory rates of fused chains, reductions and pools on the CPU, against a triad of the same run.
 *
 * usage: bench_cpu_loops [ISA [THREADS]]. About three seconds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "core/base/arena.h"

extern const gb_backend gb_cpu_backend;
static const gb_backend *const b = &gb_cpu_backend;

enum { N = 64, C = 64, H = 32, W = 32, MAX_BUFFERS = 12 };

typedef struct {
    gb_backend_device *dev;
    gb_arena *arena;
    double triad;
} bench;

typedef struct {
    gb_step step;
    gb_plan_buffer buffer[MAX_BUFFERS];
    gb_backend_buffer *data[MAX_BUFFERS];
    int n;
    double bytes;
    gb_xb xb;
} chain;

/* An operand over NHWC images: whole, or one value a channel. */
static gb_operand operand(bench *s, chain *c, bool whole)
{
    gb_operand o = {.buffer = c->n, .rank = 4, .dim = {N, C, H, W}};
    const int64_t image[4] = {C * H * W, 1, W * C, C}, channel[4] = {0, 1, 0, 0};
    memcpy(o.stride, whole ? image : channel, sizeof image);
    uint64_t bytes = 4ull * (whole ? N * C * H * W : C);
    float *v = malloc(bytes);
    for (uint64_t i = 0; i < bytes / 4; i++) v[i] = (float)(i % 13) - 6;
    if (b->buffer_create(s->dev, bytes, &c->data[c->n], NULL)) exit(1);
    b->buffer_write(s->dev, c->data[c->n++], 0, bytes, v, NULL);
    free(v);
    c->bytes += (double)bytes;
    return o;
}

static void begin(chain *c, gb_step_kind kind)
{
    *c = (chain){.step = {.kind = kind,
                          .path = "bench",
                          .phase = "forward",
                          .rank = 4,
                          .dim = {N, C, H, W},
                          .scale = {1, 1, 1}}};
    c->step.scratch.buffer = -1;
}

static gb_x in(bench *s, chain *c, bool whole)
{
    c->step.in[c->step.n_in] = operand(s, c, whole);
    return gb_x_input(&c->xb, c->step.n_in++, 'f');
}

/* NULL: a new output; else in place of an input. */
static void out(bench *s, chain *c, int place)
{
    c->step.out[c->step.n_out++] = place < 0 ? operand(s, c, true) : c->step.in[place];
    if (place >= 0) c->bytes += 4.0 * N * C * H * W;
}

static void finish(bench *s, chain *c, const char *name, const gb_x *y, int n)
{
    gb_backend_program *p;
    gb_error err;
    c->step.expr = gb_xb_finish(&c->xb, c->step.n_in, y, n, gb_arena_alloc_hook, s->arena);
    gb_plan plan = {.n_steps = 1,
                    .step = &c->step,
                    .n_buffers = c->n,
                    .buffer = c->buffer,
                    .scalars_buffer = -1};
    if (b->program_create(s->dev, &plan, &p, &err)) {
        fprintf(stderr, "%s: %s\n", name, err.message);
        exit(1);
    }
    b->program_bind(p, c->data, &err);
    double best = 1e9;
    gb_span span;
    for (int i = 0; i < 12; i++) {
        b->program_time(p, &span, &err);
        if (span.seconds < best) best = span.seconds;
    }
    double rate = c->bytes / best * 1e-9;
    printf("%-34s %7.2f ms %7.1f GB/s  %.2f of triad\n", name, best * 1e3, rate, rate / s->triad);
    b->program_destroy(p);
    for (int i = 0; i < c->n; i++) b->buffer_destroy(s->dev, c->data[i]);
    gb_xb_free(&c->xb);
}

#define X2(p, a, c2) gb_x2(&c.xb, GB_P_##p, a, c2)
#define K(v) gb_x_const(&c.xb, v)

static gb_x relu(chain *c, gb_x x)
{
    gb_x zero = gb_x_const(&c->xb, 0);
    return gb_x3(&c->xb, GB_P_SELECT, gb_x2(&c->xb, GB_P_LT, x, zero), zero, x);
}

static void activations(bench *s)
{
    chain c;
    begin(&c, GB_STEP_POINTWISE);
    gb_x x = in(s, &c, true), y = relu(&c, x);
    out(s, &c, -1);
    finish(s, &c, "relu", &y, 1);

    begin(&c, GB_STEP_POINTWISE);
    x = in(s, &c, true);
    gb_x bias = in(s, &c, false);
    y = relu(&c, X2(ADD, x, bias));
    out(s, &c, -1);
    finish(s, &c, "bias + relu", &y, 1);

    begin(&c, GB_STEP_POINTWISE);
    gb_x dy = in(s, &c, true);
    x = in(s, &c, true);
    y = gb_x3(&c.xb, GB_P_SELECT, X2(LE, x, K(0)), K(0), dy);
    out(s, &c, -1);
    finish(s, &c, "relu gradient", &y, 1);

    begin(&c, GB_STEP_POINTWISE);
    x = in(s, &c, true);
    y = X2(MUL, X2(MUL, x, K(0.5)),
           X2(ADD, K(1), gb_x1(&c.xb, GB_P_ERF, X2(MUL, x, K(0.7071067811865476)))));
    out(s, &c, -1);
    finish(s, &c, "gelu (erf)", &y, 1);

    static const gb_prim functions[] = {GB_P_EXP, GB_P_LOG, GB_P_TANH, GB_P_SIN, GB_P_POW};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        begin(&c, GB_STEP_POINTWISE);
        x = in(s, &c, true);
        y = functions[i] == GB_P_POW ? X2(POW, x, K(1.7)) : gb_x1(&c.xb, functions[i], x);
        out(s, &c, -1);
        finish(s, &c, gb_prims[functions[i]].name, &y, 1);
    }
}

static gb_x normalized(chain *c, gb_x x, gb_x mean, gb_x inverse)
{
    return gb_x2(&c->xb, GB_P_MUL, gb_x2(&c->xb, GB_P_SUB, x, mean), inverse);
}

static void batch_norm(bench *s)
{
    for (int with_relu = 0; with_relu < 2; with_relu++) {
        chain c;
        begin(&c, GB_STEP_POINTWISE);
        gb_x x = in(s, &c, true), p[4];
        for (int k = 0; k < 4; k++) p[k] = in(s, &c, false);
        gb_x y = X2(ADD, X2(MUL, normalized(&c, x, p[0], p[1]), p[2]), p[3]);
        if (with_relu) y = relu(&c, y);
        out(s, &c, -1);
        finish(s, &c, with_relu ? "batch norm + relu" : "batch norm", &y, 1);
    }
    chain c;
    begin(&c, GB_STEP_POINTWISE); /* inverse (q - E[q] - h E[q h]) with q = dy scale, dy masked */
    gb_x x = in(s, &c, true), dy = in(s, &c, true), y = in(s, &c, true), p[5];
    for (int k = 0; k < 5; k++) p[k] = in(s, &c, false);
    gb_x q = X2(MUL, gb_x3(&c.xb, GB_P_SELECT, X2(LE, y, K(0)), K(0), dy), p[2]);
    gb_x h = normalized(&c, x, p[0], p[1]);
    gb_x d = X2(MUL, p[1], X2(SUB, X2(SUB, q, p[3]), X2(MUL, h, p[4])));
    out(s, &c, -1);
    finish(s, &c, "batch norm gradient + relu's", &d, 1);
}

static void optimizers(bench *s)
{
    chain c;
    begin(&c, GB_STEP_POINTWISE);
    gb_x p = in(s, &c, true), m = in(s, &c, true), g = in(s, &c, true);
    gb_x d = X2(ADD, g, X2(MUL, p, K(5e-4))), now = X2(ADD, X2(MUL, m, K(0.9)), d);
    gb_x y[3] = {X2(SUB, p, X2(MUL, K(0.1), now)), now};
    out(s, &c, 0);
    out(s, &c, 1);
    finish(s, &c, "momentum, weight decay", y, 2);

    begin(&c, GB_STEP_POINTWISE);
    p = in(s, &c, true), m = in(s, &c, true), g = in(s, &c, true);
    gb_x v = in(s, &c, true);
    y[1] = X2(ADD, X2(MUL, m, K(0.9)), X2(MUL, g, K(0.1)));
    y[2] = X2(ADD, X2(MUL, v, K(0.999)), X2(MUL, X2(MUL, g, g), K(0.001)));
    gb_x root = X2(MUL, gb_x1(&c.xb, GB_P_SQRT, y[2]), K(1.5));
    y[0] = X2(SUB, p, X2(MUL, K(0.001), X2(DIV, y[1], X2(ADD, root, K(1e-8)))));
    out(s, &c, 0);
    out(s, &c, 1);
    out(s, &c, 3);
    finish(s, &c, "adam", y, 3);
}

static void reductions(bench *s)
{
    static const struct {
        const char *name;
        int how; /* 0: sums, 1: moments, 2: the pair of batch norm's gradient */
        bool channels;
    } rows[] = {{"sum by channel", 0, true},
                {"sum of all", 0, false},
                {"moments by channel", 1, true},
                {"sums of dy, dy h by channel", 2, true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        chain c;
        begin(&c, GB_STEP_REDUCE);
        /* kept axes come first: C, N, H, W */
        const int64_t dim[4] = {C, N, H, W}, stride[4] = {1, C * H * W, W * C, C};
        gb_x x = in(s, &c, true), dy = rows[i].how == 2 ? in(s, &c, true) : x;
        gb_x mean = rows[i].how == 2 ? in(s, &c, false) : x, y[2] = {x};
        if (rows[i].how == 2) {
            y[0] = X2(MUL, dy, X2(SUB, x, mean));
            y[1] = dy;
        }
        memcpy(c.step.dim, dim, sizeof dim);
        for (int k = 0; k < c.step.n_in; k++) {
            memcpy(c.step.in[k].dim, dim, sizeof dim);
            if (k < 2)
                memcpy(c.step.in[k].stride, stride, sizeof stride);
            else
                memcpy(c.step.in[k].stride, (int64_t[4]){1, 0, 0, 0}, sizeof stride);
        }
        c.step.n_kept = rows[i].channels;
        c.step.n_red = rows[i].how == 2 ? 2 : 1;
        c.step.red[0] = rows[i].how == 1 ? GB_MOMENTS : GB_SUM;
        c.step.red[1] = GB_SUM;
        for (int k = 0; k < (rows[i].how ? 2 : 1); k++) {
            gb_operand o = operand(s, &c, false);
            o.rank = c.step.n_kept;
            o.dim[0] = C;
            o.stride[0] = 1;
            c.step.out[c.step.n_out++] = o;
        }
        finish(s, &c, rows[i].name, y, c.step.n_red);
    }
}

/* An operand over images of half the height and width. */
static gb_operand halved(bench *s, chain *c)
{
    gb_operand o = operand(s, c, true);
    o.dim[2] = H / 2, o.dim[3] = W / 2;
    o.stride[0] = C * H * W / 4, o.stride[2] = W / 2 * C;
    c->bytes -= 3.0 * N * C * H * W; /* it was counted whole */
    return o;
}

/* Windows of 2 x 2, of stride 2. */
static void pools(bench *s)
{
    static const struct {
        const char *name;
        gb_step_kind kind;
    } rows[] = {{"max pool", GB_STEP_MAXPOOL},
                {"max pool gradient", GB_STEP_MAXPOOL_GRAD},
                {"average pool", GB_STEP_AVGPOOL},
                {"average pool gradient", GB_STEP_AVGPOOL_GRAD}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        chain c;
        begin(&c, rows[i].kind);
        bool back = i % 2, places = i < 2;
        c.step.u.conv =
            (gb_window){.kernel = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .groups = 1};
        c.step.in[c.step.n_in++] = back ? halved(s, &c) : operand(s, &c, true);
        if (back && places) c.step.in[c.step.n_in++] = halved(s, &c);
        c.step.out[c.step.n_out++] = back ? operand(s, &c, true) : halved(s, &c);
        if (!back && places) c.step.out[c.step.n_out++] = halved(s, &c);
        finish(s, &c, rows[i].name, NULL, 0);
    }
}

int main(int argc, char **argv)
{
    gb_backend_options o = {.isa = argc > 1 ? argv[1] : NULL,
                            .threads = argc > 2 ? atoi(argv[2]) : 0};
    bench s = {.arena = gb_arena_create()};
    gb_error err;
    gb_peak peak;
    if (!s.arena || b->open(&o, 0, &s.dev, &err) || b->peak(s.dev, &peak, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    s.triad = peak.gb_per_s;
    printf("peak %.0f GFLOP/s, triad %.1f GB/s\n", peak.gflops, peak.gb_per_s);
    activations(&s);
    batch_norm(&s);
    optimizers(&s);
    reductions(&s);
    pools(&s);
    b->peak(s.dev, &peak, &err);
    printf("triad again %.1f GB/s\n", peak.gb_per_s);
    b->close(s.dev);
    gb_arena_destroy(s.arena);
    return 0;
}
