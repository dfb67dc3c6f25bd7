/* SPDX-License-Identifier: MIT */
/*
 * seek_data_hole.c - SEEK_DATA and SEEK_HOLE.
 *
 * Data and holes lie on multiples of 64 KiB, so that every page and block size gives the kernel's answer to
 * the byte. Where one byte makes a whole block data, only the bounds POSIX gives are asserted.
 */
#include "target.h"

#define seek_data(file, off) t_lseek((file), (off), SEEK_DATA)
#define seek_hole(file, off) t_lseek((file), (off), SEEK_HOLE)

static void assert_within(hf_off_t got, hf_off_t low, hf_off_t high)
{
    assert_that(got >= low && got <= high, "%lld is not in [%lld, %lld]", (long long)got, (long long)low,
                (long long)high);
}

static void empty_and_ends(struct target *t)
{
    struct target_file file = open_new(t, "f");

    assert_err(seek_data(&file, 0), ENXIO);
    assert_err(seek_hole(&file, 0), ENXIO);
    fill_range(&file, 0, UNIT, 'd');
    assert_count(seek_data(&file, 0), 0);
    assert_count(seek_data(&file, 5), 5);
    assert_count(seek_hole(&file, 0), UNIT);
    assert_count(seek_hole(&file, UNIT - 1), UNIT);
    assert_err(seek_data(&file, UNIT), ENXIO);
    assert_err(seek_hole(&file, UNIT), ENXIO);
    assert_err(seek_data(&file, -1), ENXIO);
    assert_err(seek_hole(&file, -1), ENXIO);
    close_ok(&file);
}

static void check_pattern(struct target_file *file)
{
    /* hole 0-2, data 2-3, hole 3-5, data 5-7, hole 7-9 (units) */
    assert_count(seek_data(file, 0), 2 * UNIT);
    assert_count(seek_hole(file, 0), 0);
    assert_count(seek_hole(file, 2 * UNIT), 3 * UNIT);
    assert_count(seek_data(file, 2 * UNIT + 7), 2 * UNIT + 7);
    assert_count(seek_data(file, 3 * UNIT), 5 * UNIT);
    assert_count(seek_hole(file, 3 * UNIT + 9), 3 * UNIT + 9);
    assert_count(seek_hole(file, 5 * UNIT), 7 * UNIT);
    assert_err(seek_data(file, 7 * UNIT), ENXIO);
    assert_count(seek_hole(file, 8 * UNIT), 8 * UNIT);
}

static void written_pattern(struct target *t)
{
    struct target_file file = open_new(t, "f");

    assert_ok(t_ftruncate(&file, 9 * UNIT));
    fill_range(&file, 2 * UNIT, UNIT, 'd');
    fill_range(&file, 5 * UNIT, 2 * UNIT, 'd');
    check_pattern(&file);
    assert_ok(t_fsync(&file));
    check_pattern(&file);
    /* The position is moved by a seek that finds something, and only by that. */
    assert_count(seek_data(&file, 0), 2 * UNIT);
    assert_err(seek_data(&file, 8 * UNIT), ENXIO);
    assert_count(t_lseek(&file, 0, SEEK_CUR), 2 * UNIT);
    close_ok(&file);
}

static void punched_pattern(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 9 * UNIT, 'd');
    assert_ok(t_fallocate(&file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * UNIT));
    assert_ok(t_fallocate(&file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * UNIT, 2 * UNIT));
    assert_ok(t_fsync(&file));
    assert_ok(t_fallocate(&file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 7 * UNIT, 2 * UNIT));
    check_pattern(&file);
    assert_ok(t_fsync(&file));
    check_pattern(&file);
    close_ok(&file);
}

static void stored_data_is_found(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_ftruncate(&file, 6 * UNIT));
    map = map_shared(&file, 0, 6 * UNIT);
    map[3 * UNIT + 5000] = 1;
    assert_within(seek_data(&file, 0), 3 * UNIT, 3 * UNIT + 5000);
    assert_within(seek_hole(&file, 3 * UNIT + 5000), 3 * UNIT + 5001, 4 * UNIT);
    assert_err(seek_data(&file, 4 * UNIT), ENXIO);
    assert_ok(t_msync(t, map, 6 * UNIT, MS_SYNC));
    assert_within(seek_data(&file, 0), 3 * UNIT, 3 * UNIT + 5000);
    assert_within(seek_hole(&file, 3 * UNIT + 5000), 3 * UNIT + 5001, 4 * UNIT);
    unmap_ok(t, map, 6 * UNIT);
    close_ok(&file);
}

static void sub_page_data_is_never_missed(struct target *t)
{
    struct target_file file = open_new(t, "f");

    assert_ok(t_ftruncate(&file, 4 * UNIT + 100));
    fill_range(&file, UNIT + 1000, 10, 'd');
    fill_range(&file, 4 * UNIT + 50, 10, 'd');
    assert_within(seek_data(&file, 0), UNIT, UNIT + 1000);
    assert_within(seek_hole(&file, UNIT + 1000), UNIT + 1010, 2 * UNIT);
    assert_within(seek_data(&file, 2 * UNIT), 4 * UNIT, 4 * UNIT + 50);
    assert_within(seek_hole(&file, 4 * UNIT + 50), 4 * UNIT + 60, 4 * UNIT + 100);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(empty_and_ends, ON_ALL),
    BODY(written_pattern, ON_ALL),
    BODY(punched_pattern, ON_ALL),
    BODY(stored_data_is_found, ON_ALL),
    BODY(sub_page_data_is_never_missed, ON_ALL),
};

TEST_MAIN("seek_data_hole", bodies)
