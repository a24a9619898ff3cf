#include "backends/gpu/matmul.h"
#include "backends/gpu/matrix.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/window.h"

enum { BATCH_AXES = 3 }; /* of a product, once neighbours are merged: the text has that many */

/* --- what it can run --- */

static bool strides_fit(const gb_step *s)
{
    if (s->kind == GB_STEP_MATMUL) {
        gb_space batch;
        gb_matmul_space(s, &batch);
        return batch.rank <= BATCH_AXES;
    }
    for (int i = 0; i < 2; i++)
        if (s->in[i].dim[1] > 1 && s->in[i].stride[1] != 1) return false;
    return true;
}

static bool applies(const gb_gpu_caps *caps, const gb_step *s, int size)
{
    gb_matrix_tile tile;
    const gb_storage type = s->in[0].storage;
    if ((caps->api != GB_GPU_VULKAN && caps->api != GB_GPU_HOST) ||
        (type != GB_S_F16 && type != GB_S_BF16) || s->in[1].storage != type || !strides_fit(s) ||
        !gb_matrix_tile_of(caps, s->kind, type, (gb_matrix_size)size, &tile))
        return false;
    const gb_matrix_task t = gb_matrix_task_of(caps, s, (gb_matrix_size)size);
    const int64_t sums = t.shares * t.count;
    if (s->kind == GB_STEP_CONV_FILTER && t.count > 64 * (int64_t)caps->max_groups[0]) return false;
    return t.count > 0 && gb_div_up(t.n, tile.size) <= caps->max_groups[0] &&
           gb_div_up(t.m, tile.size) <= caps->max_groups[1] &&
           t.batches * t.shares <= caps->max_groups[2] && t.batches <= caps->max_groups[1] &&
           sums <= INT32_MAX && (!caps->max_binding || (uint64_t)sums * 4 <= caps->max_binding);
}

static bool wanted(const gb_gpu_caps *caps, const gb_step *s, int size)
{
    gb_matrix_tile tile;
    gb_matrix_tile_of(caps, s->kind, s->in[0].storage, (gb_matrix_size)size, &tile);
    const gb_matrix_task t = gb_matrix_task_of(caps, s, (gb_matrix_size)size);
    const int64_t enough = gb_max(64, 2 * (int64_t)caps->compute_units);
    gb_matrix_size best = GB_MATRIX_32;
    if (t.m > 64 && t.n > 64 && gb_div_up(t.m, 128) * gb_div_up(t.n, 128) * t.batches >= enough)
        best = GB_MATRIX_128;
    else if (t.m > 32 && t.n > 32 && gb_div_up(t.m, 64) * gb_div_up(t.n, 64) * t.batches >= enough)
        best = GB_MATRIX_64;
    return tile.units && !caps->cpu_hosted && t.m >= 16 && t.n >= 16 && t.k >= 16 &&
           size == (int)best;
}

static uint64_t scratch(const gb_gpu_caps *caps, const gb_step *s, int size)
{
    const gb_matrix_task t = gb_matrix_task_of(caps, s, (gb_matrix_size)size);
    return (uint64_t)(t.shares * t.count) * 4;
}

/* --- operands --- */

/* A or B: the operand, whether neighbours in memory are rows (columns) of the result rather than k,
 * and how many of them there are in a batch item or group. */
typedef struct side {
    const gb_operand *o;
    int axis;
    bool along;
    int64_t extent;
} side;

/* Are eights whole and aligned in memory? */
static bool eights(const side *s)
{
    const gb_operand *o = s->o;
    if (o->offset % 16 || s->extent % 8 || (o->dim[s->axis] > 1 && o->stride[s->axis] != 1))
        return false;
    for (int d = 0; d < o->rank; d++)
        if (d != s->axis && o->dim[d] > 1 && o->stride[d] % 8) return false;
    return true;
}

static void sides_of(const gb_step *s, const gb_matrix_task *t, side *a, side *b)
{
    const gb_operand *x = &s->in[0], *y = &s->in[1];
    const int last = x->rank - 1;
    switch (s->kind) {
    case GB_STEP_MATMUL: {
        const bool rows = x->stride[last] != 1 && x->stride[last - 1] == 1;
        const bool columns = y->stride[last] == 1;
        *a = (side){x, rows ? last - 1 : last, rows, rows ? t->m : t->k};
        *b = (side){y, columns ? last : last - 1, columns, columns ? t->n : t->k};
        break;
    }
    case GB_STEP_CONV:
        *a = (side){x, 1, false, t->k};
        *b = (side){y, 1, false, t->k};
        break;
    case GB_STEP_CONV_INPUT:
        *a = (side){x, 1, false, t->k};
        *b = (side){y, 1, true, t->n};
        break;
    default:
        *a = (side){y, 1, true, t->m};
        *b = (side){x, 1, true, s->out[0].dim[1]};
    }
}

/* 16-bit operands are read as bits. */
static void bind(gb_gk *k, const char *name, const gb_operand *o)
{
    gb_operand bits = *o;
    bits.storage = GB_S_BF16;
    gb_gk_operand(k, name, &bits, GB_READ);
    gb_gk_eights(k, name);
}

/* --- texts: names of parameters come in the same order each time --- */

static void define_matmul(gb_gk *k, const gb_step *s)
{
    static const char *const stride[2][BATCH_AXES] = {{"A_0", "A_1", "A_2"}, {"B_0", "B_1", "B_2"}};
    const gb_operand *x = &s->in[0], *y = &s->in[1];
    const int last = x->rank - 1;
    gb_space batch;
    gb_matmul_space(s, &batch);
    gb_gk_param(k, "A_SIDE", x->stride[last - 1]);
    gb_gk_param(k, "A_STEP", x->stride[last]);
    gb_gk_param(k, "B_SIDE", y->stride[last]);
    gb_gk_param(k, "B_STEP", y->stride[last - 1]);
    const int missing = BATCH_AXES - batch.rank;
    for (int d = 0; d < BATCH_AXES; d++) {
        const bool there = d >= missing;
        if (d > 0) gb_gk_param(k, d == 1 ? "D1" : "D2", there ? batch.dim[d - missing] : 1);
        for (int i = 0; i < 2; i++)
            gb_gk_param(k, stride[i][d], there ? batch.stride[i][d - missing] : 0);
    }
    gb_gk_define(
        k, "BATCH(batch_)",
        "int q_ = (batch_) / D2, d2_ = (batch_) - q_ * D2, d0_ = q_ / D1, d1_ = q_ - d0_ * D1; "
        "int at_a = d0_ * A_0 + d1_ * A_1 + d2_ * A_2, "
        "at_b = d0_ * B_0 + d1_ * B_1 + d2_ * B_2;");
    gb_gk_define(k, "ROUND(round_)", "int k0 = (round_) * BK;");
    gb_gk_define(k, "STATE_A(side_)", "s0 = at_a + (side_) * A_SIDE;");
    gb_gk_define(k, "AT_A(k_)", "int place_ = s0 + (k_) * A_STEP; bool in_ = true;");
    gb_gk_define(k, "STATE_B(side_)", "s0 = at_b + (side_) * B_SIDE;");
    gb_gk_define(k, "AT_B(k_)", "int place_ = s0 + (k_) * B_STEP; bool in_ = true;");
}

static void param_image(gb_gk *k, const char *n, const char *h, const char *w, const gb_operand *o)
{
    gb_gk_param(k, n, o->stride[0]);
    gb_gk_param(k, h, o->stride[2]);
    gb_gk_param(k, w, o->stride[3]);
}

static void define_window(gb_gk *k, const gb_step *s)
{
    const gb_operand *x = &s->in[0];
    gb_gk_window(k, &s->u.conv);
    gb_gk_param(k, "IN_H", x->dim[2]);
    gb_gk_param(k, "IN_W", x->dim[3]);
    gb_gk_define(k, "BATCH(batch_)", "int g = batch_;");
}

/* Where the pixel that a row reads lies: in x … */
static const char forward_state[] = "s1 = h_ * STRIDE_H - PAD_H; s2 = w_ * STRIDE_W - PAD_W;";
static const char forward_at[] = "int y_ = s1 + kh * DILATION_H, x_ = s2 + kw * DILATION_W; "
                                 "bool in_ = y_ >= 0 && y_ < IN_H && x_ >= 0 && x_ < IN_W;";
/* … and in dy. */
static const char input_state[] = "s1 = h_ + PAD_H; s2 = w_ + PAD_W;";
static const char input_at[] =
    "int v_ = s1 - kh * DILATION_H, u_ = s2 - kw * DILATION_W, y_ = v_ / STRIDE_H, x_ = u_ / "
    "STRIDE_W; "
    "bool in_ = v_ >= 0 && u_ >= 0 && v_ == y_ * STRIDE_H && u_ == x_ * STRIDE_W && y_ < IN_H && "
    "x_ < IN_W;";

static void define_conv(gb_gk *k, const gb_step *s)
{
    const bool forward = s->kind == GB_STEP_CONV;
    const gb_operand *out = &s->out[0];
    define_window(k, s);
    param_image(k, "A_N", "A_H", "A_W", &s->in[0]);
    param_image(k, "B_O", "B_H", "B_W", &s->in[1]);
    gb_gk_param(k, "HEIGHT", out->dim[2]);
    gb_gk_param(k, "WIDTH", out->dim[3]);
    gb_gk_define(k, "ROUND(round_)",
                 "int chunks_ = (K + BK - 1) / BK, tap_ = (round_) / chunks_, "
                 "k0 = ((round_) - tap_ * chunks_) * BK, kh = tap_ / KERNEL_W, "
                 "kw = tap_ - kh * KERNEL_W;");
    gb_gk_define(k, "STATE_A(side_)",
                 "int q_ = (side_) / WIDTH, w_ = (side_) - q_ * WIDTH, n_ = q_ / HEIGHT, "
                 "h_ = q_ - n_ * HEIGHT; s0 = n_ * A_N + g * K; %s",
                 forward ? forward_state : input_state);
    gb_gk_define(k, "AT_A(k_)", "%s int place_ = s0 + y_ * A_H + x_ * A_W + k_;",
                 forward ? forward_at : input_at);
    gb_gk_define(k, "STATE_B(side_)", "%s",
                 forward ? "s0 = (g * N + side_) * B_O;" : "s0 = side_;");
    gb_gk_define(k, "AT_B(k_)", "int place_ = s0 + %s + kh * B_H + kw * B_W; bool in_ = true;",
                 forward ? "k_" : "(g * K + k_) * B_O");
}

/* Rows are output channels, columns places of the filter, k is pixels of the output. */
static void define_filter(gb_gk *k, const gb_step *s)
{
    const gb_operand *dy = &s->in[1];
    define_window(k, s);
    param_image(k, "A_N", "A_H", "A_W", dy);
    param_image(k, "B_N", "B_H", "B_W", &s->in[0]);
    gb_gk_param(k, "OUT_H", dy->dim[2]);
    gb_gk_param(k, "OUT_W", dy->dim[3]);
    gb_gk_param(k, "DEPTH", s->out[0].dim[1]);
    gb_gk_define(k, "ROUND(round_)", "int k0 = (round_) * BK;");
    gb_gk_define(k, "PIXEL(k_)",
                 "int line_ = (k_) / OUT_W, w_ = (k_) - line_ * OUT_W, n_ = line_ / OUT_H, "
                 "h_ = line_ - n_ * OUT_H;");
    gb_gk_define(k, "STATE_A(side_)", "s0 = g * M + side_;");
    gb_gk_define(k, "AT_A(k_)",
                 "PIXEL(k_) int place_ = s0 + n_ * A_N + h_ * A_H + w_ * A_W; bool in_ = true;");
    gb_gk_define(k, "STATE_B(side_)",
                 "int q_ = (side_) / DEPTH, c_ = (side_) - q_ * DEPTH, kh_ = q_ / KERNEL_W; "
                 "s0 = g * DEPTH + c_; s1 = kh_ * DILATION_H - PAD_H; "
                 "s2 = (q_ - kh_ * KERNEL_W) * DILATION_W - PAD_W;");
    gb_gk_define(k, "AT_B(k_)",
                 "PIXEL(k_) int y_ = h_ * STRIDE_H + s1, x_ = w_ * STRIDE_W + s2; "
                 "bool in_ = y_ >= 0 && y_ < IN_H && x_ >= 0 && x_ < IN_W; "
                 "int place_ = s0 + n_ * B_N + y_ * B_H + x_ * B_W;");
}

static void define_constants(gb_gk *k, const gb_matrix_tile *t, const side *a, const side *b)
{
    gb_gk_define(k, "BK", "%d", GB_MATRIX_BK);
    gb_gk_constant(k, "SIZE", t->size);
    gb_gk_constant(k, "TM", t->tm);
    gb_gk_constant(k, "TN", t->tn);
    gb_gk_constant(k, "TK", t->tk);
    gb_gk_constant(k, "LANES", t->lanes);
    gb_gk_constant(k, "ACROSS", t->across);
    gb_gk_constant(k, "WM", t->wm);
    gb_gk_constant(k, "WN", t->wn);
    gb_gk_constant(k, "A_ALONG", a->along);
    gb_gk_constant(k, "B_ALONG", b->along);
    gb_gk_constant(k, "A_WIDE", eights(a));
    gb_gk_constant(k, "B_WIDE", eights(b));
}

/* All that a text says of the operands' type: in loops, how their bits are read. */
static void define_type(gb_gk *k, bool units, gb_storage type)
{
    const bool bf16 = type == GB_S_BF16;
    if (units) {
        gb_gk_define(k, "MATRIX_ELEMENT", "%s", bf16 ? "bfloat16_t" : "float16_t");
        return;
    }
    gb_gk_define(k, "MATRIX_FLOAT(bits_)", "%s",
                 bf16 ? "GB_FROM_BITS(GB_INT((bits_) << 16))" : "GB_FROM_HALF(bits_)");
    gb_text_add(&k->defs, "%s", gb_shader_matrix_loops);
}

/* Where sums go, so that the join finds them: a product's as part[batch][share][m][n], images' as
 * part[share][pixel][channel], filters' as part[share][channel][place]. */
static void define_sums(gb_gk *k, const gb_step *s, const gb_matrix_task *t)
{
    const bool matmul = s->kind == GB_STEP_MATMUL, filter = s->kind == GB_STEP_CONV_FILTER;
    gb_gk_param(k, "M", t->m);
    gb_gk_param(k, "N", t->n);
    gb_gk_param(k, "K", t->k);
    gb_gk_param(k, "SHARES", t->shares);
    gb_gk_param(k, "SHARE", t->share);
    gb_gk_param(k, "ROUNDS", t->rounds);
    gb_gk_param(k, "PART_BATCH", matmul ? t->shares * t->m * t->n : filter ? t->m * t->n : t->n);
    gb_gk_param(k, "PART_SHARE", matmul ? t->m * t->n : t->count);
    gb_gk_param(k, "PART_ROW", matmul || filter ? t->n : t->n * t->batches);
    gb_gk_param(k, "DENSE", t->n % 4 == 0 && s->scratch.offset % 16 == 0);
}

/* --- joins --- */

static gb_status join_images(gb_gpu_builder *b, const gb_matrix_task *t)
{
    const gb_step *s = b->step;
    const gb_operand *out = &s->out[0];
    const int64_t local = gb_min(64, b->caps->max_local);
    const int64_t groups =
        gb_min(gb_div_up(t->count, local), gb_min(b->caps->max_groups[0], 65535));
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, (uint32_t)local, 1, 1);
    gb_gk_scratch(&k, "part", 0, t->shares * t->count, GB_S_F32, GB_READ);
    gb_gk_param(&k, "COUNT", t->count);
    gb_gk_param(&k, "STEP", groups * local);
    gb_gk_param(&k, "SHARES", t->shares);
    gb_gk_param(&k, "CHANNELS", out->dim[1]);
    gb_gk_param(&k, "HEIGHT", out->dim[2]);
    gb_gk_param(&k, "WIDTH", out->dim[3]);
    gb_gk_image_result(&k, s);
    return gb_gk_finish(&k, "image.join", gb_shader_image_join, (const int64_t[3]){groups, 1, 1});
}

static gb_status join(gb_gpu_builder *b, const gb_matrix_task *t)
{
    switch (b->step->kind) {
    case GB_STEP_MATMUL:
        return gb_lower_split_join(b, t->shares);
    case GB_STEP_CONV_FILTER:
        return gb_lower_sum_join(b, 0, t->shares, t->count);
    default:
        return join_images(b, t);
    }
}

static gb_status lower(gb_gpu_builder *b, int size)
{
    const gb_step *s = b->step;
    const gb_matrix_task t = gb_matrix_task_of(b->caps, s, (gb_matrix_size)size);
    gb_matrix_tile tile;
    side a, bs;
    gb_gk k;
    gb_matrix_tile_of(b->caps, s->kind, s->in[0].storage, (gb_matrix_size)size, &tile);
    sides_of(s, &t, &a, &bs);
    if (tile.units)
        gb_gk_begin_offline(&k, b);
    else
        gb_gk_begin(&k, b);
    k.apart = true;
    gb_gk_local(&k, (uint32_t)tile.items, 1, 1);
    bind(&k, "i0", a.o);
    bind(&k, "i1", bs.o);
    gb_gk_scratch(&k, "part", 0, t.shares * t.count, GB_S_F32, GB_WRITE);
    define_constants(&k, &tile, &a, &bs);
    define_sums(&k, s, &t);
    if (s->kind == GB_STEP_MATMUL)
        define_matmul(&k, s);
    else if (s->kind == GB_STEP_CONV_FILTER)
        define_filter(&k, s);
    else
        define_conv(&k, s);
    define_type(&k, tile.units, s->in[0].storage);
    const gb_status status =
        gb_gk_finish(&k, gb_matrix_name(s->kind, (gb_matrix_size)size), gb_shader_matrix,
                     (const int64_t[3]){gb_div_up(t.n, tile.size), gb_div_up(t.m, tile.size),
                                        t.batches * t.shares});
    return status == GB_OK ? join(b, &t) : status;
}

const gb_gpu_family gb_matrix_kernels = {applies, wanted, scratch, lower};
