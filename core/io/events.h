#ifndef GB_CORE_IO_EVENTS_H
#define GB_CORE_IO_EVENTS_H

#include <stddef.h>
#include <stdint.h>

/* How many bytes of an event file to keep: whole, intact records up to the first whose step lies
 * after last_step. */
size_t gb_events_keep(const uint8_t *bytes, size_t length, int64_t last_step);

#endif
