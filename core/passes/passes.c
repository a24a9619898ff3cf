/* The whole way through the passes, in their order. */
#include "core/passes/passes.h"

/* Takes the place of g. */
static gb_graph *optimize(gb_graph *g, const gb_lower_options *options, gb_recomputed *done,
                          gb_error *err)
{
    gb_graph *folded = options->no_fusion ? g : gb_fold(g, err);
    if (folded != g) gb_graph_destroy(&g);
    if (folded && !options->no_fusion && !options->lean) folded = gb_scale_filters(folded, err);
    if (folded && !options->no_fusion) folded = gb_move_masks(folded, err);
    gb_graph *fused = options->no_fusion || !folded ? folded : gb_fuse(folded, err);
    if (fused != folded) gb_graph_destroy(&folded);
    gb_graph *mixed = fused && options->small
                          ? gb_mix_precision(fused, options->small, options->small_everywhere, err)
                          : fused;
    if (mixed != fused) gb_graph_destroy(&fused);
    if (options->no_fusion) {
        if (mixed && !gb_order(mixed, err)) gb_graph_destroy(&mixed);
        return mixed;
    }
    gb_graph *result = mixed ? gb_recompute(mixed, options->budget, done, err) : NULL;
    gb_graph_destroy(&mixed);
    return result;
}

gb_status gb_lower(const gb_graph *g, const gb_lower_options *options, gb_plan **plan,
                   gb_error *err)
{
    const gb_lower_options none = {0};
    gb_recomputed done = {0};
    gb_error local = {0};
    *plan = NULL;
    gb_graph *core = gb_expand(g, &local);
    if (core) core = optimize(core, options ? options : &none, &done, &local);
    if (!core) {
        if (err) *err = local;
        return local.status ? local.status : GB_INTERNAL;
    }
    gb_status status = gb_make_plan(core, options && options->lean, plan, err);
    if (status) return status;
    (*plan)->recomputed = done.values;
    (*plan)->recomputed_bytes = done.bytes;
    return GB_OK;
}
