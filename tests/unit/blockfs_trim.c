/* SPDX-License-Identifier: MIT */
/* blockfs_trim.c - trim tells the device of all blocks that nobody has, and of no other. */
#include "blockfs_util.h"

#include <holdfast/maintain.h>

#include <sys/stat.h>

static struct hf_blockfs_header header;

/* Files of a, with holes between; every free block is soiled. */
static struct hf_device *volume(void)
{
    struct hf_device *dev = vol_format(2 << 20, 4096, true);
    struct hf_inode *root, *file;
    char err[HF_BLOCKFS_ERR], *soil;
    struct vol vol;

    assert_ok(hf_blockfs_header_read(dev, false, &header, NULL, err));
    soil = malloc(header.data_len);
    assert_non_null(soil);
    memset(soil, 's', header.data_len);
    assert_ok(hf_dev_write(dev, soil, header.data_len, (hf_off_t)header.data_off));
    free(soil);
    vol_mount(&vol, dev);
    root = root_get(&vol);
    file = file_create(&vol, root, "a");
    assert_ok(file_write(file, 0, 20, 'a'));
    assert_ok(file_write(file, 30, 7, 'a'));
    inode_put(file);
    file = file_create(&vol, root, "b");
    assert_ok(file_write(file, 0, 20, 'b'));
    assert_ok(vol.ops->sync(&vol.sb));
    assert_ok(file_truncate(file, 5));
    inode_put(file);
    inode_put(root);
    vol_unmount(&vol);
    return dev;
}

static void free_blocks_and_no_others(void **state)
{
    struct hf_device *dev = volume();
    struct hf_inode *root, *file;
    uint64_t bytes = 0, zeros = 0;
    unsigned char block[4096];
    struct vol vol;

    (void)state;
    assert_ok(hf_trim_device(dev, &bytes));
    assert_int_equal(bytes, (header.data_blocks - 32) * 4096);
    for (uint64_t blk = 0; blk < header.data_blocks; blk++) {
        assert_ok(hf_dev_read(dev, block, sizeof(block), (hf_off_t)(header.data_off + blk * 4096)));
        zeros += block[0] == 0;
        assert_true(block[0] == 0 || block[0] == 'a' || block[0] == 'b');
    }
    assert_int_equal(zeros * 4096, bytes);
    assert_ok(hf_check_device(dev, NULL, NULL));
    vol_mount(&vol, dev);
    root = root_get(&vol);
    file = node_find(&vol, root, "a");
    file_check(file, 0, 20, 'a');
    file_check(file, 30, 7, 'a');
    inode_put(file);
    file = node_find(&vol, root, "b");
    file_check(file, 0, 5, 'b');
    inode_put(file);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void nothing_on_damage(void **state)
{
    struct hf_device *dev = volume(), *before;
    struct hf_metadb *db = metadb_open(dev, &header);
    uint64_t bytes = 7;

    (void)state;
    sql(db, "UPDATE extents SET pblk = 3 WHERE lblk = 30");
    assert_ok(hf_metadb_close(db));
    before = image_copy(dev);
    assert_err(hf_trim_device(dev, &bytes), EUCLEAN);
    dev->read_only = true;
    assert_err(hf_trim_device(dev, &bytes), EROFS);
    assert_err(hf_trim_device(NULL, &bytes), EINVAL);
    assert_int_equal(bytes, 7);
    assert_true(image_same(dev, before));
    hf_dev_close(before);
    hf_dev_close(dev);
}

static void files_thin_and_thick(void **state)
{
    char dir[] = "/tmp/holdfast-trim-XXXXXX", path[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/box.hf", dir);
    for (int thin = 0; thin <= 1; thin++) {
        struct hf_mkfs_options opts = {.size_bytes = 2 << 20, .thin = thin, .force = true};
        uint64_t bytes = 0;
        int rc;

        assert_ok(hf_mkfs(path, &opts));
        rc = hf_trim(path, &bytes);
        if (!thin)
            assert_err(rc, EOPNOTSUPP);
        else if (rc != -EOPNOTSUPP) /* a host without holes */
            assert_ok(rc);
        assert_ok(hf_check(path, NULL, NULL));
    }
    assert_err(hf_trim("/nonexistent/volume", NULL), EINVAL);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_blocks_and_no_others),
        cmocka_unit_test(nothing_on_damage),
        cmocka_unit_test(files_thin_and_thick),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
