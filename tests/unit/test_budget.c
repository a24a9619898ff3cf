/* Memory budgets: a plan takes what it may, and training goes as it would without one.
 *
 * usage: test_budget DEVICE */
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

enum { IMAGES = 32, SIZE = 8, STEPS = 3, MAX_STATES = 200 };

/* Residual blocks, with normalizations or without, and a mask that is drawn. */
#define CONV "{conv: {out: 8, kernel: 3, padding: same}}"
#define BLOCK(norm) "    - residual: {body: [" CONV norm ", relu, " CONV norm "]}\n    - relu\n"
#define RECIPE(norm, block)                                                                        \
    "data: {dataset: idx, path: .}\nbatch: 32\n"                                                   \
    "optimizer: {sgd: {lr: 0.05, momentum: 0.9}}\nmodel:\n  layers:\n"                             \
    "    - conv: {out: 8, kernel: 3, padding: same}\n" norm "    - relu\n" block block             \
    "    - dropout: 0.25\n" block block "    - flatten\n    - linear: 4\n"
#define NORMALIZED RECIPE("    - batchnorm\n", BLOCK(", batchnorm"))
#define PLAIN RECIPE("", BLOCK(""))

static const char *device_id;

typedef struct outcome {
    int64_t micro_batch;
    int recomputed;
    uint64_t recomputed_bytes, planned;
    double loss[STEPS];
    int n;
    char *name[MAX_STATES];
    gb_tensor state[MAX_STATES];
    gb_status status;
    gb_error err;
} outcome;

static void run(gb_trainer *t, const gb_dataset *data, const gb_recipe *r, outcome *o)
{
    gb_loader *loader = NULL;
    gb_loader_options lo = {.split = GB_TRAIN, .batch = r->batch, .shuffle = true, .seed = 1};
    const gb_batch *b;
    gb_step_result s;
    assert_int_equal(gb_loader_create(&loader, data, &lo, &o->err), GB_OK);
    for (int i = 0; i < STEPS && !o->status; i++) {
        assert_int_equal(gb_loader_next(loader, &b, &o->err), GB_OK);
        o->status = gb_trainer_step(t, &b->images, b->labels, 0.05, &s, &o->err);
        o->loss[i] = s.loss;
    }
    gb_loader_destroy(&loader);
    o->micro_batch = gb_trainer_micro_batch(t);
    o->recomputed = gb_trainer_recomputed(t, &o->recomputed_bytes);
    o->planned = gb_trainer_planned_bytes(t);
    const char *name;
    for (int i = 0; !o->status && (name = gb_store_name(gb_trainer_store(t), i)); i++) {
        if (strncmp(name, "metrics.", 8) == 0) continue; /* a row for each part of a batch */
        assert_true(o->n < MAX_STATES);
        o->name[o->n] = strdup(name);
        assert_int_equal(gb_store_get(gb_trainer_store(t), name, &o->state[o->n++], NULL), GB_OK);
    }
}

static outcome *train(const char *text, uint64_t budget)
{
    gb_context *ctx = NULL;
    gb_device *dev = NULL;
    gb_recipe *r = NULL;
    gb_trainer *t = NULL;
    gb_dataset *data = gb_test_dataset(SIZE, IMAGES);
    char set[60];
    const char *sets[] = {set};
    outcome *o = calloc(1, sizeof *o);
    assert_non_null(o);
    snprintf(set, sizeof set, "memory.budget=%llu", (unsigned long long)budget);
    if (gb_recipe_parse(text, "test", sets, budget > 0, &r, &o->err))
        fail_msg("%s", o->err.message);
    assert_int_equal(gb_context_create(NULL, &ctx, &o->err), GB_OK);
    if (gb_device_open(ctx, device_id, &dev, &o->err)) fail_msg("%s", o->err.message);
    assert_int_equal(gb_trainer_create(dev, r, data, &t, &o->err), GB_OK);
    run(t, data, r, o);
    gb_trainer_destroy(&t);
    gb_recipe_destroy(&r);
    gb_dataset_destroy(&data);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return o;
}

static void forget(outcome *o)
{
    for (int i = 0; i < o->n; i++) {
        free(o->name[i]);
        gb_tensor_free(&o->state[i]);
    }
    free(o);
}

/* The largest difference of a state, as a share of its largest element. */
static double difference(const outcome *a, const outcome *b)
{
    double worst = 0;
    for (int i = 0; i < a->n; i++) {
        int j = 0;
        while (j < b->n && strcmp(a->name[i], b->name[j])) j++;
        assert_true(j < b->n);
        double most = 1e-30, d = 0;
        for (int64_t k = 0; k < gb_shape_count(&a->state[i].shape); k++) {
            double x = gb_tensor_get(&a->state[i], k), y = gb_tensor_get(&b->state[j], k);
            most = fmax(most, fabs(x));
            d = fmax(d, fabs(x - y));
        }
        worst = fmax(worst, d / most);
    }
    return worst;
}

/* Made again instead of kept: the same bits, in less and less memory. */
static void recomputing_changes_no_bit(void **state)
{
    static const char *const texts[] = {NORMALIZED, PLAIN};
    for (int k = 0; k < 2; k++) {
        outcome *all = train(texts[k], 0);
        int more = 0;
        assert_int_equal(all->status, GB_OK);
        for (int percent = 90; percent >= 60; percent -= 10) {
            uint64_t budget = all->planned * (uint64_t)percent / 100;
            outcome *less = train(texts[k], budget);
            assert_int_equal(less->status, GB_OK);
            assert_true(less->planned <= budget);
            if (less->micro_batch == 32) {
                assert_true(difference(all, less) == 0);
                assert_memory_equal(all->loss, less->loss, sizeof all->loss);
                more += less->recomputed > all->recomputed;
            }
            forget(less);
        }
        assert_true(more >= 2);
        forget(all);
    }
}

/* Where that is not enough the batch goes through in parts; without normalizations the numbers are
 * the same but for rounding. */
static void micro_batches_fit_and_agree(void **state)
{
    outcome *all = train(PLAIN, 0), *parts = train(PLAIN, all->planned / 4);
    assert_int_equal(parts->status, GB_OK);
    assert_true(parts->planned <= all->planned / 4);
    assert_true(parts->micro_batch < 32 && 32 % parts->micro_batch == 0);
    for (int i = 0; i < STEPS; i++) assert_float_equal(parts->loss[i], all->loss[i], 1e-5);
    assert_true(difference(all, parts) < 1e-4);
    forget(all);
    forget(parts);
}

static void too_small_a_budget_tells_the_least(void **state)
{
    outcome *o = train(PLAIN, 4096);
    assert_int_equal(o->status, GB_OUT_OF_MEMORY);
    assert_non_null(strstr(o->err.message, "needs at least"));
    double least;
    assert_int_equal(sscanf(strstr(o->err.message, "at least"), "at least %lf MiB", &least), 1);
    outcome *fits = train(PLAIN, (uint64_t)((least + 0.1) * (1 << 20)));
    assert_int_equal(fits->status, GB_OK);
    forget(o);
    forget(fits);
}

static void budgets_are_read_with_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"2GiB", UINT64_C(2) << 30},
                {"1.5 MiB", 3 << 19},
                {"64kib", 64 << 10},
                {"4096", 4096},
                {"7B", 7},
                {"1e6", 1000000}};
    static const char *const bad[] = {"much", "-1GiB", "0", "2GB", "1 GiB each", "nan", "1e40GiB"};
    char set[60];
    const char *sets[] = {set};
    gb_recipe *r = NULL, *again = NULL;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(set, sizeof set, "memory.budget=%s", good[i].text);
        assert_int_equal(gb_recipe_parse(PLAIN, "test", sets, 1, &r, NULL), GB_OK);
        assert_int_equal(r->memory_budget, good[i].bytes);
        char *text = gb_recipe_text(r); /* the resolved recipe says the same */
        assert_int_equal(gb_recipe_parse(text, "again", NULL, 0, &again, NULL), GB_OK);
        assert_int_equal(again->memory_budget, good[i].bytes);
        free(text);
        gb_recipe_destroy(&r);
        gb_recipe_destroy(&again);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(set, sizeof set, "memory.budget=%s", bad[i]);
        assert_int_equal(gb_recipe_parse(PLAIN, "test", sets, 1, &r, NULL), GB_INVALID);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recomputing_changes_no_bit),
        cmocka_unit_test(micro_batches_fit_and_agree),
        cmocka_unit_test(too_small_a_budget_tells_the_least),
        cmocka_unit_test(budgets_are_read_with_units),
    };
    if (argc != 2) return 2;
    device_id = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
