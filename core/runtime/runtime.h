/* What the files of the runtime share. */
#ifndef GB_CORE_RUNTIME_RUNTIME_H
#define GB_CORE_RUNTIME_RUNTIME_H

#include <pthread.h>

#include <gimbal/program.h>

#include "backends/backend.h"
#include "core/runtime/tuning.h"

typedef struct gb_listed { /* a device of the list, and how to open it */
    const gb_backend *backend;
    int index;
} gb_listed;

typedef struct gb_missing_backend {
    const char *backend;
    char reason[200];
} gb_missing_backend;

struct gb_context {
    gb_backend_options options; /* strings are owned */
    bool no_tuning;
    pthread_mutex_t lock;       /* guards the list while it is made */
    bool enumerated;
    int n, n_missing;
    gb_device_info *info;
    gb_listed *listed;
    gb_missing_backend *missing;
};

struct gb_device {
    gb_context *ctx;
    gb_device_info info;
    const gb_backend *backend;
    gb_backend_device *dev;
    uint64_t allocated, peak; /* bytes of buffers */
    void *staging;            /* host memory for conversions, kept between calls */
    size_t staging_bytes;
    gb_tuned tuned;     /* its name, and the choices by bucket that hold for it */
    gb_choices taken;   /* by exact name: what its programs got, or are to get (a replay) */
    char warning[256];  /* about the tuning file; or "" */
};

/* --- choices between implementations (choose.c) --- */
/* Fills d->tuned from shipped defaults and the tuning file. Whatever is wrong there is a warning. */
void gb_choices_load(gb_device *d);
/* Asks the backend about the step and sets step->variant where there is a choice for it. */
void gb_choose(gb_device *d, gb_step *step, gb_answer *answer);
/* The tuning file of a context; free() it. NULL: it has no cache. */
char *gb_tuning_path(const gb_context *ctx);

/* --- buffers (device.c) --- */
gb_status gb_device_alloc(gb_device *d, uint64_t bytes, gb_backend_buffer **buf, gb_error *err);
void gb_device_free(gb_device *d, uint64_t bytes, gb_backend_buffer *buf);
/* At least bytes of host memory, valid until the next call; NULL: no memory (err is filled). */
void *gb_device_staging(gb_device *d, uint64_t bytes, gb_error *err);

/* --- between host tensors and device memory (transfer.c) --- */
/* May a host tensor stand for a value of this dtype and shape? An F64 tensor may for any float. what:
 * "input" or "state". */
gb_status gb_check_tensor(const gb_tensor *t, gb_dtype dtype, const gb_shape *shape,
                          const char *what, const char *name, gb_error *err);
/* t has where's dims. Errors: INVALID (an integer that does not fit 32 bits), DEVICE. */
gb_status gb_upload(gb_device *d, gb_backend_buffer *buf, const gb_operand *where,
                    const gb_tensor *t, const char *name, gb_error *err);
/* Fills t, which is allocated. */
gb_status gb_download(gb_device *d, gb_backend_buffer *buf, const gb_operand *where, gb_tensor *t,
                      gb_error *err);

/* --- states (store.c) --- */
typedef struct gb_state {
    char *name;
    gb_dtype dtype;
    gb_shape shape;
    gb_operand where; /* buffer is not used */
    uint64_t bytes;
    gb_backend_buffer *buf;
    int programs; /* bound to buf: it may not move */
} gb_state;

typedef struct gb_store_arena {
    gb_backend_buffer *buf;
    uint64_t bytes;
} gb_store_arena;

struct gb_store {
    gb_device *dev;
    gb_state **state;
    int n, cap;
    uint64_t version; /* counts changes of any state */
    gb_store_arena *arena; /* of all programs: they run one after another (arenas.c) */
    int n_arenas;
    gb_program *programs; /* the first that is bound to them; each knows the next */
};

/* The state that port names, lying as port says; made (initial NULL: zero) where it is not there.
 * The caller counts itself in state->programs. */
gb_status gb_store_adopt(gb_store *store, const gb_plan_port *port, uint64_t bytes,
                         const gb_tensor *initial, gb_state **state, gb_error *err);

/* --- guarded programs (guard.c) --- */
void gb_guard_apart(gb_plan *plan); /* before the memory plan */
void gb_guard_widen(gb_plan *plan); /* after it: makes room for the zones */
uint64_t gb_guard_offset(const gb_plan *plan, int b, bool guarded); /* of buffer b's content */
/* Before and after a run. Errors of the check: INTERNAL (a step wrote out of bounds), DEVICE. */
gb_status gb_guard_fill(gb_device *d, const gb_plan *plan, gb_backend_buffer *const *buffer,
                        gb_error *err);
gb_status gb_guard_check(gb_device *d, const gb_plan *plan, gb_backend_buffer *const *buffer,
                         gb_error *err);

/* --- arenas (arenas.c) --- */
/* Binds p's arenas to those of its store, which grow where they are too small. */
gb_status gb_arenas_join(gb_program *p, gb_error *err);
/* The last program to leave frees them. */
void gb_arenas_leave(gb_program *p);

/* --- programs (program.c) --- */
struct gb_program {
    gb_store *store;
    gb_device *dev;
    gb_plan *plan;
    gb_backend_program *prog;
    gb_backend_buffer **buffer; /* by number in the plan; those of states and arenas are the store's */
    gb_state **state;           /* by number in the plan */
    bool *input_set;
    uint32_t *scalar; /* bits, by slot */
    bool scalars_changed, guarded;
    bool writes_states;
    uint64_t seen; /* the store's version in the last run */
    gb_program_info info;
    gb_step_time *row;
    gb_span *span;
    gb_program *next; /* of those that share the store's arenas */
};

/* How to lower g so that it fits options->memory_budget, and what it then takes (info may be NULL).
 * Errors: OUT_OF_MEMORY (it cannot; the message has the least), those of planning. */
struct gb_lower_options;
gb_status gb_fit_budget(gb_device *dev, const gb_graph *g, const gb_program_options *options,
                        struct gb_lower_options *lower, gb_program_info *info, gb_error *err);
/* Tells the plan's steps what the options allow. */
void gb_plan_options(gb_plan *plan, const gb_program_options *options);

/* The plan of a program on dev with these options, in which every storage is a buffer of its own. */
gb_status gb_lower_for(gb_device *dev, const gb_graph *graph, const gb_program_options *options,
                       gb_plan **plan, gb_error *err);
/* A program of a plan in which every storage is a buffer of its own; plan is consumed, even on
 * failure. initial[k] (NULL: zero) is for plan->state[k]. */
gb_status gb_program_from_plan(gb_store *store, gb_plan *plan, const gb_tensor *const *initial,
                               const gb_program_options *options, gb_program **program,
                               gb_error *err);

/* The device called "<backend>" or "<backend>:N", asking that backend alone; false where it has none. */
bool gb_context_find(gb_context *ctx, const char *id, gb_device_info *info, gb_listed *listed);

#endif
