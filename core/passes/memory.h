/* The memory plan: which bytes of which buffer every value and scratch area has, and when. */
#ifndef GB_CORE_PASSES_MEMORY_H
#define GB_CORE_PASSES_MEMORY_H

#include "core/ir/plan.h"

typedef struct gb_memory_limits {
    uint64_t max_buffer_bytes; /* of one buffer; 0: no limit */
    uint64_t memory_bytes;     /* of all; 0: no limit */
    const char *device;        /* id, for messages */
} gb_memory_limits;

typedef void gb_query(void *device, const gb_step *step, gb_answer *answer);

enum { GB_MEMORY_ALIGNMENT = 256 };

/* Asks the device about each step, then packs TRANSIENT buffers and scratch areas into as few ARENA
 * buffers as the limits allow: those that live at the same time never share a byte, except that a
 * pointwise result takes the place of an operand that ends there. Nothing in an arena outlives a run.
 * TRANSIENT buffers leave the plan
 * and buffers get new numbers. The outcome depends on the plan and the answers alone.
 * Errors: UNSUPPORTED (a refused step, named with its layer), OUT_OF_MEMORY. */
gb_status gb_plan_memory(gb_plan *plan, gb_query *query, void *device,
                         const gb_memory_limits *limits, gb_error *err);

#endif
