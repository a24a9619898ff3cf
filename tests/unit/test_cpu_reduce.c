/* Reductions on the CPU against the float64 reference. */
#include "step_check.h"

/* All combiners at once over dim, of which the first n_kept axes are kept; memory order `order`.
 * Values are x * y + 1 with y broadcast along the axes of y_mask. */
static void all_combiners(int rank, const int64_t *dim, int n_kept, const int *order, int y_mask)
{
    check c;
    check_begin(&c, GB_STEP_REDUCE, rank, dim);
    gb_operand y;
    add_in(&c, dense(&c, 'f', rank, dim, order));
    y = dense(&c, 'f', rank, dim, order);
    for (int i = 0; i < rank; i++)
        if (y_mask >> i & 1) y.stride[i] = 0;
    add_in(&c, y);
    c.step.n_kept = n_kept;
    c.step.n_red = 4;
    static const gb_combine red[4] = {GB_SUM, GB_MOMENTS, GB_MAX, GB_MIN};
    memcpy(c.step.red, red, sizeof red);
    c.step.scale[0] = 0.25;
    for (int k = 0; k < 5; k++) add_out(&c, dense(&c, 'f', n_kept, dim, NULL));
    gb_x a = gb_x_input(&c.xb, 0, 'f'), b = gb_x_input(&c.xb, 1, 'f');
    gb_x v = gb_x2(&c.xb, GB_P_MUL, a, b), w = gb_x2(&c.xb, GB_P_ADD, v, gb_x_const(&c.xb, 1));
    set_expr(&c, 2, (gb_x[4]){w, w, v, a}, 4);
    c.tolerance = 2e-6;
    check_end(&c);
}

static void shapes_and_orders(void **state)
{
    (void)state;
    static const int last[4] = {0, 2, 3, 1}, kept_inside[4] = {1, 2, 3, 0}, swapped[2] = {1, 0};
    all_combiners(2, (int64_t[]){37, 10}, 1, NULL, 0);
    all_combiners(2, (int64_t[]){37, 10}, 1, NULL, 1);
    all_combiners(2, (int64_t[]){3, 5000}, 1, NULL, 2);
    all_combiners(2, (int64_t[]){2, 300000}, 1, NULL, 0);
    all_combiners(1, (int64_t[]){200001}, 0, NULL, 0);
    all_combiners(2, (int64_t[]){10, 37}, 1, swapped, 0);
    all_combiners(2, (int64_t[]){64, 9001}, 1, swapped, 2);
    all_combiners(2, (int64_t[]){3001, 70}, 1, swapped, 1);
    all_combiners(2, (int64_t[]){3001, 130}, 1, swapped, 0);
    all_combiners(4, (int64_t[]){7, 3, 20, 30}, 1, kept_inside, 0);
    all_combiners(4, (int64_t[]){33, 6, 5, 7}, 2, last, 0);
    all_combiners(4, (int64_t[]){3, 24, 40, 50}, 2, last, 4);
    /* groups of neighbours: [image][pixel][group][channel], the image and the group are kept */
    static const int grouped[4] = {0, 2, 1, 3};
    all_combiners(4, (int64_t[]){3, 8, 50, 4}, 2, grouped, 0);
    all_combiners(4, (int64_t[]){2, 5, 9000, 3}, 2, grouped, 8);
    all_combiners(4, (int64_t[]){1, 32, 7000, 1}, 2, grouped, 4);
    all_combiners(4, (int64_t[]){2, 100, 3, 12}, 2, grouped, 0);
    all_combiners(4, (int64_t[]){70, 1, 5, 6}, 2, grouped, 0);
    all_combiners(4, (int64_t[]){2, 3, 40, 129}, 2, grouped, 0);
    all_combiners(2, (int64_t[]){300, 64}, 1, NULL, 0);
    all_combiners(2, (int64_t[]){77, 135}, 1, NULL, 2);
    all_combiners(2, (int64_t[]){5, 1}, 1, NULL, 0);
    all_combiners(2, (int64_t[]){1, 5}, 1, swapped, 0);
    all_combiners(2, (int64_t[]){5, 0}, 1, NULL, 0);
    all_combiners(2, (int64_t[]){0, 5}, 1, NULL, 0);
    all_combiners(3, (int64_t[]){4, 9, 6}, 3, NULL, 0);
}

/* Integers wrap around; products; extremes of integers. */
static void integers(void **state)
{
    (void)state;
    for (int swap = 0; swap < 2; swap++) {
        const int64_t dim[2] = {19, 77};
        check c;
        check_begin(&c, GB_STEP_REDUCE, 2, dim);
        add_in(&c, dense(&c, 'i', 2, dim, (int[2]){swap, !swap}));
        c.step.n_kept = 1;
        c.step.n_red = 4;
        static const gb_combine red[4] = {GB_SUM, GB_PROD, GB_MAX, GB_MIN};
        memcpy(c.step.red, red, sizeof red);
        for (int k = 0; k < 4; k++) add_out(&c, dense(&c, 'i', 1, dim, NULL));
        gb_x a = gb_x_input(&c.xb, 0, 'i');
        gb_x big = gb_x2(&c.xb, GB_P_IMUL, a, gb_x_iconst(&c.xb, 250000001));
        gb_x odd = gb_x2(&c.xb, GB_P_OR, a, gb_x_iconst(&c.xb, 1));
        set_expr(&c, 1, (gb_x[4]){big, odd, a, big}, 4);
        check_end(&c);
    }
}

static void products_and_nan(void **state)
{
    (void)state;
    for (int swap = 0; swap < 2; swap++) {
        const int64_t dim[2] = {40, 30};
        check c;
        check_begin(&c, GB_STEP_REDUCE, 2, dim);
        add_in(&c, dense(&c, 'f', 2, dim, (int[2]){swap, !swap}));
        for (int i = 0; i < 7; i++)
            put_value(&c, 0, PAD + 100 + 31 * i, i == 3 ? INFINITY : i == 5 ? -INFINITY : NAN);
        c.step.n_kept = 1;
        c.step.n_red = 4;
        static const gb_combine red[4] = {GB_PROD, GB_SUM, GB_MAX, GB_MIN};
        memcpy(c.step.red, red, sizeof red);
        for (int k = 0; k < 4; k++) add_out(&c, dense(&c, 'f', 1, dim, NULL));
        gb_x a = gb_x_input(&c.xb, 0, 'f');
        set_expr(&c, 1, (gb_x[4]){a, a, a, a}, 4);
        check_end(&c);
    }
}

/* A mean a thousand times the deviation, and columns that change their mind after the pilot. */
static void variance_far_from_zero(void **state)
{
    (void)state;
    for (int swap = 0; swap < 2; swap++)
        for (int drift = 0; drift < 2; drift++) {
            const int64_t dim[2] = {24, 20000};
            check c;
            check_begin(&c, GB_STEP_REDUCE, 2, dim);
            add_in(&c, dense(&c, 'f', 2, dim, (int[2]){swap, !swap}));
            for (int64_t i = 0; i < 24 * 20000; i++) {
                int64_t row = swap ? i / 24 : i % 20000;
                double mean = drift && row < 1500 ? -3000 : 3000;
                put_value(&c, 0, PAD + i, mean + 2 * random_unit(&c) - 1);
            }
            c.step.n_kept = c.step.n_red = 1;
            c.step.red[0] = GB_MOMENTS;
            for (int k = 0; k < 2; k++) add_out(&c, dense(&c, 'f', 1, dim, NULL));
            gb_x a = gb_x_input(&c.xb, 0, 'f');
            set_expr(&c, 1, &a, 1);
            c.tolerance = 3e-6;
            check_end(&c);
        }
}

static void first_and_last_extremes(void **state)
{
    (void)state;
    for (int k = 0; k < 16; k++) {
        const int64_t dim[3] = {11, 6, 29};
        static const int orders[2][3] = {{0, 1, 2}, {2, 1, 0}};
        check c;
        char type = k & 8 ? 'i' : 'f';
        check_begin(&c, GB_STEP_ARGREDUCE, 3, dim);
        c.step.n_kept = 2;
        add_in(&c, dense(&c, type, 3, dim, orders[k & 1]));
        for (int64_t i = 0; i < 11 * 6 * 29; i++) /* few values: many are equal */
            put_value(&c, 0, PAD + i,
                      i % 191 == 3 && type == 'f' ? NAN : floor(5 * random_unit(&c)));
        c.step.u.arg.min = k & 2;
        c.step.u.arg.last = k & 4;
        add_out(&c, dense(&c, 'i', 2, dim, NULL));
        check_end(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_and_orders), cmocka_unit_test(integers),
        cmocka_unit_test(products_and_nan), cmocka_unit_test(variance_far_from_zero),
        cmocka_unit_test(first_and_last_extremes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
