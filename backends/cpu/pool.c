#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/cpu/cores.h"
#include "backends/cpu/pool.h"

/* Short enough not to hurt others on a shared machine, long enough to bridge the gap between two
 * steps of a program. */
#define SPINS_BEFORE_SLEEP 2000
#define SPINS_BEFORE_YIELD 2000

/* Idle time is counted in hundredths of a second. */
#define SETTLE_SECONDS 0.03
#define IDLE_SHARE 0.6

/* Of a thread: where it was when it last took part. */
typedef struct {
    _Atomic int cpu;
    _Atomic pid_t id;
} thread_place;

/* How threads that share a processor get apart. */
typedef struct {
    bool wanted;
    gb_cores cores;
    thread_place *thread;
    int *at, *to;
    double last; /* when idle times were read, or threads were seen apart */
    bool known;  /* idle is of `last` */
    uint64_t idle[CPU_SETSIZE];
} settling;

struct gb_pool {
    int workers;
    int started;
    pthread_t *threads;
    settling settle;

    /* The run under way. ticket = generation << 32 | next task: a worker claims a task by moving
     * it on, which fails for a worker that comes late, from an older generation. */
    _Alignas(64) _Atomic uint64_t ticket;
    _Atomic int64_t tasks;
    _Atomic(gb_pool_fn) fn;
    _Atomic(void *) ctx;
    _Alignas(64) _Atomic int64_t done;
    _Alignas(64) atomic_flag taken;

    _Alignas(64) _Atomic int sleepers;
    _Atomic bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

typedef struct {
    gb_pool *pool;
    int worker;
} thread_start;

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static uint32_t generation_of(uint64_t ticket)
{
    return (uint32_t)(ticket >> 32);
}

/* Does tasks of the current run until none is left. */
static void take_part(gb_pool *p, int worker)
{
    atomic_store_explicit(&p->settle.thread[worker].cpu, sched_getcpu(), memory_order_relaxed);
    uint64_t t = atomic_load(&p->ticket);
    for (;;) {
        int64_t task = (uint32_t)t;
        if (task >= atomic_load(&p->tasks)) return;
        gb_pool_fn fn = atomic_load(&p->fn);
        void *ctx = atomic_load(&p->ctx);
        if (!atomic_compare_exchange_weak(&p->ticket, &t, t + 1)) continue;
        fn(ctx, task, worker);
        atomic_fetch_add(&p->done, 1);
        t = atomic_load(&p->ticket);
    }
}

/* Returns when the generation is no longer `seen` or the pool stops. */
static void wait_for_work(gb_pool *p, uint32_t seen)
{
    for (int i = 0; i < SPINS_BEFORE_SLEEP; i++) {
        if (generation_of(atomic_load(&p->ticket)) != seen || atomic_load(&p->stop)) return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (generation_of(atomic_load(&p->ticket)) == seen && !atomic_load(&p->stop))
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *thread_main(void *arg)
{
    thread_start start = *(thread_start *)arg;
    free(arg);
    atomic_store(&start.pool->settle.thread[start.worker].id, gettid());
    uint32_t seen = 0;
    for (;;) {
        wait_for_work(start.pool, seen);
        if (atomic_load(&start.pool->stop)) return NULL;
        seen = generation_of(atomic_load(&start.pool->ticket));
        take_part(start.pool, start.worker);
    }
}

static void wake_sleepers(gb_pool *p)
{
    if (!atomic_load(&p->sleepers)) return;
    pthread_mutex_lock(&p->lock); /* a worker about to sleep has looked before, or will see it */
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void gb_pool_run(gb_pool *p, int64_t tasks, gb_pool_fn fn, void *ctx)
{
    if (p->workers == 1 || tasks <= 1 || atomic_flag_test_and_set(&p->taken)) {
        for (int64_t i = 0; i < tasks; i++) fn(ctx, i, 0);
        return;
    }
    atomic_store(&p->fn, fn);
    atomic_store(&p->ctx, ctx);
    atomic_store(&p->done, 0);
    uint64_t old = (uint64_t)generation_of(atomic_load(&p->ticket)) << 32;
    /* A late worker of the old generation may see the new number of tasks: void its ticket. */
    atomic_store(&p->ticket, old | UINT32_MAX);
    atomic_store(&p->tasks, tasks);
    atomic_store(&p->ticket, old + (UINT64_C(1) << 32));
    wake_sleepers(p);
    take_part(p, 0);
    for (int i = 0; atomic_load(&p->done) < tasks; i++) {
        if (i < SPINS_BEFORE_YIELD)
            relax();
        else
            sched_yield();
    }
    atomic_flag_clear(&p->taken);
}

int gb_pool_workers(const gb_pool *pool)
{
    return pool->workers;
}

/* --- places of threads --- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void move(pid_t thread, int cpu, const cpu_set_t *mask)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (thread && !sched_setaffinity(thread, sizeof one, &one))
        (void)sched_setaffinity(thread, sizeof *mask, mask);
}

/* Moves threads that share a processor to others that were idle since the last look. */
static void spread(settling *s, int threads, double seconds)
{
    uint64_t before[CPU_SETSIZE];
    bool free[CPU_SETSIZE];
    memcpy(before, s->idle, sizeof before);
    bool compare = s->known;
    s->known = gb_cores_idle("/proc/stat", s->idle);
    if (!compare || !s->known) return;
    double enough = IDLE_SHARE * seconds * (double)sysconf(_SC_CLK_TCK);
    for (int i = 0; i < CPU_SETSIZE; i++) free[i] = (double)(s->idle[i] - before[i]) >= enough;
    if (!gb_cores_spread(&s->cores, free, s->at, threads, s->to)) return;
    for (int i = 1; i < threads; i++) /* the caller is not ours to move */
        if (s->to[i] >= 0) move(atomic_load(&s->thread[i].id), s->to[i], &s->cores.mask);
    s->known = false;
}

void gb_pool_settle(gb_pool *p)
{
    settling *s = &p->settle;
    if (!s->wanted) return;
    double t = now(), seconds = t - s->last;
    if (seconds < SETTLE_SECONDS) return;
    s->last = t;
    atomic_store(&s->thread[0].cpu, sched_getcpu());
    for (int i = 0; i < p->workers; i++) {
        s->at[i] = atomic_load(&s->thread[i].cpu);
        if (s->at[i] < 0 || s->at[i] >= CPU_SETSIZE) return;
    }
    if (gb_cores_are_apart(&s->cores, s->at, p->workers))
        s->known = false;
    else
        spread(s, p->workers, seconds);
}

static bool make_settling(settling *s, int threads, bool wanted)
{
    s->wanted = wanted && threads > 1 && threads <= s->cores.cpus;
    s->last = now();
    s->known = s->wanted && gb_cores_idle("/proc/stat", s->idle);
    s->thread = calloc((size_t)threads, sizeof *s->thread);
    s->at = calloc((size_t)threads, sizeof *s->at);
    s->to = calloc((size_t)threads, sizeof *s->to);
    return s->thread && s->at && s->to;
}

static bool start_thread(gb_pool *p, int worker)
{
    thread_start *start = malloc(sizeof *start);
    if (!start) return false;
    *start = (thread_start){p, worker};
    if (!pthread_create(&p->threads[worker - 1], NULL, thread_main, start)) return true;
    free(start);
    return false;
}

void gb_pool_destroy(gb_pool *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, true);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->started; i++) pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->settle.thread);
    free(p->settle.at);
    free(p->settle.to);
    free(p->threads);
    free(p);
}

static gb_status no_memory(gb_pool *p, gb_error *err)
{
    gb_pool_destroy(p);
    return gb_fail(err, GB_OUT_OF_MEMORY, "threads", NULL, "no memory for a thread pool");
}

gb_status gb_pool_create_for(int threads, bool settles, gb_pool **pool, gb_error *err)
{
    *pool = NULL;
    if (threads < 0 || threads > 4096)
        return gb_fail(err, GB_INVALID, "threads", "use 0 for all cores, or 1 to 4096",
                       "%d is no number of threads", threads);
    gb_pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    if (!p) return no_memory(p, err);
    *p = (gb_pool){.taken = ATOMIC_FLAG_INIT};
    gb_cores_find("/sys", &p->settle.cores);
    if (!threads) threads = gb_cores_threads(&p->settle.cores);
    p->workers = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->threads = calloc((size_t)threads, sizeof *p->threads);
    if (!p->threads || !make_settling(&p->settle, threads, settles)) return no_memory(p, err);
    for (; p->started < threads - 1; p->started++)
        if (!start_thread(p, p->started + 1)) {
            gb_fail(err, GB_OUT_OF_MEMORY, "threads", "ask for fewer threads",
                    "the system refused to start thread %d of %d", p->started + 2, threads);
            gb_pool_destroy(p);
            return GB_OUT_OF_MEMORY;
        }
    *pool = p;
    return GB_OK;
}
