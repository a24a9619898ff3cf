#include "backends/gpu/value.h"

#include "backends/gpu/manifest.h"

bool gb_fours(const gb_operand *o, int axis, gb_storage kept)
{
    if (o->storage != kept || o->offset % (4 * gb_storage_size(kept)) || o->stride[axis] != 1 ||
        o->dim[axis] % 4)
        return false;
    for (int d = 0; d < o->rank; d++)
        if (d != axis && o->dim[d] > 1 && o->stride[d] % 4) return false;
    return true;
}

gb_value_width gb_value_choose(const gb_gpu_caps *caps, int64_t channels)
{
    if (gb_gpu_wide_items(caps) && channels % 16 == 0) return GB_WIDE;
    return channels % 4 == 0 ? GB_FOUR : GB_ONE;
}

void gb_value_define(gb_gk *k, gb_value_width width)
{
    static const char *const text[][5] = {
        {"float", "0.0f", "fma(x_, y_, a_)", "array_[i_] = v_", "array_[i_]"},
        {"GB_V4", "GB_SPLAT4(0.0f)", "GB_FMA4(x_, y_, a_)",
         "array_[i_] = (v_).x; array_[(i_) + 1] = (v_).y; array_[(i_) + 2] = (v_).z; "
         "array_[(i_) + 3] = (v_).w",
         "GB_MAKE4(array_[i_], array_[(i_) + 1], array_[(i_) + 2], array_[(i_) + 3])"},
        {"GB_VEC", "GB_VEC_ZERO", "GB_VEC_FMA(x_, y_, a_)", "GB_VEC_PUT(v_, array_, i_)",
         "GB_VEC_LOAD(array_, i_)"}};
    const char *const *t = text[width == GB_ONE ? 0 : width == GB_FOUR ? 1 : 2];
    gb_gk_define(k, "WIDE", "%d", (int)width);
    gb_gk_define(k, "VALUE", "%s", t[0]);
    gb_gk_define(k, "ZERO", "%s", t[1]);
    gb_gk_define(k, "VALUE_FMA(x_, y_, a_)", "%s", t[2]);
    gb_gk_define(k, "SPREAD(v_, array_, i_)", "%s", t[3]);
    gb_gk_define(k, "GATHER(array_, i_)", "%s", t[4]);
}

void gb_value_load(gb_gk *k, const char *macro, const char *name, gb_storage storage, bool whole,
                   gb_value_width width)
{
    const char *type = storage == GB_S_F16 ? "_F16" : storage == GB_S_BF16 ? "_BF16" : "";
    gb_text *t = &k->defs;
    gb_text_add(t, "#define %s(i_) ", macro);
    if (width == GB_WIDE) {
        gb_text_add(t, "GB_VEC_LOAD%s(BUF_%s, AT_%s + (i_))\n", type, name, name);
    } else if (width == GB_ONE) {
        gb_text_add(t, "LD_%s(i_)\n", name);
    } else if (whole) {
        gb_text_add(t, "LD4_%s(i_)\n", name);
        gb_gk_vectors(k, name, 4);
    } else {
        gb_text_add(t, "GB_MAKE4(LD_%s(i_), LD_%s((i_) + 1), LD_%s((i_) + 2), LD_%s((i_) + 3))\n",
                    name, name, name, name);
    }
}

void gb_value_store(gb_gk *k, const char *macro, const char *name, gb_storage storage, bool whole,
                    gb_value_width width)
{
    gb_text *t = &k->defs;
    gb_text_add(t, "#define %s(i_, array_, j_) ", macro);
    if (width == GB_FOUR && whole && storage == GB_S_F32) {
        gb_text_add(t,
                    "ST4_%s(i_, GB_MAKE4(array_[j_], array_[(j_) + 1], array_[(j_) + 2], "
                    "array_[(j_) + 3]))\n",
                    name);
        gb_gk_vectors(k, name, 4);
    } else if (width == GB_ONE) {
        gb_text_add(t, "ST_%s(i_, array_[j_])\n", name);
    } else {
        gb_text_add(t, "for (int l_ = 0; l_ < WIDE; l_++) ST_%s((i_) + l_, array_[(j_) + l_])\n",
                    name);
    }
}
