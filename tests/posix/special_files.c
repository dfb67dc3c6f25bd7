/* SPDX-License-Identifier: MIT */
/*
 * special_files.c - fifos, sockets and devices have names, attributes and device numbers like the kernel's;
 * opening them is a kernel's affair.
 */
#include "target.h"

#include <dirent.h>
#include <sys/sysmacros.h>

static const struct {
    const char *name;
    mode_t mode;
    bool device;
    unsigned char type;
} kinds[] = {
    {"fifo", S_IFIFO | 0640, false, DT_FIFO},   {"sock", S_IFSOCK | 0755, false, DT_SOCK},
    {"char", S_IFCHR | 0600, true, DT_CHR},     {"block", S_IFBLK | 0660, true, DT_BLK},
    {"regular", S_IFREG | 0604, false, DT_REG},
};

/* Devices need a privilege on the host. */
static bool can_make(struct target *t, size_t i)
{
    if (!kinds[i].device || !target_is_host(t))
        return true;
    if (t->ops->mknod(t, "probe-device", S_IFCHR | 0600, makedev(1, 3)) < 0)
        return false;
    assert_ok(t_unlink(t, "probe-device"));
    return true;
}

static void make_all(struct target *t)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (can_make(t, i))
            assert_ok(t->ops->mknod(t, kinds[i].name, kinds[i].mode, makedev(0x123, 0x45678)));
}

static void expect_all(struct target *t)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct stat st;

        if (!can_make(t, i))
            continue;
        st = stat_at(t, kinds[i].name);
        assert_that(st.st_mode == kinds[i].mode, "%s: mode %#o", kinds[i].name, st.st_mode);
        assert_int_equal(st.st_rdev, kinds[i].device ? makedev(0x123, 0x45678) : 0);
        assert_count(st.st_size, 0);
        assert_count(st.st_blocks, 0);
        assert_count(st.st_nlink, 1);
    }
}

static void made_and_seen(struct target *t)
{
    struct hf_dirent entry;
    struct target_dir dir;
    int ret;

    make_all(t);
    expect_all(t);
    assert_ok(t_opendir(t, ".", &dir));
    while ((ret = t_readdir(&dir, &entry)) == 1)
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
            if (strcmp(kinds[i].name, entry.name) == 0)
                assert_that(entry.type == kinds[i].type, "%s: type %d", entry.name, entry.type);
    assert_ok(ret);
    assert_ok(t_closedir(&dir));
}

static void names_and_attributes(struct target *t)
{
    assert_ok(t->ops->mknod(t, "p", S_IFIFO | 0600, 0));
    assert_ok(t_link(t, "p", "q"));
    assert_count(stat_at(t, "p").st_nlink, 2);
    assert_ok(t_rename(t, "q", "r", 0));
    assert_ok(t_chmod(t, "r", 0444));
    assert_int_equal(stat_at(t, "p").st_mode, S_IFIFO | 0444);
    assert_ok(t_unlink(t, "p"));
    assert_ok(t_unlink(t, "r"));
}

static void errors(struct target *t)
{
    make_file(t, "f", 1, 'f');
    assert_ok(t->ops->mknod(t, "p", S_IFIFO | 0600, 0));
    assert_err(t->ops->mknod(t, "p", S_IFIFO | 0600, 0), EEXIST);
    assert_err(t->ops->mknod(t, "f", S_IFREG | 0600, 0), EEXIST);
    assert_err(t->ops->mknod(t, "d", S_IFDIR | 0700, 0), EPERM);
    assert_err(t->ops->mknod(t, "l", S_IFLNK | 0700, 0), EINVAL);
    assert_err(t->ops->mknod(t, "none/p", S_IFIFO | 0600, 0), ENOENT);
    assert_err(t->ops->mknod(t, "f/p", S_IFIFO | 0600, 0), ENOTDIR);
    assert_err(t->ops->mknod(t, "p/", S_IFIFO | 0600, 0), EEXIST);
    assert_err(t->ops->mknod(t, "q/", S_IFIFO | 0600, 0), ENOENT);
    assert_err(t_truncate(t, "p", 0), EINVAL);
    assert_err(t_rmdir(t, "p"), ENOTDIR);
    assert_err(t_mkdir(t, "p", 0700), EEXIST);
    assert_ok(t->ops->mknod(t, "plain", 0644, 0));
    assert_int_equal(stat_at(t, "plain").st_mode, S_IFREG | 0644);
}

static void cannot_be_opened(struct target *t)
{
    struct target_file file;

    make_all(t);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (!S_ISREG(kinds[i].mode))
            assert_err(t_open(t, kinds[i].name, O_RDWR, 0, &file), ENXIO);
    assert_err(t_open(t, "fifo", O_RDONLY | O_DIRECTORY, 0, &file), ENOTDIR);
}

static void last_over_reopen(struct target *t)
{
    make_all(t);
    target_reopen(t);
    expect_all(t);
}

static const struct test_body bodies[] = {
    BODY(made_and_seen, ON_ALL),         BODY(names_and_attributes, ON_ALL), BODY(errors, ON_ALL),
    BODY(cannot_be_opened, ON_HOLDFAST), BODY(last_over_reopen, ON_LASTING),
};

TEST_MAIN("special_files", bodies)
