// The dialect in C, so that kernels run on the host under sanitizers (tests/unit/test_kernels.c). The
// items of a group are threads where they meet at barriers, else a loop.
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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
#define GB_BARRIER pthread_barrier_wait(&gb_barrier)
#define GB_UNROLL
#define GB_UNROLL_2
#define fma(a, b, c) fmaf(a, b, c)
#define gb_erf(x) erff(x)
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))

typedef unsigned int uint;
typedef unsigned short ushort;
typedef _Float16 half;

enum { GB_MOST_ITEMS = 256, GB_MOST_LANES = 12 };
static int gb_group[3], gb_size[3], gb_items;
static _Thread_local int gb_item[3], gb_number;
static pthread_barrier_t gb_barrier, gb_subgroup_barrier[GB_MOST_ITEMS];
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
    pthread_barrier_wait(&gb_subgroup_barrier[GB_SUBGROUP]);
    int got = gb_shuffled[GB_SUBGROUP * GB_MOST_LANES + lane];
    pthread_barrier_wait(&gb_subgroup_barrier[GB_SUBGROUP]);
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
typedef int GB_IVEC __attribute__((vector_size(64), aligned(4)));
#define GB_IVEC_SPLAT(x) ((GB_IVEC){0} + (x))
#define GB_IVEC_LOAD(b, i) (*(const GB_IVEC *)((b) + (i)))
#define GB_IVEC_PUT(v, array, i) *(GB_IVEC *)((array) + (i)) = v
#define GB_IVEC_CHOOSE(mask, v, w) (((v) & (mask)) | ((w) & ~(mask)))

static void gb_kernel(void *const *gb_buffer, const int *gb_params);

typedef struct {
    void *const *buffer;
    const int *params;
    int number;
} gb_call;

static void gb_place_item(int number)
{
    gb_number = number;
    gb_item[0] = number % gb_size[0];
    gb_item[1] = number / gb_size[0] % gb_size[1];
    gb_item[2] = number / gb_size[0] / gb_size[1];
}

static void *gb_run_item(void *arg)
{
    const gb_call *c = arg;
    gb_place_item(c->number);
    gb_kernel(c->buffer, c->params);
    return NULL;
}

static void gb_run_together(void *const *buffer, const int *params, int items)
{
    pthread_t thread[GB_MOST_ITEMS];
    gb_call call[GB_MOST_ITEMS];
    pthread_barrier_init(&gb_barrier, NULL, (uint)items);
    for (int first = 0; first < items; first += GB_MOST_LANES)
        pthread_barrier_init(&gb_subgroup_barrier[first / GB_MOST_LANES], NULL,
                             (uint)min(GB_MOST_LANES, items - first));
    for (int i = 0; i < items; i++) {
        call[i] = (gb_call){buffer, params, i};
        if (pthread_create(&thread[i], NULL, gb_run_item, &call[i])) abort();
    }
    for (int i = 0; i < items; i++) pthread_join(thread[i], NULL);
    for (int first = 0; first < items; first += GB_MOST_LANES)
        pthread_barrier_destroy(&gb_subgroup_barrier[first / GB_MOST_LANES]);
    pthread_barrier_destroy(&gb_barrier);
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
