/* "Did you mean …?": the nearest of a list of names. */
#ifndef GIMBAL_SUGGEST_H
#define GIMBAL_SUGGEST_H

#include <stddef.h>

#include <gimbal/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The name nearest to word, or NULL where none is close enough to be a slip of the keyboard. */
GB_API const char *gb_suggest(const char *word, const char *const *names, size_t n);
/* Writes a hint into text (cut to size) and returns text: "did you mean 'x'?" where a name is
 * near, else "known: a, b, c". */
GB_API char *gb_suggest_hint(const char *word, const char *const *names, size_t n, char *text,
                             size_t size);

#ifdef __cplusplus
}
#endif
#endif
