#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/reference/reference.h"
#include "core/base/half.h"

/* --- values and bits --- */

static int32_t wrap(double v)
{
    if (!(fabs(v) < 0x1p62)) return INT32_MIN;
    return (int32_t)(uint32_t)(int64_t)v;
}

static uint32_t encode(uint8_t tag, double v)
{
    switch (tag) {
    case GB_S_F32: return gb_f32_bits((float)v);
    case GB_S_I32: return (uint32_t)wrap(v);
    case GB_S_F16: return gb_f32_to_f16((float)v);
    default: return gb_f32_to_bf16((float)v);
    }
}

static double decode(uint8_t tag, uint32_t bits)
{
    switch (tag) {
    case GB_S_F32: return gb_bits_f32(bits);
    case GB_S_I32: return (int32_t)bits;
    case GB_S_F16: return gb_f16_to_f32((uint16_t)bits);
    default: return gb_bf16_to_f32((uint16_t)bits);
    }
}

static double empty(gb_storage s)
{
    return s == GB_S_I32 ? INT32_MIN : NAN;
}

static double cell_load(const gb_backend_buffer *b, uint64_t cell, gb_storage s)
{
    uint8_t tag = b->tag[cell];
    if (tag == s) return b->value[cell];
    if (tag == GB_REF_EMPTY) return empty(s);
    if (tag != GB_REF_RAW) return decode((uint8_t)s, encode(tag, b->value[cell]));
    uint32_t bits = (uint32_t)b->value[cell];
    if (gb_storage_size(s) == 4 && b->tag[cell + 1] == GB_REF_RAW)
        bits |= (uint32_t)b->value[cell + 1] << 16;
    return decode((uint8_t)s, bits);
}

/* 32-bit floats stay doubles; to 16 bits every device rounds, and so does the reference. */
static void cell_store(gb_backend_buffer *b, uint64_t cell, gb_storage s, double v)
{
    if (gb_storage_size(s) == 2) v = decode((uint8_t)s, encode((uint8_t)s, v));
    b->value[cell] = s == GB_S_I32 ? wrap(v) : v;
    b->tag[cell] = (uint8_t)s;
    if (gb_storage_size(s) == 4) b->tag[cell + 1] = GB_REF_EMPTY;
}

/* --- buffers --- */

gb_status gb_ref_buffer_create(gb_backend_device *dev, uint64_t bytes, gb_backend_buffer **buf,
                               gb_error *err)
{
    gb_backend_buffer *b = calloc(1, sizeof *b);
    *buf = NULL;
    if (b && bytes < UINT64_MAX / sizeof(double)) {
        b->cells = (bytes + 3) / 4 * 2;
        b->value = malloc(b->cells * sizeof *b->value);
        b->tag = malloc(b->cells);
    }
    if (!b || !b->value || !b->tag) {
        gb_ref_buffer_destroy(dev, b);
        return gb_fail(err, GB_OUT_OF_MEMORY, "reference", "use a smaller batch or model",
                       "the reference has no memory for a buffer of %llu planned bytes",
                       (unsigned long long)bytes);
    }
    memset(b->tag, GB_REF_EMPTY, b->cells);
    *buf = b;
    return GB_OK;
}

void gb_ref_buffer_destroy(gb_backend_device *dev, gb_backend_buffer *buf)
{
    if (!buf) return;
    free(buf->value);
    free(buf->tag);
    free(buf);
}

gb_status gb_ref_buffer_write(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                              uint64_t bytes, const void *src, gb_error *err)
{
    for (uint64_t i = 0; i < bytes / 2; i++) {
        uint16_t word;
        memcpy(&word, (const char *)src + 2 * i, 2);
        buf->value[offset / 2 + i] = word;
        buf->tag[offset / 2 + i] = GB_REF_RAW;
    }
    return GB_OK;
}

gb_status gb_ref_buffer_read(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                             uint64_t bytes, void *dst, gb_error *err)
{
    memset(dst, 0, bytes);
    for (uint64_t i = 0; i < bytes / 2; i++) {
        uint8_t tag = buf->tag[offset / 2 + i];
        double v = buf->value[offset / 2 + i];
        if (tag == GB_REF_EMPTY) continue; /* nothing, or the second half of an element */
        uint32_t bits = tag == GB_REF_RAW ? (uint32_t)v : encode(tag, v);
        size_t size = tag == GB_S_F32 || tag == GB_S_I32 ? 4 : 2;
        memcpy((char *)dst + 2 * i, &bits, size <= bytes - 2 * i ? size : 2);
    }
    return GB_OK;
}

/* --- windows --- */

static uint64_t cell_of(const gb_operand *o, const int64_t *coord)
{
    int64_t element = 0;
    for (int i = 0; i < o->rank; i++) element += coord[i] * o->stride[i];
    return (uint64_t)((int64_t)o->offset / 2 + element * (int64_t)(gb_storage_size(o->storage) / 2));
}

double gb_ref_load(const gb_backend_program *p, const gb_operand *o, const int64_t *coord)
{
    return cell_load(p->buffer[o->buffer], cell_of(o, coord), o->storage);
}

void gb_ref_store(const gb_backend_program *p, const gb_operand *o, const int64_t *coord, double v)
{
    cell_store(p->buffer[o->buffer], cell_of(o, coord), o->storage, v);
}

int64_t gb_ref_count(const int64_t *dim, int rank)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dim[i];
    return n;
}

bool gb_ref_next(int64_t *coord, const int64_t *dim, int rank)
{
    for (int i = rank - 1; i >= 0; i--) {
        if (++coord[i] < dim[i]) return true;
        coord[i] = 0;
    }
    return false;
}

gb_status gb_ref_read_f64(gb_backend_device *dev, gb_backend_buffer *buf, const gb_operand *where,
                          double *dst, gb_error *err)
{
    int64_t coord[GB_MAX_RANK] = {0}, n = gb_ref_count(where->dim, where->rank);
    for (int64_t i = 0; i < n; i++, gb_ref_next(coord, where->dim, where->rank))
        dst[i] = cell_load(buf, cell_of(where, coord), where->storage);
    return GB_OK;
}

gb_status gb_ref_write_f64(gb_backend_device *dev, gb_backend_buffer *buf,
                           const gb_operand *where, const double *src, gb_error *err)
{
    int64_t coord[GB_MAX_RANK] = {0}, n = gb_ref_count(where->dim, where->rank);
    for (int64_t i = 0; i < n; i++, gb_ref_next(coord, where->dim, where->rank))
        cell_store(buf, cell_of(where, coord), where->storage, src[i]);
    return GB_OK;
}

double *gb_ref_alloc(int64_t n, gb_error *err)
{
    double *a = calloc(n > 0 ? (size_t)n : 1, sizeof *a);
    if (!a)
        gb_fail(err, GB_OUT_OF_MEMORY, "reference", "use a smaller batch or model",
                "the reference has no memory for %lld elements", (long long)n);
    return a;
}

double *gb_ref_dense(const gb_backend_program *p, const gb_operand *o, gb_error *err)
{
    double *dense = gb_ref_alloc(gb_ref_count(o->dim, o->rank), err);
    if (dense) gb_ref_read_f64(NULL, p->buffer[o->buffer], o, dense, err);
    return dense;
}

void gb_ref_scatter(const gb_backend_program *p, const gb_operand *o, const double *dense)
{
    gb_ref_write_f64(NULL, p->buffer[o->buffer], o, dense, NULL);
}
