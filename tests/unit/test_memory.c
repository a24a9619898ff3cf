#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/passes/memory.h"

enum { MAX_BUFFERS = 80, MAX_STEPS = 60 };

/* A plan made by hand: transient buffers of f32 vectors and steps between them. */
typedef struct draft {
    gb_plan plan;
    gb_plan_buffer buffer[MAX_BUFFERS];
    gb_step step[MAX_STEPS];
    gb_plan_port input, output;
    uint64_t scratch; /* that every CONV asks for */
} draft;

static void start(draft *d)
{
    *d = (draft){0};
    d->plan = (gb_plan){.step = d->step, .buffer = d->buffer, .scalars_buffer = -1,
                        .memory = gb_arena_create()};
    assert_non_null(d->plan.memory);
}

static void finish(draft *d)
{
    gb_arena_destroy(d->plan.memory);
}

static int add_buffer(draft *d, gb_buffer_role role, int64_t n)
{
    d->buffer[d->plan.n_buffers] = (gb_plan_buffer){.role = role, .bytes = (uint64_t)n * 4};
    return d->plan.n_buffers++;
}

static gb_operand all_of(const draft *d, int buffer)
{
    return (gb_operand){.buffer = buffer, .rank = 1, .stride = {1},
                        .dim = {(int64_t)(d->buffer[buffer].bytes / 4)}};
}

static gb_step *add_step(draft *d, gb_step_kind kind, const int *in, int n_in, int out)
{
    gb_step *s = &d->step[d->plan.n_steps++];
    *s = (gb_step){.kind = kind, .path = "layer", .phase = "forward", .n_in = n_in, .n_out = 1};
    for (int k = 0; k < n_in; k++) s->in[k] = all_of(d, in[k]);
    s->out[0] = all_of(d, out);
    return s;
}

static void answer_yes(void *device, const gb_step *step, gb_answer *answer)
{
    const draft *d = device;
    answer->ok = true;
    answer->scratch_bytes = step->kind == GB_STEP_CONV ? d->scratch : 0;
}

static void answer_no(void *device, const gb_step *step, gb_answer *answer)
{
    answer->ok = step->kind != GB_STEP_CONV;
    strcpy(answer->reason, "no such unit");
}

static gb_status plan_within(draft *d, uint64_t buffer, uint64_t memory, gb_error *err)
{
    gb_memory_limits limits = {.max_buffer_bytes = buffer, .memory_bytes = memory, .device = "here"};
    return gb_plan_memory(&d->plan, answer_yes, d, &limits, err);
}

static void pointwise_chain_stays_in_place(void **state)
{
    (void)state;
    draft d;
    start(&d);
    int a = add_buffer(&d, GB_BUF_INPUT, 1000), previous = a;
    for (int i = 0; i < 5; i++) {
        int next = add_buffer(&d, i < 4 ? GB_BUF_TRANSIENT : GB_BUF_OUTPUT, 1000);
        add_step(&d, GB_STEP_POINTWISE, &previous, 1, next);
        previous = next;
    }
    assert_int_equal(plan_within(&d, 0, 0, NULL), GB_OK);
    assert_int_equal(d.plan.arena_bytes, 4096);
    assert_int_equal(d.plan.other_bytes, 8000);
    assert_int_equal(d.plan.n_buffers, 3);
    assert_int_equal(d.plan.buffer[d.step[4].out[0].buffer].role, GB_BUF_OUTPUT);
    finish(&d);
}

static void no_place_is_taken_that_is_still_read(void **state)
{
    (void)state;
    draft d;
    start(&d);
    int in = add_buffer(&d, GB_BUF_INPUT, 64), t[3];
    for (int i = 0; i < 3; i++) t[i] = add_buffer(&d, GB_BUF_TRANSIENT, 64);
    add_step(&d, GB_STEP_CONV, &in, 1, t[0]);
    gb_step *shifted = add_step(&d, GB_STEP_POINTWISE, (int[]){t[0], t[0]}, 2, t[1]);
    shifted->in[1].offset = 4; /* reads a neighbour of the element that it would replace */
    gb_step *two = add_step(&d, GB_STEP_POINTWISE, &t[1], 1, t[2]);
    two->n_out = 2; /* both results could take the one place */
    two->out[1] = all_of(&d, add_buffer(&d, GB_BUF_TRANSIENT, 64));
    assert_int_equal(plan_within(&d, 0, 0, NULL), GB_OK);
    assert_int_not_equal(shifted->in[0].offset, shifted->out[0].offset);
    assert_int_not_equal(two->out[0].offset, two->out[1].offset);
    finish(&d);
}

static void refused_step_is_named(void **state)
{
    (void)state;
    draft d;
    gb_error err;
    gb_memory_limits limits = {.device = "here"};
    start(&d);
    int in = add_buffer(&d, GB_BUF_INPUT, 64), out = add_buffer(&d, GB_BUF_OUTPUT, 64);
    add_step(&d, GB_STEP_CONV, &in, 1, out)->path = "layers.7.conv";
    assert_int_equal(gb_plan_memory(&d.plan, answer_no, &d, &limits, &err), GB_UNSUPPORTED);
    assert_string_equal(err.input, "layers.7.conv");
    assert_non_null(strstr(err.message, "no such unit"));
    finish(&d);
}

static void too_much_says_what_it_needs(void **state)
{
    (void)state;
    draft d;
    gb_error err;
    start(&d);
    int in = add_buffer(&d, GB_BUF_INPUT, 3 << 18), out = add_buffer(&d, GB_BUF_TRANSIENT, 1 << 18);
    add_step(&d, GB_STEP_CONV, &in, 1, out);
    assert_int_equal(plan_within(&d, 0, 3 << 20, &err), GB_OUT_OF_MEMORY);
    assert_non_null(strstr(err.message, "4.0 MiB"));
    assert_non_null(strstr(err.message, "3.0 MiB"));
    finish(&d);
}

static void too_large_for_a_buffer_says_so(void **state)
{
    (void)state;
    draft d;
    gb_error err;
    start(&d);
    int in = add_buffer(&d, GB_BUF_INPUT, 1 << 18), out = add_buffer(&d, GB_BUF_TRANSIENT, 3 << 18);
    add_step(&d, GB_STEP_CONV, &in, 1, out);
    assert_int_equal(plan_within(&d, 2 << 20, 0, &err), GB_OUT_OF_MEMORY);
    assert_non_null(strstr(err.message, "3.0 MiB"));
    d.buffer[out].bytes = 1 << 20;
    d.scratch = 5 << 20;
    assert_int_equal(plan_within(&d, 2 << 20, 0, &err), GB_OUT_OF_MEMORY);
    assert_non_null(strstr(err.message, "5.0 MiB"));
    assert_string_equal(err.input, "layer");
    finish(&d);
}

/* --- random plans --- */

static uint32_t draw(uint32_t *seed, uint32_t n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % n;
}

/* Every step reads up to three buffers written before it and writes a new one. */
static void random_plan(draft *d, uint32_t *seed)
{
    start(d);
    d->scratch = 256 * (uint64_t)draw(seed, 20);
    add_buffer(d, GB_BUF_INPUT, 1 + draw(seed, 500));
    int steps = 2 + (int)draw(seed, MAX_STEPS - 2);
    for (int i = 0; i < steps; i++) {
        int in[3], n = 1 + (int)draw(seed, 3);
        for (int k = 0; k < n; k++) in[k] = (int)draw(seed, (uint32_t)d->plan.n_buffers);
        int64_t count = draw(seed, 2) ? (int64_t)d->buffer[in[0]].bytes / 4 : 1 + draw(seed, 900);
        int out = add_buffer(d, GB_BUF_TRANSIENT, count);
        add_step(d, draw(seed, 2) ? GB_STEP_POINTWISE : GB_STEP_CONV, in, n, out);
    }
    d->output = (gb_plan_port){.name = "y", .where = d->step[draw(seed, (uint32_t)steps)].out[0]};
    d->plan.output = &d->output;
    d->plan.n_outputs = 1;
}

enum { WORDS = 1 << 16, ARENAS = MAX_BUFFERS };
static int owner[ARENAS][WORDS]; /* value that the step before left in each word of an arena */

static int *words_of(const draft *d, const gb_operand *o)
{
    const gb_plan_buffer *b = &d->plan.buffer[o->buffer];
    assert_int_equal(b->role, GB_BUF_ARENA);
    assert_true(o->offset % 4 == 0 && o->offset + 4 * (uint64_t)o->dim[0] <= b->bytes);
    assert_true(b->bytes <= sizeof owner[0]);
    return owner[b->index] + o->offset / 4;
}

static void put(const draft *d, const gb_operand *o, int value)
{
    int *w = words_of(d, o);
    for (int64_t i = 0; i < o->dim[0]; i++) w[i] = value;
}

static void expect(const draft *d, const gb_operand *o, int value)
{
    const int *w = words_of(d, o);
    for (int64_t i = 0; i < o->dim[0]; i++) assert_int_equal(w[i], value);
}

/* Runs the plan on labels: each value must be intact whenever it is read, and scratch may destroy
 * nothing that is needed. */
static void run_on_labels(const draft *d, const draft *before)
{
    for (int i = 0; i < d->plan.n_steps; i++) {
        const gb_step *s = &d->step[i], *was = &before->step[i];
        if (s->scratch.buffer >= 0) put(d, &s->scratch, -1);
        for (int k = 0; k < s->n_in; k++)
            if (d->plan.buffer[s->in[k].buffer].role == GB_BUF_ARENA)
                expect(d, &s->in[k], was->in[k].buffer);
        if (d->plan.buffer[s->out[0].buffer].role == GB_BUF_ARENA)
            put(d, &s->out[0], was->out[0].buffer);
        if (s->scratch.buffer >= 0) expect(d, &s->scratch, -1);
    }
    assert_int_equal(d->plan.buffer[d->plan.output[0].where.buffer].role, GB_BUF_OUTPUT);
}

static void random_plans_keep_every_value(void **state)
{
    (void)state;
    static draft d, before;
    uint32_t seed = 1;
    for (int round = 0; round < 400; round++) {
        random_plan(&d, &seed);
        before = d;
        uint64_t limit = round % 2 ? 8192 : 0; /* the largest request is below: 5120 */
        assert_int_equal(plan_within(&d, limit, 0, NULL), GB_OK);
        uint64_t sum = 0;
        for (int b = 0; b < d.plan.n_buffers; b++) {
            assert_true(!limit || d.plan.buffer[b].bytes <= limit);
            assert_int_not_equal(d.plan.buffer[b].role, GB_BUF_TRANSIENT);
            if (d.plan.buffer[b].role == GB_BUF_ARENA) sum += d.plan.buffer[b].bytes;
        }
        assert_int_equal(sum, d.plan.arena_bytes);
        memset(owner, 0, sizeof owner);
        run_on_labels(&d, &before);
        finish(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pointwise_chain_stays_in_place),
                                       cmocka_unit_test(no_place_is_taken_that_is_still_read),
                                       cmocka_unit_test(refused_step_is_named),
                                       cmocka_unit_test(too_much_says_what_it_needs),
                                       cmocka_unit_test(too_large_for_a_buffer_says_so),
                                       cmocka_unit_test(random_plans_keep_every_value)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
