// What shaders/matrix.gk finds around itself where the device has matrix units. This text is compiled
// offline: see shaders/spirv.
#version 450
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_EXT_bfloat16 : enable
#define GB_FLOAT(x) float(x)
#define GB_GROUP(d) int(gl_WorkGroupID[d])
#define GB_LOCAL(d) int(gl_LocalInvocationID[d])
#define MATRIX_SUBGROUP int(gl_SubgroupID)
#define MATRIX_LANE int(gl_SubgroupInvocationID)
#define GB_BARRIER barrier()
#define GB_UNROLL [[unroll]]
#define GB_SHARED shared

#define GB_H8 uvec4
#define GB_H8_ZERO uvec4(0u)
#define GB_H8_WORD(x, w) x[w]

#define MATRIX_LAYOUT(row_major) (row_major ? gl_CooperativeMatrixLayoutRowMajor : gl_CooperativeMatrixLayoutColumnMajor)
#define MATRIX_SUMS \
    coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator> sum[WM * WN]; \
    GB_UNROLL for (int i = 0; i < WM * WN; i++) \
        sum[i] = coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>(0.0);
#define MATRIX_A \
    coopmat<MATRIX_ELEMENT, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> a[WM]; \
    coopmat<MATRIX_ELEMENT, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> b;
#define MATRIX_LOAD_A(m, at) coopMatLoad(a[m], sa, (at) / 2, (A_PITCH) / 2, MATRIX_LAYOUT(A_ALONG == 0));
#define MATRIX_LOAD_B(at) coopMatLoad(b, sb, (at) / 2, (B_PITCH) / 2, MATRIX_LAYOUT(B_ALONG != 0));
#define MATRIX_MULTIPLY(m, n) sum[(m) * WN + (n)] = coopMatMulAdd(a[m], b, sum[(m) * WN + (n)]);
#define MATRIX_STORE(m, n, to, at, pitch) \
    coopMatStore(sum[(m) * WN + (n)], to, at, pitch, gl_CooperativeMatrixLayoutRowMajor);
layout(local_size_x_id = 0) in;
layout(set = 0, binding = 0, std430) readonly restrict buffer gb_b0 { uint16_t v[]; } b0_;
#define b0 b0_.v
layout(set = 0, binding = 1, std430) readonly restrict buffer gb_b1 { uint16_t v[]; } b1_;
#define b1 b1_.v
layout(set = 0, binding = 2, std430) restrict buffer gb_b2 { float v[]; } b2_;
#define b2 b2_.v
layout(set = 0, binding = 0, std430) readonly buffer gb_b0w8 { uvec4 v[]; } b0w8_;
#define b0w8 b0w8_.v
layout(set = 0, binding = 1, std430) readonly buffer gb_b1w8 { uvec4 v[]; } b1w8_;
#define b1w8 b1w8_.v
layout(push_constant) uniform gb_p { int v[31]; } p;
#define PARAM(i) p.v[i]
#define LD_i0(i) (GB_LOAD_BF16(b0, PARAM(0) + (i)))
#define ST_i0(i, v) GB_STORE_BF16(b0, PARAM(0) + (i), v)
#define BUF_i0 b0
#define AT_i0 PARAM(0)
#define RAW_i0(i) uint(BUF_i0[AT_i0 + (i)])
#define LD8_i0(i) b0w8[(AT_i0 + (i)) / 8]
#define LD_i1(i) (GB_LOAD_BF16(b1, PARAM(1) + (i)))
#define ST_i1(i, v) GB_STORE_BF16(b1, PARAM(1) + (i), v)
#define BUF_i1 b1
#define AT_i1 PARAM(1)
#define RAW_i1(i) uint(BUF_i1[AT_i1 + (i)])
#define LD8_i1(i) b1w8[(AT_i1 + (i)) / 8]
#define LD_part(i) (b2[PARAM(2) + (i)])
#define ST_part(i, v) b2[PARAM(2) + (i)] = GB_FLOAT(v)
#define BUF_part b2
#define AT_part PARAM(2)
#define BK 32
layout(constant_id = 1) const int SIZE = 16;
layout(constant_id = 2) const int TM = 16;
layout(constant_id = 3) const int TN = 16;
layout(constant_id = 4) const int TK = 16;
layout(constant_id = 5) const int LANES = 16;
layout(constant_id = 6) const int ACROSS = 16;
layout(constant_id = 7) const int WM = 16;
layout(constant_id = 8) const int WN = 16;
layout(constant_id = 9) const int A_ALONG = 16;
layout(constant_id = 10) const int B_ALONG = 16;
layout(constant_id = 11) const int A_WIDE = 16;
layout(constant_id = 12) const int B_WIDE = 16;
#define M PARAM(3)
#define N PARAM(4)
#define K PARAM(5)
#define SHARES PARAM(6)
#define SHARE PARAM(7)
#define ROUNDS PARAM(8)
#define PART_BATCH PARAM(9)
#define PART_SHARE PARAM(10)
#define PART_ROW PARAM(11)
#define DENSE PARAM(12)
#define KERNEL_H PARAM(13)
#define STRIDE_H PARAM(14)
#define DILATION_H PARAM(15)
#define PAD_H PARAM(16)
#define KERNEL_W PARAM(17)
#define STRIDE_W PARAM(18)
#define DILATION_W PARAM(19)
#define PAD_W PARAM(20)
#define IN_H PARAM(21)
#define IN_W PARAM(22)
#define BATCH(batch_) int g = batch_;
#define A_N PARAM(23)
#define A_H PARAM(24)
#define A_W PARAM(25)
#define B_O PARAM(26)
#define B_H PARAM(27)
#define B_W PARAM(28)
#define HEIGHT PARAM(29)
#define WIDTH PARAM(30)
#define ROUND(round_) int chunks_ = (K + BK - 1) / BK, tap_ = (round_) / chunks_, k0 = ((round_) - tap_ * chunks_) * BK, kh = tap_ / KERNEL_W, kw = tap_ - kh * KERNEL_W;
#define STATE_A(side_) int q_ = (side_) / WIDTH, w_ = (side_) - q_ * WIDTH, n_ = q_ / HEIGHT, h_ = q_ - n_ * HEIGHT; s0 = n_ * A_N + g * K; s1 = h_ + PAD_H; s2 = w_ + PAD_W;
#define AT_A(k_) int v_ = s1 - kh * DILATION_H, u_ = s2 - kw * DILATION_W, y_ = v_ / STRIDE_H, x_ = u_ / STRIDE_W; bool in_ = v_ >= 0 && u_ >= 0 && v_ == y_ * STRIDE_H && u_ == x_ * STRIDE_W && y_ < IN_H && x_ < IN_W; int place_ = s0 + y_ * A_H + x_ * A_W + k_;
#define STATE_B(side_) s0 = side_;
#define AT_B(k_) int place_ = s0 + (g * K + k_) * B_O + kh * B_H + kw * B_W; bool in_ = true;
#define MATRIX_ELEMENT float16_t
#define GB_MAIN_BEGIN void main() {
#define GB_MAIN_END }
// Contractions on matrix units: sums of products of 16-bit floats, for a kernel that joins them. A
// group makes SIZE × SIZE sums, each of its subgroups WM × WN matrices of them; a round multiplies BK
// rows of k. Operands are fetched by eights along the axis that is dense: k, or the side of the result
// (A_ALONG, B_ALONG), and lie in shared memory as they lie in memory, two in a word: their type is a
// matter of the matrices alone. STATE_A(side) and AT_A(k) (and of B) say where an element is; eights
// that are not whole or not aligned come one by one.
#define UNITS 2
#define A_PITCH (A_ALONG != 0 ? SIZE + 8 : BK + 8)
#define B_PITCH (B_ALONG != 0 ? SIZE + 8 : BK + 8)
#define SIDE(unit, along) (along != 0 ? (unit) % (SIZE / 8) * 8 : (unit) / (BK / 8))
#define PART(unit, along) (along != 0 ? (unit) / (SIZE / 8) : (unit) % (BK / 8) * 8)

#define FETCH(along, wide, limit, first, STATE, AT, LD8, RAW, to, state) \
    GB_UNROLL for (int i = 0; i < UNITS; i++) { \
        int unit = item + i * 2 * SIZE, side = first + SIDE(unit, along), k = k0 + PART(unit, along); \
        int s0 = state[3 * i], s1 = state[3 * i + 1], s2 = state[3 * i + 2]; \
        GB_H8 x = GB_H8_ZERO; \
        if (wide != 0) { \
            AT(k) \
            if (in_ && side < limit && k < K) x = LD8(place_); \
        } else { \
            for (int j = 0; j < 8; j++) { \
                if (side < limit && k < K) { \
                    if (along != 0) { STATE(side) } \
                    AT(k) \
                    if (in_) GB_H8_WORD(x, j / 2) |= RAW(place_) << (j % 2 * 16); \
                } \
                if (along != 0) side++; else k++; \
            } \
        } \
        to[i] = x; \
    }

#define STASH(along, pitch, from, to) \
    GB_UNROLL for (int i = 0; i < UNITS; i++) { \
        int unit = item + i * 2 * SIZE, side = SIDE(unit, along), part = PART(unit, along); \
        int at = (along != 0 ? part * (pitch) + side : side * (pitch) + part) / 2; \
        GB_UNROLL for (int w = 0; w < 4; w++) to[at + w] = GB_H8_WORD(from[i], w); \
    }

#define SETUP(along, first, STATE, state) \
    GB_UNROLL for (int i = 0; i < UNITS; i++) { \
        int s0 = 0, s1 = 0, s2 = 0; \
        STATE((first + SIDE(item + i * 2 * SIZE, along))) \
        state[3 * i] = s0, state[3 * i + 1] = s1, state[3 * i + 2] = s2; \
    }

#define FETCH_BOTH(round_) { \
        ROUND(round_) \
        FETCH(A_ALONG, A_WIDE, M, first_row, STATE_A, AT_A, LD8_i0, RAW_i0, fa, state_a) \
        FETCH(B_ALONG, B_WIDE, N, first_column, STATE_B, AT_B, LD8_i1, RAW_i1, fb, state_b) \
    }

GB_SHARED uint sa[SIZE * (BK + 8) / 2];
GB_SHARED uint sb[SIZE * (BK + 8) / 2];
GB_SHARED float stage[2 * SIZE / LANES * TM * TN];

GB_MAIN_BEGIN
    int item = GB_LOCAL(0), first_column = GB_GROUP(0) * SIZE, first_row = GB_GROUP(1) * SIZE;
    int batch = GB_GROUP(2) / SHARES, share = GB_GROUP(2) - batch * SHARES;
    int m0 = MATRIX_SUBGROUP / ACROSS * WM, n0 = MATRIX_SUBGROUP % ACROSS * WN;
    int round = share * SHARE, last = min(round + SHARE, ROUNDS);
    int state_a[3 * UNITS], state_b[3 * UNITS];
    GB_H8 fa[UNITS], fb[UNITS];
    MATRIX_SUMS
    BATCH(batch)
    SETUP(A_ALONG, first_row, STATE_A, state_a)
    SETUP(B_ALONG, first_column, STATE_B, state_b)
    if (round < last) FETCH_BOTH(round)
    for (; round < last; round++) {
        STASH(A_ALONG, A_PITCH, fa, sa)
        STASH(B_ALONG, B_PITCH, fb, sb)
    GB_BARRIER;
        if (round + 1 < last) FETCH_BOTH(round + 1)
        for (int k = 0; k < BK; k += TK) {
            MATRIX_A
            GB_UNROLL
            for (int m = 0; m < WM; m++) {
                int side = (m0 + m) * TM;
                MATRIX_LOAD_A(m, A_ALONG != 0 ? k * (A_PITCH) + side : side * (A_PITCH) + k)
            }
            GB_UNROLL
            for (int n = 0; n < WN; n++) {
                int side = (n0 + n) * TN;
                MATRIX_LOAD_B(B_ALONG != 0 ? k * (B_PITCH) + side : side * (B_PITCH) + k)
                GB_UNROLL
                for (int m = 0; m < WM; m++) {
                    MATRIX_MULTIPLY(m, n)
                }
            }
        }
    GB_BARRIER;
    }
    // Whole matrices go to memory directly; at the edges by single elements.
    bool whole = DENSE != 0 && first_row + SIZE <= M && first_column + SIZE <= N;
    int to = batch * PART_BATCH + share * PART_SHARE, mine = MATRIX_SUBGROUP * TM * TN;
    GB_UNROLL
    for (int m = 0; m < WM; m++) {
        GB_UNROLL
        for (int n = 0; n < WN; n++) {
            int row = first_row + (m0 + m) * TM, column = first_column + (n0 + n) * TN;
            if (whole) {
                MATRIX_STORE(m, n, BUF_part, AT_part + to + row * PART_ROW + column, PART_ROW)
            } else {
                MATRIX_STORE(m, n, stage, mine, TN)
    GB_BARRIER;
                for (int e = MATRIX_LANE; e < TM * TN; e += LANES) {
                    int r = row + e / TN, c = column + e % TN;
                    if (r < M && c < N) ST_part(to + r * PART_ROW + c, stage[mine + e]);
                }
    GB_BARRIER;
            }
        }
    }
GB_MAIN_END
