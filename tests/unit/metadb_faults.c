/* SPDX-License-Identifier: MIT */
/*
 * metadb_faults.c - each single write, flush and read of a run of commits and checkpoints fails once, or from
 * there on for ever. A commit that returned 0 is found again, one that failed is there as a whole or not at
 * all, and when the device is well again so is the database.
 */
#include "metadb_util.h"

#define VOLUME_BYTES (1 << 20)
#define NR_ROWS 12
#define NR_STEPS 12

static char err[HF_BLOCKFS_ERR];

enum kind { FAIL_WRITE, FAIL_FLUSH, FAIL_READ };

static void fault_set(struct hf_device *dev, enum kind kind, uint64_t n, uint64_t count)
{
    hf_device_fault_set(dev, &(struct hf_device_faults){
                                 .fail_write_at = kind == FAIL_WRITE ? n : 0,
                                 .fail_flush_at = kind == FAIL_FLUSH ? n : 0,
                                 .fail_read_at = kind == FAIL_READ ? n : 0,
                                 .count = count,
                             });
}

/* Commits until the end; *ret_sure: the last that returned
 * 0. Returns how many steps or checkpoints failed. */
static int run_steps(struct hf_metadb *db, int64_t *ret_sure)
{
    int64_t sure = 0;
    int failed = 0;

    for (int64_t generation = 1; generation <= NR_STEPS; generation++) {
        int ret = rows_step(db, generation);

        assert_true(ret == 0 || ret == -EIO);
        assert_false(hf_metadb_in_transaction(db));
        if (ret == 0)
            sure = generation;
        failed += ret != 0;
        if (generation % 5 == 0)
            failed += hf_metadb_checkpoint(db) != 0;
    }
    *ret_sure = sure;
    return failed;
}

/* The image as a crash would leave it now, and the same after the device is well again. */
static void check_after(struct hf_device *dev, struct hf_metadb *db, const struct hf_blockfs_header *header,
                        int64_t sure)
{
    struct hf_device *crashed;
    struct hf_metadb *found;
    int64_t generation;

    hf_device_fault_set(dev, &(struct hf_device_faults){0});
    crashed = image_copy(dev);
    found = metadb_open(crashed, header);
    generation = rows_generation(found);
    assert_that(generation >= sure && generation <= NR_STEPS, "crashed: %lld, sure %lld",
                (long long)generation, (long long)sure);
    assert_ok(hf_metadb_quick_check(found, err));
    assert_ok(hf_metadb_close(found));
    hf_dev_close(crashed);

    assert_int_equal(rows_generation(db), sure); /* in memory a failed commit is undone */
    assert_ok(rows_step(db, 1000));
    assert_ok(hf_metadb_close(db));
    db = metadb_open(dev, header);
    assert_int_equal(rows_generation(db), 1000);
    assert_ok(hf_metadb_quick_check(db, err));
    assert_ok(hf_metadb_close(db));
}

static void run(enum kind kind, uint64_t count)
{
    struct hf_blockfs_header header;
    struct hf_device *base = volume_new(VOLUME_BYTES, 512, &header);
    struct hf_metadb *db = metadb_open(base, &header);
    uint64_t n = 0, nr_failed = 0, seen;

    rows_create(db, NR_ROWS);
    assert_ok(hf_metadb_close(db));
    do {
        struct hf_device_counts counts;
        struct hf_device *dev;
        int64_t sure;

        assert_ok(hf_device_fault_new(image_copy(base), &dev));
        db = metadb_open(dev, &header);
        fault_set(dev, kind, ++n, count);
        nr_failed += run_steps(db, &sure) != 0;
        hf_device_fault_counts(dev, &counts);
        seen = kind == FAIL_WRITE ? counts.writes : counts.flushes;
        check_after(dev, db, &header, sure);
        hf_dev_close(dev);
    } while (seen >= n);
    /* A checkpoint that begin() tries may fail in silence, as long as there is room; a commit may not. */
    assert_true(n > 10 && nr_failed > n / 2 && nr_failed < n);
    hf_dev_close(base);
}

static void any_one_write_fails(void **state)
{
    (void)state;
    run(FAIL_WRITE, 1);
}

static void all_writes_fail_from_one_on(void **state)
{
    (void)state;
    run(FAIL_WRITE, 0);
}

static void any_one_flush_fails(void **state)
{
    (void)state;
    run(FAIL_FLUSH, 1);
}

static void all_flushes_fail_from_one_on(void **state)
{
    (void)state;
    run(FAIL_FLUSH, 0);
}

static void reads_fail(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *base = volume_new(VOLUME_BYTES, 512, &header), *dev;
    struct hf_metadb *db = metadb_open(base, &header);
    int ret = -EIO;
    uint64_t n;

    (void)state;
    rows_create(db, NR_ROWS);
    assert_ok(hf_metadb_close(db));
    for (n = 1; ret; n++) {
        assert_ok(hf_device_fault_new(image_copy(base), &dev));
        fault_set(dev, FAIL_READ, n, 1);
        err[0] = 0;
        ret = hf_metadb_open(dev, &header, false, err, &db);
        assert_true(ret == 0 || (ret == -EIO && err[0]));
        if (!ret) {
            int rc = sql_rc(db, "SELECT sum(length(pad)) FROM rows");

            assert_true(hf_metadb_errno(rc) == 0 || hf_metadb_errno(rc) == -EIO);
            ret = hf_metadb_errno(rc);
            hf_device_fault_set(dev, &(struct hf_device_faults){0});
            assert_int_equal(rows_generation(db), 0);
            assert_ok(hf_metadb_close(db));
        }
        hf_dev_close(dev);
    }
    assert_true(n > 5);
    hf_dev_close(base);
}

/* Closing on a dead device reports it; what was committed is in the WAL. */
static void a_close_that_cannot_checkpoint_loses_nothing(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev;
    struct hf_metadb *db;

    (void)state;
    assert_ok(hf_device_fault_new(volume_new(VOLUME_BYTES, 512, &header), &dev));
    db = metadb_open(dev, &header);
    rows_create(db, NR_ROWS);
    assert_ok(rows_step(db, 3));
    fault_set(dev, FAIL_WRITE, 1, 0);
    assert_err(hf_metadb_close(db), EIO);
    hf_device_fault_set(dev, &(struct hf_device_faults){0});
    db = metadb_open(dev, &header);
    assert_int_equal(rows_generation(db), 3);
    assert_ok(hf_metadb_close(db));
    hf_dev_close(dev);
}

/* A WAL that cannot be emptied fills up; then begin() says why, instead of a "no space" that is not true. */
static void a_checkpoint_that_fails_for_ever_stops_begin_with_eio(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev;
    struct hf_metadb *db;
    int64_t generation = 0;
    int ret;

    (void)state;
    assert_ok(hf_device_fault_new(volume_new(4 << 20, 512, &header), &dev));
    db = metadb_open(dev, &header);
    rows_create(db, NR_ROWS);
    hf_device_fault_set(dev, &(struct hf_device_faults){.fail_write_at = 1,
                                                        .range_start = (hf_off_t)header.metadb_off,
                                                        .range_end = (hf_off_t)header.wal_off});
    while ((ret = rows_step(db, generation + 1)) == 0)
        generation++;
    assert_int_equal(ret, -EIO);
    assert_true(generation > 5);
    assert_int_equal(rows_generation(db), generation);
    hf_device_fault_set(dev, &(struct hf_device_faults){0});
    assert_ok(rows_step(db, 1000));
    assert_ok(hf_metadb_close(db));
    hf_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_one_write_fails),
        cmocka_unit_test(all_writes_fail_from_one_on),
        cmocka_unit_test(any_one_flush_fails),
        cmocka_unit_test(all_flushes_fail_from_one_on),
        cmocka_unit_test(reads_fail),
        cmocka_unit_test(a_close_that_cannot_checkpoint_loses_nothing),
        cmocka_unit_test(a_checkpoint_that_fails_for_ever_stops_begin_with_eio),
    };

    return cmocka_run_group_tests_name("metadb_faults", tests, NULL, NULL);
}
