/* Options as tables: one row says an option's name, type, range, default and where it lies in a
 * struct. Reading, checking and writing recipes and layers all come from these rows. */
#ifndef GB_CORE_BASE_OPTIONS_H
#define GB_CORE_BASE_OPTIONS_H

#include <stdint.h>

#include <gimbal/types.h>
#include "core/base/yaml.h"

typedef enum gb_option_type {
    GB_OPT_INT,    /* int64_t */
    GB_OPT_FLOAT,  /* double */
    GB_OPT_BOOL,   /* bool */
    GB_OPT_CHOICE, /* int: index into choices */
    GB_OPT_INTS,   /* gb_ints: one number or a list; where choices are given, one of these words */
    GB_OPT_TEXT,   /* char *, owned by the struct */
    GB_OPT_TREE    /* const gb_yaml *: left to the caller, not written */
} gb_option_type;

typedef struct gb_ints {
    int n; /* numbers, or -(i + 1) for word i */
    int64_t v[GB_MAX_RANK];
} gb_ints;

typedef struct gb_option {
    const char *name;
    gb_option_type type;
    size_t offset;
    double initial; /* the default; for INTS n = 1 with this value, or n = 0 where it is negative */
    double min, max;            /* of numbers, inclusive; equal: no limit */
    const char *const *choices; /* NULL-terminated */
    bool required;
    bool above; /* the minimum itself is excluded */
} gb_option;

/* Fills the struct at base from node: defaults first, then the keys of a map; anything else than
 * a map (NULL: nothing is given) is the value of the first option. at is where the thing is named,
 * what its name, for messages. On failure the struct's texts are freed. Errors: INVALID with the
 * place, OUT_OF_MEMORY. */
gb_status gb_options_read(const gb_yaml *node, const gb_yaml *at, const char *what,
                          const gb_option *options, size_t n, void *base, gb_error *err);
void gb_options_clear(const gb_option *options, size_t n, void *base); /* frees texts */
/* "name: value, name: value", without options that are unset. Returns how many were written. */
bool gb_option_is_set(const gb_option *option, const void *base); /* false: nothing to write */
int gb_options_write(FILE *f, const gb_option *options, size_t n, const void *base);

/* For "word" or "word: value" or "{word: value}": the index of word in names and its value (NULL:
 * none). Errors: INVALID with a suggestion. */
gb_status gb_options_pick(const gb_yaml *node, const char *what, const char *const *names, size_t n,
                          size_t *index, const gb_yaml **value, gb_error *err);
/* A list of at most cap numbers (or one number). Errors: INVALID. */
gb_status gb_options_floats(const gb_yaml *node, const char *what, double *values, size_t cap,
                            size_t *n, gb_error *err);

#endif
