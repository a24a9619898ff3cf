/* CIFAR-10's binary version: six files of 10,000 records of one label byte and 3 × 32 × 32 pixels.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/file.h>

#include "core/data/internal.h"

#define RECORD (1 + GB_CIFAR_PIXELS)
#define PER_FILE 10000
#define FILES 6

gb_status gb_cifar_parse(uint8_t *images, int32_t *labels, int64_t count, const uint8_t *bytes,
                         size_t length, const char *name, gb_error *err)
{
    if (length / RECORD != (uint64_t)count || length % RECORD)
        return gb_fail(err, GB_FORMAT, name, "download the data set's binary version again",
                       "the file has %zu bytes instead of %lld", length, (long long)count * RECORD);
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *record = bytes + i * RECORD;
        if (record[0] > 9)
            return gb_fail(err, GB_FORMAT, name, "download the data set's binary version again",
                           "image %lld has the label %d, but there are 10 classes", (long long)i,
                           record[0]);
        labels[i] = record[0];
        memcpy(images + i * GB_CIFAR_PIXELS, record + 1, GB_CIFAR_PIXELS);
    }
    return GB_OK;
}

static gb_status read_file(gb_dataset *ds, const char *dir, int number, gb_error *err)
{
    char name[32] = "test_batch.bin";
    if (number < FILES - 1) snprintf(name, sizeof name, "data_batch_%d.bin", number + 1);
    char *path = gb_path_join(dir, name);
    if (!path) return gb_fail(err, GB_OUT_OF_MEMORY, dir, NULL, "no memory for a path");
    int64_t first = number < FILES - 1 ? number * PER_FILE : 0;
    gb_examples *e = &ds->split[number < FILES - 1 ? GB_TRAIN : GB_TEST];
    uint8_t *bytes = NULL;
    size_t length;
    gb_status s = gb_read_file(path, (size_t)RECORD * PER_FILE + RECORD, &bytes, &length, err);
    if (!s)
        s = gb_cifar_parse(e->images + first * GB_CIFAR_PIXELS, e->labels + first, PER_FILE, bytes,
                           length, path, err);
    free(bytes);
    free(path);
    return s;
}

gb_status gb_open_cifar10(gb_dataset **ds, const gb_data_options *o, gb_error *err)
{
    static const char *const probes[] = {"data_batch_1.bin", "test_batch.bin", NULL};
    static const char *const names[] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                        "dog",      "frog",       "horse", "ship", "truck"};
    char *dir;
    gb_status s = gb_data_find(&dir, o, "cifar-10-batches-bin", NULL, probes,
                               "set data.path to the folder of CIFAR-10's binary version "
                               "(cifar-10-binary.tar.gz)",
                               err);
    if (s) return s;
    s = gb_dataset_create(ds, o->dataset, 3, 32, 32, 10, names, err);
    if (!s) s = gb_dataset_allocate(*ds, GB_TRAIN, (FILES - 1) * PER_FILE, err);
    if (!s) s = gb_dataset_allocate(*ds, GB_TEST, PER_FILE, err);
    for (int i = 0; !s && i < FILES; i++) s = read_file(*ds, dir, i, err);
    free(dir);
    return s;
}
