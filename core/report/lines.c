/* Line charts. */
#include <math.h>

#include "core/report/figure.h"

enum { HEIGHT = 300, LEFT = 58, RIGHT = 16, TOP = 14, BOTTOM = 44 };
enum { MAX_POINTS = 800, MAX_DOTS = 60, DASH = 14 };

typedef struct chart {
    gb_page *p;
    const gb_line_chart *c;
    gb_axis x, y;
    double width;
    bool any;
} chart;

static double x_of(const gb_series *s, size_t i)
{
    return s->x ? s->x[i * (s->stride ? s->stride : 1)] : (double)i + 1;
}

static double y_of(const gb_series *s, size_t i)
{
    return s->y[i * (s->stride ? s->stride : 1)];
}

/* Steps and layers are counted: there is no tick at half of one. */
static void keep_whole(gb_axis *a)
{
    int n = 0;
    for (int i = 0; i < a->n_ticks; i++)
        if (fabs(a->tick[i] - rint(a->tick[i])) < 1e-9) a->tick[n++] = rint(a->tick[i]);
    if (n < a->n_ticks) a->step = 1;
    a->n_ticks = n;
}

static void fit(chart *k)
{
    const gb_line_chart *c = k->c;
    gb_range x = gb_range_start(), y = gb_range_start();
    for (size_t s = 0; s < c->n; s++)
        for (size_t i = 0; i < c->series[s].n; i++) {
            double v = y_of(&c->series[s], i);
            if (isfinite(v)) gb_range_add(&x, x_of(&c->series[s], i), false);
            gb_range_add(&y, v, c->scale == GB_SCALE_LOG);
        }
    k->any = y.any;
    if (c->mark_y > 0 && y.any) gb_range_add(&y, c->mark_y, false);
    k->width = c->wide ? 1120 : 560;
    k->x = gb_axis_fit(x.lo, x.hi, false, false, LEFT, k->width - RIGHT);
    keep_whole(&k->x);
    k->y = gb_axis_fit(y.lo, y.hi, gb_range_log(&y, c->scale), true, HEIGHT - BOTTOM, TOP);
}

static void draw_axes(const chart *k)
{
    char text[40];
    const gb_axis *x = &k->x, *y = &k->y;
    gb_page *p = k->p;
    gb_page_put(p, "<path class=\"grid\" d=\"");
    for (int i = 0; i < y->n_ticks; i++)
        gb_page_put(p, "M%d %.1fH%.1f", LEFT, gb_axis_at(y, y->tick[i]), k->width - RIGHT);
    gb_page_put(p, "\"/>\n<path class=\"axis\" d=\"M%d %dH%.1f\"/>\n<g class=\"ticks\">\n", LEFT,
                HEIGHT - BOTTOM, k->width - RIGHT);
    for (int i = 0; i < y->n_ticks; i++)
        gb_svg_text(p, LEFT - 8, gb_axis_at(y, y->tick[i]) + 4, "text-anchor=\"end\"",
                    gb_axis_label(y, y->tick[i], k->c->percent, text));
    for (int i = 0; i < x->n_ticks; i++)
        gb_svg_text(p, gb_axis_at(x, x->tick[i]), HEIGHT - BOTTOM + 18, "text-anchor=\"middle\"",
                    gb_axis_label(x, x->tick[i], false, text));
    gb_page_put(p, "</g>\n");
    gb_svg_text(p, (x->from + x->to) / 2, HEIGHT - 6, "class=\"label\" text-anchor=\"middle\"",
                k->c->x_label);
}

static void draw_marks(const chart *k)
{
    const gb_line_chart *c = k->c;
    if (c->mark_y > 0 && k->any) {
        double y = gb_axis_at(&k->y, c->mark_y);
        gb_page_put(k->p, "<path class=\"mark\" d=\"M%d %.1fH%.1f\"/>\n", LEFT, y,
                    k->width - RIGHT);
        gb_svg_text(k->p, LEFT + 6, y - 6, "class=\"marktext\"", c->mark_y_text);
    }
    if (c->mark_x > 0 && k->any) {
        double x = gb_axis_at(&k->x, c->mark_x);
        bool right = x < k->width * 0.6;
        gb_page_put(k->p, "<path class=\"mark\" d=\"M%.1f %dV%d\"/>\n", x, TOP, HEIGHT - BOTTOM);
        gb_svg_text(k->p, x + (right ? 6 : -6), TOP + 12,
                    right ? "class=\"marktext\"" : "class=\"marktext\" text-anchor=\"end\"",
                    c->mark_x_text);
    }
}

typedef struct pen {
    const chart *k;
    const gb_series *s;
    bool down;
} pen;

/* A point alone is a line to itself, which round ends show as a dot. */
static void draw_point(pen *pen, size_t i)
{
    double x = gb_axis_at(&pen->k->x, x_of(pen->s, i)), y = gb_axis_at(&pen->k->y, y_of(pen->s, i));
    if (!pen->down) gb_page_put(pen->k->p, "M%.1f %.2f", x, y);
    gb_page_put(pen->k->p, "L%.1f %.2f", x, y);
    pen->down = true;
}

/* Of each run of points only the least and the largest are drawn, in their order: peaks stay. */
static void draw_run(pen *pen, size_t begin, size_t end)
{
    size_t least = end, largest = end;
    bool gap = false;
    for (size_t i = begin; i < end; i++) {
        double v = y_of(pen->s, i);
        if (!gb_axis_holds(&pen->k->y, v) || !isfinite(x_of(pen->s, i))) {
            gap = true;
            continue;
        }
        if (least == end || v < y_of(pen->s, least)) least = i;
        if (largest == end || v > y_of(pen->s, largest)) largest = i;
    }
    if (least < end) draw_point(pen, least < largest ? least : largest);
    if (least < end && least != largest) draw_point(pen, least < largest ? largest : least);
    if (gap) pen->down = false;
}

static void draw_series(const chart *k, const gb_series *s)
{
    static const char *const style[] = {"", " faint", "", " dashed"};
    size_t runs = s->n > MAX_POINTS ? MAX_POINTS / 2 : s->n;
    pen pen = {.k = k, .s = s};
    bool dashed = s->color >= GB_COLORS && s->style == GB_LINE_SOLID;
    gb_page_put(k->p, "<g class=\"%s%s\"><path class=\"line\" data-name=\"",
                gb_color_class(s->color), dashed ? style[GB_LINE_DASHED] : style[s->style]);
    gb_page_text(k->p, s->name);
    gb_page_put(k->p, "\" stroke-width=\"%.1f\"", s->width > 0 ? s->width : 2);
    if (s->parts > 1)
        gb_page_put(k->p, " stroke-dasharray=\"%d %d\" stroke-dashoffset=\"%d\"", DASH,
                    DASH * (s->parts - 1), -DASH * s->part);
    gb_page_put(k->p, " d=\"");
    for (size_t r = 0; r < runs; r++) draw_run(&pen, r * s->n / runs, (r + 1) * s->n / runs);
    gb_page_put(k->p, "\"/>");
    bool dots = s->n == 1 || (s->style == GB_LINE_DOTS && s->n <= MAX_DOTS);
    for (size_t i = 0; dots && i < s->n; i++)
        if (gb_axis_holds(&k->y, y_of(s, i)))
            gb_page_put(k->p, "<circle cx=\"%.1f\" cy=\"%.2f\" r=\"3\"/>",
                        gb_axis_at(&k->x, x_of(s, i)), gb_axis_at(&k->y, y_of(s, i)));
    gb_page_put(k->p, "</g>\n");
}

static void put_axis(gb_page *p, const char *name, const gb_axis *a)
{
    gb_page_put(p, " data-%s=\"%.10g,%.10g,%.10g,%.10g,%d\"", name, a->from, a->to, a->lo, a->hi,
                a->log);
}

void gb_svg_lines(gb_page *p, const gb_line_chart *c)
{
    chart k = {.p = p, .c = c};
    fit(&k);
    gb_figure_begin(p, c->title, c->note, c->wide);
    gb_legend_begin(p);
    for (size_t i = 0; i < c->n && c->n > 1; i++)
        gb_legend_item(p, c->series[i].name, c->series[i].color,
                       c->series[i].style == GB_LINE_DASHED || c->series[i].color >= GB_COLORS);
    if (k.y.log) gb_page_put(p, "<em>log scale</em>");
    gb_legend_end(p);
    gb_page_put(p, "<svg class=\"lines\" viewBox=\"0 0 %.0f %d\" role=\"img\" data-percent=\"%d\"",
                k.width, HEIGHT, c->percent);
    put_axis(p, "x", &k.x);
    put_axis(p, "y", &k.y);
    gb_page_put(p, " aria-label=\"");
    gb_page_text(p, c->title);
    gb_page_put(p, "\">\n");
    draw_axes(&k);
    for (size_t i = 0; i < c->n; i++) draw_series(&k, &c->series[i]);
    draw_marks(&k);
    if (!k.any)
        gb_svg_text(p, k.width / 2, HEIGHT / 2 - 10, "class=\"label\" text-anchor=\"middle\"",
                    "nothing to show yet");
    gb_page_put(p, "</svg>\n");
    gb_figure_end(p);
}
