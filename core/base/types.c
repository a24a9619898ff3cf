#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/types.h>

#include "core/base/half.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[GB_DTYPE_COUNT] = {
    [GB_F32] = {"f32", 4}, [GB_F64] = {"f64", 8}, [GB_F16] = {"f16", 2}, [GB_BF16] = {"bf16", 2},
    [GB_I8] = {"i8", 1},   [GB_U8] = {"u8", 1},   [GB_I16] = {"i16", 2}, [GB_U16] = {"u16", 2},
    [GB_I32] = {"i32", 4}, [GB_U32] = {"u32", 4}, [GB_I64] = {"i64", 8}, [GB_U64] = {"u64", 8},
    [GB_BOOL] = {"bool", 1},
};

size_t gb_dtype_size(gb_dtype dtype)
{
    return (unsigned)dtype < GB_DTYPE_COUNT ? dtypes[dtype].size : 0;
}

const char *gb_dtype_name(gb_dtype dtype)
{
    return (unsigned)dtype < GB_DTYPE_COUNT ? dtypes[dtype].name : "?";
}

bool gb_dtype_is_float(gb_dtype dtype)
{
    return dtype == GB_F32 || dtype == GB_F64 || dtype == GB_F16 || dtype == GB_BF16;
}

gb_dtype gb_precision_dtype(gb_precision precision)
{
    return precision == GB_PRECISION_F16 ? GB_F16 : precision == GB_PRECISION_BF16 ? GB_BF16 : GB_F32;
}

gb_shape gb_shape_of(int rank, ...)
{
    gb_shape s = {.rank = rank};
    va_list args;
    va_start(args, rank);
    for (int i = 0; i < rank && i < GB_MAX_RANK; i++) s.dim[i] = va_arg(args, int);
    va_end(args);
    return s;
}

bool gb_shape_equal(const gb_shape *a, const gb_shape *b)
{
    return a->rank == b->rank &&
           memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

int64_t gb_shape_count(const gb_shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] == 0) return 0;
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 0 || n > (INT64_C(1) << 62) / s->dim[i]) return -1;
        n *= s->dim[i];
    }
    return n;
}

char *gb_shape_text(const gb_shape *s, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < s->rank && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, i ? ", %lld" : "%lld",
                                 (long long)s->dim[i]);
    if (used < size) snprintf(text + used, size - used, "]");
    return text;
}

gb_status gb_tensor_alloc(gb_tensor *t, gb_dtype dtype, const gb_shape *shape, gb_error *err)
{
    *t = (gb_tensor){.dtype = dtype, .shape = *shape};
    char text[160];
    int64_t n = gb_shape_count(shape);
    if (n < 0 || gb_dtype_size(dtype) == 0)
        return gb_fail(err, GB_INVALID, gb_shape_text(shape, text, sizeof text),
                       "use a smaller shape", "a tensor of this shape cannot be addressed");
    size_t bytes = ((size_t)n * gb_dtype_size(dtype) + 63) / 64 * 64;
    t->data = aligned_alloc(64, bytes ? bytes : 64);
    if (!t->data)
        return gb_fail(err, GB_OUT_OF_MEMORY, gb_shape_text(shape, text, sizeof text),
                       "use a smaller batch or model", "no memory for a tensor of %zu bytes",
                       bytes);
    memset(t->data, 0, bytes ? bytes : 64);
    return GB_OK;
}

void gb_tensor_free(gb_tensor *t)
{
    if (!t) return;
    free(t->data);
    *t = (gb_tensor){0};
}

size_t gb_tensor_bytes(const gb_tensor *t)
{
    int64_t n = gb_shape_count(&t->shape);
    return n < 0 ? 0 : (size_t)n * gb_dtype_size(t->dtype);
}

double gb_tensor_get(const gb_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case GB_F32: return ((const float *)t->data)[i];
    case GB_F64: return ((const double *)t->data)[i];
    case GB_F16: return gb_f16_to_f32(((const uint16_t *)t->data)[i]);
    case GB_BF16: return gb_bf16_to_f32(((const uint16_t *)t->data)[i]);
    case GB_I8: return ((const int8_t *)t->data)[i];
    case GB_U8:
    case GB_BOOL: return ((const uint8_t *)t->data)[i];
    case GB_I16: return ((const int16_t *)t->data)[i];
    case GB_U16: return ((const uint16_t *)t->data)[i];
    case GB_I32: return ((const int32_t *)t->data)[i];
    case GB_U32: return ((const uint32_t *)t->data)[i];
    case GB_I64: return (double)((const int64_t *)t->data)[i];
    case GB_U64: return (double)((const uint64_t *)t->data)[i];
    default: return 0;
    }
}

/* Casting a double outside an integer's range is undefined in C: clamp first, NaN becomes 0. */
static double clamp(double v, double lo, double hi)
{
    return isnan(v) ? 0 : v < lo ? lo : v > hi ? hi : v;
}

int64_t gb_tensor_get_int(const gb_tensor *t, int64_t i)
{
    if (t->dtype == GB_I64) return ((const int64_t *)t->data)[i];
    double v = gb_tensor_get(t, i);
    return v >= 0x1p63 ? INT64_MAX : (int64_t)clamp(v, -0x1p63, 0x1.fffffffffffffp62);
}

void gb_tensor_set(gb_tensor *t, int64_t i, double v)
{
    switch (t->dtype) {
    case GB_F32: ((float *)t->data)[i] = (float)v; break;
    case GB_F64: ((double *)t->data)[i] = v; break;
    case GB_F16: ((uint16_t *)t->data)[i] = gb_f32_to_f16((float)v); break;
    case GB_BF16: ((uint16_t *)t->data)[i] = gb_f32_to_bf16((float)v); break;
    case GB_I8: ((int8_t *)t->data)[i] = (int8_t)clamp(v, INT8_MIN, INT8_MAX); break;
    case GB_U8: ((uint8_t *)t->data)[i] = (uint8_t)clamp(v, 0, UINT8_MAX); break;
    case GB_BOOL: ((uint8_t *)t->data)[i] = v != 0; break;
    case GB_I16: ((int16_t *)t->data)[i] = (int16_t)clamp(v, INT16_MIN, INT16_MAX); break;
    case GB_U16: ((uint16_t *)t->data)[i] = (uint16_t)clamp(v, 0, UINT16_MAX); break;
    case GB_I32: ((int32_t *)t->data)[i] = (int32_t)clamp(v, INT32_MIN, INT32_MAX); break;
    case GB_U32: ((uint32_t *)t->data)[i] = (uint32_t)clamp(v, 0, UINT32_MAX); break;
    case GB_I64: ((int64_t *)t->data)[i] = (int64_t)clamp(v, -0x1p63, 0x1.fffffffffffffp62); break;
    case GB_U64: ((uint64_t *)t->data)[i] = (uint64_t)clamp(v, 0, 0x1.fffffffffffffp63); break;
    default: break;
    }
}
