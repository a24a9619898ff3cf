/* Copies of image rows with zeros around them, so that inner loops need no bounds. */
#ifndef GB_BACKENDS_CPU_KERNELS_HALO_H
#define GB_BACKENDS_CPU_KERNELS_HALO_H

#include <string.h>

#include "backends/cpu/kernels/real.h"

typedef struct halo {
    int64_t h, w, c; /* of an image */
    gb_real type;
    int64_t x0, pitch; /* pixels x0 .. x0 + pitch of a row are copied, zero outside the image */
} halo;

/* image: element `at` of what `from` points to. */
static inline void halo_copy_row(const halo *g, float *to, const float *from, int64_t at, int64_t y)
{
    size_t pixel = (size_t)g->c * sizeof *to;
    int64_t end = g->x0 + g->pitch, begin = g->x0 < 0 ? 0 : min_of(g->x0, g->w);
    int64_t until = y < 0 || y >= g->h || end < begin ? begin : min_of(end, g->w);
    int64_t left = min_of(begin - g->x0 < 0 ? 0 : begin - g->x0, g->pitch);
    memset(to, 0, (size_t)left * pixel);
    if (until > begin)
        real_read(g->type, to + left * g->c, from, at + (y * g->w + begin) * g->c,
                  (until - begin) * g->c);
    int64_t done = left + until - begin;
    memset(to + done * g->c, 0, (size_t)(g->pitch - done) * pixel);
}

#endif
