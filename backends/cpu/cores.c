#include "backends/cpu/cores.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_line(const char *sys, const char *name, char *line, int size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", sys, name);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    bool ok = fgets(line, size, f) != NULL;
    fclose(f);
    return ok;
}

/* A list like "0-3,8" of processors. */
static void parse_list(const char *s, cpu_set_t *set)
{
    CPU_ZERO(set);
    while (*s) {
        char *end;
        long first = strtol(s, &end, 10), last = first;
        if (end == s) return;
        if (*end == '-') last = strtol(end + 1, &end, 10);
        for (long i = first < 0 ? 0 : first; i <= last && i < CPU_SETSIZE; i++) CPU_SET(i, set);
        if (*end != ',') return;
        s = end + 1;
    }
}

static void siblings_of(const char *sys, int cpu, const cpu_set_t *mask, cpu_set_t *set)
{
    char name[96], line[512];
    snprintf(name, sizeof name, "devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    CPU_ZERO(set);
    if (read_line(sys, name, line, sizeof line)) parse_list(line, set);
    CPU_AND(set, set, mask);
    CPU_SET(cpu, set);
}

/* Processors' worth of time, rounded up; 0: no limit. Control groups of version 2, then 1. */
static int quota_of(const char *sys)
{
    char line[64];
    long long quota = 0, period = 0;
    if (read_line(sys, "fs/cgroup/cpu.max", line, sizeof line)) {
        if (sscanf(line, "%lld %lld", &quota, &period) != 2) return 0; /* "max 100000" */
    } else if (read_line(sys, "fs/cgroup/cpu/cpu.cfs_quota_us", line, sizeof line)) {
        quota = atoll(line);
        if (read_line(sys, "fs/cgroup/cpu/cpu.cfs_period_us", line, sizeof line))
            period = atoll(line);
    }
    if (quota <= 0 || period <= 0 || quota / period >= CPU_SETSIZE) return 0;
    return (int)((quota + period - 1) / period);
}

void gb_cores_find(const char *sys, gb_cores *c)
{
    *c = (gb_cores){.cpus = 0};
    if (sched_getaffinity(0, sizeof c->mask, &c->mask) || !CPU_COUNT(&c->mask)) {
        c->cpus = c->cores = c->quota = 1; /* more processors than a set holds */
        return;
    }
    cpu_set_t left = c->mask;
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &left)) continue;
        cpu_set_t siblings;
        siblings_of(sys, i, &left, &siblings);
        for (int k = i; k < CPU_SETSIZE; k++)
            if (CPU_ISSET(k, &siblings)) c->core[k] = (uint16_t)c->cores;
        CPU_XOR(&left, &left, &siblings);
        c->cores++;
    }
    c->cpus = CPU_COUNT(&c->mask);
    int quota = quota_of(sys);
    c->quota = quota && quota < c->cpus ? quota : c->cpus;
}

int gb_cores_threads(const gb_cores *c)
{
    return c->quota < c->cores ? c->quota : c->cores;
}

bool gb_cores_idle(const char *file, uint64_t idle[CPU_SETSIZE])
{
    FILE *f = fopen(file, "r");
    char line[512];
    bool any = false;
    memset(idle, 0, CPU_SETSIZE * sizeof *idle);
    while (f && fgets(line, sizeof line, f)) { /* cpu0 user nice system idle … */
        int cpu;
        unsigned long long ticks;
        if (sscanf(line, "cpu%d %*u %*u %*u %llu", &cpu, &ticks) != 2) continue;
        if (cpu < 0 || cpu >= CPU_SETSIZE) continue;
        idle[cpu] = ticks;
        any = true;
    }
    if (f) fclose(f);
    return any;
}

/* What a thread occupies: its core, or one processor of it. */
static int place_of(const gb_cores *c, int cpu, int threads)
{
    return threads <= c->cores ? c->core[cpu] : cpu;
}

bool gb_cores_are_apart(const gb_cores *c, const int *at, int threads)
{
    bool used[CPU_SETSIZE] = {false};
    for (int i = 0; i < threads; i++) {
        bool *place = &used[place_of(c, at[i], threads)];
        if (*place) return false;
        *place = true;
    }
    return true;
}

int gb_cores_spread(const gb_cores *c, const bool free[CPU_SETSIZE], const int *at, int threads,
                    int *to)
{
    bool used[CPU_SETSIZE] = {false}, again[CPU_SETSIZE] = {false};
    int moves = 0, cpu = 0;
    for (int i = 0; i < threads; i++) used[place_of(c, at[i], threads)] = true;
    for (int i = 0; i < threads; i++) {
        int place = place_of(c, at[i], threads);
        bool shares = again[place];
        again[place] = true;
        to[i] = -1;
        if (!shares) continue;
        for (; cpu < CPU_SETSIZE && to[i] < 0; cpu++) {
            if (!CPU_ISSET(cpu, &c->mask) || !free[cpu] || used[place_of(c, cpu, threads)])
                continue;
            used[place_of(c, cpu, threads)] = true;
            to[i] = cpu;
            moves++;
        }
    }
    return moves;
}
