// The dialect in GLSL 4.50 for Vulkan.
#define GB_F precise float
#define GB_FLOAT(x) float(x)
#define GB_INT(x) int(x)
#define GB_UINT(x) uint(x)
#define GB_BITS(x) floatBitsToInt(x)
#define GB_FROM_BITS(x) intBitsToFloat(x)
#define GB_INF intBitsToFloat(0x7f800000)
#define GB_NAN intBitsToFloat(0x7fc00000)
#define GB_GROUP(d) int(gl_WorkGroupID[d])
#define GB_LOCAL(d) int(gl_LocalInvocationID[d])
#define GB_GLOBAL(d) int(gl_GlobalInvocationID[d])
#define GB_LANE int(gl_SubgroupInvocationID)
#define GB_BROADCAST(x, lane) subgroupBroadcast(x, lane)
#define GB_LANES int(subgroupBallotBitCount(subgroupBallot(true))) // where all of them are
#define GB_SUBGROUP int(gl_SubgroupID)
#define GB_SUBGROUPS int(gl_NumSubgroups)
#define GB_SHUFFLE(x, lane) subgroupShuffle(x, uint(lane))
#define GB_V2 vec2
#define GB_MAKE2(x, y) vec2(x, y)
#define GB_V4 vec4
#define GB_SPLAT4(v) vec4(v)
#define GB_MAKE4(x, y, z, w) vec4(x, y, z, w)
#define GB_FMA4(x, y, acc) fma(x, y, acc)
#define GB_PUT(array, i, v) array[(i) >> 2][(i) & 3] = v
#define GB_FOUR(array, i) array[i]
#define GB_UNROLL
#ifdef GB_HALF_MATH // kernels that keep or multiply halves
#define GB_H float16_t
#define GB_H4 f16vec4
#define GB_H_ZERO float16_t(0.0)
#define GB_H4_ZERO f16vec4(0.0)
#define GB_PUT_H(array, i, v) array[(i) >> 2][(i) & 3] = v
#define GB_WIDENED(array, i) vec4(array[i])
#define GB_HALF2 f16vec2
#define GB_HALF4 f16vec4
#define GB_HALF2_ZERO f16vec2(0.0)
#define GB_HALVES(array, i) array[i]
#define GB_LOW(v) (v).xy
#define GB_HIGH(v) (v).zw
#define GB_HALF2_FMA(x, y, sum) fma(f16vec2(x), y, sum)
#endif
#define GB_BARRIER memoryBarrierShared(); barrier()
#define GB_SHARED shared
#define GB_H8 uvec4
#define GB_H8_ZERO uvec4(0u)
#define GB_H8_WORD(x, w) x[w]
#define GB_FROM_HALF(bits) unpackHalf2x16(bits).x

#define GB_LOAD_F16(b, i) float((b)[i])
#define GB_STORE_F16(b, i, v) (b)[i] = float16_t(v)
#define GB_LOAD_BF16(b, i) uintBitsToFloat(uint((b)[i]) << 16)
#define GB_STORE_BF16(b, i, v) (b)[i] = uint16_t(gb_to_bf16(v))

uint gb_to_bf16(float x)
{
    uint u = floatBitsToUint(x);
    return isnan(x) ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}

float gb_fmin(float a, float b)
{
    return a < b || isnan(a) ? a : b;
}

float gb_fmax(float a, float b)
{
    return a > b || isnan(a) ? a : b;
}

int gb_idiv(int a, int b)
{
    return b == 0 ? 0 : b == -1 ? int(0u - uint(a)) : a / b;
}

// the sign of % is undefined for negative operands
int gb_imod(int a, int b)
{
    return b == 0 || b == -1 ? 0 : a - a / b * b;
}

int gb_f2i(float x)
{
    return isnan(x) ? 0 : x >= 2147483648.0 ? 2147483647 : x <= -2147483648.0 ? -2147483647 - 1 : int(x);
}

uint gb_mulhi(uint a, uint b)
{
    uint high, low;
    umulExtended(a, b, high, low);
    return high;
}
