/* SPDX-License-Identifier: MIT */
/*
 * links_and_symlinks.c - hard links and their counts; symlinks followed, dangling, looping.
 */
#include "target.h"

static void hard_links(struct target *t)
{
    struct target_file file;

    make_file(t, "a", 3, 'a');
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_link(t, "a", "d/b"));
    assert_count(stat_at(t, "a").st_nlink, 2);
    assert_int_equal(stat_at(t, "a").st_ino, stat_at(t, "d/b").st_ino);
    file = open_old(t, "d/b", O_RDWR);
    fill_range(&file, 0, 5, 'b');
    close_ok(&file);
    assert_count(stat_at(t, "a").st_size, 5);
    assert_ok(t_unlink(t, "a"));
    assert_count(stat_at(t, "d/b").st_nlink, 1);
    file = open_old(t, "d/b", O_RDONLY);
    expect_range(&file, 0, 5, 'b');
    close_ok(&file);
    assert_err(t_rmdir(t, "d"), ENOTEMPTY);
}

static void hard_link_errors(struct target *t)
{
    char name[HF_NAME_MAX + 2];

    make_file(t, "a", 1, 'a');
    make_file(t, "b", 1, 'b');
    assert_ok(t_mkdir(t, "d", 0755));
    assert_err(t_link(t, "d", "e"), EPERM);
    assert_err(t_link(t, "a", "b"), EEXIST);
    assert_err(t_link(t, "a", "a"), EEXIST);
    assert_err(t_link(t, "a", "d"), EEXIST);
    assert_err(t_link(t, "none", "x"), ENOENT);
    assert_err(t_link(t, "a", "none/x"), ENOENT);
    assert_err(t_link(t, "a/x", "x"), ENOTDIR);
    assert_err(t_link(t, "a", "b/x"), ENOTDIR);
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    assert_err(t_link(t, "a", name), ENAMETOOLONG);
    assert_count(stat_at(t, "a").st_nlink, 1);
}

static void link_names_the_symlink(struct target *t)
{
    assert_ok(t_symlink(t, "none", "l"));
    assert_ok(t_link(t, "l", "m"));
    assert_true(S_ISLNK(stat_at(t, "m").st_mode));
    assert_count(stat_at(t, "l").st_nlink, 2);
}

static void unlink_errors(struct target *t)
{
    make_file(t, "f", 1, 'f');
    assert_err(t_unlink(t, "none"), ENOENT);
    assert_err(t_unlink(t, ""), ENOENT);
    assert_err(t_unlink(t, "f/"), ENOTDIR);
    assert_err(t_unlink(t, "f/x"), ENOTDIR);
    assert_err(t_unlink(t, "."), EISDIR);
    assert_ok(t_unlink(t, "f"));
    assert_err(t_unlink(t, "f"), ENOENT);
}

static void symlinks_are_read(struct target *t)
{
    char buf[64];

    assert_ok(t_symlink(t, "some/target", "l"));
    assert_true(S_ISLNK(stat_at(t, "l").st_mode));
    assert_int_equal(stat_at(t, "l").st_mode & 07777, 0777);
    assert_count(stat_at(t, "l").st_size, 11);
    memset(buf, '#', sizeof(buf));
    assert_count(t_readlink(t, "l", buf, sizeof(buf)), 11);
    assert_memory_equal(buf, "some/target#", 12);
    memset(buf, '#', sizeof(buf));
    assert_count(t_readlink(t, "l", buf, 4), 11);
    assert_memory_equal(buf, "some#", 5);
    make_file(t, "f", 1, 'f');
    assert_err(t_readlink(t, "f", buf, sizeof(buf)), EINVAL);
    assert_err(t_readlink(t, "none", buf, sizeof(buf)), ENOENT);
}

static void symlinks_are_followed(struct target *t)
{
    struct target_file file;
    struct stat st;

    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_mkdir(t, "d/e", 0755));
    make_file(t, "d/e/f", 4, 'f');
    assert_ok(t_symlink(t, "d/e", "to-dir"));
    assert_ok(t_symlink(t, "../e/f", "d/e/up"));
    assert_ok(t_symlink(t, "to-dir/up", "twice"));
    file = open_old(t, "twice", O_RDONLY);
    expect_range(&file, 0, 4, 'f');
    close_ok(&file);
    assert_ok(t_stat(t, "to-dir", &st));
    assert_true(S_ISDIR(st.st_mode));
    assert_true(S_ISDIR(stat_at(t, "to-dir/").st_mode));
    assert_true(S_ISLNK(stat_at(t, "to-dir").st_mode));
    assert_int_equal(stat_at(t, "to-dir/f").st_ino, stat_at(t, "d/e/f").st_ino);
    assert_int_equal(stat_at(t, "to-dir/..").st_ino, stat_at(t, "d").st_ino);
    assert_err(t_stat(t, "twice/", &st), ENOTDIR);
    assert_err(t_rmdir(t, "to-dir"), ENOTDIR);
    assert_ok(t_unlink(t, "to-dir"));
    assert_ok(t_stat(t, "d/e/f", &st));
}

static void dangling(struct target *t)
{
    struct target_file file;
    struct stat st;

    assert_ok(t_symlink(t, "later", "l"));
    assert_err(t_stat(t, "l", &st), ENOENT);
    assert_ok(t_lstat(t, "l", &st));
    assert_err(t_open(t, "l", O_RDONLY, 0, &file), ENOENT);
    assert_err(t_open(t, "l", O_RDWR | O_CREAT | O_EXCL, 0644, &file), EEXIST);
    assert_err(t_mkdir(t, "l", 0755), EEXIST);
    assert_ok(t_open(t, "l", O_RDWR | O_CREAT, 0640, &file));
    close_ok(&file);
    assert_int_equal(stat_at(t, "later").st_mode, S_IFREG | 0640);
}

static void loops_and_chains(struct target *t)
{
    struct target_file file;
    struct stat st;
    char from[16], to[16];

    assert_ok(t_symlink(t, "self", "self"));
    assert_err(t_stat(t, "self", &st), ELOOP);
    assert_err(t_open(t, "self", O_RDWR | O_CREAT, 0644, &file), ELOOP);
    assert_err(t_stat(t, "self/x", &st), ELOOP);
    assert_ok(t_symlink(t, "b", "a"));
    assert_ok(t_symlink(t, "a", "b"));
    assert_err(t_truncate(t, "a", 0), ELOOP);
    make_file(t, "end", 1, 'e');
    assert_ok(t_symlink(t, "end", "c0"));
    for (int i = 1; i < 20; i++) {
        snprintf(to, sizeof(to), "c%d", i - 1);
        snprintf(from, sizeof(from), "c%d", i);
        assert_ok(t_symlink(t, to, from));
    }
    assert_ok(t_stat(t, "c19", &st));
    assert_count(st.st_size, 1);
}

static void symlink_errors(struct target *t)
{
    char *longest = malloc(HF_PATH_MAX + 1);

    assert_non_null(longest);
    make_file(t, "f", 1, 'f');
    assert_err(t_symlink(t, "x", "f"), EEXIST);
    assert_err(t_symlink(t, "", "l"), ENOENT);
    assert_err(t_symlink(t, "x", "none/l"), ENOENT);
    assert_err(t_symlink(t, "x", ""), ENOENT);
    memset(longest, 'x', HF_PATH_MAX);
    longest[HF_PATH_MAX] = '\0';
    assert_err(t_symlink(t, longest, "l"), ENAMETOOLONG);
    free(longest);
}

static void absolute_targets_start_at_the_volume(struct target *t)
{
    struct stat st;

    assert_ok(t_mkdir(t, "d", 0755));
    make_file(t, "f", 7, 'f');
    assert_ok(t_symlink(t, "/f", "d/l"));
    assert_ok(t_stat(t, "d/l", &st));
    assert_count(st.st_size, 7);
    assert_int_equal(stat_at(t, "..").st_ino, stat_at(t, "/").st_ino);
    assert_int_equal(stat_at(t, "/../../f").st_ino, st.st_ino);
}

static void last_over_reopen(struct target *t)
{
    char buf[16];

    make_file(t, "a", 3, 'a');
    assert_ok(t_link(t, "a", "b"));
    assert_ok(t_symlink(t, "a", "l"));
    target_reopen(t);
    assert_count(stat_at(t, "b").st_nlink, 2);
    assert_int_equal(stat_at(t, "a").st_ino, stat_at(t, "b").st_ino);
    assert_count(t_readlink(t, "l", buf, sizeof(buf)), 1);
    assert_int_equal(buf[0], 'a');
}

static const struct test_body bodies[] = {
    BODY(hard_links, ON_ALL),
    BODY(hard_link_errors, ON_ALL),
    BODY(link_names_the_symlink, ON_ALL),
    BODY(unlink_errors, ON_ALL),
    BODY(symlinks_are_read, ON_ALL),
    BODY(symlinks_are_followed, ON_ALL),
    BODY(dangling, ON_ALL),
    BODY(loops_and_chains, ON_ALL),
    BODY(symlink_errors, ON_ALL),
    BODY(absolute_targets_start_at_the_volume, ON_HOLDFAST),
    BODY(last_over_reopen, ON_LASTING),
};

TEST_MAIN("links_and_symlinks", bodies)
