#include <gimbal/suggest.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MAX_WORD = 40 };

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

static bool same(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Edits (insert, remove, replace, swap of neighbours) between two words of at most MAX_WORD; the
 * case of letters does not count. */
static int distance(const char *a, size_t na, const char *b, size_t nb)
{
    int d[MAX_WORD + 1][MAX_WORD + 1];
    for (size_t i = 0; i <= na; i++) d[i][0] = (int)i;
    for (size_t j = 0; j <= nb; j++) d[0][j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        for (size_t j = 1; j <= nb; j++) {
            int replace = d[i - 1][j - 1] + !same(a[i - 1], b[j - 1]);
            d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1, replace);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]) &&
                d[i - 2][j - 2] + 1 < d[i][j])
                d[i][j] = d[i - 2][j - 2] + 1;
        }
    }
    return d[na][nb];
}

const char *gb_suggest(const char *word, const char *const *names, size_t n)
{
    size_t length = strlen(word);
    if (length == 0 || length > MAX_WORD) return NULL;
    const char *best = NULL;
    int best_distance = length < 4 ? 2 : 3 + (int)length / 8; /* exclusive */
    for (size_t i = 0; i < n; i++) {
        size_t candidate = strlen(names[i]);
        if (candidate > MAX_WORD) continue;
        int d = distance(word, length, names[i], candidate);
        if (d < best_distance && d < (int)candidate) {
            best_distance = d;
            best = names[i];
        }
    }
    return best;
}

char *gb_suggest_hint(const char *word, const char *const *names, size_t n, char *text, size_t size)
{
    const char *near = gb_suggest(word, names, n);
    if (near) {
        snprintf(text, size, "did you mean '%s'?", near);
        return text;
    }
    size_t used = (size_t)snprintf(text, size, "known:");
    for (size_t i = 0; i < n && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s %s", i ? "," : "", names[i]);
    return text;
}
