/* The operator suite: qualifies a device by running every operator on it.
 *
 * A case is a small graph, written as text (docs/operators.md explains it), with random data. Its
 * outputs and gradients on the device must agree with the float64 reference within the operator's
 * tolerance, fused and step by step, with poisoned outputs and guard zones around every buffer. On
 * the reference itself gradients are checked against finite differences. */
#ifndef GIMBAL_SELFTEST_H
#define GIMBAL_SELFTEST_H

#include <gimbal/device.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gb_verdict {
    GB_VERDICT_PASSED,
    GB_VERDICT_FAILED,
    GB_VERDICT_REJECTED, /* the device said that it cannot run it */
    GB_VERDICT_SKIPPED   /* the device lacks a data type of the case */
} gb_verdict;

typedef struct gb_selftest_options { /* zero-initialized: the defaults */
    const char *filter; /* only cases whose text contains this; NULL: all */
    uint64_t seed;      /* of the data */
    bool quick;         /* a subset that touches every operator, fused alone */
    /* F16, BF16: operands and results of all operators lie in memory as such, on the reference too;
     * tolerances grow by 2^-9 and 2^-6, two roundings to a neighbour. */
    gb_precision precision;
} gb_selftest_options;

/* Strings are valid during the callback. */
typedef struct gb_selftest_report {
    const char *name;    /* the case's text */
    gb_verdict verdict;
    const char *reason;  /* "" where it passed */
    double worst;        /* largest error divided by its tolerance */
    double seconds;
    int kernels;         /* distinct kernels of its programs */
} gb_selftest_report;

/* Returning false stops the suite. */
typedef bool gb_selftest_callback(void *user, const gb_selftest_report *report);

typedef struct gb_selftest_failure {
    char *name, *reason;
    gb_verdict verdict; /* FAILED or REJECTED */
} gb_selftest_failure;

typedef struct gb_selftest_result {
    int passed, failed, rejected, skipped;
    size_t n_failures;
    gb_selftest_failure *failures;
} gb_selftest_result;

/* Runs the suite on dev. callback may be NULL. Free result with gb_selftest_free, also after a
 * failure. Errors: INTERRUPTED (the callback said stop), OUT_OF_MEMORY, INVALID (a device that
 * computes nothing). Cases that fail are no error. */
GB_API gb_status gb_selftest_run(gb_device *dev, const gb_selftest_options *options,
                                 gb_selftest_callback *callback, void *user,
                                 gb_selftest_result *result, gb_error *err);
GB_API void gb_selftest_free(gb_selftest_result *result);

/* Runs one case from its text: an INVALID error names what is wrong with the text. */
GB_API gb_status gb_selftest_case(gb_device *dev, const char *text, uint64_t seed,
                                  gb_selftest_callback *callback, void *user, gb_error *err);
/* The texts of the cases that gb_selftest_run would run. Free with gb_selftest_free_names. */
GB_API gb_status gb_selftest_names(const gb_selftest_options *options, char ***names, size_t *n,
                                   gb_error *err);
GB_API void gb_selftest_free_names(char **names, size_t n);

#ifdef __cplusplus
}
#endif
#endif
