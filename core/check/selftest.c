/* The suite: every case on a device and on the reference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/check/check.h"
#include "core/runtime/runtime.h"

typedef struct suite {
    gb_device *dev, *reference;
    bool is_reference, quick;
    gb_precision precision;
    uint64_t seed;
    gb_selftest_callback *callback;
    void *user;
} suite;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static gb_status begin(suite *s, gb_device *dev, gb_error *err)
{
    if (!dev) return gb_fail(err, GB_INVALID, "device", NULL, "there is no device to test");
    s->dev = dev;
    s->is_reference = strcmp(dev->info.backend, "reference") == 0;
    if (strcmp(dev->info.backend, "null") == 0)
        return gb_fail(err, GB_INVALID, dev->info.id, "choose another device (gimbal devices)",
                       "the null device computes nothing");
    return gb_device_open(dev->ctx, "reference", &s->reference, err);
}

/* --- one case --- */

static bool lacks_dtype(const suite *s, const gb_check_case *c)
{
    const uint32_t narrow = 1u << GB_F16 | 1u << GB_BF16;
    uint32_t wanted = (c->dtypes & narrow) | 1u << gb_precision_dtype(s->precision);
    return wanted & ~s->dev->info.dtypes;
}

/* What a device may differ by where values lie in memory as 16-bit floats: the reference rounds them
 * at the same places, but another order of sums may round to a neighbour, twice in a row. */
static void widen_tolerances(gb_check_case *c, gb_precision precision)
{
    double more = precision == GB_PRECISION_F16 ? 2 * 0x1p-10 : precision == GB_PRECISION_BF16 ? 2 * 0x1p-7 : 0;
    c->tolerance += more;
    for (int k = 0; k < c->n_outputs; k++) c->output[k].tolerance += more;
}

static gb_status on_reference(const suite *s, const gb_check_case *c, bool fused, gb_check_values *want,
                              gb_check_values *flushed, gb_error *err)
{
    const gb_program_options o = {.no_fusion = !fused,
                                  .precision = s->precision,
                                  .small_everywhere = true};
    gb_check_values_free(want);
    gb_check_values_free(flushed);
    gb_status status = gb_check_run(c, s->reference, &o, false, want, err);
    if (status == GB_OK && c->special) status = gb_check_run(c, s->reference, &o, true, flushed, err);
    return status;
}

/* Fused in one guarded form, then (unless quick) step by step in the other, against the reference,
 * which is fused only where that tells what is rounded. */
static gb_status on_device(const suite *s, const gb_check_case *c, gb_selftest_report *r, gb_error *err)
{
    gb_check_values want = {0}, flushed = {0}, got;
    bool mixed = s->precision != GB_PRECISION_F32;
    gb_status status = GB_OK;
    for (int plain = 0; plain < (s->quick ? 1 : 2) && status == GB_OK; plain++) {
        const gb_program_options o = {.no_fusion = plain,
                                      .guard = plain ? GB_GUARD_PACKED : GB_GUARD_APART,
                                      .precision = s->precision,
                                      .small_everywhere = true};
        if (!plain || mixed) status = on_reference(s, c, mixed && !plain, &want, &flushed, err);
        if (status == GB_OK) status = gb_check_run(c, s->dev, &o, false, &got, err);
        if (status != GB_OK) break;
        r->kernels += got.kernels;
        status = gb_check_compare(c, &got, &want, c->special ? &flushed : NULL, &r->worst, err);
        gb_check_values_free(&got);
        if (status == GB_INTERNAL && err) {
            char message[sizeof err->message];
            snprintf(message, sizeof message, "%.700s (%s)", err->message, plain ? "step by step" : "fused");
            memcpy(err->message, message, sizeof message);
        }
    }
    gb_check_values_free(&want);
    gb_check_values_free(&flushed);
    return status;
}

static gb_status run_case(const suite *s, const char *text, gb_selftest_report *r, gb_error *err)
{
    gb_check_case c;
    gb_status status = gb_check_build(&c, text, s->seed, s->is_reference, err);
    if (status == GB_OK && lacks_dtype(s, &c)) {
        r->verdict = GB_VERDICT_SKIPPED;
        gb_fail(err, GB_UNSUPPORTED, NULL, NULL, "the device lacks a data type");
    } else if (status == GB_OK) {
        widen_tolerances(&c, s->precision);
        status = on_device(s, &c, r, err);
        if (status == GB_OK && s->is_reference && s->precision == GB_PRECISION_F32)
            status = gb_check_differences(&c, s->dev, &r->worst, err);
        if (status != GB_OK)
            r->verdict = status == GB_UNSUPPORTED ? GB_VERDICT_REJECTED : GB_VERDICT_FAILED;
    }
    gb_check_free(&c);
    return status;
}

/* Runs and reports. Errors: INVALID (the text), INTERRUPTED, OUT_OF_MEMORY. */
static gb_status report_case(const suite *s, const char *text, gb_selftest_report *r, gb_error *reason,
                             gb_error *err)
{
    double start = now();
    *reason = (gb_error){0};
    *r = (gb_selftest_report){.name = text};
    gb_status status = run_case(s, text, r, reason);
    r->reason = r->verdict == GB_VERDICT_PASSED ? "" : reason->message;
    r->seconds = now() - start;
    if (status != GB_OK && r->verdict == GB_VERDICT_PASSED) { /* the case itself */
        r->verdict = GB_VERDICT_FAILED;
        r->reason = reason->message;
    }
    if (s->callback && !s->callback(s->user, r))
        return gb_fail(err, GB_INTERRUPTED, "selftest", NULL, "the suite was stopped");
    return GB_OK;
}

gb_status gb_selftest_case(gb_device *dev, const char *text, uint64_t seed,
                           gb_selftest_callback *callback, void *user, gb_error *err)
{
    suite s = {.seed = seed, .callback = callback, .user = user};
    gb_selftest_report r;
    gb_error reason;
    gb_check_case c;
    if (!text) return gb_fail(err, GB_INVALID, "case", NULL, "there is no text");
    gb_status status = gb_check_build(&c, text, seed, false, err);
    gb_check_free(&c);
    if (status == GB_OK) status = begin(&s, dev, err);
    if (status == GB_OK) status = report_case(&s, text, &r, &reason, err);
    gb_device_close(&s.reference);
    return status;
}

/* --- all --- */

static bool keep_failure(gb_selftest_result *result, const gb_selftest_report *r)
{
    gb_selftest_failure *grown =
        realloc(result->failures, (result->n_failures + 1) * sizeof *grown);
    if (!grown) return false;
    result->failures = grown;
    gb_selftest_failure *f = &grown[result->n_failures++];
    *f = (gb_selftest_failure){.name = strdup(r->name), .reason = strdup(r->reason),
                               .verdict = r->verdict};
    return f->name && f->reason;
}

static gb_status count(gb_selftest_result *result, const gb_selftest_report *r, gb_error *err)
{
    result->passed += r->verdict == GB_VERDICT_PASSED;
    result->failed += r->verdict == GB_VERDICT_FAILED;
    result->rejected += r->verdict == GB_VERDICT_REJECTED;
    result->skipped += r->verdict == GB_VERDICT_SKIPPED;
    bool bad = r->verdict == GB_VERDICT_FAILED || r->verdict == GB_VERDICT_REJECTED;
    if (!bad || keep_failure(result, r)) return GB_OK;
    return gb_fail(err, GB_OUT_OF_MEMORY, "selftest", NULL, "no memory for the list of failures");
}

gb_status gb_selftest_run(gb_device *dev, const gb_selftest_options *options,
                          gb_selftest_callback *callback, void *user, gb_selftest_result *result,
                          gb_error *err)
{
    const gb_selftest_options none = {0}, *o = options ? options : &none;
    suite s = {.seed = o->seed, .quick = o->quick, .precision = o->precision, .callback = callback, .user = user};
    char **names = NULL;
    size_t n = 0;
    *result = (gb_selftest_result){0};
    gb_status status = begin(&s, dev, err);
    if (status == GB_OK) status = gb_selftest_names(o, &names, &n, err);
    for (size_t i = 0; i < n && status == GB_OK; i++) {
        gb_selftest_report r;
        gb_error reason, stop;
        gb_status stopped = report_case(&s, names[i], &r, &reason, &stop);
        status = count(result, &r, err);
        if (status == GB_OK && stopped != GB_OK) {
            if (err) *err = stop;
            status = stopped;
        }
    }
    gb_selftest_free_names(names, n);
    gb_device_close(&s.reference);
    return status;
}

void gb_selftest_free(gb_selftest_result *result)
{
    for (size_t i = 0; i < result->n_failures; i++) {
        free(result->failures[i].name);
        free(result->failures[i].reason);
    }
    free(result->failures);
    *result = (gb_selftest_result){0};
}

gb_status gb_selftest_names(const gb_selftest_options *options, char ***names, size_t *n,
                            gb_error *err)
{
    gb_check_list l = {.quick = options && options->quick};
    *names = NULL;
    *n = 0;
    if (!gb_check_cases(&l))
        return gb_fail(err, GB_OUT_OF_MEMORY, "selftest", NULL, "no memory for the list of cases");
    for (size_t i = 0; i < l.n; i++) {
        if (!options || !options->filter || strstr(l.text[i], options->filter)) l.text[(*n)++] = l.text[i];
        else free(l.text[i]);
    }
    *names = l.text;
    return GB_OK;
}

void gb_selftest_free_names(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++) free(names[i]);
    free(names);
}
