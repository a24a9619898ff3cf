/* A growing list of cases, as text. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check/check.h"

void gb_check_add(gb_check_list *l, bool quick, const char *format, ...)
{
    if (l->failed || (l->quick && !quick)) return;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        char **grown = realloc(l->text, cap * sizeof *grown);
        l->failed = !grown;
        if (l->failed) return;
        l->text = grown;
        l->cap = cap;
    }
    char text[2000];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    l->text[l->n] = strdup(text);
    l->failed = !l->text[l->n];
    l->n += !l->failed;
}

void gb_check_add_all(gb_check_list *l, const char *const *texts)
{
    for (; *texts; texts++) {
        bool quick = **texts == '*';
        gb_check_add(l, quick, "%s", *texts + (quick ? 2 : 0));
    }
}

void gb_check_list_free(gb_check_list *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->text[i]);
    free(l->text);
    *l = (gb_check_list){0};
}
