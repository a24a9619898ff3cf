/* Speed of the CPU contractions, each implementation, as a share of the peak of fused
 * multiply-adds measured in the same run.
 *
 *     bench_cpu_kernels [--isa avx2] [--threads N] [--impl NAME] [--ms N] [WORD...]
 *
 * WORDs select problems whose name contains one of them. With one thread (the default) time is
 * this thread's CPU time, so that other work on the machine disturbs little. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "backends/cpu/kernels/contraction.h"

typedef struct {
    const char *name;
    gb_contraction problem;
    double flop;
} task;

enum { MAX_TASKS = 128 };

static int threads = 1;

static double now(void)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define DEFINE_PEAK(name, bytes, features)                                                         \
    __attribute__((target(features), optimize("fp-contract=fast"))) static double name(int rounds) \
    {                                                                                              \
        typedef float v __attribute__((vector_size(bytes)));                                       \
        v acc[12] = {0}, x = {0}, y = {0};                                                         \
        for (int i = 0; i < 12; i++) __asm__ volatile("" : "+x"(acc[i])); /* not known equal */    \
        for (int r = 0; r < rounds; r++) {                                                         \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) acc[i] = acc[i] * x + y;         \
            __asm__ volatile("" : "+x"(x));                                                        \
        }                                                                                          \
        for (int i = 1; i < 12; i++) acc[0] += acc[i];                                             \
        __asm__ volatile("" : : "x"(acc[0]));                                                      \
        return 24.0 * (bytes) / 4 * rounds;                                                        \
    }
#if defined(__x86_64__)
DEFINE_PEAK(peak_avx512, 64, "avx512f")
DEFINE_PEAK(peak_avx2, 32, "avx2,fma")
DEFINE_PEAK(peak_baseline, 16, "sse2")
#else
DEFINE_PEAK(peak_baseline, 16, "arch=armv8-a")
#endif

typedef struct {
    gb_isa isa;
    double flop[256];
} peak_job;

static void peak_task(void *ctx, int64_t i, int worker)
{
    (void)worker;
    peak_job *p = ctx;
    enum { ROUNDS = 200000 };
#if defined(__x86_64__)
    p->flop[i] = p->isa == GB_ISA_AVX512 ? peak_avx512(ROUNDS)
                 : p->isa == GB_ISA_AVX2 ? peak_avx2(ROUNDS)
                                         : peak_baseline(ROUNDS);
#else
    p->flop[i] = peak_baseline(ROUNDS);
#endif
}

static double measure_peak(const gb_cpu *cpu)
{
    peak_job p = {.isa = cpu->isa};
    double best = 0;
    for (int r = 0; r < 8; r++) {
        double t = now();
        gb_pool_run(cpu->pool, threads, peak_task, &p);
        double flops = p.flop[0] * threads / (now() - t);
        if (flops > best) best = flops;
    }
    return best;
}

static float *filled(size_t count)
{
    size_t huge = (size_t)2 << 20, bytes = (count * sizeof(float) + huge - 1) / huge * huge;
    float *p = aligned_alloc(huge, bytes);
    if (!p) exit(1);
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* as the device allocates */
    for (size_t i = 0; i < count; i++) p[i] = (float)(i * 2654435761u % 1000) / 1000 - 0.5f;
    return p;
}

static void measure(const gb_cpu *cpu, const task *t, const char *impl, double ms)
{
    gb_contraction_plan plan;
    if (gb_contraction_plan_make(cpu, &t->problem, impl, &plan, NULL)) return;
    const gb_conv_dims *d = &t->problem.conv;
    const gb_gemm_dims *g = &t->problem.gemm;
    size_t n = t->problem.kind == GB_GEMM
                   ? (size_t)(g->m * g->k + g->k * g->n + g->m * g->n)
                   : (size_t)(d->n * (d->h * d->w * d->c + d->oh * d->ow * d->o) +
                              d->o * d->kh * d->kw * d->c);
    float *a = filled(n), *b = filled(n), *c = filled(n);
    gb_contraction_args args = {.a = a, .b = b, .c = c};
    args.scratch = filled(plan.scratch_bytes / sizeof(float) + 1);
    double best = 1e9, spent = 0;
    for (int r = 0; r < 3 || spent < ms * 1e-3; r++) {
        double s = now();
        gb_contraction_run(&plan, &args);
        s = now() - s;
        spent += s;
        if (s < best) best = s;
        if (spent > 10 * ms * 1e-3) break;
    }
    double peak = measure_peak(cpu);
    printf("%-34s %-10s %8.3f ms %7.1f GFLOP/s  %.2f of %.0f\n", t->name,
           gb_contraction_plan_name(&plan), best * 1e3, t->flop / best * 1e-9,
           t->flop / best / peak, peak * 1e-9);
    fflush(stdout);
    free(args.scratch);
    free(a);
    free(b);
    free(c);
    gb_contraction_plan_free(&plan);
}

static task conv(const char *name, gb_contraction_kind kind, int64_t n, int64_t hw, int64_t c,
                 int64_t o, int64_t k, int64_t stride, int64_t pad)
{
    int64_t out = (hw + 2 * pad - k) / stride + 1;
    gb_conv_dims d = {.n = n,
                      .h = hw,
                      .w = hw,
                      .c = c,
                      .oh = out,
                      .ow = out,
                      .o = o,
                      .kh = k,
                      .kw = k,
                      .groups = 1,
                      .stride_h = stride,
                      .stride_w = stride,
                      .dilation_h = 1,
                      .dilation_w = 1,
                      .pad_top = pad,
                      .pad_left = pad};
    return (task){
        name, {.kind = kind, .conv = d}, 2.0 * (double)(n * out * out) * (double)(c * o * k * k)};
}

static task gemm(const char *name, int64_t m, int64_t n, int64_t k, bool ta, bool tb)
{
    gb_gemm_dims d = {.m = m,
                      .n = n,
                      .k = k,
                      .batch = {1, 1},
                      .a_row = ta ? 1 : k,
                      .a_col = ta ? m : 1,
                      .b_row = tb ? 1 : n,
                      .b_col = tb ? k : 1,
                      .c_row = n};
    return (task){name, {.kind = GB_GEMM, .gemm = d}, 2.0 * (double)m * (double)n * (double)k};
}

static size_t tasks_of(task *t)
{
    static const struct {
        const char *name;
        int64_t n, hw, c, o, k, stride, pad;
    } convs[] = {
        /* ResNet-18 */
        {"r18 64x32x32 3x3", 128, 32, 64, 64, 3, 1, 1},
        {"r18 128x16x16 3x3", 128, 16, 128, 128, 3, 1, 1},
        {"r18 256x8x8 3x3", 128, 8, 256, 256, 3, 1, 1},
        {"r18 512x4x4 3x3", 128, 4, 512, 512, 3, 1, 1},
        {"r18 3-64x32x32 3x3", 128, 32, 3, 64, 3, 1, 1},
        {"r18 64-128x32x32 3x3 s2", 128, 32, 64, 128, 3, 2, 1},
        {"r18 128-256x16x16 3x3 s2", 128, 16, 128, 256, 3, 2, 1},
        {"r18 256-512x8x8 3x3 s2", 128, 8, 256, 512, 3, 2, 1},
        {"r18 64-128x32x32 1x1 s2", 128, 32, 64, 128, 1, 2, 0},
        {"r18 256-512x8x8 1x1 s2", 128, 8, 256, 512, 1, 2, 0},
        /* ResNet-20 */
        {"r20 16x32x32 3x3", 128, 32, 16, 16, 3, 1, 1},
        {"r20 32x16x16 3x3", 128, 16, 32, 32, 3, 1, 1},
        {"r20 64x8x8 3x3", 128, 8, 64, 64, 3, 1, 1},
        {"r20 3-16x32x32 3x3", 128, 32, 3, 16, 3, 1, 1},
        {"r20 16-32x32x32 3x3 s2", 128, 32, 16, 32, 3, 2, 1},
        {"r20 32-64x16x16 3x3 s2", 128, 16, 32, 64, 3, 2, 1},
        {"r20 16-32x32x32 1x1 s2", 128, 32, 16, 32, 1, 2, 0},
        {"r20 32-64x16x16 1x1 s2", 128, 16, 32, 64, 1, 2, 0},
        /* airbench94 */
        {"air 3-24x32x32 2x2", 1024, 32, 3, 24, 2, 1, 0},
        {"air 24-64x31x31 3x3", 1024, 31, 24, 64, 3, 1, 1},
        {"air 64x15x15 3x3", 1024, 15, 64, 64, 3, 1, 1},
        {"air 64-256x15x15 3x3", 1024, 15, 64, 256, 3, 1, 1},
        {"air 256x7x7 3x3", 1024, 7, 256, 256, 3, 1, 1},
        {"air 256x3x3 3x3", 1024, 3, 256, 256, 3, 1, 1},
        /* Fashion-MNIST's network */
        {"fm 1-32x28x28 3x3", 128, 28, 1, 32, 3, 1, 1},
        {"fm 32-64x14x14 3x3", 128, 14, 32, 64, 3, 1, 1},
        {"64x32x32 1x1", 128, 32, 64, 64, 1, 1, 0},
        /* one image */
        {"one 3-16x32x32 3x3", 1, 32, 3, 16, 3, 1, 1},
        {"one 16x32x32 3x3", 1, 32, 16, 16, 3, 1, 1},
        {"one 16-32x32x32 3x3 s2", 1, 32, 16, 32, 3, 2, 1},
        {"one 32x16x16 3x3", 1, 16, 32, 32, 3, 1, 1},
        {"one 64x8x8 3x3", 1, 8, 64, 64, 3, 1, 1},
    };
    static const char *const kinds[] = {"fwd", "data", "wgt"};
    static char names[MAX_TASKS][48];
    size_t n = 0;
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++)
        for (int kind = 0; kind < 3; kind++, n++) {
            snprintf(names[n], sizeof names[n], "%s %s", kinds[kind], convs[i].name);
            t[n] = conv(names[n], GB_CONV_FORWARD + kind, convs[i].n, convs[i].hw, convs[i].c,
                        convs[i].o, convs[i].k, convs[i].stride, convs[i].pad);
        }
    for (int kind = 0; kind < 3; kind++, n++) {
        snprintf(names[n], sizeof names[n], "%s depthwise 64x32x32 3x3", kinds[kind]);
        t[n] = conv(names[n], GB_CONV_FORWARD + kind, 128, 32, 64, 64, 3, 1, 1);
        t[n].problem.conv.groups = 64;
        t[n].flop /= 64;
    }
    t[n++] = gemm("gemm 1024x1024x1024", 1024, 1024, 1024, false, false);
    t[n++] = gemm("gemm 4096x512x2048", 4096, 512, 2048, false, false);
    t[n++] = gemm("gemm 128x512x784 nt", 128, 512, 784, false, true);
    t[n++] = gemm("gemm 128x784x512 nn", 128, 784, 512, false, false);
    t[n++] = gemm("gemm 512x784x128 tn", 512, 784, 128, true, false);
    t[n++] = gemm("gemm 128x10x512 nt", 128, 10, 512, false, true);
    t[n++] = gemm("gemm 128x512x10 nn", 128, 512, 10, false, false);
    t[n++] = gemm("gemm 10x512x128 tn", 10, 512, 128, true, false);
    t[n++] = gemm("gemm 128x128x3136 nt", 128, 128, 3136, false, true);
    t[n++] = gemm("gemm 128x3136x128 nn", 128, 3136, 128, false, false);
    t[n++] = gemm("gemm 128x3136x128 tn", 128, 3136, 128, true, false);
    t[n++] = gemm("gemm 1x512x2048 nt", 1, 512, 2048, false, true);
    return n;
}

int main(int argc, char **argv)
{
    gb_cpu cpu = {.isa = gb_isa_best(), .fast_winograd = true};
    const char *impl = NULL, *words[64];
    double ms = 60;
    int count = 0;
    for (int i = 1; i < argc && count < 64; i++) {
        if (!strcmp(argv[i], "--isa") && i + 1 < argc) {
            for (cpu.isa = GB_ISA_BASELINE; strcmp(argv[i + 1], gb_isa_name(cpu.isa)); cpu.isa++)
                if (cpu.isa == gb_isa_best()) return 2;
            i++;
        } else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--impl") && i + 1 < argc)
            impl = argv[++i];
        else if (!strcmp(argv[i], "--ms") && i + 1 < argc)
            ms = atof(argv[++i]);
        else
            words[count++] = argv[i];
    }
    if (threads < 1 || threads > 256 || gb_pool_create(threads, &cpu.pool, NULL)) return 2;
    static task tasks[MAX_TASKS];
    size_t n = tasks_of(tasks);
    for (size_t i = 0; i < n; i++) {
        bool wanted = !count;
        for (int w = 0; w < count; w++) wanted |= strstr(tasks[i].name, words[w]) != NULL;
        if (!wanted) continue;
        if (impl) measure(&cpu, &tasks[i], impl, ms);
        for (size_t j = 0; !impl && gb_contraction_impl_name(j); j++)
            if (strcmp(gb_contraction_impl_name(j), "plain"))
                measure(&cpu, &tasks[i], gb_contraction_impl_name(j), ms);
    }
    gb_pool_destroy(cpu.pool);
    return 0;
}
