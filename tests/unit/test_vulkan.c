/* The Vulkan driver code on its own, under the validation layers: no plan, no kernels of gimbal's.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "backends/vulkan/hazards.h"
#include "backends/vulkan/vk.h"

#define N 5000

static const char scale_source[] =
    "#version 450\n"
    "layout(local_size_x = 64) in;\n"
    "layout(std430, set = 0, binding = 0) readonly buffer A { float a[]; };\n"
    "layout(std430, set = 0, binding = 1) buffer B { float b[]; };\n"
    "layout(push_constant) uniform P { uint n; float factor; };\n"
    "void main() { uint i = gl_GlobalInvocationID.x; if (i < n) b[i] += factor * a[i]; }\n";

typedef struct push {
    uint32_t n;
    float factor;
} push;

extern const gb_backend gb_vulkan_backend;

static gb_backend_device *device;

static int open_device(void **state)
{
    (void)state;
    gb_error err = {0};
    gb_backend_options o = {.validate = true};
    gb_status status = gb_vk_device_open(&o, 0, &device, &err);
    if (status == GB_NOT_FOUND) {
        print_message("SKIPPED: no Vulkan driver or no validation layer: %s\n", err.message);
        device = NULL;
        return 0;
    }
    if (status) print_error("%s: %s\n", err.input, err.message);
    return status != GB_OK;
}

static int close_device(void **state)
{
    (void)state;
    gb_vk_device_close(device);
    return 0;
}

static void need_device(void)
{
    if (!device) skip();
}

/* status is OK and no validation message has come. */
static void assert_good(gb_status status, gb_error *err)
{
    status = gb_vk_instance_check(&device->instance, status, err);
    if (status) fail_msg("%s: %s", err->input, err->message);
}

static gb_backend_buffer *new_buffer(uint64_t bytes)
{
    gb_error err = {0};
    gb_backend_buffer *b = NULL;
    assert_good(gb_vk_buffer_create(device, GB_VK_DEVICE, bytes, &b, &err), &err);
    return b;
}

/* Drivers on CPUs, which tests run on, do what they say, but are tried only for forced variants. */
static void abilities_are_tried_where_they_are_asked_for(void **state)
{
    (void)state;
    need_device();
    for (int forced = 0; forced < 2; forced++) {
        gb_error err = {0};
        gb_backend_device *dev;
        gb_backend_options o = {.validate = true, .variant = forced ? "reduce.subgroup" : NULL};
        assert_good(gb_vulkan_backend.open(&o, 0, &dev, &err), &err);
        const gb_vk_physical *p = &dev->physical;
        if (forced || !dev->caps.cpu_hosted) {
            assert_int_equal(dev->caps.shuffle, p->subgroup_shuffle);
            assert_int_equal(dev->caps.half_math, p->float16.shaderFloat16 &&
                                                      p->storage16.storageBuffer16BitAccess);
        } else {
            assert_false(dev->caps.shuffle || dev->caps.half_math);
        }
        gb_vulkan_backend.close(dev);
    }
}

static VkDescriptorPool create_pool(void)
{
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 4};
    VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = 2,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    VkDescriptorPool pool;
    assert_int_equal(device->vk.CreateDescriptorPool(device->handle, &info, NULL, &pool),
                     VK_SUCCESS);
    return pool;
}

static VkDescriptorSet bind(const gb_vk_kernel *k, VkDescriptorPool pool, gb_backend_buffer *a,
                            gb_backend_buffer *b)
{
    const gb_vk_api *vk = &device->vk;
    VkDescriptorSetAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                            .descriptorPool = pool,
                                            .descriptorSetCount = 1,
                                            .pSetLayouts = &k->set_layout};
    VkDescriptorSet set;
    assert_int_equal(vk->AllocateDescriptorSets(device->handle, &allocate, &set), VK_SUCCESS);
    VkDescriptorBufferInfo window[2] = {{a->handle, 0, 4 * N}, {b->handle, 0, 4 * N}};
    VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                  .dstSet = set,
                                  .descriptorCount = 2,
                                  .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                  .pBufferInfo = window};
    vk->UpdateDescriptorSets(device->handle, 1, &write, 0, NULL);
    return set;
}

/* A command buffer that adds factor * a to b with each of the sets. */
static VkCommandBuffer record(const gb_vk_kernel *k, const VkDescriptorSet *set, int n,
                              float factor, bool barriers)
{
    const gb_vk_api *vk = &device->vk;
    VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = device->queue.pool,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = 1};
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                      .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT};
    VkCommandBuffer c;
    assert_int_equal(vk->AllocateCommandBuffers(device->handle, &info, &c), VK_SUCCESS);
    vk->BeginCommandBuffer(c, &begin);
    gb_vk_full_barrier(device, c);
    push p = {N, factor};
    for (int i = 0; i < n; i++) {
        if (i && barriers) gb_vk_full_barrier(device, c);
        vk->CmdBindPipeline(c, VK_PIPELINE_BIND_POINT_COMPUTE, k->pipeline);
        vk->CmdBindDescriptorSets(c, VK_PIPELINE_BIND_POINT_COMPUTE, k->layout, 0, 1, &set[i], 0,
                                  NULL);
        vk->CmdPushConstants(c, k->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof p, &p);
        vk->CmdDispatch(c, (N + 63) / 64, 1, 1);
    }
    gb_vk_full_barrier(device, c);
    assert_int_equal(vk->EndCommandBuffer(c), VK_SUCCESS);
    return c;
}

typedef struct fixture {
    gb_backend_buffer *buf[2];
    const gb_vk_kernel *kernel;
    VkDescriptorPool pool;
    VkDescriptorSet there, back; /* from the first buffer to the second, and the other way */
} fixture;

static fixture make_fixture(void)
{
    gb_error err = {0};
    fixture f = {.buf = {new_buffer(4 * N), new_buffer(4 * N)}};
    assert_good(gb_vk_kernel_get(device, "scale", scale_source, 2, sizeof(push), &f.kernel, &err),
                &err);
    f.pool = create_pool();
    f.there = bind(f.kernel, f.pool, f.buf[0], f.buf[1]);
    f.back = bind(f.kernel, f.pool, f.buf[1], f.buf[0]);
    return f;
}

static void free_fixture(fixture *f)
{
    assert_int_equal(gb_vk_wait(device, NULL), GB_OK);
    device->vk.DestroyDescriptorPool(device->handle, f->pool, NULL);
    for (int i = 0; i < 2; i++) gb_vk_buffer_free(device, f->buf[i]);
}

static void writes_runs_and_reads_in_order(void **state)
{
    (void)state;
    need_device();
    gb_error err = {0};
    fixture f = make_fixture();
    VkCommandBuffer twice = record(f.kernel, (VkDescriptorSet[]){f.there, f.there}, 2, 0.5f, true);
    float *a = malloc(4 * N), *b = malloc(4 * N);
    for (int i = 0; i < N; i++) b[i] = 1;
    assert_good(gb_vk_write(device, f.buf[1], 0, 4 * N, b, &err), &err);
    for (int run = 0; run < 20; run++) { /* more than there are slots, none waited for */
        for (int i = 0; i < N; i++) a[i] = (float)(i + run);
        assert_good(gb_vk_write(device, f.buf[0], 0, 4 * N, a, &err), &err);
        assert_good(gb_vk_submit(device, &twice, 1, &err), &err);
    }
    assert_good(gb_vk_read(device, f.buf[1], 0, 4 * N, b, &err), &err);
    for (int i = 0; i < N; i++) assert_float_equal(b[i], 1 + 20 * i + 190, 0);
    assert_good(gb_vk_read(device, f.buf[1], 40, 8, b, &err), &err);
    assert_float_equal(b[1], 1 + 20 * 11 + 190, 0);
    device->vk.FreeCommandBuffers(device->handle, device->queue.pool, 1, &twice);
    free_fixture(&f);
    free(a);
    free(b);
}

/* Writes and reads beyond a staging buffer, also as a discrete device does them. */
static void staged_copies_carry_large_buffers(void **state)
{
    (void)state;
    need_device();
    gb_error err = {0};
    const size_t bytes = (9u << 20) + 12;
    gb_backend_buffer *buf = new_buffer(bytes);
    uint8_t *out = malloc(bytes), *in = calloc(1, bytes);
    bool direct = device->memory.direct;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < bytes; i++) out[i] = (uint8_t)(i * 31 + i / 509 + (size_t)pass);
        device->memory.direct = direct && pass == 0;
        assert_good(gb_vk_write(device, buf, 0, bytes, out, &err), &err);
        assert_good(gb_vk_write(device, buf, 3, 2, "xy", &err), &err);
        assert_good(gb_vk_read(device, buf, 0, bytes, in, &err), &err);
        memcpy(out + 3, "xy", 2);
        assert_memory_equal(out, in, bytes);
    }
    device->memory.direct = direct;
    gb_vk_buffer_free(device, buf);
    free(out);
    free(in);
}

static void kernels_are_built_once(void **state)
{
    (void)state;
    need_device();
    gb_error err = {0};
    const gb_vk_kernel *a, *b;
    assert_good(gb_vk_kernel_get(device, "scale", scale_source, 2, sizeof(push), &a, &err), &err);
    int n = device->kernels.n;
    assert_good(gb_vk_kernel_get(device, "scale", scale_source, 2, sizeof(push), &b, &err), &err);
    assert_ptr_equal(a, b);
    assert_int_equal(device->kernels.n, n);
}

/* One text with its constants set in two ways is two kernels. */
static void constants_are_set_when_a_kernel_is_built(void **state)
{
    static const char source[] =
        "#version 450\n"
        "layout(local_size_x_id = 0) in;\n"
        "layout(constant_id = 1) const int FACTOR = 1;\n"
        "layout(set = 0, binding = 0, std430) readonly buffer A { float a[]; };\n"
        "layout(set = 0, binding = 1, std430) buffer B { float b[]; };\n"
        "layout(push_constant) uniform P { uint n; float factor; } p;\n"
        "void main() {\n"
        "    uint i = gl_GlobalInvocationID.x;\n"
        "    if (i < p.n) b[i] += p.factor * float(FACTOR) * a[i];\n"
        "}\n";
    need_device();
    gb_error err = {0};
    fixture f = make_fixture();
    gb_gpu_kernel text[2];
    gb_vk_wanted wanted[2];
    const gb_vk_kernel *kernel[2];
    float *a = malloc(4 * N), *b = calloc(N, 4);
    for (int i = 0; i < N; i++) a[i] = (float)i;
    for (int k = 0; k < 2; k++) {
        text[k] = (gb_gpu_kernel){
            .name = "constants", .source = source, .n_constants = 2, .constant = {64, 3 + 2 * k}};
        wanted[k] = (gb_vk_wanted){&text[k], 2, sizeof(push)};
    }
    assert_good(gb_vk_write(device, f.buf[0], 0, 4 * N, a, &err), &err);
    assert_good(gb_vk_write(device, f.buf[1], 0, 4 * N, b, &err), &err);
    assert_good(gb_vk_kernels_get(device, wanted, 2, kernel, &err), &err);
    assert_ptr_not_equal(kernel[0], kernel[1]);
    for (int k = 0; k < 2; k++) {
        VkCommandBuffer once = record(kernel[k], &f.there, 1, 1, true);
        assert_good(gb_vk_submit(device, &once, 1, &err), &err);
        assert_good(gb_vk_wait(device, &err), &err);
        device->vk.FreeCommandBuffers(device->handle, device->queue.pool, 1, &once);
    }
    assert_good(gb_vk_read(device, f.buf[1], 0, 4 * N, b, &err), &err);
    for (int i = 0; i < N; i++) assert_float_equal(b[i], 8 * i, 0);
    free_fixture(&f);
    free(a);
    free(b);
}

static void a_bad_kernel_is_an_error_with_the_compilers_words(void **state)
{
    (void)state;
    need_device();
    gb_error err = {0};
    const gb_vk_kernel *k;
    gb_status status = gb_vk_kernel_get(
        device, "broken", "#version 450\nvoid main() { nonsense(); }\n", 0, 0, &k, &err);
    assert_int_equal(status, GB_INTERNAL);
    assert_string_equal(err.input, "broken");
    assert_non_null(strstr(err.message, "nonsense"));
}

static void validation_messages_fail_the_call(void **state)
{
    (void)state;
    need_device();
    gb_error err = {0};
    VkBufferCreateInfo wrong = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO}; /* no size */
    VkBuffer buffer = VK_NULL_HANDLE;
    if (device->vk.CreateBuffer(device->handle, &wrong, NULL, &buffer) == VK_SUCCESS)
        device->vk.DestroyBuffer(device->handle, buffer, NULL);
    assert_int_equal(gb_vk_instance_check(&device->instance, GB_OK, &err), GB_INTERNAL);
    assert_non_null(strstr(err.message, "VUID-VkBufferCreateInfo"));
    assert_int_equal(gb_vk_instance_check(&device->instance, GB_OK, &err), GB_OK);
}

/* That the layer sees a missing barrier is what the tests of whole programs rely on. */
static void a_missing_barrier_is_seen(void **state)
{
    (void)state;
    need_device();
    gb_error err = {0};
    fixture f = make_fixture();
    const VkDescriptorSet sets[] = {f.there, f.back};
    VkCommandBuffer good = record(f.kernel, sets, 2, 1, true);
    assert_good(GB_OK, &err);
    VkCommandBuffer racy = record(f.kernel, sets, 2, 1, false);
    assert_int_not_equal(gb_vk_instance_check(&device->instance, GB_OK, &err), GB_OK);
    assert_non_null(strstr(err.message, "SYNC-HAZARD"));
    device->vk.FreeCommandBuffers(device->handle, device->queue.pool, 1, &good);
    device->vk.FreeCommandBuffers(device->handle, device->queue.pool, 1, &racy);
    free_fixture(&f);
}

static void out_of_memory_says_what_is_there(void **state)
{
    (void)state;
    need_device();
    gb_error err = {0};
    gb_backend_buffer *b = NULL;
    assert_int_equal(gb_vk_buffer_create(device, GB_VK_DEVICE, (uint64_t)1 << 50, &b, &err),
                     GB_OUT_OF_MEMORY);
    assert_null(b);
    assert_non_null(strstr(err.message, "1073741824.0 MiB"));
    assert_non_null(strstr(err.message, "available"));
    assert_good(GB_OK, &err);
}

/* Random creation and destruction: buffers never share bytes, and all memory comes back. */
static void blocks_are_cut_and_joined(void **state)
{
    (void)state;
    need_device();
    enum { LIVE = 40 };
    gb_backend_buffer *live[LIVE] = {0};
    uint32_t before = device->memory.allocations, random = 12345;
    for (int round = 0; round < 600; round++) {
        random = random * 1664525u + 1013904223u;
        int i = (int)(random >> 8) % LIVE;
        if (live[i]) {
            gb_vk_buffer_free(device, live[i]);
            live[i] = NULL;
            continue;
        }
        live[i] = new_buffer(1 + (random >> 10) % 300000);
        for (int j = 0; j < LIVE; j++) {
            if (j == i || !live[j] || live[j]->block != live[i]->block) continue;
            assert_true(live[j]->offset + live[j]->size <= live[i]->offset ||
                        live[i]->offset + live[i]->size <= live[j]->offset);
        }
    }
    for (int i = 0; i < LIVE; i++) gb_vk_buffer_free(device, live[i]);
    assert_int_equal(device->memory.allocations, before);
}

static void hazards_want_barriers_where_ranges_meet(void **state)
{
    (void)state;
    int a, b;
    const struct {
        gb_vk_access access;
        bool barrier;
    } step[] = {
        {{&a, 0, 100, true}, false},  {{&a, 100, 200, true}, false}, {{&b, 0, 100, false}, false},
        {{&b, 50, 60, false}, false}, {{&a, 99, 100, false}, true},  {{&a, 99, 150, false}, false},
        {{&a, 120, 130, true}, true}, {{&a, 0, 120, true}, false},   {{&a, 125, 126, true}, true},
        {{&b, 0, 100, true}, false},  {{&b, 100, 100, true}, false},
    };
    gb_vk_hazards h = {0};
    for (size_t i = 0; i < sizeof step / sizeof *step; i++) {
        bool barrier;
        assert_true(gb_vk_hazards_add(&h, &step[i].access, 1, &barrier));
        assert_int_equal(barrier, step[i].barrier);
    }
    gb_vk_hazards_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_runs_and_reads_in_order),
        cmocka_unit_test(staged_copies_carry_large_buffers),
        cmocka_unit_test(kernels_are_built_once),
        cmocka_unit_test(constants_are_set_when_a_kernel_is_built),
        cmocka_unit_test(a_bad_kernel_is_an_error_with_the_compilers_words),
        cmocka_unit_test(validation_messages_fail_the_call),
        cmocka_unit_test(a_missing_barrier_is_seen),
        cmocka_unit_test(out_of_memory_says_what_is_there),
        cmocka_unit_test(blocks_are_cut_and_joined),
        cmocka_unit_test(abilities_are_tried_where_they_are_asked_for),
        cmocka_unit_test(hazards_want_barriers_where_ranges_meet),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
