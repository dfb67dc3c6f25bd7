/* SPDX-License-Identifier: MIT */
/*
 * metadb_extent_bytes.c - an extent row never costs more than HF_BLOCKFS_EXTENT_BYTES of metadata, whatever
 * the history: this is what makes HOLD-2 true for metadata. Measured on SQLite itself, with the widest keys
 * there are.
 */
#include "check.h"

#include "fs/blockfs/format.h"

#include <sqlite3.h>

#define NR_ROWS 30000
#define INO_BASE 0x7fff0000ll  /* 4 bytes in a row */
#define LBLK_BASE (1ll << 46)  /* 6 bytes: the last blocks of the largest file */
#define PBLK_BASE (1ll << 46)  /* 6 bytes */
#define INO_ABSURD (1ll << 60) /* 8 bytes: more inodes than any volume can have */

struct rows {
    sqlite3 *db;
    sqlite3_stmt *insert, *delete;
    int64_t live;
};

static int64_t number(sqlite3 *db, const char *text)
{
    sqlite3_stmt *stmt;
    int64_t value;

    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
}

static void rows_init(struct rows *rows)
{
    assert_int_equal(sqlite3_open(":memory:", &rows->db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(rows->db,
                     "PRAGMA page_size = 4096; CREATE TABLE extents(ino INTEGER NOT NULL, lblk INTEGER "
                     "NOT NULL, pblk INTEGER NOT NULL, len INTEGER NOT NULL, flags INTEGER NOT NULL, "
                     "PRIMARY KEY(ino, lblk)) WITHOUT ROWID; BEGIN",
                     NULL, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(rows->db, "INSERT INTO extents VALUES(?1, ?2, ?3, 1, 0)", -1, &rows->insert, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(rows->db, "DELETE FROM extents WHERE ino = ?1 AND lblk = ?2", -1,
                                        &rows->delete, NULL),
                     SQLITE_OK);
    rows->live = 0;
}

static void rows_done(struct rows *rows)
{
    sqlite3_finalize(rows->insert);
    sqlite3_finalize(rows->delete);
    sqlite3_close(rows->db);
}

static void row_insert(struct rows *rows, int64_t ino, int64_t lblk)
{
    sqlite3_bind_int64(rows->insert, 1, ino);
    sqlite3_bind_int64(rows->insert, 2, lblk);
    sqlite3_bind_int64(rows->insert, 3, PBLK_BASE + lblk % 1000000);
    assert_int_equal(sqlite3_step(rows->insert), SQLITE_DONE);
    sqlite3_reset(rows->insert);
    rows->live++;
}

static void row_delete(struct rows *rows, int64_t ino, int64_t lblk)
{
    sqlite3_bind_int64(rows->delete, 1, ino);
    sqlite3_bind_int64(rows->delete, 2, lblk);
    assert_int_equal(sqlite3_step(rows->delete), SQLITE_DONE);
    sqlite3_reset(rows->delete);
    rows->live -= sqlite3_changes(rows->db);
}

static double bytes_per_row(struct rows *rows)
{
    int64_t pages = number(rows->db, "PRAGMA page_count") - number(rows->db, "PRAGMA freelist_count") - 1;

    return (double)pages * 4096 / (double)rows->live;
}

static void check(struct rows *rows, double least)
{
    double bytes = bytes_per_row(rows);

    assert_true(rows->live > NR_ROWS * 9 / 10); /* it is the full volume that counts */
    assert_that(bytes <= HF_BLOCKFS_EXTENT_BYTES, "%.1f bytes a row", bytes);
    assert_that(bytes >= least, "only %.1f bytes a row: the case is not the bad one it was meant to be",
                bytes);
}

static void in_descending_order(void **state)
{
    struct rows rows;

    (void)state;
    rows_init(&rows);
    for (int64_t i = 0; i < NR_ROWS; i++)
        row_insert(&rows, INO_BASE, LBLK_BASE - i * 64);
    check(&rows, 45);
    rows_done(&rows);
}

static void in_random_order(void **state)
{
    struct rows rows;

    (void)state;
    rows_init(&rows);
    for (int64_t i = 0; i < NR_ROWS; i++) /* 7919 is prime to NR_ROWS */
        row_insert(&rows, INO_BASE, LBLK_BASE + i * 7919 % NR_ROWS * 64);
    check(&rows, 25);
    rows_done(&rows);
}

/*
 * The worst we know: fill, delete so that each leaf keeps just more than the third below which SQLite would
 * merge it, fill what became free with the next file, and so on.
 */
static void adversary(int64_t ino_base, int keep_of_20, bool descending, double least)
{
    struct rows rows;

    rows_init(&rows);
    for (int64_t round = 0; rows.live < NR_ROWS * 98 / 100; round++) {
        int64_t nr = NR_ROWS - rows.live;

        for (int64_t i = 0; i < nr; i++)
            row_insert(&rows, ino_base + round, LBLK_BASE + (descending ? -i : i) * 64);
        if (nr < NR_ROWS / 200)
            break;
        for (int64_t i = 0; i < nr; i++)
            if (i % 20 >= keep_of_20)
                row_delete(&rows, ino_base + round, LBLK_BASE + (descending ? -i : i) * 64);
    }
    check(&rows, least);
    rows_done(&rows);
}

static void leaves_kept_a_third_full(void **state)
{
    (void)state;
    for (int keep = 7; keep <= 14; keep++) {
        adversary(INO_BASE, keep, false, 25);
        adversary(INO_BASE, keep, true, 25);
    }
    adversary(INO_BASE, 8, false, 65);
}

static void even_with_inode_numbers_of_eight_bytes(void **state)
{
    (void)state;
    adversary(INO_ABSURD, 8, false, 70);
    adversary(INO_ABSURD, 7, false, 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_descending_order),
        cmocka_unit_test(in_random_order),
        cmocka_unit_test(leaves_kept_a_third_full),
        cmocka_unit_test(even_with_inode_numbers_of_eight_bytes),
    };

    return cmocka_run_group_tests_name("metadb_extent_bytes", tests, NULL, NULL);
}
