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

/* Words of a joint launch's parameters: counters of turns (each in a cache line of its own), then a
 * row for each launch: these, its buffers, its parameters. */
enum {
    GB_JOINT_TAKEN = 0,    /* tickets */
    GB_JOINT_DONE = 16,    /* of them */
    GB_JOINT_LEFT = 32,    /* workers that found none */
    GB_JOINT_TICKETS = 48, /* there are */
    GB_JOINT_STRIDE,       /* words of a row */
    GB_JOINT_BEGUN,        /* two words: the clock when the first one was taken */
    GB_JOINT_ROWS = 64
};
enum {
    GB_ROW_FIRST, /* its first unit, or ticket */
    GB_ROW_PART,
    GB_ROW_X, /* units along x and y */
    GB_ROW_Y,
    GB_ROW_UNITS,
    GB_ROW_CHUNK,  /* units of a ticket */
    GB_ROW_BEFORE, /* tickets of earlier turns: they must be done before it begins */
    GB_ROW_AFTER,  /* tickets up to the end of its turn */
    GB_ROW_CHAIN,  /* the ticket goes on with the next row */
    GB_ROW_ENDED,  /* two words: the clock when its turn was done */
    GB_ROW_HEAD = GB_ROW_ENDED + 2
};

typedef struct gb_joint_text {    /* a kernel that calls parts, see shaders/joint.gk */
    const char *const *part;      /* texts of gb_gk_frame_part */
    const int *bindings, *params; /* of each part: how many */
    int n_parts, n_buffers, most_bindings, most_params;
    const uint32_t *local;
    bool in_turns;
} gb_joint_text;

/* Appended to what the parts have in common. */
void gb_gk_frame_joint(const gb_joint_text *j, gb_text *t);

#endif
