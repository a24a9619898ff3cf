/* Which kernels a device is given by default. No real GPU is here, but it is a matter of shapes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "backends/gpu/manifest.h"
#include "backends/gpu/winograd.h"
#include "tests/support/gpu.h"

static gb_operand operand(int rank, const int64_t *dim, const int *order)
{
    gb_operand o = {.rank = rank};
    int64_t n = 1;
    for (int i = rank - 1; i >= 0; i--) {
        const int axis = order ? order[i] : i;
        o.dim[axis] = dim[axis];
        o.stride[axis] = n;
        n *= dim[axis];
    }
    return o;
}

static gb_storage operands = GB_S_F32;
static gb_gpu_matrix units;

/* What Vulkan promises at least. */
static const char *default_of(const gb_step *of)
{
    gb_step s = *of;
    gb_gpu_caps caps = {.api = GB_GPU_VULKAN,
                        .max_local = 256,
                        .max_local_dim = {256, 256, 64},
                        .max_groups = {65535, 65535, 65535},
                        .local_memory = 32768,
                        .max_params = 128,
                        .max_binding = 1u << 27};
    s.in[0].storage = s.in[1].storage = operands;
    caps.storage16 = operands != GB_S_F32;
    caps.matrix = units;
    const gb_gpu_variant *v = gb_gpu_pick(&caps, &s);
    assert_non_null(v);
    return v->name;
}

/* Of square images, which keep their size. */
static gb_step conv(gb_step_kind kind, int64_t images, int64_t channels, int64_t size,
                    int64_t groups)
{
    static const int last[4] = {0, 2, 3, 1};
    const int64_t x[4] = {images, channels, size, size}, w[4] = {channels, channels / groups, 3, 3};
    gb_step s = {.kind = kind, .n_in = 2, .n_out = 1};
    const bool filter = kind == GB_STEP_CONV_FILTER;
    s.in[0] = operand(4, x, last);
    s.in[1] = operand(4, filter ? x : w, last);
    s.out[0] = operand(4, filter ? w : x, last);
    s.u.conv = (gb_window){
        .kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1}, .groups = groups};
    return s;
}

static const char *default_conv(gb_step_kind kind, int64_t images, int64_t channels, int64_t groups)
{
    const gb_step s = conv(kind, images, channels, 16, groups);
    return default_of(&s);
}

/* Tiles that reach over a small image are worth it as long as they save multiplications; F(4x4) is,
 * where it saves more than F(2x2), which is more accurate. */
static void small_images_get_the_tiles_that_save(void **state)
{
    (void)state;
    static const struct {
        int64_t size;
        bool fast, suits;
        int side;
    } cases[] = {{1, false, false, 2}, {1, true, false, 2}, {2, true, true, 2},
                 {3, false, true, 2},  {3, true, true, 4},  {4, true, true, 4},
                 {5, true, true, 2},   {6, true, true, 2},  {7, true, true, 4},
                 {7, false, true, 2},  {9, true, true, 4},  {16, true, true, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int kind = GB_STEP_CONV; kind <= GB_STEP_CONV_FILTER; kind++) {
            gb_step s = conv(kind, 64, 64, cases[i].size, 1);
            s.fast = cases[i].fast;
            assert_int_equal(gb_winograd_suits(&s, 16, 1), cases[i].suits);
            assert_int_equal(gb_winograd_tiling(&s)->side, cases[i].side);
        }
}

static const char *default_matmul(int64_t m, int64_t n, int64_t k)
{
    gb_step s = {.kind = GB_STEP_MATMUL, .n_in = 2, .n_out = 1};
    s.in[0] = operand(2, (const int64_t[2]){m, k}, NULL);
    s.in[1] = operand(2, (const int64_t[2]){k, n}, NULL);
    s.out[0] = operand(2, (const int64_t[2]){m, n}, NULL);
    return default_of(&s);
}

static void gpus_get_what_suits_them(void **state)
{
    (void)state;
    assert_string_equal(default_conv(GB_STEP_CONV, 64, 64, 64), "conv.depthwise");
    assert_string_equal(default_conv(GB_STEP_CONV_INPUT, 64, 64, 16), "conv_input.depthwise");
    assert_string_equal(default_conv(GB_STEP_CONV_FILTER, 64, 64, 64), "conv_filter.depthwise");
    assert_string_equal(default_conv(GB_STEP_CONV, 64, 64, 2), "conv.tile32");
    assert_string_equal(default_conv(GB_STEP_CONV, 64, 64, 1), "conv.winograd");
    assert_string_equal(default_conv(GB_STEP_CONV_INPUT, 64, 64, 1), "conv_input.winograd");
    assert_string_equal(default_conv(GB_STEP_CONV_FILTER, 64, 64, 1), "conv_filter.winograd");
    assert_string_equal(default_conv(GB_STEP_CONV, 64, 32, 1), "conv.tile32"); /* transforms */
    assert_null(strstr(default_conv(GB_STEP_CONV, 1, 64, 1), "winograd"));     /* launches */
    assert_string_equal(default_matmul(1, 1000, 512), "matmul.skinny");
    assert_string_equal(default_matmul(4096, 8, 4096), "matmul.skinny");
    assert_string_equal(default_matmul(4096, 16, 4096), "matmul.tall");
    assert_string_equal(default_matmul(1024, 1024, 1024), "matmul.tile128");
}

static void matrix_units_come_before_winograd(void **state)
{
    (void)state;
    const gb_gpu_units work = {16, 16, 16, UINT32_MAX};
    units = (gb_gpu_matrix){.subgroup = 32, .f16 = work, .bf16 = work};
    for (operands = GB_S_F16; operands <= GB_S_BF16; operands++) {
        assert_non_null(strstr(default_conv(GB_STEP_CONV, 64, 64, 1), "conv.matrix"));
        assert_non_null(strstr(default_conv(GB_STEP_CONV_INPUT, 64, 64, 1), "conv_input.matrix"));
        assert_non_null(strstr(default_conv(GB_STEP_CONV_FILTER, 64, 64, 1), "conv_filter.matrix"));
        assert_non_null(strstr(default_matmul(1024, 1024, 1024), "matmul.matrix"));
    }
    operands = GB_S_F32;
    units = (gb_gpu_matrix){0};
}

/* The units for each type are the device's own, and right or wrong by themselves. */
static void matrix_units_are_of_a_type(void **state)
{
    (void)state;
    const gb_gpu_units work = {16, 16, 16, UINT32_MAX}, wrong = {16, 16, 16, 0};
    for (operands = GB_S_F16; operands <= GB_S_BF16; operands++) {
        const bool bf16 = operands == GB_S_BF16;
        units = (gb_gpu_matrix){32, bf16 ? wrong : work, bf16 ? work : wrong};
        assert_non_null(strstr(default_matmul(1024, 1024, 1024), "matmul.matrix"));
        units = (gb_gpu_matrix){32, bf16 ? work : wrong, bf16 ? wrong : work};
        assert_string_equal(default_matmul(1024, 1024, 1024), "matmul.tile128");
    }
    operands = GB_S_F32;
    units = (gb_gpu_matrix){0};
}

/* The kernels of a step on PoCL. */
static gb_gpu_program *program_of(gb_step *s)
{
    gb_plan_buffer buffer[4] = {{0}};
    const gb_plan plan = {
        .n_steps = 1, .n_buffers = 4, .step = s, .buffer = buffer, .scalars_buffer = -1};
    gb_operand *all[] = {&s->in[0], &s->in[1], &s->out[0], &s->scratch};
    for (int i = 0; i < 4; i++) all[i]->buffer = i;
    return gb_test_gpu_program(&plan, true);
}

static gb_step product(int64_t m, int64_t n, int64_t k, bool turned_a, bool turned_b)
{
    const int turned[2] = {1, 0};
    gb_step s = {.kind = GB_STEP_MATMUL, .path = "test", .n_in = 2, .n_out = 1};
    s.in[0] = operand(2, (const int64_t[2]){m, k}, turned_a ? turned : NULL);
    s.in[1] = operand(2, (const int64_t[2]){k, n}, turned_b ? turned : NULL);
    s.out[0] = operand(2, (const int64_t[2]){m, n}, NULL);
    return s;
}

/* A launch for the product, one for each factor that is copied. */
static void factors_are_copied_where_many_walk_them(void **state)
{
    (void)state;
    const struct {
        gb_step step;
        int launches;
    } cases[] = {
        {product(32, 90, 512, false, false), 1},    {product(32, 90, 512, false, true), 2},
        {product(4096, 90, 512, false, false), 2},  {product(32, 10, 512, false, false), 2},
        {product(32, 4096, 4096, false, false), 2}, {product(32, 40, 512, true, false), 1},
        {product(32, 512, 512, true, false), 2},    {product(512, 512, 32, true, true), 3},
        {product(16, 4096, 4096, false, false), 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gb_step s = cases[i].step;
        gb_gpu_program *p = program_of(&s);
        assert_int_equal(p->n_launches, cases[i].launches);
        gb_gpu_program_destroy(&p);
    }
}

/* Where B is larger than a second-level cache, lots of rows take a panel one after another. */
static void large_b_comes_once_for_many_rows(void **state)
{
    (void)state;
    gb_step s[2] = {product(512, 256, 512, false, false), product(512, 1024, 1024, false, false)};
    int64_t panels[2], lot[2];
    for (int i = 0; i < 2; i++) {
        gb_gpu_program *p = program_of(&s[i]);
        const gb_gpu_launch *l = &p->launch[p->n_launches - 1];
        panels[i] = s[i].out[0].dim[1] / 16;
        lot[i] = l->groups[0] / panels[i];
        assert_int_equal(l->groups[0] % panels[i], 0);
        assert_true(lot[i] * l->groups[1] * 6 >= 512); /* rows of a block */
        gb_gpu_program_destroy(&p);
    }
    assert_int_equal(lot[0], 1);
    assert_true(lot[1] >= 8);
}

/* The sum of each row of a matrix; operands are left to the caller. */
static gb_step sums(int64_t rows, int64_t columns, const gb_expr *expr)
{
    const int64_t dim[2] = {rows, columns};
    gb_step s = {.kind = GB_STEP_REDUCE,
                 .path = "test",
                 .n_in = expr->n_in,
                 .n_out = 1,
                 .rank = 2,
                 .dim = {rows, columns},
                 .n_kept = 1,
                 .n_red = 1,
                 .red = {GB_SUM},
                 .expr = expr};
    s.out[0] = operand(1, dim, NULL);
    return s;
}

/* 8192 columns: 128 an item, or four times 16. */
static void long_columns_are_summed_side_by_side(void **state)
{
    (void)state;
    const int64_t rows[] = {4096, 1000}, items[] = {64, 128};
    for (int i = 0; i < 2; i++) {
        gb_xb b = {0};
        const gb_x x = gb_x_input(&b, 0, 'f');
        gb_arena *arena = gb_arena_create();
        gb_step s = sums(8192, rows[i], gb_xb_finish(&b, 1, &x, 1, gb_arena_alloc_hook, arena));
        s.in[0] = operand(2, s.dim, (const int[2]){1, 0});
        gb_gpu_program *p = program_of(&s);
        assert_int_equal(p->launch[0].groups[0], items[i]);
        gb_gpu_program_destroy(&p);
        gb_xb_free(&b);
        gb_arena_destroy(arena);
    }
}

/* The first operand does not say how memory is walked if another has more elements: a softmax's
 * maxima before its scores, a factor of each channel before an image [pixel][channel]. */
static void sums_go_along_the_widest(void **state)
{
    (void)state;
    static const struct {
        int rank;
        int64_t dim[3], stride[3];
    } cases[] = {{2, {300, 200}, {1, 0}}, {3, {128, 256, 48}, {0, 0, 1}}};
    for (int i = 0; i < 2; i++) {
        gb_xb b = {0};
        const gb_x y = gb_x2(&b, GB_P_SUB, gb_x_input(&b, 1, 'f'), gb_x_input(&b, 0, 'f'));
        gb_arena *arena = gb_arena_create();
        gb_step s = sums(cases[i].dim[0], cases[i].dim[1],
                         gb_xb_finish(&b, 2, &y, 1, gb_arena_alloc_hook, arena));
        s.rank = cases[i].rank, s.dim[2] = cases[i].dim[2];
        s.in[0] = s.in[1] = operand(s.rank, s.dim, NULL);
        memcpy(s.in[0].stride, cases[i].stride, sizeof cases[i].stride);
        gb_gpu_program *p = program_of(&s);
        assert_string_equal(p->kernel[p->launch[0].kernel].name, "reduce.row");
        gb_gpu_program_destroy(&p);
        gb_xb_free(&b);
        gb_arena_destroy(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gpus_get_what_suits_them),
                                       cmocka_unit_test(factors_are_copied_where_many_walk_them),
                                       cmocka_unit_test(large_b_comes_once_for_many_rows),
                                       cmocka_unit_test(long_columns_are_summed_side_by_side),
                                       cmocka_unit_test(sums_go_along_the_widest),
                                       cmocka_unit_test(small_images_get_the_tiles_that_save),
                                       cmocka_unit_test(matrix_units_come_before_winograd),
                                       cmocka_unit_test(matrix_units_are_of_a_type)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
