/* An axis of a chart: from values to positions, with ticks at round numbers. */
#ifndef GB_CORE_REPORT_AXIS_H
#define GB_CORE_REPORT_AXIS_H

#include <stdbool.h>

enum { GB_MAX_TICKS = 16 };

typedef struct gb_axis {
    double lo, hi;   /* values at the ends; lo < hi, finite */
    double from, to; /* positions of the ends */
    bool log;        /* then lo > 0 */
    double step;     /* between two ticks of a linear axis */
    int n_ticks;
    double tick[GB_MAX_TICKS];
} gb_axis;

/* An axis that holds lo to hi (any order and distance; what is not finite becomes 0 to 1). grow
 * moves the ends out to round values. */
gb_axis gb_axis_fit(double lo, double hi, bool log, bool grow, double from, double to);
double gb_axis_at(const gb_axis *a, double value);
bool gb_axis_holds(const gb_axis *a, double value); /* finite, and positive on a log axis */
/* "0.25", "1e-7"; percent: "25 %" for 0.25. Returns text. */
char *gb_axis_label(const gb_axis *a, double tick, bool percent, char text[40]);

#endif
