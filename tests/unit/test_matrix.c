/* Kernels for matrix units: their texts depend on no shape, and are those that were compiled
 * offline.
 *
 * usage: test_matrix              tests
 *        test_matrix texts DIR    writes those for f16 there, for shaders/spirv/compile.py */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/gpu/matrix.h"

static const gb_gpu_caps caps = {
    .api = GB_GPU_VULKAN,
    .subgroup = 32,
    .storage16 = true,
    .max_local = 1024,
    .max_local_dim = {1024, 1024, 64},
    .max_groups = {65535, 65535, 65535},
    .local_memory = 49152,
    .max_params = 128,
    .max_bindings = 16,
    .binding_align = 16,
    .max_binding = 1u << 30,
    .matrix = {32, {16, 16, 16, UINT32_MAX}, {16, 16, 16, UINT32_MAX}}};

static const gb_step_kind kinds[4] = {GB_STEP_MATMUL, GB_STEP_CONV, GB_STEP_CONV_INPUT,
                                      GB_STEP_CONV_FILTER};
static const char *const names[4] = {"matmul", "conv", "conv_input", "conv_filter"};

static gb_operand dense(int buffer, int rank, const int64_t *dim, bool channels_last)
{
    gb_operand o = {.buffer = buffer, .rank = rank};
    static const int last[4] = {0, 2, 3, 1}, first[4] = {0, 1, 2, 3};
    int64_t step = 1;
    memcpy(o.dim, dim, sizeof *dim * (size_t)rank);
    for (int i = rank - 1; i >= 0; i--) {
        const int d = channels_last ? last[i] : first[i];
        o.stride[d] = step;
        step *= dim[d];
    }
    return o;
}

/* Products of two batch axes, convolutions of 3 × 3; all of them other ones with another size. */
static gb_step step_of(int kind, gb_storage type, int64_t size)
{
    gb_step s = {.kind = kinds[kind], .path = "test", .phase = "forward", .n_in = 2, .n_out = 1};
    const bool image = kind > 0;
    const int64_t n = size, c = 2 * size;
    const int64_t a[4] = {2, image ? c : 3, size, size}, filter[4] = {n, c, 3, 3},
                  y[4] = {2, image ? n : 3, size, size};
    const int64_t *in0 = kinds[kind] == GB_STEP_CONV_INPUT ? y : a;
    const int64_t *in1 = !image || kinds[kind] == GB_STEP_CONV_FILTER ? y : filter;
    const int64_t *out = kinds[kind] == GB_STEP_CONV_INPUT    ? a
                         : kinds[kind] == GB_STEP_CONV_FILTER ? filter
                                                              : y;
    s.in[0] = dense(0, 4, in0, image);
    s.in[1] = dense(1, 4, in1, image);
    s.out[0] = dense(2, 4, out, image);
    s.in[0].storage = s.in[1].storage = s.out[0].storage = type;
    if (size % 2 && !image) { /* transposed, and the same for all of the inner axis */
        s.in[1].stride[1] = 0;
        s.in[0].stride[2] = 1, s.in[0].stride[3] = size;
    }
    s.u.conv = (gb_window){.kernel = {3, 3},
                           .stride = {1, 1},
                           .dilation = {1, 1},
                           .pad = {1, 1},
                           .pad_end = {1, 1},
                           .groups = 1};
    s.scratch = (gb_operand){.buffer = 3};
    snprintf(s.variant, sizeof s.variant, "%s", gb_matrix_name(kinds[kind], GB_MATRIX_64));
    return s;
}

static gb_gpu_program *lower(gb_step *s)
{
    gb_plan_buffer buffer[4] = {{0}};
    gb_plan plan = {
        .n_steps = 1, .n_buffers = 4, .step = s, .buffer = buffer, .scalars_buffer = -1};
    gb_gpu_program *p = NULL;
    gb_error err = {0};
    if (gb_gpu_program_create(&caps, &plan, &p, &err)) fail_msg("%s", err.message);
    return p;
}

static void texts_depend_on_no_shape(void **state)
{
    for (int i = 0; i < 8; i++) {
        const gb_storage type = i < 4 ? GB_S_F16 : GB_S_BF16;
        gb_step one = step_of(i % 4, type, 32), other = step_of(i % 4, type, 7);
        gb_gpu_program *p = lower(&one), *q = lower(&other);
        assert_string_equal(p->kernel[0].source, q->kernel[0].source);
        assert_int_not_equal(p->launch[0].groups[0], 0);
        gb_gpu_program_destroy(&p);
        gb_gpu_program_destroy(&q);
    }
}

/* Those come first in a module, after five words. */
static bool has_capability(const gb_gpu_kernel *k, uint32_t capability)
{
    for (size_t at = 5; k->spirv[at] == (2u << 16 | 17); at += 2)
        if (k->spirv[at + 1] == capability) return true;
    return false;
}

static void modules_are_there(void **state)
{
    for (int i = 0; i < 8; i++) {
        gb_step s = step_of(i % 4, i < 4 ? GB_S_F16 : GB_S_BF16, 32);
        gb_gpu_program *p = lower(&s);
        const gb_gpu_kernel *k = &p->kernel[0];
        if (!k->spirv)
            fail_msg("the text of %s has changed: run shaders/spirv/compile.py", k->name);
        assert_int_equal(k->spirv[0], 0x07230203);
        assert_int_equal(k->subgroup, 32);
        assert_int_equal(k->constant[0], 128);
        const int bfloat16 = has_capability(k, 5116) + has_capability(k, 5118);
        assert_int_equal(bfloat16, i < 4 ? 0 : 2);
        assert_int_equal(has_capability(k, 9), i < 4); /* Float16 */
        gb_gpu_program_destroy(&p);
    }
}

/* Each size that a device may have is arranged so that its subgroups make all sums, once. */
static void tiles_are_covered(void **state)
{
    static const int shape[][4] = {{16, 16, 16, 32}, {16, 16, 16, 64}, {16, 8, 16, 32},
                                   {8, 16, 16, 16},  {8, 8, 16, 8},    {8, 8, 8, 8},
                                   {32, 32, 16, 64}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        int runs = 0;
        for (int size = 0; size < GB_MATRIX_SIZES; size++) {
            gb_gpu_caps c = caps;
            gb_matrix_tile t;
            const gb_storage type = size % 2 ? GB_S_BF16 : GB_S_F16;
            c.matrix.f16 = (gb_gpu_units){shape[i][0], shape[i][1], shape[i][2], UINT32_MAX};
            c.matrix.bf16 = c.matrix.f16;
            c.matrix.subgroup = (uint32_t)shape[i][3];
            if (!gb_matrix_tile_of(&c, GB_STEP_MATMUL, type, (gb_matrix_size)size, &t)) continue;
            const int down = t.items / t.lanes / t.across;
            assert_int_equal(down * t.wm * t.tm, t.size);
            assert_int_equal(t.across * t.wn * t.tn, t.size);
            runs++;
        }
        assert_in_range(runs, 1, GB_MATRIX_SIZES);
    }
}

static int write_texts(const char *dir)
{
    for (int kind = 0; kind < 4; kind++) {
        char path[500];
        gb_step s = step_of(kind, GB_S_F16, 32);
        gb_gpu_program *p = lower(&s);
        snprintf(path, sizeof path, "%s/%s.comp", dir, names[kind]);
        FILE *f = fopen(path, "w");
        if (!f || fputs(p->kernel[0].source, f) < 0 || fclose(f)) return 1;
        gb_gpu_program_destroy(&p);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_depend_on_no_shape),
                                       cmocka_unit_test(modules_are_there),
                                       cmocka_unit_test(tiles_are_covered)};
    if (argc == 3 && strcmp(argv[1], "texts") == 0) return write_texts(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
