/* PoCL's threads, each on a processor of its own. It wakes all of them at every launch, and Linux
 * then runs two of them on one processor while another idles, for seconds on end: launches that
 * last a millisecond end before the load is balanced. Measured: half the speed, by luck. */
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "backends/opencl/opencl.h"

enum { PATIENCE_MS = 100 };

typedef struct gb_meeting { /* of all threads of the driver: each runs one native kernel and waits
                             */
    pthread_mutex_t lock;
    pthread_cond_t all;
    int expected, arrived;
    bool late; /* the driver does not run them side by side */
} gb_meeting;

/* The place of the calling thread among those that met; -1 where not all of them came. */
static int meet(gb_meeting *m)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PATIENCE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&m->lock);
    const int place = m->arrived++;
    if (m->arrived == m->expected) pthread_cond_broadcast(&m->all);
    while (m->arrived < m->expected && !m->late)
        m->late = pthread_cond_timedwait(&m->all, &m->lock, &until) != 0;
    const bool met = !m->late;
    pthread_mutex_unlock(&m->lock);
    return met ? place : -1;
}

/* Whoever is bound already, by POCL_AFFINITY or an earlier context, stays where it is. */
static void bind_to(int place)
{
    cpu_set_t set, one;
    if (sched_getaffinity(0, sizeof set, &set) || CPU_COUNT(&set) < 2) return;
    int skip = place % CPU_COUNT(&set), cpu = 0;
    while (!CPU_ISSET(cpu, &set) || skip-- > 0) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void CL_CALLBACK pin(void *argument)
{
    const int place = meet(*(gb_meeting **)argument);
    if (place >= 0) bind_to(place);
}

void gb_cl_pin_threads(gb_backend_device *dev)
{
    cl_device_exec_capabilities can = 0;
    gb_meeting m = {.lock = PTHREAD_MUTEX_INITIALIZER,
                    .all = PTHREAD_COND_INITIALIZER,
                    .expected = dev->caps.compute_units};
    gb_meeting *argument = &m;
    cl_int code =
        clGetDeviceInfo(dev->id, CL_DEVICE_EXECUTION_CAPABILITIES, sizeof can, &can, NULL);
    if (code || !(can & CL_EXEC_NATIVE_KERNEL) || m.expected < 2) return;
    cl_command_queue queue =
        clCreateCommandQueue(dev->context, dev->id, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE, &code);
    if (code) return;
    for (int i = 0; i < m.expected && !code; i++)
        code = clEnqueueNativeKernel(queue, pin, &argument, sizeof argument, 0, NULL, NULL, 0, NULL,
                                     NULL);
    clFinish(queue);
    clReleaseCommandQueue(queue);
}
