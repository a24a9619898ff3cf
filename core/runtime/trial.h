/* One step of a plan on its own, with random data: its implementations are checked and timed. */
#ifndef GB_CORE_RUNTIME_TRIAL_H
#define GB_CORE_RUNTIME_TRIAL_H

#include "core/runtime/runtime.h"

enum { GB_TRIAL_BUFFERS = GB_MAX_STEP_IN + GB_MAX_STEP_OUT + 2, GB_TRIAL_SAMPLES = 2 };

typedef struct gb_trial {
    gb_device *dev;
    gb_plan plan; /* its only step is the one below; scratch comes last where it is wanted */
    gb_step step;
    gb_plan_buffer buffer[GB_TRIAL_BUFFERS];
    int n;                           /* buffers without scratch */
    uint8_t *data[GB_TRIAL_BUFFERS]; /* what they hold before a run */
    gb_backend_buffer *memory[GB_TRIAL_BUFFERS];
    gb_step sample[GB_TRIAL_SAMPLES];                /* the step on a part of its results … */
    double *want[GB_TRIAL_SAMPLES][GB_MAX_STEP_OUT]; /* … and these in float64 */
    int n_samples;
    uint8_t *trusted[GB_TRIAL_BUFFERS]; /* all bytes of results that agreed with the samples */
} gb_trial;

typedef struct gb_trial_program { /* the step by one implementation; it may not be moved */
    gb_trial *trial;
    gb_plan plan;
    gb_step step;
    gb_plan_buffer buffer[GB_TRIAL_BUFFERS];
    gb_backend_buffer *memory[GB_TRIAL_BUFFERS];
    gb_backend_program *program;
} gb_trial_program;

/* Can the step be tried alone? Not where it works in place, reads integers or is empty. */
bool gb_trial_fits(const gb_step *step);
/* Fills *t, also where it fails: free it with gb_trial_free. */
gb_status gb_trial_make(gb_trial *t, gb_device *dev, const gb_plan *plan, const gb_step *step,
                        gb_error *err);
void gb_trial_free(gb_trial *t);
/* Part of gb_trial_make: asks the reference for the samples (trial_check.c). */
gb_status gb_trial_sample(gb_trial *t, gb_error *err);

/* The step by the implementation called variant; answer says which one that is. Free *p with
 * gb_trial_program_free, also after a failure. */
gb_status gb_trial_program_make(gb_trial *t, const char *variant, gb_trial_program *p,
                                gb_error *err);
void gb_trial_program_free(gb_trial_program *p);
/* Runs n times and waits; seconds of one run. */
gb_status gb_trial_time(gb_trial_program *p, int n, double *seconds, gb_error *err);
/* Two runs on poisoned results and scratch. *error: the largest difference from float64 (in
 * samples) and from the implementation that was right first (everywhere), divided by what is
 * allowed; infinite where the two runs differ. At most 1: right. */
gb_status gb_trial_check(gb_trial_program *p, double *error, gb_error *err);

#endif
