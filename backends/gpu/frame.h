/* What stands around a kernel's body. */
#ifndef GB_BACKENDS_GPU_FRAME_H
#define GB_BACKENDS_GPU_FRAME_H

#include "backends/gpu/kernel.h"

/* The whole text; sets k->common. */
void gb_gk_frame(gb_gk *k, gb_text *t, const char *body, bool params_buffer);
/* The same as a function that a joint kernel calls (join.c); nothing where it cannot be one. */
void gb_gk_frame_part(const gb_gk *k, gb_text *t, const char *body);
/* Ends the macros that lines of source define. */
void gb_text_undefine(gb_text *t, const char *source);
bool gb_gk_pairs_as_words(const gb_gk *k);

enum {
    GB_JOINT_HEAD = 4
}; /* words of a row before its buffers: first unit, part, groups x and y */

typedef struct gb_joint_text {    /* a kernel that calls parts, see shaders/joint.gk */
    const char *const *part;      /* texts of gb_gk_frame_part */
    const int *bindings, *params; /* of each part: how many */
    int n_parts, n_buffers, most_bindings, most_params;
    const uint32_t *local;
    bool in_row;
} gb_joint_text;

/* Appended to what the parts have in common. */
void gb_gk_frame_joint(const gb_joint_text *j, gb_text *t);

#endif
