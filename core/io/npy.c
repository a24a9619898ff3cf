/* .npy: "\x93NUMPY", version, header length, a Python dictionary in text, the elements. */
#include <stdlib.h>
#include <string.h>

#include <gimbal/io.h>

#include "core/base/file.h"

static const char *const descriptions[GB_DTYPE_COUNT] = {
    [GB_F32] = "<f4", [GB_F64] = "<f8", [GB_F16] = "<f2", [GB_I8] = "|i1",
    [GB_U8] = "|u1",  [GB_I16] = "<i2", [GB_U16] = "<u2", [GB_I32] = "<i4",
    [GB_U32] = "<u4", [GB_I64] = "<i8", [GB_U64] = "<u8", [GB_BOOL] = "|b1"};

static const char magic[6] = "\x93NUMPY";

/* ---- the header's dictionary ---- */

typedef struct header {
    char descr[16];
    bool fortran;
    gb_shape shape;
} header;

static void skip_spaces(const char **p)
{
    *p += strspn(*p, " \t\n\r\f");
}

/* Skips c and the spaces around it. */
static bool take(const char **p, char c)
{
    skip_spaces(p);
    if (**p != c) return false;
    ++*p;
    skip_spaces(p);
    return true;
}

static bool take_text(const char **p, char *text, size_t size)
{
    char quote = **p;
    if (quote != '\'' && quote != '"') return false;
    const char *end = strchr(*p + 1, quote);
    size_t n = end ? (size_t)(end - *p - 1) : size;
    if (n >= size) return false;
    memcpy(text, *p + 1, n);
    text[n] = 0;
    *p = end + 1;
    return true;
}

static bool take_word(const char **p, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*p, word, n)) return false;
    *p += n;
    return true;
}

static bool take_shape(const char **p, gb_shape *shape)
{
    *shape = (gb_shape){0};
    if (!take(p, '(')) return false;
    while (**p >= '0' && **p <= '9') {
        int64_t d = 0;
        for (; **p >= '0' && **p <= '9'; ++*p) {
            if (d > INT64_MAX / 16 || shape->rank == GB_MAX_RANK) return false;
            d = 10 * d + (**p - '0');
        }
        shape->dim[shape->rank++] = d;
        if (!take(p, ',')) break;
    }
    return take(p, ')');
}

/* The keys may come in any order, each once. */
static bool parse_dictionary(const char *p, header *h)
{
    char key[16];
    int seen = 0;
    if (!take(&p, '{')) return false;
    while (take_text(&p, key, sizeof key)) {
        bool ok = take(&p, ':');
        int bit = 0;
        if (ok && strcmp(key, "descr") == 0) {
            bit = 1;
            ok = take_text(&p, h->descr, sizeof h->descr);
        } else if (ok && strcmp(key, "fortran_order") == 0) {
            bit = 2;
            h->fortran = take_word(&p, "True");
            ok = h->fortran || take_word(&p, "False");
        } else if (ok && strcmp(key, "shape") == 0) {
            bit = 4;
            ok = take_shape(&p, &h->shape);
        }
        if (!ok || !bit || seen & bit) return false;
        seen |= bit;
        if (!take(&p, ',')) break;
    }
    return seen == 7 && take(&p, '}') && !*p;
}

static gb_status read_header(gb_input *in, header *h, gb_error *err)
{
    uint8_t b[12];
    gb_status s = gb_input_read(in, b, 10, err);
    if (s) return s;
    bool wide = b[6] >= 2;
    if (memcmp(b, magic, sizeof magic) || b[6] < 1 || b[6] > 3)
        return gb_fail(err, GB_FORMAT, in->name, "give a .npy file",
                       "this is no .npy file of version 1, 2 or 3");
    if (wide && (s = gb_input_read(in, b + 10, 2, err))) return s;
    size_t length = (size_t)b[8] | (size_t)b[9] << 8;
    if (wide) length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    char *text = length <= 1 << 20 ? calloc(length + 1, 1) : NULL;
    if (!text)
        return gb_fail(err, GB_FORMAT, in->name, "give a plain array",
                       "a header of %zu bytes is too large", length);
    s = gb_input_read(in, text, length, err);
    if (!s && (strlen(text) != length || !parse_dictionary(text, h)))
        s = gb_fail(err, GB_FORMAT, in->name,
                    "give an array of plain numbers with at most 8 dimensions",
                    "the header is not understood: %.200s", text);
    free(text);
    return s;
}

static gb_status find_dtype(const gb_input *in, const header *h, gb_dtype *dtype, gb_error *err)
{
    for (int i = 0; i < GB_DTYPE_COUNT; i++)
        if (descriptions[i] && strcmp(descriptions[i], h->descr) == 0) {
            *dtype = (gb_dtype)i;
            return GB_OK;
        }
    return gb_fail(err, GB_UNSUPPORTED, in->name,
                   "save it as little-endian numbers, for example with array.astype('<f4')",
                   "elements of type '%s' are not supported", h->descr);
}

/* ---- reading ---- */

/* Element i of Fortran order counts the first dimension fastest. */
static gb_status to_row_major(gb_tensor *t, gb_error *err)
{
    gb_tensor out;
    gb_status s = gb_tensor_alloc(&out, t->dtype, &t->shape, err);
    if (s) return s;
    size_t width = gb_dtype_size(t->dtype);
    int64_t n = gb_shape_count(&t->shape), index[GB_MAX_RANK] = {0};
    for (int64_t i = 0; i < n; i++) {
        int64_t at = 0;
        for (int d = 0; d < t->shape.rank; d++) at = at * t->shape.dim[d] + index[d];
        memcpy((char *)out.data + (size_t)at * width, (char *)t->data + (size_t)i * width, width);
        for (int d = 0; d < t->shape.rank && ++index[d] == t->shape.dim[d]; d++) index[d] = 0;
    }
    gb_tensor_free(t);
    *t = out;
    return GB_OK;
}

static gb_status read_array(gb_tensor *t, gb_input *in, gb_error *err)
{
    header h = {0};
    gb_dtype dtype = GB_F32;
    gb_status s = read_header(in, &h, err);
    if (!s) s = find_dtype(in, &h, &dtype, err);
    if (s) return s;
    int64_t n = gb_shape_count(&h.shape);
    size_t width = gb_dtype_size(dtype), rest = in->left;
    if (n < 0 || rest % width || rest / width != (uint64_t)n)
        return gb_fail(err, GB_FORMAT, in->name, "the file is damaged: write or copy it again",
                       "its %zu bytes of data do not match its shape", rest);
    s = gb_tensor_alloc(t, dtype, &h.shape, err);
    if (!s) s = gb_input_read(in, t->data, rest, err);
    uint8_t *bytes = t->data;
    for (size_t i = 0; !s && dtype == GB_BOOL && i < rest; i++) bytes[i] = bytes[i] != 0;
    if (!s && h.fortran && h.shape.rank > 1) s = to_row_major(t, err);
    if (s) gb_tensor_free(t);
    return s;
}

gb_status gb_npy_read(gb_tensor *t, const char *path, gb_error *err)
{
    *t = (gb_tensor){0};
    gb_input in;
    gb_status s = gb_input_open(&in, path, err);
    if (s) return s;
    s = read_array(t, &in, err);
    gb_input_close(&in);
    return s;
}

gb_status gb_npy_parse(gb_tensor *t, const uint8_t *bytes, size_t length, const char *name,
                       gb_error *err)
{
    *t = (gb_tensor){0};
    gb_input in;
    gb_status s = gb_input_memory(&in, bytes, length, name, err);
    if (s) return s;
    s = read_array(t, &in, err);
    gb_input_close(&in);
    return s;
}

/* ---- writing ---- */

static gb_status write_array(const gb_tensor *t, gb_writer *w, gb_error *err)
{
    char text[256], shape[192] = "";
    size_t used = 0;
    for (int i = 0; i < t->shape.rank; i++)
        used += (size_t)snprintf(shape + used, sizeof shape - used, "%lld, ",
                                 (long long)t->shape.dim[i]);
    /* Python writes (3,) but (3, 4). */
    if (used) shape[t->shape.rank == 1 ? used - 1 : used - 2] = 0;
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                     descriptions[t->dtype], shape);
    unsigned length = ((unsigned)n + 11 + 63) / 64 * 64 - 10; /* data starts at a multiple of 64 */
    gb_status s = gb_writer_write(w, magic, sizeof magic, err);
    if (!s)
        s = gb_writer_write(w, (uint8_t[]){1, 0, (uint8_t)length, (uint8_t)(length >> 8)}, 4, err);
    if (!s) s = gb_writer_printf(w, err, "%-*s\n", (int)length - 1, text);
    if (!s) s = gb_writer_write(w, t->data, gb_tensor_bytes(t), err);
    return s;
}

gb_status gb_npy_write(const gb_tensor *t, const char *path, gb_error *err)
{
    if (!descriptions[t->dtype])
        return gb_fail(err, GB_UNSUPPORTED, path, "convert the tensor to f32",
                       "numpy has no element type %s", gb_dtype_name(t->dtype));
    gb_writer *w;
    gb_status s = gb_writer_open(&w, path, err);
    if (s) return s;
    s = write_array(t, w, err);
    if (!s) return gb_writer_commit(&w, err);
    gb_writer_abort(&w);
    return s;
}
