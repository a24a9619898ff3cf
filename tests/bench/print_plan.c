/* What the memory of a training step is taken by: its steps, operands and bytes alive, then the
 * least that its order allows beside what the plan takes; with `run`, what the process then holds.
 *
 * usage: print_plan RECIPE DEVICE CHANNELS SIZE [steps|run] [KEY=VALUE…] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/passes/memory.h"
#include "core/passes/passes.h"
#include "core/runtime/runtime.h"
#include "core/train/trainer.h"

#define CHECK(call)                                                                                \
    if (call) {                                                                                    \
        fprintf(stderr, "%s: %s (%s)\n", err.input, err.message, err.hint);                        \
        return 1;                                                                                  \
    }

static void ask(void *device, const gb_step *step, gb_answer *answer)
{
    gb_device *d = device;
    d->backend->query(d->dev, step, answer);
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static void print_operand(const gb_plan *p, const gb_operand *o, char mark)
{
    static const char *const roles[] = {"scalars", "const", "state", "in", "out", "t", "arena"};
    if (o->buffer < 0) return;
    const gb_plan_buffer *b = &p->buffer[o->buffer];
    printf(" %c%s%d", mark, roles[b->role], o->buffer);
    if (b->role == GB_BUF_TRANSIENT) printf("(%.2f)", mib(b->bytes));
}

/* Bytes of transient buffers and scratch that live at each step; the most of them. */
static uint64_t print_steps(const gb_plan *p, const uint64_t *scratch, bool steps)
{
    int *first = malloc((size_t)p->n_buffers * sizeof *first),
        *last = malloc((size_t)p->n_buffers * sizeof *last);
    uint64_t most = 0;
    if (!first || !last) exit(1);
    for (int b = 0; b < p->n_buffers; b++) first[b] = p->n_steps, last[b] = -1;
    for (int i = 0; i < p->n_steps; i++) {
        const gb_step *s = &p->step[i];
        for (int k = 0; k < s->n_in + s->n_out; k++) {
            int b = k < s->n_in ? s->in[k].buffer : s->out[k - s->n_in].buffer;
            if (b < 0) continue;
            if (i < first[b]) first[b] = i;
            last[b] = i;
        }
    }
    for (int i = 0; i < p->n_steps; i++) {
        const gb_step *s = &p->step[i];
        uint64_t live = scratch[i];
        for (int b = 0; b < p->n_buffers; b++)
            if (p->buffer[b].role == GB_BUF_TRANSIENT && first[b] <= i && last[b] >= i)
                live += p->buffer[b].bytes;
        if (live > most) most = live;
        if (!steps) continue;
        printf("%4d %8.1f %-8s %-12s %-34s", i, mib(live), s->phase, gb_step_kind_name(s->kind),
               s->path);
        if (scratch[i]) printf(" scratch %.2f", mib(scratch[i]));
        for (int k = 0; k < s->n_in; k++) print_operand(p, &s->in[k], '<');
        for (int k = 0; k < s->n_out; k++) print_operand(p, &s->out[k], '>');
        printf("\n");
    }
    free(first);
    free(last);
    return most;
}

/* A step on noise, and the resident memory of the process at its highest. */
static int run(gb_trainer *trainer, const gb_recipe *recipe, int channels, int size)
{
    gb_error err = {0};
    gb_shape shape = gb_shape_of(4, (int)recipe->batch, channels, size, size);
    gb_tensor images;
    gb_step_result result;
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    CHECK(gb_trainer_prepare(trainer, recipe->batch, &err))
    CHECK(gb_tensor_alloc(&images, GB_F32, &shape, &err))
    int32_t *labels = calloc((size_t)recipe->batch, sizeof *labels);
    if (!labels) return 1;
    for (int64_t i = 0; i < gb_shape_count(&shape); i++)
        gb_tensor_set(&images, i, (double)((uint32_t)i * 2654435761u) * 0x1p-32 - 0.5);
    CHECK(gb_trainer_step(trainer, &images, labels, 1e-3, &result, &err))
    getrusage(RUSAGE_SELF, &after);
    printf("loss %.9g, planned %.1f MiB, resident at most %.1f MiB, %.1f before\n", result.loss,
           mib(gb_trainer_planned_bytes(trainer)), (double)after.ru_maxrss / 1024,
           (double)before.ru_maxrss / 1024);
    free(labels);
    gb_tensor_free(&images);
    return 0;
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
    bool steps = argc > 5 && strcmp(argv[5], "steps") == 0,
         go = argc > 5 && strcmp(argv[5], "run") == 0;
    int size = atoi(argv[4]), channels = atoi(argv[3]), first = steps || go ? 6 : 5;
    CHECK(gb_context_create(NULL, &ctx, &err))
    CHECK(gb_device_open(ctx, argv[2], &dev, &err))
    CHECK(gb_recipe_read(argv[1], (const char *const *)argv + first, (size_t)(argc - first),
                         &recipe, &err))
    CHECK(gb_dataset_create(&data, "noise", channels, size, size, 10, NULL, &err))
    CHECK(gb_trainer_create(dev, recipe, data, &trainer, &err))
    if (go) CHECK(run(trainer, recipe, channels, size))
    gb_graph *g = gb_graph_create();
    gb_plan *plan;
    if (!g) return 1;
    CHECK(gb_build_step(trainer, g, recipe->batch, &err))
    CHECK(gb_lower(g, NULL, &plan, &err))
    uint64_t *scratch = calloc((size_t)plan->n_steps, sizeof *scratch);
    for (int i = 0; scratch && i < plan->n_steps; i++) {
        gb_answer answer = {0};
        ask(dev, &plan->step[i], &answer);
        scratch[i] = answer.scratch_bytes;
    }
    uint64_t most = print_steps(plan, scratch, steps);
    gb_memory_limits limits = {.device = argv[2]};
    CHECK(gb_plan_memory(plan, ask, dev, &limits, &err))
    printf("alive at most %.1f MiB, arenas %.1f MiB, states %.1f MiB, others %.1f MiB\n", mib(most),
           mib(plan->arena_bytes), mib(plan->state_bytes), mib(plan->other_bytes));
    free(scratch);
    gb_plan_free(plan);
    gb_graph_destroy(&g);
    gb_trainer_destroy(&trainer);
    gb_dataset_destroy(&data);
    gb_recipe_destroy(&recipe);
    gb_device_close(&dev);
    gb_context_destroy(&ctx);
    return 0;
}
