/* What the files of the runtime share. */
#ifndef GB_CORE_RUNTIME_RUNTIME_H
#define GB_CORE_RUNTIME_RUNTIME_H

#include <pthread.h>

#include <gimbal/program.h>

#include "backends/backend.h"

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
};

#endif
