/* The plan: what a backend runs. A list of steps over planned buffers, with shapes fixed.
 *
 * This is all of a model that a backend ever sees: about a dozen kinds of steps, never an operator.
 * Everything in a plan has been validated; backends trust it. */
#ifndef GB_CORE_IR_PLAN_H
#define GB_CORE_IR_PLAN_H

#include <gimbal/types.h>

#include "core/ir/expr.h"

/* What one element is in device memory. Booleans and all integers are stored as I32. */
typedef enum gb_storage { GB_S_F32, GB_S_I32, GB_S_F16, GB_S_BF16, GB_S_COUNT } gb_storage;
static inline size_t gb_storage_size(gb_storage s) { return s == GB_S_F32 || s == GB_S_I32 ? 4 : 2; }

/* A strided window into a buffer. Strides count elements, may be 0 (broadcast) or negative. */
typedef struct gb_operand {
    int buffer;      /* index into gb_plan.buffer; -1: absent (optional operand) */
    uint64_t offset; /* bytes, from the buffer's start to element [0, 0, …] */
    gb_storage storage;
    int rank;
    int64_t dim[GB_MAX_RANK];
    int64_t stride[GB_MAX_RANK];
} gb_operand;

typedef enum gb_step_kind {
    /* out[k][i] = expr_k(in[…][i]) over the iteration space (rank, dim). All operands have the
     * step's rank; inputs have stride 0 where they broadcast. Outputs never overlap inputs, except
     * an output that is exactly an input (same window): in place. */
    GB_STEP_POINTWISE,
    /* The iteration space is [kept axes …, reduced axes …]. expr gives n_red values, value k goes
     * through combiner red[k] over the reduced axes and is multiplied by scale[k]. Outputs have
     * rank n_kept; MOMENTS has two outputs (mean, biased variance; scale unused), others one. */
    GB_STEP_REDUCE,
    /* out[0] = index (I32) along the one reduced axis (the last) of the first (or last) extreme
     * of in[0]; NaN counts as the extreme. u.arg. Inputs and outputs as in REDUCE. */
    GB_STEP_ARGREDUCE,
    /* out[0] = in[0] · in[1]; operands are [batch axes…, M, K], [batch axes…, K, N] and
     * [batch axes…, M, N]: equal rank, batch dims equal (stride 0 where broadcast). */
    GB_STEP_MATMUL,
    /* Images are [N, C, H, W] in axis order, dense channels-last in memory; filters
     * [O, C/groups, KH, KW], dense with O outermost and C/groups innermost. u.conv.
     * CONV: in x, w; out y.  CONV_INPUT: in dy, w; out dx.  CONV_FILTER: in x, dy; out dw. */
    GB_STEP_CONV,
    GB_STEP_CONV_INPUT,
    GB_STEP_CONV_FILTER,
    /* Pools over [N, C, H, W], channels-last. u.conv (groups unused).
     * MAXPOOL: in x; out y, index (I32, h*W + w in the input's plane; may be absent). A window
     * with no element gives -inf and index -1; NaN wins; the first maximum in (h, w) order.
     * MAXPOOL_GRAD: in dy, index; out dx (a sum over windows in fixed order, no atomics).
     * AVGPOOL: in x; out y.  AVGPOOL_GRAD: in dy; out dx. */
    GB_STEP_MAXPOOL,
    GB_STEP_MAXPOOL_GRAD,
    GB_STEP_AVGPOOL,
    GB_STEP_AVGPOOL_GRAD,
    /* GATHER: in data [outer, rows, inner], index [n] (I32); out [outer, n, inner]. Negative
     * indices count from the end; one out of range gives NaN (0 for integers).
     * GATHER_GRAD: in dy [outer, n, inner], index [n]; out d data [outer, rows, inner], the sum in
     * order of n (deterministic, no atomics). Operands have rank 3 (index: 1). */
    GB_STEP_GATHER,
    GB_STEP_GATHER_GRAD,
    GB_STEP_KINDS
} gb_step_kind;

typedef enum gb_combine { GB_SUM, GB_PROD, GB_MAX, GB_MIN, GB_MOMENTS } gb_combine;

typedef struct gb_window { /* of convolutions and pools; [0] is height, [1] is width */
    int64_t kernel[2], stride[2], dilation[2];
    int64_t pad[2], pad_end[2]; /* as declared; windows may reach beyond the end (ceil_mode) */
    int64_t groups;
    bool count_pad; /* AVGPOOL: divide by the window's part of the padded image, not of the image */
} gb_window;

enum { GB_VARIANT_SIZE = 48 }; /* of an implementation's name, terminated */

typedef struct gb_step {
    gb_step_kind kind;
    char variant[GB_VARIANT_SIZE]; /* the implementation that is wanted; "": the backend's choice */
    const char *path;  /* the layer that it belongs to ("layers.3.conv"), never NULL */
    const char *phase; /* "forward", "backward", "update" */
    int n_in, n_out;
    gb_operand in[GB_MAX_STEP_IN], out[GB_MAX_STEP_OUT];
    /* POINTWISE, REDUCE, ARGREDUCE: the iteration space */
    int rank;
    int64_t dim[GB_MAX_RANK];
    /* POINTWISE: the computation. REDUCE: what is combined. MATMUL, CONV, CONV_INPUT: the epilogue
     * or NULL: INPUT 0 is the contraction's float result, INPUT k (k >= 1) is in[1 + k]; extra
     * operands have the shape of out[0], with stride 0 where they broadcast; no COORD in it. */
    const gb_expr *expr;
    int n_kept, n_red; /* REDUCE */
    gb_combine red[GB_MAX_STEP_OUT];
    double scale[GB_MAX_STEP_OUT];
    union {
        gb_window conv;
        struct { bool min, last; } arg;
    } u;
    gb_operand scratch;  /* bytes that the backend asked for in query; buffer -1: none */
    uint64_t scratch_bytes;
    /* Inputs, by bit, that stay the same from run to run until program_renew is called; once: all do,
     * and the step's results are KEPT: a backend may run it after program_renew alone. packed: bytes
     * for what the backend makes of such inputs, which stay between runs. */
    uint32_t fixed;
    bool once;
    gb_operand packed;
    uint64_t packed_bytes; /* 0: none */
    bool fast; /* contractions: F(4x4) and its like are allowed (gb_math) */
    double flops, bytes; /* multiply-adds count 2; bytes that must move at least */
} gb_step;

typedef enum gb_buffer_role {
    GB_BUF_SCALARS,   /* gb_plan.n_scalars words of 4 bytes, written before each run */
    GB_BUF_CONSTANT,  /* data is written once */
    GB_BUF_STATE,     /* state number index of the graph */
    GB_BUF_INPUT,     /* input number index of the graph */
    GB_BUF_OUTPUT,    /* output number index */
    GB_BUF_KEPT,      /* results of steps that run once, and packed inputs */
    GB_BUF_TRANSIENT, /* lives between two steps; packed into arenas by the memory plan */
    GB_BUF_ARENA
} gb_buffer_role;

typedef struct gb_plan_buffer {
    gb_buffer_role role;
    int index;
    uint64_t bytes;
    const void *data; /* CONSTANT */
} gb_plan_buffer;

/* How the host finds a graph's named tensor in device memory: axis order is the graph's, strides
 * say where an element lies; host dtype and device storage may differ. */
typedef struct gb_plan_port {
    const char *name;
    gb_dtype dtype;
    gb_shape shape;
    gb_operand where;
} gb_plan_port;

typedef struct gb_plan {
    int n_steps, n_buffers, n_inputs, n_outputs, n_states, n_scalars;
    gb_step *step;
    gb_plan_buffer *buffer;
    gb_plan_port *input, *output, *state; /* state: where the value lies before and after a run */
    const char **scalar;                  /* names, by slot */
    const char *scalar_type;              /* 'f' or 'i', by slot */
    int scalars_buffer;                   /* index of the SCALARS buffer, -1: none */
    uint64_t arena_bytes, state_bytes, other_bytes; /* the planned peak is their sum */
    int recomputed; /* values of the forward run that are made again instead of kept, … */
    uint64_t recomputed_bytes;
    void *memory; /* arena that owns all of it */
} gb_plan;

/* What a device says to a step that it was asked to run. */
typedef struct gb_answer {
    bool ok;
    char reason[200];        /* why not */
    uint64_t packed_bytes;   /* wanted for as long as the program is alive; 0 if s->fixed is */
    uint64_t scratch_bytes;  /* wanted while the step runs, aligned to 256 */
    char variant[GB_VARIANT_SIZE]; /* the implementation that would be taken */
} gb_answer;

bool gb_plan_writes_states(const gb_plan *plan);
const char *gb_step_kind_name(gb_step_kind kind);
void gb_plan_free(gb_plan *plan); /* it lies in the arena `memory`, which is destroyed */

#endif
