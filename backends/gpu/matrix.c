#include "backends/gpu/matrix.h"

static const int side_of[GB_MATRIX_SIZES] = {128, 64, 32};

const char *gb_matrix_name(gb_step_kind kind, gb_matrix_size size)
{
    for (int i = 0; i < gb_gpu_manifest_size; i++) {
        const gb_gpu_variant *v = &gb_gpu_manifest[i];
        if (v->kind == kind && v->family == &gb_matrix_kernels && v->member == (int)size)
            return v->name;
    }
    return NULL;
}

/* Subgroups in as square an order as their matrices allow. */
static bool arrange(gb_matrix_tile *t)
{
    const int subgroups = t->items / t->lanes, rows = t->size / t->tm, columns = t->size / t->tn;
    int best = 0;
    for (int down = 1; down <= subgroups; down *= 2) {
        const int across = subgroups / down;
        if (rows % down || columns % across || down * across != subgroups) continue;
        const int apart = down > across ? down / across : across / down;
        if (best && apart >= best) continue;
        best = apart;
        t->across = across;
        t->wm = rows / down;
        t->wn = columns / across;
    }
    return best > 0;
}

bool gb_matrix_tile_of(const gb_gpu_caps *caps, gb_step_kind kind, gb_storage type,
                       gb_matrix_size size, gb_matrix_tile *t)
{
    const gb_gpu_units *u = type == GB_S_BF16 ? &caps->matrix.bf16 : &caps->matrix.f16;
    *t = (gb_matrix_tile){
        .size = side_of[size], .items = 2 * side_of[size], .tm = 8,
                          .tn = 4,
                          .tk = 16, .lanes = 16};
    if (caps->api == GB_GPU_VULKAN && u->m && u->works & gb_matrix_bit(kind, size)) {
        t->units = true;
        t->tm = u->m, t->tn = u->n, t->tk = u->k;
        t->lanes = (int)caps->matrix.subgroup;
    } else if (size != GB_MATRIX_32) {
        return false; /* in loops one size shows all that there is */
    }
    const int pitch = GB_MATRIX_BK + 8, stage = t->items / t->lanes * t->tm * t->tn * 4;
    return caps->max_local >= (uint32_t)t->items && caps->max_local_dim[0] >= (uint32_t)t->items &&
           t->lanes > 0 && t->lanes <= t->items && t->items % t->lanes == 0 &&
           t->size % t->tm == 0 && t->size % t->tn == 0 && GB_MATRIX_BK % t->tk == 0 &&
           caps->local_memory >= (uint32_t)(2 * t->size * pitch * 2 + stage) && arrange(t);
}

static int64_t pixels_of(const gb_operand *o)
{
    return o->dim[0] * o->dim[2] * o->dim[3];
}

static gb_matrix_task sides_of(const gb_step *s)
{
    const gb_operand *out = &s->out[0];
    const int64_t *o = out->dim, *w = s->in[1].dim, g = s->u.conv.groups;
    gb_matrix_task t = {.batches = 1};
    if (s->kind == GB_STEP_MATMUL) {
        const int r = out->rank;
        for (int d = 0; d < r - 2; d++) t.batches *= o[d];
        t.m = o[r - 2], t.n = o[r - 1], t.k = s->in[0].dim[r - 1];
    } else if (s->kind == GB_STEP_CONV_FILTER) { /* output channels by places of the filter */
        t.batches = g;
        t.m = o[0] / g, t.n = o[1] * o[2] * o[3], t.k = pixels_of(&s->in[1]);
    } else {
        t.batches = g;
        t.m = pixels_of(out), t.n = o[1] / g, t.k = s->kind == GB_STEP_CONV ? w[1] : w[0] / g;
    }
    return t;
}

gb_matrix_task gb_matrix_task_of(const gb_gpu_caps *caps, const gb_step *s, gb_matrix_size size)
{
    const int side = side_of[size];
    gb_matrix_task t = sides_of(s);
    t.rounds = gb_div_up(t.k, GB_MATRIX_BK);
    if (s->kind == GB_STEP_CONV || s->kind == GB_STEP_CONV_INPUT)
        t.rounds *= s->u.conv.kernel[0] * s->u.conv.kernel[1];
    /* split where groups are too few for a GPU; by the shape alone */
    const int64_t groups = gb_div_up(t.m, side) * gb_div_up(t.n, side) * t.batches;
    int64_t want = gb_min(gb_div_up(128, gb_max(1, groups)), t.rounds / 8);
    if (caps->max_rounds) want = gb_max(want, gb_div_up(t.rounds * 24 * side, caps->max_rounds));
    t.share = gb_max(1, gb_div_up(t.rounds, gb_max(1, want)));
    t.shares = gb_max(1, gb_div_up(t.rounds, t.share));
    t.count = t.batches * t.m * t.n;
    return t;
}
