/* Winograd's minimal filtering of images: squares of pixels taken to products and back, for vectors
 * of channels. What happens along an axis is in winograd_1d.h. */
#ifndef GB_BACKENDS_CPU_KERNELS_WINOGRAD_H
#define GB_BACKENDS_CPU_KERNELS_WINOGRAD_H

#include "backends/cpu/kernels/impl.h"
#include "backends/cpu/kernels/real.h"
#include "backends/cpu/kernels/winograd_1d.h"

enum { WINOGRAD_PAD = 16 /* floats, against aliasing of cache sets */ };
enum { WINOGRAD_SIDE = 9, WINOGRAD_SQUARE = WINOGRAD_SIDE * WINOGRAD_SIDE }; /* products, at most */

/* Both dimensions of a square v of rows of `pitch`, of which `in` rows and columns are given and
 * `out` are wanted. */
WINOGRAD void winograd_2d(winograd_1d one, winograd_form f, int in, int out, int pitch, vec *v)
{
#pragma GCC unroll 9
    for (int i = 0; i < in; i++) one(f, v + i * pitch, 1);
#pragma GCC unroll 9
    for (int j = 0; j < out; j++) one(f, v + j, pitch);
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
#pragma GCC unroll 81
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
 * channels; product i goes to to[i * stride]. */
WINOGRAD void winograd_square(winograd_1d one, winograd_form f, int size, gb_real type,
                              const float *from, int64_t row, int64_t pixel, float *to,
                              int64_t stride, int64_t channels)
{
    const int a = winograd_products(f);
    for (int64_t c = 0; c < channels; c += LANES) {
        vec d[WINOGRAD_SQUARE];
        int64_t first = winograd_channel(c, channels);
        const float *p = real_at(type, from, first);
#pragma GCC unroll 9
        for (int i = 0; i < size; i++, p = real_at(type, p, row)) {
            p = opaque(p);
#pragma GCC unroll 9
            for (int k = 0; k < size; k++) d[i * a + k] = real_load(type, p, k * pixel);
        }
        winograd_2d(one, f, size, a, a, d);
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
WINOGRAD void winograd_square_at(winograd_1d one, winograd_form f, int size,
                                 const winograd_image *g, int64_t y0, int64_t x0, float *to,
                                 int64_t stride)
{
    if (y0 >= 0 && x0 >= 0 && y0 + size <= g->h && x0 + size <= g->w) {
        const float *first = real_at(g->type, g->pixels, (y0 * g->w + x0) * g->pixel);
        winograd_square(one, f, size, g->type, first, g->w * g->pixel, g->pixel, to, stride,
                        g->channels);
        return;
    }
    const int a = winograd_products(f);
    const float *from[WINOGRAD_SQUARE];
    for (int i = 0; i < size; i++)
        for (int k = 0; k < size; k++) {
            int64_t y = y0 + i, x = x0 + k;
            bool inside = y >= 0 && y < g->h && x >= 0 && x < g->w;
            from[i * a + k] =
                inside ? real_at(g->type, g->pixels, (y * g->w + x) * g->pixel) : g->zeros;
        }
    for (int64_t c = 0; c < g->channels; c += LANES) {
        vec d[WINOGRAD_SQUARE];
        int64_t first = winograd_channel(c, g->channels);
        for (int i = 0; i < size; i++)
            for (int k = 0; k < size; k++)
                d[i * a + k] = real_load(g->type, from[i * a + k], first);
        winograd_2d(one, f, size, a, a, d);
        winograd_scatter(a * a, d, to + first, stride);
    }
}

/* Pixels of an image that are brought into the second level of cache while products are made: these
 * leave the memory idle, transforms wait for it. */
typedef struct winograd_ahead {
    const char *pixel; /* the next one */
    int64_t pixels;    /* that are left */
    int64_t step, bytes;
    int64_t each; /* pixels for a tile of products */
} winograd_ahead;

/* Rows [first, end) of an image, or of those that follow it, for so many tiles of products. */
static inline winograd_ahead winograd_rows_ahead(const winograd_image *g, int64_t first,
                                                 int64_t end, int64_t tiles)
{
    int64_t pixels = (end - first) * g->w, bytes = real_bytes(g->type);
    return (winograd_ahead){(const char *)real_at(g->type, g->pixels, first * g->w * g->pixel),
                            pixels, g->pixel * bytes, g->channels * bytes, ceil_div(pixels, tiles)};
}

static inline void winograd_bring(winograd_ahead *a, const bool write)
{
    for (int64_t i = min_of(a->each, a->pixels); i > 0; i--, a->pixels--, a->pixel += a->step)
        for (int64_t b = 0; b < a->bytes; b += 64)
            if (write)
                __builtin_prefetch(a->pixel + b, 1, 2);
            else
                __builtin_prefetch(a->pixel + b, 0, 2);
}

/* Gradients of strided images are made from tiles that begin with an odd pixel (counted with the
 * padding): then the first tile begins with the image. */
static inline bool winograd_has_stride(const gb_contraction *p)
{
    const gb_conv_dims *d = &p->conv;
    if (d->stride_h != d->stride_w || d->stride_h > 2) return false;
    return d->stride_h == 1 || p->kind != GB_CONV_DATA || (d->pad_top % 2 && d->pad_left % 2);
}

/* Can it do this convolution (any kind)? Channels must fill a vector, and vectors that overlap
 * cannot be added to what is there. */
static inline bool winograd_fits(const gb_contraction *p)
{
    const gb_conv_dims *d = &p->conv;
    return p->kind != GB_GEMM && d->kh == 3 && d->kw == 3 && winograd_has_stride(p) &&
           d->dilation_h == 1 && d->dilation_w == 1 && d->groups == 1 && d->c >= LANES &&
           d->o >= LANES && !(p->accumulate && (d->c % LANES || d->o % LANES));
}

static inline winograd_form winograd_form_of(const gb_contraction *p, int m)
{
    winograd_form f = p->conv.stride_h == 1     ? WINOGRAD_2
                      : p->kind == GB_CONV_DATA ? WINOGRAD_2_SPREAD
                                                : WINOGRAD_2_STRIDED;
    return f + (m == 4);
}

/* Multiplications for each image, and pair of channels. */
static inline int64_t winograd_work(const gb_contraction *p, int m)
{
    const gb_conv_dims *d = &p->conv;
    bool back = p->kind == GB_CONV_DATA;
    winograd_form f = winograd_form_of(p, m);
    int64_t makes = winograd_makes(f), products = winograd_products(f);
    return products * products * ceil_div(back ? d->h : d->oh, makes) *
           ceil_div(back ? d->w : d->ow, makes);
}

/* Is it faster than a direct convolution, and than F(2×2)? Transforming tiles costs the same for
 * any number of channels on the other side, and transforming filters for any number of pixels, if
 * it is not done once for all runs. With strides there is less to gain, and filters transformed are
 * larger. Of a small image tiles may cover so much more that nothing is saved. */
static inline bool winograd_pays(const gb_contraction *p, int m, int64_t channels)
{
    enum { PIXELS = 128, PIXELS_IF_PACKED = 64, PIXELS_STRIDED = 1024 };
    const gb_conv_dims *d = &p->conv;
    int64_t pixels = d->stride_h > 1 ? PIXELS_STRIDED : p->b_stays ? PIXELS_IF_PACKED : PIXELS;
    int64_t work = winograd_work(p, m), direct = 9 * d->oh * d->ow;
    return d->n * d->oh * d->ow >= pixels && min_of(d->c, d->o) >= channels &&
           5 * work <= 4 * direct && (m == 2 || work < winograd_work(p, 2));
}

#endif
