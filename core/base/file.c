#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"

gb_status gb_fail_errno(gb_error *err, int code, const char *path, const char *doing)
{
    char text[128];
    const char *why = strerror_r(code, text, sizeof text);
    switch (code) {
    case ENOENT:
    case ENOTDIR:
        return gb_fail(err, GB_NOT_FOUND, path, "check the path", "%s failed: %s", doing, why);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return gb_fail(err, GB_IO, path, "free some space or write elsewhere", "%s failed: %s",
                       doing, why);
    case ENOMEM:
        return gb_fail(err, GB_OUT_OF_MEMORY, path, NULL, "%s failed: %s", doing, why);
    case EACCES:
    case EPERM:
    case EROFS:
        return gb_fail(err, GB_IO, path, "check its permissions", "%s failed: %s", doing, why);
    default:
        return gb_fail(err, GB_IO, path, NULL, "%s failed: %s", doing, why);
    }
}

static gb_status no_memory(gb_error *err, const char *path, size_t size)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, path, NULL, "no memory for %zu bytes", size);
}

/* ---- reading ---- */

gb_status gb_input_open(gb_input *in, const char *path, gb_error *err)
{
    *in = (gb_input){.name = path};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return gb_fail_errno(err, errno, path, "opening");
    struct stat st;
    int code = fstat(fd, &st) ? errno : S_ISDIR(st.st_mode) ? EISDIR : 0;
    if (!code && !(in->file = fdopen(fd, "rb"))) code = errno;
    if (code) {
        close(fd);
        return gb_fail_errno(err, code, path, "opening");
    }
    in->left = st.st_size > 0 ? (size_t)st.st_size : 0;
    return GB_OK;
}

gb_status gb_input_memory(gb_input *in, const uint8_t *bytes, size_t length, const char *name,
                          gb_error *err)
{
    *in = (gb_input){.name = name, .left = length};
    /* Opened for reading only, so the bytes are not touched. */
    in->file = fmemopen((void *)(uintptr_t)bytes, length, "rb");
    return in->file ? GB_OK : no_memory(err, name, length);
}

gb_status gb_input_read(gb_input *in, void *data, size_t size, gb_error *err)
{
    size_t n = size < in->left ? size : in->left;
    if (n) n = fread(data, 1, n, in->file);
    in->left -= n;
    if (n == size) return GB_OK;
    if (ferror(in->file)) return gb_fail_errno(err, errno, in->name, "reading");
    return gb_fail(err, GB_FORMAT, in->name, "the file is truncated: copy or download it again",
                   "the file ends %zu bytes too early", size - n);
}

void gb_input_close(gb_input *in)
{
    if (in->file) fclose(in->file);
    in->file = NULL;
}

/* Sizes of pipes and of /proc are unknown, so the end is where reading says it is. */
static gb_status read_all(gb_input *in, size_t limit, uint8_t **data, size_t *size, gb_error *err)
{
    size_t capacity = in->left < limit ? in->left : limit, used = 0;
    if (capacity < 4096) capacity = 4096;
    uint8_t *bytes = NULL;
    for (;;) {
        uint8_t *grown = capacity + 2 > capacity ? realloc(bytes, capacity + 2) : NULL;
        if (!grown) {
            free(bytes);
            return no_memory(err, in->name, capacity);
        }
        bytes = grown;
        used += fread(bytes + used, 1, capacity + 1 - used, in->file);
        if (used <= capacity || used > limit) break;
        capacity *= 2;
    }
    gb_status s = GB_OK;
    if (ferror(in->file))
        s = gb_fail_errno(err, errno, in->name, "reading");
    else if (used > limit)
        s = gb_fail(err, GB_INVALID, in->name, "give a smaller file",
                    "the file is larger than the limit of %zu bytes", limit);
    if (s) {
        free(bytes);
        return s;
    }
    bytes[used] = 0;
    *data = bytes;
    *size = used;
    return GB_OK;
}

gb_status gb_read_file(const char *path, size_t limit, uint8_t **data, size_t *size, gb_error *err)
{
    *data = NULL;
    *size = 0;
    gb_input in;
    gb_status s = gb_input_open(&in, path, err);
    if (s) return s;
    s = read_all(&in, limit, data, size, err);
    gb_input_close(&in);
    return s;
}

/* ---- writing ---- */

struct gb_writer {
    FILE *file;
    char *path;      /* what commit replaces */
    char *temporary; /* NULL where path is no regular file and is written in place */
};

static void writer_free(gb_writer *w)
{
    if (w->file) fclose(w->file);
    if (w->temporary) unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    free(w);
}

/* Opens a new file beside the target; the kernel applies the umask, which mkstemp would not. */
static int open_temporary(gb_writer *w)
{
    for (int i = 0; i < 1000; i++) {
        char *name = NULL;
        if (asprintf(&name, "%s.tmp%ld.%d", w->path, (long)getpid(), i) < 0) {
            errno = ENOMEM;
            return -1;
        }
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) {
            w->temporary = name;
            return fd;
        }
        free(name);
        if (errno != EEXIST) return -1;
    }
    return -1;
}

gb_status gb_writer_open(gb_writer **writer, const char *path, gb_error *err)
{
    *writer = NULL;
    gb_writer *w = calloc(1, sizeof *w);
    if (!w) return no_memory(err, path, sizeof *w);
    w->path = realpath(path, NULL); /* a link stays a link to the new file */
    if (!w->path) w->path = strdup(path);
    struct stat st;
    int fd = -1;
    if (!w->path)
        errno = ENOMEM;
    else if (stat(w->path, &st) == 0 && S_ISDIR(st.st_mode))
        errno = EISDIR;
    else if (stat(w->path, &st) == 0 && !S_ISREG(st.st_mode))
        fd = open(w->path, O_WRONLY | O_CLOEXEC);
    else
        fd = open_temporary(w);
    if (fd >= 0 && !(w->file = fdopen(fd, "wb"))) close(fd);
    if (!w->file) {
        gb_status s = gb_fail_errno(err, errno, path, "opening for writing");
        writer_free(w);
        return s;
    }
    *writer = w;
    return GB_OK;
}

gb_status gb_writer_write(gb_writer *w, const void *data, size_t size, gb_error *err)
{
    if (!size || fwrite(data, 1, size, w->file) == size) return GB_OK;
    return gb_fail_errno(err, errno, w->path, "writing");
}

gb_status gb_writer_printf(gb_writer *w, gb_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vfprintf(w->file, format, args);
    va_end(args);
    return n < 0 ? gb_fail_errno(err, errno, w->path, "writing") : GB_OK;
}

/* Without this the new name may be lost in a crash. File systems that cannot do it say EINVAL. */
static int sync_directory_of(const char *path)
{
    char *dir = strdup(path);
    if (!dir) return ENOMEM;
    char *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = fd < 0 || fsync(fd) ? errno : 0;
    if (fd >= 0) close(fd);
    free(dir);
    return code == EINVAL ? 0 : code;
}

static int commit(gb_writer *w)
{
    /* A write that failed before may have left a hole that a later flush does not see. */
    if (ferror(w->file)) return EIO;
    if (fflush(w->file)) return errno;
    if (w->temporary && fsync(fileno(w->file))) return errno;
    FILE *file = w->file;
    w->file = NULL;
    if (fclose(file)) return errno;
    if (!w->temporary) return 0;
    if (rename(w->temporary, w->path)) return errno;
    free(w->temporary);
    w->temporary = NULL;
    return sync_directory_of(w->path);
}

gb_status gb_writer_commit(gb_writer **writer, gb_error *err)
{
    gb_writer *w = *writer;
    *writer = NULL;
    int code = commit(w);
    gb_status s = code ? gb_fail_errno(err, code, w->path, "writing") : GB_OK;
    writer_free(w);
    return s;
}

void gb_writer_abort(gb_writer **writer)
{
    if (!writer || !*writer) return;
    writer_free(*writer);
    *writer = NULL;
}

gb_status gb_write_file(const char *path, const void *data, size_t size, gb_error *err)
{
    gb_writer *w;
    gb_status s = gb_writer_open(&w, path, err);
    if (s) return s;
    s = gb_writer_write(w, data, size, err);
    if (!s) return gb_writer_commit(&w, err);
    gb_writer_abort(&w);
    return s;
}

/* ---- paths ---- */

static int make_dir(const char *path)
{
    struct stat st;
    if (mkdir(path, 0777) == 0) return 0;
    int code = errno;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : code;
}

gb_status gb_make_dirs(const char *path, gb_error *err)
{
    char *partial = strdup(path);
    if (!partial) return no_memory(err, path, strlen(path));
    int code = *path ? 0 : ENOENT;
    for (char *p = partial + 1; !code && p[-1]; p++) {
        if (*p && *p != '/') continue;
        char end = *p;
        *p = 0;
        code = make_dir(partial);
        *p = end;
        if (!end) break;
    }
    free(partial);
    return code ? gb_fail_errno(err, code, path, "making the directory") : GB_OK;
}

char *gb_path_join(const char *dir, const char *name)
{
    char *path = NULL;
    size_t n = strlen(dir);
    if (asprintf(&path, "%s%s%s", dir, n && dir[n - 1] != '/' ? "/" : "", name) < 0) return NULL;
    return path;
}
