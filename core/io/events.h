#ifndef GB_CORE_IO_EVENTS_H
#define GB_CORE_IO_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many bytes of an event file to keep: whole, intact records up to the first whose step lies
 * after last_step. */
size_t gb_events_keep(const uint8_t *bytes, size_t length, int64_t last_step);
/* The step of an Event's bytes, 0 where it has none (as protobuf has it); false where they are
 * damaged. */
bool gb_event_step(const uint8_t *p, const uint8_t *end, int64_t *step);

#endif
