/* metrics.jsonl, read back into columns. */
#ifndef GB_CORE_REPORT_LOG_H
#define GB_CORE_REPORT_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include <gimbal/status.h>

/* Columns of the two tables; a value that is missing or not finite is NaN. */
enum { GB_STEP_STEP, GB_STEP_LOSS, GB_STEP_ACCURACY, GB_STEP_LR, GB_STEP_COLUMNS };
enum {
    GB_EPOCH_STEP,
    GB_EPOCH_EPOCH,
    GB_EPOCH_LR,
    GB_EPOCH_TRAIN_LOSS,
    GB_EPOCH_TRAIN_ACCURACY,
    GB_EPOCH_VALIDATION_LOSS,
    GB_EPOCH_VALIDATION_ACCURACY,
    GB_EPOCH_TEST_LOSS,
    GB_EPOCH_TEST_ACCURACY,
    GB_EPOCH_COLUMNS
};

typedef struct gb_log_table {
    double *cell; /* [rows][columns] */
    size_t rows, capacity, columns;
} gb_log_table;

typedef struct gb_log {
    gb_log_table steps, epochs;
    bool cut; /* the last line was incomplete and is left out */
} gb_log;

/* Free with gb_log_free, also after a failure. Errors: NOT_FOUND, IO, FORMAT (naming the line),
 * OUT_OF_MEMORY. */
gb_status gb_log_read(gb_log *log, const char *path, gb_error *err);
void gb_log_free(gb_log *log);
/* A row's column; NaN where there is no such row. */
double gb_log_at(const gb_log_table *t, size_t row, int column);
bool gb_log_has(const gb_log_table *t, int column); /* any number in it */

#endif
