#include <gimbal/io.h>

#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    gb_tensor tensor;
    gb_error err;
    gb_npy_parse(&tensor, bytes, size, "fuzz", &err);
    gb_tensor_free(&tensor);
    return 0;
}
