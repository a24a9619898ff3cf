/* What the commands of the tool share: options, output, failures. */
#ifndef GB_TOOLS_CLI_H
#define GB_TOOLS_CLI_H

#include <jansson.h>

#include <gimbal/device.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

/* All options of all commands; a command lists those it takes besides the common ones. */
typedef enum cli_option {
    OPT_HELP,
    OPT_JSON,
    OPT_QUIET,
    OPT_DEVICE,
    OPT_SEED,
    OPT_OUT,
    OPT_SET,
    OPT_THREADS,
    OPT_ISA,
    OPT_VARIANT,
    OPT_VALIDATE,
    OPT_NO_TUNING,
    OPT_NO_PLACING,
    OPT_COMMON, /* those before are taken by every command */
    OPT_RESUME = OPT_COMMON,
    OPT_STEPS,
    OPT_INPUT,
    OPT_DEVICES,
    OPT_HTML,
    OPT_OP,
    OPT_MODEL,
    OPT_ONLY,
    OPT_FAST,
    OPT_TOP,
    OPT_FILTER,
    OPT_LIST,
    OPT_QUICK,
    OPT_PRECISION,
    OPT_TRACE,
    OPT_TUNE,
    OPT_AGAIN,
    OPT_MERGE,
    OPT_EXPORT,
    OPT_COUNT
} cli_option;

typedef struct cli_list {
    const char **items;
    size_t n;
} cli_list;

typedef struct cli_args {
    const struct cli_command *command;
    const char *value[OPT_COUNT]; /* last value given, "" for a flag, NULL: not given */
    cli_list sets;                /* --set, and what --seed means as one */
    cli_list inputs;              /* --input */
    char seed_set[40];
    char **files; /* positional arguments */
    int n_files;
} cli_args;

typedef struct cli_command {
    const char *name, *arguments, *summary;
    int (*run)(cli_args *args);
    int min_files, max_files;  /* max -1: any number */
    const cli_option *options; /* ends with OPT_COUNT */
} cli_command;

extern const cli_command cmd_devices, cmd_train, cmd_eval, cmd_predict, cmd_run, cmd_compare,
    cmd_bench, cmd_profile, cmd_selftest, cmd_tune;

/* Fills args from argv (argv[0] is the command's name). Returns -1 to go on, or an exit status. */
int cli_parse(cli_args *args, const cli_command *command, int argc, char **argv);
void cli_clear(cli_args *args);

/* Reports on standard error, with --json also as the one document on standard output, and returns
 * the exit status. */
int cli_fail(const cli_args *args, const gb_error *err);
int cli_usage_fail(const cli_args *args, const char *hint, const char *format, ...) GB_PRINTF(3, 4);
/* Whether --json was asked for, before options are parsed. */
void cli_expect_json(int argc, char **argv);

bool cli_json(const cli_args *args);
/* Prints the document (and releases it); a NULL document is a failure for want of memory. */
int cli_print_json(const cli_args *args, json_t *document);
json_t *cli_number(double value); /* null where it is not finite */
double cli_seconds(void);         /* of a clock that only goes forward */

/* The whole number that an option gives, or fallback. Returns false after a usage failure, whose
 * exit status is CLI_USAGE. */
bool cli_int(const cli_args *args, cli_option option, int64_t min, int64_t fallback,
             int64_t *value);

/* A context, and the device of --device ("auto" unless given). */
gb_status cli_context(const cli_args *args, gb_context **ctx, gb_error *err);
gb_status cli_open(const cli_args *args, gb_context **ctx, gb_device **dev, gb_error *err);
/* The same; id is the device where --device is not given. */
gb_status cli_open_by_default(const cli_args *args, const char *id, gb_context **ctx,
                              gb_device **dev, gb_error *err);

#endif
