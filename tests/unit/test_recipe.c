#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <gimbal/recipe.h>

#include "tests/support/support.h"

#define MINIMAL "data: {dataset: fashion-mnist}\nmodel: {mlp: {hidden: 8}}\n"

static gb_recipe *parse(const char *text, const char *const *sets, size_t n)
{
    gb_recipe *r;
    gb_error err = {0};
    if (gb_recipe_parse(text, "r.yaml", sets, n, &r, &err))
        fail_msg("%s: %s (%s)", err.input, err.message, err.hint);
    return r;
}

static void test_defaults(void **state)
{
    gb_recipe *r = parse(MINIMAL, NULL, 0);
    assert_string_equal(r->data.dataset, "fashion-mnist");
    assert_null(r->data.path);
    assert_int_equal(r->data.normalize, GB_NORMALIZE_AUTO);
    assert_int_equal(r->loss.kind, GB_LOSS_CROSS_ENTROPY);
    assert_int_equal(r->optimizer.kind, GB_SGD);
    assert_true(r->optimizer.lr == 0.01 && r->optimizer.norm_bias_lr == 1);
    assert_int_equal(r->schedule.kind, GB_CONSTANT);
    assert_int_equal(r->batch, 128);
    assert_int_equal(r->micro_batch, 128);
    assert_int_equal(r->epochs, 1);
    assert_int_equal(r->seed, 1);
    assert_string_equal(gb_model_name(r->model), "mlp");
    gb_recipe_destroy(&r);
    assert_null(r);
}

static void test_everything(void **state)
{
    gb_recipe *r = parse("data:\n"
                         "  dataset: cifar10\n"
                         "  path: /d\n"
                         "  validation: 0.1\n"
                         "  normalize: {mean: [0.5, 0.4, 0.3], std: [1, 2, 3]}\n"
                         "  augment: [flip, {crop: 3}, {cutout: {size: 6}}]\n"
                         "model: {layers: [flatten, {linear: 10}], init: xavier_normal}\n"
                         "loss: {cross_entropy: {label_smoothing: 0.1}}\n"
                         "optimizer: {adamw: {lr: 3e-4, beta2: 0.99}}\n"
                         "schedule: {step: {every: 10, gamma: 0.2, warmup_steps: 5}}\n"
                         "clip: {norm: 1}\n"
                         "l1: 1e-5\nl2: 0.5\nbatch: 64\nmicro_batch: 16\nepochs: 3\nseed: 7\n",
                         NULL, 0);
    assert_true(r->data.validation == 0.1 && r->data.normalize_channels == 3 &&
                r->data.std[2] == 3);
    assert_int_equal(r->augment.flip, GB_FLIP_RANDOM);
    assert_int_equal(r->augment.padding, 3);
    assert_int_equal(r->augment.cutout, 6);
    assert_int_equal(r->data.seed, 7);
    assert_true(r->loss.label_smoothing == 0.1);
    assert_int_equal(r->optimizer.kind, GB_ADAMW);
    assert_true(r->optimizer.lr == 3e-4 && r->optimizer.beta2 == 0.99);
    assert_true(r->optimizer.beta1 == 0.9 && r->optimizer.weight_decay == 0.01);
    assert_int_equal(r->schedule.kind, GB_STEP);
    assert_true(r->schedule.every == 10 && r->schedule.gamma == 0.2);
    assert_int_equal(r->schedule.warmup_steps, 5);
    assert_true(r->clip_norm == 1 && r->clip_value == 0 && r->l1 == 1e-5 && r->l2 == 0.5);
    assert_int_equal(r->micro_batch, 16);
    assert_int_equal(r->seed, 7);
    /* written and read again, it says the same */
    char *once = gb_recipe_text(r);
    gb_recipe *again = parse(once, NULL, 0);
    char *twice = gb_recipe_text(again);
    assert_string_equal(once, twice);
    assert_true(memcmp(&again->optimizer, &r->optimizer, sizeof r->optimizer) == 0);
    assert_true(memcmp(&again->augment, &r->augment, sizeof r->augment) == 0);
    assert_true(memcmp(again->data.mean, r->data.mean, sizeof r->data.mean) == 0);
    free(once);
    free(twice);
    gb_recipe_destroy(&again);
    gb_recipe_destroy(&r);
}

static void test_short_forms_and_overrides(void **state)
{
    const char *sets[] = {"optimizer.sgd.momentum=0.9", "batch=32", "model.mlp.hidden=[16, 4]",
                          "schedule={cosine: {end: 0.1}}", "data.augment=[flip]"};
    gb_recipe *r = parse(MINIMAL "optimizer: {sgd: 0.1}\nbatch: 64\n", sets, 5);
    assert_true(r->optimizer.lr == 0.1 && r->optimizer.momentum == 0.9);
    assert_int_equal(r->batch, 32);
    assert_int_equal(r->micro_batch, 32);
    assert_int_equal(r->schedule.kind, GB_COSINE);
    assert_true(r->schedule.end == 0.1);
    assert_int_equal(r->augment.flip, GB_FLIP_RANDOM);
    char *text = gb_model_write(r->model, 0);
    assert_non_null(strstr(text, "hidden: [16, 4]"));
    free(text);
    gb_recipe_destroy(&r);
    const char *layer[] = {"model.layers.1.linear.out=5", "model.layers.0=relu"};
    r = parse("data: {dataset: fashion-mnist}\nmodel: {layers: [flatten, linear: 10]}\n", layer, 2);
    text = gb_model_write(r->model, 0);
    assert_non_null(strstr(text, "out: 5"));
    assert_non_null(strstr(text, "relu"));
    free(text);
    gb_recipe_destroy(&r);
}

typedef struct bad_case {
    const char *text, *set, *input, *message, *hint;
} bad_case;

static const bad_case bad_cases[] = {
    {MINIMAL "optimzer: sgd\n", NULL, "r.yaml:3:1", "unknown key 'optimzer' in 'recipe'",
     "did you mean 'optimizer'?"},
    {MINIMAL "optimizer: {sgd: {lr: 0.1, momentun: 0.9}}\n", NULL, "r.yaml:3:28",
     "unknown key 'momentun' in 'sgd'", "did you mean 'momentum'?"},
    {MINIMAL "optimizer: sdg\n", NULL, "r.yaml:3:12", "unknown optimizer 'sdg'",
     "did you mean 'sgd'?"},
    {MINIMAL "optimizer: {sgd: 0.1, adam: 0.1}\n", NULL, "r.yaml:3:1", "not 2 keys",
     "known: sgd, adam, adamw, rmsprop"},
    {MINIMAL "optimizer: {sgd: {nesterov: true}}\n", NULL, "r.yaml:3:1", "needs a 'momentum'",
     "momentum: 0.9"},
    {MINIMAL "batch: many\n", NULL, "r.yaml:3:8", "'batch' must be a whole number, not 'many'", ""},
    {MINIMAL "batch: 1.5\n", NULL, "r.yaml:3:8", "whole number, not '1.5'", ""},
    {MINIMAL "batch: 0\n", NULL, "r.yaml:3:8", "at least 1", ""},
    {MINIMAL "batch: \"8\"\n", NULL, "r.yaml:3:8", "whole number", ""},
    {MINIMAL "batch: [8]\n", NULL, "r.yaml:3:1", "not a list", ""},
    {MINIMAL "batch: 10\nmicro_batch: 3\n", NULL, "r.yaml:4:14", "does not divide", ""},
    {MINIMAL "optimizer: {sgd: {lr: -1}}\n", NULL, "r.yaml:3:23", "'lr' must be at least 0", ""},
    {MINIMAL "optimizer: {sgd: {lr: nan}}\n", NULL, "r.yaml:3:23", "'lr' must be a number", ""},
    {MINIMAL "precision: f23\n", NULL, "r.yaml:3:12", "unknown precision 'f23'",
     "did you mean 'f32'?"},
    {MINIMAL "math: quick\n", NULL, "r.yaml:3:7", "'math' cannot be 'quick'", "exact, fast"},
    {MINIMAL "schedule: {step: {gamma: 0}}\n", NULL, "r.yaml:3:26", "above 0 and at most 1", ""},
    {MINIMAL "loss: {mse: {label_smoothing: 0.1}}\n", NULL, "r.yaml:3:14",
     "unknown key 'label_smoothing' in 'mse'", "it takes no options"},
    {"model: resnet20\n", NULL, "r.yaml:1:1", "'recipe' needs 'data'", ""},
    {"data: {dataset: fashion-mnist}\n", NULL, "r.yaml:1:1", "'recipe' needs 'model'", ""},
    {"data: {dataset: mnist}\nmodel: resnet20\n", NULL, "r.yaml:1:17", "unknown dataset 'mnist'",
     "known: "},
    {"data: {dataset: idx, path: d, normalize: {mean: [1], std: [1, 2]}}\nmodel: mlp\n", NULL,
     "r.yaml:1:31", "'mean' has 1 numbers, 'std' 2", ""},
    {"data: {dataset: idx, path: d, augment: [flip, flip]}\nmodel: mlp\n", NULL, "r.yaml:1:47",
     "'flip' is given twice", ""},
    {"data: {dataset: idx, path: d, augment: [filp]}\nmodel: mlp\n", NULL, "r.yaml:1:41",
     "unknown augmentation 'filp'", "did you mean 'flip'?"},
    {"data: {dataset: fashion-mnist}\nmodel: resnet21\n", NULL, "r.yaml:2:8",
     "unknown model 'resnet21'", "did you mean 'resnet20'?"},
    {"data: {dataset: fashion-mnist}\nmodel:\n  layers:\n    - convv: 3\n", NULL, "r.yaml:4:7",
     "unknown layer 'convv'", "did you mean 'conv'?"},
    {"data: {dataset: fashion-mnist}\nmodel:\n  layers:\n    - conv: {kernel: 3}\n", NULL,
     "r.yaml:4:7", "'conv' needs 'out'", ""},
    {"data: {dataset: fashion-mnist}\nmodel:\n  layers:\n    - relu\n    - linear\n", NULL,
     "r.yaml:5:7", "'linear' needs 'out'", ""},
    {"data: {dataset: fashion-mnist}\nmodel:\n  layers:\n    - conv: {out: 8, kernal: 3}\n", NULL,
     "r.yaml:4:22", "unknown key 'kernal' in 'conv'", "did you mean 'kernel'?"},
    {"data: {dataset: fashion-mnist}\nmodel:\n  layers: relu\n", NULL, "r.yaml:3:11",
     "must be a list", "behind a dash"},
    {"data: {dataset: fashion-mnist}\nmodel: {layers: []}\n", NULL, "r.yaml:2:9", "no layers", ""},
    {"data: {dataset: fashion-mnist}\nmodel:\n  layers:\n    - residual: {body: [relu], shortcut: "
     "skip}\n",
     NULL, "r.yaml:4:42", "'shortcut' cannot be 'skip'", "identity, pad or a list"},
    {MINIMAL, "bacth=3", "--set bacth=3", "unknown key 'bacth'", "did you mean 'batch'?"},
    {MINIMAL, "batch=x", "--set batch=x", "whole number", ""},
    {MINIMAL, "batch", "--set batch", "a key and a value", "KEY=VALUE"},
    {"- 1\n", NULL, "r.yaml:1:1", "a map of keys", ""},
};

static void test_mistakes_are_named(void **state)
{
    for (size_t i = 0; i < sizeof bad_cases / sizeof bad_cases[0]; i++) {
        const bad_case *c = &bad_cases[i];
        gb_recipe *r = (gb_recipe *)c;
        gb_error err = {0};
        gb_status s = gb_recipe_parse(c->text, "r.yaml", &c->set, c->set != NULL, &r, &err);
        assert_null(r);
        if (s != GB_INVALID || strcmp(err.input, c->input) || !strstr(err.message, c->message) ||
            !strstr(err.hint, c->hint))
            fail_msg("case %zu: %d at '%s': '%s' (%s)", i, s, err.input, err.message, err.hint);
    }
}

static void test_files(void **state)
{
    static const char *const names[] = {"fashion-mnist",    "fashion-mnist-mlp", "cifar10-resnet20",
                                        "cifar10-resnet18", "cifar10-airbench",  "cifar10-resnet"};
    gb_recipe *r;
    gb_error err = {0};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[500];
        snprintf(path, sizeof path, "%s/recipes/%s.yaml", GB_SOURCE_DIR, names[i]);
        if (gb_recipe_read(path, NULL, 0, &r, &err)) fail_msg("%s: %s", err.input, err.message);
        char *text = gb_recipe_text(r);
        gb_recipe_destroy(&r);
        r = parse(text, NULL, 0); /* what is written runs again */
        gb_recipe_destroy(&r);
        free(text);
    }
    assert_int_equal(gb_recipe_read("no-such-recipe", NULL, 0, &r, &err), GB_NOT_FOUND);
    assert_null(r);
    char *dir = gb_test_make_dir();
    const char *path = gb_test_path(dir, "r.yaml");
    gb_test_write(path, "data\0: 1", 8);
    assert_int_equal(gb_recipe_read(path, NULL, 0, &r, &err), GB_FORMAT);
    r = parse(MINIMAL, NULL, 0);
    assert_int_equal(gb_recipe_write(r, path, &err), GB_OK);
    gb_recipe_destroy(&r);
    assert_int_equal(gb_recipe_read(path, NULL, 0, &r, &err), GB_OK);
    gb_recipe_destroy(&r);
    gb_test_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_short_forms_and_overrides),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
