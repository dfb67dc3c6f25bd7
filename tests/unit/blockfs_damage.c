/* SPDX-License-Identifier: MIT */
/* blockfs_damage.c - rows that contradict each other are
 * refused at mount, in words, and nothing is written. */
#include "blockfs_util.h"

#include <sys/stat.h>

static struct hf_blockfs_header header;

/* A volume with a file "a" of two extents, and a symlink. */
static struct hf_device *volume(void)
{
    struct hf_device *dev = vol_format(4 << 20, 4096, false);
    struct hf_inode *root, *a;
    char err[HF_BLOCKFS_ERR];
    struct vol vol;

    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    assert_ok(file_write(a, 0, 3, 'a'));
    assert_ok(file_write(a, 10, 3, 'a'));
    inode_put(a);
    inode_put(node_create(&vol, root, "l", S_IFLNK | 0777, "x"));
    inode_put(root);
    vol_unmount(&vol);
    assert_ok(hf_blockfs_header_read(dev, false, &header, NULL, err));
    return dev;
}

static struct hf_device *damaged(const char *text)
{
    struct hf_device *dev = volume();
    struct hf_metadb *db = metadb_open(dev, &header);

    sql(db, text);
    assert_ok(hf_metadb_close(db));
    return dev;
}

/* Mounting fails with err and these words, and leaves the device as it was. */
static void refused(const char *text, int err, const char *words)
{
    struct hf_device *dev = damaged(text), *before = image_copy(dev);
    struct vol vol;

    for (int read_only = 0; read_only <= 1; read_only++) {
        assert_err(vol_try_mount(&vol, dev, read_only), err);
        assert_that(strstr(vol.sb.error_text, words) != NULL, "\"%s\" has no \"%s\"", vol.sb.error_text,
                    words);
        assert_that(err != EUCLEAN || strstr(vol.sb.error_text, "holdfast check") != NULL,
                    "no advice in \"%s\"", vol.sb.error_text);
        assert_null(strchr(vol.sb.error_text, '\n'));
        assert_true(image_same(dev, before));
    }
    hf_dev_close(before);
    hf_dev_close(dev);
}

static void extents(void **state)
{
    (void)state;
    refused("UPDATE extents SET pblk = 1000000 WHERE lblk = 10", EUCLEAN, "out of bounds");
    refused("UPDATE extents SET pblk = -1 WHERE lblk = 10", EUCLEAN, "out of bounds");
    refused("UPDATE extents SET len = 0 WHERE lblk = 10", EUCLEAN, "out of bounds");
    refused("UPDATE extents SET len = 9223372036854775807 WHERE lblk = 10", EUCLEAN, "out of bounds");
    refused("UPDATE extents SET lblk = -5 WHERE lblk = 10", EUCLEAN, "out of bounds");
    refused("UPDATE extents SET unwritten = 7 WHERE lblk = 10", EUCLEAN, "out of bounds");
    refused("UPDATE extents SET pblk = (SELECT pblk + 2 FROM extents WHERE lblk = 0) WHERE lblk = 10",
            EUCLEAN, "another extent has its blocks");
    refused("UPDATE extents SET lblk = 2 WHERE lblk = 10", EUCLEAN, "two extents at block 2");
    refused("UPDATE extents SET ino = -1 WHERE lblk = 0", EUCLEAN, "inode -1");
    refused("DELETE FROM inodes WHERE ino = (SELECT ino FROM extents)", EUCLEAN, "no row in table inodes");
}

static void meta_and_root(void **state)
{
    (void)state;
    refused("UPDATE meta SET schema_version = schema_version + 1", EPROTONOSUPPORT, "newer");
    refused("UPDATE meta SET schema_version = 1", EPROTONOSUPPORT, "before the first release");
    refused("UPDATE meta SET schema_version = 0", EUCLEAN, "meta");
    refused("UPDATE meta SET next_id = 16", EUCLEAN, "next_id");
    refused("UPDATE meta SET next_id = 9223372036854775000", EUCLEAN, "next_id");
    refused("DELETE FROM meta", EUCLEAN, "meta");
    refused("DELETE FROM inodes WHERE ino = 1", EUCLEAN, "root");
    refused("UPDATE inodes SET mode = 33188 WHERE ino = 1", EUCLEAN, "root");
    refused("DROP TABLE extents", EUCLEAN, "");
    refused("DROP TABLE names; DROP TABLE meta", EUCLEAN, "");
    refused("CREATE TRIGGER t AFTER INSERT ON inodes BEGIN DELETE FROM names; END", EUCLEAN, "trigger t");
    refused("CREATE VIEW v AS SELECT ino FROM inodes", EUCLEAN, "view v");
}

static void quota_limits(void **state)
{
    (void)state;
    refused("INSERT INTO quotas VALUES(3, 0, 1, 1, 0, 0, 0, 0, 0)", EUCLEAN, "table quotas: type 3, id 0");
    refused("INSERT INTO quotas VALUES(-1, 0, 1, 1, 0, 0, 0, 0, 0)", EUCLEAN, "no such type");
    refused("INSERT INTO quotas VALUES(0, 4294967296, 1, 1, 0, 0, 0, 0, 0)", EUCLEAN, "no such id");
    refused("INSERT INTO quotas VALUES(0, 5, -1, 1, 0, 0, 0, 0, 0)", EUCLEAN, "negative");
    refused("INSERT INTO quotas VALUES(0, 5, 0, 0, 0, -7, 0, 0, 0)", EUCLEAN, "negative");
    refused("INSERT INTO quotas VALUES(0, 5, 0, 9223372036854775807, 0, 0, 0, 0, 0)", EUCLEAN, "too large");
    refused("INSERT INTO quotas VALUES(0, 5, 9, 8, 0, 0, 0, 0, 0)", EUCLEAN, "above the hard one");
    refused("INSERT INTO quotas VALUES(0, 5, 0, 0, 9, 8, 0, 0, 0)", EUCLEAN, "above the hard one");
    refused("INSERT INTO quotas VALUES(0, 5, 1, 1, 0, 0, -1, 0, 0)", EUCLEAN, "grace time");
    refused("INSERT INTO quotas VALUES(0, 5, 1, 1, 0, 0, 0, -1, 0)", EUCLEAN, "epoch");
    refused("INSERT INTO quotas VALUES(0, 5, 1, 1, 0, 0, 0, 0, -1)", EUCLEAN, "epoch");
    refused("DROP TABLE quotas", EUCLEAN, "");
}

static void an_orphan_without_an_inode(void **state)
{
    struct hf_device *dev = damaged("INSERT INTO orphans VALUES(999, 0)");
    struct vol vol;

    (void)state;
    assert_err(vol_try_mount(&vol, dev, false), EUCLEAN);
    assert_non_null(strstr(vol.sb.error_text, "orphans"));
    /* Reading is possible: orphans are left alone. */
    assert_ok(vol_try_mount(&vol, dev, true));
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void inodes(void **state)
{
    static const char *const texts[] = {
        "UPDATE inodes SET mode = 420 WHERE ino != 1",
        "UPDATE inodes SET size = -1 WHERE ino != 1",
        "UPDATE inodes SET nlink = -1 WHERE ino != 1",
        "UPDATE inodes SET size = 9223372036854775807 WHERE ino != 1",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct hf_device *dev = damaged(texts[i]);
        struct hf_inode *root, inode = {0};
        struct vol vol;

        vol_mount(&vol, dev);
        root = root_get(&vol);
        inode.sb = &vol.sb;
        assert_ok(vol.ops->lookup(root, "a", &inode.ino));
        assert_err(vol.ops->read_inode(&inode), EUCLEAN);
        assert_non_null(strstr(vol.sb.error_text, "table inodes"));
        inode_put(root);
        vol_unmount(&vol);
        hf_dev_close(dev);
    }
}

/* A name that no op makes is not shown to a program that may use it as a path. */
static void impossible_names(void **state)
{
    static const char *const texts[] = {"'../../etc'", "'/'", "'.'",          "'..'",
                                        "x'610062'",   "x''", "zeroblob(256)"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct hf_dirent entry;
        struct hf_device *dev;
        struct hf_inode *root;
        struct vol vol;
        char text[128];

        snprintf(text, sizeof(text), "UPDATE names SET name = CAST(%s AS BLOB) WHERE type = 8", texts[i]);
        dev = damaged(text);
        vol_mount(&vol, dev);
        root = root_get(&vol);
        assert_err(vol.ops->readdir(root, 0, &entry), EUCLEAN);
        assert_non_null(strstr(vol.sb.error_text, "table names"));
        inode_put(root);
        vol_unmount(&vol);
        hf_dev_close(dev);
    }
}

/* The driver mounts, and its root cannot be read: whoever opens the volume is told why. */
static void an_impossible_root(void **state)
{
    struct hf_device *dev = damaged("UPDATE inodes SET size = -1 WHERE ino = 1");
    struct hf_volume *volume;

    (void)state;
    assert_err(hf_volume_open_device(dev, NULL, &volume), EUCLEAN);
    assert_that(strstr(hf_volume_error_text(), "table inodes: inode 1") != NULL, "\"%s\" does not say",
                hf_volume_error_text());
}

static void an_empty_symlink(void **state)
{
    struct hf_device *dev = damaged("UPDATE symlinks SET target = x''");
    struct hf_inode *root, *l;
    struct vol vol;
    char buf[8];

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    l = node_find(&vol, root, "l");
    assert_count(vol.ops->readlink(l, buf, sizeof(buf)), 0);
    inode_put(l);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void names(void **state)
{
    struct hf_device *dev =
        damaged("UPDATE names SET name = zeroblob(300) WHERE cookie = (SELECT min(cookie) FROM names);"
                "DELETE FROM symlinks");
    struct hf_dirent entry;
    struct hf_inode *root, *l;
    struct vol vol;
    char buf[8];

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    assert_err(vol.ops->readdir(root, 0, &entry), EUCLEAN);
    l = node_find(&vol, root, "l");
    assert_err(vol.ops->readlink(l, buf, sizeof(buf)), EUCLEAN);
    inode_put(l);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void a_flipped_byte_anywhere_never_crashes(void **state)
{
    struct hf_device *dev = volume();
    uint64_t seed = 5;

    (void)state;
    for (int i = 0; i < 400; i++) {
        struct hf_device *image = image_copy(dev);
        struct hf_dirent entry = {0};
        struct hf_inode *root;
        struct vol vol;

        image_flip(image, random_below(&seed, header.metadb_off + 40 * 4096),
                   (uint8_t)(1u << random_below(&seed, 8)));
        if (vol_try_mount(&vol, image, false) == 0) {
            root = root_get(&vol);
            while (vol.ops->readdir(root, entry.cookie, &entry) == 1) {
                struct hf_inode inode = {.sb = &vol.sb, .ino = entry.ino};

                if (vol.ops->read_inode(&inode) == 0)
                    vol.ops->evict_inode(&inode);
            }
            vol.ops->evict_inode(root);
            free(root);
            vol.ops->unmount(&vol.sb);
        } else {
            assert_true(vol.sb.error_text[0] != 0);
        }
        hf_dev_close(image);
    }
    hf_dev_close(dev);
}

static void a_read_only_mount_writes_nothing(void **state)
{
    struct hf_device *dev = volume(), *image, *before;
    struct hf_inode *root, *a;
    struct vol vol, later;
    uint64_t ino;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = node_find(&vol, root, "a");
    assert_ok(file_write(a, 20, 4, 'z'));
    assert_ok(vol.ops->unlink(root, "a", a, ++vol.now_ns));
    assert_ok(vol.ops->sync(&vol.sb));
    /* Killed here: the WAL is not empty, and there is an orphan. */
    image = image_copy(dev);
    before = image_copy(dev);
    assert_ok(vol_try_mount(&later, image, true));
    inode_put(root);
    root = root_get(&later);
    assert_err(later.ops->lookup(root, "a", &ino), ENOENT);
    assert_int_equal(vol_statfs(&later).blocks - vol_free(&later), 10); /* the orphan's blocks stay its own */
    assert_err(later.ops->create(root, "b", &(struct hf_create){.mode = S_IFREG}, &ino), EROFS);
    assert_err(later.ops->reserve(root, 1, 0), EROFS);
    assert_err(later.ops->write_inode(root, 0), EROFS);
    assert_ok(later.ops->fsync(root, false));
    inode_put(root);
    vol_unmount(&later);
    assert_true(image_same(image, before));
    hf_dev_close(image);
    hf_dev_close(before);
    inode_put(a);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void pages_smaller_than_blocks(void **state)
{
    struct hf_device *dev = vol_format(8 << 20, 16384, false);
    struct vol vol = {.ops = &hf_blockfs_driver};

    (void)state;
    vol.sb.driver = vol.ops;
    vol.sb.dev = dev;
    vol.sb.page_size = 4096;
    assert_err(vol.ops->mount(&vol.sb), EINVAL);
    assert_non_null(strstr(vol.sb.error_text, "16384"));
    hf_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extents),
        cmocka_unit_test(meta_and_root),
        cmocka_unit_test(quota_limits),
        cmocka_unit_test(an_orphan_without_an_inode),
        cmocka_unit_test(inodes),
        cmocka_unit_test(names),
        cmocka_unit_test(impossible_names),
        cmocka_unit_test(an_impossible_root),
        cmocka_unit_test(an_empty_symlink),
        cmocka_unit_test(a_flipped_byte_anywhere_never_crashes),
        cmocka_unit_test(a_read_only_mount_writes_nothing),
        cmocka_unit_test(pages_smaller_than_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
