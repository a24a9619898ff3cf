/* Strided operands, read and written along a linear range of an iteration space. */
#ifndef GB_BACKENDS_CPU_WALK_H
#define GB_BACKENDS_CPU_WALK_H

#include "backends/cpu/loops/loops.h"
#include "core/ir/plan.h"

/* An iteration space in the order in which loops run: outermost first. */
typedef struct gb_cpu_space {
    int rank;
    int64_t dim[GB_MAX_RANK];
    int axis[GB_MAX_RANK]; /* the step's axis that each dimension is */
    int64_t count;
} gb_cpu_space;

/* Appends the axes [first, last) of a step, sorted by the strides of an operand, largest outermost;
 * axes along which it broadcasts keep their place. */
void gb_cpu_space_sort(gb_cpu_space *space, const int64_t *dim, const int64_t *stride, int first,
                       int last);
void gb_cpu_space_count(gb_cpu_space *space);

/* An operand over a space, with dimensions merged where it allows. */
typedef struct gb_walk {
    gb_storage storage;
    const gb_halves *halves; /* NULL: of 4 bytes */
    int rank;
    int64_t dim[GB_MAX_RANK], stride[GB_MAX_RANK];
    int64_t pattern, stretch; /* elements that repeat until the stretch ends; 0: none of use */
} gb_walk;

/* stride is by the step's axes. */
void gb_walk_init(gb_walk *w, const gb_cpu_space *space, gb_storage storage, const int64_t *stride);
/* One contiguous run of 4-byte elements. */
bool gb_walk_is_dense(const gb_walk *w);
/* All elements are one. */
bool gb_walk_is_uniform(const gb_walk *w);
/* Elements after which it repeats; 0: never. */
int64_t gb_walk_period(const gb_walk *w);

/* NULL: s has 4 bytes. */
const gb_halves *gb_halves_of(gb_storage s);

/* Elements [start, start + n) of the space to and from an array; 16-bit floats are converted. */
void gb_walk_load(const gb_walk *w, const void *base, int64_t start, int64_t n, void *out);
void gb_walk_store(const gb_walk *w, void *base, int64_t start, int64_t n, const void *in);
/* Offset of element i of the space, in elements. */
int64_t gb_walk_offset(const gb_walk *w, int64_t i);
/* Those offsets for a range: coordinates, for a stride of 1 along one axis. */
void gb_walk_offsets(const gb_walk *w, int64_t start, int64_t n, int32_t *out);

#endif
