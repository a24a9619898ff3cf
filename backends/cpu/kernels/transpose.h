/* to[k * to_row + i] = from[i * from_row + k] for i < rows, k < cols: matrices packed for kernels.
 */
#ifndef GB_BACKENDS_CPU_KERNELS_TRANSPOSE_H
#define GB_BACKENDS_CPU_KERNELS_TRANSPOSE_H

#include <string.h>

#include "backends/cpu/kernels/level.h"

typedef float vec4 __attribute__((vector_size(16)));
typedef int mask4 __attribute__((vector_size(16)));

static inline void transpose_4x4(float *to, int64_t to_row, const float *from, int64_t from_row)
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

static inline void transpose(float *to, int64_t to_row, const float *from, int64_t from_row,
                             int64_t rows, int64_t cols)
{
    int64_t full_rows = rows & ~3, full_cols = cols & ~3;
    for (int64_t k0 = 0; k0 < full_cols; k0 += 16) /* whole cache lines of `from` */
        for (int64_t i = 0; i < full_rows; i += 4)
            for (int64_t k = k0; k < min_of(k0 + 16, full_cols); k += 4)
                transpose_4x4(to + k * to_row + i, to_row, from + i * from_row + k, from_row);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = i < full_rows ? full_cols : 0; k < cols; k++)
            to[k * to_row + i] = from[i * from_row + k];
}

#endif
