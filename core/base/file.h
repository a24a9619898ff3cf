/* What the public file functions (gimbal/io.h) are made of, for other readers and writers. */
#ifndef GB_CORE_BASE_FILE_H
#define GB_CORE_BASE_FILE_H

#include <stdio.h>

#include <gimbal/file.h>

/* A failure that errno explains; doing is what was tried, for example "reading". */
gb_status gb_fail_errno(gb_error *err, int code, const char *path, const char *doing);

/* A readable stream of known size, over a file or over bytes in memory, so that a parser is
 * written once. left counts down what is not read yet; name is for messages. */
typedef struct gb_input {
    FILE *file;
    size_t left;
    const char *name;
} gb_input;

gb_status gb_input_open(gb_input *in, const char *path, gb_error *err);
gb_status gb_input_memory(gb_input *in, const uint8_t *bytes, size_t length, const char *name,
                          gb_error *err);
/* Reads exactly size bytes; an early end is GB_FORMAT. */
gb_status gb_input_read(gb_input *in, void *data, size_t size, gb_error *err);
void gb_input_close(gb_input *in);

#endif
