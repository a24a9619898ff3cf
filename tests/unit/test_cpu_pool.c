/* Pools and gathers on the CPU: what several tasks share, with every number of threads. */
#include "step_check.h"

static const int last[4] = {0, 2, 3, 1};

static void pool(gb_step_kind kind, const int64_t *image, const int64_t *result, gb_window w)
{
    check c;
    bool back = kind == GB_STEP_MAXPOOL_GRAD || kind == GB_STEP_AVGPOOL_GRAD;
    check_begin(&c, kind, 4, back ? image : result);
    c.step.u.conv = w;
    add_in(&c, dense(&c, 'f', 4, back ? result : image, last));
    if (kind == GB_STEP_MAXPOOL_GRAD) {
        gb_operand index = dense(&c, 'i', 4, result, last);
        for (int64_t i = PAD; i < c.words[index.buffer] - PAD; i++)
            put_value(&c, index.buffer, i, floor(random_unit(&c) * (double)(image[2] * image[3])));
        add_in(&c, index);
    }
    add_out(&c, dense(&c, 'f', 4, back ? image : result, last));
    if (kind == GB_STEP_MAXPOOL) add_out(&c, dense(&c, 'i', 4, result, last));
    check_end(&c);
}

static void pools(void **state)
{
    (void)state;
    static const gb_step_kind kinds[] = {GB_STEP_MAXPOOL, GB_STEP_MAXPOOL_GRAD, GB_STEP_AVGPOOL,
                                         GB_STEP_AVGPOOL_GRAD};
    const int64_t image[4] = {5, 70, 31, 30}, half[4] = {5, 70, 16, 15}, dense4[4] = {2, 3, 40, 41};
    const gb_window overlap = {.kernel = {3, 2},
                               .stride = {2, 2},
                               .dilation = {1, 1},
                               .pad = {1, 0},
                               .pad_end = {1, 0},
                               .groups = 1,
                               .count_pad = true};
    const gb_window same = {.kernel = {3, 3},
                            .stride = {1, 1},
                            .dilation = {2, 2},
                            .pad = {2, 2},
                            .pad_end = {2, 2},
                            .groups = 1};
    for (int k = 0; k < 4; k++) {
        pool(kinds[k], image, half, overlap);
        pool(kinds[k], dense4, dense4, same);
    }
}

/* Rows named several times, from the end, and out of range. */
static void gather(gb_step_kind kind, int64_t outer, int64_t rows, int64_t inner, int64_t n,
                   const int *order)
{
    check c;
    const int64_t data[3] = {outer, rows, inner}, picked[3] = {outer, n, inner};
    bool back = kind == GB_STEP_GATHER_GRAD;
    check_begin(&c, kind, 3, back ? data : picked);
    add_in(&c, dense(&c, 'f', 3, back ? picked : data, order));
    gb_operand index = dense(&c, 'i', 1, &n, NULL);
    for (int64_t i = 0; i < n; i++)
        put_value(&c, index.buffer, PAD + i, floor((2 * random_unit(&c) - 1) * (double)(rows + 1)));
    add_in(&c, index);
    add_out(&c, dense(&c, 'f', 3, back ? data : picked, order));
    c.tolerance = 1e-5;
    check_end(&c);
}

static void gathers(void **state)
{
    (void)state;
    static const int inner_outside[3] = {2, 0, 1};
    for (int back = 0; back < 2; back++) {
        gb_step_kind kind = back ? GB_STEP_GATHER_GRAD : GB_STEP_GATHER;
        gather(kind, 1, 500, 150, 900, NULL);
        gather(kind, 3, 7, 5, 4000, NULL);
        gather(kind, 1, 64, 1, 70000, NULL);
        gather(kind, 2, 9, 33, 40, inner_outside);
        gather(kind, 2, 9, 4, 0, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pools), cmocka_unit_test(gathers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
