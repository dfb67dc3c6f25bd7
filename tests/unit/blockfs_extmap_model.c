/* SPDX-License-Identifier: MIT */
/* blockfs_extmap_model.c - the extent map agrees with an array of one entry per block over 10^5 random
 * operations. */
#include "blockfs_util.h"

#define BLOCKS 6000u
#define OPS 100000

static struct {
    uint64_t pblk;
    uint32_t flags;
    bool there;
} model[BLOCKS];

static struct hf_ext exts[BLOCKS];

static uint32_t to_written(uint32_t flags)
{
    return flags & HF_EXT_DATA ? flags : flags | HF_EXT_DATA | HF_EXT_PENDING;
}
static uint32_t to_stored(uint32_t flags)
{
    return flags & HF_EXT_SYNC ? HF_EXT_DATA | HF_EXT_ROW : flags;
}

/* All extents, one by one, are what the model has; what lies between them is not in it. */
static void compare(struct hf_extmap *map)
{
    size_t n = hf_extmap_collect(map, 0, UINT64_MAX, BLOCKS, exts);
    uint64_t blk = 0;

    assert_true(hf_extmap_sane(map));
    assert_int_equal(n, map->nr_extents);
    for (size_t i = 0; i < n; i++) {
        for (; blk < exts[i].lblk; blk++)
            assert_false(model[blk].there);
        for (; blk < hf_ext_end(&exts[i]); blk++) {
            assert_true(model[blk].there);
            assert_int_equal(model[blk].pblk, exts[i].pblk + (blk - exts[i].lblk));
            assert_int_equal(model[blk].flags, exts[i].flags);
        }
    }
    for (; blk < BLOCKS; blk++)
        assert_false(model[blk].there);
}

static void op_insert(struct hf_extmap *map, uint64_t *seed, uint64_t blk, uint64_t nr)
{
    static const uint32_t kinds[] = {0, HF_EXT_ROW, HF_EXT_ROW | HF_EXT_DATA};
    uint32_t flags = kinds[random_below(seed, 3)];
    /* Often continuing what is before, so that extents join. */
    uint64_t pblk = random_below(seed, 2) ? blk + 1000000 : random_below(seed, 1u << 30);

    for (uint64_t b = blk; b < blk + nr; b++)
        if (model[b].there)
            return;
    assert_ok(hf_extmap_lock_for(map, 1));
    hf_extmap_insert(map, &(struct hf_ext){.lblk = blk, .pblk = pblk, .len = (uint32_t)nr, .flags = flags});
    hf_extmap_unlock(map);
    for (uint64_t b = blk; b < blk + nr; b++) {
        model[b].there = true;
        model[b].pblk = pblk + (b - blk);
        model[b].flags = flags;
    }
}

static void op_change(struct hf_extmap *map, uint64_t blk, uint64_t nr, uint32_t (*fn)(uint32_t))
{
    assert_ok(hf_extmap_lock_for(map, 2));
    hf_extmap_change(map, blk, blk + nr, fn);
    hf_extmap_unlock(map);
    for (uint64_t b = blk; b < blk + nr; b++)
        if (model[b].there)
            model[b].flags = fn(model[b].flags);
}

static void op_find(struct hf_extmap *map, uint64_t blk)
{
    struct hf_ext ext;
    uint64_t b = blk;

    while (b < BLOCKS && !model[b].there)
        b++;
    if (hf_extmap_find(map, blk, &ext)) {
        assert_true(b < BLOCKS);
        assert_true(ext.lblk <= b && b < hf_ext_end(&ext));
    } else {
        assert_int_equal(b, BLOCKS);
    }
    b = blk;
    while (b > 0 && !model[b - 1].there)
        b--;
    if (hf_extmap_find_before(map, blk, &ext))
        assert_true(b > 0 && ext.lblk <= b - 1 && b - 1 < hf_ext_end(&ext));
    else
        assert_int_equal(b, 0);
}

static void op_commit(struct hf_extmap *map, uint64_t *seed)
{
    size_t n, i;

    hf_extmap_mark_sync(map);
    for (uint64_t b = 0; b < BLOCKS; b++)
        if (model[b].there && (model[b].flags & HF_EXT_PENDING))
            model[b].flags |= HF_EXT_SYNC;
    n = hf_extmap_collect_sync(map, 1 + random_below(seed, 200), exts);
    for (i = 0; i < n; i++)
        op_change(map, exts[i].lblk, exts[i].len, to_stored);
}

static void random_operations_agree_with_an_array(void **state)
{
    uint64_t seed = 42;
    struct hf_extmap map;

    (void)state;
    hf_extmap_init(&map);
    for (int i = 0; i < OPS; i++) {
        uint64_t nr = 1 + random_below(&seed, random_below(&seed, 50) == 0 ? 500 : 4);
        uint64_t blk = random_below(&seed, BLOCKS - nr), kind = random_below(&seed, 100);

        if (kind < 45) {
            op_insert(&map, &seed, blk, nr);
        } else if (kind < 65) {
            assert_ok(hf_extmap_lock_for(&map, 2));
            hf_extmap_remove(&map, blk, blk + nr);
            hf_extmap_unlock(&map);
            for (uint64_t b = blk; b < blk + nr; b++)
                model[b].there = false;
        } else if (kind < 85) {
            op_change(&map, blk, nr, to_written);
        } else if (kind < 98) {
            op_find(&map, blk);
        } else {
            op_commit(&map, &seed);
        }
        if (i % 200 == 0)
            compare(&map);
    }
    compare(&map);
    assert_true(map.nr_slots > 10);
    hf_extmap_done(&map);
}

static void a_file_written_in_order_is_one_extent(void **state)
{
    struct hf_extmap map;

    (void)state;
    hf_extmap_init(&map);
    for (uint64_t b = 0; b < 10000; b++) {
        assert_ok(hf_extmap_lock_for(&map, 1));
        hf_extmap_insert(&map, &(struct hf_ext){.lblk = b, .pblk = 77 + b, .len = 1});
        hf_extmap_unlock(&map);
    }
    assert_int_equal(map.nr_extents, 1);
    assert_true(hf_extmap_sane(&map));
    hf_extmap_done(&map);
}

/* The checks of hf_extmap_sane() are worth something: each kind of damage is found. */
static void sane_finds_damage(void **state)
{
    struct hf_extmap map;

    (void)state;
    hf_extmap_init(&map);
    for (uint64_t b = 0; b < 300; b++) {
        assert_ok(hf_extmap_lock_for(&map, 1));
        hf_extmap_insert(&map, &(struct hf_ext){.lblk = 2 * b, .pblk = 5 * b, .len = 1});
        hf_extmap_unlock(&map);
    }
    assert_true(hf_extmap_sane(&map));
    map.slots[1].leaf->ext[3].len = 9;
    assert_false(hf_extmap_sane(&map));
    map.slots[1].leaf->ext[3].len = 1;
    map.slots[1].leaf->ext[3].flags = HF_EXT_PENDING;
    assert_false(hf_extmap_sane(&map));
    map.slots[1].leaf->ext[3].flags = 0;
    map.nr_extents++;
    assert_false(hf_extmap_sane(&map));
    map.nr_extents--;
    map.slots[0].first++;
    assert_false(hf_extmap_sane(&map));
    map.slots[0].first--;
    assert_true(hf_extmap_sane(&map));
    hf_extmap_done(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_an_array),
        cmocka_unit_test(a_file_written_in_order_is_one_extent),
        cmocka_unit_test(sane_finds_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
