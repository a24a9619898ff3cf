#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gimbal/compare.h>
#include <gimbal/report.h>

#include "core/report/axis.h"
#include "core/report/diagnosis.h"
#include "core/report/svg.h"
#include "tests/support/support.h"

static char *dir;

static int setup(void **state)
{
    (void)state;
    dir = gb_test_make_dir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gb_test_remove_dir(dir);
    return 0;
}

static char *read_text(const char *name)
{
    static uint8_t *data; /* in a variable of the stack, GCC 12 takes it for a dangling pointer */
    size_t size;
    assert_int_equal(gb_read_file(gb_test_path(dir, name), 1 << 26, &data, &size, NULL), GB_OK);
    return (char *)data;
}

static void write_text(const char *name, const char *text)
{
    gb_error err = {0};
    if (gb_write_file(gb_test_path(dir, name), text, strlen(text), &err))
        fail_msg("%s", err.message);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (; (text = strstr(text, what)); text += strlen(what)) n++;
    return n;
}

/* No number of a drawing may be missing: printf says nan and inf where one went wrong. */
static void assert_drawn(const char *page)
{
    assert_null(strstr(page, "\"nan"));
    assert_null(strstr(page, "\"-nan"));
    assert_null(strstr(page, "\"inf"));
    for (const char *d = page; (d = strstr(d, " d=\"")); d++)
        assert_true(strspn(d + 4, "MLHV0123456789. ") == strcspn(d + 4, "\""));
    assert_int_equal(count(page, "<svg"), count(page, "</svg>"));
    assert_int_equal(count(page, "<figure"), count(page, "</figure>"));
    assert_non_null(strstr(page, "</html>"));
}

/* ---- axes ---- */

static void ticks_are_round(void **state)
{
    (void)state;
    char text[40];
    gb_axis a = gb_axis_fit(0.13, 2.27, false, true, 0, 100);
    assert_int_equal(a.n_ticks, 6);
    assert_string_equal(gb_axis_label(&a, a.tick[1], false, text), "0.5");
    assert_float_equal(gb_axis_at(&a, a.hi), 100, 1e-9);
    a = gb_axis_fit(3e-9, 2e-3, true, true, 0, 70);
    assert_int_equal(a.n_ticks, 8); /* 1e-9 to 1e-2, a decade each */
    assert_string_equal(gb_axis_label(&a, a.tick[2], false, text), "1e-7");
    assert_float_equal(gb_axis_at(&a, 1e-6), 30, 1e-3);
    a = gb_axis_fit(0.8, 1, false, true, 0, 1);
    assert_string_equal(gb_axis_label(&a, a.tick[a.n_ticks - 1], true, text), "100 %");
}

static void axes_hold_any_values(void **state)
{
    (void)state;
    static const double v[] = {0,       1,    -1,       5e-324, 1e-300, -1e308,
                               1.7e308, 1e15, 1e15 + 2, 1e-17,  NAN,    INFINITY};
    size_t n = sizeof v / sizeof *v;
    for (size_t i = 0; i < n * n * 2; i++) {
        double lo = v[i % n], hi = v[i / n % n];
        gb_axis a = gb_axis_fit(lo, hi, i >= n * n, i % 2, 10, 90);
        assert_true(isfinite(a.lo) && isfinite(a.hi) && a.lo < a.hi);
        assert_true(a.n_ticks >= 1 && a.n_ticks <= GB_MAX_TICKS);
        for (int t = 0; t < a.n_ticks; t++) {
            double at = gb_axis_at(&a, a.tick[t]);
            char text[40];
            assert_true(at >= 10 && at <= 90);
            assert_true(strlen(gb_axis_label(&a, a.tick[t], true, text)) < sizeof text);
        }
    }
}

/* ---- pages and charts ---- */

static gb_page open_page(void)
{
    gb_page p;
    gb_page_open(&p, gb_test_path(dir, "page.html"), "a <page> & \"more\"", NULL);
    return p;
}

static char *close_page(gb_page *p)
{
    assert_int_equal(gb_page_close(p), GB_OK);
    char *text = read_text("page.html");
    assert_drawn(text);
    return text;
}

static void text_is_escaped(void **state)
{
    (void)state;
    gb_page p = open_page();
    static const char evil[] = "<script>&\"\x01\xff\xc0\xaf\xed\xa0\x80é\xf0\x9f\x99\x82";
    gb_page_tag(&p, "p class=\"x\"", evil);
    double y[] = {1, 2};
    gb_series s[] = {{.name = evil, .y = y, .n = 2}, {.name = evil, .y = y, .n = 2, .color = 1}};
    gb_svg_lines(
        &p, &(gb_line_chart){.title = evil, .note = evil, .x_label = evil, .series = s, .n = 2});
    const char *row[] = {evil};
    gb_svg_bars(
        &p, &(gb_bar_chart){
                .title = evil, .row = row, .group = row, .n_rows = 1, .n_groups = 1, .value = y});
    gb_page_verdict(&p, GB_MOOD_BAD, evil, evil);
    char *text = close_page(&p);
    assert_non_null(strstr(text, "<title>a &lt;page&gt; &amp; &quot;more&quot;</title>"));
    assert_non_null(
        strstr(text, "<p class=\"x\">&lt;script&gt;&amp;&quot;\xef\xbf\xbd\xef\xbf\xbd"));
    assert_non_null(strstr(text, "é\xf0\x9f\x99\x82</p>"));
    assert_int_equal(count(text, "<script>"), 1); /* the page's own */
    assert_int_equal(count(text, "\xff"), 0);
    free(text);
}

static void draw(const double *x, const double *y, size_t n, gb_scale scale, const char *expected)
{
    gb_page p = open_page();
    gb_series s[] = {{.name = "a", .x = x, .y = y, .n = n},
                     {.name = "b", .y = y, .n = n, .style = GB_LINE_DOTS}};
    gb_svg_lines(&p, &(gb_line_chart){.title = "t",
                                      .x_label = "x",
                                      .series = s,
                                      .n = 2,
                                      .scale = scale,
                                      .mark_x = 1,
                                      .mark_x_text = "m",
                                      .mark_y = 2,
                                      .mark_y_text = "n"});
    char *text = close_page(&p);
    if (!strstr(text, expected)) fail_msg("no '%s' in %s", expected, strstr(text, "<figure"));
    free(text);
}

static void charts_of_odd_data(void **state)
{
    (void)state;
    double nothing[] = {NAN, INFINITY, -INFINITY, NAN}, gap[] = {1, 2, NAN, 4, 5},
           huge[] = {-1.7e308, 1.7e308, 0};
    double negative[] = {-1, -2, 0, 10};
    for (int scale = GB_SCALE_LINEAR; scale <= GB_SCALE_AUTO; scale++) {
        draw(NULL, NULL, 0, scale, "nothing to show yet");
        draw(NULL, nothing, 4, scale, "nothing to show yet");
        draw(nothing, gap, 4, scale, "<path class=\"axis\"");
        draw(NULL, gap, 1, scale, "<path class=\"line\" data-name=\"a\"");
        draw(NULL, huge, 3, scale, "data-y=");
        draw(NULL, negative, 4, scale, "data-y=");
    }
    gb_page p = open_page();
    gb_series s = {.name = "a", .y = gap, .n = 5};
    gb_svg_lines(&p, &(gb_line_chart){.title = "t", .x_label = "x", .series = &s, .n = 1});
    char *text = close_page(&p), *d = strstr(strstr(text, "class=\"line\""), " d=\"");
    *strchr(d + 4, '"') = 0;
    assert_int_equal(count(d, "M"), 2); /* a gap where the NaN is */
    assert_int_equal(count(d, "L"), 4);
    free(text);
}

static void long_series_keep_their_peaks(void **state)
{
    (void)state;
    enum { N = 200000 };
    double *y = malloc(N * sizeof *y);
    for (int i = 0; i < N; i++) y[i] = 1;
    y[77777] = 3; /* the top of the axis */
    gb_page p = open_page();
    gb_series s = {.name = "a", .y = y, .n = N};
    gb_svg_lines(&p, &(gb_line_chart){.title = "t", .x_label = "x", .series = &s, .n = 1});
    char *text = close_page(&p);
    assert_true(strlen(strstr(text, "<figure")) < 40000);
    assert_non_null(strstr(strstr(text, "class=\"line\""), " 14.00L"));
    free(y);
    free(text);
}

static void bars_of_odd_data(void **state)
{
    (void)state;
    static const char *const row[] = {"a", "b"}, *const group[] = {"x", "y", "rest"};
    static const double values[][6] = {{NAN, NAN, NAN, NAN, NAN, NAN},
                                       {0, 0, 0, 0, 0, 0},
                                       {1e-9, 1e9, 5, INFINITY, -3, NAN},
                                       {1, 2, 3, 4, 5, 6}};
    for (int i = 0; i < 4 * 3 * 2; i++) {
        gb_page p = open_page();
        gb_bar_chart c = {.title = "t",
                          .row = row,
                          .n_rows = 2,
                          .group = group,
                          .n_groups = 3,
                          .value = values[i % 4],
                          .scale = i / 4 % 3,
                          .stacked = i >= 12,
                          .mark = 1,
                          .mark_text = "limit",
                          .format = gb_number_ms};
        gb_svg_bars(&p, &c);
        c.n_rows = 0;
        gb_svg_bars(&p, &c);
        free(close_page(&p));
    }
}

static void numbers_in_words(void **state)
{
    (void)state;
    char t[GB_NUMBER_SIZE];
    assert_string_equal(gb_number_count(t, 1234567), "1,234,567");
    assert_string_equal(gb_number_count(t, -123), "-123");
    assert_string_equal(gb_number_count(t, INT64_MIN), "-9,223,372,036,854,775,808");
    assert_string_equal(gb_number_bytes(t, 1.5 * 1024 * 1024), "1.5 MiB");
    assert_string_equal(gb_number_bytes(t, 1.8e19), "15987 PiB");
    assert_string_equal(gb_number_ms(t, 1234), "1.23 s");
    assert_string_equal(gb_number_seconds(t, 7500), "2 h 05 min");
    assert_string_equal(gb_number(t, NAN), "–");
    assert_string_equal(gb_number_percent(t, 0.97254), "97.25 %");
}

static void a_page_has_decimal_points(void **state)
{
    (void)state;
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8")) return;
    gb_page p = open_page();
    gb_page_put(&p, "<p>%.1f</p>", 1.5);
    char *text = close_page(&p);
    setlocale(LC_NUMERIC, "C");
    assert_non_null(strstr(text, "<p>1.5</p>"));
    free(text);
}

static void failures_leave_the_old_page(void **state)
{
    (void)state;
    gb_error err = {0};
    gb_page p;
    gb_page_open(&p, gb_test_path(dir, "no/such/folder.html"), "t", &err);
    gb_page_tag(&p, "p", "text");
    assert_int_equal(gb_page_close(&p), GB_NOT_FOUND);
    assert_non_null(strstr(err.input, "no/such/folder.html"));
}

/* ---- reports of runs ---- */

static const char recipe_text[] = "data: {dataset: fashion-mnist}\nmodel: {mlp: {hidden: [8]}}\n"
                                  "optimizer: {sgd: {lr: 0.1}}\nbatch: 32\nepochs: 3\nseed: 7\n";

static void make_run(int epochs)
{
    FILE *f = fopen(gb_test_path(dir, "metrics.jsonl"), "w");
    for (int e = 0, step = 0; e < epochs; e++) {
        for (int i = 0; i < 10; i++)
            fprintf(f,
                    "{\"step\": %d, \"epoch\": %d, \"loss\": %s, \"accuracy\": 0.5, \"lr\": 0.1}\n",
                    ++step, e, i == 5 ? "null" : "1.5");
        fprintf(f,
                "{\"step\": %d, \"epoch\": %d, \"lr\": 0.1, \"train_loss\": %g, "
                "\"train_accuracy\": 0.8125, "
                "\"test_loss\": %g, \"test_accuracy\": 0.78}\n",
                step, e, 1.0 / (e + 1), 1.1 / (e + 1));
    }
    fclose(f);
    write_text("recipe.yaml", recipe_text);
}

static void report_of_a_run(void **state)
{
    (void)state;
    gb_error err = {0};
    make_run(3);
    gb_make_dirs(gb_test_path(dir, "checkpoints"), NULL);
    write_text("checkpoints/state.json",
               "{\"step\": 30, \"seconds\": 12.5, \"device\": \"vulkan:1\"}");
    if (gb_report_write(dir, NULL, &err)) fail_msg("%s", err.message);
    char *text = read_text("report.html");
    assert_drawn(text);
    assert_non_null(strstr(text, "81.25 %"));
    assert_non_null(strstr(text, "vulkan:1"));
    assert_non_null(strstr(text, "12.5 s"));
    assert_non_null(strstr(text, "hidden: [8]"));
    assert_null(strstr(text, "Not complete"));
    assert_null(strstr(text, "http://www.w3.org/1999")); /* nothing is fetched */
    free(text);
    gb_train_result r = {.device = "cpu",
                         .parameters = 1234567,
                         .step_ms_min = 1,
                         .step_ms_median = 2,
                         .seconds = 99,
                         .planned_bytes = 1 << 20,
                         .peak_bytes = 3 << 20,
                         .test = {0.5, 0.9125, 100, 1}};
    assert_int_equal(gb_report_write(dir, &r, NULL), GB_OK);
    text = read_text("report.html");
    assert_drawn(text);
    assert_non_null(strstr(text, "1,234,567"));
    assert_non_null(strstr(text, "91.25 %"));
    assert_non_null(strstr(text, "3.0 MiB"));
    free(text);
}

static void report_of_a_part(void **state)
{
    (void)state;
    gb_error err = {0};
    unlink(gb_test_path(dir, "checkpoints/state.json"));
    make_run(1);
    FILE *f = fopen(gb_test_path(dir, "metrics.jsonl"), "a");
    fputs("{\"step\": 11, \"los", f); /* the machine went down here */
    fclose(f);
    if (gb_report_write(dir, NULL, &err)) fail_msg("%s", err.message);
    char *text = read_text("report.html");
    assert_non_null(strstr(text, "Not complete"));
    assert_non_null(strstr(text, "was cut off"));
    assert_non_null(strstr(text, "1 of 3 epochs"));
    free(text);
    write_text("metrics.jsonl", "");
    if (gb_report_write(dir, NULL, &err)) fail_msg("%s", err.message);
    text = read_text("report.html");
    assert_drawn(text);
    assert_non_null(strstr(text, "Too early to say"));
    free(text);
}

static void damaged_runs_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file, *content, *message;
        gb_status status;
    } bad[] = {
        {"metrics.jsonl", "{\"step\": 1, \"loss\": 1}\nnot json\n", "line 2", GB_FORMAT},
        {"metrics.jsonl", "{\"step\": 1, \"loss\": 1}\n[1]\n{\"step\": 2}\n", "line 2", GB_FORMAT},
        {"metrics.jsonl", "{\"step\": 1, \"loss\": \"x\"}\n", "'loss'", GB_FORMAT},
        {"metrics.jsonl", "{\"loss\": 1}\n", "'step'", GB_FORMAT},
        {"metrics.jsonl", "{\"step\": -3, \"train_loss\": 1}\n", "'step'", GB_FORMAT},
        {"checkpoints/state.json", "{\"step\": 1", "state", GB_FORMAT},
        {"checkpoints/state.json", "{\"seconds\": 1, \"device\": 5}", "state", GB_FORMAT},
        {"recipe.yaml", "epochs: many\n", "", GB_INVALID},
        {"metrics.jsonl", NULL, "", GB_NOT_FOUND},
        {"recipe.yaml", NULL, "", GB_NOT_FOUND},
    };
    gb_make_dirs(gb_test_path(dir, "checkpoints"), NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gb_error err = {0};
        make_run(1);
        unlink(gb_test_path(dir, "checkpoints/state.json"));
        if (bad[i].content)
            write_text(bad[i].file, bad[i].content);
        else
            unlink(gb_test_path(dir, bad[i].file));
        assert_int_equal(gb_report_write(dir, NULL, &err), bad[i].status);
        assert_non_null(strstr(err.message, bad[i].message));
        assert_non_null(strstr(err.input, bad[i].file));
    }
}

static void curves_in_words(void **state)
{
    (void)state;
    static const struct {
        double train[3], accuracy, test[3], test_accuracy;
        const char *headline;
    } runs[] = {
        {{1, .5, .1}, .99, {.6, .5, .7}, .85, "Overfits"},
        {{1, .5, .4}, .86, {.6, .5, .6}, .85, "The held-out loss rises"},
        {{1, .5, .3}, .92, {.6, .5, .45}, .85, "Begins to overfit"},
        {{1, .5, .4}, .86, {.6, .5, .45}, .85, "Has not finished learning"},
        {{1, .5, .499}, .86, {.6, .5, .5}, .85, "At the limit of this model and schedule"},
        {{1, .5, .4}, .88, {.6, .5, .45}, .85, "Fits well"},
        {{2.3, 2.3, 2.3}, .1, {2.3, 2.3, 2.3}, .1, "Does not learn"},
        {{2, 1, NAN}, .1, {2, 2, NAN}, .1, "Diverged"},
        {{2, 1, .5}, .9, {NAN, NAN, NAN}, NAN, "Nothing held out"},
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        double cell[3][GB_EPOCH_COLUMNS];
        for (int e = 0; e < 3; e++) {
            for (int c = 0; c < GB_EPOCH_COLUMNS; c++) cell[e][c] = NAN;
            cell[e][GB_EPOCH_TRAIN_LOSS] = runs[i].train[e];
            cell[e][GB_EPOCH_TRAIN_ACCURACY] = runs[i].accuracy;
            cell[e][GB_EPOCH_TEST_LOSS] = runs[i].test[e];
            cell[e][GB_EPOCH_TEST_ACCURACY] = runs[i].test_accuracy;
        }
        gb_log log = {.epochs = {.cell = cell[0], .rows = 3, .columns = GB_EPOCH_COLUMNS}};
        gb_diagnosis d = gb_diagnose_curves(&log);
        assert_string_equal(d.headline, runs[i].headline);
        assert_true(strlen(d.text) > 40 && strlen(d.text) + 1 < sizeof d.text);
    }
}

/* ---- comparisons ---- */

enum { LAYERS = 5, STEPS = 6 };

static char *compare_page(int devices, bool odd)
{
    gb_compare_layer layer[LAYERS];
    double loss[4][STEPS];
    gb_comparison c = {.n_devices = devices,
                       .n_layers = LAYERS,
                       .steps = STEPS,
                       .layer = layer,
                       .part = odd ? 3 : -1,
                       .agree = !odd,
                       .worst_layer = 2,
                       .worst_device = devices - 1,
                       .worst_error = odd ? INFINITY : 1e-7,
                       .worst_tolerance = 1e-6,
                       .worst_backward = odd};
    for (int l = 0; l < LAYERS; l++) {
        layer[l] = (gb_compare_layer){.name = l == 1 ? "a<b>&\"c\"" : "layers.0.conv",
                                      .op = "Conv",
                                      .forward_tolerance = 1e-6,
                                      .backward_tolerance = 2e-6};
        for (int d = 0; d < devices; d++) {
            layer[l].forward[d] = odd && l == 2 ? INFINITY : d * 1e-8;
            layer[l].backward[d] = odd && l < 2 ? NAN : 3e-7;
            layer[l].ms[d] = odd && l == 0 ? NAN : 1e-3 * (l + 1);
        }
    }
    for (int d = 0; d < devices; d++) {
        snprintf(c.device[d].id, sizeof c.device[d].id, "opencl:%d", d);
        snprintf(c.device[d].name, sizeof c.device[d].name, "Device <%d>", d);
        c.loss[d] = loss[d];
        for (int i = 0; i < STEPS; i++)
            loss[d][i] = odd && i > 2 ? (i % 2 ? NAN : 9 + d) : 2.3 / (i + 1);
        c.step_ms[d] = odd ? NAN : 10 + d;
        c.planned_bytes[d] = 1 << 20;
    }
    gb_error err = {0};
    gb_recipe *recipe;
    if (gb_recipe_parse(recipe_text, "test", NULL, 0, &recipe, &err)) fail_msg("%s", err.message);
    if (gb_comparison_html(&c, recipe, gb_test_path(dir, "compare.html"), &err))
        fail_msg("%s", err.message);
    gb_recipe_destroy(&recipe);
    return read_text("compare.html");
}

static void comparison_pages(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        int devices = i / 2 ? 4 : 1;
        bool odd = i % 2;
        char *text = compare_page(devices, odd);
        assert_drawn(text);
        assert_non_null(strstr(text, odd ? "class=\"verdict bad\"" : "class=\"verdict good\""));
        assert_non_null(strstr(text, "a&lt;b&gt;&amp;&quot;c&quot;"));
        assert_null(strstr(text, "a<b>"));
        assert_int_equal(count(text, "<td class=\"h h7\""), odd ? devices : 0);
        assert_int_equal(count(text, "<td class=\"none\">"), odd ? 2 * devices : 0);
        assert_int_equal(strstr(text, "Difference from opencl:0") != NULL, devices > 1);
        assert_int_equal(strstr(text, "they part") != NULL, odd || devices > 1);
        free(text);
    }
    gb_error err = {0};
    assert_int_equal(gb_comparison_html(&(gb_comparison){0}, NULL, "x", &err), GB_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticks_are_round),
        cmocka_unit_test(axes_hold_any_values),
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(charts_of_odd_data),
        cmocka_unit_test(long_series_keep_their_peaks),
        cmocka_unit_test(bars_of_odd_data),
        cmocka_unit_test(numbers_in_words),
        cmocka_unit_test(a_page_has_decimal_points),
        cmocka_unit_test(failures_leave_the_old_page),
        cmocka_unit_test(report_of_a_run),
        cmocka_unit_test(report_of_a_part),
        cmocka_unit_test(damaged_runs_are_refused),
        cmocka_unit_test(curves_in_words),
        cmocka_unit_test(comparison_pages),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
