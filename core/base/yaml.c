#include "core/base/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAX_DEPTH = 40, MAX_SIZE = 4 << 20 };

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the one looked at; valid while has_event */
    bool has_event;
    const char *source;
    bool no_lines;
    gb_error *err;
} reader;

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a YAML document");
}

gb_status gb_yaml_fail(const gb_yaml *at, gb_error *err, const char *hint, const char *format, ...)
{
    char message[512], place[256];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (at->line > 0)
        snprintf(place, sizeof place, "%s:%d:%d", at->source, at->line, at->column);
    else
        snprintf(place, sizeof place, "%s", at->source);
    return gb_fail(err, GB_INVALID, place, hint, "%s", message);
}

static void free_node(gb_yaml *node)
{
    if (!node) return;
    for (size_t i = 0; i < node->n; i++) free_node(node->items[i]);
    free(node->items);
    free(node->text);
    free(node->key);
    free(node);
}

void gb_yaml_free(gb_yaml_doc *doc)
{
    if (!doc) return;
    free_node(doc->root);
    for (size_t i = 0; i < doc->n_sources; i++) free(doc->sources[i]);
    free(doc->sources);
    *doc = (gb_yaml_doc){0};
}

/* Takes item, also on failure. */
static bool append(gb_yaml *parent, gb_yaml *item)
{
    gb_yaml **grown = realloc(parent->items, (parent->n + 1) * sizeof *grown);
    if (!grown) {
        free_node(item);
        return false;
    }
    parent->items = grown;
    parent->items[parent->n++] = item;
    return true;
}

/* --- reading --- */

static gb_status syntax_error(reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return no_memory(r->err);
    gb_yaml at = {.source = r->source,
                  .line = r->no_lines ? 0 : (int)p->problem_mark.line + 1,
                  .column = (int)p->problem_mark.column + 1};
    gb_yaml_fail(&at, r->err, "check the indentation (spaces, no tabs), brackets and colons there",
                 "not valid YAML: %s%s%s", p->problem ? p->problem : "unreadable",
                 p->context ? " " : "", p->context ? p->context : "");
    if (r->err) r->err->status = GB_FORMAT;
    return GB_FORMAT;
}

static gb_status next_event(reader *r)
{
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event);
    return r->has_event ? GB_OK : syntax_error(r);
}

static gb_yaml place_of(const reader *r)
{
    const yaml_mark_t *mark = &r->event.start_mark;
    return (gb_yaml){.source = r->source,
                     .line = r->no_lines ? 0 : (int)mark->line + 1,
                     .column = (int)mark->column + 1};
}

static gb_status read_node(reader *r, int depth, gb_yaml **out);

static gb_status read_list(reader *r, int depth, gb_yaml *list)
{
    while (true) {
        gb_status s = next_event(r);
        if (s) return s;
        if (r->event.type == YAML_SEQUENCE_END_EVENT) return GB_OK;
        gb_yaml *item;
        if ((s = read_node(r, depth + 1, &item))) return s;
        if (!append(list, item)) return no_memory(r->err);
    }
}

static gb_status read_map(reader *r, int depth, gb_yaml *map)
{
    while (true) {
        gb_status s = next_event(r);
        if (s) return s;
        if (r->event.type == YAML_MAPPING_END_EVENT) return GB_OK;
        gb_yaml at = place_of(r);
        if (r->event.type != YAML_SCALAR_EVENT)
            return gb_yaml_fail(&at, r->err, NULL, "a key must be a plain word");
        const char *word = (const char *)r->event.data.scalar.value;
        if (gb_yaml_get(map, word))
            return gb_yaml_fail(&at, r->err, "keep one of them", "the key '%s' is given twice",
                                word);
        char *key = strdup(word);
        if (!key) return no_memory(r->err);
        gb_yaml *value = NULL;
        if ((s = next_event(r)) || (s = read_node(r, depth + 1, &value))) {
            free(key);
            return s;
        }
        value->key = key;
        value->key_line = at.line;
        value->key_column = at.column;
        /* an opened map or list is found where its key stands, not on the line after */
        if (value->kind != GB_YAML_SCALAR || gb_yaml_is_null(value)) {
            value->line = at.line;
            value->column = at.column;
        }
        if (!append(map, value)) return no_memory(r->err);
    }
}

static gb_status read_content(reader *r, int depth, gb_yaml *node)
{
    const yaml_event_t *e = &r->event;
    if (depth > MAX_DEPTH)
        return gb_yaml_fail(node, r->err, NULL, "nested more than %d deep", MAX_DEPTH);
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        if (strlen((const char *)e->data.scalar.value) != e->data.scalar.length)
            return gb_yaml_fail(node, r->err, NULL, "a text with a zero byte");
        node->kind = GB_YAML_SCALAR;
        node->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        node->text = strdup((const char *)e->data.scalar.value);
        return node->text ? GB_OK : no_memory(r->err);
    case YAML_SEQUENCE_START_EVENT:
        node->kind = GB_YAML_LIST;
        return read_list(r, depth, node);
    case YAML_MAPPING_START_EVENT:
        node->kind = GB_YAML_MAP;
        return read_map(r, depth, node);
    default:
        return gb_yaml_fail(node, r->err, "write the value out",
                            "aliases (*name) are not supported");
    }
}

static gb_status read_node(reader *r, int depth, gb_yaml **out)
{
    gb_yaml *node = calloc(1, sizeof *node);
    if (!node) return no_memory(r->err);
    *node = place_of(r);
    gb_status s = read_content(r, depth, node);
    if (s) {
        free_node(node);
        return s;
    }
    *out = node;
    return GB_OK;
}

static gb_status read_document(reader *r, gb_yaml **root)
{
    gb_status s = next_event(r); /* the start of the stream */
    if (s || (s = next_event(r))) return s;
    if (r->event.type == YAML_STREAM_END_EVENT) {
        gb_yaml at = {.source = r->source, .line = r->no_lines ? 0 : 1, .column = 1};
        return gb_yaml_fail(&at, r->err, NULL, "it is empty");
    }
    if ((s = next_event(r)) || (s = read_node(r, 0, root))) return s;
    if ((s = next_event(r)) || (s = next_event(r))) return s; /* end of document, of stream */
    if (r->event.type != YAML_STREAM_END_EVENT) {
        gb_yaml at = place_of(r);
        return gb_yaml_fail(&at, r->err, "keep one of them", "a second document begins here");
    }
    return GB_OK;
}

static gb_status read_tree(const char *text, size_t size, const char *source, bool no_lines,
                           gb_yaml **root, gb_error *err)
{
    *root = NULL;
    if (size > MAX_SIZE)
        return gb_fail(err, GB_FORMAT, source, NULL, "%zu bytes are too many for a recipe", size);
    reader r = {.source = source, .no_lines = no_lines, .err = err};
    if (!yaml_parser_initialize(&r.parser)) return no_memory(err);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    gb_status s = read_document(&r, root);
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    if (s) {
        free_node(*root);
        *root = NULL;
    }
    return s;
}

/* A copy of text that lives as long as the document. */
static const char *keep_source(gb_yaml_doc *doc, const char *text)
{
    char **grown = realloc(doc->sources, (doc->n_sources + 1) * sizeof *grown);
    if (!grown) return NULL;
    doc->sources = grown;
    char *copy = strdup(text);
    if (copy) doc->sources[doc->n_sources++] = copy;
    return copy;
}

gb_status gb_yaml_parse(const char *text, size_t size, const char *source, gb_yaml_doc *doc,
                        gb_error *err)
{
    *doc = (gb_yaml_doc){0};
    const char *name = keep_source(doc, source);
    gb_status s = name ? read_tree(text, size, name, false, &doc->root, err) : no_memory(err);
    if (s) gb_yaml_free(doc);
    return s;
}

/* --- overriding --- */

/* Makes the scalar or list at node a map that holds what was there: under its own name where it
 * is the key asked for ("adam" becomes {adam: }), else as the value given first ({"": 0.1}). */
static bool promote(gb_yaml *node, const char *key)
{
    gb_yaml *old = calloc(1, sizeof *old);
    if (!old) return false;
    *old = *node;
    old->key = NULL;
    *node = (gb_yaml){.kind = GB_YAML_MAP,
                      .source = old->source,
                      .line = old->line,
                      .column = old->column,
                      .key = node->key};
    if (old->kind == GB_YAML_SCALAR && (strcmp(old->text, key) == 0 || gb_yaml_is_null(old))) {
        free_node(old);
        return true;
    }
    old->key = strdup("");
    if (!old->key) {
        free_node(old);
        return false;
    }
    return append(node, old);
}

static gb_yaml *add_empty(gb_yaml *map, const char *key, const char *source)
{
    gb_yaml *node = calloc(1, sizeof *node);
    if (!node) return NULL;
    *node =
        (gb_yaml){.kind = GB_YAML_SCALAR, .source = source, .text = strdup(""), .key = strdup(key)};
    if (!node->text || !node->key) {
        free_node(node);
        return NULL;
    }
    return append(map, node) ? node : NULL;
}

/* The child of *node called key, made where it may be. */
static gb_status descend(gb_yaml **node, const char *key, const char *source, gb_error *err)
{
    gb_yaml *at = *node;
    char *end;
    errno = 0;
    unsigned long index = strtoul(key, &end, 10);
    if (at->kind == GB_YAML_LIST && isdigit((unsigned char)key[0]) && !*end && !errno) {
        if (index >= at->n)
            return gb_fail(err, GB_INVALID, source, "items are counted from 0",
                           "there is no item %lu: the list has %zu", index, at->n);
        *node = at->items[index];
        return GB_OK;
    }
    if (at->kind != GB_YAML_MAP && !promote(at, key)) return no_memory(err);
    gb_yaml *child = (gb_yaml *)gb_yaml_get(at, key);
    if (!child) child = add_empty(at, key, source);
    if (!child) return no_memory(err);
    *node = child;
    return GB_OK;
}

/* Puts what new holds in place of what node holds; node keeps its key. */
static void replace(gb_yaml *node, gb_yaml *new)
{
    gb_yaml old = *node;
    *node = *new;
    node->key = old.key;
    old.key = NULL;
    *new = old;
    free_node(new);
}

gb_status gb_yaml_set(gb_yaml_doc *doc, const char *assignment, gb_error *err)
{
    char label[200];
    snprintf(label, sizeof label, "--set %s", assignment);
    const char *source = keep_source(doc, label);
    if (!source) return no_memory(err);
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        return gb_fail(err, GB_INVALID, source,
                       "write it as KEY=VALUE, for example optimizer.sgd.lr=0.05",
                       "an override needs a key and a value");
    char *path = strndup(assignment, (size_t)(equals - assignment));
    if (!path) return no_memory(err);
    gb_yaml *node = doc->root;
    gb_status s = GB_OK;
    char *rest = path;
    for (char *key; !s && (key = strsep(&rest, "."));) {
        if (*key)
            s = descend(&node, key, source, err);
        else
            s = gb_fail(err, GB_INVALID, source, NULL, "a part of the key is empty");
    }
    free(path);
    if (s) return s;
    gb_yaml *value;
    const char *text = equals + 1;
    if (!*text) text = "null";
    if ((s = read_tree(text, strlen(text), source, true, &value, err))) return s;
    replace(node, value);
    return GB_OK;
}

/* --- looking --- */

const gb_yaml *gb_yaml_get(const gb_yaml *map, const char *key)
{
    for (size_t i = 0; map->kind == GB_YAML_MAP && i < map->n; i++)
        if (strcmp(map->items[i]->key, key) == 0) return map->items[i];
    return NULL;
}

bool gb_yaml_is_null(const gb_yaml *node)
{
    if (!node) return true;
    if (node->kind != GB_YAML_SCALAR || node->quoted) return false;
    return !*node->text || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0;
}

char *gb_yaml_describe(const gb_yaml *node, char *text, size_t size)
{
    if (node->kind == GB_YAML_LIST)
        snprintf(text, size, "a list");
    else if (node->kind == GB_YAML_MAP)
        snprintf(text, size, "a map");
    else if (gb_yaml_is_null(node))
        snprintf(text, size, "nothing");
    else
        snprintf(text, size, "'%.60s'", node->text);
    return text;
}

/* --- writing --- */

void gb_yaml_write_number(FILE *f, double value)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    fputs(text, f);
}

void gb_yaml_write_float(FILE *f, float value)
{
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    fputs(text, f);
}

void gb_yaml_write_text(FILE *f, const char *text)
{
    bool plain = isalpha((unsigned char)text[0]) || text[0] == '/' || text[0] == '_';
    for (const char *p = text; *p && plain; p++)
        plain = isalnum((unsigned char)*p) || strchr("_-./", *p);
    if (plain) {
        fputs(text, f);
        return;
    }
    fputc('"', f);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\') fputc('\\', f);
        if (*p < 0x20)
            fprintf(f, "\\x%02x", *p);
        else
            fputc(*p, f);
    }
    fputc('"', f);
}
