/* to[k * to_row + i] = from[i * from_row + k] for i < rows, k < cols: matrices packed for kernels.
 */
#ifndef GB_BACKENDS_CPU_KERNELS_TRANSPOSE_H
#define GB_BACKENDS_CPU_KERNELS_TRANSPOSE_H

#include <string.h>

#include "backends/cpu/kernels/real.h"

#if defined(__AVX2__)
typedef float vec8 __attribute__((vector_size(32)));
typedef float vec8_at __attribute__((vector_size(32), aligned(4), may_alias));
typedef int mask8 __attribute__((vector_size(32)));
enum { TRANSPOSE = 8 };

/* Within halves of four as above, then halves change places. */
static inline void transpose_square(float *to, int64_t to_row, const float *from, int64_t from_row)
{
    vec8 r[8], pair[8], quad[8];
    for (int i = 0; i < 8; i++) r[i] = *(const vec8_at *)(from + i * from_row);
    for (int i = 0; i < 4; i++) {
        pair[i] = __builtin_shuffle(r[2 * i], r[2 * i + 1], (mask8){0, 8, 1, 9, 4, 12, 5, 13});
        pair[4 + i] =
            __builtin_shuffle(r[2 * i], r[2 * i + 1], (mask8){2, 10, 3, 11, 6, 14, 7, 15});
    }
    for (int i = 0; i < 4; i++) { /* columns k and k + 4, of rows 0 … 3 and of rows 4 … 7 */
        const vec8 *p = &pair[i / 2 * 4];
        const mask8 even = {0, 1, 8, 9, 4, 5, 12, 13}, odd = {2, 3, 10, 11, 6, 7, 14, 15};
        quad[i] = __builtin_shuffle(p[0], p[1], i % 2 ? odd : even);
        quad[4 + i] = __builtin_shuffle(p[2], p[3], i % 2 ? odd : even);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = __builtin_shuffle(quad[i], quad[4 + i], (mask8){0, 1, 2, 3, 8, 9, 10, 11});
        r[4 + i] = __builtin_shuffle(quad[i], quad[4 + i], (mask8){4, 5, 6, 7, 12, 13, 14, 15});
    }
    for (int i = 0; i < 8; i++) *(vec8_at *)(to + i * to_row) = r[i];
}
#else
typedef float vec4 __attribute__((vector_size(16)));
typedef int mask4 __attribute__((vector_size(16)));
enum { TRANSPOSE = 4 };

static inline void transpose_square(float *to, int64_t to_row, const float *from, int64_t from_row)
{
    vec4 r[4], low[2], high[2];
    for (int i = 0; i < 4; i++) memcpy(&r[i], from + i * from_row, sizeof r[i]);
    for (int i = 0; i < 2; i++) {
        low[i] = __builtin_shuffle(r[2 * i], r[2 * i + 1], (mask4){0, 4, 1, 5});
        high[i] = __builtin_shuffle(r[2 * i], r[2 * i + 1], (mask4){2, 6, 3, 7});
    }
    r[0] = __builtin_shuffle(low[0], low[1], (mask4){0, 1, 4, 5});
    r[1] = __builtin_shuffle(low[0], low[1], (mask4){2, 3, 6, 7});
    r[2] = __builtin_shuffle(high[0], high[1], (mask4){0, 1, 4, 5});
    r[3] = __builtin_shuffle(high[0], high[1], (mask4){2, 3, 6, 7});
    for (int i = 0; i < 4; i++) memcpy(to + i * to_row, &r[i], sizeof r[i]);
}
#endif

static inline void transpose(float *to, int64_t to_row, const float *from, int64_t from_row,
                             int64_t rows, int64_t cols)
{
    int64_t full_rows = rows / TRANSPOSE * TRANSPOSE, full_cols = cols / TRANSPOSE * TRANSPOSE;
    for (int64_t k0 = 0; k0 < full_cols; k0 += 16) /* whole cache lines of `from` */
        for (int64_t i = 0; i < full_rows; i += TRANSPOSE)
            for (int64_t k = k0; k < min_of(k0 + 16, full_cols); k += TRANSPOSE)
                transpose_square(to + k * to_row + i, to_row, from + i * from_row + k, from_row);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = i < full_rows ? full_cols : 0; k < cols; k++)
            to[k * to_row + i] = from[i * from_row + k];
}

/* The same from element `at` of an operand on, for up to TILE_COLS rows. */
static inline void transpose_real(gb_real type, float *to, int64_t to_row, const float *from,
                                  int64_t at, int64_t from_row, int64_t rows, int64_t cols)
{
    enum { RUN = 64 };
    if (type == GB_REAL_F32) {
        transpose(to, to_row, from + at, from_row, rows, cols);
        return;
    }
    float wide[TILE_COLS * RUN];
    for (int64_t k = 0; k < cols; k += RUN) {
        int64_t n = min_of(RUN, cols - k);
        for (int64_t i = 0; i < rows; i++)
            real_read(type, wide + i * RUN, from, at + i * from_row + k, n);
        transpose(to + k * to_row, to_row, wide, RUN, rows, n);
    }
}

#endif
