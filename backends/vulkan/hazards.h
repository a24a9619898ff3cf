/* Which launches must wait for which: accesses to byte ranges since the last barrier. */
#ifndef GB_BACKENDS_VULKAN_HAZARDS_H
#define GB_BACKENDS_VULKAN_HAZARDS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct gb_vk_access {
    const void *buffer; /* identity */
    uint64_t begin, end;
    bool write;
} gb_vk_access;

typedef struct gb_vk_hazards { /* zero-initialize; gb_vk_hazards_free at the end */
    gb_vk_access *item;
    int n, cap;
} gb_vk_hazards;

/* Adds the accesses of the next launch. *barrier tells whether one must come before it: then
 * everything earlier is forgotten. False: no memory. */
bool gb_vk_hazards_add(gb_vk_hazards *h, const gb_vk_access *access, int n, bool *barrier);
void gb_vk_hazards_free(gb_vk_hazards *h);

#endif
