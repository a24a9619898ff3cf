/* Choices between implementations of steps: how a step is named, and where choices are kept.
 *
 * A step has two names. The bucket's is readable and the same for steps of nearly the same shape:
 * what was measured for one serves all ("conv f32*f32>f32 n128 c64 32x32 o64 k3x3 …"). The exact
 * name tells all steps apart that may be answered differently: what a run took is kept under it. */
#ifndef GB_CORE_RUNTIME_TUNING_H
#define GB_CORE_RUNTIME_TUNING_H

#include <gimbal/device.h>

#include "core/ir/plan.h"

enum { GB_CHOICE_KEY = 192, GB_MAX_CHOICES = 2048, GB_MAX_TUNED = 64 };

typedef struct gb_choice {
    char key[GB_CHOICE_KEY];
    char variant[GB_VARIANT_SIZE];
    double ms, default_ms; /* as measured; 0: unknown */
} gb_choice;

typedef struct gb_choices { /* sorted by key */
    gb_choice *item;
    int n, cap;
} gb_choices;

void gb_bucket_key(const gb_step *step, char key[GB_CHOICE_KEY]);
void gb_exact_key(const gb_step *step, char key[GB_CHOICE_KEY]);

const gb_choice *gb_choices_find(const gb_choices *c, const char *key);
/* Adds the choice or replaces the one of its key. false: no memory, or there are too many. */
bool gb_choices_put(gb_choices *c, const gb_choice *choice);
void gb_choices_clear(gb_choices *c);

/* What was found for one device, driver and state of the kernels. A text that is empty stands for
 * any, as does a vector width of 0: so shipped defaults name classes of devices. */
typedef struct gb_tuned {
    char backend[16], name[128], driver[128], version[64], kernels[32], kind[16];
    int vector_width;
    gb_choices choices;
} gb_tuned;

typedef struct gb_tuning {
    gb_tuned *device;
    int n;
} gb_tuning;

/* Reads the JSON of a tuning file into an empty *t; text may hold anything. Errors: FORMAT (then *t
 * is empty), OUT_OF_MEMORY. */
gb_status gb_tuning_parse(gb_tuning *t, const char *text, size_t size, const char *source,
                          gb_error *err);
gb_status gb_tuning_read(gb_tuning *t, const char *path, gb_error *err);
char *gb_tuning_text(const gb_tuning *t); /* free() it; NULL: no memory */
void gb_tuning_clear(gb_tuning *t);
/* Adds from's choices to t: they replace those of equal key, and their devices become the last ones
 * to be dropped where there are too many. false: no memory. */
bool gb_tuning_merge(gb_tuning *t, const gb_tuning *from);
/* The same with a file, under a lock, in one atomic step. A file that is damaged is replaced. */
gb_status gb_tuning_update(const char *path, const gb_tuning *more, gb_error *err);

/* An entry for this device with these kernels, without choices. */
void gb_tuned_name(gb_tuned *t, const gb_device_info *info, const char *kernels);
/* Does what t says hold for this device? */
bool gb_tuned_fits(const gb_tuned *t, const gb_tuned *device);

#endif
