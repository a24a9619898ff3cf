/* Launches that are recorded once do what enqueued ones do, also when a program is bound again;
 * uploads beside kernels arrive in order. Skips recording where no OpenCL driver here has
 * cl_khr_command_buffer. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "backends/opencl/opencl.h"
#include "core/base/arena.h"

enum { N = 4096, BUFFERS = 3, DEVICES = 8 };

typedef struct job { /* two steps, y = 3 x + 1 and z = 3 y + 1 */
    gb_arena *arena;
    gb_step step[2];
    gb_plan_buffer planned[BUFFERS];
    gb_plan plan;
    gb_backend_buffer *buffer[BUFFERS];
} job;

static const gb_expr *affine(gb_arena *arena)
{
    gb_xb b = {0};
    gb_x y = gb_x2(&b, GB_P_MUL, gb_x_input(&b, 0, 'f'), gb_x_const(&b, 3));
    y = gb_x2(&b, GB_P_ADD, y, gb_x_const(&b, 1));
    gb_expr *e = gb_xb_finish(&b, 1, &y, 1, gb_arena_alloc_hook, arena);
    gb_xb_free(&b);
    return e;
}

static void job_open(job *j, gb_backend_device *dev)
{
    *j = (job){.arena = gb_arena_create()};
    for (int i = 0; i < 2; i++) {
        gb_operand o = {.rank = 1, .dim = {N}, .stride = {1}, .buffer = i};
        j->step[i] = (gb_step){.kind = GB_STEP_POINTWISE, .path = "test", .phase = "forward",
                               .n_in = 1, .n_out = 1, .in = {o}, .out = {o}, .rank = 1,
                               .dim = {N}, .expr = affine(j->arena), .scratch = {.buffer = -1}};
        j->step[i].out[0].buffer = i + 1;
    }
    for (int i = 0; i < BUFFERS; i++) {
        j->planned[i] = (gb_plan_buffer){.role = GB_BUF_STATE, .bytes = N * sizeof(float)};
        assert_int_equal(gb_opencl_backend.buffer_create(dev, N * sizeof(float), &j->buffer[i], NULL), GB_OK);
    }
    j->plan = (gb_plan){.n_steps = 2, .n_buffers = BUFFERS, .step = j->step, .buffer = j->planned,
                        .scalars_buffer = -1};
}

static void job_close(job *j, gb_backend_device *dev)
{
    for (int i = 0; i < BUFFERS; i++) gb_opencl_backend.buffer_destroy(dev, j->buffer[i]);
    gb_arena_destroy(j->arena);
}

static float first_of(gb_backend_device *dev, gb_backend_buffer *b)
{
    float x[N];
    assert_int_equal(gb_opencl_backend.buffer_read(dev, b, 0, sizeof x, x, NULL), GB_OK);
    for (int i = 1; i < N; i++) assert_true(x[i] == x[0]);
    return x[0];
}

static void set(gb_backend_device *dev, gb_backend_buffer *b, float value)
{
    float x[N];
    for (int i = 0; i < N; i++) x[i] = value;
    assert_int_equal(gb_opencl_backend.buffer_write(dev, b, 0, sizeof x, x, NULL), GB_OK);
}

/* Runs in a row, without a wait; then with the buffers in another order. */
static void run_job(gb_backend_device *dev, int recorded)
{
    const gb_backend *be = &gb_opencl_backend;
    gb_backend_program *p;
    job j;
    job_open(&j, dev);
    assert_int_equal(be->program_create(dev, &j.plan, &p, NULL), GB_OK);
    assert_int_equal(gb_cl_program_recorded(p), 0);
    for (int turn = 0; turn < 2; turn++) {
        gb_backend_buffer *in = j.buffer[turn ? 2 : 0], *out = j.buffer[turn ? 0 : 2];
        assert_int_equal(be->program_bind(p, (gb_backend_buffer *[]){in, j.buffer[1], out}, NULL), GB_OK);
        assert_int_equal(gb_cl_program_recorded(p), recorded);
        set(dev, out, 0);
        for (int i = 0; i < 5; i++) {
            set(dev, in, (float)i);
            assert_int_equal(be->program_run(p, NULL), GB_OK);
        }
        assert_true(first_of(dev, out) == 9 * 4 + 4);
        assert_true(first_of(dev, in) == 4);
    }
    gb_span span[2];
    set(dev, j.buffer[2], 7);
    assert_int_equal(be->program_time(p, span, NULL), GB_OK); /* enqueues each launch */
    assert_true(first_of(dev, j.buffer[0]) == 9 * 7 + 4);
    be->program_destroy(p);
    job_close(&j, dev);
}

static int devices(void)
{
    gb_device_info info[DEVICES];
    char reason[200];
    int n = 0, usable = 0;
    gb_opencl_backend.enumerate(NULL, info, DEVICES, &n, reason, sizeof reason);
    while (usable < n && info[usable].usable) usable++;
    return usable;
}

static void recorded_launches_do_the_same(void **state)
{
    (void)state;
    int n = devices(), can = 0;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 2; k++) {
            gb_backend_options o = {.launch = k ? "apart recorded" : "apart enqueued"};
            gb_backend_device *dev;
            assert_int_equal(gb_opencl_backend.open(&o, i, &dev, NULL), GB_OK);
            if (!k) assert_null(dev->recorder);
            can += dev->recorder != NULL;
            run_job(dev, dev->recorder ? 2 : 0);
            gb_opencl_backend.close(dev);
        }
    }
    if (can) return;
    print_message("skipped: no OpenCL driver here records launches\n");
    skip();
}

/* Each is seen by the run after it, and by no run before: more of them than there are lanes. */
static void uploads_keep_their_place(void **state)
{
    (void)state;
    int n = devices();
    if (!n) skip();
    for (int i = 0; i < n; i++) {
        gb_backend_options o = {.launch = "apart beside"};
        gb_backend_device *dev;
        gb_backend_program *p;
        gb_backend_buffer *sum[9];
        job j;
        assert_int_equal(gb_opencl_backend.open(&o, i, &dev, NULL), GB_OK);
        assert_non_null(dev->uploads);
        job_open(&j, dev);
        assert_int_equal(gb_opencl_backend.program_create(dev, &j.plan, &p, NULL), GB_OK);
        for (int k = 0; k < 9; k++) {
            assert_int_equal(gb_opencl_backend.buffer_create(dev, N * sizeof(float), &sum[k], NULL), GB_OK);
            gb_backend_buffer *bound[] = {j.buffer[0], j.buffer[1], sum[k]};
            assert_int_equal(gb_opencl_backend.program_bind(p, bound, NULL), GB_OK);
            set(dev, j.buffer[0], (float)k);
            assert_int_equal(gb_opencl_backend.program_run(p, NULL), GB_OK);
        }
        for (int k = 0; k < 9; k++) {
            assert_true(first_of(dev, sum[k]) == 9.0f * (float)k + 4);
            gb_opencl_backend.buffer_destroy(dev, sum[k]);
        }
        gb_opencl_backend.program_destroy(p);
        job_close(&j, dev);
        gb_opencl_backend.close(dev);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(recorded_launches_do_the_same),
                                       cmocka_unit_test(uploads_keep_their_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
