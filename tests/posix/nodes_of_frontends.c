/* SPDX-License-Identifier: MIT */
/*
 * nodes_of_frontends.c - a volume by inodes (<holdfast/node.h>): counts of references, names in a directory,
 * and the same files as by path.
 */
#include "check.h"

#include <fcntl.h>
#include <holdfast/node.h>

static const struct hf_cred owner = {.uid = 12, .gid = 34};

struct fixture {
    struct hf_volume *volume;
    struct hf_node *root;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (f == NULL || hf_volume_open("mem:1M", NULL, &f->volume) < 0 || hf_node_root(f->volume, &f->root) < 0)
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int r;

    hf_node_put(f->root, 1);
    r = hf_volume_close(f->volume); /* -ENOTRECOVERABLE or -EBUSY: something leaked */
    free(f);
    return r;
}

static struct stat stat_node(struct hf_node *node)
{
    struct stat st;

    assert_ok(hf_node_stat(node, &st));
    return st;
}

static struct hf_node *lookup(struct hf_node *dir, const char *name)
{
    struct hf_node *node;

    assert_ok(hf_node_lookup(dir, name, &node));
    return node;
}

static uint64_t blocks_free(struct fixture *f)
{
    struct hf_statfs st;

    assert_ok(hf_volume_statfs(f->volume, &st));
    return st.blocks_free;
}

static void one_inode_is_one_pointer(void **state)
{
    struct fixture *f = *state;
    struct hf_node *dir, *file, *again;
    struct stat st;

    assert_ok(hf_node_mknod(f->root, "d", S_IFDIR | 0750, 0, &owner, &dir));
    assert_ok(hf_node_mknod(dir, "f", S_IFREG | 0640, 0, &owner, &file));
    again = lookup(dir, "f");
    assert_ptr_equal(again, file);
    hf_node_put(file, 2);
    again = lookup(dir, "..");
    assert_ptr_equal(again, f->root);
    hf_node_put(again, 1);
    again = lookup(dir, ".");
    assert_ptr_equal(again, dir);
    hf_node_put(again, 1);
    assert_ok(hf_stat(f->volume, "d/f", &st));
    assert_count(st.st_uid, owner.uid);
    assert_count(st.st_gid, owner.gid);
    assert_count(st.st_mode, S_IFREG | 0640);
    assert_count(stat_node(dir).st_mode, S_IFDIR | 0750);
    hf_node_put(dir, 1);
}

static void node_keeps_an_unlinked_file(void **state)
{
    struct fixture *f = *state;
    uint64_t before = blocks_free(f);
    struct hf_node *node;
    struct hf_file *file;
    char bytes[8192];

    memset(bytes, 'x', sizeof(bytes));
    assert_ok(hf_node_create(f->root, "f", O_RDWR | O_EXCL, 0600, &owner, &node, &file));
    assert_count(hf_pwrite(file, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_ok(hf_close(file));
    assert_ok(hf_node_unlink(f->root, "f"));
    assert_count(stat_node(node).st_nlink, 0);
    assert_err(hf_stat(f->volume, "f", &(struct stat){0}), ENOENT);
    assert_ok(hf_node_open(node, O_RDONLY, &file));
    memset(bytes, 0, sizeof(bytes));
    assert_count(hf_pread(file, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_bytes(bytes, 'x', sizeof(bytes));
    hf_node_put(node, 1);
    assert_true(blocks_free(f) < before); /* the open file holds it by itself */
    assert_ok(hf_close(file));
    assert_count(blocks_free(f), before);
}

static void volume_with_nodes_is_busy(void **state)
{
    struct fixture *f = *state;
    struct hf_node *node;

    assert_ok(hf_node_mknod(f->root, "f", S_IFREG | 0600, 0, &owner, &node));
    assert_ptr_equal(hf_node_get(node), node);
    assert_err(hf_volume_close(f->volume), EBUSY);
    hf_node_put_all(f->volume); /* the root's, too */
    assert_ok(hf_node_root(f->volume, &f->root));
    assert_ok(hf_node_unlink(f->root, "f"));
}

static void create_opens_what_is_there(void **state)
{
    struct fixture *f = *state;
    struct hf_node *node, *again;
    struct hf_file *file;

    assert_ok(hf_node_create(f->root, "f", O_RDWR, 0600, &owner, &node, &file));
    assert_count(hf_pwrite(file, "abc", 3, 0), 3);
    assert_ok(hf_close(file));
    assert_err(hf_node_create(f->root, "f", O_RDWR | O_EXCL, 0600, &owner, &again, &file), EEXIST);
    assert_ok(hf_node_create(f->root, "f", O_RDWR, 0600, &owner, &again, &file));
    assert_ptr_equal(again, node);
    assert_count(stat_node(node).st_size, 3);
    assert_ok(hf_close(file));
    assert_ok(hf_node_create(f->root, "f", O_RDWR | O_TRUNC, 0600, &owner, NULL, &file));
    assert_count(stat_node(node).st_size, 0);
    assert_ok(hf_close(file));
    hf_node_put(node, 2);
}

static void attributes(void **state)
{
    struct fixture *f = *state;
    struct hf_attr attr = {.valid = HF_ATTR_MODE | HF_ATTR_OWNER | HF_ATTR_TIMES | HF_ATTR_SIZE,
                           .mode = 0600,
                           .uid = 5,
                           .gid = (gid_t)-1,
                           .times = {{.tv_sec = 1}, {.tv_sec = 2}},
                           .size = 10000};
    struct hf_node *node;
    struct stat st;

    assert_ok(hf_node_mknod(f->root, "f", S_IFREG | 0644, 0, &owner, &node));
    assert_ok(hf_node_setattr(node, &attr));
    st = stat_node(node);
    assert_count(st.st_mode, S_IFREG | 0600);
    assert_count(st.st_uid, 5);
    assert_count(st.st_gid, owner.gid);
    assert_count(st.st_size, 10000);
    assert_count(st.st_atim.tv_sec, 1);
    assert_count(st.st_mtim.tv_sec, 2);
    attr = (struct hf_attr){.valid = HF_ATTR_SIZE | HF_ATTR_MODE, .size = -1, .mode = 0};
    assert_err(hf_node_setattr(node, &attr), EINVAL);
    assert_count(stat_node(node).st_mode, S_IFREG | 0600);
    attr.valid = 0x100;
    assert_err(hf_node_setattr(node, &attr), EINVAL);
    hf_node_put(node, 1);
}

static void names_in_directories(void **state)
{
    struct fixture *f = *state;
    struct hf_node *dir, *file, *other;
    char target[8];

    assert_ok(hf_node_mknod(f->root, "d", S_IFDIR | 0755, 0, &owner, &dir));
    assert_ok(hf_node_mknod(f->root, "f", S_IFREG | 0644, 0, &owner, &file));
    assert_ok(hf_node_link(file, dir, "g"));
    assert_count(stat_node(file).st_nlink, 2);
    assert_err(hf_node_link(dir, dir, "h"), EPERM);
    assert_ok(hf_node_rename(f->root, "f", dir, "h", 0));
    other = lookup(dir, "h");
    assert_ptr_equal(other, file);
    hf_node_put(other, 1);
    assert_err(hf_node_rename(dir, "h", dir, "g", 1 /* RENAME_NOREPLACE */), EEXIST);
    assert_err(hf_node_rename(f->root, "d", dir, "below", 0), EINVAL);
    assert_ok(hf_node_symlink(dir, "s", "target", &owner, &other));
    assert_count(hf_node_readlink(other, target, sizeof(target)), 6);
    assert_memory_equal(target, "target", 6);
    assert_err(hf_node_readlink(file, target, sizeof(target)), EINVAL);
    assert_err(hf_node_open(other, O_RDONLY, &(struct hf_file *){NULL}), ELOOP);
    hf_node_put(other, 1);
    assert_err(hf_node_rmdir(f->root, "d"), ENOTEMPTY);
    assert_err(hf_node_unlink(f->root, "d"), EISDIR);
    assert_err(hf_node_rmdir(dir, "h"), ENOTDIR);
    assert_ok(hf_node_unlink(dir, "g"));
    assert_ok(hf_node_unlink(dir, "h"));
    assert_ok(hf_node_unlink(dir, "s"));
    assert_ok(hf_node_rmdir(f->root, "d"));
    assert_err(hf_node_mknod(dir, "late", S_IFREG | 0644, 0, &owner, NULL), ENOENT);
    hf_node_put(dir, 1);
    hf_node_put(file, 1);
}

static void wrong_names(void **state)
{
    struct fixture *f = *state;
    char name[HF_NAME_MAX + 2];
    struct hf_node *file, *got;

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_err(hf_node_lookup(f->root, name, &got), ENAMETOOLONG);
    assert_err(hf_node_lookup(f->root, "", &got), EINVAL);
    assert_err(hf_node_lookup(f->root, "a/b", &got), EINVAL);
    assert_err(hf_node_lookup(f->root, "nobody", &got), ENOENT);
    assert_err(hf_node_mknod(f->root, ".", S_IFREG | 0644, 0, &owner, NULL), EEXIST);
    assert_err(hf_node_unlink(f->root, ".."), EISDIR);
    assert_err(hf_node_rmdir(f->root, "."), EBUSY);
    assert_ok(hf_node_mknod(f->root, "f", S_IFREG | 0644, 0, &owner, &file));
    assert_err(hf_node_lookup(file, "x", &got), ENOTDIR);
    assert_err(hf_node_mknod(file, "x", S_IFREG | 0644, 0, &owner, NULL), ENOTDIR);
    hf_node_put(file, 1);
}

static void reading_a_directory(void **state)
{
    struct fixture *f = *state;
    struct hf_dirent entry;
    struct hf_dir *dir;
    unsigned nr = 0;

    for (char name[] = "a"; name[0] < 'f'; name[0]++)
        assert_ok(hf_node_mknod(f->root, name, S_IFREG | 0644, 0, &owner, NULL));
    assert_ok(hf_node_opendir(f->root, &dir));
    while (hf_readdir(dir, &entry) == 1)
        nr++;
    assert_count(nr, 7);
    assert_ok(hf_closedir(dir));
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(one_inode_is_one_pointer),
        CASE(node_keeps_an_unlinked_file),
        CASE(volume_with_nodes_is_busy),
        CASE(create_opens_what_is_there),
        CASE(attributes),
        CASE(names_in_directories),
        CASE(wrong_names),
        CASE(reading_a_directory),
    };

    return cmocka_run_group_tests_name("nodes_of_frontends", tests, NULL, NULL);
}
