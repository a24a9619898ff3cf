#include <stdlib.h>

#include "core/base/philox.h"
#include "core/data/internal.h"

/* In f32, in this order, as other frameworks do it. */
static float normalize(int byte, float mean, float std)
{
    return ((float)byte / 255.0f - mean) / std;
}

void gb_normalize_planes(const uint8_t *planes, int channels, int64_t pixels, const float *mean,
                         const float *std, bool channels_last, float *out)
{
    for (int c = 0; c < channels; c++)
        for (int64_t i = 0; i < pixels; i++)
            out[channels_last ? i * channels + c : c * pixels + i] =
                normalize(planes[c * pixels + i], mean[c], std[c]);
}

static gb_status check(const gb_dataset *ds, const gb_augment *a, gb_error *err)
{
    int side = ds->height < ds->width ? ds->height : ds->width;
    if (a->padding < 0 || a->padding >= side)
        return gb_fail(err, GB_INVALID, "crop", "use a smaller padding",
                       "a padding of %d does not fit images of %d x %d", a->padding, ds->height,
                       ds->width);
    if (a->cutout < 0 || a->cutout > side)
        return gb_fail(err, GB_INVALID, "cutout", "use a smaller square",
                       "a square of %d does not fit images of %d x %d", a->cutout, ds->height,
                       ds->width);
    return GB_OK;
}

gb_status gb_renderer_init(gb_renderer *r, const gb_dataset *ds, const gb_loader_options *o,
                           gb_error *err)
{
    *r = (gb_renderer){.channels = ds->channels,
                       .height = ds->height,
                       .width = ds->width,
                       .channels_last = o->channels_last,
                       .augment = o->augment,
                       .seed = o->seed};
    gb_status s = check(ds, &o->augment, err);
    if (s) return s;
    r->rows = malloc(((size_t)ds->height + (size_t)ds->width) * sizeof *r->rows);
    if (!r->rows) return gb_fail(err, GB_OUT_OF_MEMORY, ds->name, NULL, "no memory for a loader");
    r->columns = r->rows + ds->height;
    for (int c = 0; c < ds->channels; c++)
        for (int v = 0; v < 256; v++) r->table[c][v] = normalize(v, ds->mean[c], ds->std[c]);
    return GB_OK;
}

void gb_renderer_free(gb_renderer *r)
{
    free(r->rows);
    r->rows = NULL;
}

/* Source positions along one axis. A shift is less than n, so one reflection is enough. */
static void make_map(int *map, int n, int shift, bool reflect, bool flip)
{
    for (int i = 0; i < n; i++) {
        int at = (flip ? n - 1 - i : i) + shift;
        if (reflect && at < 0) at = -at;
        if (reflect && at >= n) at = 2 * (n - 1) - at;
        map[i] = at >= 0 && at < n ? at : -1;
    }
}

typedef struct square {
    int top, left, size;
} square;

/* One draw of four words an example: flip, vertical shift, horizontal shift, square. */
static square choose(const gb_renderer *r, int64_t epoch, int64_t sample)
{
    const gb_augment *a = &r->augment;
    bool turns = a->flip == GB_FLIP_ALTERNATE;
    uint32_t w[4] = {0}, first[4];
    if (a->flip || a->padding || a->cutout)
        gb_draw_words(r->seed, GB_DRAW_AUGMENT, epoch, sample, w);
    bool flip = a->flip && w[0] >> 31;
    if (turns) {
        gb_draw_words(r->seed, GB_DRAW_AUGMENT, 0, sample, first);
        flip = (first[0] >> 31) ^ (epoch & 1);
    }
    uint32_t shifts = 2 * (uint32_t)a->padding + 1;
    make_map(r->rows, r->height, (int)gb_uniform_below(w[1], shifts) - a->padding, a->reflect,
             false);
    make_map(r->columns, r->width, (int)gb_uniform_below(w[2], shifts) - a->padding, a->reflect,
             flip);
    uint32_t down = (uint32_t)(r->height - a->cutout) + 1,
             right = (uint32_t)(r->width - a->cutout) + 1;
    return (square){(int)gb_uniform_below(w[3] << 16, down), (int)gb_uniform_below(w[3], right),
                    a->cutout};
}

void gb_render(gb_renderer *r, const uint8_t *pixels, int64_t epoch, int64_t sample, float *out)
{
    const int64_t plane = (int64_t)r->height * r->width;
    const int64_t per_channel = r->channels_last ? 1 : plane;
    const int64_t per_pixel = r->channels_last ? r->channels : 1;
    square cut = choose(r, epoch, sample);
    for (int c = 0; c < r->channels; c++) {
        const float *table = r->table[c];
        for (int y = 0; y < r->height; y++) {
            const uint8_t *from = pixels + c * plane + (int64_t)r->rows[y] * r->width;
            float *to = out + c * per_channel + y * r->width * per_pixel;
            for (int x = 0; x < r->width; x++) {
                bool inside = r->rows[y] >= 0 && r->columns[x] >= 0;
                to[x * per_pixel] = table[inside ? from[r->columns[x]] : 0];
            }
        }
        for (int y = cut.top; y < cut.top + cut.size; y++)
            for (int x = cut.left; x < cut.left + cut.size; x++)
                out[c * per_channel + ((int64_t)y * r->width + x) * per_pixel] = 0;
    }
}
