/* Convolution backward to the weights: dw[o][tap][c] sums dy[pixel][o] * x[pixel + tap][c] over all
 * output pixels. Both operands are read where they lie: a tile has output channels for rows and
 * input channels for columns, and its k runs over the pixels that see the tap.
 *
 * Where the channels do not fill vectors (first layers), x is first laid out with all taps of a
 * pixel side by side. The batch is cut into parts with a dw of their own, summed in order at the
 * end. */
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/kernels/halo.h"
#include "backends/cpu/kernels/impl.h"

enum {
    TASKS_WANTED = 64,
    PARTS_BYTES = 8 << 20,  /* of all dw together */
    BLOCK_ROWS = 48,        /* output channels of a task */
    BLOCK_PIXELS = 128,     /* so that both operands of a block stay in L1 */
    BLOCK_PIXELS_MANY = 512 /* where dw is large, to read and write it less often */
};

typedef struct {
    gb_conv_dims d;
    gb_real type; /* of dy and x */
    bool accumulate, unfold;
    int64_t cg, og, filter;      /* channels of a group; floats of a filter */
    int64_t blocks, rows, parts; /* blocks of output channels a group; parts of the batch */
    int64_t images, band;        /* of a block of pixels */
    int64_t unfolded;            /* floats of a pixel with all its taps */
    int64_t unfolded_floats, pitch;
    int64_t copy_floats[2], worker_floats; /* of 16-bit floats: blocks of dy and x in f32 */
} weights;

/* Rows of x that `rows` rows of y read. */
static int64_t rows_read(const gb_conv_dims *d, int64_t rows)
{
    return (rows - 1) * d->stride_h + (d->kh - 1) * d->dilation_h + 1;
}

static weights weights_of(const gb_contraction *problem)
{
    const gb_conv_dims *d = &problem->conv;
    weights w = {.d = *d, .type = problem->a_type, .accumulate = problem->accumulate};
    w.cg = d->c / d->groups;
    w.og = d->o / d->groups;
    w.filter = d->kh * d->kw * w.cg;
    w.unfold = w.cg % LANES != 0;
    w.blocks = w.unfold ? 1 : ceil_div(w.og, BLOCK_ROWS);
    w.rows = ceil_div(w.og, w.blocks);
    int64_t bytes = d->o * w.filter * 4, pixels = d->oh * d->ow;
    w.parts = min_of(TASKS_WANTED / (w.blocks * d->groups), PARTS_BYTES / bytes);
    w.parts = min_of(w.parts, d->n);
    if (w.parts < 1) w.parts = 1;
    int64_t want =
        w.rows * w.filter * 4 > 128 << 10 && !w.unfold ? BLOCK_PIXELS_MANY : BLOCK_PIXELS;
    w.images = pixels > 0 && pixels < want ? want / pixels : 1;
    w.band = w.images > 1 ? d->oh : ceil_div(want, d->ow > 0 ? d->ow : 1);
    if (w.unfold) {
        w.unfolded = round_up(w.filter, LANES);
        w.unfolded_floats = round_up(w.images * w.band * d->ow * w.unfolded + LANES, 16);
        w.pitch = (d->ow - 1) * d->stride_w + (d->kw - 1) * d->dilation_w + 1;
        w.worker_floats =
            w.unfolded_floats + round_up(rows_read(d, w.band) * w.pitch * d->c + LANES, 16);
    }
    if (w.type != GB_REAL_F32) {
        int64_t rows = w.images > 1 ? d->h : min_of(rows_read(d, w.band), d->h);
        w.copy_floats[0] = round_up(w.images * w.band * d->ow * w.rows, 16);
        w.copy_floats[1] = w.unfold ? 0 : round_up(w.images * rows * d->w * w.cg, 16);
        w.worker_floats += w.copy_floats[0] + w.copy_floats[1];
    }
    return w;
}

typedef struct {
    const weights *w;
    const gb_contraction_args *args;
    float *parts, *unfolded;
} job;

/* A block of pixels: rows row0 .. row0 + rows of images image0 .. image0 + images. */
typedef struct {
    int64_t image0, images, row0, rows;
} block;

/* dy or x of a group: where it lies, or a block of it in f32. */
typedef struct {
    const float *p; /* pixel (image0, row0, 0) */
    int64_t image0, row0;
    int64_t image, row, pixel; /* floats from one to the next */
} view;

typedef struct {
    const weights *w;
    view dy, x; /* dy: from output channel o0 on */
    const gb_contraction_args *args;
    int64_t group;
    float *dw;      /* of the group */
    int64_t o0, o1; /* output channels within the group */
    bool accumulate;
} target;

static const float *view_at(const view *v, int64_t image, int64_t y, int64_t x)
{
    return v->p + (image - v->image0) * v->image + (y - v->row0) * v->row + x * v->pixel;
}

/* Output positions 0 .. outs that read inside the image through a tap at `offset`. */
static void seen_by(int64_t offset, int64_t stride, int64_t size, int64_t outs, int64_t *from,
                    int64_t *until)
{
    *from = offset < 0 ? ceil_div(-offset, stride) : 0;
    *until = size - offset > 0 ? min_of(outs, ceil_div(size - offset, stride)) : 0;
    if (*from > *until) *from = *until;
}

/* One strip of columns of dw, for all output channels of the target. */
static void strip(const target *t, const float *dy, const float *b, const tile_steps *steps,
                  int64_t col, int64_t cols)
{
    int64_t count = t->o1 - t->o0, tiles = ceil_div(count, TILE_ROWS), o = t->o0;
    for (int64_t i = 0; i < tiles; i++) {
        int64_t until = t->o0 + count * (i + 1) / tiles;
        float *c[TILE_ROWS];
        for (int64_t r = 0; r < until - o; r++) c[r] = t->dw + (o + r) * t->w->filter;
        tile_out out = {c, col, (int)(until - o), (int)cols, t->accumulate};
        LEVEL(gb_tile_columns)(&out, dy + o - t->o0, b, steps);
        o = until;
    }
}

static void add_block_in_place(const target *t, const block *k)
{
    const gb_conv_dims *d = &t->w->d;
    for (int64_t tap = 0; tap < d->kh * d->kw; tap++) {
        int64_t fy = tap / d->kw * d->dilation_h - d->pad_top;
        int64_t fx = tap % d->kw * d->dilation_w - d->pad_left, y0, y1, x0, x1;
        seen_by(fy, d->stride_h, d->h, d->oh, &y0, &y1);
        seen_by(fx, d->stride_w, d->w, d->ow, &x0, &x1);
        if (y0 < k->row0) y0 = k->row0;
        y1 = min_of(y1, k->row0 + k->rows);
        tile_steps steps = {{k->images, y1 > y0 ? y1 - y0 : 0, x1 - x0},
                            {t->dy.image, t->dy.row, t->dy.pixel},
                            {t->x.image, d->stride_h * t->x.row, d->stride_w * t->x.pixel}};
        const float *dy = t->dy.p, *x = t->x.p;
        if (steps.count[0] * steps.count[1] * steps.count[2] > 0) {
            dy = view_at(&t->dy, k->image0, y0, x0);
            x = view_at(&t->x, k->image0, y0 * d->stride_h + fy, x0 * d->stride_w + fx);
        }
        for (int64_t c = 0; c < t->w->cg; c += TILE_COLS)
            strip(t, dy, x + c, &steps, tap * t->w->cg + c, min_of(TILE_COLS, t->w->cg - c));
    }
}

/* Copies `run` floats and up to LANES - 1 more: what is too much is overwritten by
 * what comes next, or lies in columns that no one looks at. */
static void copy_run(float *to, const float *from, int64_t run)
{
    for (int64_t i = 0; i < run; i += LANES) store(to + i, load(from + i));
}

/* The pixels of one row of dy, each with all its taps of x side by side. */
static float *unfold_row(const weights *w, const float *rows, float *to)
{
    const gb_conv_dims *d = &w->d;
    bool joined = d->dilation_w == 1 && d->groups == 1;
    int64_t runs = joined ? 1 : d->kw, run = joined ? d->kw * w->cg : w->cg;
    for (int64_t x = 0; x < d->ow; x++, to += w->unfolded) {
        const float *pixel = rows + x * d->stride_w * d->c;
        float *at = to;
        for (int64_t fy = 0; fy < d->kh; fy++)
            for (int64_t r = 0; r < runs; r++, at += run)
                copy_run(at, pixel + (fy * d->dilation_h * w->pitch + r * d->dilation_w) * d->c,
                         run);
    }
    return to;
}

/* x: where the image begins, all groups of it. */
static void unfold_image(const target *t, const block *k, int64_t x, float *copy, float *to)
{
    const gb_conv_dims *d = &t->w->d;
    halo g = {d->h, d->w, d->c, t->w->type, -d->pad_left, t->w->pitch};
    int64_t rows = rows_read(d, k->rows), row = t->w->pitch * d->c;
    for (int64_t y = 0; y < rows; y++)
        halo_copy_row(&g, copy + y * row, t->args->b, x, k->row0 * d->stride_h - d->pad_top + y);
    for (int64_t y = 0; y < k->rows; y++)
        to = unfold_row(t->w, copy + y * d->stride_h * row + t->group * t->w->cg, to);
}

static void add_block_unfolded(const target *t, const block *k, float *scratch)
{
    const gb_conv_dims *d = &t->w->d;
    float *copy = scratch + t->w->unfolded_floats;
    int64_t pixels = k->rows * d->ow, image = d->h * d->w * d->c;
    for (int64_t i = 0; i < k->images; i++)
        unfold_image(t, k, (k->image0 + i) * image, copy, scratch + i * pixels * t->w->unfolded);
    tile_steps steps = {{1, 1, k->images * pixels}, {0, 0, t->dy.pixel}, {0, 0, t->w->unfolded}};
    const float *dy = steps.count[2] ? view_at(&t->dy, k->image0, k->row0, 0) : t->dy.p;
    for (int64_t c = 0; c < t->w->filter; c += TILE_COLS)
        strip(t, dy, scratch + c, &steps, c, min_of(TILE_COLS, t->w->filter - c));
}

static void view_in_place(const weights *w, target *t)
{
    const gb_conv_dims *d = &w->d;
    t->dy = (view){
        t->args->a + t->group * w->og + t->o0, 0, 0, d->oh * d->ow * d->o, d->ow * d->o, d->o};
    t->x = (view){t->args->b + t->group * w->cg, 0, 0, d->h * d->w * d->c, d->w * d->c, d->c};
}

/* Rows [v->row0, v->row0 + rows) of `images` images of `channels` each, of which the view has those
 * from `first` on. */
static void copy_block(gb_real type, const view *v, float *to, const float *from, int64_t images,
                       int64_t height, int64_t rows, int64_t channels, int64_t first)
{
    int64_t width = v->row / v->pixel;
    for (int64_t i = 0; i < images; i++)
        for (int64_t y = 0; y < rows; y++) {
            int64_t at = ((v->image0 + i) * height + v->row0 + y) * width * channels + first;
            float *row = to + i * v->image + y * v->row;
            if (v->pixel == channels) {
                real_read(type, row, from, at, width * channels);
                continue;
            }
            for (int64_t x = 0; x < width; x++)
                real_read(type, row + x * v->pixel, from, at + x * channels, v->pixel);
        }
}

static void view_copies(const weights *w, const block *k, float *copies, target *t)
{
    const gb_conv_dims *d = &w->d;
    int64_t channels = t->o1 - t->o0, first = k->row0 * d->stride_h - d->pad_top;
    t->dy =
        (view){copies, k->image0, k->row0, k->rows * d->ow * channels, d->ow * channels, channels};
    copy_block(w->type, &t->dy, copies, t->args->a, k->images, d->oh, k->rows, d->o,
               t->group * w->og + t->o0);
    if (w->unfold) return;
    int64_t until = min_of(first + rows_read(d, k->rows), d->h);
    first = first < 0 ? 0 : first;
    int64_t rows = until > first ? until - first : 0;
    copies += w->copy_floats[0];
    t->x = (view){copies, k->image0, first, rows * d->w * w->cg, d->w * w->cg, w->cg};
    copy_block(w->type, &t->x, copies, t->args->b, k->images, d->h, rows, d->c, t->group * w->cg);
}

static void finish(const job *j, int64_t row0, int64_t rows, int64_t col0, int64_t cols)
{
    int64_t ldc = j->w->filter;
    gb_epilogue_apply(&j->args->epilogue, j->args->c + row0 * ldc + col0, row0, rows, col0, cols,
                      ldc);
}

static void do_part(void *ctx, int64_t task, int worker)
{
    const job *j = ctx;
    const weights *w = j->w;
    int64_t b = task % w->blocks, g = task / w->blocks % w->d.groups;
    int64_t part = task / (w->blocks * w->d.groups), first = w->d.n * part / w->parts;
    int64_t last = w->d.n * (part + 1) / w->parts;
    target t = {.w = w, .args = j->args, .group = g};
    float *own = j->unfolded + worker * w->worker_floats;
    t.dw =
        (w->parts > 1 ? j->parts + part * w->d.o * w->filter : j->args->c) + g * w->og * w->filter;
    t.o0 = w->og * b / w->blocks;
    t.o1 = w->og * (b + 1) / w->blocks;
    t.accumulate = w->parts == 1 && w->accumulate;
    if (w->type == GB_REAL_F32) view_in_place(w, &t);
    block k = {.image0 = first};
    do { /* once at least: an empty sum is zero */
        k.images = min_of(w->images, last - k.image0);
        k.rows = min_of(w->band, w->d.oh - k.row0);
        if (w->type != GB_REAL_F32) view_copies(w, &k, own, &t);
        if (w->unfold)
            add_block_unfolded(&t, &k, own + w->copy_floats[0] + w->copy_floats[1]);
        else
            add_block_in_place(&t, &k);
        t.accumulate = true;
        k.row0 += w->band;
        if (k.row0 < w->d.oh) continue;
        k.row0 = 0;
        k.image0 += w->images;
    } while (k.image0 < last);
    if (w->parts == 1) finish(j, g * w->og + t.o0, t.o1 - t.o0, 0, w->filter);
}

static void sum_row(void *ctx, int64_t row, int worker)
{
    (void)worker;
    const job *j = ctx;
    const weights *w = j->w;
    float *c = j->args->c + row * w->filter;
    const float *from = j->parts + row * w->filter;
    for (int64_t i = 0; i < w->filter; i++) c[i] = (w->accumulate ? c[i] : 0) + from[i];
    for (int64_t p = 1; p < w->parts; p++) {
        from += w->d.o * w->filter;
        for (int64_t i = 0; i < w->filter; i++) c[i] += from[i];
    }
    finish(j, row, 1, 0, w->filter);
}

static bool can(const gb_cpu *cpu, const gb_contraction *problem)
{
    (void)cpu;
    return problem->kind == GB_CONV_WEIGHTS;
}

static gb_status prepare(gb_contraction_plan *plan, gb_error *err)
{
    (void)err;
    weights w = weights_of(&plan->problem);
    int64_t floats = w.parts > 1 ? w.parts * w.d.o * w.filter : 0;
    floats = round_up(floats, 16) + gb_pool_workers(plan->cpu.pool) * w.worker_floats;
    plan->scratch_bytes = (size_t)floats * sizeof(float);
    return GB_OK;
}

static void run(const gb_contraction_plan *plan, const gb_contraction_args *args)
{
    weights w = weights_of(&plan->problem);
    job j = {&w, args, args->scratch, NULL};
    j.unfolded = j.parts + (w.parts > 1 ? round_up(w.parts * w.d.o * w.filter, 16) : 0);
    gb_pool_run(plan->cpu.pool, w.parts * w.blocks * w.d.groups, do_part, &j);
    if (w.parts > 1) gb_pool_run(plan->cpu.pool, w.d.o, sum_row, &j);
}

const gb_contraction_impl LEVEL(gb_contraction_weights) = {
    .name = "direct", .small = GB_SMALL_FACTORS, .can = can, .prepare = prepare, .run = run};
