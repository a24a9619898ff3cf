/* The texts of GPU kernels as C (shaders/prelude.c.h), compiled with ASan and UBSan: every variant
 * on small steps against the reference, each binding in a block of memory of exactly its size.
 *
 * usage: test_kernels COMPILER [EVERY]: every so many cases. Runs itself again with ASan loaded. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/gpu/manifest.h"
#include "tests/support/plan_case.h"

extern const gb_backend gb_reference_backend;

typedef void (*gb_run_group)(void *const *, const int *, const int *, const int *, int);

enum { MAX_KERNELS = 4000 };

struct gb_backend_device { /* the host */
    gb_gpu_caps caps;
    const char *compiler;
    char dir[64];
    int n;
    struct {
        uint64_t hash;
        gb_run_group run;
    } kernel[MAX_KERNELS];
};

struct gb_backend_buffer {
    uint8_t *data;
};

struct gb_backend_program {
    gb_backend_device *dev;
    gb_gpu_program *gpu;
    gb_run_group *run; /* by kernel */
    gb_backend_buffer *const *buffer;
};

static void query(gb_backend_device *dev, const gb_step *step, gb_answer *answer)
{
    gb_gpu_query(&dev->caps, step, answer);
}

static gb_status buffer_create(gb_backend_device *dev, uint64_t bytes, gb_backend_buffer **buf,
                               gb_error *err)
{
    *buf = malloc(sizeof **buf);
    assert_non_null(*buf);
    (*buf)->data = malloc(bytes + 16); /* bindings begin at multiples of 16 and end as they end */
    assert_non_null((*buf)->data);
    return GB_OK;
}

static void buffer_destroy(gb_backend_device *dev, gb_backend_buffer *buf)
{
    free(buf->data);
    free(buf);
}

static gb_status buffer_write(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                              uint64_t bytes, const void *src, gb_error *err)
{
    memcpy(buf->data + offset, src, bytes);
    return GB_OK;
}

static gb_status buffer_read(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                             uint64_t bytes, void *dst, gb_error *err)
{
    memcpy(dst, buf->data + offset, bytes);
    return GB_OK;
}

static gb_run_group build(gb_backend_device *dev, const gb_gpu_kernel *k)
{
    char c[96], so[96], command[400];
    for (int i = 0; i < dev->n; i++)
        if (dev->kernel[i].hash == k->hash) return dev->kernel[i].run;
    assert_true(dev->n < MAX_KERNELS);
    snprintf(c, sizeof c, "%s/%d.c", dev->dir, dev->n);
    snprintf(so, sizeof so, "%s/%d.so", dev->dir, dev->n);
    FILE *f = fopen(c, "w");
    assert_non_null(f);
    fputs(k->source, f);
    fclose(f);
    snprintf(command, sizeof command,
             "LD_PRELOAD= %s -w -O0 -g1 -fPIC -shared -fsanitize=address,undefined "
             "-fno-sanitize-recover=undefined -o %s %s -lm",
             dev->compiler, so, c);
    if (system(command)) fail_msg("%s does not compile as C: %s", k->name, c);
    void *library = dlopen(so, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail_msg("%s", dlerror());
    dev->kernel[dev->n].hash = k->hash;
    *(void **)&dev->kernel[dev->n].run = dlsym(library, "gb_run_group");
    assert_true(dev->kernel[dev->n].run != NULL);
    unlink(so);
    unlink(c);
    return dev->kernel[dev->n++].run;
}

static gb_status program_create(gb_backend_device *dev, const gb_plan *plan,
                                gb_backend_program **prog, gb_error *err)
{
    gb_backend_program *p = calloc(1, sizeof *p);
    assert_non_null(p);
    gb_status s = gb_gpu_program_create(&dev->caps, plan, &p->gpu, err);
    if (s) {
        free(p);
        return s;
    }
    p->dev = dev;
    p->run = calloc((size_t)p->gpu->n_kernels + 1, sizeof *p->run);
    for (int i = 0; i < p->gpu->n_kernels; i++) p->run[i] = build(dev, &p->gpu->kernel[i]);
    *prog = p;
    return GB_OK;
}

static void program_destroy(gb_backend_program *p)
{
    gb_gpu_program_destroy(&p->gpu);
    free(p->run);
    free(p);
}

static gb_status program_bind(gb_backend_program *p, gb_backend_buffer *const *buffers,
                              gb_error *err)
{
    p->buffer = buffers;
    return GB_OK;
}

static void run_launch(const gb_backend_program *p, const gb_gpu_launch *l)
{
    const gb_gpu_kernel *k = &p->gpu->kernel[l->kernel];
    const int size[3] = {(int)k->local[0], (int)k->local[1], (int)k->local[2]};
    const int together =
        strstr(k->source, "    GB_BARRIER;") || strstr(k->source, "lane = GB_LANE");
    void *window[GB_GPU_MAX_BINDINGS];
    for (int i = 0; i < k->n_bindings; i++) {
        const gb_gpu_binding *b = &l->binding[i];
        const uint64_t first = gb_gpu_bind_offset(&p->dev->caps, b), end = b->offset + b->bytes;
        window[i] = malloc(end - first);
        memcpy(window[i], p->buffer[b->buffer]->data + first, end - first);
    }
    for (uint32_t z = 0; z < l->groups[2]; z++)
        for (uint32_t y = 0; y < l->groups[1]; y++)
            for (uint32_t x = 0; x < l->groups[0]; x++)
                p->run[l->kernel](window, l->params, (const int[3]){(int)x, (int)y, (int)z}, size,
                                  together);
    for (int i = 0; i < k->n_bindings; i++) {
        const gb_gpu_binding *b = &l->binding[i];
        const uint64_t first = gb_gpu_bind_offset(&p->dev->caps, b), end = b->offset + b->bytes;
        if (b->write) memcpy(p->buffer[b->buffer]->data + first, window[i], end - first);
        free(window[i]);
    }
}

static gb_status program_run(gb_backend_program *p, gb_error *err)
{
    for (int i = 0; i < p->gpu->n_launches; i++) run_launch(p, &p->gpu->launch[i]);
    return GB_OK;
}

static gb_status wait_for_nothing(gb_backend_device *dev, gb_error *err)
{
    return GB_OK;
}

static const gb_backend host_backend = {.name = "host",
                                        .buffer_create = buffer_create,
                                        .buffer_destroy = buffer_destroy,
                                        .buffer_write = buffer_write,
                                        .buffer_read = buffer_read,
                                        .query = query,
                                        .program_create = program_create,
                                        .program_destroy = program_destroy,
                                        .program_bind = program_bind,
                                        .program_run = program_run,
                                        .wait = wait_for_nothing};

/* Both classes of devices, with every variant that is known. */
static void set_class(gb_backend_device *dev, bool cpu_hosted)
{
    dev->caps = (gb_gpu_caps){.api = GB_GPU_HOST,
                              .cpu_hosted = cpu_hosted,
                              .vector_width = 8,
                              .storage16 = true,
                              .shuffle = true,
                              .half_math = true,
                              .max_local = 256,
                              .max_local_dim = {256, 256, 64},
                              .max_groups = {65535, 65535, 65535},
                              .local_memory = 32768,
                              .max_params = 4096,
                              .binding_align = 16,
                              .max_binding = 1u << 30,
                              .variant = "."};
}

static bool seen[200], seen_bf16[200]; /* bf16: operands of a contraction */

/* All integers wrap around in the dialects, and sanitizers object. */
static bool computes_with_integers(const gb_step *s)
{
    for (int i = 0; s->expr && i < s->expr->n_nodes; i++)
        if (s->expr->node[i].prim >= GB_P_IADD && s->expr->node[i].prim <= GB_P_IMOD) return true;
    return false;
}

enum { MAX_VARIANTS = 40 };

static bool *seen_of(const gb_step *s, const char *name)
{
    int v = 0;
    while (gb_gpu_manifest[v].kind != s->kind || strcmp(gb_gpu_manifest[v].name, name) != 0) v++;
    const bool bf16 = s->kind >= GB_STEP_MATMUL && s->kind <= GB_STEP_CONV_FILTER &&
                      s->in[0].storage == GB_S_BF16;
    return bf16 ? &seen_bf16[v] : &seen[v];
}

/* Cases are sampled, but each variant runs. */
static bool shows_a_new_variant(gb_backend_device *dev, const gb_case *c)
{
    const char *name[MAX_VARIANTS];
    for (int hosted = 0; hosted < 2; hosted++) {
        set_class(dev, hosted);
        for (int i = gb_gpu_variants(&dev->caps, &c->step, name, MAX_VARIANTS) - 1; i >= 0; i--)
            if (gb_case_tries(c, name[i]) && !*seen_of(&c->step, name[i])) return true;
    }
    return false;
}

static void run_variants(gb_case *c, gb_backend_device *dev, const gb_outcome *want)
{
    const char *name[MAX_VARIANTS];
    int n = gb_gpu_variants(&dev->caps, &c->step, name, MAX_VARIANTS);
    for (int i = 0; i < n; i++) {
        gb_outcome got;
        gb_case copy = *c;
        if (!gb_case_tries(c, name[i])) continue;
        *seen_of(&c->step, name[i]) = true;
        snprintf(copy.step.variant, sizeof copy.step.variant, "%s", name[i]);
        gb_case_run(&copy, &host_backend, dev, &got);
        if (got.rejected) fail_msg("%s: %s rejected: %s", c->name, name[i], got.reason);
        gb_case_compare(&copy, &got, want);
    }
}

static int every = 1;

static void kernels_are_clean(void **state)
{
    gb_backend_device *dev = *state, *reference;
    gb_error err;
    gb_case c;
    int at[2] = {0}, ran = 0;
    assert_int_equal(gb_reference_backend.open(NULL, 0, &reference, &err), GB_OK);
    for (int n = 0; gb_case_next(&c, at); n++) {
        gb_outcome want;
        bool contraction = c.step.kind >= GB_STEP_MATMUL && c.step.kind <= GB_STEP_CONV_FILTER;
        bool sampled = n % (contraction ? every : 3 * every) == 0;
        if (computes_with_integers(&c.step) || !(sampled || shows_a_new_variant(dev, &c))) {
            gb_case_free(&c);
            continue;
        }
        gb_case_run(&c, &gb_reference_backend, reference, &want);
        for (int hosted = 0; hosted < 2; hosted++) {
            set_class(dev, hosted);
            run_variants(&c, dev, &want);
        }
        gb_case_free(&c);
        ran++;
    }
    print_message("%d steps, %d kernels\n", ran, dev->n);
    gb_reference_backend.close(reference);
}

static void force(gb_case *c, const char *variant)
{
    snprintf(c->step.variant, sizeof c->step.variant, "%s.%s",
             c->step.kind == GB_STEP_CONV         ? "conv"
             : c->step.kind == GB_STEP_CONV_INPUT ? "conv_input"
                                                  : "conv_filter",
             variant);
}

/* How many kinds of convolution the case of that name was run as. */
static int run_winograd(gb_backend_device *dev, const char *name, const char *variant)
{
    gb_backend_device *reference;
    gb_error err;
    gb_case c;
    int at[2] = {0}, ran = 0;
    assert_int_equal(gb_reference_backend.open(NULL, 0, &reference, &err), GB_OK);
    while (gb_case_next(&c, at)) {
        if (strstr(c.name, name)) {
            gb_outcome got, want;
            force(&c, variant);
            gb_case_run(&c, &gb_reference_backend, reference, &want);
            gb_case_run(&c, &host_backend, dev, &got);
            if (got.rejected) fail_msg("%s: %s", c.name, got.reason);
            gb_case_compare(&c, &got, &want);
            ran++;
        }
        gb_case_free(&c);
    }
    gb_reference_backend.close(reference);
    return ran;
}

/* Products of the later chunks of images are added to those of the first. */
static void chunks_add_up(void **state)
{
    gb_backend_device *dev = *state;
    set_class(dev, false);
    dev->caps.max_binding = 1 << 20;
    assert_int_equal(run_winograd(dev, "5x32x6x8 to 64", "winograd"), 3);
}

/* Of few workers each has several; for many there are smaller blocks of channels. */
static void workers_take_turns(void **state)
{
    gb_backend_device *dev = *state;
    for (int cores = 1; cores <= 64; cores *= 64) {
        set_class(dev, true);
        dev->caps.compute_units = cores;
        assert_int_equal(run_winograd(dev, "7x32x15x16 to 48", "winograd_fused"), 3);
        assert_int_equal(run_winograd(dev, "36x16x16x16 to 16", "winograd_fused"), 3);
        assert_int_equal(run_winograd(dev, "1x144x7x8 to 160", "winograd_fused"), 3);
        assert_int_equal(run_winograd(dev, "1x136x8x7 to 137", "winograd_fused"), 3);
        assert_int_equal(run_winograd(dev, "36x16x16x16 to 32", "winograd_fused"), 3);
        assert_int_equal(run_winograd(dev, "1x136x15x14 to 137", "winograd_fused"), 3);
    }
}

/* Work is parted by shape, or a resume elsewhere in the same machine would go astray. */
static void cores_do_not_change_bits(void **state)
{
    gb_backend_device *dev = *state;
    gb_case c;
    int at[2] = {0}, ran = 0;
    while (gb_case_next(&c, at)) {
        if (strstr(c.name, "36x16x16x16 to 16") || strstr(c.name, "1x144x7x8 to 160")) {
            gb_outcome of[3];
            force(&c, "winograd_fused");
            for (int i = 0; i < 3; i++) {
                set_class(dev, true);
                dev->caps.compute_units = (int[]){1, 5, 64}[i];
                gb_case_run(&c, &host_backend, dev, &of[i]);
                assert_false(of[i].rejected);
                assert_memory_equal(of[i].out[0], of[0].out[0],
                                    (size_t)of[0].count[0] * sizeof *of[0].out[0]);
            }
            ran++;
        }
        gb_case_free(&c);
    }
    assert_int_equal(ran, 6);
}

/* Of the forms of tiles for f16 some sizes are tried, of each form at least one. */
static bool is_seen(int variant)
{
    const char *name = gb_gpu_manifest[variant].name, *form = strstr(name, ".half");
    if (!form) form = strstr(name, ".packed");
    if (!form) return seen[variant];
    const size_t n = (size_t)(form - name) + strcspn(form, "0123456789_");
    bool any = false;
    for (int i = 0; i < gb_gpu_manifest_size; i++)
        any = any || (seen[i] && strncmp(gb_gpu_manifest[i].name, name, n) == 0);
    return any;
}

static void no_variant_is_left_out(void **state)
{
    for (int i = 0; i < gb_gpu_manifest_size; i++) {
        const char *name = gb_gpu_manifest[i].name;
        /* C has no subgroups and one size of matrices; Winograd has a permission of its own */
        if (gb_gpu_manifest[i].kind < GB_STEP_MATMUL || strstr(name, ".lanes") ||
            strstr(name, "winograd") || strstr(name, "matrix128") || strstr(name, "matrix64"))
            continue;
        if (!is_seen(i)) fail_msg("no case runs %s", name);
        if (strstr(name, "matrix32") && !seen_bf16[i]) fail_msg("no case runs %s on bf16", name);
    }
}

/* The sanitizer's run-time library must be loaded before anything else. */
static int with_asan(char **argv)
{
    char command[200], path[300] = "";
    snprintf(command, sizeof command, "%s -print-file-name=libasan.so", argv[1]);
    FILE *f = popen(command, "r");
    if (f && fgets(path, sizeof path, f)) path[strcspn(path, "\n")] = 0;
    if (f) pclose(f);
    if (path[0] != '/') {
        printf("SKIP: no libasan.so\n");
        return 77;
    }
    setenv("LD_PRELOAD", path, 1);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    execv("/proc/self/exe", argv);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    if (!getenv("LD_PRELOAD")) return with_asan(argv);
    static gb_backend_device dev;
    dev.compiler = argv[1];
    snprintf(dev.dir, sizeof dev.dir, "/tmp/gimbal-kernels-XXXXXX");
    if (!mkdtemp(dev.dir)) return 1;
    if (argc > 2) every = atoi(argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(kernels_are_clean, &dev),
                                       cmocka_unit_test_prestate(chunks_add_up, &dev),
                                       cmocka_unit_test_prestate(workers_take_turns, &dev),
                                       cmocka_unit_test_prestate(cores_do_not_change_bits, &dev),
                                       cmocka_unit_test(no_variant_is_left_out)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dev.dir);
    return failed;
}
