/* What an item of a body over channels computes with: one float, four neighbours, or a vector for
 * a driver that runs on a CPU. */
#ifndef GB_BACKENDS_GPU_VALUE_H
#define GB_BACKENDS_GPU_VALUE_H

#include "backends/gpu/kernel.h"

typedef enum gb_value_width { GB_ONE = 1, GB_FOUR = 4, GB_WIDE = 16 } gb_value_width;

/* Are fours along axis whole and aligned in memory, and stored as they are kept? */
bool gb_fours(const gb_operand *o, int axis, gb_storage kept);
/* The widest that is good for the device and divides the count of channels. */
gb_value_width gb_value_choose(const gb_gpu_caps *caps, int64_t channels);
/* Defines VALUE, WIDE, ZERO, VALUE_FMA(x, y, acc), and SPREAD(value, array, i) and GATHER(array, i):
 * into an array of floats, and out of it. */
void gb_value_define(gb_gk *k, gb_value_width width);
/* Defines macro(i): the value from element i of a bound operand on. whole: see gb_fours. */
void gb_value_load(gb_gk *k, const char *macro, const char *name, gb_storage storage, bool whole,
                   gb_value_width width);
/* Defines macro(i, array, j): stores a value, that lies in an array from j on, to element i. */
void gb_value_store(gb_gk *k, const char *macro, const char *name, gb_storage storage, bool whole,
                    gb_value_width width);

#endif
