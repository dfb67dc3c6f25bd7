/* SPDX-License-Identifier: MIT */
/*
 * hole_lock_in_a_handler.c - with isize_sync=hole-lock, a store to the page that is being extended waits for
 * a write that may be waiting for a device: that wait is a service thread's, not the signal handler's.
 */
#include "wrapped_driver.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define PATIENCE_MS 20000 /* before the test gives up and says so */

static const struct hf_driver *real;
static struct wrapped w;
static _Atomic bool slow, holding, handed_over;

static uint64_t faults_slow(void)
{
    struct hf_volume_stats stats;

    assert_ok(hf_volume_stats(w.volume, &stats));
    return stats.faults_slow;
}

/* Under the hole lock of the page that is being extended. */
static int slow_reserve(struct hf_inode *inode, uint64_t nr, unsigned flags)
{
    if (atomic_exchange(&slow, false)) {
        uint64_t before = faults_slow();

        atomic_store(&holding, true);
        for (int i = 0; i < PATIENCE_MS && !atomic_load(&handed_over); i++) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            atomic_store(&handed_over, faults_slow() != before);
        }
    }
    return real->reserve(inode, nr, flags);
}

static void *extend(void *arg)
{
    assert_int_equal(hf_pwrite(arg, "far", 3, (hf_off_t)4 * w.volume->sb.page_size), 3);
    return NULL;
}

static void the_wait_is_handed_over(void **state)
{
    struct hf_open_options opts = {.isize_sync = HF_ISIZE_HOLE_LOCK, .writeback_ms = 3600u * 1000u};
    struct hf_file *file;
    pthread_t thread;
    size_t page;
    void *at;

    (void)state;
    if (strcmp(hf_engine_name(), "thread") == 0)
        skip(); /* no handler there */
    wrapped_memfs(&w, 1 << 20, 1024);
    real = w.real;
    w.driver.reserve = slow_reserve;
    wrapped_open(&w, &opts);
    page = w.volume->sb.page_size;
    file = wrapped_file(&w, "/f", 100);
    assert_ok(hf_mmap(file, NULL, 5 * page, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at));
    atomic_store(&slow, true);
    assert_int_equal(pthread_create(&thread, NULL, extend, file), 0);
    while (!atomic_load(&holding))
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    assert_ok(hf_store(at, "s", 1, NULL));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(atomic_load(&handed_over));
    assert_ok(hf_store((char *)at + page, "t", 1, NULL)); /* inside now */
    assert_ok(hf_munmap(at, 5 * page));
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&w));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_wait_is_handed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
