#include "core/base/cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/file.h>

#define CACHE_LIMIT ((size_t)1 << 30) /* no blob is that large */

typedef struct cache_header {
    char magic[8];
    gb_hash key, checksum;
    uint64_t size;
} cache_header;

static const char cache_magic[8] = "GBCACHE";

void gb_hash_bytes(gb_hash *h, const void *data, size_t size)
{
    const unsigned __int128 prime = ((unsigned __int128)1 << 88) + 0x13b;
    unsigned __int128 v = (unsigned __int128)h->high << 64 | h->low;
    for (size_t i = 0; i < size; i++) v = (v ^ ((const uint8_t *)data)[i]) * prime;
    *h = (gb_hash){(uint64_t)(v >> 64), (uint64_t)v};
}

void gb_hash_text(gb_hash *h, const char *text)
{
    gb_hash_bytes(h, text, strlen(text) + 1);
}

static char *cache_path(const char *dir, const char *kind, gb_hash key)
{
    char name[96];
    snprintf(name, sizeof name, "%s-%016" PRIx64 "%016" PRIx64, kind, key.high, key.low);
    return gb_path_join(dir, name);
}

bool gb_cache_load(const char *dir, const char *kind, gb_hash key, void **data, size_t *size)
{
    char *path = dir ? cache_path(dir, kind, key) : NULL;
    uint8_t *bytes = NULL;
    size_t n = 0;
    bool found = path && gb_read_file(path, CACHE_LIMIT, &bytes, &n, NULL) == GB_OK;
    free(path);
    if (!found) return false;
    cache_header h;
    gb_hash sum = GB_HASH_INIT;
    bool good = n >= sizeof h;
    if (good) {
        memcpy(&h, bytes, sizeof h);
        n -= sizeof h;
        gb_hash_bytes(&sum, bytes + sizeof h, n);
        good = !memcmp(h.magic, cache_magic, sizeof h.magic) && gb_hash_equal(h.key, key) &&
               h.size == n && gb_hash_equal(h.checksum, sum);
    }
    if (!good) {
        free(bytes);
        return false;
    }
    memmove(bytes, bytes + sizeof h, n);
    *data = bytes;
    *size = n;
    return true;
}

void gb_cache_store(const char *dir, const char *kind, gb_hash key, const void *data, size_t size)
{
    if (!dir || size > CACHE_LIMIT - sizeof(cache_header)) return;
    cache_header h = {.key = key, .checksum = GB_HASH_INIT, .size = size};
    memcpy(h.magic, cache_magic, sizeof h.magic);
    gb_hash_bytes(&h.checksum, data, size);
    char *path = cache_path(dir, kind, key);
    uint8_t *bytes = malloc(sizeof h + size);
    if (path && bytes && gb_make_dirs(dir, NULL) == GB_OK) {
        memcpy(bytes, &h, sizeof h);
        memcpy(bytes + sizeof h, data, size);
        gb_write_file(path, bytes, sizeof h + size, NULL);
    }
    free(bytes);
    free(path);
}
