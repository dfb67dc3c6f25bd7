/* SPDX-License-Identifier: MIT */
/*
 * check_powercut.c - a repair that the power cut off, at any write: the next repair ends it, and nothing that
 * was whole before it began is lost.
 */
#include "blockfs_util.h"

#include <holdfast/maintain.h>

#include <sys/stat.h>

static struct hf_blockfs_header header;

/* Three files in a directory, each with its number as content. */
static struct hf_device *volume(void)
{
    struct hf_device *dev = vol_format(2 << 20, 4096, false);
    struct hf_inode *root, *dir;
    char err[HF_BLOCKFS_ERR];
    struct vol vol;

    vol_mount(&vol, dev);
    root = root_get(&vol);
    dir = node_create(&vol, root, "dir", S_IFDIR | 0755, NULL);
    for (int i = 1; i <= 3; i++) {
        char name[8];
        struct hf_inode *file;

        snprintf(name, sizeof(name), "f%d", i);
        file = file_create(&vol, dir, name);
        assert_ok(file_write(file, 0, 3, i));
        inode_put(file);
    }
    inode_put(dir);
    inode_put(root);
    vol_unmount(&vol);
    assert_ok(hf_blockfs_header_read(dev, false, &header, NULL, err));
    return dev;
}

static struct hf_check_result check(struct hf_device *dev, uint32_t flags)
{
    struct hf_check_options opts = {.flags = flags};
    struct hf_check_result result;
    int rc = hf_check_device(dev, &opts, &result);

    assert_that(rc == 0, "check: %s (%d)", hf_volume_error_text(), rc);
    return result;
}

/* The files that the damage did not touch are there, under whatever directory. */
static void assert_files(struct hf_device *dev, uint64_t first_ino)
{
    struct vol vol;

    vol_mount(&vol, dev);
    for (int i = 1; i <= 3; i++) {
        struct hf_inode *file = inode_get(&vol, first_ino + 2 * (uint64_t)(i - 1));

        file_check(file, 0, 3, i);
        inode_put(file);
    }
    vol_unmount(&vol);
}

static void cut_everywhere(const char *damage, bool bad_header)
{
    struct hf_device *dev = volume(), *recorded;
    struct hf_powercut *record;
    uint64_t nr;

    if (damage) {
        struct hf_metadb *db = metadb_open(dev, &header);

        sql(db, damage);
        assert_ok(hf_metadb_close(db));
    }
    if (bad_header)
        image_flip(dev, 72, 0xff);
    assert_ok(hf_device_powercut_new(dev, &recorded, &record));
    assert_true(check(recorded, 0).problems > 0);
    assert_int_equal(check(recorded, HF_CHECK_REPAIR).left, 0);
    nr = hf_device_powercut_count(record);
    assert_true(nr >= 2);
    for (uint64_t events = 0; events <= nr; events++) {
        for (int order = HF_POWERCUT_ALL; order <= HF_POWERCUT_REORDER; order++) {
            struct hf_powercut_cut cut = {
                .events = events, .order = (enum hf_powercut_order)order, .seed = events + 1};
            struct hf_device *image;

            assert_ok(hf_device_powercut_image(record, &cut, &image));
            assert_int_equal(check(image, HF_CHECK_REPAIR).left, 0);
            assert_int_equal(check(image, 0).problems, 0);
            assert_files(image, 18);
            hf_dev_close(image);
        }
    }
    hf_dev_close(recorded);
    hf_device_powercut_free(record);
}

static void tables(void **state)
{
    (void)state;
    cut_everywhere(
        "DELETE FROM names WHERE ino = 16; UPDATE inodes SET nlink = 9; UPDATE meta SET next_id = 2;"
        "UPDATE names SET type = 10 WHERE ino = 20; INSERT INTO orphans VALUES(800, 0);"
        "INSERT INTO extents SELECT 800, 0, pblk, len, 0 FROM extents WHERE ino = 20",
        false);
}

static void the_index(void **state)
{
    (void)state;
    cut_everywhere("DROP INDEX names_by_name; UPDATE names SET name = x'61' WHERE dir = 16", false);
}

static void the_header(void **state)
{
    (void)state;
    cut_everywhere(NULL, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables),
        cmocka_unit_test(the_index),
        cmocka_unit_test(the_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
