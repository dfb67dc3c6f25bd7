/* SPDX-License-Identifier: MIT */
/*
 * files_without_names.c - O_TMPFILE: a file that nobody sees until it is given a name, and that leaves
 * nothing behind if it is given none.
 */
#include "target.h"

#include <holdfast/node.h>

static struct target_file open_tmp(struct target *t, const char *dir, int flags)
{
    struct target_file file;

    assert_ok(t_open(t, dir, O_TMPFILE | flags, 0640, &file));
    return file;
}

static int count_names(struct target *t, const char *path)
{
    struct hf_dirent entry;
    struct target_dir dir;
    int nr = 0, ret;

    assert_ok(t_opendir(t, path, &dir));
    while ((ret = t_readdir(&dir, &entry)) == 1)
        nr++;
    assert_ok(ret);
    assert_ok(t_closedir(&dir));
    return nr;
}

static void has_no_name(struct target *t)
{
    struct target_file file;
    struct stat before, after;

    assert_ok(t_mkdir(t, "d", 0755));
    before = stat_at(t, "d");
    wait_for_clock();
    file = open_tmp(t, "d", O_RDWR);
    after = stat_at(t, "d");
    assert_int_equal(ns_of(after.st_mtim), ns_of(before.st_mtim));
    assert_count(count_names(t, "d"), 2);
    assert_count(stat_of(&file).st_nlink, 0);
    assert_int_equal(stat_of(&file).st_mode, S_IFREG | 0640);
    fill_range(&file, 10, UNIT, 'a');
    expect_range(&file, 0, 10, 0);
    expect_range(&file, 10, UNIT, 'a');
    assert_ok(t_fsync(&file));
    assert_ok(t_ftruncate(&file, 5));
    assert_ok(t_rmdir(t, "d"));
    expect_range(&file, 0, 5, 0);
    close_ok(&file);
}

static void is_given_one(struct target *t)
{
    struct target_file file;

    assert_ok(t_mkdir(t, "d", 0755));
    make_file(t, "taken", 1, 't');
    file = open_tmp(t, "d", O_WRONLY);
    assert_count(t_pwrite(&file, "data", 4, 0), 4);
    assert_err(t->ops->flink(&file, "taken"), EEXIST);
    assert_err(t->ops->flink(&file, "none/x"), ENOENT);
    assert_ok(t->ops->flink(&file, "name"));
    assert_count(stat_of(&file).st_nlink, 1);
    assert_int_equal(stat_at(t, "name").st_ino, stat_of(&file).st_ino);
    assert_ok(t->ops->flink(&file, "d/second"));
    assert_count(stat_at(t, "name").st_nlink, 2);
    assert_ok(t_fsync(&file));
    close_ok(&file);
    assert_count(stat_at(t, "name").st_size, 4);
    /* Once named it is like any other: when the last name is gone, there is no way back. */
    file = open_old(t, "name", O_RDWR);
    assert_ok(t_unlink(t, "name"));
    assert_ok(t_unlink(t, "d/second"));
    assert_err(t->ops->flink(&file, "again"), ENOENT);
    close_ok(&file);
}

static void exclusive_ones_stay_nameless(struct target *t)
{
    struct target_file file = open_tmp(t, ".", O_RDWR | O_EXCL);

    assert_err(t->ops->flink(&file, "name"), ENOENT);
    close_ok(&file);
}

static void open_files_get_more_names(struct target *t)
{
    struct target_file file = open_new(t, "a");

    assert_ok(t->ops->flink(&file, "b"));
    assert_count(stat_at(t, "a").st_nlink, 2);
    assert_ok(t_unlink(t, "a"));
    assert_ok(t_unlink(t, "b"));
    assert_err(t->ops->flink(&file, "c"), ENOENT);
    close_ok(&file);
}

static void errors(struct target *t)
{
    struct target_file file;

    make_file(t, "f", 1, 'f');
    assert_err(t_open(t, ".", O_TMPFILE | O_RDONLY, 0600, &file), EINVAL);
    assert_err(t_open(t, ".", O_TMPFILE | O_RDWR | O_CREAT, 0600, &file), EINVAL);
    assert_err(t_open(t, "none", O_TMPFILE | O_RDWR, 0600, &file), ENOENT);
    assert_err(t_open(t, "f", O_TMPFILE | O_RDWR, 0600, &file), ENOTDIR);
}

static void leaves_nothing(struct target *t)
{
    uint64_t blocks = target_statfs(t).blocks_free, inodes = target_statfs(t).inodes;
    struct target_file file = open_tmp(t, ".", O_RDWR);

    fill_range(&file, 0, 4 * UNIT, 'a');
    assert_ok(t_fsync(&file));
    assert_count(target_statfs(t).inodes, inodes + 1);
    close_ok(&file);
    assert_count(target_statfs(t).inodes, inodes);
    assert_count(target_statfs(t).blocks_free, blocks);
}

static void a_named_one_lasts(struct target *t)
{
    struct target_file file = open_tmp(t, ".", O_RDWR);

    fill_range(&file, 0, 2 * UNIT, 'a');
    assert_ok(t_ftruncate(&file, UNIT + 5));
    assert_ok(t->ops->flink(&file, "name"));
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "name", O_RDWR);
    assert_count(stat_of(&file).st_size, UNIT + 5);
    expect_range(&file, 0, (size_t)UNIT + 5, 'a');
    assert_count(stat_of(&file).st_nlink, 1);
    close_ok(&file);
}

/* ---- a process dies with files open that have no name */

static int die_with_open_files(int argc, char **argv)
{
    char buf[5000] = {1};
    struct hf_volume *volume;
    struct hf_file *tmp, *gone;

    CHILD_CHECK(argc == 1);
    CHILD_CHECK(hf_volume_open(argv[0], NULL, &volume) == 0);
    CHILD_CHECK(hf_open(volume, "/", O_TMPFILE | O_RDWR, 0600, &tmp) == 0);
    CHILD_CHECK(hf_open(volume, "gone", O_CREAT | O_RDWR, 0600, &gone) == 0);
    CHILD_CHECK(hf_fsetxattr(gone, "user.a", buf, sizeof(buf), 0) == 0);
    CHILD_CHECK(hf_pwrite(tmp, buf, sizeof(buf), 100000) == sizeof(buf));
    CHILD_CHECK(hf_pwrite(gone, buf, sizeof(buf), 100000) == sizeof(buf));
    CHILD_CHECK(hf_unlink(volume, "gone") == 0);
    CHILD_CHECK(hf_fsync(tmp) == 0);
    CHILD_CHECK(hf_fsync(gone) == 0);
    CHILD_CHECK(hf_volume_sync(volume) == 0);
    raise(SIGKILL);
    return 1;
}

static void freed_at_the_next_open(struct target *t)
{
    uint64_t blocks = target_statfs(t).blocks_free, inodes = target_statfs(t).inodes;
    char *args[] = {t->path, NULL};
    struct stat st;

    assert_ok(hf_volume_close(t->volume));
    t->volume = NULL;
    expect_death_by(exec_child("die_with_open_files", args), SIGKILL);
    assert_ok(hf_volume_open(t->path, &t->spec->open, &t->volume));
    assert_count(target_statfs(t).inodes, inodes);
    assert_count(target_statfs(t).blocks_free, blocks);
    assert_err(t_stat(t, "gone", &st), ENOENT);
}

static void by_node(struct target *t)
{
    static const struct hf_cred cred = {.uid = 12, .gid = 34};
    struct hf_node *root, *node;
    struct hf_file *file;

    assert_ok(hf_node_root(t->volume, &root));
    assert_ok(hf_node_tmpfile(root, O_RDWR | O_EXCL, 0600, &cred, &node, &file));
    assert_err(hf_node_link(node, root, "name"), ENOENT);
    assert_ok(hf_close(file));
    hf_node_put(node, 1);
    assert_ok(hf_node_tmpfile(root, O_RDWR, 0600, &cred, &node, &file));
    assert_count(hf_pwrite(file, "x", 1, 0), 1);
    assert_ok(hf_close(file));
    assert_ok(hf_node_link(node, root, "name"));
    hf_node_put(node, 1);
    hf_node_put(root, 1);
    assert_count(stat_at(t, "name").st_size, 1);
    assert_count(stat_at(t, "name").st_uid, 12);
}

static const struct test_body bodies[] = {
    BODY(has_no_name, ON_ALL),
    BODY(is_given_one, ON_ALL),
    BODY(exclusive_ones_stay_nameless, ON_ALL),
    BODY(open_files_get_more_names, ON_ALL),
    BODY(errors, ON_ALL),
    BODY(leaves_nothing, ON_HOLDFAST),
    BODY(a_named_one_lasts, ON_LASTING),
    BODY(freed_at_the_next_open, ON(TARGET_BLOCKFS)),
    BODY(by_node, ON_HOLDFAST),
};

static const struct test_child children[] = {{"die_with_open_files", die_with_open_files}};

int main(int argc, char **argv)
{
    struct test_program program = {
        .name = "files_without_names",
        .bodies = bodies,
        .nr_bodies = ARRAY_LEN(bodies),
        .children = children,
        .nr_children = ARRAY_LEN(children),
    };
    return target_main(argc, argv, &program);
}
