#include "core/io/events.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    int64_t step;
    gb_events_keep(bytes, size, INT64_MAX);
    gb_event_step(bytes, bytes + size, &step); /* apart, since records are under checksums */
    return 0;
}
