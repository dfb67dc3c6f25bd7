/* SPDX-License-Identifier: MIT */
/*
 * device_errors.c - EIO: on a load it refuses the load; at writeback the page stays dirty, every open file is
 * told once, and after the device recovered nothing is lost (HOLD-7).
 */
#include "mmap_test.h"

#include "fs/blockfs/format.h"

static void do_load(void *arg)
{
    (void)*(volatile uint8_t *)arg;
}

/* The same volume, behind a device that fails on request. */
static struct hf_device *reopen_on_faults(struct target *t)
{
    struct hf_device *lower = NULL, *faulty = NULL;

    assert_ok(hf_volume_close(t->volume));
    t->volume = NULL;
    assert_ok(hf_device_file_open(t->path, 0, 0, &lower));
    assert_ok(hf_device_fault_new(lower, &faulty));
    assert_ok(hf_volume_open_device(faulty, &t->spec->open, &t->volume));
    return faulty;
}

static void heal(struct hf_device *dev)
{
    struct hf_device_faults none = {0};

    hf_device_fault_set(dev, &none);
}

static void fail_reads(struct hf_device *dev)
{
    struct hf_device_faults faults = {.fail_read_at = 1};

    hf_device_fault_set(dev, &faults);
}

/* The data region's writes fail, `count` of them (0: all); metadata is not concerned. */
static void fail_some_data_writes(struct hf_device *dev, uint64_t count)
{
    struct hf_blockfs_header header;
    char err[HF_BLOCKFS_ERR];
    struct hf_device_faults faults = {.fail_write_at = 1, .count = count};

    assert_ok(hf_blockfs_header_read(dev, true, &header, NULL, err));
    faults.range_start = (hf_off_t)header.data_off;
    faults.range_end = (hf_off_t)(header.data_off + header.data_len);
    hf_device_fault_set(dev, &faults);
}

static void fail_data_writes(struct hf_device *dev)
{
    fail_some_data_writes(dev, 0);
}

static void a_failing_read_refuses_the_load(struct target *t)
{
    struct hf_device *dev;
    struct target_file file;
    struct caught caught;
    uint8_t *map, *buf = malloc(UNIT);
    size_t done = 99;

    assert_non_null(buf);
    make_file(t, "f", 4 * UNIT, 'f');
    dev = reopen_on_faults(t);
    file = open_old(t, "f", O_RDWR);
    map = map_shared(&file, 0, 4 * UNIT);
    fail_reads(dev);
    assert_err(hf_load(buf, map, UNIT, &done), EIO);
    assert_count(done, 0);
    assert_int_equal(catch_fault(do_load, map + UNIT + 5, &caught), SIGBUS);
    assert_int_equal(caught.fault.error, EIO);
    assert_false(caught.fault.write);
    assert_int_equal(caught.fault.offset, UNIT + 5);
    assert_err(t_pread(&file, buf, 10, 2 * UNIT), EIO);
    /* A store into a block that is not in memory needs it read, too. */
    assert_err(store_byte(map + 3 * UNIT + 1, 'x'), EIO);
    heal(dev);
    assert_ok(hf_load(buf, map, UNIT, &done));
    assert_bytes(buf, 'f', UNIT);
    assert_ok(store_byte(map + 3 * UNIT + 1, 'x'));
    assert_int_equal(byte_at(map + 3 * UNIT), 'f');
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
    free(buf);
}

static void a_read_that_ends_early_is_short(struct target *t)
{
    struct hf_device *dev;
    struct target_file file;
    uint8_t *buf = malloc(4 * UNIT);
    ssize_t done;

    assert_non_null(buf);
    make_file(t, "f", 4 * UNIT, 'f');
    dev = reopen_on_faults(t);
    file = open_old(t, "f", O_RDWR);
    assert_count(t_pread(&file, buf, 10, 0), 10);
    fail_reads(dev);
    done = t_pread(&file, buf, 4 * UNIT, 0);
    if (done < 0)
        assert_err(done, EIO);
    else
        assert_bytes(buf, 'f', (size_t)done);
    assert_that(done < 4 * UNIT, "all was read although the device fails");
    heal(dev);
    assert_count(t_pread(&file, buf, 4 * UNIT, 0), 4 * UNIT);
    assert_bytes(buf, 'f', 4 * UNIT);
    close_ok(&file);
    free(buf);
}

/* truncate into a block that must be read first: HOLD-6, nothing changes. */
static void truncate_that_cannot_read_changes_nothing(struct target *t)
{
    struct hf_device *dev;
    struct target_file file;

    make_file(t, "f", 4 * UNIT, 'f');
    dev = reopen_on_faults(t);
    file = open_old(t, "f", O_RDWR);
    fail_reads(dev);
    assert_err(t_ftruncate(&file, 2 * UNIT + 100), EIO);
    assert_count(stat_of(&file).st_size, 4 * UNIT);
    heal(dev);
    expect_range(&file, 0, 4 * UNIT, 'f');
    assert_ok(t_ftruncate(&file, 2 * UNIT + 100));
    assert_ok(t_ftruncate(&file, 4 * UNIT));
    expect_range(&file, 2 * UNIT + 100, 2 * UNIT - 100, 0);
    close_ok(&file);
}

static void every_open_file_is_told_once(struct target *t)
{
    struct hf_device *dev = reopen_on_faults(t);
    struct target_file a = open_new(t, "f"), b = open_old(t, "f", O_RDWR), c = open_old(t, "f", O_RDONLY),
                       late;
    uint8_t *map;

    assert_ok(t_ftruncate(&a, 4 * UNIT));
    assert_ok(t_fsync(&a));
    map = map_shared(&b, 0, 4 * UNIT);
    memset(map, 'd', 4 * UNIT);
    fail_data_writes(dev);
    assert_err(t_fsync(&a), EIO);
    assert_true(target_stats(t).writeback_errors > 0);
    assert_true(target_stats(t).dirty_pages > 0);
    assert_bytes(map, 'd', 4 * UNIT);
    heal(dev);
    assert_ok(t_fsync(&a));
    assert_int_equal(target_stats(t).dirty_pages, 0);
    assert_err(t_fsync(&b), EIO);
    assert_ok(t_fsync(&b));
    late = open_old(t, "f", O_RDWR);
    assert_ok(t_fsync(&late));
    close_ok(&late);
    assert_err(t_close(&c), EIO);
    close_ok(&a);
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&b);
    target_reopen(t);
    a = open_old(t, "f", O_RDONLY);
    expect_range(&a, 0, 4 * UNIT, 'd');
    close_ok(&a);
}

static void a_page_that_failed_keeps_its_space(struct target *t)
{
    struct hf_device *dev = reopen_on_faults(t);
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", 2, &file);

    memset(map, 'k', 2 * t->page_size);
    target_fill_but(t, "ballast", 0);
    fail_data_writes(dev);
    for (int i = 0; i < 3; i++)
        assert_err(t_fsync(&file), EIO);
    assert_bytes(map, 'k', 2 * t->page_size);
    expect_range(&file, 0, 2 * t->page_size, 'k');
    assert_count(target_statfs(t).blocks_free, 0);
    assert_true(page_info(&file, 0).block_dirty[0]);
    assert_true(page_info(&file, 0).block_state[0] != HF_BLOCK_HOLE);
    /* It may be stored to again; a block that is not there may not. */
    assert_ok(store_byte(map, 'm'));
    assert_err(t_pwrite(&file, "x", 1, 2 * t->page_size), ENOSPC);
    heal(dev);
    assert_ok(t_fsync(&file));
    assert_false(page_info(&file, 0).block_dirty[0]);
    unmap_ok(t, map, 2 * t->page_size);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    expect_range(&file, 0, 1, 'm');
    expect_range(&file, 1, 2 * t->page_size - 1, 'k');
    close_ok(&file);
}

static void msync_and_close_tell_too(struct target *t)
{
    struct hf_device *dev = reopen_on_faults(t);
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", 4, &file);

    map[0] = 'm';
    fail_data_writes(dev);
    assert_err(t_msync(t, map, 4 * t->page_size, MS_SYNC), EIO);
    heal(dev);
    assert_ok(t_msync(t, map, 4 * t->page_size, MS_SYNC));
    map[0] = 'n';
    fail_data_writes(dev);
    assert_true(hf_volume_sync(t->volume) < 0);
    heal(dev);
    assert_ok(hf_volume_sync(t->volume));
    assert_err(t_close(&file), EIO);
    assert_int_equal(byte_at(map), 'n');
    unmap_ok(t, map, 4 * t->page_size);
}

static void a_failing_flush_is_told(struct target *t)
{
    struct hf_device *dev = reopen_on_faults(t);
    struct hf_device_faults faults = {.fail_flush_at = 1};
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, UNIT, 'f');
    hf_device_fault_set(dev, &faults);
    assert_err(t_fsync(&file), EIO);
    heal(dev);
    assert_ok(t_fsync(&file));
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    expect_range(&file, 0, UNIT, 'f');
    close_ok(&file);
}

/* The device recovers between the failing write and the close of the volume: nothing is missing then. */
static void one_failing_write_among_many(struct target *t)
{
    struct hf_device *dev = reopen_on_faults(t);
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", 16, &file);

    for (size_t i = 0; i < 16; i += 2)
        memset(map + i * t->page_size, (int)('a' + i), t->page_size);
    fail_some_data_writes(dev, 1);
    assert_err(t_fsync(&file), EIO);
    unmap_ok(t, map, 16 * t->page_size);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    for (size_t i = 0; i < 16; i++)
        expect_range(&file, (hf_off_t)(i * t->page_size), t->page_size, i % 2 ? 0 : (uint8_t)('a' + i));
    close_ok(&file);
}

/* Broken for good: closing says so, frees everything, and what was synced before is still there. */
static void a_device_that_never_recovers(struct target *t)
{
    struct hf_device *dev = reopen_on_faults(t);
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, UNIT, 's');
    assert_ok(t_fsync(&file));
    fill_range(&file, UNIT, UNIT, 'l');
    fail_data_writes(dev);
    assert_err(t_fsync(&file), EIO);
    (void)t_close(&file);
    assert_err(hf_volume_close(t->volume), EIO);
    t->volume = NULL;
    assert_ok(hf_volume_open(t->path, &t->spec->open, &t->volume));
    file = open_old(t, "f", O_RDONLY);
    expect_range(&file, 0, UNIT, 's');
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(a_failing_read_refuses_the_load, ON(TARGET_BLOCKFS)),
    BODY(a_read_that_ends_early_is_short, ON(TARGET_BLOCKFS)),
    BODY(truncate_that_cannot_read_changes_nothing, ON(TARGET_BLOCKFS)),
    BODY(every_open_file_is_told_once, ON(TARGET_BLOCKFS)),
    BODY(a_page_that_failed_keeps_its_space, ON(TARGET_BLOCKFS)),
    BODY(msync_and_close_tell_too, ON(TARGET_BLOCKFS)),
    BODY(a_failing_flush_is_told, ON(TARGET_BLOCKFS)),
    BODY(one_failing_write_among_many, ON(TARGET_BLOCKFS)),
    BODY(a_device_that_never_recovers, ON(TARGET_BLOCKFS)),
};

MMAP_TEST_MAIN("device_errors", bodies)
