#include "backends/vulkan/program.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/vulkan/hazards.h"

/* A program goes to the driver in parts of about this much work, since jobs that run for seconds
 * trip watchdogs; a part takes some milliseconds on a GPU. */
#define PART_WORK 2e10
#define WORK_PER_BYTE 10 /* a byte moved, in operations */
#define BIND_GRANULE 16u /* kernels read whole vectors; buffers are padded to more than that */

typedef struct portion { /* work-groups of a launch */
    int launch;
    uint32_t base[3], groups[3];
} portion;

struct gb_backend_program {
    gb_backend_device *dev;
    gb_gpu_program *gpu;
    const gb_vk_kernel **kernel; /* by number in gpu */
    gb_backend_buffer *params;   /* of all launches that do not take theirs as push constants */
    uint64_t *params_at;         /* by launch */
    int n_steps, n_buffers;
    gb_backend_buffer **buffer; /* as bound last; NULL before */
    VkDescriptorPool pool;
    VkDescriptorSet *set; /* by launch */
    int n_portions;       /* of launches: one each, but for those too large for one job */
    portion *portion;
    int n_parts;
    int *part;                 /* the first portion of each, and n_portions at the end */
    VkCommandBuffer *commands; /* by part */
    int once_portions, once_parts; /* the first ones: of launches that run once */
    bool ready;                    /* what these make is there */
};

/* --- making --- */

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static gb_status no_memory(gb_error *err)
{
    return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no host memory for a Vulkan program");
}

static gb_status get_kernels(gb_backend_program *p, gb_error *err)
{
    const gb_gpu_program *g = p->gpu;
    gb_vk_wanted *wanted = calloc((size_t)g->n_kernels + 1, sizeof *wanted);
    if (!wanted) return no_memory(err);
    for (int i = 0; i < g->n_kernels; i++) {
        const gb_gpu_kernel *k = &g->kernel[i];
        wanted[i] = (gb_vk_wanted){.text = k,
                                   .n_bindings = k->n_bindings + k->params_buffer,
                                   .push_bytes = k->params_buffer ? 0 : 4u * (uint32_t)k->n_params};
    }
    gb_status status = gb_vk_kernels_get(p->dev, wanted, g->n_kernels, p->kernel, err);
    free(wanted);
    gb_vk_kernels_save(p->dev);
    return status;
}

/* Parameters are constants of the program, so one buffer is filled once. */
static gb_status fill_params(gb_backend_program *p, gb_error *err)
{
    const gb_gpu_program *g = p->gpu;
    uint64_t total = 0;
    for (int i = 0; i < g->n_launches; i++) {
        const gb_gpu_kernel *k = &g->kernel[g->launch[i].kernel];
        if (!k->params_buffer) continue;
        p->params_at[i] = total;
        total = round_up(total + 4u * (uint64_t)k->n_params, p->dev->caps.binding_align);
    }
    if (!total) return GB_OK;
    uint8_t *data = calloc(1, total);
    if (!data) return no_memory(err);
    for (int i = 0; i < g->n_launches; i++) {
        const gb_gpu_kernel *k = &g->kernel[g->launch[i].kernel];
        if (k->params_buffer)
            memcpy(data + p->params_at[i], g->launch[i].params, 4u * (size_t)k->n_params);
    }
    gb_status status = gb_vk_buffer_create(p->dev, GB_VK_DEVICE, total, &p->params, err);
    if (!status) status = gb_vk_write(p->dev, p->params, 0, total, data, err);
    free(data);
    return status;
}

/* One pool with exactly the sets of all launches. */
static gb_status allocate_sets(gb_backend_program *p, gb_error *err)
{
    const gb_gpu_program *g = p->gpu;
    if (!g->n_launches) return GB_OK;
    uint32_t bindings = 0;
    for (int i = 0; i < g->n_launches; i++)
        bindings += (uint32_t)p->kernel[g->launch[i].kernel]->n_bindings;
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, bindings ? bindings : 1};
    VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = (uint32_t)g->n_launches,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    gb_backend_device *dev = p->dev;
    VkResult r = dev->vk.CreateDescriptorPool(dev->handle, &info, NULL, &p->pool);
    for (int i = 0; i < g->n_launches && r == VK_SUCCESS; i++) {
        VkDescriptorSetAllocateInfo set = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                           .descriptorPool = p->pool,
                                           .descriptorSetCount = 1,
                                           .pSetLayouts =
                                               &p->kernel[g->launch[i].kernel]->set_layout};
        r = dev->vk.AllocateDescriptorSets(dev->handle, &set, &p->set[i]);
    }
    return r == VK_SUCCESS ? GB_OK : gb_vk_fail(dev, r, "creating descriptor sets", err);
}

static gb_status create_commands(gb_backend_device *dev, VkCommandBuffer *commands, int n,
                                 gb_error *err)
{
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = dev->queue.pool,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = (uint32_t)n};
    VkResult r = dev->vk.AllocateCommandBuffers(dev->handle, &info, commands);
    return r == VK_SUCCESS ? GB_OK : gb_vk_fail(dev, r, "creating a command buffer", err);
}

/* What a launch does: its part of the step, which knows no better. */
static double work_of(const gb_gpu_program *g, const gb_plan *plan, int launch)
{
    const gb_step *s = &plan->step[g->launch[launch].step];
    int same = 0;
    for (int i = launch; i >= 0 && g->launch[i].step == g->launch[launch].step; i--) same++;
    for (int i = launch + 1; i < g->n_launches && g->launch[i].step == g->launch[launch].step; i++)
        same++;
    return (s->flops + WORK_PER_BYTE * s->bytes) / same;
}

/* Into how many portions a launch goes, along its longest axis. */
static uint32_t portions_of(const gb_gpu_launch *l, double work, int *axis)
{
    *axis = 0;
    for (int d = 1; d < 3; d++)
        if (l->groups[d] > l->groups[*axis]) *axis = d;
    double want = work / PART_WORK;
    return want <= 1 ? 1 : want >= l->groups[*axis] ? l->groups[*axis] : (uint32_t)want;
}

static void add_portions(gb_backend_program *p, int launch, double work)
{
    const gb_gpu_launch *l = &p->gpu->launch[launch];
    int axis;
    const uint32_t n = portions_of(l, work, &axis), total = l->groups[axis];
    for (uint32_t i = 0; i < n; i++) {
        portion *q = &p->portion[p->n_portions++];
        const uint32_t first = (uint32_t)((uint64_t)total * i / n);
        *q = (portion){.launch = launch};
        memcpy(q->groups, l->groups, sizeof q->groups);
        q->base[axis] = first;
        q->groups[axis] = (uint32_t)((uint64_t)total * (i + 1) / n) - first;
    }
}

/* Cuts the launches into portions and those into parts. */
static gb_status divide(gb_backend_program *p, const gb_plan *plan, gb_error *err)
{
    const gb_gpu_program *g = p->gpu;
    size_t most = 0;
    int axis;
    for (int i = 0; i < g->n_launches; i++)
        most += portions_of(&g->launch[i], work_of(g, plan, i), &axis);
    p->portion = malloc(sizeof *p->portion * (most + 1));
    p->part = malloc(sizeof *p->part * (most + 2));
    if (!p->portion || !p->part) return no_memory(err);
    p->part[p->n_parts++] = 0;
    double work = 0;
    for (int i = 0; i < g->n_launches; i++) {
        const int first = p->n_portions;
        const double more = work_of(g, plan, i);
        add_portions(p, i, more);
        for (int k = first; k < p->n_portions; k++) {
            if (k > 0 && (work >= PART_WORK || (i == g->n_once && k == first))) {
                p->part[p->n_parts++] = k;
                work = 0;
            }
            work += more / (p->n_portions - first);
        }
        if (i + 1 == g->n_once) p->once_portions = p->n_portions, p->once_parts = p->n_parts;
    }
    p->part[p->n_parts] = p->n_portions;
    p->commands = calloc((size_t)p->n_parts, sizeof *p->commands);
    return p->commands ? create_commands(p->dev, p->commands, p->n_parts, err) : no_memory(err);
}

static gb_status create_parts(gb_backend_program *p, const gb_plan *plan, gb_error *err)
{
    p->n_steps = plan->n_steps;
    p->n_buffers = plan->n_buffers;
    p->kernel = calloc((size_t)p->gpu->n_kernels + 1, sizeof *p->kernel);
    p->params_at = calloc((size_t)p->gpu->n_launches + 1, sizeof *p->params_at);
    p->set = calloc((size_t)p->gpu->n_launches + 1, sizeof *p->set);
    if (!p->kernel || !p->params_at || !p->set) return no_memory(err);
    gb_status status = get_kernels(p, err);
    if (!status) status = fill_params(p, err);
    if (!status) status = allocate_sets(p, err);
    if (!status) status = divide(p, plan, err);
    return status;
}

gb_status gb_vk_program_from(gb_backend_device *dev, gb_gpu_program *gpu, const gb_plan *plan,
                             gb_backend_program **prog, gb_error *err)
{
    gb_backend_program *p = calloc(1, sizeof *p);
    if (!p) {
        gb_gpu_program_destroy(&gpu);
        return no_memory(err);
    }
    p->dev = dev;
    p->gpu = gpu;
    gb_status status = create_parts(p, plan, err);
    if (status)
        gb_vk_program_destroy(p);
    else
        *prog = p;
    return status;
}

gb_status gb_vk_program_create(gb_backend_device *dev, const gb_plan *plan,
                               gb_backend_program **prog, gb_error *err)
{
    gb_gpu_program *gpu;
    gb_status status = gb_gpu_program_create(&dev->caps, plan, &gpu, err);
    return status ? status : gb_vk_program_from(dev, gpu, plan, prog, err);
}

void gb_vk_program_destroy(gb_backend_program *p)
{
    if (!p) return;
    gb_backend_device *dev = p->dev;
    gb_vk_wait(dev, NULL);
    if (p->commands)
        dev->vk.FreeCommandBuffers(dev->handle, dev->queue.pool, (uint32_t)p->n_parts, p->commands);
    if (p->pool) dev->vk.DestroyDescriptorPool(dev->handle, p->pool, NULL);
    gb_vk_buffer_free(dev, p->params);
    gb_gpu_program_destroy(&p->gpu);
    free(p->kernel);
    free(p->params_at);
    free(p->set);
    free(p->portion);
    free(p->part);
    free(p->commands);
    free(p->buffer);
    free(p);
}

int gb_vk_program_kernels(const gb_backend_program *p)
{
    return p->gpu->n_kernels;
}

gb_backend_device *gb_vk_program_device(const gb_backend_program *p)
{
    return p->dev;
}

/* --- recording --- */

static VkDescriptorBufferInfo window(const gb_backend_program *p, const gb_gpu_binding *b)
{
    const gb_backend_buffer *buf = p->buffer[b->buffer];
    uint64_t begin = gb_gpu_bind_offset(&p->dev->caps, b);
    uint64_t end = round_up(b->offset + b->bytes, BIND_GRANULE);
    return (VkDescriptorBufferInfo){buf->handle, begin, end - begin};
}

static void write_set(gb_backend_program *p, int launch)
{
    const gb_gpu_launch *l = &p->gpu->launch[launch];
    const gb_gpu_kernel *k = &p->gpu->kernel[l->kernel];
    VkDescriptorBufferInfo info[GB_GPU_MAX_BINDINGS + 1];
    int n = 0;
    for (; n < k->n_bindings; n++) info[n] = window(p, &l->binding[n]);
    if (k->params_buffer)
        info[n++] = (VkDescriptorBufferInfo){p->params->handle, p->params_at[launch],
                                             4u * (uint64_t)k->n_params};
    if (!n) return;
    VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                  .dstSet = p->set[launch],
                                  .descriptorCount = (uint32_t)n, /* runs on over the bindings */
                                  .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                  .pBufferInfo = info};
    p->dev->vk.UpdateDescriptorSets(p->dev->handle, 1, &write, 0, NULL);
}

static bool hazards_add(const gb_backend_program *p, gb_vk_hazards *h, const gb_gpu_launch *l,
                        bool *barrier)
{
    gb_vk_access access[GB_GPU_MAX_BINDINGS];
    int n = p->gpu->kernel[l->kernel].n_bindings;
    for (int i = 0; i < n; i++) {
        VkDescriptorBufferInfo w = window(p, &l->binding[i]);
        access[i] = (gb_vk_access){p->buffer[l->binding[i].buffer], w.offset, w.offset + w.range,
                                   l->binding[i].write};
    }
    return gb_vk_hazards_add(h, access, n, barrier);
}

static void record_portion(const gb_backend_program *p, VkCommandBuffer commands, const portion *q)
{
    const gb_vk_api *vk = &p->dev->vk;
    const gb_gpu_launch *l = &p->gpu->launch[q->launch];
    const gb_vk_kernel *k = p->kernel[l->kernel];
    vk->CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, k->pipeline);
    vk->CmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, k->layout, 0, 1,
                              &p->set[q->launch], 0, NULL);
    if (k->push_bytes)
        vk->CmdPushConstants(commands, k->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, k->push_bytes,
                             l->params);
    vk->CmdDispatchBase(commands, q->base[0], q->base[1], q->base[2], q->groups[0], q->groups[1],
                        q->groups[2]);
}

static gb_status begin(gb_backend_device *dev, VkCommandBuffer commands, VkFlags usage,
                       gb_error *err)
{
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                     .flags = usage};
    VkResult r = dev->vk.BeginCommandBuffer(commands, &info);
    if (r != VK_SUCCESS) return gb_vk_fail(dev, r, "recording a program", err);
    gb_vk_full_barrier(dev, commands);
    return GB_OK;
}

static gb_status end(gb_backend_device *dev, VkCommandBuffer commands, gb_error *err)
{
    VkResult r = dev->vk.EndCommandBuffer(commands);
    return r == VK_SUCCESS ? GB_OK : gb_vk_fail(dev, r, "recording a program", err);
}

/* Portions first … last - 1, with a barrier only where one touches what an earlier one wrote, or
 * writes what it read. */
static gb_status record_part(gb_backend_program *p, VkCommandBuffer commands, int first, int last,
                             gb_vk_hazards *hazards, gb_error *err)
{
    const VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                     .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
                                     .dstAccessMask =
                                         VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT};
    const VkPipelineStageFlags compute = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    gb_status status = begin(p->dev, commands, VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT, err);
    if (status) return status;
    hazards->n = 0;
    for (int i = first; i < last; i++) {
        const portion *q = &p->portion[i];
        const bool again = i > first && q[-1].launch == q->launch; /* portions do not meet */
        bool wait = false;
        if (!again && !hazards_add(p, hazards, &p->gpu->launch[q->launch], &wait))
            return no_memory(err);
        if (wait)
            p->dev->vk.CmdPipelineBarrier(commands, compute, compute, 0, 1, &barrier, 0, NULL, 0,
                                          NULL);
        record_portion(p, commands, q);
    }
    gb_vk_full_barrier(p->dev, commands);
    return end(p->dev, commands, err);
}

static gb_status record(gb_backend_program *p, gb_error *err)
{
    gb_vk_hazards hazards = {0};
    gb_status status = GB_OK;
    for (int i = 0; i < p->n_parts && !status; i++)
        status = record_part(p, p->commands[i], p->part[i], p->part[i + 1], &hazards, err);
    gb_vk_hazards_free(&hazards);
    return status;
}

gb_status gb_vk_program_bind(gb_backend_program *p, gb_backend_buffer *const *buffers,
                             gb_error *err)
{
    size_t bytes = sizeof *buffers * (size_t)p->n_buffers;
    gb_status status = gb_vk_wait(p->dev, err); /* sets and commands may be in use */
    if (status) return status;
    gb_backend_buffer **copy = malloc(bytes + 1);
    if (!copy) return no_memory(err);
    memcpy(copy, buffers, bytes);
    free(p->buffer);
    p->buffer = copy;
    p->ready = false;
    for (int i = 0; i < p->gpu->n_launches; i++) write_set(p, i);
    status = record(p, err);
    if (status) {
        free(p->buffer);
        p->buffer = NULL;
    }
    return status;
}

gb_status gb_vk_program_run(gb_backend_program *p, gb_error *err)
{
    if (!p->buffer)
        return gb_fail(err, GB_INTERNAL, "program", NULL, "a program runs before it is bound");
    const int first = p->ready ? p->once_parts : 0;
    gb_status status = gb_vk_submit(p->dev, p->commands + first, p->n_parts - first, err);
    p->ready = status == GB_OK;
    return status;
}

void gb_vk_program_renew(gb_backend_program *p)
{
    p->ready = false;
}

/* --- timing --- */

/* What runs once, untimed; returns the portion that a run begins with. */
static int record_once(gb_backend_program *p, VkCommandBuffer commands)
{
    for (int i = 0; i < p->once_portions && !p->ready; i++) {
        record_portion(p, commands, &p->portion[i]);
        gb_vk_full_barrier(p->dev, commands);
    }
    return p->once_portions;
}

/* Portions first … of the given step; returns the first of the next step. */
static int record_step(gb_backend_program *p, VkCommandBuffer commands, int step, int first)
{
    int i = first;
    for (; i < p->n_portions && p->gpu->launch[p->portion[i].launch].step == step; i++) {
        record_portion(p, commands, &p->portion[i]);
        gb_vk_full_barrier(p->dev, commands);
    }
    return i;
}

static gb_status time_on_device(gb_backend_program *p, VkCommandBuffer commands, VkQueryPool pool,
                                gb_span *span, gb_error *err)
{
    gb_backend_device *dev = p->dev;
    uint32_t n = (uint32_t)p->n_steps + 1;
    uint64_t *tick = malloc(sizeof *tick * n);
    if (!tick) return no_memory(err);
    gb_status status = begin(dev, commands, VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT, err);
    if (!status) {
        dev->vk.CmdResetQueryPool(commands, pool, 0, n);
        for (int s = 0, launch = record_once(p, commands); s <= p->n_steps; s++) {
            dev->vk.CmdWriteTimestamp(commands, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, pool,
                                      (uint32_t)s);
            if (s < p->n_steps) launch = record_step(p, commands, s, launch);
        }
        status = end(dev, commands, err);
    }
    if (!status) status = gb_vk_submit(dev, &commands, 1, err);
    if (!status) status = gb_vk_wait(dev, err);
    if (!status) {
        VkResult r = dev->vk.GetQueryPoolResults(dev->handle, pool, 0, n, sizeof *tick * n, tick,
                                                 sizeof *tick,
                                                 VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
        if (r != VK_SUCCESS) status = gb_vk_fail(dev, r, "reading timers", err);
    }
    uint64_t mask = dev->physical.timestamp_bits >= 64
                        ? UINT64_MAX
                        : ((uint64_t)1 << dev->physical.timestamp_bits) - 1;
    double second = dev->physical.limits.timestampPeriod * 1e-9;
    for (int s = 0; s < p->n_steps && !status; s++)
        span[s] = (gb_span){(double)((tick[s] - tick[0]) & mask) * second,
                            (double)((tick[s + 1] - tick[s]) & mask) * second};
    free(tick);
    return status;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* For queues without timers: a submission a step. */
static gb_status time_on_host(gb_backend_program *p, VkCommandBuffer commands, gb_span *span,
                              gb_error *err)
{
    gb_backend_device *dev = p->dev;
    gb_status status = gb_vk_wait(dev, err);
    double run = now();
    for (int s = 0, launch = 0; s < p->n_steps && !status; s++) {
        status = begin(dev, commands, VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT, err);
        if (status) return status;
        if (s == 0) launch = record_once(p, commands);
        launch = record_step(p, commands, s, launch);
        status = end(dev, commands, err);
        double start = now();
        if (!status) status = gb_vk_submit(dev, &commands, 1, err);
        if (!status) status = gb_vk_wait(dev, err);
        span[s] = (gb_span){start - run, now() - start};
    }
    return status;
}

gb_status gb_vk_program_time(gb_backend_program *p, gb_span *span, gb_error *err)
{
    if (!p->buffer)
        return gb_fail(err, GB_INTERNAL, "program", NULL, "a program runs before it is bound");
    gb_backend_device *dev = p->dev;
    VkCommandBuffer commands;
    gb_status status = create_commands(dev, &commands, 1, err);
    if (status) return status;
    VkQueryPool pool = VK_NULL_HANDLE;
    if (dev->physical.timestamp_bits) {
        VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                      .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                      .queryCount = (uint32_t)p->n_steps + 1};
        VkResult r = dev->vk.CreateQueryPool(dev->handle, &info, NULL, &pool);
        status = r == VK_SUCCESS ? time_on_device(p, commands, pool, span, err)
                                 : gb_vk_fail(dev, r, "creating timers", err);
        if (pool) dev->vk.DestroyQueryPool(dev->handle, pool, NULL);
    } else {
        status = time_on_host(p, commands, span, err);
    }
    dev->vk.FreeCommandBuffers(dev->handle, dev->queue.pool, 1, &commands);
    p->ready = status == GB_OK;
    return status;
}
