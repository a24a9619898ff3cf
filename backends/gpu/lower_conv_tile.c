/* Convolutions as products of matrices that are never made: tiles in shared memory are fetched from
 * the images. Groups are the third axis of the grid. */
#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/tile.h"
#include "backends/gpu/window.h"

static int64_t pixels_of(const gb_operand *o)
{
    return o->dim[0] * o->dim[2] * o->dim[3];
}

/* Sizes of one group: rows and columns of the product, and its k (pixels, or channels of a tap). */
typedef struct sizes {
    int64_t m, n, k, groups;
} sizes;

static sizes sizes_of(const gb_step *s)
{
    const int64_t g = s->u.conv.groups, *w = s->in[1].dim, *out = s->out[0].dim;
    if (s->kind == GB_STEP_CONV_FILTER)
        return (sizes){out[1] * out[2] * out[3], out[0] / g, pixels_of(&s->in[1]), g};
    return (sizes){pixels_of(&s->out[0]), out[1] / g, s->kind == GB_STEP_CONV ? w[1] : w[0] / g, g};
}

static gb_tile choose(int member, const gb_step *s)
{
    const sizes z = sizes_of(s);
    return gb_tile_choose(member, z.m, z.n, z.groups);
}

static int64_t rounds_of(const gb_tile *t, const gb_step *s)
{
    const int64_t *kernel = s->u.conv.kernel, chunks = gb_div_up(sizes_of(s).k, t->bk);
    return s->kind == GB_STEP_CONV_FILTER ? chunks : chunks * kernel[0] * kernel[1];
}

/* Of a filter's gradient: how many sums over pixels are made and added up, and the rounds of one.
 */
static int64_t shares_of(const gb_gpu_caps *caps, const gb_tile *t, const gb_step *s,
                         int64_t *share)
{
    const int64_t rounds = rounds_of(t, s), groups = t->groups[0] * t->groups[1] * t->groups[2];
    *share = rounds;
    if (s->kind != GB_STEP_CONV_FILTER) return 1;
    int64_t want = gb_min(gb_div_up(256, gb_max(1, groups)), rounds / 16);
    if (caps->max_rounds)
        want = gb_max(want, gb_div_up(rounds * gb_tile_turns(t), caps->max_rounds));
    *share = gb_max(1, gb_div_up(rounds, gb_max(1, want)));
    return gb_max(1, gb_div_up(rounds, *share));
}

static bool applies(const gb_gpu_caps *caps, const gb_step *s, int member)
{
    const gb_tile t = choose(member, s);
    int64_t share, shares = shares_of(caps, &t, s, &share);
    return gb_tile_applies(caps, s, member, t.m, t.n, rounds_of(&t, s) * t.bk) &&
           rounds_of(&t, s) > 0 &&
           (!caps->max_rounds || share * gb_tile_turns(&t) <= caps->max_rounds) &&
           t.groups[2] * shares <= caps->max_groups[2];
}

static bool fits(const gb_gpu_caps *caps, const gb_step *s, int member)
{
    const gb_tile t = choose(member, s);
    return !caps->cpu_hosted && sizes_of(s).k >= 8 && t.n >= 8 &&
           gb_tile_fits(caps, member, t.m, t.n, t.groups[2]);
}

static uint64_t scratch(const gb_gpu_caps *caps, const gb_step *s, int member)
{
    const gb_tile t = choose(member, s);
    int64_t share, shares = shares_of(caps, &t, s, &share);
    return (uint64_t)(shares * t.m * t.n * t.groups[2]) * 4;
}

static void begin(gb_gk *k, gb_gpu_builder *b, const gb_tile *t, int64_t shares, int64_t share)
{
    const gb_step *s = b->step;
    const gb_operand *x = &s->in[0];
    gb_gk_begin(k, b);
    gb_gk_image(k, "i0", x, GB_READ);
    gb_gk_image(k, "i1", &s->in[1], GB_READ);
    gb_gk_window(k, &s->u.conv);
    gb_gk_param(k, "IN_H", x->dim[2]);
    gb_gk_param(k, "IN_W", x->dim[3]);
    gb_gk_param(k, "K", sizes_of(s).k);
    gb_gk_param(k, "ROUNDS", rounds_of(t, s));
    gb_gk_param(k, "SHARES", shares);
    gb_gk_param(k, "SHARE", share);
    gb_gk_define(k, "BATCH(index_)", "int g = index_;");
}

/* One group's channels of an operand: whether they come in fours. */
static gb_operand of_group(const gb_operand *o, int axis, int64_t channels)
{
    gb_operand part = *o;
    part.dim[axis] = channels;
    return part;
}

/* Where the pixel that a row reads lies: in x … */
static const char forward_each[] = "int y_ = h$ * STRIDE_H - PAD_H + kh * DILATION_H, x_ = w$ * "
                                   "STRIDE_W - PAD_W + kw * DILATION_W;";
static const char forward_guard[] =
    "row_$ < M && k0 + k_$ < K && y_ >= 0 && y_ < IN_H && x_ >= 0 && x_ < IN_W";
/* … and in dy. */
static const char input_each[] =
    "int v_ = h$ + PAD_H - kh * DILATION_H, u_ = w$ + PAD_W - kw * DILATION_W, "
    "y_ = v_ / STRIDE_H, x_ = u_ / STRIDE_W;";
static const char input_guard[] =
    "row_$ < M && k0 + k_$ < K && v_ >= 0 && u_ >= 0 && v_ == y_ * STRIDE_H && u_ == x_ * STRIDE_W "
    "&& y_ < IN_H && x_ < IN_W";

static gb_status lower_conv(gb_gpu_builder *b, int member)
{
    const gb_step *s = b->step;
    const gb_operand *out = &s->out[0];
    const bool forward = s->kind == GB_STEP_CONV;
    const sizes z = sizes_of(s);
    gb_tile t = choose(member, s);
    gb_gk k;
    begin(&k, b, &t, 1, rounds_of(&t, s));
    gb_gk_param(&k, "WIDTH", out->dim[3]);
    gb_gk_param(&k, "HEIGHT", out->dim[2]);
    gb_gk_param(&k, "CHUNKS", gb_div_up(z.k, t.bk));
    gb_gk_define(&k, "PREPARE(round_)",
                 "int tap = (round_) / CHUNKS, k0 = ((round_) - tap * CHUNKS) * BK, "
                 "kh = tap / KERNEL_W, kw = tap - kh * KERNEL_W;");
    const gb_operand x = of_group(&s->in[0], 1, z.k), w = of_group(&s->in[1], 0, z.n);
    gb_tile_operand(&t, &k, true, &x, -1, 1, false);
    gb_tile_operand(&t, &k, false, forward ? &w : &s->in[1], forward ? 0 : 1, forward ? 1 : 0,
                    !forward);
    gb_gk_image_result(&k, s);
    gb_tile_define(&k, &t,
                   "int w = row % WIDTH, q = row / WIDTH, h = q % HEIGHT; "
                   "RESULT(q / HEIGHT, g * N + column, h, w)");
    gb_tile_fetches(&k, &t, true,
                    (gb_tile_fetch){.setup = " int q$ = row_$ / WIDTH, w$ = row_$ - q$ * WIDTH, "
                                             "n$ = q$ / HEIGHT, h$ = q$ - n$ * HEIGHT;",
                                    .each = forward ? forward_each : input_each,
                                    .guard = forward ? forward_guard : input_guard,
                                    .place = "PLACE_i0(n$, g * K + k0 + k_$, y_, x_)"});
    gb_tile_fetches(&k, &t, false,
                    (gb_tile_fetch){.guard = "column_$ < N && k0 + k_$ < K",
                                    .place = forward
                                                 ? "PLACE_i1(g * N + column_$, k0 + k_$, kh, kw)"
                                                 : "PLACE_i1(g * K + k0 + k_$, column_$, kh, kw)"});
    return gb_gk_finish(&k, gb_tile_name(member), gb_shader_tile, t.groups);
}

/* Rows are places of the filter, k is pixels of the output. */
static gb_status lower_filter(gb_gpu_builder *b, int member)
{
    const gb_step *s = b->step;
    const gb_operand *dy = &s->in[1], *dw = &s->out[0];
    const sizes z = sizes_of(s);
    gb_tile t = choose(member, s);
    int64_t share, shares = shares_of(b->caps, &t, s, &share);
    gb_gk k;
    begin(&k, b, &t, shares, share);
    gb_gk_param(&k, "OUT_H", dy->dim[2]);
    gb_gk_param(&k, "OUT_W", dy->dim[3]);
    gb_gk_param(&k, "DEPTH", dw->dim[1]);
    gb_gk_param(&k, "CHANNELS", dw->dim[0]);
    gb_gk_scratch(&k, "part", 0, shares * z.m * dw->dim[0], GB_S_F32, GB_WRITE);
    gb_gk_define(&k, "PREPARE(round_)", "int k0 = (round_) * BK;");
    const gb_operand x_part = of_group(&s->in[0], 1, dw->dim[1]), dy_part = of_group(dy, 1, z.n);
    gb_tile_operand(&t, &k, true, &x_part, 1, -1, true);
    gb_tile_operand(&t, &k, false, &dy_part, 1, -1, true);
    gb_tile_define(&k, &t,
                   "int share = GB_GROUP(2) % SHARES; "
                   "ST_part((share * CHANNELS + g * N + column) * M + row, acc);");
    gb_tile_fetches(
        &k, &t, true,
        (gb_tile_fetch){
            .setup = " int q$ = row_$ / DEPTH, c$ = row_$ - q$ * DEPTH, kh$ = q$ / KERNEL_W, "
                     "oy$ = kh$ * DILATION_H - PAD_H, "
                     "ox$ = (q$ - kh$ * KERNEL_W) * DILATION_W - PAD_W;",
            .each = "int p_ = k0 + k_$, line_ = p_ / OUT_W, n_ = line_ / OUT_H, "
                    "y_ = (line_ - n_ * OUT_H) * STRIDE_H + oy$, "
                    "x_ = (p_ - line_ * OUT_W) * STRIDE_W + ox$;",
            .guard = "row_$ < M && p_ < K && y_ >= 0 && y_ < IN_H && x_ >= 0 && x_ < IN_W",
            .place = "PLACE_i0(n_, g * DEPTH + c$, y_, x_)"});
    gb_tile_fetches(
        &k, &t, false,
        (gb_tile_fetch){.each = "int p_ = k0 + k_$, line_ = p_ / OUT_W, n_ = line_ / OUT_H;",
                        .guard = "column_$ < N && p_ < K",
                        .place = "PLACE_i1(n_, g * N + column_$, line_ - n_ * OUT_H, "
                                 "p_ - line_ * OUT_W)"});
    t.groups[2] *= shares;
    gb_status status = gb_gk_finish(&k, gb_tile_name(member), gb_shader_tile, t.groups);
    return status == GB_OK ? gb_lower_sum_join(b, 0, shares, dw->dim[0] * z.m) : status;
}

const gb_gpu_family gb_conv_tiles = {applies, fits, NULL, lower_conv};
const gb_gpu_family gb_filter_tiles = {applies, fits, scratch, lower_filter};
