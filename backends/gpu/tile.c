#include "backends/gpu/tile.h"

#include <stdio.h>
#include <string.h>

#include "backends/gpu/manifest.h"
#include "backends/gpu/value.h"

typedef struct shape {
    const char *name;
    int bm, bn, bk, tm, tn;
} shape;

static const shape shapes[GB_TILE_SIZES] = {[GB_TILE_128] = {"tile128", 128, 128, 8, 8, 8},
                                            [GB_TILE_64] = {"tile64", 64, 64, 16, 4, 4},
                                            [GB_TILE_32] = {"tile32", 32, 32, 16, 4, 4},
                                            [GB_TILE_TALL] = {"tall", 128, 16, 16, 4, 4},
                                            [GB_TILE_FLAT] = {"flat", 16, 128, 16, 4, 4}};

const char *gb_tile_name(gb_tile_size size)
{
    return shapes[size].name;
}

static int items_of(const shape *s)
{
    return s->bm / s->tm * (s->bn / s->tn);
}

bool gb_tile_applies(const gb_gpu_caps *caps, gb_tile_size size, int64_t m, int64_t n)
{
    const shape *s = &shapes[size];
    return m > 0 && n > 0 && caps->max_local >= (uint32_t)items_of(s) &&
           caps->max_local_dim[0] >= (uint32_t)items_of(s) &&
           caps->local_memory >= (uint32_t)(2 * s->bk * (s->bm + s->bn) * 4) &&
           gb_div_up(m, s->bm) <= caps->max_groups[1];
}

bool gb_tile_fits(const gb_gpu_caps *caps, gb_tile_size size, int64_t m, int64_t n, int64_t batches)
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
    return size == best;
}

gb_tile gb_tile_choose(gb_tile_size size, int64_t m, int64_t n, int64_t batches)
{
    const shape *s = &shapes[size];
    return (gb_tile){.m = m,
                     .n = n,
                     .bm = s->bm,
                     .bn = s->bn,
                     .bk = s->bk,
                     .tm = s->tm,
                     .tn = s->tn,
                     .items = items_of(s),
                     .groups = {gb_div_up(n, s->bn), gb_div_up(m, s->bm), batches}};
}

void gb_tile_operand(gb_tile *t, gb_gk *k, bool rows, const gb_operand *o, int side, int k_axis,
                     bool whole)
{
    gb_tile_side *to = rows ? &t->a : &t->b;
    const int elements = (rows ? t->bm : t->bn) * t->bk;
    to->along_side = k_axis < 0 || o->stride[k_axis] != 1;
    to->width = (to->along_side ? whole && gb_fours(o, side) : gb_fours(o, k_axis)) ? 4 : 1;
    if (elements / to->width < t->items) to->width = 1;
    to->loads = gb_max(1, elements / to->width / t->items);
    if (to->width == 4) gb_gk_vectors(k, rows ? "i0" : "i1", 4);
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
                    " \\\n    GB_PUT(s%c, (buf * %d + part_%c%d + %d) * %d + side_%c%d, f%c%d", a,
                    t->bk, a, i, j, side, a, i, a, i);
        gb_text_add(text, s->width == 4 ? ".%c);" : ");", "xyzw"[j]);
    }
}

void gb_tile_fetches(gb_gk *k, const gb_tile *t, bool rows, gb_tile_fetch fetch)
{
    const gb_tile_side *s = rows ? &t->a : &t->b;
    const char a = rows ? 'a' : 'b', A = rows ? 'A' : 'B';
    gb_text *d = &k->defs;
    gb_text_add(d, "#define SETUP_%c", A);
    for (int i = 0; i < s->loads; i++) {
        add_slot(d, t, rows, i);
        gb_text_add(d, " int %s_%d = %s + side_%c%d; %s f%c%d;", rows ? "row" : "column", i,
                    rows ? "first_row" : "first_column", a, i, s->width == 4 ? "GB_V4" : "float", a, i);
        add_text(d, rows, fetch.setup, i);
    }
    gb_text_add(d, "\n#define FETCH_%c", A);
    for (int i = 0; i < s->loads; i++) {
        gb_text_add(d, " \\\n    { ");
        add_text(d, rows, fetch.each, i);
        gb_text_add(d, " bool in_ = ");
        add_text(d, rows, fetch.guard, i);
        gb_text_add(d, "; f%c%d = %s(in_ ? ", a, i,
                    rows ? (s->width == 4 ? "LD4_i0" : "LD_i0")
                         : (s->width == 4 ? "LD4_i1" : "LD_i1"));
        add_text(d, rows, fetch.place, i);
        gb_text_add(d, " : 0); f%c%d = in_ ? f%c%d : %s; }", a, i, a, i,
                    s->width == 4 ? "GB_SPLAT4(0.0f)" : "0.0f");
    }
    gb_text_add(d, "\n#define STASH_%c", A);
    for (int i = 0; i < s->loads; i++) add_put(d, t, rows, i);
    gb_text_add(d, "\n");
}

/* Reads an item's rows (or columns) of one k: fours, far enough apart that neighbours' lie side by
 * side. */
static void define_reads(gb_gk *k, const gb_tile *t, bool rows)
{
    const int per_item = rows ? t->tm : t->tn, side = rows ? t->bm : t->bn;
    gb_text_add(&k->defs, "#define READ_%c", rows ? 'A' : 'B');
    for (int i = 0; i < per_item / 4; i++)
        gb_text_add(&k->defs, " GB_V4 %c%d = s%c[(buf * %d + k) * %d + %s + %d];", rows ? 'x' : 'y',
                    i, rows ? 'a' : 'b', t->bk, side / 4, rows ? "item_m" : "item_n",
                    i * (side / per_item));
    gb_text_add(&k->defs, "\n");
}

static void each_result(gb_gk *k, const gb_tile *t, const char *macro, const char *format)
{
    gb_text_add(&k->defs, "#define %s", macro);
    for (int r = 0; r < t->tm; r++)
        for (int c = 0; c < t->tn; c++) {
            gb_text_add(&k->defs, c ? " " : " \\\n    ");
            for (const char *s = format; *s; s++) {
                if (*s == '#')
                    gb_text_add(&k->defs, "c%d_%d", r, c);
                else if (*s == '$')
                    gb_text_add(&k->defs, "%d", r * t->tn + c);
                else if (*s == '<')
                    gb_text_add(&k->defs, "x%d.%c", r / 4, "xyzw"[r % 4]);
                else if (*s == '>')
                    gb_text_add(&k->defs, "y%d.%c", c / 4, "xyzw"[c % 4]);
                else
                    gb_text_add(&k->defs, "%c", *s);
            }
        }
    gb_text_add(&k->defs, "\n");
}

void gb_tile_define(gb_gk *k, const gb_tile *t, const char *result)
{
    const int across = t->bn / t->tn, down = t->bm / t->tm;
    gb_gk_local(k, (uint32_t)t->items, 1, 1);
    gb_gk_shared(k, "GB_V4", "sa", 2 * t->bk * t->bm / 4);
    gb_gk_shared(k, "GB_V4", "sb", 2 * t->bk * t->bn / 4);
    gb_gk_param(k, "M", t->m);
    gb_gk_param(k, "N", t->n);
    gb_gk_define(k, "BK", "%d", t->bk);
    gb_gk_define(k, "TILE",
                 "int item = GB_LOCAL(0), item_n = item %% %d, item_m = item / %d; "
                 "int first_column = GB_GROUP(0) * %d, first_row = GB_GROUP(1) * %d;",
                 across, across, t->bn, t->bm);
    define_reads(k, t, true);
    define_reads(k, t, false);
    each_result(k, t, "CLEAR", "float # = 0.0f;");
    each_result(k, t, "MULTIPLY", "# = fma(<, >, #);");
    each_result(k, t, "COLLECT", "tile[$] = #;");
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
