/* Seconds of a monotonic clock. */
#ifndef GB_CORE_BASE_CLOCK_H
#define GB_CORE_BASE_CLOCK_H

#include <time.h>

static inline double gb_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
