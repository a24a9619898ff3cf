/* Direct convolution forward, and backward to the data.
 *
 * Both sweep a grid of positions over a source image: position (gy, gx) is the sum over taps of
 * source[gy * step + ty][gx * step + tx] times the tap's matrix. Forward, the grid is y and the
 * taps are the filter. Backward with stride s, the pixels of dx fall into s * s phases, each a
 * grid with step 1 over dy and with the taps that reach it.
 *
 * A task copies its part of the source with a halo of zeros around it, so that taps that are
 * neighbours in a row are one contiguous run for each position, and no im2col is needed. */
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/kernels/halo.h"
#include "backends/cpu/kernels/impl.h"
#include "backends/cpu/kernels/transpose.h"

/* Sizes that keep the weights in use and the source of a task in a 1 MiB L2 together. */
#define WEIGHTS_BYTES (320 << 10)
#define SOURCE_BYTES (192 << 10)
enum { TASKS_WANTED = 64, PIXELS_A_TASK_MIN = 64, PIXELS_A_TASK_MAX = 1024 };

typedef struct {
    int64_t y, x;   /* where the tap reads, relative to its position */
    int64_t filter; /* index fy * kw + fx */
} tap;

typedef struct {
    int64_t h, w;         /* grid */
    int64_t out_y, out_x; /* position (0, 0) in the output */
    int64_t first_tap, taps;
    int64_t first_segment, segments, run; /* runs of k of the rows kernel */
    int64_t weights;                      /* where its packed weights start, in floats */
} phase;

typedef struct {
    bool backward;
    gb_real type, c_type; /* of a and b; of c */
    int64_t n, groups;
    int64_t src_h, src_w, src_c, dst_h, dst_w, dst_c;
    int64_t step_h, step_w, out_step_h, out_step_w;
    int64_t kernel;         /* kh * kw */
    int64_t grid_h, grid_w; /* of the largest phase */
    int64_t y0, y1, x0, x1; /* bounds of the taps */
    bool halo;              /* the source is copied, else read in place */
    int64_t pitch;          /* pixels in a row of the copy */
    int64_t ahead;        /* floats from a pixel to that of the next tile; 0: it needs no asking */
    int64_t images, band; /* of a task */
    int64_t image_groups, bands, column_blocks, panels_a_block, panels; /* panels: of a group */
    int64_t copy_floats, worker_floats, weights_floats; /* a worker: a copy, and results to round */
    int64_t phases;
    phase *phase;
    tap *tap;
    int64_t *segment; /* offsets into the copy */
} sweep;

/* ---- planning ---- */

static void add_taps(sweep *s, phase *p, const gb_conv_dims *d)
{
    p->first_tap = p == s->phase ? 0 : p[-1].first_tap + p[-1].taps;
    tap *t = s->tap + p->first_tap;
    for (int64_t i = 0; i < s->kernel; i++) {
        int64_t f = s->backward ? s->kernel - 1 - i : i; /* so that x grows along a row */
        int64_t fy = f / d->kw * d->dilation_h, fx = f % d->kw * d->dilation_w;
        int64_t y = fy - d->pad_top, x = fx - d->pad_left;
        if (s->backward) {
            y = p->out_y - y;
            x = p->out_x - x;
            if (y % d->stride_h || x % d->stride_w) continue;
            y /= d->stride_h;
            x /= d->stride_w;
        }
        *t++ = (tap){y, x, f};
    }
    p->taps = t - (s->tap + p->first_tap);
}

static void find_bounds(sweep *s)
{
    bool any = false;
    for (int64_t i = 0; i < s->phases; i++)
        for (int64_t j = 0; j < s->phase[i].taps; j++) {
            tap t = s->tap[s->phase[i].first_tap + j];
            s->y0 = !any || t.y < s->y0 ? t.y : s->y0;
            s->y1 = !any || t.y > s->y1 ? t.y : s->y1;
            s->x0 = !any || t.x < s->x0 ? t.x : s->x0;
            s->x1 = !any || t.x > s->x1 ? t.x : s->x1;
            any = true;
        }
    s->halo = s->y0 < 0 || s->x0 < 0 || (s->grid_h - 1) * s->step_h + s->y1 >= s->src_h ||
              (s->grid_w - 1) * s->step_w + s->x1 >= s->src_w;
    if (!s->halo) s->y0 = s->x0 = 0;
    if (!s->halo && s->type != GB_REAL_F32) { /* a copy in f32 of what is read in place else */
        s->halo = true;
        s->x1 = s->src_w - 1 - (s->grid_w - 1) * s->step_w;
    }
    s->pitch = s->halo ? (s->grid_w - 1) * s->step_w + s->x1 - s->x0 + 1 : s->src_w;
}

/* Joins taps that are neighbours in a row, if all runs come out equally long. */
static void make_segments(sweep *s, phase *p)
{
    p->first_segment = p == s->phase ? 0 : p[-1].first_segment + p[-1].segments;
    const tap *t = s->tap + p->first_tap;
    int64_t width = 1;
    while (width < p->taps && t[width].y == t[0].y && t[width].x == t[0].x + width) width++;
    bool equal = s->groups == 1 && p->taps % width == 0;
    for (int64_t i = 0; equal && i < p->taps; i++) {
        const tap *lead = &t[i / width * width];
        equal = t[i].y == lead->y && t[i].x == lead->x + i % width;
    }
    if (!equal) width = 1;
    p->segments = p->taps / width;
    p->run = width * (s->src_c / s->groups);
    for (int64_t i = 0; i < p->segments; i++)
        s->segment[p->first_segment + i] =
            ((t[i * width].y - s->y0) * s->pitch + t[i * width].x - s->x0) * s->src_c;
}

static int64_t copy_rows(const sweep *s)
{
    return (s->band - 1) * s->step_h + s->y1 - s->y0 + 1;
}

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* Cuts the work into tasks, by shape alone. */
static void make_tasks(sweep *s)
{
    int64_t image = s->grid_h * s->grid_w, row_bytes = s->pitch * s->src_c * 4;
    int64_t want = clamp(s->n * image / TASKS_WANTED, PIXELS_A_TASK_MIN, PIXELS_A_TASK_MAX);
    int64_t rows = clamp(SOURCE_BYTES / (row_bytes * s->step_h), 4, INT32_MAX);
    s->band = clamp(ceil_div(want, s->grid_w), 1, s->grid_h);
    s->band = min_of(s->band, rows);
    s->bands = ceil_div(s->grid_h, s->band);
    s->band = ceil_div(s->grid_h, s->bands);
    s->images = 1;
    if (s->bands == 1)
        s->images = clamp(min_of(ceil_div(want, image), SOURCE_BYTES / (row_bytes * copy_rows(s))),
                          1, s->n);
    s->image_groups = ceil_div(s->n, s->images);
    int64_t widest = 1;
    for (int64_t i = 0; i < s->phases; i++)
        if (s->phase[i].segments * s->phase[i].run > widest)
            widest = s->phase[i].segments * s->phase[i].run;
    s->panels = ceil_div(s->dst_c / s->groups, TILE_COLS);
    int64_t units = s->image_groups * s->bands;
    s->column_blocks = units >= TASKS_WANTED / 4 ? 1 : min_of(s->panels, TASKS_WANTED / 4 / units);
    s->panels_a_block =
        clamp(WEIGHTS_BYTES / (widest * TILE_COLS * 4), 1, ceil_div(s->panels, s->column_blocks));
    /* Of single pixels nothing is read twice, and the rows of a tile lie too close for the
     * processor to foresee the next one. */
    if (!s->halo && s->kernel == 1) s->ahead = TILE_ROWS * s->step_w * s->src_c;
    int64_t at = 0;
    for (int64_t i = 0; i < s->phases; i++) {
        s->phase[i].weights = at;
        at += s->groups * s->panels * TILE_COLS * s->phase[i].segments * s->phase[i].run;
    }
    s->weights_floats = at;
    s->copy_floats =
        s->halo ? round_up(s->images * copy_rows(s) * s->pitch * s->src_c, 16) + 16 : 0;
    s->worker_floats = s->copy_floats;
    if (s->c_type != GB_REAL_F32)
        s->worker_floats += round_up(
            s->images * min_of(s->band * s->out_step_h, s->dst_h) * s->dst_w * s->dst_c, 16);
}

static sweep *sweep_alloc(int64_t phases, int64_t taps)
{
    size_t bytes = sizeof(sweep) + (size_t)phases * sizeof(phase) +
                   (size_t)taps * (sizeof(tap) + sizeof(int64_t));
    sweep *s = calloc(1, bytes);
    if (!s) return NULL;
    s->phases = phases;
    s->phase = (phase *)(s + 1);
    s->tap = (tap *)(s->phase + phases);
    s->segment = (int64_t *)(s->tap + taps);
    return s;
}

static sweep *sweep_of(const gb_contraction *problem)
{
    const gb_conv_dims *d = &problem->conv;
    bool back = problem->kind == GB_CONV_DATA;
    sweep *s = sweep_alloc(back ? d->stride_h * d->stride_w : 1, d->kh * d->kw);
    if (!s) return NULL;
    s->backward = back;
    s->type = problem->a_type, s->c_type = problem->c_type;
    s->n = d->n;
    s->groups = d->groups;
    s->kernel = d->kh * d->kw;
    s->src_h = back ? d->oh : d->h, s->src_w = back ? d->ow : d->w, s->src_c = back ? d->o : d->c;
    s->dst_h = back ? d->h : d->oh, s->dst_w = back ? d->w : d->ow, s->dst_c = back ? d->c : d->o;
    s->step_h = back ? 1 : d->stride_h, s->step_w = back ? 1 : d->stride_w;
    s->out_step_h = back ? d->stride_h : 1, s->out_step_w = back ? d->stride_w : 1;
    s->grid_h = ceil_div(s->dst_h, s->out_step_h), s->grid_w = ceil_div(s->dst_w, s->out_step_w);
    for (int64_t i = 0; i < s->phases; i++) {
        phase *p = &s->phase[i];
        p->out_y = i / s->out_step_w, p->out_x = i % s->out_step_w;
        /* a stride larger than the image leaves phases without pixels */
        p->h = p->out_y < s->dst_h ? ceil_div(s->dst_h - p->out_y, s->out_step_h) : 0;
        p->w = p->out_x < s->dst_w ? ceil_div(s->dst_w - p->out_x, s->out_step_w) : 0;
        add_taps(s, p, d);
    }
    find_bounds(s);
    for (int64_t i = 0; i < s->phases; i++) make_segments(s, &s->phase[i]);
    return s;
}

/* ---- running ---- */

typedef struct {
    const sweep *s;
    const gb_contraction_args *args;
    bool accumulate;
    float *weights, *copies;
} job;

/* What one task works on. */
typedef struct {
    const sweep *s;
    const job *j;
    int64_t image0, images, row0, rows; /* rows of the grid */
    const float *src;                   /* first image's row row0 * step + y0 */
    int64_t src_image;                  /* floats from image to image */
    float *c;                           /* element c0 of the result, or of what is rounded to it */
    int64_t c0;
    int64_t panel0, panel1;
} unit;

/* Packs one panel of one group of one phase: [tap][k][TILE_COLS]. */
static void pack_panel(void *ctx, int64_t task, int worker)
{
    (void)worker;
    const job *j = ctx;
    const sweep *s = j->s;
    int64_t panel = task % s->panels, group = task / s->panels % s->groups;
    const phase *p = &s->phase[task / (s->panels * s->groups)];
    int64_t ks = s->src_c / s->groups, ns = s->dst_c / s->groups, n0 = panel * TILE_COLS;
    int64_t cols = min_of(TILE_COLS, ns - n0), depth = p->taps * ks;
    float *to = j->weights + p->weights + (group * s->panels + panel) * depth * TILE_COLS;
    if (cols < TILE_COLS) memset(to, 0, (size_t)(depth * TILE_COLS) * sizeof *to);
    for (int64_t t = 0; t < p->taps; t++, to += ks * TILE_COLS) {
        int64_t filter = s->tap[p->first_tap + t].filter;
        if (s->backward) { /* weights[k = o][filter][n = c] */
            int64_t w = (group * ks * s->kernel + filter) * ns + n0;
            for (int64_t k = 0; k < ks; k++)
                real_read(s->type, to + k * TILE_COLS, j->args->b, w + k * s->kernel * ns, cols);
            continue;
        }
        int64_t w =
            ((group * ns + n0) * s->kernel + filter) * ks; /* weights[n = o][filter][k = c] */
        transpose_real(s->type, to, TILE_COLS, j->args->b, w, s->kernel * ks, cols, ks);
    }
}

static void find_source(unit *u, int worker)
{
    const sweep *s = u->s;
    int64_t image = s->src_h * s->src_w * s->src_c, y = u->row0 * s->step_h + s->y0;
    int64_t at = u->image0 * image;
    if (!s->halo) {
        u->src = u->j->args->a + at + y * s->src_w * s->src_c;
        u->src_image = image;
        return;
    }
    int64_t rows = (u->rows - 1) * s->step_h + s->y1 - s->y0 + 1, row = s->pitch * s->src_c;
    float *to = u->j->copies + worker * s->worker_floats;
    halo g = {s->src_h, s->src_w, s->src_c, s->type, s->x0, s->pitch};
    u->src = to;
    u->src_image = rows * row;
    for (int64_t i = 0; i < u->images; i++, at += image)
        for (int64_t r = 0; r < rows; r++, to += row)
            halo_copy_row(&g, to, u->j->args->a, at, y + r);
}

static void find_result(unit *u, int worker)
{
    const sweep *s = u->s;
    u->c = u->j->args->c;
    if (s->c_type == GB_REAL_F32) return;
    u->c = u->j->copies + worker * s->worker_floats + s->copy_floats;
    u->c0 = (u->image0 * s->dst_h + u->row0 * s->out_step_h) * s->dst_w * s->dst_c;
}

/* The pixels of one tile: where they read, where they write. */
typedef struct {
    const float *a[TILE_ROWS];
    float *c[TILE_ROWS];
} pixels;

/* Walks the pixels of a unit in the order of memory. */
typedef struct {
    int64_t image, y, x; /* y relative to the unit's first row */
    const float *a;
    float *c;
} position;

static void start_row(const unit *u, const phase *p, int64_t group, position *at)
{
    const sweep *s = u->s;
    int64_t y = p->out_y + (u->row0 + at->y) * s->out_step_h, image = u->image0 + at->image;
    at->x = 0;
    at->a = u->src + at->image * u->src_image + at->y * s->step_h * s->pitch * s->src_c +
            group * (s->src_c / s->groups);
    at->c = u->c + ((image * s->dst_h + y) * s->dst_w + p->out_x) * s->dst_c +
            group * (s->dst_c / s->groups) - u->c0;
}

static void take_pixels(const unit *u, const phase *p, int64_t rows, int64_t group, position *at,
                        pixels *px, int count)
{
    int64_t a_step = u->s->step_w * u->s->src_c, c_step = u->s->out_step_w * u->s->dst_c;
    for (int i = 0; i < count; i++) {
        px->a[i] = at->a;
        px->c[i] = at->c;
        at->a += a_step;
        at->c += c_step;
        if (++at->x < p->w) continue;
        if (++at->y == rows) {
            at->y = 0;
            if (++at->image == u->images) return;
        }
        start_row(u, p, group, at);
    }
}

/* Some rows of the next tile, a few with each panel. */
static void ask_for_next(const sweep *s, const phase *p, const pixels *px, int64_t from, int64_t to)
{
    for (int64_t r = from; r < to; r++)
        for (int64_t k = 0; k < p->run; k += 16) __builtin_prefetch(px->a[r] + s->ahead + k);
}

/* All panels of a block for one tile, k in `chunk` segments from `segment` on. */
static void tile_block(const unit *u, const phase *p, int64_t group, const pixels *px, int rows,
                       int64_t panel, int64_t panels, int64_t segment, int64_t chunk)
{
    const sweep *s = u->s;
    int64_t ns = s->dst_c / s->groups, depth = p->segments * p->run;
    const float *w = u->j->weights + p->weights + (group * s->panels + panel) * depth * TILE_COLS +
                     segment * p->run * TILE_COLS;
    tile_out out = {px->c, panel * TILE_COLS, rows, 0, u->j->accumulate || segment > 0};
    for (int64_t i = 0; i < panels; i++, w += depth * TILE_COLS, out.col += TILE_COLS) {
        out.cols = (int)min_of(TILE_COLS, ns - out.col);
        if (s->ahead) ask_for_next(s, p, px, rows * i / panels, rows * (i + 1) / panels);
        LEVEL(gb_tile_rows)
        (&out, px->a, s->segment + p->first_segment + segment, chunk, p->run, w, TILE_COLS);
    }
}

static void finish(const unit *u, int64_t row0, int64_t rows, int64_t col0, int64_t cols)
{
    int64_t ldc = u->s->dst_c, at = row0 * ldc + col0;
    float *c = u->c + at - u->c0;
    gb_epilogue_apply(&u->j->args->epilogue, c, row0, rows, col0, cols, ldc);
    if (u->s->c_type == GB_REAL_F32) return;
    for (int64_t i = 0; i < rows; i++)
        real_write(u->s->c_type, u->j->args->c, at + i * ldc, c + i * ldc, cols);
}

static void block_of_panels(const unit *u, const phase *p, int64_t group, int64_t panel,
                            int64_t panels)
{
    const sweep *s = u->s;
    int64_t rows = min_of(u->rows, p->h - u->row0), count = u->images * rows * p->w;
    if (rows <= 0 || count <= 0) return;
    int64_t tiles = ceil_div(count, TILE_ROWS), ns = s->dst_c / s->groups;
    int64_t chunk = WEIGHTS_BYTES / (p->run * TILE_COLS * 4);
    chunk = clamp(chunk, 1, p->segments ? p->segments : 1);
    int64_t col0 = panel * TILE_COLS, cols = min_of(panels * TILE_COLS, ns - col0);
    for (int64_t segment = 0; segment == 0 || segment < p->segments; segment += chunk) {
        position at = {0};
        start_row(u, p, group, &at);
        int64_t done = 0, length = min_of(chunk, p->segments - segment);
        for (int64_t t = 0; t < tiles; t++) {
            int64_t until = count * (t + 1) / tiles; /* tiles of equal size, but for one pixel */
            pixels px;
            take_pixels(u, p, rows, group, &at, &px, (int)(until - done));
            tile_block(u, p, group, &px, (int)(until - done), panel, panels, segment, length);
            if (s->phases == 1 && segment + length == p->segments)
                finish(u, (u->image0 * s->dst_h + u->row0) * s->dst_w + done, until - done,
                       group * ns + col0, cols);
            done = until;
        }
    }
}

static void do_unit(void *ctx, int64_t task, int worker)
{
    const job *j = ctx;
    const sweep *s = j->s;
    int64_t block = task % s->column_blocks, band = task / s->column_blocks % s->bands;
    unit u = {.s = s, .j = j, .row0 = band * s->band};
    u.image0 = task / (s->column_blocks * s->bands) * s->images;
    u.images = min_of(s->images, s->n - u.image0);
    u.rows = min_of(s->band, s->grid_h - u.row0);
    u.panel0 = s->panels * block / s->column_blocks;
    u.panel1 = s->panels * (block + 1) / s->column_blocks;
    if (u.rows <= 0) return;
    find_source(&u, worker);
    find_result(&u, worker);
    for (int64_t i = 0; i < s->phases; i++)
        for (int64_t g = 0; g < s->groups; g++)
            for (int64_t p = u.panel0; p < u.panel1; p += s->panels_a_block)
                block_of_panels(&u, &s->phase[i], g, p, min_of(s->panels_a_block, u.panel1 - p));
    if (s->phases == 1) return;
    int64_t first = u.row0 * s->out_step_h, ns = s->dst_c / s->groups;
    int64_t rows = min_of(u.rows * s->out_step_h, s->dst_h - first);
    int64_t col0 = u.panel0 * TILE_COLS, cols = min_of(u.panel1 * TILE_COLS, ns) - col0;
    for (int64_t i = 0; i < u.images; i++)
        for (int64_t g = 0; g < s->groups; g++)
            finish(&u, ((u.image0 + i) * s->dst_h + first) * s->dst_w, rows * s->dst_w,
                   g * ns + col0, cols);
}

static bool can(const gb_cpu *cpu, const gb_contraction *problem)
{
    (void)cpu;
    return problem->kind == GB_CONV_FORWARD || problem->kind == GB_CONV_DATA;
}

static gb_status prepare(gb_contraction_plan *plan, gb_error *err)
{
    sweep *s = sweep_of(&plan->problem);
    if (!s) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to plan a convolution");
    int workers = gb_pool_workers(plan->cpu.pool);
    make_tasks(s);
    plan->state = s;
    plan->packed_bytes = (size_t)s->weights_floats * sizeof(float);
    plan->scratch_bytes = (size_t)(s->weights_floats + workers * s->worker_floats) * sizeof(float);
    return GB_OK;
}

static void release(gb_contraction_plan *plan)
{
    free(plan->state);
}

static void run(const gb_contraction_plan *plan, const gb_contraction_args *args)
{
    const sweep *s = plan->state;
    job j = {s, args, plan->problem.accumulate, args->scratch, NULL};
    j.copies = j.weights + s->weights_floats;
    if (args->packed) j.weights = args->packed;
    if (!args->ready)
        gb_pool_run(plan->cpu.pool, s->phases * s->groups * s->panels, pack_panel, &j);
    gb_pool_run(plan->cpu.pool, s->image_groups * s->bands * s->column_blocks, do_unit, &j);
}

const gb_contraction_impl LEVEL(gb_contraction_sweep) = {.name = "direct",
                                                         .small = GB_SMALL_FACTORS |
                                                                  GB_SMALL_RESULT,
                                                         .can = can,
                                                         .prepare = prepare,
                                                         .release = release,
                                                         .run = run};
