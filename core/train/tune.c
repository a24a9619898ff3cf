/* The steps of a recipe, for a tuner: those of training, and of inference at the same batch size.
 */
#include "core/train/trainer.h"

typedef gb_status builder(gb_trainer *t, gb_graph *g, int64_t n, gb_error *err);

static gb_status add_graph(gb_tuner *tuner, gb_trainer *t, builder *build, int64_t n, gb_error *err)
{
    const gb_program_options options = gb_trainer_options(t->recipe);
    gb_graph *g = gb_graph_create();
    if (!g) return gb_fail(err, GB_OUT_OF_MEMORY, "tuning", NULL, "no memory for a graph");
    gb_status status = build(t, g, n, err);
    if (!status) status = gb_tuner_add(tuner, g, &options, err);
    gb_graph_destroy(&g);
    return status;
}

gb_status gb_tuner_add_recipe(gb_tuner *tuner, const gb_recipe *recipe, gb_error *err)
{
    gb_dataset *sizes = NULL;
    gb_status status = gb_dataset_open_sizes(&sizes, &recipe->data, err);
    if (status) return status;
    /* no device and no store: this one only builds graphs, without initial values */
    gb_trainer t = {.recipe = recipe, .dataset = sizes, .has_states = true};
    bool whole = recipe->micro_batch <= 0 || recipe->batch <= recipe->micro_batch;
    status = whole ? add_graph(tuner, &t, gb_build_step, recipe->batch, err)
                   : add_graph(tuner, &t, gb_build_accumulate, recipe->micro_batch, err);
    if (!status) status = add_graph(tuner, &t, gb_build_evaluation, recipe->batch, err);
    gb_dataset_destroy(&sizes);
    return status;
}
