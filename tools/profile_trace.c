/* The profile as trace events, of the JSON format that ui.perfetto.dev and chrome://tracing read:
 * https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU */
#include "tools/profile.h"

#include <gimbal/file.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOST = 1, DEVICE = 2 }; /* processes; a track is a thread of one */

static json_t *name_event(const char *what, int pid, int tid, const char *name)
{
    return json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "ph", "M", "name", what, "pid", pid, "tid",
                     tid, "args", "name", name);
}

/* A slice; times are microseconds. args is taken over. */
static json_t *slice(const char *name, const char *category, int pid, int tid,
                     const gb_profile_span *at, json_t *args)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:o}", "ph", "X", "name", name, "cat",
                     category, "pid", pid, "tid", tid, "ts", 1e6 * at->begin, "dur",
                     1e6 * at->seconds, "args", args);
}

static void add_steps(const gb_profile *p, json_t *events)
{
    for (int i = 0; i < p->runs * p->n; i++) {
        const gb_profile_row *r = &p->rows[i % p->n];
        const gb_profile_span *at = &p->spans[i];
        char name[160];
        json_t *args =
            json_pack("{s:s, s:s, s:s, s:o, s:o, s:I}", "layer", r->path, "kind", r->kind,
                      "variant", r->variant, "GFLOP/s", cli_number(r->flops / at->seconds * 1e-9),
                      "GB/s", cli_number(r->bytes / at->seconds * 1e-9), "scratch bytes",
                      (json_int_t)r->scratch_bytes);
        snprintf(name, sizeof name, "%s %s", r->kind, r->path);
        json_array_append_new(events, slice(name, r->phase, DEVICE, 1, at, args));
    }
}

/* Phases as slices above their steps. */
static void add_phases(const gb_profile *p, json_t *events)
{
    for (int i = 0, first = 0; i < p->runs * p->n; i++) {
        bool last = (i + 1) % p->n == 0;
        if (!last && strcmp(p->rows[i % p->n].phase, p->rows[(i + 1) % p->n].phase) == 0) continue;
        double end = p->spans[i].begin + p->spans[i].seconds;
        gb_profile_span at = {p->spans[first].begin, end - p->spans[first].begin};
        const char *phase = p->rows[i % p->n].phase;
        json_array_append_new(events, slice(phase, "phase", DEVICE, 2, &at, json_object()));
        first = i + 1;
    }
}

gb_status profile_trace(const gb_profile *p, const char *device, const char *path, gb_error *err)
{
    json_t *events = json_array();
    json_array_append_new(events, name_event("process_name", HOST, 1, "host"));
    json_array_append_new(events, name_event("thread_name", HOST, 1, "calls"));
    json_array_append_new(events, name_event("process_name", DEVICE, 1, device));
    json_array_append_new(events, name_event("thread_name", DEVICE, 1, "steps"));
    json_array_append_new(events, name_event("thread_name", DEVICE, 2, "phases"));
    for (int i = 0; i < p->n_events; i++)
        json_array_append_new(
            events, slice(p->events[i].name, "host", HOST, 1, &p->events[i].span, json_object()));
    add_phases(p, events);
    add_steps(p, events);
    json_t *document =
        json_pack("{s:o, s:s, s:{s:s, s:I, s:s}}", "traceEvents", events, "displayTimeUnit", "ms",
                  "otherData", "model", p->model, "batch", (json_int_t)p->batch, "device", device);
    char *text = document ? json_dumps(document, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    gb_status s = text ? gb_write_file(path, text, strlen(text), err)
                       : gb_fail(err, GB_OUT_OF_MEMORY, path, NULL, "no memory for a trace");
    free(text);
    json_decref(document);
    return s;
}
