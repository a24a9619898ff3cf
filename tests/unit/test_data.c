#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <spng.h>
#include <zlib.h>

#include <gimbal/data.h>
#include <gimbal/file.h>

#include "core/data/internal.h"
#include "tests/support/support.h"

static char *dir;

static int setup(void **state)
{
    (void)state;
    unsetenv("GIMBAL_DATA");
    dir = gb_test_make_dir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gb_test_remove_dir(dir);
    return 0;
}

/* ---- IDX ---- */

static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2,  0,  0,
                                 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1};

static void write_gz(const char *path, const void *data, unsigned size)
{
    gzFile f = gzopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, data, size), size);
    assert_int_equal(gzclose(f), Z_OK);
}

static void write_idx(void)
{
    gb_test_write(gb_test_path(dir, "train-images-idx3-ubyte"), images, sizeof images);
    write_gz(gb_test_path(dir, "train-labels-idx1-ubyte.gz"), labels, sizeof labels);
    write_gz(gb_test_path(dir, "t10k-images.idx3-ubyte.gz"), images, sizeof images);
    gb_test_write(gb_test_path(dir, "t10k-labels-idx1-ubyte"), labels, sizeof labels);
}

static gb_status open_as(const char *kind, gb_dataset **ds, gb_error *err)
{
    gb_data_options o = {.dataset = kind, .path = dir, .normalize = GB_NORMALIZE_NONE};
    return gb_dataset_open(ds, &o, err);
}

static void reads_idx(void **state)
{
    (void)state;
    gb_dataset *ds;
    write_idx();
    assert_int_equal(open_as("idx", &ds, NULL), GB_OK);
    assert_true(ds->channels == 1 && ds->height == 2 && ds->width == 2 && ds->classes == 3);
    assert_int_equal(ds->split[GB_TRAIN].count, 3);
    assert_int_equal(ds->split[GB_VALIDATION].count, 0);
    assert_memory_equal(ds->split[GB_TEST].images, images + 16, 12);
    assert_memory_equal(ds->split[GB_TRAIN].labels, ((int32_t[]){2, 0, 1}), 12);
    assert_string_equal(ds->labels[2], "2");
    gb_dataset_destroy(&ds);
    gb_dataset_destroy(&ds);
    assert_int_equal(open_as("fashion-mnist", &ds, NULL), GB_OK); /* the same files, other names */
    assert_int_equal(ds->classes, 10);
    assert_string_equal(ds->labels[9], "Ankle boot");
    gb_dataset_destroy(&ds);
}

static void idx_refuses_each_damage(void **state)
{
    (void)state;
    gb_idx idx;
    gb_error err;
    assert_int_equal(gb_idx_parse(&idx, images, sizeof images, "test", NULL), GB_OK);
    for (size_t n = 0; n < sizeof images; n++) {
        uint8_t *cut = malloc(n ? n : 1); /* of the exact size, so that ASan sees reads beyond */
        memcpy(cut, images, n);
        assert_int_equal(gb_idx_parse(&idx, cut, n, "test", &err), GB_FORMAT);
        assert_string_equal(err.input, "test");
        free(cut);
    }
    for (size_t i = 0; i < 16; i++)
        for (int bit = 0; bit < 8; bit++) {
            uint8_t bad[sizeof images];
            memcpy(bad, images, sizeof bad);
            bad[i] ^= (uint8_t)(1 << bit);
            assert_int_equal(gb_idx_parse(&idx, bad, sizeof bad, "test", &err), GB_FORMAT);
        }
    static const uint8_t huge[] = {0,   0,   8,   3,   255, 255, 255, 255,
                                   255, 255, 255, 255, 255, 255, 255, 255};
    assert_int_equal(gb_idx_parse(&idx, huge, sizeof huge, "test", &err), GB_FORMAT);
}

static void idx_files_must_fit_together(void **state)
{
    (void)state;
    gb_dataset *ds;
    gb_error err;
    static const uint8_t two[] = {0, 0, 8, 1, 0, 0, 0, 2, 1, 2};
    static const uint8_t high[] = {0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 10};
    static const uint8_t wide[] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 7, 7, 7};
    write_idx();
    gb_test_write(gb_test_path(dir, "t10k-labels-idx1-ubyte"), two, sizeof two);
    assert_int_equal(open_as("idx", &ds, &err), GB_FORMAT);
    assert_non_null(strstr(err.input, "t10k-labels"));
    gb_test_write(gb_test_path(dir, "t10k-labels-idx1-ubyte"), high, sizeof high);
    assert_int_equal(open_as("fashion-mnist", &ds, &err), GB_FORMAT);
    assert_int_equal(open_as("idx", &ds, &err), GB_OK);
    assert_int_equal(ds->classes, 11);
    gb_dataset_destroy(&ds);
    gb_test_write(gb_test_path(dir, "t10k-labels-idx1-ubyte"), labels, sizeof labels);
    gb_test_write(gb_test_path(dir, "t10k-images-idx3-ubyte"), wide, sizeof wide);
    assert_int_equal(open_as("idx", &ds, &err), GB_FORMAT);
    assert_non_null(strstr(err.message, "another size"));
    unlink(gb_test_path(dir, "t10k-images-idx3-ubyte"));
    unlink(gb_test_path(dir, "t10k-images.idx3-ubyte.gz"));
    assert_int_equal(open_as("idx", &ds, &err), GB_NOT_FOUND);
    assert_non_null(strstr(err.message, "t10k-images"));
    assert_null(ds);
}

static void gz_cut_at_any_length_is_refused(void **state)
{
    (void)state;
    gb_dataset *ds;
    gb_error err;
    uint8_t *gz;
    size_t size;
    write_idx();
    const char *path = gb_test_path(dir, "t10k-images.idx3-ubyte.gz");
    assert_int_equal(gb_read_file(path, 4096, &gz, &size, NULL), GB_OK);
    for (size_t n = 0; n < size; n++) {
        path = gb_test_path(dir, "t10k-images.idx3-ubyte.gz");
        gb_test_write(path, gz, n);
        assert_int_equal(open_as("idx", &ds, &err), GB_FORMAT);
        assert_string_equal(err.input, path);
    }
    free(gz);
}

static void a_missing_data_set_says_where_it_looked(void **state)
{
    (void)state;
    gb_dataset *ds;
    gb_error err;
    assert_int_equal(open_as("fashion-mnist", &ds, &err), GB_NOT_FOUND);
    assert_non_null(strstr(err.message, dir));
    assert_non_null(strstr(err.hint, "apt install dataset-fashion-mnist"));
    assert_int_equal(open_as("mnist", &ds, &err), GB_INVALID);
    assert_non_null(strstr(err.hint, "fashion-mnist, cifar10, idx or folder"));
    gb_data_options o = {.dataset = "cifar10"};
    assert_int_equal(gb_dataset_open(&ds, &o, &err), GB_NOT_FOUND);
    o.dataset = NULL;
    assert_int_equal(gb_dataset_open(&ds, &o, &err), GB_INVALID);
}

static void finds_fashion_mnist_by_itself(void **state)
{
    (void)state;
    gb_dataset *ds;
    gb_error err = {0};
    gb_data_options o = {.dataset = "fashion-mnist", .validation = 0.1, .seed = 1};
    if (access("/usr/share/datasets/fashion-mnist", R_OK)) {
        print_message("SKIPPED: the package dataset-fashion-mnist is not installed\n");
        skip();
    }
    if (gb_dataset_open(&ds, &o, &err)) fail_msg("%s", err.message);
    assert_int_equal(ds->split[GB_TRAIN].count, 54000);
    assert_int_equal(ds->split[GB_VALIDATION].count, 6000);
    assert_int_equal(ds->split[GB_TEST].count, 10000);
    assert_true(fabsf(ds->mean[0] - 0.2860f) < 0.002f); /* of all 60,000: .2860 and .3530 */
    assert_true(fabsf(ds->std[0] - 0.3530f) < 0.002f);
    gb_dataset_destroy(&ds);
    write_idx(); /* the variable comes before the system's folder */
    setenv("GIMBAL_DATA", dir, 1);
    assert_int_equal(gb_dataset_open(&ds, &(gb_data_options){.dataset = "fashion-mnist"}, NULL),
                     GB_OK);
    unsetenv("GIMBAL_DATA");
    assert_int_equal(ds->split[GB_TRAIN].count, 3);
    gb_dataset_destroy(&ds);
}

/* ---- CIFAR-10 ---- */

static void cifar_parses_records(void **state)
{
    (void)state;
    static uint8_t bytes[2 * 3073], pixels[2 * 3072];
    int32_t found[2];
    gb_error err;
    bytes[0] = 9;
    bytes[3073] = 4;
    bytes[3074] = 77;
    assert_int_equal(gb_cifar_parse(pixels, found, 2, bytes, sizeof bytes, "test", NULL), GB_OK);
    assert_true(found[0] == 9 && found[1] == 4 && pixels[3072] == 77);
    for (size_t n = 0; n < sizeof bytes; n += 97)
        assert_int_equal(gb_cifar_parse(pixels, found, 2, bytes, n, "test", &err), GB_FORMAT);
    bytes[3073] = 10;
    assert_int_equal(gb_cifar_parse(pixels, found, 2, bytes, sizeof bytes, "test", &err),
                     GB_FORMAT);
    assert_non_null(strstr(err.message, "image 1 has the label 10"));
}

static void cifar_files_must_be_whole(void **state)
{
    (void)state;
    gb_dataset *ds;
    gb_error err;
    gb_test_write(gb_test_path(dir, "data_batch_1.bin"), "", 0);
    assert_int_equal(truncate(gb_test_path(dir, "data_batch_1.bin"), 9999 * 3073), 0);
    assert_int_equal(open_as("cifar10", &ds, &err), GB_FORMAT);
    assert_non_null(strstr(err.input, "data_batch_1.bin"));
    assert_int_equal(truncate(gb_test_path(dir, "data_batch_1.bin"), 10001 * 3073), 0);
    assert_int_equal(open_as("cifar10", &ds, &err), GB_FORMAT);
    assert_int_equal(truncate(gb_test_path(dir, "data_batch_1.bin"), 10000 * 3073), 0);
    assert_int_equal(open_as("cifar10", &ds, &err), GB_NOT_FOUND);
    assert_non_null(strstr(err.input, "data_batch_2.bin"));
}

static void reads_the_real_cifar10(void **state)
{
    (void)state;
    const char *data = gb_test_data_dir();
    if (!data) skip();
    gb_dataset *ds;
    gb_error err = {0};
    gb_data_options o = {.dataset = "cifar10", .path = data};
    if (gb_dataset_open(&ds, &o, &err)) fail_msg("%s", err.message);
    assert_int_equal(ds->split[GB_TRAIN].count, 50000);
    assert_int_equal(ds->split[GB_TEST].labels[0], 3);
    assert_string_equal(ds->labels[3], "cat");
    static const float mean[] = {0.4914f, 0.4822f, 0.4465f}, std[] = {0.2470f, 0.2435f, 0.2616f};
    for (int c = 0; c < 3; c++) {
        assert_true(fabsf(ds->mean[c] - mean[c]) < 1e-4f);
        assert_true(fabsf(ds->std[c] - std[c]) < 1e-4f);
    }
    gb_dataset_destroy(&ds);
}

/* ---- folders ---- */

static void write_png(const char *path, int width, int height, bool grey, uint8_t value)
{
    uint8_t pixels[3 * 64];
    memset(pixels, value, sizeof pixels);
    if (!grey) pixels[0] = 0;
    spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
    struct spng_ihdr head = {.width = (uint32_t)width, .height = (uint32_t)height, .bit_depth = 8};
    head.color_type = grey ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    spng_set_png_file(ctx, f);
    spng_set_ihdr(ctx, &head);
    assert_int_equal(spng_encode_image(ctx, pixels, (size_t)(width * height * (grey ? 1 : 3)),
                                       SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE),
                     0);
    spng_ctx_free(ctx);
    fclose(f);
}

static void write_class(const char *name, int count, bool grey, int first)
{
    char file[64];
    assert_int_equal(gb_make_dirs(gb_test_path(dir, name), NULL), GB_OK);
    for (int i = 0; i < count; i++) {
        snprintf(file, sizeof file, "%s/%02d.png", name, i);
        write_png(gb_test_path(dir, file), 4, 3, grey, (uint8_t)(first + i));
    }
}

static void reads_folders_with_splits(void **state)
{
    (void)state;
    gb_dataset *ds;
    gb_error err = {0};
    write_class("train/dog", 2, true, 10);
    write_class("train/cat", 3, true, 20);
    write_class("test/dog", 1, true, 30);
    gb_test_write(gb_test_path(dir, "train/cat/notes.txt"), "x", 1);
    gb_test_write(gb_test_path(dir, "train/cat/.hidden.png"), "x", 1);
    if (open_as("folder", &ds, &err)) fail_msg("%s", err.message);
    assert_true(ds->channels == 1 && ds->height == 3 && ds->width == 4 && ds->classes == 2);
    assert_string_equal(ds->labels[0], "cat");
    assert_memory_equal(ds->split[GB_TRAIN].labels, ((int32_t[]){0, 0, 0, 1, 1}), 20);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ds->split[GB_TRAIN].images[12 * i + 11], ((int[]){20, 21, 22, 10, 11})[i]);
    assert_int_equal(ds->split[GB_TEST].count, 1);
    assert_int_equal(ds->split[GB_TEST].labels[0], 1);
    gb_dataset_destroy(&ds);
    write_class("test/bird", 1, true, 30);
    assert_int_equal(open_as("folder", &ds, &err), GB_INVALID);
    assert_non_null(strstr(err.message, "bird"));
}

static void reads_folders_and_splits_them(void **state)
{
    (void)state;
    gb_dataset *a, *b;
    write_class("x", 10, true, 0);
    write_class("y", 10, false, 100);
    gb_data_options o = {.dataset = "folder", .path = dir, .test = 0.25, .size = 5, .seed = 3};
    assert_int_equal(gb_dataset_open(&a, &o, NULL), GB_OK);
    assert_int_equal(gb_dataset_open(&b, &o, NULL), GB_OK);
    assert_true(a->channels == 3 && a->height == 5 && a->width == 5);
    assert_int_equal(a->split[GB_TRAIN].count, 15);
    assert_int_equal(a->split[GB_TEST].count, 5);
    assert_memory_equal(a->split[GB_TEST].images, b->split[GB_TEST].images, 5 * 75);
    gb_dataset_destroy(&b);
    o.seed = 4;
    assert_int_equal(gb_dataset_open(&b, &o, NULL), GB_OK);
    assert_memory_not_equal(a->split[GB_TEST].images, b->split[GB_TEST].images, 5 * 75);
    gb_dataset_destroy(&a);
    gb_dataset_destroy(&b);
}

static void folders_name_the_bad_file(void **state)
{
    (void)state;
    gb_dataset *ds;
    gb_error err;
    assert_int_equal(open_as("folder", &ds, &err), GB_INVALID);
    assert_non_null(strstr(err.message, "no images"));
    write_class("x", 2, true, 0);
    write_png(gb_test_path(dir, "x/09.png"), 2, 2, true, 1);
    assert_int_equal(open_as("folder", &ds, &err), GB_INVALID);
    assert_non_null(strstr(err.input, "x/09.png"));
    assert_non_null(strstr(err.hint, "data.size"));
    assert_int_equal(truncate(gb_test_path(dir, "x/01.png"), 40), 0);
    assert_int_equal(open_as("folder", &ds, &err), GB_FORMAT);
    assert_non_null(strstr(err.input, "x/01.png"));
    gb_data_options o = {.dataset = "folder", .path = gb_test_path(dir, "none")};
    assert_int_equal(gb_dataset_open(&ds, &o, &err), GB_NOT_FOUND);
}

/* ---- splits and normalization ---- */

static gb_dataset *numbered(int64_t n)
{
    gb_dataset *ds;
    assert_int_equal(gb_dataset_create(&ds, "numbers", 2, 1, 1, 4, NULL, NULL), GB_OK);
    assert_int_equal(gb_dataset_allocate(ds, GB_TRAIN, n, NULL), GB_OK);
    for (int64_t i = 0; i < n; i++) {
        ds->split[GB_TRAIN].images[2 * i] = (uint8_t)i;
        ds->split[GB_TRAIN].images[2 * i + 1] = 50;
        ds->split[GB_TRAIN].labels[i] = (int32_t)(i % 4);
    }
    return ds;
}

static void a_split_moves_each_example_once(void **state)
{
    (void)state;
    gb_dataset *ds = numbered(200);
    assert_int_equal(gb_dataset_split_off(ds, GB_VALIDATION, 0.1, 1, NULL), GB_OK);
    assert_int_equal(ds->split[GB_VALIDATION].count, 20);
    assert_int_equal(ds->split[GB_TRAIN].count, 180);
    bool seen[200] = {false};
    for (int k = GB_TRAIN; k <= GB_VALIDATION; k++)
        for (int64_t i = 0; i < ds->split[k].count; i++) {
            int v = ds->split[k].images[2 * i];
            assert_false(seen[v]);
            seen[v] = true;
            assert_int_equal(ds->split[k].labels[i], v % 4);
            if (i) assert_true(ds->split[k].images[2 * i - 2] < v); /* the order is kept */
        }
    gb_error err;
    assert_int_equal(gb_dataset_split_off(ds, GB_VALIDATION, 0.1, 1, &err), GB_INVALID);
    assert_int_equal(gb_dataset_split_off(ds, GB_TEST, 1, 1, &err), GB_INVALID);
    assert_int_equal(gb_dataset_split_off(ds, GB_TEST, -0.1, 1, &err), GB_INVALID);
    assert_int_equal(gb_dataset_split_off(ds, GB_TEST, NAN, 1, &err), GB_INVALID);
    assert_int_equal(gb_dataset_split_off(ds, GB_TEST, 0.999, 1, &err), GB_INVALID);
    gb_dataset_destroy(&ds);
}

static void normalizes_as_told(void **state)
{
    (void)state;
    gb_dataset *ds = numbered(4);
    gb_data_options o = {0};
    assert_int_equal(gb_dataset_normalize(ds, &o, NULL), GB_OK);
    assert_true(fabsf(ds->mean[0] - 1.5f / 255) < 1e-7f);
    assert_true(fabsf(ds->std[0] - sqrtf(1.25f) / 255) < 1e-7f);
    assert_true(ds->std[1] == 1); /* all pixels equal: no division by zero */
    o.normalize = GB_NORMALIZE_NONE;
    assert_int_equal(gb_dataset_normalize(ds, &o, NULL), GB_OK);
    assert_true(ds->mean[0] == 0 && ds->std[0] == 1);
    o = (gb_data_options){
        .normalize = GB_NORMALIZE_GIVEN, .normalize_channels = 1, .mean = {0.5f}, .std = {0.25f}};
    assert_int_equal(gb_dataset_normalize(ds, &o, NULL), GB_OK);
    assert_true(ds->mean[1] == 0.5f && ds->std[1] == 0.25f);
    float out[2];
    gb_normalize_planes((uint8_t[]){255, 0}, 2, 1, ds->mean, ds->std, false, out);
    assert_true(out[0] == 2 && out[1] == -2);
    o.normalize_channels = 3;
    assert_int_equal(gb_dataset_normalize(ds, &o, NULL), GB_INVALID);
    o.normalize_channels = 2; /* the second std is 0 */
    assert_int_equal(gb_dataset_normalize(ds, &o, NULL), GB_INVALID);
    gb_dataset_destroy(&ds);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_idx),
        TEST(idx_refuses_each_damage),
        TEST(idx_files_must_fit_together),
        TEST(gz_cut_at_any_length_is_refused),
        TEST(a_missing_data_set_says_where_it_looked),
        TEST(finds_fashion_mnist_by_itself),
        TEST(cifar_parses_records),
        TEST(cifar_files_must_be_whole),
        TEST(reads_the_real_cifar10),
        TEST(reads_folders_with_splits),
        TEST(reads_folders_and_splits_them),
        TEST(folders_name_the_bad_file),
        TEST(a_split_moves_each_example_once),
        TEST(normalizes_as_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
