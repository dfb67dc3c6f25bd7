/* SPDX-License-Identifier: MIT */
/*
 * link_limit.c - no inode gets more than HF_LINK_MAX links: -EMLINK, from link, mkdir, and rename.
 *
 * The counts are put into the volume through SQL: nobody waits for two thousand million links.
 */
#include "metadb_util.h"

#include <holdfast/holdfast.h>

static struct hf_volume *volume_with_counts(void)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = volume_new(8 << 20, 4096, &header);
    struct hf_volume *volume;
    struct hf_metadb *db;
    char text[160];

    db = metadb_open(dev, &header);
    /* full: a directory; almost: one that may get one more; file: likewise */
    snprintf(text, sizeof(text),
             "INSERT INTO inodes SELECT 20, mode, 0, 0, %u, 0, 1, 0, 0, 0, 0, 0, 0, 0 FROM inodes",
             HF_LINK_MAX);
    sql(db, text);
    snprintf(text, sizeof(text), "INSERT INTO inodes VALUES(21, 16877, 0, 0, %u, 0, 1, 0, 0, 0, 0, 0, 0, 0)",
             HF_LINK_MAX - 1);
    sql(db, text);
    snprintf(text, sizeof(text), "INSERT INTO inodes VALUES(22, 33188, 0, 0, %u, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
             HF_LINK_MAX - 1);
    sql(db, text);
    sql(db, "INSERT INTO names VALUES(1, 23, CAST('full' AS BLOB), 20, 4),"
            " (1, 24, CAST('almost' AS BLOB), 21, 4), (1, 25, CAST('file' AS BLOB), 22, 8)");
    sql(db, "UPDATE meta SET next_id = 100");
    assert_ok(hf_metadb_close(db));
    assert_ok(hf_volume_open_device(dev, NULL, &volume));
    return volume;
}

static void more_links_are_refused(void **state)
{
    struct hf_volume *volume = volume_with_counts();
    struct stat st;

    (void)state;
    assert_ok(hf_link(volume, "file", "last"));
    assert_err(hf_link(volume, "file", "more"), EMLINK);
    assert_ok(hf_stat(volume, "last", &st));
    assert_true(st.st_nlink == HF_LINK_MAX);
    assert_ok(hf_unlink(volume, "last"));
    assert_ok(hf_link(volume, "file", "more"));

    assert_err(hf_mkdir(volume, "full/d", 0755), EMLINK);
    assert_ok(hf_symlink(volume, "x", "full/no-link-on-its-directory"));
    assert_ok(hf_mkdir(volume, "almost/d", 0755));
    assert_err(hf_mkdir(volume, "almost/e", 0755), EMLINK);
    assert_err(hf_rename(volume, "almost/d", "full/d", 0), EMLINK);
    assert_ok(hf_rename(volume, "almost/d", "almost/e", 0));
    assert_ok(hf_rename(volume, "almost/e", "d", 0));
    assert_err(hf_rename(volume, "d", "full/d", 0), EMLINK);
    assert_ok(hf_rename(volume, "d", "almost/d", 0));
    assert_ok(hf_volume_close(volume));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_links_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
