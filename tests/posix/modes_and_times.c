/* SPDX-License-Identifier: MIT */
/*
 * modes_and_times.c - permission bits, and which call moves which timestamp.
 */
#include "target.h"

/* Which of mtime and ctime a step moved. */
#define MTIME 1u
#define CTIME 2u

static unsigned moved(const struct stat *before, const struct stat *after)
{
    return (ns_of(after->st_mtim) > ns_of(before->st_mtim) ? MTIME : 0) |
           (ns_of(after->st_ctim) > ns_of(before->st_ctim) ? CTIME : 0);
}

/* Runs `step` between two looks at path and asserts what it moved. */
#define expect_moved(t, path, want, step)                                                             \
    do {                                                                                              \
        struct stat before_ = stat_at(t, path), after_;                                               \
        unsigned got_;                                                                                \
        wait_for_clock();                                                                             \
        step;                                                                                         \
        after_ = stat_at(t, path);                                                                    \
        got_ = moved(&before_, &after_);                                                              \
        assert_that(got_ == (want), "%s of %s moved %s%s", #step, path, got_ & MTIME ? "mtime " : "", \
                    got_ & CTIME ? "ctime" : "");                                                     \
    } while (0)

static void modes(struct target *t)
{
    struct target_file file;

    assert_ok(t_open(t, "f", O_RDWR | O_CREAT, 0604, &file));
    assert_int_equal(stat_of(&file).st_mode, S_IFREG | 0604);
    assert_ok(t_fchmod(&file, 0751));
    assert_int_equal(stat_of(&file).st_mode, S_IFREG | 0751);
    assert_ok(t_chmod(t, "f", 01640));
    assert_int_equal(stat_at(t, "f").st_mode, S_IFREG | 01640);
    close_ok(&file);
    assert_ok(t_mkdir(t, "d", 01777));
    assert_int_equal(stat_at(t, "d").st_mode, S_IFDIR | 01777);
    assert_ok(t_chmod(t, "d", 0700));
    assert_int_equal(stat_at(t, "d").st_mode, S_IFDIR | 0700);
    assert_ok(t_symlink(t, "f", "l"));
    assert_ok(t_chmod(t, "l", 0444));
    assert_int_equal(stat_at(t, "f").st_mode, S_IFREG | 0444);
    assert_err(t_chmod(t, "none", 0644), ENOENT);
}

static void data_moves_mtime_and_ctime(struct target *t)
{
    struct target_file file = open_new(t, "f");

    expect_moved(t, "f", MTIME | CTIME, fill_range(&file, 0, 10, 'a'));
    expect_moved(t, "f", MTIME | CTIME, assert_count(t_write(&file, "b", 1), 1));
    expect_moved(t, "f", MTIME | CTIME, assert_ok(t_ftruncate(&file, 5)));
    expect_moved(t, "f", MTIME | CTIME, assert_ok(t_ftruncate(&file, 50)));
    expect_moved(t, "f", MTIME | CTIME, assert_ok(t_truncate(t, "f", 40)));
    expect_moved(t, "f", MTIME | CTIME, assert_ok(t_fallocate(&file, 0, 0, UNIT)));
    expect_moved(t, "f", MTIME | CTIME,
                 assert_ok(t_fallocate(&file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 10)));
    expect_moved(t, "f", 0, expect_range(&file, 0, 10, 0));
    expect_moved(t, "f", 0, assert_ok(t_fsync(&file)));
    expect_moved(t, "f", 0, assert_count(t_pwrite(&file, "", 0, 5), 0));
    close_ok(&file);
}

static void attributes_move_ctime(struct target *t)
{
    struct target_file file = open_new(t, "f");

    assert_ok(t_mkdir(t, "d", 0755));
    expect_moved(t, "f", CTIME, assert_ok(t_fchmod(&file, 0600)));
    expect_moved(t, "f", CTIME, assert_ok(t_link(t, "f", "g")));
    expect_moved(t, "f", CTIME, assert_ok(t_unlink(t, "g")));
    expect_moved(t, "d", CTIME, assert_ok(t_chmod(t, "d", 0700)));
    close_ok(&file);
}

static void names_move_the_directory(struct target *t)
{
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_mkdir(t, "e", 0755));
    expect_moved(t, "d", MTIME | CTIME, make_file(t, "d/f", 0, 0));
    expect_moved(t, "d", MTIME | CTIME, assert_ok(t_link(t, "d/f", "d/g")));
    expect_moved(t, "d", MTIME | CTIME, assert_ok(t_unlink(t, "d/g")));
    expect_moved(t, "d", MTIME | CTIME, assert_ok(t_mkdir(t, "d/s", 0755)));
    expect_moved(t, "d", MTIME | CTIME, assert_ok(t_rmdir(t, "d/s")));
    expect_moved(t, "d", MTIME | CTIME, assert_ok(t_symlink(t, "x", "d/l")));
    expect_moved(t, "d", MTIME | CTIME, assert_ok(t_rename(t, "d/l", "e/l", 0)));
    expect_moved(t, "e", MTIME | CTIME, assert_ok(t_rename(t, "d/f", "e/f", 0)));
    expect_moved(t, "e", 0, assert_count(stat_at(t, "e/f").st_size, 0));
}

static void stores_move_mtime_by_msync(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    if (!t->times_stores) {
        close_ok(&file);
        skip();
    }
    assert_ok(t_ftruncate(&file, UNIT));
    map = map_shared(&file, 0, UNIT);
    expect_moved(t, "f", MTIME | CTIME, map[0] = 1; assert_ok(t_msync(t, map, UNIT, MS_SYNC)));
    expect_moved(t, "f", MTIME | CTIME, map[1] = 2; assert_ok(t_msync(t, map, UNIT, MS_SYNC)));
    expect_moved(t, "f", 0, assert_int_equal(byte_at(map + 1), 2));
    unmap_ok(t, map, UNIT);
    close_ok(&file);
}

static void set_times(struct target *t)
{
    static const struct timespec exact[2] = {{1000000007, 123456789}, {1111111111, 987654321}};
    static const struct timespec early[2] = {{-1000, 5}, {-2000, 7}};
    static const struct timespec only_mtime[2] = {{0, UTIME_OMIT}, {42, 43}};
    static const struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
    static const struct timespec bad[2] = {{0, 1000000000}, {0, 0}};
    struct target_file file = open_new(t, "f");
    struct stat st;

    assert_ok(t_futimens(&file, exact));
    st = stat_of(&file);
    assert_int_equal(ns_of(st.st_atim), ns_of(exact[0]));
    assert_int_equal(ns_of(st.st_mtim), ns_of(exact[1]));
    assert_true(st.st_ctim.tv_sec > exact[1].tv_sec);
    assert_ok(t_utimens(t, "f", only_mtime, 0));
    st = stat_of(&file);
    assert_int_equal(ns_of(st.st_atim), ns_of(exact[0]));
    assert_int_equal(ns_of(st.st_mtim), ns_of(only_mtime[1]));
    assert_ok(t_utimens(t, "f", now, 0));
    st = stat_of(&file);
    assert_true(st.st_atim.tv_sec > exact[1].tv_sec);
    assert_int_equal(ns_of(st.st_mtim), ns_of(only_mtime[1]));
    assert_ok(t_utimens(t, "f", early, 0));
    assert_int_equal(ns_of(stat_of(&file).st_mtim), ns_of(early[1]));
    assert_ok(t_futimens(&file, NULL));
    assert_true(stat_of(&file).st_mtim.tv_sec > exact[1].tv_sec);
    assert_err(t_futimens(&file, bad), EINVAL);
    assert_err(t_utimens(t, "none", exact, 0), ENOENT);
    close_ok(&file);
}

static void times_of_symlinks(struct target *t)
{
    static const struct timespec one[2] = {{100, 1}, {200, 2}};
    static const struct timespec two[2] = {{300, 3}, {400, 4}};

    make_file(t, "f", 0, 0);
    assert_ok(t_symlink(t, "f", "l"));
    assert_ok(t_utimens(t, "l", one, 0));
    assert_ok(t_utimens(t, "l", two, AT_SYMLINK_NOFOLLOW));
    assert_int_equal(ns_of(stat_at(t, "f").st_mtim), ns_of(one[1]));
    assert_int_equal(ns_of(stat_at(t, "l").st_mtim), ns_of(two[1]));
    assert_err(t_utimens(t, "f", one, 0x40000000), EINVAL);
}

static void last_over_reopen(struct target *t)
{
    static const struct timespec exact[2] = {{1000000007, 123456789}, {1111111111, 987654321}};
    struct stat before, after;

    make_file(t, "f", 10, 'f');
    assert_ok(t_chmod(t, "f", 04711));
    assert_ok(t_mkdir(t, "d", 01755));
    assert_ok(t_utimens(t, "d", exact, 0));
    assert_ok(t_utimens(t, "f", exact, 0));
    before = stat_at(t, "f");
    target_reopen(t);
    after = stat_at(t, "f");
    assert_int_equal(after.st_mode, S_IFREG | 04711);
    assert_int_equal(ns_of(after.st_atim), ns_of(exact[0]));
    assert_int_equal(ns_of(after.st_mtim), ns_of(exact[1]));
    assert_int_equal(ns_of(after.st_ctim), ns_of(before.st_ctim));
    assert_int_equal(stat_at(t, "d").st_mode, S_IFDIR | 01755);
    assert_int_equal(ns_of(stat_at(t, "d").st_mtim), ns_of(exact[1]));
}

static void write_times_last_over_reopen(struct target *t)
{
    struct target_file file = open_new(t, "f");
    struct stat before, after;

    wait_for_clock();
    fill_range(&file, 0, 10, 'f');
    before = stat_of(&file);
    assert_ok(t_fsync(&file));
    close_ok(&file);
    target_reopen(t);
    after = stat_at(t, "f");
    assert_int_equal(ns_of(after.st_mtim), ns_of(before.st_mtim));
    assert_int_equal(ns_of(after.st_ctim), ns_of(before.st_ctim));
}

/* Its user can use it, also where permissions are checked. */
static void root_belongs_to_who_made_the_volume(struct target *t)
{
    struct stat st = stat_at(t, "/");

    assert_count(st.st_uid, geteuid());
    assert_count(st.st_gid, getegid());
    assert_count(st.st_mode, S_IFDIR | 0755);
}

static const struct test_body bodies[] = {
    BODY(root_belongs_to_who_made_the_volume, ON_HOLDFAST),
    BODY(modes, ON_ALL),
    BODY(data_moves_mtime_and_ctime, ON_ALL),
    BODY(attributes_move_ctime, ON_ALL),
    BODY(names_move_the_directory, ON_ALL),
    BODY(stores_move_mtime_by_msync, ON_ALL & ~ON(TARGET_SHM)),
    BODY(set_times, ON_ALL),
    BODY(times_of_symlinks, ON_ALL),
    BODY(last_over_reopen, ON_LASTING),
    BODY(write_times_last_over_reopen, ON_LASTING),
};

TEST_MAIN("modes_and_times", bodies)
