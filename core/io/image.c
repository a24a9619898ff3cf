#include <stdlib.h>
#include <string.h>

#include <spng.h>
#include <turbojpeg.h>

#include <gimbal/io.h>

static gb_status corrupt(const char *name, const char *why, gb_error *err)
{
    return gb_fail(err, GB_FORMAT, name, "the image is truncated or damaged: copy it again",
                   "decoding the image failed: %s", why);
}

static gb_status allocate(gb_tensor *image, uint32_t width, uint32_t height, int channels,
                          const char *name, gb_error *err)
{
    if (!width || !height) return corrupt(name, "it has no pixels", err);
    if (width > GB_IMAGE_MAX_SIDE || height > GB_IMAGE_MAX_SIDE ||
        (uint64_t)width * height * 3 > GB_IMAGE_MAX_BYTES)
        return gb_fail(err, GB_UNSUPPORTED, name, "scale it down",
                       "%u x %u pixels are more than %d a side or %u MiB", width, height,
                       GB_IMAGE_MAX_SIDE, GB_IMAGE_MAX_BYTES >> 20);
    gb_shape shape = gb_shape_of(3, (int)height, (int)width, channels);
    return gb_tensor_alloc(image, GB_U8, &shape, err);
}

/* ---- PNG ---- */

/* libspng gives any PNG as RGB but only some as grey: take one of three equal channels. */
static void keep_one_channel(gb_tensor *image)
{
    uint8_t *p = image->data;
    int64_t n = image->shape.dim[0] * image->shape.dim[1];
    for (int64_t i = 0; i < n; i++) p[i] = p[3 * i];
    image->shape.dim[2] = 1;
}

static gb_status decode_png(spng_ctx *ctx, gb_tensor *image, const uint8_t *bytes, size_t length,
                            const char *name, gb_error *err)
{
    struct spng_ihdr head;
    spng_set_crc_action(ctx, SPNG_CRC_ERROR, SPNG_CRC_ERROR);
    spng_set_chunk_limits(ctx, 64 << 20, 64 << 20);
    int code = spng_set_png_buffer(ctx, bytes, length);
    if (!code) code = spng_get_ihdr(ctx, &head);
    if (code) return corrupt(name, spng_strerror(code), err);
    gb_status s = allocate(image, head.width, head.height, 3, name, err);
    if (s) return s;
    code = spng_decode_image(ctx, image->data, gb_tensor_bytes(image), SPNG_FMT_RGB8, 0);
    if (!code) code = spng_decode_chunks(ctx); /* what follows the pixels, up to the end mark */
    if (code == SPNG_EMEM) return gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory to decode");
    if (code) return corrupt(name, spng_strerror(code), err);
    if (head.color_type == SPNG_COLOR_TYPE_GRAYSCALE ||
        head.color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA)
        keep_one_channel(image);
    return GB_OK;
}

static gb_status parse_png(gb_tensor *image, const uint8_t *bytes, size_t length, const char *name,
                           gb_error *err)
{
    spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx) return gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory to decode");
    gb_status s = decode_png(ctx, image, bytes, length, name, err);
    spng_ctx_free(ctx);
    return s;
}

/* ---- JPEG ---- */

static gb_status decode_jpeg(tjhandle tj, gb_tensor *image, const uint8_t *bytes, size_t length,
                             const char *name, gb_error *err)
{
    int width, height, subsampling, colours;
    if (tjDecompressHeader3(tj, bytes, length, &width, &height, &subsampling, &colours))
        return corrupt(name, tjGetErrorStr2(tj), err);
    if (colours == TJCS_CMYK || colours == TJCS_YCCK)
        return gb_fail(err, GB_UNSUPPORTED, name, "convert it to RGB",
                       "JPEGs in CMYK are not supported");
    int grey = colours == TJCS_GRAY;
    gb_status s = allocate(image, (uint32_t)width, (uint32_t)height, grey ? 1 : 3, name, err);
    if (s) return s;
    /* A cut file is only a warning to libjpeg; a file of endless scans would take hours. */
    int code = tjDecompress2(tj, bytes, length, image->data, width, 0, height,
                             grey ? TJPF_GRAY : TJPF_RGB, TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS);
    return code ? corrupt(name, tjGetErrorStr2(tj), err) : GB_OK;
}

static gb_status parse_jpeg(gb_tensor *image, const uint8_t *bytes, size_t length, const char *name,
                            gb_error *err)
{
    tjhandle tj = tjInitDecompress();
    if (!tj) return gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory to decode");
    gb_status s = decode_jpeg(tj, image, bytes, length, name, err);
    tjDestroy(tj);
    return s;
}

/* ---- either ---- */

gb_status gb_image_parse(gb_tensor *image, const uint8_t *bytes, size_t length, const char *name,
                         gb_error *err)
{
    *image = (gb_tensor){0};
    gb_status s;
    if (length >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        s = parse_png(image, bytes, length, name, err);
    else if (length >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        s = parse_jpeg(image, bytes, length, name, err);
    else
        s = gb_fail(err, length < 8 ? GB_FORMAT : GB_UNSUPPORTED, name,
                    "convert it to one of these", "the file is neither a PNG nor a JPEG");
    if (s) gb_tensor_free(image);
    return s;
}

gb_status gb_image_read(gb_tensor *image, const char *path, gb_error *err)
{
    *image = (gb_tensor){0};
    uint8_t *bytes;
    size_t length;
    gb_status s = gb_read_file(path, GB_IMAGE_MAX_BYTES, &bytes, &length, err);
    if (s) return s;
    s = gb_image_parse(image, bytes, length, path, err);
    free(bytes);
    return s;
}

/* ---- resizing ---- */

/* One output row or column: two source positions and the weight of the second. */
typedef struct tap {
    int first, second;
    float weight;
} tap;

static void make_taps(tap *taps, int from, int to)
{
    for (int i = 0; i < to; i++) {
        float at = ((float)i + 0.5f) * (float)from / (float)to - 0.5f;
        if (at < 0) at = 0;
        int first = (int)at;
        taps[i] = (tap){first, first + 1 < from ? first + 1 : first, at - (float)first};
    }
}

/* Channel c of a pixel; luma after ITU-R 601 where a grey one is wanted of a coloured one. */
static float pixel(const gb_tensor *image, int y, int x, int c, int channels)
{
    int has = (int)image->shape.dim[2];
    const uint8_t *p = (const uint8_t *)image->data + ((int64_t)y * image->shape.dim[1] + x) * has;
    if (has == 1) return p[0];
    if (channels == 1)
        return (float)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
    return p[c];
}

gb_status gb_image_to_planes(const gb_tensor *image, int channels, int height, int width,
                             uint8_t *out, gb_error *err)
{
    if (image->dtype != GB_U8 || image->shape.rank != 3 || (channels != 1 && channels != 3) ||
        height < 1 || width < 1)
        return gb_fail(err, GB_INVALID, NULL,
                       "give an image from gb_image_read and a size of at "
                       "least 1 with 1 or 3 channels",
                       "the image cannot be converted");
    tap *ys = malloc(((size_t)height + (size_t)width) * sizeof *ys);
    if (!ys) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to resize an image");
    tap *xs = ys + height;
    make_taps(ys, (int)image->shape.dim[0], height);
    make_taps(xs, (int)image->shape.dim[1], width);
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                const tap *v = &ys[y], *h = &xs[x];
                float a = pixel(image, v->first, h->first, c, channels);
                float b = pixel(image, v->first, h->second, c, channels);
                float d = pixel(image, v->second, h->first, c, channels);
                float e = pixel(image, v->second, h->second, c, channels);
                float top = a + (b - a) * h->weight, bottom = d + (e - d) * h->weight;
                *out++ = (uint8_t)(top + (bottom - top) * v->weight + 0.5f);
            }
    free(ys);
    return GB_OK;
}
