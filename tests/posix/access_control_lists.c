/* SPDX-License-Identifier: MIT */
/*
 * access_control_lists.c - POSIX ACLs: list and mode stay in step, new inodes inherit, and the kernel decides
 * by them. On directories of the host and on a mount; the library keeps lists as bytes and asks none.
 */
#include "target.h"

#include <grp.h>
#include <sys/fsuid.h>
#include <sys/xattr.h>

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"
#define FRIEND 4711u /* a user and a group that own nothing here */
#define STRANGER 4712u

/* An entry of a list: "u", "g", "m", "o" of getfacl(1), permissions, id. */
struct entry {
    char who;
    unsigned perm;
    uint32_t id;
};
#define OWNER(p)           \
    {                      \
        'u', p, UINT32_MAX \
    }
#define NAMED(p)       \
    {                  \
        'U', p, FRIEND \
    }
#define GROUP(p)           \
    {                      \
        'g', p, UINT32_MAX \
    }
#define NAMED_GROUP(p) \
    {                  \
        'G', p, FRIEND \
    }
#define MASK(p)            \
    {                      \
        'm', p, UINT32_MAX \
    }
#define OTHER(p)           \
    {                      \
        'o', p, UINT32_MAX \
    }

struct list {
    uint8_t bytes[4 + 8 * 8];
    size_t size;
};

static struct list list_of(const struct entry *entries, size_t nr)
{
    static const char tags[] = {
        [0x01] = 'u', [0x02] = 'U', [0x04] = 'g', [0x08] = 'G', [0x10] = 'm', [0x20] = 'o'};
    struct list list = {.bytes = {2}, .size = 4 + 8 * nr};

    for (size_t i = 0; i < nr; i++) {
        uint8_t *at = list.bytes + 4 + 8 * i;

        at[0] = (uint8_t)((const char *)memchr(tags, entries[i].who, sizeof(tags)) - tags);
        at[2] = (uint8_t)entries[i].perm;
        for (unsigned b = 0; b < 4; b++)
            at[4 + b] = (uint8_t)(entries[i].id >> 8 * b);
    }
    return list;
}
#define LIST(...) \
    list_of((const struct entry[]){__VA_ARGS__}, ARRAY_LEN(((const struct entry[]){__VA_ARGS__})))

static int set(struct target *t, const char *path, const char *name, struct list list)
{
    return t->ops->setxattr(t, path, 0, name, list.bytes, list.size, 0);
}

static void expect_list(struct target *t, const char *path, const char *name, struct list want)
{
    uint8_t buf[256];

    assert_count(t->ops->getxattr(t, path, 0, name, buf, sizeof(buf)), (ssize_t)want.size);
    assert_memory_equal(buf, want.bytes, want.size);
}

static void expect_none(struct target *t, const char *path, const char *name)
{
    char buf[256];

    assert_err(t->ops->getxattr(t, path, 0, name, buf, sizeof(buf)), ENODATA);
}

static void expect_mode(struct target *t, const char *path, mode_t want)
{
    mode_t mode = stat_at(t, path).st_mode & 07777;

    assert_that(mode == want, "%s: %04o, not %04o", path, mode, want);
}

/* A file f with mode 0640; skips where the host keeps no lists. A mount keeps them. */
static void begin(struct target *t)
{
    make_file(t, "f", 1, 'f');
    assert_ok(t_chmod(t, "f", 0640));
    if (t->spec->kind != TARGET_MOUNT &&
        set(t, "f", ACCESS, LIST(OWNER(6), GROUP(4), OTHER(0))) == -EOPNOTSUPP)
        skip();
}

static void list_and_mode_in_step(struct target *t)
{
    begin(t);
    expect_none(t, "f", ACCESS);
    assert_ok(set(t, "f", ACCESS, LIST(OWNER(7), NAMED(6), GROUP(1), MASK(6), OTHER(4))));
    expect_mode(t, "f", 0764);
    expect_list(t, "f", ACCESS, LIST(OWNER(7), NAMED(6), GROUP(1), MASK(6), OTHER(4)));
    assert_ok(t_chmod(t, "f", 0651));
    expect_mode(t, "f", 0651);
    expect_list(t, "f", ACCESS, LIST(OWNER(6), NAMED(6), GROUP(1), MASK(5), OTHER(1)));
    assert_ok(t_chmod(t, "f", 0));
    expect_list(t, "f", ACCESS, LIST(OWNER(0), NAMED(6), GROUP(1), MASK(0), OTHER(0)));
    assert_ok(
        set(t, "f", ACCESS, LIST(OWNER(6), GROUP(5), MASK(7), OTHER(0)))); /* a mask and nobody for it */
    expect_mode(t, "f", 0670);
    assert_ok(set(t, "f", ACCESS, LIST(OWNER(6), GROUP(4), OTHER(0)))); /* what a mode says as well */
    expect_mode(t, "f", 0640);
    expect_none(t, "f", ACCESS);
    assert_ok(set(t, "f", ACCESS, LIST(OWNER(6), NAMED(7), GROUP(4), MASK(7), OTHER(0))));
    assert_ok(t->ops->removexattr(t, "f", 0, ACCESS));
    expect_none(t, "f", ACCESS);
}

static void nonsense(struct target *t)
{
    struct list bad = LIST(OWNER(6), GROUP(4), OTHER(0));

    begin(t);
    assert_err(set(t, "f", ACCESS, LIST(OWNER(6), NAMED(6), GROUP(4), OTHER(0))), EINVAL); /* no mask */
    assert_err(set(t, "f", ACCESS, LIST(OWNER(6), GROUP(4))), EINVAL);
    assert_err(set(t, "f", ACCESS, LIST(OWNER(6), OWNER(6), GROUP(4), OTHER(0))), EINVAL);
    bad.size--;
    assert_err(set(t, "f", ACCESS, bad), EINVAL);
    expect_mode(t, "f", 0640);
    expect_none(t, "f", ACCESS);
    assert_err(set(t, "f", DEFAULT, LIST(OWNER(6), GROUP(4), OTHER(0))), EACCES);
}

static void made_in(struct target *t, const char *name, int flags, mode_t mode)
{
    struct target_file file;

    assert_ok(t_open(t, name, O_RDWR | O_CREAT | flags, mode, &file));
    close_ok(&file);
}

static void new_inodes_inherit(struct target *t)
{
    const struct list def = LIST(OWNER(7), NAMED(7), GROUP(0), NAMED_GROUP(5), MASK(7), OTHER(1));
    struct target_file file;

    begin(t);
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(set(t, "d", DEFAULT, def));
    expect_none(t, "d", ACCESS);
    expect_mode(t, "d", 0755);
    umask(0077); /* no longer asked there */
    made_in(t, "d/f", O_EXCL, 0666);
    assert_ok(t_mkdir(t, "d/e", 0770));
    assert_ok(t->ops->mknod(t, "d/p", S_IFIFO | 0622, 0));
    assert_ok(t_symlink(t, "f", "d/l"));
    assert_ok(t_chmod(t, "d/e", 0775));
    made_in(t, "d/e/f", 0, 0640);
    made_in(t, "d/e/f", 0, 0777); /* is there already */
    made_in(t, "g", 0, 0666);
    umask(0);
    expect_mode(t, "g", 0600);
    expect_mode(t, "d/f", 0660);
    expect_list(t, "d/f", ACCESS, LIST(OWNER(6), NAMED(7), GROUP(0), NAMED_GROUP(5), MASK(6), OTHER(0)));
    expect_none(t, "d/f", DEFAULT);
    expect_mode(t, "d/e", 0775);
    expect_list(t, "d/e", ACCESS, LIST(OWNER(7), NAMED(7), GROUP(0), NAMED_GROUP(5), MASK(7), OTHER(5)));
    expect_list(t, "d/e", DEFAULT, def);
    expect_mode(t, "d/p", 0620);
    expect_list(t, "d/p", ACCESS, LIST(OWNER(6), NAMED(7), GROUP(0), NAMED_GROUP(5), MASK(2), OTHER(0)));
    expect_mode(t, "d/e/f", 0640);
    expect_list(t, "d/e/f", ACCESS, LIST(OWNER(6), NAMED(7), GROUP(0), NAMED_GROUP(5), MASK(4), OTHER(0)));
    assert_ok(set(t, "d", DEFAULT, LIST(OWNER(7), GROUP(5), OTHER(0))));
    made_in(t, "d/minimal", 0, 0666);
    expect_mode(t, "d/minimal", 0640);
    expect_none(t, "d/minimal", ACCESS);
    assert_ok(t_chmod(t, "d", 02755));
    assert_ok(set(t, "d", DEFAULT, def));
    assert_ok(t_mkdir(t, "d/sub", 0700));
    expect_mode(t, "d/sub", 02700);
    if (t_open(t, "d", O_RDWR | O_TMPFILE, 0666, &file) == 0) {
        assert_ok(t->ops->flink(&file, "d/late"));
        close_ok(&file);
        expect_mode(t, "d/late", 0660);
        expect_list(t, "d/late", ACCESS,
                    LIST(OWNER(6), NAMED(7), GROUP(0), NAMED_GROUP(5), MASK(6), OTHER(0)));
    }
}

/* What opening d/f for this says to somebody; root and its groups stay out of it. */
static int opened_by(struct target *t, uid_t user, gid_t group, int flags)
{
    struct target_file file;
    int r;

    setfsgid(group);
    setfsuid(user);
    r = t_open(t, "d/f", flags, 0, &file);
    setfsuid(0);
    setfsgid(0);
    if (r == 0)
        close_ok(&file);
    return r;
}

static void the_kernel_decides(struct target *t)
{
    if (geteuid() != 0 || setgroups(0, NULL) < 0) /* else root's groups would be everybody's here */
        skip();
    begin(t);
    assert_ok(t_chmod(t, ".", 0755));
    assert_ok(t_mkdir(t, "d", 0711));
    make_file(t, "d/f", 1, 'f');
    assert_ok(t_chmod(t, "d/f", 0600));
    assert_err(opened_by(t, FRIEND, STRANGER, O_RDONLY), EACCES);
    assert_ok(set(t, "d/f", ACCESS, LIST(OWNER(6), NAMED(6), GROUP(0), MASK(6), OTHER(0))));
    assert_ok(opened_by(t, FRIEND, STRANGER, O_RDWR));
    assert_err(opened_by(t, STRANGER, STRANGER, O_RDONLY), EACCES);
    assert_ok(t_chmod(t, "d/f", 0640)); /* the mask, that is */
    assert_ok(opened_by(t, FRIEND, STRANGER, O_RDONLY));
    assert_err(opened_by(t, FRIEND, STRANGER, O_RDWR), EACCES);
    assert_ok(set(t, "d/f", ACCESS, LIST(OWNER(6), NAMED(0), GROUP(0), NAMED_GROUP(4), MASK(7), OTHER(6))));
    assert_err(opened_by(t, FRIEND, STRANGER, O_RDONLY), EACCES);
    assert_ok(opened_by(t, STRANGER, FRIEND, O_RDONLY));
    assert_err(opened_by(t, STRANGER, FRIEND, O_RDWR), EACCES);
    assert_ok(opened_by(t, STRANGER, STRANGER, O_RDWR));
}

static void last_over_reopen(struct target *t)
{
    begin(t);
    assert_ok(set(t, "f", ACCESS, LIST(OWNER(7), NAMED(6), GROUP(1), MASK(6), OTHER(4))));
    target_reopen(t);
    expect_mode(t, "f", 0764);
    expect_list(t, "f", ACCESS, LIST(OWNER(7), NAMED(6), GROUP(1), MASK(6), OTHER(4)));
}

static const struct test_body bodies[] = {
    BODY(list_and_mode_in_step, ON_HOST), BODY(nonsense, ON_HOST),         BODY(new_inodes_inherit, ON_HOST),
    BODY(the_kernel_decides, ON_HOST),    BODY(last_over_reopen, ON_HOST),
};

TEST_MAIN("access_control_lists", bodies)
