/* Winograd's minimal filtering in one dimension, for filters of 3 taps. With inputs d and filter g,
 * outputs are A^T [(G g) * (B^T d)]; the gradient of g is the transpose of that,
 * G^T [(A dy) * (B^T d)]. In two dimensions both axes are transformed.
 *
 * Stride 1: F(m, 3) takes m + 2 inputs to m outputs through m + 2 products.
 *
 * Stride 2: outputs read the even inputs through taps 0 and 2, and the odd ones through tap 1. The
 * former is F(m, 2), of m + 1 products; the latter is m products with one and the same filter. The
 * gradient of the data is the other way round: odd outputs are products with tap 1, even ones are
 * F(m, 2) of the gradient, 2 m together. Its filters are turned round, as with stride 1.
 *
 * All work on vectors of channels, in place: v[0], v[s], ... The form is a constant where they are
 * used. */
#ifndef GB_BACKENDS_CPU_KERNELS_WINOGRAD_1D_H
#define GB_BACKENDS_CPU_KERNELS_WINOGRAD_1D_H

#include <stdbool.h>

#include "backends/cpu/kernels/level.h"

#define WINOGRAD static inline __attribute__((always_inline))

typedef enum winograd_form {
    WINOGRAD_2,
    WINOGRAD_4,
    WINOGRAD_2_STRIDED, /* forward and to the filter */
    WINOGRAD_4_STRIDED,
    WINOGRAD_2_SPREAD, /* to the data, of stride 2 */
    WINOGRAD_4_SPREAD,
    WINOGRAD_FORMS
} winograd_form;

WINOGRAD int winograd_m(winograd_form f)
{
    return f % 2 ? 4 : 2;
}

WINOGRAD bool winograd_is_strided(winograd_form f)
{
    return f >= WINOGRAD_2_STRIDED;
}

WINOGRAD bool winograd_is_spread(winograd_form f)
{
    return f >= WINOGRAD_2_SPREAD;
}

/* Products along an axis. */
WINOGRAD int winograd_products(winograd_form f)
{
    return winograd_is_strided(f) ? 2 * winograd_m(f) + 1 : winograd_m(f) + 2;
}

/* Filters along an axis: a product's own, but that the products of odd inputs share the last. */
WINOGRAD int winograd_filters(winograd_form f)
{
    return winograd_m(f) + 2;
}

/* Along an axis, how many products have filter i. Those of the filters before it come first. */
WINOGRAD int winograd_sharing(winograd_form f, int i)
{
    return winograd_is_strided(f) && i == winograd_m(f) + 1 ? winograd_m(f) : 1;
}

/* The side of the square of inputs that a tile reads, and of the outputs that it makes. */
WINOGRAD int winograd_reads(winograd_form f)
{
    return winograd_is_spread(f) ? winograd_m(f) + 1 : winograd_products(f);
}

WINOGRAD int winograd_makes(winograd_form f)
{
    return winograd_is_spread(f) ? 2 * winograd_m(f) : winograd_m(f);
}

/* From the inputs of a tile to those of the next. */
WINOGRAD int winograd_advance(winograd_form f)
{
    return f == WINOGRAD_2_STRIDED || f == WINOGRAD_4_STRIDED ? 2 * winograd_m(f) : winograd_m(f);
}

/* ---- stride 1: F(2, 3) and F(4, 3) ---- */

/* m + 2 inputs to products. */
WINOGRAD void winograd_unit_input(int m, vec *d, int s)
{
    vec d0 = d[0], d1 = d[s], d2 = d[2 * s], d3 = d[3 * s];
    if (m == 2) {
        d[0] = d0 - d2;
        d[s] = d1 + d2;
        d[2 * s] = d2 - d1;
        d[3 * s] = d1 - d3;
        return;
    }
    vec d4 = d[4 * s], d5 = d[5 * s];
    vec even = d4 - 4 * d2, odd = d3 - 4 * d1, even2 = d4 - d2, odd2 = 2 * (d3 - d1);
    d[0] = 4 * d0 - 5 * d2 + d4;
    d[s] = even + odd;
    d[2 * s] = even - odd;
    d[3 * s] = even2 + odd2;
    d[4 * s] = even2 - odd2;
    d[5 * s] = 4 * d1 - 5 * d3 + d5;
}

/* Products to m outputs. */
WINOGRAD void winograd_unit_output(int m, vec *y, int s)
{
    vec y0 = y[0], y1 = y[s], y2 = y[2 * s], y3 = y[3 * s];
    if (m == 2) {
        y[0] = y0 + y1 + y2;
        y[s] = y1 - y2 - y3;
        return;
    }
    vec y4 = y[4 * s], y5 = y[5 * s], sum = y1 + y2, dif = y1 - y2, sum2 = y3 + y4, dif2 = y3 - y4;
    y[0] = y0 + sum + sum2;
    y[s] = dif + 2 * dif2;
    y[2 * s] = sum + 4 * sum2;
    y[3 * s] = dif + 8 * dif2 + y5;
}

/* 3 taps to filters. */
WINOGRAD void winograd_unit_filter(int m, vec *g, int s)
{
    vec g0 = g[0], g1 = g[s], g2 = g[2 * s];
    if (m == 2) {
        vec ends = 0.5f * (g0 + g2), middle = 0.5f * g1;
        g[s] = ends + middle;
        g[2 * s] = ends - middle;
        g[3 * s] = g2;
        return;
    }
    vec ends = (g0 + g2) * (-1 / 6.0f), middle = g1 * (-1 / 6.0f);
    vec ends2 = g0 * (1 / 24.0f) + g2 * (1 / 6.0f), middle2 = g1 * (1 / 12.0f);
    g[0] = g0 * 0.25f;
    g[s] = ends + middle;
    g[2 * s] = ends - middle;
    g[3 * s] = ends2 + middle2;
    g[4 * s] = ends2 - middle2;
    g[5 * s] = g2;
}

/* The transpose of output: gradients of m outputs to products. */
WINOGRAD void winograd_unit_output_gradient(int m, vec *y, int s)
{
    vec y0 = y[0], y1 = y[s];
    if (m == 2) {
        y[s] = y0 + y1;
        y[2 * s] = y0 - y1;
        y[3 * s] = -y1;
        return;
    }
    vec y2 = y[2 * s], y3 = y[3 * s];
    vec even = y0 + y2, odd = y1 + y3, even2 = y0 + 4 * y2, odd2 = 2 * y1 + 8 * y3;
    y[s] = even + odd;
    y[2 * s] = even - odd;
    y[3 * s] = even2 + odd2;
    y[4 * s] = even2 - odd2;
    y[5 * s] = y3;
}

/* The transpose of filter: sums of products to the gradients of 3 taps. */
WINOGRAD void winograd_unit_filter_gradient(int m, vec *g, int s)
{
    vec g0 = g[0], sum = g[s] + g[2 * s], dif = g[s] - g[2 * s], g3 = g[3 * s];
    if (m == 2) {
        g[0] = g0 + 0.5f * sum;
        g[s] = 0.5f * dif;
        g[2 * s] = 0.5f * sum + g3;
        return;
    }
    vec g5 = g[5 * s], sum2 = g3 + g[4 * s], dif2 = g3 - g[4 * s];
    g[0] = 0.25f * g0 - sum * (1 / 6.0f) + sum2 * (1 / 24.0f);
    g[s] = dif2 * (1 / 12.0f) - dif * (1 / 6.0f);
    g[2 * s] = (sum2 - sum) * (1 / 6.0f) + g5;
}

/* ---- stride 2: F(2, 2) at 0, 1 and infinity, F(4, 2) at 0, 1, -1, 2 and infinity ---- */

/* m + 1 inputs of F(m, 2) to its products. */
WINOGRAD void winograd_pair_input(int m, vec *v, int s, vec d0, vec d1, vec d2, vec d3, vec d4)
{
    if (m == 2) {
        v[0] = d0 - d1;
        v[s] = d1;
        v[2 * s] = d1 - d2;
        return;
    }
    vec ends = d3 - d1, middle = d3 - d2;
    v[0] = 2 * (d0 - d2) + ends;
    v[s] = middle - 2 * d1;
    v[2 * s] = middle + 2 * (d1 - d2);
    v[3 * s] = ends;
    v[4 * s] = d4 - d2 - 2 * ends;
}

/* 2 m + 1 inputs, even and odd by turns, to products. */
WINOGRAD void winograd_strided_input(int m, vec *d, int s)
{
    vec e0 = d[0], o0 = d[s], e1 = d[2 * s], o1 = d[3 * s], e2 = d[4 * s];
    if (m == 2) {
        winograd_pair_input(m, d, s, e0, e1, e2, e2, e2);
        d[3 * s] = o0;
        d[4 * s] = o1;
        return;
    }
    vec o2 = d[5 * s], e3 = d[6 * s], o3 = d[7 * s], e4 = d[8 * s];
    winograd_pair_input(m, d, s, e0, e1, e2, e3, e4);
    d[5 * s] = o0;
    d[6 * s] = o1;
    d[7 * s] = o2;
    d[8 * s] = o3;
}

/* m + 1 gradients of y to products. */
WINOGRAD void winograd_spread_input(int m, vec *d, int s)
{
    vec d0 = d[0], d1 = d[s], d2 = d[2 * s];
    if (m == 2) {
        winograd_pair_input(m, d, s, d0, d1, d2, d2, d2);
        d[3 * s] = d0;
        d[4 * s] = d1;
        return;
    }
    vec d3 = d[3 * s], d4 = d[4 * s];
    winograd_pair_input(m, d, s, d0, d1, d2, d3, d4);
    d[5 * s] = d0;
    d[6 * s] = d1;
    d[7 * s] = d2;
    d[8 * s] = d3;
}

/* Products of F(m, 2) to its m outputs. */
WINOGRAD void winograd_pair_output(int m, vec *y, int s)
{
    vec y0 = y[0], y1 = y[s], y2 = y[2 * s];
    if (m == 2) {
        y[0] = y0 + y1;
        y[s] = y1 - y2;
        return;
    }
    vec y3 = y[3 * s], y4 = y[4 * s], sum = y1 + y2, dif = y1 - y2;
    y[0] = y0 + sum + y3;
    y[s] = dif + 2 * y3;
    y[2 * s] = sum + 4 * y3;
    y[3 * s] = dif + 8 * y3 + y4;
}

WINOGRAD void winograd_strided_output(int m, vec *y, int s)
{
    winograd_pair_output(m, y, s);
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) y[i * s] += y[(m + 1 + i) * s];
}

/* 2 m outputs, odd and even by turns. */
WINOGRAD void winograd_spread_output(int m, vec *y, int s)
{
    vec odd[4];
    winograd_pair_output(m, y, s);
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) odd[i] = y[(m + 1 + i) * s];
#pragma GCC unroll 4
    for (int i = m - 1; i >= 0; i--) {
        y[(2 * i + 1) * s] = y[i * s];
        y[2 * i * s] = odd[i];
    }
}

WINOGRAD void winograd_strided_filter(int m, vec *g, int s)
{
    vec g0 = g[0], g1 = g[s], g2 = g[2 * s];
    if (m == 2) {
        g[s] = g0 + g2;
        g[3 * s] = g1;
        return;
    }
    g[0] = 0.5f * g0;
    g[s] = -0.5f * (g0 + g2);
    g[2 * s] = (g2 - g0) * (1 / 6.0f);
    g[3 * s] = g0 * (1 / 6.0f) + g2 * (1 / 3.0f);
    g[4 * s] = g2;
    g[5 * s] = g1;
}

WINOGRAD void winograd_strided_output_gradient(int m, vec *y, int s)
{
    vec y0 = y[0], y1 = y[s];
    if (m == 2) {
        y[s] = y0 + y1;
        y[2 * s] = -y1;
        y[3 * s] = y0;
        y[4 * s] = y1;
        return;
    }
    vec y2 = y[2 * s], y3 = y[3 * s], even = y0 + y2, odd = y1 + y3;
    y[s] = even + odd;
    y[2 * s] = even - odd;
    y[3 * s] = y0 + 2 * y1 + 4 * y2 + 8 * y3;
    y[4 * s] = y3;
    y[5 * s] = y0;
    y[6 * s] = y1;
    y[7 * s] = y2;
    y[8 * s] = y3;
}

WINOGRAD void winograd_strided_filter_gradient(int m, vec *g, int s)
{
    vec g0 = g[0], g1 = g[s], g2 = g[2 * s], g3 = g[3 * s];
    if (m == 2) {
        g[0] = g0 + g1;
        g[s] = g3;
        g[2 * s] = g1 + g2;
        return;
    }
    vec g4 = g[4 * s], g5 = g[5 * s];
    g[0] = 0.5f * (g0 - g1) + (g3 - g2) * (1 / 6.0f);
    g[s] = g5;
    g[2 * s] = g2 * (1 / 6.0f) + g3 * (1 / 3.0f) - 0.5f * g1 + g4;
}

/* ---- by form ---- */

typedef void (*winograd_1d)(winograd_form f, vec *v, int s);

WINOGRAD void winograd_input_1d(winograd_form f, vec *v, int s)
{
    if (winograd_is_spread(f))
        winograd_spread_input(winograd_m(f), v, s);
    else if (winograd_is_strided(f))
        winograd_strided_input(winograd_m(f), v, s);
    else
        winograd_unit_input(winograd_m(f), v, s);
}

WINOGRAD void winograd_output_1d(winograd_form f, vec *v, int s)
{
    if (winograd_is_spread(f))
        winograd_spread_output(winograd_m(f), v, s);
    else if (winograd_is_strided(f))
        winograd_strided_output(winograd_m(f), v, s);
    else
        winograd_unit_output(winograd_m(f), v, s);
}

WINOGRAD void winograd_filter_1d(winograd_form f, vec *v, int s)
{
    if (winograd_is_strided(f))
        winograd_strided_filter(winograd_m(f), v, s);
    else
        winograd_unit_filter(winograd_m(f), v, s);
}

WINOGRAD void winograd_output_gradient_1d(winograd_form f, vec *v, int s)
{
    if (winograd_is_strided(f))
        winograd_strided_output_gradient(winograd_m(f), v, s);
    else
        winograd_unit_output_gradient(winograd_m(f), v, s);
}

WINOGRAD void winograd_filter_gradient_1d(winograd_form f, vec *v, int s)
{
    if (winograd_is_strided(f))
        winograd_strided_filter_gradient(winograd_m(f), v, s);
    else
        winograd_unit_filter_gradient(winograd_m(f), v, s);
}

#endif
