/* What the files of the Vulkan backend share.
 *
 * Every open device has an instance of its own, so nothing is shared between contexts. All work of
 * a device goes to one queue, in the order of the calls. */
#ifndef GB_BACKENDS_VULKAN_VK_H
#define GB_BACKENDS_VULKAN_VK_H

#include <pthread.h>

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "backends/backend.h"
#include "backends/gpu/gpu.h"
#include "core/base/cache.h"

#define GB_VK_INSTANCE_FUNCTIONS(F)                                                                \
    F(DestroyInstance)                                                                             \
    F(EnumeratePhysicalDevices)                                                                    \
    F(GetPhysicalDeviceProperties2)                                                                \
    F(GetPhysicalDeviceFeatures2)                                                                  \
    F(GetPhysicalDeviceMemoryProperties2)                                                          \
    F(GetPhysicalDeviceQueueFamilyProperties)                                                      \
    F(EnumerateDeviceExtensionProperties)                                                          \
    F(CreateDevice)                                                                                \
    F(GetDeviceProcAddr)

#define GB_VK_DEVICE_FUNCTIONS(F)                                                                  \
    F(DestroyDevice)                                                                               \
    F(GetDeviceQueue)                                                                              \
    F(AllocateMemory)                                                                              \
    F(FreeMemory)                                                                                  \
    F(MapMemory)                                                                                   \
    F(CreateBuffer)                                                                                \
    F(DestroyBuffer)                                                                               \
    F(GetBufferMemoryRequirements)                                                                 \
    F(BindBufferMemory)                                                                            \
    F(CreateCommandPool)                                                                           \
    F(DestroyCommandPool)                                                                          \
    F(AllocateCommandBuffers)                                                                      \
    F(FreeCommandBuffers)                                                                          \
    F(BeginCommandBuffer)                                                                          \
    F(EndCommandBuffer)                                                                            \
    F(CmdCopyBuffer)                                                                               \
    F(CmdPipelineBarrier)                                                                          \
    F(CmdBindPipeline)                                                                             \
    F(CmdBindDescriptorSets)                                                                       \
    F(CmdPushConstants)                                                                            \
    F(CmdDispatch)                                                                                 \
    F(CmdDispatchBase)                                                                             \
    F(CmdResetQueryPool)                                                                           \
    F(CmdWriteTimestamp)                                                                           \
    F(CreateQueryPool)                                                                             \
    F(DestroyQueryPool)                                                                            \
    F(GetQueryPoolResults)                                                                         \
    F(CreateFence)                                                                                 \
    F(DestroyFence)                                                                                \
    F(WaitForFences)                                                                               \
    F(ResetFences)                                                                                 \
    F(GetFenceStatus)                                                                              \
    F(QueueSubmit)                                                                                 \
    F(QueueWaitIdle)                                                                               \
    F(CreateShaderModule)                                                                          \
    F(DestroyShaderModule)                                                                         \
    F(CreateDescriptorSetLayout)                                                                   \
    F(DestroyDescriptorSetLayout)                                                                  \
    F(CreateDescriptorPool)                                                                        \
    F(DestroyDescriptorPool)                                                                       \
    F(AllocateDescriptorSets)                                                                      \
    F(UpdateDescriptorSets)                                                                        \
    F(CreatePipelineLayout)                                                                        \
    F(DestroyPipelineLayout)                                                                       \
    F(CreateComputePipelines)                                                                      \
    F(DestroyPipeline)                                                                             \
    F(CreatePipelineCache)                                                                         \
    F(DestroyPipelineCache)                                                                        \
    F(GetPipelineCacheData)

#define GB_VK_MEMBER(name) PFN_vk##name name;
typedef struct gb_vk_api {
    GB_VK_INSTANCE_FUNCTIONS(GB_VK_MEMBER)
    GB_VK_DEVICE_FUNCTIONS(GB_VK_MEMBER)
} gb_vk_api;
#undef GB_VK_MEMBER

/* --- loader.c: the library, an instance, validation messages --- */

typedef struct gb_vk_instance {
    void *library;
    VkInstance handle;
    PFN_vkGetInstanceProcAddr get_proc;
    gb_vk_api vk;
    VkDebugUtilsMessengerEXT messenger;
    pthread_mutex_t lock; /* guards message: drivers may report from threads of their own */
    char message[640];    /* the first validation message that no call has reported yet, or "" */
} gb_vk_instance;

/* GB_NOT_FOUND where the system has no loader or no driver. */
gb_status gb_vk_instance_open(gb_vk_instance *in, bool validate, gb_error *err);
void gb_vk_instance_close(gb_vk_instance *in);
/* status, or a failure with the validation message that came since the last call. */
gb_status gb_vk_instance_check(gb_vk_instance *in, gb_status status, gb_error *err);
const char *gb_vk_result_name(VkResult r);

/* --- physical.c: physical devices and what they are --- */

typedef struct gb_vk_physical {
    VkPhysicalDevice handle;
    gb_device_info info;
    uint32_t family; /* the queue family for compute */
    uint32_t timestamp_bits, subgroup;
    bool subgroup_broadcast, subgroup_shuffle;
    VkPhysicalDeviceLimits limits;
    bool memory_budget;                /* VK_EXT_memory_budget */
    VkPhysicalDeviceFeatures features; /* what to enable: … */
    VkPhysicalDevice16BitStorageFeatures storage16;
    VkPhysicalDeviceShaderFloat16Int8Features float16;
    bool float16_extension; /* before Vulkan 1.2 it has to be named */
    gb_gpu_matrix matrix;   /* as the driver lists it; m is 0 where kernels cannot use them */
} gb_vk_physical;

/* All of them, in an order that does not depend on the order of drivers on disk. *list is freed by
 * the caller; *n may be 0. */
gb_status gb_vk_physical_list(gb_vk_instance *in, gb_vk_physical **list, int *n, gb_error *err);

/* --- matrix.c: VK_KHR_cooperative_matrix, and VK_KHR_shader_bfloat16 in it --- */

enum { GB_VK_MATRIX_EXTENSIONS = 4, GB_VK_MATRIX_BYTES = 128 };

void gb_vk_matrix_read(gb_vk_instance *in, gb_vk_physical *p, const VkExtensionProperties *list,
                       uint32_t n);
/* What to enable, where the device has matrix units: adds the extensions' names, and features, made
 * in memory of GB_VK_MATRIX_BYTES, before next. Returns the head of the chain. */
void *gb_vk_matrix_enable(const gb_vk_physical *p, void *next, const char **extension, uint32_t *n,
                          void *memory);
/* Fills in caps.matrix: the kernels that gave right results, now or at an earlier time. */
void gb_vk_matrix_check(gb_backend_device *dev);

/* --- memory.c: device memory in blocks, cut into buffers --- */

typedef struct gb_vk_block gb_vk_block;

typedef enum gb_vk_place {
    GB_VK_DEVICE, /* where kernels read and write */
    GB_VK_UPLOAD, /* written by the host, copied from */
    GB_VK_READBACK,
    GB_VK_PLACES
} gb_vk_place;

struct gb_backend_buffer {
    VkBuffer handle;
    gb_vk_block *block;
    uint64_t offset, size; /* within the block, as allocated */
    uint64_t bytes;        /* as asked for */
    uint8_t *mapped;       /* NULL where the host cannot see it */
};

typedef struct gb_vk_memory {
    VkPhysicalDeviceMemoryProperties properties;
    uint32_t type[GB_VK_PLACES];
    bool direct; /* the host reads and writes DEVICE buffers in place */
    uint64_t allocated[VK_MAX_MEMORY_HEAPS];
    uint32_t allocations;
    gb_vk_block *blocks;
} gb_vk_memory;

gb_status gb_vk_memory_open(gb_backend_device *dev, gb_error *err);
void gb_vk_memory_close(gb_backend_device *dev);
gb_status gb_vk_buffer_create(gb_backend_device *dev, gb_vk_place place, uint64_t bytes,
                              gb_backend_buffer **buf, gb_error *err);
void gb_vk_buffer_free(gb_backend_device *dev, gb_backend_buffer *buf);

/* --- queue.c: submissions in flight, copies between host and device --- */

#define GB_VK_SLOTS 4

typedef struct gb_vk_slot { /* one submission */
    VkCommandBuffer copies; /* recorded since the last submission, run before the program */
    VkFence fence;
    bool recording, pending;
    gb_backend_buffer *staging;
    uint64_t used; /* bytes of staging */
} gb_vk_slot;

typedef struct gb_vk_queue {
    VkQueue handle;
    VkCommandPool pool;
    gb_vk_slot slot[GB_VK_SLOTS];
    int current;
    gb_backend_buffer *readback;
} gb_vk_queue;

gb_status gb_vk_queue_open(gb_backend_device *dev, gb_error *err);
void gb_vk_queue_close(gb_backend_device *dev);
/* Makes everything earlier on the queue visible to what follows, and to the host after a wait. */
void gb_vk_full_barrier(gb_backend_device *dev, VkCommandBuffer commands);
/* Submits recorded copies, then n command buffers, each as a job of its own. */
gb_status gb_vk_submit(gb_backend_device *dev, const VkCommandBuffer *commands, int n,
                       gb_error *err);
/* Submits recorded copies and waits until the queue is empty. */
gb_status gb_vk_wait(gb_backend_device *dev, gb_error *err);
gb_status gb_vk_write(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                      uint64_t bytes, const void *src, gb_error *err);
gb_status gb_vk_read(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                     uint64_t bytes, void *dst, gb_error *err);

/* --- shader.c: GLSL to SPIR-V --- */

typedef struct gb_vk_compiler {
    const char *cache_dir; /* NULL: none */
    void *shaderc; /* made when first needed and kept: its tables take longer than a kernel */
} gb_vk_compiler;

/* *words is freed by the caller. */
/* What compilation needs, before threads compile. */
void gb_vk_compiler_open(gb_vk_compiler *c);
gb_status gb_vk_compile(const gb_vk_compiler *c, const char *name, const char *source, uint32_t **words,
                        size_t *bytes, gb_error *err);
void gb_vk_compiler_close(gb_vk_compiler *c);

/* --- pipeline.c: pipelines by source, kept until the device is closed --- */

typedef struct gb_vk_kernel {
    gb_hash key;
    int n_bindings;
    uint32_t push_bytes;
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipeline pipeline;
} gb_vk_kernel;

typedef struct gb_vk_kernels {
    gb_vk_compiler compiler;
    VkPipelineCache cache;
    gb_hash cache_key;
    bool cache_changed;
    gb_vk_kernel **item;
    int n, cap;
} gb_vk_kernels;

gb_status gb_vk_kernels_open(gb_backend_device *dev, gb_error *err);
void gb_vk_kernels_close(gb_backend_device *dev);
/* Writes the pipeline cache if it has grown; failing to is no error. */
void gb_vk_kernels_save(gb_backend_device *dev);
typedef struct gb_vk_wanted { /* a kernel: its entry point is main */
    const gb_gpu_kernel *text;
    int n_bindings; /* storage buffers 0 … n_bindings - 1 of set 0 */
    uint32_t push_bytes;
} gb_vk_wanted;

/* kernel[i] becomes the kernel for wanted[i], owned by the device. Those that are not there yet are
 * built by several threads. */
gb_status gb_vk_kernels_get(gb_backend_device *dev, const gb_vk_wanted *wanted, int n,
                            const gb_vk_kernel **kernel, gb_error *err);

gb_status gb_vk_kernel_get(gb_backend_device *dev, const char *name, const char *source,
                           int n_bindings, uint32_t push_bytes, const gb_vk_kernel **kernel,
                           gb_error *err);

/* --- device.c --- */

struct gb_backend_device {
    gb_vk_instance instance;
    gb_vk_api vk;
    gb_vk_physical physical;
    VkDevice handle;
    gb_vk_memory memory;
    gb_vk_queue queue;
    gb_vk_kernels kernels;
    char *cache_dir; /* NULL: none */
    gb_gpu_caps caps;
    char *variant; /* in caps; NULL: none */
    bool lost;
};

gb_status gb_vk_device_open(const gb_backend_options *o, int index, gb_backend_device **dev,
                            gb_error *err);
void gb_vk_device_close(gb_backend_device *dev);
/* What a failed Vulkan call means; doing is what was tried, for example "creating a fence". */
gb_status gb_vk_fail(gb_backend_device *dev, VkResult r, const char *doing, gb_error *err);

#endif
