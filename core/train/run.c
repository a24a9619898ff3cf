/* gb_train: the loop over epochs, and everything that it leaves in the run folder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <gimbal/report.h>

#include "core/base/clock.h"
#include "core/train/run.h"
#include "core/train/trainer.h"

/* Figures are read from the device when this many steps wait for it, or this long after the last time:
 * soon enough for a bar, a log that is followed, and a signal. */
enum { MOST_UNREAD = 256 };
static const double read_seconds = 0.25;

typedef struct unread_step { /* enqueued, its figures still on the device */
    double lr;
    int64_t examples, next_batch;
} unread_step;

typedef struct run {
    gb_device *dev;
    const gb_recipe *recipe;
    const gb_train_options *options;
    gb_train_result *result;
    gb_dataset *dataset;
    gb_trainer *trainer;
    gb_loader *loader;
    gb_events *events;
    gb_metrics *metrics;
    gb_run_state state; /* of the steps that were read */
    unread_step unread[MOST_UNREAD];
    int n_unread;
    double unread_since, read; /* when the first of them began; when figures were read last */
    int64_t epoch_steps, steps, epochs;
    double started, saved, *step_ms;
    int64_t n_times, cap_times;
    double test_loss, test_accuracy;
    bool resumed, logged; /* logged: the folder has its recipe and metrics */
} run;

static gb_status in_folder(const run *r, const char *name, char **path, gb_error *err)
{
    *path = gb_path_join(r->result->out, name);
    return *path ? GB_OK : gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory for a path");
}

/* --- setting up --- */

static void choose_folder(run *r)
{
    char name[64];
    time_t t = time(NULL);
    struct tm tm;
    localtime_r(&t, &tm);
    strftime(name, sizeof name, "runs/%Y%m%d-%H%M%S", &tm);
    const char *dir = r->options->resume ? r->options->resume : r->options->out ? r->options->out : name;
    snprintf(r->result->out, sizeof r->result->out, "%s", dir);
}

static gb_status open_logs(run *r, gb_error *err)
{
    char *recipe = NULL, *metrics = NULL, *dataset = NULL;
    int64_t from = r->resumed ? r->state.step : -1;
    gb_status status = gb_make_dirs(r->result->out, err);
    if (!status) status = in_folder(r, "recipe.yaml", &recipe, err);
    if (!status) status = in_folder(r, "metrics.jsonl", &metrics, err);
    if (!status) status = in_folder(r, "dataset.json", &dataset, err);
    if (!status && !r->resumed) status = gb_recipe_write(r->recipe, recipe, err);
    if (!status && !r->resumed) status = gb_dataset_write_description(r->dataset, dataset, err);
    if (!status) status = gb_metrics_open(&r->metrics, metrics, from, err);
    if (!status) status = gb_events_open(&r->events, r->result->out, from, err);
    free(recipe);
    free(metrics);
    free(dataset);
    r->logged = !status;
    return status;
}

/* The first convolution of some models is computed from images: as many as the batch holds. */
static gb_status whiten(run *r, gb_error *err)
{
    const char *name = gb_model_whitening(r->recipe->model);
    if (!name) return GB_OK;
    int64_t count = r->dataset->split[GB_TRAIN].count;
    gb_loader_options o = {.split = GB_TRAIN, .batch = count < 5000 ? count : 5000, .epochs = 1, .seed = r->recipe->seed};
    gb_loader *loader = NULL;
    const gb_batch *batch = NULL;
    gb_tensor weight = {0};
    gb_status status = gb_loader_create(&loader, r->dataset, &o, err);
    if (!status) status = gb_loader_next(loader, &batch, err);
    if (!status && batch) status = gb_model_whiten(r->recipe->model, &batch->images, &weight, err);
    if (!status && batch) status = gb_store_set(gb_trainer_store(r->trainer), name, &weight, err);
    gb_tensor_free(&weight);
    gb_loader_destroy(&loader);
    return status;
}

static gb_status load_or_begin(run *r, gb_error *err)
{
    if (!r->resumed) return whiten(r, err);
    gb_tensors list = {0};
    gb_status status = gb_checkpoint_read(r->result->out, &list, &r->state, err);
    if (!status) status = gb_store_load(gb_trainer_store(r->trainer), &list, r->result->out, false, err);
    gb_tensors_free(&list);
    gb_trainer_set_steps(r->trainer, r->state.step);
    return status;
}

static bool has_batch_statistics(gb_store *store)
{
    const char *name;
    for (int i = 0; (name = gb_store_name(store, i)); i++) {
        const char *dot = strrchr(name, '.');
        if (dot && strcmp(dot, ".running_mean") == 0) return true;
    }
    return false;
}

static void note_memory(run *r)
{
    gb_train_result *out = r->result;
    out->parameters = gb_trainer_parameters(r->trainer);
    out->planned_bytes = gb_trainer_planned_bytes(r->trainer);
    out->budget_bytes = r->recipe->memory_budget;
    out->micro_batch = gb_trainer_micro_batch(r->trainer);
    out->recomputed = gb_trainer_recomputed(r->trainer, &out->recomputed_bytes);
    out->split_statistics = out->micro_batch < r->recipe->batch &&
                            has_batch_statistics(gb_trainer_store(r->trainer));
}

/* From where the run stands. */
static gb_loader_options training_order(const run *r)
{
    return (gb_loader_options){.split = GB_TRAIN,
                               .batch = r->recipe->batch,
                               .shuffle = true,
                               .augment = r->recipe->augment,
                               .seed = r->recipe->seed,
                               .start_epoch = r->state.epoch,
                               .start_batch = r->state.batch};
}

static gb_status set_up(run *r, gb_error *err)
{
    const gb_recipe *recipe = r->recipe;
    int64_t micro_batch = 0;
    gb_status status =
        r->resumed ? gb_checkpoint_replay(r->result->out, r->dev, &micro_batch, err) : GB_OK;
    if (!status) status = gb_dataset_open(&r->dataset, &recipe->data, err);
    if (!status) status = gb_trainer_create(r->dev, recipe, r->dataset, &r->trainer, err);
    if (!status && micro_batch) status = gb_trainer_cut(r->trainer, micro_batch, err);
    if (!status) status = gb_trainer_prepare(r->trainer, recipe->batch, err);
    if (!status) status = load_or_begin(r, err);
    if (!status) status = open_logs(r, err);
    gb_loader_options o = training_order(r);
    if (!status) status = gb_loader_create(&r->loader, r->dataset, &o, err);
    if (status) return status;
    note_memory(r);
    if (r->options->planned) r->options->planned(r->options->user, r->result);
    r->epoch_steps = gb_loader_batches(r->loader);
    r->steps = r->epoch_steps * recipe->epochs;
    if (r->options->steps > 0 && r->options->steps < r->steps) r->steps = r->options->steps;
    r->epochs = recipe->epochs;
    r->started = r->saved = gb_clock();
    return GB_OK;
}

/* --- the loop --- */

static gb_status save(run *r, gb_error *err)
{
    gb_run_state s = r->state;
    s.seconds += gb_clock() - r->started;
    s.micro_batch = gb_trainer_micro_batch(r->trainer);
    snprintf(s.device, sizeof s.device, "%s", r->result->device);
    r->saved = gb_clock();
    gb_status status = gb_events_flush(r->events, err);
    return status ? status : gb_checkpoint_write(r->result->out, r->dev, gb_trainer_store(r->trainer), &s, err);
}

static void note_time(run *r, double ms)
{
    if (r->n_times == r->cap_times) {
        int64_t cap = r->cap_times ? 2 * r->cap_times : 1024;
        double *grown = realloc(r->step_ms, (size_t)cap * sizeof *grown);
        if (!grown) return; /* statistics alone */
        r->step_ms = grown;
        r->cap_times = cap;
    }
    r->step_ms[r->n_times++] = ms;
}

static gb_status log_step(run *r, const gb_step_result *s, double lr, gb_error *err)
{
    const gb_metric values[] = {{"epoch", (double)r->state.epoch}, {"loss", s->loss}, {"accuracy", s->accuracy}, {"lr", lr}};
    int64_t step = r->state.step;
    gb_status status = gb_metrics_append(r->metrics, step, values, 4, err);
    if (!status) status = gb_events_scalar(r->events, "train/loss", step, (float)s->loss, err);
    if (!status) status = gb_events_scalar(r->events, "train/accuracy", step, (float)s->accuracy, err);
    return status ? status : gb_events_scalar(r->events, "train/lr", step, (float)lr, err);
}

static gb_split evaluated_split(const run *r)
{
    return r->dataset->split[GB_TEST].count ? GB_TEST : GB_VALIDATION;
}

static gb_status log_epoch(run *r, double lr, gb_error *err)
{
    double n = (double)(r->state.examples ? r->state.examples : 1);
    gb_eval_result e = {.loss = NAN, .accuracy = NAN}, v = {.loss = NAN, .accuracy = NAN};
    gb_split split = evaluated_split(r);
    gb_status status = GB_OK;
    if (r->dataset->split[split].count) status = gb_trainer_evaluate(r->trainer, split, &e, err);
    if (!status && split == GB_TEST && r->dataset->split[GB_VALIDATION].count)
        status = gb_trainer_evaluate(r->trainer, GB_VALIDATION, &v, err);
    if (status) return status;
    r->result->test = e;
    r->test_loss = e.loss;
    r->test_accuracy = e.accuracy;
    gb_metric values[8] = {{"epoch", (double)r->state.epoch}, {"lr", lr}, {"train_loss", r->state.loss_sum / n},
                           {"train_accuracy", r->state.hit_sum / n}, {"test_loss", e.loss},
                           {"test_accuracy", e.accuracy}, {"validation_loss", v.loss},
                           {"validation_accuracy", v.accuracy}};
    status = gb_metrics_append(r->metrics, r->state.step, values, isnan(v.loss) ? 6 : 8, err);
    for (int i = 2; !status && i < (isnan(v.loss) ? 6 : 8); i++) {
        char tag[64];
        snprintf(tag, sizeof tag, "epoch/%s", values[i].name);
        status = gb_events_scalar(r->events, tag, r->state.step, (float)values[i].value, err);
    }
    return status;
}

static bool report(run *r, double lr, double ms, bool epoch_end)
{
    double n = (double)(r->state.examples ? r->state.examples : 1);
    gb_progress p = {.step = r->state.step, .steps = r->steps, .epoch = r->state.epoch, .epochs = r->epochs,
                     .loss = r->state.loss_sum / n, .accuracy = r->state.hit_sum / n, .lr = lr,
                     .seconds = r->state.seconds + gb_clock() - r->started, .step_ms = ms, .epoch_end = epoch_end,
                     .test_loss = r->test_loss, .test_accuracy = r->test_accuracy};
    return !r->options->progress || r->options->progress(r->options->user, &p);
}

static gb_status interrupted(run *r, gb_error *err)
{
    gb_status status = save(r, err);
    if (!status) status = gb_run_export(r->trainer, r->result->out, err);
    if (status) return status;
    return gb_fail(err, GB_INTERRUPTED, r->result->out, "go on with --resume",
                   "stopped at step %lld of %lld; saved in %s", (long long)r->state.step, (long long)r->steps,
                   r->result->out);
}

/* --- steps --- */

/* The failed step's batch is made again: nobody keeps those of steps that may fail. */
static gb_status name_failure(run *r, gb_error *err)
{
    gb_loader_options o = training_order(r);
    gb_loader *loader = NULL;
    const gb_batch *b;
    gb_error unused;
    gb_status status = gb_loader_create(&loader, r->dataset, &o, &unused);
    if (!status) status = gb_loader_next(loader, &b, &unused);
    if (!status) gb_trainer_diagnose(r->trainer, &b->images, b->labels, err);
    gb_loader_destroy(&loader);
    return GB_NOT_FINITE;
}

static gb_status account(run *r, const unread_step *u, const gb_step_result *s, double ms, gb_error *err)
{
    note_time(r, ms);
    r->state.step++;
    r->state.loss_sum += s->loss * (double)u->examples;
    r->state.hit_sum += s->accuracy * (double)u->examples;
    r->state.examples += u->examples;
    r->result->train_loss = r->state.loss_sum / (double)r->state.examples;
    r->result->train_accuracy = r->state.hit_sum / (double)r->state.examples;
    r->state.batch = u->next_batch;
    return log_step(r, s, u->lr, err);
}

/* Waits for the steps that were enqueued. *go_on: nobody wants the run to stop. */
static gb_status read_steps(run *r, double *ms, bool *go_on, gb_error *err)
{
    const gb_step_result *results;
    int n, n_unread = r->n_unread;
    gb_status read = gb_trainer_read(r->trainer, &results, &n, err), status = GB_OK;
    *ms = n_unread ? (gb_clock() - r->unread_since) * 1e3 / n_unread : 0;
    *go_on = true;
    r->n_unread = 0;
    for (int i = 0; i < n && !status; i++) {
        status = account(r, &r->unread[i], &results[i], *ms, err);
        if (!status && r->state.batch) *go_on &= report(r, r->unread[i].lr, *ms, false);
    }
    r->read = gb_clock();
    if (!status && read == GB_NOT_FINITE) return name_failure(r, err);
    return status ? status : read;
}

static gb_status end_epoch(run *r, double lr, double ms, bool go_on, gb_error *err)
{
    gb_status status = log_epoch(r, lr, err);
    go_on &= !status && report(r, lr, ms, true);
    r->state.epoch++;
    r->state.loss_sum = r->state.hit_sum = 0;
    r->state.examples = 0;
    if (status) return status;
    return go_on ? save(r, err) : interrupted(r, err);
}

static gb_status enqueue(run *r, const gb_batch *b, double *lr, gb_error *err)
{
    int64_t total = r->epoch_steps * r->epochs; /* schedules do not depend on --steps */
    *lr = gb_learning_rate(r->recipe, r->state.step + r->n_unread, total, r->epoch_steps);
    if (!r->n_unread) r->unread_since = gb_clock();
    gb_status status = gb_trainer_enqueue(r->trainer, &b->images, b->labels, *lr, err);
    if (!status) r->unread[r->n_unread++] = (unread_step){*lr, b->n, b->last ? 0 : b->index + 1};
    return status;
}

/* One batch, and the epoch's end where it is the last. */
static gb_status train_batch(run *r, const gb_batch *b, gb_error *err)
{
    double lr, ms, every = r->options->checkpoint_seconds > 0 ? (double)r->options->checkpoint_seconds : 60;
    bool go_on;
    gb_status status = enqueue(r, b, &lr, err);
    if (status && status != GB_NOT_FINITE) return status;
    bool save_now = gb_clock() - r->saved > every, last = r->state.step + r->n_unread == r->steps;
    if (!status && !save_now && !last && !b->last && r->n_unread < MOST_UNREAD &&
        gb_clock() - r->read < read_seconds)
        return GB_OK;
    status = read_steps(r, &ms, &go_on, err);
    if (status) return status;
    if (b->last) return end_epoch(r, lr, ms, go_on, err);
    if (!go_on) return interrupted(r, err);
    return save_now ? save(r, err) : GB_OK;
}

static gb_status run_steps(run *r, gb_error *err)
{
    gb_status status = GB_OK;
    const gb_batch *batch;
    while (!status && r->state.step < r->steps) {
        status = gb_loader_next(r->loader, &batch, err);
        if (!status) status = train_batch(r, batch, err);
    }
    double ms;
    bool go_on;
    if (r->n_unread) read_steps(r, &ms, &go_on, NULL); /* it failed between them: they are logged */
    return status;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarize(run *r)
{
    gb_train_result *out = r->result;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    out->peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    out->steps = r->state.step;
    out->epochs = r->state.epoch;
    out->seconds = r->started ? r->state.seconds + gb_clock() - r->started : 0;
    if (r->trainer) {
        note_memory(r);
        out->kernels = gb_trainer_kernels(r->trainer);
    }
    if (!r->n_times) return;
    qsort(r->step_ms, (size_t)r->n_times, sizeof *r->step_ms, by_value);
    out->step_ms_min = r->step_ms[0];
    out->step_ms_median = r->step_ms[r->n_times / 2];
}

static gb_status finish(run *r, gb_error *err)
{
    gb_status status = GB_OK;
    if (r->state.batch != 0 || !r->result->test.examples) /* stopped within an epoch, or resumed at the end */
        if (r->dataset->split[evaluated_split(r)].count)
            status = gb_trainer_evaluate(r->trainer, evaluated_split(r), &r->result->test, err);
    if (!status) status = save(r, err);
    if (!status) status = gb_run_export(r->trainer, r->result->out, err);
    if (!status) status = gb_metrics_close(&r->metrics, err);
    if (!status) status = gb_events_close(&r->events, err);
    return status;
}

gb_status gb_train(gb_device *dev, const gb_recipe *recipe, const gb_train_options *options,
                   gb_train_result *result, gb_error *err)
{
    gb_train_options none = {0};
    run r = {.dev = dev, .recipe = recipe, .options = options ? options : &none, .result = result,
             .test_loss = NAN, .test_accuracy = NAN};
    *result = (gb_train_result){0};
    r.resumed = r.options->resume != NULL;
    snprintf(result->device, sizeof result->device, "%s", gb_device_get_info(dev)->id);
    choose_folder(&r);
    gb_status status = set_up(&r, err);
    if (!status) status = run_steps(&r, err);
    if (!status) status = finish(&r, err);
    summarize(&r);
    gb_loader_destroy(&r.loader);
    gb_metrics_close(&r.metrics, NULL);
    gb_events_close(&r.events, NULL);
    gb_trainer_destroy(&r.trainer);
    gb_dataset_destroy(&r.dataset);
    free(r.step_ms);
    /* A run that failed or was stopped has a report too, but its own error is the one that counts. */
    if (r.logged) {
        gb_status written = gb_report_write(result->out, result, status ? NULL : err);
        if (!status) status = written;
    }
    return status;
}

gb_status gb_run_recipe(const char *dir, const char *const *sets, size_t n, gb_recipe **recipe, gb_error *err)
{
    char *path = gb_path_join(dir, "recipe.yaml");
    gb_status status = path ? gb_recipe_read(path, sets, n, recipe, err)
                            : gb_fail(err, GB_OUT_OF_MEMORY, dir, NULL, "no memory for a path");
    free(path);
    return status;
}

gb_status gb_run_load(gb_trainer *t, const char *dir, gb_error *err)
{
    gb_tensors list = {0};
    gb_run_state state = {0};
    gb_status status = gb_checkpoint_read(dir, &list, &state, err);
    gb_program *unused;
    if (!status && !t->has_states) status = gb_trainer_evaluation(t, t->recipe->batch, &unused, err);
    if (!status) status = gb_store_load(t->store, &list, dir, true, err);
    if (!status) t->steps = state.step;
    gb_tensors_free(&list);
    return status;
}

gb_status gb_trainer_load_weights(gb_trainer *t, const char *path, gb_error *err)
{
    gb_tensors list = {0};
    gb_program *unused;
    gb_status status = gb_safetensors_read(&list, path, err);
    if (!status && !t->has_states) status = gb_trainer_evaluation(t, t->recipe->batch, &unused, err);
    if (!status) status = gb_store_load(t->store, &list, path, true, err);
    gb_tensors_free(&list);
    return status;
}
