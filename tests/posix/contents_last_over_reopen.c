/* SPDX-License-Identifier: MIT */
/*
 * contents_last_over_reopen.c - what was written is there after the volume was closed and opened again.
 */
#include "target.h"

static uint8_t pattern(hf_off_t off)
{
    return (uint8_t)((off * 7 + (off >> 9) * 13 + (off >> 16)) | 1);
}

static void write_pattern(struct target_file *file, hf_off_t off, size_t len)
{
    uint8_t *buf = malloc(len);

    assert_non_null(buf);
    for (size_t i = 0; i < len; i++)
        buf[i] = pattern(off + (hf_off_t)i);
    assert_count(t_pwrite(file, buf, len, off), len);
    free(buf);
}

static void check_pattern(struct target_file *file, hf_off_t off, size_t len)
{
    uint8_t *buf = malloc(len);

    assert_non_null(buf);
    assert_count(t_pread(file, buf, len, off), len);
    for (size_t i = 0; i < len; i++)
        assert_that(buf[i] == pattern(off + (hf_off_t)i), "byte %lld is 0x%02x",
                    (long long)(off + (hf_off_t)i), buf[i]);
    free(buf);
}

static void written_bytes(struct target *t)
{
    struct target_file file = open_new(t, "f");

    write_pattern(&file, 0, 300000);
    write_pattern(&file, 1 << 20, 12345);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDWR);
    assert_count(stat_of(&file).st_size, (1 << 20) + 12345);
    check_pattern(&file, 0, 300000);
    expect_range(&file, 300000, (1 << 20) - 300000, 0);
    check_pattern(&file, 1 << 20, 12345);
    write_pattern(&file, 500000, 1000);
    assert_ok(t_fsync(&file));
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    check_pattern(&file, 500000, 1000);
    expect_range(&file, 501000, 1000, 0);
    close_ok(&file);
}

static void stored_bytes(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_ftruncate(&file, 5 * UNIT + 777));
    map = map_shared(&file, 0, 6 * UNIT);
    for (hf_off_t off = 100; off < 5 * UNIT + 777; off += 1001)
        map[off] = pattern(off);
    unmap_ok(t, map, 6 * UNIT);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    map = map_with(&file, 0, 6 * UNIT, PROT_READ, MAP_SHARED);
    for (hf_off_t off = 100; off < 5 * UNIT + 777; off += 1001) {
        assert_int_equal(byte_at(map + off), pattern(off));
        assert_int_equal(byte_at(map + off - 1), 0);
    }
    unmap_ok(t, map, 6 * UNIT);
    close_ok(&file);
}

static void overwrites_after_reopen(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 200000, 'a');
    close_ok(&file);
    target_reopen(t);
    /* A few bytes inside blocks whose neighbours are on the device only. */
    file = open_old(t, "f", O_RDWR);
    for (hf_off_t off = 10; off < 200000; off += 10007)
        fill_range(&file, off, 3, 'b');
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    for (hf_off_t off = 10; off + 10007 < 200000; off += 10007) {
        expect_range(&file, off, 3, 'b');
        expect_range(&file, off + 3, 10007 - 3, 'a');
    }
    close_ok(&file);
}

static void many_small_files(struct target *t)
{
    struct target_file file;
    char path[32];

    assert_ok(t_mkdir(t, "d", 0755));
    for (int i = 0; i < 200; i++) {
        snprintf(path, sizeof(path), "d/%d", i);
        make_file(t, path, i * 3, (uint8_t)i);
    }
    for (int i = 0; i < 200; i += 3) {
        snprintf(path, sizeof(path), "d/%d", i);
        assert_ok(t_unlink(t, path));
    }
    target_reopen(t);
    for (int i = 0; i < 200; i++) {
        struct stat st;

        snprintf(path, sizeof(path), "d/%d", i);
        if (i % 3 == 0) {
            assert_err(t_stat(t, path, &st), ENOENT);
            continue;
        }
        file = open_old(t, path, O_RDONLY);
        assert_count(stat_of(&file).st_size, i * 3);
        expect_range(&file, 0, (size_t)i * 3, (uint8_t)i);
        close_ok(&file);
    }
}

static void unwritten_blocks_stay_zero(struct target *t)
{
    struct target_file file;

    /* Blocks that held something else before: fallocate must not show it, not even after a reopen. */
    make_file(t, "old", 16 * UNIT, 'S');
    target_reopen(t);
    assert_ok(t_unlink(t, "old"));
    file = open_new(t, "f");
    assert_ok(t_fallocate(&file, 0, 0, 16 * UNIT));
    fill_range(&file, UNIT + 10, 10, 'x');
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    expect_range(&file, 0, UNIT + 10, 0);
    expect_range(&file, UNIT + 10, 10, 'x');
    expect_range(&file, UNIT + 20, 15 * UNIT - 20, 0);
    close_ok(&file);
}

static void opened_twice_is_refused(struct target *t)
{
    struct hf_volume *second = NULL;

    assert_err(hf_volume_open(t->path, NULL, &second), EBUSY);
    assert_null(second);
    assert_true(strlen(hf_volume_error_text()) > 10);
}

static void close_waits_for_users(struct target *t)
{
    struct target_file file = open_new(t, "f");
    struct target_dir dir;
    uint8_t *map;

    assert_ok(t_ftruncate(&file, UNIT));
    assert_err(hf_volume_close(t->volume), EBUSY);
    map = map_shared(&file, 0, UNIT);
    map[0] = 1;
    close_ok(&file);
    assert_err(hf_volume_close(t->volume), EBUSY);
    assert_int_equal(byte_at(map), 1);
    unmap_ok(t, map, UNIT);
    assert_ok(t_opendir(t, "/", &dir));
    assert_err(hf_volume_close(t->volume), EBUSY);
    assert_ok(t_closedir(&dir));
}

static void read_only_volume(struct target *t)
{
    struct hf_open_options opts = t->spec->open;
    struct target_file file;
    struct hf_file *ro = NULL;
    struct stat before, after;

    file = open_new(t, "f");
    fill_range(&file, 0, 1000, 'r');
    close_ok(&file);
    assert_ok(hf_volume_close(t->volume));
    assert_ok(stat(t->path, &before) < 0 ? -errno : 0);
    opts.flags |= HF_OPEN_READ_ONLY;
    wait_for_clock();
    assert_ok(hf_volume_open(t->path, &opts, &t->volume));
    assert_err(hf_open(t->volume, "f", O_RDWR, 0, &ro), EROFS);
    assert_err(hf_open(t->volume, "g", O_RDONLY | O_CREAT, 0600, &ro), EROFS);
    assert_err(hf_mkdir(t->volume, "d", 0755), EROFS);
    assert_err(hf_unlink(t->volume, "f"), EROFS);
    assert_err(hf_truncate(t->volume, "f", 0), EROFS);
    file = open_old(t, "f", O_RDONLY);
    expect_range(&file, 0, 1000, 'r');
    close_ok(&file);
    assert_ok(hf_volume_close(t->volume));
    assert_ok(stat(t->path, &after) < 0 ? -errno : 0);
    assert_int_equal(ns_of(after.st_mtim), ns_of(before.st_mtim));
    assert_ok(hf_volume_open(t->path, &t->spec->open, &t->volume));
}

static const struct test_body bodies[] = {
    BODY(written_bytes, ON_LASTING),
    BODY(stored_bytes, ON_LASTING),
    BODY(overwrites_after_reopen, ON_LASTING),
    BODY(many_small_files, ON_LASTING),
    BODY(unwritten_blocks_stay_zero, ON_LASTING),
    BODY(opened_twice_is_refused, ON(TARGET_BLOCKFS)),
    BODY(close_waits_for_users, ON_HOLDFAST),
    BODY(read_only_volume, ON(TARGET_BLOCKFS)),
};

TEST_MAIN("contents_last_over_reopen", bodies)
