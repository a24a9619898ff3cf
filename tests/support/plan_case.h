/* One plan step with its data, to be run on any backend: test data is deterministic, outputs are
 * poisoned before, and whatever lies outside of them must be left as it was. */
#ifndef GB_TESTS_PLAN_CASE_H
#define GB_TESTS_PLAN_CASE_H

#include "backends/backend.h"
#include "core/base/arena.h"

enum { GB_CASE_BUFFERS = 24, GB_CASE_GUARD = 256 };

typedef struct gb_case {
    char name[96];
    gb_arena *arena;
    gb_plan plan;
    gb_step step;
    gb_plan_buffer buffer[GB_CASE_BUFFERS];
    uint8_t *bytes[GB_CASE_BUFFERS]; /* what each buffer holds before the run */
    double tolerance; /* of floats, relative to the largest of the reference */
    uint32_t seed, storages; /* storages: bit 1 << gb_storage for each that is used */
    const char *tries; /* names of the variants to try beside the default, in a row; NULL: all */
} gb_case;

typedef struct gb_outcome {
    bool rejected;
    char reason[200], variant[48];
    int64_t count[GB_MAX_STEP_OUT];
    double *out[GB_MAX_STEP_OUT]; /* row-major; owned by the case's arena */
} gb_outcome;

typedef enum gb_fill {
    GB_FILL_POISON,   /* outputs */
    GB_FILL_UNIFORM,  /* [-2, 2) */
    GB_FILL_POSITIVE, /* [0.1, 2.1) */
    GB_FILL_UNIT,     /* [-0.9, 0.9) */
    GB_FILL_SPECIAL,  /* NaN, infinities, zeros, large, small, ordinary */
    GB_FILL_INTEGER,  /* [-40, 40) */
    GB_FILL_BITS,     /* any 32 bits */
    GB_FILL_SHIFT,    /* [0, 32) */
    GB_FILL_BOOL
} gb_fill;

void gb_case_start(gb_case *c, gb_step_kind kind, const char *format, ...) GB_PRINTF(3, 4);
void gb_case_free(gb_case *c);

/* An operand in a buffer of its own, dense in the memory order given (axes from outermost to innermost;
 * NULL: row-major). */
gb_operand gb_case_operand(gb_case *c, gb_storage storage, int rank, const int64_t *dim,
                           const int *order, gb_fill fill);
/* The same, added to the step's inputs or outputs; returns where it was put. */
gb_operand *gb_case_in(gb_case *c, gb_storage storage, int rank, const int64_t *dim,
                       const int *order, gb_fill fill);
gb_operand *gb_case_out(gb_case *c, gb_storage storage, int rank, const int64_t *dim,
                        const int *order);
/* Integers in [low, high) for an I32 operand. */
void gb_case_fill_range(gb_case *c, const gb_operand *o, int64_t low, int64_t high);
/* The step's expression from a builder with n_in inputs; frees b. */
void gb_case_expr(gb_case *c, gb_xb *b, int n_in, const gb_x *out, int n_out);
void gb_case_scalars(gb_case *c, const char *types, const double *values);
/* The operand's values as the case starts, row-major; owned by the case. */
double *gb_case_values(const gb_case *c, const gb_operand *o);

/* Runs twice and asserts that both runs gave the same bits and that nothing else changed. */
void gb_case_run(const gb_case *c, const gb_backend *b, gb_backend_device *dev, gb_outcome *outcome);
/* Asserts that got agrees with want: integers and NaN exactly, floats within the tolerance. */
void gb_case_compare(const gb_case *c, const gb_outcome *got, const gb_outcome *want);

/* Is the variant of that name one to try on the case, beside the default? */
bool gb_case_tries(const gb_case *c, const char *variant);

/* The cases (cases.c): makes the next one, false at the end. at starts as {0, 0}. */
bool gb_case_next(gb_case *c, int at[2]);

#endif
