/* C = A · B for drivers that run on CPUs (shaders/panel.gk): A is walked where it lies, a matrix or
 * an image under a window; B lies in panels. Matrices, convolutions and Winograd's products share
 * it. */
#ifndef GB_BACKENDS_GPU_PANEL_H
#define GB_BACKENDS_GPU_PANEL_H

#include "backends/gpu/manifest.h"
#include "backends/gpu/space.h"

typedef struct gb_panel {  /* one product; strides count elements */
    int64_t m[3], k[3], n; /* rows, k and columns; rows and k on three levels, the last fastest */
    int64_t a_m[3], a_k[3], a_first;
    int64_t b_panel, b_step; /* from panel to panel, from k to k */
    bool in_rows; /* B is read where it lies: a last panel that is not whole begins earlier */
    int64_t shares; /* k[0] is cut into shares of share each, one batch item a share; 1: none */
    int64_t share;
    int rows, vectors;   /* of the register block */
    int64_t rows_of_a;   /* where m counts more, since the last block is not whole; else 0 */
    gb_space batch;
} gb_panel;

int64_t gb_panel_width(const gb_panel *p);
int64_t gb_panel_count(const gb_panel *p); /* panels */
int64_t gb_panel_k(const gb_panel *p);
void gb_panel_choose(gb_panel *p, const gb_gpu_caps *caps); /* rows and vectors */
/* Where a block's rows of A begin; side by side they need one address. */
void gb_panel_rows(gb_gk *k, bool side_by_side);
/* The product's part of a kernel whose operands a and b are bound; then its launch. */
void gb_panel_define(gb_gk *k, const gb_panel *p);
gb_status gb_panel_finish(gb_gk *k, const gb_panel *p, const char *name);

/* Where an operand of the result's shape lies: strides of the three row levels and of columns. */
typedef struct gb_place {
    int64_t m[3], n;
} gb_place;

/* Binds the epilogue's operands and the output of a step. */
void gb_panel_bind_results(gb_gk *k, const gb_step *s);
/* Defines the epilogue of acc and its store. place has an entry for each of the step's inputs (the
 * first two unused) and then one for the output. */
void gb_panel_result(gb_gk *k, const gb_step *s, const gb_place *place);
/* Instead: stores to o0, [batch][m][columns of whole panels]. */
void gb_panel_sums(gb_gk *k, const gb_panel *p);

typedef struct gb_pack { /* B, or A with its rows as columns, before packing: strides of k's levels
                          * and of columns, and an offset */
    int64_t offset, k[3], stride[3], n;
    gb_space batch; /* operands b and p */
} gb_pack;

/* Packs the step's in[1], to byte offset of what is packed. */
gb_status gb_panel_pack(gb_gpu_builder *b, const gb_panel *p, const gb_pack *from, uint64_t offset,
                        uint64_t bytes);
/* Packs the step's in[0], rows as columns, p->rows a panel, to the start of the scratch. */
gb_status gb_panel_pack_rows(gb_gpu_builder *b, const gb_panel *p, const gb_pack *from,
                             uint64_t bytes);

/* An image as the window walks it: with its halo, spread where a strided gradient needs it. */
typedef struct gb_halo {
    const gb_operand *image;
    int64_t height, width, pad[2], up[2];
    bool copy; /* false: the image can be walked where it lies */
} gb_halo;

gb_halo gb_halo_of(const gb_operand *image, const int64_t *out, const gb_window *v,
                   const int64_t stride[2], const int64_t pad[2], const int64_t up[2]);
uint64_t gb_halo_bytes(const gb_halo *h);
/* Strides of image, line and pixel as the window walks them. */
void gb_halo_strides(const gb_halo *h, int64_t s[3]);
gb_status gb_halo_copy(gb_gpu_builder *b, const gb_halo *h); /* to the start of the scratch */
void gb_halo_bind(gb_gk *k, const char *name, const gb_halo *h);

uint64_t gb_align256(uint64_t bytes);
uint64_t gb_float_bytes(int64_t count); /* of floats, aligned so */
bool gb_not_empty(const gb_operand *o);

#endif
