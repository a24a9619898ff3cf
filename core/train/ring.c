/* What a step tells, kept on the device until the host reads many steps at once: a ring of rows
 * (loss, hits; in f16 also the loss scale and whether the step was skipped), and a guard that stays
 * set once a step failed. A run of a training program fills one row; where a batch is cut, each
 * part has its own. Both are states, but no part of a checkpoint. */
#include "core/train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char ring_name[] = "metrics.ring", stopped_name[] = "metrics.stopped",
                  row_name[] = "metrics_row";

bool gb_ring_owns(const char *state)
{
    return strncmp(state, "metrics.", 8) == 0;
}

static int columns(const gb_recipe *r)
{
    return r->precision == GB_PRECISION_F16 ? GB_RING_COLUMNS : GB_RING_SCALE;
}

/* --- in graphs --- */

gb_value gb_ring_stopped(gb_graph *g)
{
    gb_shape scalar = {0};
    return gb_graph_state(g, stopped_name, GB_F32, &scalar, false, NULL);
}

gb_value gb_ring_going(gb_graph *g, gb_value stopped)
{
    return gb_op2(g, "Equal", stopped, gb_graph_float(g, 0));
}

void gb_ring_stop(gb_graph *g, gb_value stopped, gb_value going)
{
    gb_graph_update(g, stopped,
                    gb_op3(g, "Where", going, gb_graph_float(g, 0), gb_graph_float(g, 1)));
}

/* The row of each element in column k; no number of a row outside of it. */
static gb_value rows_of(gb_graph *g, int column, int count)
{
    int32_t number[GB_RING_COLUMNS * GB_RING_ROWS];
    for (int i = 0; i < count; i++) number[i] = i / GB_RING_ROWS == column ? i % GB_RING_ROWS : -1;
    gb_tensor t = {GB_I32, gb_shape_of(1, count), number};
    return gb_graph_constant(g, &t);
}

void gb_ring_write(gb_graph *g, const gb_recipe *r, const gb_value *column)
{
    int count = columns(r) * GB_RING_ROWS;
    gb_shape shape = gb_shape_of(1, count);
    gb_graph_path(g, "metrics");
    gb_value ring = gb_graph_state(g, ring_name, GB_F32, &shape, false, NULL), now = ring;
    gb_value row = gb_graph_scalar(g, row_name, GB_I32);
    for (int k = 0; k < columns(r); k++) {
        if (!column[k]) continue;
        gb_value here = gb_op2(g, "Equal", rows_of(g, k, count), row);
        now = gb_op3(g, "Where", here, column[k], now);
    }
    gb_graph_update(g, ring, now);
}

/* --- on the host --- */

gb_status gb_ring_begin_row(gb_trainer *t, gb_program *p, int64_t examples, gb_error *err)
{
    gb_ring *ring = &t->ring;
    gb_status status = ring->rows == GB_RING_ROWS ? gb_ring_drain(t, err) : GB_OK;
    if (status) return status;
    ring->examples[ring->rows] = examples;
    ring->ends[ring->rows] = false;
    return gb_program_set_scalar(p, row_name, ring->rows++, err);
}

void gb_ring_end_step(gb_trainer *t)
{
    t->ring.ends[t->ring.rows - 1] = true;
    t->steps++;
}

gb_status gb_ring_same_row(gb_trainer *t, gb_program *p, gb_error *err)
{
    return gb_program_set_scalar(p, row_name, t->ring.rows - 1, err);
}

static gb_status reserve(gb_ring *ring, gb_error *err)
{
    int need = ring->n_results + GB_RING_ROWS;
    if (need <= ring->cap_results) return GB_OK;
    gb_step_result *grown = realloc(ring->result, 2 * (size_t)need * sizeof *grown);
    if (!grown) return gb_fail(err, GB_OUT_OF_MEMORY, "trainer", NULL, "no memory for metrics");
    ring->result = grown;
    ring->cap_results = 2 * need;
    return GB_OK;
}

static bool failed(const gb_step_result *r)
{
    return !isfinite(r->loss) || (r->skipped && r->loss_scale <= 1);
}

/* Adds row i to the step that it is of; *result is complete where the row ends it. Sums are
 * doubles, so that the cut of a batch into parts is not seen in them. */
static void add_row(gb_trainer *t, const gb_tensor *v, int i, gb_step_result *result)
{
    gb_ring *ring = &t->ring;
    ring->loss += gb_tensor_get(v, i);
    ring->hits += gb_tensor_get(v, GB_RING_ROWS + i);
    ring->seen += ring->examples[i];
    if (!ring->ends[i]) return;
    *result = (gb_step_result){.loss = ring->loss, .accuracy = ring->hits / (double)ring->seen};
    if (columns(t->recipe) > GB_RING_SCALE) {
        result->loss_scale = gb_tensor_get(v, GB_RING_SCALE * GB_RING_ROWS + i);
        result->skipped = gb_tensor_get(v, GB_RING_SKIPPED * GB_RING_ROWS + i) != 0;
    }
    ring->loss = ring->hits = 0;
    ring->seen = 0;
}

gb_status gb_ring_drain(gb_trainer *t, gb_error *err)
{
    gb_ring *ring = &t->ring;
    gb_tensor v = {0};
    int64_t unread = 0;
    if (!ring->rows || ring->failed) return GB_OK;
    gb_status status = reserve(ring, err);
    if (!status) status = gb_store_get(t->store, ring_name, &v, err);
    if (status) return status;
    for (int i = 0; i < ring->rows; i++) unread += ring->ends[i];
    for (int i = 0; i < ring->rows && !ring->failed; i++) {
        gb_step_result *result = &ring->result[ring->n_results];
        add_row(t, &v, i, result);
        if (!ring->ends[i]) continue;
        if (failed(result)) {
            ring->failed = true;
            ring->failure = *result;
        } else {
            ring->n_results++;
            unread--;
        }
    }
    if (ring->failed) t->steps -= unread; /* the guard kept these from changing anything */
    ring->rows = 0;
    gb_tensor_free(&v);
    return GB_OK;
}

void gb_ring_forget(gb_trainer *t)
{
    gb_ring *ring = &t->ring;
    ring->failed = false;
    ring->loss = ring->hits = 0;
    ring->seen = 0;
    ring->rows = 0;
    ring->n_results = 0;
}

gb_status gb_ring_restart(gb_trainer *t, gb_error *err)
{
    float zero = 0;
    gb_tensor going = {.dtype = GB_F32, .data = &zero};
    gb_ring_forget(t);
    return gb_store_set(t->store, stopped_name, &going, err);
}

gb_status gb_ring_fail(const gb_trainer *t, gb_error *err)
{
    const gb_step_result *r = &t->ring.failure;
    if (isfinite(r->loss))
        return gb_fail(err, GB_NOT_FINITE, "precision",
                       "use precision bf16 or f32, or lower the learning rate",
                       "the gradients of step %lld do not fit into f16 even at a loss scale of 1",
                       (long long)t->steps);
    return gb_fail(err, GB_NOT_FINITE, "loss", gb_not_finite_hint(t->recipe),
                   "the loss became NaN or infinite at step %lld", (long long)t->steps);
}
