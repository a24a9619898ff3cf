#include "core/report/figure.h"

#include <math.h>

gb_range gb_range_start(void)
{
    return (gb_range){.lo = INFINITY, .hi = -INFINITY, .all_positive = true};
}

void gb_range_add(gb_range *r, double v, bool positive_only)
{
    if (!isfinite(v)) return;
    if (v <= 0) r->all_positive = false;
    if (v <= 0 && positive_only) return;
    r->any = true;
    r->lo = fmin(r->lo, v);
    r->hi = fmax(r->hi, v);
}

bool gb_range_log(const gb_range *r, gb_scale scale)
{
    if (scale != GB_SCALE_AUTO) return scale == GB_SCALE_LOG;
    return r->any && r->all_positive && r->hi / r->lo > 10;
}

void gb_figure_begin(gb_page *p, const char *title, const char *note, bool wide)
{
    gb_page_put(p, "<figure%s>\n<figcaption>", wide ? " class=\"wide\"" : "");
    gb_page_tag(p, "strong", title);
    if (note) gb_page_tag(p, "span", note);
    gb_page_put(p, "</figcaption>\n");
}

void gb_figure_end(gb_page *p)
{
    gb_page_put(p, "</figure>\n");
}

const char *gb_color_class(int color)
{
    static const char *const name[] = {"s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"};
    return color < 0 ? "grey" : name[color % GB_COLORS];
}

void gb_legend_begin(gb_page *p)
{
    gb_page_put(p, "<div class=\"legend\">");
}

void gb_legend_item(gb_page *p, const char *name, int color, bool dashed)
{
    gb_page_put(p, "<span class=\"%s%s\"><i></i>", gb_color_class(color), dashed ? " dashed" : "");
    gb_page_text(p, name);
    gb_page_put(p, "</span>");
}

void gb_legend_end(gb_page *p)
{
    gb_page_put(p, "</div>\n");
}

void gb_svg_text(gb_page *p, double x, double y, const char *attributes, const char *text)
{
    gb_page_put(p, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
    gb_page_text(p, text);
    gb_page_put(p, "</text>\n");
}
