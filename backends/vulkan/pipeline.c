#include "backends/vulkan/vk.h"

#include <stdlib.h>

static const char cache_kind[] = "vkpipelines";

gb_status gb_vk_kernels_open(gb_backend_device *dev, gb_error *err)
{
    const gb_device_info *info = &dev->physical.info;
    gb_vk_kernels *k = &dev->kernels;
    k->compiler.cache_dir = dev->cache_dir;
    k->cache_key = GB_HASH_INIT;
    gb_hash_text(&k->cache_key, info->name);
    gb_hash_text(&k->cache_key, info->driver);
    gb_hash_text(&k->cache_key, info->version);
    gb_hash_bytes(&k->cache_key, info->uuid, sizeof info->uuid);
    void *data = NULL;
    size_t size = 0;
    if (!gb_cache_load(dev->cache_dir, cache_kind, k->cache_key, &data, &size)) size = 0;
    VkPipelineCacheCreateInfo create = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                        .initialDataSize = size,
                                        .pInitialData = size ? data : NULL};
    VkResult r = dev->vk.CreatePipelineCache(dev->handle, &create, NULL, &k->cache);
    free(data);
    return r == VK_SUCCESS ? GB_OK : gb_vk_fail(dev, r, "creating a pipeline cache", err);
}

void gb_vk_kernels_save(gb_backend_device *dev)
{
    gb_vk_kernels *k = &dev->kernels;
    if (!k->cache_changed || !dev->cache_dir) return;
    k->cache_changed = false;
    size_t size = 0;
    if (dev->vk.GetPipelineCacheData(dev->handle, k->cache, &size, NULL) != VK_SUCCESS) return;
    void *data = size ? malloc(size) : NULL;
    if (data && dev->vk.GetPipelineCacheData(dev->handle, k->cache, &size, data) == VK_SUCCESS)
        gb_cache_store(dev->cache_dir, cache_kind, k->cache_key, data, size);
    free(data);
}

static void kernel_destroy(gb_backend_device *dev, gb_vk_kernel *k)
{
    if (!k) return;
    if (k->pipeline) dev->vk.DestroyPipeline(dev->handle, k->pipeline, NULL);
    if (k->layout) dev->vk.DestroyPipelineLayout(dev->handle, k->layout, NULL);
    if (k->set_layout) dev->vk.DestroyDescriptorSetLayout(dev->handle, k->set_layout, NULL);
    free(k);
}

void gb_vk_kernels_close(gb_backend_device *dev)
{
    gb_vk_kernels *k = &dev->kernels;
    for (int i = 0; i < k->n; i++) kernel_destroy(dev, k->item[i]);
    free(k->item);
    gb_vk_compiler_close(&k->compiler);
    if (k->cache) dev->vk.DestroyPipelineCache(dev->handle, k->cache, NULL);
}

static VkResult create_layout(gb_backend_device *dev, gb_vk_kernel *k)
{
    VkDescriptorSetLayoutBinding binding[GB_GPU_MAX_BINDINGS + 1];
    for (int i = 0; i < k->n_bindings; i++)
        binding[i] =
            (VkDescriptorSetLayoutBinding){.binding = (uint32_t)i,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .descriptorCount = 1,
                                           .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    VkDescriptorSetLayoutCreateInfo set = {.sType =
                                               VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                           .bindingCount = (uint32_t)k->n_bindings,
                                           .pBindings = binding};
    VkResult r = dev->vk.CreateDescriptorSetLayout(dev->handle, &set, NULL, &k->set_layout);
    if (r != VK_SUCCESS) return r;
    VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = k->push_bytes};
    VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                         .setLayoutCount = 1,
                                         .pSetLayouts = &k->set_layout,
                                         .pushConstantRangeCount = k->push_bytes ? 1 : 0,
                                         .pPushConstantRanges = &push};
    return dev->vk.CreatePipelineLayout(dev->handle, &layout, NULL, &k->layout);
}

static VkResult create_pipeline(gb_backend_device *dev, gb_vk_kernel *k, const uint32_t *words,
                                size_t bytes)
{
    VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = bytes, .pCode = words};
    VkShaderModule module;
    VkResult r = dev->vk.CreateShaderModule(dev->handle, &module_info, NULL, &module);
    if (r != VK_SUCCESS) return r;
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main"},
        .layout = k->layout};
    r = dev->vk.CreateComputePipelines(dev->handle, dev->kernels.cache, 1, &info, NULL,
                                       &k->pipeline);
    dev->vk.DestroyShaderModule(dev->handle, module, NULL);
    if (r == VK_SUCCESS) dev->kernels.cache_changed = true;
    return r;
}

static gb_status kernel_create(gb_backend_device *dev, gb_vk_kernel *k, const char *name,
                               const char *source, gb_error *err)
{
    uint32_t *words;
    size_t bytes;
    gb_status status = gb_vk_compile(&dev->kernels.compiler, name, source, &words, &bytes, err);
    if (status) return status;
    VkResult r = create_layout(dev, k);
    if (r == VK_SUCCESS) r = create_pipeline(dev, k, words, bytes);
    free(words);
    return r == VK_SUCCESS ? GB_OK : gb_vk_fail(dev, r, "creating a pipeline", err);
}

gb_status gb_vk_kernel_get(gb_backend_device *dev, const char *name, const char *source,
                           int n_bindings, uint32_t push_bytes, const gb_vk_kernel **kernel,
                           gb_error *err)
{
    gb_vk_kernels *all = &dev->kernels;
    gb_hash key = GB_HASH_INIT;
    gb_hash_text(&key, source);
    for (int i = 0; i < all->n; i++) {
        *kernel = all->item[i];
        if (gb_hash_equal((*kernel)->key, key)) return GB_OK;
    }
    if (all->n == all->cap) {
        int cap = all->cap ? all->cap * 2 : 32;
        gb_vk_kernel **grown = realloc(all->item, sizeof *grown * (size_t)cap);
        if (!grown) return gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory for a kernel");
        all->item = grown;
        all->cap = cap;
    }
    gb_vk_kernel *k = calloc(1, sizeof *k);
    if (!k) return gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory for a kernel");
    k->key = key;
    k->n_bindings = n_bindings;
    k->push_bytes = push_bytes;
    gb_status status = kernel_create(dev, k, name, source, err);
    if (status) {
        kernel_destroy(dev, k);
        return status;
    }
    all->item[all->n++] = k;
    *kernel = k;
    return GB_OK;
}
