/* The files under shaders/ as strings; made by shaders/embed.py. */
#ifndef GB_BACKENDS_GPU_SHADERS_H
#define GB_BACKENDS_GPU_SHADERS_H

#include <stddef.h>
#include <stdint.h>

extern const char gb_shader_prelude_cl[], gb_shader_prelude_glsl[], gb_shader_prelude_c_h[];
extern const char gb_shader_math[], gb_shader_random[];
extern const char gb_shader_pointwise_flat[], gb_shader_pointwise_rows[];
extern const char gb_shader_reduce_row[], gb_shader_reduce_column[], gb_shader_reduce_join[];
extern const char gb_shader_argreduce_item[], gb_shader_matmul_item[];
extern const char gb_shader_conv_item[], gb_shader_conv_input_item[], gb_shader_conv_filter_item[];
extern const char gb_shader_sum_join[], gb_shader_pool[], gb_shader_pool_grad[];
extern const char gb_shader_pool_rows[], gb_shader_pool_grad_rows[];
extern const char gb_shader_gather_item[], gb_shader_gather_grad_item[];
extern const char gb_shader_panel[], gb_shader_panel_pack[], gb_shader_image_pad[];
extern const char gb_shader_peak[], gb_shader_joint[], gb_shader_joint_turns[];
extern const char gb_shader_filter_join[], gb_shader_matmul_block[], gb_shader_conv_block[];
extern const char gb_shader_conv_filter_block[];
extern const char gb_shader_winograd_filter[], gb_shader_winograd_image[];
extern const char gb_shader_winograd_join[], gb_shader_winograd_result[];
extern const char gb_shader_winograd_fused[], gb_shader_winograd_product[];
extern const char gb_shader_winograd_tile[];
extern const char gb_shader_tile[], gb_shader_split_join[];
extern const char gb_shader_reduce_group[], gb_shader_matmul_skinny[];
extern const char gb_shader_depthwise[], gb_shader_depthwise_taps[], gb_shader_depthwise_filter[];
extern const char gb_shader_image_join[];
extern const char gb_shader_matrix[], gb_shader_matrix_loops[], gb_shader_matrix_glsl[];

/* Modules compiled offline, by the hash of the text that they were compiled from: made of the files
 * under shaders/spirv by shaders/embed_spirv.py. */
typedef struct gb_spirv_module {
    uint64_t text; /* gb_gpu_hash */
    const uint32_t *word;
    size_t words;
} gb_spirv_module;
extern const gb_spirv_module gb_spirv[];
extern const int gb_spirv_count;
extern const char gb_shader_reduce_group[], gb_shader_reduce_subgroup[];

#endif
