/* The profile as tables: phases, layers, kinds of steps, and the slowest steps. */
#include "tools/profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { NARROWEST = 80, USUAL = 110, WIDEST = 160, LONGEST_BAR = 40, NAME = 44 };

typedef struct table {
    const gb_profile *p;
    int width;
    int64_t top;
} table;

static int terminal_width(void)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    int width = columns ? atoi(columns) : 0;
    if (width <= 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) width = size.ws_col;
    if (width <= 0) width = USUAL;
    return width < NARROWEST ? NARROWEST : width > WIDEST ? WIDEST : width;
}

/* Numbers take as many places as their column has, in the middle of a profile as at its ends. */
static void print_number(int width, double value, double scale)
{
    double v = value * scale;
    if (!isfinite(v))
        printf("%*s", width, "-");
    else
        printf("%*.*f", width, v >= 1000 ? 0 : v >= 100 ? 1 : 2, v);
}

static void print_percent(int width, double share)
{
    if (isfinite(share))
        printf("%*.1f", width, 100 * share);
    else
        printf("%*s", width, "-");
}

/* The end of a path says most. */
static void print_name(int width, const char *name)
{
    int length = (int)strlen(name);
    if (length <= width)
        printf("%-*s", width, name);
    else
        printf("..%s", name + length - width + 2);
}

static void print_bar(int width, double share)
{
    int longest = width > LONGEST_BAR ? LONGEST_BAR : width - 1;
    int n = (int)lround(share * longest);
    putchar(' ');
    for (int i = 0; i < n; i++) putchar('#');
    putchar('\n');
}

/* How every line begins: name, time, its share, and the share of all lines so far. */
static void print_time(const table *t, int width, const char *name, double seconds, double *sum)
{
    *sum += seconds;
    print_name(width, name);
    print_number(9, seconds, 1e3);
    print_percent(7, seconds / t->p->device_seconds);
    print_percent(7, *sum / t->p->device_seconds);
}

/* How a group's line ends: share of peak, and a bar beside the longest. */
static void print_end(int width, const profile_group *g, double longest)
{
    print_percent(8, g->of_peak);
    printf("%c", isfinite(g->of_peak) ? '%' : ' ');
    print_bar(width, g->seconds / longest);
}

/* The part after --top in one line. */
static void print_rest(const table *t, const profile_group *g, int n, int name)
{
    double seconds = 0;
    char text[40];
    if (n <= t->top) return;
    for (int i = (int)t->top; i < n; i++) seconds += g[i].seconds;
    snprintf(text, sizeof text, "%d more", n - (int)t->top);
    printf("%-*s", name, text);
    print_number(9, seconds, 1e3);
    print_percent(7, seconds / t->p->device_seconds);
    printf("\n");
}

static const char *short_phase(const gb_profile_row *r)
{
    static const char *const text[PROFILE_PHASES] = {"fwd", "bwd", "opt"};
    for (int i = 0; i < PROFILE_PHASES; i++)
        if (strcmp(r->phase, profile_phase[i]) == 0) return text[i];
    return r->phase;
}

static void kernel_name(const gb_profile_row *r, char *text, size_t size)
{
    bool twice = strncmp(r->variant, r->kind, strlen(r->kind)) == 0;
    snprintf(text, size, "%s%s%s", twice ? "" : r->kind, twice ? "" : " ", r->variant);
}

static void group_name(const profile_group *g, profile_key key, char *text, size_t size)
{
    const gb_profile_row *r = g->first;
    int used = 0;
    if (key == PROFILE_BY_PHASE) snprintf(text, size, "%s", r->phase);
    if (key == PROFILE_BY_LAYER) snprintf(text, size, "%.*s", profile_layer(r), r->path);
    if (key == PROFILE_BY_KIND) used = snprintf(text, size, "%s ", short_phase(r));
    if (key == PROFILE_BY_KIND) kernel_name(r, text + used, size - (size_t)used);
}

static bool print_groups(const table *t, const char *title, profile_key key)
{
    int n, columns = 9 + 7 + 7 + 6 + 9 + 8 + 9, least_bar = 12;
    int name = t->width - columns - least_bar;
    profile_group *g = profile_groups(t->p, key, &n);
    if (!g) return false;
    if (name > NAME) name = NAME;
    printf("\n%-*s%9s%7s%7s%6s%9s%8s%9s\n", name, title, "ms", "%", "sum %", "steps", "GFLOP/s",
           "GB/s", "of peak");
    double sum = 0;
    for (int i = 0; i < n && i < t->top; i++) {
        char text[200];
        group_name(&g[i], key, text, sizeof text);
        print_time(t, name, text, g[i].seconds, &sum);
        printf("%6d", g[i].rows);
        print_number(9, g[i].flops / g[i].seconds, 1e-9);
        print_number(8, g[i].bytes / g[i].seconds, 1e-9);
        print_end(t->width - name - columns, &g[i], g[0].seconds);
    }
    print_rest(t, g, n, name);
    free(g);
    return true;
}

static bool print_layers(const table *t)
{
    int n, columns = 9 + 7 + 7 + 3 * 10 + 9, least_bar = 8;
    int name = t->width - columns - least_bar;
    profile_group *g = profile_groups(t->p, PROFILE_BY_LAYER, &n);
    if (!g) return false;
    if (name > NAME) name = NAME;
    printf("\n%-*s%9s%7s%7s%10s%10s%10s%9s\n", name, "layer", "ms", "%", "sum %", "forward",
           "backward", "optimizer", "of peak");
    double sum = 0;
    for (int i = 0; i < n && i < t->top; i++) {
        char text[200];
        group_name(&g[i], PROFILE_BY_LAYER, text, sizeof text);
        print_time(t, name, text, g[i].seconds, &sum);
        for (int k = 0; k < PROFILE_PHASES; k++) print_number(10, g[i].by_phase[k], 1e3);
        print_end(t->width - name - columns, &g[i], g[0].seconds);
    }
    print_rest(t, g, n, name);
    free(g);
    return true;
}

/* The bound's first letter stands behind the share. */
static bool print_steps(const table *t)
{
    int n, columns = 9 + 7 + 7 + 9 + 7 + 9 + 3, left = t->width - columns;
    int kernel = left / 2 < 24 ? left / 2 : 24, name = left - kernel;
    profile_group *g = profile_groups(t->p, PROFILE_BY_ROW, &n);
    if (!g) return false;
    if (name > NAME) name = NAME;
    printf("\n%-*s%9s%7s%7s%9s%7s%9s   %s\n", name, "slowest steps", "ms", "%", "sum %", "GFLOP/s",
           "GB/s", "of peak", "kernel");
    double sum = 0;
    for (int i = 0; i < n && i < t->top; i++) {
        const char *bound = profile_bound(t->p, &g[i]);
        char text[200];
        snprintf(text, sizeof text, "%s %s", short_phase(g[i].first), g[i].first->path);
        print_time(t, name, text, g[i].seconds, &sum);
        print_number(9, g[i].flops / g[i].seconds, 1e-9);
        print_number(7, g[i].bytes / g[i].seconds, 1e-9);
        print_percent(8, g[i].of_peak);
        kernel_name(g[i].first, text, sizeof text);
        printf("%c%c  %.*s\n", bound ? '%' : ' ', bound ? *bound : ' ', kernel, text);
    }
    print_rest(t, g, n, name);
    free(g);
    return true;
}

static void print_summary(const gb_profile *p, const char *device)
{
    double busy = p->device_seconds;
    printf("%s batch %lld on %s: %.2f ms a training step (median of %d)\n", p->model,
           (long long)p->batch, device, 1e3 * p->step_seconds, p->runs);
    printf("  device     %.2f ms in %d steps, %.2f ms between them\n", 1e3 * busy, p->n,
           1e3 * p->gap_seconds);
    printf("  host       %.2f ms beside the device (%.1f %%); enqueues a run in %.2f ms\n",
           1e3 * p->host_seconds, 100 * p->host_seconds / busy, 1e3 * p->enqueue_seconds);
    if (isfinite(p->peak_gflops))
        printf("  peaks      %.0f GFLOP/s, %.1f GB/s\n", p->peak_gflops, p->peak_gb_per_s);
    printf("  programs   made in %.2f s, %d kernels, %.1f MiB planned\n", p->made_seconds,
           p->kernels, (double)p->planned_bytes / (1 << 20));
}

bool profile_print(const gb_profile *p, const char *device, int64_t top)
{
    table t = {.p = p, .width = terminal_width(), .top = top};
    print_summary(p, device);
    return print_groups(&t, "phase", PROFILE_BY_PHASE) && print_layers(&t) &&
           print_groups(&t, "kind of step", PROFILE_BY_KIND) && print_steps(&t);
}
