#include "backends/gpu/frame.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/gpu/shaders.h"
#include "core/base/half.h"

static void text_add_v(gb_text *t, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int need = vsnprintf(NULL, 0, format, args);
    if (need >= 0 && !t->failed && t->n + (size_t)need + 1 > t->cap) {
        size_t cap = (t->n + (size_t)need + 1) * 2;
        char *data = realloc(t->data, cap);
        if (data)
            t->data = data, t->cap = cap;
        else
            t->failed = true;
    }
    if (need < 0) t->failed = true;
    if (!t->failed) t->n += (size_t)vsnprintf(t->data + t->n, t->cap - t->n, format, again);
    va_end(again);
}

void gb_text_add(gb_text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text_add_v(t, format, args);
    va_end(args);
}

void gb_text_free(gb_text *t)
{
    free(t->data);
    *t = (gb_text){0};
}

void gb_gk_begin(gb_gk *k, gb_gpu_builder *b)
{
    *k = (gb_gk){.b = b, .local = {1, 1, 1}};
}

void gb_gk_begin_offline(gb_gk *k, gb_gpu_builder *b)
{
    gb_gk_begin(k, b);
    k->offline = true;
    k->n_constants = 1; /* the first one is the size of a work-group */
}

void gb_gk_drop(gb_gk *k)
{
    gb_text_free(&k->defs);
    gb_text_free(&k->shared);
    gb_text_free(&k->parts);
}

static void fail(gb_gk *k, const char *why)
{
    if (k->status == GB_OK)
        k->status = gb_fail(k->b->err, GB_UNSUPPORTED, k->b->step->path, NULL, "%s step: %s",
                            gb_step_kind_name(k->b->step->kind), why);
}

void gb_gk_local(gb_gk *k, uint32_t x, uint32_t y, uint32_t z)
{
    k->local[0] = x, k->local[1] = y, k->local[2] = z;
}

void gb_gk_define(gb_gk *k, const char *name, const char *format, ...)
{
    va_list args;
    gb_text_add(&k->defs, "#define %s ", name);
    va_start(args, format);
    text_add_v(&k->defs, format, args);
    va_end(args);
    gb_text_add(&k->defs, "\n");
}

static int add_param(gb_gk *k, int64_t value)
{
    if (value < INT32_MIN || value > INT32_MAX) fail(k, "a size or stride exceeds 32 bits");
    if (k->n_params == GB_GK_MAX_PARAMS) fail(k, "it needs too many parameters");
    if (k->status != GB_OK) return 0;
    k->param[k->n_params] = (int32_t)value;
    return k->n_params++;
}

void gb_gk_param(gb_gk *k, const char *name, int64_t value)
{
    gb_gk_define(k, name, "PARAM(%d)", add_param(k, value));
}

/* The index of the binding; equal windows share one. */
static int add_binding(gb_gk *k, gb_gpu_binding w, gb_storage storage)
{
    for (int i = 0; i < k->n_bindings; i++) {
        gb_gpu_binding *o = &k->binding[i];
        if (k->apart || o->buffer != w.buffer || o->offset != w.offset || o->bytes != w.bytes ||
            k->storage[i] != storage)
            continue;
        o->read = o->read || w.read;
        o->write = o->write || w.write;
        return i;
    }
    if (k->n_bindings == GB_GPU_MAX_BINDINGS) fail(k, "it needs too many buffers");
    if (k->status != GB_OK) return 0;
    k->binding[k->n_bindings] = w;
    k->storage[k->n_bindings] = storage;
    k->base[k->n_bindings] = -1;
    return k->n_bindings++;
}

static void define_access(gb_gk *k, const char *name, int binding, gb_storage storage, int base)
{
    static const char *const load[][GB_S_COUNT] = {
        {"b%d[PARAM(%d) + (i)]", "b%d[PARAM(%d) + (i)]", "GB_LOAD_F16(b%d, PARAM(%d) + (i))",
         "GB_LOAD_BF16(b%d, PARAM(%d) + (i))"},
        {"b%d[PARAM(%d) + (i)] = GB_FLOAT(v)", "b%d[PARAM(%d) + (i)] = GB_INT(v)",
         "GB_STORE_F16(b%d, PARAM(%d) + (i), v)", "GB_STORE_BF16(b%d, PARAM(%d) + (i), v)"}};
    char text[96];
    snprintf(text, sizeof text, load[0][storage], binding, base);
    gb_text_add(&k->defs, "#define LD_%s(i) (%s)\n", name, text);
    snprintf(text, sizeof text, load[1][storage], binding, base);
    gb_text_add(&k->defs, "#define ST_%s(i, v) %s\n", name, text);
    /* the address of an element, for bodies that load vectors */
    gb_text_add(&k->defs, "#define BUF_%s b%d\n#define AT_%s PARAM(%d)\n", name, binding, name,
                base);
}

static void bind_window(gb_gk *k, const char *name, gb_gpu_binding w, uint64_t first,
                        gb_storage storage)
{
    uint64_t start = gb_gpu_bind_offset(k->b->caps, &w);
    int binding = add_binding(k, w, storage), *base = &k->base[binding];
    const int64_t offset = (int64_t)((first - start) / gb_storage_size(storage));
    /* In place: one parameter, so that compilers see that loads and stores meet at equal indices.
     */
    if (k->status == GB_OK && (*base < 0 || k->param[*base] != offset))
        *base = add_param(k, offset);
    define_access(k, name, binding, storage, *base);
    if (k->n_names == (int)(sizeof k->name / sizeof *k->name))
        fail(k, "it needs too many operands");
    if (k->status != GB_OK) return;
    snprintf(k->name[k->n_names].text, sizeof k->name->text, "%s", name);
    k->name[k->n_names++].binding = binding;
}

static void define_vector_store(gb_gk *k, const char *name, int binding, int width, const char *at)
{
    gb_text_add(&k->defs, "#define ST%d_%s(i, v) ", width, name);
    if (k->b->caps->api == GB_GPU_HOST)
        gb_text_add(&k->defs, "((GB_V%d *)BUF_%s)[%s] = v\n", width, name, at);
    else if (k->b->caps->api == GB_GPU_OPENCL)
        gb_text_add(&k->defs, "vstore%d(v, %s, BUF_%s)\n", width, at, name);
    else
        gb_text_add(&k->defs, "b%dw%d[%s] = v\n", binding, width, at);
}

/* -1: an earlier failure. */
static int binding_of(const gb_gk *k, const char *name)
{
    int binding = -1;
    for (int i = 0; i < k->n_names; i++)
        if (strcmp(k->name[i].text, name) == 0) binding = k->name[i].binding;
    return binding;
}

void gb_gk_halves(gb_gk *k, const char *name, int width)
{
    const int binding = binding_of(k, name);
    if (binding < 0) return;
    const gb_gpu_api api = k->b->caps->api;
    gb_text *t = &k->defs;
    k->uses_half = true;
    k->views[binding] |= width == 4 ? 4 : 0;
    if (api == GB_GPU_OPENCL)
        gb_text_add(t,
                    "#define LDH_%s(i) ((__global const ushort *)BUF_%s)[AT_%s + (i)]\n"
                    "#define LDH4_%s(i) vload4((AT_%s + (i)) / 4, (__global const ushort *)BUF_%s)\n",
                    name, name, name, name, name, name);
    else
        gb_text_add(t, "#define LDH_%s(i) BUF_%s[AT_%s + (i)]\n", name, name, name);
    if (api == GB_GPU_HOST)
        gb_text_add(t, "#define LDH4_%s(i) ((const GB_H4 *)BUF_%s)[(AT_%s + (i)) / 4]\n", name,
                    name, name);
    else if (api == GB_GPU_VULKAN)
        gb_text_add(t, "#define LDH4_%s(i) b%dw4[(AT_%s + (i)) / 4]\n", name, binding, name);
}

void gb_gk_vectors(gb_gk *k, const char *name, int width)
{
    const int binding = binding_of(k, name);
    if (binding < 0) return;
    char at[64];
    snprintf(at, sizeof at, "(AT_%s + (i)) / %d", name, width);
    k->views[binding] |= (uint8_t)width;
    if (k->binding[binding].write) define_vector_store(k, name, binding, width, at);
    if (k->b->caps->api == GB_GPU_HOST)
        gb_text_add(&k->defs, "#define LD%d_%s(i) ((const GB_V%d *)BUF_%s)[%s]\n", width, name,
                    width, name, at);
    else if (k->b->caps->api == GB_GPU_OPENCL)
        gb_text_add(&k->defs, "#define LD%d_%s(i) vload%d(%s, BUF_%s)\n", width, name, width, at,
                    name);
    else if (width == 2 && gb_gk_pairs_as_words(k))
        gb_text_add(&k->defs, "#define LD2_%s(i) uintBitsToFloat(unpackUint2x32(b%dw2[%s]))\n",
                    name, binding, at);
    else
        gb_text_add(&k->defs, "#define LD%d_%s(i) b%dw%d[%s]\n", width, name, binding, width, at);
}

void gb_gk_eights(gb_gk *k, const char *name)
{
    const int binding = binding_of(k, name);
    if (binding < 0) return;
    const bool host = k->b->caps->api == GB_GPU_HOST;
    gb_text_add(&k->defs, "#define RAW_%s(i) %s(BUF_%s[AT_%s + (i)])\n", name,
                host ? "(uint)" : "uint", name, name);
    if (host) {
        gb_text_add(&k->defs, "#define LD8_%s(i) (*(const GB_H8 *)(BUF_%s + AT_%s + (i)))\n", name,
                    name, name);
    } else {
        k->views[binding] |= 8;
        gb_text_add(&k->defs, "#define LD8_%s(i) b%dw8[(AT_%s + (i)) / 8]\n", name, binding, name);
    }
}

void gb_gk_constant(gb_gk *k, const char *name, int value)
{
    if (!k->offline) {
        gb_gk_define(k, name, "%d", value);
        return;
    }
    if (k->n_constants == GB_GPU_MAX_CONSTANTS) fail(k, "it has too many constants");
    if (k->status != GB_OK) return;
    gb_text_add(&k->defs, "layout(constant_id = %d) const int %s = 16;\n", k->n_constants, name);
    k->constant[k->n_constants++] = value;
}

void gb_gk_operand(gb_gk *k, const char *name, const gb_operand *o, gb_gk_access access)
{
    int64_t lo = 0, hi = 0;
    for (int d = 0; d < o->rank; d++) {
        int64_t reach = (o->dim[d] > 0 ? o->dim[d] - 1 : 0) * o->stride[d];
        if (reach < 0)
            lo += reach;
        else
            hi += reach;
    }
    int64_t size = (int64_t)gb_storage_size(o->storage);
    gb_gpu_binding w = {.buffer = o->buffer,
                        .offset = o->offset + (uint64_t)(lo * size),
                        .bytes = (uint64_t)((hi - lo + 1) * size),
                        .read = access & GB_READ,
                        .write = access & GB_WRITE};
    bind_window(k, name, w, o->offset, o->storage);
}

void gb_gk_scratch(gb_gk *k, const char *name, uint64_t offset, int64_t count, gb_storage storage,
                   gb_gk_access access)
{
    const gb_operand *s = &k->b->step->scratch;
    gb_gpu_binding w = {.buffer = s->buffer,
                        .offset = s->offset + offset,
                        .bytes = (uint64_t)count * gb_storage_size(storage),
                        .read = access & GB_READ,
                        .write = access & GB_WRITE};
    if (s->buffer < 0) fail(k, "the plan gives it no scratch memory");
    bind_window(k, name, w, w.offset, storage);
}

void gb_gk_packed(gb_gk *k, const char *name, uint64_t offset, int64_t count, gb_gk_access access)
{
    const gb_step *s = k->b->step;
    if (!s->packed_bytes) {
        gb_gk_scratch(k, name, k->b->packed_at + offset, count, GB_S_F32, access);
        return;
    }
    gb_gpu_binding w = {.buffer = s->packed.buffer,
                        .offset = s->packed.offset + offset,
                        .bytes = (uint64_t)count * 4,
                        .read = access & GB_READ,
                        .write = access & GB_WRITE};
    k->once = k->once || w.write;
    bind_window(k, name, w, w.offset, GB_S_F32);
}

void gb_gk_shared(gb_gk *k, const char *type, const char *name, int count)
{
    static const char *const space[] = {
        [GB_GPU_OPENCL] = "__local", [GB_GPU_VULKAN] = "shared", [GB_GPU_HOST] = "static"};
    gb_text_add(&k->shared, "%s %s %s[%d];\n", space[k->b->caps->api], type, name, count);
}

/* --- parts --- */

void gb_gk_begin_parts(gb_gk *k)
{
    k->common_defs = k->defs.n;
}

void gb_gk_part(gb_gk *k, const char *text)
{
    if (k->defs.failed) return;
    const char *own = k->defs.data ? k->defs.data + k->common_defs : "";
    gb_text_add(&k->parts, "%s%s", own, text);
    gb_text_undefine(&k->parts, own);
    k->defs.n = k->common_defs;
    if (k->defs.data) k->defs.data[k->defs.n] = 0;
}

/* The body with its parts in it. */
static void splice(gb_gk *k, const char *body, gb_text *whole)
{
    static const char mark[] = "    GB_PARTS\n";
    const char *at = strstr(body, mark);
    if (!at) {
        fail(k, "its body has no place for parts");
        return;
    }
    gb_text_add(whole, "%.*s%s%s", (int)(at - body), body, k->parts.data, at + sizeof mark - 1);
    whole->failed = whole->failed || k->parts.failed;
}

/* --- expressions --- */

/* Short constants are part of the text. Others (one over the number of pixels, say) differ from
 * layer to layer and would make kernels of one expression many: they become parameters. */
static bool short_constant(float v)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%.4g", (double)v);
    return !isfinite(v) || strtof(digits, NULL) == v;
}

static void add_float(gb_gk *k, double imm)
{
    float v = (float)imm;
    char digits[32];
    snprintf(digits, sizeof digits, "%.9g", (double)v);
    gb_text *t = &k->defs;
    if (isnan(v))
        gb_text_add(t, "GB_NAN");
    else if (isinf(v))
        gb_text_add(t, v > 0 ? "GB_INF" : "(-GB_INF)");
    else if (!short_constant(v))
        gb_text_add(t, "GB_FROM_BITS(PARAM(%d))", add_param(k, (int32_t)gb_f32_bits(v)));
    else
        gb_text_add(t, v < 0 ? "(%s%sf)" : "%s%sf", digits, strpbrk(digits, ".e") ? "" : ".0");
}

static void add_leaf(gb_gk *k, const gb_enode *n, const char *const *in, const char *const *coord)
{
    gb_text *t = &k->defs;
    int imm = (int)n->imm;
    if (n->prim == GB_P_INPUT)
        gb_text_add(t, "%s", in[imm]);
    else if (n->prim == GB_P_CONST)
        add_float(k, n->imm);
    else if (n->prim == GB_P_ICONST && imm == INT32_MIN)
        gb_text_add(t, "(-2147483647 - 1)");
    else if (n->prim == GB_P_ICONST)
        gb_text_add(t, imm < 0 ? "(%d)" : "%d", imm);
    else if (n->prim == GB_P_COORD)
        gb_text_add(t, "%s", coord[imm]);
    else if (n->prim == GB_P_SCALAR)
        gb_text_add(t, "GB_FROM_BITS(LD_scalars(%d))", imm);
    else
        gb_text_add(t, "LD_scalars(%d)", imm);
}

/* $0…$3 are the arguments' variables, $4 the immediate. */
static void add_call(gb_gk *k, const gb_enode *n)
{
    const gb_prim_info *p = &gb_prims[n->prim];
    for (const char *s = k->b->caps->api == GB_GPU_VULKAN ? p->glsl : p->opencl; *s; s++) {
        if (*s != '$')
            gb_text_add(&k->defs, "%c", *s);
        else if (*++s == '4')
            gb_text_add(&k->defs, "%uu", (uint32_t)n->imm);
        else
            gb_text_add(&k->defs, "v%d", n->arg[*s - '0']);
    }
}

static bool needs_math(gb_prim p)
{
    return (p >= GB_P_SQRT && p <= GB_P_ERF) || p == GB_P_POW || p == GB_P_FMOD;
}

/* The buffer of step scalars, as words. */
static void bind_scalars(gb_gk *k)
{
    gb_operand o = {.buffer = k->b->plan->scalars_buffer,
                    .storage = GB_S_I32,
                    .rank = 1,
                    .dim = {k->b->plan->n_scalars},
                    .stride = {1}};
    gb_gk_operand(k, "scalars", &o, GB_READ);
}

void gb_gk_expr(gb_gk *k, const char *macro, const gb_expr *expr, const char *const *in,
                const char *const *coord)
{
    if (gb_expr_uses(expr, GB_P_SCALAR) || gb_expr_uses(expr, GB_P_ISCALAR)) bind_scalars(k);
    gb_text_add(&k->defs, "#define %s", macro);
    for (int i = 0; i < expr->n_nodes; i++) {
        const gb_enode *n = &expr->node[i];
        gb_text_add(&k->defs, " \\\n    %s v%d = ", n->type == 'i' ? "int" : "GB_F", i);
        if (gb_prim_arity(n->prim))
            add_call(k, n);
        else
            add_leaf(k, n, in, coord);
        gb_text_add(&k->defs, ";");
        k->uses_random = k->uses_random || n->prim == GB_P_RANDOM;
        k->uses_math = k->uses_math || needs_math(n->prim);
    }
    for (int i = 0; i < expr->n_out; i++)
        gb_text_add(&k->defs, " \\\n    %s r%d = v%d;",
                    expr->node[expr->out[i]].type == 'i' ? "int" : "GB_F", i, expr->out[i]);
    gb_text_add(&k->defs, "\n");
}

/* --- kernels and launches of a program --- */

static bool grow(gb_arena *arena, void **array, int n, int *cap, size_t size)
{
    if (n < *cap) return true;
    int more = *cap ? *cap * 2 : 64;
    void *wider = gb_arena_alloc(arena, (size_t)more * size);
    if (!wider) return false;
    if (n) memcpy(wider, *array, (size_t)n * size);
    *array = wider;
    *cap = more;
    return true;
}

static int find_kernel(const gb_gpu_program *p, const gb_gpu_kernel *k, uint64_t hash,
                       const char *source)
{
    for (int i = 0; i < p->n_kernels; i++) {
        const gb_gpu_kernel *o = &p->kernel[i];
        if (o->hash == hash && strcmp(o->source, source) == 0 &&
            memcmp(o->constant, k->constant, sizeof k->constant) == 0)
            return i;
    }
    return -1;
}

static void find_module(gb_gpu_kernel *k)
{
    for (int i = 0; i < gb_spirv_count; i++) {
        if (gb_spirv[i].text != k->hash) continue;
        k->spirv = gb_spirv[i].word;
        k->spirv_words = gb_spirv[i].words;
    }
}

/* Where it is new it has no part yet. The index of the kernel, or -1 where memory is out. */
int gb_gpu_add_kernel(gb_gpu_builder *b, const gb_gpu_kernel *k, const gb_text *text)
{
    gb_gpu_program *p = b->program;
    uint64_t hash = gb_gpu_hash(text->data, text->n, 0);
    int known = find_kernel(p, k, hash, text->data);
    if (known >= 0) return known;
    gb_gpu_kernel *to = NULL;
    if (grow(b->arena, (void **)&p->kernel, p->n_kernels, &b->cap_kernels, sizeof *p->kernel))
        to = &p->kernel[p->n_kernels];
    if (!to) return -1;
    *to = *k;
    to->hash = hash;
    if (to->n_constants) find_module(to);
    to->source = gb_arena_copy(b->arena, text->data, text->n + 1);
    to->name = gb_arena_string(b->arena, k->name);
    return to->source && to->name ? p->n_kernels++ : -1;
}

/* Characters of a text that takes compilers long, as those of Winograd do: alone it is built once and
 * for all, joined again for every company. */
enum { LONG_PART = 8000 };

static int add_kernel(gb_gk *k, const char *name, const char *body, bool params_buffer)
{
    gb_gpu_program *p = k->b->program;
    gb_text text = {0}, part = {0}, whole = {0};
    int before = p->n_kernels, index = -1;
    if (k->parts.n) splice(k, body, &whole);
    if (whole.data) body = whole.data;
    gb_gk_frame(k, &text, body, params_buffer);
    gb_gpu_kernel kernel = {.name = name,
                            .shared = k->common,
                            .local = {k->local[0], k->local[1], k->local[2]},
                            .n_bindings = k->n_bindings,
                            .n_params = k->n_params,
                            .params_buffer = params_buffer,
                            .n_constants = k->n_constants,
                            .subgroup = k->offline ? k->b->caps->matrix.subgroup : 0};
    memcpy(kernel.constant, k->constant, sizeof kernel.constant);
    if (k->offline) kernel.constant[0] = (int32_t)k->local[0];
    if (k->status == GB_OK && !text.failed && !k->defs.failed && !k->shared.failed && !whole.failed)
        index = gb_gpu_add_kernel(k->b, &kernel, &text);
    if (index == before) {
        gb_gk_frame_part(k, &part, body);
        const bool joins = part.n && part.n <= LONG_PART;
        if (joins) p->kernel[index].part = gb_arena_copy(k->b->arena, part.data, part.n + 1);
        if (part.failed || (joins && !p->kernel[index].part)) index = -1;
    }
    gb_text_free(&text);
    gb_text_free(&part);
    gb_text_free(&whole);
    return index;
}

static bool add_launch(gb_gk *k, int kernel, const int64_t groups[3])
{
    gb_gpu_program *p = k->b->program;
    gb_gpu_launch l = {
        .step = k->b->step_index, .kernel = kernel, .once = k->once || k->b->step->once};
    for (int d = 0; d < 3; d++) l.groups[d] = (uint32_t)groups[d];
    l.binding = gb_arena_copy(k->b->arena, k->binding, (size_t)k->n_bindings * sizeof *l.binding);
    l.params = gb_arena_copy(k->b->arena, k->param, (size_t)(k->n_params + 1) * sizeof *l.params);
    if (!l.binding || !l.params ||
        !grow(k->b->arena, (void **)&p->launch, p->n_launches, &k->b->cap_launches,
              sizeof *p->launch))
        return false;
    p->launch[p->n_launches++] = l;
    return true;
}

static void check_limits(gb_gk *k, const int64_t groups[3])
{
    const gb_gpu_caps *c = k->b->caps;
    for (int d = 0; d < 3; d++)
        if (groups[d] < 1 || groups[d] > c->max_groups[d]) fail(k, "its grid exceeds the device's");
    if (c->max_bindings && (uint32_t)k->n_bindings + 1 > c->max_bindings)
        fail(k, "it needs more buffers than the device's kernels can bind");
    for (int i = 0; i < k->n_bindings; i++)
        if (c->max_binding && k->binding[i].bytes > c->max_binding)
            fail(k, "an operand is larger than the device can bind");
}

gb_status gb_gk_finish(gb_gk *k, const char *name, const char *body, const int64_t groups[3])
{
    bool params_buffer = (uint32_t)k->n_params * 4 > k->b->caps->max_params;
    check_limits(k, groups);
    if (k->status == GB_OK) {
        int kernel = add_kernel(k, name, body, params_buffer);
        if (k->status == GB_OK && (kernel < 0 || !add_launch(k, kernel, groups)))
            k->status = gb_fail(k->b->err, GB_OUT_OF_MEMORY, k->b->step->path, NULL,
                                "no memory for the text of a kernel");
    }
    gb_gk_drop(k);
    return k->status;
}
