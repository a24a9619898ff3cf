/* Iteration spaces: dimensions shared by several strided operands, made as few as possible. */
#ifndef GB_BACKENDS_GPU_SPACE_H
#define GB_BACKENDS_GPU_SPACE_H

#include "backends/gpu/kernel.h"

#define GB_SPACE_OPS (GB_MAX_STEP_IN + GB_MAX_STEP_OUT)

typedef struct gb_space {
    int rank, n_ops;
    int64_t dim[GB_MAX_RANK];
    int64_t stride[GB_SPACE_OPS][GB_MAX_RANK];
    char name[GB_SPACE_OPS][16]; /* of the operands in the kernel's text: "i0", "o1" */
    int axis[GB_MAX_RANK];       /* the step's axis that a dimension was (fixed ones only) */
    bool fixed[GB_MAX_RANK];     /* never merged: its coordinate is asked for */
} gb_space;

/* Adds the operand's strides over axes [first, first + rank). */
void gb_space_add(gb_space *s, const char *prefix, int index, const gb_operand *o, int first);
/* The same for an operand called name with strides of its own. */
void gb_space_op(gb_space *s, const char *name, const int64_t *stride);
/* Marks the axes whose coordinates expr uses. */
void gb_space_fix(gb_space *s, const gb_expr *expr);
/* Drops dimensions of 1, orders them by the strides of operand lead (widest first) and merges
 * neighbours that all operands walk alike. */
void gb_space_collapse(gb_space *s, int lead);
/* Only drops dimensions of 1: the order of the others, and linear indices, stay. */
void gb_space_squeeze(gb_space *s);
int64_t gb_space_count(const gb_space *s);
/* Takes the last dimension off: its size (1 where the space is a point), strides (into step, by
 * operand) and axis (-1 where its coordinate is not known). */
int64_t gb_space_pop(gb_space *s, int64_t *step, int *axis);
/* Defines macro(q) as statements: from the linear index q the coordinates c_AXIS of fixed
 * dimensions, and at_NAME, the element offset of every operand. */
void gb_space_walk(gb_gk *k, const gb_space *s, const char *macro, const char *prefix);
/* The text of a step axis' coordinate: c_AXIS where one of the walked spaces has it (b may be
 * NULL), i where it is the inner axis, else 0 (a dimension of 1). */
void gb_space_coord(char text[16], int axis, const gb_space *a, const gb_space *b, int inner_axis);

#endif
