/* The processors that a pool's threads run on.
 *
 * Linux may keep two threads of a pool on one processor while another idles, for seconds on end:
 * their runs end before the load is balanced. Binding each thread to a processor cures that, and
 * makes two processes that share a machine three times slower: each waits for threads that the
 * other keeps from running. So threads are free to move, and one that shares a processor is moved
 * when another has been idle for a while. */
#ifndef GB_BACKENDS_CPU_CORES_H
#define GB_BACKENDS_CPU_CORES_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct gb_cores {
    cpu_set_t mask; /* processors that the calling thread may use */
    int cpus;       /* of them */
    int cores;      /* that they are on: SMT siblings count once */
    int quota;      /* processors' worth of time that its control group may use; or cpus */
    uint16_t core[CPU_SETSIZE]; /* of each processor of the mask: 0 .. cores - 1 */
} gb_cores;

/* sys: "/sys", or what a test has put in its place. Where it tells nothing, each processor is a
 * core. */
void gb_cores_find(const char *sys, gb_cores *c);

/* As many threads as make sense: one a core, within the quota. */
int gb_cores_threads(const gb_cores *c);

/* Time that each processor has been idle since the system started, in ticks of the system's clock
 * (sysconf), as `file` ("/proc/stat") tells. False: it does not. */
bool gb_cores_idle(const char *file, uint64_t idle[CPU_SETSIZE]);

/* Has each of the threads its own core, or processor if they are more than there are cores? Thread
 * i is at processor at[i]. */
bool gb_cores_are_apart(const gb_cores *c, const int *at, int threads);

/* Those that share with one before them get a processor on a place that no thread uses, and of
 * which free[] says so: to[i], else -1. Returns how many get one. */
int gb_cores_spread(const gb_cores *c, const bool free[CPU_SETSIZE], const int *at, int threads,
                    int *to);

#endif
