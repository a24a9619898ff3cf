/* The data of cases. */
#include <float.h>
#include <math.h>

#include "core/base/philox.h"
#include "core/check/check.h"

void gb_check_uniform(gb_tensor *t, uint64_t seed, uint32_t stream, double low, double high)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    int64_t n = gb_shape_count(&t->shape);
    for (int64_t i = 0; i < n; i++) {
        uint32_t out[4];
        gb_philox((const uint32_t[4]){(uint32_t)i, stream, 0, 0}, key, out);
        double v = low + (high - low) * gb_uniform(out[0]);
        gb_tensor_set(t, i, gb_dtype_is_float(t->dtype) ? (float)v : floor(v));
    }
}

void gb_check_special(gb_tensor *t, bool slow, bool huge)
{
    static const float real[] = {1,    -2.5f, NAN,  INFINITY, -INFINITY, 0,    -0.0f, 1e-40f,
                                 -1e-40f, FLT_MAX, -1e30f, 1e-30f, 88.8f, -104, 0.5f, -1};
    static const int32_t whole[] = {1, -2, 0, INT32_MAX, INT32_MIN, 7, -1, 1 << 20,
                                    -(1 << 20), 3, 127, -128, 255, 65535, -32768, 42};
    enum { N = sizeof real / sizeof *real };
    int64_t n = gb_shape_count(&t->shape);
    for (int64_t i = 0; i < n; i++) {
        int k = (int)((slow ? i / N : i) % N);
        double v = gb_dtype_is_float(t->dtype) ? real[k] : whole[k];
        gb_tensor_set(t, i, !huge && isfinite(v) && fabs(v) > 1e5 ? copysign(1000.5, v) : v);
    }
}
