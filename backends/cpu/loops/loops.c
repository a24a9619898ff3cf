/* Compiled once for each instruction set, with GB_ISA_NAME telling the copies apart. */
#include <string.h>

#include "backends/cpu/loops/loops.h"
#include "backends/cpu/vmath.h"

/* The result may be one of the arguments, which is no dependence between elements. */
#define GB_INDEPENDENT _Pragma("GCC ivdep")

#if defined(__AVX512F__)
#define VECTOR 64
#elif defined(__AVX2__)
#define VECTOR 32
#else
#define VECTOR 16
#endif
typedef float vector __attribute__((vector_size(VECTOR)));

#include "loops_generated.h"

static void copy(int64_t n, void *const *p, double imm)
{
    (void)imm;
    if (p[0] != p[1]) memcpy(p[0], p[1], (size_t)n * 4);
}

static void fill(int64_t n, void *const *p, double imm)
{
    (void)imm;
    const int32_t v = *(const int32_t *)p[1];
    int32_t *o = p[0];
    for (int64_t i = 0; i < n; i++) o[i] = v;
}

/* Sums in LANES independent accumulators, a fixed order whatever the vector width. */
#define LANES 64
#define FOLDED 8 /* so many of f64 take the lanes, and what is left of a row */

typedef struct {
    double s[FOLDED];
} sums;

static inline void take(sums *to, const float *x)
{
    for (int k = 0; k < FOLDED; k++) to->s[k] += x[k];
}

static inline double total(const sums *t)
{
    return ((t->s[0] + t->s[1]) + (t->s[2] + t->s[3])) +
           ((t->s[4] + t->s[5]) + (t->s[6] + t->s[7]));
}

static double sum(const float *x, int64_t n)
{
    sums t = {{0}};
    double rest = 0;
    int64_t i = 0;
    if (n >= LANES) {
        float lane[LANES] = {0};
        for (; i + LANES <= n; i += LANES)
            for (int k = 0; k < LANES; k++) lane[k] += x[i + k];
        for (int k = 0; k < LANES; k += FOLDED) take(&t, lane + k);
    }
    for (; i + FOLDED <= n; i += FOLDED) take(&t, x + i);
    for (; i < n; i++) rest += x[i];
    return total(&t) + rest;
}

static double square_sum(const float *x, int64_t n, float shift)
{
    sums t = {{0}};
    double rest = 0;
    int64_t i = 0;
    if (n >= LANES) {
        float lane[LANES] = {0};
        for (; i + LANES <= n; i += LANES)
            for (int k = 0; k < LANES; k++) {
                float d = x[i + k] - shift;
                lane[k] += d * d;
            }
        for (int k = 0; k < LANES; k += FOLDED) take(&t, lane + k);
    }
    for (; i + FOLDED <= n; i += FOLDED)
        for (int k = 0; k < FOLDED; k++) {
            double d = x[i + k] - shift;
            t.s[k] += d * d;
        }
    for (; i < n; i++) rest += (double)(x[i] - shift) * (x[i] - shift);
    return total(&t) + rest;
}

#define EXTREME(name, pick)                                                                        \
    static float name(const float *x, int64_t n)                                                   \
    {                                                                                              \
        float lane[LANES], best = x[0];                                                            \
        int64_t i = 0, lanes = n < LANES ? 0 : LANES;                                              \
        memcpy(lane, x, (size_t)lanes * sizeof *lane);                                             \
        for (i = lanes; lanes && i + LANES <= n; i += LANES)                                       \
            for (int k = 0; k < LANES; k++) lane[k] = pick(lane[k], x[i + k]);                     \
        for (int64_t half = lanes / 2; half; half /= 2)                                            \
            for (int64_t k = 0; k < half; k++) lane[k] = pick(lane[k], lane[k + half]);            \
        if (lanes) best = lane[0];                                                                 \
        for (; i < n; i++) best = pick(best, x[i]);                                                \
        return best;                                                                               \
    }
EXTREME(max, gb_fmax)
EXTREME(min, gb_fmin)

/* --- lanes --- */

/* The run of elements before lane 0 comes up. */
static int64_t head_of(int64_t n, int64_t lane, int64_t width)
{
    int64_t head = lane ? width - lane : 0;
    return head < n ? head : n;
}

/* Rows of `width` elements: blocks of lanes stay in registers over all rows. */
#define ACCUMULATE(name, type, neutral, combine)                                                   \
    static void name(const void *data, int64_t n, int64_t lane, int64_t width, void *lanes)        \
    {                                                                                              \
        const type *restrict x = data;                                                             \
        type *restrict acc = lanes;                                                                \
        int64_t head = head_of(n, lane, width), b = 0;                                             \
        for (int64_t i = 0; i < head; i++) acc[lane + i] = combine(acc[lane + i], x[i]);           \
        x += head;                                                                                 \
        n -= head;                                                                                 \
        const int64_t rows = n / width;                                                            \
        for (; rows && b + LANES <= width; b += LANES) {                                           \
            type r[LANES];                                                                         \
            for (int k = 0; k < LANES; k++) r[k] = neutral;                                        \
            for (int64_t i = b; i < rows * width; i += width)                                      \
                for (int k = 0; k < LANES; k++) r[k] = combine(r[k], x[i + k]);                    \
            for (int k = 0; k < LANES; k++) acc[b + k] = combine(acc[b + k], r[k]);                \
        }                                                                                          \
        for (int64_t row = 0; row < rows; row++)                                                   \
            for (int64_t i = b; i < width; i++) acc[i] = combine(acc[i], x[row * width + i]);      \
        x += rows * width;                                                                         \
        for (int64_t i = 0; i < n - rows * width; i++) acc[i] = combine(acc[i], x[i]);             \
    }
#define PLUS(a, b) ((a) + (b))
#define TIMES(a, b) ((a) * (b))
#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define SMALLER(a, b) ((a) < (b) ? (a) : (b))
ACCUMULATE(acc_sum, float, 0, PLUS)
ACCUMULATE(acc_product, float, 1, TIMES)
ACCUMULATE(acc_max, float, -INFINITY, gb_fmax)
ACCUMULATE(acc_min, float, INFINITY, gb_fmin)
ACCUMULATE(acc_sum_int, uint32_t, 0, PLUS)
ACCUMULATE(acc_product_int, uint32_t, 1, TIMES)
ACCUMULATE(acc_max_int, int32_t, INT32_MIN, LARGER)
ACCUMULATE(acc_min_int, int32_t, INT32_MAX, SMALLER)

static void add_moments(const float *restrict x, int64_t n, const float *restrict shift,
                        float *restrict sum, float *restrict squares)
{
    for (int64_t i = 0; i < n; i++) {
        float d = x[i] - shift[i];
        sum[i] += d;
        squares[i] += d * d;
    }
}

#define MOMENTS (4 * VECTOR / 4) /* three arrays of so many stay in registers */

static void acc_moments(const float *restrict x, int64_t n, int64_t lane, int64_t width,
                        const float *restrict shift, float *restrict sum, float *restrict squares)
{
    int64_t head = head_of(n, lane, width), b = 0;
    add_moments(x, head, shift + lane, sum + lane, squares + lane);
    x += head;
    n -= head;
    const int64_t rows = n / width;
    for (; rows && b + MOMENTS <= width; b += MOMENTS) {
        float s[MOMENTS] = {0}, q[MOMENTS] = {0}, m[MOMENTS];
        memcpy(m, shift + b, sizeof m);
        for (int64_t i = b; i < rows * width; i += width)
            for (int k = 0; k < MOMENTS; k++) {
                float d = x[i + k] - m[k];
                s[k] += d;
                q[k] = gb_mad(d, d, q[k]);
            }
        for (int k = 0; k < MOMENTS; k++) sum[b + k] += s[k];
        for (int k = 0; k < MOMENTS; k++) squares[b + k] += q[k];
    }
    for (int64_t row = 0; row < rows; row++)
        add_moments(x + row * width + b, width - b, shift + b, sum + b, squares + b);
    add_moments(x + rows * width, n - rows * width, shift, sum, squares);
}

/* --- pools: a block of channels stays in registers over all taps --- */

typedef int32_t ints __attribute__((vector_size(VECTOR)));
typedef float vector_at __attribute__((vector_size(VECTOR), aligned(4), may_alias));
typedef int32_t ints_at __attribute__((vector_size(VECTOR), aligned(4), may_alias));
#define FLOATS (VECTOR / 4)

static inline ints pick(ints mask, ints yes, ints no)
{
    return (mask & yes) | (~mask & no);
}

/* The first maximum; a NaN is one. */
static void max_pool_block(const gb_window_rows *w, int64_t i, float *y, int32_t *index)
{
    vector best = *(const vector_at *)(w->tap[0] + i);
    ints where = (ints){0} + w->position[0];
    for (int t = 1; t < w->taps; t++) {
        vector x = *(const vector_at *)(w->tap[t] + i);
        ints keep = (x <= best) | (best != best);
        where = pick(keep, where, (ints){0} + w->position[t]);
        best = (vector)pick(keep, (ints)best, (ints)x);
    }
    *(vector_at *)(y + i) = best;
    if (index) *(ints_at *)(index + i) = where;
}

static void max_pool(const gb_window_rows *w, int64_t c, float *restrict y, int32_t *restrict index)
{
    int64_t i = 0;
    for (; w->taps && i + FLOATS <= c; i += FLOATS) max_pool_block(w, i, y, index);
    for (; i < c; i++) {
        float best = w->taps ? w->tap[0][i] : -INFINITY;
        int32_t where = w->taps ? w->position[0] : -1;
        for (int t = 1; t < w->taps; t++) {
            float x = w->tap[t][i];
            if (x <= best || best != best) continue;
            best = x;
            where = w->position[t];
        }
        y[i] = best;
        if (index) index[i] = where;
    }
}

static void average_pool(const gb_window_rows *w, int64_t c, float divisor, float *restrict y)
{
    int64_t i = 0;
    for (; i + FLOATS <= c; i += FLOATS) {
        double sum[FLOATS] = {0};
        for (int t = 0; t < w->taps; t++)
            for (int k = 0; k < FLOATS; k++) sum[k] += w->tap[t][i + k];
        for (int k = 0; k < FLOATS; k++) y[i + k] = (float)(sum[k] / divisor);
    }
    for (; i < c; i++) {
        double sum = 0;
        for (int t = 0; t < w->taps; t++) sum += w->tap[t][i];
        y[i] = (float)(sum / divisor);
    }
}

static void max_pool_grad(const gb_window_sums *w, int32_t position, int64_t c, float *restrict dx)
{
    int64_t i = 0;
    for (; i + FLOATS <= c; i += FLOATS) {
        vector sum = {0};
        for (int t = 0; t < w->windows; t++) {
            ints here = *(const ints_at *)(w->index[t] + i) == position;
            sum += (vector)(here & *(const ints_at *)(w->dy[t] + i));
        }
        *(vector_at *)(dx + i) = sum;
    }
    for (; i < c; i++) {
        float sum = 0;
        for (int t = 0; t < w->windows; t++) sum += w->index[t][i] == position ? w->dy[t][i] : 0.0f;
        dx[i] = sum;
    }
}

static void average_pool_grad(const gb_window_sums *w, int64_t c, float *restrict dx)
{
    int64_t i = 0;
    for (; i + FLOATS <= c; i += FLOATS) {
        vector sum = {0};
        for (int t = 0; t < w->windows; t++)
            sum += w->scale[t] * *(const vector_at *)(w->dy[t] + i);
        *(vector_at *)(dx + i) = sum;
    }
    for (; i < c; i++) {
        float sum = 0;
        for (int t = 0; t < w->windows; t++) sum += w->scale[t] * w->dy[t][i];
        dx[i] = sum;
    }
}

static void add_scaled(const float *restrict x, float scale, int64_t n, float *restrict y)
{
    for (int64_t i = 0; i < n; i++) y[i] += scale * x[i];
}

#define CHAINS 12 /* enough to hide the latency, few enough for 16 registers */

__attribute__((optimize("fp-contract=fast"))) static double multiply_adds(int64_t rounds,
                                                                          float *sink)
{
    vector acc[CHAINS], a = {0}, b = {0};
    a += sink[0];
    b += sink[1];
    for (int k = 0; k < CHAINS; k++) acc[k] = a + (float)k;
    for (int64_t i = 0; i < rounds; i++)
        for (int k = 0; k < CHAINS; k++) acc[k] = acc[k] * a + b;
    for (int k = 1; k < CHAINS; k++) acc[0] += acc[k];
    sink[0] = acc[0][0];
    return 2.0 * CHAINS * (VECTOR / 4) * (double)rounds;
}

static void triad(const float *restrict a, const float *restrict b, float s, int64_t n,
                  float *restrict y)
{
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + s * b[i];
}

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

extern const gb_loops JOIN(gb_loops_, GB_ISA_NAME);
const gb_loops JOIN(gb_loops_, GB_ISA_NAME) = {
    .loop = loop_table,
    .n = (int)(sizeof loop_table / sizeof *loop_table),
    .copy = copy,
    .fill = fill,
    .sum = sum,
    .square_sum = square_sum,
    .max = max,
    .min = min,
    .accumulate = {acc_sum, acc_product, acc_max, acc_min},
    .accumulate_int = {acc_sum_int, acc_product_int, acc_max_int, acc_min_int},
    .accumulate_moments = acc_moments,
    .max_pool = max_pool,
    .average_pool = average_pool,
    .max_pool_grad = max_pool_grad,
    .average_pool_grad = average_pool_grad,
    .multiply_adds = multiply_adds,
    .triad = triad,
    .add_scaled = add_scaled,
};
