#include "core/base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALLOCATE_MIN = 16384, BLOCK = 32768, MAP_MIN = 256 << 10 };

typedef struct block {
    struct block *next;
    size_t used, size;
    size_t mapped; /* bytes, where it is a mapping of its own */
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
        if (b->mapped)
            munmap(b, b->mapped);
        else
            free(b);
    }
    free(arena);
}

/* Large ones, weights mostly, are mapped: what malloc keeps of them would stay in the process's
 * memory through a whole training run. */
static block *new_block(size_t size)
{
    size_t bytes = sizeof(block) + size;
    block *b;
    if (size >= MAP_MIN) {
        b = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (b == MAP_FAILED) return NULL;
        b->mapped = bytes;
    } else {
        b = calloc(1, bytes);
        if (!b) return NULL;
    }
    b->size = size;
    return b;
}

void *gb_arena_alloc(gb_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX - 65536) return NULL;
    bytes = (bytes + 15) / 16 * 16;
    block *b = arena->first;
    if (!b || b->size - b->used < bytes) {
        b = new_block(bytes > ALLOCATE_MIN ? bytes : BLOCK);
        if (!b) return NULL;
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
