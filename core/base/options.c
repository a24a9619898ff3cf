#include "core/base/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/suggest.h>

enum { MAX_NAMES = 96 };

static gb_status wrong_type(const gb_yaml *node, const char *name, const char *wanted,
                            gb_error *err)
{
    char found[80];
    return gb_yaml_fail(node, err, NULL, "'%s' must be %s, not %s", name, wanted,
                        gb_yaml_describe(node, found, sizeof found));
}

static bool to_float(const gb_yaml *node, double *value)
{
    if (node->kind != GB_YAML_SCALAR || node->quoted || !*node->text) return false;
    char *end;
    *value = strtod(node->text, &end);
    return !*end && isfinite(*value);
}

static bool to_int(const gb_yaml *node, int64_t *value)
{
    if (node->kind != GB_YAML_SCALAR || node->quoted || !*node->text) return false;
    char *end;
    errno = 0;
    *value = strtoll(node->text, &end, 10);
    return !*end && !errno;
}

static bool in_range(const gb_option *o, double v)
{
    if (o->min == o->max) return true;
    return v >= o->min && v <= o->max && !(o->above && v == o->min);
}

static gb_status out_of_range(const gb_yaml *node, const gb_option *o, gb_error *err)
{
    char found[80];
    gb_yaml_describe(node, found, sizeof found);
    if (isinf(o->max))
        return gb_yaml_fail(node, err, NULL, "'%s' must be %s %g, not %s", o->name,
                            o->above ? "above" : "at least", o->min, found);
    return gb_yaml_fail(node, err, NULL, "'%s' must be %s %g and at most %g, not %s", o->name,
                        o->above ? "above" : "at least", o->min, o->max, found);
}

static size_t count_names(const char *const *names)
{
    size_t n = 0;
    while (names[n]) n++;
    return n;
}

static gb_status read_choice(const gb_yaml *node, const gb_option *o, int *index, gb_error *err)
{
    if (node->kind != GB_YAML_SCALAR) return wrong_type(node, o->name, "one word", err);
    for (int i = 0; o->choices[i]; i++) {
        if (strcmp(o->choices[i], node->text) == 0) {
            *index = i;
            return GB_OK;
        }
    }
    char hint[300];
    gb_suggest_hint(node->text, o->choices, count_names(o->choices), hint, sizeof hint);
    return gb_yaml_fail(node, err, hint, "'%s' cannot be '%.60s'", o->name, node->text);
}

static gb_status read_ints(const gb_yaml *node, const gb_option *o, gb_ints *ints, gb_error *err)
{
    if (o->choices && node->kind == GB_YAML_SCALAR) {
        int64_t number;
        int word = 0;
        if (!to_int(node, &number)) {
            gb_status s = read_choice(node, o, &word, err);
            ints->n = -(word + 1);
            return s;
        }
    }
    bool list = node->kind == GB_YAML_LIST;
    size_t n = list ? node->n : 1;
    if (n == 0 || n > GB_MAX_RANK)
        return wrong_type(node, o->name, "a number or a list of up to 8 numbers", err);
    for (size_t i = 0; i < n; i++) {
        const gb_yaml *item = list ? node->items[i] : node;
        if (!to_int(item, &ints->v[i]))
            return wrong_type(item, o->name, "a whole number or a list of them", err);
        if (!in_range(o, (double)ints->v[i])) return out_of_range(item, o, err);
    }
    ints->n = (int)n;
    return GB_OK;
}

static gb_status read_text(const gb_yaml *node, const gb_option *o, char **text, gb_error *err)
{
    if (node->kind != GB_YAML_SCALAR) return wrong_type(node, o->name, "a text", err);
    free(*text);
    *text = strdup(node->text);
    return *text ? GB_OK : gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a recipe");
}

static gb_status read_value(const gb_yaml *node, const gb_option *o, void *base, gb_error *err)
{
    void *at = (char *)base + o->offset;
    if (gb_yaml_is_null(node) && o->type != GB_OPT_TREE) return GB_OK;
    switch (o->type) {
    case GB_OPT_INT:
        if (!to_int(node, at)) return wrong_type(node, o->name, "a whole number", err);
        return in_range(o, (double)*(int64_t *)at) ? GB_OK : out_of_range(node, o, err);
    case GB_OPT_FLOAT:
        if (!to_float(node, at)) return wrong_type(node, o->name, "a number", err);
        return in_range(o, *(double *)at) ? GB_OK : out_of_range(node, o, err);
    case GB_OPT_BOOL: {
        bool yes = node->kind == GB_YAML_SCALAR && strcmp(node->text, "true") == 0;
        bool no = node->kind == GB_YAML_SCALAR && strcmp(node->text, "false") == 0;
        if (!yes && !no) return wrong_type(node, o->name, "true or false", err);
        *(bool *)at = yes;
        return GB_OK;
    }
    case GB_OPT_CHOICE:
        return read_choice(node, o, at, err);
    case GB_OPT_INTS:
        return read_ints(node, o, at, err);
    case GB_OPT_TEXT:
        return read_text(node, o, at, err);
    case GB_OPT_TREE:
        *(const gb_yaml **)at = node;
        return GB_OK;
    }
    return GB_INTERNAL;
}

static void set_default(const gb_option *o, void *base)
{
    void *at = (char *)base + o->offset;
    switch (o->type) {
    case GB_OPT_INT:
        *(int64_t *)at = (int64_t)o->initial;
        break;
    case GB_OPT_FLOAT:
        *(double *)at = o->initial;
        break;
    case GB_OPT_BOOL:
        *(bool *)at = o->initial != 0;
        break;
    case GB_OPT_CHOICE:
        *(int *)at = (int)o->initial;
        break;
    case GB_OPT_INTS:
        *(gb_ints *)at = (gb_ints){.n = o->initial >= 0, .v = {(int64_t)o->initial}};
        break;
    case GB_OPT_TEXT:
        *(char **)at = NULL;
        break;
    case GB_OPT_TREE:
        *(const gb_yaml **)at = NULL;
        break;
    }
}

/* The place of an item's key, for messages. */
static gb_yaml key_of(const gb_yaml *item)
{
    return (gb_yaml){.source = item->source, .line = item->key_line, .column = item->key_column};
}

static gb_status unknown_key(const gb_yaml *item, const char *what, const gb_option *options,
                             size_t n, gb_error *err)
{
    const char *names[MAX_NAMES];
    char hint[300];
    for (size_t i = 0; i < n && i < MAX_NAMES; i++) names[i] = options[i].name;
    gb_suggest_hint(item->key, names, n < MAX_NAMES ? n : MAX_NAMES, hint, sizeof hint);
    if (n == 0) snprintf(hint, sizeof hint, "it takes no options");
    const gb_yaml key = key_of(item);
    return gb_yaml_fail(&key, err, hint, "unknown key '%.60s' in '%s'", item->key, what);
}

static gb_status read_map(const gb_yaml *map, const char *what, const gb_option *options, size_t n,
                          void *base, bool *given, gb_error *err)
{
    for (size_t k = 0; k < map->n; k++) {
        const gb_yaml *item = map->items[k];
        size_t i = 0;
        if (*item->key) /* the value that stood before its map takes the first option */
            while (i < n && strcmp(options[i].name, item->key) != 0) i++;
        if (i == n) return unknown_key(item, what, options, n, err);
        gb_status s = read_value(item, &options[i], base, err);
        if (s) return s;
        given[i] = !gb_yaml_is_null(item);
    }
    return GB_OK;
}

gb_status gb_options_read(const gb_yaml *node, const gb_yaml *at, const char *what,
                          const gb_option *options, size_t n, void *base, gb_error *err)
{
    bool given[MAX_NAMES] = {false};
    for (size_t i = 0; i < n; i++) set_default(&options[i], base);
    gb_status s = GB_OK;
    char found[80];
    if (node && node->kind == GB_YAML_MAP) {
        s = read_map(node, what, options, n, base, given, err);
    } else if (!gb_yaml_is_null(node)) {
        if (n == 0)
            s = gb_yaml_fail(node, err, NULL, "'%s' takes no value, but %s is given", what,
                             gb_yaml_describe(node, found, sizeof found));
        else
            s = read_value(node, &options[0], base, err);
        given[0] = true;
    }
    for (size_t i = 0; i < n && !s; i++) {
        if (!options[i].required || given[i]) continue;
        s = gb_yaml_fail(at, err, NULL, "'%s' needs '%s'", what, options[i].name);
    }
    if (s) gb_options_clear(options, n, base);
    return s;
}

void gb_options_clear(const gb_option *options, size_t n, void *base)
{
    for (size_t i = 0; i < n; i++) {
        if (options[i].type != GB_OPT_TEXT) continue;
        char **text = (char **)((char *)base + options[i].offset);
        free(*text);
        *text = NULL;
    }
}

/* --- writing --- */

bool gb_option_is_set(const gb_option *o, const void *base)
{
    const void *at = (const char *)base + o->offset;
    if (o->type == GB_OPT_TEXT) return *(char *const *)at != NULL;
    if (o->type == GB_OPT_INTS) return ((const gb_ints *)at)->n != 0;
    return o->type != GB_OPT_TREE;
}

static void write_ints(FILE *f, const gb_option *o, const gb_ints *ints)
{
    if (ints->n < 0) {
        fputs(o->choices[-ints->n - 1], f);
        return;
    }
    if (ints->n != 1) fputc('[', f);
    for (int i = 0; i < ints->n; i++) fprintf(f, "%s%lld", i ? ", " : "", (long long)ints->v[i]);
    if (ints->n != 1) fputc(']', f);
}

static void write_value(FILE *f, const gb_option *o, const void *at)
{
    switch (o->type) {
    case GB_OPT_INT:
        fprintf(f, "%lld", (long long)*(const int64_t *)at);
        break;
    case GB_OPT_FLOAT:
        gb_yaml_write_number(f, *(const double *)at);
        break;
    case GB_OPT_BOOL:
        fputs(*(const bool *)at ? "true" : "false", f);
        break;
    case GB_OPT_CHOICE:
        fputs(o->choices[*(const int *)at], f);
        break;
    case GB_OPT_INTS:
        write_ints(f, o, at);
        break;
    case GB_OPT_TEXT:
        gb_yaml_write_text(f, *(char *const *)at);
        break;
    case GB_OPT_TREE:
        break;
    }
}

int gb_options_write(FILE *f, const gb_option *options, size_t n, const void *base)
{
    int written = 0;
    for (size_t i = 0; i < n; i++) {
        if (!gb_option_is_set(&options[i], base)) continue;
        fprintf(f, "%s%s: ", written++ ? ", " : "", options[i].name);
        write_value(f, &options[i], (const char *)base + options[i].offset);
    }
    return written;
}

/* --- words and lists --- */

gb_status gb_options_pick(const gb_yaml *node, const char *what, const char *const *names, size_t n,
                          size_t *index, const gb_yaml **value, gb_error *err)
{
    char hint[480], found[80];
    const char *word = NULL;
    gb_yaml at = *node;
    *value = NULL;
    if (node->kind == GB_YAML_SCALAR && !gb_yaml_is_null(node)) {
        word = node->text;
    } else if (node->kind == GB_YAML_MAP && node->n == 1) {
        word = node->items[0]->key;
        *value = gb_yaml_is_null(node->items[0]) ? NULL : node->items[0];
        at = key_of(node->items[0]);
    } else {
        gb_suggest_hint("", names, n, hint, sizeof hint);
        if (node->kind == GB_YAML_MAP)
            snprintf(found, sizeof found, "%zu keys", node->n);
        else
            gb_yaml_describe(node, found, sizeof found);
        return gb_yaml_fail(node, err, hint, "'%s' must be one name with its options, not %s", what,
                            found);
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i], word) == 0) {
            *index = i;
            return GB_OK;
        }
    }
    gb_suggest_hint(word, names, n, hint, sizeof hint);
    return gb_yaml_fail(&at, err, hint, "unknown %s '%.60s'", what, word);
}

gb_status gb_options_floats(const gb_yaml *node, const char *what, double *values, size_t cap,
                            size_t *n, gb_error *err)
{
    bool list = node->kind == GB_YAML_LIST;
    *n = list ? node->n : 1;
    if (*n == 0 || *n > cap)
        return gb_yaml_fail(node, err, NULL, "'%s' must be 1 to %zu numbers", what, cap);
    for (size_t i = 0; i < *n; i++)
        if (!to_float(list ? node->items[i] : node, &values[i]))
            return wrong_type(list ? node->items[i] : node, what, "a number", err);
    return GB_OK;
}
