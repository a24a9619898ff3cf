/* Where a training step's time goes: the step of a recipe on noise, by layer or by kind of step.
 *
 * usage: bench_step RECIPE DEVICE CHANNELS SIZE [all] [KEY=VALUE…] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gimbal/train.h>

#define CHECK(call)                                                                                \
    if (call) {                                                                                    \
        fprintf(stderr, "%s: %s (%s)\n", err.input, err.message, err.hint);                        \
        return 1;                                                                                  \
    }

enum { MAX_ROWS = 4000, STEPS = 5 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The least seconds of each row over several profiles. */
static int profile(gb_program *p, gb_step_time *least, gb_error *err)
{
    int n = 0;
    for (int k = 0; k < STEPS; k++) {
        const gb_step_time *rows;
        if (gb_program_profile(p, &rows, &n, err)) return -1;
        for (int i = 0; i < n && i < MAX_ROWS; i++)
            if (k == 0 || rows[i].seconds < least[i].seconds) least[i] = rows[i];
    }
    return n;
}

static void print_kinds(const gb_step_time *row, int n)
{
    double total = 0;
    for (int i = 0; i < n; i++) total += row[i].seconds;
    for (int i = 0; i < n; i++) {
        double seconds = 0, flops = 0, bytes = 0;
        int count = 0;
        bool seen = false;
        for (int j = 0; j < n; j++) {
            if (strcmp(row[i].kind, row[j].kind) || strcmp(row[i].phase, row[j].phase)) continue;
            seen = seen || j < i;
            seconds += row[j].seconds;
            flops += row[j].flops;
            bytes += row[j].bytes;
            count++;
        }
        if (seen) continue;
        printf("%-9s %-14s %4d  %8.3f ms %5.1f %%  %7.1f GFLOP/s %6.1f GB/s\n", row[i].phase,
               row[i].kind, count, seconds * 1e3, 100 * seconds / total, flops / seconds * 1e-9,
               bytes / seconds * 1e-9);
    }
    printf("total %.3f ms in %d steps\n", total * 1e3, n);
}

int main(int argc, char **argv)
{
    if (argc < 5) return 2;
    gb_error err = {0};
    gb_context *ctx;
    gb_device *dev;
    gb_recipe *recipe;
    gb_dataset *data;
    gb_trainer *trainer;
    gb_program *program;
    bool all = argc > 5 && strcmp(argv[5], "all") == 0;
    int size = atoi(argv[4]), channels = atoi(argv[3]), first = all ? 6 : 5;
    CHECK(gb_context_create(NULL, &ctx, &err))
    CHECK(gb_device_open(ctx, argv[2], &dev, &err))
    CHECK(gb_recipe_read(argv[1], (const char *const *)argv + first, (size_t)(argc - first),
                         &recipe, &err))
    CHECK(gb_dataset_create(&data, "noise", channels, size, size, 10, NULL, &err))
    CHECK(gb_trainer_create(dev, recipe, data, &trainer, &err))
    double start = now();
    CHECK(gb_trainer_program(trainer, &program, &err))
    printf("made in %.0f ms\n", (now() - start) * 1e3);
    gb_shape shape = gb_shape_of(4, (int)recipe->batch, channels, size, size);
    gb_tensor images;
    CHECK(gb_tensor_alloc(&images, GB_F32, &shape, &err))
    int32_t *labels = calloc((size_t)recipe->batch, sizeof *labels);
    if (!labels) return 1;
    for (int64_t i = 0; i < gb_shape_count(&shape); i++)
        gb_tensor_set(&images, i, (double)((uint32_t)i * 2654435761u) * 0x1p-32 - 0.5);
    gb_step_result result; /* sets the program's inputs and scalars */
    CHECK(gb_trainer_step(trainer, &images, labels, 1e-3, &result, &err))
    static gb_step_time row[MAX_ROWS];
    int n = profile(program, row, &err);
    CHECK(n < 0)
    for (int i = 0; all && i < n; i++)
        printf("%-9s %-14s %-40s %8.3f ms %7.1f GFLOP/s %6.1f GB/s\n", row[i].phase, row[i].kind,
               row[i].path, row[i].seconds * 1e3, row[i].flops / row[i].seconds * 1e-9,
               row[i].bytes / row[i].seconds * 1e-9);
    print_kinds(row, n);
    double best = 1e9;
    for (int i = 0; i < STEPS; i++) {
        start = now();
        CHECK(gb_program_run(program, &err))
        CHECK(gb_device_wait(dev, &err))
        if (now() - start < best) best = now() - start;
    }
    printf("step %.3f ms\n", best * 1e3);
    free(labels);
    gb_tensor_free(&images);
    gb_trainer_destroy(&trainer);
    gb_dataset_destroy(&data);
    gb_recipe_destroy(&recipe);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return 0;
}
