/* The tuner, on the CPU behind a table of our own: implementations that compute garbage, differ from
 * run to run, take long to build or are fast; what wins, what is kept, and what programs then take. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gimbal/tune.h>

#include "core/runtime/runtime.h"
#include "tests/support/support.h"

enum { SIZE = 160 };

/* --- the table --- */

static const char *const names[] = {"slow", "fast", "nothing", "constant", "last", "restless", "heavy"};

struct gb_backend_program {
    char variant[GB_VARIANT_SIZE];
    gb_backend_program *inner; /* of the CPU */
    gb_operand out;
    gb_backend_buffer *result;
    int runs;
};

static const gb_backend *cpu;
static gb_backend_device *cpu_device;
static int built;

static int fake_variants(gb_backend_device *dev, const gb_step *step, const char **name, int cap)
{
    int n = 0;
    if (step->kind != GB_STEP_MATMUL) return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && n < cap; i++) name[n++] = names[i];
    return n;
}

static void fake_query(gb_backend_device *dev, const gb_step *step, gb_answer *answer)
{
    gb_step plain = *step;
    plain.variant[0] = 0;
    cpu->query(dev, &plain, answer);
    if (step->kind != GB_STEP_MATMUL) return;
    const char *variant = step->variant[0] ? step->variant : "slow";
    bool known = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        known |= strcmp(names[i], variant) == 0;
    answer->ok = known;
    strcpy(answer->variant, variant);
    if (!known) strcpy(answer->reason, "no such variant");
}

static gb_status fake_create(gb_backend_device *dev, const gb_plan *plan, gb_backend_program **prog,
                             gb_error *err)
{
    gb_backend_program *p = *prog = calloc(1, sizeof *p);
    assert_non_null(p);
    strcpy(p->variant, "slow");
    gb_plan *copy = (gb_plan *)plan;
    for (int i = 0; i < plan->n_steps; i++) {
        if (plan->step[i].kind != GB_STEP_MATMUL) continue;
        if (plan->step[i].variant[0]) strcpy(p->variant, plan->step[i].variant);
        p->out = plan->step[i].out[0];
        copy->step[i].variant[0] = 0; /* the CPU knows none of these */
    }
    built++;
    if (strcmp(p->variant, "heavy") == 0) usleep(3500000);
    return cpu->program_create(dev, plan, &p->inner, err);
}

static void fake_destroy(gb_backend_program *p)
{
    cpu->program_destroy(p->inner);
    free(p);
}

static gb_status fake_bind(gb_backend_program *p, gb_backend_buffer *const *buffers, gb_error *err)
{
    p->result = buffers[p->out.buffer];
    return cpu->program_bind(p->inner, buffers, err);
}

static void put(gb_backend_program *p, int64_t at, float value)
{
    gb_error err;
    assert_int_equal(cpu->buffer_write(cpu_device, p->result, p->out.offset + 4 * (uint64_t)at, 4,
                                       &value, &err), GB_OK);
}

static gb_status fake_run(gb_backend_program *p, gb_error *err)
{
    const int64_t n = p->out.dim[0] * p->out.dim[1];
    p->runs++;
    if (strcmp(p->variant, "nothing") == 0) return GB_OK;
    for (int64_t i = 0; i < n && strcmp(p->variant, "constant") == 0; i++) put(p, i, 0.5f);
    if (strcmp(p->variant, "constant") == 0) return GB_OK;
    gb_status status = cpu->program_run(p->inner, err);
    if (strcmp(p->variant, "slow") == 0) usleep(20000);
    if (strcmp(p->variant, "last") == 0) put(p, n / 2 + SIZE / 2, 7.0f); /* in no sample */
    if (strcmp(p->variant, "restless") == 0) put(p, 0, p->runs % 2 ? 0.0f : 1e-6f);
    return status;
}

static gb_backend fake;

typedef struct fixture {
    char *dir;
    gb_context *ctx;
    gb_device *dev;
    gb_graph *graph;
} fixture;

static void open_fixture(fixture *f, char *dir, bool no_tuning)
{
    gb_error err;
    gb_context_options o = {.cache_dir = dir, .no_tuning = no_tuning};
    f->dir = dir;
    assert_int_equal(gb_context_create(&o, &f->ctx, &err), GB_OK);
    assert_int_equal(gb_device_open(f->ctx, "cpu", &f->dev, &err), GB_OK);
    cpu = f->dev->backend;
    cpu_device = f->dev->dev;
    fake = *cpu;
    fake.kernels = "fake";
    fake.variants = fake_variants;
    fake.query = fake_query;
    fake.program_create = fake_create;
    fake.program_destroy = fake_destroy;
    fake.program_bind = fake_bind;
    fake.program_run = fake_run;
    fake.program_time = NULL;
    f->dev->backend = &fake;
    gb_choices_clear(&f->dev->tuned.choices);
    gb_choices_load(f->dev); /* what was kept for these kernels */
    f->graph = gb_graph_create();
    gb_shape shape = gb_shape_of(2, SIZE, SIZE);
    gb_value a = gb_graph_input(f->graph, "a", GB_F32, &shape), b = gb_graph_input(f->graph, "b", GB_F32, &shape);
    gb_graph_output(f->graph, "y", gb_op2(f->graph, "MatMul", a, b));
}

static void close_fixture(fixture *f)
{
    gb_graph_destroy(&f->graph);
    f->dev->backend = cpu;
    gb_device_close(&f->dev);
    gb_context_destroy(&f->ctx);
}

/* The variant that a program on the device gets for its product. */
static const char *taken(fixture *f)
{
    static char variant[GB_VARIANT_SIZE];
    gb_error err;
    gb_store *store;
    gb_program *p;
    assert_int_equal(gb_store_create(f->dev, &store, &err), GB_OK);
    assert_int_equal(gb_program_create(store, f->graph, NULL, &p, &err), GB_OK);
    strcpy(variant, p->prog->variant);
    gb_program_destroy(&p);
    gb_store_destroy(&store);
    return variant;
}

static gb_tuner *tuner_of(fixture *f)
{
    gb_error err;
    gb_tuner *t;
    assert_int_equal(gb_tuner_create(f->dev, &t, &err), GB_OK);
    assert_int_equal(gb_tuner_add(t, f->graph, NULL, &err), GB_OK);
    assert_int_equal(gb_tuner_add(t, f->graph, NULL, &err), GB_OK);
    return t;
}

static const gb_tune_candidate *candidate(const gb_tune_row *r, const char *variant)
{
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->candidate[i].variant, variant) == 0) return &r->candidate[i];
    fail_msg("%s was not tried", variant);
    return NULL;
}

static const gb_tune_options limits = {.first_run_limit = 3, .step_seconds = 0.05};

static void a_wrong_implementation_never_wins(void **state)
{
    fixture f;
    gb_error err = {0};
    const gb_tune_result *result;
    open_fixture(&f, *state, false);
    assert_string_equal(taken(&f), "slow");
    gb_tuner *t = tuner_of(&f);
    assert_int_equal(gb_tuner_run(t, &limits, &result, &err), GB_OK);
    assert_int_equal(result->n, 1);
    const gb_tune_row *r = result->row;
    assert_int_equal(r->count, 2);
    assert_string_equal(r->candidate[r->initial].variant, "slow");
    assert_string_equal(r->candidate[r->winner].variant, "fast");
    assert_true(r->gain > 1 && !r->known);
    static const char *const wrong[] = {"nothing", "constant", "last", "restless"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(candidate(r, wrong[i])->verdict, GB_TUNE_WRONG);
        assert_true(candidate(r, wrong[i])->error > 1);
    }
    assert_int_equal(candidate(r, "heavy")->verdict, GB_TUNE_SLOW);
    assert_int_equal(candidate(r, "slow")->verdict, GB_TUNE_RIGHT);
    assert_true(candidate(r, "fast")->error <= 1);
    gb_tuner_destroy(&t);
    assert_string_equal(taken(&f), "fast"); /* at once */
    close_fixture(&f);
}

static void what_was_found_is_kept_and_can_be_left_aside(void **state)
{
    fixture f;
    gb_error err = {0};
    const gb_tune_result *result;
    open_fixture(&f, *state, false);
    assert_string_equal(taken(&f), "fast");
    gb_tuner *t = tuner_of(&f);
    built = 0;
    assert_int_equal(gb_tuner_run(t, &limits, &result, &err), GB_OK);
    assert_true(result->n == 1 && result->row[0].known && result->row[0].gain > 1);
    assert_int_equal(built, 0); /* known: nothing was measured */
    gb_tuner_destroy(&t);
    close_fixture(&f);
    open_fixture(&f, *state, true);
    assert_string_equal(taken(&f), "slow");
    close_fixture(&f);
}

static void a_choice_of_other_kernels_or_names_does_no_harm(void **state)
{
    fixture f;
    open_fixture(&f, *state, false);
    assert_true(f.dev->tuned.choices.n > 0);
    for (int i = 0; i < f.dev->tuned.choices.n; i++)
        strcpy(f.dev->tuned.choices.item[i].variant, "of another version");
    assert_string_equal(taken(&f), "slow");
    gb_choices_clear(&f.dev->tuned.choices);
    fake.kernels = "newer";
    gb_choices_load(f.dev);
    assert_string_equal(taken(&f), "slow");
    close_fixture(&f);
}

static void a_replay_takes_what_was_taken(void **state)
{
    fixture f;
    gb_error err = {0};
    char *choices, *defaults, damaged[] = "{\"backend\": \"cpu\", \"taken\": [], \"tuned\": {}}";
    open_fixture(&f, *state, false);
    assert_string_equal(taken(&f), "fast");
    assert_int_equal(gb_device_choices(f.dev, &choices, &err), GB_OK);
    close_fixture(&f);
    open_fixture(&f, *state, true); /* nothing is tuned here */
    assert_string_equal(taken(&f), "slow");
    assert_int_equal(gb_device_choices(f.dev, &defaults, &err), GB_OK);
    assert_int_equal(gb_device_replay(f.dev, choices, &err), GB_OK);
    assert_string_equal(taken(&f), "fast");
    assert_int_equal(gb_device_replay(f.dev, damaged, &err), GB_FORMAT);
    assert_int_equal(gb_device_replay(f.dev, "", &err), GB_FORMAT);
    assert_string_equal(taken(&f), "fast");
    close_fixture(&f);
    open_fixture(&f, *state, false); /* and the other way: the default stays */
    assert_int_equal(gb_device_replay(f.dev, defaults, &err), GB_OK);
    assert_string_equal(taken(&f), "slow");
    close_fixture(&f);
    free(choices);
    free(defaults);
}

static bool stop_at_once(void *user, double done, const char *text)
{
    return --*(int *)user >= 0;
}

static void an_interruption_is_an_error_that_keeps_what_was_found(void **state)
{
    (void)state;
    fixture f;
    gb_error err = {0};
    int left = 9; /* the seven candidates of the first step, and two of the second */
    const gb_tune_result *result;
    gb_tune_options o = limits;
    o.progress = stop_at_once;
    o.user = &left;
    char *dir = gb_test_make_dir();
    open_fixture(&f, dir, false);
    gb_tuner *t = tuner_of(&f);
    gb_graph *larger = gb_graph_create();
    gb_shape shape = gb_shape_of(2, 2 * SIZE, SIZE), square = gb_shape_of(2, SIZE, SIZE);
    gb_value a = gb_graph_input(larger, "a", GB_F32, &shape), b = gb_graph_input(larger, "b", GB_F32, &square);
    gb_graph_output(larger, "y", gb_op2(larger, "MatMul", a, b));
    assert_int_equal(gb_tuner_add(t, larger, NULL, &err), GB_OK);
    gb_graph_destroy(&larger);
    assert_int_equal(gb_tuner_run(t, &o, &result, &err), GB_INTERRUPTED);
    assert_true(result->n >= 1);
    gb_tuner_destroy(&t);
    close_fixture(&f);
    open_fixture(&f, dir, false);
    assert_string_equal(taken(&f), "fast");
    close_fixture(&f);
    gb_test_remove_dir(dir);
}

int main(void)
{
    char *dir = gb_test_make_dir(); /* the tests go on with what the first one leaves */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(a_wrong_implementation_never_wins, dir),
        cmocka_unit_test_prestate(what_was_found_is_kept_and_can_be_left_aside, dir),
        cmocka_unit_test_prestate(a_choice_of_other_kernels_or_names_does_no_harm, dir),
        cmocka_unit_test_prestate(a_replay_takes_what_was_taken, dir),
        cmocka_unit_test(an_interruption_is_an_error_that_keeps_what_was_found),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gb_test_remove_dir(dir);
    return failed;
}
