#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include <gimbal/io.h>

#include "core/base/file.h"

struct gb_metrics {
    FILE *file;
    char *path;
};

/* ---- resuming ---- */

static bool line_is_kept(const char *line, size_t n, int64_t last_step)
{
    json_t *object = json_loadb(line, n, 0, NULL);
    const json_t *step = json_object_get(object, "step");
    bool kept = json_is_integer(step) && json_integer_value(step) <= last_step;
    json_decref(object);
    return kept;
}

static gb_status cut_file(const char *path, int64_t last_step, gb_error *err)
{
    uint8_t *bytes;
    size_t length, keep = 0;
    gb_error why;
    gb_status s = gb_read_file(path, (size_t)1 << 31, &bytes, &length, &why);
    if (s == GB_NOT_FOUND) return GB_OK; /* the run stopped before its first line */
    if (s) {
        if (err) *err = why;
        return s;
    }
    for (;;) {
        const char *line = (const char *)bytes + keep, *end = memchr(line, '\n', length - keep);
        if (!end || !line_is_kept(line, (size_t)(end - line), last_step)) break;
        keep += (size_t)(end - line) + 1;
    }
    free(bytes);
    if (keep < length && truncate(path, (off_t)keep))
        return gb_fail_errno(err, errno, path, "cutting");
    return GB_OK;
}

/* ---- the writer ---- */

gb_status gb_metrics_open(gb_metrics **metrics, const char *path, int64_t resume_step,
                          gb_error *err)
{
    *metrics = NULL;
    gb_status s = resume_step >= 0 ? cut_file(path, resume_step, err) : GB_OK;
    if (s) return s;
    gb_metrics *m = calloc(1, sizeof *m);
    if (m) m->path = strdup(path);
    if (!m || !m->path) {
        free(m);
        return gb_fail(err, GB_OUT_OF_MEMORY, path, NULL, "no memory for a log");
    }
    m->file = fopen(path, resume_step >= 0 ? "ae" : "we");
    if (!m->file) {
        s = gb_fail_errno(err, errno, path, "opening for writing");
        gb_metrics_close(&m, NULL);
        return s;
    }
    *metrics = m;
    return GB_OK;
}

static json_t *number(double value)
{
    if (!isfinite(value)) return json_null();
    if (value == rint(value) && fabs(value) < 0x1p53) return json_integer((json_int_t)value);
    return json_real(value);
}

gb_status gb_metrics_append(gb_metrics *m, int64_t step, const gb_metric *values, size_t count,
                            gb_error *err)
{
    json_t *object = json_object();
    int failed = json_object_set_new(object, "step", json_integer(step));
    for (size_t i = 0; i < count; i++)
        failed |= json_object_set_new(object, values[i].name, number(values[i].value));
    char *line = failed ? NULL : json_dumps(object, JSON_REAL_PRECISION(9));
    json_decref(object);
    if (!line)
        return gb_fail(err, GB_INVALID, m->path, "use names in UTF-8",
                       "the metrics of step %lld cannot be written as JSON", (long long)step);
    int code = fputs(line, m->file) < 0 || fputc('\n', m->file) < 0 || fflush(m->file) ? errno : 0;
    free(line);
    return code ? gb_fail_errno(err, code, m->path, "writing") : GB_OK;
}

gb_status gb_metrics_close(gb_metrics **metrics, gb_error *err)
{
    if (!metrics || !*metrics) return GB_OK;
    gb_metrics *m = *metrics;
    *metrics = NULL;
    gb_status s = GB_OK;
    if (m->file && fclose(m->file)) s = gb_fail_errno(err, errno, m->path, "writing");
    free(m->path);
    free(m);
    return s;
}
