#include "core/base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct block {
    struct block *next;
    size_t used, size;
    _Alignas(16) unsigned char data[];
} block;

struct gb_arena {
    block *first;
};

gb_arena *gb_arena_create(void)
{
    return calloc(1, sizeof(gb_arena));
}

void gb_arena_destroy(gb_arena *arena)
{
    if (!arena) return;
    for (block *b = arena->first, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(arena);
}

void *gb_arena_alloc(gb_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX - 65536) return NULL;
    bytes = (bytes + 15) / 16 * 16;
    block *b = arena->first;
    if (!b || b->size - b->used < bytes) {
        size_t size = bytes > 16384 ? bytes : 32768;
        b = calloc(1, sizeof *b + size);
        if (!b) return NULL;
        b->size = size;
        b->next = arena->first;
        arena->first = b;
    }
    void *p = b->data + b->used;
    b->used += bytes;
    return p;
}

void *gb_arena_copy(gb_arena *arena, const void *data, size_t bytes)
{
    void *p = gb_arena_alloc(arena, bytes ? bytes : 1);
    if (p && bytes) memcpy(p, data, bytes);
    return p;
}

char *gb_arena_string(gb_arena *arena, const char *text)
{
    if (!text) text = "";
    return gb_arena_copy(arena, text, strlen(text) + 1);
}

void *gb_arena_alloc_hook(void *arena, size_t bytes)
{
    return gb_arena_alloc(arena, bytes);
}
