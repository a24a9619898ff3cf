#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gimbal/file.h>

#include "core/data/internal.h"

typedef gb_status open_fn(gb_dataset **ds, const gb_data_options *o, gb_error *err);

static const char *const names[] = {"fashion-mnist", "cifar10", "idx", "folder", NULL};
static open_fn *const openers[] = {gb_open_fashion_mnist, gb_open_cifar10, gb_open_idx,
                                   gb_open_folder};

const char *const *gb_dataset_kinds(void)
{
    return names;
}

const char *gb_split_name(gb_split split)
{
    static const char *const text[GB_SPLIT_COUNT] = {"train", "validation", "test"};
    return (unsigned)split < GB_SPLIT_COUNT ? text[split] : "?";
}

/* ---- making ---- */

static gb_status no_memory(const char *name, gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory for the data set");
}

static bool set_labels(gb_dataset *ds, const char *const *labels)
{
    ds->labels = calloc((size_t)ds->classes, sizeof *ds->labels);
    for (int i = 0; ds->labels && i < ds->classes; i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", i);
        ds->labels[i] = strdup(labels ? labels[i] : number);
        if (!ds->labels[i]) return false;
    }
    return ds->labels != NULL;
}

gb_status gb_dataset_create(gb_dataset **dataset, const char *name, int channels, int height,
                            int width, int classes, const char *const *labels, gb_error *err)
{
    *dataset = NULL;
    if (channels < 1 || channels > GB_MAX_CHANNELS || height < 1 || width < 1 || height > 1 << 15 ||
        width > 1 << 15 || classes < 1 || classes > 1 << 24)
        return gb_fail(err, GB_INVALID, name, NULL,
                       "%d classes of images with %d channels of %d x %d are not possible", classes,
                       channels, height, width);
    gb_dataset *ds = calloc(1, sizeof *ds);
    if (!ds) return no_memory(name, err);
    ds->channels = channels;
    ds->height = height;
    ds->width = width;
    ds->classes = classes;
    ds->name = strdup(name);
    for (int c = 0; c < GB_MAX_CHANNELS; c++) ds->std[c] = 1;
    if (!ds->name || !set_labels(ds, labels)) {
        gb_dataset_destroy(&ds);
        return no_memory(name, err);
    }
    *dataset = ds;
    return GB_OK;
}

static size_t example_bytes(const gb_dataset *ds)
{
    return (size_t)ds->channels * (size_t)ds->height * (size_t)ds->width;
}

static void examples_free(gb_examples *e)
{
    free(e->images);
    free(e->labels);
    *e = (gb_examples){0};
}

gb_status gb_dataset_allocate(gb_dataset *ds, gb_split split, int64_t count, gb_error *err)
{
    gb_examples *e = &ds->split[split];
    examples_free(e);
    if (count < 0 || count > INT32_MAX)
        return gb_fail(err, GB_INVALID, ds->name, NULL, "%lld %s examples are not possible",
                       (long long)count, gb_split_name(split));
    if (!count) return GB_OK;
    if ((size_t)count <= SIZE_MAX / example_bytes(ds))
        e->images = calloc((size_t)count, example_bytes(ds));
    e->labels = calloc((size_t)count, sizeof *e->labels);
    if (!e->images || !e->labels) {
        examples_free(e);
        return gb_fail(err, GB_OUT_OF_MEMORY, ds->name, "use smaller or fewer images",
                       "no memory for %lld %s examples of %zu bytes", (long long)count,
                       gb_split_name(split), example_bytes(ds));
    }
    e->count = count;
    return GB_OK;
}

void gb_dataset_destroy(gb_dataset **dataset)
{
    if (!dataset || !*dataset) return;
    gb_dataset *ds = *dataset;
    *dataset = NULL;
    for (int i = 0; ds->labels && i < ds->classes; i++) free(ds->labels[i]);
    for (int i = 0; i < GB_SPLIT_COUNT; i++) examples_free(&ds->split[i]);
    free(ds->labels);
    free(ds->name);
    free(ds);
}

/* ---- splitting ---- */

/* Moves the marked examples of from to the end of what to holds already. */
static void move_marked(gb_examples *from, gb_examples *to, const bool *marked, size_t bytes)
{
    int64_t kept = 0, moved = 0;
    for (int64_t i = 0; i < from->count; i++) {
        gb_examples *target = marked[i] ? to : from;
        int64_t at = marked[i] ? moved++ : kept++;
        if (target == from && at == i) continue;
        memcpy(target->images + (size_t)at * bytes, from->images + (size_t)i * bytes, bytes);
        target->labels[at] = from->labels[i];
    }
    from->count = kept;
}

gb_status gb_dataset_split_off(gb_dataset *ds, gb_split to, double share, uint64_t seed,
                               gb_error *err)
{
    gb_examples *train = &ds->split[GB_TRAIN];
    int64_t n = train->count, k = (int64_t)llround(share * (double)n);
    if (!(share >= 0 && share < 1) || to == GB_TRAIN || ds->split[to].count || (n && k >= n))
        return gb_fail(err, GB_INVALID, ds->name, "give a share from 0 to below 1",
                       "a share of %g of %lld examples cannot be split off for %s", share,
                       (long long)n, gb_split_name(to));
    if (!k) return GB_OK;
    uint32_t *order = malloc((size_t)n * sizeof *order);
    bool *marked = calloc((size_t)n, sizeof *marked);
    gb_status s = order && marked ? gb_dataset_allocate(ds, to, k, err) : no_memory(ds->name, err);
    if (!s) {
        gb_draw_permutation(seed, GB_DRAW_SPLIT, to, n, order);
        for (int64_t i = 0; i < k; i++) marked[order[i]] = true;
        move_marked(train, &ds->split[to], marked, example_bytes(ds));
    }
    free(order);
    free(marked);
    return s;
}

/* ---- normalizing ---- */

/* From counts of each byte value, so the sums are exact in any order. */
static void measure(const gb_dataset *ds, int channel, float *mean, float *std)
{
    const gb_examples *e = &ds->split[GB_TRAIN];
    size_t plane = (size_t)ds->height * (size_t)ds->width;
    uint64_t counts[256] = {0}, n = 0, sum = 0, squares = 0;
    for (int64_t i = 0; i < e->count; i++) {
        const uint8_t *p = e->images + (size_t)i * example_bytes(ds) + (size_t)channel * plane;
        for (size_t k = 0; k < plane; k++) counts[p[k]]++;
    }
    for (uint64_t v = 0; v < 256; v++) {
        n += counts[v];
        sum += v * counts[v];
        squares += v * v * counts[v];
    }
    double m = n ? (double)sum / (double)n : 0;
    double variance = n ? (double)squares / (double)n - m * m : 0;
    *mean = (float)(m / 255);
    *std = variance > 1e-9 ? (float)(sqrt(variance) / 255) : 1; /* all pixels equal */
}

gb_status gb_dataset_normalize(gb_dataset *ds, const gb_data_options *o, gb_error *err)
{
    int n = o->normalize_channels;
    bool given = o->normalize == GB_NORMALIZE_GIVEN;
    if (given && n != 1 && n != ds->channels)
        return gb_fail(err, GB_INVALID, ds->name, "give one value, or one a channel",
                       "normalize has %d values, but the images have %d channels", n, ds->channels);
    for (int c = 0; c < ds->channels; c++) {
        ds->mean[c] = 0;
        ds->std[c] = 1;
        if (o->normalize == GB_NORMALIZE_AUTO) measure(ds, c, &ds->mean[c], &ds->std[c]);
        if (!given) continue;
        ds->mean[c] = o->mean[n == 1 ? 0 : c];
        ds->std[c] = o->std[n == 1 ? 0 : c];
        if (!isfinite(ds->mean[c]) || !isfinite(ds->std[c]) || !(ds->std[c] > 0))
            return gb_fail(err, GB_INVALID, ds->name, "give finite values and a std above 0",
                           "mean %g and std %g cannot normalize", (double)ds->mean[c],
                           (double)ds->std[c]);
    }
    return GB_OK;
}

/* ---- opening ---- */

/* Whether dir holds one of the files; if not, dir joins the list of places looked at. */
static bool holds_one(const char *dir, const char *const *files, char *places, size_t size)
{
    bool found = false;
    for (; *files && !found; files++) {
        char *path = gb_path_join(dir, *files);
        found = path && access(path, F_OK) == 0;
        free(path);
    }
    size_t used = strlen(places);
    if (!found && used < size) snprintf(places + used, size - used, "%s%s", used ? ", " : "", dir);
    return found;
}

gb_status gb_data_find(char **found, const gb_data_options *o, const char *folder,
                       const char *fallback, const char *const *files, const char *hint,
                       gb_error *err)
{
    const char *bases[2] = {o->path ? o->path : getenv("GIMBAL_DATA"), o->path ? NULL : fallback};
    char places[512] = "";
    for (int i = 0; i < 4; i++) {
        const char *base = bases[i / 2], *below = i % 2 ? folder : "";
        if (!base || !below) continue;
        char *dir = *below ? gb_path_join(base, below) : strdup(base);
        if (!dir) return no_memory(base, err);
        if (holds_one(dir, files, places, sizeof places)) {
            *found = dir;
            return GB_OK;
        }
        free(dir);
    }
    return gb_fail(err, GB_NOT_FOUND, o->dataset, hint, "no file %s in %s", files[0],
                   *places ? places : "any place, since data.path and GIMBAL_DATA are not set");
}

static gb_status finish(gb_dataset *ds, const gb_data_options *o, gb_error *err)
{
    gb_status s = GB_OK;
    if (o->validation != 0)
        s = gb_dataset_split_off(ds, GB_VALIDATION, o->validation, o->seed, err);
    return s ? s : gb_dataset_normalize(ds, o, err);
}

gb_status gb_dataset_open(gb_dataset **dataset, const gb_data_options *o, gb_error *err)
{
    *dataset = NULL;
    if (!o->dataset)
        return gb_fail(err, GB_INVALID, "data.dataset", "use fashion-mnist, cifar10, idx or folder",
                       "no data set is named");
    int kind = 0;
    while (names[kind] && strcmp(names[kind], o->dataset)) kind++;
    if (!names[kind])
        return gb_fail(err, GB_INVALID, "data.dataset", "use fashion-mnist, cifar10, idx or folder",
                       "there is no data set '%.100s'", o->dataset);
    gb_dataset *ds = NULL;
    gb_status s = openers[kind](&ds, o, err);
    if (!s) s = finish(ds, o, err);
    if (s) gb_dataset_destroy(&ds);
    *dataset = ds;
    return s;
}

gb_status gb_dataset_open_sizes(gb_dataset **dataset, const gb_data_options *options, gb_error *err)
{
    static const struct {
        const char *name;
        int channels, side;
    } known[] = {{"fashion-mnist", 1, 28}, {"cifar10", 3, 32}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(options->dataset, known[i].name) == 0)
            return gb_dataset_create(dataset, known[i].name, known[i].channels, known[i].side,
                                     known[i].side, 10, NULL, err);
    return gb_dataset_open(dataset, options, err);
}
