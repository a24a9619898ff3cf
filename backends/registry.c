#include "backends/backend.h"

#ifdef GB_HAVE_CPU
extern const gb_backend gb_cpu_backend;
#endif
#ifdef GB_HAVE_OPENCL
extern const gb_backend gb_opencl_backend;
#endif
#ifdef GB_HAVE_VULKAN
extern const gb_backend gb_vulkan_backend;
#endif
extern const gb_backend gb_reference_backend;
extern const gb_backend gb_null_backend;

const gb_backend *const gb_backends[] = {
#ifdef GB_HAVE_CPU
    &gb_cpu_backend,
#endif
#ifdef GB_HAVE_OPENCL
    &gb_opencl_backend,
#endif
#ifdef GB_HAVE_VULKAN
    &gb_vulkan_backend,
#endif
    &gb_reference_backend,
    &gb_null_backend,
    NULL,
};

const char *const gb_backends_left_out[] = {
#ifndef GB_HAVE_CPU
    "cpu",
#endif
#ifndef GB_HAVE_OPENCL
    "opencl",
#endif
#ifndef GB_HAVE_VULKAN
    "vulkan",
#endif
    NULL,
};
