/* SPDX-License-Identifier: MIT */
/*
 * extended_attributes.c - xattr(7): values, flags, sizes, namespaces, and that they stay with the inode.
 *
 * The calls go through t->ops directly: no other program needs them.
 */
#include "target.h"

#include <holdfast/node.h>
#include <sys/xattr.h>

#define NOFOLLOW AT_SYMLINK_NOFOLLOW

static void need_user_xattrs(struct target *t)
{
    if (!t->has_user_xattrs)
        skip();
}

static int set(struct target *t, const char *path, const char *name, const char *value)
{
    return t->ops->setxattr(t, path, 0, name, value, strlen(value), 0);
}

static void expect_xattr(struct target *t, const char *path, const char *name, const char *value)
{
    char buf[256];
    ssize_t n = t->ops->getxattr(t, path, 0, name, buf, sizeof(buf));

    assert_count(n, strlen(value));
    assert_memory_equal(buf, value, strlen(value));
}

/* How many user. names the list has, and whether `name` is one of them. */
static int count_user(struct target *t, const char *path, const char *name, bool *ret_has)
{
    char buf[4096];
    ssize_t n = t->ops->listxattr(t, path, 0, buf, sizeof(buf));
    int nr = 0;

    assert_ok(n);
    *ret_has = false;
    for (const char *at = buf; at < buf + n; at += strlen(at) + 1) {
        nr += strncmp(at, "user.", 5) == 0;
        *ret_has = *ret_has || strcmp(at, name) == 0;
    }
    return nr;
}

static void set_get_list_remove(struct target *t)
{
    char buf[8];
    bool has;

    need_user_xattrs(t);
    make_file(t, "f", 1, 'f');
    assert_err(t->ops->getxattr(t, "f", 0, "user.a", buf, sizeof(buf)), ENODATA);
    assert_ok(set(t, "f", "user.a", "one"));
    assert_ok(set(t, "f", "user.b", "two two"));
    assert_ok(set(t, "f", "user.empty", ""));
    expect_xattr(t, "f", "user.a", "one");
    expect_xattr(t, "f", "user.b", "two two");
    expect_xattr(t, "f", "user.empty", "");
    assert_count(count_user(t, "f", "user.b", &has), 3);
    assert_true(has);
    assert_ok(set(t, "f", "user.b", "longer than before"));
    expect_xattr(t, "f", "user.b", "longer than before");
    assert_ok(t->ops->removexattr(t, "f", 0, "user.b"));
    assert_err(t->ops->removexattr(t, "f", 0, "user.b"), ENODATA);
    assert_err(t->ops->getxattr(t, "f", 0, "user.b", buf, sizeof(buf)), ENODATA);
    assert_count(count_user(t, "f", "user.b", &has), 2);
    assert_false(has);
    expect_xattr(t, "f", "user.a", "one");
    assert_err(t->ops->getxattr(t, "none", 0, "user.a", buf, sizeof(buf)), ENOENT);
    assert_err(set(t, "none", "user.a", "x"), ENOENT);
    assert_err(t->ops->removexattr(t, "none", 0, "user.a"), ENOENT);
    assert_err(t->ops->listxattr(t, "none", 0, buf, sizeof(buf)), ENOENT);
}

static void create_and_replace(struct target *t)
{
    need_user_xattrs(t);
    make_file(t, "f", 1, 'f');
    assert_err(t->ops->setxattr(t, "f", 0, "user.a", "x", 1, XATTR_REPLACE), ENODATA);
    assert_ok(t->ops->setxattr(t, "f", 0, "user.a", "x", 1, XATTR_CREATE));
    assert_err(t->ops->setxattr(t, "f", 0, "user.a", "y", 1, XATTR_CREATE), EEXIST);
    expect_xattr(t, "f", "user.a", "x");
    assert_ok(t->ops->setxattr(t, "f", 0, "user.a", "z", 1, XATTR_REPLACE));
    expect_xattr(t, "f", "user.a", "z");
    assert_err(t->ops->setxattr(t, "f", 0, "user.a", "z", 1, 4), EINVAL);
}

static void sizes(struct target *t)
{
    char buf[64], name[HF_XATTR_NAME_MAX + 2];
    bool has;
    ssize_t n;

    need_user_xattrs(t);
    make_file(t, "f", 1, 'f');
    assert_ok(set(t, "f", "user.a", "0123456789"));
    assert_count(t->ops->getxattr(t, "f", 0, "user.a", buf, 0), 10);
    assert_count(t->ops->getxattr(t, "f", 0, "user.a", NULL, 0), 10);
    memset(buf, '#', sizeof(buf));
    assert_err(t->ops->getxattr(t, "f", 0, "user.a", buf, 9), ERANGE);
    assert_count(t->ops->getxattr(t, "f", 0, "user.a", buf, 10), 10);
    assert_memory_equal(buf, "0123456789#", 11);
    n = t->ops->listxattr(t, "f", 0, NULL, 0);
    assert_true(n >= (ssize_t)sizeof("user.a"));
    assert_err(t->ops->listxattr(t, "f", 0, buf, (size_t)n - 1), ERANGE);
    assert_count(t->ops->listxattr(t, "f", 0, buf, (size_t)n), n);

    memset(name, 'n', sizeof(name));
    memcpy(name, "user.", 5);
    name[HF_XATTR_NAME_MAX] = '\0';
    assert_ok(set(t, "f", name, "long"));
    expect_xattr(t, "f", name, "long");
    assert_count(count_user(t, "f", name, &has), 2);
    assert_true(has);
    name[HF_XATTR_NAME_MAX] = 'n';
    name[HF_XATTR_NAME_MAX + 1] = '\0';
    assert_err(set(t, "f", name, "x"), ERANGE);
    assert_err(t->ops->getxattr(t, "f", 0, name, buf, sizeof(buf)), ERANGE);
    assert_err(t->ops->removexattr(t, "f", 0, name), ERANGE);
    assert_err(set(t, "f", "", "x"), ERANGE);
}

static void large_values(struct target *t)
{
    char *value = malloc(HF_XATTR_SIZE_MAX + 1), *got = malloc(HF_XATTR_SIZE_MAX);

    need_user_xattrs(t);
    assert_non_null(value);
    assert_non_null(got);
    for (size_t i = 0; i <= HF_XATTR_SIZE_MAX; i++)
        value[i] = (char)(i * 7 + i / 251);
    make_file(t, "f", 1, 'f');
    assert_ok(t->ops->setxattr(t, "f", 0, "user.large", value, HF_XATTR_SIZE_MAX, 0));
    assert_err(t->ops->setxattr(t, "f", 0, "user.large", value, HF_XATTR_SIZE_MAX + 1, 0), E2BIG);
    assert_count(t->ops->getxattr(t, "f", 0, "user.large", got, HF_XATTR_SIZE_MAX), HF_XATTR_SIZE_MAX);
    assert_memory_equal(got, value, HF_XATTR_SIZE_MAX);
    for (size_t size = HF_XATTR_SIZE_MAX; size > 0; size = size * 2 / 3) {
        assert_ok(t->ops->setxattr(t, "f", 0, "user.large", value + 1, size, XATTR_REPLACE));
        assert_count(t->ops->getxattr(t, "f", 0, "user.large", got, HF_XATTR_SIZE_MAX), size);
        assert_memory_equal(got, value + 1, size);
    }
    free(value);
    free(got);
}

static void namespaces(struct target *t)
{
    char buf[16];

    need_user_xattrs(t);
    make_file(t, "f", 1, 'f');
    assert_err(set(t, "f", "none.a", "x"), EOPNOTSUPP);
    assert_err(set(t, "f", "user", "x"), EOPNOTSUPP);
    assert_err(set(t, "f", "user.", "x"), EINVAL);
    assert_err(t->ops->getxattr(t, "f", 0, "none.a", buf, sizeof(buf)), EOPNOTSUPP);
    assert_err(t->ops->removexattr(t, "f", 0, "none.a"), EOPNOTSUPP);
    assert_ok(set(t, "f", "user.same", "user"));
    if (!t->has_root_xattrs)
        return;
    assert_ok(set(t, "f", "trusted.same", "trusted"));
    assert_ok(set(t, "f", "security.same", "security"));
    expect_xattr(t, "f", "user.same", "user");
    expect_xattr(t, "f", "trusted.same", "trusted");
    expect_xattr(t, "f", "security.same", "security");
    assert_ok(t->ops->removexattr(t, "f", 0, "trusted.same"));
    expect_xattr(t, "f", "user.same", "user");
}

/* What a POSIX ACL is kept in is opaque to Holdfast. */
static void system_is_opaque(struct target *t)
{
    make_file(t, "f", 1, 'f');
    assert_ok(set(t, "f", "system.posix_acl_access", "any bytes"));
    expect_xattr(t, "f", "system.posix_acl_access", "any bytes");
}

static void kinds_of_inodes(struct target *t)
{
    char buf[16];

    need_user_xattrs(t);
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_symlink(t, "d", "l"));
    assert_ok(set(t, "d", "user.a", "dir"));
    expect_xattr(t, "d", "user.a", "dir");
    expect_xattr(t, "l", "user.a", "dir");
    assert_ok(set(t, "l", "user.b", "through"));
    expect_xattr(t, "d", "user.b", "through");
    assert_err(t->ops->getxattr(t, "l", NOFOLLOW, "user.a", buf, sizeof(buf)), ENODATA);
    assert_err(t->ops->setxattr(t, "l", NOFOLLOW, "user.a", "x", 1, 0), EPERM);
    assert_err(t->ops->removexattr(t, "l", NOFOLLOW, "user.a"), EPERM);
    assert_ok(t->ops->listxattr(t, "l", NOFOLLOW, NULL, 0));
    if (!t->has_root_xattrs)
        return;
    assert_ok(t->ops->setxattr(t, "l", NOFOLLOW, "trusted.a", "link", 4, 0));
    assert_count(t->ops->getxattr(t, "l", NOFOLLOW, "trusted.a", buf, sizeof(buf)), 4);
    assert_err(t->ops->getxattr(t, "d", 0, "trusted.a", buf, sizeof(buf)), ENODATA);
    assert_ok(t->ops->removexattr(t, "l", NOFOLLOW, "trusted.a"));
}

static void open_files(struct target *t)
{
    struct target_file file;
    char buf[64];
    ssize_t n;

    need_user_xattrs(t);
    file = open_new(t, "f");
    assert_ok(t->ops->fsetxattr(&file, "user.a", "abc", 3, XATTR_CREATE));
    assert_err(t->ops->fsetxattr(&file, "user.a", "abc", 3, XATTR_CREATE), EEXIST);
    assert_count(t->ops->fgetxattr(&file, "user.a", buf, sizeof(buf)), 3);
    n = t->ops->flistxattr(&file, buf, sizeof(buf));
    assert_true(n >= (ssize_t)sizeof("user.a"));
    /* Without a name they stay with the open file; another file of the name has none. */
    assert_ok(t_unlink(t, "f"));
    assert_count(t->ops->fgetxattr(&file, "user.a", buf, sizeof(buf)), 3);
    assert_ok(t->ops->fsetxattr(&file, "user.b", "still", 5, 0));
    make_file(t, "f", 1, 'f');
    assert_err(t->ops->getxattr(t, "f", 0, "user.a", buf, sizeof(buf)), ENODATA);
    assert_ok(t->ops->fremovexattr(&file, "user.a"));
    assert_err(t->ops->fgetxattr(&file, "user.a", buf, sizeof(buf)), ENODATA);
    close_ok(&file);
}

static void belong_to_the_inode(struct target *t)
{
    struct stat before, after;

    need_user_xattrs(t);
    make_file(t, "f", 1, 'f');
    make_file(t, "g", 1, 'g');
    assert_ok(set(t, "f", "user.a", "f"));
    assert_ok(set(t, "g", "user.a", "g"));
    assert_ok(t_link(t, "f", "h"));
    assert_ok(t_rename(t, "f", "i", 0));
    expect_xattr(t, "h", "user.a", "f");
    expect_xattr(t, "i", "user.a", "f");
    assert_ok(t_rename(t, "g", "i", 0));
    expect_xattr(t, "i", "user.a", "g");
    expect_xattr(t, "h", "user.a", "f");
    before = stat_at(t, "h");
    wait_for_clock();
    assert_ok(set(t, "h", "user.b", "x"));
    after = stat_at(t, "h");
    assert_true(ns_of(after.st_ctim) > ns_of(before.st_ctim));
    assert_int_equal(ns_of(after.st_mtim), ns_of(before.st_mtim));
    assert_count(after.st_size, 1);
    before = after;
    wait_for_clock();
    assert_ok(t->ops->removexattr(t, "h", 0, "user.b"));
    after = stat_at(t, "h");
    assert_true(ns_of(after.st_ctim) > ns_of(before.st_ctim));
}

static void last_over_reopen(struct target *t)
{
    need_user_xattrs(t);
    make_file(t, "f", 1, 'f');
    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(set(t, "f", "user.a", "file"));
    assert_ok(set(t, "f", "user.gone", "file"));
    assert_ok(set(t, "d", "user.a", "dir"));
    target_reopen(t);
    expect_xattr(t, "f", "user.a", "file");
    expect_xattr(t, "d", "user.a", "dir");
    assert_ok(t->ops->removexattr(t, "f", 0, "user.gone"));
    assert_ok(set(t, "f", "user.a", "new"));
    target_reopen(t);
    expect_xattr(t, "f", "user.a", "new");
    assert_err(t->ops->removexattr(t, "f", 0, "user.gone"), ENODATA);
}

static void read_only_volumes_refuse(struct target *t)
{
    struct hf_open_options open = t->spec->open;
    char buf[8];

    make_file(t, "f", 1, 'f');
    assert_ok(set(t, "f", "user.a", "x"));
    assert_ok(hf_volume_close(t->volume));
    open.flags |= HF_OPEN_READ_ONLY;
    assert_ok(hf_volume_open(t->path, &open, &t->volume));
    assert_count(t->ops->getxattr(t, "f", 0, "user.a", buf, sizeof(buf)), 1);
    assert_err(set(t, "f", "user.a", "y"), EROFS);
    assert_err(t->ops->removexattr(t, "f", 0, "user.a"), EROFS);
}

static void by_node(struct target *t)
{
    struct hf_node *root, *node;
    char buf[8];

    make_file(t, "f", 1, 'f');
    assert_ok(hf_node_root(t->volume, &root));
    assert_ok(hf_node_lookup(root, "f", &node));
    assert_ok(hf_node_setxattr(node, "user.a", "one", 3, XATTR_CREATE));
    expect_xattr(t, "f", "user.a", "one");
    assert_count(hf_node_getxattr(node, "user.a", buf, sizeof(buf)), 3);
    assert_count(hf_node_listxattr(node, buf, sizeof(buf)), 7);
    assert_ok(hf_node_removexattr(node, "user.a"));
    assert_count(hf_node_listxattr(node, buf, sizeof(buf)), 0);
    hf_node_put(node, 1);
    hf_node_put(root, 1);
}

/* Arguments of a mapping are copied before any lock is taken, results after. */
static void buffers_in_mappings(struct target *t)
{
    struct target_file file = open_new(t, "m");
    char *map;

    assert_ok(t_ftruncate(&file, 4 * UNIT));
    map = (char *)map_shared(&file, 0, 4 * UNIT);
    assert_ok(hf_fsetxattr(file.hf, "user.a", "value", 5, 0));
    assert_ok(hf_fsetxattr(file.hf, "user.z", map + UNIT, 100, 0));
    assert_count(hf_fgetxattr(file.hf, "user.a", map + 2 * UNIT - 2, 100), 5);
    assert_count(hf_flistxattr(file.hf, map + 3 * UNIT - 2, 100), 14);
    strcpy(map, "user.b");
    assert_ok(hf_fsetxattr(file.hf, map, "value", 5, 0));
    assert_count(hf_fgetxattr(file.hf, "user.b", NULL, 0), 5);
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(set_get_list_remove, ON_ALL),
    BODY(create_and_replace, ON_ALL),
    BODY(sizes, ON_ALL),
    BODY(large_values, ON_HOLDFAST | ON(TARGET_SHM)), /* ext4 has room for one block of them */
    BODY(namespaces, ON_ALL),
    BODY(system_is_opaque, ON_HOLDFAST),
    BODY(kinds_of_inodes, ON_ALL),
    BODY(open_files, ON_ALL),
    BODY(belong_to_the_inode, ON_ALL),
    BODY(last_over_reopen, ON_LASTING),
    BODY(read_only_volumes_refuse, ON(TARGET_BLOCKFS)),
    BODY(by_node, ON_HOLDFAST),
    BODY(buffers_in_mappings, ON_HOLDFAST),
};

TEST_MAIN("extended_attributes", bodies)
