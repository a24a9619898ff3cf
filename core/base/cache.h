/* A folder of blobs that can always be computed again: compiled kernels.
 *
 * A file that is missing, truncated, damaged or of another key is a miss; failing to store is
 * silent. Several processes may use one folder. */
#ifndef GB_CORE_BASE_CACHE_H
#define GB_CORE_BASE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gb_hash { /* 128 bits of FNV-1a; start with GB_HASH_INIT */
    uint64_t high, low;
} gb_hash;
#define GB_HASH_INIT ((gb_hash){0x6c62272e07bb0142u, 0x62b821756295c58du})

void gb_hash_bytes(gb_hash *h, const void *data, size_t size);
void gb_hash_text(gb_hash *h, const char *text); /* its terminator included */
static inline bool gb_hash_equal(gb_hash a, gb_hash b)
{
    return a.high == b.high && a.low == b.low;
}

/* True on a hit: *data is new memory, to be freed with free(). dir may be NULL (always a miss);
 * kind is a short word that becomes part of the file's name. */
bool gb_cache_load(const char *dir, const char *kind, gb_hash key, void **data, size_t *size);
void gb_cache_store(const char *dir, const char *kind, gb_hash key, const void *data, size_t size);

#endif
