/* Host tensors are dense and row-major; in device memory the planner chose the order, and integers
 * and booleans have 32 bits. */
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/runtime/runtime.h"

gb_status gb_check_tensor(const gb_tensor *t, gb_dtype dtype, const gb_shape *shape,
                          const char *what, const char *name, gb_error *err)
{
    char want[160], got[160];
    if (!t || (!t->data && gb_tensor_bytes(t)))
        return gb_fail(err, GB_INVALID, name, NULL, "%s '%s' got no tensor", what, name);
    bool wide = t->dtype == GB_F64 && gb_dtype_is_float(dtype);
    if ((t->dtype == dtype || wide) && gb_shape_equal(&t->shape, shape)) return GB_OK;
    return gb_fail(err, GB_INVALID, name, "convert or reshape it", "%s '%s' is %s %s, but got %s %s",
                   what, name, gb_dtype_name(dtype), gb_shape_text(shape, want, sizeof want),
                   gb_dtype_name(t->dtype), gb_shape_text(&t->shape, got, sizeof got));
}

/* --- windows --- */

/* The bytes of a buffer that a window touches. */
typedef struct span {
    uint64_t offset, bytes;
    int64_t zero;  /* where element [0, 0, …] lies in it, counted in elements */
    bool row_major;
    bool gaps;     /* it holds elements of others too */
} span;

static span span_of(const gb_operand *w)
{
    int64_t below = 0, above = 0, count = 1;
    span s = {.row_major = true};
    for (int i = w->rank - 1; i >= 0; i--) {
        if (w->dim[i] > 1 && w->stride[i] != count) s.row_major = false;
        count *= w->dim[i];
        int64_t reach = (w->dim[i] - 1) * w->stride[i];
        *(reach < 0 ? &below : &above) += reach;
    }
    if (!count) return s;
    int64_t size = (int64_t)gb_storage_size(w->storage);
    s.offset = (uint64_t)((int64_t)w->offset + below * size);
    s.bytes = (uint64_t)((above - below + 1) * size);
    s.zero = -below;
    s.gaps = above - below + 1 != count;
    return s;
}

/* Has a host element the bits of a device element? */
static bool same_bits(gb_dtype dtype, gb_storage s)
{
    switch (s) {
    case GB_S_F32: return dtype == GB_F32;
    case GB_S_I32: return dtype == GB_I32 || dtype == GB_U32;
    case GB_S_F16: return dtype == GB_F16;
    case GB_S_BF16: return dtype == GB_BF16;
    default: return false;
    }
}

/* --- one element --- */

static bool put(const gb_tensor *t, int64_t i, gb_storage s, void *device)
{
    double v = gb_tensor_get(t, i);
    if (s == GB_S_I32) {
        if (v < INT32_MIN || v > INT32_MAX) return false; /* U32 never gets here: same bits */
        int32_t out = t->dtype == GB_BOOL ? v != 0 : (int32_t)v;
        memcpy(device, &out, 4);
        return true;
    }
    float f = (float)v;
    uint16_t h = s == GB_S_F16 ? gb_f32_to_f16(f) : gb_f32_to_bf16(f);
    memcpy(device, s == GB_S_F32 ? (void *)&f : (void *)&h, gb_storage_size(s));
    return true;
}

static void get(gb_tensor *t, int64_t i, gb_storage s, const void *device)
{
    int32_t n;
    float f;
    uint16_t h;
    memcpy(s == GB_S_I32 ? (void *)&n : s == GB_S_F32 ? (void *)&f : (void *)&h, device,
           gb_storage_size(s));
    double v = s == GB_S_I32   ? (t->dtype == GB_U32 ? (double)(uint32_t)n : n)
               : s == GB_S_F32 ? f
               : s == GB_S_F16 ? gb_f16_to_f32(h)
                               : gb_bf16_to_f32(h);
    gb_tensor_set(t, i, v);
}

/* --- rows: elements i … i + n of the host tensor, along its last axis --- */

static bool put_row(gb_tensor *t, int64_t i, int64_t n, gb_storage s, char *device, int64_t step)
{
    size_t size = gb_storage_size(s);
    if (same_bits(t->dtype, s) && size == 4) {
        const uint32_t *from = (const uint32_t *)t->data + i;
        uint32_t *to = (uint32_t *)device;
        for (int64_t k = 0; k < n; k++) to[k * step] = from[k];
        return true;
    }
    if (t->dtype == GB_U8 && s == GB_S_I32) {
        const uint8_t *from = (const uint8_t *)t->data + i;
        int32_t *to = (int32_t *)device;
        for (int64_t k = 0; k < n; k++) to[k * step] = from[k];
        return true;
    }
    for (int64_t k = 0; k < n; k++)
        if (!put(t, i + k, s, device + k * step * (int64_t)size)) return false;
    return true;
}

static bool get_row(gb_tensor *t, int64_t i, int64_t n, gb_storage s, char *device, int64_t step)
{
    size_t size = gb_storage_size(s);
    if (same_bits(t->dtype, s) && size == 4) {
        const uint32_t *from = (const uint32_t *)device;
        uint32_t *to = (uint32_t *)t->data + i;
        for (int64_t k = 0; k < n; k++) to[k] = from[k * step];
        return true;
    }
    for (int64_t k = 0; k < n; k++) get(t, i + k, s, device + k * step * (int64_t)size);
    return true;
}

typedef bool move_row(gb_tensor *t, int64_t i, int64_t n, gb_storage s, char *device, int64_t step);

/* Visits the rows of a tensor in order; element [0, 0, …] is at device. */
static bool each_row(gb_tensor *t, const gb_operand *w, char *device, move_row *move)
{
    int last = w->rank - 1;
    int64_t at[GB_MAX_RANK] = {0}, n = w->rank ? w->dim[last] : 1, step = w->rank ? w->stride[last] : 1;
    int64_t count = gb_shape_count(&t->shape);
    for (int64_t i = 0; i < count; i += n) {
        int64_t element = 0;
        for (int a = 0; a < last; a++) element += at[a] * w->stride[a];
        char *row = device + element * (int64_t)gb_storage_size(w->storage);
        if (!move(t, i, n, w->storage, row, step)) return false;
        for (int a = last - 1; a >= 0 && ++at[a] == w->dim[a]; a--) at[a] = 0;
    }
    return true;
}

/* --- transfers --- */

gb_status gb_upload(gb_device *d, gb_backend_buffer *buf, const gb_operand *where,
                    const gb_tensor *t, const char *name, gb_error *err)
{
    const gb_backend *b = d->backend;
    span s = span_of(where);
    if (!s.bytes) return GB_OK;
    if (t->dtype == GB_F64 && b->write_f64) return b->write_f64(d->dev, buf, where, t->data, err);
    if (s.row_major && same_bits(t->dtype, where->storage))
        return b->buffer_write(d->dev, buf, s.offset, s.bytes, t->data, err);
    char *host = gb_device_staging(d, s.bytes, err);
    if (!host) return GB_OUT_OF_MEMORY;
    if (s.gaps) {
        gb_status status = b->buffer_read(d->dev, buf, s.offset, s.bytes, host, err);
        if (status != GB_OK) return status;
    }
    gb_tensor from = *t; /* rows move both ways through one walk */
    if (!each_row(&from, where, host + s.zero * (int64_t)gb_storage_size(where->storage), put_row))
        return gb_fail(err, GB_INVALID, name, "integers have 32 bits on devices",
                       "'%s' holds an integer beyond 32 bits", name);
    return b->buffer_write(d->dev, buf, s.offset, s.bytes, host, err);
}

gb_status gb_download(gb_device *d, gb_backend_buffer *buf, const gb_operand *where, gb_tensor *t,
                      gb_error *err)
{
    const gb_backend *b = d->backend;
    span s = span_of(where);
    if (!s.bytes) return GB_OK;
    if (t->dtype == GB_F64 && b->read_f64) return b->read_f64(d->dev, buf, where, t->data, err);
    if (s.row_major && same_bits(t->dtype, where->storage))
        return b->buffer_read(d->dev, buf, s.offset, s.bytes, t->data, err);
    char *host = gb_device_staging(d, s.bytes, err);
    if (!host) return GB_OUT_OF_MEMORY;
    gb_status status = b->buffer_read(d->dev, buf, s.offset, s.bytes, host, err);
    if (status != GB_OK) return status;
    each_row(t, where, host + s.zero * (int64_t)gb_storage_size(where->storage), get_row);
    return GB_OK;
}
