/* Matrix products and convolutions: plan steps turned into the contractions of kernels/. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/cpu.h"
#include "backends/cpu/tile.h"

typedef struct {
    gb_contraction_plan plan;
    int a, b;               /* which operands of the step are a and b */
    int64_t outer;          /* runs of the plan: batch axes beyond the two that it takes */
    int64_t rows;           /* of the epilogue's space in one run */
    gb_walk walk[3];        /* a, b, c over the outer axes */
    gb_tile_prog *epilogue; /* NULL: none, or built into the kernel */
    int bias;               /* operand added to each row by the kernel; 0: none */
    bool limited;
    gb_limits limits;
    int64_t columns;
} contraction;

/* --- the problem --- */

/* Batch axes of a product, merged where all three operands allow; operands are a, b, c. */
typedef struct {
    int rank;
    int64_t dim[GB_MAX_RANK], stride[3][GB_MAX_RANK];
} batch_axes;

static void merge_batch(const gb_step *s, const gb_operand *const *operand, batch_axes *b)
{
    *b = (batch_axes){0};
    for (int i = 0; i + 2 < s->out[0].rank; i++) {
        int64_t dim = s->out[0].dim[i];
        if (dim == 1) continue;
        int last = b->rank - 1;
        bool merge = last >= 0;
        for (int k = 0; k < 3; k++)
            merge = merge && b->stride[k][last] == operand[k]->stride[i] * dim;
        if (!merge) b->rank = (last += 1) + 1;
        b->dim[last] = merge ? b->dim[last] * dim : dim;
        for (int k = 0; k < 3; k++) b->stride[k][last] = operand[k]->stride[i];
    }
}

/* The kernels want contiguous columns in c: a c with contiguous rows is the product of the
 * transposed operands. */
static bool is_transposed(const gb_step *s)
{
    const gb_operand *c = &s->out[0];
    return c->stride[c->rank - 1] != 1 && c->dim[c->rank - 1] != 1;
}

static void product_problem(const gb_step *s, contraction *x)
{
    bool t = is_transposed(s);
    int r = s->out[0].rank, row = t ? r - 1 : r - 2, col = t ? r - 2 : r - 1;
    x->a = t ? 1 : 0;
    x->b = t ? 0 : 1;
    const gb_operand *o[3] = {&s->in[x->a], &s->in[x->b], &s->out[0]};
    gb_gemm_dims *g = &x->plan.problem.gemm;
    x->plan.problem.kind = GB_GEMM;
    *g = (gb_gemm_dims){.m = o[2]->dim[row],
                        .n = o[2]->dim[col],
                        .k = s->in[0].dim[r - 1],
                        .batch = {1, 1},
                        .a_row = o[0]->stride[row],
                        .a_col = o[0]->stride[col],
                        .b_row = o[1]->stride[row],
                        .b_col = o[1]->stride[col],
                        .c_row = o[2]->stride[row]};
    batch_axes axes;
    merge_batch(s, o, &axes);
    for (int level = 1, i = axes.rank - 1; level >= 0 && i >= 0; level--, i--) {
        g->batch[level] = axes.dim[i];
        g->a_batch[level] = axes.stride[0][i];
        g->b_batch[level] = axes.stride[1][i];
        g->c_batch[level] = axes.stride[2][i];
    }
    gb_cpu_space outer = {.rank = axes.rank > 2 ? axes.rank - 2 : 0};
    for (int i = 0; i < outer.rank; i++) {
        outer.dim[i] = axes.dim[i];
        outer.axis[i] = i;
    }
    gb_cpu_space_count(&outer);
    x->outer = outer.count;
    for (int k = 0; k < 3; k++) gb_walk_init(&x->walk[k], &outer, GB_S_I32, axes.stride[k]);
    x->rows = g->batch[0] * g->batch[1] * g->m;
    x->columns = g->n;
}

static void conv_problem(const gb_step *s, contraction *x)
{
    const gb_operand *image = s->kind == GB_STEP_CONV_INPUT ? &s->out[0] : &s->in[0];
    const gb_operand *filter = s->kind == GB_STEP_CONV_FILTER ? &s->out[0] : &s->in[1];
    const gb_operand *y = s->kind == GB_STEP_CONV         ? &s->out[0]
                          : s->kind == GB_STEP_CONV_INPUT ? &s->in[0]
                                                          : &s->in[1];
    const gb_window *w = &s->u.conv;
    gb_contraction *p = &x->plan.problem;
    p->kind = s->kind == GB_STEP_CONV         ? GB_CONV_FORWARD
              : s->kind == GB_STEP_CONV_INPUT ? GB_CONV_DATA
                                              : GB_CONV_WEIGHTS;
    p->conv = (gb_conv_dims){.n = image->dim[0],
                             .c = image->dim[1],
                             .h = image->dim[2],
                             .w = image->dim[3],
                             .o = y->dim[1],
                             .oh = y->dim[2],
                             .ow = y->dim[3],
                             .kh = filter->dim[2],
                             .kw = filter->dim[3],
                             .groups = w->groups,
                             .stride_h = w->stride[0],
                             .stride_w = w->stride[1],
                             .dilation_h = w->dilation[0],
                             .dilation_w = w->dilation[1],
                             .pad_top = w->pad[0],
                             .pad_left = w->pad[1]};
    x->a = s->kind == GB_STEP_CONV_FILTER ? 1 : 0; /* the kernels take dy first */
    x->b = 1 - x->a;
    x->outer = 1;
    const gb_operand *out = &s->out[0];
    x->rows = out->dim[0] * out->dim[2] * out->dim[3];
    x->columns = out->dim[1];
}

static gb_real real_of(gb_storage s)
{
    return s == GB_S_F16 ? GB_REAL_F16 : s == GB_S_BF16 ? GB_REAL_BF16 : GB_REAL_F32;
}

static void problem_of(const gb_step *s, contraction *x)
{
    if (s->kind == GB_STEP_MATMUL)
        product_problem(s, x);
    else
        conv_problem(s, x);
    gb_contraction *p = &x->plan.problem;
    p->b_stays = x->outer == 1 && s->fixed >> x->b & 1;
    p->a_type = real_of(s->in[x->a].storage);
    p->b_type = real_of(s->in[x->b].storage);
    p->c_type = real_of(s->out[0].storage);
}

/* --- the epilogue --- */

/* Order of axes in which the kernels number rows and columns. */
static void epilogue_space(const gb_step *s, gb_cpu_space *space)
{
    const gb_operand *o = &s->out[0];
    *space = (gb_cpu_space){.rank = o->rank};
    for (int i = 0; i < o->rank; i++) space->axis[i] = i;
    if (s->kind == GB_STEP_MATMUL) {
        if (is_transposed(s)) {
            space->axis[o->rank - 2] = o->rank - 1;
            space->axis[o->rank - 1] = o->rank - 2;
        }
    } else {
        static const int channels_last[4] = {0, 2, 3, 1};
        memcpy(space->axis, channels_last, sizeof channels_last);
    }
    for (int i = 0; i < o->rank; i++) space->dim[i] = o->dim[space->axis[i]];
    gb_cpu_space_count(space);
}

/* What a node limits, if it does; narrows the limits. -1: it is no such thing. */
static int limited_argument(const gb_expr *e, int node, gb_limits *limits)
{
    int x, c;
    gb_prim how = gb_tile_limit(e->node, &e->node[node], &x, &c);
    if (how == GB_P_SELECT) return -1;
    float limit = (float)e->node[c].imm;
    bool below = how == GB_P_MAX;
    if (below ? limit > limits->high : limit < limits->low) return -1; /* the outer one wins */
    if (below && limit > limits->low) limits->low = limit;
    if (!below && limit < limits->high) limits->high = limit;
    return x;
}

/* One f32 for each column, dense. */
static bool is_bias(const gb_step *s, int operand)
{
    gb_cpu_space space;
    gb_walk w;
    const gb_operand *o = &s->in[operand];
    epilogue_space(s, &space);
    gb_walk_init(&w, &space, o->storage, o->stride);
    int64_t columns = space.dim[space.rank - 1];
    if (o->storage != GB_S_F32 || columns == 1 || w.rank == 0) return false;
    int last = w.rank - 1;
    bool repeats = last == 0 || (last == 1 && w.stride[0] == 0);
    return repeats && w.stride[last] == 1 && w.dim[last] == columns;
}

/* Sum of the product and a bias, in either order; the bias's operand or 0. */
static int bias_operand(const gb_step *s, int node)
{
    const gb_enode *n = &s->expr->node[node];
    if (n->prim != GB_P_ADD) return 0;
    for (int k = 0; k < 2; k++) {
        const gb_enode *x = &s->expr->node[n->arg[k]], *b = &s->expr->node[n->arg[1 - k]];
        if (x->prim != GB_P_INPUT || x->imm != 0 || b->prim != GB_P_INPUT || b->imm == 0) continue;
        int operand = 1 + (int)b->imm;
        return is_bias(s, operand) ? operand : 0;
    }
    return 0;
}

static bool is_built_in(const gb_step *s, contraction *x)
{
    const gb_expr *e = s->expr;
    if (e->n_out != 1) return false;
    int node = e->out[0];
    x->limits = (gb_limits){-INFINITY, INFINITY};
    for (int inner; (inner = limited_argument(e, node, &x->limits)) >= 0; x->limited = true)
        node = inner;
    if (e->node[node].prim == GB_P_INPUT && e->node[node].imm == 0) return true;
    x->bias = bias_operand(s, node);
    return x->bias != 0;
}

/* Strides of the block that the kernels hand over, as if all of c lay there densely. */
static gb_tile_port dense_port(const gb_cpu_space *space)
{
    gb_tile_port p = {.block = true, .storage = GB_S_F32, .place = GB_MAX_STEP_OUT + 1};
    int64_t stride = 1;
    for (int i = space->rank - 1; i >= 0; i--) {
        p.stride[space->axis[i]] = stride;
        stride *= space->dim[i];
    }
    return p;
}

static gb_status make_epilogue(gb_backend_device *dev, const gb_step *s, contraction *x,
                               gb_error *err)
{
    if (!s->expr || is_built_in(s, x)) return GB_OK;
    x->limited = false;
    gb_tile_desc d = {.loops = dev->loops, .expr = s->expr};
    epilogue_space(s, &d.space);
    gb_tile_bind_step(&d, s);
    for (int k = 1; k < s->expr->n_in; k++) d.in[k] = d.in[1 + k];
    d.in[0] = d.out[0] = dense_port(&d.space);
    return gb_tile_compile(&d, &x->epilogue, err);
}

typedef struct {
    const contraction *x;
    gb_tile_env env;
    int64_t first; /* element of the epilogue's space where this run begins */
} epilogue_run;

static void run_epilogue(void *ctx, float *c, int64_t row0, int64_t rows, int64_t col0,
                         int64_t cols, int64_t ldc)
{
    const epilogue_run *r = ctx;
    const contraction *x = r->x;
    gb_tile_env env = r->env;
    char scratch[gb_tile_scratch_bytes(x->epilogue)] __attribute__((aligned(64)));
    bool whole = cols == x->columns && ldc == cols;
    gb_tile_begin(x->epilogue, scratch);
    for (int64_t i = 0; i < rows; i += whole ? rows : 1) {
        int64_t start = r->first + (row0 + i) * x->columns + col0;
        /* The space is dense from element 0 on: place c so that `start` is its block. */
        env.in[0] = env.out[0] = c + i * ldc - start;
        gb_tile_range(x->epilogue, &env, start, start + (whole ? rows * cols : cols), scratch, NULL,
                      NULL);
    }
}

/* --- making and running --- */

static void *element(void *memory, const gb_operand *o, int64_t i)
{
    return (char *)memory + i * (int64_t)gb_storage_size(o->storage);
}

static void run(const gb_cpu_step *s, const gb_cpu_workers *workers)
{
    const contraction *x = s->state;
    epilogue_run e = {.x = x};
    gb_contraction_args args = {.scratch = s->at.scratch,
                                .epilogue = {.limits = x->limited ? &x->limits : NULL}};
    if (x->bias) args.epilogue.bias = s->at.in[x->bias];
    if (x->epilogue) {
        for (int k = 1; k < s->step->n_in - 1; k++) e.env.in[k] = s->at.in[1 + k];
        for (int k = 1; k < s->step->n_out; k++) e.env.out[k] = s->at.out[k];
        gb_tile_prepare(x->epilogue, &e.env, s->at.scalars, gb_worker_scratch(workers, 0));
        args.epilogue.fn = run_epilogue;
        args.epilogue.ctx = &e;
    }
    args.packed = s->at.packed;
    args.ready = s->at.packed && !workers->renew;
    for (int64_t i = 0; i < x->outer; i++) {
        int64_t offset[3] = {0};
        for (int k = 0; k < 3 && x->outer > 1; k++) offset[k] = gb_walk_offset(&x->walk[k], i);
        e.first = i * x->rows * x->columns;
        args.a = element(s->at.in[x->a], &s->step->in[x->a], offset[0]);
        args.b = element(s->at.in[x->b], &s->step->in[x->b], offset[1]);
        args.c = element(s->at.out[0], &s->step->out[0], offset[2]);
        gb_contraction_run(&x->plan, &args);
    }
}

static void free_state(void *state)
{
    contraction *x = state;
    gb_contraction_plan_free(&x->plan);
    gb_tile_free(x->epilogue);
    free(x);
}

static gb_status make_plan(gb_backend_device *dev, const gb_step *s, contraction *x, gb_error *err)
{
    problem_of(s, x);
    gb_contraction problem = x->plan.problem;
    gb_cpu cpu = dev->cpu;
    cpu.fast_winograd = s->fast;
    if (s->variant[0]) return gb_contraction_plan_make(&cpu, &problem, s->variant, &x->plan, err);
    if (dev->variant[0] &&
        gb_contraction_plan_make(&cpu, &problem, dev->variant, &x->plan, NULL) == GB_OK)
        return GB_OK;
    return gb_contraction_plan_make(&cpu, &problem, NULL, &x->plan, err);
}

gb_status gb_cpu_make_contraction(gb_backend_device *dev, const gb_step *step, gb_cpu_step *out,
                                  gb_error *err)
{
    contraction *x = calloc(1, sizeof *x);
    if (!x)
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "close other programs",
                       "no memory to prepare a step");
    gb_status s = make_plan(dev, step, x, err);
    if (s) {
        free(x);
        return s;
    }
    s = make_epilogue(dev, step, x, err);
    if (s) {
        free_state(x);
        return s;
    }
    *out = (gb_cpu_step){.run = run,
                         .free = free_state,
                         .state = x,
                         .step = step,
                         .worker_bytes = x->epilogue ? gb_tile_scratch_bytes(x->epilogue) : 0};
    return GB_OK;
}

void gb_cpu_query_contraction(gb_backend_device *dev, const gb_step *step, gb_answer *answer)
{
    contraction x = {.a = 0};
    gb_error err;
    const gb_operand *c = &step->out[0];
    if (step->kind == GB_STEP_MATMUL && is_transposed(step) && c->stride[c->rank - 2] != 1 &&
        c->dim[c->rank - 2] != 1) {
        answer->ok = false;
        snprintf(answer->reason, sizeof answer->reason,
                 "the product's rows and columns are both strided in memory");
        return;
    }
    if (make_plan(dev, step, &x, &err)) {
        answer->ok = false;
        snprintf(answer->reason, sizeof answer->reason, "%.190s", err.message);
        return;
    }
    if (x.plan.problem.b_stays) answer->packed_bytes = (x.plan.packed_bytes + 255) / 256 * 256;
    answer->scratch_bytes = (x.plan.scratch_bytes + 255) / 256 * 256;
    snprintf(answer->variant, sizeof answer->variant, "%s", gb_contraction_plan_name(&x.plan));
    gb_contraction_plan_free(&x.plan);
}

uint64_t gb_cpu_contraction_halves(gb_backend_device *dev, const gb_step *step)
{
    contraction x = {.a = 0};
    uint64_t all = UINT64_MAX;
    if (make_plan(dev, step, &x, NULL)) return all; /* the step fails, and says why, elsewhere */
    const gb_contraction *p = &x.plan.problem;
    if (p->a_type == GB_REAL_F32) all &= ~(UINT64_C(1) << x.a);
    if (p->b_type == GB_REAL_F32) all &= ~(UINT64_C(1) << x.b);
    if (p->c_type == GB_REAL_F32) all &= ~(UINT64_C(1) << GB_MAX_STEP_IN);
    gb_contraction_plan_free(&x.plan);
    return all;
}

int gb_cpu_contraction_variants(gb_backend_device *dev, const gb_step *step, const char **name,
                                int cap)
{
    contraction x = {.a = 0};
    gb_cpu cpu = dev->cpu;
    int n = 0;
    cpu.fast_winograd = step->fast;
    problem_of(step, &x);
    while (n < cap && (name[n] = gb_contraction_candidate(&cpu, &x.plan.problem, (size_t)n))) n++;
    return n;
}
