/* Winograd's convolutions where items are lanes: kernels for the transforms, and between them a
 * matrix product like any other, with places as its batch axis: whatever kernel the device wants
 * for such a step runs it. Tiles are its rows and channels lie side by side, as in images:
 * transforms read and write whole lines, and tiles in shared memory take either order. Images go
 * through in chunks, so that what lies between the kernels stays in the caches. */
#include <string.h>

#include "backends/gpu/panel.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/value.h"
#include "backends/gpu/winograd.h"

/* --- the plan --- */

typedef struct gb_winograd {
    gb_tiles tiles;
    int64_t chunk;                               /* images of one */
    int64_t m, k, n;                             /* the product of one chunk, for each place */
    int64_t a_place, b_place, c_place, a_m, a_k; /* strides, in floats */
    int64_t lanes;                               /* items of a group, along the channels */
    uint64_t product_at;                         /* the scratch of the product */
    uint64_t b_at, c_at;    /* the second factor, where it is no filter, and the products in the
                               scratch; the first factor is at 0 */
    uint64_t bytes, packed; /* of the scratch; of transformed filters */
} gb_winograd;

/* As many images as have the given bytes of transformed tiles. */
static int64_t chunk_of(const gb_tiles *w, const gb_gpu_caps *caps)
{
    int64_t limit = INT64_C(32) << 20; /* of a large GPU's caches */
    if (caps->max_binding) limit = gb_min(limit, (int64_t)(caps->max_binding / 4));
    const int64_t channels = gb_max(w->channels[0], w->channels[1]);
    const int64_t bytes = w->places * gb_winograd_count(w, w->images) * channels * 4;
    return gb_div_up(w->images, gb_max(1, gb_min(gb_div_up(bytes, limit), w->images)));
}

static void plan_tiles(gb_winograd *w, const gb_gpu_caps *caps, const gb_step *s)
{
    const bool filter = s->kind == GB_STEP_CONV_FILTER;
    *w = (gb_winograd){.tiles = gb_winograd_tiles(s)};
    const int64_t *channels = w->tiles.channels, places = w->tiles.places;
    w->chunk = chunk_of(&w->tiles, caps);
    w->lanes = gb_min(gb_min(channels[0], channels[1]) <= 32 ? 32 : 64, caps->max_local);
    const int64_t count = gb_winograd_count(&w->tiles, w->chunk);
    w->m = filter ? channels[0] : count;
    w->k = filter ? count : channels[0];
    w->n = channels[1];
    w->a_m = filter ? 1 : channels[0];
    w->a_k = filter ? channels[0] : 1;
    w->a_place = w->m * w->k, w->b_place = w->k * w->n, w->c_place = w->m * w->n;
    const uint64_t b_bytes = gb_float_bytes(places * w->b_place);
    w->packed = filter ? 0 : b_bytes;
    w->b_at = gb_float_bytes(places * w->a_place);
    w->c_at = w->b_at + (filter ? b_bytes : 0);
    w->bytes = w->c_at + gb_float_bytes(places * w->c_place);
}

/* --- the product as a step of its own --- */

static const gb_enode sum_node[] = {{.prim = GB_P_INPUT, .type = 'f', .imm = 0},
                                    {.prim = GB_P_INPUT, .type = 'f', .imm = 1},
                                    {.prim = GB_P_ADD, .type = 'f', .arg = {0, 1}}};
static const gb_expr sum = {.node = sum_node, .n_nodes = 3, .n_in = 2, .n_out = 1, .out = {2}};

static gb_operand matrix(gb_operand memory, uint64_t at, const int64_t dim[3],
                         const int64_t stride[3])
{
    memory.storage = GB_S_F32;
    memory.offset += at;
    memory.rank = 3;
    memcpy(memory.dim, dim, 3 * sizeof *dim);
    memcpy(memory.stride, stride, 3 * sizeof *stride);
    return memory;
}

/* count: rows, or of the filter's gradient k; add: to what is there. packed_at: of transformed
 * filters in the scratch, where they do not stay. */
static gb_step product_step(const gb_winograd *w, const gb_step *s, int64_t count, bool add,
                            uint64_t packed_at)
{
    const bool filter = s->kind == GB_STEP_CONV_FILTER, packed = !filter && s->packed_bytes > 0;
    const int64_t places = w->tiles.places, n = w->n;
    const int64_t m = filter ? w->m : count, k = filter ? count : w->k;
    const uint64_t b_at = packed ? 0 : filter ? w->b_at : packed_at;
    gb_step step = {.kind = GB_STEP_MATMUL,
                    .path = s->path,
                    .phase = s->phase,
                    .n_in = add ? 3 : 2,
                    .n_out = 1,
                    .expr = add ? &sum : NULL,
                    .once = s->once,
                    .scratch = s->scratch};
    step.in[0] = matrix(s->scratch, 0, (const int64_t[3]){places, m, k},
                        (const int64_t[3]){w->a_place, w->a_m, w->a_k});
    step.in[1] = matrix(packed ? s->packed : s->scratch, b_at, (const int64_t[3]){places, k, n},
                        (const int64_t[3]){w->b_place, n, 1});
    step.out[0] = matrix(s->scratch, w->c_at, (const int64_t[3]){places, m, n},
                         (const int64_t[3]){w->c_place, n, 1});
    step.in[2] = step.out[0];
    step.scratch.offset += w->product_at;
    return step;
}

static uint64_t product_scratch(const gb_winograd *w, const gb_gpu_caps *caps, const gb_step *s,
                                int64_t images, const gb_gpu_variant **v)
{
    const gb_step p =
        product_step(w, s, gb_winograd_count(&w->tiles, images), w->chunk < w->tiles.images, 0);
    *v = gb_gpu_pick(caps, &p);
    return *v ? gb_gpu_scratch(caps, *v, &p) : 0;
}

/* The last chunk may be a small one. False: nothing runs the product. */
static bool plan_product(gb_winograd *w, const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_gpu_variant *v, *last;
    const int64_t rest = w->tiles.images % w->chunk;
    const uint64_t bytes = product_scratch(w, caps, s, w->chunk, &v);
    const uint64_t more = product_scratch(w, caps, s, rest ? rest : w->chunk, &last);
    w->product_at = w->bytes;
    w->bytes += gb_align256(more > bytes ? more : bytes);
    return v && last;
}

static bool plan_any(gb_winograd *w, const gb_gpu_caps *caps, const gb_step *s)
{
    plan_tiles(w, caps, s);
    return plan_product(w, caps, s);
}

/* --- kernels --- */

/* A group has a tile, an item a channel. */
static void begin_tiles(gb_gk *k, gb_gpu_builder *b, const gb_winograd *w, int64_t first)
{
    gb_gk_begin(k, b);
    gb_gk_local(k, (uint32_t)w->lanes, 1, 1);
    gb_gk_param(k, "FIRST_TILE", gb_winograd_count(&w->tiles, first));
    gb_winograd_grid(k, &w->tiles);
    gb_gk_define(k, "FOR_TILES", " ");
    gb_gk_define(k, "FIRST_CHANNEL", "0");
    gb_gk_define(k, "LANE", "GB_LOCAL(0)");
    gb_gk_define(k, "LANES", "%d", (int)w->lanes);
    gb_gk_define(k, "CHANNEL(next_)", "next_");
    gb_gk_begin_parts(k);
}

static gb_status finish_tiles(gb_gk *k, const gb_winograd *w, const char *name, const char *part,
                              int64_t count)
{
    gb_gk_part(k, part);
    return gb_gk_finish(k, name, gb_shader_winograd_tile,
                        (const int64_t[3]){count * w->tiles.grid[0], w->tiles.grid[1], 1});
}

/* Images [first, first + count) of an operand to transformed tiles in the scratch. */
static gb_status lower_image(gb_gpu_builder *b, const gb_winograd *w, const gb_operand *x,
                             const gb_transform *m, const int64_t *pad, int64_t first,
                             int64_t count, uint64_t at)
{
    const int64_t channels = x->dim[1], place = gb_winograd_count(&w->tiles, w->chunk) * channels;
    gb_gk k;
    begin_tiles(&k, b, w, first);
    gb_gk_operand(&k, "x", x, GB_READ);
    gb_gk_scratch(&k, "t", at, w->tiles.places * place, GB_S_F32, GB_WRITE);
    gb_gk_param(&k, "CHANNELS", channels);
    gb_gk_define(&k, "PITCH", "CHANNELS");
    gb_gk_param(&k, "PLACE", place);
    gb_value_define(&k, GB_ONE);
    gb_value_load(&k, "LOAD", "x", x->storage, false, GB_ONE);
    gb_gk_define(&k, "PUT(i_, v_)", "ST_t((i_) * PLACE + to + c, v_)");
    gb_winograd_image(&k, &w->tiles, x, m, pad);
    return finish_tiles(&k, w, "winograd.image", gb_shader_winograd_image, count);
}

static gb_status lower_result(gb_gpu_builder *b, const gb_winograd *w, int64_t first, int64_t count)
{
    gb_gk k;
    begin_tiles(&k, b, w, first);
    gb_gk_scratch(&k, "t", w->c_at, w->tiles.places * w->c_place, GB_S_F32, GB_READ);
    gb_gk_param(&k, "CHANNELS", w->n);
    gb_gk_define(&k, "PITCH", "CHANNELS");
    gb_gk_param(&k, "PLACE", w->c_place);
    gb_value_define(&k, GB_ONE);
    gb_value_load(&k, "LOAD", "t", GB_S_F32, false, GB_ONE);
    gb_winograd_results(&k, b->step, &w->tiles);
    return finish_tiles(&k, w, "winograd.result", gb_shader_winograd_result, count);
}

/* count: rows of the product, or its k. */
static gb_status lower_product(gb_gpu_builder *b, const gb_winograd *w, int64_t count, bool add)
{
    const gb_step *s = b->step;
    const uint64_t packed_at = b->packed_at;
    const gb_step product = product_step(w, s, count, add, packed_at);
    b->step = &product;
    gb_status status = gb_gpu_lower(b, gb_gpu_pick(b->caps, &product));
    b->step = s;
    b->packed_at = packed_at;
    return status;
}

/* --- variants --- */

bool gb_winograd_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_winograd w;
    return !gb_gpu_wide_items(caps) && step->u.conv.stride[0] == 1 &&
           gb_winograd_suits(step, 32, 16) && plan_any(&w, caps, step) &&
           (!caps->max_binding || w.bytes <= caps->max_binding) && w.bytes / 4 <= INT32_MAX &&
           w.tiles.grid[1] <= caps->max_groups[1] &&
           w.chunk * w.tiles.grid[0] <= caps->max_groups[0];
}

/* On a real GPU it saves multiplications and pays with memory. Of a pixel's 18 C K operations
 * F(2×2) does 8 C K, and moves 36 (C + K) bytes where the direct way moves 4 (C + K); F(4×4)
 * does 4.5 and moves 22. Tiles in shared memory do some ten operations in the time in which the
 * caches, which a chunk is cut for, move a byte: that pays from C K / (C + K) = 32, or 16, on. And
 * the work must be worth four launches instead of one. */
bool gb_winograd_wanted(const gb_gpu_caps *caps, const gb_step *step)
{
    if (caps->cpu_hosted) return false;
    const bool filter = step->kind == GB_STEP_CONV_FILTER;
    const gb_operand *x = &step->in[0], *y = filter ? &step->in[1] : &step->out[0];
    const double c = (double)x->dim[1], k = (double)y->dim[1];
    const double pixels = (double)(y->dim[0] * y->dim[2] * y->dim[3]);
    const double least = gb_winograd_tiling(step)->side == 4 ? 16 : 32;
    return c * k / (c + k) >= least && 18 * c * k * pixels >= 2e8;
}

uint64_t gb_winograd_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_winograd w;
    plan_any(&w, caps, step);
    return w.bytes;
}

uint64_t gb_winograd_packed(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_winograd w;
    plan_any(&w, caps, step);
    return w.packed;
}

gb_status gb_lower_winograd(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_winograd w;
    plan_any(&w, b->caps, s);
    const gb_transform m = gb_winograd_data(w.tiles.t);
    gb_status status = gb_winograd_taps(b, 0, (uint32_t)w.lanes);
    for (int64_t first = 0; first < w.tiles.images && status == GB_OK; first += w.chunk) {
        const int64_t count = gb_min(w.chunk, w.tiles.images - first);
        status = lower_image(b, &w, &s->in[0], &m, w.tiles.pad, first, count, 0);
        if (status == GB_OK)
            status = lower_product(b, &w, gb_winograd_count(&w.tiles, count), false);
        if (status == GB_OK) status = lower_result(b, &w, first, count);
    }
    return status;
}

gb_status gb_lower_winograd_filter(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_winograd w;
    plan_any(&w, b->caps, s);
    const gb_transform data = gb_winograd_data(w.tiles.t),
                       gradient = gb_winograd_gradient(w.tiles.t);
    gb_status status = GB_OK;
    for (int64_t first = 0; first < w.tiles.images && status == GB_OK; first += w.chunk) {
        const int64_t count = gb_min(w.chunk, w.tiles.images - first);
        status = lower_image(b, &w, &s->in[0], &data, w.tiles.pad, first, count, 0);
        if (status == GB_OK)
            status = lower_image(b, &w, &s->in[1], &gradient, NULL, first, count, w.b_at);
        if (status == GB_OK)
            status = lower_product(b, &w, gb_winograd_count(&w.tiles, count), first > 0);
    }
    const gb_winograd_shares sums = {.at = w.c_at, .shares = 1, .m = w.m, .n = w.n, .pitch = w.n};
    return status == GB_OK ? gb_winograd_join(b, &sums, (uint32_t)w.lanes) : status;
}
