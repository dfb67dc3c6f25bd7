/* SPDX-License-Identifier: MIT */
/* metadb_open.c - the database opens as it was left, with the settings it must have; read-only means no write
 * at all. */
#include "metadb_util.h"

#define VOLUME_BYTES (4 << 20)

static char err[HF_BLOCKFS_ERR];

static void what_is_committed_is_there_after_reopening(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = volume_new(VOLUME_BYTES, 512, &header);
    struct hf_metadb *db = metadb_open(dev, &header);

    (void)state;
    rows_create(db, 20);
    for (int64_t generation = 1; generation <= 200; generation++)
        assert_ok(rows_step(db, generation)); /* many times around the WAL */
    assert_ok(hf_metadb_begin(db));
    sql(db, "UPDATE rows SET generation = 999"); /* never committed */
    assert_ok(hf_metadb_close(db));
    db = metadb_open(dev, &header);
    assert_int_equal(rows_generation(db), 200);
    assert_ok(hf_metadb_quick_check(db, err));
    assert_ok(hf_metadb_close(db));
    hf_dev_close(dev);
}

static void the_settings_are_as_promised(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = volume_new(VOLUME_BYTES, 4096, &header);
    struct hf_metadb *db = metadb_open(dev, &header);
    char text[64];

    (void)state;
    assert_int_equal(sql_number(db, "PRAGMA synchronous"), 2);
    assert_int_equal(sql_number(db, "PRAGMA page_size"), 4096);
    assert_int_equal(sql_number(db, "PRAGMA temp_store"), 2);
    assert_int_equal(sql_number(db, "PRAGMA foreign_keys"), 0);
    assert_int_equal(sql_number(db, "PRAGMA cell_size_check"), 1);
    assert_int_equal(sql_number(db, "PRAGMA trusted_schema"), 0);
    assert_int_equal(sql_number(db, "PRAGMA wal_autocheckpoint"), 0);
    snprintf(text, sizeof(text), "SELECT 'exclusive' = locking_mode FROM pragma_locking_mode");
    assert_int_equal(sql_number(db, text), 1);
    assert_int_equal(sql_number(db, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1);
    assert_int_equal(sql_number(db, "PRAGMA max_page_count"), (int64_t)(header.metadb_len / 4096));
    assert_ok(hf_metadb_close(db));
    hf_dev_close(dev);
}

static void no_other_file_can_be_opened(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = volume_new(VOLUME_BYTES, 4096, &header);
    struct hf_metadb *db = metadb_open(dev, &header);

    (void)state;
    assert_int_equal(sql_rc(db, "ATTACH 'other' AS other") & 0xff, SQLITE_CANTOPEN);
    assert_int_equal(sql_rc(db, "ATTACH '/tmp/other' AS other") & 0xff, SQLITE_CANTOPEN);
    assert_int_equal(sql_rc(db, "ATTACH 'metadb-journal' AS other") & 0xff, SQLITE_CANTOPEN);
    /* Sorting and statement journals larger than any buffer stay in memory. */
    rows_create(db, 200);
    assert_ok(hf_metadb_begin(db));
    sql(db, "SAVEPOINT s; UPDATE rows SET pad = randomblob(1000); ROLLBACK TO s");
    sql(db, "SELECT count(*) FROM (SELECT a.pad FROM rows a, rows b WHERE b.k < 20 ORDER BY hex(a.pad))");
    assert_ok(hf_metadb_commit(db));
    assert_ok(hf_metadb_close(db));
    hf_dev_close(dev);
}

static void volumes_do_not_share_a_vfs_and_leave_none_behind(void **state)
{
    struct hf_blockfs_header header_a, header_b;
    struct hf_device *dev_a = volume_new(VOLUME_BYTES, 512, &header_a);
    struct hf_device *dev_b = volume_new(VOLUME_BYTES, 4096, &header_b);
    struct hf_metadb *a = metadb_open(dev_a, &header_a), *b = metadb_open(dev_b, &header_b);

    (void)state;
    rows_create(a, 3);
    rows_create(b, 3);
    assert_ok(rows_step(a, 1));
    assert_ok(rows_step(b, 2));
    assert_int_equal(rows_generation(a), 1);
    assert_int_equal(rows_generation(b), 2);
    assert_ok(hf_metadb_close(a));
    assert_int_equal(rows_generation(b), 2);
    assert_ok(hf_metadb_close(b));
    for (int i = 0; i < 1000; i++) {
        char name[32];

        snprintf(name, sizeof(name), "holdfast-%d", i);
        assert_null(sqlite3_vfs_find(name));
    }
    hf_dev_close(dev_a);
    hf_dev_close(dev_b);
}

/* Reads all of a volume through a read-only database on a device that counts. */
static void read_only_session(struct hf_device *lower, const struct hf_blockfs_header *header,
                              int64_t generation)
{
    struct hf_device *before = image_copy(lower), *dev;
    struct hf_device_counts counts;
    struct hf_metadb *db;

    assert_ok(hf_device_fault_new(image_copy(lower), &dev));
    assert_ok(hf_metadb_open(dev, header, true, err, &db));
    assert_int_equal(rows_generation(db), generation);
    assert_ok(hf_metadb_quick_check(db, err));
    assert_err(hf_metadb_begin(db), EROFS);
    assert_int_equal(sql_rc(db, "UPDATE rows SET generation = 0") & 0xff, SQLITE_READONLY);
    assert_err(hf_metadb_checkpoint(db), EROFS);
    assert_int_equal(rows_generation(db), generation);
    assert_ok(hf_metadb_close(db));
    hf_device_fault_counts(dev, &counts);
    assert_int_equal(counts.writes + counts.discards + counts.guarantees, 0);
    assert_true(image_same(dev, before));
    hf_dev_close(dev);
    hf_dev_close(before);
}

static void read_only_writes_nothing_after_a_clean_close(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = volume_new(VOLUME_BYTES, 512, &header);
    struct hf_metadb *db = metadb_open(dev, &header);

    (void)state;
    rows_create(db, 20);
    assert_ok(rows_step(db, 7));
    assert_ok(hf_metadb_close(db));
    read_only_session(dev, &header, 7);
    hf_dev_close(dev);
}

static void read_only_writes_nothing_with_a_wal_left_by_a_crash(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = volume_new(VOLUME_BYTES, 512, &header), *crashed;
    struct hf_metadb *db = metadb_open(dev, &header);

    (void)state;
    rows_create(db, 20);
    for (int64_t generation = 1; generation <= 5; generation++)
        assert_ok(rows_step(db, generation));
    crashed = image_copy(dev);
    read_only_session(crashed, &header, 5); /* what it reads lies in the WAL alone */
    assert_ok(hf_metadb_close(db));
    hf_dev_close(crashed);
    hf_dev_close(dev);
}

static void opening_to_write_writes_nothing_by_itself(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = volume_new(VOLUME_BYTES, 512, &header), *crashed, *counted;
    struct hf_metadb *db = metadb_open(dev, &header);
    struct hf_device_counts counts;

    (void)state;
    rows_create(db, 20);
    assert_ok(rows_step(db, 1));
    crashed = image_copy(dev);
    assert_ok(hf_metadb_close(db));
    assert_ok(hf_device_fault_new(crashed, &counted));
    db = metadb_open(counted, &header);
    assert_int_equal(rows_generation(db), 1);
    hf_device_fault_counts(counted, &counts);
    assert_int_equal(counts.writes, 0);
    assert_ok(rows_step(db, 2));
    assert_ok(hf_metadb_close(db));
    hf_dev_close(counted);
    hf_dev_close(dev);
}

static void result_codes_become_errnos(void **state)
{
    (void)state;
    assert_int_equal(hf_metadb_errno(SQLITE_OK), 0);
    assert_int_equal(hf_metadb_errno(SQLITE_ROW), 0);
    assert_int_equal(hf_metadb_errno(SQLITE_DONE), 0);
    assert_int_equal(hf_metadb_errno(SQLITE_FULL), -ENOSPC);
    assert_int_equal(hf_metadb_errno(SQLITE_NOMEM), -ENOMEM);
    assert_int_equal(hf_metadb_errno(SQLITE_IOERR_NOMEM), -ENOMEM);
    assert_int_equal(hf_metadb_errno(SQLITE_IOERR_FSYNC), -EIO);
    assert_int_equal(hf_metadb_errno(SQLITE_CORRUPT_INDEX), -EUCLEAN);
    assert_int_equal(hf_metadb_errno(SQLITE_NOTADB), -EUCLEAN);
    assert_int_equal(hf_metadb_errno(SQLITE_BUSY_RECOVERY), -EBUSY);
    assert_int_equal(hf_metadb_errno(SQLITE_READONLY), -EROFS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_committed_is_there_after_reopening),
        cmocka_unit_test(the_settings_are_as_promised),
        cmocka_unit_test(no_other_file_can_be_opened),
        cmocka_unit_test(volumes_do_not_share_a_vfs_and_leave_none_behind),
        cmocka_unit_test(read_only_writes_nothing_after_a_clean_close),
        cmocka_unit_test(read_only_writes_nothing_with_a_wal_left_by_a_crash),
        cmocka_unit_test(opening_to_write_writes_nothing_by_itself),
        cmocka_unit_test(result_codes_become_errnos),
    };

    return cmocka_run_group_tests_name("metadb_open", tests, NULL, NULL);
}
