/* Names of the sources behind each backend's kernels, for its slot `kernels`; made by versions.py.
 */
#ifndef GB_BACKENDS_VERSIONS_H
#define GB_BACKENDS_VERSIONS_H

extern const char gb_kernels_cpu[], gb_kernels_opencl[], gb_kernels_vulkan[];

#endif
