#include "core/runtime/tuning.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    gb_tuning t, more = {0};
    gb_error err;
    if (gb_tuning_parse(&t, (const char *)bytes, size, "fuzz", &err) == GB_OK)
        gb_tuning_merge(&more, &t);
    gb_tuning_clear(&more);
    gb_tuning_clear(&t);
    return 0;
}
