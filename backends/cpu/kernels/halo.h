/* Copies of image rows with zeros around them, so that inner loops need no bounds. */
#ifndef GB_BACKENDS_CPU_KERNELS_HALO_H
#define GB_BACKENDS_CPU_KERNELS_HALO_H

#include <string.h>

#include "backends/cpu/kernels/level.h"

typedef struct halo {
    int64_t h, w, c;   /* of an image */
    int64_t x0, pitch; /* pixels x0 .. x0 + pitch of a row are copied, zero outside the image */
} halo;

static inline void halo_copy_row(const halo *g, float *to, const float *image, int64_t y)
{
    size_t pixel = (size_t)g->c * sizeof *to;
    int64_t end = g->x0 + g->pitch, from = g->x0 < 0 ? 0 : min_of(g->x0, g->w);
    int64_t until = y < 0 || y >= g->h || end < from ? from : min_of(end, g->w);
    int64_t left = min_of(from - g->x0 < 0 ? 0 : from - g->x0, g->pitch);
    memset(to, 0, (size_t)left * pixel);
    if (until > from)
        memcpy(to + left * g->c, image + (y * g->w + from) * g->c, (size_t)(until - from) * pixel);
    int64_t done = left + until - from;
    memset(to + done * g->c, 0, (size_t)(g->pitch - done) * pixel);
}

#endif
