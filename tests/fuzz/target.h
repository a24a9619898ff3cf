/* A fuzz target feeds one input to one parser and returns 0. It links with driver.c here, or:
 *     CC=clang meson setup build-fuzz -Db_sanitize=address,undefined -Db_lundef=false
 *     ninja -C build-fuzz
 *     clang -g -fsanitize=fuzzer,address,undefined -Iinclude -I. tests/fuzz/fuzz_npy.c \
 *         build-fuzz/libgimbal.a <its libraries> -o fuzz_npy */
#ifndef GB_TESTS_FUZZ_TARGET_H
#define GB_TESTS_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#endif
