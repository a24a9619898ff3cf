/* Names of steps, and sorted lists of choices. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cache.h"
#include "core/runtime/tuning.h"

/* --- names --- */

typedef struct text {
    char *at;
    size_t left;
    bool exact;
} text;

static void add(text *t, const char *format, ...) GB_PRINTF(2, 3);
static void add(text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->at, t->left, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n < t->left ? (size_t)n : t->left - 1;
    t->at += used;
    t->left -= used;
}

/* The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, …: two sizes an octave. */
static int64_t size_of(const text *t, int64_t n)
{
    int64_t power = 1;
    if (t->exact || n > INT64_MAX / 4) return n;
    while (power < n) power *= 2;
    return power >= 4 && n <= power / 4 * 3 ? power / 4 * 3 : power;
}

static const char *const storages[GB_S_COUNT] = {"f32", "i32", "f16", "bf16"};

static void add_storages(text *t, const gb_step *s)
{
    for (int i = 0; i < s->n_in; i++) add(t, "%s%s", i ? "," : " ", storages[s->in[i].storage]);
    for (int i = 0; i < s->n_out; i++) add(t, "%s%s", i ? "," : ">", storages[s->out[i].storage]);
}

/* Of the product itself; the epilogue and its operands are a number at the end. */
static void add_product(text *t, const gb_step *s)
{
    add(t, " %s*%s>%s", storages[s->in[0].storage], storages[s->in[1].storage],
        storages[s->out[0].storage]);
}

/* 'r' where rows are contiguous, 'c' where columns are, 's' where neither is. */
static char order_of(const gb_operand *o)
{
    int r = o->rank;
    return o->stride[r - 1] == 1 ? 'r' : o->stride[r - 2] == 1 ? 'c' : 's';
}

static void add_matmul(text *t, const gb_step *s)
{
    const gb_operand *c = &s->out[0];
    int r = c->rank;
    int64_t batch = 1;
    for (int i = 0; i < r - 2; i++) batch *= c->dim[i];
    add(t, " b%" PRId64 " m%" PRId64 " n%" PRId64 " k%" PRId64 " %c%c%c", size_of(t, batch),
        size_of(t, c->dim[r - 2]), size_of(t, c->dim[r - 1]), size_of(t, s->in[0].dim[r - 1]),
        order_of(&s->in[0]), order_of(&s->in[1]), order_of(c));
}

static void add_window(text *t, const gb_window *w)
{
    add(t, " k%" PRId64 "x%" PRId64 " s%" PRId64 "x%" PRId64, w->kernel[0], w->kernel[1],
        w->stride[0], w->stride[1]);
    add(t, " d%" PRId64 "x%" PRId64 " p%" PRId64 "x%" PRId64 " g%" PRId64, w->dilation[0],
        w->dilation[1], w->pad[0], w->pad[1], w->groups);
}

/* Channels are exact: kernels want multiples of their vectors, and there are few numbers of them.
 */
static void add_conv(text *t, const gb_step *s)
{
    const gb_operand *image = s->kind == GB_STEP_CONV_INPUT ? &s->out[0] : &s->in[0];
    const gb_operand *y = s->kind == GB_STEP_CONV         ? &s->out[0]
                          : s->kind == GB_STEP_CONV_INPUT ? &s->in[0]
                                                          : &s->in[1];
    add(t, " n%" PRId64 " c%" PRId64 " %" PRId64 "x%" PRId64 " o%" PRId64,
        size_of(t, image->dim[0]), image->dim[1], size_of(t, image->dim[2]),
        size_of(t, image->dim[3]), y->dim[1]);
    add_window(t, &s->u.conv);
}

static void add_dims(text *t, const int64_t *dim, int rank)
{
    for (int i = 0; i < rank; i++) add(t, "%s%" PRId64, i ? "x" : " ", size_of(t, dim[i]));
}

static void hash_operand(gb_hash *h, const gb_operand *o)
{
    int32_t head[3] = {o->buffer >= 0, (int32_t)o->storage, o->rank};
    gb_hash_bytes(h, head, sizeof head);
    gb_hash_bytes(h, o->dim, (size_t)o->rank * sizeof *o->dim);
    gb_hash_bytes(h, o->stride, (size_t)o->rank * sizeof *o->stride);
}

static void hash_expr(gb_hash *h, const gb_expr *e)
{
    for (int i = 0; e && i < e->n_nodes; i++) {
        const gb_enode *n = &e->node[i];
        gb_hash_bytes(h, &n->prim, sizeof n->prim);
        gb_hash_bytes(h, &n->type, sizeof n->type);
        gb_hash_bytes(h, n->arg, sizeof n->arg);
        gb_hash_bytes(h, &n->imm, sizeof n->imm);
    }
    if (e) gb_hash_bytes(h, e->out, (size_t)e->n_out * sizeof *e->out);
}

static uint64_t hash_step(const gb_step *s)
{
    gb_hash h = GB_HASH_INIT;
    int32_t head[3] = {s->rank, s->n_kept, s->n_red};
    for (int i = 0; i < s->n_in; i++) hash_operand(&h, &s->in[i]);
    for (int i = 0; i < s->n_out; i++) hash_operand(&h, &s->out[i]);
    gb_hash_bytes(&h, head, sizeof head);
    gb_hash_bytes(&h, s->dim, (size_t)s->rank * sizeof *s->dim);
    gb_hash_bytes(&h, s->u.conv.pad_end, sizeof s->u.conv.pad_end);
    hash_expr(&h, s->expr);
    return h.low;
}

static void name_step(const gb_step *s, bool exact, char key[GB_CHOICE_KEY])
{
    text t = {.at = key, .left = GB_CHOICE_KEY, .exact = exact};
    bool product = s->kind == GB_STEP_MATMUL;
    bool conv =
        s->kind == GB_STEP_CONV || s->kind == GB_STEP_CONV_INPUT || s->kind == GB_STEP_CONV_FILTER;
    add(&t, "%s", gb_step_kind_name(s->kind));
    (product || conv ? add_product : add_storages)(&t, s);
    if (product)
        add_matmul(&t, s);
    else if (conv)
        add_conv(&t, s);
    else if (s->rank)
        add_dims(&t, s->dim, s->rank);
    else
        add_dims(&t, s->in[0].dim, s->in[0].rank);
    if (s->expr && (product || conv)) add(&t, " +%d", s->n_in - 2);
    if (s->fast) add(&t, " fast");
    if (exact) add(&t, " #%016" PRIx64, hash_step(s));
}

void gb_bucket_key(const gb_step *step, char key[GB_CHOICE_KEY])
{
    name_step(step, false, key);
}

void gb_exact_key(const gb_step *step, char key[GB_CHOICE_KEY])
{
    name_step(step, true, key);
}

/* --- lists --- */

/* The first place whose key is not below. */
static int place_of(const gb_choices *c, const char *key)
{
    int low = 0, high = c->n;
    while (low < high) {
        int middle = (low + high) / 2;
        if (strcmp(c->item[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const gb_choice *gb_choices_find(const gb_choices *c, const char *key)
{
    int i = place_of(c, key);
    return i < c->n && strcmp(c->item[i].key, key) == 0 ? &c->item[i] : NULL;
}

bool gb_choices_put(gb_choices *c, const gb_choice *choice)
{
    int i = place_of(c, choice->key);
    if (i < c->n && strcmp(c->item[i].key, choice->key) == 0) {
        c->item[i] = *choice;
        return true;
    }
    if (c->n == GB_MAX_CHOICES) return false;
    if (c->n == c->cap) {
        int cap = c->cap ? 2 * c->cap : 32;
        gb_choice *grown = realloc(c->item, (size_t)cap * sizeof *grown);
        if (!grown) return false;
        c->item = grown;
        c->cap = cap;
    }
    memmove(&c->item[i + 1], &c->item[i], (size_t)(c->n - i) * sizeof *c->item);
    c->item[i] = *choice;
    c->n++;
    return true;
}

void gb_choices_clear(gb_choices *c)
{
    free(c->item);
    *c = (gb_choices){0};
}
