/* What a driver says it can is used only where it is right when it runs. The device is the float64
 * reference, made to lie. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/gpu/gpu.h"

extern const gb_backend gb_reference_backend;

static int opened, ran;

static gb_status open_counted(const gb_backend_options *o, int index, gb_backend_device **dev,
                              gb_error *err)
{
    opened++;
    return gb_reference_backend.open(o, index, dev, err);
}

static gb_status run_counted(gb_backend_program *program, gb_error *err)
{
    ran++;
    return gb_reference_backend.program_run(program, err);
}

static gb_status run_nothing(gb_backend_program *program, gb_error *err)
{
    (void)program;
    (void)err;
    return GB_OK;
}

static gb_status refuse(gb_backend_device *dev, const gb_plan *plan, gb_backend_program **program,
                        gb_error *err)
{
    (void)dev;
    (void)plan;
    *program = NULL;
    return gb_fail(err, GB_DEVICE, NULL, NULL, "no such instruction");
}

static bool lost(gb_backend_device *dev)
{
    (void)dev;
    return true;
}

static gb_backend truthful(void)
{
    gb_backend b = gb_reference_backend;
    b.kernels = "test";
    b.program_run = run_counted;
    opened = ran = 0;
    return b;
}

static gb_gpu_caps probed(const gb_backend *b, const char *cache, gb_gpu_caps said)
{
    const gb_backend_options o = {.cache_dir = cache};
    gb_gpu_probe_caps(b, &o, 0, open_counted, GB_HASH_INIT, &said);
    return said;
}

static const gb_gpu_caps both = {.shuffle = true, .half_math = true};

static void what_works_stays(void **state)
{
    (void)state;
    const gb_backend b = truthful();
    gb_gpu_caps caps = probed(&b, NULL, both);
    assert_true(caps.shuffle && caps.half_math);
    assert_int_equal(ran, 2);
    caps = probed(&b, NULL, (gb_gpu_caps){.half_math = true});
    assert_true(!caps.shuffle && caps.half_math);
    assert_int_equal(ran, 3);
}

static void what_is_wrong_goes(void **state)
{
    (void)state;
    gb_backend b[3] = {truthful(), truthful(), truthful()};
    b[0].program_run = run_nothing;
    b[1].program_create = refuse;
    b[2].lost = lost;
    for (int i = 0; i < 3; i++) {
        gb_gpu_caps caps = probed(&b[i], NULL, both);
        assert_false(caps.shuffle || caps.half_math);
    }
}

/* No driver on a CPU is asked, unless somebody forces a variant. */
static void nobody_asks_in_vain(void **state)
{
    (void)state;
    const gb_backend b = truthful();
    gb_gpu_caps caps = probed(&b, NULL, (gb_gpu_caps){.variant = "."});
    assert_int_equal(opened, 0);
    gb_gpu_caps hosted = both;
    hosted.cpu_hosted = true;
    caps = probed(&b, NULL, hosted);
    assert_false(caps.shuffle || caps.half_math);
    assert_int_equal(opened, 0);
    hosted.variant = ".";
    caps = probed(&b, NULL, hosted);
    assert_true(caps.shuffle && caps.half_math);
}

static void answers_are_kept(void **state)
{
    (void)state;
    const gb_backend b = truthful();
    char dir[] = "/tmp/gimbal-probe-XXXXXX", command[64];
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 2; i++) {
        gb_gpu_caps caps = probed(&b, dir, both);
        assert_true(caps.shuffle && caps.half_math);
        assert_int_equal(opened, 1);
    }
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* --- storage types: all in one program, or one by one --- */

static gb_status refuse_f16(gb_backend_device *dev, const gb_plan *plan,
                            gb_backend_program **program, gb_error *err)
{
    for (int i = 0; i < plan->n_steps; i++)
        if (plan->step[i].in[0].storage == GB_S_F16) return refuse(dev, plan, program, err);
    return gb_reference_backend.program_create(dev, plan, program, err);
}

static gb_status probed_types(const gb_backend *b, uint32_t *types)
{
    gb_backend_device *dev;
    gb_error err;
    assert_int_equal(open_counted(NULL, 0, &dev, NULL), GB_OK);
    gb_status s = gb_gpu_probe(b, dev, types, &err);
    gb_reference_backend.close(dev);
    return s;
}

static void one_type_that_fails_leaves_the_others(void **state)
{
    (void)state;
    const uint32_t others = 1u << GB_F32 | 1u << GB_I32 | 1u << GB_BF16;
    uint32_t types;
    gb_backend b = truthful();
    assert_int_equal(probed_types(&b, &types), GB_OK);
    assert_int_equal(types, others | 1u << GB_F16);
    assert_int_equal(ran, 1);
    b.program_create = refuse_f16;
    assert_int_equal(probed_types(&b, &types), GB_OK);
    assert_int_equal(types, others);
    assert_int_equal(ran, 4);
    b.program_run = run_nothing;
    assert_int_equal(probed_types(&b, &types), GB_DEVICE);
}

/* --- matrix units: each type of operands by itself --- */

static gb_step mistaken;
static gb_plan mistake;

/* Takes bf16 for f16. */
static gb_status mistake_bf16(gb_backend_device *dev, const gb_plan *plan,
                              gb_backend_program **program, gb_error *err)
{
    mistaken = plan->step[0];
    mistake = *plan;
    mistake.step = &mistaken;
    for (int i = 0; i < 2; i++)
        if (mistaken.in[i].storage == GB_S_BF16) mistaken.in[i].storage = GB_S_F16;
    return gb_reference_backend.program_create(dev, &mistake, program, err);
}

static gb_gpu_matrix probed_matrix(const gb_backend *b, gb_gpu_matrix matrix)
{
    gb_backend_device *dev;
    assert_int_equal(open_counted(NULL, 0, &dev, NULL), GB_OK);
    gb_gpu_probe_matrix(b, dev, &matrix);
    gb_reference_backend.close(dev);
    return matrix;
}

static void matrix_units_are_used_where_they_are_right(void **state)
{
    (void)state;
    const uint32_t all = (1u << 12) - 1; /* four kinds, three sizes */
    const gb_gpu_matrix listed = {32, {16, 16, 16, 0}, {16, 16, 16, 0}};
    gb_backend b = truthful();
    gb_gpu_matrix m = probed_matrix(&b, listed);
    assert_int_equal(m.f16.works, all);
    assert_int_equal(m.bf16.works, all);
    assert_int_equal(ran, 24);
    b.program_create = mistake_bf16;
    m = probed_matrix(&b, listed);
    assert_int_equal(m.f16.works, all);
    assert_int_equal(m.bf16.works, 0);
    b.program_run = run_nothing;
    assert_int_equal(probed_matrix(&b, listed).f16.works, 0);
    b = truthful();
    m = probed_matrix(&b, (gb_gpu_matrix){32, {0}, {16, 16, 16, 0}});
    assert_int_equal(m.f16.works, 0); /* none are listed: nothing is tried */
    assert_int_equal(m.bf16.works, all);
    assert_int_equal(ran, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_works_stays),
        cmocka_unit_test(what_is_wrong_goes),
        cmocka_unit_test(one_type_that_fails_leaves_the_others),
        cmocka_unit_test(nobody_asks_in_vain),
        cmocka_unit_test(answers_are_kept),
        cmocka_unit_test(matrix_units_are_used_where_they_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
