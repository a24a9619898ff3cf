/* Whitening filters: the principal axes of the images' patches, each scaled to variance one. */
#include "core/nn/layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATCH = 512, MAX_IMAGES = 5000, SWEEPS = 60 };

static const double whiten_eps = 5e-4;

/* Jacobi's method: a (n × n, symmetric) becomes diagonal, the columns of v its eigenvectors. */
static void eigen(double *a, double *v, int n)
{
    for (int i = 0; i < n * n; i++) v[i] = i / n == i % n;
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double off = 0, diagonal = 0;
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) *(i == j ? &diagonal : &off) += a[i * n + j] * a[i * n + j];
        if (off <= 1e-24 * diagonal) return;
        for (int p = 0; p < n; p++) {
            for (int q = p + 1; q < n; q++) {
                if (a[p * n + q] == 0) continue;
                double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
                double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(t * t + 1), s = t * c;
                for (int k = 0; k < n; k++) {
                    double x = a[k * n + p], y = a[k * n + q];
                    a[k * n + p] = c * x - s * y;
                    a[k * n + q] = s * x + c * y;
                }
                for (int k = 0; k < n; k++) {
                    double x = a[p * n + k], y = a[q * n + k];
                    a[p * n + k] = c * x - s * y;
                    a[q * n + k] = s * x + c * y;
                    x = v[k * n + p], y = v[k * n + q];
                    v[k * n + p] = c * x - s * y;
                    v[k * n + q] = s * x + c * y;
                }
            }
        }
    }
}

/* Adds the outer products of all patches of one image to cov. */
static void add_patches(const float *image, const gb_shape *shape, int64_t kh, int64_t kw,
                        double *cov, double *patch)
{
    int64_t c = shape->dim[1], h = shape->dim[2], w = shape->dim[3];
    int n = (int)(c * kh * kw);
    for (int64_t y = 0; y + kh <= h; y++) {
        for (int64_t x = 0; x + kw <= w; x++) {
            int k = 0;
            for (int64_t i = 0; i < c; i++)
                for (int64_t dy = 0; dy < kh; dy++)
                    for (int64_t dx = 0; dx < kw; dx++)
                        patch[k++] = image[(i * h + y + dy) * w + x + dx];
            for (int i = 0; i < n; i++)
                for (int j = 0; j <= i; j++) cov[i * n + j] += patch[i] * patch[j];
        }
    }
}

static int by_value_falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Filters in order of falling variance, then the same negated: 2n filters. */
static void write_filters(const double *values, const double *vectors, int n, gb_tensor *weight)
{
    float *out = weight->data;
    int64_t filters = weight->shape.dim[0];
    double order[MAX_PATCH][2];
    for (int i = 0; i < n; i++) {
        order[i][0] = values[i * n + i];
        order[i][1] = i;
    }
    qsort(order, (size_t)n, sizeof order[0], by_value_falling);
    for (int64_t f = 0; f < filters; f++) {
        int column = (int)order[f % n][1];
        double scale = (f / n % 2 ? -1 : 1) / sqrt(fmax(order[f % n][0], 0) + whiten_eps);
        /* an eigenvector's sign is arbitrary: fix it, so that results do not depend on rounding */
        double first = 0;
        for (int k = 0; k < n && first == 0; k++)
            if (fabs(vectors[k * n + column]) > 1e-6) first = vectors[k * n + column];
        if (first < 0) scale = -scale;
        for (int k = 0; k < n; k++) out[f * n + k] = (float)(vectors[k * n + column] * scale);
    }
}

static const gb_layer *whitening_layer(const gb_model *model)
{
    for (size_t i = 0; i < model->layers.n; i++)
        if (model->layers.items[i].o.init == GB_INIT_WHITEN) return &model->layers.items[i];
    return NULL;
}

gb_status gb_model_whiten(const gb_model *model, const gb_tensor *images, gb_tensor *weight,
                          gb_error *err)
{
    *weight = (gb_tensor){0};
    const gb_layer *l = whitening_layer(model);
    const gb_shape *shape = &images->shape;
    if (!l) return gb_fail(err, GB_INVALID, NULL, NULL, "the model has no whitening layer");
    int64_t kh = l->o.kernel.v[0], kw = l->o.kernel.v[l->o.kernel.n > 1];
    if (images->dtype != GB_F32 || shape->rank != 4 || shape->dim[0] < 1 || shape->dim[2] < kh ||
        shape->dim[3] < kw || shape->dim[1] * kh * kw > MAX_PATCH)
        return gb_fail(err, GB_INVALID, model->whitening, NULL,
                       "whitening wants f32 images [N, C, H, W] and patches of at most %d numbers",
                       MAX_PATCH);
    int n = (int)(shape->dim[1] * kh * kw);
    gb_shape out = gb_shape_of(4, (int)l->o.out, (int)shape->dim[1], (int)kh, (int)kw);
    double *cov = calloc((size_t)n * (size_t)(2 * n + 1), sizeof *cov);
    if (!cov) return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory to whiten images");
    gb_status s = gb_tensor_alloc(weight, GB_F32, &out, err);
    if (!s) {
        double *vectors = cov + n * n, *patch = vectors + n * n;
        int64_t used = shape->dim[0] < MAX_IMAGES ? shape->dim[0] : MAX_IMAGES;
        int64_t one = shape->dim[1] * shape->dim[2] * shape->dim[3];
        for (int64_t i = 0; i < used; i++)
            add_patches((const float *)images->data + i * one, shape, kh, kw, cov, patch);
        double count = (double)used * (double)((shape->dim[2] - kh + 1) * (shape->dim[3] - kw + 1));
        for (int i = 0; i < n; i++)
            for (int j = 0; j <= i; j++) cov[i * n + j] = cov[j * n + i] = cov[i * n + j] / count;
        eigen(cov, vectors, n);
        write_filters(cov, vectors, n, weight);
    }
    free(cov);
    return s;
}
