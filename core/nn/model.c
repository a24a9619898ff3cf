/* Descriptions: reading a model's YAML into layers, and writing it back. */
#include "core/nn/layer.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TYPES = 80, MAX_LAYERS = 10000 };

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a model");
}

/* --- layers --- */

void gb_layers_free(gb_layers *layers)
{
    for (size_t i = 0; i < layers->n; i++) {
        gb_layer *l = &layers->items[i];
        gb_layers_free(&l->body);
        gb_layers_free(&l->shortcut);
        gb_options_clear(l->type->options, l->type->n_options, &l->o);
    }
    free(layers->items);
    *layers = (gb_layers){0};
}

/* The layer lists inside a layer. */
static gb_status read_nested(gb_layer *l, gb_error *err)
{
    gb_status s = GB_OK;
    if (l->o.body) s = gb_layers_read(l->o.body, l->type->name, &l->body, err);
    const gb_yaml *shortcut = l->o.shortcut;
    l->o.body = l->o.shortcut = NULL;
    if (s || gb_yaml_is_null(shortcut)) return s;
    if (shortcut->kind == GB_YAML_SCALAR && strcmp(shortcut->text, "identity") == 0) return GB_OK;
    if (shortcut->kind == GB_YAML_SCALAR && strcmp(shortcut->text, "pad") == 0) {
        l->pad_shortcut = true;
        return GB_OK;
    }
    char found[80];
    if (shortcut->kind != GB_YAML_LIST)
        return gb_yaml_fail(shortcut, err, "write identity, pad or a list of layers",
                            "'shortcut' cannot be %s",
                            gb_yaml_describe(shortcut, found, sizeof found));
    return gb_layers_read(shortcut, "shortcut", &l->shortcut, err);
}

static gb_status read_layer(const gb_yaml *node, gb_layer *l, gb_error *err)
{
    const char *names[MAX_TYPES];
    size_t index = 0;
    const gb_yaml *value;
    for (size_t i = 0; i < gb_layer_type_count; i++) names[i] = gb_layer_types[i].name;
    gb_status s = gb_options_pick(node, "layer", names, gb_layer_type_count, &index, &value, err);
    if (s) return s;
    l->type = &gb_layer_types[index];
    return gb_options_read(value, node, l->type->name, l->type->options, l->type->n_options, &l->o,
                           err);
}

gb_status gb_layers_read(const gb_yaml *list, const char *what, gb_layers *layers, gb_error *err)
{
    *layers = (gb_layers){0};
    if (list->kind != GB_YAML_LIST)
        return gb_yaml_fail(list, err, "write one layer a line, each behind a dash",
                            "the layers of '%s' must be a list", what);
    if (list->n > MAX_LAYERS)
        return gb_yaml_fail(list, err, NULL, "%zu layers are too many", list->n);
    layers->items = calloc(list->n ? list->n : 1, sizeof *layers->items);
    if (!layers->items) return no_memory(err);
    for (size_t i = 0; i < list->n; i++) {
        gb_layer *l = &layers->items[i];
        gb_status s = read_layer(list->items[i], l, err);
        if (!s) {
            layers->n++;
            s = read_nested(l, err);
        }
        if (s) {
            gb_layers_free(layers);
            return s;
        }
    }
    return GB_OK;
}

/* --- models --- */

static gb_status read_named(const gb_yaml *node, gb_model *m, gb_error *err)
{
    const char *names[MAX_TYPES];
    size_t index = 0;
    const gb_yaml *value;
    for (size_t i = 0; i < gb_named_model_count; i++) names[i] = gb_named_models[i].name;
    names[gb_named_model_count] = "layers"; /* for suggestions */
    gb_status s =
        gb_options_pick(node, "model", names, gb_named_model_count + 1, &index, &value, err);
    if (s) return s;
    if (index == gb_named_model_count)
        return gb_yaml_fail(node, err, NULL, "'layers' needs a list of layers");
    m->named = &gb_named_models[index];
    s = gb_options_read(value, node, m->named->name, m->named->options, m->named->n_options,
                        &m->named_options, err);
    if (s) return s;
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return no_memory(err);
    m->named->write(f, m->named, &m->named_options);
    if (fclose(f) != 0) s = no_memory(err);
    gb_yaml_doc doc = {0};
    if (!s) s = gb_yaml_parse(text, size, m->named->name, &doc, err);
    if (!s) s = gb_layers_read(doc.root, m->named->name, &m->layers, err);
    gb_yaml_free(&doc);
    free(text);
    return s;
}

typedef struct layers_options {
    const gb_yaml *layers;
    int init;
} layers_options;

static const gb_option layers_table[] = {
    {.name = "layers",
     .type = GB_OPT_TREE,
     .offset = offsetof(layers_options, layers),
     .required = true},
    {.name = "init",
     .type = GB_OPT_CHOICE,
     .offset = offsetof(layers_options, init),
     .choices = gb_init_names},
};

static gb_status read_layers(const gb_yaml *node, gb_model *m, gb_error *err)
{
    layers_options o;
    gb_status s = gb_options_read(node, node, "model", layers_table, 2, &o, err);
    if (s) return s;
    if (o.layers->n == 0 && o.layers->kind == GB_YAML_LIST)
        return gb_yaml_fail(o.layers, err, NULL, "the model has no layers");
    m->init = o.init;
    return gb_layers_read(o.layers, "model", &m->layers, err);
}

/* The path of the first top-level layer whose weights come from data. */
static void find_whitening(gb_model *m)
{
    for (size_t i = 0; i < m->layers.n; i++) {
        const gb_layer *l = &m->layers.items[i];
        if (l->o.init != GB_INIT_WHITEN) continue;
        if (l->o.name)
            snprintf(m->whitening, sizeof m->whitening, "%s.weight", l->o.name);
        else
            snprintf(m->whitening, sizeof m->whitening, "layers.%zu.%s.weight", i, l->type->name);
        return;
    }
}

gb_status gb_model_from_yaml(const struct gb_yaml *node, gb_model **model, gb_error *err)
{
    *model = NULL;
    gb_model *m = calloc(1, sizeof *m);
    if (!m) return no_memory(err);
    bool layers =
        node->kind == GB_YAML_MAP && (gb_yaml_get(node, "layers") || gb_yaml_get(node, "init"));
    gb_status s = layers ? read_layers(node, m, err) : read_named(node, m, err);
    if (s) {
        gb_model_destroy(&m);
        return s;
    }
    find_whitening(m);
    *model = m;
    return GB_OK;
}

gb_status gb_model_parse(const char *yaml, const char *source, gb_model **model, gb_error *err)
{
    *model = NULL;
    gb_yaml_doc doc;
    gb_status s = gb_yaml_parse(yaml, strlen(yaml), source, &doc, err);
    if (s) return s;
    s = gb_model_from_yaml(doc.root, model, err);
    gb_yaml_free(&doc);
    return s;
}

void gb_model_destroy(gb_model **model)
{
    if (!model || !*model) return;
    gb_layers_free(&(*model)->layers);
    free(*model);
    *model = NULL;
}

const char *gb_model_name(const gb_model *model)
{
    return model->named ? model->named->name : "layers";
}

const char *gb_model_known(int i)
{
    return i >= 0 && (size_t)i < gb_named_model_count ? gb_named_models[i].name : NULL;
}

const char *gb_model_whitening(const gb_model *model)
{
    return model->whitening[0] ? model->whitening : NULL;
}

/* --- writing --- */

void gb_layers_write(FILE *f, const gb_layers *layers, int indent)
{
    for (size_t i = 0; i < layers->n; i++) {
        const gb_layer *l = &layers->items[i];
        const gb_layer_type *type = l->type;
        bool residual = type->build == gb_build_residual, block = type->build == gb_build_block;
        fprintf(f, "%*s- %s:", indent, "", type->name);
        if (!residual && !block) {
            fputs(" {", f);
            gb_options_write(f, type->options, type->n_options, &l->o);
            fputs("}\n", f);
            continue;
        }
        if (block) fprintf(f, "\n%*srepeat: %lld", indent + 6, "", (long long)l->o.repeat);
        if (l->o.name) {
            fprintf(f, "\n%*sname: ", indent + 6, "");
            gb_yaml_write_text(f, l->o.name);
        }
        fprintf(f, "\n%*s%s:\n", indent + 6, "", block ? "layers" : "body");
        gb_layers_write(f, &l->body, indent + 8);
        if (block) continue;
        fprintf(f, "%*sshortcut:%s\n", indent + 6, "",
                l->pad_shortcut ? " pad"
                : l->shortcut.n ? ""
                                : " identity");
        gb_layers_write(f, &l->shortcut, indent + 8);
    }
}

char *gb_model_write(const gb_model *model, int indent)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    if (model->named) {
        fprintf(f, "%*s%s: {", indent, "", model->named->name);
        gb_options_write(f, model->named->options, model->named->n_options, &model->named_options);
        fputs("}\n", f);
    } else {
        fprintf(f, "%*sinit: %s\n%*slayers:\n", indent, "", gb_init_names[model->init], indent, "");
        gb_layers_write(f, &model->layers, indent + 2);
    }
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
