/* Trained models at work: a run folder or weights through a trainer, ONNX through programs of its
 * graph. */
#include <gimbal/classifier.h>

#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <gimbal/file.h>
#include <gimbal/io.h>
#include <gimbal/onnx.h>

enum { MAX_SIZES = 2, EVAL_BATCH = 128 };

/* An ONNX graph for one batch size. */
typedef struct onnx_program {
    int64_t n;
    gb_program *program;
    char *input, *output;
    bool softmax; /* its outputs are probabilities already */
} onnx_program;

struct gb_classifier {
    gb_device *dev;
    gb_recipe *recipe;   /* NULL: an ONNX model of which no more is known */
    gb_dataset *dataset; /* with examples, or their description */
    bool examples;
    gb_trainer *trainer; /* NULL: ONNX */
    char *onnx;
    gb_store *store;
    onnx_program sizes[MAX_SIZES];
    int n_sizes;
};

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a classifier");
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* --- ONNX --- */

static gb_status keep_names(gb_graph *g, onnx_program *p, const char *path, gb_error *err)
{
    const char *output = NULL;
    gb_value x = gb_graph_input_at(g, 0), y = gb_graph_output_at(g, 0, &output);
    gb_shape in = gb_value_shape(g, x), out = gb_value_shape(g, y);
    if (x == GB_NONE || y == GB_NONE || gb_graph_input_at(g, 1) != GB_NONE || in.rank != 4 ||
        out.rank != 2)
        return gb_fail(err, GB_INVALID, path, "use gimbal run for models of other kinds",
                       "a classifier has one input [N, C, H, W] and an output [N, classes]");
    if (in.dim[0] != p->n || out.dim[0] != p->n)
        return gb_fail(err, GB_INVALID, path, "export it with a symbolic batch dimension",
                       "the model is fixed to a batch of %lld", (long long)in.dim[0]);
    for (size_t i = 0; i < gb_graph_node_count(g); i++) {
        gb_node_view node = gb_graph_node(g, i);
        if (node.out[0] == y) p->softmax = strcmp(node.op, "Softmax") == 0;
    }
    p->input = strdup(gb_value_name(g, x));
    p->output = strdup(output);
    return p->input && p->output ? GB_OK : no_memory(err);
}

static void free_program(onnx_program *p)
{
    gb_program_destroy(&p->program);
    free(p->input);
    free(p->output);
    *p = (onnx_program){0};
}

/* The program for n examples; the shape of its graph's values goes to *in and *classes. */
static gb_status onnx_for(gb_classifier *c, int64_t n, onnx_program **out, gb_shape *in,
                          int64_t *classes, gb_error *err)
{
    for (int i = 0; i < c->n_sizes && !in; i++) {
        if (c->sizes[i].n != n) continue;
        *out = &c->sizes[i];
        return GB_OK;
    }
    if (c->n_sizes == MAX_SIZES) free_program(&c->sizes[--c->n_sizes]);
    onnx_program *p = &c->sizes[c->n_sizes];
    *p = (onnx_program){.n = n};
    gb_graph *g = NULL;
    gb_onnx_options options = {.batch = n};
    gb_status s = gb_onnx_read(c->onnx, &options, &g, err);
    if (!s) s = keep_names(g, p, c->onnx, err);
    if (!s && in) {
        *in = gb_value_shape(g, gb_graph_input_at(g, 0));
        *classes = gb_value_shape(g, gb_graph_output_at(g, 0, NULL)).dim[1];
    }
    const gb_program_options fast = {.math = GB_MATH_FAST};
    if (!s) s = gb_program_create(c->store, g, &fast, &p->program, err);
    gb_graph_destroy(&g);
    if (s) {
        free_program(p);
        return s;
    }
    c->n_sizes++;
    *out = p;
    return GB_OK;
}

static gb_status onnx_outputs(gb_classifier *c, const gb_tensor *images, gb_tensor *outputs,
                              bool *softmax, gb_error *err)
{
    onnx_program *p;
    gb_status s = onnx_for(c, images->shape.dim[0], &p, NULL, NULL, err);
    if (!s) s = gb_program_set_input(p->program, p->input, images, err);
    if (!s) s = gb_program_run(p->program, err);
    if (!s) s = gb_program_output(p->program, p->output, outputs, err);
    if (!s) *softmax = p->softmax;
    return s;
}

/* --- opening --- */

/* dir/name where it is there, else (up) the same in the folder above; free() it. NULL: nowhere. */
static char *find_beside(const char *dir, const char *name)
{
    char up[1100];
    snprintf(up, sizeof up, "%s/..", dir);
    for (int i = 0; i < 2; i++) {
        char *path = gb_path_join(i ? up : dir, name);
        if (path && access(path, R_OK) == 0) return path;
        free(path);
    }
    return NULL;
}

/* The recipe that comes with the model, changed by sets; *recipe stays NULL where an ONNX model
 * comes with none and none is needed. */
static gb_status find_recipe(gb_classifier *c, const char *path, const char *dir,
                             const char *const *sets, size_t n, gb_error *err)
{
    if (is_folder(path)) return gb_run_recipe(path, sets, n, &c->recipe, err);
    char *file = find_beside(dir, "recipe.yaml");
    if (file) {
        gb_status s = gb_recipe_read(file, sets, n, &c->recipe, err);
        free(file);
        return s;
    }
    if (c->onnx && !c->examples && n == 0) return GB_OK;
    const char *start = c->onnx ? "{data: {}, model: mlp}" : "{data: {}, model: }";
    gb_status s = gb_recipe_parse(start, path, sets, n, &c->recipe, err);
    if (s && err && !err->hint[0])
        snprintf(err->hint, sizeof err->hint, "add --set data.dataset=NAME%s",
                 c->onnx ? "" : " --set model=NAME");
    return s;
}

/* What an ONNX model says about its images by itself: sizes, but no names and no normalization. */
static gb_status describe_onnx(gb_classifier *c, gb_error *err)
{
    onnx_program *p;
    gb_shape in;
    int64_t classes;
    gb_status s = onnx_for(c, 1, &p, &in, &classes, err);
    if (s) return s;
    s = gb_dataset_create(&c->dataset, "images", (int)in.dim[1], (int)in.dim[2], (int)in.dim[3],
                          (int)classes, NULL, err);
    for (int i = 0; !s && i < GB_MAX_CHANNELS; i++) c->dataset->std[i] = 1;
    return s;
}

static gb_status open_dataset(gb_classifier *c, const char *dir, gb_error *err)
{
    char *file = c->examples ? NULL : find_beside(dir, "dataset.json");
    gb_status s;
    if (file)
        s = gb_dataset_read_description(&c->dataset, file, err);
    else if (c->recipe)
        s = gb_dataset_open(&c->dataset, &c->recipe->data, err);
    else
        s = describe_onnx(c, err);
    free(file);
    return s;
}

static gb_status open_parts(gb_classifier *c, const char *path, const char *const *sets, size_t n,
                            gb_error *err)
{
    char copy[1024];
    bool folder = is_folder(path);
    if (access(path, R_OK) != 0 ||
        (!folder && !ends_with(path, ".onnx") && !ends_with(path, ".safetensors")))
        return gb_fail(err, access(path, R_OK) ? GB_NOT_FOUND : GB_INVALID, path,
                       "give a run folder, a .onnx or a .safetensors file",
                       access(path, R_OK) ? "there is no such model" : "it is no model");
    if (strlen(path) >= sizeof copy) return gb_fail(err, GB_INVALID, path, NULL, "too long a path");
    strcpy(copy, path);
    const char *dir = folder ? path : dirname(copy);
    if (!folder && ends_with(path, ".onnx") && !(c->onnx = strdup(path))) return no_memory(err);
    gb_status s = c->onnx ? gb_store_create(c->dev, &c->store, err) : GB_OK;
    if (!s) s = find_recipe(c, path, dir, sets, n, err);
    if (!s) s = open_dataset(c, dir, err);
    if (s || c->onnx) return s;
    s = gb_trainer_create(c->dev, c->recipe, c->dataset, &c->trainer, err);
    if (s) return s;
    return folder ? gb_run_load(c->trainer, path, err)
                  : gb_trainer_load_weights(c->trainer, path, err);
}

gb_status gb_classifier_open(gb_device *dev, const char *path, const char *const *sets, size_t n,
                             bool examples, gb_classifier **classifier, gb_error *err)
{
    *classifier = NULL;
    gb_classifier *c = calloc(1, sizeof *c);
    if (!c) return no_memory(err);
    c->dev = dev;
    c->examples = examples;
    gb_status s = open_parts(c, path, sets, n, err);
    if (s) gb_classifier_close(&c);
    *classifier = c;
    return s;
}

void gb_classifier_close(gb_classifier **classifier)
{
    gb_classifier *c = classifier ? *classifier : NULL;
    if (!c) return;
    gb_trainer_destroy(&c->trainer);
    for (int i = 0; i < c->n_sizes; i++) free_program(&c->sizes[i]);
    gb_store_destroy(&c->store);
    gb_dataset_destroy(&c->dataset);
    gb_recipe_destroy(&c->recipe);
    free(c->onnx);
    free(c);
    *classifier = NULL;
}

/* --- evaluation --- */

static void softmax(const float *row, int64_t n, bool done, double *out)
{
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, row[i]);
    for (int64_t i = 0; i < n; i++) sum += out[i] = done ? row[i] : exp(row[i] - top);
    for (int64_t i = 0; i < n && !done; i++) out[i] /= sum;
}

/* Adds the cross-entropy and the hits of one batch. */
static gb_status add_batch(gb_classifier *c, const gb_batch *b, double *row, gb_eval_result *r,
                           gb_error *err)
{
    gb_tensor outputs = {0};
    bool probabilities;
    gb_status s = onnx_outputs(c, &b->images, &outputs, &probabilities, err);
    int64_t classes = outputs.shape.dim[1];
    if (!s && classes != c->dataset->classes)
        s = gb_fail(err, GB_INVALID, c->onnx, NULL, "the model has %lld classes, the data %d",
                    (long long)classes, c->dataset->classes);
    for (int64_t i = 0; !s && i < b->n; i++) {
        softmax((const float *)outputs.data + i * classes, classes, probabilities, row);
        int64_t best = 0;
        for (int64_t k = 1; k < classes; k++) best = row[k] > row[best] ? k : best;
        r->accuracy += best == b->labels[i];
        r->loss -= log(fmax(row[b->labels[i]], 1e-300));
    }
    gb_tensor_free(&outputs);
    r->examples += s ? 0 : b->n;
    return s;
}

static gb_status evaluate_onnx(gb_classifier *c, gb_eval_result *r, gb_error *err)
{
    gb_loader_options order = {.split = GB_TEST, .batch = EVAL_BATCH, .epochs = 1};
    gb_loader *loader;
    double *row = calloc((size_t)c->dataset->classes, sizeof *row);
    if (!row) return no_memory(err);
    gb_status s = gb_loader_create(&loader, c->dataset, &order, err);
    const gb_batch *b;
    while (!s && !(s = gb_loader_next(loader, &b, err)) && b) s = add_batch(c, b, row, r, err);
    gb_loader_destroy(&loader);
    free(row);
    if (s) return s;
    r->loss /= (double)r->examples;
    r->accuracy /= (double)r->examples;
    return GB_OK;
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

gb_status gb_classifier_evaluate(gb_classifier *c, gb_eval_result *result, gb_error *err)
{
    *result = (gb_eval_result){0};
    if (!c->examples)
        return gb_fail(err, GB_INVALID, NULL, NULL, "the classifier was opened without examples");
    if (c->trainer) return gb_trainer_evaluate(c->trainer, GB_TEST, result, err);
    double start = seconds_now();
    gb_status s = evaluate_onnx(c, result, err);
    result->seconds = seconds_now() - start;
    return s;
}

/* --- predictions --- */

static gb_status read_image(gb_classifier *c, const char *file, gb_tensor *input, gb_error *err)
{
    const gb_dataset *d = c->dataset;
    gb_shape shape = gb_shape_of(4, 1, d->channels, d->height, d->width);
    gb_tensor image = {0};
    uint8_t *planes = malloc((size_t)gb_shape_count(&shape));
    gb_status s = planes ? gb_image_read(&image, file, err) : no_memory(err);
    if (!s) s = gb_image_to_planes(&image, d->channels, d->height, d->width, planes, err);
    if (!s) s = gb_tensor_alloc(input, GB_F32, &shape, err);
    if (!s)
        gb_normalize_planes(planes, d->channels, (int64_t)d->height * d->width, d->mean, d->std,
                            false, input->data);
    gb_tensor_free(&image);
    free(planes);
    return s;
}

/* The best cap classes, by repeated search: classes are few. */
static int best_of(const gb_dataset *d, double *probability, int classes, gb_class_score *scores,
                   int cap)
{
    int n = 0;
    for (; n < cap && n < classes; n++) {
        int best = 0;
        for (int k = 1; k < classes; k++) best = probability[k] > probability[best] ? k : best;
        scores[n] =
            (gb_class_score){best, best < d->classes ? d->labels[best] : "", probability[best]};
        probability[best] = -1;
    }
    return n;
}

gb_status gb_classifier_predict(gb_classifier *c, const char *file, gb_class_score *scores, int cap,
                                int *n, gb_error *err)
{
    gb_tensor input = {0}, outputs = {0};
    bool probabilities = false;
    *n = 0;
    gb_status s = read_image(c, file, &input, err);
    if (!s)
        s = c->trainer ? gb_trainer_predict(c->trainer, &input, &outputs, err)
                       : onnx_outputs(c, &input, &outputs, &probabilities, err);
    int classes = s ? 0 : (int)outputs.shape.dim[1];
    double *row = s ? NULL : calloc((size_t)classes + 1, sizeof *row);
    if (!s && !row) s = no_memory(err);
    if (!s) {
        softmax(outputs.data, classes, probabilities, row);
        *n = best_of(c->dataset, row, classes, scores, cap);
    }
    free(row);
    gb_tensor_free(&input);
    gb_tensor_free(&outputs);
    return s;
}
