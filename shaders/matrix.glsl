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
