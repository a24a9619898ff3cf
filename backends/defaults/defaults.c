/* Choices that were measured elsewhere, for classes of devices: what `gimbal tune` wrote there, with
 * the names of device, driver and kernels left out. A device's own tuning file comes before them. */
#include "backends/defaults/defaults.h"

#include "backends/backend.h"

const char *const gb_backend_defaults[] = {gb_default_cpu_avx512_json, NULL};
