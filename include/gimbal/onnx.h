/* ONNX models: a graph from a file, and a file from a graph.
 *
 * Read: operator sets 7 to 24 of the default domain, as far as gimbal has the operators
 * (docs/operators.md). Written: the smallest operator set that has all operators used, 17 or newer;
 * such files pass onnx.checker and run in ONNX Runtime.
 * A file is untrusted input: lengths, types, names and order are checked, and what is wrong gives
 * GB_FORMAT with the node's name. Thread safety: functions may run at the same time. */
#ifndef GIMBAL_ONNX_H
#define GIMBAL_ONNX_H

#include <gimbal/graph.h>
#include <gimbal/io.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gb_onnx_options { /* zero-initialized: the defaults */
    int64_t batch;  /* stands for symbolic dimensions of inputs; 0: 1 */
    bool trainable; /* weights become trainable states */
    /* What inputs will hold, by name (NULL: not known). Fixes symbolic dimensions; an input that
     * decides a shape (the second of Reshape) becomes a constant and is no input of the graph. */
    const gb_tensors *values;
} gb_onnx_options;

/* A new graph with the model's inputs and outputs under their names. Weights (initializers of
 * floats with a rank of 1 or more) become states, other initializers constants; nodes with constant
 * inputs that shapes depend on are computed here. Weights in external files are read from the
 * model's folder. options may be NULL.
 * Errors: NOT_FOUND, IO, FORMAT, UNSUPPORTED (lists every operator that gimbal lacks; an unknown
 * dimension that is not the batch), INVALID (operators that do not fit), OUT_OF_MEMORY. */
GB_API gb_status gb_onnx_read(const char *path, const gb_onnx_options *options, gb_graph **graph,
                              gb_error *err);
/* The same from memory, without external files; name is what errors call it. */
GB_API gb_status gb_onnx_parse(const uint8_t *bytes, size_t length, const char *name,
                               const gb_onnx_options *options, gb_graph **graph, gb_error *err);

/* Writes what the outputs of graph need. States get their value in states (NULL or absent there:
 * their initial value). batch > 0: leading dimensions of inputs that equal it are written as the
 * symbolic dimension N, so the file runs with any batch.
 * Errors: UNSUPPORTED (an operator that ONNX does not have, named with its layer), IO,
 * OUT_OF_MEMORY. */
GB_API gb_status gb_onnx_write(const gb_graph *graph, const gb_tensors *states, int64_t batch,
                               const char *path, gb_error *err);

#ifdef __cplusplus
}
#endif
#endif
