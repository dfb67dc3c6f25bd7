/* SPDX-License-Identifier: MIT */
/*
 * open_flags_and_errors.c - what open(2) accepts, refuses and does to the file, on the kernel and on
 * Holdfast.
 */
#include "target.h"

static int try_open(struct target *t, const char *path, int flags)
{
    struct target_file file;
    int ret = t_open(t, path, flags, 0644, &file);

    if (ret == 0)
        close_ok(&file);
    return ret;
}

static void missing_names(struct target *t)
{
    assert_err(try_open(t, "none", O_RDONLY), ENOENT);
    assert_err(try_open(t, "none/deeper", O_RDWR | O_CREAT), ENOENT);
    assert_err(try_open(t, "", O_RDONLY), ENOENT);
    assert_err(try_open(t, "", O_RDWR | O_CREAT), ENOENT);
}

static void create_and_exclusive(struct target *t)
{
    assert_ok(try_open(t, "a", O_RDWR | O_CREAT));
    assert_ok(try_open(t, "a", O_RDWR | O_CREAT));
    assert_err(try_open(t, "a", O_RDWR | O_CREAT | O_EXCL), EEXIST);
    assert_ok(t_mkdir(t, "d", 0755));
    assert_err(try_open(t, "d", O_RDWR | O_CREAT | O_EXCL), EEXIST);
    assert_ok(try_open(t, "/slash", O_RDWR | O_CREAT | O_EXCL));
    assert_ok(try_open(t, "slash", O_RDONLY));
    assert_ok(try_open(t, "//slash", O_RDONLY));
}

static void directories_are_not_written(struct target *t)
{
    struct target_file file;
    char byte;

    assert_ok(t_mkdir(t, "d", 0755));
    assert_err(try_open(t, "d", O_RDWR), EISDIR);
    assert_err(try_open(t, "d", O_WRONLY), EISDIR);
    assert_err(try_open(t, "d", O_RDWR | O_CREAT), EISDIR);
    assert_err(try_open(t, "d", O_RDONLY | O_CREAT), EISDIR);
    assert_err(try_open(t, "d", O_WRONLY | O_TRUNC), EISDIR);
    file = open_old(t, "d", O_RDONLY | O_DIRECTORY);
    assert_true(S_ISDIR(stat_of(&file).st_mode));
    assert_err(t_pread(&file, &byte, 1, 0), EISDIR);
    assert_err(t_read(&file, &byte, 1), EISDIR);
    assert_err(t_pwrite(&file, "x", 1, 0), EBADF);
    assert_err(t_ftruncate(&file, 0), EINVAL);
    assert_ok(t_fsync(&file));
    close_ok(&file);
    file = open_old(t, "/", O_RDONLY);
    assert_true(S_ISDIR(stat_of(&file).st_mode));
    close_ok(&file);
}

static void files_are_not_directories(struct target *t)
{
    make_file(t, "f", 10, 'f');
    assert_err(try_open(t, "f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    assert_err(try_open(t, "f/", O_RDONLY), ENOTDIR);
    assert_err(try_open(t, "f/g", O_RDONLY), ENOTDIR);
    assert_err(try_open(t, "f/g", O_RDWR | O_CREAT), ENOTDIR);
    assert_err(try_open(t, "f/.", O_RDONLY), ENOTDIR);
    assert_err(try_open(t, "f/..", O_RDONLY), ENOTDIR);
    assert_err(try_open(t, "new/", O_RDWR | O_CREAT), EISDIR);
    assert_err(try_open(t, "new", O_RDONLY), ENOENT);
}

static void long_names(struct target *t)
{
    char name[HF_NAME_MAX + 2];
    char path[HF_PATH_MAX + 2];
    struct target_file file;

    memset(name, 'n', sizeof(name));
    name[HF_NAME_MAX] = '\0';
    file = open_new(t, name);
    close_ok(&file);
    assert_count(stat_at(t, name).st_size, 0);
    name[HF_NAME_MAX] = 'n';
    name[HF_NAME_MAX + 1] = '\0';
    assert_err(try_open(t, name, O_RDWR | O_CREAT), ENAMETOOLONG);
    assert_err(try_open(t, name, O_RDONLY), ENAMETOOLONG);
    assert_err(t_mkdir(t, name, 0755), ENAMETOOLONG);
    assert_err(t_unlink(t, name), ENAMETOOLONG);

    /* "./././x": 4095 bytes are a path, 4096 are not. */
    for (size_t i = 0; i < HF_PATH_MAX; i += 2)
        memcpy(path + i, "./", 2);
    path[HF_PATH_MAX - 2] = 'x';
    path[HF_PATH_MAX - 1] = '\0';
    assert_ok(try_open(t, path, O_RDWR | O_CREAT));
    path[HF_PATH_MAX - 2] = '/';
    path[HF_PATH_MAX - 1] = 'x';
    path[HF_PATH_MAX] = '\0';
    assert_err(try_open(t, path, O_RDWR), ENAMETOOLONG);
}

static void dots_and_slashes(struct target *t)
{
    ino_t ino;

    assert_ok(t_mkdir(t, "a", 0755));
    assert_ok(t_mkdir(t, "a/b", 0755));
    make_file(t, "a/b/f", 3, 'f');
    ino = stat_at(t, "a/b/f").st_ino;
    assert_int_equal(stat_at(t, "a//b///f").st_ino, ino);
    assert_int_equal(stat_at(t, "./a/./b/./f").st_ino, ino);
    assert_int_equal(stat_at(t, "a/b/../b/f").st_ino, ino);
    assert_int_equal(stat_at(t, "a/b/../../a/b/f").st_ino, ino);
    assert_err(try_open(t, "a/none/../b/f", O_RDONLY), ENOENT);
    assert_true(S_ISDIR(stat_at(t, "a/b/").st_mode));
    assert_int_equal(stat_at(t, "a/b/..").st_ino, stat_at(t, "a").st_ino);
}

static void access_modes(struct target *t)
{
    struct target_file file;
    char byte = 0;

    make_file(t, "f", 10, 'f');
    file = open_old(t, "f", O_RDONLY);
    assert_count(t_pread(&file, &byte, 1, 0), 1);
    assert_err(t_pwrite(&file, "x", 1, 0), EBADF);
    assert_err(t_write(&file, "x", 1), EBADF);
    assert_err(t_ftruncate(&file, 5), EINVAL);
    assert_err(t_fallocate(&file, 0, 0, 4096), EBADF);
    assert_ok(t_fsync(&file));
    close_ok(&file);
    file = open_old(t, "f", O_WRONLY);
    assert_err(t_pread(&file, &byte, 1, 0), EBADF);
    assert_err(t_read(&file, &byte, 1), EBADF);
    assert_count(t_pwrite(&file, "x", 1, 0), 1);
    assert_ok(t_ftruncate(&file, 5));
    close_ok(&file);
}

static void truncating_open(struct target *t)
{
    struct target_file old, file;
    ino_t ino;

    make_file(t, "f", 100000, 'f');
    old = open_old(t, "f", O_RDONLY);
    ino = stat_of(&old).st_ino;
    file = open_old(t, "f", O_RDWR | O_TRUNC);
    assert_int_equal(stat_of(&file).st_ino, ino);
    assert_count(stat_of(&old).st_size, 0);
    assert_count(stat_of(&old).st_blocks, 0);
    fill_range(&file, 4, 2, 'x');
    expect_range(&old, 0, 4, 0);
    expect_range(&old, 4, 2, 'x');
    close_ok(&file);
    close_ok(&old);
    assert_ok(try_open(t, "new", O_RDWR | O_CREAT | O_TRUNC));
}

static void no_follow(struct target *t)
{
    make_file(t, "f", 1, 'f');
    assert_ok(t_symlink(t, "f", "l"));
    assert_ok(try_open(t, "l", O_RDONLY));
    assert_err(try_open(t, "l", O_RDONLY | O_NOFOLLOW), ELOOP);
    assert_ok(try_open(t, "f", O_RDONLY | O_NOFOLLOW));
    assert_err(try_open(t, "l", O_RDWR | O_CREAT | O_EXCL), EEXIST);
}

static void appending(struct target *t)
{
    struct target_file one, two;
    char buf[8] = {0};

    make_file(t, "f", 2, 'a');
    one = open_old(t, "f", O_RDWR | O_APPEND);
    two = open_old(t, "f", O_RDWR | O_APPEND);
    assert_count(t_write(&one, "b", 1), 1);
    assert_count(t_write(&two, "c", 1), 1);
    assert_count(t_lseek(&one, 0, SEEK_SET), 0);
    assert_count(t_write(&one, "d", 1), 1);
    assert_count(t_lseek(&one, 0, SEEK_CUR), 5);
    assert_count(t_pread(&two, buf, sizeof(buf), 0), 5);
    assert_memory_equal(buf, "aabcd", 5);
    close_ok(&one);
    close_ok(&two);
}

static void synchronous_files(struct target *t)
{
    struct target_file file;

    assert_ok(t_open(t, "f", O_RDWR | O_CREAT | O_SYNC, 0600, &file));
    fill_range(&file, 0, 1000, 's');
    close_ok(&file);
    file = open_old(t, "f", O_RDWR | O_DSYNC);
    fill_range(&file, 1000, 1000, 's');
    expect_range(&file, 0, 2000, 's');
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(missing_names, ON_ALL),
    BODY(create_and_exclusive, ON_ALL),
    BODY(directories_are_not_written, ON_ALL),
    BODY(files_are_not_directories, ON_ALL),
    BODY(long_names, ON_ALL),
    BODY(dots_and_slashes, ON_ALL),
    BODY(access_modes, ON_ALL),
    BODY(truncating_open, ON_ALL),
    BODY(no_follow, ON_ALL),
    BODY(appending, ON_ALL),
    BODY(synchronous_files, ON_ALL),
};

TEST_MAIN("open_flags_and_errors", bodies)
