/* File formats: named tensors (safetensors), arrays (.npy), images, event and metric logs.
 *
 * Whatever is read is untrusted: each length, offset and type is checked, and a file that is
 * truncated, corrupt or of another format gives GB_FORMAT with the file's name. Every *_parse
 * function does the same for bytes in memory; its name argument is what errors call them.
 * What is written replaces the old file as gimbal/file.h describes.
 * Thread safety: functions may run at the same time; an object belongs to one thread at a time. */
#ifndef GIMBAL_IO_H
#define GIMBAL_IO_H

#include <stddef.h>
#include <stdint.h>

#include <gimbal/file.h>
#include <gimbal/status.h>
#include <gimbal/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- named tensors and safetensors ---------------------------------------------------------- */

typedef struct gb_named_tensor {
    char *name;
    gb_tensor tensor;
    bool borrowed; /* tensor.data belongs to someone else */
} gb_named_tensor;

typedef struct gb_metadata {
    char *key, *value;
} gb_metadata;

/* A list of tensors with distinct names, and of text pairs; {0} is the empty list. It owns names
 * and, unless borrowed, data. */
typedef struct gb_tensors {
    size_t count, capacity;
    gb_named_tensor *items;
    size_t metadata_count;
    gb_metadata *metadata;
} gb_tensors;

/* Adds a zeroed tensor; *tensor (may be NULL) stays valid until the next addition.
 * Errors: INVALID (the name is there already, a bad shape), OUT_OF_MEMORY. */
GB_API gb_status gb_tensors_create(gb_tensors *list, const char *name, gb_dtype dtype,
                                   const gb_shape *shape, gb_tensor **tensor, gb_error *err);
/* Adds a tensor whose data stays the caller's and must outlive the list. */
GB_API gb_status gb_tensors_borrow(gb_tensors *list, const char *name, const gb_tensor *tensor,
                                   gb_error *err);
/* The tensor of that name, or NULL. */
GB_API gb_tensor *gb_tensors_find(const gb_tensors *list, const char *name);
/* Sets a text pair, replacing one of the same key. */
GB_API gb_status gb_tensors_set_metadata(gb_tensors *list, const char *key, const char *value,
                                         gb_error *err);
/* The text of a key, or NULL. */
GB_API const char *gb_tensors_get_metadata(const gb_tensors *list, const char *key);
/* Frees everything in the list and clears it. */
GB_API void gb_tensors_free(gb_tensors *list);

/* Reads all tensors and the metadata of a safetensors file into *list, which is overwritten (free
 * it before) and is empty after a failure. Errors: NOT_FOUND, IO, FORMAT, UNSUPPORTED (an element
 * type or rank that gimbal does not have), OUT_OF_MEMORY. */
GB_API gb_status gb_safetensors_read(gb_tensors *list, const char *path, gb_error *err);
GB_API gb_status gb_safetensors_parse(gb_tensors *list, const uint8_t *bytes, size_t length,
                                      const char *name, gb_error *err);
/* Writes the list atomically; the file lists wide element types first, which aligns them. */
GB_API gb_status gb_safetensors_write(const gb_tensors *list, const char *path, gb_error *err);

/* ---- numpy arrays --------------------------------------------------------------------------- */

/* Reads a .npy file (versions 1 to 3, little-endian, no structured types) into a new tensor;
 * Fortran order is turned into row-major order. Errors: NOT_FOUND, IO, FORMAT, UNSUPPORTED. */
GB_API gb_status gb_npy_read(gb_tensor *tensor, const char *path, gb_error *err);
GB_API gb_status gb_npy_parse(gb_tensor *tensor, const uint8_t *bytes, size_t length,
                              const char *name, gb_error *err);
/* Errors: UNSUPPORTED for bf16, which numpy does not know; IO. */
GB_API gb_status gb_npy_write(const gb_tensor *tensor, const char *path, gb_error *err);

/* ---- images --------------------------------------------------------------------------------- */

#define GB_IMAGE_MAX_SIDE (1 << 15)
#define GB_IMAGE_MAX_BYTES (256u << 20)

/* Decodes a PNG or JPEG into a new u8 tensor [height, width, channels]: 1 channel where the file
 * is grey, else 3 (RGB). Alpha is dropped, 16-bit samples are cut to 8; EXIF rotation is ignored.
 * Errors: NOT_FOUND, IO, FORMAT, UNSUPPORTED (no PNG or JPEG, CMYK, or over the limits above). */
GB_API gb_status gb_image_read(gb_tensor *image, const char *path, gb_error *err);
GB_API gb_status gb_image_parse(gb_tensor *image, const uint8_t *bytes, size_t length,
                                const char *name, gb_error *err);
/* Resizes bilinearly (half-pixel centres) and converts to 1 or 3 channels, into planes: out holds
 * channels × height × width bytes. Errors: INVALID, OUT_OF_MEMORY. */
GB_API gb_status gb_image_to_planes(const gb_tensor *image, int channels, int height, int width,
                                    uint8_t *out, gb_error *err);

/* ---- logs of a run -------------------------------------------------------------------------- */

/* A TensorBoard event file of scalars. */
typedef struct gb_events gb_events;
/* resume_step < 0 starts a new events.out.tfevents.* in dir (which must exist). Otherwise the
 * newest one there is continued, and what all of them say after resume_step is cut off. */
GB_API gb_status gb_events_open(gb_events **events, const char *dir, int64_t resume_step,
                                gb_error *err);
GB_API gb_status gb_events_scalar(gb_events *events, const char *tag, int64_t step, float value,
                                  gb_error *err);
GB_API gb_status gb_events_flush(gb_events *events, gb_error *err);
/* Flushes, closes and clears the pointer; NULL and cleared pointers are fine. */
GB_API gb_status gb_events_close(gb_events **events, gb_error *err);

/* metrics.jsonl: one JSON object a line, each with a "step". */
typedef struct gb_metrics gb_metrics;
typedef struct gb_metric {
    const char *name;
    double value; /* integers are written as such, what is not finite as null */
} gb_metric;
/* resume_step < 0 starts an empty file; otherwise lines are kept up to the first that is damaged
 * or has a later step. */
GB_API gb_status gb_metrics_open(gb_metrics **metrics, const char *path, int64_t resume_step,
                                 gb_error *err);
/* Appends {"step": step, name: value, …} and hands it to the system before it returns. */
GB_API gb_status gb_metrics_append(gb_metrics *metrics, int64_t step, const gb_metric *values,
                                   size_t count, gb_error *err);
GB_API gb_status gb_metrics_close(gb_metrics **metrics, gb_error *err);

#ifdef __cplusplus
}
#endif
#endif
