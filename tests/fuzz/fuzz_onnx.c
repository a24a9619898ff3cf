#include <gimbal/onnx.h>

#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    gb_graph *graph = NULL;
    gb_error err;
    gb_onnx_parse(bytes, size, "fuzz", NULL, &graph, &err);
    gb_graph_destroy(&graph);
    return 0;
}
