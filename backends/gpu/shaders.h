/* The files under shaders/ as strings; made by shaders/embed.py. */
#ifndef GB_BACKENDS_GPU_SHADERS_H
#define GB_BACKENDS_GPU_SHADERS_H

extern const char gb_shader_prelude_cl[], gb_shader_prelude_glsl[];
extern const char gb_shader_math[], gb_shader_random[];
extern const char gb_shader_pointwise_flat[], gb_shader_pointwise_rows[];
extern const char gb_shader_reduce_row[], gb_shader_reduce_column[], gb_shader_reduce_join[];
extern const char gb_shader_argreduce_item[], gb_shader_matmul_item[];

#endif
