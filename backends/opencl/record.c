/* Launches that are recorded once, where the driver has cl_khr_command_buffer: a run is then one
 * call. What cannot be recorded is enqueued, with the same results. */
#include "backends/opencl/opencl.h"

#include <stdlib.h>
#include <string.h>

/* What is called of the extension. Headers that know it differ in names and in functions that are
 * not used here; these have had the same arguments since its first version, 0.9.0. */
enum {
    DEVICE_EXTENSIONS_WITH_VERSION = 0x1060,
    DEVICE_CAPABILITIES = 0x12A9,
    CAN_RUN_TWICE = 1 << 2, /* be enqueued again before it is done */
    DEVICE_REQUIRED_QUEUE_PROPERTIES = 0x12AA,
    FLAGS = 0x1293,
    RUN_TWICE = 1 << 0
};

typedef struct name_version {
    cl_uint version;
    char name[64];
} name_version;

struct gb_cl_recorder {
    gb_cl_recording(CL_API_CALL *create)(cl_uint n, const cl_command_queue *queue,
                                         const cl_ulong *properties, cl_int *code);
    cl_int(CL_API_CALL *finalize)(gb_cl_recording);
    cl_int(CL_API_CALL *release)(gb_cl_recording);
    cl_int(CL_API_CALL *enqueue)(cl_uint n, cl_command_queue *queue, gb_cl_recording,
                                 cl_uint n_wait, const cl_event *wait, cl_event *event);
    cl_int(CL_API_CALL *launch)(gb_cl_recording, cl_command_queue queue, const cl_ulong *properties,
                                cl_kernel kernel, cl_uint dim, const size_t *offset,
                                const size_t *global, const size_t *local, cl_uint n_wait,
                                const cl_uint *wait, cl_uint *point, void **handle);
};

/* 0.9.* or 1.*: later ones may be another interface. */
static bool known_version(cl_device_id id)
{
    size_t bytes = 0;
    bool known = false;
    if (clGetDeviceInfo(id, DEVICE_EXTENSIONS_WITH_VERSION, 0, NULL, &bytes)) return false;
    name_version *list = malloc(bytes + 1);
    if (list && !clGetDeviceInfo(id, DEVICE_EXTENSIONS_WITH_VERSION, bytes, list, NULL))
        for (size_t i = 0; i < bytes / sizeof *list; i++) {
            const cl_uint major = list[i].version >> 22, minor = list[i].version >> 12 & 1023;
            if (strcmp(list[i].name, "cl_khr_command_buffer") == 0)
                known = major == 1 || (major == 0 && minor == 9);
        }
    free(list);
    return known;
}

/* A plain queue will do, and a run may be enqueued while the one before it is under way. */
static bool suits(cl_device_id id)
{
    cl_ulong can = 0, required = 0;
    return !clGetDeviceInfo(id, DEVICE_CAPABILITIES, sizeof can, &can, NULL) &&
           !clGetDeviceInfo(id, DEVICE_REQUIRED_QUEUE_PROPERTIES, sizeof required, &required,
                            NULL) &&
           can & CAN_RUN_TWICE && !required;
}

static bool load(gb_cl_recorder *r, cl_platform_id platform)
{
    static const char *const name[] = {"clCreateCommandBufferKHR", "clFinalizeCommandBufferKHR",
                                       "clReleaseCommandBufferKHR", "clEnqueueCommandBufferKHR",
                                       "clCommandNDRangeKernelKHR"};
    void *f[5];
    for (int i = 0; i < 5; i++) {
        f[i] = clGetExtensionFunctionAddressForPlatform(platform, name[i]);
        if (!f[i]) return false;
    }
    memcpy(&r->create, &f[0], sizeof f[0]); /* C has no cast from data to functions */
    memcpy(&r->finalize, &f[1], sizeof f[1]);
    memcpy(&r->release, &f[2], sizeof f[2]);
    memcpy(&r->enqueue, &f[3], sizeof f[3]);
    memcpy(&r->launch, &f[4], sizeof f[4]);
    return true;
}

/* --- does it work? --- */

enum { ITEMS = 8, LAUNCHES = 3, RUNS = 2 };

static const char *const probe_text = "__kernel void probe(__global int *x, int add)\n"
                                      "{\n"
                                      "    const int i = get_global_id(0);\n"
                                      "    x[i] = 3 * x[i] + add + i;\n"
                                      "}\n";

static bool probe_result(const gb_backend_device *dev, cl_mem x)
{
    cl_int got[ITEMS];
    if (clEnqueueReadBuffer(dev->queue, x, CL_TRUE, 0, sizeof got, got, 0, NULL, NULL))
        return false;
    for (int i = 0; i < ITEMS; i++) {
        cl_int want = 0;
        for (int k = 0; k < RUNS * LAUNCHES; k++) want = 3 * want + k % LAUNCHES + i;
        if (got[i] != want) return false;
    }
    return true;
}

/* As programs do it: a kernel for each launch, whose arguments stay (PoCL reads them only when the
 * recording is enqueued), and two runs without a wait. */
static bool probe_runs(gb_backend_device *dev, const cl_kernel *kernel, cl_mem x)
{
    const size_t global[3] = {ITEMS, 1, 1}, local[3] = {1, 1, 1};
    gb_cl_recording r = gb_cl_record_begin(dev);
    bool works = r != NULL;
    for (cl_int add = 0; add < LAUNCHES && works; add++)
        works = kernel[add] && !clSetKernelArg(kernel[add], 0, sizeof x, &x) &&
                !clSetKernelArg(kernel[add], 1, sizeof add, &add) &&
                gb_cl_record_launch(dev, r, kernel[add], global, local);
    works = works && gb_cl_record_end(dev, r);
    for (int i = 0; i < RUNS && works; i++) works = !gb_cl_recording_enqueue(dev, r);
    gb_cl_recording_free(dev, r); /* while it may be under way, as when a program is bound again */
    return works && probe_result(dev, x);
}

static bool probe(gb_backend_device *dev)
{
    cl_int code, zero[ITEMS] = {0};
    bool works = false;
    cl_kernel kernel[LAUNCHES] = {NULL};
    const char *text = probe_text;
    cl_program program = clCreateProgramWithSource(dev->context, 1, &text, NULL, &code);
    cl_mem x = clCreateBuffer(dev->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof zero,
                              zero, &code);
    if (program && !clBuildProgram(program, 1, &dev->id, dev->build_options, NULL, NULL)) {
        for (int i = 0; i < LAUNCHES; i++) kernel[i] = clCreateKernel(program, "probe", &code);
        works = x && probe_runs(dev, kernel, x);
    }
    clFinish(dev->queue);
    for (int i = 0; i < LAUNCHES; i++)
        if (kernel[i]) clReleaseKernel(kernel[i]);
    if (x) clReleaseMemObject(x);
    if (program) clReleaseProgram(program);
    return works;
}

void gb_cl_recorder_open(gb_backend_device *dev, cl_platform_id platform)
{
    if (!known_version(dev->id) || !suits(dev->id)) return;
    dev->recorder = calloc(1, sizeof *dev->recorder);
    if (!dev->recorder) return;
    if (load(dev->recorder, platform) && probe(dev)) return;
    free(dev->recorder);
    dev->recorder = NULL;
}

/* --- recordings --- */

gb_cl_recording gb_cl_record_begin(gb_backend_device *dev)
{
    static const cl_ulong properties[] = {FLAGS, RUN_TWICE, 0};
    cl_int code = CL_SUCCESS;
    if (!dev->recorder) return NULL;
    gb_cl_recording r = dev->recorder->create(1, &dev->queue, properties, &code);
    return code ? NULL : r;
}

bool gb_cl_record_launch(gb_backend_device *dev, gb_cl_recording r, cl_kernel kernel,
                         const size_t *global, const size_t *local)
{
    return !dev->recorder->launch(r, NULL, NULL, kernel, 3, NULL, global, local, 0, NULL, NULL,
                                  NULL);
}

bool gb_cl_record_end(gb_backend_device *dev, gb_cl_recording r)
{
    return !dev->recorder->finalize(r);
}

cl_int gb_cl_recording_enqueue(gb_backend_device *dev, gb_cl_recording r)
{
    return dev->recorder->enqueue(0, NULL, r, 0, NULL, NULL);
}

void gb_cl_recording_free(gb_backend_device *dev, gb_cl_recording r)
{
    if (r) dev->recorder->release(r);
}
