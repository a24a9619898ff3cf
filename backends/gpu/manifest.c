#include "backends/gpu/manifest.h"

#include <string.h>

static bool wide_items(const gb_gpu_caps *caps, const gb_step *step)
{
    (void)step;
    return gb_gpu_wide_items(caps);
}

const gb_gpu_variant gb_gpu_manifest[] = {
    {GB_STEP_POINTWISE, "pointwise.rows", wide_items, NULL, gb_lower_pointwise_rows},
    {GB_STEP_POINTWISE, "pointwise.flat", NULL, NULL, gb_lower_pointwise_flat},
    {GB_STEP_REDUCE, "reduce.lanes", NULL, gb_reduce_scratch, gb_lower_reduce},
    {GB_STEP_ARGREDUCE, "argreduce.item", NULL, NULL, gb_lower_argreduce},
    {GB_STEP_MATMUL, "matmul.panel", gb_matmul_panel_applies, gb_matmul_panel_scratch,
     gb_lower_matmul_panel},
    {GB_STEP_MATMUL, "matmul.lanes", gb_matmul_lanes_applies, NULL, gb_lower_matmul_lanes},
    {GB_STEP_MATMUL, "matmul.block", gb_matmul_block_applies, NULL, gb_lower_matmul_block},
    {GB_STEP_MATMUL, "matmul.item", NULL, NULL, gb_lower_matmul_item},
    {GB_STEP_CONV, "conv.winograd", gb_winograd_applies, gb_winograd_scratch, gb_lower_winograd},
    {GB_STEP_CONV, "conv.panel", gb_conv_panel_applies, gb_conv_panel_scratch, gb_lower_conv_panel},
    {GB_STEP_CONV, "conv.lanes", gb_conv_lanes_applies, NULL, gb_lower_conv_lanes},
    {GB_STEP_CONV, "conv.block", gb_conv_block_applies, NULL, gb_lower_conv_block},
    {GB_STEP_CONV, "conv.item", NULL, NULL, gb_lower_conv_item},
    {GB_STEP_CONV_INPUT, "conv_input.winograd", gb_winograd_applies, gb_winograd_scratch,
     gb_lower_winograd},
    {GB_STEP_CONV_INPUT, "conv_input.phases", gb_conv_phases_applies, gb_conv_phases_scratch,
     gb_lower_conv_phases},
    {GB_STEP_CONV_INPUT, "conv_input.panel", gb_conv_panel_applies, gb_conv_panel_scratch,
     gb_lower_conv_panel},
    {GB_STEP_CONV_INPUT, "conv_input.lanes", gb_conv_lanes_applies, NULL, gb_lower_conv_lanes},
    {GB_STEP_CONV_INPUT, "conv_input.block", gb_conv_block_applies, NULL, gb_lower_conv_block},
    {GB_STEP_CONV_INPUT, "conv_input.item", NULL, NULL, gb_lower_conv_input_item},
    {GB_STEP_CONV_FILTER, "conv_filter.winograd", gb_winograd_applies, gb_winograd_scratch,
     gb_lower_winograd_filter},
    {GB_STEP_CONV_FILTER, "conv_filter.panel", gb_filter_panel_applies, gb_filter_panel_scratch,
     gb_lower_filter_panel},
    {GB_STEP_CONV_FILTER, "conv_filter.lanes", gb_filter_lanes_applies, gb_filter_block_scratch,
     gb_lower_filter_lanes},
    {GB_STEP_CONV_FILTER, "conv_filter.block", gb_filter_block_applies, gb_filter_block_scratch,
     gb_lower_filter_block},
    {GB_STEP_CONV_FILTER, "conv_filter.item", NULL, gb_conv_filter_item_scratch,
     gb_lower_conv_filter_item},
    {GB_STEP_MAXPOOL, "maxpool.lanes", NULL, NULL, gb_lower_maxpool},
    {GB_STEP_MAXPOOL_GRAD, "maxpool_grad.lanes", NULL, NULL, gb_lower_maxpool_grad},
    {GB_STEP_AVGPOOL, "avgpool.lanes", NULL, NULL, gb_lower_avgpool},
    {GB_STEP_AVGPOOL_GRAD, "avgpool_grad.lanes", NULL, NULL, gb_lower_avgpool_grad},
    {GB_STEP_GATHER, "gather.item", NULL, NULL, gb_lower_gather},
    {GB_STEP_GATHER_GRAD, "gather_grad.item", NULL, NULL, gb_lower_gather_grad},
};

const int gb_gpu_manifest_size = sizeof gb_gpu_manifest / sizeof *gb_gpu_manifest;

static const gb_gpu_variant *first(const gb_gpu_caps *caps, const gb_step *step, const char *part)
{
    for (int i = 0; i < gb_gpu_manifest_size; i++) {
        const gb_gpu_variant *v = &gb_gpu_manifest[i];
        if (v->kind == step->kind && (!part || strstr(v->name, part)) &&
            (!v->applies || v->applies(caps, step)))
            return v;
    }
    return NULL;
}

static const gb_gpu_variant *named(const gb_gpu_caps *caps, const gb_step *step)
{
    for (int i = 0; i < gb_gpu_manifest_size; i++) {
        const gb_gpu_variant *v = &gb_gpu_manifest[i];
        if (v->kind == step->kind && strcmp(v->name, step->variant) == 0)
            return !v->applies || v->applies(caps, step) ? v : NULL;
    }
    return NULL;
}

const gb_gpu_variant *gb_gpu_pick(const gb_gpu_caps *caps, const gb_step *step)
{
    if (step->variant[0]) return named(caps, step);
    const gb_gpu_variant *v = caps->variant ? first(caps, step, caps->variant) : NULL;
    return v ? v : first(caps, step, NULL);
}

int gb_gpu_variants(const gb_gpu_caps *caps, const gb_step *step, const char **name, int cap)
{
    int n = 0;
    for (int i = 0; i < gb_gpu_manifest_size && n < cap; i++) {
        const gb_gpu_variant *v = &gb_gpu_manifest[i];
        if (v->kind == step->kind && (!v->applies || v->applies(caps, step))) name[n++] = v->name;
    }
    return n;
}
