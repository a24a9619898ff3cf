#include "backends/vulkan/hazards.h"

#include <stdlib.h>
#include <string.h>

static bool conflict(const gb_vk_access *a, const gb_vk_access *b)
{
    return (a->write || b->write) && a->buffer == b->buffer && a->begin < b->end &&
           b->begin < a->end;
}

bool gb_vk_hazards_add(gb_vk_hazards *h, const gb_vk_access *access, int n, bool *barrier)
{
    *barrier = false;
    for (int i = 0; i < h->n && !*barrier; i++)
        for (int k = 0; k < n && !*barrier; k++) *barrier = conflict(&h->item[i], &access[k]);
    if (*barrier) h->n = 0;
    if (h->n + n > h->cap) {
        int cap = 2 * (h->n + n);
        gb_vk_access *grown = realloc(h->item, sizeof *grown * (size_t)cap);
        if (!grown) return false;
        h->item = grown;
        h->cap = cap;
    }
    memcpy(h->item + h->n, access, sizeof *access * (size_t)n);
    h->n += n;
    return true;
}

void gb_vk_hazards_free(gb_vk_hazards *h)
{
    free(h->item);
    *h = (gb_vk_hazards){0};
}
