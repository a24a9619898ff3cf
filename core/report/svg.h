/* Charts as inline SVG: figures of a page with a title, a line that explains them and a legend.
 * Colours, fonts and hovering come from the page's style and script; without them a chart still
 * says everything. Values that are not finite (or not positive, on a log axis) are gaps. */
#ifndef GB_CORE_REPORT_SVG_H
#define GB_CORE_REPORT_SVG_H

#include "core/report/page.h"

typedef enum gb_scale {
    GB_SCALE_LINEAR,
    GB_SCALE_LOG,
    GB_SCALE_AUTO /* log where all values are positive and the largest is over 10 times the smallest
                   */
} gb_scale;

typedef enum gb_line_style {
    GB_LINE_SOLID,
    GB_LINE_FAINT, /* what lies behind: single steps */
    GB_LINE_DOTS,  /* with its points */
    GB_LINE_DASHED
} gb_line_style;

typedef struct gb_series {
    const char *name;
    const double *x, *y; /* x: counts, ascending; NULL: 1, 2, 3, … */
    size_t n, stride;    /* doubles from one value to the next; 0: 1 */
    int color;           /* 0 to 7, then dashed; -1: grey */
    gb_line_style style;
    double width;    /* 0: 2 */
    int part, parts; /* of parts > 1 only the dashes of this part: equal curves take turns */
} gb_series;

typedef struct gb_line_chart {
    const char *title, *note, *x_label; /* note may be NULL */
    const gb_series *series;
    size_t n;
    gb_scale scale;        /* of y */
    bool percent;          /* 0.5 is shown as 50 % */
    bool wide;             /* as wide as the page */
    double mark_x, mark_y; /* lines across the chart; 0: none */
    const char *mark_x_text, *mark_y_text;
} gb_line_chart;

void gb_svg_lines(gb_page *p, const gb_line_chart *c);

typedef struct gb_bar_chart {
    const char *title, *note;
    const char *const *row, *const *group;
    size_t n_rows, n_groups; /* more than one group: a bar each in every row */
    const double *value;     /* [row][group] */
    gb_scale scale;
    bool stacked; /* groups are parts of one bar, each row shown as shares of its whole */
    double mark;  /* a line across the chart; 0: none */
    const char *mark_text;
    bool wide;                /* as wide as the page */
    gb_number_format *format; /* NULL: gb_number */
} gb_bar_chart;

void gb_svg_bars(gb_page *p, const gb_bar_chart *c);

#endif
