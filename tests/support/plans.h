/* Plans of one step or a few, made by hand, run on a backend and on the reference. */
#ifndef GB_TESTS_PLANS_H
#define GB_TESTS_PLANS_H

#include "backends/backend.h"
#include "core/base/arena.h"

#define GB_TEST_MAX_BUFFERS 24

typedef struct gb_test_plan {
    gb_arena *arena;
    gb_plan plan;
    gb_step step[4];
    gb_plan_buffer buffer[GB_TEST_MAX_BUFFERS];
    unsigned char *data[GB_TEST_MAX_BUFFERS]; /* contents before the run */
    gb_storage storage[GB_TEST_MAX_BUFFERS];
    uint32_t seed;
} gb_test_plan;

gb_test_plan *gb_test_plan_create(void);
void gb_test_plan_destroy(gb_test_plan *t);
gb_step *gb_test_step(gb_test_plan *t, gb_step_kind kind);

/* A new buffer of n elements with pseudo-random contents: floats in [lo, hi), integers too. */
int gb_test_buffer(gb_test_plan *t, gb_storage storage, int64_t n, double lo, double hi);
/* A window with the given dims into a new dense buffer, with 3 elements of padding around it. */
gb_operand gb_test_dense(gb_test_plan *t, gb_storage storage, double lo, double hi, int rank, ...);
/* The same for images [n, c, h, w] (or filters): dense, channels innermost. */
gb_operand gb_test_image(gb_test_plan *t, double lo, double hi, int n, int c, int h, int w);
float *gb_test_floats(gb_test_plan *t, const gb_operand *o); /* element [0, 0, …] */
int32_t *gb_test_ints(gb_test_plan *t, const gb_operand *o);

/* Opens device 0 of the backend; NULL where it has none. */
gb_backend_device *gb_test_open(const gb_backend *backend, const char *variant);

/* Runs the plan on both and compares every byte of every buffer: elements may differ by
 * tolerance × (their size + the buffer's largest, at most 1), integers by nothing. Fails the test
 * with the name and the place. */
void gb_test_compare(gb_test_plan *t, const gb_backend *backend, gb_backend_device *dev,
                     const char *name, double tolerance);

#endif
