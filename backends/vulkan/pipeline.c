#include "backends/vulkan/vk.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

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

static VkResult create_pipeline(gb_backend_device *dev, gb_vk_kernel *k, const gb_gpu_kernel *text,
                                const uint32_t *words, size_t bytes)
{
    VkSpecializationMapEntry entry[GB_GPU_MAX_CONSTANTS];
    for (uint32_t i = 0; i < (uint32_t)text->n_constants; i++)
        entry[i] = (VkSpecializationMapEntry){i, 4 * i, 4};
    const VkSpecializationInfo constants = {.mapEntryCount = (uint32_t)text->n_constants,
                                            .pMapEntries = entry,
                                            .dataSize = sizeof text->constant,
                                            .pData = text->constant};
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
        .requiredSubgroupSize = text->subgroup};
    VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = bytes, .pCode = words};
    VkShaderModule module;
    VkResult r = dev->vk.CreateShaderModule(dev->handle, &module_info, NULL, &module);
    if (r != VK_SUCCESS) return r;
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = text->subgroup ? &subgroup : NULL,
                  .flags = text->subgroup
                               ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT
                               : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = text->n_constants ? &constants : NULL},
        .flags = VK_PIPELINE_CREATE_DISPATCH_BASE_BIT, /* large launches go in portions */
        .layout = k->layout};
    r = dev->vk.CreateComputePipelines(dev->handle, dev->kernels.cache, 1, &info, NULL,
                                       &k->pipeline);
    dev->vk.DestroyShaderModule(dev->handle, module, NULL);
    return r;
}

static gb_status kernel_create(gb_backend_device *dev, gb_vk_kernel *k, const gb_gpu_kernel *text,
                               gb_error *err)
{
    uint32_t *compiled = NULL;
    size_t bytes = text->spirv_words * 4;
    gb_status status = GB_OK;
    if (!text->spirv)
        status =
            gb_vk_compile(&dev->kernels.compiler, text->name, text->source, &compiled, &bytes, err);
    if (status) return status;
    VkResult r = create_layout(dev, k);
    if (r == VK_SUCCESS)
        r = create_pipeline(dev, k, text, text->spirv ? text->spirv : compiled, bytes);
    free(compiled);
    return r == VK_SUCCESS ? GB_OK : gb_vk_fail(dev, r, "creating a pipeline", err);
}

/* --- many at once --- */

enum { MAX_THREADS = 8 };

typedef struct build {
    const gb_vk_wanted *wanted;
    gb_vk_kernel *kernel;
    gb_status status;
    gb_error err;
} build;

typedef struct builds {
    gb_backend_device *dev;
    build *item;
    int n;
    atomic_int next;
} builds;

static void *build_some(void *arg)
{
    builds *b = arg;
    for (int i; (i = atomic_fetch_add(&b->next, 1)) < b->n;) {
        build *k = &b->item[i];
        k->status = kernel_create(b->dev, k->kernel, k->wanted->text, &k->err);
    }
    return NULL;
}

static void build_all(builds *b)
{
    pthread_t thread[MAX_THREADS];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int n = 0;
    gb_vk_compiler_open(&b->dev->kernels.compiler);
    while (n < b->n - 1 && n < cores - 1 && n < MAX_THREADS &&
           pthread_create(&thread[n], NULL, build_some, b) == 0)
        n++;
    build_some(b);
    for (int i = 0; i < n; i++) pthread_join(thread[i], NULL);
}

static const gb_vk_kernel *find(const gb_vk_kernels *all, gb_hash key)
{
    for (int i = 0; i < all->n; i++)
        if (gb_hash_equal(all->item[i]->key, key)) return all->item[i];
    return NULL;
}

static bool reserve(gb_vk_kernels *all, int more)
{
    if (all->n + more <= all->cap) return true;
    int cap = 2 * (all->n + more);
    gb_vk_kernel **grown = realloc(all->item, sizeof *grown * (size_t)cap);
    if (!grown) return false;
    all->item = grown;
    all->cap = cap;
    return true;
}

/* Those that are right stay, whatever became of the others; the first failure is told. */
static gb_status keep(gb_backend_device *dev, builds *b, gb_error *err)
{
    gb_status status = GB_OK;
    for (int i = 0; i < b->n; i++) {
        build *k = &b->item[i];
        if (k->status) {
            if (!status && err) *err = k->err;
            status = status ? status : k->status;
            kernel_destroy(dev, k->kernel);
        } else {
            dev->kernels.item[dev->kernels.n++] = k->kernel;
            dev->kernels.cache_changed = true;
        }
    }
    return status;
}

gb_status gb_vk_kernels_get(gb_backend_device *dev, const gb_vk_wanted *wanted, int n,
                            const gb_vk_kernel **kernel, gb_error *err)
{
    gb_vk_kernels *all = &dev->kernels;
    builds b = {.dev = dev, .item = calloc((size_t)n + 1, sizeof *b.item)};
    gb_hash *key = calloc((size_t)n + 1, sizeof *key);
    bool memory = b.item && key && reserve(all, n);
    for (int i = 0; i < n && memory; i++) {
        key[i] = GB_HASH_INIT;
        gb_hash_text(&key[i], wanted[i].text->source);
        gb_hash_bytes(&key[i], wanted[i].text->constant, sizeof wanted[i].text->constant);
        if (find(all, key[i])) continue;
        gb_vk_kernel *k = calloc(1, sizeof *k);
        memory = k != NULL;
        if (!k) break;
        *k = (gb_vk_kernel){
            .key = key[i], .n_bindings = wanted[i].n_bindings, .push_bytes = wanted[i].push_bytes};
        b.item[b.n++] = (build){.wanted = &wanted[i], .kernel = k};
    }
    if (memory) build_all(&b);
    for (int i = 0; i < b.n && !memory; i++) b.item[i].status = GB_OUT_OF_MEMORY;
    gb_status status = keep(dev, &b, err);
    if (!memory) status = gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for kernels");
    for (int i = 0; i < n && !status; i++) kernel[i] = find(all, key[i]);
    free(b.item);
    free(key);
    return status;
}

gb_status gb_vk_kernel_get(gb_backend_device *dev, const char *name, const char *source,
                           int n_bindings, uint32_t push_bytes, const gb_vk_kernel **kernel,
                           gb_error *err)
{
    const gb_gpu_kernel text = {.name = name, .source = source};
    const gb_vk_wanted wanted = {&text, n_bindings, push_bytes};
    return gb_vk_kernels_get(dev, &wanted, 1, kernel, err);
}
