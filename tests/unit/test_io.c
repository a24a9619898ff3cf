#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gimbal/io.h>

#include "tests/support/support.h"

static char *dir;

static int setup(void **state)
{
    (void)state;
    dir = gb_test_make_dir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gb_test_remove_dir(dir);
    return 0;
}

static void assert_file(const char *path, const char *text)
{
    uint8_t *data;
    size_t size;
    assert_int_equal(gb_read_file(path, 1 << 20, &data, &size, NULL), GB_OK);
    assert_string_equal((char *)data, text);
    assert_int_equal(size, strlen(text));
    free(data);
}

/* ---- files ---- */

static void writes_replace_or_leave_alone(void **state)
{
    (void)state;
    const char *path = gb_test_path(dir, "f");
    assert_int_equal(gb_write_file(path, "old", 3, NULL), GB_OK);
    gb_writer *w;
    assert_int_equal(gb_writer_open(&w, path, NULL), GB_OK);
    assert_int_equal(gb_writer_printf(w, NULL, "new %d", 7), GB_OK);
    assert_file(path, "old");
    assert_int_equal(gb_writer_commit(&w, NULL), GB_OK);
    assert_null(w);
    assert_file(path, "new 7");
    assert_int_equal(gb_writer_open(&w, path, NULL), GB_OK);
    assert_int_equal(gb_writer_write(w, "lost", 4, NULL), GB_OK);
    gb_writer_abort(&w);
    gb_writer_abort(&w);
    assert_file(path, "new 7");
    assert_int_equal(gb_test_count_files(dir), 1);
}

static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    gb_error err;
    const char *path = gb_test_path(dir, "f");
    uint8_t block[1 << 14] = {0};
    assert_int_equal(gb_write_file(path, "old", 3, NULL), GB_OK);
    gb_test_limit_files(1 << 12);
    gb_status s = gb_write_file(path, block, sizeof block, &err);
    gb_test_unlimit_files();
    assert_int_equal(s, GB_IO);
    assert_string_equal(err.input, path);
    assert_non_null(strstr(err.hint, "free some space"));
    assert_file(path, "old");
    assert_int_equal(gb_test_count_files(dir), 1);
    assert_int_equal(gb_write_file("/dev/full", block, sizeof block, &err), GB_IO);
    assert_non_null(strstr(err.message, "No space left"));
    assert_int_equal(access("/dev/full", F_OK), 0);
}

static void a_failed_write_cannot_be_committed(void **state)
{
    (void)state;
    uint8_t block[1 << 14] = {0};
    gb_writer *w;
    assert_int_equal(gb_writer_open(&w, gb_test_path(dir, "f"), NULL), GB_OK);
    gb_test_limit_files(1 << 12);
    assert_int_equal(gb_writer_write(w, block, sizeof block, NULL), GB_IO);
    gb_test_unlimit_files();
    assert_int_equal(gb_writer_commit(&w, NULL), GB_IO);
    assert_int_equal(gb_test_count_files(dir), 0);
}

static void reading_has_limits(void **state)
{
    (void)state;
    gb_error err;
    uint8_t *data, block[10000];
    size_t size;
    memset(block, 'x', sizeof block);
    const char *path = gb_test_path(dir, "f");
    gb_test_write(path, block, sizeof block);
    assert_int_equal(gb_read_file(path, sizeof block, &data, &size, &err), GB_OK);
    assert_int_equal(size, sizeof block);
    free(data);
    assert_int_equal(gb_read_file(path, sizeof block - 1, &data, &size, &err), GB_INVALID);
    assert_int_equal(gb_read_file("/dev/zero", 1 << 16, &data, &size, &err), GB_INVALID);
    assert_int_equal(gb_read_file(dir, 10, &data, &size, &err), GB_IO);
    assert_int_equal(gb_read_file(gb_test_path(dir, "no"), 10, &data, &size, &err), GB_NOT_FOUND);
    assert_non_null(strstr(err.input, "/no"));
}

static void links_and_directories(void **state)
{
    (void)state;
    gb_test_write(gb_test_path(dir, "target"), "a", 1);
    assert_int_equal(symlink("target", gb_test_path(dir, "link")), 0);
    assert_int_equal(gb_write_file(gb_test_path(dir, "link"), "b", 1, NULL), GB_OK);
    assert_file(gb_test_path(dir, "target"), "b");
    assert_int_equal(gb_write_file(dir, "b", 1, NULL), GB_IO);
    assert_int_equal(gb_make_dirs(gb_test_path(dir, "a/b//c/"), NULL), GB_OK);
    assert_int_equal(gb_make_dirs(gb_test_path(dir, "a/b/c"), NULL), GB_OK);
    assert_int_equal(access(gb_test_path(dir, "a/b/c"), F_OK), 0);
    assert_int_not_equal(gb_make_dirs(gb_test_path(dir, "target/x"), NULL), GB_OK);
    assert_int_not_equal(gb_make_dirs(gb_test_path(dir, "target"), NULL), GB_OK);
    char *joined = gb_path_join("a/", "b");
    assert_string_equal(joined, "a/b");
    free(joined);
}

/* ---- safetensors ---- */

static void safetensors_round_trip(void **state)
{
    (void)state;
    gb_tensors list = {0}, back;
    gb_tensor *t;
    for (int d = 0; d < GB_DTYPE_COUNT; d++) {
        gb_shape s = gb_shape_of(2, 3, d + 1);
        assert_int_equal(gb_tensors_create(&list, gb_dtype_name(d), d, &s, &t, NULL), GB_OK);
        for (int i = 0; i < 3 * (d + 1); i++) gb_tensor_set(t, i, i % 2);
    }
    gb_shape scalar = gb_shape_of(0), empty = gb_shape_of(2, 0, 5);
    assert_int_equal(gb_tensors_create(&list, "ein \"Skalar\" ü", GB_F32, &scalar, &t, NULL),
                     GB_OK);
    gb_tensor_set(t, 0, 1.5);
    assert_int_equal(gb_tensors_create(&list, "empty", GB_I64, &empty, NULL, NULL), GB_OK);
    assert_int_equal(gb_tensors_create(&list, "empty", GB_I64, &empty, NULL, NULL), GB_INVALID);
    assert_int_equal(gb_tensors_set_metadata(&list, "format", "x", NULL), GB_OK);
    assert_int_equal(gb_tensors_set_metadata(&list, "format", "pt", NULL), GB_OK);
    assert_int_equal(gb_tensors_set_metadata(&list, "step", "12", NULL), GB_OK);
    const char *path = gb_test_path(dir, "t.safetensors");
    assert_int_equal(gb_safetensors_write(&list, path, NULL), GB_OK);
    gb_error err = {0};
    assert_int_equal(gb_safetensors_read(&back, path, &err), GB_OK);
    assert_int_equal(back.count, list.count);
    for (size_t i = 0; i < list.count; i++) {
        const gb_tensor *a = &list.items[i].tensor;
        const gb_tensor *b = gb_tensors_find(&back, list.items[i].name);
        assert_non_null(b);
        assert_true(a->dtype == b->dtype && gb_shape_equal(&a->shape, &b->shape));
        assert_memory_equal(a->data, b->data, gb_tensor_bytes(a));
    }
    assert_string_equal(gb_tensors_get_metadata(&back, "format"), "pt");
    assert_string_equal(gb_tensors_get_metadata(&back, "step"), "12");
    assert_null(gb_tensors_get_metadata(&back, "none"));
    gb_tensors_free(&list);
    gb_tensors_free(&back);
}

static gb_status parse_header(const char *json, size_t data, gb_error *err)
{
    size_t n = strlen(json);
    uint8_t *bytes = calloc(1, 8 + n + data);
    assert_non_null(bytes);
    bytes[0] = (uint8_t)n;
    bytes[1] = (uint8_t)(n >> 8);
    memcpy(bytes + 8, json, n);
    gb_tensors list;
    gb_status s = gb_safetensors_parse(&list, bytes, 8 + n + data, "test", err);
    if (s) assert_int_equal(list.count, 0);
    gb_tensors_free(&list);
    free(bytes);
    return s;
}

static void safetensors_refuses_bad_headers(void **state)
{
    (void)state;
#define T(name, dtype, shape, range)                                                               \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}"
    static const struct {
        const char *json;
        size_t data;
        gb_status status;
        const char *message;
    } cases[] = {
        {"{" T("a", "F32", "[2]", "[0,8]") "}  ", 8, GB_OK, ""},
        {"{" T("a", "F32", "[]", "[0,4]") "," T("b", "U8", "[0]", "[4,4]") "}", 4, GB_OK, ""},
        {"{}", 0, GB_OK, ""},
        {"{}", 1, GB_FORMAT, "belong to no tensor"},
        {"[]", 0, GB_FORMAT, "not valid"},
        {"{\"a\":1}", 0, GB_FORMAT, "no object"},
        {"{" T("a", "F32", "[2]", "[0,8]") ",}", 8, GB_FORMAT, "not valid"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("a", "F32", "[2]", "[8,16]") "}", 16, GB_FORMAT,
         "not valid"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[4,12]") "}", 12, GB_FORMAT,
         "overlaps"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[12,20]") "}", 20, GB_FORMAT,
         "gap"},
        {"{" T("a", "F32", "[2]", "[4,12]") "}", 12, GB_FORMAT, "gap"},
        {"{" T("a", "F32", "[2]", "[0,8]") "}", 7, GB_FORMAT, "beyond"},
        {"{" T("a", "F32", "[3]", "[0,8]") "}", 8, GB_FORMAT, "do not match"},
        {"{" T("a", "F32", "[2]", "[0,7]") "}", 7, GB_FORMAT, "do not match"},
        {"{" T("a", "F32", "[-2]", "[0,8]") "}", 8, GB_FORMAT, "no size"},
        {"{" T("a", "F32", "[2.0]", "[0,8]") "}", 8, GB_FORMAT, "no size"},
        {"{" T("a", "F32", "2", "[0,8]") "}", 8, GB_FORMAT, "not a list"},
        {"{" T("a", "F32", "[2]", "[8,0]") "}", 8, GB_FORMAT, "no range"},
        {"{" T("a", "F32", "[2]", "[-8,0]") "}", 8, GB_FORMAT, "no range"},
        {"{" T("a", "F32", "[2]", "[0,8,9]") "}", 8, GB_FORMAT, "no range"},
        {"{" T("a", "F8_E4M3", "[2]", "[0,2]") "}", 2, GB_UNSUPPORTED, "F8_E4M3"},
        {"{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, GB_UNSUPPORTED, "9 dimensions"},
        {"{" T("a", "U8", "[4294967296,4294967296,4294967296]", "[0,0]") "}", 0, GB_FORMAT,
         "do not match"},
        {"{" T("a", "U8", "[4611686018427387904]", "[0,4611686018427387904]") "}", 8, GB_FORMAT,
         "beyond"},
        {"{\"__metadata__\":{\"a\":1}}", 0, GB_FORMAT, "no text"},
        {"{\"__metadata__\":[]}", 0, GB_FORMAT, "no object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gb_error err = {0};
        gb_status s = parse_header(cases[i].json, cases[i].data, &err);
        if (s != cases[i].status) print_error("%s: %s\n", cases[i].json, err.message);
        assert_int_equal(s, cases[i].status);
        if (s) assert_string_equal(err.input, "test");
        if (!strstr(err.message, cases[i].message)) fail_msg("%s", err.message);
    }
}

/* Cuts and flips of a whole file: nothing but a failure or a list may come of it. */
static void safetensors_survives_damage(void **state)
{
    (void)state;
    gb_tensors list = {0};
    gb_tensor *t;
    gb_shape s = gb_shape_of(2, 3, 2);
    assert_int_equal(gb_tensors_create(&list, "a", GB_F32, &s, &t, NULL), GB_OK);
    assert_int_equal(gb_tensors_create(&list, "b", GB_BOOL, &s, &t, NULL), GB_OK);
    assert_int_equal(gb_tensors_set_metadata(&list, "k", "v", NULL), GB_OK);
    const char *path = gb_test_path(dir, "t.safetensors");
    assert_int_equal(gb_safetensors_write(&list, path, NULL), GB_OK);
    gb_tensors_free(&list);
    uint8_t *bytes;
    size_t size;
    assert_int_equal(gb_read_file(path, 1 << 20, &bytes, &size, NULL), GB_OK);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = malloc(n + 1); /* of the exact size, so that ASan sees reads beyond */
        memcpy(cut, bytes, n);
        cut = realloc(cut, n ? n : 1);
        assert_int_equal(gb_safetensors_parse(&list, cut, n, "cut", NULL), GB_FORMAT);
        free(cut);
    }
    for (size_t n = 0; n < 8; n++) {
        bytes[n] ^= 0x80;
        assert_int_equal(gb_safetensors_parse(&list, bytes, size, "length", NULL), GB_FORMAT);
        bytes[n] ^= 0x80;
    }
    bytes[size - 1] = 2;
    assert_int_equal(gb_safetensors_parse(&list, bytes, size, "bool", NULL), GB_FORMAT);
    free(bytes);
}

static void safetensors_of_pytorch(void **state)
{
    (void)state;
    const char *data = gb_test_data_dir();
    if (!data) skip();
    gb_tensors list;
    gb_error err = {0};
    const char *path = gb_test_path(data, "models/resnet20-12fca82f.safetensors");
    if (gb_safetensors_read(&list, path, &err)) fail_msg("%s", err.message);
    const gb_tensor *t = gb_tensors_find(&list, "conv1.weight");
    gb_shape s = gb_shape_of(4, 16, 3, 3, 3);
    assert_non_null(t);
    assert_true(t->dtype == GB_F32 && gb_shape_equal(&t->shape, &s));
    gb_tensors_free(&list);
}

static void checkpoints_survive_a_full_disk(void **state)
{
    (void)state;
    gb_tensors list = {0};
    gb_shape s = gb_shape_of(1, 4096);
    gb_error err;
    assert_int_equal(gb_tensors_create(&list, "a", GB_F32, &s, NULL, NULL), GB_OK);
    const char *path = gb_test_path(dir, "t.safetensors");
    gb_test_write(path, "old", 3);
    gb_test_limit_files(4096);
    gb_status status = gb_safetensors_write(&list, path, &err);
    gb_test_unlimit_files();
    assert_int_equal(status, GB_IO);
    assert_file(path, "old");
    assert_int_equal(gb_test_count_files(dir), 1);
    gb_tensors_free(&list);
}

/* ---- npy ---- */

static void npy_round_trip(void **state)
{
    (void)state;
    static const int ranks[][5] = {{0}, {1, 3}, {2, 3, 4}, {3, 2, 0, 3}, {4, 2, 3, 4, 5}};
    const char *path = gb_test_path(dir, "a.npy");
    for (int d = 0; d < GB_DTYPE_COUNT; d++)
        for (size_t r = 0; r < sizeof ranks / sizeof *ranks; r++) {
            gb_tensor t, back;
            gb_shape s = {.rank = ranks[r][0]};
            for (int i = 0; i < s.rank; i++) s.dim[i] = ranks[r][i + 1];
            assert_int_equal(gb_tensor_alloc(&t, d, &s, NULL), GB_OK);
            for (int64_t i = 0; i < gb_shape_count(&s); i++) gb_tensor_set(&t, i, (double)i);
            if (d == GB_BF16) {
                assert_int_equal(gb_npy_write(&t, path, NULL), GB_UNSUPPORTED);
            } else {
                assert_int_equal(gb_npy_write(&t, path, NULL), GB_OK);
                assert_int_equal(gb_npy_read(&back, path, NULL), GB_OK);
                assert_true((int)back.dtype == d && gb_shape_equal(&back.shape, &s));
                assert_memory_equal(t.data, back.data, gb_tensor_bytes(&t));
                gb_tensor_free(&back);
            }
            gb_tensor_free(&t);
        }
}

static gb_status parse_npy(int version, const char *header, size_t data, gb_tensor *t,
                           gb_error *err)
{
    uint8_t bytes[512] = "\x93NUMPY";
    size_t n = strlen(header), at = version >= 2 ? 12 : 10;
    bytes[6] = (uint8_t)version;
    bytes[8] = (uint8_t)n;
    memcpy(bytes + at, header, n);
    for (size_t i = 0; i < data; i++) bytes[at + n + i] = (uint8_t)i;
    return gb_npy_parse(t, bytes, at + n + data, "test", err);
}

static void npy_reads_what_numpy_writes(void **state)
{
    (void)state;
    gb_tensor t;
    const char *fortran = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }   \n";
    for (int version = 1; version <= 3; version++) {
        assert_int_equal(parse_npy(version, fortran, 6, &t, NULL), GB_OK);
        assert_memory_equal(t.data, ((uint8_t[]){0, 2, 4, 1, 3, 5}), 6);
        gb_tensor_free(&t);
    }
    const char *other = "{\"shape\":(3,),\"descr\":\"<u2\",\"fortran_order\":False}";
    assert_int_equal(parse_npy(1, other, 6, &t, NULL), GB_OK);
    assert_int_equal(((uint16_t *)t.data)[1], 0x0302);
    gb_tensor_free(&t);
}

static void npy_refuses_bad_input(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *header;
        size_t data;
        gb_status status;
    } cases[] = {
        {0, "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", 2, GB_FORMAT},
        {4, "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", 2, GB_FORMAT},
        {1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", 1, GB_FORMAT},
        {1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", 3, GB_FORMAT},
        {1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), ", 2, GB_FORMAT},
        {1, "{'descr': '|u1', 'fortran_order': False, 'shape': (-2,), }", 2, GB_FORMAT},
        {1, "{'descr': '|u1', 'fortran_order': Falsy, 'shape': (2,), }", 2, GB_FORMAT},
        {1, "{'descr': '|u1', 'descr': '|u1', 'shape': (2,), }", 2, GB_FORMAT},
        {1, "{'descr': '|u1', 'shape': (2,), }", 2, GB_FORMAT},
        {1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8, GB_FORMAT},
        {1, "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8, GB_UNSUPPORTED},
        {1, "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", 8, GB_UNSUPPORTED},
        {1, "{'descr': '|u1', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 1,
         GB_FORMAT},
        {1, "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999999999,), }", 1,
         GB_FORMAT},
        {1, "{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296,4294967296), }", 0,
         GB_FORMAT},
    };
    gb_tensor t;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gb_error err = {0};
        assert_int_equal(parse_npy(cases[i].version, cases[i].header, cases[i].data, &t, &err),
                         cases[i].status);
        assert_string_equal(err.input, "test");
        assert_null(t.data);
    }
    uint8_t file[] = "\x93NUMPY\1\0\x35\0{'descr':'|u1','fortran_order':False,'shape':(2,)}\n  ab";
    assert_int_equal(gb_npy_parse(&t, file, sizeof file - 1, "whole", NULL), GB_OK);
    gb_tensor_free(&t);
    for (size_t n = 0; n < sizeof file - 1; n++)
        assert_int_equal(gb_npy_parse(&t, file, n, "cut", NULL), GB_FORMAT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(writes_replace_or_leave_alone),
        TEST(a_full_disk_leaves_the_old_file),
        TEST(a_failed_write_cannot_be_committed),
        TEST(reading_has_limits),
        TEST(links_and_directories),
        TEST(safetensors_round_trip),
        TEST(safetensors_refuses_bad_headers),
        TEST(safetensors_survives_damage),
        TEST(safetensors_of_pytorch),
        TEST(checkpoints_survive_a_full_disk),
        TEST(npy_round_trip),
        TEST(npy_reads_what_numpy_writes),
        TEST(npy_refuses_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
