#include "backends/gpu/block.h"

#include <stdio.h>

#include "backends/gpu/manifest.h"

enum { ITEMS = 16, LINES = 4 }; /* items of a plain group along columns and rows */

bool gb_block_applies(const gb_gpu_caps *caps, int64_t m, int64_t n)
{
    return caps->max_local >= ITEMS * LINES && m >= LINES && n >= ITEMS / 2 &&
           gb_div_up(m, LINES) <= caps->max_groups[1];
}

gb_block gb_block_choose(const gb_gpu_caps *caps, int64_t m, int64_t n, int64_t batches)
{
    gb_block b = {.m = m, .n = n, .rows = 8, .columns = 8, .k_step = 1};
    while (b.columns > 1 && ITEMS * b.columns / 2 >= n) b.columns /= 2;
    while (b.rows > 1 && LINES * b.rows / 2 >= m) b.rows /= 2;
    /* a GPU wants thousands of items more than it wants large blocks */
    int64_t want = caps->cpu_hosted ? 256 : 8192;
    while (b.rows * b.columns > 4 &&
           gb_div_up(m, b.rows) * gb_div_up(n, b.columns) * batches < want) {
        if (b.rows > b.columns)
            b.rows /= 2;
        else
            b.columns /= 2;
    }
    b.groups[0] = gb_div_up(n, ITEMS * b.columns);
    b.groups[1] = gb_div_up(m, LINES * b.rows);
    b.groups[2] = batches;
    return b;
}

/* --- lanes --- */

bool gb_lanes_apply(const gb_gpu_caps *caps, int64_t m, int64_t n)
{
    const int s = caps->subgroup;
    return caps->cpu_hosted && caps->broadcast && (s == 4 || s == 8 || s == 16) && m >= s &&
           n >= s / 2 && gb_div_up(m, s) <= caps->max_groups[1];
}

bool gb_block_pairs(const gb_gpu_caps *caps, const gb_operand *o, int axis)
{
    if (!caps->int64 || o->storage != GB_S_F32 || o->offset % 8 || o->stride[axis] != 1 ||
        o->dim[axis] % 2)
        return false;
    for (int d = 0; d < o->rank; d++)
        if (d != axis && o->dim[d] > 1 && o->stride[d] % 2) return false;
    return true;
}

gb_block gb_block_lanes(const gb_gpu_caps *caps, int64_t m, int64_t n, int64_t batches, gb_pairs a,
                        gb_pairs b)
{
    const int s = caps->subgroup;
    if (a == GB_PAIRS_OF_SIDE && m < 2 * s) a = GB_SINGLE;
    gb_block p = {.m = m, .n = n, .rows = 2 * s, .columns = 8, .lanes = s, .a = a, .b = b};
    p.k_step = a == GB_PAIRS_OF_K || b == GB_PAIRS_OF_K ? 2 : 1;
    if (s < 16 && m >= 32) p.rows = 32;
    while (p.columns > 2 && s * p.columns / 2 >= n) p.columns /= 2;
    while (p.rows > 2 * s && p.rows / 2 >= m) p.rows /= 2;
    while (p.columns > 2 && gb_div_up(m, p.rows) * gb_div_up(n, s * p.columns) * batches < 8)
        p.columns /= 2;
    p.groups[0] = gb_div_up(n, s * p.columns);
    p.groups[1] = gb_div_up(m, p.rows);
    p.groups[2] = batches;
    return p;
}

static int count_loads(const gb_block *b, bool rows)
{
    int lanes = rows && b->lanes ? b->lanes : 1;
    return (rows ? b->rows : b->columns) / lanes /
           ((rows ? b->a : b->b) == GB_PAIRS_OF_SIDE ? 2 : 1);
}

static void add_numbered(gb_text *t, const char *text, int number)
{
    for (const char *s = text ? text : ""; *s; s++)
        gb_text_add(t, *s == '$' ? "%d" : "%c", *s == '$' ? number : *s);
}

void gb_block_each(gb_gk *k, const gb_block *b, const char *macro, bool rows, const char *text)
{
    gb_text_add(&k->defs, "#define %s", macro);
    for (int i = 0; i < count_loads(b, rows); i++) {
        gb_text_add(&k->defs, " \\\n    ");
        add_numbered(&k->defs, text, i);
    }
    gb_text_add(&k->defs, "\n");
}

/* One load into the variable that letter names, `further` elements behind its place. */
static void add_load(gb_text *t, const gb_block *b, bool rows, const gb_block_load *l, int i,
                     char letter, const char *further)
{
    const char *operand = rows ? "i0" : "i1", *step = rows ? "A_K" : "B_K";
    const bool pairs = (rows ? b->a : b->b) != GB_SINGLE, both = !pairs && b->k_step == 2;
    gb_text_add(t, " %s %c%d = ", pairs || both ? "GB_V2" : "float", letter, i);
    gb_text_add(t, both ? "GB_MAKE2(LD_%s(" : pairs ? "LD2_%s((" : "LD_%s((", operand);
    add_numbered(t, l->place, i);
    gb_text_add(t, ")%s", further);
    if (both) {
        gb_text_add(t, ", LD_%s((", operand);
        add_numbered(t, l->place, i);
        gb_text_add(t, ") + %s)", step);
    }
    gb_text_add(t, ");");
    if (!l->guard) return;
    gb_text_add(t, " %c%d = ", letter, i);
    add_numbered(t, l->guard, i);
    gb_text_add(t, " ? %c%d : %s;", letter, i, pairs || both ? "GB_MAKE2(0.0f, 0.0f)" : "0.0f");
}

void gb_block_loads(gb_gk *k, const gb_block *b, bool rows, gb_block_load load)
{
    gb_text *t = &k->defs;
    gb_text_add(t, "#define LOAD_%c", rows ? 'A' : 'B');
    for (int i = 0; i < count_loads(b, rows); i++) {
        gb_text_add(t, " \\\n    ");
        add_numbered(t, load.before, i);
        add_load(t, b, rows, &load, i, rows ? 'x' : 'y', "");
        if ((rows ? b->a : b->b) == GB_PAIRS_OF_SIDE && b->k_step == 2)
            add_load(t, b, rows, &load, i, rows ? 'u' : 'v', rows ? " + A_K" : " + B_K");
        gb_text_add(t, " ");
        add_numbered(t, load.after, i);
    }
    gb_text_add(t, "\n");
}

/* --- the block --- */

/* The variable that holds k (0 or 1) of the round for row or column number i, and its lane. */
static int name_value(const gb_block *b, bool rows, int i, int k, char text[24])
{
    const int lanes = rows && b->lanes ? b->lanes : 1;
    const gb_pairs p = rows ? b->a : b->b;
    const char x = rows ? 'x' : 'y';
    if (p == GB_PAIRS_OF_SIDE) {
        snprintf(text, 24, "%c%d.%c", k ? (rows ? 'u' : 'v') : x, i / 2 / lanes, i % 2 ? 'y' : 'x');
        return i / 2 % lanes;
    }
    snprintf(text, 24, b->k_step == 2 ? "%c%d.%c" : "%c%d", x, i / lanes, k ? 'y' : 'x');
    return i % lanes;
}

static void define_multiply(gb_gk *k, const gb_block *b)
{
    gb_text *t = &k->defs;
    char x[24], y[24];
    gb_text_add(t, "#define MULTIPLY");
    for (int step = 0; step < b->k_step; step++)
        for (int r = 0; r < b->rows; r++) {
            int lane = name_value(b, true, r, step, x);
            gb_text_add(t,
                        b->lanes ? " \\\n    { float x_ = GB_BROADCAST(%s, %d);"
                                 : " \\\n    { float x_ = %s;",
                        x, lane);
            for (int c = 0; c < b->columns; c++) {
                name_value(b, false, c, step, y);
                gb_text_add(t, " c%d_%d = fma(x_, %s, c%d_%d);", r, c, y, r, c);
            }
            gb_text_add(t, " }");
        }
    gb_text_add(t, "\n");
}

/* Each result of the block: its register, then its number. */
static void each_result(gb_gk *k, const gb_block *b, const char *macro, const char *format)
{
    gb_text_add(&k->defs, "#define %s", macro);
    for (int r = 0; r < b->rows; r++)
        for (int c = 0; c < b->columns; c++) {
            gb_text_add(&k->defs, " \\\n    ");
            for (const char *s = format; *s; s++) {
                if (*s == '#')
                    gb_text_add(&k->defs, "c%d_%d", r, c);
                else if (*s == '$')
                    gb_text_add(&k->defs, "%d", r * b->columns + c);
                else
                    gb_text_add(&k->defs, "%c", *s);
            }
        }
    gb_text_add(&k->defs, "\n");
}

/* Where the item's rows and columns are: for loads, and for results. */
static void define_places(gb_gk *k, const gb_block *b)
{
    const int s = b->lanes;
    if (!s) {
        gb_gk_local(k, ITEMS, LINES, 1);
        gb_gk_define(k, "BLOCK",
                     "int first_column = GB_GROUP(0) * %d + GB_LOCAL(0); "
                     "int first_row = (GB_GROUP(1) * %d + GB_LOCAL(1)) * %d;",
                     ITEMS * b->columns, LINES, b->rows);
        gb_gk_define(k, "ROW_AT(i_)", "min(first_row + i_, M - 1)");
        gb_gk_define(k, "COLUMN_AT(i_)", "min(first_column + i_ * %d, N - 1)", ITEMS);
        gb_gk_define(k, "COLUMN_OF(i_)", "(first_column + i_ * %d)", ITEMS);
        return;
    }
    k->uses_subgroups = true;
    if (b->a != GB_SINGLE) gb_gk_vectors(k, "i0", 2);
    if (b->b != GB_SINGLE) gb_gk_vectors(k, "i1", 2);
    gb_gk_local(k, (uint32_t)s, 1, 1);
    gb_gk_define(k, "BLOCK",
                 "int first_column = GB_GROUP(0) * %d, first_row = GB_GROUP(1) * %d, "
                 "lane = GB_LANE;",
                 s * b->columns, b->rows);
    if (b->a == GB_PAIRS_OF_SIDE)
        gb_gk_define(k, "ROW_AT(i_)", "min(first_row + (i_ * %d + lane) * 2, M - 2)", s);
    else
        gb_gk_define(k, "ROW_AT(i_)", "min(first_row + i_ * %d + lane, M - 1)", s);
    if (b->b == GB_PAIRS_OF_SIDE) {
        gb_gk_define(k, "COLUMN_AT(i_)", "min(first_column + (i_ * %d + lane) * 2, N - 2)", s);
        gb_gk_define(k, "COLUMN_OF(i_)", "(first_column + (i_ / 2 * %d + lane) * 2 + i_ %% 2)", s);
    } else {
        gb_gk_define(k, "COLUMN_AT(i_)", "min(first_column + i_ * %d + lane, N - 1)", s);
        gb_gk_define(k, "COLUMN_OF(i_)", "(first_column + i_ * %d + lane)", s);
    }
}

void gb_block_define(gb_gk *k, const gb_block *b, const char *result)
{
    gb_gk_param(k, "M", b->m);
    gb_gk_param(k, "N", b->n);
    define_places(k, b);
    each_result(k, b, "CLEAR", "float # = 0.0f;");
    define_multiply(k, b);
    each_result(k, b, "COLLECT", "tile[$] = #;");
    gb_gk_define(k, "COLUMNS", "%d", b->columns);
    /* through memory, so that the store is not repeated for each result */
    gb_gk_define(k, "WRITE",
                 "float tile[%d]; COLLECT \\\n"
                 "    for (int r = 0; r < %d; r++) \\\n"
                 "        for (int s = 0; s < COLUMNS; s++) { \\\n"
                 "            int row = first_row + r, column = COLUMN_OF(s); \\\n"
                 "            if (row < M && column < N) { \\\n"
                 "                float acc = tile[r * COLUMNS + s]; %s \\\n"
                 "            } \\\n"
                 "        }",
                 b->rows * b->columns, b->rows, result);
}
