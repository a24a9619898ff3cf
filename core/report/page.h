/* One self-contained HTML page, written piece by piece. After a first failure every further piece
 * is skipped and gb_page_close reports it. Numbers have a decimal point in any locale. */
#ifndef GB_CORE_REPORT_PAGE_H
#define GB_CORE_REPORT_PAGE_H

#include <locale.h>
#include <stdbool.h>
#include <stddef.h>

#include <gimbal/file.h>

typedef struct gb_page {
    gb_writer *writer;
    gb_error *err;
    gb_status status;
    locale_t plain, before;
} gb_page;

/* The page belongs to the thread that opens it until gb_page_close, which must follow. */
void gb_page_open(gb_page *p, const char *path, const char *title, gb_error *err);
/* Ends the page and replaces the file, or drops it after a failure. */
gb_status gb_page_close(gb_page *p);

/* Markup as it is: nothing in it is escaped. */
void gb_page_put(gb_page *p, const char *format, ...) GB_PRINTF(2, 3);
/* Text from anywhere, escaped. */
void gb_page_text(gb_page *p, const char *text);
/* <tag>text</tag>; tag may carry attributes: "p class=note". */
void gb_page_tag(gb_page *p, const char *tag, const char *text);
void gb_page_tagf(gb_page *p, const char *tag, const char *format, ...) GB_PRINTF(3, 4);

/* A section with a heading and one line that explains it (NULL: none). */
void gb_page_section(gb_page *p, const char *title, const char *note);
void gb_page_section_end(gb_page *p);
/* A tile: a name, a large value, and small print (NULL: none), between gb_page_tiles(p, true) and
 * gb_page_tiles(p, false). */
void gb_page_tiles(gb_page *p, bool begin);
void gb_page_tile(gb_page *p, const char *name, const char *value, const char *small);

typedef enum gb_mood { GB_MOOD_NEUTRAL, GB_MOOD_GOOD, GB_MOOD_WARN, GB_MOOD_BAD } gb_mood;
/* What the page says first: a headline and a paragraph. */
void gb_page_verdict(gb_page *p, gb_mood mood, const char *headline, const char *text);

/* A table cell of an error, coloured by its share of the tolerance on a logarithmic scale, with a
 * bar that is full where the tolerance is reached. NaN: there is none. */
void gb_page_heat_cell(gb_page *p, double error, double tolerance);
/* A table cell of a value with a bar that shows its share (0 to 1). */
void gb_page_bar_cell(gb_page *p, const char *text, double share);

enum { GB_NUMBER_SIZE = 40 };
typedef char *gb_number_format(char text[GB_NUMBER_SIZE], double value);
/* Four digits at most: "0.3512", "12.5", "3.1e-7"; "–" for NaN, "∞". Returns text. */
char *gb_number(char text[GB_NUMBER_SIZE], double value);
char *gb_number_error(char text[GB_NUMBER_SIZE], double value);      /* "3.1e-7" */
char *gb_number_loss(char text[GB_NUMBER_SIZE], double value);       /* "0.3500" */
char *gb_number_bytes(char text[GB_NUMBER_SIZE], double bytes);      /* "1.5 MiB" */
char *gb_number_percent(char text[GB_NUMBER_SIZE], double fraction); /* "97.25 %" */
char *gb_number_count(char text[GB_NUMBER_SIZE], long long count);   /* "1 234 567" */
char *gb_number_ms(char text[GB_NUMBER_SIZE], double ms);            /* "1.25 ms", "3.2 s" */
char *gb_number_seconds(char text[GB_NUMBER_SIZE], double seconds);  /* "2 h 05 min", "12.3 s" */

char *gb_short_exponent(char *text); /* 1e-07 becomes 1e-7; returns text */

extern const char gb_report_page_css[], gb_report_page_js[];

#endif
