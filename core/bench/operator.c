/* One operator from text: its graph, forward and with gradients. */
#include "core/bench/bench.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INPUTS = 8 };

typedef struct spec {
    char op[40];
    gb_shape shape[MAX_INPUTS];
    int n;
    int64_t stride, pad, dilation, kernel; /* 0: not given */
} spec;

static gb_status bad_spec(const char *text, const char *part, gb_error *err)
{
    return gb_fail(err, GB_INVALID, text,
                   "for example \"MatMul 1024x1024x1024\" or \"Conv 128x64x32x32 64x64x3x3 s1 p1\"",
                   "'%s' is no shape and no option", part);
}

static bool parse_shape(const char *word, gb_shape *shape)
{
    shape->rank = 0;
    while (isdigit((unsigned char)*word) && shape->rank < GB_MAX_RANK) {
        char *end;
        shape->dim[shape->rank++] = strtoll(word, &end, 10);
        word = end;
        if (!*word) return gb_shape_count(shape) > 0;
        if (*word++ != 'x') return false;
    }
    return false;
}

static bool parse_option(const char *word, spec *s)
{
    int64_t *to = *word == 's'   ? &s->stride
                  : *word == 'p' ? &s->pad
                  : *word == 'd' ? &s->dilation
                  : *word == 'k' ? &s->kernel
                                 : NULL;
    char *end;
    if (!to || !isdigit((unsigned char)word[1])) return false;
    *to = strtoll(word + 1, &end, 10);
    return !*end;
}

static gb_status parse(const char *text, spec *s, gb_error *err)
{
    char copy[200];
    *s = (spec){.n = 0};
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return gb_fail(err, GB_INVALID, text, NULL, "the text is too long");
    char *rest = copy, *word = strsep(&rest, " ");
    snprintf(s->op, sizeof s->op, "%s", word);
    while ((word = strsep(&rest, " "))) {
        if (!*word) continue;
        if (s->n < MAX_INPUTS && parse_shape(word, &s->shape[s->n]))
            s->n++;
        else if (!parse_option(word, s))
            return bad_spec(text, word, err);
    }
    if (s->n == 0) return bad_spec(text, "", err);
    if (strcmp(s->op, "MatMul") == 0 && s->n == 1 && s->shape[0].rank == 3) { /* M x N x K */
        const int64_t *d = s->shape[0].dim, m = d[0], n = d[1], k = d[2];
        s->shape[0] = (gb_shape){2, {m, k}};
        s->shape[1] = (gb_shape){2, {k, n}};
        s->n = 2;
    }
    return GB_OK;
}

/* --- graphs --- */

static gb_value add_operator(gb_graph *g, const spec *s, const gb_value *in)
{
    int64_t kernel[] = {s->kernel, s->kernel}, stride[] = {s->stride, s->stride};
    int64_t pads[] = {s->pad, s->pad, s->pad, s->pad}, dilation[] = {s->dilation, s->dilation};
    size_t axes = s->shape[0].rank == 3 ? 1 : 2, n = 0;
    gb_attr attrs[5];
    if (s->kernel) attrs[n++] = GB_INTS("kernel_shape", kernel, axes);
    if (s->stride) attrs[n++] = GB_INTS("strides", stride, axes);
    if (s->pad) attrs[n++] = GB_INTS("pads", pads, 2 * axes);
    if (s->dilation) attrs[n++] = GB_INTS("dilations", dilation, axes);
    if (strcmp(s->op, "Conv") == 0 && s->n > 1 && s->shape[1].dim[1] > 0)
        attrs[n++] = GB_INT("group", s->shape[0].dim[1] / s->shape[1].dim[1]);
    return gb_op_list(g, s->op, in, (size_t)s->n, n ? attrs : NULL, n);
}

/* y, and with gradients also those of all inputs for a loss sum(y r). */
static gb_status build(const spec *s, bool gradients, gb_graph *g, gb_error *err)
{
    gb_value in[MAX_INPUTS], grad[MAX_INPUTS];
    gb_graph_path(g, s->op);
    for (int i = 0; i < s->n; i++) {
        char name[8];
        snprintf(name, sizeof name, "x%d", i);
        in[i] = gb_graph_input(g, name, GB_F32, &s->shape[i]);
    }
    gb_value y = add_operator(g, s, in);
    gb_graph_output(g, "y", y);
    gb_status status = gb_graph_check(g, err);
    if (status || !gradients) return status;
    gb_shape shape = gb_value_shape(g, y);
    gb_value r = gb_graph_input(g, "r", GB_F32, &shape);
    gb_value loss = GB_OP(g, "ReduceSum", GB_ARGS(gb_op2(g, "Mul", y, r)), GB_INT("keepdims", 0));
    status = gb_graph_gradient(g, loss, in, (size_t)s->n, grad);
    for (int i = 0; !status && i < s->n; i++) {
        char name[8];
        snprintf(name, sizeof name, "d%d", i);
        if (grad[i] != GB_NONE) gb_graph_output(g, name, grad[i]);
    }
    return status ? status : gb_graph_check(g, err);
}

static gb_status fill_inputs(gb_program *program, const gb_graph *g, gb_error *err)
{
    gb_value v;
    gb_status s = GB_OK;
    for (size_t i = 0; !s && (v = gb_graph_input_at(g, i)) != GB_NONE; i++) {
        gb_tensor t = {0};
        gb_shape shape = gb_value_shape(g, v);
        s = gb_tensor_alloc(&t, GB_F32, &shape, err);
        if (!s) gb_bench_fill(&t);
        if (!s) s = gb_program_set_input(program, gb_value_name(g, v), &t, err);
        gb_tensor_free(&t);
    }
    return s;
}

typedef struct program_job {
    gb_device *dev;
    gb_program *program;
} program_job;

static gb_status run_program(void *user, gb_error *err)
{
    program_job *j = user;
    gb_status s = gb_program_run(j->program, err);
    return s ? s : gb_device_wait(j->dev, err);
}

static gb_status measure(gb_device *dev, gb_graph *g, const char *name, const char *phase,
                         gb_bench *bench, gb_error *err)
{
    gb_store *store = NULL;
    program_job j = {.dev = dev};
    double flops = 0;
    gb_status s = gb_store_create(dev, &store, err);
    if (!s) s = gb_program_create(store, g, NULL, &j.program, err);
    if (!s) s = fill_inputs(j.program, g, err);
    if (!s) s = gb_bench_flops(j.program, NULL, &flops, err);
    if (!s) s = gb_bench_measure(bench, name, phase, flops, run_program, &j, err);
    gb_program_destroy(&j.program);
    gb_store_destroy(&store);
    return s;
}

gb_status gb_bench_operator(gb_device *dev, const char *text, gb_bench *bench, gb_error *err)
{
    static const char *const phases[] = {"forward", "step"};
    spec sp;
    gb_status s = parse(text, &sp, err);
    for (int i = 0; !s && i < (bench->forward_only ? 1 : 2); i++) {
        gb_graph *g = gb_graph_create();
        if (!g) return gb_fail(err, GB_OUT_OF_MEMORY, text, NULL, "no memory for a graph");
        s = build(&sp, i == 1, g, err);
        bool no_gradient =
            i == 1 && s == GB_UNSUPPORTED; /* written down in the table: no failure */
        if (!s) s = measure(dev, g, text, phases[i], bench, err);
        if (no_gradient) s = GB_OK;
        gb_graph_destroy(&g);
    }
    return s;
}
