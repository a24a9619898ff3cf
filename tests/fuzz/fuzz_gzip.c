#include <stdlib.h>

#include <gimbal/file.h>

#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t *data;
    size_t length;
    gb_error err;
    gb_gunzip(bytes, size, 1 << 20, "fuzz", &data, &length, &err);
    free(data);
    return 0;
}
