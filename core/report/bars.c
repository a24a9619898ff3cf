/* Bar charts: rows of horizontal bars, each under its name, so that names may be long. */
#include <math.h>
#include <stdio.h>

#include "core/report/figure.h"

enum { WIDTH = 560, VALUE = 96, NAME = 20, BAR = 14, THICK = 24, GAP = 10, MARK = 18 };

typedef struct chart {
    gb_page *p;
    const gb_bar_chart *c;
    gb_axis x;
    double width; /* of the bars; values stand behind them */
} chart;

static double value_of(const gb_bar_chart *c, size_t row, size_t group)
{
    return c->value[row * c->n_groups + group];
}

static const char *text_of(const gb_bar_chart *c, double value, char text[GB_NUMBER_SIZE])
{
    return c->format && isfinite(value) ? c->format(text, value) : gb_number(text, value);
}

static double bar_height(const gb_bar_chart *c)
{
    return c->stacked || c->n_groups == 1 ? THICK : BAR;
}

static double row_height(const gb_bar_chart *c)
{
    return NAME + bar_height(c) * (double)(c->stacked ? 1 : c->n_groups) + GAP;
}

/* Linear bars begin at zero; logarithmic ones below the smallest value. */
static void fit(chart *k)
{
    const gb_bar_chart *c = k->c;
    gb_range r = gb_range_start();
    for (size_t i = 0; i < c->n_rows * c->n_groups; i++)
        gb_range_add(&r, c->value[i], c->scale == GB_SCALE_LOG);
    if (c->mark > 0) gb_range_add(&r, c->mark, false);
    bool log = gb_range_log(&r, c->scale);
    k->width = WIDTH * (c->wide ? 2 : 1) - VALUE;
    k->x = log ? gb_axis_fit(r.lo / 3, r.hi, true, false, 0, k->width)
               : gb_axis_fit(0, r.any && r.hi > 0 ? r.hi : 1, false, false, 0, k->width);
}

static void draw_bar(const chart *k, size_t row, size_t group, double y)
{
    char text[GB_NUMBER_SIZE];
    const gb_bar_chart *c = k->c;
    double v = value_of(c, row, group), high = bar_height(c);
    double end = gb_axis_holds(&k->x, v) ? gb_axis_at(&k->x, v) : isinf(v) ? k->x.to : 0;
    gb_page_put(k->p,
                "<rect class=\"%s\" x=\"0\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\"/>",
                gb_color_class(c->n_groups > 1 ? (int)group : (int)row), y, fmax(end, 1), high - 2);
    gb_svg_text(k->p, fmax(end, 1) + 6, y + high / 2 + 3, "class=\"number\"", text_of(c, v, text));
}

static double row_sum(const gb_bar_chart *c, size_t row)
{
    double sum = 0;
    for (size_t g = 0; g < c->n_groups; g++)
        if (value_of(c, row, g) > 0) sum += value_of(c, row, g);
    return sum;
}

static void draw_stack(const chart *k, size_t row, double y)
{
    char text[GB_NUMBER_SIZE];
    const gb_bar_chart *c = k->c;
    double sum = row_sum(c, row), x = 0;
    for (size_t g = 0; g < c->n_groups && sum > 0 && isfinite(sum); g++) {
        double v = value_of(c, row, g), wide = v > 0 ? v / sum * k->width : 0;
        if (wide < 0.05) continue;
        bool other = g + 1 == c->n_groups && g > 0;
        gb_page_put(k->p,
                    "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"><title>",
                    gb_color_class(other ? -1 : (int)g), x, y, fmax(wide - 1, 0.5), THICK - 2);
        gb_page_text(k->p, c->group[g]);
        gb_page_put(k->p, ": %s, %.1f %%</title></rect>\n", text_of(c, v, text), 100 * v / sum);
        if (wide > 44) {
            char share[GB_NUMBER_SIZE];
            snprintf(share, sizeof share, "%.0f %%", 100 * v / sum);
            gb_svg_text(k->p, x + wide / 2, y + THICK / 2 + 3,
                        "class=\"inside\" text-anchor=\"middle\"", share);
        }
        x += wide;
    }
    gb_svg_text(k->p, x + 6, y + THICK / 2 + 3, "class=\"number\"", text_of(c, sum, text));
}

static void draw_mark(const chart *k, double height)
{
    double x = gb_axis_at(&k->x, k->c->mark);
    gb_page_put(k->p, "<path class=\"mark\" d=\"M%.1f %dV%.1f\"/>\n", x, MARK - 4, height);
    gb_svg_text(k->p, x, MARK - 8,
                x > k->width / 2 ? "class=\"marktext\" text-anchor=\"end\"" : "class=\"marktext\"",
                k->c->mark_text);
}

void gb_svg_bars(gb_page *p, const gb_bar_chart *c)
{
    chart k = {.p = p, .c = c};
    fit(&k);
    double top = c->mark > 0 ? MARK : 0, height = top + (double)c->n_rows * row_height(c);
    gb_figure_begin(p, c->title, c->note, c->wide);
    gb_legend_begin(p);
    for (size_t g = 0; g < c->n_groups && c->n_groups > 1; g++)
        gb_legend_item(p, c->group[g], c->stacked && g + 1 == c->n_groups ? -1 : (int)g, false);
    if (k.x.log && !c->stacked) gb_page_put(p, "<em>log scale</em>");
    gb_legend_end(p);
    gb_page_put(p, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", k.width + VALUE,
                fmax(height, 10));
    gb_page_text(p, c->title);
    gb_page_put(p, "\">\n");
    for (size_t r = 0; r < c->n_rows; r++) {
        double y = top + (double)r * row_height(c);
        gb_svg_text(p, 0, y + NAME - 6, "class=\"row\"", c->row[r]);
        for (size_t g = 0; g < c->n_groups && !c->stacked; g++)
            draw_bar(&k, r, g, y + NAME + (double)g * BAR);
        if (c->stacked) draw_stack(&k, r, y + NAME);
    }
    if (c->mark > 0) draw_mark(&k, height);
    gb_page_put(p, "</svg>\n");
    gb_figure_end(p);
}
