/* report.html of a run folder. */
#include <gimbal/report.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/report/diagnosis.h"
#include "core/report/log.h"
#include "core/report/svg.h"

enum { MAX_TEXT = 1 << 20, MAX_EPOCH_ROWS = 400 };

typedef struct report {
    const char *dir;
    const gb_train_result *result; /* may be NULL */
    char *text;                    /* recipe.yaml as it is */
    gb_recipe *recipe;
    gb_log log;
    char device[64];
    double seconds;
} report;

/* ---- the files of the run ---- */

static gb_status path_in(const char *dir, const char *name, char **path, gb_error *err)
{
    *path = gb_path_join(dir, name);
    return *path ? GB_OK : gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory for a path");
}

static gb_status read_recipe(report *r, gb_error *err)
{
    char *path;
    size_t size;
    gb_status s = path_in(r->dir, "recipe.yaml", &path, err);
    if (!s) s = gb_read_file(path, MAX_TEXT, (uint8_t **)&r->text, &size, err);
    if (!s) s = gb_recipe_parse(r->text, path, NULL, 0, &r->recipe, err);
    free(path);
    return s;
}

static gb_status parse_state(report *r, const char *text, const char *path, gb_error *err)
{
    json_error_t bad;
    const char *device;
    json_t *json = json_loads(text, 0, &bad);
    int failed = !json || json_unpack_ex(json, &bad, 0, "{s:F s:s}", "seconds", &r->seconds,
                                         "device", &device);
    if (!failed) snprintf(r->device, sizeof r->device, "%s", device);
    json_decref(json);
    if (!failed) return GB_OK;
    return gb_fail(err, GB_FORMAT, path, "the run cannot be resumed; start it anew",
                   "the state of the run is damaged: %s", bad.text);
}

/* A run that was stopped before its first checkpoint has no state; its page goes without. */
static gb_status read_state(report *r, gb_error *err)
{
    char *path;
    uint8_t *text = NULL;
    size_t size;
    gb_error why = {0};
    gb_status s = path_in(r->dir, "checkpoints/state.json", &path, err);
    if (s) return s;
    s = gb_read_file(path, MAX_TEXT, &text, &size, &why);
    if (!s)
        s = parse_state(r, (const char *)text, path, err);
    else if (s == GB_NOT_FOUND)
        s = GB_OK;
    else if (err)
        *err = why;
    free(text);
    free(path);
    return s;
}

static gb_status read_metrics(report *r, gb_error *err)
{
    char *path;
    gb_status s = path_in(r->dir, "metrics.jsonl", &path, err);
    if (!s) s = gb_log_read(&r->log, path, err);
    free(path);
    return s;
}

/* ---- the page ---- */

static const char *device_of(const report *r)
{
    return r->result && r->result->device[0] ? r->result->device : r->device;
}

static double steps_of(const report *r)
{
    double last = gb_log_at(&r->log.steps, r->log.steps.rows - 1, GB_STEP_STEP);
    return r->log.steps.rows ? last : 0;
}

static double last_epoch(const report *r, int column)
{
    return gb_log_at(&r->log.epochs, r->log.epochs.rows - 1, column);
}

static void accuracy_tile(gb_page *p, const char *name, double accuracy, double loss)
{
    char value[GB_NUMBER_SIZE], number[GB_NUMBER_SIZE], small[64];
    if (isnan(accuracy)) return;
    snprintf(small, sizeof small, "loss %s", gb_number_loss(number, loss));
    gb_page_tile(p, name, gb_number_percent(value, accuracy), small);
}

static void accuracy_tiles(gb_page *p, const report *r)
{
    const gb_train_result *t = r->result;
    bool fresh =
        t && t->test.examples > 0; /* the last evaluation may be later than the last epoch's end */
    bool test = gb_log_has(&r->log.epochs, GB_EPOCH_TEST_LOSS) || fresh;
    if (test)
        accuracy_tile(p, "Test accuracy",
                      fresh ? t->test.accuracy : last_epoch(r, GB_EPOCH_TEST_ACCURACY),
                      fresh ? t->test.loss : last_epoch(r, GB_EPOCH_TEST_LOSS));
    accuracy_tile(p, "Validation accuracy", last_epoch(r, GB_EPOCH_VALIDATION_ACCURACY),
                  last_epoch(r, GB_EPOCH_VALIDATION_LOSS));
    bool whole = r->log.epochs.rows > 0;
    accuracy_tile(p, "Train accuracy",
                  whole           ? last_epoch(r, GB_EPOCH_TRAIN_ACCURACY)
                  : t && t->steps ? t->train_accuracy
                                  : NAN,
                  whole           ? last_epoch(r, GB_EPOCH_TRAIN_LOSS)
                  : t && t->steps ? t->train_loss
                                  : NAN);
}

static void result_tiles(gb_page *p, const gb_train_result *t)
{
    char value[GB_NUMBER_SIZE], number[GB_NUMBER_SIZE], small[96];
    if (t->parameters) gb_page_tile(p, "Parameters", gb_number_count(value, t->parameters), NULL);
    if (t->step_ms_median > 0) {
        snprintf(small, sizeof small, "median; fastest %s", gb_number_ms(number, t->step_ms_min));
        gb_page_tile(p, "Time of a step", gb_number_ms(value, t->step_ms_median), small);
    }
    if (t->kernels)
        gb_page_tile(p, "Kernels", gb_number_count(value, t->kernels), "built for the device");
}

static void tiles(gb_page *p, const report *r)
{
    char value[GB_NUMBER_SIZE], small[96];
    const gb_train_result *t = r->result;
    double seconds = t && t->seconds > 0 ? t->seconds : r->seconds;
    gb_page_tiles(p, true);
    accuracy_tiles(p, r);
    snprintf(small, sizeof small, "%zu of %lld epochs", r->log.epochs.rows,
             (long long)r->recipe->epochs);
    gb_page_tile(p, "Steps", gb_number_count(value, (long long)steps_of(r)), small);
    if (seconds > 0) gb_page_tile(p, "Time", gb_number_seconds(value, seconds), "with evaluation");
    if (device_of(r)[0]) gb_page_tile(p, "Device", device_of(r), NULL);
    if (t) result_tiles(p, t);
    gb_page_tiles(p, false);
}

static gb_series column(const gb_log_table *t, const char *name, int col, int color,
                        gb_line_style style)
{
    return (gb_series){.name = name,
                       .x = t->cell,
                       .y = t->cell ? t->cell + col : NULL,
                       .n = t->rows,
                       .stride = t->columns,
                       .color = color,
                       .style = style};
}

/* Single steps behind, epochs in front; splits that the run does not have are left out. */
static void curves(gb_page *p, const report *r, bool accuracy)
{
    static const int epoch_column[][3] = {
        {GB_EPOCH_TRAIN_LOSS, GB_EPOCH_VALIDATION_LOSS, GB_EPOCH_TEST_LOSS},
        {GB_EPOCH_TRAIN_ACCURACY, GB_EPOCH_VALIDATION_ACCURACY, GB_EPOCH_TEST_ACCURACY}};
    static const char *const name[] = {"train", "validation", "test"};
    gb_series s[4];
    size_t n = 0;
    const gb_log_table *steps = &r->log.steps, *epochs = &r->log.epochs;
    s[n++] = column(steps, "single steps", accuracy ? GB_STEP_ACCURACY : GB_STEP_LOSS,
                    epochs->rows ? -1 : 0, epochs->rows ? GB_LINE_FAINT : GB_LINE_SOLID);
    s[0].width = epochs->rows ? 1 : 1.6;
    for (int i = 0; i < 3; i++)
        if (gb_log_has(epochs, epoch_column[accuracy][i]))
            s[n++] = column(epochs, name[i], epoch_column[accuracy][i], i, GB_LINE_DOTS);
    gb_svg_lines(
        p,
        &(gb_line_chart){
            .title = accuracy ? "Accuracy" : "Loss",
            .note =
                accuracy
                    ? "Share of examples classified right; train is the mean while the epoch ran."
                    : "What training minimizes; train is the mean while the epoch ran.",
            .x_label = "step",
            .series = s,
            .n = n,
            .scale = accuracy ? GB_SCALE_LINEAR : GB_SCALE_AUTO,
            .percent = accuracy});
}

static void charts(gb_page *p, const report *r)
{
    gb_page_section(p, "Curves", "Held-out splits are evaluated at the end of every epoch.");
    gb_page_put(p, "<div class=\"charts\">\n");
    curves(p, r, false);
    curves(p, r, true);
    gb_series lr = column(&r->log.steps, "learning rate", GB_STEP_LR, 5, GB_LINE_SOLID);
    gb_svg_lines(p, &(gb_line_chart){.title = "Learning rate",
                                     .note = "As the schedule gave it to each step.",
                                     .x_label = "step",
                                     .series = &lr,
                                     .n = 1});
    if (r->result && r->result->planned_bytes) {
        static const char *const row[] = {"planned on the device before training",
                                          "peak resident memory of the process"};
        static const char *const group[] = {"bytes"};
        double value[] = {(double)r->result->planned_bytes, (double)r->result->peak_bytes};
        gb_svg_bars(p,
                    &(gb_bar_chart){
                        .title = "Memory",
                        .note = "The plan holds weights, moments and activations; the process also "
                                "the data set, drivers and code.",
                        .row = row,
                        .n_rows = 2,
                        .group = group,
                        .n_groups = 1,
                        .value = value,
                        .format = gb_number_bytes});
    }
    gb_page_put(p, "</div>\n");
    gb_page_section_end(p);
}

static void epoch_cell(gb_page *p, double value, gb_number_format *format)
{
    char text[GB_NUMBER_SIZE];
    gb_page_tag(p, "td", format(text, value));
}

static void epoch_table(gb_page *p, const gb_log_table *t)
{
    static const char *const name[] = {"train", "validation", "test"};
    bool has[3];
    if (!t->rows) return;
    gb_page_section(p, "Epochs",
                    t->rows > MAX_EPOCH_ROWS ? "The last 400; metrics.jsonl has all of them."
                                             : NULL);
    gb_page_put(p,
                "<div class=\"scroll\"><table><thead><tr><th>epoch</th><th>step</th><th>learning "
                "rate</th>");
    for (int i = 0; i < 3; i++) {
        has[i] = gb_log_has(t, GB_EPOCH_TRAIN_LOSS + 2 * i);
        if (has[i]) gb_page_put(p, "<th>%s loss</th><th>%s accuracy</th>", name[i], name[i]);
    }
    gb_page_put(p, "</tr></thead>\n<tbody>\n");
    for (size_t r = t->rows > MAX_EPOCH_ROWS ? t->rows - MAX_EPOCH_ROWS : 0; r < t->rows; r++) {
        gb_page_put(p, "<tr><th scope=\"row\">%zu</th>", r + 1);
        gb_page_put(p, "<td>%.0f</td>", gb_log_at(t, r, GB_EPOCH_STEP));
        epoch_cell(p, gb_log_at(t, r, GB_EPOCH_LR), gb_number);
        for (int i = 0; i < 3; i++) {
            if (!has[i]) continue;
            epoch_cell(p, gb_log_at(t, r, GB_EPOCH_TRAIN_LOSS + 2 * i), gb_number_loss);
            epoch_cell(p, gb_log_at(t, r, GB_EPOCH_TRAIN_ACCURACY + 2 * i), gb_number_percent);
        }
        gb_page_put(p, "</tr>\n");
    }
    gb_page_put(p, "</tbody></table></div>\n");
    gb_page_section_end(p);
}

static void put_page(gb_page *p, const report *r, const char *title)
{
    gb_diagnosis d = gb_diagnose_curves(&r->log);
    const gb_recipe *recipe = r->recipe;
    gb_page_tag(p, "h1", title);
    gb_page_tagf(p, "p class=\"sub\"", "%s on %s · %s, %s schedule · batch %lld · seed %llu",
                 gb_model_name(recipe->model), recipe->data.dataset,
                 gb_optimizer_name(recipe->optimizer.kind), gb_schedule_name(recipe->schedule.kind),
                 (long long)recipe->batch, (unsigned long long)recipe->seed);
    if ((double)r->log.epochs.rows < (double)recipe->epochs)
        gb_page_verdict(p, GB_MOOD_NEUTRAL, "Not complete",
                        "The run stopped before its last epoch; everything below is as far as it "
                        "came. Go on with "
                        "gimbal train --resume.");
    gb_page_verdict(p, d.mood, d.headline, d.text);
    tiles(p, r);
    if (r->log.cut)
        gb_page_tag(p, "p class=\"note\"",
                    "The last line of metrics.jsonl was cut off in writing and is left out.");
    charts(p, r);
    epoch_table(p, &r->log.epochs);
    gb_page_section(
        p, "Recipe",
        "Everything that was asked for, defaults included: recipe.yaml runs again as it is.");
    gb_page_tag(p, "pre", r->text);
    gb_page_section_end(p);
}

static gb_status write_page(const report *r, gb_error *err)
{
    gb_page p;
    char *path, *full = realpath(r->dir, NULL), title[300];
    const char *name = full ? full : r->dir, *slash = strrchr(name, '/');
    gb_status s = path_in(r->dir, "report.html", &path, err);
    if (!s) {
        snprintf(title, sizeof title, "%s", slash && slash[1] ? slash + 1 : name);
        gb_page_open(&p, path, title, err);
        put_page(&p, r, title);
        s = gb_page_close(&p);
    }
    free(full);
    free(path);
    return s;
}

gb_status gb_report_write(const char *run_dir, const gb_train_result *result, gb_error *err)
{
    report r = {.dir = run_dir, .result = result};
    gb_status s = read_recipe(&r, err);
    if (!s) s = read_metrics(&r, err);
    if (!s) s = read_state(&r, err);
    if (!s) s = write_page(&r, err);
    gb_log_free(&r.log);
    gb_recipe_destroy(&r.recipe);
    free(r.text);
    return s;
}
