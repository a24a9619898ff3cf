/* A data set's description as JSON: what a trained model needs to know of it. */
#include <gimbal/data.h>

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/file.h>

enum { MAX_BYTES = 16 << 20, MAX_CLASSES = 1 << 20, MAX_SIDE = 1 << 15 };

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a data set's description");
}

gb_status gb_dataset_write_description(const gb_dataset *dataset, const char *path, gb_error *err)
{
    json_t *labels = json_array(), *mean = json_array(), *std = json_array();
    for (int i = 0; i < dataset->classes; i++)
        json_array_append_new(labels, json_string(dataset->labels[i]));
    for (int i = 0; i < dataset->channels; i++) {
        json_array_append_new(mean, json_real((double)dataset->mean[i]));
        json_array_append_new(std, json_real((double)dataset->std[i]));
    }
    json_t *all = json_pack("{s:s, s:i, s:i, s:i, s:o, s:o, s:o}", "name", dataset->name,
                            "channels", dataset->channels, "height", dataset->height, "width",
                            dataset->width, "mean", mean, "std", std, "labels", labels);
    char *text = all ? json_dumps(all, JSON_INDENT(2)) : NULL;
    json_decref(all);
    if (!text) return no_memory(err);
    gb_status s = gb_write_file(path, text, strlen(text), err);
    free(text);
    return s;
}

static gb_status wrong(const char *path, const char *key, gb_error *err)
{
    return gb_fail(err, GB_FORMAT, path, "it is written by gimbal train",
                   "a description of a data set without a sound '%s'", key);
}

static bool read_floats(const json_t *list, int n, float *values, bool positive)
{
    if ((int)json_array_size(list) != n) return false;
    for (int i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        if (!json_is_number(item)) return false;
        values[i] = (float)json_number_value(item);
        if (!isfinite(values[i]) || (positive && values[i] <= 0)) return false;
    }
    return true;
}

static gb_status read_labels(const json_t *list, const char **labels, const char *path,
                             gb_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        labels[i] = json_string_value(json_array_get(list, i));
        if (!labels[i]) return wrong(path, "labels", err);
    }
    return GB_OK;
}

static gb_status from_json(gb_dataset **dataset, const json_t *all, const char *path, gb_error *err)
{
    const char *name = json_string_value(json_object_get(all, "name"));
    json_int_t channels = json_integer_value(json_object_get(all, "channels"));
    json_int_t height = json_integer_value(json_object_get(all, "height"));
    json_int_t width = json_integer_value(json_object_get(all, "width"));
    const json_t *list = json_object_get(all, "labels");
    size_t classes = json_array_size(list);
    if (!name) return wrong(path, "name", err);
    if (channels < 1 || channels > GB_MAX_CHANNELS) return wrong(path, "channels", err);
    if (height < 1 || height > MAX_SIDE || width < 1 || width > MAX_SIDE)
        return wrong(path, "height and width", err);
    if (classes < 1 || classes > MAX_CLASSES) return wrong(path, "labels", err);
    const char **labels = calloc(classes, sizeof *labels);
    if (!labels) return no_memory(err);
    gb_status s = read_labels(list, labels, path, err);
    if (!s)
        s = gb_dataset_create(dataset, name, (int)channels, (int)height, (int)width, (int)classes,
                              labels, err);
    free(labels);
    if (s) return s;
    if (!read_floats(json_object_get(all, "mean"), (int)channels, (*dataset)->mean, false))
        return wrong(path, "mean", err);
    if (!read_floats(json_object_get(all, "std"), (int)channels, (*dataset)->std, true))
        return wrong(path, "std", err);
    return GB_OK;
}

gb_status gb_dataset_read_description(gb_dataset **dataset, const char *path, gb_error *err)
{
    *dataset = NULL;
    uint8_t *text;
    size_t size;
    gb_status s = gb_read_file(path, MAX_BYTES, &text, &size, err);
    if (s) return s;
    json_error_t where;
    json_t *all = json_loadb((const char *)text, size, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (!all) {
        char place[256];
        snprintf(place, sizeof place, "%.200s:%d:%d", path, where.line, where.column);
        return gb_fail(err, GB_FORMAT, place, NULL, "not valid JSON: %s", where.text);
    }
    s = from_json(dataset, all, path, err);
    json_decref(all);
    if (s) gb_dataset_destroy(dataset);
    return s;
}
