/* SPDX-License-Identifier: MIT */
/*
 * metadata_outlasts_data.c - however badly files are fragmented, data is what runs out: until every block is
 * an extent of its own nothing but a reservation is ever refused, and everything commits, unmounts, opens and
 * checks.
 *
 * METADATA_MIB in the environment: the size of the volume.
 */
#include "blockfs_util.h"

#include <holdfast/maintain.h>

#define SYNC_EVERY 300 /* blocks */

enum order { EVERY_SECOND_PUNCHED, DESCENDING, RANDOM, NR_ORDERS };

/* Block number i of the order; none has a neighbour, so each is an extent. */
static uint64_t place(enum order order, uint64_t i, uint64_t nr, uint64_t *seed)
{
    if (order == DESCENDING)
        return 2 * (2 * nr - i);
    return order == RANDOM ? 2 * random_below(seed, 8 * nr) : 2 * i;
}

static uint64_t fill(struct vol *vol, struct hf_inode *file, enum order order, uint64_t nr)
{
    uint64_t seed = 77, made = 0;

    for (uint64_t i = 0; vol_free(vol) > 0; i++) {
        uint64_t blk = place(order, i, nr, &seed);

        if (file_kind(file, blk) != HF_EXTENT_HOLE)
            continue;
        assert_ok(file_write(file, blk, 1, 'f'));
        if (++made % SYNC_EVERY == 0)
            assert_ok(vol->ops->sync(&vol->sb));
    }
    assert_err(vol->ops->reserve(file, 1, 0), ENOSPC);
    assert_ok(vol->ops->sync(&vol->sb));
    return made;
}

/* A file takes everything, and then every second block of it is free. */
static void punch_every_second(struct vol *vol, struct hf_inode *file)
{
    uint64_t nr = vol_free(vol);

    assert_ok(file_write(file, 0, nr, 'p'));
    assert_ok(vol->ops->sync(&vol->sb));
    for (uint64_t blk = 0; blk < nr; blk += 2) {
        assert_ok(vol->ops->punch(file, blk, 1));
        if (blk % SYNC_EVERY == 0)
            assert_ok(vol->ops->sync(&vol->sb));
    }
    assert_ok(vol->ops->sync(&vol->sb));
}

static void every_block_an_extent(uint32_t block_size, enum order order)
{
    const char *mib = getenv("METADATA_MIB");
    hf_off_t bytes = mib ? (hf_off_t)strtoull(mib, NULL, 10) << 20 : block_size == 512 ? 2 << 20 : 8 << 20;
    struct hf_device *dev = vol_format(bytes, block_size, false);
    struct hf_check_result result;
    struct hf_inode *root, *a, *b;
    struct vol vol;
    uint64_t nr, made;

    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    b = file_create(&vol, root, "b");
    nr = vol_free(&vol);
    if (order == EVERY_SECOND_PUNCHED)
        punch_every_second(&vol, a);
    made = fill(&vol, b, order, nr);
    assert_int_equal(made, order == EVERY_SECOND_PUNCHED ? (nr + 1) / 2 : nr);
    assert_count(vol_free(&vol), 0);
    inode_put(a);
    inode_put(b);
    inode_put(root);
    vol_unmount(&vol);

    assert_ok(hf_check_device(dev, NULL, &result));
    assert_count(result.problems, 0);
    assert_true(result.extents >= nr - nr / 64); /* some blocks happen to lie beside each other */
    vol_mount(&vol, dev);
    root = root_get(&vol);
    assert_count(vol_free(&vol), 0);
    file_unlink(&vol, root, "b");
    assert_ok(vol.ops->sync(&vol.sb));
    assert_count(vol_free(&vol), made);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void with_small_blocks(void **state)
{
    (void)state;
    for (int order = 0; order < NR_ORDERS; order++)
        every_block_an_extent(512, (enum order)order);
}

static void with_large_blocks(void **state)
{
    (void)state;
    for (int order = 0; order < NR_ORDERS; order++)
        every_block_an_extent(4096, (enum order)order);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_small_blocks),
        cmocka_unit_test(with_large_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
