/* Data types, shapes and host tensors: the vocabulary of every other header. */
#ifndef GIMBAL_TYPES_H
#define GIMBAL_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gimbal/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Element types. BOOL is one byte, 0 or 1, in host memory. */
typedef enum gb_dtype {
    GB_F32 = 0,
    GB_F64,
    GB_F16,
    GB_BF16,
    GB_I8,
    GB_U8,
    GB_I16,
    GB_U16,
    GB_I32,
    GB_U32,
    GB_I64,
    GB_U64,
    GB_BOOL,
    GB_DTYPE_COUNT
} gb_dtype;

GB_API size_t gb_dtype_size(gb_dtype dtype);      /* bytes of an element in host memory */
GB_API const char *gb_dtype_name(gb_dtype dtype); /* "f32", "i64", "bool", … */
GB_API bool gb_dtype_is_float(gb_dtype dtype);

#define GB_MAX_RANK 8

/* A shape: rank 0 is a scalar. Dimensions are never negative; a 0 makes the tensor empty. */
typedef struct gb_shape {
    int rank;
    int64_t dim[GB_MAX_RANK];
} gb_shape;

/* gb_shape_of(2, 3, 4) is the shape [3, 4]; the dimensions are given as int. */
GB_API gb_shape gb_shape_of(int rank, ...);
GB_API bool gb_shape_equal(const gb_shape *a, const gb_shape *b);
/* Elements, or -1 where the product does not fit into 62 bits. */
GB_API int64_t gb_shape_count(const gb_shape *s);
/* Writes "[2, 3, 4]" into text (cut to size) and returns text. */
GB_API char *gb_shape_text(const gb_shape *s, char *text, size_t size);

/* A dense row-major tensor in host memory. A tensor made by gb_tensor_alloc owns data. */
typedef struct gb_tensor {
    gb_dtype dtype;
    gb_shape shape;
    void *data;
} gb_tensor;

/* Allocates data, aligned to 64 bytes and zeroed. Errors: INVALID, OUT_OF_MEMORY. */
GB_API gb_status gb_tensor_alloc(gb_tensor *t, gb_dtype dtype, const gb_shape *shape,
                                 gb_error *err);
/* Frees data and clears *t; NULL and cleared tensors are fine. */
GB_API void gb_tensor_free(gb_tensor *t);
GB_API size_t gb_tensor_bytes(const gb_tensor *t);
/* Element i (in row-major order) as a double, and back (rounded to nearest even for small float
 * types, cut for integers). i is not checked. */
GB_API double gb_tensor_get(const gb_tensor *t, int64_t i);
GB_API void gb_tensor_set(gb_tensor *t, int64_t i, double value);
/* Element i as an integer: i64 exactly, others cut; what i64 cannot hold is its nearest end, NaN 0. */
GB_API int64_t gb_tensor_get_int(const gb_tensor *t, int64_t i);

/* How contractions may round. FAST allows algorithms whose errors are up to about twenty times those
 * of a direct sum, above all Winograd's F(4x4, 3x3) (Lavin and Gray 2016, arXiv:1509.09308), and where
 * operands and results are f16 (gb_precision) short sums in f16. */
typedef enum gb_math { GB_MATH_EXACT, GB_MATH_FAST } gb_math;

/* What activations, their gradients and the operands of contractions are stored as. Arithmetic, sums,
 * statistics, losses, parameters and their gradients are f32 in all of them. */
typedef enum gb_precision { GB_PRECISION_F32, GB_PRECISION_F16, GB_PRECISION_BF16 } gb_precision;
GB_API gb_dtype gb_precision_dtype(gb_precision precision);

#ifdef __cplusplus
}
#endif
#endif
