#include "core/report/log.h"

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/file.h>

enum { MAX_BYTES = 1 << 30 };

static const char *const step_names[GB_STEP_COLUMNS] = {"step", "loss", "accuracy", "lr"};
static const char *const epoch_names[GB_EPOCH_COLUMNS] = {"step",
                                                          "epoch",
                                                          "lr",
                                                          "train_loss",
                                                          "train_accuracy",
                                                          "validation_loss",
                                                          "validation_accuracy",
                                                          "test_loss",
                                                          "test_accuracy"};

static double *add_row(gb_log_table *t)
{
    if (t->rows == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 64;
        double *grown = realloc(t->cell, capacity * t->columns * sizeof *grown);
        if (!grown) return NULL;
        t->cell = grown;
        t->capacity = capacity;
    }
    return &t->cell[t->rows++ * t->columns];
}

/* What is wrong with the line, or NULL. */
static const char *fill(double *row, const json_t *line, const char *const *names, size_t columns)
{
    for (size_t c = 0; c < columns; c++) {
        const json_t *v = json_object_get(line, names[c]);
        if (v && !json_is_number(v) && !json_is_null(v)) return names[c];
        row[c] = json_is_number(v) ? json_number_value(v) : NAN;
    }
    return row[0] >= 0 ? NULL : names[0];
}

static gb_status add_line(gb_log *log, const json_t *line, size_t number, const char *path,
                          gb_error *err)
{
    bool epoch = json_object_get(line, "train_loss") != NULL;
    gb_log_table *t = epoch ? &log->epochs : &log->steps;
    double *row = add_row(t);
    if (!row)
        return gb_fail(err, GB_OUT_OF_MEMORY, path, NULL, "no memory for %zu metrics", t->rows);
    const char *bad = fill(row, line, epoch ? epoch_names : step_names, t->columns);
    if (!bad) return GB_OK;
    return gb_fail(err, GB_FORMAT, path, "remove the line",
                   "line %zu is damaged: '%s' is no sound number", number, bad);
}

static gb_status parse(gb_log *log, const char *text, size_t size, const char *path, gb_error *err)
{
    gb_status s = GB_OK;
    size_t number = 1;
    for (const char *end; size && !s && (end = memchr(text, '\n', size)); number++) {
        size_t length = (size_t)(end - text);
        json_t *line = json_loadb(text, length, 0, NULL);
        if (json_is_object(line))
            s = add_line(log, line, number, path, err);
        else
            s = gb_fail(err, GB_FORMAT, path, "remove the line",
                        "line %zu is damaged: it is no JSON object", number);
        json_decref(line);
        text = end + 1;
        size -= length + 1;
    }
    log->cut = size > 0; /* each line is written whole, with its end */
    return s;
}

gb_status gb_log_read(gb_log *log, const char *path, gb_error *err)
{
    uint8_t *text;
    size_t size;
    *log = (gb_log){.steps.columns = GB_STEP_COLUMNS, .epochs.columns = GB_EPOCH_COLUMNS};
    gb_status s = gb_read_file(path, MAX_BYTES, &text, &size, err);
    if (s) return s;
    s = parse(log, (const char *)text, size, path, err);
    free(text);
    return s;
}

void gb_log_free(gb_log *log)
{
    free(log->steps.cell);
    free(log->epochs.cell);
    *log = (gb_log){0};
}

double gb_log_at(const gb_log_table *t, size_t row, int column)
{
    return row < t->rows ? t->cell[row * t->columns + (size_t)column] : NAN;
}

bool gb_log_has(const gb_log_table *t, int column)
{
    for (size_t r = 0; r < t->rows; r++)
        if (!isnan(gb_log_at(t, r, column))) return true;
    return false;
}
