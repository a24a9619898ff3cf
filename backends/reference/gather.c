#include <math.h>

#include "backends/reference/reference.h"

/* Row that index number i names, or -1 where it is out of range. */
static int64_t row_at(const gb_backend_program *p, const gb_operand *index, int64_t i, int64_t rows)
{
    int64_t row = (int64_t)gb_ref_load(p, index, &i);
    if (row < 0) row += rows;
    return row >= 0 && row < rows ? row : -1;
}

gb_status gb_ref_gather(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    const gb_operand *data = &s->in[0], *index = &s->in[1], *out = &s->out[0];
    int64_t at[3] = {0}, n = gb_ref_count(out->dim, 3);
    for (int64_t i = 0; i < n; i++, gb_ref_next(at, out->dim, 3)) {
        int64_t row = row_at(p, index, at[1], data->dim[1]);
        double missing = data->storage == GB_S_I32 ? 0 : NAN;
        gb_ref_store(p, out, at,
                     row < 0 ? missing : gb_ref_load(p, data, (int64_t[]){at[0], row, at[2]}));
    }
    return GB_OK;
}

gb_status gb_ref_gather_grad(const gb_backend_program *p, const gb_step *s, gb_error *err)
{
    const gb_operand *dy = &s->in[0], *index = &s->in[1], *out = &s->out[0];
    int64_t at[3] = {0}, n = gb_ref_count(out->dim, 3);
    for (int64_t i = 0; i < n; i++, gb_ref_next(at, out->dim, 3)) gb_ref_store(p, out, at, 0);
    n = gb_ref_count(dy->dim, 3);
    for (int64_t i = 0; i < n; i++, gb_ref_next(at, dy->dim, 3)) {
        int64_t row = row_at(p, index, at[1], out->dim[1]);
        if (row < 0) continue;
        int64_t to[3] = {at[0], row, at[2]};
        gb_ref_store(p, out, to, gb_ref_load(p, out, to) + gb_ref_load(p, dy, at));
    }
    return GB_OK;
}
