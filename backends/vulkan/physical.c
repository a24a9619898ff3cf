#include "backends/vulkan/vk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_extension(const VkExtensionProperties *list, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(list[i].extensionName, name)) return true;
    return false;
}

static gb_status read_extensions(gb_vk_instance *in, VkPhysicalDevice handle,
                                 VkExtensionProperties **list, uint32_t *n, gb_error *err)
{
    *n = 0;
    in->vk.EnumerateDeviceExtensionProperties(handle, NULL, n, NULL);
    *list = calloc(*n + 1, sizeof **list);
    if (!*list) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to list devices");
    if (in->vk.EnumerateDeviceExtensionProperties(handle, NULL, n, *list) < 0) *n = 0;
    return GB_OK;
}

static gb_device_kind kind_of(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return GB_DEVICE_SOFTWARE;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return GB_DEVICE_INTEGRATED;
    default:
        return GB_DEVICE_DISCRETE;
    }
}

/* Takes the first family that can compute, timers preferred. */
static bool find_family(gb_vk_instance *in, gb_vk_physical *p)
{
    VkQueueFamilyProperties family[16];
    uint32_t n = sizeof family / sizeof *family;
    in->vk.GetPhysicalDeviceQueueFamilyProperties(p->handle, &n, family);
    bool found = false;
    for (uint32_t i = 0; i < n; i++) {
        if (!(family[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || !family[i].queueCount) continue;
        if (found && (p->timestamp_bits || !family[i].timestampValidBits)) continue;
        p->family = i;
        p->timestamp_bits = family[i].timestampValidBits;
        found = true;
    }
    return found;
}

static void read_properties(gb_vk_instance *in, gb_vk_physical *p, uint64_t *max_allocation,
                            uint32_t *api_version, bool driver_known)
{
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceMaintenance3Properties maintenance = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES,
        .pNext = driver_known ? &driver : NULL};
    VkPhysicalDeviceSubgroupProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &maintenance};
    VkPhysicalDeviceIDProperties id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
                                       .pNext = &subgroup};
    VkPhysicalDeviceProperties2 properties = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &id};
    in->vk.GetPhysicalDeviceProperties2(p->handle, &properties);
    const VkPhysicalDeviceProperties *d = &properties.properties;
    gb_device_info *info = &p->info;
    p->limits = d->limits;
    p->subgroup = subgroup.subgroupSize;
    p->subgroup_broadcast = subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT &&
                            subgroup.supportedOperations & VK_SUBGROUP_FEATURE_BALLOT_BIT;
    p->subgroup_shuffle =
        p->subgroup_broadcast && subgroup.supportedOperations & VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    info->kind = kind_of(d->deviceType);
    snprintf(info->name, sizeof info->name, "%.127s", d->deviceName);
    snprintf(info->driver, sizeof info->driver, "%.127s",
             driver_known ? driver.driverName : "unknown Vulkan driver");
    if (driver_known && driver.driverInfo[0])
        snprintf(info->version, sizeof info->version, "%.63s", driver.driverInfo);
    else
        snprintf(info->version, sizeof info->version, "%u.%u.%u",
                 VK_API_VERSION_MAJOR(d->driverVersion), VK_API_VERSION_MINOR(d->driverVersion),
                 VK_API_VERSION_PATCH(d->driverVersion));
    memcpy(info->uuid, id.deviceUUID, sizeof info->uuid);
    *max_allocation = maintenance.maxMemoryAllocationSize;
    *api_version = d->apiVersion;
}

static void read_features(gb_vk_instance *in, gb_vk_physical *p, bool float16_known)
{
    p->storage16 = (VkPhysicalDevice16BitStorageFeatures){
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES};
    p->float16 = (VkPhysicalDeviceShaderFloat16Int8Features){
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES};
    p->storage16.pNext = float16_known ? &p->float16 : NULL;
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                          .pNext = &p->storage16};
    in->vk.GetPhysicalDeviceFeatures2(p->handle, &features);
    p->storage16.pNext = p->float16.pNext = NULL;
    /* enabled is only what kernels may use; bounds checks (robustBufferAccess) stay off */
    p->features = (VkPhysicalDeviceFeatures){.shaderInt16 = features.features.shaderInt16,
                                             .shaderInt64 = features.features.shaderInt64};
}

static uint64_t device_local_bytes(gb_vk_instance *in, VkPhysicalDevice handle)
{
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    in->vk.GetPhysicalDeviceMemoryProperties2(handle, &m);
    uint64_t best = 0;
    for (uint32_t i = 0; i < m.memoryProperties.memoryHeapCount; i++) {
        const VkMemoryHeap *h = &m.memoryProperties.memoryHeaps[i];
        if (h->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT && h->size > best) best = h->size;
    }
    return best;
}

static gb_status describe(gb_vk_instance *in, gb_vk_physical *p, gb_error *err)
{
    VkExtensionProperties *extension;
    uint32_t n, version = 0;
    gb_status s = read_extensions(in, p->handle, &extension, &n, err);
    if (s) return s;
    VkPhysicalDeviceProperties2 first = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    in->vk.GetPhysicalDeviceProperties2(p->handle, &first);
    bool v12 = first.properties.apiVersion >= VK_API_VERSION_1_2;
    p->float16_extension =
        !v12 && has_extension(extension, n, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME);
    p->memory_budget = has_extension(extension, n, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    bool driver_known = v12 || has_extension(extension, n, VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME);
    gb_device_info *info = &p->info;
    uint64_t max_allocation = 0;
    snprintf(info->backend, sizeof info->backend, "vulkan");
    read_properties(in, p, &max_allocation, &version, driver_known);
    read_features(in, p, v12 || p->float16_extension);
    gb_vk_matrix_read(in, p, extension, n);
    free(extension);
    if (info->kind == GB_DEVICE_SOFTWARE) info->vector_width = (int)p->subgroup;
    info->memory_bytes = device_local_bytes(in, p->handle);
    info->max_buffer_bytes = p->limits.maxStorageBufferRange;
    if (max_allocation && max_allocation < info->max_buffer_bytes)
        info->max_buffer_bytes = max_allocation;
    info->usable = true;
    if (version < VK_API_VERSION_1_1) {
        info->usable = false;
        snprintf(info->reason, sizeof info->reason, "its driver is older than Vulkan 1.1");
    } else if (!find_family(in, p)) {
        info->usable = false;
        snprintf(info->reason, sizeof info->reason, "it has no queue for compute");
    }
    return GB_OK;
}

static int compare(const void *a, const void *b)
{
    const gb_device_info *x = &((const gb_vk_physical *)a)->info;
    const gb_device_info *y = &((const gb_vk_physical *)b)->info;
    static const int order[] = {[GB_DEVICE_DISCRETE] = 0,
                                [GB_DEVICE_INTEGRATED] = 1,
                                [GB_DEVICE_SOFTWARE] = 2,
                                [GB_DEVICE_CPU] = 3};
    if (order[x->kind] != order[y->kind]) return order[x->kind] - order[y->kind];
    int c = strcmp(x->name, y->name);
    return c ? c : memcmp(x->uuid, y->uuid, sizeof x->uuid);
}

gb_status gb_vk_physical_list(gb_vk_instance *in, gb_vk_physical **list, int *n, gb_error *err)
{
    *list = NULL;
    *n = 0;
    VkPhysicalDevice handle[64];
    uint32_t count = sizeof handle / sizeof *handle;
    VkResult r = in->vk.EnumeratePhysicalDevices(in->handle, &count, handle);
    if (r != VK_SUCCESS && r != VK_INCOMPLETE) count = 0;
    gb_vk_physical *p = calloc(count + 1, sizeof *p);
    if (!p) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to list devices");
    for (uint32_t i = 0; i < count; i++) {
        p[i].handle = handle[i];
        gb_status s = describe(in, &p[i], err);
        if (s) {
            free(p);
            return s;
        }
    }
    qsort(p, count, sizeof *p, compare);
    *list = p;
    *n = (int)count;
    return GB_OK;
}
