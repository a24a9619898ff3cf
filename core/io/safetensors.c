/* safetensors: 8 bytes of header length (little-endian), a JSON header, the data. The header maps
 * names to {"dtype", "shape", "data_offsets": [begin, end]}; the ranges tile the data exactly. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "core/base/file.h"
#include "core/io/tensors.h"

#define MAX_HEADER 100000000u /* the format's own limit */

static const char *const dtype_names[GB_DTYPE_COUNT] = {
    [GB_F32] = "F32", [GB_F64] = "F64", [GB_F16] = "F16",  [GB_BF16] = "BF16", [GB_I8] = "I8",
    [GB_U8] = "U8",   [GB_I16] = "I16", [GB_U16] = "U16",  [GB_I32] = "I32",   [GB_U32] = "U32",
    [GB_I64] = "I64", [GB_U64] = "U64", [GB_BOOL] = "BOOL"};

/* A tensor that the header describes, before memory is given to it. */
typedef struct entry {
    const char *name; /* the JSON document's */
    gb_dtype dtype;
    gb_shape shape;
    uint64_t begin, end;
} entry;

typedef struct reader {
    gb_input *in;
    json_t *header;
    entry *entries;
    size_t count;
    uint64_t data_size;
} reader;

static gb_status corrupt(const reader *r, gb_error *err, const char *tensor, const char *what)
{
    return gb_fail(err, GB_FORMAT, r->in->name, "the file is damaged: copy or download it again",
                   "tensor '%.200s': %s", tensor, what);
}

static gb_status read_header(reader *r, gb_error *err)
{
    uint8_t b[8];
    gb_status s = gb_input_read(r->in, b, sizeof b, err);
    if (s) return s;
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | b[i];
    if (length > MAX_HEADER || length > r->in->left)
        return gb_fail(err, GB_FORMAT, r->in->name, "give a safetensors file that is complete",
                       "a header of %llu bytes does not fit into the file",
                       (unsigned long long)length);
    char *text = malloc(length + 1);
    if (!text) return gb_fail(err, GB_OUT_OF_MEMORY, r->in->name, NULL, "no memory for the header");
    json_error_t why = {.text = "no JSON object"};
    s = gb_input_read(r->in, text, length, err);
    if (!s) r->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
    free(text);
    if (!s && !json_is_object(r->header))
        s = gb_fail(err, GB_FORMAT, r->in->name, "give a safetensors file that is complete",
                    "the header is not valid: %s", why.text);
    r->data_size = r->in->left;
    return s;
}

static gb_status parse_shape(const reader *r, const char *name, const json_t *dims, gb_shape *shape,
                             gb_error *err)
{
    if (!json_is_array(dims)) return corrupt(r, err, name, "its shape is not a list");
    size_t rank = json_array_size(dims);
    if (rank > GB_MAX_RANK)
        return gb_fail(err, GB_UNSUPPORTED, r->in->name, NULL,
                       "tensor '%.200s' has %zu dimensions; gimbal has at most %d", name, rank,
                       GB_MAX_RANK);
    shape->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(dims, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return corrupt(r, err, name, "its shape holds something that is no size");
        shape->dim[i] = json_integer_value(d);
    }
    return GB_OK;
}

static gb_status parse_dtype(const reader *r, const char *name, const json_t *value,
                             gb_dtype *dtype, gb_error *err)
{
    const char *text = json_string_value(value);
    if (!text) return corrupt(r, err, name, "it has no dtype");
    for (int i = 0; i < GB_DTYPE_COUNT; i++)
        if (strcmp(text, dtype_names[i]) == 0) {
            *dtype = (gb_dtype)i;
            return GB_OK;
        }
    return gb_fail(err, GB_UNSUPPORTED, r->in->name, "convert it to F32, F16 or BF16",
                   "tensor '%.200s' has the dtype '%.40s', which gimbal does not have", name, text);
}

static gb_status parse_entry(const reader *r, const char *name, const json_t *value, entry *e,
                             gb_error *err)
{
    *e = (entry){.name = name};
    if (!json_is_object(value)) return corrupt(r, err, name, "its entry is no object");
    gb_status s = parse_dtype(r, name, json_object_get(value, "dtype"), &e->dtype, err);
    if (!s) s = parse_shape(r, name, json_object_get(value, "shape"), &e->shape, err);
    if (s) return s;
    const json_t *range = json_object_get(value, "data_offsets");
    const json_t *begin = json_array_get(range, 0), *end = json_array_get(range, 1);
    if (json_array_size(range) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return corrupt(r, err, name, "its data_offsets are no range");
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    if (e->end > r->data_size) return corrupt(r, err, name, "its data lies beyond the file's end");
    int64_t n = gb_shape_count(&e->shape);
    uint64_t size = e->end - e->begin, width = gb_dtype_size(e->dtype);
    if (n < 0 || size % width || size / width != (uint64_t)n)
        return corrupt(r, err, name, "its shape and dtype do not match its data_offsets");
    return GB_OK;
}

static gb_status parse_metadata(const reader *r, json_t *object, gb_tensors *list, gb_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object)) return corrupt(r, err, "__metadata__", "it is no object");
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value)) return corrupt(r, err, "__metadata__", "a value is no text");
        gb_status s = gb_tensors_append_metadata(list, key, json_string_value(value), err);
        if (s) return s;
    }
    return GB_OK;
}

static int by_offset(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end; /* empty ones before what starts there */
}

static gb_status parse_entries(reader *r, gb_tensors *list, gb_error *err)
{
    const char *name;
    json_t *value;
    r->entries = calloc(json_object_size(r->header) + 1, sizeof *r->entries);
    if (!r->entries)
        return gb_fail(err, GB_OUT_OF_MEMORY, r->in->name, NULL, "no memory for the header");
    json_object_foreach(r->header, name, value)
    {
        gb_status s = strcmp(name, "__metadata__") == 0
                          ? parse_metadata(r, value, list, err)
                          : parse_entry(r, name, value, &r->entries[r->count++], err);
        if (s) return s;
    }
    qsort(r->entries, r->count, sizeof *r->entries, by_offset);
    uint64_t at = 0;
    for (size_t i = 0; i < r->count; i++) {
        if (r->entries[i].begin != at)
            return corrupt(r, err, r->entries[i].name,
                           r->entries[i].begin < at ? "its data overlaps another tensor's"
                                                    : "there is a gap before its data");
        at = r->entries[i].end;
    }
    if (at == r->data_size) return GB_OK;
    return gb_fail(err, GB_FORMAT, r->in->name, "the file is damaged: copy or download it again",
                   "%llu bytes at its end belong to no tensor",
                   (unsigned long long)(r->data_size - at));
}

/* The ranges tile the data in this order, so reading on is enough. */
static gb_status read_data(const reader *r, gb_tensors *list, gb_error *err)
{
    for (size_t i = 0; i < r->count; i++) {
        const entry *e = &r->entries[i];
        gb_named_tensor *item;
        gb_status s = gb_tensors_append(list, e->name, &item, err);
        if (!s) s = gb_tensor_alloc(&item->tensor, e->dtype, &e->shape, err);
        if (!s) s = gb_input_read(r->in, item->tensor.data, e->end - e->begin, err);
        if (s) return s;
        uint8_t *bytes = item->tensor.data;
        for (uint64_t k = 0; e->dtype == GB_BOOL && k < e->end - e->begin; k++)
            if (bytes[k] > 1) return corrupt(r, err, e->name, "a BOOL is neither 0 nor 1");
    }
    return GB_OK;
}

static gb_status read_list(gb_tensors *list, gb_input *in, gb_error *err)
{
    reader r = {.in = in};
    gb_status s = read_header(&r, err);
    if (!s) s = parse_entries(&r, list, err);
    if (!s) s = read_data(&r, list, err);
    free(r.entries);
    json_decref(r.header);
    gb_input_close(in);
    if (s) gb_tensors_free(list);
    return s;
}

gb_status gb_safetensors_read(gb_tensors *list, const char *path, gb_error *err)
{
    *list = (gb_tensors){0};
    gb_input in;
    gb_status s = gb_input_open(&in, path, err);
    return s ? s : read_list(list, &in, err);
}

gb_status gb_safetensors_parse(gb_tensors *list, const uint8_t *bytes, size_t length,
                               const char *name, gb_error *err)
{
    *list = (gb_tensors){0};
    gb_input in;
    gb_status s = gb_input_memory(&in, bytes, length, name, err);
    return s ? s : read_list(list, &in, err);
}

/* ---- writing ---- */

/* Calls for each tensor, wide element types first: then all data is aligned. */
#define FOR_EACH_WRITTEN(list, i)                                                                  \
    for (size_t width = 8; width; width /= 2)                                                      \
        for (size_t i = 0; i < (list)->count; i++)                                                 \
            if (gb_dtype_size((list)->items[i].tensor.dtype) == width)

static json_t *describe(const gb_tensor *t, uint64_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->shape.rank; i++)
        json_array_append_new(shape, json_integer(t->shape.dim[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_names[t->dtype], "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + gb_tensor_bytes(t)));
}

/* The header's text, padded so that the data starts at a multiple of 8; NULL without memory, where
 * a name is no UTF-8 or the format's limit is passed. */
static char *header_text(const gb_tensors *list, size_t *length)
{
    json_t *header = json_object(), *metadata = json_object();
    uint64_t at = 0;
    int failed = !header || !metadata;
    for (size_t i = 0; i < list->metadata_count; i++)
        failed |= json_object_set_new(metadata, list->metadata[i].key,
                                      json_string(list->metadata[i].value));
    if (list->metadata_count) failed |= json_object_set(header, "__metadata__", metadata);
    FOR_EACH_WRITTEN(list, i)
    {
        failed |=
            json_object_set_new(header, list->items[i].name, describe(&list->items[i].tensor, at));
        at += gb_tensor_bytes(&list->items[i].tensor);
    }
    char *json = failed ? NULL : json_dumps(header, JSON_COMPACT), *text = NULL;
    *length = json ? (strlen(json) + 7) / 8 * 8 : 0;
    if (json && *length <= MAX_HEADER && asprintf(&text, "%-*s", (int)*length, json) < 0)
        text = NULL;
    free(json);
    json_decref(header);
    json_decref(metadata);
    return text;
}

static gb_status write_list(const gb_tensors *list, const char *text, size_t length, gb_writer *w,
                            gb_error *err)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)((uint64_t)length >> 8 * i);
    gb_status s = gb_writer_write(w, b, sizeof b, err);
    if (!s) s = gb_writer_write(w, text, length, err);
    FOR_EACH_WRITTEN(list, i)
    {
        const gb_tensor *t = &list->items[i].tensor;
        if (!s) s = gb_writer_write(w, t->data, gb_tensor_bytes(t), err);
    }
    return s;
}

gb_status gb_safetensors_write(const gb_tensors *list, const char *path, gb_error *err)
{
    size_t length = 0;
    char *text = header_text(list, &length);
    if (!text)
        return gb_fail(err, GB_INVALID, path, "use fewer tensors with names in UTF-8",
                       "the names and shapes of %zu tensors make no valid header", list->count);
    gb_writer *w;
    gb_status s = gb_writer_open(&w, path, err);
    if (!s) s = write_list(list, text, length, w, err);
    free(text);
    if (!s) return gb_writer_commit(&w, err);
    gb_writer_abort(&w);
    return s;
}
