/* Tuning: which implementation of a step is fastest on a device, found by measuring.
 *
 * A tuner collects the steps of graphs that a device can run in several ways, checks each
 * implementation against float64, times those that are right, and keeps the fastest in the tuning
 * file of the context's cache, under the device, its driver, the kernels' sources and the step's
 * shape (sizes rounded up). Programs that are made afterwards take what is there; a program never
 * measures. A tuner belongs to its device's thread. */
#ifndef GIMBAL_TUNE_H
#define GIMBAL_TUNE_H

#include <gimbal/program.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gb_tuner gb_tuner;

typedef enum gb_tune_verdict {
    GB_TUNE_RIGHT,  /* its results agree; ms is known */
    GB_TUNE_WRONG,  /* its results do not: it can never win */
    GB_TUNE_FAILED, /* it could not be made or run */
    GB_TUNE_SLOW    /* given up: far slower than others, or slow to build */
} gb_tune_verdict;

typedef struct gb_tune_candidate {
    char variant[48];
    gb_tune_verdict verdict;
    double ms;        /* of one run, the least of several; NaN: not measured */
    double error;     /* largest difference divided by what is allowed; NaN: not known */
    char reason[160]; /* why not RIGHT */
} gb_tune_candidate;

typedef struct gb_tune_row { /* a step, or several that are alike */
    const char *step;        /* kind, storage types and shape: its name in the tuning file */
    const char *path;        /* the layer where it occurs first */
    int count;               /* how often it occurs */
    const gb_tune_candidate *candidate;
    int n;
    int initial, winner; /* numbers of candidates: taken without tuning, and with; -1: none */
    double gain;         /* the time of initial divided by the winner's; NaN: not known */
    bool known;          /* it was in the tuning file already and was not measured again */
} gb_tune_row;

typedef struct gb_tune_result { /* owned by the tuner */
    const gb_tune_row *row;
    int n;
    double seconds;
    const char *file; /* where the choices are kept; "": the context has no cache */
} gb_tune_result;

typedef struct gb_tune_options { /* zero-initialized: the defaults */
    bool again;                  /* measure also what is known */
    double first_run_limit;      /* seconds that building and a first run may take; 0: 5 */
    double step_seconds;         /* to spend on timing one step; 0: 0.4 */
    /* Called before each candidate; done: 0 to 1. false stops: what was found is kept. */
    bool (*progress)(void *user, double done, const char *text);
    void *user;
} gb_tune_options;

/* dev must outlive the tuner. Errors: OUT_OF_MEMORY. */
GB_API gb_status gb_tuner_create(gb_device *dev, gb_tuner **tuner, gb_error *err);
GB_API void gb_tuner_destroy(gb_tuner **tuner);
/* Adds the steps of graph (not kept) as a program with these options (NULL: the defaults) would
 * have them. Errors: as gb_program_create before anything is built. */
GB_API gb_status gb_tuner_add(gb_tuner *tuner, const gb_graph *graph,
                              const gb_program_options *options, gb_error *err);
/* Measures, writes the tuning file, and lets the device take the winners from now on. *result is
 * filled as far as it came. Errors: INTERRUPTED (by progress), DEVICE, OUT_OF_MEMORY, IO (the file
 * cannot be written). */
GB_API gb_status gb_tuner_run(gb_tuner *tuner, const gb_tune_options *options,
                              const gb_tune_result **result, gb_error *err);

/* Adds the choices of another tuning file (of another machine, or merged by hand) to the context's:
 * they replace those of the same step. Errors: NOT_FOUND, FORMAT, IO, INVALID (no cache). */
GB_API gb_status gb_tuning_import(gb_context *ctx, const char *path, gb_error *err);
/* Copies the context's tuning file. Errors: NOT_FOUND (nothing was tuned), FORMAT, IO, INVALID. */
GB_API gb_status gb_tuning_export(gb_context *ctx, const char *path, gb_error *err);

/* --- a run's choices --- */

/* "": the tuning file was read or is not there; else why it is left aside. */
GB_API const char *gb_device_tuning_warning(const gb_device *dev);
/* All that decides which implementations programs on dev get, as a JSON object; free() it. */
GB_API gb_status gb_device_choices(const gb_device *dev, char **json, gb_error *err);
/* Programs made from now on get what they got when json was written, whatever was tuned since. On
 * another device it has no effect. Errors: FORMAT, OUT_OF_MEMORY. */
GB_API gb_status gb_device_replay(gb_device *dev, const char *json, gb_error *err);

#ifdef __cplusplus
}
#endif
#endif
