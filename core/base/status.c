#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <gimbal/status.h>

const char *gb_status_name(gb_status status)
{
    static const char *const names[] = {"ok",        "invalid",      "not found",  "out of memory",
                                        "i/o error", "bad format",   "unsupported", "device error",
                                        "interrupted", "not finite", "internal error"};
    return (unsigned)status < sizeof names / sizeof *names ? names[status] : "unknown";
}

gb_status gb_fail(gb_error *err, gb_status status, const char *input, const char *hint,
                  const char *format, ...)
{
    if (!err) return status;
    gb_error e = {.status = status}; /* built apart: the arguments may point into *err */
    snprintf(e.input, sizeof e.input, "%s", input ? input : "");
    snprintf(e.hint, sizeof e.hint, "%s", hint ? hint : "");
    va_list args;
    va_start(args, format);
    vsnprintf(e.message, sizeof e.message, format, args);
    va_end(args);
    *err = e;
    return status;
}
