#include <stdlib.h>
#include <string.h>

#include "core/io/tensors.h"

static gb_status no_memory(gb_error *err, const char *name)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory for a list of tensors");
}

gb_status gb_tensors_append(gb_tensors *list, const char *name, gb_named_tensor **item,
                            gb_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        gb_named_tensor *items = realloc(list->items, capacity * sizeof *items);
        if (!items) return no_memory(err, name);
        list->items = items;
        list->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy) return no_memory(err, name);
    *item = &list->items[list->count++];
    **item = (gb_named_tensor){.name = copy};
    return GB_OK;
}

static gb_status append_distinct(gb_tensors *list, const char *name, gb_named_tensor **item,
                                 gb_error *err)
{
    if (gb_tensors_find(list, name))
        return gb_fail(err, GB_INVALID, name, "use distinct names",
                       "the list has a tensor of this name already");
    return gb_tensors_append(list, name, item, err);
}

gb_status gb_tensors_create(gb_tensors *list, const char *name, gb_dtype dtype,
                            const gb_shape *shape, gb_tensor **tensor, gb_error *err)
{
    gb_tensor t;
    gb_named_tensor *item;
    gb_status s = gb_tensor_alloc(&t, dtype, shape, err);
    if (!s) s = append_distinct(list, name, &item, err);
    if (s) {
        gb_tensor_free(&t);
        return s;
    }
    item->tensor = t;
    if (tensor) *tensor = &item->tensor;
    return GB_OK;
}

gb_status gb_tensors_borrow(gb_tensors *list, const char *name, const gb_tensor *tensor,
                            gb_error *err)
{
    gb_named_tensor *item;
    gb_status s = append_distinct(list, name, &item, err);
    if (s) return s;
    item->tensor = *tensor;
    item->borrowed = true;
    return GB_OK;
}

gb_tensor *gb_tensors_find(const gb_tensors *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0) return &list->items[i].tensor;
    return NULL;
}

static gb_metadata *find_metadata(const gb_tensors *list, const char *key)
{
    for (size_t i = 0; i < list->metadata_count; i++)
        if (strcmp(list->metadata[i].key, key) == 0) return &list->metadata[i];
    return NULL;
}

gb_status gb_tensors_append_metadata(gb_tensors *list, const char *key, const char *value,
                                     gb_error *err)
{
    size_t n = list->metadata_count;
    if ((n & (n - 1)) == 0) { /* full at each power of two */
        gb_metadata *grown = realloc(list->metadata, (n ? 2 * n : 1) * sizeof *grown);
        if (!grown) return no_memory(err, key);
        list->metadata = grown;
    }
    gb_metadata m = {strdup(key), strdup(value)};
    if (!m.key || !m.value) {
        free(m.key);
        free(m.value);
        return no_memory(err, key);
    }
    list->metadata[list->metadata_count++] = m;
    return GB_OK;
}

gb_status gb_tensors_set_metadata(gb_tensors *list, const char *key, const char *value,
                                  gb_error *err)
{
    gb_metadata *m = find_metadata(list, key);
    if (!m) return gb_tensors_append_metadata(list, key, value, err);
    char *copy = strdup(value);
    if (!copy) return no_memory(err, key);
    free(m->value);
    m->value = copy;
    return GB_OK;
}

const char *gb_tensors_get_metadata(const gb_tensors *list, const char *key)
{
    const gb_metadata *m = find_metadata(list, key);
    return m ? m->value : NULL;
}

void gb_tensors_free(gb_tensors *list)
{
    if (!list) return;
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        if (!list->items[i].borrowed) gb_tensor_free(&list->items[i].tensor);
    }
    for (size_t i = 0; i < list->metadata_count; i++) {
        free(list->metadata[i].key);
        free(list->metadata[i].value);
    }
    free(list->items);
    free(list->metadata);
    *list = (gb_tensors){0};
}
