#include "core/data/internal.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    gb_idx idx;
    gb_error err;
    unsigned sum = 0;
    if (gb_idx_parse(&idx, bytes, size, "fuzz", &err) == GB_OK)
        for (int64_t i = 0; i < gb_shape_count(&idx.shape); i++) sum += idx.data[i];
    return sum == UINT32_MAX; /* uses what was read */
}
