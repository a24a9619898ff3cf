/* gimbal's side of tools/bench: keeps a model on a device and times calls as it is told, so that it
 * and its peers take turns in one run. Speaks tests/bench/worker.py's protocol: a line
 * "CALL SECONDS CALLS" on standard input (at least so long, and so often) is answered by a line of
 * JSON: {"ms": [...]}, or {"error": "..."}.
 *
 * usage: bench_worker [--isa NAME] DEVICE RECIPE [KEY=VALUE...]       calls: step, forward, memory
 *        bench_worker [--isa NAME] DEVICE MODEL.onnx BATCH            calls: forward, memory */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <gimbal/onnx.h>

#include "core/base/clock.h"
#include "core/bench/bench.h"

enum { MAX_CALLS = 5000 };
#define LONG_CALL 0.3

typedef struct worker {
    gb_context *ctx;
    gb_device *dev;
    gb_recipe *recipe;
    gb_bench_job job; /* of a recipe */
    gb_graph *graph;  /* of an ONNX model */
    gb_store *store;
    gb_program *program;
    gb_tensor images;
    double last;    /* seconds of the last call */
    long start_kib; /* resident memory before anything was done */
} worker;

static long resident_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static gb_status open_onnx(worker *w, const char *path, int64_t batch, gb_error *err)
{
    gb_onnx_options options = {.batch = batch};
    gb_status s = gb_onnx_read(path, &options, &w->graph, err);
    if (s) return s;
    gb_value input = gb_graph_input_at(w->graph, 0);
    gb_shape shape = gb_value_shape(w->graph, input);
    s = gb_tensor_alloc(&w->images, gb_value_dtype(w->graph, input), &shape, err);
    if (s) return s;
    gb_bench_fill(&w->images); /* of integers, such as those of words: 0 */
    s = gb_store_create(w->dev, &w->store, err);
    const gb_program_options fast = {.math = GB_MATH_FAST}; /* as gimbal run has it */
    return s ? s : gb_program_create(w->store, w->graph, &fast, &w->program, err);
}

/* argv: DEVICE and what follows it. */
static gb_status open_all(worker *w, const char *isa, int argc, char **argv, gb_error *err)
{
    size_t length = strlen(argv[1]);
    const gb_context_options options = {.isa = isa};
    gb_status s = gb_context_create(&options, &w->ctx, err);
    if (!s) s = gb_device_open(w->ctx, argv[0], &w->dev, err);
    if (!s && length > 5 && strcmp(argv[1] + length - 5, ".onnx") == 0)
        return open_onnx(w, argv[1], argc > 2 ? atoll(argv[2]) : 1, err);
    if (!s)
        s = gb_recipe_read(argv[1], (const char *const *)argv + 2, (size_t)argc - 2, &w->recipe,
                           err);
    return s ? s : gb_bench_job_open(w->dev, w->recipe, &w->job, err);
}

static void close_all(worker *w)
{
    if (w->recipe) gb_bench_job_close(&w->job);
    gb_recipe_destroy(&w->recipe);
    gb_tensor_free(&w->images);
    gb_program_destroy(&w->program);
    gb_store_destroy(&w->store);
    gb_graph_destroy(&w->graph);
    gb_device_close(&w->dev);
    gb_context_destroy(&w->ctx);
}

static gb_status infer_onnx(void *user, gb_error *err)
{
    worker *w = user;
    gb_tensor y = {0};
    const char *output = NULL;
    gb_graph_output_at(w->graph, 0, &output);
    const char *input = gb_value_name(w->graph, gb_graph_input_at(w->graph, 0));
    gb_status s = gb_program_set_input(w->program, input, &w->images, err);
    if (!s) s = gb_program_run(w->program, err);
    if (!s) s = gb_program_output(w->program, output, &y, err);
    gb_tensor_free(&y);
    return s;
}

/* Times are of calls in a row: the host may prepare one while another runs. The first call of its
 * kind warms up, and that of every line where calls are short; with no seconds asked, none does. */
static void time_calls(worker *w, gb_bench_call *call, void *user, double seconds, int least)
{
    static double ms[MAX_CALLS];
    gb_error err = {0};
    gb_status s = GB_OK;
    int n = 0;
    if (seconds > 0 && w->last < LONG_CALL) s = call(user, &err);
    double start = gb_clock(), last = start;
    while (!s && n < MAX_CALLS && (n < least || last - start < seconds)) {
        s = call(user, &err);
        double now = gb_clock();
        ms[n++] = 1e3 * (now - last);
        last = now;
    }
    if (s) {
        fprintf(stderr, "%s: %s\n", err.input, err.message);
        printf("{\"error\": \"gimbal failed: see its log\"}\n");
        return;
    }
    w->last = n ? ms[n - 1] * 1e-3 : 0;
    for (int i = 0; i < n; i++) printf("%s%.4f", i ? ", " : "{\"ms\": [", ms[i]);
    printf("]}\n");
}

static void obey(worker *w, const char *call, double seconds, int least)
{
    if (strcmp(call, "memory") == 0)
        printf("{\"start_bytes\": %ld, \"peak_bytes\": %ld}\n", w->start_kib * 1024,
               resident_kib() * 1024);
    else if (w->recipe && strcmp(call, "step") == 0)
        time_calls(w, gb_bench_step, &w->job, seconds, least);
    else if (strcmp(call, "forward") == 0)
        time_calls(w, w->recipe ? gb_bench_forward : infer_onnx, w->recipe ? (void *)&w->job : w,
                   seconds, least);
    else
        printf("{\"error\": \"no call of that name\"}\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    worker w = {.start_kib = resident_kib()};
    gb_error err = {0};
    char call[40];
    double seconds;
    int least;
    bool limited = argc > 2 && strcmp(argv[1], "--isa") == 0;
    int first = limited ? 3 : 1;
    if (argc < first + 2) return 2;
    gb_status s = open_all(&w, limited ? argv[2] : NULL, argc - first, argv + first, &err);
    if (s)
        fprintf(stderr, "%s: %s (%s)\n", err.input, err.message, err.hint);
    else
        printf("{\"ready\": true}\n");
    fflush(stdout);
    while (!s && scanf("%39s %lf %d", call, &seconds, &least) == 3) obey(&w, call, seconds, least);
    close_all(&w);
    return s != GB_OK;
}
