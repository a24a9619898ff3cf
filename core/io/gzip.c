#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include <gimbal/file.h>

typedef struct unpacker {
    z_stream z;
    uint8_t *data;
    size_t used, capacity, limit;
    const char *name;
} unpacker;

static gb_status damaged(const unpacker *u, gb_error *err)
{
    return gb_fail(err, GB_FORMAT, u->name, "copy or download it again",
                   "the compressed data is truncated or damaged (%s)",
                   u->z.msg ? u->z.msg : "unexpected end");
}

/* Room for more output. One byte over the limit may be filled: then the limit is passed. */
static gb_status grow(unpacker *u, gb_error *err)
{
    if (u->used > u->limit)
        return gb_fail(err, GB_FORMAT, u->name, "give a smaller file",
                       "the data unpacks to more than %zu bytes", u->limit);
    if (u->used < u->capacity) return GB_OK;
    size_t capacity = u->capacity ? 2 * u->capacity : 1 << 16;
    if (capacity > u->limit) capacity = u->limit + 1;
    uint8_t *data = realloc(u->data, capacity + 1);
    if (!data)
        return gb_fail(err, GB_OUT_OF_MEMORY, u->name, NULL, "no memory for %zu bytes", capacity);
    u->data = data;
    u->capacity = capacity;
    return GB_OK;
}

static uInt at_most(size_t n)
{
    return n < 1u << 30 ? (uInt)n : 1u << 30;
}

static gb_status unpack(unpacker *u, const uint8_t *bytes, size_t length, gb_error *err)
{
    size_t at = 0;
    for (int code = Z_OK;;) {
        gb_status s = grow(u, err);
        if (s) return s;
        /* Another member may follow the one that ended. */
        if (code == Z_STREAM_END && at == length) return GB_OK;
        if (code == Z_STREAM_END) inflateReset(&u->z);
        uInt in = at_most(length - at), out = at_most(u->capacity - u->used);
        u->z.next_in = (Bytef *)(uintptr_t)(bytes + at);
        u->z.avail_in = in;
        u->z.next_out = u->data + u->used;
        u->z.avail_out = out;
        code = inflate(&u->z, Z_NO_FLUSH);
        at += in - u->z.avail_in;
        u->used += out - u->z.avail_out;
        if (code == Z_MEM_ERROR)
            return gb_fail(err, GB_OUT_OF_MEMORY, u->name, NULL, "no memory to unpack");
        if (code != Z_OK && code != Z_STREAM_END) return damaged(u, err);
    }
}

gb_status gb_gunzip(const uint8_t *bytes, size_t length, size_t limit, const char *name,
                    uint8_t **data, size_t *size, gb_error *err)
{
    *data = NULL;
    *size = 0;
    unpacker u = {.limit = limit, .name = name};
    if (inflateInit2(&u.z, 16 + MAX_WBITS) != Z_OK)
        return gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory to unpack");
    gb_status s = unpack(&u, bytes, length, err);
    inflateEnd(&u.z);
    if (s) {
        free(u.data);
        return s;
    }
    u.data[u.used] = 0;
    *data = u.data;
    *size = u.used;
    return GB_OK;
}
