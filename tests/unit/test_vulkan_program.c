/* Programs on Vulkan under the validation layers: order, rebinding, timing, and what failures of a
 * driver become. What kernels compute is checked by test_backends. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "backends/vulkan/vk.h"
#include "tests/support/plans.h"

extern const gb_backend gb_vulkan_backend;
static const gb_backend *const be = &gb_vulkan_backend;

enum { N = 3000, A = 0, B, C, D, BUFFERS };

typedef struct fixture {
    gb_backend_device *dev;
    gb_test_plan *plan;
    gb_backend_program *program;
    gb_backend_buffer *buffer[2][BUFFERS];
} fixture;

static gb_error err;

static void ok(gb_status status)
{
    if (status) fail_msg("%s: %s", err.input, err.message);
}

static gb_expr *combine(gb_test_plan *t, gb_prim p, double constant)
{
    gb_xb b = {0};
    gb_x x = gb_x_input(&b, 0, 'f');
    gb_x y = gb_x2(&b, p, x, constant ? gb_x_const(&b, constant) : gb_x_input(&b, 1, 'f'));
    gb_expr *e = gb_xb_finish(&b, constant ? 1 : 2, &y, 1, gb_arena_alloc_hook, t->arena);
    gb_xb_free(&b);
    assert_non_null(e);
    return e;
}

static void add_step(gb_test_plan *t, gb_prim p, double constant, int in0, int in1, int out)
{
    gb_step *s = gb_test_step(t, GB_STEP_POINTWISE);
    gb_operand o = {.storage = GB_S_F32, .rank = 1, .dim = {N}, .stride = {1}};
    s->n_in = constant ? 1 : 2;
    s->n_out = s->rank = 1;
    s->dim[0] = N;
    s->in[0] = s->in[1] = s->out[0] = o;
    s->in[0].buffer = in0, s->in[1].buffer = in1, s->out[0].buffer = out;
    s->expr = combine(t, p, constant);
    s->scratch.buffer = -1;
    s->flops = out == A ? 9e10 : 0; /* so much that it goes in portions, and a new part begins */
}

/* c = a + b; a = c / 2; d = c * b: every kind of hazard from step to step and from run to run. */
static int setup(void **state)
{
    static fixture f;
    memset(&f, 0, sizeof f);
    *state = &f;
    f.dev = gb_test_open(be, NULL);
    if (!f.dev) {
        print_message("SKIPPED: no Vulkan driver or no validation layer\n");
        return 0;
    }
    f.plan = gb_test_plan_create();
    for (int i = 0; i < BUFFERS; i++)
        assert_int_equal(gb_test_buffer(f.plan, GB_S_F32, N, 0, 1), i);
    add_step(f.plan, GB_P_ADD, 0, A, B, C);
    add_step(f.plan, GB_P_MUL, 0.5, C, C, A);
    add_step(f.plan, GB_P_MUL, 0, C, B, D);
    ok(be->program_create(f.dev, &f.plan->plan, &f.program, &err));
    for (int set = 0; set < 2; set++)
        for (int i = 0; i < BUFFERS; i++)
            ok(be->buffer_create(f.dev, 4 * N, &f.buffer[set][i], &err));
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    if (!f->dev) return 0;
    be->program_destroy(f->program);
    for (int set = 0; set < 2; set++)
        for (int i = 0; i < BUFFERS; i++) be->buffer_destroy(f->dev, f->buffer[set][i]);
    gb_test_plan_destroy(f->plan);
    be->close(f->dev);
    return 0;
}

static fixture *need_device(void **state)
{
    fixture *f = *state;
    if (!f->dev) skip();
    return f;
}

/* Runs without waiting between; the host computes the same. */
static void run_and_check(fixture *f, gb_backend_buffer **buffer, int runs)
{
    static float a[N], b[N], c[N], d[N], got[N];
    for (int i = 0; i < N; i++) a[i] = (float)i;
    ok(be->program_bind(f->program, buffer, &err));
    ok(be->buffer_write(f->dev, buffer[A], 0, sizeof a, a, &err));
    for (int run = 0; run < runs; run++) {
        for (int i = 0; i < N; i++) {
            b[i] = (float)((i + run) % 7);
            c[i] = a[i] + b[i];
            a[i] = c[i] * 0.5f;
            d[i] = c[i] * b[i];
        }
        ok(be->buffer_write(f->dev, buffer[B], 0, sizeof b, b, &err));
        ok(be->program_run(f->program, &err));
    }
    ok(be->buffer_read(f->dev, buffer[D], 0, sizeof got, got, &err));
    assert_memory_equal(got, d, sizeof d);
    ok(be->buffer_read(f->dev, buffer[A], 0, sizeof got, got, &err));
    assert_memory_equal(got, a, sizeof a);
}

static void runs_follow_each_other(void **state)
{
    fixture *f = need_device(state);
    run_and_check(f, f->buffer[0], 15);
}

static void can_be_bound_again(void **state)
{
    fixture *f = need_device(state);
    run_and_check(f, f->buffer[0], 2);
    run_and_check(f, f->buffer[1], 3);
    run_and_check(f, f->buffer[0], 1);
}

static void discrete_memory_gives_the_same(void **state)
{
    fixture *f = need_device(state);
    bool direct = f->dev->memory.direct;
    f->dev->memory.direct = false;
    run_and_check(f, f->buffer[0], 6);
    f->dev->memory.direct = direct;
}

/* With the device's timers and, as on queues without them, with the host's. */
static void steps_are_timed(void **state)
{
    fixture *f = need_device(state);
    uint32_t bits = f->dev->physical.timestamp_bits;
    for (int pass = 0; pass < 2; pass++) {
        gb_span span[3] = {{-1, -1}, {-1, -1}, {-1, -1}};
        f->dev->physical.timestamp_bits = pass ? 0 : bits;
        ok(be->program_bind(f->program, f->buffer[0], &err));
        ok(be->program_time(f->program, span, &err));
        for (int i = 0; i < 3; i++) assert_true(span[i].seconds > 0 && span[i].seconds < 10);
        for (int i = 1; i < 3; i++)
            assert_true(span[i].begin >= span[i - 1].begin + 0.999 * span[i - 1].seconds);
    }
    f->dev->physical.timestamp_bits = bits;
}

static void peaks_are_measured(void **state)
{
    fixture *f = need_device(state);
    gb_peak peak = {0};
    ok(be->peak(f->dev, &peak, &err));
    assert_true(peak.gflops > 0.1 && peak.gflops < 1e6);
    assert_true(peak.gb_per_s > 0.1 && peak.gb_per_s < 1e5);
}

/* Opens a device, makes the program and runs it, a few times; true if all went well. */
static void *work_alone(void *plan)
{
    gb_backend_options options = {.validate = true};
    bool good = true;
    for (int round = 0; round < 3 && good; round++) {
        gb_backend_device *dev = NULL;
        gb_backend_program *program = NULL;
        gb_backend_buffer *buffer[BUFFERS] = {0};
        static const float zero[N];
        good = !be->open(&options, 0, &dev, NULL) && !be->program_create(dev, plan, &program, NULL);
        for (int i = 0; i < BUFFERS && good; i++)
            good = !be->buffer_create(dev, sizeof zero, &buffer[i], NULL) &&
                   !be->buffer_write(dev, buffer[i], 0, sizeof zero, zero, NULL);
        good = good && !be->program_bind(program, buffer, NULL);
        for (int run = 0; run < 5 && good; run++) good = !be->program_run(program, NULL);
        good = good && !be->wait(dev, NULL);
        if (program) be->program_destroy(program);
        for (int i = 0; i < BUFFERS && dev; i++) be->buffer_destroy(dev, buffer[i]);
        if (dev) be->close(dev);
    }
    return good ? plan : NULL;
}

static void devices_do_not_know_of_each_other(void **state)
{
    fixture *f = need_device(state);
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, work_alone, &f->plan->plan), 0);
    for (int i = 0; i < 2; i++) {
        void *good;
        assert_int_equal(pthread_join(thread[i], &good), 0);
        assert_non_null(good);
    }
}

static VKAPI_ATTR VkResult VKAPI_CALL lose(VkQueue queue, uint32_t n, const VkSubmitInfo *info,
                                           VkFence fence)
{
    return VK_ERROR_DEVICE_LOST;
}

static void a_lost_device_is_told(void **state)
{
    fixture *f = need_device(state);
    PFN_vkQueueSubmit submit = f->dev->vk.QueueSubmit;
    ok(be->program_bind(f->program, f->buffer[0], &err));
    assert_false(be->lost(f->dev));
    f->dev->vk.QueueSubmit = lose;
    assert_int_equal(be->program_run(f->program, &err), GB_DEVICE);
    assert_non_null(strstr(err.message, "lost"));
    assert_true(be->lost(f->dev));
    f->dev->vk.QueueSubmit = submit;
    f->dev->lost = false;
    run_and_check(f, f->buffer[0], 2);
}

static VKAPI_ATTR VkResult VKAPI_CALL refuse(VkDevice device, const VkMemoryAllocateInfo *info,
                                             const VkAllocationCallbacks *allocator,
                                             VkDeviceMemory *memory)
{
    return VK_ERROR_OUT_OF_DEVICE_MEMORY;
}

static void a_driver_out_of_memory_is_told(void **state)
{
    fixture *f = need_device(state);
    PFN_vkAllocateMemory allocate = f->dev->vk.AllocateMemory;
    gb_backend_buffer *b = NULL;
    f->dev->vk.AllocateMemory = refuse;
    gb_status status = be->buffer_create(f->dev, 64u << 20, &b, &err);
    f->dev->vk.AllocateMemory = allocate;
    assert_int_equal(status, GB_OUT_OF_MEMORY);
    assert_non_null(strstr(err.message, "64.0 MiB"));
    assert_null(b);
    ok(be->buffer_create(f->dev, 64u << 20, &b, &err));
    be->buffer_destroy(f->dev, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_follow_each_other),
        cmocka_unit_test(can_be_bound_again),
        cmocka_unit_test(discrete_memory_gives_the_same),
        cmocka_unit_test(steps_are_timed),
        cmocka_unit_test(peaks_are_measured),
        cmocka_unit_test(devices_do_not_know_of_each_other),
        cmocka_unit_test(a_lost_device_is_told),
        cmocka_unit_test(a_driver_out_of_memory_is_told),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
