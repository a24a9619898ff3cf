/* The page that compares devices. */
#include <gimbal/compare.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/report/svg.h"

enum { NAMED = 7 }; /* layers with a colour of their own in charts of time */
static const double least_difference = 1e-9, parted = 1e-3;

typedef struct view {
    gb_page *p;
    const gb_comparison *c;
    const char *id[GB_COMPARE_MAX];
    double *
        number; /* steps or layers or devices of them for each device: what charts are drawn from */
} view;

/* ---- the verdict ---- */

static double share_of_tolerance(double error, double tolerance)
{
    return tolerance > 0 ? error / tolerance : error > 0 ? INFINITY : 0;
}

static void put_verdict(const view *v)
{
    static const char *const headline[2][2] = {
        {"The device drifts from the reference", "The device agrees with the reference"},
        {"The devices drift", "The devices agree"}};
    char error[GB_NUMBER_SIZE], tolerance[GB_NUMBER_SIZE], text[900];
    const gb_comparison *c = v->c;
    double share = share_of_tolerance(c->worst_error, c->worst_tolerance);
    if (c->worst_layer < 0 || c->worst_device < 0) {
        gb_page_verdict(v->p, GB_MOOD_NEUTRAL, "Nothing to judge",
                        "No layer has a value that could be compared.");
        return;
    }
    snprintf(
        text, sizeof text,
        "%s The largest error for its tolerance is in the %s of layer %s on %s: %s, where %s is "
        "tolerated (%.2g%s of it).",
        c->agree
            ? "Every layer of every device computes what the float64 reference does, within the "
              "rounding that "
              "its depth allows."
            : "At least one layer is further from the float64 reference than rounding explains.",
        c->worst_backward ? "gradients" : "output", c->layer[c->worst_layer].name,
        v->id[c->worst_device], gb_number_error(error, c->worst_error),
        gb_number_error(tolerance, c->worst_tolerance), share >= 1 ? share : 100 * share,
        share >= 1 ? " times" : " %");
    gb_page_verdict(v->p, c->agree ? GB_MOOD_GOOD : GB_MOOD_BAD,
                    headline[c->n_devices > 1][c->agree], text);
}

static int fastest(const gb_comparison *c)
{
    int best = 0;
    for (int d = 1; d < c->n_devices; d++)
        if (c->step_ms[d] < c->step_ms[best]) best = d;
    return best;
}

static void put_tiles(const view *v)
{
    char value[GB_NUMBER_SIZE], small[200];
    const gb_comparison *c = v->c;
    int best = fastest(c);
    gb_page_tiles(v->p, true);
    if (c->worst_layer >= 0)
        gb_page_tile(v->p, "Worst error", gb_number_error(value, c->worst_error),
                     c->layer[c->worst_layer].name);
    if (c->n_devices > 1 && c->part >= 0) {
        snprintf(value, sizeof value, "step %lld", (long long)c->part + 1);
        gb_page_tile(v->p, "Losses part at", value, "by more than a thousandth");
    } else if (c->n_devices > 1) {
        snprintf(small, sizeof small, "in %lld steps, to a thousandth", (long long)c->steps);
        gb_page_tile(v->p, "Losses part at", "never", small);
    }
    if (c->n_devices) {
        char ms[GB_NUMBER_SIZE];
        snprintf(small, sizeof small, "%s a step", gb_number_ms(ms, c->step_ms[best]));
        gb_page_tile(v->p, c->n_devices > 1 ? "Fastest" : "Device", v->id[best], small);
    }
    gb_page_tile(v->p, "Layers", gb_number_count(value, c->n_layers),
                 "compared, forward and backward");
    gb_page_tiles(v->p, false);
}

/* ---- devices ---- */

static void put_devices(const view *v)
{
    static const char *const kind[] = {"CPU", "integrated GPU", "discrete GPU", "software"};
    char text[GB_NUMBER_SIZE];
    gb_page *p = v->p;
    gb_page_section(
        p, "Devices",
        "What ran, and with which driver; software is a GPU driver that runs on the CPU.");
    gb_page_put(
        p,
        "<div class=\"scroll\"><table><thead><tr><th>device</th><th class=\"text\">name</th>"
        "<th class=\"text\">kind</th><th class=\"text\">driver</th><th class=\"text\">version</th>"
        "<th>memory</th><th>planned</th><th>step</th></tr></thead>\n<tbody>\n");
    for (int d = 0; d < v->c->n_devices; d++) {
        const gb_device_info *i = &v->c->device[d];
        gb_page_put(p, "<tr>");
        gb_page_tag(p, "th scope=\"row\"", i->id);
        gb_page_tag(p, "td class=\"text wrap\"", i->name);
        gb_page_tag(p, "td class=\"text\"", (size_t)i->kind < 4 ? kind[i->kind] : "unknown");
        gb_page_tag(p, "td class=\"text\"", i->driver);
        gb_page_tag(p, "td class=\"text\"", i->version);
        gb_page_tag(p, "td",
                    i->memory_bytes ? gb_number_bytes(text, (double)i->memory_bytes) : "–");
        gb_page_tag(p, "td", gb_number_bytes(text, (double)v->c->planned_bytes[d]));
        gb_page_tag(p, "td", gb_number_ms(text, v->c->step_ms[d]));
        gb_page_put(p, "</tr>\n");
    }
    gb_page_put(p, "</tbody></table></div>\n");
    gb_page_section_end(p);
}

/* ---- drift ---- */

static double error_of(const gb_compare_layer *l, int device, bool backward)
{
    return backward ? l->backward[device] : l->forward[device];
}

/* number[device][layer], and the tolerances behind the last device. */
static void drift_chart(const view *v, bool backward)
{
    char title[64];
    const gb_comparison *c = v->c;
    gb_series s[GB_COMPARE_MAX + 1];
    size_t layers = (size_t)c->n_layers, devices = (size_t)c->n_devices;
    for (size_t d = 0; d <= devices; d++) {
        double *y = v->number + d * layers;
        for (size_t l = 0; l < layers; l++) {
            const gb_compare_layer *layer = &c->layer[l];
            y[l] = d == devices ? (backward ? layer->backward_tolerance : layer->forward_tolerance)
                                : error_of(layer, (int)d, backward); /* 0 is not drawn */
        }
        s[d] = (gb_series){.name = d == devices ? "tolerance" : v->id[d],
                           .y = y,
                           .n = layers,
                           .color = d == devices ? -1 : (int)d,
                           .style = d == devices ? GB_LINE_DASHED : GB_LINE_DOTS};
    }
    snprintf(title, sizeof title, "%s error by layer", backward ? "Backward" : "Forward");
    gb_svg_lines(v->p,
                 &(gb_line_chart){
                     .title = title,
                     .note = backward
                                 ? "Gradients of each layer's output and parameters; errors grow "
                                   "from the last layer to the first."
                                 : "Output of each layer; errors grow with depth. Below the dashed "
                                   "line is rounding.",
                     .x_label = "layer, from input to output",
                     .series = s,
                     .n = devices + 1,
                     .scale = GB_SCALE_LOG});
}

static void heat_head(const view *v)
{
    gb_page *p = v->p;
    int n = v->c->n_devices;
    gb_page_put(
        p,
        "<thead><tr><th rowspan=\"2\">layer</th><th rowspan=\"2\" class=\"text\">operator</th>"
        "<th class=\"group\" colspan=\"%d\">forward</th><th class=\"group\" "
        "colspan=\"%d\">backward</th></tr>\n<tr>",
        n + 1, n + 1);
    for (int b = 0; b < 2; b++) {
        for (int d = 0; d < n; d++) gb_page_tag(p, "th", v->id[d]);
        gb_page_put(p, "<th>tolerated</th>");
    }
    gb_page_put(p, "</tr></thead>\n");
}

static void heat_row(const view *v, int index)
{
    char text[GB_NUMBER_SIZE];
    gb_page *p = v->p;
    const gb_compare_layer *l = &v->c->layer[index];
    bool worst = !v->c->agree && index == v->c->worst_layer;
    gb_page_put(p, worst ? "<tr class=\"worst\">" : "<tr>");
    gb_page_tag(p, "th scope=\"row\"", l->name);
    gb_page_tag(p, "td class=\"text\"", l->op);
    for (int b = 0; b < 2; b++) {
        double tolerance = b ? l->backward_tolerance : l->forward_tolerance;
        for (int d = 0; d < v->c->n_devices; d++)
            gb_page_heat_cell(p, error_of(l, d, b), tolerance);
        gb_page_tag(p, "td class=\"limit\"", gb_number_error(text, tolerance));
    }
    gb_page_put(p, "</tr>\n");
}

static void put_drift(const view *v)
{
    static const char *const step[] = {"< 1/2 000", "< 1/500", "< 1/100",  "< 1/20",
                                       "< 1/5",     "up to 1", "up to 10", "over 10"};
    gb_page *p = v->p;
    gb_page_section(
        p, "Drift from the float64 reference",
        "Error = largest difference ÷ largest value of the reference, for one batch with the "
        "recipe's initial "
        "weights. A layer's tolerance is its operator's times the layers that a value has passed.");
    gb_page_put(p, "<div class=\"charts\">\n");
    drift_chart(v, false);
    drift_chart(v, true);
    gb_page_put(p, "</div>\n<div class=\"scroll\"><table class=\"dense\">");
    heat_head(v);
    gb_page_put(p, "<tbody>\n");
    for (int l = 0; l < v->c->n_layers; l++) heat_row(v, l);
    gb_page_put(p, "</tbody></table></div>\n<div class=\"scale\"><b>Share of the tolerance:</b>");
    for (int i = 0; i < 8; i++) {
        gb_page_put(p, "<span class=\"h%d\">", i);
        gb_page_text(p, step[i]);
        gb_page_put(p, "</span>");
    }
    gb_page_put(p, "</div>\n");
    gb_page_section_end(p);
}

/* ---- loss ---- */

static void loss_chart(const view *v)
{
    const gb_comparison *c = v->c;
    gb_series s[GB_COMPARE_MAX];
    for (int d = 0; d < c->n_devices; d++)
        s[d] = (gb_series){.name = v->id[d],
                           .y = c->loss[d],
                           .n = c->loss[d] ? (size_t)c->steps : 0,
                           .color = d,
                           .style = d ? GB_LINE_SOLID : GB_LINE_FAINT,
                           .width = d ? 2 : 7,
                           .part = d - 1,
                           .parts = d ? c->n_devices - 1 : 0};
    if (c->n_devices == 1) s[0].width = 2;
    gb_svg_lines(v->p, &(gb_line_chart){.title = "Loss",
                                        .note = "The same batches on every device; where curves "
                                                "are equal, they take turns on one line.",
                                        .x_label = "step",
                                        .series = s,
                                        .n = (size_t)c->n_devices,
                                        .scale = GB_SCALE_AUTO,
                                        .mark_x = (double)c->part + 1,
                                        .mark_x_text = "they part"});
}

static double loss_difference(const gb_comparison *c, int d, int64_t step)
{
    double a = c->loss[0][step], b = c->loss[d][step];
    if (!isfinite(a) || !isfinite(b)) return NAN;
    return fmax(fabs(b - a) / fmax(fabs(a), 1e-6), least_difference);
}

static void difference_chart(const view *v)
{
    char title[64];
    const gb_comparison *c = v->c;
    gb_series s[GB_COMPARE_MAX];
    size_t n = 0, steps = (size_t)c->steps;
    for (int d = 1; d < c->n_devices; d++) {
        if (!c->loss[0] || !c->loss[d]) continue;
        double *y = v->number + (size_t)d * steps;
        for (size_t i = 0; i < steps; i++) y[i] = loss_difference(c, d, (int64_t)i);
        s[n++] = (gb_series){.name = v->id[d], .y = y, .n = steps, .color = d};
    }
    snprintf(title, sizeof title, "Difference from %s", v->id[0]);
    gb_svg_lines(
        v->p,
        &(gb_line_chart){
            .title = title,
            .note =
                "Of the loss, relative. Rounding grows from step to step; 1e-9 stands for equal.",
            .x_label = "step",
            .series = s,
            .n = n,
            .scale = GB_SCALE_LOG,
            .mark_y = parted,
            .mark_y_text = "a thousandth: they part",
            .mark_x = (double)c->part + 1,
            .mark_x_text = ""});
}

static void put_loss(const view *v)
{
    gb_page_section(v->p, "Training steps",
                    "Real steps of the fused training program, from the same weights.");
    gb_page_put(v->p, "<div class=\"charts\">\n");
    loss_chart(v);
    if (v->c->n_devices > 1) difference_chart(v);
    gb_page_put(v->p, "</div>\n");
    gb_page_section_end(v->p);
}

/* ---- time and memory ---- */

static void device_bars(const view *v, const char *title, const char *note, const double *value,
                        gb_number_format *format)
{
    static const char *const group[] = {""};
    gb_svg_bars(v->p, &(gb_bar_chart){.title = title,
                                      .note = note,
                                      .row = v->id,
                                      .n_rows = (size_t)v->c->n_devices,
                                      .group = group,
                                      .n_groups = 1,
                                      .value = value,
                                      .scale = GB_SCALE_AUTO,
                                      .format = format});
}

static double layer_sum(const gb_comparison *c, int device)
{
    double sum = 0;
    for (int l = 0; l < c->n_layers; l++) sum += fmax(c->layer[l].ms[device], 0);
    return sum;
}

/* The largest share of its device's time that a layer takes anywhere. */
static double weight_of(const gb_comparison *c, int layer)
{
    double most = 0;
    for (int d = 0; d < c->n_devices; d++) {
        double sum = layer_sum(c, d);
        if (sum > 0) most = fmax(most, c->layer[layer].ms[d] / sum);
    }
    return most;
}

/* The heaviest layers in their order; returns how many. */
static size_t heaviest(const gb_comparison *c, int chosen[NAMED])
{
    size_t n = 0;
    for (int l = 0; l < c->n_layers; l++) {
        double weight = weight_of(c, l);
        size_t heavier = 0;
        for (int o = 0; o < c->n_layers && heavier < NAMED; o++) {
            double other = weight_of(c, o);
            heavier += other > weight || (other == weight && o < l);
        }
        if (heavier < NAMED && weight > 0) chosen[n++] = l;
    }
    return n;
}

static void layer_stacks(const view *v)
{
    int chosen[NAMED];
    double value[GB_COMPARE_MAX * (NAMED + 1)];
    const char *group[NAMED + 1];
    const gb_comparison *c = v->c;
    size_t n = heaviest(c, chosen);
    for (size_t g = 0; g < n; g++) group[g] = c->layer[chosen[g]].name;
    group[n] = "other layers";
    for (int d = 0; d < c->n_devices; d++) {
        double *row = value + (size_t)d * (n + 1), rest = layer_sum(c, d);
        for (size_t g = 0; g < n; g++) {
            row[g] = c->layer[chosen[g]].ms[d];
            rest -= fmax(row[g], 0);
        }
        row[n] = fmax(rest, 0);
    }
    gb_svg_bars(
        v->p,
        &(gb_bar_chart){
            .title = "Where a step's time goes",
            .note = "Shares of each device's time by layer, forward, backward and update together.",
            .row = v->id,
            .n_rows = (size_t)c->n_devices,
            .group = group,
            .n_groups = n + 1,
            .value = value,
            .stacked = true,
            .wide = true,
            .format = gb_number_ms});
}

static void layer_times(const view *v)
{
    char text[GB_NUMBER_SIZE];
    const gb_comparison *c = v->c;
    gb_page *p = v->p;
    double most[GB_COMPARE_MAX] = {0};
    for (int l = 0; l < c->n_layers; l++)
        for (int d = 0; d < c->n_devices; d++) most[d] = fmax(most[d], c->layer[l].ms[d]);
    gb_page_put(p, "<div class=\"scroll\"><table><thead><tr><th>layer</th><th "
                   "class=\"text\">operator</th>");
    for (int d = 0; d < c->n_devices; d++) gb_page_tag(p, "th", v->id[d]);
    gb_page_put(p, "</tr></thead>\n<tbody>\n");
    for (int l = 0; l < c->n_layers; l++) {
        gb_page_put(p, "<tr>");
        gb_page_tag(p, "th scope=\"row\"", c->layer[l].name);
        gb_page_tag(p, "td class=\"text\"", c->layer[l].op);
        for (int d = 0; d < c->n_devices; d++) {
            double ms = c->layer[l].ms[d];
            gb_page_bar_cell(p, gb_number_ms(text, ms), most[d] > 0 ? ms / most[d] : 0);
        }
        gb_page_put(p, "</tr>\n");
    }
    gb_page_put(p, "</tbody></table></div>\n");
}

static void put_time(const view *v)
{
    const gb_comparison *c = v->c;
    double bytes[GB_COMPARE_MAX];
    for (int d = 0; d < c->n_devices; d++) bytes[d] = (double)c->planned_bytes[d];
    gb_page_section(
        v->p, "Time and memory",
        "Times of the fused program, attributed to layers by their path; a layer that was "
        "joined with another may show none of its own.");
    gb_page_put(v->p, "<div class=\"charts\">\n");
    device_bars(v, "Time of a training step",
                "Median, without the first step, which may still build kernels.", c->step_ms,
                gb_number_ms);
    device_bars(v, "Planned memory",
                "Weights, moments and activations, known before the first step.", bytes,
                gb_number_bytes);
    layer_stacks(v);
    gb_page_put(v->p, "</div>\n");
    layer_times(v);
    gb_page_section_end(v->p);
}

/* ---- the page ---- */

static void put_page(const view *v, const gb_recipe *recipe)
{
    const gb_comparison *c = v->c;
    gb_page *p = v->p;
    gb_page_tagf(p, "h1", "%s on %d device%s", gb_model_name(recipe->model), c->n_devices,
                 c->n_devices == 1 ? "" : "s");
    gb_page_tagf(
        p, "p class=\"sub\"",
        "%s · %s · batch %lld · %lld training step%s · seed %llu · compared layer by layer with "
        "float64",
        recipe->data.dataset, gb_optimizer_name(recipe->optimizer.kind), (long long)recipe->batch,
        (long long)c->steps, c->steps == 1 ? "" : "s", (unsigned long long)recipe->seed);
    put_verdict(v);
    put_tiles(v);
    put_devices(v);
    put_drift(v);
    put_loss(v);
    put_time(v);
    gb_page_section(p, "Recipe", "What was compared, defaults included.");
    char *text = gb_recipe_text(recipe);
    if (text) gb_page_tag(p, "pre", text);
    free(text);
    gb_page_section_end(p);
}

gb_status gb_comparison_html(const gb_comparison *c, const gb_recipe *recipe, const char *path,
                             gb_error *err)
{
    if (c->n_devices < 1 || c->n_devices > GB_COMPARE_MAX || c->n_layers < 0 || c->steps < 0)
        return gb_fail(err, GB_INVALID, path, "give the result of gb_compare",
                       "there is no comparison to show");
    gb_page page;
    view v = {.p = &page, .c = c};
    size_t rows = (size_t)(c->steps > c->n_layers ? c->steps : c->n_layers);
    for (int d = 0; d < c->n_devices; d++) v.id[d] = c->device[d].id;
    v.number = calloc(rows + 1, sizeof *v.number * (GB_COMPARE_MAX + 1));
    if (!v.number) return gb_fail(err, GB_OUT_OF_MEMORY, path, NULL, "no memory for a page");
    gb_page_open(&page, path, "Devices compared", err);
    put_page(&v, recipe);
    gb_status s = gb_page_close(&page);
    free(v.number);
    return s;
}
