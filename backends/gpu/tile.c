#include "backends/gpu/tile.h"

#include <stdio.h>
#include <string.h>

#include "backends/gpu/manifest.h"
#include "backends/gpu/value.h"

typedef struct shape {
    int bm, bn, bk, tm, tn;
} shape;

static const shape shapes[GB_TILE_SIZES] = {[GB_TILE_128] = {128, 128, 8, 8, 8},
                                            [GB_TILE_64] = {64, 64, 16, 4, 4},
                                            [GB_TILE_32] = {32, 32, 16, 4, 4},
                                            [GB_TILE_TALL] = {128, 16, 16, 4, 4},
                                            [GB_TILE_FLAT] = {16, 128, 16, 4, 4}};

static const char *const names[GB_TILE_FORMS][GB_TILE_SIZES] = {
    {"tile128", "tile64", "tile32", "tall", "flat"},
    {"half128", "half64", "half32", "half_tall", "half_flat"},
    {"packed128", "packed64", "packed32", "packed_tall", "packed_flat"}};

/* The chain divides every bk. Measured: docs/decisions/0016-packed-f16.md. */
enum { PACKED_CHAIN = 8, PACKED_LEAST = 64 };

static gb_tile_size size_of(int member)
{
    return (gb_tile_size)(member % GB_TILE_SIZES);
}

static gb_tile_form form_of(int member)
{
    return (gb_tile_form)(member / GB_TILE_SIZES);
}

const char *gb_tile_name(int member)
{
    return names[form_of(member)][size_of(member)];
}

static int items_of(const shape *s)
{
    return s->bm / s->tm * (s->bn / s->tn);
}

static bool suits(const gb_gpu_caps *caps, const gb_step *s, gb_tile_form form, int64_t k)
{
    if (form == GB_TILE_FLOATS) return true;
    if (s->in[0].storage != GB_S_F16 || s->in[1].storage != GB_S_F16) return false;
    /* OpenCL keeps halves as integers and has conversions in its core */
    if (form == GB_TILE_HALVES) return caps->half_math || caps->api == GB_GPU_OPENCL;
    return caps->half_math && s->fast && s->out[0].storage == GB_S_F16 && k >= PACKED_LEAST;
}

bool gb_tile_applies(const gb_gpu_caps *caps, const gb_step *s, int member, int64_t m, int64_t n,
                     int64_t k)
{
    const gb_tile_form form = form_of(member);
    const shape *t = &shapes[size_of(member)];
    const int bytes = form == GB_TILE_FLOATS ? 4 : 2;
    return m > 0 && n > 0 && suits(caps, s, form, k) && caps->max_local >= (uint32_t)items_of(t) &&
           caps->max_local_dim[0] >= (uint32_t)items_of(t) &&
           caps->local_memory >= (uint32_t)(2 * t->bk * (t->bm + t->bn) * bytes) &&
           gb_div_up(m, t->bm) <= caps->max_groups[1];
}

bool gb_tile_fits(const gb_gpu_caps *caps, int member, int64_t m, int64_t n, int64_t batches)
{
    const int64_t enough = gb_max(64, 2 * (int64_t)caps->compute_units);
    gb_tile_size best = GB_TILE_32;
    if (n <= 16 && m >= 64)
        best = GB_TILE_TALL;
    else if (m <= 16 && n >= 64)
        best = GB_TILE_FLAT;
    else if (gb_div_up(m, 128) * gb_div_up(n, 128) * batches >= enough && m > 64 && n > 64)
        best = GB_TILE_128;
    else if (gb_div_up(m, 64) * gb_div_up(n, 64) * batches >= enough && m > 32 && n > 32)
        best = GB_TILE_64;
    return size_of(member) == best;
}

gb_tile gb_tile_choose(int member, int64_t m, int64_t n, int64_t batches)
{
    const shape *s = &shapes[size_of(member)];
    return (gb_tile){.form = form_of(member),
                     .chain = form_of(member) == GB_TILE_PACKED ? PACKED_CHAIN : s->bk,
                     .m = m,
                     .n = n,
                     .bm = s->bm,
                     .bn = s->bn,
                     .bk = s->bk,
                     .tm = s->tm,
                     .tn = s->tn,
                     .items = items_of(s),
                     .groups = {gb_div_up(n, s->bn), gb_div_up(m, s->bm), batches}};
}

int gb_tile_turns(const gb_tile *t)
{
    return t->bk + t->bk / t->chain + 1;
}

void gb_tile_operand(gb_tile *t, gb_gk *k, bool rows, const gb_operand *o, int side, int k_axis,
                     bool whole)
{
    gb_tile_side *to = rows ? &t->a : &t->b;
    const int elements = (rows ? t->bm : t->bn) * t->bk;
    to->along_side = k_axis < 0 || o->stride[k_axis] != 1;
    const gb_storage kept = t->form == GB_TILE_FLOATS ? GB_S_F32 : GB_S_F16;
    to->width =
        (to->along_side ? whole && gb_fours(o, side, kept) : gb_fours(o, k_axis, kept)) ? 4 : 1;
    if (elements / to->width < t->items) to->width = 1;
    to->loads = gb_max(1, elements / to->width / t->items);
    if (t->form != GB_TILE_FLOATS)
        gb_gk_halves(k, rows ? "i0" : "i1", to->width);
    else if (to->width == 4)
        gb_gk_vectors(k, rows ? "i0" : "i1", 4);
}

/* --- texts --- */

static void add_numbered(gb_text *t, const char *text, int number)
{
    for (const char *s = text ? text : ""; *s; s++)
        gb_text_add(t, *s == '$' ? "%d" : "%c", *s == '$' ? number : *s);
}

/* Which element of the tile load number i of an item is: along its side, and along k. */
static void add_slot(gb_text *text, const gb_tile *t, bool rows, int i)
{
    const gb_tile_side *s = rows ? &t->a : &t->b;
    const int side = rows ? t->bm : t->bn, line = (s->along_side ? side : t->bk) / s->width;
    const char a = rows ? 'a' : 'b';
    gb_text_add(text, " \\\n    int e%c%d = item + %d;", a, i, i * t->items);
    gb_text_add(text, " int side_%c%d = e%c%d %s %d%s, part_%c%d = e%c%d %s %d%s;", a, i, a, i,
                s->along_side ? "%" : "/", line, s->along_side && s->width == 4 ? " * 4" : "", a, i,
                a, i, s->along_side ? "/" : "%", line,
                !s->along_side && s->width == 4 ? " * 4" : "");
}

/* The texts say row_$, column_$ and k_$; k_$ is another one for A and for B. */
static void add_text(gb_text *t, bool rows, const char *text, int number)
{
    for (const char *s = text ? text : ""; *s;) {
        if (strncmp(s, "k_$", 3) == 0 && (s == text || s[-1] == ' ' || s[-1] == '(')) {
            gb_text_add(t, "part_%c%d", rows ? 'a' : 'b', number);
            s += 3;
        } else {
            char one[2] = {*s++, 0};
            add_numbered(t, one, number);
        }
    }
}

static void add_put(gb_text *text, const gb_tile *t, bool rows, int i)
{
    const gb_tile_side *s = rows ? &t->a : &t->b;
    const char a = rows ? 'a' : 'b';
    const int side = rows ? t->bm : t->bn;
    if (s->width == 4 && s->along_side) {
        gb_text_add(text, " \\\n    s%c[((buf * %d + part_%c%d) * %d + side_%c%d) / 4] = f%c%d;", a,
                    t->bk, a, i, side, a, i, a, i);
        return;
    }
    for (int j = 0; j < s->width; j++) {
        gb_text_add(text,
                    " \\\n    %s(s%c, (buf * %d + part_%c%d + %d) * %d + side_%c%d, f%c%d",
                    t->form == GB_TILE_FLOATS ? "GB_PUT" : "GB_PUT_H", a, t->bk, a, i, j, side, a,
                    i, a, i);
        gb_text_add(text, s->width == 4 ? ".%c);" : ");", "xyzw"[j]);
    }
}

void gb_tile_fetches(gb_gk *k, const gb_tile *t, bool rows, gb_tile_fetch fetch)
{
    const gb_tile_side *s = rows ? &t->a : &t->b;
    const char a = rows ? 'a' : 'b', A = rows ? 'A' : 'B';
    const bool halves = t->form != GB_TILE_FLOATS;
    const char *type = halves ? (s->width == 4 ? "GB_H4" : "GB_H")
                              : (s->width == 4 ? "GB_V4" : "float");
    const char *zero = halves ? (s->width == 4 ? "GB_H4_ZERO" : "GB_H_ZERO")
                              : (s->width == 4 ? "GB_SPLAT4(0.0f)" : "0.0f");
    gb_text *d = &k->defs;
    gb_text_add(d, "#define SETUP_%c", A);
    for (int i = 0; i < s->loads; i++) {
        add_slot(d, t, rows, i);
        gb_text_add(d, " int %s_%d = %s + side_%c%d; %s f%c%d;", rows ? "row" : "column", i,
                    rows ? "first_row" : "first_column", a, i, type, a, i);
        add_text(d, rows, fetch.setup, i);
    }
    gb_text_add(d, "\n#define FETCH_%c", A);
    for (int i = 0; i < s->loads; i++) {
        gb_text_add(d, " \\\n    { ");
        add_text(d, rows, fetch.each, i);
        gb_text_add(d, " bool in_ = ");
        add_text(d, rows, fetch.guard, i);
        gb_text_add(d, "; f%c%d = LD%s%s_i%d(in_ ? ", a, i, halves ? "H" : "",
                    s->width == 4 ? "4" : "", rows ? 0 : 1);
        add_text(d, rows, fetch.place, i);
        gb_text_add(d, " : 0); f%c%d = in_ ? f%c%d : %s; }", a, i, a, i, zero);
    }
    gb_text_add(d, "\n#define STASH_%c", A);
    for (int i = 0; i < s->loads; i++) add_put(d, t, rows, i);
    gb_text_add(d, "\n");
}

/* Reads an item's rows (or columns) of one k: fours, far enough apart that neighbours' lie side by
 * side. */
static void define_reads(gb_gk *k, const gb_tile *t, bool rows)
{
    static const char *const read[GB_TILE_FORMS] = {" GB_V4 %c%d = GB_FOUR(s%c, ",
                                                    " GB_V4 %c%d = GB_WIDENED(s%c, ",
                                                    " GB_HALF4 %c%d = GB_HALVES(s%c, "};
    const int per_item = rows ? t->tm : t->tn, side = rows ? t->bm : t->bn;
    gb_text_add(&k->defs, "#define READ_%c", rows ? 'A' : 'B');
    for (int i = 0; i < per_item / 4; i++) {
        gb_text_add(&k->defs, read[t->form], rows ? 'x' : 'y', i, rows ? 'a' : 'b');
        gb_text_add(&k->defs, "(buf * %d + k) * %d + %s + %d);", t->bk, side / 4,
                    rows ? "item_m" : "item_n", i * (side / per_item));
    }
    gb_text_add(&k->defs, "\n");
}

/* The format for every result, or for every second one where it has two: # is the result, & its
 * neighbour, ~ the sum of both in f16, $ the result's number, < its row's value, > its column's, and
 * ^ those of both columns. */
static void each_result(gb_gk *k, const gb_tile *t, const char *macro, const char *format, int step)
{
    gb_text *d = &k->defs;
    gb_text_add(d, "#define %s", macro);
    for (int r = 0; r < t->tm; r++)
        for (int c = 0; c < t->tn; c += step) {
            gb_text_add(d, c ? " " : " \\\n    ");
            for (const char *s = format; *s; s++) {
                if (*s == '#' || *s == '&')
                    gb_text_add(d, "c%d_%d", r, c + (*s == '&'));
                else if (*s == '~')
                    gb_text_add(d, "p%d_%d", r, c / 2);
                else if (*s == '$')
                    gb_text_add(d, "%d", r * t->tn + c);
                else if (*s == '<')
                    gb_text_add(d, "x%d.%c", r / 4, "xyzw"[r % 4]);
                else if (*s == '>')
                    gb_text_add(d, "y%d.%c", c / 4, "xyzw"[c % 4]);
                else if (*s == '^')
                    gb_text_add(d, c % 4 ? "GB_HIGH(y%d)" : "GB_LOW(y%d)", c / 4);
                else
                    gb_text_add(d, "%c", *s);
            }
        }
    gb_text_add(d, "\n");
}

static void define_sums(gb_gk *k, const gb_tile *t)
{
    each_result(k, t, "CLEAR", "float # = 0.0f;", 1);
    gb_gk_define(k, "CHAIN", "%d", t->chain);
    if (t->form == GB_TILE_PACKED) {
        each_result(k, t, "CHAIN_BEGIN", "GB_HALF2 ~ = GB_HALF2_ZERO;", 2);
        each_result(k, t, "MULTIPLY", "~ = GB_HALF2_FMA(<, ^, ~);", 2);
        each_result(k, t, "CHAIN_END", "# += GB_FLOAT(~.x); & += GB_FLOAT(~.y);", 2);
    } else {
        gb_gk_define(k, "CHAIN_BEGIN", "%s", "");
        each_result(k, t, "MULTIPLY", "# = fma(<, >, #);", 1);
        gb_gk_define(k, "CHAIN_END", "%s", "");
    }
    each_result(k, t, "COLLECT", "tile[$] = #;", 1);
}

void gb_tile_define(gb_gk *k, const gb_tile *t, const char *result)
{
    const int across = t->bn / t->tn, down = t->bm / t->tm;
    gb_gk_local(k, (uint32_t)t->items, 1, 1);
    const char *kept = t->form == GB_TILE_FLOATS ? "GB_V4" : "GB_H4";
    gb_gk_shared(k, kept, "sa", 2 * t->bk * t->bm / 4);
    gb_gk_shared(k, kept, "sb", 2 * t->bk * t->bn / 4);
    gb_gk_param(k, "M", t->m);
    gb_gk_param(k, "N", t->n);
    gb_gk_define(k, "BK", "%d", t->bk);
    gb_gk_define(k, "TILE",
                 "int item = GB_LOCAL(0), item_n = item %% %d, item_m = item / %d; "
                 "int first_column = GB_GROUP(0) * %d, first_row = GB_GROUP(1) * %d;",
                 across, across, t->bn, t->bm);
    define_reads(k, t, true);
    define_reads(k, t, false);
    define_sums(k, t);
    /* through memory, so that the store is not repeated for each result */
    gb_gk_define(k, "WRITE",
                 "float tile[%d]; COLLECT \\\n"
                 "    for (int r = 0; r < %d; r++) \\\n"
                 "        for (int s = 0; s < %d; s++) { \\\n"
                 "            int row = first_row + r / 4 * %d + item_m * 4 + r %% 4; \\\n"
                 "            int column = first_column + s / 4 * %d + item_n * 4 + s %% 4; \\\n"
                 "            if (row < M && column < N) { \\\n"
                 "                float acc = tile[r * %d + s]; %s \\\n"
                 "            } \\\n"
                 "        }",
                 t->tm * t->tn, t->tm, t->tn, down * 4, across * 4, t->tn, result);
}
