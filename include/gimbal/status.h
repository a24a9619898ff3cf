/* Status codes and error reports.
 *
 * Every function of gimbal that can fail returns a gb_status and takes a gb_error that the caller
 * owns (NULL where the caller does not care). The library never prints and never aborts.
 * Thread safety: a gb_error belongs to one thread at a time. */
#ifndef GIMBAL_STATUS_H
#define GIMBAL_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(GB_BUILDING) && defined(__GNUC__)
#define GB_API __attribute__((visibility("default")))
#else
#define GB_API
#endif

#if defined(__GNUC__)
#define GB_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define GB_PRINTF(f, a)
#endif

typedef enum gb_status {
    GB_OK = 0,
    GB_INVALID,       /* an argument, option or shape that does not fit */
    GB_NOT_FOUND,     /* a file, device, name that is not there */
    GB_OUT_OF_MEMORY, /* of the host or of a device */
    GB_IO,            /* reading or writing failed */
    GB_FORMAT,        /* a file that is truncated, corrupt or of another format */
    GB_UNSUPPORTED,   /* understood, but this build or device cannot do it */
    GB_DEVICE,        /* a driver failed or a device was lost */
    GB_INTERRUPTED,   /* stopped on request; state was saved */
    GB_NOT_FINITE,    /* a loss or gradient became NaN or infinite */
    GB_INTERNAL       /* a bug in gimbal */
} gb_status;

/* What went wrong (message), with which file, key, device or layer (input), and what to do
 * (hint). Strings are UTF-8, always terminated, cut when too long; input and hint may be empty. */
typedef struct gb_error {
    gb_status status;
    char message[768];
    char input[256];
    char hint[512];
} gb_error;

/* The name of a status in lower case, for example "not found". Static storage. */
GB_API const char *gb_status_name(gb_status status);

/* Fills err (if not NULL) and returns status, so that a failure is one statement:
 *     return gb_fail(err, GB_FORMAT, path, "download it again", "%zu bytes are missing", n);
 * input and hint may be NULL. */
GB_API gb_status gb_fail(gb_error *err, gb_status status, const char *input, const char *hint,
                         const char *format, ...) GB_PRINTF(5, 6);

#ifdef __cplusplus
}
#endif
#endif
