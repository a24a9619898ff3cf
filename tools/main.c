/* gimbal: trains, runs and compares neural networks. Commands parse, call the library, print. */
#include "tools/cli.h"

#include <stdio.h>
#include <string.h>

#include <gimbal/suggest.h>

static const cli_command *const commands[] = {&cmd_devices, &cmd_train,   &cmd_eval,
                                              &cmd_predict, &cmd_run,     &cmd_compare,
                                              &cmd_bench,   &cmd_profile, &cmd_selftest,
                                              &cmd_tune};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int print_help(FILE *f)
{
    fprintf(f, "usage: gimbal COMMAND [options]\n\ncommands:\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        char left[60];
        snprintf(left, sizeof left, "%s %s", commands[i]->name, commands[i]->arguments);
        fprintf(f, "  %-34s %s\n", left, commands[i]->summary);
    }
    fprintf(f, "\ngimbal COMMAND --help says more; gimbal --version prints the version.\n");
    return CLI_DONE;
}

static int unknown_command(const char *word)
{
    const char *names[COMMANDS];
    char hint[300];
    for (size_t i = 0; i < COMMANDS; i++) names[i] = commands[i]->name;
    gb_suggest_hint(word, names, COMMANDS, hint, sizeof hint);
    return cli_usage_fail(NULL, hint, "unknown command '%s'", word);
}

int main(int argc, char **argv)
{
    cli_expect_json(argc, argv);
    const char *word = argc > 1 ? argv[1] : "--help";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_help(argc > 1 ? stdout : stderr);
        return argc > 1 ? CLI_DONE : CLI_USAGE;
    }
    if (strcmp(word, "--version") == 0) {
        printf("gimbal %s\n", GB_VERSION);
        return CLI_DONE;
    }
    if (word[0] == '-')
        return cli_usage_fail(NULL, "write gimbal COMMAND [options]",
                              "'%s' stands where a command is expected", word);
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i]->name, word) != 0) continue;
        cli_args args;
        int status = cli_parse(&args, commands[i], argc - 1, argv + 1);
        if (status < 0) status = commands[i]->run(&args);
        cli_clear(&args);
        return status;
    }
    return unknown_command(word);
}
