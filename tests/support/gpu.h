/* Programs for a driver on a CPU, which no test needs to have. */
#ifndef GB_TESTS_SUPPORT_GPU_H
#define GB_TESTS_SUPPORT_GPU_H

#include "backends/gpu/gpu.h"

/* What a driver like PoCL says of three cores with AVX2. */
static inline gb_gpu_caps gb_test_driver_on_cpu(void)
{
    return (gb_gpu_caps){.api = GB_GPU_OPENCL,
                         .cpu_hosted = true,
                         .vector_width = 8,
                         .compute_units = 3,
                         .max_local = 256,
                         .max_local_dim = {256, 256, 64},
                         .max_groups = {65535, 65535, 65535},
                         .max_params = 4096};
}

/* The kernels of a plan there, joined or apart; to destroy. Fails the test where there are none. */
static inline gb_gpu_program *gb_test_gpu_program(const gb_plan *plan, bool apart)
{
    gb_gpu_caps caps = gb_test_driver_on_cpu();
    gb_gpu_program *p = NULL;
    gb_error err = {0};
    caps.apart = apart;
    if (gb_gpu_program_create(&caps, plan, &p, &err)) fail_msg("%s", err.message);
    return p;
}

#endif
