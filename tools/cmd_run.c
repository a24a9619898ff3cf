/* gimbal run: any ONNX model on arrays from files. */
#include "tools/cli.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/file.h>
#include <gimbal/onnx.h>
#include <gimbal/program.h>

typedef struct job {
    const cli_args *args;
    gb_tensors inputs;
    gb_graph *graph;
    gb_context *ctx;
    gb_device *dev;
    gb_store *store;
    gb_program *program;
    json_t *outputs;
    double seconds;
    gb_error err;
} job;

static gb_status read_inputs(job *j)
{
    for (size_t i = 0; i < j->args->inputs.n; i++) {
        const char *text = j->args->inputs.items[i], *equals = strchr(text, '=');
        if (!equals || equals == text)
            return gb_fail(&j->err, GB_INVALID, text, "write --input NAME=FILE.npy",
                           "an input needs a name and a file");
        gb_tensor t = {0}, *kept;
        gb_status s = gb_npy_read(&t, equals + 1, &j->err);
        char *name = s ? NULL : strndup(text, (size_t)(equals - text));
        if (!s && !name) s = gb_fail(&j->err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory");
        if (!s) s = gb_tensors_create(&j->inputs, name, t.dtype, &t.shape, &kept, &j->err);
        if (!s) memcpy(kept->data, t.data, gb_tensor_bytes(&t));
        free(name);
        gb_tensor_free(&t);
        if (s) return s;
    }
    return GB_OK;
}

static gb_status set_inputs(job *j)
{
    gb_value v;
    for (size_t i = 0; (v = gb_graph_input_at(j->graph, i)) != GB_NONE; i++) {
        const char *name = gb_value_name(j->graph, v);
        const gb_tensor *t = gb_tensors_find(&j->inputs, name);
        gb_shape shape = gb_value_shape(j->graph, v);
        char text[96], hint[200];
        if (!t) {
            snprintf(hint, sizeof hint, "add --input %s=FILE.npy (%s %s)", name,
                     gb_dtype_name(gb_value_dtype(j->graph, v)),
                     gb_shape_text(&shape, text, sizeof text));
            return gb_fail(&j->err, GB_INVALID, name, hint, "the model's input '%s' is not given",
                           name);
        }
        gb_status s = gb_program_set_input(j->program, name, t, &j->err);
        if (s) return s;
    }
    return GB_OK;
}

/* A file for output number i: its name without what a file name cannot hold. */
static gb_status write_output(job *j, size_t i, const char *name, const gb_tensor *t)
{
    char file[120];
    int n = 0;
    for (const char *p = name; *p && n < 90; p++)
        file[n++] = isalnum((unsigned char)*p) || strchr("_-.", *p) ? *p : '_';
    snprintf(file + n, sizeof file - (size_t)n, ".npy");
    if (file[0] == '.') snprintf(file, sizeof file, "output%zu.npy", i);
    for (size_t k = 0; k < i; k++) { /* two names may differ in such characters only */
        const char *other =
            json_string_value(json_object_get(json_array_get(j->outputs, k), "file"));
        const char *base = other ? strrchr(other, '/') : NULL;
        if (base && strcmp(base + 1, file) == 0) snprintf(file, sizeof file, "output%zu.npy", i);
    }
    char *path = gb_path_join(j->args->value[OPT_OUT], file);
    if (!path) return gb_fail(&j->err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory");
    gb_status s = gb_npy_write(t, path, &j->err);
    json_t *shape = json_array();
    for (int d = 0; d < t->shape.rank; d++)
        json_array_append_new(shape, json_integer(t->shape.dim[d]));
    json_array_append_new(j->outputs,
                          json_pack("{s:s, s:o, s:s, s:s}", "name", name, "shape", shape, "dtype",
                                    gb_dtype_name(t->dtype), "file", path));
    free(path);
    return s;
}

static gb_status read_outputs(job *j)
{
    const char *name;
    for (size_t i = 0; gb_graph_output_at(j->graph, i, &name) != GB_NONE; i++) {
        gb_tensor t = {0};
        gb_status s = gb_program_output(j->program, name, &t, &j->err);
        if (!s) s = write_output(j, i, name, &t);
        gb_tensor_free(&t);
        if (s) return s;
    }
    return GB_OK;
}

static gb_status work(job *j)
{
    gb_onnx_options options = {.values = &j->inputs};
    gb_status s;
    if ((s = read_inputs(j))) return s;
    if ((s = gb_onnx_read(j->args->files[0], &options, &j->graph, &j->err))) return s;
    if ((s = cli_open(j->args, &j->ctx, &j->dev, &j->err))) return s;
    if ((s = gb_store_create(j->dev, &j->store, &j->err))) return s;
    const gb_program_options fast = {.math = GB_MATH_FAST};
    if ((s = gb_program_create(j->store, j->graph, &fast, &j->program, &j->err))) return s;
    if ((s = gb_make_dirs(j->args->value[OPT_OUT], &j->err)) || (s = set_inputs(j))) return s;
    double start = cli_seconds();
    if ((s = gb_program_run(j->program, &j->err))) return s;
    if ((s = gb_device_wait(j->dev, &j->err))) return s;
    j->seconds = cli_seconds() - start;
    return read_outputs(j);
}

static void print_text(const job *j)
{
    size_t i;
    json_t *o;
    json_array_foreach(j->outputs, i, o)
    {
        printf("%s %s [", json_string_value(json_object_get(o, "name")),
               json_string_value(json_object_get(o, "dtype")));
        json_t *shape = json_object_get(o, "shape"), *d;
        size_t k;
        json_array_foreach(shape, k, d)
            printf("%s%lld", k ? ", " : "", (long long)json_integer_value(d));
        printf("] -> %s\n", json_string_value(json_object_get(o, "file")));
    }
    printf("%.3f s on %s\n", j->seconds, gb_device_get_info(j->dev)->id);
}

static int run(cli_args *args)
{
    if (!args->value[OPT_OUT])
        return cli_usage_fail(args, "add --out DIR", "there is no folder for the outputs");
    job j = {.args = args, .outputs = json_array()};
    int status = CLI_DONE;
    if (work(&j))
        status = cli_fail(args, &j.err);
    else if (cli_json(args))
        status = cli_print_json(
            args, json_pack("{s:O, s:o}", "outputs", j.outputs, "seconds", cli_number(j.seconds)));
    else
        print_text(&j);
    gb_program_destroy(&j.program);
    gb_store_destroy(&j.store);
    gb_device_close(&j.dev);
    gb_context_destroy(&j.ctx);
    gb_graph_destroy(&j.graph);
    gb_tensors_free(&j.inputs);
    json_decref(j.outputs);
    return status;
}

static const cli_option options[] = {OPT_INPUT, OPT_COUNT};
const cli_command cmd_run = {"run", "MODEL.onnx", "runs an ONNX model on arrays (.npy)", run, 1,
                             1,     options};
