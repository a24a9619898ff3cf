/* The tuner: collects steps, tries their implementations, keeps the fastest that is right. */
#include <gimbal/tune.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/file.h>

#include "core/base/clock.h"
#include "core/runtime/trial.h"

enum { MAX_CANDIDATES = 24, MAX_RATES = 128, MIN_ROUNDS = 4, MAX_ROUNDS = 40 };
enum { DUEL_ROUNDS = 10, DUEL_WINS = 8 };
static const double FIRST_RUN_LIMIT = 5, STEP_SECONDS = 0.4, SAMPLE_SECONDS = 3e-3, SAVE_EVERY = 2;
static const double HOPELESS = 8; /* times slower than the default, by its speed on smaller steps */
static const double WORTH = 1e5;  /* operations and bytes below which a step is left alone */
static const double MARGIN = 0.97; /* a winner takes at most this share of the default's time */

typedef struct item { /* a step to tune: the first of its bucket */
    char key[GB_CHOICE_KEY];
    const gb_plan *plan;
    const gb_step *step;
    int count;
    bool done, known;
    int n, initial, winner;
    gb_tune_candidate candidate[MAX_CANDIDATES];
} item;

typedef struct rate { /* how fast an implementation was on the steps so far */
    char variant[GB_VARIANT_SIZE];
    gb_step_kind kind;
    double best; /* operations a second */
    bool slow_to_build;
} rate;

struct gb_tuner {
    gb_device *dev;
    gb_plan **plan; /* of all graphs; the items' steps lie in them */
    int n_plans;
    item *item;
    int n, cap;
    gb_tuned found; /* what this tuner measured */
    gb_choices known;
    rate rate[MAX_RATES];
    int n_rates;
    char *file;
    gb_tune_row *row;
    gb_tune_result result;
    const gb_tune_options *options;
    double saved;
};

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, "tuning", NULL, "no memory for a tuner");
}

/* What the tuning file has of exactly this device and these kernels. */
static void load_known(gb_tuner *t)
{
    gb_tuning all = {0};
    if (!t->file || gb_tuning_read(&all, t->file, NULL)) return;
    for (int i = 0; i < all.n; i++) {
        const gb_tuned *d = &all.device[i];
        if (!gb_tuned_fits(d, &t->found) || !gb_tuned_fits(&t->found, d)) continue;
        for (int k = 0; k < d->choices.n; k++) gb_choices_put(&t->known, &d->choices.item[k]);
    }
    gb_tuning_clear(&all);
}

gb_status gb_tuner_create(gb_device *dev, gb_tuner **tuner, gb_error *err)
{
    gb_tuner *t = *tuner = calloc(1, sizeof *t);
    if (!t) return no_memory(err);
    t->dev = dev;
    t->found = dev->tuned;
    t->found.choices = (gb_choices){0};
    t->file = gb_tuning_path(dev->ctx);
    load_known(t);
    return GB_OK;
}

void gb_tuner_destroy(gb_tuner **tuner)
{
    gb_tuner *t = tuner ? *tuner : NULL;
    if (!t) return;
    for (int i = 0; i < t->n_plans; i++) gb_plan_free(t->plan[i]);
    gb_choices_clear(&t->found.choices);
    gb_choices_clear(&t->known);
    free(t->plan);
    free(t->item);
    free(t->row);
    free(t->file);
    free(t);
    *tuner = NULL;
}

/* --- collecting --- */

static gb_status add_step(gb_tuner *t, const gb_plan *plan, gb_step *step, gb_error *err)
{
    const gb_backend *b = t->dev->backend;
    const char *name[2];
    char key[GB_CHOICE_KEY];
    if (!b->variants || step->flops + step->bytes < WORTH || !gb_trial_fits(step)) return GB_OK;
    if (b->variants(t->dev->dev, step, name, 2) < 2) return GB_OK;
    gb_bucket_key(step, key);
    for (int i = 0; i < t->n; i++) {
        if (strcmp(t->item[i].key, key) != 0) continue;
        t->item[i].count++;
        return GB_OK;
    }
    if (t->n == t->cap) {
        int cap = t->cap ? 2 * t->cap : 32;
        item *grown = realloc(t->item, (size_t)cap * sizeof *grown);
        if (!grown) return no_memory(err);
        t->item = grown;
        t->cap = cap;
    }
    item *x = &t->item[t->n++];
    *x = (item){.plan = plan, .step = step, .count = 1, .initial = -1, .winner = -1};
    memcpy(x->key, key, sizeof key);
    return GB_OK;
}

gb_status gb_tuner_add(gb_tuner *t, const gb_graph *graph, const gb_program_options *options,
                       gb_error *err)
{
    gb_plan *plan, **grown = realloc(t->plan, (size_t)(t->n_plans + 1) * sizeof *grown);
    if (!grown) return no_memory(err);
    t->plan = grown;
    gb_status status = gb_lower_for(t->dev, graph, options, &plan, err);
    if (status) return status;
    t->plan[t->n_plans++] = plan;
    for (int i = 0; i < plan->n_steps && !status; i++)
        status = add_step(t, plan, &plan->step[i], err);
    return status;
}

/* --- what is known of an implementation's speed --- */

static rate *rate_of(gb_tuner *t, const item *x, const char *variant)
{
    for (int i = 0; i < t->n_rates; i++)
        if (t->rate[i].kind == x->step->kind && strcmp(t->rate[i].variant, variant) == 0)
            return &t->rate[i];
    if (t->n_rates == MAX_RATES) return NULL;
    rate *r = &t->rate[t->n_rates++];
    *r = (rate){.kind = x->step->kind};
    snprintf(r->variant, sizeof r->variant, "%s", variant);
    return r;
}

static void note_speed(gb_tuner *t, const item *x, const char *variant, double seconds)
{
    rate *r = rate_of(t, x, variant);
    if (r && x->step->flops / seconds > r->best) r->best = x->step->flops / seconds;
}

/* Why the candidate is not worth a run; NULL: it is. */
static const char *hopeless(gb_tuner *t, const item *x, const char *variant, double first)
{
    const rate *r = rate_of(t, x, variant);
    if (!r) return NULL;
    if (r->slow_to_build) return "it was slow to build before";
    bool slow = r->best > 0 && x->step->flops / r->best > HOPELESS * first;
    return slow ? "it was far slower on smaller steps" : NULL;
}

/* --- one step --- */

static void reject(gb_tune_candidate *c, gb_tune_verdict verdict, const char *reason)
{
    c->verdict = verdict;
    snprintf(c->reason, sizeof c->reason, "%.150s", reason);
}

/* The implementations, and first the one that is taken without tuning. */
static void list_candidates(gb_tuner *t, item *x)
{
    const char *name[MAX_CANDIDATES];
    gb_answer answer = {0};
    gb_step step = *x->step;
    step.variant[0] = 0;
    t->dev->backend->query(t->dev->dev, &step, &answer);
    int n = t->dev->backend->variants(t->dev->dev, &step, name, MAX_CANDIDATES - 1);
    x->n = 0;
    for (int i = -1; i < n; i++) {
        const char *variant = i < 0 ? answer.variant : name[i];
        if (i < 0 ? !answer.ok : strcmp(variant, answer.variant) == 0) continue;
        gb_tune_candidate *c = &x->candidate[x->n++];
        *c = (gb_tune_candidate){.ms = NAN, .error = NAN};
        snprintf(c->variant, sizeof c->variant, "%s", variant);
    }
    x->initial = answer.ok ? 0 : -1;
}

/* Makes and checks one candidate; *seconds is its first time after the check. */
static gb_status try_candidate(gb_tuner *t, item *x, int i, gb_trial *trial, gb_trial_program *p,
                               double *seconds, gb_error *err)
{
    gb_tune_candidate *c = &x->candidate[i];
    double limit = t->options->first_run_limit > 0 ? t->options->first_run_limit : FIRST_RUN_LIMIT;
    double start = gb_clock();
    gb_error why = {0};
    gb_status status = gb_trial_program_make(trial, c->variant, p, &why);
    if (!status) status = gb_trial_time(p, 1, seconds, &why);
    double first = gb_clock() - start;
    if (!status && first > limit && i != x->initial) {
        char text[100];
        rate *r = rate_of(t, x, c->variant);
        if (r) r->slow_to_build = true;
        snprintf(text, sizeof text, "building it and a first run took %.1f s", first);
        reject(c, GB_TUNE_SLOW, text);
        return GB_OK;
    }
    if (!status) status = gb_trial_check(p, &c->error, &why);
    if (!status && c->error > 1) reject(c, GB_TUNE_WRONG, "its results differ");
    if (!status) status = gb_trial_time(p, 1, seconds, &why);
    if (!status) {
        c->ms = *seconds * 1e3;
        note_speed(t, x, c->variant, *seconds);
        return GB_OK;
    }
    reject(c, GB_TUNE_FAILED, why.message);
    c->ms = NAN;
    return t->dev->backend->lost(t->dev->dev)
               ? gb_fail(err, status, c->variant, NULL, "%s", why.message)
               : GB_OK;
}

static bool is_timed(const gb_tune_candidate *c, double best)
{
    return c->verdict == GB_TUNE_RIGHT && c->ms < 1.5e3 * best;
}

static int runs_for(double seconds)
{
    return seconds < SAMPLE_SECONDS ? 1 + (int)(SAMPLE_SECONDS / fmax(seconds, 1e-6)) : 1;
}

static gb_status time_one(gb_tuner *t, item *x, int i, gb_trial_program *p, int runs,
                          double *seconds, gb_error *err)
{
    gb_status status = gb_trial_time(&p[i], runs, seconds, err);
    if (status) return status;
    x->candidate[i].ms = fmin(x->candidate[i].ms, *seconds * 1e3);
    note_speed(t, x, x->candidate[i].variant, *seconds);
    return GB_OK;
}

/* Rounds over all that may still win, so that a slow moment of the machine meets them alike. */
static gb_status time_candidates(gb_tuner *t, item *x, gb_trial_program *p, double best,
                                 gb_error *err)
{
    double budget = t->options->step_seconds > 0 ? t->options->step_seconds : STEP_SECONDS;
    double start = gb_clock();
    int runs = runs_for(best);
    gb_status status = GB_OK;
    for (int round = 0; round < MAX_ROUNDS && !status; round++) {
        if (round >= MIN_ROUNDS && gb_clock() - start > budget) break;
        for (int i = 0; i < x->n && !status; i++) {
            double seconds = INFINITY;
            if (is_timed(&x->candidate[i], best))
                status = time_one(t, x, i, p, runs, &seconds, err);
            best = fmin(best, seconds);
        }
    }
    return status;
}

static void choose_winner(item *x)
{
    const gb_tune_candidate *first = x->initial >= 0 ? &x->candidate[x->initial] : NULL;
    for (int i = 0; i < x->n; i++) {
        const gb_tune_candidate *c = &x->candidate[i];
        if (c->verdict != GB_TUNE_RIGHT) continue;
        if (x->winner < 0 || c->ms < x->candidate[x->winner].ms) x->winner = i;
    }
    if (x->winner < 0 || !first || first->verdict != GB_TUNE_RIGHT) return;
    if (x->candidate[x->winner].ms > MARGIN * first->ms) x->winner = x->initial;
}

/* A winner takes the default's place only if it is faster nearly every time, one beside the other:
 * the least of a few times is luck where other work comes and goes. */
static gb_status duel(gb_tuner *t, item *x, gb_trial_program *p, gb_error *err)
{
    int won = 0, a = x->winner, b = x->initial;
    if (a < 0 || b < 0 || a == b || x->candidate[b].verdict != GB_TUNE_RIGHT) return GB_OK;
    int runs = runs_for(x->candidate[a].ms * 1e-3);
    gb_status status = GB_OK;
    for (int round = 0; round < DUEL_ROUNDS && !status; round++) {
        double mine, other;
        status = time_one(t, x, a, p, runs, &mine, err);
        if (!status) status = time_one(t, x, b, p, runs, &other, err);
        if (!status) won += mine < other;
        if (round - won >= DUEL_ROUNDS - DUEL_WINS) break;
    }
    bool clear = x->candidate[a].ms <= MARGIN * x->candidate[b].ms;
    if (won < DUEL_WINS || !clear) x->winner = b;
    return status;
}

static gb_status keep_winner(gb_tuner *t, const item *x, gb_error *err)
{
    gb_choice choice = {0};
    if (x->winner < 0) return GB_OK;
    const gb_tune_candidate *won = &x->candidate[x->winner];
    memcpy(choice.key, x->key, sizeof choice.key);
    memcpy(choice.variant, won->variant, sizeof choice.variant);
    choice.ms = won->ms;
    if (x->initial >= 0 && x->candidate[x->initial].verdict == GB_TUNE_RIGHT)
        choice.default_ms = x->candidate[x->initial].ms;
    if (gb_choices_put(&t->found.choices, &choice)) return GB_OK;
    return no_memory(err);
}

static bool go_on(gb_tuner *t, double done, const char *text)
{
    return !t->options->progress || t->options->progress(t->options->user, done, text);
}

static gb_status stopped(gb_error *err)
{
    return gb_fail(err, GB_INTERRUPTED, "tuning", "run it again to go on",
                   "tuning was stopped; what was found is kept");
}

static gb_status tune_on(gb_tuner *t, item *x, double done, gb_trial *trial, gb_trial_program *p,
                         gb_error *err)
{
    double best = INFINITY, first = INFINITY;
    gb_status status = GB_OK;
    for (int i = 0; i < x->n && !status; i++) {
        double seconds = INFINITY;
        char text[GB_CHOICE_KEY + 64];
        snprintf(text, sizeof text, "%s: %s", x->key, x->candidate[i].variant);
        if (!go_on(t, done, text)) return stopped(err);
        const char *why = i != x->initial ? hopeless(t, x, x->candidate[i].variant, first) : NULL;
        if (why)
            reject(&x->candidate[i], GB_TUNE_SLOW, why);
        else
            status = try_candidate(t, x, i, trial, &p[i], &seconds, err);
        if (status || x->candidate[i].verdict != GB_TUNE_RIGHT) continue;
        best = fmin(best, seconds);
        if (i == x->initial) first = seconds;
    }
    if (status || best == INFINITY) return status;
    status = time_candidates(t, x, p, best, err);
    if (status) return status;
    choose_winner(x);
    status = duel(t, x, p, err);
    if (status) return status;
    x->done = true;
    return keep_winner(t, x, err);
}

static gb_status tune_step(gb_tuner *t, item *x, double done, gb_error *err)
{
    gb_trial *trial = calloc(1, sizeof *trial);
    gb_trial_program *p = calloc(MAX_CANDIDATES, sizeof *p);
    gb_status status = trial && p ? GB_OK : no_memory(err);
    list_candidates(t, x);
    if (!status) status = gb_trial_make(trial, t->dev, x->plan, x->step, err);
    if (!status) status = tune_on(t, x, done, trial, p, err);
    for (int i = 0; p && i < x->n; i++) gb_trial_program_free(&p[i]);
    if (trial) gb_trial_free(trial);
    free(p);
    free(trial);
    return status;
}

/* --- all steps --- */

static gb_status save(gb_tuner *t, gb_error *err)
{
    t->saved = gb_clock();
    if (!t->file || !t->found.choices.n) return GB_OK;
    gb_tuning one = {.device = &t->found, .n = 1};
    gb_status status = gb_make_dirs(t->dev->ctx->options.cache_dir, err);
    return status ? status : gb_tuning_update(t->file, &one, err);
}

static int by_work(const void *a, const void *b)
{
    const item *x = a, *y = b;
    int order = (x->step->flops > y->step->flops) - (x->step->flops < y->step->flops);
    return order ? order : strcmp(x->key, y->key);
}

/* A step that is in the file: its winner, and what was measured then. */
static bool is_known(gb_tuner *t, item *x)
{
    const gb_choice *c = t->options->again ? NULL : gb_choices_find(&t->known, x->key);
    if (!c) return false;
    x->n = 1;
    x->candidate[0] = (gb_tune_candidate){.ms = c->ms > 0 ? c->ms : NAN, .error = NAN};
    memcpy(x->candidate[0].variant, c->variant, sizeof c->variant);
    x->winner = 0;
    x->known = x->done = true;
    return true;
}

static gb_status tune_all(gb_tuner *t, gb_error *err)
{
    double total = 0, done = 0;
    gb_status status = GB_OK;
    qsort(t->item, (size_t)t->n, sizeof *t->item, by_work); /* small ones tell what is slow */
    for (int i = 0; i < t->n; i++) total += t->item[i].step->flops + 1e8;
    for (int i = 0; i < t->n && !status; i++) {
        if (!is_known(t, &t->item[i])) status = tune_step(t, &t->item[i], done / total, err);
        done += t->item[i].step->flops + 1e8;
        if (!status && gb_clock() - t->saved > SAVE_EVERY) status = save(t, err);
    }
    return status;
}

static gb_status report(gb_tuner *t, gb_error *err)
{
    free(t->row);
    t->row = calloc((size_t)t->n + 1, sizeof *t->row);
    if (!t->row) return no_memory(err);
    t->result.row = t->row;
    t->result.file = t->file ? t->file : "";
    t->result.n = 0;
    for (int i = 0; i < t->n; i++) {
        const item *x = &t->item[i];
        if (!x->done && !x->n) continue; /* the interruption came before */
        gb_tune_row *r = &t->row[t->result.n++];
        const gb_choice *known = x->known ? gb_choices_find(&t->known, x->key) : NULL;
        *r = (gb_tune_row){.step = x->key,
                           .path = x->step->path,
                           .count = x->count,
                           .candidate = x->candidate,
                           .n = x->n,
                           .initial = x->initial,
                           .winner = x->winner,
                           .gain = NAN,
                           .known = x->known};
        if (x->initial >= 0 && x->winner >= 0)
            r->gain = x->candidate[x->initial].ms / x->candidate[x->winner].ms;
        if (known && known->default_ms > 0 && known->ms > 0)
            r->gain = known->default_ms / known->ms;
    }
    return GB_OK;
}

gb_status gb_tuner_run(gb_tuner *t, const gb_tune_options *options, const gb_tune_result **result,
                       gb_error *err)
{
    static const gb_tune_options none;
    double start = t->saved = gb_clock();
    t->options = options ? options : &none;
    gb_error save_error = {0};
    gb_status status = tune_all(t, err), kept = save(t, &save_error);
    if (!status && kept)
        status = gb_fail(err, kept, save_error.input, save_error.hint, "%s", save_error.message);
    gb_choices_clear(&t->dev->taken); /* programs from now on take the winners */
    const gb_choices *lists[] = {&t->known, &t->found.choices};
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < lists[l]->n; i++)
            gb_choices_put(&t->dev->tuned.choices, &lists[l]->item[i]);
    gb_status reported = report(t, status ? NULL : err);
    t->result.seconds = gb_clock() - start;
    *result = &t->result;
    return status ? status : reported;
}

/* --- files --- */

static gb_status cache_file(gb_context *ctx, char **path, gb_error *err)
{
    *path = gb_tuning_path(ctx);
    if (*path) return gb_make_dirs(ctx->options.cache_dir, err);
    return gb_fail(err, GB_INVALID, "cache", "set HOME or XDG_CACHE_HOME",
                   "there is no folder for a tuning file");
}

gb_status gb_tuning_import(gb_context *ctx, const char *path, gb_error *err)
{
    gb_tuning more = {0};
    char *to;
    gb_status status = cache_file(ctx, &to, err);
    if (!status) status = gb_tuning_read(&more, path, err);
    if (!status) status = gb_tuning_update(to, &more, err);
    gb_tuning_clear(&more);
    free(to);
    return status;
}

gb_status gb_tuning_export(gb_context *ctx, const char *path, gb_error *err)
{
    gb_tuning all = {0};
    char *from, *text = NULL;
    gb_status status = cache_file(ctx, &from, err);
    if (!status) status = gb_tuning_read(&all, from, err);
    if (!status && !(text = gb_tuning_text(&all))) status = no_memory(err);
    if (!status) status = gb_write_file(path, text, strlen(text), err);
    gb_tuning_clear(&all);
    free(text);
    free(from);
    return status;
}
