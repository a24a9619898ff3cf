/* Matrix units: what a device has of VK_KHR_cooperative_matrix, and whether it works. */
#include <stdlib.h>
#include <string.h>

#include "backends/versions.h"
#include "backends/vulkan/matrix_khr.h"
#include "backends/vulkan/vk.h"

extern const gb_backend gb_vulkan_backend;

static const char *const needed[GB_VK_MATRIX_EXTENSIONS] = {
    VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME,
    VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME,
    VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME /* for bf16 alone */};

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
    VkPhysicalDeviceShaderBfloat16FeaturesKHR bfloat16;
} features;

static void chain(features *f, bool bfloat16, void *next)
{
    *f = (features){
        .matrix = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
                   .pNext = &f->size},
        .size = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
                 .pNext = &f->model},
        .model = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES,
                  .pNext = bfloat16 ? &f->bfloat16 : next},
        .bfloat16 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR,
                     .pNext = next}};
}

/* *bfloat16: whether to ask for those of bf16, then whether they are there. */
static bool features_are_there(gb_vk_instance *in, VkPhysicalDevice device, bool *bfloat16)
{
    features f;
    chain(&f, *bfloat16, NULL);
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                     .pNext = &f};
    in->vk.GetPhysicalDeviceFeatures2(device, &all);
    *bfloat16 = f.bfloat16.shaderBFloat16Type && f.bfloat16.shaderBFloat16CooperativeMatrix;
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

static bool suits(const VkCooperativeMatrixPropertiesKHR *s, VkComponentTypeKHR type)
{
    return s->AType == type && s->BType == type && s->CType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
           s->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR && s->scope == VK_SCOPE_SUBGROUP_KHR &&
           s->MSize <= 16 && s->NSize <= 16 && s->KSize <= 32;
}

/* Of the shapes for operands of the type, with f32 sums, the largest. */
static void choose_shape(gb_vk_instance *in, VkPhysicalDevice device, VkComponentTypeKHR type,
                         gb_gpu_units *units)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR list =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)in->get_proc(
            in->handle, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    VkCooperativeMatrixPropertiesKHR shape[64];
    uint32_t n = sizeof shape / sizeof *shape, best = 0;
    for (uint32_t i = 0; i < n; i++)
        shape[i] = (VkCooperativeMatrixPropertiesKHR){
            .sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    const VkResult r = list ? list(device, &n, shape) : VK_ERROR_UNKNOWN;
    if (r != VK_SUCCESS && r != VK_INCOMPLETE) n = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t size = shape[i].MSize * shape[i].NSize * shape[i].KSize;
        if (!suits(&shape[i], type) || size <= best) continue;
        best = size;
        units->m = (int)shape[i].MSize;
        units->n = (int)shape[i].NSize;
        units->k = (int)shape[i].KSize;
    }
}

void gb_vk_matrix_read(gb_vk_instance *in, gb_vk_physical *p, const VkExtensionProperties *list,
                       uint32_t n)
{
    bool bfloat16 = has(list, n, needed[GB_VK_MATRIX_EXTENSIONS - 1]);
    gb_gpu_matrix *m = &p->matrix;
    *m = (gb_gpu_matrix){0};
    for (int i = 0; i < GB_VK_MATRIX_EXTENSIONS - 1; i++)
        if (!has(list, n, needed[i])) return;
    if (!p->storage16.storageBuffer16BitAccess || !features_are_there(in, p->handle, &bfloat16) ||
        !(m->subgroup = subgroup_of(in, p)))
        return;
    if (p->float16.shaderFloat16)
        choose_shape(in, p->handle, VK_COMPONENT_TYPE_FLOAT16_KHR, &m->f16);
    if (bfloat16) choose_shape(in, p->handle, VK_COMPONENT_TYPE_BFLOAT16_KHR, &m->bf16);
}

void *gb_vk_matrix_enable(const gb_vk_physical *p, void *next, const char **extension, uint32_t *n,
                          void *memory)
{
    features *f = memory;
    _Static_assert(sizeof *f <= GB_VK_MATRIX_BYTES, "the features fit");
    const bool bfloat16 = p->matrix.bf16.m;
    if (!p->matrix.f16.m && !bfloat16) return next;
    for (int i = 0; i < GB_VK_MATRIX_EXTENSIONS - !bfloat16; i++) extension[(*n)++] = needed[i];
    chain(f, bfloat16, next);
    f->matrix.cooperativeMatrix = VK_TRUE;
    f->size.subgroupSizeControl = f->size.computeFullSubgroups = VK_TRUE;
    f->model.vulkanMemoryModel = VK_TRUE;
    f->bfloat16.shaderBFloat16Type = f->bfloat16.shaderBFloat16CooperativeMatrix = VK_TRUE;
    return f;
}

/* --- does it work? --- */

static bool same_shape(const gb_gpu_units *a, const gb_gpu_units *b)
{
    return a->m == b->m && a->n == b->n && a->k == b->k;
}

void gb_vk_matrix_check(gb_backend_device *dev)
{
    const gb_device_info *info = &dev->physical.info;
    const gb_gpu_matrix *listed = &dev->physical.matrix;
    gb_gpu_matrix *matrix = &dev->caps.matrix, *known;
    if (!listed->f16.m && !listed->bf16.m) return;
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
        const bool same = size == sizeof *known && same_shape(&known->f16, &listed->f16) &&
                          same_shape(&known->bf16, &listed->bf16);
        if (same) *matrix = *known;
        free(data);
        if (same) return;
    }
    *matrix = *listed;
    gb_gpu_probe_matrix(&gb_vulkan_backend, dev, matrix);
    if (!dev->lost) gb_cache_store(dev->cache_dir, "vkmatrix", key, matrix, sizeof *matrix);
}
