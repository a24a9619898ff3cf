/* The CPU as a device: identity, memory, and the table of the backend. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backends/cpu/cpu.h"
#include "backends/cpu/program.h"
#include "backends/versions.h"

static void read_name(char *name, size_t size)
{
    snprintf(name, size, "CPU");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        colon[1 + strcspn(colon + 1, "\n")] = 0;
        snprintf(name, size, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    fclose(f);
}

/* The level asked for; GB_INVALID for an unknown name or one that this processor lacks. */
static gb_status choose_isa(const char *name, gb_isa *isa, gb_error *err)
{
    gb_isa best = gb_isa_best();
    *isa = best;
    if (!name) return GB_OK;
    if (strcasecmp(name, "scalar") == 0 || strcasecmp(name, "baseline") == 0)
        *isa = GB_ISA_BASELINE;
    else if (strcasecmp(name, "avx2") == 0)
        *isa = GB_ISA_AVX2;
    else if (strcasecmp(name, "avx512") == 0)
        *isa = GB_ISA_AVX512;
    else
        return gb_fail(err, GB_INVALID, name, "use scalar, avx2 or avx512",
                       "the CPU backend knows no instruction set of this name");
    if (*isa > best)
        return gb_fail(err, GB_INVALID, name, "leave it out to take the best there is",
                       "this processor has no more than %s", gb_isa_name(best));
    return GB_OK;
}

static gb_status enumerate(const gb_backend_options *o, gb_device_info *out, int cap, int *n,
                           char *reason, size_t reason_size)
{
    *n = 0;
    gb_isa isa;
    gb_error why;
    if (cap < 1) return GB_OK;
    if (choose_isa(o->isa, &isa, &why)) {
        snprintf(reason, reason_size, "%s: %s", o->isa, why.message);
        return GB_OK;
    }
    uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    gb_device_info *d = &out[(*n)++];
    *d = (gb_device_info){.id = "cpu",
                          .driver = "gimbal",
                          .kind = GB_DEVICE_CPU,
                          .memory_bytes = ram / 10 * 9,
                          .max_buffer_bytes = ram / 10 * 9,
                          .dtypes = 1u << GB_F32 | 1u << GB_F16 | 1u << GB_BF16 | 1u << GB_I32 |
                                    1u << GB_BOOL,
                          .usable = true,
                          .cores = (int)sysconf(_SC_NPROCESSORS_ONLN),
                          .vector_width = 4 << isa};
    snprintf(d->version, sizeof d->version, "%s", gb_isa_name(isa));
    read_name(d->name, sizeof d->name);
    return GB_OK;
}

static void close_device(gb_backend_device *dev)
{
    if (!dev) return;
    gb_pool_destroy(dev->cpu.pool);
    free(dev);
}

static gb_status open_device(const gb_backend_options *o, int index, gb_backend_device **dev,
                             gb_error *err)
{
    gb_backend_device *d = calloc(1, sizeof *d);
    *dev = NULL;
    if (!d) return gb_fail(err, GB_OUT_OF_MEMORY, "cpu", NULL, "no memory for a device");
    if (o->variant) snprintf(d->variant, sizeof d->variant, "%s", o->variant);
    gb_status s = choose_isa(o->isa, &d->cpu.isa, err);
    if (!s) s = gb_pool_create_for(o->threads, !o->no_placing, &d->cpu.pool, err);
    if (s) {
        close_device(d);
        return s;
    }
    d->loops = gb_loops_for(d->cpu.isa);
    *dev = d;
    return GB_OK;
}

#define HUGE_PAGE ((size_t)2 << 20)

/* Big buffers lie in huge pages where the system has them: fewer misses of the TLB. */
static void *allocate(size_t bytes)
{
    size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : 64;
    void *data = aligned_alloc(align, (bytes + align - 1) / align * align);
#ifdef MADV_HUGEPAGE
    if (data && align == HUGE_PAGE) (void)madvise(data, bytes, MADV_HUGEPAGE); /* only a wish */
#endif
    return data;
}

static gb_status buffer_create(gb_backend_device *dev, uint64_t bytes, gb_backend_buffer **buf,
                               gb_error *err)
{
    gb_backend_buffer *b = malloc(sizeof *b);
    void *data = bytes < SIZE_MAX - HUGE_PAGE ? allocate(bytes) : NULL;
    *buf = NULL;
    if (!b || !data) {
        free(b);
        free(data);
        return gb_fail(err, GB_OUT_OF_MEMORY, "cpu", "use a smaller batch or model",
                       "no memory for a buffer of %llu bytes", (unsigned long long)bytes);
    }
    *b = (gb_backend_buffer){.data = data, .bytes = bytes};
    *buf = b;
    return GB_OK;
}

static void buffer_destroy(gb_backend_device *dev, gb_backend_buffer *buf)
{
    if (buf) free(buf->data);
    free(buf);
}

static gb_status buffer_write(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                              uint64_t bytes, const void *src, gb_error *err)
{
    memcpy((char *)buf->data + offset, src, bytes);
    return GB_OK;
}

static gb_status buffer_read(gb_backend_device *dev, gb_backend_buffer *buf, uint64_t offset,
                             uint64_t bytes, void *dst, gb_error *err)
{
    memcpy(dst, (const char *)buf->data + offset, bytes);
    return GB_OK;
}

static gb_status wait(gb_backend_device *dev, gb_error *err)
{
    return GB_OK; /* runs return when they are done */
}

static bool lost(gb_backend_device *dev)
{
    return false;
}

const gb_backend gb_cpu_backend = {
    .name = "cpu",
    .kernels = gb_kernels_cpu,
    .enumerate = enumerate,
    .open = open_device,
    .close = close_device,
    .buffer_create = buffer_create,
    .buffer_destroy = buffer_destroy,
    .buffer_write = buffer_write,
    .buffer_read = buffer_read,
    .query = gb_cpu_query,
    .variants = gb_cpu_variants,
    .program_create = gb_cpu_program_create,
    .program_destroy = gb_cpu_program_destroy,
    .program_bind = gb_cpu_program_bind,
    .program_renew = gb_cpu_program_renew,
    .program_run = gb_cpu_program_run,
    .program_time = gb_cpu_program_time,
    .wait = wait,
    .lost = lost,
    .peak = gb_cpu_peak,
};
