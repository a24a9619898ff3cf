/* What the parts of the ONNX reader and writer share. */
#ifndef GB_CORE_IO_ONNX_H
#define GB_CORE_IO_ONNX_H

#include <gimbal/device.h>
#include <gimbal/onnx.h>

#include "core/base/arena.h"
#include "core/io/onnx.pb-c.h"

/* ONNX's number of an element type and back; false where gimbal has no such type. */
bool gb_onnx_dtype(int32_t number, gb_dtype *dtype);
int32_t gb_onnx_type_number(gb_dtype dtype);

/* Decodes t into new memory. folder is where external data lies, NULL: nowhere. */
gb_status gb_onnx_tensor_decode(const GbOnnx__Tensor *t, const char *folder, const char *file,
                                gb_tensor *out, gb_error *err);

/* A name of the model. What it stands for is a tensor that is known now, a value of the graph, or
 * both: known tensors enter the graph when a node first reads them. */
typedef struct gb_onnx_name {
    const char *name;
    gb_value value;  /* GB_NONE: not in the graph (yet) */
    gb_tensor known; /* data NULL: not known; owned by the reader */
    bool weight;     /* an initializer of floats: becomes a state */
} gb_onnx_name;

typedef struct gb_onnx_reader {
    gb_graph *graph;
    gb_error *err;
    gb_arena *arena; /* lives as long as the reading */
    const char *file, *folder;
    const GbOnnx__Graph *model;
    const gb_onnx_options *options;
    int64_t opset;
    gb_onnx_name *names; /* hashed by name, capacity a power of two */
    size_t n_names, cap_names;
    gb_context *context; /* made when the first node is computed here */
    gb_device *device;
} gb_onnx_reader;

#define GB_ONNX_MAX_IN 64
#define GB_ONNX_MAX_OUT 64
#define GB_ONNX_MAX_ATTR 16

/* A node on its way into the graph: a fix brings it to the newest form of its operator. */
typedef struct gb_onnx_call {
    gb_onnx_reader *reader;
    const char *node; /* its name, for messages */
    const char *op;
    gb_onnx_name *in[GB_ONNX_MAX_IN]; /* NULL: absent */
    size_t n_in, n_attr, n_out;
    gb_attr attr[GB_ONNX_MAX_ATTR];
    gb_value out[GB_ONNX_MAX_OUT];
    gb_tensor known; /* of output 0, where the node was computed here */
    bool done;       /* out or known is filled in: nothing is left to add */
} gb_onnx_call;

/* --- names (onnx_names.c) --- */
gb_onnx_name *gb_onnx_find(gb_onnx_reader *r, const char *name); /* NULL: not there */
gb_onnx_name *gb_onnx_define(gb_onnx_reader *r, const char *name); /* NULL: failed, see r->err */
void gb_onnx_free_names(gb_onnx_reader *r);
/* A known tensor without a name; takes data over, also when it fails (NULL). */
gb_onnx_name *gb_onnx_known(gb_onnx_reader *r, gb_tensor *tensor);
gb_onnx_name *gb_onnx_known_ints(gb_onnx_reader *r, const int64_t *values, size_t n);
/* The value in the graph; constant: not as a state. */
gb_value gb_onnx_value(gb_onnx_reader *r, gb_onnx_name *name, bool constant);
/* dtype and shape of what is known or in the graph */
gb_dtype gb_onnx_dtype_of(const gb_onnx_reader *r, const gb_onnx_name *name);
gb_shape gb_onnx_shape_of(const gb_onnx_reader *r, const gb_onnx_name *name);

/* --- operators (onnx_ops.c) --- */
/* Can the reader make something of this operator? */
bool gb_onnx_supports(const char *op);
/* Must input k of this operator be known, because the shape of the output follows from it? */
bool gb_onnx_needs_known(const char *op, size_t k);
gb_status gb_onnx_fix(gb_onnx_call *call);
gb_status gb_onnx_call_fail(const gb_onnx_call *call, gb_status status, const char *hint,
                            const char *format, ...) GB_PRINTF(4, 5);

/* --- computing a node here (onnx_fold.c) --- */
/* Fills call->known where all inputs are known and small; leaves the call as it is otherwise. */
gb_status gb_onnx_fold(gb_onnx_call *call);

#endif
