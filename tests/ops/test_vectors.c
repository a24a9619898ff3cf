/* Operators against vectors recorded from PyTorch (tests/golden/record_ops.py): outputs and the
 * gradients of the inputs, on one device.
 *
 * usage: test_vectors DEVICE FOLDER [CASE] */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/io.h>
#include <gimbal/program.h>

#define MAX_IN 8
#define MAX_OUT 4
#define MAX_ATTR 12

static struct {
    gb_context *context;
    gb_device *device;
    gb_tensors tensors;
    json_t *file, *cases;
    double tolerance;
} suite;

typedef struct vector {
    const char *name, *op;
    size_t n_in, n_out, n_attr;
    const gb_tensor *in[MAX_IN], *out[MAX_OUT], *grad[MAX_IN], *weight;
    gb_attr attr[MAX_ATTR];
    int64_t ints[MAX_ATTR][GB_MAX_RANK * 2];
} vector;

static const gb_tensor *part(const vector *v, const char *what, size_t k)
{
    char name[160];
    snprintf(name, sizeof name, "%s/%s%zu", v->name, what, k);
    if (k == SIZE_MAX) snprintf(name, sizeof name, "%s/%s", v->name, what);
    return gb_tensors_find(&suite.tensors, name);
}

static void load(vector *v, json_t *spec)
{
    *v = (vector){.name = json_string_value(json_object_get(spec, "case")),
                  .op = json_string_value(json_object_get(spec, "op")),
                  .n_in = (size_t)json_integer_value(json_object_get(spec, "inputs")),
                  .n_out = (size_t)json_integer_value(json_object_get(spec, "outputs"))};
    assert_true(v->n_in <= MAX_IN && v->n_out <= MAX_OUT);
    for (size_t k = 0; k < v->n_in; k++) v->in[k] = part(v, "input", k), v->grad[k] = part(v, "grad", k);
    for (size_t k = 0; k < v->n_out; k++) v->out[k] = part(v, "output", k);
    v->weight = part(v, "weight", SIZE_MAX);
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(spec, "attrs"), key, value) {
        gb_attr *a = &v->attr[v->n_attr];
        assert_true(v->n_attr < MAX_ATTR);
        if (json_is_string(value)) *a = GB_STRING(key, json_string_value(value));
        else if (json_is_integer(value)) *a = GB_INT(key, json_integer_value(value));
        else if (json_is_real(value)) *a = GB_FLOAT(key, json_real_value(value));
        else {
            size_t n = json_array_size(value);
            assert_true(n <= GB_MAX_RANK * 2);
            for (size_t i = 0; i < n; i++)
                v->ints[v->n_attr][i] = json_integer_value(json_array_get(value, i));
            *a = GB_INTS(key, v->ints[v->n_attr], n);
        }
        v->n_attr++;
    }
}

/* Outputs output0 …, gradients grad0 … of sum(output0 · weight). */
static gb_graph *build(const vector *v)
{
    gb_graph *g = gb_graph_create();
    gb_value in[MAX_IN] = {0}, out[MAX_OUT], grad[MAX_IN], wrt[MAX_IN];
    char name[32];
    size_t n = 0, which[MAX_IN];
    for (size_t k = 0; k < v->n_in; k++) {
        snprintf(name, sizeof name, "input%zu", k);
        bool axis = v->in[k] && v->in[k]->dtype == GB_I64 && v->in[k]->shape.rank == 0 &&
                    strcmp(v->op, "Gather") != 0;
        if (!v->in[k]) continue;
        in[k] = axis ? gb_graph_constant(g, v->in[k])
                     : gb_graph_input(g, name, v->in[k]->dtype, &v->in[k]->shape);
        if (v->grad[k]) which[n] = k, wrt[n++] = in[k];
    }
    gb_graph_add(g, v->op, in, v->n_in, v->attr, v->n_attr, out, v->n_out);
    for (size_t k = 0; k < v->n_out; k++) {
        snprintf(name, sizeof name, "output%zu", k);
        gb_graph_output(g, name, out[k]);
    }
    if (n) {
        gb_value product = gb_op2(g, "Mul", out[0], gb_graph_constant(g, v->weight));
        gb_value loss = GB_OP(g, "ReduceSum", GB_ARGS(product), GB_INT("keepdims", 0));
        gb_graph_gradient(g, loss, wrt, n, grad);
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "grad%zu", which[i]);
        gb_graph_output(g, name, grad[i]);
    }
    return g;
}

static void check(gb_status status, const gb_error *err)
{
    if (status) fail_msg("%s (%s): %s", err->message, err->input, err->hint);
}

/* Errors are relative to the largest element, as the operators' tolerances are. */
static void compare(gb_program *p, const char *name, const gb_tensor *want)
{
    gb_tensor got;
    gb_error err;
    check(gb_program_output(p, name, &got, &err), &err);
    int64_t n = gb_shape_count(&want->shape), at = 0;
    char a[80], b[80];
    if (!gb_shape_equal(&got.shape, &want->shape))
        fail_msg("%s has shape %s, not %s", name, gb_shape_text(&got.shape, a, sizeof a),
                 gb_shape_text(&want->shape, b, sizeof b));
    double largest = 1e-6, worst = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(gb_tensor_get(want, i)));
    for (int64_t i = 0; i < n; i++) {
        double error = fabs(gb_tensor_get(&got, i) - gb_tensor_get(want, i)) / largest;
        if (!(error <= worst)) worst = isnan(error) ? INFINITY : error, at = i;
    }
    double is = n ? gb_tensor_get(&got, at) : 0, should = n ? gb_tensor_get(want, at) : 0;
    gb_tensor_free(&got);
    if (worst > suite.tolerance)
        fail_msg("%s[%lld] is %.9g, PyTorch has %.9g: error %.2g of the largest element", name,
                 (long long)at, is, should, worst);
}

static void run(const vector *v, gb_program *p)
{
    gb_error err;
    char name[32];
    for (size_t k = 0; k < v->n_in; k++) {
        snprintf(name, sizeof name, "input%zu", k);
        if (!v->in[k] || gb_program_set_input(p, name, v->in[k], &err) == GB_OK) continue;
        if (err.status != GB_NOT_FOUND) check(err.status, &err); /* a constant is no input */
    }
    check(gb_program_run(p, &err), &err);
    for (size_t k = 0; k < v->n_out; k++) {
        snprintf(name, sizeof name, "output%zu", k);
        compare(p, name, v->out[k]);
    }
    for (size_t k = 0; k < v->n_in; k++) {
        snprintf(name, sizeof name, "grad%zu", k);
        if (v->grad[k]) compare(p, name, v->grad[k]);
    }
}

static void one_case(void **state)
{
    vector v;
    gb_error err;
    gb_store *store = NULL;
    gb_program *program = NULL;
    load(&v, *state);
    gb_graph *g = build(&v);
    gb_status status = gb_graph_check(g, &err);
    if (!status) status = gb_store_create(suite.device, &store, &err);
    if (!status) status = gb_program_create(store, g, NULL, &program, &err);
    gb_graph_destroy(&g);
    if (!status) run(&v, program);
    gb_program_destroy(&program);
    gb_store_destroy(&store);
    check(status, &err);
}

static int open_suite(const char *device, const char *folder)
{
    gb_error err;
    char path[1024];
    snprintf(path, sizeof path, "%s/ops.json", folder);
    suite.file = json_load_file(path, 0, NULL);
    suite.cases = json_object_get(suite.file, "cases");
    snprintf(path, sizeof path, "%s/ops.safetensors", folder);
    gb_context_options options = {.cache_dir = ""};
    gb_status status = gb_safetensors_read(&suite.tensors, path, &err);
    if (!status) status = gb_context_create(&options, &suite.context, &err);
    if (!status) status = gb_device_open(suite.context, device, &suite.device, &err);
    suite.tolerance = strcmp(device, "reference") == 0 ? 1e-6 : 2e-5;
    if (status || !suite.cases) fprintf(stderr, "%s: %s\n", device, status ? err.message : path);
    return status == GB_OK && suite.cases ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc < 3 || open_suite(argv[1], argv[2])) return 1;
    size_t n = 0;
    struct CMUnitTest *tests = calloc(json_array_size(suite.cases), sizeof *tests);
    for (size_t i = 0; tests && i < json_array_size(suite.cases); i++) {
        json_t *spec = json_array_get(suite.cases, i);
        const char *name = json_string_value(json_object_get(spec, "case"));
        if (argc > 3 && !strstr(name, argv[3])) continue;
        tests[n++] = (struct CMUnitTest){.name = name, .test_func = one_case, .initial_state = spec};
    }
    int failed = _cmocka_run_group_tests("vectors", tests, n, NULL, NULL);
    gb_tensors_free(&suite.tensors);
    gb_device_close(&suite.device);
    gb_context_destroy(&suite.context);
    json_decref(suite.file);
    free(tests);
    return failed || !n;
}
