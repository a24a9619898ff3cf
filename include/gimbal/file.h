/* Whole files and paths.
 *
 * What replaces a file is written to a temporary name beside it, synced and renamed: the old file
 * stays whole until the new one is. A full disk gives GB_IO.
 * Thread safety: functions may run at the same time; a writer belongs to one thread at a time. */
#ifndef GIMBAL_FILE_H
#define GIMBAL_FILE_H

#include <stddef.h>
#include <stdint.h>

#include <gimbal/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Reads a whole file of at most limit bytes. *data is freed by the caller with free() and is
 * followed by a zero byte that size does not count. Errors: NOT_FOUND, IO, INVALID (over the
 * limit), OUT_OF_MEMORY. */
GB_API gb_status gb_read_file(const char *path, size_t limit, uint8_t **data, size_t *size,
                              gb_error *err);
/* Replaces path by size bytes, atomically. */
GB_API gb_status gb_write_file(const char *path, const void *data, size_t size, gb_error *err);

/* A file that replaces path when it is committed. Where path is a device or a pipe (/dev/stdout),
 * it is written in place. */
typedef struct gb_writer gb_writer;
GB_API gb_status gb_writer_open(gb_writer **writer, const char *path, gb_error *err);
GB_API gb_status gb_writer_write(gb_writer *writer, const void *data, size_t size, gb_error *err);
GB_API gb_status gb_writer_printf(gb_writer *writer, gb_error *err, const char *format, ...)
    GB_PRINTF(3, 4);
/* Ends the writer and clears the pointer, also on failure; after a failed write it fails too. */
GB_API gb_status gb_writer_commit(gb_writer **writer, gb_error *err);
/* Drops what was written; the old file stays. NULL and cleared pointers are fine. */
GB_API void gb_writer_abort(gb_writer **writer);

/* Makes a directory and its parents; one that is there already is fine. */
GB_API gb_status gb_make_dirs(const char *path, gb_error *err);
/* dir/name in new memory that the caller frees with free(); NULL without memory. */
GB_API char *gb_path_join(const char *dir, const char *name);

/* Unpacks gzip data, all members of it, up to limit bytes. Ownership as for gb_read_file. */
GB_API gb_status gb_gunzip(const uint8_t *bytes, size_t length, size_t limit, const char *name,
                           uint8_t **data, size_t *size, gb_error *err);

#ifdef __cplusplus
}
#endif
#endif
