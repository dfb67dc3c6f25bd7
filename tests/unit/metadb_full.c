/* SPDX-License-Identifier: MIT */
/* metadb_full.c - neither region can overflow into what
 * lies behind it, and full is an error, not a damage. */
#include "metadb_util.h"

static char err[HF_BLOCKFS_ERR];

/* Marks what lies behind the two regions; they must never change. */
static void guard_write(struct hf_device *dev, const struct hf_blockfs_header *header)
{
    char bytes[4096];

    memset(bytes, 0x5a, sizeof(bytes));
    assert_ok(hf_dev_write(dev, bytes, sizeof(bytes), (hf_off_t)header->data_off));
    assert_ok(hf_dev_write(dev, bytes, sizeof(bytes), (hf_off_t)(header->volume_bytes - 8192)));
}

static void guard_check(struct hf_device *dev, const struct hf_blockfs_header *header)
{
    struct hf_blockfs_header again;
    char bytes[4096];

    assert_ok(hf_dev_read(dev, bytes, sizeof(bytes), (hf_off_t)header->data_off));
    assert_bytes(bytes, 0x5a, sizeof(bytes));
    assert_ok(hf_dev_read(dev, bytes, sizeof(bytes), (hf_off_t)(header->volume_bytes - 8192)));
    assert_bytes(bytes, 0x5a, sizeof(bytes));
    assert_ok(hf_blockfs_header_read(dev, false, &again, NULL, err));
}

/* Much metadata, little WAL. */
static struct hf_device *lopsided(struct hf_blockfs_header *ret_header)
{
    struct hf_mkfs_options opts = {.metadata_bytes = 6 << 20};
    struct hf_device *dev;

    assert_ok(hf_device_mem_new(8 << 20, &dev));
    assert_ok(hf_blockfs_mkfs(dev, &opts, err));
    assert_ok(hf_blockfs_header_read(dev, false, ret_header, NULL, err));
    assert_true(ret_header->metadb_len > 5 * ret_header->wal_len);
    guard_write(dev, ret_header);
    return dev;
}

static void a_transaction_larger_than_the_wal_is_rolled_back(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = lopsided(&header), *crashed;
    struct hf_metadb *db = metadb_open(dev, &header);

    (void)state;
    rows_create(db, 20);
    assert_ok(rows_step(db, 1));
    for (int round = 0; round < 3; round++) {
        assert_ok(hf_metadb_begin(db));
        assert_int_equal(
            sql_rc(db, "WITH RECURSIVE n(k) AS (SELECT 100 UNION ALL SELECT k + 1 FROM n WHERE k < 4000) "
                       "INSERT INTO rows SELECT k, 77, zeroblob(1000) FROM n"),
            SQLITE_FULL);
        hf_metadb_rollback(db);
        assert_int_equal(rows_generation(db), 1 + round);
        crashed = image_copy(dev);
        assert_ok(rows_step(db, 2 + round));
        guard_check(dev, &header);
        /* What the failed transaction left in the WAL is not believed after a crash, either. */
        {
            struct hf_metadb *found = metadb_open(crashed, &header);

            assert_int_equal(rows_generation(found), 1 + round);
            assert_int_equal(sql_number(found, "SELECT count(*) FROM rows"), 20);
            assert_ok(hf_metadb_quick_check(found, err));
            assert_ok(hf_metadb_close(found));
        }
        hf_dev_close(crashed);
    }
    assert_ok(hf_metadb_close(db));
    db = metadb_open(dev, &header);
    assert_int_equal(rows_generation(db), 4);
    assert_ok(hf_metadb_quick_check(db, err));
    assert_ok(hf_metadb_close(db));
    hf_dev_close(dev);
}

/* Whoever commits when wal_room says so never meets SQLITE_FULL, whatever a transaction does. */
static void wal_room_keeps_its_promise(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = lopsided(&header);
    struct hf_metadb *db = metadb_open(dev, &header);
    sqlite3_stmt *insert, *update;
    int commits = 0;

    (void)state;
    rows_create(db, 500);
    for (int i = 1; i < 4; i++) {
        char text[128];

        assert_ok(hf_metadb_begin(db));
        snprintf(text, sizeof(text), "INSERT INTO rows SELECT k + %d, 0, pad FROM rows WHERE k <= 500",
                 500 * i);
        sql(db, text);
        assert_ok(hf_metadb_commit(db));
    }
    assert_int_equal(sqlite3_prepare_v2(hf_metadb_handle(db), "INSERT INTO rows VALUES(?, 0, randomblob(?))",
                                        -1, &insert, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(hf_metadb_handle(db),
                                        "UPDATE rows SET pad = randomblob(?) WHERE k = ?", -1, &update, NULL),
                     SQLITE_OK);
    srand(3);
    assert_ok(hf_metadb_begin(db));
    assert_true(hf_metadb_wal_room(db) > 2 * HF_METADB_ROW_PAGES);
    for (int i = 0; i < 20000; i++) {
        bool inserting = i % 50 == 0;
        sqlite3_stmt *stmt = inserting ? insert : update;

        sqlite3_bind_int(stmt, inserting ? 1 : 2, inserting ? 10000 + i : 1 + rand() % 2000);
        sqlite3_bind_int(stmt, inserting ? 2 : 1, 500 + rand() % 700);
        assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
        assert_int_equal(sqlite3_reset(stmt), SQLITE_OK);
        if (hf_metadb_wal_room(db) < HF_METADB_ROW_PAGES || rand() % 3000 == 0) {
            assert_ok(hf_metadb_commit(db));
            assert_ok(hf_metadb_begin(db));
            assert_true(hf_metadb_wal_room(db) > 2 * HF_METADB_ROW_PAGES);
            commits++;
        }
    }
    assert_ok(hf_metadb_commit(db));
    assert_true(commits > 10);
    sqlite3_finalize(insert);
    sqlite3_finalize(update);
    assert_ok(hf_metadb_quick_check(db, err));
    assert_ok(hf_metadb_close(db));
    guard_check(dev, &header);
    hf_dev_close(dev);
}

static void a_full_metadata_region_is_enospc_and_can_be_emptied(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = volume_new(2 << 20, 4096, &header), *crashed;
    struct hf_metadb *db = metadb_open(dev, &header);
    struct hf_metadb_room room;
    int64_t k = 1000;
    int rc = SQLITE_OK;

    (void)state;
    guard_write(dev, &header);
    rows_create(db, 10);
    while (rc == SQLITE_OK) {
        char text[100];

        assert_ok(hf_metadb_begin(db));
        snprintf(text, sizeof(text), "INSERT INTO rows VALUES(%lld, 0, zeroblob(3000))", (long long)k);
        rc = sql_rc(db, text);
        if (rc == SQLITE_OK) {
            assert_ok(hf_metadb_commit(db));
            k++;
        }
    }
    assert_int_equal(rc, SQLITE_FULL);
    hf_metadb_rollback(db);
    assert_true(k > 1010);
    assert_ok(hf_metadb_room(db, &room));
    assert_true(room.db_pages < 3);
    assert_ok(hf_metadb_checkpoint(db));
    assert_ok(hf_metadb_quick_check(db, err));
    guard_check(dev, &header);
    crashed = image_copy(dev);
    {
        struct hf_metadb *found = metadb_open(crashed, &header);

        assert_int_equal(sql_number(found, "SELECT count(*) FROM rows"), 10 + k - 1000);
        assert_ok(hf_metadb_close(found));
    }
    hf_dev_close(crashed);
    assert_ok(hf_metadb_begin(db));
    sql(db, "DELETE FROM rows WHERE k >= 1000");
    assert_ok(hf_metadb_commit(db));
    assert_ok(hf_metadb_room(db, &room));
    assert_true(room.db_pages > 10);
    assert_ok(rows_step(db, 5));
    assert_ok(hf_metadb_close(db));
    guard_check(dev, &header);
    hf_dev_close(dev);
}

static void a_device_without_space_is_enospc(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev;
    struct hf_metadb *db;

    (void)state;
    assert_ok(hf_device_fault_new(volume_new(1 << 20, 4096, &header), &dev));
    db = metadb_open(dev, &header);
    rows_create(db, 10);
    hf_device_fault_set(dev, &(struct hf_device_faults){.fail_write_at = 1, .count = 1, .error = ENOSPC});
    assert_err(rows_step(db, 1), ENOSPC);
    assert_int_equal(rows_generation(db), 0);
    assert_ok(rows_step(db, 2));
    assert_ok(hf_metadb_close(db));
    hf_dev_close(dev);
}

static void pages_kept_for_extents_shrink_as_rows_appear(void **state)
{
    (void)state;
    assert_int_equal(hf_metadb_extent_pages(0, 0), 0);
    assert_int_equal(hf_metadb_extent_pages(1, 0), 1);
    assert_int_equal(hf_metadb_extent_pages(4096, 0), HF_BLOCKFS_EXTENT_BYTES);
    assert_true(hf_metadb_extent_pages(4096, 4096) < HF_BLOCKFS_EXTENT_BYTES);
    assert_true(hf_metadb_extent_pages(4096, 4096) > HF_BLOCKFS_EXTENT_BYTES / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transaction_larger_than_the_wal_is_rolled_back),
        cmocka_unit_test(wal_room_keeps_its_promise),
        cmocka_unit_test(a_full_metadata_region_is_enospc_and_can_be_emptied),
        cmocka_unit_test(a_device_without_space_is_enospc),
        cmocka_unit_test(pages_kept_for_extents_shrink_as_rows_appear),
    };

    return cmocka_run_group_tests_name("metadb_full", tests, NULL, NULL);
}
