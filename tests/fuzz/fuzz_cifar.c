#include "core/data/internal.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint8_t images[2 * GB_CIFAR_PIXELS];
    int32_t labels[2];
    gb_error err;
    for (int64_t count = 1; count <= 2; count++)
        gb_cifar_parse(images, labels, count, bytes, size, "fuzz", &err);
    return 0;
}
