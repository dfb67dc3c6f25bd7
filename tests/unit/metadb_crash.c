/* SPDX-License-Identifier: MIT */
/*
 * metadb_crash.c - the power is cut after each single write of a run that commits, checkpoints and goes
 * around the WAL; unflushed writes are all there, not there, torn by sectors, or garbage. What is found then
 * is one committed generation, and none that commit() had returned is missing.
 */
#include "metadb_util.h"

#define VOLUME_BYTES (1 << 20)
#define NR_ROWS 12
#define NR_STEPS 40

static char err[HF_BLOCKFS_ERR];

static void check_image(struct hf_device *image, const struct hf_blockfs_header *header, int64_t least,
                        int64_t most, size_t nr)
{
    struct hf_metadb *db = metadb_open(image, header);
    int64_t found = rows_generation(db);

    assert_that(found >= least && found <= most, "after write %zu: generation %lld, wanted %lld to %lld", nr,
                (long long)found, (long long)least, (long long)most);
    assert_ok(hf_metadb_quick_check(db, err));
    /* And it goes on from there. */
    assert_ok(rows_step(db, most + 1));
    assert_ok(hf_metadb_close(db));
    db = metadb_open(image, header);
    assert_int_equal(rows_generation(db), most + 1);
    assert_ok(hf_metadb_close(db));
    hf_dev_close(image);
}

static void run(enum log_cut cut, unsigned nr_seeds)
{
    struct hf_blockfs_header header;
    struct hf_device *base = volume_new(VOLUME_BYTES, 512, &header), *dev;
    struct hf_metadb *db = metadb_open(base, &header);
    size_t began[NR_STEPS + 2], done[NR_STEPS + 2];
    struct write_log *log;
    int64_t least = 0, most = 0;

    rows_create(db, NR_ROWS);
    assert_ok(hf_metadb_close(db));
    dev = log_new(image_copy(base), &log);
    db = metadb_open(dev, &header);
    for (int64_t generation = 1; generation <= NR_STEPS; generation++) {
        began[generation] = log_count(log);
        assert_ok(rows_step(db, generation));
        done[generation] = log_count(log);
        if (generation % 15 == 0)
            assert_ok(hf_metadb_checkpoint(db));
    }
    assert_ok(hf_metadb_close(db));
    for (size_t nr = 0; nr <= log_count(log); nr++) {
        while (least < NR_STEPS && done[least + 1] <= nr)
            least++;
        while (most < NR_STEPS && began[most + 1] < nr)
            most++;
        for (unsigned seed = 1; seed <= nr_seeds; seed++)
            check_image(log_image(log, base, nr, cut, seed * 7919 + (unsigned)nr), &header, least, most, nr);
    }
    hf_dev_close(dev);
    hf_dev_close(base);
}

static void every_issued_write_is_there(void **state)
{
    (void)state;
    run(LOG_CUT_ALL, 1);
}

static void no_unflushed_write_is_there(void **state)
{
    (void)state;
    run(LOG_CUT_NONE, 1);
}

static void unflushed_writes_are_torn_and_reordered(void **state)
{
    (void)state;
    run(LOG_CUT_RANDOM, 3);
}

static void sectors_in_flight_are_garbage(void **state)
{
    (void)state;
    run(LOG_CUT_GARBAGE, 3);
}

static void a_volume_of_which_only_the_wal_has_the_schema(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = volume_new(VOLUME_BYTES, 512, &header), *crashed;
    struct hf_metadb *db = metadb_open(dev, &header);

    (void)state;
    rows_create(db, NR_ROWS);
    crashed = image_copy(dev);
    assert_ok(hf_metadb_close(db));
    check_image(crashed, &header, 0, 0, 0);
    hf_dev_close(dev);
}

/* Crash, recover, crash again before anything was checkpointed, many times: nothing is lost, nothing comes
 * back. */
static void crash_upon_crash(void **state)
{
    struct hf_blockfs_header header;
    struct hf_device *dev = volume_new(VOLUME_BYTES, 512, &header), *crashed;
    struct hf_metadb *db = metadb_open(dev, &header);

    (void)state;
    rows_create(db, NR_ROWS);
    for (int64_t generation = 1; generation <= 60; generation++) {
        assert_ok(rows_step(db, generation));
        crashed = image_copy(dev);
        assert_ok(hf_metadb_close(db));
        hf_dev_close(dev);
        dev = crashed;
        db = metadb_open(dev, &header);
        assert_int_equal(rows_generation(db), generation);
    }
    assert_ok(hf_metadb_close(db));
    hf_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_issued_write_is_there),
        cmocka_unit_test(no_unflushed_write_is_there),
        cmocka_unit_test(unflushed_writes_are_torn_and_reordered),
        cmocka_unit_test(sectors_in_flight_are_garbage),
        cmocka_unit_test(a_volume_of_which_only_the_wal_has_the_schema),
        cmocka_unit_test(crash_upon_crash),
    };

    return cmocka_run_group_tests_name("metadb_crash", tests, NULL, NULL);
}
