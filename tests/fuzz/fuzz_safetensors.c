#include <gimbal/io.h>

#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    gb_tensors list;
    gb_error err;
    gb_safetensors_parse(&list, bytes, size, "fuzz", &err);
    gb_tensors_free(&list);
    return 0;
}
