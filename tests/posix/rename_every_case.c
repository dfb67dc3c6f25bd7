/* SPDX-License-Identifier: MIT */
/*
 * rename_every_case.c - renameat2(2): plain, over something, NOREPLACE and EXCHANGE.
 */
#include "target.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1u
#endif
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2u
#endif

static bool exists(struct target *t, const char *path)
{
    struct stat st;
    int ret = t_lstat(t, path, &st);

    if (ret < 0)
        assert_err(ret, ENOENT);
    return ret == 0;
}

static void to_a_new_name(struct target *t)
{
    struct stat before, after;

    make_file(t, "a", 5, 'a');
    assert_ok(t_mkdir(t, "d", 0755));
    before = stat_at(t, "a");
    assert_ok(t_rename(t, "a", "b", 0));
    assert_false(exists(t, "a"));
    assert_ok(t_rename(t, "b", "d/c", 0));
    assert_false(exists(t, "b"));
    after = stat_at(t, "d/c");
    assert_int_equal(after.st_ino, before.st_ino);
    assert_count(after.st_size, 5);
    assert_count(after.st_nlink, 1);
}

static void over_a_file(struct target *t)
{
    struct target_file victim;
    ino_t ino;

    make_file(t, "a", 1, 'a');
    make_file(t, "b", 2, 'b');
    victim = open_old(t, "b", O_RDWR);
    ino = stat_at(t, "a").st_ino;
    assert_ok(t_rename(t, "a", "b", 0));
    assert_false(exists(t, "a"));
    assert_int_equal(stat_at(t, "b").st_ino, ino);
    assert_count(stat_of(&victim).st_nlink, 0);
    expect_range(&victim, 0, 2, 'b');
    fill_range(&victim, 0, 100, 'c');
    close_ok(&victim);
}

static void to_itself(struct target *t)
{
    make_file(t, "a", 1, 'a');
    assert_ok(t_rename(t, "a", "a", 0));
    assert_true(exists(t, "a"));
    assert_ok(t_link(t, "a", "b"));
    assert_ok(t_rename(t, "a", "b", 0));
    assert_true(exists(t, "a"));
    assert_true(exists(t, "b"));
    assert_count(stat_at(t, "a").st_nlink, 2);
}

static void kinds_do_not_mix(struct target *t)
{
    make_file(t, "f", 1, 'f');
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_mkdir(t, "e", 0755));
    make_file(t, "e/x", 1, 'x');
    assert_err(t_rename(t, "f", "d", 0), EISDIR);
    assert_err(t_rename(t, "d", "f", 0), ENOTDIR);
    assert_err(t_rename(t, "d", "e", 0), ENOTEMPTY);
    assert_true(exists(t, "f"));
    assert_true(exists(t, "d"));
    assert_true(exists(t, "e/x"));
    assert_err(t_rename(t, "f", "new/", 0), ENOTDIR);
    assert_err(t_rename(t, "f/", "new", 0), ENOTDIR);
    assert_ok(t_rename(t, "d/", "new/", 0));
    assert_true(exists(t, "new"));
}

static void missing_and_bad_names(struct target *t)
{
    make_file(t, "f", 1, 'f');
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_mkdir(t, "d/e", 0755));
    assert_err(t_rename(t, "none", "x", 0), ENOENT);
    assert_err(t_rename(t, "f", "none/x", 0), ENOENT);
    assert_err(t_rename(t, "f", "", 0), ENOENT);
    assert_err(t_rename(t, "", "x", 0), ENOENT);
    assert_err(t_rename(t, "f", "f/x", 0), ENOTDIR);
    assert_err(t_rename(t, "f/x", "x", 0), ENOTDIR);
    assert_err(t_rename(t, "d/.", "x", 0), EBUSY);
    assert_err(t_rename(t, "d/e/..", "x", 0), EBUSY);
    assert_err(t_rename(t, "f", "d/.", 0), EBUSY);
    assert_err(t_rename(t, "f", "x", 0x40), EINVAL);
    assert_true(exists(t, "f"));
}

static void directories_over_directories(struct target *t)
{
    nlink_t top = stat_at(t, "/").st_nlink;
    struct target_file victim;
    ino_t ino;

    assert_ok(t_mkdir(t, "a", 0755));
    make_file(t, "a/x", 1, 'x');
    assert_ok(t_mkdir(t, "b", 0755));
    victim = open_old(t, "b", O_RDONLY | O_DIRECTORY);
    ino = stat_at(t, "a").st_ino;
    assert_ok(t_rename(t, "a", "b", 0));
    assert_int_equal(stat_at(t, "b").st_ino, ino);
    assert_true(exists(t, "b/x"));
    assert_count(stat_of(&victim).st_nlink, 0);
    close_ok(&victim);
    if (t->counts_dir_links)
        assert_int_equal(stat_at(t, "/").st_nlink, top + 1);
}

static void directories_move_between_parents(struct target *t)
{
    assert_ok(t_mkdir(t, "p", 0755));
    assert_ok(t_mkdir(t, "q", 0755));
    assert_ok(t_mkdir(t, "p/d", 0755));
    make_file(t, "p/d/x", 1, 'x');
    assert_ok(t_rename(t, "p/d", "q/d", 0));
    assert_true(exists(t, "q/d/x"));
    assert_int_equal(stat_at(t, "q/d/..").st_ino, stat_at(t, "q").st_ino);
    if (t->counts_dir_links) {
        assert_count(stat_at(t, "p").st_nlink, 2);
        assert_count(stat_at(t, "q").st_nlink, 3);
    }
    assert_ok(t_rmdir(t, "p"));
}

static void not_into_its_own_child(struct target *t)
{
    assert_ok(t_mkdir(t, "a", 0755));
    assert_ok(t_mkdir(t, "a/b", 0755));
    assert_ok(t_mkdir(t, "a/b/c", 0755));
    assert_err(t_rename(t, "a", "a/b/c/d", 0), EINVAL);
    assert_err(t_rename(t, "a", "a/x", 0), EINVAL);
    assert_err(t_rename(t, "a", "a/b", 0), EINVAL);
    assert_err(t_rename(t, "a/b/c", "a/b", 0), ENOTEMPTY);
    assert_err(t_rename(t, "a/b/c", "a", 0), ENOTEMPTY);
    assert_true(exists(t, "a/b/c"));
}

static void symlinks_are_moved_not_followed(struct target *t)
{
    char buf[16];

    make_file(t, "f", 1, 'f');
    make_file(t, "g", 1, 'g');
    assert_ok(t_symlink(t, "f", "l"));
    assert_ok(t_rename(t, "l", "m", 0));
    assert_count(t_readlink(t, "m", buf, sizeof(buf)), 1);
    assert_ok(t_rename(t, "g", "m", 0));
    assert_true(S_ISREG(stat_at(t, "m").st_mode));
    assert_true(exists(t, "f"));
}

static void noreplace(struct target *t)
{
    if (!t->has_exchange)
        skip();
    make_file(t, "a", 1, 'a');
    make_file(t, "b", 2, 'b');
    assert_err(t_rename(t, "a", "b", RENAME_NOREPLACE), EEXIST);
    assert_count(stat_at(t, "b").st_size, 2);
    assert_err(t_rename(t, "a", "a", RENAME_NOREPLACE), EEXIST);
    assert_ok(t_rename(t, "a", "c", RENAME_NOREPLACE));
    assert_false(exists(t, "a"));
    assert_count(stat_at(t, "c").st_size, 1);
    assert_ok(t_symlink(t, "none", "dangling"));
    assert_err(t_rename(t, "c", "dangling", RENAME_NOREPLACE), EEXIST);
    assert_err(t_rename(t, "none", "x", RENAME_NOREPLACE), ENOENT);
}

static void exchange(struct target *t)
{
    ino_t a, b;

    if (!t->has_exchange)
        skip();
    make_file(t, "a", 1, 'a');
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_mkdir(t, "d/b", 0755));
    make_file(t, "d/b/x", 1, 'x');
    a = stat_at(t, "a").st_ino;
    b = stat_at(t, "d/b").st_ino;
    assert_ok(t_rename(t, "a", "d/b", RENAME_EXCHANGE));
    assert_int_equal(stat_at(t, "a").st_ino, b);
    assert_int_equal(stat_at(t, "d/b").st_ino, a);
    assert_true(exists(t, "a/x"));
    assert_int_equal(stat_at(t, "a/..").st_ino, stat_at(t, "/").st_ino);
    if (t->counts_dir_links)
        assert_count(stat_at(t, "d").st_nlink, 2);
    assert_err(t_rename(t, "a", "none", RENAME_EXCHANGE), ENOENT);
    assert_err(t_rename(t, "none", "a", RENAME_EXCHANGE), ENOENT);
    assert_err(t_rename(t, "a", "d", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    assert_err(t_rename(t, "a", "a/x", RENAME_EXCHANGE), EINVAL);
    assert_err(t_rename(t, "a/x", "a", RENAME_EXCHANGE), EINVAL);
    assert_ok(t_rename(t, "a", "a", RENAME_EXCHANGE));
    assert_ok(t_rename(t, "a", "d", RENAME_EXCHANGE));
    assert_true(exists(t, "d/x"));
    assert_true(exists(t, "a/b"));
}

static void lasts_over_reopen(struct target *t)
{
    struct target_file file;

    assert_ok(t_mkdir(t, "p", 0755));
    assert_ok(t_mkdir(t, "q", 0755));
    make_file(t, "p/a", 3, 'a');
    make_file(t, "q/b", 4, 'b');
    assert_ok(t_rename(t, "p/a", "q/b", 0));
    assert_ok(t_rename(t, "p", "q/p", 0));
    target_reopen(t);
    file = open_old(t, "q/b", O_RDONLY);
    assert_count(stat_of(&file).st_size, 3);
    expect_range(&file, 0, 3, 'a');
    close_ok(&file);
    assert_false(exists(t, "p"));
    assert_int_equal(stat_at(t, "q/p/..").st_ino, stat_at(t, "q").st_ino);
}

static const struct test_body bodies[] = {
    BODY(to_a_new_name, ON_ALL),
    BODY(over_a_file, ON_ALL),
    BODY(to_itself, ON_ALL),
    BODY(kinds_do_not_mix, ON_ALL),
    BODY(missing_and_bad_names, ON_ALL),
    BODY(directories_over_directories, ON_ALL),
    BODY(directories_move_between_parents, ON_ALL),
    BODY(not_into_its_own_child, ON_ALL),
    BODY(symlinks_are_moved_not_followed, ON_ALL),
    BODY(noreplace, ON_ALL),
    BODY(exchange, ON_ALL),
    BODY(lasts_over_reopen, ON_LASTING),
};

TEST_MAIN("rename_every_case", bodies)
