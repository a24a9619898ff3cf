/* However kernels are started, a training run has the same bits: test_launch DEVICE. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include <gimbal/train.h>

#include "tests/support/made_up.h"

static const char *device = "cpu";

#define HEAD "data: {dataset: idx, path: .}\nbatch: 32\nepochs: 1\n"
static const char *const recipes[] = {
    HEAD "model: {mlp: {hidden: [24, 16], dropout: 0.1}}\noptimizer: {adamw: {lr: 1e-3}}\n",
    HEAD "model:\n  layers:\n    - conv: {out: 6, kernel: 3, padding: same}\n    - batchnorm\n    "
         "- relu\n"
         "    - maxpool: 2\n    - residual: {body: [{conv: {out: 6, kernel: 3, padding: same}}, "
         "batchnorm]}\n"
         "    - flatten\n    - linear: 4\noptimizer: {sgd: {lr: 0.1, momentum: 0.9}}\n",
    HEAD "model: {mlp: {hidden: [24, 16]}}\nmicro_batch: 16\noptimizer: {sgd: {lr: 0.1, momentum: "
         "0.9}}\n"};

enum { STEPS = 3, BYTES = 64 << 10 };

typedef struct outcome {
    double loss[STEPS];
    unsigned char states[BYTES]; /* all of them, one after the other */
    size_t bytes;
    int kernels, steps, timed; /* of the first program: steps, and those that took time */
} outcome;

static void read_states(gb_store *store, outcome *o)
{
    gb_error err = {0};
    for (int i = 0; gb_store_name(store, i); i++) {
        gb_tensor v;
        if (gb_store_get(store, gb_store_name(store, i), &v, &err)) fail_msg("%s", err.message);
        assert_true(o->bytes + gb_tensor_bytes(&v) <= BYTES);
        memcpy(o->states + o->bytes, v.data, gb_tensor_bytes(&v));
        o->bytes += gb_tensor_bytes(&v);
        gb_tensor_free(&v);
    }
}

static void profile(gb_trainer *t, outcome *o)
{
    gb_program *program;
    const gb_step_time *row;
    gb_error err = {0};
    if (gb_trainer_program(t, &program, &err)) fail_msg("%s", err.message);
    if (gb_program_profile(program, &row, &o->steps, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < o->steps; i++) {
        assert_true(row[i].seconds >= 0 && row[i].seconds < 60);
        o->timed += row[i].seconds > 0;
    }
}

static void train(gb_device *dev, const gb_recipe *r, outcome *o)
{
    gb_trainer *t = NULL;
    gb_loader *loader = NULL;
    gb_dataset *data = gb_test_dataset(8, 96);
    gb_error err = {0};
    const gb_batch *b;
    gb_loader_options lo = {.split = GB_TRAIN, .batch = r->batch, .shuffle = true, .seed = r->seed};
    assert_int_equal(gb_trainer_create(dev, r, data, &t, &err), GB_OK);
    assert_int_equal(gb_loader_create(&loader, data, &lo, &err), GB_OK);
    for (int i = 0; i < STEPS; i++) {
        gb_step_result s;
        assert_int_equal(gb_loader_next(loader, &b, &err), GB_OK);
        if (gb_trainer_step(t, &b->images, b->labels, 0.05, &s, &err)) fail_msg("%s", err.message);
        o->loss[i] = s.loss;
    }
    read_states(gb_trainer_store(t), o);
    o->kernels = gb_trainer_kernels(t);
    profile(t, o);
    gb_loader_destroy(&loader);
    gb_trainer_destroy(&t);
    gb_dataset_destroy(&data);
}

static void run(const char *recipe, const char *launch, outcome *o)
{
    gb_context_options options = {.launch = launch, .cache_dir = ""};
    gb_context *ctx = NULL;
    gb_device *dev = NULL;
    gb_recipe *r = NULL;
    gb_error err = {0};
    memset(o, 0, sizeof *o);
    if (gb_recipe_parse(recipe, "test", NULL, 0, &r, &err)) fail_msg("%s", err.message);
    assert_int_equal(gb_context_create(&options, &ctx, &err), GB_OK);
    if (gb_device_open(ctx, device, &dev, &err)) {
        print_message("skipped: %s\n", err.message);
        skip();
    }
    train(dev, r, o);
    gb_recipe_destroy(&r);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
}

static void same_bits(const outcome *a, const outcome *b)
{
    assert_memory_equal(a->loss, b->loss, sizeof a->loss);
    assert_int_equal(a->bytes, b->bytes);
    assert_memory_equal(a->states, b->states, a->bytes);
}

static void launches_change_no_bit(void **state)
{
    static outcome apart, joined, recorded;
    const char *recipe = *state;
    run(recipe, "apart", &apart);
    run(recipe, "enqueued behind", &joined);
    assert_true(apart.bytes > 1000);
    same_bits(&apart, &joined);
    assert_int_equal(apart.steps, joined.steps);
    assert_true(joined.timed > joined.steps / 2);
    if (strncmp(device, "opencl", 6) == 0) /* one kernel for several */
        assert_true(joined.kernels < apart.kernels);
    run(recipe, "recorded beside", &recorded); /* where the driver can: see test_opencl.c */
    same_bits(&joined, &recorded);
}

int main(int argc, char **argv)
{
    if (argc > 1) device = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(launches_change_no_bit, (void *)recipes[0]),
        cmocka_unit_test_prestate(launches_change_no_bit, (void *)recipes[1]),
        cmocka_unit_test_prestate(launches_change_no_bit, (void *)recipes[2]),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
