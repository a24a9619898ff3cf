/* Building one kernel: its text, its bindings and its parameters, together.
 *
 * A lowering declares what its body (shaders/NAME.gk) uses by name and never counts bindings or
 * parameter slots:
 *     gb_gk k; gb_gk_begin(&k, b);
 *     gb_gk_operand(&k, "x", &step->in[0], GB_READ);   LD_x(i) in the body
 *     gb_gk_param(&k, "COUNT", n);                     COUNT
 *     gb_gk_define(&k, "TILE", "%d", 8);               TILE, part of the text
 *     gb_gk_finish(&k, "copy.item", gb_shader_copy_item, groups);
 * Errors are sticky and surface in gb_gk_finish. */
#ifndef GB_BACKENDS_GPU_KERNEL_H
#define GB_BACKENDS_GPU_KERNEL_H

#include "backends/gpu/gpu.h"
#include "core/base/arena.h"

#define GB_GK_MAX_PARAMS 240

typedef struct gb_text { /* a growing string */
    char *data;
    size_t n, cap;
    bool failed;
} gb_text;

void gb_text_add(gb_text *t, const char *format, ...) GB_PRINTF(2, 3);
void gb_text_free(gb_text *t);

/* A program under construction; the state of gb_gpu_program_create. */
typedef struct gb_gpu_builder {
    const gb_gpu_caps *caps;
    const gb_plan *plan;
    const gb_step *step; /* the one being lowered, and its index */
    int step_index;
    uint64_t packed_at; /* in its scratch, where its inputs do not stay */
    gb_arena *arena;
    gb_gpu_program *program;
    int cap_kernels, cap_launches;
    gb_error *err;
} gb_gpu_builder;

typedef enum gb_gk_access { GB_READ = 1, GB_WRITE = 2 } gb_gk_access;

typedef struct gb_gk {
    gb_gpu_builder *b;
    gb_text defs;   /* #define lines */
    gb_text shared; /* declarations of shared arrays */
    gb_text parts;  /* what GB_PARTS of the body stands for */
    size_t common_defs; /* characters of defs that all parts see */
    uint32_t local[3];
    int n_bindings, n_params;
    gb_gpu_binding binding[GB_GPU_MAX_BINDINGS];
    gb_storage storage[GB_GPU_MAX_BINDINGS];
    int base[GB_GPU_MAX_BINDINGS]; /* the parameter that holds its first element's offset */
    int n_names; /* of operands, for views of their bindings */
    struct {
        char text[16];
        int binding;
    } name[2 * GB_GPU_MAX_BINDINGS];
    int32_t param[GB_GK_MAX_PARAMS];
    uint8_t views[GB_GPU_MAX_BINDINGS]; /* of each binding: its widths, or-ed: 2, 4, 8 */
    bool offline, apart; /* apart: equal windows are bindings of their own */
    int n_constants;
    int32_t constant[GB_GPU_MAX_CONSTANTS];
    bool uses_random, uses_math, uses_subgroups, uses_shuffle, uses_half;
    bool once; /* it makes what stays */
    size_t common;    /* characters of the text before what is this kernel's own */
    gb_status status; /* the first failure */
} gb_gk;

void gb_gk_begin(gb_gk *k, gb_gpu_builder *b);
/* The text is compiled offline (shaders/spirv), so it may depend on the body alone. */
void gb_gk_begin_offline(gb_gk *k, gb_gpu_builder *b);
void gb_gk_local(gb_gk *k, uint32_t x, uint32_t y, uint32_t z); /* 1, 1, 1 where not called */
void gb_gk_define(gb_gk *k, const char *name, const char *format, ...) GB_PRINTF(3, 4);
/* A parameter of the launch; values must fit 32 bits. */
void gb_gk_param(gb_gk *k, const char *name, int64_t value);
/* Binds the window that the operand touches; LD_name(i) and ST_name(i, v) take element offsets
 * from its first element. The same window bound twice is one binding (in place). */
void gb_gk_operand(gb_gk *k, const char *name, const gb_operand *o, gb_gk_access access);
/* Adds LD2_name(i) or LD4_name(i) to a bound operand of floats: width of them from element i on, which
 * must lie at a multiple of their size in the buffer; and ST4_name(i, v) where it is written. */
void gb_gk_vectors(gb_gk *k, const char *name, int width);
/* For 16-bit operands: RAW_name(i), the bits of an element, and LD8_name(i), those of eight from an
 * element on that lies at a multiple of 16 bytes. */
void gb_gk_eights(gb_gk *k, const char *name);
/* A number that the text leaves open where it is compiled offline. */
void gb_gk_constant(gb_gk *k, const char *name, int value);
/* Adds LDH_name(i), and LDH4_name(i) where width is 4, to a bound operand of halves: as they are
 * stored. */
void gb_gk_halves(gb_gk *k, const char *name, int width);
/* A part of the step's scratch, count elements from byte offset on. */
void gb_gk_scratch(gb_gk *k, const char *name, uint64_t offset, int64_t count, gb_storage storage,
                   gb_gk_access access);
/* A part of what is made of in[1] alone, the variant's `packed` bytes: see gb_gpu_variant. The kernel
 * that writes it does so once per version of the input where the plan says that it stays. */
void gb_gk_packed(gb_gk *k, const char *name, uint64_t offset, int64_t count, gb_gk_access access);
/* An array in shared memory. */
void gb_gk_shared(gb_gk *k, const char *type, const char *name, int count);
/* Defines macro as statements that compute expr: results are r0, r1, …. in[k] is the text of
 * INPUT k, coord[axis] that of COORD axis (NULL: not used). */
void gb_gk_expr(gb_gk *k, const char *macro, const gb_expr *expr, const char *const *in,
                const char *const *coord);
/* A body that does several things in one kernel has a line GB_PARTS for them. What was defined
 * before gb_gk_begin_parts is for all of it; what was defined since, or since the last part, is for
 * that part alone, so parts use what names they like. */
void gb_gk_begin_parts(gb_gk *k);
void gb_gk_part(gb_gk *k, const char *text);
/* Completes the kernel, shares it with an equal one, and adds the launch. Frees k. */
gb_status gb_gk_finish(gb_gk *k, const char *name, const char *body, const int64_t groups[3]);
/* Adds a kernel of that text to the builder's program, unless it has it: its index, or -1 where memory
 * is out. Name and text are copied. */
int gb_gpu_add_kernel(gb_gpu_builder *b, const gb_gpu_kernel *k, const gb_text *text);
/* Makes launches that can be one one (join.c); after the last step. */
gb_status gb_gpu_join(gb_gpu_builder *b);
/* As gb_gk_finish without a launch: for launches that turned out to be empty. */
void gb_gk_drop(gb_gk *k);

#endif
