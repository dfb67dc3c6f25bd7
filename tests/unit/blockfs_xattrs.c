/* SPDX-License-Identifier: MIT */
/*
 * blockfs_xattrs.c - extended attributes in the metadata region: durable with fsync, refused before they take
 * what extents need, and gone with their inode.
 */
#include "blockfs_util.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#define LARGE HF_XATTR_SIZE_MAX

static char value[LARGE];

static int set(struct hf_inode *inode, int nr, size_t size)
{
    char name[32];

    snprintf(name, sizeof(name), "user.%d", nr);
    memset(value, nr, size);
    return inode->sb->driver->setxattr(inode, name, value, size, 0);
}

static int clear(struct hf_inode *inode, int nr)
{
    char name[32];

    snprintf(name, sizeof(name), "user.%d", nr);
    return inode->sb->driver->removexattr(inode, name);
}

static void expect(struct hf_inode *inode, int nr, size_t size)
{
    char name[32], *got = malloc(LARGE);

    assert_non_null(got);
    snprintf(name, sizeof(name), "user.%d", nr);
    assert_count(inode->sb->driver->getxattr(inode, name, got, LARGE), size);
    assert_bytes(got, (char)nr, size);
    free(got);
}

static void fsync_makes_them_durable(void **state)
{
    struct hf_device *dev = vol_format(8 << 20, 4096, false), *image;
    struct hf_inode *root, *a, *found;
    struct vol vol, later;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    assert_ok(set(a, 1, 10));
    assert_ok(set(a, 2, LARGE));
    assert_ok(vol.ops->fsync(a, true)); /* fdatasync does, too */
    assert_ok(set(a, 3, 10));
    image = image_copy(dev);
    vol_mount(&later, image);
    found = inode_get(&later, a->ino);
    expect(found, 1, 10);
    expect(found, 2, LARGE);
    assert_err(later.ops->getxattr(found, "user.3", NULL, 0), ENODATA);
    inode_put(found);
    vol_unmount(&later);
    hf_dev_close(image);

    assert_ok(vol.ops->fsync(a, false));
    assert_ok(vol.ops->removexattr(a, "user.1"));
    assert_ok(vol.ops->fsync(a, false));
    image = image_copy(dev);
    vol_mount(&later, image);
    found = inode_get(&later, a->ino);
    expect(found, 3, 10);
    assert_err(later.ops->getxattr(found, "user.1", NULL, 0), ENODATA);
    inode_put(found);
    vol_unmount(&later);
    hf_dev_close(image);
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

/* Fills with values of this size until one is refused; returns how many there are. */
static int fill(struct hf_inode *inode, size_t size)
{
    int nr = 0, rc;

    while ((rc = set(inode, nr, size)) == 0)
        nr++;
    assert_int_equal(rc, -ENOSPC);
    return nr;
}

/* Every block of the file an extent of its own, until the data is full; then all must still be committed. */
static void fragment(struct vol *vol, struct hf_inode *inode)
{
    uint64_t blk = 0;

    while (file_write(inode, blk, 1, 'd') == 0)
        blk += 2;
    assert_int_equal(vol_statfs(vol).blocks_free, 0);
    assert_ok(vol->ops->fsync(inode, false));
}

static void never_take_what_extents_need(void **state)
{
    static const size_t sizes[] = {0, 100, 1000, 5000, LARGE};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct hf_device *dev = vol_format(2 << 20, 512, false);
        struct hf_inode *root, *a, *b;
        struct vol vol;
        int nr;

        vol_mount(&vol, dev);
        root = root_get(&vol);
        a = file_create(&vol, root, "a");
        b = file_create(&vol, root, "b");
        nr = fill(a, sizes[i]);
        assert_true(nr > 0);
        if (sizes[i] == LARGE)
            fill(b, 0); /* the rest of the room */
        fragment(&vol, b);
        inode_put(a);
        inode_put(b);
        inode_put(root);
        vol_unmount(&vol);

        vol_mount(&vol, dev);
        root = root_get(&vol);
        a = node_find(&vol, root, "a");
        assert_non_null(a);
        expect(a, 0, sizes[i]);
        for (int k = 0; k < nr; k++)
            assert_ok(clear(a, k));
        file_unlink(&vol, root, "b");
        assert_ok(set(a, 0, sizes[i]));
        inode_put(a);
        inode_put(root);
        vol_unmount(&vol);
        hf_dev_close(dev);
    }
}

static void their_space_comes_back_with_the_last_name(void **state)
{
    struct hf_device *dev = vol_format(4 << 20, 4096, false);
    struct hf_inode *root, *a;
    struct vol vol;
    int first = 0;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    for (int round = 0; round < 6; round++) {
        static const size_t sizes[] = {LARGE, 300};
        int nr;

        a = file_create(&vol, root, "a");
        nr = fill(a, sizes[round % 2]);
        if (round % 2 == 0 && first == 0)
            first = nr;
        else if (round % 2 == 0)
            assert_that(nr >= first - 1, "%d fit at first, %d now", first, nr);
        inode_put(a);
        file_unlink(&vol, root, "a");
    }
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

/* Setting one again and again commits now and then, so that the redo log stays small. */
static void the_redo_log_is_bounded(void **state)
{
    struct hf_device *dev = vol_format((hf_off_t)2 << 30, 65536, true);
    struct hf_blockfs *fs;
    struct hf_inode *root;
    struct vol vol;

    (void)state;
    vol_mount(&vol, dev);
    fs = hf_blockfs_of(&vol.sb);
    root = root_get(&vol);
    for (int i = 0; i < 400; i++) {
        assert_ok(set(root, 0, LARGE));
        assert_true(fs->txn.log_len < HF_BLOCKFS_LOG_MAX + 2 * LARGE);
    }
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

/* A crash between unlinking and freeing leaves the inode to the next mount, which frees its attributes. */
static void a_crash_before_they_are_freed(void **state)
{
    struct hf_device *dev = vol_format(4 << 20, 4096, false), *image;
    struct hf_inode *root, *a;
    struct vol vol, later;
    int64_t rows = -1;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    for (int i = 0; i < 40; i++)
        assert_ok(set(a, i, 200));
    assert_ok(vol.ops->unlink(root, "a", a, 1));
    assert_ok(vol.ops->sync(&vol.sb));
    image = image_copy(dev);
    vol_mount(&later, image);
    hf_mutex_lock(&hf_blockfs_of(&later.sb)->sql_lock);
    assert_int_equal(
        hf_txn_number(&hf_blockfs_of(&later.sb)->txn, HF_STMT_XATTR_ANY, HF_ARGS(HF_INT(a->ino)), &rows),
        -ENOENT);
    hf_mutex_unlock(&hf_blockfs_of(&later.sb)->sql_lock);
    vol_unmount(&later);
    hf_dev_close(image);
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fsync_makes_them_durable),
        cmocka_unit_test(never_take_what_extents_need),
        cmocka_unit_test(their_space_comes_back_with_the_last_name),
        cmocka_unit_test(the_redo_log_is_bounded),
        cmocka_unit_test(a_crash_before_they_are_freed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
