#include "backends/vulkan/vk.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PUSH 128u /* bytes of push constants: what every device has */
#define MIN_ALIGN                                                                                  \
    16u /* of bindings, so that vectors in them are aligned on devices that take less */

static gb_status choose_physical(gb_backend_device *dev, int index, gb_error *err)
{
    gb_vk_physical *list;
    int n;
    gb_status status = gb_vk_physical_list(&dev->instance, &list, &n, err);
    if (status) return status;
    if (index < 0 || index >= n)
        status = gb_fail(err, GB_NOT_FOUND, "vulkan", "list the devices again",
                         "there is no Vulkan device number %d", index);
    else if (!list[index].info.usable)
        status = gb_fail(err, GB_DEVICE, list[index].info.name, "choose another device",
                         "the device cannot be used: %s", list[index].info.reason);
    else
        dev->physical = list[index];
    free(list);
    return status;
}

static gb_status create_device(gb_backend_device *dev, gb_error *err)
{
    gb_vk_physical *p = &dev->physical;
    const float priority = 1;
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = p->family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    const char *extension[2 + GB_VK_MATRIX_EXTENSIONS];
    _Alignas(void *) uint8_t matrix[GB_VK_MATRIX_BYTES];
    uint32_t n = 0;
    if (p->float16_extension) extension[n++] = VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME;
    if (p->memory_budget) extension[n++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    p->storage16.pNext = p->float16.shaderFloat16 ? &p->float16 : NULL;
    p->float16.shaderInt8 = VK_FALSE;
    p->storage16 = (VkPhysicalDevice16BitStorageFeatures){
        .sType = p->storage16.sType,
        .pNext = p->storage16.pNext,
        .storageBuffer16BitAccess = p->storage16.storageBuffer16BitAccess};
    const void *chain = gb_vk_matrix_enable(p, &p->storage16, extension, &n, matrix);
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = chain,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = n,
                               .ppEnabledExtensionNames = extension,
                               .pEnabledFeatures = &p->features};
    VkResult r = dev->vk.CreateDevice(p->handle, &info, NULL, &dev->handle);
    if (r == VK_SUCCESS) return GB_OK;
    dev->handle = VK_NULL_HANDLE;
    return gb_vk_fail(dev, r, "opening the device", err);
}

static gb_status load_functions(gb_backend_device *dev, gb_error *err)
{
    bool all = true;
#define LOAD(name)                                                                                 \
    dev->vk.name = (PFN_vk##name)dev->vk.GetDeviceProcAddr(dev->handle, "vk" #name);               \
    all = all && dev->vk.name;
    GB_VK_DEVICE_FUNCTIONS(LOAD)
#undef LOAD
    if (all) return GB_OK;
    return gb_fail(err, GB_DEVICE, dev->physical.info.name, "update its driver",
                   "the driver lacks functions of Vulkan 1.1");
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void fill_caps(gb_backend_device *dev)
{
    const gb_vk_physical *p = &dev->physical;
    const VkPhysicalDeviceLimits *l = &p->limits;
    uint64_t align = l->minStorageBufferOffsetAlignment;
    bool cpu = p->info.kind == GB_DEVICE_SOFTWARE;
    dev->caps = (gb_gpu_caps){
        .api = GB_GPU_VULKAN,
        .cpu_hosted = cpu,
        .vector_width = cpu ? (int)p->subgroup : 0,
        .subgroup = (int)p->subgroup,
        .storage16 = p->storage16.storageBuffer16BitAccess,
        .int64 = p->features.shaderInt64,
        .broadcast = p->subgroup_broadcast,
        .max_rounds = cpu ? 60000 : 0,
        .max_local = l->maxComputeWorkGroupInvocations,
        .local_memory = l->maxComputeSharedMemorySize,
        .max_params = smaller(l->maxPushConstantsSize, MAX_PUSH),
        .max_bindings = smaller(l->maxPerStageDescriptorStorageBuffers, GB_GPU_MAX_BINDINGS),
        .binding_align = align > MIN_ALIGN ? (uint32_t)align : MIN_ALIGN,
        .max_binding = l->maxStorageBufferRange,
        .variant = dev->variant};
    memcpy(dev->caps.max_local_dim, l->maxComputeWorkGroupSize, sizeof dev->caps.max_local_dim);
    memcpy(dev->caps.max_groups, l->maxComputeWorkGroupCount, sizeof dev->caps.max_groups);
}

static gb_status open_parts(const gb_backend_options *o, int index, gb_backend_device *dev,
                            gb_error *err)
{
    if ((o->cache_dir && !(dev->cache_dir = strdup(o->cache_dir))) ||
        (o->variant && !(dev->variant = strdup(o->variant))))
        return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to open a device");
    gb_status status = choose_physical(dev, index, err);
    if (!status) status = create_device(dev, err);
    if (!status) status = load_functions(dev, err);
    if (status) return status;
    fill_caps(dev);
    status = gb_vk_memory_open(dev, err);
    if (!status) status = gb_vk_queue_open(dev, err);
    if (!status) status = gb_vk_kernels_open(dev, err);
    if (!status) gb_vk_matrix_check(dev);
    return status;
}

gb_status gb_vk_device_open(const gb_backend_options *o, int index, gb_backend_device **out,
                            gb_error *err)
{
    gb_backend_device *dev = calloc(1, sizeof *dev);
    if (!dev) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to open a device");
    gb_status status = gb_vk_instance_open(&dev->instance, o->validate, err);
    if (status) {
        free(dev);
        return status;
    }
    dev->vk = dev->instance.vk;
    status = gb_vk_instance_check(&dev->instance, open_parts(o, index, dev, err), err);
    if (status)
        gb_vk_device_close(dev);
    else
        *out = dev;
    return status;
}

void gb_vk_device_close(gb_backend_device *dev)
{
    if (!dev) return;
    if (dev->handle && dev->vk.DestroyDevice) {
        if (dev->queue.pool && !dev->lost) gb_vk_wait(dev, NULL);
        gb_vk_kernels_close(dev);
        gb_vk_queue_close(dev);
        gb_vk_memory_close(dev);
        dev->vk.DestroyDevice(dev->handle, NULL);
    }
    gb_vk_instance_close(&dev->instance);
    free(dev->cache_dir);
    free(dev->variant);
    free(dev);
}
