#include "core/report/page.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

void gb_page_open(gb_page *p, const char *path, const char *title, gb_error *err)
{
    *p = (gb_page){.err = err};
    p->plain = newlocale(LC_ALL_MASK, "C", NULL);
    if (!p->plain) {
        p->status = gb_fail(err, GB_OUT_OF_MEMORY, path, NULL, "no memory for a page");
        return;
    }
    p->before = uselocale(p->plain);
    p->status = gb_writer_open(&p->writer, path, err);
    gb_page_put(p, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                   "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                   "<meta name=\"color-scheme\" content=\"light dark\">\n");
    gb_page_tag(p, "title", title);
    gb_page_put(p, "<style>\n%s</style>\n</head>\n<body>\n<main>\n", gb_report_page_css);
}

gb_status gb_page_close(gb_page *p)
{
    gb_page_put(p,
                "<footer>Written by gimbal. This page needs no network.</footer>\n</main>\n"
                "<script>\n%s</script>\n</body>\n</html>\n",
                gb_report_page_js);
    if (p->status)
        gb_writer_abort(&p->writer);
    else
        p->status = gb_writer_commit(&p->writer, p->err);
    if (p->plain) {
        uselocale(p->before);
        freelocale(p->plain);
    }
    return p->status;
}

static void put_bytes(gb_page *p, const char *text, size_t n)
{
    if (!p->status) p->status = gb_writer_write(p->writer, text, n, p->err);
}

static void put_formatted(gb_page *p, bool escape, const char *format, va_list args)
{
    char *text = NULL;
    if (p->status) return;
    if (vasprintf(&text, format, args) < 0) {
        p->status = gb_fail(p->err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a page");
        return;
    }
    if (escape)
        gb_page_text(p, text);
    else
        put_bytes(p, text, strlen(text));
    free(text);
}

void gb_page_put(gb_page *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put_formatted(p, false, format, args);
    va_end(args);
}

/* Bytes of the UTF-8 character at s, or 0 where there is none that a page may hold. */
static size_t character(const unsigned char *s)
{
    if (s[0] < 0x80) return s[0] >= 0x20 || s[0] == '\n' || s[0] == '\t';
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || outside ? 0 : n;
}

void gb_page_text(gb_page *p, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s && !p->status) {
        size_t n = character(s);
        const char *entity = *s == '<'   ? "&lt;"
                             : *s == '>' ? "&gt;"
                             : *s == '&' ? "&amp;"
                             : *s == '"' ? "&quot;"
                             : n         ? NULL
                                         : "\xef\xbf\xbd"; /* U+FFFD */
        if (entity)
            put_bytes(p, entity, strlen(entity));
        else
            put_bytes(p, (const char *)s, n);
        s += n ? n : 1;
    }
}

static void end_tag(gb_page *p, const char *tag)
{
    gb_page_put(p, "</%.*s>\n", (int)strcspn(tag, " "), tag);
}

void gb_page_tag(gb_page *p, const char *tag, const char *text)
{
    gb_page_put(p, "<%s>", tag);
    gb_page_text(p, text);
    end_tag(p, tag);
}

void gb_page_tagf(gb_page *p, const char *tag, const char *format, ...)
{
    va_list args;
    gb_page_put(p, "<%s>", tag);
    va_start(args, format);
    put_formatted(p, true, format, args);
    va_end(args);
    end_tag(p, tag);
}

/* ---- pieces ---- */

void gb_page_section(gb_page *p, const char *title, const char *note)
{
    gb_page_put(p, "<section>\n");
    gb_page_tag(p, "h2", title);
    if (note) gb_page_tag(p, "p class=\"note\"", note);
}

void gb_page_section_end(gb_page *p)
{
    gb_page_put(p, "</section>\n");
}

void gb_page_tiles(gb_page *p, bool begin)
{
    gb_page_put(p, begin ? "<div class=\"tiles\">\n" : "</div>\n");
}

void gb_page_tile(gb_page *p, const char *name, const char *value, const char *small)
{
    gb_page_put(p, "<div class=\"tile\">");
    gb_page_tag(p, "span class=\"name\"", name);
    gb_page_tag(p, "span class=\"value\"", value);
    if (small) gb_page_tag(p, "span class=\"small\"", small);
    gb_page_put(p, "</div>\n");
}

void gb_page_verdict(gb_page *p, gb_mood mood, const char *headline, const char *text)
{
    static const char *const class[] = {"neutral", "good", "warn", "bad"};
    gb_page_put(p, "<div class=\"verdict %s\">\n", class[mood]);
    gb_page_tag(p, "strong", headline);
    gb_page_tag(p, "p", text);
    gb_page_put(p, "</div>\n");
}

void gb_page_heat_cell(gb_page *p, double error, double tolerance)
{
    enum { WITHIN = 6 }; /* classes h0 to h5 lie within the tolerance, h6 and h7 beyond it */
    char text[GB_NUMBER_SIZE];
    if (isnan(error)) {
        gb_page_put(p, "<td class=\"none\">–</td>");
        return;
    }
    double share = tolerance > 0 ? error / tolerance : error > 0 ? INFINITY : 0;
    double decades = fmin(fmax(log10(share) + 4, 0), 4); /* 0 at a ten-thousandth */
    int level = share > 10 ? WITHIN + 1 : share > 1 ? WITHIN : (int)fmin(decades / 4 * WITHIN, 5);
    gb_page_put(p, "<td class=\"h h%d\" style=\"--w:%.0f%%\">%s</td>", level, decades * 25,
                gb_number_error(text, error));
}

void gb_page_bar_cell(gb_page *p, const char *text, double share)
{
    double width = share >= 0 ? 100 * fmin(share, 1) : 0;
    gb_page_put(p, "<td class=\"b\" style=\"--w:%.1f%%\">", width);
    gb_page_text(p, text);
    gb_page_put(p, "</td>");
}

/* ---- numbers ---- */

char *gb_short_exponent(char *text)
{
    char *e = strchr(text, 'e');
    if (!e) return text;
    char *digits = e + 1 + (e[1] == '-' || e[1] == '+'), *rest = digits;
    while (*rest == '0' && rest[1] >= '0' && rest[1] <= '9') rest++;
    memmove(e[1] == '-' ? digits : e + 1, rest, strlen(rest) + 1);
    return text;
}

static char *formatted(char text[GB_NUMBER_SIZE], const char *format, double v)
{
    if (isnan(v))
        strcpy(text, "–");
    else if (isinf(v))
        strcpy(text, v > 0 ? "∞" : "−∞");
    else
        snprintf(text, GB_NUMBER_SIZE, format, v);
    return gb_short_exponent(text);
}

static bool is_plain(double v)
{
    return v == 0 || (fabs(v) >= 1e-3 && fabs(v) < 1e5);
}

char *gb_number(char text[GB_NUMBER_SIZE], double v)
{
    return formatted(text, is_plain(v) ? "%.4g" : "%.2e", v);
}

char *gb_number_error(char text[GB_NUMBER_SIZE], double v)
{
    return formatted(text, v == 0 ? "%.0f" : "%.1e", v);
}

char *gb_number_loss(char text[GB_NUMBER_SIZE], double v)
{
    return formatted(text, is_plain(v) ? "%.4f" : "%.2e", v);
}

char *gb_number_bytes(char text[GB_NUMBER_SIZE], double bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int i = 0;
    for (; bytes >= 1024 && i < 5; i++) bytes /= 1024;
    snprintf(text, GB_NUMBER_SIZE, i && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, unit[i]);
    return text;
}

char *gb_number_percent(char text[GB_NUMBER_SIZE], double fraction)
{
    if (!isfinite(fraction)) return gb_number(text, fraction);
    snprintf(text, GB_NUMBER_SIZE, "%.2f %%", 100 * fraction);
    return text;
}

char *gb_number_count(char text[GB_NUMBER_SIZE], long long count)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%lld", count), used = 0;
    for (int i = 0; i < n; i++) {
        text[used++] = digits[i];
        if ((n - i) % 3 == 1 && i + 1 < n && digits[i] != '-') text[used++] = ',';
    }
    text[used] = 0;
    return text;
}

char *gb_number_ms(char text[GB_NUMBER_SIZE], double ms)
{
    char number[GB_NUMBER_SIZE];
    bool seconds = ms >= 1000;
    if (!isfinite(ms)) return gb_number(text, ms);
    snprintf(number, sizeof number, "%.3g", seconds ? ms / 1000 : ms);
    snprintf(text, GB_NUMBER_SIZE, "%.20s %s", number, seconds ? "s" : "ms");
    return text;
}

char *gb_number_seconds(char text[GB_NUMBER_SIZE], double s)
{
    if (!(s < 1e9)) return gb_number(text, s);
    long whole = lround(s);
    if (s < 100)
        snprintf(text, GB_NUMBER_SIZE, "%.1f s", s);
    else if (whole < 3600)
        snprintf(text, GB_NUMBER_SIZE, "%ld min %02ld s", whole / 60, whole % 60);
    else
        snprintf(text, GB_NUMBER_SIZE, "%ld h %02ld min", whole / 3600, whole / 60 % 60);
    return text;
}
