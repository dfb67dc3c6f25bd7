/* SPDX-License-Identifier: MIT */
/*
 * unlink_while_open.c - a file without a name lives until its last user is gone, and not longer.
 */
#include "target.h"

static void open_file_goes_on(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 1000, 'a');
    assert_ok(t_unlink(t, "f"));
    assert_count(stat_of(&file).st_nlink, 0);
    assert_count(stat_of(&file).st_size, 1000);
    fill_range(&file, 1000, UNIT, 'b');
    expect_range(&file, 0, 1000, 'a');
    expect_range(&file, 1000, UNIT, 'b');
    assert_ok(t_ftruncate(&file, 500));
    assert_ok(t_fsync(&file));
    expect_range(&file, 0, 500, 'a');
    close_ok(&file);
}

static void the_name_is_free_at_once(struct target *t)
{
    struct target_file old = open_new(t, "f"), file;

    fill_range(&old, 0, 10, 'o');
    assert_ok(t_unlink(t, "f"));
    file = open_new(t, "f");
    assert_that(stat_of(&file).st_ino != stat_of(&old).st_ino, "a new file has the inode of one still open");
    fill_range(&file, 0, 5, 'n');
    expect_range(&old, 0, 10, 'o');
    close_ok(&old);
    expect_range(&file, 0, 5, 'n');
    close_ok(&file);
}

static void one_of_two_names(struct target *t)
{
    struct target_file file = open_new(t, "a");
    struct timespec before;

    assert_ok(t_link(t, "a", "b"));
    before = stat_of(&file).st_ctim;
    wait_for_clock();
    assert_ok(t_unlink(t, "a"));
    assert_count(stat_of(&file).st_nlink, 1);
    assert_true(ns_of(stat_of(&file).st_ctim) > ns_of(before));
    close_ok(&file);
    assert_count(stat_at(t, "b").st_nlink, 1);
}

static void mapping_goes_on(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_ftruncate(&file, 2 * UNIT));
    map = map_shared(&file, 0, 2 * UNIT);
    map[0] = 'x';
    assert_ok(t_unlink(t, "f"));
    close_ok(&file);
    map[UNIT] = 'y';
    assert_int_equal(byte_at(map), 'x');
    assert_int_equal(byte_at(map + UNIT), 'y');
    unmap_ok(t, map, 2 * UNIT);
}

static void space_comes_back_with_the_last_user(struct target *t)
{
    uint64_t free_before = target_statfs(t).blocks_free;
    uint64_t inodes = target_statfs(t).inodes;
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    fill_range(&file, 0, 4 * UNIT, 'x');
    assert_ok(t_fsync(&file));
    map = map_shared(&file, 0, 4 * UNIT);
    map[5] = 'y';
    assert_ok(t_unlink(t, "f"));
    close_ok(&file);
    assert_true(target_statfs(t).blocks_free < free_before);
    unmap_ok(t, map, 4 * UNIT);
    assert_count(target_statfs(t).blocks_free, free_before);
    assert_count(target_statfs(t).blocks_reserved, 0);
    assert_count(target_statfs(t).inodes, inodes);
}

static void nothing_is_left_after_reopen(struct target *t)
{
    uint64_t free_before = target_statfs(t).blocks_free;
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 4 * UNIT, 'x');
    assert_ok(t_fsync(&file));
    assert_ok(t_unlink(t, "f"));
    fill_range(&file, 0, UNIT, 'y');
    close_ok(&file);
    target_reopen(t);
    assert_count(target_statfs(t).blocks_free, free_before);
}

static const struct test_body bodies[] = {
    BODY(open_file_goes_on, ON_ALL),
    BODY(the_name_is_free_at_once, ON_ALL),
    BODY(one_of_two_names, ON_ALL),
    BODY(mapping_goes_on, ON_ALL),
    BODY(space_comes_back_with_the_last_user, ON_HOLDFAST),
    BODY(nothing_is_left_after_reopen, ON(TARGET_BLOCKFS)),
};

TEST_MAIN("unlink_while_open", bodies)
