/* oneDNN as an implementation of contractions, versions 2 (operation descriptors) and 3.
 *
 * oneDNN brings OpenMP, whose threads would compete with ours. So every primitive is made for one
 * thread and a part of the batch (or of the rows), and the parts are tasks of our own pool: the
 * partition depends on the shape alone, here too. */
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/kernels/impl.h"

#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
#include <omp.h>
static int one_thread(void)
{
    int before = omp_get_max_threads();
    omp_set_num_threads(1);
    return before;
}

static void restore_threads(int before)
{
    omp_set_num_threads(before);
}
#else
static int one_thread(void)
{
    return 1;
}

static void restore_threads(int before)
{
    (void)before;
}
#endif

enum { PARTS = 16, ROWS_A_PART = 256, ALIGN = 64 };

/* ---- what differs between the versions ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t layout_ref;
#define REF(l) (l)
#define LAYOUT_ANY(l, n, dims)                                                                     \
    dnnl_memory_desc_create_with_tag(l, n, dims, dnnl_f32, dnnl_format_tag_any)
#define LAYOUT_STRIDED(l, n, dims, strides)                                                        \
    dnnl_memory_desc_create_with_strides(l, n, dims, dnnl_f32, strides)
#define LAYOUT_FREE(l) dnnl_memory_desc_destroy(l)
typedef dnnl_primitive_desc_t description;
#else
typedef dnnl_memory_desc_t layout;
typedef const dnnl_memory_desc_t *layout_ref;
#define REF(l) (&(l))
#define LAYOUT_ANY(l, n, dims)                                                                     \
    dnnl_memory_desc_init_by_tag(l, n, dims, dnnl_f32, dnnl_format_tag_any)
#define LAYOUT_STRIDED(l, n, dims, strides)                                                        \
    dnnl_memory_desc_init_by_strides(l, n, dims, dnnl_f32, strides)
#define LAYOUT_FREE(l) (void)(l)
typedef dnnl_primitive_desc_t description;
#endif

typedef struct {
    dnnl_dims_t stride, dilation, pad0, pad1;
} window;

/* The three operands by their role in the forward direction: x, weights, y (or a, b, c). */
typedef struct {
    layout x, w, y;
} layouts;

#if DNNL_VERSION_MAJOR >= 3
static dnnl_status_t describe_conv(description *pd, gb_contraction_kind kind, const layouts *l,
                                   const window *v, dnnl_primitive_attr_t attr, dnnl_engine_t e)
{
    description forward = NULL;
    dnnl_status_t s = dnnl_convolution_forward_primitive_desc_create(
        &forward, e, dnnl_forward_training, dnnl_convolution_direct, l->x, l->w, NULL, l->y,
        v->stride, v->dilation, v->pad0, v->pad1, attr);
    if (s || kind == GB_CONV_FORWARD) {
        *pd = forward;
        return s;
    }
    if (kind == GB_CONV_DATA)
        s = dnnl_convolution_backward_data_primitive_desc_create(
            pd, e, dnnl_convolution_direct, l->x, l->w, l->y, v->stride, v->dilation, v->pad0,
            v->pad1, forward, attr);
    else
        s = dnnl_convolution_backward_weights_primitive_desc_create(
            pd, e, dnnl_convolution_direct, l->x, l->w, NULL, l->y, v->stride, v->dilation, v->pad0,
            v->pad1, forward, attr);
    dnnl_primitive_desc_destroy(forward);
    return s;
}

static dnnl_status_t describe_matmul(description *pd, const layouts *l, dnnl_primitive_attr_t attr,
                                     dnnl_engine_t e)
{
    return dnnl_matmul_primitive_desc_create(pd, e, l->x, l->w, NULL, l->y, attr);
}
#else
static dnnl_status_t describe_conv(description *pd, gb_contraction_kind kind, const layouts *l,
                                   const window *v, dnnl_primitive_attr_t attr, dnnl_engine_t e)
{
    dnnl_convolution_desc_t forward, op;
    dnnl_status_t s = dnnl_dilated_convolution_forward_desc_init(
        &forward, dnnl_forward_training, dnnl_convolution_direct, &l->x, &l->w, NULL, &l->y,
        v->stride, v->dilation, v->pad0, v->pad1);
    if (s) return s;
    if (kind == GB_CONV_FORWARD) return dnnl_primitive_desc_create(pd, &forward, attr, e, NULL);
    if (kind == GB_CONV_DATA)
        s = dnnl_dilated_convolution_backward_data_desc_init(&op, dnnl_convolution_direct, &l->x,
                                                             &l->w, &l->y, v->stride, v->dilation,
                                                             v->pad0, v->pad1);
    else
        s = dnnl_dilated_convolution_backward_weights_desc_init(&op, dnnl_convolution_direct, &l->x,
                                                                &l->w, NULL, &l->y, v->stride,
                                                                v->dilation, v->pad0, v->pad1);
    description hint = NULL;
    if (!s) s = dnnl_primitive_desc_create(&hint, &forward, attr, e, NULL);
    if (!s) s = dnnl_primitive_desc_create(pd, &op, attr, e, hint);
    dnnl_primitive_desc_destroy(hint);
    return s;
}

static dnnl_status_t describe_matmul(description *pd, const layouts *l, dnnl_primitive_attr_t attr,
                                     dnnl_engine_t e)
{
    dnnl_matmul_desc_t op;
    dnnl_status_t s = dnnl_matmul_desc_init(&op, &l->x, &l->w, NULL, &l->y);
    return s ? s : dnnl_primitive_desc_create(pd, &op, attr, e, NULL);
}
#endif

/* ---- state of a plan ---- */

typedef struct {
    dnnl_stream_t stream;
    dnnl_memory_t x, w, y, scratchpad;
} worker_set;

/* Parts come in one size, and the last may be smaller. */
typedef struct {
    dnnl_primitive_t primitive;
    worker_set *workers;
    size_t scratchpad_bytes;
} part_kind;

typedef struct {
    dnnl_engine_t engine;
    int workers;
    int64_t parts, part, last; /* images or rows of a part, of the last part */
    part_kind kind[2];         /* whole, last */
    dnnl_primitive_t reorder;  /* of weights, to or from the layout that oneDNN wants; or NULL */
    dnnl_memory_t plain_weights, own_weights;
    size_t weights_bytes, scratchpad_bytes; /* rounded up */
    int x_arg, w_arg, y_arg;
    pthread_mutex_t lock; /* the memory objects above serve one run at a time */
} onednn;

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static void free_part_kind(part_kind *k, int workers)
{
    for (int i = 0; k->workers && i < workers; i++) {
        worker_set *w = &k->workers[i];
        dnnl_memory_destroy(w->x);
        dnnl_memory_destroy(w->w);
        dnnl_memory_destroy(w->y);
        dnnl_memory_destroy(w->scratchpad);
        dnnl_stream_destroy(w->stream);
    }
    free(k->workers);
    dnnl_primitive_destroy(k->primitive);
}

static void release_state(onednn *s)
{
    for (int i = 0; i < 2; i++) free_part_kind(&s->kind[i], s->workers);
    dnnl_primitive_destroy(s->reorder);
    dnnl_memory_destroy(s->plain_weights);
    dnnl_memory_destroy(s->own_weights);
    dnnl_engine_destroy(s->engine);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void release(gb_contraction_plan *plan)
{
    release_state(plan->state);
}

/* ---- planning ---- */

static dnnl_status_t image_layout(layout *l, int64_t n, int64_t c, int64_t h, int64_t w)
{
    dnnl_dims_t dims = {n, c, h, w}, strides = {h * w * c, 1, w * c, c};
    return LAYOUT_STRIDED(l, 4, dims, strides);
}

static dnnl_status_t filter_layout(layout *l, const gb_conv_dims *d, bool any)
{
    int64_t g = d->groups, og = d->o / g, cg = d->c / g, k = d->kh * d->kw;
    dnnl_dims_t dims = {g, og, cg, d->kh, d->kw};
    dnnl_dims_t strides = {og * k * cg, k * cg, 1, d->kw * cg, cg};
    int skip = g == 1; /* the dimension of groups is there only if there are some */
    return any ? LAYOUT_ANY(l, 5 - skip, dims + skip)
               : LAYOUT_STRIDED(l, 5 - skip, dims + skip, strides + skip);
}

static window window_of(const gb_conv_dims *d)
{
    int64_t down = (d->oh - 1) * d->stride_h + (d->kh - 1) * d->dilation_h + 1 - d->h - d->pad_top;
    int64_t right =
        (d->ow - 1) * d->stride_w + (d->kw - 1) * d->dilation_w + 1 - d->w - d->pad_left;
    return (window){{d->stride_h, d->stride_w},
                    {d->dilation_h - 1, d->dilation_w - 1},
                    {d->pad_top, d->pad_left},
                    {down, right}};
}

/* The primitive for a part of `size` images or rows. */
static dnnl_status_t describe(description *pd, const gb_contraction *p, int64_t size,
                              dnnl_engine_t engine)
{
    layouts l;
    memset(&l, 0, sizeof l);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(&attr);
    if (!s) s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!s && p->kind == GB_GEMM) {
        const gb_gemm_dims *d = &p->gemm;
        dnnl_dims_t a = {size, d->k}, b = {d->k, d->n}, c = {size, d->n};
        dnnl_dims_t as = {d->a_row, d->a_col}, bs = {d->b_row, d->b_col}, cs = {d->c_row, 1};
        s = LAYOUT_STRIDED(&l.x, 2, a, as);
        if (!s) s = LAYOUT_STRIDED(&l.w, 2, b, bs);
        if (!s) s = LAYOUT_STRIDED(&l.y, 2, c, cs);
        if (!s) s = describe_matmul(pd, &l, attr, engine);
    } else if (!s) {
        const gb_conv_dims *d = &p->conv;
        window v = window_of(d);
        s = image_layout(&l.x, size, d->c, d->h, d->w);
        if (!s) s = filter_layout(&l.w, d, true);
        if (!s) s = image_layout(&l.y, size, d->o, d->oh, d->ow);
        if (!s) s = describe_conv(pd, p->kind, &l, &v, attr, engine);
    }
    LAYOUT_FREE(l.x);
    LAYOUT_FREE(l.w);
    LAYOUT_FREE(l.y);
    dnnl_primitive_attr_destroy(attr);
    return s;
}

static layout_ref queried(description pd, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(pd, what, 0);
}

static dnnl_status_t make_worker(worker_set *w, description pd, gb_contraction_kind kind,
                                 dnnl_engine_t e)
{
    bool data = kind == GB_CONV_DATA, weights = kind == GB_CONV_WEIGHTS;
    layout_ref x = queried(pd, data ? dnnl_query_diff_src_md : dnnl_query_src_md);
    layout_ref f = queried(pd, weights ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
    layout_ref y = queried(pd, data || weights ? dnnl_query_diff_dst_md : dnnl_query_dst_md);
    dnnl_status_t s = dnnl_stream_create(&w->stream, e, dnnl_stream_default_flags);
    if (!s) s = dnnl_memory_create(&w->x, x, e, DNNL_MEMORY_NONE);
    if (!s) s = dnnl_memory_create(&w->w, f, e, DNNL_MEMORY_NONE);
    if (!s) s = dnnl_memory_create(&w->y, y, e, DNNL_MEMORY_NONE);
    if (!s)
        s = dnnl_memory_create(&w->scratchpad, queried(pd, dnnl_query_scratchpad_md), e,
                               DNNL_MEMORY_NONE);
    return s;
}

/* Weights in our layout and in the one that `pd` wants, with the reorder between them. */
static dnnl_status_t make_reorder(onednn *o, const gb_contraction *p, description pd)
{
    bool out = p->kind == GB_CONV_WEIGHTS;
    layout_ref own = queried(pd, out ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
    layout plain;
    dnnl_status_t s = filter_layout(&plain, &p->conv, false);
    if (s) return s;
    layout_ref from = out ? own : REF(plain), to = out ? REF(plain) : own;
    o->weights_bytes = aligned(dnnl_memory_desc_get_size(own));
    dnnl_primitive_desc_t reorder = NULL;
    s = dnnl_reorder_primitive_desc_create(&reorder, from, o->engine, to, o->engine, NULL);
    if (!s) s = dnnl_primitive_create(&o->reorder, reorder);
    if (!s) s = dnnl_memory_create(&o->plain_weights, REF(plain), o->engine, DNNL_MEMORY_NONE);
    if (!s) s = dnnl_memory_create(&o->own_weights, own, o->engine, DNNL_MEMORY_NONE);
    dnnl_primitive_desc_destroy(reorder);
    LAYOUT_FREE(plain);
    return s;
}

/* Both kinds of part share the weights, so they must want them alike. */
static dnnl_status_t use_weights(onednn *o, const gb_contraction *p, description pd)
{
    if (!o->reorder) return make_reorder(o, p, pd);
    bool out = p->kind == GB_CONV_WEIGHTS;
    layout_ref own = queried(pd, out ? dnnl_query_diff_weights_md : dnnl_query_weights_md), first;
    dnnl_status_t s = dnnl_memory_get_memory_desc(o->own_weights, &first);
    return s ? s : dnnl_memory_desc_equal(own, first) ? dnnl_success : dnnl_unimplemented;
}

static dnnl_status_t make_part_kind(onednn *o, const gb_contraction *p, part_kind *k, int64_t size)
{
    description pd = NULL;
    dnnl_status_t s = describe(&pd, p, size, o->engine);
    if (!s) s = dnnl_primitive_create(&k->primitive, pd);
    k->workers = calloc((size_t)o->workers, sizeof *k->workers);
    if (!s && !k->workers) s = dnnl_out_of_memory;
    for (int i = 0; !s && i < o->workers; i++)
        s = make_worker(&k->workers[i], pd, p->kind, o->engine);
    if (!s) k->scratchpad_bytes = dnnl_memory_desc_get_size(queried(pd, dnnl_query_scratchpad_md));
    if (aligned(k->scratchpad_bytes) > o->scratchpad_bytes)
        o->scratchpad_bytes = aligned(k->scratchpad_bytes);
    if (!s && p->kind != GB_GEMM) s = use_weights(o, p, pd);
    dnnl_primitive_desc_destroy(pd);
    return s;
}

static void cut(onednn *o, const gb_contraction *p)
{
    bool gemm = p->kind == GB_GEMM;
    int64_t size = gemm ? p->gemm.m : p->conv.n;
    o->parts = gemm ? (size + ROWS_A_PART - 1) / ROWS_A_PART : size < PARTS ? size : PARTS;
    o->part = (size + o->parts - 1) / o->parts;
    o->parts = (size + o->part - 1) / o->part;
    o->last = size - (o->parts - 1) * o->part;
}

static dnnl_status_t make_state(onednn *o, const gb_contraction *p)
{
    cut(o, p);
    bool back_data = p->kind == GB_CONV_DATA, back_weights = p->kind == GB_CONV_WEIGHTS;
    o->x_arg = back_data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC;
    o->w_arg = back_weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS;
    o->y_arg = back_data || back_weights ? DNNL_ARG_DIFF_DST : DNNL_ARG_DST;
    dnnl_status_t s = dnnl_engine_create(&o->engine, dnnl_cpu, 0);
    if (!s) s = make_part_kind(o, p, &o->kind[0], o->part);
    if (!s && o->last != o->part) s = make_part_kind(o, p, &o->kind[1], o->last);
    return s;
}

static gb_status prepare(gb_contraction_plan *plan, gb_error *err)
{
    onednn *o = calloc(1, sizeof *o);
    if (!o) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to plan a contraction");
    pthread_mutex_init(&o->lock, NULL);
    o->workers = gb_pool_workers(plan->cpu.pool);
    int threads = one_thread();
    dnnl_status_t s = make_state(o, &plan->problem);
    restore_threads(threads);
    if (s) {
        release_state(o);
        if (s == dnnl_out_of_memory)
            return gb_fail(err, GB_OUT_OF_MEMORY, "onednn", NULL, "oneDNN ran out of memory");
        return gb_fail(err, GB_UNSUPPORTED, "onednn", "leave the choice to gimbal",
                       "oneDNN refuses this contraction (status %d)", (int)s);
    }
    plan->state = o;
    int64_t copies = plan->problem.kind == GB_CONV_WEIGHTS ? o->parts : 1;
    plan->scratch_bytes =
        (size_t)copies * o->weights_bytes + (size_t)o->workers * o->scratchpad_bytes;
    return GB_OK;
}

/* ---- running ---- */

typedef struct {
    const gb_contraction *problem;
    const gb_contraction_args *args;
    onednn *o;
    char *weights, *scratchpads; /* weights in oneDNN's layout; of each part, backward to them */
    _Atomic bool failed;
} job;

static void set(dnnl_memory_t m, const void *p)
{
    dnnl_memory_set_data_handle(m, (void *)p);
}

static bool execute(dnnl_primitive_t primitive, dnnl_stream_t stream, const dnnl_exec_arg_t *args,
                    int count)
{
    dnnl_status_t s = dnnl_primitive_execute(primitive, stream, count, args);
    return !s && !dnnl_stream_wait(stream);
}

static bool reorder_weights(job *j)
{
    bool out = j->problem->kind == GB_CONV_WEIGHTS;
    onednn *o = j->o;
    set(o->plain_weights, out ? j->args->c : j->args->b);
    set(o->own_weights, j->weights);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, out ? o->own_weights : o->plain_weights},
                              {DNNL_ARG_TO, out ? o->plain_weights : o->own_weights}};
    return execute(o->reorder, o->kind[0].workers[0].stream, args, 2);
}

static void do_part(void *ctx, int64_t part, int worker)
{
    job *j = ctx;
    onednn *o = j->o;
    const gb_contraction *p = j->problem;
    const gb_contraction_args *g = j->args;
    const gb_conv_dims *d = &p->conv;
    part_kind *k = &o->kind[part == o->parts - 1 && o->last != o->part];
    worker_set *w = &k->workers[worker];
    one_thread(); /* this thread's own setting */
    int64_t at = part * o->part;
    int64_t x_step = p->kind == GB_GEMM ? p->gemm.a_row : d->h * d->w * d->c;
    int64_t y_step = p->kind == GB_GEMM ? p->gemm.c_row : d->oh * d->ow * d->o;
    const float *x = p->kind == GB_CONV_DATA ? g->c : p->kind == GB_CONV_WEIGHTS ? g->b : g->a;
    const float *y = p->kind == GB_CONV_DATA || p->kind == GB_CONV_WEIGHTS ? g->a : g->c;
    set(w->x, x + at * x_step);
    set(w->y, y + at * y_step);
    set(w->w, p->kind == GB_GEMM           ? (const void *)g->b
              : p->kind == GB_CONV_WEIGHTS ? j->weights + (size_t)part * o->weights_bytes
                                           : j->weights);
    set(w->scratchpad, j->scratchpads + (size_t)worker * o->scratchpad_bytes);
    dnnl_exec_arg_t args[] = {
        {o->x_arg, w->x}, {o->w_arg, w->w}, {o->y_arg, w->y}, {DNNL_ARG_SCRATCHPAD, w->scratchpad}};
    if (!execute(k->primitive, w->stream, args, 4)) j->failed = true;
}

/* Sums the parts of dw, in their order, into the first. */
static void sum_parts(void *ctx, int64_t task, int worker)
{
    (void)worker;
    job *j = ctx;
    int64_t floats = (int64_t)(j->o->weights_bytes / sizeof(float)), from = task * 4096;
    int64_t until = from + 4096 < floats ? from + 4096 : floats;
    float *sum = (float *)j->weights;
    for (int64_t p = 1; p < j->o->parts; p++)
        for (int64_t i = from; i < until; i++) sum[i] += sum[p * floats + i];
}

static void finish_rows(void *ctx, int64_t task, int worker)
{
    (void)worker;
    job *j = ctx;
    gb_contraction_extent e = gb_contraction_extent_of(j->problem);
    int64_t ldc = j->problem->kind == GB_GEMM ? j->problem->gemm.c_row : e.cols, row = task * 64;
    int64_t rows = e.rows - row < 64 ? e.rows - row : 64;
    gb_epilogue_apply(&j->args->epilogue, j->args->c + row * ldc, row, rows, 0, e.cols, ldc);
}

static bool compute(job *j, gb_pool *pool)
{
    gb_contraction_kind kind = j->problem->kind;
    if ((kind == GB_CONV_FORWARD || kind == GB_CONV_DATA) && !reorder_weights(j)) return false;
    gb_pool_run(pool, j->o->parts, do_part, j);
    if (j->failed || kind != GB_CONV_WEIGHTS) return !j->failed;
    gb_pool_run(pool, (int64_t)(j->o->weights_bytes / sizeof(float) + 4095) / 4096, sum_parts, j);
    return reorder_weights(j);
}

static void run(const gb_contraction_plan *plan, const gb_contraction_args *args)
{
    onednn *o = plan->state;
    job j = {&plan->problem, args, o, args->scratch};
    j.scratchpads = j.weights + (size_t)(plan->problem.kind == GB_CONV_WEIGHTS ? o->parts : 1) *
                                    o->weights_bytes;
    pthread_mutex_lock(&o->lock);
    int threads = one_thread();
    bool done = compute(&j, plan->cpu.pool);
    restore_threads(threads);
    pthread_mutex_unlock(&o->lock);
    if (!done) { /* oneDNN allocates inside, and may fail */
        gb_contraction_plain.run(plan, args);
        return;
    }
    if (args->epilogue.bias || args->epilogue.limits || args->epilogue.fn)
        gb_pool_run(plan->cpu.pool, (gb_contraction_extent_of(&plan->problem).rows + 63) / 64,
                    finish_rows, &j);
}

static bool can(const gb_cpu *cpu, const gb_contraction *p)
{
    if (p->accumulate || cpu->isa != gb_isa_best()) return false;
    if (p->kind != GB_GEMM) return p->conv.n * p->conv.oh * p->conv.ow > 0;
    const gb_gemm_dims *d = &p->gemm;
    return d->batch[0] == 1 && d->batch[1] == 1 && d->k > 0 && (d->a_row == 1 || d->a_col == 1) &&
           (d->b_row == 1 || d->b_col == 1);
}

/* Behind the own kernels, which are faster wherever both were measured. */
const gb_contraction_impl gb_contraction_onednn = {
    .name = "onednn", .can = can, .prepare = prepare, .release = release, .run = run};
