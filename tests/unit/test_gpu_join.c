/* Launches that are joined in turns: every one waits for all that it depends on, and times are
 * those of its turn. Needs no device. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "backends/gpu/frame.h"
#include "backends/gpu/manifest.h"
#include "tests/support/gpu.h"

enum { STEPS = 24, BUFFERS = STEPS + 2, FLOATS = 512 * 512 };

typedef struct made_up { /* a plan of products, each of buffers that earlier ones wrote */
    gb_step step[STEPS];
    gb_plan_buffer buffer[BUFFERS];
    gb_plan plan;
} made_up;

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static gb_operand matrix(int buffer, int64_t rows, int64_t columns)
{
    return (gb_operand){
        .buffer = buffer, .rank = 2, .dim = {rows, columns}, .stride = {columns, 1}};
}

/* Some small, some large; buffers are written again, as those of an arena are. */
static void make_up(made_up *m, uint32_t seed)
{
    static const int64_t sizes[] = {4, 20, 130, 512};
    memset(m, 0, sizeof *m);
    for (int i = 0; i < STEPS; i++) {
        const int64_t rows = sizes[next(&seed) % 4], columns = sizes[next(&seed) % 4],
                      k = sizes[next(&seed) % 4];
        const int seen = i < 6 ? i + 2 : 8;
        gb_step *s = &m->step[i];
        *s = (gb_step){.kind = GB_STEP_MATMUL, .path = "test", .n_in = 2, .n_out = 1};
        s->in[0] = matrix((int)(next(&seed) % (uint32_t)seen), rows, k);
        s->in[1] = matrix((int)(next(&seed) % (uint32_t)seen), k, columns);
        s->out[0] = matrix(seen < 8 ? seen : (int)(next(&seed) % 8), rows, columns);
        s->flops = (double)(2 * rows * columns * k);
        if (s->out[0].buffer == s->in[0].buffer || s->out[0].buffer == s->in[1].buffer)
            s->out[0].buffer = 8;
    }
    for (int i = 0; i < BUFFERS; i++) m->buffer[i].bytes = FLOATS * 4;
    m->plan = (gb_plan){.n_steps = STEPS,
                        .n_buffers = BUFFERS,
                        .step = m->step,
                        .buffer = m->buffer,
                        .scalars_buffer = -1};
    for (int i = 0; i < STEPS; i++) {
        m->step[i].scratch = m->step[i].packed = (gb_operand){.buffer = 9 + i % 2};
        m->step[i].scratch_bytes = FLOATS * 4;
    }
}

static bool depends(const gb_gpu_program *p, int on, int k)
{
    const gb_gpu_launch *a = &p->launch[on], *b = &p->launch[k];
    for (int i = 0; i < p->kernel[a->kernel].n_bindings; i++)
        for (int j = 0; j < p->kernel[b->kernel].n_bindings; j++) {
            const gb_gpu_binding *x = &a->binding[i], *y = &b->binding[j];
            if (x->buffer == y->buffer && (x->write || y->write) &&
                x->offset < y->offset + y->bytes && y->offset < x->offset + x->bytes)
                return true;
        }
    return false;
}

/* As shaders/joint_turns.gk reads the table: the first ticket of each launch, and the one behind
 * its last; a launch of a chain has that of the chain. */
static void tickets_of(const int32_t *p, int n, int32_t (*ticket)[2])
{
    const int stride = p[GB_JOINT_STRIDE];
    const int32_t *row = p + GB_JOINT_ROWS;
    for (int i = 0; i < n; i++, row += stride) {
        const int32_t parts = (row[GB_ROW_UNITS] + row[GB_ROW_CHUNK] - 1) / row[GB_ROW_CHUNK];
        const bool chained = i > 0 && row[GB_ROW_CHAIN - stride];
        assert_true(row[GB_ROW_CHUNK] > 0 && row[GB_ROW_UNITS] > 0);
        if (row[GB_ROW_CHAIN] || chained) assert_int_equal(parts, 1);
        ticket[i][0] = chained ? ticket[i - 1][0] : row[GB_ROW_FIRST];
        ticket[i][1] = chained ? ticket[i - 1][1] : row[GB_ROW_FIRST] + parts;
        assert_true(row[stride] == row[GB_ROW_FIRST] + (chained ? 0 : parts)); /* the next one's */
        assert_true(row[GB_ROW_BEFORE] <= ticket[i][0] && row[GB_ROW_AFTER] >= ticket[i][1]);
    }
    assert_int_equal(row[GB_ROW_FIRST], p[GB_JOINT_TICKETS]);
}

static void launches_wait_for_what_they_need(void **state)
{
    static made_up m;
    int32_t ticket[4 * STEPS][2];
    int chains = 0, shared = 0;
    (void)state;
    for (uint32_t seed = 0; seed < 40; seed++) {
        make_up(&m, seed);
        gb_gpu_program *apart = gb_test_gpu_program(&m.plan, true),
                       *joint = gb_test_gpu_program(&m.plan, false);
        const int n = apart->n_launches;
        assert_true(n >= STEPS && n <= 4 * STEPS);
        assert_int_equal(joint->n_launches, 1);
        assert_string_equal(joint->kernel[0].name, "joint.turns");
        assert_int_equal(joint->launch[0].n_shares, n);
        assert_int_equal(joint->launch[0].groups[0], 3); /* workers */
        const int32_t *p = joint->launch[0].params;
        tickets_of(p, n, ticket);
        for (int i = 0; i < n; i++)
            for (int k = i + 1; k < n; k++) {
                const int32_t *row = p + GB_JOINT_ROWS + k * p[GB_JOINT_STRIDE];
                const bool chained = ticket[i][0] == ticket[k][0];
                if (!chained && depends(apart, i, k))
                    assert_true(row[GB_ROW_BEFORE] >= ticket[i][1]);
                chains += chained;
                shared += !chained && row[GB_ROW_BEFORE] < ticket[i][1];
            }
        gb_gpu_program_destroy(&apart);
        gb_gpu_program_destroy(&joint);
    }
    assert_true(chains > 0 && shared > 0); /* the cases are there */
}

/* Large launches one after the other, always two of them side by side: a turn, whose time is noted
 * by either of the two. */
static void time_is_that_of_turns(void **state)
{
    static made_up m;
    static int32_t params[20000];
    gb_span span[STEPS] = {{0}};
    (void)state;
    make_up(&m, 1);
    for (int i = 0; i < STEPS; i++) {
        m.step[i].in[0] = matrix(i / 2 * 2, 32, 512);
        m.step[i].in[1] = matrix(BUFFERS - 1, 512, 512);
        m.step[i].out[0] = matrix(i / 2 * 2 + (i % 2 ? 1 : 2), 32, 512);
        m.step[i].flops = 2e6;
    }
    gb_gpu_program *program = gb_test_gpu_program(&m.plan, false);
    const gb_gpu_launch *l = &program->launch[0];
    const int words = program->kernel[l->kernel].n_params, stride = l->params[GB_JOINT_STRIDE];
    assert_int_equal(l->n_shares, STEPS);
    assert_true(words <= 20000 && program->kernel[l->kernel].writes_params);
    memcpy(params, l->params, (size_t)words * sizeof *params);
    params[GB_JOINT_BEGUN] = -1; /* 2^32 - 1: the low word overflows in the first turn */
    for (int turn = 0, at = 0; turn < STEPS / 2; turn++) {
        int32_t *row = params + GB_JOINT_ROWS + (turn * 2 + turn % 3 % 2) * stride;
        at += 2 * (turn + 1); /* as long as that */
        row[GB_ROW_ENDED] = at - 1;
        row[GB_ROW_ENDED + 1] = 1;
    }
    const double whole = STEPS / 2 * (STEPS / 2 + 1);
    gb_gpu_spread(l, params, (gb_span){.begin = 2, .seconds = whole}, span);
    double begin = 2;
    for (int i = 0; i < STEPS; i++) {
        const double half_of_turn = i / 2 + 1;
        assert_float_equal(span[i].seconds, half_of_turn, 1e-6);
        assert_float_equal(span[i].begin, begin, 1e-6);
        begin += half_of_turn;
    }
    memset(span, 0, sizeof span);
    gb_gpu_spread(l, NULL, (gb_span){.begin = 2, .seconds = STEPS}, span); /* by estimate */
    for (int i = 0; i < STEPS; i++) assert_float_equal(span[i].seconds, 1, 1e-6);
    gb_gpu_program_destroy(&program);
}

/* What compilers take seconds for is built once and for all. */
static void long_texts_are_built_alone(void **state)
{
    (void)state;
    static const int64_t x[4] = {64, 64, 16, 16}, w[4] = {64, 64, 3, 3};
    gb_step s = {.kind = GB_STEP_CONV, .path = "test", .n_in = 2, .n_out = 1, .fast = true};
    gb_operand *o[] = {&s.in[0], &s.in[1], &s.out[0], &s.scratch};
    for (int i = 0; i < 3; i++) {
        const int64_t *dim = i == 1 ? w : x;
        o[i]->rank = 4;
        memcpy(o[i]->dim, dim, sizeof x);
        o[i]->stride[1] = 1;
        o[i]->stride[3] = dim[1];
        o[i]->stride[2] = dim[1] * dim[3];
        o[i]->stride[0] = dim[1] * dim[3] * dim[2];
    }
    for (int i = 0; i < 4; i++) o[i]->buffer = i;
    s.u.conv = (gb_window){
        .kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1}, .groups = 1};
    gb_plan_buffer buffer[4] = {{0}};
    const gb_plan plan = {
        .n_steps = 1, .n_buffers = 4, .step = &s, .buffer = buffer, .scalars_buffer = -1};
    gb_gpu_program *p = gb_test_gpu_program(&plan, false);
    assert_int_equal(p->n_kernels, 2);
    assert_string_equal(p->kernel[0].name, "winograd.filter");
    assert_non_null(p->kernel[0].part);
    assert_string_equal(p->kernel[1].name, "winograd.fused");
    assert_null(p->kernel[1].part);
    gb_gpu_program_destroy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(launches_wait_for_what_they_need),
                                       cmocka_unit_test(time_is_that_of_turns),
                                       cmocka_unit_test(long_texts_are_built_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
