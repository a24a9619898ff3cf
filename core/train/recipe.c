/* Reading and writing recipes; what they may say is in recipe_tables.c. */
#include <gimbal/recipe.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <gimbal/file.h>
#include <gimbal/suggest.h>
#include "core/train/recipe_tables.h"

enum { MAX_BYTES = 4 << 20, MAX_CHOICES = 8 };

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a recipe");
}

/* --- reading --- */

/* Reads "name" or "name: options" into the struct at base; node NULL takes choice 0. */
static gb_status read_choice(const gb_yaml *node, const char *what, const gb_choice *choices,
                             size_t n, void *base, int *kind, gb_error *err)
{
    const char *names[MAX_CHOICES];
    size_t index = 0;
    const gb_yaml *value = NULL;
    for (size_t i = 0; i < n; i++) names[i] = choices[i].name;
    if (!gb_yaml_is_null(node)) {
        gb_status s = gb_options_pick(node, what, names, n, &index, &value, err);
        if (s) return s;
    }
    *kind = (int)index;
    return gb_options_read(value, node, names[index], choices[index].options,
                           choices[index].n_options, base, err);
}

static gb_status read_mean_std(const gb_yaml *node, gb_data_options *data, gb_error *err)
{
    const gb_yaml *mean = gb_yaml_get(node, "mean"), *std = gb_yaml_get(node, "std");
    double means[GB_MAX_CHANNELS], stds[GB_MAX_CHANNELS];
    size_t n = 0, m = 0;
    if (node->kind != GB_YAML_MAP || !mean || !std || node->n != 2)
        return gb_yaml_fail(node, err, "write auto, none or {mean: [0.5], std: [0.25]}",
                            "'normalize' needs a mean and a std");
    gb_status s = gb_options_floats(mean, "mean", means, GB_MAX_CHANNELS, &n, err);
    if (!s) s = gb_options_floats(std, "std", stds, GB_MAX_CHANNELS, &m, err);
    if (s) return s;
    if (n != m)
        return gb_yaml_fail(node, err, "give one of each a channel",
                            "'mean' has %zu numbers, 'std' %zu", n, m);
    for (size_t i = 0; i < n; i++) {
        if (stds[i] <= 0) return gb_yaml_fail(std, err, NULL, "'std' must be above 0");
        data->mean[i] = (float)means[i];
        data->std[i] = (float)stds[i];
    }
    data->normalize = GB_NORMALIZE_GIVEN;
    data->normalize_channels = (int)n;
    return GB_OK;
}

static gb_status read_normalize(const gb_yaml *node, gb_data_options *data, gb_error *err)
{
    data->normalize = GB_NORMALIZE_AUTO;
    if (gb_yaml_is_null(node)) return GB_OK;
    if (node->kind == GB_YAML_SCALAR && strcmp(node->text, "auto") == 0) return GB_OK;
    if (node->kind == GB_YAML_SCALAR && strcmp(node->text, "none") == 0) {
        data->normalize = GB_NORMALIZE_NONE;
        return GB_OK;
    }
    return read_mean_std(node, data, err);
}

static gb_status read_augments(const gb_yaml *node, gb_augment *augment, gb_error *err)
{
    bool given[GB_AUGMENTS] = {false};
    if (gb_yaml_is_null(node)) return GB_OK;
    if (node->kind != GB_YAML_LIST)
        return gb_yaml_fail(node, err, "for example [flip, {crop: {padding: 4}}]",
                            "'augment' must be a list");
    for (size_t i = 0; i < node->n; i++) {
        int kind;
        gb_augment_rows rows = {0};
        gb_status s = read_choice(node->items[i], "augmentation", gb_augment_choices, GB_AUGMENTS,
                                  &rows, &kind, err);
        if (s) return s;
        if (given[kind])
            return gb_yaml_fail(node->items[i], err, "keep one of them", "'%s' is given twice",
                                gb_augment_choices[kind].name);
        given[kind] = true;
        if (kind == GB_FLIP) augment->flip = rows.alternate ? GB_FLIP_ALTERNATE : GB_FLIP_RANDOM;
        if (kind == GB_CROP) {
            augment->padding = (int)rows.padding;
            augment->reflect = rows.reflect;
        }
        if (kind == GB_CUTOUT) augment->cutout = (int)rows.size;
    }
    return GB_OK;
}

/* The library's own word for a dataset, or NULL after a failure. */
static const char *dataset_word(const gb_yaml *node, const char *word, gb_error *err)
{
    const char *const *kinds = gb_dataset_kinds();
    size_t n = 0;
    for (; kinds[n]; n++)
        if (strcmp(kinds[n], word) == 0) return kinds[n];
    char hint[200];
    gb_suggest_hint(word, kinds, n, hint, sizeof hint);
    const gb_yaml *at = gb_yaml_get(node, "dataset");
    gb_yaml_fail(at ? at : node, err, hint, "unknown dataset '%.60s'", word);
    return NULL;
}

static gb_status read_data(const gb_yaml *node, gb_recipe *r, gb_error *err)
{
    gb_data_rows rows;
    gb_status s = gb_options_read(node, node, "data", gb_data_table, GB_DATA_ROWS, &rows, err);
    if (s) return s;
    r->data = (gb_data_options){.dataset = dataset_word(node, rows.dataset, err),
                                .path = rows.path,
                                .validation = rows.validation,
                                .test = rows.test,
                                .seed = r->seed,
                                .size = (int)rows.size,
                                .channels = (int)rows.channels};
    free(rows.dataset);
    if (!r->data.dataset) return GB_INVALID;
    s = read_normalize(rows.normalize, &r->data, err);
    return s ? s : read_augments(rows.augment, &r->augment, err);
}

static gb_status read_clip(const gb_yaml *node, gb_recipe *r, gb_error *err)
{
    gb_clip_options o;
    gb_status s = gb_options_read(node, node, "clip", gb_clip_table, GB_CLIP_OPTIONS, &o, err);
    r->clip_norm = s ? 0 : o.norm;
    r->clip_value = s ? 0 : o.value;
    return s;
}

/* "2GiB", "512 MiB", "1.5GiB", "2000000": bytes. */
static bool parse_bytes(const char *text, uint64_t *bytes)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"", 1},        {"B", 1},           {"KiB", 1024},
                 {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1099511627776.0}};
    char *end;
    double n = strtod(text, &end);
    if (end == text || !(n > 0)) return false;
    while (*end == ' ') end++;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        double value = n * units[i].factor;
        if (strcasecmp(end, units[i].unit) != 0 || value < 1 || value > 0x1p62) continue;
        *bytes = (uint64_t)value;
        return true;
    }
    return false;
}

static gb_status read_memory(const gb_yaml *node, gb_recipe *r, gb_error *err)
{
    gb_memory_options o = {0};
    if (gb_yaml_is_null(node)) return GB_OK;
    gb_status s = gb_options_read(node, node, "memory", gb_memory_table, GB_MEMORY_OPTIONS, &o, err);
    if (!s && o.budget && !parse_bytes(o.budget, &r->memory_budget))
        s = gb_yaml_fail(node, err, "write bytes, or a number with KiB, MiB or GiB: 2GiB",
                         "'budget' is no number of bytes: '%.40s'", o.budget);
    gb_options_clear(gb_memory_table, GB_MEMORY_OPTIONS, &o);
    return s;
}

static gb_status read_training(const gb_top_options *o, gb_recipe *r, gb_error *err)
{
    int loss = 0, optimizer = 0, schedule = 0, precision = 0;
    gb_status s = read_choice(o->loss, "loss", gb_loss_choices, GB_LOSSES, &r->loss, &loss, err);
    if (!s)
        s = read_choice(o->optimizer, "optimizer", gb_optimizer_choices, GB_OPTIMIZERS,
                        &r->optimizer, &optimizer, err);
    if (!s)
        s = read_choice(o->schedule, "schedule", gb_schedule_choices, GB_SCHEDULES, &r->schedule,
                        &schedule, err);
    if (!s)
        s = read_choice(o->precision, "precision", gb_precision_choices, GB_PRECISIONS, r, &precision,
                        err);
    if (!s) s = read_clip(o->clip, r, err);
    if (!s) s = read_memory(o->memory, r, err);
    if (s) return s;
    r->precision = (gb_precision)precision;
    r->loss.kind = (gb_loss_kind)loss;
    r->optimizer.kind = (gb_optimizer_kind)optimizer;
    r->schedule.kind = (gb_schedule_kind)schedule;
    if (r->optimizer.nesterov && r->optimizer.momentum == 0)
        return gb_yaml_fail(o->optimizer, err, "add momentum: 0.9",
                            "'nesterov' needs a 'momentum' above 0");
    return GB_OK;
}

static gb_status read_tree(const gb_yaml *root, gb_recipe *r, gb_error *err)
{
    gb_top_options o;
    if (root->kind != GB_YAML_MAP)
        return gb_yaml_fail(root, err,
                            "it begins with data: and model:", "a recipe is a map of keys");
    gb_status s = gb_options_read(root, root, "recipe", gb_top_table, GB_TOP_OPTIONS, &o, err);
    if (s) return s;
    r->l1 = o.l1;
    r->l2 = o.l2;
    r->batch = o.batch;
    r->micro_batch = o.micro_batch ? o.micro_batch : o.batch;
    r->epochs = o.epochs;
    r->seed = (uint64_t)o.seed;
    r->math = (gb_math)o.math;
    if (r->batch % r->micro_batch)
        return gb_yaml_fail(gb_yaml_get(root, "micro_batch"), err, NULL,
                            "'micro_batch' %lld does not divide 'batch' %lld",
                            (long long)r->micro_batch, (long long)r->batch);
    if ((s = read_data(o.data, r, err)) || (s = read_training(&o, r, err))) return s;
    return gb_model_from_yaml(o.model, &r->model, err);
}

gb_status gb_recipe_parse(const char *text, const char *name, const char *const *sets, size_t n,
                          gb_recipe **recipe, gb_error *err)
{
    *recipe = NULL;
    gb_yaml_doc doc;
    gb_status s = gb_yaml_parse(text, strlen(text), name, &doc, err);
    if (s) return s;
    for (size_t i = 0; i < n && !s; i++) s = gb_yaml_set(&doc, sets[i], err);
    gb_recipe *r = s ? NULL : calloc(1, sizeof *r);
    if (!s) s = r ? read_tree(doc.root, r, err) : no_memory(err);
    gb_yaml_free(&doc);
    if (s) gb_recipe_destroy(&r);
    *recipe = r;
    return s;
}

/* path itself, or the installed recipe of that name; free() it. */
static char *find_recipe(const char *path)
{
    char *installed = NULL;
    if (access(path, F_OK) == 0 || strchr(path, '/') ||
        asprintf(&installed, "%s/%s.yaml", GB_RECIPE_DIR, path) < 0)
        return strdup(path);
    if (access(installed, R_OK) == 0) return installed;
    free(installed);
    return strdup(path);
}

gb_status gb_recipe_read(const char *path, const char *const *sets, size_t n, gb_recipe **recipe,
                         gb_error *err)
{
    *recipe = NULL;
    char *found = find_recipe(path);
    if (!found) return no_memory(err);
    uint8_t *text;
    size_t size;
    gb_status s = gb_read_file(found, MAX_BYTES, &text, &size, err);
    if (!s) {
        if (strlen((const char *)text) != size)
            s = gb_fail(err, GB_FORMAT, path, NULL, "it is not a text: it holds a zero byte");
        else
            s = gb_recipe_parse((const char *)text, path, sets, n, recipe, err);
        free(text);
    }
    free(found);
    return s;
}

void gb_recipe_destroy(gb_recipe **recipe)
{
    if (!recipe || !*recipe) return;
    gb_model_destroy(&(*recipe)->model);
    free((char *)(*recipe)->data.path);
    free(*recipe);
    *recipe = NULL;
}

/* --- writing --- */

static void write_choice(FILE *f, const gb_choice *choice, const void *base)
{
    fputs(choice->name, f);
    if (choice->n_options == 0) return;
    fputs(": {", f);
    gb_options_write(f, choice->options, choice->n_options, base);
    fputc('}', f);
}

/* One option a line. */
static void write_rows(FILE *f, const gb_option *options, size_t n, const void *base, int indent)
{
    for (size_t i = 0; i < n; i++) {
        if (!gb_option_is_set(&options[i], base)) continue;
        fprintf(f, "%*s", indent, "");
        gb_options_write(f, &options[i], 1, base);
        fputc('\n', f);
    }
}

static void write_numbers(FILE *f, const char *name, const float *values, int n)
{
    fprintf(f, "%s: [", name);
    for (int i = 0; i < n; i++) {
        if (i) fputs(", ", f);
        gb_yaml_write_float(f, values[i]);
    }
    fputc(']', f);
}

static void write_augments(FILE *f, const gb_augment *augment)
{
    const gb_augment_rows rows = {.alternate = augment->flip == GB_FLIP_ALTERNATE,
                                  .padding = augment->padding,
                                  .reflect = augment->reflect,
                                  .size = augment->cutout};
    const bool used[GB_AUGMENTS] = {augment->flip != GB_FLIP_NONE, augment->padding > 0,
                                    augment->cutout > 0};
    fputs("  augment: [", f);
    for (int i = 0, n = 0; i < GB_AUGMENTS; i++) {
        if (!used[i]) continue;
        fputs(n++ ? ", {" : "{", f);
        write_choice(f, &gb_augment_choices[i], &rows);
        fputc('}', f);
    }
    fputs("]\n", f);
}

static void write_data(FILE *f, const gb_data_options *data)
{
    const gb_data_rows rows = {.dataset = (char *)data->dataset,
                               .path = (char *)data->path,
                               .validation = data->validation,
                               .test = data->test,
                               .size = data->size,
                               .channels = data->channels};
    fputs("data:\n", f);
    write_rows(f, gb_data_table, GB_DATA_ROWS, &rows, 2);
    fputs("  normalize: ", f);
    if (data->normalize == GB_NORMALIZE_GIVEN) {
        fputc('{', f);
        write_numbers(f, "mean", data->mean, data->normalize_channels);
        fputs(", ", f);
        write_numbers(f, "std", data->std, data->normalize_channels);
        fputs("}\n", f);
    } else {
        fputs(data->normalize == GB_NORMALIZE_AUTO ? "auto\n" : "none\n", f);
    }
}

static void write_recipe(FILE *f, const gb_recipe *r, const char *model)
{
    gb_top_options top = {.l1 = r->l1,
                          .l2 = r->l2,
                          .batch = r->batch,
                          .micro_batch = r->micro_batch,
                          .epochs = r->epochs,
                          .seed = (int64_t)r->seed,
                          .math = (int)r->math};
    write_data(f, &r->data);
    write_augments(f, &r->augment);
    fprintf(f, "model:\n%s", model);
    fputs("loss:\n  ", f);
    write_choice(f, &gb_loss_choices[r->loss.kind], &r->loss);
    fputs("\noptimizer:\n  ", f);
    write_choice(f, &gb_optimizer_choices[r->optimizer.kind], &r->optimizer);
    fputs("\nschedule:\n  ", f);
    write_choice(f, &gb_schedule_choices[r->schedule.kind], &r->schedule);
    fputs("\nprecision:\n  ", f);
    write_choice(f, &gb_precision_choices[r->precision], r);
    fputs("\nclip: {norm: ", f);
    gb_yaml_write_number(f, r->clip_norm);
    fputs(", value: ", f);
    gb_yaml_write_number(f, r->clip_value);
    fputs("}\n", f);
    if (r->memory_budget)
        fprintf(f, "memory: {budget: %llu}\n", (unsigned long long)r->memory_budget);
    write_rows(f, gb_top_table, GB_TOP_OPTIONS, &top, 0);
}

char *gb_recipe_text(const gb_recipe *recipe)
{
    char *text = NULL, *model = gb_model_write(recipe->model, 2);
    size_t size = 0;
    FILE *f = model ? open_memstream(&text, &size) : NULL;
    if (f) {
        write_recipe(f, recipe, model);
        if (fclose(f) != 0) {
            free(text);
            text = NULL;
        }
    }
    free(model);
    return text;
}

gb_status gb_recipe_write(const gb_recipe *recipe, const char *path, gb_error *err)
{
    char *text = gb_recipe_text(recipe);
    if (!text) return no_memory(err);
    gb_status s = gb_write_file(path, text, strlen(text), err);
    free(text);
    return s;
}
