/* The manifest: every way to run every kind of step. A new variant is one file under shaders/, its
 * lowering and one line in manifest.c. */
#ifndef GB_BACKENDS_GPU_MANIFEST_H
#define GB_BACKENDS_GPU_MANIFEST_H

#include "backends/gpu/kernel.h"

/* Variants that differ by a number only, such as the size of tiles. */
typedef struct gb_gpu_family {
    bool (*applies)(const gb_gpu_caps *caps, const gb_step *step, int member);
    bool (*wanted)(const gb_gpu_caps *caps, const gb_step *step, int member); /* NULL: always */
    uint64_t (*scratch)(const gb_gpu_caps *caps, const gb_step *step, int member); /* NULL: none */
    gb_status (*lower)(gb_gpu_builder *b, int member);
} gb_gpu_family;

typedef struct gb_gpu_variant {
    gb_step_kind kind;
    const char *name; /* "KIND.how"; gb_gpu_caps.variant matches a part of it */
    bool (*applies)(const gb_gpu_caps *caps, const gb_step *step);     /* NULL: always */
    uint64_t (*scratch)(const gb_gpu_caps *caps, const gb_step *step); /* NULL: none */
    gb_status (*lower)(gb_gpu_builder *b);
    /* Is it worth trying on this class of devices? Others run when they are asked for by name.
     * NULL: wherever it applies. */
    bool (*wanted)(const gb_gpu_caps *caps, const gb_step *step);
    const gb_gpu_family *family; /* instead of the functions above */
    int member;
    /* Bytes of what it makes of in[1] alone (filters, packed or transformed): behind the scratch,
     * or, where the input stays the same from run to run, kept between them. NULL: none. */
    uint64_t (*packed)(const gb_gpu_caps *caps, const gb_step *step);
} gb_gpu_variant;

/* Ordered: of those that apply and are wanted the first is taken, unless another one is forced. */
extern const gb_gpu_variant gb_gpu_manifest[];
extern const int gb_gpu_manifest_size;

/* The variant that step->variant names, else the default. NULL: none applies. */
const gb_gpu_variant *gb_gpu_pick(const gb_gpu_caps *caps, const gb_step *step);

/* Do all loops of an item end by themselves? */
static inline bool gb_rounds_fit(const gb_gpu_caps *caps, int64_t rounds)
{
    return !caps->max_rounds || rounds <= caps->max_rounds;
}

uint64_t gb_gpu_scratch(const gb_gpu_caps *caps, const gb_gpu_variant *v, const gb_step *step);
uint64_t gb_gpu_packed(const gb_gpu_caps *caps, const gb_gpu_variant *v, const gb_step *step);
gb_status gb_gpu_lower(gb_gpu_builder *b, const gb_gpu_variant *v);

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

/* One item does much, with vectors inside: OpenCL on CPUs. Elsewhere items are lanes. */
static inline bool gb_gpu_wide_items(const gb_gpu_caps *caps)
{
    return caps->cpu_hosted && caps->api != GB_GPU_VULKAN;
}

bool gb_argreduce_applies(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_argreduce(gb_gpu_builder *b);
uint64_t gb_conv_filter_item_scratch(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_conv_filter_item(gb_gpu_builder *b);
bool gb_conv_item_applies(const gb_gpu_caps *caps, const gb_step *step); /* and to the input */
gb_status gb_lower_conv_input_item(gb_gpu_builder *b);
gb_status gb_lower_conv_item(gb_gpu_builder *b);
gb_status gb_lower_gather(gb_gpu_builder *b);
gb_status gb_lower_gather_grad(gb_gpu_builder *b);
bool gb_matmul_item_applies(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_matmul_item(gb_gpu_builder *b);
uint64_t gb_reduce_scratch(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_reduce(gb_gpu_builder *b);
bool gb_reduce_group_applies(const gb_gpu_caps *caps, const gb_step *step);
bool gb_reduce_group_wanted(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_reduce_group_scratch(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_reduce_group(gb_gpu_builder *b);
bool gb_reduce_subgroup_applies(const gb_gpu_caps *caps, const gb_step *step);
bool gb_reduce_subgroup_wanted(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_reduce_subgroup_scratch(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_reduce_subgroup(gb_gpu_builder *b);
gb_status gb_lower_pointwise_rows(gb_gpu_builder *b);
gb_status gb_lower_pointwise_flat(gb_gpu_builder *b);

bool gb_matmul_skinny_applies(const gb_gpu_caps *caps, const gb_step *step);
bool gb_matmul_skinny_wanted(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_matmul_skinny_scratch(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_matmul_skinny(gb_gpu_builder *b);
bool gb_matmul_block_applies(const gb_gpu_caps *caps, const gb_step *step);
bool gb_matmul_lanes_applies(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_matmul_block(gb_gpu_builder *b);
gb_status gb_lower_matmul_lanes(gb_gpu_builder *b);
bool gb_conv_block_applies(const gb_gpu_caps *caps, const gb_step *step); /* and to the input */
bool gb_conv_lanes_applies(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_conv_block(gb_gpu_builder *b);
gb_status gb_lower_conv_lanes(gb_gpu_builder *b);
bool gb_filter_block_applies(const gb_gpu_caps *caps, const gb_step *step);
bool gb_filter_lanes_applies(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_filter_block_scratch(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_filter_block(gb_gpu_builder *b);
gb_status gb_lower_filter_lanes(gb_gpu_builder *b);

bool gb_matmul_panel_applies(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_matmul_panel_scratch(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_matmul_panel_packed(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_matmul_panel(gb_gpu_builder *b);
bool gb_conv_panel_applies(const gb_gpu_caps *caps, const gb_step *step); /* and to the input */
uint64_t gb_conv_panel_scratch(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_conv_panel_packed(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_conv_panel(gb_gpu_builder *b);
bool gb_conv_phases_applies(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_conv_phases_scratch(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_conv_phases_packed(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_conv_phases(gb_gpu_builder *b);
bool gb_filter_panel_applies(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_filter_panel_scratch(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_filter_panel_packed(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_filter_panel(gb_gpu_builder *b);

bool gb_depthwise_applies(const gb_gpu_caps *caps, const gb_step *step); /* and to the input */
bool gb_depthwise_wanted(const gb_gpu_caps *caps, const gb_step *step);  /* all three */
uint64_t gb_depthwise_packed(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_depthwise(gb_gpu_builder *b);
bool gb_depthwise_filter_applies(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_depthwise_filter_scratch(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_depthwise_filter(gb_gpu_builder *b);

bool gb_winograd_applies(const gb_gpu_caps *caps, const gb_step *step); /* all three convolutions */
bool gb_winograd_wanted(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_winograd_scratch(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_winograd_packed(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_winograd(gb_gpu_builder *b);
gb_status gb_lower_winograd_filter(gb_gpu_builder *b);

bool gb_winograd_fused_applies(const gb_gpu_caps *caps, const gb_step *step); /* all three */
uint64_t gb_winograd_fused_scratch(const gb_gpu_caps *caps, const gb_step *step);
uint64_t gb_winograd_fused_packed(const gb_gpu_caps *caps, const gb_step *step);
gb_status gb_lower_winograd_fused(gb_gpu_builder *b);
gb_status gb_lower_winograd_fused_filter(gb_gpu_builder *b);

extern const gb_gpu_family gb_matmul_tiles, gb_conv_tiles, gb_filter_tiles; /* members: GB_TILE */
extern const gb_gpu_family gb_matrix_kernels; /* members: gb_matrix_size */

typedef enum gb_pool_walk { GB_POOL_LANES, GB_POOL_ROWS } gb_pool_walk;
extern const gb_gpu_family gb_maxpools, gb_maxpool_grads; /* members: gb_pool_walk */
extern const gb_gpu_family gb_avgpools, gb_avgpool_grads;

/* out[0][e] = the sum over shares of part[share * count + e], floats in scratch from offset on. */
gb_status gb_lower_sum_join(gb_gpu_builder *b, uint64_t offset, int64_t shares, int64_t count);

#endif
