/* gimbal devices: every device of every backend. */
#include "tools/cli.h"

#include <stdio.h>
#include <string.h>

static const char *const kinds[] = {[GB_DEVICE_CPU] = "cpu",
                                    [GB_DEVICE_INTEGRATED] = "integrated",
                                    [GB_DEVICE_DISCRETE] = "discrete",
                                    [GB_DEVICE_SOFTWARE] = "software"};

static json_t *text_or_null(const char *text)
{
    return *text ? json_string(text) : json_null();
}

static json_t *dtypes_json(uint32_t dtypes)
{
    json_t *list = json_array();
    for (int i = 0; i < GB_DTYPE_COUNT; i++)
        if (dtypes >> i & 1) json_array_append_new(list, json_string(gb_dtype_name((gb_dtype)i)));
    return list;
}

static json_t *device_json(const gb_device_info *d)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:i, s:i, s:o, s:b, s:o, s:o}", "id",
                     d->id, "backend", d->backend, "name", d->name, "driver", d->driver, "version",
                     d->version, "kind", kinds[d->kind], "memory_bytes",
                     (json_int_t)d->memory_bytes, "max_buffer_bytes",
                     (json_int_t)d->max_buffer_bytes, "cores", d->cores, "vector_width",
                     d->vector_width, "dtypes", dtypes_json(d->dtypes), "usable", d->usable,
                     "reason", text_or_null(d->reason), "same_as", text_or_null(d->same_as));
}

static int print_json(const cli_args *args, gb_context *ctx, const gb_device_info *devices, int n)
{
    json_t *list = json_array(), *missing = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, device_json(&devices[i]));
    const char *backend, *reason;
    for (int i = 0; gb_context_missing(ctx, i, &backend, &reason); i++)
        json_array_append_new(missing,
                              json_pack("{s:s, s:s}", "backend", backend, "reason", reason));
    return cli_print_json(args, json_pack("{s:o, s:o}", "devices", list, "missing", missing));
}

static void print_device(const gb_device_info *d)
{
    char memory[32] = "?";
    if (d->memory_bytes)
        snprintf(memory, sizeof memory, "%.1f GiB", (double)d->memory_bytes / (1 << 30));
    printf("%-12s %-11s %9s  %s\n", d->id, kinds[d->kind], memory, d->name);
    printf("%12s %s%s%s;", "", d->driver, *d->version ? " " : "", d->version);
    for (int i = 0; i < GB_DTYPE_COUNT; i++)
        if (d->dtypes >> i & 1) printf(" %s", gb_dtype_name((gb_dtype)i));
    if (*d->same_as) printf("; the same hardware as %s", d->same_as);
    if (!d->usable) printf("; not usable: %s", d->reason);
    putchar('\n');
}

static void print_text(gb_context *ctx, const gb_device_info *devices, int n)
{
    for (int i = 0; i < n; i++) print_device(&devices[i]);
    const char *backend, *reason;
    for (int i = 0; gb_context_missing(ctx, i, &backend, &reason); i++)
        printf("%-12s not there: %s\n", backend, reason);
}

static int run(cli_args *args)
{
    gb_error err = {0};
    gb_context *ctx;
    const gb_device_info *devices;
    int n;
    if (cli_context(args, &ctx, &err)) return cli_fail(args, &err);
    int status = CLI_DONE;
    if (gb_context_devices(ctx, &devices, &n, &err))
        status = cli_fail(args, &err);
    else if (cli_json(args))
        status = print_json(args, ctx, devices, n);
    else
        print_text(ctx, devices, n);
    gb_context_destroy(&ctx);
    return status;
}

const cli_command cmd_devices = {"devices", "",  "lists every device of every backend", run, 0,
                                 0,         NULL};
