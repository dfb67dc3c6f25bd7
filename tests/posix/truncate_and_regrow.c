/* SPDX-License-Identifier: MIT */
/*
 * truncate_and_regrow.c - size changes: what is cut off is gone, what is added reads zero.
 */
#include "target.h"

static const hf_off_t cuts[] = {0,    1,    511,   512,   513,   1024,  4095,  4096,
                                4097, 9999, 16384, 16385, 65535, 65536, 65537, 99999};

static void shrink_then_grow(struct target *t)
{
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        struct target_file file = open_new(t, "f");

        fill_range(&file, 0, 100000, 'x');
        if (i % 2)
            assert_ok(t_fsync(&file));
        assert_ok(t_ftruncate(&file, cuts[i]));
        assert_count(stat_of(&file).st_size, cuts[i]);
        assert_ok(t_ftruncate(&file, 150000));
        assert_count(stat_of(&file).st_size, 150000);
        expect_range(&file, 0, (size_t)cuts[i], 'x');
        expect_range(&file, cuts[i], (size_t)(150000 - cuts[i]), 0);
        close_ok(&file);
        assert_ok(t_unlink(t, "f"));
    }
}

static void shrink_then_write_beyond(struct target *t)
{
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        struct target_file file = open_new(t, "f");

        fill_range(&file, 0, 100000, 'x');
        assert_ok(t_ftruncate(&file, cuts[i]));
        fill_range(&file, 120000, 5, 'y');
        expect_range(&file, 0, (size_t)cuts[i], 'x');
        expect_range(&file, cuts[i], (size_t)(120000 - cuts[i]), 0);
        expect_range(&file, 120000, 5, 'y');
        assert_ok(t_fsync(&file));
        expect_range(&file, cuts[i], (size_t)(120000 - cuts[i]), 0);
        close_ok(&file);
        assert_ok(t_unlink(t, "f"));
    }
}

static void lasts_over_reopen(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 100000, 'x');
    assert_ok(t_fsync(&file));
    assert_ok(t_ftruncate(&file, 12345));
    assert_ok(t_ftruncate(&file, 54321));
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDWR);
    assert_count(stat_of(&file).st_size, 54321);
    expect_range(&file, 0, 12345, 'x');
    expect_range(&file, 12345, 54321 - 12345, 0);
    close_ok(&file);
}

static void by_path(struct target *t)
{
    make_file(t, "f", 5000, 'f');
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_symlink(t, "f", "l"));
    assert_ok(t_truncate(t, "l", 100));
    assert_count(stat_at(t, "f").st_size, 100);
    assert_count(stat_at(t, "l").st_size, 1);
    assert_ok(t_truncate(t, "f", 7000));
    assert_count(stat_at(t, "f").st_size, 7000);
    assert_err(t_truncate(t, "d", 0), EISDIR);
    assert_err(t_truncate(t, "none", 0), ENOENT);
    assert_err(t_truncate(t, "f/x", 0), ENOTDIR);
}

static void blocks_come_back(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 8 * UNIT, 'x');
    assert_ok(t_fsync(&file));
    assert_count(stat_of(&file).st_blocks, 8 * UNIT / 512);
    assert_ok(t_ftruncate(&file, 3 * UNIT));
    assert_count(stat_of(&file).st_blocks, 3 * UNIT / 512);
    assert_ok(t_ftruncate(&file, 8 * UNIT));
    assert_count(stat_of(&file).st_blocks, 3 * UNIT / 512);
    assert_ok(t_ftruncate(&file, 0));
    assert_count(stat_of(&file).st_blocks, 0);
    close_ok(&file);
}

static void mapping_is_cut(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t value = 0;
    uint8_t *map;

    fill_range(&file, 0, 4 * UNIT, 'x');
    map = map_shared(&file, 0, 4 * UNIT);
    map[3 * UNIT] = 'y';
    assert_ok(t_ftruncate(&file, UNIT + 100));
    assert_int_equal(byte_at(map + UNIT + 99), 'x');
    assert_int_equal(byte_at(map + UNIT + 100), 0);
    assert_int_equal(peek(map + 2 * UNIT, &value), SIGBUS);
    assert_int_equal(poke(map + 3 * UNIT, 1), SIGBUS);
    assert_ok(t_ftruncate(&file, 4 * UNIT));
    assert_int_equal(byte_at(map + 3 * UNIT), 0);
    assert_int_equal(byte_at(map + UNIT + 100), 0);
    map[3 * UNIT] = 'z';
    expect_range(&file, 3 * UNIT, 1, 'z');
    expect_range(&file, UNIT + 100, 2 * UNIT - 100, 0);
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(shrink_then_grow, ON_ALL),      BODY(shrink_then_write_beyond, ON_ALL),
    BODY(lasts_over_reopen, ON_LASTING), BODY(by_path, ON_ALL),
    BODY(blocks_come_back, ON_ALL),      BODY(mapping_is_cut, ON_ALL),
};

TEST_MAIN("truncate_and_regrow", bodies)
