/* The manifest: every way to run every kind of step. A new variant is one file under shaders/, its
 * lowering and one line in manifest.c. */
#ifndef GB_BACKENDS_GPU_MANIFEST_H
#define GB_BACKENDS_GPU_MANIFEST_H

#include "backends/gpu/kernel.h"

typedef struct gb_gpu_variant {
    gb_step_kind kind;
    const char *name; /* "KIND.how"; gb_gpu_caps.variant matches a part of it */
    bool (*applies)(const gb_gpu_caps *caps, const gb_step *step);         /* NULL: always */
    uint64_t (*scratch)(const gb_gpu_caps *caps, const gb_step *step);     /* NULL: none */
    gb_status (*lower)(gb_gpu_builder *b);
} gb_gpu_variant;

/* Ordered: of those that apply the first is taken, unless another one is forced. */
extern const gb_gpu_variant gb_gpu_manifest[];
extern const int gb_gpu_manifest_size;

/* NULL: none applies. */
const gb_gpu_variant *gb_gpu_pick(const gb_gpu_caps *caps, const gb_step *step);

static inline int64_t gb_div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t gb_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t gb_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

gb_status gb_lower_pointwise_rows(gb_gpu_builder *b);
gb_status gb_lower_pointwise_flat(gb_gpu_builder *b);

#endif
