#include "backends/vulkan/vk.h"

#include <string.h>

#define STAGING_BYTES ((uint64_t)4 << 20)

static gb_status slot_open(gb_backend_device *dev, gb_vk_slot *s, gb_error *err)
{
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = dev->queue.pool,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = 1};
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    VkResult r = dev->vk.AllocateCommandBuffers(dev->handle, &info, &s->copies);
    if (r == VK_SUCCESS) r = dev->vk.CreateFence(dev->handle, &fence, NULL, &s->fence);
    return r == VK_SUCCESS ? GB_OK : gb_vk_fail(dev, r, "creating a command buffer", err);
}

gb_status gb_vk_queue_open(gb_backend_device *dev, gb_error *err)
{
    dev->vk.GetDeviceQueue(dev->handle, dev->physical.family, 0, &dev->queue.handle);
    VkCommandPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                    .queueFamilyIndex = dev->physical.family};
    VkResult r = dev->vk.CreateCommandPool(dev->handle, &info, NULL, &dev->queue.pool);
    if (r != VK_SUCCESS) return gb_vk_fail(dev, r, "creating a command pool", err);
    for (int i = 0; i < GB_VK_SLOTS; i++) {
        gb_status s = slot_open(dev, &dev->queue.slot[i], err);
        if (s) return s;
    }
    return GB_OK;
}

void gb_vk_queue_close(gb_backend_device *dev)
{
    gb_vk_queue *q = &dev->queue;
    for (int i = 0; i < GB_VK_SLOTS; i++) {
        if (q->slot[i].fence) dev->vk.DestroyFence(dev->handle, q->slot[i].fence, NULL);
        gb_vk_buffer_free(dev, q->slot[i].staging);
    }
    gb_vk_buffer_free(dev, q->readback);
    if (q->pool) dev->vk.DestroyCommandPool(dev->handle, q->pool, NULL);
}

void gb_vk_full_barrier(gb_backend_device *dev, VkCommandBuffer commands)
{
    const VkPipelineStageFlags stages =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    const VkAccessFlags writes = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = writes,
                               .dstAccessMask = writes | VK_ACCESS_SHADER_READ_BIT |
                                                VK_ACCESS_TRANSFER_READ_BIT |
                                                VK_ACCESS_HOST_READ_BIT};
    dev->vk.CmdPipelineBarrier(commands, stages, stages | VK_PIPELINE_STAGE_HOST_BIT, 0, 1,
                               &barrier, 0, NULL, 0, NULL);
}

/* Waits until the submission that holds the slot is done. */
static gb_status slot_wait(gb_backend_device *dev, gb_vk_slot *s, gb_error *err)
{
    if (!s->pending) return GB_OK;
    VkResult r = dev->vk.WaitForFences(dev->handle, 1, &s->fence, VK_TRUE, UINT64_MAX);
    if (r == VK_SUCCESS) r = dev->vk.ResetFences(dev->handle, 1, &s->fence);
    if (r != VK_SUCCESS) return gb_vk_fail(dev, r, "waiting for the device", err);
    s->pending = false;
    return GB_OK;
}

/* The slot that copies are recorded into, ready to record. */
static gb_status slot_record(gb_backend_device *dev, gb_vk_slot **slot, gb_error *err)
{
    gb_vk_slot *s = *slot = &dev->queue.slot[dev->queue.current];
    if (s->recording) return GB_OK;
    gb_status status = slot_wait(dev, s, err);
    if (status) return status;
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                      .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    VkResult r = dev->vk.BeginCommandBuffer(s->copies, &begin);
    if (r != VK_SUCCESS) return gb_vk_fail(dev, r, "recording copies", err);
    s->recording = true;
    s->used = 0;
    gb_vk_full_barrier(dev, s->copies);
    return GB_OK;
}

gb_status gb_vk_submit(gb_backend_device *dev, const VkCommandBuffer *commands, int n,
                       gb_error *err)
{
    gb_vk_slot *s = &dev->queue.slot[dev->queue.current];
    gb_status status = slot_wait(dev, s, err);
    if (status) return status;
    VkCommandBuffer list[2];
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .pCommandBuffers = list};
    VkResult r = VK_SUCCESS;
    if (s->recording) {
        s->recording = false;
        r = dev->vk.EndCommandBuffer(s->copies);
        list[info.commandBufferCount++] = s->copies;
    } else if (!n) {
        return GB_OK;
    }
    for (int i = 0; r == VK_SUCCESS && i < (n ? n : 1); i++) {
        if (n) list[info.commandBufferCount++] = commands[i];
        VkFence fence = i >= n - 1 ? s->fence : VK_NULL_HANDLE; /* signals for all before it */
        r = dev->vk.QueueSubmit(dev->queue.handle, 1, &info, fence);
        info.commandBufferCount = 0;
    }
    if (r != VK_SUCCESS) {
        dev->vk.QueueWaitIdle(dev->queue.handle); /* parts without a fence may be under way */
        return gb_vk_fail(dev, r, "submitting work", err);
    }
    s->pending = true;
    dev->queue.current = (dev->queue.current + 1) % GB_VK_SLOTS;
    return GB_OK;
}

gb_status gb_vk_wait(gb_backend_device *dev, gb_error *err)
{
    gb_status status = gb_vk_submit(dev, NULL, 0, err);
    for (int i = 0; i < GB_VK_SLOTS && !status; i++)
        status = slot_wait(dev, &dev->queue.slot[i], err);
    return status;
}

/* Nothing recorded and nothing in flight, without waiting. */
static bool idle(gb_backend_device *dev)
{
    for (int i = 0; i < GB_VK_SLOTS; i++) {
        const gb_vk_slot *s = &dev->queue.slot[i];
        if (s->recording) return false;
        if (s->pending && dev->vk.GetFenceStatus(dev->handle, s->fence) != VK_SUCCESS) return false;
    }
    return true;
}

static void record_copy(gb_backend_device *dev, VkCommandBuffer commands, VkBuffer from,
                        uint64_t from_offset, VkBuffer to, uint64_t to_offset, uint64_t bytes)
{
    VkBufferCopy copy = {from_offset, to_offset, bytes};
    dev->vk.CmdCopyBuffer(commands, from, to, 1, &copy);
    gb_vk_full_barrier(dev, commands);
}

static gb_status write_staged(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                              uint64_t bytes, const uint8_t *src, gb_error *err)
{
    while (bytes) {
        gb_vk_slot *s;
        gb_status status = slot_record(dev, &s, err);
        if (!status && !s->staging)
            status = gb_vk_buffer_create(dev, GB_VK_UPLOAD, STAGING_BYTES, &s->staging, err);
        if (!status && s->used == STAGING_BYTES) {
            status = gb_vk_submit(dev, NULL, 0, err);
            if (!status) continue;
        }
        if (status) return status;
        uint64_t part = STAGING_BYTES - s->used < bytes ? STAGING_BYTES - s->used : bytes;
        memcpy(s->staging->mapped + s->used, src, part);
        record_copy(dev, s->copies, s->staging->handle, s->used, buf->handle, offset, part);
        s->used += part;
        src += part;
        offset += part;
        bytes -= part;
    }
    return GB_OK;
}

gb_status gb_vk_write(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                      uint64_t bytes, const void *src, gb_error *err)
{
    /* In place only when nothing is under way; else a copy is queued, so that the host can prepare
     * the next step while this one runs. Large ones would only move the wait. */
    if (!dev->memory.direct || (bytes <= STAGING_BYTES && !idle(dev)))
        return write_staged(dev, buf, offset, bytes, src, err);
    gb_status status = gb_vk_wait(dev, err);
    if (!status) memcpy(buf->mapped + offset, src, bytes);
    return status;
}

gb_status gb_vk_read(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                     uint64_t bytes, void *dst, gb_error *err)
{
    gb_status status = GB_OK;
    if (dev->memory.direct) {
        status = gb_vk_wait(dev, err);
        if (!status) memcpy(dst, buf->mapped + offset, bytes);
        return status;
    }
    gb_vk_queue *q = &dev->queue;
    if (!q->readback)
        status = gb_vk_buffer_create(dev, GB_VK_READBACK, STAGING_BYTES, &q->readback, err);
    for (uint64_t done = 0; done < bytes && !status;) {
        uint64_t part = bytes - done < STAGING_BYTES ? bytes - done : STAGING_BYTES;
        gb_vk_slot *s;
        status = slot_record(dev, &s, err);
        if (status) break;
        record_copy(dev, s->copies, buf->handle, offset + done, q->readback->handle, 0, part);
        status = gb_vk_wait(dev, err);
        if (status) break;
        memcpy((uint8_t *)dst + done, q->readback->mapped, part);
        done += part;
    }
    return status;
}
