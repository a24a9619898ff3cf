/* gimbal predict: the classes of image files. */
#include "tools/cli.h"

#include <stdio.h>
#include <stdlib.h>

#include <gimbal/classifier.h>

typedef struct job {
    const cli_args *args;
    gb_classifier *classifier;
    gb_class_score *scores;
    int top;
    json_t *predictions;
} job;

static json_t *classes_json(const gb_class_score *scores, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:i, s:s, s:o}", "index", scores[i].index, "label",
                                              scores[i].label, "probability",
                                              cli_number(scores[i].probability)));
    return list;
}

static gb_status predict_all(job *j, gb_error *err)
{
    for (int i = 0; i < j->args->n_files - 1; i++) {
        const char *file = j->args->files[i + 1];
        int n;
        gb_status s = gb_classifier_predict(j->classifier, file, j->scores, j->top, &n, err);
        if (s) return s;
        json_array_append_new(j->predictions, json_pack("{s:s, s:o}", "input", file, "classes",
                                                        classes_json(j->scores, n)));
        if (cli_json(j->args)) continue;
        printf("%s\n", file);
        for (int k = 0; k < n; k++)
            printf("  %6.2f %%  %d %s\n", 100 * j->scores[k].probability, j->scores[k].index,
                   j->scores[k].label);
    }
    return GB_OK;
}

static int predict(job *j)
{
    const cli_args *args = j->args;
    gb_error err = {0};
    gb_context *ctx;
    gb_device *dev;
    if (cli_open(args, &ctx, &dev, &err)) return cli_fail(args, &err);
    gb_status s = gb_classifier_open(dev, args->files[0], args->sets.items, args->sets.n, false,
                                     &j->classifier, &err);
    if (!s) s = predict_all(j, &err);
    int status = CLI_DONE;
    if (s)
        status = cli_fail(args, &err);
    else if (cli_json(args))
        status = cli_print_json(args, json_pack("{s:O}", "predictions", j->predictions));
    gb_classifier_close(&j->classifier);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return status;
}

static int run(cli_args *args)
{
    int64_t top;
    if (!cli_int(args, OPT_TOP, 1, 5, &top)) return CLI_USAGE;
    if (top > 100000) top = 100000;
    job j = {.args = args,
             .top = (int)top,
             .scores = calloc((size_t)top, sizeof *j.scores),
             .predictions = json_array()};
    gb_error no_memory = {.status = GB_OUT_OF_MEMORY, .message = "no memory"};
    int status = j.scores && j.predictions ? predict(&j) : cli_fail(args, &no_memory);
    free(j.scores);
    json_decref(j.predictions);
    return status;
}

static const cli_option options[] = {OPT_TOP, OPT_COUNT};
const cli_command cmd_predict = {
    "predict", "DIR-or-MODEL FILE...", "the classes of images (PNG, JPEG)", run, 2, -1, options};
