/* What the pages of gimbal profile share: rows added up, and their outputs. */
#ifndef GB_TOOLS_PROFILE_H
#define GB_TOOLS_PROFILE_H

#include <gimbal/bench.h>

#include "tools/cli.h"

enum { PROFILE_PHASES = 3 };
extern const char *const profile_phase[PROFILE_PHASES]; /* forward, backward, optimizer */

typedef enum profile_key {
    PROFILE_BY_PHASE,
    PROFILE_BY_LAYER,
    PROFILE_BY_KIND, /* a phase's kind of step, with one implementation */
    PROFILE_BY_ROW
} profile_key;

typedef struct profile_group { /* rows that have something in common; of one training step */
    const gb_profile_row *first;
    int rows;
    double seconds, flops, bytes;
    double by_phase[PROFILE_PHASES]; /* seconds */
    double of_peak;                  /* share of the speed that the peaks allow; NaN: not known */
} profile_group;

/* Characters of the row's path that name its layer: an optimizer's rows name parameters of it. */
int profile_layer(const gb_profile_row *row);
/* Groups by falling time, freed by the caller; NULL without memory. */
profile_group *profile_groups(const gb_profile *p, profile_key key, int *n);
/* The nearer of a group's bounds: "compute" or "memory"; NULL where the peaks are not known. */
const char *profile_bound(const gb_profile *p, const profile_group *g);

/* Each returns false without memory. */
bool profile_print(const gb_profile *p, const char *device, int64_t top);
json_t *profile_json(const gb_profile *p, const char *device);
/* Writes trace events as ui.perfetto.dev and chrome://tracing open them. */
gb_status profile_trace(const gb_profile *p, const char *device, const char *path, gb_error *err);

#endif
