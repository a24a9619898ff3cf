/* MNIST's format: two zero bytes, an element type, the rank, big-endian sizes, the elements. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gimbal/file.h>

#include "core/data/internal.h"

#define MAX_BYTES ((size_t)1 << 36)

static gb_status corrupt(const char *name, gb_error *err, const char *what)
{
    return gb_fail(err, GB_FORMAT, name, "the file is truncated or damaged: download it again",
                   "this is no IDX file of bytes: %s", what);
}

gb_status gb_idx_parse(gb_idx *idx, const uint8_t *bytes, size_t length, const char *name,
                       gb_error *err)
{
    *idx = (gb_idx){0};
    if (length < 4 || bytes[0] || bytes[1]) return corrupt(name, err, "it does not start as one");
    if (bytes[2] != 8) return corrupt(name, err, "its elements have another type");
    int rank = bytes[3];
    size_t header = 4 + 4 * (size_t)rank;
    if (rank < 1 || rank > GB_MAX_RANK) return corrupt(name, err, "its number of dimensions");
    if (length < header) return corrupt(name, err, "it ends within its header");
    idx->shape.rank = rank;
    for (int i = 0; i < rank; i++) {
        const uint8_t *b = bytes + 4 + 4 * i;
        idx->shape.dim[i] = (int64_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
    }
    int64_t n = gb_shape_count(&idx->shape);
    if (n < 0 || (uint64_t)n != length - header) {
        char text[160];
        gb_shape_text(&idx->shape, text, sizeof text);
        return gb_fail(err, GB_FORMAT, name, "the file is truncated or damaged: download it again",
                       "its shape is %s, but %zu bytes follow", text, length - header);
    }
    idx->data = bytes + header;
    return GB_OK;
}

/* ---- the four files of a data set ---- */

typedef struct idx_file {
    char *path;
    uint8_t *bytes;
    gb_idx idx;
} idx_file;

static void file_free(idx_file *f)
{
    free(f->path);
    free(f->bytes);
    *f = (idx_file){0};
}

/* Names differ: a dash or a dot before "idx", with or without .gz. */
static gb_status find_file(const char *dir, const char *part, const char *rank, char **path,
                           gb_error *err)
{
    for (int form = 0; form < 4; form++) {
        char name[64];
        snprintf(name, sizeof name, "%s%c%s-ubyte%s", part, form & 2 ? '.' : '-', rank,
                 form & 1 ? ".gz" : "");
        *path = gb_path_join(dir, name);
        if (!*path) return gb_fail(err, GB_OUT_OF_MEMORY, dir, NULL, "no memory for a path");
        if (access(*path, F_OK) == 0) return GB_OK;
        free(*path);
        *path = NULL;
    }
    return gb_fail(err, GB_NOT_FOUND, dir, "copy or download the whole data set",
                   "the file %s-%s-ubyte (or .gz) is missing", part, rank);
}

static gb_status read_file(idx_file *f, const char *dir, const char *part, const char *rank,
                           gb_error *err)
{
    size_t length;
    gb_status s = find_file(dir, part, rank, &f->path, err);
    if (!s) s = gb_read_file(f->path, MAX_BYTES, &f->bytes, &length, err);
    if (s) return s;
    if (length >= 2 && f->bytes[0] == 0x1f && f->bytes[1] == 0x8b) {
        uint8_t *packed = f->bytes;
        s = gb_gunzip(packed, length, MAX_BYTES, f->path, &f->bytes, &length, err);
        free(packed);
    }
    return s ? s : gb_idx_parse(&f->idx, f->bytes, length, f->path, err);
}

/* Whether the images and labels of a split belong together and to those of the train split. */
static gb_status check_pair(const idx_file *images, const idx_file *labels, const idx_file *train,
                            gb_error *err)
{
    const gb_shape *i = &images->idx.shape, *l = &labels->idx.shape, *t = &train->idx.shape;
    if (i->rank != 3 || i->dim[0] < 1 || i->dim[1] < 1 || i->dim[2] < 1)
        return corrupt(images->path, err, "it should hold images, in three dimensions");
    if (l->rank != 1 || l->dim[0] != i->dim[0])
        return gb_fail(err, GB_FORMAT, labels->path, "use files that belong together",
                       "there is not one label for each of the %lld images", (long long)i->dim[0]);
    if (i->dim[1] != t->dim[1] || i->dim[2] != t->dim[2])
        return gb_fail(err, GB_FORMAT, images->path, "use files that belong together",
                       "its images have another size than the training images");
    return GB_OK;
}

static int largest(const gb_idx *labels)
{
    int max = 0;
    for (int64_t i = 0; i < labels->shape.dim[0]; i++)
        if (labels->data[i] > max) max = labels->data[i];
    return max;
}

static gb_status fill_split(gb_dataset *ds, gb_split split, const idx_file *images,
                            const idx_file *labels, gb_error *err)
{
    int64_t n = labels->idx.shape.dim[0];
    gb_status s = gb_dataset_allocate(ds, split, n, err);
    if (s) return s;
    memcpy(ds->split[split].images, images->idx.data, (size_t)gb_shape_count(&images->idx.shape));
    for (int64_t i = 0; i < n; i++) ds->split[split].labels[i] = labels->idx.data[i];
    return GB_OK;
}

/* names may be NULL: then there are as many classes as the labels say. */
static gb_status build(gb_dataset **ds, const idx_file f[4], const gb_data_options *o, int classes,
                       const char *const *names, gb_error *err)
{
    for (int i = 0; i < 2; i++) {
        gb_status s = check_pair(&f[2 * i], &f[2 * i + 1], &f[0], err);
        if (s) return s;
        int max = largest(&f[2 * i + 1].idx);
        if (!names && max >= classes) classes = max + 1;
        if (max >= classes)
            return gb_fail(err, GB_FORMAT, f[2 * i + 1].path, "download it again",
                           "it holds the label %d, but there are %d classes", max, classes);
    }
    const gb_shape *shape = &f[0].idx.shape;
    if (shape->dim[1] > 1 << 15 || shape->dim[2] > 1 << 15)
        return corrupt(f[0].path, err, "its images are too large");
    gb_status s = gb_dataset_create(ds, o->dataset, 1, (int)shape->dim[1], (int)shape->dim[2],
                                    classes, names, err);
    if (!s) s = fill_split(*ds, GB_TRAIN, &f[0], &f[1], err);
    if (!s) s = fill_split(*ds, GB_TEST, &f[2], &f[3], err);
    return s;
}

static gb_status open_dir(gb_dataset **ds, const char *dir, const gb_data_options *o, int classes,
                          const char *const *names, gb_error *err)
{
    static const char *const parts[4][2] = {{"train-images", "idx3"},
                                            {"train-labels", "idx1"},
                                            {"t10k-images", "idx3"},
                                            {"t10k-labels", "idx1"}};
    idx_file files[4] = {0};
    gb_status s = GB_OK;
    for (int i = 0; !s && i < 4; i++) s = read_file(&files[i], dir, parts[i][0], parts[i][1], err);
    if (!s) s = build(ds, files, o, classes, names, err);
    for (int i = 0; i < 4; i++) file_free(&files[i]);
    return s;
}

static const char *const probes[] = {"train-images-idx3-ubyte", "train-images-idx3-ubyte.gz",
                                     "train-images.idx3-ubyte", "train-images.idx3-ubyte.gz", NULL};

gb_status gb_open_idx(gb_dataset **ds, const gb_data_options *o, gb_error *err)
{
    char *dir;
    gb_status s = gb_data_find(&dir, o, NULL, NULL, probes,
                               "set data.path to the folder of the MNIST-like files", err);
    if (s) return s;
    s = open_dir(ds, dir, o, 1, NULL, err);
    free(dir);
    return s;
}

gb_status gb_open_fashion_mnist(gb_dataset **ds, const gb_data_options *o, gb_error *err)
{
    static const char *const names[] = {"T-shirt/top", "Trouser",   "Pullover", "Dress",
                                        "Coat",        "Sandal",    "Shirt",    "Sneaker",
                                        "Bag",         "Ankle boot"};
    char *dir;
    gb_status s = gb_data_find(&dir, o, "fashion-mnist", "/usr/share/datasets/fashion-mnist",
                               probes, "apt install dataset-fashion-mnist, or set data.path", err);
    if (s) return s;
    s = open_dir(ds, dir, o, 10, names, err);
    free(dir);
    return s;
}
