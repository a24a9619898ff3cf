#include <gimbal/compare.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/compare/drift.h"

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *v, int64_t n)
{
    double *copy = malloc((size_t)(n > 0 ? n : 1) * sizeof *copy), m = NAN;
    if (copy && n > 0) {
        memcpy(copy, v, (size_t)n * sizeof *copy);
        qsort(copy, (size_t)n, sizeof *copy, by_value);
        m = copy[n / 2];
    }
    free(copy);
    return m;
}

/* A step's time belongs to the layer whose path it bears, or to one of whose parameters. */
void gb_compare_add_times(gb_comparison *c, int device, const gb_step_time *rows, int n)
{
    for (int i = 0; i < n; i++)
        for (int l = 0; l < c->n_layers; l++) {
            size_t len = strlen(c->layer[l].name);
            bool own = strncmp(rows[i].path, c->layer[l].name, len) == 0 && (!rows[i].path[len] || rows[i].path[len] == '.');
            if (own) c->layer[l].ms[device] += rows[i].seconds * 1e3;
        }
}

/* Training steps with the same batches on every device; the first one, which may still build, does
 * not count for the time. */
static gb_status train(gb_device *dev, const gb_recipe *recipe, const gb_dataset *data, gb_comparison *c, int k,
                       gb_error *err)
{
    gb_loader_options o = {.split = GB_TRAIN, .batch = recipe->batch, .shuffle = true, .augment = recipe->augment,
                           .seed = recipe->seed};
    gb_trainer *t = NULL;
    gb_loader *loader = NULL;
    const gb_batch *batch;
    gb_program *p = NULL;
    const gb_step_time *rows;
    int n_rows;
    double *ms = calloc((size_t)c->steps, sizeof *ms);
    c->loss[k] = calloc((size_t)c->steps, sizeof *c->loss[k]);
    gb_status status = ms && c->loss[k] ? gb_trainer_create(dev, recipe, data, &t, err)
                                        : gb_fail(err, GB_OUT_OF_MEMORY, "compare", NULL, "no memory");
    if (!status) status = gb_trainer_program(t, &p, err);
    if (!status) status = gb_loader_create(&loader, data, &o, err);
    for (int64_t i = 0; i < c->steps && !status; i++) {
        gb_step_result r;
        status = gb_loader_next(loader, &batch, err);
        if (status) break;
        double lr = gb_learning_rate(recipe, i, gb_loader_batches(loader) * recipe->epochs, gb_loader_batches(loader));
        double start = gb_clock();
        status = gb_trainer_step(t, &batch->images, batch->labels, lr, &r, err);
        ms[i] = (gb_clock() - start) * 1e3;
        c->loss[k][i] = r.loss;
    }
    if (!status) status = gb_program_profile(p, &rows, &n_rows, err);
    if (!status) {
        gb_compare_add_times(c, k, rows, n_rows);
        c->step_ms[k] = c->steps > 1 ? median(ms + 1, c->steps - 1) : ms[0];
        c->planned_bytes[k] = gb_trainer_planned_bytes(t);
    }
    gb_loader_destroy(&loader);
    gb_trainer_destroy(&t);
    free(ms);
    return status;
}

void gb_compare_judge(gb_comparison *c)
{
    double worst = -1;
    c->worst_layer = c->worst_device = -1;
    for (int l = 0; l < c->n_layers; l++)
        for (int d = 0; d < c->n_devices; d++)
            for (int b = 0; b < 2; b++) {
                const gb_compare_layer *layer = &c->layer[l];
                double e = b ? layer->backward[d] : layer->forward[d];
                double tolerance = b ? layer->backward_tolerance : layer->forward_tolerance;
                if (isnan(e) || e / tolerance <= worst) continue;
                worst = e / tolerance;
                c->worst_layer = l;
                c->worst_device = d;
                c->worst_error = e;
                c->worst_tolerance = tolerance;
                c->worst_backward = b;
            }
    c->agree = worst <= 1;
    c->part = -1;
    for (int64_t i = 0; i < c->steps && c->part < 0; i++)
        for (int d = 1; d < c->n_devices; d++)
            if (!(fabs(c->loss[d][i] - c->loss[0][i]) <= 1e-3 * fmax(fabs(c->loss[0][i]), 1e-6))) c->part = i;
}

gb_status gb_compare(gb_context *ctx, const gb_recipe *recipe, const char *const *ids, int n,
                     const gb_compare_options *options, gb_comparison *c, gb_error *err)
{
    gb_compare_options none = {0};
    const gb_compare_options *o = options ? options : &none;
    gb_device *dev[GB_COMPARE_MAX] = {0};
    gb_dataset *data = NULL;
    *c = (gb_comparison){.n_devices = n, .steps = o->steps > 0 ? o->steps : 10};
    if (n < 1 || n > GB_COMPARE_MAX)
        return gb_fail(err, GB_INVALID, "--devices", "name 1 to 16 devices", "%d devices cannot be compared", n);
    gb_status status = GB_OK;
    for (int k = 0; k < n && !status; k++) {
        status = gb_device_open(ctx, ids[k], &dev[k], err);
        if (!status) c->device[k] = *gb_device_get_info(dev[k]);
    }
    if (!status) status = gb_dataset_open(&data, &recipe->data, err);
    if (!status) status = gb_compare_drift(ctx, recipe, data, dev, o, c, err);
    for (int k = 0; k < n && !status; k++) {
        if (o->progress) o->progress(o->user, ids[k], "training steps");
        status = train(dev[k], recipe, data, c, k, err);
    }
    if (!status) gb_compare_judge(c);
    gb_dataset_destroy(&data);
    for (int k = 0; k < n; k++) gb_device_close(&dev[k]);
    if (status) gb_comparison_free(c);
    return status;
}

void gb_comparison_free(gb_comparison *c)
{
    for (int l = 0; l < c->n_layers; l++) {
        free(c->layer[l].name);
        free(c->layer[l].op);
    }
    free(c->layer);
    for (int d = 0; d < GB_COMPARE_MAX; d++) free(c->loss[d]);
    *c = (gb_comparison){0};
}
