#include "core/report/axis.h"
#include "core/report/page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double largest = 1e300; /* so that no difference overflows */

/* 1, 2 or 5 times a power of ten, at least raw. */
static double nice_step(double raw)
{
    double power = pow(10, floor(log10(raw))), x = raw / power;
    return power * (x <= 1.0001 ? 1 : x <= 2.0001 ? 2 : x <= 5.0001 ? 5 : 10);
}

static void fit_linear(gb_axis *a, bool grow)
{
    if (!(a->hi - a->lo > 1e-9 * fmax(fabs(a->lo), fabs(a->hi))) || a->hi - a->lo < 1e-290) {
        double pad = fmax(0.1 * fmax(fabs(a->lo), fabs(a->hi)), fabs(a->lo) < 1e-280 ? 1 : 0);
        a->lo -= pad;
        a->hi += pad;
    }
    a->step = nice_step((a->hi - a->lo) / 5);
    if (grow) {
        a->lo = floor(a->lo / a->step + 1e-6) * a->step;
        a->hi = ceil(a->hi / a->step - 1e-6) * a->step;
    }
    double first = ceil(a->lo / a->step - 1e-6);
    for (int i = 0; i < GB_MAX_TICKS; i++) {
        double v = (first + i) * a->step;
        if (v > a->hi + 1e-6 * a->step) break;
        a->tick[a->n_ticks++] = v;
    }
}

static void fit_log(gb_axis *a, bool grow)
{
    double lo = log10(a->lo), hi = log10(a->hi);
    if (hi - lo < 0.1) {
        lo -= 0.5;
        hi += 0.5;
    }
    int decades = (int)(floor(hi) - ceil(lo)) + 1, stride = decades > 7 ? (decades + 6) / 7 : 1;
    if (grow && decades > 1) {
        lo = floor(lo + 1e-6);
        hi = ceil(hi - 1e-6);
    }
    a->lo = pow(10, lo);
    a->hi = pow(10, hi);
    static const double part[] = {1, 2, 5};
    int parts = decades > 2 ? 1 : 3; /* few decades: ticks between them too */
    for (int e = (int)floor(lo) / stride * stride - stride; e <= (int)ceil(hi); e += stride)
        for (int i = 0; i < parts && a->n_ticks < GB_MAX_TICKS; i++) {
            double t = e + log10(part[i]);
            if (t >= lo - 1e-6 && t <= hi + 1e-6) a->tick[a->n_ticks++] = pow(10, t);
        }
}

gb_axis gb_axis_fit(double lo, double hi, bool log, bool grow, double from, double to)
{
    gb_axis a = {.from = from, .to = to, .log = log};
    if (!isfinite(lo) || !isfinite(hi) || (log && (lo <= 0 || hi <= 0))) {
        lo = log ? 0.1 : 0;
        hi = 1;
    }
    double least = log ? 1 / largest : -largest;
    a.lo = fmin(fmax(fmin(lo, hi), least), largest);
    a.hi = fmin(fmax(fmax(lo, hi), least), largest);
    if (log)
        fit_log(&a, grow);
    else
        fit_linear(&a, grow);
    return a;
}

bool gb_axis_holds(const gb_axis *a, double v)
{
    return isfinite(v) && (!a->log || v > 0);
}

double gb_axis_at(const gb_axis *a, double v)
{
    double t = a->log ? (log10(v) - log10(a->lo)) / (log10(a->hi) - log10(a->lo))
                      : (v - a->lo) / (a->hi - a->lo);
    return a->from + (a->to - a->from) * fmin(fmax(t, 0), 1);
}

char *gb_axis_label(const gb_axis *a, double v, bool percent, char text[40])
{
    double scale = percent ? 100 : 1, size = fmax(fabs(a->lo), fabs(a->hi)) * scale;
    v *= scale;
    int decimals = a->log ? 0 : (int)fmax(0, ceil(-log10(a->step * scale) - 1e-6));
    if (a->log)
        snprintf(text, 40, v < 9e-4 || v > 1.1e5 ? "%.0e" : "%g", v);
    else if (fabs(v) < 1e-12 * size)
        strcpy(text, "0");
    else if (size >= 1e7 || decimals > 4)
        snprintf(text, 40, size < 1e-3 ? "%.1e" : "%.3g", v);
    else if (size >= 2e4 && a->step >= 100)
        snprintf(text, 40, "%.*fk", a->step >= 1000 ? 0 : 1, v / 1000);
    else
        snprintf(text, 40, "%.*f", decimals, v);
    if (percent) strcat(text, " %");
    return gb_short_exponent(text);
}
