/* SPDX-License-Identifier: MIT */
/*
 * set_id_bits.c - set-user-ID and set-group-ID bits and file capabilities go when an unprivileged writer
 * changes the file; set-group-ID directories pass their group on.
 *
 * On the host a privileged process takes off CAP_FSETID for the call by changing its filesystem user, which
 * is what makes the kernel treat it as any other writer.
 */
#include "target.h"

#include <sys/fsuid.h>
#include <sys/xattr.h>

/* Runs step as an unprivileged writer. */
#define unprivileged(step)   \
    do {                     \
        if (geteuid() == 0)  \
            setfsuid(65534); \
        step;                \
        if (geteuid() == 0)  \
            setfsuid(0);     \
    } while (0)

static const struct {
    mode_t before, after;
} cases[] = {
    {06755, 0755}, {04755, 0755}, {02755, 0755}, {04600, 0600}, {01755, 01755}, {0755, 0755},
};

static void expect_mode(struct target *t, const char *what, mode_t before, mode_t want)
{
    mode_t mode = stat_at(t, "f").st_mode & 07777;

    assert_that(mode == want, "%s: %04o became %04o, not %04o", what, before, mode, want);
}

static void writers(struct target *t)
{
    struct target_file file = open_new(t, "f");

    fill_range(&file, 0, 100, 'f');
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        mode_t before = cases[i].before, after = cases[i].after;
        ssize_t n = 0;

        assert_ok(t_fchmod(&file, before));
        unprivileged(n = t_pwrite(&file, "x", 1, 0));
        assert_count(n, 1);
        expect_mode(t, "write", before, after);
        assert_ok(t_fchmod(&file, before));
        unprivileged(n = t_pwrite(&file, "x", 0, 0));
        expect_mode(t, "an empty write", before, before);
        unprivileged(n = t_ftruncate(&file, 50 + (hf_off_t)i));
        assert_ok(n);
        expect_mode(t, "truncate", before, after);
        assert_ok(t_fchmod(&file, before));
        assert_count(t_pread(&file, &n, 1, 0), 1);
        assert_ok(t_fsync(&file));
        expect_mode(t, "reading", before, before);
    }
    close_ok(&file);
}

static void owners(struct target *t)
{
    struct stat st;

    make_file(t, "f", 1, 'f');
    st = stat_at(t, "f");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_ok(t_chmod(t, "f", cases[i].before));
        assert_ok(t->ops->chown(t, "f", st.st_uid, (gid_t)-1));
        expect_mode(t, "chown", cases[i].before, cases[i].after);
    }
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_chmod(t, "d", 07755));
    assert_ok(t->ops->chown(t, "d", st.st_uid, (gid_t)-1));
    assert_int_equal(stat_at(t, "d").st_mode & 07777, 07755);
}

/* A capability attribute as setcap(8) makes it: version 2, cap_net_raw in the permitted set. */
static const unsigned char capability[20] = {0, 0, 0, 2, 0, 0x20};

static void capabilities(struct target *t)
{
    struct target_file file;
    char buf[32];

    if (!t->has_root_xattrs)
        skip();
    file = open_new(t, "f");
    fill_range(&file, 0, 100, 'f');
    for (int how = 0; how < 3; how++) {
        assert_ok(t->ops->fsetxattr(&file, "security.capability", capability, sizeof(capability), 0));
        assert_count(t->ops->fgetxattr(&file, "security.capability", buf, sizeof(buf)), sizeof(capability));
        if (how == 0)
            assert_count(t_pwrite(&file, "x", 1, 0), 1);
        else if (how == 1)
            assert_ok(t_ftruncate(&file, 10));
        else
            assert_ok(t->ops->chown(t, "f", stat_of(&file).st_uid, (gid_t)-1));
        assert_err(t->ops->fgetxattr(&file, "security.capability", buf, sizeof(buf)), ENODATA);
    }
    close_ok(&file);
}

static void directories_pass_their_group_on(struct target *t)
{
    gid_t own = getegid(), group = geteuid() == 0 ? 4242 : own;
    struct target_file file;

    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t->ops->chown(t, "d", (uid_t)-1, group));
    make_file(t, "d/before", 0, 0);
    assert_int_equal(stat_at(t, "d/before").st_gid, own);
    assert_ok(t_chmod(t, "d", 02755));
    assert_ok(t_mkdir(t, "d/e", 0750));
    assert_int_equal(stat_at(t, "d/e").st_gid, group);
    assert_int_equal(stat_at(t, "d/e").st_mode & 07777, 02750);
    make_file(t, "d/e/f", 0, 0);
    assert_int_equal(stat_at(t, "d/e/f").st_gid, group);
    assert_int_equal(stat_at(t, "d/e/f").st_mode & 07000, 0);
    assert_ok(t_symlink(t, "x", "d/l"));
    assert_int_equal(stat_at(t, "d/l").st_gid, group);
    assert_ok(t->ops->mknod(t, "d/p", S_IFIFO | 0600, 0));
    assert_int_equal(stat_at(t, "d/p").st_gid, group);
    assert_ok(t_open(t, "d", O_TMPFILE | O_RDWR, 0600, &file));
    assert_int_equal(stat_of(&file).st_gid, group);
    close_ok(&file);
}

/* What a kernel in front of the library decides itself. */
static void bits_can_be_kept(struct target *t)
{
    struct hf_open_options open = t->spec->open;
    struct target_file file;

    open.flags |= HF_OPEN_KEEP_SUID;
    assert_ok(hf_volume_close(t->volume));
    assert_ok(hf_volume_open(t->path, &open, &t->volume));
    file = open_new(t, "f");
    assert_ok(t_fchmod(&file, 06755));
    assert_count(t_pwrite(&file, "x", 1, 0), 1);
    assert_ok(t_ftruncate(&file, 0));
    expect_mode(t, "write", 06755, 06755);
    assert_ok(t->ops->chown(t, "f", 1, 1));
    expect_mode(t, "chown", 06755, 0755);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(writers, ON_ALL),
    BODY(owners, ON_ALL),
    BODY(capabilities, ON_ALL),
    BODY(directories_pass_their_group_on, ON_ALL),
    BODY(bits_can_be_kept, ON(TARGET_BLOCKFS)),
};

TEST_MAIN("set_id_bits", bodies)
