#include "core/base/philox.h"
#include "core/data/internal.h"

void gb_draw_words(uint64_t seed, gb_draw what, int64_t epoch, int64_t item, uint32_t words[4])
{
    uint64_t i = (uint64_t)item;
    const uint32_t counter[4] = {(uint32_t)i, (uint32_t)(i >> 32), (uint32_t)epoch, what};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    gb_philox(counter, key, words);
}

void gb_draw_permutation(uint64_t seed, gb_draw what, int64_t epoch, int64_t n, uint32_t *order)
{
    uint32_t words[4] = {0};
    for (int64_t i = 0; i < n; i++) order[i] = (uint32_t)i;
    for (int64_t i = n - 1, k = 0; i > 0; i--, k++) { /* Fisher and Yates */
        if (k % 4 == 0) gb_draw_words(seed, what, epoch, k / 4, words);
        uint32_t j = gb_uniform_below(words[k % 4], (uint32_t)i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}
