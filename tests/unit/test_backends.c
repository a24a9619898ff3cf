/* Every plan case on the devices of one backend, against the float64 reference.
 *
 * usage: test_backends BACKEND. Prints TAP, one line a case; a rejected case is a failure, except
 * for a data type that the device lacks. Skips where the backend has no device here. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/plan_case.h"

extern const gb_backend gb_reference_backend;

typedef struct subject {
    const gb_backend *backend;
    gb_backend_device *dev, *reference;
    const gb_device_info *info;
    gb_case *c;
} subject;

static bool lacks_dtype(const subject *s)
{
    bool half = s->c->storages & 1u << GB_S_F16 && !(s->info->dtypes & 1u << GB_F16);
    return half || (s->c->storages & 1u << GB_S_BF16 && !(s->info->dtypes & 1u << GB_BF16));
}

/* Is it the implementation's turn? Each has its own count, and another one for operands in bf16:
 * $GB_EVERY = 3 runs it on every third case that it applies to, for drivers that take a second to
 * build a kernel. */
static bool has_turn(const char *name, bool bf16)
{
    static struct {
        const char *name;
        bool bf16;
        int met;
    } known[256];
    const char *every = getenv("GB_EVERY");
    int i = 0;
    while (known[i].name && (strcmp(known[i].name, name) != 0 || known[i].bf16 != bf16)) i++;
    assert_true(i < 255);
    known[i].name = name;
    known[i].bf16 = bf16;
    return !every || known[i].met++ % atoi(every) == 0;
}

/* Every other implementation that the step can be given. */
static void run_variants(const subject *s, const gb_outcome *want, const char *known)
{
    const char *name[32];
    int n = s->backend->variants ? s->backend->variants(s->dev, &s->c->step, name, 32) : 0;
    for (int i = 0; i < n; i++) {
        gb_case copy = *s->c; /* what it allocates goes into the case's arena */
        gb_outcome got;
        if (strcmp(name[i], known) == 0 || !gb_case_tries(s->c, name[i])) continue;
        if (!has_turn(name[i], copy.step.in[0].storage == GB_S_BF16)) continue;
        snprintf(copy.step.variant, sizeof copy.step.variant, "%s", name[i]);
        gb_case_run(&copy, s->backend, s->dev, &got);
        if (got.rejected) fail_msg("%s was offered and rejected: %s", name[i], got.reason);
        assert_string_equal(got.variant, name[i]);
        gb_case_compare(&copy, &got, want);
    }
}

static void run_case(void **state)
{
    const subject *s = *state;
    if (lacks_dtype(s)) skip();
    gb_outcome want, got;
    gb_case_run(s->c, &gb_reference_backend, s->reference, &want);
    assert_false(want.rejected);
    gb_case_run(s->c, s->backend, s->dev, &got);
    if (got.rejected) fail_msg("rejected: %s", got.reason);
    gb_case_compare(s->c, &got, &want);
    run_variants(s, &want, got.variant);
}

static void an_unknown_variant_is_refused(void **state)
{
    const subject *s = *state;
    gb_answer answer = {.ok = true};
    gb_step step = s->c->step;
    snprintf(step.variant, sizeof step.variant, "no such variant");
    if (!s->backend->variants || !s->backend->variants(s->dev, &step, &(const char *){0}, 1)) skip();
    s->backend->query(s->dev, &step, &answer);
    assert_false(answer.ok);
    assert_true(answer.reason[0]);
}

/* All cases on one device; number of failures. */
static int run_device(const gb_backend *b, const gb_backend_options *o, int index,
                      const gb_device_info *info)
{
    enum { MAX_CASES = 600 };
    static gb_case cases[MAX_CASES];
    static subject subjects[MAX_CASES];
    static struct CMUnitTest tests[MAX_CASES];
    static char names[MAX_CASES][160];
    gb_backend_device *dev, *reference;
    gb_error err;
    if (b->open(o, index, &dev, &err) != GB_OK) {
        printf("Bail out! %s: %s\n", info->name, err.message);
        return 1;
    }
    if (gb_reference_backend.open(NULL, 0, &reference, &err) != GB_OK) return 1;
    int n = 0, at[2] = {0};
    for (; n < MAX_CASES && gb_case_next(&cases[n], at); n++) {
        subjects[n] = (subject){b, dev, reference, info, &cases[n]};
        snprintf(names[n], sizeof names[n], "%s:%d %.95s", b->name, index, cases[n].name);
        tests[n] = (struct CMUnitTest){.name = names[n], .test_func = run_case,
                                       .initial_state = &subjects[n]};
    }
    for (int i = 0; i < n && n < MAX_CASES; i++) { /* the first contraction */
        if (cases[i].step.kind != GB_STEP_MATMUL) continue;
        tests[n++] = (struct CMUnitTest){.name = "an unknown variant is refused",
                                         .test_func = an_unknown_variant_is_refused,
                                         .initial_state = &subjects[i]};
        break;
    }
    int failures = _cmocka_run_group_tests(b->name, tests, (size_t)n, NULL, NULL);
    for (int i = 0; i < n; i++)
        if (tests[i].test_func == run_case) gb_case_free(&cases[i]);
    gb_reference_backend.close(reference);
    b->close(dev);
    return failures;
}

static const gb_backend *find(const char *name)
{
    for (int i = 0; gb_backends[i]; i++)
        if (strcmp(gb_backends[i]->name, name) == 0) return gb_backends[i];
    return NULL;
}

int main(int argc, char **argv)
{
    const gb_backend *b = argc > 1 ? find(argv[1]) : NULL;
    gb_backend_options o = {.variant = getenv("GB_VARIANT"), .isa = getenv("GB_ISA"),
                            .cache_dir = getenv("GB_CACHE"), .validate = getenv("GB_VALIDATE")};
    gb_device_info info[16] = {0};
    char reason[200] = "left out of this build";
    int n = 0, failures = 0;
    if (b) b->enumerate(&o, info, 16, &n, reason, sizeof reason);
    if (argc > 2) cmocka_set_test_filter(argv[2]);
    if (n == 0) printf("1..1\nok 1 - %s # skip %s\n", argc > 1 ? argv[1] : "?", reason);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    for (int i = 0; i < n; i++)
        if (info[i].usable) failures += run_device(b, &o, i, &info[i]);
    return failures != 0;
}
