/* Stores: named state on a device. */
#include <stdlib.h>
#include <string.h>

#include "core/runtime/runtime.h"

gb_status gb_store_create(gb_device *dev, gb_store **store, gb_error *err)
{
    if (!dev || !store) return gb_fail(err, GB_INVALID, "store", NULL, "an argument is NULL");
    *store = calloc(1, sizeof **store);
    if (!*store) return gb_fail(err, GB_OUT_OF_MEMORY, "store", NULL, "no memory for a store");
    (*store)->dev = dev;
    return GB_OK;
}

static void state_free(gb_store *store, gb_state *s)
{
    gb_device_free(store->dev, s->bytes, s->buf);
    free(s->name);
    free(s);
}

void gb_store_destroy(gb_store **store)
{
    if (!store || !*store) return;
    for (int i = 0; i < (*store)->n; i++) state_free(*store, (*store)->state[i]);
    free((*store)->state);
    free(*store);
    *store = NULL;
}

static gb_state *find(const gb_store *store, const char *name)
{
    for (int i = 0; i < store->n; i++)
        if (strcmp(store->state[i]->name, name) == 0) return store->state[i];
    return NULL;
}

static gb_status no_memory(const char *name, gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory for state '%s'", name);
}

/* Appends a state with undefined content. */
static gb_status add(gb_store *store, const gb_plan_port *port, uint64_t bytes, gb_state **state,
                     gb_error *err)
{
    if (store->n == store->cap) {
        int cap = store->cap ? 2 * store->cap : 64;
        gb_state **grown = realloc(store->state, (size_t)cap * sizeof *grown);
        if (!grown) return no_memory(port->name, err);
        store->state = grown;
        store->cap = cap;
    }
    gb_state *s = calloc(1, sizeof *s);
    if (s) s->name = strdup(port->name);
    if (!s || !s->name) {
        free(s);
        return no_memory(port->name, err);
    }
    s->dtype = port->dtype;
    s->shape = port->shape;
    s->where = port->where;
    s->bytes = bytes;
    gb_status status = gb_device_alloc(store->dev, bytes, &s->buf, err);
    if (status != GB_OK) {
        state_free(store, s);
        return status;
    }
    *state = store->state[store->n++] = s;
    return GB_OK;
}

static void drop_last(gb_store *store)
{
    state_free(store, store->state[--store->n]);
}

/* --- layouts --- */

/* Size-1 axes have any stride. */
static bool same_layout(const gb_operand *a, const gb_operand *b)
{
    if (a->storage != b->storage || a->offset != b->offset || a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i] || (a->dim[i] > 1 && a->stride[i] != b->stride[i])) return false;
    return true;
}

/* Moves a state to a new buffer, where it lies as port says. Goes through F64 on a device that keeps
 * more than the dtype holds. */
static gb_status move(gb_store *store, gb_state *s, const gb_plan_port *port, uint64_t bytes,
                      gb_error *err)
{
    if (s->programs)
        return gb_fail(err, GB_UNSUPPORTED, s->name,
                       "destroy the other program first, or use a second store",
                       "state '%s' lies in another memory order for another program", s->name);
    bool wide = store->dev->backend->read_f64 && gb_dtype_is_float(s->dtype);
    gb_backend_buffer *buf = NULL;
    gb_tensor host = {0};
    gb_status status = gb_tensor_alloc(&host, wide ? GB_F64 : s->dtype, &s->shape, err);
    if (status == GB_OK) status = gb_download(store->dev, s->buf, &s->where, &host, err);
    if (status == GB_OK) status = gb_device_alloc(store->dev, bytes, &buf, err);
    if (status == GB_OK) status = gb_upload(store->dev, buf, &port->where, &host, s->name, err);
    if (status == GB_OK) {
        gb_device_free(store->dev, s->bytes, s->buf);
        s->buf = buf;
        s->bytes = bytes;
        s->where = port->where;
    } else {
        gb_device_free(store->dev, bytes, buf);
    }
    gb_tensor_free(&host);
    return status;
}

static gb_status initialize(gb_store *store, gb_state *s, const gb_tensor *initial, gb_error *err)
{
    if (initial) return gb_upload(store->dev, s->buf, &s->where, initial, s->name, err);
    gb_tensor zero;
    gb_status status = gb_tensor_alloc(&zero, s->dtype, &s->shape, err);
    if (status == GB_OK) status = gb_upload(store->dev, s->buf, &s->where, &zero, s->name, err);
    gb_tensor_free(&zero);
    return status;
}

gb_status gb_store_adopt(gb_store *store, const gb_plan_port *port, uint64_t bytes,
                         const gb_tensor *initial, gb_state **state, gb_error *err)
{
    char want[160], got[160];
    gb_state *s = find(store, port->name);
    if (!s) {
        gb_status status = add(store, port, bytes, &s, err);
        if (status != GB_OK) return status;
        status = initialize(store, s, initial, err);
        if (status != GB_OK) drop_last(store);
        *state = status == GB_OK ? s : NULL;
        return status;
    }
    *state = s;
    if (s->dtype != port->dtype || !gb_shape_equal(&s->shape, &port->shape))
        return gb_fail(err, GB_INVALID, s->name, "use another store or another model",
                       "state '%s' is %s %s in the store, but %s %s in the graph", s->name,
                       gb_dtype_name(s->dtype), gb_shape_text(&s->shape, got, sizeof got),
                       gb_dtype_name(port->dtype), gb_shape_text(&port->shape, want, sizeof want));
    if (same_layout(&s->where, &port->where)) return GB_OK;
    return move(store, s, port, bytes, err);
}

/* --- for users --- */

static gb_storage storage_of(gb_dtype dtype)
{
    return dtype == GB_F16                ? GB_S_F16
           : dtype == GB_BF16             ? GB_S_BF16
           : gb_dtype_is_float(dtype)     ? GB_S_F32
                                          : GB_S_I32;
}

/* Until a program says otherwise a state lies row-major. */
static gb_status add_row_major(gb_store *store, const char *name, const gb_tensor *value,
                               gb_state **state, gb_error *err)
{
    gb_plan_port port = {.name = name, .dtype = value->dtype, .shape = value->shape};
    gb_operand *w = &port.where;
    w->storage = storage_of(value->dtype);
    w->rank = value->shape.rank;
    int64_t count = 1;
    for (int i = w->rank - 1; i >= 0; i--) {
        w->dim[i] = value->shape.dim[i];
        w->stride[i] = count;
        count *= w->dim[i];
    }
    return add(store, &port, (uint64_t)count * gb_storage_size(w->storage), state, err);
}

gb_status gb_store_set(gb_store *store, const char *name, const gb_tensor *value, gb_error *err)
{
    if (!store || !name || !value)
        return gb_fail(err, GB_INVALID, name, NULL, "an argument is NULL");
    gb_state *s = find(store, name);
    bool made = !s;
    int64_t count = value->shape.rank < 0 || value->shape.rank > GB_MAX_RANK
                        ? -1
                        : gb_shape_count(&value->shape);
    if (count < 0 || !gb_dtype_size(value->dtype))
        return gb_fail(err, GB_INVALID, name, NULL, "state '%s' got no proper tensor", name);
    gb_status status = gb_check_tensor(value, s ? s->dtype : value->dtype,
                                       s ? &s->shape : &value->shape, "state", name, err);
    if (status == GB_OK && made) status = add_row_major(store, name, value, &s, err);
    if (status != GB_OK) return status;
    store->version++;
    status = gb_upload(store->dev, s->buf, &s->where, value, name, err);
    if (status != GB_OK && made) drop_last(store);
    return status;
}

gb_status gb_store_get(gb_store *store, const char *name, gb_tensor *value, gb_error *err)
{
    if (!store || !name || !value)
        return gb_fail(err, GB_INVALID, name, NULL, "an argument is NULL");
    *value = (gb_tensor){0};
    const gb_state *s = find(store, name);
    if (!s) return gb_fail(err, GB_NOT_FOUND, name, NULL, "the store has no state '%s'", name);
    gb_status status = gb_tensor_alloc(value, s->dtype, &s->shape, err);
    if (status == GB_OK) status = gb_download(store->dev, s->buf, &s->where, value, err);
    if (status != GB_OK) gb_tensor_free(value);
    return status;
}

uint64_t gb_store_bytes(const gb_store *store)
{
    uint64_t bytes = 0;
    for (int i = 0; store && i < store->n; i++) bytes += store->state[i]->bytes;
    return bytes;
}

const char *gb_store_name(const gb_store *store, int i)
{
    return store && i >= 0 && i < store->n ? store->state[i]->name : NULL;
}
