/* What the driver says, as a status. */
#include "backends/vulkan/vk.h"

const char *gb_vk_result_name(VkResult r)
{
    switch (r) {
#define NAME(x)                                                                                    \
    case x:                                                                                        \
        return #x;
        NAME(VK_SUCCESS)
        NAME(VK_NOT_READY)
        NAME(VK_TIMEOUT)
        NAME(VK_INCOMPLETE)
        NAME(VK_ERROR_OUT_OF_HOST_MEMORY)
        NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY)
        NAME(VK_ERROR_INITIALIZATION_FAILED)
        NAME(VK_ERROR_DEVICE_LOST)
        NAME(VK_ERROR_MEMORY_MAP_FAILED)
        NAME(VK_ERROR_LAYER_NOT_PRESENT)
        NAME(VK_ERROR_EXTENSION_NOT_PRESENT)
        NAME(VK_ERROR_FEATURE_NOT_PRESENT)
        NAME(VK_ERROR_INCOMPATIBLE_DRIVER)
        NAME(VK_ERROR_TOO_MANY_OBJECTS)
        NAME(VK_ERROR_FRAGMENTED_POOL)
        NAME(VK_ERROR_UNKNOWN)
        NAME(VK_ERROR_OUT_OF_POOL_MEMORY)
#undef NAME
    default:
        return "an unknown VkResult";
    }
}

gb_status gb_vk_fail(gb_backend_device *dev, VkResult r, const char *doing, gb_error *err)
{
    const char *name = dev->physical.info.name;
    if (r == VK_ERROR_OUT_OF_HOST_MEMORY || r == VK_ERROR_OUT_OF_DEVICE_MEMORY)
        return gb_fail(err, GB_OUT_OF_MEMORY, name, "make the batch or the model smaller",
                       "%s ran out of memory of the %s", doing,
                       r == VK_ERROR_OUT_OF_HOST_MEMORY ? "host" : "device");
    if (r == VK_ERROR_DEVICE_LOST) {
        dev->lost = true;
        return gb_fail(err, GB_DEVICE, name, "resume the run from its last checkpoint",
                       "the device was lost while %s", doing);
    }
    return gb_fail(err, GB_DEVICE, name, "update the driver or choose another device",
                   "%s failed: %s", doing, gb_vk_result_name(r));
}
