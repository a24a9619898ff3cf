/* Winograd's convolutions: 3 × 3 windows of stride 1 as FULL × FULL products of transformed tiles,
 * one matrix product for each place of a tile (Lavin and Gray, "Fast algorithms for convolutional
 * neural networks", 2016). F(2×2) is as accurate as the direct way; F(4×4), which multiplies less
 * still, is not, and waits for `math: fast`. */
#ifndef GB_BACKENDS_GPU_WINOGRAD_H
#define GB_BACKENDS_GPU_WINOGRAD_H

#include "backends/gpu/manifest.h"

enum { GB_WINOGRAD_TAPS = 3, GB_WINOGRAD_FULL = 6 };

/* Interpolation at these points and at infinity. data is the transform of a tile of the image;
 * those of filters and results follow from the points and from the scale of each. */
typedef struct gb_tiling {
    int side; /* pixels of the result along one axis */
    int full; /* places of a transformed tile: side + GB_WINOGRAD_TAPS - 1 */
    double point[GB_WINOGRAD_FULL - 1], scale[GB_WINOGRAD_FULL - 1];
    double data[GB_WINOGRAD_FULL][GB_WINOGRAD_FULL];
} gb_tiling;

typedef struct gb_transform { /* multiplied from the left, and its transpose from the right */
    int rows, columns;
    double v[GB_WINOGRAD_FULL][GB_WINOGRAD_FULL];
} gb_transform;

const gb_tiling *gb_winograd_tiling(const gb_step *s);
gb_transform gb_winograd_data(const gb_tiling *t);
/* Of what is multiplied with the data: n taps of a filter, or n pixels of a gradient. */
gb_transform gb_winograd_filter(const gb_tiling *t, int n);
gb_transform gb_winograd_result(const gb_tiling *t, int n); /* of products to n results */
/* DOWN(j) makes column j of e = m · d, ACROSS(i) row i of e · mᵀ, given to PUT(place, value). */
void gb_winograd_define(gb_gk *k, const gb_transform *m);

/* The window allows it, the channels are so many and a multiple of that, and tiles do not cover
 * much more than the image. */
bool gb_winograd_suits(const gb_step *step, int64_t least, int64_t multiple);

/* The tiles of a step, whatever runs their products. Forward and to the input the rows of products
 * are tiles, and k and columns channels; for the filter's gradient rows are the image's channels,
 * columns the output's, and k is tiles. */
typedef struct gb_tiles {
    const gb_tiling *t;
    int64_t images, grid[2], places; /* grid: along the axes of an image; places: full² */
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
/* Transforms the filter, in[1] of the step, to what is packed: [place][panel][k][width], or, where
 * width is 0, [place][k][column]. */
gb_status gb_winograd_taps(gb_gpu_builder *b, int64_t width, uint32_t lanes);

typedef struct gb_winograd_sums { /* floats in the scratch: [share][place][m][pitch] */
    uint64_t at;
    int64_t shares, m, n, pitch;
} gb_winograd_sums;

/* Adds up the shares and transforms them to the filter's gradient, out[0]. lanes: items of a group;
 * 1: items are wide. */
gb_status gb_winograd_join(gb_gpu_builder *b, const gb_winograd_sums *sums, uint32_t lanes);

#endif
