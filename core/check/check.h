/* The operator suite from inside. A case is a line of text:
 *
 *     Conv 2x3x7x5 4x3x3x3 pads=1,1,1,1; Relu $; Add $ 4x1x1
 *
 * Statements name an operator, its operands and attributes. Operands:
 *     2x3x7x5, scalar     an f32 input of that shape; i64:2x3 has another type, 3x4:0.5..2 a range,
 *                         3x4:special holds NaN, infinities, zeros, denormals and huge numbers
 *                         (special2 runs through them more slowly, so that all pairs meet; tame
 *                         leaves out the huge)
 *     state:3x4           a state; "update @0 $" gives it a new value
 *     i64{0,2}, f32(0.5)  a constant of rank 1, of rank 0
 *     &lr                 a step scalar
 *     $, $1, $1.2         the last result, the result of statement 1, its output number 2
 *     @0                  input or state number 0 again
 *     _                   an optional operand that is absent
 * outputs=N asks for N results; the statement "forward" leaves gradients out. What no statement reads is an output of the graph. */
#ifndef GB_CORE_CHECK_CHECK_H
#define GB_CORE_CHECK_CHECK_H

#include <gimbal/program.h>
#include <gimbal/selftest.h>

#include "core/ir/ir.h"

enum { GB_CHECK_LEAVES = 64, GB_CHECK_OUTPUTS = 64, GB_CHECK_STATEMENTS = 48 };

typedef struct gb_check_leaf {
    gb_value value;
    char name[8];
    gb_tensor data;
    bool state, updated, projection; /* projection: r of sum(y·r) */
} gb_check_leaf;

typedef struct gb_check_output {
    gb_value value;
    char name[16];
    bool gradient, loss; /* gradient: of leaf number `leaf` */
    int leaf;
    double tolerance; /* of results; gradients go by the case's */
} gb_check_output;

typedef struct gb_check_case {
    gb_graph *graph;
    gb_check_leaf leaf[GB_CHECK_LEAVES];
    gb_check_output output[GB_CHECK_OUTPUTS];
    int n_leaves, n_outputs, n_statements;
    gb_value result[GB_CHECK_STATEMENTS][GB_MAX_STEP_OUT];
    int n_results[GB_CHECK_STATEMENTS];
    bool read[GB_CHECK_STATEMENTS][GB_MAX_STEP_OUT];
    bool special;      /* some data are special values: no gradients */
    bool forward;      /* no gradients because the text says so */
    bool empty;        /* some value has no elements: zero gradients are in order */
    bool loss;         /* there are gradients */
    uint32_t dtypes;   /* bit 1 << gb_dtype for each type that occurs */
    double sum[GB_CHECK_STATEMENTS]; /* tolerance of the results: the operator's and its operands' */
    double tolerance;                /* the largest of them */
} gb_check_case;

/* Builds the graph of a case, its data, and gradients of sum(y·r) with random r; with_loss: that sum
 * is an output too, for differences. */
gb_status gb_check_build(gb_check_case *c, const char *text, uint64_t seed, bool with_loss,
                         gb_error *err);
void gb_check_free(gb_check_case *c);
/* Random numbers (f32 values for floats), or special ones. slow: special2; not huge: tame. */
void gb_check_uniform(gb_tensor *t, uint64_t seed, uint32_t stream, double low, double high);
void gb_check_special(gb_tensor *t, bool slow, bool huge);

/* What a device computed. */
typedef struct gb_check_values {
    gb_tensor output[GB_CHECK_OUTPUTS]; /* floats as F64 */
    gb_tensor state[GB_CHECK_LEAVES];   /* of updated states */
    int kernels;
} gb_check_values;

/* Sets inputs, states and step scalars. flush: denormal inputs become zeros. */
gb_status gb_check_set_data(const gb_check_case *c, gb_store *store, gb_program *p, bool flush,
                            gb_error *err);
gb_status gb_check_run(const gb_check_case *c, gb_device *dev, const gb_program_options *options,
                       bool flush, gb_check_values *values, gb_error *err);
void gb_check_values_free(gb_check_values *v);
/* Compares; worst grows to the largest error over tolerance. flushed: the reference with denormal
 * inputs as zero, or NULL. Returns GB_OK or fails with what differs. */
gb_status gb_check_compare(const gb_check_case *c, const gb_check_values *got,
                           const gb_check_values *want, const gb_check_values *flushed,
                           double *worst, gb_error *err);
/* Gradients of a case without updates against central differences, on the reference. */
gb_status gb_check_differences(const gb_check_case *c, gb_device *reference, double *worst,
                               gb_error *err);

/* --- the cases --- */
typedef struct gb_check_list {
    char **text;
    size_t n, cap;
    bool quick;  /* wanted: only what is marked as quick */
    bool failed; /* no memory */
} gb_check_list;

/* Appends a text; in a quick list only where quick is true. */
void gb_check_add(gb_check_list *l, bool quick, const char *format, ...) GB_PRINTF(3, 4);
/* Several: those that begin with '*' are quick. The array ends with NULL. */
void gb_check_add_all(gb_check_list *l, const char *const *texts);
void gb_check_list_free(gb_check_list *l);

void gb_check_pointwise(gb_check_list *l);  /* from the operator table */
void gb_check_contract(gb_check_list *l);   /* products, convolutions, pools */
void gb_check_structure(gb_check_list *l);  /* shapes, gathers, reductions, norms, losses */
void gb_check_graphs(gb_check_list *l);     /* chains, layouts, updates, random graphs */
/* All of them; false: no memory. */
bool gb_check_cases(gb_check_list *l);

#endif
