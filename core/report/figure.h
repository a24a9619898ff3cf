/* What all charts share. */
#ifndef GB_CORE_REPORT_FIGURE_H
#define GB_CORE_REPORT_FIGURE_H

#include "core/report/axis.h"
#include "core/report/svg.h"

enum { GB_COLORS = 8 };

/* The least and the largest of values that count: finite, and positive where asked. */
typedef struct gb_range {
    double lo, hi;
    bool any, all_positive;
} gb_range;

gb_range gb_range_start(void);
void gb_range_add(gb_range *r, double value, bool positive_only);
bool gb_range_log(const gb_range *r, gb_scale scale); /* what GB_SCALE_AUTO means for it */

void gb_figure_begin(gb_page *p, const char *title, const char *note, bool wide);
void gb_figure_end(gb_page *p);
/* " s3" and the like: the class of a colour. */
const char *gb_color_class(int color);
void gb_legend_begin(gb_page *p);
void gb_legend_item(gb_page *p, const char *name, int color, bool dashed);
void gb_legend_end(gb_page *p);
/* <text> at x, y; attributes may be "". */
void gb_svg_text(gb_page *p, double x, double y, const char *attributes, const char *text);

#endif
