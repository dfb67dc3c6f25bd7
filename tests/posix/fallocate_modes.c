/* SPDX-License-Identifier: MIT */
/*
 * fallocate_modes.c - allocate, keep size, punch, zero: sizes, bytes, blocks and errors.
 */
#include "target.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define SECTORS(bytes) ((bytes) / 512)

static void need_zero_range(struct target *t)
{
    if (!t->has_zero_range)
        skip();
}

static void allocate_grows(struct target *t)
{
    struct target_file file = open_new(t, "f");

    assert_ok(t_fallocate(&file, 0, UNIT, UNIT));
    assert_count(stat_of(&file).st_size, 2 * UNIT);
    assert_count(stat_of(&file).st_blocks, SECTORS(UNIT));
    expect_range(&file, 0, 2 * UNIT, 0);
    assert_ok(t_fallocate(&file, 0, 0, 100));
    assert_count(stat_of(&file).st_size, 2 * UNIT);
    fill_range(&file, UNIT, UNIT, 'a');
    assert_ok(t_fsync(&file));
    assert_ok(t_fallocate(&file, 0, 0, 3 * UNIT));
    assert_count(stat_of(&file).st_blocks, SECTORS(3 * UNIT));
    expect_range(&file, 0, UNIT, 0);
    expect_range(&file, UNIT, UNIT, 'a');
    expect_range(&file, 2 * UNIT, UNIT, 0);
    close_ok(&file);
}

static void allocate_to_a_byte(struct target *t)
{
    struct target_file file = open_new(t, "f");

    assert_ok(t_fallocate(&file, 0, 0, 10001));
    assert_count(stat_of(&file).st_size, 10001);
    expect_range(&file, 0, 10001, 0);
    close_ok(&file);
}

static void keep_size_keeps(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 10, 'k');
    assert_ok(t_fallocate(&file, FALLOC_FL_KEEP_SIZE, 0, 4 * UNIT));
    assert_count(stat_of(&file).st_size, 10);
    assert_count(stat_of(&file).st_blocks, SECTORS(4 * UNIT));
    assert_ok(t_ftruncate(&file, 4 * UNIT));
    expect_range(&file, 0, 10, 'k');
    expect_range(&file, 10, 4 * UNIT - 10, 0);
    close_ok(&file);
}

static void punch_makes_holes(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 6 * UNIT, 'p');
    assert_ok(t_fsync(&file));
    assert_ok(t_fallocate(&file, PUNCH, UNIT, 2 * UNIT));
    assert_count(stat_of(&file).st_size, 6 * UNIT);
    assert_count(stat_of(&file).st_blocks, SECTORS(4 * UNIT));
    expect_range(&file, 0, UNIT, 'p');
    expect_range(&file, UNIT, 2 * UNIT, 0);
    expect_range(&file, 3 * UNIT, 3 * UNIT, 'p');
    /* Beyond the end: nothing happens; over it: cut to it. */
    assert_ok(t_fallocate(&file, PUNCH, 9 * UNIT, UNIT));
    assert_ok(t_fallocate(&file, PUNCH, 5 * UNIT, 9 * UNIT));
    assert_count(stat_of(&file).st_size, 6 * UNIT);
    assert_count(stat_of(&file).st_blocks, SECTORS(3 * UNIT));
    assert_ok(t_fsync(&file));
    expect_range(&file, 3 * UNIT, 2 * UNIT, 'p');
    expect_range(&file, 5 * UNIT, UNIT, 0);
    close_ok(&file);
}

static void punch_edges(struct target *t)
{
    static const struct {
        hf_off_t off, len;
    } punches[] = {{1, 1}, {511, 2}, {4000, 200}, {5000, 60000}, {65535, 2}, {70000, 1}, {90000, 10000}};
    struct target_file file = open_new(t, "f");
    uint8_t *shadow = malloc(100000), *got = malloc(100000);

    assert_non_null(shadow);
    assert_non_null(got);
    memset(shadow, 'e', 100000);
    fill_range(&file, 0, 100000, 'e');
    for (size_t i = 0; i < ARRAY_LEN(punches); i++) {
        if (i % 2)
            assert_ok(t_fsync(&file));
        assert_ok(t_fallocate(&file, PUNCH, punches[i].off, punches[i].len));
        memset(shadow + punches[i].off, 0, (size_t)punches[i].len);
        assert_count(t_pread(&file, got, 100000, 0), 100000);
        assert_memory_equal(got, shadow, 100000);
    }
    free(shadow);
    free(got);
    close_ok(&file);
}

static void punch_under_a_mapping(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    fill_range(&file, 0, 4 * UNIT, 'm');
    map = map_shared(&file, 0, 4 * UNIT);
    map[UNIT] = 'n';
    assert_ok(t_fallocate(&file, PUNCH, UNIT - 10, 20));
    assert_bytes(map + UNIT - 20, 'm', 10);
    assert_bytes(map + UNIT - 10, 0, 20);
    assert_bytes(map + UNIT + 10, 'm', 10);
    assert_ok(t_fallocate(&file, PUNCH, 2 * UNIT, UNIT));
    assert_bytes(map + 2 * UNIT, 0, UNIT);
    map[2 * UNIT + 3] = 'q';
    expect_range(&file, 2 * UNIT + 3, 1, 'q');
    expect_range(&file, 2 * UNIT + 4, 100, 0);
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
}

static void zero_range_keeps_blocks(struct target *t)
{
    struct target_file file = open_new(t, "f");

    if (!t->has_zero_range)
        close_ok(&file);
    need_zero_range(t);
    fill_range(&file, 0, 4 * UNIT, 'z');
    assert_ok(t_fsync(&file));
    assert_ok(t_fallocate(&file, FALLOC_FL_ZERO_RANGE, UNIT, UNIT));
    assert_count(stat_of(&file).st_blocks, SECTORS(4 * UNIT));
    expect_range(&file, 0, UNIT, 'z');
    expect_range(&file, UNIT, UNIT, 0);
    expect_range(&file, 2 * UNIT, 2 * UNIT, 'z');
    assert_ok(t_fallocate(&file, FALLOC_FL_ZERO_RANGE, 2 * UNIT + 5, 1000));
    expect_range(&file, 2 * UNIT, 5, 'z');
    expect_range(&file, 2 * UNIT + 5, 1000, 0);
    expect_range(&file, 2 * UNIT + 1005, UNIT, 'z');
    assert_ok(t_fallocate(&file, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 3 * UNIT, 2 * UNIT));
    assert_count(stat_of(&file).st_size, 4 * UNIT);
    expect_range(&file, 3 * UNIT, UNIT, 0);
    assert_ok(t_fallocate(&file, FALLOC_FL_ZERO_RANGE, 4 * UNIT, UNIT));
    assert_count(stat_of(&file).st_size, 5 * UNIT);
    expect_range(&file, 3 * UNIT, 2 * UNIT, 0);
    close_ok(&file);
}

static void zero_range_lasts(struct target *t)
{
    struct target_file file = open_new(t, "f");

    if (!t->has_zero_range)
        close_ok(&file);
    need_zero_range(t);
    fill_range(&file, 0, 2 * UNIT, 'z');
    assert_ok(t_fsync(&file));
    assert_ok(t_fallocate(&file, FALLOC_FL_ZERO_RANGE, 100, UNIT));
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDWR);
    expect_range(&file, 0, 100, 'z');
    expect_range(&file, 100, UNIT, 0);
    expect_range(&file, 100 + UNIT, UNIT - 100, 'z');
    close_ok(&file);
}

/* The last block is in no cache, and the punch ends beyond EOF inside it; nothing of it may be left. */
static void punch_past_the_end_of_a_cold_file(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 1000, 'o');
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDWR);
    assert_ok(t_fallocate(&file, PUNCH, 0, 1010));
    expect_range(&file, 0, 1000, 0);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDWR);
    expect_range(&file, 0, 1000, 0);
    close_ok(&file);
}

/* Beyond EOF there is nothing to punch but blocks that KEEP_SIZE put there; the file stays, and syncs. */
static void punch_beyond_the_end(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 1000, 'k');
    assert_ok(t_fallocate(&file, FALLOC_FL_KEEP_SIZE, 0, 4 * UNIT));
    assert_ok(t_fallocate(&file, PUNCH, UNIT + 100, 2 * UNIT));
    assert_ok(t_fsync(&file));
    assert_count(stat_of(&file).st_size, 1000);
    expect_range(&file, 0, 1000, 'k');
    close_ok(&file);
}

static void wrong_arguments(struct target *t)
{
    struct target_file file = open_new(t, "f");

    assert_err(t_fallocate(&file, 0, 0, 0), EINVAL);
    assert_err(t_fallocate(&file, 0, -1, 10), EINVAL);
    assert_err(t_fallocate(&file, 0, 0, -10), EINVAL);
    assert_err(t_fallocate(&file, PUNCH, 0, 0), EINVAL);
    assert_err(t_fallocate(&file, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
    assert_err(t_fallocate(&file, 0x4000, 0, 10), EOPNOTSUPP);
    assert_err(t_fallocate(&file, 0, INT64_MAX, 10), EFBIG);
    assert_count(stat_of(&file).st_size, 0);
    assert_count(stat_of(&file).st_blocks, 0);
    close_ok(&file);
}

static void allocated_space_is_not_refused(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_fallocate(&file, 0, 0, 4 * UNIT));
    target_fill_but(t, "ballast", 0);
    fill_range(&file, 0, 2 * UNIT, 'a');
    map = map_shared(&file, 0, 4 * UNIT);
    for (hf_off_t off = 2 * UNIT; off < 4 * UNIT; off += 512)
        assert_count(poke(map + off, 'b'), 0);
    assert_ok(t_fsync(&file));
    expect_range(&file, 0, 2 * UNIT, 'a');
    assert_int_equal(byte_at(map + 3 * UNIT), 'b');
    unmap_ok(t, map, 4 * UNIT);
    assert_err(t_fallocate(&file, 0, 4 * UNIT, UNIT), ENOSPC);
    assert_count(stat_of(&file).st_size, 4 * UNIT);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(allocate_grows, ON_ALL),
    BODY(allocate_to_a_byte, ON_ALL),
    BODY(keep_size_keeps, ON_ALL),
    BODY(punch_makes_holes, ON_ALL),
    BODY(punch_edges, ON_ALL),
    BODY(punch_under_a_mapping, ON_ALL),
    BODY(punch_past_the_end_of_a_cold_file, ON_LASTING),
    BODY(punch_beyond_the_end, ON_ALL),
    BODY(zero_range_keeps_blocks, ON_ALL & ~ON(TARGET_SHM)),
    BODY(zero_range_lasts, ON_LASTING & ~ON(TARGET_SHM)),
    BODY(wrong_arguments, ON_ALL),
    BODY(allocated_space_is_not_refused, ON_HOLDFAST),
};

TEST_MAIN("fallocate_modes", bodies)
