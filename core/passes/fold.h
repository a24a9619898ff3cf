/* Parts of fold.c. */
#ifndef GB_CORE_PASSES_FOLD_H
#define GB_CORE_PASSES_FOLD_H

#include "core/ir/plan.h"

/* Is every step one that gb_evaluate knows? */
bool gb_can_evaluate(const gb_plan *plan);
/* Runs a plan without inputs, states and scalars; out[k], allocated, receives output k, exact[k]
 * whether no step on the way to it rounded: then every device gives these bits. False: no memory.
 */
bool gb_evaluate(const gb_plan *plan, gb_tensor *out, bool *exact);

#endif
