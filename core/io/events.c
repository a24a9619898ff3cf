/* TensorBoard's event files: records (length, its checksum, data, its checksum) whose data is a
 * protobuf Event {1: wall time, 2: step, 3: file version, 5: Summary {1: Value {1: tag,
 * 2: scalar}}}. Few enough fields to write by hand. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <gimbal/io.h>

#include "core/base/file.h"
#include "core/io/events.h"

#define PREFIX "events.out.tfevents."
#define MAX_TAG 1000

struct gb_events {
    FILE *file;
    char *path;
};

/* ---- records ---- */

/* CRC-32C (Castagnoli), masked as TFRecord wants it. */
static uint32_t masked_crc(const uint8_t *bytes, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static uint8_t *put_fixed(uint8_t *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) *p++ = (uint8_t)(v >> 8 * i);
    return p;
}

static uint64_t get_fixed(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static uint8_t *put_varint(uint8_t *p, uint64_t v)
{
    for (; v >= 128; v >>= 7) *p++ = (uint8_t)(v | 128);
    *p++ = (uint8_t)v;
    return p;
}

static uint8_t *put_bytes(uint8_t *p, int field, const void *data, size_t n)
{
    p = put_varint(p, (uint64_t)field << 3 | 2);
    p = put_varint(p, n);
    memcpy(p, data, n);
    return p + n;
}

static uint8_t *put_wall_time(uint8_t *p)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    uint64_t bits;
    memcpy(&bits, &seconds, sizeof bits);
    *p++ = 1 << 3 | 1;
    return put_fixed(p, bits, 8);
}

static gb_status write_record(gb_events *e, const uint8_t *data, size_t n, gb_error *err)
{
    uint8_t head[12], tail[4];
    put_fixed(head, n, 8);
    put_fixed(head + 8, masked_crc(head, 8), 4);
    put_fixed(tail, masked_crc(data, n), 4);
    if (fwrite(head, 1, sizeof head, e->file) == sizeof head && fwrite(data, 1, n, e->file) == n &&
        fwrite(tail, 1, 4, e->file) == 4)
        return GB_OK;
    return gb_fail_errno(err, errno, e->path, "writing");
}

/* ---- resuming ---- */

static const uint8_t *get_varint(const uint8_t *p, const uint8_t *end, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; p < end && shift < 64; shift += 7) {
        *v |= (uint64_t)(*p & 127) << shift;
        if (!(*p++ & 128)) return p;
    }
    return NULL;
}

bool gb_event_step(const uint8_t *p, const uint8_t *end, int64_t *step)
{
    *step = 0;
    while (p && p < end) {
        uint64_t key, v = 0;
        p = get_varint(p, end, &key);
        if (!p) return false;
        switch (key & 7) {
        case 0:
            p = get_varint(p, end, &v);
            break;
        case 1:
            v = 8;
            break;
        case 2:
            p = get_varint(p, end, &v);
            break;
        case 5:
            v = 4;
            break;
        default:
            return false;
        }
        if (key == (2 << 3)) *step = (int64_t)v;
        if (p && (key & 7)) p = v <= (uint64_t)(end - p) ? p + v : NULL;
    }
    return p != NULL;
}

size_t gb_events_keep(const uint8_t *bytes, size_t length, int64_t last_step)
{
    size_t at = 0;
    while (length - at >= 16) {
        const uint8_t *p = bytes + at;
        uint64_t n = get_fixed(p, 8);
        int64_t step;
        if (get_fixed(p + 8, 4) != masked_crc(p, 8) || n > length - at - 16) break;
        if (get_fixed(p + 12 + n, 4) != masked_crc(p + 12, n)) break;
        if (!gb_event_step(p + 12, p + 12 + n, &step) || step > last_step) break;
        at += 16 + (size_t)n;
    }
    return at;
}

static gb_status cut_file(const char *path, int64_t last_step, gb_error *err)
{
    uint8_t *bytes;
    size_t length;
    gb_status s = gb_read_file(path, (size_t)1 << 31, &bytes, &length, err);
    if (s) return s;
    size_t keep = gb_events_keep(bytes, length, last_step);
    free(bytes);
    if (keep < length && truncate(path, (off_t)keep))
        return gb_fail_errno(err, errno, path, "cutting");
    return GB_OK;
}

/* Cuts all event files; *newest is the one whose name (it holds the time) comes last, or NULL. */
static gb_status cut_files(DIR *d, const char *dir, int64_t last_step, char **newest, gb_error *err)
{
    gb_status s = GB_OK;
    for (struct dirent *entry; !s && (entry = readdir(d));) {
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX))) continue;
        char *path = gb_path_join(dir, entry->d_name);
        if (!path) return gb_fail(err, GB_OUT_OF_MEMORY, dir, NULL, "no memory for a path");
        s = cut_file(path, last_step, err);
        if (!*newest || strcmp(path, *newest) > 0) {
            free(*newest);
            *newest = path;
        } else {
            free(path);
        }
    }
    return s;
}

/* ---- the writer ---- */

static gb_status open_new(gb_events *e, const char *dir, gb_error *err)
{
    char host[128] = "localhost", suffix[16] = "";
    gethostname(host, sizeof host - 1);
    for (int i = 0; i < 1000; i++) {
        if (i) snprintf(suffix, sizeof suffix, ".%d", i);
        int n = asprintf(&e->path, "%s/" PREFIX "%010lld.%s%s", dir, (long long)time(NULL), host,
                         suffix);
        if (n < 0) e->path = NULL;
        if (!e->path) return gb_fail(err, GB_OUT_OF_MEMORY, dir, NULL, "no memory for a path");
        int fd = open(e->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (fd >= 0 && !(e->file = fdopen(fd, "ab"))) close(fd);
        if (e->file) return GB_OK;
        if (errno != EEXIST) break;
        free(e->path);
        e->path = NULL;
    }
    return gb_fail_errno(err, errno, e->path ? e->path : dir, "making an event file");
}

static gb_status open_last(gb_events *e, const char *dir, int64_t resume_step, gb_error *err)
{
    DIR *d = opendir(dir);
    if (!d) return gb_fail_errno(err, errno, dir, "opening");
    gb_status s = cut_files(d, dir, resume_step, &e->path, err);
    closedir(d);
    if (s || !e->path) return s;
    e->file = fopen(e->path, "ab");
    return e->file ? GB_OK : gb_fail_errno(err, errno, e->path, "opening");
}

/* A file that is empty, new or because nothing in it was intact, starts with its version. */
static gb_status begin(gb_events *e, gb_error *err)
{
    static const char version[] = "brain.Event:2";
    if (fseek(e->file, 0, SEEK_END) || ftell(e->file) != 0) return GB_OK;
    uint8_t data[64], *p = put_wall_time(data);
    p = put_bytes(p, 3, version, sizeof version - 1);
    return write_record(e, data, (size_t)(p - data), err);
}

gb_status gb_events_open(gb_events **events, const char *dir, int64_t resume_step, gb_error *err)
{
    *events = NULL;
    gb_events *e = calloc(1, sizeof *e);
    if (!e) return gb_fail(err, GB_OUT_OF_MEMORY, dir, NULL, "no memory for an event file");
    gb_status s = resume_step >= 0 ? open_last(e, dir, resume_step, err) : GB_OK;
    if (!s && !e->file) s = open_new(e, dir, err);
    if (!s) s = begin(e, err);
    if (!s) s = gb_events_flush(e, err);
    if (s) gb_events_close(&e, NULL);
    *events = e;
    return s;
}

gb_status gb_events_scalar(gb_events *e, const char *tag, int64_t step, float value, gb_error *err)
{
    size_t n = strlen(tag);
    if (n > MAX_TAG || step < 0)
        return gb_fail(err, GB_INVALID, tag, "use a shorter tag and a step from 0 on",
                       "an event of %zu bytes of name at step %lld cannot be written", n,
                       (long long)step);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint8_t inner[MAX_TAG + 16], summary[MAX_TAG + 32], data[MAX_TAG + 64];
    uint8_t *p = put_bytes(inner, 1, tag, n);
    *p++ = 2 << 3 | 5;
    p = put_fixed(p, bits, 4);
    p = put_bytes(summary, 1, inner, (size_t)(p - inner));
    size_t length = (size_t)(p - summary);
    p = put_wall_time(data);
    *p++ = 2 << 3;
    p = put_varint(p, (uint64_t)step);
    p = put_bytes(p, 5, summary, length);
    return write_record(e, data, (size_t)(p - data), err);
}

gb_status gb_events_flush(gb_events *e, gb_error *err)
{
    return fflush(e->file) ? gb_fail_errno(err, errno, e->path, "writing") : GB_OK;
}

gb_status gb_events_close(gb_events **events, gb_error *err)
{
    if (!events || !*events) return GB_OK;
    gb_events *e = *events;
    *events = NULL;
    gb_status s = GB_OK;
    if (e->file && fclose(e->file)) s = gb_fail_errno(err, errno, e->path, "writing");
    free(e->path);
    free(e);
    return s;
}
