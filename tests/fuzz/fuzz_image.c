#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include <gimbal/io.h>

#include "tests/fuzz/target.h"

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Makes a PNG's checksums right, or else hardly a change would get beyond them. */
static void repair(uint8_t *p, size_t size)
{
    for (size_t at = 8; size >= 12 && at <= size - 12;) {
        size_t n = big_endian(p + at);
        if (n > size - at - 12) return;
        uint32_t crc = (uint32_t)crc32(0, p + at + 4, (uInt)n + 4);
        for (int i = 0; i < 4; i++) p[at + 8 + n + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += n + 12;
    }
}

static void parse(const uint8_t *bytes, size_t size)
{
    gb_tensor image;
    gb_error err;
    uint8_t planes[3 * 4 * 4];
    if (gb_image_parse(&image, bytes, size, "fuzz", &err) == GB_OK)
        gb_image_to_planes(&image, 3, 4, 4, planes, &err);
    gb_tensor_free(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    parse(bytes, size);
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy || size < 8 || memcmp(bytes, "\x89PNG", 4)) {
        free(copy);
        return 0;
    }
    memcpy(copy, bytes, size);
    repair(copy, size);
    parse(copy, size);
    free(copy);
    return 0;
}
