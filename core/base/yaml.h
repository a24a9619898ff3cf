/* YAML as a small tree that remembers where each part was written, so that whoever reads it can
 * name the place of a mistake. Anchors, tags and several documents are refused. */
#ifndef GB_CORE_BASE_YAML_H
#define GB_CORE_BASE_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <gimbal/status.h>

typedef enum gb_yaml_kind { GB_YAML_SCALAR, GB_YAML_LIST, GB_YAML_MAP } gb_yaml_kind;

typedef struct gb_yaml gb_yaml;
struct gb_yaml {
    gb_yaml_kind kind;
    const char *source;       /* the file, or the "--set" that gave it; owned by the document */
    int line, column;         /* from 1; line 0: the source has no lines */
    int key_line, key_column; /* in a map: where the key stands */
    bool quoted;
    char *text; /* of a scalar */
    char *key;  /* in a map: what it hangs under; "" is a value given before its map was opened */
    gb_yaml **items;
    size_t n;
};

typedef struct gb_yaml_doc {
    gb_yaml *root;
    char **sources;
    size_t n_sources;
} gb_yaml_doc;

/* Errors: FORMAT (with line and column), OUT_OF_MEMORY. Free with gb_yaml_free. */
gb_status gb_yaml_parse(const char *text, size_t size, const char *source, gb_yaml_doc *doc,
                        gb_error *err);
void gb_yaml_free(gb_yaml_doc *doc);
/* Applies "a.b.2.c=VALUE": maps on the way are made, list items must exist. VALUE is YAML.
 * Errors: INVALID, FORMAT, OUT_OF_MEMORY. */
gb_status gb_yaml_set(gb_yaml_doc *doc, const char *assignment, gb_error *err);

const gb_yaml *gb_yaml_get(const gb_yaml *map, const char *key); /* NULL: not there */
/* An empty value: not given, or null. */
bool gb_yaml_is_null(const gb_yaml *node);
/* "a list", "a map", "'text'": what stands there, for messages. Cut to size; returns text. */
char *gb_yaml_describe(const gb_yaml *node, char *text, size_t size);
/* gb_fail with the node's place as input. */
gb_status gb_yaml_fail(const gb_yaml *at, gb_error *err, const char *hint, const char *format, ...)
    GB_PRINTF(4, 5);

/* Writers. A number is written so that it reads back as the same double or float. */
void gb_yaml_write_number(FILE *f, double value);
void gb_yaml_write_float(FILE *f, float value);
void gb_yaml_write_text(FILE *f, const char *text); /* quoted where it must be */

#endif
