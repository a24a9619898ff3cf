#include "backends/gpu/space.h"

#include <stdio.h>
#include <string.h>

void gb_space_op(gb_space *s, const char *name, const int64_t *stride)
{
    int op = s->n_ops++;
    for (int d = 0; d < s->rank; d++) s->stride[op][d] = stride[d];
    snprintf(s->name[op], sizeof s->name[op], "%s", name);
}

void gb_space_add(gb_space *s, const char *prefix, int index, const gb_operand *o, int first)
{
    char name[16];
    snprintf(name, sizeof name, "%s%d", prefix, index);
    gb_space_op(s, name, o->stride + first);
}

void gb_space_fix(gb_space *s, const gb_expr *expr)
{
    for (int i = 0; i < expr->n_nodes; i++)
        for (int d = 0; d < s->rank; d++)
            if (expr->node[i].prim == GB_P_COORD && (int)expr->node[i].imm == s->axis[d])
                s->fixed[d] = true;
}

static void copy_dim(gb_space *s, int to, const gb_space *from, int d)
{
    s->dim[to] = from->dim[d];
    s->axis[to] = from->axis[d];
    s->fixed[to] = from->fixed[d];
    for (int op = 0; op < s->n_ops; op++) s->stride[op][to] = from->stride[op][d];
}

static int64_t width(const gb_space *s, int lead, int d)
{
    int64_t v = s->stride[lead][d];
    return v < 0 ? -v : v;
}

static bool mergeable(const gb_space *s, int outer, int inner)
{
    if (s->fixed[outer] || s->fixed[inner]) return false;
    for (int op = 0; op < s->n_ops; op++)
        if (s->stride[op][outer] != s->stride[op][inner] * s->dim[inner]) return false;
    return true;
}

void gb_space_collapse(gb_space *s, int lead)
{
    int order[GB_MAX_RANK], n = 0;
    for (int d = 0; d < s->rank; d++) {
        if (s->dim[d] == 1) continue;
        int at = n++;
        for (; at > 0 && width(s, lead, order[at - 1]) < width(s, lead, d); at--)
            order[at] = order[at - 1];
        order[at] = d;
    }
    gb_space old = *s;
    s->rank = 0;
    for (int i = 0; i < n; i++) {
        copy_dim(s, s->rank, &old, order[i]);
        if (s->rank > 0 && mergeable(s, s->rank - 1, s->rank)) {
            int64_t outer = s->dim[s->rank - 1];
            copy_dim(s, s->rank - 1, &old, order[i]);
            s->dim[s->rank - 1] *= outer;
        } else {
            s->rank++;
        }
    }
}

void gb_space_squeeze(gb_space *s)
{
    gb_space old = *s;
    s->rank = 0;
    for (int d = 0; d < old.rank; d++)
        if (old.dim[d] != 1) copy_dim(s, s->rank++, &old, d);
}

int64_t gb_space_count(const gb_space *s)
{
    int64_t n = 1;
    for (int d = 0; d < s->rank; d++) n *= s->dim[d];
    return n;
}

int64_t gb_space_pop(gb_space *s, int64_t *step, int *axis)
{
    *axis = -1;
    for (int op = 0; op < s->n_ops; op++) step[op] = s->rank ? s->stride[op][s->rank - 1] : 0;
    if (s->rank == 0) return 1;
    s->rank--;
    if (s->fixed[s->rank]) *axis = s->axis[s->rank];
    return s->dim[s->rank];
}

void gb_space_walk(gb_gk *k, const gb_space *s, const char *macro, const char *prefix)
{
    char name[32];
    for (int d = 0; d < s->rank; d++) {
        snprintf(name, sizeof name, "%s_D%d", macro, d);
        gb_gk_param(k, name, s->dim[d]);
        for (int op = 0; op < s->n_ops; op++) {
            snprintf(name, sizeof name, "%s_S%d_%s", macro, d, s->name[op]);
            if (s->stride[op][d]) gb_gk_param(k, name, s->stride[op][d]);
        }
    }
    gb_text *t = &k->defs;
    gb_text_add(t, "#define %s(index_) \\\n    int %sq = (index_);", macro, prefix);
    for (int op = 0; op < s->n_ops; op++) gb_text_add(t, " int %sat_%s = 0;", prefix, s->name[op]);
    for (int d = s->rank - 1; d >= 0; d--) {
        if (d > 0)
            gb_text_add(t, " \\\n    int %sd%d = %sq %% %s_D%d; %sq /= %s_D%d;", prefix, d, prefix,
                        macro, d, prefix, macro, d);
        else
            gb_text_add(t, " \\\n    int %sd0 = %sq;", prefix, prefix);
        for (int op = 0; op < s->n_ops; op++)
            if (s->stride[op][d])
                gb_text_add(t, " %sat_%s += %sd%d * %s_S%d_%s;", prefix, s->name[op], prefix, d,
                            macro, d, s->name[op]);
        if (s->fixed[d]) gb_text_add(t, " int c_%d = %sd%d;", s->axis[d], prefix, d);
    }
    gb_text_add(t, "\n");
}

static bool walks(const gb_space *s, int axis)
{
    for (int d = 0; s && d < s->rank; d++)
        if (s->fixed[d] && s->axis[d] == axis) return true;
    return false;
}

void gb_space_coord(char text[16], int axis, const gb_space *a, const gb_space *b, int inner_axis)
{
    if (axis == inner_axis)
        snprintf(text, 16, "i");
    else if (walks(a, axis) || walks(b, axis))
        snprintf(text, 16, "c_%d", axis);
    else
        snprintf(text, 16, "0");
}
