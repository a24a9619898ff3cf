/* Runs a fuzz target without libFuzzer: every prefix of every seed, then seeds changed at random,
 * the same in each run, until the count or the time is used up.
 *
 * usage: fuzz_NAME SEED_DIR [COUNT [SECONDS]]
 *        fuzz_NAME FILE                       one input, to look into a failure */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/base/philox.h"
#include "tests/fuzz/target.h"

#define MAX_SEEDS 64
#define MAX_SIZE (1 << 16)

typedef struct blob {
    uint8_t *bytes;
    size_t size;
} blob;

static blob seeds[MAX_SEEDS];
static int seed_count;
static blob current;

/* AddressSanitizer calls this before it reports: keep what did it. */
void __asan_on_error(void);
void __asan_on_error(void)
{
    FILE *f = fopen("crash-input", "wb");
    if (!f) return;
    fwrite(current.bytes, 1, current.size, f);
    fclose(f);
    fprintf(stderr, "the input is in ./crash-input\n");
}

/* In memory of the exact size, so that a read beyond it is seen. */
static void run(const uint8_t *bytes, size_t size)
{
    current.bytes = malloc(size ? size : 1);
    if (!current.bytes) exit(2);
    current.size = size;
    memcpy(current.bytes, bytes, size);
    LLVMFuzzerTestOneInput(current.bytes, size);
    free(current.bytes);
}

static blob read_blob(const char *path)
{
    blob b = {malloc(MAX_SIZE), 0};
    FILE *f = fopen(path, "rb");
    if (!f || !b.bytes) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    b.size = fread(b.bytes, 1, MAX_SIZE, f);
    fclose(f);
    return b;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static void read_seeds(const char *dir)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_visible, by_name);
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, entries[i]->d_name);
        if (seed_count < MAX_SEEDS) seeds[seed_count++] = read_blob(path);
        free(entries[i]);
    }
    if (n >= 0) free(entries);
    if (!seed_count) {
        fprintf(stderr, "no seeds in %s\n", dir);
        exit(2);
    }
}

/* One change at a random place: a bit, a byte, a word, a cut, a copy of a piece. */
static void change(blob *b, const uint32_t w[4])
{
    static const uint32_t telling[] = {0,          1,          0x7f,       0x80,       0xff,
                                       0x7fffffff, 0x80000000, 0xffffffff, 0x01000000, 0x10000};
    if (!b->size) return;
    size_t at = gb_uniform_below(w[1], (uint32_t)b->size), rest = b->size - at;
    uint32_t value = telling[w[2] % (sizeof telling / sizeof *telling)];
    switch (w[0] % 6) {
    case 0:
        b->bytes[at] ^= (uint8_t)(1 << w[2] % 8);
        break;
    case 1:
        b->bytes[at] = (uint8_t)w[2];
        break;
    case 2:
        memcpy(b->bytes + at, &value, rest < 4 ? rest : 4);
        break;
    case 3:
        b->bytes[at] = (uint8_t)('0' + w[2] % 10);
        break;
    case 4:
        b->size = at;
        break;
    default: { /* repeats up to 64 bytes */
        size_t n = 1 + w[2] % 64;
        if (n > rest) n = rest;
        if (b->size + n > MAX_SIZE) return;
        memmove(b->bytes + at + n, b->bytes + at, rest);
        b->size += n;
    }
    }
}

static void mutate(uint32_t number, blob *scratch)
{
    uint32_t w[4];
    gb_philox((uint32_t[]){number, 0, 0, 0}, (uint32_t[]){1, 2}, w);
    const blob *seed = &seeds[w[0] % (uint32_t)seed_count];
    memcpy(scratch->bytes, seed->bytes, seed->size);
    scratch->size = seed->size;
    for (uint32_t i = 0, changes = 1 + w[1] % 6; i < changes; i++) {
        gb_philox((uint32_t[]){number, i + 1, 0, 0}, (uint32_t[]){1, 2}, w);
        change(scratch, w);
    }
    run(scratch->bytes, scratch->size);
}

int main(int argc, char **argv)
{
    struct stat st;
    if (argc < 2 || stat(argv[1], &st)) {
        fprintf(stderr, "usage: %s SEED_DIR [COUNT [SECONDS]] | FILE\n", argv[0]);
        return 2;
    }
    if (!S_ISDIR(st.st_mode)) {
        blob b = read_blob(argv[1]);
        run(b.bytes, b.size);
        free(b.bytes);
        return 0;
    }
    uint32_t count = argc > 2 ? (uint32_t)atol(argv[2]) : 20000, done = 0;
    time_t end = time(NULL) + (argc > 3 ? atol(argv[3]) : 3);
    read_seeds(argv[1]);
    for (int i = 0; i < seed_count; i++)
        for (size_t n = 0; n <= seeds[i].size; n++) run(seeds[i].bytes, n);
    blob scratch = {malloc(MAX_SIZE), 0};
    if (!scratch.bytes) return 2;
    while (done < count && time(NULL) <= end) mutate(done++, &scratch);
    free(scratch.bytes);
    for (int i = 0; i < seed_count; i++) free(seeds[i].bytes);
    printf("%d seeds, %u changed inputs\n", seed_count, done);
    return 0;
}
