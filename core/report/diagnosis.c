#include "core/report/diagnosis.h"

#include <math.h>
#include <stdio.h>

/* The thresholds of all rules. */
static const double wide_gap = 0.05, narrow_gap = 0.02; /* of accuracy */
static const double risen = 0.05;                       /* of the held-out loss above its minimum */
static const double falling = 0.02; /* of the training loss from one epoch to the next */

typedef struct curves {
    size_t epochs, best; /* best: the epoch of the least held-out loss */
    double train_loss, train_before, train_first, train_accuracy, loss, accuracy, best_loss;
    const char *split;
} curves;

static curves look(const gb_log_table *t)
{
    bool test = gb_log_has(t, GB_EPOCH_TEST_LOSS);
    int loss = test ? GB_EPOCH_TEST_LOSS : GB_EPOCH_VALIDATION_LOSS;
    int accuracy = test ? GB_EPOCH_TEST_ACCURACY : GB_EPOCH_VALIDATION_ACCURACY;
    size_t last = t->rows ? t->rows - 1 : 0;
    curves c = {.epochs = t->rows,
                .train_loss = gb_log_at(t, last, GB_EPOCH_TRAIN_LOSS),
                .train_before = t->rows > 1 ? gb_log_at(t, last - 1, GB_EPOCH_TRAIN_LOSS) : NAN,
                .train_first = gb_log_at(t, 0, GB_EPOCH_TRAIN_LOSS),
                .train_accuracy = gb_log_at(t, last, GB_EPOCH_TRAIN_ACCURACY),
                .loss = gb_log_at(t, last, loss),
                .accuracy = gb_log_at(t, last, accuracy),
                .best_loss = INFINITY,
                .split = test ? "test" : "validation"};
    for (size_t r = 0; r < t->rows; r++)
        if (gb_log_at(t, r, loss) < c.best_loss) {
            c.best_loss = gb_log_at(t, r, loss);
            c.best = r;
        }
    return c;
}

static gb_diagnosis say(gb_mood mood, const char *headline)
{
    return (gb_diagnosis){.mood = mood, .headline = headline};
}

/* Too little to compare, or nothing that could be. */
static bool judge_training(const gb_log *log, const curves *c, gb_diagnosis *d)
{
    size_t n = sizeof d->text;
    if (!c->epochs) {
        *d = say(GB_MOOD_NEUTRAL, "Too early to say");
        snprintf(
            d->text, n,
            "No epoch is complete yet (%zu steps so far), so training and held-out data cannot "
            "be compared.",
            log->steps.rows);
    } else if (!isfinite(c->train_loss)) {
        *d = say(GB_MOOD_BAD, "Diverged");
        snprintf(
            d->text, n,
            "The training loss of the last epoch is not a finite number. Lower the learning rate, "
            "warm up, or clip gradients.");
    } else if (c->epochs > 1 && c->train_loss > (1 - falling) * c->train_first) {
        *d = say(GB_MOOD_BAD, "Does not learn");
        snprintf(
            d->text, n,
            "The training loss went from %.4g in the first epoch to %.4g in the last: less than "
            "%.0f %% down. Try another learning rate, and check labels and normalization.",
            c->train_first, c->train_loss, 100 * falling);
    } else if (isnan(c->loss)) {
        *d = say(GB_MOOD_NEUTRAL, "Nothing held out");
        snprintf(
            d->text, n,
            "The data set has neither a test nor a validation split, so over- and underfitting "
            "cannot be told apart.");
    } else {
        return false;
    }
    return true;
}

static void judge_fit(const curves *c, gb_diagnosis *d)
{
    size_t n = sizeof d->text;
    double gap = c->train_accuracy - c->accuracy, rise = c->loss / c->best_loss - 1;
    bool rises = rise > risen && c->best + 1 < c->epochs;
    bool improves = c->train_loss < (1 - falling) * c->train_before;
    char facts[400];
    snprintf(facts, sizeof facts,
             "Accuracy is %.2f %% in training and %.2f %% on the %s split, a gap of %.2f points; "
             "the %s loss is %.4g, its minimum was %.4g in epoch %zu of %zu.",
             100 * c->train_accuracy, 100 * c->accuracy, c->split, 100 * gap, c->split, c->loss,
             c->best_loss, c->best + 1, c->epochs);
    if (gap > wide_gap && rises) {
        *d = say(GB_MOOD_WARN, "Overfits");
        snprintf(
            d->text, n,
            "%s The gap exceeds %.0f points and the %s loss has risen more than %.0f %% above its "
            "minimum: stop earlier, augment, or regularize (weight decay, dropout).",
            facts, 100 * wide_gap, c->split, 100 * risen);
    } else if (rises) {
        *d = say(GB_MOOD_WARN, "The held-out loss rises");
        snprintf(d->text, n,
                 "%s The %s loss has risen more than %.0f %% above its minimum while the gap stays "
                 "under %.0f points: the model grows overconfident, or the learning rate is too "
                 "high at the end.",
                 facts, c->split, 100 * risen, 100 * wide_gap);
    } else if (gap > wide_gap) {
        *d = say(GB_MOOD_WARN, "Begins to overfit");
        snprintf(d->text, n,
                 "%s The gap exceeds %.0f points, but the %s loss is within %.0f %% of its "
                 "minimum: more "
                 "augmentation or weight decay may help, longer training hardly.",
                 facts, 100 * wide_gap, c->split, 100 * risen);
    } else if (gap < narrow_gap && improves) {
        *d = say(GB_MOOD_NEUTRAL, "Has not finished learning");
        snprintf(
            d->text, n,
            "%s The gap is under %.0f points and the training loss still fell by more than %.0f %% "
            "in the last epoch: more epochs or a larger model should improve both.",
            facts, 100 * narrow_gap, 100 * falling);
    } else if (gap < narrow_gap) {
        *d = say(GB_MOOD_NEUTRAL, "At the limit of this model and schedule");
        snprintf(d->text, n,
                 "%s The gap is under %.0f points and the training loss does not fall by %.0f %% "
                 "an epoch "
                 "any more: if this is not good enough, the model underfits; make it larger or "
                 "regularize less.",
                 facts, 100 * narrow_gap, 100 * falling);
    } else {
        *d = say(GB_MOOD_GOOD, "Fits well");
        snprintf(
            d->text, n,
            "%s The gap lies between %.0f and %.0f points and the %s loss is within %.0f %% of its "
            "minimum.",
            facts, 100 * narrow_gap, 100 * wide_gap, c->split, 100 * risen);
    }
}

gb_diagnosis gb_diagnose_curves(const gb_log *log)
{
    gb_diagnosis d;
    curves c = look(&log->epochs);
    if (!judge_training(log, &c, &d)) judge_fit(&c, &d);
    return d;
}
