#include "backends/gpu/block.h"

#include <string.h>

#include "backends/gpu/manifest.h"

enum { LANES = 16, LINES = 4 }; /* items of a group along columns and rows */

bool gb_block_applies(const gb_gpu_caps *caps, int64_t m, int64_t n)
{
    /* where items are wide panels are faster, but tests may ask for blocks */
    bool asked = caps->variant && strstr(caps->variant, "block");
    if ((gb_gpu_wide_items(caps) && !asked) || caps->max_local < LANES * LINES) return false;
    return m >= LINES && n >= LANES / 2 && gb_div_up(m, LINES) <= caps->max_groups[1];
}

gb_block gb_block_choose(const gb_gpu_caps *caps, int64_t m, int64_t n, int64_t batches)
{
    gb_block b = {.m = m, .n = n, .rows = 8, .columns = 8};
    while (b.columns > 1 && LANES * b.columns / 2 >= n) b.columns /= 2;
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
    b.groups[0] = gb_div_up(n, LANES * b.columns);
    b.groups[1] = gb_div_up(m, LINES * b.rows);
    b.groups[2] = batches;
    return b;
}

void gb_block_each(gb_gk *k, const char *macro, int n, const char *text)
{
    gb_text_add(&k->defs, "#define %s", macro);
    for (int i = 0; i < n; i++) {
        gb_text_add(&k->defs, " \\\n    ");
        for (const char *s = text; *s; s++)
            gb_text_add(&k->defs, *s == '$' ? "%d" : "%c", *s == '$' ? i : *s);
    }
    gb_text_add(&k->defs, "\n");
}

/* The same for each result of the block: # is its register, < its row and > its column. */
static void each_result(gb_gk *k, const gb_block *b, const char *macro, const char *format)
{
    gb_text_add(&k->defs, "#define %s", macro);
    for (int r = 0; r < b->rows; r++)
        for (int c = 0; c < b->columns; c++) {
            gb_text_add(&k->defs, " \\\n    ");
            for (const char *s = format; *s; s++) {
                if (*s == '#')
                    gb_text_add(&k->defs, "c%d_%d", r, c);
                else if (*s == '<')
                    gb_text_add(&k->defs, "%d", r);
                else if (*s == '>')
                    gb_text_add(&k->defs, "%d", c);
                else
                    gb_text_add(&k->defs, "%c", *s);
            }
        }
    gb_text_add(&k->defs, "\n");
}

void gb_block_define(gb_gk *k, const gb_block *b, const char *result)
{
    gb_gk_local(k, LANES, LINES, 1);
    gb_gk_param(k, "M", b->m);
    gb_gk_param(k, "N", b->n);
    gb_gk_define(k, "BLOCK",
                 "int first_column = GB_GROUP(0) * %d + GB_LOCAL(0); "
                 "int first_row = (GB_GROUP(1) * %d + GB_LOCAL(1)) * %d;",
                 LANES * b->columns, LINES, b->rows);
    gb_gk_define(k, "ROW_AT(i_)", "min(first_row + i_, M - 1)");
    gb_gk_define(k, "COLUMN_AT(i_)", "min(first_column + i_ * %d, N - 1)", LANES);
    each_result(k, b, "CLEAR", "float # = 0.0f;");
    each_result(k, b, "MULTIPLY", "# = fma(x<, y>, #);");
    each_result(k, b, "COLLECT", "tile[< * COLUMNS + >] = #;");
    gb_gk_define(k, "COLUMNS", "%d", b->columns);
    /* through memory, so that the store is not repeated for each result */
    gb_gk_define(k, "WRITE",
                 "float tile[%d]; COLLECT \\\n"
                 "    for (int r = 0; r < %d; r++) \\\n"
                 "        for (int s = 0; s < COLUMNS; s++) { \\\n"
                 "            int row = first_row + r, column = first_column + s * %d; \\\n"
                 "            if (row < M && column < N) { \\\n"
                 "                float acc = tile[r * COLUMNS + s]; %s \\\n"
                 "            } \\\n"
                 "        }",
                 b->rows * b->columns, b->rows, LANES, result);
}
