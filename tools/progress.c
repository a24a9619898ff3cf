#include "tools/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR = 24 };

progress progress_start(const cli_args *args)
{
    bool wanted = !args->value[OPT_QUIET], terminal = isatty(STDERR_FILENO);
    return (progress){.live = wanted && terminal, .lines = wanted, .start = cli_seconds()};
}

static void clear_line(progress *p)
{
    if (p->width) fprintf(stderr, "\r%*s\r", p->width, "");
    p->width = 0;
}

void progress_update(progress *p, double done, const char *text)
{
    double now = cli_seconds();
    if (!p->live || (now - p->drawn < 0.1 && done < 1)) return;
    p->drawn = now;
    char bar[BAR + 1], left[40] = "";
    int full = (int)(done * BAR);
    memset(bar, '-', BAR);
    memset(bar, '#', (size_t)(full < 0 ? 0 : full > BAR ? BAR : full));
    bar[BAR] = 0;
    if (done > 0.005) {
        double rest = (now - p->start) * (1 - done) / done;
        snprintf(left, sizeof left, "%d:%02d left", (int)rest / 60, (int)rest % 60);
    }
    clear_line(p);
    p->width = fprintf(stderr, "[%s] %3d%% %s  %s", bar, (int)(done * 100), text, left);
    fflush(stderr);
}

void progress_line(progress *p, const char *format, ...)
{
    if (!p->lines) return;
    clear_line(p);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void progress_end(progress *p)
{
    clear_line(p);
    fflush(stderr);
}
