/* Winograd's convolutions: 3 × 3 windows as FULL × FULL products of transformed tiles, one matrix
 * product for each place of a tile (Lavin and Gray, "Fast algorithms for convolutional neural
 * networks", 2016). With stride 2 (docs/decisions/0008-strides-through-winograd.md) taps 0 and 2
 * meet the even pixels, F(m, 2), and tap 1 the odd ones, m products with one filter. F(2×2) is as
 * accurate as the direct way; F(4×4), which multiplies less still, is not, and waits for `math:
 * fast`. */
#ifndef GB_BACKENDS_GPU_WINOGRAD_H
#define GB_BACKENDS_GPU_WINOGRAD_H

#include "backends/gpu/manifest.h"

enum { GB_WINOGRAD_TAPS = 3, GB_WINOGRAD_FULL = 9 };

typedef struct gb_transform { /* multiplied from the left, and its transpose from the right */
    int rows, columns;
    double v[GB_WINOGRAD_FULL][GB_WINOGRAD_FULL];
} gb_transform;

/* What happens along one axis. Stride 1 interpolates at points and at infinity: transforms of
 * filters and results follow from the points and from the scale of each. Those of stride 2 are
 * given. */
typedef struct gb_tiling {
    int side;        /* pixels of the result */
    int reads, step; /* pixels of the image; from a tile's first to the next one's */
    int full;        /* places of a transformed tile */
    int filters;     /* a place's own, but that all places from the last one's on share it */
    double point[5], scale[5];
    double data[GB_WINOGRAD_FULL][GB_WINOGRAD_FULL]; /* full × reads */
    double filter[6][GB_WINOGRAD_TAPS];              /* filters × taps */
    double result[8][GB_WINOGRAD_FULL];              /* side × full */
} gb_tiling;

const gb_tiling *gb_winograd_tiling(const gb_step *s);
gb_transform gb_winograd_data(const gb_tiling *t);
gb_transform gb_winograd_filter(const gb_tiling *t);   /* taps to filters */
gb_transform gb_winograd_result(const gb_tiling *t);   /* products to pixels */
gb_transform gb_winograd_gradient(const gb_tiling *t); /* the result's gradient to places */
gb_transform gb_winograd_sums(const gb_tiling *t);     /* sums of filters to the gradient of taps */
/* DOWN(j) makes column j of e = m · d, ACROSS(i) row i of e · mᵀ, given to PUT(place, value). */
void gb_winograd_define(gb_gk *k, const gb_transform *m);

/* The window allows it (of stride 1, where nothing else is said), the channels are so many and a
 * multiple of that, and it saves multiplications: tiles may cover more than a small image. */
bool gb_winograd_suits(const gb_step *step, int64_t least, int64_t multiple);

/* The tiles of a step, whatever runs their products. Forward and to the input the rows of products
 * are tiles, and k and columns channels; for the filter's gradient rows are the image's channels,
 * columns the output's, and k is tiles. */
typedef struct gb_tiles {
    const gb_tiling *t;
    int64_t images, grid[2]; /* along the axes of an image */
    int64_t places, filters; /* of a tile */
    int64_t pad[2];
    int64_t channels[2]; /* of in[0]; of the output, or of its gradient */
} gb_tiles;

gb_tiles gb_winograd_tiles(const gb_step *s);
int64_t gb_winograd_count(const gb_tiles *w, int64_t images); /* of tiles */

/* TILES_H and TILES_W, for all parts. */
void gb_winograd_grid(gb_gk *k, const gb_tiles *w);
/* What shaders/winograd_image.gk and winograd_result.gk need beside the walk over tiles and the
 * memory of transformed ones. pad NULL: none. */
void gb_winograd_image(gb_gk *k, const gb_tiles *w, const gb_operand *x, const gb_transform *m,
                       const int64_t *pad);
void gb_winograd_results(gb_gk *k, const gb_step *s, const gb_tiles *w);
/* Transforms the filter, in[1] of the step, to what is packed: [filter][panel][k][width], or, where
 * width is 0, [filter][k][column]. */
gb_status gb_winograd_taps(gb_gpu_builder *b, int64_t width, uint32_t lanes);

typedef struct gb_winograd_shares { /* floats in the scratch: [share][filter][m][pitch] */
    uint64_t at;
    int64_t shares, m, n, pitch;
} gb_winograd_shares;

/* Adds up the shares and transforms them to the filter's gradient, out[0]. lanes: items of a group;
 * 1: items are wide. */
gb_status gb_winograd_join(gb_gpu_builder *b, const gb_winograd_shares *sums, uint32_t lanes);

#endif
