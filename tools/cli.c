#include "tools/cli.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gimbal/suggest.h>

typedef struct option_row {
    const char *name, *argument, *help; /* no argument: a flag */
    char letter;
} option_row;

static const option_row rows[OPT_COUNT] = {
    [OPT_HELP] = {"help", NULL, "print this and exit", 'h'},
    [OPT_JSON] = {"json", NULL, "print one JSON document on standard output", 0},
    [OPT_QUIET] = {"quiet", NULL, "no progress", 'q'},
    [OPT_DEVICE] = {"device", "D", "cpu, opencl:N, vulkan:N or auto (the fastest real device)",
                    'd'},
    [OPT_SEED] = {"seed", "N", "seed of weights, shuffles and dropout", 0},
    [OPT_OUT] = {"out", "DIR", "folder for what is written", 'o'},
    [OPT_SET] = {"set", "KEY=VALUE", "change the recipe, e.g. optimizer.sgd.lr=0.05; repeatable",
                 's'},
    [OPT_THREADS] = {"threads", "N", "threads of the CPU backend (one a core)", 0},
    [OPT_ISA] = {"isa", "NAME", "CPU instructions: scalar, avx2, avx512 (the best there is)", 0},
    [OPT_VARIANT] = {"variant", "NAME", "prefer kernel variants whose name contains NAME", 0},
    [OPT_VALIDATE] = {"validate", NULL, "Vulkan validation layers; a message is a failure", 0},
    [OPT_NO_TUNING] = {"no-tuning", NULL, "take the defaults, whatever was tuned", 0},
    [OPT_NO_PLACING] = {"no-placing", NULL,
                        "leave the CPU backend's threads where the system puts them", 0},
    [OPT_RESUME] = {"resume", "DIR", "go on with the run in this folder", 0},
    [OPT_STEPS] = {"steps", "N", "stop after this many steps in all", 0},
    [OPT_INPUT] = {"input", "NAME=FILE.npy", "an input array; repeatable", 'i'},
    [OPT_DEVICES] = {"devices", "A,B,C", "the devices to compare", 0},
    [OPT_HTML] = {"html", "FILE", "write the comparison as a page", 0},
    [OPT_OP] = {"op", "SPEC", "an operator, e.g. \"MatMul 1024x1024x1024\"", 0},
    [OPT_MODEL] = {"model", "RECIPE", "a whole training step of this recipe", 0},
    [OPT_ONLY] = {"only", "NAME", "only cases whose name contains NAME; of bench: forward", 0},
    [OPT_FAST] = {"fast", NULL, "a subset that touches every operator", 0},
    [OPT_TOP] = {"top", "N", "so many classes of each input (5), or rows of a table (12)", 0},
    [OPT_FILTER] = {"filter", "TEXT", "only cases that contain TEXT", 0},
    [OPT_LIST] = {"list", NULL, "list the cases, run none", 0},
    [OPT_TRACE] = {"trace", "FILE.json", "write a trace that ui.perfetto.dev opens", 0},
    [OPT_QUICK] = {"quick", NULL, "a subset that touches every operator", 0},
    [OPT_PRECISION] = {"precision", "TYPE", "f16 or bf16: the suite in mixed precision (f32)", 0},
    [OPT_TUNE] = {"tune", NULL, "find the fastest kernels before the run starts", 0},
    [OPT_AGAIN] = {"again", NULL, "measure also what is known", 0},
    [OPT_MERGE] = {"merge", NULL, "add what tuning files hold to this machine's", 0},
    [OPT_EXPORT] = {"export", "FILE", "copy this machine's tuning file", 0},
};

static bool want_json;

void cli_expect_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0) want_json = true;
}

bool cli_json(const cli_args *args)
{
    return want_json;
}

/* --- failures --- */

static void print_failure(const gb_error *err)
{
    fprintf(stderr, "gimbal: ");
    if (err->input[0] && !strstr(err->message, err->input)) fprintf(stderr, "%s: ", err->input);
    fprintf(stderr, "%s\n", err->message);
    if (err->hint[0]) fprintf(stderr, "  %s\n", err->hint);
    if (!want_json) return;
    json_t *document = json_pack("{s:{s:s, s:s, s:s}}", "error", "message", err->message, "input",
                                 err->input, "hint", err->hint);
    if (document) json_dumpf(document, stdout, JSON_INDENT(2));
    fputc('\n', stdout);
    json_decref(document);
}

int cli_fail(const cli_args *args, const gb_error *err)
{
    print_failure(err);
    return err->status == GB_INTERRUPTED ? CLI_INTERRUPTED : CLI_FAILED;
}

int cli_usage_fail(const cli_args *args, const char *hint, const char *format, ...)
{
    gb_error err = {.status = GB_INVALID};
    va_list list;
    va_start(list, format);
    vsnprintf(err.message, sizeof err.message, format, list);
    va_end(list);
    if (hint)
        snprintf(err.hint, sizeof err.hint, "%s", hint);
    else if (args && args->command)
        snprintf(err.hint, sizeof err.hint, "see gimbal %s --help", args->command->name);
    print_failure(&err);
    return CLI_USAGE;
}

/* --- options --- */

static bool takes(const cli_command *command, int option)
{
    if (option < OPT_COMMON) return true;
    for (const cli_option *o = command->options; o && *o != OPT_COUNT; o++)
        if ((int)*o == option) return true;
    return false;
}

static int print_help(const cli_command *command)
{
    printf("usage: gimbal %s%s%s [options]\n\n%s\n\noptions:\n", command->name,
           *command->arguments ? " " : "", command->arguments, command->summary);
    for (int pass = 0; pass < 2; pass++) { /* the command's own first */
        for (int i = 0; i < OPT_COUNT; i++) {
            if (!takes(command, i) || (i < OPT_COMMON) != pass) continue;
            char left[60], letter[8] = "    ";
            if (rows[i].letter) snprintf(letter, sizeof letter, "-%c, ", rows[i].letter);
            snprintf(left, sizeof left, "%s--%s%s%s", letter, rows[i].name,
                     rows[i].argument ? " " : "", rows[i].argument ? rows[i].argument : "");
            printf("  %-28s %s\n", left, rows[i].help);
        }
    }
    return CLI_DONE;
}

static bool append(cli_list *list, const char *item)
{
    const char **grown = realloc(list->items, (list->n + 1) * sizeof *grown);
    if (!grown) return false;
    list->items = grown;
    list->items[list->n++] = item;
    return true;
}

static int unknown_option(const cli_args *args, const char *word)
{
    const char *names[OPT_COUNT];
    char hint[400], plain[40];
    size_t n = 0;
    for (int i = 0; i < OPT_COUNT; i++)
        if (takes(args->command, i)) names[n++] = rows[i].name;
    snprintf(plain, sizeof plain, "%.*s", (int)strcspn(word, "="), word);
    const char *bare = plain + strspn(plain, "-");
    const char *near = gb_suggest(bare, names, n);
    if (near)
        snprintf(hint, sizeof hint, "did you mean --%s?", near);
    else
        snprintf(hint, sizeof hint, "see gimbal %s --help", args->command->name);
    return cli_usage_fail(args, hint, "unknown option %s", plain);
}

/* Fills long options and letters for getopt. */
static void list_options(const cli_command *command, struct option *longs, char *letters)
{
    *letters++ = ':'; /* tell a missing argument from an unknown option */
    for (int i = 0; i < OPT_COUNT; i++) {
        if (!takes(command, i)) continue;
        *longs++ = (struct option){rows[i].name, rows[i].argument != NULL, NULL, 256 + i};
        if (!rows[i].letter) continue;
        *letters++ = rows[i].letter;
        if (rows[i].argument) *letters++ = ':';
    }
    *longs = (struct option){0};
    *letters = 0;
}

static int option_of(int c)
{
    if (c >= 256) return c - 256;
    for (int i = 0; i < OPT_COUNT; i++)
        if (rows[i].letter == c) return i;
    return OPT_COUNT;
}

/* One option that getopt gave. Returns -1 to go on. */
static int take_option(cli_args *args, int option, const char *value)
{
    args->value[option] = value ? value : "";
    bool ok = true;
    if (option == OPT_SET) ok = append(&args->sets, value);
    if (option == OPT_INPUT) ok = append(&args->inputs, value);
    return ok ? -1 : cli_usage_fail(args, NULL, "no memory");
}

static int check_values(cli_args *args)
{
    const cli_command *c = args->command;
    if (args->n_files < c->min_files)
        return cli_usage_fail(args, NULL, "%s is missing; usage: gimbal %s %s",
                              args->n_files ? "an argument" : c->arguments, c->name, c->arguments);
    if (c->max_files >= 0 && args->n_files > c->max_files)
        return cli_usage_fail(args, NULL, "'%s' is one argument too many",
                              args->files[c->max_files]);
    int64_t threads, seed;
    if (!cli_int(args, OPT_THREADS, 1, 0, &threads)) return CLI_USAGE;
    if (!args->value[OPT_SEED]) return -1;
    if (!cli_int(args, OPT_SEED, 0, 0, &seed)) return CLI_USAGE;
    snprintf(args->seed_set, sizeof args->seed_set, "seed=%lld", (long long)seed);
    return append(&args->sets, args->seed_set) ? -1 : cli_usage_fail(args, NULL, "no memory");
}

int cli_parse(cli_args *args, const cli_command *command, int argc, char **argv)
{
    struct option longs[OPT_COUNT + 1];
    char letters[3 * OPT_COUNT + 2];
    *args = (cli_args){.command = command};
    list_options(command, longs, letters);
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        if (c == ':')
            return cli_usage_fail(args, NULL, "option %s needs a value", argv[optind - 1]);
        if (c == '?') {
            char letter[3] = {'-', (char)optopt, 0};
            bool short_form = optopt > 0 && optopt < 256 && strncmp(argv[optind - 1], "--", 2) != 0;
            return unknown_option(args, short_form ? letter : argv[optind - 1]);
        }
        int option = option_of(c);
        if (option == OPT_HELP) return print_help(command);
        int status = take_option(args, option, optarg);
        if (status >= 0) return status;
    }
    args->files = argv + optind;
    args->n_files = argc - optind;
    return check_values(args);
}

void cli_clear(cli_args *args)
{
    free(args->sets.items);
    free(args->inputs.items);
    args->sets = args->inputs = (cli_list){0};
}

bool cli_int(const cli_args *args, cli_option option, int64_t min, int64_t fallback, int64_t *value)
{
    *value = fallback;
    const char *text = args->value[option];
    if (!text) return true;
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (*text && !*end && !errno && number >= min) {
        *value = number;
        return true;
    }
    cli_usage_fail(args, NULL, "--%s must be a whole number of at least %lld, not '%s'",
                   rows[option].name, (long long)min, text);
    return false;
}

/* --- output --- */

int cli_print_json(const cli_args *args, json_t *document)
{
    gb_error err = {.status = GB_IO, .message = "writing to standard output failed"};
    if (!document)
        return cli_fail(args, &(gb_error){.status = GB_OUT_OF_MEMORY, .message = "no memory"});
    int failed = json_dumpf(document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(document);
    fputc('\n', stdout);
    if (failed || fflush(stdout) != 0) {
        want_json = false; /* part of a document is out already */
        return cli_fail(args, &err);
    }
    return CLI_DONE;
}

json_t *cli_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

double cli_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- devices --- */

gb_status cli_context(const cli_args *args, gb_context **ctx, gb_error *err)
{
    int64_t threads;
    *ctx = NULL;
    cli_int(args, OPT_THREADS, 1, 0, &threads); /* checked by cli_parse */
    gb_context_options options = {.threads = (int)threads,
                                  .isa = args->value[OPT_ISA],
                                  .variant = args->value[OPT_VARIANT],
                                  .validate = args->value[OPT_VALIDATE] != NULL,
                                  .no_tuning = args->value[OPT_NO_TUNING] != NULL,
                                  .no_placing = args->value[OPT_NO_PLACING] != NULL};
    return gb_context_create(&options, ctx, err);
}

gb_status cli_open(const cli_args *args, gb_context **ctx, gb_device **dev, gb_error *err)
{
    return cli_open_by_default(args, "auto", ctx, dev, err);
}

gb_status cli_open_by_default(const cli_args *args, const char *id, gb_context **ctx,
                              gb_device **dev, gb_error *err)
{
    *dev = NULL;
    gb_status s = cli_context(args, ctx, err);
    if (s) return s;
    s = gb_device_open(*ctx, args->value[OPT_DEVICE] ? args->value[OPT_DEVICE] : id, dev, err);
    if (s) gb_context_destroy(ctx);
    return s;
}
