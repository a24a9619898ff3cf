#include "backends/gpu/manifest.h"

#include <string.h>

#include "backends/gpu/matrix.h"
#include "backends/gpu/tile.h"

static bool wide_items(const gb_gpu_caps *caps, const gb_step *step)
{
    (void)step;
    return gb_gpu_wide_items(caps);
}

static bool lanes_of_a_gpu(const gb_gpu_caps *caps, const gb_step *step)
{
    return !wide_items(caps, step);
}

/* All sizes of one form of tiles. */
#define TILES(kind_, how, tiles, form)                                                             \
    {kind_, how "128", .family = &tiles, .member = GB_TILE(form, GB_TILE_128)},                    \
        {kind_, how "64", .family = &tiles, .member = GB_TILE(form, GB_TILE_64)},                  \
        {kind_, how "32", .family = &tiles, .member = GB_TILE(form, GB_TILE_32)},                  \
        {kind_, how "_tall", .family = &tiles, .member = GB_TILE(form, GB_TILE_TALL)},             \
    {                                                                                              \
        kind_, how "_flat", .family = &tiles, .member = GB_TILE(form, GB_TILE_FLAT)                \
    }

const gb_gpu_variant gb_gpu_manifest[] = {
    {GB_STEP_POINTWISE, "pointwise.rows", wide_items, NULL, gb_lower_pointwise_rows},
    {GB_STEP_POINTWISE, "pointwise.flat", NULL, NULL, gb_lower_pointwise_flat},
    {GB_STEP_REDUCE, "reduce.subgroup", gb_reduce_subgroup_applies, gb_reduce_subgroup_scratch,
     gb_lower_reduce_subgroup, gb_reduce_subgroup_wanted},
    {GB_STEP_REDUCE, "reduce.group", gb_reduce_group_applies, gb_reduce_group_scratch,
     gb_lower_reduce_group, gb_reduce_group_wanted},
    {GB_STEP_REDUCE, "reduce.lanes", NULL, gb_reduce_scratch, gb_lower_reduce},
    {GB_STEP_ARGREDUCE, "argreduce.item", gb_argreduce_applies, NULL, gb_lower_argreduce},
    {GB_STEP_MATMUL, "matmul.panel", gb_matmul_panel_applies, gb_matmul_panel_scratch,
     gb_lower_matmul_panel, .packed = gb_matmul_panel_packed},
    {GB_STEP_MATMUL, "matmul.skinny", gb_matmul_skinny_applies, gb_matmul_skinny_scratch,
     gb_lower_matmul_skinny, gb_matmul_skinny_wanted},
    {GB_STEP_MATMUL, "matmul.matrix128", .family = &gb_matrix_kernels, .member = GB_MATRIX_128},
    {GB_STEP_MATMUL, "matmul.matrix64", .family = &gb_matrix_kernels, .member = GB_MATRIX_64},
    {GB_STEP_MATMUL, "matmul.matrix32", .family = &gb_matrix_kernels, .member = GB_MATRIX_32},
    TILES(GB_STEP_MATMUL, "matmul.packed", gb_matmul_tiles, GB_TILE_PACKED),
    TILES(GB_STEP_MATMUL, "matmul.half", gb_matmul_tiles, GB_TILE_HALVES),
    {GB_STEP_MATMUL, "matmul.tile128", .family = &gb_matmul_tiles, .member = GB_TILE_128},
    {GB_STEP_MATMUL, "matmul.tile64", .family = &gb_matmul_tiles, .member = GB_TILE_64},
    {GB_STEP_MATMUL, "matmul.tile32", .family = &gb_matmul_tiles, .member = GB_TILE_32},
    {GB_STEP_MATMUL, "matmul.tall", .family = &gb_matmul_tiles, .member = GB_TILE_TALL},
    {GB_STEP_MATMUL, "matmul.flat", .family = &gb_matmul_tiles, .member = GB_TILE_FLAT},
    {GB_STEP_MATMUL, "matmul.lanes", gb_matmul_lanes_applies, NULL, gb_lower_matmul_lanes},
    {GB_STEP_MATMUL, "matmul.block", gb_matmul_block_applies, NULL, gb_lower_matmul_block,
     lanes_of_a_gpu},
    {GB_STEP_MATMUL, "matmul.item", gb_matmul_item_applies, NULL, gb_lower_matmul_item},
    {GB_STEP_CONV, "conv.depthwise", gb_depthwise_applies, NULL, gb_lower_depthwise,
     gb_depthwise_wanted, .packed = gb_depthwise_packed},
    {GB_STEP_CONV, "conv.matrix128", .family = &gb_matrix_kernels, .member = GB_MATRIX_128},
    {GB_STEP_CONV, "conv.matrix64", .family = &gb_matrix_kernels, .member = GB_MATRIX_64},
    {GB_STEP_CONV, "conv.matrix32", .family = &gb_matrix_kernels, .member = GB_MATRIX_32},
    {GB_STEP_CONV, "conv.winograd_fused", gb_winograd_fused_applies, gb_winograd_fused_scratch,
     gb_lower_winograd_fused, .packed = gb_winograd_fused_packed},
    {GB_STEP_CONV, "conv.winograd", gb_winograd_applies, gb_winograd_scratch, gb_lower_winograd,
     gb_winograd_wanted, .packed = gb_winograd_packed},
    {GB_STEP_CONV, "conv.panel", gb_conv_panel_applies, gb_conv_panel_scratch, gb_lower_conv_panel,
     .packed = gb_conv_panel_packed},
    TILES(GB_STEP_CONV, "conv.packed", gb_conv_tiles, GB_TILE_PACKED),
    TILES(GB_STEP_CONV, "conv.half", gb_conv_tiles, GB_TILE_HALVES),
    {GB_STEP_CONV, "conv.tile128", .family = &gb_conv_tiles, .member = GB_TILE_128},
    {GB_STEP_CONV, "conv.tile64", .family = &gb_conv_tiles, .member = GB_TILE_64},
    {GB_STEP_CONV, "conv.tile32", .family = &gb_conv_tiles, .member = GB_TILE_32},
    {GB_STEP_CONV, "conv.tall", .family = &gb_conv_tiles, .member = GB_TILE_TALL},
    {GB_STEP_CONV, "conv.flat", .family = &gb_conv_tiles, .member = GB_TILE_FLAT},
    {GB_STEP_CONV, "conv.lanes", gb_conv_lanes_applies, NULL, gb_lower_conv_lanes},
    {GB_STEP_CONV, "conv.block", gb_conv_block_applies, NULL, gb_lower_conv_block, lanes_of_a_gpu},
    {GB_STEP_CONV, "conv.item", gb_conv_item_applies, NULL, gb_lower_conv_item},
    {GB_STEP_CONV_INPUT, "conv_input.depthwise", gb_depthwise_applies, NULL, gb_lower_depthwise,
     gb_depthwise_wanted, .packed = gb_depthwise_packed},
    {GB_STEP_CONV_INPUT, "conv_input.matrix128", .family = &gb_matrix_kernels, .member = GB_MATRIX_128},
    {GB_STEP_CONV_INPUT, "conv_input.matrix64", .family = &gb_matrix_kernels, .member = GB_MATRIX_64},
    {GB_STEP_CONV_INPUT, "conv_input.matrix32", .family = &gb_matrix_kernels, .member = GB_MATRIX_32},
    {GB_STEP_CONV_INPUT, "conv_input.winograd_fused", gb_winograd_fused_applies, gb_winograd_fused_scratch,
     gb_lower_winograd_fused, .packed = gb_winograd_fused_packed},
    {GB_STEP_CONV_INPUT, "conv_input.winograd", gb_winograd_applies, gb_winograd_scratch,
     gb_lower_winograd, gb_winograd_wanted, .packed = gb_winograd_packed},
    {GB_STEP_CONV_INPUT, "conv_input.phases", gb_conv_phases_applies, gb_conv_phases_scratch,
     gb_lower_conv_phases, .packed = gb_conv_phases_packed},
    {GB_STEP_CONV_INPUT, "conv_input.panel", gb_conv_panel_applies, gb_conv_panel_scratch,
     gb_lower_conv_panel, .packed = gb_conv_panel_packed},
    TILES(GB_STEP_CONV_INPUT, "conv_input.packed", gb_conv_tiles, GB_TILE_PACKED),
    TILES(GB_STEP_CONV_INPUT, "conv_input.half", gb_conv_tiles, GB_TILE_HALVES),
    {GB_STEP_CONV_INPUT, "conv_input.tile128", .family = &gb_conv_tiles, .member = GB_TILE_128},
    {GB_STEP_CONV_INPUT, "conv_input.tile64", .family = &gb_conv_tiles, .member = GB_TILE_64},
    {GB_STEP_CONV_INPUT, "conv_input.tile32", .family = &gb_conv_tiles, .member = GB_TILE_32},
    {GB_STEP_CONV_INPUT, "conv_input.tall", .family = &gb_conv_tiles, .member = GB_TILE_TALL},
    {GB_STEP_CONV_INPUT, "conv_input.flat", .family = &gb_conv_tiles, .member = GB_TILE_FLAT},
    {GB_STEP_CONV_INPUT, "conv_input.lanes", gb_conv_lanes_applies, NULL, gb_lower_conv_lanes},
    {GB_STEP_CONV_INPUT, "conv_input.block", gb_conv_block_applies, NULL, gb_lower_conv_block,
     lanes_of_a_gpu},
    {GB_STEP_CONV_INPUT, "conv_input.item", gb_conv_item_applies, NULL, gb_lower_conv_input_item},
    {GB_STEP_CONV_FILTER, "conv_filter.depthwise", gb_depthwise_filter_applies,
     gb_depthwise_filter_scratch, gb_lower_depthwise_filter, gb_depthwise_wanted},
    {GB_STEP_CONV_FILTER, "conv_filter.matrix128", .family = &gb_matrix_kernels, .member = GB_MATRIX_128},
    {GB_STEP_CONV_FILTER, "conv_filter.matrix64", .family = &gb_matrix_kernels, .member = GB_MATRIX_64},
    {GB_STEP_CONV_FILTER, "conv_filter.matrix32", .family = &gb_matrix_kernels, .member = GB_MATRIX_32},
    {GB_STEP_CONV_FILTER, "conv_filter.winograd_fused", gb_winograd_fused_applies,
     gb_winograd_fused_scratch, gb_lower_winograd_fused_filter},
    {GB_STEP_CONV_FILTER, "conv_filter.winograd", gb_winograd_applies, gb_winograd_scratch,
     gb_lower_winograd_filter, gb_winograd_wanted},
    {GB_STEP_CONV_FILTER, "conv_filter.panel", gb_filter_panel_applies, gb_filter_panel_scratch,
     gb_lower_filter_panel, .packed = gb_filter_panel_packed},
    TILES(GB_STEP_CONV_FILTER, "conv_filter.half", gb_filter_tiles, GB_TILE_HALVES),
    {GB_STEP_CONV_FILTER, "conv_filter.tile128", .family = &gb_filter_tiles, .member = GB_TILE_128},
    {GB_STEP_CONV_FILTER, "conv_filter.tile64", .family = &gb_filter_tiles, .member = GB_TILE_64},
    {GB_STEP_CONV_FILTER, "conv_filter.tile32", .family = &gb_filter_tiles, .member = GB_TILE_32},
    {GB_STEP_CONV_FILTER, "conv_filter.tall", .family = &gb_filter_tiles, .member = GB_TILE_TALL},
    {GB_STEP_CONV_FILTER, "conv_filter.flat", .family = &gb_filter_tiles, .member = GB_TILE_FLAT},
    {GB_STEP_CONV_FILTER, "conv_filter.lanes", gb_filter_lanes_applies, gb_filter_block_scratch,
     gb_lower_filter_lanes},
    {GB_STEP_CONV_FILTER, "conv_filter.block", gb_filter_block_applies, gb_filter_block_scratch,
     gb_lower_filter_block, lanes_of_a_gpu},
    {GB_STEP_CONV_FILTER, "conv_filter.item", NULL, gb_conv_filter_item_scratch,
     gb_lower_conv_filter_item},
    {GB_STEP_MAXPOOL, "maxpool.rows", .family = &gb_maxpools, .member = GB_POOL_ROWS},
    {GB_STEP_MAXPOOL, "maxpool.lanes", .family = &gb_maxpools, .member = GB_POOL_LANES},
    {GB_STEP_MAXPOOL_GRAD, "maxpool_grad.rows", .family = &gb_maxpool_grads, .member = GB_POOL_ROWS},
    {GB_STEP_MAXPOOL_GRAD, "maxpool_grad.lanes", .family = &gb_maxpool_grads, .member = GB_POOL_LANES},
    {GB_STEP_AVGPOOL, "avgpool.rows", .family = &gb_avgpools, .member = GB_POOL_ROWS},
    {GB_STEP_AVGPOOL, "avgpool.lanes", .family = &gb_avgpools, .member = GB_POOL_LANES},
    {GB_STEP_AVGPOOL_GRAD, "avgpool_grad.rows", .family = &gb_avgpool_grads, .member = GB_POOL_ROWS},
    {GB_STEP_AVGPOOL_GRAD, "avgpool_grad.lanes", .family = &gb_avgpool_grads, .member = GB_POOL_LANES},
    {GB_STEP_GATHER, "gather.item", NULL, NULL, gb_lower_gather},
    {GB_STEP_GATHER_GRAD, "gather_grad.item", NULL, NULL, gb_lower_gather_grad},
};

const int gb_gpu_manifest_size = sizeof gb_gpu_manifest / sizeof *gb_gpu_manifest;

static bool applies(const gb_gpu_caps *caps, const gb_gpu_variant *v, const gb_step *step)
{
    if (v->kind != step->kind) return false;
    if (v->family) return v->family->applies(caps, step, v->member);
    return !v->applies || v->applies(caps, step);
}

static bool wanted(const gb_gpu_caps *caps, const gb_gpu_variant *v, const gb_step *step)
{
    if (v->family) return !v->family->wanted || v->family->wanted(caps, step, v->member);
    return !v->wanted || v->wanted(caps, step);
}

static bool asked(const gb_gpu_caps *caps, const gb_gpu_variant *v)
{
    return caps->variant && strstr(v->name, caps->variant);
}

const gb_gpu_variant *gb_gpu_pick(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_gpu_variant *best = NULL;
    for (int i = gb_gpu_manifest_size - 1; i >= 0; i--) {
        const gb_gpu_variant *v = &gb_gpu_manifest[i];
        if (!applies(caps, v, step)) continue;
        if (step->variant[0]) {
            if (strcmp(v->name, step->variant) == 0) return v;
        } else if (asked(caps, v) || (wanted(caps, v, step) && !(best && asked(caps, best)))) {
            best = v;
        }
    }
    return best;
}

int gb_gpu_variants(const gb_gpu_caps *caps, const gb_step *step, const char **name, int cap)
{
    int n = 0;
    for (int i = 0; i < gb_gpu_manifest_size && n < cap; i++) {
        const gb_gpu_variant *v = &gb_gpu_manifest[i];
        if (applies(caps, v, step) && (asked(caps, v) || wanted(caps, v, step)))
            name[n++] = v->name;
    }
    return n;
}

uint64_t gb_gpu_scratch(const gb_gpu_caps *caps, const gb_gpu_variant *v, const gb_step *step)
{
    if (v->family) return v->family->scratch ? v->family->scratch(caps, step, v->member) : 0;
    return v->scratch ? v->scratch(caps, step) : 0;
}

uint64_t gb_gpu_packed(const gb_gpu_caps *caps, const gb_gpu_variant *v, const gb_step *step)
{
    return v->packed ? (v->packed(caps, step) + 255) / 256 * 256 : 0;
}

gb_status gb_gpu_lower(gb_gpu_builder *b, const gb_gpu_variant *v)
{
    b->packed_at = (gb_gpu_scratch(b->caps, v, b->step) + 255) / 256 * 256;
    return v->family ? v->family->lower(b, v->member) : v->lower(b);
}
