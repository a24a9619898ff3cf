#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/support.h"

#define UNPACKED "/tmp/gimbal-data"

static const char *find_shared(const char *name)
{
    static char path[4096]; /* one thread runs the tests */
    static const char *const places[] = {GB_SOURCE_DIR "/../shared", GB_SOURCE_DIR "/../../shared"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "%s%s", places[i], name);
        if (access(path, R_OK) == 0) return path;
    }
    return NULL;
}

const char *gb_test_shared_dir(void)
{
    return find_shared("");
}

const char *gb_test_data_dir(void)
{
    const char *unpack = find_shared("/data/unpack");
    if (!unpack) {
        fprintf(stderr, "SKIPPED: ../shared is not there, so the real data set is not tested\n");
        return NULL;
    }
    if (access(UNPACKED "/models/resnet20-12fca82f.safetensors", R_OK) == 0) return UNPACKED;
    char command[5000];
    snprintf(command, sizeof command, "flock " UNPACKED ".lock '%s' " UNPACKED " >&2", unpack);
    assert_int_equal(system(command), 0);
    return UNPACKED;
}

char *gb_test_make_dir(void)
{
    char *dir = strdup("/tmp/gimbal-test-XXXXXX");
    assert_non_null(dir);
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void remove_tree(const char *path)
{
    struct stat st;
    if (lstat(path, &st)) return;
    if (!S_ISDIR(st.st_mode)) {
        unlink(path);
        return;
    }
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char child[4096];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        remove_tree(child);
    }
    if (d) closedir(d);
    rmdir(path);
}

void gb_test_remove_dir(char *dir)
{
    remove_tree(dir);
    free(dir);
}

const char *gb_test_path(const char *dir, const char *name)
{
    static char paths[4][4096];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

void gb_test_write(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

int gb_test_count_files(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = -2; /* . and .. */
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

void gb_test_limit_files(size_t size)
{
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

void gb_test_unlimit_files(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}
