// The dialect in C, so that kernels run on the host under sanitizers (tests/unit/test_kernels.c). The
// items of a group are a loop; where they meet at barriers each has a stack of its own.
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define GB_F float
#define GB_FLOAT(x) ((float)(x))
#define GB_INT(x) ((int)(x))
#define GB_UINT(x) ((uint)(x))
#define GB_BITS(x) gb_bits(x)
#define GB_FROM_BITS(x) gb_from_bits(x)
#define GB_INF INFINITY
#define GB_NAN NAN
#define GB_GROUP(d) gb_group[d]
#define GB_LOCAL(d) gb_item[d]
#define GB_GLOBAL(d) (gb_group[d] * gb_size[d] + gb_item[d])
#define GB_BARRIER gb_wait(GB_AT_BARRIER)
#define GB_UNROLL
#define GB_UNROLL_2
#define fma(a, b, c) fmaf(a, b, c)
#define gb_exp(x) expf(x)
#define gb_expm1(x) expm1f(x)
#define gb_log(x) logf(x)
#define gb_log1p(x) log1pf(x)
#define gb_tanh(x) tanhf(x)
#define gb_erf(x) erff(x)
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))

typedef unsigned int uint;
typedef unsigned short ushort;
typedef _Float16 half;

enum { GB_MOST_ITEMS = 256, GB_MOST_LANES = 12 };
static int gb_group[3], gb_size[3], gb_items;
static int gb_item[3], gb_number;
typedef enum { GB_RUNS, GB_AT_BARRIER, GB_AT_SHUFFLE, GB_DONE } gb_item_state;
static void gb_wait(gb_item_state where);
static int gb_shuffled[GB_MOST_ITEMS];

static inline int gb_bits(float x)
{
    int i;
    memcpy(&i, &x, 4);
    return i;
}

static inline float gb_from_bits(int i)
{
    float x;
    memcpy(&x, &i, 4);
    return x;
}

// Subgroups of an odd size, the last one smaller still: bodies must not assume any.
#define GB_SUBGROUP (gb_number / GB_MOST_LANES)
#define GB_SUBGROUPS ((gb_items + GB_MOST_LANES - 1) / GB_MOST_LANES)
#define GB_LANE (gb_number % GB_MOST_LANES)
#define GB_LANES min(GB_MOST_LANES, gb_items - GB_SUBGROUP * GB_MOST_LANES)
#define GB_SHUFFLE(x, lane) \
    _Generic((x), float: gb_from_bits(gb_shuffle(gb_bits(x), lane)), int: gb_shuffle((int)(x), lane))

static inline int gb_shuffle(int x, int lane)
{
    gb_shuffled[gb_number] = x;
    gb_wait(GB_AT_SHUFFLE);
    int got = gb_shuffled[GB_SUBGROUP * GB_MOST_LANES + lane];
    gb_wait(GB_AT_SHUFFLE);
    return got;
}

static inline float gb_fmin(float a, float b)
{
    return a < b || a != a ? a : b;
}

static inline float gb_fmax(float a, float b)
{
    return a > b || a != a ? a : b;
}

static inline int gb_idiv(int a, int b)
{
    return b == 0 ? 0 : b == -1 ? (int)(0u - (uint)a) : a / b;
}

static inline int gb_imod(int a, int b)
{
    return b == 0 || b == -1 ? 0 : a % b;
}

static inline int gb_f2i(float x)
{
    return x != x ? 0 : x >= 2147483648.0f ? 2147483647 : x < -2147483648.0f ? -2147483647 - 1 : (int)x;
}

static inline uint gb_mulhi(uint a, uint b)
{
    return (uint)((uint64_t)a * b >> 32);
}

#define GB_LOAD_F16(b, i) ((float)(b)[i])
#define GB_STORE_F16(b, i, v) (b)[i] = (half)(v)
#define GB_LOAD_BF16(b, i) gb_from_bits((int)((uint)(b)[i] << 16))
#define GB_STORE_BF16(b, i, v) (b)[i] = gb_to_bf16(v)
static inline ushort gb_to_bf16(float x)
{
    uint u = (uint)gb_bits(x);
    return (ushort)(x != x ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

typedef struct __attribute__((aligned(8))) { float x, y; } GB_V2;
typedef struct __attribute__((aligned(16))) { float x, y, z, w; } GB_V4;
#define GB_MAKE2(x, y) ((GB_V2){x, y})
#define GB_SPLAT4(v) ((GB_V4){v, v, v, v})
#define GB_MAKE4(x, y, z, w) ((GB_V4){x, y, z, w})
static inline GB_V4 GB_FMA4(GB_V4 x, GB_V4 y, GB_V4 a)
{
    return (GB_V4){fma(x.x, y.x, a.x), fma(x.y, y.y, a.y), fma(x.z, y.z, a.z), fma(x.w, y.w, a.w)};
}
#define GB_PUT(array, i, v) ((float *)array)[i] = v

#define GB_SHARED static
typedef struct __attribute__((aligned(16))) { uint word[4]; } GB_H8;
#define GB_H8_ZERO ((GB_H8){{0}})
#define GB_H8_WORD(x, w) x.word[w]
#define GB_FROM_HALF(bits) gb_from_half(bits)
static inline float gb_from_half(uint bits)
{
    ushort u = (ushort)bits;
    half h;
    memcpy(&h, &u, 2);
    return (float)h;
}

#define GB_FOUR(array, i) array[i]

typedef struct __attribute__((aligned(4))) { half x, y; } GB_HALF2;
typedef struct __attribute__((aligned(8))) { half x, y, z, w; } GB_HALF4;
#define GB_H half
#define GB_H4 GB_HALF4
#define GB_H_ZERO ((half)0)
#define GB_H4_ZERO ((GB_HALF4){0})
#define GB_PUT_H(array, i, v) ((half *)array)[i] = v
#define GB_WIDENED(array, i) \
    ((GB_V4){(float)array[i].x, (float)array[i].y, (float)array[i].z, (float)array[i].w})
#define GB_HALF2_ZERO ((GB_HALF2){0})
#define GB_HALVES(array, i) array[i]
#define GB_LOW(v) ((GB_HALF2){(v).x, (v).y})
#define GB_HIGH(v) ((GB_HALF2){(v).z, (v).w})
#define GB_HALF2_FMA(f, v, sum) gb_half2_fma(f, v, sum)
static inline GB_HALF2 gb_half2_fma(half x, GB_HALF2 v, GB_HALF2 sum)
{
    return (GB_HALF2){(half)((double)x * v.x + sum.x), (half)((double)x * v.y + sum.y)};
}

typedef const float *GB_FROM;
typedef float GB_VEC __attribute__((vector_size(64), aligned(4)));
#define GB_VEC_WIDTH 16
#define GB_VEC_ZERO ((GB_VEC){0})
#define GB_VEC_LOAD(b, i) (*(const GB_VEC *)((b) + (i)))
#define GB_VEC_LOAD_F16(b, i) gb_vec_from_f16((b) + (i))
#define GB_VEC_LOAD_BF16(b, i) gb_vec_from_bf16((b) + (i))
static inline GB_VEC gb_vec_from_f16(const half *p)
{
    GB_VEC v;
    for (int l = 0; l < GB_VEC_WIDTH; l++) v[l] = GB_LOAD_F16(p, l);
    return v;
}
static inline GB_VEC gb_vec_from_bf16(const ushort *p)
{
    GB_VEC v;
    for (int l = 0; l < GB_VEC_WIDTH; l++) v[l] = GB_LOAD_BF16(p, l);
    return v;
}
#define GB_VEC_PUT(v, array, i) *(GB_VEC *)((array) + (i)) = v
#define GB_VEC_FMA(x, v, acc) ((x) * (v) + (acc))
#define GB_VEC_CHOOSE(mask, v, w) ((GB_VEC)GB_IVEC_CHOOSE(mask, (GB_IVEC)(v), (GB_IVEC)(w)))
#define GB_PREFETCH(p) ((void)(p))
#define GB_STEPS_AHEAD 0
#define GB_VEC_LOW(v, w) gb_vec_merge(&(v), &(w), 0)
#define GB_VEC_HIGH(v, w) gb_vec_merge(&(v), &(w), GB_VEC_WIDTH / 2)
static inline GB_VEC gb_vec_merge(const GB_VEC *v, const GB_VEC *w, int first)
{
    GB_VEC r;
    for (int l = 0; l < GB_VEC_WIDTH; l++) r[l] = (*(l % 2 ? w : v))[first + l / 2];
    return r;
}
typedef int GB_IVEC __attribute__((vector_size(64), aligned(4)));
#define GB_IVEC_SPLAT(x) ((GB_IVEC){0} + (x))
#define GB_IVEC_LOAD(b, i) (*(const GB_IVEC *)((b) + (i)))
#define GB_IVEC_PUT(v, array, i) *(GB_IVEC *)((array) + (i)) = v
#define GB_IVEC_CHOOSE(mask, v, w) (((v) & (mask)) | ((w) & ~(mask)))

static void gb_kernel(void *const *gb_buffer, const int *gb_params);

enum { GB_STACK = 256 << 10 };

// An item that waits, or what runs the items.
typedef struct {
    ucontext_t context;
    char *stack;
    size_t stack_bytes;
    gb_item_state state;
} gb_fiber;

static gb_fiber gb_runner, gb_fibers[GB_MOST_ITEMS];
static void *const *gb_call_buffer;
static const int *gb_call_params;

static void gb_place_item(int number)
{
    gb_number = number;
    gb_item[0] = number % gb_size[0];
    gb_item[1] = number / gb_size[0] % gb_size[1];
    gb_item[2] = number / gb_size[0] / gb_size[1];
}

// ASan wants to know whose stack it is.
static void gb_switch(gb_fiber *from, gb_fiber *to)
{
#ifdef __SANITIZE_ADDRESS__
    void *fake = NULL;
    __sanitizer_start_switch_fiber(from->state == GB_DONE ? NULL : &fake, to->stack, to->stack_bytes);
#endif
    swapcontext(&from->context, &to->context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
}

static void gb_wait(gb_item_state where)
{
    gb_fiber *f = &gb_fibers[gb_number];
    f->state = where;
    gb_switch(f, &gb_runner);
}

static void gb_run_item(void)
{
#ifdef __SANITIZE_ADDRESS__
    const void *stack;
    __sanitizer_finish_switch_fiber(NULL, &stack, &gb_runner.stack_bytes);
    gb_runner.stack = (char *)stack;
#endif
    gb_kernel(gb_call_buffer, gb_call_params);
    gb_wait(GB_DONE);
}

// Lets items go on where all of them wait at the same place. False: none waits there.
static bool gb_release(int first, int count, gb_item_state where)
{
    for (int i = first; i < first + count; i++)
        if (gb_fibers[i].state != where) return false;
    for (int i = first; i < first + count; i++) gb_fibers[i].state = GB_RUNS;
    return true;
}

// Forwards and backwards in turn, so that no order of items hides a barrier that is missing.
static void gb_run_all(int items)
{
    bool goes_on = true, backwards = false;
    for (; goes_on; backwards = !backwards) {
        for (int i = 0; i < items; i++) {
            int item = backwards ? items - 1 - i : i;
            if (gb_fibers[item].state != GB_RUNS) continue;
            gb_place_item(item);
            gb_switch(&gb_runner, &gb_fibers[item]);
        }
        goes_on = gb_release(0, items, GB_AT_BARRIER);
        for (int first = 0; first < items; first += GB_MOST_LANES)
            goes_on |= gb_release(first, min(GB_MOST_LANES, items - first), GB_AT_SHUFFLE);
    }
    for (int i = 0; i < items; i++)
        if (gb_fibers[i].state != GB_DONE) abort(); // a barrier that not all of them reach
}

static void gb_run_together(void *const *buffer, const int *params, int items)
{
    const size_t bytes = (size_t)items * GB_STACK;
    char *stacks = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                        -1, 0);
    if (stacks == MAP_FAILED) abort();
    gb_call_buffer = buffer;
    gb_call_params = params;
    for (int i = 0; i < items; i++) {
        gb_fiber *f = &gb_fibers[i];
        *f = (gb_fiber){.stack = stacks + (size_t)i * GB_STACK, .stack_bytes = GB_STACK};
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack;
        f->context.uc_stack.ss_size = GB_STACK;
        makecontext(&f->context, gb_run_item, 0);
    }
    gb_run_all(items);
    munmap(stacks, bytes);
}

// The group of that number; together: its items meet at barriers.
void gb_run_group(void *const *buffer, const int *params, const int *group, const int *size, int together)
{
    int items = size[0] * size[1] * size[2];
    memcpy(gb_group, group, sizeof gb_group);
    memcpy(gb_size, size, sizeof gb_size);
    gb_items = items;
    if (together) {
        gb_run_together(buffer, params, items);
        return;
    }
    for (int i = 0; i < items; i++) {
        gb_place_item(i);
        gb_kernel(buffer, params);
    }
}
