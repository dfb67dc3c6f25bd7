/* SPDX-License-Identifier: MIT */
/*
 * commits_are_shared.c - threads that sync at once share flushes; data in place costs no commit; and a file
 * whose device I/O does not come to an end keeps nobody else waiting.
 *
 * Nothing here is a matter of time: the device holds a flush, or the I/O of one file, until the test lets go.
 * A file that did wait for another one would wait for ever, and the test's timeout would end it.
 */
#define _GNU_SOURCE
#include "check.h"

#include "base/lock.h"
#include "dev/device_io.h"
#include "fs/blockfs/format.h"
#include "fs/blockfs/testing.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#define DEVICE_BYTES (4 << 20)
#define BLOCK 4096
#define THREADS 16
#define HELD 'X' /* I/O of blocks that begin so can be held */

/* ---- a device that can be made to wait */

enum { OPEN = 0, ARMED, HOLDING };

struct gate_device {
    struct hf_device base;
    struct hf_device *lower;
    _Atomic uint32_t flushes, data; /* OPEN, ARMED: the next one is held; HOLDING: one is */
};

static void gate_pass(_Atomic uint32_t *gate)
{
    uint32_t armed = ARMED;

    if (!atomic_compare_exchange_strong(gate, &armed, HOLDING))
        return;
    hf_futex_wake(gate, INT_MAX);
    while (atomic_load(gate) == HOLDING)
        hf_futex_wait(gate, HOLDING, -1);
}

static void gate_wait(_Atomic uint32_t *gate)
{
    while (atomic_load(gate) == ARMED)
        hf_futex_wait(gate, ARMED, -1);
}

static void gate_open(_Atomic uint32_t *gate)
{
    atomic_store(gate, OPEN);
    hf_futex_wake(gate, INT_MAX);
}

static int gate_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    struct gate_device *gate = (struct gate_device *)dev;
    int ret = hf_dev_read(gate->lower, buf, len, off);

    if (len >= BLOCK && *(char *)buf == HELD)
        gate_pass(&gate->data);
    return ret;
}

static int gate_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    struct gate_device *gate = (struct gate_device *)dev;

    if (len >= BLOCK && *(const char *)buf == HELD)
        gate_pass(&gate->data);
    return hf_dev_write(gate->lower, buf, len, off);
}

static int gate_flush(struct hf_device *dev)
{
    struct gate_device *gate = (struct gate_device *)dev;

    gate_pass(&gate->flushes);
    return hf_dev_flush(gate->lower);
}

static void gate_close(struct hf_device *dev)
{
    (void)dev; /* the test's */
}

struct bench {
    struct gate_device gate;
    struct hf_device *counts; /* below the gate */
    struct hf_volume *vol;
};

static void volume_open(struct bench *bench)
{
    const struct hf_open_options opts = {.writeback_ms = 3600000};

    assert_ok(hf_volume_open_device(&bench->gate.base, &opts, &bench->vol));
}

static void bench_init(struct bench *bench)
{
    static const struct hf_device_ops ops = {
        .read = gate_read, .write = gate_write, .flush = gate_flush, .close = gate_close};
    struct hf_device *mem;
    char err[HF_BLOCKFS_ERR];

    memset(bench, 0, sizeof(*bench));
    assert_ok(hf_device_mem_new(DEVICE_BYTES, &mem));
    assert_ok(hf_blockfs_mkfs(mem, &(struct hf_mkfs_options){.block_size = BLOCK}, err));
    assert_ok(hf_device_fault_new(mem, &bench->counts));
    bench->gate.base = *bench->counts;
    bench->gate.base.ops = &ops;
    bench->gate.lower = bench->counts;
    volume_open(bench);
}

static void bench_done(struct bench *bench)
{
    assert_ok(hf_volume_close(bench->vol));
    hf_dev_close(bench->counts);
}

static struct hf_device_counts counts_of(struct bench *bench)
{
    struct hf_device_counts counts;

    hf_device_fault_counts(bench->counts, &counts);
    return counts;
}

static struct hf_file *file_new(struct bench *bench, const char *path, char value, int nr_blocks)
{
    struct hf_file *file;
    char buf[BLOCK];

    memset(buf, value, sizeof(buf));
    assert_ok(hf_open(bench->vol, path, O_RDWR | O_CREAT, 0600, &file));
    for (int i = 0; i < nr_blocks; i++)
        assert_count(hf_pwrite(file, buf, sizeof(buf), (hf_off_t)i * BLOCK), sizeof(buf));
    return file;
}

/* ---- threads that call one thing */

struct syncer {
    pthread_t thread;
    struct hf_file *file;
    bool reads; /* instead of fsync */
    int64_t result;
};

static void *syncer_main(void *arg)
{
    struct syncer *syncer = arg;
    char buf[BLOCK];

    syncer->result = syncer->reads ? hf_pread(syncer->file, buf, BLOCK, 0) : hf_fsync(syncer->file);
    return NULL;
}

static void syncer_start(struct syncer *syncer, struct hf_file *file, bool reads)
{
    *syncer = (struct syncer){.file = file, .reads = reads};
    assert_int_equal(pthread_create(&syncer->thread, NULL, syncer_main, syncer), 0);
}

/* So many threads have their tickets, and wait for the commit that is held. */
static void wait_for_waiters(unsigned nr)
{
    while (atomic_load(&hf_test_commit_waiters) != nr)
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void threads_share_flushes(void **state)
{
    struct syncer syncers[THREADS];
    struct hf_file *files[THREADS];
    struct bench bench;
    uint64_t before, alone, together;

    (void)state;
    bench_init(&bench);
    for (int i = 0; i < THREADS; i++)
        files[i] = file_new(&bench, (char[]){(char)('a' + i), 0}, 'a', 1);
    assert_ok(hf_volume_sync(bench.vol));
    before = counts_of(&bench).flushes;
    assert_count(hf_pwrite(files[0], "more", 4, BLOCK), 4);
    assert_ok(hf_fsync(files[0]));
    alone = counts_of(&bench).flushes - before;
    for (int i = 0; i < THREADS; i++)
        assert_count(hf_pwrite(files[i], "more", 4, 2 * BLOCK), 4);

    before = counts_of(&bench).flushes;
    atomic_store(&bench.gate.flushes, ARMED);
    syncer_start(&syncers[0], files[0], false);
    gate_wait(&bench.gate.flushes);
    for (int i = 1; i < THREADS; i++)
        syncer_start(&syncers[i], files[i], false);
    wait_for_waiters(THREADS - 1);
    gate_open(&bench.gate.flushes);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(syncers[i].thread, NULL);
        assert_ok(syncers[i].result);
    }
    together = counts_of(&bench).flushes - before;
    assert_that(alone > 0 && together == 2 * alone, "%d syncs at once need %llu flushes, one alone %llu",
                THREADS, (unsigned long long)together, (unsigned long long)alone);
    for (int i = 0; i < THREADS; i++)
        assert_ok(hf_close(files[i]));
    bench_done(&bench);
}

static void data_in_place_costs_no_commit(void **state)
{
    struct hf_device_counts before, after;
    struct bench bench;
    struct hf_file *file;

    (void)state;
    bench_init(&bench);
    file = file_new(&bench, "/f", 'a', 4);
    assert_ok(hf_fsync(file));
    assert_count(hf_pwrite(file, "in place", 8, BLOCK), 8);
    before = counts_of(&bench);
    assert_ok(hf_fdatasync(file));
    after = counts_of(&bench);
    assert_count(after.writes - before.writes, 1); /* the block, and nothing of the database */
    assert_count(after.flushes - before.flushes, 1);
    assert_count(hf_pwrite(file, "grows", 5, 6 * BLOCK), 5);
    before = counts_of(&bench);
    assert_ok(hf_fdatasync(file));
    after = counts_of(&bench);
    assert_true(after.writes - before.writes > 1);
    assert_ok(hf_close(file));
    bench_done(&bench);
}

/* Everything that a program does with another file. */
static void work_on_other(struct bench *bench, struct hf_file *other)
{
    struct hf_file *made;
    struct stat st;
    char buf[BLOCK];
    void *map;

    assert_count(hf_pread(other, buf, BLOCK, 0), BLOCK);
    assert_count(hf_pwrite(other, "written", 7, 5 * BLOCK), 7);
    assert_ok(hf_mmap(other, NULL, 8 * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &map));
    assert_ok(hf_load(buf, (char *)map + BLOCK, 8, NULL));
    assert_ok(hf_store((char *)map + BLOCK, "stored", 6, NULL));
    assert_ok(hf_msync(map, 8 * BLOCK, MS_SYNC));
    assert_ok(hf_munmap(map, 8 * BLOCK));
    assert_ok(hf_ftruncate(other, 20 * BLOCK));
    assert_ok(hf_fsync(other));
    assert_ok(hf_open(bench->vol, "/made", O_RDWR | O_CREAT, 0600, &made));
    assert_count(hf_pwrite(made, "new", 3, 0), 3);
    assert_ok(hf_fsync(made));
    assert_ok(hf_close(made));
    assert_ok(hf_stat(bench->vol, "/other", &st));
    assert_ok(hf_unlink(bench->vol, "/made"));
}

static void a_write_that_does_not_end_keeps_nobody_waiting(void **state)
{
    struct hf_file *held, *other;
    struct syncer syncer;
    struct bench bench;

    (void)state;
    bench_init(&bench);
    other = file_new(&bench, "/other", 'o', 4);
    assert_ok(hf_volume_sync(bench.vol));
    held = file_new(&bench, "/held", HELD, 2);
    atomic_store(&bench.gate.data, ARMED);
    syncer_start(&syncer, held, false);
    gate_wait(&bench.gate.data);
    work_on_other(&bench, other);
    assert_true(atomic_load(&bench.gate.data) == HOLDING);
    gate_open(&bench.gate.data);
    pthread_join(syncer.thread, NULL);
    assert_ok(syncer.result);
    assert_ok(hf_close(held));
    assert_ok(hf_close(other));
    bench_done(&bench);
}

static void a_read_that_does_not_end_keeps_nobody_waiting(void **state)
{
    struct hf_file *held, *other;
    struct syncer syncer;
    struct bench bench;

    (void)state;
    bench_init(&bench);
    assert_ok(hf_close(file_new(&bench, "/other", 'o', 4)));
    assert_ok(hf_close(file_new(&bench, "/held", HELD, 2)));
    assert_ok(hf_volume_close(bench.vol)); /* so that nothing is cached */
    volume_open(&bench);
    assert_ok(hf_open(bench.vol, "/other", O_RDWR, 0, &other));
    assert_ok(hf_open(bench.vol, "/held", O_RDWR, 0, &held));
    atomic_store(&bench.gate.data, ARMED);
    syncer_start(&syncer, held, true);
    gate_wait(&bench.gate.data);
    work_on_other(&bench, other);
    assert_true(atomic_load(&bench.gate.data) == HOLDING);
    gate_open(&bench.gate.data);
    pthread_join(syncer.thread, NULL);
    assert_count(syncer.result, BLOCK);
    assert_ok(hf_close(held));
    assert_ok(hf_close(other));
    bench_done(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_flushes),
        cmocka_unit_test(data_in_place_costs_no_commit),
        cmocka_unit_test(a_write_that_does_not_end_keeps_nobody_waiting),
        cmocka_unit_test(a_read_that_does_not_end_keeps_nobody_waiting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
