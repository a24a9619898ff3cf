// The dialect in OpenCL C 1.2.
#pragma OPENCL FP_CONTRACT OFF
#define GB_OPENCL 1
#define GB_PASTE_(a, b) a##b
#define GB_PASTE(a, b) GB_PASTE_(a, b)
typedef float gb_any_float __attribute__((may_alias));
typedef int gb_any_int __attribute__((may_alias));
typedef ushort gb_any_ushort __attribute__((may_alias));
#define GB_F float
#define GB_FLOAT(x) ((float)(x))
#define GB_INT(x) ((int)(x))
#define GB_UINT(x) ((uint)(x))
#define GB_BITS(x) as_int(x)
#define GB_FROM_BITS(x) as_float(x)
#define GB_INF INFINITY
#define GB_NAN NAN
#define GB_V2 float2
#define GB_MAKE2(x, y) ((float2)(x, y))
#define GB_V4 float4
#define GB_SPLAT4(v) ((float4)(v))
#define GB_MAKE4(x, y, z, w) ((float4)(x, y, z, w))
#define GB_FMA4(x, y, acc) fma(x, y, acc)
#define GB_PUT(array, i, v) ((__local float *)array)[i] = v
#define GB_FOUR(array, i) array[i]
#define GB_H ushort // halves that nobody computes with
#define GB_H4 ushort4
#define GB_H_ZERO ((ushort)0)
#define GB_H4_ZERO ((ushort4)(0))
#define GB_PUT_H(array, i, v) ((__local ushort *)array)[i] = v
#define GB_WIDENED(array, i) vload_half4(i, (__local const half *)array)
#ifdef GB_HALF_MATH
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define GB_HALF2 half2
#define GB_HALF4 half4
#define GB_HALF2_ZERO ((half2)(0.0f))
#define GB_HALVES(array, i) as_half4(array[i])
#define GB_LOW(v) (v).lo
#define GB_HIGH(v) (v).hi
#define GB_HALF2_FMA(x, y, sum) fma((half2)(x), y, sum)
#endif
#define GB_BARRIER barrier(CLK_LOCAL_MEM_FENCE)
// Counters between work-groups: what was written before one counts is seen by those that see the count.
#if defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define GB_FENCE __atomic_thread_fence(__ATOMIC_ACQ_REL)
#define GB_COUNT(counter) __atomic_fetch_add(counter, 1, __ATOMIC_ACQ_REL)
#define GB_COUNTED(counter) __atomic_load_n(counter, __ATOMIC_ACQUIRE)
#define GB_PAUSE(rounds) gb_pause(rounds)
#define GB_NOTE_TIME(words) gb_note_time(words)
void gb_pause(int rounds) // then others may run: the one that is waited for, where cores are too few
{
    long result = 24; // sched_yield
    __builtin_ia32_pause();
    if (rounds % 1024 == 1023)
        __asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
}

void gb_note_time(__global int *words)
{
    ulong t = __builtin_ia32_rdtsc();
    words[0] = (int)t;
    words[1] = (int)(t >> 32);
}
#else
#define GB_FENCE mem_fence(CLK_GLOBAL_MEM_FENCE)
#define GB_COUNT(counter) gb_count(counter, 1)
#define GB_COUNTED(counter) gb_count(counter, 0)
#define GB_PAUSE(rounds)
#define GB_NOTE_TIME(words)
int gb_count(__global int *counter, int more)
{
    GB_FENCE;
    int before = atomic_add(counter, more);
    GB_FENCE;
    return before;
}
#endif

#ifdef GB_SUBGROUPS_WORK
#ifdef cl_khr_subgroups
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#endif
#ifdef cl_khr_subgroup_shuffle
#pragma OPENCL EXTENSION cl_khr_subgroup_shuffle : enable
#define GB_SHUFFLE(x, lane) sub_group_shuffle(x, (uint)(lane))
#else
#pragma OPENCL EXTENSION cl_intel_subgroups : enable
#define GB_SHUFFLE(x, lane) intel_sub_group_shuffle(x, (uint)(lane))
#endif
#define GB_LANE ((int)get_sub_group_local_id())
#define GB_LANES ((int)get_sub_group_size())
#define GB_SUBGROUP ((int)get_sub_group_id())
#define GB_SUBGROUPS ((int)get_num_sub_groups())
#endif

float gb_fmin(float a, float b)
{
    return a < b || a != a ? a : b;
}

float gb_fmax(float a, float b)
{
    return a > b || a != a ? a : b;
}

#ifdef GB_ON_CPU
#define GB_V static inline
#define int32_t int
#define uint32_t uint
#define gb_mad(a, b, c) fma(a, b, c)
#define gb_bits(x) as_int(x)
#define gb_float(x) as_float(x)
#define gb_fabs(x) fabs(x)
#define gb_copysign(x, y) copysign(x, y)
#include "vmath.gk"
#else
#define gb_exp(x) exp(x)
#define gb_expm1(x) expm1(x)
#define gb_log(x) log(x)
#define gb_log1p(x) log1p(x)
#define gb_tanh(x) tanh(x)
#define gb_erf(x) erf(x)
#endif

int gb_idiv(int a, int b)
{
    return b == 0 ? 0 : b == -1 ? (int)(0u - (uint)a) : a / b;
}

int gb_imod(int a, int b)
{
    return b == 0 || b == -1 ? 0 : a % b;
}

int gb_f2i(float x)
{
    return x != x ? 0 : convert_int_sat_rtz(x);
}

uint gb_mulhi(uint a, uint b)
{
    return mul_hi(a, b);
}

// Drivers on CPUs convert one by one, in functions; integer arithmetic becomes vectors.
#ifdef GB_ON_CPU
float gb_from_f16(ushort h)
{
    uint a = h & 0x7fffu, normal = (a << 13) + 0x38000000u;
    uint small = as_uint(as_float(normal + 0x800000u) - 0x1p-14f); // exact
    uint r = a < 0x400u ? small : a > 0x7bffu ? normal + 0x38000000u : normal;
    return as_float(r | (uint)(h & 0x8000u) << 16);
}

float16 gb_vec_from_f16(ushort16 half_bits)
{
    uint16 h = convert_uint16(half_bits), a = h & 0x7fffu, normal = (a << 13) + 0x38000000u;
    uint16 small = as_uint16(as_float16(normal + 0x800000u) - 0x1p-14f);
    uint16 r = select(select(normal, small, a < 0x400u), normal + 0x38000000u, a > 0x7bffu);
    return as_float16(r | (h & 0x8000u) << 16);
}

ushort gb_to_f16(float x)
{
    uint u = as_uint(x), a = u & 0x7fffffffu, b = min(a, 0x47800000u);
    uint normal = ((b + 0xfffu + (b >> 13 & 1u)) >> 13) - 0x1c000u;
    uint small = as_uint(as_float(b) + 0.5f) - 0x3f000000u; // the addition rounds
    uint r = (b < 0x38800000u ? small : normal) | (a > 0x7f800000u ? 0x200u : 0u);
    return (ushort)(r | (u >> 16 & 0x8000u));
}
#define GB_VEC_LOAD_F16(b, i) gb_vec_from_f16(vload16(0, (__global const ushort *)(b) + (i)))
#if defined(__F16C__) && defined(__clang__)
#define GB_LOAD_F16(b, i) __builtin_load_halff((b) + (i))
#define GB_STORE_F16(b, i, v) __builtin_store_halff(v, (b) + (i))
#else
#define GB_LOAD_F16(b, i) gb_from_f16(((__global const ushort *)(b))[i])
#define GB_STORE_F16(b, i, v) ((__global ushort *)(b))[i] = gb_to_f16(v)
#endif
#else
#define GB_VEC_LOAD_F16(b, i) vload_half16(0, (b) + (i))
#define GB_LOAD_F16(b, i) vload_half(i, b)
#define GB_STORE_F16(b, i, v) vstore_half_rte(v, i, b)
#endif
#define GB_LOAD_BF16(b, i) as_float((uint)(b)[i] << 16)
#define GB_STORE_BF16(b, i, v) (b)[i] = gb_to_bf16(v)
ushort gb_to_bf16(float x)
{
    uint u = as_uint(x);
    return (ushort)(x != x ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

// Vectors, for variants that are made for drivers on CPUs. PoCL's vstore16 is four stores.
// What is so many steps of k ahead is asked for; Oclgrind, which runs SPIR, cannot.
#define GB_STEPS_AHEAD 16
#if defined(__clang__) && !defined(__SPIR__)
#define GB_PREFETCH(p) __builtin_prefetch((__global const void *)(p), 0, 3)
#else
#define GB_PREFETCH(p)
#endif
#ifdef __clang__
#define GB_PUT_OF(scalar, space)                                                               \
    void __attribute__((overloadable)) gb_vec_put(scalar##16 v, space scalar *p)               \
    {                                                                                          \
        typedef scalar##16 __attribute__((aligned(4))) anywhere;                               \
        *(space anywhere *)p = v;                                                              \
    }
GB_PUT_OF(float, __global)
GB_PUT_OF(float, __private)
GB_PUT_OF(int, __global)
#else
#define gb_vec_put(v, p) vstore16(v, 0, p)
#endif
typedef __global const float *GB_FROM;
typedef float16 GB_VEC;
#define GB_VEC_WIDTH 16
#define GB_VEC_ZERO ((float16)(0.0f))
#define GB_VEC_LOAD(b, i) vload16(0, (b) + (i))
#define GB_VEC_LOAD_BF16(b, i) as_float16(convert_uint16(vload16(0, (b) + (i))) << 16)
#define GB_VEC_PUT(v, array, i) gb_vec_put(v, (array) + (i))
#define GB_VEC_FMA(x, v, acc) fma((float16)(x), v, acc)
#define GB_VEC_CHOOSE(mask, v, w) select(w, v, mask)
// The lanes of two vectors, one from each in turn: of their lower halves, of their higher halves.
#define GB_VEC_LOW(v, w)                                                                       \
    ((float16)((v).s0, (w).s0, (v).s1, (w).s1, (v).s2, (w).s2, (v).s3, (w).s3, (v).s4, (w).s4, \
               (v).s5, (w).s5, (v).s6, (w).s6, (v).s7, (w).s7))
#define GB_VEC_HIGH(v, w)                                                                      \
    ((float16)((v).s8, (w).s8, (v).s9, (w).s9, (v).sa, (w).sa, (v).sb, (w).sb, (v).sc, (w).sc, \
               (v).sd, (w).sd, (v).se, (w).se, (v).sf, (w).sf))
typedef int16 GB_IVEC; // also what comparisons of GB_VEC give: all bits or none
#define GB_IVEC_SPLAT(x) ((int16)(x))
#define GB_IVEC_LOAD(b, i) vload16(0, (b) + (i))
#define GB_IVEC_PUT(v, array, i) gb_vec_put(v, (array) + (i))
#define GB_IVEC_CHOOSE(mask, v, w) select(w, v, mask)
#define GB_UNROLL _Pragma("unroll")
#define GB_UNROLL_2 _Pragma("unroll 2")
