/* Uploads beside kernels: a queue of its own brings data from pinned memory of the host into memory
 * of the device that waits there, while kernels run; the main queue copies it on the device to
 * where it belongs, in its turn. So inputs have several buffers, and programs know of one. */
#include "backends/opencl/opencl.h"

#include <stdlib.h>
#include <string.h>

enum { LANES = 3, LEAST = 4 << 10, MOST = 128 << 20, SHARE = 64 /* of the device's memory */ };

typedef struct lane {
    uint64_t bytes; /* of each of the two */
    cl_mem host, device;
    void *mapped;    /* host */
    cl_event copied; /* to where it belongs: the lane is free again; NULL: it is */
} lane;

struct gb_cl_uploads {
    cl_command_queue queue;
    uint64_t most;
    lane lane[LANES];
    int next;
};

void gb_cl_uploads_open(gb_backend_device *dev)
{
    cl_int code;
    cl_ulong memory = 0;
    gb_cl_uploads *u = calloc(1, sizeof *u);
    if (!u) return;
    clGetDeviceInfo(dev->id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof memory, &memory, NULL);
    u->most = memory / SHARE < MOST ? memory / SHARE : MOST;
    u->queue = clCreateCommandQueue(dev->context, dev->id, 0, &code);
    if (code)
        free(u);
    else
        dev->uploads = u;
}

static cl_int lane_wait(gb_backend_device *dev, lane *l)
{
    if (!l->copied) return CL_SUCCESS;
    cl_int code = clFlush(dev->queue); /* the copy may not have been sent yet */
    if (!code) code = clWaitForEvents(1, &l->copied);
    clReleaseEvent(l->copied);
    l->copied = NULL;
    return code;
}

static void lane_close(gb_backend_device *dev, lane *l)
{
    gb_cl_uploads *u = dev->uploads;
    lane_wait(dev, l);
    if (l->mapped) clEnqueueUnmapMemObject(u->queue, l->host, l->mapped, 0, NULL, NULL);
    clFinish(u->queue);
    if (l->host) clReleaseMemObject(l->host);
    if (l->device) clReleaseMemObject(l->device);
    *l = (lane){0};
}

void gb_cl_uploads_close(gb_backend_device *dev)
{
    gb_cl_uploads *u = dev->uploads;
    if (!u) return;
    for (int i = 0; i < LANES; i++) lane_close(dev, &u->lane[i]);
    clReleaseCommandQueue(u->queue);
    free(u);
    dev->uploads = NULL;
}

/* False: the driver has no memory for it. */
static bool lane_grow(gb_backend_device *dev, lane *l, uint64_t bytes)
{
    cl_int code;
    if (l->bytes >= bytes) return true;
    lane_close(dev, l);
    l->device = clCreateBuffer(dev->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (!code)
        l->host = clCreateBuffer(dev->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, bytes,
                                 NULL, &code);
    if (!code)
        l->mapped = clEnqueueMapBuffer(dev->uploads->queue, l->host, CL_TRUE, CL_MAP_WRITE, 0,
                                       bytes, 0, NULL, NULL, &code);
    if (code)
        lane_close(dev, l);
    else
        l->bytes = bytes;
    return !code;
}

static cl_int send(gb_backend_device *dev, lane *l, cl_mem to, uint64_t offset, uint64_t bytes)
{
    cl_event up;
    cl_int code = clEnqueueWriteBuffer(dev->uploads->queue, l->device, CL_FALSE, 0, bytes,
                                       l->mapped, 0, NULL, &up);
    if (code) return code;
    code = clFlush(dev->uploads->queue);
    if (!code)
        code = clEnqueueCopyBuffer(dev->queue, l->device, to, 0, offset, bytes, 1, &up, &l->copied);
    if (code) clFinish(dev->uploads->queue); /* it reads the lane */
    clReleaseEvent(up);
    return code;
}

bool gb_cl_upload(gb_backend_device *dev, cl_mem to, uint64_t offset, uint64_t bytes,
                  const void *src, cl_int *code)
{
    gb_cl_uploads *u = dev->uploads;
    if (!u || bytes < LEAST || bytes > u->most) return false;
    lane *l = &u->lane[u->next];
    *code = lane_wait(dev, l);
    if (*code) return true;
    if (!lane_grow(dev, l, bytes)) return false;
    u->next = (u->next + 1) % LANES;
    memcpy(l->mapped, src, bytes);
    *code = send(dev, l, to, offset, bytes);
    return true;
}
