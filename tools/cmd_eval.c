/* gimbal eval: loss and accuracy of a trained model on its test set. */
#include "tools/cli.h"

#include <stdio.h>

#include <gimbal/classifier.h>

static int print(const cli_args *args, const gb_eval_result *r)
{
    if (cli_json(args))
        return cli_print_json(args, json_pack("{s:o, s:o, s:I, s:o}", "loss", cli_number(r->loss),
                                              "accuracy", cli_number(r->accuracy), "examples",
                                              (json_int_t)r->examples, "seconds",
                                              cli_number(r->seconds)));
    printf("loss %.5f, accuracy %.2f %% of %lld, %.2f s\n", r->loss, 100 * r->accuracy,
           (long long)r->examples, r->seconds);
    return CLI_DONE;
}

static int run(cli_args *args)
{
    gb_error err = {0};
    gb_context *ctx;
    gb_device *dev;
    gb_classifier *c;
    gb_eval_result result;
    if (cli_open(args, &ctx, &dev, &err)) return cli_fail(args, &err);
    gb_status s =
        gb_classifier_open(dev, args->files[0], args->sets.items, args->sets.n, true, &c, &err);
    if (!s) s = gb_classifier_evaluate(c, &result, &err);
    int status = s ? cli_fail(args, &err) : print(args, &result);
    gb_classifier_close(&c);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return status;
}

const cli_command cmd_eval = {
    "eval", "DIR-or-MODEL", "loss and accuracy on the test set", run, 1, 1, NULL};
