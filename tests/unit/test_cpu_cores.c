/* Where the threads of a pool run: what the system says, and who moves where. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/cpu/cores.h"
#include "backends/cpu/pool.h"

static char dir[] = "/tmp/gimbal-cores-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    for (char *s = path + strlen(dir) + 1; *s; s++)
        if (*s == '/') {
            *s = 0;
            mkdir(path, 0700);
            *s = '/';
        }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void siblings(int cpu, const char *list)
{
    char name[96];
    snprintf(name, sizeof name, "devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    write_file(name, list);
}

static void what_the_system_says(void **state)
{
    (void)state;
    gb_cores c;
    gb_cores_find(dir, &c); /* nothing there */
    assert_int_equal(c.cpus, CPU_COUNT(&c.mask));
    assert_int_equal(c.cores, c.cpus);
    assert_int_equal(gb_cores_threads(&c), c.cpus);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &c.mask)) siblings(i, "0-1023\n");
    gb_cores_find(dir, &c);
    assert_int_equal(c.cores, 1);
    assert_int_equal(gb_cores_threads(&c), 1);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &c.mask)) siblings(i, "nonsense\n");
    write_file("fs/cgroup/cpu.max", "max 100000\n");
    gb_cores_find(dir, &c);
    assert_int_equal(c.cores, c.cpus);
    assert_int_equal(c.quota, c.cpus);
    write_file("fs/cgroup/cpu.max", "50000 100000\n");
    gb_cores_find(dir, &c);
    assert_int_equal(c.quota, 1);
    assert_int_equal(gb_cores_threads(&c), 1);
}

static void idle_times(void **state)
{
    (void)state;
    char path[256];
    static uint64_t idle[CPU_SETSIZE];
    snprintf(path, sizeof path, "%s/stat", dir);
    assert_false(gb_cores_idle(path, idle));
    write_file("stat",
               "cpu  9 9 9 99 0\ncpu0 1 2 3 40 5\ncpu7 1 2 3 77 5\ncpu99999 1 2 3 4\nintr\n");
    assert_true(gb_cores_idle(path, idle));
    assert_int_equal(idle[0], 40);
    assert_int_equal(idle[7], 77);
    assert_int_equal(idle[1], 0);
}

/* Processors 0 … 7 on four cores: i and i + 4 are siblings. */
static gb_cores eight(void)
{
    gb_cores c = {.cpus = 8, .cores = 4, .quota = 8};
    CPU_ZERO(&c.mask);
    for (int i = 0; i < 8; i++) {
        CPU_SET(i, &c.mask);
        c.core[i] = (uint16_t)(i % 4);
    }
    return c;
}

static void who_moves(void **state)
{
    (void)state;
    gb_cores c = eight();
    bool free[CPU_SETSIZE] = {false};
    int to[8];
    assert_true(gb_cores_are_apart(&c, (int[]){0, 1, 6}, 3));
    assert_false(gb_cores_are_apart(&c, (int[]){0, 1, 4}, 3)); /* siblings */
    assert_true(gb_cores_are_apart(&c, (int[]){0, 1, 2, 3, 4}, 5));
    assert_int_equal(gb_cores_spread(&c, free, (int[]){0, 0, 4}, 3, to), 0); /* none is idle */
    free[4] = free[3] = free[9] = true;
    assert_int_equal(gb_cores_spread(&c, free, (int[]){0, 0, 4}, 3, to), 1);
    assert_int_equal(to[0], -1);
    assert_int_equal(to[1], 3); /* not 4, the sibling; not 9, which is not ours */
    assert_int_equal(to[2], -1);
    free[6] = true;
    assert_int_equal(gb_cores_spread(&c, free, (int[]){0, 0, 4}, 3, to), 2);
    assert_int_equal(to[1], 3);
    assert_int_equal(to[2], 6);
}

static void note_mask(void *ctx, int64_t task, int worker)
{
    (void)task;
    cpu_set_t *mask = ctx;
    sched_getaffinity(0, sizeof mask[worker], &mask[worker]);
}

static void threads_stay_free_to_move(void **state)
{
    (void)state;
    gb_pool *pool;
    cpu_set_t mask[2], all;
    sched_getaffinity(0, sizeof all, &all);
    mask[0] = mask[1] = all;
    assert_int_equal(gb_pool_create(2, &pool, NULL), GB_OK);
    for (int i = 0; i < 15; i++) {
        gb_pool_settle(pool);
        gb_pool_run(pool, 64, note_mask, mask);
        usleep(10000);
    }
    assert_true(CPU_EQUAL(&mask[0], &all) && CPU_EQUAL(&mask[1], &all));
    gb_pool_destroy(pool);
}

static void *pool_on_one(void *workers)
{
    cpu_set_t one;
    gb_pool *pool;
    sched_getaffinity(0, sizeof one, &one);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &one)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    if (gb_pool_create(0, &pool, NULL)) return NULL;
    *(int *)workers = gb_pool_workers(pool);
    gb_pool_destroy(pool);
    return NULL;
}

static void masks_are_respected(void **state)
{
    (void)state;
    pthread_t thread;
    int workers = 0;
    assert_int_equal(pthread_create(&thread, NULL, pool_on_one, &workers), 0);
    pthread_join(thread, NULL);
    assert_int_equal(workers, 1);
}

static int begin(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_the_system_says),
                                       cmocka_unit_test(idle_times), cmocka_unit_test(who_moves),
                                       cmocka_unit_test(threads_stay_free_to_move),
                                       cmocka_unit_test(masks_are_respected)};
    return cmocka_run_group_tests(tests, begin, end);
}
