#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/cache.h"

static char dir[] = "/tmp/gimbal-cache-XXXXXX";
static const char blob[] = "a blob that took long to compute";
static gb_hash key = {1, 2};

/* The path of the one file in dir. */
static void only_file(char *path, size_t size)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    int found = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        found++;
        snprintf(path, size, "%s/%s", dir, e->d_name);
    }
    closedir(d);
    assert_int_equal(found, 1);
}

static bool hit(void)
{
    void *data = NULL;
    size_t size;
    bool found = gb_cache_load(dir, "test", key, &data, &size);
    if (found) {
        assert_int_equal(size, sizeof blob);
        assert_memory_equal(data, blob, size);
    }
    free(data);
    return found;
}

static void hashes_are_fnv_1a(void **state)
{
    (void)state;
    gb_hash h = GB_HASH_INIT;
    gb_hash_bytes(&h, "a", 1);
    assert_true(h.high == 0xd228cb696f1a8cafu && h.low == 0x78912b704e4a8964u);
}

static void stores_and_loads(void **state)
{
    (void)state;
    void *data;
    size_t size;
    assert_false(hit());
    gb_cache_store(dir, "test", key, blob, sizeof blob);
    assert_true(hit());
    assert_false(gb_cache_load(dir, "other", key, &data, &size));
    assert_false(gb_cache_load(dir, "test", (gb_hash){1, 3}, &data, &size));
    assert_false(gb_cache_load(NULL, "test", key, &data, &size));
    gb_cache_store(NULL, "test", key, blob, sizeof blob);
    gb_cache_store("/proc/no/such/place", "test", key, blob, sizeof blob);
}

/* A cache on a full or failing disk must never bring back something else than was stored. */
static void damage_is_a_miss(void **state)
{
    (void)state;
    char path[300];
    uint8_t good[200], bad[200];
    gb_cache_store(dir, "test", key, blob, sizeof blob);
    only_file(path, sizeof path);
    FILE *f = fopen(path, "rb");
    size_t n = fread(good, 1, sizeof good, f);
    fclose(f);
    for (size_t i = 0; i < 2 * n; i++) { /* each byte changed, then each length */
        memcpy(bad, good, n);
        if (i < n) bad[i] ^= 1;
        f = fopen(path, "wb");
        fwrite(bad, 1, i < n ? n : i - n, f);
        fclose(f);
        assert_false(hit());
    }
    gb_cache_store(dir, "test", key, blob, sizeof blob);
    assert_true(hit());
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_are_fnv_1a),
        cmocka_unit_test(stores_and_loads),
        cmocka_unit_test(damage_is_a_miss),
    };
    if (!mkdtemp(dir)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
