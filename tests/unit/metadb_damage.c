/* SPDX-License-Identifier: MIT */
/*
 * metadb_damage.c - bytes of the database and of its WAL are damaged, page by page. Opening and reading then
 * work, or end with -EUCLEAN and a line; they do not crash, do not hang, and a failed open has written
 * nothing.
 */
#include "metadb_util.h"

#define VOLUME_BYTES (1 << 20)

static char err[HF_BLOCKFS_ERR];

/* Everything a mount would read, and a little writing if it came that far. -> 0, or how it failed. */
static int use(struct hf_device *lower, const struct hf_blockfs_header *header, bool read_only)
{
    struct hf_device *dev, *before = image_copy(lower);
    struct hf_device_counts counts;
    struct hf_metadb *db = NULL;
    int ret, rc;

    assert_ok(hf_device_fault_new(image_copy(lower), &dev));
    err[0] = 0;
    ret = hf_metadb_open(dev, header, read_only, err, &db);
    hf_device_fault_counts(dev, &counts);
    assert_int_equal(counts.writes, 0);
    if (ret == 0) {
        ret = hf_metadb_quick_check(db, err);
        rc = sql_rc(db, "SELECT count(*), sum(generation), sum(length(pad)) FROM rows");
        assert_true(hf_metadb_errno(rc) == 0 || hf_metadb_errno(rc) == -EUCLEAN);
        if (!read_only)
            rows_step(db, 99);
        hf_metadb_close(db);
    }
    assert_that(ret == 0 || ret == -EUCLEAN, "%d: %s", ret, err);
    assert_true(ret == 0 || (strlen(err) > 10 && !strchr(err, '\n')));
    hf_dev_close(dev);
    hf_dev_close(before);
    return ret;
}

static struct hf_device *make(bool clean, struct hf_blockfs_header *ret_header)
{
    struct hf_device *dev = volume_new(VOLUME_BYTES, 4096, ret_header), *crashed;
    struct hf_metadb *db = metadb_open(dev, ret_header);

    rows_create(db, 12);
    assert_ok(hf_metadb_checkpoint(db));
    for (int64_t generation = 1; generation < 4; generation++)
        assert_ok(rows_step(db, generation));
    crashed = image_copy(dev);
    assert_ok(hf_metadb_close(db));
    hf_dev_close(clean ? crashed : dev);
    return clean ? dev : crashed;
}

/* Flips, zeros and scrambles parts of each page of a region. Returns how often it was noticed. */
static int damage_region(struct hf_device *dev, const struct hf_blockfs_header *header, uint64_t off,
                         uint64_t len)
{
    int noticed = 0;

    srand(11);
    for (uint64_t page = off; page < off + len; page += 4096) {
        for (int i = 0; i < 6; i++) {
            struct hf_device *bad = image_copy(dev);
            unsigned nr = i < 3 ? 1 : 40;
            /* The first bytes of a page are its structure. */
            unsigned within = i % 2 ? 4096 : 112;

            for (unsigned n = 0; n < nr; n++)
                image_flip(bad, page + (unsigned)rand() % within, (uint8_t)(1 + rand() % 255));
            noticed += use(bad, header, i % 3 == 0) != 0;
            hf_dev_close(bad);
        }
    }
    return noticed;
}

static void damaged_database_pages(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = make(true, &header);
    struct hf_metadb *db = metadb_open(dev, &header);
    int64_t pages = sql_number(db, "PRAGMA page_count");

    (void)state;
    assert_ok(hf_metadb_close(db));
    assert_true(damage_region(dev, &header, header.metadb_off, (uint64_t)pages * 4096) > pages);
    hf_dev_close(dev);
}

static void damaged_database_under_a_wal(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = make(false, &header);

    (void)state;
    damage_region(dev, &header, header.metadb_off, 12 * 4096);
    hf_dev_close(dev);
}

/* A WAL damaged in the middle ends there: an older generation, and a whole one. */
static void a_damaged_wal_ends_where_the_damage_is(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = make(false, &header), *bad;
    struct hf_metadb *db;
    int64_t generation, last = 3;

    (void)state;
    srand(5);
    for (int off = 32 + 4120 * 20; off >= 0; off -= 997) {
        bad = image_copy(dev);
        image_flip(bad, header.wal_off + (uint64_t)off, 0x20);
        db = metadb_open(bad, &header);
        generation = rows_generation(db);
        assert_true(generation >= 0 && generation <= last);
        assert_ok(hf_metadb_quick_check(db, err));
        assert_ok(rows_step(db, 50));
        last = generation;
        assert_ok(hf_metadb_close(db));
        hf_dev_close(bad);
    }
    assert_int_equal(last, 0);
    assert_int_equal(damage_region(dev, &header, header.wal_off, 12 * 4096), 0);
    hf_dev_close(dev);
}

static void page_one_field_by_field(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = make(true, &header);
    int noticed = 0;

    (void)state;
    for (unsigned off = 0; off < 112; off++) {
        for (unsigned value = 0; value < 256; value += value < 4 ? 1 : 36) {
            struct hf_device *bad = image_copy(dev);
            uint8_t byte = (uint8_t)value;

            assert_ok(hf_dev_write(bad, &byte, 1, (hf_off_t)(header.metadb_off + off)));
            noticed += use(bad, &header, value % 2) != 0;
            hf_dev_close(bad);
        }
    }
    assert_true(noticed > 200);
    hf_dev_close(dev);
}

static void no_database_at_all(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = make(true, &header);
    char bytes[4096];

    (void)state;
    for (int value = 0; value < 256; value += 51) {
        memset(bytes, value, sizeof(bytes));
        assert_ok(hf_dev_write(dev, bytes, sizeof(bytes), (hf_off_t)header.metadb_off));
        assert_err(use(dev, &header, false), EUCLEAN);
        assert_err(use(dev, &header, true), EUCLEAN);
    }
    hf_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_database_pages),
        cmocka_unit_test(damaged_database_under_a_wal),
        cmocka_unit_test(a_damaged_wal_ends_where_the_damage_is),
        cmocka_unit_test(page_one_field_by_field),
        cmocka_unit_test(no_database_at_all),
    };

    return cmocka_run_group_tests_name("metadb_damage", tests, NULL, NULL);
}
