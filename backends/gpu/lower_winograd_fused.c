/* Winograd's convolutions for drivers on CPUs: one kernel, whose items are workers that take turns
 * (shaders/winograd_fused.gk). What a worker has transformed stays in the caches of its core; from
 * kernel to kernel it would go through memory that cores share, which takes as long as the products
 * do. */
#include "backends/gpu/panel.h"
#include "backends/gpu/shaders.h"
#include "backends/gpu/value.h"
#include "backends/gpu/winograd.h"

enum {
    TILES_MIN = 32,
    TILES_MIN_FAR = 64, /* where filters do not fit the caches: every turn reads them all */
    TILES_MAX = 192,
    TILES_OF_SUMS = 128,    /* so many at most between two visits of the sums */
    CHANNELS_OF_SUMS = 128, /* of a block; … */
    LEAST_CHANNELS = 32,    /* … where cores are many */
    WORKERS_OF_SUMS = 8,    /* where blocks are few each has a share of the sums, to be joined */
    TURNS_WANTED = 8,       /* of a core */
    PAD = 16 /* floats, so that places of a tile fall into other sets of the caches; and what a
                block of fewer channels than a vector's writes before its own */
};
#define TURN_BYTES (256 << 10)   /* of a turn's tiles */
#define FILTERS_BYTES (4 << 20)  /* what fits the caches */
#define WORKERS_BYTES (16 << 20) /* of all workers, where cores are few */
#define SUMS_BYTES (24 << 20)    /* of all shares */

typedef struct gb_fused {
    gb_tiles all;
    int64_t all_tiles, tiles;      /* tiles: of a turn */
    gb_panel p;                    /* the register block */
    int64_t all_rows, all_columns; /* channels of the factors, columns in whole panels */
    int64_t rows, columns;         /* of a block */
    int64_t row_blocks, column_blocks, shares;
    int64_t turns, workers;
    /* Memory, in floats: of a worker's slot, from place to place; sums are
     * [share][place][row][column] */
    int64_t slot, a_place, b_at, b_place, c_at, c_place;
    int64_t sums_at, sums_place;
    uint64_t bytes, packed;
} gb_fused;

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return gb_min(gb_max(v, low), high);
}

static int64_t cores(const gb_gpu_caps *caps)
{
    return gb_max(caps->compute_units, 1);
}

static void plan_tiles(gb_fused *f, const gb_gpu_caps *caps, const gb_step *s)
{
    *f = (gb_fused){.all = gb_winograd_tiles(s)};
    f->p.n = f->all.channels[1];
    gb_panel_choose(&f->p, caps);
    f->all_tiles = gb_winograd_count(&f->all, f->all.images);
    f->all_rows = f->all.channels[0];
    f->all_columns = gb_panel_count(&f->p) * gb_panel_width(&f->p);
}

/* Evenly: chunks of whole register blocks. */
static void set_tiles(gb_fused *f, int64_t tiles)
{
    const int64_t chunks = gb_div_up(f->all_tiles, tiles);
    f->tiles = gb_div_up(gb_div_up(f->all_tiles, chunks), f->p.rows) * f->p.rows;
}

/* Tiles of strided convolutions have twice the places. */
static int large(const gb_fused *f)
{
    return f->all.places > f->all.filters ? 2 : 1;
}

static int64_t chunks_of(const gb_fused *f)
{
    return gb_div_up(f->all_tiles, f->tiles);
}

static void set_blocks(gb_fused *f, int64_t row_blocks, int64_t column_blocks)
{
    const int64_t width = gb_panel_width(&f->p);
    f->rows = gb_div_up(gb_div_up(f->all_rows, 16), row_blocks) * 16;
    if (row_blocks == 1) f->rows = f->all_rows;
    f->columns = gb_div_up(f->all_columns / width, column_blocks) * width;
    f->row_blocks = gb_div_up(f->all_rows, f->rows);
    f->column_blocks = gb_div_up(f->all_columns, f->columns);
}

static int64_t blocks_of(const gb_fused *f)
{
    return f->row_blocks * f->column_blocks;
}

/* Forward and to the input: the rows of products are tiles, k all channels of the image. */
static void plan_pixels(gb_fused *f, const gb_gpu_caps *caps, const gb_step *s)
{
    plan_tiles(f, caps, s);
    const int64_t wanted = TURNS_WANTED * cores(caps), places = f->all.places;
    const int64_t filters = f->all.filters * f->all_rows * f->all_columns * 4;
    const int64_t fit = TURN_BYTES / (4 * places * (f->all_rows + f->all_columns));
    set_tiles(f,
              clamp(gb_min(fit, f->all_tiles / wanted),
                    (filters > FILTERS_BYTES ? TILES_MIN_FAR : TILES_MIN) / large(f), TILES_MAX));
    set_blocks(f, 1, clamp(gb_div_up(wanted / 2, chunks_of(f)), 1, gb_panel_count(&f->p)));
    f->turns = chunks_of(f) * f->column_blocks;
    f->a_place = f->tiles * f->rows + PAD;
    f->b_place = f->all_rows * f->all_columns;
    f->c_at = places * f->a_place;
    f->c_place = f->tiles * f->columns + PAD;
    f->slot = f->c_at + places * f->c_place;
    const int64_t each = clamp(WORKERS_BYTES / (f->slot * 4 * cores(caps)), 1, TURNS_WANTED);
    f->workers = gb_min(f->turns, each * cores(caps));
    f->shares = 1;
    f->bytes = gb_float_bytes(f->workers * f->slot);
    f->packed = gb_float_bytes(f->all.filters * f->b_place);
}

/* The filter's gradient: rows are the image's channels, columns the output's, k is tiles. A worker
 * keeps its block, and adds to one share of its sums. */
static void plan_filter(gb_fused *f, const gb_gpu_caps *caps, const gb_step *s)
{
    plan_tiles(f, caps, s);
    const int64_t places = f->all.places, filters = f->all.filters;
    if (f->p.rows == 12 && f->all_rows % 12)
        f->p.rows = 8; /* there are few rows, and no tail of them */
    f->sums_place = f->all_rows * f->all_columns;
    set_tiles(f, clamp(f->all_rows, TILES_OF_SUMS / 2, TILES_OF_SUMS) / large(f));
    const int64_t fit = gb_max(1, SUMS_BYTES / (filters * f->sums_place * 4));
    set_blocks(f, gb_div_up(f->all_rows, CHANNELS_OF_SUMS),
               gb_div_up(f->all_columns, CHANNELS_OF_SUMS));
    f->shares = clamp(gb_div_up(WORKERS_OF_SUMS, blocks_of(f)), 1, gb_min(fit, chunks_of(f)));
    /* more cores get smaller blocks, of the same sums: the bits do not depend on them */
    for (int64_t channels = CHANNELS_OF_SUMS / 2;
         channels >= LEAST_CHANNELS && f->shares * blocks_of(f) < cores(caps); channels /= 2)
        set_blocks(f, gb_div_up(f->all_rows, channels), gb_div_up(f->all_columns, channels));
    f->workers = f->shares * blocks_of(f);
    f->turns = chunks_of(f) * blocks_of(f);
    f->a_place = f->tiles * f->rows + PAD;
    f->b_at = places * f->a_place;
    f->b_place = f->tiles * f->columns + PAD;
    f->slot = f->b_at + places * f->b_place;
    f->sums_at = (int64_t)gb_float_bytes(f->workers * f->slot) / 4;
    f->bytes = gb_float_bytes(f->sums_at + f->shares * filters * f->sums_place);
}

static void plan_any(gb_fused *f, const gb_gpu_caps *caps, const gb_step *s)
{
    (s->kind == GB_STEP_CONV_FILTER ? plan_filter : plan_pixels)(f, caps, s);
}

/* --- the kernel --- */

static void begin_turns(gb_gk *k, gb_gpu_builder *b, const gb_fused *f)
{
    gb_gk_begin(k, b);
    gb_gk_param(k, "SLOT", f->slot);
    gb_gk_param(k, "BLOCKS", blocks_of(f));
    gb_gk_param(k, "COLUMN_BLOCKS", f->column_blocks);
    gb_gk_param(k, "TURNS", f->turns);
    gb_gk_param(k, "WORKERS", f->workers);
    gb_gk_param(k, "TILES", f->tiles);
    gb_gk_param(k, "ALL_TILES", f->all_tiles);
    gb_gk_param(k, "ROW_CHANNELS", f->rows);
    gb_gk_param(k, "ALL_ROWS", f->all_rows);
    gb_gk_param(k, "COLUMN_CHANNELS", f->columns);
    gb_gk_param(k, "ALL_COLUMNS", f->p.n);
    gb_gk_define(k, "FOR_TILES", "for (int tile = first_tile; tile < first_tile + tiles; tile++)");
    gb_gk_define(k, "FIRST_TILE", "first_tile");
    gb_gk_define(k, "LANE", "0");
    gb_gk_define(k, "LANES", "WIDE");
    /* the last vector may have channels of the one before it */
    gb_gk_define(k, "CHANNEL(next_)", "min(next_, CHANNELS - WIDE)");
    gb_winograd_grid(k, &f->all);
    gb_value_define(k, GB_WIDE);
    gb_gk_begin_parts(k);
}

/* Which of the turn's memory, and which channels, a part walks: blocks of rows or of columns. */
static void walk(gb_gk *k, bool rows, int64_t at, int64_t pitch, int64_t place)
{
    gb_gk_define(k, "FIRST_CHANNEL", rows ? "r0" : "c0");
    gb_gk_define(k, "CHANNELS", rows ? "rows" : "columns");
    gb_gk_param(k, "PITCH", pitch);
    gb_gk_param(k, "PLACE", place);
    gb_gk_param(k, "MEMORY", at);
}

static void bind_slots(gb_gk *k, const char *name, const gb_fused *f, gb_gk_access access)
{
    gb_gk_scratch(k, name, 0, f->workers * f->slot, GB_S_F32, access);
}

static void add_image(gb_gk *k, const gb_fused *f, const gb_operand *x, const gb_transform *m,
                      const int64_t *pad, bool rows)
{
    gb_gk_operand(k, "x", x, GB_READ);
    bind_slots(k, "t", f, GB_WRITE);
    walk(k, rows, rows ? 0 : f->b_at, rows ? f->rows : f->columns, rows ? f->a_place : f->b_place);
    gb_value_load(k, "LOAD", "x", x->storage, false, GB_WIDE);
    gb_gk_define(k, "PUT(i_, v_)",
                 "GB_VEC_PUT(v_, BUF_t, AT_t + slot + MEMORY + (i_) * PLACE + to + c)");
    gb_winograd_image(k, &f->all, x, m, pad);
    gb_gk_part(k, gb_shader_winograd_image);
}

static void define_block(gb_gk *k, const gb_fused *f)
{
    const gb_tiling *t = f->all.t;
    gb_gk_define(k, "ROWS", "%d", f->p.rows);
    gb_gk_define(k, "VECTORS", "%d", f->p.vectors);
    gb_gk_define(k, "PANEL", "%d", (int)gb_panel_width(&f->p));
    gb_gk_define(k, "PLACES", "%d", (int)f->all.places);
    gb_gk_define(k, "FILTER_OF(place_)", "(min((place_) / %d, %d) * %d + min((place_) %% %d, %d))",
                 t->full, t->filters - 1, t->filters, t->full, t->filters - 1);
    gb_gk_define(k, "K0_COUNT", "1");
    gb_gk_define(k, "K1", "1");
    gb_gk_define(k, "A_K0", "0");
    gb_gk_define(k, "A_K1", "0");
    gb_gk_param(k, "A_PLACE", f->a_place);
    gb_gk_param(k, "B_PLACE", f->b_place);
    bind_slots(k, "a", f, GB_READ);
}

static void add_products_of_pixels(gb_gk *k, const gb_fused *f)
{
    define_block(k, f);
    gb_panel_rows(k, false);
    gb_gk_define(k, "M", "tiles");
    gb_gk_param(k, "A_M", f->rows);
    gb_gk_define(k, "A_K2", "1");
    gb_gk_param(k, "K2", f->all_rows);
    gb_gk_packed(k, "b", 0, (int64_t)(f->packed / 4), GB_READ);
    gb_gk_define(k, "B_FIRST", "c0 * K2");
    gb_gk_define(k, "B_PANEL", "K2 * PANEL");
    gb_gk_define(k, "B_STEP", "PANEL");
    bind_slots(k, "o", f, GB_WRITE);
    gb_gk_param(k, "MEMORY", f->c_at);
    gb_gk_define(k, "O_FIRST", "slot + MEMORY");
    gb_gk_param(k, "O_PLACE", f->c_place);
    gb_gk_param(k, "O_M", f->columns);
    gb_gk_define(k, "ADD_SUMS", "0");
    gb_gk_define(k, "B_OF(place_)", "FILTER_OF(place_)");
    gb_gk_define(k, "O_OF(place_)", "(place_)");
    gb_gk_part(k, gb_shader_winograd_product);
}

static void add_products_of_filter(gb_gk *k, const gb_fused *f)
{
    const gb_tiling *t = f->all.t;
    define_block(k, f);
    gb_panel_rows(k, f->rows % f->p.rows == 0);
    gb_gk_define(k, "M", "rows");
    gb_gk_define(k, "A_M", "1");
    gb_gk_param(k, "A_K2", f->rows);
    gb_gk_define(k, "K2", "tiles");
    bind_slots(k, "b", f, GB_READ);
    gb_gk_param(k, "MEMORY", f->b_at);
    gb_gk_define(k, "B_FIRST", "slot + MEMORY");
    gb_gk_define(k, "B_PANEL", "PANEL");
    gb_gk_param(k, "B_STEP", f->columns);
    gb_gk_scratch(k, "o", (uint64_t)f->sums_at * 4, f->shares * f->all.filters * f->sums_place,
                  GB_S_F32, GB_READ | GB_WRITE);
    gb_gk_param(k, "O_PLACE", f->sums_place);
    gb_gk_param(k, "O_M", f->all_columns);
    gb_gk_define(k, "O_FIRST", "share * FILTERS * O_PLACE + r0 * O_M + c0");
    gb_gk_define(k, "FILTERS", "%d", (int)f->all.filters);
    /* of the places that share a filter the first one may be the first of all */
    gb_gk_define(k, "ADD_SUMS", "turn >= WORKERS || place / %d >= %d || place %% %d >= %d", t->full,
                 t->filters, t->full, t->filters);
    gb_gk_define(k, "B_OF(place_)", "(place_)");
    gb_gk_define(k, "O_OF(place_)", "FILTER_OF(place_)");
    gb_gk_part(k, gb_shader_winograd_product);
}

static gb_status finish_turns(gb_gk *k, const gb_fused *f)
{
    return gb_gk_finish(k, "winograd.fused", gb_shader_winograd_fused,
                        (const int64_t[3]){f->workers, 1, 1});
}

/* --- variants --- */

bool gb_winograd_fused_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_fused f;
    if (!gb_gpu_wide_items(caps) || !gb_winograd_suits(step, 16, 1)) return false;
    plan_any(&f, caps, step);
    return f.bytes / 4 <= INT32_MAX && f.packed / 4 <= INT32_MAX;
}

uint64_t gb_winograd_fused_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_fused f;
    plan_any(&f, caps, step);
    return f.bytes;
}

uint64_t gb_winograd_fused_packed(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_fused f;
    plan_any(&f, caps, step);
    return f.packed;
}

gb_status gb_lower_winograd_fused(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_fused f;
    plan_any(&f, b->caps, s);
    const gb_transform data = gb_winograd_data(f.all.t);
    gb_status status = gb_winograd_taps(b, gb_panel_width(&f.p), 1);
    if (status != GB_OK) return status;
    gb_gk k;
    begin_turns(&k, b, &f);
    add_image(&k, &f, &s->in[0], &data, f.all.pad, true);
    add_products_of_pixels(&k, &f);
    bind_slots(&k, "t", &f, GB_READ);
    walk(&k, false, f.c_at, f.columns, f.c_place);
    gb_value_load(&k, "LOAD_FROM", "t", GB_S_F32, false, GB_WIDE);
    gb_gk_define(&k, "LOAD(i_)", "LOAD_FROM(slot + MEMORY + (i_))");
    gb_winograd_results(&k, s, &f.all);
    gb_gk_part(&k, gb_shader_winograd_result);
    return finish_turns(&k, &f);
}

gb_status gb_lower_winograd_fused_filter(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_fused f;
    plan_any(&f, b->caps, s);
    const gb_transform data = gb_winograd_data(f.all.t), gradient = gb_winograd_gradient(f.all.t);
    gb_gk k;
    begin_turns(&k, b, &f);
    add_image(&k, &f, &s->in[0], &data, f.all.pad, true);
    add_image(&k, &f, &s->in[1], &gradient, NULL, false);
    add_products_of_filter(&k, &f);
    gb_status status = finish_turns(&k, &f);
    const gb_winograd_shares sums = {.at = (uint64_t)f.sums_at * 4,
                                     .shares = f.shares,
                                     .m = f.all_rows,
                                     .n = f.p.n,
                                     .pitch = f.all_columns};
    return status == GB_OK ? gb_winograd_join(b, &sums, 1) : status;
}
