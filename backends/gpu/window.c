#include "backends/gpu/window.h"

#include <stdio.h>

static void define_place(gb_gk *k, const char *name, const gb_operand *o)
{
    static const char axis[4] = {'n', 'c', 'h', 'w'};
    char param[4][32];
    for (int d = 0; d < 4; d++) {
        snprintf(param[d], sizeof param[d], "S%d_%s", d, name);
        if (o->stride[d] > 1 || o->stride[d] < 0) gb_gk_param(k, param[d], o->stride[d]);
    }
    gb_text_add(&k->defs, "#define PLACE_%s(n, c, h, w) (0", name);
    for (int d = 0; d < 4; d++) {
        if (o->stride[d] == 1)
            gb_text_add(&k->defs, " + (%c)", axis[d]);
        else if (o->stride[d] != 0)
            gb_text_add(&k->defs, " + (%c) * %s", axis[d], param[d]);
    }
    gb_text_add(&k->defs, ")\n");
}

void gb_gk_image(gb_gk *k, const char *name, const gb_operand *o, gb_gk_access access)
{
    gb_gk_operand(k, name, o, access);
    define_place(k, name, o);
}

void gb_gk_window(gb_gk *k, const gb_window *v)
{
    static const char *const names[4][2] = {{"KERNEL_H", "KERNEL_W"},
                                            {"STRIDE_H", "STRIDE_W"},
                                            {"DILATION_H", "DILATION_W"},
                                            {"PAD_H", "PAD_W"}};
    for (int d = 0; d < 2; d++) {
        gb_gk_param(k, names[0][d], v->kernel[d]);
        gb_gk_param(k, names[1][d], v->stride[d]);
        gb_gk_param(k, names[2][d], v->dilation[d]);
        gb_gk_param(k, names[3][d], v->pad[d]);
    }
}

void gb_gk_image_result(gb_gk *k, const gb_step *s)
{
    char load[GB_MAX_STEP_IN][64], name[16];
    const char *in[GB_MAX_STEP_IN] = {"acc"};
    gb_gk_image(k, "o0", &s->out[0], GB_WRITE);
    for (int i = 2; i < s->n_in; i++) {
        snprintf(name, sizeof name, "i%d", i);
        gb_gk_image(k, name, &s->in[i], GB_READ);
        snprintf(load[i], sizeof load[i], "LD_i%d(PLACE_i%d(n_, c_, h_, w_))", i, i);
        in[i - 1] = load[i];
    }
    if (s->expr) gb_gk_expr(k, "EPILOGUE(n_, c_, h_, w_)", s->expr, in, NULL);
    gb_gk_define(k, "RESULT(n_, c_, h_, w_)",
                 s->expr ? "EPILOGUE(n_, c_, h_, w_) ST_o0(PLACE_o0(n_, c_, h_, w_), r0);"
                         : "ST_o0(PLACE_o0(n_, c_, h_, w_), acc);");
}
