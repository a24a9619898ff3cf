/* Mixed precision: f16 and bf16 follow f32 closely, and each other across devices; the loss scale.
 * The arguments name the devices; none: the CPU. */
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

#include "tests/support/made_up.h"

enum { STEPS = 20 };

static char **devices;
static int n_devices;

typedef struct session {
    gb_context *ctx;
    gb_device *dev;
    gb_dataset *data;
    gb_recipe *recipe;
    gb_trainer *trainer;
    gb_loader *loader;
} session;

static const char cnn[] = "    - conv: {out: 6, kernel: 3, padding: same}\n    - batchnorm\n"
                          "    - relu\n    - maxpool: 2\n    - conv: {out: 8, kernel: 3}\n"
                          "    - relu\n    - flatten\n    - linear: 4\n";
static const char mlp[] = "    - flatten\n    - linear: 24\n    - tanh\n    - linear: 4\n";

/* rest: further lines of the recipe, "precision: f16". */
static session begin(const char *device, const char *layers, const char *rest)
{
    session s = {0};
    char text[1500];
    gb_error err = {0};
    snprintf(text, sizeof text,
             "data: {dataset: idx, path: .}\nmodel:\n  layers:\n%sbatch: 32\nepochs: 100\n"
             "optimizer: {sgd: {lr: 0.05, momentum: 0.9}}\n%s\n",
             layers, rest);
    if (gb_recipe_parse(text, "test", NULL, 0, &s.recipe, &err)) fail_msg("%s", err.message);
    assert_int_equal(gb_context_create(NULL, &s.ctx, &err), GB_OK);
    if (gb_device_open(s.ctx, device, &s.dev, &err)) fail_msg("%s", err.message);
    s.data = gb_test_dataset(8, 64);
    assert_int_equal(gb_trainer_create(s.dev, s.recipe, s.data, &s.trainer, &err), GB_OK);
    gb_loader_options o = {
        .split = GB_TRAIN, .batch = 32, .epochs = 100, .shuffle = true, .seed = 1};
    assert_int_equal(gb_loader_create(&s.loader, s.data, &o, &err), GB_OK);
    return s;
}

static void end(session *s)
{
    gb_loader_destroy(&s->loader);
    gb_trainer_destroy(&s->trainer);
    gb_dataset_destroy(&s->data);
    gb_recipe_destroy(&s->recipe);
    gb_device_close(&s->dev);
    gb_context_destroy(&s->ctx);
}

static gb_step_result step(session *s)
{
    const gb_batch *b;
    gb_step_result r;
    gb_error err = {0};
    assert_int_equal(gb_loader_next(s->loader, &b, &err), GB_OK);
    if (gb_trainer_step(s->trainer, &b->images, b->labels, 0.05, &r, &err))
        fail_msg("%s", err.message);
    return r;
}

static void losses_of(const char *device, const char *layers, const char *rest, double *losses)
{
    session s = begin(device, layers, rest);
    for (int i = 0; i < STEPS; i++) losses[i] = step(&s).loss;
    end(&s);
}

/* What a rounding of 2^-11 or 2^-8 in every layer makes of the losses of 20 steps, with room:
 * measured are .0013 and .010. Devices round alike and differ in the order of sums. */
static void small_types_follow_f32(void **state)
{
    static const struct {
        const char *rest;
        double bound, between;
    } cases[] = {{"precision: f16", 5e-3, 3e-3}, {"precision: bf16", 4e-2, 2e-2}};
    const char *models[] = {mlp, cnn};
    for (int m = 0; m < 2; m++)
        for (int c = 0; c < 2; c++) {
            double exact[STEPS], want[STEPS], got[STEPS], most = 0, apart = 0;
            losses_of("reference", models[m], "", exact);
            losses_of("reference", models[m], cases[c].rest, want);
            for (int d = 0; d < n_devices; d++) {
                losses_of(devices[d], models[m], cases[c].rest, got);
                for (int i = 0; i < STEPS; i++) {
                    most = fmax(most, fabs(got[i] - exact[i]));
                    apart = fmax(apart, fabs(got[i] - want[i]));
                }
                assert_true(got[STEPS - 1] < 0.8 * got[0]);
                if (most > cases[c].bound || apart > cases[c].between)
                    fail_msg("%s, %s, model %d: %g from f32, %g from the reference", devices[d],
                             cases[c].rest, m, most, apart);
                assert_true(most > 0); /* something was rounded */
            }
        }
}

static double number(session *s, const char *name)
{
    gb_tensor t = {0};
    assert_int_equal(gb_store_get(gb_trainer_store(s->trainer), name, &t, NULL), GB_OK);
    double v = gb_tensor_get(&t, 0);
    gb_tensor_free(&t);
    return v;
}

static gb_tensor weights(session *s)
{
    gb_tensor t = {0};
    assert_int_equal(gb_store_get(gb_trainer_store(s->trainer), "layers.1.linear.weight", &t, NULL),
                     GB_OK);
    return t;
}

/* An infinite gradient changes nothing but the scale, which halves until all fit; three good steps
 * double it. In one step and in micro-batches. */
static void scale_follows_gradients(void **state)
{
    static const char *const rests[] = {
        "precision: {f16: {loss_scale: 16777216, growth_steps: 3}}",
        "micro_batch: 8\nprecision: {f16: {loss_scale: 16777216, growth_steps: 3}}"};
    for (int d = 0; d < n_devices; d++)
        for (int k = 0; k < 2; k++) {
            session s = begin(devices[d], mlp, rests[k]);
            double scale = 16777216;
            int good = 0, skipped = 0, grown = 0;
            assert_int_equal(gb_trainer_prepare(s.trainer, 32, NULL), GB_OK);
            for (int i = 0; i < 24; i++) {
                gb_tensor before = weights(&s), after;
                gb_step_result r = step(&s);
                after = weights(&s);
                assert_true(r.loss_scale == scale);
                bool same = memcmp(before.data, after.data, gb_tensor_bytes(&before)) == 0;
                assert_int_equal(same, r.skipped);
                good = r.skipped ? 0 : good + 1;
                skipped += r.skipped;
                if (r.skipped)
                    scale /= 2;
                else if (good == 3)
                    scale *= 2, good = 0, grown++;
                assert_true(number(&s, "optimizer.loss_scale") == scale);
                assert_true(number(&s, "optimizer.good_steps") == good);
                gb_tensor_free(&before);
                gb_tensor_free(&after);
            }
            assert_true(skipped > 3 && grown > 1);
            end(&s);
        }
}

/* All states, as a checkpoint has them, carried to another trainer: it goes on with the same bits.
 */
static void scale_resumes(void **state)
{
    const char *rest = "precision: {f16: {loss_scale: 8388608, growth_steps: 3}}", *name;
    session a = begin(devices[0], mlp, rest), b = begin(devices[0], mlp, rest);
    assert_int_equal(gb_trainer_prepare(b.trainer, 32, NULL), GB_OK);
    for (int i = 0; i < 8; i++) step(&a);
    for (int i = 0; (name = gb_store_name(gb_trainer_store(a.trainer), i)); i++) {
        gb_tensor t = {0};
        assert_int_equal(gb_store_get(gb_trainer_store(a.trainer), name, &t, NULL), GB_OK);
        assert_int_equal(gb_store_set(gb_trainer_store(b.trainer), name, &t, NULL), GB_OK);
        gb_tensor_free(&t);
    }
    gb_trainer_set_steps(b.trainer, 8);
    const gb_batch *unused;
    for (int i = 0; i < 8; i++) assert_int_equal(gb_loader_next(b.loader, &unused, NULL), GB_OK);
    for (int i = 0; i < 8; i++) {
        gb_step_result x = step(&a), y = step(&b);
        assert_true(x.loss == y.loss && x.loss_scale == y.loss_scale && x.skipped == y.skipped);
    }
    gb_tensor x = weights(&a), y = weights(&b);
    assert_memory_equal(x.data, y.data, gb_tensor_bytes(&x));
    gb_tensor_free(&x);
    gb_tensor_free(&y);
    end(&a);
    end(&b);
}

/* Gradients beyond f16 at a scale of 1: an error, since no step would ever count again. */
static void no_scale_left(void **state)
{
    session s = begin(devices[0], mlp, "loss: mse\nprecision: {f16: {loss_scale: 2}}");
    gb_tensor t = {0};
    const gb_batch *b;
    gb_step_result r;
    gb_error err = {0};
    assert_int_equal(gb_trainer_prepare(s.trainer, 32, &err), GB_OK);
    gb_store *store = gb_trainer_store(s.trainer);
    assert_int_equal(gb_store_get(store, "layers.3.linear.weight", &t, &err), GB_OK);
    for (int64_t i = 0; i < gb_shape_count(&t.shape); i++)
        gb_tensor_set(&t, i, i % 2 ? 2000 : -2000);
    assert_int_equal(gb_store_set(store, "layers.3.linear.weight", &t, &err), GB_OK);
    gb_status status = GB_OK;
    for (int i = 0; i < 3 && !status; i++) {
        assert_int_equal(gb_loader_next(s.loader, &b, &err), GB_OK);
        status = gb_trainer_step(s.trainer, &b->images, b->labels, 0, &r, &err);
    }
    assert_int_equal(status, GB_NOT_FINITE);
    assert_non_null(strstr(err.hint, "bf16"));
    gb_tensor_free(&t);
    end(&s);
}

static void needs_the_type(void **state)
{
    session s = begin(devices[0], mlp, "precision: f16");
    gb_device_info *info = (gb_device_info *)gb_device_get_info(s.dev);
    gb_error err = {0};
    info->dtypes &= ~(1u << GB_F16); /* as a device that has none */
    assert_int_equal(gb_trainer_prepare(s.trainer, 32, &err), GB_UNSUPPORTED);
    assert_non_null(strstr(err.message, "has no f16"));
    assert_non_null(strstr(err.hint, "bf16"));
    end(&s);
}

/* Planned, where kernels read small operands as they are. */
static void takes_less_memory(void **state)
{
    const char *layers =
        "    - conv: {out: 64, kernel: 1}\n    - tanh\n    - conv: {out: 64, kernel: 1}\n"
        "    - tanh\n    - flatten\n    - linear: 4\n";
    for (int d = 0; d < 2; d++) {
        const char *device = d ? "cpu" : "null";
        session wide = begin(device, layers, ""), small = begin(device, layers, "precision: bf16");
        assert_int_equal(gb_trainer_prepare(wide.trainer, 32, NULL), GB_OK);
        assert_int_equal(gb_trainer_prepare(small.trainer, 32, NULL), GB_OK);
        double most = 0.8 * (double)gb_trainer_planned_bytes(wide.trainer);
        assert_true((double)gb_trainer_planned_bytes(small.trainer) < most);
        end(&wide);
        end(&small);
    }
}

int main(int argc, char **argv)
{
    static char *cpu[] = {"cpu"};
    devices = argc > 1 ? argv + 1 : cpu;
    n_devices = argc > 1 ? argc - 1 : 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_types_follow_f32), cmocka_unit_test(scale_follows_gradients),
        cmocka_unit_test(scale_resumes),          cmocka_unit_test(no_scale_left),
        cmocka_unit_test(needs_the_type),         cmocka_unit_test(takes_less_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
