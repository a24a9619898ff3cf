#include "backends/vulkan/vk.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define LAYER "VK_LAYER_KHRONOS_validation"

static const char no_loader[] = "install a Vulkan loader and a driver (on Debian: libvulkan1 and "
                                "mesa-vulkan-drivers, or the GPU vendor's driver)";

/* Called by drivers and layers on any thread. Only what the validation layer says about our calls
 * counts: loaders also warn about other drivers on the system. */
static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT type,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data,
                                                 void *user)
{
    gb_vk_instance *in = user;
    pthread_mutex_lock(&in->lock);
    if (!in->message[0])
        snprintf(in->message, sizeof in->message, "%s", data->pMessage ? data->pMessage : "?");
    pthread_mutex_unlock(&in->lock);
    return VK_FALSE;
}

static VkDebugUtilsMessengerCreateInfoEXT messenger_info(gb_vk_instance *in)
{
    return (VkDebugUtilsMessengerCreateInfoEXT){
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = in};
}

gb_status gb_vk_instance_check(gb_vk_instance *in, gb_status status, gb_error *err)
{
    char message[sizeof in->message];
    pthread_mutex_lock(&in->lock);
    memcpy(message, in->message, sizeof message);
    in->message[0] = 0;
    pthread_mutex_unlock(&in->lock);
    if (!message[0]) return status;
    return gb_fail(err, GB_INTERNAL, "Vulkan validation", "report this as a bug in gimbal", "%s",
                   message);
}

static gb_status load_library(gb_vk_instance *in, gb_error *err)
{
    in->library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!in->library)
        return gb_fail(err, GB_NOT_FOUND, "libvulkan.so.1", no_loader,
                       "the Vulkan loader is not installed");
    in->get_proc = (PFN_vkGetInstanceProcAddr)dlsym(in->library, "vkGetInstanceProcAddr");
    PFN_vkEnumerateInstanceVersion get_version =
        in->get_proc
            ? (PFN_vkEnumerateInstanceVersion)in->get_proc(NULL, "vkEnumerateInstanceVersion")
            : NULL;
    uint32_t version = 0;
    if (!get_version || get_version(&version) != VK_SUCCESS || version < VK_API_VERSION_1_1)
        return gb_fail(err, GB_NOT_FOUND, "libvulkan.so.1", no_loader,
                       "the Vulkan loader is older than Vulkan 1.1");
    return GB_OK;
}

static gb_status find_layer(gb_vk_instance *in, gb_error *err)
{
    VkLayerProperties layer[64];
    uint32_t n = sizeof layer / sizeof *layer;
    PFN_vkEnumerateInstanceLayerProperties enumerate =
        (PFN_vkEnumerateInstanceLayerProperties)in->get_proc(NULL,
                                                             "vkEnumerateInstanceLayerProperties");
    VkResult r = enumerate ? enumerate(&n, layer) : VK_ERROR_UNKNOWN;
    for (uint32_t i = 0; (r == VK_SUCCESS || r == VK_INCOMPLETE) && i < n; i++)
        if (!strcmp(layer[i].layerName, LAYER)) return GB_OK;
    return gb_fail(err, GB_NOT_FOUND, LAYER,
                   "install it (on Debian: vulkan-validationlayers) or switch validation off",
                   "the Vulkan validation layer is not installed");
}

static gb_status create_instance(gb_vk_instance *in, bool validate, gb_error *err)
{
    VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                             .pApplicationName = "gimbal",
                             .apiVersion = VK_API_VERSION_1_1};
    const char *layers[] = {LAYER}, *extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME};
    VkDebugUtilsMessengerCreateInfoEXT messages = messenger_info(in);
    VkValidationFeatureEnableEXT enable[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    VkValidationFeaturesEXT features = {.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                        .pNext = &messages,
                                        .enabledValidationFeatureCount = 1,
                                        .pEnabledValidationFeatures = enable};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pNext = validate ? &features : NULL,
                                 .pApplicationInfo = &app,
                                 .enabledLayerCount = validate,
                                 .ppEnabledLayerNames = layers,
                                 .enabledExtensionCount = validate,
                                 .ppEnabledExtensionNames = extensions};
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)in->get_proc(NULL, "vkCreateInstance");
    VkResult r = create ? create(&info, NULL, &in->handle) : VK_ERROR_UNKNOWN;
    if (r == VK_SUCCESS) return GB_OK;
    in->handle = VK_NULL_HANDLE;
    return gb_fail(err, GB_NOT_FOUND, "libvulkan.so.1", no_loader,
                   "no Vulkan driver could be started (%s)", gb_vk_result_name(r));
}

static gb_status load_functions(gb_vk_instance *in, gb_error *err)
{
    bool all = true;
#define LOAD(name)                                                                                 \
    in->vk.name = (PFN_vk##name)in->get_proc(in->handle, "vk" #name);                              \
    all = all && in->vk.name;
    GB_VK_INSTANCE_FUNCTIONS(LOAD)
#undef LOAD
    if (all) return GB_OK;
    return gb_fail(err, GB_NOT_FOUND, "libvulkan.so.1", no_loader,
                   "the Vulkan loader lacks functions of Vulkan 1.1");
}

static gb_status create_messenger(gb_vk_instance *in, gb_error *err)
{
    VkDebugUtilsMessengerCreateInfoEXT info = messenger_info(in);
    PFN_vkCreateDebugUtilsMessengerEXT create = (PFN_vkCreateDebugUtilsMessengerEXT)in->get_proc(
        in->handle, "vkCreateDebugUtilsMessengerEXT");
    if (create && create(in->handle, &info, NULL, &in->messenger) == VK_SUCCESS) return GB_OK;
    return gb_fail(err, GB_DEVICE, LAYER, "switch validation off",
                   "the validation layer's messages cannot be received");
}

/* A leak checker suppresses what drivers leak by their names, which it knows only while they are
 * loaded; destroying an instance unloads them. */
static void keep_drivers_loaded(void)
{
#ifdef __SANITIZE_ADDRESS__
    static const char *const module[] = {"libVkLayer_khronos_validation.so", "libvulkan_lvp.so"};
    for (size_t i = 0; i < sizeof module / sizeof *module; i++)
        dlopen(module[i], RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
#endif
}

gb_status gb_vk_instance_open(gb_vk_instance *in, bool validate, gb_error *err)
{
    memset(in, 0, sizeof *in);
    if (pthread_mutex_init(&in->lock, NULL))
        return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "a lock cannot be created");
    gb_status s = load_library(in, err);
    if (!s && validate) s = find_layer(in, err);
    if (!s) s = create_instance(in, validate, err);
    if (!s) keep_drivers_loaded();
    if (!s) s = load_functions(in, err);
    if (!s && validate) s = create_messenger(in, err);
    if (s) gb_vk_instance_close(in);
    return s;
}

void gb_vk_instance_close(gb_vk_instance *in)
{
    if (in->messenger) {
        PFN_vkDestroyDebugUtilsMessengerEXT destroy =
            (PFN_vkDestroyDebugUtilsMessengerEXT)in->get_proc(in->handle,
                                                              "vkDestroyDebugUtilsMessengerEXT");
        if (destroy) destroy(in->handle, in->messenger, NULL);
    }
    if (in->handle && in->vk.DestroyInstance) in->vk.DestroyInstance(in->handle, NULL);
    if (in->library) dlclose(in->library);
    pthread_mutex_destroy(&in->lock);
    memset(in, 0, sizeof *in);
}
