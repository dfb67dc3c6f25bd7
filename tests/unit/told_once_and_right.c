/* SPDX-License-Identifier: MIT */
/*
 * told_once_and_right.c - what fsync tells: the driver never hears an older size after a newer one, and a
 * file that was opened after an error hears of the next one.
 */
#include "wrapped_driver.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define B 4096
/* how long a wrong order has time to show; the right one passes however long it takes */
#define WAIT_MS 200

static const struct hf_driver *real;

static void wait_a_while(_Atomic bool *flag)
{
    for (int i = 0; i < WAIT_MS && !atomic_load(flag); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* ---- sizes */

static struct {
    _Atomic bool armed, in_write, grown, told_more;
    _Atomic hf_off_t last;
} sizes;

/* The slower fsync writes the first page; meanwhile the file grows. */
static int write_slowly(struct hf_inode *inode, const void *buf, size_t len, hf_off_t off)
{
    if (off == 0 && atomic_load(&sizes.armed)) {
        atomic_store(&sizes.in_write, true);
        while (!atomic_load(&sizes.grown))
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return real->write(inode, buf, len, off);
}

/* It tells its size; a faster one has time to overtake it. */
static int tell(struct hf_inode *inode, hf_off_t size)
{
    int r;

    if (size == B && atomic_exchange(&sizes.armed, false))
        wait_a_while(&sizes.told_more);
    r = real->write_inode(inode, size);
    if (S_ISREG(inode->mode))
        atomic_store(&sizes.last, size);
    if (size > B)
        atomic_store(&sizes.told_more, true);
    return r;
}

static void *sync_file(void *arg)
{
    assert_ok(hf_fsync(arg));
    return NULL;
}

static void a_slower_fsync_tells_no_older_size(void **state)
{
    struct hf_file *file, *second;
    struct wrapped w;
    pthread_t slow;
    char bytes[B];

    (void)state;
    memset(bytes, 'x', sizeof(bytes));
    wrapped_memfs(&w, 1 << 20, B);
    real = w.real;
    w.driver.write = write_slowly;
    w.driver.write_inode = tell;
    wrapped_open(&w, NULL);
    file = wrapped_file(&w, "/f", 0);
    assert_ok(hf_open(w.volume, "/f", O_RDWR, 0, &second));
    assert_int_equal(hf_pwrite(file, bytes, B, 0), B);
    atomic_store(&sizes.armed, true);
    assert_int_equal(pthread_create(&slow, NULL, sync_file, file), 0);
    while (!atomic_load(&sizes.in_write))
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    assert_int_equal(hf_pwrite(second, bytes, B, B), B);
    atomic_store(&sizes.grown, true);
    assert_ok(hf_fsync(second));
    assert_int_equal(pthread_join(slow, NULL), 0);
    assert_int_equal(atomic_load(&sizes.last), 2 * B);
    assert_ok(hf_close(second));
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&w));
}

/* ---- errors */

static _Atomic bool broken;

static int write_or_fail(struct hf_inode *inode, const void *buf, size_t len, hf_off_t off)
{
    return atomic_load(&broken) ? -EIO : real->write(inode, buf, len, off);
}

static void store_by_mapping(struct hf_file *file, uint8_t *at, char value)
{
    (void)file;
    assert_ok(hf_store(at, &value, 1, NULL));
}

static void store_by_write(struct hf_file *file, uint8_t *at, char value)
{
    (void)at;
    assert_int_equal(hf_pwrite(file, &value, 1, 0), 1);
}

/* The same page fails again, with new data: whoever opened the file in between stored it, and is told. */
static void new_data_that_fails(void (*store)(struct hf_file *file, uint8_t *at, char value))
{
    struct hf_file *first, *later;
    struct wrapped w;
    void *at;

    wrapped_memfs(&w, 1 << 20, B);
    real = w.real;
    w.driver.write = write_or_fail;
    wrapped_open(&w, NULL);
    first = wrapped_file(&w, "/f", B);
    assert_ok(hf_mmap(first, NULL, B, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at));
    atomic_store(&broken, true);
    store(first, at, 'a');
    assert_err(hf_fsync(first), EIO);
    assert_ok(hf_open(w.volume, "/f", O_RDWR, 0, &later));
    assert_ok(hf_msync(at, B, MS_ASYNC)); /* the old data once more: told already */
    store(later, at, 'b');
    assert_ok(hf_msync(at, B, MS_ASYNC));
    atomic_store(&broken, false);
    assert_err(hf_close(later), EIO);
    assert_err(hf_fsync(first), EIO);
    assert_ok(hf_fsync(first));
    assert_ok(hf_munmap(at, B));
    assert_ok(hf_close(first));
    assert_ok(wrapped_close(&w));
}

/* Only the old data fails again: that was told to whom it concerned. */
static void old_data_that_fails_again(void **state)
{
    struct hf_file *first, *later;
    struct wrapped w;
    void *at;

    (void)state;
    wrapped_memfs(&w, 1 << 20, B);
    real = w.real;
    w.driver.write = write_or_fail;
    wrapped_open(&w, NULL);
    first = wrapped_file(&w, "/f", B);
    assert_ok(hf_mmap(first, NULL, B, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at));
    atomic_store(&broken, true);
    store_by_write(first, at, 'a');
    assert_err(hf_fsync(first), EIO);
    assert_ok(hf_open(w.volume, "/f", O_RDWR, 0, &later));
    assert_ok(hf_msync(at, B, MS_ASYNC));
    atomic_store(&broken, false);
    assert_ok(hf_close(later));
    assert_ok(hf_munmap(at, B));
    assert_ok(hf_close(first));
    assert_ok(wrapped_close(&w));
}

static void new_data_that_fails_is_told(void **state)
{
    (void)state;
    new_data_that_fails(store_by_mapping);
    new_data_that_fails(store_by_write);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slower_fsync_tells_no_older_size),
        cmocka_unit_test(new_data_that_fails_is_told),
        cmocka_unit_test(old_data_that_fails_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
