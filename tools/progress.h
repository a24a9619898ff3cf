/* A line on standard error that is drawn over itself: only on a terminal, only without --quiet. */
#ifndef GB_TOOLS_PROGRESS_H
#define GB_TOOLS_PROGRESS_H

#include "tools/cli.h"

typedef struct progress {
    bool live;  /* a terminal: draw the bar */
    bool lines; /* else lines, where they are wanted */
    double start, drawn;
    int width; /* of what stands on the line */
} progress;

progress progress_start(const cli_args *args);
/* Draws "[#####-----] 42% text  1:23 left", at most ten times a second. done: 0 … 1. */
void progress_update(progress *p, double done, const char *text);
/* A line that stays, above the bar. */
void progress_line(progress *p, const char *format, ...) GB_PRINTF(2, 3);
void progress_end(progress *p); /* clears the bar */

#endif
