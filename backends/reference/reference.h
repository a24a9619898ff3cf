/* The reference: every step kind in float64, in loops that are meant to be read.
 *
 * A buffer keeps one cell for every two bytes of the planned memory. A float or 32-bit integer that
 * a step wrote is held as a double in its first cell, unrounded; bytes that the host wrote are held
 * as raw 16-bit words and decoded by whoever reads them. So offsets, windows and the reuse of
 * arenas mean here exactly what they mean on a device. */
#ifndef GB_BACKENDS_REFERENCE_H
#define GB_BACKENDS_REFERENCE_H

#include "backends/backend.h"

enum { GB_REF_EMPTY = GB_S_COUNT, GB_REF_RAW }; /* tags of a cell beside those of gb_storage */

struct gb_backend_buffer {
    uint64_t cells;
    double *value;
    uint8_t *tag;
};

struct gb_backend_program {
    const gb_plan *plan;
    gb_backend_buffer **buffer; /* as bound; not owned */
    double *scalar;             /* step scalars of the current run */
};

typedef gb_status gb_ref_kind(const gb_backend_program *p, const gb_step *s, gb_error *err);

/* --- memory.c --- */
gb_status gb_ref_buffer_create(gb_backend_device *dev, uint64_t bytes, gb_backend_buffer **buf,
                               gb_error *err);
void gb_ref_buffer_destroy(gb_backend_device *dev, gb_backend_buffer *buf);
gb_status gb_ref_buffer_write(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                              uint64_t bytes, const void *src, gb_error *err);
gb_status gb_ref_buffer_read(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                             uint64_t bytes, void *dst, gb_error *err);
gb_status gb_ref_read_f64(gb_backend_device *dev, gb_backend_buffer *buf, const gb_operand *where,
                          double *dst, gb_error *err);
gb_status gb_ref_write_f64(gb_backend_device *dev, gb_backend_buffer *buf,
                           const gb_operand *where, const double *src, gb_error *err);
/* The element of o at coord. An element that nobody wrote is NaN, or the least integer. */
double gb_ref_load(const gb_backend_program *p, const gb_operand *o, const int64_t *coord);
void gb_ref_store(const gb_backend_program *p, const gb_operand *o, const int64_t *coord, double v);

int64_t gb_ref_count(const int64_t *dim, int rank);
/* Steps coord to the next place in row-major order; false after the last. */
bool gb_ref_next(int64_t *coord, const int64_t *dim, int rank);
/* A row-major copy of an operand, to be freed; NULL: no memory (err is filled). */
double *gb_ref_dense(const gb_backend_program *p, const gb_operand *o, gb_error *err);
double *gb_ref_alloc(int64_t n, gb_error *err); /* zeros */
void gb_ref_scatter(const gb_backend_program *p, const gb_operand *o, const double *dense);

gb_ref_kind gb_ref_pointwise, gb_ref_reduce, gb_ref_argreduce; /* pointwise.c */
gb_ref_kind gb_ref_matmul, gb_ref_conv, gb_ref_conv_input, gb_ref_conv_filter; /* contract.c */
gb_ref_kind gb_ref_maxpool, gb_ref_maxpool_grad, gb_ref_avgpool, gb_ref_avgpool_grad; /* pool.c */
gb_ref_kind gb_ref_gather, gb_ref_gather_grad; /* gather.c */

#endif
