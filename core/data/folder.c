/* A folder with a sub-folder of images a class, or with train/, validation/ and test/ of that. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <gimbal/io.h>

#include "core/data/internal.h"

/* A growing list of text, sorted when it is complete. */
typedef struct names {
    char **items;
    size_t count;
} names;

static void names_free(names *n)
{
    for (size_t i = 0; i < n->count; i++) free(n->items[i]);
    free(n->items);
    *n = (names){0};
}

static gb_status no_memory(const char *path, gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, path, NULL, "no memory for a list of files");
}

static bool names_add(names *n, const char *text)
{
    if ((n->count & (n->count - 1)) == 0) { /* full at each power of two */
        char **grown = realloc(n->items, (n->count ? 2 * n->count : 1) * sizeof *grown);
        if (!grown) return false;
        n->items = grown;
    }
    char *copy = strdup(text);
    if (!copy) return false;
    n->items[n->count++] = copy;
    return true;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_image(const char *name)
{
    const char *end = strrchr(name, '.');
    return end &&
           (!strcasecmp(end, ".png") || !strcasecmp(end, ".jpg") || !strcasecmp(end, ".jpeg"));
}

/* The sorted names of dir's sub-folders or images; hidden ones are left out. */
static gb_status list(const char *dir, bool folders, names *out, gb_error *err)
{
    DIR *d = opendir(dir);
    if (!d)
        return gb_fail(err, GB_NOT_FOUND, dir, "set data.path to a folder of images",
                       "the folder cannot be opened");
    gb_status s = GB_OK;
    for (struct dirent *e; !s && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char *path = gb_path_join(dir, e->d_name);
        bool wanted = path && is_directory(path) == folders && (folders || is_image(e->d_name));
        if (!path || (wanted && !names_add(out, e->d_name))) s = no_memory(dir, err);
        free(path);
    }
    closedir(d);
    if (out->count) qsort(out->items, out->count, sizeof *out->items, compare);
    return s;
}

/* ---- scanning ---- */

/* The images of a split: paths[i] belongs to class[i]. */
typedef struct scan {
    names paths;
    int32_t *classes;
} scan;

static void scan_free(scan *s)
{
    names_free(&s->paths);
    free(s->classes);
    *s = (scan){0};
}

static gb_status scan_class(scan *s, const char *dir, int label, gb_error *err)
{
    names files = {0};
    gb_status status = list(dir, false, &files, err);
    int32_t *grown = NULL;
    if (!status && files.count) {
        grown = realloc(s->classes, (s->paths.count + files.count) * sizeof *grown);
        if (grown)
            s->classes = grown;
        else
            status = no_memory(dir, err);
    }
    for (size_t i = 0; !status && i < files.count; i++) {
        char *path = gb_path_join(dir, files.items[i]);
        s->classes[s->paths.count] = label;
        if (!path || !names_add(&s->paths, path)) status = no_memory(dir, err);
        free(path);
    }
    names_free(&files);
    return status;
}

static int find_class(const names *classes, const char *name)
{
    char *const *hit = bsearch(&name, classes->items, classes->count, sizeof name, compare);
    return hit ? (int)(hit - classes->items) : -1;
}

static gb_status scan_split(scan *s, const char *dir, const names *classes, gb_error *err)
{
    names folders = {0};
    gb_status status = list(dir, true, &folders, err);
    for (size_t i = 0; !status && i < folders.count; i++) {
        int label = find_class(classes, folders.items[i]);
        char *path = gb_path_join(dir, folders.items[i]);
        if (!path)
            status = no_memory(dir, err);
        else if (label < 0)
            status = gb_fail(err, GB_INVALID, path, "use the same classes in train and test",
                             "the training images have no class '%.100s'", folders.items[i]);
        else
            status = scan_class(s, path, label, err);
        free(path);
    }
    names_free(&folders);
    if (!status && !s->paths.count)
        status = gb_fail(err, GB_INVALID, dir, "put .png or .jpg files into a sub-folder a class",
                         "there are no images in its sub-folders");
    return status;
}

/* ---- reading ---- */

static gb_status read_example(gb_dataset *ds, const char *path, bool resize, bool *coloured,
                              uint8_t *out, gb_error *err)
{
    gb_tensor image;
    gb_status s = gb_image_read(&image, path, err);
    if (s) return s;
    if (!resize && (image.shape.dim[0] != ds->height || image.shape.dim[1] != ds->width))
        s = gb_fail(err, GB_INVALID, path, "set data.size, to which all images are resized",
                    "this image has %lld x %lld pixels, the first one %d x %d",
                    (long long)image.shape.dim[1], (long long)image.shape.dim[0], ds->width,
                    ds->height);
    *coloured |= image.shape.dim[2] == 3;
    if (!s) s = gb_image_to_planes(&image, ds->channels, ds->height, ds->width, out, err);
    gb_tensor_free(&image);
    return s;
}

static gb_status read_split(gb_dataset *ds, gb_split split, const scan *found, bool resize,
                            bool *coloured, gb_error *err)
{
    size_t bytes = (size_t)ds->channels * (size_t)ds->height * (size_t)ds->width;
    gb_status s = gb_dataset_allocate(ds, split, (int64_t)found->paths.count, err);
    for (size_t i = 0; !s && i < found->paths.count; i++) {
        ds->split[split].labels[i] = found->classes[i];
        s = read_example(ds, found->paths.items[i], resize, coloured,
                         ds->split[split].images + i * bytes, err);
    }
    return s;
}

/* Where no image has colours, one of three equal planes is enough. */
static void keep_one_channel(gb_dataset *ds)
{
    size_t plane = (size_t)ds->height * (size_t)ds->width;
    for (int k = 0; k < GB_SPLIT_COUNT; k++) {
        gb_examples *e = &ds->split[k];
        for (int64_t i = 0; i < e->count; i++)
            memmove(e->images + (size_t)i * plane, e->images + 3 * (size_t)i * plane, plane);
        uint8_t *smaller = e->count ? realloc(e->images, (size_t)e->count * plane) : NULL;
        if (smaller) e->images = smaller;
    }
    ds->channels = 1;
}

/* The size of the first image, where the options give none. */
static gb_status find_size(const scan *train, const gb_data_options *o, int *height, int *width,
                           gb_error *err)
{
    *height = *width = o->size;
    if (o->size) return GB_OK;
    gb_tensor image;
    gb_status s = gb_image_read(&image, train->paths.items[0], err);
    if (s) return s;
    *height = (int)image.shape.dim[0];
    *width = (int)image.shape.dim[1];
    gb_tensor_free(&image);
    return GB_OK;
}

static gb_status build(gb_dataset **ds, const scan found[GB_SPLIT_COUNT], const names *classes,
                       const gb_data_options *o, gb_error *err)
{
    int height, width;
    bool coloured = false;
    gb_status s = find_size(&found[GB_TRAIN], o, &height, &width, err);
    if (!s)
        s = gb_dataset_create(ds, o->dataset, o->channels ? o->channels : 3, height, width,
                              (int)classes->count, (const char *const *)classes->items, err);
    for (int k = 0; !s && k < GB_SPLIT_COUNT; k++)
        if (found[k].paths.count)
            s = read_split(*ds, (gb_split)k, &found[k], o->size > 0, &coloured, err);
    if (!s && !o->channels && !coloured) keep_one_channel(*ds);
    if (!s && !found[GB_TEST].paths.count)
        s = gb_dataset_split_off(*ds, GB_TEST, o->test > 0 ? o->test : 0.1, o->seed, err);
    return s;
}

/* The folder of a split: root itself for train where root has no train/, NULL where there is none.
 */
static gb_status split_dir(const char *root, gb_split split, bool split_folders, char **dir,
                           gb_error *err)
{
    *dir = NULL;
    if (!split_folders && split != GB_TRAIN) return GB_OK;
    char *path = split_folders ? gb_path_join(root, gb_split_name(split)) : strdup(root);
    if (!path) return no_memory(root, err);
    if (is_directory(path))
        *dir = path;
    else
        free(path);
    return GB_OK;
}

static gb_status scan_all(const char *root, scan found[GB_SPLIT_COUNT], names *classes,
                          gb_error *err)
{
    char *train = gb_path_join(root, "train");
    if (!train) return no_memory(root, err);
    bool split_folders = is_directory(train);
    gb_status s = list(split_folders ? train : root, true, classes, err);
    free(train);
    for (int k = 0; !s && k < GB_SPLIT_COUNT; k++) {
        char *dir;
        s = split_dir(root, (gb_split)k, split_folders, &dir, err);
        if (!s && dir) s = scan_split(&found[k], dir, classes, err);
        free(dir);
    }
    return s;
}

gb_status gb_open_folder(gb_dataset **ds, const gb_data_options *o, gb_error *err)
{
    if (!o->path)
        return gb_fail(err, GB_INVALID, "data.path", "set data.path to a folder of images",
                       "the data set 'folder' needs a path");
    if (o->size < 0 || o->size > GB_IMAGE_MAX_SIDE ||
        (o->channels != 0 && o->channels != 1 && o->channels != 3))
        return gb_fail(err, GB_INVALID, o->path, "use a size of at least 1, and 1 or 3 channels",
                       "images of size %d with %d channels are not possible", o->size, o->channels);
    scan found[GB_SPLIT_COUNT] = {0};
    names classes = {0};
    gb_status s = scan_all(o->path, found, &classes, err);
    if (!s) s = build(ds, found, &classes, o, err);
    for (int k = 0; k < GB_SPLIT_COUNT; k++) scan_free(&found[k]);
    names_free(&classes);
    return s;
}
