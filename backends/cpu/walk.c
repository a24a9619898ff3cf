#include "backends/cpu/walk.h"

#include <stdlib.h>
#include <string.h>

#include "backends/cpu/loops/loops.h"

void gb_cpu_space_sort(gb_cpu_space *space, const int64_t *dim, const int64_t *stride, int first,
                       int last)
{
    for (int axis = first; axis < last; axis++) { /* axes of size 1 are in nobody's way */
        if (dim[axis] != 1) continue;
        space->axis[space->rank] = axis;
        space->dim[space->rank++] = 1;
    }
    int begin = space->rank;
    for (int axis = first; axis < last; axis++) {
        if (dim[axis] == 1) continue;
        int at = space->rank++;
        int64_t s = llabs(stride[axis]);
        for (; at > begin && s; at--) {
            int64_t before = llabs(stride[space->axis[at - 1]]);
            if (before == 0 || before >= s) break;
            space->axis[at] = space->axis[at - 1];
            space->dim[at] = space->dim[at - 1];
        }
        space->axis[at] = axis;
        space->dim[at] = dim[axis];
    }
}

void gb_cpu_space_count(gb_cpu_space *space)
{
    space->count = 1;
    for (int i = 0; i < space->rank; i++) space->count *= space->dim[i];
}

const gb_halves *gb_halves_of(gb_storage s)
{
    if (gb_storage_size(s) == 4) return NULL;
    return &gb_halves_for(gb_isa_best())[s == GB_S_F16 ? 0 : 1];
}

/* Short runs that repeat, such as statistics of groups over all pixels, are met once and copied. */
#define SHORT_RUN 64
#define MAX_PATTERN 512
#define FEW 16 /* runs so short are met many at a time */

static void find_pattern(gb_walk *w)
{
    int64_t inner = 1;
    for (int i = w->rank - 1; i > 0 && w->dim[w->rank - 1] < SHORT_RUN; i--) {
        inner *= w->dim[i];
        if (inner > MAX_PATTERN) return;
        if (w->stride[i - 1] != 0) continue;
        w->pattern = inner;
        w->stretch = inner * w->dim[i - 1];
    }
}

void gb_walk_init(gb_walk *w, const gb_cpu_space *space, gb_storage storage, const int64_t *stride)
{
    *w = (gb_walk){.storage = storage, .halves = gb_halves_of(storage)};
    for (int i = 0; i < space->rank; i++) {
        int64_t dim = space->dim[i], s = stride[space->axis[i]];
        if (dim == 1) continue;
        int last = w->rank - 1;
        if (last >= 0 && w->stride[last] == s * dim) {
            w->dim[last] *= dim;
            w->stride[last] = s;
        } else {
            w->dim[w->rank] = dim;
            w->stride[w->rank++] = s;
        }
    }
    find_pattern(w);
}

bool gb_walk_is_dense(const gb_walk *w)
{
    return w->rank == 1 && w->stride[0] == 1 && gb_storage_size(w->storage) == 4;
}

bool gb_walk_is_uniform(const gb_walk *w)
{
    return w->rank == 0 || (w->rank == 1 && w->stride[0] == 0);
}

int64_t gb_walk_period(const gb_walk *w)
{
    if (w->rank == 0 || w->stride[0] != 0) return 0;
    int64_t period = 1;
    for (int i = 1; i < w->rank; i++) period *= w->dim[i];
    return period;
}

/* Where a range stands, and the run of the innermost dimension that comes next. */
typedef struct {
    int64_t at[GB_MAX_RANK], offset;
} position;

static void seek(const gb_walk *w, int64_t start, position *p)
{
    p->offset = 0;
    for (int i = w->rank - 1; i >= 0; i--) {
        p->at[i] = i ? start % w->dim[i] : start;
        start /= w->dim[i];
        p->offset += p->at[i] * w->stride[i];
    }
}

int64_t gb_walk_offset(const gb_walk *w, int64_t i)
{
    position p;
    seek(w, i, &p);
    return p.offset;
}

/* Moves on by n along dimension i, which stays within it or ends it. */
static void advance(const gb_walk *w, int i, int64_t n, position *p)
{
    p->at[i] += n;
    p->offset += n * w->stride[i];
    while (i > 0 && p->at[i] == w->dim[i]) {
        p->offset -= w->dim[i] * w->stride[i];
        p->at[i--] = 0;
        p->at[i]++;
        p->offset += w->stride[i];
    }
}

static void load_run(const int32_t *restrict x, int64_t stride, int64_t n, int32_t *restrict out)
{
    if (stride == 1)
        for (int64_t i = 0; i < n; i++) out[i] = x[i];
    else if (stride == 0)
        for (int64_t i = 0, v = x[0]; i < n; i++) out[i] = (int32_t)v;
    else
        for (int64_t i = 0; i < n; i++) out[i] = x[i * stride];
}

static void store_run(const int32_t *restrict in, int64_t stride, int64_t n, int32_t *restrict x)
{
    if (stride == 1)
        for (int64_t i = 0; i < n; i++) x[i] = in[i];
    else
        for (int64_t i = 0; i < n; i++) x[i * stride] = in[i];
}

/* A strided run is gathered into contiguous pieces. */
#define PIECE 256

static void load_half_run(const gb_halves *h, const uint16_t *restrict x, int64_t stride, int64_t n,
                          float *restrict out)
{
    if (stride == 1) {
        h->widen(x, n, out);
        return;
    }
    uint16_t gathered[PIECE];
    for (int64_t done = 0; done < n; done += PIECE) {
        int64_t count = n - done < PIECE ? n - done : PIECE;
        for (int64_t i = 0; i < count; i++) gathered[i] = x[(done + i) * stride];
        h->widen(gathered, count, out + done);
    }
}

static void store_half_run(const gb_halves *h, const float *restrict in, int64_t stride, int64_t n,
                           uint16_t *restrict x)
{
    if (stride == 1) {
        h->narrow(in, n, x);
        return;
    }
    uint16_t narrow[PIECE];
    for (int64_t done = 0; done < n; done += PIECE) {
        int64_t count = n - done < PIECE ? n - done : PIECE;
        h->narrow(in + done, count, narrow);
        for (int64_t i = 0; i < count; i++) x[(done + i) * stride] = narrow[i];
    }
}

/* Calls body with `run` elements from offset p.offset to position `done` of the range. */
#define EACH_RUN(w, start, n, body)                                                                \
    do {                                                                                           \
        const gb_walk one = {.rank = 1, .dim = {1}};                                               \
        const gb_walk *walk = (w)->rank ? (w) : &one;                                              \
        const int64_t inner = walk->dim[walk->rank - 1], stride = walk->stride[walk->rank - 1];    \
        position p;                                                                                \
        seek(walk, start, &p);                                                                     \
        for (int64_t done = 0, run; done < (n); done += run) {                                     \
            run = inner - p.at[walk->rank - 1];                                                    \
            if (run > (n)-done) run = (n)-done;                                                    \
            body;                                                                                  \
            advance(walk, walk->rank - 1, run, &p);                                                \
        }                                                                                          \
    } while (0)

/* Rows of a few elements each, which are whole. */
static void load_rows(const gb_walk *w, const int32_t *restrict x, int64_t rows,
                      int32_t *restrict out)
{
    const int64_t few = w->dim[w->rank - 1], step = w->stride[w->rank - 1],
                  next = w->stride[w->rank - 2];
    if (next == 1) /* channels that are shuffled, or a transposed matrix of a few columns */
        for (int64_t k = 0; k < few; k++)
            for (int64_t r = 0; r < rows; r++) out[r * few + k] = x[k * step + r];
    else
        for (int64_t r = 0; r < rows; r++)
            for (int64_t k = 0; k < few; k++) out[r * few + k] = x[r * next + k * step];
}

static void load_few(const gb_walk *w, const int32_t *base, int64_t start, int64_t n, int32_t *out)
{
    const int last = w->rank - 1;
    const int64_t few = w->dim[last];
    position p;
    seek(w, start, &p);
    for (int64_t done = 0; done < n;) {
        int64_t rows = w->dim[last - 1] - p.at[last - 1], run = few - p.at[last];
        if (rows > (n - done) / few) rows = (n - done) / few;
        if (run == few && rows) {
            load_rows(w, base + p.offset, rows, out + done);
            advance(w, last - 1, rows, &p);
            done += rows * few;
            continue;
        }
        if (run > n - done) run = n - done;
        load_run(base + p.offset, w->stride[last], run, out + done);
        advance(w, last, run, &p);
        done += run;
    }
}

static void load_each(const gb_walk *w, const void *base, int64_t start, int64_t n, void *out)
{
    if (w->rank > 1 && w->dim[w->rank - 1] <= FEW && gb_storage_size(w->storage) == 4) {
        load_few(w, base, start, n, out);
        return;
    }
    if (gb_storage_size(w->storage) == 4) {
        EACH_RUN(w, start, n,
                 load_run((const int32_t *)base + p.offset, stride, run, (int32_t *)out + done));
        return;
    }
    EACH_RUN(w, start, n,
             load_half_run(w->halves, (const uint16_t *)base + p.offset, stride, run,
                           (float *)out + done));
}

/* Fills n elements with copies of the first `period` of them. */
static void repeat(char *out, int64_t period, int64_t n)
{
    for (int64_t done = period, more; done < n; done += more) {
        more = done < n - done ? done : n - done;
        memcpy(out + done * 4, out, (size_t)more * 4);
    }
}

void gb_walk_load(const gb_walk *w, const void *base, int64_t start, int64_t n, void *out)
{
    if (!w->pattern) {
        load_each(w, base, start, n, out);
        return;
    }
    for (int64_t done = 0, m; done < n; done += m, start += m) {
        char *to = (char *)out + done * 4;
        m = w->stretch - start % w->stretch;
        if (m > n - done) m = n - done;
        load_each(w, base, start, m < w->pattern ? m : w->pattern, to);
        repeat(to, w->pattern, m);
    }
}

void gb_walk_store(const gb_walk *w, void *base, int64_t start, int64_t n, const void *in)
{
    if (gb_storage_size(w->storage) == 4) {
        EACH_RUN(w, start, n,
                 store_run((const int32_t *)in + done, stride, run, (int32_t *)base + p.offset));
        return;
    }
    EACH_RUN(w, start, n,
             store_half_run(w->halves, (const float *)in + done, stride, run,
                            (uint16_t *)base + p.offset));
}

void gb_walk_offsets(const gb_walk *w, int64_t start, int64_t n, int32_t *out)
{
    EACH_RUN(w, start, n, {
        for (int64_t i = 0; i < run; i++) out[done + i] = (int32_t)(p.offset + i * stride);
    });
}
