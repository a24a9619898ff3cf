/* Inference of an ONNX model, steps and whole runs.
 *
 * usage: bench_forward MODEL.onnx DEVICE [all] [fast] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gimbal/onnx.h>
#include <gimbal/program.h>

#define CHECK(call)                                                                                \
    if (call) {                                                                                    \
        fprintf(stderr, "%s: %s (%s)\n", err.input, err.message, err.hint);                        \
        return 1;                                                                                  \
    }

enum { MAX_RUNS = 5000 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    gb_error err = {0};
    gb_context *ctx;
    gb_device *dev;
    gb_graph *graph;
    gb_store *store;
    gb_program *program;
    bool all = argc > 3 && strcmp(argv[3], "all") == 0;
    CHECK(gb_context_create(NULL, &ctx, &err))
    CHECK(gb_device_open(ctx, argv[2], &dev, &err))
    gb_onnx_options onnx = {.batch = 1};
    CHECK(gb_onnx_read(argv[1], &onnx, &graph, &err))
    CHECK(gb_store_create(dev, &store, &err))
    bool fast = argc > 3 && strcmp(argv[argc - 1], "fast") == 0;
    gb_program_options options = {.math = fast ? GB_MATH_FAST : GB_MATH_EXACT};
    CHECK(gb_program_create(store, graph, &options, &program, &err))
    gb_value v = gb_graph_input_at(graph, 0);
    gb_shape shape = gb_value_shape(graph, v);
    gb_tensor x, y;
    const char *output;
    gb_graph_output_at(graph, 0, &output);
    CHECK(gb_tensor_alloc(&x, GB_F32, &shape, &err))
    for (int64_t i = 0; i < gb_shape_count(&shape); i++) gb_tensor_set(&x, i, sin(1.7 * (double)i));
    static double seconds[MAX_RUNS];
    int n = 0;
    for (double start = now(); n < MAX_RUNS && now() - start < 2; n++) {
        double begin = now();
        CHECK(gb_program_set_input(program, gb_value_name(graph, v), &x, &err))
        CHECK(gb_program_run(program, &err))
        CHECK(gb_program_output(program, output, &y, &err))
        gb_tensor_free(&y);
        seconds[n] = now() - begin;
    }
    qsort(seconds, (size_t)n, sizeof *seconds, by_value);
    const gb_step_time *row;
    int rows;
    double total = 0;
    CHECK(gb_program_profile(program, &row, &rows, &err))
    for (int i = 0; i < rows; i++) total += row[i].seconds;
    for (int i = 0; all && i < rows; i++)
        printf("%-14s %-12s %-24s %8.4f ms %7.1f GFLOP/s %6.1f GB/s\n", row[i].kind, row[i].variant,
               row[i].path, row[i].seconds * 1e3, row[i].flops / row[i].seconds * 1e-9,
               row[i].bytes / row[i].seconds * 1e-9);
    printf("run min %.3f median %.3f ms; %d steps %.3f ms\n", seconds[0] * 1e3,
           seconds[n / 2] * 1e3, rows, total * 1e3);
    gb_tensor_free(&x);
    gb_program_destroy(&program);
    gb_store_destroy(&store);
    gb_graph_destroy(&graph);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return 0;
}
