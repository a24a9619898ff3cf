/* The transforms of Winograd's minimal filtering F(m x m, 3 x 3) for m = 2 and 4: with a tile d of
 * (m + 2) x (m + 2) inputs and a filter g, the m x m outputs are A^T [(G g G^T) * (B^T d B)] A.
 * The gradient of g is the transpose of that: G^T [(A dy A^T) * (B^T d B)] G.
 * Each works on vectors of channels, m being a constant where it is used. */
#ifndef GB_BACKENDS_CPU_KERNELS_WINOGRAD_H
#define GB_BACKENDS_CPU_KERNELS_WINOGRAD_H

#include "backends/cpu/kernels/impl.h"
#include "backends/cpu/kernels/real.h"

enum { WINOGRAD_POSITIONS = 36, WINOGRAD_PAD = 16 /* floats, against aliasing of cache sets */ };

#define WINOGRAD static inline __attribute__((always_inline))

/* d[0], d[s], ... in place. */
WINOGRAD void winograd_input_1d(int m, vec *d, int s)
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

/* m + 2 values in, m out, in place. */
WINOGRAD void winograd_output_1d(int m, vec *y, int s)
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

/* 3 values in, m + 2 out, in place. */
WINOGRAD void winograd_filter_1d(int m, vec *g, int s)
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

/* The transpose of output: m values in, m + 2 out, in place. */
WINOGRAD void winograd_output_gradient_1d(int m, vec *y, int s)
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

/* The transpose of filter: m + 2 values in, 3 out, in place. */
WINOGRAD void winograd_filter_gradient_1d(int m, vec *g, int s)
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

typedef void (*winograd_1d)(int m, vec *v, int s);

/* Both dimensions of a square v of row length m + 2, of which `in` rows and columns are given and
 * `out` are wanted. */
WINOGRAD void winograd_2d(winograd_1d one, int m, int in, int out, vec *v)
{
#pragma GCC unroll 6
    for (int i = 0; i < in; i++) one(m, v + i * (m + 2), 1);
#pragma GCC unroll 6
    for (int j = 0; j < out; j++) one(m, v + j, m + 2);
}

/* Compilers would compute the address of each of up to 36 loads and stores outside the loop over
 * channels, and spill them all. */
static inline const float *opaque(const float *p)
{
    __asm__("" : "+r"(p));
    return p;
}

WINOGRAD void winograd_scatter(int positions, const vec *v, float *to, int64_t stride)
{
#pragma GCC unroll 36
    for (int i = 0; i < positions; i++, to += stride) {
        if (i % 4 == 0) to = (float *)opaque(to);
        store(to, v[i]);
    }
}

/* From tile to tile: whole vectors, and rows of a register tile not all in one cache set. */
static inline int64_t winograd_pitch(int64_t channels)
{
    int64_t floats = round_up(channels, LANES);
    return floats % 512 ? floats : floats + WINOGRAD_PAD;
}

/* Where the vector of channels from c on begins: the last of them overlaps the one before it if
 * the channels do not fill vectors, so that nothing is read or written beyond them. */
static inline int64_t winograd_channel(int64_t c, int64_t channels)
{
    return min_of(c, channels - LANES);
}

/* Transforms a square of `size` x `size` pixels, row and column steps in elements, for all
 * channels; position i goes to to[i * stride]. */
WINOGRAD void winograd_square(winograd_1d one, int m, int size, gb_real type, const float *from,
                              int64_t row, int64_t pixel, float *to, int64_t stride,
                              int64_t channels)
{
    const int a = m + 2;
    for (int64_t c = 0; c < channels; c += LANES) {
        vec d[WINOGRAD_POSITIONS];
        int64_t first = winograd_channel(c, channels);
        const float *p = real_at(type, from, first);
#pragma GCC unroll 6
        for (int i = 0; i < size; i++, p = real_at(type, p, row)) {
            p = opaque(p);
#pragma GCC unroll 6
            for (int k = 0; k < size; k++) d[i * a + k] = real_load(type, p, k * pixel);
        }
        winograd_2d(one, m, size, a, d);
        winograd_scatter(a * a, d, to + first, stride);
    }
}

/* Channels of an image, and what is read for pixels outside of it. */
typedef struct winograd_image {
    gb_real type;
    const float *pixels, *zeros;
    int64_t h, w, channels, pixel; /* pixel: elements from one to the next */
} winograd_image;

/* The same for the square from (y0, x0) on, which may reach over the image's edge. */
WINOGRAD void winograd_square_at(winograd_1d one, int m, int size, const winograd_image *g,
                                 int64_t y0, int64_t x0, float *to, int64_t stride)
{
    if (y0 >= 0 && x0 >= 0 && y0 + size <= g->h && x0 + size <= g->w) {
        const float *first = real_at(g->type, g->pixels, (y0 * g->w + x0) * g->pixel);
        winograd_square(one, m, size, g->type, first, g->w * g->pixel, g->pixel, to, stride,
                        g->channels);
        return;
    }
    const int a = m + 2;
    const float *from[WINOGRAD_POSITIONS];
    for (int i = 0; i < size; i++)
        for (int k = 0; k < size; k++) {
            int64_t y = y0 + i, x = x0 + k;
            bool inside = y >= 0 && y < g->h && x >= 0 && x < g->w;
            from[i * a + k] = inside ? real_at(g->type, g->pixels, (y * g->w + x) * g->pixel) : g->zeros;
        }
    for (int64_t c = 0; c < g->channels; c += LANES) {
        vec d[WINOGRAD_POSITIONS];
        int64_t first = winograd_channel(c, g->channels);
        for (int i = 0; i < size; i++)
            for (int k = 0; k < size; k++) d[i * a + k] = real_load(g->type, from[i * a + k], first);
        winograd_2d(one, m, size, a, d);
        winograd_scatter(a * a, d, to + first, stride);
    }
}

/* Asks for the pixels of that square that the one to its left does not share, into the second
 * level of cache: rows of an image often collide in the first. */
static inline void winograd_prefetch(const winograd_image *g, int m, int size, int64_t y0,
                                     int64_t x0)
{
    int64_t y1 = min_of(y0 + size, g->h), x1 = min_of(x0 + size, g->w);
    x0 += x0 < 0 ? 0 : size - m;
    for (int64_t y = y0 < 0 ? 0 : y0; y < y1; y++)
        for (int64_t x = x0 < 0 ? 0 : x0; x < x1; x++) {
            const char *pixel =
                (const char *)real_at(g->type, g->pixels, (y * g->w + x) * g->pixel);
            int64_t bytes = g->channels * (g->type == GB_REAL_F32 ? 4 : 2);
            for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(pixel + b, 0, 2);
        }
}

/* Can F(m x m, 3 x 3) do this convolution (any kind)? Channels must fill a vector, and vectors
 * that overlap cannot be added to what is there. */
static inline bool winograd_fits(const gb_contraction *p)
{
    const gb_conv_dims *d = &p->conv;
    return p->kind != GB_GEMM && d->kh == 3 && d->kw == 3 && d->stride_h == 1 && d->stride_w == 1 &&
           d->dilation_h == 1 && d->dilation_w == 1 && d->groups == 1 && d->c >= LANES &&
           d->o >= LANES && !(p->accumulate && (d->c % LANES || d->o % LANES));
}

/* Is it faster than a direct convolution? Transforming tiles costs the same for any number of
 * channels on the other side, and transforming filters for any number of pixels, if it is not done
 * once for all runs. */
static inline bool winograd_pays(const gb_contraction *p, int64_t channels)
{
    enum { PIXELS = 128, PIXELS_IF_PACKED = 64 };
    const gb_conv_dims *d = &p->conv;
    return d->n * d->oh * d->ow >= (p->b_stays ? PIXELS_IF_PACKED : PIXELS) && min_of(d->c, d->o) >= channels;
}

#endif
