/* Writes docs/operators.md from the operator table, the suite's cases and its recorded results.
 *
 * usage: operators_doc RESULTS.tsv            prints the document
 *        operators_doc RESULTS.tsv --check F  fails where F is another text; --write F writes it
 * RESULTS.tsv has lines "operator device passed cases", as test_ops writes them (GB_RESULTS). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check/check.h"

static const char *const devices[] = {"reference", "cpu", "opencl", "vulkan"};
enum { DEVICES = 4 };

typedef struct tally {
    int cases, passed[DEVICES], total[DEVICES];
    uint32_t dtypes;
} tally;

/* Only those cases that are of the operator alone say something about its types. */
static void count_cases(const gb_op *op, char **names, size_t n, tally *t)
{
    size_t length = strlen(op->name);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(names[i], op->name, length) != 0 || names[i][length] != ' ') continue;
        t->cases++;
        gb_check_case *c = malloc(sizeof *c);
        if (c && gb_check_build(c, names[i], 0, false, NULL) == GB_OK && c->n_statements == 1)
            for (int k = 0; k < c->n_leaves; k++)
                if (!c->leaf[k].projection) t->dtypes |= 1u << c->leaf[k].data.dtype;
        if (c) gb_check_free(c);
        free(c);
    }
}

static void read_results(const char *path, const char *op, tally *t)
{
    FILE *f = fopen(path, "r");
    char name[80], device[40];
    int passed, total;
    while (f && fscanf(f, "%79s %39s %d %d", name, device, &passed, &total) == 4)
        for (int d = 0; d < DEVICES; d++)
            if (strcmp(name, op) == 0 && strcmp(device, devices[d]) == 0) {
                t->passed[d] = passed;
                t->total[d] = total;
            }
    if (f) fclose(f);
}

/* --- the row of an operator --- */

static void print_inputs(FILE *out, const gb_op *op)
{
    if (op->max_in < 0) fprintf(out, "%d or more", op->min_in);
    else if (op->min_in == op->max_in) fprintf(out, "%d", op->min_in);
    else fprintf(out, "%d to %d", op->min_in, op->max_in);
    if (op->max_out != 1) fprintf(out, ", 1 to %d results", op->max_out);
}

static void print_attributes(FILE *out, const gb_op *op)
{
    for (const gb_attr_spec *s = op->attr; s->name; s++) {
        fprintf(out, "%s`%s`", s == op->attr ? "" : ", ", s->name);
        if (s->required) fprintf(out, " (required)");
        else if (s->type == GB_ATTR_INT || s->type == GB_ATTR_FLOAT) fprintf(out, " = %.9g", s->number);
        else if (s->type == GB_ATTR_STRING) fprintf(out, " = %s", s->string ? s->string : "");
    }
}

static void print_types(FILE *out, uint32_t dtypes)
{
    const char *gap = "";
    for (int t = 0; t < GB_DTYPE_COUNT; t++)
        if (dtypes >> t & 1) {
            fprintf(out, "%s%s", gap, gb_dtype_name((gb_dtype)t));
            gap = " ";
        }
}

static void print_row(FILE *out, const gb_op *op, const tally *t)
{
    static const char *const needs[] = {"yes", "yes, keeps inputs", "yes, keeps the result"};
    fprintf(out, "| %s | ", op->name);
    print_inputs(out, op);
    fprintf(out, " | ");
    print_attributes(out, op);
    fprintf(out, " | ");
    print_types(out, t->dtypes);
    if (op->not_differentiable) fprintf(out, " | no: it %s | ", op->not_differentiable);
    else fprintf(out, " | %s | ", needs[op->needs]);
    fprintf(out, "%g | %d |", op->tolerance ? op->tolerance : 2e-6, t->cases);
    for (int d = 0; d < DEVICES; d++) {
        if (!t->total[d]) fprintf(out, " – |");
        else if (t->passed[d] == t->total[d]) fprintf(out, " yes |");
        else fprintf(out, " %d of %d |", t->passed[d], t->total[d]);
    }
    fprintf(out, "\n");
}

/* --- the document --- */

static const char head[] =
    "# Operators\n\n"
    "Written by `ninja -C build operators` from the operator table (`core/ir/ops/`) and the results of the "
    "operator suite; a test compares it with both. Names and semantics are ONNX's.\n\n"
    "- **Types**: element types that the suite runs. Integers and booleans have 32 bits on devices; narrow "
    "integers wrap around as they should, i64 is cut to 32 bits. Pointwise operators broadcast by numpy's rule.\n"
    "- **Gradient**: whether there is one, and what of the forward run it needs. Gradients of a tie (Max, Min, "
    "ReduceMax) are shared; at a kink the slope is one between those of both sides.\n"
    "- **Tolerance**: largest error of a result against float64, relative to the largest element of that result; "
    "along a chain of operators they add up, of gradients it is four times that.\n"
    "- **Special values**: NaN gives NaN, infinities come out where float64 has one or f32 overflows; denormal "
    "inputs and results may be taken for zero. Min, Max and their reductions pass NaN on; ArgMax and ArgMin take "
    "the first NaN for the extreme. Sin, Cos and Tan of arguments beyond 1e5 may be any value of theirs. An index out of range gives NaN (0 for integers). Integer division by 0 gives 0.\n"
    "- **Backends**: yes, every case of the suite passes; otherwise how many.\n\n";

static const char tail[] =
    "\n## The suite\n\n"
    "`gimbal selftest --device D` runs it: every case on the device and on the float64 reference, fused and step by "
    "step, with outputs and arenas filled with NaN before each run and guard zones around every buffer. `--quick` "
    "runs a subset that touches every operator, `--filter TEXT` the cases that contain TEXT, `--list` prints them, "
    "`--seed N` draws other data. On the reference gradients are compared with central differences. A case that the "
    "device refuses counts as a failure; one that needs a data type which it lacks is skipped.\n\n"
    "A case is a line of text:\n\n"
    "```\n"
    "Conv 2x3x7x5 4x3x3x3 pads=1,1,1,1; Relu $; Add $ 4x1x1\n"
    "```\n\n"
    "| operand | stands for |\n|---|---|\n"
    "| `2x3`, `scalar`, `i64:2x3` | an input of that shape; f32, or the type in front |\n"
    "| `3x4:0.5..2` | an input with values from that range |\n"
    "| `16:special`, `16x16:special2` | NaN, infinities, zeros, denormals, huge numbers; of both together all pairs; `16:tame`: no huge ones |\n"
    "| `state:3x4` … `update @0 $` | a state, and the value that it gets |\n"
    "| `i64{0,2}`, `f32(0.5)` | a constant of rank 1, of rank 0 |\n"
    "| `&lr` | a step scalar |\n"
    "| `$`, `$1`, `$1.2` | the last result, that of statement 1, its output 2 |\n"
    "| `@0` | input or state 0 again |\n"
    "| `_` | an optional operand that is absent |\n\n"
    "`outputs=N` asks for N results; the statement `forward` leaves gradients out.\n";

static int print_document(FILE *out, const char *results)
{
    char **names;
    size_t n;
    const gb_op *op;
    if (gb_selftest_names(NULL, &names, &n, NULL)) return 1;
    fprintf(out, "%s| operator | inputs | attributes | types | gradient | tolerance | cases |", head);
    for (int d = 0; d < DEVICES; d++) fprintf(out, " %s |", devices[d]);
    fprintf(out, "\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; (op = gb_op_at(i)); i++) {
        tally t = {0};
        if (op->internal) continue;
        count_cases(op, names, n, &t);
        read_results(results, op->name, &t);
        print_row(out, op, &t);
    }
    fprintf(out, "%s", tail);
    gb_selftest_free_names(names, n);
    return 0;
}

/* 0: the file holds text. */
static int compare(const char *path, const char *text, size_t size)
{
    FILE *f = fopen(path, "r");
    char *have = calloc(1, size + 2);
    size_t n = f && have ? fread(have, 1, size + 1, f) : 0;
    int differs = n != size || memcmp(have, text, size) != 0;
    if (differs) fprintf(stderr, "%s is out of date: run ninja -C build operators\n", path);
    if (f) fclose(f);
    free(have);
    return differs;
}

int main(int argc, char **argv)
{
    char *text = NULL;
    size_t size = 0;
    if (argc != 2 && argc != 4) return 2;
    FILE *out = open_memstream(&text, &size);
    int status = out ? print_document(out, argv[1]) : 1;
    if (out) fclose(out);
    if (status == 0 && argc == 4 && strcmp(argv[2], "--check") == 0) status = compare(argv[3], text, size);
    else if (status == 0 && argc == 4) { /* --write F */
        FILE *f = fopen(argv[3], "w");
        status = !f || fwrite(text, 1, size, f) != size;
        if (f) status |= fclose(f) != 0;
    } else if (status == 0) fwrite(text, 1, size, stdout);
    free(text);
    return status;
}
