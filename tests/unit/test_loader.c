#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <gimbal/data.h>

#include "core/data/internal.h"

#define N 23

/* N images of 2 × 4 × 5, each pixel distinct within an image; labels count up to 5. */
static int make_dataset(void **state)
{
    gb_dataset *ds;
    assert_int_equal(gb_dataset_create(&ds, "test", 2, 4, 5, 5, NULL, NULL), GB_OK);
    assert_int_equal(gb_dataset_allocate(ds, GB_TRAIN, N, NULL), GB_OK);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 40; k++) ds->split[GB_TRAIN].images[40 * i + k] = (uint8_t)(i + 5 * k);
        ds->split[GB_TRAIN].labels[i] = i % 5;
    }
    ds->std[0] = ds->std[1] = 1.0f / 255; /* floats are the bytes */
    *state = ds;
    return 0;
}

static int drop_dataset(void **state)
{
    gb_dataset *ds = *state;
    gb_dataset_destroy(&ds);
    return 0;
}

static gb_loader *start(const gb_dataset *ds, const gb_loader_options *o)
{
    gb_loader *l;
    gb_error err = {0};
    if (gb_loader_create(&l, ds, o, &err)) fail_msg("%s", err.message);
    return l;
}

static const gb_batch *next(gb_loader *l)
{
    const gb_batch *b;
    gb_error err = {0};
    if (gb_loader_next(l, &b, &err)) fail_msg("%s", err.message);
    return b;
}

static void delivers_all_in_order(void **state)
{
    gb_dataset *ds = *state;
    gb_loader *l = start(ds, &(gb_loader_options){.batch = 8, .epochs = 2});
    assert_int_equal(gb_loader_batches(l), 3);
    for (int epoch = 0; epoch < 2; epoch++)
        for (int k = 0; k < 3; k++) {
            const gb_batch *b = next(l);
            int n = k < 2 ? 8 : N - 16;
            gb_shape s = gb_shape_of(4, n, 2, 4, 5);
            assert_true(b->n == n && gb_shape_equal(&b->images.shape, &s));
            assert_true(b->epoch == epoch && b->index == k && b->position == 8 * k);
            assert_int_equal(b->last, k == 2);
            for (int i = 0; i < n; i++) {
                assert_int_equal(b->samples[i], 8 * k + i);
                assert_int_equal(b->labels[i], (8 * k + i) % 5);
                for (int p = 0; p < 40; p++) {
                    float want = (float)(uint8_t)(8 * k + i + 5 * p);
                    float got = ((float *)b->images.data)[40 * i + p];
                    assert_true(want - got < 1e-4f && got - want < 1e-4f);
                }
            }
        }
    assert_null(next(l));
    assert_null(next(l));
    gb_loader_destroy(&l);
    gb_loader_destroy(&l);
}

static void last_short_batch_can_be_dropped(void **state)
{
    gb_loader *l = start(*state, &(gb_loader_options){.batch = 8, .epochs = 1, .drop_last = true});
    assert_int_equal(gb_loader_batches(l), 2);
    next(l);
    assert_true(next(l)->last);
    assert_null(next(l));
    gb_loader_destroy(&l);
}

static void shuffles_anew_in_each_epoch(void **state)
{
    gb_loader *l =
        start(*state, &(gb_loader_options){.batch = N, .epochs = 3, .shuffle = true, .seed = 9});
    int64_t order[3][N];
    for (int e = 0; e < 3; e++) {
        bool seen[N] = {false};
        const gb_batch *b = next(l);
        memcpy(order[e], b->samples, sizeof order[e]);
        for (int i = 0; i < N; i++) {
            assert_false(seen[b->samples[i]]);
            seen[b->samples[i]] = true;
            assert_int_equal(b->labels[i], b->samples[i] % 5);
        }
    }
    assert_memory_not_equal(order[0], order[1], sizeof order[0]);
    assert_memory_not_equal(order[1], order[2], sizeof order[0]);
    gb_loader_destroy(&l);
}

/* Recorded once: runs must give the same order on every machine and in every later version. */
static void permutation_is_fixed(void **state)
{
    (void)state;
    uint32_t order[10];
    gb_draw_permutation(1, GB_DRAW_SHUFFLE, 0, 10, order);
    static const uint32_t want[10] = {4, 5, 7, 8, 3, 6, 9, 2, 1, 0};
    assert_memory_equal(order, want, sizeof want);
    gb_draw_permutation(1, GB_DRAW_SHUFFLE, 0, 1, order);
    assert_int_equal(order[0], 0);
}

static void permutations_are_even(void **state)
{
    (void)state;
    int counts[4][4] = {{0}};
    for (int e = 0; e < 4000; e++) {
        uint32_t order[4];
        gb_draw_permutation(7, GB_DRAW_SHUFFLE, e, 4, order);
        for (int i = 0; i < 4; i++) counts[i][order[i]]++;
    }
    for (int i = 0; i < 16; i++) assert_in_range(counts[i / 4][i % 4], 880, 1120);
}

static const gb_loader_options augmented = {
    .batch = 4,
    .epochs = 3,
    .shuffle = true,
    .seed = 5,
    .augment = {.flip = GB_FLIP_RANDOM, .padding = 2, .cutout = 2}};

static void resumes_at_any_batch(void **state)
{
    gb_loader *whole = start(*state, &augmented);
    for (int64_t k = 0; k < 3 * 6; k++) {
        const gb_batch *a = next(whole);
        gb_loader_options o = augmented;
        o.start_epoch = k / 6;
        o.start_batch = k % 6;
        gb_loader *part = start(*state, &o);
        const gb_batch *b = next(part);
        assert_true(a->n == b->n && a->epoch == b->epoch && a->index == b->index);
        assert_memory_equal(a->samples, b->samples, (size_t)a->n * 8);
        assert_memory_equal(a->images.data, b->images.data, gb_tensor_bytes(&a->images));
        gb_loader_destroy(&part);
    }
    gb_loader_destroy(&whole);
}

/* The draw belongs to the example, not to its place in a batch. */
static void augmentation_ignores_the_batch_size(void **state)
{
    gb_loader_options o = augmented;
    gb_loader *small = start(*state, &o);
    o.batch = N;
    gb_loader *large = start(*state, &o);
    const gb_batch *b = next(large);
    for (int k = 0; k < 6; k++) {
        const gb_batch *a = next(small);
        assert_memory_equal(a->images.data, (float *)b->images.data + 40 * 4 * k,
                            gb_tensor_bytes(&a->images));
    }
    gb_loader_destroy(&small);
    gb_loader_destroy(&large);
}

static void channels_last_is_the_same_transposed(void **state)
{
    gb_loader_options o = augmented;
    gb_loader *first = start(*state, &o);
    o.channels_last = true;
    gb_loader *last = start(*state, &o);
    for (const gb_batch *a, *b; (a = next(first)) && (b = next(last));) {
        gb_shape s = gb_shape_of(4, (int)b->n, 4, 5, 2);
        assert_true(gb_shape_equal(&b->images.shape, &s));
        for (int64_t i = 0; i < a->n; i++)
            for (int c = 0; c < 2; c++)
                for (int p = 0; p < 20; p++)
                    assert_true(((float *)a->images.data)[40 * i + 20 * c + p] ==
                                ((float *)b->images.data)[40 * i + 2 * p + c]);
    }
    gb_loader_destroy(&first);
    gb_loader_destroy(&last);
}

/* ---- augmentation, one kind at a time, on image 0 whose pixel at (c, y, x) is 5 (20c + 5y + x) */

static float render_at(const gb_dataset *ds, gb_augment a, int64_t epoch, float out[40])
{
    gb_renderer r;
    gb_loader_options o = {.augment = a, .seed = 3};
    assert_int_equal(gb_renderer_init(&r, ds, &o, NULL), GB_OK);
    gb_render(&r, ds->split[GB_TRAIN].images, epoch, 0, out);
    gb_renderer_free(&r);
    for (int i = 0; i < 40; i++) out[i] = (float)(int)(out[i] / 5 + 0.5f);
    return out[0];
}

static void flips(void **state)
{
    int flipped = 0;
    float out[40], first = render_at(*state, (gb_augment){.flip = GB_FLIP_ALTERNATE}, 0, out);
    for (int64_t e = 0; e < 200; e++) {
        render_at(*state, (gb_augment){.flip = GB_FLIP_RANDOM}, e, out);
        bool flip = out[0] != 0;
        flipped += flip;
        for (int p = 0; p < 40; p++) assert_true((int)out[p] == (flip ? p / 5 * 5 + 4 - p % 5 : p));
        render_at(*state, (gb_augment){.flip = GB_FLIP_ALTERNATE}, e, out);
        assert_int_equal(out[0] != first, e % 2);
    }
    assert_in_range(flipped, 70, 130);
}

static void shifts(void **state)
{
    bool seen[3][3] = {{false}};
    float out[40];
    for (int64_t e = 0; e < 200; e++) {
        render_at(*state, (gb_augment){.padding = 1}, e, out);
        int middle = (int)out[5 * 2 + 2], dy = middle / 5 - 2, dx = middle % 5 - 2;
        seen[dy + 1][dx + 1] = true;
        for (int p = 0; p < 40; p++) {
            int y = p / 5 % 4 + dy, x = p % 5 + dx;
            bool inside = y >= 0 && y < 4 && x >= 0 && x < 5;
            assert_int_equal((int)out[p], inside ? p / 20 * 20 + 5 * y + x : 0);
        }
        render_at(*state, (gb_augment){.padding = 1, .reflect = true}, e, out);
        for (int p = 0; p < 40; p++) {
            int y = abs(p / 5 % 4 + dy), x = abs(p % 5 + dx);
            if (y > 3) y = 6 - y;
            if (x > 4) x = 8 - x;
            assert_int_equal((int)out[p], p / 20 * 20 + 5 * y + x);
        }
    }
    for (int i = 0; i < 9; i++) assert_true(seen[i / 3][i % 3]);
}

static void cuts_out(void **state)
{
    bool seen[20] = {false};
    float out[40];
    for (int64_t e = 0; e < 300; e++) {
        render_at(*state, (gb_augment){.cutout = 3}, e, out);
        int first = 21, zeros = 0;
        for (int p = 20; p < 40; p++)
            if (out[p] == 0) {
                if (!zeros++) first = p - 20;
            }
        assert_int_equal(zeros, 9);
        seen[first] = true;
    }
    for (int y = 0; y < 2; y++)
        for (int x = 0; x < 3; x++) assert_true(seen[5 * y + x]);
}

/* ---- failures ---- */

static void refuses_what_does_not_fit(void **state)
{
    gb_loader *l;
    gb_error err;
    static const gb_loader_options bad[] = {
        {.batch = 0},
        {.batch = -1},
        {.batch = 1, .split = GB_TEST},
        {.batch = 1, .split = (gb_split)7},
        {.batch = N + 1, .drop_last = true},
        {.batch = 1, .start_batch = -1},
        {.batch = 1, .augment = {.padding = 4}},
        {.batch = 1, .augment = {.cutout = 5}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(gb_loader_create(&l, *state, &bad[i], &err), GB_INVALID);
        assert_null(l);
    }
}

static void errors_come_after_good_batches(void **state)
{
    gb_dataset *ds = *state;
    const gb_batch *b;
    gb_error err;
    ds->split[GB_TRAIN].labels[9] = 5;
    gb_loader *l = start(ds, &(gb_loader_options){.batch = 4});
    assert_int_equal(next(l)->index, 0);
    assert_int_equal(next(l)->index, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gb_loader_next(l, &b, &err), GB_INVALID);
        assert_null(b);
        assert_non_null(strstr(err.message, "train example 9 has the label 5"));
    }
    gb_loader_destroy(&l);
}

static void stops_at_any_time(void **state)
{
    for (int taken = 0; taken < 40; taken++) {
        gb_loader *l = start(*state, &(gb_loader_options){.batch = 5}); /* without end */
        for (int i = 0; i < taken; i++) assert_non_null(next(l));
        gb_loader_destroy(&l);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dataset, drop_dataset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(delivers_all_in_order),
        TEST(last_short_batch_can_be_dropped),
        TEST(shuffles_anew_in_each_epoch),
        TEST(permutation_is_fixed),
        TEST(permutations_are_even),
        TEST(resumes_at_any_batch),
        TEST(augmentation_ignores_the_batch_size),
        TEST(channels_last_is_the_same_transposed),
        TEST(flips),
        TEST(shifts),
        TEST(cuts_out),
        TEST(refuses_what_does_not_fit),
        TEST(errors_come_after_good_batches),
        TEST(stops_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
