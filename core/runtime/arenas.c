/* Arenas of a store. Nothing in an arena outlives a run, and programs of one store run one after
 * another: so training, evaluation and the short last batch need the memory of the largest alone. */
#include <stdlib.h>

#include "core/runtime/runtime.h"

static bool room_for(gb_store *store, int n)
{
    if (n <= store->n_arenas) return true;
    gb_store_arena *grown = realloc(store->arena, (size_t)n * sizeof *grown);
    if (!grown) return false;
    for (int i = store->n_arenas; i < n; i++) grown[i] = (gb_store_arena){0};
    store->arena = grown;
    store->n_arenas = n;
    return true;
}

static void point_to_arenas(gb_program *p)
{
    for (int i = 0; i < p->plan->n_buffers; i++)
        if (p->plan->buffer[i].role == GB_BUF_ARENA)
            p->buffer[i] = p->store->arena[p->plan->buffer[i].index].buf;
}

/* Gives every program the present arenas. */
static gb_status rebind(gb_store *store, gb_error *err)
{
    gb_status status = GB_OK;
    for (gb_program *p = store->programs; p && status == GB_OK; p = p->next) {
        point_to_arenas(p);
        status = store->dev->backend->program_bind(p->prog, p->buffer, err);
    }
    return status;
}

/* The old buffer goes only when no program and no run needs it. */
static gb_status grow(gb_store *store, int index, uint64_t bytes, gb_error *err)
{
    gb_store_arena old = store->arena[index], *arena = &store->arena[index];
    gb_backend_buffer *buf;
    gb_status status = gb_device_alloc(store->dev, bytes, &buf, err);
    if (status != GB_OK) return status;
    *arena = (gb_store_arena){.buf = buf, .bytes = bytes};
    if (!old.buf) return GB_OK;
    status = gb_device_wait(store->dev, err);
    if (status == GB_OK) status = rebind(store, err);
    if (status == GB_OK) {
        gb_device_free(store->dev, old.bytes, old.buf);
        return GB_OK;
    }
    *arena = old;
    rebind(store, NULL);
    gb_device_free(store->dev, bytes, buf);
    return status;
}

gb_status gb_arenas_join(gb_program *p, gb_error *err)
{
    gb_store *store = p->store;
    for (int i = 0; i < p->plan->n_buffers; i++) {
        const gb_plan_buffer *b = &p->plan->buffer[i];
        if (b->role != GB_BUF_ARENA) continue;
        if (!room_for(store, b->index + 1))
            return gb_fail(err, GB_OUT_OF_MEMORY, "program", NULL, "no memory for a program");
        if (store->arena[b->index].bytes >= b->bytes && store->arena[b->index].buf) continue;
        gb_status status = grow(store, b->index, b->bytes, err);
        if (status != GB_OK) return status;
    }
    p->next = store->programs;
    store->programs = p;
    point_to_arenas(p);
    return GB_OK;
}

void gb_arenas_leave(gb_program *p)
{
    gb_store *store = p->store;
    gb_program **at = &store->programs;
    while (*at && *at != p) at = &(*at)->next;
    if (*at) *at = p->next;
    if (store->programs) return;
    for (int i = 0; i < store->n_arenas; i++)
        gb_device_free(store->dev, store->arena[i].bytes, store->arena[i].buf);
    free(store->arena);
    store->arena = NULL;
    store->n_arenas = 0;
}
