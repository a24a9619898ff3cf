#include <string.h>

#include "backends/cpu/tile_impl.h"

int64_t gb_tile_size(const gb_tile_prog *p)
{
    return p->tile;
}

int gb_tile_loops(const gb_tile_prog *p)
{
    return p->each.n;
}

static size_t pointers_bytes(const gb_tile_prog *p)
{
    return ((size_t)p->n_values * sizeof(void *) + 63) / 64 * 64;
}

size_t gb_tile_scratch_bytes(const gb_tile_prog *p)
{
    return pointers_bytes(p) + (size_t)p->n_slots * (size_t)p->tile * 4 + 64;
}

static char *const_at(const gb_tile_prog *p, int index)
{
    return p->constants + ((size_t)p->n_periods * (size_t)p->tile + (size_t)index) * 4;
}

static char *period_at(const gb_tile_prog *p, int index)
{
    return p->constants + (size_t)index * (size_t)p->tile * 4;
}

static void execute(const gb_tile_prog *p, const gb_code *code, const gb_tile_env *env,
                    const uint32_t *scalars, void *const *at, int64_t start, int64_t n)
{
    for (const gb_instr *i = code->instr, *end = i + code->n; i < end; i++) {
        void *args[1 + GB_LOOP_LEAVES] = {at[i->value[0]]};
        switch (i->op) {
        case GB_TILE_LOOP:
            for (int a = 1; a <= i->n_args; a++) args[a] = at[i->value[a]];
            i->fn(n, args, i->imm);
            break;
        case GB_TILE_LOAD:
            gb_walk_load(&p->in[i->port], env->in[i->port], start, n, args[0]);
            break;
        case GB_TILE_COORD:
            gb_walk_offsets(&p->coord[i->port], start, n, args[0]);
            break;
        case GB_TILE_STORE:
            gb_walk_store(&p->out[i->port], env->out[i->port], start, n, at[i->value[1]]);
            break;
        case GB_TILE_SET:
            if (i->prim == GB_P_CONST)
                *(float *)args[0] = (float)i->imm;
            else if (i->prim == GB_P_ICONST)
                *(int32_t *)args[0] = (int32_t)i->imm;
            else
                *(uint32_t *)args[0] = scalars[(int)i->imm];
            break;
        }
    }
}

void gb_tile_prepare(gb_tile_prog *p, const gb_tile_env *env, const void *scalars, void *scratch)
{
    if (p->once_const.n + p->once_period.n == 0 || p->count == 0) return;
    void **at = scratch;
    for (int i = 0; i < p->n_values; i++) {
        const gb_value *v = &p->value[i];
        at[i] = v->place == GB_AT_CONST    ? const_at(p, v->index)
                : v->place == GB_AT_PERIOD ? period_at(p, v->index)
                                           : NULL;
    }
    execute(p, &p->once_const, env, scalars, at, 0, 1);
    execute(p, &p->once_period, env, scalars, at, 0, p->tile < p->count ? p->tile : p->count);
}

/* Points the moving values at element `start`, which is number `phase` of its tile. */
static void move_to(const gb_tile_prog *p, const gb_tile_env *env, int64_t start, int64_t phase,
                    void **at)
{
    for (int i = 0; i < p->n_moving; i++) {
        const gb_value *v = &p->value[p->moving[i]];
        const char *base;
        int64_t element = phase;
        switch (v->place) {
        case GB_AT_IN:
            base = env->in[v->index];
            element = start;
            break;
        case GB_AT_OUT:
            base = env->out[v->index];
            element = start;
            break;
        default:
            base = period_at(p, v->index);
            break;
        }
        at[p->moving[i]] = (char *)base + element * 4;
    }
}

void gb_tile_begin(const gb_tile_prog *p, void *scratch)
{
    void **at = scratch;
    char *slots = (char *)scratch + pointers_bytes(p);
    for (int i = 0; i < p->n_values; i++) {
        const gb_value *v = &p->value[i];
        if (v->place == GB_AT_CONST)
            at[i] = const_at(p, v->index);
        else if (v->place == GB_AT_SLOT)
            at[i] = slots + (size_t)v->index * (size_t)p->tile * 4;
    }
}

void gb_tile_range(const gb_tile_prog *p, const gb_tile_env *env, int64_t start, int64_t end,
                   void *scratch, gb_tile_after after, void *ctx)
{
    void **at = scratch;
    while (start < end) {
        int64_t phase = start % p->tile, n = p->tile - phase;
        if (n > end - start) n = end - start;
        move_to(p, env, start, phase, at);
        execute(p, &p->each, env, NULL, at, start, n);
        if (after) {
            const void *result[GB_MAX_STEP_OUT];
            for (int k = 0; k < p->n_out; k++) result[k] = at[p->result[k]];
            after(ctx, start, n, result);
        }
        start += n;
    }
}

void gb_tile_run(const gb_tile_prog *p, const gb_tile_env *env, int64_t start, int64_t end,
                 void *scratch, gb_tile_after after, void *ctx)
{
    gb_tile_begin(p, scratch);
    gb_tile_range(p, env, start, end, scratch, after, ctx);
}
