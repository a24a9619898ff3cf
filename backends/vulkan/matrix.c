/* Matrix units: what a device has of VK_KHR_cooperative_matrix, and whether it works. */
#include <stdlib.h>
#include <string.h>

#include "backends/versions.h"
#include "backends/vulkan/matrix_khr.h"
#include "backends/vulkan/vk.h"

extern const gb_backend gb_vulkan_backend;

static const char *const needed[GB_VK_MATRIX_EXTENSIONS] = {
    VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME,
    VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME};

static bool has(const VkExtensionProperties *list, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(list[i].extensionName, name)) return true;
    return false;
}

/* The features that kernels need, chained: to ask for them and to enable them. */
typedef struct features {
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix;
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT size;
    VkPhysicalDeviceVulkanMemoryModelFeatures model;
} features;

static void chain(features *f, void *next)
{
    *f = (features){
        .matrix = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
                   .pNext = &f->size},
        .size = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
                 .pNext = &f->model},
        .model = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES,
                  .pNext = next}};
}

static bool features_are_there(gb_vk_instance *in, VkPhysicalDevice device)
{
    features f;
    chain(&f, NULL);
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                     .pNext = &f};
    in->vk.GetPhysicalDeviceFeatures2(device, &all);
    return f.matrix.cooperativeMatrix && f.size.subgroupSizeControl &&
           f.size.computeFullSubgroups && f.model.vulkanMemoryModel;
}

/* The size that kernels are to run with; 0: none can be asked for. */
static uint32_t subgroup_of(gb_vk_instance *in, const gb_vk_physical *p)
{
    VkPhysicalDeviceCooperativeMatrixPropertiesKHR matrix = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT size = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT,
        .pNext = &matrix};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &size};
    in->vk.GetPhysicalDeviceProperties2(p->handle, &all);
    if (!(matrix.cooperativeMatrixSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT) ||
        !(size.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT))
        return 0;
    return p->subgroup < size.minSubgroupSize   ? size.minSubgroupSize
           : p->subgroup > size.maxSubgroupSize ? size.maxSubgroupSize
                                                : p->subgroup;
}

static bool suits(const VkCooperativeMatrixPropertiesKHR *s)
{
    return s->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && s->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
           s->CType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
           s->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR && s->scope == VK_SCOPE_SUBGROUP_KHR &&
           s->MSize <= 16 && s->NSize <= 16 && s->KSize <= 32;
}

/* Of the shapes for f16 with f32 sums the largest. */
static void choose_shape(gb_vk_instance *in, gb_vk_physical *p)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR list =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)in->get_proc(
            in->handle, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    VkCooperativeMatrixPropertiesKHR shape[64];
    uint32_t n = sizeof shape / sizeof *shape, best = 0;
    for (uint32_t i = 0; i < n; i++)
        shape[i] = (VkCooperativeMatrixPropertiesKHR){
            .sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    const VkResult r = list ? list(p->handle, &n, shape) : VK_ERROR_UNKNOWN;
    if (r != VK_SUCCESS && r != VK_INCOMPLETE) n = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t size = shape[i].MSize * shape[i].NSize * shape[i].KSize;
        if (!suits(&shape[i]) || size <= best) continue;
        best = size;
        p->matrix.m = (int)shape[i].MSize;
        p->matrix.n = (int)shape[i].NSize;
        p->matrix.k = (int)shape[i].KSize;
    }
}

void gb_vk_matrix_read(gb_vk_instance *in, gb_vk_physical *p, const VkExtensionProperties *list,
                       uint32_t n)
{
    p->matrix = (gb_gpu_matrix){0};
    for (int i = 0; i < GB_VK_MATRIX_EXTENSIONS; i++)
        if (!has(list, n, needed[i])) return;
    if (!p->float16.shaderFloat16 || !p->storage16.storageBuffer16BitAccess ||
        !features_are_there(in, p->handle))
        return;
    p->matrix.subgroup = subgroup_of(in, p);
    if (p->matrix.subgroup) choose_shape(in, p);
}

void *gb_vk_matrix_enable(const gb_vk_physical *p, void *next, const char **extension, uint32_t *n,
                          void *memory)
{
    features *f = memory;
    _Static_assert(sizeof *f <= GB_VK_MATRIX_BYTES, "the features fit");
    if (!p->matrix.m) return next;
    for (int i = 0; i < GB_VK_MATRIX_EXTENSIONS; i++) extension[(*n)++] = needed[i];
    chain(f, next);
    f->matrix.cooperativeMatrix = VK_TRUE;
    f->size.subgroupSizeControl = f->size.computeFullSubgroups = VK_TRUE;
    f->model.vulkanMemoryModel = VK_TRUE;
    return f;
}

/* --- does it work? --- */

void gb_vk_matrix_check(gb_backend_device *dev)
{
    const gb_device_info *info = &dev->physical.info;
    gb_gpu_matrix *matrix = &dev->caps.matrix, *known;
    if (!dev->physical.matrix.m) return;
    if (dev->caps.cpu_hosted && !dev->variant) return; /* slow to build, and never the fastest */
    gb_hash key = GB_HASH_INIT;
    gb_hash_text(&key, info->name);
    gb_hash_text(&key, info->driver);
    gb_hash_text(&key, info->version);
    gb_hash_text(&key, gb_kernels_vulkan);
    gb_hash_bytes(&key, info->uuid, sizeof info->uuid);
    void *data;
    size_t size;
    if (gb_cache_load(dev->cache_dir, "vkmatrix", key, &data, &size)) {
        known = data;
        const bool same = size == sizeof *known && known->m == dev->physical.matrix.m &&
                          known->n == dev->physical.matrix.n && known->k == dev->physical.matrix.k;
        if (same) *matrix = *known;
        free(data);
        if (same) return;
    }
    *matrix = dev->physical.matrix;
    gb_gpu_probe_matrix(&gb_vulkan_backend, dev, matrix);
    if (!dev->lost) gb_cache_store(dev->cache_dir, "vkmatrix", key, matrix, sizeof *matrix);
}
