#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "backends/cpu/pool.h"

/* Short enough not to hurt others on a shared machine, long enough to bridge the gap between two
 * steps of a program. */
#define SPINS_BEFORE_SLEEP 2000
#define SPINS_BEFORE_YIELD 2000

struct gb_pool {
    int workers;
    int started;
    pthread_t *threads;

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

static int usable_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
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

gb_status gb_pool_create(int threads, gb_pool **pool, gb_error *err)
{
    *pool = NULL;
    if (threads < 0 || threads > 4096)
        return gb_fail(err, GB_INVALID, "threads", "use 0 for all cores, or 1 to 4096",
                       "%d is no number of threads", threads);
    if (!threads) threads = usable_cores();
    gb_pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    pthread_t *list = calloc((size_t)threads, sizeof *list);
    if (!p || !list) {
        free(p);
        free(list);
        return gb_fail(err, GB_OUT_OF_MEMORY, "threads", NULL, "no memory for a thread pool");
    }
    *p = (gb_pool){.workers = threads, .threads = list, .taken = ATOMIC_FLAG_INIT};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (p->started = 0; p->started < threads - 1; p->started++)
        if (!start_thread(p, p->started + 1)) {
            gb_fail(err, GB_OUT_OF_MEMORY, "threads", "ask for fewer threads",
                    "the system refused to start thread %d of %d", p->started + 2, threads);
            gb_pool_destroy(p);
            return GB_OUT_OF_MEMORY;
        }
    *pool = p;
    return GB_OK;
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
    free(p->threads);
    free(p);
}
