#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/reduce.h"

#define FLUSH 32 /* values that a lane sums up in f32 before it goes into an f64 */
#define PILOT 16 /* a part of the rows gives the shift that keeps squares small */

/* --- the expression --- */

typedef struct {
    gb_enode *node;
    int n;
} node_list;

static uint16_t add_node(node_list *l, gb_prim prim, char type, int a, int b, double imm)
{
    l->node[l->n] = (gb_enode){.prim = (uint8_t)prim, .type = type, .imm = imm,
                               .arg = {(uint16_t)a, (uint16_t)b}};
    return (uint16_t)l->n++;
}

static gb_prim combiner(gb_combine how, bool integer)
{
    switch (how) {
    case GB_PROD: return integer ? GB_P_IMUL : GB_P_MUL;
    case GB_MAX: return integer ? GB_P_IMAX : GB_P_MAX;
    case GB_MIN: return integer ? GB_P_IMIN : GB_P_MIN;
    default: return integer ? GB_P_IADD : GB_P_ADD;
    }
}

/* One more array of lanes, read as an input; returns its node. */
static uint16_t add_lanes(gb_reduce *r, int red, bool shift, node_list *l, gb_tile_desc *d)
{
    int port = r->n_in + r->n_lanes;
    r->lane_red[r->n_lanes] = red;
    r->lane_is_shift[r->n_lanes++] = shift;
    d->in[port] = (gb_tile_port){.bind = GB_BIND_LANES, .storage = GB_S_F32, .place = 1 + port};
    return add_node(l, GB_P_INPUT, r->integer[red] ? 'i' : 'f', 0, 0, port);
}

/* lanes = lanes (combined with) value */
static void accumulate(gb_reduce *r, int red, int value, node_list *l, gb_tile_desc *d,
                       gb_expr *e)
{
    bool integer = r->integer[red];
    uint16_t lanes = add_lanes(r, red, false, l, d);
    d->out[e->n_out] = d->in[r->n_in + r->n_lanes - 1];
    e->out[e->n_out++] =
        add_node(l, combiner(r->red[red], integer), integer ? 'i' : 'f', lanes, value, 0);
}

gb_status gb_reduce_lanes_expr(gb_reduce *r, const gb_step *step, gb_expr *expr, gb_enode **nodes,
                               gb_tile_desc *d, gb_error *err)
{
    const gb_expr *e = step->expr;
    node_list l = {.n = e->n_nodes};
    *nodes = l.node = malloc((size_t)(e->n_nodes + 8 * GB_MAX_STEP_OUT) * sizeof *l.node);
    if (!l.node)
        return gb_fail(err, GB_OUT_OF_MEMORY, step->path, "close other programs",
                       "no memory to prepare a reduction");
    memcpy(l.node, e->node, (size_t)e->n_nodes * sizeof *l.node);
    *expr = (gb_expr){.n_out = 0};
    for (int red = 0; red < r->n_red; red++) {
        int value = e->out[red];
        if (r->red[red] == GB_MOMENTS) {
            uint16_t shift = add_lanes(r, red, true, &l, d);
            value = add_node(&l, GB_P_SUB, 'f', value, shift, 0);
            accumulate(r, red, value, &l, d, expr);
            value = add_node(&l, GB_P_MUL, 'f', value, value, 0);
        }
        accumulate(r, red, value, &l, d, expr);
    }
    expr->node = l.node;
    expr->n_nodes = l.n;
    expr->n_in = r->n_in + r->n_lanes;
    d->expr = expr;
    return GB_OK;
}

/* --- one task --- */

typedef struct {
    const gb_reduce *r;
    gb_tile_env env;
    void *scratch;         /* of the tile program */
    float *lanes;          /* [n_lanes][tile] */
    double *sum;           /* [n_lanes][block] */
    gb_partial *partial;   /* [block][n_red] */
    int64_t tile, column, columns;
} column_task;

static double empty_lane(const gb_reduce *r, int lane)
{
    return gb_partial_empty(r, r->lane_red[lane]).v;
}

static void clear_lanes(const column_task *t)
{
    for (int k = 0; k < t->r->n_lanes; k++) {
        float *lane = t->lanes + k * t->tile;
        if (t->r->lane_is_shift[k]) continue;
        if (t->r->integer[t->r->lane_red[k]])
            for (int64_t i = 0; i < t->tile; i++)
                ((int32_t *)lane)[i] = (int32_t)empty_lane(t->r, k);
        else
            for (int64_t i = 0; i < t->tile; i++) lane[i] = (float)empty_lane(t->r, k);
    }
}

/* Adds lane after lane to its column. */
static void flush_lane(const column_task *t, int k)
{
    const gb_reduce *r = t->r;
    int red = r->lane_red[k];
    const float *lane = t->lanes + k * t->tile;
    double *sum = t->sum + k * r->block;
    bool plain = !r->integer[red] && (r->red[red] == GB_SUM || r->red[red] == GB_MOMENTS);
    int64_t used = t->tile / t->columns * t->columns;
    for (int64_t i = 0; i < used; i += t->columns)
        for (int64_t c = 0; c < t->columns; c++) {
            if (plain) {
                sum[c] += lane[i + c];
                continue;
            }
            gb_partial to = {.v = sum[c]}, x = {.v = lane[i + c]};
            if (r->integer[red]) x.v = ((const int32_t *)lane)[i + c];
            gb_partial_add(r, red, &to, &x);
            sum[c] = to.v;
        }
}

static void flush(const column_task *t)
{
    for (int k = 0; k < t->r->n_lanes; k++)
        if (!t->r->lane_is_shift[k]) flush_lane(t, k);
    clear_lanes(t);
}

static void clear_sums(const column_task *t)
{
    for (int k = 0; k < t->r->n_lanes; k++)
        for (int64_t c = 0; c < t->columns; c++) t->sum[k * t->r->block + c] = empty_lane(t->r, k);
}

/* Accumulates rows [first, end) of one outer place into the sums. */
static void accumulate_rows(const column_task *t, int64_t outer, int64_t first, int64_t end)
{
    const gb_reduce *r = t->r;
    int64_t base = (outer * r->length) * r->inner;
    if (r->blocks > 1 || r->inner > GB_TILE_MAX) {
        for (int64_t row = first; row < end; row++) {
            int64_t start = base + row * r->inner + t->column;
            gb_tile_run(r->prog, &t->env, start, start + t->columns, t->scratch, NULL, NULL);
            if ((row - first) % FLUSH == FLUSH - 1 || row == end - 1) flush(t);
        }
        return;
    }
    int64_t rows = t->tile / r->inner * FLUSH;
    for (int64_t row = first; row < end; row += rows) {
        int64_t stop = row + rows < end ? row + rows : end;
        gb_tile_run(r->prog, &t->env, base + row * r->inner, base + stop * r->inner, t->scratch,
                    NULL, NULL);
        flush(t);
    }
}

static bool has_moments(const gb_reduce *r)
{
    for (int k = 0; k < r->n_red; k++)
        if (r->red[k] == GB_MOMENTS) return true;
    return false;
}

/* Sets the shifts to the columns' means over `rows` rows, which the sums hold (with shift 0). A
 * shift from a sixteenth of the rows can be off by at most a few deviations of all of them. */
static void set_shifts(const column_task *t, int64_t rows)
{
    const gb_reduce *r = t->r;
    for (int k = 0; k < r->n_lanes; k++) {
        if (!r->lane_is_shift[k]) continue;
        float *shift = t->lanes + k * t->tile;
        const double *sum = t->sum + (k + 1) * r->block;
        for (int64_t i = 0; i < t->tile; i++) {
            float mean = rows ? (float)(sum[i % t->columns] / (double)rows) : 0;
            shift[i] = isfinite(mean) ? mean : 0;
        }
    }
}

static void column_partials(const column_task *t, int64_t rows, gb_partial *out, int64_t stride)
{
    const gb_reduce *r = t->r;
    for (int k = 0; k < r->n_lanes; k++) {
        int red = r->lane_red[k];
        const double *a = t->sum + k * r->block, *b = a + r->block, *c = b + r->block;
        for (int64_t i = 0; i < t->columns; i++) {
            gb_partial *p = &out[i * stride + red];
            *p = (gb_partial){.n = (double)rows, .v = a[i]};
            if (!r->lane_is_shift[k]) continue;
            double d = b[i] / (double)rows;
            p->v = t->lanes[k * t->tile + i] + d;
            p->m2 = c[i] - d * b[i];
            if (p->m2 < 0) p->m2 = 0;
        }
        if (r->lane_is_shift[k]) k += 2;
    }
}

/* Makes an outer place's partial results; stride is between columns of out. */
static void reduce_rows(const column_task *t, int64_t outer, int64_t first, int64_t end,
                        gb_partial *out, int64_t stride)
{
    clear_lanes(t);
    clear_sums(t);
    if (has_moments(t->r)) {
        int64_t pilot = (end - first + PILOT - 1) / PILOT;
        set_shifts(t, 0);
        accumulate_rows(t, outer, first, first + pilot);
        set_shifts(t, pilot);
        clear_sums(t);
    }
    accumulate_rows(t, outer, first, end);
    column_partials(t, end - first, out, stride);
}

static size_t round64(size_t n)
{
    return (n + 63) / 64 * 64;
}

static size_t lanes_bytes(const gb_reduce *r)
{
    return round64((size_t)r->n_lanes * (size_t)gb_tile_size(r->prog) * sizeof(float));
}

static size_t sums_bytes(const gb_reduce *r)
{
    return round64((size_t)r->n_lanes * (size_t)r->block * sizeof(double));
}

size_t gb_reduce_columns_scratch(const gb_reduce *r)
{
    size_t results = (size_t)(r->block * r->group) * ((size_t)r->n_red * sizeof(gb_partial) + 8);
    return round64(gb_tile_scratch_bytes(r->prog)) + lanes_bytes(r) + sums_bytes(r) +
           round64(results);
}

void gb_reduce_columns_task(void *ctx, int64_t task, int worker)
{
    const gb_reduce_run *run = ctx;
    const gb_reduce *r = run->r;
    char *p = gb_worker_scratch(run->workers, worker);
    column_task t = {.r = r, .env = run->env, .scratch = p, .tile = gb_tile_size(r->prog)};
    t.lanes = (float *)(p += round64(gb_tile_scratch_bytes(r->prog)));
    t.sum = (double *)(p += lanes_bytes(r));
    t.partial = (gb_partial *)(p += sums_bytes(r));
    for (int k = 0, out = 0; k < r->n_lanes; k++) {
        t.env.in[r->n_in + k] = t.lanes + k * t.tile;
        if (!r->lane_is_shift[k]) t.env.out[out++] = t.lanes + k * t.tile;
    }
    int64_t block = task % r->blocks, split = task / r->blocks % r->splits;
    int64_t outer = task / r->blocks / r->splits * r->group;
    int64_t places = outer + r->group < r->outer ? r->group : r->outer - outer;
    t.column = block * r->block;
    t.columns = t.column + r->block < r->inner ? r->block : r->inner - t.column;
    int64_t first = split * r->split_length, end = first + r->split_length;
    if (end > r->length) end = r->length;
    int64_t kept = outer * r->inner + t.column;
    if (r->splits > 1) {
        reduce_rows(&t, outer, first, end, r->partial + (kept * r->splits + split) * r->n_red,
                    r->splits * r->n_red);
        return;
    }
    for (int64_t i = 0; i < places; i++)
        reduce_rows(&t, outer + i, first, end, t.partial + i * t.columns * r->n_red, r->n_red);
    int64_t n = places * t.columns;
    gb_reduce_store(run, kept, n, t.partial, t.partial + n * r->n_red);
}
