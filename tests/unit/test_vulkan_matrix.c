/* Which matrix units a Vulkan device is taken to have, by what its driver lists: no driver here
 * lists any for bf16, so this one is made up. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "backends/vulkan/matrix_khr.h"
#include "backends/vulkan/vk.h"

enum {
    F16 = VK_COMPONENT_TYPE_FLOAT16_KHR,
    F32 = VK_COMPONENT_TYPE_FLOAT32_KHR,
    BF16 = VK_COMPONENT_TYPE_BFLOAT16_KHR,
    GROUP = 2 /* VK_SCOPE_WORKGROUP_KHR */
};

static const struct {
    uint32_t m, n, k;
    int ab, c, scope;
} shapes[] = {
    {16, 16, 16, F16, F16, VK_SCOPE_SUBGROUP_KHR},
    {8, 8, 16, F16, F32, VK_SCOPE_SUBGROUP_KHR},
    {16, 8, 16, F16, F32, VK_SCOPE_SUBGROUP_KHR},
    {8, 8, 8, BF16, F32, VK_SCOPE_SUBGROUP_KHR},
    {8, 16, 16, BF16, F32, VK_SCOPE_SUBGROUP_KHR},
    {16, 16, 16, BF16, BF16, VK_SCOPE_SUBGROUP_KHR},
    {16, 16, 32, BF16, F32, GROUP},
    {64, 16, 16, BF16, F32, VK_SCOPE_SUBGROUP_KHR},
};

static struct {
    bool bfloat16_type, bfloat16_matrix, asked; /* asked: for the features of bf16 */
} driver;

static VkBaseOutStructure *find(void *chain, VkStructureType type)
{
    VkBaseOutStructure *s = chain;
    while (s && s->sType != type) s = s->pNext;
    return s;
}

static void VKAPI_PTR features(VkPhysicalDevice device, VkPhysicalDeviceFeatures2 *all)
{
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR *matrix =
        (void *)find(all, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR);
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT *size =
        (void *)find(all, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT);
    VkPhysicalDeviceVulkanMemoryModelFeatures *model =
        (void *)find(all, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES);
    VkPhysicalDeviceShaderBfloat16FeaturesKHR *bfloat16 =
        (void *)find(all, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR);
    matrix->cooperativeMatrix = VK_TRUE;
    size->subgroupSizeControl = size->computeFullSubgroups = VK_TRUE;
    model->vulkanMemoryModel = VK_TRUE;
    driver.asked = bfloat16;
    if (!bfloat16) return;
    bfloat16->shaderBFloat16Type = driver.bfloat16_type;
    bfloat16->shaderBFloat16CooperativeMatrix = driver.bfloat16_matrix;
}

static void VKAPI_PTR properties(VkPhysicalDevice device, VkPhysicalDeviceProperties2 *all)
{
    VkPhysicalDeviceCooperativeMatrixPropertiesKHR *matrix =
        (void *)find(all, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_PROPERTIES_KHR);
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT *size =
        (void *)find(all, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT);
    matrix->cooperativeMatrixSupportedStages = VK_SHADER_STAGE_COMPUTE_BIT;
    size->requiredSubgroupSizeStages = VK_SHADER_STAGE_COMPUTE_BIT;
    size->minSubgroupSize = size->maxSubgroupSize = 32;
}

static VkResult VKAPI_PTR list(VkPhysicalDevice device, uint32_t *n,
                               VkCooperativeMatrixPropertiesKHR *shape)
{
    *n = sizeof shapes / sizeof *shapes;
    for (uint32_t i = 0; i < *n; i++) {
        assert_int_equal(shape[i].sType, VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR);
        shape[i].MSize = shapes[i].m, shape[i].NSize = shapes[i].n, shape[i].KSize = shapes[i].k;
        shape[i].AType = shape[i].BType = (VkComponentTypeKHR)shapes[i].ab;
        shape[i].CType = shape[i].ResultType = (VkComponentTypeKHR)shapes[i].c;
        shape[i].scope = (VkScopeKHR)shapes[i].scope;
    }
    return VK_SUCCESS;
}

static PFN_vkVoidFunction VKAPI_PTR get_proc(VkInstance instance, const char *name)
{
    assert_string_equal(name, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    return (PFN_vkVoidFunction)list;
}

/* A device of 16-bit storage: what it has, with the first n of these extensions. */
static gb_vk_physical read_device(bool float16, uint32_t n)
{
    static const VkExtensionProperties extension[] = {{VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME, 1},
                                                      {"VK_EXT_subgroup_size_control", 1},
                                                      {"VK_KHR_vulkan_memory_model", 1},
                                                      {VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME, 1}};
    gb_vk_instance in = {.get_proc = get_proc};
    in.vk.GetPhysicalDeviceFeatures2 = features;
    in.vk.GetPhysicalDeviceProperties2 = properties;
    gb_vk_physical p = {.subgroup = 32};
    p.storage16.storageBuffer16BitAccess = VK_TRUE;
    p.float16.shaderFloat16 = float16;
    gb_vk_matrix_read(&in, &p, extension, n);
    return p;
}

static void assert_shape(const gb_gpu_units *u, int m, int n, int k)
{
    assert_int_equal(u->m, m);
    assert_int_equal(u->n, n);
    assert_int_equal(u->k, k);
    assert_int_equal(u->works, 0);
}

/* What is enabled for bf16: its extension, and its features. */
static void assert_enables(const gb_vk_physical *p, uint32_t extensions, bool bfloat16)
{
    const char *name[GB_VK_MATRIX_EXTENSIONS];
    _Alignas(void *) uint8_t memory[GB_VK_MATRIX_BYTES];
    uint32_t n = 0;
    VkBaseOutStructure last = {0};
    void *chain = gb_vk_matrix_enable(p, &last, name, &n, memory);
    assert_int_equal(n, extensions);
    const VkPhysicalDeviceShaderBfloat16FeaturesKHR *f =
        (void *)find(chain, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR);
    assert_int_equal(f != NULL, bfloat16);
    assert_true(!f || (f->shaderBFloat16Type && f->shaderBFloat16CooperativeMatrix));
    assert_int_equal(n && !strcmp(name[n - 1], VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME), bfloat16);
    assert_ptr_equal(find(chain, last.sType), &last);
}

static void each_type_has_its_largest_shape_with_f32_sums(void **state)
{
    driver.bfloat16_type = driver.bfloat16_matrix = true;
    const gb_vk_physical p = read_device(true, 4);
    assert_int_equal(p.matrix.subgroup, 32);
    assert_shape(&p.matrix.f16, 16, 8, 16);
    assert_shape(&p.matrix.bf16, 8, 16, 16);
    assert_enables(&p, 4, true);
}

static void bf16_needs_its_extension_and_both_features(void **state)
{
    for (int i = 0; i < 3; i++) {
        driver.bfloat16_type = i != 1;
        driver.bfloat16_matrix = i != 2;
        const gb_vk_physical p = read_device(true, i == 0 ? 3 : 4);
        assert_int_equal(driver.asked, i != 0);
        assert_shape(&p.matrix.f16, 16, 8, 16);
        assert_shape(&p.matrix.bf16, 0, 0, 0);
        assert_enables(&p, 3, false);
    }
}

static void bf16_needs_no_f16(void **state)
{
    driver.bfloat16_type = driver.bfloat16_matrix = true;
    gb_vk_physical p = read_device(false, 4);
    assert_shape(&p.matrix.f16, 0, 0, 0);
    assert_shape(&p.matrix.bf16, 8, 16, 16);
    assert_enables(&p, 4, true);
    p = read_device(true, 2);
    assert_shape(&p.matrix.f16, 0, 0, 0);
    assert_enables(&p, 0, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_has_its_largest_shape_with_f32_sums),
        cmocka_unit_test(bf16_needs_its_extension_and_both_features),
        cmocka_unit_test(bf16_needs_no_f16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
