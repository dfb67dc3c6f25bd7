/* SPDX-License-Identifier: MIT */
/*
 * flusher_commits.c - the timer commits names and attributes that nobody syncs, and leaves the device alone
 * when nothing is new; a sync that does not need a commit still flushes data in place.
 *
 * Waits are for things that must happen, with a bound that no load reaches; nothing here must be fast.
 */
#define _GNU_SOURCE
#include "wrapped_driver.h"

#include <sys/stat.h>
#include <time.h>

#define B 1024u
#define BYTES (4 << 20)
#define WAIT_MS 30000
#define PAUSE_MS 2

static const struct hf_driver *real;
static _Atomic unsigned syncs; /* that have ended */

static int counted_sync(struct hf_super *sb)
{
    int ret = real->sync(sb);

    atomic_fetch_add(&syncs, 1);
    return ret;
}

static void start(struct wrapped *w, uint32_t writeback_ms)
{
    const struct hf_open_options opts = {.writeback_ms = writeback_ms};

    wrapped_blockfs(w, BYTES, B);
    assert_ok(hf_device_fault_new(w->dev, &w->dev));
    real = w->real;
    w->driver.sync = counted_sync;
    wrapped_open(w, &opts);
}

static void stop(struct wrapped *w)
{
    assert_ok(wrapped_close(w));
    wrapped_free(w);
}

static struct hf_device_counts counts_of(struct wrapped *w)
{
    struct hf_device_counts counts;

    hf_device_fault_counts(w->dev, &counts);
    return counts;
}

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000}, NULL);
}

/* What hf_stat() says in a copy of the device, as it is now. A copy made during a write may not open:
 * -EAGAIN. */
static int stat_in_copy(struct wrapped *w, const char *path, struct stat *ret_st)
{
    struct hf_device *copy;
    struct hf_volume *volume;
    char *bytes = malloc(BYTES);
    int ret;

    assert_non_null(bytes);
    assert_ok(hf_dev_read(w->dev, bytes, BYTES, 0));
    assert_ok(hf_device_mem_new(BYTES, &copy));
    assert_ok(hf_dev_write(copy, bytes, BYTES, 0));
    free(bytes);
    ret = hf_volume_open_device(copy, &(struct hf_open_options){.writeback_ms = 3600000}, &volume);
    if (ret < 0)
        return -EAGAIN;
    ret = hf_stat(volume, path, ret_st);
    return hf_volume_close(volume) == 0 ? ret : -EAGAIN;
}

/* Until the copy says so: name there with that mode, or (mode 0) not there. */
static void wait_for(struct wrapped *w, const char *path, mode_t mode)
{
    for (int ms = 0; ms < WAIT_MS; ms += PAUSE_MS) {
        uint64_t flushes = counts_of(w).flushes;
        struct stat st;
        int ret = stat_in_copy(w, path, &st);

        if (mode == 0 ? ret == -ENOENT : ret == 0 && (st.st_mode & 07777) == mode)
            return;
        for (; ms < WAIT_MS && counts_of(w).flushes == flushes; ms += PAUSE_MS)
            pause_a_little();
    }
    fail_msg("nobody committed %s", path);
}

static void the_timer_commits_names_and_attributes(void **state)
{
    struct wrapped w;

    (void)state;
    start(&w, 10);
    assert_ok(hf_close(wrapped_file(&w, "/made", -1)));
    wait_for(&w, "/made", 0600);
    assert_ok(hf_rename(w.volume, "/made", "/renamed", 0));
    wait_for(&w, "/renamed", 0600);
    wait_for(&w, "/made", 0);
    assert_ok(hf_chmod(w.volume, "/renamed", 0640));
    wait_for(&w, "/renamed", 0640);
    assert_ok(hf_unlink(w.volume, "/renamed"));
    wait_for(&w, "/renamed", 0);
    stop(&w);
}

static void an_idle_volume_leaves_the_device_alone(void **state)
{
    struct hf_device_counts before, after;
    struct hf_file *file;
    struct wrapped w;
    unsigned seen;

    (void)state;
    start(&w, 2);
    file = wrapped_file(&w, "/f", -1);
    assert_count(hf_pwrite(file, "data", 4, 0), 4);
    assert_ok(hf_volume_sync(w.volume));
    before = counts_of(&w);
    seen = atomic_load(&syncs);
    for (int ms = 0; atomic_load(&syncs) - seen < 20; ms += PAUSE_MS) {
        assert_that(ms < WAIT_MS, "the flusher came %u times", atomic_load(&syncs) - seen);
        pause_a_little();
    }
    after = counts_of(&w);
    assert_count(after.flushes, before.flushes);
    assert_count(after.writes, before.writes);
    assert_ok(hf_close(file));
    stop(&w);
}

static void a_sync_flushes_what_was_written_in_place(void **state)
{
    struct hf_device_faults faults = {.fail_flush_at = 1};
    struct hf_file *file;
    struct wrapped w;
    uint64_t before;

    (void)state;
    start(&w, 3600000);
    file = wrapped_file(&w, "/f", -1);
    assert_count(hf_pwrite(file, "data", 4, 0), 4);
    assert_ok(hf_volume_sync(w.volume));
    for (int round = 0; round < 2; round++) {
        struct hf_vnode *v = file->vnode;

        assert_count(hf_pwrite(file, "over", 4, 0), 4);
        /* as reclaim does: the data goes to the device, and no size or time to the driver */
        assert_ok(hf_mapping_writeback(&v->mapping, 0, HF_FILE_SIZE_MAX, HF_WB_SYNC, UINT64_MAX));
        before = counts_of(&w).flushes;
        if (round == 1) { /* a flush that fails leaves it to be done */
            hf_device_fault_set(w.dev, &faults);
            assert_err(real->sync(&w.volume->sb), EIO);
            hf_device_fault_set(w.dev, &(struct hf_device_faults){0});
            before = counts_of(&w).flushes;
        }
        assert_ok(real->sync(&w.volume->sb));
        assert_that(counts_of(&w).flushes > before, "round %d: a sync did not flush", round);
        before = counts_of(&w).flushes;
        assert_ok(real->sync(&w.volume->sb));
        assert_count(counts_of(&w).flushes, before);
    }
    assert_ok(hf_close(file));
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_timer_commits_names_and_attributes),
        cmocka_unit_test(an_idle_volume_leaves_the_device_alone),
        cmocka_unit_test(a_sync_flushes_what_was_written_in_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
