/* SPDX-License-Identifier: MIT */
/*
 * space_accounting.c - st_blocks as the kernel counts it, and the arithmetic of statfs (HOLD-8).
 */
#include "target.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static void blocks_of_a_sparse_file(struct target *t)
{
    struct target_file file = open_new(t, "f");

    assert_count(stat_of(&file).st_blocks, 0);
    assert_ok(t_ftruncate(&file, 100 * UNIT));
    assert_count(stat_of(&file).st_blocks, 0);
    for (int i = 0; i < 3; i++)
        fill_range(&file, i * 20 * UNIT, UNIT, 's');
    assert_ok(t_fsync(&file));
    assert_count(stat_of(&file).st_blocks, 3 * UNIT / 512);
    fill_range(&file, 0, UNIT, 't');
    assert_ok(t_fsync(&file));
    assert_count(stat_of(&file).st_blocks, 3 * UNIT / 512);
    assert_ok(t_fallocate(&file, PUNCH, 20 * UNIT, UNIT));
    assert_count(stat_of(&file).st_blocks, 2 * UNIT / 512);
    assert_true(stat_of(&file).st_blksize >= 512);
    close_ok(&file);
}

static void blocks_of_stores(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_ftruncate(&file, 10 * UNIT));
    map = map_shared(&file, 0, 10 * UNIT);
    memset(map + 4 * UNIT, 'm', UNIT);
    assert_ok(t_fsync(&file));
    assert_count(stat_of(&file).st_blocks, UNIT / 512);
    unmap_ok(t, map, 10 * UNIT);
    close_ok(&file);
}

/* Programs that copy take a file with data and without blocks for one hole. */
static void blocks_of_data_that_nobody_synced(struct target *t)
{
    struct target_file file = open_new(t, "f");
    blkcnt_t block = t->block_size / 512;
    uint8_t *map;

    fill_range(&file, 0, UNIT, 'w');
    assert_true(stat_of(&file).st_blocks >= UNIT / 512);
    assert_ok(t_ftruncate(&file, 4 * UNIT));
    map = map_shared(&file, 0, 4 * UNIT);
    map[2 * UNIT + 100] = 's';
    assert_true(stat_of(&file).st_blocks >= UNIT / 512 + block);
    assert_true(stat_at(t, "f").st_blocks >= UNIT / 512 + block);
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
    assert_true(stat_at(t, "f").st_blocks >= UNIT / 512 + block);
    file = open_old(t, "f", O_RDWR);
    assert_ok(t_fsync(&file));
    assert_count(stat_of(&file).st_blocks, UNIT / 512 + block);
    fill_range(&file, 3 * UNIT, t->block_size, 'w');
    assert_ok(t_fallocate(&file, PUNCH, 3 * UNIT, UNIT));
    assert_count(stat_of(&file).st_blocks, UNIT / 512 + block);
    assert_ok(t_ftruncate(&file, 0));
    assert_count(stat_of(&file).st_blocks, 0);
    close_ok(&file);
}

static void writes_take_and_unlink_gives(struct target *t)
{
    struct hf_statfs start = target_statfs(t), now;
    struct target_file file = open_new(t, "f");
    uint64_t nr = 4 * UNIT / start.block_size;

    assert_count(start.blocks_reserved, 0);
    assert_true(start.blocks_free <= start.blocks);
    assert_count(target_statfs(t).inodes, start.inodes + 1);
    fill_range(&file, 0, 4 * UNIT, 'x');
    now = target_statfs(t);
    assert_count(now.blocks_free, start.blocks_free - nr);
    assert_true(now.blocks_reserved <= nr);
    assert_ok(t_fsync(&file));
    now = target_statfs(t);
    assert_count(now.blocks_free, start.blocks_free - nr);
    assert_count(now.blocks_reserved, 0);
    fill_range(&file, 0, 4 * UNIT, 'y');
    assert_count(target_statfs(t).blocks_free, start.blocks_free - nr);
    assert_ok(t_ftruncate(&file, UNIT));
    assert_count(target_statfs(t).blocks_free, start.blocks_free - nr / 4);
    close_ok(&file);
    assert_ok(t_unlink(t, "f"));
    now = target_statfs(t);
    assert_count(now.blocks_free, start.blocks_free);
    assert_count(now.blocks_reserved, 0);
    assert_count(now.inodes, start.inodes);
    assert_count(now.blocks, start.blocks);
}

static void one_byte_takes_one_block(struct target *t)
{
    uint64_t start = target_statfs(t).blocks_free;
    struct target_file file = open_new(t, "f");

    for (int i = 0; i < 10; i++) {
        fill_range(&file, i * 2 * UNIT, 1, 'x');
        assert_count(target_statfs(t).blocks_free, start - 1 - (uint64_t)i);
    }
    assert_ok(t_fsync(&file));
    assert_count(target_statfs(t).blocks_free, start - 10);
    assert_count(stat_of(&file).st_blocks, 10 * (t->block_size / 512));
    close_ok(&file);
}

static void unsynced_data_is_counted(struct target *t)
{
    uint64_t start = target_statfs(t).blocks_free;
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 4 * UNIT, 'x');
    assert_ok(t_fallocate(&file, PUNCH, UNIT, UNIT));
    assert_count(target_statfs(t).blocks_free, start - 3 * UNIT / t->block_size);
    assert_ok(t_ftruncate(&file, 0));
    assert_count(target_statfs(t).blocks_free, start);
    assert_count(target_statfs(t).blocks_reserved, 0);
    close_ok(&file);
}

static void every_free_block_can_be_written(struct target *t)
{
    struct target_file file;
    uint64_t nr;

    target_fill_but(t, "ballast", 64);
    nr = target_statfs(t).blocks_free;
    file = open_new(t, "f");
    for (uint64_t i = 0; i < nr; i++)
        fill_range(&file, (hf_off_t)(i * t->block_size), t->block_size, 'w');
    assert_err(t_pwrite(&file, "x", 1, (hf_off_t)(nr * t->block_size)), ENOSPC);
    assert_count(stat_of(&file).st_size, nr * t->block_size);
    assert_count(target_statfs(t).blocks_free, 0);
    assert_ok(t_fsync(&file));
    expect_range(&file, 0, nr * t->block_size, 'w');
    fill_range(&file, 0, t->block_size, 'v');
    assert_ok(t_unlink(t, "ballast"));
    fill_range(&file, (hf_off_t)(nr * t->block_size), 1, 'x');
    close_ok(&file);
}

static void short_write_at_the_last_block(struct target *t)
{
    struct target_file file;
    size_t len = 8 * t->block_size;
    uint8_t *buf = malloc(len);

    assert_non_null(buf);
    memset(buf, 'w', len);
    target_fill_but(t, "ballast", 3);
    file = open_new(t, "f");
    assert_count(t_pwrite(&file, buf, len, 0), 3 * t->block_size);
    assert_count(stat_of(&file).st_size, 3 * t->block_size);
    assert_err(t_pwrite(&file, buf, len, 3 * t->block_size), ENOSPC);
    expect_range(&file, 0, 3 * t->block_size, 'w');
    close_ok(&file);
    free(buf);
}

static void counts_last_over_reopen(struct target *t)
{
    struct hf_statfs before, after;

    make_file(t, "a", 3 * UNIT, 'a');
    make_file(t, "b", 100, 'b');
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(hf_volume_sync(t->volume));
    before = target_statfs(t);
    target_reopen(t);
    after = target_statfs(t);
    assert_count(after.blocks, before.blocks);
    assert_count(after.blocks_free, before.blocks_free);
    assert_count(after.blocks_reserved, 0);
    assert_count(after.inodes, before.inodes);
    assert_memory_equal(after.uuid, before.uuid, sizeof(after.uuid));
    assert_count(stat_at(t, "a").st_blocks, 3 * UNIT / 512);
}

static const struct test_body bodies[] = {
    BODY(blocks_of_a_sparse_file, ON_ALL),
    BODY(blocks_of_stores, ON_ALL),
    BODY(blocks_of_data_that_nobody_synced, ON_HOLDFAST),
    BODY(writes_take_and_unlink_gives, ON_HOLDFAST),
    BODY(one_byte_takes_one_block, ON_HOLDFAST),
    BODY(unsynced_data_is_counted, ON_HOLDFAST),
    BODY(every_free_block_can_be_written, ON_HOLDFAST),
    BODY(short_write_at_the_last_block, ON_HOLDFAST),
    BODY(counts_last_over_reopen, ON(TARGET_BLOCKFS)),
};

TEST_MAIN("space_accounting", bodies)
