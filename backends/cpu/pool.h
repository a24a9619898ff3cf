/* A small pool of threads for data-parallel loops.
 *
 * Work is cut into tasks by its shape alone, never by the number of threads, and each task is done
 * by one thread from start to end; so results do not depend on how many threads there are. */
#ifndef GB_BACKENDS_CPU_POOL_H
#define GB_BACKENDS_CPU_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include <gimbal/status.h>

typedef struct gb_pool gb_pool;

/* One task of a run. worker is 0 .. gb_pool_workers - 1 and names scratch that no other running
 * task of the same run uses. */
typedef void (*gb_pool_fn)(void *ctx, int64_t task, int worker);

/* Starts threads - 1 threads (the caller of a run is the last one); 0 = one for each core that
 * this process may use. settles: gb_pool_settle may move them. */
gb_status gb_pool_create_for(int threads, bool settles, gb_pool **pool, gb_error *err);

static inline gb_status gb_pool_create(int threads, gb_pool **pool, gb_error *err)
{
    return gb_pool_create_for(threads, true, pool, err);
}

/* Stops and joins the threads. No run may be under way. NULL is allowed. */
void gb_pool_destroy(gb_pool *pool);

int gb_pool_workers(const gb_pool *pool);

/* Between runs, as often as the caller likes: where threads of the pool have shared a processor for
 * a while and others were idle, moves them there (cores.h). They stay free to move. By the thread
 * that calls runs. */
void gb_pool_settle(gb_pool *pool);

/* Calls fn for every task 0 .. tasks - 1 and returns when all are done. Tasks are claimed in
 * order. May be called from several threads and from within a task: while the pool is taken, the
 * caller does its tasks alone. At most 2^31 - 1 tasks. */
void gb_pool_run(gb_pool *pool, int64_t tasks, gb_pool_fn fn, void *ctx);

#endif
