#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/data/internal.h"

#define RING 3 /* one with the consumer, one ready, one being filled */

typedef struct slot {
    gb_batch batch;
    int32_t *labels;
    int64_t *samples;
} slot;

struct gb_loader {
    const gb_dataset *dataset;
    const gb_examples *examples;
    gb_loader_options options;
    gb_renderer renderer;
    uint32_t *order; /* of the epoch that the thread is in */
    int64_t batches; /* of an epoch */
    slot slots[RING];
    pthread_t thread;
    bool running;

    /* Below: shared, under the mutex. */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int64_t produced, consumed; /* batches; the consumer's own counts as consumed when returned */
    bool lent;                  /* the consumer holds batch number consumed */
    bool stop, ended;
    gb_error error;
};

/* ---- the thread ---- */

static gb_status fill(gb_loader *l, slot *s, int64_t epoch, int64_t index, gb_error *err)
{
    const gb_dataset *ds = l->dataset;
    gb_batch *b = &s->batch;
    size_t values = (size_t)ds->channels * (size_t)ds->height * (size_t)ds->width;
    b->epoch = epoch;
    b->index = index;
    b->position = index * l->options.batch;
    b->last = index + 1 == l->batches;
    b->n = l->examples->count - b->position;
    if (b->n > l->options.batch) b->n = l->options.batch;
    b->images.shape.dim[0] = b->n;
    for (int64_t i = 0; i < b->n; i++) {
        int64_t sample = l->order[b->position + i];
        int32_t label = l->examples->labels[sample];
        if (label < 0 || label >= ds->classes)
            return gb_fail(err, GB_INVALID, ds->name, "correct the labels",
                           "%s example %lld has the label %d, but there are %d classes",
                           gb_split_name(l->options.split), (long long)sample, label, ds->classes);
        s->labels[i] = label;
        s->samples[i] = sample;
        gb_render(&l->renderer, l->examples->images + (size_t)sample * values, epoch, sample,
                  (float *)b->images.data + (size_t)i * values);
    }
    return GB_OK;
}

/* Waits for a free slot; false when there is nobody to fill it for. */
static bool wait_for_room(gb_loader *l)
{
    pthread_mutex_lock(&l->mutex);
    while (!l->stop && l->produced - l->consumed == RING) pthread_cond_wait(&l->changed, &l->mutex);
    bool go = !l->stop;
    pthread_mutex_unlock(&l->mutex);
    return go;
}

static void publish(gb_loader *l, gb_status status, const gb_error *err)
{
    pthread_mutex_lock(&l->mutex);
    if (status) {
        l->error = *err;
        l->ended = true;
    } else {
        l->produced++;
    }
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
}

static void *produce(void *argument)
{
    gb_loader *l = argument;
    const gb_loader_options *o = &l->options;
    int64_t first = o->start_batch, number = 0;
    gb_error err = {0};
    gb_status status = GB_OK;
    for (int64_t epoch = o->start_epoch; o->epochs == 0 || epoch < o->epochs; epoch++) {
        if (o->shuffle)
            gb_draw_permutation(o->seed, GB_DRAW_SHUFFLE, epoch, l->examples->count, l->order);
        for (int64_t index = first; index < l->batches; index++) {
            if (!wait_for_room(l)) return NULL;
            status = fill(l, &l->slots[number++ % RING], epoch, index, &err);
            publish(l, status, &err);
            if (status) return NULL;
        }
        first = 0;
    }
    pthread_mutex_lock(&l->mutex);
    l->ended = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* Signals are for the program's own threads. */
static int start_thread(gb_loader *l)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int code = pthread_create(&l->thread, NULL, produce, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    l->running = code == 0;
    return code;
}

/* ---- the consumer's side ---- */

static gb_status no_memory(const gb_dataset *ds, gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, ds->name, "use a smaller batch",
                   "no memory for a loader's batches");
}

static gb_status check(const gb_loader *l, gb_error *err)
{
    const gb_loader_options *o = &l->options;
    const char *name = l->dataset->name;
    if (o->batch < 1 || o->epochs < 0 || o->start_epoch < 0 || o->start_batch < 0)
        return gb_fail(err, GB_INVALID, name, "use a batch of at least 1",
                       "a batch of %lld from epoch %lld on is not possible", (long long)o->batch,
                       (long long)o->start_epoch);
    if (!l->examples->count)
        return gb_fail(err, GB_INVALID, name, "use another split or set data.validation",
                       "the data set has no %s examples", gb_split_name(o->split));
    if (o->drop_last && l->examples->count < o->batch)
        return gb_fail(err, GB_INVALID, name, "use a smaller batch",
                       "a batch of %lld is larger than all %lld %s examples", (long long)o->batch,
                       (long long)l->examples->count, gb_split_name(o->split));
    return GB_OK;
}

static gb_status allocate(gb_loader *l, gb_error *err)
{
    const gb_dataset *ds = l->dataset;
    int64_t n = l->examples->count < l->options.batch ? l->examples->count : l->options.batch;
    gb_shape shape = gb_shape_of(4, 0, ds->channels, ds->height, ds->width);
    if (l->options.channels_last) shape = gb_shape_of(4, 0, ds->height, ds->width, ds->channels);
    shape.dim[0] = n;
    l->order = malloc((size_t)l->examples->count * sizeof *l->order);
    if (!l->order) return no_memory(ds, err);
    for (int64_t i = 0; i < l->examples->count; i++) l->order[i] = (uint32_t)i;
    for (int k = 0; k < RING; k++) {
        slot *s = &l->slots[k];
        gb_status status = gb_tensor_alloc(&s->batch.images, GB_F32, &shape, err);
        if (status) return status;
        s->batch.labels = s->labels = calloc((size_t)n, sizeof *s->labels);
        s->batch.samples = s->samples = calloc((size_t)n, sizeof *s->samples);
        if (!s->labels || !s->samples) return no_memory(ds, err);
    }
    return GB_OK;
}

gb_status gb_loader_create(gb_loader **loader, const gb_dataset *dataset,
                           const gb_loader_options *options, gb_error *err)
{
    *loader = NULL;
    if ((unsigned)options->split >= GB_SPLIT_COUNT)
        return gb_fail(err, GB_INVALID, dataset->name, NULL, "there is no split %d",
                       (int)options->split);
    gb_loader *l = calloc(1, sizeof *l);
    if (!l) return no_memory(dataset, err);
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->dataset = dataset;
    l->examples = &dataset->split[options->split];
    l->options = *options;
    gb_status s = check(l, err);
    if (!s) s = gb_renderer_init(&l->renderer, dataset, options, err);
    if (!s) s = allocate(l, err);
    if (!s) {
        int64_t round_up = options->drop_last ? 0 : options->batch - 1;
        l->batches = (l->examples->count + round_up) / options->batch;
        if (start_thread(l))
            s = gb_fail(err, GB_OUT_OF_MEMORY, dataset->name, NULL, "no thread for a loader");
    }
    if (s) gb_loader_destroy(&l);
    *loader = l;
    return s;
}

int64_t gb_loader_batches(const gb_loader *loader)
{
    return loader->batches;
}

gb_status gb_loader_next(gb_loader *l, const gb_batch **batch, gb_error *err)
{
    *batch = NULL;
    pthread_mutex_lock(&l->mutex);
    if (l->lent) {
        l->consumed++;
        l->lent = false;
        pthread_cond_broadcast(&l->changed);
    }
    while (l->produced == l->consumed && !l->ended) pthread_cond_wait(&l->changed, &l->mutex);
    gb_status s = GB_OK;
    if (l->produced > l->consumed) {
        *batch = &l->slots[l->consumed % RING].batch;
        l->lent = true;
    } else if (l->error.status) {
        s = l->error.status;
        if (err) *err = l->error;
    }
    pthread_mutex_unlock(&l->mutex);
    return s;
}

void gb_loader_destroy(gb_loader **loader)
{
    if (!loader || !*loader) return;
    gb_loader *l = *loader;
    *loader = NULL;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    if (l->running) pthread_join(l->thread, NULL);
    for (int k = 0; k < RING; k++) {
        gb_tensor_free(&l->slots[k].batch.images);
        free(l->slots[k].labels);
        free(l->slots[k].samples);
    }
    gb_renderer_free(&l->renderer);
    free(l->order);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->mutex);
    free(l);
}
