/* Checkpoints: all states as safetensors, and state.json, which names the file that counts. The
 * tensors are on disk, whole, before state.json points to them; older ones go last. */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gimbal/io.h>

#include "core/train/run.h"
#include "core/train/trainer.h"

enum { STATE_LIMIT = 4 << 20 };

gb_status gb_store_collect(gb_store *store, gb_tensors *list, gb_error *err)
{
    const char *name;
    gb_status status = GB_OK;
    for (int i = 0; !status && (name = gb_store_name(store, i)); i++) {
        gb_tensor value = {0}, *copy;
        if (gb_ring_owns(name)) continue;
        status = gb_store_get(store, name, &value, err);
        if (!status) status = gb_tensors_create(list, name, value.dtype, &value.shape, &copy, err);
        if (!status) memcpy(copy->data, value.data, gb_tensor_bytes(&value));
        gb_tensor_free(&value);
    }
    return status;
}

static void remove_others(const char *dir, const char *keep)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        const char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".safetensors") != 0 || strcmp(e->d_name, keep) == 0) continue;
        char *path = gb_path_join(dir, e->d_name);
        if (path) unlink(path);
        free(path);
    }
    if (d) closedir(d);
}

static gb_status write_state(const char *dir, const char *file, const gb_run_state *s, const char *choices,
                             gb_error *err)
{
    char *path = gb_path_join(dir, "state.json");
    json_t *json = json_pack("{s:s s:I s:I s:I s:f s:f s:I s:f s:I s:s}", "tensors", file, "step", (json_int_t)s->step,
                             "epoch", (json_int_t)s->epoch, "batch", (json_int_t)s->batch, "loss_sum", s->loss_sum,
                             "hit_sum", s->hit_sum, "examples", (json_int_t)s->examples, "seconds", s->seconds,
                             "micro_batch", (json_int_t)s->micro_batch, "device", s->device);
    bool whole = json && json_object_set_new(json, "choices", json_loads(choices, 0, NULL)) == 0;
    char *text = whole ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    gb_status status = path && text ? gb_write_file(path, text, strlen(text), err)
                                    : gb_fail(err, GB_OUT_OF_MEMORY, dir, NULL, "no memory for a checkpoint");
    free(text);
    free(path);
    json_decref(json);
    return status;
}

gb_status gb_checkpoint_write(const char *run, gb_device *dev, gb_store *store, const gb_run_state *state,
                              gb_error *err)
{
    char file[64], *dir = gb_path_join(run, "checkpoints"), *path = NULL, *choices = NULL;
    gb_tensors list = {0};
    snprintf(file, sizeof file, "step-%08lld.safetensors", (long long)state->step);
    if (dir) path = gb_path_join(dir, file);
    gb_status status = path ? gb_make_dirs(dir, err)
                            : gb_fail(err, GB_OUT_OF_MEMORY, run, NULL, "no memory for a checkpoint");
    if (!status) status = gb_store_collect(store, &list, err);
    if (!status) status = gb_safetensors_write(&list, path, err);
    if (!status) status = gb_device_choices(dev, &choices, err);
    if (!status) status = write_state(dir, file, state, choices, err);
    if (!status) remove_others(dir, file);
    gb_tensors_free(&list);
    free(choices);
    free(path);
    free(dir);
    return status;
}

static gb_status parse_state(const char *path, const char *text, gb_run_state *s, char *file, size_t size,
                             gb_error *err)
{
    json_error_t bad;
    json_t *json = json_loads(text, 0, &bad);
    const char *name = NULL, *device = NULL;
    json_int_t step, epoch, batch, examples;
    if (!json || json_unpack_ex(json, &bad, 0, "{s:s s:I s:I s:I s:F s:F s:I s:F s:s}", "tensors", &name, "step",
                                &step, "epoch", &epoch, "batch", &batch, "loss_sum", &s->loss_sum, "hit_sum",
                                &s->hit_sum, "examples", &examples, "seconds", &s->seconds, "device", &device)) {
        json_decref(json);
        return gb_fail(err, GB_FORMAT, path, "start the run anew", "the state of the run is damaged: %s", bad.text);
    }
    s->step = step;
    s->epoch = epoch;
    s->batch = batch;
    s->examples = examples;
    snprintf(s->device, sizeof s->device, "%s", device);
    bool safe = !strchr(name, '/') && strlen(name) < size; /* a file beside state.json, nothing else */
    if (safe) snprintf(file, size, "%s", name);
    json_decref(json);
    if (safe && step >= 0 && epoch >= 0 && batch >= 0 && examples >= 0) return GB_OK;
    return gb_fail(err, GB_FORMAT, path, "start the run anew", "the state of the run is damaged");
}

/* The text of state.json; free() it. */
static gb_status read_state(const char *run, char **path, char **text, gb_error *err)
{
    char *dir = gb_path_join(run, "checkpoints");
    uint8_t *bytes = NULL;
    size_t size;
    *path = dir ? gb_path_join(dir, "state.json") : NULL;
    free(dir);
    gb_status status = *path ? gb_read_file(*path, STATE_LIMIT, &bytes, &size, err)
                             : gb_fail(err, GB_OUT_OF_MEMORY, run, NULL, "no memory for a checkpoint");
    if (status == GB_NOT_FOUND)
        gb_fail(err, status, run, "give the folder of a run that has saved a checkpoint",
                "there is no checkpoint in %s", run);
    *text = (char *)bytes;
    return status;
}

gb_status gb_checkpoint_replay(const char *run, gb_device *dev, int64_t *micro_batch, gb_error *err)
{
    char *path, *text = NULL, *choices = NULL;
    gb_status status = read_state(run, &path, &text, err);
    json_t *json = status ? NULL : json_loads(text, 0, NULL), *list = json_object_get(json, "choices");
    *micro_batch = json_integer_value(json_object_get(json, "micro_batch"));
    if (list) choices = json_dumps(list, 0); /* runs of older versions have none; a damaged file is found later */
    if (list && !choices) status = gb_fail(err, GB_OUT_OF_MEMORY, run, NULL, "no memory for a checkpoint");
    if (choices) status = gb_device_replay(dev, choices, err);
    json_decref(json);
    free(choices);
    free(text);
    free(path);
    return status;
}

gb_status gb_run_device(const char *dir, char *id, size_t size, gb_error *err)
{
    char file[256], *path, *text = NULL;
    gb_run_state state = {0};
    gb_status status = read_state(dir, &path, &text, err);
    if (!status) status = parse_state(path, text, &state, file, sizeof file, err);
    if (!status) snprintf(id, size, "%s", state.device);
    free(text);
    free(path);
    return status;
}

gb_status gb_checkpoint_read(const char *run, gb_tensors *list, gb_run_state *state, gb_error *err)
{
    char file[256] = "", *dir = gb_path_join(run, "checkpoints"), *json, *path = NULL, *text = NULL;
    gb_status status = read_state(run, &json, &text, err);
    if (!status) status = parse_state(json, text, state, file, sizeof file, err);
    if (!status && !(path = dir ? gb_path_join(dir, file) : NULL))
        status = gb_fail(err, GB_OUT_OF_MEMORY, run, NULL, "no memory for a checkpoint");
    if (!status) status = gb_safetensors_read(list, path, err);
    free(path);
    free(text);
    free(json);
    free(dir);
    return status;
}

/* Every state that the trainer's programs know must be in the list. */
gb_status gb_store_load(gb_store *store, const gb_tensors *list, const char *source, bool parameters_only,
                        gb_error *err)
{
    const char *name;
    gb_status status = GB_OK;
    for (int i = 0; !status && (name = gb_store_name(store, i)); i++) {
        bool own = strncmp(name, "optimizer.", 10) == 0 || strncmp(name, "gradient.", 9) == 0;
        if (gb_ring_owns(name) || (own && parameters_only)) continue;
        const gb_tensor *t = gb_tensors_find(list, name);
        if (t) status = gb_store_set(store, name, t, err);
        else status = gb_fail(err, GB_NOT_FOUND, source, "give weights of the same model",
                              "%s has no tensor %s", source, name);
    }
    return status;
}
