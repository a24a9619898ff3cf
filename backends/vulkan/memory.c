#include "backends/vulkan/vk.h"

#include <stdlib.h>
#include <string.h>

/* Small buffers share blocks, since drivers allow only some thousand allocations; a buffer of a
 * quarter block or more has an allocation of its own. */
#define BLOCK_BYTES ((uint64_t)32 << 20)
#define GRANULE                                                                                    \
    256u /* buffers are multiples of it, so kernels may read vectors across their end              \
          */

typedef struct range {
    uint64_t begin, end;
} range;

struct gb_vk_block {
    VkDeviceMemory memory;
    uint8_t *mapped;
    uint64_t size;
    gb_vk_place place;
    range *free; /* sorted, never adjacent */
    int n_free, cap;
    struct gb_vk_block *next;
};

static const VkBufferUsageFlags buffer_usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                               VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                               VK_BUFFER_USAGE_TRANSFER_DST_BIT;

static uint32_t heap_of(const gb_vk_memory *m, gb_vk_place place)
{
    return m->properties.memoryTypes[m->type[place]].heapIndex;
}

/* Bytes that are left in the heap of a place, as far as anyone knows. */
static uint64_t available(gb_backend_device *dev, gb_vk_place place)
{
    uint32_t heap = heap_of(&dev->memory, place);
    uint64_t size = dev->memory.properties.memoryHeaps[heap].size;
    uint64_t used = dev->memory.allocated[heap];
    if (dev->physical.memory_budget) {
        VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
        VkPhysicalDeviceMemoryProperties2 p = {
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &budget};
        dev->vk.GetPhysicalDeviceMemoryProperties2(dev->physical.handle, &p);
        size = budget.heapBudget[heap];
        if (budget.heapUsage[heap] > used) used = budget.heapUsage[heap];
    }
    return size > used ? size - used : 0;
}

static gb_status fail_memory(gb_backend_device *dev, gb_vk_place place, uint64_t bytes,
                             gb_error *err)
{
    return gb_fail(
        err, GB_OUT_OF_MEMORY, dev->physical.info.name, "make the batch or the model smaller",
        "a buffer of %.1f MiB does not fit: %.1f of %.1f MiB are available", bytes / 1048576.0,
        available(dev, place) / 1048576.0,
        dev->memory.properties.memoryHeaps[heap_of(&dev->memory, place)].size / 1048576.0);
}

/* The first type allowed by bits that has all of want; drivers list better types first. */
static bool find_type(const gb_vk_memory *m, uint32_t bits, VkMemoryPropertyFlags want,
                      uint32_t *type)
{
    for (uint32_t i = 0; i < m->properties.memoryTypeCount; i++) {
        if (!(bits & 1u << i) || (m->properties.memoryTypes[i].propertyFlags & want) != want)
            continue;
        *type = i;
        return true;
    }
    return false;
}

static bool choose_types(gb_backend_device *dev, uint32_t bits)
{
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                                visible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                          VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                                cached = visible | VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    gb_vk_memory *m = &dev->memory;
    bool shared = dev->physical.info.kind != GB_DEVICE_DISCRETE;
    m->direct = shared && find_type(m, bits, local | cached, &m->type[GB_VK_DEVICE]);
    return (m->direct || find_type(m, bits, local, &m->type[GB_VK_DEVICE]) ||
            find_type(m, bits, 0, &m->type[GB_VK_DEVICE])) &&
           find_type(m, bits, visible, &m->type[GB_VK_UPLOAD]) &&
           (find_type(m, bits, cached, &m->type[GB_VK_READBACK]) ||
            find_type(m, bits, visible, &m->type[GB_VK_READBACK]));
}

static VkResult create_handle(gb_backend_device *dev, uint64_t bytes, VkBuffer *handle,
                              VkMemoryRequirements *need)
{
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                               .size = bytes,
                               .usage = buffer_usage,
                               .sharingMode = VK_SHARING_MODE_EXCLUSIVE};
    VkResult r = dev->vk.CreateBuffer(dev->handle, &info, NULL, handle);
    if (r == VK_SUCCESS) dev->vk.GetBufferMemoryRequirements(dev->handle, *handle, need);
    return r;
}

gb_status gb_vk_memory_open(gb_backend_device *dev, gb_error *err)
{
    VkPhysicalDeviceMemoryProperties2 p = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    dev->vk.GetPhysicalDeviceMemoryProperties2(dev->physical.handle, &p);
    dev->memory.properties = p.memoryProperties;
    VkBuffer probe; /* the types allowed depend on usage alone, so one buffer speaks for all */
    VkMemoryRequirements need;
    VkResult r = create_handle(dev, GRANULE, &probe, &need);
    if (r != VK_SUCCESS) return gb_vk_fail(dev, r, "creating a buffer", err);
    dev->vk.DestroyBuffer(dev->handle, probe, NULL);
    if (choose_types(dev, need.memoryTypeBits)) return GB_OK;
    return gb_fail(err, GB_DEVICE, dev->physical.info.name, "update its driver",
                   "the driver offers no memory that the host can write");
}

static bool block_own(const gb_vk_block *b)
{
    return b->size != BLOCK_BYTES;
}

static void block_destroy(gb_backend_device *dev, gb_vk_block *b)
{
    gb_vk_memory *m = &dev->memory;
    gb_vk_block **at = &m->blocks;
    while (*at && *at != b) at = &(*at)->next;
    if (*at) *at = b->next;
    if (b->memory) {
        dev->vk.FreeMemory(dev->handle, b->memory, NULL); /* unmaps */
        m->allocated[heap_of(m, b->place)] -= b->size;
        m->allocations--;
    }
    free(b->free);
    free(b);
}

void gb_vk_memory_close(gb_backend_device *dev)
{
    while (dev->memory.blocks) block_destroy(dev, dev->memory.blocks);
}

static VkResult block_allocate(gb_backend_device *dev, gb_vk_block *b)
{
    gb_vk_memory *m = &dev->memory;
    if (m->allocations >= dev->physical.limits.maxMemoryAllocationCount ||
        b->size > available(dev, b->place))
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .allocationSize = b->size,
                                 .memoryTypeIndex = m->type[b->place]};
    VkResult r = dev->vk.AllocateMemory(dev->handle, &info, NULL, &b->memory);
    if (r != VK_SUCCESS) {
        b->memory = VK_NULL_HANDLE;
        return r;
    }
    m->allocated[heap_of(m, b->place)] += b->size;
    m->allocations++;
    if (b->place == GB_VK_DEVICE && !m->direct) return VK_SUCCESS;
    void *mapped;
    r = dev->vk.MapMemory(dev->handle, b->memory, 0, VK_WHOLE_SIZE, 0, &mapped);
    b->mapped = r == VK_SUCCESS ? mapped : NULL;
    return r;
}

static VkResult block_create(gb_backend_device *dev, gb_vk_place place, uint64_t size,
                             gb_vk_block **block)
{
    gb_vk_block *b = calloc(1, sizeof *b);
    range *free_list = malloc(sizeof *free_list * 8);
    if (!b || !free_list) {
        free(b);
        free(free_list);
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    *b = (gb_vk_block){.size = size, .place = place, .free = free_list, .n_free = 1, .cap = 8};
    b->free[0] = (range){0, size};
    VkResult r = block_allocate(dev, b);
    if (r != VK_SUCCESS) {
        block_destroy(dev, b);
        return r;
    }
    b->next = dev->memory.blocks;
    dev->memory.blocks = b;
    *block = b;
    return VK_SUCCESS;
}

/* First fit. Keeps room in the list for one more range, so that giving back cannot fail. */
static bool block_take(gb_vk_block *b, uint64_t size, uint64_t align, uint64_t *offset)
{
    if (b->n_free + 2 > b->cap) {
        range *grown = realloc(b->free, sizeof *grown * (size_t)b->cap * 2);
        if (!grown) return false;
        b->free = grown;
        b->cap *= 2;
    }
    for (int i = 0; i < b->n_free; i++) {
        range f = b->free[i];
        uint64_t begin = (f.begin + align - 1) / align * align;
        if (begin > f.end || f.end - begin < size) continue;
        range rest[2] = {{f.begin, begin}, {begin + size, f.end}};
        int n = 0;
        for (int k = 0; k < 2; k++)
            if (rest[k].begin < rest[k].end) rest[n++] = rest[k];
        memmove(b->free + i + n, b->free + i + 1, sizeof *b->free * (size_t)(b->n_free - i - 1));
        memcpy(b->free + i, rest, sizeof *rest * (size_t)n);
        b->n_free += n - 1;
        *offset = begin;
        return true;
    }
    return false;
}

static void block_give(gb_vk_block *b, uint64_t offset, uint64_t size)
{
    int i = 0;
    while (i < b->n_free && b->free[i].begin < offset) i++;
    bool left = i > 0 && b->free[i - 1].end == offset;
    bool right = i < b->n_free && b->free[i].begin == offset + size;
    if (left && right) {
        b->free[i - 1].end = b->free[i].end;
        b->n_free--;
        memmove(b->free + i, b->free + i + 1, sizeof *b->free * (size_t)(b->n_free - i));
    } else if (left) {
        b->free[i - 1].end += size;
    } else if (right) {
        b->free[i].begin = offset;
    } else {
        memmove(b->free + i + 1, b->free + i, sizeof *b->free * (size_t)(b->n_free - i));
        b->free[i] = (range){offset, offset + size};
        b->n_free++;
    }
}

static VkResult take_memory(gb_backend_device *dev, gb_vk_place place, VkMemoryRequirements need,
                            gb_backend_buffer *buf)
{
    bool own = need.size >= BLOCK_BYTES / 4;
    for (gb_vk_block *b = dev->memory.blocks; b && !own; b = b->next) {
        if (b->place != place || block_own(b)) continue;
        if (!block_take(b, need.size, need.alignment, &buf->offset)) continue;
        buf->block = b;
        return VK_SUCCESS;
    }
    gb_vk_block *b;
    VkResult r = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (!own) r = block_create(dev, place, BLOCK_BYTES, &b);
    if (r != VK_SUCCESS) r = block_create(dev, place, need.size, &b);
    if (r != VK_SUCCESS) return r;
    if (!block_take(b, need.size, need.alignment, &buf->offset)) return VK_ERROR_OUT_OF_HOST_MEMORY;
    buf->block = b;
    return VK_SUCCESS;
}

gb_status gb_vk_buffer_create(gb_backend_device *dev, gb_vk_place place, uint64_t bytes,
                              gb_backend_buffer **out, gb_error *err)
{
    gb_backend_buffer *buf = calloc(1, sizeof *buf);
    if (!buf) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no host memory for a buffer");
    VkMemoryRequirements need = {0};
    VkResult r = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (bytes <= available(dev, place))
        r = create_handle(dev, (bytes + GRANULE - 1) / GRANULE * GRANULE, &buf->handle, &need);
    if (r == VK_SUCCESS) r = take_memory(dev, place, need, buf);
    if (r == VK_SUCCESS) {
        buf->size = need.size;
        buf->bytes = bytes;
        buf->mapped = buf->block->mapped ? buf->block->mapped + buf->offset : NULL;
        r = dev->vk.BindBufferMemory(dev->handle, buf->handle, buf->block->memory, buf->offset);
    }
    if (r == VK_SUCCESS) {
        *out = buf;
        return GB_OK;
    }
    gb_vk_buffer_free(dev, buf);
    if (r == VK_ERROR_OUT_OF_DEVICE_MEMORY) return fail_memory(dev, place, bytes, err);
    return gb_vk_fail(dev, r, "creating a buffer", err);
}

void gb_vk_buffer_free(gb_backend_device *dev, gb_backend_buffer *buf)
{
    if (!buf) return;
    if (buf->handle) dev->vk.DestroyBuffer(dev->handle, buf->handle, NULL);
    if (buf->size) {
        block_give(buf->block, buf->offset, buf->size);
        bool empty = buf->block->n_free == 1 && buf->block->free[0].end == buf->block->size &&
                     buf->block->free[0].begin == 0;
        if (empty) block_destroy(dev, buf->block);
    }
    free(buf);
}
