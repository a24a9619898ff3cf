#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <spng.h>
#include <turbojpeg.h>
#include <zlib.h>

#include <gimbal/io.h>

#include "tests/support/support.h"

typedef struct blob {
    uint8_t *bytes;
    size_t size;
} blob;

static blob make_png(int width, int height, int type, int depth, const void *pixels, size_t size)
{
    spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
    struct spng_ihdr head = {.width = (uint32_t)width,
                             .height = (uint32_t)height,
                             .bit_depth = (uint8_t)depth,
                             .color_type = (uint8_t)type};
    struct spng_plte palette = {.n_entries = 2, .entries = {{10, 20, 30, 0}, {40, 50, 60, 0}}};
    int code = 0;
    blob b;
    spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1);
    spng_set_ihdr(ctx, &head);
    if (type == SPNG_COLOR_TYPE_INDEXED) spng_set_plte(ctx, &palette);
    assert_int_equal(spng_encode_image(ctx, pixels, size, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE), 0);
    b.bytes = spng_get_png_buffer(ctx, &b.size, &code);
    assert_non_null(b.bytes);
    spng_ctx_free(ctx);
    return b;
}

static blob make_jpeg(int width, int height, int grey, int flags, const uint8_t *pixels)
{
    tjhandle tj = tjInitCompress();
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    assert_int_equal(tjCompress2(tj, pixels, width, 0, height, grey ? TJPF_GRAY : TJPF_RGB, &bytes,
                                 &size, grey ? TJSAMP_GRAY : TJSAMP_444, 95, flags),
                     0);
    tjDestroy(tj);
    blob b = {malloc(size), size};
    memcpy(b.bytes, bytes, size);
    tjFree(bytes);
    return b;
}

static void assert_image(blob b, int height, int width, int channels, const uint8_t *pixels,
                         int tolerance)
{
    gb_tensor t;
    gb_error err = {0};
    gb_shape shape = gb_shape_of(3, height, width, channels);
    if (gb_image_parse(&t, b.bytes, b.size, "test", &err)) fail_msg("%s", err.message);
    assert_true(t.dtype == GB_U8 && gb_shape_equal(&t.shape, &shape));
    for (int i = 0; i < height * width * channels; i++)
        assert_in_range(((uint8_t *)t.data)[i] + tolerance, pixels[i], pixels[i] + 2 * tolerance);
    gb_tensor_free(&t);
    free(b.bytes);
}

static void decodes_png(void **state)
{
    (void)state;
    static const uint8_t rgb[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    assert_image(make_png(2, 2, SPNG_COLOR_TYPE_TRUECOLOR, 8, rgb, 12), 2, 2, 3, rgb, 0);
    assert_image(make_png(4, 3, SPNG_COLOR_TYPE_GRAYSCALE, 8, rgb, 12), 3, 4, 1, rgb, 0);
    static const uint8_t rgba[] = {1, 2, 3, 0, 4, 5, 6, 255};
    assert_image(make_png(1, 2, SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, 8, rgba, 8), 2, 1, 3, rgb, 0);
    static const uint8_t grey_alpha[] = {1, 9, 2, 9};
    assert_image(make_png(2, 1, SPNG_COLOR_TYPE_GRAYSCALE_ALPHA, 8, grey_alpha, 4), 1, 2, 1, rgb,
                 0);
    static const uint16_t wide[] = {0x0100, 0x02ff};
    assert_image(make_png(2, 1, SPNG_COLOR_TYPE_GRAYSCALE, 16, wide, 4), 1, 2, 1, rgb, 0);
    static const uint8_t bits[] = {0x40}, colours[] = {10, 20, 30, 40, 50, 60};
    assert_image(make_png(2, 1, SPNG_COLOR_TYPE_INDEXED, 1, bits, 1), 1, 2, 3, colours, 0);
}

static void decodes_jpeg(void **state)
{
    (void)state;
    uint8_t pixels[16 * 8 * 3];
    for (int i = 0; i < 16 * 8 * 3; i++) pixels[i] = (uint8_t)(40 + 60 * (i % 3) + i / 6);
    assert_image(make_jpeg(16, 8, 0, 0, pixels), 8, 16, 3, pixels, 6);
    assert_image(make_jpeg(8, 16, 0, TJFLAG_PROGRESSIVE, pixels), 16, 8, 3, pixels, 6);
    for (int i = 0; i < 16 * 8; i++) pixels[i] = (uint8_t)(100 + i / 4);
    assert_image(make_jpeg(16, 8, 1, 0, pixels), 8, 16, 1, pixels, 4);
}

/* A copy of the exact size, so that ASan sees each read beyond it. */
static gb_status parse_copy(const uint8_t *bytes, size_t n, gb_error *err)
{
    uint8_t *copy = malloc(n ? n : 1);
    gb_tensor t;
    memcpy(copy, bytes, n);
    gb_status s = gb_image_parse(&t, copy, n, "cut.img", err);
    if (s) assert_null(t.data);
    gb_tensor_free(&t);
    free(copy);
    return s;
}

static void refuses_cut_and_damaged_images(void **state)
{
    (void)state;
    uint8_t pixels[8 * 8 * 3];
    for (int i = 0; i < 8 * 8 * 3; i++) pixels[i] = (uint8_t)(i * 7);
    blob png = make_png(8, 8, SPNG_COLOR_TYPE_TRUECOLOR, 8, pixels, sizeof pixels);
    blob jpeg = make_jpeg(8, 8, 0, 0, pixels);
    gb_error err;
    for (size_t n = 0; n < png.size - 4; n++) { /* the last 4 are the checksum of nothing */
        assert_int_not_equal(parse_copy(png.bytes, n, &err), GB_OK);
        assert_string_equal(err.input, "cut.img");
        if (n >= 8) assert_int_equal(err.status, GB_FORMAT);
    }
    for (size_t n = 0; n < jpeg.size; n++)
        assert_int_not_equal(parse_copy(jpeg.bytes, n, &err), GB_OK);
    assert_int_equal(err.status, GB_FORMAT);
    for (size_t n = 0; n < png.size; n++) { /* each byte of a PNG is under a checksum */
        png.bytes[n] ^= 0x10;
        assert_int_not_equal(parse_copy(png.bytes, png.size, &err), GB_OK);
        png.bytes[n] ^= 0x10;
    }
    for (size_t n = 0; n < jpeg.size; n++) { /* a JPEG has none: no crash is all one can ask */
        jpeg.bytes[n] ^= 0x10;
        parse_copy(jpeg.bytes, jpeg.size, &err);
        jpeg.bytes[n] ^= 0x10;
    }
    assert_int_equal(parse_copy((const uint8_t *)"GIF89a, and more of it", 20, &err),
                     GB_UNSUPPORTED);
    free(png.bytes);
    free(jpeg.bytes);
}

static void refuses_huge_images(void **state)
{
    (void)state;
    static const uint32_t sizes[][2] = {{GB_IMAGE_MAX_SIDE + 1, 1}, {1 << 14, 1 << 14}};
    gb_error err;
    uint8_t pixel[3] = {0};
    for (int i = 0; i < 2; i++) {
        blob png = make_png(1, 1, SPNG_COLOR_TYPE_TRUECOLOR, 8, pixel, 3);
        for (int k = 0; k < 4; k++) {
            png.bytes[16 + k] = (uint8_t)(sizes[i][0] >> (24 - 8 * k));
            png.bytes[20 + k] = (uint8_t)(sizes[i][1] >> (24 - 8 * k));
        }
        uint32_t crc = (uint32_t)crc32(0, png.bytes + 12, 17);
        for (int k = 0; k < 4; k++) png.bytes[29 + k] = (uint8_t)(crc >> (24 - 8 * k));
        assert_int_equal(parse_copy(png.bytes, png.size, &err), GB_UNSUPPORTED);
        free(png.bytes);
    }
}

static void resizes_and_converts(void **state)
{
    (void)state;
    gb_tensor t;
    gb_shape s = gb_shape_of(3, 1, 2, 3);
    uint8_t out[64];
    assert_int_equal(gb_tensor_alloc(&t, GB_U8, &s, NULL), GB_OK);
    memcpy(t.data, ((uint8_t[]){0, 100, 255, 200, 100, 255}), 6);
    assert_int_equal(gb_image_to_planes(&t, 3, 1, 2, out, NULL), GB_OK); /* as it is */
    assert_memory_equal(out, ((uint8_t[]){0, 200, 100, 100, 255, 255}), 6);
    assert_int_equal(gb_image_to_planes(&t, 3, 2, 4, out, NULL), GB_OK);
    assert_memory_equal(out, ((uint8_t[]){0, 50, 150, 200, 0, 50, 150, 200}), 8);
    assert_int_equal(gb_image_to_planes(&t, 1, 1, 2, out, NULL), GB_OK);
    assert_memory_equal(out, ((uint8_t[]){88, 148}), 2); /* 0.299 R + 0.587 G + 0.114 B */
    assert_int_equal(gb_image_to_planes(&t, 2, 1, 2, out, NULL), GB_INVALID);
    gb_tensor_free(&t);
    s.dim[2] = 1;
    assert_int_equal(gb_tensor_alloc(&t, GB_U8, &s, NULL), GB_OK);
    memcpy(t.data, "ab", 2);
    assert_int_equal(gb_image_to_planes(&t, 3, 1, 2, out, NULL), GB_OK);
    assert_memory_equal(out, "ababab", 6);
    gb_tensor_free(&t);
}

static blob make_gzip(const char *text)
{
    blob b = {calloc(1, 4096), 4096};
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)text;
    z.avail_in = (uInt)strlen(text);
    z.next_out = b.bytes;
    z.avail_out = 4096;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    b.size = 4096 - z.avail_out;
    deflateEnd(&z);
    return b;
}

static void unpacks_gzip(void **state)
{
    (void)state;
    blob b = make_gzip("hello, hello, hello");
    uint8_t *data, twice[256];
    size_t size;
    gb_error err;
    assert_int_equal(gb_gunzip(b.bytes, b.size, 100, "z", &data, &size, &err), GB_OK);
    assert_string_equal((char *)data, "hello, hello, hello");
    free(data);
    assert_int_equal(gb_gunzip(b.bytes, b.size, 19, "z", &data, &size, &err), GB_OK);
    free(data);
    assert_int_equal(gb_gunzip(b.bytes, b.size, 18, "z", &data, &size, &err), GB_FORMAT);
    for (size_t n = 0; n < b.size; n++) {
        assert_int_equal(gb_gunzip(b.bytes, n, 100, "z", &data, &size, &err), GB_FORMAT);
        assert_null(data);
    }
    for (size_t n = b.size - 8; n < b.size; n++) { /* checksum and length */
        b.bytes[n] ^= 1;
        assert_int_equal(gb_gunzip(b.bytes, b.size, 100, "z", &data, &size, &err), GB_FORMAT);
        b.bytes[n] ^= 1;
    }
    memcpy(twice, b.bytes, b.size);
    memcpy(twice + b.size, b.bytes, b.size);
    assert_int_equal(gb_gunzip(twice, 2 * b.size, 100, "z", &data, &size, &err), GB_OK);
    assert_int_equal(size, 38);
    free(data);
    assert_int_equal(gb_gunzip(twice, b.size + 5, 100, "z", &data, &size, &err), GB_FORMAT);
    free(b.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_png),
        cmocka_unit_test(decodes_jpeg),
        cmocka_unit_test(refuses_cut_and_damaged_images),
        cmocka_unit_test(refuses_huge_images),
        cmocka_unit_test(resizes_and_converts),
        cmocka_unit_test(unpacks_gzip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
