#include "core/train/trainer.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

gb_status gb_trainer_create(gb_device *dev, const gb_recipe *recipe, const gb_dataset *dataset,
                            gb_trainer **trainer, gb_error *err)
{
    *trainer = NULL;
    gb_trainer *t = calloc(1, sizeof *t);
    if (!t) return gb_fail(err, GB_OUT_OF_MEMORY, "trainer", NULL, "no memory for a trainer");
    *t = (gb_trainer){.dev = dev, .recipe = recipe, .dataset = dataset, .micro_batch = recipe->micro_batch};
    gb_status status = gb_store_create(dev, &t->store, err);
    if (status) free(t);
    else *trainer = t;
    return status;
}

void gb_trainer_destroy(gb_trainer **trainer)
{
    if (!trainer || !*trainer) return;
    gb_trainer *t = *trainer;
    for (size_t i = 0; i < t->n_sizes; i++) {
        gb_program_destroy(&t->sizes[i].step);
        gb_program_destroy(&t->sizes[i].accumulate);
        gb_program_destroy(&t->sizes[i].evaluate);
    }
    gb_program_destroy(&t->update);
    gb_store_destroy(&t->store);
    free(t->ring.result);
    free(t->sizes);
    free(t);
    *trainer = NULL;
}

/* --- programs --- */

static gb_status compile(gb_trainer *t, gb_graph *g, bool trains, gb_program **program, gb_error *err)
{
    gb_program_options options = gb_trainer_options(t->recipe);
    options.memory_budget = trains                     ? t->program_budget
                            : t->recipe->memory_budget ? UINT64_MAX /* keeps little */
                                                       : 0;
    gb_status status = gb_program_create(t->store, g, &options, program, err);
    if (status) return status;
    const gb_program_info *info = gb_program_get_info(*program);
    if (info->arena_bytes > t->arena_bytes) t->arena_bytes = info->arena_bytes;
    if (info->recomputed_bytes > t->recomputed_bytes) {
        t->recomputed = info->recomputed;
        t->recomputed_bytes = info->recomputed_bytes;
    }
    t->other_bytes += info->other_bytes;
    t->kernels += info->kernels;
    t->has_states = true;
    return GB_OK;
}

static gb_step_programs *programs_for(gb_trainer *t, int64_t n, gb_error *err)
{
    for (size_t i = 0; i < t->n_sizes; i++)
        if (t->sizes[i].n == n) return &t->sizes[i];
    gb_step_programs *grown = realloc(t->sizes, (t->n_sizes + 1) * sizeof *grown);
    if (!grown) {
        gb_fail(err, GB_OUT_OF_MEMORY, "trainer", NULL, "no memory for a program");
        return NULL;
    }
    t->sizes = grown;
    grown[t->n_sizes] = (gb_step_programs){.n = n};
    return &grown[t->n_sizes++];
}

typedef gb_status (*builder)(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err);

static gb_status make(gb_trainer *t, builder build, int64_t n, gb_program **program, gb_error *err)
{
    if (*program) return GB_OK;
    gb_graph *g = gb_graph_create();
    if (!g) return gb_fail(err, GB_OUT_OF_MEMORY, "trainer", NULL, "no memory for a graph");
    gb_status status = build(t, g, n, err);
    if (!status && !t->parameters) t->parameters = gb_graph_parameters(g);
    if (!status) status = compile(t, g, build != gb_build_evaluation, program, err);
    if (!status && build == gb_build_accumulate && !t->update) {
        gb_graph *u = gb_graph_create();
        status = u ? gb_build_update(t, u, g, err)
                   : gb_fail(err, GB_OUT_OF_MEMORY, "trainer", NULL, "no memory for a graph");
        if (!status) status = compile(t, u, false, &t->update, err);
        gb_graph_destroy(&u);
    }
    gb_graph_destroy(&g);
    return status;
}

static bool in_one(const gb_trainer *t, int64_t n)
{
    return t->micro_batch <= 0 || n <= t->micro_batch;
}

/* The whole step where the batch is not cut, else the accumulation of a part. */
static gb_status step_program(gb_trainer *t, int64_t n, bool whole, gb_program **program, gb_error *err)
{
    gb_step_programs *p = programs_for(t, n, err);
    if (!p) return GB_OUT_OF_MEMORY;
    gb_program **slot = whole ? &p->step : &p->accumulate;
    gb_status status = make(t, whole ? gb_build_step : gb_build_accumulate, n, slot, err);
    *program = *slot;
    return status;
}

gb_status gb_trainer_prepare(gb_trainer *t, int64_t batch, gb_error *err)
{
    gb_program *p;
    gb_status status = gb_trainer_fit(t, err);
    bool whole = in_one(t, batch);
    return status ? status : step_program(t, whole ? batch : t->micro_batch, whole, &p, err);
}

gb_status gb_trainer_program(gb_trainer *t, gb_program **program, gb_error *err)
{
    gb_status status = gb_trainer_fit(t, err);
    bool whole = in_one(t, t->recipe->batch);
    int64_t n = whole ? t->recipe->batch : t->micro_batch;
    return status ? status : step_program(t, n, whole, program, err);
}

/* --- running --- */

/* Inputs and scalars of a run on rows [from, from + n) of a batch. */
static gb_status set_part(gb_trainer *t, gb_program *p, const gb_tensor *images, const int32_t *labels,
                          int64_t from, int64_t n, double inverse_count, gb_error *err)
{
    int64_t row = 1;
    for (int i = 1; i < images->shape.rank; i++) row *= images->shape.dim[i];
    gb_tensor part = *images, rows = {.dtype = GB_I32, .shape = {.rank = 1, .dim = {n}}, .data = (void *)(labels + from)};
    part.shape.dim[0] = n;
    part.data = (float *)images->data + from * row;
    gb_status status = gb_program_set_input(p, "images", &part, err);
    if (!status) status = gb_program_set_input(p, "labels", &rows, err);
    if (!status) status = gb_program_set_scalar(p, "inverse_count", inverse_count, err);
    if (!status) status = gb_program_set_scalar(p, "seed", (double)(int32_t)(t->recipe->seed & 0x7fffffff), err);
    if (!status) status = gb_program_set_scalar(p, "step", (double)t->steps, err);
    return status ? status : gb_program_set_scalar(p, "sample", (double)from, err);
}

/* A run of p, which takes part in a step of n examples. */
static gb_status enqueue_part(gb_trainer *t, gb_program *p, const gb_tensor *images, const int32_t *labels,
                              int64_t from, int64_t rows, gb_error *err)
{
    double n = (double)images->shape.dim[0];
    gb_status status = set_part(t, p, images, labels, from, rows, 1.0 / n, err);
    if (!status) status = gb_ring_begin_row(t, p, rows, err);
    return status ? status : gb_program_run(p, err);
}

static gb_status enqueue_parts(gb_trainer *t, const gb_tensor *images, const int32_t *labels, double lr, gb_error *err)
{
    gb_status status = GB_OK;
    int64_t n = images->shape.dim[0], part = t->micro_batch;
    for (int64_t from = 0; from < n && !status; from += part) {
        int64_t rows = n - from < part ? n - from : part;
        gb_program *p;
        status = step_program(t, rows, false, &p, err);
        if (!status) status = enqueue_part(t, p, images, labels, from, rows, err);
    }
    if (!status) status = gb_optimizer_scalars(t->update, &t->recipe->optimizer, lr, t->steps, err);
    if (!status) status = gb_ring_same_row(t, t->update, err);
    return status ? status : gb_program_run(t->update, err);
}

gb_status gb_trainer_enqueue(gb_trainer *t, const gb_tensor *images, const int32_t *labels, double lr, gb_error *err)
{
    int64_t n = images->shape.dim[0];
    gb_program *p = NULL;
    gb_status status = gb_trainer_fit(t, err);
    if (!status && t->ring.failed) return gb_ring_fail(t, err);
    if (!status && in_one(t, n)) {
        status = step_program(t, n, true, &p, err);
        if (!status) status = gb_optimizer_scalars(p, &t->recipe->optimizer, lr, t->steps, err);
        if (!status) status = enqueue_part(t, p, images, labels, 0, n, err);
    } else if (!status) {
        status = enqueue_parts(t, images, labels, lr, err);
    }
    if (!status) gb_ring_end_step(t);
    return status;
}

gb_status gb_trainer_read(gb_trainer *t, const gb_step_result **results, int *n, gb_error *err)
{
    gb_status status = gb_ring_drain(t, err);
    *results = t->ring.result;
    *n = status ? 0 : t->ring.n_results;
    if (status) return status;
    t->ring.n_results = 0;
    if (!t->ring.failed) return GB_OK;
    status = gb_ring_restart(t, err);
    return status ? status : gb_ring_fail(t, err);
}

gb_status gb_trainer_step(gb_trainer *t, const gb_tensor *images, const int32_t *labels, double lr,
                          gb_step_result *result, gb_error *err)
{
    const gb_step_result *results;
    int n = 0;
    gb_status status = gb_trainer_enqueue(t, images, labels, lr, err);
    if (status) return status;
    int64_t step = t->steps - 1;
    status = gb_trainer_read(t, &results, &n, err);
    if (status == GB_NOT_FINITE && t->steps == step) return gb_trainer_diagnose(t, images, labels, err);
    if (!status) *result = results[n - 1];
    return status;
}

/* --- evaluation --- */

gb_status gb_trainer_evaluation(gb_trainer *t, int64_t n, gb_program **program, gb_error *err)
{
    gb_step_programs *p = programs_for(t, n, err);
    if (!p) return GB_OUT_OF_MEMORY;
    gb_status status = make(t, gb_build_evaluation, n, &p->evaluate, err);
    *program = p->evaluate;
    return status;
}

static gb_status evaluate_batch(gb_trainer *t, const gb_batch *b, double *sums, gb_error *err)
{
    gb_program *p;
    gb_tensor metrics = {0};
    gb_status status = gb_trainer_evaluation(t, b->n, &p, err);
    if (!status) status = set_part(t, p, &b->images, b->labels, 0, b->n, 1, err);
    if (!status) status = gb_program_run(p, err);
    if (!status) status = gb_program_output(p, "metrics", &metrics, err);
    for (int i = 0; !status && i < 2; i++) sums[i] += gb_tensor_get(&metrics, i);
    gb_tensor_free(&metrics);
    return status;
}

gb_status gb_trainer_evaluate(gb_trainer *t, gb_split split, gb_eval_result *result, gb_error *err)
{
    double start = gb_clock(), sums[2] = {0, 0};
    *result = (gb_eval_result){.examples = t->dataset->split[split].count};
    if (!result->examples)
        return gb_fail(err, GB_INVALID, t->dataset->name, "choose a data set with that split",
                       "there are no %s examples", gb_split_name(split));
    gb_loader_options o = {.split = split, .batch = t->recipe->batch, .epochs = 1, .seed = t->recipe->seed};
    if (t->program_budget) o.batch = t->micro_batch;
    if (o.batch > result->examples) o.batch = result->examples;
    gb_loader *loader = NULL;
    const gb_batch *batch;
    gb_status status = gb_loader_create(&loader, t->dataset, &o, err);
    while (!status && !(status = gb_loader_next(loader, &batch, err)) && batch)
        status = evaluate_batch(t, batch, sums, err);
    gb_loader_destroy(&loader);
    result->loss = sums[0] / (double)result->examples;
    result->accuracy = sums[1] / (double)result->examples;
    result->seconds = gb_clock() - start;
    return status;
}

gb_status gb_trainer_predict(gb_trainer *t, const gb_tensor *images, gb_tensor *outputs, gb_error *err)
{
    int64_t n = images->shape.dim[0];
    int32_t *labels = calloc((size_t)(n ? n : 1), sizeof *labels); /* the program wants some */
    gb_program *p;
    if (!labels) return gb_fail(err, GB_OUT_OF_MEMORY, "predict", NULL, "no memory for %lld labels", (long long)n);
    gb_status status = gb_trainer_evaluation(t, n, &p, err);
    if (!status) status = set_part(t, p, images, labels, 0, n, 1, err);
    if (!status) status = gb_program_run(p, err);
    if (!status) status = gb_program_output(p, "outputs", outputs, err);
    free(labels);
    return status;
}

gb_program *gb_trainer_update(gb_trainer *t) { return t->update; }
gb_store *gb_trainer_store(gb_trainer *t) { return t->store; }
int64_t gb_trainer_parameters(const gb_trainer *t) { return t->parameters; }
int64_t gb_trainer_steps(const gb_trainer *t) { return t->steps; }

void gb_trainer_set_steps(gb_trainer *t, int64_t steps)
{
    t->steps = steps;
    gb_ring_forget(t);
}


uint64_t gb_trainer_planned_bytes(const gb_trainer *t)
{
    return t->arena_bytes + t->other_bytes + gb_store_bytes(t->store);
}

int64_t gb_trainer_micro_batch(const gb_trainer *t) { return t->micro_batch; }

int gb_trainer_recomputed(const gb_trainer *t, uint64_t *bytes)
{
    if (bytes) *bytes = t->recomputed_bytes;
    return t->recomputed;
}


int gb_trainer_kernels(const gb_trainer *t) { return t->kernels; }
