/* A bump allocator: many small pieces, freed at once. */
#ifndef GB_CORE_BASE_ARENA_H
#define GB_CORE_BASE_ARENA_H

#include <stddef.h>

typedef struct gb_arena gb_arena;

gb_arena *gb_arena_create(void); /* NULL: no memory */
void gb_arena_destroy(gb_arena *arena);
/* Zeroed, aligned to 16 bytes; NULL where memory is out. */
void *gb_arena_alloc(gb_arena *arena, size_t bytes);
void *gb_arena_copy(gb_arena *arena, const void *data, size_t bytes);
char *gb_arena_string(gb_arena *arena, const char *text); /* NULL gives "" */
/* The same with the signature that gb_xb_finish wants. */
void *gb_arena_alloc_hook(void *arena, size_t bytes);

#endif
