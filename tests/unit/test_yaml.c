#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <gimbal/suggest.h>
#include "core/base/yaml.h"

static gb_yaml_doc parse(const char *text)
{
    gb_yaml_doc doc;
    gb_error err = {0};
    gb_status s = gb_yaml_parse(text, strlen(text), "t.yaml", &doc, &err);
    if (s) print_error("%s: %s\n", err.input, err.message);
    assert_int_equal(s, GB_OK);
    return doc;
}

static void test_tree_and_places(void **state)
{
    gb_yaml_doc doc = parse("a: 1\nb:\n  - x\n  - {c: \"5\", d: [1, 2]}\n");
    const gb_yaml *b = gb_yaml_get(doc.root, "b");
    assert_int_equal(b->kind, GB_YAML_LIST);
    assert_int_equal(b->line, 2); /* where its key stands */
    assert_int_equal(b->n, 2);
    const gb_yaml *c = gb_yaml_get(b->items[1], "c");
    assert_string_equal(c->text, "5");
    assert_true(c->quoted);
    assert_int_equal(c->line, 4);
    assert_int_equal(c->column, 9);
    assert_null(gb_yaml_get(doc.root, "c"));
    gb_yaml_free(&doc);
}

static void refuse(const char *text, gb_status status, const char *input, const char *message)
{
    gb_yaml_doc doc;
    gb_error err = {0};
    assert_int_equal(gb_yaml_parse(text, strlen(text), "t.yaml", &doc, &err), status);
    assert_string_equal(err.input, input);
    if (!strstr(err.message, message)) fail_msg("'%s' does not hold '%s'", err.message, message);
    assert_null(doc.root);
}

static void test_refusals(void **state)
{
    refuse("a: [1, 2", GB_FORMAT, "t.yaml:2:1", "not valid YAML");
    refuse("a: 1\n\tb: 2\n", GB_FORMAT, "t.yaml:2:1", "not valid YAML");
    refuse("a: 1\na: 2\n", GB_INVALID, "t.yaml:2:1", "'a' is given twice");
    refuse("a: &x 1\nb: *x\n", GB_INVALID, "t.yaml:2:4", "aliases");
    refuse("a: 1\n---\nb: 2\n", GB_INVALID, "t.yaml:2:1", "second document");
    refuse("", GB_INVALID, "t.yaml:1:1", "empty");
    refuse("{[1]: 2}", GB_INVALID, "t.yaml:1:2", "key");
    refuse("a: \"\\0\"", GB_INVALID, "t.yaml:1:4", "zero byte");
    char deep[200];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    refuse(deep, GB_INVALID, "t.yaml:1:42", "nested");
}

static void set(gb_yaml_doc *doc, const char *assignment)
{
    gb_error err = {0};
    gb_status s = gb_yaml_set(doc, assignment, &err);
    if (s) print_error("%s: %s\n", err.input, err.message);
    assert_int_equal(s, GB_OK);
}

static void test_overrides(void **state)
{
    gb_yaml_doc doc = parse("o: {sgd: 0.1}\nl: [1, {b: 2}]\nw: adam\n");
    set(&doc, "l.1.b=[7, 8]");
    set(&doc, "o.sgd.momentum=0.9");
    set(&doc, "w.adam.lr=1");
    set(&doc, "new.deep=x");
    const gb_yaml *sgd = gb_yaml_get(gb_yaml_get(doc.root, "o"), "sgd");
    assert_string_equal(gb_yaml_get(sgd, "")->text, "0.1");
    assert_string_equal(gb_yaml_get(sgd, "momentum")->text, "0.9");
    const gb_yaml *l = gb_yaml_get(doc.root, "l");
    assert_string_equal(gb_yaml_get(l->items[1], "b")->items[1]->text, "8");
    const gb_yaml *adam = gb_yaml_get(gb_yaml_get(doc.root, "w"), "adam");
    assert_int_equal(adam->n, 1);
    assert_string_equal(gb_yaml_get(adam, "lr")->text, "1");
    assert_string_equal(gb_yaml_get(gb_yaml_get(doc.root, "new"), "deep")->text, "x");
    gb_error err = {0};
    assert_int_equal(gb_yaml_set(&doc, "l.5=1", &err), GB_INVALID);
    assert_non_null(strstr(err.message, "the list has 2"));
    assert_int_equal(gb_yaml_set(&doc, "l", &err), GB_INVALID);
    assert_int_equal(gb_yaml_set(&doc, "=1", &err), GB_INVALID);
    assert_int_equal(gb_yaml_set(&doc, "o..x=1", &err), GB_INVALID);
    assert_int_equal(gb_yaml_set(&doc, "o=[", &err), GB_FORMAT);
    assert_string_equal(err.input, "--set o=[");
    gb_yaml_free(&doc);
}

static void test_numbers_are_written_exactly(void **state)
{
    const double values[] = {0.1, 5e-4, 1e-12, 3, 1.0 / 3, 0};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char *text;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        gb_yaml_write_number(f, values[i]);
        fclose(f);
        assert_true(strtod(text, NULL) == values[i]);
        free(text);
    }
}

static void test_suggestions(void **state)
{
    const char *names[] = {"optimizer", "schedule", "batch", "seed"};
    assert_string_equal(gb_suggest("optimzer", names, 4), "optimizer");
    assert_string_equal(gb_suggest("bacth", names, 4), "batch");
    assert_string_equal(gb_suggest("BATCH", names, 4), "batch");
    assert_null(gb_suggest("xyzzy", names, 4));
    assert_null(gb_suggest("", names, 4));
    char hint[80];
    assert_string_equal(gb_suggest_hint("sede", names, 4, hint, sizeof hint),
                        "did you mean 'seed'?");
    assert_string_equal(gb_suggest_hint("?", names, 4, hint, sizeof hint),
                        "known: optimizer, schedule, batch, seed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_and_places), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_overrides),       cmocka_unit_test(test_numbers_are_written_exactly),
        cmocka_unit_test(test_suggestions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
