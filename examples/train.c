/* Trains a model with a loop of one's own, through gimbal's public headers:
 *     cc train.c $(pkg-config --cflags --libs gimbal) -o train && ./train fashion-mnist-mlp cpu 100 */
#include <stdio.h>
#include <stdlib.h>

#include <gimbal/gimbal.h>

static gb_error err; /* what went wrong, by the first call that failed */

/* `steps` optimizer steps over shuffled batches; prints the loss now and then. */
static gb_status train(gb_trainer *trainer, const gb_recipe *recipe, const gb_dataset *data,
                       int64_t steps)
{
    gb_loader_options options = {.split = GB_TRAIN, .batch = recipe->batch, .shuffle = true,
                                 .seed = recipe->seed};
    gb_loader *loader = NULL;
    gb_status status = gb_loader_create(&loader, data, &options, &err);
    for (int64_t step = 0; step < steps && status == GB_OK; step++) {
        const gb_batch *batch;
        gb_step_result result;
        status = gb_loader_next(loader, &batch, &err);
        if (status != GB_OK) break;
        double lr = gb_learning_rate(recipe, step, steps, gb_loader_batches(loader));
        status = gb_trainer_step(trainer, &batch->images, batch->labels, lr, &result, &err);
        if (status == GB_OK && (step + 1) % 20 == 0)
            printf("step %lld: loss %.4f\n", (long long)step + 1, result.loss);
    }
    gb_loader_destroy(&loader);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: train RECIPE DEVICE STEPS\n");
        return 2;
    }
    gb_context *context = NULL;
    gb_device *device = NULL;
    gb_recipe *recipe = NULL;
    gb_dataset *data = NULL;
    gb_trainer *trainer = NULL;
    gb_eval_result test;
    gb_status status = gb_context_create(NULL, &context, &err);
    if (status == GB_OK) status = gb_device_open(context, argv[2], &device, &err);
    if (status == GB_OK) status = gb_recipe_read(argv[1], NULL, 0, &recipe, &err);
    if (status == GB_OK) status = gb_dataset_open(&data, &recipe->data, &err);
    if (status == GB_OK) status = gb_trainer_create(device, recipe, data, &trainer, &err);
    if (status == GB_OK) status = train(trainer, recipe, data, atoll(argv[3]));
    if (status == GB_OK) status = gb_trainer_evaluate(trainer, GB_TEST, &test, &err);
    if (status == GB_OK)
        printf("test: loss %.4f, accuracy %.2f %%\n", test.loss, 100 * test.accuracy);
    else fprintf(stderr, "train: %s (%s): %s\n", err.message, err.input, err.hint);
    gb_trainer_destroy(&trainer);
    gb_dataset_destroy(&data);
    gb_recipe_destroy(&recipe);
    gb_device_close(&device);
    gb_context_destroy(&context);
    return status == GB_OK ? 0 : 1;
}
