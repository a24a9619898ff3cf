/* Tensors of ONNX files: raw bytes, typed lists, or bytes in a file beside the model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/io/onnx.h"

static const int32_t type_numbers[GB_DTYPE_COUNT] = {
    [GB_F32] = 1, [GB_U8] = 2,   [GB_I8] = 3,   [GB_U16] = 4,  [GB_I16] = 5,  [GB_I32] = 6,  [GB_I64] = 7,
    [GB_BOOL] = 9, [GB_F16] = 10, [GB_F64] = 11, [GB_U32] = 12, [GB_U64] = 13, [GB_BF16] = 16,
};

bool gb_onnx_dtype(int32_t number, gb_dtype *dtype)
{
    for (int i = 0; i < GB_DTYPE_COUNT; i++)
        if (type_numbers[i] == number) {
            *dtype = (gb_dtype)i;
            return true;
        }
    return false;
}

int32_t gb_onnx_type_number(gb_dtype dtype)
{
    return type_numbers[dtype];
}

static gb_status bad(gb_error *err, const char *file, const GbOnnx__Tensor *t, const char *what)
{
    return gb_fail(err, GB_FORMAT, file, "export the model again", "tensor '%s' %s",
                   t->name ? t->name : "", what);
}

/* Elements of 16 bits and less lie in int32_data one by one; 16-bit floats as their bits. */
static gb_status from_int32(const GbOnnx__Tensor *t, gb_tensor *out)
{
    size_t size = gb_dtype_size(out->dtype);
    for (size_t i = 0; i < t->n_int32_data; i++)
        memcpy((char *)out->data + i * size, &t->int32_data[i], size); /* little-endian host */
    return GB_OK;
}

static gb_status from_lists(const GbOnnx__Tensor *t, const char *file, gb_tensor *out, gb_error *err)
{
    size_t n = gb_dtype_size(out->dtype) ? gb_tensor_bytes(out) / gb_dtype_size(out->dtype) : 0;
    size_t have;
    switch (out->dtype) {
    case GB_F32: have = t->n_float_data; break;
    case GB_F64: have = t->n_double_data; break;
    case GB_I64: have = t->n_int64_data; break;
    case GB_U32:
    case GB_U64: have = t->n_uint64_data; break;
    default: have = t->n_int32_data; break;
    }
    if (have != n) return bad(err, file, t, "does not have as many elements as its shape says");
    if (n == 0) return GB_OK;
    switch (out->dtype) {
    case GB_F32: memcpy(out->data, t->float_data, n * 4); return GB_OK;
    case GB_F64: memcpy(out->data, t->double_data, n * 8); return GB_OK;
    case GB_I64: memcpy(out->data, t->int64_data, n * 8); return GB_OK;
    case GB_U64: memcpy(out->data, t->uint64_data, n * 8); return GB_OK;
    case GB_U32:
        for (size_t i = 0; i < n; i++) ((uint32_t *)out->data)[i] = (uint32_t)t->uint64_data[i];
        return GB_OK;
    default: return from_int32(t, out);
    }
}

static bool number_of(const char *text, uint64_t *value)
{
    char *end;
    if (*text < '0' || *text > '9') return false;
    *value = strtoull(text, &end, 10);
    return *end == 0;
}

/* The place names a file in the model's own folder; a path that leaves it is refused. */
static gb_status from_file(const GbOnnx__Tensor *t, const char *folder, const char *file,
                           gb_tensor *out, gb_error *err)
{
    const char *location = NULL;
    uint64_t offset = 0, length = gb_tensor_bytes(out);
    for (size_t i = 0; i < t->n_external_data; i++) {
        const char *key = t->external_data[i]->key, *value = t->external_data[i]->value;
        if (!key || !value) continue;
        if (strcmp(key, "location") == 0) location = value;
        if ((strcmp(key, "offset") == 0 && !number_of(value, &offset)) ||
            (strcmp(key, "length") == 0 && !number_of(value, &length)))
            return bad(err, file, t, "says where its data lies with something that is no number");
    }
    if (!folder || !location || location[0] == '/' || strstr(location, ".."))
        return bad(err, file, t, "has its data outside of the model's folder");
    if (length != gb_tensor_bytes(out) || offset > INT64_MAX)
        return bad(err, file, t, "has external data of the wrong length");
    char *path = gb_path_join(folder, location);
    if (!path) return gb_fail(err, GB_OUT_OF_MEMORY, file, NULL, "no memory for a path");
    gb_input in;
    gb_status status = gb_input_open(&in, path, err);
    if (!status) {
        if (offset > in.left || fseeko(in.file, (off_t)offset, SEEK_SET))
            status = bad(err, path, t, "starts behind the end of the file");
        else in.left -= offset;
        if (!status) status = gb_input_read(&in, out->data, length, err);
        gb_input_close(&in);
    }
    free(path);
    return status;
}

static gb_status fill(const GbOnnx__Tensor *t, const char *folder, const char *file, gb_tensor *out,
                      gb_error *err)
{
    gb_status status = GB_OK;
    if (t->has_data_location && t->data_location == 1)
        status = from_file(t, folder, file, out, err);
    else if (t->has_raw_data && t->raw_data.len != gb_tensor_bytes(out))
        return bad(err, file, t, "does not have as many bytes as its shape says");
    else if (t->has_raw_data)
        memcpy(out->data, t->raw_data.data ? t->raw_data.data : (uint8_t *)"", t->raw_data.len);
    else status = from_lists(t, file, out, err);
    if (status || out->dtype != GB_BOOL) return status;
    uint8_t *bytes = out->data;
    for (size_t i = 0; i < gb_tensor_bytes(out); i++) bytes[i] = bytes[i] != 0;
    return GB_OK;
}

gb_status gb_onnx_tensor_decode(const GbOnnx__Tensor *t, const char *folder, const char *file,
                                gb_tensor *out, gb_error *err)
{
    gb_dtype dtype;
    gb_shape shape = {.rank = (int)t->n_dims};
    memset(out, 0, sizeof *out);
    if (!gb_onnx_dtype(t->data_type, &dtype))
        return gb_fail(err, GB_UNSUPPORTED, file, "convert the model to float32",
                       "tensor '%s' has element type %d, which gimbal does not have",
                       t->name ? t->name : "", (int)t->data_type);
    if (t->n_dims > GB_MAX_RANK) return bad(err, file, t, "has more than 8 dimensions");
    for (size_t i = 0; i < t->n_dims; i++) {
        if (t->dims[i] < 0) return bad(err, file, t, "has a negative dimension");
        shape.dim[i] = t->dims[i];
    }
    /* Before memory is taken: what the file holds must suffice, unless it is elsewhere. */
    int64_t count = gb_shape_count(&shape);
    size_t held = t->raw_data.len + t->n_float_data + t->n_int32_data + t->n_int64_data +
                  t->n_double_data + t->n_uint64_data;
    bool external = t->has_data_location && t->data_location == 1;
    if (count < 0 || (!external && (uint64_t)count > held))
        return bad(err, file, t, "has less data than its shape says");
    gb_status status = gb_tensor_alloc(out, dtype, &shape, err);
    if (!status) status = fill(t, folder, file, out, err);
    if (status) gb_tensor_free(out);
    return status;
}
