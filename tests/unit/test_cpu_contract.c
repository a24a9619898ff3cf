/* Products and convolutions as steps of the CPU backend, with epilogues, against the reference. */
#include "step_check.h"

#include "core/base/half.h"

/* max((x + bias) * mask, floor): beyond what the kernels have built in. */
static void general_epilogue(check *c, const int64_t *bias_stride)
{
    gb_operand *y = &c->step.out[0];
    add_in(c, window(c, 'f', y->rank, y->dim, bias_stride));
    gb_operand mask = window(c, 'f', y->rank, y->dim, y->stride);
    add_in(c, mask);
    gb_x x = gb_x_input(&c->xb, 0, 'f'), b = gb_x_input(&c->xb, 1, 'f');
    gb_x m = gb_x_input(&c->xb, 2, 'f');
    x = gb_x2(&c->xb, GB_P_MUL, gb_x2(&c->xb, GB_P_ADD, x, b), m);
    x = gb_x2(&c->xb, GB_P_MAX, x, gb_x_const(&c->xb, -0.5));
    set_expr(c, 3, &x, 1);
}

static void bias_relu(check *c, const int64_t *bias_stride)
{
    gb_operand *y = &c->step.out[0];
    add_in(c, window(c, 'f', y->rank, y->dim, bias_stride));
    gb_x x = gb_x_input(&c->xb, 0, 'f'), b = gb_x_input(&c->xb, 1, 'f');
    x = gb_x2(&c->xb, GB_P_ADD, b, x);
    gb_x zero = gb_x_const(&c->xb, 0), less = gb_x2(&c->xb, GB_P_LT, x, zero);
    x = bias_stride[1] ? gb_x3(&c->xb, GB_P_SELECT, less, zero, x)
                       : gb_x2(&c->xb, GB_P_MAX, x, zero);
    gb_x six = gb_x_const(&c->xb, 0.6), more = gb_x2(&c->xb, GB_P_LT, six, x);
    if (!bias_stride[1]) x = gb_x3(&c->xb, GB_P_SELECT, more, six, x);
    set_expr(c, 2, &x, 1);
}

/* trans: bits for a, b, c stored with rows and columns exchanged. */
static void product_of(int64_t batch, int64_t m, int64_t k, int64_t n, int trans, int epilogue)
{
    check c;
    int orders[3][3];
    const int64_t a[3] = {batch, m, k}, b[3] = {batch, k, n}, y[3] = {batch, m, n};
    for (int i = 0; i < 3; i++) {
        orders[i][0] = 0;
        orders[i][1] = trans >> i & 1 ? 2 : 1;
        orders[i][2] = 3 - orders[i][1];
    }
    check_begin(&c, GB_STEP_MATMUL, 3, y);
    add_in(&c, dense(&c, 'f', 3, a, orders[0]));
    gb_operand right = dense(&c, 'f', 3, b, orders[1]);
    if (epilogue == 2) right.stride[0] = 0; /* weights shared by the batch */
    add_in(&c, right);
    add_out(&c, dense(&c, 'f', 3, y, orders[2]));
    const int64_t column[3] = {0, 0, 1}, row[3] = {0, 1, 0};
    if (epilogue == 1) bias_relu(&c, column);
    if (epilogue == 2) general_epilogue(&c, row);
    if (epilogue == 3) bias_relu(&c, row);
    c.tolerance = 1e-5;
    check_end(&c);
}

static void product(int64_t m, int64_t k, int64_t n, int trans, int epilogue)
{
    product_of(3, m, k, n, trans, epilogue);
}

static void products(void **state)
{
    (void)state;
    for (int trans = 0; trans < 8; trans++)
        for (int epilogue = 0; epilogue < 4; epilogue++) product(37, 19, 53, trans, epilogue);
    product(1, 300, 40, 0, 1);
    product(70, 5, 1, 0, 2);
    product(5, 0, 7, 0, 1);
    product(130, 64, 600, 0, 2);
    product_of(1, 1, 8, 1, 0, 2); /* one element: nothing to tell it from a constant */
}

/* Batch axes that cannot be merged into two. */
static void batches_of_many_axes(void **state)
{
    (void)state;
    const int64_t a[5] = {2, 3, 4, 5, 6}, b[5] = {2, 3, 4, 6, 7}, y[5] = {2, 3, 4, 5, 7};
    const int orders[3][5] = {{1, 0, 2, 3, 4}, {2, 1, 0, 3, 4}, {0, 2, 1, 3, 4}};
    check c;
    check_begin(&c, GB_STEP_MATMUL, 5, y);
    add_in(&c, dense(&c, 'f', 5, a, orders[0]));
    add_in(&c, dense(&c, 'f', 5, b, orders[1]));
    add_out(&c, dense(&c, 'f', 5, y, orders[2]));
    general_epilogue(&c, (int64_t[5]){0, 1, 0, 3, 0});
    check_end(&c);
}

static void convolution(gb_step_kind kind, int64_t ch, int64_t out, int64_t groups, int epilogue)
{
    static const int last[4] = {0, 2, 3, 1};
    const int64_t x[4] = {2, ch, 9, 8}, w[4] = {out, ch / groups, 3, 2}, y[4] = {2, out, 5, 8};
    check c;
    check_begin(&c, kind, 4, y);
    c.step.u.conv = (gb_window){
        .kernel = {3, 2}, .stride = {2, 1}, .dilation = {1, 2}, .pad = {1, 1}, .groups = groups};
    gb_operand image = dense(&c, 'f', 4, x, last), filter = dense(&c, 'f', 4, w, last);
    gb_operand result = dense(&c, 'f', 4, y, last);
    add_in(&c, kind == GB_STEP_CONV_INPUT ? result : image);
    add_in(&c, kind == GB_STEP_CONV_FILTER ? result : filter);
    add_out(&c, kind == GB_STEP_CONV ? result : kind == GB_STEP_CONV_INPUT ? image : filter);
    memcpy(c.step.dim, c.step.out[0].dim, sizeof c.step.dim);
    const int64_t channel[4] = {0, 1, 0, 0};
    if (epilogue == 1) bias_relu(&c, channel);
    if (epilogue == 2) general_epilogue(&c, channel);
    c.tolerance = 1e-5;
    check_end(&c);
}

static void convolutions(void **state)
{
    (void)state;
    for (int epilogue = 0; epilogue < 3; epilogue++) {
        convolution(GB_STEP_CONV, 6, 10, 1, epilogue);
        convolution(GB_STEP_CONV, 6, 10, 2, epilogue);
        convolution(GB_STEP_CONV_INPUT, 6, 10, 1, epilogue);
        convolution(GB_STEP_CONV, 16, 32, 1, epilogue);
    }
    convolution(GB_STEP_CONV_FILTER, 6, 10, 1, 0);
    convolution(GB_STEP_CONV_FILTER, 16, 32, 2, 0);
}

/* Small whole numbers, so that sums are exact in f16 and bf16; operands are 16 bits wide. */
static void halves(void **state)
{
    (void)state;
    for (int s = GB_S_F16; s <= GB_S_BF16; s++) {
        const int64_t a[3] = {2, 9, 6}, b[3] = {2, 6, 10}, y[3] = {2, 9, 10};
        check c;
        check_begin(&c, GB_STEP_MATMUL, 3, y);
        gb_operand o[3] = {dense(&c, 'i', 3, a, NULL), dense(&c, 'i', 3, b, (int[]){0, 2, 1}),
                           dense(&c, 'i', 3, y, NULL)};
        for (int k = 0; k < 3; k++) {
            o[k].storage = (gb_storage)s;
            uint16_t *half = (uint16_t *)c.data[k];
            for (int64_t i = 0; i < 2 * c.words[k]; i++) {
                float v = (float)floor(5 * random_unit(&c)) - 2;
                half[i] = s == GB_S_F16 ? gb_f32_to_f16(v) : gb_f32_to_bf16(v);
            }
        }
        o[1].stride[0] = 0;
        add_in(&c, o[0]);
        add_in(&c, o[1]);
        add_out(&c, o[2]);
        check_end(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products),
                                       cmocka_unit_test(batches_of_many_axes),
                                       cmocka_unit_test(convolutions), cmocka_unit_test(halves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
