/* Contractions on drivers that run on CPUs: every one becomes C = A · B with A walked where it lies
 * (images get a halo first) and B in panels; see shaders/panel.gk. Measured on PoCL this reaches
 * what intrinsics reach; tiles in local memory reach a twentieth of it. */
#include <stdio.h>
#include <string.h>

#include "backends/gpu/panel.h"
#include "backends/gpu/shaders.h"

/* --- matrices --- */

static bool shared(const gb_operand *y) /* by all of the batch */
{
    for (int d = 0; d < y->rank - 2; d++)
        if (y->stride[d] != 0 && y->dim[d] > 1) return false;
    return true;
}

/* Packing costs a pass over B: it is worth it where many rows take B from the panels, and where B
 * is too large for the caches, unless hardly a row takes it. */
enum { FEW_ROWS = 64, VERY_FEW_ROWS = 16, SMALL_B = 8 << 20 };
/* So many panels walk A: rows that lie side by side, each k in a line of memory of its own, are
 * worth a copy. */
enum { MANY_PANELS = 4 };

static bool takes_rows(const gb_panel *p, const gb_step *s)
{
    const gb_operand *y = &s->in[1], *out = &s->out[0];
    const int64_t line = y->stride[y->rank - 2], bytes = gb_panel_k(p) * line * 4;
    int64_t rows = 1;
    for (int d = 0; d < out->rank - 1; d++) rows *= out->dim[d];
    return shared(y) && y->storage == GB_S_F32 && y->stride[y->rank - 1] == 1 && line >= p->n &&
           p->n >= gb_panel_width(p) && rows < FEW_ROWS &&
           (bytes <= SMALL_B || rows <= VERY_FEW_ROWS);
}

static bool is_turned(const gb_panel *p, const gb_operand *x)
{
    const int r = x->rank;
    return x->stride[r - 2] == 1 && x->stride[r - 1] != 1 && gb_panel_count(p) >= MANY_PANELS;
}

/* Strides of a batch's packed operands, one after another. */
static void packed_strides(int64_t *stride, const gb_operand *out, int64_t step)
{
    for (int d = out->rank - 3; d >= 0; d--) {
        stride[d] = step;
        step *= out->dim[d];
    }
}

static void plan_matmul(gb_panel *p, const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_operand *x = &s->in[0], *y = &s->in[1], *out = &s->out[0];
    int r = out->rank;
    int64_t a[GB_MAX_RANK], b[GB_MAX_RANK];
    *p = (gb_panel){.m = {1, 1, out->dim[r - 2]},
                    .k = {1, 1, x->dim[r - 1]},
                    .n = out->dim[r - 1],
                    .shares = 1,
                    .share = 1};
    p->a_m[2] = x->stride[r - 2];
    p->a_k[2] = x->stride[r - 1];
    gb_panel_choose(p, caps);
    p->in_rows = takes_rows(p, s);
    p->b_step = p->in_rows ? y->stride[r - 2] : gb_panel_width(p);
    p->b_panel = p->in_rows ? gb_panel_width(p) : gb_panel_k(p) * p->b_step;
    memcpy(a, x->stride, sizeof a);
    if (is_turned(p, x)) {
        p->rows_of_a = out->dim[r - 2];
        p->m[1] = gb_div_up(p->rows_of_a, p->rows);
        p->m[2] = p->a_k[2] = p->rows;
        p->a_m[1] = gb_panel_k(p) * p->rows;
        packed_strides(a, out, p->m[1] * p->a_m[1]);
    }
    packed_strides(b, out, shared(y) ? 0 : gb_panel_count(p) * p->b_panel);
    p->batch = (gb_space){.rank = r - 2};
    for (int d = 0; d < r - 2; d++) p->batch.dim[d] = out->dim[d], p->batch.axis[d] = d;
    gb_space_op(&p->batch, "a", a);
    gb_space_op(&p->batch, "b", b);
    for (int i = 2; i < s->n_in; i++) gb_space_add(&p->batch, "i", i, &s->in[i], 0);
    gb_space_add(&p->batch, "o", 0, out, 0);
}

static uint64_t packed_bytes(const gb_panel *p, int64_t batch)
{
    if (p->in_rows) return 0;
    return gb_align256((uint64_t)(batch * gb_panel_count(p) * gb_panel_k(p) * gb_panel_width(p)) *
                       4);
}

static int64_t matmul_packs(const gb_panel *p, const gb_step *s)
{
    return shared(&s->in[1]) ? 1 : gb_space_count(&p->batch);
}

/* A of 16-bit floats is widened once, as one run of memory that keeps its strides. */
static bool is_one_run(const gb_operand *o)
{
    int64_t count = 1, reach = 1;
    for (int d = 0; d < o->rank; d++) {
        if (o->dim[d] > 1 && o->stride[d] <= 0) return false;
        count *= o->dim[d];
        reach += (o->dim[d] - 1) * o->stride[d];
    }
    return count == reach;
}

/* The run as lines of an image, for the kernel that copies these. */
static gb_operand widened_run(const gb_operand *x)
{
    gb_operand o = *x;
    int64_t line = x->dim[x->rank - 1], count = 1;
    for (int d = 0; d < x->rank; d++) count *= x->dim[d];
    o.rank = 4;
    for (int d = 0; d < 4; d++) o.dim[d] = o.stride[d] = 1;
    o.dim[0] = count / line;
    o.stride[0] = o.dim[1] = line;
    return o;
}

static gb_halo matmul_copy(const gb_operand *image)
{
    return (gb_halo){
        .image = image, .up = {1, 1}, .height = 1, .width = 1, .copy = image->storage != GB_S_F32};
}

/* What packed rows of A take; 0: A is walked where it lies, or where its copy does. */
static uint64_t turned_bytes(const gb_panel *p)
{
    return p->rows_of_a
               ? gb_float_bytes(gb_space_count(&p->batch) * p->m[1] * p->rows * gb_panel_k(p))
               : 0;
}

uint64_t gb_matmul_panel_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_operand run = widened_run(&step->in[0]);
    const gb_halo copy = matmul_copy(&run);
    gb_panel p;
    plan_matmul(&p, caps, step);
    return p.rows_of_a ? turned_bytes(&p) : gb_halo_bytes(&copy);
}

uint64_t gb_matmul_panel_packed(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_panel p;
    plan_matmul(&p, caps, step);
    return packed_bytes(&p, matmul_packs(&p, step));
}

bool gb_matmul_panel_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_operand *x = &step->in[0];
    return gb_gpu_wide_items(caps) && gb_not_empty(x) && gb_not_empty(&step->in[1]) &&
           (x->storage == GB_S_F32 || is_one_run(x));
}

/* An operand as panels want it: its strides of k and of the other axis. */
static gb_pack matmul_pack(const gb_panel *p, const gb_operand *o, int batch_op, int64_t k_stride,
                           int64_t stride)
{
    gb_pack pack = {.k = {1, 1, p->k[2]}, .stride = {0, 0, k_stride}, .n = stride};
    pack.batch = (gb_space){.rank = shared(o) && batch_op ? 0 : p->batch.rank};
    for (int d = 0; d < pack.batch.rank; d++) pack.batch.dim[d] = p->batch.dim[d];
    gb_space_op(&pack.batch, "b", o->stride);
    gb_space_op(&pack.batch, "p", p->batch.stride[batch_op]);
    return pack;
}

/* A and B as the product will walk them. */
static gb_status prepare_matmul(gb_gpu_builder *b, const gb_panel *p, const gb_halo *copy,
                                uint64_t packed)
{
    const gb_operand *x = &b->step->in[0], *y = &b->step->in[1];
    const int r = x->rank;
    gb_status status = GB_OK;
    if (p->rows_of_a) {
        const gb_pack pack = matmul_pack(p, x, 0, x->stride[r - 1], x->stride[r - 2]);
        status = gb_panel_pack_rows(b, p, &pack, turned_bytes(p));
    } else {
        status = gb_halo_copy(b, copy);
    }
    if (status == GB_OK && !p->in_rows) {
        const gb_pack pack = matmul_pack(p, y, 1, y->stride[r - 2], y->stride[r - 1]);
        status = gb_panel_pack(b, p, &pack, 0, packed);
    }
    return status;
}

gb_status gb_lower_matmul_panel(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    const gb_operand run = widened_run(&s->in[0]);
    const gb_halo copy = matmul_copy(&run);
    int r = s->out[0].rank;
    gb_panel p;
    gb_gk k;
    plan_matmul(&p, b->caps, s);
    const uint64_t packed = packed_bytes(&p, matmul_packs(&p, s));
    gb_status status = prepare_matmul(b, &p, &copy, packed);
    if (status != GB_OK) return status;

    gb_place place[GB_MAX_STEP_IN + 1];
    for (int i = 0; i <= s->n_in; i++) {
        const gb_operand *o = i < s->n_in ? &s->in[i] : &s->out[0];
        const int64_t row = o->stride[r - 2];
        place[i] = (gb_place){.m = {0, p.rows * row, row}, .n = o->stride[r - 1]};
    }
    gb_gk_begin(&k, b);
    if (p.rows_of_a)
        gb_gk_scratch(&k, "a", 0, (int64_t)(turned_bytes(&p) / 4), GB_S_F32, GB_READ);
    else if (copy.copy)
        gb_halo_bind(&k, "a", &copy);
    else
        gb_gk_operand(&k, "a", &s->in[0], GB_READ);
    if (p.in_rows)
        gb_gk_operand(&k, "b", &s->in[1], GB_READ);
    else
        gb_gk_packed(&k, "b", 0, (int64_t)(packed / 4), GB_READ);
    gb_panel_bind_results(&k, s);
    gb_panel_define(&k, &p);
    gb_panel_result(&k, s, place);
    return gb_panel_finish(&k, &p, "matmul.panel");
}

/* --- convolutions, forward and to the input --- */

typedef struct gb_conv_plan {
    gb_panel p;
    gb_pack pack;
    gb_halo halo;
} gb_conv_plan;

/* A window over an image of `depth` channels a group gives `n` channels a group. */
static void plan_window(gb_conv_plan *c, const gb_gpu_caps *caps, const gb_step *s, int64_t depth,
                        int64_t n, const int64_t stride[2])
{
    const gb_window *v = &s->u.conv;
    const gb_operand *out = &s->out[0];
    gb_panel *p = &c->p;
    int64_t walk[3];
    gb_halo_strides(&c->halo, walk);
    *p = (gb_panel){.m = {out->dim[0], out->dim[2], out->dim[3]},
                    .k = {v->kernel[0], v->kernel[1], depth},
                    .n = n,
                    .a_m = {walk[0], walk[1] * stride[0], walk[2] * stride[1]},
                    .a_k = {walk[1] * v->dilation[0], walk[2] * v->dilation[1], 1},
                    .shares = 1,
                    .share = v->kernel[0]};
    for (int i = 0; i < 3; i++) c->pack.k[i] = p->k[i];
    if (v->dilation[1] == 1 && v->groups == 1) { /* the taps of a line are one run of memory */
        p->k[2] *= p->k[1];
        p->k[1] = 1;
    }
    gb_panel_choose(p, caps);
    p->b_step = gb_panel_width(p);
    p->b_panel = gb_panel_k(p) * p->b_step;
    p->batch = c->pack.batch = (gb_space){.rank = 1, .dim = {v->groups}};
    int64_t packed = gb_panel_count(p) * p->b_panel, channels = n * out->stride[1];
    gb_space_op(&p->batch, "a", &depth);
    gb_space_op(&p->batch, "b", &packed);
    for (int i = 2; i < s->n_in; i++) {
        int64_t extra = n * s->in[i].stride[1];
        char name[16];
        snprintf(name, sizeof name, "i%d", i);
        gb_space_op(&p->batch, name, &extra);
    }
    gb_space_op(&p->batch, "o0", &channels);
}

static void plan_conv(gb_conv_plan *c, const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_window *v = &s->u.conv;
    const gb_operand *w = &s->in[1];
    const int64_t n = s->out[0].dim[1] / v->groups, step = n * w->stride[0];
    c->halo = gb_halo_of(&s->in[0], s->out[0].dim, v, v->stride, v->pad, (const int64_t[2]){1, 1});
    c->pack = (gb_pack){.stride = {w->stride[2], w->stride[3], w->stride[1]}, .n = w->stride[0]};
    plan_window(c, caps, s, w->dim[1], n, v->stride);
    gb_space_op(&c->pack.batch, "b", &step);
    gb_space_op(&c->pack.batch, "p", c->p.batch.stride[1]);
}

/* The same window over the output's gradient: spread by the stride, with the filter turned. */
static void plan_conv_input(gb_conv_plan *c, const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_window *v = &s->u.conv;
    const gb_operand *w = &s->in[1];
    const int64_t depth = s->in[0].dim[1] / v->groups, step = depth * w->stride[0];
    int64_t pad[2];
    for (int d = 0; d < 2; d++) pad[d] = v->dilation[d] * (v->kernel[d] - 1) - v->pad[d];
    c->halo = gb_halo_of(&s->in[0], s->out[0].dim, v, (const int64_t[2]){1, 1}, pad, v->stride);
    c->pack =
        (gb_pack){.stride = {-w->stride[2], -w->stride[3], w->stride[0]},
                  .n = w->stride[1],
                  .offset = (v->kernel[0] - 1) * w->stride[2] + (v->kernel[1] - 1) * w->stride[3]};
    plan_window(c, caps, s, depth, w->dim[1], (const int64_t[2]){1, 1});
    gb_space_op(&c->pack.batch, "b", &step);
    gb_space_op(&c->pack.batch, "p", c->p.batch.stride[1]);
}

static void plan_either(gb_conv_plan *c, const gb_gpu_caps *caps, const gb_step *s)
{
    (s->kind == GB_STEP_CONV ? plan_conv : plan_conv_input)(c, caps, s);
}

static bool takes_conv(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_window *v = &step->u.conv;
    return gb_gpu_wide_items(caps) && gb_not_empty(&step->in[0]) && gb_not_empty(&step->in[1]) &&
           gb_not_empty(&step->out[0]) && (v->groups == 1 || step->out[0].dim[1] / v->groups > 1);
}

bool gb_conv_panel_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_window *v = &step->u.conv;
    bool input = step->kind == GB_STEP_CONV_INPUT;
    for (int d = 0; d < 2; d++)
        if (input && v->dilation[d] * (v->kernel[d] - 1) < v->pad[d]) return false;
    return takes_conv(caps, step);
}

uint64_t gb_conv_panel_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_conv_plan c;
    plan_either(&c, caps, step);
    return gb_halo_bytes(&c.halo);
}

uint64_t gb_conv_panel_packed(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_conv_plan c;
    plan_either(&c, caps, step);
    return packed_bytes(&c.p, step->u.conv.groups);
}

/* The product of a planned window; the halo is there. The filter's panels lie from byte `at` of
 * what is packed. */
static gb_status lower_window(gb_gpu_builder *b, const gb_conv_plan *c, uint64_t at,
                              const char *name)
{
    const gb_step *s = b->step;
    const uint64_t bytes = packed_bytes(&c->p, s->u.conv.groups);
    gb_gk k;
    gb_status status = bytes ? gb_panel_pack(b, &c->p, &c->pack, at, bytes) : GB_OK;
    if (status != GB_OK) return status;
    gb_place place[GB_MAX_STEP_IN + 1];
    for (int i = 0; i <= s->n_in; i++) {
        const gb_operand *o = i < s->n_in ? &s->in[i] : &s->out[0];
        place[i] = (gb_place){.m = {o->stride[0], o->stride[2], o->stride[3]}, .n = o->stride[1]};
    }
    gb_gk_begin(&k, b);
    gb_halo_bind(&k, "a", &c->halo);
    if (bytes)
        gb_gk_packed(&k, "b", at, (int64_t)(bytes / 4), GB_READ);
    else if (s->in[1].storage == GB_S_F32)
        gb_gk_operand(&k, "b", &s->in[1], GB_READ); /* no tap: it is not read */
    else
        gb_halo_bind(&k, "b", &c->halo);
    gb_panel_bind_results(&k, s);
    gb_panel_define(&k, &c->p);
    gb_panel_result(&k, s, place);
    return gb_panel_finish(&k, &c->p, name);
}

gb_status gb_lower_conv_panel(gb_gpu_builder *b)
{
    gb_conv_plan c;
    plan_either(&c, b->caps, b->step);
    gb_status status = gb_halo_copy(b, &c.halo);
    return status == GB_OK
               ? lower_window(b, &c, 0,
                              b->step->kind == GB_STEP_CONV ? "conv.panel" : "conv_input.panel")
               : status;
}

/* --- to the input of a strided convolution: a window of its own for each phase of the stride,
 * since spreading the gradient would multiply with zeros mostly --- */

typedef struct gb_phase {  /* along one axis: pixels at, at + stride, … */
    int64_t first, taps;   /* of the filter: first, first + stride, … */
    int64_t before, after; /* how far the window reaches before pixel 0 and beyond the last one */
    int64_t count;         /* pixels */
} gb_phase;

static gb_phase phase_of(const gb_step *s, int axis, int64_t at)
{
    const gb_window *v = &s->u.conv;
    const int64_t stride = v->stride[axis], size = s->out[0].dim[2 + axis];
    gb_phase p = {.first = (at + v->pad[axis]) % stride};
    const int64_t shift = (at + v->pad[axis] - p.first) / stride;
    p.taps = gb_max(0, gb_div_up(v->kernel[axis] - p.first, stride));
    p.count = size > at ? gb_div_up(size - at, stride) : 0;
    p.before = p.taps - 1 - shift;
    p.after = shift;
    return p;
}

/* One halo serves all phases. */
static gb_halo phases_halo(const gb_step *s)
{
    gb_halo h = {.image = &s->in[0], .up = {1, 1}};
    int64_t size[2];
    for (int d = 0; d < 2; d++) {
        size[d] = 1;
        for (int64_t at = 0; at < s->u.conv.stride[d]; at++)
            h.pad[d] = gb_max(h.pad[d], phase_of(s, d, at).before);
        for (int64_t at = 0; at < s->u.conv.stride[d]; at++) {
            gb_phase p = phase_of(s, d, at);
            if (p.taps && p.count) size[d] = gb_max(size[d], h.pad[d] + p.count + p.after);
        }
    }
    h.height = size[0];
    h.width = size[1];
    h.copy = h.pad[0] || h.pad[1] || h.height > s->in[0].dim[2] || h.width > s->in[0].dim[3] ||
             s->in[0].storage != GB_S_F32;
    return h;
}

/* The pixels of an image that belong to a phase. */
static void take_phase(gb_operand *o, const gb_window *v, const int64_t at[2], const gb_phase p[2])
{
    for (int d = 0; d < 2; d++) {
        o->offset += (uint64_t)(at[d] * o->stride[2 + d]) * gb_storage_size(o->storage);
        o->dim[2 + d] = p[d].count;
        o->stride[2 + d] *= v->stride[d];
    }
}

/* s: the step with its results cut to the phase. */
static void plan_phase(gb_conv_plan *c, const gb_gpu_caps *caps, gb_step *s, const gb_phase p[2])
{
    const gb_operand *w = &s->in[1];
    gb_window *v = &s->u.conv;
    const int64_t depth = s->in[0].dim[1] / v->groups, step = depth * w->stride[0];
    const int64_t up[2] = {v->stride[0], v->stride[1]};
    int64_t walk[3];
    for (int d = 0; d < 2; d++) v->kernel[d] = p[d].taps, v->stride[d] = 1;
    plan_window(c, caps, s, depth, w->dim[1], v->stride);
    gb_halo_strides(&c->halo, walk);
    c->p.a_first =
        (c->halo.pad[0] - p[0].before) * walk[1] + (c->halo.pad[1] - p[1].before) * walk[2];
    c->pack.stride[0] = -up[0] * w->stride[2];
    c->pack.stride[1] = -up[1] * w->stride[3];
    c->pack.stride[2] = w->stride[0];
    c->pack.n = w->stride[1];
    c->pack.offset = (p[0].first + (p[0].taps - 1) * up[0]) * w->stride[2] +
                     (p[1].first + (p[1].taps - 1) * up[1]) * w->stride[3];
    gb_space_op(&c->pack.batch, "b", &step);
    gb_space_op(&c->pack.batch, "p", c->p.batch.stride[1]);
}

bool gb_conv_phases_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_window *v = &step->u.conv;
    return (v->stride[0] > 1 || v->stride[1] > 1) && v->dilation[0] == 1 && v->dilation[1] == 1 &&
           takes_conv(caps, step);
}

uint64_t gb_conv_phases_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_halo halo = phases_halo(step);
    (void)caps;
    return gb_halo_bytes(&halo);
}

uint64_t gb_conv_phases_packed(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_conv_plan c = {.halo = phases_halo(step)};
    uint64_t bytes = 0;
    for (int64_t y = 0; y < step->u.conv.stride[0]; y++)
        for (int64_t x = 0; x < step->u.conv.stride[1]; x++) {
            const gb_phase p[2] = {phase_of(step, 0, y), phase_of(step, 1, x)};
            gb_step part = *step;
            if (!p[0].count || !p[1].count) continue;
            plan_phase(&c, caps, &part, p);
            bytes += packed_bytes(&c.p, step->u.conv.groups);
        }
    return bytes;
}

gb_status gb_lower_conv_phases(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    const gb_window *v = &s->u.conv;
    gb_conv_plan c = {.halo = phases_halo(s)};
    gb_status status = gb_halo_copy(b, &c.halo);
    uint64_t panels = 0;
    int64_t at[2];
    for (at[0] = 0; at[0] < v->stride[0]; at[0]++)
        for (at[1] = 0; at[1] < v->stride[1] && status == GB_OK; at[1]++) {
            const gb_phase p[2] = {phase_of(s, 0, at[0]), phase_of(s, 1, at[1])};
            gb_step part = *s;
            if (!p[0].count || !p[1].count) continue;
            for (int i = 2; i < s->n_in; i++) take_phase(&part.in[i], v, at, p);
            take_phase(&part.out[0], v, at, p);
            plan_phase(&c, b->caps, &part, p);
            b->step = &part;
            status = lower_window(b, &c, panels, "conv_input.phases");
            panels += packed_bytes(&c.p, v->groups);
            b->step = s;
        }
    return status;
}

/* --- the filter's gradient: rows are taps, k is pixels --- */

typedef struct gb_filter_plan {
    gb_panel p;
    gb_pack pack;
    gb_halo halo;
    uint64_t parts; /* bytes of the partial sums */
} gb_filter_plan;

/* Images of one share: what they bring in fits the second-level cache, partial sums stay small. */
static void choose_shares(gb_filter_plan *f, int64_t image_bytes, int64_t groups)
{
    gb_panel *p = &f->p;
    const int64_t m = p->m[0] * p->m[1] * p->m[2],
                  sums = m * gb_panel_count(p) * gb_panel_width(p) * 4;
    const int64_t most = gb_max(1, gb_min(64, (16 << 20) / (sums * groups)));
    p->share = gb_max(1, (384 << 10) / image_bytes);
    p->share = gb_max(gb_min(p->share, p->k[0]), gb_div_up(p->k[0], most));
    p->shares = gb_div_up(p->k[0], p->share);
    f->parts = gb_align256((uint64_t)(groups * p->shares * sums));
}

static void plan_filter(gb_filter_plan *f, const gb_gpu_caps *caps, const gb_step *s)
{
    const gb_window *v = &s->u.conv;
    const gb_operand *dy = &s->in[1], *dw = &s->out[0];
    const int64_t depth = dw->dim[1], n = dy->dim[1] / v->groups, pixels = dy->dim[2] * dy->dim[3];
    int64_t walk[3];
    gb_panel *p = &f->p;
    f->halo = gb_halo_of(&s->in[0], dy->dim, v, v->stride, v->pad, (const int64_t[2]){1, 1});
    gb_halo_strides(&f->halo, walk);
    *p = (gb_panel){.m = {v->kernel[0], v->kernel[1], depth},
                    .k = {dy->dim[0], dy->dim[2], dy->dim[3]},
                    .n = n,
                    .a_m = {walk[1] * v->dilation[0], walk[2] * v->dilation[1], 1},
                    .a_k = {walk[0], walk[1] * v->stride[0], walk[2] * v->stride[1]}};
    gb_panel_choose(p, caps);
    p->in_rows = n % gb_panel_width(p) == 0 && dy->storage == GB_S_F32; /* sums are whole panels */
    p->b_step = p->in_rows ? dy->dim[1] : gb_panel_width(p);
    p->b_panel = p->in_rows ? gb_panel_width(p) : gb_panel_k(p) * gb_panel_width(p);
    choose_shares(f, (walk[0] + pixels * dy->dim[1]) * 4, v->groups);
    const int64_t a[2] = {depth, p->share * walk[0]};
    const int64_t b[2] = {p->in_rows ? n : gb_panel_count(p) * p->b_panel,
                          p->share * pixels * p->b_step};
    p->batch = (gb_space){.rank = 2, .dim = {v->groups, p->shares}};
    gb_space_op(&p->batch, "a", a);
    gb_space_op(&p->batch, "b", b);
    const int64_t sums = p->m[0] * p->m[1] * depth * gb_panel_count(p) * gb_panel_width(p);
    gb_space_op(&p->batch, "o0", (const int64_t[2]){p->shares * sums, sums});
    f->pack = (gb_pack){.k = {1, 1, gb_panel_k(p)}, .stride = {0, 0, dy->dim[1]}, .n = 1};
    f->pack.batch = (gb_space){.rank = 1, .dim = {v->groups}};
    gb_space_op(&f->pack.batch, "b", &n);
    gb_space_op(&f->pack.batch, "p", b);
}

uint64_t gb_filter_panel_scratch(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_filter_plan f;
    plan_filter(&f, caps, step);
    return gb_halo_bytes(&f.halo) + f.parts;
}

uint64_t gb_filter_panel_packed(const gb_gpu_caps *caps, const gb_step *step)
{
    gb_filter_plan f;
    plan_filter(&f, caps, step);
    return packed_bytes(&f.p, step->u.conv.groups);
}

bool gb_filter_panel_applies(const gb_gpu_caps *caps, const gb_step *step)
{
    const gb_window *v = &step->u.conv;
    return gb_gpu_wide_items(caps) && gb_not_empty(&step->in[0]) && gb_not_empty(&step->in[1]) &&
           gb_not_empty(&step->out[0]) && (v->groups == 1 || step->in[1].dim[1] / v->groups > 1);
}

static gb_status join_filter(gb_gpu_builder *b, const gb_filter_plan *f, uint64_t at)
{
    const gb_operand *dw = &b->step->out[0];
    const gb_panel *p = &f->p;
    const int64_t m = p->m[0] * p->m[1] * p->m[2], block = 16;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_scratch(&k, "part", at, (int64_t)(f->parts / 4), GB_S_F32, GB_READ);
    gb_gk_operand(&k, "o0", dw, GB_WRITE);
    gb_gk_define(&k, "BLOCK", "%d", (int)block);
    gb_gk_param(&k, "M", m);
    gb_gk_param(&k, "PITCH", gb_panel_count(p) * gb_panel_width(p));
    gb_gk_param(&k, "SHARES", p->shares);
    gb_gk_param(&k, "GROUP_OUT", p->n);
    return gb_gk_finish(
        &k, "filter.join", gb_shader_filter_join,
        (const int64_t[3]){gb_div_up(p->n, block), gb_div_up(m, block), b->step->u.conv.groups});
}

gb_status gb_lower_filter_panel(gb_gpu_builder *b)
{
    const gb_step *s = b->step;
    gb_filter_plan f;
    gb_gk k;
    plan_filter(&f, b->caps, s);
    const uint64_t parts_at = gb_halo_bytes(&f.halo);
    const uint64_t packed = packed_bytes(&f.p, s->u.conv.groups);
    gb_status status = gb_halo_copy(b, &f.halo);
    if (status == GB_OK && !f.p.in_rows) status = gb_panel_pack(b, &f.p, &f.pack, 0, packed);
    if (status != GB_OK) return status;
    gb_gk_begin(&k, b);
    gb_halo_bind(&k, "a", &f.halo);
    if (f.p.in_rows)
        gb_gk_operand(&k, "b", &s->in[1], GB_READ);
    else
        gb_gk_packed(&k, "b", 0, (int64_t)(packed / 4), GB_READ);
    gb_gk_scratch(&k, "o0", parts_at, (int64_t)(f.parts / 4), GB_S_F32, GB_WRITE);
    gb_panel_define(&k, &f.p);
    gb_panel_sums(&k, &f.p);
    status = gb_panel_finish(&k, &f.p, "conv_filter.panel");
    return status == GB_OK ? join_filter(b, &f, parts_at) : status;
}
