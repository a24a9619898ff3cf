#include "backends/vulkan/vk.h"

#include <stdlib.h>
#include <string.h>

#include <shaderc/shaderc.h>

/* Part of the cache's key: changed with anything that changes what is generated. */
static const char compiler_key[] = "spirv 1: vulkan 1.1, -O";

static gb_status compile(shaderc_compiler_t compiler, const char *name, const char *source,
                         uint32_t **words, size_t *bytes, gb_error *err)
{
    gb_status status = GB_OK;
    shaderc_compilation_result_t result = NULL;
    shaderc_compile_options_t options = shaderc_compile_options_initialize();
    if (compiler && options) {
        shaderc_compile_options_set_target_env(options, shaderc_target_env_vulkan,
                                               shaderc_env_version_vulkan_1_1);
        shaderc_compile_options_set_optimization_level(options,
                                                       shaderc_optimization_level_performance);
        result = shaderc_compile_into_spv(compiler, source, strlen(source), shaderc_compute_shader,
                                          name, "main", options);
    }
    size_t n = result ? shaderc_result_get_length(result) : 0;
    if (!result) {
        status = gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory to compile a kernel");
    } else if (shaderc_result_get_compilation_status(result) !=
               shaderc_compilation_status_success) {
        status =
            gb_fail(err, GB_INTERNAL, name, "report this as a bug in gimbal",
                    "the kernel does not compile: %s", shaderc_result_get_error_message(result));
    } else if (!(*words = malloc(n))) {
        status = gb_fail(err, GB_OUT_OF_MEMORY, name, NULL, "no memory to compile a kernel");
    } else {
        memcpy(*words, shaderc_result_get_bytes(result), n);
        *bytes = n;
    }
    if (result) shaderc_result_release(result);
    if (options) shaderc_compile_options_release(options);
    return status;
}

void gb_vk_compiler_open(gb_vk_compiler *c)
{
    if (!c->shaderc) c->shaderc = shaderc_compiler_initialize();
}

gb_status gb_vk_compile(const gb_vk_compiler *c, const char *name, const char *source,
                        uint32_t **words, size_t *bytes, gb_error *err)
{
    gb_hash key = GB_HASH_INIT;
    unsigned version, revision;
    shaderc_get_spv_version(&version, &revision);
    gb_hash_text(&key, compiler_key);
    gb_hash_bytes(&key, &version, sizeof version);
    gb_hash_bytes(&key, &revision, sizeof revision);
    gb_hash_text(&key, source);
    void *data;
    if (gb_cache_load(c->cache_dir, "spirv", key, &data, bytes)) {
        *words = data;
        return GB_OK;
    }
    gb_status status = compile(c->shaderc, name, source, words, bytes, err);
    if (!status) gb_cache_store(c->cache_dir, "spirv", key, *words, *bytes);
    return status;
}

void gb_vk_compiler_close(gb_vk_compiler *c)
{
    if (c->shaderc) shaderc_compiler_release(c->shaderc);
}
