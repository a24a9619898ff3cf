/* The text of a whole kernel: what its body finds around itself in each language. */
#include "backends/gpu/frame.h"

#include <stdio.h>
#include <string.h>

#include "backends/gpu/shaders.h"

static const char *text_of(const gb_text *t)
{
    return t->data ? t->data : "";
}

/* Drivers on CPUs load 64 bits in the time of 32, whatever the vector. */
bool gb_gk_pairs_as_words(const gb_gk *k)
{
    return k->b->caps->cpu_hosted && k->b->caps->int64;
}

static const char *const cl_type[] = {"float", "int", "half", "ushort"};
static const char *const glsl_type[] = {"float", "int", "float16_t", "uint16_t"};

static void opencl_frame(const gb_gk *k, gb_text *t, bool params_buffer)
{
    gb_text_add(t, "typedef struct { int v[%d]; } gb_params;\n", k->n_params ? k->n_params : 1);
    gb_text_add(t, "#define PARAM(i) %s[i]\n", params_buffer ? "p" : "p.v");
    gb_text_add(t, "#define GB_GROUP(d) ((int)get_group_id(d))\n"
                   "#define GB_LOCAL(d) ((int)get_local_id(d))\n"
                   "#define GB_GLOBAL(d) ((int)get_global_id(d))\n");
    gb_text_add(t, "%s", text_of(&k->defs));
    gb_text_add(t,
                "#define GB_MAIN_BEGIN __kernel \\\n"
                "__attribute__((reqd_work_group_size(%u, %u, %u))) void gb_kernel( \\\n",
                k->local[0], k->local[1], k->local[2]);
    for (int i = 0; i < k->n_bindings; i++)
        gb_text_add(t, "    __global %s%s *restrict b%d, \\\n", k->binding[i].write ? "" : "const ",
                    cl_type[k->storage[i]], i);
    gb_text_add(t, params_buffer ? "    __constant int *p) {" : "    const gb_params p) {");
    for (const char *s = text_of(&k->shared); *s; s++) {
        if (*s == '\n') continue;
        gb_text_add(t, "%s%c", s == k->shared.data ? " " : "", *s);
    }
    gb_text_add(t, "\n#define GB_MAIN_END }\n");
}

static void host_frame(const gb_gk *k, gb_text *t, bool params_buffer)
{
    gb_text_add(t, "#define PARAM(i) gb_params[i]\n%s%s", text_of(&k->shared), text_of(&k->defs));
    gb_text_add(t, "#define GB_MAIN_BEGIN static void gb_kernel(void *const *gb_buffer, "
                   "const int *gb_params) {");
    for (int i = 0; i < k->n_bindings; i++)
        gb_text_add(t, " \\\n    %s%s *b%d = gb_buffer[%d];", k->binding[i].write ? "" : "const ",
                    cl_type[k->storage[i]], i, i);
    gb_text_add(t, "\n#define GB_MAIN_END }\n");
}

/* Other types over the same binding. */
static void glsl_views(const gb_gk *k, gb_text *t, int binding)
{
    for (int width = 2; width <= 8; width *= 2) {
        if (!(k->views[binding] & width)) continue;
        char type[16];
        if (width == 8)
            snprintf(type, sizeof type, "uvec4");
        else
            snprintf(type, sizeof type, "%svec%d", k->storage[binding] == GB_S_F16 ? "f16" : "",
                     width);
        gb_text_add(t,
                    "layout(set = 0, binding = %d, std430) %sbuffer gb_b%dw%d { %s v[]; } "
                    "b%dw%d_;\n#define b%dw%d b%dw%d_.v\n",
                    binding, k->binding[binding].write ? "" : "readonly ", binding, width,
                    width == 2 && gb_gk_pairs_as_words(k) ? "uint64_t" : type, binding, width,
                    binding, width, binding, width);
    }
}

static void glsl_frame(const gb_gk *k, gb_text *t, bool params_buffer)
{
    if (k->offline)
        gb_text_add(t, "layout(local_size_x_id = 0) in;\n");
    else
        gb_text_add(t, "layout(local_size_x = %u, local_size_y = %u, local_size_z = %u) in;\n",
                    k->local[0], k->local[1], k->local[2]);
    for (int i = 0; i < k->n_bindings; i++)
        gb_text_add(t,
                    "layout(set = 0, binding = %d, std430) %srestrict buffer gb_b%d { %s v[]; } "
                    "b%d_;\n#define b%d b%d_.v\n",
                    i, k->binding[i].write ? "" : "readonly ", i, glsl_type[k->storage[i]], i, i,
                    i);
    for (int i = 0; i < k->n_bindings; i++) glsl_views(k, t, i);
    if (params_buffer)
        gb_text_add(t,
                    "layout(set = 0, binding = %d, std430) readonly buffer gb_p { int v[]; } p;\n",
                    k->n_bindings);
    else if (k->n_params)
        gb_text_add(t, "layout(push_constant) uniform gb_p { int v[%d]; } p;\n", k->n_params);
    gb_text_add(t, "#define PARAM(i) p.v[i]\n%s%s", text_of(&k->shared), text_of(&k->defs));
    gb_text_add(t, "#define GB_MAIN_BEGIN void main() {\n#define GB_MAIN_END }\n");
}

static void glsl_prelude(const gb_gk *k, gb_text *t)
{
    bool half = false, words = false;
    for (int i = 0; i < k->n_bindings; i++) {
        half = half || k->storage[i] >= GB_S_F16;
        words = words || (k->views[i] & 2 && gb_gk_pairs_as_words(k));
    }
    gb_text_add(t, "#version 450\n%s%s%s%s%s%s",
                half ? "#extension GL_EXT_shader_16bit_storage : require\n" : "",
                words ? "#extension GL_ARB_gpu_shader_int64 : require\n" : "",
                k->uses_subgroups || k->uses_shuffle
                    ? "#extension GL_KHR_shader_subgroup_ballot : require\n"
                    : "",
                k->uses_shuffle ? "#extension GL_KHR_shader_subgroup_shuffle : require\n" : "",
                k->uses_half
                    ? "#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require\n"
                      "#define GB_HALF_MATH\n"
                    : "",
                gb_shader_prelude_glsl);
    if (k->uses_math) gb_text_add(t, "%s", gb_shader_math);
}

void gb_gk_frame(gb_gk *k, gb_text *t, const char *body, bool params_buffer)
{
    const gb_gpu_api api = k->b->caps->api;
    if (api == GB_GPU_OPENCL) /* in all: kernels share their prelude */
        gb_text_add(t, "%s%s%s", k->b->caps->cpu_hosted ? "#define GB_ON_CPU\n" : "",
                    k->b->caps->shuffle ? "#define GB_SUBGROUPS_WORK\n" : "",
                    k->b->caps->half_math ? "#define GB_HALF_MATH\n" : "");
    if (k->offline)
        gb_text_add(t, "%s", gb_shader_matrix_glsl);
    else if (api == GB_GPU_VULKAN)
        glsl_prelude(k, t);
    else
        gb_text_add(t, "%s", api == GB_GPU_HOST ? gb_shader_prelude_c_h : gb_shader_prelude_cl);
    if (k->uses_random) gb_text_add(t, "%s", gb_shader_random);
    k->common = t->n;
    (api == GB_GPU_OPENCL   ? opencl_frame
     : api == GB_GPU_VULKAN ? glsl_frame
                            : host_frame)(k, t, params_buffer);
    gb_text_add(t, "%s", body);
}

/* --- joint kernels --- */

void gb_text_undefine(gb_text *t, const char *source)
{
    const char *s = source;
    while (s && *s) {
        if (strncmp(s, "#define ", 8) == 0) {
            int length = (int)strcspn(s + 8, " (\n");
            gb_text_add(t, "#undef %.*s\n", length, s + 8);
        }
        s = strchr(s, '\n');
        if (s) s++;
    }
}

/* In turns, memory of one type becomes that of another one between two parts. */
static const char *const part_type[] = {"gb_any_float", "gb_any_int", "half", "gb_any_ushort"};

/* Parameters by value: compilers see that stores leave them alone. */
void gb_gk_frame_part(const gb_gk *k, gb_text *t, const char *body)
{
    if (k->b->caps->api != GB_GPU_OPENCL || k->shared.n || k->uses_shuffle) return;
    gb_text_add(t,
                "#undef gb_counted\n#define gb_counted GB_PART(counted)\n"
                "typedef struct { int v[%d]; } GB_PART(params);\n"
                "#define PARAM(i) p.v[i]\n"
                "#define GB_GROUP(d) GB_PART_GROUP(gb_at, d, %u, %u, %u)\n"
                "#define GB_LOCAL(d) GB_PART_LOCAL(gb_at, d, %u, %u, %u)\n"
                "#define GB_GLOBAL(d) GB_PART_GLOBAL(gb_at, d)\n"
                "%s#define GB_MAIN_BEGIN void GB_PART(run)( \\\n",
                k->n_params ? k->n_params : 1, k->local[0], k->local[1], k->local[2], k->local[0],
                k->local[1], k->local[2], text_of(&k->defs));
    for (int i = 0; i < k->n_bindings; i++)
        gb_text_add(t, "    __global %s%s *restrict b%d, \\\n", k->binding[i].write ? "" : "const ",
                    part_type[k->storage[i]], i);
    gb_text_add(t, "    const GB_PART(params) p, const int *gb_at) {\n#define GB_MAIN_END }\n%s",
                body);
}

/* The buffers of a row, and the call of its part for the units from `first` to before `last`. */
static void joint_call(const gb_joint_text *j, gb_text *t)
{
    gb_text_add(t, "#define CALL(row, first, last)");
    for (int i = 0; i < j->most_bindings; i++)
        gb_text_add(t, " \\\n    __global float *c%d = BUFFER(PARAM(row + %d));", i,
                    GB_ROW_HEAD + i);
    gb_text_add(t,
                " \\\n    int x_ = PARAM(row + %d), y_ = PARAM(row + %d); \\\n"
                "    switch (PARAM(row + %d)) {",
                GB_ROW_X, GB_ROW_Y, GB_ROW_PART);
    for (int part = 0; part < j->n_parts; part++) {
        gb_text_add(t, " \\\n    case %d: { GB_PASTE(gb_kernel, _params_%d) q; ", part, part);
        gb_text_add(t, "for (int i = 0; i < %d; i++) q.v[i] = PARAM(row + %d + i); ",
                    j->params[part], GB_ROW_HEAD + j->most_bindings);
        gb_text_add(t, "for (int u_ = first; u_ < last; u_++) { "
                       "int gb_at[3] = {u_ %% x_, u_ / x_ %% y_, u_ / x_ / y_}; ");
        gb_text_add(t, "GB_PASTE(gb_kernel, _run_%d)(", part);
        for (int i = 0; i < j->bindings[part]; i++) gb_text_add(t, "(__global void *)c%d, ", i);
        gb_text_add(t, "q, gb_at); } break; }");
    }
    gb_text_add(t, " \\\n    }\n");
}

/* In turns a work-item is all items of all parts: gb_at is one's global number. */
static const char turns_macros[] =
    "#define GB_PART_GROUP(at, d, x, y, z) (at[d] / ((d) == 0 ? x : (d) == 1 ? y : z))\n"
    "#define GB_PART_LOCAL(at, d, x, y, z) (at[d] % ((d) == 0 ? x : (d) == 1 ? y : z))\n"
    "#define GB_PART_GLOBAL(at, d) at[d]\n";

/* Side by side groups stay groups: gb_at is one's number. */
static const char side_macros[] =
    "#define GB_PART_GROUP(at, d, x, y, z) at[d]\n"
    "#define GB_PART_LOCAL(at, d, x, y, z) ((int)get_local_id(d))\n"
    "#define GB_PART_GLOBAL(at, d) (at[d] * (int)get_local_size(d) + (int)get_local_id(d))\n";

/* What the bodies call the words of the parameters. */
static const struct {
    const char *name;
    int word;
} places[] = {{"TAKEN", GB_JOINT_TAKEN},     {"DONE", GB_JOINT_DONE},   {"LEFT", GB_JOINT_LEFT},
              {"TICKETS", GB_JOINT_TICKETS}, {"BEGUN", GB_JOINT_BEGUN}, {"ROWS", GB_JOINT_ROWS},
              {"UNITS", GB_ROW_UNITS},       {"CHUNK", GB_ROW_CHUNK},   {"BEFORE", GB_ROW_BEFORE},
              {"AFTER", GB_ROW_AFTER},       {"CHAIN", GB_ROW_CHAIN},   {"ENDED", GB_ROW_ENDED}};

void gb_gk_frame_joint(const gb_joint_text *j, gb_text *t)
{
    gb_text_add(t, "%s", j->in_turns ? turns_macros : side_macros);
    for (int part = 0; part < j->n_parts; part++) {
        gb_text_add(t, "#define GB_PART(x) GB_PASTE(gb_kernel, _##x##_%d)\n%s", part,
                    j->part[part]);
        gb_text_undefine(t, j->part[part]);
        gb_text_add(t, "#undef GB_PART\n");
    }
    gb_text_add(t, "#define PARAM(i) p[i]\n#define GB_GROUP(d) ((int)get_group_id(d))\n"
                   "#define GB_GROUPS ((int)get_num_groups(0))\n");
    gb_text_add(t, "#define ROW_WORDS %d\n", GB_ROW_HEAD + j->most_bindings + j->most_params);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        gb_text_add(t, "#define %s %d\n", places[i].name, places[i].word);
    gb_text_add(t, "#define BUFFER(i) (");
    for (int i = 0; i + 1 < j->n_buffers; i++) gb_text_add(t, "(i) == %d ? a%d : ", i, i);
    gb_text_add(t, "a%d)\n", j->n_buffers - 1);
    joint_call(j, t);
    gb_text_add(t,
                "#define GB_MAIN_BEGIN __kernel \\\n"
                "__attribute__((reqd_work_group_size(%u, %u, %u))) void gb_kernel( \\\n",
                j->local[0], j->local[1], j->local[2]);
    for (int i = 0; i < j->n_buffers; i++) gb_text_add(t, "    __global float *a%d, \\\n", i);
    gb_text_add(t, "    %s int *p) {\n#define GB_MAIN_END }\n%s",
                j->in_turns ? "__global" : "__constant",
                j->in_turns ? gb_shader_joint_turns : gb_shader_joint);
}
