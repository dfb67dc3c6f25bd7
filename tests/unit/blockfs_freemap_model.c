/* SPDX-License-Identifier: MIT */
/* blockfs_freemap_model.c - the two-level free map agrees with one byte per block, whatever is done to it. */
#include "blockfs_util.h"

/* Three whole leaves and a part of one. */
#define BLOCKS (3u * HF_FREEMAP_LEAF_BLOCKS + 1000u)

static unsigned char used[BLOCKS];

static uint64_t model_run(uint64_t blk, uint64_t limit)
{
    uint64_t nr = 0;

    while (nr < limit && blk + nr < BLOCKS && !used[blk + nr])
        nr++;
    return nr;
}

static bool model_all(uint64_t blk, uint64_t nr, unsigned char value)
{
    for (uint64_t i = 0; i < nr; i++)
        if (used[blk + i] != value)
            return false;
    return true;
}

static void random_range(uint64_t *seed, uint64_t *blk, uint64_t *nr)
{
    uint64_t scale = random_below(seed, 3) == 0 ? 2 * HF_FREEMAP_LEAF_BLOCKS : 300;

    *blk = random_below(seed, BLOCKS);
    *nr = 1 + random_below(seed, scale);
    if (random_below(seed, 8) == 0)
        *blk -= *blk % HF_FREEMAP_LEAF_BLOCKS; /* whole leaves */
    if (random_below(seed, 8) == 0)
        *nr = HF_FREEMAP_LEAF_BLOCKS;
    if (*nr > BLOCKS - *blk)
        *nr = BLOCKS - *blk;
}

static void step(struct hf_freemap *map, uint64_t *seed)
{
    uint64_t blk, nr, got, want;

    random_range(seed, &blk, &nr);
    switch (random_below(seed, 4)) {
    case 0: {
        int rc = hf_freemap_take(map, blk, nr);

        assert_int_equal(rc, model_all(blk, nr, 0) ? 0 : -EEXIST);
        if (rc == 0)
            memset(used + blk, 1, nr);
        break;
    }
    case 1:
        while (nr > 1 && !model_all(blk, nr, 1))
            nr /= 2;
        if (!model_all(blk, nr, 1))
            break;
        assert_ok(hf_freemap_give(map, blk, nr));
        memset(used + blk, 0, nr);
        break;
    case 2:
        assert_int_equal(hf_freemap_run(map, blk, nr), model_run(blk, nr));
        break;
    default:
        want = nr;
        if (hf_freemap_alloc(map, blk, want, &blk, &got) != 0) {
            assert_int_equal(map->nr_free, 0);
            break;
        }
        assert_in_range(got, 1, want);
        assert_true(model_all(blk, got, 0));
        memset(used + blk, 1, got);
        break;
    }
}

static void random_operations(bool starts_used)
{
    uint64_t seed = 20260101, nr_used;
    struct hf_freemap map;

    memset(used, starts_used, sizeof(used));
    assert_ok(starts_used ? hf_freemap_init_used(&map, BLOCKS) : hf_freemap_init(&map, BLOCKS));
    assert_true(hf_freemap_sane(&map));
    for (int i = 0; i < 20000; i++) {
        step(&map, &seed);
        if (i % 500 != 0)
            continue;
        if (i % 2000 == 0)
            hf_freemap_trim(&map);
        assert_that(hf_freemap_sane(&map), "after %d operations", i);
        nr_used = 0;
        for (uint64_t b = 0; b < BLOCKS; b++)
            nr_used += used[b];
        assert_int_equal(map.nr_free, BLOCKS - nr_used);
    }
    hf_freemap_done(&map);
}

static void random_operations_agree_with_a_byte_per_block(void **state)
{
    (void)state;
    random_operations(false);
    random_operations(true);
}

static void every_block_can_be_allocated_and_not_one_more(void **state)
{
    struct hf_freemap map;
    uint64_t blk, nr, total = 0;

    (void)state;
    memset(used, 0, sizeof(used));
    assert_ok(hf_freemap_init(&map, BLOCKS));
    while (hf_freemap_alloc(&map, 12345, 777, &blk, &nr) == 0) {
        assert_true(model_all(blk, nr, 0));
        memset(used + blk, 1, nr);
        total += nr;
    }
    assert_int_equal(total, BLOCKS);
    assert_int_equal(map.nr_free, 0);
    assert_err(hf_freemap_take(&map, BLOCKS - 1, 1), EEXIST);
    assert_err(hf_freemap_take(&map, BLOCKS, 1), ERANGE);
    assert_err(hf_freemap_take(&map, BLOCKS - 1, 2), ERANGE);
    hf_freemap_trim(&map);
    assert_ok(hf_freemap_give(&map, 0, BLOCKS));
    assert_true(hf_freemap_sane(&map));
    assert_int_equal(hf_freemap_run(&map, 0, UINT64_MAX), BLOCKS);
    hf_freemap_done(&map);
}

static void neighbours_are_allocated_together(void **state)
{
    struct hf_freemap map;
    uint64_t blk, nr;

    (void)state;
    assert_ok(hf_freemap_init(&map, BLOCKS));
    assert_ok(hf_freemap_take(&map, 100, 10));
    assert_ok(hf_freemap_alloc(&map, 110, 50, &blk, &nr)); /* the goal is free */
    assert_int_equal(blk, 110);
    assert_int_equal(nr, 50);
    assert_ok(
        hf_freemap_alloc(&map, 105, 200, &blk, &nr)); /* it is not: a long run is preferred to the 100 at 0 */
    assert_int_equal(nr, 200);
    assert_ok(hf_freemap_alloc(&map, BLOCKS, 64, &blk, &nr)); /* no goal: where the last one ended */
    assert_int_equal(nr, 64);
    hf_freemap_done(&map);
}

static void a_map_of_sixteen_tebibytes_costs_nothing_to_open(void **state)
{
    uint64_t blocks = (16ull << 40) / 512, blk, nr;
    struct hf_freemap map;

    (void)state;
    assert_ok(hf_freemap_init(&map, blocks));
    assert_ok(hf_freemap_take(&map, blocks - 5, 5));
    assert_ok(hf_freemap_alloc(&map, blocks, 1ull << 32, &blk, &nr));
    assert_int_equal(nr, 1ull << 32);
    assert_int_equal(map.nr_free, blocks - 5 - (1ull << 32));
    hf_freemap_done(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_byte_per_block),
        cmocka_unit_test(every_block_can_be_allocated_and_not_one_more),
        cmocka_unit_test(neighbours_are_allocated_together),
        cmocka_unit_test(a_map_of_sixteen_tebibytes_costs_nothing_to_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
