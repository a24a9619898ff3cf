/* Initial weights, drawn on the host: element i of a state is a function of (seed, name, i). */
#include "core/nn/layer.h"

#include <math.h>
#include <string.h>

#include "core/base/philox.h"

static uint64_t hash_name(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}

/* Four draws: elements 4 * block … 4 * block + 3. */
static void draw(uint64_t seed, uint64_t hash, uint64_t block, uint32_t out[4])
{
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)hash,
                           (uint32_t)(hash >> 32)};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    gb_philox(counter, key, out);
}

void gb_init_uniform(gb_tensor *t, const char *name, uint64_t seed, double bound)
{
    float *data = t->data;
    uint64_t hash = hash_name(name);
    int64_t n = gb_shape_count(&t->shape);
    uint32_t r[4];
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0) draw(seed, hash, (uint64_t)i / 4, r);
        data[i] = (float)((2.0 * gb_uniform(r[i % 4]) - 1.0) * bound);
    }
}

void gb_init_normal(gb_tensor *t, const char *name, uint64_t seed, double deviation)
{
    float *data = t->data;
    uint64_t hash = hash_name(name);
    int64_t n = gb_shape_count(&t->shape);
    uint32_t r[4] = {0};
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0) draw(seed, hash, (uint64_t)i / 4, r);
        /* Box and Muller: two uniform draws make two normal ones */
        double u = 1.0 - gb_uniform(r[i % 4 & 2]), v = gb_uniform(r[(i % 4) | 1]);
        double radius = sqrt(-2 * log(u)) * deviation, angle = 6.283185307179586 * v;
        data[i] = (float)(radius * (i & 1 ? sin(angle) : cos(angle)));
    }
}

/* The identity on as many channels as there are: the centre tap of filter i reads channel i. */
static void init_dirac(gb_tensor *t)
{
    float *data = t->data;
    int64_t out = t->shape.dim[0], in = t->shape.dim[1], taps = 1, centre = 0;
    for (int i = 2; i < t->shape.rank; i++) {
        centre = centre * t->shape.dim[i] + t->shape.dim[i] / 2;
        taps *= t->shape.dim[i];
    }
    for (int64_t i = 0; i < out && i < in; i++) {
        memset(data + i * in * taps, 0, (size_t)(in * taps) * sizeof *data);
        data[(i * in + i) * taps + centre] = 1;
    }
}

void gb_init_fill(gb_tensor *t, const char *name, uint64_t seed, int init, int64_t fan_in,
                  int64_t fan_out)
{
    double in = fan_in > 0 ? (double)fan_in : 1, out = fan_out > 0 ? (double)fan_out : 1;
    switch ((gb_init)init) {
    case GB_INIT_KAIMING_UNIFORM:
        gb_init_uniform(t, name, seed, sqrt(6 / in));
        break;
    case GB_INIT_KAIMING_NORMAL:
        gb_init_normal(t, name, seed, sqrt(2 / in));
        break;
    case GB_INIT_KAIMING_NORMAL_OUT:
        gb_init_normal(t, name, seed, sqrt(2 / out));
        break;
    case GB_INIT_XAVIER_UNIFORM:
        gb_init_uniform(t, name, seed, sqrt(6 / (in + out)));
        break;
    case GB_INIT_XAVIER_NORMAL:
        gb_init_normal(t, name, seed, sqrt(2 / (in + out)));
        break;
    case GB_INIT_ZEROS:
        break; /* tensors are allocated zeroed */
    case GB_INIT_MODEL:
    case GB_INIT_WHITEN:
    case GB_INIT_DIRAC: /* what PyTorch's layers do: kaiming_uniform with a = √5 */
        gb_init_uniform(t, name, seed, 1 / sqrt(in));
        if (init == GB_INIT_DIRAC && t->shape.rank > 1) init_dirac(t);
        break;
    }
}
