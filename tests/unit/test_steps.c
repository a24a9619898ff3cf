/* Steps that are enqueued and read later: the same figures and states as step by step, a step that
 * fails is named with the states before it, and nothing waits in between. The arguments name the
 * devices; none: the CPU. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/train.h>

#include "core/runtime/runtime.h"
#include "tests/support/made_up.h"

enum { BATCH = 16, STEPS = 12 };

static char **devices;
static int n_devices;

typedef struct session {
    gb_context *ctx;
    gb_device *dev;
    gb_dataset *data;
    gb_recipe *recipe;
    gb_trainer *trainer;
    gb_tensor images[STEPS];
    int32_t labels[BATCH];
} session;

static session begin(const char *device, const char *rest)
{
    session s = {0};
    char text[1000];
    gb_error err = {0};
    gb_shape shape = gb_shape_of(4, BATCH, 1, 8, 8);
    snprintf(text, sizeof text,
             "data: {dataset: idx, path: .}\nmodel:\n  layers: [{conv: {out: 4, kernel: 3}}, "
             "batchnorm, relu, flatten, {dropout: 0.1}, linear: 4]\nbatch: %d\n"
             "optimizer: {sgd: {lr: 0.05, momentum: 0.9}}\n%s\n",
             BATCH, rest);
    if (gb_recipe_parse(text, "test", NULL, 0, &s.recipe, &err)) fail_msg("%s", err.message);
    gb_context_options o = {.validate = getenv("GB_VALIDATE") != NULL};
    assert_int_equal(gb_context_create(&o, &s.ctx, &err), GB_OK);
    if (gb_device_open(s.ctx, device, &s.dev, &err)) fail_msg("%s", err.message);
    s.data = gb_test_dataset(8, 64);
    assert_int_equal(gb_trainer_create(s.dev, s.recipe, s.data, &s.trainer, &err), GB_OK);
    if (gb_trainer_prepare(s.trainer, BATCH, &err)) fail_msg("%s", err.message);
    for (int k = 0; k < STEPS; k++) {
        assert_int_equal(gb_tensor_alloc(&s.images[k], GB_F32, &shape, &err), GB_OK);
        for (int64_t i = 0; i < gb_shape_count(&shape); i++)
            gb_tensor_set(&s.images[k], i, sin((double)(i * (k + 3))));
    }
    for (int i = 0; i < BATCH; i++) s.labels[i] = i % 4;
    return s;
}

static void end(session *s)
{
    for (int k = 0; k < STEPS; k++) gb_tensor_free(&s->images[k]);
    gb_trainer_destroy(&s->trainer);
    gb_dataset_destroy(&s->data);
    gb_recipe_destroy(&s->recipe);
    gb_device_close(&s->dev);
    gb_context_destroy(&s->ctx);
}

static void enqueue(session *s, int from, int to)
{
    gb_error err = {0};
    for (int k = from; k < to; k++)
        if (gb_trainer_enqueue(s->trainer, &s->images[k % STEPS], s->labels, 0.05, &err))
            fail_msg("%s", err.message);
}

static gb_step_result step(session *s, int k)
{
    gb_step_result r;
    gb_error err = {0};
    if (gb_trainer_step(s->trainer, &s->images[k % STEPS], s->labels, 0.05, &r, &err))
        fail_msg("%s", err.message);
    return r;
}

/* Every state that training leaves, bit by bit. */
static void assert_same_states(session *a, session *b)
{
    gb_store *x = gb_trainer_store(a->trainer), *y = gb_trainer_store(b->trainer);
    const char *name;
    for (int i = 0; (name = gb_store_name(x, i)); i++) {
        gb_tensor u, v;
        if (strncmp(name, "metrics.", 8) == 0) continue;
        assert_int_equal(gb_store_get(x, name, &u, NULL), GB_OK);
        assert_int_equal(gb_store_get(y, name, &v, NULL), GB_OK);
        if (memcmp(u.data, v.data, gb_tensor_bytes(&u))) fail_msg("%s differs", name);
        gb_tensor_free(&u);
        gb_tensor_free(&v);
    }
}

static const char *const recipes[] = {"", "micro_batch: 4", "precision: {f16: {growth_steps: 3}}",
                                      "micro_batch: 4\nprecision: {f16: {growth_steps: 3}}"};

static void reading_late_changes_nothing(void **state)
{
    for (int d = 0; d < n_devices; d++)
        for (size_t k = 0; k < sizeof recipes / sizeof *recipes; k++) {
            session now = begin(devices[d], recipes[k]), late = begin(devices[d], recipes[k]);
            const gb_step_result *r;
            int n;
            enqueue(&late, 0, STEPS);
            assert_int_equal(gb_trainer_steps(late.trainer), STEPS);
            assert_int_equal(gb_trainer_read(late.trainer, &r, &n, NULL), GB_OK);
            assert_int_equal(n, STEPS);
            for (int i = 0; i < STEPS; i++) {
                gb_step_result want = step(&now, i);
                assert_true(r[i].loss == want.loss && r[i].accuracy == want.accuracy &&
                            r[i].loss_scale == want.loss_scale && r[i].skipped == want.skipped);
            }
            assert_same_states(&now, &late);
            assert_int_equal(gb_trainer_read(late.trainer, &r, &n, NULL), GB_OK);
            assert_int_equal(n, 0);
            end(&now);
            end(&late);
        }
}

/* More rows than the ring has, a read in the middle of a step among them. */
static void the_ring_may_be_full(void **state)
{
    session now = begin("cpu", "micro_batch: 1"), late = begin("cpu", "micro_batch: 1");
    const gb_step_result *r;
    int n, steps = 2 * 256 / BATCH + 3;
    enqueue(&late, 0, 5);
    assert_int_equal(gb_trainer_read(late.trainer, &r, &n, NULL), GB_OK);
    assert_int_equal(n, 5);
    enqueue(&late, 5, steps);
    for (int i = 0; i < 5; i++) step(&now, i);
    assert_int_equal(gb_trainer_read(late.trainer, &r, &n, NULL), GB_OK);
    assert_int_equal(n, steps - 5);
    for (int i = 0; i < n; i++) assert_true(r[i].loss == step(&now, i + 5).loss);
    assert_same_states(&now, &late);
    end(&now);
    end(&late);
}

/* One filter of the convolution adds nine pixels. */
static void add_up_all(session *s)
{
    gb_tensor w;
    gb_store *store = gb_trainer_store(s->trainer);
    assert_int_equal(gb_store_get(store, "layers.0.conv.weight", &w, NULL), GB_OK);
    for (int i = 0; i < 9; i++) gb_tensor_set(&w, i, 1);
    assert_int_equal(gb_store_set(store, "layers.0.conv.weight", &w, NULL), GB_OK);
    gb_tensor_free(&w);
}

static void a_failure_found_late_is_named_rightly(void **state)
{
    enum { BAD = 5 };
    for (int d = 0; d < n_devices; d++)
        for (size_t k = 0; k < sizeof recipes / sizeof *recipes; k++) {
            session now = begin(devices[d], recipes[k]), late = begin(devices[d], recipes[k]);
            const gb_step_result *r;
            gb_error err = {0};
            int n;
            add_up_all(&now);
            add_up_all(&late);
            for (int i = 0; i < 64; i++) gb_tensor_set(&late.images[BAD], i, 3e38);
            enqueue(&late, 0, STEPS);
            assert_int_equal(gb_trainer_read(late.trainer, &r, &n, &err), GB_NOT_FINITE);
            assert_non_null(strstr(err.message, "step 5"));
            assert_int_equal(n, BAD);
            assert_int_equal(gb_trainer_steps(late.trainer), BAD);
            for (int i = 0; i < BAD; i++) assert_true(r[i].loss == step(&now, i).loss);
            assert_same_states(&now, &late);
            assert_int_equal(
                gb_trainer_diagnose(late.trainer, &late.images[BAD], late.labels, &err),
                GB_NOT_FINITE);
            if (!strstr(err.message, "step 5") || !strstr(err.message, "layers.0.conv"))
                fail_msg("%s, %s: %s", devices[d], recipes[k], err.message);
            enqueue(&late, BAD + 1, STEPS); /* and it goes on from there */
            assert_int_equal(gb_trainer_read(late.trainer, &r, &n, &err), GB_OK);
            assert_int_equal(n, STEPS - BAD - 1);
            for (int i = 0; i < n; i++) assert_true(r[i].loss == step(&now, BAD + 1 + i).loss);
            assert_same_states(&now, &late);
            end(&now);
            end(&late);
        }
}

/* --- what the host waits for --- */

static gb_backend counted;
static const gb_backend *real;
static int waits, reads;

static gb_status counted_wait(gb_backend_device *dev, gb_error *err)
{
    waits++;
    return real->wait(dev, err);
}

static gb_status counted_read(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                              uint64_t bytes, void *dst, gb_error *err)
{
    reads++;
    return real->buffer_read(dev, buf, offset, bytes, dst, err);
}

static void nothing_waits_between_reads(void **state)
{
    for (int d = 0; d < n_devices; d++)
        for (int k = 0; k < 2; k++) {
            session s = begin(devices[d], recipes[k]);
            const gb_step_result *r;
            int n;
            step(&s, 0); /* makes programs */
            real = s.dev->backend;
            counted = *real;
            counted.wait = counted_wait;
            counted.buffer_read = counted_read;
            s.dev->backend = &counted;
            waits = reads = 0;
            enqueue(&s, 1, STEPS);
            assert_int_equal(waits + reads, 0);
            assert_int_equal(gb_trainer_read(s.trainer, &r, &n, NULL), GB_OK);
            assert_int_equal(n, STEPS - 1);
            assert_int_equal(waits, 0);
            assert_int_equal(reads, 1);
            end(&s);
        }
}

int main(int argc, char **argv)
{
    static char *cpu[] = {"cpu"};
    devices = argc > 1 ? argv + 1 : cpu;
    n_devices = argc > 1 ? argc - 1 : 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(reading_late_changes_nothing),
                                       cmocka_unit_test(the_ring_may_be_full),
                                       cmocka_unit_test(a_failure_found_late_is_named_rightly),
                                       cmocka_unit_test(nothing_waits_between_reads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
